/* fuzz_wire.c - bytes as a message of every kind that comes from outside: events, details of errors,
 * requests. What rt_wire_check accepts, and protobuf-c can unpack, must print as JSON and as text, and pass or fail the
 * check of the contract's limits. What the check of packed orders accepts must pass all of that. What the archive reads of an
 * OrderPlaced must be what protobuf-c reads. The first byte selects the kind. */
#include <string.h>

#include "archive/store_content.h"
#include "base/base.h"
#include "check.h"
#include "ctl/ctl.h"
#include "fuzz.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

static const ProtobufCMessageDescriptor *pick(uint8_t which)
{
	static const char *const types[] = {
		"tandem.order.v1.OrderPlaced",
		"tandem.order.v1.OrderReserved",
		"tandem.order.v1.OrderRejected",
		"tandem.order.v1.OrderConfirmed",
		"tandem.order.v1.OrderCancelled",
		"tandem.order.v1.OrderExpired",
		"tandem.order.v1.OrderSettled",
		"tandem.inventory.v1.InventoryReserved",
		"tandem.inventory.v1.InventoryUnavailable",
		"tandem.inventory.v1.InventoryReleased",
		"tandem.inventory.v1.InventoryCommitted",
		"tandem.inventory.v1.StockAdjusted",
		"tandem.inventory.v1.StockLow",
		"google.rpc.BadRequest",
		"google.rpc.ErrorInfo",
		"google.rpc.RetryInfo",
		"google.rpc.PreconditionFailure",
	};
	static const ProtobufCServiceDescriptor *const services[] = {
		&tandem__order__v1__order_service__descriptor,
		&tandem__inventory__v1__inventory_service__descriptor,
	};
	size_t left = which;

	if (left < RT_LENGTH(types))
		return ctl_descriptor(types[left]);
	left -= RT_LENGTH(types);
	for (size_t i = 0; i < RT_LENGTH(services); i++) {
		for (unsigned m = 0; m < services[i]->n_methods; m++, left -= 2) {
			if (left == 0)
				return services[i]->methods[m].input;
			if (left == 1)
				return services[i]->methods[m].output;
		}
	}
	return NULL;
}

/* What printing `json` (which it takes) writes to stdout; freed by the caller. */
static char *printed(json_t *json, bool people)
{
	FILE *terminal = stdout;
	char *text = NULL;
	size_t length = 0;

	stdout = open_memstream(&text, &length);
	if (people) {
		ctl_json_block(json, 0);
		json_decref(json);
	} else {
		ctl_json_print(json);
	}
	fclose(stdout);
	stdout = terminal;
	return text;
}

static void show(const ProtobufCMessage *message, bool defaults)
{
	json_t *json = ctl_message_json(message, defaults);
	struct rt_buf line = { 0 };
	char *text;

	ctl_json_line(json, &line);
	rt_buf_add(&line, "\n", 1);
	fuzz_check_shown(line.data);
	rt_buf_done(&line);
	text = printed(json_incref(json), true);
	fuzz_check_shown(text);
	free(text);
	text = printed(json, false);
	fuzz_check_json(text);
	free(text);
}

/* Whether the check of packed orders accepts it; *ret_wait is what it read of it. */
static bool accepted_packed(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data,
			    size_t size, bool *ret_wait)
{
	return descriptor == &tandem__order__v1__place_order_request__descriptor &&
	       check_packed_order(data, size, ret_wait);
}

static bool is(const struct archive_text *text, const char *expected)
{
	return text->length == strlen(expected) && memcmp(text->data, expected, text->length) == 0;
}

/* `expected`: NULL if protobuf-c reads none. */
static void must_be(const struct archive_content *content,
		    const Tandem__Order__V1__OrderContent *expected)
{
	FUZZ_MUST((content != NULL) == (expected != NULL));
	if (content == NULL || expected == NULL)
		return;
	FUZZ_MUST(is(&content->customer, expected->customer_id));
	FUZZ_MUST(content->line_count == expected->n_lines);
	FUZZ_MUST(content->label_count == expected->n_labels);
	for (size_t i = 0; i < content->line_count; i++)
		FUZZ_MUST(is(&content->lines[i].sku, expected->lines[i]->sku) &&
			  content->lines[i].quantity == expected->lines[i]->quantity);
	for (size_t i = 0; i < content->label_count; i++)
		FUZZ_MUST(is(&content->labels[i].key, expected->labels[i]->key) &&
			  is(&content->labels[i].value, expected->labels[i]->value));
}

/* `message`: what rt_wire_check has accepted; NULL: it has not, and only must it be survived. */
static void read_placed(const uint8_t *data, size_t size, const ProtobufCMessage *message)
{
	const struct archive_text text = { (const char *)data, size };
	struct rt_arena arena = { 0 };
	const struct archive_content *content = archive_content_read(&text, &arena);

	if (message != NULL)
		must_be(content, ((const Tandem__Order__V1__OrderPlaced *)message)->content);
	rt_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *descriptor = size > 0 ? pick(data[0]) : NULL;
	struct rt_status status = { 0 };
	struct rt_wire_fault fault;
	ProtobufCMessage *message;
	bool packed, placed, wait = false;

	if (descriptor == NULL)
		return -1;
	data++;
	size--;
	packed = accepted_packed(descriptor, data, size, &wait);
	placed = descriptor == &tandem__order__v1__order_placed__descriptor;
	if (placed)
		read_placed(data, size, NULL);
	if (!rt_wire_check(descriptor, data, size, &fault)) {
		FUZZ_MUST(!packed);
		FUZZ_MUST(fault.what != NULL && rt_text_printable(fault.field, NULL));
		return 0;
	}
	message = protobuf_c_message_unpack(descriptor, NULL, size, data);
	if (message == NULL) { /* protobuf-c cannot merge a message with a oneof that comes twice */
		FUZZ_MUST(!packed);
		return 0;
	}
	if (placed)
		read_placed(data, size, message);
	show(message, false);
	show(message, true);
	if (packed)
		FUZZ_MUST(((Tandem__Order__V1__PlaceOrderRequest *)message)->wait_for_decision ==
			  wait);
	if (!check_request(message, &status))
		FUZZ_MUST(!packed && status.code == RT_CODE_INVALID_ARGUMENT &&
			  rt_text_printable(status.message, NULL));
	rt_status_done(&status);
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}
