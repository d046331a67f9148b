/* Metrics: families and series, the text format, counting from many threads. */
#include "base/base.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "run.h"

static void families(void)
{
	struct rt_metrics *metrics = rt_metrics_new();
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
	rt_metrics_free(metrics);
	rt_metrics_free(NULL);
}

static void text_format(void)
{
	struct rt_metrics *metrics = rt_metrics_new();
	const char *const labels[] = { "path", NULL };
	const char *const evil[] = { "a\"b\\c\nd" };
	struct rt_metric *escapes = rt_metric(metrics, RT_COUNTER, "escapes_total",
					      "Line one\nline \\ \"two\".", labels);
	struct rt_series *gauge = rt_metric_plain(metrics, RT_GAUGE, "depth", "Depth.");
	struct rt_buf text = { 0 };

	rt_series_add(rt_metric_series(escapes, evil), 9007199254740991.0);
	rt_series_set(gauge, 0.1);
	rt_metrics_write(metrics, &text);
	CU_ASSERT_STRING_EQUAL(text.data,
			       "# HELP escapes_total Line one\\nline \\\\ \"two\".\n"
			       "# TYPE escapes_total counter\n"
			       "escapes_total{path=\"a\\\"b\\\\c\\nd\"} 9007199254740991\n"
			       "# HELP depth Depth.\n"
			       "# TYPE depth gauge\n"
			       "depth 0.1\n");
	text.length = 0;
	rt_series_set(gauge, -INFINITY);
	rt_metrics_write(metrics, &text);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\ndepth -Inf\n"));
	rt_series_set(gauge, NAN);
	text.length = 0;
	rt_metrics_write(metrics, &text);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "\ndepth NaN\n"));
	rt_buf_done(&text);
	rt_metrics_free(metrics);
}

static void histogram(void)
{
	static const struct {
		const char *line;
	} wanted[] = {
		{ "took_seconds_bucket{method=\"Get\",le=\"0.0005\"} 2\n" }, /* bounds are within */
		{ "took_seconds_bucket{method=\"Get\",le=\"0.001\"} 3\n" },
		{ "took_seconds_bucket{method=\"Get\",le=\"0.002\"} 3\n" },
		{ "took_seconds_bucket{method=\"Get\",le=\"10\"} 4\n" },
		{ "took_seconds_bucket{method=\"Get\",le=\"+Inf\"} 5\n" },
		{ "took_seconds_sum{method=\"Get\"} 29.5013\n" },
		{ "took_seconds_count{method=\"Get\"} 5\n" },
	};
	struct rt_metrics *metrics = rt_metrics_new();
	const char *const labels[] = { "method", NULL };
	const char *const get[] = { "Get" };
	struct rt_series *took = rt_metric_series(
		rt_metric(metrics, RT_HISTOGRAM, "took_seconds", "Took.", labels), get);
	struct rt_buf text = { 0 };

	rt_series_observe(took, 0.0003);
	rt_series_observe(took, 0.0005);
	rt_series_observe(took, 0.0005000001);
	rt_series_observe(took, 9.5);
	rt_series_observe(took, 20);
	CU_ASSERT_EQUAL(rt_series_value(took), 5);
	rt_metrics_write(metrics, &text);
	for (size_t i = 0; i < RT_LENGTH(wanted); i++) {
		/* The sum differs in the last digits by the order of adding. */
		size_t length = strcspn(wanted[i].line, "3\n");

		if (strstr(wanted[i].line, "_sum") == NULL)
			length = strlen(wanted[i].line);
		TEST_ROW(memmem(text.data, text.length, wanted[i].line, length) != NULL,
			 wanted[i].line);
	}
	rt_buf_done(&text);
	rt_metrics_free(metrics);
}

/* Label values from outside cannot grow a family without end. */
static void bounded(void)
{
	struct rt_metrics *metrics = rt_metrics_new();
	const char *const labels[] = { "who", NULL };
	struct rt_metric *calls = rt_metric(metrics, RT_COUNTER, "calls_total", "Calls.", labels);
	const char *const other[] = { "other" };
	struct rt_buf text = { 0 };
	int lines = 0;

	for (int i = 0; i < 5000; i++) {
		char who[20];
		const char *const values[] = { who };

		snprintf(who, sizeof(who), "w%d", i);
		rt_series_add(rt_metric_series(calls, values), 1);
	}
	CU_ASSERT_EQUAL(rt_series_value(rt_metric_series(calls, other)), 3000);
	rt_metrics_write(metrics, &text);
	for (const char *p = text.data; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	CU_ASSERT_EQUAL(lines, 2 + 2001);
	rt_buf_done(&text);
	rt_metrics_free(metrics);
}

enum { THREADS = 4, ADDS = 20000 };

static void *count_much(void *user)
{
	struct rt_metrics *metrics = user;
	const char *const labels[] = { "who", NULL };
	const char *const both[] = { "both" };

	for (int i = 0; i < ADDS; i++) {
		/* Registered again each time: that, too, any thread may do. */
		struct rt_metric *calls =
			rt_metric(metrics, RT_COUNTER, "calls_total", "Calls.", labels);

		rt_series_add(rt_metric_series(calls, both), 1);
		rt_series_observe(rt_metric_plain(metrics, RT_HISTOGRAM, "took_seconds", "Took."),
				  1);
		if (i % 4096 == 0) {
			struct rt_buf text = { 0 };

			rt_metrics_write(metrics, &text);
			rt_buf_done(&text);
		}
	}
	return NULL;
}

static void threads(void)
{
	struct rt_metrics *metrics = rt_metrics_new();
	const char *const labels[] = { "who", NULL };
	const char *const both[] = { "both" };
	pthread_t ids[THREADS];
	struct rt_buf text = { 0 };

	for (int i = 0; i < THREADS; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&ids[i], NULL, count_much, metrics), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(ids[i], NULL);
	CU_ASSERT_EQUAL(rt_series_value(rt_metric_series(
				rt_metric(metrics, RT_COUNTER, "calls_total", "", labels), both)),
			THREADS * ADDS);
	rt_metrics_write(metrics, &text);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "took_seconds_sum 80000\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "took_seconds_count 80000\n"));
	rt_buf_done(&text);
	rt_metrics_free(metrics);
}

static const struct test tests[] = {
	{ "a family and a series are found again", families },
	{ "the text format, escapes and numbers", text_format },
	{ "a histogram's buckets are cumulative", histogram },
	{ "label values without end share one series", bounded },
	{ "counts from many threads add up", threads },
};

int main(void)
{
	return tests_run("metrics", tests, RT_LENGTH(tests));
}
