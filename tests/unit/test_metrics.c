/* Metrics: families and series, the text format, counting from many threads. */
#include "base/base.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "run.h"

static struct rt_metrics *metrics;
static struct rt_buf text;

static void setup(void)
{
	metrics = rt_metrics_new();
}

static void teardown(void)
{
	rt_buf_done(&text);
	rt_metrics_free(metrics);
}

static const char *written(void)
{
	text.length = 0;
	rt_metrics_write(metrics, &text);
	return text.data;
}

static void families(void)
{
	const char *const labels[] = { "method", "code", NULL };
	const char *const ok[] = { "Place", "OK" }, *const lost[] = { "Place", "UNAVAILABLE" };
	struct rt_metric *calls = rt_metric(metrics, RT_COUNTER, "calls_total", "Calls.", labels);

	CU_ASSERT_PTR_EQUAL(rt_metric(metrics, RT_COUNTER, "calls_total", "Calls.", labels), calls);
	CU_ASSERT_PTR_EQUAL(rt_metric_series(calls, ok), rt_metric_series(calls, ok));
	CU_ASSERT_PTR_NOT_EQUAL(rt_metric_series(calls, ok), rt_metric_series(calls, lost));
	rt_series_add(rt_metric_series(calls, ok), 2);
	rt_series_add(rt_metric_series(calls, ok), 1);
	CU_ASSERT_EQUAL(rt_series_value(rt_metric_series(calls, ok)), 3);
	CU_ASSERT_EQUAL(rt_series_value(rt_metric_series(calls, lost)), 0);
	rt_metrics_free(NULL);
}

static void text_format(void)
{
	const char *const labels[] = { "path", NULL };
	const char *const evil[] = { "a\"b\\c\nd" };
	struct rt_metric *escapes = rt_metric(metrics, RT_COUNTER, "escapes_total",
					      "Line one\nline \\ \"two\".", labels);
	struct rt_series *gauge = rt_metric_plain(metrics, RT_GAUGE, "depth", "Depth.");

	rt_series_add(rt_metric_series(escapes, evil), 9007199254740991.0);
	rt_series_set(gauge, 0.1);
	CU_ASSERT_STRING_EQUAL(written(),
			       "# HELP escapes_total Line one\\nline \\\\ \"two\".\n"
			       "# TYPE escapes_total counter\n"
			       "escapes_total{path=\"a\\\"b\\\\c\\nd\"} 9007199254740991\n"
			       "# HELP depth Depth.\n"
			       "# TYPE depth gauge\n"
			       "depth 0.1\n");
	rt_series_set(gauge, -INFINITY);
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "\ndepth -Inf\n"));
	rt_series_set(gauge, NAN);
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "\ndepth NaN\n"));
}

static void histogram(void)
{
	static const char *const wanted[] = {
		"took_seconds_bucket{method=\"Get\",le=\"0.0005\"} 2\n", /* bounds are within */
		"took_seconds_bucket{method=\"Get\",le=\"0.001\"} 3\n",
		"took_seconds_bucket{method=\"Get\",le=\"0.002\"} 3\n",
		"took_seconds_bucket{method=\"Get\",le=\"10\"} 4\n",
		"took_seconds_bucket{method=\"Get\",le=\"+Inf\"} 5\n",
		"took_seconds_sum{method=\"Get\"} 29.5013\n",
		"took_seconds_count{method=\"Get\"} 5\n",
	};
	const char *const labels[] = { "method", NULL };
	const char *const get[] = { "Get" };
	struct rt_series *took = rt_metric_series(
		rt_metric(metrics, RT_HISTOGRAM, "took_seconds", "Took.", labels), get);

	rt_series_observe(took, 0.0003);
	rt_series_observe(took, 0.0005);
	rt_series_observe(took, 0.0005000001);
	rt_series_observe(took, 9.5);
	rt_series_observe(took, 20);
	CU_ASSERT_EQUAL(rt_series_value(took), 5);
	written();
	for (size_t i = 0; i < RT_LENGTH(wanted); i++) {
		/* The sum differs in the last digits by the order of adding. */
		size_t length = strcspn(wanted[i], "3\n");

		if (strstr(wanted[i], "_sum") == NULL)
			length = strlen(wanted[i]);
		TEST_ROW(memmem(text.data, text.length, wanted[i], length) != NULL, wanted[i]);
	}
}

static void long_histogram(void)
{
	struct rt_series *took =
		rt_metric_plain(metrics, RT_HISTOGRAM_LONG, "settled_seconds", "Settled.");

	rt_series_observe(took, 0.01);
	rt_series_observe(took, 899);
	rt_series_observe(took, 90000);
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "# TYPE settled_seconds histogram\n"
						 "settled_seconds_bucket{le=\"0.01\"} 1\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "{le=\"300\"} 1\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "{le=\"900\"} 2\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "{le=\"86400\"} 2\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "{le=\"+Inf\"} 3\n"));
}

static void add_one(void *series)
{
	rt_series_add(series, 1);
}

static void set_when_written(void)
{
	rt_metrics_on_write(metrics, add_one,
			    rt_metric_plain(metrics, RT_GAUGE, "asked", "Asked."));
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "\nasked 1\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "\nasked 2\n"));
}

/* Label values from outside cannot grow a family without end. */
static void bounded(void)
{
	const char *const labels[] = { "who", NULL };
	struct rt_metric *calls = rt_metric(metrics, RT_COUNTER, "calls_total", "Calls.", labels);
	const char *const other[] = { "other" };
	int lines = 0;

	for (int i = 0; i < 5000; i++) {
		char who[20];
		const char *const values[] = { who };

		snprintf(who, sizeof(who), "w%d", i);
		rt_series_add(rt_metric_series(calls, values), 1);
	}
	CU_ASSERT_EQUAL(rt_series_value(rt_metric_series(calls, other)), 3000);
	for (const char *p = written(); (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	CU_ASSERT_EQUAL(lines, 2 + 2001);
}

enum { THREADS = 4, ADDS = 20000 };

static void *count_much(void *unused)
{
	const char *const labels[] = { "who", NULL };
	const char *const both[] = { "both" };

	for (int i = 0; i < ADDS; i++) {
		/* Registered again each time: any thread may do that, too. */
		struct rt_metric *calls =
			rt_metric(metrics, RT_COUNTER, "calls_total", "Calls.", labels);

		rt_series_add(rt_metric_series(calls, both), 1);
		rt_series_observe(rt_metric_plain(metrics, RT_HISTOGRAM, "took_seconds", "Took."),
				  1);
		if (i % 4096 == 0) {
			struct rt_buf seen = { 0 };

			rt_metrics_write(metrics, &seen);
			rt_buf_done(&seen);
		}
	}
	return unused;
}

static void threads(void)
{
	const char *const labels[] = { "who", NULL };
	const char *const both[] = { "both" };
	pthread_t ids[THREADS];

	for (int i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&ids[i], NULL, count_much, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(ids[i], NULL);
	CU_ASSERT_EQUAL(rt_series_value(rt_metric_series(
				rt_metric(metrics, RT_COUNTER, "calls_total", "", labels), both)),
			THREADS * ADDS);
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "took_seconds_sum 80000\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(written(), "took_seconds_count 80000\n"));
}

static const struct test tests[] = {
	{ "a family and a series are found again", families },
	{ "the text format, escapes and numbers", text_format },
	{ "a histogram's buckets are cumulative", histogram },
	{ "a long histogram's buckets end at a day", long_histogram },
	{ "what nobody counts is set when it is written", set_when_written },
	{ "label values without end share one series", bounded },
	{ "counts from many threads add up", threads },
};

TESTS_MAIN_EACH("metrics", setup, teardown, tests)
