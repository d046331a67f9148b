/* rpc.h - protobuf-c services over gRPC core (C API), with callbacks.
 *
 * protobuf-c generates a vtable for a server (Tandem__Order__V1__OrderService) and descriptors; the
 * runtime carries their calls over gRPC, with no generated glue. Which methods stream is read from the
 * FileDescriptorSet embedded at build time.
 *
 * Everything here is called on, and calls back on, the loop thread.
 *
 * A handler is `void method(Service *service, const Request *request, Closure closure,
 * void *closure_data)`; closure_data is the struct rt_call of the call. It ends a call exactly
 * once:
 *   unary              closure(&response, call), or rt_call_fail
 *   server streaming   closure(&response, call) any number of times, then rt_call_finish or _fail
 *   client streaming   request is NULL; rt_call_read for each message; then closure or _fail
 *   bidirectional      request is NULL; rt_call_read; closure many times; rt_call_finish or _fail
 * A call whose client went, or whose deadline passed, before it arrived reaches no handler.
 * `request` and what rt_call_read brings stay valid until the call ends, or for streamed messages
 * until the next rt_call_read. A response is packed before closure returns. A client that went,
 * or a deadline that passed, cancels the call: rt_call_on_cancel; the handler still ends it, and
 * however it does: the end is CANCELLED, or DEADLINE_EXCEEDED when the deadline has passed. */
#ifndef RT_RPC_H
#define RT_RPC_H

#include <protobuf-c/protobuf-c.h>

#include "auth/auth.h"
#include "base/base.h"
#include "loop/loop.h"
#include "tls.h"
#include "trace/trace.h"

/* A gRPC status with google.rpc details. Zeroed memory is OK without a message; rt_status_done
 * frees. It may be copied by rt_status_copy only. */
struct rt_status {
	int code; /* gRPC status code, 0…16 */
	char *message;
	void *details; /* packed google.rpc.Status, as in grpc-status-details-bin; NULL: none */
	size_t details_length;
};
#define RT_CODE_CANCELLED           1
#define RT_CODE_UNKNOWN             2
#define RT_CODE_INVALID_ARGUMENT    3
#define RT_CODE_DEADLINE_EXCEEDED   4
#define RT_CODE_NOT_FOUND           5
#define RT_CODE_ALREADY_EXISTS      6
#define RT_CODE_PERMISSION_DENIED   7
#define RT_CODE_RESOURCE_EXHAUSTED  8
#define RT_CODE_FAILED_PRECONDITION 9
#define RT_CODE_ABORTED             10
#define RT_CODE_OUT_OF_RANGE        11
#define RT_CODE_UNIMPLEMENTED       12
#define RT_CODE_INTERNAL            13
#define RT_CODE_UNAVAILABLE         14
#define RT_CODE_DATA_LOSS           15
#define RT_CODE_UNAUTHENTICATED     16
const char *rt_code_name(int code); /* "INVALID_ARGUMENT" */
void rt_status_set(struct rt_status *status, int code, const char *format, ...) RT_PRINTF(3, 4);
void rt_status_done(struct rt_status *status);
void rt_status_copy(struct rt_status *to, const struct rt_status *from);
/* Details; each may be added to a status that was set. A detail type stands once in a status:
 * violations gather in one BadRequest. */
void rt_status_violation(struct rt_status *status, const char *field, const char *format, ...)
	RT_PRINTF(3, 4);
void rt_status_retry(struct rt_status *status, int64_t delay_ms);
int64_t rt_status_retry_ms(const struct rt_status *status);        /* -1: it does not say */
void rt_status_info(struct rt_status *status, const char *reason); /* ErrorInfo, domain "tandem" */
void rt_status_precondition(struct rt_status *status, const char *type, const char *subject,
			    const char *description);
/* The status for the end of a runtime operation: `rc` is an RT_ status; RetryInfo is added to
 * those worth trying again. `what` begins the message: "storing the order". */
void rt_status_from(struct rt_status *status, int rc, const char *what);
/* The status as a google.rpc.Status message (for items of batches) and back. The message is
 * freed with google__rpc__status__free_unpacked. */
struct Google__Rpc__Status;
struct Google__Rpc__Status *rt_status_to_proto(const struct rt_status *status);
void rt_status_from_proto(struct rt_status *status, const struct Google__Rpc__Status *proto);

/* ---- both sides ---- */

/* Start and end of gRPC in this process. rt_rpc_init may be called more than once; each needs an
 * rt_rpc_shutdown. Call it first in main, before other threads. */
void rt_rpc_init(void);
void rt_rpc_shutdown(void);

/* A FileDescriptorSet (protoc --descriptor_set_out --include_imports), embedded. */
struct rt_descriptors {
	const uint8_t *data;
	size_t length;
};
extern const struct rt_descriptors rt_descriptors; /* generated: every .proto of the build */
/* Whether a method streams. False: the descriptor set does not know it. Any thread. */
bool rt_descriptors_method(const char *service, const char *method, bool *ret_client_streams,
			   bool *ret_server_streams);

/* ---- server, handler side ---- */

struct rt_call; /* opaque */

/* A method whose input type is this one gets its request unread: the handler takes the bytes. */
extern const ProtobufCMessageDescriptor rt_unread_descriptor;
/* The bytes of a unary request, valid until the call ends; within the handler's first call only. */
ProtobufCBinaryData rt_call_request(struct rt_call *call);
/* The same, checked and unpacked. NULL: *status says what is wrong with them. */
const ProtobufCMessage *rt_call_unpack(struct rt_call *call, const ProtobufCMessageDescriptor *type,
				       struct rt_status *status);

void rt_call_fail(struct rt_call *call, const struct rt_status *status); /* copies */
void rt_call_failf(struct rt_call *call, int code, const char *format, ...) RT_PRINTF(3, 4);
/* With what rt_status_from makes of a status of the runtime. */
void rt_call_fail_from(struct rt_call *call, int rc, const char *what);
/* Ends a streaming call with OK. */
void rt_call_finish(struct rt_call *call);
/* Flow control for a handler that streams: the bytes that closure got and that are not on the wire
 * yet. Above RT_CALL_QUEUE_MAX_BYTES closure still takes messages, but a handler should first wait
 * for on_drained. */
#define RT_CALL_QUEUE_MAX_BYTES (256 * 1024)
size_t rt_call_queued_bytes(const struct rt_call *call);
/* on_drained runs once, never before this returns, when half of RT_CALL_QUEUE_MAX_BYTES or less is
 * queued. NULL takes it back. */
void rt_call_on_drained(struct rt_call *call, void (*on_drained)(struct rt_call *call, void *user),
			void *user);
/* Asks for the next message of a client's stream. on_message gets it, or NULL at the end of the
 * stream (half-close, cancelled). One read at a time. */
void rt_call_read(struct rt_call *call,
		  void (*on_message)(struct rt_call *call, const ProtobufCMessage *message,
				     void *user),
		  void *user);
/* In on_message: the message stays valid beyond the next read and the call's end, until
 * rt_message_free of what this returns. */
struct rt_message; /* opaque */
struct rt_message *rt_call_keep_message(struct rt_call *call);
void rt_message_free(struct rt_message *message); /* takes NULL */
/* Runs once if the call is cancelled before it has ended; at the end of this turn when it was
 * already. NULL takes it back. The handler must still end the call (any end will do).
 * A call is watched from the first time this is asked for, because watching costs, and a unary call only
 * if it lasts: a cancellation may be reported 100 ms late. A unary call that nobody watches is known to be
 * cancelled only when its deadline has passed. */
void rt_call_on_cancel(struct rt_call *call, void (*on_cancel)(struct rt_call *call, void *user),
		       void *user);
bool rt_call_cancelled(const struct rt_call *call);
/* Milliseconds until the client's deadline, INT64_MAX without one; <= 0: passed. */
int64_t rt_call_remaining_ms(const struct rt_call *call);
/* A value of the client's metadata by lower-case key, its first, valid while the call is; NULL:
 * none. Binary values ("-bin") come decoded; *ret_length may be NULL. */
const char *rt_call_metadata(const struct rt_call *call, const char *key, size_t *ret_length);
/* Metadata for the answer; initial before the first message, trailing before the end. Copies. */
void rt_call_set_initial(struct rt_call *call, const char *key, const void *value, size_t length);
void rt_call_set_trailing(struct rt_call *call, const char *key, const void *value, size_t length);
/* From which address it comes: "10.1.2.3:5000", "[2001:db8::1]:5000"; if a gateway calls for somebody, that one's.
 * Valid until the call ends. */
const char *rt_call_peer(const struct rt_call *call);
/* Who calls, or on whose behalf the gateway does; valid until the call ends. With a server that asks nobody it is an
 * operator without a name (way RT_AUTH_NONE). Its role may call this method; that a customer reaches its own things alone
 * (`owner`) is for the handler to see to. */
const struct rt_identity *rt_call_identity(const struct rt_call *call);
/* The same for records and people (rt_identity_actor); "" if it has no name. Valid until the call ends. */
const char *rt_call_actor(const struct rt_call *call);

/* Its span, while the call is under way; NULL: calls are not traced. The handler says which order it concerns. */
struct rt_span *rt_call_span(const struct rt_call *call);
/* The W3C traceparent that came with it, as version 00 has it, to be passed on where calls are not traced here; "" if there
 * is none, or it is not valid. Valid until the call ends. */
const char *rt_call_traceparent(const struct rt_call *call);
/* The tracestate that came with it; "" if one of the two is not valid. */
const char *rt_call_tracestate(const struct rt_call *call);

/* ---- server ---- */

struct rt_server; /* opaque */

/* How much may be under way, or come in a second, after which as much may come at once; 0: no limit. */
struct rt_budget {
	int64_t calls, streams; /* under way */
	int64_t rate; /* calls in a second; each message of a client's stream counts as one */
	/* Of requests and answers in a second. What there is not enough of is known when an answer has been made: it is
	 * sent, and the next call has to wait for longer. */
	int64_t bytes;
};
/* Beyond a budget calls get RESOURCE_EXHAUSTED, with RetryInfo and an ErrorInfo that names it (CALLS_PER_CONNECTION …), and
 * a client's stream is read more slowly. Health (Check) is answered beyond them. */
struct rt_budgets {
	/* Of a connection, and of somebody who has said who it is, on all its connections together. */
	struct rt_budget connection, caller;
	/* Of answers to unary calls that the client has not let through yet; twice as much in the process. */
	int64_t unread_bytes_per_connection;
	/* Signed tokens in a second that are not good; beyond them those of this address are not looked at, unless they were
	 * found good before. */
	int64_t refused_tokens_per_address;
};

struct rt_server_options {
	const char *listen; /* "127.0.0.1:50051", "unix:/path"; port 0: any */
	struct rt_tls
		*tls; /* of this server alone, with a certificate; NULL: calls are not encrypted */
	int64_t message_max_bytes; /* of a request; 0: 4 MiB */
	int64_t calls_max; /* under way; one more gets RESOURCE_EXHAUSTED + RetryInfo; 0: 10000 */
	int64_t connections_max; /* open; for one more an idle one is closed, or it is; 0: 4096 */
	int64_t connections_per_address; /* as in struct rt_connection_limits */
	/* Draining begins so long before connections are asked to close: calls that come meanwhile get
	 * UNAVAILABLE + RetryInfo. 0: at once; gRPC then cancels such calls without a status. */
	int64_t farewell_ms;
	/* What health answers, for each service and for "" (all); NULL: SERVING until the drain. */
	struct rt_readiness *readiness;
	/* Who calls is asked, and has to be known, except for methods that are for anyone; NULL: nobody is asked, and
	 * everybody may do everything. Lives as long as the server. */
	struct rt_auth *auth;
	/* The roles that may call the method at this path, as 1 << enum rt_role; 0: it has no row, and the server does
	 * not start. NULL: every role may call everything. */
	unsigned int (*access)(const char *path);
	/* It stands behind a gateway: callers are the gateway, which says on whose behalf it calls, and operators. It has no
	 * budgets: the gateway has. */
	bool inner;
	struct rt_budgets budgets;
	bool reuse_port;            /* off: a second server on the port fails to start */
	struct rt_metrics *metrics; /* grpc_server_* ; NULL: none */
};
int rt_server_new(struct rt_loop *loop, const struct rt_server_options *options,
		  struct rt_server **ret);
/* Serves every method of `service` (borrowed; its `invoke` is what is called). Before the start.
 * Health (Check, Watch) and reflection (v1, v1alpha) are there already. */
void rt_server_add(struct rt_server *server, ProtobufCService *service);
/* Binds and serves. RT_SYSTEM when the port cannot be had. */
int rt_server_start(struct rt_server *server);
int rt_server_port(const struct rt_server *server);
/* Graceful end: health says NOT_SERVING and Watch streams end; new calls are refused for farewell_ms;
 * then no new calls, connections are asked to close, those without calls are closed. Calls that run
 * finish; after grace_ms they are cancelled. `drained` runs once when none is left. */
void rt_server_drain(struct rt_server *server, int64_t grace_ms, void (*drained)(void *user),
		     void *user);
/* Before the start, or after drained. Takes NULL. */
void rt_server_free(struct rt_server *server);
/* To be called each second: frees half of what was kept for further calls and was not needed since the last time.
 * Takes NULL. */
void rt_server_rest(struct rt_server *server);
/* Calls under way, for tests and metrics. */
size_t rt_server_calls(const struct rt_server *server);

/* ---- calls that another port has read ----
 *
 * A call need not come by gRPC: whoever has read one from elsewhere, HTTP above all, hands it to the server with its
 * messages packed, and gets packed ones. It is a call like all others: asked who makes it, counted in the budgets of its
 * connection and its caller, refused and drained. Only the connection is somebody else's. */

/* A connection that such calls come by; any thread. `uri` is its other end: "ipv4:10.1.2.3:5000", "ipv6:[2001:db8::1]:5000",
 * "unix:". `names` are those of the certificate that it has shown, as rt_auth_certificate takes them; NULL: it has shown
 * none. All is copied. */
struct rt_http_peer; /* opaque */
struct rt_http_peer *rt_http_peer_new(const char *uri, const char *const *names, size_t count);
struct rt_http_peer *rt_http_peer_hold(struct rt_http_peer *peer);
void rt_http_peer_free(
	struct rt_http_peer *peer); /* once for _new, and for each _hold; takes NULL */

/* One call. Embed it. Zero it, set the in-fields, which are borrowed until `done`, start it. */
struct rt_http_call {
	/* In. */
	struct rt_http_peer *peer;
	const char *path; /* "/tandem.order.v1.OrderService/GetOrder" */
	const char *authorization, *traceparent, *tracestate; /* as headers have them; NULL: none */
	int64_t timeout_ms;                                   /* until the deadline; 0: none */
	/* All that its client has sent; one unless the client streams. */
	const ProtobufCBinaryData *messages;
	size_t message_count;
	/* A message of the answer; the bytes are the callee's. Not within rt_http_call_start. */
	void (*on_message)(struct rt_http_call *call, struct rt_buf *bytes);
	/* The end, once; not within rt_http_call_start. Nothing of the call is used any more. */
	void (*done)(struct rt_http_call *call, const struct rt_status *status);
	void *served; /* the runtime's */
};
void rt_http_call_start(struct rt_server *server, struct rt_http_call *call);
/* Its client has gone; `done` still runs. Not after it. */
void rt_http_call_cancel(struct rt_http_call *call);
/* So many bytes of messages have gone to the client: a handler that streams waits for it. Not after `done`. */
void rt_http_call_sent(struct rt_http_call *call, size_t bytes);

/* ---- client ---- */

struct rt_channel; /* opaque: connections to the instances behind a target, which come and go */

struct rt_channel_options {
	int64_t message_max_bytes;  /* of an answer; 0: 4 MiB */
	struct rt_metrics *metrics; /* grpc_client_*, tandem_instances_* ; NULL: none */
	int connections;            /* separate connections to each address; 0: 1 */
	struct rt_tls *tls;         /* with authorities; NULL: calls are not encrypted */
	const char *token; /* borrowed; sent with each call, as a bearer token; NULL: none */
};
/* `target`: "host:port", or an address as gRPC has it ("unix:/path"); or several, with commas between.
 * A host's name is looked up every 2 s; calls go to all addresses that it has, in turn.
 * RT_INVALID: one of them is empty. */
int rt_channel_new(struct rt_loop *loop, const char *target,
		   const struct rt_channel_options *options, struct rt_channel **ret);
/* The highest number that a connection may have now (they begin with 1); it may grow. */
int rt_channel_connections(const struct rt_channel *channel);
/* It is up and serves, as far as is known. `connection` 0: does any? */
bool rt_channel_usable(const struct rt_channel *channel, int connection);
/* Asks each instance for the health of `service` (kept) from now on, five times a second. While one serves,
 * those that do not get no calls, and those that do not answer lose the calls under way: UNAVAILABLE, within
 * a second. Once a channel, before its first call. `readiness` gets a check called `name` for that service, which
 * holds while an instance serves; it is not read any more when the channel is freed. NULL: none. */
void rt_channel_check_health(struct rt_channel *channel, const char *service,
			     struct rt_readiness *readiness, const char *name);
/* Cancels what is under way; each `done` runs before `freed` does. Takes NULL (freed runs). */
void rt_channel_free(struct rt_channel *channel, void (*freed)(void *user), void *user);

/* A proxy for a service behind the channel: give it to the functions protobuf-c generated, or to
 * rt_client_start. Its plain generated functions use a deadline of 30 s and hand the closure NULL
 * on any error. Freed with rt_client_free. */
ProtobufCService *rt_client_new(struct rt_channel *channel,
				const ProtobufCServiceDescriptor *descriptor);
void rt_client_free(ProtobufCService *client);

/* One call. Embed it. Zero it, set the in-fields, start it. */
struct rt_client_op {
	/* In. */
	int64_t timeout_ms; /* until the deadline; 0: none */
	const char
		*traceparent;   /* sent as metadata, borrowed until start returns; NULL, "": none */
	const char *tracestate; /* likewise */
	const struct rt_span *
		cause; /* for what it is made: it gets a span of its own below that one; likewise */
	const struct rt_identity *caller; /* on whose behalf; likewise; NULL: its own */
	const struct rt_call *
		caller_call; /* for which it is made: its address is passed on with the caller; NULL: none */
	/* Which of the channel's, from 1; 0: those that are usable in turn, and which it is stands here
	 * once the call is started. A number without a connection: the call fails. */
	int connection;
	/* Client streaming: what is queued has fallen to half of RT_CALL_QUEUE_MAX_BYTES or less, from
	 * above it. A client that finds more than RT_CALL_QUEUE_MAX_BYTES queued should wait for this.
	 * NULL: does not care. */
	void (*on_drained)(struct rt_client_op *op);
	/* The address of its connection is gone: other calls go elsewhere, and the connection is closed when
	 * this call has ended. May end it or cancel it. NULL: goes on. */
	void (*on_leave)(struct rt_client_op *op);
	/* Streaming answers: each message as it comes, valid during the call; the next is asked for
	 * when it returns, unless it has set `held`. NULL for unary answers. */
	void (*on_message)(struct rt_client_op *op, const ProtobufCMessage *message);
	bool held; /* no message is asked for until rt_client_go_on */
	/* The end. `response`: the answer of a unary-answer call when status.code is 0, else NULL;
	 * valid until done returns. `status` is freed after done. */
	void (*done)(struct rt_client_op *op, const ProtobufCMessage *response);
	struct rt_status status;
	void *call; /* the runtime's */
};
/* Starts a call. `request` is packed before this returns; NULL for client streaming. */
void rt_client_start(ProtobufCService *client, unsigned method_index,
		     const ProtobufCMessage *request, struct rt_client_op *op);
/* Cancels; done still runs, once. After done: undefined. */
void rt_client_cancel(struct rt_client_op *op);
/* Takes back `held`. Without a network messages come all the same. */
void rt_client_go_on(struct rt_client_op *op);
/* Client streaming: sends a message (packed before it returns, queued if need be; always taken), and
 * the end. Bytes queued are those that are not on the wire yet. */
void rt_client_send(struct rt_client_op *op, const ProtobufCMessage *message);
size_t rt_client_queued_bytes(const struct rt_client_op *op);
void rt_client_half_close(struct rt_client_op *op);

/* ---- without a network, for the simulation and tests ---- */

/* A proxy like rt_client_new's that calls `service` in this process through the loop: requests and
 * answers are packed and unpacked as on a wire, and arrive in later turns. `fault`, when set, is
 * asked at each step ("request", "message", "response") and may return an RT_ status to make that
 * step fail (the client sees UNAVAILABLE), or set *delay_ms. Freed with rt_client_free. */
ProtobufCService *rt_client_local(struct rt_loop *loop, ProtobufCService *service,
				  int (*fault)(void *user, const char *step, int64_t *delay_ms),
				  void *user);

#endif
