/* place_order.c - PlaceOrder, and how any order gets to the order service.
 *
 * One order, in the order things happen:
 *
 *   gateway_place           waits in a batcher: `placing`, or `deciding` when it wants the decision
 *     send_batch            gathered with the others, as one BatchPlaceOrders; who is gone is not sent
 *     batch_done            each gets its own result
 *       follow              it waits for a decision that its batch came back without: watched …
 *       follow_message      … until it leaves PENDING,
 *       follow_done         or until there is just time enough to answer that it is PENDING
 *   placing_end             the one exit
 *
 * Two kinds of orders travel alone, as a PlaceOrder of their own: those with a traceparent, which
 * is metadata of a call and would be lost in a batch, and those that wait for a decision with less
 * time left than a batch may be held back (ALONE_BELOW_MS).
 *
 * A placing belongs to the gateway, not to the call: what is under way cannot be called back, so
 * the call leaves it (gateway_place_abandon) and it ends on its own. */
#include "check.h"
#include "parts.h"

/* The order service holds a batch back for a second at most while its items wait. */
#define ALONE_BELOW_MS 1500
/* A watch that broke is tried again after this, and up to twice this. */
#define FOLLOW_AGAIN_MS 100
/* Time kept for the way back of an answer that comes just before the deadline. Besides, gRPC sends
 * a deadline as two or three digits, rounded up: the one that arrives can be 1 % too late. */
#define MARGIN_MS             50
#define ROUNDED(remaining_ms) ((remaining_ms) / 100)

struct gateway_placing {
	struct rt_batch_item item;
	struct gateway *gateway;
	struct rt_call *call;
	const Tandem__Order__V1__PlaceOrderRequest *request; /* not after it was sent */
	gateway_placed *done;                                /* NULL: abandoned, or done already */
	void *user;
	int64_t deadline_ms;  /* of the loop's clock */
	int64_t answer_by_ms; /* followed: told what is known, decided or not */
	bool wait;
	enum {
		PLACING_QUEUED,
		PLACING_SENT,      /* in `run` at `index` */
		PLACING_ALONE,     /* `op` is under way */
		PLACING_FOLLOWING, /* `op` is under way; `order` is what is known */
		PLACING_PAUSED,    /* `timer` runs, then it is followed again */
	} stage;
	struct run *run;
	size_t index;
	gateway_order *order; /* owned */
	struct rt_client_op op;
	struct rt_timer timer;
};

/* A BatchPlaceOrders under way. */
struct run {
	struct rt_batch_run base;
	struct gateway *gateway;
	struct rt_client_op op;
	size_t count;
	struct gateway_placing *placings[]; /* NULL: abandoned */
};

static void follow(struct gateway_placing *placing);

static void count(struct rt_series *series, size_t by)
{
	if (series != NULL)
		rt_series_add(series, (double)by);
}

static int64_t time_left_ms(const struct gateway_placing *placing)
{
	return placing->deadline_ms - rt_loop_now(placing->gateway->loop);
}

static void placing_free(struct gateway_placing *placing)
{
	if (placing->stage == PLACING_ALONE || placing->stage == PLACING_FOLLOWING ||
	    placing->stage == PLACING_PAUSED)
		placing->gateway->alone_count--;
	if (placing->order != NULL)
		tandem__order__v1__order__free_unpacked(placing->order, NULL);
	free(placing);
}

/* Tells whoever waits, if somebody does. The placing is still to be freed. */
static void placing_tell(struct gateway_placing *placing, const gateway_order *order,
			 const struct rt_status *status)
{
	gateway_placed *done = placing->done;

	placing->done = NULL;
	if (done != NULL)
		done(order, status, placing->user);
}

static void placing_end(struct gateway_placing *placing, const gateway_order *order,
			const struct rt_status *status)
{
	placing_tell(placing, order, status);
	placing_free(placing);
}

/* With the status that came from the order service. */
static void placing_refused(struct gateway_placing *placing, const struct rt_status *from)
{
	struct rt_status status = { 0 };

	gateway_status_copy(&status, from);
	placing_end(placing, NULL, &status);
	rt_status_done(&status);
}

static void placing_fail(struct gateway_placing *placing, int code, const char *message)
{
	struct rt_status status = { 0 };

	rt_status_set(&status, code, "%s", message);
	placing_end(placing, NULL, &status);
	rt_status_done(&status);
}

/* The order service has stored the order. */
static void placing_placed(struct gateway_placing *placing, const gateway_order *order)
{
	struct rt_status ok = { 0 };
	size_t limit = (size_t)placing->gateway->options.waiting_max;

	if (placing->wait &&
	    order->status == TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING &&
	    placing->gateway->alone_count < limit) {
		size_t length = tandem__order__v1__order__get_packed_size(order);
		uint8_t *bytes = rt_alloc(length + 1);

		tandem__order__v1__order__pack(order, bytes);
		placing->order = tandem__order__v1__order__unpack(NULL, length, bytes);
		free(bytes);
		placing->stage = PLACING_PAUSED;
		placing->gateway->alone_count++;
		count(placing->gateway->followed, 1);
		follow(placing);
		return;
	}
	placing_end(placing, order, &ok);
}

/* ---- followed until it is decided ---- */

static void follow_again(struct rt_timer *timer)
{
	follow(RT_CONTAINER_OF(timer, struct gateway_placing, timer));
}

static void follow_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct gateway_placing *placing = RT_CONTAINER_OF(op, struct gateway_placing, op);
	struct rt_loop *loop = placing->gateway->loop;
	int64_t left_ms = placing->answer_by_ms - rt_loop_now(loop);
	int64_t pause_ms = FOLLOW_AGAIN_MS + (int64_t)rt_loop_random(loop, FOLLOW_AGAIN_MS);

	(void)response;
	if (placing->done == NULL) {
		placing_free(placing);
		return;
	}
	placing->stage = PLACING_PAUSED;
	rt_timer_start(loop, &placing->timer, RT_MAX(0, RT_MIN(pause_ms, left_ms)), follow_again);
}

static void follow_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct gateway_placing *placing = RT_CONTAINER_OF(op, struct gateway_placing, op);
	const Tandem__Order__V1__WatchOrderResponse *response = (const void *)message;
	struct rt_status ok = { 0 };

	if (placing->done == NULL || response->order == NULL ||
	    response->order->status == TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING)
		return;
	placing_tell(placing, response->order, &ok);
	rt_client_cancel(op);
}

/* Watches the order for as long as an answer can still get back in time. */
static void follow(struct gateway_placing *placing)
{
	struct gateway *gateway = placing->gateway;
	Tandem__Order__V1__WatchOrderRequest request = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;
	int64_t left_ms = placing->answer_by_ms - rt_loop_now(gateway->loop);
	struct rt_status ok = { 0 };

	if (left_ms <= 0) {
		placing_end(placing, placing->order, &ok);
		return;
	}
	request.order_id = placing->order->order_id;
	request.after_version = placing->order->version;
	placing->stage = PLACING_FOLLOWING;
	placing->op = (struct rt_client_op){
		.timeout_ms = left_ms,
		.on_message = follow_message,
		.done = follow_done,
	};
	rt_client_start(gateway->options.order, gateway->watch_order, &request.base, &placing->op);
}

/* ---- alone ---- */

static void alone_done(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct gateway_placing *placing = RT_CONTAINER_OF(op, struct gateway_placing, op);
	const Tandem__Order__V1__PlaceOrderResponse *response = (const void *)message;
	struct rt_status ok = { 0 };

	if (op->status.code != 0) {
		placing_refused(placing, &op->status);
	} else if (response == NULL || response->order == NULL) {
		placing_fail(placing, RT_CODE_INTERNAL, "the order service answered no order");
	} else {
		placing_end(placing, response->order, &ok);
	}
}

static void alone_start(struct gateway_placing *placing, const char *traceparent)
{
	struct gateway *gateway = placing->gateway;

	int64_t left_ms = time_left_ms(placing);

	placing->stage = PLACING_ALONE;
	gateway->alone_count++;
	count(gateway->alone, 1);
	/* The order service keeps a margin of its own when the order waits for its decision. */
	placing->op = (struct rt_client_op){
		.timeout_ms = RT_MAX(1, placing->wait ? left_ms - ROUNDED(left_ms) : left_ms),
		.traceparent = traceparent,
		.done = alone_done,
	};
	rt_client_start(gateway->options.order, gateway->place_order, &placing->request->base,
			&placing->op);
}

/* ---- in a batch ---- */

static void batch_result(struct gateway_placing *placing,
			 const Tandem__Order__V1__PlaceOrderResult *result)
{
	struct rt_status status = { 0 };

	switch (result->result_case) {
	case TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER:
		placing_placed(placing, result->order);
		break;
	case TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR:
		rt_status_from_proto(&status, result->error);
		if (status.code == 0)
			rt_status_set(&status, RT_CODE_INTERNAL,
				      "the order service answered an error that is none");
		placing_refused(placing, &status);
		rt_status_done(&status);
		break;
	case TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT__NOT_SET:
	default:
		placing_fail(placing, RT_CODE_INTERNAL, "the order service answered no order");
		break;
	}
}

static void batch_done(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct run *run = RT_CONTAINER_OF(op, struct run, op);
	const Tandem__Order__V1__BatchPlaceOrdersResponse *response = (const void *)message;
	bool whole = response != NULL && response->n_orders == run->count;

	for (size_t i = 0; i < run->count; i++) {
		/* Read anew each time: the end of one may abandon another. */
		struct gateway_placing *placing = RT_TAKE(run->placings[i]);

		if (placing == NULL)
			continue;
		if (op->status.code != 0)
			placing_refused(placing, &op->status);
		else if (!whole)
			placing_fail(placing, RT_CODE_INTERNAL,
				     "the order service answered another number of orders");
		else
			batch_result(placing, response->orders[i]);
	}
	rt_batch_finish(&run->base);
}

/* The deadline of a batch is the latest of its items'; each call still ends at its own. */
static void send_batch(struct rt_batch_run *base, void *user)
{
	struct run *run = RT_CONTAINER_OF(base, struct run, base);
	struct gateway *gateway = user;
	Tandem__Order__V1__BatchPlaceOrdersRequest request =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	int64_t timeout_ms = 0;

	run->gateway = gateway;
	for (struct rt_list *link = rt_list_pop(&base->items); link != NULL;
	     link = rt_list_pop(&base->items)) {
		struct gateway_placing *placing =
			RT_CONTAINER_OF(link, struct gateway_placing, item.link);

		if (rt_call_cancelled(placing->call)) {
			placing_fail(placing, RT_CODE_CANCELLED, "the caller went away");
			continue;
		}
		if (time_left_ms(placing) <= 0) {
			placing_fail(placing, RT_CODE_DEADLINE_EXCEEDED,
				     "the deadline passed before the order could be sent");
			continue;
		}
		timeout_ms = RT_MAX(timeout_ms, time_left_ms(placing));
		placing->stage = PLACING_SENT;
		placing->run = run;
		placing->index = run->count;
		/* protobuf-c takes what it packs without const. */
		gateway->requests[run->count] = (void *)(uintptr_t)placing->request;
		run->placings[run->count++] = placing;
	}
	if (run->count == 0) {
		rt_batch_finish(base);
		return;
	}
	request.n_requests = run->count;
	request.requests = gateway->requests;
	run->op.timeout_ms = RT_MIN(timeout_ms, gateway->options.timeout_ms);
	run->op.done = batch_done;
	rt_client_start(gateway->options.order, gateway->batch_place_orders, &request.base,
			&run->op);
}

struct rt_batch *gateway_batch_new(struct gateway *gateway, bool deciding)
{
	const struct rt_batch_options options = {
		.count_max = (size_t)gateway->options.batch_max,
		.in_flight_max = (size_t)gateway->options.batches_in_flight,
		/* A batch that waits for decisions may last: nobody waits for its end. */
		.gather = deciding ? 0 : (size_t)gateway->options.batch_max / 2,
		.waiting_max = (size_t)gateway->options.waiting_max,
		.run_size = sizeof(struct run) +
			    (size_t)gateway->options.batch_max * sizeof(struct gateway_placing *),
		.send = send_batch,
		.user_data = gateway,
		.metrics = gateway->options.metrics,
		.step = deciding ? "place_and_wait" : "place",
	};
	struct rt_batch *batch = NULL;

	return rt_batch_new(gateway->loop, &options, &batch) == RT_OK ? batch : NULL;
}

/* ---- for all who place ---- */

static struct rt_batch *batch_of(struct gateway_placing *placing)
{
	return placing->wait ? placing->gateway->deciding : placing->gateway->placing;
}

struct gateway_placing *gateway_place(struct gateway *gateway, struct rt_call *call,
				      const Tandem__Order__V1__PlaceOrderRequest *request,
				      gateway_placed *done, void *user, struct rt_status *status)
{
	const char *traceparent = rt_call_metadata(call, "traceparent", NULL);
	struct gateway_placing *placing = rt_alloc(sizeof(*placing));
	int64_t remaining_ms = gateway_remaining_ms(gateway, call);

	placing->gateway = gateway;
	placing->call = call;
	placing->request = request;
	placing->done = done;
	placing->user = user;
	placing->deadline_ms = rt_loop_now(gateway->loop) + remaining_ms;
	placing->answer_by_ms =
		placing->deadline_ms - RT_MIN(remaining_ms / 10, MARGIN_MS + ROUNDED(remaining_ms));
	placing->wait = request->wait_for_decision;
	if ((traceparent != NULL && traceparent[0] != '\0') ||
	    (placing->wait && remaining_ms < ALONE_BELOW_MS)) {
		if (gateway->alone_count < (size_t)gateway->options.waiting_max) {
			alone_start(placing, traceparent);
			return placing;
		}
	} else if (rt_batch_add(batch_of(placing), &placing->item)) {
		return placing;
	}
	count(gateway->refused, 1);
	rt_status_from(status, RT_BUSY, "placing the order");
	placing_free(placing);
	return NULL;
}

void gateway_place_abandon(struct gateway_placing *placing)
{
	placing->done = NULL;
	switch (placing->stage) {
	case PLACING_QUEUED:
		/* Or on the list of send_batch, which is just ending another one. */
		if (!rt_batch_remove(batch_of(placing), &placing->item))
			rt_list_remove(&placing->item.link);
		placing_free(placing);
		break;
	case PLACING_SENT:
		placing->run->placings[placing->index] = NULL;
		placing_free(placing);
		break;
	case PLACING_ALONE:
	case PLACING_FOLLOWING:
		rt_client_cancel(&placing->op);
		break;
	case PLACING_PAUSED:
		rt_timer_stop(placing->gateway->loop, &placing->timer);
		placing_free(placing);
		break;
	}
}

bool gateway_check_order(const Tandem__Order__V1__PlaceOrderRequest *request,
			 struct rt_status *status)
{
	if (!check_request(&request->base, status))
		return false;
	if (tandem__order__v1__place_order_request__get_packed_size(request) <=
	    GATEWAY_ORDER_MAX_BYTES)
		return true;
	rt_status_set(status, RT_CODE_INVALID_ARGUMENT,
		      "the order is larger than %d bytes: it has fields that are not known here",
		      GATEWAY_ORDER_MAX_BYTES);
	rt_status_info(status, "LIMIT_BROKEN");
	return false;
}

/* ---- PlaceOrder ---- */

struct place {
	struct rt_call *call;
	ProtobufCClosure closure;
	struct gateway_placing *placing;
};

static void place_done(const gateway_order *order, const struct rt_status *status, void *user)
{
	struct place *place = user;

	rt_call_on_cancel(place->call, NULL, NULL);
	if (order != NULL) {
		Tandem__Order__V1__PlaceOrderResponse response =
			TANDEM__ORDER__V1__PLACE_ORDER_RESPONSE__INIT;

		response.order = (void *)(uintptr_t)order;
		place->closure(&response.base, place->call);
	} else {
		rt_call_fail(place->call, status);
	}
	free(place);
}

static void place_cancelled(struct rt_call *call, void *user)
{
	struct place *place = user;

	gateway_place_abandon(place->placing);
	gateway_call_gone(call);
	free(place);
}

void gateway_place_order(struct gateway *gateway, const ProtobufCMessage *message,
			 ProtobufCClosure closure, struct rt_call *call)
{
	const Tandem__Order__V1__PlaceOrderRequest *request = (const void *)message;
	struct rt_status status = { 0 };
	struct place *place = NULL;

	if (!gateway_check_order(request, &status))
		goto fail;
	place = rt_alloc(sizeof(*place));
	place->call = call;
	place->closure = closure;
	place->placing = gateway_place(gateway, call, request, place_done, place, &status);
	if (place->placing == NULL)
		goto fail;
	rt_call_on_cancel(call, place_cancelled, place);
	return;
fail:
	rt_call_fail(call, &status);
	rt_status_done(&status);
	free(place);
}
