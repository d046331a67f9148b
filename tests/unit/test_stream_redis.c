/* test_stream_redis.c - the consumer and runtime/events/events.lua against a real redis-server: what
 * only a real Redis shows. The rest is in test_events.c, on a Redis in memory. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "events/stream_internal.h"
#include "redis/redis.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"

#define STREAM      "order:{0}:events"
#define GROUP       "inventory"
#define HANDLED_MAX 4096

struct handled {
	char id[64];
	uint32_t deliveries;
};
struct side {
	struct rt_redis *commands;
	struct rt_events *events;
	struct handled handled[HANDLED_MAX];
	size_t count;
	bool stopped, hold;
	struct rt_event *held;
};
static struct fixture {
	struct rt_loop *loop;
	struct rt_metrics *metrics;
	struct redis_server *server;
	struct side *sides[2];
	size_t wanted; /* that many are to be handled */
} f;

static struct redis_server shared;
static int warnings;

/* Publishes with the producer's own code: 'order_put_<version> 1 stream now_ms count subject'. */
static const char put[] =
	"register('put', function(keys, args)\n"
	" local stream = open_stream(keys[1])\n"
	" local last\n"
	" for i = 1, tonumber(args[2]) do\n"
	"  last = stream:publish(args[1], 'time', 'tandem.order.v1.OrderPlaced', args[3] .. i, i,\n"
	"   'data', args[4], args[5])\n"
	" end\n"
	" return { last or '', stream.length }\n"
	"end, 'allow-oom')\n";
/* What the subscriptions of these tests call. */
static const struct rt_functions inventory_functions = { .name = "inventory", .version = "test" };

static void on_log(const char *line, void *user)
{
	(void)user;
	warnings += strstr(line, " warn ") != NULL;
}

static size_t handled_count(void)
{
	size_t count = 0;

	for (size_t i = 0; i < RT_LENGTH(f.sides); i++)
		count += f.sides[i] != NULL ? f.sides[i]->count : 0;
	return count;
}

static void on_event(struct rt_event *event, void *user)
{
	struct side *side = user;
	struct handled *handled = &side->handled[side->count];

	CU_ASSERT_FATAL(side->count < HANDLED_MAX);
	side->count++;
	snprintf(handled->id, sizeof(handled->id), "%s", event->id);
	handled->deliveries = event->deliveries;
	if (side->hold)
		side->held = event;
	else
		rt_event_ignore(event);
	if (handled_count() == f.wanted)
		rt_loop_stop(f.loop);
}

static void run_until(bool (*wanted)(void))
{
	run_until_so(f.loop, wanted);
}

static bool enough_handled(void)
{
	return handled_count() >= f.wanted;
}

static void run_until_handled(size_t count)
{
	f.wanted = count;
	run_until(enough_handled);
	CU_ASSERT_EQUAL(handled_count(), count);
}

static bool is_ready(void)
{
	return rt_events_ready(f.sides[0]->events);
}

static bool is_not_ready(void)
{
	return !rt_events_ready(f.sides[0]->events);
}

static bool nothing_pending(void)
{
	redisReply *reply = redis_server_command(f.server, "XPENDING " STREAM " " GROUP);
	bool none = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
		    reply->element[0]->integer == 0;

	freeReplyObject(reply);
	return none;
}

static bool all_stopped(void)
{
	for (size_t i = 0; i < RT_LENGTH(f.sides); i++) {
		if (f.sides[i] != NULL && !f.sides[i]->stopped)
			return false;
	}
	return true;
}

static void on_stopped(void *user)
{
	((struct side *)user)->stopped = true;
}

static void free_side(size_t i)
{
	struct side *side = RT_TAKE(f.sides[i]);

	rt_events_free(side->events);
	rt_redis_free(side->commands);
	free(side);
}

static void teardown(void)
{
	for (size_t i = 0; i < RT_LENGTH(f.sides); i++) {
		struct side *side = f.sides[i];

		if (side == NULL)
			continue;
		if (side->held != NULL)
			rt_event_ignore(RT_TAKE(side->held));
		rt_events_stop(side->events, on_stopped, side);
	}
	run_until(all_stopped);
	for (size_t i = 0; i < RT_LENGTH(f.sides); i++)
		if (f.sides[i] != NULL)
			free_side(i);
	rt_loop_free(RT_TAKE(f.loop));
	rt_metrics_free(f.metrics);
}

/* Replaces the fixture. */
static void setup_on(struct redis_server *server)
{
	if (f.loop != NULL)
		teardown();
	f = (struct fixture){ .server = server, .wanted = SIZE_MAX };
	warnings = 0;
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	f.metrics = rt_metrics_new();
	redis_server_do(server, "FLUSHALL");
	redis_server_load_events(server, "order", "test", put);
	redis_server_load_events(server, "inventory", "test", "");
}

static void setup(void)
{
	setup_on(&shared);
}

static struct rt_events_options quick_options(void)
{
	struct rt_events_options options = { RT_EVENTS_DEFAULTS };

	options.claim_idle_ms = 300;
	options.claim_every_ms = 100;
	options.maintain_every_ms = 50;
	options.block_ms = 1000;
	return options;
}

static struct side *add_side(size_t i, const char *consumer, struct rt_events_options options)
{
	struct rt_redis_options redis = { .unix_path = f.server->socket, .name = consumer };
	struct side *side = rt_alloc(sizeof(*side));
	struct rt_stream_source *source;

	f.sides[i] = side;
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &redis, &side->commands) == RT_OK);
	CU_ASSERT_FATAL(rt_stream_redis_new(f.loop,
					    &(struct rt_stream_redis_options){
						    .reader = &redis,
						    .commands = side->commands,
						    .stream = STREAM,
						    .group = GROUP,
						    .consumer = consumer,
						    .functions = &inventory_functions },
					    &source) == RT_OK);
	options.name = STREAM;
	options.on_event = on_event;
	options.user_data = side;
	options.metrics = f.metrics;
	CU_ASSERT_FATAL(rt_events_new(f.loop, source, &options, &side->events) == RT_OK);
	rt_events_start(side->events);
	return side;
}

static void publish(int64_t now_ms, int count, const char *subject)
{
	redis_server_do(f.server, "FCALL order_put_test 1 " STREAM " %lld %d %s", (long long)now_ms,
			count, subject);
}

static double counter(const char *name)
{
	char full[64];
	struct rt_metric *family;

	snprintf(full, sizeof(full), "tandem_events_%s_total", name);
	family = rt_metric(f.metrics, RT_COUNTER, full, "", (const char *[]){ "stream", NULL });
	return rt_series_value(rt_metric_series(family, (const char *[]){ STREAM }));
}

static void make_group(void)
{
	redis_server_do(f.server, "XGROUP CREATE " STREAM " " GROUP " 0");
}

static void read_as(const char *group, const char *consumer, int count)
{
	redis_server_do(f.server, "XREADGROUP GROUP %s %s COUNT %d STREAMS " STREAM " >", group,
			consumer, count);
}

/* Nothing but so many entries and the group, which has read none. */
static void begin_with(int entries)
{
	redis_server_do(f.server, "FLUSHALL");
	publish(1000, entries, "s");
	make_group();
}

#define CURSOR "FCALL inventory_cursor_test 2 inventory:{0}:events " STREAM " " GROUP
#define BURY   "FCALL inventory_bury_test 2 inventory:{0}:events " STREAM " " GROUP " now %s "

static void expect_handled(const struct side *side, size_t i, const char *id, uint32_t deliveries)
{
	CU_ASSERT_STRING_EQUAL(side->handled[i].id, id);
	CU_ASSERT_EQUAL(side->handled[i].deliveries, deliveries);
}

/* ---- the consumer ---- */

static void flow(void)
{
	struct side *side;

	publish(1000, 2, "a");
	side = add_side(0, "c1", quick_options());
	run_until_handled(2);
	publish(1000, 1000, "b");
	run_until_handled(1002);
	expect_handled(side, 0, "a1/1", 1);
	expect_handled(side, 1, "a2/2", 1);
	expect_handled(side, 1001, "b1000/1000", 1);
	run_until(nothing_pending);
	CU_ASSERT_EQUAL(warnings, 0);
	CU_ASSERT_EQUAL(counter("received"), 1002);
}

/* How often the group delivered the one entry that is pending. */
static long long counted(void)
{
	redisReply *reply = redis_server_command(f.server, "XPENDING " STREAM " " GROUP " - + 10");
	long long count = reply->elements == 1 ? reply->element[0]->element[3]->integer : -1;

	freeReplyObject(reply);
	return count;
}

/* The reader loses its connection nine times and more while a handler takes its time. */
static void flapping_reader(void)
{
	struct side *slow, *next;

	publish(1000, 1, "a");
	slow = add_side(0, "c1", quick_options());
	slow->hold = true;
	run_until_handled(1);
	for (int i = 0; i < 10; i++) {
		run_until(is_ready);
		redis_server_do(&shared, "CLIENT KILL TYPE normal SKIPME yes");
		run_until(is_not_ready);
	}
	run_until(is_ready);
	CU_ASSERT_EQUAL(counted(), 1);
	/* It ends without having handled it; another one does. */
	rt_event_retry(RT_TAKE(slow->held), RT_LOST);
	rt_events_stop(slow->events, on_stopped, slow);
	run_until(all_stopped);
	next = add_side(1, "c2", quick_options());
	run_until_handled(2);
	expect_handled(next, 0, "a1/1", 2);
	CU_ASSERT_EQUAL(counter("buried"), 0);
	run_until(nothing_pending);
	free_side(0);
}

static const char *field_of(const redisReply *fields, const char *name)
{
	for (size_t i = 0; i + 1 < fields->elements; i += 2) {
		if (strcmp(fields->element[i]->str, name) == 0)
			return fields->element[i + 1]->str;
	}
	return "";
}

/* `fields` of an entry: names and values, NULL at the end. */
static void expect_fields(const redisReply *entry, const char *const *fields)
{
	for (; *fields != NULL; fields += 2)
		TEST_ROW(strcmp(field_of(entry, fields[0]), fields[1]) == 0, fields[0]);
}
#define EXPECT_FIELDS(entry, ...) expect_fields(entry, (const char *[]){ __VA_ARGS__, NULL })

static void killed_and_restarted(void)
{
	struct redis_server server;

	redis_server_start(&server, (const char *[]){ "--appendonly", "yes", "--appendfsync",
						      "always", NULL });
	setup_on(&server);
	publish(1000, 3, "a");
	add_side(0, "c1", quick_options());
	run_until_handled(3);
	run_until(nothing_pending);
	redis_server_kill(&server);
	run_until(is_not_ready);
	redis_server_restart(&server);
	publish(1000, 3, "b");
	run_until_handled(6);
	run_until(is_ready);
	run_until(nothing_pending);
	/* That it cannot be read, and that the last acknowledgement's answer was lost, if it was;
	 * not that the group is gone. */
	CU_ASSERT_TRUE(warnings == 1 || warnings == 2);
	CU_ASSERT_EQUAL(counter("rebuilds"), 0);
	redis_server_done(&server);
}

/* ---- events.lua ---- */

/* Libraries of two versions write in turns, as during an upgrade, and the stream is trimmed back to the
 * length that one of them remembers: no number is given twice. */
static void two_versions(void)
{
	static const char *const wanted[] = { "1000-1", "1000-2", "1001-3",
					      "1002-4", "1002-5", "1003-6" };
	redisReply *entries;

	redis_server_load_events(&shared, "order", "next", put);
	publish(1000, 2, "s");
	redis_server_do(&shared, "FCALL order_put_next 1 " STREAM " 1001 1 s");
	redis_server_do(&shared, "XTRIM " STREAM " MAXLEN 2");
	publish(1002, 2, "s");
	redis_server_do(&shared, "XTRIM " STREAM " MAXLEN 1");
	redis_server_do(&shared, "FCALL order_put_next 1 " STREAM " 1003 1 s");
	entries = redis_server_command(&shared, "XRANGE " STREAM " - +");
	CU_ASSERT_EQUAL_FATAL(entries->elements, 2);
	for (size_t i = 0; i < 2; i++)
		CU_ASSERT_STRING_EQUAL(entries->element[i]->element[0]->str, wanted[4 + i]);
	freeReplyObject(entries);
	redis_server_do(&shared, "FUNCTION DELETE order_next");
}

static redisReply *element(redisReply *reply, size_t i)
{
	CU_ASSERT_FATAL(reply->type == REDIS_REPLY_ARRAY && reply->elements > i);
	return reply->element[i];
}

static void put_gives(const char *now_ms, const char *id, long long length)
{
	redisReply *reply =
		redis_server_command(&shared, "FCALL order_put_test 1 " STREAM " %s 1 s", now_ms);

	if (strcmp(element(reply, 0)->str, id) != 0)
		printf("\n    id %s, not %s", reply->element[0]->str, id);
	CU_ASSERT_STRING_EQUAL(reply->element[0]->str, id);
	CU_ASSERT_EQUAL(element(reply, 1)->integer, length);
	freeReplyObject(reply);
}

static void ids(void)
{
	redisReply *reply;

	put_gives("1000", "1000-1", 1);
	put_gives("1000", "1000-2", 2);
	put_gives("2000", "2000-3", 3);
	put_gives("1500", "2000-4", 4); /* the clock stepped back */
	redis_server_do(&shared, "XDEL " STREAM " 2000-4");
	put_gives("2001", "2001-5", 4); /* numbers are not used twice */
	redis_server_do(&shared, "XTRIM " STREAM " MAXLEN 0");
	put_gives("2001", "2001-6", 1);
	redis_server_do(&shared, "XADD " STREAM " 3000-0 a b"); /* by hand: counting begins again */
	put_gives("2500", "3000-1", 3);
	/* By hand, and the length as it was: found out when the next id is refused. */
	redis_server_do(&shared, "XADD " STREAM " 3000-9 a b");
	redis_server_do(&shared, "XDEL " STREAM " 3000-0");
	put_gives("2500", "3000-10", 4);
	redis_server_do(&shared, "XADD " STREAM " 3000-18446744073709551615 a b");
	put_gives("2500", "3001-1", 6);
	/* Beyond what Lua's numbers hold. */
	redis_server_do(&shared, "XADD " STREAM " 18446744073709551000-7 a b");
	put_gives("2500", "18446744073709551000-8", 8);
	redis_server_do(&shared, "DEL " STREAM);
	redis_server_do(&shared, "SET " STREAM " text");
	reply = redis_server_command(&shared, "FCALL order_put_test 1 " STREAM " 1 1 s");
	CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	CU_ASSERT_PTR_NOT_NULL(strstr(reply->str, "WRONGTYPE"));
	freeReplyObject(reply);
}

static void lag(void)
{
	static const struct {
		const char *why, *commands[4];
		long long lag;
	} rows[] = {
		{ "ten written, four delivered", { NULL }, 6 },
		{ "delivered ones deleted", { "XDEL " STREAM " 1000-1 1000-2 1000-4" }, 6 },
		{ "an undelivered one deleted", { "XDEL " STREAM " 1000-7" }, 5 },
		{ "trimmed up to what was delivered", { "XTRIM " STREAM " MINID 1000-5" }, 6 },
		{ "trimmed past it", { "XTRIM " STREAM " MAXLEN 2" }, 2 },
		{ "trimmed to nothing", { "XTRIM " STREAM " MAXLEN 0" }, 0 },
		{ "all deleted one by one",
		  { "XDEL " STREAM " 1000-1 1000-2 1000-3 1000-4 1000-5",
		    "XDEL " STREAM " 1000-6 1000-7 1000-8 1000-9 1000-10" },
		  0 },
		{ "a hand-made entry", { "XADD " STREAM " 2000-0 a b" }, 7 },
		{ "delivered past a hand-made entry",
		  { "XADD " STREAM " 2000-0 a b",
		    "XREADGROUP GROUP " GROUP " c COUNT 7 STREAMS " STREAM " >" },
		  0 },
		{ "the group set back to the start",
		  { "XGROUP SETID " STREAM " " GROUP " 0" },
		  10 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redisReply *reply;

		begin_with(10);
		read_as(GROUP, "c", 4);
		for (size_t j = 0; j < 4 && rows[i].commands[j] != NULL; j++)
			redis_server_do(&shared, rows[i].commands[j]);
		reply = redis_server_command(&shared, CURSOR " c 1000");
		TEST_ROW(element(reply, 2)->integer == rows[i].lag, rows[i].why);
		freeReplyObject(reply);
	}
}

static void cursor(void)
{
	static const struct {
		const char *why, *command, *mark;
	} rows[] = {
		{ "nothing acknowledged", NULL, "1000-0" },
		{ "one in the middle is missing", "XACK " STREAM " " GROUP " 1000-1 1000-3",
		  "1000-1" },
		{ "all that were delivered", "XACK " STREAM " " GROUP " 1000-1 1000-2 1000-3",
		  "1000-3" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		begin_with(5);
		read_as(GROUP, "c", 3);
		if (rows[i].command != NULL)
			redis_server_do(&shared, rows[i].command);
		redis_server_do(&shared, CURSOR " c 1000");
		TEST_ROW(strcmp(redis_server_text(&shared, "HGET inventory:{0}:cursor " STREAM),
				rows[i].mark) == 0,
			 rows[i].why);
	}
}

static bool has_consumer(const char *name)
{
	redisReply *reply = redis_server_command(&shared, "XINFO CONSUMERS " STREAM " " GROUP);
	bool found = false;

	for (size_t i = 0; i < reply->elements; i++)
		found = found || strcmp(element(reply->element[i], 1)->str, name) == 0;
	freeReplyObject(reply);
	return found;
}

static void idle_consumers(void)
{
	begin_with(5);
	read_as(GROUP, "holder", 1);
	redis_server_do(&shared, "XGROUP CREATECONSUMER " STREAM " " GROUP " gone");
	redis_server_do(&shared, "XGROUP CREATECONSUMER " STREAM " " GROUP " me");
	/* Time as Redis counts it. */
	redis_server_do(&shared, "DEBUG SLEEP 0.03");
	redis_server_do(&shared, "XGROUP CREATECONSUMER " STREAM " " GROUP " young");
	redis_server_do(&shared, CURSOR " me 20");
	CU_ASSERT_TRUE(has_consumer("holder"));
	CU_ASSERT_TRUE(has_consumer("me"));
	CU_ASSERT_TRUE(has_consumer("young"));
	CU_ASSERT_FALSE(has_consumer("gone"));
}

static void burial(void)
{
	char reason[] = "why not";
	redisReply *reply;

	begin_with(4);
	read_as(GROUP, "c", 3);
	redis_server_do(&shared, "XDEL " STREAM " 1000-3");
	/* Pending; not delivered yet; gone from the stream. */
	CU_ASSERT_EQUAL(redis_server_int(&shared, BURY "1000-1 1000-4 1000-3", reason), 2);
	/* Once more, as after an answer that was lost. */
	CU_ASSERT_EQUAL(redis_server_int(&shared, BURY "1000-1 1000-4 1000-3", reason), 0);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN inventory:{0}:dead"), 2);
	reply = redis_server_command(&shared, "XPENDING " STREAM " " GROUP);
	CU_ASSERT_EQUAL(element(reply, 0)->integer, 1); /* 1000-2 */
	freeReplyObject(reply);
	reply = redis_server_command(&shared, "XREVRANGE inventory:{0}:dead + - COUNT 1");
	EXPECT_FIELDS(element(element(reply, 0), 1), "stream_id", "1000-3", "reason", reason,
		      "type", "");
	freeReplyObject(reply);
}

/* An entry with more fields than Lua's stack holds still goes to the dead letters. */
static void monstrous_burial(void)
{
	enum { FIELDS = 20000 };
	const char **argv = rt_alloc((FIELDS + 3) * sizeof(*argv));
	redisReply *reply;

	argv[0] = "XADD";
	argv[1] = STREAM;
	argv[2] = "1-1";
	for (int i = 0; i < FIELDS; i++)
		argv[3 + i] = "x";
	reply = redisCommandArgv(shared.control, FIELDS + 3, argv, NULL);
	CU_ASSERT_FATAL(reply != NULL && reply->type == REDIS_REPLY_STRING);
	freeReplyObject(reply);
	free(argv);
	make_group();
	read_as(GROUP, "c", 1);
	CU_ASSERT_EQUAL(redis_server_int(&shared, BURY "1-1", "why"), 1);
}

/* ---- trimming ---- */

static long long trim(long long now_ms, long long retain_ms, long long retain_count,
		      long long stale_ms, long long *ret_stale)
{
	redisReply *reply = redis_server_command(
		&shared, "FCALL order_trim_test 1 " STREAM " %lld %lld %lld %lld", now_ms,
		retain_ms, retain_count, stale_ms);
	long long trimmed = element(reply, 0)->integer;

	CU_ASSERT_EQUAL(element(reply, 1)->integer, redis_server_int(&shared, "XLEN " STREAM));
	if (ret_stale != NULL)
		*ret_stale = (long long)reply->elements - 5;
	freeReplyObject(reply);
	return trimmed;
}

static void retention(void)
{
	static const struct {
		const char *why;
		int acked; /* of ten, written at 1000, 1010 … 1090 */
		long long now_ms, retain_ms, retain_count, left;
	} rows[] = {
		{ "nothing is acknowledged", 0, 100000, 0, 0, 10 },
		{ "all, and nothing is kept", 10, 100000, 0, 0, 0 },
		{ "what is not acknowledged stays", 7, 100000, 0, 0, 3 },
		{ "none is old enough, and there is room", 10, 1100, 1000, 100, 10 },
		{ "those younger than 50 ms stay", 10, 1100, 50, 100, 5 },
		{ "three acknowledged ones may stay", 10, 1100, 1000, 3, 3 },
		{ "three, and what is not acknowledged", 6, 1100, 1000, 3, 7 },
		{ "whichever keeps less: the time", 10, 1100, 25, 5, 2 },
		{ "whichever keeps less: the number", 10, 1100, 85, 5, 5 },
		{ "the clock is behind the stream", 10, 5, 1000, 100, 10 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redis_server_do(&shared, "FLUSHALL");
		for (int n = 0; n < 10; n++)
			publish(1000 + 10 * n, 1, "s");
		make_group();
		read_as(GROUP, "c", 10);
		for (int n = 0; n < rows[i].acked; n++)
			redis_server_do(&shared, "XACK " STREAM " " GROUP " %d-%d", 1000 + 10 * n,
					n + 1);
		trim(rows[i].now_ms, rows[i].retain_ms, rows[i].retain_count, 100000, NULL);
		TEST_ROW(redis_server_int(&shared, "XLEN " STREAM) == rows[i].left, rows[i].why);
	}
}

/* Who keeps entries from being cut off, and how many. */
static void holders(void)
{
	static const struct {
		const char *slow_acks;
		const char *holder;
		long long held;
	} rows[] = {
		{ "", "slow", 10 },
		{ " 1000-1 1000-2", "slow", 8 },
		/* What it has read and not acknowledged counts, however much came behind. */
		{ " 1000-1 1000-3 1000-4 1000-5", "slow", 9 },
		{ " 1000-1 1000-2 1000-3 1000-4 1000-5 1000-6 1000-7 1000-8 1000-9 1000-10", "",
		  0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redisReply *reply;

		redis_server_do(&shared, "FLUSHALL");
		publish(1000, 10, "s");
		redis_server_do(&shared, "XGROUP CREATE " STREAM " " GROUP " $");
		redis_server_do(&shared, "XGROUP CREATE " STREAM " slow 0");
		if (rows[i].slow_acks[0] != '\0') {
			char command[160];

			snprintf(command, sizeof(command), "XACK " STREAM " slow%s",
				 rows[i].slow_acks);
			read_as("slow", "c", 10);
			redis_server_do(&shared, command);
		}
		reply = redis_server_command(&shared, "FCALL order_trim_test 1 " STREAM
						      " 1000 100000 100 100000");
		TEST_ROW(strcmp(element(reply, 2)->str, rows[i].holder) == 0, rows[i].slow_acks);
		TEST_ROW(element(reply, 3)->integer == rows[i].held, rows[i].slow_acks);
		CU_ASSERT_EQUAL(element(reply, 4)->integer, 0);
		freeReplyObject(reply);
	}
}

static void stale_groups(void)
{
	long long count;

	publish(1000, 10, "s");
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 1000, &count), 0); /* no group has read anything */
	CU_ASSERT_EQUAL(count, 0);
	make_group();
	redis_server_do(&shared, "XGROUP CREATE " STREAM " stale 0");
	read_as(GROUP, "c", 10);
	redis_server_do(&shared, "XACK " STREAM " " GROUP " 1000-1 1000-2 1000-3 1000-4");
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 100000, &count), 0); /* a stale group holds back, too */
	CU_ASSERT_EQUAL(count, 1);
	/* Excluding one that lives changes nothing. */
	redis_server_do(&shared, "SADD order:{0}:excluded_groups " GROUP);
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 100000, &count), 0);
	redis_server_do(&shared, "SADD order:{0}:excluded_groups stale");
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 100000, &count), 4);
	CU_ASSERT_EQUAL(count, 1);
	/* A consumer that finds nothing to read is alive as long as it tends. */
	redis_server_do(&shared, "DEBUG SLEEP 0.05");
	redis_server_do(&shared, CURSOR " c 100000");
	trim(100000, 0, 0, 40, &count);
	CU_ASSERT_EQUAL(count, 1);
	redis_server_do(&shared, "DEBUG SLEEP 0.05");
	trim(100000, 0, 0, 40, &count);
	CU_ASSERT_EQUAL(count, 2);
}

/* Whatever two groups do: an entry that one of them has not acknowledged is never cut off. */
static void trim_is_safe(void)
{
	enum { STEPS = 1500, ENTRIES_MAX = 4000 };
	static bool acked[2][ENTRIES_MAX];
	static char id[ENTRIES_MAX][32];
	size_t written = 0, delivered[2] = { 0, 0 }, trimmed = 0;
	uint64_t random = 42;

	memset(acked, 0, sizeof(acked));
	redis_server_do(&shared, "XGROUP CREATE " STREAM " g0 0 MKSTREAM");
	redis_server_do(&shared, "XGROUP CREATE " STREAM " g1 0 MKSTREAM");
	for (int step = 0; step < STEPS; step++) {
		int what, side;

		random = random * 6364136223846793005u + 1442695040888963407u;
		what = (int)(random >> 33) % 8;
		side = (int)(random >> 50) % 2;
		if (what < 2 && written < ENTRIES_MAX) {
			/* Now and then by hand, which breaks the numbers. */
			const char *made =
				what == 0 && step % 5 == 0
					? redis_server_text(&shared, "XADD " STREAM " %d-* a b",
							    100000 + step)
					: NULL;

			if (made == NULL) {
				redisReply *reply = redis_server_command(
					&shared, "FCALL order_put_test 1 " STREAM " %d 1 s",
					100000 + step);

				snprintf(id[written], sizeof(id[0]), "%s", element(reply, 0)->str);
				freeReplyObject(reply);
			} else {
				snprintf(id[written], sizeof(id[0]), "%s", made);
			}
			written++;
		} else if (what < 4) {
			size_t count = RT_MIN((size_t)3, written - delivered[side]);

			read_as(side == 0 ? "g0" : "g1", "c", 3);
			delivered[side] += count;
		} else if (what < 7 && delivered[side] > 0) {
			size_t which = (size_t)(random >> 20) % RT_MIN(delivered[side], (size_t)40);

			which = delivered[side] - 1 - which;
			acked[side][which] = true;
			redis_server_do(&shared, "XACK " STREAM " g%d %s", side, id[which]);
			/* And all before it, often, so that there is something to cut off. */
			for (size_t i = 0; step % 3 == 0 && i < which; i++) {
				if (!acked[side][i])
					redis_server_do(&shared, "XACK " STREAM " g%d %s", side,
							id[i]);
				acked[side][i] = true;
			}
		} else {
			trimmed += (size_t)trim(100000 + step, step % 2 == 0 ? 0 : 50,
						(long long)(random >> 40) % 20, 1000000, NULL);
			for (size_t i = trimmed; i-- > 0;) {
				if (!acked[0][i] || !acked[1][i])
					CU_FAIL_FATAL("an entry was cut off too early");
			}
			CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN " STREAM),
					(long long)(written - trimmed));
		}
	}
	CU_ASSERT_TRUE(trimmed > 100); /* else this has shown nothing */
}

int main(void)
{
	static const struct test tests[] = {
		{ "events flow", flow },
		{ "a reader that flaps counts nothing", flapping_reader },
		{ "Redis is killed and comes back", killed_and_restarted },
		{ "ids carry a number", ids },
		{ "lag", lag },
		{ "the cursor", cursor },
		{ "idle consumers go", idle_consumers },
		{ "a burial, and its repetition", burial },
		{ "a monstrous burial", monstrous_burial },
		{ "what trimming keeps", retention },
		{ "libraries of two versions write in turns", two_versions },
		{ "who holds entries", holders },
		{ "stale groups", stale_groups },
		{ "trimming never goes past a group", trim_is_safe },
	};
	int rc;

	rt_log_init("test", RT_INFO, false);
	rt_log_sink(on_log, NULL);
	redis_server_start(&shared, NULL);
	rc = tests_run_each("stream_redis", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&shared);
	return rc;
}
