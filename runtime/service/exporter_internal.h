/* exporter_internal.h - sends spans to an OpenTelemetry collector. Private to service. */
#ifndef RT_EXPORTER_INTERNAL_H
#define RT_EXPORTER_INTERNAL_H

#include "loop/loop.h"
#include "rpc/rpc.h"

struct rt_exporter; /* opaque */

struct rt_exporter_options {
	const char *service;  /* "order" */
	const char *endpoint; /* "127.0.0.1:4317", or with http:// or https:// in front */
	const char *ratio;    /* of the traces that begin here: "0.01" */
	int64_t slow_ms;
	struct rt_tls *tls; /* NULL: not encrypted */
	struct rt_metrics *metrics;
};
/* Spans are taken and sent from now on. RT_INVALID, after logging why: a bad endpoint or ratio. */
int rt_exporter_new(struct rt_loop *loop, const struct rt_exporter_options *options,
		    struct rt_exporter **ret);
/* Takes no more spans, sends what waits, within a second, and frees itself; then `stopped` runs. */
void rt_exporter_stop(struct rt_exporter *exporter, void (*stopped)(void *user), void *user);

#endif
