/* loop.c - the loop: timers, posted and deferred tasks, descriptors and signals, over libuv or
 * over a clock that a test drives.
 *
 * Timers live in a binary heap of our own and not in libuv's, because an embedded uv_timer_t must
 * stay where it is until its close callback, while what waits here is often freed in the very
 * call that stops its timer. libuv sees one timer: the earliest. It is set again only when an
 * earlier one comes; when it fires for one that was stopped meanwhile, nothing is due and it is
 * set for the next.
 *
 * Posted tasks are pushed onto a lock-free stack (many threads push, the loop takes it whole and
 * reverses it). Waking the loop costs a system call, so it happens only while the loop sleeps:
 *
 *   loop   prepare:  sleeping = true;  look at the stack; not empty: do not sleep
 *   others rt_loop_post: push;  was sleeping, and I am the first to notice: wake
 *
 * Both sides write first and read the other's variable second, all sequentially consistent, so one
 * of them always sees the other.
 *
 * A turn of libuv, and what hangs on it:
 *   timer → timers that are due;  prepare → posted tasks;  poll → descriptors (posted tasks that
 *   woke us go first);  check → deferred tasks. While a task is deferred an idle handle is
 *   active, which keeps the poll from sleeping. */
#include "loop.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <uv.h>

/* A manual loop that does not come to rest in so many turns never will. */
#define RUN_TURNS_MAX 10000000
/* Turns of deferred tasks that a loop still runs when it is freed. */
#define DEFERRED_TURNS_MAX 100
/* Not 0, so that no test passes because an unset time is 0, too. */
#define MANUAL_START_MS 1000

struct signal_watch {
	uv_signal_t handle;
	struct signal_watch *next;
	void (*on_signal)(int signum, void *user);
	void *user;
};

struct real_loop {
	uv_loop_t uv;
	uv_timer_t timer;
	uv_async_t wake;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_idle_t idle;
	int64_t armed_ms; /* what `timer` is set to; INT64_MAX: stopped */
	bool unix_is_followed;
	int64_t unix_offset_us; /* if so: of Unix time to the monotonic clock */
	bool running, firing;
	struct signal_watch *signals;
};

/* Tasks for the end of a turn, in order. */
struct deferred {
	struct rt_task *first, **end;
};

struct rt_loop {
	struct real_loop *real;  /* NULL: manual */
	int64_t now_ms, unix_ms; /* manual only */
	uint64_t random[4];      /* xoshiro256** */

	struct rt_timer **heap; /* [1 … timer_count] */
	size_t timer_count, timer_capacity;
	uint64_t serial; /* of the next timer started */

	_Atomic(struct rt_task *) posted; /* newest first */
	atomic_bool sleeping, stop;
	struct deferred deferred, deferred_last;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "loop: %s\n", what);
	abort();
}

/* ---- random numbers: xoshiro256**, seeded by splitmix64 (prng.di.unimi.it) ---- */

static void random_seed(uint64_t random[4], uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		random[i] = z ^ z >> 31;
	}
}

static uint64_t rotate(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static uint64_t random_next(uint64_t s[4])
{
	uint64_t result = rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return result;
}

static void kernel_random(void *bytes, size_t length)
{
	char *p = bytes;

	while (length > 0) {
		ssize_t n = getrandom(p, length, 0);

		if (n < 0)
			n = 0; /* EINTR: only possible for more than 256 bytes */
		p += n;
		length -= (size_t)n;
	}
}

uint64_t rt_loop_random(struct rt_loop *loop, uint64_t bound)
{
	uint64_t n, low;

	assert(bound > 0);
	low = -bound % bound; /* 2^64 mod bound: below it, numbers come once too often */
	do {
		n = random_next(loop->random);
	} while (n < low);
	return n % bound;
}

int64_t rt_loop_around(struct rt_loop *loop, int64_t ms)
{
	return ms * 3 / 4 + (int64_t)rt_loop_random(loop, (uint64_t)ms / 2 + 1);
}

void rt_loop_random_bytes(struct rt_loop *loop, void *bytes, size_t length)
{
	char *p = bytes;

	if (loop->real != NULL) {
		kernel_random(bytes, length);
		return;
	}
	while (length > 0) {
		uint64_t n = random_next(loop->random);
		size_t part = RT_MIN(length, sizeof(n));

		memcpy(p, &n, part);
		p += part;
		length -= part;
	}
}

/* ---- clocks ---- */

int64_t rt_loop_now(const struct rt_loop *loop)
{
	if (loop->real == NULL)
		return loop->now_ms;
	/* Nothing else reads the clock before the loop runs. */
	if (!loop->real->running)
		uv_update_time(&loop->real->uv);
	return (int64_t)uv_now(&loop->real->uv);
}

int64_t rt_loop_unix_ms(const struct rt_loop *loop)
{
	if (loop->real == NULL)
		return loop->unix_ms;
	if (loop->real->unix_is_followed)
		return (rt_monotonic_ns() / 1000 + loop->real->unix_offset_us) / 1000;
	return rt_wall_us() / 1000;
}

void rt_loop_set_unix(struct rt_loop *loop, int64_t offset_us)
{
	if (loop->real == NULL)
		return;
	loop->real->unix_is_followed = true;
	loop->real->unix_offset_us = offset_us;
}

/* ---- timers: a binary heap, earliest due first, of equal ones the one started first ---- */

static bool timer_before(const struct rt_timer *a, const struct rt_timer *b)
{
	return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->serial < b->serial);
}

static void heap_put(struct rt_loop *loop, size_t slot, struct rt_timer *timer)
{
	loop->heap[slot] = timer;
	timer->slot = slot;
}

/* Puts `timer` at `slot`, or above or below it as the order requires. */
static void heap_place(struct rt_loop *loop, size_t slot, struct rt_timer *timer)
{
	while (slot > 1 && timer_before(timer, loop->heap[slot / 2])) {
		heap_put(loop, slot, loop->heap[slot / 2]);
		slot /= 2;
	}
	for (;;) {
		size_t child = slot * 2;

		if (child > loop->timer_count)
			break;
		if (child < loop->timer_count &&
		    timer_before(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (!timer_before(loop->heap[child], timer))
			break;
		heap_put(loop, slot, loop->heap[child]);
		slot = child;
	}
	heap_put(loop, slot, timer);
}

static void on_uv_timer(uv_timer_t *handle);

/* Sets libuv's timer again if it would fire too late. */
static void arm(struct rt_loop *loop)
{
	struct real_loop *real = loop->real;
	int64_t due_ms, delay_ms;

	if (real == NULL || real->firing || loop->timer_count == 0)
		return;
	due_ms = loop->heap[1]->due_ms;
	if (due_ms >= real->armed_ms)
		return;
	real->armed_ms = due_ms;
	delay_ms = due_ms - (int64_t)uv_now(&real->uv);
	uv_timer_start(&real->timer, on_uv_timer, (uint64_t)RT_MAX(delay_ms, INT64_C(0)), 0);
}

void rt_timer_start(struct rt_loop *loop, struct rt_timer *timer, int64_t delay_ms,
		    void (*fire)(struct rt_timer *timer))
{
	int64_t now_ms = rt_loop_now(loop);

	rt_timer_stop(loop, timer);
	delay_ms = RT_MAX(delay_ms, INT64_C(0));
	timer->due_ms = delay_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + delay_ms;
	timer->serial = loop->serial++;
	timer->fire = fire;
	if (loop->timer_count + 1 >= loop->timer_capacity) {
		loop->timer_capacity = RT_MAX(loop->timer_capacity * 2, (size_t)64);
		loop->heap = rt_realloc(loop->heap, loop->timer_capacity * sizeof(loop->heap[0]));
	}
	heap_place(loop, ++loop->timer_count, timer);
	arm(loop);
}

void rt_timer_stop(struct rt_loop *loop, struct rt_timer *timer)
{
	size_t slot = timer->slot;
	struct rt_timer *last;

	if (slot == 0)
		return;
	timer->slot = 0;
	last = loop->heap[loop->timer_count--];
	if (last != timer)
		heap_place(loop, slot, last);
}

bool rt_timer_running(const struct rt_timer *timer)
{
	return timer->slot != 0;
}

static void on_idle(uv_idle_t *handle)
{
	(void)handle; /* it only has to be active */
}

/* Fires what is due. Those started meanwhile wait for the next turn, even with a delay of 0:
 * otherwise a timer that restarts itself would hold the turn for ever. */
static void fire_timers(struct rt_loop *loop)
{
	int64_t now_ms = rt_loop_now(loop);
	uint64_t serial = loop->serial;

	while (loop->timer_count > 0) {
		struct rt_timer *timer = loop->heap[1];

		if (timer->due_ms > now_ms || timer->serial >= serial)
			break;
		rt_timer_stop(loop, timer);
		timer->fire(timer);
	}
}

static void on_uv_timer(uv_timer_t *handle)
{
	struct rt_loop *loop = handle->data;

	loop->real->armed_ms = INT64_MAX;
	loop->real->firing = true;
	fire_timers(loop);
	loop->real->firing = false;
	if (rt_loop_next_due(loop) > rt_loop_now(loop)) {
		arm(loop);
		return;
	}
	/* libuv would fire a timer that is due at once again in this very turn, for ever if it
	 * goes on so: on_check sets this one, and the poll does not sleep until then. */
	uv_idle_start(&loop->real->idle, on_idle);
}

/* ---- tasks ---- */

void rt_loop_post(struct rt_loop *loop, struct rt_task *task)
{
	struct rt_task *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);

	do {
		task->next = head;
	} while (!atomic_compare_exchange_weak(&loop->posted, &head, task));
	/* The task may run, and its memory go, from here on. The loop itself stays until the
	 * poster is done: its owner joins the threads that post before freeing it. */
	if (atomic_load(&loop->sleeping) && atomic_exchange(&loop->sleeping, false))
		uv_async_send(&loop->real->wake);
}

static void run_posted(struct rt_loop *loop)
{
	struct rt_task *task, *in_order = NULL;

	if (atomic_load_explicit(&loop->posted, memory_order_relaxed) == NULL)
		return;
	task = atomic_exchange(&loop->posted, NULL);
	while (task != NULL) {
		struct rt_task *next = task->next;

		task->next = in_order;
		in_order = task;
		task = next;
	}
	while (in_order != NULL) {
		task = in_order;
		in_order = task->next; /* before it runs: its memory may go */
		task->run(task);
	}
}

static void defer(struct rt_loop *loop, struct deferred *list, struct rt_task *task)
{
	if (task->queued)
		return;
	task->queued = true;
	task->next = NULL;
	*list->end = task;
	list->end = &task->next;
	if (loop->real != NULL)
		uv_idle_start(&loop->real->idle, on_idle);
}

void rt_loop_defer(struct rt_loop *loop, struct rt_task *task)
{
	defer(loop, &loop->deferred, task);
}

void rt_loop_defer_last(struct rt_loop *loop, struct rt_task *task)
{
	defer(loop, &loop->deferred_last, task);
}

static bool has_deferred(const struct rt_loop *loop)
{
	return loop->deferred.first != NULL || loop->deferred_last.first != NULL;
}

static void deferred_clear(struct deferred *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static void run_list(struct deferred *list)
{
	struct rt_task *task = list->first;

	deferred_clear(list);
	while (task != NULL) {
		struct rt_task *next = task->next;

		task->queued = false;
		task->run(task);
		task = next;
	}
}

static void run_deferred(struct rt_loop *loop)
{
	run_list(&loop->deferred);
	run_list(&loop->deferred_last);
}

/* ---- the real loop ---- */

/* Called first by each callback of the poll: from here on, nobody needs to wake us. */
static void awake(struct rt_loop *loop)
{
	atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
	run_posted(loop);
}

static void on_wake(uv_async_t *handle)
{
	awake(handle->data);
}

static void on_prepare(uv_prepare_t *handle)
{
	struct rt_loop *loop = handle->data;

	run_posted(loop);
	rt_turn_begins();
	atomic_store(&loop->sleeping, true);
	if (atomic_load(&loop->posted) == NULL && !atomic_load(&loop->stop))
		return;
	/* Another thread posted before we slept, and may have seen us awake. */
	atomic_store(&loop->sleeping, false);
	uv_idle_start(&loop->real->idle, on_idle);
}

static void on_check(uv_check_t *handle)
{
	struct rt_loop *loop = handle->data;

	atomic_store_explicit(&loop->sleeping, false, memory_order_relaxed);
	run_deferred(loop);
	if (!has_deferred(loop))
		uv_idle_stop(&loop->real->idle);
	arm(loop);
	if (atomic_exchange(&loop->stop, false))
		uv_stop(&loop->real->uv);
}

static struct rt_loop *loop_alloc(uint64_t seed)
{
	struct rt_loop *loop = rt_alloc(sizeof(*loop));

	deferred_clear(&loop->deferred);
	deferred_clear(&loop->deferred_last);
	random_seed(loop->random, seed);
	return loop;
}

int rt_loop_new(struct rt_loop **ret)
{
	struct rt_loop *loop;
	struct real_loop *real;
	uint64_t seed;

	kernel_random(&seed, sizeof(seed));
	loop = loop_alloc(seed);
	real = rt_alloc(sizeof(*real));
	if (uv_loop_init(&real->uv) != 0) {
		free(real);
		free(loop);
		return RT_SYSTEM;
	}
	loop->real = real;
	real->armed_ms = INT64_MAX;
	real->timer.data = real->wake.data = real->prepare.data = real->check.data = loop;
	uv_timer_init(&real->uv, &real->timer);
	uv_prepare_init(&real->uv, &real->prepare);
	uv_check_init(&real->uv, &real->check);
	uv_idle_init(&real->uv, &real->idle);
	uv_prepare_start(&real->prepare, on_prepare);
	uv_check_start(&real->check, on_check);
	/* Last, because it needs a descriptor and can fail: then there is little to undo. */
	if (uv_async_init(&real->uv, &real->wake, on_wake) != 0) {
		uv_prepare_stop(&real->prepare);
		rt_loop_free(loop);
		return RT_SYSTEM;
	}
	*ret = loop;
	return RT_OK;
}

int rt_loop_new_manual(int64_t unix_ms, uint64_t seed, struct rt_loop **ret)
{
	struct rt_loop *loop = loop_alloc(seed);

	loop->now_ms = MANUAL_START_MS;
	loop->unix_ms = unix_ms;
	*ret = loop;
	return RT_OK;
}

static void close_handle(uv_handle_t *handle, void *unused)
{
	(void)unused;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void rt_loop_free(struct rt_loop *loop)
{
	struct real_loop *real;

	if (loop == NULL)
		return;
	assert(loop->timer_count == 0);
	/* What was freed while its task was deferred is freed by that task. */
	for (int i = 0; i < DEFERRED_TURNS_MAX && has_deferred(loop); i++)
		run_deferred(loop);
	real = loop->real;
	if (real != NULL) {
		/* Watches that are closing still have their callbacks to run. */
		uv_walk(&real->uv, close_handle, NULL);
		uv_run(&real->uv, UV_RUN_DEFAULT);
		if (uv_loop_close(&real->uv) != 0)
			die("freed with handles in it");
		while (real->signals != NULL) {
			struct signal_watch *next = real->signals->next;

			free(real->signals);
			real->signals = next;
		}
		free(real);
	}
	free(loop->heap);
	free(loop);
}

void rt_loop_run(struct rt_loop *loop)
{
	struct real_loop *real = loop->real;

	if (real == NULL)
		die("a manual loop cannot run by itself");
	uv_update_time(&real->uv);
	real->running = true;
	uv_run(&real->uv, UV_RUN_DEFAULT);
	real->running = false;
}

void rt_loop_stop(struct rt_loop *loop)
{
	atomic_store(&loop->stop, true);
	if (loop->real != NULL)
		uv_async_send(&loop->real->wake);
}

struct uv_loop_s *rt_loop_uv(struct rt_loop *loop)
{
	return loop->real == NULL ? NULL : &loop->real->uv;
}

/* ---- the manual loop ---- */

int64_t rt_loop_next_due(const struct rt_loop *loop)
{
	return loop->timer_count == 0 ? INT64_MAX : loop->heap[1]->due_ms;
}

void rt_loop_run_due(struct rt_loop *loop)
{
	for (int turn = 0; turn < RUN_TURNS_MAX; turn++) {
		if (rt_loop_next_due(loop) > loop->now_ms && !has_deferred(loop) &&
		    atomic_load(&loop->posted) == NULL)
			return;
		rt_turn_begins();
		fire_timers(loop);
		run_posted(loop);
		run_deferred(loop);
	}
	die("a manual loop does not come to rest");
}

static void move_clocks(struct rt_loop *loop, int64_t to_ms)
{
	loop->unix_ms += to_ms - loop->now_ms;
	loop->now_ms = to_ms;
}

void rt_loop_advance(struct rt_loop *loop, int64_t ms)
{
	int64_t target_ms = loop->now_ms + ms;

	assert(loop->real == NULL && ms >= 0);
	rt_loop_run_due(loop);
	while (rt_loop_next_due(loop) <= target_ms) {
		move_clocks(loop, rt_loop_next_due(loop));
		rt_loop_run_due(loop);
	}
	move_clocks(loop, target_ms);
}

void rt_loop_jump(struct rt_loop *loop, int64_t ms)
{
	assert(loop->real == NULL);
	loop->unix_ms += ms;
}

/* ---- descriptors ---- */

struct rt_watch {
	uv_poll_t handle;
	struct rt_loop *loop;
	void (*on_ready)(void *user, int events);
	void *user;
	int events; /* wanted */
};

static void on_poll(uv_poll_t *handle, int status, int uv_events);

static void watch_arm(struct rt_watch *watch)
{
	int events = (watch->events & RT_READABLE ? UV_READABLE : 0) |
		     (watch->events & RT_WRITABLE ? UV_WRITABLE : 0);

	if (events == 0)
		uv_poll_stop(&watch->handle);
	else
		uv_poll_start(&watch->handle, events, on_poll);
}

static void on_poll(uv_poll_t *handle, int status, int uv_events)
{
	struct rt_watch *watch = handle->data;
	int events = (uv_events & UV_READABLE ? RT_READABLE : 0) |
		     (uv_events & UV_WRITABLE ? RT_WRITABLE : 0);

	awake(watch->loop); /* posted tasks run first, and may close or stop this one */
	if (uv_is_closing((uv_handle_t *)handle) || watch->events == 0)
		return;
	if (status < 0)
		events = RT_READABLE | RT_WRITABLE;
	watch->on_ready(watch->user, events);
	/* libuv stops a handle that saw an error. For us it stays on: the owner reads the error
	 * and frees the watch, which stays readable for us until its close callback. */
	if (status < 0 && !uv_is_closing((uv_handle_t *)handle))
		watch_arm(watch);
}

int rt_watch_new(struct rt_loop *loop, int fd, void (*on_ready)(void *user, int events), void *user,
		 struct rt_watch **ret)
{
	struct rt_watch *watch;

	if (loop->real == NULL)
		return RT_INVALID;
	watch = rt_alloc(sizeof(*watch));
	if (uv_poll_init(&loop->real->uv, &watch->handle, fd) != 0) {
		free(watch);
		return RT_SYSTEM;
	}
	watch->handle.data = watch;
	watch->loop = loop;
	watch->on_ready = on_ready;
	watch->user = user;
	*ret = watch;
	return RT_OK;
}

void rt_watch_set(struct rt_watch *watch, int events)
{
	if (watch->events == events)
		return;
	watch->events = events;
	watch_arm(watch);
}

static void on_watch_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void rt_watch_free(struct rt_watch *watch)
{
	/* uv_close takes the descriptor out of the poll at once, so it may be closed and its
	 * number come again; the memory is libuv's until the callback. */
	if (watch != NULL)
		uv_close((uv_handle_t *)&watch->handle, on_watch_closed);
}

/* ---- signals ---- */

static void on_uv_signal(uv_signal_t *handle, int signum)
{
	struct signal_watch *watch = handle->data;

	watch->on_signal(signum, watch->user);
}

int rt_loop_on_signal(struct rt_loop *loop, int signum, void (*on_signal)(int signum, void *user),
		      void *user)
{
	struct signal_watch *watch;

	if (loop->real == NULL)
		return RT_INVALID;
	watch = rt_alloc(sizeof(*watch));
	if (uv_signal_init(&loop->real->uv, &watch->handle) != 0) {
		free(watch);
		return RT_SYSTEM;
	}
	watch->handle.data = watch;
	watch->on_signal = on_signal;
	watch->user = user;
	/* In the list from now on, whatever happens: libuv knows the handle. */
	watch->next = loop->real->signals;
	loop->real->signals = watch;
	return uv_signal_start(&watch->handle, on_uv_signal, signum) == 0 ? RT_OK : RT_SYSTEM;
}
