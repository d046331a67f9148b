/* placement.c - PlacementService.Place: orders for as long as a gateway sends them.
 *
 *   order_place → on_message: each item is started → the next message is read
 *     item_placed         its answer waits for the end of the turn
 *       send_answers      sends the gathered answers, in as few messages as possible
 *   when its time is up or the gateway cancels it, an item is answered with what is known
 *   close               the gateway has gone, or no more items are accepted: the call ends when the
 *                       last item is answered
 *
 * Each item has its own arena, because items end in any order. Its request, which comes packed, is unpacked
 * there.
 *
 * Nothing is read while the gateway does not take its answers. The store's queue and the limit of
 * waiters bound how many items are under way. */
#include <string.h>

#include "check.h"
#include "order/order_internal.h"

#define uthash_fatal(text) abort()
#include <uthash.h>

#define WAIT_MAX_MS 600000
/* How long items may go on waiting when the service is asked to stop. */
#define DRAIN_WAIT_MS 1000
/* An answer's message is sent when it may have grown to this size: far below the message limit. */
#define MESSAGE_BYTES (1024 * 1024)
/* In addition to the content, which a rejected order has twice, as lines and as shortages. */
#define ANSWER_BYTES 1024
#define ANSWERS_MAX  256

struct placement {
	struct rt_list link; /* order->placements */
	struct order *order;
	Tandem__Order__V1__PlaceResponse_Closure closure;
	struct rt_call *call;
	struct rt_list items;    /* under way */
	struct rt_list answered; /* sent at the end of the turn */
	struct item *waiting;    /* those of `items` that may be cancelled, by number */
	struct rt_task send_task;
	struct rt_timer drain_timer;
	bool closed;     /* no more items */
	int64_t read_us; /* when the message in hand came, for spans */
};

struct item {
	struct order_placing placing;
	struct rt_arena arena;
	struct rt_list link;
	struct placement *placement;
	uint64_t number;
	UT_hash_handle hh; /* placement->waiting */
	char traceparent[RT_TRACEPARENT_TEXT];
	struct rt_span span;
};

static void on_message(struct rt_call *call, const ProtobufCMessage *message, void *user);

static void item_free(struct item *item)
{
	order_placing_done(&item->placing);
	rt_arena_done(&item->arena);
	free(item);
}

static void end_if_done(struct placement *placement)
{
	struct order *order = placement->order;

	if (!placement->closed || !rt_list_empty(&placement->items) ||
	    !rt_list_empty(&placement->answered))
		return;
	rt_timer_stop(order->loop, &placement->drain_timer);
	rt_list_remove(&placement->link);
	rt_call_on_cancel(placement->call, NULL, NULL);
	rt_call_finish(placement->call);
	free(placement);
	order_call_end(order);
}

/* ---- answers ---- */

/* An upper bound; the exact size would cost more. */
static size_t answer_bytes(const struct item *item)
{
	return ANSWER_BYTES + 4 * item->placing.op.placed_length +
	       item->placing.status.details_length;
}

/* What the gateway needs to ask the archive. */
static Tandem__Order__V1__PerhapsDropped *perhaps_dropped(struct item *item)
{
	Tandem__Order__V1__PerhapsDropped *message = rt_arena_take(&item->arena, sizeof(*message));

	tandem__order__v1__perhaps_dropped__init(message);
	message->order_id = item->placing.order_id;
	message->placed.data = (uint8_t *)(uintptr_t)item->placing.op.placed;
	message->placed.len = item->placing.op.placed_length;
	return message;
}

/* Sends a message with the first `count` answers. */
static void send_message(struct placement *placement, size_t count)
{
	Tandem__Order__V1__PlaceResponse response = TANDEM__ORDER__V1__PLACE_RESPONSE__INIT;
	Tandem__Order__V1__PlacementAnswer answers[ANSWERS_MAX], *list[ANSWERS_MAX];
	struct rt_list *link = placement->answered.next;

	for (size_t i = 0; i < count; i++, link = link->next) {
		struct item *item = RT_CONTAINER_OF(link, struct item, link);
		Tandem__Order__V1__PlacementAnswer *answer = &answers[i];

		tandem__order__v1__placement_answer__init(answer);
		answer->number = item->number;
		if (item->placing.perhaps_dropped) {
			answer->result_case =
				TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_PERHAPS_DROPPED;
			answer->perhaps_dropped = perhaps_dropped(item);
		} else if (item->placing.status.code == 0) {
			answer->result_case = TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ORDER;
			answer->order.data = order_pack(&item->arena, &item->placing.result->base,
							&answer->order.len);
		} else {
			answer->result_case = TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ERROR;
			answer->error = rt_status_to_proto(&item->placing.status);
		}
		list[i] = answer;
	}
	response.n_answers = count;
	response.answers = list;
	placement->closure(&response, placement->call);
	for (size_t i = 0; i < count; i++) {
		if (answers[i].result_case == TANDEM__ORDER__V1__PLACEMENT_ANSWER__RESULT_ERROR)
			google__rpc__status__free_unpacked(answers[i].error, NULL);
		item_free(RT_CONTAINER_OF(rt_list_pop(&placement->answered), struct item, link));
	}
}

static void send_answers(struct rt_task *task)
{
	struct placement *placement = RT_CONTAINER_OF(task, struct placement, send_task);

	while (!rt_list_empty(&placement->answered)) {
		size_t count = 0, bytes = 0;

		for (struct rt_list *link = placement->answered.next;
		     link != &placement->answered && count < ANSWERS_MAX && bytes < MESSAGE_BYTES;
		     link = link->next, count++)
			bytes += answer_bytes(RT_CONTAINER_OF(link, struct item, link));
		send_message(placement, count); /* costs nothing when the gateway has gone */
	}
	end_if_done(placement);
}

static void item_placed(struct order_placing *placing)
{
	struct item *item = RT_CONTAINER_OF(placing, struct item, placing);
	struct placement *placement = item->placement;

	if (item->hh.tbl != NULL)
		HASH_DEL(placement->waiting, item);
	if (placing->span != NULL) {
		rt_span_code(placing->span, placing->status.code);
		rt_span_end(placing->span);
	}
	rt_list_remove(&item->link);
	rt_list_push(&placement->answered, &item->link);
	rt_loop_defer(placement->order->loop, &placement->send_task);
}

/* ---- items ---- */

/* Unpacks the item's request, if there is one. False: it is malformed, and the status says how. */
static bool read_request(struct item *item, const ProtobufCBinaryData *packed)
{
	struct order_placing *placing = &item->placing;
	struct rt_wire_fault fault;
	bool waits;

	if (packed->len == 0)
		return true;
	placing->checked = check_packed_order(packed->data, packed->len, &waits);
	if (!placing->checked && !rt_wire_check(&tandem__order__v1__place_order_request__descriptor,
						packed->data, packed->len, &fault)) {
		rt_status_set(&placing->status, RT_CODE_INVALID_ARGUMENT, "request%s%s %s",
			      fault.field[0] != '\0' ? "." : "", fault.field, fault.what);
		rt_status_violation(&placing->status, fault.field, "%s", fault.what);
		return false;
	}
	placing->request = tandem__order__v1__place_order_request__unpack(
		rt_arena_allocator(&item->arena), packed->len, packed->data);
	return true;
}

/* Who places it. A gateway says that for each item; its word counts as it does for calls (runtime/rpc/callers.c).
 * False: it cannot be so, and the status says it. */
static bool read_actor(struct item *item, const char *actor)
{
	const struct rt_call *call = item->placement->call;
	const struct rt_identity *caller = rt_call_identity(call);

	if (caller->role != RT_ROLE_GATEWAY && caller->way != RT_AUTH_NONE)
		actor = rt_call_actor(call);
	if (!rt_actor_good(actor)) {
		rt_status_set(&item->placing.status, RT_CODE_INVALID_ARGUMENT,
			      "actor is not a printable text of at most %d bytes",
			      RT_ACTOR_TEXT - 1);
		return false;
	}
	if (actor[0] != '\0')
		item->placing.actor = rt_arena_copy(&item->arena, actor, strlen(actor));
	return true;
}

/* False: not started, and the status says why. */
static bool item_start(struct item *item, const Tandem__Order__V1__PlacementItem *message)
{
	struct order_placing *placing = &item->placing;

	if (item->placement->closed) {
		order_status_stopping(&placing->status);
		return false;
	}
	if (message->timeout_ms <= 0) {
		rt_status_set(&placing->status, RT_CODE_DEADLINE_EXCEEDED,
			      "the deadline passed before the order could be placed");
		return false;
	}
	placing->remaining_ms = message->timeout_ms;
	placing->wait_max_ms = WAIT_MAX_MS;
	placing->pending_max = message->pending_max;
	placing->asked = message->asked;
	return read_actor(item, message->actor) && read_request(item, &message->request) &&
	       order_placing_start(placing);
}

/* What of the trace the caller has said, and the span that begins with it. */
static void take_trace(struct item *item, const Tandem__Order__V1__PlacementItem *message)
{
	const ProtobufCServiceDescriptor *service =
		&tandem__order__v1__placement_service__descriptor;
	const char *state = message->tracestate;
	struct rt_trace trace;

	item->placing.traceparent = item->traceparent;
	if (rt_trace_parse(message->traceparent, strlen(message->traceparent), &trace)) {
		rt_trace_format(&trace, item->traceparent);
		if (rt_trace_state_valid(state, strlen(state)))
			item->placing.tracestate =
				rt_arena_copy(&item->arena, state, strlen(state));
	}
	if (!rt_tracing)
		return;
	rt_span_begin_at(&item->span, RT_SPAN_ITEM_SERVED, service->name, item->placement->read_us);
	item->span.method = service->methods[0].name;
	item->span.number = message->number;
	rt_span_carried(&item->span, item->traceparent);
	item->span.state = item->placing.tracestate;
	item->placing.span = &item->span;
}

static void item_new(struct placement *placement, const Tandem__Order__V1__PlacementItem *message)
{
	struct order *order = placement->order;
	struct item *item = rt_alloc(sizeof(*item));
	struct order_placing *placing = &item->placing;

	item->placement = placement;
	item->number = message->number;
	rt_list_init(&item->link);
	rt_list_push(&placement->items, &item->link);
	placing->order = order;
	placing->arena = &item->arena;
	take_trace(item, message);
	placing->done = item_placed;
	if (!item_start(item, message)) {
		item_placed(placing);
		return;
	}
	if (placing->wait)
		HASH_ADD(hh, placement->waiting, number, sizeof(item->number), item);
}

static void cancel(struct placement *placement, uint64_t number)
{
	struct item *item;

	HASH_FIND(hh, placement->waiting, &number, sizeof(number), item);
	if (item != NULL)
		order_placing_answer_now(&item->placing);
}

static void answer_all_now(struct placement *placement)
{
	struct rt_list *link = placement->items.next;

	while (link != &placement->items) {
		struct item *item = RT_CONTAINER_OF(link, struct item, link);

		link = link->next;
		order_placing_answer_now(&item->placing);
	}
}

/* ---- the stream ---- */

static void on_drained(struct rt_call *call, void *user)
{
	rt_call_read(call, on_message, user);
}

static void read_more(struct placement *placement)
{
	if (rt_call_queued_bytes(placement->call) > RT_CALL_QUEUE_MAX_BYTES)
		rt_call_on_drained(placement->call, on_drained, placement);
	else
		rt_call_read(placement->call, on_message, placement);
}

static void on_message(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	struct placement *placement = user;
	const Tandem__Order__V1__PlaceRequest *request = (const void *)message;

	(void)call;
	if (message == NULL) {
		placement->closed = true;
		end_if_done(placement);
		return;
	}
	if (rt_tracing)
		placement->read_us = rt_turn_us();
	for (size_t i = 0; i < request->n_items; i++)
		item_new(placement, request->items[i]);
	for (size_t i = 0; i < request->n_cancelled_numbers; i++)
		cancel(placement, request->cancelled_numbers[i]);
	read_more(placement);
}

static void on_cancel(struct rt_call *call, void *user)
{
	struct placement *placement = user;

	(void)call;
	placement->closed = true;
	answer_all_now(placement);
	end_if_done(placement);
}

void order_placements_send_load(struct order *order, Tandem__Order__V1__PlacementLoad *load)
{
	Tandem__Order__V1__PlaceResponse response = TANDEM__ORDER__V1__PLACE_RESPONSE__INIT;

	response.load = load;
	for (struct rt_list *link = order->placements.next; link != &order->placements;
	     link = link->next) {
		struct placement *placement = RT_CONTAINER_OF(link, struct placement, link);

		/* A gateway that does not take its answers learns it later. */
		if (rt_call_queued_bytes(placement->call) <= RT_CALL_QUEUE_MAX_BYTES)
			placement->closure(&response, placement->call);
	}
}

static void drain_wait_is_over(struct rt_timer *timer)
{
	answer_all_now(RT_CONTAINER_OF(timer, struct placement, drain_timer));
}

void order_placements_close(struct order *order, bool answer_now)
{
	struct rt_list *link = order->placements.next;

	while (link != &order->placements) {
		struct placement *placement = RT_CONTAINER_OF(link, struct placement, link);

		link = link->next;
		placement->closed = true;
		if (answer_now)
			answer_all_now(placement);
		else
			rt_timer_start(order->loop, &placement->drain_timer, DRAIN_WAIT_MS,
				       drain_wait_is_over);
		end_if_done(placement);
	}
}

void order_place(Tandem__Order__V1__PlacementService_Service *service,
		 const Tandem__Order__V1__PlaceRequest *request,
		 Tandem__Order__V1__PlaceResponse_Closure closure, void *closure_data)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, placement);
	struct placement *placement;

	(void)request;
	if (order->draining || order->context->stopping) {
		struct rt_status status = { .code = 0 };

		order_status_stopping(&status);
		order_fail(closure_data, &status);
		return;
	}
	placement = rt_alloc(sizeof(*placement));
	placement->order = order;
	placement->closure = closure;
	placement->call = closure_data;
	placement->send_task.run = send_answers;
	rt_list_init(&placement->items);
	rt_list_init(&placement->answered);
	rt_list_init(&placement->link);
	rt_list_push(&order->placements, &placement->link);
	order_call_begin(order);
	rt_call_on_cancel(placement->call, on_cancel, placement);
	rt_call_read(placement->call, on_message, placement);
}
