/* reply.c - an answer as hiredis reads it, and the status that it means.
 *
 * All of one answer lives in the connection's arena until its command has seen it. */
#include "connection_internal.h"

#include <string.h>

bool rt_redis_reply_begins(const redisReply *reply, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(reply->str, prefix, length) == 0 &&
	       (reply->str[length] == ' ' || reply->str[length] == '\0');
}

bool rt_redis_reply_redirects(const redisReply *reply)
{
	static const char *const prefixes[] = {
		"MOVED",
		"ASK",
		"TRYAGAIN",
		"CLUSTERDOWN",
		"READONLY",
		"LOADING",
		"MASTERDOWN",
		/* A blocked command of a master that has become a replica. */
		"UNBLOCKED force unblock from blocking operation,",
		/* What they become inside of a function. */
		"ERR Script attempted to access a non local key",
		"ERR Script attempted to execute a command while the cluster is down",
		"ERR Script attempted to execute a write command while the cluster is down",
	};

	for (size_t i = 0; reply->type == REDIS_REPLY_ERROR && i < RT_LENGTH(prefixes); i++) {
		if (rt_redis_reply_begins(reply, prefixes[i]))
			return true;
	}
	return false;
}

int rt_redis_reply_status(const redisReply *reply)
{
	static const struct {
		const char *prefix;
		int status;
	} errors[] = {
		{ "OOM", RT_FULL },
		{ "MISCONF", RT_FULL },
		{ "NOPERM", RT_DENIED },
		{ "NOAUTH", RT_DENIED },
		{ "WRONGPASS", RT_DENIED },
		{ "NOGROUP", RT_NOGROUP },
		{ "UNBLOCKED", RT_NOGROUP },
		{ "BUSY", RT_UNREADY },
		{ "NOREPLICAS", RT_UNREADY },
		{ "NOSCRIPT", RT_UNREADY },
		{ "ERR Function not found", RT_UNREADY },
		/* What NOPERM becomes inside of a function. */
		{ "ERR The user executing the script can't", RT_DENIED },
	};

	if (reply->type != REDIS_REPLY_ERROR)
		return RT_OK;
	if (rt_redis_reply_redirects(reply))
		return RT_UNREADY;
	for (size_t i = 0; i < RT_LENGTH(errors); i++) {
		if (rt_redis_reply_begins(reply, errors[i].prefix))
			return errors[i].status;
	}
	return RT_REMOTE;
}

const redisReply *rt_reply_copy(struct rt_arena *arena, const redisReply *reply)
{
	redisReply *copy = rt_arena_take(arena, sizeof(*copy));

	*copy = *reply;
	if (reply->str != NULL)
		copy->str = rt_arena_copy(arena, reply->str, reply->len);
	if (reply->elements > 0)
		copy->element = rt_arena_take(arena, reply->elements * sizeof(*copy->element));
	for (size_t i = 0; i < reply->elements; i++)
		copy->element[i] = (redisReply *)(uintptr_t)rt_reply_copy(arena, reply->element[i]);
	return copy;
}

static redisReply *reply_new(const redisReadTask *task, int type)
{
	redisReply *reply = rt_arena_take(task->privdata, sizeof(*reply));

	*reply = (redisReply){ .type = type };
	if (task->parent != NULL)
		((redisReply *)task->parent->obj)->element[task->idx] = reply;
	return reply;
}

static void *reply_string(const redisReadTask *task, char *text, size_t length)
{
	redisReply *reply = reply_new(task, task->type);

	reply->str = rt_arena_take(task->privdata, length + 1);
	memcpy(reply->str, text, length);
	reply->str[length] = '\0';
	reply->len = length;
	return reply;
}

#if HIREDIS_MAJOR >= 1
typedef size_t reply_count;
#else
typedef int reply_count;
#endif
static void *reply_array(const redisReadTask *task, reply_count count)
{
	redisReply *reply = reply_new(task, REDIS_REPLY_ARRAY);

	reply->elements = (size_t)count;
	reply->element = rt_arena_take(task->privdata, (size_t)count * sizeof(reply->element[0]));
	memset(reply->element, 0, (size_t)count * sizeof(reply->element[0]));
	return reply;
}

static void *reply_integer(const redisReadTask *task, long long value)
{
	redisReply *reply = reply_new(task, REDIS_REPLY_INTEGER);

	reply->integer = value;
	return reply;
}

static void *reply_nil(const redisReadTask *task)
{
	return reply_new(task, REDIS_REPLY_NIL);
}

static void reply_leave(void *reply)
{
	(void)reply; /* goes with the arena */
}

redisReplyObjectFunctions redis_reply_functions = {
	.createString = reply_string,
	.createArray = reply_array,
	.createInteger = reply_integer,
	.createNil = reply_nil,
	.freeObject = reply_leave,
};
