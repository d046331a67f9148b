/* order_internal.h - shared by the files of the order service only. */
#ifndef ORDER_INTERNAL_H
#define ORDER_INTERNAL_H

#include <string.h>

#include "check.h"
#include "order.h"
#include "order/order_id.h"
#include "order/order_record.h"
#include "order/watch.h"
#include "rpc/rpc.h"
#include "tandem/order/v1/placement.pb-c.h"

/* Randomness for new ids, fetched for many at a time. */
#define ORDER_RANDOM_BYTES 640

/* unanswered.c: the oldest request that inventory has not answered, as far as this instance has seen. */
struct order_unanswered {
	char order_id[ORDER_ID_LENGTH + 1];
	int64_t since_ms, seen_ms; /* since 0: none */
	int64_t keep_ms;           /* in this time its timer runs out once more */
	struct rt_series *seconds; /* NULL: no metrics */
};
/* An order whose timer has run out. */
void order_unanswered_note(struct order_unanswered *unanswered, const struct order_record *record,
			   int64_t now_ms);
void order_unanswered_moved(struct order_unanswered *unanswered, const char *order_id);
/* All orders whose timer has run out were noted. */
void order_unanswered_looked(struct order_unanswered *unanswered, int64_t now_ms);

struct order {
	Tandem__Order__V1__OrderService_Service service; /* first: a handler gets this */
	Tandem__Order__V1__PlacementService_Service placement;
	struct rt_list placements; /* streams of gateways */
	struct rt_context *context;
	struct rt_loop *loop;
	struct order_store *store;
	struct order_clock clock;
	struct order_partition {
		struct order_watch *watch;
		struct order_timers *timers;
		struct order_unanswered unanswered;
		bool filling; /* a group holds half of stream_length_max, and a warning was logged */
	} * partitions;
	int partition_count;
	uint8_t random[ORDER_RANDOM_BYTES];
	size_t random_left;
	int64_t stream_length_max, hold_max_ms, kept_ms;
	struct order_load *load;
	bool draining;
	struct order_counts {
		struct rt_series *placed, *placed_before, *conflicts, *too_many, *perhaps_dropped,
			*dropped, *decided[ORDER_STATE_COUNT], *decision_seconds,
			*settled_seconds[ORDER_STATE_COUNT], *republished, *unsettled, *overdue,
			*waiters;
	} counts; /* NULL without metrics */
};

/* An operation that waits for the store begins and ends: the service does not stop in between. */
static inline void order_call_begin(struct order *order)
{
	rt_context_hold(order->context);
}
static inline void order_call_end(struct order *order)
{
	rt_context_release(order->context);
}

/* Adds to a series, when there is one. */
static inline void order_count(struct rt_series *series, double by)
{
	if (series != NULL)
		rt_series_add(series, by);
}
/* Where an order lies, by the bucket in its id; −1: an id without one, where there are several partitions. */
static inline int order_partition(const struct order *order, const char *order_id)
{
	int bucket = order->partition_count == 1 ? 0 : check_order_bucket(order_id);

	return bucket < 0 ? -1 : rt_bucket_partition((unsigned int)bucket, order->partition_count);
}
static inline int order_customer_partition(const struct order *order, const char *customer_id)
{
	return rt_bucket_partition(rt_bucket(customer_id, strlen(customer_id)),
				   order->partition_count);
}

/* Every move is submitted here, so that this instance's waiters are notified from its answer. The
 * caller calls order_moved first thing in its `done`, whatever the status. */
void order_move(struct order *order, struct order_move_op *op);
void order_moved(struct order *order, const struct order_move_op *op, int status);

/* The traceparent for the events of a step that has this span; without one, what came with its cause. `text` is for
 * it. */
const char *order_traceparent(const struct rt_span *span, const char *came,
			      char text[RT_TRACEPARENT_TEXT]);
/* When a request that is sent now is sent again if no answer arrives. */
int64_t order_retry_at(struct order *order, int64_t now_ms, uint32_t attempt);
/* Errors that several RPCs answer. */
void order_status_not_found(struct rt_status *status, const char *order_id);
void order_status_damaged(struct rt_status *status, const char *order_id);
void order_status_stopping(struct rt_status *status);
/* Storage was full at the last trim: Redis's memory, or the event stream, which has a hard length.
 * `own` is the struct order, as the context keeps it. */
bool order_storage_problem(const void *data, char *text, size_t size);
/* No order is placed because the event stream is full: names the group that prevents trimming. */
void order_status_stream_full(struct rt_status *status, const struct order *order);
/* Checks a request for one order: its limits, the form of the id, and that the service is not
 * stopping. False: the call was ended. */
bool order_check_one(struct order *order, struct rt_call *call, const ProtobufCMessage *request,
		     const char *order_id);
/* find_order.c: calls `found` with the order's partition, at once if its id says it; −1: there is no such order, or
 * it is another customer's than the one who calls, or, with another status than RT_OK, it is not known. The id is
 * borrowed until then. */
void order_find(struct order *order, const struct rt_call *call, const char *order_id,
		void (*found)(void *user, int status, int partition), void *user);
/* Ends a call with a status, which is freed. */
void order_fail(struct rt_call *call, struct rt_status *status);
/* Ends a call with the order in a `response` that holds nothing else. */
void order_answer(struct rt_call *call, ProtobufCClosure closure,
		  const ProtobufCMessageDescriptor *response, const struct order_record *record);

/* moving.c: a move that a client asks for, of one order. */
struct order_moving {
	/* In. */
	struct order *order;
	struct rt_call *call;   /* stays until done */
	struct rt_arena *arena; /* the caller's, for the data and the result; likewise */
	struct order_move_op
		op; /* with order_id, input, expected_version and data set; a span, if it has one */
	bool found; /* op.partition is set: the caller has found the order */
	void (*done)(struct order_moving *moving);
	/* Out, in done: the order after it, which may point into the store's answer; or NULL, and the status says why. */
	Tandem__Order__V1__Order *result;
	struct rt_status status;
	/* Its own. */
	char own_traceparent[RT_TRACEPARENT_TEXT];
};
/* Starts; `done` runs once. */
void order_moving_start(struct order_moving *moving);
/* Sets the data of the event: packed now. */
void order_moving_data(struct order_moving *moving, const ProtobufCMessage *event);
/* A move whose call is about one order, and is answered with it in a `response` that holds nothing else. The caller sets
 * the operation and starts it. */
struct order_moving *order_move_one(struct order *order, struct rt_call *call,
				    ProtobufCClosure closure,
				    const ProtobufCMessageDescriptor *response);
/* What a request says about the move. */
void order_moving_confirm(struct order_moving *moving,
			  const Tandem__Order__V1__ConfirmOrderRequest *request);
void order_moving_cancel(struct order_moving *moving,
			 const Tandem__Order__V1__CancelOrderRequest *request);
/* batch_moves.c: many moves in one call, answered in a `response` that holds nothing but their results. `fill` says what
 * each request asks for. */
void order_batch_moves(struct order *order, struct rt_call *call, ProtobufCClosure closure,
		       const ProtobufCMessageDescriptor *response,
		       ProtobufCMessage *const *requests, size_t count,
		       void (*fill)(struct order_moving *moving, const ProtobufCMessage *request));

/* placing.c: one order on its way into the store, for the three RPCs that place. */
struct order_placing {
	/* In. */
	struct order *order;
	struct rt_arena *arena; /* the caller's; must stay until the result was used */
	const Tandem__Order__V1__PlaceOrderRequest
		*request; /* borrowed until done; NULL: missing */
	const struct rt_call *
		call; /* that places it, for the time of order_placing_start; NULL: a gateway did, which has checked its caller */
	const char *traceparent, *tracestate; /* valid, or ""; borrowed until done */
	struct rt_span *span; /* of what places it; NULL: it is not traced; likewise */
	const char *actor;    /* who places it (rt_call_actor); NULL, "": not known */
	/* When the request waits for the decision: how long the caller waits (INT64_MAX: without
	 * limit), and the longest we allow. A little earlier it is answered as it is then. */
	int64_t remaining_ms, wait_max_ms;
	int64_t pending_max; /* as in struct order_place_op; so is the next */
	bool asked;
	bool checked; /* the request: it is within the limits */
	bool detach;  /* the request is freed before done: copy the needed parts */
	void (*done)(struct order_placing *placing);
	/* Out, in done: an order, or a status that is not OK. The caller calls
	 * order_placing_done when it has used the result. */
	Tandem__Order__V1__Order *result;
	struct rt_status status;
	/* Besides the status: only the archive knows whether it was placed before, as the order with order_id. */
	bool perhaps_dropped;
	/* Its own. */
	struct order_place_op op;
	struct order_waiter waiter;
	struct rt_timer timer;
	Tandem__Order__V1__OrderContent *content;
	char order_id[ORDER_ID_LENGTH + 1];
	char own_traceparent[RT_TRACEPARENT_TEXT];
	bool wait;    /* for the decision, when it is stored */
	bool waiting; /* in the store; waits for the decision */
};
/* Starts; `done` runs once, never before this has returned. A request that breaks a limit is not
 * started: returns false, and the status says why. */
bool order_placing_start(struct order_placing *placing);
/* Stops waiting for the decision: `done` runs now, with what is known. If the order is not stored yet,
 * it will not wait once it is. */
void order_placing_answer_now(struct order_placing *placing);
void order_placing_done(struct order_placing *placing);
/* The result as an item of an answer; order_result_done frees its error, if any. */
void order_placing_result(const struct order_placing *placing,
			  Tandem__Order__V1__PlaceOrderResult *ret);
void order_result_done(Tandem__Order__V1__PlaceOrderResult *result);

/* placement.c: gateways' streams accept no more items and end with the last answer. Items that wait for
 * their decision are answered soon; with `answer_now`, now. */
void order_placements_close(struct order *order, bool answer_now);

/* Sends all gateways how much there is to do. */
void order_placements_send_load(struct order *order, Tandem__Order__V1__PlacementLoad *load);

/* load.c: how much there is to do, told to the gateways while orders come. */
struct order_load;
typedef void order_load_tell(struct order *order, Tandem__Order__V1__PlacementLoad *load);
int order_load_new(struct order *order, const struct rt_context *context, int64_t every_ms,
		   order_load_tell *tell, struct order_load **ret);
/* An order is to be stored; it was, or could not be. */
void order_load_begin(struct order_load *load, int partition);
void order_load_end(struct order_load *load, int partition);
void order_load_stop(struct order_load *load); /* what it asked holds the context */
void order_load_free(struct order_load *load); /* takes NULL */

/* events_inventory.c: the subscription's handler; `user` is the struct order. */
void order_on_inventory_event(struct rt_event *event, void *user);

/* events_archive.c: likewise. */
void order_on_archive_event(struct rt_event *event, void *user);

/* timers.c: orders of a partition whose timer is due. */
struct order_timers;
struct order_timers *order_timers_new(struct order *order, int partition, int64_t every_ms);
void order_timers_start(struct order_timers *timers);
/* `stopped` runs when none of its operations is under way, possibly at once. */
void order_timers_stop(struct order_timers *timers, void (*stopped)(struct order *order));
void order_timers_free(struct order_timers *timers);

/* One handler a file, as tandem.order.v1.OrderService has them. */
#define ORDER_HANDLER(name, Method)                                                                \
	void name(Tandem__Order__V1__OrderService_Service *service,                                \
		  const Tandem__Order__V1__##Method##Request *request,                             \
		  Tandem__Order__V1__##Method##Response_Closure closure, void *closure_data)
ORDER_HANDLER(order_place_order, PlaceOrder);
ORDER_HANDLER(order_batch_place_orders, BatchPlaceOrders);
ORDER_HANDLER(order_stream_orders, StreamOrders);
ORDER_HANDLER(order_get_order, GetOrder);
ORDER_HANDLER(order_list_orders, ListOrders);
ORDER_HANDLER(order_watch_order, WatchOrder);
ORDER_HANDLER(order_confirm_order, ConfirmOrder);
ORDER_HANDLER(order_cancel_order, CancelOrder);
ORDER_HANDLER(order_batch_confirm_orders, BatchConfirmOrders);
ORDER_HANDLER(order_batch_cancel_orders, BatchCancelOrders);
ORDER_HANDLER(order_extend_hold, ExtendHold);
ORDER_HANDLER(order_return_order, ReturnOrder);
ORDER_HANDLER(order_explain_order, ExplainOrder);
/* The handler of tandem.order.v1.PlacementService. */
void order_place(Tandem__Order__V1__PlacementService_Service *service,
		 const Tandem__Order__V1__PlaceRequest *request,
		 Tandem__Order__V1__PlaceResponse_Closure closure, void *closure_data);

#endif
