/* prometheus.h - which alarms of Tandem's fire, as Prometheus says, where a setting names it. Any thread; blocks for at most
 * PROMETHEUS_MS. It is not asked again before PROMETHEUS_KEEP_MS, however many pages are open. */
#ifndef CONSOLE_PROMETHEUS_H
#define CONSOLE_PROMETHEUS_H

#include <jansson.h>

#include "base/base.h"

#define PROMETHEUS_MS      2000
#define PROMETHEUS_KEEP_MS 5000

struct prometheus; /* opaque */

struct prometheus_options {
	const char *url;                         /* "http://127.0.0.1:9090"; "": there is none */
	const char *tls_ca, *tls_cert, *tls_key; /* "": none */
};
/* RT_INVALID after logging why. The options are copied. */
int prometheus_new(const struct prometheus_options *options, struct prometheus **ret);
void prometheus_free(struct prometheus *prometheus); /* takes NULL */
/* Adds {"from": its URL, "items": […]}; the URL is null where there is none. False: *error says why it cannot be known. */
bool prometheus_alarms(struct prometheus *prometheus, int64_t now_ms, struct rt_buf *text,
		       struct rt_buf *error);

/* The alarms of Tandem's in an answer of /api/v1/alerts: [{"alert", "state", "since", "severity", "summary", "runbook",
 * "labels"}], all of them texts. NULL: it is no such answer. No I/O. */
json_t *prometheus_read(const char *answer, size_t length);

#endif
