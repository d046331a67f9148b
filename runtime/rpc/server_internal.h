/* server_internal.h - a server over gRPC. Private to rpc. A call's life, in the order things happen:
 *
 *   arm                   a struct server_call waits for a call of its method
 *     call_arrived        one came, the request with it; another is armed in its place
 *     rpc_call_handle     the handler runs … and ends the call, now or later
 *     start_send          initial metadata, message, status and "notify me when it is over": one batch
 *     call_sent
 *   call_release           nothing is under way any more: back to the pool
 */
#ifndef RT_RPC_SERVER_INTERNAL_H
#define RT_RPC_SERVER_INTERNAL_H

#include "call_internal.h"
#include "callers_internal.h"
#include "grpc_internal.h"

struct server_method {
	struct rpc_method base;
	struct server_method *next;
	ProtobufCService *service;
	void *registered;   /* gRPC's */
	unsigned int roles; /* that may call it */
	bool always;
};

struct server_call {
	struct rt_call base;
	struct rt_list link; /* armed: none; under way: server->active; else: server->pool */
	struct rt_server *server;
	struct server_method *method;             /* NULL: of an unknown one */
	struct rpc_caller_connection *connection; /* whose budgets it uses; NULL: none's */
	struct rpc_caller_named *named;           /* likewise */
	struct rt_http_call *
		http; /* it was read elsewhere (http_call.c), and has nothing of gRPC's; NULL: it came by gRPC */
	grpc_call *grpc;
	gpr_timespec deadline;
	grpc_metadata_array metadata;
	grpc_call_details details; /* of an unknown method */
	grpc_byte_buffer *received;
	int lost; /* what RECV_CLOSE says */

	struct rpc_outgoing_queue outgoing;
	grpc_byte_buffer *sending;
	size_t sending_bytes;
	/* Of its answer, as counted by callers.c; before it is there: what is expected. */
	size_t unread_bytes, expected_bytes;
	struct rt_status status;

	struct rt_list unwatched_link; /* server->unwatched, or none */
	int64_t watch_ms;              /* when it is watched, if it has not ended by then */

	struct rpc_tag arrive_tag, close_tag, read_tag, send_tag;
	struct rt_timer read_timer; /* runs while the caller's budgets delay a read */
	bool close_started, close_with_end, close_done;
	bool initial_sent, send_started, end_due, end_started, end_done;
	bool read_started;
	bool gone; /* its client had gone when it arrived: nothing is sent */
};

/* The other end of a call that was read elsewhere. Its names are those of its certificate, as rt_auth_certificate takes them. */
struct rt_http_peer {
	_Atomic int users;
	char *uri; /* as gRPC has it: "ipv4:10.1.2.3:5000" */
	bool has_certificate;
	char **names;
	size_t name_count;
};

/* Serves `service` under another name than its descriptor's (NULL: the same). `always`: its unary calls
 * are taken beyond calls_max. */
struct rpc_server_service {
	ProtobufCService *service;
	const char *name;
	bool always;
};
/* What goes with a server: its services, up to the first NULL; `drain` is called when the server begins
 * to, `free` with it. */
struct rpc_server_plugin {
	struct rpc_server_plugin *next;
	struct rpc_server_service services[2];
	void (*drain)(struct rpc_server_plugin *plugin);
	void (*free)(struct rpc_server_plugin *plugin);
};

struct rt_server {
	struct rt_loop *loop;
	struct rpc_queue *queue;
	grpc_server *grpc; /* NULL before the start */
	char *listen;
	struct rt_tls *tls;
	int64_t message_max_bytes, calls_max, connections_max, farewell_ms;
	int64_t streams_max; /* of a connection */
	int64_t connections_per_address;
	bool reuse_port;
	struct rt_metrics *metrics;
	int port;
	struct server_method *methods, **methods_end;
	struct rpc_callers *callers;
	unsigned int (*access)(const char *path); /* NULL: everybody may call everything */
	bool unlisted;                            /* a method has no row in it */
	const char **service_names;
	size_t service_count;
	struct rpc_server_plugin *plugins;
	struct rt_list active, pool;
	struct rt_list unwatched; /* unary calls to be watched if they last, by watch_ms */
	struct rt_timer watch_timer;
	size_t active_count, armed_count, pool_count;
	size_t pool_least;        /* since rt_server_rest */
	struct rt_status busy;    /* the status of calls beyond calls_max */
	struct rt_status leaving; /* the status of calls that come during the farewell */

	bool draining, closing, shut_down; /* farewell, no new calls, gRPC has ended */
	struct rpc_tag shutdown_tag;
	struct rt_timer farewell_timer, linger_timer, grace_timer;
	struct rt_task drained_task;
	void (*drained)(void *user);
	void *drained_user;
};

/* health.c, reflection.c. `readiness` NULL: always ready. */
struct rpc_server_plugin *rpc_health_new(struct rt_server *server, struct rt_readiness *readiness);
struct rpc_server_plugin *rpc_reflection_new(struct rt_server *server);

/* server_call.c */
struct server_call *rpc_server_call_new(struct rt_server *server);
void rpc_server_call_free(struct server_call *call);
/* Back to the pool, as good as new. */
void rpc_server_call_release(struct server_call *call);
/* RECV_CLOSE is started: at once, or by the timer for those that last. */
void rpc_server_watch(struct server_call *call);
/* Ends a call whose client went before its message came. To send a status would cost more than all the rest of
 * the call, and nobody would receive it. */
void rpc_server_call_gone(struct server_call *call);
/* The status of a call whose message came compressed. */
void rpc_server_set_compressed(struct server_call *call, struct rt_status *status);

/* Sends what is next, if something is and nothing is under way. */
void rpc_server_send_next(struct server_call *call);

/* server_drain.c. A call has ended; one that was armed will not come. */
void rpc_server_call_ended(struct rt_server *server);
void rpc_server_check_drained(struct rt_server *server);

#endif
