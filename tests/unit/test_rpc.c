/* Servers and clients of all four kinds, over gRPC on the loopback and within the process: the
 * same cases for both, then what only one of them has. */
#include <google/rpc/status.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>
#include <grpc/reflection/v1/reflection.pb-c.h>
#include <grpc/reflection/v1alpha/reflection.pb-c.h>
#include <interop_service.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <tandem/order/v1/order_service.pb-c.h>
#include <time.h>
#include <unistd.h>

#include "details.h"
#include "loopback.h"
#include "rpc/call_internal.h"
#include "rpc/rpc.h"
#include "rpc/server_internal.h"
#include "run.h"
#include "run_until.h"

/* ---- a server and a client on one loop ---- */

struct held {
	struct rt_call *call;
	Grpc__Testing__SimpleResponse_Closure closure;
	int cancelled;
};
static struct world {
	struct rt_loop *loop;
	struct rt_readiness *readiness;
	struct rt_metrics *metrics;
	struct rt_server *server; /* this and `channel`: NULL within the process */
	char address[64];
	struct rt_channel *channel;
	ProtobufCService *client;
	struct interop_service service;
	/* What UnaryCall does; NULL: what the interop service does. */
	void (*on_unary)(const Grpc__Testing__SimpleRequest *request,
			 Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call);
	struct held held[16];
	int held_count;
	int drained, freed, ended; /* the last: probes */
	/* Of the fault hook: a step to fail or delay. */
	const char *fault_step;
	int fault_rc, faults_asked;
	int64_t fault_delay_ms;
} world;
static void (*standard_unary)(Grpc__Testing__TestService_Service *service,
			      const Grpc__Testing__SimpleRequest *request,
			      Grpc__Testing__SimpleResponse_Closure closure, void *closure_data);

static void wait_for(const int *count, int wanted)
{
	run_until_count(world.loop, count, wanted);
}

static void test_unary(Grpc__Testing__TestService_Service *service,
		       const Grpc__Testing__SimpleRequest *request,
		       Grpc__Testing__SimpleResponse_Closure closure, void *closure_data)
{
	if (world.on_unary != NULL)
		world.on_unary(request, closure, closure_data);
	else
		standard_unary(service, request, closure, closure_data);
}

static void setup_service(void)
{
	interop_service_init(&world.service, world.loop);
	standard_unary = world.service.base.unary_call;
	world.service.base.unary_call = test_unary;
}

static void setup_local(void)
{
	world = (struct world){ .loop = NULL };
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	setup_service();
	world.client = rt_client_local(world.loop, &world.service.base.base, NULL, NULL);
}

static int on_fault(void *user, const char *step, int64_t *delay_ms)
{
	(void)user;
	world.faults_asked++;
	if (world.fault_step == NULL || strcmp(step, world.fault_step) != 0)
		return RT_OK;
	*delay_ms = world.fault_delay_ms;
	return world.fault_rc;
}

/* Within the process, on a clock driven by hand. */
static void setup_manual(void)
{
	world = (struct world){ .loop = NULL };
	CU_ASSERT_EQUAL_FATAL(rt_loop_new_manual(1000000, 1, &world.loop), RT_OK);
	setup_service();
	world.client = rt_client_local(world.loop, &world.service.base.base, on_fault, NULL);
}

/* One more server or channel; at the address of the world's server, unless options say another. */
static struct rt_server *server_new(struct rt_server_options options)
{
	struct rt_server *server;

	if (options.listen == NULL)
		options.listen = world.address;
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world.loop, &options, &server), RT_OK);
	rt_server_add(server, &world.service.base.base);
	return server;
}

static struct rt_channel *channel_new(struct rt_channel_options options)
{
	struct rt_channel *channel;

	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world.loop, world.address, &options, &channel), RT_OK);
	return channel;
}

static void channel_free(struct rt_channel *channel)
{
	rt_channel_free(channel, tests_count, &world.freed);
	wait_for(&world.freed, world.freed + 1);
}

static void network_new(struct rt_server_options options)
{
	world = (struct world){ .loop = NULL };
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	setup_service();
	world.metrics = options.metrics = rt_metrics_new();
	world.readiness = options.readiness = rt_readiness_new();
	options.listen = "127.0.0.1:0";
	world.server = server_new(options);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(world.server), RT_OK);
	snprintf(world.address, sizeof(world.address), "127.0.0.1:%d",
		 rt_server_port(world.server));
	world.channel = channel_new((struct rt_channel_options){ .metrics = world.metrics });
	world.client = rt_client_new(world.channel, &grpc__testing__test_service__descriptor);
}

static void setup_network(void)
{
	network_new((struct rt_server_options){ .metrics = NULL });
}

static void setup_limited(void)
{
	network_new((struct rt_server_options){ .message_max_bytes = 65536, .calls_max = 3 });
}

static void teardown_manual(void)
{
	rt_client_free(world.client);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(rt_loop_next_due(world.loop), INT64_MAX);
	rt_loop_free(world.loop);
}

static void teardown(void)
{
	rt_client_free(world.client);
	if (world.channel != NULL)
		channel_free(world.channel);
	if (world.server != NULL) {
		if (world.drained == 0)
			rt_server_drain(world.server, 5000, tests_count, &world.drained);
		wait_for(&world.drained, 1);
		CU_ASSERT_EQUAL(rt_server_calls(world.server), 0);
		rt_server_free(world.server);
	}
	rt_readiness_free(world.readiness);
	run_for(world.loop, 0); /* deferred tasks free their memory */
	rt_metrics_free(world.metrics);
	rt_loop_free(world.loop);
}

/* A call and what it received. */
struct probe {
	struct rt_client_op op;
	int done, messages;
	int code;
	char message[256]; /* of the status */
	uint8_t details[4096];
	size_t details_length;
	size_t size; /* of the answer's payload, or of all of them */
	int32_t aggregated;
	int ping_pongs;     /* bidirectional: to send on each answer */
	int statuses[8];    /* of health */
	char mirrored[200]; /* the last answer of reflection */
};

static struct probe *probe_of(struct rt_client_op *op)
{
	return RT_CONTAINER_OF(op, struct probe, op);
}

static void keep_response(struct probe *probe, const ProtobufCMessage *response)
{
	const void *typed = response;

	if (response->descriptor == &grpc__testing__simple_response__descriptor) {
		const Grpc__Testing__SimpleResponse *simple = typed;

		if (simple->payload != NULL)
			probe->size = simple->payload->body.len;
	} else if (response->descriptor ==
		   &grpc__testing__streaming_input_call_response__descriptor) {
		const Grpc__Testing__StreamingInputCallResponse *input = typed;

		probe->aggregated = input->aggregated_payload_size;
	} else if (response->descriptor == &grpc__health__v1__health_check_response__descriptor) {
		const Grpc__Health__V1__HealthCheckResponse *health = typed;

		probe->statuses[0] = (int)health->status;
	}
}

static void probe_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct probe *probe = probe_of(op);

	probe->done++;
	world.ended++;
	probe->code = op->status.code;
	snprintf(probe->message, sizeof(probe->message), "%s",
		 op->status.message != NULL ? op->status.message : "");
	CU_ASSERT_FATAL(op->status.details_length <= sizeof(probe->details));
	probe->details_length = op->status.details_length;
	if (op->status.details != NULL)
		memcpy(probe->details, op->status.details, probe->details_length);
	CU_ASSERT(response == NULL || op->status.code == 0);
	if (response != NULL)
		keep_response(probe, response);
	rt_loop_stop(world.loop);
}

static void probe_init(struct probe *probe, int64_t timeout_ms)
{
	memset(probe, 0, sizeof(*probe));
	probe->op.timeout_ms = timeout_ms;
	probe->op.done = probe_done;
}

/* Waits for the call's end. */
static void ends(const struct probe *probe, int code)
{
	wait_for(&probe->done, 1);
	CU_ASSERT_EQUAL(probe->code, code);
}

enum { EMPTY_CALL, UNARY_CALL, OUTPUT_CALL, INPUT_CALL, DUPLEX_CALL };

static void start_unary(struct probe *probe, int64_t timeout_ms, int size)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

	probe_init(probe, timeout_ms);
	request.response_size = size;
	rt_client_start(world.client, UNARY_CALL, &request.base, &probe->op);
	CU_ASSERT_EQUAL(probe->done, 0);
}

/* With a payload of `size` bytes. */
static void start_large_unary(struct probe *probe, size_t size, int response_size)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	payload.body.len = size;
	payload.body.data = rt_alloc(size);
	request.payload = &payload;
	request.response_size = response_size;
	rt_client_start(world.client, UNARY_CALL, &request.base, &probe->op);
	free(payload.body.data);
}

/* A stream of requests, and of answers where `on_message` is given. */
static void start_stream(struct probe *probe, unsigned method, int64_t timeout_ms,
			 void (*on_message)(struct rt_client_op *op,
					    const ProtobufCMessage *message))
{
	probe_init(probe, timeout_ms);
	probe->op.on_message = on_message;
	rt_client_start(world.client, method, NULL, &probe->op);
}

static void good_call(void)
{
	struct probe probe;

	start_unary(&probe, 5000, 7);
	ends(&probe, 0);
	CU_ASSERT_EQUAL(probe.size, 7);
}

/* ---- unary ---- */

static void test_unary_call(void)
{
	struct probe probe;

	/* Larger than a frame, so that it comes in several slices. */
	probe_init(&probe, 5000);
	start_large_unary(&probe, 300000, 500000);
	ends(&probe, 0);
	CU_ASSERT_EQUAL(probe.size, 500000);
	good_call();
}

static void fail_with_details(const Grpc__Testing__SimpleRequest *request,
			      Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	struct rt_status status = { 0 };

	(void)request;
	(void)closure;
	rt_status_set(&status, RT_CODE_ABORTED, "version is 3, not 2 – sorry");
	rt_status_retry(&status, 20);
	rt_status_info(&status, "VERSION_MISMATCH");
	rt_call_fail(call, &status);
	rt_status_done(&status);
}

static void test_status(void)
{
	Google__Rpc__Status *proto;
	struct probe probe;

	world.on_unary = fail_with_details;
	start_unary(&probe, 5000, 0);
	ends(&probe, RT_CODE_ABORTED);
	CU_ASSERT_STRING_EQUAL(probe.message, "version is 3, not 2 – sorry");
	proto = google__rpc__status__unpack(NULL, probe.details_length, probe.details);
	CU_ASSERT_PTR_NOT_NULL_FATAL(proto);
	CU_ASSERT_EQUAL(proto->code, RT_CODE_ABORTED);
	CU_ASSERT_EQUAL(proto->n_details, 2);
	google__rpc__status__free_unpacked(proto, NULL);
}

/* Keeps the call; the test ends it. */
static void on_held_cancelled(struct rt_call *call, void *user)
{
	struct held *held = user;

	CU_ASSERT_TRUE(rt_call_cancelled(call));
	held->cancelled++;
	rt_call_failf(call, RT_CODE_CANCELLED, "went");
	held->call = NULL;
}

static void hold(const Grpc__Testing__SimpleRequest *request,
		 Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	struct held *held = &world.held[world.held_count++];

	(void)request;
	held->call = call;
	held->closure = closure;
	rt_call_on_cancel(call, on_held_cancelled, held);
}

static void let_go(struct held *held)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;

	held->closure(&response, held->call);
	held->call = NULL;
}

static void test_deadline(void)
{
	struct probe probe;
	int64_t remaining;

	world.on_unary = hold;
	start_unary(&probe, 150, 0);
	wait_for(&world.held_count, 1);
	remaining = rt_call_remaining_ms(world.held[0].call);
	CU_ASSERT(remaining > 0 && remaining <= 150);
	CU_ASSERT_FALSE(rt_call_cancelled(world.held[0].call));
	ends(&probe, RT_CODE_DEADLINE_EXCEEDED);
	wait_for(&world.held[0].cancelled, 1); /* the two ends have a timer each */

	world.on_unary = NULL;
	good_call();
}

static void no_deadline(const Grpc__Testing__SimpleRequest *request,
			Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	CU_ASSERT_EQUAL(rt_call_remaining_ms(call), INT64_MAX);
	CU_ASSERT_FALSE(rt_call_cancelled(call));
	CU_ASSERT(strlen(rt_call_peer(call)) > 0);
	CU_ASSERT_PTR_NULL(rt_call_metadata(call, "no-such-key", NULL));
	CU_ASSERT_STRING_EQUAL(rt_call_metadata(call, "traceparent", NULL), "00-abc-def-01");
	standard_unary(&world.service.base, request, closure, call);
}

static void test_call_facts(void)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	struct probe probe;

	world.on_unary = no_deadline;
	probe_init(&probe, 0);
	probe.op.traceparent = "00-abc-def-01";
	rt_client_start(world.client, UNARY_CALL, &request.base, &probe.op);
	ends(&probe, 0);
}

static void test_cancel(void)
{
	struct probe probe;

	world.on_unary = hold;
	start_unary(&probe, 5000, 0);
	wait_for(&world.held_count, 1);
	rt_client_cancel(&probe.op);
	CU_ASSERT_EQUAL(probe.done, 0); /* not within the call */
	ends(&probe, RT_CODE_CANCELLED);
	wait_for(&world.held[0].cancelled, 1);

	/* At once, before anything went out. */
	start_unary(&probe, 5000, 0);
	rt_client_cancel(&probe.op);
	ends(&probe, RT_CODE_CANCELLED);
	run_for(world.loop, 20);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT(world.held_count <= 2);
	CU_ASSERT_EQUAL(world.held[0].cancelled, 1);

	world.on_unary = NULL;
	good_call();
}

static bool held_is_cancelled(void)
{
	return rt_call_cancelled(world.held[0].call);
}

/* The handler answers after the client has gone: no harm. */
static void test_answer_after_cancel(void)
{
	struct probe probe;

	world.on_unary = hold;
	start_unary(&probe, 5000, 0);
	wait_for(&world.held_count, 1);
	rt_call_on_cancel(world.held[0].call, NULL, NULL);
	rt_client_cancel(&probe.op);
	wait_for(&probe.done, 1);
	run_until_so(world.loop, held_is_cancelled);
	CU_ASSERT_EQUAL(world.held[0].cancelled, 0);
	/* A callback set after the cancel runs at the end of the turn. */
	rt_call_on_cancel(world.held[0].call, on_held_cancelled, &world.held[0]);
	CU_ASSERT_EQUAL(world.held[0].cancelled, 0);
	run_for(world.loop, 1);
	CU_ASSERT_EQUAL(world.held[0].cancelled, 1);

	start_unary(&probe, 5000, 0);
	wait_for(&world.held_count, 2);
	rt_client_cancel(&probe.op);
	wait_for(&probe.done, 1);
	if (world.held[1].call != NULL)
		let_go(&world.held[1]);
	world.on_unary = NULL;
	good_call();
}

/* All clients go. Half of the calls end before the server looks for that, the others hear of it. */
static void test_ends_before_watched(void)
{
	struct probe probes[8];

	world.on_unary = hold;
	for (size_t i = 0; i < RT_LENGTH(probes); i++)
		start_unary(&probes[i], 5000, 0);
	wait_for(&world.held_count, RT_LENGTH(probes));
	for (size_t i = 0; i < RT_LENGTH(probes); i++)
		rt_client_cancel(&probes[i].op);
	for (size_t i = 0; i < RT_LENGTH(probes); i += 2) {
		CU_ASSERT_EQUAL(world.held[i].cancelled, 0);
		let_go(&world.held[i]);
	}
	for (size_t i = 0; i < RT_LENGTH(probes); i++) {
		ends(&probes[i], RT_CODE_CANCELLED);
		if (i % 2 == 1)
			wait_for(&world.held[i].cancelled, 1);
	}
	world.on_unary = NULL;
	good_call();
	for (size_t i = 0; i < RT_LENGTH(probes); i++)
		CU_ASSERT_EQUAL(world.held[i].cancelled, (int)(i % 2));
}

/* An answer that protobuf-c's generated code received. */
struct proxied {
	int calls;
	bool null;
	size_t size;
};

static void proxy_called(struct proxied *proxied, const Grpc__Testing__Payload *payload)
{
	proxied->calls++;
	proxied->null = payload == NULL;
	proxied->size += payload == NULL ? 0 : payload->body.len;
}

static void on_proxied(const Grpc__Testing__SimpleResponse *response, void *user)
{
	proxy_called(user, response == NULL ? NULL : response->payload);
}

static void on_proxied_message(const Grpc__Testing__StreamingOutputCallResponse *response,
			       void *user)
{
	proxy_called(user, response == NULL ? NULL : response->payload);
}

/* What protobuf-c generated works as it is: the first call from C in docs/calling.md does it. */
static void test_generated_proxy(void)
{
	struct proxied proxied = { .calls = 0 };
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__StreamingOutputCallRequest output =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__ResponseParameters parameters = GRPC__TESTING__RESPONSE_PARAMETERS__INIT,
					  *list[] = { &parameters, &parameters };

	request.response_size = 11;
	grpc__testing__test_service__unary_call(world.client, &request, on_proxied, &proxied);
	wait_for(&proxied.calls, 1);
	CU_ASSERT_FALSE(proxied.null);
	CU_ASSERT_EQUAL(proxied.size, 11);
	request.response_size = -1;
	grpc__testing__test_service__unary_call(world.client, &request, on_proxied, &proxied);
	wait_for(&proxied.calls, 2);
	CU_ASSERT_TRUE(proxied.null);

	/* A stream's closure runs for each message, and with NULL at the end. */
	proxied = (struct proxied){ .calls = 0 };
	parameters.size = 5;
	output.n_response_parameters = 2;
	output.response_parameters = list;
	grpc__testing__test_service__streaming_output_call(world.client, &output,
							   on_proxied_message, &proxied);
	wait_for(&proxied.calls, 3);
	CU_ASSERT_TRUE(proxied.null);
	CU_ASSERT_EQUAL(proxied.size, 10);
}

/* The wire check refuses them. protobuf-c packs any bytes that it gets as an unknown field. */
static void test_bad_bytes(void)
{
	static const struct {
		const char *why, *data, *field, *what;
		size_t length;
		uint32_t tag;
	} rows[] = {
		{ "longer than the message", "\177abc", "", "is malformed or cut off", 4, 99 },
		{ "status.message is not UTF-8", "\x03\x12\x01\xff", "response_status.message",
		  "is not valid UTF-8", 4, 7 },
		{ "a NUL in a string", "\x03\x12\x01\x00", "response_status.message",
		  "holds a NUL character", 4, 7 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
		ProtobufCMessageUnknownField unknown = { 0 };
		struct details details;
		struct probe probe;

		unknown.tag = rows[i].tag;
		unknown.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
		unknown.data = (uint8_t *)(uintptr_t)rows[i].data;
		unknown.len = rows[i].length;
		request.base.n_unknown_fields = 1;
		request.base.unknown_fields = &unknown;
		probe_init(&probe, 5000);
		rt_client_start(world.client, UNARY_CALL, &request.base, &probe.op);
		ends(&probe, RT_CODE_INVALID_ARGUMENT);
		details = details_of(&(struct rt_status){ .code = probe.code,
							  .details = probe.details,
							  .details_length = probe.details_length });
		CU_ASSERT_EQUAL(details.field_count, 1);
		CU_ASSERT_STRING_EQUAL(details.fields, rows[i].field);
		CU_ASSERT_STRING_EQUAL(details.description, rows[i].what);
	}
	good_call();
}

/* ---- streams ---- */

static void on_answer(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct probe *probe = probe_of(op);
	const Grpc__Testing__StreamingOutputCallResponse *answer = (const void *)message;

	probe->messages++;
	probe->size += answer->payload->body.len;
	rt_loop_stop(world.loop);
}

static void start_output(struct probe *probe, int count, int size, int interval_us, int code)
{
	Grpc__Testing__StreamingOutputCallRequest request =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__ResponseParameters parameters = GRPC__TESTING__RESPONSE_PARAMETERS__INIT;
	Grpc__Testing__ResponseParameters *list[200];
	Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;

	probe_init(probe, 10000);
	parameters.size = size;
	parameters.interval_us = interval_us;
	for (int i = 0; i < count; i++)
		list[i] = &parameters;
	request.n_response_parameters = (size_t)count;
	request.response_parameters = list;
	status.code = code;
	request.response_status = &status;
	probe->op.on_message = on_answer;
	rt_client_start(world.client, OUTPUT_CALL, &request.base, &probe->op);
}

static void test_server_streaming(void)
{
	static const struct {
		const char *why;
		int count, size, code;
	} rows[] = {
		{ "none", 0, 0, 0 },
		{ "empty ones", 3, 0, 0 },
		{ "many", 100, 1000, 0 },
		{ "more than the queue holds", 20, 200000, 0 },
		{ "an error after the messages", 3, 10, RT_CODE_DATA_LOSS },
	};
	struct probe probe;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		start_output(&probe, rows[i].count, rows[i].size, 0, rows[i].code);
		ends(&probe, rows[i].code);
		CU_ASSERT_EQUAL(probe.messages, rows[i].count);
		CU_ASSERT_EQUAL(probe.size, (size_t)(rows[i].count * rows[i].size));
	}
}

static void test_server_streaming_cancel(void)
{
	struct probe probe;
	int messages;

	start_output(&probe, 200, 1000, 2000, 0);
	wait_for(&probe.messages, 3);
	rt_client_cancel(&probe.op);
	wait_for(&probe.done, 1);
	messages = probe.messages;
	CU_ASSERT_EQUAL(probe.code, RT_CODE_CANCELLED);
	wait_for(&world.service.cancelled, 1);
	run_for(world.loop, 20);
	CU_ASSERT_EQUAL(world.service.cancelled, 1);
	CU_ASSERT_EQUAL(probe.messages, messages);
}

/* Holds what comes behind the first message. */
static void on_first_answer(struct rt_client_op *op, const ProtobufCMessage *message)
{
	on_answer(op, message);
	op->held = probe_of(op)->messages == 1;
}

/* Calls on the same connection come and go while nothing more of the stream is taken. */
static void stays_held(const struct probe *probe)
{
	for (int i = 0; i < 5; i++)
		good_call();
	CU_ASSERT_EQUAL(probe->messages, 1);
	CU_ASSERT_EQUAL(probe->done, 0);
}

/* A stream whose messages are held goes on where it stood, and ends as it would have; or it is cancelled. */
static void test_server_streaming_held(void)
{
	static const struct {
		const char *why;
		int count, size, code;
	} rows[] = {
		{ "small ones, which have come already", 20, 10, 0 },
		{ "more than the connection holds", 20, 200000, 0 },
		{ "an error after the messages", 3, 10, RT_CODE_DATA_LOSS },
	};
	struct probe probe;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		start_output(&probe, rows[i].count, rows[i].size, 0, rows[i].code);
		probe.op.on_message = on_first_answer;
		wait_for(&probe.messages, 1);
		stays_held(&probe);
		rt_client_go_on(&probe.op);
		ends(&probe, rows[i].code);
		TEST_ROW(probe.messages == rows[i].count, rows[i].why);
		TEST_ROW(probe.size == (size_t)(rows[i].count * rows[i].size), rows[i].why);
	}
	start_output(&probe, 20, 200000, 0, 0);
	probe.op.on_message = on_first_answer;
	wait_for(&probe.messages, 1);
	stays_held(&probe);
	rt_client_cancel(&probe.op);
	ends(&probe, RT_CODE_CANCELLED);
}

static void send_input(struct probe *probe, size_t size)
{
	Grpc__Testing__StreamingInputCallRequest request =
		GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	payload.body.len = size;
	payload.body.data = rt_alloc(size + 1);
	request.payload = &payload;
	rt_client_send(&probe->op, &request.base);
	free(payload.body.data);
}

static void test_client_streaming(void)
{
	static const int counts[] = { 0, 1, 50 };
	struct probe probe;

	for (size_t i = 0; i < RT_LENGTH(counts); i++) {
		start_stream(&probe, INPUT_CALL, 10000, NULL);
		for (int n = 0; n < counts[i]; n++)
			send_input(&probe, 10000);
		CU_ASSERT(rt_client_queued_bytes(&probe.op) >= (size_t)counts[i] * 10000);
		rt_client_half_close(&probe.op);
		send_input(&probe, 10000); /* too late: ignored */
		rt_client_half_close(&probe.op);
		ends(&probe, 0);
		CU_ASSERT_EQUAL(probe.aggregated, counts[i] * 10000);
	}

	/* Cancelled in the middle: the handler must not treat it as complete. */
	start_stream(&probe, INPUT_CALL, 10000, NULL);
	send_input(&probe, 10);
	run_for(world.loop, 20);
	rt_client_cancel(&probe.op);
	ends(&probe, RT_CODE_CANCELLED);
	wait_for(&world.service.cancelled, 1);
}

/* A client that sends until too much is queued, and goes on when it has drained. */
#define PIECES      64
#define PIECE_BYTES 50000
static int pieces_sent, pieces_pauses;

static void send_pieces(struct rt_client_op *op)
{
	struct probe *probe = probe_of(op);

	CU_ASSERT(rt_client_queued_bytes(op) <= RT_CALL_QUEUE_MAX_BYTES / 2);
	while (pieces_sent < PIECES && rt_client_queued_bytes(op) <= RT_CALL_QUEUE_MAX_BYTES) {
		send_input(probe, PIECE_BYTES);
		pieces_sent++;
	}
	CU_ASSERT(rt_client_queued_bytes(op) <= RT_CALL_QUEUE_MAX_BYTES + 2 * PIECE_BYTES);
	if (pieces_sent == PIECES)
		rt_client_half_close(op);
	else
		pieces_pauses++;
}

static void test_client_drained(void)
{
	struct probe probe;

	pieces_sent = pieces_pauses = 0;
	good_call(); /* whose memory is used again */
	probe_init(&probe, 10000);
	probe.op.on_drained = send_pieces;
	rt_client_start(world.client, INPUT_CALL, NULL, &probe.op);
	run_for(world.loop, 5);
	CU_ASSERT_EQUAL(rt_client_queued_bytes(&probe.op), 0);
	send_pieces(&probe.op);
	CU_ASSERT(pieces_sent < PIECES);
	ends(&probe, 0);
	CU_ASSERT_EQUAL(probe.aggregated, PIECES * PIECE_BYTES);
	CU_ASSERT(pieces_pauses > 1);
}

/* A handler that keeps the messages of a stream beyond its next read, and beyond the call. */
static struct keeper {
	struct rt_message *kept[3];
	const Grpc__Testing__StreamingInputCallRequest *messages[3];
	size_t count;
	Grpc__Testing__StreamingInputCallResponse_Closure closure;
} keeper;

static void keep_message(struct rt_call *call, const ProtobufCMessage *message, void *user)
{
	(void)user;
	if (message == NULL) {
		Grpc__Testing__StreamingInputCallResponse response =
			GRPC__TESTING__STREAMING_INPUT_CALL_RESPONSE__INIT;

		keeper.closure(&response, call);
		return;
	}
	keeper.messages[keeper.count] = (const void *)message;
	keeper.kept[keeper.count++] = rt_call_keep_message(call);
	rt_call_read(call, keep_message, NULL);
}

static void keep_input(Grpc__Testing__TestService_Service *service,
		       const Grpc__Testing__StreamingInputCallRequest *request,
		       Grpc__Testing__StreamingInputCallResponse_Closure closure,
		       void *closure_data)
{
	(void)service;
	(void)request;
	keeper = (struct keeper){ .closure = closure };
	rt_call_read(closure_data, keep_message, NULL);
}

static void test_kept_messages(void)
{
	struct probe probe;

	world.service.base.streaming_input_call = keep_input;
	start_stream(&probe, INPUT_CALL, 10000, NULL);
	for (size_t i = 0; i < 3; i++)
		send_input(&probe, 1000 * (i + 1));
	rt_client_half_close(&probe.op);
	wait_for(&probe.done, 1);
	CU_ASSERT_EQUAL_FATAL(keeper.count, 3);
	for (size_t i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(keeper.messages[i]->payload->body.len, 1000 * (i + 1));
		rt_message_free(keeper.kept[i]);
	}
	rt_message_free(NULL);
}

static void test_bad_streamed_message(void)
{
	Grpc__Testing__StreamingInputCallRequest request =
		GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
	ProtobufCMessageUnknownField unknown = { .tag = 1, .len = 1 };
	uint8_t data = 0x7f;
	struct probe probe;

	unknown.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	unknown.data = &data;
	request.base.n_unknown_fields = 1;
	request.base.unknown_fields = &unknown;
	start_stream(&probe, INPUT_CALL, 10000, NULL);
	send_input(&probe, 10);
	rt_client_send(&probe.op, &request.base);
	send_input(&probe, 10);
	ends(&probe, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT(probe.details_length > 0);
	CU_ASSERT_EQUAL(world.service.cancelled, 1);
	good_call();
}

static void send_ping(struct probe *probe)
{
	Grpc__Testing__StreamingOutputCallRequest request =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__ResponseParameters parameters = GRPC__TESTING__RESPONSE_PARAMETERS__INIT,
					  *list = &parameters;

	parameters.size = 100;
	request.n_response_parameters = 1;
	request.response_parameters = &list;
	rt_client_send(&probe->op, &request.base);
}

static void on_pong(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct probe *probe = probe_of(op);

	on_answer(op, message);
	if (probe->messages < probe->ping_pongs)
		send_ping(probe);
	else
		rt_client_half_close(op);
}

static void test_bidirectional(void)
{
	struct probe probe;

	start_stream(&probe, DUPLEX_CALL, 10000, on_pong);
	probe.ping_pongs = 20;
	send_ping(&probe);
	ends(&probe, 0);
	CU_ASSERT_EQUAL(probe.messages, 20);

	/* All requests first. */
	start_stream(&probe, DUPLEX_CALL, 10000, on_answer);
	for (int i = 0; i < 50; i++)
		send_ping(&probe);
	rt_client_half_close(&probe.op);
	wait_for(&probe.done, 1);
	CU_ASSERT_EQUAL(probe.messages, 50);

	/* A deadline in the middle. */
	start_stream(&probe, DUPLEX_CALL, 200, on_answer);
	send_ping(&probe);
	ends(&probe, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(probe.messages, 1);
	wait_for(&world.service.cancelled, 1);
}

/* ---- many ---- */

#define MANY 1000
static void test_many(void)
{
	struct probe *probes = rt_alloc(MANY * sizeof(*probes));
	int good = 0;

	for (int i = 0; i < MANY; i++) {
		start_unary(&probes[i], 20000, i);
		if (i % 3 == 0)
			rt_client_cancel(&probes[i].op);
	}
	wait_for(&world.ended, MANY);
	for (int i = 0; i < MANY; i++) {
		CU_ASSERT_EQUAL(probes[i].done, 1);
		CU_ASSERT_EQUAL(probes[i].size, (size_t)(probes[i].code == 0 ? i : 0));
		CU_ASSERT(probes[i].code == 0 || probes[i].code == RT_CODE_CANCELLED);
		good += probes[i].code == 0;
	}
	CU_ASSERT(good >= MANY * 2 / 3 - 1 && good < MANY);
	free(probes);
	good_call();
	if (world.server == NULL)
		return;
	/* What was kept for so many is freed when nobody needs it, and calls go on. */
	CU_ASSERT(world.server->pool_count > 0); /* how many were open at once depends on threads */
	rt_server_rest(world.server);            /* since then */
	for (int i = 0; i < 12; i++) {
		size_t before = world.server->pool_count;

		rt_server_rest(world.server);
		CU_ASSERT(world.server->pool_count <= (before + 1) / 2);
	}
	CU_ASSERT(world.server->pool_count <= 1);
	good_call();
}

/* ---- the network's own ---- */

static void test_size_limit(void)
{
	struct probe probe;

	probe_init(&probe, 5000);
	start_large_unary(&probe, 70000, 0);
	ends(&probe, RT_CODE_RESOURCE_EXHAUSTED);

	start_stream(&probe, INPUT_CALL, 5000, NULL);
	send_input(&probe, 70000);
	rt_client_half_close(&probe.op);
	ends(&probe, RT_CODE_RESOURCE_EXHAUSTED);
	good_call();
}

static bool server_has_room(void)
{
	return rt_server_calls(world.server) <= 2;
}

static void test_calls_max(void)
{
	Grpc__Health__V1__HealthCheckRequest check = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	/* HTTP/2 lets no more streams onto one connection: so the fourth comes by another one. */
	struct rt_channel *second = channel_new((struct rt_channel_options){ .metrics = NULL });
	ProtobufCService *health = rt_client_new(second, &grpc__health__v1__health__descriptor);
	ProtobufCService *first = world.client;
	struct probe held[3], probe;

	world.on_unary = hold;
	for (int i = 0; i < 3; i++)
		start_unary(&held[i], 10000, 0);
	wait_for(&world.held_count, 3);
	CU_ASSERT_EQUAL(rt_server_calls(world.server), 3);

	world.client = rt_client_new(second, &grpc__testing__test_service__descriptor);
	start_unary(&probe, 5000, 0);
	ends(&probe, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT_PTR_NOT_NULL(memmem(probe.details, probe.details_length, "RetryInfo", 9));
	probe_init(&probe, 5000);
	rt_client_start(health, 0, &check.base, &probe.op);
	ends(&probe, 0); /* an overloaded server is healthy */

	world.ended = 0;
	let_go(&world.held[0]); /* whichever of the three it is */
	wait_for(&world.ended, 1);
	/* The client may have its answer before the server knows that it has. */
	run_until_so(world.loop, server_has_room);
	world.on_unary = NULL;
	good_call();
	let_go(&world.held[1]);
	let_go(&world.held[2]);
	for (int i = 0; i < 3; i++)
		ends(&held[i], 0);
	rt_client_free(world.client);
	rt_client_free(health);
	world.client = first;
	channel_free(second);
}

static void test_drain(void)
{
	struct probe held, late;

	world.on_unary = hold;
	start_unary(&held, 10000, 0);
	wait_for(&world.held_count, 1);
	rt_server_drain(world.server, 10000, tests_count, &world.drained);
	run_for(world.loop, 20);
	CU_ASSERT_EQUAL(world.drained, 0); /* a call still runs */
	start_unary(&late, 5000, 0);
	ends(&late, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world.held_count, 1);
	let_go(&world.held[0]);
	ends(&held, 0); /* it was served to its end */
	wait_for(&world.drained, 1);
}

static void test_drain_impatient(void)
{
	struct probe held, stream;

	world.on_unary = hold;
	start_unary(&held, 10000, 0);
	start_output(&stream, 200, 10, 100000, 0);
	wait_for(&world.held_count, 1);
	wait_for(&stream.messages, 1);
	rt_server_drain(world.server, 50, tests_count, &world.drained);
	wait_for(&world.drained, 1);
	wait_for(&held.done, 1);
	wait_for(&stream.done, 1);
	CU_ASSERT_EQUAL(held.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(stream.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world.held[0].cancelled, 1);
	CU_ASSERT_EQUAL(world.service.cancelled, 1);
}

static void test_drain_before_start(void)
{
	struct rt_server *server = server_new((struct rt_server_options){ .metrics = NULL });

	rt_server_drain(server, 1000, tests_count, &world.drained);
	CU_ASSERT_EQUAL(world.drained, 0);
	wait_for(&world.drained, 1);
	world.drained = 0;
	rt_server_free(server);
	rt_server_free(server_new((struct rt_server_options){ .metrics = NULL }));
}

/* A connection that sends frames without pause. They are of no kind that HTTP/2 knows, so they are
 * skipped: no operation ever completes by them. The guard of connections would close it, so it is off: what it lets
 * through must not keep others waiting either. */
static bool guard_off;
struct msghdr;
ssize_t __wrap_connections_received(int fd, const struct msghdr *message, size_t length,
				    int64_t now_ns, int64_t wait_ns);
ssize_t __real_connections_received(int fd, const struct msghdr *message, size_t length,
				    int64_t now_ns, int64_t wait_ns);
ssize_t __wrap_connections_received(int fd, const struct msghdr *message, size_t length,
				    int64_t now_ns, int64_t wait_ns)
{
	return guard_off ? (ssize_t)length
			 : __real_connections_received(fd, message, length, now_ns, wait_ns);
}

struct flood {
	pthread_t thread;
	int fd;
	atomic_bool *stop;
};

#define FLOODS       2
#define FLOOD_BYTES  65529 /* frames of 9 bytes */
#define FLOOD_END_MS 90000 /* whatever happens */
#define FLOOD_CPU_MS 5000  /* of the process, for a call: it needs some 50 */

static void *flood_run(void *arg)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	struct flood *flood = arg;
	char *frames = calloc(1, FLOOD_BYTES);
	int64_t end_ns = rt_monotonic_ns() + FLOOD_END_MS * INT64_C(1000000);

	for (size_t i = 0; i < FLOOD_BYTES; i += 9)
		frames[i + 3] = 0x55;
	if (send(flood->fd, preface, sizeof(preface) - 1, MSG_NOSIGNAL) > 0) {
		while (!atomic_load(flood->stop) && rt_monotonic_ns() < end_ns &&
		       send(flood->fd, frames, FLOOD_BYTES, MSG_NOSIGNAL) == FLOOD_BYTES)
			;
	}
	atomic_store(flood->stop, true);
	free(frames);
	return NULL;
}

static void flood_start(struct flood *flood, int port, atomic_bool *stop)
{
	flood->stop = stop;
	flood->fd = loopback_connect(port);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&flood->thread, NULL, flood_run, flood), 0);
}

static int64_t cpu_ms(void)
{
	return clock() * INT64_C(1000) / CLOCKS_PER_SEC;
}

/* A call is answered while the floods go on. That is a matter of the processor's time, which the floods use up as
 * well: how long it takes depends on what else the machine does. */
static void good_call_in_flood(void)
{
	struct probe probe;
	int64_t end_ms = cpu_ms() + FLOOD_CPU_MS;

	run_for(world.loop, 1); /* a timer fires */
	start_unary(&probe, FLOOD_END_MS, 7);
	while (probe.done == 0 && cpu_ms() < end_ms)
		run_for(world.loop, 2);
	CU_ASSERT(cpu_ms() < end_ms);
	ends(&probe, 0);
	CU_ASSERT_EQUAL(probe.size, 7);
}

static void test_flood(void)
{
	struct flood floods[FLOODS];
	atomic_bool stop = false;

	good_call();
	guard_off = true;
	for (int i = 0; i < FLOODS; i++)
		flood_start(&floods[i], rt_server_port(world.server), &stop);
	for (int i = 0; i < 3; i++)
		good_call_in_flood();
	CU_ASSERT_FALSE(atomic_load(&stop));
	atomic_store(&stop, true);
	for (int i = 0; i < FLOODS; i++) {
		/* A flood that waits to send would wait for ever: the server runs in this thread. */
		shutdown(floods[i].fd, SHUT_RDWR);
		pthread_join(floods[i].thread, NULL);
		close(floods[i].fd);
	}
	guard_off = false;
	good_call();
}

enum { AT_ONCE = 1000 };
static struct rt_call *at_once[AT_ONCE];
static int at_once_count;

static void keep_call(const Grpc__Testing__SimpleRequest *request,
		      Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	(void)request;
	(void)closure;
	at_once[at_once_count++] = call;
}

/* Many more calls of a method than are armed for it: none is refused, and none waits for another's end or
 * for a tick of the queue. */
static void test_at_once(void)
{
	static struct probe probes[AT_ONCE];
	int64_t start_ns;

	good_call(); /* connects */
	at_once_count = 0;
	world.on_unary = keep_call;
	start_ns = rt_monotonic_ns();
	for (size_t i = 0; i < AT_ONCE; i++)
		start_unary(&probes[i], 20000, 0);
	wait_for(&at_once_count, AT_ONCE);
	CU_ASSERT(rt_monotonic_ns() - start_ns < INT64_C(5000000000)); /* as ticks, ten seconds */
	for (size_t i = 0; i < AT_ONCE; i++)
		rt_call_failf(at_once[i], RT_CODE_ABORTED, "seen");
	for (size_t i = 0; i < AT_ONCE; i++)
		ends(&probes[i], RT_CODE_ABORTED);
	world.on_unary = NULL;
	good_call();
}

static void test_port_taken(void)
{
	struct rt_server *second = server_new((struct rt_server_options){ .metrics = NULL });

	CU_ASSERT_EQUAL(rt_server_start(second), RT_SYSTEM);
	rt_server_free(second);
	good_call();
}

static void test_unknown_method(void)
{
	ProtobufCService *orders =
		rt_client_new(world.channel, &tandem__order__v1__order_service__descriptor);
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	for (int i = 0; i < 50; i++) {
		struct probe probe;

		probe_init(&probe, 5000);
		rt_client_start(orders, i % 2 == 0 ? 3 : 2, i % 2 == 0 ? &request.base : NULL,
				&probe.op);
		ends(&probe, RT_CODE_UNIMPLEMENTED);
	}
	rt_client_free(orders);
	good_call();
}

/* A call to a target that is away fails at once; a target that comes back is found. */
static void test_dead_target(void)
{
	struct probe probe;
	int64_t start;

	good_call();
	rt_server_drain(world.server, 1000, tests_count, &world.drained);
	wait_for(&world.drained, 1);
	world.drained = 0;
	rt_server_free(world.server);

	start = rt_loop_now(world.loop);
	start_unary(&probe, 10000, 0);
	ends(&probe, RT_CODE_UNAVAILABLE);
	CU_ASSERT(rt_loop_now(world.loop) - start < 3000);

	world.server = server_new((struct rt_server_options){ .metrics = NULL });
	CU_ASSERT_EQUAL_FATAL(rt_server_start(world.server), RT_OK);
	start = rt_loop_now(world.loop);
	do {
		start_unary(&probe, 10000, 0);
		wait_for(&probe.done, 1);
		run_for(world.loop, 20);
	} while (probe.code != 0 && rt_loop_now(world.loop) - start < 6000);
	CU_ASSERT_EQUAL(probe.code, 0);
}

/* Calls that name a connection go there: a server sees as many peers as are named. */
static void test_connection(void)
{
	struct rt_channel *channel = channel_new((struct rt_channel_options){ .connections = 3 });
	ProtobufCService *client = rt_client_new(channel, &grpc__testing__test_service__descriptor);
	char peers[6][64];
	struct probe probe;

	world.on_unary = hold;
	for (int i = 0; i < 6; i++) {
		Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

		probe_init(&probe, 5000);
		probe.op.connection = 1 + i / 2;
		rt_client_start(client, UNARY_CALL, &request.base, &probe.op);
		wait_for(&world.held_count, i + 1);
		snprintf(peers[i], sizeof(peers[i]), "%s", rt_call_peer(world.held[i].call));
		let_go(&world.held[i]);
		ends(&probe, 0);
	}
	for (int i = 0; i < 6; i += 2) {
		CU_ASSERT_STRING_EQUAL(peers[i], peers[i + 1]);
		CU_ASSERT_STRING_NOT_EQUAL(peers[i], peers[(i + 2) % 6]);
	}
	rt_client_free(client);
	channel_free(channel);
}

static void test_channel_free(void)
{
	struct probe probes[4];

	world.on_unary = hold;
	for (int i = 0; i < 3; i++)
		start_unary(&probes[i], 10000, 0);
	start_output(&probes[3], 200, 10, 100000, 0);
	wait_for(&world.held_count, 3);
	rt_channel_free(world.channel, tests_count, &world.freed);
	world.channel = NULL;
	CU_ASSERT_EQUAL(world.freed, 0);
	wait_for(&world.freed, 1);
	for (int i = 0; i < 4; i++)
		CU_ASSERT(probes[i].done == 1 && probes[i].code == RT_CODE_CANCELLED);
	for (int i = 0; i < 3; i++)
		wait_for(&world.held[i].cancelled, 1);
}

/* ---- metrics ---- */

static void test_metrics(void)
{
	static const struct {
		const char *metric, *type, *method, *more;
		int value;
	} rows[] = {
		{ "server_started_total", "unary", "UnaryCall", "", 3 },
		{ "server_handled_total", "unary", "UnaryCall", ",grpc_code=\"OK\"", 2 },
		{ "server_handled_total", "unary", "UnaryCall", ",grpc_code=\"Aborted\"", 1 },
		{ "server_handling_seconds_count", "unary", "UnaryCall", "", 3 },
		{ "server_msg_received_total", "bidi_stream", "FullDuplexCall", "", 2 },
		{ "server_msg_sent_total", "bidi_stream", "FullDuplexCall", "", 2 },
		{ "client_started_total", "unary", "UnaryCall", "", 3 },
		{ "client_msg_received_total", "bidi_stream", "FullDuplexCall", "", 2 },
	};
	struct rt_buf text = { 0 };
	struct probe probe;

	good_call();
	good_call();
	world.on_unary = fail_with_details;
	start_unary(&probe, 5000, 0);
	ends(&probe, RT_CODE_ABORTED);
	start_stream(&probe, DUPLEX_CALL, 10000, on_pong);
	probe.ping_pongs = 2;
	send_ping(&probe);
	ends(&probe, 0);
	rt_metrics_write(world.metrics, &text);
	rt_buf_add(&text, "", 1);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char line[256];

		snprintf(line, sizeof(line),
			 "grpc_%s{grpc_type=\"%s\",grpc_service=\"grpc.testing.TestService\","
			 "grpc_method=\"%s\"%s} %d\n",
			 rows[i].metric, rows[i].type, rows[i].method, rows[i].more, rows[i].value);
		TEST_ROW(strstr(text.data, line) != NULL, line);
	}
	rt_buf_done(&text);
}

static bool metrics_have(const char *line)
{
	struct rt_buf text = { 0 };
	bool there;

	rt_metrics_write(world.metrics, &text);
	rt_buf_add(&text, "", 1);
	there = strstr(text.data, line) != NULL;
	rt_buf_done(&text);
	return there;
}

#define UNARY_LABELS                                                                               \
	"{grpc_type=\"unary\",grpc_service=\"grpc.testing.TestService\","                          \
	"grpc_method=\"UnaryCall\""

/* Calls without a message whose client closes its connection: they are taken for cancelled, and not for calls that
 * ask for nothing, since a status that nobody receives is the most expensive part of a call. */
static void test_gone_before_the_message(void)
{
	static const char bytes[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
				    "\0\0\x4a\1\4\0\0\0\1" /* HEADERS */
				    "\x83\x86\4\x23/grpc.testing.TestService/UnaryCall"
				    "\1\1x\x0f\x10\x10"
				    "application/grpc"
				    "\0\2te\x8trailers";
	int64_t end_ns = rt_monotonic_ns() + 20 * INT64_C(1000000000);
	int fd = loopback_connect(rt_server_port(world.server));

	CU_ASSERT_EQUAL(send(fd, bytes, sizeof(bytes) - 1, MSG_NOSIGNAL), sizeof(bytes) - 1);
	shutdown(fd, SHUT_WR);
	while (!metrics_have("grpc_server_handled_total" UNARY_LABELS
			     ",grpc_code=\"Canceled\"} 1") &&
	       rt_monotonic_ns() < end_ns)
		run_for(world.loop, 2);
	close(fd);
	CU_ASSERT(metrics_have("grpc_server_started_total" UNARY_LABELS "} 1"));
	CU_ASSERT(metrics_have("grpc_server_handled_total" UNARY_LABELS
			       ",grpc_code=\"Canceled\"} 1"));
	good_call();
}

/* ---- health ---- */

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

static void start_health(struct probe *probe, ProtobufCService *health, const char *name,
			 bool watch)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	request.service = (char *)(uintptr_t)name;
	rt_client_start(health, watch ? 1 : 0, &request.base, &probe->op);
}

static void check_health(ProtobufCService *health, const char *name, int code, int status)
{
	struct probe probe;

	probe_init(&probe, 5000);
	start_health(&probe, health, name, false);
	ends(&probe, code);
	CU_ASSERT_EQUAL(probe.statuses[0], status);
}

static void on_health(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct probe *probe = probe_of(op);
	const Grpc__Health__V1__HealthCheckResponse *health = (const void *)message;

	probe->statuses[probe->messages++] = (int)health->status;
}

static void watch_health(struct probe *probe, ProtobufCService *health, const char *name)
{
	probe_init(probe, 0);
	probe->op.on_message = on_health;
	start_health(probe, health, name, true);
	wait_for(&probe->messages, 1);
}

/* The watch has ended, after so many statuses: NOT_SERVING and SERVING in turns. */
static void watched(const struct probe *probe, int count)
{
	ends(probe, 0);
	CU_ASSERT_EQUAL(probe->messages, count);
	for (int i = 0; i < count; i++)
		CU_ASSERT_EQUAL(probe->statuses[i], i % 2 == 0 ? NOT_SERVING : SERVING);
}

/* Health comes from the readiness of the process: for a service from the checks it needs, for "" from all. */
static void test_health(void)
{
	static const char *const served = "grpc.testing.TestService";
	ProtobufCService *health =
		rt_client_new(world.channel, &grpc__health__v1__health__descriptor);
	static struct rt_check redis, backend; /* the readiness outlives this */
	struct probe all, one, unknown;

	rt_readiness_add(world.readiness, &redis, "redis", NULL);
	rt_readiness_add(world.readiness, &backend, "backend", "another.Service");
	check_health(health, "", 0, NOT_SERVING);
	watch_health(&all, health, "");
	watch_health(&one, health, served);
	watch_health(&unknown, health, "no.Such");

	rt_check_ready(&redis);
	rt_check_ready(&redis); /* no change */
	wait_for(&one.messages, 2);
	check_health(health, "", 0, NOT_SERVING);
	check_health(health, served, 0, SERVING);
	check_health(health, "no.Such", RT_CODE_NOT_FOUND, 0);
	rt_check_ready(&backend);
	wait_for(&all.messages, 2);
	check_health(health, "", 0, SERVING);
	rt_check_failed(&backend, "gone");
	wait_for(&all.messages, 3);
	rt_check_ready(&backend);
	wait_for(&all.messages, 4);

	rt_server_drain(world.server, 5000, tests_count, &world.drained);
	watched(&all, 5);
	watched(&one, 3);
	ends(&unknown, 0);
	CU_ASSERT_EQUAL(unknown.messages, 1);
	CU_ASSERT_EQUAL(unknown.statuses[0], SERVICE_UNKNOWN);
	wait_for(&world.drained, 1);
	rt_client_free(health);
}

/* ---- reflection ---- */

static void on_mirrored(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct probe *probe = probe_of(op);
	struct rt_buf text = { 0 };
	uint8_t *packed = rt_alloc(protobuf_c_message_get_packed_size(message) + 1);
	size_t length = protobuf_c_message_pack(message, packed);
	/* Both versions are the same on the wire. */
	Grpc__Reflection__V1__ServerReflectionResponse *answer =
		grpc__reflection__v1__server_reflection_response__unpack(NULL, length, packed);

	CU_ASSERT_PTR_NOT_NULL_FATAL(answer);
	CU_ASSERT_PTR_NOT_NULL(answer->original_request);
	switch (answer->message_response_case) {
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
		rt_buf_printf(&text, "error %d", answer->error_response->error_code);
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
		for (size_t i = 0; i < answer->list_services_response->n_service; i++)
			rt_buf_printf(&text, "%s ",
				      answer->list_services_response->service[i]->name);
		break;
	case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ALL_EXTENSION_NUMBERS_RESPONSE:
		rt_buf_printf(&text, "%zu extensions of %s",
			      answer->all_extension_numbers_response->n_extension_number,
			      answer->all_extension_numbers_response->base_type_name);
		break;
	default:
		/* A FileDescriptorProto begins with its name: 0x0a, length, text. */
		rt_buf_printf(
			&text, "file %.*s",
			answer->file_descriptor_response->file_descriptor_proto[0].data[1],
			(const char *)answer->file_descriptor_response->file_descriptor_proto[0]
					.data +
				2);
		break;
	}
	snprintf(probe->mirrored, sizeof(probe->mirrored), "%s", text.data);
	rt_buf_done(&text);
	grpc__reflection__v1__server_reflection_response__free_unpacked(answer, NULL);
	free(packed);
	probe->messages++;
}

static void test_reflection(void)
{
	static const struct {
		int kind; /* the oneof's field number */
		const char *text, *answer;
	} rows[] = {
		{ 7, "",
		  "grpc.health.v1.Health grpc.reflection.v1.ServerReflection "
		  "grpc.reflection.v1alpha.ServerReflection grpc.testing.TestService " },
		{ 3, "tandem/order/v1/order.proto", "file tandem/order/v1/order.proto" },
		{ 3, "google/protobuf/timestamp.proto", "file google/protobuf/timestamp.proto" },
		{ 3, "no/such.proto", "error 5" },
		{ 4, "tandem.order.v1.OrderService", "file tandem/order/v1/order_service.proto" },
		{ 4, "tandem.order.v1.OrderService.PlaceOrder",
		  "file tandem/order/v1/order_service.proto" },
		{ 4, "tandem.order.v1.OrderStatus", "file tandem/order/v1/order.proto" },
		{ 4, "google.rpc.BadRequest.FieldViolation",
		  "file google/rpc/error_details.proto" },
		{ 4, "tandem.order.v1.NoSuch", "error 5" },
		{ 6, "tandem.order.v1.Order", "0 extensions of tandem.order.v1.Order" },
		{ 6, "tandem.order.v1.NoSuch", "error 5" },
	};
	const ProtobufCServiceDescriptor *versions[] = {
		&grpc__reflection__v1__server_reflection__descriptor,
		&grpc__reflection__v1alpha__server_reflection__descriptor,
	};

	for (int version = 0; version < 2; version++) {
		ProtobufCService *client = rt_client_new(world.channel, versions[version]);
		struct probe mirror;

		probe_init(&mirror, 10000);
		mirror.op.on_message = on_mirrored;
		rt_client_start(client, 0, NULL, &mirror.op);
		for (size_t i = 0; i < RT_LENGTH(rows); i++) {
			Grpc__Reflection__V1__ServerReflectionRequest request =
				GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;

			request.message_request_case =
				(Grpc__Reflection__V1__ServerReflectionRequest__MessageRequestCase)
					rows[i]
						.kind;
			request.list_services = (char *)(uintptr_t)rows[i].text;
			rt_client_send(&mirror.op, &request.base);
			wait_for(&mirror.messages, (int)i + 1);
			CU_ASSERT_STRING_EQUAL(mirror.mirrored, rows[i].answer);
		}
		/* The second one is left open: a drain ends it. */
		if (version == 0)
			rt_client_half_close(&mirror.op);
		else
			rt_server_drain(world.server, 5000, tests_count, &world.drained);
		ends(&mirror, 0);
		rt_client_free(client);
	}
	wait_for(&world.drained, 1);
}

/* ---- within the process, on a clock driven by hand ---- */

static void test_local_faults(void)
{
	static const struct {
		const char *why, *step;
		int64_t delay_ms;
		int rc, code, handled;
	} rows[] = {
		{ "nothing", NULL, 0, RT_OK, 0, 1 },
		{ "the request is lost", "request", 0, RT_LOST, RT_CODE_UNAVAILABLE, 0 },
		{ "the answer is lost: the effect stands", "response", 0, RT_LOST,
		  RT_CODE_UNAVAILABLE, 1 },
		{ "a slow request", "request", 30, RT_OK, 0, 1 },
		{ "a slow answer", "response", 30, RT_OK, 0, 1 },
		{ "a request slower than the deadline", "request", 200, RT_OK,
		  RT_CODE_DEADLINE_EXCEEDED, 0 },
		{ "an answer slower than the deadline", "response", 200, RT_OK,
		  RT_CODE_DEADLINE_EXCEEDED, 1 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct probe probe;

		world.fault_step = rows[i].step;
		world.fault_rc = rows[i].rc;
		world.fault_delay_ms = rows[i].delay_ms;
		world.faults_asked = 0;
		start_unary(&probe, 100, 5);
		rt_loop_run_due(world.loop);
		CU_ASSERT_EQUAL(probe.done, rows[i].delay_ms == 0);
		rt_loop_advance(world.loop, 29);
		CU_ASSERT_EQUAL(probe.done, rows[i].delay_ms == 0);
		rt_loop_advance(world.loop, 1);
		CU_ASSERT_EQUAL(probe.done, rows[i].delay_ms <= 30);
		rt_loop_advance(world.loop, 300);
		CU_ASSERT_EQUAL(probe.done, 1);
		CU_ASSERT_EQUAL(probe.code, rows[i].code);
		CU_ASSERT(world.faults_asked > rows[i].handled);
		CU_ASSERT_EQUAL(rt_loop_next_due(world.loop), INT64_MAX);
	}
}

static void test_local_stream_faults(void)
{
	struct probe probe;

	/* A message is lost on the way to the client: both ends are notified, once. */
	start_output(&probe, 3, 10, 10000, 0);
	rt_loop_advance(world.loop, 10);
	CU_ASSERT_EQUAL(probe.messages, 1);
	world.fault_step = "message";
	world.fault_rc = RT_LOST;
	rt_loop_advance(world.loop, 100);
	CU_ASSERT_EQUAL(probe.messages, 1);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world.service.cancelled, 1);

	/* And on the way to the server. */
	world.fault_step = NULL;
	start_stream(&probe, INPUT_CALL, 1000, NULL);
	send_input(&probe, 10);
	rt_loop_run_due(world.loop);
	world.fault_step = "message";
	send_input(&probe, 10);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world.service.cancelled, 2);
}

static void test_local_turns(void)
{
	struct probe probe;

	/* Nothing arrives within the call that sends it. */
	world.on_unary = hold;
	start_unary(&probe, 0, 0);
	CU_ASSERT_EQUAL(world.held_count, 0);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(world.held_count, 1);
	rt_loop_advance(world.loop, 1000000);
	CU_ASSERT_EQUAL(probe.done, 0);
	let_go(&world.held[0]);
	CU_ASSERT_EQUAL(probe.done, 0);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);

	/* A client that is freed with a call under way. */
	start_unary(&probe, 50, 0);
	rt_loop_run_due(world.loop);
	CU_ASSERT_EQUAL(rt_call_remaining_ms(world.held[1].call), 50);
	rt_loop_advance(world.loop, 20);
	CU_ASSERT_EQUAL(rt_call_remaining_ms(world.held[1].call), 30);
	rt_loop_advance(world.loop, 30);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(world.held[1].cancelled, 1);
}

/* ---- all of it ---- */

static const struct test common[] = {
	{ "a unary call, with metadata both ways", test_unary_call },
	{ "a status with details", test_status },
	{ "a deadline passes on both sides", test_deadline },
	{ "what a handler can ask about its call", test_call_facts },
	{ "a cancelled call", test_cancel },
	{ "an answer after the client has gone", test_answer_after_cancel },
	{ "a call that ends before it is watched", test_ends_before_watched },
	{ "the generated proxy", test_generated_proxy },
	{ "bytes that are not a message", test_bad_bytes },
	{ "server streaming", test_server_streaming },
	{ "server streaming, cancelled", test_server_streaming_cancel },
	{ "client streaming", test_client_streaming },
	{ "client streaming, as fast as it drains", test_client_drained },
	{ "messages kept beyond the call", test_kept_messages },
	{ "a bad message in a stream", test_bad_streamed_message },
	{ "bidirectional", test_bidirectional },
	{ "many at once, a third cancelled", test_many },
};
static const struct test manual[] = {
	{ "the fault hook", test_local_faults },
	{ "the fault hook in streams", test_local_stream_faults },
	{ "turns and time", test_local_turns },
};
static const struct test network[] = {
	{ "server streaming, held", test_server_streaming_held },
	{ "a drain waits for calls", test_drain },
	{ "a drain ends calls after its grace period", test_drain_impatient },
	{ "a drain before the start", test_drain_before_start },
	{ "frames without a pause delay no other call", test_flood },
	{ "gone before the message", test_gone_before_the_message },
	{ "many more calls at once than are armed", test_at_once },
	{ "a port that is taken", test_port_taken },
	{ "an unknown method", test_unknown_method },
	{ "a target that is away", test_dead_target },
	{ "a call that names its connection", test_connection },
	{ "a channel is freed with calls under way", test_channel_free },
	{ "metrics", test_metrics },
	{ "health", test_health },
	{ "reflection", test_reflection },
};
static const struct test limited[] = {
	{ "a message beyond the limit", test_size_limit },
	{ "calls beyond the limit", test_calls_max },
};

static const struct {
	const char *name;
	void (*setup)(void);
	void (*teardown)(void);
	const struct test *tests;
	size_t count;
} suites[] = {
	{ "local", setup_local, teardown, common, RT_LENGTH(common) },
	{ "local, by hand", setup_manual, teardown_manual, manual, RT_LENGTH(manual) },
	{ "network", setup_network, teardown, common, RT_LENGTH(common) },
	{ "network only", setup_network, teardown, network, RT_LENGTH(network) },
	{ "network, limited", setup_limited, teardown, limited, RT_LENGTH(limited) },
};

int main(void)
{
	int rc = 0;

	rt_rpc_init();
	for (size_t i = 0; i < RT_LENGTH(suites); i++)
		rc |= tests_run_each(suites[i].name, suites[i].setup, suites[i].teardown,
				     suites[i].tests, suites[i].count);
	rt_rpc_shutdown();
	return rc;
}
