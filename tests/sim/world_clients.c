/* world_clients.c - the clients, and what they were promised.
 *
 * A client does one thing at a time: it chooses an intent, calls, and repeats the same call until it
 * knows the outcome. A PlaceOrder without request_id is the exception: when its answer is lost the
 * client cannot find out, and gives up.
 *
 *   rest ─▶ choose ─▶ send ─▶ (on_done) ─▶ learn ─▶ rest
 *                      ▲           │ lost, busy, too late
 *                      └─ back-off ┘ */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"
#include "world_internal.h"

enum kind {
	PLACE,
	STREAM,
	CONFIRM,
	CANCEL,
	CONFIRM_SOME,
	CANCEL_SOME,
	EXTEND,
	RETURN,
	WATCH,
	GET,
	LIST,
	EXPLAIN,
	ADJUST,
	THRESHOLD,
	KINDS
};
static const char *const method_names[KINDS] = { "PlaceOrder",         "StreamOrders",
						 "ConfirmOrder",       "CancelOrder",
						 "BatchConfirmOrders", "BatchCancelOrders",
						 "ExtendHold",         "ReturnOrder",
						 "WatchOrder",         "GetOrder",
						 "ListOrders",         "ExplainOrder",
						 "AdjustStock",        "SetLowStockThreshold" };

#define STREAM_ORDERS 4 /* on one StreamOrders */
#define SOME_ORDERS   3 /* in a batch */
#define CALM_INTENTS  4u

/* What a client wants to do. */
struct intent {
	enum kind kind;
	char request_id[32];
	struct inventory_line lines[3];
	size_t line_count;
	int64_t hold_ms, delta, timeout_ms;
	uint64_t threshold;
	bool wait;
	bool conflicting;          /* the request_id was used for something else */
	uint64_t expected_version; /* of a confirm or a cancel; 0: any */
	struct booked *order;
	struct booked *orders[SOME_ORDERS]; /* of a batch */
	int64_t until_ms;                   /* of an extension */
	unsigned tries;
	int64_t began_ms; /* the first of them */
	/* A watch. */
	uint64_t seen_version;
	bool seen_end;
	/* A stream: each order has one line, and the request_id followed by its number. */
	bool answered[STREAM_ORDERS];
};

struct world_client {
	struct rt_list link;
	struct world *world;
	char name[16], customer[16];
	struct intent intent;
	struct rt_client_op op;
	struct rt_timer timer;
	bool calling, resting;
	unsigned remaining;         /* intents that are not finished */
	unsigned serial;            /* of request ids */
	struct booked *returned;    /* of which it returned something last */
	bool hurries;               /* its next intent is one more return */
	enum world_order_fate fate; /* by hand: what to do with the placed order */
	bool by_hand;
};

static void send(struct world_client *client);
static void rest(struct world_client *client);

static unsigned method_index(const ProtobufCServiceDescriptor *descriptor, const char *name)
{
	unsigned index = 0;

	while (strcmp(descriptor->methods[index].name, name) != 0)
		index++;
	return index;
}

/* ---- requests ---- */

static void start(struct world_client *client, const ProtobufCMessage *request)
{
	struct world *world = client->world;
	const struct intent *intent = &client->intent;
	ProtobufCService *service =
		intent->kind == ADJUST || intent->kind == THRESHOLD ? world->stock : world->orders;

	client->calling = true;
	rt_client_start(service, method_index(service->descriptor, method_names[intent->kind]),
			request, &client->op);
}

/* A PlaceOrderRequest and what it points to. */
struct place_request {
	Tandem__Order__V1__PlaceOrderRequest request;
	Tandem__Order__V1__OrderLine lines[3], *line_list[3];
	Google__Protobuf__Duration hold;
	char request_id[40];
};

static void fill_place(struct place_request *place, const struct world_client *client,
		       const struct inventory_line *lines, size_t line_count)
{
	const struct intent *intent = &client->intent;

	tandem__order__v1__place_order_request__init(&place->request);
	google__protobuf__duration__init(&place->hold);
	for (size_t i = 0; i < line_count; i++) {
		tandem__order__v1__order_line__init(&place->lines[i]);
		place->lines[i].sku = (char *)(uintptr_t)lines[i].sku;
		place->lines[i].quantity = lines[i].quantity;
		place->line_list[i] = &place->lines[i];
	}
	place->request.request_id = (char *)(uintptr_t)intent->request_id;
	place->request.customer_id = (char *)(uintptr_t)client->customer;
	place->request.lines = place->line_list;
	place->request.n_lines = line_count;
	place->hold.seconds = intent->hold_ms / 1000;
	place->hold.nanos = (int32_t)(intent->hold_ms % 1000) * 1000000;
	place->request.hold = &place->hold;
	place->request.wait_for_decision = intent->wait;
}

static void send_place(struct world_client *client)
{
	struct place_request place;

	fill_place(&place, client, client->intent.lines, client->intent.line_count);
	start(client, &place.request.base);
}

static void stream_request_id(const struct intent *intent, unsigned which, char *id, size_t size)
{
	snprintf(id, size, "%.20s.%u", intent->request_id, which);
}

static void send_stream(struct world_client *client)
{
	struct intent *intent = &client->intent;

	start(client, NULL);
	for (size_t i = 0; i < STREAM_ORDERS; i++) {
		Tandem__Order__V1__StreamOrdersRequest message =
			TANDEM__ORDER__V1__STREAM_ORDERS_REQUEST__INIT;
		struct place_request place;

		fill_place(&place, client, &intent->lines[i % intent->line_count], 1);
		stream_request_id(intent, (unsigned)i, place.request_id, sizeof(place.request_id));
		place.request.request_id = place.request_id;
		message.sequence = i;
		message.request = &place.request;
		rt_client_send(&client->op, &message.base);
	}
	rt_client_half_close(&client->op);
}

static void send_about_order(struct world_client *client)
{
	struct intent *intent = &client->intent;
	Tandem__Order__V1__ConfirmOrderRequest confirm =
		TANDEM__ORDER__V1__CONFIRM_ORDER_REQUEST__INIT;
	Tandem__Order__V1__CancelOrderRequest cancel =
		TANDEM__ORDER__V1__CANCEL_ORDER_REQUEST__INIT;
	Tandem__Order__V1__WatchOrderRequest watch = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;
	Tandem__Order__V1__GetOrderRequest get = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;
	Tandem__Order__V1__ExplainOrderRequest explain =
		TANDEM__ORDER__V1__EXPLAIN_ORDER_REQUEST__INIT;
	char *order_id = intent->order->order_id;

	confirm.order_id = cancel.order_id = watch.order_id = get.order_id = explain.order_id =
		order_id;
	confirm.expected_version = cancel.expected_version = intent->expected_version;
	cancel.reason = (char *)(uintptr_t) "changed my mind";
	watch.after_version = intent->seen_version;
	switch (intent->kind) {
	case CONFIRM:
		start(client, &confirm.base);
		break;
	case CANCEL:
		start(client, &cancel.base);
		break;
	case WATCH:
		start(client, &watch.base);
		break;
	case EXPLAIN:
		start(client, &explain.base);
		break;
	default:
		start(client, &get.base);
		break;
	}
}

/* The same requests serve both batches: order_id is the first field of each. */
static void send_batch(struct world_client *client)
{
	Tandem__Order__V1__BatchConfirmOrdersRequest confirm =
		TANDEM__ORDER__V1__BATCH_CONFIRM_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__BatchCancelOrdersRequest cancel =
		TANDEM__ORDER__V1__BATCH_CANCEL_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__ConfirmOrderRequest confirms[SOME_ORDERS], *confirm_list[SOME_ORDERS];
	Tandem__Order__V1__CancelOrderRequest cancels[SOME_ORDERS], *cancel_list[SOME_ORDERS];

	for (size_t i = 0; i < SOME_ORDERS; i++) {
		tandem__order__v1__confirm_order_request__init(&confirms[i]);
		tandem__order__v1__cancel_order_request__init(&cancels[i]);
		confirms[i].order_id = cancels[i].order_id = client->intent.orders[i]->order_id;
		confirm_list[i] = &confirms[i];
		cancel_list[i] = &cancels[i];
	}
	confirm.requests = confirm_list;
	cancel.requests = cancel_list;
	confirm.n_requests = cancel.n_requests = SOME_ORDERS;
	start(client, client->intent.kind == CONFIRM_SOME ? &confirm.base : &cancel.base);
}

static void send_extend(struct world_client *client)
{
	struct intent *intent = &client->intent;
	Tandem__Order__V1__ExtendHoldRequest request = TANDEM__ORDER__V1__EXTEND_HOLD_REQUEST__INIT;
	Google__Protobuf__Timestamp until = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	until.seconds = intent->until_ms / 1000;
	until.nanos = (int32_t)(intent->until_ms % 1000) * 1000000;
	request.order_id = intent->order->order_id;
	request.expected_version = intent->expected_version;
	request.hold_expire_time = &until;
	start(client, &request.base);
}

/* The intent's lines, or all that is left; of some it asks for more than can come back. */
static void send_return(struct world_client *client)
{
	struct intent *intent = &client->intent;
	Tandem__Order__V1__ReturnOrderRequest request =
		TANDEM__ORDER__V1__RETURN_ORDER_REQUEST__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT,
				     *lines[] = { &line };

	request.order_id = intent->order->order_id;
	request.return_id = intent->request_id;
	if (intent->line_count > 0) {
		line.sku = (char *)(uintptr_t)intent->lines[0].sku;
		line.quantity = intent->lines[0].quantity;
		request.lines = lines;
		request.n_lines = 1;
	}
	start(client, &request.base);
}

static void send_list(struct world_client *client)
{
	Tandem__Order__V1__ListOrdersRequest request = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;

	request.customer_id = client->customer;
	request.page_size = 5;
	start(client, &request.base);
}

static void send_adjust(struct world_client *client)
{
	struct intent *intent = &client->intent;
	Tandem__Inventory__V1__AdjustStockRequest request =
		TANDEM__INVENTORY__V1__ADJUST_STOCK_REQUEST__INIT;

	request.request_id = intent->request_id;
	request.sku = (char *)(uintptr_t)intent->lines[0].sku;
	request.delta = intent->delta;
	request.reason = (char *)(uintptr_t) "delivery";
	start(client, &request.base);
}

static void send_threshold(struct world_client *client)
{
	Tandem__Inventory__V1__SetLowStockThresholdRequest request =
		TANDEM__INVENTORY__V1__SET_LOW_STOCK_THRESHOLD_REQUEST__INIT;

	request.sku = (char *)(uintptr_t)client->intent.lines[0].sku;
	request.low_stock_threshold = client->intent.threshold;
	start(client, &request.base);
}

/* ---- answers ---- */

static bool same_lines(const struct intent *intent, const Tandem__Order__V1__Order *order)
{
	if (order->n_lines != intent->line_count)
		return false;
	for (size_t i = 0; i < intent->line_count; i++)
		if (strcmp(order->lines[i]->sku, intent->lines[i].sku) != 0 ||
		    order->lines[i]->quantity != intent->lines[i].quantity)
			return false;
	return true;
}

/* Whether a failover may have taken back what an answer that comes now says of the order. */
static bool may_be_lost(const struct world_client *client, const char *order_id)
{
	const struct world *world = client->world;

	return world->options.replicas == 0 &&
	       world_has_lost(world, stored_partition_of(world->redis, order_id),
			      client->intent.began_ms);
}

/* The same of what it shows: it may be what no replica has yet. */
static bool was_shown_before_loss(const struct world_client *client, const char *order_id)
{
	const struct world *world = client->world;

	return world_has_lost(world, stored_partition_of(world->redis, order_id),
			      client->intent.began_ms);
}

/* An order was acknowledged: from now on it must exist, and be the only one of its request_id. */
static struct booked *book(struct world_client *client, const struct intent *intent,
			   const Tandem__Order__V1__Order *order)
{
	struct world *world = client->world;
	struct booked *booked = NULL;

	for (struct booked *at = world->booked; at != NULL; at = at->next) {
		bool same_request = intent->request_id[0] != '\0' &&
				    strcmp(at->request_id, intent->request_id) == 0 &&
				    strcmp(at->customer, client->customer) == 0;

		if (same_request && strcmp(at->order_id, order->order_id) != 0)
			world_violation(world, "request %s gave two orders: %s and %s",
					intent->request_id, at->order_id, order->order_id);
		if (strcmp(at->order_id, order->order_id) == 0)
			booked = at;
	}
	if (booked != NULL) {
		if (intent->request_id[0] == '\0')
			world_violation(world, "order id %s was given twice", order->order_id);
		return booked;
	}
	booked = rt_alloc(sizeof(*booked));
	booked->booked_ms = rt_loop_now(world->loop);
	booked->may_be_lost = may_be_lost(client, order->order_id);
	snprintf(booked->order_id, sizeof(booked->order_id), "%s", order->order_id);
	snprintf(booked->customer, sizeof(booked->customer), "%s", client->customer);
	snprintf(booked->request_id, sizeof(booked->request_id), "%s", intent->request_id);
	memcpy(booked->lines, intent->lines, sizeof(booked->lines));
	booked->line_count = intent->line_count;
	booked->hold_ms = intent->hold_ms;
	booked->next = world->booked;
	world->booked = booked;
	world->counts.orders++;
	return booked;
}

/* An order that is RESERVED does not expire before the end of its hold that a client has seen. */
static void note_hold(struct world_client *client, const Tandem__Order__V1__Order *order,
		      struct booked *booked)
{
	int64_t until_ms;

	if (order->hold_expire_time == NULL)
		return;
	until_ms =
		order->hold_expire_time->seconds * 1000 + order->hold_expire_time->nanos / 1000000;
	if (until_ms <= booked->held_until_ms)
		return;
	booked->held_until_ms = until_ms;
	booked->held_ms = rt_loop_now(client->world->loop);
}

/* A client never sees an older version than before. */
static void check_version(struct world_client *client, const Tandem__Order__V1__Order *order,
			  struct booked *booked)
{
	if (order == NULL || booked == NULL)
		return;
	if (strcmp(order->order_id, booked->order_id) != 0)
		world_violation(client->world, "%s was answered with %s", booked->order_id,
				order->order_id);
	if (was_shown_before_loss(client, booked->order_id))
		return;
	note_hold(client, order, booked);
	if (order->version < booked->version)
		world_violation(client->world,
				"%s was seen at version %" PRIu64 " and then at %" PRIu64,
				booked->order_id, booked->version, order->version);
	if (order->version <= booked->version)
		return;
	booked->version = order->version;
	booked->version_ms = rt_loop_now(client->world->loop);
}

static void learn_placed(struct world_client *client, const Tandem__Order__V1__Order *order)
{
	struct intent *intent = &client->intent;

	if (order == NULL) {
		world_violation(client->world, "PlaceOrder answered OK without an order");
		return;
	}
	if (!same_lines(intent, order))
		world_violation(client->world, "%s is not what was ordered", order->order_id);
	intent->order = book(client, intent, order);
	if (intent->conflicting && !intent->order->may_be_lost)
		world_violation(client->world, "request %s was taken with other content",
				intent->request_id);
}

/* The order in an answer; NULL: it has none. */
static const Tandem__Order__V1__Order *order_in(enum kind kind, const ProtobufCMessage *message)
{
	const void *response = message;

	if (response == NULL)
		return NULL;
	switch (kind) {
	case PLACE:
		return ((const Tandem__Order__V1__PlaceOrderResponse *)response)->order;
	case CONFIRM:
		return ((const Tandem__Order__V1__ConfirmOrderResponse *)response)->order;
	case CANCEL:
		return ((const Tandem__Order__V1__CancelOrderResponse *)response)->order;
	case EXTEND:
		return ((const Tandem__Order__V1__ExtendHoldResponse *)response)->order;
	case RETURN:
		return ((const Tandem__Order__V1__ReturnOrderResponse *)response)->order;
	case GET:
		return ((const Tandem__Order__V1__GetOrderResponse *)response)->order;
	default:
		return NULL;
	}
}

static const char *status_of(const Tandem__Order__V1__Order *order)
{
	return protobuf_c_enum_descriptor_get_value(&tandem__order__v1__order_status__descriptor,
						    (int)order->status)
		       ->name +
	       strlen("ORDER_STATUS_");
}

/* The order was confirmed or cancelled, as asked for. */
static void learn_end(struct world_client *client, struct booked *order, bool *end)
{
	if (may_be_lost(client, order->order_id))
		return;
	*end = true;
	order->ended_ms = rt_loop_now(client->world->loop);
}

static void learn_adjusted(struct world_client *client, bool maybe)
{
	struct world *world = client->world;
	const struct intent *intent = &client->intent;
	const char *sku = intent->lines[0].sku;
	struct adjusted *adjusted = rt_alloc(sizeof(*adjusted));

	*adjusted = (struct adjusted){ .next = world->adjusted,
				       .sku = world_sku(sku),
				       .delta = intent->delta,
				       .ms = rt_loop_now(world->loop) };
	adjusted->maybe = maybe || (world->options.replicas == 0 &&
				    world_has_lost(world, world_sku_partition(world, adjusted->sku),
						   intent->began_ms));
	world->adjusted = adjusted;
}

/* Whether an order may be unknown: it was lost, or dropped; perhaps by a master that was replaced since. */
static bool may_be_unknown(const struct world_client *client, const struct booked *order)
{
	const struct world *world = client->world;

	return order->may_be_lost || world_is_among(world->dropped, order->order_id) ||
	       (world->options.drops && was_shown_before_loss(client, order->order_id));
}

/* Whether a repeated call may succeed. */
static bool is_transient(int code)
{
	switch (code) {
	case RT_CODE_INVALID_ARGUMENT:
	case RT_CODE_NOT_FOUND:
	case RT_CODE_ALREADY_EXISTS:
	case RT_CODE_FAILED_PRECONDITION:
	case RT_CODE_UNIMPLEMENTED:
	case RT_CODE_OUT_OF_RANGE:
	case RT_CODE_ABORTED:
		return false;
	default:
		return true;
	}
}

/* Both batches are answered alike: as many results as there were requests, in their order. */
static void learn_batch(struct world_client *client,
			const Tandem__Order__V1__BatchConfirmOrdersResponse *response)
{
	const struct intent *intent = &client->intent;

	if (response->n_orders != SOME_ORDERS) {
		world_violation(client->world, "a batch of %d was answered with %zu results",
				SOME_ORDERS, response->n_orders);
		return;
	}
	for (size_t i = 0; i < SOME_ORDERS; i++) {
		const Tandem__Order__V1__MoveOrderResult *result = response->orders[i];
		struct booked *booked = intent->orders[i];

		if (result->result_case == TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER) {
			check_version(client, result->order, booked);
			learn_end(client, booked,
				  intent->kind == CONFIRM_SOME ? &booked->confirmed
							       : &booked->cancelled);
		} else if (result->error->code != RT_CODE_FAILED_PRECONDITION &&
			   !is_transient(result->error->code) &&
			   !(result->error->code == RT_CODE_NOT_FOUND &&
			     may_be_unknown(client, booked))) {
			world_violation(client->world, "%s in a batch ended with %s: %s",
					booked->order_id, rt_code_name(result->error->code),
					result->error->message);
		}
	}
}

/* The order as it was behind the extension: it is held for as long as was asked for. */
static void learn_extended(struct world_client *client, const Tandem__Order__V1__Order *order)
{
	if (order == NULL || order->hold_expire_time == NULL ||
	    order->hold_expire_time->seconds * 1000 + order->hold_expire_time->nanos / 1000000 <
		    client->intent.until_ms)
		world_violation(client->world, "ExtendHold of %s answered OK, and did not extend",
				client->intent.order->order_id);
}

/* The return is among those of the order, with the lines that were asked for; and never more came back than was bought. */
static void learn_returned(struct world_client *client, const Tandem__Order__V1__Order *order)
{
	const struct intent *intent = &client->intent;
	struct booked *booked = intent->order;
	const Tandem__Order__V1__OrderReturn *made = NULL;

	for (size_t i = 0; order != NULL && i < order->n_returns; i++)
		if (strcmp(order->returns[i]->return_id, intent->request_id) == 0)
			made = order->returns[i];
	if (made == NULL) {
		world_violation(client->world, "return %s of %s was answered OK, and is not there",
				intent->request_id, booked->order_id);
		return;
	}
	for (size_t i = 0; i < booked->line_count; i++) {
		for (size_t j = 0; j < made->n_lines; j++)
			if (strcmp(booked->lines[i].sku, made->lines[j]->sku) == 0)
				booked->returned[i] += made->lines[j]->quantity;
		if (booked->returned[i] > booked->lines[i].quantity && !booked->returns_unsure)
			world_violation(client->world, "%s: %" PRIu64 " %s came back, of %" PRIu32,
					booked->order_id, booked->returned[i], booked->lines[i].sku,
					booked->lines[i].quantity);
	}
	booked->returned_ms = rt_loop_now(client->world->loop);
	if (may_be_lost(client, booked->order_id))
		booked->returns_unsure = true;
}

/* Whether some client sets this threshold, or has done so last: of two in one step both learn what is stored behind it. */
static bool is_wanted(const struct world *world, const char *sku, uint64_t threshold)
{
	for (const struct rt_list *at = world->clients.next; at != &world->clients; at = at->next) {
		const struct intent *intent =
			&RT_CONTAINER_OF(at, const struct world_client, link)->intent;

		if (intent->kind == THRESHOLD && intent->threshold == threshold &&
		    strcmp(intent->lines[0].sku, sku) == 0)
			return true;
	}
	return false;
}

static void learn_threshold(struct world_client *client,
			    const Tandem__Inventory__V1__SetLowStockThresholdResponse *response)
{
	if (response->stock == NULL || !is_wanted(client->world, client->intent.lines[0].sku,
						  response->stock->low_stock_threshold))
		world_violation(client->world, "the threshold of %s was not set",
				client->intent.lines[0].sku);
}

static void learn(struct world_client *client, const ProtobufCMessage *message)
{
	struct intent *intent = &client->intent;
	const Tandem__Order__V1__Order *order = order_in(intent->kind, message);

	switch (intent->kind) {
	case PLACE:
		learn_placed(client, order);
		break;
	case CONFIRM:
		learn_end(client, intent->order, &intent->order->confirmed);
		break;
	case CANCEL:
		learn_end(client, intent->order, &intent->order->cancelled);
		break;
	case CONFIRM_SOME:
	case CANCEL_SOME:
		learn_batch(client, (const void *)message);
		break;
	case EXTEND:
		learn_extended(client, order);
		break;
	case RETURN:
		learn_returned(client, order);
		break;
	case ADJUST:
		learn_adjusted(client, false);
		break;
	case THRESHOLD:
		learn_threshold(client, (const void *)message);
		break;
	default:
		break;
	}
	check_version(client, order, intent->order);
}

static void on_watched(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct world_client *client = RT_CONTAINER_OF(op, struct world_client, op);
	const Tandem__Order__V1__Order *order =
		((const Tandem__Order__V1__WatchOrderResponse *)(const void *)message)->order;
	struct intent *intent = &client->intent;

	if (order == NULL) {
		world_violation(client->world, "WatchOrder sent no order");
		return;
	}
	if (order->version <= intent->seen_version &&
	    !was_shown_before_loss(client, order->order_id))
		world_violation(client->world,
				"%s: WatchOrder sent version %" PRIu64 " after %" PRIu64,
				order->order_id, order->version, intent->seen_version);
	intent->seen_version = order->version;
	intent->seen_end = order->settled;
	check_version(client, order, intent->order);
	world_say(client->world, "%-12s <- %s %s v%" PRIu64 "%s", client->name,
		  world_short(order->order_id), status_of(order), order->version,
		  order->settled ? " settled" : "");
}

static void on_streamed(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct world_client *client = RT_CONTAINER_OF(op, struct world_client, op);
	const Tandem__Order__V1__StreamOrdersResponse *response = (const void *)message;
	const struct intent *intent = &client->intent;
	struct intent one = { .kind = PLACE, .line_count = 1 };

	if (response->sequence >= STREAM_ORDERS || intent->answered[response->sequence]) {
		world_violation(client->world,
				"StreamOrders answered number %" PRIu64 " which was not sent",
				response->sequence);
		return;
	}
	client->intent.answered[response->sequence] = true;
	if (response->order == NULL ||
	    response->order->result_case != TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER)
		return; /* an error: the order may exist or not */
	one.lines[0] = intent->lines[response->sequence % intent->line_count];
	stream_request_id(intent, (unsigned)response->sequence, one.request_id,
			  sizeof(one.request_id));
	if (!same_lines(&one, response->order->order))
		world_violation(client->world, "%s is not what was ordered",
				response->order->order->order_id);
	book(client, &one, response->order->order);
}

/* A stream that ends with OK has answered every order. */
static void check_streamed(struct world_client *client)
{
	for (size_t i = 0; i < STREAM_ORDERS; i++)
		if (!client->intent.answered[i])
			world_violation(client->world,
					"StreamOrders of %s ended without answering number %zu",
					client->intent.request_id, i);
}

/* ---- ends ---- */

static bool may_call_again(const struct world_client *client, int code)
{
	const struct intent *intent = &client->intent;

	if (!is_transient(code))
		return false;
	switch (intent->kind) {
	case PLACE:
		return intent->request_id[0] != '\0';
	case STREAM:
		return false;
	case WATCH:
	case GET:
	case LIST:
	case EXPLAIN:
		return intent->tries < 4 && !client->by_hand;
	default:
		return true;
	}
}

/* Whether an order with this request_id may be lost: then what the same client sent with other content may have taken its place. */
static bool may_be_taken(const struct world_client *client)
{
	for (const struct booked *at = client->world->booked; at != NULL; at = at->next)
		if (at->may_be_lost && strcmp(at->customer, client->customer) == 0 &&
		    strcmp(at->request_id, client->intent.request_id) == 0)
			return true;
	return false;
}

/* Errors that a correct client must never get. */
static bool is_unexpected(const struct world_client *client, int code)
{
	const struct intent *intent = &client->intent;

	if (code == RT_CODE_ALREADY_EXISTS)
		return !intent->conflicting && !may_be_taken(client);
	if (code == RT_CODE_NOT_FOUND && intent->order != NULL)
		return !may_be_unknown(client, intent->order);
	if (code == RT_CODE_ABORTED)
		return intent->expected_version == 0;
	/* A confirm or cancel may be too late; stock may be taken. */
	if (code == RT_CODE_FAILED_PRECONDITION)
		return intent->kind != CONFIRM && intent->kind != CANCEL &&
		       intent->kind != EXTEND && intent->kind != RETURN && intent->kind != ADJUST;
	return !is_transient(code) && !(code == RT_CODE_UNIMPLEMENTED && intent->kind == EXPLAIN);
}

static void after_placing(struct world_client *client)
{
	struct booked *order = client->intent.order;

	if (client->fate == FATE_LEAVE || order == NULL)
		return;
	client->intent = (struct intent){ .kind = client->fate == FATE_CONFIRM ? CONFIRM : CANCEL,
					  .order = order,
					  .timeout_ms = 5000 };
	client->remaining++;
}

static void send_again(struct rt_timer *timer)
{
	send(RT_CONTAINER_OF(timer, struct world_client, timer));
}

static void on_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct world_client *client = RT_CONTAINER_OF(op, struct world_client, op);
	struct world *world = client->world;
	struct intent *intent = &client->intent;
	int code = op->status.code;
	enum kind kind = intent->kind;
	const Tandem__Order__V1__Order *order = order_in(kind, response);

	client->calling = false;
	if (code != 0)
		world_say(world, "%-12s <- %s %s: %s", client->name, method_names[kind],
			  rt_code_name(code), op->status.message == NULL ? "" : op->status.message);
	else
		world_say(world, "%-12s <- %s OK%s%s", client->name, method_names[kind],
			  order == NULL ? "" : " ", order == NULL ? "" : status_of(order));
	intent->tries++;
	/* What the archive knows nobody asks here. */
	if (code == RT_CODE_UNAVAILABLE && kind == PLACE && world->counts.dropped > 0 &&
	    op->status.message != NULL && strstr(op->status.message, "archive") != NULL) {
		client->remaining--;
		rest(client);
		return;
	}
	if (code != 0 && may_call_again(client, code)) {
		rt_timer_start(world->loop, &client->timer,
			       50 + (int64_t)world_roll(world, 100u << RT_MIN(intent->tries, 4u)),
			       send_again);
		return;
	}
	if (code != 0 && is_unexpected(client, code))
		world_violation(world, "%s of %s ended with %s: %s", method_names[kind],
				intent->order == NULL ? intent->request_id
						      : intent->order->order_id,
				rt_code_name(code), op->status.message);
	if (code == RT_CODE_FAILED_PRECONDITION && kind == ADJUST && intent->tries > 1)
		learn_adjusted(client, true);
	if (code == 0 && kind == WATCH && intent->order != NULL && !intent->seen_end)
		world_violation(world, "WatchOrder of %s ended before the order was settled",
				intent->order->order_id);
	if (code == 0 && kind == STREAM)
		check_streamed(client);
	if (code == 0 && response != NULL)
		learn(client, response);
	client->remaining--;
	if (client->by_hand && kind == PLACE && code == 0)
		after_placing(client);
	rest(client);
}

/* ---- intents ---- */

static void say_call(struct world_client *client)
{
	const struct intent *intent = &client->intent;

	if (!client->world->options.record)
		return;
	if (intent->kind == PLACE)
		world_say(client->world, "%-12s -> PlaceOrder %s %s×%" PRIu32 "%s%s", client->name,
			  intent->request_id, intent->lines[0].sku, intent->lines[0].quantity,
			  intent->line_count > 1 ? " …" : "", intent->wait ? ", waits" : "");
	else if (intent->kind == ADJUST)
		world_say(client->world, "%-12s -> AdjustStock %s %s %+" PRId64, client->name,
			  intent->request_id, intent->lines[0].sku, intent->delta);
	else if (intent->kind == THRESHOLD)
		world_say(client->world, "%-12s -> SetLowStockThreshold %s %" PRIu64, client->name,
			  intent->lines[0].sku, intent->threshold);
	else
		world_say(client->world, "%-12s -> %s %s", client->name, method_names[intent->kind],
			  intent->order == NULL ? "" : world_short(intent->order->order_id));
}

static void send(struct world_client *client)
{
	struct intent *intent = &client->intent;

	client->op = (struct rt_client_op){ .timeout_ms = intent->timeout_ms,
					    .on_message = intent->kind == WATCH ? on_watched : NULL,
					    .done = on_done };
	if (intent->tries == 0)
		intent->began_ms = rt_loop_now(client->world->loop);
	if (intent->kind == WATCH && was_shown_before_loss(client, intent->order->order_id))
		intent->seen_version = 0;
	say_call(client);
	switch (intent->kind) {
	case PLACE:
		send_place(client);
		break;
	case STREAM:
		client->op.on_message = on_streamed;
		send_stream(client);
		break;
	case LIST:
		send_list(client);
		break;
	case ADJUST:
		send_adjust(client);
		break;
	case THRESHOLD:
		send_threshold(client);
		break;
	case CONFIRM_SOME:
	case CANCEL_SOME:
		send_batch(client);
		break;
	case EXTEND:
		send_extend(client);
		break;
	case RETURN:
		send_return(client);
		break;
	default:
		send_about_order(client);
		break;
	}
}

static void choose_place(struct world_client *client)
{
	struct world *world = client->world;
	struct intent *intent = &client->intent;
	size_t first = world_roll(world, WORLD_SKUS);

	intent->kind = PLACE;
	intent->line_count = 1 + world_roll(world, RT_LENGTH(intent->lines));
	for (size_t i = 0; i < intent->line_count; i++)
		intent->lines[i] = (struct inventory_line){
			.sku = world_skus[(first + i) % WORLD_SKUS],
			.quantity = 1 + (uint32_t)world_roll(world, 4),
		};
	if (world->options.shop && world_roll(world, 30) == 0)
		intent->lines[intent->line_count - 1].sku = world_unknown_sku;
	if (world_roll(world, 4) > 0)
		snprintf(intent->request_id, sizeof(intent->request_id), "r%u", ++client->serial);
	intent->hold_ms = 1000 + (int64_t)world_roll(world, 5000);
	intent->wait = world_roll(world, 3) == 0;
	intent->timeout_ms = 300 + (int64_t)world_roll(world, 4000);
}

/* Uses an acknowledged request_id again, with other content. */
static void choose_repeat(struct world_client *client, const struct booked *order)
{
	struct intent *intent = &client->intent;

	choose_place(client);
	snprintf(intent->request_id, sizeof(intent->request_id), "%s", order->request_id);
	memcpy(intent->lines, order->lines, sizeof(intent->lines));
	intent->line_count = order->line_count;
	/* The hold is part of the content: it is never the same. */
	intent->hold_ms = 7000;
	intent->conflicting = true;
	if (client->world->options.drops && order->hold_ms > 0 &&
	    world_roll(client->world, 2) == 0) {
		intent->hold_ms = order->hold_ms;
		intent->conflicting = false;
	}
}

/* The latest, or any. */
static struct booked *own_order(struct world_client *client)
{
	bool latest = world_roll(client->world, 2) == 0;
	struct booked *some = NULL;
	unsigned count = 0;

	for (struct booked *at = client->world->booked; at != NULL; at = at->next)
		if (strcmp(at->customer, client->customer) == 0 &&
		    (latest ? some == NULL : world_roll(client->world, ++count) == 0))
			some = at;
	return some;
}

/* Of an order that was confirmed, often the one of which something came back just now; an order that was not is confirmed
 * instead. */
static void choose_return(struct world_client *client)
{
	struct world *world = client->world;
	struct intent *intent = &client->intent;
	size_t line;

	for (struct booked *at = world->booked; at != NULL; at = at->next)
		if (strcmp(at->customer, client->customer) == 0 && at->confirmed &&
		    (at == client->returned ? world_roll(world, 4) > 0 : world_roll(world, 2) == 0))
			intent->order = at;
	if (!intent->order->confirmed) {
		intent->kind = CONFIRM;
		return;
	}
	client->returned = intent->order;
	snprintf(intent->request_id, sizeof(intent->request_id), "t%u", ++client->serial);
	if (world_roll(world, 4) == 0)
		return;
	line = (size_t)world_roll(world, intent->order->line_count);
	intent->line_count = 1;
	intent->lines[0] = intent->order->lines[line];
	if (world_roll(world, 2) == 0)
		intent->lines[0].quantity = 1;
	else
		intent->lines[0].quantity =
			1 + (uint32_t)world_roll(world, intent->lines[0].quantity + 1);
}

static void choose(struct world_client *client)
{
	static const enum kind later[] = { CONFIRM, CONFIRM, CONFIRM, CANCEL, CANCEL,
					   WATCH,   WATCH,   GET,     LIST,   EXPLAIN };
	static const enum kind shop[] = { EXTEND, EXTEND, CONFIRM_SOME, CANCEL_SOME,
					  RETURN, RETURN, RETURN,       RETURN };
	struct world *world = client->world;
	struct intent *intent = &client->intent;
	struct booked *order = own_order(client);
	uint64_t which = client->hurries ? 99 : world_roll(world, 100);

	*intent = (struct intent){ .timeout_ms = 500 + (int64_t)world_roll(world, 5000) };
	if (world->options.shop && which < 16 && world_roll(world, 3) == 0) {
		intent->kind = THRESHOLD;
		intent->lines[0].sku = world_skus[world_roll(world, WORLD_SKUS)];
		intent->threshold = world_roll(world, 5) == 0 ? 0 : world_roll(world, 30);
	} else if (which < 8) {
		intent->kind = ADJUST;
		intent->lines[0].sku = world_skus[world_roll(world, WORLD_SKUS)];
		intent->delta = (int64_t)world_roll(world, 12) - 4;
		if (intent->delta == 0)
			intent->delta = 5;
		snprintf(intent->request_id, sizeof(intent->request_id), "%s-a%u", client->name,
			 ++client->serial);
	} else if (which < 50 || order == NULL) {
		choose_place(client);
	} else if (which < 53) {
		choose_place(client);
		intent->kind = STREAM;
		intent->wait = false;
		if (intent->request_id[0] == '\0')
			snprintf(intent->request_id, sizeof(intent->request_id), "s%u",
				 ++client->serial);
	} else if (which < 58 && order->request_id[0] != '\0') {
		choose_repeat(client, order);
	} else {
		intent->kind = later[world_roll(world, RT_LENGTH(later))];
		if (world->options.shop && world_roll(world, 2) == 0)
			intent->kind = shop[world_roll(world, RT_LENGTH(shop))];
		if (client->hurries)
			intent->kind = RETURN;
		intent->order = order;
		if (intent->kind == WATCH)
			intent->timeout_ms += 10000;
		if (intent->kind == RETURN)
			choose_return(client);
		/* Now and then to a time that has passed, or beyond the limit. */
		if (intent->kind == EXTEND)
			intent->until_ms = rt_loop_unix_ms(world->loop) - 2000 +
					   (int64_t)world_roll(world, WORLD_HOLD_MAX_MS * 3 / 2);
		for (size_t i = 0; i < SOME_ORDERS; i++)
			intent->orders[i] =
				intent->kind == CONFIRM_SOME || intent->kind == CANCEL_SOME
					? own_order(client)
					: NULL;
		if (world_roll(world, 4) == 0)
			intent->expected_version = order->version;
	}
}

static void on_rested(struct rt_timer *timer)
{
	struct world_client *client = RT_CONTAINER_OF(timer, struct world_client, timer);

	client->resting = false;
	if (!client->by_hand)
		choose(client);
	send(client);
}

static void rest(struct world_client *client)
{
	if (client->remaining == 0)
		return;
	client->resting = true;
	/* One return is often followed by another, while the first is under way. */
	client->hurries = client->intent.kind == RETURN && !client->by_hand &&
			  world_roll(client->world, 2) == 0;
	rt_timer_start(client->world->loop, &client->timer,
		       client->by_hand || client->hurries ? 0
							  : (int64_t)world_roll(client->world, 700),
		       on_rested);
}

/* ---- the clients ---- */

static struct world_client *client_new(struct world *world, unsigned remaining)
{
	struct world_client *client = rt_alloc(sizeof(*client));

	client->world = world;
	client->remaining = remaining;
	snprintf(client->name, sizeof(client->name), "client-%u", ++world->client_count);
	snprintf(client->customer, sizeof(client->customer), "c%u", world->client_count);
	rt_list_push(&world->clients, &client->link);
	return client;
}

void world_clients_open(struct world *world)
{
	rt_list_init(&world->clients);
}

void world_clients_close(struct world *world)
{
	struct rt_list *link;
	struct adjusted *adjusted;
	struct booked *booked;

	for (link = world->clients.next; link != &world->clients; link = link->next) {
		struct world_client *client = RT_CONTAINER_OF(link, struct world_client, link);

		client->remaining = 1; /* the one that is cancelled below */
		rt_timer_stop(world->loop, &client->timer);
		client->intent.tries = 1000;
		if (client->calling)
			rt_client_cancel(&client->op);
	}
	rt_loop_run_due(world->loop);
	while ((link = rt_list_pop(&world->clients)) != NULL) {
		struct world_client *client = RT_CONTAINER_OF(link, struct world_client, link);

		rt_timer_stop(world->loop, &client->timer);
		free(client);
	}
	while ((booked = world->booked) != NULL) {
		world->booked = booked->next;
		free(booked);
	}
	while ((adjusted = world->adjusted) != NULL) {
		world->adjusted = adjusted->next;
		free(adjusted);
	}
}

void world_clients_start(struct world *world, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		rest(client_new(world, 5 + (unsigned)world_roll(world, 20)));
}

void world_clients_calm(struct world *world)
{
	for (struct rt_list *at = world->clients.next; at != &world->clients; at = at->next) {
		struct world_client *client = RT_CONTAINER_OF(at, struct world_client, link);

		client->remaining = RT_MIN(client->remaining, CALM_INTENTS);
	}
}

/* It watches an order that does not end by itself. */
static bool watches_for_ever(const struct world_client *client)
{
	const struct intent *intent = &client->intent;

	return intent->kind == WATCH && intent->order != NULL &&
	       world_is_left(client->world, intent->order->order_id);
}

bool world_clients_idle(const struct world *world)
{
	for (const struct rt_list *at = world->clients.next; at != &world->clients; at = at->next) {
		const struct world_client *client =
			RT_CONTAINER_OF(at, const struct world_client, link);

		if (client->remaining > 0 && !watches_for_ever(client))
			return false;
	}
	return true;
}

/* ---- by hand ---- */

static void run_by_hand(struct world_client *client)
{
	struct world *world = client->world;

	client->by_hand = true;
	rest(client);
	for (int i = 0; i < 1000 && client->remaining > 0; i++)
		world_run(world, 100);
	if (client->remaining > 0)
		world_violation(world, "%s never learnt how %s ended", client->name,
				method_names[client->intent.kind]);
}

void world_stock(struct world *world, const char *sku, int64_t delta)
{
	struct world_client *client = client_new(world, 1);

	client->intent = (struct intent){ .kind = ADJUST, .delta = delta, .timeout_ms = 5000 };
	client->intent.lines[0].sku = world_skus[world_sku(sku)];
	snprintf(client->intent.request_id, sizeof(client->intent.request_id), "%s-a",
		 client->name);
	run_by_hand(client);
}

void world_order(struct world *world, const char *request_id, const char *sku, uint32_t quantity,
		 int64_t hold_ms, enum world_order_fate fate)
{
	struct world_client *client = client_new(world, 1);
	struct intent *intent = &client->intent;

	*intent = (struct intent){
		.kind = PLACE, .hold_ms = hold_ms, .wait = true, .timeout_ms = 3000, .line_count = 1
	};
	intent->lines[0].sku = world_skus[world_sku(sku)];
	intent->lines[0].quantity = quantity;
	snprintf(intent->request_id, sizeof(intent->request_id), "%s", request_id);
	client->fate = fate;
	run_by_hand(client);
}
