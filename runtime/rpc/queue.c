/* queue.c - the completion queue of a loop.
 *
 * A real loop waits for gRPC's sockets itself, where it can (queue_polling.c): no other thread has to
 * be woken for a call, and none wakes us. Else a thread waits (queue_thread.c).
 *
 * Operations that the loop starts and that end at once (a small answer is written to the socket
 * within grpc_call_start_batch) would wake the thread, which would wake the loop. gRPC keeps one
 * completion per thread back on request (the thread-local cache): we ask for it around each
 * batch and run what we get at the end of the turn. */
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>

#include "queue_internal.h"

static struct rpc_queue *queues;
static pthread_mutex_t queues_lock = PTHREAD_MUTEX_INITIALIZER;

static void run_local(struct rt_task *task)
{
	struct rpc_queue *queue = RT_CONTAINER_OF(task, struct rpc_queue, local_task);
	struct rpc_tag *first = queue->local.first;

	rpc_tags_clear(&queue->local);
	rpc_tags_run(queue, first);
}

static struct rpc_queue *queue_new(struct rt_loop *loop)
{
	struct rpc_queue *queue = rt_alloc(sizeof(*queue));

	queue->loop = loop;
	queue->local_task.run = run_local;
	rpc_tags_clear(&queue->local);
	pthread_mutex_init(&queue->lock, NULL);
	queue->grpc = grpc_completion_queue_create_for_next(NULL);
	if (queues != NULL || !rpc_queue_polling_start(queue))
		rpc_queue_thread_start(queue);
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
		rpc_queue_polling_stop(queue);
	else
		rpc_queue_thread_stop(queue);
	rpc_queue_release(queue);
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
		rpc_queue_polling_expect(queue);
}

static void end_at_once(struct rpc_queue *queue, struct rpc_tag *tag, bool ok)
{
	atomic_store_explicit(&tag->ok, ok, memory_order_relaxed);
	rpc_tags_add(&queue->local, tag);
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
	/* Not necessarily ours: whatever ended on this thread meanwhile. */
	if (grpc_completion_queue_thread_local_cache_flush(queue->grpc, &ended, &ok))
		end_at_once(queue, ended, ok != 0);
	if (error != GRPC_CALL_OK) {
		RT_LOG(RT_ERROR, "gRPC refuses a batch",
		       RT_S("reason", grpc_call_error_to_string(error)));
		end_at_once(queue, tag, false);
	}
}
