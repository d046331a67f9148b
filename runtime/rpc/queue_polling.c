/* queue_polling.c - the loop waits for gRPC's sockets itself (interpose/interpose.h):
 *
 *   loop     gRPC's epoll set is ready → take_completions: each tag's run
 *
 * What other threads of gRPC's complete, its timers above all, does not make the set ready: while
 * operations are under way a tick looks for that. */
#include <grpc/support/time.h>

#include "interpose/interpose.h"
#include "queue_internal.h"

/* A deadline that passes, or what else gRPC's own threads complete, is seen so late at
 * the most. */
#define TICK_MS 10
/* After so many looks at the queue, or so long, the loop gets a turn for everything else.
 * A look may complete nothing: a peer's frames need not belong to an operation. */
#define TAKE_MAX    512
#define TAKE_MAX_NS 2000000

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
			rpc_tag_run(queue, tag, event.success != 0);
			rt_polling_start();
		} else if (event.type == GRPC_QUEUE_SHUTDOWN || rt_polling_emptied()) {
			break;
		}
		over = looks == TAKE_MAX || rt_monotonic_ns() >= end_ns;
	}
	if (rt_polling_turn_end() || over)
		rt_loop_defer(queue->loop, &queue->take_task);
	queue->running--;
	rpc_queue_release(queue);
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

bool rpc_queue_polling_start(struct rpc_queue *queue)
{
	int fd = rt_polling_fd();

	if (fd < 0 || rt_loop_uv(queue->loop) == NULL ||
	    rt_watch_new(queue->loop, fd, on_ready, queue, &queue->watch) != RT_OK)
		return false;
	queue->take_task.run = take_more;
	rt_watch_set(queue->watch, RT_READABLE);
	return true;
}

void rpc_queue_polling_expect(struct rpc_queue *queue)
{
	rt_loop_defer(queue->loop, &queue->take_task);
	if (!rt_timer_running(&queue->tick))
		rt_timer_start(queue->loop, &queue->tick, TICK_MS, on_tick);
}

void rpc_queue_polling_stop(struct rpc_queue *queue)
{
	gpr_timespec forever = gpr_inf_future(GPR_CLOCK_MONOTONIC);

	rt_timer_stop(queue->loop, &queue->tick);
	rt_watch_free(queue->watch);
	while (grpc_completion_queue_next(queue->grpc, forever, NULL).type != GRPC_QUEUE_SHUTDOWN)
		;
}
