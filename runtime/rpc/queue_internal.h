/* queue_internal.h - the completion queue of a loop, and how it is waited for. Private to queue*.c. */
#ifndef RT_RPC_QUEUE_INTERNAL_H
#define RT_RPC_QUEUE_INTERNAL_H

#include <pthread.h>

#include "grpc_internal.h"

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

/* queue_run.c */
void rpc_tags_clear(struct rpc_tags *tags);
void rpc_tags_add(struct rpc_tags *tags, struct rpc_tag *tag);
void rpc_tag_run(struct rpc_queue *queue, struct rpc_tag *tag, bool ok);
/* All of them; the queue may be gone afterwards. */
void rpc_tags_run(struct rpc_queue *queue, struct rpc_tag *tag);
/* Frees the queue when nobody holds it and nothing of it is on the stack or deferred. */
void rpc_queue_release(struct rpc_queue *queue);

/* queue_polling.c. False: the loop cannot wait for gRPC itself. */
bool rpc_queue_polling_start(struct rpc_queue *queue);
/* An operation has begun: look for its end. */
void rpc_queue_polling_expect(struct rpc_queue *queue);
void rpc_queue_polling_stop(struct rpc_queue *queue);

/* queue_thread.c */
void rpc_queue_thread_start(struct rpc_queue *queue);
void rpc_queue_thread_stop(struct rpc_queue *queue);

#endif
