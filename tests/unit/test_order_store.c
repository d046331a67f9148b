/* test_order_store.c - the order store on a real Redis: what it stores, every rule as Redis runs it,
 * and what happens when Redis is full, empty or away. */
#include "base/base.h"
#include "delivered.h"
#include "events/entry.h"
#include "order/order_id.h"
#include "order/order_record.h"
#include "redis/redis.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define OPS     600
#define KEY     "order:{0}:"
#define EVENTS  KEY "events"
#define FOREIGN "inventory:{0}:events"
#define NOW     INT64_C(1764000000123)

struct fixture;
/* What came of an operation, kept beyond its done. */
struct result {
	int calls, status, outcome;
	enum order_state state;
	uint64_t version;
	int64_t age_ms;
	bool known;  /* a record was returned */
	int pending; /* pending entries of FOREIGN when a move with an event has ended */
	struct order_record record;
	char placed[512], detail[512], history[2048];
	char earlier_id[ORDER_ID_LENGTH + 1];
};
struct call {
	char order_id[ORDER_ID_LENGTH + 1];
	union {
		struct order_place_op place;
		struct order_move_op move;
		struct order_drop_op drop;
		struct order_get_op get;
		struct order_timer_op timer;
	} op;
	struct result result;
};
struct fixture {
	struct rt_loop *loop;
	struct rt_store *redis;
	struct order_store *store;
	struct rt_store_queue *trims;
	struct call calls[OPS];
	int count, ended;
	struct order_list_op list;
	char last_id[32];
	struct order_due_op due;
	struct order_tail_op tail;
	struct rt_trim_op trim;
	bool delivering;
	char text[4096]; /* what the last of these brought */
	int64_t number;
};

static struct redis_server shared;
static struct fixture *f;
static int partition_count;        /* 0: 1 */
static struct rt_metrics *metrics; /* of the next store */

/* ---- running ---- */

static bool all_ended(void)
{
	return f->ended == f->count;
}

/* Until everything begun has ended. */
static void run(void)
{
	run_until_so(f->loop, all_ended);
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Adds to f->text. */
static void say(const char *format, ...)
{
	size_t length = strlen(f->text);
	va_list args;

	va_start(args, format);
	vsnprintf(f->text + length, sizeof(f->text) - length, format, args);
	va_end(args);
}

static void ended(void)
{
	f->ended++;
	if (all_ended())
		rt_loop_stop(f->loop);
}

static bool is_ready(void)
{
	return rt_store_problem(f->redis) == NULL;
}

static void run_until_ready(void)
{
	run_until_so(f->loop, is_ready);
}

static void free_store(void)
{
	if (RT_TAKE(f->delivering))
		delivered_stop();
	order_store_free(f->store);
	rt_store_free(f->redis);
	f->store = NULL;
}

static void teardown(void)
{
	if (f->store != NULL)
		free_store();
	rt_loop_free(f->loop);
	free(RT_TAKE(f));
}

/* In the place of the fixture there is. `replicas` must have a step before it is OK. */
static void setup_with(const struct redis_server *server, int64_t stream_length_max, int replicas)
{
	struct rt_redis_options redis = { .unix_path = server->socket, .timeout_ms = 5000 };

	if (f != NULL)
		teardown();
	f = rt_alloc(sizeof(*f));
	CU_ASSERT_FATAL(rt_loop_new(&f->loop) == RT_OK);
	CU_ASSERT_FATAL(rt_store_new(f->loop,
				     &(struct rt_store_options){ .redis = &redis,
								 .functions = &order_functions,
								 .partition_count = partition_count,
								 .metrics = metrics,
								 .replicas = replicas },
				     &f->redis) == RT_OK);
	CU_ASSERT_FATAL(order_store_new(f->loop, &f->redis,
					&(struct order_store_options){ .redis = &redis,
								       .partition_count = 1,
								       .stream_length_max =
									       stream_length_max },
					&f->store) == RT_OK);
	CU_ASSERT_FATAL(rt_store_queue_new(f->redis, &rt_trim_step, NULL, &f->trims) == RT_OK);
	run_until_ready();
}

static void setup_on(const struct redis_server *server, int64_t stream_length_max)
{
	setup_with(server, stream_length_max, 0);
}

static void setup(void)
{
	redis_server_do(&shared, "FLUSHALL");
	setup_on(&shared, 1000);
}

/* ---- operations ---- */

static void keep(struct result *result, const struct order_record *record)
{
	result->known = true;
	result->record = *record;
	snprintf(result->placed, sizeof(result->placed), "%.*s", (int)record->placed_length,
		 (const char *)record->placed);
	snprintf(result->detail, sizeof(result->detail), "%.*s", (int)record->detail_length,
		 record->detail == NULL ? "" : (const char *)record->detail);
	snprintf(result->history, sizeof(result->history), "%.*s",
		 (int)strcspn(record->history, "\n"), record->history);
}

static struct call *begin(const char *order_id)
{
	struct call *call = &f->calls[f->count++];

	CU_ASSERT_FATAL(f->count <= OPS);
	memset(call, 0, sizeof(*call));
	snprintf(call->order_id, sizeof(call->order_id), "%.*s", ORDER_ID_LENGTH, order_id);
	return call;
}

static void placed(struct order_place_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	call->result.calls++;
	call->result.status = status;
	call->result.outcome = (int)op->outcome;
	if (status == RT_OK && op->outcome <= ORDER_PLACED_BEFORE)
		keep(&call->result, &op->record);
	snprintf(call->result.earlier_id, sizeof(call->result.earlier_id), "%s",
		 op->earlier_id == NULL ? "" : op->earlier_id);
	ended();
}

static struct call *place(const char *order_id, const char *content, bool fresh)
{
	struct call *call = begin(order_id);

	call->op.place = (struct order_place_op){ .order_id = call->order_id,
						  .fresh = fresh,
						  .customer_id = "ann",
						  .placed = (const uint8_t *)content,
						  .placed_length = strlen(content),
						  .hold_ms = 60000,
						  .now_ms = NOW,
						  .retry_due_ms = NOW + 2000,
						  .traceparent = "",
						  .done = placed };
	order_store_place(f->store, &call->op.place);
	return call;
}

static int pending_foreign(void)
{
	redisReply *reply = redis_server_command(&shared, "XPENDING %s order", FOREIGN);
	int pending = (int)reply->element[0]->integer;

	freeReplyObject(reply);
	return pending;
}

/* Finishes an event as the service does. */
static void finish(struct rt_event *event, const struct order_move_op *op, int status)
{
	if (status != RT_OK)
		rt_event_retry(event, status);
	else if (op->outcome == ORDER_UNKNOWN)
		rt_event_poison(event, "no such order");
	else
		rt_event_done(event);
}

static void moved(struct order_move_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	call->result.calls++;
	call->result.status = status;
	call->result.outcome = (int)op->outcome;
	call->result.state = op->state;
	call->result.version = op->version;
	call->result.age_ms = op->age_ms;
	if (status == RT_OK && op->want_record && op->outcome != ORDER_UNKNOWN &&
	    op->outcome != ORDER_GONE)
		keep(&call->result, &op->record);
	else if (op->history != NULL)
		snprintf(call->result.history, sizeof(call->result.history), "%.*s",
			 (int)strcspn(op->history, "\n"), op->history);
	if (op->event != NULL) {
		call->result.pending = pending_foreign();
		finish(op->event, op, status);
	}
	ended();
}

/* A new order, whose placing ends so. */
static struct call *put_as(const char *order_id, int status)
{
	struct call *call = place(order_id, "CONTENT", true);

	run();
	CU_ASSERT_EQUAL(call->result.status, status);
	return call;
}

static void put(const char *order_id)
{
	put_as(order_id, RT_OK);
}

/* New orders, one for each letter, together: "ab": ord_a and ord_b. */
static void put_all(const char *letters)
{
	for (; *letters != '\0'; letters++)
		place((char[]){ 'o', 'r', 'd', '_', *letters, '\0' }, "CONTENT", true);
	run();
}

static struct call *begin_move(const char *order_id, enum order_input input)
{
	struct call *call = begin(order_id);

	call->op.move = (struct order_move_op){ .order_id = call->order_id,
						.input = input,
						.now_ms = NOW + 15,
						.retry_due_ms = NOW + 3000,
						.want_record = true,
						.done = moved };
	return call;
}

static void send_move(struct call *call)
{
	order_store_move(f->store, &call->op.move);
}

static struct result *run_move(struct call *call)
{
	send_move(call);
	run();
	return &call->result;
}

/* Redis has done it, or says that it need not be done. */
static void expect_outcome(const struct call *call, int outcome)
{
	CU_ASSERT_EQUAL(call->result.status, RT_OK);
	CU_ASSERT_EQUAL(call->result.outcome, outcome);
}

static struct result *move(const char *order_id, enum order_input input)
{
	return run_move(begin_move(order_id, input));
}

static void move_as(const char *order_id, enum order_input input, int outcome)
{
	CU_ASSERT_EQUAL(move(order_id, input)->outcome, outcome);
}

static void got(struct order_get_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	call->result.calls++;
	call->result.status = status;
	if (status == RT_OK && op->found)
		keep(&call->result, &op->record);
	ended();
}

static struct result *get(const char *order_id)
{
	struct call *call = begin(order_id);

	call->op.get = (struct order_get_op){ .order_id = call->order_id, .done = got };
	order_store_get(f->store, &call->op.get);
	run();
	return &call->result;
}

/* The events of the n-th last entry of the own stream; 1: the last:
 * "OrderPlaced ord_a/1 <time> <data> attempt=2; OrderReserved …" */
static const char *entry(int nth_last)
{
	static char texts[2][1024];
	static int turn;
	char *text = texts[turn++ % 2];
	redisReply *reply =
		redis_server_command(&shared, "XREVRANGE %s + - COUNT %d", EVENTS, nth_last);
	struct rt_entry_event *events = NULL;
	size_t count = 0, length = 0;

	text[0] = '\0';
	if (reply->elements == (size_t)nth_last)
		CU_ASSERT_PTR_NULL(rt_entry_read_reply(reply->element[nth_last - 1]->element[1],
						       &events, &count));
	for (size_t i = 0; i < count; i++) {
		const struct rt_entry_event *event = &events[i];
		struct rt_buf more = { NULL, 0, 0 };

		if (event->attempt > 1)
			rt_buf_printf(&more, " attempt=%u", event->attempt);
		if (event->traceparent.length > 0)
			rt_buf_printf(&more, " traceparent=%.*s", (int)event->traceparent.length,
				      event->traceparent.data);
		if (event->tracestate.length > 0)
			rt_buf_printf(&more, " tracestate=%.*s", (int)event->tracestate.length,
				      event->tracestate.data);
		if (event->actor.length > 0)
			rt_buf_printf(&more, " actor=%.*s", (int)event->actor.length,
				      event->actor.data);
		rt_buf_add(&more, "", 1);
		length += (size_t)snprintf(
			text + length, sizeof(texts[0]) - length, "%s%s %.*s/%" PRIu64 " %s %.*s%s",
			i == 0 ? "" : "; ", event->type.data + strlen("tandem.order.v1."),
			(int)event->subject.length, event->subject.data, event->seq,
			event->time.data, (int)event->data.length,
			event->data.data == NULL ? "" : event->data.data, more.data);
		CU_ASSERT_FATAL(length < sizeof(texts[0]));
		rt_buf_done(&more);
	}
	free(events);
	freeReplyObject(reply);
	return text;
}

/* The stored text of an order. */
static const char *stored(const char *order_id)
{
	static char texts[4][2048];
	static int turn;
	char *text = texts[turn++ % 4];
	redisReply *reply = redis_server_command(&shared, "HGET %sorders %s", KEY, order_id);

	snprintf(text, sizeof(texts[0]), "%s",
		 reply->type == REDIS_REPLY_STRING ? reply->str : "(none)");
	freeReplyObject(reply);
	return text;
}

/* The first line of it. */
static const char *head(const char *order_id)
{
	char *text = (char *)(uintptr_t)stored(order_id);

	text[strcspn(text, "\n")] = '\0';
	return text;
}

static int64_t timer_of(const char *order_id)
{
	redisReply *reply = redis_server_command(&shared, "ZSCORE %stimers %s", KEY, order_id);
	int64_t due = reply->type == REDIS_REPLY_STRING ? strtoll(reply->str, NULL, 10) : -1;

	freeReplyObject(reply);
	return due;
}

/* ---- place ---- */

static long long function_calls(void)
{
	redisReply *reply = redis_server_command(&shared, "INFO commandstats");
	const char *at = strstr(reply->str, "cmdstat_fcall:calls=");
	long long calls = at == NULL ? 0 : strtoll(at + 20, NULL, 10);

	freeReplyObject(reply);
	return calls;
}

static void test_place(void)
{
	struct call *first, *again, *other;

	first = place("ord_a", "CONTENT", false);
	CU_ASSERT_EQUAL(first->result.calls, 0); /* never before the submit has returned */
	run();
	expect_outcome(first, ORDER_PLACED);
	CU_ASSERT_EQUAL(first->result.record.state, ORDER_PENDING);
	CU_ASSERT_EQUAL(first->result.record.version, 1);
	CU_ASSERT_EQUAL(first->result.record.hold_ms, 60000);
	CU_ASSERT_EQUAL(first->result.record.attempt, 1);
	CU_ASSERT_STRING_EQUAL(first->result.history, "placed@1764000000123-1");
	CU_ASSERT_STRING_EQUAL(stored("ord_a"),
			       "PENDING 1 60000 placed@1764000000123-1\n7\nCONTENT");
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderPlaced ord_a/1 2025-11-24T16:00:00.123Z CONTENT");
	CU_ASSERT_EQUAL(timer_of("ord_a"), NOW + 2000);
	CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "ZSCORE %scustomer:ann ord_a", KEY),
			       "1764000000123");

	again = place("ord_a", "CONTENT", false);
	other = place("ord_a", "OTHER", false);
	run();
	expect_outcome(again, ORDER_PLACED_BEFORE);
	CU_ASSERT_STRING_EQUAL(again->result.placed, "CONTENT");
	CU_ASSERT_STRING_EQUAL(again->result.history, "placed@1764000000123-1");
	expect_outcome(other, ORDER_CONFLICT);
	CU_ASSERT_FALSE(other->result.known);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 1);
}

/* Two hundred calls with one request make one order; requests of one batch are kept apart. */
static void test_place_at_once(void)
{
	int made = 0, found = 0, conflicts = 0;

	for (int i = 0; i < 200; i++)
		place("ord_same", i % 10 == 9 ? "OTHER" : "CONTENT", false);
	run();
	for (int i = 0; i < 200; i++) {
		CU_ASSERT_EQUAL(f->calls[i].result.calls, 1);
		CU_ASSERT_EQUAL(f->calls[i].result.status, RT_OK);
		made += f->calls[i].result.outcome == ORDER_PLACED;
		found += f->calls[i].result.outcome == ORDER_PLACED_BEFORE;
		conflicts += f->calls[i].result.outcome == ORDER_CONFLICT;
		if (f->calls[i].result.outcome == ORDER_PLACED_BEFORE)
			CU_ASSERT_STRING_EQUAL(f->calls[i].result.placed, "CONTENT");
	}
	CU_ASSERT_EQUAL(made, 1);
	CU_ASSERT_EQUAL(found, 179);
	CU_ASSERT_EQUAL(conflicts, 20);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 1);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %stimers", KEY), 1);
}

/* What waits at the end of a turn goes together, in order. */
static void test_place_is_batched(void)
{
	long long before = function_calls();
	char order_id[32], wanted[64];

	for (int i = 0; i < 512; i++) {
		snprintf(order_id, sizeof(order_id), "ord_%d", i);
		place(order_id, "CONTENT", true);
	}
	run();
	CU_ASSERT_EQUAL(function_calls() - before, 4);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 4);
	for (int i = 0; i < 512; i++) {
		snprintf(wanted, sizeof(wanted), "placed@%" PRId64 "-%d", NOW, (i / 128 + 1) * 128);
		CU_ASSERT_STRING_EQUAL(f->calls[i].result.history, wanted);
	}
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %scustomer:ann", KEY), 512);
}

static void test_place_with_times_and_traces(void)
{
	struct rt_arena arena = { .chunks = NULL };
	struct order_trace trace;
	struct call *traced = place("ord_a", "", false), *plain = place("ord_b", "B", false);
	struct call *late;

	traced->op.place.placed = (const uint8_t *)"A\0B";
	traced->op.place.placed_length = 3;
	traced->op.place.now_ms = NOW + 7; /* the batch has the latest time */
	traced->op.place.traceparent = "00-trace";
	traced->op.place.tracestate = "rojo=1, congo=2";
	plain->op.place.traceparent = NULL;
	run();
	CU_ASSERT_STRING_EQUAL(traced->result.history, "placed@1764000000130-2");
	CU_ASSERT_STRING_EQUAL(plain->result.history, "placed@1764000000130-2");
	CU_ASSERT_STRING_EQUAL(
		entry(1),
		"OrderPlaced ord_a/1 2025-11-24T16:00:00.130Z A traceparent=00-trace "
		"tracestate=rojo=1, congo=2; OrderPlaced ord_b/1 2025-11-24T16:00:00.130Z B");
	CU_ASSERT_EQUAL(get("ord_a")->record.placed_length, 3);
	/* For what its timer does. */
	trace = order_record_trace(&arena, &get("ord_a")->record);
	CU_ASSERT_STRING_EQUAL(trace.traceparent, "00-trace");
	CU_ASSERT_STRING_EQUAL(trace.tracestate, "rojo=1, congo=2");
	trace = order_record_trace(&arena, &get("ord_b")->record);
	CU_ASSERT_STRING_EQUAL(trace.traceparent, "");
	CU_ASSERT_STRING_EQUAL(trace.tracestate, "");
	rt_arena_done(&arena);
	late = place("ord_c", "C", false); /* the clock stepped back: the stream's time does not */
	run();
	CU_ASSERT_STRING_EQUAL(late->result.history, "placed@1764000000130-3");
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderPlaced ord_c/1 2025-11-24T16:00:00.130Z C");
}

static struct call *place_counted(const char *order_id, int64_t pending_max)
{
	struct call *call = place(order_id, "CONTENT", true);

	call->op.place.pending_max = pending_max;
	call->op.place.now_ms = NOW + f->count;
	return call;
}

/* Of so many orders that are placed together. */
static int placed_of(int count, const char *prefix, int64_t pending_max)
{
	int first = f->count, made = 0;
	char order_id[32];

	for (int i = 0; i < count; i++) {
		snprintf(order_id, sizeof(order_id), "ord_%s%d", prefix, i);
		place_counted(order_id, pending_max);
	}
	run();
	for (int i = first; i < f->count; i++) {
		const struct result *result = &f->calls[i].result;

		CU_ASSERT_EQUAL(result->status, RT_OK);
		CU_ASSERT(result->outcome == ORDER_PLACED || result->outcome == ORDER_TOO_MANY);
		made += result->outcome == ORDER_PLACED;
	}
	return made;
}

/* Whatever ends the wait for inventory makes room; what does not end it makes none. */
static void test_pending_orders_are_bounded(void)
{
	struct call *again, *other, *more;

	CU_ASSERT_EQUAL(placed_of(5, "p", 3), 3);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "HLEN %sorders", KEY), 3);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %stimers", KEY), 3);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %scustomer:ann", KEY), 3);
	CU_ASSERT_EQUAL(placed_of(1, "q", 3), 0);
	/* Which limits others: the same order again, another customer, one whose orders are not counted. */
	again = place("ord_p0", "CONTENT", false);
	again->op.place.pending_max = 3;
	other = place_counted("ord_o", 3);
	other->op.place.customer_id = "bob";
	other->op.place.traceparent = "00-trace";
	more = place("ord_m", "CONTENT", true);
	run();
	expect_outcome(again, ORDER_PLACED_BEFORE);
	expect_outcome(other, ORDER_PLACED);
	expect_outcome(more, ORDER_PLACED);
	CU_ASSERT_PTR_NOT_NULL(strstr(entry(1), "ord_o/1"));
	CU_ASSERT_PTR_NOT_NULL(strstr(entry(1), "traceparent=00-trace"));
	/* A cancelled order still waits for inventory; one that is reserved, or released, does not. */
	move_as("ord_p0", ORDER_IN_CANCEL, ORDER_MOVED);
	CU_ASSERT_EQUAL(placed_of(1, "q", 3), 0);
	move_as("ord_p1", ORDER_IN_INVENTORY_RESERVED, ORDER_MOVED);
	CU_ASSERT_EQUAL(placed_of(2, "q", 3), 1);
	move_as("ord_p0", ORDER_IN_INVENTORY_RELEASED, ORDER_MOVED);
	CU_ASSERT_EQUAL(placed_of(2, "r", 3), 1);
	CU_ASSERT_EQUAL(placed_of(1, "s", 3), 0);
	/* One that is confirmed waits again, but it was not placed just now. */
	move_as("ord_p1", ORDER_IN_CONFIRM, ORDER_MOVED);
	CU_ASSERT_EQUAL(placed_of(1, "s", 4), 1);
	CU_ASSERT(redis_server_int(&shared, "PTTL %spending:ann", KEY) > 3500000);
}

/* The set does not grow with orders that are answered, and many that are not do not hide those that are. */
static void test_many_pending_orders(void)
{
	char order_id[32];

	CU_ASSERT_EQUAL(placed_of(200, "a", 300), 200);
	for (int i = 0; i < 100; i++) {
		snprintf(order_id, sizeof(order_id), "ord_a%d", 100 + i);
		begin_move(order_id, ORDER_IN_INVENTORY_RESERVED);
		order_store_move(f->store, &f->calls[f->count - 1].op.move);
	}
	run();
	/* The first hundred wait: 20 looked at for each order that comes, and the hundred behind them are found. */
	for (int i = 0; i < 40; i++) {
		snprintf(order_id, sizeof(order_id), "b%d", i);
		CU_ASSERT_EQUAL(placed_of(1, order_id, 300), 1);
	}
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %spending:ann", KEY), 140);
	CU_ASSERT_EQUAL(placed_of(60, "c", 150), 10);
}

/* Who did what, step by step: "placed: operator olga (token), confirmed: , …". */
static const char *actors(const struct order_record *record)
{
	static char text[512];
	struct rt_arena arena = { .chunks = NULL };
	struct order_history history;
	struct order_history_item item;
	size_t length = 0;

	text[0] = '\0';
	order_history_begin(&history, record->history);
	while (order_history_next(&history, &item)) {
		const char *word = order_event_word(item.event);

		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s: %s",
					   length == 0 ? "" : ", ",
					   word == NULL ? ORDER_AGAIN_WORD : word,
					   order_history_actor(&arena, record, &item));
		CU_ASSERT_FATAL(length < sizeof(text));
	}
	rt_arena_done(&arena);
	return text;
}

#define ANNA "customer Zoë (key 9f86d081)"

/* Some of a call are placed by somebody who is known. Who repeats a request changes nothing. */
static void test_placed_by(void)
{
	struct call *calls[4];

	calls[0] = place("ord_a", "CONTENT", false);
	calls[1] = place("ord_b", "CONTENT", true);
	calls[2] = place("ord_a", "CONTENT", false);
	calls[3] = place("ord_c", "OTHER", true);
	calls[1]->op.place.actor = ANNA;
	calls[2]->op.place.actor = ANNA;
	calls[3]->op.place.actor = "operator olga (token)";
	calls[3]->op.place.traceparent = "00-c";
	calls[3]->op.place.tracestate = "";
	run();
	expect_outcome(calls[2], ORDER_PLACED_BEFORE);
	CU_ASSERT_STRING_EQUAL(
		entry(1), "OrderPlaced ord_a/1 2025-11-24T16:00:00.123Z CONTENT; "
			  "OrderPlaced ord_b/1 2025-11-24T16:00:00.123Z CONTENT actor=" ANNA
			  "; OrderPlaced ord_c/1 2025-11-24T16:00:00.123Z OTHER traceparent=00-c "
			  "actor=operator olga (token)");
	CU_ASSERT_STRING_EQUAL(stored("ord_a"),
			       "PENDING 1 60000 placed@1764000000123-3\n7\nCONTENT");
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_a")->record), "placed: ");
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_b")->record), "placed: " ANNA);
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_c")->record), "placed: operator olga (token)");
	CU_ASSERT_STRING_EQUAL(get("ord_c")->placed, "OTHER");
	calls[0] = place("ord_b", "CONTENT", false);
	calls[0]->op.place.actor = "operator olga (token)";
	run();
	expect_outcome(calls[0], ORDER_PLACED_BEFORE);
	CU_ASSERT_STRING_EQUAL(actors(&calls[0]->result.record), "placed: " ANNA);
}

/* One of a call is one too many of its customer: the others' actors stay theirs. */
static void test_placed_by_with_a_bound(void)
{
	struct call *calls[3] = { place_counted("ord_a", 1), place_counted("ord_b", 1),
				  place("ord_c", "OTHER", true) };

	calls[0]->op.place.actor = calls[1]->op.place.actor = ANNA;
	calls[2]->op.place.actor = "operator olga (token)";
	run();
	expect_outcome(calls[1], ORDER_TOO_MANY);
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_a")->record), "placed: " ANNA);
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_c")->record), "placed: operator olga (token)");
	CU_ASSERT_PTR_NOT_NULL(strstr(entry(1), "CONTENT actor=" ANNA "; OrderPlaced ord_c/1"));
}

static struct result *move_by(const char *order_id, enum order_input input, const char *actor,
			      const ProtobufCMessage *data)
{
	struct call *call = begin_move(order_id, input);
	struct rt_arena arena = { .chunks = NULL };
	struct result *result;

	call->op.move.actor = actor;
	if (data != NULL)
		call->op.move.data = order_pack(&arena, data, &call->op.move.data_length);
	result = run_move(call);
	rt_arena_done(&arena);
	return result;
}

/* A step keeps who did those before it, also when the order gets its detail; a repeat says the detail alone. */
static void test_moved_by(void)
{
	Tandem__Order__V1__OrderCancelled cancelled = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;
	Tandem__Order__V1__OrderExpired expired = TANDEM__ORDER__V1__ORDER_EXPIRED__INIT;
	struct call *call;

	cancelled.reason = expired.reason = (char *)(uintptr_t) "no tea";
	for (const char *at = "abcd"; *at != '\0'; at++) {
		call = place((char[]){ 'o', 'r', 'd', '_', *at, '\0' }, "CONTENT", true);
		call->op.place.actor = *at == 'd' ? "" : ANNA;
		run();
		move((char[]){ 'o', 'r', 'd', '_', *at, '\0' }, ORDER_IN_INVENTORY_RESERVED);
	}
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderReserved ord_d/2 2025-11-24T16:00:00.138Z ");
	/* Confirmed. */
	move_by("ord_a", ORDER_IN_CONFIRM, "operator CN:ops (certificate)", NULL);
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderConfirmed ord_a/3 2025-11-24T16:00:00.138Z  "
					 "actor=operator CN:ops (certificate)");
	/* Again, by somebody else: it is confirmed already. */
	CU_ASSERT_EQUAL(move_by("ord_a", ORDER_IN_CONFIRM, "operator other", NULL)->outcome,
			ORDER_STAYED);
	move("ord_a", ORDER_IN_REQUEST_UNANSWERED);
	CU_ASSERT_STRING_EQUAL(entry(1),
			       "OrderConfirmed ord_a/3 2025-11-24T16:00:00.138Z  attempt=2");
	move("ord_a", ORDER_IN_INVENTORY_COMMITTED);
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_a")->record),
			       "placed: " ANNA
			       ", reserved: inventory, confirmed: operator CN:ops (certificate), "
			       "again: timer, settled: inventory");
	/* Cancelled, with a reason. */
	move_by("ord_b", ORDER_IN_CANCEL, "support sue", &cancelled.base);
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderCancelled ord_b/3 2025-11-24T16:00:00.138Z "
					 "\n\006no tea actor=support sue");
	move("ord_b", ORDER_IN_REQUEST_UNANSWERED);
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderCancelled ord_b/3 2025-11-24T16:00:00.138Z "
					 "\n\006no tea attempt=2");
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_b")->record),
			       "placed: " ANNA ", reserved: inventory, cancelled: support sue, "
			       "again: timer");
	/* Expired: nobody asked for it. */
	move_by("ord_c", ORDER_IN_HOLD_RAN_OUT, NULL, &expired.base);
	CU_ASSERT_STRING_EQUAL(entry(1),
			       "OrderExpired ord_c/3 2025-11-24T16:00:00.138Z \n\006no tea");
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_c")->record),
			       "placed: " ANNA ", reserved: inventory, expired: timer");
	/* Placed by nobody who is known, cancelled without a reason. */
	move_by("ord_d", ORDER_IN_CANCEL, ANNA, NULL);
	CU_ASSERT_STRING_EQUAL(entry(1),
			       "OrderCancelled ord_d/3 2025-11-24T16:00:00.138Z  actor=" ANNA);
	CU_ASSERT_STRING_EQUAL(actors(&get("ord_d")->record),
			       "placed: , reserved: inventory, cancelled: " ANNA);
	for (const char *at = "abcd"; *at != '\0'; at++)
		CU_ASSERT_STRING_EQUAL(get((char[]){ 'o', 'r', 'd', '_', *at, '\0' })->placed,
				       "CONTENT");
}

/* What was damaged by hand is not shown, and keeps nobody from going on. */
static void test_damaged_actors(void)
{
	static const char *const rests[] = { "z",
					     "z\xff",
					     "z\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
					     "zzzz",
					     "z\x05\x08\x01\x12\x01\xff",
					     "z\x01x" };

	for (size_t i = 0; i < RT_LENGTH(rests); i++) {
		redis_server_do(&shared, "FLUSHALL");
		redis_server_do(&shared, "HSET %sorders ord_a %s%s", KEY,
				"RESERVED 2 60000 placed@1764000000100-7 reserved+1-8\n7\nCONTENT",
				rests[i]);
		CU_ASSERT_STRING_EQUAL(actors(&get("ord_a")->record),
				       "placed: , reserved: inventory");
		CU_ASSERT_EQUAL(move_by("ord_a", ORDER_IN_CANCEL, ANNA, NULL)->outcome,
				ORDER_MOVED);
		CU_ASSERT_EQUAL(move("ord_a", ORDER_IN_REQUEST_UNANSWERED)->outcome, ORDER_MOVED);
		CU_ASSERT_STRING_EQUAL(get("ord_a")->placed, "CONTENT");
	}
}

/* A call may have the same id several times, or one that was placed long ago. */
static void test_place_repeats_in_one_call(void)
{
	struct call *calls[6];

	put("ord_old");
	calls[0] = place("ord_a", "CONTENT", false);
	calls[1] = place("ord_a", "CONTENT", false);
	calls[2] = place("ord_a", "OTHER", false);
	calls[3] = place("ord_old", "CONTENT", false);
	calls[4] = place("ord_b", "OTHER", true);
	calls[5] = place("ord_old", "OTHER", false);
	run();
	expect_outcome(calls[0], ORDER_PLACED);
	expect_outcome(calls[1], ORDER_PLACED_BEFORE);
	expect_outcome(calls[2], ORDER_CONFLICT);
	expect_outcome(calls[3], ORDER_PLACED_BEFORE);
	expect_outcome(calls[4], ORDER_PLACED);
	expect_outcome(calls[5], ORDER_CONFLICT);
	CU_ASSERT_STRING_EQUAL(calls[1]->result.history, "placed@1764000000123-3");
	CU_ASSERT_STRING_EQUAL(calls[3]->result.history, "placed@1764000000123-1");
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderPlaced ord_a/1 2025-11-24T16:00:00.123Z CONTENT; "
					 "OrderPlaced ord_b/1 2025-11-24T16:00:00.123Z OTHER");
	CU_ASSERT_STRING_EQUAL(stored("ord_a"),
			       "PENDING 1 60000 placed@1764000000123-3\n7\nCONTENT");
}

#define LARGE 60000

/* Large contents are stored whole, and few go in a call, since all go into one entry. */
static void test_large_contents(void)
{
	static char content[LARGE + 1];
	struct order_record record;
	long long before;
	redisReply *reply;

	memset(content, 'x', LARGE);
	before = function_calls();
	for (int i = 0; i < 6; i++)
		place((char[]){ 'o', 'r', 'd', '_', (char)('a' + i), '\0' }, content, true);
	run();
	for (int i = 0; i < 6; i++)
		expect_outcome(&f->calls[i], ORDER_PLACED);
	CU_ASSERT_EQUAL(function_calls() - before, 3); /* of 128 kB at most */
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 3);
	record = get("ord_f")->record;
	CU_ASSERT_EQUAL(record.placed_length, LARGE);
	move_as("ord_f", ORDER_IN_REQUEST_UNANSWERED, ORDER_MOVED);
	reply = redis_server_command(&shared, "XREVRANGE %s + - COUNT 1", EVENTS);
	struct rt_entry_event *events;
	size_t count = 0;
	CU_ASSERT_PTR_NULL(rt_entry_read_reply(reply->element[0]->element[1], &events, &count));
	CU_ASSERT_FATAL(count == 1 && events[0].data.length == LARGE);
	CU_ASSERT_EQUAL(memcmp(events[0].data.data, content, LARGE), 0);
	free(events);
	freeReplyObject(reply);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "HSTRLEN %sorders ord_f", KEY),
			(long long)(LARGE + strlen(head("ord_f")) + strlen("\n60000\n")));
}

#define TWELVE "abcdefghijkl"

/* The number of calls in which twelve orders move that are ready at the same time. */
static int calls_of_moves(enum order_input input)
{
	long long before = function_calls();
	int first = f->count;

	for (const char *at = TWELVE; *at != '\0'; at++)
		send_move(begin_move((char[]){ 'o', 'r', 'd', '_', *at, '\0' }, input));
	run();
	for (int i = first; i < f->count; i++)
		expect_outcome(&f->calls[i], ORDER_MOVED);
	return (int)(function_calls() - before);
}

/* A move reads and writes the whole order: of large ones few go in a call, as soon as their size is known. */
static void test_moves_of_large_orders(void)
{
	static char content[20000 + 1];

	put_all(TWELVE);
	CU_ASSERT_EQUAL(calls_of_moves(ORDER_IN_INVENTORY_RESERVED), 2); /* of unknown size */
	for (const char *at = TWELVE; *at != '\0'; at++) {
		const char order_id[] = { 'o', 'r', 'd', '_', *at, '\0' };

		move_as(order_id, ORDER_IN_HOLD_RAN_OUT, ORDER_MOVED);
		move_as(order_id, ORDER_IN_INVENTORY_RELEASED, ORDER_MOVED);
	}
	CU_ASSERT_EQUAL(calls_of_moves(ORDER_IN_INVENTORY_RESERVED), 1); /* small */
	redis_server_do(&shared, "DEL %sorders %stimers", KEY, KEY);
	memset(content, 'x', sizeof(content) - 1);
	for (const char *at = TWELVE; *at != '\0'; at++)
		place((char[]){ 'o', 'r', 'd', '_', *at, '\0' }, content, true);
	run();
	(void)calls_of_moves(ORDER_IN_INVENTORY_RESERVED);
	CU_ASSERT_EQUAL(calls_of_moves(ORDER_IN_CANCEL), 2); /* of 128 kB at most */
}

/* The answer at the time 1050: events, age of the oldest, events ever. */
static const char *behind(void)
{
	static char text[64];
	redisReply *reply =
		redis_server_command(&shared, "FCALL order_behind_%s 1 %s 1050 inventory 0",
				     order_functions.version, EVENTS);

	snprintf(text, sizeof(text), "%lld %lld %lld", reply->element[0]->integer,
		 reply->element[1]->integer, reply->element[2]->integer);
	freeReplyObject(reply);
	return text;
}

static void test_how_far_a_group_is_behind(void)
{
	CU_ASSERT_STRING_EQUAL(behind(), "0 0 0");
	redis_server_do(&shared, "XADD %s 1000-1 T a/1", EVENTS);
	redis_server_do(&shared, "XADD %s 1020-3 T %s", EVENTS, "b/1 c/1");
	CU_ASSERT_STRING_EQUAL(behind(), "0 0 3");
	redis_server_do(&shared, "XGROUP CREATE %s inventory 0", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "3 50 3");
	redis_server_do(&shared, "XREADGROUP GROUP inventory c COUNT 1 STREAMS %s >", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "2 50 3");
	redis_server_do(&shared, "XACK %s inventory 1000-1", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "2 30 3");
	redis_server_do(&shared, "XREADGROUP GROUP inventory c COUNT 1 STREAMS %s >", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "0 30 3");
	redis_server_do(&shared, "XACK %s inventory 1020-3", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "0 0 3");
	redis_server_do(&shared, "XADD %s 1040-4 T d/1", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "1 10 4");
	/* Deleted by hand, it counts until something follows. */
	redis_server_do(&shared, "XDEL %s 1040-4", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "1 0 4");
	/* A position before the first entry, and one that is not of this stream's numbers. */
	redis_server_do(&shared, "XTRIM %s MINID 1020-3", EVENTS);
	redis_server_do(&shared, "XGROUP SETID %s inventory 1000-1", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "3 30 4");
	redis_server_do(&shared, "XGROUP SETID %s inventory 1030-9", EVENTS);
	CU_ASSERT_STRING_EQUAL(behind(), "0 0 4");
}

/* The stream ends an hour ahead of the clock: its ids continue there; records and events have the time. */
static void test_a_stream_ahead_of_the_clock(void)
{
	const int64_t ahead = NOW + 3600000;
	struct call *call;
	char wanted[160];

	redis_server_do(&shared, "XADD %sevents %" PRId64 "-7 foreign entry", KEY, ahead);
	call = place("ord_a", "A", false);
	run();
	snprintf(wanted, sizeof(wanted), "placed@%" PRId64 "-8~%" PRId64, ahead, NOW);
	CU_ASSERT_STRING_EQUAL(call->result.history, wanted);
	CU_ASSERT_STRING_EQUAL(head("ord_a") + strlen("PENDING 1 60000 "), wanted);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCOUNT %scustomer:ann %" PRId64 " %" PRId64, KEY,
					 NOW, NOW),
			1);
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderPlaced ord_a/1 2025-11-24T16:00:00.123Z A");
	call = begin_move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	run_move(call);
	snprintf(wanted, sizeof(wanted), "placed@%" PRId64 "-8~%" PRId64 " reserved+0-9~%" PRId64,
		 ahead, NOW, NOW + 15);
	CU_ASSERT_STRING_EQUAL(call->result.history, wanted);
	CU_ASSERT_EQUAL(call->op.move.age_ms, 15);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCOUNT %stimers %" PRId64 " %" PRId64, KEY,
					 NOW + 15 + 60000, NOW + 15 + 60000),
			1);
}

/* The clocks of two instances differ a little: the event has the time of its entry's id, as the record has, also at the end of
 * a leap year's February. Else the archive, which knows events alone, would show another time of the order. */
static void test_a_stream_a_little_ahead_of_the_clock(void)
{
	static const struct {
		int64_t ahead;
		const char *order_id, *time;
	} rows[] = {
		{ NOW + 1, "ord_a", "2025-11-24T16:00:00.124Z" },
		{ NOW + 1000, "ord_b", "2025-11-24T16:00:01.123Z" },
		{ INT64_C(1830297600000), "ord_c", "2028-01-01T00:00:00.000Z" },
		{ INT64_C(1835481599999), "ord_d", "2028-02-29T23:59:59.999Z" },
		{ INT64_C(1835481600000), "ord_e", "2028-03-01T00:00:00.000Z" },
	};

	for (int i = 0; i < (int)RT_LENGTH(rows); i++) {
		char wanted[160];
		struct call *call;

		redis_server_do(&shared, "XADD %sevents %" PRId64 "-%d foreign entry", KEY,
				rows[i].ahead, 2 * i + 1);
		call = place(rows[i].order_id, "A", false);
		call->op.place.now_ms = rows[i].ahead - (i == 0 ? 1 : 1000);
		run();
		snprintf(wanted, sizeof(wanted), "placed@%" PRId64 "-%d", rows[i].ahead, 2 * i + 2);
		CU_ASSERT_STRING_EQUAL(call->result.history, wanted);
		snprintf(wanted, sizeof(wanted), "OrderPlaced %s/1 %s A", rows[i].order_id,
			 rows[i].time);
		CU_ASSERT_STRING_EQUAL(entry(1), wanted);
	}
}

/* ---- move ---- */

static void put_state(enum order_state state)
{
	char text[128];

	snprintf(text, sizeof(text), "%s 4 60000 placed@1764000000100-7\n7\nCONTENTDETAIL",
		 order_state_text(state));
	redis_server_do(&shared, "FLUSHALL");
	redis_server_do(&shared, "HSET %sorders ord_a %s", KEY, text);
	redis_server_do(&shared, "ZADD %stimers 77 ord_a", KEY);
}

/* What is asked again is said in the same words. */
static const char *data_of(const struct order_rule *rule)
{
	switch (rule->event) {
	case ORDER_EV_PLACED:
		return "CONTENT";
	case ORDER_EV_REJECTED:
	case ORDER_EV_CANCELLED:
	case ORDER_EV_EXPIRED:
	case ORDER_EV_RETURNED:
		return rule->verdict == ORDER_MOVES ? "DATA" : "DETAIL";
	default:
		return "";
	}
}

static void expect_published(const struct order_rule *rule, const char *row)
{
	char wanted[256];
	bool moves = rule->verdict == ORDER_MOVES;

	snprintf(wanted, sizeof(wanted), "%s ord_a/%d 2025-11-24T16:00:00.138Z %s%s",
		 order_event_type(rule->event) + strlen("tandem.order.v1."), moves ? 5 : 4,
		 data_of(rule), moves ? "" : " attempt=2");
	TEST_ROW(strcmp(entry(1), wanted) == 0, row);
	if (strcmp(entry(1), wanted) != 0)
		printf("\n    %s\n    %s", entry(1), wanted);
	TEST_ROW(redis_server_int(&shared, "XLEN %s", EVENTS) == 1, row);
}

/* The stored text has the same content as the record in the answer. */
static void expect_stored(const struct order_rule *rule, const struct result *result,
			  const char *row)
{
	char wanted[2560];

	snprintf(wanted, sizeof(wanted), "%s %d 60000%s %s\n7\nCONTENT%s",
		 order_state_text(rule->to), rule->verdict == ORDER_MOVES ? 5 : 4,
		 rule->verdict == ORDER_AGAIN ? " attempt=2" : "", result->history,
		 strcmp(data_of(rule), "DATA") == 0 ? "DATA" : "DETAIL");
	TEST_ROW(strcmp(stored("ord_a"), wanted) == 0, row);
	TEST_ROW(strcmp(result->detail, strcmp(data_of(rule), "DATA") == 0 ? "DATA" : "DETAIL") ==
			 0,
		 row);
	TEST_ROW(result->record.attempt == (rule->verdict == ORDER_AGAIN ? 2 : 1), row);
}

static void expect_rule(const struct order_rule *rule, const struct result *result)
{
	static const int outcomes[] = { [ORDER_MOVES] = ORDER_MOVED,
					[ORDER_AGAIN] = ORDER_MOVED,
					[ORDER_STAYS] = ORDER_STAYED,
					[ORDER_REFUSES] = ORDER_REFUSED };
	static const int64_t dues[] = { [ORDER_TIMER_KEEP] = 77,
					[ORDER_TIMER_NONE] = -1,
					[ORDER_TIMER_RETRY] = NOW + 3000,
					[ORDER_TIMER_HOLD] = NOW + 15 + 60000 };
	uint64_t version = rule->verdict == ORDER_MOVES ? 5 : 4;
	char row[64];

	snprintf(row, sizeof(row), "state %d, input %d", rule->state, rule->input);
	TEST_ROW(result->status == RT_OK, row);
	TEST_ROW(result->outcome == outcomes[rule->verdict], row);
	TEST_ROW(result->state == rule->to, row);
	TEST_ROW(result->version == version, row);
	TEST_ROW(result->known && result->record.state == rule->to, row);
	TEST_ROW(result->record.version == version, row);
	TEST_ROW(strcmp(result->placed, "CONTENT") == 0, row);
	expect_stored(rule, result, row);
	TEST_ROW(timer_of("ord_a") == dues[rule->timer], row);
	if (rule->event == ORDER_EV_NOTHING) {
		TEST_ROW(redis_server_int(&shared, "EXISTS %s", EVENTS) == 0, row);
		TEST_ROW(strcmp(result->history, "placed@1764000000100-7") == 0, row);
	} else {
		TEST_ROW(result->age_ms == 38, row);
		expect_published(rule, row);
	}
}

/* Redis runs the same rows as the table says. */
static void test_every_rule(void)
{
	for (int state = 0; state < ORDER_STATE_COUNT; state++)
		for (int input = 0; input < ORDER_INPUT_COUNT; input++) {
			const struct order_rule *rule =
				order_rule((enum order_state)state, (enum order_input)input);
			struct call *call;

			if (rule->event == ORDER_EV_EXTENDED || rule->event == ORDER_EV_DROPPED)
				continue; /* test_extensions, test_dropping */
			put_state((enum order_state)state);
			call = begin_move("ord_a", (enum order_input)input);
			if (rule->verdict == ORDER_MOVES) {
				call->op.move.data = (const uint8_t *)"DATA";
				call->op.move.data_length = 4;
			}
			run_move(call);
			expect_rule(rule, &call->result);
		}
}

static void dropped(struct order_drop_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	call->result.status = status;
	call->result.outcome = op->dropped;
	ended();
}

static bool is_dropped(const char *order_id, uint64_t version, int64_t kept_ms)
{
	struct call *call = begin(order_id);

	call->op.drop = (struct order_drop_op){ .order_id = call->order_id,
						.version = version,
						.kept_ms = kept_ms,
						.now_ms = NOW + 15,
						.done = dropped };
	order_store_drop(f->store, &call->op.drop);
	run();
	CU_ASSERT_EQUAL(call->result.status, RT_OK);
	return call->result.outcome != 0;
}

/* An order that the archive has is dropped when the rules say so; the last thing that happened to it is 8 ms ago. */
static void test_dropping(void)
{
	static const char event[] = "OrderDropped ord_a/5 2025-11-24T16:00:00.138Z ";
	char text[256];

	for (int state = 0; state < ORDER_STATE_COUNT; state++) {
		bool drops = order_rule((enum order_state)state, ORDER_IN_ARCHIVED)->verdict ==
			     ORDER_DROPS;
		struct call *gone, *kept;

		CU_ASSERT_EQUAL(drops, order_state_settled((enum order_state)state));
		redis_server_do(&shared, "FLUSHALL");
		snprintf(text, sizeof(text),
			 "%s 4 60000 placed@1764000000100-7 settled+30-9\n7\n\n\5\n\3annDETAIL",
			 order_state_text((enum order_state)state));
		redis_server_do(&shared, "HSET %sorders ord_a %s", KEY, text);
		redis_server_do(&shared, "ZADD %scustomer:ann 1 ord_a", KEY);
		CU_ASSERT_FALSE(is_dropped("ord_a", 3, 0)); /* another version */
		CU_ASSERT_FALSE(is_dropped("ord_a", 4, 9)); /* too young */
		CU_ASSERT_EQUAL(redis_server_int(&shared, "EXISTS %s", EVENTS), 0);
		CU_ASSERT_EQUAL(is_dropped("ord_a", 4, 8), drops);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "HEXISTS %sorders ord_a", KEY), !drops);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "EXISTS %scustomer:ann", KEY), !drops);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "EXISTS %s", EVENTS), drops);
		if (!drops)
			continue;
		CU_ASSERT_STRING_EQUAL(entry(1), event);
		/* Said again to whoever has missed it. */
		CU_ASSERT_FALSE(is_dropped("ord_a", 4, 8));
		CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 2);
		CU_ASSERT_STRING_EQUAL(entry(2), event);
		/* What inventory says of it late is no fault. */
		put("ord_b");
		gone = begin_move("ord_a", ORDER_IN_INVENTORY_RELEASED);
		kept = begin_move("ord_b", ORDER_IN_INVENTORY_RESERVED);
		send_move(gone);
		run_move(kept);
		expect_outcome(gone, ORDER_GONE);
		expect_outcome(kept, ORDER_MOVED);
		CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "GET %sdropped", KEY),
				       "1764000000100");
	}
}

/* A request is not placed again if its order may have been dropped, unless the archive says that it was not. */
static void test_repeats_of_dropped_orders(void)
{
	static const char request[] = "ord_ha6bwoz5oh7o2dgv3qbsnp7rmq";
	static const char content[] = "\n\5\n\3ann";
	char fresh[ORDER_ID_LENGTH + 1];
	uint8_t random[10] = { 1, 2, 3 };
	struct call *again, *other, *asked;

	order_id_new(NOW, random, fresh);
	place(request, content, false);
	place(fresh, content, true);
	run();
	redis_server_do(&shared, "HSET %sorders %s %s %s %s", KEY, request,
			"CANCELLED 1 60000 placed@1764000000123-1\n7\n\n\5\n\3ann", fresh,
			"CANCELLED 1 60000 placed@1764000000123-1\n7\n\n\5\n\3ann");
	CU_ASSERT_TRUE(is_dropped(fresh, 1, 0));
	CU_ASSERT_EQUAL(redis_server_int(&shared, "EXISTS %sdropped_ids", KEY), 0);
	CU_ASSERT_TRUE(is_dropped(request, 1, 0));
	CU_ASSERT_EQUAL(redis_server_int(&shared, "BITCOUNT %sdropped_ids", KEY), 3);
	again = place(request, content, false);
	other = place("ord_hb6bwoz5oh7o2dgv3qbsnp7rmq", content, false);
	run();
	expect_outcome(again, ORDER_PERHAPS_DROPPED);
	CU_ASSERT_STRING_EQUAL(again->result.earlier_id, request);
	expect_outcome(other, ORDER_PLACED);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "HEXISTS %sorders %s", KEY, request), 0);
	asked = place(request, content, false);
	asked->op.place.asked = true;
	run();
	expect_outcome(asked, ORDER_PLACED);
	again = place(request, content, false);
	run();
	expect_outcome(again, ORDER_PLACED_BEFORE);
}

/* RESERVED at …101 for a minute; the timer is at 77. */
#define HELD_FROM  INT64_C(1764000000101)
#define HELD_UNTIL (HELD_FROM + 60000)

static void put_reserved(const char *history)
{
	redis_server_do(&shared, "FLUSHALL");
	redis_server_do(&shared, "HSET %sorders ord_a %s", KEY, history);
	redis_server_do(&shared, "ZADD %stimers 77 ord_a", KEY);
}

static struct result *extend(int64_t until_ms, int64_t max_ms, uint64_t expected_version)
{
	struct call *call = begin_move("ord_a", ORDER_IN_EXTEND);

	call->op.move.hold_until_ms = until_ms;
	call->op.move.hold_max_ms = max_ms;
	call->op.move.expected_version = expected_version;
	call->op.move.data = (const uint8_t *)"DATA";
	call->op.move.data_length = 4;
	return run_move(call);
}

static void test_extensions(void)
{
	struct result *result;

	put_reserved("RESERVED 2 60000 placed@1764000000100-7 reserved+1-8\n7\nCONTENT");
	/* It lasts so long already. */
	for (int64_t less = 0; less < 30000; less += 10000) {
		result = extend(HELD_UNTIL - less, 90000, 0);
		CU_ASSERT(result->outcome == ORDER_STAYED && result->version == 2);
		CU_ASSERT(result->record.hold_ms == 60000 && timer_of("ord_a") == 77);
	}
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 20000, 90000, 1)->outcome, ORDER_MISMATCH);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "EXISTS %s", EVENTS), 0);
	/* Longer; and once more, as a repeated call does. */
	for (int i = 0; i < 2; i++) {
		result = extend(HELD_UNTIL + 20000, 90000, 0);
		CU_ASSERT_EQUAL(result->outcome, i == 0 ? ORDER_MOVED : ORDER_STAYED);
		CU_ASSERT(result->state == ORDER_RESERVED && result->version == 3);
		CU_ASSERT_EQUAL(result->record.hold_ms, 80000);
		CU_ASSERT_EQUAL(timer_of("ord_a"), HELD_UNTIL + 20000);
		CU_ASSERT_STRING_EQUAL(head("ord_a"), "RESERVED 3 80000 placed@1764000000100-7 "
						      "reserved+1-8 extended+38-1");
	}
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderHoldExtended ord_a/3 2025-11-24T16:00:00.138Z DATA");
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 1);
	CU_ASSERT_STRING_EQUAL(result->detail, "");
	/* To the limit, and not beyond. */
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 30001, 90000, 0)->outcome, ORDER_BEYOND);
	CU_ASSERT_EQUAL(timer_of("ord_a"), HELD_UNTIL + 20000);
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 30000, 90000, 3)->outcome, ORDER_MOVED);
	/* What follows is as ever. */
	move_as("ord_a", ORDER_IN_CONFIRM, ORDER_MOVED);
	move_as("ord_a", ORDER_IN_INVENTORY_COMMITTED, ORDER_MOVED);
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 30000, 90000, 0)->outcome, ORDER_REFUSED);
	CU_ASSERT_EQUAL(timer_of("ord_a"), -1);
}

/* What the end of a hold is counted from, and what bounds their number. */
static void test_extensions_of_other_orders(void)
{
	/* The stream's ids are ahead of the time, which stands behind them. */
	put_reserved("RESERVED 2 60000 placed@1764000009000-7~1764000000100 "
		     "reserved+1-8~1764000000101\n7\nCONTENT");
	CU_ASSERT_EQUAL(extend(HELD_UNTIL, 90000, 0)->outcome, ORDER_STAYED);
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 1, 90000, 0)->record.hold_ms, 60001);
	put_reserved("RESERVED 21 60000 placed@1764000000100-7 reserved+1-8\n7\nCONTENT");
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 1, 90000, 0)->outcome, ORDER_MOVED);
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 2, 90000, 0)->outcome, ORDER_BEYOND);
	/* It does not say since when it is held. */
	put_reserved("RESERVED 2 60000 placed@1764000000100-7\n7\nCONTENT");
	CU_ASSERT_EQUAL(extend(HELD_UNTIL + 1, 90000, 0)->outcome, ORDER_UNKNOWN);
}

/* A batch that extends and confirms goes on from what it has made of the order. */
static void test_extension_in_a_batch(void)
{
	struct call *calls[3];

	put_reserved("RESERVED 2 60000 placed@1764000000100-7 reserved+1-8\n7\nCONTENT");
	for (int i = 0; i < 2; i++) {
		calls[i] = begin_move("ord_a", ORDER_IN_EXTEND);
		calls[i]->op.move.hold_until_ms = HELD_UNTIL + 1;
		calls[i]->op.move.hold_max_ms = 90000;
	}
	calls[2] = begin_move("ord_a", ORDER_IN_CONFIRM);
	for (int i = 0; i < 3; i++)
		send_move(calls[i]);
	run();
	CU_ASSERT_EQUAL(calls[0]->result.outcome, ORDER_MOVED);
	CU_ASSERT_EQUAL(calls[1]->result.outcome, ORDER_STAYED);
	CU_ASSERT_EQUAL(calls[2]->result.outcome, ORDER_MOVED);
	CU_ASSERT_STRING_EQUAL(head("ord_a"),
			       "CONFIRMED~ 4 60001 placed@1764000000100-7 reserved+1-8 "
			       "extended+38-1 confirmed+38-2");
}

static void test_life(void)
{
	struct result *result;

	put("ord_a");
	result = move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	CU_ASSERT_STRING_EQUAL(result->history, "placed@1764000000123-1 reserved+15-2");
	CU_ASSERT_EQUAL(timer_of("ord_a"), NOW + 15 + 60000);
	move("ord_a", ORDER_IN_CONFIRM);
	result = move("ord_a", ORDER_IN_INVENTORY_COMMITTED);
	CU_ASSERT_STRING_EQUAL(result->history,
			       "placed@1764000000123-1 reserved+15-2 confirmed+15-3 settled+15-4");
	CU_ASSERT_EQUAL(result->record.state, ORDER_CONFIRMED);
	CU_ASSERT_EQUAL(result->version, 4);
	CU_ASSERT_EQUAL(timer_of("ord_a"), -1);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 4);
}

static void test_asked_again(void)
{
	struct result *result = NULL;

	put("ord_a");
	for (uint32_t attempt = 2; attempt <= 12; attempt++) {
		result = move("ord_a", ORDER_IN_REQUEST_UNANSWERED);
		CU_ASSERT_EQUAL(result->record.attempt, attempt);
		CU_ASSERT_EQUAL(result->version, 1);
	}
	/* A history does not grow for ever. */
	CU_ASSERT_STRING_EQUAL(result->history,
			       "placed@1764000000123-1 again+15-2 again+15-3 again+15-4 again+15-5 "
			       "again+15-6 again+15-7 again+15-12");
	CU_ASSERT_STRING_EQUAL(entry(1),
			       "OrderPlaced ord_a/1 2025-11-24T16:00:00.138Z CONTENT attempt=12");
	CU_ASSERT_STRING_EQUAL(
		head("ord_a"),
		"PENDING 1 60000 attempt=12 placed@1764000000123-1 again+15-2 again+15-3 "
		"again+15-4 again+15-5 again+15-6 again+15-7 again+15-12");
	result = move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	CU_ASSERT_EQUAL(result->record.attempt, 1);
	CU_ASSERT_STRING_EQUAL(
		head("ord_a"),
		"RESERVED 2 60000 placed@1764000000123-1 again+15-2 again+15-3 again+15-4 "
		"again+15-5 again+15-6 again+15-7 again+15-12 reserved+15-13");
}

static void test_expected_version(void)
{
	struct call *call;

	put_state(ORDER_RESERVED);
	call = begin_move("ord_a", ORDER_IN_CONFIRM);
	call->op.move.expected_version = 3;
	run_move(call);
	CU_ASSERT_EQUAL(call->result.outcome, ORDER_MISMATCH);
	CU_ASSERT_EQUAL(call->result.version, 4);
	CU_ASSERT_EQUAL(call->result.state, ORDER_RESERVED);
	CU_ASSERT_STRING_EQUAL(head("ord_a"), "RESERVED 4 60000 placed@1764000000100-7");
	call = begin_move("ord_a", ORDER_IN_CONFIRM);
	call->op.move.expected_version = 4;
	run_move(call);
	CU_ASSERT_EQUAL(call->result.outcome, ORDER_MOVED);
}

/* In one batch, each sees what the one before it has done. */
static void test_moves_in_one_batch(void)
{
	static const enum order_input inputs[] = { ORDER_IN_INVENTORY_RESERVED, ORDER_IN_CONFIRM,
						   ORDER_IN_CANCEL, ORDER_IN_CONFIRM,
						   ORDER_IN_INVENTORY_COMMITTED };
	static const int outcomes[] = { ORDER_MOVED, ORDER_MOVED, ORDER_REFUSED, ORDER_STAYED,
					ORDER_MOVED };
	long long before;

	put("ord_a");
	before = function_calls();
	for (size_t i = 0; i < RT_LENGTH(inputs); i++)
		send_move(begin_move("ord_a", inputs[i]));
	run();
	CU_ASSERT_EQUAL(function_calls() - before, 1);
	for (size_t i = 0; i < RT_LENGTH(inputs); i++)
		CU_ASSERT_EQUAL(f->calls[1 + i].result.outcome, outcomes[i]);
	CU_ASSERT_EQUAL(f->calls[5].result.record.state, ORDER_CONFIRMED);
	/* Its timer was set twice and taken away in the one call. */
	CU_ASSERT_EQUAL(timer_of("ord_a"), -1);
}

/* The second move of an order begins another entry. */
static void test_an_order_twice_in_one_call(void)
{
	struct call *calls[4];

	put_all("abc");
	calls[0] = begin_move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	calls[1] = begin_move("ord_b", ORDER_IN_INVENTORY_UNAVAILABLE);
	calls[1]->op.move.data = (const uint8_t *)"SHORT";
	calls[1]->op.move.data_length = 5;
	calls[2] = begin_move("ord_a", ORDER_IN_CONFIRM);
	calls[3] = begin_move("ord_c", ORDER_IN_CANCEL);
	for (size_t i = 0; i < RT_LENGTH(calls); i++)
		send_move(calls[i]);
	run();
	for (size_t i = 0; i < RT_LENGTH(calls); i++)
		expect_outcome(calls[i], ORDER_MOVED);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 3);
	CU_ASSERT_STRING_EQUAL(entry(2), "OrderReserved ord_a/2 2025-11-24T16:00:00.138Z ; "
					 "OrderRejected ord_b/2 2025-11-24T16:00:00.138Z SHORT");
	CU_ASSERT_STRING_EQUAL(entry(1), "OrderConfirmed ord_a/3 2025-11-24T16:00:00.138Z ; "
					 "OrderCancelled ord_c/2 2025-11-24T16:00:00.138Z ");
	/* Each has its own answer. */
	CU_ASSERT_EQUAL(calls[0]->result.version, 2);
	CU_ASSERT_EQUAL(calls[2]->result.version, 3);
	CU_ASSERT_STRING_EQUAL(calls[0]->result.history, "placed@1764000000123-3 reserved+15-5");
	CU_ASSERT_STRING_EQUAL(calls[2]->result.history,
			       "placed@1764000000123-3 reserved+15-5 confirmed+15-7");
	CU_ASSERT_STRING_EQUAL(calls[1]->result.detail, "SHORT");
	CU_ASSERT_STRING_EQUAL(
		stored("ord_b"),
		"REJECTED 2 60000 placed@1764000000123-3 rejected+15-5\n7\nCONTENTSHORT");
	CU_ASSERT_STRING_EQUAL(
		stored("ord_c"),
		"CANCELLED~ 2 60000 placed@1764000000123-3 cancelled+15-7\n7\nCONTENT");
	CU_ASSERT_EQUAL(timer_of("ord_b"), -1);
}

/* Adds an entry of inventory with an answer to each of these: "ord_a/1 ord_b/1". */
static void add_answers(const char *names)
{
	redis_server_do(&shared, "XADD %s * tandem.inventory.v1.InventoryReserved %s time %s",
			FOREIGN, names, "2025-11-24T16:00:00.123Z");
}

static void deliver(void)
{
	struct rt_redis_options redis = { .unix_path = shared.socket, .timeout_ms = 5000 };

	f->delivering = true;
	delivered_start(f->loop, f->redis, &redis, &order_functions, FOREIGN);
}

/* Moves an order with the next event of FOREIGN. */
static struct call *answer_next(void)
{
	struct rt_event *event = delivered_next();
	struct call *call = begin_move(event->subject, ORDER_IN_INVENTORY_RESERVED);

	call->op.move.event = event;
	call->op.move.want_record = false;
	send_move(call);
	return call;
}

static void test_acknowledged_within(void)
{
	struct call *first, *second;

	put_all("ab");
	deliver();
	/* The last event of an entry acknowledges it. */
	add_answers("ord_a/1 ord_b/1");
	first = answer_next();
	second = answer_next();
	run();
	expect_outcome(first, ORDER_MOVED);
	expect_outcome(second, ORDER_MOVED);
	CU_ASSERT_EQUAL(first->result.pending, 0);
	/* Not before: the other one is not finished. */
	add_answers("ord_a/1 ord_b/1");
	first = answer_next();
	run();
	expect_outcome(first, ORDER_STAYED);
	CU_ASSERT_EQUAL(pending_foreign(), 1);
	second = answer_next();
	run();
	expect_outcome(second, ORDER_STAYED);
	CU_ASSERT_EQUAL(second->result.pending, 0);
}

static bool none_pending(void)
{
	return pending_foreign() == 0;
}

/* The answers of one entry whose orders may be too large for one call go in several, and are acknowledged. */
static void test_an_entry_about_large_orders(void)
{
	put_all(TWELVE);
	deliver();
	add_answers("ord_a/1 ord_b/1 ord_c/1 ord_d/1 ord_e/1 ord_f/1 ord_g/1 ord_h/1 ord_i/1 "
		    "ord_j/1 ord_k/1 ord_l/1");
	for (size_t i = 0; i < strlen(TWELVE); i++)
		(void)answer_next();
	run();
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 1 + 2);
	for (int i = 0; i < f->count; i++)
		CU_ASSERT_EQUAL(f->calls[i].result.status, RT_OK);
	run_until_so(f->loop, none_pending);
}

/* One order is unknown: the others are done, and nothing is acknowledged in that step. */
static void test_unknown_among_others(void)
{
	struct call *calls[3];

	put_all("ab");
	add_answers("ord_a/1 ord_none/1");
	add_answers("ord_b/1");
	deliver(); /* both entries in one read */
	for (size_t i = 0; i < RT_LENGTH(calls); i++)
		calls[i] = answer_next();
	run();
	expect_outcome(calls[0], ORDER_MOVED);
	expect_outcome(calls[1], ORDER_UNKNOWN);
	expect_outcome(calls[2], ORDER_MOVED);
	CU_ASSERT_EQUAL(calls[0]->result.pending, 2);
	CU_ASSERT_STRING_EQUAL(head("ord_b"),
			       "RESERVED 2 60000 placed@1764000000123-2 reserved+15-4");
	/* Then one by one: done, or a dead letter. */
	run_until_so(f->loop, none_pending);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %sdead", KEY), 1);
}

/* A damaged order, or a foreign thing in its place, spoils no other in its batch. */
static void test_damaged_orders(void)
{
	struct call *a, *b, *c, *d;

	put_all("ab");
	redis_server_do(&shared, "HSET %sorders ord_b %s ord_c %s", KEY, "text",
			"PENDING 1 60000 placed@1764000000100-7");
	b = begin_move("ord_b", ORDER_IN_CONFIRM);
	send_move(b);
	c = begin_move("ord_c", ORDER_IN_CONFIRM);
	send_move(c);
	a = begin_move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	send_move(a);
	d = place("ord_c", "CONTENT", false);
	run();
	CU_ASSERT_EQUAL(b->result.outcome, ORDER_UNKNOWN);
	CU_ASSERT_EQUAL(c->result.outcome, ORDER_UNKNOWN);
	CU_ASSERT_EQUAL(a->result.outcome, ORDER_MOVED);
	CU_ASSERT_EQUAL(d->result.outcome, ORDER_CONFLICT);
	CU_ASSERT_FALSE(get("ord_b")->known);
	CU_ASSERT_EQUAL(get("ord_c")->status, RT_OK);
	CU_ASSERT_FALSE(get("ord_c")->known);
	CU_ASSERT_FALSE(get("ord_none")->known);
	CU_ASSERT_TRUE(get("ord_a")->known);
	/* With a history that does not begin with an entry's id: nothing of its call is published twice. */
	redis_server_do(&shared, "HSET %sorders ord_b %s ord_c %s", KEY,
			"PENDING 1 60000 placed@x\n0\n", "PENDING 1 60000 placed@5-x\n0\n");
	b = begin_move("ord_b", ORDER_IN_CONFIRM);
	send_move(b);
	a = begin_move("ord_a", ORDER_IN_CANCEL);
	send_move(a);
	c = begin_move("ord_c", ORDER_IN_INVENTORY_RESERVED);
	send_move(c);
	run();
	CU_ASSERT_EQUAL(a->result.outcome, ORDER_MOVED);
	CU_ASSERT_EQUAL(b->result.outcome, ORDER_UNKNOWN);
	CU_ASSERT_EQUAL(c->result.outcome, ORDER_UNKNOWN);
}

/* ---- list ---- */

static void listed(struct order_list_op *op, int status)
{
	CU_ASSERT_EQUAL(status, RT_OK);
	f->text[0] = '\0';
	for (size_t i = 0; i < op->record_count; i++)
		say("%s ", op->records[i].order_id);
	snprintf(f->last_id, sizeof(f->last_id), "%s", op->last_id);
	ended();
}

static const char *list(const char *customer, size_t count, size_t bytes, int64_t before_ms,
			const char *before_id)
{
	f->count++;
	f->list = (struct order_list_op){ .customer_id = customer,
					  .count_max = count,
					  .bytes_max = bytes,
					  .before_ms = before_ms,
					  .before_id = before_id,
					  .done = listed };
	order_store_list(f->store, &f->list);
	run();
	return f->text;
}

#define ROOM ((size_t)1 << 20)

static void test_list(void)
{
	static const char *const ids[] = { "ord_c", "ord_a", "ord_e", "ord_b", "ord_d" };
	static const struct {
		const char *why, *customer;
		size_t count, bytes;
		int64_t before_ms;
		const char *before_id, *page;
		bool more;
	} rows[] = {
		{ "none", "nobody", 10, ROOM, INT64_MAX, "", "", false },
		{ "all", "ann", 10, ROOM, INT64_MAX, "", "ord_d ord_e ord_b ord_c ord_a ", false },
		{ "two", "ann", 2, ROOM, INT64_MAX, "", "ord_d ord_e ", true },
		{ "two more", "ann", 2, ROOM, NOW + 5, "ord_e", "ord_b ord_c ", true },
		{ "the rest", "ann", 2, ROOM, NOW, "ord_c", "ord_a ", false },
		{ "just all", "ann", 5, ROOM, INT64_MAX, "", "ord_d ord_e ord_b ord_c ord_a ",
		  false },
		{ "the last of a page is gone: goes on behind its time and id", "ann", 9, ROOM,
		  NOW + 5, "ord_cx", "ord_b ord_c ord_a ", false },
		{ "the last of a page is gone, and was the last of its time", "ann", 9, ROOM,
		  NOW + 5, "ord_aa", "ord_c ord_a ", false },
		{ "it was the first of its time", "ann", 2, ROOM, NOW + 5, "ord_gone",
		  "ord_e ord_b ", true },
		{ "there was none at its time", "ann", 9, ROOM, NOW + 4, "ord_gone", "ord_c ord_a ",
		  false },
		{ "no more than fit", "ann", 5, 2 * (512 + 48), INT64_MAX, "", "ord_d ord_e ",
		  true },
		{ "but one", "ann", 5, 1, INT64_MAX, "", "ord_d ", true },
		{ "and the last", "ann", 5, 1, NOW, "ord_c", "ord_a ", false },
	};

	for (size_t i = 0; i < RT_LENGTH(ids); i++) {
		struct call *call = place(ids[i], "CONTENT", true);

		/* c and a at the first ms, the others later, e and b at one. */
		call->op.place.now_ms = NOW + (i < 2 ? 0 : i < 4 ? 5 : 9);
		run();
	}
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		TEST_ROW(strcmp(list(rows[i].customer, rows[i].count, rows[i].bytes,
				     rows[i].before_ms, rows[i].before_id),
				rows[i].page) == 0,
			 rows[i].why);
		TEST_ROW(f->list.more == rows[i].more, rows[i].why);
	}
	/* A damaged order hides no other, not even when the page ends with it. */
	redis_server_do(&shared, "HDEL %sorders ord_b", KEY);
	CU_ASSERT_STRING_EQUAL(list("ann", 1, ROOM, NOW + 5, "ord_e"), "");
	CU_ASSERT_TRUE(f->list.more);
	CU_ASSERT_STRING_EQUAL(f->last_id, "ord_b");
	CU_ASSERT_STRING_EQUAL(list("ann", 10, ROOM, INT64_MAX, ""), "ord_d ord_e ord_c ord_a ");
}

/* ---- due and timers ---- */

static void due_found(struct order_due_op *op, int status)
{
	CU_ASSERT_EQUAL(status, RT_OK);
	f->text[0] = '\0';
	for (size_t i = 0; i < op->due_count; i++)
		say("%s%s ", op->due[i].record.order_id, op->due[i].queued ? ":queued" : "");
	f->number = op->timer_count;
	ended();
}

static const char *due(int64_t now_ms, int64_t lease_until_ms, size_t count)
{
	f->count++;
	f->due = (struct order_due_op){ .now_ms = now_ms,
					.lease_until_ms = lease_until_ms,
					.count_max = count,
					.done = due_found };
	order_store_due(f->store, &f->due);
	run();
	return f->text;
}

static void put_due(const char *order_id, int64_t due_ms)
{
	place(order_id, "CONTENT", true)->op.place.retry_due_ms = due_ms;
	run();
}

static void test_due(void)
{
	put_due("ord_a", 100);
	put_due("ord_b", 110);
	put_due("ord_c", 120);
	CU_ASSERT_STRING_EQUAL(due(99, 1000, 10), "");
	CU_ASSERT_EQUAL(f->number, 3);
	CU_ASSERT_STRING_EQUAL(due(110, 1000, 1), "ord_a ");
	CU_ASSERT_EQUAL(timer_of("ord_a"), 1000);
	CU_ASSERT_EQUAL(timer_of("ord_b"), 110);
	CU_ASSERT_STRING_EQUAL(due(500, 1000, 10), "ord_b ord_c ");
	/* Leased: others see none of them, until the lease is over. */
	CU_ASSERT_STRING_EQUAL(due(999, 2000, 10), "");
	CU_ASSERT_STRING_EQUAL(due(1000, 2000, 10), "ord_a ord_b ord_c ");
	/* Timers of what is gone or settled go too. */
	redis_server_do(&shared, "HDEL %sorders ord_a", KEY);
	redis_server_do(&shared, "HSET %sorders ord_b %s", KEY,
			"CANCELLED 3 60000 placed@1-1\n0\n");
	CU_ASSERT_STRING_EQUAL(due(2000, 3000, 10), "ord_c ");
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %stimers", KEY), 1);
	/* That of an order that cannot be read stays, until somebody mends the order. */
	redis_server_do(&shared, "HSET %sorders ord_c %s", KEY, "damaged");
	CU_ASSERT_STRING_EQUAL(due(3000, 4000, 10), "");
	CU_ASSERT_EQUAL(timer_of("ord_c"), 4000);
}

/* Late or lost: a request that inventory will still read is not sent again. */
static void test_due_queued(void)
{
	put("ord_a");
	put("ord_b");
	CU_ASSERT_STRING_EQUAL(due(NOW + 9000, NOW + 9001, 10), "ord_a ord_b ");
	redis_server_do(&shared, "XGROUP CREATE %s inventory 0", EVENTS);
	CU_ASSERT_STRING_EQUAL(due(NOW + 9001, NOW + 9002, 10), "ord_a:queued ord_b:queued ");
	redis_server_do(&shared, "XREADGROUP GROUP inventory c COUNT 1 STREAMS %s >", EVENTS);
	CU_ASSERT_STRING_EQUAL(due(NOW + 9002, NOW + 9003, 10), "ord_a ord_b:queued ");
	/* Asked again: the repeat counts, not the first. */
	move("ord_a", ORDER_IN_REQUEST_UNANSWERED);
	CU_ASSERT_STRING_EQUAL(due(NOW + 9004, NOW + 9005, 10), "ord_a:queued ord_b:queued ");
	/* A history that names no entry hides no other order. */
	redis_server_do(&shared, "HSET %sorders ord_c %s", KEY,
			"PENDING 1 60000 placed@99999999999999-18446744073709551616\n0\n");
	redis_server_do(&shared, "ZADD %stimers 1 ord_c", KEY);
	CU_ASSERT_STRING_EQUAL(due(NOW + 9005, NOW + 9006, 10), "ord_c ord_a:queued ord_b:queued ");
	redis_server_do(&shared, "HDEL %sorders ord_c", KEY);
	/* Ahead of the group, but no longer there. */
	redis_server_do(&shared, "XTRIM %s MAXLEN 0", EVENTS);
	CU_ASSERT_STRING_EQUAL(due(NOW + 9006, NOW + 9007, 10), "ord_a ord_b ");
}

static void timer_set(struct order_timer_op *op, int status)
{
	(void)op;
	CU_ASSERT_EQUAL(status, RT_OK);
	ended();
}

static void begin_timer(const char *order_id, uint64_t version, size_t stored_length,
			int64_t due_ms)
{
	struct call *call = begin(order_id);

	call->op.timer = (struct order_timer_op){ .order_id = call->order_id,
						  .version = version,
						  .stored_length = stored_length,
						  .due_ms = due_ms,
						  .done = timer_set };
	order_store_timer(f->store, &call->op.timer);
}

static void set_timer(uint64_t version, int64_t due_ms)
{
	begin_timer("ord_a", version, 0, due_ms);
	run();
}

static void test_timer(void)
{
	put_state(ORDER_PENDING);
	set_timer(4, 500);
	CU_ASSERT_EQUAL(timer_of("ord_a"), 500);
	set_timer(3, 600);
	CU_ASSERT_EQUAL(timer_of("ord_a"), 500);
	put_state(ORDER_CANCELLED);
	set_timer(4, 600);
	CU_ASSERT_EQUAL(timer_of("ord_a"), 77);
}

/* What is due at the same time is set in one call, as long as the orders are small. */
static void test_timers_together(void)
{
	long long before;

	put_all("abcd");
	move_as("ord_b", ORDER_IN_INVENTORY_UNAVAILABLE, ORDER_MOVED);
	before = function_calls();
	begin_timer("ord_a", 1, 0, 500);
	begin_timer("ord_b", 2, 0, 501); /* settled */
	begin_timer("ord_none", 1, 0, 502);
	begin_timer("ord_c", 2, 0, 503); /* not at this version */
	begin_timer("ord_d", 1, 0, 504);
	run();
	CU_ASSERT_EQUAL(function_calls() - before, 1);
	CU_ASSERT_EQUAL(timer_of("ord_a"), 500);
	CU_ASSERT_EQUAL(timer_of("ord_b"), -1);
	CU_ASSERT_EQUAL(timer_of("ord_c"), NOW + 2000);
	CU_ASSERT_EQUAL(timer_of("ord_d"), 504);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ZCARD %stimers", KEY), 3);
	for (int i = 0; i < 6; i++)
		begin_timer("ord_a", 1, LARGE, 600 + i);
	run();
	CU_ASSERT_EQUAL(function_calls() - before, 4); /* of 128 kB at most */
	CU_ASSERT_EQUAL(timer_of("ord_a"), 605);
}

/* ---- tail and trim ---- */

static void tailed(struct order_tail_op *op, int status)
{
	f->number = status;
	f->text[0] = '\0';
	for (size_t i = 0; status == RT_OK && i < op->entry_count; i++)
		say("%s %s/%" PRIu64 " ", op->entries[i].type + strlen("tandem.order.v1."),
		    op->entries[i].subject, op->entries[i].seq);
	ended();
}

static void begin_tail(const char *after, int64_t block_ms)
{
	f->count++;
	f->tail = (struct order_tail_op){ .after = after, .block_ms = block_ms, .done = tailed };
	order_store_tail(f->store, &f->tail);
}

static const char *tail(const char *after, int64_t block_ms)
{
	begin_tail(after, block_ms);
	run();
	return f->text;
}

static void test_tail(void)
{
	char after[64], end[64];

	tail("$", 5000);
	CU_ASSERT_EQUAL(f->number, RT_OK);
	CU_ASSERT_STRING_EQUAL(f->tail.last, "0-0");
	put_all("ab");
	CU_ASSERT_STRING_EQUAL(tail("0-0", 5000), "OrderPlaced ord_a/1 OrderPlaced ord_b/1 ");
	snprintf(after, sizeof(after), "%s", f->tail.last);
	CU_ASSERT_STRING_EQUAL(tail("$", 5000), "");
	CU_ASSERT_STRING_EQUAL(f->tail.last, after);
	/* Waits; what is published meanwhile comes at once, and other commands are not held up. */
	begin_tail(after, 10000);
	move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	CU_ASSERT_STRING_EQUAL(f->text, "OrderReserved ord_a/2 ");
	/* Nothing comes: ends after its time, at the same place. */
	snprintf(end, sizeof(end), "%s", f->tail.last);
	tail(end, 20);
	CU_ASSERT_EQUAL(f->number, RT_OK);
	CU_ASSERT_STRING_EQUAL(f->text, "");
	CU_ASSERT_STRING_EQUAL(f->tail.last, end);
	/* An entry that is no event is passed over. */
	redis_server_do(&shared, "XADD %s * foo bar", EVENTS);
	CU_ASSERT_STRING_EQUAL(tail(end, 5000), "");
	CU_ASSERT_STRING_NOT_EQUAL(f->tail.last, end);
}

/* Where in the stream each batch has published, as reported. */
static void note_published(void *user, const char *before, const char *last)
{
	(void)user;
	say("%s..%s ", strchr(before, '-') + 1, strchr(last, '-') + 1);
}

static void test_published(void)
{
	order_store_on_published(f->store, 0, note_published, NULL);
	put_all("ab");
	CU_ASSERT_STRING_EQUAL(f->text, "0..2 ");
	place("ord_a", "CONTENT", false); /* a repeat publishes nothing */
	run();
	move("ord_a", ORDER_IN_HOLD_RAN_OUT); /* nor does what stays */
	CU_ASSERT_STRING_EQUAL(f->text, "0..2 ");
	send_move(begin_move("ord_a", ORDER_IN_INVENTORY_RESERVED));
	send_move(begin_move("ord_b", ORDER_IN_INVENTORY_RESERVED));
	run();
	CU_ASSERT_STRING_EQUAL(f->text, "0..2 2..4 ");
	redis_server_do(&shared, "XADD %s 9999999999999-9 foo bar", EVENTS); /* another writer */
	move_as("ord_a", ORDER_IN_CANCEL, ORDER_MOVED);
	CU_ASSERT_STRING_EQUAL(f->text, "0..2 2..4 9..10 ");
}

/* The history comes with a move when it is wanted: waiters need it, not the record. */
static void test_history(void)
{
	struct call *call;

	put("ord_a");
	call = begin_move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	call->op.move.want_record = false;
	call->op.move.want_history = true;
	run_move(call);
	CU_ASSERT_FALSE(call->result.known);
	CU_ASSERT_EQUAL(call->result.version, 2);
	CU_ASSERT_EQUAL(strncmp(call->result.history, "placed@", 7), 0);
	CU_ASSERT_STRING_EQUAL(call->result.history, head("ord_a") + strlen("RESERVED 2 60000 "));
	/* An order that stays as it is has no event. */
	call = begin_move("ord_a", ORDER_IN_INVENTORY_RESERVED);
	call->op.move.want_record = false;
	call->op.move.want_history = true;
	run_move(call);
	CU_ASSERT_EQUAL(call->result.outcome, ORDER_STAYED);
	CU_ASSERT_STRING_EQUAL(call->result.history, "");
}

static void test_tail_interrupted(void)
{
	order_store_tail_interrupt(f->store, 0); /* nothing to interrupt */
	begin_tail("0-0", 10000);
	order_store_tail_interrupt(f->store, 0);
	CU_ASSERT_EQUAL(f->ended, 0);
	run();
	CU_ASSERT_EQUAL(f->number, RT_CANCELED);
	/* Freed while Redis still holds the read. */
	teardown();
	setup();
	begin_tail("0-0", 10000);
	free_store();
	CU_ASSERT_EQUAL(f->ended, 1);
	CU_ASSERT_EQUAL(f->number, RT_CANCELED);
}

static void trimmed(struct rt_trim_op *op, int status)
{
	(void)op;
	CU_ASSERT_EQUAL(status, RT_OK);
	ended();
}

static void trim(int64_t retain_ms, int64_t retain_count, int64_t stale_ms)
{
	f->count++;
	f->trim = (struct rt_trim_op){ .now_ms = NOW + 1000,
				       .retain_ms = retain_ms,
				       .retain_count = retain_count,
				       .stale_ms = stale_ms,
				       .done = trimmed };
	rt_store_add(f->trims, &f->trim);
	run();
}

/* ---- when Redis says no ---- */

/* ord_a is there and storage is full: a repeat in the same batch as a new order gets its answer. */
static void repeats_are_answered(void)
{
	struct call *fresh = place("ord_new", "CONTENT", true);
	struct call *repeat = place("ord_a", "CONTENT", false);
	struct call *other = place("ord_a", "OTHER", false);
	struct call *unknown = place("ord_u", "CONTENT", false);

	run();
	CU_ASSERT_EQUAL(fresh->result.status, RT_FULL);
	expect_outcome(repeat, ORDER_PLACED_BEFORE);
	expect_outcome(other, ORDER_CONFLICT);
	CU_ASSERT_EQUAL(unknown->result.status, RT_FULL);
}

static void test_full_stream(void)
{
	struct call *refused;

	setup_on(&shared, 2);
	put_all("ab"); /* one entry: events are counted */
	refused = put_as("ord_c", RT_FULL);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "HEXISTS %sorders ord_c", KEY), 0);
	CU_ASSERT_EQUAL(timer_of("ord_c"), -1);
	CU_ASSERT_TRUE(refused->op.place.stream_full);
	repeats_are_answered();
	/* What is there goes on. */
	move_as("ord_a", ORDER_IN_INVENTORY_RESERVED, ORDER_MOVED);
	put_as("ord_c", RT_FULL);
	redis_server_do(&shared, "XTRIM %s MAXLEN 1", EVENTS);
	put("ord_c");
}

/* A request may have been made when its order got another id. */
static void test_earlier_ids(void)
{
	put("ord_old");
	redis_server_do(&shared, "HSET %searlier_ids ord_now ord_old ord_gone ord_none", KEY);
	redis_server_do(&shared, "SET %spartitions 8", KEY);
	partition_count = 8;
	for (int full = 0; full < 2; full++) {
		struct call *again, *other, *itself, *gone;

		setup_on(&shared, full ? 2 : 1000);
		again = place("ord_now", "CONTENT", false);
		itself = place("ord_old", "CONTENT", false);
		other = place("ord_now", "OTHER", false);
		gone = place("ord_gone", "CONTENT", false);
		run();
		expect_outcome(again, ORDER_PLACED_BEFORE);
		CU_ASSERT_STRING_EQUAL(again->result.earlier_id, "ord_old");
		CU_ASSERT_STRING_EQUAL(again->result.history, "placed@1764000000123-1");
		expect_outcome(itself, ORDER_PLACED_BEFORE);
		CU_ASSERT_STRING_EQUAL(itself->result.earlier_id, "");
		CU_ASSERT_STRING_EQUAL(itself->result.history, "placed@1764000000123-1");
		expect_outcome(other, ORDER_CONFLICT);
		expect_outcome(gone, full ? ORDER_PLACED_BEFORE : ORDER_PLACED);
		CU_ASSERT_STRING_EQUAL(gone->result.earlier_id, "");
	}
	CU_ASSERT_EQUAL(redis_server_int(&shared, "HEXISTS %sorders ord_now", KEY), 0);
	/* With one partition ids are as they were. */
	redis_server_do(&shared, "SET %spartitions 1", KEY);
	partition_count = 0;
	setup_on(&shared, 1000);
	put("ord_now");
}

/* An entry that was added by hand may begin the numbers of events anew: then entries are counted. */
static void test_full_stream_with_other_numbers(void)
{
	setup_on(&shared, 4);
	put("ord_a");
	put("ord_b");
	redis_server_do(&shared, "XADD %s * a b", EVENTS);
	put("ord_c");
	CU_ASSERT_TRUE(put_as("ord_d", RT_FULL)->op.place.stream_full);
	trim(0, 0, 1000);
	CU_ASSERT_EQUAL(f->trim.length, 4);
}

/* Keys of another type: nothing is published that cannot be stored. */
static void test_foreign_keys(void)
{
	static const char *const keys[] = { KEY "orders", KEY "timers", EVENTS };
	char wanted[64];

	for (size_t i = 0; i < RT_LENGTH(keys); i++) {
		redis_server_do(&shared, "FLUSHALL");
		redis_server_do(&shared, "SET %s x", keys[i]);
		put_as("ord_a", RT_REMOTE);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "DBSIZE"), 1);
	}
	/* An order that could not be written counts as no event. */
	redis_server_do(&shared, "FLUSHALL");
	put("ord_a");
	redis_server_do(&shared, "RENAME %sorders kept", KEY);
	redis_server_do(&shared, "SET %sorders x", KEY);
	put_as("ord_b", RT_REMOTE);
	redis_server_do(&shared, "RENAME kept %sorders", KEY);
	put("ord_c");
	snprintf(wanted, sizeof(wanted), "PENDING 1 60000 placed@%" PRId64 "-2", NOW);
	CU_ASSERT_STRING_EQUAL(head("ord_c"), wanted);
	/* A customer's index must not make us lose an order, or another customer's. */
	redis_server_do(&shared, "FLUSHALL");
	redis_server_do(&shared, "SET %scustomer:bob x", KEY);
	place("ord_b", "CONTENT", true)->op.place.customer_id = "bob";
	put("ord_a");
	expect_outcome(&f->calls[f->count - 2], ORDER_PLACED);
	CU_ASSERT_TRUE(get("ord_b")->known);
	CU_ASSERT_STRING_EQUAL(list("ann", 10, ROOM, INT64_MAX, ""), "ord_a ");
}

/* Timers of another type: the orders stay as they are, and nothing is published, whether the timer of an order that moves
 * is set or removed. */
static void test_moves_with_foreign_timers(void)
{
	static const enum order_input inputs[] = { ORDER_IN_INVENTORY_RESERVED,
						   ORDER_IN_INVENTORY_UNAVAILABLE };

	put_all("ab");
	redis_server_do(&shared, "RENAME %stimers kept", KEY);
	redis_server_do(&shared, "SET %stimers x", KEY);
	for (size_t i = 0; i < RT_LENGTH(inputs); i++) {
		CU_ASSERT_EQUAL(move("ord_a", inputs[i])->status, RT_REMOTE);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN %s", EVENTS), 1);
		CU_ASSERT_STRING_EQUAL(head("ord_a"), "PENDING 1 60000 placed@1764000000123-2");
	}
	redis_server_do(&shared, "RENAME kept %stimers", KEY);
	/* What could not be written counts as no event. */
	move_as("ord_a", ORDER_IN_INVENTORY_UNAVAILABLE, ORDER_MOVED);
	CU_ASSERT_STRING_EQUAL(head("ord_a"),
			       "REJECTED 2 60000 placed@1764000000123-2 rejected+15-3");
	CU_ASSERT_EQUAL(timer_of("ord_a"), -1);
	move_as("ord_b", ORDER_IN_INVENTORY_RESERVED, ORDER_MOVED);
	CU_ASSERT_EQUAL(timer_of("ord_b"), NOW + 15 + 60000);
}

/* Two versions of the library, as during an upgrade: each sees the other's entries and continues n, even when
 * the length of the stream is unchanged. */
static void test_two_versions(void)
{
	static const char other[] = "0therver";
	char *code = rt_strndup(order_functions.code, order_functions.code_length), *at = code;
	char wanted[64];

	CU_ASSERT_FATAL(strlen(order_functions.version) == strlen(other));
	while ((at = strstr(at, order_functions.version)) != NULL)
		memcpy(at, other, strlen(other));
	redis_server_do(&shared, "FUNCTION LOAD REPLACE %s", code);
	free(code);
	for (int i = 0; i < 8; i++) {
		char order_id[16];

		snprintf(order_id, sizeof(order_id), "ord_%d", i);
		put(order_id);
		snprintf(wanted, sizeof(wanted), "PENDING 1 60000 placed@%" PRId64 "-%d", NOW,
			 2 * i + 1);
		CU_ASSERT_STRING_EQUAL(head(order_id), wanted);
		if (i % 2 == 1) /* the entry added and the one deleted leave the length unchanged */
			redis_server_do(&shared, "XTRIM %s MAXLEN %d", EVENTS,
					(int)redis_server_int(&shared, "XLEN %s", EVENTS) - 1);
		redis_server_do(&shared,
				"FCALL order_place_%s 1 %s %" PRId64
				" time 5 -1000 other_%d ann 60000 CONTENT",
				other, EVENTS, NOW, i);
		snprintf(wanted, sizeof(wanted), "%" PRId64 "-%d", NOW, 2 * i + 2);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "EVAL %s 1 %s %s",
						 "return #redis.call('XRANGE', KEYS[1], ARGV[1], "
						 "ARGV[1])",
						 EVENTS, wanted),
				1);
		move_as(order_id, ORDER_IN_HOLD_RAN_OUT, ORDER_STAYED);
	}
	redis_server_do(&shared, "FUNCTION DELETE order_%s", other);
}

static void test_full_memory(void)
{
	put("ord_a");
	redis_server_do(&shared, "CONFIG SET maxmemory 1");
	CU_ASSERT_FALSE(put_as("ord_b", RT_FULL)->op.place.stream_full);
	repeats_are_answered();
	/* A full Redis drains: moves, looking and trimming go on. */
	move_as("ord_a", ORDER_IN_CANCEL, ORDER_MOVED);
	move_as("ord_a", ORDER_IN_INVENTORY_RELEASED, ORDER_MOVED);
	CU_ASSERT_STRING_EQUAL(due(NOW * 2, NOW * 2, 10), "");
	CU_ASSERT_STRING_EQUAL(list("ann", 10, ROOM, INT64_MAX, ""), "ord_a ");
	trim(0, 0, 1000);
	CU_ASSERT_TRUE(get("ord_a")->known);
	redis_server_do(&shared, "CONFIG SET maxmemory 0");
	put("ord_b");
}

/* The functions go: what is under way fails, and they are there again without a restart. */
static void test_functions_flushed(void)
{
	redis_server_do(&shared, "FUNCTION FLUSH");
	put_as("ord_a", RT_UNREADY);
	run_until_ready();
	put("ord_a");
}

static void test_killed_and_restarted(void)
{
	static const char *const settings[] = { "--appendonly", "yes", "--appendfsync", "always",
						NULL };
	struct redis_server server;
	struct call *call;

	redis_server_start(&server, settings);
	setup_on(&server, 1000);
	put("ord_a");
	redis_server_kill(&server);
	call = place("ord_b", "CONTENT", true);
	tail("0-0", 5000);
	CU_ASSERT_EQUAL(call->result.status, RT_LOST);
	CU_ASSERT_EQUAL(f->number, RT_LOST);
	CU_ASSERT_FALSE(rt_store_problem(f->redis) == NULL);
	CU_ASSERT_EQUAL(move("ord_a", ORDER_IN_CANCEL)->status, RT_LOST);
	CU_ASSERT_EQUAL(get("ord_a")->status, RT_LOST);
	redis_server_restart(&server);
	run_until_ready();
	CU_ASSERT_TRUE(get("ord_a")->known);
	move_as("ord_a", ORDER_IN_CANCEL, ORDER_MOVED);
	redis_server_done(&server);
}

static int gone_lines;

static void count_gone(const char *line, void *user)
{
	(void)user;
	gone_lines += strstr(line, "the data in Redis is gone") != NULL;
}

/* A Redis that comes back without its data is named; one with it is not. */
static void test_data_gone(void)
{
	static const char *const kept[] = { "--appendonly", "yes", "--appendfsync", "always",
					    NULL };
	const char *const *const settings[] = { kept, NULL };
	struct redis_server server;
	struct rt_series *gone;

	rt_log_sink(count_gone, NULL);
	for (int lost = 0; lost <= 1; lost++) {
		gone_lines = 0;
		metrics = rt_metrics_new();
		gone = rt_metric_plain(metrics, RT_COUNTER, "tandem_data_gone_total", "");
		redis_server_start(&server, settings[lost]);
		setup_on(&server, 1000);
		put("ord_a");
		CU_ASSERT_EQUAL(gone_lines, 0);
		redis_server_kill(&server);
		CU_ASSERT_EQUAL(get("ord_a")->status, RT_LOST);
		redis_server_restart(&server);
		run_until_ready();
		CU_ASSERT_EQUAL(get("ord_a")->known, lost == 0);
		CU_ASSERT_EQUAL(gone_lines, lost);
		CU_ASSERT_EQUAL(rt_series_value(gone), lost);
		free_store();
		rt_metrics_free(RT_TAKE(metrics));
		redis_server_done(&server);
	}
	rt_log_sink(NULL, NULL);
}

static void run_two_turns(void)
{
	for (int i = 0; i < 2; i++) {
		rt_loop_stop(f->loop);
		rt_loop_run(f->loop);
	}
}

/* Freed at any time: everything ends once. */
static void test_freed_under_way(void)
{
	for (int i = 0; i < 200; i++)
		place("ord_a", "CONTENT", false);
	send_move(begin_move("ord_a", ORDER_IN_CONFIRM));
	free_store();
	for (int i = 0; i < 201; i++) {
		CU_ASSERT_EQUAL(f->calls[i].result.calls, 1);
		CU_ASSERT_EQUAL(f->calls[i].result.status, RT_CANCELED);
	}
	run_two_turns();
}

/* ---- bursts of reads ---- */

#define READS 6000
#define PAGES 500

struct burst {
	struct order_get_op gets[READS];
	struct order_list_op lists[PAGES];
	int place_status;
	size_t before_place; /* reads that had ended by then */
	size_t got, listed, canceled, refused;
	size_t under_way_most;
};
static struct burst burst;

static void burst_ended(size_t *count, int status)
{
	struct rt_redis *redis = rt_store_redis(f->redis);

	*count += status == RT_OK;
	burst.canceled += status == RT_CANCELED;
	burst.refused += status != RT_OK && status != RT_CANCELED;
	/* Canceled: the connection has gone. */
	if (status != RT_CANCELED)
		burst.under_way_most = RT_MAX(burst.under_way_most, rt_redis_pending(redis));
	ended();
}

static void burst_got(struct order_get_op *op, int status)
{
	CU_ASSERT(op->found == (status == RT_OK));
	burst_ended(&burst.got, status);
}

static void burst_listed(struct order_list_op *op, int status)
{
	CU_ASSERT(op->record_count == (status == RT_OK ? 1 : 0));
	burst_ended(&burst.listed, status);
}

static void burst_placed(struct order_place_op *op, int status)
{
	(void)op;
	burst.place_status = status;
	burst.before_place = burst.got + burst.listed + burst.refused;
	ended();
}

/* As if thousands of clients looked at once, and then one placed an order. */
static void begin_burst(void)
{
	memset(&burst, 0, sizeof(burst));
	for (size_t i = 0; i < READS; i++) {
		burst.gets[i] = (struct order_get_op){ .order_id = "ord_a", .done = burst_got };
		order_store_get(f->store, &burst.gets[i]);
	}
	for (size_t i = 0; i < PAGES; i++) {
		burst.lists[i] = (struct order_list_op){ .customer_id = "ann",
							 .count_max = 1,
							 .bytes_max = 1 << 20,
							 .before_ms = INT64_MAX,
							 .before_id = "",
							 .done = burst_listed };
		order_store_list(f->store, &burst.lists[i]);
	}
	place("ord_b", "CONTENT", true)->op.place.done = burst_placed;
	f->count += READS + PAGES;
}

/* Whoever looks, and however many, hold up no order. */
static void test_reads_leave_room(void)
{
	put("ord_a");
	begin_burst();
	run();
	CU_ASSERT_EQUAL(burst.place_status, RT_OK);
	CU_ASSERT(burst.before_place < 1000);
	CU_ASSERT_EQUAL(burst.got, READS);
	CU_ASSERT_EQUAL(burst.listed, PAGES);
	CU_ASSERT(burst.under_way_most < 400);
}

static void test_freed_while_read(void)
{
	put("ord_a");
	begin_burst();
	free_store();
	CU_ASSERT_EQUAL(burst.canceled, READS + PAGES);
	CU_ASSERT_EQUAL(burst.place_status, RT_CANCELED);
	run_two_turns();
}

/* ---- replicas ---- */

/* With a replica that may be frozen: what an answer says is there, or it is not OK. */
static void test_replicated(void)
{
	struct redis_server replica;
	struct call *call;

	redis_server_start(&replica, NULL);
	redis_server_do(&shared, "CONFIG SET repl-diskless-sync-delay 0");
	redis_server_do(&replica, "REPLICAOF 127.0.0.1 %d", shared.port);
	setup_with(&shared, 1000, 1);
	/* Until it is in step, what is placed is not confirmed. */
	while ((call = place("ord_a", "CONTENT", false)), run(),
	       call->result.status == RT_UNCONFIRMED)
		f->count = f->ended = 0;
	CU_ASSERT_EQUAL(call->result.status, RT_OK);
	CU_ASSERT_STRING_EQUAL(call->result.placed, "CONTENT");
	redis_server_freeze(&replica);
	put_as("ord_b", RT_UNCONFIRMED);
	/* Neither is what is only found: it may be lost as well. Nor a move. */
	call = place("ord_b", "CONTENT", false);
	run();
	CU_ASSERT_EQUAL(call->result.status, RT_UNCONFIRMED);
	CU_ASSERT_EQUAL(move("ord_a", ORDER_IN_INVENTORY_RESERVED)->status, RT_UNCONFIRMED);
	/* The same over a connection that has written nothing: it waits for what it has read. */
	setup_with(&shared, 1000, 1);
	call = place("ord_b", "CONTENT", false);
	run();
	CU_ASSERT_EQUAL(call->result.status, RT_UNCONFIRMED);
	/* A read needs no confirmation, and several waits do not add up to a lost connection. */
	CU_ASSERT_EQUAL(get("ord_b")->status, RT_OK);
	redis_server_thaw(&replica);
	call = place("ord_b", "CONTENT", false);
	run();
	expect_outcome(call, ORDER_PLACED_BEFORE);
	CU_ASSERT_EQUAL(move("ord_a", ORDER_IN_CONFIRM)->outcome, ORDER_MOVED);
	CU_ASSERT_EQUAL(redis_server_int(&replica, "HLEN order:{0}:orders"), 2);
	CU_ASSERT_EQUAL(strncmp(redis_server_text(&replica, "HGET order:{0}:orders ord_a"),
				"CONFIRMED~ 3", 12),
			0);
	redis_server_done(&replica);
}

static void test_freed_while_a_replica_is_awaited(void)
{
	setup_with(&shared, 1000, 1);
	for (int i = 0; i < 20; i++)
		place((char[]){ 'o', 'r', 'd', '_', (char)('a' + i), '\0' }, "CONTENT", true);
	run_two_turns();
	free_store();
	CU_ASSERT_TRUE(all_ended());
	for (int i = 0; i < 20; i++)
		CU_ASSERT_EQUAL(f->calls[i].result.calls, 1);
}

int main(void)
{
	static const struct test tests[] = {
		{ "an order is placed, and found", test_place },
		{ "two hundred calls make one order", test_place_at_once },
		{ "what waits is placed in one call", test_place_is_batched },
		{ "undecided orders of a customer are bounded", test_pending_orders_are_bounded },
		{ "many undecided orders", test_many_pending_orders },
		{ "times and traces are an order's own", test_place_with_times_and_traces },
		{ "who placed an order is kept", test_placed_by },
		{ "who placed an order, beside one too many", test_placed_by_with_a_bound },
		{ "who did what stays, step by step", test_moved_by },
		{ "damaged words on who did what", test_damaged_actors },
		{ "ids that come several times in a call", test_place_repeats_in_one_call },
		{ "large contents go few at a time", test_large_contents },
		{ "moves of large orders go few at a time", test_moves_of_large_orders },
		{ "a stream ahead of the clock tells the time", test_a_stream_ahead_of_the_clock },
		{ "a stream a little ahead of the clock has the time of its ids",
		  test_a_stream_a_little_ahead_of_the_clock },
		{ "how far a group is behind", test_how_far_a_group_is_behind },
		{ "Redis runs every rule", test_every_rule },
		{ "what the archive has is dropped", test_dropping },
		{ "a request of a dropped order is not placed again",
		  test_repeats_of_dropped_orders },
		{ "a hold is extended, up to its limit", test_extensions },
		{ "what an extension counts from, and how many there are",
		  test_extensions_of_other_orders },
		{ "an extension among other moves", test_extension_in_a_batch },
		{ "a life, from placed to settled", test_life },
		{ "a request is asked again", test_asked_again },
		{ "an expected version", test_expected_version },
		{ "moves in one batch see each other", test_moves_in_one_batch },
		{ "an order twice in one call", test_an_order_twice_in_one_call },
		{ "the acknowledgement is in the step", test_acknowledged_within },
		{ "an entry about large orders", test_an_entry_about_large_orders },
		{ "an unknown order among others", test_unknown_among_others },
		{ "damaged orders spoil no other", test_damaged_orders },
		{ "pages of a customer's orders", test_list },
		{ "what is due is leased", test_due },
		{ "late is not lost", test_due_queued },
		{ "a timer is set again", test_timer },
		{ "timers are set together", test_timers_together },
		{ "the tail of the stream", test_tail },
		{ "the position of a published batch is reported", test_published },
		{ "a move answers the history when it is wanted", test_history },
		{ "the tail is interrupted", test_tail_interrupted },
		{ "a stream at its hard length", test_full_stream },
		{ "a request whose order has an earlier id", test_earlier_ids },
		{ "a full stream with other numbers", test_full_stream_with_other_numbers },
		{ "a Redis at maxmemory", test_full_memory },
		{ "keys of another type", test_foreign_keys },
		{ "a move beside timers of another type", test_moves_with_foreign_timers },
		{ "two versions of the library in turn", test_two_versions },
		{ "the functions are gone, and come back", test_functions_flushed },
		{ "Redis is killed, and comes back", test_killed_and_restarted },
		{ "Redis comes back without its data", test_data_gone },
		{ "freed while much is under way", test_freed_under_way },
		{ "a replica confirms", test_replicated },
		{ "freed while a replica is awaited", test_freed_while_a_replica_is_awaited },
		{ "many reads leave room for orders", test_reads_leave_room },
		{ "freed while many read", test_freed_while_read },
	};
	int code;

	tests_log_nothing();
	redis_server_start(&shared, NULL);
	code = tests_run_each("order_store", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&shared);
	return code;
}
