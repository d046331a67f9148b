/* call_internal.h - what the files of rpc share, and which there are. A file calls those below it in its
 * column, and those of the last.
 *
 *   server.c       what it serves,         client.c     calls              local.c    both, inside this
 *                  calls come              channel.c    connections                   process
 *   health.c, reflection.c                 proxy.c      how it looks to    local_packets.c
 *   server_call.c  what they send                       those who call
 *                  and receive
 *   http_call.c    those that another
 *                  port has read
 *   server_drain.c the graceful end
 *   callers.c      who calls, and whether that role may
 *   forwarded.c    on whose behalf a gateway does (client.c calls it, too)
 *   call.c         a call as its handler sees it, the same on every transport
 *
 *   queue.c        the completion queue of a loop, gRPC in this process
 *   method.c       paths and metrics       message.c    what calls carry   status.c   and details
 *   descriptors.c  what the .proto files say                               json.c, json_read.c
 *
 * A server call is a struct rt_call embedded in its transport's struct. The handler's side
 * (rt_call_*) is common; what differs is behind rpc_call_ops. */
#ifndef RT_RPC_CALL_INTERNAL_H
#define RT_RPC_CALL_INTERNAL_H

#include "rpc.h"

#define RPC_MESSAGE_STANDARD_BYTES (4 * 1024 * 1024)

/* What an arena keeps for the next call: enough for most, small enough for a pool of them. */
#define RPC_ARENA_KEEP_BYTES 4096

/* ---- messages (message.c) ---- */

/* Checks and unpacks bytes from outside. NULL: *status says INVALID_ARGUMENT, or INTERNAL when
 * `from_server`. The message lives in the arena. */
ProtobufCMessage *rpc_unpack(struct rt_arena *arena, const ProtobufCMessageDescriptor *descriptor,
			     const uint8_t *data, size_t length, bool from_server,
			     struct rt_status *status);

/* ---- metadata: lists in an arena (message.c) ---- */

struct rpc_metadata {
	struct rpc_metadata *next;
	const char *key, *value;
	size_t length;
};
/* Appends a copy. What HTTP/2 cannot carry is left out. */
void rpc_metadata_add(struct rpc_metadata **list, struct rt_arena *arena, const char *key,
		      const void *value, size_t length);
const struct rpc_metadata *rpc_metadata_find(const struct rpc_metadata *list, const char *key);

/* ---- methods (method.c) ---- */

#define RPC_CODES 17
struct rpc_method {
	char *path; /* "/tandem.order.v1.OrderService/PlaceOrder" */
	char *service_name;
	const ProtobufCMethodDescriptor *descriptor;
	unsigned index;
	bool client_streams, server_streams;
	bool traced; /* it is not one of gRPC's own */
	/* NULL without metrics. */
	struct rt_series *started, *seconds, *received, *sent;
	struct rt_metric *handled;
	struct rt_series *handled_by_code[RPC_CODES]; /* made when first needed */
};
/* `side` is "server" or "client". `service_name` NULL: the descriptor's own. */
void rpc_method_init(struct rpc_method *method, const ProtobufCServiceDescriptor *service,
		     const char *service_name, unsigned index, struct rt_metrics *metrics,
		     const char *side);
void rpc_method_done(struct rpc_method *method);
void rpc_method_count(struct rt_series *series);
/* A call of it has ended with `code`, so many ns after its start. */
void rpc_method_ended(struct rpc_method *method, int code, int64_t started_ns);

/* ---- a server call (call.c) ---- */

struct rpc_call_ops {
	/* A message of a streaming answer: packed before it returns; adds to queued_bytes. */
	void (*send)(struct rt_call *call, const ProtobufCMessage *message);
	/* The end, once. `answer`: of a unary answer that is OK, else NULL. `status` is borrowed. */
	void (*end)(struct rt_call *call, const ProtobufCMessage *answer,
		    const struct rt_status *status);
	/* Brings the next message: rpc_call_message or rpc_call_half_closed, later. */
	void (*read)(struct rt_call *call);
	/* From now on the handler wants to hear of a cancellation: rpc_call_cancelled. */
	void (*watch)(struct rt_call *call);
	int64_t (*remaining_ms)(const struct rt_call *call);
	const char *(*metadata)(const struct rt_call *call, const char *key, size_t *ret_length);
	const char *(*peer)(const struct rt_call *call);
	/* An operation that used the call's memory has ended; frees the call if it was the last. */
	void (*release)(struct rt_call *call);
};

struct rt_message {
	struct rt_arena arena;
};

struct rt_call {
	const struct rpc_call_ops *ops;
	struct rt_loop *loop;
	ProtobufCService *service;
	struct rpc_method *method;
	const struct rt_identity *identity; /* of its caller */
	const char *actor, *peer;           /* likewise, for people; NULL: not asked for yet */
	const char *traceparent;            /* that came and is valid, or ""; likewise */
	struct rt_span *span;               /* in the arena; NULL: it is not traced */
	struct rt_arena arena;              /* the request, metadata */
	ProtobufCBinaryData request;        /* while its handler runs for the first time */
	struct rt_message *messages;        /* the streamed message in hand; NULL until the first */
	struct rpc_metadata *initial, *trailing; /* of the answer */
	int64_t started_ns;
	size_t queued_bytes;
	bool ended;     /* by the handler */
	bool cancelled; /* known to be */
	bool reading, half_closed;
	bool on_message_due, on_cancel_due, on_drained_due; /* by `later` */
	struct rt_status forced; /* what the client hears whatever the handler says; OK: nothing */
	void (*on_message)(struct rt_call *call, const ProtobufCMessage *message, void *user);
	void (*on_cancel)(struct rt_call *call, void *user);
	void (*on_drained)(struct rt_call *call, void *user);
	void *on_message_user, *on_cancel_user, *on_drained_user;
	struct rt_task later;
};

/* The caller of a server that asks nobody. */
extern const struct rt_identity rpc_everybody;

/* A transport's side of it, in the order of a call's life. */
void rpc_call_init(struct rt_call *call, const struct rpc_call_ops *ops, struct rt_loop *loop);
/* The call has come; counted as started. */
void rpc_call_begin(struct rt_call *call, ProtobufCService *service, struct rpc_method *method);
/* Runs the handler: with the request in these bytes, or without one if the client streams. What
 * does not parse ends the call. */
void rpc_call_handle(struct rt_call *call, const uint8_t *data, size_t length);
/* What a read brought. */
void rpc_call_message(struct rt_call *call, const uint8_t *data, size_t length);
void rpc_call_half_closed(struct rt_call *call);
/* It brought a message that cannot be taken; `forced` says why. */
void rpc_call_bad_message(struct rt_call *call);
/* The client went, or the deadline passed, or `forced` says what happened. */
void rpc_call_cancelled(struct rt_call *call);
/* So many bytes of those queued are on the wire, or dropped. */
void rpc_call_sent(struct rt_call *call, size_t bytes);
/* Ends it with a status of the runtime's own. */
void rpc_call_refuse(struct rt_call *call, const struct rt_status *status);
/* True while a deferred callback needs the call. */
bool rpc_call_busy(const struct rt_call *call);
/* Empties it, for the next rpc_call_begin; gives its memory back as well. */
void rpc_call_reset(struct rt_call *call);
void rpc_call_done(struct rt_call *call);

/* ---- what the .proto files say (descriptors.c) ---- */

/* A packed FileDescriptorProto, by file name or by a name declared in it; NULL: none. */
struct rpc_file {
	const uint8_t *data;
	size_t length;
};
const struct rpc_file *rpc_descriptors_file(const char *name);
const struct rpc_file *rpc_descriptors_symbol(const char *name);

#endif
