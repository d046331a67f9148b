/* method.c - a method of a service: its path, whether it streams, and its metrics, named like those of
 * go-grpc-middleware. */
#include "call_internal.h"

#include <string.h>

static const char *const method_labels[] = { "grpc_type", "grpc_service", "grpc_method", NULL };
static const char *const handled_labels[] = { "grpc_type", "grpc_service", "grpc_method",
					      "grpc_code", NULL };

static const char *method_type(const struct rpc_method *method)
{
	if (method->client_streams)
		return method->server_streams ? "bidi_stream" : "client_stream";
	return method->server_streams ? "server_stream" : "unary";
}

static struct rt_series *method_series(const struct rpc_method *method, struct rt_metrics *metrics,
				       enum rt_metric_type type, const char *side, const char *what,
				       const char *help)
{
	const char *values[] = { method_type(method), method->service_name,
				 method->descriptor->name };
	char *name = rt_printf("grpc_%s_%s", side, what);
	struct rt_series *series =
		rt_metric_series(rt_metric(metrics, type, name, help, method_labels), values);

	free(name);
	return series;
}

static void method_metrics(struct rpc_method *method, struct rt_metrics *metrics, const char *side)
{
	char *name = rt_printf("grpc_%s_handled_total", side);

	method->started = method_series(method, metrics, RT_COUNTER, side, "started_total",
					"Calls that began.");
	method->received = method_series(method, metrics, RT_COUNTER, side, "msg_received_total",
					 "Messages that came in.");
	method->sent = method_series(method, metrics, RT_COUNTER, side, "msg_sent_total",
				     "Messages that went out.");
	method->seconds = method_series(method, metrics, RT_HISTOGRAM, side, "handling_seconds",
					"Time from a call's begin to its end.");
	method->handled = rt_metric(metrics, RT_COUNTER, name,
				    "Calls that ended, whatever their status.", handled_labels);
	free(name);
}

void rpc_method_init(struct rpc_method *method, const ProtobufCServiceDescriptor *service,
		     const char *service_name, unsigned index, struct rt_metrics *metrics,
		     const char *side)
{
	method->service_name = rt_strdup(service_name != NULL ? service_name : service->name);
	method->descriptor = &service->methods[index];
	method->index = index;
	method->path = rt_printf("/%s/%s", method->service_name, method->descriptor->name);
	rt_descriptors_method(method->service_name, method->descriptor->name,
			      &method->client_streams, &method->server_streams);
	method->traced = strncmp(method->service_name, "grpc.", strlen("grpc.")) != 0;
	if (metrics != NULL)
		method_metrics(method, metrics, side);
}

void rpc_method_done(struct rpc_method *method)
{
	free(method->path);
	free(method->service_name);
}

void rpc_method_count(struct rt_series *series)
{
	if (series != NULL)
		rt_series_add(series, 1);
}

static struct rt_series *handled_series(struct rpc_method *method, int code)
{
	/* As Go prints them: the dashboards that exist expect it. */
	static const char *const names[RPC_CODES] = {
		"OK",
		"Canceled",
		"Unknown",
		"InvalidArgument",
		"DeadlineExceeded",
		"NotFound",
		"AlreadyExists",
		"PermissionDenied",
		"ResourceExhausted",
		"FailedPrecondition",
		"Aborted",
		"OutOfRange",
		"Unimplemented",
		"Internal",
		"Unavailable",
		"DataLoss",
		"Unauthenticated",
	};
	const char *values[] = { method_type(method), method->service_name,
				 method->descriptor->name, NULL };

	if (code < 0 || code >= RPC_CODES)
		code = RT_CODE_UNKNOWN;
	if (method->handled_by_code[code] == NULL) {
		values[3] = names[code];
		method->handled_by_code[code] = rt_metric_series(method->handled, values);
	}
	return method->handled_by_code[code];
}

void rpc_method_ended(struct rpc_method *method, int code, int64_t started_ns)
{
	if (method->handled == NULL)
		return;
	rt_series_add(handled_series(method, code), 1);
	rt_series_observe(method->seconds, (double)(rt_monotonic_ns() - started_ns) / 1e9);
}
