/* test_watch.c - waiters for orders, on a store that answers reads when the test decides: how many reads
 * are under way at a time, and in what order; waiters that are woken by a move of this instance, by the
 * tail, and by both. */
#include <string.h>

#include "loop/loop.h"
#include "order/watch.h"
#include "run.h"

#define MANY      10000
#define PARTITION 3

/* A store that can be read and followed only, in place of store_redis.c. */
struct order_store {
	struct rt_loop *loop;
	struct order_get_op *gets[MANY + 1]; /* under way, oldest first */
	size_t get_count, get_most, get_total;
	struct order_tail_op *tail;
	unsigned heard; /* entries of the stream */
	struct rt_task interrupt;
	void (*published)(void *user, const char *before, const char *last);
	void *published_user;
};

struct waiter {
	struct order_waiter base;
	char order_id[ORDER_ID_LENGTH + 1];
	size_t woken, failed;
	size_t woken_at;   /* reads that had been answered by then */
	char versions[64]; /* "2r": version 2 came from a read, "2m": from a move here */
};

static struct fixture {
	struct rt_loop *loop;
	struct order_store store;
	struct order_watch *watch;
	struct waiter *waiters;
	int stopped;
} f;

void order_store_get(struct order_store *store, struct order_get_op *op)
{
	CU_ASSERT_FATAL(store->get_count <= MANY);
	CU_ASSERT_EQUAL(op->partition, PARTITION);
	store->gets[store->get_count++] = op;
	store->get_most = RT_MAX(store->get_most, store->get_count);
}

void order_store_on_published(struct order_store *store, int partition,
			      void (*published)(void *user, const char *before, const char *last),
			      void *user)
{
	CU_ASSERT_EQUAL(partition, PARTITION);
	store->published = published;
	store->published_user = user;
}

void order_store_tail(struct order_store *store, struct order_tail_op *op)
{
	CU_ASSERT_EQUAL(op->partition, PARTITION);
	store->tail = op;
}

static void tail_given_up(struct rt_task *task)
{
	struct order_store *store = RT_CONTAINER_OF(task, struct order_store, interrupt);
	struct order_tail_op *tail = RT_TAKE(store->tail);

	tail->done(tail, RT_CANCELED);
}

void order_store_tail_interrupt(struct order_store *store, int partition)
{
	CU_ASSERT_EQUAL(partition, PARTITION);
	store->interrupt.run = tail_given_up;
	rt_loop_defer(store->loop, &store->interrupt);
}

/* Answers the oldest read with this version of its order; unless `status` is RT_OK, it fails. */
static void answer_one(uint64_t version, int status)
{
	struct order_store *store = &f.store;
	struct order_get_op *op = store->gets[0];

	CU_ASSERT_FATAL(store->get_count > 0);
	store->get_count--;
	memmove(&store->gets[0], &store->gets[1], store->get_count * sizeof(store->gets[0]));
	store->get_total++;
	op->found = status == RT_OK;
	op->record = (struct order_record){ .order_id = op->order_id, .version = version };
	op->done(op, status);
}

/* Answers until no read is under way; returns how many it answered. */
static size_t answer_all(uint64_t version)
{
	size_t before = f.store.get_total;

	while (f.store.get_count > 0)
		answer_one(version, RT_OK);
	return f.store.get_total - before;
}

/* The tail begins at the end of the stream. */
static void tail_begins(void)
{
	struct order_tail_op *tail = RT_TAKE(f.store.tail);

	CU_ASSERT_FATAL(tail != NULL && strcmp(tail->after, "$") == 0);
	f.store.heard = 1;
	snprintf(tail->last, sizeof(tail->last), "1-1");
	tail->entry_count = 0;
	tail->done(tail, RT_OK);
}

/* The read of the tail that is under way, or the next one. */
static struct order_tail_op *take_tail(void)
{
	for (int i = 0; i < 100 && f.store.tail == NULL; i++)
		rt_loop_advance(f.loop, 1);
	CU_ASSERT_FATAL(f.store.tail != NULL);
	return RT_TAKE(f.store.tail);
}

/* The tail reads an event of the order that another instance published. */
static void other_publishes(const struct waiter *waiter, uint64_t version)
{
	struct order_tail_op *tail = take_tail();
	struct order_tail_entry entry = { .subject = waiter->order_id, .seq = version };

	CU_ASSERT_FATAL(strcmp(tail->after, "$") != 0);
	snprintf(tail->last, sizeof(tail->last), "9-%u", ++f.store.heard);
	entry.stream_id = tail->last;
	tail->entries = &entry;
	tail->entry_count = 1;
	tail->done(tail, RT_OK);
}

static void note_version(struct waiter *waiter, uint64_t version, char how)
{
	size_t length = strlen(waiter->versions);

	snprintf(waiter->versions + length, sizeof(waiter->versions) - length, "%u%c",
		 (unsigned)version, how);
}

static void on_order(struct order_waiter *base, const struct order_record *record)
{
	struct waiter *waiter = RT_CONTAINER_OF(base, struct waiter, base);

	CU_ASSERT_FATAL(record != NULL);
	CU_ASSERT_STRING_EQUAL(record->order_id, waiter->order_id);
	waiter->woken++;
	waiter->woken_at = f.store.get_total;
	note_version(waiter, record->version, 'r');
}

static void on_moved(struct order_waiter *base, const struct order_move_op *move)
{
	struct waiter *waiter = RT_CONTAINER_OF(base, struct waiter, base);

	CU_ASSERT_STRING_EQUAL(move->order_id, waiter->order_id);
	CU_ASSERT_PTR_NOT_NULL(move->history);
	note_version(waiter, move->version, 'm');
}

static void on_failed(struct order_waiter *base, int status)
{
	(void)status;
	RT_CONTAINER_OF(base, struct waiter, base)->failed++;
}

static void on_stop(struct order_waiter *base)
{
	order_watch_remove(f.watch, base);
}

static void add(size_t i, bool read)
{
	CU_ASSERT_TRUE_FATAL(
		order_watch_add(f.watch, &f.waiters[i].base, f.waiters[i].order_id, 1, read));
}

static void setup(void)
{
	f = (struct fixture){ .stopped = 0 };
	CU_ASSERT_FATAL(rt_loop_new_manual(INT64_C(1764000000000), 7, &f.loop) == RT_OK);
	f.store.loop = f.loop;
	f.watch = order_watch_new(f.loop, &f.store, PARTITION, MANY, NULL);
	f.waiters = rt_alloc(MANY * sizeof(*f.waiters));
	for (size_t i = 0; i < MANY; i++) {
		struct waiter *waiter = &f.waiters[i];

		snprintf(waiter->order_id, sizeof(waiter->order_id), "ord_%026zu", i);
		waiter->base.on_order = on_order;
		waiter->base.on_failed = on_failed;
		waiter->base.on_stop = on_stop;
	}
}

static void teardown(void)
{
	order_watch_stop(f.watch, tests_count, &f.stopped);
	rt_loop_run_due(f.loop);
	while (f.store.get_count > 0)
		answer_one(2, RT_CANCELED);
	CU_ASSERT_EQUAL_FATAL(f.stopped, 1);
	order_watch_free(f.watch);
	free(f.waiters);
	rt_loop_free(f.loop);
}

/* 10 000 wait for orders that have no events. */
static void many_wait(void)
{
	for (size_t i = 0; i < MANY; i++)
		add(i, false);
	tail_begins();
	CU_ASSERT_EQUAL(answer_all(1), MANY);
	f.store.get_most = 0;
}

static void one_waits(void)
{
	add(0, false);
	tail_begins();
	answer_all(1);
}

/* The tail begins, or begins again after an outage; clients come; a sweep. */
static void test_few_at_a_time(void)
{
	for (size_t i = 0; i < MANY; i++)
		add(i, i % 2 == 0);
	CU_ASSERT(f.store.get_count > 0);
	tail_begins();
	CU_ASSERT(answer_all(2) >= MANY);
	CU_ASSERT(f.store.get_most <= ORDER_WATCH_READS_MAX);
	for (size_t i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(f.waiters[i].woken, 1);
	for (int sweep = 0; sweep < 3; sweep++) {
		/* Each once: a sweep does not add orders that still wait to be read. */
		rt_loop_advance(f.loop, 5500);
		CU_ASSERT_EQUAL(answer_all(2), MANY);
	}
	CU_ASSERT(f.store.get_most <= ORDER_WATCH_READS_MAX);
	CU_ASSERT(f.store.get_most > 1);
}

/* Redis has lost the newest version with a master: it is not asked for over and over, and what there is now is told. */
static void test_lost_version(void)
{
	struct waiter *waiter = &f.waiters[0];
	size_t before;

	one_waits();
	other_publishes(waiter, 3);
	CU_ASSERT_EQUAL(answer_all(3), 1);
	CU_ASSERT_STRING_EQUAL(waiter->versions, "3r");
	before = f.store.get_total;
	other_publishes(waiter, 4); /* lost before it is read */
	answer_one(2, RT_OK);
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL(f.store.get_count, 0);
	CU_ASSERT_EQUAL(f.store.get_total, before + 1);
	CU_ASSERT_STRING_EQUAL(waiter->versions, "3r2r");
	other_publishes(waiter, 3);
	CU_ASSERT_EQUAL(answer_all(3), 1);
	CU_ASSERT_STRING_EQUAL(waiter->versions, "3r2r3r");
}

/* An order with an event is read soon, however many a sweep reads. */
static void test_events_before_sweep(void)
{
	struct waiter *last = &f.waiters[MANY - 1];
	size_t before;

	many_wait();
	rt_loop_advance(f.loop, 6000);
	before = f.store.get_total;
	other_publishes(last, 2);
	other_publishes(last, 2);
	while (last->woken == 0)
		answer_one(2, RT_OK);
	CU_ASSERT(last->woken_at - before <= 2 * ORDER_WATCH_READS_MAX + 2);
	CU_ASSERT_EQUAL(answer_all(2) + last->woken_at - before, MANY);
}

/* The orders of a sweep are read, too, however many events come. */
static void test_sweep_beside_events(void)
{
	size_t stale = 0;

	many_wait();
	rt_loop_advance(f.loop, 6000);
	for (size_t i = 0; i < 4 * ORDER_WATCH_READS_MAX; i++) {
		other_publishes(&f.waiters[MANY - 1 - i % 500], 3 + i);
		if (strcmp(f.store.gets[0]->order_id, f.waiters[MANY - 500].order_id) < 0)
			stale++;
		answer_one(2, RT_OK);
	}
	CU_ASSERT(stale >= ORDER_WATCH_READS_MAX);
	answer_all(2);
	for (size_t i = 0; i < MANY; i++)
		CU_ASSERT(f.waiters[i].woken >= 1);
}

/* An event comes while its order is read: it is read once more, and once only. */
static void test_event_during_read(void)
{
	add(0, false);
	tail_begins();
	CU_ASSERT_EQUAL(f.store.get_count, 1);
	other_publishes(&f.waiters[0], 2);
	other_publishes(&f.waiters[0], 3);
	CU_ASSERT_EQUAL(f.store.get_count, 1);
	answer_one(1, RT_OK);
	CU_ASSERT_EQUAL(f.store.get_count, 1);
	answer_one(3, RT_OK);
	CU_ASSERT_EQUAL(f.store.get_count, 0);
	CU_ASSERT_EQUAL(f.waiters[0].woken, 1);
}

/* A waiter that goes before its order is read leaves nothing behind; the others are read. */
static void test_gone_before_read(void)
{
	many_wait();
	rt_loop_advance(f.loop, 6000);
	for (size_t i = 0; i < MANY; i += 2)
		order_watch_remove(f.watch, &f.waiters[i].base);
	CU_ASSERT(answer_all(2) <= MANY / 2 + ORDER_WATCH_READS_MAX);
	for (size_t i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(f.waiters[i].woken, i % 2);
	add(0, true);
	CU_ASSERT_EQUAL(answer_all(2), 1);
	CU_ASSERT_EQUAL(f.waiters[0].woken, 1);
}

/* A read of the tail ends with these: a foreign order's event at `id`, or nothing when it is NULL. */
static void tail_ends(const char *id, const char *last)
{
	struct order_tail_op *tail = take_tail();
	struct order_tail_entry entry = { .stream_id = id, .subject = "ord_other", .seq = 1 };

	snprintf(tail->last, sizeof(tail->last), "%s", last);
	tail->entries = &entry;
	tail->entry_count = id != NULL;
	tail->done(tail, RT_OK);
}

/* The position of the next read of the tail. */
static void expect_after(const char *after)
{
	f.store.tail = take_tail();
	CU_ASSERT_STRING_EQUAL(f.store.tail->after, after);
}

/* The stream is deleted and begins again before the position of the tail, or passes it unseen: all orders
 * with waiters are read. */
static void test_stream_begins_again(void)
{
	add(0, false);
	tail_begins();
	CU_ASSERT_EQUAL(answer_all(1), 1);
	/* Nothing comes, and the stream ends where it did. */
	rt_loop_advance(f.loop, 1000);
	tail_ends(NULL, "1-1");
	expect_after("$");
	tail_ends(NULL, "1-1");
	expect_after("1-1");
	CU_ASSERT_EQUAL(f.store.get_count, 0);
	/* Nothing comes, and it ends below. */
	rt_loop_advance(f.loop, 1000);
	tail_ends(NULL, "1-1");
	tail_ends(NULL, "0-7");
	expect_after("0-7");
	CU_ASSERT_EQUAL(answer_all(2), 1);
	CU_ASSERT_EQUAL(f.waiters[0].woken, 1);
	/* Others' events follow each other: no reason to read. */
	tail_ends("2-8", "2-8");
	CU_ASSERT_EQUAL(f.store.get_count, 0);
	/* An entry with a lower number than the last: entries before it were missed. */
	tail_ends("3-4", "3-4");
	CU_ASSERT_EQUAL(answer_all(3), 1);
	CU_ASSERT_EQUAL(f.waiters[0].woken, 2);
}

/* The store is away: each read fails, none is lost, and the stop does not wait for queued reads. */
static void test_outage(void)
{
	for (size_t i = 0; i < MANY; i++)
		add(i, true);
	for (size_t i = 0; i < MANY; i++)
		answer_one(0, RT_LOST);
	CU_ASSERT_EQUAL(f.store.get_count, 0);
	for (size_t i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(f.waiters[i].failed, 1);
	tail_begins();
	CU_ASSERT_EQUAL(f.store.get_count, ORDER_WATCH_READS_MAX);
}

/* This instance has moved the order; its answer came. */
static void moves(const struct waiter *waiter, uint64_t version, const char *history)
{
	const struct order_move_op move = { .order_id = waiter->order_id,
					    .outcome = ORDER_MOVED,
					    .version = version,
					    .history = history };

	order_watch_moved(f.watch, &move);
}

static void publish(const char *before, const char *last)
{
	f.store.published(f.store.published_user, before, last);
}

/* A waiter is woken by the answer of the move, once, whatever the tail and reads bring afterwards; one that
 * needs the record is woken by a read. */
static void test_woken_by_a_move(void)
{
	struct waiter *moved = &f.waiters[0], *reads = &f.waiters[1];

	moved->base.on_moved = on_moved;
	snprintf(reads->order_id, sizeof(reads->order_id), "%s", moved->order_id);
	add(0, false);
	add(1, false);
	CU_ASSERT_TRUE(order_watch_has(f.watch, moved->order_id));
	CU_ASSERT_FALSE(order_watch_has(f.watch, f.waiters[2].order_id));
	tail_begins();
	answer_all(1);
	moves(moved, 2, "placed@1-1 reserved+1-2");
	CU_ASSERT_STRING_EQUAL(moved->versions, "2m");
	CU_ASSERT_EQUAL(f.store.get_count, 1);
	other_publishes(moved, 2);
	CU_ASSERT_EQUAL(answer_all(2), 1);
	CU_ASSERT_STRING_EQUAL(moved->versions, "2m");
	CU_ASSERT_STRING_EQUAL(reads->versions, "2r");
	/* Another instance's version, then an own one, whose answer is late. */
	other_publishes(moved, 3);
	moves(moved, 2, "placed@1-1 reserved+1-2");
	CU_ASSERT_EQUAL(answer_all(3), 1);
	CU_ASSERT_STRING_EQUAL(moved->versions, "2m3r");
	CU_ASSERT_STRING_EQUAL(reads->versions, "2r3r");
	/* No history: the waiter came after the move was sent. */
	moves(moved, 4, NULL);
	CU_ASSERT_EQUAL(answer_all(4), 1);
	CU_ASSERT_STRING_EQUAL(moved->versions, "2m3r4r");
	/* A read from before the move does not override it. */
	order_watch_read(f.watch, &reads->base);
	moves(moved, 5, "placed@1-1 reserved+1-2");
	answer_one(4, RT_OK);
	CU_ASSERT_EQUAL(answer_all(5), 1);
	CU_ASSERT_STRING_EQUAL(moved->versions, "2m3r4r5m");
	CU_ASSERT_STRING_EQUAL(reads->versions, "2r3r4r4r5r");
}

/* A single instance does not read what it publishes, and reads the tail now and then, less often while
 * no waiter comes. */
static void test_alone(void)
{
	int64_t before_ms;

	one_waits();
	publish("1-1", "2-9");
	expect_after("2-9");
	CU_ASSERT_EQUAL(f.store.tail->block_ms, 0);
	/* An answer that was on its way brings nothing new when the read has its entries. */
	publish("2-9", "3-12");
	tail_ends("3-10", "3-12");
	publish("3-12", "3-14");
	expect_after("3-14");
	CU_ASSERT_EQUAL(f.store.tail->block_ms, 0);
	for (int i = 0; i < 6; i++)
		tail_ends(NULL, "3-14");
	before_ms = rt_loop_now(f.loop);
	expect_after("3-14");
	CU_ASSERT_EQUAL(rt_loop_now(f.loop) - before_ms, 80);
	tail_ends(NULL, "3-14");
	rt_loop_advance(f.loop, 1);
	add(1, false);
	before_ms = rt_loop_now(f.loop);
	expect_after("3-14");
	CU_ASSERT_EQUAL(rt_loop_now(f.loop) - before_ms, 5);
	CU_ASSERT_EQUAL(f.store.get_count, 0);
}

/* Entries missing between own ones are read at once: another instance publishes, or the answer to an own
 * batch was lost. From then on the tail blocks on the stream, until no other instance has published for long. */
static void test_with_others(void)
{
	one_waits();
	publish("1-1", "2-4");
	f.store.heard = 5;
	publish("2-6", "2-8");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.store.tail);
	CU_ASSERT_STRING_EQUAL(f.store.tail->after, "2-4");
	other_publishes(&f.waiters[0], 2);
	CU_ASSERT_EQUAL(answer_all(2), 1);
	CU_ASSERT_STRING_EQUAL(f.waiters[0].versions, "2r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f.store.tail);
	CU_ASSERT(f.store.tail->block_ms > 0);
	publish("9-6", "9-8");
	rt_loop_advance(f.loop, 10000);
	tail_ends("9-7", "9-8");
	expect_after("$");
	tail_ends(NULL, "9-8");
	publish("9-8", "9-9");
	expect_after("9-9");
	CU_ASSERT_EQUAL(f.store.tail->block_ms, 0);
	/* Nothing is published here, and a read finds others' entries. */
	tail_ends("9-10", "9-10");
	expect_after("9-10");
	CU_ASSERT(f.store.tail->block_ms > 0);
	/* The stream was deleted, and the own entries are the first. */
	answer_all(2);
	publish("0-0", "10-2");
	CU_ASSERT_EQUAL(answer_all(3), 1);
	CU_ASSERT_STRING_EQUAL(f.waiters[0].versions, "2r3r");
}

static const struct test tests[] = {
	{ "few orders are read at a time", test_few_at_a_time },
	{ "a version that was lost", test_lost_version },
	{ "an order with an event is read soon", test_events_before_sweep },
	{ "the orders of a sweep are read, too", test_sweep_beside_events },
	{ "an event comes while its order is read", test_event_during_read },
	{ "a stream that begins again is followed", test_stream_begins_again },
	{ "a waiter goes before its order is read", test_gone_before_read },
	{ "the store is away", test_outage },
	{ "a move wakes waiters", test_woken_by_a_move },
	{ "a single instance does not read its own entries", test_alone },
	{ "others' entries are read", test_with_others },
};

TESTS_MAIN_EACH("watch", setup, teardown, tests)
