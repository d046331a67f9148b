/* fuzz_wire.c - bytes as a message of every kind that comes from outside: events, details of errors,
 * requests. What rt_wire_check accepts, and protobuf-c can unpack, must print as JSON and as text, and pass or fail the
 * check of the contract's limits. What the check of packed orders accepts must pass all of that. The first byte
 * selects the kind. */
#include "base/base.h"
#include "check.h"
#include "ctl/ctl.h"
#include "fuzz.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const ProtobufCMessageDescriptor *descriptor = size > 0 ? pick(data[0]) : NULL;
	struct rt_status status = { 0 };
	struct rt_wire_fault fault;
	ProtobufCMessage *message;
	bool packed, wait = false;

	if (descriptor == NULL)
		return -1;
	data++;
	size--;
	packed = accepted_packed(descriptor, data, size, &wait);
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
