/* test_inventory_parts.c - what the inventory store does for split orders, and over several partitions, on a real
 * redis-server. */
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

#define NOW_MS     1764000000123
#define PARTITIONS 4
#define ORDERS     "order:{1}:events"

static struct redis_server server;

struct fixture {
	struct rt_loop *loop;
	struct rt_store *redis[PARTITIONS];
	struct inventory_store *store;
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
	for (int p = 0; p < PARTITIONS; p++)
		if (rt_store_problem(f.redis[p]) != NULL)
			return false;
	return true;
}

static void setup(void)
{
	struct rt_redis_options redis = { .unix_path = server.socket, .name = "test" };
	struct rt_store_options options = { .redis = &redis,
					    .functions = &inventory_functions,
					    .partition_count = PARTITIONS };

	redis_server_do(&server, "FLUSHALL");
	redis_server_do(&server, "XGROUP CREATE " ORDERS " inventory 0 MKSTREAM");
	f = (struct fixture){ .ends = 0 };
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	for (options.partition = 0; options.partition < PARTITIONS; options.partition++)
		CU_ASSERT_FATAL(rt_store_new(f.loop, &options, &f.redis[options.partition]) ==
				RT_OK);
	CU_ASSERT_FATAL(inventory_store_new(f.redis, PARTITIONS, &f.store) == RT_OK);
	run_until_so(f.loop, is_ready);
}

static void teardown(void)
{
	if (f.delivering)
		delivered_stop();
	inventory_store_free(f.store);
	for (int p = 0; p < PARTITIONS; p++)
		rt_store_free(f.redis[p]);
	rt_loop_free(f.loop);
}

/* ---- what is stored ---- */

static void stock_set(int q, const char *sku, const char *counters)
{
	redis_server_do(&server, "HSET inventory:{%d}:stock %s %s", q, sku, counters);
}

static void stock_is(int q, const char *sku, const char *counters)
{
	CU_ASSERT_STRING_EQUAL(redis_server_text(&server, "HGET inventory:{%d}:stock %s", q, sku),
			       counters);
}

/* "": there is none. */
static void field_is(int partition, const char *hash, const char *order_id, const char *wanted)
{
	char key[64];

	snprintf(key, sizeof(key), "inventory:{%d}:%s", partition, hash);
	if (wanted[0] == '\0') {
		CU_ASSERT_EQUAL(redis_server_int(&server, "HEXISTS %s %s", key, order_id), 0);
	} else {
		CU_ASSERT_STRING_EQUAL(redis_server_text(&server, "HGET %s %s", key, order_id),
				       wanted);
	}
}

static void part_is(int q, const char *order_id, const char *wanted)
{
	field_is(q, "parts", order_id, wanted);
}

static void record_is(const char *order_id, const char *wanted)
{
	field_is(1, "r", order_id, wanted);
}

/* ---- parts ---- */

struct act {
	struct inventory_part_op op;
	struct inventory_line lines[3];
	int status;
	enum stock_state state;
	/* Of the first line of a refusal. */
	bool was_short, unknown, last_unknown;
	uint64_t available;
};

static void acted(struct inventory_part_op *op, int status)
{
	struct act *act = RT_CONTAINER_OF(op, struct act, op);

	act->status = status;
	act->state = op->part.state;
	act->was_short = op->part.line_count > 0 && op->part.lines[0].was_short;
	act->available = act->was_short ? op->part.lines[0].available : 0;
	act->unknown = act->was_short && op->part.lines[0].unknown;
	act->last_unknown = act->was_short && op->part.lines[op->part.line_count - 1].unknown;
	ended();
}

#define LINES(...) ((const struct inventory_line[]){ __VA_ARGS__, { NULL, 0 } })

/* In partition 2; the order's is 1. */
static void submit_part(struct act *act, const char *order_id, enum part_action action,
			const struct inventory_line *lines)
{
	act->op.partition = 2;
	act->op.order_partition = 1;
	act->op.order_id = order_id;
	act->op.action = action;
	act->op.line_count = 0;
	for (size_t i = 0; lines[i].sku != NULL; i++)
		act->lines[act->op.line_count++] = lines[i];
	act->op.lines = act->lines;
	act->op.now_ms = NOW_MS;
	act->op.done = acted;
	inventory_store_part(f.store, &act->op);
}

static struct act do_part(const char *order_id, enum part_action action,
			  const struct inventory_line *lines)
{
	struct act act = { .status = 1 };

	submit_part(&act, order_id, action, lines);
	run_until(1);
	return act;
}

/* Acts on the part, which then has this state. */
static void act_as(const char *order_id, enum part_action action,
		   const struct inventory_line *lines, enum stock_state state)
{
	struct act act = do_part(order_id, action, lines);

	CU_ASSERT_EQUAL(act.status, RT_OK);
	CU_ASSERT_EQUAL(act.state, state);
}

static void a_part_holds_commits_and_releases(void)
{
	stock_set(2, "apple", "5 0 0 5 1");
	stock_set(2, "pear", "3 0 0 3 7");
	act_as("ord_1", PART_HOLD, LINES({ "apple", 2 }, { "pear", 3 }), STOCK_RESERVED);
	stock_is(2, "apple", "3 2 0 5 2");
	stock_is(2, "pear", "0 3 0 3 8");
	part_is(2, "ord_1", "RESERVED 1 1764000000123 apple=2 pear=3");
	act_as("ord_1", PART_COMMIT, LINES({ "apple", 2 }, { "pear", 3 }), STOCK_COMMITTED);
	stock_is(2, "apple", "3 0 2 5 3");
	part_is(2, "ord_1", "COMMITTED 1 1764000000123 apple=2 pear=3");
	act_as("ord_2", PART_HOLD, LINES({ "apple", 3 }), STOCK_RESERVED);
	act_as("ord_2", PART_RELEASE, LINES({ "apple", 3 }), STOCK_RELEASED);
	stock_is(2, "apple", "3 0 2 5 5");
	part_is(2, "ord_2", "RELEASED 1 1764000000123 apple=3");
	/* Nothing is published here: the record's partition does that. */
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS inventory:{2}:events"), 0);
}

/* Where a part falls below a threshold it is told: that is an event of the partition of the stock. */
static void a_part_that_leaves_little(void)
{
	static const char low[] = "tandem.inventory.v1.StockLow";
	redisReply *entry;

	stock_set(2, "apple", "5 0 0 5 1 4");
	stock_set(2, "pear", "5 0 0 5 1 1");
	act_as("ord_1", PART_HOLD, LINES({ "apple", 2 }, { "pear", 2 }), STOCK_RESERVED);
	stock_is(2, "apple", "3 2 0 5 3 4");
	stock_is(2, "pear", "3 2 0 5 2 1");
	act_as("ord_2", PART_HOLD, LINES({ "apple", 1 }), STOCK_RESERVED);
	act_as("ord_1", PART_RELEASE, LINES({ "apple", 2 }, { "pear", 2 }), STOCK_RELEASED);
	act_as("ord_3", PART_COMMIT, LINES({ "apple", 4 }), STOCK_COMMITTED);
	stock_is(2, "apple", "0 1 4 5 7 4");
	entry = redis_server_command(&server, "XRANGE inventory:{2}:events - +");
	CU_ASSERT_EQUAL_FATAL(entry->elements, 2);
	for (size_t i = 0; i < entry->elements; i++) {
		const redisReply *fields = entry->element[i]->element[1];

		CU_ASSERT_STRING_EQUAL(fields->element[0]->str, low);
		CU_ASSERT_STRING_EQUAL(fields->element[1]->str, i == 0 ? "apple/3" : "apple/7");
	}
	freeReplyObject(entry);
}

/* The part stays sold, and says what came back; never more than it has. */
static void what_comes_back_of_a_part(void)
{
	struct act act;

	stock_set(2, "apple", "5 0 0 5 1");
	stock_set(2, "pear", "3 0 0 3 7");
	act_as("ord_1", PART_HOLD, LINES({ "apple", 4 }, { "pear", 3 }), STOCK_RESERVED);
	act_as("ord_1", PART_COMMIT, LINES({ "apple", 4 }, { "pear", 3 }), STOCK_COMMITTED);
	for (int i = 0; i < 2; i++) { /* twice is once */
		act_as("ord_1", PART_RETURN, LINES({ "apple", 2 }), STOCK_COMMITTED);
		stock_is(2, "apple", "3 0 2 5 4");
		part_is(2, "ord_1", "COMMITTED 1 1764000000123 apple=4-2 pear=3");
	}
	/* Overtaken by what came back in all later. */
	act_as("ord_1", PART_RETURN, LINES({ "apple", 1 }), STOCK_COMMITTED);
	stock_is(2, "apple", "3 0 2 5 4");
	act_as("ord_1", PART_RETURN, LINES({ "apple", 4 }, { "pear", 1 }), STOCK_COMMITTED);
	stock_is(2, "apple", "5 0 0 5 5");
	part_is(2, "ord_1", "COMMITTED 1 1764000000123 apple=4-4 pear=3-1");
	act = do_part("ord_1", PART_RETURN, LINES({ "apple", 5 }));
	CU_ASSERT_EQUAL(act.status, RT_REMOTE);
	/* What is not sold here does not come back. */
	act_as("ord_2", PART_RETURN, LINES({ "apple", 1 }), STOCK_NONE);
	stock_is(2, "apple", "5 0 0 5 5");
}

/* Does to the part what its record says: sold, and of each line so many came back. */
static void mend_as(const char *order_id, const struct inventory_line *lines,
		    const uint32_t *returned, bool changed)
{
	struct act act = { .status = 1, .op.returned = returned };

	submit_part(&act, order_id, PART_TO_RETURNED, lines);
	run_until(1);
	CU_ASSERT(act.status == RT_OK && act.state == STOCK_COMMITTED);
	CU_ASSERT_EQUAL(act.op.changed, changed);
}

static void what_came_back_is_mended(void)
{
	static const uint32_t one[] = { 1 }, three[] = { 3 };

	stock_set(2, "apple", "9 0 0 9 1");
	/* The part is lost: what came back need not be there. */
	mend_as("ord_1", LINES({ "apple", 3 }), one, true);
	stock_is(2, "apple", "7 0 2 9 2");
	part_is(2, "ord_1", "COMMITTED 1 1764000000123 apple=3-1");
	mend_as("ord_1", LINES({ "apple", 3 }), one, false);
	stock_is(2, "apple", "7 0 2 9 2");
	/* The return is lost, the sale is not; and the sale is. */
	act_as("ord_2", PART_HOLD, LINES({ "apple", 3 }), STOCK_RESERVED);
	mend_as("ord_2", LINES({ "apple", 3 }), one, true);
	stock_is(2, "apple", "5 0 4 9 5");
	mend_as("ord_2", LINES({ "apple", 3 }), three, true);
	stock_is(2, "apple", "7 0 2 9 6");
	part_is(2, "ord_2", "COMMITTED 1 1764000000123 apple=3-3");
	/* The record has forgotten the sale: what came back is not held again, nor is the rest. */
	act_as("ord_1", PART_TO_UNSOLD, LINES({ "apple", 3 }), STOCK_RELEASED);
	stock_is(2, "apple", "9 0 0 9 7");
	part_is(2, "ord_1", "RELEASED 1 1764000000123 apple=3");
	act_as("ord_2", PART_TO_RELEASED, LINES({ "apple", 3 }), STOCK_RELEASED);
	stock_is(2, "apple", "9 0 0 9 7");
	part_is(2, "ord_2", "RELEASED 1 1764000000123 apple=3");
}

static void a_refusal_says_what_was_short_and_stays(void)
{
	stock_set(2, "apple", "5 0 0 5 1");
	for (int i = 0; i < 2; i++) {
		struct act act = do_part("ord_1", PART_HOLD, LINES({ "apple", 6 }, { "pear", 1 }));

		CU_ASSERT(act.status == RT_OK && act.state == STOCK_UNAVAILABLE);
		CU_ASSERT(act.was_short && act.available == 5 && !act.unknown && act.last_unknown);
		part_is(2, "ord_1", "UNAVAILABLE 1 1764000000123 apple=6/5 pear=1/00");
		/* By now there is enough. */
		stock_set(2, "apple", "50 0 0 50 2");
		stock_set(2, "pear", "50 0 0 50 2");
	}
	act_as("ord_1", PART_RELEASE, LINES({ "apple", 6 }), STOCK_UNAVAILABLE);
	act_as("ord_1", PART_COMMIT, LINES({ "apple", 6 }), STOCK_UNAVAILABLE);
	stock_is(2, "apple", "50 0 0 50 2");
}

static void a_hold_that_is_late_finds_the_tombstone(void)
{
	stock_set(2, "apple", "5 0 0 5 1");
	act_as("ord_1", PART_RELEASE, LINES({ "apple", 2 }), STOCK_RELEASED);
	part_is(2, "ord_1", "RELEASED 1 1764000000123 apple=2");
	act_as("ord_1", PART_HOLD, LINES({ "apple", 2 }), STOCK_RELEASED);
	stock_is(2, "apple", "5 0 0 5 1");
}

static void a_commit_without_a_part_takes_what_is_there(void)
{
	stock_set(2, "apple", "5 0 0 5 1");
	act_as("ord_1", PART_COMMIT, LINES({ "apple", 4 }), STOCK_COMMITTED);
	stock_is(2, "apple", "1 0 4 5 2");
	part_is(2, "ord_1", "COMMITTED 1 1764000000123 apple=4");
	/* It cannot be had: nothing is noted, so that it can be had later. */
	act_as("ord_2", PART_COMMIT, LINES({ "apple", 2 }), STOCK_NONE);
	part_is(2, "ord_2", "");
	stock_is(2, "apple", "1 0 4 5 2");
}

/* As parts.c says, for every pair. */
static void redis_runs_the_rules(void)
{
	static const char *const before[] = { "5 3 2 10 4", "0 3 2 5 4" };

	for (int state = 0; state < STOCK_STATE_COUNT; state++) {
		for (int action = 0; action < PART_ACTION_COUNT; action++) {
			const struct part_rule *rule =
				part_rule((enum stock_state)state, (enum part_action)action);
			/* What becomes of 2 where 5 are available, or none. */
			const char *const after[][2] = {
				[STOCK_KEEP] = { "5 3 2 10 4", "0 3 2 5 4" },
				[STOCK_TRY] = { "3 5 2 10 5", "0 3 2 5 4" },
				[STOCK_COMMIT_IT] = { "5 1 4 10 5", "0 1 4 5 5" },
				[STOCK_GIVE_BACK] = { "7 1 2 10 5", "2 1 2 5 5" },
				[STOCK_TAKE] = { "3 3 4 10 5", "0 3 2 5 4" },
				/* All of it comes back; or, as the record says, nothing does. */
				[STOCK_TAKE_BACK] = { action == PART_RETURN ? "7 3 0 10 5"
									    : "5 3 2 10 4",
						      action == PART_RETURN ? "2 3 0 5 5"
									    : "0 3 2 5 4" },
				[STOCK_DROP_IT] = { "5 3 2 10 4", "0 3 2 5 4" },
				[STOCK_HOLD_IT] = { "5 5 0 10 5", "0 5 0 5 5" },
				[STOCK_CALL_BACK] = { "7 3 0 10 5", "2 3 0 5 5" },
			};

			for (size_t i = 0; i < RT_LENGTH(before); i++) {
				bool is_short = i == 1 && (rule->effect == STOCK_TRY ||
							   rule->effect == STOCK_TAKE);
				enum stock_state refused =
					rule->effect == STOCK_TRY ? STOCK_UNAVAILABLE : STOCK_NONE;

				redis_server_do(&server, "DEL inventory:{2}:parts");
				if (rule->state != STOCK_NONE) {
					char part[64];

					snprintf(part, sizeof(part), "%s 1 5 apple=2",
						 stock_state_text(rule->state));
					redis_server_do(&server,
							"HSET inventory:{2}:parts ord_1 %b", part,
							strlen(part));
				}
				stock_set(2, "apple", before[i]);
				act_as("ord_1", rule->action, LINES({ "apple", 2 }),
				       is_short ? refused : rule->to);
				stock_is(2, "apple", after[rule->effect][i]);
			}
		}
	}
}

/* One call for what gathers in a turn; each sees what those before it did. */
static void a_call_serves_many(void)
{
	struct act acts[5] = { { .status = 1 } };

	stock_set(2, "apple", "3 0 0 3 1");
	redis_server_do(&server, "CONFIG RESETSTAT");
	acts[2].op.generation = acts[3].op.generation = 7;
	submit_part(&acts[0], "ord_1", PART_HOLD, LINES({ "apple", 2 }));
	submit_part(&acts[1], "ord_2", PART_HOLD, LINES({ "apple", 2 }));
	submit_part(&acts[2], "ord_1", PART_RELEASE, LINES({ "apple", 2 }));
	submit_part(&acts[3], "ord_3", PART_HOLD, LINES({ "apple", 2 }));
	submit_part(&acts[4], "ord_4", PART_HOLD, LINES({ "apple", 2 }));
	run_until(5);
	CU_ASSERT_EQUAL(acts[0].state, STOCK_RESERVED);
	CU_ASSERT_EQUAL(acts[1].state, STOCK_UNAVAILABLE);
	CU_ASSERT_EQUAL(acts[2].state, STOCK_RELEASED);
	CU_ASSERT_EQUAL(acts[3].state, STOCK_RESERVED);
	CU_ASSERT_EQUAL(acts[4].state, STOCK_UNAVAILABLE);
	stock_is(2, "apple", "1 2 0 3 4");
	CU_ASSERT_PTR_NOT_NULL(
		strstr(redis_server_text(&server, "INFO commandstats"), "cmdstat_fcall:calls=1,"));
}

/* ---- generations ---- */

static void calls_of_older_generations_change_nothing(void)
{
	struct act old = { .status = 1 }, now = { .status = 1, .op.generation = 7 };

	stock_set(2, "apple", "5 0 0 5 1");
	submit_part(&now, "ord_1", PART_HOLD, LINES({ "apple", 1 }));
	run_until(1);
	CU_ASSERT_EQUAL(now.status, RT_OK);
	CU_ASSERT_STRING_EQUAL(redis_server_text(&server, "HGET inventory:{2}:generations 1"), "7");
	CU_ASSERT_EQUAL(inventory_store_generation(f.store, 1), 0);
	old.op.generation = 6;
	submit_part(&old, "ord_2", PART_HOLD, LINES({ "apple", 1 }));
	run_until(1);
	CU_ASSERT_EQUAL(old.status, RT_UNREADY);
	CU_ASSERT_EQUAL(inventory_store_generation(f.store, 1), INVENTORY_NO_GENERATION);
	part_is(2, "ord_2", "");
	stock_is(2, "apple", "4 1 0 5 2");
}

/* ---- requests and conclusions ---- */

struct ask {
	struct inventory_conclude_op op;
	struct inventory_split_line lines[3];
	int status;
	bool served;
	enum stock_state read; /* when it was not served */
	size_t line_count;
	int partition;
	struct rt_event *event;
};

static void asked(struct inventory_request_op *op, int status)
{
	struct ask *ask = RT_CONTAINER_OF(op, struct ask, op.request);

	ask->status = status;
	ask->served = op->served;
	ask->read = op->record.state;
	ask->line_count = op->record.line_count;
	ask->partition = ask->line_count > 0 ? op->record.lines[0].partition : -2;
	ended();
}

static void submit_request(struct ask *ask, const char *order_id, enum stock_request request)
{
	ask->op.request = (struct inventory_request_op){ .partition = 1,
							 .order_id = order_id,
							 .request = request,
							 .only_reads = ask->op.request.only_reads,
							 .attempt = 1,
							 .now_ms = NOW_MS,
							 .event = ask->event,
							 .done = asked };
	inventory_store_request(f.store, &ask->op.request);
}

static void submit_conclusion(struct ask *ask, const char *order_id, enum stock_request request,
			      enum stock_state read, enum split_verdict verdict)
{
	ask->op.request = (struct inventory_request_op){ .partition = 1,
							 .order_id = order_id,
							 .request = request,
							 .attempt = 1,
							 .now_ms = NOW_MS,
							 .event = ask->event,
							 .done = asked };
	ask->op.read = read;
	ask->op.verdict = verdict;
	ask->lines[0] = (struct inventory_split_line){ { "apple", 2 }, .partition = 2 };
	ask->lines[1] = (struct inventory_split_line){ { "pear", 3 },
						       .partition = 1,
						       .was_short = verdict == SPLIT_IS_REFUSED,
						       .available = 1 };
	ask->op.lines = ask->lines;
	ask->op.line_count = 2;
	inventory_store_conclude(f.store, &ask->op);
}

static struct ask do_conclude(const char *order_id, enum stock_request request,
			      enum stock_state read, enum split_verdict verdict)
{
	struct ask ask = { .status = 1 };

	submit_conclusion(&ask, order_id, request, read, verdict);
	run_until(1);
	return ask;
}

/* It is served, and the record is this one. */
static void conclude_as(const char *order_id, enum stock_request request, enum stock_state read,
			enum split_verdict verdict, const char *record)
{
	struct ask ask = do_conclude(order_id, request, read, verdict);

	CU_ASSERT(ask.status == RT_OK && ask.served);
	record_is(order_id, record);
}

/* The events of partition 1 since the last call, as "InventoryReserved ord_1/1 …". */
static void events_are(const char *wanted)
{
	redisReply *reply = redis_server_command(&server, "XRANGE inventory:{1}:events - +");
	struct rt_buf text = { NULL, 0, 0 };

	for (size_t i = 0; i < reply->elements; i++) {
		struct rt_entry_event *list;
		size_t count;

		CU_ASSERT_PTR_NULL_FATAL(
			rt_entry_read_reply(reply->element[i]->element[1], &list, &count));
		for (size_t j = 0; j < count; j++)
			rt_buf_printf(&text, "%s%s %.*s/%" PRIu64, text.length > 0 ? " " : "",
				      list[j].type.data + strlen("tandem.inventory.v1.Inventory"),
				      (int)list[j].subject.length, list[j].subject.data,
				      list[j].seq);
		free(list);
	}
	rt_buf_add(&text, "", 1);
	CU_ASSERT_STRING_EQUAL(text.data, wanted);
	rt_buf_done(&text);
	freeReplyObject(reply);
	redis_server_do(&server, "XTRIM inventory:{1}:events MAXLEN 0");
}

static void conclusions_write_what_the_rules_say(void)
{
	conclude_as("ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE,
		    "RESERVED 1 1764000000123 apple=2@2 pear=3@1");
	conclude_as("ord_1", STOCK_REQ_RESERVE, STOCK_RESERVED, SPLIT_IS_DONE,
		    "RESERVED 1 1764000000123 apple=2@2 pear=3@1");
	conclude_as("ord_1", STOCK_REQ_COMMIT, STOCK_RESERVED, SPLIT_IS_DONE,
		    "COMMITTED 2 1764000000123 apple=2@2 pear=3@1");
	conclude_as("ord_1", STOCK_REQ_RELEASE, STOCK_COMMITTED, SPLIT_IS_DONE,
		    "COMMITTED 2 1764000000123 apple=2@2 pear=3@1");
	events_are("Reserved ord_1/1 Reserved ord_1/1 Committed ord_1/2 Committed ord_1/2");
	conclude_as("ord_2", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_REFUSED,
		    "UNAVAILABLE 1 1764000000123 apple=2@2 pear=3/1@1");
	conclude_as("ord_2", STOCK_REQ_REJECT, STOCK_UNAVAILABLE, SPLIT_IS_DONE,
		    "UNAVAILABLE 1 1764000000123 apple=2@2 pear=3/1@1");
	conclude_as("ord_3", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_RELEASED,
		    "RELEASED 1 1764000000123 apple=2@2 pear=3@1");
	conclude_as("ord_4", STOCK_REQ_EXPIRE, STOCK_NONE, SPLIT_IS_DONE,
		    "RELEASED 1 1764000000123 apple=2@2 pear=3@1");
	conclude_as("ord_5", STOCK_REQ_COMMIT, STOCK_NONE, SPLIT_IS_DONE, "");
	events_are("Unavailable ord_2/1 Released ord_3/1 Released ord_4/1");
	/* No counter was touched. */
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS inventory:{1}:stock"), 0);
}

static void a_refusal_is_answered_with_its_shortages(void)
{
	Tandem__Inventory__V1__InventoryUnavailable *event;
	struct rt_entry_event *list;
	redisReply *reply;
	size_t count;

	(void)do_conclude("ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_REFUSED);
	reply = redis_server_command(&server, "XRANGE inventory:{1}:events - +");
	CU_ASSERT_PTR_NULL_FATAL(rt_entry_read_reply(reply->element[0]->element[1], &list, &count));
	event = tandem__inventory__v1__inventory_unavailable__unpack(
		NULL, list[0].data.length, (const uint8_t *)list[0].data.data);
	CU_ASSERT_FATAL(event != NULL && event->n_shortages == 1);
	CU_ASSERT_STRING_EQUAL(event->shortages[0]->sku, "pear");
	CU_ASSERT_EQUAL(event->shortages[0]->requested, 3);
	CU_ASSERT_EQUAL(event->shortages[0]->available, 1);
	tandem__inventory__v1__inventory_unavailable__free_unpacked(event, NULL);
	free(list);
	freeReplyObject(reply);
}

static void another_record_than_the_one_that_was_read(void)
{
	struct ask ask;

	conclude_as("ord_1", STOCK_REQ_RELEASE, STOCK_NONE, SPLIT_IS_DONE,
		    "RELEASED 1 1764000000123 apple=2@2 pear=3@1");
	ask = do_conclude("ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE);
	CU_ASSERT(ask.status == RT_OK && !ask.served);
	CU_ASSERT_EQUAL(ask.read, STOCK_RELEASED);
	CU_ASSERT_EQUAL(ask.line_count, 2);
	CU_ASSERT_EQUAL(ask.partition, 2);
	record_is("ord_1", "RELEASED 1 1764000000123 apple=2@2 pear=3@1");
	events_are("Released ord_1/1");
	/* There was one, and now there is none. */
	ask = do_conclude("ord_2", STOCK_REQ_COMMIT, STOCK_RESERVED, SPLIT_IS_DONE);
	CU_ASSERT(ask.status == RT_OK && !ask.served && ask.read == STOCK_NONE);
	record_is("ord_2", "");
}

static void conclusions_of_older_generations_are_refused(void)
{
	struct ask ask;

	redis_server_do(&server, "SET inventory:{1}:generation 3");
	ask = do_conclude("ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE);
	CU_ASSERT_EQUAL(ask.status, RT_UNREADY);
	CU_ASSERT_EQUAL(inventory_store_generation(f.store, 1), INVENTORY_NO_GENERATION);
	record_is("ord_1", "");
	ask = (struct ask){ .op.generation = 3 };
	submit_conclusion(&ask, "ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE);
	run_until(1);
	CU_ASSERT(ask.status == RT_OK && ask.served);
}

/* A request for a split order reads the record; other orders of the call are served. */
static void requests_of_split_orders_read(void)
{
	static const enum stock_request requests[] = { STOCK_REQ_COMMIT, STOCK_REQ_RELEASE,
						       STOCK_REQ_REJECT_AGAIN, STOCK_REQ_EXPIRE };
	struct ask whole = { .status = 1 }, none = { .op.request.only_reads = true };
	struct ask asks[RT_LENGTH(requests)] = { { .status = 1 } };

	redis_server_do(&server, "HSET inventory:{1}:r ord_1 %s",
			"RESERVED 1 1764000000123 apple=2@2 pear=3@1");
	redis_server_do(&server, "HSET inventory:{1}:r ord_2 %s", "RESERVED 1 1764000000123 fig=1");
	stock_set(1, "fig", "0 1 0 1 1");
	stock_set(1, "apple", "0 9 0 9 1");
	for (size_t i = 0; i < RT_LENGTH(requests); i++)
		submit_request(&asks[i], "ord_1", requests[i]);
	submit_request(&whole, "ord_2", STOCK_REQ_COMMIT);
	submit_request(&none, "ord_3", STOCK_REQ_RESERVE);
	run_until(RT_LENGTH(requests) + 2);
	for (size_t i = 0; i < RT_LENGTH(requests); i++) {
		CU_ASSERT(asks[i].status == RT_OK && !asks[i].served);
		CU_ASSERT(asks[i].read == STOCK_RESERVED && asks[i].line_count == 2);
		CU_ASSERT_EQUAL(asks[i].partition, 2);
	}
	CU_ASSERT(whole.status == RT_OK && whole.served);
	CU_ASSERT(none.status == RT_OK && !none.served && none.read == STOCK_NONE);
	record_is("ord_1", "RESERVED 1 1764000000123 apple=2@2 pear=3@1");
	record_is("ord_2", "COMMITTED 2 1764000000123 fig=1");
	stock_is(1, "apple", "0 9 0 9 1");
	events_are("Committed ord_2/2");
}

static long long pending_orders(void)
{
	redisReply *reply = redis_server_command(&server, "XPENDING " ORDERS " inventory");
	long long pending = reply->element[0]->integer;

	freeReplyObject(reply);
	return pending;
}

/* In the same step as the record and the answer; and nothing, if one of the call was not concluded. */
static void conclusions_acknowledge(void)
{
	const struct rt_redis_options redis = { .unix_path = server.socket, .name = "test" };
	struct ask asks[2] = { { .status = 1 } };

	redis_server_do(&server, "XADD " ORDERS " 1-1 type x subject ord_1 seq 1 data x");
	redis_server_do(&server, "XADD " ORDERS " 1-2 type x subject ord_2 seq 1 data x");
	delivered_start(f.loop, f.redis[1], &redis, &inventory_functions, ORDERS);
	f.delivering = true;
	for (size_t i = 0; i < 2; i++)
		asks[i].event = delivered_next();
	submit_conclusion(&asks[0], "ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE);
	submit_conclusion(&asks[1], "ord_2", STOCK_REQ_COMMIT, STOCK_RESERVED, SPLIT_IS_DONE);
	run_until(2);
	CU_ASSERT(asks[0].served && !asks[1].served);
	CU_ASSERT_EQUAL(pending_orders(), 2);
	rt_event_done(asks[0].event);
	submit_conclusion(&asks[1], "ord_2", STOCK_REQ_COMMIT, STOCK_NONE, SPLIT_IS_DONE);
	run_until(1);
	CU_ASSERT(asks[1].served);
	CU_ASSERT(pending_orders() <= 1);
	rt_event_done(asks[1].event);
}

/* ---- reconciliations ---- */

struct called {
	struct inventory_call_op op;
	int status;
	char text[200]; /* the answer, its texts behind each other */
};

static void called(struct inventory_call_op *op, int status)
{
	struct called *call = RT_CONTAINER_OF(op, struct called, op);
	size_t length = 0;

	call->status = status;
	call->text[0] = '\0';
	for (size_t i = 0; i < op->count && length < sizeof(call->text) - 1; i++)
		length += (size_t)snprintf(call->text + length, sizeof(call->text) - length, "%s%s",
					   i > 0 ? "|" : "", op->texts[i]);
	ended();
}

/* Calls a function in a partition; the answer is good until the next call. */
static const char *answer_to(int partition, const char *function,
			     const char *const argv[INVENTORY_CALL_ARGS])
{
	static struct called call;

	call = (struct called){
		.op = { .partition = partition, .function = function, .done = called }, .status = 1
	};
	for (size_t i = 0; i < INVENTORY_CALL_ARGS; i++)
		call.op.argv[i] = argv[i];
	inventory_store_call(f.store, &call.op);
	run_until(1);
	CU_ASSERT_EQUAL(call.status, RT_OK);
	return call.text;
}
#define ANSWER(partition, function, ...)                                                           \
	answer_to(partition, function, (const char *const[INVENTORY_CALL_ARGS]){ __VA_ARGS__ })

static void one_reconciles_at_a_time(void)
{
	struct act late = { .status = 1 };
	struct ask ask = { .status = 1 };

	stock_set(2, "apple", "5 0 0 5 1");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "1000", "one", "500", "0", "0", "x", "m n"),
			       "1|||||0");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "1499", "two", "500", "0", "0", "x", "m n"),
			       "0|");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "1499", "one", "500", "1", "0", "x", "m n"),
			       "1|");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "1999", "two", "500", "0", "6", "x", "m n"),
			       "7||||one|1");
	/* The first one is late with everything. */
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "2000", "one", "500", "1", "0", "x", "m n"),
			       "0|");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconciled", "1", "a b", "ab", "9", "5", "2000"), "0");
	CU_ASSERT_EQUAL(strncmp(ANSWER(2, "fence", "1", "7", ""), "0|", 2), 0);
	CU_ASSERT_EQUAL(strncmp(ANSWER(2, "fence", "1", "1", ""), "7|", 2), 0);
	late.op.generation = 1;
	submit_part(&late, "ord_1", PART_TO_COMMITTED, LINES({ "apple", 1 }));
	run_until(1);
	CU_ASSERT_EQUAL(late.status, RT_UNREADY);
	stock_is(2, "apple", "5 0 0 5 1");
	ask.op.generation = 1;
	submit_conclusion(&ask, "ord_1", STOCK_REQ_RELEASE, STOCK_NONE, SPLIT_IS_DONE);
	run_until(1);
	CU_ASSERT_EQUAL(ask.status, RT_UNREADY);
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconciled", "7", "a b", "ab", "9", "5", "2000"), "1");
	CU_ASSERT_STRING_EQUAL(strchr(ANSWER(1, "state", "3000"), '|'), "|7|ab|||9 5|a b|");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "3000", "one", "500", "0", "0", "x", "m n"),
			       "8|a b|2000|5||7");
	/* It is in step with these already. */
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconciled", "8", "a c", "ac", "10", "6", "2500"), "1");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "3000", "one", "500", "0", "0", "ac", "m n"),
			       "0|");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "3000", "one", "500", "0", "0", "x", "m n"),
			       "9|a c|2500|6||8");
	/* It has mended nothing, and is to be swept later than by now: the clock went back. */
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconciled", "9", "a d", "ad", "8", "7", ""), "1");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "reconcile", "3000", "one", "500", "0", "0", "x", "m n"),
			       "10|a d|2500|6||9");
	(void)ANSWER(1, "swept", "9 5");
	CU_ASSERT_STRING_EQUAL(strchr(ANSWER(1, "state", "3000"), '|'),
			       "|10|ad|one|3500|10 5|a d|m n");
	/* Who knows that already is not told the marks again. */
	CU_ASSERT_STRING_EQUAL(strchr(ANSWER(1, "state", "3000", "10", "ad", "one"), '|'),
			       "|10|ad|one|3500|10 5||");
	CU_ASSERT_STRING_EQUAL(strchr(ANSWER(1, "state", "3000", "10", "ad", "two"), '|'),
			       "|10|ad|one|3500|10 5|a d|m n");
	(void)ANSWER(1, "swept", "10 5");
	CU_ASSERT_STRING_EQUAL(strchr(ANSWER(1, "state", "3000", "10", "ad", "one"), '|'),
			       "|10|ad|one|3500|||");
}

/* inventory_reserve for two orders of partition 1 and one of partition 2, with the generations 0 and `generation`: the answer's texts,
 * joined by '|'. */
static const char *reserve(const char *generation, const char *const ids[3],
			   const char *const lines[3])
{
	static char text[512];
	redisReply *reply;

	reply = redis_server_command(
		&server,
		"FCALL inventory_reserve_%s 4 inventory:{1}:events order:{1}:events "
		"inventory:{2}:events order:{2}:events 1000 1970-01-01T00:00:01.000Z 2 0 1 %s "
		"%s %s %s %s %s %s 0 0 0",
		inventory_functions.version, generation, ids[0], ids[1], ids[2], lines[0], lines[1],
		lines[2]);
	text[0] = '\0';
	if (reply->type == REDIS_REPLY_STRING)
		snprintf(text, sizeof(text), "%s", reply->str);
	for (size_t i = 0; i < reply->elements; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? "|" : "",
			 reply->element[i]->str);
	freeReplyObject(reply);
	return text;
}
#define RESERVE(generation, id1, lines1, id2, lines2, id3, lines3)                                 \
	reserve(generation, (const char *const[3]){ id1, id2, id3 },                               \
		(const char *const[3]){ lines1, lines2, lines3 })

/* In one call, each finds what those before it left. */
static void reservations_at_once(void)
{
	stock_set(1, "apple", "5 0 0 5 1");
	stock_set(2, "pear", "3 1 0 4 7 9");
	redis_server_do(&server, "MSET inventory:{1}:generation 0 inventory:{2}:generation 0");
	CU_ASSERT_STRING_EQUAL(RESERVE("0", "ord_1", "apple=4@1 pear=1@2", "ord_2",
				       "pear=1@2 apple=2@1", "ord_3", "apple=1@1"),
			       "NRRNUUNRR");
	record_is("ord_1", "RESERVED 1 1000 apple=4@1 pear=1@2");
	part_is(1, "ord_1", "RESERVED 1 1000 apple=4");
	part_is(2, "ord_1", "RESERVED 1 1000 pear=1");
	record_is("ord_2", "UNAVAILABLE 1 1000 pear=1@2 apple=2/1@1");
	part_is(1, "ord_2", "UNAVAILABLE 1 1000 apple=2/1");
	part_is(2, "ord_2", "RELEASED 1 1000 pear=1");
	field_is(2, "r", "ord_3", "RESERVED 1 1000 apple=1@1");
	part_is(1, "ord_3", "RESERVED 2 1000 apple=1");
	stock_is(1, "apple", "0 5 0 5 3");
	stock_is(2, "pear", "2 2 0 4 8 9");
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN inventory:{1}:events"), 1);
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN inventory:{2}:events"), 1);
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS inventory:{1}:recent:r "
						  "inventory:{2}:recent:parts"),
			0);

	/* Those that are not split have no parts. */
	CU_ASSERT_STRING_EQUAL(RESERVE("0", "ord_x", "fig=1 apple=1", "ord_y", "plum=1@2 fig=1@1",
				       "ord_z", "pear=1"),
			       "NUUNUUNRR");
	record_is("ord_x", "UNAVAILABLE 1 1000 fig=1/00 apple=1/0");
	field_is(2, "r", "ord_z", "RESERVED 1 1000 pear=1");
	part_is(1, "ord_x", "");
	part_is(2, "ord_z", "");
	stock_is(2, "pear", "1 3 0 4 9 9");

	/* Twice: the second time there is a record. What is damaged fails alone, and changes nothing. */
	stock_set(1, "apple", "many");
	CU_ASSERT_STRING_EQUAL(
		RESERVE("0", "ord_4", "pear=1@2", "ord_4", "pear=1@2", "ord_5",
			"pear=1@2 apple=1@1"),
		"NRRRR?!!!|RESERVED 1 1000 pear=1@2|ord_5: the counters of stock are "
		"damaged, or less is reserved or sold than the reservation says");
	part_is(2, "ord_5", "");
	stock_is(1, "apple", "many");
	stock_is(2, "pear", "0 4 0 4 10 9");

	/* What is not of the partition's generation is not served: that it is an older one, the other partitions know as well. */
	redis_server_do(&server, "SET inventory:{2}:generation 3");
	CU_ASSERT_STRING_EQUAL(
		RESERVE("3", "ord_6", "plum=1@2", "ord_7", "plum=1@2", "ord_8", "plum=1@1"),
		"NUUNUUNUU");
	CU_ASSERT_STRING_EQUAL(RESERVE("2", "ord_a", "plum=1@2", "ord_b", "plum=1@1 plum=1@2",
				       "ord_c", "plum=1@1"),
			       "NUUNUUNN?|");
	CU_ASSERT_STRING_EQUAL(
		RESERVE("4", "ord_d", "plum=1@2", "ord_e", "plum=1@2", "ord_f", "plum=1@1"),
		"NUUNUUNN?|");
	redis_server_do(&server, "DEL inventory:{1}:generation");
	CU_ASSERT_STRING_EQUAL(
		RESERVE("3", "ord_g", "plum=1@2", "ord_h", "plum=1", "ord_i", "plum=1@1"),
		"NN?NN?NUU||");
	/* Without one: none of the group is split. Nor is an order without lines. */
	CU_ASSERT_STRING_EQUAL(
		RESERVE("", "ord_j", "plum=1@2", "ord_k", "plum=1@2", "ord_l", "plum=1"),
		"NN?NN?NUU||");
	CU_ASSERT_STRING_EQUAL(RESERVE("", "ord_m", "plum=1@2", "ord_n", "plum=1@2", "ord_o", ""),
			       "NN?NN?NRR||");
	field_is(2, "r", "ord_o", "RESERVED 1 1000 ");
}

/* Another one when the master is another one; the old one stays known, with the last time it was alive. */
static void a_master_has_a_mark(void)
{
	char first[24], last[24];

	snprintf(first, sizeof(first), "%.16s", ANSWER(2, "state", "1000"));
	CU_ASSERT_EQUAL(strlen(first), 16);
	(void)ANSWER(2, "state", "1999");
	CU_ASSERT_STRING_EQUAL(strrchr(ANSWER(2, "fence", "1", "1", first), '|'), "|1000");
	(void)ANSWER(2, "state", "2000");
	redis_server_do(&server, "DEBUG CHANGE-REPL-ID");
	snprintf(last, sizeof(last), "%.16s", ANSWER(2, "state", "9000"));
	CU_ASSERT_STRING_NOT_EQUAL(first, last);
	CU_ASSERT_STRING_EQUAL(strrchr(ANSWER(2, "fence", "1", "1", first), '|'), "|2000");
	CU_ASSERT_STRING_EQUAL(strrchr(ANSWER(2, "fence", "1", "1", "fig"), '|'), "|");
}

/* Page by page; whose they are, their states and times choose. */
static void a_scan_finds_what_it_looks_for(void)
{
	char cursor[24] = "0";
	size_t found = 0, pages = 0;

	for (int i = 0; i < 1500; i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s %d %d apple=1",
			 i % 2 == 0 ? "RESERVED" : "RELEASED", i % 4, i);
		redis_server_do(&server, "HSET inventory:{2}:parts ord_%d %s", i, text);
	}
	redis_server_do(&server, "HSET inventory:{2}:parts ord_x junk");
	do {
		const char *text =
			ANSWER(2, "scan", "parts", "2", cursor, "10", "400", "799", "RC");

		pages++;
		snprintf(cursor, sizeof(cursor), "%.*s", (int)strcspn(text, "|"), text);
		for (; (text = strstr(text, "|ord_")) != NULL; text += 5) {
			long i = strtol(text + 5, NULL, 10);

			CU_ASSERT(i % 4 == 2 && i >= 400 && i <= 799);
			found++;
		}
	} while (strcmp(cursor, "0") != 0);
	CU_ASSERT(found >= 100 && pages > 50);
	redis_server_do(&server, "HSET inventory:{1}:r ord_1 %s ord_2 %s", "RESERVED 1 5 a=1@2",
			"RESERVED 1 5 a=1");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "scan", "r", "1", "0", "10", "0", "9", "RUCL"),
			       "0|ord_1|R|a=1@2");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "scan", "r", "1", "0", "10", "6", "9", "RUCL"), "0");
	CU_ASSERT_STRING_EQUAL(ANSWER(1, "scan", "r", "1", "0", "10", "0", "9", "UCL"), "0");
}

/* What changed last is found without reading the rest, which is read if that does not go back so far. */
static void a_scan_looks_up_what_changed_last(void)
{
	const char *text;

	stock_set(2, "apple", "9 0 0 9 1");
	redis_server_do(&server, "HSET inventory:{2}:parts ord_0 %s", "RESERVED 1 300000 apple=1");
	(void)ANSWER(2, "state", "100000");
	(void)ANSWER(2, "part", "200000", "", "h", "1", "0", "1", "ord_1", "apple=1", "200000");
	(void)ANSWER(2, "part", "201000", "", "h", "3", "0", "1", "ord_2", "apple=1", "201000");
	(void)ANSWER(2, "part", "202000", "", "f", "1", "0", "1", "ord_1", "apple=1", "202000");
	(void)ANSWER(2, "part", "202000", "", "f", "1", "0", "1", "ord_1", "apple=1", "202000");
	/* Not what was written by other hands. */
	text = ANSWER(2, "scan", "parts", "1", "0", "10", "199000", "900000", "RUCL");
	CU_ASSERT_STRING_EQUAL(text, "0|ord_1|L|apple=1");
	text = ANSWER(2, "scan", "parts", "3", "0", "10", "199000", "900000", "RUCL");
	CU_ASSERT_STRING_EQUAL(text, "0|ord_2|R|apple=1");
	text = ANSWER(2, "scan", "parts", "1", "0", "10", "100000", "900000", "RUCL");
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "ord_0"));
	/* Two minutes are kept, once the master has been there as long. */
	(void)ANSWER(2, "state", "220000");
	CU_ASSERT_EQUAL(redis_server_int(&server, "ZCARD inventory:{2}:recent:parts"), 3);
	(void)ANSWER(2, "state", "321500");
	CU_ASSERT_EQUAL(redis_server_int(&server, "ZCARD inventory:{2}:recent:parts"), 1);
	text = ANSWER(2, "scan", "parts", "3", "0", "10", "202000", "900000", "RUCL");
	CU_ASSERT_STRING_EQUAL(text, "0");
	text = ANSWER(2, "scan", "parts", "3", "0", "10", "201000", "900000", "RUCL");
	CU_ASSERT_STRING_EQUAL(text, "0|ord_2|R|apple=1");
	/* Another master may be asked for what the one before has written. */
	redis_server_do(&server, "DEBUG CHANGE-REPL-ID");
	(void)ANSWER(2, "state", "921500");
	CU_ASSERT_EQUAL(redis_server_int(&server, "ZCARD inventory:{2}:recent:parts"), 1);
	(void)ANSWER(2, "state", "1050000");
	CU_ASSERT_EQUAL(redis_server_int(&server, "ZCARD inventory:{2}:recent:parts"), 0);
}

/* Page by page, also of calls in the same millisecond. */
static void a_scan_of_what_changed_last_has_pages(void)
{
	char cursor[24] = "0", note[32];
	size_t found = 0, pages = 0;

	(void)ANSWER(2, "state", "100000");
	for (int i = 0; i < 3000; i++) {
		redis_server_do(&server, "HSET inventory:{2}:parts ord_%d %s", i,
				"RESERVED 1 200000 apple=1");
		snprintf(note, sizeof(note), "%d;1 ord_%d", 200000 + i / 7, i);
		redis_server_do(&server, "ZADD inventory:{2}:recent:parts %d %s", 200000 + i / 7,
				note);
	}
	do {
		const char *text =
			ANSWER(2, "scan", "parts", "1", cursor, "10", "150000", "900000", "RUCL");

		pages++;
		snprintf(cursor, sizeof(cursor), "%.*s", (int)strcspn(text, "|"), text);
		for (; (text = strstr(text, "|ord_")) != NULL; text += 5)
			found++;
	} while (strcmp(cursor, "0") != 0);
	CU_ASSERT(found >= 3000 && pages > 100);
}

/* ---- damage ---- */

static void damage_stays_alone(void)
{
	struct act acts[3] = { { .status = 1 } };
	struct ask asks[2] = { { .status = 1 } };

	stock_set(2, "apple", "5 0 0 5 1");
	stock_set(2, "pear", "many");
	redis_server_do(&server, "HSET inventory:{2}:parts ord_2 junk");
	submit_part(&acts[0], "ord_1", PART_HOLD, LINES({ "pear", 1 }, { "apple", 1 }));
	submit_part(&acts[1], "ord_2", PART_HOLD, LINES({ "apple", 1 }));
	submit_part(&acts[2], "ord_3", PART_HOLD, LINES({ "apple", 1 }));
	run_until(3);
	CU_ASSERT_EQUAL(acts[0].status, RT_REMOTE);
	CU_ASSERT_EQUAL(acts[1].status, RT_REMOTE);
	CU_ASSERT_EQUAL(acts[2].status, RT_OK);
	stock_is(2, "apple", "4 1 0 5 2");
	part_is(2, "ord_1", "");
	part_is(2, "ord_2", "junk");
	redis_server_do(&server, "HSET inventory:{1}:r ord_1 junk");
	submit_conclusion(&asks[0], "ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE);
	submit_conclusion(&asks[1], "ord_2", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE);
	run_until(2);
	CU_ASSERT_EQUAL(asks[0].status, RT_REMOTE);
	CU_ASSERT(asks[1].status == RT_OK && asks[1].served);
	record_is("ord_1", "junk");
}

/* Keys of other types in our places: nothing is written before the error. */
static void foreign_keys_change_nothing(void)
{
	static const char *const keys[] = { "parts", "generations", "stock", "recent:parts" };

	for (size_t i = 0; i < RT_LENGTH(keys); i++) {
		struct act act = { .status = 1, .op.generation = 1 };

		redis_server_do(&server, "FLUSHALL");
		stock_set(2, "apple", "5 0 0 5 1");
		redis_server_do(&server, "DEL inventory:{2}:%s", keys[i]);
		redis_server_do(&server, "SET inventory:{2}:%s x", keys[i]);
		submit_part(&act, "ord_1", PART_RELEASE, LINES({ "apple", 1 }));
		run_until(1);
		CU_ASSERT_EQUAL(act.status, RT_REMOTE);
		for (size_t j = 0; j < RT_LENGTH(keys); j++)
			CU_ASSERT(i == j || strcmp(keys[j], "stock") == 0 ||
				  redis_server_int(&server, "EXISTS inventory:{2}:%s", keys[j]) ==
					  0);
	}
}

static void a_full_redis_serves_split_orders(void)
{
	stock_set(2, "apple", "5 0 0 5 1");
	redis_server_do(&server, "CONFIG SET maxmemory 1");
	act_as("ord_1", PART_HOLD, LINES({ "apple", 1 }), STOCK_RESERVED);
	conclude_as("ord_1", STOCK_REQ_RESERVE, STOCK_NONE, SPLIT_IS_DONE,
		    "RESERVED 1 1764000000123 apple=2@2 pear=3@1");
	redis_server_do(&server, "CONFIG SET maxmemory 0");
}

/* ---- all partitions ---- */

struct page {
	struct inventory_list_op op;
	int status;
	char last[80];
};

static void listed(struct inventory_list_op *op, int status)
{
	struct page *page = RT_CONTAINER_OF(op, struct page, op);

	page->status = status;
	page->last[0] = '\0';
	if (op->stock_count > 0)
		snprintf(page->last, sizeof(page->last), "%s", op->stocks[op->stock_count - 1].sku);
	/* In byte order, each with its own counters. */
	for (size_t i = 0; i < op->stock_count; i++) {
		CU_ASSERT(i == 0 || strcmp(op->stocks[i - 1].sku, op->stocks[i].sku) < 0);
		CU_ASSERT_EQUAL(op->stocks[i].stock.received,
				strtoull(op->stocks[i].sku + 1, NULL, 10));
	}
	ended();
}

static void adjusted(struct inventory_adjust_op *op, int status)
{
	CU_ASSERT_EQUAL(status, RT_OK);
	CU_ASSERT_EQUAL(op->outcome, INVENTORY_ADJUSTED);
	ended();
}

static void stock_read(struct inventory_stock_op *op, int status)
{
	CU_ASSERT(status == RT_OK && op->found);
	CU_ASSERT_EQUAL(op->stock.received, strtoull(op->sku + 1, NULL, 10));
	ended();
}

/* Adjusts, reads and lists a stock of `count` SKUs, which lie in all partitions but the last `skewed` of them: those are
 * in one. */
static void stock_of_many_is_listed(size_t count, size_t page_size)
{
	struct inventory_adjust_op *adjusts = rt_alloc(count * sizeof(*adjusts));
	struct inventory_stock_op *stocks = rt_alloc(count * sizeof(*stocks));
	char(*skus)[24] = rt_alloc(count * sizeof(*skus));
	struct page page = { .op.count_max = page_size };
	size_t seen = 0, pages = 0;
	char after[80] = "";

	for (size_t i = 0; i < count; i++) {
		snprintf(skus[i], sizeof(skus[i]), "s%zu", i + 1);
		adjusts[i] = (struct inventory_adjust_op){ .sku = skus[i],
							   .who = "jo",
							   .from = "here",
							   .delta = (int64_t)i + 1,
							   .request_id = "",
							   .reason = "",
							   .now_ms = NOW_MS,
							   .done = adjusted };
		inventory_store_adjust(f.store, &adjusts[i]);
	}
	run_until((int)count);
	for (int p = 0; p < PARTITIONS && count > 100; p++)
		CU_ASSERT(redis_server_int(&server, "HLEN inventory:{%d}:stock", p) > 0);
	for (size_t i = 0; i < count; i++) {
		stocks[i] = (struct inventory_stock_op){ .sku = skus[i], .done = stock_read };
		inventory_store_stock(f.store, &stocks[i]);
	}
	run_until((int)count);
	do {
		page.op.after = after;
		page.op.done = listed;
		inventory_store_list(f.store, &page.op);
		run_until(1);
		CU_ASSERT_EQUAL_FATAL(page.status, RT_OK);
		seen += page.op.stock_count;
		pages++;
		snprintf(after, sizeof(after), "%s", page.last);
	} while (page.op.more);
	CU_ASSERT_EQUAL(seen, count);
	CU_ASSERT_EQUAL(pages, (count + page_size - 1) / page_size);
	free(skus);
	free(stocks);
	free(adjusts);
}

static void stock_is_listed_over_all_partitions(void)
{
	static const size_t rows[][2] = { { 1, 1 }, { 7, 3 }, { 7, 7 }, { 500, 50 }, { 503, 100 } };

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redis_server_do(&server, "FLUSHALL");
		stock_of_many_is_listed(rows[i][0], rows[i][1]);
	}
}

/* Everything in one partition: its share of the page is asked for again and again. */
static void a_page_of_one_partition(void)
{
	struct page page = { .op = { .after = "", .count_max = 60, .done = listed } };

	for (int i = 100; i < 200; i++) {
		char sku[16], counters[64];

		snprintf(sku, sizeof(sku), "s%d", i);
		snprintf(counters, sizeof(counters), "%d 0 0 %d 1", i, i);
		/* Some SKUs have no counters. */
		if (i % 10 != 0)
			stock_set(3, sku, counters);
		redis_server_do(&server, "ZADD inventory:{3}:skus 0 %s", sku);
	}
	inventory_store_list(f.store, &page.op);
	run_until(1);
	CU_ASSERT_EQUAL(page.status, RT_OK);
	CU_ASSERT_EQUAL(page.op.stock_count, 60);
	CU_ASSERT(page.op.more);
	CU_ASSERT_STRING_EQUAL(page.last, "s166");
	page.op.after = "s166";
	inventory_store_list(f.store, &page.op);
	run_until(1);
	CU_ASSERT_EQUAL(page.op.stock_count, 30);
	CU_ASSERT_FALSE(page.op.more);
	/* One partition fails: so does the page. */
	redis_server_do(&server, "SET inventory:{0}:skus x");
	inventory_store_list(f.store, &page.op);
	run_until(1);
	CU_ASSERT_EQUAL(page.status, RT_REMOTE);
}

int main(void)
{
	static const struct test tests[] = {
		{ "a part holds, commits and releases", a_part_holds_commits_and_releases },
		{ "a part that leaves little is told", a_part_that_leaves_little },
		{ "what comes back of a part", what_comes_back_of_a_part },
		{ "what came back is mended", what_came_back_is_mended },
		{ "a refusal says what was short, and stays",
		  a_refusal_says_what_was_short_and_stays },
		{ "a hold that is late finds the tombstone",
		  a_hold_that_is_late_finds_the_tombstone },
		{ "a commit without a part takes what is there",
		  a_commit_without_a_part_takes_what_is_there },
		{ "Redis runs the rules of parts.c", redis_runs_the_rules },
		{ "a call serves many", a_call_serves_many },
		{ "calls of older generations change nothing",
		  calls_of_older_generations_change_nothing },
		{ "conclusions write what the rules say", conclusions_write_what_the_rules_say },
		{ "a refusal is answered with its shortages",
		  a_refusal_is_answered_with_its_shortages },
		{ "another record than the one that was read",
		  another_record_than_the_one_that_was_read },
		{ "conclusions of older generations are refused",
		  conclusions_of_older_generations_are_refused },
		{ "one reconciles at a time", one_reconciles_at_a_time },
		{ "a master has a mark", a_master_has_a_mark },
		{ "a scan finds what it looks for", a_scan_finds_what_it_looks_for },
		{ "a scan looks up what changed last", a_scan_looks_up_what_changed_last },
		{ "a scan of what changed last has pages", a_scan_of_what_changed_last_has_pages },
		{ "requests of split orders read", requests_of_split_orders_read },
		{ "conclusions acknowledge", conclusions_acknowledge },
		{ "reservations at once", reservations_at_once },
		{ "damage stays alone", damage_stays_alone },
		{ "keys of other types change nothing", foreign_keys_change_nothing },
		{ "a full Redis serves split orders", a_full_redis_serves_split_orders },
		{ "stock is listed over all partitions", stock_is_listed_over_all_partitions },
		{ "a page of one partition", a_page_of_one_partition },
	};
	int rc;

	tests_log_nothing();
	redis_server_start(&server, NULL);
	freeReplyObject(redisCommand(server.control, "FUNCTION LOAD REPLACE %b",
				     inventory_functions.code, inventory_functions.code_length));
	rc = tests_run_each("inventory_parts", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&server);
	return rc;
}
