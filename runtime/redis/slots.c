/* slots.c - the masters by slot, as a node of a cluster tells them. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "topology_internal.h"

/* The place of a node in the list, from 1; added if it is new. 0: there are too many. */
static uint16_t node_place(struct redis_slots *slots, const struct rt_redis_address *node)
{
	for (size_t i = 0; i < slots->count; i++) {
		if (rt_redis_address_same(&slots->nodes[i], node))
			return (uint16_t)(i + 1);
	}
	if (slots->count == REDIS_NODES_MAX)
		return 0;
	slots->nodes[slots->count++] = *node;
	return (uint16_t)slots->count;
}

void redis_slots_set_all(struct redis_slots *slots, const struct rt_redis_address *master)
{
	slots->nodes[0] = *master;
	slots->count = 1;
	for (size_t i = 0; i < RT_REDIS_SLOTS; i++)
		slots->owner[i] = 1;
}

const struct rt_redis_address *redis_slots_master(const struct redis_slots *slots, int partition)
{
	char tag[RT_INT_TEXT];
	size_t place;

	rt_int_text(partition, tag);
	place = slots->owner[rt_key_slot(tag)];
	return place > 0 ? &slots->nodes[place - 1] : NULL;
}

bool redis_node_read(struct rt_redis_address *ret, const redisReply *reply,
		     const struct rt_redis_address *asked)
{
	const redisReply *host;

	if (!rt_reply_is_array(reply, 2))
		return false;
	host = reply->element[0];
	if (host->type == REDIS_REPLY_NIL ||
	    (rt_reply_is_string(host) && (host->len == 0 || strcmp(host->str, "?") == 0)))
		return rt_redis_address_set(ret, asked->host, strlen(asked->host),
					    rt_reply_int(reply->element[1]));
	return rt_reply_is_string(host) &&
	       rt_redis_address_set(ret, host->str, host->len, rt_reply_int(reply->element[1]));
}

/* One range, [first, last, master, replica, …]. */
static bool read_range(struct redis_slots *slots, const redisReply *range,
		       const struct rt_redis_address *asked)
{
	long long first, last;

	if (!rt_reply_is_array(range, 3) || range->element[0]->type != REDIS_REPLY_INTEGER ||
	    range->element[1]->type != REDIS_REPLY_INTEGER)
		return false;
	first = range->element[0]->integer;
	last = range->element[1]->integer;
	if (first < 0 || last < first || last >= RT_REDIS_SLOTS)
		return false;
	for (size_t i = 2; i < range->elements; i++) {
		struct rt_redis_address node;
		uint16_t place;

		if (!redis_node_read(&node, range->element[i], asked))
			return false;
		place = node_place(slots, &node);
		if (place == 0)
			return false;
		for (long long slot = first; i == 2 && slot <= last; slot++)
			slots->owner[slot] = place;
	}
	return true;
}

static const char *read_slots(const redisReply *reply, const struct rt_redis_address *asked,
			      struct redis_slots *slots, struct rt_redis_address *ret_named)
{
	struct redis_slots *read = rt_alloc(sizeof(*read));
	bool good = rt_reply_is_array(reply, 1); /* of a node that has forgotten its cluster: 0 */

	(void)ret_named; /* the whole answer is here */
	for (size_t i = 0; good && i < reply->elements; i++)
		good = read_range(read, reply->element[i], asked);
	if (good)
		*slots = *read;
	free(read);
	return good ? NULL : "its answer about the masters makes no sense";
}

const struct redis_question redis_question_slots = {
	.words = { "CLUSTER", "SLOTS" },
	.word_count = 2,
	.every_ms = 5000,
	.of_masters = &redis_question_slots,
	.read = read_slots,
};
