/* top.c - tandemctl top: what Tandem does now, once a second: rates, times, batches, queues.
 *
 *   take_frame     /metrics of each service, and from Redis how far the groups are behind
 *   make           the frame before it and this one make rates and quantiles: one JSON value
 *   show           which is printed, or made into tables
 *
 * A number that is not known is null, or "-". At a terminal each frame replaces the one before. */
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "commands.h"
#include "scrape.h"

#define METHODS_MAX   64
#define METHODS_SHOWN 8

struct top {
	bool once;
	int64_t every_ms;
	struct ctl *ctl;
	struct ctl_scrapes services[CTL_SERVICES];
	struct ctl_lag_sum lags[CTL_READERS];
	bool lags_known;
};

enum { GATEWAY = 0 };

/* ---- one frame, as JSON ---- */

static json_t *number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *milliseconds(const struct ctl_scrapes *scrapes, const char *name, const char *label,
			    double quantile)
{
	return number(1000 * ctl_scrape_quantile(scrapes, name, label, quantile));
}

/* The sum of all services that have such a metric. */
static double sum(const struct top *top, const char *name, const char *label)
{
	double all = NAN;

	for (size_t i = 0; i < CTL_SERVICES; i++) {
		double one = ctl_scrape_sum(&top->services[i].now, name, label);

		if (!isnan(one))
			all = isnan(all) ? one : all + one;
	}
	return all;
}

static double rate(const struct top *top, const char *name, const char *label)
{
	double all = NAN;

	for (size_t i = 0; i < CTL_SERVICES; i++) {
		double one = ctl_scrape_rate(&top->services[i], name, label);

		if (!isnan(one))
			all = isnan(all) ? one : all + one;
	}
	return all;
}

static json_t *service_json(const struct top *top, size_t service)
{
	const struct ctl_scrapes *scrapes = &top->services[service];
	const char *name = ctl_service_name(service);
	double ended = ctl_scrape_rate(scrapes, "grpc_server_handled_total", "");
	double good = ctl_scrape_rate(scrapes, "grpc_server_handled_total", "grpc_code=\"OK\"");

	if (scrapes->now.why != NULL)
		return json_pack("{s:s, s:o}", "service", name, "why",
				 ctl_json_text(scrapes->now.why));
	return json_pack(
		"{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "service", name, "calls_per_s",
		number(ended), "failed_per_s", number(ended - (isnan(good) ? 0 : good)), "p50_ms",
		milliseconds(scrapes, "grpc_server_handling_seconds", "", 0.5), "p99_ms",
		milliseconds(scrapes, "grpc_server_handling_seconds", "", 0.99), "under_way",
		number(ctl_scrape_sum(&scrapes->now, "grpc_server_started_total", "") -
		       ctl_scrape_sum(&scrapes->now, "grpc_server_handled_total", "")),
		"cpu", number(ctl_scrape_rate(scrapes, "process_cpu_seconds_total", "")),
		"rss_bytes",
		number(ctl_scrape_sum(&scrapes->now, "process_resident_memory_bytes", "")));
}

static json_t *orders_json(const struct top *top)
{
	static const char *const statuses[] = { "reserved", "rejected", "confirmed", "cancelled",
						"expired" };
	json_t *orders = json_object();
	const struct ctl_scrapes *order = NULL;

	for (size_t i = 0; i < CTL_SERVICES; i++)
		if (strcmp(ctl_service_name(i), "order") == 0)
			order = &top->services[i];
	json_object_set_new(orders, "placed_per_s",
			    number(rate(top, "tandem_orders_placed_total", "outcome=\"new\"")));
	for (size_t i = 0; i < RT_LENGTH(statuses); i++) {
		char label[48], key[48];

		snprintf(label, sizeof(label), "status=\"%s\"", statuses[i]);
		snprintf(key, sizeof(key), "%s_per_s", statuses[i]);
		json_object_set_new(orders, key,
				    number(rate(top, "tandem_orders_decided_total", label)));
	}
	if (order != NULL) {
		json_object_set_new(orders, "decision_p50_ms",
				    milliseconds(order, "tandem_order_decision_seconds", "", 0.5));
		json_object_set_new(orders, "decision_p99_ms",
				    milliseconds(order, "tandem_order_decision_seconds", "", 0.99));
	}
	json_object_set_new(orders, "unsettled", number(sum(top, "tandem_orders_unsettled", "")));
	json_object_set_new(orders, "due", number(sum(top, "tandem_orders_due", "")));
	json_object_set_new(orders, "waiting_calls", number(sum(top, "tandem_order_waiters", "")));
	json_object_set_new(orders, "asked_again_per_s",
			    number(rate(top, "tandem_orders_republished_total", "")));
	return orders;
}

/* Which part of the orders is refused, and how near each number is to its limit. */
static json_t *refused_json(const struct top *top)
{
	const struct ctl_scrape *now = &top->services[GATEWAY].now;
	json_t *refused = json_object(), *loads = json_object();

	for (size_t i = 0; i < now->count; i++) {
		char cause[32];

		if (strcmp(now->list[i].name, "tandem_gateway_load") == 0 &&
		    ctl_series_label(&now->list[i], "cause", cause, sizeof(cause)))
			json_object_set_new(loads, cause, number(now->list[i].value));
	}
	json_object_set_new(refused, "share",
			    number(ctl_scrape_sum(now, "tandem_gateway_shed_share", "")));
	json_object_set_new(refused, "overload_per_s",
			    number(ctl_scrape_rate(&top->services[GATEWAY],
						   "tandem_gateway_shed_orders_total", "")));
	json_object_set_new(refused, "bound_per_s",
			    number(ctl_scrape_rate(&top->services[GATEWAY],
						   "tandem_gateway_refused_orders_total", "")));
	json_object_set_new(
		refused, "callers_per_s",
		number(ctl_scrape_rate(&top->services[GATEWAY], "tandem_calls_refused_total", "")));
	json_object_set_new(refused, "load", loads);
	return refused;
}

static json_t *batches_json(const struct top *top)
{
	json_t *batches = json_array();

	for (size_t i = 0; i < CTL_SERVICES; i++) {
		const struct ctl_scrape *now = &top->services[i].now;

		for (size_t j = 0; j < now->count; j++) {
			const struct ctl_series *series = &now->list[j];
			const struct ctl_scrapes *scrapes = &top->services[i];
			double count, items;

			if (strcmp(series->name, "tandem_batches_total") != 0)
				continue;
			count = ctl_scrape_grown(scrapes, series->name, series->labels);
			items = ctl_scrape_grown(scrapes, "tandem_batch_items_total",
						 series->labels);
			if (count > 0) {
				char step[64] = "";

				(void)ctl_series_label(series, "step", step, sizeof(step));
				json_array_append_new(
					batches,
					json_pack("{s:s, s:o, s:o, s:o}", "service",
						  ctl_service_name(i), "step", ctl_json_text(step),
						  "per_s",
						  number(ctl_scrape_rate(scrapes, series->name,
									 series->labels)),
						  "items", number(items / count)));
			}
		}
	}
	return batches;
}

struct method {
	size_t service;
	const struct ctl_series
		*series; /* of grpc_server_started_total: its labels name the method */
	double p99;
};

static int slowest_first(const void *a, const void *b)
{
	double one = ((const struct method *)a)->p99, other = ((const struct method *)b)->p99;

	return one < other ? 1 : one > other ? -1 : 0;
}

static json_t *methods_json(const struct top *top)
{
	struct method methods[METHODS_MAX] = { { 0 } };
	json_t *list = json_array();
	size_t count = 0;

	for (size_t i = 0; i < CTL_SERVICES; i++) {
		const struct ctl_scrape *now = &top->services[i].now;

		for (size_t j = 0; j < now->count && count < METHODS_MAX; j++) {
			const struct ctl_series *series = &now->list[j];
			double p99;

			if (strcmp(series->name, "grpc_server_started_total") != 0)
				continue;
			p99 = ctl_scrape_quantile(&top->services[i], "grpc_server_handling_seconds",
						  series->labels, 0.99);
			if (!isnan(p99))
				methods[count++] = (struct method){ i, series, p99 };
		}
	}
	qsort(methods, count, sizeof(methods[0]), slowest_first);
	for (size_t i = 0; i < RT_MIN(count, METHODS_SHOWN); i++) {
		const struct ctl_scrapes *scrapes = &top->services[methods[i].service];
		const char *labels = methods[i].series->labels;
		char method[96] = "";

		(void)ctl_series_label(methods[i].series, "grpc_method", method, sizeof(method));
		json_array_append_new(
			list,
			json_pack(
				"{s:s, s:o, s:o, s:o, s:o}", "service",
				ctl_service_name(methods[i].service), "method",
				ctl_json_text(method), "calls_per_s",
				number(ctl_scrape_rate(
					scrapes, "grpc_server_handling_seconds_count", labels)),
				"p50_ms",
				milliseconds(scrapes, "grpc_server_handling_seconds", labels, 0.5),
				"p99_ms", number(1000 * methods[i].p99)));
	}
	return list;
}

static json_t *streams_json(const struct top *top)
{
	json_t *list = json_array();

	for (size_t i = 0; i < CTL_READERS && top->lags_known; i++) {
		const struct ctl_lag_sum *stream = &top->lags[i];

		json_array_append_new(
			list,
			json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:I}", "of",
				  stream->pair->of, "reader", stream->pair->reader, "length",
				  (json_int_t)stream->length, "lag", (json_int_t)stream->lag.lag,
				  "pending", (json_int_t)stream->lag.pending, "aside",
				  (json_int_t)stream->lag.aside, "oldest_pending_ms",
				  stream->lag.oldest_ms < 0 ? json_null()
							    : json_integer(stream->lag.oldest_ms),
				  "consumers", (json_int_t)stream->lag.readers.consumers));
	}
	return list;
}

static json_t *make(const struct top *top)
{
	json_t *services = json_array();
	char time[RT_TIME_TEXT];

	rt_time_format(ctl_now_ms(top->ctl), time);
	for (size_t i = 0; i < CTL_SERVICES; i++)
		json_array_append_new(services, service_json(top, i));
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "time", time, "services", services,
			 "orders", orders_json(top), "refused", refused_json(top), "streams",
			 streams_json(top), "batches", batches_json(top), "methods",
			 methods_json(top));
}

/* ---- one frame, for people ---- */

static void number_cell(struct ctl_table *table, const json_t *of, const char *key)
{
	const json_t *value = json_object_get(of, key);
	double number = json_number_value(value);

	if (!json_is_number(value))
		ctl_cell(table, "-");
	else if (json_is_integer(value) || number >= 100 || number == floor(number))
		ctl_cell(table, "%.0f", number);
	else
		ctl_cell(table, number < 10 ? "%.2f" : "%.1f", number);
}

static void text_cell(struct ctl_table *table, const json_t *of, const char *key)
{
	const char *text = json_string_value(json_object_get(of, key));

	ctl_cell(table, "%s", text != NULL ? text : "-");
}

static void show_services(const json_t *frame)
{
	struct ctl_table table = CTL_TABLE("SERVICE", "CALLS/S", "FAILED/S", "P50 MS", "P99 MS",
					   "UNDER WAY", "CPU", "RSS MIB");
	const json_t *service;
	size_t i;

	json_array_foreach(json_object_get(frame, "services"), i, service)
	{
		static const char *const keys[] = { "calls_per_s", "failed_per_s", "p50_ms",
						    "p99_ms",      "under_way",    "cpu" };
		const json_t *rss = json_object_get(service, "rss_bytes");
		const json_t *why = json_object_get(service, "why");

		text_cell(&table, service, "service");
		for (size_t j = 0; j < RT_LENGTH(keys); j++)
			if (why == NULL)
				number_cell(&table, service, keys[j]);
			else
				ctl_cell(&table, "%s", j == 0 ? json_string_value(why) : "");
		if (json_is_number(rss))
			ctl_cell(&table, "%.0f", json_number_value(rss) / 1048576);
		else
			ctl_cell(&table, "%s", why == NULL ? "-" : "");
	}
	ctl_table_print(&table);
}

static void show_orders(const json_t *frame)
{
	static const char *const keys[] = { "placed_per_s",     "reserved_per_s",
					    "rejected_per_s",   "confirmed_per_s",
					    "cancelled_per_s",  "expired_per_s",
					    "decision_p50_ms",  "decision_p99_ms",
					    "unsettled",        "due",
					    "asked_again_per_s" };
	struct ctl_table table = CTL_TABLE("PLACED/S", "RESERVED/S", "REJECTED/S", "CONFIRMED/S",
					   "CANCELLED/S", "EXPIRED/S", "DECIDED P50 MS", "P99 MS",
					   "UNSETTLED", "DUE", "ASKED AGAIN/S");

	for (size_t i = 0; i < RT_LENGTH(keys); i++)
		number_cell(&table, json_object_get(frame, "orders"), keys[i]);
	ctl_table_print(&table);
}

/* Against the limits in percent: from 100 on orders are refused. */
static void show_refused(const json_t *frame)
{
	json_t *refused = json_object_get(frame, "refused"), *load;
	struct ctl_table table = CTL_TABLE("REFUSED", "ORDERS/S", "LOAD: EVENTS", "AGE", "STORING",
					   "ARRIVING", "MEMORY");
	static const char *const causes[] = { "events", "age", "storing", "arriving", "memory" };

	ctl_cell(&table, "%.0f %%", 100 * json_number_value(json_object_get(refused, "share")));
	number_cell(&table, refused, "overload_per_s");
	load = json_object_get(refused, "load");
	for (size_t i = 0; i < RT_LENGTH(causes); i++)
		ctl_cell(&table, "%.0f %%",
			 100 * json_number_value(json_object_get(load, causes[i])));
	ctl_table_print(&table);
}

static void show_streams(const json_t *frame)
{
	struct ctl_table table = CTL_TABLE("STREAM", "READER", "LENGTH", "LAG", "PENDING", "ASIDE",
					   "OLDEST", "CONSUMERS");
	const json_t *stream;
	size_t i;

	json_array_foreach(json_object_get(frame, "streams"), i, stream)
	{
		const json_t *oldest = json_object_get(stream, "oldest_pending_ms");
		char age[CTL_AGE] = "-";

		if (json_is_integer(oldest))
			ctl_age(age, json_integer_value(oldest));
		text_cell(&table, stream, "of");
		text_cell(&table, stream, "reader");
		number_cell(&table, stream, "length");
		number_cell(&table, stream, "lag");
		number_cell(&table, stream, "pending");
		number_cell(&table, stream, "aside");
		ctl_cell(&table, "%s", age);
		number_cell(&table, stream, "consumers");
	}
	ctl_table_print(&table);
}

static void show_batches(const json_t *frame)
{
	struct ctl_table table = CTL_TABLE("BATCHES OF", "STEP", "PER S", "SIZE");
	const json_t *batch;
	size_t i;

	json_array_foreach(json_object_get(frame, "batches"), i, batch)
	{
		text_cell(&table, batch, "service");
		text_cell(&table, batch, "step");
		number_cell(&table, batch, "per_s");
		number_cell(&table, batch, "items");
	}
	ctl_table_print(&table);
}

static void show_methods(const json_t *frame)
{
	struct ctl_table table = CTL_TABLE("SLOWEST OF", "METHOD", "CALLS/S", "P50 MS", "P99 MS");
	const json_t *method;
	size_t i;

	json_array_foreach(json_object_get(frame, "methods"), i, method)
	{
		text_cell(&table, method, "service");
		text_cell(&table, method, "method");
		number_cell(&table, method, "calls_per_s");
		number_cell(&table, method, "p50_ms");
		number_cell(&table, method, "p99_ms");
	}
	ctl_table_print(&table);
}

static void show(const struct top *top, bool terminal)
{
	static void (*const parts[])(const json_t *frame) = { show_services, show_orders,
							      show_refused,  show_streams,
							      show_batches,  show_methods };
	json_t *frame = make(top);

	if (top->ctl->json) {
		ctl_json_print(frame);
		fflush(stdout);
		return;
	}
	if (terminal)
		printf("\033[H\033[2J");
	printf("%s\n", json_string_value(json_object_get(frame, "time")));
	for (size_t i = 0; i < RT_LENGTH(parts); i++) {
		printf("\n");
		parts[i](frame);
	}
	if (!terminal && !top->once)
		printf("\n");
	fflush(stdout);
	json_decref(frame);
}

/* ---- the command ---- */

static void take_frame(struct top *top)
{
	for (size_t i = 0; i < CTL_SERVICES; i++) {
		ctl_scrape_done(&top->services[i].before);
		top->services[i].before = top->services[i].now;
		ctl_scrape_read(top->ctl, i, &top->services[i].now);
	}
	top->lags_known = ctl_lags_read(top->ctl, top->lags);
}

static bool any_answers(const struct top *top)
{
	for (size_t i = 0; i < CTL_SERVICES; i++)
		if (top->services[i].now.why == NULL)
			return true;
	return top->lags_known;
}

static int top_run(struct ctl *ctl, void *options)
{
	bool terminal = isatty(STDOUT_FILENO) && !ctl->json;
	struct top *top = options;
	int code = CTL_OK;

	top->ctl = ctl;
	take_frame(top);
	do {
		(void)poll(NULL, 0, (int)top->every_ms);
		take_frame(top);
		show(top, terminal && !top->once);
	} while (!top->once && ferror(stdout) == 0);
	if (!any_answers(top))
		code = CTL_UNAVAILABLE;
	for (size_t i = 0; i < CTL_SERVICES; i++) {
		ctl_scrape_done(&top->services[i].before);
		ctl_scrape_done(&top->services[i].now);
	}
	return code;
}

enum { KEY_ONCE = 256 };

static error_t top_parse(int key, char *arg, struct argp_state *state)
{
	struct top *top = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		top->every_ms = 1000;
		return 0;
	case KEY_ONCE:
		top->once = true;
		return 0;
	case 'i':
		if (!rt_parse_duration(arg, &top->every_ms) || top->every_ms < 100 ||
		    top->every_ms > 3600000)
			argp_error(state, "--interval: 100ms to 1h: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option top_options[] = {
	{ "once", KEY_ONCE, NULL, 0, "One frame, of one interval, and no more", 0 },
	{ "interval", 'i', "DURATION", 0, "How often (1s)", 0 },
	{ 0 },
};
const struct ctl_command ctl_top = {
	.name = "top",
	.about = "Shows what Tandem does now: rates, times, queues",
	.text = "Shows, once a second, calls and their times, orders, what is refused and why, how "
		"far "
		"the groups are behind, the sizes of batches and the slowest methods. From "
		"/metrics "
		"of the services' admin ports (TANDEM_<SERVICE>_ADMIN_LISTEN, or where scripts/up "
		"puts "
		"them) and from Redis. Ctrl-C ends it.\vExamples:\n"
		"  tandemctl top\n"
		"  tandemctl top --once\n"
		"  tandemctl top --json | jq '.orders.placed_per_s'",
	.options = top_options,
	.parse = top_parse,
	.options_size = sizeof(struct top),
	.run = top_run,
};
