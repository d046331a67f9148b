/* test_context.c - a context of a domain that the test makes up, on a Redis in memory: two subscriptions,
 * the queues of its store, and its end. It calls the functions of order. */
#include "context/context.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <string.h>

#include "run.h"
#include "sim/stored.h"

#define NOW INT64_C(1764000000000)

/* A read of a key of its state. */
struct get {
	struct rt_batch_item item;
	const char *field;
	int value, status, ends;
	void (*done)(struct get *get, int status);
};

struct state {
	struct rt_context *context;
	struct rt_store_queue *gets;
	char seen[2][64]; /* "<subject>/<seq> …" of each subscription */
	int starts, drains, stops, frees, trims;
	bool hold_at_stop;
};
static struct state state;

static struct fixture {
	struct rt_loop *loop;
	struct memory_redis *redis;
	struct memory_host host;
	struct rt_context *context;
	int stopped;
	int64_t delay_ms; /* of the commands called `slow` */
	const char *slow;
} f;

/* ---- the domain ---- */

static void get_begin(struct rt_store_run *run)
{
	rt_args_str(run->args, "HMGET");
	rt_args_str(run->args, run->user);
}

static void get_encode(struct rt_store_run *run, const void *op)
{
	rt_args_str(run->args, ((const struct get *)op)->field);
}

static int get_decode(struct rt_store_run *run, void *op, const struct redisReply *reply)
{
	struct get *get = op;

	(void)run;
	if (!rt_reply_is_string(reply))
		return RT_REMOTE;
	get->value = (int)rt_reply_int(reply);
	return RT_OK;
}

RT_STORE_END(get_end, struct get)

static const struct rt_store_step get_step = {
	.count_max = 2,
	.in_flight_max = 1,
	.waiting_max = 3,
	.begin = get_begin,
	.encode = get_encode,
	.decode = get_decode,
	.end = get_end,
};

static void note(struct rt_event *event, size_t subscription)
{
	char *seen = state.seen[subscription];
	size_t length = strlen(seen);

	snprintf(seen + length, sizeof(state.seen[0]) - length, "%s/%" PRIu64 "%s ", event->subject,
		 event->seq, event->partition == 0 ? "" : "@other");
	rt_event_ignore(event);
}

static void on_inventory_event(struct rt_event *event, void *user)
{
	CU_ASSERT_PTR_EQUAL(user, &state);
	note(event, 0);
}

static void on_archive_event(struct rt_event *event, void *user)
{
	CU_ASSERT_PTR_EQUAL(user, &state);
	note(event, 1);
}

static int make(struct rt_context *context, const void *options, void **ret_data)
{
	*ret_data = &state;
	CU_ASSERT_PTR_EQUAL(options, &f);
	state = (struct state){ .context = context };
	return rt_store_queue_new(context->partitions[0].store, &get_step,
				  (void *)(uintptr_t) "order:{0}:numbers", &state.gets);
}

static void start(void *user)
{
	((struct state *)user)->starts++;
}

static void stop(void *user)
{
	struct state *stopping = user;

	stopping->stops++;
	if (stopping->hold_at_stop)
		rt_context_hold(stopping->context);
}

static void state_free(void *user)
{
	((struct state *)user)->frees++;
}

static void on_trimmed(void *user, const struct rt_partition *partition)
{
	CU_ASSERT(partition->number >= 0);
	((struct state *)user)->trims++;
}

static const struct rt_context_domain domain = {
	.name = "order",
	.functions = &order_functions,
	.subscriptions = { { "inventory", on_inventory_event }, { "archive", on_archive_event } },
	.make = make,
	.start = start,
	.on_trimmed = on_trimmed,
	.stop = stop,
	.free = state_free,
};

/* ---- running ---- */

static int be_slow(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	(void)user;
	if (!io->after && f.slow != NULL && strcmp(io->what, f.slow) == 0)
		*delay_ms = f.delay_ms;
	return RT_OK;
}

static void setup(void)
{
	const struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
						    .trim_every_ms = 5000,
						    .stale_ms = 60000,
						    .domain_options = &f };

	f = (struct fixture){ .stopped = 0 };
	CU_ASSERT_FATAL(rt_loop_new_manual(NOW, 7, &f.loop) == RT_OK);
	f.redis = memory_redis_new(f.loop);
	stored_load(f.redis);
	memory_do(f.redis, "HSET", "order:{0}:numbers", "one", "1", "two", "2", "three", "3", NULL);
	memory_host_init(&f.host, f.redis, "order", be_slow, NULL);
	f.context = stored_context(&f.host, &domain, options, "c1");
	rt_loop_run_due(f.loop);
	rt_context_start(f.context);
	rt_loop_advance(f.loop, 100);
	CU_ASSERT_FATAL(rt_context_ready(f.context));
}

static void teardown(void)
{
	if (f.loop == NULL)
		return; /* the test itself did it */
	if (f.stopped == 0) {
		rt_context_stop(f.context, tests_count, &f.stopped);
		rt_loop_advance(f.loop, 10000);
	}
	CU_ASSERT_EQUAL(f.stopped, 1);
	rt_context_free(f.context);
	CU_ASSERT_EQUAL(state.frees, 1);
	memory_redis_free(f.redis);
	rt_loop_free(RT_TAKE(f.loop));
}

static void publish(const char *stream, const char *subject)
{
	stored_publish(f.redis, stream, NOW,
		       &(struct stored_event){ .type = "tandem.test.v1.Happened",
					       .subject = subject,
					       .seq = 1,
					       .data = "" });
}

static void get_ended(struct get *get, int status)
{
	get->status = status;
	get->ends++;
}

static void get_add(struct get *get, const char *field)
{
	*get = (struct get){ .field = field, .done = get_ended };
	rt_store_add(state.gets, get);
	CU_ASSERT_EQUAL(get->ends, 0); /* never before the submit has returned */
}

/* ---- tests ---- */

static void every_subscription_is_read(void)
{
	publish("inventory:{0}:events", "a");
	publish("archive:{0}:events", "b");
	publish("inventory:{0}:events", "c");
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_STRING_EQUAL(state.seen[0], "a/1 c/1 ");
	CU_ASSERT_STRING_EQUAL(state.seen[1], "b/1 ");
	CU_ASSERT_PTR_NULL(rt_context_unread(f.context));
	CU_ASSERT_EQUAL(state.starts, 1);
	CU_ASSERT_EQUAL(state.trims, 0);
	rt_loop_advance(f.loop, 10000);
	CU_ASSERT_EQUAL(state.trims, 2);
}

static void unread_stream_is_named(void)
{
	memory_do(f.redis, "DEL", "archive:{0}:events", NULL);
	memory_do(f.redis, "SET", "archive:{0}:events", "no stream", NULL);
	rt_loop_advance(f.loop, 10000);
	CU_ASSERT_FALSE(rt_context_ready(f.context));
	CU_ASSERT_STRING_EQUAL_FATAL(rt_context_unread(f.context), "archive:{0}:events");
	publish("inventory:{0}:events", "a");
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_STRING_EQUAL(state.seen[0], "a/1 ");
}

static void operations_share_commands(void)
{
	struct get gets[3];

	get_add(&gets[0], "one");
	get_add(&gets[1], "none");
	get_add(&gets[2], "three");
	rt_loop_advance(f.loop, 100);
	CU_ASSERT(gets[0].ends == 1 && gets[0].status == RT_OK && gets[0].value == 1);
	CU_ASSERT(gets[1].ends == 1 && gets[1].status == RT_REMOTE);
	CU_ASSERT(gets[2].ends == 1 && gets[2].status == RT_OK && gets[2].value == 3);
}

static void operations_beyond_the_bound(void)
{
	struct get gets[6];

	f.slow = "hmget";
	f.delay_ms = 1000;
	get_add(&gets[0], "one");
	rt_loop_advance(f.loop, 10); /* it is under way */
	for (size_t i = 1; i < 5; i++)
		get_add(&gets[i], "two");
	gets[5] = (struct get){ .field = "", .done = get_ended };
	rt_store_refuse(state.gets, &gets[5], RT_INVALID);
	rt_loop_run_due(f.loop);
	CU_ASSERT(gets[4].ends == 1 && gets[4].status == RT_BUSY);
	CU_ASSERT(gets[5].ends == 1 && gets[5].status == RT_INVALID);
	CU_ASSERT_EQUAL(gets[1].ends, 0);
	rt_loop_advance(f.loop, 5000);
	for (size_t i = 0; i < 4; i++)
		CU_ASSERT(gets[i].ends == 1 && gets[i].status == RT_OK);
}

/* Under way, waiting and refused: each ends once. */
static void freed_with_operations(void)
{
	struct get gets[5];

	rt_context_stop(f.context, tests_count, &f.stopped);
	rt_loop_advance(f.loop, 10000);
	f.slow = "hmget";
	f.delay_ms = 1000;
	get_add(&gets[0], "one");
	rt_loop_advance(f.loop, 10);
	for (size_t i = 1; i < 5; i++)
		get_add(&gets[i], "two");
	teardown();
	for (size_t i = 0; i < 5; i++)
		CU_ASSERT(gets[i].ends == 1 && gets[i].status == RT_CANCELED);
}

static void stop_waits_for_holds(void)
{
	state.hold_at_stop = true;
	rt_context_stop(f.context, tests_count, &f.stopped);
	CU_ASSERT_EQUAL(state.stops, 1);
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_EQUAL(f.stopped, 0);
	rt_context_hold(f.context);
	rt_context_release(f.context);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(f.stopped, 0);
	rt_context_release(f.context);
	CU_ASSERT_EQUAL(f.stopped, 0); /* never from within the release */
	rt_context_hold(f.context);    /* by a callback of the same turn */
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL(f.stopped, 0);
	rt_context_release(f.context);
	rt_loop_run_due(f.loop);
}

/* ---- the start ---- */

static struct begun {
	struct rt_task changed;
	struct rt_context *context;
	int commands, reported;
	bool ready;
} begun;

static int count_commands(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	(void)user;
	(void)delay_ms;
	begun.commands += !io->after;
	return RT_OK;
}

static void on_changed(struct rt_task *task)
{
	(void)task;
	begun.reported++;
	begun.ready = rt_context_ready(begun.context);
}

/* It sends nothing before it is connected, so nothing fails and waits for a retry: it is ready, and reports it, as
 * soon as it is connected, without any time passing. */
static void it_waits_for_the_connection_and_is_ready_with_it(void)
{
	const struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
						    .domain_options = &f,
						    .changed = &begun.changed };
	struct memory_host host;
	int stopped = f.stopped;

	begun = (struct begun){ .changed.run = on_changed };
	memory_host_init(&host, f.redis, "order", count_commands, NULL);
	host.away = true;
	begun.context = stored_context(&host, &domain, options, "c2");
	rt_context_start(begun.context);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(begun.commands, 0);
	CU_ASSERT_FALSE(rt_context_ready(begun.context));
	begun.reported = 0;
	memory_host_back(&host);
	for (int turn = 0; turn < 50; turn++)
		rt_loop_run_due(f.loop);
	CU_ASSERT(begun.commands > 0);
	CU_ASSERT(begun.reported > 0);
	CU_ASSERT_TRUE(begun.ready);
	/* The same when the connection is lost: it reports that, and waits again. */
	memory_host_cut(&host, true);
	rt_loop_advance(f.loop, 5000);
	CU_ASSERT_FALSE(begun.ready);
	begun.commands = 0;
	rt_loop_advance(f.loop, 5000);
	CU_ASSERT_EQUAL(begun.commands, 0);
	/* It stops while it waits. */
	rt_context_stop(begun.context, tests_count, &f.stopped);
	rt_loop_advance(f.loop, 100);
	CU_ASSERT_EQUAL(f.stopped, stopped + 1);
	f.stopped = stopped;
	rt_context_free(begun.context);
	state.frees = 0;
	state.context = f.context;
}

/* ---- partitions ---- */

/* Ends the fixture's context, and begins one with so many partitions, on `data`: what is there, nothing, or what an
 * earlier version left. */
enum data { DATA_KEPT, DATA_NONE, DATA_EARLIER };
static void begin_again(int partition_count, enum data data)
{
	const struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
						    .partition_count = partition_count,
						    .trim_every_ms = 5000,
						    .stale_ms = 60000,
						    .domain_options = &f };

	if (f.stopped == 0)
		rt_context_stop(f.context, tests_count, &f.stopped);
	rt_loop_advance(f.loop, 10000);
	rt_context_free(f.context);
	f.stopped = 0;
	if (data != DATA_KEPT)
		memory_do(f.redis, "DEL", "order:{0}:partitions", "order:{0}:events", NULL);
	if (data == DATA_EARLIER)
		publish("order:{0}:events", "a");
	f.context = stored_context(&f.host, &domain, options, "c1");
	rt_context_start(f.context);
	rt_loop_advance(f.loop, 100);
}

/* Each partition's streams are read, and its own is trimmed. */
static void partitions_are_read_and_trimmed(void)
{
	begin_again(4, DATA_NONE);
	CU_ASSERT_TRUE(rt_context_ready(f.context));
	publish("inventory:{0}:events", "a");
	publish("inventory:{3}:events", "b");
	publish("archive:{2}:events", "c");
	rt_loop_advance(f.loop, 100);
	CU_ASSERT_STRING_EQUAL(state.seen[0], "a/1 b/1@other ");
	CU_ASSERT_STRING_EQUAL(state.seen[1], "c/1@other ");
	rt_loop_advance(f.loop, 5000);
	CU_ASSERT_EQUAL(state.trims, 4);
	memory_do(f.redis, "DEL", "archive:{2}:events", NULL);
	memory_do(f.redis, "SET", "archive:{2}:events", "no stream", NULL);
	rt_loop_advance(f.loop, 10000);
	/* One that cannot be served leaves the others; at the start it must be there. */
	CU_ASSERT_EQUAL(rt_context_served(f.context), 3);
	CU_ASSERT_TRUE(rt_context_ready(f.context));
	CU_ASSERT_PTR_NULL(rt_context_unread(f.context));
	CU_ASSERT_PTR_NULL(rt_context_problem(f.context));
	begin_again(4, DATA_KEPT);
	CU_ASSERT_FALSE(rt_context_ready(f.context));
	CU_ASSERT_STRING_EQUAL_FATAL(rt_context_unread(f.context), "archive:{2}:events");
}

/* The first start fixes the number; data of earlier versions has one partition. */
static void another_number_of_partitions_is_a_mismatch(void)
{
	CU_ASSERT_FALSE(rt_context_mismatch(f.context));
	begin_again(4, DATA_NONE);
	CU_ASSERT_FALSE(rt_context_mismatch(f.context));
	begin_again(2, DATA_KEPT);
	CU_ASSERT_TRUE(rt_context_mismatch(f.context));
	CU_ASSERT_FALSE(rt_context_ready(f.context));
	CU_ASSERT_PTR_NOT_NULL_FATAL(rt_context_problem(f.context));
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_context_problem(f.context),
				      "has 4 partitions, and this service is set to 2"));
	begin_again(2, DATA_EARLIER);
	CU_ASSERT_TRUE(rt_context_mismatch(f.context));
	begin_again(1, DATA_KEPT);
	CU_ASSERT_FALSE(rt_context_mismatch(f.context));
}

static void a_number_must_be_a_power_of_two(void)
{
	struct rt_context_options options = { .redis = &f.host.options,
					      .events = { RT_EVENTS_DEFAULTS },
					      .domain_options = &f };
	struct rt_context *context;

	for (int count = 3; count < 4000; count = 2 * count + 1) {
		options.partition_count = count;
		CU_ASSERT_EQUAL(rt_context_new(f.loop, &domain, &options, &context), RT_INVALID);
	}
	options.partition_count = 2 * RT_PARTITIONS_MAX;
	CU_ASSERT_EQUAL(rt_context_new(f.loop, &domain, &options, &context), RT_INVALID);
}

static const struct test tests[] = {
	{ "each partition's streams are read, its own is trimmed",
	  partitions_are_read_and_trimmed },
	{ "another number of partitions is a mismatch",
	  another_number_of_partitions_is_a_mismatch },
	{ "the number of partitions is a power of two", a_number_must_be_a_power_of_two },
	{ "every subscription is read", every_subscription_is_read },
	{ "a stream that cannot be read is named", unread_stream_is_named },
	{ "operations share commands", operations_share_commands },
	{ "operations beyond the bound end busy", operations_beyond_the_bound },
	{ "freed with operations under way", freed_with_operations },
	{ "a stop waits until nothing holds the context", stop_waits_for_holds },
	{ "it waits for the connection and is ready with it",
	  it_waits_for_the_connection_and_is_ready_with_it },
};

TESTS_MAIN_EACH("context", setup, teardown, tests)
