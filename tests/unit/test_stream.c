/* test_stream.c - the consumer and runtime/events/events.lua with a real redis-server, where it matters.
 * The rest is in test_events.c, with a Redis in memory. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "events/stream_internal.h"
#include "redis/redis.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"
#include "tandem/events/v1/events.pb-c.h"

#define STREAM      "order:{0}:events"
#define ASIDE       "inventory:{0}:aside:order"
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
	const char *fails; /* the subject whose events fail; NULL: none */
	struct rt_event *held;
};
static struct fixture {
	struct rt_loop *loop;
	struct rt_metrics *metrics;
	struct redis_server *server;
	struct side *sides[2];
	size_t wanted; /* events to be handled */
} f;

static struct redis_server shared;
static int warnings;

/* Publishes with the producer's own code. 'order_put_<version> 1 stream now_ms count subject': entries of one event.
 * 'order_put_together_<version> 1 stream now_ms { type name data attempt trace actor } …': all
 * in one entry. */
static const char put[] = "register('put', function(keys, args)\n"
			  " local stream = open_stream(keys[1])\n"
			  " local last\n"
			  " for i = 1, tonumber(args[2]) do\n"
			  "  local batch = begin_batch()\n"
			  "  batch.types[1], batch.names[1] = 'tandem.order.v1.OrderPlaced', "
			  "args[3] .. i .. '/' .. i\n"
			  "  add_details(batch, 1, 'data')\n"
			  "  last = stream:publish(args[1], 'time', batch, 1)\n"
			  " end\n"
			  " return { last or '', stream.length }\n"
			  "end, 'allow-oom')\n"
			  "register('put_together', function(keys, args)\n"
			  " local stream, batch, n = open_stream(keys[1]), begin_batch(), 0\n"
			  " for at = 2, #args, 6 do\n"
			  "  n = n + 1\n"
			  "  batch.types[n], batch.names[n] = args[at], args[at + 1]\n"
			  "  add_details(batch, n, unpack(args, at + 2, at + 5))\n"
			  " end\n"
			  " return stream:publish(args[1], 'then', batch, n)\n"
			  "end, 'allow-oom')\n";
/* The functions for the subscriptions of these tests. */
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
	snprintf(handled->id, sizeof(handled->id), "%s/%" PRIu64, event->subject, event->seq);
	handled->deliveries = event->deliveries;
	if (side->hold)
		side->held = event;
	else if (side->fails != NULL && strcmp(side->fails, event->subject) == 0)
		rt_event_retry(event, RT_REMOTE);
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
	struct rt_stream_options from = { .stream = STREAM,
					  .group = GROUP,
					  .consumer = consumer,
					  .functions = &inventory_functions };

	f.sides[i] = side;
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &redis, &side->commands) == RT_OK);
	from.commands = side->commands;
	CU_ASSERT_FATAL(rt_reads_new(f.loop, &redis, 0, GROUP, consumer, &from.reads) == RT_OK);
	options.name = STREAM;
	options.on_event = on_event;
	options.user_data = side;
	options.metrics = f.metrics;
	CU_ASSERT_FATAL(rt_events_new(f.loop, rt_stream_new(f.loop, &from), &options,
				      &side->events) == RT_OK);
	rt_reads_release(from.reads);
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

/* Three events of two types in an entry; the second and the third have content. */
static void publish_together(int64_t now_ms)
{
	redis_server_do(f.server,
			"FCALL order_put_together_test 1 " STREAM
			" %lld A a/1 %s %s %s %s B b/1 in-b 3 %s %s A c/1 %s "
			"%s %s %s",
			(long long)now_ms, "", "", "", "", "", "stock Zoë (token)", "in-c", "",
			"00-c rojo=1, congo=2", "");
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

/* Starts with these entries and a group that has read none. */
static void begin_with(int entries)
{
	redis_server_do(f.server, "FLUSHALL");
	publish(1000, entries, "s");
	make_group();
}

#define CURSOR "FCALL inventory_cursor_test 2 inventory:{0}:events " STREAM " " GROUP
#define DEAD_LETTER                                                                                \
	"FCALL inventory_dead_letter_test 2 inventory:{0}:events " STREAM " " GROUP " now %s "

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

/* How often the group delivered its one pending entry. */
static long long counted(void)
{
	redisReply *reply = redis_server_command(f.server, "XPENDING " STREAM " " GROUP " - + 10");
	long long count = reply->elements == 1 ? reply->element[0]->element[3]->integer : -1;

	freeReplyObject(reply);
	return count;
}

/* The reader loses its connection nine times or more while a handler works. */
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
	/* It stops without handling it; another one does. */
	rt_event_retry(RT_TAKE(slow->held), RT_LOST);
	rt_events_stop(slow->events, on_stopped, slow);
	run_until(all_stopped);
	next = add_side(1, "c2", quick_options());
	run_until_handled(2);
	expect_handled(next, 0, "a1/1", 2);
	CU_ASSERT_EQUAL(counter("dead"), 0);
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
	/* Warnings that it cannot be read, and that the last acknowledgement's answer was lost, if so;
	 * none that the group is gone. */
	CU_ASSERT_TRUE(warnings == 1 || warnings == 2);
	CU_ASSERT_EQUAL(counter("rebuilds"), 0);
	redis_server_done(&server);
}

static bool one_aside(void)
{
	return redis_server_int(f.server, "XLEN " ASIDE) == 1;
}

static bool none_aside(void)
{
	return redis_server_int(f.server, "XLEN " ASIDE) == 0;
}

/* One event of three fails and is set aside; its consumer stops, and another claims it. */
static void set_aside_and_claimed(void)
{
	struct rt_events_options options = quick_options();
	struct side *next;
	redisReply *reply;

	options.retry_min_ms = options.retry_max_ms = 60000;
	publish_together(1000);
	add_side(0, "c1", options)->fails = "b";
	run_until_handled(3);
	run_until(one_aside);
	CU_ASSERT_TRUE(nothing_pending());
	reply = redis_server_command(f.server, "XPENDING " ASIDE " " GROUP " - + 10");
	CU_ASSERT_EQUAL_FATAL(reply->elements, 1);
	CU_ASSERT_STRING_EQUAL(reply->element[0]->element[1]->str, "c1");
	CU_ASSERT_EQUAL(reply->element[0]->element[3]->integer, 2);
	freeReplyObject(reply);
	rt_events_stop(f.sides[0]->events, on_stopped, f.sides[0]);
	run_until(all_stopped);
	next = add_side(1, "c2", quick_options());
	run_until_handled(4);
	expect_handled(next, 0, "b/1", 3);
	run_until(none_aside);
	CU_ASSERT_EQUAL(redis_server_int(f.server, "EXISTS inventory:{0}:dead"), 0);
	free_side(0);
}

/* ---- events.lua ---- */

/* Libraries of two versions write in turn, as during an upgrade: each sees by the stream's length that the other
 * has written. If the stream was trimmed back to the length that one has cached, ids still ascend, but that one
 * reuses numbers. */
static void two_versions(void)
{
	static const char *const wanted[] = { "1000-1", "1000-2", "1001-3",
					      "1002-4", "1002-5", "1003-6" };
	redisReply *entries;

	redis_server_load_events(&shared, "order", "next", put);
	publish(1000, 2, "s");
	redis_server_do(&shared, "FCALL order_put_next 1 " STREAM " 1001 1 s");
	publish(1002, 2, "s");
	redis_server_do(&shared, "FCALL order_put_next 1 " STREAM " 1003 1 s");
	entries = redis_server_command(&shared, "XRANGE " STREAM " - +");
	CU_ASSERT_EQUAL_FATAL(entries->elements, 6);
	for (size_t i = 0; i < 6; i++)
		CU_ASSERT_STRING_EQUAL(entries->element[i]->element[0]->str, wanted[i]);
	freeReplyObject(entries);
	/* The other has cached five entries, up to 1002-5. */
	redis_server_do(&shared, "FCALL order_put_next 1 " STREAM " 1004 1 s");
	redis_server_do(&shared, "XTRIM " STREAM " MAXLEN 5");
	publish(1005, 1, "s");
	redis_server_do(&shared, "XTRIM " STREAM " MAXLEN 2");
	redis_server_do(&shared, "FCALL order_put_next 1 " STREAM " 1006 1 s");
	entries = redis_server_command(&shared, "XRANGE " STREAM " 1005 +");
	CU_ASSERT_EQUAL_FATAL(entries->elements, 2);
	CU_ASSERT_STRING_EQUAL(entries->element[0]->element[0]->str, "1005-6");
	CU_ASSERT_STRING_EQUAL(entries->element[1]->element[0]->str, "1006-7");
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

static void expect_slice(struct rt_slice slice, const char *wanted)
{
	bool same = slice.length == strlen(wanted);

	same = same && (slice.length == 0 || memcmp(slice.data, wanted, slice.length) == 0);
	TEST_ROW(same, wanted);
}

/* events.lua writes entries as tandem/events/v1/events.proto describes them and entry.c reads them. */
static void together(void)
{
	static const struct {
		const char *type, *subject, *data, *traceparent, *tracestate, *actor;
		uint32_t attempt;
	} wanted[] = { { "A", "a", "", "", "", "", 1 },
		       { "A", "c", "in-c", "00-c", "rojo=1, congo=2", "", 1 },
		       { "B", "b", "in-b", "", "", "stock Zoë (token)", 3 } };
	Tandem__Events__V1__EventBatch *batch;
	struct rt_entry_event *events;
	redisReply *reply, *fields;
	size_t count;

	publish_together(1000);
	reply = redis_server_command(&shared, "XRANGE " STREAM " - +");
	CU_ASSERT_STRING_EQUAL(element(element(reply, 0), 0)->str, "1000-3"); /* three events */
	fields = element(element(reply, 0), 1);
	EXPECT_FIELDS(fields, "A", "a/1 c/1", "B", "b/1", "time", "then");
	CU_ASSERT_EQUAL_FATAL(fields->elements, 8);
	CU_ASSERT_STRING_EQUAL(fields->element[6]->str, "batch");
	batch = tandem__events__v1__event_batch__unpack(NULL, fields->element[7]->len,
							(const uint8_t *)fields->element[7]->str);
	CU_ASSERT_PTR_NOT_NULL_FATAL(batch);
	CU_ASSERT_PTR_NULL_FATAL(rt_entry_read_reply(fields, &events, &count));
	CU_ASSERT_EQUAL_FATAL(count, 3);
	CU_ASSERT_EQUAL_FATAL(batch->n_data, 3);
	CU_ASSERT_EQUAL_FATAL(batch->n_attempt, 3);
	CU_ASSERT_EQUAL_FATAL(batch->n_traceparent, 3);
	CU_ASSERT_EQUAL_FATAL(batch->n_tracestate, 3);
	CU_ASSERT_EQUAL_FATAL(batch->n_actor, 3);
	CU_ASSERT_EQUAL(batch->base.n_unknown_fields, 0);
	for (size_t i = 0; i < count; i++) {
		expect_slice(events[i].type, wanted[i].type);
		expect_slice(events[i].subject, wanted[i].subject);
		expect_slice(events[i].data, wanted[i].data);
		expect_slice(
			(struct rt_slice){ (const char *)batch->data[i].data, batch->data[i].len },
			wanted[i].data);
		expect_slice(events[i].traceparent, wanted[i].traceparent);
		CU_ASSERT_STRING_EQUAL(batch->traceparent[i], wanted[i].traceparent);
		expect_slice(events[i].tracestate, wanted[i].tracestate);
		CU_ASSERT_STRING_EQUAL(batch->tracestate[i], wanted[i].tracestate);
		expect_slice(events[i].actor, wanted[i].actor);
		CU_ASSERT_STRING_EQUAL(batch->actor[i], wanted[i].actor);
		CU_ASSERT_EQUAL(events[i].attempt, wanted[i].attempt);
		CU_ASSERT_EQUAL(batch->attempt[i], wanted[i].attempt);
	}
	free(events);
	tandem__events__v1__event_batch__free_unpacked(batch, NULL);
	freeReplyObject(reply);
}

/* The events of a subject keep their order: a type gets a second field for that. */
static void twice_of_a_subject(void)
{
	redisReply *reply;
	struct rt_entry_event *events;
	size_t count;

	redis_server_do(&shared,
			"FCALL order_put_together_test 1 " STREAM
			" 1000 A a/1 1 %s %s actor-1 B b/1 2 %s %s actor-2 B a/2 3 %s %s actor-3 "
			"A b/2 4 %s %s actor-4 A c/1 5 %s %s actor-5",
			"", "", "", "", "", "", "", "", "", "");
	reply = redis_server_command(&shared, "XRANGE " STREAM " - +");
	CU_ASSERT_STRING_EQUAL(element(element(reply, 0), 0)->str, "1000-5");
	CU_ASSERT_PTR_NULL_FATAL(
		rt_entry_read_reply(element(element(reply, 0), 1), &events, &count));
	CU_ASSERT_EQUAL_FATAL(count, 5);
	for (size_t i = 0; i < count; i++) {
		static const char *const wanted[] = { "Aa1", "Bb2", "Ba3", "Ab4", "Ac5" };

		TEST_ROW(events[i].type.data[0] == wanted[i][0], wanted[i]);
		TEST_ROW(events[i].subject.data[0] == wanted[i][1], wanted[i]);
		expect_slice(events[i].data, wanted[i] + 2);
		CU_ASSERT_EQUAL_FATAL(events[i].actor.length, strlen("actor-1"));
		TEST_ROW(events[i].actor.data[strlen("actor-")] == wanted[i][2], wanted[i]);
	}
	free(events);
	freeReplyObject(reply);
}

#define SET_ASIDE "FCALL inventory_set_aside_test 2 inventory:{0}:events " STREAM " " GROUP " "

/* An event to retry and a dead letter, in the step that acknowledges; and a repeat of that step. */
static void set_aside(void)
{
	redisReply *reply;
	char aside[64];

	publish_together(1000);
	make_group();
	read_as(GROUP, "c", 1);
	for (int i = 0; i < 3; i++) {
		/* Another consumer's; its own; a repeat, as after a lost answer. */
		reply = redis_server_command(
			&shared,
			SET_ASIDE
			"%s 1000-3 now %s 5 A a 1 then 1 %s %s %s why 6 B b 1 then 3 %s %s in-b",
			i == 0 ? "other" : "c", "", "", "", "", "00-b rojo=1, congo=2",
			"stock Zoë (token)");
		if (i != 1) {
			CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_NIL);
		} else {
			snprintf(aside, sizeof(aside), "%s", element(reply, 0)->str);
			CU_ASSERT_STRING_EQUAL(element(reply, 1)->str, "");
		}
		freeReplyObject(reply);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN " ASIDE), i > 0);
		CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN inventory:{0}:dead"), i > 0);
		CU_ASSERT_EQUAL(nothing_pending(), i > 0);
	}
	reply = redis_server_command(&shared, "XRANGE " ASIDE " - +");
	CU_ASSERT_STRING_EQUAL(element(element(reply, 0), 0)->str, aside);
	EXPECT_FIELDS(element(element(reply, 0), 1), "id", "a/1", "type", "A", "subject", "a",
		      "seq", "1", "time", "then", "data", "", "stream", STREAM, "stream_id",
		      "1000-3");
	CU_ASSERT_EQUAL(element(element(reply, 0), 1)->elements,
			2 * 8); /* no attempt, no trace, no actor */
	freeReplyObject(reply);
	reply = redis_server_command(&shared, "XRANGE inventory:{0}:dead - +");
	EXPECT_FIELDS(element(element(reply, 0), 1), "id", "b/1", "type", "B", "subject", "b",
		      "data", "in-b", "attempt", "3", "traceparent", "00-b", "actor",
		      "stock Zoë (token)", "tracestate", "rojo=1, congo=2", "stream", STREAM,
		      "stream_id", "1000-3", "group", GROUP, "reason", "why", "deliveries", "6",
		      "dead_time", "now");
	freeReplyObject(reply);
	reply = redis_server_command(&shared, "XPENDING " ASIDE " " GROUP " - + 10 c");
	CU_ASSERT_EQUAL(element(element(reply, 0), 3)->integer, 5);
	freeReplyObject(reply);
	/* Acknowledging also deletes the entry. */
	redis_server_do(&shared,
			"FCALL inventory_acknowledge_test 2 inventory:{0}:events " STREAM " " GROUP
			" +%s",
			aside);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN " ASIDE), 0);
	reply = redis_server_command(&shared, "XPENDING " ASIDE " " GROUP);
	CU_ASSERT_EQUAL(element(reply, 0)->integer, 0);
	freeReplyObject(reply);
}

/* An entry that an operator has added, and that nothing has read yet, takes no event's place. */
static void set_aside_behind_another(void)
{
	redisReply *reply;

	redis_server_do(&shared, "XGROUP CREATE " ASIDE " " GROUP " 0 MKSTREAM");
	redis_server_do(&shared, "XADD " ASIDE " 1-1 a b");
	publish_together(1000);
	make_group();
	read_as(GROUP, "c", 1);
	reply = redis_server_command(&shared, SET_ASIDE "c 1000-3 now %s 5 A a 1 then 1 %s %s %s",
				     "", "", "", "");
	freeReplyObject(reply);
	reply = redis_server_command(&shared, "XPENDING " ASIDE " " GROUP " - + 10 c");
	CU_ASSERT_EQUAL_FATAL(reply->elements, 2);
	CU_ASSERT_EQUAL(element(element(reply, 1), 3)->integer, 5);
	freeReplyObject(reply);
}

/* A key of another type is found out before anything is written. */
static void set_aside_beside_a_wrong_key(void)
{
	redisReply *reply;

	redis_server_do(&shared, "SET inventory:{0}:dead x");
	publish_together(1000);
	make_group();
	read_as(GROUP, "c", 1);
	reply = redis_server_command(
		&shared,
		SET_ASIDE "c 1000-3 now %s 5 A a 1 then 1 %s %s %s why 6 B b 1 then 3 00-b %s in-b",
		"", "", "", "", "");
	CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN " ASIDE), 0);
	CU_ASSERT_FALSE(nothing_pending());
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
	redis_server_do(&shared, "XADD " STREAM " 3000-0 a b"); /* by hand: counting restarts */
	put_gives("2500", "3000-1", 3);
	/* By hand, with the same length: found when the next id is refused. */
	redis_server_do(&shared, "XADD " STREAM " 3000-9 a b");
	redis_server_do(&shared, "XDEL " STREAM " 3000-0");
	put_gives("2500", "3000-10", 4);
	redis_server_do(&shared, "XADD " STREAM " 3000-18446744073709551615 a b");
	put_gives("2500", "3001-1", 6);
	/* Too large for Lua's numbers. */
	redis_server_do(&shared, "XADD " STREAM " 18446744073709551000-7 a b");
	put_gives("2500", "18446744073709551000-8", 8);
	redis_server_do(&shared, "DEL " STREAM);
	redis_server_do(&shared, "SET " STREAM " text");
	reply = redis_server_command(&shared, "FCALL order_put_test 1 " STREAM " 1 1 s");
	CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	CU_ASSERT_PTR_NOT_NULL(strstr(reply->str, "WRONGTYPE"));
	freeReplyObject(reply);
}

#define PUT_TOGETHER "FCALL order_put_together_test 1 " STREAM
#define TOGETHER     PUT_TOGETHER " 2000 A a/1 x 1 t w B b/1 x 1 t w A c/1 x 1 t w"

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
		{ "an entry of three events", { TOGETHER }, 9 },
		{ "an entry of three, delivered",
		  { TOGETHER, "XREADGROUP GROUP " GROUP " c COUNT 7 STREAMS " STREAM " >" },
		  0 },
		{ "trimmed to an entry of three", { TOGETHER, "XTRIM " STREAM " MAXLEN 1" }, 3 },
		{ "an entry of three, and one deleted", { TOGETHER, "XDEL " STREAM " 1000-7" }, 8 },
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
	/* By the clock of Redis. */
	redis_server_do(&shared, "DEBUG SLEEP 0.03");
	redis_server_do(&shared, "XGROUP CREATECONSUMER " STREAM " " GROUP " young");
	redis_server_do(&shared, CURSOR " me 20");
	CU_ASSERT_TRUE(has_consumer("holder"));
	CU_ASSERT_TRUE(has_consumer("me"));
	CU_ASSERT_TRUE(has_consumer("young"));
	CU_ASSERT_FALSE(has_consumer("gone"));
}

static void dead_letters(void)
{
	char reason[] = "why not";
	redisReply *reply;

	begin_with(4);
	read_as(GROUP, "c", 3);
	redis_server_do(&shared, "XDEL " STREAM " 1000-3");
	/* Pending; not delivered yet; deleted from the stream. */
	CU_ASSERT_EQUAL(redis_server_int(&shared, DEAD_LETTER "1000-1 1000-4 1000-3", reason), 2);
	/* A repeat, as after a lost answer. */
	CU_ASSERT_EQUAL(redis_server_int(&shared, DEAD_LETTER "1000-1 1000-4 1000-3", reason), 0);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "XLEN inventory:{0}:dead"), 2);
	reply = redis_server_command(&shared, "XPENDING " STREAM " " GROUP);
	CU_ASSERT_EQUAL(element(reply, 0)->integer, 1); /* 1000-2 */
	freeReplyObject(reply);
	reply = redis_server_command(&shared, "XREVRANGE inventory:{0}:dead + - COUNT 1");
	EXPECT_FIELDS(element(element(reply, 0), 1), "stream_id", "1000-3", "reason", reason,
		      "type", "");
	freeReplyObject(reply);
}

/* An entry with more fields than Lua's stack holds still moves to the dead letters. */
static void huge_dead_letter(void)
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
	CU_ASSERT_EQUAL(redis_server_int(&shared, DEAD_LETTER "1-1", "why"), 1);
}

/* ---- trimming ---- */

static long long trim(long long now_ms, long long retain_ms, long long retain_count,
		      long long stale_ms, long long *ret_length, long long *ret_stale)
{
	redisReply *reply = redis_server_command(
		&shared, "FCALL order_trim_test 1 " STREAM " %lld %lld %lld %lld", now_ms,
		retain_ms, retain_count, stale_ms);
	long long trimmed = element(reply, 0)->integer;

	if (ret_length != NULL)
		*ret_length = element(reply, 1)->integer;
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
		long long length;

		/* An empty stream would continue its numbers: delete it. */
		publish(1000, 1, "s");
		redis_server_do(&shared, "FLUSHALL");
		for (int n = 0; n < 10; n++)
			publish(1000 + 10 * n, 1, "s");
		make_group();
		read_as(GROUP, "c", 10);
		for (int n = 0; n < rows[i].acked; n++)
			redis_server_do(&shared, "XACK " STREAM " " GROUP " %d-%d", 1000 + 10 * n,
					n + 1);
		trim(rows[i].now_ms, rows[i].retain_ms, rows[i].retain_count, 100000, &length,
		     NULL);
		TEST_ROW(redis_server_int(&shared, "XLEN " STREAM) == rows[i].left, rows[i].why);
		TEST_ROW(length == rows[i].left, rows[i].why);
	}
}

/* Which group keeps entries from being trimmed, and how many. */
static void holders(void)
{
	static const struct {
		const char *slow_acks;
		const char *holder;
		long long held;
	} rows[] = {
		{ "", "slow", 10 },
		{ " 1000-1 1000-2", "slow", 8 },
		/* Entries read and not acknowledged count, and all after them. */
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

/* A group that may be left behind holds back the newest events only, and the others as ever. */
static void followers(void)
{
	static const struct {
		const char *why;
		int delivered,
			slow; /* entries of ten that the follower and another group have read */
		long long max, left;
	} rows[] = {
		{ "it has read nothing", 0, 10, 4, 4 },
		{ "it is no further behind than that", 7, 10, 4, 3 },
		{ "it may be as far behind as the stream is long", 0, 10, 10, 10 },
		{ "it may be further behind", 0, 10, 1000, 10 },
		{ "another is slower, and loses nothing", 0, 3, 4, 7 },
		{ "both have read all", 10, 10, 4, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redisReply *reply;

		redis_server_do(&shared, "FLUSHALL");
		for (int n = 0; n < 10; n++)
			publish(1000 + 10 * n, 1, "s");
		/* Neither has anything pending: they stand where they have read to. */
		redis_server_do(&shared, "XGROUP CREATE " STREAM " follower %d-%d",
				1000 + 10 * (rows[i].delivered - 1), rows[i].delivered);
		redis_server_do(&shared, "XGROUP CREATE " STREAM " " GROUP " %d-%d",
				1000 + 10 * (rows[i].slow - 1), rows[i].slow);
		reply = redis_server_command(&shared,
					     "FCALL order_trim_test 1 " STREAM
					     " 100000 0 0 100000 follower %lld",
					     rows[i].max);
		TEST_ROW(redis_server_int(&shared, "XLEN " STREAM) == rows[i].left, rows[i].why);
		TEST_ROW(element(reply, 1)->integer == rows[i].left, rows[i].why);
		freeReplyObject(reply);
	}
}

/* The answer gives the length in events, and the number to keep is in events. */
static void trimming_entries(void)
{
	static const struct {
		const char *why;
		int acked; /* of five entries of three events, written at 1000, 1010, … */
		long long retain_count, left, length;
	} rows[] = {
		{ "nothing is acknowledged", 0, 0, 5, 15 },
		{ "two are", 2, 0, 3, 9 },
		{ "all, and six events are kept", 5, 6, 2, 6 },
		{ "all, and seven are: an entry is not cut", 5, 7, 3, 9 },
		{ "all", 5, 0, 0, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redisReply *reply;

		redis_server_do(&shared, "FLUSHALL");
		for (int n = 0; n < 5; n++)
			publish_together(1000 + 10 * n);
		make_group();
		read_as(GROUP, "c", 5);
		for (int n = 0; n < rows[i].acked; n++)
			redis_server_do(&shared, "XACK " STREAM " " GROUP " %d-%d", 1000 + 10 * n,
					3 * n + 3);
		reply = redis_server_command(
			&shared, "FCALL order_trim_test 1 " STREAM " 1100 1000000 %lld 100000",
			rows[i].retain_count);
		TEST_ROW(redis_server_int(&shared, "XLEN " STREAM) == rows[i].left, rows[i].why);
		TEST_ROW(element(reply, 0)->integer == 5 - rows[i].left, rows[i].why);
		TEST_ROW(element(reply, 1)->integer == rows[i].length, rows[i].why);
		TEST_ROW(element(reply, 3)->integer == 15 - 3 * rows[i].acked, rows[i].why);
		freeReplyObject(reply);
	}
}

static void stale_groups(void)
{
	long long count;

	publish(1000, 10, "s");
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 1000, NULL, &count), 0); /* no group has read anything */
	CU_ASSERT_EQUAL(count, 0);
	make_group();
	redis_server_do(&shared, "XGROUP CREATE " STREAM " stale 0");
	read_as(GROUP, "c", 10);
	redis_server_do(&shared, "XACK " STREAM " " GROUP " 1000-1 1000-2 1000-3 1000-4");
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 100000, NULL, &count),
			0); /* a stale group holds trimming back, too */
	CU_ASSERT_EQUAL(count, 1);
	/* Excluding a live group changes nothing. */
	redis_server_do(&shared, "SADD order:{0}:excluded_groups " GROUP);
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 100000, NULL, &count), 0);
	redis_server_do(&shared, "SADD order:{0}:excluded_groups stale");
	CU_ASSERT_EQUAL(trim(100000, 0, 0, 100000, NULL, &count), 4);
	CU_ASSERT_EQUAL(count, 1);
	/* A consumer that finds nothing to read is alive as long as it tends. */
	redis_server_do(&shared, "DEBUG SLEEP 0.05");
	redis_server_do(&shared, CURSOR " c 100000");
	trim(100000, 0, 0, 40, NULL, &count);
	CU_ASSERT_EQUAL(count, 1);
	redis_server_do(&shared, "DEBUG SLEEP 0.05");
	trim(100000, 0, 0, 40, NULL, &count);
	CU_ASSERT_EQUAL(count, 2);
}

/* Whatever two groups do, an entry that one of them has not acknowledged is never trimmed. */
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
			/* Sometimes by hand, which breaks the numbers. */
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
			/* Often all before it, too, so that there is something to trim. */
			for (size_t i = 0; step % 3 == 0 && i < which; i++) {
				if (!acked[side][i])
					redis_server_do(&shared, "XACK " STREAM " g%d %s", side,
							id[i]);
				acked[side][i] = true;
			}
		} else {
			trimmed +=
				(size_t)trim(100000 + step, step % 2 == 0 ? 0 : 50,
					     (long long)(random >> 40) % 20, 1000000, NULL, NULL);
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

/* ---- claims ---- */

struct claiming {
	struct rt_stream_op op;
	struct rt_redis *commands;
	size_t pending; /* on the connection, when it ended */
	int ends, status;
};
static struct claiming claiming;

static void claim_ended(struct rt_stream_op *op, int status)
{
	struct claiming *ended = RT_CONTAINER_OF(op, struct claiming, op);

	ended->ends++;
	ended->status = status;
	ended->pending = rt_redis_pending(ended->commands);
}

static bool commands_are_up(void)
{
	return rt_redis_up(claiming.commands);
}

static bool claim_has_ended(void)
{
	return claiming.ends > 0;
}

/* The second of a claim's two commands cannot be sent, and ends before the first is answered: only then may the stream
 * be freed. */
static void a_claim_ends_with_its_last_command(void)
{
	const struct rt_redis_options redis = { .unix_path = f.server->socket, .pending_max = 1 };
	struct rt_stream_options options = { .stream = STREAM,
					     .group = GROUP,
					     .consumer = "c1",
					     .functions = &inventory_functions };
	struct rt_stream *stream;

	claiming = (struct claiming){
		.op = { .cursor = "0-0", .count_max = 10, .idle_ms = 1000, .done = claim_ended }
	};
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &redis, &claiming.commands) == RT_OK);
	options.commands = claiming.commands;
	CU_ASSERT_FATAL(rt_reads_new(f.loop, &redis, 0, GROUP, "c1", &options.reads) == RT_OK);
	stream = rt_stream_new(f.loop, &options);
	rt_reads_release(options.reads);
	run_until_so(f.loop, commands_are_up);
	rt_stream_claim(stream, &claiming.op);
	run_until_so(f.loop, claim_has_ended);
	CU_ASSERT_EQUAL(claiming.ends, 1);
	CU_ASSERT_EQUAL(claiming.status, RT_BUSY);
	CU_ASSERT_EQUAL(claiming.pending, 0);
	rt_stream_free(stream);
	rt_redis_free(claiming.commands);
}

int main(void)
{
	static const struct test tests[] = {
		{ "events are handled", flow },
		{ "a reader that reconnects does not count deliveries", flapping_reader },
		{ "Redis is killed and comes back", killed_and_restarted },
		{ "an event is set aside, and claimed", set_aside_and_claimed },
		{ "events of an entry", together },
		{ "a subject that has several events in an entry", twice_of_a_subject },
		{ "setting aside, and a repeat", set_aside },
		{ "setting aside behind another entry", set_aside_behind_another },
		{ "setting aside beside a key of another type", set_aside_beside_a_wrong_key },
		{ "ids carry a number", ids },
		{ "lag", lag },
		{ "the cursor", cursor },
		{ "idle consumers are removed", idle_consumers },
		{ "dead letters, and a repeat", dead_letters },
		{ "a huge dead letter", huge_dead_letter },
		{ "what trimming keeps", retention },
		{ "libraries of two versions write in turn", two_versions },
		{ "a claim ends with the last of its commands",
		  a_claim_ends_with_its_last_command },
		{ "a follower holds back the newest", followers },
		{ "trimming counts events", trimming_entries },
		{ "which group holds entries", holders },
		{ "stale groups", stale_groups },
		{ "trimming never goes past a group", trim_is_safe },
	};
	int rc;

	rt_log_init("test", RT_INFO, false);
	rt_log_sink(on_log, NULL);
	redis_server_start(&shared, NULL);
	rc = tests_run_each("stream", setup, teardown, tests, RT_LENGTH(tests));
	redis_server_done(&shared);
	return rc;
}
