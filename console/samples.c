/* samples.c - see samples.h.
 *
 * Counters and histograms are kept as they were at the last WINDOW points, so that a rate is that of some seconds. It is
 * one of points to which the same pages came: sums without a page that comes again would look like a burst. A counter
 * that is less than before (a service began anew) counts as nothing. */
#include "samples.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WINDOW        5
#define BUCKETS_MAX   24
#define STREAMS_MAX   8192 /* of 1024 partitions: two contexts, with dead letters */
#define SERVICES_MAX  64
#define NAME_BYTES    96
#define PAGE_LINE_MAX 2048

enum how { RATE, GAUGE };

/* The numbers of a point. */
static const struct {
	const char *key;     /* on the page */
	const char *service; /* whose metric; NULL: whoever has it */
	const char *metric;
	const char *label, *value; /* only series with it; NULL: all */
	enum how how;
} numbers[] = {
	{ "placed", NULL, "tandem_orders_placed_total", "outcome", "new", RATE },
	{ "reserved", NULL, "tandem_orders_decided_total", "status", "reserved", RATE },
	{ "rejected", NULL, "tandem_orders_decided_total", "status", "rejected", RATE },
	{ "confirmed", NULL, "tandem_orders_decided_total", "status", "confirmed", RATE },
	{ "cancelled", NULL, "tandem_orders_decided_total", "status", "cancelled", RATE },
	{ "expired", NULL, "tandem_orders_decided_total", "status", "expired", RATE },
	{ "calls", "gateway", "grpc_server_handled_total", NULL, NULL, RATE },
	{ "refused", NULL, "tandem_gateway_refused_orders_total", NULL, NULL, RATE },
	{ "shed", NULL, "tandem_gateway_shed_orders_total", NULL, NULL, RATE },
	{ "shed_share", NULL, "tandem_gateway_shed_share", NULL, NULL, GAUGE },
	{ "republished", NULL, "tandem_orders_republished_total", NULL, NULL, RATE },
	{ "unsettled", NULL, "tandem_orders_unsettled", NULL, NULL, GAUGE },
	{ "due", NULL, "tandem_orders_due", NULL, NULL, GAUGE },
	{ "waiters", NULL, "tandem_order_waiters", NULL, NULL, GAUGE },
	{ "unanswered_s", NULL, "tandem_order_oldest_unanswered_seconds", NULL, NULL, GAUGE },
	{ "redis_used", NULL, "tandem_redis_memory_used_bytes", NULL, NULL, GAUGE },
	{ "redis_max", NULL, "tandem_redis_memory_max_bytes", NULL, NULL, GAUGE },
	{ "load", NULL, "tandem_gateway_load", NULL, NULL, GAUGE },
	{ "not_in_step", NULL, "tandem_partitions_not_in_step", NULL, NULL, GAUGE },
};

/* Each gives its 50th and 99th percentile. */
static const struct {
	const char *key, *service, *metric, *label, *value;
} latencies[] = {
	{ "call", "gateway", "grpc_server_handling_seconds_bucket", "grpc_type", "unary" },
	{ "decision", NULL, "tandem_order_decision_seconds_bucket", NULL, NULL },
	{ "settled", NULL, "tandem_order_settled_seconds_bucket", NULL, NULL },
};

/* How a reader of a stream is doing; and how many dead letters a stream of them has. */
enum { LAG, PENDING, OLDEST, ASIDE, PARKED, DEAD, LETTERS };
static const struct {
	const char *key, *metric;
} gauges[] = {
	[LAG] = { "lag", "tandem_events_lag" },
	[PENDING] = { "pending", "tandem_events_pending" },
	[OLDEST] = { "oldest_s", "tandem_events_oldest_pending_seconds" },
	[ASIDE] = { "aside", "tandem_events_aside" },
	[PARKED] = { "parked", "tandem_events_parked" },
	[DEAD] = { "dead", "tandem_events_dead_total" },
	[LETTERS] = { "letters", "tandem_dead_letters" },
};
static const char events_done[] = "tandem_events_done_total"; /* of a stream, by its reader */

struct histogram {
	size_t count;
	struct {
		double bound, total;
	} buckets[BUCKETS_MAX];
};

/* What a service has counted. */
struct work {
	double messages, events, cpu_s;
	struct histogram calls; /* unary ones: for how long a stream is open says nothing */
};

struct moment {
	int64_t now_ms;
	uint64_t pages; /* a bit for each that came */
	double values[RT_LENGTH(numbers)];
	struct histogram histograms[RT_LENGTH(latencies)];
	struct work work[SERVICES_MAX];
};

/* Of a reader. It stays, once it was seen. */
struct stream {
	char reader[NAME_BYTES], name[NAME_BYTES];
	double values[RT_LENGTH(gauges)];
	bool known[RT_LENGTH(gauges)];
	double done[WINDOW + 1]; /* events, as of the moments; NAN: not known */
};

struct service {
	char name[NAME_BYTES], version[NAME_BYTES], url[256], error[160];
	double start_s, memory;
};

struct samples {
	struct moment moments[WINDOW + 1]; /* [0] is the newest */
	size_t count;
	bool known[RT_LENGTH(numbers)];
	struct stream streams[STREAMS_MAX];
	struct service services[SERVICES_MAX];
	char names[SERVICES_MAX][NAME_BYTES]; /* of these, as the last page of each said */
	size_t stream_count, service_count;
	size_t stream_at; /* where the next is looked for first: pages name them in the same order */
};

struct samples *samples_new(void)
{
	return rt_alloc(sizeof(struct samples));
}

void samples_free(struct samples *samples)
{
	free(samples);
}

void samples_begin(struct samples *samples)
{
	memmove(&samples->moments[1], &samples->moments[0], WINDOW * sizeof(struct moment));
	samples->moments[0] = (struct moment){ 0 };
	memset(samples->known, 0, sizeof(samples->known));
	samples->service_count = 0;
	for (size_t i = 0; i < samples->stream_count; i++) {
		struct stream *stream = &samples->streams[i];

		memset(stream->values, 0, sizeof(stream->values));
		memset(stream->known, 0, sizeof(stream->known));
		memmove(&stream->done[1], &stream->done[0], WINDOW * sizeof(stream->done[0]));
		stream->done[0] = NAN;
	}
}

/* ---- reading a line ---- */

struct line {
	const char *name, *labels; /* labels "": none */
	double value;
};

/* Splits "name{labels} value" in place. False: it is something else. */
static bool split(char *text, struct line *ret)
{
	size_t length = strcspn(text, "{ ");
	char *end = text + length, *number, *rest;

	ret->name = text;
	ret->labels = "";
	if (length == 0 || text[0] == '#')
		return false;
	number = strrchr(text, ' ');
	if (number == NULL || number[1] == '\0')
		return false;
	ret->value = strtod(number + 1, &rest);
	if (*rest != '\0')
		return false;
	*number = '\0';
	if (end < number && *end == '{') {
		ret->labels = end + 1;
		*end = '\0';
	} else if (end != number) {
		return false;
	}
	return true;
}

/* A label's value, as it is written between its quotes; false: it is not there. */
static bool label(const char *labels, const char *name, char *ret, size_t size)
{
	size_t length = strlen(name);

	for (const char *at = labels; (at = strstr(at, name)) != NULL; at += length) {
		const char *value = at + length + 2;
		size_t bytes;

		if ((at != labels && at[-1] != ',') || strncmp(at + length, "=\"", 2) != 0)
			continue;
		bytes = strcspn(value, "\"");
		if (value[bytes] != '"' || bytes >= size)
			return false;
		memcpy(ret, value, bytes);
		ret[bytes] = '\0';
		return true;
	}
	return false;
}

static bool is_wanted(const struct line *line, const char *own, const char *service,
		      const char *metric, const char *name, const char *value)
{
	char text[NAME_BYTES];

	if (strcmp(line->name, metric) != 0 || (service != NULL && strcmp(service, own) != 0))
		return false;
	return name == NULL ||
	       (label(line->labels, name, text, sizeof(text)) && strcmp(text, value) == 0);
}

static void add_bucket(struct histogram *histogram, const char *le, double total)
{
	double bound = strtod(le, NULL); /* "+Inf", too */
	size_t at = 0;

	while (at < histogram->count && histogram->buckets[at].bound < bound)
		at++;
	if (at < histogram->count && histogram->buckets[at].bound == bound) {
		histogram->buckets[at].total += total;
		return;
	}
	if (histogram->count == BUCKETS_MAX || isnan(bound))
		return;
	memmove(&histogram->buckets[at + 1], &histogram->buckets[at],
		(histogram->count - at) * sizeof(histogram->buckets[0]));
	histogram->buckets[at].bound = bound;
	histogram->buckets[at].total = total;
	histogram->count++;
}

static struct stream *stream_of(struct samples *samples, const char reader[NAME_BYTES],
				const char name[NAME_BYTES])
{
	struct stream *stream;

	for (size_t i = 0; i < samples->stream_count; i++) {
		size_t at = (samples->stream_at + i) % samples->stream_count;

		stream = &samples->streams[at];
		if (strcmp(stream->name, name) == 0 && strcmp(stream->reader, reader) == 0) {
			samples->stream_at = at + 1;
			return stream;
		}
	}
	if (samples->stream_count == STREAMS_MAX)
		return NULL;
	stream = &samples->streams[samples->stream_count++];
	*stream = (struct stream){ 0 };
	for (size_t i = 0; i <= WINDOW; i++)
		stream->done[i] = NAN;
	memmove(stream->reader, reader, sizeof(stream->reader));
	memmove(stream->name, name, sizeof(stream->name));
	return stream;
}

static void add_stream(struct samples *samples, const char own[NAME_BYTES], const struct line *line)
{
	bool done = strcmp(line->name, events_done) == 0;
	char name[NAME_BYTES] = "";
	struct stream *stream;
	size_t gauge = 0;

	while (gauge < RT_LENGTH(gauges) && strcmp(line->name, gauges[gauge].metric) != 0)
		gauge++;
	if ((!done && gauge == RT_LENGTH(gauges)) || isnan(line->value) ||
	    !label(line->labels, "stream", name, sizeof(name)))
		return;
	stream = stream_of(samples, own, name);
	if (stream == NULL)
		return;
	if (done) {
		stream->done[0] = line->value + (isnan(stream->done[0]) ? 0 : stream->done[0]);
	} else {
		stream->values[gauge] = fmax(stream->values[gauge], line->value);
		stream->known[gauge] = true;
	}
}

/* What a service says of itself. */
static void add_work(struct service *service, struct work *work, const struct line *line)
{
	char le[32], type[32];

	if (strcmp(line->name, "grpc_server_msg_received_total") == 0)
		work->messages += line->value;
	else if (strcmp(line->name, events_done) == 0)
		work->events += line->value;
	else if (strcmp(line->name, "process_cpu_seconds_total") == 0)
		work->cpu_s = line->value;
	else if (strcmp(line->name, "process_resident_memory_bytes") == 0)
		service->memory = line->value;
	else if (strcmp(line->name, "process_start_time_seconds") == 0)
		service->start_s = fmin(fmax(line->value, 0), 1e11);
	else if (strcmp(line->name, "grpc_server_handling_seconds_bucket") == 0 &&
		 label(line->labels, "grpc_type", type, sizeof(type)) &&
		 strcmp(type, "unary") == 0 && label(line->labels, "le", le, sizeof(le)))
		add_bucket(&work->calls, le, line->value);
}

static void add_line(struct samples *samples, struct service *service, const struct line *line)
{
	struct moment *moment = &samples->moments[0];
	char le[32];

	for (size_t i = 0; i < RT_LENGTH(numbers); i++)
		if (!isnan(line->value) &&
		    is_wanted(line, service->name, numbers[i].service, numbers[i].metric,
			      numbers[i].label, numbers[i].value)) {
			moment->values[i] = numbers[i].how == RATE
						    ? moment->values[i] + line->value
						    : fmax(moment->values[i], line->value);
			samples->known[i] = true;
		}
	for (size_t i = 0; i < RT_LENGTH(latencies); i++)
		if (is_wanted(line, service->name, latencies[i].service, latencies[i].metric,
			      latencies[i].label, latencies[i].value) &&
		    label(line->labels, "le", le, sizeof(le)))
			add_bucket(&moment->histograms[i], le, line->value);
	add_stream(samples, service->name, line);
	add_work(service, &moment->work[service - samples->services], line);
}

/* Whose page it is stands in it. */
static void name_service(struct service *service, const char *page)
{
	const char *info = strstr(page, "\ntandem_build_info{");

	if (info == NULL)
		return;
	info += strlen("\ntandem_build_info{");
	(void)label(info, "service", service->name, sizeof(service->name));
	(void)label(info, "version", service->version, sizeof(service->version));
}

void samples_add(struct samples *samples, const char *url, const char *page, const char *error)
{
	struct service *service;

	if (samples->service_count == SERVICES_MAX)
		return;
	service = &samples->services[samples->service_count++];
	*service = (struct service){ 0 };
	snprintf(service->url, sizeof(service->url), "%s", url);
	if (page == NULL) {
		memcpy(service->name, samples->names[samples->service_count - 1], NAME_BYTES);
		snprintf(service->error, sizeof(service->error), "%s", error);
		return;
	}
	samples->moments[0].pages |= UINT64_C(1) << (samples->service_count - 1);
	name_service(service, page);
	memcpy(samples->names[samples->service_count - 1], service->name, NAME_BYTES);
	if (service->name[0] == '\0')
		snprintf(service->error, sizeof(service->error), "this is no service of Tandem");
	while (*page != '\0') {
		size_t length = strcspn(page, "\n");
		char text[PAGE_LINE_MAX];
		struct line line;

		if (length < sizeof(text)) {
			memcpy(text, page, length);
			text[length] = '\0';
			if (split(text, &line))
				add_line(samples, service, &line);
		}
		page += length + (page[length] == '\n');
	}
}

/* ---- a point ---- */

static json_t *real(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

/* What a bucket has had since `before`, which may not have it yet. */
static double since(const struct histogram *now, const struct histogram *before, size_t at)
{
	for (size_t i = 0; i < before->count; i++)
		if (before->buckets[i].bound == now->buckets[at].bound)
			return now->buckets[at].total - before->buckets[i].total;
	return now->buckets[at].total;
}

/* Between the bounds of its bucket a value is taken to be anywhere alike. */
static json_t *percentile(const struct histogram *now, const struct histogram *before, double part)
{
	double all = now->count == 0 ? 0 : since(now, before, now->count - 1);
	double below = 0, from = 0;

	if (!(all > 0))
		return json_null();
	for (size_t i = 0; i < now->count; i++) {
		double upto = since(now, before, i), bound = now->buckets[i].bound;

		if (upto >= part * all) {
			if (isinf(bound)) /* beyond the last bound: at least that */
				return real(from);
			return real(upto <= below ? bound
						  : from + (bound - from) * (part * all - below) /
								    (upto - below));
		}
		below = upto;
		from = bound;
	}
	return json_null();
}

/* The oldest moment that can be compared with now: from it on these pages have always come, and no others of them; 0: none. */
static size_t comparable(const struct samples *samples, uint64_t pages)
{
	uint64_t now = samples->moments[0].pages & pages;
	size_t found = 0;

	for (size_t i = 1; i <= samples->count && (samples->moments[i].pages & pages) == now; i++)
		found = i;
	return now == 0 ? 0 : found;
}

static double seconds_since(const struct samples *samples, size_t back)
{
	return (double)(samples->moments[0].now_ms - samples->moments[back].now_ms) / 1000;
}

/* What was counted in a second; what is less than before began anew. */
static json_t *rate(double now, double before, double seconds)
{
	return seconds > 0 ? real(fmax(0, now - before) / seconds) : json_null();
}

static void add_numbers(const struct samples *samples, size_t back, json_t *json)
{
	const struct moment *now = &samples->moments[0];
	const struct moment *before = back == 0 ? NULL : &samples->moments[back];
	double seconds = seconds_since(samples, back);

	for (size_t i = 0; i < RT_LENGTH(numbers); i++) {
		json_t *value = json_null();

		if (samples->known[i] && numbers[i].how == GAUGE)
			value = real(now->values[i]);
		else if (samples->known[i] && before != NULL && seconds > 0)
			value = rate(now->values[i], before->values[i], seconds);
		json_object_set_new(json, numbers[i].key, value);
	}
	for (size_t i = 0; i < RT_LENGTH(latencies); i++) {
		static const struct histogram none;
		const struct histogram *old = before == NULL ? &none : &before->histograms[i];
		char key[64];

		snprintf(key, sizeof(key), "%s_p50", latencies[i].key);
		json_object_set_new(json, key,
				    before == NULL ? json_null()
						   : percentile(&now->histograms[i], old, 0.5));
		snprintf(key, sizeof(key), "%s_p99", latencies[i].key);
		json_object_set_new(json, key,
				    before == NULL ? json_null()
						   : percentile(&now->histograms[i], old, 0.99));
	}
}

/* `back`: the moment that is compared with now; 0: none. */
static json_t *stream_json(const struct samples *samples, const struct stream *stream, size_t back)
{
	/* json_pack takes UTF-8 alone. */
	json_t *json = json_pack("{s:s, s:s}", "reader", stream->reader, "stream", stream->name);

	if (json == NULL)
		return NULL;
	/* fmax would take an unknown number for none. */
	json_object_set_new(
		json, "events",
		isnan(stream->done[0] - stream->done[back])
			? json_null()
			: rate(stream->done[0], stream->done[back], seconds_since(samples, back)));
	for (size_t i = 0; json != NULL && i < LETTERS; i++)
		json_object_set_new(json, gauges[i].key,
				    stream->known[i] ? real(stream->values[i]) : json_null());
	return json;
}

static void add_up(const struct stream *stream, size_t gauge, double *sum)
{
	if (stream->known[gauge])
		*sum = isnan(*sum) ? stream->values[gauge] : *sum + stream->values[gauge];
}

static bool is_read(const struct stream *stream)
{
	for (size_t i = 0; i < LETTERS; i++)
		if (stream->known[i])
			return true;
	return !isnan(stream->done[0]);
}

static json_t *streams_json(const struct samples *samples, size_t back, json_t *point)
{
	json_t *list = json_array();
	double lag = NAN, lag_most = NAN, oldest_s = NAN, aside = NAN, letters = NAN;

	for (size_t i = 0; i < samples->stream_count; i++) {
		const struct stream *stream = &samples->streams[i];
		json_t *json = is_read(stream) ? stream_json(samples, stream, back) : NULL;

		if (json != NULL)
			json_array_append_new(list, json);
		add_up(stream, LAG, &lag);
		add_up(stream, ASIDE, &aside);
		add_up(stream, LETTERS, &letters);
		if (stream->known[LAG])
			lag_most = fmax(lag_most, stream->values[LAG]);
		if (stream->known[OLDEST])
			oldest_s = fmax(oldest_s, stream->values[OLDEST]);
	}
	json_object_set_new(point, "lag", real(lag));
	json_object_set_new(point, "lag_most", real(lag_most));
	json_object_set_new(point, "oldest_s", real(oldest_s));
	json_object_set_new(point, "aside", real(aside));
	json_object_set_new(point, "letters", real(letters));
	return list;
}

/* A service's rates and latencies, since the oldest moment from which on its page has always come. */
static void add_work_rates(const struct samples *samples, size_t at, json_t *json)
{
	size_t back = comparable(samples, UINT64_C(1) << at);
	const struct work *now = &samples->moments[0].work[at];
	const struct work *old = &samples->moments[back].work[at];
	double seconds = seconds_since(samples, back);

	json_object_set_new(json, "messages", rate(now->messages, old->messages, seconds));
	json_object_set_new(json, "events", rate(now->events, old->events, seconds));
	json_object_set_new(json, "cpu", rate(now->cpu_s, old->cpu_s, seconds));
	json_object_set_new(json, "p50", percentile(&now->calls, &old->calls, 0.5));
	json_object_set_new(json, "p99", percentile(&now->calls, &old->calls, 0.99));
}

static json_t *services_json(const struct samples *samples, json_t *point)
{
	json_t *list = json_array();
	json_int_t away = 0;

	for (size_t i = 0; i < samples->service_count; i++) {
		const struct service *service = &samples->services[i];
		json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:b, s:I}", "url", service->url,
					 "name", service->name, "version", service->version,
					 "error", service->error, "up", service->error[0] == '\0',
					 "start_s", (json_int_t)service->start_s);

		away += service->error[0] != '\0';
		if (json == NULL)
			continue;
		json_object_set_new(json, "memory",
				    service->memory > 0 ? real(service->memory) : json_null());
		add_work_rates(samples, i, json);
		json_array_append_new(list, json);
	}
	json_object_set_new(point, "away", json_integer(away));
	return list;
}

json_t *samples_end(struct samples *samples, int64_t unix_ms, int64_t now_ms)
{
	json_t *json = json_pack("{s:I}", "t", (json_int_t)unix_ms);
	size_t back;

	samples->moments[0].now_ms = now_ms;
	back = comparable(samples, UINT64_MAX);
	add_numbers(samples, back, json);
	json_object_set_new(json, "streams", streams_json(samples, back, json));
	json_object_set_new(json, "services", services_json(samples, json));
	samples->count = RT_MIN(samples->count + 1, (size_t)WINDOW);
	return json;
}
