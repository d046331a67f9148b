/* backend.h - is the service behind there? Asks its grpc.health.v1 every second and keeps a
 * readiness check of the admin port up to date. */
#ifndef GATEWAY_BACKEND_H
#define GATEWAY_BACKEND_H

#include "admin.h"
#include "rpc.h"

struct gateway_backend {
	struct rt_loop *loop;
	ProtobufCService *health;
	const char *service; /* full name */
	struct rt_ready ready;
	struct rt_timer timer;
	struct rt_client_op op;
	bool asking, stopped;
};

/* Starts asking. `backend` is zeroed, lives until gateway_backend_stop and the end of `channel`;
 * `service` is the full name of the service to ask for, `name` that of the check. */
void gateway_backend_start(struct gateway_backend *backend, struct rt_loop *loop,
			   struct rt_channel *channel, struct rt_admin *admin, const char *service,
			   const char *name);
/* No more questions; one under way ends with its channel at the latest. */
void gateway_backend_stop(struct gateway_backend *backend);
/* After its channel has ended. */
void gateway_backend_done(struct gateway_backend *backend);

#endif
