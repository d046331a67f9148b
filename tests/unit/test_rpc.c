/* Servers and clients of all four kinds, over gRPC on the loopback and within the process: the
 * same cases for both, then what only one of them has. */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <google/rpc/error_details.pb-c.h>
#include <google/rpc/status.pb-c.h>
#include <grpc/health/v1/health.pb-c.h>
#include <grpc/reflection/v1/reflection.pb-c.h>
#include <grpc/reflection/v1alpha/reflection.pb-c.h>
#include <interop_service.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <tandem/order/v1/order_service.pb-c.h>
#include <unistd.h>

#include "rpc/call_internal.h"
#include "rpc/rpc.h"

#define GUARD_MS 20000

/* ---- a server and a client on one loop ---- */

struct held {
	struct rt_call *call;
	Grpc__Testing__SimpleResponse_Closure closure;
	int cancelled;
};
struct world {
	struct rt_loop *loop;
	struct rt_readiness *readiness;
	struct rt_metrics *metrics;
	struct rt_server *server;
	struct rt_channel *channel;
	ProtobufCService *client;
	struct interop_service service;
	struct rt_timer guard;
	bool stuck;
	/* What UnaryCall does; NULL: what the interop service does. */
	void (*on_unary)(struct world *world, const Grpc__Testing__SimpleRequest *request,
			 Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call);
	struct held held[16];
	int held_count;
	int drained, freed;
	int ended; /* probes */
};
static bool local; /* the transport */
static void (*standard_unary)(Grpc__Testing__TestService_Service *service,
			      const Grpc__Testing__SimpleRequest *request,
			      Grpc__Testing__SimpleResponse_Closure closure, void *closure_data);

static void guard_fired(struct rt_timer *timer)
{
	struct world *world = RT_CONTAINER_OF(timer, struct world, guard);

	world->stuck = true;
	rt_loop_stop(world->loop);
}

/* Runs the loop until *count is `wanted`. Whoever counts stops the loop. */
static void wait_for(struct world *world, const int *count, int wanted)
{
	rt_timer_start(world->loop, &world->guard, GUARD_MS, guard_fired);
	while (*count < wanted && !world->stuck)
		rt_loop_run(world->loop);
	rt_timer_stop(world->loop, &world->guard);
	CU_ASSERT_FALSE_FATAL(world->stuck);
	CU_ASSERT_EQUAL(*count, wanted);
}

struct pause {
	struct rt_timer timer;
	struct world *world;
	int over;
};

static void pause_over(struct rt_timer *timer)
{
	struct pause *pause = RT_CONTAINER_OF(timer, struct pause, timer);

	pause->over++;
	rt_loop_stop(pause->world->loop);
}

/* Lets the loop run for a while: to see that something does not happen. */
static void run_for(struct world *world, int64_t ms)
{
	struct pause pause = { .world = world };

	rt_timer_start(world->loop, &pause.timer, ms, pause_over);
	wait_for(world, &pause.over, 1);
}

/* Like wait_for, when whoever counts does not stop the loop. */
static void reach(struct world *world, const int *count, int wanted)
{
	for (int i = 0; i < 2000 && *count < wanted; i++)
		run_for(world, 1);
	CU_ASSERT_EQUAL(*count, wanted);
}

static void test_unary(Grpc__Testing__TestService_Service *service,
		       const Grpc__Testing__SimpleRequest *request,
		       Grpc__Testing__SimpleResponse_Closure closure, void *closure_data)
{
	struct interop_service *interop = RT_CONTAINER_OF(service, struct interop_service, base);
	struct world *world = RT_CONTAINER_OF(interop, struct world, service);

	if (world->on_unary != NULL)
		world->on_unary(world, request, closure, closure_data);
	else
		standard_unary(service, request, closure, closure_data);
}

static struct world *world_new(const struct rt_server_options *wanted)
{
	struct world *world = rt_alloc(sizeof(*world));
	struct rt_server_options options = { .listen = "127.0.0.1:0" };
	struct rt_channel_options channel_options = { 0 };
	char target[64];

	if (wanted != NULL)
		options = *wanted;
	options.listen = "127.0.0.1:0";
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world->loop), RT_OK);
	world->metrics = rt_metrics_new();
	options.metrics = channel_options.metrics = world->metrics;
	interop_service_init(&world->service, world->loop);
	standard_unary = world->service.base.unary_call;
	world->service.base.unary_call = test_unary;
	if (local) {
		world->client = rt_client_local(
			world->loop, (ProtobufCService *)&world->service.base, NULL, NULL);
		return world;
	}
	world->readiness = rt_readiness_new();
	options.readiness = world->readiness;
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world->loop, &options, &world->server), RT_OK);
	rt_server_add(world->server, (ProtobufCService *)&world->service.base);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(world->server), RT_OK);
	snprintf(target, sizeof(target), "127.0.0.1:%d", rt_server_port(world->server));
	CU_ASSERT_EQUAL_FATAL(
		rt_channel_new(world->loop, target, &channel_options, &world->channel), RT_OK);
	world->client = rt_client_new(world->channel, &grpc__testing__test_service__descriptor);
	return world;
}

static void on_drained(void *user)
{
	struct world *world = user;

	world->drained++;
	rt_loop_stop(world->loop);
}

static void on_freed(void *user)
{
	struct world *world = user;

	world->freed++;
	rt_loop_stop(world->loop);
}

static void world_free(struct world *world)
{
	rt_client_free(world->client);
	if (world->channel != NULL) {
		rt_channel_free(world->channel, on_freed, world);
		wait_for(world, &world->freed, 1);
	}
	if (world->server != NULL) {
		if (world->drained == 0)
			rt_server_drain(world->server, 5000, on_drained, world);
		wait_for(world, &world->drained, 1);
		CU_ASSERT_EQUAL(rt_server_calls(world->server), 0);
		rt_server_free(world->server);
	}
	rt_readiness_free(world->readiness);
	run_for(world, 0); /* what is deferred may free its own */
	rt_metrics_free(world->metrics);
	rt_loop_free(world->loop);
	free(world);
}

/* A call as a test sees it. */
struct probe {
	struct rt_client_op op;
	struct world *world;
	int done, messages;
	int code;
	char message[256];
	char *details;
	size_t details_length;
	size_t size; /* of the answer's payload, or of all of them */
	int32_t aggregated;
	char initial[64], trailing[64];
	/* bidirectional: to send on each answer */
	int ping_pongs;
};

static void keep_metadata(struct probe *probe)
{
	const char *value = rt_client_metadata(&probe->op, "x-grpc-test-echo-initial", NULL);
	size_t length = 0;

	if (value != NULL)
		snprintf(probe->initial, sizeof(probe->initial), "%s", value);
	value = rt_client_metadata(&probe->op, "x-grpc-test-echo-trailing-bin", &length);
	if (value != NULL)
		snprintf(probe->trailing, sizeof(probe->trailing), "%.*s", (int)length, value);
}

static void probe_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);

	probe->done++;
	probe->world->ended++;
	probe->code = op->status.code;
	snprintf(probe->message, sizeof(probe->message), "%s",
		 op->status.message != NULL ? op->status.message : "");
	if (op->status.details != NULL) {
		probe->details_length = op->status.details_length;
		probe->details = memcpy(rt_alloc(probe->details_length), op->status.details,
					probe->details_length);
	}
	keep_metadata(probe);
	CU_ASSERT(response == NULL || op->status.code == 0);
	if (response != NULL &&
	    response->descriptor == &grpc__testing__simple_response__descriptor) {
		const Grpc__Testing__SimpleResponse *simple = (const void *)response;

		if (simple->payload != NULL)
			probe->size = simple->payload->body.len;
	} else if (response != NULL &&
		   response->descriptor ==
			   &grpc__testing__streaming_input_call_response__descriptor) {
		probe->aggregated =
			((const Grpc__Testing__StreamingInputCallResponse *)(const void *)response)
				->aggregated_payload_size;
	}
	rt_loop_stop(probe->world->loop);
}

static void probe_init(struct probe *probe, struct world *world, int64_t timeout_ms)
{
	memset(probe, 0, sizeof(*probe));
	probe->world = world;
	probe->op.timeout_ms = timeout_ms;
	probe->op.done = probe_done;
}

enum { EMPTY_CALL, UNARY_CALL, OUTPUT_CALL, INPUT_CALL, DUPLEX_CALL };

static void start_unary(struct probe *probe, struct world *world, int64_t timeout_ms, int size)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

	probe_init(probe, world, timeout_ms);
	request.response_size = size;
	rt_client_start(world->client, UNARY_CALL, &request.base, &probe->op);
	CU_ASSERT_EQUAL(probe->done, 0);
}

static void good_call_within(struct world *world, int64_t timeout_ms)
{
	struct probe probe;

	start_unary(&probe, world, timeout_ms, 7);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);
	CU_ASSERT_EQUAL(probe.size, 7);
}

static void good_call(struct world *world)
{
	good_call_within(world, 5000);
}

/* ---- unary ---- */

static void test_unary_call(void)
{
	static const char *const metadata[] = { "x-grpc-test-echo-initial", "there",
						"x-grpc-test-echo-trailing-bin", "back", NULL };
	struct world *world = world_new(NULL);
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	struct probe probe;

	/* Larger than a frame, so that it comes in several slices. */
	payload.body.len = 300000;
	payload.body.data = rt_alloc(payload.body.len);
	request.payload = &payload;
	request.response_size = 500000;
	probe_init(&probe, world, 5000);
	probe.op.metadata = metadata;
	rt_client_start(world->client, UNARY_CALL, &request.base, &probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);
	CU_ASSERT_EQUAL(probe.size, 500000);
	CU_ASSERT_STRING_EQUAL(probe.initial, "there");
	CU_ASSERT_STRING_EQUAL(probe.trailing, "back");
	free(payload.body.data);
	good_call(world);
	world_free(world);
}

static void fail_with_details(struct world *world, const Grpc__Testing__SimpleRequest *request,
			      Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	struct rt_status status = { 0 };

	(void)world;
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
	struct world *world = world_new(NULL);
	Google__Rpc__Status *proto;
	struct probe probe;

	world->on_unary = fail_with_details;
	start_unary(&probe, world, 5000, 0);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_ABORTED);
	CU_ASSERT_STRING_EQUAL(probe.message, "version is 3, not 2 – sorry");
	CU_ASSERT_PTR_NOT_NULL_FATAL(probe.details);
	proto = google__rpc__status__unpack(NULL, probe.details_length,
					    (const uint8_t *)probe.details);
	CU_ASSERT_PTR_NOT_NULL_FATAL(proto);
	CU_ASSERT_EQUAL(proto->code, RT_CODE_ABORTED);
	CU_ASSERT_EQUAL(proto->n_details, 2);
	google__rpc__status__free_unpacked(proto, NULL);
	free(probe.details);
	world_free(world);
}

/* Keeps the call for the test to end. */
static void on_held_cancelled(struct rt_call *call, void *user)
{
	struct held *held = user;
	struct world *world = NULL;

	(void)world;
	CU_ASSERT_TRUE(rt_call_cancelled(call));
	held->cancelled++;
	rt_call_failf(call, RT_CODE_CANCELLED, "went");
	held->call = NULL;
}

static void hold(struct world *world, const Grpc__Testing__SimpleRequest *request,
		 Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	struct held *held = &world->held[world->held_count++];

	(void)request;
	held->call = call;
	held->closure = closure;
	rt_call_on_cancel(call, on_held_cancelled, held);
	rt_loop_stop(world->loop);
}

static void let_go(struct held *held)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;

	held->closure(&response, held->call);
	held->call = NULL;
}

static void test_deadline(void)
{
	struct world *world = world_new(NULL);
	struct probe probe;
	int64_t remaining;

	world->on_unary = hold;
	start_unary(&probe, world, 150, 0);
	wait_for(world, &world->held_count, 1);
	remaining = rt_call_remaining_ms(world->held[0].call);
	CU_ASSERT(remaining > 0 && remaining <= 150);
	CU_ASSERT_FALSE(rt_call_cancelled(world->held[0].call));
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_DEADLINE_EXCEEDED);
	reach(world, &world->held[0].cancelled, 1); /* the two ends have a timer each */
	CU_ASSERT_EQUAL(world->held[0].cancelled, 1);

	world->on_unary = NULL;
	good_call(world);
	world_free(world);
}

static void no_deadline(struct world *world, const Grpc__Testing__SimpleRequest *request,
			Grpc__Testing__SimpleResponse_Closure closure, struct rt_call *call)
{
	CU_ASSERT_EQUAL(rt_call_remaining_ms(call), INT64_MAX);
	CU_ASSERT_FALSE(rt_call_cancelled(call));
	CU_ASSERT(strlen(rt_call_peer(call)) > 0);
	CU_ASSERT_PTR_NULL(rt_call_metadata(call, "no-such-key", NULL));
	CU_ASSERT_STRING_EQUAL(rt_call_metadata(call, "traceparent", NULL), "00-abc-def-01");
	standard_unary(&world->service.base, request, closure, call);
}

static void test_call_facts(void)
{
	struct world *world = world_new(NULL);
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	struct probe probe;

	world->on_unary = no_deadline;
	probe_init(&probe, world, 0);
	probe.op.traceparent = "00-abc-def-01";
	rt_client_start(world->client, UNARY_CALL, &request.base, &probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);
	world_free(world);
}

static void test_cancel(void)
{
	struct world *world = world_new(NULL);
	struct probe probe;

	world->on_unary = hold;
	start_unary(&probe, world, 5000, 0);
	wait_for(world, &world->held_count, 1);
	rt_client_cancel(&probe.op);
	CU_ASSERT_EQUAL(probe.done, 0); /* not within the call */
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_CANCELLED);
	reach(world, &world->held[0].cancelled, 1);

	/* At once, before anything went out. */
	start_unary(&probe, world, 5000, 0);
	rt_client_cancel(&probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_CANCELLED);
	run_for(world, 20);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT(world->held_count <= 2);
	CU_ASSERT_EQUAL(world->held[0].cancelled, 1);

	world->on_unary = NULL;
	good_call(world);
	world_free(world);
}

/* The handler answers while the client is gone already: no harm. */
static void test_answer_after_cancel(void)
{
	struct world *world = world_new(NULL);
	struct probe probe;

	world->on_unary = hold;
	start_unary(&probe, world, 5000, 0);
	wait_for(world, &world->held_count, 1);
	rt_call_on_cancel(world->held[0].call, NULL, NULL);
	rt_client_cancel(&probe.op);
	wait_for(world, &probe.done, 1);
	run_for(world, 50);
	CU_ASSERT_TRUE(rt_call_cancelled(world->held[0].call));
	CU_ASSERT_EQUAL(world->held[0].cancelled, 0);
	/* Asked late, it is told at the end of the turn. */
	rt_call_on_cancel(world->held[0].call, on_held_cancelled, &world->held[0]);
	CU_ASSERT_EQUAL(world->held[0].cancelled, 0);
	run_for(world, 1);
	CU_ASSERT_EQUAL(world->held[0].cancelled, 1);

	start_unary(&probe, world, 5000, 0);
	wait_for(world, &world->held_count, 2);
	rt_client_cancel(&probe.op);
	wait_for(world, &probe.done, 1);
	if (world->held[1].call != NULL)
		let_go(&world->held[1]);
	world->on_unary = NULL;
	good_call(world);
	world_free(world);
}

/* What the wire check finds. protobuf-c sends anything, if asked by way of an unknown field. */
static void test_bad_bytes(void)
{
	static const struct {
		const char *why, *data, *field, *what;
		size_t length;
		uint32_t tag;
	} rows[] = {
		{ "longer than the message",
		  "\x7f"
		  "abc",
		  "", "is malformed or cut off", 4, 99 },
		{ "status.message is no UTF-8", "\x03\x12\x01\xff", "response_status.message",
		  "is not valid UTF-8", 4, 7 },
		{ "a NUL in a string", "\x03\x12\x01\x00", "response_status.message",
		  "holds a NUL character", 4, 7 },
	};
	struct world *world = world_new(NULL);

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
		ProtobufCMessageUnknownField unknown = { 0 };
		Google__Rpc__BadRequest *bad;
		Google__Rpc__Status *proto;
		struct probe probe;

		unknown.tag = rows[i].tag;
		unknown.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
		unknown.data = (uint8_t *)(uintptr_t)rows[i].data;
		unknown.len = rows[i].length;
		request.base.n_unknown_fields = 1;
		request.base.unknown_fields = &unknown;
		probe_init(&probe, world, 5000);
		rt_client_start(world->client, UNARY_CALL, &request.base, &probe.op);
		wait_for(world, &probe.done, 1);
		CU_ASSERT_EQUAL(probe.code, RT_CODE_INVALID_ARGUMENT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(probe.details);
		proto = google__rpc__status__unpack(NULL, probe.details_length,
						    (const uint8_t *)probe.details);
		bad = google__rpc__bad_request__unpack(NULL, proto->details[0]->value.len,
						       proto->details[0]->value.data);
		CU_ASSERT_EQUAL_FATAL(bad->n_field_violations, 1);
		CU_ASSERT_STRING_EQUAL(bad->field_violations[0]->field, rows[i].field);
		CU_ASSERT_STRING_EQUAL(bad->field_violations[0]->description, rows[i].what);
		google__rpc__bad_request__free_unpacked(bad, NULL);
		google__rpc__status__free_unpacked(proto, NULL);
		free(probe.details);
	}
	good_call(world);
	world_free(world);
}

struct proxied {
	struct world *world;
	int calls;
	bool null;
	size_t size;
};

static void on_proxied(const Grpc__Testing__SimpleResponse *response, void *user)
{
	struct proxied *proxied = user;

	proxied->calls++;
	proxied->null = response == NULL;
	if (response != NULL)
		proxied->size = response->payload->body.len;
	rt_loop_stop(proxied->world->loop);
}

static void on_proxied_message(const Grpc__Testing__StreamingOutputCallResponse *response,
			       void *user)
{
	struct proxied *proxied = user;

	proxied->calls++;
	proxied->null = response == NULL;
	if (response != NULL)
		proxied->size += response->payload->body.len;
	rt_loop_stop(proxied->world->loop);
}

/* What protobuf-c generated works as it is. */
static void test_generated_proxy(void)
{
	struct world *world = world_new(NULL);
	struct proxied proxied = { .world = world };
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__StreamingOutputCallRequest output =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__ResponseParameters parameters = GRPC__TESTING__RESPONSE_PARAMETERS__INIT,
					  *list[] = { &parameters, &parameters };

	request.response_size = 11;
	grpc__testing__test_service__unary_call(world->client, &request, on_proxied, &proxied);
	wait_for(world, &proxied.calls, 1);
	CU_ASSERT_FALSE(proxied.null);
	CU_ASSERT_EQUAL(proxied.size, 11);
	request.response_size = -1;
	grpc__testing__test_service__unary_call(world->client, &request, on_proxied, &proxied);
	wait_for(world, &proxied.calls, 2);
	CU_ASSERT_TRUE(proxied.null);

	/* A stream's closure runs for each message, and with NULL at the end. */
	proxied = (struct proxied){ .world = world };
	parameters.size = 5;
	output.n_response_parameters = 2;
	output.response_parameters = list;
	grpc__testing__test_service__streaming_output_call(world->client, &output,
							   on_proxied_message, &proxied);
	wait_for(world, &proxied.calls, 3);
	CU_ASSERT_TRUE(proxied.null);
	CU_ASSERT_EQUAL(proxied.size, 10);
	world_free(world);
}

/* ---- streams ---- */

static void on_answer(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);
	const Grpc__Testing__StreamingOutputCallResponse *answer = (const void *)message;

	probe->messages++;
	probe->size += answer->payload->body.len;
	rt_loop_stop(probe->world->loop);
}

static void start_output(struct probe *probe, struct world *world, int count, int size,
			 int interval_us, int code)
{
	Grpc__Testing__StreamingOutputCallRequest request =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	Grpc__Testing__ResponseParameters parameters = GRPC__TESTING__RESPONSE_PARAMETERS__INIT;
	Grpc__Testing__ResponseParameters *list[200];
	Grpc__Testing__EchoStatus status = GRPC__TESTING__ECHO_STATUS__INIT;

	probe_init(probe, world, 10000);
	parameters.size = size;
	parameters.interval_us = interval_us;
	for (int i = 0; i < count; i++)
		list[i] = &parameters;
	request.n_response_parameters = (size_t)count;
	request.response_parameters = list;
	status.code = code;
	request.response_status = &status;
	probe->op.on_message = on_answer;
	rt_client_start(world->client, OUTPUT_CALL, &request.base, &probe->op);
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
	struct world *world = world_new(NULL);
	struct probe probe;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		start_output(&probe, world, rows[i].count, rows[i].size, 0, rows[i].code);
		wait_for(world, &probe.done, 1);
		CU_ASSERT_EQUAL(probe.code, rows[i].code);
		CU_ASSERT_EQUAL(probe.messages, rows[i].count);
		CU_ASSERT_EQUAL(probe.size, (size_t)(rows[i].count * rows[i].size));
	}
	world_free(world);
}

static void test_server_streaming_cancel(void)
{
	struct world *world = world_new(NULL);
	struct probe probe;
	int messages;

	start_output(&probe, world, 200, 1000, 2000, 0);
	wait_for(world, &probe.messages, 3);
	rt_client_cancel(&probe.op);
	wait_for(world, &probe.done, 1);
	messages = probe.messages;
	CU_ASSERT_EQUAL(probe.code, RT_CODE_CANCELLED);
	reach(world, &world->service.cancelled, 1);
	run_for(world, 20);
	CU_ASSERT_EQUAL(world->service.cancelled, 1);
	CU_ASSERT_EQUAL(probe.messages, messages);
	world_free(world);
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
	struct world *world = world_new(NULL);
	struct probe probe;

	for (size_t i = 0; i < RT_LENGTH(counts); i++) {
		probe_init(&probe, world, 10000);
		rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
		for (int n = 0; n < counts[i]; n++)
			send_input(&probe, 10000);
		CU_ASSERT(rt_client_queued_bytes(&probe.op) >= (size_t)counts[i] * 10000);
		rt_client_half_close(&probe.op);
		send_input(&probe, 10000); /* too late: ignored */
		rt_client_half_close(&probe.op);
		wait_for(world, &probe.done, 1);
		CU_ASSERT_EQUAL(probe.code, 0);
		CU_ASSERT_EQUAL(probe.aggregated, counts[i] * 10000);
	}

	/* Cancelled in the middle: the handler must not take it for the whole. */
	probe_init(&probe, world, 10000);
	rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
	send_input(&probe, 10);
	run_for(world, 20);
	rt_client_cancel(&probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_CANCELLED);
	reach(world, &world->service.cancelled, 1);
	world_free(world);
}

/* A client that sends until too much is queued, and goes on when it has drained. */
#define PIECES      64
#define PIECE_BYTES 50000
static int pieces_sent, pieces_pauses;

static void send_pieces(struct rt_client_op *op)
{
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);

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
	struct world *world = world_new(NULL);
	struct probe probe;

	pieces_sent = pieces_pauses = 0;
	good_call(world); /* whose memory is used again */
	probe_init(&probe, world, 10000);
	probe.op.on_drained = send_pieces;
	rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
	run_for(world, 5);
	CU_ASSERT_EQUAL(rt_client_queued_bytes(&probe.op), 0);
	send_pieces(&probe.op);
	CU_ASSERT(pieces_sent < PIECES);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);
	CU_ASSERT_EQUAL(probe.aggregated, PIECES * PIECE_BYTES);
	CU_ASSERT(pieces_pauses > 1);
	world_free(world);
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
	struct world *world = world_new(NULL);
	struct probe probe;

	world->service.base.streaming_input_call = keep_input;
	probe_init(&probe, world, 10000);
	rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
	for (size_t i = 0; i < 3; i++)
		send_input(&probe, 1000 * (i + 1));
	rt_client_half_close(&probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL_FATAL(keeper.count, 3);
	for (size_t i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(keeper.messages[i]->payload->body.len, 1000 * (i + 1));
		rt_message_free(keeper.kept[i]);
	}
	rt_message_free(NULL);
	world_free(world);
}

static void test_bad_streamed_message(void)
{
	struct world *world = world_new(NULL);
	Grpc__Testing__StreamingInputCallRequest request =
		GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
	ProtobufCMessageUnknownField unknown = { .tag = 1, .len = 1 };
	uint8_t data = 0x7f;
	struct probe probe;

	unknown.wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED;
	unknown.data = &data;
	request.base.n_unknown_fields = 1;
	request.base.unknown_fields = &unknown;
	probe_init(&probe, world, 10000);
	rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
	send_input(&probe, 10);
	rt_client_send(&probe.op, &request.base);
	send_input(&probe, 10);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_PTR_NOT_NULL(probe.details);
	CU_ASSERT_EQUAL(world->service.cancelled, 1);
	free(probe.details);
	good_call(world);
	world_free(world);
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
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);

	on_answer(op, message);
	if (probe->messages < probe->ping_pongs)
		send_ping(probe);
	else
		rt_client_half_close(op);
}

static void test_bidirectional(void)
{
	struct world *world = world_new(NULL);
	struct probe probe;

	probe_init(&probe, world, 10000);
	probe.op.on_message = on_pong;
	probe.ping_pongs = 20;
	rt_client_start(world->client, DUPLEX_CALL, NULL, &probe.op);
	send_ping(&probe);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);
	CU_ASSERT_EQUAL(probe.messages, 20);

	/* All requests first. */
	probe_init(&probe, world, 10000);
	probe.op.on_message = on_answer;
	rt_client_start(world->client, DUPLEX_CALL, NULL, &probe.op);
	for (int i = 0; i < 50; i++)
		send_ping(&probe);
	rt_client_half_close(&probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.messages, 50);

	/* A deadline in the middle. */
	probe_init(&probe, world, 50);
	probe.op.on_message = on_answer;
	rt_client_start(world->client, DUPLEX_CALL, NULL, &probe.op);
	send_ping(&probe);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(probe.messages, 1);
	reach(world, &world->service.cancelled, 1);
	world_free(world);
}

/* ---- many ---- */

#define MANY 1000
static int many_done, many_ok, many_cancelled;
static void many_ended(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);

	probe->done++;
	many_done++;
	many_ok += op->status.code == 0 && response != NULL;
	many_cancelled += op->status.code == RT_CODE_CANCELLED;
	if (many_done == MANY)
		rt_loop_stop(probe->world->loop);
}

static void test_many(void)
{
	struct world *world = world_new(NULL);
	struct probe *probes = rt_alloc(MANY * sizeof(*probes));

	many_done = many_ok = many_cancelled = 0;
	for (int i = 0; i < MANY; i++) {
		Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

		request.response_size = i;
		probe_init(&probes[i], world, 20000);
		probes[i].op.done = many_ended;
		rt_client_start(world->client, UNARY_CALL, &request.base, &probes[i].op);
		if (i % 3 == 0)
			rt_client_cancel(&probes[i].op);
	}
	wait_for(world, &many_done, MANY);
	for (int i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(probes[i].done, 1);
	CU_ASSERT_EQUAL(many_ok + many_cancelled, MANY);
	CU_ASSERT(many_ok >= MANY * 2 / 3 - 1);
	CU_ASSERT(many_cancelled > 0);
	free(probes);
	good_call(world);
	world_free(world);
}

/* ---- the network's own ---- */

static void test_size_limit(void)
{
	struct rt_server_options options = { .message_max_bytes = 65536 };
	struct world *world = world_new(&options);
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;
	struct probe probe;

	payload.body.len = 70000;
	payload.body.data = rt_alloc(payload.body.len);
	request.payload = &payload;
	probe_init(&probe, world, 5000);
	rt_client_start(world->client, UNARY_CALL, &request.base, &probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_RESOURCE_EXHAUSTED);
	free(payload.body.data);

	probe_init(&probe, world, 5000);
	rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
	send_input(&probe, 70000);
	rt_client_half_close(&probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_RESOURCE_EXHAUSTED);
	good_call(world);
	world_free(world);
}

static void test_calls_max(void)
{
	struct rt_server_options options = { .calls_max = 3 };
	struct world *world = world_new(&options);
	struct rt_channel_options channel_options = { 0 };
	Grpc__Health__V1__HealthCheckRequest check = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	ProtobufCService *first = world->client, *health;
	struct rt_channel *second;
	struct probe held[3], probe;
	char target[64];

	/* HTTP/2 lets no more streams onto one connection: so the fourth comes by another one. */
	snprintf(target, sizeof(target), "127.0.0.1:%d", rt_server_port(world->server));
	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world->loop, target, &channel_options, &second),
			      RT_OK);
	health = rt_client_new(second, &grpc__health__v1__health__descriptor);
	world->on_unary = hold;
	for (int i = 0; i < 3; i++)
		start_unary(&held[i], world, 10000, 0);
	wait_for(world, &world->held_count, 3);
	CU_ASSERT_EQUAL(rt_server_calls(world->server), 3);

	world->client = rt_client_new(second, &grpc__testing__test_service__descriptor);
	start_unary(&probe, world, 5000, 0);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT_PTR_NOT_NULL_FATAL(probe.details);
	CU_ASSERT_PTR_NOT_NULL(memmem(probe.details, probe.details_length, "RetryInfo", 9));
	free(probe.details);
	probe_init(&probe, world, 5000);
	rt_client_start(health, 0, &check.base, &probe.op);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0); /* overload is not sickness */

	world->ended = 0;
	let_go(&world->held[0]);
	wait_for(world, &world->ended, 1);
	/* The client may have its answer before the server knows that it has. */
	for (int i = 0; i < 2000 && rt_server_calls(world->server) > 2; i++)
		run_for(world, 1);
	world->on_unary = NULL;
	good_call(world);
	let_go(&world->held[1]);
	let_go(&world->held[2]);
	wait_for(world, &world->ended, 4);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(held[i].code, 0);
	rt_client_free(world->client);
	rt_client_free(health);
	world->client = first;
	rt_channel_free(second, on_freed, world);
	wait_for(world, &world->freed, 1);
	world->freed = 0;
	world_free(world);
}

static void test_drain(void)
{
	struct world *world = world_new(NULL);
	struct probe held, late;

	world->on_unary = hold;
	start_unary(&held, world, 10000, 0);
	wait_for(world, &world->held_count, 1);
	rt_server_drain(world->server, 10000, on_drained, world);
	run_for(world, 20);
	CU_ASSERT_EQUAL(world->drained, 0); /* a call still runs */
	start_unary(&late, world, 5000, 0);
	wait_for(world, &late.done, 1);
	CU_ASSERT_EQUAL(late.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world->held_count, 1);
	let_go(&world->held[0]);
	wait_for(world, &held.done, 1);
	CU_ASSERT_EQUAL(held.code, 0); /* it was served to its end */
	wait_for(world, &world->drained, 1);
	world_free(world);
}

static void test_drain_impatient(void)
{
	struct world *world = world_new(NULL);
	struct probe held, stream;

	world->on_unary = hold;
	start_unary(&held, world, 10000, 0);
	start_output(&stream, world, 200, 10, 100000, 0);
	wait_for(world, &world->held_count, 1);
	wait_for(world, &stream.messages, 1);
	rt_server_drain(world->server, 50, on_drained, world);
	wait_for(world, &world->drained, 1);
	wait_for(world, &held.done, 1);
	wait_for(world, &stream.done, 1);
	CU_ASSERT_EQUAL(held.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(stream.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world->held[0].cancelled, 1);
	CU_ASSERT_EQUAL(world->service.cancelled, 1);
	world_free(world);
}

static void test_drain_before_start(void)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0" };
	struct world world = { 0 };

	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world.loop, &options, &world.server), RT_OK);
	rt_server_drain(world.server, 1000, on_drained, &world);
	CU_ASSERT_EQUAL(world.drained, 0);
	wait_for(&world, &world.drained, 1);
	rt_server_free(world.server);
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world.loop, &options, &world.server), RT_OK);
	rt_server_free(world.server);
	rt_loop_free(world.loop);
}

/* A connection that sends frames without pause. They are of no kind that HTTP/2 knows, so they are
 * skipped: no operation ever completes by them. */
struct flood {
	pthread_t thread;
	int fd;
	atomic_bool *stop;
};

#define FLOODS       2
#define FLOOD_BYTES  65529 /* frames of 9 bytes */
#define FLOOD_END_MS 60000 /* whatever happens */

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
	close(flood->fd);
	return NULL;
}

static void flood_start(struct flood *flood, int port, atomic_bool *stop)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	flood->stop = stop;
	flood->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_EQUAL_FATAL(connect(flood->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&flood->thread, NULL, flood_run, flood), 0);
}

static void test_flood(void)
{
	struct world *world = world_new(NULL);
	struct flood floods[FLOODS];
	atomic_bool stop = false;

	good_call(world);
	for (int i = 0; i < FLOODS; i++)
		flood_start(&floods[i], rt_server_port(world->server), &stop);
	/* Timers fire and calls are answered while it goes on. */
	for (int i = 0; i < 3; i++) {
		run_for(world, 1);
		good_call_within(world, GUARD_MS);
	}
	CU_ASSERT_FALSE(atomic_load(&stop));
	atomic_store(&stop, true);
	for (int i = 0; i < FLOODS; i++)
		pthread_join(floods[i].thread, NULL);
	good_call(world);
	world_free(world);
}

static void test_port_taken(void)
{
	struct world *world = world_new(NULL);
	struct rt_server_options options = { 0 };
	struct rt_server *second;
	char listen[64];

	snprintf(listen, sizeof(listen), "127.0.0.1:%d", rt_server_port(world->server));
	options.listen = listen;
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world->loop, &options, &second), RT_OK);
	CU_ASSERT_EQUAL(rt_server_start(second), RT_SYSTEM);
	rt_server_free(second);
	good_call(world);
	world_free(world);
}

static void test_unknown_method(void)
{
	struct world *world = world_new(NULL);
	ProtobufCService *orders =
		rt_client_new(world->channel, &tandem__order__v1__order_service__descriptor);
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

	for (int i = 0; i < 50; i++) {
		struct probe probe;

		probe_init(&probe, world, 5000);
		rt_client_start(orders, i % 2 == 0 ? 3 : 2, i % 2 == 0 ? &request.base : NULL,
				&probe.op);
		wait_for(world, &probe.done, 1);
		CU_ASSERT_EQUAL(probe.code, RT_CODE_UNIMPLEMENTED);
	}
	rt_client_free(orders);
	good_call(world);
	world_free(world);
}

/* A target that is away is told at once; one that comes is found. */
static void test_dead_target(void)
{
	struct world *world = world_new(NULL);
	struct rt_server_options options = { 0 };
	struct rt_server *second;
	char listen[64];
	struct probe probe;
	int64_t start;

	snprintf(listen, sizeof(listen), "127.0.0.1:%d", rt_server_port(world->server));
	good_call(world);
	rt_server_drain(world->server, 1000, on_drained, world);
	wait_for(world, &world->drained, 1);
	rt_server_free(world->server);
	world->server = NULL;
	world->drained = 0;

	start = rt_loop_now(world->loop);
	start_unary(&probe, world, 10000, 0);
	wait_for(world, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT(rt_loop_now(world->loop) - start < 3000);

	options.listen = listen;
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world->loop, &options, &second), RT_OK);
	rt_server_add(second, (ProtobufCService *)&world->service.base);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(second), RT_OK);
	world->server = second;
	start = rt_loop_now(world->loop);
	do {
		start_unary(&probe, world, 10000, 0);
		wait_for(world, &probe.done, 1);
		run_for(world, 20);
	} while (probe.code != 0 && rt_loop_now(world->loop) - start < 6000);
	CU_ASSERT_EQUAL(probe.code, 0);
	world_free(world);
}

/* Calls that name a connection go there: a server sees as many peers as are named. */
static void test_connection(void)
{
	struct world *world = world_new(NULL);
	struct rt_channel_options options = { .connections = 3 };
	struct rt_channel *channel;
	ProtobufCService *client;
	char target[64], peers[6][64];
	struct probe probe;

	snprintf(target, sizeof(target), "127.0.0.1:%d", rt_server_port(world->server));
	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world->loop, target, &options, &channel), RT_OK);
	client = rt_client_new(channel, &grpc__testing__test_service__descriptor);
	world->on_unary = hold;
	for (int i = 0; i < 6; i++) {
		Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

		probe_init(&probe, world, 5000);
		probe.op.connection = 1 + i / 2;
		rt_client_start(client, UNARY_CALL, &request.base, &probe.op);
		reach(world, &world->held_count, i + 1);
		snprintf(peers[i], sizeof(peers[i]), "%s", rt_call_peer(world->held[i].call));
		let_go(&world->held[i]);
		wait_for(world, &probe.done, 1);
	}
	for (int i = 0; i < 6; i += 2) {
		CU_ASSERT_STRING_EQUAL(peers[i], peers[i + 1]);
		CU_ASSERT_STRING_NOT_EQUAL(peers[i], peers[(i + 2) % 6]);
	}
	rt_client_free(client);
	rt_channel_free(channel, on_freed, world);
	wait_for(world, &world->freed, 1);
	world->freed = 0;
	world_free(world);
}

static void test_channel_free(void)
{
	struct world *world = world_new(NULL);
	struct probe probes[4];

	world->on_unary = hold;
	for (int i = 0; i < 3; i++)
		start_unary(&probes[i], world, 10000, 0);
	start_output(&probes[3], world, 200, 10, 100000, 0);
	wait_for(world, &world->held_count, 3);
	rt_channel_free(world->channel, on_freed, world);
	world->channel = NULL;
	CU_ASSERT_EQUAL(world->freed, 0);
	wait_for(world, &world->freed, 1);
	for (int i = 0; i < 4; i++) {
		CU_ASSERT_EQUAL(probes[i].done, 1);
		CU_ASSERT_EQUAL(probes[i].code, RT_CODE_CANCELLED);
	}
	for (int i = 0; i < 3; i++)
		reach(world, &world->held[i].cancelled, 1);
	world_free(world);
}

/* ---- metrics ---- */

static void test_metrics(void)
{
	static const char *const lines[] = {
		"grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"grpc.testing."
		"TestService\",grpc_method=\"UnaryCall\"} 3",
		"grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"grpc.testing."
		"TestService\",grpc_method=\"UnaryCall\",grpc_code=\"OK\"} 2",
		"grpc_code=\"Aborted\"} 1",
		"grpc_server_handling_seconds_count{grpc_type=\"unary\",grpc_service=\"grpc."
		"testing.TestService\",grpc_method=\"UnaryCall\"} 3",
		"grpc_server_msg_received_total{grpc_type=\"bidi_stream\",grpc_service=\"grpc."
		"testing.TestService\",grpc_method=\"FullDuplexCall\"} 2",
		"grpc_server_msg_sent_total{grpc_type=\"bidi_stream\",grpc_service=\"grpc."
		"testing.TestService\",grpc_method=\"FullDuplexCall\"} 2",
		"grpc_client_started_total{grpc_type=\"unary\",grpc_service=\"grpc.testing."
		"TestService\",grpc_method=\"UnaryCall\"} 3",
		"grpc_client_msg_received_total{grpc_type=\"bidi_stream\",grpc_service=\"grpc."
		"testing.TestService\",grpc_method=\"FullDuplexCall\"} 2",
	};
	struct world *world = world_new(NULL);
	struct rt_buf text = { 0 };
	struct probe probe;

	good_call(world);
	good_call(world);
	world->on_unary = fail_with_details;
	start_unary(&probe, world, 5000, 0);
	wait_for(world, &probe.done, 1);
	free(probe.details);
	probe_init(&probe, world, 10000);
	probe.op.on_message = on_pong;
	probe.ping_pongs = 2;
	rt_client_start(world->client, DUPLEX_CALL, NULL, &probe.op);
	send_ping(&probe);
	wait_for(world, &probe.done, 1);
	rt_metrics_write(world->metrics, &text);
	rt_buf_add(&text, "", 1);
	for (size_t i = 0; i < RT_LENGTH(lines); i++) {
		if (strstr(text.data, lines[i]) == NULL)
			printf("\nmissing: %s\n", lines[i]);
		CU_ASSERT_PTR_NOT_NULL(strstr(text.data, lines[i]));
	}
	rt_buf_done(&text);
	world_free(world);
}

/* ---- health ---- */

struct watch {
	struct rt_client_op op;
	struct world *world;
	int changes, done;
	int statuses[8];
};

static void on_health(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct watch *watch = RT_CONTAINER_OF(op, struct watch, op);
	const Grpc__Health__V1__HealthCheckResponse *health = (const void *)message;

	watch->statuses[watch->changes++] = (int)health->status;
	rt_loop_stop(watch->world->loop);
}

static void watch_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct watch *watch = RT_CONTAINER_OF(op, struct watch, op);

	(void)response;
	CU_ASSERT_EQUAL(op->status.code, 0);
	watch->done++;
	rt_loop_stop(watch->world->loop);
}

struct check {
	struct rt_client_op op;
	struct world *world;
	int done, code, status;
};

static void check_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct check *check = RT_CONTAINER_OF(op, struct check, op);

	check->done++;
	check->code = op->status.code;
	if (response != NULL)
		check->status =
			(int)((const Grpc__Health__V1__HealthCheckResponse *)(const void *)response)
				->status;
	rt_loop_stop(check->world->loop);
}

static struct check check_health(struct world *world, ProtobufCService *health, const char *name)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct check check = { .world = world };

	request.service = (char *)(uintptr_t)name;
	check.op.timeout_ms = 5000;
	check.op.done = check_done;
	rt_client_start(health, 0, &request.base, &check.op);
	wait_for(world, &check.done, 1);
	return check;
}

/* Answered from the readiness of the process: for each service by what it needs, for "" by all. */
static void test_health(void)
{
	static const char *const served = "grpc.testing.TestService";
	enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };
	struct world *world = world_new(NULL);
	ProtobufCService *health =
		rt_client_new(world->channel, &grpc__health__v1__health__descriptor);
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct watch all = { .world = world }, one = all, unknown = all;
	struct rt_check redis = { .name = NULL }, backend = { .name = NULL };

	rt_readiness_add(world->readiness, &redis, "redis", NULL);
	rt_readiness_add(world->readiness, &backend, "backend", "another.Service");
	CU_ASSERT_EQUAL(check_health(world, health, "").status, NOT_SERVING);
	all.op.on_message = one.op.on_message = unknown.op.on_message = on_health;
	all.op.done = one.op.done = unknown.op.done = watch_done;
	rt_client_start(health, 1, &request.base, &all.op);
	wait_for(world, &all.changes, 1);
	request.service = (char *)(uintptr_t)served;
	rt_client_start(health, 1, &request.base, &one.op);
	wait_for(world, &one.changes, 1);
	request.service = (char *)(uintptr_t) "no.Such";
	rt_client_start(health, 1, &request.base, &unknown.op);
	wait_for(world, &unknown.changes, 1);

	rt_check_ready(&redis);
	rt_check_ready(&redis); /* no news */
	wait_for(world, &one.changes, 2);
	CU_ASSERT_EQUAL(check_health(world, health, "").status, NOT_SERVING);
	CU_ASSERT_EQUAL(check_health(world, health, served).status, SERVING);
	CU_ASSERT_EQUAL(check_health(world, health, "no.Such").code, RT_CODE_NOT_FOUND);
	rt_check_ready(&backend);
	wait_for(world, &all.changes, 2);
	CU_ASSERT_EQUAL(check_health(world, health, "").status, SERVING);
	rt_check_failed(&backend, "gone");
	wait_for(world, &all.changes, 3);
	rt_check_ready(&backend);
	wait_for(world, &all.changes, 4);

	rt_server_drain(world->server, 5000, on_drained, world);
	wait_for(world, &all.done, 1);
	wait_for(world, &one.done, 1);
	wait_for(world, &unknown.done, 1);
	wait_for(world, &world->drained, 1);
	CU_ASSERT_EQUAL(all.changes, 5);
	for (int i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(all.statuses[i], i % 2 == 0 ? NOT_SERVING : SERVING);
	CU_ASSERT_EQUAL(one.changes, 3);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(one.statuses[i], i % 2 == 0 ? NOT_SERVING : SERVING);
	CU_ASSERT_EQUAL(unknown.changes, 1);
	CU_ASSERT_EQUAL(unknown.statuses[0], SERVICE_UNKNOWN);
	rt_client_free(health);
	world_free(world);
}

/* ---- reflection ---- */

struct mirror {
	struct rt_client_op op;
	struct world *world;
	int answers, done;
	char text[200]; /* of the last answer */
};

static void on_mirrored(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct mirror *mirror = RT_CONTAINER_OF(op, struct mirror, op);
	const Grpc__Reflection__V1__ServerReflectionResponse *answer;
	struct rt_buf text = { 0 };
	uint8_t *packed = rt_alloc(protobuf_c_message_get_packed_size(message) + 1);
	size_t length = protobuf_c_message_pack(message, packed);
	Grpc__Reflection__V1__ServerReflectionResponse *unpacked =
		grpc__reflection__v1__server_reflection_response__unpack(NULL, length, packed);

	/* Both versions are the same on the wire. */
	answer = unpacked;
	CU_ASSERT_PTR_NOT_NULL_FATAL(unpacked);
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
	snprintf(mirror->text, sizeof(mirror->text), "%s", text.data);
	rt_buf_done(&text);
	grpc__reflection__v1__server_reflection_response__free_unpacked(unpacked, NULL);
	free(packed);
	mirror->answers++;
	rt_loop_stop(mirror->world->loop);
}

static void mirror_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct mirror *mirror = RT_CONTAINER_OF(op, struct mirror, op);

	(void)response;
	CU_ASSERT_EQUAL(op->status.code, 0);
	mirror->done++;
	rt_loop_stop(mirror->world->loop);
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
	struct world *world = world_new(NULL);

	for (int version = 0; version < 2; version++) {
		ProtobufCService *client = rt_client_new(world->channel, versions[version]);
		struct mirror mirror = { .world = world };

		mirror.op.timeout_ms = 10000;
		mirror.op.on_message = on_mirrored;
		mirror.op.done = mirror_done;
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
			wait_for(world, &mirror.answers, (int)i + 1);
			CU_ASSERT_STRING_EQUAL(mirror.text, rows[i].answer);
		}
		/* The second one is left open: a drain ends it. */
		if (version == 0)
			rt_client_half_close(&mirror.op);
		else
			rt_server_drain(world->server, 5000, on_drained, world);
		wait_for(world, &mirror.done, 1);
		rt_client_free(client);
	}
	wait_for(world, &world->drained, 1);
	world_free(world);
}

/* ---- within the process, on a clock driven by hand ---- */

struct faults {
	const char *step; /* to fail or delay */
	int rc;
	int64_t delay_ms;
	int asked;
};

static int on_fault(void *user, const char *step, int64_t *delay_ms)
{
	struct faults *faults = user;

	faults->asked++;
	if (faults->step == NULL || strcmp(step, faults->step) != 0)
		return RT_OK;
	*delay_ms = faults->delay_ms;
	return faults->rc;
}

struct hand_driven {
	struct world world;
	struct faults faults;
};

static struct hand_driven *hand_driven_new(void)
{
	struct hand_driven *it = rt_alloc(sizeof(*it));
	struct world *world = &it->world;

	CU_ASSERT_EQUAL_FATAL(rt_loop_new_manual(1000000, 1, &world->loop), RT_OK);
	interop_service_init(&world->service, world->loop);
	standard_unary = world->service.base.unary_call;
	world->service.base.unary_call = test_unary;
	world->client = rt_client_local(world->loop, (ProtobufCService *)&world->service.base,
					on_fault, &it->faults);
	return it;
}

static void hand_driven_free(struct hand_driven *it)
{
	rt_client_free(it->world.client);
	rt_loop_settle(it->world.loop);
	CU_ASSERT_EQUAL(rt_loop_next_due(it->world.loop), INT64_MAX);
	rt_loop_free(it->world.loop);
	free(it);
}

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
		struct hand_driven *it = hand_driven_new();
		struct world *world = &it->world;
		struct probe probe;

		it->faults = (struct faults){ rows[i].step, rows[i].rc, rows[i].delay_ms, 0 };
		start_unary(&probe, world, 100, 5);
		rt_loop_settle(world->loop);
		CU_ASSERT_EQUAL(probe.done, rows[i].delay_ms == 0);
		rt_loop_advance(world->loop, 29);
		CU_ASSERT_EQUAL(probe.done, rows[i].delay_ms == 0);
		rt_loop_advance(world->loop, 1);
		CU_ASSERT_EQUAL(probe.done, rows[i].delay_ms <= 30);
		rt_loop_advance(world->loop, 300);
		CU_ASSERT_EQUAL(probe.done, 1);
		CU_ASSERT_EQUAL(probe.code, rows[i].code);
		CU_ASSERT(it->faults.asked > rows[i].handled);
		hand_driven_free(it);
	}
}

static void test_local_stream_faults(void)
{
	struct hand_driven *it = hand_driven_new();
	struct world *world = &it->world;
	struct probe probe;

	/* A message is lost on the way to the client: both ends hear of it, once. */
	start_output(&probe, world, 3, 10, 10000, 0);
	rt_loop_advance(world->loop, 10);
	CU_ASSERT_EQUAL(probe.messages, 1);
	it->faults.step = "message";
	it->faults.rc = RT_LOST;
	rt_loop_advance(world->loop, 100);
	CU_ASSERT_EQUAL(probe.messages, 1);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world->service.cancelled, 1);

	/* And on the way to the server. */
	it->faults.step = NULL;
	probe_init(&probe, world, 1000);
	rt_client_start(world->client, INPUT_CALL, NULL, &probe.op);
	send_input(&probe, 10);
	rt_loop_settle(world->loop);
	it->faults.step = "message";
	send_input(&probe, 10);
	rt_loop_settle(world->loop);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(world->service.cancelled, 2);
	hand_driven_free(it);
}

static void test_local_turns(void)
{
	struct hand_driven *it = hand_driven_new();
	struct world *world = &it->world;
	struct probe probe;

	/* Nothing arrives within the call that sends it. */
	world->on_unary = hold;
	start_unary(&probe, world, 0, 0);
	CU_ASSERT_EQUAL(world->held_count, 0);
	rt_loop_settle(world->loop);
	CU_ASSERT_EQUAL(world->held_count, 1);
	rt_loop_advance(world->loop, 1000000);
	CU_ASSERT_EQUAL(probe.done, 0);
	let_go(&world->held[0]);
	CU_ASSERT_EQUAL(probe.done, 0);
	rt_loop_settle(world->loop);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);

	/* A client that is freed with a call under way. */
	start_unary(&probe, world, 50, 0);
	rt_loop_settle(world->loop);
	CU_ASSERT_EQUAL(rt_call_remaining_ms(world->held[1].call), 50);
	rt_loop_advance(world->loop, 20);
	CU_ASSERT_EQUAL(rt_call_remaining_ms(world->held[1].call), 30);
	rt_loop_advance(world->loop, 30);
	CU_ASSERT_EQUAL(probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_DEADLINE_EXCEEDED);
	CU_ASSERT_EQUAL(world->held[1].cancelled, 1);
	hand_driven_free(it);
}

/* ---- all of it ---- */

static int use_network(void)
{
	local = false;
	return 0;
}

static int use_local(void)
{
	local = true;
	return 0;
}

static void add_common(CU_pSuite suite)
{
	CU_add_test(suite, "a unary call, with metadata both ways", test_unary_call);
	CU_add_test(suite, "a status with details", test_status);
	CU_add_test(suite, "a deadline passes on both sides", test_deadline);
	CU_add_test(suite, "what a handler can ask", test_call_facts);
	CU_add_test(suite, "a cancelled call", test_cancel);
	CU_add_test(suite, "an answer after the client went", test_answer_after_cancel);
	CU_add_test(suite, "bytes that are no message", test_bad_bytes);
	CU_add_test(suite, "the generated proxy", test_generated_proxy);
	CU_add_test(suite, "server streaming", test_server_streaming);
	CU_add_test(suite, "server streaming, cancelled", test_server_streaming_cancel);
	CU_add_test(suite, "client streaming", test_client_streaming);
	CU_add_test(suite, "client streaming, as fast as it drains", test_client_drained);
	CU_add_test(suite, "messages kept beyond the call", test_kept_messages);
	CU_add_test(suite, "a bad message in a stream", test_bad_streamed_message);
	CU_add_test(suite, "bidirectional", test_bidirectional);
	CU_add_test(suite, "many at once, a third cancelled", test_many);
}

int main(void)
{
	CU_pSuite suite;
	unsigned failures;

	rt_rpc_init();
	CU_initialize_registry();
	suite = CU_add_suite("local", use_local, NULL);
	add_common(suite);
	CU_add_test(suite, "the fault hook", test_local_faults);
	CU_add_test(suite, "the fault hook in streams", test_local_stream_faults);
	CU_add_test(suite, "turns and time", test_local_turns);
	suite = CU_add_suite("network", use_network, NULL);
	add_common(suite);
	CU_add_test(suite, "a message beyond the limit", test_size_limit);
	CU_add_test(suite, "calls beyond the limit", test_calls_max);
	CU_add_test(suite, "a drain waits for calls", test_drain);
	CU_add_test(suite, "a drain's grace ends", test_drain_impatient);
	CU_add_test(suite, "a drain before the start", test_drain_before_start);
	CU_add_test(suite, "frames without pause hold nobody up", test_flood);
	CU_add_test(suite, "a port that is taken", test_port_taken);
	CU_add_test(suite, "an unknown method", test_unknown_method);
	CU_add_test(suite, "a target that is away", test_dead_target);
	CU_add_test(suite, "a call that names its connection", test_connection);
	CU_add_test(suite, "a channel is freed with calls under way", test_channel_free);
	CU_add_test(suite, "metrics", test_metrics);
	CU_add_test(suite, "health", test_health);
	CU_add_test(suite, "reflection", test_reflection);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failures = CU_get_number_of_failures();
	CU_cleanup_registry();
	rt_rpc_shutdown();
	return failures == 0 ? 0 : 1;
}
