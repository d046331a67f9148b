/* check.c - the limits of the public contract, one function a message, one table of messages.
 *
 * A fault goes into the status as it is found: the first one makes the message, each becomes a
 * field violation. A list is checked only up to its own limit, so that the work is bounded for any
 * input. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "tandem/archive/v1/archive_service.pb-c.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define PAGE_TOKEN_MAX 512
#define FIELD_MAX      128
#define DETAILS_BYTES  2400 /* past them no violation is listed: one takes up to 600 */

struct check {
	struct rt_status *status;
	int faults;
};

static void RT_PRINTF(3, 4) fault(struct check *check, const char *field, const char *format, ...)
{
	char text[160];
	va_list args;

	check->faults++;
	if (check->faults > CHECK_VIOLATIONS_MAX || check->status->details_length > DETAILS_BYTES)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (check->faults == 1) {
		rt_status_set(check->status, RT_CODE_INVALID_ARGUMENT, "%s %s", field, text);
		rt_status_info(check->status, "LIMIT_BROKEN");
	}
	rt_status_violation(check->status, field, "%s", text);
}

/* Characters, not bytes: everything that is not a continuation byte of UTF-8 begins one. */
static size_t characters(const char *text)
{
	size_t count = 0;

	for (; *text != '\0'; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

/* A short text that the client chose, such as an id. Bytes are counted first, because they bound
 * the rest. */
static void check_word(struct check *check, const char *field, const char *word, bool may_be_empty)
{
	uint32_t hidden;

	if (word[0] == '\0') {
		if (!may_be_empty)
			fault(check, field, "is missing: 1 to %d printable characters",
			      CHECK_ID_MAX);
		return;
	}
	if (strnlen(word, 4 * CHECK_ID_MAX + 1) > 4 * CHECK_ID_MAX ||
	    characters(word) > CHECK_ID_MAX)
		fault(check, field, "is longer than %d characters", CHECK_ID_MAX);
	else if (!rt_text_printable(word, &hidden))
		fault(check, field, "holds U+%04" PRIX32 ", which is not printable", hidden);
}

/* A table, not isalnum: the locale must not matter. */
static const char sku_characters[256] = {
	['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['0' ... '9'] = 1, ['.'] = 1, ['_'] = 1, ['-'] = 1,
};

static bool sku_is_valid(const char *sku)
{
	size_t length = 0;

	while (sku[length] != '\0' && sku_characters[(unsigned char)sku[length]] &&
	       length <= CHECK_SKU_MAX)
		length++;
	return length > 0 && sku[length] == '\0' && length <= CHECK_SKU_MAX;
}

static void check_sku(struct check *check, const char *field, const char *sku)
{
	if (!sku_is_valid(sku))
		fault(check, field, "must be 1 to %d characters out of A-Z a-z 0-9 . _ -",
		      CHECK_SKU_MAX);
}

static void check_bytes(struct check *check, const char *field, const char *text, size_t max)
{
	if (strnlen(text, max + 1) > max)
		fault(check, field, "is longer than %zu bytes", max);
}

static void check_page(struct check *check, int32_t page_size, const char *page_token)
{
	if (page_size < 0)
		fault(check, "page_size", "is negative");
	check_bytes(check, "page_token", page_token, PAGE_TOKEN_MAX);
}

static void check_count(struct check *check, const char *field, size_t count, size_t max)
{
	if (count == 0)
		fault(check, field, "is empty: 1 to %zu", max);
	else if (count > max)
		fault(check, field, "holds %zu: at most %zu", count, max);
}

/* What the lines up to `index` request of its SKU: the limit of a quantity holds for the sum. Looks back at
 * most CHECK_LINES_MAX lines. */
static uint64_t sum_of(Tandem__Order__V1__OrderLine **lines, size_t index)
{
	uint64_t sum = lines[index]->quantity;

	for (size_t i = 0; i < index; i++)
		if (strcmp(lines[i]->sku, lines[index]->sku) == 0)
			sum += lines[i]->quantity;
	return sum;
}

/* Formats the field's name only for a fault, since nearly every line is valid. */
static void check_line(struct check *check, Tandem__Order__V1__OrderLine **lines, size_t index)
{
	const Tandem__Order__V1__OrderLine *line = lines[index];
	bool sku_fine = sku_is_valid(line->sku);
	bool quantity_fine = line->quantity >= 1 && line->quantity <= CHECK_QUANTITY_MAX;
	uint64_t sum = sku_fine && quantity_fine ? sum_of(lines, index) : 0;
	char field[FIELD_MAX];

	if (!sku_fine) {
		snprintf(field, sizeof(field), "lines[%zu].sku", index);
		check_sku(check, field, line->sku);
	}
	if (quantity_fine && sum <= CHECK_QUANTITY_MAX)
		return;
	snprintf(field, sizeof(field), "lines[%zu].quantity", index);
	if (!quantity_fine)
		fault(check, field, "is %" PRIu32 ": 1 to %d", line->quantity, CHECK_QUANTITY_MAX);
	else
		fault(check, field, "makes %" PRIu64 " of one SKU: at most %d", sum,
		      CHECK_QUANTITY_MAX);
}

static void check_lines(struct check *check, Tandem__Order__V1__OrderLine **lines, size_t count)
{
	check_count(check, "lines", count, CHECK_LINES_MAX);
	for (size_t i = 0; i < RT_MIN(count, (size_t)CHECK_LINES_MAX); i++)
		check_line(check, lines, i);
}

/* The name of a label's field, its key cut at a character so that it stays UTF-8. */
static void label_field(char field[FIELD_MAX], const char *key, const char *part)
{
	size_t length = strnlen(key, CHECK_LABEL_KEY_MAX);

	while (length > 0 && ((unsigned char)key[length] & 0xc0) == 0x80)
		length--;
	snprintf(field, FIELD_MAX, "labels[\"%.*s\"]%s", (int)length, key, part);
}

static void check_labels(struct check *check, const Tandem__Order__V1__PlaceOrderRequest *request)
{
	char field[FIELD_MAX];

	if (request->n_labels > CHECK_LABELS_MAX)
		fault(check, "labels", "holds %zu: at most %d", request->n_labels,
		      CHECK_LABELS_MAX);
	for (size_t i = 0; i < RT_MIN(request->n_labels, (size_t)CHECK_LABELS_MAX); i++) {
		const char *key = request->labels[i]->key;

		if (key[0] == '\0' || strnlen(key, CHECK_LABEL_KEY_MAX + 1) > CHECK_LABEL_KEY_MAX) {
			label_field(field, key, ".key");
			fault(check, field, "must be 1 to %d bytes", CHECK_LABEL_KEY_MAX);
		}
		if (strnlen(request->labels[i]->value, CHECK_LABEL_VALUE_MAX + 1) >
		    CHECK_LABEL_VALUE_MAX) {
			label_field(field, key, ".value");
			fault(check, field, "is longer than %d bytes", CHECK_LABEL_VALUE_MAX);
		}
	}
}

static void check_hold(struct check *check, const Google__Protobuf__Duration *hold)
{
	if (hold == NULL)
		return;
	if (hold->nanos < 0 || hold->nanos > 999999999) {
		fault(check, "hold", "has nanos outside 0 to 999999999");
		return;
	}
	/* Seconds first: they bound the product. */
	if (hold->seconds < CHECK_HOLD_MIN_MS / 1000 || hold->seconds > CHECK_HOLD_MAX_MS / 1000 ||
	    (hold->seconds == CHECK_HOLD_MAX_MS / 1000 && hold->nanos > 0))
		fault(check, "hold", "must be 1 s to 30 d");
}

static void check_place_order(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__PlaceOrderRequest *request = (const void *)message;

	check_word(check, "request_id", request->request_id, true);
	check_word(check, "customer_id", request->customer_id, false);
	check_lines(check, request->lines, request->n_lines);
	check_labels(check, request);
	check_hold(check, request->hold);
}

/* ---- a packed order in one pass ---- */

struct packed {
	const uint8_t *at, *end;
};

/* Tags and lengths of one byte, as all are here; quantities of up to four. */
static bool take_byte(struct packed *packed, uint8_t *ret)
{
	if (packed->at == packed->end || *packed->at >= 0x80)
		return false;
	*ret = *packed->at++;
	return true;
}

static bool take_number(struct packed *packed, uint32_t *ret)
{
	uint32_t number = 0;

	for (unsigned shift = 0; shift < 28 && packed->at < packed->end; shift += 7) {
		uint8_t byte = *packed->at++;

		number |= (uint32_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = number;
			return true;
		}
	}
	return false;
}

static bool take_part(struct packed *packed, struct packed *ret)
{
	uint8_t length;

	if (!take_byte(packed, &length) || length > packed->end - packed->at)
		return false;
	*ret = (struct packed){ packed->at, packed->at + length };
	packed->at += length;
	return true;
}

static bool take_word(struct packed *packed)
{
	struct packed word;

	if (!take_part(packed, &word) || word.at == word.end || word.end - word.at > CHECK_ID_MAX)
		return false;
	while (word.at < word.end && *word.at >= 0x20 && *word.at < 0x7f)
		word.at++;
	return word.at == word.end;
}

static bool take_line(struct packed *packed, uint32_t *ret_quantity)
{
	struct packed line, sku;
	uint8_t tag;

	if (!take_part(packed, &line) || !take_byte(&line, &tag) || tag != 0x0a ||
	    !take_part(&line, &sku) || sku.at == sku.end || sku.end - sku.at > CHECK_SKU_MAX)
		return false;
	while (sku.at < sku.end && sku_characters[*sku.at])
		sku.at++;
	return sku.at == sku.end && take_byte(&line, &tag) && tag == 0x10 &&
	       take_number(&line, ret_quantity) && line.at == line.end;
}

bool check_packed_order(const uint8_t *data, size_t length, bool *ret_wait_for_decision)
{
	struct packed order = { data, data + length };
	bool fine = length > 0, customer = false;
	uint32_t wait = 0, quantity = 0, lines = 0;
	uint64_t sum = 0;
	uint8_t tag;

	while (fine && order.at < order.end && take_byte(&order, &tag)) {
		switch (tag) {
		case 0x0a: /* request_id */
			fine = take_word(&order);
			break;
		case 0x12: /* customer_id */
			fine = customer = take_word(&order);
			break;
		case 0x1a: /* lines */
			fine = take_line(&order, &quantity) && quantity > 0;
			sum += quantity;
			lines++;
			break;
		case 0x30: /* wait_for_decision */
			fine = take_number(&order, &wait);
			break;
		default:
			fine = false;
			break;
		}
	}
	*ret_wait_for_decision = wait != 0;
	/* All lines together may not be above what one SKU may, since they may be of one. */
	return fine && order.at == order.end && customer && lines > 0 && lines <= CHECK_LINES_MAX &&
	       sum <= CHECK_QUANTITY_MAX;
}

/* The parts that every order has: ids, times, version, the longest reason; tags and lengths. */
#define ORDER_BYTES 512
/* A line and, if it is short, its shortage; without the SKU in each of them. */
#define LINE_BYTES 29
/* A label without its key and value. */
#define LABEL_BYTES 8

size_t check_result_max(const Tandem__Order__V1__PlaceOrderRequest *request)
{
	size_t bytes = ORDER_BYTES + strlen(request->customer_id);

	for (size_t i = 0; i < request->n_lines; i++)
		bytes += LINE_BYTES + 2 * strlen(request->lines[i]->sku);
	for (size_t i = 0; i < request->n_labels; i++)
		bytes += LABEL_BYTES + strlen(request->labels[i]->key) +
			 strlen(request->labels[i]->value);
	return RT_MAX(bytes, (size_t)CHECK_ERROR_MAX);
}

static void check_batch_place_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__BatchPlaceOrdersRequest *request = (const void *)message;
	size_t bytes = 0;

	check_count(check, "requests", request->n_requests, CHECK_BATCH_MAX);
	if (check->faults > 0)
		return;
	for (size_t i = 0; i < request->n_requests; i++)
		bytes += check_result_max(request->requests[i]);
	/* A stored order must fit into an answer: check that before it is stored. */
	if (bytes > CHECK_ANSWER_MAX)
		fault(check, "requests",
		      "can get an answer of %zu bytes: at most %d; place fewer in one call", bytes,
		      CHECK_ANSWER_MAX);
}

/* A request whose first field is an order id. */
static void check_order(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__GetOrderRequest *request = (const void *)message;

	check_word(check, "order_id", request->order_id, false);
}

static void check_list_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__ListOrdersRequest *request = (const void *)message;

	check_word(check, "customer_id", request->customer_id, false);
	check_page(check, request->page_size, request->page_token);
	if (protobuf_c_enum_descriptor_get_value(&tandem__order__v1__order_status__descriptor,
						 (int)request->status) == NULL)
		fault(check, "status", "is %d: not a status of an order", (int)request->status);
}

static void check_cancel_order(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__CancelOrderRequest *request = (const void *)message;

	check_order(check, message);
	check_bytes(check, "reason", request->reason, CHECK_REASON_MAX);
}

static void check_batch_confirm_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__BatchConfirmOrdersRequest *request = (const void *)message;

	check_count(check, "requests", request->n_requests, CHECK_BATCH_MAX);
}

static void check_batch_cancel_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__BatchCancelOrdersRequest *request = (const void *)message;

	check_count(check, "requests", request->n_requests, CHECK_BATCH_MAX);
}

static void check_extend_hold(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__ExtendHoldRequest *request = (const void *)message;
	const Google__Protobuf__Timestamp *time = request->hold_expire_time;

	check_order(check, message);
	if (time == NULL)
		fault(check, "hold_expire_time", "is missing");
	else if (time->seconds < 0 || time->seconds > RT_TIME_MS_MAX / 1000)
		fault(check, "hold_expire_time", "is outside the years 1970 to 9999");
	else if (time->nanos < 0 || time->nanos > 999999999)
		fault(check, "hold_expire_time", "has nanos outside 0 to 999999999");
}

static void check_return_order(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Order__V1__ReturnOrderRequest *request = (const void *)message;

	check_order(check, message);
	check_word(check, "return_id", request->return_id, false);
	if (request->n_lines > 0)
		check_lines(check, request->lines, request->n_lines);
	check_bytes(check, "reason", request->reason, CHECK_REASON_MAX);
}

static void check_adjust_stock(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__AdjustStockRequest *request = (const void *)message;

	check_word(check, "request_id", request->request_id, true);
	check_sku(check, "sku", request->sku);
	if (request->delta == 0)
		fault(check, "delta", "is 0: nothing to adjust");
	else if (request->delta < -CHECK_DELTA_MAX || request->delta > CHECK_DELTA_MAX)
		fault(check, "delta", "is %" PRId64 ": -%lld to %lld", request->delta,
		      CHECK_DELTA_MAX, CHECK_DELTA_MAX);
	check_bytes(check, "reason", request->reason, CHECK_REASON_MAX);
}

static void check_batch_adjust_stock(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__BatchAdjustStockRequest *request = (const void *)message;

	check_count(check, "requests", request->n_requests, CHECK_BATCH_MAX);
}

static void check_set_threshold(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__SetLowStockThresholdRequest *request = (const void *)message;

	check_sku(check, "sku", request->sku);
	if (request->low_stock_threshold > CHECK_THRESHOLD_MAX)
		fault(check, "low_stock_threshold", "is %" PRIu64 ": 0 to %llu",
		      request->low_stock_threshold, CHECK_THRESHOLD_MAX);
	check_bytes(check, "reason", request->reason, CHECK_REASON_MAX);
}

static void check_get_stock(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__GetStockRequest *request = (const void *)message;

	check_sku(check, "sku", request->sku);
}

static void check_list_stock(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__ListStockRequest *request = (const void *)message;

	check_page(check, request->page_size, request->page_token);
}

static void check_list_reservations(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Inventory__V1__ListReservationsRequest *request = (const void *)message;

	check_sku(check, "sku", request->sku);
	check_page(check, request->page_size, request->page_token);
}

static void check_filter(struct check *check, const Tandem__Archive__V1__OrderFilter *filter)
{
	if (filter == NULL)
		return;
	check_word(check, "filter.customer_id", filter->customer_id, true);
	if (filter->sku[0] != '\0')
		check_sku(check, "filter.sku", filter->sku);
	check_bytes(check, "filter.label_key", filter->label_key, CHECK_LABEL_KEY_MAX);
	check_bytes(check, "filter.label_value", filter->label_value, CHECK_LABEL_VALUE_MAX);
	if (filter->label_key[0] == '\0' && filter->label_value[0] != '\0')
		fault(check, "filter.label_value", "is given without label_key");
}

static void check_search_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Archive__V1__SearchOrdersRequest *request = (const void *)message;

	check_filter(check, request->filter);
	check_page(check, request->page_size, request->page_token);
}

static void check_export_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Archive__V1__ExportOrdersRequest *request = (const void *)message;

	check_filter(check, request->filter);
	check_bytes(check, "page_token", request->page_token, PAGE_TOKEN_MAX);
}

static void check_list_movements(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Archive__V1__ListStockMovementsRequest *request = (const void *)message;

	check_sku(check, "sku", request->sku);
	check_page(check, request->page_size, request->page_token);
}

static void check_find_orders(struct check *check, const ProtobufCMessage *message)
{
	const Tandem__Archive__V1__FindOrdersRequest *request = (const void *)message;

	check_count(check, "order_ids", request->n_order_ids, CHECK_BATCH_MAX);
	for (size_t i = 0; check->faults == 0 && i < request->n_order_ids; i++)
		if (!check_order_id(request->order_ids[i]))
			fault(check, "order_ids", "has one that is not an order id, number %zu",
			      i + 1);
}

/* The busiest first: the table is searched from the top. */
static const struct {
	const ProtobufCMessageDescriptor *message;
	void (*check)(struct check *check, const ProtobufCMessage *message);
} checks[] = {
	{ &tandem__order__v1__place_order_request__descriptor, check_place_order },
	{ &tandem__order__v1__batch_place_orders_request__descriptor, check_batch_place_orders },
	{ &tandem__order__v1__get_order_request__descriptor, check_order },
	{ &tandem__order__v1__list_orders_request__descriptor, check_list_orders },
	{ &tandem__order__v1__watch_order_request__descriptor, check_order },
	{ &tandem__order__v1__confirm_order_request__descriptor, check_order },
	{ &tandem__order__v1__cancel_order_request__descriptor, check_cancel_order },
	{ &tandem__order__v1__batch_confirm_orders_request__descriptor,
	  check_batch_confirm_orders },
	{ &tandem__order__v1__batch_cancel_orders_request__descriptor, check_batch_cancel_orders },
	{ &tandem__order__v1__extend_hold_request__descriptor, check_extend_hold },
	{ &tandem__order__v1__return_order_request__descriptor, check_return_order },
	{ &tandem__order__v1__explain_order_request__descriptor, check_order },
	{ &tandem__inventory__v1__adjust_stock_request__descriptor, check_adjust_stock },
	{ &tandem__inventory__v1__batch_adjust_stock_request__descriptor,
	  check_batch_adjust_stock },
	{ &tandem__inventory__v1__set_low_stock_threshold_request__descriptor,
	  check_set_threshold },
	{ &tandem__inventory__v1__get_stock_request__descriptor, check_get_stock },
	{ &tandem__inventory__v1__list_stock_request__descriptor, check_list_stock },
	{ &tandem__inventory__v1__get_reservation_request__descriptor, check_order },
	{ &tandem__inventory__v1__list_reservations_request__descriptor, check_list_reservations },
	{ &tandem__archive__v1__search_orders_request__descriptor, check_search_orders },
	{ &tandem__archive__v1__get_archived_order_request__descriptor, check_order },
	{ &tandem__archive__v1__list_stock_movements_request__descriptor, check_list_movements },
	{ &tandem__archive__v1__export_orders_request__descriptor, check_export_orders },
	{ &tandem__archive__v1__find_orders_request__descriptor, check_find_orders },
};

bool check_request(const ProtobufCMessage *request, struct rt_status *status)
{
	struct check check = { .status = status };

	for (size_t i = 0; i < RT_LENGTH(checks); i++) {
		if (checks[i].message != request->descriptor)
			continue;
		checks[i].check(&check, request);
		break;
	}
	return check.faults == 0;
}

bool check_call(struct rt_call *call, const ProtobufCMessage *request)
{
	struct rt_status status = { .code = 0 };
	bool fine = check_request(request, &status);

	if (!fine)
		rt_call_fail(call, &status);
	rt_status_done(&status);
	return fine;
}

size_t check_page_size(int32_t page_size)
{
	if (page_size <= 0)
		return CHECK_PAGE_STANDARD;
	return RT_MIN((size_t)page_size, (size_t)CHECK_PAGE_MAX);
}

/* Whether these are 26 digits of which the last one's lowest two bits are CHECK_BUCKET_MARK. */
static bool has_bucket(const char *digits)
{
	size_t length = 0;
	int digit = -1, last = -1;

	while (length < RT_BASE32_128 && (digit = rt_base32_digit(digits[length])) >= 0) {
		last = digit;
		length++;
	}
	return length == RT_BASE32_128 && digits[length] == '\0' && (last & 3) == CHECK_BUCKET_MARK;
}

bool check_order_id(const char *order_id)
{
	return strncmp(order_id, "ord_", 4) == 0 &&
	       (rt_base32_128_valid(order_id + 4) || has_bucket(order_id + 4));
}

int check_order_bucket(const char *order_id)
{
	if (strncmp(order_id, "ord_", 4) != 0 || !has_bucket(order_id + 4))
		return -1;
	return rt_base32_digit(order_id[4]) << 5 | rt_base32_digit(order_id[5]);
}
