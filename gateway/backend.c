/* backend.c - asks each instance behind the gateway for its health, four times a second. */
#include "backend.h"

#include <stdio.h>

#include "grpc/health/v1/health.pb-c.h"

#define EVERY_MS   250
#define TIMEOUT_MS 1000

struct gateway_probe {
	struct gateway_backend *backend;
	struct rt_timer timer;
	struct rt_client_op op;
	bool asking, serving;
	char reason[160]; /* why it does not serve */
};

static void ask_health(struct rt_timer *timer);

/* The gateway is ready for a service while at least one instance of it serves. */
static void set_check(struct gateway_backend *backend)
{
	for (int i = 0; i < backend->count; i++) {
		if (backend->probes[i].serving) {
			rt_check_ready(&backend->check);
			return;
		}
	}
	rt_check_failed(&backend->check, "%s: %s", backend->service, backend->probes[0].reason);
}

static void health_answered(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct gateway_probe *probe = RT_CONTAINER_OF(op, struct gateway_probe, op);
	struct gateway_backend *backend = probe->backend;
	const Grpc__Health__V1__HealthCheckResponse *response = (const void *)message;
	bool answered = op->status.code == 0 && response != NULL;

	probe->asking = false;
	if (backend->stopped)
		return;
	probe->serving = answered &&
			 response->status ==
				 GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	if (answered)
		snprintf(probe->reason, sizeof(probe->reason), "it says that it is not ready");
	else
		snprintf(probe->reason, sizeof(probe->reason), "%s: %s",
			 rt_code_name(op->status.code),
			 op->status.message != NULL ? op->status.message : "");
	rt_channel_avoid(backend->channel, (int)(probe - backend->probes), !probe->serving);
	set_check(backend);
	rt_timer_start(backend->loop, &probe->timer, EVERY_MS, ask_health);
}

static void ask_health(struct rt_timer *timer)
{
	struct gateway_probe *probe = RT_CONTAINER_OF(timer, struct gateway_probe, timer);
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	request.service = (char *)(uintptr_t)probe->backend->service;
	probe->asking = true;
	probe->op = (struct rt_client_op){
		.timeout_ms = TIMEOUT_MS,
		.connection = 1 + (int)(probe - probe->backend->probes),
		.done = health_answered,
	};
	/* Method 0 is Check. */
	rt_client_start(probe->backend->health, 0, &request.base, &probe->op);
}

void gateway_backend_start(struct gateway_backend *backend, struct rt_loop *loop,
			   struct rt_channel *channel, struct rt_readiness *readiness,
			   const char *service, const char *name)
{
	backend->loop = loop;
	backend->channel = channel;
	backend->service = service;
	backend->health = rt_client_new(channel, &grpc__health__v1__health__descriptor);
	backend->count = rt_channel_connections(channel);
	backend->probes = rt_alloc((size_t)backend->count * sizeof(*backend->probes));
	rt_readiness_add(readiness, &backend->check, name, service);
	for (int i = 0; i < backend->count; i++) {
		backend->probes[i].backend = backend;
		snprintf(backend->probes[i].reason, sizeof(backend->probes[i].reason),
			 "not asked yet");
		rt_timer_start(loop, &backend->probes[i].timer, 0, ask_health);
	}
}

void gateway_backend_stop(struct gateway_backend *backend)
{
	backend->stopped = true;
	for (int i = 0; i < backend->count; i++) {
		rt_timer_stop(backend->loop, &backend->probes[i].timer);
		if (backend->probes[i].asking)
			rt_client_cancel(&backend->probes[i].op);
	}
}

void gateway_backend_done(struct gateway_backend *backend)
{
	if (backend->health != NULL)
		rt_client_free(backend->health);
	free(backend->probes);
}
