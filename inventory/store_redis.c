/* store_redis.c - the inventory store on Redis: the operations of functions.lua, and plain reads, as
 * queues of commands (runtime/redis). It defines how each operation is sent and how its answer is read.
 *
 *   request, conclude           many in one FCALL (store_request.c)
 *   part, reserve               the same (store_part.c, store_reserve.c)
 *   adjust, threshold           the same
 *   stock                       many in one HMGET
 *   list, reservation           one at a time: plain reads (list: store_list.c)
 *   call                        one at a time (store_call.c)
 *
 * Each partition has a queue for each kind of operation; but for reserve, which is for all partitions of one Redis.
 *
 * Reads of lists and reservations share the connection with requests of orders. So only a few are under
 * way and the others wait: orders are not delayed, however many clients read. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "store_internal.h"

#define ADJUSTMENTS_MAX 256
#define STOCKS_MAX      512
#define IN_FLIGHT_MAX   2
#define LOOKS_MAX       256 /* reservations read at the same time: about a millisecond */

/* ---- adjust ---- */

static void adjust_begin(struct rt_store_run *run)
{
	int64_t now_ms = 0;

	RT_STORE_FOR_EACH(const struct inventory_adjust_op, op, run)
	{
		now_ms = RT_MAX(now_ms, op->now_ms);
	}
	rt_args_int(run->args, STOCK_MAX);
	rt_store_add_time(run, now_ms);
}

static void adjust_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_adjust_op *op = item;

	rt_args_str(run->args, op->sku);
	rt_args_int(run->args, op->delta);
	rt_args_str(run->args, op->request_id);
	rt_args_str(run->args, op->reason);
	rt_args_str(run->args, op->who);
	rt_args_str(run->args, op->from);
}

/* Storage is full, so the whole call was refused. Repeats are still answered. */
static bool adjust_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	(void)reply;
	if (*status != RT_FULL || run->commands > 1)
		return false;
	rt_store_call(run, "adjusted", NULL);
	adjust_begin(run);
	RT_STORE_FOR_EACH(const struct inventory_adjust_op, op, run)
	{
		adjust_encode(run, op);
	}
	return true;
}

static int adjust_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	static const char letters[] = { [INVENTORY_ADJUSTED] = 'A',
					[INVENTORY_ADJUSTED_BEFORE] = 'B',
					[INVENTORY_CONFLICT] = 'C',
					[INVENTORY_SHORT] = 'S',
					[INVENTORY_OVERFLOW] = 'O' };
	struct inventory_adjust_op *op = item;
	const char *letter;

	if (reply->type == REDIS_REPLY_NIL) /* not made before, when storage is full */
		return run->commands > 1 ? RT_FULL : RT_PROTOCOL;
	if (!rt_reply_is_string(reply) || reply->len < 1)
		return RT_PROTOCOL;
	if (reply->str[0] == '!')
		return RT_REMOTE;
	letter = memchr(letters, reply->str[0], sizeof(letters));
	if (letter == NULL || reply->str[1] != ' ' ||
	    !inventory_stock_read(reply->str + 2, &op->stock))
		return RT_PROTOCOL;
	op->outcome = (unsigned)(letter - letters);
	return RT_OK;
}

RT_STORE_END(adjust_end, struct inventory_adjust_op)

static const struct rt_store_step adjust_step = {
	.name = "inventory_adjust",
	.durable = true,
	.count_max = ADJUSTMENTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.waiting_max = WAITING_MAX,
	.function = "adjust",
	.begin = adjust_begin,
	.encode = adjust_encode,
	.answered = adjust_answered,
	.decode = adjust_decode,
	.end = adjust_end,
};

/* ---- threshold ---- */

static void threshold_begin(struct rt_store_run *run)
{
	int64_t now_ms = 0;

	RT_STORE_FOR_EACH(const struct inventory_threshold_op, op, run)
	{
		now_ms = RT_MAX(now_ms, op->now_ms);
	}
	rt_store_add_time(run, now_ms);
}

static void threshold_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_threshold_op *op = item;

	rt_args_str(run->args, op->sku);
	rt_args_int(run->args, (int64_t)op->threshold);
	rt_args_str(run->args, op->reason);
	rt_args_str(run->args, op->who);
	rt_args_str(run->args, op->from);
}

static int threshold_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_threshold_op *op = item;

	(void)run;
	op->found = false;
	if (rt_reply_is_string(reply) && reply->len == 0)
		return RT_OK;
	return inventory_counters_read(reply, &op->found, &op->stock);
}

RT_STORE_END(threshold_end, struct inventory_threshold_op)

static const struct rt_store_step threshold_step = {
	.name = "inventory_threshold",
	.durable = true,
	.count_max = ADJUSTMENTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.waiting_max = WAITING_MAX,
	.function = "threshold",
	.begin = threshold_begin,
	.encode = threshold_encode,
	.decode = threshold_decode,
	.end = threshold_end,
};

/* ---- stock ---- */

static void stock_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;

	rt_args_str(run->args, "HMGET");
	rt_args_str(run->args, partition->stock);
}

static void stock_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_stock_op *op = item;

	rt_args_str(run->args, op->sku);
}

static int stock_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_stock_op *op = item;

	(void)run;
	return inventory_counters_read(reply, &op->found, &op->stock);
}

RT_STORE_END(stock_end, struct inventory_stock_op)

static const struct rt_store_step stock_step = {
	.name = "inventory_stock",
	.count_max = STOCKS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.waiting_max = WAITING_MAX,
	.begin = stock_begin,
	.encode = stock_encode,
	.decode = stock_decode,
	.end = stock_end,
};

/* ---- reservation ---- */

static void reservation_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_reservation_op *op = item;
	const struct inventory_partition *partition = run->user;

	rt_args_str(run->args, "HGET");
	rt_args_str(run->args, partition->reservations);
	rt_args_str(run->args, op->order_id);
}

/* Lines and shortages in lists of their own. */
static void reservation_fill(struct inventory_reservation_op *op)
{
	const struct inventory_record *record = &op->record;

	op->state = record->state;
	op->version = record->version;
	op->updated_ms = record->updated_ms;
	op->lines = rt_alloc((record->line_count + 1) * sizeof(*op->lines));
	op->returned = rt_alloc((record->line_count + 1) * sizeof(*op->returned));
	op->shortages = rt_alloc((record->line_count + 1) * sizeof(*op->shortages));
	for (size_t i = 0; i < record->line_count; i++) {
		const struct inventory_split_line *at = &record->lines[i];

		op->returned[op->line_count] = at->returned;
		op->lines[op->line_count++] = at->line;
		/* The shortages stay stored when the reservation is released, but are not returned any more. */
		if (at->was_short && op->state == STOCK_UNAVAILABLE)
			op->shortages[op->shortage_count++] =
				(struct inventory_shortage){ at->line.sku, at->line.quantity,
							     at->available, at->unknown };
	}
}

static int reservation_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_reservation_op *op = item;

	(void)run;
	if (reply->type == REDIS_REPLY_NIL)
		return RT_OK;
	if (!rt_reply_is_string(reply))
		return RT_PROTOCOL;
	op->found = reply->len > 0 && inventory_record_read(reply, &op->record);
	if (!op->found)
		return RT_REMOTE;
	reservation_fill(op);
	return RT_OK;
}

static void reservation_end(void *item, int status)
{
	struct inventory_reservation_op *op = item;
	struct inventory_line *lines = op->lines;
	uint32_t *returned = op->returned;
	struct inventory_shortage *shortages = op->shortages;
	struct inventory_record record = op->record;

	op->done(op, status);
	free(lines);
	free(returned);
	free(shortages);
	inventory_record_done(&record);
}

static const struct rt_store_step reservation_step = {
	.count_max = 1,
	.in_flight_max = LOOKS_MAX,
	.waiting_max = WAITING_MAX,
	.encode = reservation_encode,
	.decode = reservation_decode,
	.end = reservation_end,
};

/* ---- the store ---- */

static struct inventory_partition *partition_of_sku(struct inventory_store *store, const char *sku)
{
	return &store->partitions[inventory_store_partition(store, sku)];
}

/* Per line: its text, and the shortage it may become. */
static size_t line_weight(const struct inventory_line *line)
{
	return strlen(line->sku) + 40;
}

void inventory_store_request(struct inventory_store *store, struct inventory_request_op *op)
{
	struct rt_store_queue *queue = store->partitions[op->partition].request;
	bool takes_lines = (op->request == STOCK_REQ_RESERVE || op->request == STOCK_REQ_RETURN) &&
			   !op->only_reads;

	op->item.weight = 0;
	for (size_t i = 0; takes_lines && i < op->line_count; i++)
		op->item.weight += line_weight(&op->lines[i]);
	op->item.unit = op->event == NULL ? NULL : rt_event_entry(op->event);
	op->record = (struct inventory_record){ .state = STOCK_NONE };
	if (takes_lines && !inventory_lines_valid(op->lines, op->line_count))
		rt_store_refuse(queue, op, RT_INVALID);
	else
		rt_store_add(queue, op);
}

static void add_conclusion(struct rt_store_queue *queue, struct inventory_conclude_op *op)
{
	struct inventory_request_op *request = &op->request;

	request->item.weight = 0;
	for (size_t i = 0; op->read == STOCK_NONE && i < op->line_count; i++)
		request->item.weight += line_weight(&op->lines[i].line);
	for (size_t i = 0; i < request->line_count; i++)
		request->item.weight += line_weight(&request->lines[i]);
	request->item.unit = request->event == NULL ? NULL : rt_event_entry(request->event);
	request->record = (struct inventory_record){ .state = STOCK_NONE };
	rt_store_add(queue, op);
}

void inventory_store_conclude(struct inventory_store *store, struct inventory_conclude_op *op)
{
	add_conclusion(store->partitions[op->request.partition].conclude, op);
}

bool inventory_store_is_together(const struct inventory_store *store)
{
	return store->count > 1 && rt_store_redis(store->partitions[0].redis)->together;
}

void inventory_store_reserve(struct inventory_store *store, struct inventory_conclude_op *op)
{
	add_conclusion(store->reserve, op);
}

void inventory_store_adjust(struct inventory_store *store, struct inventory_adjust_op *op)
{
	rt_store_add(partition_of_sku(store, op->sku)->adjust, op);
}

void inventory_store_threshold(struct inventory_store *store, struct inventory_threshold_op *op)
{
	rt_store_add(partition_of_sku(store, op->sku)->threshold, op);
}

void inventory_store_stock(struct inventory_store *store, struct inventory_stock_op *op)
{
	rt_store_add(partition_of_sku(store, op->sku)->stocks, op);
}

void inventory_store_reservation(struct inventory_store *store, struct inventory_reservation_op *op)
{
	op->found = false;
	op->record = (struct inventory_record){ .state = STOCK_NONE };
	op->lines = NULL;
	op->returned = NULL;
	op->shortages = NULL;
	op->line_count = op->shortage_count = 0;
	rt_store_add(store->partitions[op->partition].reservation, op);
}

int inventory_store_partitions(const struct inventory_store *store)
{
	return store->count;
}

int inventory_store_partition(const struct inventory_store *store, const char *sku)
{
	return rt_bucket_partition(rt_bucket(sku, strlen(sku)), store->count);
}

int64_t inventory_store_generation(const struct inventory_store *store, int partition)
{
	const struct inventory_partition *at = &store->partitions[partition];

	if (at->generation_epoch != 0 &&
	    at->generation_epoch != inventory_store_epoch(store, partition))
		return INVENTORY_NO_GENERATION;
	return at->generation;
}

void inventory_store_set_generation(struct inventory_store *store, int partition,
				    int64_t generation, uint64_t epoch)
{
	store->partitions[partition].generation = generation;
	store->partitions[partition].generation_epoch = epoch;
}

int64_t inventory_store_refused_for(const struct inventory_store *store, int partition)
{
	return store->partitions[partition].refused_for;
}

uint64_t inventory_store_epoch(const struct inventory_store *store, int partition)
{
	return rt_redis_epoch(rt_store_redis(store->partitions[partition].redis));
}

static int partition_make(struct inventory_partition *partition, struct rt_store *redis)
{
	const struct {
		const struct rt_store_step *step;
		struct rt_store_queue **queue;
	} queues[] = {
		{ &inventory_request_step, &partition->request },
		{ &inventory_conclude_step, &partition->conclude },
		{ &inventory_part_step, &partition->part },
		{ &adjust_step, &partition->adjust },
		{ &stock_step, &partition->stocks },
		{ &inventory_list_step, &partition->list },
		{ &reservation_step, &partition->reservation },
		{ &inventory_call_step, &partition->call },
		{ &inventory_state_step, &partition->state },
		{ &inventory_holders_step, &partition->holders },
		{ &threshold_step, &partition->threshold },
	};
	int rc = RT_OK;

	partition->redis = redis;
	partition->events = rt_printf("inventory:{%d}:events", partition->number);
	partition->orders = rt_printf("order:{%d}:events", partition->number);
	partition->reservations = rt_printf("inventory:{%d}:r", partition->number);
	partition->stock = rt_printf("inventory:{%d}:stock", partition->number);
	partition->skus = rt_printf("inventory:{%d}:skus", partition->number);
	for (size_t i = 0; i < RT_LENGTH(queues) && rc == RT_OK; i++)
		rc = rt_store_queue_new(redis, queues[i].step, partition, queues[i].queue);
	return rc;
}

int inventory_store_new(struct rt_store *const *stores, int count, struct inventory_store **ret)
{
	struct inventory_store *store =
		rt_alloc(sizeof(*store) + (size_t)count * sizeof(store->partitions[0]));
	int rc = RT_OK;

	store->count = count;
	for (int p = 0; p < count && rc == RT_OK; p++) {
		store->partitions[p].number = p;
		store->partitions[p].store = store;
		rc = partition_make(&store->partitions[p], stores[p]);
	}
	if (rc == RT_OK)
		rc = rt_store_queue_new(stores[0], &inventory_reserve_step, &store->partitions[0],
					&store->reserve);
	if (rc != RT_OK) {
		inventory_store_free(store);
		return rc;
	}
	*ret = store;
	return RT_OK;
}

void inventory_store_free(struct inventory_store *store)
{
	if (store == NULL)
		return;
	for (int p = 0; p < store->count; p++) {
		free(store->partitions[p].events);
		free(store->partitions[p].orders);
		free(store->partitions[p].reservations);
		free(store->partitions[p].stock);
		free(store->partitions[p].skus);
	}
	rt_buf_done(&store->text);
	free(store);
}
