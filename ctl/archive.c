/* archive.c - tandemctl archive search|show|movements|export: what the archive knows.
 *
 * What is written as CSV is for other programs: texts are as they are, in double quotes where they need them, and lines
 * end in CRLF (RFC 4180). A text that a spreadsheet would take for a formula gets a blank in front. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "tandem/archive/v1/archive_service.pb-c.h"

typedef Tandem__Archive__V1__ArchivedOrder archived_order;

#define STATUS_PREFIX "ORDER_STATUS_"
#define KIND_PREFIX   "STOCK_MOVEMENT_KIND_"
#define TIMES_MAX     5 /* an export is resumed without a message in between */

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_CSV };

struct options {
	Tandem__Archive__V1__OrderFilter filter;
	Google__Protobuf__Timestamp from, to;
	const char *page_token, *subject; /* an order, a SKU */
	int64_t limit;
	bool oldest_first;
	enum format format;
};

/* ---- texts ---- */

static const char *enum_name(const ProtobufCEnumDescriptor *descriptor, int number,
			     const char *prefix)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(descriptor, number);

	return value == NULL ? "?" : value->name + strlen(prefix);
}

static const char *status_of(const Tandem__Order__V1__Order *order)
{
	return order->status == 0 ? "?"
				  : enum_name(&tandem__order__v1__order_status__descriptor,
					      (int)order->status, STATUS_PREFIX);
}

static const char *time_text(const Google__Protobuf__Timestamp *time, char text[RT_TIME_TEXT])
{
	snprintf(text, RT_TIME_TEXT, "-");
	if (time != NULL && time->seconds >= 0 && time->seconds < 253402300800)
		rt_time_format(time->seconds * 1000 + time->nanos / 1000000, text);
	return text;
}

static char *lines_text(const Tandem__Order__V1__Order *order)
{
	struct rt_buf text = { 0 };

	for (size_t i = 0; i < order->n_lines; i++)
		rt_buf_printf(&text, "%s%s=%" PRIu32, i == 0 ? "" : " ", order->lines[i]->sku,
			      order->lines[i]->quantity);
	rt_buf_add(&text, "", 1);
	return text.data;
}

static char *labels_text(const Tandem__Order__V1__Order *order)
{
	struct rt_buf text = { 0 };

	for (size_t i = 0; i < order->n_labels; i++)
		rt_buf_printf(&text, "%s%s=%s", i == 0 ? "" : " ", order->labels[i]->key,
			      order->labels[i]->value);
	rt_buf_add(&text, "", 1);
	return text.data;
}

/* ---- CSV ---- */

static void csv_cell(const char *text, bool last)
{
	bool formula = text[0] != '\0' && strchr("=+-@\t\r", text[0]) != NULL;

	if (formula || text[strcspn(text, ",\"\r\n")] != '\0') {
		putchar('"');
		if (formula)
			putchar(' ');
		for (const char *c = text; *c != '\0'; c++) {
			if (*c == '"')
				putchar('"');
			putchar(*c);
		}
		putchar('"');
	} else {
		fputs(text, stdout);
	}
	fputs(last ? "\r\n" : ",", stdout);
}

static void csv_orders_head(void)
{
	fputs("order_id,status,settled,customer_id,created,changed,version,lines,labels,"
	      "because\r\n",
	      stdout);
}

static void csv_order(const archived_order *archived)
{
	const Tandem__Order__V1__Order *order = archived->order;
	char *lines = lines_text(order), *labels = labels_text(order), *version;
	char time[RT_TIME_TEXT];

	version = rt_printf("%" PRIu64, order->version);
	csv_cell(order->order_id, false);
	csv_cell(status_of(order), false);
	csv_cell(order->settled ? "yes" : "no", false);
	csv_cell(order->customer_id, false);
	csv_cell(time_text(order->create_time, time), false);
	csv_cell(time_text(order->update_time, time), false);
	csv_cell(version, false);
	csv_cell(lines, false);
	csv_cell(labels, false);
	csv_cell(order->status_reason, true);
	free(version);
	free(labels);
	free(lines);
}

static const char *kind_of(const Tandem__Archive__V1__StockMovement *movement)
{
	return enum_name(&tandem__archive__v1__stock_movement_kind__descriptor, (int)movement->kind,
			 KIND_PREFIX);
}

static void csv_movement(const Tandem__Archive__V1__StockMovement *movement)
{
	char time[RT_TIME_TEXT], *quantity = rt_printf("%" PRId64, movement->quantity);

	csv_cell(time_text(movement->time, time), false);
	csv_cell(kind_of(movement), false);
	fputs(quantity, stdout); /* a number is no formula */
	putchar(',');
	csv_cell(movement->order_id, false);
	csv_cell(movement->reason, false);
	csv_cell(movement->actor, true);
	free(quantity);
}

/* ---- options ---- */

enum {
	KEY_STATUS = 256,
	KEY_SINCE,
	KEY_UNTIL,
	KEY_SKU,
	KEY_LABEL,
	KEY_PAGE_TOKEN,
	KEY_OLDEST,
	KEY_FORMAT
};

/* A time as RFC 3339 has it, a day, or how long ago ("2h", "7d"). */
static void read_time(struct argp_state *state, const char *option, const char *arg,
		      Google__Protobuf__Timestamp *time)
{
	char *full = strlen(arg) == 10   ? rt_printf("%sT00:00:00.000Z", arg)
		     : strlen(arg) == 20 ? rt_printf("%.19s.000Z", arg)
					 : rt_strdup(arg);
	int64_t ms;

	if (rt_parse_duration(arg, &ms))
		ms = rt_wall_us() / 1000 - ms;
	else if (!rt_time_parse(full, &ms))
		argp_error(state,
			   "--%s: not a time such as 2026-11-27, 2026-11-27T08:00:00Z or 7d (ago): "
			   "%s",
			   option, arg);
	free(full);
	time->seconds = ms / 1000;
	time->nanos = (int32_t)(ms % 1000) * 1000000;
}

static Tandem__Order__V1__OrderStatus read_status(struct argp_state *state, const char *arg)
{
	char *name = rt_printf(STATUS_PREFIX "%s", arg);
	const ProtobufCEnumValue *value;

	for (char *c = name; *c != '\0'; c++)
		*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
	value = protobuf_c_enum_descriptor_get_value_by_name(
		&tandem__order__v1__order_status__descriptor, name);
	free(name);
	if (value == NULL)
		argp_error(state, "--status: no such status: %s", arg);
	return value == NULL ? 0 : (Tandem__Order__V1__OrderStatus)value->value;
}

static void read_label(struct argp_state *state, struct options *options, char *arg)
{
	char *equals = strchr(arg, '=');

	if (equals == NULL || equals == arg) {
		argp_error(state, "--label: not KEY=VALUE: %s", arg);
		return;
	}
	*equals = '\0';
	options->filter.label_key = arg;
	options->filter.label_value = equals + 1;
}

static void read_format(struct argp_state *state, struct options *options, const char *arg)
{
	if (strcmp(arg, "csv") == 0)
		options->format = FORMAT_CSV;
	else if (strcmp(arg, "json") == 0)
		options->format = FORMAT_JSON;
	else
		argp_error(state, "--format: csv or json, not %s", arg);
}

static void begin(struct options *options)
{
	options->limit = 50;
	tandem__archive__v1__order_filter__init(&options->filter);
	google__protobuf__timestamp__init(&options->from);
	google__protobuf__timestamp__init(&options->to);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		begin(options);
		return 0;
	case KEY_STATUS:
		options->filter.status = read_status(state, arg);
		return 0;
	case KEY_SINCE:
		read_time(state, "since", arg, &options->from);
		options->filter.from_time = &options->from;
		return 0;
	case KEY_UNTIL:
		read_time(state, "until", arg, &options->to);
		options->filter.to_time = &options->to;
		return 0;
	case KEY_SKU:
		options->filter.sku = arg;
		return 0;
	case KEY_LABEL:
		read_label(state, options, arg);
		return 0;
	case 'c':
		options->filter.customer_id = arg;
		return 0;
	case KEY_OLDEST:
		options->oldest_first = true;
		return 0;
	case KEY_PAGE_TOKEN:
		options->page_token = arg;
		return 0;
	case KEY_FORMAT:
		read_format(state, options, arg);
		return 0;
	case 'n':
		if (!rt_parse_int(arg, 1, 1000000, &options->limit))
			argp_error(state, "--limit: not a number from 1 to 1000000: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Commands about one order, or one SKU. */
static error_t parse_subject(int key, char *arg, struct argp_state *state)
{
	struct options *options = ctl_options(state);

	switch (key) {
	case ARGP_KEY_ARG:
		if (options->subject != NULL)
			argp_error(state, "one at a time");
		options->subject = arg;
		return 0;
	case ARGP_KEY_END:
		if (options->subject == NULL)
			argp_error(state, "which one?");
		return 0;
	default:
		return parse_option(key, arg, state);
	}
}

#define FILTER_OPTIONS                                                                             \
	{ "customer", 'c', "CUSTOMER_ID", 0, "Only this customer's orders", 0 },                   \
		{ "status", KEY_STATUS, "STATUS", 0, "Only orders in this status", 0 },            \
		{ "since",                                                                         \
		  KEY_SINCE,                                                                       \
		  "TIME",                                                                          \
		  0,                                                                               \
		  "Only from this time on: a time, a day, or how "                                 \
		  "long ago (7d)",                                                                 \
		  0 },                                                                             \
		{ "until", KEY_UNTIL, "TIME", 0, "Only before this time", 0 },                     \
		{ "sku", KEY_SKU, "SKU", 0, "Only orders with this SKU", 0 },                      \
	{                                                                                          \
		"label", KEY_LABEL, "KEY=VALUE", 0, "Only orders with this label", 0               \
	}

/* ---- lists ---- */

/* Prints a list as CSV: the head, then each item. */
struct csv_list {
	struct ctl_list list; /* first */
	void (*item)(const ProtobufCMessage *item);
};

static int csv_item(const ProtobufCMessage *item, void *user)
{
	const struct csv_list *csv = user;

	csv->item(item);
	return CTL_OK;
}

static int csv_print(struct ctl *ctl, struct csv_list *csv)
{
	int code;

	csv->list.on_item = csv_item;
	csv->list.user = csv;
	code = ctl_call_list(ctl, &csv->list);
	if (code == CTL_OK && csv->list.next[0] != '\0')
		ctl_error("there are more: --page-token %s, or a higher --limit", csv->list.next);
	free(csv->list.next);
	return code;
}

static void csv_order_item(const ProtobufCMessage *item)
{
	csv_order((const void *)item);
}

static void csv_movement_item(const ProtobufCMessage *item)
{
	csv_movement((const void *)item);
}

static void order_row(struct ctl_table *table, const ProtobufCMessage *item)
{
	const archived_order *archived = (const void *)item;
	const Tandem__Order__V1__Order *order = archived->order;
	char time[RT_TIME_TEXT], *lines = lines_text(order);

	ctl_cell(table, "%s", order->order_id);
	ctl_cell(table, "%s", status_of(order));
	ctl_cell(table, "%s", order->settled ? "yes" : "no");
	ctl_cell(table, "%s", archived->incomplete ? "?" : order->customer_id);
	ctl_cell(table, "%s", time_text(order->create_time, time));
	ctl_cell(table, "%s", lines);
	free(lines);
}

static int search_run(struct ctl *ctl, void *given)
{
	struct options *options = given;
	Tandem__Archive__V1__SearchOrdersRequest request =
		TANDEM__ARCHIVE__V1__SEARCH_ORDERS_REQUEST__INIT;
	struct ctl_table table =
		CTL_TABLE("ORDER_ID", "STATUS", "SETTLED", "CUSTOMER", "CREATED", "LINES");
	struct csv_list csv = { .item = csv_order_item };
	struct ctl_list *list = &csv.list;

	list->client = ctl_archive_service(ctl);
	list->method = "SearchOrders";
	list->request = &request.base;
	list->items_max = options->limit;
	request.filter = &options->filter;
	request.oldest_first = options->oldest_first;
	if (options->page_token != NULL)
		request.page_token = (char *)(uintptr_t)options->page_token;
	if (options->format == FORMAT_CSV) {
		csv_orders_head();
		return csv_print(ctl, &csv);
	}
	ctl->json = ctl->json || options->format == FORMAT_JSON;
	return ctl_print_list(ctl, list, &table, order_row, "no orders");
}

static const struct argp_option search_options[] = {
	FILTER_OPTIONS,
	{ "oldest-first", KEY_OLDEST, NULL, 0, "From the oldest on, not from the newest", 0 },
	{ "limit", 'n', "N", 0, "How many at most (50)", 0 },
	{ "page-token", KEY_PAGE_TOKEN, "TOKEN", 0, "Where the list continues", 0 },
	{ "format", KEY_FORMAT, "csv|json", 0, "For other programs", 0 },
	{ 0 },
};
const struct ctl_command ctl_archive_search = {
	.group = "archive",
	.name = "search",
	.about = "Searches the orders of all customers",
	.text = "Lists archived orders by the time of their placing, the newest first. All that is "
		"given must fit. With --json, when there are more orders, the last line is "
		"{\"next_page_token\":\"...\"}.\vExamples:\n"
		"  tandemctl archive search --customer carol --status confirmed\n"
		"  tandemctl archive search --sku tea --since 7d --format csv --limit 10000",
	.options = search_options,
	.parse = parse_option,
	.options_size = sizeof(struct options),
	.run = search_run,
};

/* ---- show ---- */

static void row(struct ctl_table *table, const char *name, const char *value)
{
	if (value[0] == '\0')
		return;
	ctl_cell(table, "%s", name);
	ctl_cell(table, "%s", value);
}

static void print_archived(const archived_order *archived)
{
	const Tandem__Order__V1__Order *order = archived->order;
	struct ctl_table table = { .columns = 2 };
	char *lines = lines_text(order), *labels = labels_text(order), time[RT_TIME_TEXT];

	row(&table, "order_id", order->order_id);
	row(&table, "status", status_of(order));
	row(&table, "because", order->status_reason);
	row(&table, "settled", order->settled ? "yes" : "no");
	if (archived->incomplete)
		row(&table, "incomplete", "how it was placed was gone before it was archived");
	row(&table, "customer_id", order->customer_id);
	row(&table, "lines", lines);
	row(&table, "labels", labels);
	row(&table, "created", time_text(order->create_time, time));
	row(&table, "changed", time_text(order->update_time, time));
	ctl_table_print(&table);
	free(labels);
	free(lines);
}

static int show_run(struct ctl *ctl, void *given)
{
	const struct options *options = given;
	Tandem__Archive__V1__GetArchivedOrderRequest request =
		TANDEM__ARCHIVE__V1__GET_ARCHIVED_ORDER_REQUEST__INIT;
	struct ctl_table table = CTL_TABLE("TIME", "CONTEXT", "VERSION", "WHAT", "BY");
	const Tandem__Archive__V1__GetArchivedOrderResponse *answer;
	ProtobufCMessage *response;
	char time[RT_TIME_TEXT];
	int code;

	request.order_id = (char *)(uintptr_t)options->subject;
	code = ctl_call(ctl, ctl_archive_service(ctl), "GetArchivedOrder", &request.base,
			&response);
	if (code != CTL_OK)
		return code;
	answer = (const void *)response;
	if (ctl->json) {
		ctl_json_print(ctl_message_json(response, true));
	} else if (answer->order != NULL && answer->order->order != NULL) {
		print_archived(answer->order);
		for (size_t i = 0; i < answer->n_events; i++) {
			const Tandem__Order__V1__OrderLifeEvent *event = answer->events[i];

			ctl_cell(&table, "%s", time_text(event->time, time));
			ctl_cell(&table, "%s", event->context);
			ctl_cell(&table, "%" PRIu64, event->version);
			ctl_cell(&table, "%s", event->text);
			ctl_cell(&table, "%s", event->actor);
		}
		ctl_table_print(&table);
	}
	protobuf_c_message_free_unpacked(response, NULL);
	return CTL_OK;
}

const struct ctl_command ctl_archive_show = {
	.group = "archive",
	.name = "show",
	.about = "Shows an archived order and all that happened to it",
	.arguments = "ORDER_ID",
	.text = "Shows an order as the archive knows it, and every event of it, of the order's "
		"stream and of inventory's.\vExample:\n"
		"  tandemctl archive show ord_…",
	.parse = parse_subject,
	.options_size = sizeof(struct options),
	.run = show_run,
};

/* ---- movements ---- */

static void movement_row(struct ctl_table *table, const ProtobufCMessage *item)
{
	const Tandem__Archive__V1__StockMovement *movement = (const void *)item;
	char time[RT_TIME_TEXT];

	ctl_cell(table, "%s", time_text(movement->time, time));
	ctl_cell(table, "%s", kind_of(movement));
	ctl_cell(table, "%" PRId64, movement->quantity);
	ctl_cell(table, "%s", movement->order_id);
	ctl_cell(table, "%s", movement->reason);
	ctl_cell(table, "%s", movement->actor);
}

static int movements_run(struct ctl *ctl, void *given)
{
	struct options *options = given;
	Tandem__Archive__V1__ListStockMovementsRequest request =
		TANDEM__ARCHIVE__V1__LIST_STOCK_MOVEMENTS_REQUEST__INIT;
	struct ctl_table table = CTL_TABLE("TIME", "WHAT", "QUANTITY", "ORDER_ID", "BECAUSE", "BY");
	struct csv_list csv = { .item = csv_movement_item };
	struct ctl_list *list = &csv.list;

	list->client = ctl_archive_service(ctl);
	list->method = "ListStockMovements";
	list->request = &request.base;
	list->items_max = options->limit;
	request.sku = (char *)(uintptr_t)options->subject;
	request.from_time = options->filter.from_time;
	request.to_time = options->filter.to_time;
	if (options->page_token != NULL)
		request.page_token = (char *)(uintptr_t)options->page_token;
	if (options->format == FORMAT_CSV) {
		fputs("time,kind,quantity,order_id,because,by\r\n", stdout);
		return csv_print(ctl, &csv);
	}
	ctl->json = ctl->json || options->format == FORMAT_JSON;
	return ctl_print_list(ctl, list, &table, movement_row, "no movements");
}

static const struct argp_option movements_options[] = {
	{ "since", KEY_SINCE, "TIME", 0, "Only from this time on", 0 },
	{ "until", KEY_UNTIL, "TIME", 0, "Only before this time", 0 },
	{ "limit", 'n', "N", 0, "How many at most (50)", 0 },
	{ "page-token", KEY_PAGE_TOKEN, "TOKEN", 0, "Where the list continues", 0 },
	{ "format", KEY_FORMAT, "csv|json", 0, "For other programs", 0 },
	{ 0 },
};
const struct ctl_command ctl_archive_movements = {
	.group = "archive",
	.name = "movements",
	.about = "Lists what happened to the stock of a SKU",
	.arguments = "SKU",
	.text = "Lists what was put in, taken out, reserved, sold and released, the newest "
		"first.\vExample:\n"
		"  tandemctl archive movements tea --since 2026-11-01",
	.options = movements_options,
	.parse = parse_subject,
	.options_size = sizeof(struct options),
	.run = movements_run,
};

/* ---- export ---- */

struct export
{
	const struct options *options;
	char *token;   /* of the last message; NULL: none came */
	bool progress; /* a message came since it was begun or resumed */
};

static bool export_message(const ProtobufCMessage *message, void *user)
{
	const Tandem__Archive__V1__ExportOrdersResponse *part = (const void *)message;
	struct export *export = user;

	for (size_t i = 0; i < part->n_orders; i++) {
		if (export->options->format == FORMAT_CSV)
			csv_order(part->orders[i]);
		else
			ctl_json_print(ctl_message_json(&part->orders[i]->base, false));
	}
	free(export->token);
	export->token = rt_strdup(part->next_page_token);
	export->progress = true;
	return !ferror(stdout);
}

static int export_run(struct ctl *ctl, void *given)
{
	struct options *options = given;
	Tandem__Archive__V1__ExportOrdersRequest request =
		TANDEM__ARCHIVE__V1__EXPORT_ORDERS_REQUEST__INIT;
	struct export export = { .options = options };
	int code, times = 0;

	request.filter = &options->filter;
	if (options->page_token != NULL)
		export.token = rt_strdup(options->page_token);
	else if (options->format == FORMAT_CSV)
		csv_orders_head();
	do { /* a broken call goes on where it broke */
		if (export.token != NULL)
			request.page_token = export.token;
		export.progress = false;
		code = ctl_call_stream(ctl, ctl_archive_service(ctl), "ExportOrders", &request.base,
				       export_message, &export);
		times = export.progress ? 0 : times + 1;
	} while (code == CTL_UNAVAILABLE && export.token != NULL && times < TIMES_MAX);
	if (code != CTL_OK && export.token != NULL)
		ctl_error("to go on behind what was written: --page-token %s", export.token);
	free(export.token);
	return code;
}

static const struct argp_option export_options[] = {
	FILTER_OPTIONS,
	{ "page-token", KEY_PAGE_TOKEN, "TOKEN", 0, "Where a broken export goes on", 0 },
	{ "format", KEY_FORMAT, "csv|json", 0, "An order a line (json)", 0 },
	{ 0 },
};
const struct ctl_command ctl_archive_export = {
	.group = "archive",
	.name = "export",
	.about = "Writes all orders that fit",
	.text = "Writes archived orders to standard output, the oldest first: JSON, an order a "
		"line, or CSV. When the connection breaks it goes on by itself; when it cannot, "
		"stderr says with which --page-token it goes on later.\vExamples:\n"
		"  tandemctl archive export --since 2026-11-01 --until 2026-12-01 >november.json\n"
		"  tandemctl archive export --status confirmed --format csv >sold.csv",
	.options = export_options,
	.parse = parse_option,
	.options_size = sizeof(struct options),
	.run = export_run,
};
