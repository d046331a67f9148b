/* store_redis.c - the inventory store on Redis: each operation is a call of functions.lua or a plain
 * read.
 *
 * Requests, adjustments and reads of stock are gathered (rt_batch): whatever is submitted in a turn
 * goes as one command, and while two commands are under way the next one gathers. In the order
 * things happen:
 *
 *   store_request → (end of turn) requests_send → FCALL inventory_request → requests_answered
 *     → done of every op → rt_batch_finish
 *
 * An operation that cannot even wait (the queue is full, or its input makes no sense) ends in the
 * next turn. The store is ready while the connection is up and the server has our functions, which is
 * watched (runtime/redis/functions.c). */
#include "store.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "redis/redis.h"

#define REQUESTS_MAX    128 /* items in a call: about a millisecond of Redis */
#define ADJUSTMENTS_MAX 256
#define STOCKS_MAX      512
#define IN_FLIGHT_MAX   2
#define WAITING_MAX     20000
#define LOOKS_MAX       256   /* reservations that are read at a time: about a millisecond */
#define LISTS_MAX       4     /* a page takes up to some milliseconds */
#define NO_ENTRY        "0-0" /* the stream id of no entry: acknowledging it does nothing */

struct store {
	struct inventory_store base;
	struct rt_loop *loop;
	struct rt_redis *redis;
	/* Keys. */
	char *events, *orders, *reservations, *stock, *skus;
	struct rt_batch *requests, *adjustments, *stocks, *lists, *looks;
	/* Operations that end in the next turn without having been sent. */
	struct rt_list refused;
	struct rt_task refuse;
	struct rt_functions_watch functions;
};

/* A batch under way. */
struct run {
	struct rt_batch_run base;
	struct rt_redis_op op;
	struct store *store;
};

static struct store *store_of(struct inventory_store *base)
{
	return RT_CONTAINER_OF(base, struct store, base);
}

static void redis_state(struct rt_redis *redis, bool up, void *user)
{
	struct store *store = user;

	(void)redis;
	rt_functions_watch_state(&store->functions, up);
}

/* ---- operations that are refused ---- */

struct refused {
	struct rt_list link;
	int status;
	void *op;
	void (*done)(void *op, int status);
};

static void refuse_run(struct rt_task *task)
{
	struct store *store = RT_CONTAINER_OF(task, struct store, refuse);
	struct rt_list now, *link;

	rt_list_init(&now);
	rt_list_move(&now, &store->refused);
	while ((link = rt_list_pop(&now)) != NULL) {
		struct refused *refused = RT_CONTAINER_OF(link, struct refused, link);

		refused->done(refused->op, refused->status);
		free(refused);
	}
}

static void refuse(struct store *store, void *op, void (*done)(void *op, int status), int status)
{
	struct refused *refused = rt_alloc(sizeof(*refused));

	refused->op = op;
	refused->done = done;
	refused->status = status;
	rt_list_init(&refused->link);
	rt_list_push(&store->refused, &refused->link);
	rt_loop_defer(store->loop, &store->refuse);
}

/* ---- batches ---- */

#define FOR_EACH_ITEM(run, link)                                                                   \
	for (struct rt_list *link = (run)->base.items.next; link != &(run)->base.items;            \
	     link = link->next)

static int64_t later(int64_t a, int64_t b)
{
	return RT_MAX(a, b);
}

/* ---- request ---- */

static struct inventory_request_op *request_of(struct rt_list *link)
{
	return RT_CONTAINER_OF(link, struct inventory_request_op, item.link);
}

static void request_refused(void *op, int status)
{
	struct inventory_request_op *request = op;

	request->done(request, status);
}

/* Each SKU once, and none that would break the text the functions read. */
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

static void store_request(struct inventory_store *base, struct inventory_request_op *op)
{
	struct store *store = store_of(base);

	if (op->request == STOCK_REQ_RESERVE && !lines_valid(op->lines, op->line_count))
		refuse(store, op, request_refused, RT_INVALID);
	else if (!rt_batch_add(store->requests, &op->item))
		refuse(store, op, request_refused, RT_BUSY);
}

/* The first lines of the call: how many, when, and whether there is something to acknowledge. */
static void requests_head(struct run *run, struct rt_args *args)
{
	struct rt_buf letters = { NULL, 0, 0 };
	char time[RT_TIME_TEXT];
	int64_t now_ms = 0;
	bool acks = false;

	FOR_EACH_ITEM(run, link)
	{
		struct inventory_request_op *op = request_of(link);
		char letter = stock_request_letter(op->request);

		rt_buf_add(&letters, &letter, 1);
		now_ms = later(now_ms, op->now_ms);
		acks = acks || op->ack_id != NULL;
	}
	rt_time_format(now_ms, time);
	rt_args_function(args, &inventory_functions, "request");
	rt_args_str(args, acks ? "2" : "1");
	rt_args_str(args, run->store->events);
	if (acks)
		rt_args_str(args, run->store->orders);
	rt_args_copy(args, letters.data, letters.length);
	rt_args_int(args, now_ms);
	rt_args_copy(args, time, strlen(time));
	rt_args_int(args, acks ? (int64_t)run->base.count : 0);
	rt_buf_done(&letters);
	FOR_EACH_ITEM(run, link)
	{
		rt_args_str(args, request_of(link)->order_id);
	}
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

static void requests_answered(struct rt_redis_op *op, int status, const struct redisReply *reply);

static void requests_send(struct rt_batch_run *base, void *user)
{
	struct run *run = RT_CONTAINER_OF(base, struct run, base);
	struct rt_args args = { .count = 0 };
	struct rt_buf text = { NULL, 0, 0 };
	bool acks = false;
	int64_t position = 0;

	run->store = user;
	requests_head(run, &args);
	FOR_EACH_ITEM(run, link)
	{
		if (request_of(link)->request == STOCK_REQ_RESERVE)
			request_lines(request_of(link), &args, &text);
		acks = acks || request_of(link)->ack_id != NULL;
	}
	FOR_EACH_ITEM(run, link)
	{
		const char *id = request_of(link)->ack_id;

		if (acks)
			rt_args_str(&args, id != NULL ? id : NO_ENTRY);
	}
	FOR_EACH_ITEM(run, link)
	{
		struct inventory_request_op *op = request_of(link);
		bool traced = op->traceparent != NULL && op->traceparent[0] != '\0';

		position++;
		if (op->attempt <= 1 && !traced)
			continue;
		rt_args_int(&args, position);
		rt_args_int(&args, op->attempt);
		rt_args_str(&args, traced ? op->traceparent : "");
	}
	rt_redis_send(run->store->redis, &run->op, &args, 0, requests_answered);
	rt_buf_done(&text);
	rt_args_done(&args);
}

/* The three letters of an item's end. */
static int request_end(struct inventory_request_op *op, const char *letters)
{
	if (letters[0] == '!')
		return RT_REMOTE;
	if (!stock_state_of_letter(letters[0], &op->before) ||
	    !stock_state_of_letter(letters[1], &op->after) ||
	    !stock_answer_of_letter(letters[2], &op->answer))
		return RT_PROTOCOL;
	return RT_OK;
}

static void requests_answered(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(op, struct run, op);
	const char *letters = NULL;
	struct rt_list *link;

	rt_functions_watch_ended(&run->store->functions, status);
	if (status == RT_OK) {
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 ||
		    reply->element[0]->type != REDIS_REPLY_STRING ||
		    (size_t)reply->element[0]->len != 3 * run->base.count) {
			status = RT_PROTOCOL;
		} else {
			letters = reply->element[0]->str;
			for (size_t i = 1; i < reply->elements; i++)
				RT_LOG(RT_ERROR, "a request cannot be served",
				       RT_S("reason", reply->element[i]->str));
		}
	}
	while ((link = rt_list_pop(&run->base.items)) != NULL) {
		struct inventory_request_op *request = request_of(link);
		int end = status;

		if (status == RT_OK) {
			end = request_end(request, letters);
			letters += 3;
		}
		request->done(request, end);
	}
	rt_batch_finish(&run->base);
}

/* ---- adjust ---- */

static struct inventory_adjust_op *adjust_of(struct rt_list *link)
{
	return RT_CONTAINER_OF(link, struct inventory_adjust_op, item.link);
}

static void adjust_refused(void *op, int status)
{
	struct inventory_adjust_op *adjust = op;

	adjust->done(adjust, status);
}

static void store_adjust(struct inventory_store *base, struct inventory_adjust_op *op)
{
	struct store *store = store_of(base);

	if (!rt_batch_add(store->adjustments, &op->item))
		refuse(store, op, adjust_refused, RT_BUSY);
}

static void adjusts_answered(struct rt_redis_op *op, int status, const struct redisReply *reply);

/* Hands a run's adjustments to a function: "adjust", or "adjusted". */
static void adjusts_call(struct run *run, const char *function,
			 void (*done)(struct rt_redis_op *op, int status,
				      const struct redisReply *reply))
{
	struct rt_args args = { .count = 0 };
	char time[RT_TIME_TEXT];
	int64_t now_ms = 0;

	FOR_EACH_ITEM(run, link)
	{
		now_ms = later(now_ms, adjust_of(link)->now_ms);
	}
	rt_time_format(now_ms, time);
	rt_args_function(&args, &inventory_functions, function);
	rt_args_str(&args, "1");
	rt_args_str(&args, run->store->events);
	rt_args_int(&args, STOCK_MAX);
	rt_args_int(&args, now_ms);
	rt_args_copy(&args, time, strlen(time));
	FOR_EACH_ITEM(run, link)
	{
		struct inventory_adjust_op *adjust = adjust_of(link);

		rt_args_str(&args, adjust->sku);
		rt_args_int(&args, adjust->delta);
		rt_args_str(&args, adjust->request_id);
		rt_args_str(&args, adjust->reason);
	}
	rt_redis_send(run->store->redis, &run->op, &args, 0, done);
	rt_args_done(&args);
}

static void adjusts_send(struct rt_batch_run *base, void *user)
{
	struct run *run = RT_CONTAINER_OF(base, struct run, base);

	run->store = user;
	adjusts_call(run, "adjust", adjusts_answered);
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

static int adjust_end(struct inventory_adjust_op *op, const struct redisReply *reply)
{
	static const char letters[] = { [INVENTORY_ADJUSTED] = 'A',
					[INVENTORY_ADJUSTED_BEFORE] = 'B',
					[INVENTORY_CONFLICT] = 'C',
					[INVENTORY_SHORT] = 'S',
					[INVENTORY_OVERFLOW] = 'O' };
	const char *letter;

	if (reply->type == REDIS_REPLY_NIL)
		return RT_FULL; /* of inventory_adjusted: it was not made before */
	if (reply->type != REDIS_REPLY_STRING || reply->len < 1)
		return RT_PROTOCOL;
	if (reply->str[0] == '!')
		return RT_REMOTE;
	letter = memchr(letters, reply->str[0], sizeof(letters));
	if (letter == NULL || reply->str[1] != ' ' || !stock_parse(reply->str + 2, &op->stock))
		return RT_PROTOCOL;
	op->outcome = (unsigned)(letter - letters);
	return RT_OK;
}

static void adjusts_end(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(op, struct run, op);
	struct rt_list *link;
	size_t i = 0;

	rt_functions_watch_ended(&run->store->functions, status);
	if (status == RT_OK &&
	    (reply->type != REDIS_REPLY_ARRAY || reply->elements != run->base.count))
		status = RT_PROTOCOL;
	while ((link = rt_list_pop(&run->base.items)) != NULL) {
		struct inventory_adjust_op *adjust = adjust_of(link);
		int end = status == RT_OK ? adjust_end(adjust, reply->element[i++]) : status;

		adjust->done(adjust, end);
	}
	rt_batch_finish(&run->base);
}

static void adjusts_answered(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	/* Storage is full, so the whole call was refused. A repeat is answered nevertheless. */
	if (status == RT_FULL)
		adjusts_call(RT_CONTAINER_OF(op, struct run, op), "adjusted", adjusts_end);
	else
		adjusts_end(op, status, reply);
}

/* ---- stock ---- */

static struct inventory_stock_op *stock_of(struct rt_list *link)
{
	return RT_CONTAINER_OF(link, struct inventory_stock_op, item.link);
}

static void stock_refused(void *op, int status)
{
	struct inventory_stock_op *stock = op;

	stock->done(stock, status);
}

static void store_stock(struct inventory_store *base, struct inventory_stock_op *op)
{
	struct store *store = store_of(base);

	if (!rt_batch_add(store->stocks, &op->item))
		refuse(store, op, stock_refused, RT_BUSY);
}

static void stocks_answered(struct rt_redis_op *op, int status, const struct redisReply *reply);

static void stocks_send(struct rt_batch_run *base, void *user)
{
	struct run *run = RT_CONTAINER_OF(base, struct run, base);
	struct rt_args args = { .count = 0 };

	run->store = user;
	rt_args_str(&args, "HMGET");
	rt_args_str(&args, run->store->stock);
	FOR_EACH_ITEM(run, link)
	{
		rt_args_str(&args, stock_of(link)->sku);
	}
	rt_redis_send(run->store->redis, &run->op, &args, 0, stocks_answered);
	rt_args_done(&args);
}

/* A counter of an HMGET: RT_OK and whether it is there. */
static int stock_end(const struct redisReply *reply, bool *ret_found, struct stock *ret)
{
	if (reply->type == REDIS_REPLY_NIL) {
		*ret_found = false;
		return RT_OK;
	}
	if (reply->type != REDIS_REPLY_STRING || !stock_parse(reply->str, ret))
		return RT_REMOTE;
	*ret_found = true;
	return RT_OK;
}

static void stocks_answered(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(op, struct run, op);
	struct rt_list *link;
	size_t i = 0;

	if (status == RT_OK &&
	    (reply->type != REDIS_REPLY_ARRAY || reply->elements != run->base.count))
		status = RT_PROTOCOL;
	while ((link = rt_list_pop(&run->base.items)) != NULL) {
		struct inventory_stock_op *stock = stock_of(link);
		int end = status;

		if (status == RT_OK)
			end = stock_end(reply->element[i++], &stock->found, &stock->stock);
		stock->done(stock, end);
	}
	rt_batch_finish(&run->base);
}

/* ---- list: the SKUs, then their counters ---- */

struct list {
	struct rt_batch_run base;
	struct rt_redis_op op;
	struct store *store;
	struct inventory_list_op *list;
	char **skus;
	size_t count;
	bool more;
};

static void list_finish(struct list *list, int status)
{
	/* The op may go with its done. */
	struct inventory_listed *stocks = list->list->stocks;

	list->list->done(list->list, status);
	free(stocks);
	for (size_t i = 0; i < list->count; i++)
		free(list->skus[i]);
	free(list->skus);
	rt_batch_finish(&list->base);
}

static void list_counted(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct list *list = RT_CONTAINER_OF(redis_op, struct list, op);
	struct inventory_list_op *op = list->list;

	if (status == RT_OK && (reply->type != REDIS_REPLY_ARRAY || reply->elements != list->count))
		status = RT_PROTOCOL;
	if (status != RT_OK) {
		list_finish(list, status);
		return;
	}
	op->stocks = rt_alloc(list->count * sizeof(*op->stocks));
	for (size_t i = 0; i < list->count; i++) {
		struct inventory_listed *listed = &op->stocks[op->stock_count];
		bool found = false;

		status = stock_end(reply->element[i], &found, &listed->stock);
		if (status != RT_OK)
			break;
		listed->sku = list->skus[i];
		op->stock_count += found;
	}
	op->more = list->more;
	list_finish(list, status);
}

static void list_named(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct list *list = RT_CONTAINER_OF(redis_op, struct list, op);
	struct rt_args args = { .count = 0 };

	if (status == RT_OK && reply->type != REDIS_REPLY_ARRAY)
		status = RT_PROTOCOL;
	if (status != RT_OK || reply->elements == 0) {
		list_finish(list, status);
		return;
	}
	list->more = reply->elements > list->list->count_max;
	list->count = RT_MIN(reply->elements, list->list->count_max);
	list->skus = rt_alloc(list->count * sizeof(*list->skus));
	rt_args_str(&args, "HMGET");
	rt_args_str(&args, list->store->stock);
	for (size_t i = 0; i < list->count; i++) {
		list->skus[i] = rt_strdup(reply->element[i]->str);
		rt_args_str(&args, list->skus[i]);
	}
	rt_redis_send(list->store->redis, &list->op, &args, 0, list_counted);
	rt_args_done(&args);
}

static void list_send(struct rt_batch_run *base, void *user)
{
	struct list *list = RT_CONTAINER_OF(base, struct list, base);
	struct inventory_list_op *op =
		RT_CONTAINER_OF(rt_list_pop(&base->items), struct inventory_list_op, item.link);
	struct rt_args args = { .count = 0 };
	char *after = op->after[0] != '\0' ? rt_printf("(%s", op->after) : rt_strdup("-");

	list->store = user;
	list->list = op;
	rt_args_str(&args, "ZRANGEBYLEX");
	rt_args_str(&args, list->store->skus);
	rt_args_str(&args, after);
	rt_args_str(&args, "+");
	rt_args_str(&args, "LIMIT");
	rt_args_str(&args, "0");
	rt_args_int(&args, (int64_t)op->count_max + 1);
	rt_redis_send(list->store->redis, &list->op, &args, 0, list_named);
	rt_args_done(&args);
	free(after);
}

static void list_refused(void *op, int status)
{
	struct inventory_list_op *list = op;

	list->done(list, status);
}

/* Lists and reservations that are read share the connection with what orders ask for. So few are
 * under way, the others wait: however many clients look, no order is late behind them. */
static void store_list(struct inventory_store *base, struct inventory_list_op *op)
{
	struct store *store = store_of(base);

	op->stocks = NULL;
	op->stock_count = 0;
	op->more = false;
	if (!rt_batch_add(store->lists, &op->item))
		refuse(store, op, list_refused, RT_BUSY);
}

/* ---- reservation ---- */

static struct inventory_reservation_op *reservation_of(struct rt_list *link)
{
	return RT_CONTAINER_OF(link, struct inventory_reservation_op, item.link);
}

/* A number, and what must follow it. */
static bool number_parse(char **text, char behind, uint64_t *ret)
{
	size_t digits = strspn(*text, "0123456789");

	if (digits == 0 || digits > 16 || (*text)[digits] != behind)
		return false;
	*ret = strtoull(*text, NULL, 10);
	*text += digits + (behind != '\0');
	return true;
}

/* One line, "sku=quantity" or "sku=quantity/available", which it cuts up. */
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
	/* What was short stays written when the reservation is released; it is told no more. */
	if (!was_short || op->state != STOCK_UNAVAILABLE)
		return true;
	if (!number_parse(&at, '\0', &available))
		return false;
	op->shortages[op->shortage_count++] =
		(struct inventory_shortage){ text, line->quantity, available };
	return true;
}

/* "<STATE> <version> <unix ms> <lines>", which it cuts up. */
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

static void reservation_answered(struct rt_redis_op *redis_op, int status,
				 const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(redis_op, struct run, op);
	struct inventory_reservation_op *op = reservation_of(rt_list_pop(&run->base.items));
	struct inventory_line *lines;
	struct inventory_shortage *shortages;
	char *text = NULL;

	if (status == RT_OK && reply->type == REDIS_REPLY_STRING) {
		text = rt_strndup(reply->str, (size_t)reply->len);
		op->found = reservation_parse(op, text);
		if (!op->found)
			status = RT_REMOTE;
	} else if (status == RT_OK && reply->type != REDIS_REPLY_NIL) {
		status = RT_PROTOCOL;
	}
	/* The op may go with its done. */
	lines = op->lines;
	shortages = op->shortages;
	op->done(op, status);
	free(lines);
	free(shortages);
	free(text);
	rt_batch_finish(&run->base);
}

static void look_send(struct rt_batch_run *base, void *user)
{
	struct run *run = RT_CONTAINER_OF(base, struct run, base);
	struct store *store = user;
	const char *argv[] = { "HGET", store->reservations,
			       reservation_of(base->items.next)->order_id };

	rt_redis_command(store->redis, &run->op, (int)RT_LENGTH(argv), argv, NULL, 0,
			 reservation_answered);
}

static void reservation_refused(void *op, int status)
{
	struct inventory_reservation_op *reservation = op;

	reservation->done(reservation, status);
}

static void store_reservation(struct inventory_store *base, struct inventory_reservation_op *op)
{
	struct store *store = store_of(base);

	op->found = false;
	op->lines = NULL;
	op->shortages = NULL;
	op->line_count = op->shortage_count = 0;
	if (!rt_batch_add(store->looks, &op->item))
		refuse(store, op, reservation_refused, RT_BUSY);
}

/* ---- trim ---- */

struct trim {
	struct rt_redis_op op;
	struct store *store;
	struct inventory_trim_op *trim;
};

static void trim_answered(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct trim *own = RT_CONTAINER_OF(redis_op, struct trim, op);
	struct inventory_trim_op *op = own->trim;

	rt_functions_watch_ended(&own->store->functions, status);
	free(own);
	if (status == RT_OK && (reply->type != REDIS_REPLY_ARRAY || reply->elements < 5))
		status = RT_PROTOCOL;
	if (status == RT_OK) {
		op->trimmed = reply->element[0]->integer;
		op->length = reply->element[1]->integer;
		if (reply->element[2]->str != NULL)
			snprintf(op->holder, sizeof(op->holder), "%s", reply->element[2]->str);
		op->held = reply->element[3]->integer;
		op->ghost_count = reply->elements - 5;
		if (op->ghost_count > 0 && reply->element[5]->str != NULL)
			snprintf(op->ghost, sizeof(op->ghost), "%s", reply->element[5]->str);
	}
	op->done(op, status);
}

static void store_trim(struct inventory_store *base, struct inventory_trim_op *op)
{
	struct store *store = store_of(base);
	struct trim *own = rt_alloc(sizeof(*own));
	struct rt_args args = { .count = 0 };

	own->store = store;
	own->trim = op;
	op->trimmed = op->length = op->held = 0;
	op->holder[0] = '\0';
	op->ghost_count = 0;
	op->ghost[0] = '\0';
	rt_args_function(&args, &inventory_functions, "trim");
	rt_args_str(&args, "1");
	rt_args_str(&args, store->events);
	rt_args_int(&args, op->now_ms);
	rt_args_int(&args, op->retain_ms);
	rt_args_int(&args, op->retain_count);
	rt_args_int(&args, op->ghost_ms);
	rt_redis_send(store->redis, &own->op, &args, 0, trim_answered);
	rt_args_done(&args);
}

/* ---- the store itself ---- */

static bool store_ready(struct inventory_store *base)
{
	struct store *store = store_of(base);

	return rt_functions_watch_problem(&store->functions) == NULL;
}

static void store_free(struct inventory_store *base)
{
	struct store *store;

	if (base == NULL)
		return;
	store = store_of(base);
	rt_functions_watch_stop(&store->functions);
	rt_redis_free(store->redis);
	rt_batch_free(store->requests);
	rt_batch_free(store->adjustments);
	rt_batch_free(store->stocks);
	rt_batch_free(store->lists);
	rt_batch_free(store->looks);
	free(store->events);
	free(store->orders);
	free(store->reservations);
	free(store->stock);
	free(store->skus);
	free(store);
}

static const struct inventory_store_ops store_ops = {
	.request = store_request,
	.adjust = store_adjust,
	.stock = store_stock,
	.list = store_list,
	.reservation = store_reservation,
	.trim = store_trim,
	.ready = store_ready,
	.free = store_free,
};

static int store_batches(struct store *store, struct rt_metrics *metrics)
{
	struct rt_batch_options options = { .in_flight_max = IN_FLIGHT_MAX,
					    .waiting_max = WAITING_MAX,
					    .run_size = sizeof(struct run),
					    .user_data = store,
					    .metrics = metrics };
	int rc;

	options.count_max = REQUESTS_MAX;
	options.gather = REQUESTS_MAX / 2;
	options.send = requests_send;
	options.step = "inventory_request";
	rc = rt_batch_new(store->loop, &options, &store->requests);
	if (rc != RT_OK)
		return rc;
	options.gather = 0;
	options.count_max = ADJUSTMENTS_MAX;
	options.send = adjusts_send;
	options.step = "inventory_adjust";
	rc = rt_batch_new(store->loop, &options, &store->adjustments);
	if (rc != RT_OK)
		return rc;
	options.count_max = STOCKS_MAX;
	options.send = stocks_send;
	options.step = "inventory_stock";
	rc = rt_batch_new(store->loop, &options, &store->stocks);
	if (rc != RT_OK)
		return rc;
	/* One by one: only so that few are under way. */
	options.metrics = NULL;
	options.count_max = 1;
	options.in_flight_max = LOOKS_MAX;
	options.send = look_send;
	rc = rt_batch_new(store->loop, &options, &store->looks);
	if (rc != RT_OK)
		return rc;
	options.in_flight_max = LISTS_MAX;
	options.run_size = sizeof(struct list);
	options.send = list_send;
	return rt_batch_new(store->loop, &options, &store->lists);
}

int inventory_store_redis_new(struct rt_loop *loop,
			      const struct inventory_store_redis_options *options,
			      struct inventory_store **ret)
{
	struct store *store = rt_alloc(sizeof(*store));
	struct rt_redis_options redis = *options->redis;
	int rc;

	store->base.ops = &store_ops;
	store->loop = loop;
	rt_list_init(&store->refused);
	store->refuse.run = refuse_run;
	store->events = rt_printf("inventory:{%d}:events", options->partition);
	store->orders = rt_printf("order:{%d}:events", options->partition);
	store->reservations = rt_printf("inventory:{%d}:r", options->partition);
	store->stock = rt_printf("inventory:{%d}:stock", options->partition);
	store->skus = rt_printf("inventory:{%d}:skus", options->partition);
	rc = store_batches(store, options->metrics);
	if (rc != RT_OK)
		goto fail;
	redis.on_state = redis_state;
	redis.user_data = store;
	redis.follow_clock = true;
	redis.metrics = options->metrics;
	rc = rt_redis_new(loop, &redis, &store->redis);
	if (rc != RT_OK)
		goto fail;
	rt_functions_watch_start(&store->functions, loop, store->redis, &inventory_functions);
	*ret = &store->base;
	return RT_OK;
fail:
	store_free(&store->base);
	return rc;
}

struct rt_redis *inventory_store_redis_connection(struct inventory_store *store)
{
	return store_of(store)->redis;
}

const char *inventory_store_redis_problem(const struct inventory_store *store)
{
	return rt_functions_watch_problem(
		&RT_CONTAINER_OF(store, const struct store, base)->functions);
}
