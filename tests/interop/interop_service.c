/* interop_service.c - grpc.testing.TestService: answers with the size, status and intervals that a request
 * asks for.
 *
 * A stream of answers, in the order of events:
 *   next_answer      waits for the interval of the next answer
 *     send_answer    sends it; when the client is slow, waits until the queue is drained
 *   answers_done     StreamingOutputCall ends; FullDuplexCall reads the next request */
#include "interop_service.h"

#include <string.h>

#define SIZE_MAX_BYTES (8 * 1024 * 1024)

struct answers {
	struct interop_service *service;
	struct rt_call *call;
	Grpc__Testing__StreamingOutputCallResponse_Closure closure;
	const Grpc__Testing__StreamingOutputCallRequest *request;
	size_t next;
	bool duplex;
	struct rt_timer timer;
};

/* The custom_metadata test expects these back. */
static void echo_metadata(struct rt_call *call)
{
	static const char initial[] = "x-grpc-test-echo-initial";
	static const char trailing[] = "x-grpc-test-echo-trailing-bin";
	size_t length;
	const char *value;

	value = rt_call_metadata(call, initial, &length);
	if (value != NULL)
		rt_call_set_initial(call, initial, value, length);
	value = rt_call_metadata(call, trailing, &length);
	if (value != NULL)
		rt_call_set_trailing(call, trailing, value, length);
}

static bool size_is_valid(int32_t size)
{
	return size >= 0 && size <= SIZE_MAX_BYTES;
}

static void echo_status(struct rt_call *call, const Grpc__Testing__EchoStatus *wanted)
{
	rt_call_failf(call, wanted->code, "%s", wanted->message);
}

/* ---- unary ---- */

static void interop_empty_call(Grpc__Testing__TestService_Service *service,
			       const Grpc__Testing__Empty *request,
			       Grpc__Testing__Empty_Closure closure, void *closure_data)
{
	Grpc__Testing__Empty response = GRPC__TESTING__EMPTY__INIT;

	(void)service;
	(void)request;
	closure(&response, closure_data);
}

static void interop_unary_call(Grpc__Testing__TestService_Service *service,
			       const Grpc__Testing__SimpleRequest *request,
			       Grpc__Testing__SimpleResponse_Closure closure, void *closure_data)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	(void)service;
	echo_metadata(closure_data);
	if (request->response_status != NULL && request->response_status->code != 0) {
		echo_status(closure_data, request->response_status);
		return;
	}
	if (!size_is_valid(request->response_size)) {
		rt_call_failf(closure_data, RT_CODE_INVALID_ARGUMENT, "invalid size: %d",
			      request->response_size);
		return;
	}
	payload.body.len = (size_t)request->response_size;
	payload.body.data = rt_alloc(payload.body.len + 1);
	response.payload = &payload;
	closure(&response, closure_data);
	free(payload.body.data);
}

/* ---- streaming in ---- */

struct input {
	struct interop_service *service;
	Grpc__Testing__StreamingInputCallResponse_Closure closure;
	int32_t size;
};

static void on_input(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	struct input *input = user;
	Grpc__Testing__StreamingInputCallResponse response =
		GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;

	if (message != NULL) {
		const Grpc__Testing__StreamingInputCallRequest *request = (const void *)message;

		if (request->payload != NULL)
			input->size += (int32_t)request->payload->body.len;
		rt_call_read(call, on_input, input);
		return;
	}
	response.aggregated_payload_size = input->size;
	if (rt_call_cancelled(call)) {
		input->service->cancelled++;
		rt_call_failf(call, RT_CODE_CANCELLED, "half a stream");
	} else {
		input->closure(&response, call);
	}
	free(input);
}

static void interop_streaming_input_call(Grpc__Testing__TestService_Service *service,
					 const Grpc__Testing__StreamingInputCallRequest *request,
					 Grpc__Testing__StreamingInputCallResponse_Closure closure,
					 void *closure_data)
{
	struct input *input = rt_alloc(sizeof(*input));

	(void)request;
	input->service = RT_CONTAINER_OF(service, struct interop_service, base);
	input->closure = closure;
	rt_call_read(closure_data, on_input, input);
}

/* ---- streaming out ---- */

static void next_answer(struct answers *answers);
static void on_request(struct rt_call *call, const ProtobufCMessage *message, void *user);

static void answers_free(struct answers *answers)
{
	rt_call_on_cancel(answers->call, NULL, NULL);
	rt_timer_stop(answers->service->loop, &answers->timer);
	free(answers);
}

static void answers_fail(struct answers *answers, int code, const char *message)
{
	rt_call_failf(answers->call, code, "%s", message);
	answers_free(answers);
}

static void answers_cancelled(struct rt_call *call, void *user)
{
	struct answers *answers = user;

	(void)call;
	answers->service->cancelled++;
	answers_fail(answers, RT_CODE_CANCELLED, "cancelled");
}

static void answers_done(struct answers *answers)
{
	const Grpc__Testing__EchoStatus *wanted = answers->request->response_status;

	if (wanted != NULL && wanted->code != 0) {
		echo_status(answers->call, wanted);
		answers_free(answers);
	} else if (answers->duplex) {
		rt_call_read(answers->call, on_request, answers);
	} else {
		rt_call_finish(answers->call);
		answers_free(answers);
	}
}

static void on_drained(struct rt_call *call, void *user)
{
	(void)call;
	next_answer(user);
}

static void send_answer(struct rt_timer *timer)
{
	struct answers *answers = RT_CONTAINER_OF(timer, struct answers, timer);
	const Grpc__Testing__ResponseParameters *wanted =
		answers->request->response_parameters[answers->next++];
	Grpc__Testing__StreamingOutputCallResponse response =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	if (!size_is_valid(wanted->size)) {
		answers_fail(answers, RT_CODE_INVALID_ARGUMENT, "invalid size");
		return;
	}
	payload.body.len = (size_t)wanted->size;
	payload.body.data = rt_alloc(payload.body.len + 1);
	response.payload = &payload;
	answers->closure(&response, answers->call);
	free(payload.body.data);
	if (rt_call_queued_bytes(answers->call) > RT_CALL_QUEUE_MAX_BYTES)
		rt_call_on_drained(answers->call, on_drained, answers);
	else
		next_answer(answers);
}

static void next_answer(struct answers *answers)
{
	const Grpc__Testing__StreamingOutputCallRequest *request = answers->request;

	if (answers->next == request->n_response_parameters) {
		answers_done(answers);
		return;
	}
	rt_timer_start(answers->service->loop, &answers->timer,
		       RT_MAX(request->response_parameters[answers->next]->interval_us, 0) / 1000,
		       send_answer);
}

static struct answers *answers_new(Grpc__Testing__TestService_Service *service,
				   Grpc__Testing__StreamingOutputCallResponse_Closure closure,
				   struct rt_call *call)
{
	struct answers *answers = rt_alloc(sizeof(*answers));

	answers->service = RT_CONTAINER_OF(service, struct interop_service, base);
	answers->closure = closure;
	answers->call = call;
	echo_metadata(call);
	rt_call_on_cancel(call, answers_cancelled, answers);
	return answers;
}

static void interop_streaming_output_call(
	Grpc__Testing__TestService_Service *service,
	const Grpc__Testing__StreamingOutputCallRequest *request,
	Grpc__Testing__StreamingOutputCallResponse_Closure closure, void *closure_data)
{
	struct answers *answers = answers_new(service, closure, closure_data);

	answers->request = request;
	next_answer(answers);
}

static void on_request(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	struct answers *answers = user;

	if (message == NULL) {
		rt_call_finish(call);
		answers_free(answers);
		return;
	}
	answers->request = (const void *)message;
	answers->next = 0;
	next_answer(answers);
}

static void interop_full_duplex_call(Grpc__Testing__TestService_Service *service,
				     const Grpc__Testing__StreamingOutputCallRequest *request,
				     Grpc__Testing__StreamingOutputCallResponse_Closure closure,
				     void *closure_data)
{
	struct answers *answers = answers_new(service, closure, closure_data);

	(void)request;
	answers->duplex = true;
	rt_call_read(closure_data, on_request, answers);
}

void interop_service_init(struct interop_service *service, struct rt_loop *loop)
{
	service->base =
		(Grpc__Testing__TestService_Service)GRPC__TESTING__TEST_SERVICE__INIT(interop_);
	service->loop = loop;
	service->cancelled = 0;
}
