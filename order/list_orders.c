/* list_orders.c - ListOrders: a customer's orders, newest first, page by page (AIP-158).
 *
 * A position is the time and the id of the order after which the list continues (list_position.h). A page ends early
 * when it comes near the maximal size of a message. */
#include <stdio.h>

#include "access.h"
#include "check.h"
#include "list_position.h"
#include "order/order_internal.h"
#include "page_token.h"

#define PAGE_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct list_orders {
	struct order *order;
	const Tandem__Order__V1__ListOrdersRequest *request;
	struct order_list_op op;
	struct rt_arena arena;
	struct list_position position;
	char name[LIST_POSITION_NAME]; /* of the list, for its tokens */
	Tandem__Order__V1__ListOrdersResponse_Closure closure;
	struct rt_call *call;
};

/* Of the last order that was read. A damaged one has no time, so that of the last readable one is used. */
static struct list_position last_position(const struct order_list_op *op)
{
	struct list_position last = { .ms = 0 };

	if (op->record_count > 0)
		last.ms = order_created_ms(&op->records[op->record_count - 1]);
	snprintf(last.order_id, sizeof(last.order_id), "%s", op->last_id);
	return last;
}

/* Puts records into the answer. */
static void fill(struct list_orders *list, Tandem__Order__V1__ListOrdersResponse *response)
{
	response->orders = rt_arena_take(&list->arena,
					 (list->op.record_count + 1) * sizeof(*response->orders));
	for (size_t i = 0; i < list->op.record_count; i++) {
		Tandem__Order__V1__Order *order =
			order_view(&list->arena, &list->op.records[i], NULL, 0);

		/* Skip a damaged order, list the rest: GetOrder and the audit report it. */
		if (order == NULL ||
		    (list->request->status != 0 && list->request->status != order->status))
			continue;
		response->orders[response->n_orders++] = order;
	}
}

static void send_answer(struct list_orders *list)
{
	Tandem__Order__V1__ListOrdersResponse response =
		TANDEM__ORDER__V1__LIST_ORDERS_RESPONSE__INIT;
	struct list_position last = last_position(&list->op);
	char *token = NULL;

	fill(list, &response);
	if (list->op.more)
		response.next_page_token = token = list_position_token(list->name, &last);
	response.dropped =
		list->op.dropped_ms > 0 && (!list->op.more || list->op.dropped_ms >= last.ms);
	list->closure(&response, list->call);
	free(token);
}

static void orders_listed(struct order_list_op *op, int rc)
{
	struct list_orders *list = RT_CONTAINER_OF(op, struct list_orders, op);
	struct order *order = list->order;

	if (rc == RT_OK)
		send_answer(list);
	else
		rt_call_fail_from(list->call, rc, "listing the orders");
	rt_arena_done(&list->arena);
	free(list);
	order_call_end(order);
}

ORDER_HANDLER(order_list_orders, ListOrders)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct rt_status status = { .code = 0 };
	struct list_orders *list;

	if (!check_call(closure_data, &request->base))
		return;
	if (!access_customer(closure_data, request->customer_id, &status)) {
		order_fail(closure_data, &status);
		return;
	}
	list = rt_alloc(sizeof(*list));
	list->order = order;
	list->request = request;
	list->closure = closure;
	list->call = closure_data;
	list->op.partition = order_customer_partition(order, request->customer_id);
	list->op.customer_id = request->customer_id;
	list->op.count_max = check_page_size(request->page_size);
	list->op.before_id = list->position.order_id;
	list->op.bytes_max = PAGE_BYTES_MAX;
	list->op.done = orders_listed;
	list_position_name(request, list->name);
	if (!list_position_read(list->name, request->page_token, &list->position)) {
		page_token_status(&status);
		order_fail(list->call, &status);
		free(list);
		return;
	}
	list->op.before_ms = list->position.ms;
	order_call_begin(order);
	order_store_list(order->store, &list->op);
}
