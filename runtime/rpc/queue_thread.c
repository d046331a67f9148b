/* queue_thread.c - a thread waits for gRPC and hands over to the loop:
 *
 *   thread   grpc_completion_queue_next → … → nothing more → hand over, post once if need be
 *   loop     run_handed: each tag's run
 */
#include <grpc/support/time.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "queue_internal.h"

/* Handed over at the latest after so many: the loop can begin while the thread goes on. */
#define GATHER_MAX 256

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

		rpc_tags_clear(&tags);
		event = grpc_completion_queue_next(queue->grpc, forever, NULL);
		while (event.type == GRPC_OP_COMPLETE) {
			struct rpc_tag *tag = event.tag;

			/* Pairs with rpc_queue_tag: gRPC orders the two, and this shows it to
			 * who cannot look into gRPC. */
			(void)atomic_load_explicit(&tag->ok, memory_order_acquire);
			atomic_store_explicit(&tag->ok, event.success != 0, memory_order_relaxed);
			rpc_tags_add(&tags, tag);
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
	rpc_tags_clear(&queue->handed);
	queue->posted = false;
	pthread_mutex_unlock(&queue->lock);
	rpc_tags_run(queue, first);
}

void rpc_queue_thread_start(struct rpc_queue *queue)
{
	sigset_t all, old;

	queue->handed_task.run = run_handed;
	rpc_tags_clear(&queue->handed);
	/* Signals are for the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&queue->thread, NULL, wait_for_completions, queue) != 0)
		abort(); /* as when memory runs out */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_setname_np(queue->thread, "rpc");
}

void rpc_queue_thread_stop(struct rpc_queue *queue)
{
	pthread_join(queue->thread, NULL);
}
