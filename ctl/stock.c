/* stock.c - tandemctl stock adjust|threshold|get|list|holders. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

typedef Tandem__Inventory__V1__Stock stock_message;

#define ARGS_MAX 1000

static const struct ctl_table stock_table =
	CTL_TABLE("SKU", "AVAILABLE", "RESERVED", "COMMITTED", "RECEIVED", "VERSION", "LOW_BELOW");

static void stock_row(struct ctl_table *table, const ProtobufCMessage *item)
{
	const stock_message *stock = (const void *)item;

	ctl_cell(table, "%s", stock->sku);
	ctl_cell(table, "%" PRIu64, stock->available);
	ctl_cell(table, "%" PRIu64, stock->reserved);
	ctl_cell(table, "%" PRIu64, stock->committed);
	ctl_cell(table, "%" PRIu64, stock->received);
	ctl_cell(table, "%" PRIu64, stock->version);
	if (stock->low_stock_threshold == 0)
		ctl_cell(table, "-");
	else
		ctl_cell(table, "%" PRIu64 "%s", stock->low_stock_threshold,
			 stock->available < stock->low_stock_threshold ? ", low" : "");
}

static void add_stock(const struct ctl *ctl, struct ctl_table *table, const stock_message *stock)
{
	if (ctl->json)
		ctl_json_print(ctl_message_json(&stock->base, true));
	else
		stock_row(table, &stock->base);
}

/* ---- adjust ---- */

struct adjust {
	const char *reason, *request_id;
	Tandem__Inventory__V1__AdjustStockRequest requests[ARGS_MAX], *list[ARGS_MAX];
	size_t count;
};

static void add_adjustment(struct argp_state *state, struct adjust *adjust, char *text)
{
	Tandem__Inventory__V1__AdjustStockRequest *request = &adjust->requests[adjust->count];
	char *equals = strrchr(text, '=');
	const char *number = equals == NULL ? "" : equals + (equals[1] == '+' ? 2 : 1);
	int64_t delta = 0;

	if (adjust->count == ARGS_MAX)
		argp_error(state, "more than %d SKUs", ARGS_MAX);
	if (!rt_parse_int(number, -1000000000, 1000000000, &delta) || delta == 0)
		argp_error(state, "not SKU=CHANGE, such as apple=+10 or apple=-3: %s", text);
	if (equals == NULL)
		return;
	*equals = '\0';
	tandem__inventory__v1__adjust_stock_request__init(request);
	request->sku = text;
	request->delta = delta;
	adjust->list[adjust->count++] = request;
}

enum { KEY_WHY = 256 };

static error_t adjust_parse(int key, char *arg, struct argp_state *state)
{
	struct adjust *adjust = ctl_options(state);

	switch (key) {
	case 'r':
	case KEY_WHY:
		adjust->reason = arg;
		return 0;
	case 'i':
		adjust->request_id = arg;
		return 0;
	case ARGP_KEY_ARG:
		add_adjustment(state, adjust, arg);
		return 0;
	case ARGP_KEY_END:
		if (adjust->count == 0)
			argp_error(state, "which SKUs?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Prints the result of each adjustment. Returns the worst of their exit codes. */
static int print_results(struct ctl *ctl, const struct adjust *adjust,
			 const Tandem__Inventory__V1__BatchAdjustStockResponse *response)
{
	struct ctl_table table = stock_table;
	int code = CTL_OK;

	if (response->n_stocks != adjust->count) {
		ctl_error("the answer has another number of SKUs");
		return CTL_UNAVAILABLE;
	}
	for (size_t i = 0; i < response->n_stocks; i++) {
		const Tandem__Inventory__V1__AdjustStockResult *result = response->stocks[i];

		if (result->result_case ==
		    TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_STOCK) {
			add_stock(ctl, &table, result->stock);
		} else if (result->result_case ==
			   TANDEM__INVENTORY__V1__ADJUST_STOCK_RESULT__RESULT_ERROR) {
			ctl_error("%s: %s: %s", adjust->requests[i].sku,
				  rt_code_name(result->error->code), result->error->message);
			code = RT_MAX(code, ctl_exit_of(result->error->code));
		} else {
			ctl_error("%s: no answer", adjust->requests[i].sku);
			code = CTL_UNAVAILABLE;
		}
	}
	ctl_table_print(&table);
	return code;
}

static int adjust_run(struct ctl *ctl, void *options)
{
	struct adjust *adjust = options;
	Tandem__Inventory__V1__BatchAdjustStockRequest request =
		TANDEM__INVENTORY__V1__BATCH_ADJUST_STOCK_REQUEST__INIT;
	ProtobufCMessage *response = NULL;
	int code;

	for (size_t i = 0; i < adjust->count; i++) {
		if (adjust->reason != NULL)
			adjust->requests[i].reason = (char *)(uintptr_t)adjust->reason;
		if (adjust->request_id != NULL)
			adjust->requests[i].request_id = (char *)(uintptr_t)adjust->request_id;
	}
	request.requests = adjust->list;
	request.n_requests = adjust->count;
	code = ctl_call(ctl, ctl_inventory_service(ctl), "BatchAdjustStock", &request.base,
			&response);
	if (code != CTL_OK)
		return code;
	code = print_results(ctl, adjust, (const void *)response);
	protobuf_c_message_free_unpacked(response, NULL);
	return code;
}

static const struct argp_option adjust_options[] = {
	{ "reason", 'r', "TEXT", 0, "The reason, for the event and the trail", 0 },
	{ "why", KEY_WHY, "TEXT", 0, "The same", 0 },
	{ "request-id", 'i', "ID", 0, "Makes the call safe to repeat", 0 },
	{ 0 },
};
const struct ctl_command ctl_stock_adjust = {
	.group = "stock",
	.name = "adjust",
	.about = "Adds stock or takes it out",
	.arguments = "SKU=CHANGE...",
	.text = "Adds stock or takes it out; never takes reserved or sold stock.\vExamples:\n"
		"  tandemctl stock adjust apple=+100 pear=+20\n"
		"  tandemctl stock adjust --reason damaged --request-id count-7 apple=-3",
	.options = adjust_options,
	.parse = adjust_parse,
	.options_size = sizeof(struct adjust),
	.run = adjust_run,
};

/* ---- calls about one SKU ---- */

/* Calls a method whose answer is a stock, as GetStock's is, and adds that to the table. Returns the exit code. */
static int add_answer(struct ctl *ctl, struct ctl_table *table, const char *method,
		      const ProtobufCMessage *request)
{
	const Tandem__Inventory__V1__GetStockResponse *answer;
	ProtobufCMessage *response = NULL;
	int code = ctl_call(ctl, ctl_inventory_service(ctl), method, request, &response);

	if (code != CTL_OK)
		return code;
	answer = (const void *)response;
	if (answer->stock != NULL)
		add_stock(ctl, table, answer->stock);
	protobuf_c_message_free_unpacked(response, NULL);
	return CTL_OK;
}

/* ---- threshold ---- */

struct threshold {
	const char *reason;
	Tandem__Inventory__V1__SetLowStockThresholdRequest requests[ARGS_MAX];
	size_t count;
};

static void add_threshold(struct argp_state *state, struct threshold *threshold, char *text)
{
	Tandem__Inventory__V1__SetLowStockThresholdRequest *request =
		&threshold->requests[threshold->count];
	char *equals = strrchr(text, '=');
	int64_t below = 0;

	if (threshold->count == ARGS_MAX)
		argp_error(state, "more than %d SKUs", ARGS_MAX);
	if (equals == NULL || !rt_parse_int(equals + 1, 0, 1000000000000, &below))
		argp_error(state, "not SKU=NUMBER, such as apple=10 or apple=0: %s", text);
	if (equals == NULL)
		return;
	*equals = '\0';
	tandem__inventory__v1__set_low_stock_threshold_request__init(request);
	request->sku = text;
	request->low_stock_threshold = (uint64_t)below;
	threshold->count++;
}

static error_t threshold_parse(int key, char *arg, struct argp_state *state)
{
	struct threshold *threshold = ctl_options(state);

	switch (key) {
	case KEY_WHY:
		threshold->reason = arg;
		return 0;
	case ARGP_KEY_ARG:
		add_threshold(state, threshold, arg);
		return 0;
	case ARGP_KEY_END:
		if (threshold->count == 0)
			argp_error(state, "which SKUs?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int threshold_run(struct ctl *ctl, void *options)
{
	struct threshold *threshold = options;
	struct ctl_table table = stock_table;
	int worst = CTL_OK;

	for (size_t i = 0; i < threshold->count; i++) {
		int code;

		if (threshold->reason != NULL)
			threshold->requests[i].reason = (char *)(uintptr_t)threshold->reason;
		code = add_answer(ctl, &table, "SetLowStockThreshold",
				  &threshold->requests[i].base);
		worst = RT_MAX(worst, code);
		if (code == CTL_UNAVAILABLE)
			break;
	}
	ctl_table_print(&table);
	return worst;
}

static const struct argp_option threshold_options[] = {
	{ "why", KEY_WHY, "TEXT", 0, "The reason, for the trail", 0 },
	{ 0 },
};
const struct ctl_command ctl_stock_threshold = {
	.group = "stock",
	.name = "threshold",
	.about = "Sets below which quantity stock is low",
	.arguments = "SKU=NUMBER...",
	.text = "Sets below which quantity stock is low: each time that fewer become available, an "
		"event "
		"StockLow is published. 0: nobody is told.\vExamples:\n"
		"  tandemctl stock threshold apple=10 pear=25\n"
		"  tandemctl events tail --follow --type StockLow",
	.options = threshold_options,
	.parse = threshold_parse,
	.options_size = sizeof(struct threshold),
	.run = threshold_run,
};

/* ---- get ---- */

struct get {
	const char *skus[ARGS_MAX];
	size_t count;
};

static error_t get_parse(int key, char *arg, struct argp_state *state)
{
	struct get *get = ctl_options(state);

	switch (key) {
	case ARGP_KEY_ARG:
		if (get->count == ARGS_MAX)
			argp_error(state, "more than %d SKUs", ARGS_MAX);
		get->skus[get->count++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (get->count == 0)
			argp_error(state, "which SKUs?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int get_run(struct ctl *ctl, void *options)
{
	struct get *get = options;
	struct ctl_table table = stock_table;
	int worst = CTL_OK;

	for (size_t i = 0; i < get->count; i++) {
		Tandem__Inventory__V1__GetStockRequest request =
			TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
		int code;

		request.sku = (char *)(uintptr_t)get->skus[i];
		code = add_answer(ctl, &table, "GetStock", &request.base);
		worst = RT_MAX(worst, code);
		if (code == CTL_UNAVAILABLE)
			break;
	}
	ctl_table_print(&table);
	return worst;
}

const struct ctl_command ctl_stock_get = {
	.group = "stock",
	.name = "get",
	.about = "Shows the counters of SKUs",
	.arguments = "SKU...",
	.text = "Shows the counters of SKUs.\vExample:\n  tandemctl stock get apple pear",
	.parse = get_parse,
	.options_size = sizeof(struct get),
	.run = get_run,
};

/* ---- list ---- */

struct list {
	const char *page_token;
	int64_t limit;
};
enum { KEY_PAGE_TOKEN = 256 };

static error_t list_parse(int key, char *arg, struct argp_state *state)
{
	struct list *list = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		list->limit = INT64_MAX;
		return 0;
	case 'n':
		if (!rt_parse_int(arg, 1, INT64_MAX, &list->limit))
			argp_error(state, "--limit: not a number from 1: %s", arg);
		return 0;
	case KEY_PAGE_TOKEN:
		list->page_token = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int list_run(struct ctl *ctl, void *options)
{
	const struct list *own = options;
	Tandem__Inventory__V1__ListStockRequest request =
		TANDEM__INVENTORY__V1__LIST_STOCK_REQUEST__INIT;
	struct ctl_table table = stock_table;
	struct ctl_list list = {
		.client = ctl_inventory_service(ctl),
		.method = "ListStock",
		.request = &request.base,
		.items_max = own->limit,
	};

	if (own->page_token != NULL)
		request.page_token = (char *)(uintptr_t)own->page_token;
	return ctl_print_list(ctl, &list, &table, stock_row, "no stock");
}

static const struct argp_option list_options[] = {
	{ "limit", 'n', "N", 0, "How many at most (all)", 0 },
	{ "page-token", KEY_PAGE_TOKEN, "TOKEN", 0, "Where the list continues", 0 },
	{ 0 },
};
const struct ctl_command ctl_stock_list = {
	.group = "stock",
	.name = "list",
	.about = "Lists the counters of all SKUs",
	.text = "Lists the counters of all SKUs. With --json, when there are more SKUs, the last "
		"line is {\"next_page_token\":\"...\"}.\vExamples:\n"
		"  tandemctl stock list\n"
		"  tandemctl stock list --json | jq -r 'select(.available == 0).sku'\n"
		"  tandemctl stock list --json | jq -r 'select(.available < "
		".low_stock_threshold).sku'",
	.options = list_options,
	.parse = list_parse,
	.options_size = sizeof(struct list),
	.run = list_run,
};

/* ---- holders ---- */

struct holders {
	struct list list; /* first */
	const char *sku;
};

static error_t holders_parse(int key, char *arg, struct argp_state *state)
{
	struct holders *holders = ctl_options(state);

	switch (key) {
	case ARGP_KEY_ARG:
		if (holders->sku != NULL)
			argp_error(state, "one SKU at a time");
		holders->sku = arg;
		return 0;
	case ARGP_KEY_END:
		if (holders->sku == NULL)
			argp_error(state, "which SKU?");
		return 0;
	default:
		return list_parse(key, arg, state);
	}
}

static void holder_row(struct ctl_table *table, const ProtobufCMessage *item)
{
	const Tandem__Inventory__V1__Reservation *reservation = (const void *)item;
	char since[RT_TIME_TEXT] = "";

	if (reservation->update_time != NULL)
		rt_time_format(reservation->update_time->seconds * 1000 +
				       reservation->update_time->nanos / 1000000,
			       since);
	ctl_cell(table, "%s", reservation->order_id);
	ctl_cell(table, "%" PRIu32, reservation->n_lines > 0 ? reservation->lines[0]->quantity : 0);
	ctl_cell(table, "%s", since);
}

static int holders_run(struct ctl *ctl, void *options)
{
	const struct holders *own = options;
	Tandem__Inventory__V1__ListReservationsRequest request =
		TANDEM__INVENTORY__V1__LIST_RESERVATIONS_REQUEST__INIT;
	struct ctl_table table = CTL_TABLE("ORDER_ID", "QUANTITY", "SINCE");
	struct ctl_list list = {
		.client = ctl_inventory_service(ctl),
		.method = "ListReservations",
		.request = &request.base,
		.items_max = own->list.limit,
	};

	request.sku = (char *)(uintptr_t)own->sku;
	if (own->list.page_token != NULL)
		request.page_token = (char *)(uintptr_t)own->list.page_token;
	return ctl_print_list(ctl, &list, &table, holder_row, "no order holds it");
}

const struct ctl_command ctl_stock_holders = {
	.group = "stock",
	.name = "holders",
	.about = "Lists the orders that hold a SKU",
	.arguments = "SKU",
	.text = "Lists the orders that hold stock of a SKU, in no particular order. With --json, "
		"when "
		"there are more, the last line is {\"next_page_token\":\"...\"}.\vExamples:\n"
		"  tandemctl stock holders tea\n"
		"  tandemctl stock holders tea --json | jq -r .order_id",
	.options = list_options,
	.parse = holders_parse,
	.options_size = sizeof(struct holders),
	.run = holders_run,
};
