/* probe.c - asks each instance behind a channel for its health, several times a second, and says which
 * of them gets calls.
 *
 *   tick                 each instance without a question under way is asked; is one silent?
 *   health_answered      it serves, or says that it does not, or cannot be reached
 *     probe_set          the one setter: it is avoided or not, log, metrics, readiness
 *
 * An instance that says that it does not serve finishes its calls and gets no new ones. One from which
 * nothing has come for SILENT_TICKS, not even an answer to a call, is frozen, or its machine or the network is
 * gone: its calls end with UNAVAILABLE as soon as another instance serves, instead of hanging until
 * their deadlines. Ticks count, not time: when this process itself was stopped, one has passed.
 *
 * While none serves, calls are still sent: their errors say what is wrong. */
#include <stdio.h>

#include "client_internal.h"
#include "grpc/health/v1/health.pb-c.h"

#define TICK_MS      200
#define SILENT_TICKS 3
#define TIMEOUT_MS   5000 /* then it is asked again; it counts as silent long before */
#define METHOD_CHECK 0

typedef Grpc__Health__V1__HealthCheckResponse check_response;

static bool is_probed(const struct rpc_connection *connection)
{
	return connection != NULL && !connection->leaving;
}

/* ---- what the answers mean ---- */

/* The service is ready while at least one instance of it serves. */
static void set_check(struct rt_channel *channel)
{
	struct rt_check *check = &channel->prober->check;
	const struct rpc_connection *first = NULL;
	int serving = 0;

	for (size_t i = 0; i < channel->count; i++) {
		const struct rpc_connection *connection = channel->connections[i];

		if (!is_probed(connection))
			continue;
		first = first != NULL ? first : connection;
		serving += connection->probe.state == PROBE_SERVES;
	}
	if (channel->prober->serving != NULL)
		rt_series_set(channel->prober->serving, serving);
	if (check->readiness == NULL ||
	    (serving == 0 && first != NULL && first->probe.state == PROBE_NEW))
		return;
	if (serving > 0)
		rt_check_ready(check);
	else
		rt_check_failed(check, "%s: %s", check->service,
				first != NULL ? first->probe.reason : "no address is known");
}

/* Calls do not wait for an instance that is silent when another can take them. */
static void end_silent_calls(struct rt_channel *channel)
{
	char why[160];

	if (!rt_channel_usable(channel, 0))
		return;
	snprintf(why, sizeof(why), "an instance of %s does not answer", channel->prober->service);
	for (size_t i = 0; i < channel->count; i++)
		if (is_probed(channel->connections[i]) &&
		    channel->connections[i]->probe.state == PROBE_SILENT)
			rpc_connection_end_calls(channel->connections[i], why);
}

static void log_state(const struct rpc_connection *connection, enum probe_state before)
{
	const struct rpc_probe *probe = &connection->probe;
	const char *service = connection->channel->prober->service;

	if (probe->state == PROBE_SERVES && before != PROBE_NEW)
		RT_LOG(RT_INFO, "an instance serves again", RT_S("service", service),
		       RT_S("address", connection->address));
	if (probe->state != PROBE_SERVES && before == PROBE_SERVES)
		RT_LOG(RT_WARN, "an instance does not serve: it gets no calls while another does",
		       RT_S("service", service), RT_S("address", connection->address),
		       RT_S("reason", probe->reason));
}

static void probe_set(struct rpc_connection *connection, enum probe_state state)
{
	struct rt_channel *channel = connection->channel;
	struct rpc_probe *probe = &connection->probe;
	enum probe_state before = probe->state;

	probe->state = state;
	connection->avoided = state != PROBE_SERVES;
	if (state == before)
		return;
	if (state == PROBE_SILENT && before == PROBE_SERVES && channel->prober->silenced != NULL)
		rt_series_add(channel->prober->silenced, 1);
	log_state(connection, before);
	end_silent_calls(channel);
}

static void health_answered(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct rpc_connection *connection = RT_CONTAINER_OF(op, struct rpc_connection, probe.op);
	struct rpc_probe *probe = &connection->probe;
	const check_response *response = (const void *)message;

	probe->asking = false;
	if (connection->channel->closing || connection->leaving)
		return;
	if (op->status.code == RT_CODE_DEADLINE_EXCEEDED)
		return; /* silent, and asked again */
	if (op->status.code != 0 || response == NULL) {
		snprintf(probe->reason, sizeof(probe->reason), "%s: %s",
			 rt_code_name(op->status.code),
			 op->status.message != NULL ? op->status.message : "");
		probe_set(connection, PROBE_SERVES_NOT);
	} else if (response->status ==
		   GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING) {
		probe_set(connection, PROBE_SERVES);
	} else {
		snprintf(probe->reason, sizeof(probe->reason), "it says that it is not ready");
		probe_set(connection, PROBE_SERVES_NOT);
	}
	set_check(connection->channel);
}

/* ---- asking ---- */

static void probe_ask(struct rpc_connection *connection, int number)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct rpc_prober *prober = connection->channel->prober;
	struct rpc_probe *probe = &connection->probe;

	request.service = (char *)(uintptr_t)prober->service;
	probe->asking = true;
	probe->op = (struct rt_client_op){
		.timeout_ms = TIMEOUT_MS,
		.connection = number,
		.done = health_answered,
	};
	rt_client_start(prober->health, METHOD_CHECK, &request.base, &probe->op);
}

static void probe_tick(struct rpc_connection *connection, int number)
{
	struct rpc_probe *probe = &connection->probe;

	if (probe->received != connection->received || !probe->asking)
		probe->missed = 0;
	else
		probe->missed++;
	probe->received = connection->received;
	if (probe->missed >= SILENT_TICKS) {
		snprintf(probe->reason, sizeof(probe->reason), "it does not answer");
		probe_set(connection, PROBE_SILENT);
	}
	if (!probe->asking)
		probe_ask(connection, number);
}

static void tick(struct rt_timer *timer)
{
	struct rpc_prober *prober = RT_CONTAINER_OF(timer, struct rpc_prober, tick);
	struct rt_channel *channel = prober->channel;

	for (size_t i = 0; i < channel->count; i++)
		if (is_probed(channel->connections[i]))
			probe_tick(channel->connections[i], (int)i + 1);
	set_check(channel);
	rt_timer_start(channel->loop, timer, TICK_MS, tick);
}

/* ---- what the channel calls ---- */

static void ask_new(struct rt_channel *channel)
{
	rt_timer_start(channel->loop, &channel->prober->tick, 0, tick);
}

static void connection_leaves(struct rpc_connection *connection)
{
	if (connection->probe.asking)
		rt_client_cancel(&connection->probe.op);
}

static void prober_stop(struct rt_channel *channel)
{
	rt_timer_stop(channel->loop, &channel->prober->tick);
}

static void prober_done(struct rt_channel *channel)
{
	rt_client_free(channel->prober->health);
	free(channel->prober);
}

/* ---- start ---- */

static void prober_metrics(struct rpc_prober *prober, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "grpc_service", NULL };

	prober->serving = rt_metric_series(
		rt_metric(metrics, RT_GAUGE, "tandem_instances_serving",
			  "Connections to instances of a service that say that they serve.",
			  labels),
		&prober->service);
	prober->silenced = rt_metric_series(
		rt_metric(metrics, RT_COUNTER, "tandem_instances_silent_total",
			  "Times that an instance that served did not answer any more.", labels),
		&prober->service);
}

void rt_channel_check_health(struct rt_channel *channel, const char *service,
			     struct rt_readiness *readiness, const char *name)
{
	struct rpc_prober *prober = rt_alloc(sizeof(*prober));

	prober->channel = channel;
	prober->service = service;
	prober->connected = ask_new;
	prober->leaves = connection_leaves;
	prober->stop = prober_stop;
	prober->done = prober_done;
	channel->prober = prober;
	for (size_t i = 0; i < channel->count; i++)
		channel->connections[i]->avoided = true; /* until it says that it serves */
	prober->health = rt_client_new(channel, &grpc__health__v1__health__descriptor);
	if (channel->metrics != NULL)
		prober_metrics(prober, channel->metrics);
	if (readiness != NULL)
		rt_readiness_add(readiness, &prober->check, name, service);
	/* Names are looked up first. */
	rt_timer_start(channel->loop, &prober->tick, channel->names != NULL ? TICK_MS : 0, tick);
}
