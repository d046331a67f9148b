/* backend.c - asks the service behind for its health, again and again. */
#include "backend.h"

#include <stdatomic.h>

#include "grpc/health/v1/health.pb-c.h"
#include "log.h"

#define EVERY_MS   1000
#define TIMEOUT_MS 1000

static void ask(struct rt_timer *timer);

static void asked(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct gateway_backend *backend = RT_CONTAINER_OF(op, struct gateway_backend, op);
	const Grpc__Health__V1__HealthCheckResponse *response = (const void *)message;
	bool ready = op->status.code == 0 && response != NULL &&
		     response->status ==
			     GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;

	backend->asking = false;
	if (backend->stopped)
		return;
	if (ready != atomic_exchange(&backend->ready.ready, ready)) {
		if (ready)
			RT_LOG(RT_INFO, "service reached", RT_S("service", backend->service));
		else
			RT_LOG(RT_WARN, "service away", RT_S("service", backend->service),
			       RT_S("code", rt_code_name(op->status.code)),
			       RT_S("reason", op->status.message));
	}
	rt_timer_start(backend->loop, &backend->timer, EVERY_MS, ask);
}

static void ask(struct rt_timer *timer)
{
	struct gateway_backend *backend = RT_CONTAINER_OF(timer, struct gateway_backend, timer);
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	request.service = (char *)(uintptr_t)backend->service;
	backend->asking = true;
	backend->op = (struct rt_client_op){ .timeout_ms = TIMEOUT_MS, .done = asked };
	/* Method 0 is Check. */
	rt_client_start(backend->health, 0, &request.base, &backend->op);
}

void gateway_backend_start(struct gateway_backend *backend, struct rt_loop *loop,
			   struct rt_channel *channel, struct rt_admin *admin, const char *service,
			   const char *name)
{
	backend->loop = loop;
	backend->service = service;
	backend->health = rt_client_new(channel, &grpc__health__v1__health__descriptor);
	rt_admin_check(admin, &backend->ready, name);
	rt_timer_start(loop, &backend->timer, 0, ask);
}

void gateway_backend_stop(struct gateway_backend *backend)
{
	backend->stopped = true;
	rt_timer_stop(backend->loop, &backend->timer);
	if (backend->asking)
		rt_client_cancel(&backend->op);
}

void gateway_backend_done(struct gateway_backend *backend)
{
	if (backend->health != NULL)
		rt_client_free(backend->health);
}
