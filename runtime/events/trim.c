/* trim.c - how a stream is trimmed: the function "trim" of events.lua. */
#include "events.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

static void trim_encode(struct rt_store_run *run, const void *item)
{
	const struct rt_trim_op *op = item;

	rt_args_int(run->args, op->now_ms);
	rt_args_int(run->args, op->retain_ms);
	rt_args_int(run->args, op->retain_count);
	rt_args_int(run->args, op->stale_ms);
	if (op->follower == NULL)
		return;
	rt_args_str(run->args, op->follower);
	rt_args_int(run->args, op->follower_max);
}

static void copy_name(char *to, size_t size, const struct redisReply *reply)
{
	snprintf(to, size, "%s", rt_reply_is_string(reply) ? reply->str : "");
}

/* { trimmed, length, holder, held, memory full, stale group, … } */
static int trim_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct rt_trim_op *op = item;

	(void)run;
	if (!rt_reply_is_array(reply, 5))
		return RT_PROTOCOL;
	op->trimmed = rt_reply_int(reply->element[0]);
	op->length = rt_reply_int(reply->element[1]);
	copy_name(op->holder, sizeof(op->holder), reply->element[2]);
	op->held = rt_reply_int(reply->element[3]);
	op->memory_full = rt_reply_int(reply->element[4]) != 0;
	op->stale_count = reply->elements - 5;
	op->stale_group[0] = '\0';
	if (op->stale_count > 0)
		copy_name(op->stale_group, sizeof(op->stale_group), reply->element[5]);
	return RT_OK;
}

RT_STORE_END(trim_end, struct rt_trim_op)

const struct rt_store_step rt_trim_step = {
	.count_max = 1,
	.in_flight_max = 1,
	.waiting_max = 8,
	.function = "trim",
	.encode = trim_encode,
	.decode = trim_decode,
	.end = trim_end,
};
