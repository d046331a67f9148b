/* queue_internal.h - one gRPC completion queue for each loop, shared by its servers and channels.
 * Private to rpc.
 *
 * Everything that gRPC does for us ends as a tag in the queue, and the loop runs each tag: gRPC's
 * callbacks are functions on the loop thread. */
#ifndef RT_RPC_QUEUE_H
#define RT_RPC_QUEUE_H

#include <grpc/grpc.h>

#include "loop/loop.h"

/* What to do when an operation has ended. Embed one for each that can be under way. */
struct rpc_tag {
	struct rpc_tag *next;
	void (*run)(struct rpc_tag *tag, bool ok);
	_Atomic bool ok;
	bool counted; /* under way, as rpc_queue_expect has it */
};

struct rpc_queue; /* opaque */

/* The loop's queue, made when there is none yet. Each needs an rpc_queue_unref, which may join
 * the thread: no operation may be under way then. */
struct rpc_queue *rpc_queue_ref(struct rt_loop *loop);
void rpc_queue_unref(struct rpc_queue *queue);
grpc_completion_queue *rpc_queue_grpc(struct rpc_queue *queue);
/* Sets a tag up for an operation that is started by other means than rpc_queue_start. */
void *rpc_queue_tag(struct rpc_tag *tag, void (*run)(struct rpc_tag *tag, bool ok));
/* The tag is of an operation that will end by itself, not of one that waits for a client to come:
 * look for its end. */
void rpc_queue_expect(struct rpc_queue *queue, struct rpc_tag *tag);
/* grpc_call_start_batch. `run` is called later, in any case. What gRPC completes at once, most
 * sends, does not take the way through the thread. */
void rpc_queue_start(struct rpc_queue *queue, grpc_call *call, const grpc_op *ops, size_t count,
		     struct rpc_tag *tag, void (*run)(struct rpc_tag *tag, bool ok));

/* ---- bytes ---- */

/* A message packed straight into a slice. */
struct ProtobufCMessage;
grpc_byte_buffer *rpc_pack(const struct ProtobufCMessage *message, size_t *ret_length);
/* The bytes of a buffer in one piece; freed by rpc_bytes_done, together with the buffer. */
struct rpc_bytes {
	const uint8_t *data;
	size_t length;
	grpc_byte_buffer *buffer;
	grpc_slice joined;
};
/* Takes the buffer over. False: the message is compressed, which is not accepted (decision 021);
 * still needs rpc_bytes_done. */
bool rpc_bytes_read(struct rpc_bytes *bytes, grpc_byte_buffer *buffer);
void rpc_bytes_done(struct rpc_bytes *bytes);

#endif
