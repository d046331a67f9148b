/* ask_archive.c - what the gateway asks the archive for calls about orders that the order service does not have, and what it
 * makes of the answers. archived.c says when. */
#include <string.h>

#include "gateway_internal.h"

const char *gateway_order_id(const ProtobufCMessage *request)
{
	const ProtobufCFieldDescriptor *field =
		protobuf_c_message_descriptor_get_field_by_name(request->descriptor, "order_id");
	const char *order_id = "";

	if (field != NULL && field->type == PROTOBUF_C_TYPE_STRING &&
	    field->label == PROTOBUF_C_LABEL_NONE)
		memcpy(&order_id, (const char *)request + field->offset, sizeof(order_id));
	return order_id;
}

/* ---- asking ---- */

unsigned gateway_method_index(const ProtobufCServiceDescriptor *descriptor, const char *method)
{
	return (unsigned)(protobuf_c_service_descriptor_get_method_by_name(descriptor, method) -
			  descriptor->methods);
}

static void ask(struct gateway *gateway, const char *method, struct rt_call *call,
		const ProtobufCMessage *request, struct rt_client_op *op)
{
	int64_t remaining_ms = rt_call_remaining_ms(call);

	op->traceparent = rt_call_traceparent(call);
	op->tracestate = rt_call_tracestate(call);
	op->cause = rt_call_span(call);
	op->caller = rt_call_identity(call);
	op->caller_call = call;
	op->timeout_ms =
		remaining_ms == INT64_MAX ? gateway->options.timeout_ms : RT_MAX(remaining_ms, 1);
	rt_client_start(gateway->options.archive,
			gateway_method_index(gateway->archive.client->descriptor, method), request,
			op);
}

void gateway_archived_ask(struct gateway *gateway, struct rt_call *call, const char *order_id,
			  struct rt_client_op *op)
{
	Tandem__Archive__V1__GetArchivedOrderRequest request =
		TANDEM__ARCHIVE__V1__GET_ARCHIVED_ORDER_REQUEST__INIT;

	request.order_id = (char *)(uintptr_t)order_id;
	ask(gateway, "GetArchivedOrder", call, &request.base, op);
}

void gateway_archived_search(struct gateway *gateway, struct rt_call *call,
			     const Tandem__Archive__V1__SearchOrdersRequest *request,
			     struct rt_client_op *op)
{
	ask(gateway, "SearchOrders", call, &request->base, op);
}

const Tandem__Order__V1__Order *gateway_archived_settled(const archived_response *response)
{
	const Tandem__Archive__V1__ArchivedOrder *archived =
		response == NULL ? NULL : response->order;

	return archived != NULL && archived->order != NULL && archived->order->settled
		       ? archived->order
		       : NULL;
}

void gateway_archived_away(struct rt_status *to, const struct rt_status *from, const char *what)
{
	if (from->code == RT_CODE_RESOURCE_EXHAUSTED || from->code == RT_CODE_DEADLINE_EXCEEDED ||
	    from->code == RT_CODE_INVALID_ARGUMENT) {
		rt_status_copy(to, from);
		return;
	}
	rt_status_set(to, RT_CODE_UNAVAILABLE, "%s, and the archive cannot be asked: %s", what,
		      from->message == NULL ? rt_code_name(from->code) : from->message);
	rt_status_info(to, "ARCHIVE_AWAY");
	rt_status_retry(to, GATEWAY_ARCHIVE_RETRY_MS);
}

const char *gateway_archived_status(const Tandem__Order__V1__Order *order)
{
	static const char prefix[] = "ORDER_STATUS_";
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
		&tandem__order__v1__order_status__descriptor, (int)order->status);

	return value == NULL ? "settled" : value->name + sizeof(prefix) - 1;
}

void gateway_archived_refuses(struct rt_status *status, const Tandem__Order__V1__Order *order)
{
	static const char reason[] = "ORDER_ARCHIVED";
	char *text = rt_printf("order %s is %s, and archived: it cannot be changed any more",
			       order->order_id, gateway_archived_status(order));

	rt_status_set(status, RT_CODE_FAILED_PRECONDITION, "%s", text);
	rt_status_info(status, reason);
	rt_status_precondition(status, reason, order->order_id, text);
	free(text);
}
