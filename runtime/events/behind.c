/* behind.c - how far a group is behind: the function "behind" of events.lua. */
#include "events.h"

#include <hiredis/hiredis.h>

static void behind_encode(struct rt_store_run *run, const void *item)
{
	const struct rt_behind_op *op = item;

	rt_args_int(run->args, op->now_ms);
	rt_args_str(run->args, op->group);
	rt_args_str(run->args, op->with_memory ? "1" : "0");
}

/* { events, age of the oldest, events ever written, memory } */
static int behind_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct rt_behind_op *op = item;

	(void)run;
	if (!rt_reply_is_array(reply, 4))
		return RT_PROTOCOL;
	op->events = rt_reply_int(reply->element[0]);
	op->oldest_ms = rt_reply_int(reply->element[1]);
	op->written = rt_reply_int(reply->element[2]);
	if (op->with_memory)
		op->memory_permille = rt_reply_int(reply->element[3]);
	return RT_OK;
}

RT_STORE_END(behind_end, struct rt_behind_op)

const struct rt_store_step rt_behind_step = {
	.count_max = 1,
	.in_flight_max = 1,
	.waiting_max = 8,
	.function = "behind",
	.encode = behind_encode,
	.decode = behind_decode,
	.end = behind_end,
};
