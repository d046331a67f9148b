/* gateway_internal.h - what the gateway's files share among themselves. */
#ifndef GATEWAY_INTERNAL_H
#define GATEWAY_INTERNAL_H

#include "gateway.h"
#include "rpc/rpc.h"
#include "shedding.h"
#include "tandem/archive/v1/archive_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"
#include "tandem/order/v1/placement.pb-c.h"

#define uthash_fatal(text) abort()
#include <uthash.h>

/* A packed order within the contract's limits is smaller; a larger one has unknown fields. */
#define GATEWAY_ORDER_MAX_BYTES 16384
/* Items in a message, whose bytes are bounded as well. */
#define GATEWAY_BATCH_MAX 1000
/* The RetryInfo that UNAVAILABLE gets when it came without one. */
#define GATEWAY_RETRY_MS 200
/* Likewise, when the archive is away. */
#define GATEWAY_ARCHIVE_RETRY_MS 1000

typedef Tandem__Order__V1__PackedOrderResult gateway_result;
typedef Tandem__Order__V1__PlaceOrderRequest gateway_place_request;
typedef Tandem__Archive__V1__GetArchivedOrderResponse archived_response;

/* What becomes of a call when the order service does not have an order that the archive may have. */
enum gateway_archived {
	ARCHIVED_NOT, /* nothing */
	ARCHIVED_GET, /* the archive's order is the answer … */
	ARCHIVED_EXPLAIN,
	ARCHIVED_WATCH,
	ARCHIVED_LIST,  /* … or a part of it */
	ARCHIVED_MOVE,  /* it is refused: the order cannot be changed any more */
	ARCHIVED_MOVES, /* likewise, item by item */
};

/* A service as the gateway serves it: the descriptor of its client, but that PlaceOrder's request comes
 * unread, and its own invoke. */
struct gateway_service {
	ProtobufCService base;
	ProtobufCServiceDescriptor descriptor;
	ProtobufCMethodDescriptor *methods; /* the descriptor's */
	bool *reads;   /* of each: it changes nothing, and may be asked again */
	bool *streams; /* its answer is a stream */
	enum gateway_archived *archived;
	struct gateway *gateway;
	ProtobufCService *client;
	struct rt_channel *channel; /* the client's, or NULL */
};

/* A stream of items to an instance of the order service. */
struct gateway_stream {
	struct gateway *gateway;
	struct rt_client_op op;
	int connection; /* from 1 */
	bool open;
	bool leaving;                 /* takes no more items, and ends with the last answer */
	size_t storing_count;         /* sent, and answered as soon as they are stored */
	struct gateway_placing *sent; /* and not answered, by number, in the order of sending */
	uint64_t *cancelled;          /* numbers to cancel with the next message */
	size_t cancelled_count, cancelled_capacity;
	struct shed_load load; /* what its instance said last */
	double held;           /* likewise: orders whose partition is away */
	int64_t load_ms;       /* when; 0: nothing */
};

/* A customer that has orders on their way, and may have only so many. */
struct gateway_customer {
	UT_hash_handle hh; /* by customer_id */
	size_t placing_count;
	char customer_id[];
};

struct gateway {
	struct rt_loop *loop;
	struct gateway_options options;
	struct gateway_service order, inventory, archive;
	/* Indexes of the methods that do not simply pass through. */
	unsigned place_order, batch_place_orders, stream_orders, watch_order;
	/* Orders on their way (placing.c). */
	struct gateway_stream **streams; /* one for each connection */
	size_t stream_count, stream_capacity;
	size_t turn;            /* which of them is next */
	size_t storing_streams; /* those with orders that are being stored */
	struct rt_list waiting; /* to be sent, at the end of the turn or soon */
	size_t placing_count, waiting_count;
	struct gateway_customer *customers;
	/* Orders of which the archive is asked whether they were placed before (perhaps_dropped.c). */
	struct rt_list questions, asked; /* to be asked at the end of the turn; under way */
	struct rt_task ask_task;
	uint64_t number; /* of the last item */
	struct rt_task send_task;
	Tandem__Order__V1__PlacementItem *items, **item_list; /* what a message is packed from */
	struct rt_series *batches, *batch_items, *refused;    /* NULL: no metrics */
	struct shedding shedding;
	struct gateway_shed {
		struct rt_timer timer;
		bool running;
		int64_t asked_ms;   /* when an order came last, or an instance said something */
		int64_t counted_ms; /* when what follows began */
		double offered, admitted;
		double offered_flow, admitted_flow; /* a second, of late */
		double stored_flow;                 /* likewise; 0: not known */
		double held;                        /* orders whose partition is away */
		double wait_ms, growth; /* of calls before they are read; of that, a ms */
	} shed;
	int64_t shed_since_ms, shed_count; /* when it began, and orders refused since */
	struct rt_series *shed_share, *shed_orders[SHED_CAUSE_COUNT], *loads[SHED_CAUSE_COUNT];
	bool stopping;
	struct rt_task stop_task;
	void (*stopped)(void *user);
	void *stopped_user;
};

/* ---- one order on its way to the order service (placing.c) ---- */

/* Embedded, zeroed, in the caller's struct. */
struct gateway_placing {
	/* In. */
	const struct rt_call *call; /* that places it; for the time of gateway_place */
	const char *traceparent;    /* of the caller, valid, borrowed until done; "": none */
	const char *tracestate;     /* that came with it; likewise */
	struct rt_span *cause;      /* the call's; NULL: it is not traced */
	bool is_call; /* it is all that the call asks for: they are in the same trace, also without a traceparent */
	const char *actor;    /* the caller (rt_call_actor); likewise */
	int64_t remaining_ms; /* until the caller's deadline; INT64_MAX: it has none */
	int64_t wait_max_ms;  /* for its decision; 0: until the deadline */
	/* `order` is a packed Order; NULL: it was not placed, and `status` says why. Both are borrowed. */
	void (*done)(struct gateway_placing *placing, const ProtobufCBinaryData *order,
		     const struct rt_status *status);
	/* Private to placing.c. */
	struct gateway *gateway;
	ProtobufCBinaryData request; /* packed */
	uint8_t *owned;              /* its bytes, unless they are the call's */
	bool wait_for_decision;
	enum { PLACING_WAITS, PLACING_SENT, PLACING_ASKS, PLACING_ENDS } stage;
	struct rt_list link;               /* unless it is sent, or the archive is asked */
	struct gateway_question *question; /* ASKS */
	bool asked;                        /* the archive does not have it */
	UT_hash_handle hh;                 /* stream->sent */
	struct gateway_stream *stream;
	struct gateway_customer *customer; /* NULL: its orders are not counted */
	uint64_t number;
	int64_t deadline_ms; /* of the loop's clock */
	struct rt_timer timer;
	bool again;          /* sent a second time */
	struct rt_span span; /* from sending to its answer */
	char own_traceparent[RT_TRACEPARENT_TEXT];
};
/* Checks an order and sends it. `done` runs once, never before this returns, unless the placing is
 * abandoned. False: refused, *status says why, and `done` will not run. */
bool gateway_place(struct gateway *gateway, struct gateway_placing *placing,
		   const gateway_place_request *request, struct rt_status *status);
/* The same for the request of a call that came unread: its bytes are sent as they are. */
bool gateway_place_call(struct gateway *gateway, struct gateway_placing *placing,
			struct rt_call *call, struct rt_status *status);
/* The caller has gone: `done` will not run, and the placing and its call may be freed. The order
 * may still be placed. */
void gateway_place_abandon(struct gateway_placing *placing);
void gateway_streams_new(struct gateway *gateway);
/* Fails the orders that wait and cancels the streams. True: all streams have ended; else each defers
 * stop_task when it ends. */
bool gateway_streams_close(struct gateway *gateway);
void gateway_streams_free(struct gateway *gateway);

/* ---- orders that were perhaps placed before (perhaps_dropped.c) ---- */

struct gateway_question; /* opaque */
/* With the order as it is in the archive, packed; or with why it is not placed; or with neither (code 0): it is to be placed. */
typedef void gateway_question_answered(struct gateway_placing *placing,
				       const ProtobufCBinaryData *order,
				       const struct rt_status *status);
/* Asks the archive. `tell` runs once, never before this returns, unless the question is abandoned. */
struct gateway_question *gateway_question_ask(struct gateway_placing *placing,
					      const Tandem__Order__V1__PerhapsDropped *perhaps,
					      gateway_question_answered *tell);
void gateway_question_abandon(struct gateway_question *question);
void gateway_questions_new(struct gateway *gateway);
/* Ends those that are under way. True: none is; else each defers stop_task when it ends. */
bool gateway_questions_close(struct gateway *gateway);

/* ---- refusing orders early (shed.c) ---- */

void gateway_shed_metrics(struct gateway *gateway, struct rt_metrics *metrics);
void gateway_shed_stop(struct gateway *gateway);
/* What the instance at the end of this stream has to do. */
void gateway_shed_note(struct gateway_stream *stream,
		       const Tandem__Order__V1__PlacementLoad *message);
/* That one is gone: nothing is known of it any more. */
void gateway_shed_lost(struct gateway_stream *stream);
/* False: the next order is refused, and *status says so. */
bool gateway_shed_admits(struct gateway *gateway, struct rt_status *status);

/* ---- the methods with a file of their own ---- */

void gateway_place_order(struct gateway *gateway, ProtobufCClosure closure, struct rt_call *call);
void gateway_batch_place_orders(struct gateway *gateway, const ProtobufCMessage *message,
				ProtobufCClosure closure, struct rt_call *call);
void gateway_stream_orders(struct gateway *gateway, ProtobufCClosure closure, struct rt_call *call);

/* ---- passing on (route.c) ---- */

/* Serves `client`'s methods. */
void gateway_route_init(struct gateway_service *service, struct gateway *gateway,
			ProtobufCService *client, struct rt_channel *channel);
void gateway_route_done(struct gateway_service *service);

/* ---- orders that are in the archive alone (archived.c, archived_list.c, archived_batch.c) ---- */

enum gateway_archived gateway_archived_kind(const char *method);
/* A call that was passed on to the order service, and has been answered. All is borrowed; request, call and closure last
 * as long as the call. */
struct gateway_passed {
	struct gateway *gateway;
	const ProtobufCMessage *request;
	struct rt_call *call;
	ProtobufCClosure closure;
	const ProtobufCMessage *response; /* NULL: it failed, or streams */
	const struct rt_status *status;
	uint64_t version; /* of a watch: the last that its caller has seen */
};
/* True: the archive is asked, and the call will be ended from there. */
bool gateway_archived_takes(const struct gateway_passed *passed, enum gateway_archived kind);
bool gateway_archived_list(const struct gateway_passed *passed);
bool gateway_archived_batch(const struct gateway_passed *passed);

/* ---- asking the archive (ask_archive.c) ---- */

/* The index of a method; the descriptor always has it. */
unsigned gateway_method_index(const ProtobufCServiceDescriptor *descriptor, const char *method);
/* The order that a request is about; "": about none, or several. */
const char *gateway_order_id(const ProtobufCMessage *request);
/* Asks the archive on behalf of the call's caller. `op` has its `done`. */
void gateway_archived_ask(struct gateway *gateway, struct rt_call *call, const char *order_id,
			  struct rt_client_op *op);
void gateway_archived_search(struct gateway *gateway, struct rt_call *call,
			     const Tandem__Archive__V1__SearchOrdersRequest *request,
			     struct rt_client_op *op);
/* The order of an answer, if it was settled; else NULL. */
const Tandem__Order__V1__Order *gateway_archived_settled(const archived_response *response);
/* Its status, for people: "CONFIRMED". */
const char *gateway_archived_status(const Tandem__Order__V1__Order *order);
/* What the caller gets when the archive has failed with `from`. `what`: why it was asked. */
void gateway_archived_away(struct rt_status *to, const struct rt_status *from, const char *what);
/* What the caller gets who wants to change that order. */
void gateway_archived_refuses(struct rt_status *status, const Tandem__Order__V1__Order *order);

/* ---- status.c ---- */

/* A copy of a status that goes back to a caller: UNAVAILABLE gets RetryInfo if it has none. */
void gateway_status_copy(struct rt_status *to, const struct rt_status *from);

#endif
