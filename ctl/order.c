/* order.c - tandemctl order place|get|list|watch|confirm|cancel|extend|return. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "tandem/order/v1/order_service.pb-c.h"

typedef Tandem__Order__V1__Order order_message;
typedef Tandem__Order__V1__OrderStatus order_status;

#define PENDING       TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING
#define REJECTED      TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED
#define EXPIRED       TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_EXPIRED
#define STATUS_PREFIX "ORDER_STATUS_"

/* ---- printing ---- */

static const char *status_name(order_status status)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
		&tandem__order__v1__order_status__descriptor, (int)status);

	return value == NULL ? "?" : value->name + strlen(STATUS_PREFIX);
}

static const char *time_text(const Google__Protobuf__Timestamp *time, char text[RT_TIME_TEXT])
{
	snprintf(text, RT_TIME_TEXT, "-");
	if (time != NULL && time->seconds >= 0 && time->seconds < 253402300800)
		rt_time_format(time->seconds * 1000 + time->nanos / 1000000, text);
	return text;
}

static char *text_of_lines(Tandem__Order__V1__OrderLine *const *lines, size_t count)
{
	struct rt_buf text = { 0 };

	for (size_t i = 0; i < count; i++)
		rt_buf_printf(&text, "%s%s=%" PRIu32, i == 0 ? "" : " ", lines[i]->sku,
			      lines[i]->quantity);
	rt_buf_add(&text, "", 1);
	return text.data;
}

static char *lines_text(const order_message *order)
{
	return text_of_lines(order->lines, order->n_lines);
}

static void row(struct ctl_table *table, const char *name, const char *value)
{
	if (value[0] == '\0')
		return;
	ctl_cell(table, "%s", name);
	ctl_cell(table, "%s", value);
}

static void print_order(const struct ctl *ctl, const order_message *order)
{
	struct ctl_table table = { .columns = 2 };
	char time[RT_TIME_TEXT], version[32];
	char *lines;

	if (ctl->json) {
		ctl_json_print(ctl_message_json(&order->base, true));
		return;
	}
	lines = lines_text(order);
	snprintf(version, sizeof(version), "%" PRIu64, order->version);
	row(&table, "order_id", order->order_id);
	row(&table, "status", status_name(order->status));
	row(&table, "because", order->status_reason);
	for (size_t i = 0; i < order->n_shortages; i++) {
		const Tandem__Order__V1__Shortage *shortage = order->shortages[i];

		ctl_cell(&table, "short");
		if (shortage->unknown)
			ctl_cell(&table, "%s: no such SKU", shortage->sku);
		else
			ctl_cell(&table, "%s: %" PRIu32 " asked for, %" PRIu64 " available",
				 shortage->sku, shortage->requested, shortage->available);
	}
	row(&table, "settled", order->settled ? "yes" : "no");
	row(&table, "customer_id", order->customer_id);
	row(&table, "lines", lines);
	row(&table, "version", version);
	row(&table, "created", time_text(order->create_time, time));
	row(&table, "changed", time_text(order->update_time, time));
	if (order->hold_expire_time != NULL)
		row(&table, "held until", time_text(order->hold_expire_time, time));
	for (size_t i = 0; i < order->n_returns; i++) {
		const Tandem__Order__V1__OrderReturn *back = order->returns[i];
		char *came = text_of_lines(back->lines, back->n_lines);

		ctl_cell(&table, "came back");
		ctl_cell(&table, "%s, %s, return %s%s%s", time_text(back->time, time), came,
			 back->return_id, back->reason[0] == '\0' ? "" : ": ", back->reason);
		free(came);
	}
	for (size_t i = 0; i < order->n_labels; i++) {
		ctl_cell(&table, "label");
		ctl_cell(&table, "%s=%s", order->labels[i]->key, order->labels[i]->value);
	}
	free(lines);
	ctl_table_print(&table);
}

/* Prints the order of an answer. *ret: the order, which belongs to `response`. */
static int answer_order(const struct ctl *ctl, ProtobufCMessage *response, order_message **ret)
{
	/* PlaceOrderResponse, GetOrderResponse, …: all have this one field. */
	const Tandem__Order__V1__GetOrderResponse *answer = (const void *)response;

	if (answer->order == NULL) {
		ctl_error("the answer holds no order");
		return CTL_UNAVAILABLE;
	}
	print_order(ctl, answer->order);
	*ret = answer->order;
	return CTL_OK;
}

/* ---- place ---- */

struct lines {
	Tandem__Order__V1__OrderLine lines[100], *list[100];
	size_t count;
};

struct place {
	const char *customer, *request_id;
	int64_t hold_ms;
	bool wait;
	struct lines lines;
	Tandem__Order__V1__PlaceOrderRequest__LabelsEntry labels[16], *label_list[16];
	size_t label_count;
};

enum { KEY_HOLD = 256, KEY_LABEL, KEY_REQUEST_ID, KEY_AFTER, KEY_PAGE_TOKEN };

/* Adds a line, "sku=2" or "sku". Cuts the text at the equals sign. */
static void add_line(struct argp_state *state, struct lines *lines, char *text)
{
	Tandem__Order__V1__OrderLine *line = &lines->lines[lines->count];
	char *equals = strrchr(text, '=');
	int64_t quantity = 1;

	if (lines->count == RT_LENGTH(lines->lines))
		argp_error(state, "more than %zu lines", RT_LENGTH(lines->lines));
	if (equals != NULL && !rt_parse_int(equals + 1, 1, 1000000, &quantity))
		argp_error(state, "not SKU=QUANTITY, with 1 to 1000000 of it: %s", text);
	if (equals != NULL)
		*equals = '\0';
	tandem__order__v1__order_line__init(line);
	line->sku = text;
	line->quantity = (uint32_t)quantity;
	lines->list[lines->count++] = line;
}

static void add_label(struct argp_state *state, struct place *place, char *text)
{
	Tandem__Order__V1__PlaceOrderRequest__LabelsEntry *label =
		&place->labels[place->label_count];
	char *equals = strchr(text, '=');

	if (place->label_count == RT_LENGTH(place->labels))
		argp_error(state, "more than %zu labels", RT_LENGTH(place->labels));
	if (equals == NULL) {
		argp_error(state, "--label: not KEY=VALUE: %s", text);
		return;
	}
	*equals = '\0';
	tandem__order__v1__place_order_request__labels_entry__init(label);
	label->key = text;
	label->value = equals + 1;
	place->label_list[place->label_count++] = label;
}

static error_t place_parse(int key, char *arg, struct argp_state *state)
{
	struct place *place = ctl_options(state);

	switch (key) {
	case 'c':
		place->customer = arg;
		return 0;
	case KEY_REQUEST_ID:
		place->request_id = arg;
		return 0;
	case KEY_HOLD:
		if (!rt_parse_duration(arg, &place->hold_ms))
			argp_error(state, "--hold: not a duration such as 90s, 15m or 2h: %s", arg);
		return 0;
	case KEY_LABEL:
		add_label(state, place, arg);
		return 0;
	case 'w':
		place->wait = true;
		return 0;
	case ARGP_KEY_ARG:
		add_line(state, &place->lines, arg);
		return 0;
	case ARGP_KEY_END:
		if (place->lines.count == 0)
			argp_error(state, "which SKUs?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int place_run(struct ctl *ctl, void *options)
{
	struct place *place = options;
	Tandem__Order__V1__PlaceOrderRequest request = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Google__Protobuf__Duration hold = GOOGLE__PROTOBUF__DURATION__INIT;
	ProtobufCMessage *response = NULL;
	order_message *placed = NULL;
	int code;

	request.customer_id =
		(char *)(uintptr_t)(place->customer == NULL ? "tandemctl" : place->customer);
	if (place->request_id != NULL)
		request.request_id = (char *)(uintptr_t)place->request_id;
	request.lines = place->lines.list;
	request.n_lines = place->lines.count;
	request.labels = place->label_list;
	request.n_labels = place->label_count;
	if (place->hold_ms != 0) {
		hold.seconds = place->hold_ms / 1000;
		hold.nanos = (int32_t)(place->hold_ms % 1000) * 1000000;
		request.hold = &hold;
	}
	request.wait_for_decision = place->wait;
	code = ctl_call(ctl, ctl_order_service(ctl), "PlaceOrder", &request.base, &response);
	if (code != CTL_OK)
		return code;
	code = answer_order(ctl, response, &placed);
	if (code == CTL_OK && (placed->status == REJECTED || placed->status == EXPIRED))
		code = CTL_NEGATIVE;
	protobuf_c_message_free_unpacked(response, NULL);
	return code;
}

static const struct argp_option place_options[] = {
	{ "customer", 'c', "ID", 0, "Whose order it is (tandemctl)", 0 },
	{ "request-id", KEY_REQUEST_ID, "ID", 0, "Makes the call safe to repeat", 0 },
	{ "hold", KEY_HOLD, "DURATION", 0, "How long stock stays reserved (15m)", 0 },
	{ "label", KEY_LABEL, "KEY=VALUE", 0, "Stored with the order; up to 16", 0 },
	{ "wait", 'w', NULL, 0, "Wait for the decision; exit code 1 when it is rejected", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_place = {
	.group = "order",
	.name = "place",
	.about = "Places an order",
	.arguments = "SKU[=QUANTITY]...",
	.text = "Places an order.\v"
		"Examples:\n"
		"  tandemctl order place apple=2 pear\n"
		"  tandemctl order place --wait --customer carol --request-id cart-17 apple=2\n"
		"  tandemctl order place --json --hold 1h apple | jq -r .order_id",
	.options = place_options,
	.parse = place_parse,
	.options_size = sizeof(struct place),
	.run = place_run,
};

/* ---- commands about one order ---- */

struct one {
	const char *order_id;
	int64_t version; /* --after */
};

static error_t one_parse(int key, char *arg, struct argp_state *state)
{
	struct one *one = ctl_options(state);

	switch (key) {
	case KEY_AFTER:
		if (!rt_parse_int(arg, 0, INT64_MAX, &one->version))
			argp_error(state, "not a version: %s", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (one->order_id != NULL)
			argp_error(state, "one order at a time");
		one->order_id = arg;
		return 0;
	case ARGP_KEY_END:
		if (one->order_id == NULL)
			argp_error(state, "which order?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int one_call(struct ctl *ctl, const char *method, const ProtobufCMessage *request)
{
	ProtobufCMessage *response = NULL;
	order_message *seen = NULL;
	int code = ctl_call(ctl, ctl_order_service(ctl), method, request, &response);

	if (code != CTL_OK)
		return code;
	code = answer_order(ctl, response, &seen);
	protobuf_c_message_free_unpacked(response, NULL);
	return code;
}

static int get_run(struct ctl *ctl, void *options)
{
	struct one *one = options;
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)one->order_id;
	return one_call(ctl, "GetOrder", &request.base);
}
const struct ctl_command ctl_order_get = {
	.group = "order",
	.name = "get",
	.about = "Shows an order",
	.arguments = "ORDER_ID",
	.text = "Shows an order.\vExample:\n  tandemctl order get ord_…",
	.parse = one_parse,
	.options_size = sizeof(struct one),
	.run = get_run,
};

/* ---- confirm, cancel: one order or several ---- */

#define ORDERS_MAX 1000

struct moves {
	const char *order_ids[ORDERS_MAX], *reason;
	size_t count;
	int64_t version;
};

static error_t moves_parse(int key, char *arg, struct argp_state *state)
{
	struct moves *moves = ctl_options(state);

	switch (key) {
	case 'r':
		moves->reason = arg;
		return 0;
	case 'v':
		if (!rt_parse_int(arg, 0, INT64_MAX, &moves->version))
			argp_error(state, "not a version: %s", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (moves->count == ORDERS_MAX)
			argp_error(state, "more than %d orders", ORDERS_MAX);
		moves->order_ids[moves->count++] = arg;
		return 0;
	case ARGP_KEY_END:
		if (moves->count == 0)
			argp_error(state, "which order?");
		if (moves->count > 1 && moves->version != 0)
			argp_error(state, "--expected-version is for one order");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* What became of each order of a batch. Returns the worst of their exit codes. */
static int print_moved(struct ctl *ctl, const struct moves *moves,
		       const Tandem__Order__V1__BatchConfirmOrdersResponse *response)
{
	struct ctl_table table = CTL_TABLE("ORDER_ID", "STATUS", "SETTLED", "VERSION");
	int code = CTL_OK;

	if (response->n_orders != moves->count) {
		ctl_error("the answer has another number of orders");
		return CTL_UNAVAILABLE;
	}
	for (size_t i = 0; i < response->n_orders; i++) {
		const Tandem__Order__V1__MoveOrderResult *result = response->orders[i];

		if (result->result_case == TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ERROR) {
			ctl_error("%s: %s: %s", moves->order_ids[i],
				  rt_code_name(result->error->code), result->error->message);
			code = RT_MAX(code, ctl_exit_of(result->error->code));
		} else if (result->result_case !=
			   TANDEM__ORDER__V1__MOVE_ORDER_RESULT__RESULT_ORDER) {
			ctl_error("%s: no answer", moves->order_ids[i]);
			code = CTL_UNAVAILABLE;
		} else if (ctl->json) {
			ctl_json_print(ctl_message_json(&result->order->base, true));
		} else {
			ctl_cell(&table, "%s", result->order->order_id);
			ctl_cell(&table, "%s", status_name(result->order->status));
			ctl_cell(&table, "%s", result->order->settled ? "yes" : "no");
			ctl_cell(&table, "%" PRIu64, result->order->version);
		}
	}
	ctl_table_print(&table);
	return code;
}

static int moves_call(struct ctl *ctl, const struct moves *moves, const char *method,
		      const ProtobufCMessage *request)
{
	ProtobufCMessage *response = NULL;
	int code = ctl_call(ctl, ctl_order_service(ctl), method, request, &response);

	if (code != CTL_OK)
		return code;
	/* Both batches are answered alike. */
	code = print_moved(ctl, moves, (const void *)response);
	protobuf_c_message_free_unpacked(response, NULL);
	return code;
}

static int confirm_run(struct ctl *ctl, void *options)
{
	struct moves *moves = options;
	Tandem__Order__V1__BatchConfirmOrdersRequest request =
		TANDEM__ORDER__V1__BATCH_CONFIRM_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__ConfirmOrderRequest *requests, **list;
	int code;

	requests = rt_alloc(moves->count * sizeof(*requests));
	list = rt_alloc(moves->count * sizeof(*list));
	for (size_t i = 0; i < moves->count; i++) {
		tandem__order__v1__confirm_order_request__init(&requests[i]);
		requests[i].order_id = (char *)(uintptr_t)moves->order_ids[i];
		requests[i].expected_version = (uint64_t)moves->version;
		list[i] = &requests[i];
	}
	request.requests = list;
	request.n_requests = moves->count;
	code = moves->count == 1 ? one_call(ctl, "ConfirmOrder", &requests[0].base)
				 : moves_call(ctl, moves, "BatchConfirmOrders", &request.base);
	free(requests);
	free(list);
	return code;
}
static const struct argp_option confirm_options[] = {
	{ "expected-version", 'v', "N", 0, "Only if the order is still at this version", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_confirm = {
	.group = "order",
	.name = "confirm",
	.about = "Confirms RESERVED orders",
	.arguments = "ORDER_ID...",
	.text = "Confirms RESERVED orders: their stock is sold.\vExamples:\n"
		"  tandemctl order confirm ord_…\n"
		"  tandemctl order confirm --expected-version 2 ord_…\n"
		"  tandemctl order confirm ord_… ord_…",
	.options = confirm_options,
	.parse = moves_parse,
	.options_size = sizeof(struct moves),
	.run = confirm_run,
};

static int cancel_run(struct ctl *ctl, void *options)
{
	struct moves *moves = options;
	Tandem__Order__V1__BatchCancelOrdersRequest request =
		TANDEM__ORDER__V1__BATCH_CANCEL_ORDERS_REQUEST__INIT;
	Tandem__Order__V1__CancelOrderRequest *requests, **list;
	int code;

	requests = rt_alloc(moves->count * sizeof(*requests));
	list = rt_alloc(moves->count * sizeof(*list));
	for (size_t i = 0; i < moves->count; i++) {
		tandem__order__v1__cancel_order_request__init(&requests[i]);
		requests[i].order_id = (char *)(uintptr_t)moves->order_ids[i];
		requests[i].expected_version = (uint64_t)moves->version;
		if (moves->reason != NULL)
			requests[i].reason = (char *)(uintptr_t)moves->reason;
		list[i] = &requests[i];
	}
	request.requests = list;
	request.n_requests = moves->count;
	code = moves->count == 1 ? one_call(ctl, "CancelOrder", &requests[0].base)
				 : moves_call(ctl, moves, "BatchCancelOrders", &request.base);
	free(requests);
	free(list);
	return code;
}
static const struct argp_option cancel_options[] = {
	{ "reason", 'r', "TEXT", 0, "The reason, stored for people", 0 },
	{ "expected-version", 'v', "N", 0, "Only if the order is still at this version", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_cancel = {
	.group = "order",
	.name = "cancel",
	.about = "Cancels orders",
	.arguments = "ORDER_ID...",
	.text = "Cancels PENDING or RESERVED orders.\vExamples:\n"
		"  tandemctl order cancel --reason 'changed my mind' ord_…\n"
		"  tandemctl order cancel ord_… ord_…",
	.options = cancel_options,
	.parse = moves_parse,
	.options_size = sizeof(struct moves),
	.run = cancel_run,
};

/* ---- extend ---- */

struct extend {
	const char *order_id;
	int64_t by_ms, until_ms;
};

static error_t extend_parse(int key, char *arg, struct argp_state *state)
{
	struct extend *extend = ctl_options(state);

	switch (key) {
	case 'b':
		if (!rt_parse_duration(arg, &extend->by_ms) || extend->by_ms == 0)
			argp_error(state, "--by: not a duration such as 90s, 15m or 2h: %s", arg);
		return 0;
	case 'u':
		if (!rt_time_parse(arg, &extend->until_ms))
			argp_error(state,
				   "--until: not a time such as 2026-01-31T18:00:00.000Z: %s", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (extend->order_id != NULL)
			argp_error(state, "one order at a time");
		extend->order_id = arg;
		return 0;
	case ARGP_KEY_END:
		if (extend->order_id == NULL)
			argp_error(state, "which order?");
		if ((extend->by_ms != 0) == (extend->until_ms != 0))
			argp_error(state, "either --by or --until");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Until when the order is held now, and its version. An order without a hold is taken as held until now: the order
 * service says what is wrong with it. */
static int read_hold(struct ctl *ctl, const char *order_id, int64_t *ret_until_ms,
		     uint64_t *ret_version)
{
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;
	const Tandem__Order__V1__GetOrderResponse *answer;
	ProtobufCMessage *response = NULL;
	int code;

	request.order_id = (char *)(uintptr_t)order_id;
	code = ctl_call(ctl, ctl_order_service(ctl), "GetOrder", &request.base, &response);
	if (code != CTL_OK)
		return code;
	answer = (const void *)response;
	if (answer->order != NULL && answer->order->hold_expire_time != NULL)
		*ret_until_ms = answer->order->hold_expire_time->seconds * 1000 +
				answer->order->hold_expire_time->nanos / 1000000;
	if (answer->order != NULL)
		*ret_version = answer->order->version;
	protobuf_c_message_free_unpacked(response, NULL);
	return CTL_OK;
}

static int extend_run(struct ctl *ctl, void *options)
{
	const struct extend *extend = options;
	Tandem__Order__V1__ExtendHoldRequest request = TANDEM__ORDER__V1__EXTEND_HOLD_REQUEST__INIT;
	Google__Protobuf__Timestamp until = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	int64_t until_ms = extend->until_ms;

	if (extend->by_ms != 0) {
		int code = read_hold(ctl, extend->order_id, &until_ms, &request.expected_version);

		if (code != CTL_OK)
			return code;
		until_ms += extend->by_ms;
	}
	until.seconds = until_ms / 1000;
	until.nanos = (int32_t)(until_ms % 1000) * 1000000;
	request.order_id = (char *)(uintptr_t)extend->order_id;
	request.hold_expire_time = &until;
	return one_call(ctl, "ExtendHold", &request.base);
}
static const struct argp_option extend_options[] = {
	{ "by", 'b', "DURATION", 0, "So much longer than it is held now", 0 },
	{ "until", 'u', "TIME", 0, "Until then", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_extend = {
	.group = "order",
	.name = "extend",
	.about = "Lets a RESERVED order keep its stock for longer",
	.arguments = "ORDER_ID",
	.text = "Lets a RESERVED order keep its stock for longer, up to the limits of the order "
		"service.\vExamples:\n"
		"  tandemctl order extend --by 15m ord_…\n"
		"  tandemctl order extend --until 2026-01-31T18:00:00.000Z ord_…",
	.options = extend_options,
	.parse = extend_parse,
	.options_size = sizeof(struct extend),
	.run = extend_run,
};

/* ---- return ---- */

struct give_back {
	const char *order_id, *return_id, *reason;
	bool all;
	struct lines lines;
};

static error_t return_parse(int key, char *arg, struct argp_state *state)
{
	struct give_back *back = ctl_options(state);

	switch (key) {
	case 'i':
		back->return_id = arg;
		return 0;
	case 'r':
		back->reason = arg;
		return 0;
	case 'a':
		back->all = true;
		return 0;
	case ARGP_KEY_ARG:
		if (back->order_id == NULL)
			back->order_id = arg;
		else
			add_line(state, &back->lines, arg);
		return 0;
	case ARGP_KEY_END:
		if (back->order_id == NULL)
			argp_error(state, "which order?");
		if (back->return_id == NULL)
			argp_error(state, "--return-id names the return");
		if (back->all == (back->lines.count > 0))
			argp_error(state, "either lines or --all");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int return_run(struct ctl *ctl, void *options)
{
	struct give_back *back = options;
	Tandem__Order__V1__ReturnOrderRequest request =
		TANDEM__ORDER__V1__RETURN_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)back->order_id;
	request.return_id = (char *)(uintptr_t)back->return_id;
	if (back->reason != NULL)
		request.reason = (char *)(uintptr_t)back->reason;
	request.lines = back->lines.list;
	request.n_lines = back->lines.count;
	return one_call(ctl, "ReturnOrder", &request.base);
}
static const struct argp_option return_options[] = {
	{ "return-id", 'i', "ID", 0, "Names the return; makes the call safe to repeat", 0 },
	{ "all", 'a', NULL, 0, "All that has not come back yet", 0 },
	{ "reason", 'r', "TEXT", 0, "The reason, stored for people", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_return = {
	.group = "order",
	.name = "return",
	.about = "Takes items of a CONFIRMED order back",
	.arguments = "ORDER_ID [SKU[=QUANTITY]...]",
	.text = "Takes items of a CONFIRMED order back: they are available again.\v"
		"Examples:\n"
		"  tandemctl order return --return-id r-17 ord_… apple=2 pear\n"
		"  tandemctl order return --return-id r-18 --all --reason broken ord_…",
	.options = return_options,
	.parse = return_parse,
	.options_size = sizeof(struct give_back),
	.run = return_run,
};

/* ---- watch ---- */

static bool watch_message(const ProtobufCMessage *message, void *user)
{
	const Tandem__Order__V1__WatchOrderResponse *response = (const void *)message;
	const struct ctl *ctl = user;
	const order_message *order = response->order;
	char time[RT_TIME_TEXT];
	char *line;

	if (order == NULL)
		return true;
	if (ctl->json) {
		ctl_json_print(ctl_message_json(&order->base, true));
	} else {
		char *reason = rt_text_shown(order->status_reason, strlen(order->status_reason));

		line = rt_printf("%s  version %" PRIu64 "  %s%s%s%s",
				 time_text(order->update_time, time), order->version,
				 status_name(order->status), order->settled ? ", settled" : "",
				 reason[0] == '\0' ? "" : ": ", reason);
		printf("%s\n", line);
		free(line);
		free(reason);
	}
	return fflush(stdout) == 0 && !ferror(stdout);
}

static int watch_run(struct ctl *ctl, void *options)
{
	struct one *one = options;
	Tandem__Order__V1__WatchOrderRequest request = TANDEM__ORDER__V1__WATCH_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)one->order_id;
	request.after_version = (uint64_t)one->version;
	return ctl_call_stream(ctl, ctl_order_service(ctl), "WatchOrder", &request.base,
			       watch_message, ctl);
}
static const struct argp_option watch_options[] = {
	{ "after", KEY_AFTER, "N", 0, "Only versions after this one", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_watch = {
	.group = "order",
	.name = "watch",
	.about = "Follows an order until it is settled",
	.arguments = "ORDER_ID",
	.text = "Shows an order's status and each change of it, until the order is settled.\v"
		"Examples:\n"
		"  tandemctl order watch ord_…\n"
		"  tandemctl order watch --json ord_… | jq -r .status",
	.options = watch_options,
	.parse = one_parse,
	.options_size = sizeof(struct one),
	.run = watch_run,
};

/* ---- list ---- */

struct list {
	const char *customer, *page_token;
	order_status status;
	int64_t limit;
};

static error_t list_parse(int key, char *arg, struct argp_state *state)
{
	struct list *list = ctl_options(state);
	const ProtobufCEnumValue *value;
	char *name;

	switch (key) {
	case ARGP_KEY_INIT:
		list->limit = 50;
		return 0;
	case 's':
		name = rt_printf(STATUS_PREFIX "%s", arg);
		for (char *c = name; *c != '\0'; c++)
			*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
		value = protobuf_c_enum_descriptor_get_value_by_name(
			&tandem__order__v1__order_status__descriptor, name);
		free(name);
		if (value == NULL)
			argp_error(state, "--status: no such status: %s", arg);
		else
			list->status = (order_status)value->value;
		return 0;
	case 'n':
		if (!rt_parse_int(arg, 1, 1000000, &list->limit))
			argp_error(state, "--limit: not a number from 1 to 1000000: %s", arg);
		return 0;
	case KEY_PAGE_TOKEN:
		list->page_token = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (list->customer != NULL)
			argp_error(state, "one customer at a time");
		list->customer = arg;
		return 0;
	case ARGP_KEY_END:
		if (list->customer == NULL)
			argp_error(state, "whose orders?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void list_row(struct ctl_table *table, const ProtobufCMessage *item)
{
	const order_message *order = (const void *)item;
	char time[RT_TIME_TEXT], *lines = lines_text(order);

	ctl_cell(table, "%s", order->order_id);
	ctl_cell(table, "%s", status_name(order->status));
	ctl_cell(table, "%s", order->settled ? "yes" : "no");
	ctl_cell(table, "%" PRIu64, order->version);
	ctl_cell(table, "%s", time_text(order->create_time, time));
	ctl_cell(table, "%s", lines);
	free(lines);
}

static int list_run(struct ctl *ctl, void *options)
{
	const struct list *own = options;
	Tandem__Order__V1__ListOrdersRequest request = TANDEM__ORDER__V1__LIST_ORDERS_REQUEST__INIT;
	struct ctl_table table =
		CTL_TABLE("ORDER_ID", "STATUS", "SETTLED", "VERSION", "CREATED", "LINES");
	struct ctl_list list = {
		.client = ctl_order_service(ctl),
		.method = "ListOrders",
		.request = &request.base,
		.items_max = own->limit,
	};

	request.customer_id = (char *)(uintptr_t)own->customer;
	request.status = own->status;
	if (own->page_token != NULL)
		request.page_token = (char *)(uintptr_t)own->page_token;
	return ctl_print_list(ctl, &list, &table, list_row, "no orders");
}

static const struct argp_option list_options[] = {
	{ "status", 's', "STATUS", 0, "Only orders in this status", 0 },
	{ "limit", 'n', "N", 0, "How many at most (50)", 0 },
	{ "page-token", KEY_PAGE_TOKEN, "TOKEN", 0, "Where the list continues", 0 },
	{ 0 },
};
const struct ctl_command ctl_order_list = {
	.group = "order",
	.name = "list",
	.about = "Lists a customer's orders",
	.arguments = "CUSTOMER_ID",
	.text = "Lists a customer's orders, newest first. With --json, when there are more orders, "
		"the last line is {\"next_page_token\":\"...\"}.\vExamples:\n"
		"  tandemctl order list carol\n"
		"  tandemctl order list --status pending --limit 1000 --json carol",
	.options = list_options,
	.parse = list_parse,
	.options_size = sizeof(struct list),
	.run = list_run,
};
