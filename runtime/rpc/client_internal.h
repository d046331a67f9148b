/* client_internal.h - clients: what all transports share (proxy.c), and those over gRPC. Private to rpc. */
#ifndef RT_RPC_CLIENT_INTERNAL_H
#define RT_RPC_CLIENT_INTERNAL_H

#include "call_internal.h"
#include "grpc_internal.h"

/* ---- on every transport (proxy.c) ---- */

struct rpc_client;
struct rpc_client_ops {
	void (*start)(struct rpc_client *client, struct rpc_method *method,
		      const ProtobufCMessage *request, struct rt_client_op *op);
	void (*cancel)(struct rt_client_op *op);
	void (*send)(struct rt_client_op *op, const ProtobufCMessage *message);
	size_t (*queued_bytes)(const struct rt_client_op *op);
	void (*half_close)(struct rt_client_op *op);
	void (*free)(struct rpc_client *client);
};
/* What rt_client_new and rt_client_local make begins with it. */
struct rpc_client {
	ProtobufCService service;
	const struct rpc_client_ops *ops;
	struct rpc_method *methods;
};
/* What op->call points at begins with it. */
struct rpc_client_call {
	const struct rpc_client_ops *ops;
};
void rpc_client_init(struct rpc_client *client, const struct rpc_client_ops *ops,
		     const ProtobufCServiceDescriptor *descriptor, struct rt_metrics *metrics);
void rpc_client_done(struct rpc_client *client);
/* What is queued has become less: runs op->on_drained when it is little now. */
void rpc_client_sent(struct rt_client_op *op, size_t before_bytes, size_t now_bytes);
/* Runs op->done; `status` and what is in it are the caller's to free afterwards. */
void rpc_client_end(struct rt_client_op *op, const struct rt_status *status,
		    const ProtobufCMessage *response);

/* ---- over gRPC ---- */

struct rt_channel {
	struct rt_loop *loop;
	struct rpc_queue *queue;
	grpc_channel **connections;
	bool *avoided; /* of each */
	int count;
	unsigned turn;
	struct rt_metrics *metrics;
	struct rt_list calls, pool;
	size_t pool_count;
	bool closing;
	struct rt_task freed_task;
	void (*freed)(void *user);
	void *freed_user;
};

struct remote_client {
	struct rpc_client base;
	struct rt_channel *channel;
	void **registered; /* [connection * methods + method]: gRPC's */
	size_t calls;
	bool freed;
};

struct client_call {
	struct rpc_client_call base;
	struct rt_list link;
	struct rt_channel *channel;
	struct remote_client *client;
	struct rpc_method *method;
	struct rt_client_op *op;
	grpc_call *grpc;
	struct rt_arena arena;
	int64_t started_ns;
	gpr_timespec deadline;
	bool cancelled; /* by us */

	grpc_metadata_array initial, trailing;
	grpc_status_code code;
	grpc_slice message;
	grpc_byte_buffer *received;
	struct rt_status status; /* of our own making, when the answer does not parse */

	struct rpc_outgoing_queue outgoing;
	grpc_byte_buffer *sending;
	size_t sending_bytes, queued_bytes;
	struct rpc_tag send_tag, read_tag, status_tag;
	bool send_started, read_started, initial_asked, status_done, half_closed;
};

/* channel.c: the connection whose turn it is; not one that is avoided, unless all are. */
unsigned rpc_channel_next_connection(struct rt_channel *channel);
void rpc_channel_call_ended(struct rt_channel *channel);

/* channel.c: the memory of calls. */
struct client_call *rpc_client_call_new(struct rt_channel *channel);
void rpc_client_call_free(struct client_call *call);
void rpc_client_call_release(struct client_call *call);

#endif
