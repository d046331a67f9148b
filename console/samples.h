/* samples.h - what the services' metrics say, made small enough to be drawn: a point each second, and how each stream and
 * service is now. No I/O; time is an argument.
 *
 *   samples_begin, samples_add for each page of metrics, samples_end → a point
 *
 * Several instances of a service: what is counted is added up, what is measured is the highest. */
#ifndef CONSOLE_SAMPLES_H
#define CONSOLE_SAMPLES_H

#include <jansson.h>

#include "base/base.h"

struct samples; /* opaque */

struct samples *samples_new(void);
void samples_free(struct samples *samples); /* takes NULL */

void samples_begin(struct samples *samples);
/* A page of /metrics from `url`; NULL: it did not come, `error` says why. The text may be anything. */
void samples_add(struct samples *samples, const char *url, const char *page, const char *error);
/* The point, and how it is now: {"t": unix ms, "placed": per second, …, "streams": […], "services": […]}. Rates and
 * latencies are those since some seconds ago; null where nothing is known, or nothing happened. */
json_t *samples_end(struct samples *samples, int64_t unix_ms, int64_t now_ms);

#endif
