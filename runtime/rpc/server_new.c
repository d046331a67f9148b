/* server_new.c - a server as everybody gets it: with health and reflection. */
#include "server_internal.h"

int rt_server_new(struct rt_loop *loop, const struct rt_server_options *options,
		  struct rt_server **ret)
{
	struct rt_server *server = rpc_server_new(loop, options);

	rpc_health_add(server, options->readiness);
	rpc_reflection_add(server);
	*ret = server;
	return RT_OK;
}
