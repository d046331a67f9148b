/* metrics.h - counters, gauges and histograms, written for Prometheus (text format 0.0.4).
 *
 * A family is registered once and lives until its registry is freed; a series is a family with
 * label values, looked up once (rt_metric_series) and then kept by whoever counts. Counting is a
 * relaxed atomic add: any thread. Registering and looking up: any thread, a mutex. */
#ifndef RT_METRICS_H
#define RT_METRICS_H

#include "rt.h"

struct rt_metrics; /* opaque: the registry */
struct rt_metric;  /* opaque: a family */
struct rt_series;  /* opaque: a family with label values; owned by its family */

/* A histogram has the buckets 0.5 ms … 10 s in steps of about 2, for what a caller waits for; a long one 10 ms … a
 * day, for what may wait for a person. Values in seconds. */
enum rt_metric_type { RT_COUNTER, RT_GAUGE, RT_HISTOGRAM, RT_HISTOGRAM_LONG };

struct rt_metrics *rt_metrics_new(void);
void rt_metrics_free(struct rt_metrics *metrics);
/* Registers a family, or finds it when the name is known. `labels` ends with NULL; NULL: none. */
struct rt_metric *rt_metric(struct rt_metrics *metrics, enum rt_metric_type type, const char *name,
			    const char *help, const char *const *labels);
/* The series with these label values, one for each label name, made when it is not there. */
struct rt_series *rt_metric_series(struct rt_metric *metric, const char *const *values);
/* A family without labels, as its only series. */
struct rt_series *rt_metric_plain(struct rt_metrics *metrics, enum rt_metric_type type,
				  const char *name, const char *help);
void rt_series_add(struct rt_series *series, double by);    /* counter, gauge */
void rt_series_set(struct rt_series *series, double value); /* gauge; a counter that others keep */
void rt_series_observe(struct rt_series *series, double seconds);
double rt_series_value(const struct rt_series *series); /* histograms: the count */
/* Before the registry is written `update` is called, in the thread that writes: it sets what nobody counts while it
 * happens. NULL: nothing. To be set before the first is written. */
void rt_metrics_on_write(struct rt_metrics *metrics, void (*update)(void *user), void *user);
/* Appends the whole registry as text. */
void rt_metrics_write(struct rt_metrics *metrics, struct rt_buf *text);

#endif
