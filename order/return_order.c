/* return_order.c - ReturnOrder: takes items of a CONFIRMED order back.
 *
 *   order_return_order     where is the order?
 *     partition_found      → store->get
 *       order_read         what came back so far, and does this fit in? (order_return.h)
 *         order_moving     → store->move, if the order is still at the version that was read
 *           returned       the answer; or the order has changed meanwhile: it is read again
 *
 * What came back before is answered as it is, behind a move that changes nothing: what was only read may be what no replica
 * has yet (decision 033), and OK says that it will not be lost. An order of another status is moved all the same: the rules refuse it. */
#include <inttypes.h>

#include "check.h"
#include "order/order_internal.h"
#include "order/order_return.h"

#define TRIES 5

struct return_order {
	struct order *order;
	const Tandem__Order__V1__ReturnOrderRequest *request;
	Tandem__Order__V1__ReturnOrderResponse_Closure closure;
	struct rt_call *call;
	struct order_get_op get;
	struct order_moving moving;
	struct rt_arena arena;
	unsigned tries;
};

static void read_order(struct return_order *returning);

static void returning_end(struct return_order *returning, const Tandem__Order__V1__Order *shown,
			  struct rt_status *status)
{
	struct order *order = returning->order;
	Tandem__Order__V1__ReturnOrderResponse response =
		TANDEM__ORDER__V1__RETURN_ORDER_RESPONSE__INIT;

	if (shown != NULL) {
		response.order = (Tandem__Order__V1__Order *)(uintptr_t)shown;
		returning->closure(&response, returning->call);
	} else {
		order_fail(returning->call, status);
	}
	rt_arena_done(&returning->arena);
	free(returning);
	order_call_end(order);
}

static void returned(struct order_moving *moving)
{
	struct return_order *returning = RT_CONTAINER_OF(moving, struct return_order, moving);

	if (moving->status.code == RT_CODE_ABORTED && ++returning->tries < TRIES) {
		rt_status_done(&moving->status);
		read_order(returning);
		return;
	}
	returning_end(returning, moving->result, &moving->status);
}

/* Moves the order, if it is still at the version that was read. `returns`: as they are then, if there are new ones. */
static void move(struct return_order *returning, const struct order_record *record,
		 enum order_input input, const Tandem__Order__V1__OrderReturned *returns)
{
	struct order_moving *moving = &returning->moving;

	*moving = (struct order_moving){
		.order = returning->order,
		.call = returning->call,
		.arena = &returning->arena,
		.found = true,
		.done = returned,
	};
	if (returns != NULL)
		order_moving_data(moving, &returns->base);
	moving->op.partition = returning->get.partition;
	moving->op.order_id = returning->request->order_id;
	moving->op.input = input;
	moving->op.expected_version = record->version;
	moving->op.span = rt_call_span(returning->call);
	order_moving_start(moving);
}

static void too_much(const char *order_id, const char *why, struct rt_status *status)
{
	char *text = rt_printf("so much of order %s cannot come back: %s", order_id, why);

	rt_status_set(status, RT_CODE_FAILED_PRECONDITION, "%s", text);
	rt_status_info(status, "RETURN_LIMIT");
	rt_status_precondition(status, "RETURN_LIMIT", order_id, text);
	free(text);
}

static void decide(struct return_order *returning, const struct order_record *record,
		   const Tandem__Order__V1__Order *shown)
{
	const Tandem__Order__V1__ReturnOrderRequest *request = returning->request;
	const Tandem__Order__V1__OrderReturned *before =
		order_record_returned(&returning->arena, record);
	int64_t now_ms = rt_loop_unix_ms(returning->order->loop);
	Tandem__Order__V1__OrderReturned *after = NULL;
	struct rt_status status = { .code = 0 };
	const char *why = "";

	switch (order_return(&returning->arena, shown->lines, shown->n_lines, before, request,
			     now_ms, &after, &why)) {
	case ORDER_RETURN_NEW:
		move(returning, record, ORDER_IN_RETURN, after);
		return;
	case ORDER_RETURN_BEFORE:
		move(returning, record, ORDER_IN_CONFIRM, NULL); /* it is confirmed: it stays */
		return;
	case ORDER_RETURN_CONFLICT:
		rt_status_set(&status, RT_CODE_ALREADY_EXISTS,
			      "return %s of order %s has other lines or another reason",
			      request->return_id, request->order_id);
		rt_status_info(&status, "RETURN_ID_USED");
		break;
	case ORDER_RETURN_TOO_MUCH:
		too_much(request->order_id, why, &status);
		break;
	case ORDER_RETURN_TOO_MANY:
		why = rt_arena_printf(&returning->arena,
				      "an order has at most %d returns, of %d bytes together",
				      CHECK_RETURNS_MAX, ORDER_RETURNS_BYTES_MAX);
		too_much(request->order_id, why, &status);
		break;
	}
	returning_end(returning, NULL, &status);
}

static void order_read(struct order_get_op *op, int rc)
{
	struct return_order *returning = RT_CONTAINER_OF(op, struct return_order, get);
	const struct order_record *record = &op->record;
	struct rt_status status = { .code = 0 };
	const Tandem__Order__V1__Order *shown = NULL;

	if (rc != RT_OK)
		rt_status_from(&status, rc, "reading the order");
	else if (!op->found)
		order_status_not_found(&status, op->order_id);
	else if ((shown = order_view(&returning->arena, record, NULL, 0)) == NULL)
		order_status_damaged(&status, op->order_id);
	if (shown == NULL)
		returning_end(returning, NULL, &status);
	else if (record->state == ORDER_CONFIRMED || record->state == ORDER_RETURNING)
		decide(returning, record, shown);
	else
		move(returning, record, ORDER_IN_RETURN, NULL);
}

static void read_order(struct return_order *returning)
{
	returning->get.order_id = returning->request->order_id;
	returning->get.done = order_read;
	order_store_get(returning->order->store, &returning->get);
}

static void partition_found(void *user, int status, int partition)
{
	struct return_order *returning = user;

	returning->get.partition = partition;
	returning->get.order_id = returning->request->order_id;
	returning->get.found = false;
	if (partition >= 0)
		read_order(returning);
	else
		order_read(&returning->get, status);
}

ORDER_HANDLER(order_return_order, ReturnOrder)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct return_order *returning;

	if (!order_check_one(order, closure_data, &request->base, request->order_id))
		return;
	returning = rt_alloc(sizeof(*returning));
	returning->order = order;
	returning->request = request;
	returning->closure = closure;
	returning->call = closure_data;
	order_call_begin(order);
	order_find(order, returning->call, request->order_id, partition_found, returning);
}
