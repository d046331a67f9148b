/* test_trail.c - the trail of what operators changed: the functions of runtime/events/events.lua that write it, with a
 * real redis-server. test_inventory_store.c has adjustments, tests/live/test_trail.py the commands. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "redis_server.h"
#include "run.h"

#define EVENTS  "order:{0}:events"
#define FOREIGN "inventory:{0}:events"
#define DEAD    "order:{0}:dead"
#define TRAIL   "order:{0}:trail"
#define OPERATE "FCALL order_operate_test 1 " EVENTS " jo host act"

static struct redis_server server;

static void setup(void)
{
	redis_server_do(&server, "FLUSHALL");
	redis_server_load_events(&server, "order", "test", "");
}

static void teardown(void)
{
}

static long long trail_length(void)
{
	return redis_server_int(&server, "XLEN " TRAIL);
}

/* The newest entry has these values, as "who|from|action|subject|why|result". */
static bool entered(const char *wanted)
{
	static const char *const names[] = { "who", "from", "action", "subject", "why", "result" };
	redisReply *reply = redis_server_command(&server, "XREVRANGE " TRAIL " + - COUNT 1");
	const redisReply *fields = reply->elements == 1 ? reply->element[0]->element[1] : NULL;
	struct rt_buf text = { 0 };
	bool same = fields != NULL && fields->elements == 2 * RT_LENGTH(names);

	for (size_t i = 0; same && i < RT_LENGTH(names); i++) {
		same = strcmp(fields->element[2 * i]->str, names[i]) == 0;
		rt_buf_printf(&text, "%s%s", i == 0 ? "" : "|", fields->element[2 * i + 1]->str);
	}
	rt_buf_add(&text, "", 1);
	if (!same || strcmp(text.data, wanted) != 0)
		printf("\n    the trail says '%s'", text.data);
	same = same && strcmp(text.data, wanted) == 0;
	rt_buf_done(&text);
	freeReplyObject(reply);
	return same;
}

static void add_dead_letter(const char *id)
{
	redis_server_do(&server,
			"XADD " DEAD
			" %s id a/1 type t subject a seq 1 data d replayed 1 stream " FOREIGN
			" stream_id 4-1 group order reason %s deliveries 8 dead_time then",
			id, "so it is");
}

/* A dead letter moves to the end of its stream with its own fields, and nowhere twice. */
static void replayed(void)
{
	redisReply *reply;

	add_dead_letter("5-1");
	redis_server_do(&server, "XADD " FOREIGN " 2000-7 id b/1 type t subject b seq 1");
	for (int i = 0; i < 2; i++) {
		reply = redis_server_command(&server,
					     "FCALL order_operate_test 2 " EVENTS " " FOREIGN
					     " jo host dead.replay a %s %s replay 5-1 1000",
					     "fixed it", "");
		CU_ASSERT_EQUAL(reply->type, i == 0 ? REDIS_REPLY_STRING : REDIS_REPLY_NIL);
		freeReplyObject(reply);
		CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " DEAD), 0);
		CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " FOREIGN), 2);
		CU_ASSERT_EQUAL(trail_length(), 1);
	}
	CU_ASSERT(entered("jo|host|dead.replay|a|fixed it|dead letter 5-1 is 2000-8 of " FOREIGN
			  " now"));
	reply = redis_server_command(&server, "XRANGE " FOREIGN " 2000-8 2000-8");
	CU_ASSERT_EQUAL(reply->element[0]->element[1]->elements, 12);
	CU_ASSERT_STRING_EQUAL(reply->element[0]->element[1]->element[11]->str, "2");
	freeReplyObject(reply);
}

static void discarded(void)
{
	redisReply *reply;

	add_dead_letter("5-1");
	for (int i = 0; i < 2; i++) {
		reply = redis_server_command(&server, OPERATE " a why about discard 5-1");
		CU_ASSERT_EQUAL(reply->type, i == 0 ? REDIS_REPLY_STRING : REDIS_REPLY_NIL);
		freeReplyObject(reply);
		CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS " DEAD), 1);
		CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " DEAD), 0);
		CU_ASSERT_EQUAL(trail_length(), 1);
	}
	CU_ASSERT(entered("jo|host|act|a|why|about: dead letter 5-1: t a/1 of " FOREIGN
			  ", failed: so it is"));
}

/* What is called twice does something once, and is entered once. */
static void groups(void)
{
	static const struct {
		const char *function, *result;
	} rows[] = {
		{ "exclude", "it may miss events" },
		{ "include", "it holds back trimming again" },
		{ "remove_group", "it had read up to 1-1" },
	};

	redis_server_do(&server, "XGROUP CREATE " EVENTS " mine 1-1 MKSTREAM");
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *wanted = rt_printf("jo|host|act|mine||%s", rows[i].result);

		for (int again = 0; again < 2; again++) {
			long long changed = redis_server_int(&server, OPERATE " mine %s %s %s mine",
							     "", "", rows[i].function);

			TEST_ROW(changed == !again, rows[i].function);
			TEST_ROW(trail_length() == (long long)i + 1, rows[i].function);
			TEST_ROW(entered(wanted), rows[i].function);
		}
		free(wanted);
	}
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS order:{0}:excluded_groups"), 0);
}

/* Nothing is changed that cannot be entered, and no function but those for operators is called. */
static void refused(void)
{
	redisReply *reply;

	add_dead_letter("5-1");
	redis_server_do(&server, "SET " TRAIL " x");
	reply = redis_server_command(&server, OPERATE " a why about discard 5-1");
	CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " DEAD), 1);
	redis_server_do(&server, "DEL " TRAIL);
	reply = redis_server_command(&server, OPERATE " a why about trim 1 1 1 1");
	CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	CU_ASSERT_STRING_EQUAL(reply->str, "ERR trim is not called for operators");
	freeReplyObject(reply);
	CU_ASSERT_EQUAL(redis_server_int(&server, "EXISTS " TRAIL), 0);
}

/* Redis that is full can be helped by discarding, and the trail says so. */
static void full(void)
{
	add_dead_letter("5-1");
	redis_server_do(&server, "CONFIG SET maxmemory 1");
	redis_server_do(&server, OPERATE " a why about discard 5-1");
	redis_server_do(&server, "CONFIG SET maxmemory 0");
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN " DEAD), 0);
	CU_ASSERT_EQUAL(trail_length(), 1);
}

static void bounded(void)
{
	redis_server_do(
		&server, "EVAL %s 1 " TRAIL,
		"for i = 1, 100000 do redis.call('XADD', KEYS[1], '1-' .. i, 'a', 'b') end");
	redis_server_do(&server, OPERATE " mine why about exclude mine");
	CU_ASSERT_EQUAL(trail_length(), 100000);
	CU_ASSERT(entered("jo|host|act|mine|why|about: it may miss events"));
}

int main(void)
{
	static const struct test tests[] = {
		{ "a dead letter is replayed", replayed },
		{ "a dead letter is discarded", discarded },
		{ "groups", groups },
		{ "what cannot be entered is not done", refused },
		{ "in a full Redis", full },
		{ "the trail is bounded", bounded },
	};
	int rc;

	rt_log_init("test", RT_INFO, false);
	redis_server_start(&server, NULL);
	rc = tests_run_each("trail", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&server);
	return rc;
}
