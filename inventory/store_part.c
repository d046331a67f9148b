/* store_part.c - the parts of split orders: FCALL inventory_part. */
#include <ctype.h>
#include <hiredis/hiredis.h>
#include <string.h>

#include "base/base.h"
#include "store_internal.h"

#define PARTS_MAX     256 /* as requests of whole orders (store_redis.c) */
#define WEIGHT_MAX    (128 * 1024)
#define IN_FLIGHT_MAX 2

static bool same_group(const struct inventory_part_op *one, const struct inventory_part_op *other)
{
	return one->order_partition == other->order_partition &&
	       one->generation == other->generation;
}

/* The time twice, the letters, and the groups: operations that follow each other and are of the same order partition. */
static void groups_begin(struct rt_store_run *run)
{
	const struct inventory_part_op *last = NULL;
	struct rt_buf letters = { NULL, 0, 0 };
	int64_t now_ms = 0, count = 0;

	RT_STORE_FOR_EACH(const struct inventory_part_op, op, run)
	{
		char letter = part_action_letter(op->action);

		rt_buf_add(&letters, &letter, 1);
		now_ms = RT_MAX(now_ms, op->now_ms);
	}
	rt_store_call(run, "part", NULL);
	rt_store_add_time(run, now_ms);
	rt_args_copy(run->args, letters.data, letters.length);
	rt_buf_done(&letters);
	RT_STORE_FOR_EACH(const struct inventory_part_op, op, run)
	{
		if (last == NULL || !same_group(last, op)) {
			if (last != NULL)
				rt_args_int(run->args, count);
			rt_args_int(run->args, op->order_partition);
			rt_args_int(run->args, op->generation);
			count = 0;
		}
		last = op;
		count++;
	}
	rt_args_int(run->args, count);
}

static void part_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;

	groups_begin(run);
	RT_STORE_FOR_EACH(const struct inventory_part_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
	}
	RT_STORE_FOR_EACH(const struct inventory_part_op, op, run)
	{
		inventory_add_lines(run->args, &partition->store->text, op->lines, op->returned,
				    op->line_count);
	}
	RT_STORE_FOR_EACH(const struct inventory_part_op, op, run)
	{
		rt_args_int(run->args, op->asked_ms);
	}
}

/* { a letter for each, … }: what follows is for some letters. */
static bool part_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status != RT_OK)
		return false;
	if (!rt_reply_is_array(reply, 1) || !rt_reply_is_string(reply->element[0]) ||
	    (size_t)reply->element[0]->len != run->batch.count)
		*status = RT_PROTOCOL;
	for (size_t i = 1; *status == RT_OK && i < reply->elements; i++)
		if (!rt_reply_is_string(reply->element[i]))
			*status = RT_PROTOCOL;
	return false;
}

/* What the function says of an operation beside its letter; NULL: nothing. */
static const struct redisReply *more_of(struct rt_store_run *run, char letter,
					const struct redisReply *reply)
{
	if (strchr("Uu!<", letter) == NULL)
		return NULL;
	run->read++;
	return run->read < reply->elements ? reply->element[run->read] : NULL;
}

static int part_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	const struct inventory_partition *partition = run->user;
	struct inventory_part_op *op = item;
	char letter = reply->element[0]->str[run->index];
	const struct redisReply *more = more_of(run, letter, reply);
	char trace[RT_TRACE_ID_TEXT];

	if (letter == '-')
		return RT_OK; /* NONE: it cannot be had */
	if (letter == '<' && more != NULL) {
		inventory_note_generation(&partition->store->partitions[op->order_partition],
					  more->str);
		return RT_UNREADY;
	}
	if (letter == '!' && more != NULL) {
		RT_LOG(RT_ERROR, "a part cannot be served", RT_S("order_id", op->order_id),
		       RT_S("reason", more->str),
		       RT_S("trace_id", rt_trace_find(op->traceparent, op->order_id, trace)));
		return RT_REMOTE;
	}
	op->changed = islower((unsigned char)letter) != 0;
	if (!stock_state_of_letter((char)toupper((unsigned char)letter), &op->part.state))
		return RT_PROTOCOL;
	if (more != NULL && !inventory_record_read_lines(more->str, &op->part))
		return RT_REMOTE;
	return RT_OK;
}

static void part_end(void *item, int status)
{
	struct inventory_part_op *op = item;
	struct inventory_record part = op->part;

	op->done(op, status);
	inventory_record_done(&part);
}

const struct rt_store_step inventory_part_step = {
	.name = "inventory_part",
	.durable = true,
	.count_max = PARTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = PARTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.begin = part_begin,
	.answered = part_answered,
	.decode = part_decode,
	.end = part_end,
};

void inventory_store_part(struct inventory_store *store, struct inventory_part_op *op)
{
	struct rt_store_queue *queue = store->partitions[op->partition].part;

	op->item.weight = 0;
	for (size_t i = 0; i < op->line_count; i++)
		op->item.weight += strlen(op->lines[i].sku) + 40;
	op->part = (struct inventory_record){ .state = STOCK_NONE };
	/* Without a record and the part's own lines there are none; a part that is there has them. */
	if (!(op->action == PART_TO_UNSOLD && op->line_count == 0) &&
	    !inventory_lines_valid(op->lines, op->line_count))
		rt_store_refuse(queue, op, RT_INVALID);
	else
		rt_store_add(queue, op);
}
