/* metrics.c - a registry of families, a family a hash of series by their label values.
 *
 * Series are never removed, so a pointer to one stays good and counting needs no lock. Real
 * numbers are kept as the bits of a double in a 64-bit atomic word: C11's atomic double would
 * touch the floating-point environment at each addition.
 *
 * A family holds SERIES_MAX series at most; label values beyond go to one series whose values all
 * are "other", so that nothing from outside can grow the registry without end. */
#include "metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "text.h"

#define SERIES_MAX 2000
#define LABELS_MAX 8

#define BUCKETS 14

static const double short_bounds[BUCKETS] = { 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
					      0.1,    0.2,   0.5,   1,     2,    5,    10 };
static const double long_bounds[BUCKETS] = { 0.01, 0.1, 0.5, 1,    5,    10,    30,
					     60,   300, 900, 1800, 3600, 21600, 86400 };

struct histogram {
	const double *bounds;
	_Atomic uint64_t buckets[BUCKETS + 1]; /* not cumulative; the last: above every bound */
};

struct rt_series {
	_Atomic uint64_t bits; /* the value; of a histogram: the sum */
	struct histogram *histogram;
	char *labels; /* as they are written, `a="x",b="y"`; what the hash is keyed by */
	UT_hash_handle hh;
};

struct rt_metric {
	struct rt_metrics *metrics;
	enum rt_metric_type type;
	char *name, *help;
	char *labels[LABELS_MAX];
	size_t label_count;
	struct rt_series *series;
	struct rt_metric *next;
};

struct rt_metrics {
	pthread_mutex_t lock; /* the lists below; values are atomics */
	struct rt_metric *first, **end;
	void (*update)(void *user);
	void *update_user;
};

static double bits_to_real(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static uint64_t real_to_bits(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

struct rt_metrics *rt_metrics_new(void)
{
	struct rt_metrics *metrics = rt_alloc(sizeof(*metrics));

	pthread_mutex_init(&metrics->lock, NULL);
	metrics->end = &metrics->first;
	return metrics;
}

static void series_free(struct rt_series *series)
{
	free(series->histogram);
	free(series->labels);
	free(series);
}

static void metric_free(struct rt_metric *metric)
{
	struct rt_series *series = metric->series, *next;

	/* Frees the hash table, but the elements stay linked to each other. */
	HASH_CLEAR(hh, metric->series);
	for (; series != NULL; series = next) {
		next = series->hh.next;
		series_free(series);
	}
	for (size_t i = 0; i < metric->label_count; i++)
		free(metric->labels[i]);
	free(metric->name);
	free(metric->help);
	free(metric);
}

void rt_metrics_free(struct rt_metrics *metrics)
{
	if (metrics == NULL)
		return;
	while (metrics->first != NULL) {
		struct rt_metric *next = metrics->first->next;

		metric_free(metrics->first);
		metrics->first = next;
	}
	pthread_mutex_destroy(&metrics->lock);
	free(metrics);
}

static _Noreturn void misused(const char *name, const char *what)
{
	fprintf(stderr, "metric %s: %s\n", name, what);
	abort();
}

static bool is_histogram(const struct rt_metric *metric)
{
	return metric->type == RT_HISTOGRAM || metric->type == RT_HISTOGRAM_LONG;
}

static bool same_labels(const struct rt_metric *metric, const char *const *labels)
{
	size_t i = 0;

	for (; labels != NULL && labels[i] != NULL; i++) {
		if (i >= metric->label_count || strcmp(labels[i], metric->labels[i]) != 0)
			return false;
	}
	return i == metric->label_count;
}

static struct rt_metric *metric_new(struct rt_metrics *metrics, enum rt_metric_type type,
				    const char *name, const char *help, const char *const *labels)
{
	struct rt_metric *metric = rt_alloc(sizeof(*metric));

	metric->metrics = metrics;
	metric->type = type;
	metric->name = rt_strdup(name);
	metric->help = rt_strdup(help);
	for (; labels != NULL && labels[metric->label_count] != NULL; metric->label_count++) {
		if (metric->label_count == LABELS_MAX)
			misused(name, "too many labels");
		metric->labels[metric->label_count] = rt_strdup(labels[metric->label_count]);
	}
	*metrics->end = metric;
	metrics->end = &metric->next;
	return metric;
}

struct rt_metric *rt_metric(struct rt_metrics *metrics, enum rt_metric_type type, const char *name,
			    const char *help, const char *const *labels)
{
	struct rt_metric *metric;

	pthread_mutex_lock(&metrics->lock);
	for (metric = metrics->first; metric != NULL; metric = metric->next) {
		if (strcmp(metric->name, name) == 0)
			break;
	}
	if (metric == NULL)
		metric = metric_new(metrics, type, name, help, labels);
	else if (metric->type != type || !same_labels(metric, labels))
		misused(name, "registered before with another type or other labels");
	pthread_mutex_unlock(&metrics->lock);
	return metric;
}

/* A label value or a help text with the escapes of the format; what is not printable as \\xNN, which
 * the format's reader gives as \xNN. */
static void write_escaped(struct rt_buf *text, const char *value, bool quotes)
{
	size_t left = strlen(value);

	while (left > 0) {
		uint32_t c = 0;
		size_t length = rt_utf8_decode(value, left, &c);
		bool shown = length > 0 && rt_character_printable(c);

		length = RT_MAX(length, (size_t)1);
		if (c == '\n')
			rt_buf_add(text, "\\n", 2);
		else if (c == '\\')
			rt_buf_add(text, "\\\\", 2);
		else if (c == '"' && quotes)
			rt_buf_add(text, "\\\"", 2);
		else if (shown)
			rt_buf_add(text, value, length);
		else
			for (size_t i = 0; i < length; i++)
				rt_buf_printf(text, "\\\\x%02x", (unsigned char)value[i]);
		value += length;
		left -= length;
	}
}

/* `values` NULL: "other" for each. */
static void write_labels(struct rt_buf *text, const struct rt_metric *metric,
			 const char *const *values)
{
	rt_buf_add(text, NULL, 0);
	for (size_t i = 0; i < metric->label_count; i++) {
		rt_buf_printf(text, "%s%s=\"", i > 0 ? "," : "", metric->labels[i]);
		write_escaped(text, values == NULL ? "other" : values[i], true);
		rt_buf_add(text, "\"", 1);
	}
}

/* Under the lock. Takes `labels`. */
static struct rt_series *series_get(struct rt_metric *metric, struct rt_buf *labels)
{
	struct rt_series *series;

	HASH_FIND(hh, metric->series, labels->data, labels->length, series);
	if (series == NULL && HASH_COUNT(metric->series) >= SERIES_MAX) {
		labels->length = 0;
		write_labels(labels, metric, NULL);
		HASH_FIND(hh, metric->series, labels->data, labels->length, series);
	}
	if (series != NULL) {
		rt_buf_done(labels);
		return series;
	}
	series = rt_alloc(sizeof(*series));
	series->labels = labels->data;
	if (is_histogram(metric)) {
		series->histogram = rt_alloc(sizeof(*series->histogram));
		series->histogram->bounds =
			metric->type == RT_HISTOGRAM ? short_bounds : long_bounds;
	}
	HASH_ADD_KEYPTR(hh, metric->series, series->labels, labels->length, series);
	return series;
}

struct rt_series *rt_metric_series(struct rt_metric *metric, const char *const *values)
{
	struct rt_buf labels = { 0 };
	struct rt_series *series;

	write_labels(&labels, metric, values);
	pthread_mutex_lock(&metric->metrics->lock);
	series = series_get(metric, &labels);
	pthread_mutex_unlock(&metric->metrics->lock);
	return series;
}

struct rt_series *rt_metric_plain(struct rt_metrics *metrics, enum rt_metric_type type,
				  const char *name, const char *help)
{
	return rt_metric_series(rt_metric(metrics, type, name, help, NULL), NULL);
}

void rt_series_add(struct rt_series *series, double by)
{
	uint64_t old = atomic_load_explicit(&series->bits, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&series->bits, &old,
						      real_to_bits(bits_to_real(old) + by),
						      memory_order_relaxed, memory_order_relaxed))
		;
}

void rt_series_set(struct rt_series *series, double value)
{
	atomic_store_explicit(&series->bits, real_to_bits(value), memory_order_relaxed);
}

void rt_series_observe(struct rt_series *series, double seconds)
{
	size_t i = 0;

	if (series->histogram == NULL)
		misused(series->labels, "observing what is not a histogram");
	while (i < BUCKETS && seconds > series->histogram->bounds[i])
		i++;
	atomic_fetch_add_explicit(&series->histogram->buckets[i], 1, memory_order_relaxed);
	rt_series_add(series, seconds);
}

double rt_series_value(const struct rt_series *series)
{
	uint64_t count = 0;

	if (series->histogram == NULL)
		return bits_to_real(atomic_load_explicit(&series->bits, memory_order_relaxed));
	for (size_t i = 0; i <= BUCKETS; i++)
		count += atomic_load_explicit(&series->histogram->buckets[i], memory_order_relaxed);
	return (double)count;
}

/* ---- the text format ---- */

static void write_number(struct rt_buf *text, double value)
{
	char number[40];

	if (isnan(value)) {
		rt_buf_printf(text, "NaN");
		return;
	}
	if (isinf(value)) {
		rt_buf_printf(text, value > 0 ? "+Inf" : "-Inf");
		return;
	}
	/* The shorter text if it reads back as the same number. */
	snprintf(number, sizeof(number), "%.15g", value);
	if (strtod(number, NULL) != value)
		snprintf(number, sizeof(number), "%.17g", value);
	rt_buf_printf(text, "%s", number);
}

static void write_sample(struct rt_buf *text, const char *name, const char *suffix,
			 const char *labels, double value)
{
	rt_buf_printf(text, "%s%s", name, suffix);
	if (labels[0] != '\0')
		rt_buf_printf(text, "{%s}", labels);
	rt_buf_add(text, " ", 1);
	write_number(text, value);
	rt_buf_add(text, "\n", 1);
}

static void write_histogram(struct rt_buf *text, const struct rt_metric *metric,
			    const struct rt_series *series)
{
	uint64_t count = 0;

	for (size_t i = 0; i <= BUCKETS; i++) {
		count += atomic_load_explicit(&series->histogram->buckets[i], memory_order_relaxed);
		rt_buf_printf(text, "%s_bucket{%s%sle=\"", metric->name, series->labels,
			      series->labels[0] != '\0' ? "," : "");
		write_number(text, i < BUCKETS ? series->histogram->bounds[i] : INFINITY);
		rt_buf_printf(text, "\"} %llu\n", (unsigned long long)count);
	}
	write_sample(text, metric->name, "_sum", series->labels,
		     bits_to_real(atomic_load_explicit(&series->bits, memory_order_relaxed)));
	/* Not from a counter of its own: the count must equal the last bucket. */
	write_sample(text, metric->name, "_count", series->labels, (double)count);
}

void rt_metrics_on_write(struct rt_metrics *metrics, void (*update)(void *user), void *user)
{
	metrics->update = update;
	metrics->update_user = user;
}

void rt_metrics_write(struct rt_metrics *metrics, struct rt_buf *text)
{
	static const char *const type_names[] = {
		[RT_COUNTER] = "counter",
		[RT_GAUGE] = "gauge",
		[RT_HISTOGRAM] = "histogram",
		[RT_HISTOGRAM_LONG] = "histogram",
	};
	struct rt_series *series, *next;

	if (metrics->update != NULL)
		metrics->update(metrics->update_user);
	pthread_mutex_lock(&metrics->lock);
	for (struct rt_metric *metric = metrics->first; metric != NULL; metric = metric->next) {
		rt_buf_printf(text, "# HELP %s ", metric->name);
		write_escaped(text, metric->help, false);
		rt_buf_printf(text, "\n# TYPE %s %s\n", metric->name, type_names[metric->type]);
		HASH_ITER (hh, metric->series, series, next) {
			if (is_histogram(metric))
				write_histogram(text, metric, series);
			else
				write_sample(text, metric->name, "", series->labels,
					     rt_series_value(series));
		}
	}
	pthread_mutex_unlock(&metrics->lock);
}
