/* queue_run.c - the operations that have ended are told so, and the queue is freed when that was the
 * last. */
#include <pthread.h>
#include <stdatomic.h>

#include "queue_internal.h"

void rpc_tags_clear(struct rpc_tags *tags)
{
	tags->first = NULL;
	tags->end = &tags->first;
}

void rpc_tags_add(struct rpc_tags *tags, struct rpc_tag *tag)
{
	tag->next = NULL;
	*tags->end = tag;
	tags->end = &tag->next;
}

void rpc_queue_release(struct rpc_queue *queue)
{
	if (queue->refs > 0 || queue->running > 0 || queue->local_task.queued ||
	    queue->take_task.queued)
		return;
	pthread_mutex_destroy(&queue->lock);
	grpc_completion_queue_destroy(queue->grpc);
	free(queue);
}

void rpc_tag_run(struct rpc_queue *queue, struct rpc_tag *tag, bool ok)
{
	if (tag->counted) {
		tag->counted = false;
		queue->under_way--;
	}
	tag->run(tag, ok);
}

void rpc_tags_run(struct rpc_queue *queue, struct rpc_tag *tag)
{
	queue->running++;
	while (tag != NULL) {
		struct rpc_tag *next = tag->next; /* its memory may go */

		rpc_tag_run(queue, tag, atomic_load_explicit(&tag->ok, memory_order_relaxed));
		tag = next;
	}
	queue->running--;
	rpc_queue_release(queue);
}
