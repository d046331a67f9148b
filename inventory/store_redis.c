/* store_redis.c - the inventory store on Redis: the operations of functions.lua, and plain reads, as
 * queues of commands (runtime/redis). It defines how each operation is sent and how its answer is read.
 *
 *   request, adjust     many in one FCALL
 *   stock               many in one HMGET
 *   list, reservation   one at a time: plain reads
 *
 * Reads of lists and reservations share the connection with requests of orders. So only a few are under
 * way and the others wait: orders are not delayed, however many clients read. */
#include "store.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "redis/redis.h"

#define REQUESTS_MAX                                                                               \
	256 /* items in a call: about a millisecond of Redis; fits an entry of orders */
#define WEIGHT_MAX                                                                                 \
	(128 * 1024) /* bytes of lines in a call: their shortages go into one entry of the stream */
#define ADJUSTMENTS_MAX 256
#define STOCKS_MAX      512
#define IN_FLIGHT_MAX   2
#define WAITING_MAX     20000
#define LOOKS_MAX       256 /* reservations read at the same time: about a millisecond */
#define LISTS_MAX       4   /* a page takes up to a few milliseconds */

struct inventory_store {
	/* Keys. */
	char *orders, *reservations, *stock, *skus;
	struct rt_store_queue *request, *adjust, *stocks, *list, *reservation;
	struct rt_buf text; /* of the command that is being built */
};

/* ---- request ---- */

/* Checks that each SKU occurs once, and has no character that the functions' parsers use. */
static bool lines_valid(const struct inventory_line *lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (lines[i].sku[0] == '\0' || strpbrk(lines[i].sku, " =/") != NULL)
			return false;
		for (size_t j = 0; j < i; j++)
			if (strcmp(lines[i].sku, lines[j].sku) == 0)
				return false;
	}
	return count > 0;
}

static void request_lines(const struct inventory_request_op *op, struct rt_args *args,
			  struct rt_buf *text)
{
	text->length = 0;
	for (size_t i = 0; i < op->line_count; i++)
		rt_buf_printf(text, "%s%s=%" PRIu32, i == 0 ? "" : " ", op->lines[i].sku,
			      op->lines[i].quantity);
	rt_args_copy(args, text->data, text->length);
}

static bool is_traced(const struct inventory_request_op *op)
{
	return op->traceparent != NULL && op->traceparent[0] != '\0';
}

static bool has_extra(const struct inventory_request_op *op)
{
	return op->attempt > 1 || is_traced(op);
}

/* The first arguments: letters, time, and the number of extras. */
static void requests_head(struct rt_store_run *run)
{
	const struct inventory_store *store = run->user;
	struct rt_buf letters = { NULL, 0, 0 };
	int64_t now_ms = 0, extras = 0;
	bool delivered = false;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		char letter = stock_request_letter(op->request);

		rt_buf_add(&letters, &letter, 1);
		now_ms = RT_MAX(now_ms, op->now_ms);
		extras += has_extra(op);
		delivered |= op->event != NULL;
	}
	rt_store_call(run, "request", delivered ? store->orders : NULL);
	rt_args_copy(run->args, letters.data, letters.length);
	rt_store_add_time(run, now_ms);
	rt_args_int(run->args, extras);
	rt_buf_done(&letters);
}

/* Arguments of the same kind are together, so that the function reads them at once. */
static void request_begin(struct rt_store_run *run)
{
	struct inventory_store *store = run->user;
	int64_t position = 0;

	requests_head(run);
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		if (op->request == STOCK_REQ_RESERVE)
			request_lines(op, run->args, &store->text);
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		position++;
		if (!has_extra(op))
			continue;
		rt_args_int(run->args, position);
		rt_args_int(run->args, op->attempt);
		rt_args_str(run->args, is_traced(op) ? op->traceparent : "");
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		const char *ack_id = op->event == NULL ? NULL : rt_event_ack(op->event, run);

		if (ack_id != NULL)
			rt_args_str(run->args, ack_id);
	}
}

/* { three letters for each, error, … }. After an error nothing was acknowledged. */
static bool request_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status != RT_OK)
		return false;
	if (!rt_reply_is_array(reply, 1) || !rt_reply_is_string(reply->element[0]) ||
	    (size_t)reply->element[0]->len != 3 * run->batch.count) {
		*status = RT_PROTOCOL;
		return false;
	}
	for (size_t i = 1; i < reply->elements; i++)
		RT_LOG(RT_ERROR, "a request cannot be served",
		       RT_S("reason", reply->element[i]->str));
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
	const char *letters = reply->element[0]->str + 3 * run->index;

	if (letters[0] == '!')
		return RT_REMOTE;
	if (!stock_state_of_letter(letters[0], &op->before) ||
	    !stock_state_of_letter(letters[1], &op->after) ||
	    !stock_answer_of_letter(letters[2], &op->answer))
		return RT_PROTOCOL;
	return RT_OK;
}

RT_STORE_END(request_end, struct inventory_request_op)

static const struct rt_store_step request_step = {
	.name = "inventory_request",
	.count_max = REQUESTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = REQUESTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.begin = request_begin,
	.answered = request_answered,
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

/* "available reserved committed received version". */
static bool stock_parse(const char *text, struct stock *ret)
{
	uint64_t *const counters[] = { &ret->available, &ret->reserved, &ret->committed,
				       &ret->received, &ret->version };

	for (size_t i = 0; i < RT_LENGTH(counters); i++) {
		size_t digits = strspn(text, "0123456789");

		if (digits == 0 || digits > 16)
			return false;
		*counters[i] = strtoull(text, NULL, 10);
		text += digits;
		if (*text != (i + 1 < RT_LENGTH(counters) ? ' ' : '\0'))
			return false;
		text++;
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
	if (letter == NULL || reply->str[1] != ' ' || !stock_parse(reply->str + 2, &op->stock))
		return RT_PROTOCOL;
	op->outcome = (unsigned)(letter - letters);
	return RT_OK;
}

RT_STORE_END(adjust_end, struct inventory_adjust_op)

static const struct rt_store_step adjust_step = {
	.name = "inventory_adjust",
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

/* ---- stock ---- */

static void stock_begin(struct rt_store_run *run)
{
	const struct inventory_store *store = run->user;

	rt_args_str(run->args, "HMGET");
	rt_args_str(run->args, store->stock);
}

static void stock_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_stock_op *op = item;

	rt_args_str(run->args, op->sku);
}

/* Reads a counter of an HMGET: RT_OK and whether it exists. */
static int counters_decode(const struct redisReply *reply, bool *ret_found, struct stock *ret)
{
	if (reply->type == REDIS_REPLY_NIL) {
		*ret_found = false;
		return RT_OK;
	}
	if (!rt_reply_is_string(reply) || !stock_parse(reply->str, ret))
		return RT_REMOTE;
	*ret_found = true;
	return RT_OK;
}

static int stock_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_stock_op *op = item;

	(void)run;
	return counters_decode(reply, &op->found, &op->stock);
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

/* ---- list: the SKUs, then their counters ---- */

static void list_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_list_op *op = item;
	struct inventory_store *store = run->user;

	store->text.length = 0;
	rt_buf_printf(&store->text, "%s%s", op->after[0] != '\0' ? "(" : "-", op->after);
	rt_args_str(run->args, "ZRANGEBYLEX");
	rt_args_str(run->args, store->skus);
	rt_args_copy(run->args, store->text.data, store->text.length);
	rt_args_str(run->args, "+");
	rt_args_str(run->args, "LIMIT");
	rt_args_str(run->args, "0");
	rt_args_int(run->args, (int64_t)op->count_max + 1);
}

/* Reads the counters of these SKUs; op->memory holds the SKUs and the list. */
static void list_ask(struct rt_store_run *run, struct inventory_list_op *op,
		     const struct redisReply *skus)
{
	const struct inventory_store *store = run->user;
	size_t count = RT_MIN(skus->elements, op->count_max), bytes = count * sizeof(*op->stocks);
	char *text;

	for (size_t i = 0; i < count; i++)
		bytes += (size_t)skus->element[i]->len + 1;
	op->memory = op->stocks = rt_alloc(bytes);
	op->stock_count = count;
	op->more = skus->elements > count;
	text = (char *)(op->stocks + count);
	rt_args_str(run->args, "HMGET");
	rt_args_str(run->args, store->stock);
	for (size_t i = 0; i < count; i++) {
		size_t length = (size_t)skus->element[i]->len + 1;

		op->stocks[i].sku = memcpy(text, skus->element[i]->str, length);
		rt_args_str(run->args, text);
		text += length;
	}
}

static bool list_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status != RT_OK || run->commands > 1)
		return false;
	if (!rt_reply_is_array(reply, 0))
		*status = RT_PROTOCOL;
	if (*status != RT_OK || reply->elements == 0)
		return false;
	RT_STORE_FOR_EACH(struct inventory_list_op, op, run)
	{
		list_ask(run, op, reply);
	}
	return true;
}

static int list_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_list_op *op = item;
	size_t count = op->stock_count;

	(void)run;
	if (!rt_reply_is_array(reply, count) || reply->elements != count)
		return RT_PROTOCOL;
	op->stock_count = 0;
	for (size_t i = 0; i < count; i++) {
		struct inventory_listed *listed = &op->stocks[op->stock_count];
		const char *sku = op->stocks[i].sku;
		bool found = false;
		int rc = counters_decode(reply->element[i], &found, &listed->stock);

		if (rc != RT_OK)
			return rc;
		listed->sku = sku;
		op->stock_count += found;
	}
	return RT_OK;
}

static void list_end(void *item, int status)
{
	struct inventory_list_op *op = item;
	void *memory = op->memory;

	op->done(op, status);
	free(memory);
}

static const struct rt_store_step list_step = {
	.count_max = 1,
	.in_flight_max = LISTS_MAX,
	.waiting_max = WAITING_MAX,
	.encode = list_encode,
	.answered = list_answered,
	.decode = list_decode,
	.end = list_end,
};

/* ---- reservation ---- */

static void reservation_encode(struct rt_store_run *run, const void *item)
{
	const struct inventory_reservation_op *op = item;
	const struct inventory_store *store = run->user;

	rt_args_str(run->args, "HGET");
	rt_args_str(run->args, store->reservations);
	rt_args_str(run->args, op->order_id);
}

/* Reads a number and the character that must follow it. */
static bool number_parse(char **text, char behind, uint64_t *ret)
{
	size_t digits = strspn(*text, "0123456789");

	if (digits == 0 || digits > 16 || (*text)[digits] != behind)
		return false;
	*ret = strtoull(*text, NULL, 10);
	*text += digits + (behind != '\0');
	return true;
}

/* Splits a line, "sku=quantity" or "sku=quantity/available". */
static bool line_parse(struct inventory_reservation_op *op, char *text)
{
	struct inventory_line *line = &op->lines[op->line_count];
	char *at = strchr(text, '=');
	bool was_short = strchr(text, '/') != NULL;
	uint64_t quantity, available;

	if (at == NULL)
		return false;
	*at++ = '\0';
	line->sku = text;
	if (!number_parse(&at, was_short ? '/' : '\0', &quantity) || quantity > UINT32_MAX)
		return false;
	line->quantity = (uint32_t)quantity;
	op->line_count++;
	/* The shortages stay stored when the reservation is released, but are not returned any more. */
	if (!was_short || op->state != STOCK_UNAVAILABLE)
		return true;
	if (!number_parse(&at, '\0', &available))
		return false;
	op->shortages[op->shortage_count++] =
		(struct inventory_shortage){ text, line->quantity, available };
	return true;
}

/* Splits "<STATE> <version> <unix ms> <lines>". */
static bool reservation_parse(struct inventory_reservation_op *op, char *text)
{
	char *at = strchr(text, ' '), *rest;
	size_t lines = 1;
	uint64_t updated_ms;

	if (at == NULL)
		return false;
	*at++ = '\0';
	if (!stock_state_parse(text, &op->state) || !number_parse(&at, ' ', &op->version) ||
	    !number_parse(&at, ' ', &updated_ms))
		return false;
	op->updated_ms = (int64_t)updated_ms;
	for (const char *c = at; *c != '\0'; c++)
		lines += *c == ' ';
	op->lines = rt_alloc(lines * sizeof(*op->lines));
	op->shortages = rt_alloc(lines * sizeof(*op->shortages));
	for (char *line = strtok_r(at, " ", &rest); line != NULL; line = strtok_r(NULL, " ", &rest))
		if (!line_parse(op, line))
			return false;
	return true;
}

static int reservation_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_reservation_op *op = item;

	(void)run;
	if (reply->type == REDIS_REPLY_NIL)
		return RT_OK;
	if (!rt_reply_is_string(reply))
		return RT_PROTOCOL;
	op->memory = rt_strndup(reply->str, (size_t)reply->len);
	op->found = reservation_parse(op, op->memory);
	return op->found ? RT_OK : RT_REMOTE;
}

static void reservation_end(void *item, int status)
{
	struct inventory_reservation_op *op = item;
	struct inventory_line *lines = op->lines;
	struct inventory_shortage *shortages = op->shortages;
	void *memory = op->memory;

	op->done(op, status);
	free(lines);
	free(shortages);
	free(memory);
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

void inventory_store_request(struct inventory_store *store, struct inventory_request_op *op)
{
	op->item.weight = 0;
	/* Per line: its text, and the shortage it may become. */
	for (size_t i = 0; op->request == STOCK_REQ_RESERVE && i < op->line_count; i++)
		op->item.weight += strlen(op->lines[i].sku) + 32;
	op->item.unit = op->event == NULL ? NULL : rt_event_entry(op->event);
	if (op->request == STOCK_REQ_RESERVE && !lines_valid(op->lines, op->line_count))
		rt_store_refuse(store->request, op, RT_INVALID);
	else
		rt_store_add(store->request, op);
}

void inventory_store_adjust(struct inventory_store *store, struct inventory_adjust_op *op)
{
	rt_store_add(store->adjust, op);
}

void inventory_store_stock(struct inventory_store *store, struct inventory_stock_op *op)
{
	rt_store_add(store->stocks, op);
}

void inventory_store_list(struct inventory_store *store, struct inventory_list_op *op)
{
	op->memory = op->stocks = NULL;
	op->stock_count = 0;
	op->more = false;
	rt_store_add(store->list, op);
}

void inventory_store_reservation(struct inventory_store *store, struct inventory_reservation_op *op)
{
	op->found = false;
	op->memory = NULL;
	op->lines = NULL;
	op->shortages = NULL;
	op->line_count = op->shortage_count = 0;
	rt_store_add(store->reservation, op);
}

int inventory_store_new(struct rt_store *redis, int partition, struct inventory_store **ret)
{
	struct inventory_store *store = rt_alloc(sizeof(*store));
	const struct {
		const struct rt_store_step *step;
		struct rt_store_queue **queue;
	} queues[] = {
		{ &request_step, &store->request },
		{ &adjust_step, &store->adjust },
		{ &stock_step, &store->stocks },
		{ &list_step, &store->list },
		{ &reservation_step, &store->reservation },
	};
	int rc = RT_OK;

	store->orders = rt_printf("order:{%d}:events", partition);
	store->reservations = rt_printf("inventory:{%d}:r", partition);
	store->stock = rt_printf("inventory:{%d}:stock", partition);
	store->skus = rt_printf("inventory:{%d}:skus", partition);
	for (size_t i = 0; i < RT_LENGTH(queues) && rc == RT_OK; i++)
		rc = rt_store_queue_new(redis, queues[i].step, store, queues[i].queue);
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
	free(store->orders);
	free(store->reservations);
	free(store->stock);
	free(store->skus);
	rt_buf_done(&store->text);
	free(store);
}
