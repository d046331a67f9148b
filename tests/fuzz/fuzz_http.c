/* fuzz_http.c - bodies of calls over HTTP, in every form. Whatever comes is taken or refused with a reason. What is taken is messages
 * within their bounds; of JSON they are messages as gRPC would take them, and written as JSON they stand for the same bytes.
 *
 * The first byte selects the form, the second the type; the rest is the body. */
#include "fuzz.h"
#include "rpc/json.h"
#include "service/http_protocol.h"
#include "tandem/archive/v1/archive_service.pb-c.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define MOST 1024

static const ProtobufCMessageDescriptor *const types[] = {
	&tandem__order__v1__place_order_request__descriptor,
	&tandem__order__v1__batch_place_orders_request__descriptor,
	&tandem__order__v1__stream_orders_request__descriptor,
	&tandem__order__v1__place_order_result__descriptor, /* oneof, 64 bits, times, an Any */
	&tandem__inventory__v1__adjust_stock_request__descriptor,
	&tandem__archive__v1__search_orders_request__descriptor,
};

static void pick_format(uint8_t which, struct http_format *ret)
{
	static const char *const names[] = {
		"application/json",          "application/proto",    "application/connect+json",
		"application/connect+proto", "application/grpc-web", "application/grpc-web-text",
	};

	FUZZ_MUST(http_format_of(names[which % RT_LENGTH(names)], ret));
}

/* Bytes → JSON → the same bytes, but for the order of fields and for what has its default value: so once more. */
static void check_same(const ProtobufCMessageDescriptor *type, const ProtobufCBinaryData *message)
{
	struct rt_wire_fault fault;
	struct rt_buf bytes = { 0 };
	json_t *json, *again;

	FUZZ_MUST(rt_wire_check(type, message->data, message->len, &fault));
	json = rt_json_of_bytes(type, message->data, message->len, RT_JSON_MAPPING);
	FUZZ_MUST(json != NULL);
	FUZZ_MUST(rt_json_to_bytes(type, json, &bytes, &fault));
	again = rt_json_of_bytes(type, bytes.data, bytes.length, RT_JSON_MAPPING);
	FUZZ_MUST(again != NULL && json_equal(json, again));
	json_decref(json);
	json_decref(again);
	rt_buf_done(&bytes);
}

static void check_refused(const struct rt_status *status)
{
	struct rt_buf text = { 0 };
	json_t *json;

	FUZZ_MUST(status->code != 0 && status->message != NULL && status->message[0] != '\0');
	FUZZ_MUST(http_error_write(status, &text) >= 400);
	json = json_loadb(text.data, text.length, 0, NULL);
	FUZZ_MUST(json != NULL);
	json_decref(json);
	rt_buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz input = { data, data + size };
	struct http_messages messages = { 0 };
	struct rt_status status = { 0 };
	const ProtobufCMessageDescriptor *type;
	struct rt_buf body = { 0 };
	struct http_format format;

	json_object_seed(1); /* a run is the same each time */
	pick_format(fuzz_byte(&input), &format);
	type = types[fuzz_byte(&input) % RT_LENGTH(types)];
	rt_buf_add(&body, input.at, (size_t)(input.end - input.at));
	if (http_messages_read(&format, type, &body, MOST, &messages, &status)) {
		FUZZ_MUST(status.code == 0);
		for (size_t i = 0; i < messages.count; i++) {
			FUZZ_MUST(messages.list[i].len <=
				  (format.protocol == HTTP_CONNECT && !format.json ? size : MOST));
			if (format.json)
				check_same(type, &messages.list[i]);
		}
	} else {
		check_refused(&status);
	}
	http_messages_done(&messages);
	rt_status_done(&status);
	rt_buf_done(&body);
	return 0;
}
