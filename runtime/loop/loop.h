/* loop.h - one thread that owns a service: timers, work handed over by other threads, signals,
 * file descriptors.
 *
 * A loop is real (libuv underneath) or manual (a clock that a test drives). Everything here is
 * for the loop's own thread, but rt_loop_post and rt_loop_stop.
 *
 * Order within one turn: timers that are due, posted tasks, file descriptors, then the deferred
 * tasks. A deferred task that defers itself again runs in the next turn. */
#ifndef RT_LOOP_H
#define RT_LOOP_H

#include "base/base.h"

struct uv_loop_s;
struct rt_loop; /* opaque */

int rt_loop_new(struct rt_loop **ret);
/* A loop without libuv, for tests and the simulation: time stands still until
 * rt_loop_advance. `seed` feeds rt_loop_random. */
int rt_loop_new_manual(int64_t unix_ms, uint64_t seed, struct rt_loop **ret);
/* All timers must be stopped, all watchers closed; what is deferred still runs. Takes NULL. */
void rt_loop_free(struct rt_loop *loop);
/* Runs until rt_loop_stop. Real loops only. */
void rt_loop_run(struct rt_loop *loop);
/* Any thread: rt_loop_run returns after the current turn. */
void rt_loop_stop(struct rt_loop *loop);

/* Manual loops: runs turns until nothing is posted or deferred and no timer is due. */
void rt_loop_settle(struct rt_loop *loop);
/* Manual loops: moves both clocks on by `ms`, timer by timer, settling at each. */
void rt_loop_advance(struct rt_loop *loop, int64_t ms);
/* Manual loops: when the earliest timer is due (monotonic ms); INT64_MAX without one. */
int64_t rt_loop_next_due(const struct rt_loop *loop);
/* Manual loops: the wall clock jumps by `ms` (backwards when negative); timers do not notice. */
void rt_loop_jump(struct rt_loop *loop, int64_t ms);

/* Monotonic milliseconds, read once a turn. */
int64_t rt_loop_now(const struct rt_loop *loop);
/* Unix milliseconds, read at the call (real) or driven (manual). The wall clock's, until the loop
 * was told another. */
int64_t rt_loop_unix_ms(const struct rt_loop *loop);
/* From now on Unix time is CLOCK_MONOTONIC and `offset_us`: another machine's (clock.h). A manual
 * loop's stays driven. */
void rt_loop_set_unix(struct rt_loop *loop, int64_t offset_us);
/* A uniform number below `bound` (> 0): for jitter and ids of tests, never for secrets. */
uint64_t rt_loop_random(struct rt_loop *loop, uint64_t bound);
/* Fills `bytes`: from the kernel (real) or from the seed (manual). */
void rt_loop_random_bytes(struct rt_loop *loop, void *bytes, size_t length);
/* The libuv loop underneath; NULL for a manual one. */
struct uv_loop_s *rt_loop_uv(struct rt_loop *loop);

/* A timer. Embed it, zeroed, in what waits; it costs nothing while stopped, and once stopped its
 * memory may go at once. */
struct rt_timer {
	int64_t due_ms; /* monotonic */
	uint64_t serial;
	size_t slot; /* place in the loop's heap, from 1; 0: not running */
	void (*fire)(struct rt_timer *timer);
};
/* (Re)starts it: `fire` runs once, `delay_ms` (>= 0) from now. */
void rt_timer_start(struct rt_loop *loop, struct rt_timer *timer, int64_t delay_ms,
		    void (*fire)(struct rt_timer *timer));
void rt_timer_stop(struct rt_loop *loop, struct rt_timer *timer);
bool rt_timer_running(const struct rt_timer *timer);

/* A task: a function to run on the loop thread. Embed it; the memory must stay until it ran. */
struct rt_task {
	struct rt_task *next;
	bool queued; /* for rt_loop_defer only */
	void (*run)(struct rt_task *task);
};
/* Any thread. Runs in the order posted; the loop is woken once for all that were posted since it
 * last looked. */
void rt_loop_post(struct rt_loop *loop, struct rt_task *task);
/* Loop thread: runs at the end of this turn (or of the next, when called by a deferred task).
 * Deferring what is deferred already does nothing. This is where batches are sent. */
void rt_loop_defer(struct rt_loop *loop, struct rt_task *task);

/* A file descriptor to watch. Real loops only. `on_ready` gets what is ready, out of RT_READABLE
 * and RT_WRITABLE; errors and hang-ups come as both, so that the read sees them. */
enum { RT_READABLE = 1, RT_WRITABLE = 2 };
struct rt_watch; /* opaque */
int rt_watch_new(struct rt_loop *loop, int fd, void (*on_ready)(void *user, int events), void *user,
		 struct rt_watch **ret);
void rt_watch_set(struct rt_watch *watch, int events); /* 0: nothing, for now */
/* Stops at once; does not close the descriptor. Takes NULL. */
void rt_watch_free(struct rt_watch *watch);

/* Calls `on_signal` on the loop thread for each `signum`, until the loop is freed. Real only. */
int rt_loop_on_signal(struct rt_loop *loop, int signum, void (*on_signal)(int signum, void *user),
		      void *user);

#endif
