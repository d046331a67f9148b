/* echo.c - the floor: a bare unary call of gRPC core with the messages of PlaceOrder and no work
 * behind it. The CPU that it costs the server is the unit of other figures.
 *
 *   bench-echo server LISTEN [THREADS]               answers PlaceOrder with a canned order
 *   bench-echo client TARGET OUTSTANDING SECONDS     calls it, closed loop, 4 connections;
 *                                                    prints calls/s and latency as JSON
 *
 * Server: each thread has a completion queue with 32 requested calls (more make Debian's gRPC
 * slower: it searches all of them at each completion), answers in one batch, and answers the calls
 * that it takes. */
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tandem/order/v1/order_service.pb-c.h"

#define METHOD      "/tandem.order.v1.OrderService/PlaceOrder"
#define ARMED       32
#define THREADS_MAX 16
#define CONNECTIONS 4
#define SAMPLES_MAX 4000000

static char reuse_key[] = "grpc.so_reuseport", own_key[] = "bench.connection";

static void *must(void *p)
{
	if (p == NULL)
		abort();
	return p;
}

/* ---- server ---- */

struct served {
	grpc_completion_queue *queue;
	grpc_call *call;
	grpc_metadata_array metadata;
	grpc_byte_buffer *request;
	gpr_timespec deadline;
	int cancelled;
	bool answered;
};
static grpc_server *server;
static void *method;
static grpc_slice answer;

static void arm(struct served *served)
{
	grpc_completion_queue *queue = served->queue;

	memset(served, 0, sizeof(*served));
	served->queue = queue;
	grpc_metadata_array_init(&served->metadata);
	if (grpc_server_request_registered_call(server, method, &served->call, &served->deadline,
						&served->metadata, &served->request, queue, queue,
						served) != GRPC_CALL_OK)
		abort();
}

static void reply(struct served *served)
{
	grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&answer, 1);
	grpc_op ops[4];

	memset(ops, 0, sizeof(ops));
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = message;
	ops[2].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
	ops[3].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
	ops[3].data.recv_close_on_server.cancelled = &served->cancelled;
	served->answered = true;
	if (grpc_call_start_batch(served->call, ops, 4, served, NULL) != GRPC_CALL_OK)
		abort();
	grpc_byte_buffer_destroy(message);
}

static void *serve(void *queue)
{
	for (;;) {
		grpc_event event = grpc_completion_queue_next(
			queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		struct served *served = event.tag;

		if (event.type != GRPC_OP_COMPLETE)
			return NULL;
		if (!served->answered) {
			reply(served);
			continue;
		}
		grpc_byte_buffer_destroy(served->request);
		grpc_metadata_array_destroy(&served->metadata);
		grpc_call_unref(served->call);
		arm(served);
	}
}

static void can_answer(void)
{
	Tandem__Order__V1__PlaceOrderResponse response =
		TANDEM__ORDER__V1__PLACE_ORDER_RESPONSE__INIT;
	Tandem__Order__V1__Order order = TANDEM__ORDER__V1__ORDER__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT, *lines = &line;
	Google__Protobuf__Timestamp now = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	char id[] = "ord_abcdefghijklmnopqrstuvwxyz", customer[] = "customer-1234",
	     sku[] = "sku-0123";
	size_t size;

	line.sku = sku;
	line.quantity = 1;
	now.seconds = 1764000000;
	now.nanos = 123000000;
	order.order_id = id;
	order.customer_id = customer;
	order.n_lines = 1;
	order.lines = &lines;
	order.status = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING;
	order.version = 1;
	order.create_time = &now;
	order.update_time = &now;
	response.order = &order;
	size = tandem__order__v1__place_order_response__get_packed_size(&response);
	answer = grpc_slice_malloc(size);
	(void)tandem__order__v1__place_order_response__pack(&response,
							    GRPC_SLICE_START_PTR(answer));
}

static int server_main(const char *listen, int threads)
{
	grpc_arg reuse = { .type = GRPC_ARG_INTEGER, .key = reuse_key };
	grpc_channel_args args = { 1, &reuse };
	grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
	grpc_completion_queue *queues[THREADS_MAX];
	pthread_t running[THREADS_MAX];

	can_answer();
	server = must(grpc_server_create(&args, NULL));
	for (int i = 0; i < threads; i++) {
		queues[i] = must(grpc_completion_queue_create_for_next(NULL));
		grpc_server_register_completion_queue(server, queues[i], NULL);
	}
	method = must(grpc_server_register_method(server, METHOD, NULL,
						  GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0));
	if (grpc_server_add_http2_port(server, listen, credentials) == 0) {
		(void)fprintf(stderr, "bench-echo: %s cannot be bound\n", listen);
		return 1;
	}
	grpc_server_start(server);
	for (int i = 0; i < threads; i++) {
		for (int j = 0; j < ARMED; j++) {
			struct served *served = must(calloc(1, sizeof(*served)));

			served->queue = queues[i];
			arm(served);
		}
		(void)pthread_create(&running[i], NULL, serve, queues[i]);
	}
	(void)puts("ready");
	(void)fflush(stdout);
	for (int i = 0; i < threads; i++)
		(void)pthread_join(running[i], NULL);
	return 0;
}

/* ---- client ---- */

struct called {
	grpc_call *call;
	grpc_metadata_array initial, trailing;
	grpc_status_code status;
	grpc_slice details;
	grpc_byte_buffer *response;
	double started;
	int connection;
};
static grpc_channel *channels[CONNECTIONS];
static void *handles[CONNECTIONS];
static grpc_completion_queue *client_queue;
static grpc_slice request;

static double now_s(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void call_it(struct called *called)
{
	grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&request, 1);
	grpc_op ops[6];

	memset(ops, 0, sizeof(ops));
	grpc_metadata_array_init(&called->initial);
	grpc_metadata_array_init(&called->trailing);
	called->response = NULL;
	called->started = now_s();
	called->call = grpc_channel_create_registered_call(
		channels[called->connection], NULL, GRPC_PROPAGATE_DEFAULTS, client_queue,
		handles[called->connection], gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
	ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
	ops[1].op = GRPC_OP_SEND_MESSAGE;
	ops[1].data.send_message.send_message = message;
	ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
	ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
	ops[3].data.recv_initial_metadata.recv_initial_metadata = &called->initial;
	ops[4].op = GRPC_OP_RECV_MESSAGE;
	ops[4].data.recv_message.recv_message = &called->response;
	ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
	ops[5].data.recv_status_on_client.trailing_metadata = &called->trailing;
	ops[5].data.recv_status_on_client.status = &called->status;
	ops[5].data.recv_status_on_client.status_details = &called->details;
	if (grpc_call_start_batch(called->call, ops, 6, called, NULL) != GRPC_CALL_OK)
		abort();
	grpc_byte_buffer_destroy(message);
}

static void pack_request(void)
{
	Tandem__Order__V1__PlaceOrderRequest place = TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT, *lines = &line;
	char customer[] = "customer-1234", sku[] = "sku-0123";

	line.sku = sku;
	line.quantity = 1;
	place.customer_id = customer;
	place.n_lines = 1;
	place.lines = &lines;
	request =
		grpc_slice_malloc(tandem__order__v1__place_order_request__get_packed_size(&place));
	(void)tandem__order__v1__place_order_request__pack(&place, GRPC_SLICE_START_PTR(request));
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int client_main(const char *target, int outstanding, double seconds)
{
	struct called *calls = must(calloc((size_t)outstanding, sizeof(*calls)));
	double *took = must(malloc(sizeof(double) * SAMPLES_MAX));
	double start = now_s(), end = start + seconds;
	size_t count = 0;

	client_queue = must(grpc_completion_queue_create_for_next(NULL));
	pack_request();
	for (int i = 0; i < CONNECTIONS; i++) {
		grpc_arg own = { .type = GRPC_ARG_INTEGER, .key = own_key };
		grpc_channel_args args = { 1, &own };

		own.value.integer = i;
		channels[i] = must(
			grpc_channel_create(target, grpc_insecure_credentials_create(), &args));
		handles[i] = grpc_channel_register_call(channels[i], METHOD, NULL, NULL);
	}
	for (int i = 0; i < outstanding; i++) {
		calls[i].connection = i % CONNECTIONS;
		call_it(&calls[i]);
	}
	for (;;) {
		grpc_event event = grpc_completion_queue_next(
			client_queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
		struct called *called = event.tag;
		double now = now_s();

		if (called->status != GRPC_STATUS_OK) {
			(void)fprintf(stderr, "bench-echo: status %d\n", (int)called->status);
			return 1;
		}
		if (count < SAMPLES_MAX)
			took[count] = now - called->started;
		count++;
		grpc_byte_buffer_destroy(called->response);
		grpc_metadata_array_destroy(&called->initial);
		grpc_metadata_array_destroy(&called->trailing);
		grpc_slice_unref(called->details);
		grpc_call_unref(called->call);
		if (now >= end)
			break;
		call_it(called);
	}
	seconds = now_s() - start;
	qsort(took, count < SAMPLES_MAX ? count : SAMPLES_MAX, sizeof(double), by_value);
	count = count < SAMPLES_MAX ? count : SAMPLES_MAX;
	(void)printf("{\"calls\": %zu, \"per_second\": %.0f, \"p50_ms\": %.4f, \"p99_ms\": %.4f}\n",
		     count, (double)count / seconds, took[count / 2] * 1e3,
		     took[count * 99 / 100] * 1e3);
	(void)fflush(stdout);
	_exit(0); /* without waiting for the calls under way */
}

int main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN);
	grpc_init();
	if (argc >= 3 && strcmp(argv[1], "server") == 0) {
		int threads = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 2;

		return server_main(argv[2], threads < 1 || threads > THREADS_MAX ? 2 : threads);
	}
	if (argc == 5 && strcmp(argv[1], "client") == 0 && (int)strtol(argv[3], NULL, 10) > 0)
		return client_main(argv[2], (int)strtol(argv[3], NULL, 10), strtod(argv[4], NULL));
	(void)fprintf(stderr, "usage: bench-echo server LISTEN [THREADS]\n"
			      "       bench-echo client TARGET OUTSTANDING SECONDS\n");
	return 2;
}
