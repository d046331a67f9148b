/* test_inventory_store.c - the inventory store against a real redis-server, as the ACL user that
 * scripts/lib/redis-files makes for the service: a missing right shows here. */
#include "base/base.h"
#include "delivered.h"
#include "events/entry.h"
#include "inventory/store.h"
#include "redis/redis.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOW_MS  1764000000123
#define EVENTS  "inventory:{0}:events"
#define ORDERS  "order:{0}:events"
#define STOCK   "inventory:{0}:stock"
#define RECORDS "inventory:{0}:r"

static struct redis_server server;
static char password[128];

struct fixture {
	struct rt_loop *loop;
	struct rt_store *redis;
	struct inventory_store *store;
	struct rt_store_queue *trims;
	int ends;
	bool delivering;
};
static struct fixture f;

/* ---- running ---- */

static void run_until(int ends)
{
	run_until_count(f.loop, &f.ends, ends);
	f.ends = 0;
}

static void ended(void)
{
	f.ends++;
	rt_loop_stop(f.loop);
}

static bool is_ready(void)
{
	return rt_store_problem(f.redis) == NULL;
}

static void wait_ready(void)
{
	run_until_so(f.loop, is_ready);
}

/* ---- the server and the user ---- */

/* The rights of the service as the scripts write them; the first line that this prints is its password. */
static const char user_script[] =
	"set -euf\n" /* f: patterns of keys are not names of files */
	"export TANDEM_VAR=$1/var TANDEM_REDIS_PORT=1\n" TANDEM_SOURCE
	"/scripts/lib/redis-files redis\n"
	"redis-cli -e -s $1/socket ACL SETUSER \\\n"
	" $(sed -n 's/^user inventory /inventory /p' $TANDEM_VAR/redis/users.acl) >/dev/null\n"
	"cat $TANDEM_VAR/secrets/inventory\n";

/* Before the first test: aborts when it does not work. */
static void user_make(void)
{
	int out[2], status = 0;
	FILE *stream;
	pid_t child;

	fflush(NULL);
	if (pipe(out) != 0)
		abort();
	child = fork();
	if (child == 0) {
		dup2(out[1], STDOUT_FILENO);
		execl("/bin/sh", "sh", "-c", user_script, "sh", server.folder, NULL);
		_exit(127);
	}
	close(out[1]);
	stream = fdopen(out[0], "r");
	if (stream == NULL || fgets(password, sizeof(password), stream) == NULL ||
	    waitpid(child, &status, 0) != child || status != 0)
		abort();
	fclose(stream);
	password[strcspn(password, "\n")] = '\0';
}

static void functions_load(void)
{
	freeReplyObject(redisCommand(server.control, "FUNCTION LOAD REPLACE %b",
				     inventory_functions.code, inventory_functions.code_length));
}

static struct rt_redis_options as_inventory(void)
{
	return (struct rt_redis_options){ .unix_path = server.socket,
					  .user = "inventory",
					  .password = password,
					  .name = "test" };
}

static void setup(void)
{
	struct rt_redis_options redis = as_inventory();
	const struct rt_store_options options = { .redis = &redis,
						  .functions = &inventory_functions };

	redis_server_do(&server, "FLUSHALL");
	redis_server_do(&server, "XGROUP CREATE " ORDERS " inventory 0 MKSTREAM");
	f = (struct fixture){ .ends = 0 };
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	CU_ASSERT_FATAL(rt_store_new(f.loop, &options, &f.redis) == RT_OK);
	CU_ASSERT_FATAL(inventory_store_new(&f.redis, 1, &f.store) == RT_OK);
	CU_ASSERT_FATAL(rt_store_queue_new(f.redis, &rt_trim_step, NULL, &f.trims) == RT_OK);
	wait_ready();
}

static void teardown(void)
{
	if (f.delivering)
		delivered_stop();
	inventory_store_free(f.store);
	rt_store_free(f.redis);
	rt_loop_free(f.loop);
}

/* ---- asking ---- */

struct ask {
	struct inventory_request_op op;
	char order_id[48];
	struct inventory_line lines[4];
	int status;
	long long pending; /* pending entries of orders when a request with an event has ended */
};

static long long pending_orders(void)
{
	redisReply *reply = redis_server_command(&server, "XPENDING " ORDERS " inventory");
	long long pending = reply->element[0]->integer;

	freeReplyObject(reply);
	return pending;
}

static void asked(struct inventory_request_op *op, int status)
{
	struct ask *ask = RT_CONTAINER_OF(op, struct ask, op);

	ask->status = status;
	if (op->event != NULL) {
		ask->pending = pending_orders();
		if (status == RT_OK)
			rt_event_done(op->event);
		else
			rt_event_poison(op->event, "it cannot be served");
	}
	ended();
}

/* Fills a request for order `n` and submits it; `lines` ends with an empty SKU. */
static void submit(struct ask *ask, int n, enum stock_request request,
		   const struct inventory_line *lines)
{
	snprintf(ask->order_id, sizeof(ask->order_id), "ord_%d", n);
	ask->op.order_id = ask->order_id;
	ask->op.request = request;
	ask->op.line_count = 0;
	for (size_t i = 0; lines != NULL && lines[i].sku != NULL; i++)
		ask->lines[ask->op.line_count++] = lines[i];
	ask->op.lines = ask->lines;
	ask->op.now_ms = NOW_MS;
	if (ask->op.seq == 0)
		ask->op.seq = 5;
	if (ask->op.attempt == 0)
		ask->op.attempt = 1;
	ask->op.done = asked;
	inventory_store_request(f.store, &ask->op);
}

static struct ask serve(int n, enum stock_request request, const struct inventory_line *lines)
{
	struct ask ask = { .status = 1 };

	submit(&ask, n, request, lines);
	run_until(1);
	return ask;
}

static void serve_ends(int n, enum stock_request request, const struct inventory_line *lines,
		       int status)
{
	CU_ASSERT_EQUAL(serve(n, request, lines).status, status);
}

static bool ask_is(const struct ask *ask, enum stock_state before, enum stock_state after,
		   enum stock_answer answer)
{
	return ask->status == RT_OK && ask->op.before == before && ask->op.after == after &&
	       ask->op.answer == answer;
}

/* Serves it, from the one state to the other, with this answer. */
static void serve_as(int n, enum stock_request request, const struct inventory_line *lines,
		     enum stock_state before, enum stock_state after, enum stock_answer answer)
{
	struct ask ask = serve(n, request, lines);

	CU_ASSERT(ask_is(&ask, before, after, answer));
}

#define LINES(...) ((const struct inventory_line[]){ __VA_ARGS__, { NULL, 0 } })

static void stock_set(const char *sku, const char *counters)
{
	redis_server_do(&server, "HSET " STOCK " %s %s", sku, counters);
}

static void stock_is(const char *sku, const char *counters)
{
	CU_ASSERT_STRING_EQUAL(redis_server_text(&server, "HGET " STOCK " %s", sku), counters);
}

/* Counters as they are stored, for what the store tells of them. */
static bool stock_equal(const struct stock *stock, const char *counters)
{
	char text[128];

	snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
		 stock->available, stock->reserved, stock->committed, stock->received,
		 stock->version);
	return strcmp(text, counters) == 0;
}

static void record_is(int n, const char *record)
{
	CU_ASSERT_STRING_EQUAL(redis_server_text(&server, "HGET " RECORDS " ord_%d", n), record);
}

/* ---- looking at events ---- */

/* All events of the own stream, in order. */
static struct {
	redisReply *reply;
	struct rt_entry_event list[4096];
	size_t count, entries;
} seen;

static void events_free(void)
{
	freeReplyObject(RT_TAKE(seen.reply));
}

/* Until events_free. */
static void events_read_all(void)
{
	seen.reply = redis_server_command(&server, "XRANGE " EVENTS " - +");
	seen.entries = seen.reply->elements;
	seen.count = 0;
	for (size_t i = 0; i < seen.entries; i++) {
		struct rt_entry_event *list;
		size_t more;

		CU_ASSERT_PTR_NULL_FATAL(
			rt_entry_read_reply(seen.reply->element[i]->element[1], &list, &more));
		CU_ASSERT_FATAL(seen.count + more <= RT_LENGTH(seen.list));
		memcpy(&seen.list[seen.count], list, more * sizeof(*list));
		seen.count += more;
		free(list);
	}
}

static void events_read(size_t count)
{
	events_read_all();
	CU_ASSERT_EQUAL_FATAL(seen.count, count);
}

/* "InventoryReserved ord_1/1", and " attempt=3 traceparent=…" if it has them. */
static void event_is(size_t i, const char *wanted)
{
	const struct rt_entry_event *event = &seen.list[i];
	char text[256];
	size_t length =
		(size_t)snprintf(text, sizeof(text), "%s %.*s/%" PRIu64,
				 event->type.data + strlen("tandem.inventory.v1."),
				 (int)event->subject.length, event->subject.data, event->seq);

	if (event->attempt != 1)
		length += (size_t)snprintf(text + length, sizeof(text) - length, " attempt=%u",
					   event->attempt);
	if (event->traceparent.length > 0)
		length +=
			(size_t)snprintf(text + length, sizeof(text) - length, " traceparent=%.*s",
					 (int)event->traceparent.length, event->traceparent.data);
	if (event->tracestate.length > 0)
		length += (size_t)snprintf(text + length, sizeof(text) - length, " tracestate=%.*s",
					   (int)event->tracestate.length, event->tracestate.data);
	if (event->actor.length > 0)
		snprintf(text + length, sizeof(text) - length, " actor=%.*s",
			 (int)event->actor.length, event->actor.data);
	CU_ASSERT_STRING_EQUAL(text, wanted);
}

/* ---- the tests ---- */

static void all_lines_or_none(void)
{
	stock_set("apple", "5 0 0 5 1");
	stock_set("pear", "3 0 0 3 7");
	serve_as(1, STOCK_REQ_RESERVE, LINES({ "apple", 2 }, { "pear", 3 }), STOCK_NONE,
		 STOCK_RESERVED, STOCK_ANS_RESERVED);
	stock_is("apple", "3 2 0 5 2");
	stock_is("pear", "0 3 0 3 8");
	record_is(1, "RESERVED 1 1764000000123 apple=2 pear=3");
	/* One of its lines is short: the other is not touched. */
	serve_as(2, STOCK_REQ_RESERVE, LINES({ "apple", 1 }, { "pear", 1 }), STOCK_NONE,
		 STOCK_UNAVAILABLE, STOCK_ANS_UNAVAILABLE);
	stock_is("apple", "3 2 0 5 2");
	stock_is("pear", "0 3 0 3 8");
	events_read(2);
	event_is(0, "InventoryReserved ord_1/1");
	CU_ASSERT_EQUAL(strncmp(seen.list[0].time.data, "2025-11-24T16:00:00.123Z", 24), 0);
	CU_ASSERT_EQUAL(seen.list[0].data.length, 0);
	event_is(1, "InventoryUnavailable ord_2/1");
	events_free();
	/* As redis-cli shows it. */
	CU_ASSERT_STRING_EQUAL(
		redis_server_text(&server, "EVAL %s 1 " EVENTS,
				  "local e = redis.call('XRANGE', KEYS[1], '-', '+')[1]\n"
				  "return e[1] .. ' ' .. table.concat(e[2], ' ')"),
		"1764000000123-1 tandem.inventory.v1.InventoryReserved ord_1/1 "
		"time 2025-11-24T16:00:00.123Z");
}

/* What the library remembers of counters never counts more than what the hash says. */
static void counters_by_other_hands(void)
{
	static const struct {
		const char *why, *before, *after;
	} rows[] = {
		{ "as first read", "9 0 0 9 1", "8 1 0 9 2" },
		{ "as it was before our write", "9 0 0 9 1", "8 1 0 9 2" },
		{ "other numbers", "4 2 0 6 2", "3 3 0 6 3" },
		{ "damaged", "4 2 0", "4 2 0" },
		{ "as last written", "3 3 0 6 3", "2 4 0 6 4" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		stock_set("apple", rows[i].before);
		(void)serve((int)i, STOCK_REQ_RESERVE, LINES({ "apple", 1 }));
		TEST_ROW(strcmp(redis_server_text(&server, "HGET " STOCK " apple"),
				rows[i].after) == 0,
			 rows[i].why);
	}
	redis_server_do(&server, "HDEL " STOCK " apple");
	struct ask ask = serve(9, STOCK_REQ_RESERVE, LINES({ "apple", 1 }));
	CU_ASSERT(ask_is(&ask, STOCK_NONE, STOCK_UNAVAILABLE, STOCK_ANS_UNAVAILABLE));
}

static void shortages_are_exact(void)
{
	Tandem__Inventory__V1__InventoryUnavailable *event;

	stock_set("apple", "300 0 0 300 1");
	stock_set("pear", "10 0 0 10 1");
	/* One is short by one, one is enough, one never was there. Builds that do not tell that apart read 00 as 0. */
	serve_as(1, STOCK_REQ_RESERVE, LINES({ "apple", 301 }, { "pear", 10 }, { "fig", 1000000 }),
		 STOCK_NONE, STOCK_UNAVAILABLE, STOCK_ANS_UNAVAILABLE);
	record_is(1, "UNAVAILABLE 1 1764000000123 apple=301/300 pear=10 fig=1000000/00");
	/* A repeat gets the shortages of then, not of now. */
	stock_set("apple", "1000 0 0 1000 2");
	serve_as(1, STOCK_REQ_RESERVE, LINES({ "apple", 301 }, { "pear", 10 }, { "fig", 1000000 }),
		 STOCK_UNAVAILABLE, STOCK_UNAVAILABLE, STOCK_ANS_UNAVAILABLE);
	events_read(2);
	for (size_t i = 0; i < 2; i++) {
		const struct rt_slice *data = &seen.list[i].data;

		event = tandem__inventory__v1__inventory_unavailable__unpack(
			NULL, data->length, (const uint8_t *)data->data);
		CU_ASSERT_FATAL(event != NULL && event->n_shortages == 2);
		CU_ASSERT_STRING_EQUAL(event->shortages[0]->sku, "apple");
		CU_ASSERT_EQUAL(event->shortages[0]->requested, 301);
		CU_ASSERT_EQUAL(event->shortages[0]->available, 300);
		CU_ASSERT_FALSE(event->shortages[0]->unknown);
		CU_ASSERT_STRING_EQUAL(event->shortages[1]->sku, "fig");
		CU_ASSERT_EQUAL(event->shortages[1]->requested, 1000000);
		CU_ASSERT_EQUAL(event->shortages[1]->available, 0);
		CU_ASSERT_TRUE(event->shortages[1]->unknown);
		/* As protobuf-c would have packed it: zeros are left out. */
		CU_ASSERT_EQUAL(
			tandem__inventory__v1__inventory_unavailable__get_packed_size(event),
			data->length);
		tandem__inventory__v1__inventory_unavailable__free_unpacked(event, NULL);
	}
	event_is(1, "InventoryUnavailable ord_1/1");
	events_free();
}

/* 100 items, 2000 orders of one, all at once: exactly 100 get one. */
static void a_hot_sku(void)
{
	enum { ORDERS_COUNT = 2000, ITEMS = 100 };
	struct ask *asks = rt_alloc(ORDERS_COUNT * sizeof(*asks));
	int reserved = 0, refused = 0;

	stock_set("hot", "100 0 0 100 1");
	for (int i = 0; i < ORDERS_COUNT; i++)
		submit(&asks[i], i, STOCK_REQ_RESERVE, LINES({ "hot", 1 }));
	run_until(ORDERS_COUNT);
	for (int i = 0; i < ORDERS_COUNT; i++) {
		reserved += ask_is(&asks[i], STOCK_NONE, STOCK_RESERVED, STOCK_ANS_RESERVED);
		refused += ask_is(&asks[i], STOCK_NONE, STOCK_UNAVAILABLE, STOCK_ANS_UNAVAILABLE);
	}
	CU_ASSERT_EQUAL(reserved, ITEMS);
	CU_ASSERT_EQUAL(refused, ORDERS_COUNT - ITEMS);
	stock_is("hot", "0 100 0 100 101");
	events_read(ORDERS_COUNT);
	CU_ASSERT(seen.entries <= (ORDERS_COUNT + 255) / 256); /* an entry for each call */
	events_free();
	CU_ASSERT_EQUAL(redis_server_int(&server, "HLEN " RECORDS), ORDERS_COUNT);
	free(asks);
}

/* Each step of the way in one batch: later requests see what earlier ones did. */
static void one_batch_sees_itself(void)
{
	struct ask asks[6] = { { .status = 1 } };

	stock_set("apple", "3 0 0 3 1");
	submit(&asks[0], 1, STOCK_REQ_RESERVE, LINES({ "apple", 3 }));
	submit(&asks[1], 2, STOCK_REQ_RESERVE, LINES({ "apple", 1 }));
	submit(&asks[2], 1, STOCK_REQ_RELEASE, NULL);
	submit(&asks[3], 3, STOCK_REQ_RESERVE, LINES({ "apple", 2 }));
	submit(&asks[4], 3, STOCK_REQ_COMMIT, NULL);
	submit(&asks[5], 1, STOCK_REQ_RESERVE, LINES({ "apple", 3 }));
	run_until(6);
	CU_ASSERT(ask_is(&asks[0], STOCK_NONE, STOCK_RESERVED, STOCK_ANS_RESERVED));
	CU_ASSERT(ask_is(&asks[1], STOCK_NONE, STOCK_UNAVAILABLE, STOCK_ANS_UNAVAILABLE));
	CU_ASSERT(ask_is(&asks[2], STOCK_RESERVED, STOCK_RELEASED, STOCK_ANS_RELEASED));
	CU_ASSERT(ask_is(&asks[3], STOCK_NONE, STOCK_RESERVED, STOCK_ANS_RESERVED));
	CU_ASSERT(ask_is(&asks[4], STOCK_RESERVED, STOCK_COMMITTED, STOCK_ANS_COMMITTED));
	CU_ASSERT(ask_is(&asks[5], STOCK_RELEASED, STOCK_RELEASED, STOCK_ANS_RELEASED));
	stock_is("apple", "1 0 2 3 5");
	record_is(1, "RELEASED 2 1764000000123 apple=3");
	record_is(2, "UNAVAILABLE 1 1764000000123 apple=1/0");
	record_is(3, "COMMITTED 2 1764000000123 apple=2");
}

/* A repeat carries the id and seq of the first answer, and the attempt and trace of the asking. */
static void repeats(void)
{
	struct ask ask = { .status = 1 }, plain = { .status = 1 }, third = { .status = 1 };

	stock_set("apple", "3 0 0 3 1");
	serve_ends(1, STOCK_REQ_RESERVE, LINES({ "apple", 3 }), RT_OK);
	/* Between two plain ones: what is said of one must not stick to another. */
	submit(&plain, 2, STOCK_REQ_RELEASE, NULL);
	ask.op.attempt = 3;
	ask.op.traceparent = "00-aa-bb-01";
	ask.op.tracestate = "rojo=1";
	submit(&ask, 1, STOCK_REQ_RESERVE, LINES({ "apple", 3 }));
	submit(&third, 3, STOCK_REQ_RELEASE, NULL);
	run_until(3);
	CU_ASSERT(ask_is(&ask, STOCK_RESERVED, STOCK_RESERVED, STOCK_ANS_RESERVED));
	stock_is("apple", "0 3 0 3 2");
	record_is(1, "RESERVED 1 1764000000123 apple=3");
	record_is(2, "RELEASED 1 1764000000123 "); /* a tombstone, should the order come later */
	events_read(4);
	CU_ASSERT_EQUAL(seen.entries, 2);
	event_is(0, "InventoryReserved ord_1/1");
	event_is(1, "InventoryReleased ord_2/1");
	event_is(2, "InventoryReleased ord_3/1");
	event_is(3,
		 "InventoryReserved ord_1/1 attempt=3 traceparent=00-aa-bb-01 tracestate=rojo=1");
	events_free();
	/* Nor to an event of the next call. */
	serve_ends(4, STOCK_REQ_RELEASE, NULL, RT_OK);
	events_read(5);
	event_is(4, "InventoryReleased ord_4/1");
	events_free();
}

/* Every pair of the table, in Redis as in C. */
static void the_same_rules(void)
{
	static const char *const records[] = {
		[STOCK_RESERVED] = "RESERVED 1 5 apple=2",
		[STOCK_UNAVAILABLE] = "UNAVAILABLE 1 5 apple=2/1",
		[STOCK_COMMITTED] = "COMMITTED 2 5 apple=2",
		[STOCK_RELEASED] = "RELEASED 2 5 apple=2",
		[STOCK_RETURNED] = "RETURNED 3 5 4 apple=3-1",
	};
	static const char *const counters[] = {
		[STOCK_KEEP] = "5 2 2 9 4",      [STOCK_TRY] = "3 4 2 9 5",
		[STOCK_COMMIT_IT] = "5 0 4 9 5", [STOCK_GIVE_BACK] = "7 0 2 9 5",
		[STOCK_TAKE_BACK] = "6 2 1 9 5", /* one more; of two, nothing had come back */
		[STOCK_DROP_IT] = "5 2 2 9 4",
	};

	for (int state = 0; state < STOCK_STATE_COUNT; state++) {
		for (int request = 0; request < STOCK_REQUEST_COUNT; request++) {
			const struct stock_rule *rule =
				stock_rule((enum stock_state)state, (enum stock_request)request);
			long long before = redis_server_int(&server, "XLEN " EVENTS);
			const struct inventory_line back[] = {
				{ "apple", state == STOCK_RETURNED ? 2 : 1 }, { NULL, 0 }
			};
			struct ask ask;

			stock_set("apple", counters[STOCK_KEEP]);
			redis_server_do(&server, "DEL " RECORDS);
			if (state != STOCK_NONE)
				redis_server_do(&server, "HSET " RECORDS " ord_1 %s",
						records[state]);
			ask = serve(1, rule->request,
				    request == STOCK_REQ_RESERVE  ? LINES({ "apple", 2 })
				    : request == STOCK_REQ_RETURN ? back
								  : NULL);
			CU_ASSERT(ask_is(&ask, rule->state, rule->to, rule->answer));
			stock_is("apple", counters[rule->effect]);
			CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " EVENTS) - before,
					rule->answer != STOCK_ANS_NOTHING);
		}
	}
}

/* Asks for what came back in all, as the request of this version of the order says it. */
static struct ask give_back(uint64_t order_version, const struct inventory_line *lines)
{
	struct ask ask = { .status = 1, .op.seq = order_version };

	submit(&ask, 1, STOCK_REQ_RETURN, lines);
	run_until(1);
	return ask;
}

/* Which version of the order an InventoryReturned answers. */
static uint64_t answered_version(size_t i)
{
	const struct rt_slice *data = &seen.list[i].data;
	Tandem__Inventory__V1__InventoryReturned *event =
		tandem__inventory__v1__inventory_returned__unpack(NULL, data->length,
								  (const uint8_t *)data->data);
	uint64_t version = event == NULL ? 0 : event->order_version;

	CU_ASSERT_PTR_NOT_NULL(event);
	tandem__inventory__v1__inventory_returned__free_unpacked(event, NULL);
	return version;
}

static void what_comes_back(void)
{
	struct ask ask;

	stock_set("apple", "9 0 0 9 1");
	stock_set("pear", "2 0 0 2 1");
	serve_ends(1, STOCK_REQ_RESERVE, LINES({ "apple", 5 }, { "pear", 2 }), RT_OK);
	serve_ends(1, STOCK_REQ_COMMIT, NULL, RT_OK);
	ask = give_back(5, LINES({ "apple", 2 }));
	CU_ASSERT(ask_is(&ask, STOCK_COMMITTED, STOCK_RETURNED, STOCK_ANS_RETURNED));
	stock_is("apple", "6 0 3 9 4");
	record_is(1, "RETURNED 3 1764000000123 5 apple=5-2 pear=2");
	/* The same request again, and one that a later one has overtaken: nothing more comes back. */
	for (uint64_t version = 5; version >= 4; version--) {
		ask = give_back(version, LINES({ "apple", version == 5 ? 2 : 1 }));
		CU_ASSERT(ask_is(&ask, STOCK_RETURNED, STOCK_RETURNED, STOCK_ANS_RETURNED));
		stock_is("apple", "6 0 3 9 4");
		record_is(1, "RETURNED 3 1764000000123 5 apple=5-2 pear=2");
	}
	/* More, of both. */
	ask = give_back(7, LINES({ "apple", 5 }, { "pear", 1 }));
	CU_ASSERT(ask_is(&ask, STOCK_RETURNED, STOCK_RETURNED, STOCK_ANS_RETURNED));
	stock_is("apple", "9 0 0 9 5");
	stock_is("pear", "1 0 1 2 4");
	record_is(1, "RETURNED 4 1764000000123 7 apple=5-5 pear=2-1");
	/* Old requests are answered with what became of the order. */
	serve_as(1, STOCK_REQ_RESERVE, LINES({ "apple", 5 }, { "pear", 2 }), STOCK_RETURNED,
		 STOCK_RETURNED, STOCK_ANS_RETURNED);
	serve_as(1, STOCK_REQ_COMMIT, NULL, STOCK_RETURNED, STOCK_RETURNED, STOCK_ANS_RETURNED);
	stock_is("apple", "9 0 0 9 5");
	events_read(8);
	event_is(2, "InventoryReturned ord_1/3");
	event_is(3, "InventoryReturned ord_1/3");
	event_is(4, "InventoryReturned ord_1/3");
	event_is(5, "InventoryReturned ord_1/4");
	event_is(6, "InventoryReturned ord_1/4");
	event_is(7, "InventoryReturned ord_1/4");
	for (size_t i = 2; i < 8; i++)
		CU_ASSERT_EQUAL(answered_version(i), i < 5 ? 5 : 7);
	events_free();
}

/* Never more than was sold, and only of what was ordered; the others of the batch are not affected. */
static void what_cannot_come_back(void)
{
	struct ask asks[2] = { { .status = 1 }, { .status = 1 } };

	stock_set("apple", "9 0 0 9 1");
	stock_set("pear", "9 0 5 14 1");
	for (int n = 1; n <= 2; n++) {
		serve_ends(n, STOCK_REQ_RESERVE, LINES({ "apple", 3 }), RT_OK);
		serve_ends(n, STOCK_REQ_COMMIT, NULL, RT_OK);
	}
	submit(&asks[0], 1, STOCK_REQ_RETURN, LINES({ "apple", 4 }));
	submit(&asks[1], 2, STOCK_REQ_RETURN, LINES({ "apple", 3 }));
	run_until(2);
	CU_ASSERT_EQUAL(asks[0].status, RT_REMOTE);
	CU_ASSERT(ask_is(&asks[1], STOCK_COMMITTED, STOCK_RETURNED, STOCK_ANS_RETURNED));
	record_is(1, "COMMITTED 2 1764000000123 apple=3");
	stock_is("apple", "6 0 3 9 6");
	CU_ASSERT_EQUAL(give_back(5, LINES({ "apple", 1 }, { "pear", 1 })).status, RT_REMOTE);
	stock_is("pear", "9 0 5 14 1");
	stock_is("apple", "6 0 3 9 6");
	CU_ASSERT_EQUAL(give_back(5, LINES({ "apple", 1 }, { "apple", 1 })).status, RT_INVALID);
}

static void deliver(void)
{
	struct rt_redis_options redis = as_inventory();

	f.delivering = true;
	delivered_start(f.loop, f.redis, &redis, &inventory_functions, ORDERS);
}

/* An entry of orders with these events: "ord_1/1 ord_2/1". */
static void add_orders(const char *names)
{
	redis_server_do(&server, "XADD " ORDERS " * tandem.order.v1.OrderPlaced %s time t", names);
}

/* Effect and acknowledgement are one step, also for what is answered with nothing. */
static void acknowledged(void)
{
	struct ask asks[4] = { { .status = 1 } };

	stock_set("apple", "3 0 0 3 1");
	add_orders("ord_1/1 ord_3/1");
	add_orders("ord_4/1 ord_5/1");
	deliver();
	asks[0].op.event = delivered_next();
	asks[2].op.event = delivered_next();
	asks[3].op.event = delivered_next(); /* no request for ord_5: its entry stays pending */
	submit(&asks[0], 1, STOCK_REQ_RESERVE, LINES({ "apple", 1 }));
	submit(&asks[1], 2, STOCK_REQ_RESERVE, LINES({ "apple", 1 })); /* nothing to acknowledge */
	submit(&asks[2], 3, STOCK_REQ_COMMIT, NULL);                   /* of nothing: no answer */
	submit(&asks[3], 4, STOCK_REQ_RELEASE, NULL);
	run_until(4);
	CU_ASSERT(ask_is(&asks[2], STOCK_NONE, STOCK_NONE, STOCK_ANS_NOTHING));
	CU_ASSERT_EQUAL(asks[0].pending, 1);
	events_read(3);
	events_free();
	CU_ASSERT_EQUAL(redis_server_int(&server, "HEXISTS " RECORDS " ord_3"), 0);
}

static bool none_pending(void)
{
	return pending_orders() == 0;
}

/* Damaged records: their request fails and stays pending, nothing of it is written; the
 * others of the batch go on. */
static void damage_stays_alone(void)
{
	static const struct {
		const char *reason, *counters, *record;
		enum stock_request request;
	} rows[] = {
		{ "counters that are no numbers", "lots", NULL, STOCK_REQ_RESERVE },
		{ "a counter below zero", "-5 0 0 -5 1", NULL, STOCK_REQ_RESERVE },
		{ "a counter too large for a double", "9007199254740993 0 0 9007199254740993 1",
		  NULL, STOCK_REQ_RESERVE },
		{ "a counter is missing", "5 0 0 5", NULL, STOCK_REQ_RESERVE },
		{ "a version that cannot be counted on", "5 0 0 5 9007199254740991", NULL,
		  STOCK_REQ_RESERVE },
		{ "less is reserved than the reservation holds", "5 1 0 6 1", "RESERVED 1 5 bad=2",
		  STOCK_REQ_COMMIT },
		{ "less is reserved, for a release", "5 1 0 6 1", "RESERVED 1 5 bad=2",
		  STOCK_REQ_RELEASE },
		{ "one line of two is not reserved", "5 2 0 7 1", "RESERVED 1 5 bad=2 gone=1",
		  STOCK_REQ_RELEASE },
		{ "two lines together hold more than is reserved", "5 3 0 8 1",
		  "RESERVED 1 5 bad=2 bad=2", STOCK_REQ_RELEASE },
		{ "an unknown state", "5 2 0 7 1", "SOLD 1 5 bad=2", STOCK_REQ_RELEASE },
		{ "a record that is none", "5 2 0 7 1", "hello", STOCK_REQ_RELEASE },
		{ "a record with a version that is none", "5 2 0 7 1",
		  "RESERVED 123456789012345678 5 bad=2", STOCK_REQ_RELEASE },
	};

	deliver();
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct ask bad = { .status = 1 }, good = { .status = 1 };

		redis_server_do(&server, "DEL " RECORDS " " STOCK " " EVENTS);
		stock_set("apple", "3 0 0 3 1");
		stock_set("bad", rows[i].counters);
		if (rows[i].record != NULL)
			redis_server_do(&server, "HSET " RECORDS " ord_1 %s", rows[i].record);
		add_orders("ord_1/1 ord_2/1");
		bad.op.event = delivered_next();
		good.op.event = delivered_next();
		submit(&bad, 1, rows[i].request,
		       rows[i].request == STOCK_REQ_RESERVE ? LINES({ "apple", 1 }, { "bad", 1 })
							    : NULL);
		submit(&good, 2, STOCK_REQ_RESERVE, LINES({ "apple", 3 }));
		run_until(2);
		TEST_ROW(bad.status == RT_REMOTE, rows[i].reason);
		TEST_ROW(ask_is(&good, STOCK_NONE, STOCK_RESERVED, STOCK_ANS_RESERVED),
			 rows[i].reason);
		stock_is("apple", "0 3 0 3 2");
		stock_is("bad", rows[i].counters);
		if (rows[i].record != NULL)
			record_is(1, rows[i].record);
		else
			TEST_ROW(redis_server_int(&server, "HEXISTS " RECORDS " ord_1") == 0,
				 rows[i].reason);
		TEST_ROW(redis_server_int(&server, "XLEN " EVENTS) == 1, rows[i].reason);
		/* Nothing was acknowledged; then only the bad one moves to the dead letters. */
		TEST_ROW(bad.pending == 1 && good.pending == 1, rows[i].reason);
		run_until_so(f.loop, none_pending);
		TEST_ROW(redis_server_int(&server, "XLEN inventory:{0}:dead") == (long long)i + 1,
			 rows[i].reason);
	}
}

/* More values than Lua's stack holds, in one call. */
static void very_many_skus(void)
{
	enum { ASKS = 100, LINES_EACH = 100 };
	struct ask *asks = rt_alloc(ASKS * sizeof(*asks));
	struct inventory_line *lines = rt_alloc(ASKS * LINES_EACH * sizeof(*lines));

	for (int i = 0; i < ASKS * LINES_EACH; i++) {
		lines[i].sku = rt_printf("sku-%d", i);
		lines[i].quantity = 2;
		stock_set(lines[i].sku, "2 0 0 2 1");
	}
	for (int i = 0; i < ASKS; i++) {
		submit(&asks[i], i, STOCK_REQ_COMMIT, NULL); /* fills the rest in */
		asks[i].op.request = STOCK_REQ_RESERVE;
		asks[i].op.lines = &lines[i * LINES_EACH];
		asks[i].op.line_count = LINES_EACH;
	}
	run_until(ASKS);
	for (int i = 0; i < ASKS; i++)
		CU_ASSERT(ask_is(&asks[i], STOCK_NONE, STOCK_RESERVED, STOCK_ANS_RESERVED));
	for (int i = 0; i < ASKS * LINES_EACH; i++) {
		if (i % 777 == 0 || i == ASKS * LINES_EACH - 1)
			stock_is(lines[i].sku, "0 2 0 2 2");
		free((char *)(uintptr_t)lines[i].sku);
	}
	free(lines);
	free(asks);
}

static void lines_that_are_none(void)
{
	stock_set("apple", "3 0 0 3 1");
	serve_ends(1, STOCK_REQ_RESERVE, NULL, RT_INVALID);
	serve_ends(1, STOCK_REQ_RESERVE, LINES({ "apple", 2 }, { "apple", 2 }), RT_INVALID);
	serve_ends(1, STOCK_REQ_RESERVE, LINES({ "apple=1 pear", 2 }), RT_INVALID);
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS " RECORDS " " EVENTS), 0);
}

/* ---- adjustments ---- */

struct adjust {
	struct inventory_adjust_op op;
	int status;
};

static void adjusted(struct inventory_adjust_op *op, int status)
{
	RT_CONTAINER_OF(op, struct adjust, op)->status = status;
	ended();
}

static void submit_adjust(struct adjust *adjust, const char *sku, int64_t delta,
			  const char *request_id, const char *reason)
{
	adjust->op = (struct inventory_adjust_op){ .sku = sku,
						   .who = "jo",
						   .from = "here",
						   .delta = delta,
						   .request_id = request_id,
						   .reason = reason,
						   .now_ms = NOW_MS,
						   .done = adjusted };
	adjust->status = 1;
	inventory_store_adjust(f.store, &adjust->op);
}

static void adjust_now(struct adjust *adjust, const char *sku, int64_t delta,
		       const char *request_id, const char *reason)
{
	submit_adjust(adjust, sku, delta, request_id, reason);
	run_until(1);
}

static void adjustments(void)
{
	static const struct {
		const char *reason, *sku;
		int64_t delta;
		int outcome;
		const char *stock; /* as it is then, and is stored */
	} rows[] = {
		{ "stock of a new SKU", "apple", 7, INVENTORY_ADJUSTED, "7 0 0 7 1" },
		{ "more of it", "apple", 1, INVENTORY_ADJUSTED, "8 0 0 8 2" },
		{ "all of it out", "apple", -8, INVENTORY_ADJUSTED, "0 0 0 0 3" },
		{ "more than there is", "apple", -1, INVENTORY_SHORT, "0 0 0 0 3" },
		{ "what is reserved stays", "pear", -6, INVENTORY_SHORT, "5 2 1 8 4" },
		{ "what is available goes", "pear", -5, INVENTORY_ADJUSTED, "0 2 1 3 5" },
		{ "as much as can be counted", "fig", 1000000000, INVENTORY_ADJUSTED,
		  "1000000000000 0 0 1000000000000 2" },
		{ "one more than can be counted", "fig", 1, INVENTORY_OVERFLOW,
		  "1000000000000 0 0 1000000000000 2" },
		{ "out of nothing", "none", -1, INVENTORY_SHORT, "0 0 0 0 0" },
	};

	stock_set("pear", "5 2 1 8 4");
	stock_set("fig", "999000000000 0 0 999000000000 1");
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct adjust adjust;

		adjust_now(&adjust, rows[i].sku, rows[i].delta, "", "");
		TEST_ROW(adjust.status == RT_OK, rows[i].reason);
		TEST_ROW((int)adjust.op.outcome == rows[i].outcome, rows[i].reason);
		TEST_ROW(stock_equal(&adjust.op.stock, rows[i].stock), rows[i].reason);
		if (adjust.op.stock.version > 0)
			stock_is(rows[i].sku, rows[i].stock);
	}
	CU_ASSERT_EQUAL(redis_server_int(&server, "HEXISTS " STOCK " none"), 0);
	CU_ASSERT_EQUAL(redis_server_int(&server, "ZCARD inventory:{0}:skus"), 1);
	events_read(5);
	events_free();
}

static void adjustments_answer(void)
{
	static const struct {
		const char *id, *reason;
		int64_t delta;
		uint64_t available, version;
	} rows[] = {
		{ "apple/1", "delivery", 1000000000, 1000000000, 1 },
		{ "apple/2", "", -999999999, 1, 2 },
	};
	struct adjust asks[RT_LENGTH(rows)];

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		submit_adjust(&asks[i], "apple", rows[i].delta, "", rows[i].reason);
	asks[0].op.who = "";
	run_until(RT_LENGTH(rows));
	events_read(2);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const struct rt_slice *data = &seen.list[i].data;
		Tandem__Inventory__V1__StockAdjusted *event =
			tandem__inventory__v1__stock_adjusted__unpack(NULL, data->length,
								      (const uint8_t *)data->data);
		char wanted[64];

		snprintf(wanted, sizeof(wanted), "StockAdjusted %s%s", rows[i].id,
			 i == 0 ? "" : " actor=jo");
		event_is(i, wanted);
		CU_ASSERT_FATAL(event != NULL && event->stock != NULL);
		TEST_ROW(event->delta == rows[i].delta, rows[i].id);
		TEST_ROW(strcmp(event->reason, rows[i].reason) == 0, rows[i].id);
		TEST_ROW(strcmp(event->stock->sku, "apple") == 0, rows[i].id);
		TEST_ROW(event->stock->available == rows[i].available, rows[i].id);
		TEST_ROW(event->stock->received == rows[i].available, rows[i].id);
		TEST_ROW(event->stock->version == rows[i].version, rows[i].id);
		TEST_ROW(tandem__inventory__v1__stock_adjusted__get_packed_size(event) ==
				 data->length,
			 rows[i].id);
		tandem__inventory__v1__stock_adjusted__free_unpacked(event, NULL);
	}
	events_free();
}

/* An adjustment is entered in the trail in its step; one that is refused or came before is not. */
static void adjustments_are_entered(void)
{
	static const char *const wanted[] = {
		"who=jo from=here action=stock.adjust subject=apple why=a lorry result=+7: "
		"available 7, reserved 0, committed 0, received 7, version 1 ",
		"who=anonymous from=here action=stock.adjust subject=pear why= result=+2: "
		"available 2, reserved 0, committed 0, received 2, version 1 ",
		"who=jo from=here action=stock.adjust subject=apple why=broken result=-3: "
		"available 4, reserved 0, committed 0, received 4, version 2 ",
	};
	struct adjust asks[5];
	redisReply *reply;

	submit_adjust(&asks[0], "apple", 7, "req-1", "a lorry");
	submit_adjust(&asks[1], "apple", 7, "req-1", "a lorry");
	submit_adjust(&asks[2], "apple", -9, "", "too many");
	submit_adjust(&asks[3], "pear", 2, "", "");
	asks[3].op.who = "";
	submit_adjust(&asks[4], "apple", -3, "", "broken");
	run_until(RT_LENGTH(asks));
	reply = redis_server_command(&server, "XRANGE inventory:{0}:trail - +");
	CU_ASSERT_EQUAL_FATAL(reply->elements, RT_LENGTH(wanted));
	for (size_t i = 0; i < RT_LENGTH(wanted); i++) {
		const redisReply *fields = reply->element[i]->element[1];
		struct rt_buf text = { 0 };

		for (size_t j = 0; j + 1 < fields->elements; j += 2)
			rt_buf_printf(&text, "%s=%s ", fields->element[j]->str,
				      fields->element[j + 1]->str);
		rt_buf_add(&text, "", 1);
		CU_ASSERT_STRING_EQUAL(text.data, wanted[i]);
		rt_buf_done(&text);
	}
	freeReplyObject(reply);
	/* What cannot be entered is not done. */
	redis_server_do(&server, "DEL inventory:{0}:trail");
	redis_server_do(&server, "SET inventory:{0}:trail x");
	adjust_now(&asks[0], "apple", 1, "", "");
	CU_ASSERT_EQUAL(asks[0].status, RT_REMOTE);
	stock_is("apple", "4 0 0 4 2");
}

/* The same request_id: once, however often it comes, in one batch or later; also when it comes back
 * after other changes, it is answered as at the first time. */
static void adjustments_once(void)
{
	static const char why[] = "a reason\nof two lines";
	static const struct {
		const char *sku;
		int64_t delta;
		const char *request_id, *reason;
		int outcome;
		bool last; /* of its batch */
	} rows[] = {
		{ "apple", 7, "req-1", why, INVENTORY_ADJUSTED, false },
		{ "apple", 7, "req-1", why, INVENTORY_ADJUSTED_BEFORE, false },
		{ "apple", 8, "req-1", why, INVENTORY_CONFLICT, false },
		{ "apple", 7, "req-1", "another", INVENTORY_CONFLICT, false },
		{ "pear", 8, "req-1", "another SKU, another request", INVENTORY_ADJUSTED, true },
		{ "apple", -3, "req-2", "", INVENTORY_ADJUSTED, true },
		{ "apple", 7, "req-1", why, INVENTORY_ADJUSTED_BEFORE, false },
		{ "apple", 6, "req-1", why, INVENTORY_CONFLICT, false },
		{ "apple", -5, "req-3", "", INVENTORY_SHORT, true },
		/* What was refused may be asked again. */
		{ "apple", 5, "", "", INVENTORY_ADJUSTED, false },
		{ "apple", -5, "req-3", "", INVENTORY_ADJUSTED, true },
	};
	struct adjust asks[RT_LENGTH(rows)];
	size_t first = 0;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		submit_adjust(&asks[i], rows[i].sku, rows[i].delta, rows[i].request_id,
			      rows[i].reason);
		if (!rows[i].last)
			continue;
		run_until((int)(i + 1 - first));
		first = i + 1;
	}
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		CU_ASSERT_EQUAL((int)asks[i].op.outcome, rows[i].outcome);
		if (rows[i].outcome == INVENTORY_ADJUSTED_BEFORE)
			CU_ASSERT(stock_equal(&asks[i].op.stock, "7 0 0 7 1"));
	}
	stock_is("apple", "4 0 0 4 4");
	events_read(5);
	events_free();
	/* The record does not live for ever. */
	CU_ASSERT(redis_server_int(&server, "PTTL inventory:{0}:adjust:apple:req-1") >
		  29LL * 86400000);
}

static void adjustments_of_damage(void)
{
	struct adjust asks[2];

	stock_set("bad", "5 5");
	submit_adjust(&asks[0], "bad", 1, "", "");
	submit_adjust(&asks[1], "apple", 1, "", "");
	run_until(2);
	CU_ASSERT_EQUAL(asks[0].status, RT_REMOTE);
	CU_ASSERT_EQUAL(asks[1].status, RT_OK);
	stock_is("bad", "5 5");
	stock_is("apple", "1 0 0 1 1");
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " EVENTS), 1);
}

/* ---- what is low ---- */

struct set {
	struct inventory_threshold_op op;
	int status;
};

static void was_set(struct inventory_threshold_op *op, int status)
{
	RT_CONTAINER_OF(op, struct set, op)->status = status;
	ended();
}

static struct set set_threshold(const char *sku, uint64_t threshold)
{
	struct set set = { .op = { .sku = sku,
				   .threshold = threshold,
				   .reason = "a season",
				   .who = "jo",
				   .from = "here",
				   .now_ms = NOW_MS,
				   .done = was_set } };

	inventory_store_threshold(f.store, &set.op);
	run_until(1);
	return set;
}

/* What is done to 12 apples, which are low below 10. */
static void step_is_done(const char *step)
{
	int64_t number = strtoll(strchr(step, ' ') + 1, NULL, 10);
	const struct inventory_line *lines = LINES({ "apple", (uint32_t)number });
	struct adjust adjust;

	switch (step[0]) {
	case 'r':
		serve_ends((int)number, STOCK_REQ_RESERVE, lines, RT_OK);
		break;
	case 'c':
		serve_ends((int)number, STOCK_REQ_COMMIT, NULL, RT_OK);
		break;
	case 'l':
		serve_ends((int)number, STOCK_REQ_RELEASE, NULL, RT_OK);
		break;
	case 'b':
		serve_ends((int)number, STOCK_REQ_RETURN, lines, RT_OK);
		break;
	case 'a':
		adjust_now(&adjust, "apple", number, "", "");
		CU_ASSERT_EQUAL(adjust.op.outcome, INVENTORY_ADJUSTED);
		CU_ASSERT(adjust.op.stock.threshold > 0);
		break;
	default:
		CU_ASSERT_EQUAL(set_threshold("apple", (uint64_t)number).status, RT_OK);
		break;
	}
}

/* The last event of the own stream, if it is a StockLow: "<available> <threshold> <version>"; else "". */
static const char *last_low(void)
{
	static char text[64];
	const struct rt_entry_event *event;
	Tandem__Inventory__V1__StockLow *low;

	events_read_all();
	text[0] = '\0';
	event = seen.count > 0 ? &seen.list[seen.count - 1] : NULL;
	if (event != NULL &&
	    strncmp(event->type.data, "tandem.inventory.v1.StockLow", event->type.length) == 0) {
		low = tandem__inventory__v1__stock_low__unpack(NULL, event->data.length,
							       (const uint8_t *)event->data.data);
		CU_ASSERT_FATAL(low != NULL && low->stock != NULL);
		CU_ASSERT_EQUAL(low->stock->version, event->seq);
		CU_ASSERT_STRING_EQUAL(low->stock->sku, "apple");
		snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu64,
			 low->stock->available, low->stock->low_stock_threshold,
			 low->stock->version);
		tandem__inventory__v1__stock_low__free_unpacked(low, NULL);
	}
	events_free();
	return text;
}

/* A fall below the threshold is told once, with a version of its own, whatever makes it; then again after a rise. */
static void what_is_low_is_told(void)
{
	static const struct {
		const char
			*step; /* reserve, commit, let go, bring back, adjust; =: the threshold */
		const char *stock; /* then */
		const char *low;   /* what is told; "": nothing */
	} rows[] = {
		{ "= 10", "12 0 0 12 2 10", "" },     { "r 2", "10 2 0 12 3 10", "" },
		{ "r 1", "9 3 0 12 5 10", "9 10 5" }, { "r 3", "6 6 0 12 6 10", "" },
		{ "c 3", "6 3 3 12 7 10", "" },       { "l 1", "7 2 3 12 8 10", "" },
		{ "b 3", "10 2 0 12 9 10", "" },      { "a -1", "9 2 0 11 11 10", "9 10 11" },
		{ "= 9", "9 2 0 11 12 9", "" },       { "= 11", "9 2 0 11 14 11", "9 11 14" },
		{ "= 12", "9 2 0 11 15 12", "" },     { "= 12", "9 2 0 11 15 12", "" },
		{ "a 3", "12 2 0 14 16 12", "" },     { "r 12", "0 14 0 14 18 12", "0 12 18" },
		{ "l 12", "12 2 0 14 19 12", "" },
	};
	size_t told = 0;

	stock_set("apple", "12 0 0 12 1");
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		size_t before = told;
		const char *low;

		step_is_done(rows[i].step);
		stock_is("apple", rows[i].stock);
		low = last_low();
		told = seen.count;
		TEST_ROW(strcmp(told > before ? low : "", rows[i].low) == 0, rows[i].step);
	}
	/* Without a threshold nothing is told; with one again it is. */
	CU_ASSERT_EQUAL(set_threshold("apple", 0).op.stock.threshold, 0);
	stock_is("apple", "12 2 0 14 20");
	serve_ends(20, STOCK_REQ_RESERVE, LINES({ "apple", 5 }), RT_OK);
	CU_ASSERT_STRING_EQUAL(last_low(), "");
	CU_ASSERT_EQUAL(set_threshold("apple", 8).op.stock.threshold, 8);
	CU_ASSERT_STRING_EQUAL(last_low(), "7 8 23");
}

/* One call is one step: what it leaves counts. */
static void low_within_a_step(void)
{
	struct ask asks[3] = { { .status = 1 }, { .status = 1 }, { .status = 1 } };

	stock_set("apple", "10 0 0 10 1 8");
	stock_set("pear", "10 0 0 10 1 8");
	submit(&asks[0], 1, STOCK_REQ_RESERVE, LINES({ "apple", 3 }, { "pear", 3 }));
	submit(&asks[1], 1, STOCK_REQ_RELEASE, NULL);
	submit(&asks[2], 2, STOCK_REQ_RESERVE, LINES({ "pear", 4 }));
	run_until(3);
	stock_is("apple", "10 0 0 10 3 8");
	stock_is("pear", "6 4 0 10 5 8");
	events_read(4);
	event_is(3, "StockLow pear/5");
	events_free();
}

/* A repeated adjustment is answered with what it did, and the threshold of now. Thresholds are entered in the trail. */
static void thresholds(void)
{
	struct adjust adjust;
	struct set set;

	set = set_threshold("apple", 5);
	CU_ASSERT(set.status == RT_OK && !set.op.found);
	adjust_now(&adjust, "apple", 7, "req-1", "5 boxes");
	set = set_threshold("apple", 5);
	CU_ASSERT(set.status == RT_OK && set.op.found && set.op.stock.threshold == 5);
	set = set_threshold("apple", 5);
	CU_ASSERT(stock_equal(&set.op.stock, "7 0 0 7 2"));
	adjust_now(&adjust, "apple", 7, "req-1", "5 boxes");
	CU_ASSERT_EQUAL(adjust.op.outcome, INVENTORY_ADJUSTED_BEFORE);
	CU_ASSERT(stock_equal(&adjust.op.stock, "7 0 0 7 1"));
	CU_ASSERT_EQUAL(adjust.op.stock.threshold, 5);
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN inventory:{0}:trail"), 2);
	stock_set("bad", "5 5");
	CU_ASSERT_EQUAL(set_threshold("bad", 5).status, RT_REMOTE);
	stock_set("bad", "5 0 0 5 1 0");
	CU_ASSERT_EQUAL(set_threshold("bad", 5).status, RT_REMOTE);
	stock_is("bad", "5 0 0 5 1 0");
	redis_server_do(&server, "DEL inventory:{0}:trail");
	redis_server_do(&server, "SET inventory:{0}:trail x");
	CU_ASSERT_EQUAL(set_threshold("apple", 6).status, RT_REMOTE);
	stock_is("apple", "7 0 0 7 2 5");
}

/* ---- reading ---- */

struct get {
	struct inventory_stock_op op;
	int status;
};

static void got(struct inventory_stock_op *op, int status)
{
	RT_CONTAINER_OF(op, struct get, op)->status = status;
	ended();
}

static void reading_stock(void)
{
	static const char *const skus[] = { "apple", "none", "bad", "apple" };
	struct get gets[RT_LENGTH(skus)];

	stock_set("apple", "5 2 1 8 4");
	stock_set("bad", "5 2 1 8 4 ");
	for (size_t i = 0; i < RT_LENGTH(skus); i++) {
		gets[i] = (struct get){ .op = { .sku = skus[i], .done = got } };
		inventory_store_stock(f.store, &gets[i].op);
	}
	run_until(RT_LENGTH(skus));
	CU_ASSERT_EQUAL(gets[0].status, RT_OK);
	CU_ASSERT(gets[0].op.found && stock_equal(&gets[0].op.stock, "5 2 1 8 4"));
	CU_ASSERT_EQUAL(gets[1].status, RT_OK);
	CU_ASSERT_FALSE(gets[1].op.found);
	CU_ASSERT_EQUAL(gets[2].status, RT_REMOTE);
	CU_ASSERT(gets[3].op.found && stock_equal(&gets[3].op.stock, "5 2 1 8 4"));
}

static char listed_text[256];
static bool listed_more;
static int listed_status;

static void listed(struct inventory_list_op *op, int status)
{
	size_t length = 0;

	listed_text[0] = '\0';
	for (size_t i = 0; i < op->stock_count; i++)
		length += (size_t)snprintf(listed_text + length, sizeof(listed_text) - length,
					   "%s:%d ", op->stocks[i].sku,
					   (int)op->stocks[i].stock.available);
	listed_more = op->more;
	listed_status = status;
	ended();
}

static void list_is(const char *after, size_t count_max, const char *stocks, bool more)
{
	struct inventory_list_op op = { .after = after, .count_max = count_max, .done = listed };

	inventory_store_list(f.store, &op);
	run_until(1);
	CU_ASSERT_EQUAL(listed_status, RT_OK);
	CU_ASSERT_STRING_EQUAL(listed_text, stocks);
	CU_ASSERT_EQUAL(listed_more, more);
}

static void listing(void)
{
	static const char *const skus[] = { "b", "a", "Z", "a.1", "a-1", "a_1", "aa" };
	struct adjust adjust;

	list_is("", 10, "", false);
	for (size_t i = 0; i < RT_LENGTH(skus); i++)
		adjust_now(&adjust, skus[i], (int64_t)i + 1, "", "");
	list_is("", 10, "Z:3 a:2 a-1:5 a.1:4 a_1:6 aa:7 b:1 ", false);
	list_is("", 3, "Z:3 a:2 a-1:5 ", true);
	list_is("a-1", 4, "a.1:4 a_1:6 aa:7 b:1 ", false);
	list_is("a-11", 1, "a.1:4 ", true);
	list_is("b", 1, "", false);
}

struct look {
	struct inventory_reservation_op op;
	char text[256];
	int status;
};

static void looked(struct inventory_reservation_op *op, int status)
{
	struct look *look = RT_CONTAINER_OF(op, struct look, op);
	size_t length = 0;

	look->status = status;
	for (size_t i = 0; i < op->line_count; i++)
		length += (size_t)snprintf(look->text + length, sizeof(look->text) - length,
					   "%s=%u ", op->lines[i].sku, op->lines[i].quantity);
	for (size_t i = 0; i < op->shortage_count; i++)
		length += (size_t)snprintf(
			look->text + length, sizeof(look->text) - length, "%s:%u/%d%s ",
			op->shortages[i].sku, op->shortages[i].requested,
			(int)op->shortages[i].available, op->shortages[i].unknown ? "?" : "");
	ended();
}

static void reservations(void)
{
	static const struct {
		const char *record;
		int status;
		enum stock_state state;
		int version;
		const char *text;
	} rows[] = {
		{ "RESERVED 1 1764000000123 apple=2 pear=3", RT_OK, STOCK_RESERVED, 1,
		  "apple=2 pear=3 " },
		{ "UNAVAILABLE 1 1764000000123 apple=2 pear=3/1 fig=4/0 kiwi=1/00", RT_OK,
		  STOCK_UNAVAILABLE, 1, "apple=2 pear=3 fig=4 kiwi=1 pear:3/1 fig:4/0 kiwi:1/0? " },
		{ "RELEASED 2 1764000000123 apple=2 pear=3/1", RT_OK, STOCK_RELEASED, 2,
		  "apple=2 pear=3 " },
		{ "RELEASED 1 1764000000123 ", RT_OK, STOCK_RELEASED, 1, "" },
		{ "COMMITTED 2 1764000000123 apple=4294967295", RT_OK, STOCK_COMMITTED, 2,
		  "apple=4294967295 " },
		{ "RETURNED 3 1764000000123 5 apple=4-3 pear=1", RT_OK, STOCK_RETURNED, 3,
		  "apple=4 pear=1 " },
		{ "RETURNED 3 1764000000123 5 apple=4-5", RT_REMOTE, 0, 0, NULL },
		{ "RETURNED 3 1764000000123 5 apple=4-", RT_REMOTE, 0, 0, NULL },
		{ "COMMITTED 2 1764000000123 apple=4294967296", RT_REMOTE, 0, 0, NULL },
		{ "COMMITTED 2 1764000000123 apple", RT_REMOTE, 0, 0, NULL },
		{ "COMMITTED 2 1764000000123 apple=", RT_REMOTE, 0, 0, NULL },
		{ "UNAVAILABLE 1 1764000000123 apple=2/", RT_REMOTE, 0, 0, NULL },
		{ "UNAVAILABLE 1 1764000000123 apple=2/x", RT_REMOTE, 0, 0, NULL },
		{ "LOST 2 1764000000123 apple=1", RT_REMOTE, 0, 0, NULL },
		{ "RESERVED two 1764000000123 apple=1", RT_REMOTE, 0, 0, NULL },
		{ "RESERVED 2", RT_REMOTE, 0, 0, NULL },
		{ "", RT_REMOTE, 0, 0, NULL },
	};
	struct look look = { .op = { .order_id = "ord_2", .done = looked } };

	inventory_store_reservation(f.store, &look.op);
	run_until(1);
	CU_ASSERT_EQUAL(look.status, RT_OK);
	CU_ASSERT_FALSE(look.op.found);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redis_server_do(&server, "HSET " RECORDS " ord_1 %s", rows[i].record);
		look = (struct look){ .op = { .order_id = "ord_1", .done = looked } };
		inventory_store_reservation(f.store, &look.op);
		run_until(1);
		TEST_ROW(look.status == rows[i].status, rows[i].record);
		if (rows[i].status != RT_OK)
			continue;
		TEST_ROW(look.op.found && look.op.state == rows[i].state, rows[i].record);
		TEST_ROW(look.op.version == (uint64_t)rows[i].version, rows[i].record);
		TEST_ROW(look.op.updated_ms == NOW_MS, rows[i].record);
		TEST_ROW(strcmp(look.text, rows[i].text) == 0, rows[i].record);
	}
}

struct trim {
	struct rt_trim_op op;
	int status;
};

static void trimmed(struct rt_trim_op *op, int status)
{
	RT_CONTAINER_OF(op, struct trim, op)->status = status;
	ended();
}

static void trimming(void)
{
	struct trim trim = {
		.op = { .now_ms = NOW_MS + 10000, .stale_ms = 1000, .done = trimmed }
	};

	for (int i = 0; i < 5; i++)
		serve_ends(i, STOCK_REQ_RELEASE, NULL, RT_OK);
	redis_server_do(&server, "XGROUP CREATE " EVENTS " order 0");
	redis_server_do(&server, "XREADGROUP GROUP order c COUNT 3 STREAMS " EVENTS " >");
	redis_server_do(&server, "EVAL %s 1 " EVENTS,
			"for _, e in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2)) do"
			" redis.call('XACK', KEYS[1], 'order', e[1]) end");
	redis_server_do(&server, "XGROUP CREATE " EVENTS " stale 0");
	redis_server_do(&server, "XGROUP SETID " EVENTS " stale $");
	rt_store_add(f.trims, &trim.op);
	run_until(1);
	CU_ASSERT_EQUAL(trim.status, RT_OK);
	CU_ASSERT_EQUAL(trim.op.trimmed, 2);
	CU_ASSERT_EQUAL(trim.op.length, 3);
	CU_ASSERT_EQUAL(trim.op.stale_count, 1);
	CU_ASSERT_STRING_EQUAL(trim.op.stale_group, "stale");
}

/* ---- when Redis is not as it should be ---- */

/* A full Redis still serves orders (that is how it gets emptier) and takes no new stock. */
static void full(void)
{
	struct adjust adjust;

	stock_set("apple", "3 0 0 3 1");
	redis_server_do(&server, "CONFIG SET maxmemory 1");
	serve_as(1, STOCK_REQ_RESERVE, LINES({ "apple", 1 }), STOCK_NONE, STOCK_RESERVED,
		 STOCK_ANS_RESERVED);
	serve_as(1, STOCK_REQ_RELEASE, NULL, STOCK_RESERVED, STOCK_RELEASED, STOCK_ANS_RELEASED);
	adjust_now(&adjust, "apple", 1, "", "");
	CU_ASSERT_EQUAL(adjust.status, RT_FULL);
	redis_server_do(&server, "CONFIG SET maxmemory 0");
	adjust_now(&adjust, "apple", 1, "", "");
	CU_ASSERT_EQUAL(adjust.status, RT_OK);
}

/* Without the functions nothing is served; the service's own user may not load them, an operator's
 * loading is noticed. */
static void functions_gone(void)
{
	redis_server_do(&server, "FUNCTION FLUSH");
	serve_ends(1, STOCK_REQ_RELEASE, NULL, RT_UNREADY);
	CU_ASSERT_FALSE(rt_store_problem(f.redis) == NULL);
	functions_load();
	wait_ready();
	serve_ends(1, STOCK_REQ_RELEASE, NULL, RT_OK);
}

/* The connection goes: what is under way fails once, and later things work again. */
static void connection_lost(void)
{
	struct ask asks[3] = { { .status = 1 } };
	struct adjust adjust;
	struct get get = { .op = { .sku = "apple", .done = got } };
	struct look look = { .op = { .order_id = "ord_1", .done = looked } };

	redis_server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
	for (int i = 0; i < 3; i++)
		submit(&asks[i], i, STOCK_REQ_RELEASE, NULL);
	submit_adjust(&adjust, "apple", 1, "", "");
	inventory_store_stock(f.store, &get.op);
	inventory_store_reservation(f.store, &look.op);
	run_until(6);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(asks[i].status, RT_LOST);
	CU_ASSERT_EQUAL(adjust.status, RT_LOST);
	CU_ASSERT_EQUAL(get.status, RT_LOST);
	CU_ASSERT_EQUAL(look.status, RT_LOST);
	CU_ASSERT_FALSE(rt_store_problem(f.redis) == NULL);
	wait_ready();
	serve_ends(1, STOCK_REQ_RELEASE, NULL, RT_OK);
}

/* A wrong type where a key should be: an error, and nothing was written before it. */
static void foreign_keys(void)
{
	static const char *const keys[] = { STOCK, RECORDS, EVENTS };

	for (size_t i = 0; i < RT_LENGTH(keys); i++) {
		struct ask ask;

		redis_server_do(&server, "DEL " STOCK " " RECORDS " " EVENTS);
		stock_set("apple", "3 0 0 3 1");
		redis_server_do(&server, "DEL %s", keys[i]);
		redis_server_do(&server, "SET %s x", keys[i]);
		ask = serve(1, STOCK_REQ_RESERVE, LINES({ "apple", 1 }));
		TEST_ROW(ask.status == RT_REMOTE, keys[i]);
		for (size_t k = 0; k < RT_LENGTH(keys); k++) {
			const char *type = redis_server_text(&server, "TYPE %s", keys[k]);
			const char *wanted = k == i                        ? "string"
					     : strcmp(keys[k], STOCK) == 0 ? "hash"
									   : "none";

			TEST_ROW(strcmp(type, wanted) == 0, keys[k]);
		}
		if (strcmp(keys[i], STOCK) != 0)
			stock_is("apple", "3 0 0 3 1");
	}
}

/* Stock that cannot be listed is not added. */
static void foreign_list(void)
{
	struct adjust adjust;

	redis_server_do(&server, "SET inventory:{0}:skus x");
	adjust_now(&adjust, "apple", 1, "req", "");
	CU_ASSERT_EQUAL(adjust.status, RT_REMOTE);
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS " EVENTS " " STOCK
						  " inventory:{0}:adjust:apple:req"),
			0);
}

/* ---- bursts of reads ---- */

#define LOOKS 6000
#define PAGES 500

static struct {
	struct inventory_reservation_op looks[LOOKS];
	struct inventory_list_op lists[PAGES];
	size_t read, under_way_most;
	size_t before_request; /* reads that had ended by then */
	int request_status;
} burst;

static void burst_ended(int status)
{
	struct rt_redis *redis = rt_store_redis(f.redis);

	burst.read += status == RT_OK;
	burst.under_way_most = RT_MAX(burst.under_way_most, rt_redis_pending(redis));
	ended();
}

static void burst_looked(struct inventory_reservation_op *op, int status)
{
	CU_ASSERT(op->found == (status == RT_OK));
	burst_ended(status);
}

static void burst_listed(struct inventory_list_op *op, int status)
{
	CU_ASSERT(op->stock_count == (status == RT_OK ? 1 : 0));
	burst_ended(status);
}

static void burst_asked(struct inventory_request_op *op, int status)
{
	(void)op;
	burst.request_status = status;
	burst.before_request = burst.read;
	ended();
}

/* Thousands look at once, and then an order asks for stock: it does not wait for all of them. */
static void reads_leave_room(void)
{
	static const struct inventory_line lines[] = { { "apple", 1 }, { NULL, 0 } };
	struct adjust adjust;
	struct ask first = { .op = { .attempt = 1 } }, second = { .op = { .attempt = 1 } };

	adjust_now(&adjust, "apple", 10, "", "");
	submit(&first, 1, STOCK_REQ_RESERVE, lines);
	run_until(1);
	memset(&burst, 0, sizeof(burst));
	for (size_t i = 0; i < LOOKS; i++) {
		burst.looks[i] = (struct inventory_reservation_op){ .order_id = "ord_1",
								    .done = burst_looked };
		inventory_store_reservation(f.store, &burst.looks[i]);
	}
	for (size_t i = 0; i < PAGES; i++) {
		burst.lists[i] = (struct inventory_list_op){ .after = "",
							     .count_max = 10,
							     .done = burst_listed };
		inventory_store_list(f.store, &burst.lists[i]);
	}
	submit(&second, 2, STOCK_REQ_RESERVE, lines);
	second.op.done = burst_asked;
	run_until(LOOKS + PAGES + 1);
	CU_ASSERT_EQUAL(burst.request_status, RT_OK);
	CU_ASSERT(burst.before_request < 1000);
	CU_ASSERT_EQUAL(burst.read, LOOKS + PAGES);
	CU_ASSERT(burst.under_way_most < 400);
}

int main(void)
{
	static const struct test tests[] = {
		{ "all lines are reserved or none", all_lines_or_none },
		{ "counters that others changed", counters_by_other_hands },
		{ "shortages are exact, and stay what they were", shortages_are_exact },
		{ "100 items for 2000 orders", a_hot_sku },
		{ "a batch sees its own changes", one_batch_sees_itself },
		{ "repeats are answered from the record", repeats },
		{ "Redis runs the rules of stock.c", the_same_rules },
		{ "what comes back is available, once", what_comes_back },
		{ "more than was sold does not come back", what_cannot_come_back },
		{ "effect and acknowledgement are one step", acknowledged },
		{ "a damaged record does not fail others", damage_stays_alone },
		{ "ten thousand SKUs in one call", very_many_skus },
		{ "invalid lines are refused", lines_that_are_none },
		{ "adjustments move or refuse", adjustments },
		{ "adjustments answer what they did", adjustments_answer },
		{ "an adjustment with a request_id happens once", adjustments_once },
		{ "adjustments are entered in the trail", adjustments_are_entered },
		{ "damaged counters do not fail other adjustments", adjustments_of_damage },
		{ "what is low is told, once for each fall", what_is_low_is_told },
		{ "what is low within a step only is not told", low_within_a_step },
		{ "thresholds are set, and entered in the trail", thresholds },
		{ "stock is read in batches", reading_stock },
		{ "stock is listed in byte order, by pages", listing },
		{ "reservations are read", reservations },
		{ "the stream is trimmed, stale groups are named", trimming },
		{ "a full Redis serves orders and refuses stock", full },
		{ "functions that were deleted are reported, and found again", functions_gone },
		{ "a lost connection fails operations under way", connection_lost },
		{ "keys of other types in our places change nothing", foreign_keys },
		{ "a list of SKUs of another type takes no stock", foreign_list },
		{ "many reads leave room for orders", reads_leave_room },
	};
	int rc;

	tests_log_nothing();
	redis_server_start(&server, NULL);
	functions_load();
	user_make();
	rc = tests_run_each("inventory_store", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&server);
	return rc;
}
