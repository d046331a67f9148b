/* store_redis.c - the inventory store on Redis: the operations of functions.lua, and plain reads, as
 * queues of commands (runtime/redis). It defines how each operation is sent and how its answer is read.
 *
 *   request, conclude, reserve, adjust, threshold   many in one FCALL
 *   part                        the same (store_part.c)
 *   stock                       many in one HMGET
 *   list, reservation           one at a time: plain reads (list: store_list.c)
 *   call                        one at a time (store_call.c)
 *
 * Each partition has a queue for each kind of operation.
 *
 * Reads of lists and reservations share the connection with requests of orders. So only a few are under
 * way and the others wait: orders are not delayed, however many clients read. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "store_internal.h"

#define ASKED_NOW_MS INT64_C(9999999999999) /* nobody asked: it is not late */
#define REQUESTS_MAX                                                                               \
	256 /* items in a call: about a millisecond of Redis; fits an entry of orders */
#define WEIGHT_MAX                                                                                 \
	(128 * 1024) /* bytes of lines in a call: their shortages go into one entry of the stream */
#define ADJUSTMENTS_MAX 256
#define STOCKS_MAX      512
#define IN_FLIGHT_MAX   2
#define LOOKS_MAX       256 /* reservations read at the same time: about a millisecond */

/* ---- request and conclude ---- */

static void add_split_lines(struct rt_args *args, struct rt_buf *text,
			    const struct inventory_conclude_op *op)
{
	for (size_t i = 0; i < op->line_count; i++) {
		const struct inventory_split_line *at = &op->lines[i];

		rt_buf_printf(text, "%s%s=%" PRIu32, i == 0 ? "" : " ", at->line.sku,
			      at->line.quantity);
		if (at->was_short && at->unknown)
			rt_buf_printf(text, "/" INVENTORY_UNKNOWN);
		else if (at->was_short)
			rt_buf_printf(text, "/%" PRIu64, at->available);
		rt_buf_printf(text, "@%d", at->partition);
	}
	rt_args_copy(args, text->data, text->length);
}

/* When the order asked, in thirteen digits, and its lines. */
static void add_asked_and_lines(struct rt_args *args, struct rt_buf *text,
				const struct inventory_conclude_op *op)
{
	text->length = 0;
	rt_buf_printf(text, "%013" PRId64 " ",
		      op->request.asked_ms > 0 ? op->request.asked_ms : ASKED_NOW_MS);
	add_split_lines(args, text, op);
}

static void add_split_returned(struct rt_args *args, struct rt_buf *text,
			       const struct inventory_conclude_op *op)
{
	struct inventory_line *lines = rt_alloc((op->line_count + 1) * sizeof(*lines));

	for (size_t i = 0; i < op->line_count; i++)
		lines[i] = op->lines[i].line;
	inventory_add_returned(args, text, op->request.seq, lines, op->line_count);
	free(lines);
}

static bool is_traced(const struct inventory_request_op *op)
{
	return op->traceparent != NULL && op->traceparent[0] != '\0';
}

static bool has_extra(const struct inventory_request_op *op)
{
	return op->attempt > 1 || is_traced(op) || op->late || op->request == STOCK_REQ_DROP;
}

/* The first arguments: letters and the number of extras, time, and the order ids. Conclusions begin as requests. */
static void requests_head(struct rt_store_run *run, const char *function)
{
	const struct inventory_partition *partition = run->user;
	struct rt_buf letters = { NULL, 0, 0 };
	int64_t now_ms = 0, extras = 0;
	bool delivered = false;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		char letter = op->only_reads ? '?' : stock_request_letter(op->request);

		rt_buf_add(&letters, &letter, 1);
		now_ms = RT_MAX(now_ms, op->now_ms);
		extras += has_extra(op);
		delivered |= op->event != NULL;
	}
	rt_store_call(run, function, delivered ? partition->orders : NULL);
	if (extras > 0)
		rt_buf_printf(&letters, "%" PRId64, extras);
	rt_args_copy(run->args, letters.data, letters.length);
	rt_store_add_time(run, now_ms);
	rt_buf_done(&letters);
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
	}
}

/* The last arguments: extras, and what is acknowledged. An event that only reads is not finished with it. */
static void requests_tail(struct rt_store_run *run)
{
	int64_t position = 0;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		position++;
		if (!has_extra(op))
			continue;
		rt_args_int(run->args, position);
		rt_args_int(run->args, op->attempt);
		rt_args_trace(run->args, op->traceparent, op->tracestate);
		if (op->late || op->request == STOCK_REQ_DROP)
			rt_args_int(run->args, op->asked_ms);
		else
			rt_args_str(run->args, "");
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		const char *ack_id =
			op->event == NULL || op->only_reads ? NULL : rt_event_ack(op->event, run);

		if (ack_id != NULL)
			rt_args_str(run->args, ack_id);
	}
}

/* Arguments of the same kind are together, so that the function reads them at once. */
static void request_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;

	requests_head(run, "request");
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		if (op->request == STOCK_REQ_RESERVE && !op->only_reads)
			inventory_add_lines(run->args, &partition->store->text, op->lines, NULL,
					    op->line_count);
		else if (op->request == STOCK_REQ_RETURN && !op->only_reads)
			inventory_add_returned(run->args, &partition->store->text, op->seq,
					       op->lines, op->line_count);
	}
	requests_tail(run);
}

/* What the conclusions rest on: the lowest generation among them, states that were read, verdicts. */
static void conclude_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;
	struct rt_buf letters = { NULL, 0, 0 };
	int64_t generation = INT64_MAX;

	requests_head(run, "conclude");
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		const char both[] = { stock_state_letter(op->read),
				      split_verdict_letter(op->verdict) };

		generation = RT_MIN(generation, op->generation);
		rt_buf_add(&letters, both, sizeof(both));
	}
	rt_args_int(run->args, generation);
	rt_args_copy(run->args, letters.data, letters.length);
	rt_buf_done(&letters);
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		if (op->read == STOCK_NONE)
			add_asked_and_lines(run->args, &partition->store->text, op);
		else if (op->request.request == STOCK_REQ_RETURN)
			add_split_returned(run->args, &partition->store->text, op);
	}
	requests_tail(run);
}

static void reserve_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;
	struct rt_buf *text = &partition->store->text;
	int64_t generation = INT64_MAX;

	requests_head(run, "reserve");
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		generation = RT_MIN(generation, op->generation);
	}
	rt_args_int(run->args, generation);
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		text->length = 0;
		add_split_lines(run->args, text, op);
	}
	requests_tail(run);
}

/* Three letters for each. What follows is an error or a record for each request that was not served; then
 * nothing was acknowledged. */
static bool request_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status != RT_OK)
		return false;
	run->text = rt_reply_text(reply);
	if (run->text == NULL || strlen(run->text) != 3 * run->batch.count) {
		*status = RT_PROTOCOL;
		return false;
	}
	for (size_t i = 1; i < reply->elements; i++) {
		if (!rt_reply_is_string(reply->element[i])) {
			*status = RT_PROTOCOL;
			return false;
		}
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		if (reply->elements > 1 && op->event != NULL)
			rt_event_not_acked(op->event);
	}
	return false;
}

static int request_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_request_op *op = item;
	const char *letters = run->text + 3 * run->index;
	const struct redisReply *more = NULL;
	char trace[RT_TRACE_ID_TEXT];

	op->served = letters[0] != '!' && letters[2] != '?';
	if (!op->served) {
		if (++run->read >= reply->elements)
			return RT_PROTOCOL;
		more = reply->element[run->read];
	}
	if (letters[0] == '!') {
		RT_LOG(RT_ERROR, "a request cannot be served", RT_S("order_id", op->order_id),
		       RT_S("reason", more->str),
		       RT_S("trace_id", rt_trace_find(op->traceparent, op->order_id, trace)));
		return RT_REMOTE;
	}
	if (more != NULL)
		return inventory_record_read(more, &op->record) ? RT_OK : RT_REMOTE;
	if (!stock_state_of_letter(letters[0], &op->before) ||
	    !stock_state_of_letter(letters[1], &op->after) ||
	    !stock_answer_of_letter(letters[2], &op->answer))
		return RT_PROTOCOL;
	return RT_OK;
}

static void request_end(void *item, int status)
{
	struct inventory_request_op *op = item;
	struct inventory_record record = op->record;

	op->done(op, status);
	inventory_record_done(&record);
}

static bool request_outdated(const void *item)
{
	const struct inventory_request_op *op = item;

	return op->event != NULL && !rt_event_is_current(op->event);
}

static const struct rt_store_step request_step = {
	.name = "inventory_request",
	.durable = true,
	.count_max = REQUESTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = REQUESTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = request_outdated,
	.begin = request_begin,
	.answered = request_answered,
	.decode = request_decode,
	.end = request_end,
};

/* Of an older generation: there is a newer one now, to begin again with. */
static bool conclude_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	struct inventory_partition *partition = run->user;

	if (*status == RT_REMOTE && rt_redis_reply_begins(reply, "GENERATION")) {
		inventory_note_generation(partition, reply->str + strlen("GENERATION"));
		*status = RT_UNREADY;
	}
	return request_answered(run, status, reply);
}

static const struct rt_store_step conclude_step = {
	.name = "inventory_conclude",
	.durable = true,
	.count_max = REQUESTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = REQUESTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = request_outdated,
	.begin = conclude_begin,
	.answered = conclude_answered,
	.decode = request_decode,
	.end = request_end,
};

static const struct rt_store_step reserve_step = {
	.name = "inventory_reserve",
	.durable = true,
	.count_max = REQUESTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = REQUESTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = request_outdated,
	.begin = reserve_begin,
	.answered = conclude_answered,
	.decode = request_decode,
	.end = request_end,
};

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
	return rt_store_redis(store->partitions[0].redis)->together;
}

void inventory_store_reserve(struct inventory_store *store, struct inventory_conclude_op *op)
{
	add_conclusion(store->partitions[op->request.partition].reserve, op);
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
		{ &request_step, &partition->request },
		{ &conclude_step, &partition->conclude },
		{ &reserve_step, &partition->reserve },
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
		free(store->partitions[p].orders);
		free(store->partitions[p].reservations);
		free(store->partitions[p].stock);
		free(store->partitions[p].skus);
	}
	rt_buf_done(&store->text);
	free(store);
}
