/* client_internal.h - clients: what all transports share (proxy.c), and those over gRPC. Private to rpc. */
#ifndef RT_RPC_CLIENT_INTERNAL_H
#define RT_RPC_CLIENT_INTERNAL_H

#include "call_internal.h"
#include "grpc_internal.h"
#include "tls_internal.h"

/* ---- on every transport (proxy.c) ---- */

struct rpc_client;
struct rpc_client_ops {
	void (*start)(struct rpc_client *client, struct rpc_method *method,
		      const ProtobufCMessage *request, struct rt_client_op *op);
	void (*cancel)(struct rt_client_op *op);
	void (*send)(struct rt_client_op *op, const ProtobufCMessage *message);
	size_t (*queued_bytes)(const struct rt_client_op *op);
	void (*half_close)(struct rt_client_op *op);
	void (*go_on)(struct rt_client_op *op);
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

/* How an instance answers (probe.c). */
struct rpc_probe {
	struct rt_client_op op;
	enum probe_state { PROBE_NEW, PROBE_SERVES, PROBE_SERVES_NOT, PROBE_SILENT } state;
	bool asking;
	int missed;        /* ticks without a sign of life */
	uint64_t received; /* connection->received at the last tick */
	char reason[160];  /* why it does not serve */
};

/* A connection to an address (connection.c). */
struct rpc_connection {
	struct rt_channel *channel;
	const struct rpc_name *name; /* whose address it is; NULL: it was given as an address */
	char *address;               /* as gRPC has it */
	grpc_channel *grpc;
	void **methods; /* gRPC's handle of each of the channel's methods; NULL: not called yet */
	size_t method_count;
	struct rt_list calls;
	size_t balanced_count; /* of them, those that took this one because it was next, and do not stream */
	uint64_t received;    /* messages */
	bool avoided;         /* it does not serve, as far as is known */
	bool leaving;         /* its address is gone: closed when its calls have ended */
	unsigned int renewal; /* the channel's when it was made */
	struct rpc_probe probe;
};

/* Asks each connection for the health of a service (probe.c). */
struct rpc_prober {
	struct rt_channel *channel;
	const char *service;
	ProtobufCService *health;
	struct rt_timer tick;
	struct rt_check check;
	struct rt_series *serving, *silenced; /* NULL: no metrics */
	/* What channel.c calls: there are new connections; one begins to leave; the channel ends; it is freed. */
	void (*connected)(struct rt_channel *channel);
	void (*leaves)(struct rpc_connection *connection);
	void (*stop)(struct rt_channel *channel);
	void (*done)(struct rt_channel *channel);
};

struct rt_channel {
	struct rt_loop *loop;
	struct rpc_queue *queue;
	struct rpc_connection **connections; /* NULL: none there now */
	size_t count, capacity;
	struct rpc_connection *nowhere; /* takes the calls while there is no other */
	struct rpc_connection *early;   /* those from before a name was looked up; NULL: none yet */
	size_t turn;
	int each; /* connections to each address */
	int64_t message_max_bytes;
	struct rt_tls *tls;  /* NULL: none */
	char *authorization; /* NULL: none */
	struct rt_tls_user tls_user;
	unsigned int renewal; /* grows when there are other certificates */
	struct rt_timer renew_timer;
	int64_t renewed_ms;
	struct rpc_name *names; /* those that have to be looked up (names.c) */
	void (*names_stopped)(struct rt_channel *channel);
	struct rpc_prober *prober; /* NULL: none is asked */
	struct rt_metrics *metrics;
	size_t method_count; /* of its clients */
	struct rt_list pool;
	size_t pool_count, call_count;
	bool closing;
	struct rt_task freed_task;
	void (*freed)(void *user);
	void *freed_user;
};

struct remote_client {
	struct rpc_client base;
	struct rt_channel *channel;
	size_t first_method; /* the number of its first among the channel's methods */
	size_t calls;
	bool freed;
};

struct client_call {
	struct rpc_client_call base;
	struct rt_list link; /* connection->calls; channel->pool */
	struct rt_channel *channel;
	struct rpc_connection *connection;
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
	bool balanced;       /* in connection->balanced_count */
	struct rt_span span; /* kind RT_SPAN_NONE: it is not traced */
};

/* connection.c. `name`: whose address it is, or NULL. */
struct rpc_connection *rpc_connection_new(struct rt_channel *channel, const char *address,
					  const struct rpc_name *name);
/* One whose calls fail with UNAVAILABLE. */
struct rpc_connection *rpc_connection_nowhere(struct rt_channel *channel, const char *target);
void rpc_connection_free(struct rpc_connection *connection); /* takes NULL */
/* gRPC's handle of a method, by its number in the channel. */
void *rpc_connection_method(struct rpc_connection *connection, size_t number, const char *path);
/* It serves, as far as is known, and is up. */
bool rpc_connection_usable(const struct rpc_connection *connection);
/* Ends its calls, but that of its probe: UNAVAILABLE. */
void rpc_connection_end_calls(struct rpc_connection *connection, const char *why);

/* channel.c: the connection for a call, `number` as in rt_client_op; sets it when it is 0. */
struct rpc_connection *rpc_channel_connection(struct rt_channel *channel, int *number);
/* A call on this connection has ended, and is not in its list any more. */
void rpc_channel_call_ended(struct rt_channel *channel, struct rpc_connection *connection);

/* names.c. False: `address` needs no lookup. */
bool rpc_name_is(const char *address);
/* Looks it up, again and again. `found` gets its addresses each time. */
void rpc_name_add(struct rt_channel *channel, const char *address,
		  void (*found)(struct rt_channel *channel, const struct rpc_name *name,
				char *const *addresses, size_t count));
/* Stops that. False: a lookup is ending, and `stopped` runs when none is. */
bool rpc_names_stop(struct rt_channel *channel, void (*stopped)(struct rt_channel *channel));
const char *rpc_name_host(const struct rpc_name *name);
/* One that was not looked up yet; NULL: all were. */
const struct rpc_name *rpc_names_unknown(const struct rt_channel *channel);
/* "host:port"; freed by the caller. */
char *rpc_name_address(const struct rpc_name *name);
void rpc_names_free(struct rt_channel *channel);

/* channel.c: the memory of calls. */
struct client_call *rpc_client_call_new(struct rt_channel *channel);
void rpc_client_call_release(struct client_call *call);

#endif
