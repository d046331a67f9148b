/* server_arrival.c - calls come. Each takes a call that was armed for its method, and another is armed
 * in its place. Calls of unknown methods come as generic ones and are answered UNIMPLEMENTED. */
#include <grpc/slice.h>

#include "server_internal.h"

static void handle_arrived(struct server_call *call)
{
	struct rt_server *server = call->server;
	struct server_method *method = call->method;
	grpc_byte_buffer *buffer = RT_TAKE(call->received);
	struct rt_status status = { 0 };
	struct rpc_bytes bytes = { 0 };

	rpc_call_begin(&call->base, method->service, &method->base);
	if ((int64_t)server->active_count > server->calls_max && !method->always) {
		rpc_call_refuse(&call->base, &server->busy);
	} else if (server->draining && !method->always) {
		rpc_call_refuse(&call->base, &server->leaving);
	} else if (method->base.client_streams) {
		rpc_server_watch(&call->base);
		rpc_call_handle(&call->base, NULL, 0);
	} else if (buffer == NULL) {
		rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "the request message is missing");
		rpc_call_refuse(&call->base, &status);
	} else {
		if (method->base.server_streams)
			rpc_server_watch(&call->base);
		if (rpc_bytes_read(&bytes, buffer)) {
			rpc_call_handle(&call->base, bytes.data, bytes.length);
		} else {
			rpc_server_set_compressed(call, &status);
			rpc_call_refuse(&call->base, &status);
		}
		rpc_bytes_done(&bytes);
		buffer = NULL;
	}
	if (buffer != NULL)
		grpc_byte_buffer_destroy(buffer);
	rt_status_done(&status);
}

static void call_arrived(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, arrive_tag);
	struct rt_server *server = call->server;
	struct server_method *method = call->method;

	server->armed_count--;
	if (!ok) { /* the server shuts down */
		rpc_server_call_release(call);
		rpc_server_check_drained(server);
		return;
	}
	if (!server->closing)
		rpc_server_arm(server, method);
	rt_list_push(&server->active, &call->link);
	server->active_count++;
	handle_arrived(call);
}

static void unknown_arrived(struct rpc_tag *tag, bool ok)
{
	struct server_call *call = RT_CONTAINER_OF(tag, struct server_call, arrive_tag);
	struct rt_server *server = call->server;

	server->armed_count--;
	if (!ok) {
		rpc_server_call_release(call);
		rpc_server_check_drained(server);
		return;
	}
	if (!server->closing)
		rpc_server_arm(server, NULL);
	rt_list_push(&server->active, &call->link);
	server->active_count++;
	call->end_due = true;
	call->base.ended = true;
	rt_status_set(&call->status, RT_CODE_UNIMPLEMENTED, "unknown method %.*s",
		      (int)RT_MIN(GRPC_SLICE_LENGTH(call->details.method), (size_t)200),
		      (const char *)GRPC_SLICE_START_PTR(call->details.method));
	grpc_call_details_destroy(&call->details);
	rpc_server_send_next(call);
}

void rpc_server_arm(struct rt_server *server, struct server_method *method)
{
	struct server_call *call = rpc_server_call_new(server);
	grpc_completion_queue *cq = rpc_queue_grpc(server->queue);
	grpc_call_error error;

	call->method = method;
	server->armed_count++;
	if (method != NULL) {
		error = grpc_server_request_registered_call(
			server->grpc, method->registered, &call->grpc, &call->deadline,
			&call->metadata, method->base.client_streams ? NULL : &call->received, cq,
			cq, rpc_queue_tag(&call->arrive_tag, call_arrived));
	} else {
		grpc_call_details_init(&call->details);
		error = grpc_server_request_call(server->grpc, &call->grpc, &call->details,
						 &call->metadata, cq, cq,
						 rpc_queue_tag(&call->arrive_tag, unknown_arrived));
	}
	if (error != GRPC_CALL_OK) {
		RT_LOG(RT_ERROR, "gRPC takes no more calls",
		       RT_S("reason", grpc_call_error_to_string(error)));
		server->armed_count--;
		rpc_server_call_release(call);
	}
}
