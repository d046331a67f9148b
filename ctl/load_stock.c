/* load_stock.c - the load's own SKUs: reading their stock before a run, filling them, cleaning up.
 *
 *   load_stock_open    reads all stock; asks before it writes when there is stock of other SKUs;
 *                      fills the load's SKUs up
 *   load_stock_clean   cancels the load's orders that are not settled, takes available stock out
 *
 * Everything goes through the gateway, one call after another. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "load.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define PAGE          1000
#define LOOKS_MAX     100
#define LOOK_EVERY_MS 200

struct counters {
	int64_t available, reserved, committed;
};

struct stock {
	struct counters skus[LOAD_SKUS_MAX]; /* the load's SKUs; zeroes: no stock */
	size_t others;                       /* SKUs that are not the load's */
	char other[80];                      /* the first of them */
};

bool load_sku_index(const char *sku, size_t *ret_index)
{
	char name[LOAD_SKU_SIZE];
	unsigned index;

	if (sscanf(sku, LOAD_SKU, &index) != 1 || index >= LOAD_SKUS_MAX)
		return false;
	(void)snprintf(name, sizeof(name), LOAD_SKU, index);
	*ret_index = index;
	return strcmp(name, sku) == 0;
}

static int keep_stock(const ProtobufCMessage *item, void *user)
{
	const Tandem__Inventory__V1__Stock *message = (const void *)item;
	struct stock *stock = user;
	size_t index;

	if (load_sku_index(message->sku, &index))
		stock->skus[index] = (struct counters){
			.available = (int64_t)message->available,
			.reserved = (int64_t)message->reserved,
			.committed = (int64_t)message->committed,
		};
	else if (stock->others++ == 0)
		(void)snprintf(stock->other, sizeof(stock->other), "%s", message->sku);
	return CTL_OK;
}

static int read_stock(struct ctl *ctl, struct stock *stock)
{
	Tandem__Inventory__V1__ListStockRequest request =
		TANDEM__INVENTORY__V1__LIST_STOCK_REQUEST__INIT;
	struct ctl_list list = {
		.client = ctl_inventory_service(ctl),
		.method = "ListStock",
		.request = &request.base,
		.items_max = INT64_MAX,
		.on_item = keep_stock,
		.user = stock,
	};
	int code;

	memset(stock, 0, sizeof(*stock));
	code = ctl_call_list(ctl, &list);
	free(list.next);
	return code;
}

/* Adjusts up to PAGE of the SKUs in one call, each by its delta, except those whose delta is 0. Adds to
 * *ret_refused how many were not adjusted. */
static int adjust_page(struct ctl *ctl, const int64_t *deltas, size_t first, size_t *ret_refused)
{
	Tandem__Inventory__V1__BatchAdjustStockRequest request =
		TANDEM__INVENTORY__V1__BATCH_ADJUST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__AdjustStockRequest items[PAGE], *refs[PAGE];
	char names[PAGE][LOAD_SKU_SIZE], reason[] = "load";
	ProtobufCMessage *response = NULL;
	int code;

	request.requests = refs;
	for (size_t i = first; i < RT_MIN(first + PAGE, (size_t)LOAD_SKUS_MAX); i++) {
		size_t n = request.n_requests;

		if (deltas[i] == 0)
			continue;
		tandem__inventory__v1__adjust_stock_request__init(&items[n]);
		(void)snprintf(names[n], sizeof(names[n]), LOAD_SKU, (unsigned)i);
		items[n].sku = names[n];
		items[n].delta = deltas[i];
		items[n].reason = reason;
		refs[n] = &items[n];
		request.n_requests++;
	}
	if (request.n_requests == 0)
		return CTL_OK;
	code = ctl_call(ctl, ctl_inventory_service(ctl), "BatchAdjustStock", &request.base,
			&response);
	if (code == CTL_OK) {
		const Tandem__Inventory__V1__BatchAdjustStockResponse *answer =
			(const Tandem__Inventory__V1__BatchAdjustStockResponse *)response;

		for (size_t i = 0; i < answer->n_stocks; i++)
			*ret_refused += answer->stocks[i]->result_case !=
					TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_STOCK;
		protobuf_c_message_free_unpacked(response, NULL);
	}
	return code;
}

static int adjust(struct ctl *ctl, const int64_t deltas[LOAD_SKUS_MAX], size_t *ret_refused)
{
	int code = CTL_OK;

	*ret_refused = 0;
	for (size_t first = 0; code == CTL_OK && first < LOAD_SKUS_MAX; first += PAGE)
		code = adjust_page(ctl, deltas, first, ret_refused);
	return code;
}

/* ---- before a run ---- */

static int ask_first(const struct load_options *options, const struct stock *stock)
{
	char more[48] = "";

	if (stock->others > 1)
		(void)snprintf(more, sizeof(more), " and %zu more", stock->others - 1);
	return ctl_agree(options->yes || stock->others == 0,
			 "%s holds stock of other SKUs (SKU %s%s); place orders there",
			 options->target, stock->other, more);
}

int load_stock_open(struct ctl *ctl, const struct load_options *options, int64_t *ret_opening)
{
	struct stock *stock = rt_alloc(sizeof(*stock));
	int64_t *deltas = rt_alloc(sizeof(int64_t) * LOAD_SKUS_MAX);
	size_t refused = 0;
	int code = read_stock(ctl, stock);

	if (code == CTL_OK)
		code = ask_first(options, stock);
	for (size_t i = 0; i < (size_t)options->skus; i++) {
		const struct counters *sku = &stock->skus[i];

		ret_opening[i] = sku->reserved + sku->committed;
		if (sku->available < options->stock)
			deltas[i] = options->stock - sku->available;
	}
	if (code == CTL_OK)
		code = adjust(ctl, deltas, &refused);
	if (code == CTL_OK && refused > 0) {
		ctl_error("the stock of %zu SKUs was not adjusted", refused);
		code = CTL_UNAVAILABLE;
	}
	free(deltas);
	free(stock);
	return code;
}

/* ---- cleaning up ---- */

struct cancelling {
	struct ctl *ctl;
	uint64_t *count;
};

/* For each listed order of the load: cancels it unless it has ended. */
static int cancel_order(const ProtobufCMessage *item, void *user)
{
	const Tandem__Order__V1__Order *order = (const void *)item;
	const struct cancelling *cancelling = user;
	struct ctl *ctl = cancelling->ctl;
	Tandem__Order__V1__CancelOrderRequest request =
		TANDEM__ORDER__V1__CANCEL_ORDER_REQUEST__INIT;
	ProtobufCMessage *response = NULL;
	char reason[] = "load";
	int code;

	if (order->status != TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING &&
	    order->status != TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED)
		return CTL_OK;
	request.order_id = order->order_id;
	request.reason = reason;
	code = ctl_call(ctl, ctl_order_service(ctl), "CancelOrder", &request.base, &response);
	if (code != CTL_OK)
		return code == CTL_NEGATIVE ? CTL_OK : code; /* settled meanwhile */
	protobuf_c_message_free_unpacked(response, NULL);
	(*cancelling->count)++;
	return CTL_OK;
}

static int cancel_of_customer(struct ctl *ctl, uint64_t customer, uint64_t *cancelled)
{
	Tandem__Order__V1__ListOrdersRequest request = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	struct cancelling cancelling = { .ctl = ctl, .count = cancelled };
	struct ctl_list list = {
		.client = ctl_order_service(ctl),
		.method = "ListOrders",
		.request = &request.base,
		.items_max = INT64_MAX,
		.on_item = cancel_order,
		.user = &cancelling,
	};
	char name[LOAD_CUSTOMER_SIZE];
	int code;

	(void)snprintf(name, sizeof(name), LOAD_CUSTOMER, customer);
	request.customer_id = name;
	code = ctl_call_list(ctl, &list);
	free(list.next);
	return code;
}

struct cleaned {
	uint64_t cancelled;
	int64_t reserved, sold; /* what is left */
};

/* Takes available stock out, again and again until none is reserved: cancelled orders return their
 * stock with a delay. */
static int take_out(struct ctl *ctl, struct cleaned *cleaned)
{
	const struct timespec pause = { .tv_nsec = LOOK_EVERY_MS * 1000000L };
	struct stock *stock = rt_alloc(sizeof(*stock));
	int64_t *deltas = rt_alloc(sizeof(int64_t) * LOAD_SKUS_MAX), available = 1;
	int code = CTL_OK;

	for (int looks = 0; looks < LOOKS_MAX && available + cleaned->reserved > 0; looks++) {
		size_t refused; /* taken by an order meanwhile: read again in the next round */

		if (looks > 0)
			(void)nanosleep(&pause, NULL);
		code = read_stock(ctl, stock);
		available = cleaned->reserved = cleaned->sold = 0;
		for (size_t i = 0; i < LOAD_SKUS_MAX; i++) {
			const struct counters *sku = &stock->skus[i];

			deltas[i] = -RT_MIN(sku->available, (int64_t)1000000000);
			available += sku->available;
			cleaned->reserved += sku->reserved;
			cleaned->sold += sku->committed;
		}
		if (code == CTL_OK)
			code = adjust(ctl, deltas, &refused);
		if (code != CTL_OK)
			break;
	}
	free(deltas);
	free(stock);
	if (code == CTL_OK && available + cleaned->reserved > 0) {
		ctl_error(
			"orders still hold or return stock of the load's SKUs: a load runs, or one "
			"ran with more --customers");
		code = CTL_NEGATIVE;
	}
	return code;
}

int load_stock_clean(struct ctl *ctl, const struct load_options *options)
{
	struct cleaned cleaned = { 0 };
	int code = CTL_OK;

	for (uint64_t i = 0; code == CTL_OK && i < (uint64_t)options->customers; i++)
		code = cancel_of_customer(ctl, i, &cleaned.cancelled);
	if (code == CTL_OK)
		code = take_out(ctl, &cleaned);
	if (code != CTL_OK && code != CTL_NEGATIVE)
		return code;
	if (options->json)
		ctl_json_print(json_pack(
			"{s:I, s:I, s:I}", "cancelled", (json_int_t)cleaned.cancelled, "reserved",
			(json_int_t)cleaned.reserved, "sold", (json_int_t)cleaned.sold));
	else
		(void)printf("cancelled %" PRIu64 " orders; left in stock: reserved %" PRId64
			     ", sold %" PRId64 "\n",
			     cleaned.cancelled, cleaned.reserved, cleaned.sold);
	return code;
}
