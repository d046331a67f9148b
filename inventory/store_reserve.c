/* store_reserve.c - new orders whose stock lies in several partitions of one Redis: FCALL inventory_reserve.
 *
 * One call is for orders of all partitions: the fewer calls, the less each of the partitions in which they have stock
 * is read and written. Orders that are not split go along. */
#include <hiredis/hiredis.h>

#include "base/base.h"
#include "store_internal.h"

#define ORDERS_MAX    512 /* of all partitions */
#define WEIGHT_MAX    (256 * 1024)
#define IN_FLIGHT_MAX 2

/* Puts the operations of each partition behind one another. Returns how many partitions there are. */
static size_t sort(struct rt_store_run *run, const struct inventory_store *store)
{
	struct rt_list *lists = rt_alloc((size_t)store->count * sizeof(*lists)), *link;
	size_t groups = 0;

	for (int p = 0; p < store->count; p++)
		rt_list_init(&lists[p]);
	while ((link = rt_list_pop(&run->batch.items)) != NULL)
		rt_list_push(&lists[RT_CONTAINER_OF(link, struct inventory_request_op, item.link)
					    ->partition],
			     link);
	for (int p = 0; p < store->count; p++) {
		groups += !rt_list_empty(&lists[p]);
		while ((link = rt_list_pop(&lists[p])) != NULL)
			rt_list_push(&run->batch.items, link);
	}
	free(lists);
	return groups;
}

/* Orders of one partition. */
struct group {
	int partition;
	int64_t generation; /* the lowest among those that are split; INT64_MAX: none is */
	size_t count;
};

static size_t groups_find(struct rt_store_run *run, struct group *groups)
{
	size_t count = 0;

	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		struct group *last = count > 0 ? &groups[count - 1] : NULL;

		if (last == NULL || last->partition != op->request.partition) {
			last = &groups[count++];
			*last = (struct group){ op->request.partition, INT64_MAX, 0 };
		}
		if (op->generation != INVENTORY_NO_GENERATION)
			last->generation = RT_MIN(last->generation, op->generation);
		last->count++;
	}
	return count;
}

static bool has_extra(const struct inventory_request_op *op)
{
	return op->late || (op->traceparent != NULL && op->traceparent[0] != '\0');
}

static void add_extras(struct rt_store_run *run)
{
	int64_t extras = 0, position = 0;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		extras += has_extra(op);
	}
	rt_args_int(run->args, extras);
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		position++;
		if (!has_extra(op))
			continue;
		rt_args_int(run->args, position);
		rt_args_trace(run->args, op->traceparent, op->tracestate);
		if (op->late)
			rt_args_int(run->args, op->asked_ms);
		else
			rt_args_str(run->args, "");
	}
}

/* What is acknowledged of each partition's orders, behind its number. */
static void add_acks(struct rt_store_run *run, const struct group *groups)
{
	const char **acks = rt_alloc(run->batch.count * sizeof(*acks));
	size_t n = 0, of_group = 0, g = 0;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		const char *ack = rt_event_ack(op->event, run);

		if (ack != NULL)
			acks[n++] = ack;
		if (++of_group < groups[g].count)
			continue;
		rt_args_int(run->args, (int64_t)n);
		for (size_t i = 0; i < n; i++)
			rt_args_str(run->args, acks[i]);
		n = of_group = 0;
		g++;
	}
	free(acks);
}

static void reserve_begin(struct rt_store_run *run)
{
	struct inventory_store *store = ((const struct inventory_partition *)run->user)->store;
	struct group *groups = rt_alloc(sort(run, store) * sizeof(*groups));
	size_t count = groups_find(run, groups);
	const char **keys = rt_alloc(2 * count * sizeof(*keys));
	int64_t now_ms = 0;

	for (size_t g = 0; g < count; g++) {
		keys[2 * g] = store->partitions[groups[g].partition].events;
		keys[2 * g + 1] = store->partitions[groups[g].partition].orders;
	}
	rt_store_call_keys(run, "reserve", keys, 2 * count);
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		now_ms = RT_MAX(now_ms, op->now_ms);
	}
	rt_store_add_time(run, now_ms);
	for (size_t g = 0; g < count; g++) {
		rt_args_int(run->args, (int64_t)groups[g].count);
		if (groups[g].generation != INT64_MAX)
			rt_args_int(run->args, groups[g].generation);
		else
			rt_args_str(run->args, "");
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
	}
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		store->text.length = 0;
		if (op->lines == NULL)
			inventory_add_lines(run->args, &store->text, op->request.lines, NULL,
					    op->request.line_count);
		else
			inventory_add_split_lines(run->args, &store->text, op->lines,
						  op->line_count);
	}
	add_extras(run);
	add_acks(run, groups);
	free(keys);
	free(groups);
}

const struct rt_store_step inventory_reserve_step = {
	.name = "inventory_reserve",
	.durable = true,
	.count_max = ORDERS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = ORDERS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = inventory_request_outdated,
	.begin = reserve_begin,
	.answered = inventory_request_answered,
	.decode = inventory_request_decode,
	.end = inventory_request_end,
};
