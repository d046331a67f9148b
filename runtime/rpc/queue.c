/* queue.c - gRPC in this process: its start and end, and the completion queue of each loop.
 *
 * A real loop waits for gRPC's sockets itself, where it can (interpose/interpose.h): no other thread has
 * to be woken for a call, and none wakes us.
 *
 *   loop     gRPC's epoll set is ready → take_completions: each tag's run
 *
 * What other threads of gRPC's complete, its timers above all, does not make the set ready: while
 * operations are under way a tick looks for that. Else a thread waits and hands over to the loop:
 *
 *   thread   grpc_completion_queue_next → … → nothing more → hand over, post once if need be
 *   loop     run_handed: each tag's run
 *
 * Operations that the loop starts and that end at once (a small answer is written to the socket
 * within grpc_call_start_batch) would wake the thread, which would wake the loop. gRPC keeps one
 * completion per thread back on request (the thread-local cache): we ask for it around each
 * batch and run what we get at the end of the turn. */
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "grpc_internal.h"
#include "interpose/interpose.h"

/* The longest delay before we see what gRPC's own threads complete, such as a deadline that
 * passed. */
#define TICK_MS 10
/* After so many polls of the queue, or so long, the loop gets a turn for everything else.
 * A poll may complete nothing: a peer's frames need not belong to an operation. */
#define TAKE_MAX    512
#define TAKE_MAX_NS 2000000
/* The thread hands over after so many at most: the loop can begin while it goes on. */
#define GATHER_MAX 256
/* So long the end waits for what gRPC's own threads still do. */
#define END_LOOKS_MAX 200
#define END_LOOK_MS   5

struct rpc_tags {
	struct rpc_tag *first, **end;
};

struct rpc_queue {
	struct rpc_queue *next; /* of the process */
	struct rt_loop *loop;
	int refs;
	int running; /* run functions on the stack */
	grpc_completion_queue *grpc;
	pthread_t thread;

	pthread_mutex_t lock; /* of what follows */
	struct rpc_tags handed;
	bool posted;
	struct rt_task handed_task;

	struct rpc_tags local; /* ended at once; loop thread only */
	struct rt_task local_task;

	struct rt_watch *watch; /* of gRPC's epoll set; NULL: the thread waits */
	struct rt_task take_task;
	struct rt_timer tick;
	size_t under_way; /* batches started and not ended */
};

static void tags_clear(struct rpc_tags *tags)
{
	tags->first = NULL;
	tags->end = &tags->first;
}

static void tags_add(struct rpc_tags *tags, struct rpc_tag *tag)
{
	tag->next = NULL;
	*tags->end = tag;
	tags->end = &tag->next;
}

static void release_queue(struct rpc_queue *queue)
{
	if (queue->refs > 0 || queue->running > 0 || queue->local_task.queued ||
	    queue->take_task.queued)
		return;
	pthread_mutex_destroy(&queue->lock);
	grpc_completion_queue_destroy(queue->grpc);
	free(queue);
}

static void tag_run(struct rpc_queue *queue, struct rpc_tag *tag, bool ok)
{
	if (tag->counted) {
		tag->counted = false;
		queue->under_way--;
	}
	tag->run(tag, ok);
}

static void tags_run(struct rpc_queue *queue, struct rpc_tag *tag)
{
	queue->running++;
	while (tag != NULL) {
		struct rpc_tag *next = tag->next; /* its memory may go */

		tag_run(queue, tag, atomic_load_explicit(&tag->ok, memory_order_relaxed));
		tag = next;
	}
	queue->running--;
	release_queue(queue);
}

/* ---- the loop waits ---- */

/* Runs what has completed, until gRPC has nothing more to read or the turn is over; then goes on in
 * the next. Handlers run in here, and may end the queue. */
static void take_completions(struct rpc_queue *queue)
{
	gpr_timespec at_once = gpr_inf_past(GPR_CLOCK_MONOTONIC);
	int64_t end_ns = rt_monotonic_ns() + TAKE_MAX_NS;
	bool over = false;

	queue->running++;
	rt_polling_turn_begin(end_ns);
	rt_polling_start();
	for (int looks = 1; queue->refs > 0 && !over; looks++) {
		grpc_event event = grpc_completion_queue_next(queue->grpc, at_once, NULL);
		struct rpc_tag *tag = event.tag;

		if (event.type == GRPC_OP_COMPLETE) {
			tag_run(queue, tag, event.success != 0);
			rt_polling_start();
		} else if (event.type == GRPC_QUEUE_SHUTDOWN || rt_polling_emptied()) {
			break;
		}
		over = looks == TAKE_MAX || rt_monotonic_ns() >= end_ns;
	}
	if (rt_polling_turn_end() || over)
		rt_loop_defer(queue->loop, &queue->take_task);
	queue->running--;
	release_queue(queue);
}

static void on_ready(void *user, int events)
{
	(void)events;
	take_completions(user);
}

static void take_more(struct rt_task *task)
{
	take_completions(RT_CONTAINER_OF(task, struct rpc_queue, take_task));
}

static void on_tick(struct rt_timer *timer)
{
	struct rpc_queue *queue = RT_CONTAINER_OF(timer, struct rpc_queue, tick);

	if (queue->under_way > 0)
		rt_timer_start(queue->loop, &queue->tick, TICK_MS, on_tick);
	take_completions(queue);
}

static bool polling_start(struct rpc_queue *queue)
{
	int fd = rt_polling_fd();

	if (fd < 0 || rt_loop_uv(queue->loop) == NULL ||
	    rt_watch_new(queue->loop, fd, on_ready, queue, &queue->watch) != RT_OK)
		return false;
	queue->take_task.run = take_more;
	rt_watch_set(queue->watch, RT_READABLE);
	return true;
}

static void polling_expect(struct rpc_queue *queue)
{
	rt_loop_defer(queue->loop, &queue->take_task);
	if (!rt_timer_running(&queue->tick))
		rt_timer_start(queue->loop, &queue->tick, TICK_MS, on_tick);
}

static void polling_stop(struct rpc_queue *queue)
{
	gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);

	rt_timer_stop(queue->loop, &queue->tick);
	rt_watch_free(queue->watch);
	while (grpc_completion_queue_next(queue->grpc, forever, NULL).type != GRPC_QUEUE_SHUTDOWN)
		;
}

/* ---- a thread waits ---- */

static void hand_over(struct rpc_queue *queue, struct rpc_tags *tags)
{
	bool post;

	if (tags->first == NULL)
		return;
	pthread_mutex_lock(&queue->lock);
	*queue->handed.end = tags->first;
	queue->handed.end = tags->end;
	post = !queue->posted;
	queue->posted = true;
	pthread_mutex_unlock(&queue->lock);
	if (post)
		rt_loop_post(queue->loop, &queue->handed_task);
}

static void *wait_for_completions(void *arg)
{
	struct rpc_queue *queue = arg;
	gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);
	gpr_timespec at_once = gpr_inf_past(GPR_CLOCK_MONOTONIC);
	grpc_event event;

	do {
		struct rpc_tags tags;
		int count = 0;

		tags_clear(&tags);
		event = grpc_completion_queue_next(queue->grpc, forever, NULL);
		while (event.type == GRPC_OP_COMPLETE) {
			struct rpc_tag *tag = event.tag;

			/* Pairs with rpc_queue_tag: gRPC orders the two, and this shows it to
			 * who cannot look into gRPC. */
			(void)atomic_load_explicit(&tag->ok, memory_order_acquire);
			atomic_store_explicit(&tag->ok, event.success != 0, memory_order_relaxed);
			tags_add(&tags, tag);
			if (++count == GATHER_MAX)
				break;
			event = grpc_completion_queue_next(queue->grpc, at_once, NULL);
		}
		hand_over(queue, &tags);
	} while (event.type != GRPC_QUEUE_SHUTDOWN);
	return NULL;
}

static void run_handed(struct rt_task *task)
{
	struct rpc_queue *queue = RT_CONTAINER_OF(task, struct rpc_queue, handed_task);
	struct rpc_tag *first;

	pthread_mutex_lock(&queue->lock);
	first = queue->handed.first;
	tags_clear(&queue->handed);
	queue->posted = false;
	pthread_mutex_unlock(&queue->lock);
	tags_run(queue, first);
}

static void thread_start(struct rpc_queue *queue)
{
	sigset_t all, old;

	queue->handed_task.run = run_handed;
	tags_clear(&queue->handed);
	/* Signals are for the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&queue->thread, NULL, wait_for_completions, queue) != 0)
		abort(); /* as when memory runs out */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_setname_np(queue->thread, "rpc");
}

static void thread_stop(struct rpc_queue *queue)
{
	pthread_join(queue->thread, NULL);
}

/* ---- the queue of a loop ---- */

static struct rpc_queue *queues;
static pthread_mutex_t queues_lock = PTHREAD_MUTEX_INITIALIZER;

static void run_local(struct rt_task *task)
{
	struct rpc_queue *queue = RT_CONTAINER_OF(task, struct rpc_queue, local_task);
	struct rpc_tag *first = queue->local.first;

	tags_clear(&queue->local);
	tags_run(queue, first);
}

static struct rpc_queue *queue_new(struct rt_loop *loop)
{
	struct rpc_queue *queue = rt_alloc(sizeof(*queue));

	queue->loop = loop;
	queue->local_task.run = run_local;
	tags_clear(&queue->local);
	pthread_mutex_init(&queue->lock, NULL);
	queue->grpc = grpc_completion_queue_create_for_next(NULL);
	if (queues != NULL || !polling_start(queue))
		thread_start(queue);
	return queue;
}

struct rpc_queue *rpc_queue_ref(struct rt_loop *loop)
{
	struct rpc_queue *queue;

	pthread_mutex_lock(&queues_lock);
	queue = queues;
	while (queue != NULL && queue->loop != loop)
		queue = queue->next;
	if (queue == NULL) {
		queue = queue_new(loop);
		queue->next = queues;
		queues = queue;
	}
	queue->refs++;
	pthread_mutex_unlock(&queues_lock);
	return queue;
}

void rpc_queue_unref(struct rpc_queue *queue)
{
	struct rpc_queue **p = &queues;

	pthread_mutex_lock(&queues_lock);
	if (--queue->refs > 0) {
		pthread_mutex_unlock(&queues_lock);
		return;
	}
	while (*p != queue)
		p = &(*p)->next;
	*p = queue->next;
	pthread_mutex_unlock(&queues_lock);

	grpc_completion_queue_shutdown(queue->grpc);
	if (queue->watch != NULL)
		polling_stop(queue);
	else
		thread_stop(queue);
	release_queue(queue);
}

grpc_completion_queue *rpc_queue_grpc(struct rpc_queue *queue)
{
	return queue->grpc;
}

bool rpc_queue_polls(const struct rpc_queue *queue)
{
	return queue->watch != NULL;
}

void *rpc_queue_tag(struct rpc_tag *tag, void (*run)(struct rpc_tag *tag, bool ok))
{
	tag->run = run;
	tag->counted = false;
	atomic_store_explicit(&tag->ok, false, memory_order_release);
	return tag;
}

void rpc_queue_expect(struct rpc_queue *queue, struct rpc_tag *tag)
{
	tag->counted = true;
	queue->under_way++;
	if (queue->watch != NULL)
		polling_expect(queue);
}

static void end_at_once(struct rpc_queue *queue, struct rpc_tag *tag, bool ok)
{
	atomic_store_explicit(&tag->ok, ok, memory_order_relaxed);
	tags_add(&queue->local, tag);
	rt_loop_defer(queue->loop, &queue->local_task);
}

void rpc_queue_start(struct rpc_queue *queue, grpc_call *call, const grpc_op *ops, size_t count,
		     struct rpc_tag *tag, void (*run)(struct rpc_tag *tag, bool ok))
{
	grpc_call_error error;
	void *ended;
	int ok;

	rpc_queue_tag(tag, run);
	rpc_queue_expect(queue, tag);
	grpc_completion_queue_thread_local_cache_init(queue->grpc);
	error = grpc_call_start_batch(call, ops, count, tag, NULL);
	/* Not necessarily this batch's: any that ended on this thread meanwhile. */
	if (grpc_completion_queue_thread_local_cache_flush(queue->grpc, &ended, &ok))
		end_at_once(queue, ended, ok != 0);
	if (error != GRPC_CALL_OK) {
		RT_LOG(RT_ERROR, "gRPC refuses a batch",
		       RT_S("reason", grpc_call_error_to_string(error)));
		end_at_once(queue, tag, false);
	}
}

/* ---- the process ---- */

static void log_for_grpc(gpr_log_func_args *args)
{
	enum rt_log_level level = args->severity == GPR_LOG_SEVERITY_ERROR ? RT_WARN : RT_DEBUG;

	RT_LOG(level, "gRPC says", RT_S("text", args->message), RT_S("file", args->file),
	       RT_I("line", args->line));
}

static int inits; /* that were not ended yet */

void rt_rpc_init(void)
{
	inits++;
	/* If the peer has gone, the write returns an error. */
	signal(SIGPIPE, SIG_IGN);
	gpr_set_log_function(log_for_grpc);
	/* gRPC would poll for its clients' sake from a thread of its own now and then, and leave
	 * us what it took and did not process. The loop polls often enough. */
	(void)setenv("GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS", "0", 1);
	(void)rt_deadlock_detection_off(); /* only for speed */
	rt_polling_init();
}

/* A connection that is just being made keeps gRPC although its channel has gone, and a thread of gRPC's goes on with it: past the
 * end of main it would use OpenSSL while that ends, too. */
static void wait_for_connections(void)
{
	int looks = 0;

	if (!grpc_is_initialized())
		return;
	while (grpc_is_initialized() && looks++ < END_LOOKS_MAX)
		gpr_sleep_until(gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
					     gpr_time_from_millis(END_LOOK_MS, GPR_TIMESPAN)));
	/* The last one ended it in a thread of its own: this waits for that. */
	grpc_init();
	grpc_shutdown_blocking();
}

void rt_rpc_shutdown(void)
{
	/* grpc_shutdown would go on in a thread of its own, past the end of main. */
	grpc_shutdown_blocking();
	if (--inits == 0)
		wait_for_connections();
}
