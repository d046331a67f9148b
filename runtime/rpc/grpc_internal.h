/* grpc_internal.h - what the files that see gRPC share. Private to rpc.
 *
 * There is one completion queue for each loop, shared by its servers and channels. Everything that gRPC
 * does for us ends as a tag in the queue, and the loop runs each tag: gRPC's callbacks are functions on
 * the loop thread. */
#ifndef RT_RPC_GRPC_INTERNAL_H
#define RT_RPC_GRPC_INTERNAL_H

#include <grpc/grpc.h>

#include "call_internal.h"

/* An argument of a channel or server that is a number. */
#define RPC_INT_ARG(name, number)                                                                  \
	{                                                                                          \
		.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)(name),                        \
		.value.integer = (int)RT_MIN((int64_t)(number), INT32_MAX)                         \
	}

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
/* The loop waits for gRPC's sockets itself; else a thread does. */
bool rpc_queue_polls(const struct rpc_queue *queue);
/* Sets a tag up for an operation that is started by other means than rpc_queue_start. */
void *rpc_queue_tag(struct rpc_tag *tag, void (*run)(struct rpc_tag *tag, bool ok));
/* The tag is of an operation that will end by itself, not of one that waits for a client to come:
 * look for its end. */
void rpc_queue_expect(struct rpc_queue *queue, struct rpc_tag *tag);
/* grpc_call_start_batch. `run` is called later, in any case. What gRPC completes at once, most
 * sends, does not take the way through the thread. */
void rpc_queue_start(struct rpc_queue *queue, grpc_call *call, const grpc_op *ops, size_t count,
		     struct rpc_tag *tag, void (*run)(struct rpc_tag *tag, bool ok));

/* ---- bytes (message.c) ---- */

/* A message packed straight into a slice. */
grpc_byte_buffer *rpc_pack(const ProtobufCMessage *message, size_t *ret_length);
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

/* ---- metadata (message.c) ---- */

#define RPC_METADATA_SENT_MAX 16
/* Fills `array`, which has room for RPC_METADATA_SENT_MAX, with references that are the caller's. */
size_t rpc_metadata_fill(const struct rpc_metadata *list, grpc_metadata *array);
void rpc_metadata_unref(grpc_metadata *array, size_t count);
/* For the next call. What a peer has made large is not kept. */
void rpc_metadata_reset(grpc_metadata_array *array);
/* A copy of the first value of that key; NULL: none. *ret_length may be NULL. */
const char *rpc_metadata_received(const grpc_metadata_array *array, const char *key,
				  struct rt_arena *arena, size_t *ret_length);

/* ---- messages that wait to be sent (message.c) ---- */

/* Zeroed memory is a valid empty one. */
struct rpc_outgoing_queue {
	struct rpc_outgoing *first, **last;
};
/* Takes the buffer over; NULL: what the caller means by it. */
void rpc_outgoing_add(struct rpc_outgoing_queue *queue, grpc_byte_buffer *buffer, size_t length);
/* The first, which is the caller's then. False: there is none. */
bool rpc_outgoing_take(struct rpc_outgoing_queue *queue, grpc_byte_buffer **ret_buffer,
		       size_t *ret_length);
/* Frees all; how many bytes that were. */
size_t rpc_outgoing_drop(struct rpc_outgoing_queue *queue);

#endif
