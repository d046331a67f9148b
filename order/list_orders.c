/* list_orders.c - ListOrders: a customer's orders, newest first, page by page (AIP-158).
 *
 * A page token says behind which order to go on, and holds a hash of the request's other fields:
 * with others it is refused. A page ends early when it grows near the size of a message. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "order/parts.h"

/* 16 of the hash, 13 of the time, 30 of the order id. */
#define HASH_LENGTH    16
#define TIME_LENGTH    13
#define TOKEN_LENGTH   (HASH_LENGTH + TIME_LENGTH + ORDER_ID_LENGTH)
#define PAGE_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct list_orders {
	struct order *order;
	const Tandem__Order__V1__ListOrdersRequest *request;
	struct order_list_op op;
	struct rt_arena arena;
	char hash[HASH_LENGTH + 1], before_id[ORDER_ID_LENGTH + 1];
	Tandem__Order__V1__ListOrdersResponse_Closure closure;
	struct rt_call *call;
};

/* What a token is bound to. Numbers come first, at a fixed length: no two requests meet. */
static void hash_request(const Tandem__Order__V1__ListOrdersRequest *request,
			 char hash[HASH_LENGTH + 1])
{
	char text[32 + 4 * CHECK_ID_MAX + 1];
	uint8_t digest[32];
	int length = snprintf(text, sizeof(text), "%08x%08x%s", (unsigned)request->status,
			      (unsigned)request->page_size, request->customer_id);

	rt_sha256(text, (size_t)length, digest);
	for (int i = 0; i < HASH_LENGTH / 2; i++)
		snprintf(hash + 2 * i, 3, "%02x", digest[i]);
}

static bool read_token(struct list_orders *list, const char *token)
{
	char time[TIME_LENGTH + 1];

	if (token[0] == '\0') {
		list->op.before_ms = INT64_MAX;
		return true;
	}
	if (strlen(token) != TOKEN_LENGTH || memcmp(token, list->hash, HASH_LENGTH) != 0 ||
	    strspn(token + HASH_LENGTH, "0123456789") < TIME_LENGTH)
		return false;
	memcpy(time, token + HASH_LENGTH, TIME_LENGTH);
	time[TIME_LENGTH] = '\0';
	list->op.before_ms = strtoll(time, NULL, 10);
	memcpy(list->before_id, token + HASH_LENGTH + TIME_LENGTH, ORDER_ID_LENGTH + 1);
	return check_order_id(list->before_id);
}

/* Puts records into the answer; returns the last that was looked at, NULL when none was. */
static const struct order_record *fill(struct list_orders *list,
				       Tandem__Order__V1__ListOrdersResponse *response, bool *cut)
{
	const struct order_record *last = NULL;
	size_t bytes = 0;

	response->orders = rt_arena_take(&list->arena,
					 (list->op.record_count + 1) * sizeof(*response->orders));
	for (size_t i = 0; i < list->op.record_count; i++) {
		const struct order_record *record = &list->op.records[i];
		Tandem__Order__V1__Order *order;

		bytes += record->placed_length + record->detail_length + 128;
		if (bytes > PAGE_BYTES_MAX && last != NULL) {
			*cut = true;
			break;
		}
		last = record;
		order = order_view(&list->arena, record, NULL, 0);
		/* A damaged order hides no other: GetOrder and the audit tell of it. */
		if (order == NULL ||
		    (list->request->status != 0 && list->request->status != order->status))
			continue;
		response->orders[response->n_orders++] = order;
	}
	return last;
}

static void answer(struct list_orders *list)
{
	Tandem__Order__V1__ListOrdersResponse response =
		TANDEM__ORDER__V1__LIST_ORDERS_RESPONSE__INIT;
	bool cut = false;
	const struct order_record *last = fill(list, &response, &cut);

	if (last != NULL && (cut || list->op.more))
		response.next_page_token =
			rt_arena_printf(&list->arena, "%s%0*" PRId64 "%s", list->hash, TIME_LENGTH,
					order_created_ms(last), last->order_id);
	list->closure(&response, list->call);
}

static void listed(struct order_list_op *op, int rc)
{
	struct list_orders *list = RT_CONTAINER_OF(op, struct list_orders, op);
	struct order *order = list->order;
	struct rt_status status = { .code = 0 };

	if (rc == RT_OK) {
		answer(list);
	} else {
		rt_status_from(&status, rc, "listing the orders");
		order_fail(list->call, &status);
	}
	rt_arena_done(&list->arena);
	free(list);
	order_call_end(order);
}

ORDER_HANDLER(order_list_orders, ListOrders)
{
	struct order *order = RT_CONTAINER_OF(service, struct order, service);
	struct rt_status status = { .code = 0 };
	struct list_orders *list;

	if (order_call_is_gone(closure_data))
		return;
	if (!check_request(&request->base, &status)) {
		order_fail(closure_data, &status);
		return;
	}
	list = rt_alloc(sizeof(*list));
	list->order = order;
	list->request = request;
	list->closure = closure;
	list->call = closure_data;
	list->op.customer_id = request->customer_id;
	list->op.count_max = check_page_size(request->page_size);
	list->op.before_id = list->before_id;
	list->op.done = listed;
	hash_request(request, list->hash);
	if (!read_token(list, request->page_token)) {
		rt_status_set(&status, RT_CODE_INVALID_ARGUMENT,
			      "page_token is not one of this list");
		rt_status_info(&status, "PAGE_TOKEN");
		rt_status_violation(&status, "page_token",
				    "is not next_page_token of a page of this very list");
		order_fail(list->call, &status);
		free(list);
		return;
	}
	order_call_begin(order);
	order->store->ops->list(order->store, &list->op);
}
