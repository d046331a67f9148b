/* The loop, both kinds: what runs when and in which order. */
#include "loop/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"

static struct rt_loop *loop; /* of the test, which its suite makes */

/* What happened, a letter each, in order. */
static char story[256];

static void record(char letter)
{
	size_t length = strlen(story);

	if (length + 1 < sizeof(story))
		story[length] = letter;
}

struct actor {
	char letter;
	struct rt_timer timer;
	struct rt_task task;
	int times;          /* runs again so often, at once */
	bool stops;         /* the loop, at last */
	struct actor *also; /* freed, stopped or started by this one */
	void (*again)(struct rt_loop *loop, struct rt_task *task); /* a task's */
};

static void timer_fired(struct rt_timer *timer)
{
	struct actor *actor = RT_CONTAINER_OF(timer, struct actor, timer);

	record(actor->letter);
	if (actor->times-- > 0)
		rt_timer_start(loop, timer, 0, timer_fired);
	else if (actor->stops)
		rt_loop_stop(loop);
}

static void task_ran(struct rt_task *task)
{
	struct actor *actor = RT_CONTAINER_OF(task, struct actor, task);

	record(actor->letter);
	if (actor->times-- > 0)
		actor->again(loop, task);
	else if (actor->stops)
		rt_loop_stop(loop);
}

static void setup_manual(void)
{
	memset(story, 0, sizeof(story));
	CU_ASSERT_EQUAL_FATAL(rt_loop_new_manual(1000000, 1, &loop), RT_OK);
}

static void setup_real(void)
{
	memset(story, 0, sizeof(story));
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&loop), RT_OK);
}

static void teardown(void)
{
	rt_loop_free(loop);
}

/* Runs the loop for a while: to see that something does not happen again. */
static void run_for(int64_t ms)
{
	struct actor end = { .letter = '.', .stops = true };

	rt_timer_start(loop, &end.timer, ms, timer_fired);
	rt_loop_run(loop);
}

/* ---- manual ---- */

static void timers_in_order(void)
{
	struct actor actors[] = {
		{ .letter = 'd' }, { .letter = 'b' }, { .letter = 'a' }, { .letter = 'c' }
	};
	static const int64_t delays[] = { 30, 20, 10, 20 };

	for (size_t i = 0; i < RT_LENGTH(actors); i++)
		rt_timer_start(loop, &actors[i].timer, delays[i], timer_fired);
	CU_ASSERT_EQUAL(rt_loop_next_due(loop), rt_loop_now(loop) + 10);
	rt_loop_advance(loop, 9);
	CU_ASSERT_STRING_EQUAL(story, "");
	rt_loop_advance(loop, 1);
	CU_ASSERT_STRING_EQUAL(story, "a");
	CU_ASSERT(!rt_timer_running(&actors[2].timer));
	CU_ASSERT(rt_timer_running(&actors[0].timer));
	rt_loop_advance(loop, 100);
	CU_ASSERT_STRING_EQUAL(story, "abcd");
	CU_ASSERT_EQUAL(rt_loop_next_due(loop), INT64_MAX);
}

static void timer_stopped(void)
{
	struct actor a = { .letter = 'a' }, b = { .letter = 'b' };

	rt_timer_stop(loop, &a.timer); /* never started: no harm */
	rt_timer_start(loop, &a.timer, 5, timer_fired);
	rt_timer_start(loop, &b.timer, 5, timer_fired);
	rt_timer_start(loop, &b.timer, 50, timer_fired); /* restarted: the later time counts */
	rt_timer_stop(loop, &a.timer);
	rt_loop_advance(loop, 20);
	CU_ASSERT_STRING_EQUAL(story, "");
	rt_loop_advance(loop, 30);
	CU_ASSERT_STRING_EQUAL(story, "b");
}

static void timer_far_and_negative(void)
{
	struct actor never = { .letter = 'n' }, now = { .letter = 'j' };

	rt_timer_start(loop, &never.timer, INT64_MAX, timer_fired);
	rt_timer_start(loop, &now.timer, -7, timer_fired);
	rt_loop_run_due(loop);
	CU_ASSERT_STRING_EQUAL(story, "j");
	CU_ASSERT_EQUAL(rt_loop_next_due(loop), INT64_MAX);
	rt_timer_stop(loop, &never.timer);
}

/* Fires at random, stops at random; a plain array of what should be running judges. */
static void heap_against_array(void)
{
	enum { COUNT = 200 };
	static struct actor actors[COUNT];
	int running = 0;

	memset(actors, 0, sizeof(actors));
	for (int step = 0; step < 20000; step++) {
		struct actor *actor = &actors[rt_loop_random(loop, COUNT)];
		int64_t earliest = INT64_MAX;

		if (rt_loop_random(loop, 3) == 0)
			rt_timer_stop(loop, &actor->timer);
		else
			rt_timer_start(loop, &actor->timer, (int64_t)rt_loop_random(loop, 500),
				       timer_fired);
		if (step % 10 == 0)
			rt_loop_advance(loop, (int64_t)rt_loop_random(loop, 20));
		for (int i = 0; i < COUNT; i++) {
			if (rt_timer_running(&actors[i].timer))
				earliest = RT_MIN(earliest, actors[i].timer.due_ms);
		}
		if (earliest != rt_loop_next_due(loop)) {
			CU_FAIL("the heap's first is not the earliest");
			break;
		}
	}
	for (int i = 0; i < COUNT; i++) {
		running += rt_timer_running(&actors[i].timer);
		rt_timer_stop(loop, &actors[i].timer);
	}
	CU_ASSERT(running > 0);
	CU_ASSERT_EQUAL(rt_loop_next_due(loop), INT64_MAX);
}

static void timer_frees_itself_and_another(struct rt_timer *timer)
{
	struct actor *actor = RT_CONTAINER_OF(timer, struct actor, timer);

	record(actor->letter);
	rt_timer_stop(loop, &actor->also->timer);
	free(actor->also);
	free(actor);
}

static void timer_memory(void)
{
	struct actor *a = rt_alloc(sizeof(*a)), *b = rt_alloc(sizeof(*b));

	*a = (struct actor){ .letter = 'a', .also = b };
	*b = (struct actor){ .letter = 'b' };
	rt_timer_start(loop, &a->timer, 1, timer_frees_itself_and_another);
	rt_timer_start(loop, &b->timer, 1, timer_fired);
	rt_loop_advance(loop, 10);
	CU_ASSERT_STRING_EQUAL(story, "a");
}

/* Timers, posted, deferred; what comes again comes in the next turn. */
static void order_in_a_turn(void)
{
	struct actor timer = { .letter = 't', .times = 1 };
	struct actor posted = { .letter = 'p' }, posted_next = { .letter = 'q' };
	struct actor deferred = { .letter = 'd', .times = 2, .again = rt_loop_defer };

	rt_loop_defer(loop, &deferred.task);
	deferred.task.run = task_ran;
	rt_loop_defer(loop, &deferred.task); /* already: nothing */
	posted.task.run = posted_next.task.run = task_ran;
	rt_loop_post(loop, &posted.task);
	rt_loop_post(loop, &posted_next.task);
	rt_timer_start(loop, &timer.timer, 0, timer_fired);
	rt_loop_run_due(loop);
	CU_ASSERT_STRING_EQUAL(story, "tpqdtdd");
}

static void task_writes(struct rt_task *task)
{
	struct actor *actor = RT_CONTAINER_OF(task, struct actor, task);

	record(actor->letter);
	rt_loop_defer_last(loop, &actor->also->task);
}

/* Last tasks run once, in the turn of the tasks that defer them, and may be deferred again. */
static void last_tasks_of_a_turn(void)
{
	struct actor early = { .letter = 'e' };
	struct actor written = { .letter = 'w', .times = 1, .again = rt_loop_defer_last };
	struct actor one = { .letter = '1', .also = &written };
	struct actor two = { .letter = '2', .also = &written };
	struct actor timer = { .letter = 't', .times = 1 };

	early.task.run = written.task.run = task_ran;
	one.task.run = two.task.run = task_writes;
	rt_loop_defer_last(loop, &early.task);
	rt_loop_defer(loop, &one.task);
	rt_loop_defer(loop, &two.task);
	rt_timer_start(loop, &timer.timer, 0, timer_fired);
	rt_loop_run_due(loop);
	CU_ASSERT_STRING_EQUAL(story, "t12ewtw");
}

static int64_t seen_now, seen_unix;

static void timer_looks(struct rt_timer *timer)
{
	(void)timer;
	seen_now = rt_loop_now(loop);
	seen_unix = rt_loop_unix_ms(loop);
}

static void clocks(void)
{
	int64_t start = rt_loop_now(loop);
	struct actor a = { 0 };

	CU_ASSERT_EQUAL(rt_loop_unix_ms(loop), 1000000);
	rt_timer_start(loop, &a.timer, 30, timer_looks);
	rt_loop_advance(loop, 100);
	CU_ASSERT_EQUAL(seen_now, start + 30);
	CU_ASSERT_EQUAL(seen_unix, 1000030);
	CU_ASSERT_EQUAL(rt_loop_now(loop), start + 100);
	rt_timer_start(loop, &a.timer, 10, timer_looks);
	rt_loop_jump(loop, -500000);
	CU_ASSERT_EQUAL(rt_loop_unix_ms(loop), 500100);
	rt_loop_advance(loop, 9);
	CU_ASSERT(rt_timer_running(&a.timer));
	rt_loop_advance(loop, 1);
	CU_ASSERT_EQUAL(seen_unix, 500110);
}

static void randomness(void)
{
	struct rt_loop *one = NULL, *same = NULL, *other = NULL;
	uint8_t a[21], b[21], c[21];
	int buckets[10] = { 0 };
	int even = 0;

	rt_loop_new_manual(0, 7, &one);
	rt_loop_new_manual(0, 7, &same);
	rt_loop_new_manual(0, 8, &other);
	for (int i = 0; i < 10000; i++) {
		uint64_t n = rt_loop_random(one, 10);

		CU_ASSERT_EQUAL_FATAL(n, rt_loop_random(same, 10));
		CU_ASSERT_FATAL(n < 10);
		buckets[n]++;
	}
	for (int i = 0; i < 10; i++)
		CU_ASSERT(buckets[i] > 800 && buckets[i] < 1200);
	CU_ASSERT_EQUAL(rt_loop_random(one, 1), 0);
	CU_ASSERT_EQUAL(rt_loop_random(same, 1), 0);
	/* Two thirds of the range: a plain remainder would make the lower half twice as likely. */
	for (int i = 0; i < 10000; i++)
		even += rt_loop_random(other, UINT64_MAX / 3 * 2) < UINT64_MAX / 3;
	CU_ASSERT(even > 4700 && even < 5300);
	rt_loop_random_bytes(one, a, sizeof(a));
	rt_loop_random_bytes(same, b, sizeof(b));
	rt_loop_random_bytes(other, c, sizeof(c));
	CU_ASSERT(memcmp(a, b, sizeof(a)) == 0);
	CU_ASSERT(memcmp(a, c, sizeof(a)) != 0);
	rt_loop_free(one);
	rt_loop_free(same);
	rt_loop_free(other);
}

static void never_ready(void *user, int events)
{
	(void)user;
	(void)events;
}

static void never_signalled(int signum, void *user)
{
	(void)signum;
	(void)user;
}

static void no_descriptors(void)
{
	struct rt_watch *watch = NULL;

	CU_ASSERT_EQUAL(rt_watch_new(loop, 0, never_ready, NULL, &watch), RT_INVALID);
	CU_ASSERT_EQUAL(rt_loop_on_signal(loop, SIGUSR1, never_signalled, NULL), RT_INVALID);
	CU_ASSERT_PTR_NULL(watch);
	CU_ASSERT_PTR_NULL(rt_loop_uv(loop));
}

/* ---- real ---- */

static void real_timers(void)
{
	struct actor a = { .letter = 'a' }, b = { .letter = 'b' }, gone = { .letter = 'g' };
	struct actor end = { .letter = 'e', .stops = true };
	int64_t start = rt_loop_now(loop);

	rt_timer_start(loop, &end.timer, 30, timer_fired);
	rt_timer_start(loop, &b.timer, 20, timer_fired);
	rt_timer_start(loop, &gone.timer, 5, timer_fired);
	rt_timer_start(loop, &a.timer, 10, timer_fired);
	rt_timer_stop(loop, &gone.timer); /* libuv's timer is set for it: fires for nothing */
	rt_loop_run(loop);
	CU_ASSERT_STRING_EQUAL(story, "abe");
	CU_ASSERT(rt_loop_now(loop) >= start + 30);
}

/* A timer of 0 that restarts itself must not keep posted tasks from their turn. */
static void timer_restarts(struct rt_timer *timer)
{
	struct actor *actor = RT_CONTAINER_OF(timer, struct actor, timer);

	actor->times++;
	rt_timer_start(loop, timer, 0, timer_restarts);
}

static void deferred_stops(struct rt_task *task)
{
	struct actor *actor = RT_CONTAINER_OF(task, struct actor, task);

	record(actor->letter);
	rt_timer_stop(loop, &actor->also->timer);
	rt_loop_stop(loop);
}

static void posted_defers(struct rt_task *task)
{
	struct actor *actor = RT_CONTAINER_OF(task, struct actor, task);

	record(actor->letter);
	actor->also->task.run = deferred_stops;
	rt_loop_defer(loop, &actor->also->task);
}

static void real_zero_timer(void)
{
	struct actor spinning = { 0 };
	struct actor end = { .letter = 'd', .also = &spinning };
	struct actor posted = { .letter = 'p', .also = &end };

	rt_timer_start(loop, &spinning.timer, 0, timer_restarts);
	posted.task.run = posted_defers;
	rt_loop_post(loop, &posted.task);
	rt_loop_run(loop);
	CU_ASSERT_STRING_EQUAL(story, "pd");
	CU_ASSERT(spinning.times >= 1);
}

/* Deferred by a timer: must run at the end of the turn, not after the next sleep. */
static void timer_defers(struct rt_timer *timer)
{
	struct actor *actor = RT_CONTAINER_OF(timer, struct actor, timer);

	record('t');
	actor->task.run = task_ran;
	rt_loop_defer(loop, &actor->task);
}

static void real_deferred_by_timer(void)
{
	struct actor a = { .letter = 'd', .times = 2, .again = rt_loop_defer };

	rt_timer_start(loop, &a.timer, 5, timer_defers);
	run_for(100);
	CU_ASSERT_STRING_EQUAL(story, "tddd.");
}

static void run_twice(void)
{
	struct actor a = { .letter = 'a', .task.run = task_ran, .stops = true };

	rt_loop_post(loop, &a.task); /* posted before the run: not lost */
	rt_loop_run(loop);
	rt_loop_post(loop, &a.task);
	rt_loop_run(loop);
	rt_loop_stop(loop); /* before the run: one turn, and back */
	rt_loop_run(loop);
	CU_ASSERT_STRING_EQUAL(story, "aa");
}

/* Posted while the loop runs posted tasks: no wake-up comes, the loop must look again before it
 * sleeps. A fault here hangs. */
static void posted_by_posted(void)
{
	struct actor a = { .letter = 'p',
			   .task.run = task_ran,
			   .times = 4,
			   .again = rt_loop_post,
			   .stops = true };

	rt_loop_post(loop, &a.task);
	rt_loop_run(loop);
	CU_ASSERT_STRING_EQUAL(story, "ppppp");
}

/* ---- posting from many threads ---- */

enum { POSTERS = 4, POSTS = 20000 };

struct poster {
	pthread_t thread;
	int next; /* the number of the post that comes next */
	atomic_int *left;
};

struct post {
	struct rt_task task;
	struct poster *poster;
	int number;
};

static bool out_of_order;

static void post_arrives(struct rt_task *task)
{
	struct post *post = RT_CONTAINER_OF(task, struct post, task);
	struct poster *poster = post->poster;

	if (post->number != poster->next++)
		out_of_order = true;
	free(post);
	if (atomic_fetch_sub(poster->left, 1) == 1)
		rt_loop_stop(loop);
}

static void *post_many(void *user)
{
	struct poster *poster = user;

	for (int i = 0; i < POSTS; i++) {
		struct post *post = rt_alloc(sizeof(*post));

		post->task.run = post_arrives;
		post->poster = poster;
		post->number = i;
		rt_loop_post(loop, &post->task);
		if (i % 64 == 0)
			usleep(1); /* lets the loop fall asleep, so that waking is tried, too */
	}
	return NULL;
}

static void many_posters(void)
{
	struct poster posters[POSTERS];
	atomic_int left = POSTERS * POSTS;

	out_of_order = false;
	for (int i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ .left = &left };
		CU_ASSERT_EQUAL_FATAL(
			pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
	}
	rt_loop_run(loop); /* a lost wake-up would hang here */
	for (int i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		CU_ASSERT_EQUAL(posters[i].next, POSTS);
	}
	CU_ASSERT_EQUAL(atomic_load(&left), 0);
	CU_ASSERT(!out_of_order);
}

/* One task is posted back and forth between two loops in two threads: each waits for the other's post,
 * so one lost wake-up hangs. */
struct pong {
	struct rt_loop *loops[2];
	struct rt_task task;
	int strokes;
};

static void stroke(struct rt_task *task)
{
	struct pong *pong = RT_CONTAINER_OF(task, struct pong, task);

	pong->strokes++;
	if (pong->strokes < 20000) {
		rt_loop_post(pong->loops[pong->strokes % 2], task);
		return;
	}
	rt_loop_stop(pong->loops[0]);
	rt_loop_stop(pong->loops[1]);
}

static void *run_loop(void *other)
{
	rt_loop_run(other);
	return NULL;
}

static void ping_pong(void)
{
	struct pong pong = { .loops = { loop }, .task = { .run = stroke } };
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&pong.loops[1]), RT_OK);
	rt_loop_post(loop, &pong.task);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, run_loop, pong.loops[1]), 0);
	rt_loop_run(loop);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(pong.strokes, 20000);
	rt_loop_free(pong.loops[1]);
}

/* ---- descriptors and signals ---- */

struct reader {
	struct rt_watch *watch;
	int fd;
	char got[32];
	int ended; /* the last result of read */
	int events;
};

static void reads(void *user, int events)
{
	struct reader *reader = user;
	char byte = 0;

	reader->events |= events;
	reader->ended = (int)read(reader->fd, &byte, 1);
	if (reader->ended == 1) {
		reader->got[strlen(reader->got)] = byte;
		return;
	}
	/* Freed in its own callback, descriptor closed at once. */
	rt_watch_free(reader->watch);
	close(reader->fd);
	rt_loop_stop(loop);
}

static void watch_reads(void)
{
	struct reader reader = { .ended = -2 };
	int fds[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	reader.fd = fds[0];
	CU_ASSERT_EQUAL_FATAL(rt_watch_new(loop, fds[0], reads, &reader, &reader.watch), RT_OK);
	rt_watch_set(reader.watch, RT_READABLE);
	CU_ASSERT_EQUAL(write(fds[1], "hello", 5), 5);
	close(fds[1]);
	rt_loop_run(loop);
	CU_ASSERT_STRING_EQUAL(reader.got, "hello");
	CU_ASSERT_EQUAL(reader.ended, 0);
}

struct writer {
	struct rt_watch *watch;
	int calls, events;
	int quiet_after; /* calls */
};

static void write_ready(void *user, int events)
{
	struct writer *writer = user;

	writer->calls++;
	writer->events |= events;
	if (writer->calls > writer->quiet_after)
		rt_watch_set(writer->watch, 0); /* quiet from now on */
}

static void watch_quiet(void)
{
	struct writer writer = { 0 };
	int fds[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	CU_ASSERT_EQUAL(rt_watch_new(loop, fds[0], write_ready, &writer, &writer.watch), RT_OK);
	rt_watch_set(writer.watch, RT_READABLE | RT_WRITABLE);
	run_for(20);
	CU_ASSERT_EQUAL(writer.calls, 1);
	CU_ASSERT_EQUAL(writer.events, RT_WRITABLE);
	rt_watch_free(writer.watch);
	/* The number may be watched again before the first watch is freed. */
	CU_ASSERT_EQUAL(rt_watch_new(loop, fds[0], write_ready, &writer, &writer.watch), RT_OK);
	rt_watch_set(writer.watch, RT_WRITABLE);
	run_for(20);
	CU_ASSERT_EQUAL(writer.calls, 2);
	rt_watch_free(writer.watch);
	close(fds[0]);
	close(fds[1]);
}

/* A pipe without a reader is an error without data: it must reach a watch for writing, each time
 * while it is watched. */
static void watch_error(void)
{
	struct writer writer = { .quiet_after = 2 };
	int fds[2];

	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	CU_ASSERT_EQUAL(rt_watch_new(loop, fds[1], write_ready, &writer, &writer.watch), RT_OK);
	rt_watch_set(writer.watch, RT_WRITABLE);
	close(fds[0]);
	run_for(20);
	CU_ASSERT_EQUAL(writer.calls, 3);
	CU_ASSERT_EQUAL(writer.events, RT_READABLE | RT_WRITABLE);
	rt_watch_free(writer.watch);
	close(fds[1]);
	CU_ASSERT_EQUAL(rt_watch_new(loop, -1, write_ready, &writer, &writer.watch), RT_SYSTEM);
}

static void signal_stops(int signum, void *user)
{
	record(signum == SIGUSR1 ? '1' : '?');
	(void)user;
	rt_loop_stop(loop);
}

static void timer_raises(struct rt_timer *timer)
{
	(void)timer;
	raise(SIGUSR1);
}

static void signals(void)
{
	struct actor a = { 0 };

	CU_ASSERT_EQUAL(rt_loop_on_signal(loop, SIGUSR1, signal_stops, NULL), RT_OK);
	rt_timer_start(loop, &a.timer, 1, timer_raises);
	rt_loop_run(loop);
	rt_timer_start(loop, &a.timer, 1, timer_raises);
	rt_loop_run(loop);
	CU_ASSERT_STRING_EQUAL(story, "11");
	CU_ASSERT_EQUAL(rt_loop_on_signal(loop, SIGKILL, signal_stops, NULL), RT_SYSTEM);
	rt_loop_free(NULL);
}

static const struct test manual[] = {
	{ "timers fire by time, then in the order started", timers_in_order },
	{ "a stopped timer does not fire, a restarted one once", timer_stopped },
	{ "delays below 0 and beyond the end of time", timer_far_and_negative },
	{ "the heap agrees with an array over 20000 random steps", heap_against_array },
	{ "a stopped timer's memory may be freed at once", timer_memory },
	{ "timers, posted, deferred; again means next turn", order_in_a_turn },
	{ "last tasks run after all deferred ones of the turn", last_tasks_of_a_turn },
	{ "clocks move timer by timer, the wall clock jumps alone", clocks },
	{ "random numbers are the seed's and fair", randomness },
	{ "a manual loop has no descriptors and no signals", no_descriptors },
};
static const struct test real[] = {
	{ "timers fire by time", real_timers },
	{ "a timer of 0 that restarts itself starves no task", real_zero_timer },
	{ "a task that a timer defers runs before the loop sleeps", real_deferred_by_timer },
	{ "posts and stops before a run count", run_twice },
	{ "a task that a posted task posts is run, too", posted_by_posted },
	{ "many threads post, each in its order, none lost", many_posters },
	{ "two loops post one task back and forth", ping_pong },
	{ "a watch reads, and is freed in its callback", watch_reads },
	{ "a quiet watch stays quiet, its number comes again", watch_quiet },
	{ "an error comes as readable and writable", watch_error },
	{ "signals arrive on the loop", signals },
};

int main(void)
{
	return tests_run_each("loop, manual", setup_manual, teardown, manual, RT_LENGTH(manual)) |
	       tests_run_each("loop, real", setup_real, teardown, real, RT_LENGTH(real));
}
