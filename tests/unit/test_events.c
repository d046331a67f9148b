/* test_events.c - the consumer on a stream in memory and a manual clock.
 *
 * A test says what its handler does with each event of a subject (a letter for each time), plays
 * time, and compares what was handed over. Most publish each event as an entry of its own, with a field for
 * each part (publish_all); tests of entries with several events use publish_entry. */
#include "base/base.h"
#include "events/stream_internal.h"
#include "run.h"
#include "sim/stored.h"
#include "tandem/events/v1/events.pb-c.h"

#include <inttypes.h>
#include <string.h>

#define STREAM      STORED_ORDERS
#define ASIDE       "inventory:{0}:aside:order"
#define DEAD        "inventory:{0}:dead"
#define PLACED      "tandem.order.v1.OrderPlaced"
#define TRACE       "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define STATE       "rojo=1, congo=2"
#define GROUP       "inventory"
#define START_MS    1000000
#define HELD_MAX    64
#define SOURCES_MAX 32

#define ACK_GATHER_MS 20 /* events.c */

/* What the handler does: d done, i ignore, p poison, h hold (the test finishes it), r retry for the
 * event's own fault, l retry because the connection was lost. The last one goes on for ever. */
struct plan {
	const char *subject, *letters;
};
struct side {
	struct rt_events *events;
	char name; /* in the transcript */
	bool stopped;
};
static struct fixture {
	struct rt_loop *loop;
	struct memory_redis *redis;
	/* Of each source the connections, and that for its commands. */
	struct memory_host hosts[SOURCES_MAX];
	struct rt_redis *commands[SOURCES_MAX];
	size_t source_count;
	struct rt_metrics *metrics;
	struct side sides[2];
	struct plan plans[8];
	void (*look)(const struct rt_event *event); /* at each before it is settled; may be NULL */
	size_t plan_count;
	char said[4096]; /* "a/1 b/1x2 | ": handed over, deliveries when not 1, ends of batches */
	size_t said_length;
	int64_t said_ms[64];
	size_t said_count;
	bool quiet_batches;
	struct rt_event *held[HELD_MAX];
	size_t held_count;
	int fault_at, asked, fault_status; /* the fault_at-th operation gets fault_status */
	const char *fault_step;            /* only these; NULL: all */
	int fault_from;                    /* all from here on; 0: none */
	const char *delay_step;            /* takes so long; NULL: none does */
	int64_t delay_ms;
	int operations, reads, acks, set_asides; /* commands */
} f;

static int warnings;
static char last_warning[512];

static void on_log(const char *line, void *user)
{
	(void)user;
	if (strstr(line, " warn ") != NULL) {
		warnings++;
		snprintf(last_warning, sizeof(last_warning), "%s", line);
	}
}

/* The operation of the source that sends a command. */
static const char *step_of(const struct memory_io *io)
{
	static const char *const names[][2] = {
		{ "xreadgroup", "read" },
		{ "inventory_pending", "pending" },
		{ "xautoclaim", "claim" },
		{ "xack", "ack" },
		{ "inventory_dead_letter", "dead_letter" },
		{ "xgroup", "ensure" },
		{ "inventory_cursor", "maintain" },
		{ "inventory_set_aside", "set_aside" },
		{ "inventory_acknowledge", "ack" },
	};

	for (size_t i = 0; i < RT_LENGTH(names); i++)
		if (strcmp(io->what, names[i][0]) == 0)
			return names[i][1];
	for (size_t i = 0; i < io->argc && strcmp(io->what, "xclaim") == 0; i++)
		if (strcmp(io->argv[i].data, "RETRYCOUNT") == 0)
			return "recount";
	return io->what;
}

static int on_fault(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	char step[32];

	(void)user;
	snprintf(step, sizeof(step), "%s %s", io->after ? "after" : "before", step_of(io));
	if (f.delay_step != NULL && strcmp(f.delay_step, step) == 0)
		*delay_ms = f.delay_ms;
	f.operations += !io->after;
	f.reads += strcmp(step, "before read") == 0;
	f.acks += strcmp(step, "before ack") == 0;
	f.set_asides += strcmp(step, "before set_aside") == 0;
	if (f.fault_step != NULL && strcmp(f.fault_step, step) != 0)
		return RT_OK;
	f.asked++;
	if (f.asked == f.fault_at || (f.fault_from > 0 && f.asked >= f.fault_from))
		return f.fault_status;
	return RT_OK;
}

static struct memory_stream *stream_of(void)
{
	return memory_stream_find(f.redis, STREAM);
}

/* Pending entries of one stream. */
static size_t pending_of(const char *name)
{
	const struct memory_stream *stream = memory_stream_find(f.redis, name);
	const struct memory_group *group = stream == NULL ? NULL : memory_group_find(stream, GROUP);

	return group != NULL ? group->pending_count : 0;
}

/* All entries that are not finished. */
static size_t pending_count(void)
{
	return pending_of(STREAM) + pending_of(ASIDE);
}

/* Events that were set aside and are not finished. */
static size_t aside_count(void)
{
	const struct memory_stream *aside = memory_stream_find(f.redis, ASIDE);

	return aside == NULL ? 0 : aside->count;
}

static size_t consumer_count(void)
{
	return memory_group_find(stream_of(), GROUP)->consumer_count;
}

static size_t dead_count(void)
{
	const struct memory_stream *dead = memory_stream_find(f.redis, DEAD);

	return dead == NULL ? 0 : dead->count;
}

static void destroy_group(void)
{
	memory_do(f.redis, "XGROUP", "DESTROY", STREAM, GROUP, NULL);
}

/* XADD with fields that no service writes. `lengths` NULL: C strings. */
static void add_raw(size_t count, const char *const *fields, const size_t *lengths)
{
	struct memory_text texts[32];

	CU_ASSERT_FATAL(count <= RT_LENGTH(texts));
	for (size_t i = 0; i < count; i++)
		texts[i] = (struct memory_text){ (char *)(uintptr_t)fields[i],
						 lengths != NULL ? lengths[i] : strlen(fields[i]) };
	stored_append(f.redis, STREAM, START_MS, texts, count);
}

static void say(const char *text)
{
	int length = snprintf(f.said + f.said_length, sizeof(f.said) - f.said_length, "%s ", text);

	CU_ASSERT_FATAL(f.said_length + (size_t)length < sizeof(f.said));
	f.said_length += (size_t)length;
}

static void plan(const char *subject, const char *letters)
{
	f.plans[f.plan_count++] = (struct plan){ subject, letters };
}

/* Acknowledges an entry, as a command that stores an effect does. */
static void acknowledge(const char *ack_id)
{
	char name[64];

	snprintf(name, sizeof(name), "inventory_acknowledge_%s", inventory_functions.version);
	memory_do(f.redis, "FCALL", name, "2", "inventory:{0}:events", STREAM, GROUP, ack_id, NULL);
}

static void finish_as(struct rt_event *event, char letter)
{
	const char *ack_id;

	switch (letter) {
	case 'd':
		ack_id = rt_event_ack(event, event);
		if (ack_id != NULL)
			acknowledge(ack_id);
		rt_event_done(event);
		break;
	case 'i':
		rt_event_ignore(event);
		break;
	case 'p':
		rt_event_poison(event, "does not parse");
		break;
	case 'r':
		rt_event_retry(event, RT_REMOTE);
		break;
	case 'l':
		rt_event_retry(event, RT_LOST);
		break;
	default:
		CU_ASSERT_FATAL(f.held_count < HELD_MAX);
		f.held[f.held_count++] = event;
	}
}

static void on_event(struct rt_event *event, void *user)
{
	struct side *side = user;
	char text[128], who[4] = { side->name, ':', '\0' };
	const char **letters = NULL;
	char letter = 'd';

	for (size_t i = 0; i < RT_LENGTH(f.plans) && f.plans[i].subject != NULL; i++) {
		if (strcmp(f.plans[i].subject, event->subject) == 0)
			letters = &f.plans[i].letters;
	}
	if (letters != NULL && (*letters)[0] != '\0') {
		letter = (*letters)[0];
		if ((*letters)[1] != '\0')
			(*letters)++;
	}
	snprintf(text, sizeof(text), "%s%s/%" PRIu64, f.sides[1].events != NULL ? who : "",
		 event->subject, event->seq);
	if (event->deliveries != 1)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "x%u",
			 (unsigned int)event->deliveries);
	if (f.said_count < RT_LENGTH(f.said_ms))
		f.said_ms[f.said_count++] = rt_loop_now(f.loop);
	say(text);
	if (f.look != NULL)
		f.look(event);
	finish_as(event, letter);
}

static void on_batch_end(void *user)
{
	(void)user;
	if (!f.quiet_batches)
		say("|");
}

static void on_stopped(void *user)
{
	struct side *side = user;

	CU_ASSERT_FALSE(side->stopped);
	side->stopped = true;
}

static void stop_side(size_t i)
{
	struct side *side = &f.sides[i];

	if (side->events == NULL)
		return;
	if (!side->stopped) {
		rt_events_stop(side->events, on_stopped, side);
		CU_ASSERT_FALSE(side->stopped);
		rt_loop_run_due(f.loop);
	}
	CU_ASSERT_TRUE_FATAL(side->stopped);
	rt_events_free(RT_TAKE(side->events));
}

static void teardown(void)
{
	f.fault_at = f.fault_from = 0;
	while (f.held_count > 0)
		finish_as(f.held[--f.held_count], 'd');
	stop_side(0);
	stop_side(1);
	rt_loop_run_due(f.loop);
	while (f.source_count > 0)
		rt_redis_free(f.commands[--f.source_count]);
	memory_redis_free(f.redis);
	rt_metrics_free(f.metrics);
	rt_loop_free(RT_TAKE(f.loop));
}

/* Also replaces the current fixture. */
static void setup(void)
{
	if (f.loop != NULL)
		teardown();
	f = (struct fixture){ .quiet_batches = true, .fault_status = RT_LOST };
	warnings = 0;
	last_warning[0] = '\0';
	CU_ASSERT_FATAL(rt_loop_new_manual(START_MS, 7, &f.loop) == RT_OK);
	f.redis = memory_redis_new(f.loop);
	stored_load(f.redis);
	f.metrics = rt_metrics_new();
}

static struct rt_events_options default_options(void)
{
	return (struct rt_events_options){ RT_EVENTS_DEFAULTS };
}

static struct rt_stream *source_new(const char *consumer, memory_fault_hook *fault)
{
	size_t i = f.source_count++;
	struct rt_stream *source;

	CU_ASSERT_FATAL(i < SOURCES_MAX);
	memory_host_init(&f.hosts[i], f.redis, consumer, fault, NULL);
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &f.hosts[i].options, &f.commands[i]) == RT_OK);
	source = stored_source(&f.hosts[i], f.commands[i], &inventory_functions, STREAM, consumer);
	rt_loop_run_due(f.loop); /* it is connected */
	return source;
}

static void add_side(size_t i, const char *consumer, struct rt_events_options options)
{
	struct side *side = &f.sides[i];
	struct rt_stream *source = source_new(consumer, on_fault);

	side->name = (char)('A' + i);
	options.name = STREAM;
	options.on_event = on_event;
	options.on_batch_end = on_batch_end;
	options.user_data = side;
	options.metrics = f.metrics;
	CU_ASSERT_FATAL(rt_events_new(f.loop, source, &options, &side->events) == RT_OK);
}

static void start_with(struct rt_events_options options)
{
	add_side(0, "c1", options);
	rt_events_start(f.sides[0].events);
	rt_loop_run_due(f.loop);
}

static void start(void)
{
	start_with(default_options());
}

static void publish(const char *subject, uint64_t seq)
{
	stored_publish(f.redis, STREAM, rt_loop_unix_ms(f.loop),
		       &(struct stored_event){ .type = PLACED,
					       .subject = subject,
					       .seq = seq,
					       .data = "data",
					       .data_length = 4 });
}

/* Publishes "a/1 b/1", subjects and their seqs, and runs what is due. */
static void publish_all(const char *ids)
{
	char subject[16];
	unsigned int seq;
	int length;

	while (sscanf(ids, " %15[^/]/%u%n", subject, &seq, &length) == 2) {
		publish(subject, seq);
		ids += length;
	}
	rt_loop_run_due(f.loop);
}

/* Publishes "a/1 b/1" as one entry, each event with its name as data, and runs what is due at once. */
static void publish_entry(const char *names)
{
	Tandem__Events__V1__EventBatch batch = TANDEM__EVENTS__V1__EVENT_BATCH__INIT;
	struct memory_text fields[6] = { { .data = (char *)(uintptr_t)PLACED },
					 { .data = (char *)(uintptr_t)names },
					 { .data = (char *)(uintptr_t) "time" },
					 { .data = (char *)(uintptr_t) "then" },
					 { .data = (char *)(uintptr_t) "batch" } };
	ProtobufCBinaryData data[16];
	char *traceparents[RT_LENGTH(data)], *tracestates[RT_LENGTH(data)],
		*actors[RT_LENGTH(data)];
	uint32_t attempts[RT_LENGTH(data)];
	uint8_t packed[1024];

	batch.data = data;
	batch.traceparent = traceparents;
	batch.tracestate = tracestates;
	batch.actor = actors;
	batch.attempt = attempts;
	for (const char *at = names; *at != '\0'; batch.n_data++) {
		size_t length = strcspn(at, " ");

		CU_ASSERT_FATAL(batch.n_data < RT_LENGTH(data));
		data[batch.n_data] = (ProtobufCBinaryData){ length, (uint8_t *)(uintptr_t)at };
		traceparents[batch.n_data] = (char *)(uintptr_t)TRACE;
		tracestates[batch.n_data] = (char *)(uintptr_t)STATE;
		actors[batch.n_data] = (char *)(uintptr_t) "operator olga";
		attempts[batch.n_data] = 3;
		at += length + (at[length] == ' ');
	}
	batch.n_traceparent = batch.n_tracestate = batch.n_data;
	batch.n_attempt = batch.n_actor = batch.n_data;
	CU_ASSERT_FATAL(tandem__events__v1__event_batch__get_packed_size(&batch) <= sizeof(packed));
	for (size_t i = 0; i < 5; i++)
		fields[i].length = strlen(fields[i].data);
	fields[5] = (struct memory_text){ (char *)packed,
					  tandem__events__v1__event_batch__pack(&batch, packed) };
	stored_append(f.redis, STREAM, rt_loop_unix_ms(f.loop), fields, RT_LENGTH(fields));
	rt_loop_run_due(f.loop);
}

static void forget_said(void)
{
	f.said_length = 0;
	f.said[0] = '\0';
}

static void expect(const char *said)
{
	size_t length = strlen(said);
	bool same = f.said_length == length + (length > 0) && strncmp(f.said, said, length) == 0;

	if (!same)
		printf("\n    said '%s', not '%s'", f.said, said);
	CU_ASSERT(same);
	forget_said();
}

static double metric(enum rt_metric_type type, const char *name)
{
	struct rt_metric *family =
		rt_metric(f.metrics, type, name, "", (const char *[]){ "stream", NULL });

	return rt_series_value(rt_metric_series(family, (const char *[]){ STREAM }));
}

static double counter(const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "tandem_events_%s_total", name);
	return metric(RT_COUNTER, full);
}

struct raw {
	struct rt_stream_op op;
	int status, calls;
};

static void raw_done(struct rt_stream_op *op, int status)
{
	struct raw *raw = RT_CONTAINER_OF(op, struct raw, op);

	raw->status = status;
	raw->calls++;
}

/* A consumer that reads and then dies. */
static void deliver_to(const char *consumer, int count)
{
	struct raw raw = { .op = { .count_max = count, .done = raw_done } };
	struct rt_stream *source = source_new(consumer, NULL);

	rt_stream_ensure(source, &raw.op);
	rt_loop_run_due(f.loop);
	rt_stream_read(source, &raw.op, 0);
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL_FATAL(raw.calls, 2);
	CU_ASSERT_EQUAL_FATAL(raw.status, RT_OK);
	rt_stream_free(source);
}

/* A consumer that shows once that it is alive. */
static void maintain_as(const char *consumer)
{
	struct raw raw = { .op = { .idle_ms = 3600000, .done = raw_done } };
	struct rt_stream *source = source_new(consumer, NULL);
	struct rt_stream_info info;

	rt_stream_maintain(source, &raw.op, &info);
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL_FATAL(raw.status, RT_OK);
	rt_stream_free(source);
}

/* Starts with these in the stream. */
static void start_on(const char *ids)
{
	publish_all(ids);
	start();
}

/* ---- the good path ---- */

static void in_order(void)
{
	f.quiet_batches = false;
	start_on("a/1 b/1 a/2");
	expect("a/1 b/1 a/2 |");
	CU_ASSERT_TRUE(rt_events_ready(f.sides[0].events));
	publish_all("c/1");
	expect("c/1 |");
	CU_ASSERT_EQUAL(pending_count(), 0);
	/* An empty read is repeated, and not more often than that. */
	f.operations = f.reads = 0;
	rt_loop_advance(f.loop, 50000);
	CU_ASSERT_TRUE(f.reads >= 10 && f.reads < 20);
	CU_ASSERT_TRUE(f.operations < 1000); /* claims, of both streams, are not rare */
	publish_all("d/1");
	expect("d/1 |");
	CU_ASSERT_EQUAL(counter("received"), 5);
	CU_ASSERT_EQUAL(counter("done"), 5);
	CU_ASSERT_EQUAL(counter("redelivered"), 0);
	CU_ASSERT_EQUAL(warnings, 0);
}

static void see(const struct rt_event *event)
{
	CU_ASSERT_STRING_EQUAL(event->type, "tandem.order.v1.OrderPlaced");
	CU_ASSERT_STRING_EQUAL(event->subject, "ord_x");
	CU_ASSERT_EQUAL(event->seq, 7);
	CU_ASSERT_EQUAL(event->attempt, 3);
	CU_ASSERT_EQUAL(event->deliveries, 1);
	CU_ASSERT_STRING_EQUAL(event->traceparent, TRACE);
	CU_ASSERT_STRING_EQUAL(event->tracestate, STATE);
	CU_ASSERT_STRING_EQUAL(event->actor, "");
	CU_ASSERT_STRING_EQUAL(event->time, "1970-01-01T00:16:40.000Z");
	CU_ASSERT_EQUAL_FATAL(event->data_length, 5);
	CU_ASSERT_EQUAL(memcmp(event->data, "a\0b\0c", 5), 0);
	CU_ASSERT_PTR_NULL(event->user);
}

static void envelope(void)
{
	stored_publish(f.redis, STREAM, START_MS,
		       &(struct stored_event){ .type = "tandem.order.v1.OrderPlaced",
					       .subject = "ord_x",
					       .seq = 7,
					       .data = "a\0b\0c",
					       .data_length = 5,
					       .attempt = 3,
					       .traceparent = TRACE,
					       .tracestate = STATE });
	f.look = see;
	start();
	expect("ord_x/7");
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void see_no_state(const struct rt_event *event)
{
	CU_ASSERT_STRING_EQUAL(event->tracestate, "");
}

/* A tracestate is taken if it and its traceparent are valid: whatever is taken is handed on. */
static void tracestates_that_are_not_valid(void)
{
	static const char *const rows[][2] = { { TRACE, "not one" },
					       { "00-trace", STATE },
					       { TRACE, "" } };

	f.look = see_no_state;
	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		stored_publish(f.redis, STREAM, START_MS,
			       &(struct stored_event){ .type = PLACED,
						       .subject = "a",
						       .seq = i + 1,
						       .traceparent = rows[i][0],
						       .tracestate = rows[i][1] });
	start();
	expect("a/1 a/2 a/3");
}

static void ignored(void)
{
	plan("a", "i");
	start_on("a/1 a/2 b/1");
	expect("a/1 a/2 b/1");
	rt_loop_advance(f.loop, ACK_GATHER_MS);
	CU_ASSERT_EQUAL(pending_count(), 0);
	CU_ASSERT_EQUAL(counter("ignored"), 2);
}

/* Acknowledgements of their own gather for a moment; not when many events wait, and not at the end. */
static void acknowledgements_gather(void)
{
	struct rt_events_options options = default_options();
	const size_t many = 16;

	options.in_flight_max = (int)many * 8;
	plan("a", "i");
	start_with(options);
	publish_all("a/1");
	rt_loop_advance(f.loop, ACK_GATHER_MS / 2);
	publish_all("a/2");
	rt_loop_advance(f.loop, ACK_GATHER_MS / 2 - 1);
	expect("a/1 a/2");
	CU_ASSERT_EQUAL(f.acks, 0);
	CU_ASSERT_EQUAL(pending_count(), 2);
	rt_loop_advance(f.loop, 1);
	CU_ASSERT_EQUAL(f.acks, 1);
	CU_ASSERT_EQUAL(pending_count(), 0);
	rt_loop_advance(f.loop,
			ACK_GATHER_MS); /* the next ones wait again, and nothing else does */
	CU_ASSERT_EQUAL(f.acks, 1);
	for (size_t i = 1; i < many; i++)
		publish_all("a/3");
	CU_ASSERT_EQUAL(pending_count(), many - 1);
	publish_all("a/3");
	CU_ASSERT_EQUAL(f.acks, 2);
	CU_ASSERT_EQUAL(pending_count(), 0);
	publish_all("a/4");
	CU_ASSERT_EQUAL(pending_count(), 1);
	stop_side(0);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void own_pending_first(void)
{
	struct rt_events_options options = default_options();

	publish_all("a/1 b/1 c/1 d/1 e/1");
	deliver_to("c1", 3);
	options.read_count_max = 2; /* so that its pages are seen, too */
	start_with(options);
	expect("a/1 b/1 c/1 d/1 e/1"); /* the same consumer: no delivery failed */
	CU_ASSERT_EQUAL(pending_count(), 0);
	CU_ASSERT_EQUAL(counter("redelivered"), 3);
}

/* ---- bounds ---- */

static void bounded_in_flight(void)
{
	struct rt_events_options options = default_options();

	options.in_flight_max = 2;
	for (int i = 0; i < 5; i++)
		plan((const char *[]){ "a", "b", "c", "d", "e" }[i], "h");
	publish_all("a/1 b/1 c/1 d/1 e/1");
	start_with(options);
	rt_loop_advance(f.loop, 20000);
	expect("a/1 b/1");
	CU_ASSERT_EQUAL(pending_count(), 2); /* no more was even read */
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_in_flight"), 2);
	finish_as(f.held[1], 'd');
	f.held_count = 1;
	rt_loop_run_due(f.loop);
	expect("c/1");
	CU_ASSERT_EQUAL(pending_count(), 2);
	/* Nothing spins while the bound is reached. */
	f.operations = 0;
	rt_loop_advance(f.loop, 10000);
	CU_ASSERT_TRUE(f.operations < 40);
	CU_ASSERT_EQUAL(f.acks, 0);
}

static void bounded_parked(void)
{
	struct rt_events_options options = default_options();
	char subject[8];

	options.parked_max = 3;
	options.retry_min_ms = options.retry_max_ms = 60000;
	plan("a", "ld");
	publish_all("a/1 a/2 a/3");
	start_with(options);
	expect("a/1");
	for (int i = 0; i < 10; i++) {
		snprintf(subject, sizeof(subject), "b%d", i);
		publish(subject, 1);
	}
	rt_loop_advance(f.loop, 10000);
	expect(""); /* reading stopped */
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_parked"), 3);
	rt_loop_advance(f.loop, 80000);
	expect("a/1 a/2 a/3 b0/1 b1/1 b2/1 b3/1 b4/1 b5/1 b6/1 b7/1 b8/1 b9/1");
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_parked"), 0);
}

/* ---- retries ---- */

static void parked_behind(void)
{
	plan("a", "lld");
	start_on("a/1 b/1 a/2 c/1 a/3");
	expect("a/1 b/1 c/1");
	publish_all("a/4 d/1");
	expect("d/1");
	rt_loop_advance(f.loop, 1000);
	expect("a/1 a/1 a/2 a/3 a/4");
	CU_ASSERT_EQUAL(pending_count(), 0);
	CU_ASSERT_EQUAL(counter("retried"), 2);
}

static void one_behind_retries_too(void)
{
	plan("a", "ldlld");
	start_on("a/1 a/2 a/3");
	rt_loop_advance(f.loop, 5000);
	/* a/1 fails once; a/2 fails twice, and a/3 waits for that, too. */
	expect("a/1 a/1 a/2 a/2 a/2 a/3");
}

static void back_off_doubles(void)
{
	int64_t expected = 100;

	plan("a", "l");
	start_on("a/1");
	rt_loop_advance(f.loop, 30000);
	CU_ASSERT_TRUE_FATAL(f.said_count >= 10);
	for (size_t i = 1; i < f.said_count; i++) {
		int64_t waited = f.said_ms[i] - f.said_ms[i - 1];

		CU_ASSERT_TRUE(waited >= expected * 3 / 4 && waited <= expected * 5 / 4);
		expected = RT_MIN(expected * 2, 1000); /* in an outage */
	}
	f.plans[0].letters = "d";
	rt_loop_advance(f.loop, 15000);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* However long an outage is, an event is tried every second. */
static void an_outage_delays_a_second_at_most(void)
{
	char held[] = "hhhhhhhhhhhhhhhh";

	plan("a", held);
	start_on("a/1");
	for (int tries = 0; tries < 14; tries++) {
		rt_event_retry(f.held[--f.held_count], tries % 2 == 0 ? RT_LOST : RT_UNREADY);
		rt_loop_advance(f.loop, 1250);
		CU_ASSERT_EQUAL_FATAL(f.held_count, 1);
	}
	/* A fault of its own is tried less and less often, as before. */
	rt_event_retry(f.held[--f.held_count], RT_REMOTE);
	rt_loop_advance(f.loop, 5000);
	CU_ASSERT_EQUAL(f.held_count, 0);
}

/* Who sees the end of an outage has what waits for it handled at once; an event with a fault of its own waits on. */
static void the_end_of_an_outage_ends_the_wait(void)
{
	struct rt_events_options options = default_options();

	options.retry_min_ms = options.retry_max_ms = 60000;
	plan("a", "hh");
	plan("b", "hh");
	publish_all("a/1 b/1");
	start_with(options);
	expect("a/1 b/1");
	for (size_t i = 0; i < 2; i++)
		rt_event_retry(f.held[i],
			       strcmp(f.held[i]->subject, "a") == 0 ? RT_LOST : RT_REMOTE);
	f.held_count = 0;
	rt_loop_advance(f.loop, 5000);
	expect("");
	rt_events_outage_over(f.sides[0].events);
	rt_loop_advance(f.loop, 1);
	expect("a/1");
	rt_event_done(f.held[--f.held_count]);
	rt_loop_advance(f.loop, 80000);
	expect("b/1x2");
	rt_event_done(f.held[--f.held_count]);
}

static void which_statuses_count(void)
{
	static const struct {
		const char *why;
		int status;
		bool dead;
	} rows[] = {
		{ "the peer cannot take it", RT_REMOTE, true },
		{ "it makes no sense", RT_PROTOCOL, true },
		{ "it is invalid", RT_INVALID, true },
		{ "something it needs is not there", RT_NOT_FOUND, true },
		{ "the connection is away", RT_LOST, false },
		{ "the server is slow", RT_TIMEOUT, false },
		{ "too much is under way", RT_BUSY, false },
		{ "the server is full", RT_FULL, false },
		{ "a right is missing", RT_DENIED, false },
		{ "the functions are not loaded", RT_UNREADY, false },
		{ "something was given up", RT_CANCELED, false },
		{ "the group is gone", RT_NOGROUP, false },
		{ "memory ran out", RT_NOMEM, false },
		{ "the system refused", RT_SYSTEM, false },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		setup();
		plan("a", "h");
		start_on("a/1");
		for (int tries = 0; tries < 20 && f.held_count > 0; tries++) {
			rt_event_retry(f.held[--f.held_count], rows[i].status);
			rt_loop_advance(f.loop, 13000);
		}
		TEST_ROW((dead_count() == 1) == rows[i].dead, rows[i].why);
		TEST_ROW((f.said_count == 8) == rows[i].dead, rows[i].why);
		TEST_ROW(pending_count() == !rows[i].dead, rows[i].why);
	}
}

/* ---- dead letters ---- */

/* Of the first one: names and values, NULL at the end. */
static void expect_dead(const char *const *fields)
{
	const struct memory_stream *dead = memory_stream_find(f.redis, DEAD);

	CU_ASSERT_FATAL(dead != NULL);
	for (; *fields != NULL; fields += 2)
		TEST_ROW(strcmp(memory_entry_field(&dead->entries[0], fields[0]), fields[1]) == 0,
			 fields[1]);
}
#define EXPECT_DEAD(...) expect_dead((const char *[]){ __VA_ARGS__, NULL })

static void poison(void)
{
	plan("a", "pd");
	start_on("a/1 a/2 b/1");
	expect("a/1 a/2 b/1");
	CU_ASSERT_EQUAL_FATAL(dead_count(), 1);
	EXPECT_DEAD("id", "a/1", "type", "tandem.order.v1.OrderPlaced", "data", "data", "stream",
		    STREAM, "stream_id", "1000000-1", "group", GROUP, "reason", "does not parse",
		    "deliveries", "1", "dead_time", "1970-01-01T00:16:40.000Z");
	CU_ASSERT_EQUAL(pending_count(), 0);
	CU_ASSERT_EQUAL(counter("dead"), 1);
	CU_ASSERT_EQUAL(warnings, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(last_warning, "event moved to the dead letters"));
}

/* A full Redis must be able to drain. */
static void poison_in_a_full_redis(void)
{
	plan("a", "h");
	start_on("a/1 b/1");
	f.redis->memory_full = true;
	rt_event_poison(f.held[--f.held_count], "does not parse");
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL(dead_count(), 1);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void tried_too_often(void)
{
	plan("a", "rrrrrrrrd");
	start_on("a/1 a/2 b/1");
	expect("a/1 b/1");
	rt_loop_advance(f.loop, 120000);
	/* Eight times; then those parked behind it are handled. */
	expect("a/1x2 a/1x3 a/1x4 a/1x5 a/1x6 a/1x7 a/1x8 a/2");
	CU_ASSERT_EQUAL_FATAL(dead_count(), 1);
	EXPECT_DEAD("id", "a/1", "reason",
		    "failed 8 times, at last: the peer answered with an error");
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void not_an_event(void)
{
	static char long_text[300];
	static const struct {
		const char *why, *fields[12];
		bool good;
	} rows[] = {
		{ "no type", { "subject", "a", "seq", "1" }, false },
		{ "an empty type", { "type", "", "subject", "a", "seq", "1" }, false },
		{ "no subject", { "type", "t", "seq", "1" }, false },
		{ "no seq", { "type", "t", "subject", "a" }, false },
		{ "a seq that is a word", { "type", "t", "subject", "a", "seq", "one" }, false },
		{ "a seq below 0", { "type", "t", "subject", "a", "seq", "-1" }, false },
		{ "a seq with a blank", { "type", "t", "subject", "a", "seq", " 1" }, false },
		{ "an empty seq", { "type", "t", "subject", "a", "seq", "" }, false },
		{ "a seq past 64 bits",
		  { "type", "t", "subject", "a", "seq", "18446744073709551616" },
		  false },
		{ "the largest seq",
		  { "type", "t", "subject", "a", "seq", "18446744073709551615" },
		  true },
		{ "a long subject", { "type", "t", "subject", long_text, "seq", "1" }, false },
		{ "a long type", { "type", long_text, "subject", "a", "seq", "1" }, false },
		{ "something else", { "hello", "world" }, false },
		{ "no data, no time, no id", { "type", "t", "subject", "a", "seq", "1" }, true },
		{ "a bad attempt counts as the first",
		  { "type", "t", "subject", "a", "seq", "1", "attempt", "x" },
		  true },
	};

	memset(long_text, 'x', sizeof(long_text) - 1);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		size_t count = 0;

		setup();
		while (count < 12 && rows[i].fields[count] != NULL)
			count++;
		add_raw(count, rows[i].fields, NULL);
		start_on("b/1");
		TEST_ROW(dead_count() == !rows[i].good, rows[i].why);
		TEST_ROW(f.said_count == (rows[i].good ? 2 : 1), rows[i].why);
		TEST_ROW(pending_count() == 0, rows[i].why);
	}
}

static void nul_bytes(void)
{
	add_raw(6, (const char *[]){ "type", "t", "subject", "a\0b", "seq", "1" },
		(const size_t[]){ 4, 1, 7, 3, 3, 1 });
	start();
	expect("");
	EXPECT_DEAD("reason", "not an event: bad subject");
}

static void dead_letter_fails(void)
{
	f.fault_step = "before dead_letter";
	f.fault_from = 1;
	plan("a", "rrrrrrrrd");
	start_on("a/1 a/2 b/1");
	rt_loop_advance(f.loop, 120000);
	CU_ASSERT_EQUAL(dead_count(), 0);
	CU_ASSERT_TRUE(f.asked > 3 && f.asked < 40);
	publish_all("c/1");
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "c/1")); /* others are handled */
	CU_ASSERT_PTR_NULL(strstr(f.said, "a/2"));
	f.fault_from = 0;
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_EQUAL(dead_count(), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "a/2"));
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* So many consumers got the first entry, and died. */
static void die_with_it(int times)
{
	deliver_to("x", 1);
	for (int i = 1; i < times; i++) {
		struct raw raw = {
			.op = { .count_max = 1, .idle_ms = 1000, .cursor = "0-0", .done = raw_done }
		};
		struct rt_stream *source = source_new("y", NULL);

		rt_loop_advance(f.loop, 1000);
		rt_stream_claim(source, &raw.op);
		rt_loop_run_due(f.loop);
		CU_ASSERT_EQUAL(raw.status, RT_OK);
		rt_stream_free(source);
	}
}

static void delivered_too_often(void)
{
	publish_all("a/1 b/1");
	die_with_it(8);
	start();
	rt_loop_advance(f.loop, 40000);
	expect("b/1");
	EXPECT_DEAD("reason", "delivered 9 times");
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* ---- deliveries that do not count ---- */

/* How often the group delivered entry `n`; 0: it is not pending. */
static uint32_t group_counts(uint64_t n)
{
	const struct memory_group *group = memory_group_find(stream_of(), GROUP);

	for (size_t i = 0; i < group->pending_count; i++)
		if (group->pending[i].id.n == n)
			return (uint32_t)group->pending[i].deliveries;
	return 0;
}

/* The next process takes over from one that is gone; and is gone again, after a while, with what
 * it holds: to the group that is the same as a death. */
static void live_for(int64_t ms)
{
	static unsigned names;
	char consumer[16];

	snprintf(consumer, sizeof(consumer), "p%u", ++names);
	f.sides[0].stopped = false;
	add_side(0, consumer, default_options());
	rt_events_start(f.sides[0].events);
	rt_loop_advance(f.loop, ms);
	stop_side(0);
}

/* The reader loses its connection again and again while an event waits for the end of an outage; then
 * the process is restarted. */
static void flapping_reader(void)
{
	plan("a", "l");
	start_on("a/1");
	rt_loop_advance(f.loop, 1000);
	f.fault_step = "before read";
	for (int i = 0; i < 12; i++) {
		f.fault_at = f.asked + 1;
		rt_loop_advance(f.loop, 10000);
		CU_ASSERT_TRUE(f.asked >= f.fault_at);
	}
	CU_ASSERT_EQUAL(group_counts(1), 1);
	stop_side(0);
	f.plans[0].letters = "d";
	forget_said();
	live_for(30000);
	expect("a/1x2");
	CU_ASSERT_EQUAL(dead_count(), 0);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* Twelve processes in a row die during an outage, with one event delayed and one behind it. */
static void restarts_in_an_outage(void)
{
	plan("a", "l");
	publish_all("a/1 a/2");
	for (int i = 0; i < 12; i++) {
		live_for(30000);
		CU_ASSERT_EQUAL(group_counts(1), 1);
		CU_ASSERT_EQUAL(group_counts(2), 1);
	}
	f.plans[0].letters = "d";
	forget_said();
	live_for(30000);
	expect("a/1x2 a/2x2");
	CU_ASSERT_EQUAL(dead_count(), 0);
}

/* A claim is taken back once Redis answers again. */
static void recount_fails(void)
{
	plan("a", "l");
	publish_all("a/1");
	deliver_to("dead", 1);
	f.fault_step = "before recount";
	f.fault_at = 1;
	start();
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_EQUAL(f.asked, 2);
	CU_ASSERT_EQUAL(group_counts(1), 1);
}

/* Counts of different numbers need a command each. While Redis refuses them they go with the claims, not one behind
 * the other. */
static void recounts_fail(void)
{
	char id[MEMORY_ID_TEXT];

	plan("a", "l");
	plan("b", "l");
	publish_all("a/1 b/1");
	deliver_to("dead", 2);
	memory_id_format(stream_of()->entries[1].id, id);
	memory_do(f.redis, "XCLAIM", STREAM, GROUP, "dead", "0", id, "RETRYCOUNT", "3", "JUSTID",
		  NULL);
	f.fault_step = f.delay_step = "before recount";
	f.fault_from = 1;
	f.delay_ms = 1;
	start();
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_TRUE(f.asked > 60 && f.asked < 600);
	f.fault_from = 0;
	rt_loop_advance(f.loop, 2000);
	CU_ASSERT_EQUAL(group_counts(1), 1);
	CU_ASSERT_EQUAL(group_counts(2), 3);
}

/* An event that fails by its own fault becomes a dead letter, however short its consumers live. */
static void failures_outlive_a_process(void)
{
	plan("a", "r");
	publish_all("a/1 b/1");
	live_for(50);
	for (int i = 0; i < 8 && dead_count() == 0; i++)
		live_for(20200);
	CU_ASSERT_EQUAL(dead_count(), 1);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* ---- claiming ---- */

static void claim_from_dead(void)
{
	struct rt_events_options options = default_options();

	publish_all("a/1 b/1 c/1 d/1 e/1 f/1 g/1");
	deliver_to("dead", 7);
	options.read_count_max = 2; /* the sweep goes on over its cursor */
	start_with(options);
	rt_loop_advance(f.loop, 1400);
	expect("");
	rt_loop_advance(f.loop, 500); /* entries of a dead consumer wait no longer */
	expect("a/1x2 b/1x2 c/1x2 d/1x2 e/1x2 f/1x2 g/1x2");
	CU_ASSERT_EQUAL(counter("claimed"), 7);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void claim_within_bounds(void)
{
	struct rt_events_options options = default_options();

	plan("a", "h");
	plan("b", "h");
	plan("c", "h");
	publish_all("a/1 b/1 c/1");
	deliver_to("dead", 3);
	options.in_flight_max = 2;
	start_with(options);
	rt_loop_advance(f.loop, 3000); /* although a read waits all the time */
	CU_ASSERT_EQUAL(f.held_count, 2);
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_EQUAL(f.held_count, 2);
}

static void lost_entries(void)
{
	publish_all("a/1 b/1 c/1 d/1");
	deliver_to("c1", 2);
	deliver_to("dead", 2);
	memory_do(f.redis, "XDEL", STREAM, "1000000-1", "1000000-3", NULL);
	start();
	expect("b/1");
	CU_ASSERT_EQUAL(counter("lost"), 1);
	CU_ASSERT_EQUAL(warnings, 1);
	rt_loop_advance(f.loop, 25000);
	expect("d/1x2");
	CU_ASSERT_EQUAL(counter("lost"), 2);
	CU_ASSERT_EQUAL(warnings, 2);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void slow_handler(void)
{
	plan("slow", "h");
	publish_all("slow/1");
	add_side(0, "c1", default_options());
	add_side(1, "c2", default_options());
	rt_events_start(f.sides[0].events);
	rt_loop_run_due(f.loop);
	rt_events_start(f.sides[1].events);
	rt_loop_advance(f.loop, 300000);
	expect("A:slow/1"); /* never claimed */
	CU_ASSERT_EQUAL(group_counts(1), 1);
	finish_as(f.held[--f.held_count], 'd');
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void shared_and_taken_over(void)
{
	/* Both get work; one finishes the entries that the other leaves. */
	plan("a", "ld");
	plan("b", "ld");
	add_side(0, "c1", default_options());
	add_side(1, "c2", default_options());
	rt_events_start(f.sides[0].events);
	rt_loop_run_due(f.loop);
	publish_all("a/1 b/1");
	expect("A:a/1 A:b/1");
	rt_events_stop(f.sides[0].events, on_stopped, &f.sides[0]);
	rt_loop_run_due(f.loop);
	CU_ASSERT_TRUE(f.sides[0].stopped);
	CU_ASSERT_EQUAL(pending_count(), 2);
	rt_events_start(f.sides[1].events);
	rt_loop_advance(f.loop, 25000);
	expect("B:a/1x2 B:b/1x2");
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* A consumer whose event takes long, and which has no room for another, leaves the rest. */
static void the_other_goes_on(void)
{
	struct rt_events_options options = default_options();

	options.in_flight_max = options.read_count_max = 1;
	plan("a", "h");
	add_side(0, "c1", options);
	add_side(1, "c2", options);
	rt_events_start(f.sides[0].events);
	publish_all("a/1");
	rt_events_start(f.sides[1].events);
	publish_all("b/1 c/1 d/1");
	expect("A:a/1 B:b/1 B:c/1 B:d/1");
}

/* ---- the group ---- */

static void group_destroyed(void)
{
	start_on("a/1 b/1");
	expect("a/1 b/1");
	rt_loop_advance(f.loop, 1500); /* the cursor is stored */
	destroy_group();
	publish_all("c/1");
	CU_ASSERT_FALSE(rt_events_ready(f.sides[0].events));
	rt_loop_advance(f.loop, 200);
	/* At the cursor: what was acknowledged does not come again, and nothing is left out. */
	expect("c/1");
	CU_ASSERT_TRUE(rt_events_ready(f.sides[0].events));
	CU_ASSERT_TRUE(memory_group_find(stream_of(), GROUP) != NULL);
	CU_ASSERT_EQUAL(warnings, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(last_warning, "consumer group or stream is gone"));
	CU_ASSERT_EQUAL(metric(RT_COUNTER, "tandem_events_rebuilds_total"), 1);
}

static void stream_vanished(void)
{
	start_on("a/1 b/1");
	expect("a/1 b/1");
	rt_loop_advance(f.loop, 1500);
	/* The clock was ahead; the new stream's ids are below the cursor. */
	rt_loop_jump(f.loop, -10000);
	memory_do(f.redis, "DEL", STREAM, NULL);
	publish_all("c/1");
	rt_loop_advance(f.loop, 200);
	expect("c/1");
	CU_ASSERT_EQUAL(warnings, 1);
}

static void no_spin(void)
{
	/* The group is deleted as often as it is made. */
	f.fault_step = "before read";
	f.fault_from = 2;
	f.fault_status = RT_NOGROUP;
	start_on("a/1");
	expect("a/1");
	rt_loop_advance(f.loop, 6000);
	f.operations = 0;
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_TRUE(f.operations > 60 && f.operations < 300);
	CU_ASSERT_EQUAL(warnings, 1);
	f.fault_from = 0;
	publish_all("b/1");
	rt_loop_advance(f.loop, 5000);
	expect("b/1");
	/* Each deletion is one warning. */
	destroy_group();
	rt_loop_advance(f.loop, 5000);
	CU_ASSERT_EQUAL(warnings, 2);
}

static void held_across_a_rebuild(void)
{
	/* The acknowledgement of an event meets the group that was before; the entry was delivered
	 * again by the new one. It is acknowledged there, not handled twice. */
	plan("a", "h");
	start_on("a/1");
	destroy_group();
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(pending_count(), 1);
	CU_ASSERT_EQUAL_FATAL(f.held_count, 1);
	f.held_count = 0;
	rt_event_done(f.held[0]); /* without the ack: it went to the group of before */
	rt_loop_advance(f.loop, ACK_GATHER_MS);
	expect("a/1");
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void connection_lost(void)
{
	plan("a", "h");
	start();
	publish_all("a/1");
	f.fault_from = 1;
	f.asked = 0;
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_FALSE(rt_events_ready(f.sides[0].events));
	CU_ASSERT_EQUAL(warnings, 1);
	CU_ASSERT_TRUE(f.asked > 20 && f.asked < 100);
	publish_all("b/1");
	f.fault_from = 0;
	rt_loop_advance(f.loop, 3000);
	expect("a/1 b/1");                              /* what is held does not come twice */
	CU_ASSERT_TRUE(rt_event_is_current(f.held[0])); /* it was delivered again */
	CU_ASSERT_TRUE(rt_events_ready(f.sides[0].events));
}

/* The first time it is not waited longer than for the connection, which takes 50 ms here. */
static void connection_back(void)
{
	start();
	memory_host_cut(&f.hosts[0], false);
	rt_loop_advance(f.loop, 10);
	CU_ASSERT_FALSE(rt_events_ready(f.sides[0].events));
	publish_all("a/1");
	rt_loop_advance(f.loop, 50);
	CU_ASSERT_TRUE(rt_events_ready(f.sides[0].events));
	expect("a/1");
}

/* Behind the new connection is a master that does not have the entry of a: its event is forgotten. */
static void another_master(void)
{
	const struct memory_group *group;
	char id[48];

	plan("a", "l");
	plan("k", "l");
	start_on("a/1 k/1");
	group = memory_group_find(stream_of(), GROUP);
	CU_ASSERT_EQUAL_FATAL(group->pending_count, 2);
	snprintf(id, sizeof(id), "%" PRId64 "-%" PRId64, (int64_t)group->pending[0].id.ms,
		 (int64_t)group->pending[0].id.n);
	memory_do(f.redis, "XACK", STREAM, GROUP, id, NULL);
	memory_do(f.redis, "XDEL", STREAM, id, NULL);
	f.fault_step = "before read";
	f.fault_at = f.asked + 1;
	publish_all("n/1");
	rt_loop_advance(f.loop, 10);
	CU_ASSERT_FALSE(rt_events_ready(f.sides[0].events));
	f.plans[0].letters = f.plans[1].letters = "d";
	forget_said();
	rt_loop_advance(f.loop, 20);
	expect(""); /* nothing is handed over before the group is there */
	rt_loop_advance(f.loop, 3000);
	expect("k/1");
	CU_ASSERT_TRUE(rt_events_ready(f.sides[0].events));
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* The clock went back, so ids only count on. The new master gives the id of an event that it lost to another one. */
static void an_id_is_given_twice(bool held)
{
	setup();
	plan("a", held ? "h" : "ld");
	start_on("z/1");
	rt_loop_jump(f.loop, -60000);
	memory_master_lags(f.redis, 0);
	publish_all("a/1");
	memory_master_fails_over(f.redis, 0, 1);
	publish_all("b/1");
	rt_loop_advance(f.loop, 20);
	CU_ASSERT_EQUAL(f.held_count, held);
	if (held) {
		rt_loop_advance(f.loop, 1000);
		CU_ASSERT_FALSE(rt_event_is_current(f.held[0]));
		f.held_count = 0;
		rt_event_retry(f.held[0], RT_LOST);
	}
	rt_loop_advance(f.loop, 20000);
	expect(held ? "z/1 a/1 b/1x2" : "z/1 a/1 b/1"); /* claimed, once a is gone */
	CU_ASSERT_EQUAL(pending_count(), 0);
}

static void another_event_of_the_same_id(void)
{
	an_id_is_given_twice(false);
	an_id_is_given_twice(true);
}

/* Only the connection for commands is another one: the one that reads waits, and has not noticed. Whether an event waits
 * for its retry or fails by its own fault later. */
static void another_master_for_commands(void)
{
	plan("a", "ld");
	plan("b", "hd");
	start_on("a/1 b/1");
	for (int i = 0; i < 2; i++) {
		char id[MEMORY_ID_TEXT];

		memory_id_format(stream_of()->entries[0].id, id);
		memory_do(f.redis, "XACK", STREAM, GROUP, id, NULL);
		memory_do(f.redis, "XDEL", STREAM, id, NULL);
	}
	CU_ASSERT_EQUAL_FATAL(f.held_count, 1);
	CU_ASSERT_TRUE(rt_event_is_current(f.held[0]));
	f.delay_step = "before xinfo"; /* whether the group is there */
	f.delay_ms = 2000;
	rt_redis_reset(f.commands[0]);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_FALSE(rt_event_is_current(f.held[0]));
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_FALSE(rt_event_is_current(f.held[0]));
	f.held_count = 0;
	rt_event_retry(f.held[0], RT_REMOTE);
	rt_loop_advance(f.loop, 20000);
	expect("a/1 b/1");
	CU_ASSERT_EQUAL(dead_count(), 0);
	publish_all("a/2 b/2");
	expect("a/2 b/2");
}

/* Whether the acknowledgement still gathers, or is under way when the connection ends. */
static void done_over_another_connection(void)
{
	for (int i = 0; i < 2; i++) {
		setup();
		plan("a", "i");
		start_on("a/1");
		expect("a/1");
		if (i == 1) {
			f.delay_step = "before ack";
			f.delay_ms = 2000;
			rt_loop_advance(f.loop, ACK_GATHER_MS);
		}
		CU_ASSERT_EQUAL(pending_count(), 1);
		rt_redis_reset(f.commands[0]);
		rt_loop_advance(f.loop, 20000);
		expect("a/1"); /* behind it may be a master that has lost the effect */
		CU_ASSERT_EQUAL(pending_count(), 0);
	}
}

/* Of an entry's two events the first is done before the connection ends; the second is with its handler until the entry was
 * delivered again, or waits for its retry, or ends while the group is ensured. The master may have lost the first one's effect. */
static void some_done_over_another_connection(void)
{
	static const struct {
		const char *name, *second;
		char end; /* of the second, if it is held */
		int64_t ends_ms;
	} rows[] = {
		{ "with its handler, then stored", "hd", 'd', 20000 },
		{ "with its handler, then ignored", "hd", 'i', 20000 },
		{ "with its handler, then poison", "hd", 'p', 20000 },
		{ "waits for its retry", "ld", 0, 20000 },
		{ "ignored before it is delivered again", "hd", 'i', 1000 },
		{ "poison before it is delivered again", "hd", 'p', 1000 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_events_options options = default_options();

		options.retry_min_ms = 5000; /* after it was delivered again */
		setup();
		publish_entry("a/1 b/1");
		plan("b", rows[i].second);
		start_with(options);
		expect("a/1 b/1");
		if (rows[i].ends_ms < 20000) {
			f.delay_step = "before xinfo"; /* whether the group is there */
			f.delay_ms = 2000;
		}
		rt_redis_reset(f.commands[0]);
		rt_loop_advance(f.loop, rows[i].ends_ms);
		if (rows[i].end != 0) {
			expect("");
			CU_ASSERT_EQUAL_FATAL(f.held_count, 1);
			f.held_count = 0;
			finish_as(f.held[0], rows[i].end);
			TEST_ROW(pending_count() == 1, rows[i].name);
		}
		rt_loop_advance(f.loop, 20000);
		TEST_ROW(strcmp(f.said, "a/1 b/1 ") == 0, rows[i].name);
		forget_said();
		TEST_ROW(pending_count() == 0 && dead_count() == 0, rows[i].name);
	}
}

static void look_current(const struct rt_event *event)
{
	CU_ASSERT_TRUE(rt_event_is_current(event));
}

/* Likewise while own pending events are still being read, for which there is no room. */
static void another_master_while_recovering(void)
{
	struct rt_events_options options = default_options();
	char id[MEMORY_ID_TEXT];

	publish_entry("a/1 b/1");
	publish_all("c/1 d/1");
	deliver_to("c1", 3);
	options.in_flight_max = 2;
	plan("a", "hd");
	plan("b", "hd");
	f.look = look_current;
	start_with(options);
	expect("a/1 b/1");
	CU_ASSERT_EQUAL_FATAL(f.held_count, 2);
	memory_id_format(stream_of()->entries[1].id, id); /* of c */
	memory_do(f.redis, "XACK", STREAM, GROUP, id, NULL);
	memory_do(f.redis, "XDEL", STREAM, id, NULL);
	rt_redis_reset(f.commands[f.source_count - 1]);
	rt_loop_advance(f.loop, 1000);
	f.held_count = 0;
	rt_event_retry(f.held[0], RT_LOST);
	rt_event_retry(f.held[1], RT_LOST);
	rt_loop_advance(f.loop, 20000);
	expect("a/1 b/1 d/1");
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* A read of before fails while the group is ensured over the new connection: it is not ensured twice at a time. */
static void read_fails_while_ensuring(void)
{
	start_on("a/1");
	f.delay_step = "before xinfo"; /* whether the group is there */
	f.delay_ms = 2000;
	rt_redis_reset(f.commands[0]);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_FALSE(rt_events_ready(f.sides[0].events));
	f.fault_step = "after read";
	f.fault_at = 1;
	f.asked = 0;
	publish_all("b/1");
	rt_loop_advance(f.loop, 20000);
	expect("a/1 b/1");
	CU_ASSERT_TRUE(rt_events_ready(f.sides[0].events));
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* Every call of the fault hook fails once. */
static void torture(void)
{
	static const int statuses[] = { RT_LOST, RT_TIMEOUT, RT_REMOTE, RT_NOGROUP };

	for (size_t s = 0; s < RT_LENGTH(statuses); s++) {
		for (int n = 1;; n++) {
			bool hit;

			setup();
			f.fault_at = n;
			f.fault_status = statuses[s];
			plan("bad", "p");
			plan("late", "ld");
			plan("none", "i");
			plan("once", "rd");
			publish_all("old/1 bad/1 late/1 none/1");
			deliver_to("dead", 1);
			start();
			publish_all("late/2 new/1");
			publish_entry("once/1 bad/2 late/3 none/2");
			rt_loop_advance(f.loop, 12000);
			hit = f.asked >= n;
			CU_ASSERT_EQUAL(pending_count(), 0);
			CU_ASSERT_EQUAL(aside_count(), 0);
			CU_ASSERT_EQUAL(dead_count(), 2);
			CU_ASSERT_TRUE(strstr(f.said, "once/1x2") != NULL ||
				       strstr(f.said, "once/1x3") != NULL);
			CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "late/3"));
			CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "old/1"));
			CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "late/2"));
			CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "new/1"));
			CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "none/1"));
			if (!hit)
				break;
			CU_ASSERT_TRUE_FATAL(n < 1000);
		}
	}
}

/* ---- tending ---- */

static void tending(void)
{
	struct rt_stream_info info;

	plan("held", "h");
	publish_all("x/1");
	deliver_to("holder", 1);
	maintain_as("idle");
	start_on("held/1 a/1");
	rt_loop_advance(f.loop, 1400);
	info = rt_events_info(f.sides[0].events);
	CU_ASSERT_EQUAL(info.pending, 2);
	CU_ASSERT_EQUAL(info.lag, 0);
	CU_ASSERT_TRUE(info.oldest_pending_ms >= 1000 && info.oldest_pending_ms <= 1400);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_pending"), 2);
	CU_ASSERT_EQUAL(consumer_count(), 3);
	rt_loop_advance(f.loop, 30000); /* the holder's entry is claimed */
	CU_ASSERT_EQUAL(consumer_count(), 3);
	rt_loop_advance(f.loop, 3600000);
	CU_ASSERT_EQUAL(consumer_count(), 1);
}

/* ---- entries of several events ---- */

static void expect_counts(size_t pending, size_t aside, size_t dead)
{
	if (pending_of(STREAM) != pending || aside_count() != aside || dead_count() != dead)
		printf("\n    %zu pending, %zu aside, %zu dead", pending_of(STREAM), aside_count(),
		       dead_count());
	CU_ASSERT_EQUAL(pending_of(STREAM), pending);
	CU_ASSERT_EQUAL(aside_count(), aside);
	CU_ASSERT_EQUAL(pending_of(ASIDE), aside);
	CU_ASSERT_EQUAL(dead_count(), dead);
}

/* Finishes held event `i`; the others keep their order. */
static void finish_held(size_t i, char letter)
{
	struct rt_event *event = f.held[i];

	CU_ASSERT_FATAL(i < f.held_count);
	f.held_count--;
	memmove(&f.held[i], &f.held[i + 1], (f.held_count - i) * sizeof(f.held[0]));
	finish_as(event, letter);
	rt_loop_run_due(f.loop);
}

static void see_of_entry(const struct rt_event *event)
{
	char name[32];

	snprintf(name, sizeof(name), "%s/%" PRIu64, event->subject, event->seq);
	CU_ASSERT_STRING_EQUAL(event->stream_id, "1000000-3");
	CU_ASSERT_STRING_EQUAL(event->type, PLACED);
	CU_ASSERT_STRING_EQUAL(event->time, "then");
	CU_ASSERT_STRING_EQUAL(event->traceparent, TRACE);
	CU_ASSERT_STRING_EQUAL(event->tracestate, STATE);
	CU_ASSERT_STRING_EQUAL(event->actor, "operator olga");
	CU_ASSERT_EQUAL(event->attempt, 3);
	CU_ASSERT_STRING_EQUAL((const char *)event->data, name);
	CU_ASSERT_EQUAL(event->data_length, strlen(name));
}

/* Its events are handed over one by one, and it is acknowledged when the last one is finished. */
static void entry_of_three(void)
{
	f.quiet_batches = false;
	f.look = see_of_entry;
	plan("b", "h");
	publish_entry("a/1 b/2 c/3");
	start();
	expect("a/1 b/2 c/3 |");
	expect_counts(1, 0, 0);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_in_flight"), 3);
	finish_held(0, 'd');
	expect_counts(0, 0, 0);
	CU_ASSERT_EQUAL(f.acks, 0); /* the last command did */
	CU_ASSERT_EQUAL(counter("received"), 3);
	CU_ASSERT_EQUAL(counter("done"), 3);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_in_flight"), 0);
}

/* One is poison, one fails by its own fault, one is behind a blocked subject: they leave their entry in one step, and
 * only they come again. */
static void set_aside_alone(void)
{
	plan("poison", "p");
	plan("fails", "rd");
	plan("blocked", "h");
	plan("slow", "h");
	start_on("blocked/1");
	finish_held(0, 'l'); /* from now on blocked/2 waits */
	f.plans[2].letters = "d";
	forget_said();
	f.acks = 0;
	publish_entry("a/1 poison/1 fails/1 blocked/2 slow/1 b/1");
	expect("a/1 poison/1 fails/1 slow/1 b/1");
	CU_ASSERT_EQUAL(f.set_asides, 0); /* until all are finished */
	finish_held(0, 'd');
	CU_ASSERT_EQUAL(f.set_asides, 1);
	expect_counts(1, 2, 1); /* blocked/1; fails/1 and blocked/2; poison/1 */
	EXPECT_DEAD("id", "poison/1", "type", PLACED, "subject", "poison", "seq", "1", "time",
		    "then", "data", "poison/1", "attempt", "3", "traceparent", TRACE, "actor",
		    "operator olga", "tracestate", STATE, "stream", STREAM, "stream_id",
		    "1000000-7", "group", GROUP, "reason", "does not parse", "deliveries", "1",
		    "dead_time", "1970-01-01T00:16:40.000Z");
	CU_ASSERT_EQUAL(counter("dead"), 1);
	rt_loop_advance(f.loop, 1000);
	expect("blocked/1 blocked/2 fails/1x2");
	expect_counts(0, 0, 1);
	CU_ASSERT_EQUAL(f.acks, 0);
	CU_ASSERT_EQUAL(f.set_asides, 1);
}

/* The deliveries that the group counts for the one event aside. */
static int64_t aside_counts(void)
{
	const struct memory_stream *aside = memory_stream_find(f.redis, ASIDE);
	const struct memory_group *group;

	CU_ASSERT_PTR_NOT_NULL_FATAL(aside);
	group = memory_group_find(aside, GROUP);
	CU_ASSERT_EQUAL_FATAL(group->pending_count, 1);
	return group->pending[0].deliveries;
}

static void aside_given_up(void)
{
	plan("bad", "rrrrrrrrd");
	publish_entry("a/1 bad/1 b/1");
	start();
	expect("a/1 bad/1 b/1");
	CU_ASSERT_EQUAL(aside_counts(), 2);
	publish_all("bad/2"); /* waits behind it */
	rt_loop_advance(f.loop, 300);
	CU_ASSERT_EQUAL(aside_counts(), 4);
	rt_loop_advance(f.loop, 120000);
	expect("bad/1x2 bad/1x3 bad/1x4 bad/1x5 bad/1x6 bad/1x7 bad/1x8 bad/2");
	for (size_t i = 5, wait = 100; i < 10; i++, wait *= 2)
		CU_ASSERT_TRUE(f.said_ms[i] - f.said_ms[i - 1] >= (int64_t)wait * 3 / 2);
	expect_counts(0, 0, 1);
	EXPECT_DEAD("id", "bad/1", "type", PLACED, "subject", "bad", "seq", "1", "time", "then",
		    "data", "bad/1", "attempt", "3", "traceparent", TRACE, "actor", "operator olga",
		    "tracestate", STATE, "stream", STREAM, "stream_id", "1000000-3", "group", GROUP,
		    "deliveries", "8", "reason",
		    "failed 8 times, at last: the peer answered with an error");
	/* Its dead letter names its origin once. */
	CU_ASSERT_EQUAL(memory_stream_find(f.redis, DEAD)->entries[0].field_count, 2 * 16);
}

/* An event set aside is claimed from a consumer that died, with its number of deliveries. */
static void aside_outlives_its_consumer(void)
{
	plan("bad", "r");
	publish_entry("a/1 bad/9223372036854775809 b/1");
	live_for(10);
	expect("a/1 bad/9223372036854775809 b/1");
	expect_counts(0, 1, 0);
	CU_ASSERT_EQUAL(aside_counts(), 2);
	live_for(3000); /* its claim and its failure count */
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "bad/9223372036854775809x3 "));
	CU_ASSERT_TRUE(aside_counts() >= 4);
	for (int i = 0; i < 8 && dead_count() == 0; i++)
		live_for(3000);
	expect_counts(0, 0, 1);
	EXPECT_DEAD("id", "bad/9223372036854775809", "data", "bad/9223372036854775809", "attempt",
		    "3");
}

/* An outage after it was set aside does not count, however many consumers die in it. */
static void aside_in_an_outage(void)
{
	plan("late", "rl");
	publish_entry("a/1 late/1");
	live_for(50);
	for (int i = 0; i < 12; i++) {
		live_for(10000);
		CU_ASSERT_EQUAL(aside_counts(), 2);
	}
	f.plans[0].letters = "d";
	forget_said();
	live_for(3000);
	expect("late/1x3");
	expect_counts(0, 0, 0);
}

/* An operator has added an entry of several events to aside:…: nothing handles it, and its dead letter has all of
 * them and says where it was. */
static void aside_of_several(void)
{
	memory_do(f.redis, "XADD", ASIDE, "5-1", PLACED, "a/1 b/1", "time", "then", "batch",
		  "\x0a\x01x\x0a\x01y", NULL);
	start();
	rt_loop_advance(f.loop, 60000); /* its group is made, and it is claimed */
	expect("");
	expect_counts(0, 0, 1);
	EXPECT_DEAD(PLACED, "a/1 b/1", "time", "then", "batch", "\x0a\x01x\x0a\x01y", "stream",
		    ASIDE, "stream_id", "5-1", "group", GROUP, "reason",
		    "not an event: an entry that was set aside has one");
	CU_ASSERT_EQUAL(counter("dead"), 1);
	publish_all("a/1"); /* neither subject is blocked */
	expect("a/1");
}

/* In an outage the entry waits, no event is set aside, and events that are done do not come again. */
static void entry_in_an_outage(void)
{
	plan("late", "lld");
	plan("bad", "rd");
	publish_entry("a/1 late/1 bad/1 b/1");
	start();
	expect("a/1 late/1 bad/1 b/1");
	expect_counts(1, 0, 0);
	publish_all("late/2 bad/2 a/2"); /* the first two have to wait */
	expect("a/2");
	rt_loop_advance(f.loop, 130);
	expect("late/1");
	expect_counts(3, 0, 0);
	CU_ASSERT_EQUAL(group_counts(4), 1);
	rt_loop_advance(f.loop, 1000);
	expect("late/1 late/2 bad/1x2 bad/2");
	expect_counts(0, 0, 0);
	CU_ASSERT_EQUAL(f.set_asides, 1); /* bad/1, when the rest was done */
}

/* An event that is done no longer blocks its subject, although its entry is not done. */
static void done_unblocks(void)
{
	plan("late", "lh");
	plan("quick", "ld");
	publish_entry("late/1 quick/1");
	start();
	publish_all("quick/2 late/2");
	expect("late/1 quick/1");
	rt_loop_advance(f.loop, 1000);
	expect("late/1 quick/1 quick/2");
	CU_ASSERT_EQUAL(pending_count(), 2);
	f.plans[0].letters = "d";
	finish_held(0, 'd');
	expect("late/2");
	expect_counts(0, 0, 0);
}

/* An unknown event of an entry kills its consumers. */
static void all_set_aside(void)
{
	/* Claimed once more: four deliveries are allowed, five are too many. */
	publish_entry("a/1 b/1 c/1");
	die_with_it(3);
	start();
	rt_loop_advance(f.loop, 3000);
	expect("a/1x4 b/1x4 c/1x4");
	CU_ASSERT_EQUAL(f.set_asides, 0);
	setup();
	plan("b", "r");
	publish_entry("a/1 b/1 c/1");
	die_with_it(4);
	start();
	rt_loop_advance(f.loop, 3000);
	CU_ASSERT_EQUAL(f.set_asides, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "a/1x5 b/1x5 c/1x5 b/1x6"));
	rt_loop_advance(f.loop, 30000);
	expect("a/1x5 b/1x5 c/1x5 b/1x6 b/1x7 b/1x8");
	expect_counts(0, 0, 1);
	EXPECT_DEAD("id", "b/1");
	/* Far too many: each event still gets a try. */
	setup();
	publish_entry("a/1 b/1");
	die_with_it(20);
	start();
	rt_loop_advance(f.loop, 3000);
	expect("a/1x21 b/1x21");
	expect_counts(0, 0, 0);
}

/* An event that waits behind another one did not fail: the claim of its entry does not count. */
static void behind_after_a_claim(void)
{
	plan("a", "l");
	publish_all("a/1");
	start();
	publish_entry("a/2 b/1");
	expect("a/1 b/1");
	expect_counts(1, 1, 0);
	CU_ASSERT_EQUAL(aside_counts(), 1);
	setup();
	plan("a", "l");
	publish_entry("a/2 b/1");
	deliver_to("dead", 1);
	publish_all("a/1");
	start();
	rt_loop_advance(f.loop, 3000);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "b/1x2"));
	expect_counts(1, 1, 0);
	CU_ASSERT_EQUAL(aside_counts(), 1);
}

/* Another consumer has claimed the entry: nothing is set aside. */
static void aside_taken(void)
{
	plan("a", "h");
	publish_entry("a/1 b/1");
	start();
	memory_do(f.redis, "XCLAIM", STREAM, GROUP, "other", "0", "1000000-2", "JUSTID", NULL);
	finish_held(0, 'r');
	CU_ASSERT_EQUAL(f.set_asides, 1);
	expect_counts(1, 0, 0);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_in_flight"), 0);
}

/* After the group of aside:… was destroyed its events are still handled. */
static void aside_group_destroyed(void)
{
	plan("a", "rl");
	publish_entry("a/1 b/1");
	live_for(50);
	expect_counts(0, 1, 0);
	memory_do(f.redis, "XGROUP", "DESTROY", ASIDE, GROUP, NULL);
	f.plans[0].letters = "d";
	forget_said();
	live_for(5000);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "a/1x2 "));
	expect_counts(0, 0, 0);
}

/* Setting aside fails for a while: the event stays in its entry, and others are handled. */
static void setting_aside_fails(void)
{
	f.fault_step = "before set_aside";
	f.fault_from = 1;
	plan("a", "rd");
	publish_entry("a/1 b/1");
	start();
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_TRUE(f.asked > 3 && f.asked < 40);
	expect_counts(1, 0, 0);
	publish_entry("a/2 c/1");
	expect("a/1 b/1 c/1");
	f.fault_from = 0;
	rt_loop_advance(f.loop, 20000);
	expect("a/1x2 a/2");
	expect_counts(0, 0, 0);
}

/* A single event keeps unknown fields. */
static void unknown_fields(void)
{
	add_raw(10,
		(const char *[]){ "type", "t", "colour", "green", "subject", "a", "seq", "1", "why",
				  "not" },
		NULL);
	plan("a", "p");
	start();
	expect("a/1");
	expect_counts(0, 0, 1);
	EXPECT_DEAD("type", "t", "colour", "green", "why", "not", "subject", "a", "seq", "1",
		    "stream_id", "1000000-1");
}

/* An entry that is not an event counts for the bounds: reading stops while it cannot be moved to the dead letters. */
static void not_events_are_bounded(void)
{
	struct rt_events_options options = default_options();

	f.fault_step = "before dead_letter";
	f.fault_from = 1;
	options.in_flight_max = 4;
	options.read_count_max = 2;
	start_with(options);
	for (int i = 0; i < 20; i++) {
		add_raw(2, (const char *[]){ "hello", "world" }, NULL);
		rt_loop_run_due(f.loop);
	}
	rt_loop_advance(f.loop, 10000);
	CU_ASSERT_TRUE(pending_count() >= 4 && pending_count() <= 6);
	f.fault_from = 0;
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_EQUAL(dead_count(), 20);
}

/* At most one entry goes over the bound. */
static void entries_are_bounded(void)
{
	struct rt_events_options options = default_options();

	options.in_flight_max = 4;
	plan("h", "h");
	/* The first read does not know how many events an entry has: it is read, and waits. */
	for (int i = 0; i < 5; i++)
		publish_entry("h/1 h/2 h/3");
	start_with(options);
	for (int i = 0; i < 3; i++)
		publish_entry("h/1 h/2 h/3");
	rt_loop_advance(f.loop, 10000);
	CU_ASSERT_EQUAL(f.held_count, 6);
	CU_ASSERT_EQUAL(pending_of(STREAM), 4);
	CU_ASSERT_EQUAL(rt_events_info(f.sides[0].events).lag, 12); /* events, not entries */
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_lag"), 12);
	f.plans[0].letters = "d";
	while (f.held_count > 0)
		finish_held(0, 'd');
	rt_loop_advance(f.loop, 2000);
	CU_ASSERT_EQUAL(f.said_count, 24);
	CU_ASSERT_EQUAL(rt_events_info(f.sides[0].events).lag, 0);
}

static void aside_is_reported(void)
{
	plan("a", "rl");
	plan("b", "rl");
	publish_entry("a/1 b/1 c/1");
	start();
	rt_loop_advance(f.loop, 3000);
	CU_ASSERT_EQUAL(rt_events_info(f.sides[0].events).aside, 2);
	CU_ASSERT_EQUAL(rt_events_info(f.sides[0].events).pending, 0);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_aside"), 2);
	CU_ASSERT_EQUAL(metric(RT_GAUGE, "tandem_events_parked"), 2);
}

/* ---- acknowledged with a command ---- */

/* Each step is a letter and, if needed, the letter of a held event, in their order:
 *   1a, 2b   command 1, 2 stores the effect of event a, b: no acknowledgement
 *   1a+      … and acknowledges its entry
 *   dc       c is done, with or without the command; ic ignored, lc, rc retried (finish_as)
 *   na       the command has acknowledged nothing */
static void play_acks(const char *script, const char *why)
{
	static const char commands[2];
	struct rt_event *events[3];
	const char *ack_id;

	CU_ASSERT_EQUAL_FATAL(f.held_count, 3);
	memcpy(events, f.held, sizeof(events));
	f.held_count = 0;
	for (; *script != '\0'; script += script[0] == ' ' ? 1 : 2) {
		struct rt_event *event = script[0] == ' ' ? NULL : events[script[1] - 'a'];

		switch (script[0]) {
		case ' ':
			break;
		case '1':
		case '2':
			ack_id = rt_event_ack(event, &commands[script[0] - '1']);
			TEST_ROW((ack_id != NULL) == (script[2] == '+'), why);
			if (ack_id != NULL)
				TEST_ROW(strcmp(ack_id, event->stream_id) == 0, why);
			script += script[2] == '+';
			break;
		case 'n':
			rt_event_not_acked(event);
			break;
		case 'd':
			rt_event_done(event);
			break;
		default:
			finish_as(event, script[0]);
		}
	}
	rt_loop_advance(f.loop, ACK_GATHER_MS);
}

static void acknowledged_with_a_command(void)
{
	static const struct {
		const char *why, *script;
		/* Separate acknowledgements, because no command did it; steps of setting aside; events that wait. */
		int acks, set_asides, parked;
	} rows[] = {
		{ "all in one command", "1a 1b 1c+ da db dc", 0, 0, 0 },
		{ "one was done before", "1a da 2b 2c+ db dc", 0, 0, 0 },
		{ "one was ignored before", "ia 1b 1c+ db dc", 0, 0, 0 },
		{ "one is ignored after", "1a 1b ic da db", 1, 0, 0 },
		{ "an earlier command is under way", "1a 2b 2c da db dc", 1, 0, 0 },
		{ "… and ends between", "1a 2b da 2c db dc", 1, 0, 0 },
		{ "a command at the address of an earlier one", "1a da 1b db dc", 1, 0, 0 },
		{ "… of which all is done but one", "1a 1b da db 1c+ dc", 0, 0, 0 },
		{ "… of which one waits", "1a la 1b 1c db dc", 0, 0, 3 },
		{ "one is poison", "1a da pb 2c dc", 0, 1, 0 },
		{ "one failed", "ra 1b 1c db dc", 0, 1, 1 },
		{ "a command that acknowledged nothing", "1a 1b 1c+ na nb nc da db dc", 1, 0, 0 },
		{ "a command that failed", "1a 1b 1c+ la lb lc", 0, 0, 3 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		setup();
		plan("x", "h");
		plan("y", "h");
		plan("z", "h");
		publish_entry("x/1 y/1 z/1");
		start();
		f.acks = f.set_asides = 0;
		play_acks(rows[i].script, rows[i].why);
		TEST_ROW(f.acks == rows[i].acks, rows[i].why);
		TEST_ROW(f.set_asides == rows[i].set_asides, rows[i].why);
		TEST_ROW(metric(RT_GAUGE, "tandem_events_parked") == rows[i].parked, rows[i].why);
		f.plans[0].letters = f.plans[1].letters = f.plans[2].letters = "d";
		rt_loop_advance(f.loop, 1000);
	}
}

/* If an event has to wait, the command of the others acknowledges nothing. */
static void no_acknowledgement_while_one_waits(void)
{
	plan("a", "l");
	plan("b", "h");
	start_on("a/1");
	publish_entry("a/2 b/1");
	CU_ASSERT_EQUAL_FATAL(f.held_count, 1);
	CU_ASSERT_PTR_NULL(rt_event_ack(f.held[0], f.held[0]));
	f.held_count = 0;
	rt_event_done(f.held[0]);
	rt_loop_run_due(f.loop);
	expect_counts(1, 1, 0);
}

/* The id of an event aside has a '+'; after its command failed by the event's own fault the acknowledgement no
 * longer counts. */
static void acknowledged_aside(void)
{
	static const char command;
	const char *ack_id;

	plan("a", "rh");
	publish_entry("a/1 b/1");
	start();
	rt_loop_advance(f.loop, 200);
	CU_ASSERT_EQUAL_FATAL(f.held_count, 1);
	ack_id = rt_event_ack(f.held[0], &command);
	CU_ASSERT_PTR_NOT_NULL_FATAL(ack_id);
	CU_ASSERT_EQUAL(ack_id[0], '+');
	CU_ASSERT_STRING_EQUAL(ack_id + 1, f.held[0]->stream_id);
	f.plans[0].letters = "i";
	f.acks = 0;
	finish_held(0, 'r');
	rt_loop_advance(f.loop, 500);
	CU_ASSERT_EQUAL(f.acks, 1);
	expect_counts(0, 0, 0);
}

/* The events of an entry are one unit. */
static void units(void)
{
	plan("a", "h");
	plan("b", "h");
	publish_entry("a/1 b/1");
	publish_entry("b/2 a/2");
	start();
	CU_ASSERT_EQUAL_FATAL(f.held_count, 4);
	CU_ASSERT_PTR_EQUAL(rt_event_entry(f.held[0]), rt_event_entry(f.held[1]));
	CU_ASSERT_PTR_EQUAL(rt_event_entry(f.held[2]), rt_event_entry(f.held[3]));
	CU_ASSERT_PTR_NOT_EQUAL(rt_event_entry(f.held[0]), rt_event_entry(f.held[2]));
}

/* ---- the end ---- */

static void stopping(void)
{
	struct side *side = &f.sides[0];

	plan("held", "h");
	plan("parked", "l");
	plan("back", "h");
	start_on("held/1 parked/1 parked/2 back/1 back/2");
	expect("held/1 parked/1 back/1 back/2");
	rt_events_stop(side->events, on_stopped, side);
	rt_loop_run_due(f.loop); /* its read is given up */
	publish_all("later/1");
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_FALSE(side->stopped);
	expect("");
	rt_event_retry(f.held[1], RT_LOST);
	rt_event_ignore(f.held[2]);
	rt_loop_run_due(f.loop);
	CU_ASSERT_FALSE(side->stopped);
	f.held_count = 1;
	finish_as(f.held[--f.held_count], 'd');
	CU_ASSERT_FALSE(side->stopped);
	rt_loop_run_due(f.loop);
	CU_ASSERT_TRUE(side->stopped);
	expect("");
	/* Events that were parked or delayed stay pending for others. */
	CU_ASSERT_EQUAL(pending_count(), 3);
}

static void stopping_anywhere(void)
{
	/* Stopped after every millisecond of a busy start, also while Redis is away. */
	for (int away = 0; away < 2; away++) {
		for (int ms = 0; ms < 400; ms += 7) {
			setup();
			f.fault_from = away ? 3 : 0;
			plan("a", "r");
			plan("bad", "p");
			plan("none", "i");
			publish_entry("c/1 a/3 bad/2 a/4 none/2");
			start_on("a/1 a/2 bad/1 none/1 b/1");
			rt_loop_advance(f.loop, ms);
			rt_events_stop(f.sides[0].events, on_stopped, &f.sides[0]);
			rt_loop_run_due(f.loop);
			CU_ASSERT_TRUE(f.sides[0].stopped);
			CU_ASSERT_EQUAL(rt_loop_next_due(f.loop), INT64_MAX);
		}
	}
}

/* Events that were set aside, or are about to be, stay pending for others. */
static void stopping_with_events_aside(void)
{
	struct side *side = &f.sides[0];

	plan("a", "rl");
	plan("held", "h");
	start();
	publish_entry("a/1 b/1");
	rt_loop_advance(f.loop, 1000);
	publish_entry("a/2 c/1 held/1"); /* a/2 will be set aside behind a/1 */
	publish_entry("a/3 d/1");        /* this one is */
	expect_counts(1, 2, 0);
	rt_events_stop(side->events, on_stopped, side);
	rt_loop_run_due(f.loop);
	CU_ASSERT_FALSE(side->stopped);
	finish_held(0, 'r');
	rt_loop_run_due(f.loop);
	CU_ASSERT_TRUE(side->stopped);
	expect_counts(0, 4, 0);
	CU_ASSERT_EQUAL(rt_loop_next_due(f.loop), INT64_MAX);
	stop_side(0);
	/* Another consumer finishes them. */
	f.plans[0].letters = f.plans[1].letters = "d";
	forget_said();
	live_for(3000);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "a/3x2 "));
	CU_ASSERT_PTR_NOT_NULL(strstr(f.said, "held/1x3 "));
	expect_counts(0, 0, 0);
}

static void stop_at_b(const struct rt_event *event)
{
	if (strcmp(event->subject, "b") == 0)
		rt_events_stop(f.sides[0].events, on_stopped, &f.sides[0]);
}

/* After a stop no event is handed over, not even of the same entry. */
static void stopped_by_a_handler(void)
{
	f.look = stop_at_b;
	publish_entry("a/1 b/1 c/1 d/1");
	publish_all("e/1");
	start();
	expect("a/1 b/1");
	CU_ASSERT_TRUE(f.sides[0].stopped);
	expect_counts(2, 0, 0);
}

/* Whoever looks at the group sees who reads, before that has read or claimed anything. */
static void consumer_at_once(void)
{
	start();
	CU_ASSERT_EQUAL(consumer_count(), 1);
	/* Also after an operator has deleted it. */
	memory_do(f.redis, "XGROUP", "DELCONSUMER", STREAM, GROUP, "c1", NULL);
	CU_ASSERT_EQUAL(consumer_count(), 0);
	publish_all("a/1");
	expect("a/1");
	CU_ASSERT_EQUAL(consumer_count(), 1);
	CU_ASSERT_EQUAL(pending_count(), 0);
}

/* A full Redis makes no consumer until there is something to read. */
static void consumer_in_a_full_redis(void)
{
	publish_all("a/1");
	memory_do(f.redis, "XGROUP", "CREATE", STREAM, GROUP, "0", NULL);
	f.redis->memory_full = true;
	start();
	expect("a/1");
	CU_ASSERT_EQUAL(consumer_count(), 1);
	CU_ASSERT_EQUAL(warnings, 0);
}

static void stopped_before_started(void)
{
	struct rt_events_options bad = default_options();
	struct rt_events *events = NULL;

	add_side(0, "c1", default_options());
	add_side(1, "c2", default_options());
	rt_events_free(RT_TAKE(f.sides[1].events)); /* never started */
	stop_side(0);
	bad.name = NULL;
	CU_ASSERT_EQUAL(rt_events_new(f.loop, NULL, &bad, &events), RT_INVALID);
	CU_ASSERT_PTR_NULL(events);
	rt_events_free(NULL);
}

static const struct test tests[] = {
	{ "events are handed over in order", in_order },
	{ "the envelope", envelope },
	{ "tracestates that are not valid", tracestates_that_are_not_valid },
	{ "ignored events are acknowledged", ignored },
	{ "acknowledgements gather", acknowledgements_gather },
	{ "own pending entries first", own_pending_first },
	{ "events in flight have a bound", bounded_in_flight },
	{ "parked events have a bound", bounded_parked },
	{ "later events of a subject wait, others do not", parked_behind },
	{ "an event that waited fails, too", one_behind_retries_too },
	{ "the back-off doubles", back_off_doubles },
	{ "which failures count", which_statuses_count },
	{ "an invalid event becomes a dead letter at once", poison },
	{ "dead letters are written to a full Redis, too", poison_in_a_full_redis },
	{ "an event that fails too often becomes a dead letter", tried_too_often },
	{ "an entry that is not an event becomes a dead letter", not_an_event },
	{ "a subject with a NUL is not an event", nul_bytes },
	{ "writing a dead letter fails and is tried again", dead_letter_fails },
	{ "an event that killed its consumers becomes a dead letter unhandled",
	  delivered_too_often },
	{ "a flapping connection counts no delivery", flapping_reader },
	{ "an outage delays an event a second at most", an_outage_delays_a_second_at_most },
	{ "the end of an outage ends the wait", the_end_of_an_outage_ends_the_wait },
	{ "restarts in an outage count no delivery", restarts_in_an_outage },
	{ "a count that is taken back is sent until Redis answers", recount_fails },
	{ "counts that are refused are sent with the next claims", recounts_fail },
	{ "failures are counted from process to process", failures_outlive_a_process },
	{ "entries of the dead are claimed", claim_from_dead },
	{ "claiming keeps the bounds", claim_within_bounds },
	{ "lost entries are counted", lost_entries },
	{ "a slow handler keeps its claim", slow_handler },
	{ "one finishes what the other leaves", shared_and_taken_over },
	{ "a consumer that is full leaves the rest", the_other_goes_on },
	{ "a destroyed group is made at its cursor", group_destroyed },
	{ "a stream that begins again is read from its start", stream_vanished },
	{ "a group that is deleted again and again causes no busy loop", no_spin },
	{ "held across a rebuild", held_across_a_rebuild },
	{ "a lost connection", connection_lost },
	{ "a lost connection is back", connection_back },
	{ "another master lacks an entry", another_master },
	{ "another master gives an id once more", another_event_of_the_same_id },
	{ "another master for commands", another_master_for_commands },
	{ "some done over another connection", some_done_over_another_connection },
	{ "done over another connection", done_over_another_connection },
	{ "another master while recovering", another_master_while_recovering },
	{ "a read fails while the group is ensured", read_fails_while_ensuring },
	{ "a consumer is there before it has read anything", consumer_at_once },
	{ "a full Redis makes no consumer, and is read", consumer_in_a_full_redis },
	{ "every operation fails once", torture },
	{ "tending", tending },
	{ "an entry of three events", entry_of_three },
	{ "only some events of an entry are set aside", set_aside_alone },
	{ "an event aside becomes a dead letter in the end", aside_given_up },
	{ "an event aside outlives its consumer", aside_outlives_its_consumer },
	{ "an event aside in an outage", aside_in_an_outage },
	{ "an entry of several events aside", aside_of_several },
	{ "an entry waits in an outage", entry_in_an_outage },
	{ "an event that is done unblocks its subject", done_unblocks },
	{ "the events of an entry delivered often are set aside", all_set_aside },
	{ "an event that waits behind another did not fail", behind_after_a_claim },
	{ "an entry that another consumer has claimed", aside_taken },
	{ "the group of aside:… is destroyed", aside_group_destroyed },
	{ "setting aside fails and is retried", setting_aside_fails },
	{ "unknown fields are kept", unknown_fields },
	{ "entries that are not events are bounded", not_events_are_bounded },
	{ "entries are bounded, and lag counts events", entries_are_bounded },
	{ "events aside are reported", aside_is_reported },
	{ "acknowledged with a command", acknowledged_with_a_command },
	{ "no command acknowledges an entry with a waiting event",
	  no_acknowledgement_while_one_waits },
	{ "an event aside is acknowledged", acknowledged_aside },
	{ "an entry is a unit", units },
	{ "stopping", stopping },
	{ "stopping with events aside", stopping_with_events_aside },
	{ "stopped by a handler", stopped_by_a_handler },
	{ "stopping at any moment", stopping_anywhere },
	{ "stopped before it started", stopped_before_started },
};

int main(void)
{
	rt_log_init("test", RT_INFO, false);
	rt_log_sink(on_log, NULL);
	return tests_run_each("events", setup, teardown, tests, RT_LENGTH(tests));
}
