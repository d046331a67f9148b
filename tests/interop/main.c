/* interop_server - serves grpc.testing.TestService on a free port, which it prints, until SIGTERM. */
#include <signal.h>
#include <stdio.h>

#include "interop_service.h"

static struct rt_loop *loop;
static struct rt_server *server;

static void on_drained(void *user)
{
	(void)user;
	rt_loop_stop(loop);
}

static void on_signal(int signum, void *user)
{
	(void)signum;
	(void)user;
	rt_server_drain(server, 1000, on_drained, NULL);
}

int main(void)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0" };
	struct interop_service service;

	rt_rpc_init();
	if (rt_loop_new(&loop) != RT_OK || rt_server_new(loop, &options, &server) != RT_OK)
		return 1;
	interop_service_init(&service, loop);
	rt_server_add(server, (ProtobufCService *)&service.base);
	if (rt_server_start(server) != RT_OK ||
	    rt_loop_on_signal(loop, SIGTERM, on_signal, NULL) != RT_OK)
		return 1;
	printf("%d\n", rt_server_port(server));
	fflush(stdout);
	rt_loop_run(loop);
	rt_server_free(server);
	rt_loop_free(loop);
	rt_rpc_shutdown();
	return 0;
}
