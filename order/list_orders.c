/* list_orders.c - ListOrders: a customer's orders, newest first, page by page (AIP-158).
 *
 * A position is the time and the id of the order after which the list continues. A page ends early
 * when it comes near the maximal size of a message. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "check.h"
#include "order/order_internal.h"
#include "page_token.h"

#define TIME_LENGTH     13
#define POSITION_LENGTH (TIME_LENGTH + ORDER_ID_LENGTH)
#define PAGE_BYTES_MAX  ((size_t)2 * 1024 * 1024)

struct list_orders {
	struct order *order;
	const Tandem__Order__V1__ListOrdersRequest *request;
	struct order_list_op op;
	struct rt_arena arena;
	char before_id[ORDER_ID_LENGTH + 1];
	char name[32 + 4 * CHECK_ID_MAX]; /* of the list, for its tokens */
	Tandem__Order__V1__ListOrdersResponse_Closure closure;
	struct rt_call *call;
};

/* Sets where to continue; false: it is not a token of this list. */
static bool read_token(struct list_orders *list, const char *token)
{
	char time[TIME_LENGTH + 1];
	const char *position;

	if (token[0] == '\0') {
		list->op.before_ms = INT64_MAX;
		return true;
	}
	position = page_token_read(list->name, token);
	if (position == NULL || strlen(position) != POSITION_LENGTH ||
	    strspn(position, "0123456789") < TIME_LENGTH)
		return false;
	memcpy(time, position, TIME_LENGTH);
	time[TIME_LENGTH] = '\0';
	list->op.before_ms = strtoll(time, NULL, 10);
	memcpy(list->before_id, position + TIME_LENGTH, ORDER_ID_LENGTH + 1);
	return check_order_id(list->before_id);
}

/* Continues after the last order that was read. The time matters only if that order is gone by then; a
 * damaged order has none, so the time of the last readable one is used. */
static char *new_token(const struct list_orders *list)
{
	const struct order_list_op *op = &list->op;
	int64_t last_ms = 0;
	char position[32 + ORDER_ID_LENGTH];

	if (op->record_count > 0)
		last_ms = order_created_ms(&op->records[op->record_count - 1]);
	snprintf(position, sizeof(position), "%0*" PRId64 "%s", TIME_LENGTH, last_ms, op->last_id);
	return page_token_new(list->name, position);
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
	char *token = NULL;

	fill(list, &response);
	if (list->op.more)
		response.next_page_token = token = new_token(list);
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
	list->op.before_id = list->before_id;
	list->op.bytes_max = PAGE_BYTES_MAX;
	list->op.done = orders_listed;
	/* The number first, at a fixed length: no two lists have the same name. */
	snprintf(list->name, sizeof(list->name), "ListOrders %08x %s", (unsigned)request->status,
		 request->customer_id);
	if (!read_token(list, request->page_token)) {
		page_token_status(&status);
		order_fail(list->call, &status);
		free(list);
		return;
	}
	order_call_begin(order);
	order_store_list(order->store, &list->op);
}
