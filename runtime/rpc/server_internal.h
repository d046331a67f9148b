/* server_internal.h - what the services that every server has (health, reflection) need of it. Private
 * to rpc. */
#ifndef RT_RPC_SERVER_H
#define RT_RPC_SERVER_H

#include "call_internal.h"

/* Serves `service` under another name than its descriptor's (NULL: the same), with `armed` calls
 * of each method waiting. `always`: its unary calls are taken beyond calls_max. */
struct rpc_server_service {
	ProtobufCService *service;
	const char *name;
	int armed;
	bool always;
};
void rpc_server_add(struct rt_server *server, const struct rpc_server_service *service);
/* The names of the services, in the order added; NULL after the last. */
const char *rpc_server_service_name(const struct rt_server *server, size_t index);

struct rpc_health; /* opaque */
struct rpc_health *rpc_health_new(struct rt_server *server, struct rt_readiness *readiness);
/* Says NOT_SERVING and ends the Watch streams. */
void rpc_health_close(struct rpc_health *health);
void rpc_health_free(struct rpc_health *health);

struct rpc_reflection; /* opaque */
struct rpc_reflection *rpc_reflection_new(struct rt_server *server);
/* Ends the streams: they wait for questions, not for answers. */
void rpc_reflection_close(struct rpc_reflection *reflection);
void rpc_reflection_free(struct rpc_reflection *reflection);

#endif
