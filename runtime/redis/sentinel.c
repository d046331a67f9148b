/* sentinel.c - the master that sentinels know by its name: one of them is asked where it is, and the server that it
 * names, whether it is a master. A sentinel may still name one that died or was replaced. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "topology_internal.h"

void redis_sentinel_login(struct rt_redis_options *options)
{
	options->user = options->sentinel.user;
	options->password = options->sentinel.password;
	options->password_file = options->sentinel.password_file;
}

static const char *read_name(const redisReply *reply, const struct rt_redis_address *asked,
			     struct redis_slots *slots, struct rt_redis_address *ret_named)
{
	(void)slots; /* as they are, until that server has answered */
	if (reply->type == REDIS_REPLY_NIL)
		return "this sentinel knows no master of that name";
	if (!redis_node_read(ret_named, reply, asked))
		return "its answer about the master makes no sense";
	return NULL;
}

const struct redis_question redis_question_name = {
	.words = { "SENTINEL", "GET-MASTER-ADDR-BY-NAME" },
	.word_count = 3,
	.every_ms = 1000, /* a master that was replaced may go on, and knows nothing of it */
	.of_masters = &redis_question_role,
	.read = read_name,
};

static bool is_text(const redisReply *reply, const char *text)
{
	return rt_reply_is_string(reply) && strcmp(reply->str, text) == 0;
}

static const char *read_role(const redisReply *reply, const struct rt_redis_address *asked,
			     struct redis_slots *slots, struct rt_redis_address *ret_named)
{
	(void)ret_named;
	for (size_t i = 0; rt_reply_is_array(reply, i + 2); i += 2) {
		if (is_text(reply->element[i], "role") &&
		    is_text(reply->element[i + 1], "master")) {
			redis_slots_set_all(slots, asked);
			return NULL;
		}
	}
	return "this is not a master now";
}

/* HELLO and not ROLE: every user may send it. */
const struct redis_question redis_question_role = {
	.words = { "HELLO" },
	.word_count = 1,
	.of_masters = &redis_question_role,
	.read = read_role,
};
