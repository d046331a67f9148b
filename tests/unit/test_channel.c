/* Channels over several instances: names with several addresses, which come and go; instances that do not
 * serve, or do not answer. The instances listen at 127.0.0.1 to 127.0.0.3; getaddrinfo answers what the
 * test says (the linker replaces it for the code under test). */
#include <arpa/inet.h>
#include <interop.pb-c.h>
#include <interop_service.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "loopback.h"
#include "rpc/client_internal.h"
#include "run.h"
#include "run_until.h"

#define UNARY_CALL 1 /* of TestService */
#define INSTANCES  3

/* ---- names ---- */

static struct names {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const char *addresses[INSTANCES + 1]; /* up to a NULL */
	int error;
	bool blocked; /* lookups wait */
	int begun, asked;
} names = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **ret);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **ret)
{
	int error;

	(void)host, (void)hints;
	*ret = NULL;
	pthread_mutex_lock(&names.lock);
	names.begun++;
	while (names.blocked)
		pthread_cond_wait(&names.changed, &names.lock);
	error = names.error;
	for (size_t i = 0; error == 0 && names.addresses[i] != NULL; i++) {
		/* In one piece, as freeaddrinfo frees it. */
		struct addrinfo *info = calloc(1, sizeof(*info) + sizeof(struct sockaddr_in));
		struct sockaddr_in *address = (void *)(info + 1);

		address->sin_family = AF_INET;
		address->sin_port = htons((uint16_t)strtol(port, NULL, 10));
		inet_pton(AF_INET, names.addresses[i], &address->sin_addr);
		info->ai_family = AF_INET;
		info->ai_addr = (void *)address;
		info->ai_addrlen = sizeof(*address);
		info->ai_next = *ret;
		*ret = info;
	}
	names.asked++;
	pthread_mutex_unlock(&names.lock);
	return error;
}

/* From now on the name has the addresses of these instances. */
static void names_set(bool first, bool second, bool third)
{
	const bool wanted[INSTANCES] = { first, second, third };
	static const char *const all[INSTANCES] = { "127.0.0.1", "127.0.0.2", "127.0.0.3" };
	size_t count = 0;

	pthread_mutex_lock(&names.lock);
	for (size_t i = 0; i < INSTANCES; i++)
		if (wanted[i])
			names.addresses[count++] = all[i];
	names.addresses[count] = NULL;
	names.error = 0;
	pthread_mutex_unlock(&names.lock);
}

static void names_fail(int error)
{
	pthread_mutex_lock(&names.lock);
	names.error = error;
	pthread_mutex_unlock(&names.lock);
}

static void names_block(bool blocked)
{
	pthread_mutex_lock(&names.lock);
	names.blocked = blocked;
	pthread_cond_broadcast(&names.changed);
	pthread_mutex_unlock(&names.lock);
}

static int names_count(const int *count)
{
	int value;

	pthread_mutex_lock(&names.lock);
	value = *count;
	pthread_mutex_unlock(&names.lock);
	return value;
}

/* ---- instances, and a channel ---- */

struct instance {
	struct interop_service service;
	struct rt_server *server;
	struct rt_readiness *readiness;
	struct rt_check check;
	int calls, drained;
	bool hold; /* keeps calls in `held` */
	struct rt_call *held;
	Grpc__Testing__SimpleResponse_Closure closure;
};

static struct world {
	struct rt_loop *loop;
	int port;
	struct instance instances[INSTANCES];
	struct rt_metrics *metrics;
	struct rt_readiness *readiness;
	struct rt_channel *channel;
	ProtobufCService *client;
	int freed, left, begun_before, asked_before;
} world;

static void unary(Grpc__Testing__TestService_Service *service,
		  const Grpc__Testing__SimpleRequest *request,
		  Grpc__Testing__SimpleResponse_Closure closure, void *closure_data)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	struct instance *instance = RT_CONTAINER_OF(service, struct instance, service.base);

	(void)request;
	instance->calls++;
	if (instance->hold) {
		instance->held = closure_data;
		instance->closure = closure;
	} else {
		closure(&response, closure_data);
	}
}

static void let_go(struct instance *instance)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;

	instance->closure(&response, RT_TAKE(instance->held));
}

static void instance_start(int index)
{
	struct instance *instance = &world.instances[index];
	char listen[32];

	snprintf(listen, sizeof(listen), "127.0.0.%d:%d", index + 1, world.port);
	*instance = (struct instance){ .readiness = rt_readiness_new() };
	interop_service_init(&instance->service, world.loop);
	instance->service.base.unary_call = unary;
	rt_readiness_add(instance->readiness, &instance->check, "test", NULL);
	rt_check_ready(&instance->check);
	CU_ASSERT_EQUAL_FATAL(
		rt_server_new(world.loop,
			      &(struct rt_server_options){ .listen = listen,
							   .readiness = instance->readiness },
			      &instance->server),
		RT_OK);
	rt_server_add(instance->server, (ProtobufCService *)&instance->service.base);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(instance->server), RT_OK);
	world.port = rt_server_port(instance->server);
}

static void instance_end(int index)
{
	struct instance *instance = &world.instances[index];

	if (instance->server == NULL)
		return;
	rt_server_drain(instance->server, 100, tests_count, &instance->drained);
	run_until_count(world.loop, &instance->drained, 1);
	rt_server_free(RT_TAKE(instance->server));
	rt_readiness_free(instance->readiness);
}

static void channel_new(const char *target)
{
	const struct rt_channel_options options = {
		.metrics = world.metrics,
	};

	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world.loop, target, &options, &world.channel), RT_OK);
	rt_channel_check_health(world.channel, grpc__testing__test_service__descriptor.name,
				world.readiness, "test");
	world.client = rt_client_new(world.channel, &grpc__testing__test_service__descriptor);
}

static void channel_new_for(const char *name)
{
	char target[64];

	snprintf(target, sizeof(target), "%s:%d", name, world.port);
	channel_new(target);
}

static void channel_new_name(void)
{
	channel_new_for("instances.test");
}

static void setup(void)
{
	world = (struct world){ .begun_before = names_count(&names.begun),
				.asked_before = names_count(&names.asked) };
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	world.metrics = rt_metrics_new();
	world.readiness = rt_readiness_new();
	for (int i = 0; i < INSTANCES; i++)
		instance_start(i);
}

static void channel_end(void)
{
	if (world.client != NULL)
		rt_client_free(RT_TAKE(world.client));
	if (world.channel == NULL)
		return;
	rt_channel_free(RT_TAKE(world.channel), tests_count, &world.freed);
	run_until_count(world.loop, &world.freed, 1);
	rt_readiness_free(world.readiness); /* it has a check of the channel's */
	world.readiness = rt_readiness_new();
}

static void teardown(void)
{
	channel_end();
	for (int i = 0; i < INSTANCES; i++)
		instance_end(i);
	run_for(world.loop, 0); /* deferred tasks free their memory */
	rt_metrics_free(world.metrics);
	rt_readiness_free(world.readiness);
	rt_loop_free(world.loop);
}

/* ---- calls ---- */

struct caller {
	struct rt_client_op op;
	int done, code;
	char message[200];
};

static void call_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct caller *caller = RT_CONTAINER_OF(op, struct caller, op);

	(void)response;
	caller->done++;
	caller->code = op->status.code;
	snprintf(caller->message, sizeof(caller->message), "%s",
		 op->status.message == NULL ? "" : op->status.message);
}

static void call_leaves(struct rt_client_op *op)
{
	(void)op;
	world.left++;
}

static void call_start(struct caller *caller)
{
	Grpc__Testing__SimpleRequest request = GRPC__TESTING__SIMPLE_REQUEST__INIT;

	*caller = (struct caller){
		.op = { .timeout_ms = 20000, .done = call_done, .on_leave = call_leaves }
	};
	rt_client_start(world.client, UNARY_CALL, &request.base, &caller->op);
}

/* A call from beginning to end. */
static int call(struct caller *caller)
{
	call_start(caller);
	run_until_count(world.loop, &caller->done, 1);
	return caller->code;
}

static int serving_wanted;

static bool as_many_serve(void)
{
	int serving = 0;

	for (int i = 1; i <= rt_channel_connections(world.channel); i++)
		serving += rt_channel_usable(world.channel, i);
	return serving == serving_wanted;
}

static void wait_serving(int count)
{
	serving_wanted = count;
	run_until_so(world.loop, as_many_serve);
}

/* Makes `calls` calls; instance i must get counts[i] of them. */
static void expect_calls(int calls, int first, int second, int third)
{
	const int counts[INSTANCES] = { first, second, third };
	struct caller caller;
	int before[INSTANCES];

	for (int i = 0; i < INSTANCES; i++)
		before[i] = world.instances[i].calls;
	for (int i = 0; i < calls; i++)
		CU_ASSERT_EQUAL(call(&caller), 0);
	for (int i = 0; i < INSTANCES; i++)
		CU_ASSERT_EQUAL(world.instances[i].calls - before[i], counts[i]);
}

static bool both_hold(void)
{
	return world.instances[0].held != NULL && world.instances[1].held != NULL;
}

static bool check_holds(void)
{
	return rt_readiness_ready(world.readiness, "");
}

static bool check_fails(void)
{
	return !check_holds();
}

/* ---- tests ---- */

/* All addresses of a name get calls; a new one does within seconds, and one that is gone gets no more, but
 * finishes what it has. */
static void addresses_change(void)
{
	struct caller held[2];

	names_set(true, true, false);
	channel_new_name();
	wait_serving(2);
	expect_calls(10, 5, 5, 0);
	world.instances[0].hold = world.instances[1].hold = true;
	call_start(&held[0]);
	call_start(&held[1]);
	run_until_so(world.loop, both_hold);
	let_go(&world.instances[1]);
	run_for(world.loop, 10);
	CU_ASSERT_EQUAL(held[0].done + held[1].done, 1);
	world.instances[0].hold = world.instances[1].hold = false;

	names_set(false, true, true);
	run_until_count(world.loop, &world.left, 1);
	wait_serving(2);
	expect_calls(10, 0, 5, 5);
	CU_ASSERT_EQUAL(held[0].done + held[1].done, 1);
	let_go(&world.instances[0]);
	run_for(world.loop, 10);
	for (int i = 0; i < 2; i++)
		CU_ASSERT(held[i].done == 1 && held[i].code == 0);

	/* It comes back: its place is there again. */
	names_set(true, true, true);
	wait_serving(3);
	expect_calls(9, 3, 3, 3);
	CU_ASSERT_EQUAL(rt_channel_connections(world.channel), 3);
}

/* A call that does not wait until the name was looked up is not lost. */
static void lookup_takes_long(void)
{
	struct caller caller;

	names_set(true, false, false);
	names_block(true);
	channel_new_for("localhost");
	CU_ASSERT_EQUAL(call(&caller), 0);
	CU_ASSERT_EQUAL(rt_channel_connections(world.channel), 0);
	names_block(false);
	wait_serving(1);
	expect_calls(2, 2, 0, 0);
}

static bool was_looked_up(void)
{
	return rpc_names_unknown(world.channel) == NULL;
}

/* While no address is known calls fail at once and say so; afterwards a failed lookup changes nothing. */
static void lookup_fails(void)
{
	struct caller caller;
	int asked;

	names_set(true, false, true);
	names_fail(EAI_AGAIN);
	channel_new_name();
	run_until_so(world.loop, was_looked_up);
	CU_ASSERT_EQUAL(call(&caller), RT_CODE_UNAVAILABLE);
	CU_ASSERT_PTR_NOT_NULL(strstr(caller.message, "no address is known for instances.test"));
	run_until_so(world.loop, check_fails);
	names_fail(0);
	wait_serving(2);
	run_until_so(world.loop, check_holds);
	names_fail(EAI_NONAME);
	asked = names_count(&names.asked);
	while (names_count(&names.asked) < asked + 1)
		run_for(world.loop, 10);
	expect_calls(10, 5, 0, 5);
}

/* A channel that ends while a lookup hangs does not wait for it. */
static void lookup_hangs(void)
{
	int asked = names_count(&names.asked);

	names_set(true, false, false);
	names_block(true);
	channel_new_name();
	while (names_count(&names.begun) == world.begun_before)
		run_for(world.loop, 1);
	channel_end();
	names_block(false);
	while (names_count(&names.asked) == asked)
		run_for(world.loop, 1);
	/* Nor does one whose lookup has just ended, but was not looked at yet. */
	world.freed = 0;
	world.begun_before = names_count(&names.begun);
	asked = names_count(&names.asked);
	channel_new_name();
	while (names_count(&names.begun) == world.begun_before)
		run_for(world.loop, 0);
	while (names_count(&names.asked) == asked) /* not by the loop, which would look at it */
		sched_yield();
	channel_end();
}

/* An instance that says that it does not serve gets no calls, and one that ends; when none is left, calls
 * say why. */
static void not_serving(void)
{
	struct caller caller;

	names_set(true, true, true);
	channel_new_name();
	wait_serving(3);
	rt_check_failed(&world.instances[1].check, "as the test wants");
	wait_serving(2);
	expect_calls(10, 5, 0, 5);
	rt_check_ready(&world.instances[1].check);
	wait_serving(3);
	instance_end(0);
	wait_serving(2);
	expect_calls(10, 0, 5, 5);
	instance_end(1);
	instance_end(2);
	wait_serving(0);
	CU_ASSERT_EQUAL(call(&caller), RT_CODE_UNAVAILABLE);
	run_until_so(world.loop, check_fails);
}

/* Calls to an instance that does not answer wait while no other serves, and end as soon as one does. */
static void silent(void)
{
	struct caller caller;
	int64_t start_ms;
	int port, listener = loopback_listen(0, &port);
	char target[64];

	instance_end(0);
	snprintf(target, sizeof(target), "127.0.0.1:%d,127.0.0.1:%d", port, world.port);
	channel_new(target);
	call_start(&caller);
	CU_ASSERT_EQUAL(caller.op.connection, 1);
	run_for(world.loop, 1500);
	CU_ASSERT_EQUAL(caller.done, 0);
	run_until_so(world.loop, check_fails);
	instance_start(0);
	wait_serving(1);
	start_ms = rt_loop_now(world.loop);
	run_until_count(world.loop, &caller.done, 1);
	CU_ASSERT(rt_loop_now(world.loop) - start_ms < 1000);
	CU_ASSERT_EQUAL(caller.code, RT_CODE_UNAVAILABLE);
	CU_ASSERT_PTR_NOT_NULL(strstr(caller.message, "does not answer"));
	expect_calls(6, 6, 0, 0);
	close(listener);
}

static void targets(void)
{
	static const struct {
		const char *address;
		bool name;
	} rows[] = {
		{ "order.example:50052", true },
		{ "localhost:1", true },
		{ "10.0.0.1:50052", false },
		{ "[::1]:50052", false },
		{ "::1:50052", false },
		{ "unix:/run/order", false },
		{ "dns:///order:1", false },
		{ "order.example", false },
		{ "order.example:", false },
		{ "order.example:http", false },
		{ ":50052", false },
	};
	static const char *const bad[] = { "", ",", "127.0.0.1:1,", " , 127.0.0.1:1" };
	const struct rt_channel_options options = { .connections = 1 };
	struct rt_channel *channel;

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		CU_ASSERT_EQUAL(rpc_name_is(rows[i].address), rows[i].name);
	for (size_t i = 0; i < RT_LENGTH(bad); i++)
		CU_ASSERT_EQUAL(rt_channel_new(world.loop, bad[i], &options, &channel), RT_INVALID);
	channel_new("127.0.0.1:1 , 127.0.0.2:1");
	CU_ASSERT_EQUAL(rt_channel_connections(world.channel), 2);
}

static const struct test tests[] = {
	{ "the addresses of a name come and go", addresses_change },
	{ "a lookup takes long", lookup_takes_long },
	{ "a lookup fails", lookup_fails },
	{ "a lookup hangs", lookup_hangs },
	{ "instances do not serve", not_serving },
	{ "an instance does not answer", silent },
	{ "targets", targets },
};
int main(void)
{
	int rc;

	rt_rpc_init();
	rc = tests_run_each("channel", setup, teardown, tests, RT_LENGTH(tests));
	rt_rpc_shutdown();
	return rc;
}
