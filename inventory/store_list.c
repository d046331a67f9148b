/* store_list.c - all SKUs in byte order: a merge over the partitions.
 *
 *   inventory_store_list     each partition is asked for its share of the page, and a little more
 *     chunk_end (for each)   its SKUs and their counters
 *       merge                the lowest SKU of all chunks, again and again; a chunk that has run out while its
 *                            partition has more is asked for once more, and the merge waits for it
 *
 * So a page costs two commands in each partition, and reads little more than it shows: SKUs are spread evenly. */
#include <hiredis/hiredis.h>
#include <string.h>

#include "base/arena.h"
#include "base/base.h"
#include "store_internal.h"

#define LISTS_MAX 4 /* chunks of a partition at the same time: one takes up to a few milliseconds */

/* Where the merge stands in one partition. */
struct chunk {
	struct rt_batch_item item; /* first; the queue's */
	struct list *list;
	const char *after;               /* the last SKU that was asked for; "": none yet */
	struct inventory_listed *stocks; /* in the list's arena */
	size_t count, at;
	bool more; /* behind these */
};
struct list {
	struct inventory_store *store;
	struct inventory_list_op *op;
	struct rt_arena arena; /* SKUs and counters, until the end */
	size_t waiting;        /* chunks that are being read */
	size_t share;          /* SKUs to ask a partition for */
	int status;
	struct chunk **heap; /* those with a SKU, the lowest first */
	size_t heap_count;
	struct chunk chunks[];
};

/* ---- the heap ---- */

static const char *sku_of(const struct chunk *chunk)
{
	return chunk->stocks[chunk->at].sku;
}

static void heap_sink(struct list *list, size_t at)
{
	for (;;) {
		struct chunk *swap;
		size_t least = at;

		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < list->heap_count;
		     child++)
			if (strcmp(sku_of(list->heap[child]), sku_of(list->heap[least])) < 0)
				least = child;
		if (least == at)
			return;
		swap = list->heap[at];
		list->heap[at] = list->heap[least];
		list->heap[least] = swap;
		at = least;
	}
}

static void heap_make(struct list *list)
{
	list->heap_count = 0;
	for (int p = 0; p < list->store->count; p++)
		if (list->chunks[p].at < list->chunks[p].count)
			list->heap[list->heap_count++] = &list->chunks[p];
	for (size_t i = list->heap_count / 2; i-- > 0;)
		heap_sink(list, i);
}

/* ---- the merge ---- */

static void chunk_ask(struct list *list, int p)
{
	struct chunk *chunk = &list->chunks[p];

	chunk->count = chunk->at = 0;
	chunk->more = false;
	list->waiting++;
	rt_store_add(list->store->partitions[p].list, chunk);
}

static void list_over(struct list *list)
{
	struct inventory_list_op *op = list->op;
	struct rt_arena arena = list->arena;
	struct inventory_listed *stocks = op->stocks;
	int status = list->status;

	for (int p = 0; p < list->store->count; p++)
		op->more |= list->chunks[p].more || list->chunks[p].at < list->chunks[p].count;
	free(list->heap);
	free(list);
	op->done(op, status);
	free(stocks);
	rt_arena_done(&arena);
}

/* Whether a chunk has run out and must be read on before the merge can go on. */
static bool ask_for_more(struct list *list)
{
	for (int p = 0; p < list->store->count; p++)
		if (list->chunks[p].at == list->chunks[p].count && list->chunks[p].more)
			chunk_ask(list, p);
	return list->waiting > 0;
}

static void merge(struct list *list)
{
	struct inventory_list_op *op = list->op;

	heap_make(list);
	while (op->stock_count < op->count_max) {
		struct chunk *chunk;

		if (list->heap_count == 0)
			break;
		chunk = list->heap[0];
		op->stocks[op->stock_count++] = chunk->stocks[chunk->at++];
		if (chunk->at == chunk->count) {
			if (chunk->more)
				break;
			list->heap[0] = list->heap[--list->heap_count];
		}
		heap_sink(list, 0);
	}
	if (op->stock_count == op->count_max || !ask_for_more(list))
		list_over(list);
}

/* ---- a chunk: the SKUs, then their counters ---- */

static void chunk_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_partition *partition = run->user;
	struct rt_buf *text = &partition->store->text;
	const struct chunk *chunk = item;

	text->length = 0;
	rt_buf_printf(text, "%s%s", chunk->after[0] != '\0' ? "(" : "-", chunk->after);
	rt_args_str(run->args, "ZRANGEBYLEX");
	rt_args_str(run->args, partition->skus);
	rt_args_copy(run->args, text->data, text->length);
	rt_args_str(run->args, "+");
	rt_args_str(run->args, "LIMIT");
	rt_args_str(run->args, "0");
	rt_args_int(run->args, (int64_t)chunk->list->share + 1);
}

static void counters_ask(struct rt_store_run *run, struct chunk *chunk,
			 const struct redisReply *skus)
{
	const struct inventory_partition *partition = run->user;
	struct list *list = chunk->list;

	chunk->count = RT_MIN(skus->elements, list->share);
	chunk->more = skus->elements > chunk->count;
	chunk->stocks = rt_arena_take(&list->arena, chunk->count * sizeof(*chunk->stocks));
	rt_args_str(run->args, "HMGET");
	rt_args_str(run->args, partition->stock);
	for (size_t i = 0; i < chunk->count; i++) {
		chunk->stocks[i].sku = chunk->after = rt_arena_copy(
			&list->arena, skus->element[i]->str, (size_t)skus->element[i]->len);
		rt_args_str(run->args, chunk->after);
	}
}

static bool chunk_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status != RT_OK || run->commands > 1)
		return false;
	if (!rt_reply_is_array(reply, 0))
		*status = RT_PROTOCOL;
	for (size_t i = 0; *status == RT_OK && i < reply->elements; i++)
		if (!rt_reply_is_string(reply->element[i]))
			*status = RT_PROTOCOL;
	if (*status != RT_OK || reply->elements == 0)
		return false;
	RT_STORE_FOR_EACH(struct chunk, chunk, run)
	{
		counters_ask(run, chunk, reply);
	}
	return true;
}

/* Without those that have no counters. */
static int chunk_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct chunk *chunk = item;
	size_t count = chunk->count;

	(void)run;
	if (!rt_reply_is_array(reply, count) || reply->elements != count)
		return RT_PROTOCOL;
	chunk->count = 0;
	for (size_t i = 0; i < count; i++) {
		struct inventory_listed *listed = &chunk->stocks[chunk->count];
		const char *sku = chunk->stocks[i].sku;
		bool found = false;
		int rc = inventory_counters_read(reply->element[i], &found, &listed->stock);

		if (rc != RT_OK)
			return rc;
		listed->sku = sku;
		chunk->count += found;
	}
	return RT_OK;
}

static void chunk_end(void *item, int status)
{
	struct chunk *chunk = item;
	struct list *list = chunk->list;

	if (status != RT_OK)
		list->status = status;
	if (--list->waiting > 0)
		return;
	if (list->status == RT_OK)
		merge(list);
	else
		list_over(list);
}

const struct rt_store_step inventory_list_step = {
	.count_max = 1,
	.in_flight_max = LISTS_MAX,
	.waiting_max = WAITING_MAX,
	.encode = chunk_encode,
	.answered = chunk_answered,
	.decode = chunk_decode,
	.end = chunk_end,
};

/* How many to ask a partition for: rarely fewer than the page needs of it (about three deviations more). */
static size_t share_of(size_t page, size_t count)
{
	size_t mean = (page + count - 1) / count, more = 2;

	while (more * more < 9 * mean)
		more++;
	return RT_MIN(page, mean + more);
}

void inventory_store_list(struct inventory_store *store, struct inventory_list_op *op)
{
	size_t count = (size_t)store->count;
	struct list *list = rt_alloc(sizeof(*list) + count * sizeof(list->chunks[0]));

	op->stocks = rt_alloc(op->count_max * sizeof(*op->stocks));
	op->stock_count = 0;
	op->more = false;
	list->store = store;
	list->op = op;
	list->share = share_of(op->count_max, count);
	list->heap = rt_alloc(count * sizeof(struct chunk *));
	for (int p = 0; p < store->count; p++) {
		list->chunks[p].list = list;
		list->chunks[p].after = op->after;
		chunk_ask(list, p);
	}
}
