/* backend.h - which instances of a service behind the gateway serve. Asks the grpc.health.v1 of each
 * several times a second. An instance that does not serve is avoided while another does, so calls
 * leave an instance before it ends. A readiness check says whether any serves. When none does, calls
 * are still sent: their errors say what is wrong. */
#ifndef GATEWAY_BACKEND_H
#define GATEWAY_BACKEND_H

#include "base/base.h"
#include "rpc/rpc.h"

struct gateway_backend {
	struct rt_loop *loop;
	struct rt_channel *channel;
	ProtobufCService *health;
	const char *service; /* full name */
	struct rt_check check;
	struct gateway_probe *probes; /* one for each connection */
	int count;
	bool stopped;
};

/* Starts asking. `backend` is zeroed and lives until gateway_backend_stop and the end of `channel`;
 * `service` is the full name of the service to ask for, `name` that of the check. */
void gateway_backend_start(struct gateway_backend *backend, struct rt_loop *loop,
			   struct rt_channel *channel, struct rt_readiness *readiness,
			   const char *service, const char *name);
/* Stops asking; questions under way end with the channel at the latest. */
void gateway_backend_stop(struct gateway_backend *backend);
/* After its channel has ended. */
void gateway_backend_done(struct gateway_backend *backend);

#endif
