/* The accept4 of runtime/interpose: it closes connections that the process has no room for. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "interpose/interpose.h"
#include "loopback.h"
#include "rpc/rpc.h"
#include "run.h"

#define WAIT_MS 10000

/* What a client sees: bytes (> 0), the end (0 or an error: a reset), or nothing in time (-2). */
static int look(int fd)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	char byte;

	if (poll(&waiting, 1, WAIT_MS) != 1)
		return -2;
	return recv(fd, &byte, 1, 0) > 0 ? 1 : 0;
}

static rlim_t set_descriptors(rlim_t limit)
{
	struct rlimit files;
	rlim_t before;

	CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_NOFILE, &files), 0);
	before = files.rlim_cur;
	files.rlim_cur = limit;
	CU_ASSERT_EQUAL_FATAL(setrlimit(RLIMIT_NOFILE, &files), 0);
	return before;
}

static void limit_connections(int64_t most)
{
	rt_accept_guard_init();
	rt_connections_limit(&(struct rt_connection_limits){ .connections_max = most });
}

static void test_out_of_descriptors(void)
{
	int port, listening = loopback_listen(SOCK_NONBLOCK, &port), clients[5], got, last;
	uint64_t shed = rt_accept_guard_shed();
	rlim_t before;

	limit_connections(1000);
	for (int i = 0; i < 5; i++)
		clients[i] = loopback_connect(port);
	last = dup(0);
	close(last);
	before = set_descriptors((rlim_t)last); /* none is left */
	got = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	CU_ASSERT(got < 0 && errno == EAGAIN); /* as when no connection waits */
	(void)set_descriptors(before);
	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(look(clients[i]), 0); /* it was closed, not left waiting */
		close(clients[i]);
	}
	CU_ASSERT_EQUAL(rt_accept_guard_shed() - shed, 5);

	/* With descriptors again, it accepts again. */
	clients[0] = loopback_connect(port);
	loopback_wait(listening);
	got = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	CU_ASSERT(got >= 0);
	close(got);
	close(clients[0]);
	close(listening);
}

/* The guard leaves the last few descriptors to the rest of the process. */
static void test_reserve(void)
{
	int port, listening = loopback_listen(SOCK_NONBLOCK, &port),
		  client = loopback_connect(port), got, last;
	rlim_t before;

	limit_connections(1000);
	last = dup(0);
	close(last);
	before = set_descriptors((rlim_t)last + 1); /* the last one */
	loopback_wait(listening);
	got = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	CU_ASSERT(got < 0 && errno == EAGAIN);
	CU_ASSERT_EQUAL(look(client), 0);
	(void)set_descriptors(before);
	close(client);
	close(listening);
}

/* A real error is returned as it is. */
static void test_errors(void)
{
	CU_ASSERT(accept4(-1, NULL, NULL, 0) < 0 && errno == EBADF);
	CU_ASSERT(accept4(0, NULL, NULL, 0) < 0 && errno != EAGAIN);
}

/* gRPC itself goes through the guard: with room for two connections, all three are greeted, and the first, which
 * makes no call, is closed for the third. */
struct visitors {
	struct rt_loop *loop;
	int port, greeted, closed;
};

static void *visit(void *arg)
{
	struct visitors *visitors = arg;
	int clients[3], seen;

	for (int i = 0; i < 3; i++) {
		clients[i] = loopback_connect(visitors->port);
		visitors->greeted += look(clients[i]) > 0;
	}
	do
		seen = look(clients[0]);
	while (seen > 0);
	visitors->closed += seen == 0;
	for (int i = 0; i < 3; i++)
		close(clients[i]);
	rt_loop_stop(visitors->loop);
	return NULL;
}

static void on_drained(void *user)
{
	rt_loop_stop(user);
}

static void test_grpc(void)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0", .connections_max = 2 };
	struct visitors visitors = { 0 };
	struct rt_server *server;
	pthread_t thread;

	rt_rpc_init();
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&visitors.loop), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_server_new(visitors.loop, &options, &server), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(server), RT_OK);
	visitors.port = rt_server_port(server);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, visit, &visitors), 0);
	rt_loop_run(visitors.loop);
	pthread_join(thread, NULL);
	CU_ASSERT_EQUAL(visitors.greeted, 3);
	CU_ASSERT_EQUAL(visitors.closed, 1);
	rt_server_drain(server, 1000, on_drained, visitors.loop);
	rt_loop_run(visitors.loop);
	rt_server_free(server);
	rt_loop_free(visitors.loop);
	rt_rpc_shutdown();
}

static const struct test tests[] = {
	{ "out of descriptors", test_out_of_descriptors },
	{ "the last descriptors are kept free", test_reserve },
	{ "real errors are returned", test_errors },
	{ "gRPC goes through it", test_grpc },
};

TESTS_MAIN("accept_guard", tests)
