/* load_accounting.c - compares what the run saw with what the services hold.
 *
 *   load_accounting_close   lists stock until, for every SKU, reserved + committed has grown by what
 *                           the run's orders took (stock of cancelled orders comes back with a
 *                           delay, so it lists again for a while); then reads a sample of orders */
#include <string.h>

#include "load.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define METHOD_GET_ORDER 3
#define METHOD_LIST      3
#define LOOKS_MAX        100
#define LOOK_EVERY_MS    200

struct accounting {
	struct load *load;
	struct rt_client_op op;
	struct rt_timer again;
	int64_t *closing; /* reserved + committed, per SKU */
	char page[256];
	int looks;
	size_t sample;
	void (*next)(struct load *load);
};
static struct accounting *accounting; /* one run a process */

static void list_next(void);
static void sample_next(void);

static void fail(const char *what, const struct rt_status *status)
{
	static char text[512];

	(void)snprintf(text, sizeof(text), "%s: %s%s%s", what,
		       status == NULL ? "" : rt_code_name(status->code),
		       status != NULL && status->message != NULL ? ": " : "",
		       status != NULL && status->message != NULL ? status->message : "");
	accounting->load->error = text;
	rt_loop_stop(accounting->load->loop);
}

static void close_done(void)
{
	struct load *load = accounting->load;
	void (*next)(struct load * load) = accounting->next;

	rt_timer_stop(load->loop, &accounting->again);
	free(accounting->closing);
	free(accounting);
	accounting = NULL;
	next(load);
}

static void sample_read(struct rt_client_op *op, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__GetOrderResponse *response =
		(const Tandem__Order__V1__GetOrderResponse *)message;
	static char text[200];
	bool rejected;

	if (response == NULL) {
		fail("reading a sampled order", &op->status);
		return;
	}
	rejected =
		response->order->status == TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED;
	if (response->order->status == TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING ||
	    rejected == accounting->load->sample_reserved[accounting->sample]) {
		(void)snprintf(text, sizeof(text), "order %s was seen decided as %s, and reads %d",
			       response->order->order_id,
			       accounting->load->sample_reserved[accounting->sample] ? "RESERVED"
										     : "REJECTED",
			       (int)response->order->status);
		accounting->load->error = text;
		rt_loop_stop(accounting->load->loop);
		return;
	}
	accounting->sample++;
	sample_next();
}

static void sample_next(void)
{
	struct load *load = accounting->load;
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	if (accounting->sample == load->sample_count) {
		close_done();
		return;
	}
	request.order_id = load->samples[accounting->sample];
	memset(&accounting->op, 0, sizeof(accounting->op));
	accounting->op.timeout_ms = 10000;
	accounting->op.done = sample_read;
	rt_client_start(load->orders, METHOD_GET_ORDER, &request.base, &accounting->op);
}

static void list_again(struct rt_timer *timer)
{
	(void)timer;
	accounting->page[0] = '\0';
	list_next();
}

/* After the last page: compares, or lists again a little later. */
static void compare_stock(void)
{
	struct load *load = accounting->load;
	static char text[200];

	for (size_t i = 0; i < (size_t)load->options.skus; i++) {
		int64_t grown = accounting->closing[i] - load->opening[i];

		if (grown == load->booked[i])
			continue;
		if (++accounting->looks < LOOKS_MAX) {
			rt_timer_start(load->loop, &accounting->again, LOOK_EVERY_MS, list_again);
			return;
		}
		(void)snprintf(text, sizeof(text),
			       "SKU %s: reserved + committed grew by %lld, the orders took %lld",
			       load->sku_names[i], (long long)grown, (long long)load->booked[i]);
		load->error = text;
		rt_loop_stop(load->loop);
		return;
	}
	sample_next();
}

static void keep_balance(const Tandem__Inventory__V1__Stock *stock)
{
	size_t index;

	if (load_sku_index(stock->sku, &index) && index < (size_t)accounting->load->options.skus)
		accounting->closing[index] = (int64_t)(stock->reserved + stock->committed);
}

static void stock_listed(struct rt_client_op *op, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__ListStockResponse *response =
		(const Tandem__Inventory__V1__ListStockResponse *)message;

	if (response == NULL) {
		fail("listing stock", &op->status);
		return;
	}
	for (size_t i = 0; i < response->n_stocks; i++)
		keep_balance(response->stocks[i]);
	(void)snprintf(accounting->page, sizeof(accounting->page), "%s", response->next_page_token);
	if (accounting->page[0] != '\0')
		list_next();
	else
		compare_stock();
}

static void list_next(void)
{
	Tandem__Inventory__V1__ListStockRequest request =
		TANDEM__INVENTORY__V1__LIST_STOCK_REQUEST__INIT;

	request.page_size = 1000;
	request.page_token = accounting->page;
	memset(&accounting->op, 0, sizeof(accounting->op));
	accounting->op.timeout_ms = 10000;
	accounting->op.done = stock_listed;
	rt_client_start(accounting->load->inventory, METHOD_LIST, &request.base, &accounting->op);
}

void load_accounting_close(struct load *load, void (*next)(struct load *load))
{
	accounting = rt_alloc(sizeof(*accounting));
	accounting->load = load;
	accounting->next = next;
	accounting->closing = rt_alloc(sizeof(int64_t) * (size_t)load->options.skus);
	list_next();
}
