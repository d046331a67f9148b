/* archived_list.c - ListOrders where the order service has dropped orders: those that the archive has go into its page.
 *
 *   gateway_archived_list   the order service's page is there; does it reach back to where orders were dropped?
 *     ask_for_part          SearchOrders for the same customer and the time that the page is about
 *       part_came           its settled orders are kept
 *     send_page             both, by time and id: a page of the list, and where the next one begins
 *
 * The order service's page has all its orders between the place where the page begins and that where the next one does, so what
 * the archive has there and the page has not is dropped. It was archived before it was dropped, and is asked for after the page was
 * read: so nothing is missing.
 *
 * A page costs one search. Only if the orders of the very millisecond at which the page begins are more than a search finds are
 * there further ones. Where a search has not come to the end of the page, the page ends with it. */
#include <string.h>

#include "check.h"
#include "gateway_internal.h"
#include "list_position.h"

#define PAGE_BYTES_MAX ((size_t)2 * 1024 * 1024)

typedef Tandem__Order__V1__Order order_message;

struct listed {
	struct gateway *gateway;
	const Tandem__Order__V1__ListOrdersRequest *request;
	struct rt_call *call;
	ProtobufCClosure closure;
	struct rt_arena arena;
	char name[LIST_POSITION_NAME];
	struct list_position begin;        /* of the page */
	struct list_position end;          /* where the order service's next page begins … */
	bool last;                         /* … if there is one */
	order_message **orders;            /* of both */
	size_t count, capacity, own_count; /* own: the order service's, which are the first */
	int64_t complete_ms; /* those of the archive that were placed later are all there; -1: all are */
	char *part_token;
	struct rt_client_op op;
};

static int64_t time_ms(const Google__Protobuf__Timestamp *time)
{
	return time == NULL ? 0 : time->seconds * 1000 + time->nanos / 1000000;
}

static Google__Protobuf__Timestamp time_of(int64_t ms)
{
	Google__Protobuf__Timestamp time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;

	time.seconds = ms / 1000;
	time.nanos = (int32_t)(ms % 1000) * 1000000;
	return time;
}

static void listed_free(struct listed *listed)
{
	rt_arena_done(&listed->arena);
	free(listed->orders);
	free(listed->part_token);
	free(listed);
}

/* Keeps a copy: answers last no longer than `done`. */
static void keep(struct listed *listed, const order_message *order)
{
	size_t length = tandem__order__v1__order__get_packed_size(order);
	uint8_t *packed = rt_arena_take(&listed->arena, length + 1);

	tandem__order__v1__order__pack(order, packed);
	listed->orders =
		rt_grow(listed->orders, listed->count, &listed->capacity, sizeof(*listed->orders));
	listed->orders[listed->count++] = tandem__order__v1__order__unpack(
		rt_arena_allocator(&listed->arena), length, packed);
}

/* ---- the page ---- */

static int newer_first(const void *a, const void *b)
{
	const order_message *const *x = a, *const *y = b;
	int64_t x_ms = time_ms((*x)->create_time), y_ms = time_ms((*y)->create_time);

	if (x_ms != y_ms)
		return x_ms > y_ms ? -1 : 1;
	return -strcmp((*x)->order_id, (*y)->order_id);
}

/* How many of the orders make a page: of those up to which both are complete, as many as were asked for and fit. */
static size_t page_length(const struct listed *listed)
{
	size_t most = check_page_size(listed->request->page_size), bytes = 0, length = 0;

	while (length < listed->count && length < most) {
		const order_message *order = listed->orders[length];

		bytes += tandem__order__v1__order__get_packed_size(order);
		if (time_ms(order->create_time) <= listed->complete_ms ||
		    (length > 0 && bytes > PAGE_BYTES_MAX))
			break;
		length++;
	}
	return length;
}

/* The token of the next page; NULL: this one is the last. */
static char *next_token(const struct listed *listed, size_t length)
{
	struct list_position next = listed->end;

	if (length < listed->count &&
	    time_ms(listed->orders[length]->create_time) > listed->complete_ms) {
		next.ms = time_ms(listed->orders[length - 1]->create_time);
		memcpy(next.order_id, listed->orders[length - 1]->order_id, sizeof(next.order_id));
	} else if (listed->complete_ms >= 0) {
		/* With all of that millisecond: no id is higher. */
		next.ms = listed->complete_ms;
		memset(next.order_id, 'z', LIST_POSITION_ID);
		memcpy(next.order_id, "ord_", 4);
	} else if (listed->last) {
		return NULL;
	}
	return list_position_token(listed->name, &next);
}

static void send_page(struct listed *listed)
{
	Tandem__Order__V1__ListOrdersResponse response =
		TANDEM__ORDER__V1__LIST_ORDERS_RESPONSE__INIT;
	char *token;

	if (listed->count > 1)
		qsort(listed->orders, listed->count, sizeof(*listed->orders), newer_first);
	response.n_orders = page_length(listed);
	response.orders = listed->orders;
	token = next_token(listed, response.n_orders);
	if (token != NULL)
		response.next_page_token = token;
	listed->closure(&response.base, listed->call);
	free(token);
}

/* ---- asking ---- */

static bool is_own(const struct listed *listed, const order_message *order)
{
	return listed->own_count > 0 && bsearch(&order, listed->orders, listed->own_count,
						sizeof(*listed->orders), newer_first) != NULL;
}

/* Whether it stands between the places where this page and the order service's next one begin. */
static bool is_between(const struct listed *listed, const order_message *order)
{
	int64_t ms = time_ms(order->create_time);

	return list_position_before(&listed->begin, ms, order->order_id) &&
	       (listed->last || !list_position_before(&listed->end, ms, order->order_id));
}

static void keep_part(struct listed *listed,
		      const Tandem__Archive__V1__SearchOrdersResponse *response)
{
	for (size_t i = 0; i < response->n_orders; i++) {
		const order_message *order = response->orders[i]->order;

		if (order != NULL && order->settled && is_between(listed, order) &&
		    !is_own(listed, order))
			keep(listed, order);
	}
	listed->complete_ms = -1;
	if (response->next_page_token[0] == '\0')
		return;
	listed->complete_ms = time_ms(response->complete_after_time);
	free(listed->part_token);
	listed->part_token = rt_strdup(response->next_page_token);
}

static void ask_for_part(struct listed *listed);

static void part_came(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct listed *listed = RT_CONTAINER_OF(op, struct listed, op);
	struct rt_status status = { 0 };

	if (op->status.code == 0 && message != NULL) {
		keep_part(listed, (const void *)message);
		if (listed->complete_ms >= listed->begin.ms) {
			ask_for_part(listed);
			return;
		}
	}
	rt_call_on_cancel(listed->call, NULL, NULL);
	if (op->status.code == 0) {
		send_page(listed);
	} else {
		gateway_archived_away(&status, &op->status,
				      "orders of this list may be in the archive alone");
		rt_call_fail(listed->call, &status);
		rt_status_done(&status);
	}
	listed_free(listed);
}

static void ask_for_part(struct listed *listed)
{
	Tandem__Archive__V1__SearchOrdersRequest request =
		TANDEM__ARCHIVE__V1__SEARCH_ORDERS_REQUEST__INIT;
	Tandem__Archive__V1__OrderFilter filter = TANDEM__ARCHIVE__V1__ORDER_FILTER__INIT;
	Google__Protobuf__Timestamp from = time_of(listed->end.ms), to;

	filter.customer_id = listed->request->customer_id;
	filter.status = listed->request->status;
	if (!listed->last)
		filter.from_time = &from;
	if (listed->begin.ms < INT64_MAX) {
		to = time_of(listed->begin.ms + 1);
		filter.to_time = &to;
	}
	request.filter = &filter;
	request.page_size = listed->request->page_size;
	if (listed->part_token != NULL) {
		request.page_token = listed->part_token;
		request.page_size = CHECK_PAGE_MAX;
	}
	listed->op = (struct rt_client_op){ .done = part_came };
	gateway_archived_search(listed->gateway, listed->call, &request, &listed->op);
}

static void caller_left(struct rt_call *call, void *user)
{
	struct listed *listed = user;

	(void)call;
	rt_client_cancel(&listed->op);
}

bool gateway_archived_list(const struct gateway_passed *passed)
{
	const Tandem__Order__V1__ListOrdersResponse *page = (const void *)passed->response;
	struct listed *listed;

	if (page == NULL || !page->dropped)
		return false;
	listed = rt_alloc(sizeof(*listed));
	listed->gateway = passed->gateway;
	listed->request = (const void *)passed->request;
	listed->call = passed->call;
	listed->closure = passed->closure;
	listed->last = page->next_page_token[0] == '\0';
	list_position_name(listed->request, listed->name);
	/* The order service has read the first one, and made the second. */
	if (!list_position_read(listed->name, listed->request->page_token, &listed->begin) ||
	    !list_position_read(listed->name, page->next_page_token, &listed->end)) {
		listed_free(listed);
		return false;
	}
	for (size_t i = 0; i < page->n_orders; i++)
		keep(listed, page->orders[i]);
	listed->own_count = listed->count;
	ask_for_part(listed);
	rt_call_on_cancel(listed->call, caller_left, listed);
	return true;
}
