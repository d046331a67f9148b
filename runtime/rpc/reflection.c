/* reflection.c - grpc.reflection.v1 and v1alpha, answered from the embedded descriptor set.
 *
 * The two are the same on the wire, so one service answers under both names. Each answer holds one
 * file; clients ask for what it imports. No type has extensions. */
#include <grpc/reflection/v1/reflection.pb-c.h>
#include <string.h>

#include "server_internal.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

struct rpc_reflection {
	struct rpc_server_plugin plugin;
	Grpc__Reflection__V1__ServerReflection_Service service;
	struct rt_server *server;
	struct rt_list streams;
};

struct stream {
	struct rt_list link;
	struct rpc_reflection *reflection;
	struct rt_call *call;
	Grpc__Reflection__V1__ServerReflectionResponse_Closure closure;
};

#define REQUEST(name)  GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define RESPONSE(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

static void answer_error(const struct stream *stream, reflection_response *response, int code,
			 const char *message)
{
	Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;
	char *text = rt_strdup(message);

	error.error_code = code;
	error.error_message = text;
	response->message_response_case = RESPONSE(ERROR_RESPONSE);
	response->error_response = &error;
	stream->closure(response, stream->call);
	free(text);
}

static void answer_file(const struct stream *stream, reflection_response *response,
			const struct rpc_file *file)
{
	Grpc__Reflection__V1__FileDescriptorResponse found =
		GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
	ProtobufCBinaryData bytes;

	if (file == NULL) {
		answer_error(stream, response, RT_CODE_NOT_FOUND, "no such file or symbol");
		return;
	}
	bytes.data = (uint8_t *)(uintptr_t)file->data;
	bytes.len = file->length;
	found.n_file_descriptor_proto = 1;
	found.file_descriptor_proto = &bytes;
	response->message_response_case = RESPONSE(FILE_DESCRIPTOR_RESPONSE);
	response->file_descriptor_response = &found;
	stream->closure(response, stream->call);
}

#define SERVICES_MAX 32
static void answer_services(const struct stream *stream, reflection_response *response)
{
	Grpc__Reflection__V1__ListServiceResponse list =
		GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
	Grpc__Reflection__V1__ServiceResponse services[SERVICES_MAX], *pointers[SERVICES_MAX];
	const struct rt_server *server = stream->reflection->server;

	for (size_t i = 0; i < RT_MIN(server->service_count, (size_t)SERVICES_MAX); i++) {
		grpc__reflection__v1__service_response__init(&services[i]);
		services[i].name = (char *)(uintptr_t)server->service_names[i];
		pointers[i] = &services[i];
		list.n_service = i + 1;
	}
	list.service = pointers;
	response->message_response_case = RESPONSE(LIST_SERVICES_RESPONSE);
	response->list_services_response = &list;
	stream->closure(response, stream->call);
}

/* proto3 knows no extensions: a type that is there has none. */
static void answer_extensions(const struct stream *stream, reflection_response *response,
			      char *type)
{
	Grpc__Reflection__V1__ExtensionNumberResponse numbers =
		GRPC__REFLECTION__V1__EXTENSION_NUMBER_RESPONSE__INIT;

	if (rpc_descriptors_symbol(type) == NULL) {
		answer_error(stream, response, RT_CODE_NOT_FOUND, "no such type");
		return;
	}
	numbers.base_type_name = type;
	response->message_response_case = RESPONSE(ALL_EXTENSION_NUMBERS_RESPONSE);
	response->all_extension_numbers_response = &numbers;
	stream->closure(response, stream->call);
}

static void send_answer(const struct stream *stream, const reflection_request *request)
{
	reflection_response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;

	response.valid_host = request->host;
	response.original_request = (reflection_request *)(uintptr_t)request;
	switch (request->message_request_case) {
	case REQUEST(FILE_BY_FILENAME):
		answer_file(stream, &response, rpc_descriptors_file(request->file_by_filename));
		return;
	case REQUEST(FILE_CONTAINING_SYMBOL):
		answer_file(stream, &response,
			    rpc_descriptors_symbol(request->file_containing_symbol));
		return;
	case REQUEST(LIST_SERVICES):
		answer_services(stream, &response);
		return;
	case REQUEST(ALL_EXTENSION_NUMBERS_OF_TYPE):
		answer_extensions(stream, &response, request->all_extension_numbers_of_type);
		return;
	case REQUEST(FILE_CONTAINING_EXTENSION):
		answer_error(stream, &response, RT_CODE_NOT_FOUND, "there are no extensions");
		return;
	default:
		answer_error(stream, &response, RT_CODE_INVALID_ARGUMENT, "an empty request");
		return;
	}
}

static void end_stream(struct stream *stream)
{
	rt_list_remove(&stream->link);
	rt_call_finish(stream->call);
	free(stream);
}

static void on_stream_drained(struct rt_call *call, void *user);

static void on_question(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	struct stream *stream = user;

	if (message == NULL) {
		end_stream(stream);
		return;
	}
	send_answer(stream, (const reflection_request *)(const void *)message);
	/* Reads the next question once the client has taken the answer. */
	rt_call_on_drained(call, on_stream_drained, stream);
}

static void on_stream_drained(struct rt_call *call, void *user)
{
	rt_call_read(call, on_question, user);
}

static void reflection_server_reflection_info(
	Grpc__Reflection__V1__ServerReflection_Service *service, const reflection_request *request,
	Grpc__Reflection__V1__ServerReflectionResponse_Closure closure, void *closure_data)
{
	struct stream *stream = rt_alloc(sizeof(*stream));

	(void)request;
	stream->reflection = RT_CONTAINER_OF(service, struct rpc_reflection, service);
	stream->call = closure_data;
	stream->closure = closure;
	rt_list_init(&stream->link);
	rt_list_push(&stream->reflection->streams, &stream->link);
	rt_call_read(stream->call, on_question, stream);
}

/* Ends the streams: they wait for questions, not for answers. */
static void reflection_drain(struct rpc_server_plugin *plugin)
{
	struct rpc_reflection *reflection = RT_CONTAINER_OF(plugin, struct rpc_reflection, plugin);

	while (!rt_list_empty(&reflection->streams))
		/* Each leaves the list, elsewhere: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		end_stream(RT_CONTAINER_OF(reflection->streams.next, struct stream, link));
}

static void reflection_free(struct rpc_server_plugin *plugin)
{
	free(RT_CONTAINER_OF(plugin, struct rpc_reflection, plugin));
}

struct rpc_server_plugin *rpc_reflection_new(struct rt_server *server)
{
	struct rpc_reflection *reflection = rt_alloc(sizeof(*reflection));
	ProtobufCService *service = (ProtobufCService *)&reflection->service;

	reflection->plugin.services[0] = (struct rpc_server_service){ .service = service };
	reflection->plugin.services[1] =
		(struct rpc_server_service){ .service = service,
					     .name = "grpc.reflection.v1alpha.ServerReflection" };
	reflection->plugin.drain = reflection_drain;
	reflection->plugin.free = reflection_free;
	reflection->service = (Grpc__Reflection__V1__ServerReflection_Service)
		GRPC__REFLECTION__V1__SERVER_REFLECTION__INIT(reflection_);
	reflection->server = server;
	rt_list_init(&reflection->streams);
	return &reflection->plugin;
}
