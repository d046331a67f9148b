/* loop.h - one thread that owns a service: timers, work handed over by other threads, signals,
 * file descriptors; work that is gathered and sent together; the clock that a loop follows.
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
void rt_loop_run_due(struct rt_loop *loop);
/* Manual loops: moves both clocks on by `ms`, timer by timer, running what is due at each. */
void rt_loop_advance(struct rt_loop *loop, int64_t ms);
/* Manual loops: when the earliest timer is due (monotonic ms); INT64_MAX without one. */
int64_t rt_loop_next_due(const struct rt_loop *loop);
/* Manual loops: the wall clock jumps by `ms` (backwards when negative); timers do not notice. */
void rt_loop_jump(struct rt_loop *loop, int64_t ms);

/* Monotonic milliseconds, read once a turn. */
int64_t rt_loop_now(const struct rt_loop *loop);
/* Unix milliseconds, read at the call (real) or driven (manual). The wall clock's, until the loop
 * follows another. */
int64_t rt_loop_unix_ms(const struct rt_loop *loop);
/* From now on Unix time is CLOCK_MONOTONIC and `offset_us`: another machine's (see below). A manual
 * loop's stays driven. */
void rt_loop_set_unix(struct rt_loop *loop, int64_t offset_us);
/* A uniform number below `bound` (> 0): for jitter and ids of tests, never for secrets. */
uint64_t rt_loop_random(struct rt_loop *loop, uint64_t bound);
/* `ms` ±25 %: a pause that is another one each time, so that several do not act at once. */
int64_t rt_loop_around(struct rt_loop *loop, int64_t ms);
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
/* The same, but after all tasks of rt_loop_defer in this turn: for writing what the turn has gathered. Defer a task in
 * one of the two ways only. */
void rt_loop_defer_last(struct rt_loop *loop, struct rt_task *task);

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

/* ---- the one clock that decides: Redis's (clock.c) ----
 *
 * Several instances work on the same orders, each on a machine whose wall clock may be wrong. What
 * they decide by (what is due, when a hold ends, ids, ages) must be the same everywhere, so a loop
 * can follow the clock of its Redis: rt_loop_unix_ms is then Redis's time: this machine's
 * monotonic clock and an offset that TIME keeps right. A wall clock that is wrong or jumps changes
 * nothing; it is reported.
 *
 * A sample bounds the offset: the server's time was read between sending and receiving. An offset
 * inside the bounds stays, one outside moves to the nearer bound; so a slow answer says little and
 * does no harm. docs/decisions/017. */

struct rt_clock {
	bool known;
	int64_t offset_us; /* Redis's time less CLOCK_MONOTONIC */
};
/* Takes a sample: the server's Unix time, read between two readings of the monotonic clock. */
void rt_clock_sample(struct rt_clock *clock, int64_t sent_us, int64_t received_us,
		     int64_t server_us);

/* How far this machine's wall clock is ahead of the time that `offset_us` gives, in ms. */
int64_t rt_clock_wall_ahead_ms(int64_t offset_us);
/* Past this a wall clock is reported: log, tandem_clock_offset_seconds, CLIENT LIST, doctor. */
#define RT_CLOCK_WRONG_MS 2000

/* ---- group commit (batch.c, gate.c) ----
 *
 * Gathers items that wait and sends them together, without holding a lone one back.
 *
 * An item that is added is sent at the end of the turn when nothing is under way. Else it waits
 * until a run ends, or until `gather` items wait and fewer than in_flight_max runs are under way;
 * the next run takes all that wait, up to count_max. So the busier it is, the larger the batches:
 * few small runs one beside the other would cost each stage behind them a wake-up (Nagle,
 * RFC 896, on another level). Order is kept within a batch and between sends.
 *
 *   rt_batch_add → (end of turn) send(run) → … → rt_batch_finish(run) → next run
 *
 * Several batches whose runs go the same way share a *gate*: while runs of any of them are under way, those that
 * are worth less than twice `gather` wait, all together. So many batches do not become many small runs. Gates whose runs
 * go to different servers share *rounds*: while much is under way, they wait for each other as well, though not long
 * for one that is late (gate.c).
 */

struct rt_batch; /* opaque */

struct rt_batch_item {
	struct rt_list link;
	/* Consecutive items with the same unit go in one run, if they fit; NULL: none. */
	const void *unit;
	size_t weight; /* for example its bytes */
};
struct rt_batch_rounds; /* opaque */
/* Gates wait for each other while `worth` items are under way through them, and for one that is late at most as long again as
 * for those before it, or `late_ms`. */
void rt_batch_rounds_new(struct rt_loop *loop, size_t worth, int64_t late_ms,
			 struct rt_batch_rounds **ret);
/* After its gates. The loop may still hold it for the rest of the turn. Takes NULL. */
void rt_batch_rounds_free(struct rt_batch_rounds *rounds);
struct rt_batch_gate; /* opaque */
void rt_batch_gate_new(struct rt_batch_rounds *rounds, struct rt_batch_gate **ret);
/* Batches that wait go on without it, or at the gate that they have then; runs may leave it later. Takes NULL. */
void rt_batch_gate_free(struct rt_batch_gate *gate);

/* One batch under way. Comes zeroed, at the start of run_size bytes that are the sender's. */
struct rt_batch_run {
	struct rt_batch *batch;
	struct rt_batch_gate *gate; /* through which it went, until it has left */
	size_t gate_items;          /* as many as it had then */
	struct rt_list items;       /* of struct rt_batch_item, in the order added */
	size_t count;
};
struct rt_batch_options {
	size_t count_max;     /* items in a run */
	size_t weight_max;    /* of all items of a run, unless it is a single item; 0: no limit */
	size_t in_flight_max; /* runs under way */
	size_t gather;        /* items that a further run is worth; 0: one */
	size_t waiting_max;   /* items waiting; rt_batch_add refuses one more */
	size_t run_size;      /* sizeof the sender's run struct, which begins with rt_batch_run */
	void (*send)(struct rt_batch_run *run, void *user);
	/* The batch's gate, which may be another one each time; NULL, or answers NULL: it has none. */
	struct rt_batch_gate *(*gate)(void *user);
	void *user_data;
	struct rt_metrics *metrics; /* tandem_batches_total and tandem_batch_items_total; or NULL */
	const char *step;           /* their label: "order_place"; not kept */
};
int rt_batch_new(struct rt_loop *loop, const struct rt_batch_options *options,
		 struct rt_batch **ret);
/* Nothing may wait or be under way; the loop may still hold it for the rest of the turn. Takes
 * NULL. */
void rt_batch_free(struct rt_batch *batch);
/* False: waiting_max items wait already; nothing happened. */
bool rt_batch_add(struct rt_batch *batch, struct rt_batch_item *item);
/* Takes back the item that has waited longest; NULL: none waits. */
struct rt_batch_item *rt_batch_pop(struct rt_batch *batch);
/* Nothing of the run is under way any more: it makes room at its gate. Done by rt_batch_finish, if not before. */
void rt_batch_leave(struct rt_batch_run *run);
/* The sender is done with the run and with every item in it; frees the run. */
void rt_batch_finish(struct rt_batch_run *run);
/* The series that count batches and the items in them, for a step that gathers by other means. Without
 * metrics nothing is written. */
void rt_batch_metrics(struct rt_metrics *metrics, const char *step, struct rt_series **ret_batches,
		      struct rt_series **ret_items);

#endif
