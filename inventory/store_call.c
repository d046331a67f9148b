/* store_call.c - calls for reconciliations, and for the list of those that hold a SKU, one by one: texts go out, texts
 * come back. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "base/base.h"
#include "store_internal.h"

#define CALLS_MAX   64 /* under way */
#define HOLDERS_MAX 1  /* each takes a fraction of a millisecond of Redis; many follow each other */

static void call_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_call_op *op = item;

	rt_store_call(run, op->function, NULL);
	for (size_t i = 0; i < INVENTORY_CALL_ARGS && op->argv[i] != NULL; i++)
		rt_args_str(run->args, op->argv[i]);
}

static int call_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_call_op *op = item;

	(void)run;
	if (!rt_reply_is_array(reply, op->wanted))
		return RT_PROTOCOL;
	op->texts = rt_alloc((reply->elements + 1) * sizeof(*op->texts));
	for (size_t i = 0; i < reply->elements; i++) {
		if (!rt_reply_is_string(reply->element[i]))
			return RT_PROTOCOL;
		op->texts[i] = reply->element[i]->str;
	}
	op->count = reply->elements;
	return RT_OK;
}

static void call_end(void *item, int status)
{
	struct inventory_call_op *op = item;
	const char **texts = op->texts;

	op->done(op, status);
	free(texts);
}

const struct rt_store_step inventory_call_step = {
	.durable = true,
	.count_max = 1,
	.in_flight_max = CALLS_MAX,
	.waiting_max = WAITING_MAX,
	.encode = call_encode,
	.decode = call_decode,
	.end = call_end,
};
/* Asked every second, or many times in a row: nothing rests on a replica having it. */
const struct rt_store_step inventory_state_step = {
	.count_max = 1,
	.in_flight_max = CALLS_MAX,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.encode = call_encode,
	.decode = call_decode,
	.end = call_end,
};

const struct rt_store_step inventory_holders_step = {
	.count_max = 1,
	.in_flight_max = HOLDERS_MAX,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.encode = call_encode,
	.decode = call_decode,
	.end = call_end,
};

static struct rt_store_queue *queue_of(const struct inventory_partition *partition,
				       const char *function)
{
	if (strcmp(function, "holders") == 0)
		return partition->holders;
	if (strcmp(function, "state") == 0 || strcmp(function, "scan") == 0)
		return partition->state;
	return partition->call;
}

void inventory_store_call(struct inventory_store *store, struct inventory_call_op *op)
{
	op->texts = NULL;
	op->count = 0;
	rt_store_add(queue_of(&store->partitions[op->partition], op->function), op);
}
