/* collect.c - see collect.h. */
#include "collect.h"

#include <curl/curl.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "samples.h"

#define PERIOD_MS      1000
#define ANSWER_MS      900 /* for a page of metrics */
#define PAGE_BYTES_MAX (8 << 20)
#define POINTS_MAX     600
#define URLS_MAX       64

struct source {
	char *url; /* with /metrics */
	CURL *curl;
	struct rt_buf page;
	CURLcode code;
	char error[CURL_ERROR_SIZE];
};

struct collector {
	struct source sources[URLS_MAX];
	size_t source_count;
	CURLM *multi;
	char *tls_ca, *tls_cert, *tls_key;
	struct samples *samples;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	bool ending;
	char *points
		[POINTS_MAX]; /* the numbers alone; a ring: number `serial` at serial % POINTS_MAX */
	char *newest;         /* all of it; NULL: there is none */
	uint64_t serial;      /* of the newest; 0: there is none */
};

/* ---- a page ---- */

static size_t take(char *data, size_t size, size_t count, void *user)
{
	struct source *source = user;

	if (source->page.length + size * count > PAGE_BYTES_MAX)
		return 0;
	rt_buf_add(&source->page, data, size * count);
	return size * count;
}

/* Why the page of a source did not come; NULL: it came. `text` may be used for it. */
static const char *source_error(const struct source *source, char text[64])
{
	long status = 0;

	if (source->code != CURLE_OK)
		return source->error[0] != '\0' ? source->error : curl_easy_strerror(source->code);
	curl_easy_getinfo(source->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == 200)
		return NULL;
	snprintf(text, 64, "/metrics answers with status %ld", status);
	return text;
}

/* Notes how the transfers have ended that are over. */
static void take_ends(struct collector *collector)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(collector->multi, &left)) != NULL) {
		struct source *source = NULL;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &source);
		source->code = message->data.result;
	}
}

/* Asks all at the same time: those that hang do not keep the others. Each has a deadline. */
static void read_sources(struct collector *collector)
{
	int running = 1;

	for (size_t i = 0; i < collector->source_count; i++) {
		struct source *source = &collector->sources[i];

		source->page.length = 0;
		source->error[0] = '\0';
		source->code = CURLE_FAILED_INIT;
		curl_multi_add_handle(collector->multi, source->curl);
	}
	while (running > 0 && curl_multi_perform(collector->multi, &running) == CURLM_OK &&
	       running > 0 &&
	       curl_multi_poll(collector->multi, NULL, 0, ANSWER_MS, NULL) == CURLM_OK)
		;
	take_ends(collector);
	for (size_t i = 0; i < collector->source_count; i++) {
		struct source *source = &collector->sources[i];
		char text[64];
		const char *error = source_error(source, text);

		curl_multi_remove_handle(collector->multi, source->curl);
		rt_buf_add(&source->page, "", 1);
		samples_add(collector->samples, source->url,
			    error == NULL ? source->page.data : NULL, error);
	}
}

static bool source_open(struct collector *collector, struct source *source)
{
	CURL *curl = source->curl = curl_easy_init();

	if (curl == NULL)
		return false;
	curl_easy_setopt(curl, CURLOPT_URL, source->url);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PRIVATE, source);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)ANSWER_MS);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, source->error);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, source);
	if (collector->tls_ca[0] != '\0')
		curl_easy_setopt(curl, CURLOPT_CAINFO, collector->tls_ca);
	if (collector->tls_cert[0] != '\0') {
		curl_easy_setopt(curl, CURLOPT_SSLCERT, collector->tls_cert);
		curl_easy_setopt(curl, CURLOPT_SSLKEY, collector->tls_key);
	}
	return true;
}

/* ---- each second ---- */

static char *dump(const json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));

	return text != NULL ? text : rt_strdup("{}");
}

/* Takes `point`. */
static void keep(struct collector *collector, json_t *point)
{
	char *all = dump(point), *numbers;
	size_t at;

	json_object_del(point, "streams");
	json_object_del(point, "services");
	numbers = dump(point);
	json_decref(point);
	pthread_mutex_lock(&collector->lock);
	at = ++collector->serial % POINTS_MAX;
	free(collector->points[at]);
	collector->points[at] = numbers;
	free(collector->newest);
	collector->newest = all;
	pthread_cond_broadcast(&collector->changed);
	pthread_mutex_unlock(&collector->lock);
}

static struct timespec monotonic(int64_t ns)
{
	return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

/* False: the collector ends. */
static bool pause_until(struct collector *collector, int64_t ns)
{
	const struct timespec until = monotonic(ns);
	bool ending;
	int rc = 0;

	pthread_mutex_lock(&collector->lock);
	while (!collector->ending && rc == 0)
		rc = pthread_cond_timedwait(&collector->changed, &collector->lock, &until);
	ending = collector->ending;
	pthread_mutex_unlock(&collector->lock);
	return !ending;
}

static void *collect(void *user)
{
	struct collector *collector = user;
	int64_t next_ns = rt_monotonic_ns();

	do {
		samples_begin(collector->samples);
		read_sources(collector);
		keep(collector, samples_end(collector->samples, rt_wall_us() / 1000,
					    rt_monotonic_ns() / 1000000));
		/* A machine that was asleep does not make up for it. */
		next_ns = RT_MAX(next_ns + PERIOD_MS * INT64_C(1000000),
				 rt_monotonic_ns() + PERIOD_MS * INT64_C(100000));
	} while (pause_until(collector, next_ns));
	return NULL;
}

/* ---- who looks ---- */

void collector_history(struct collector *collector, struct rt_buf *text, uint64_t *ret_serial)
{
	uint64_t from, serial;

	pthread_mutex_lock(&collector->lock);
	from = collector->serial >= POINTS_MAX ? collector->serial - POINTS_MAX + 1 : 1;
	rt_buf_add(text, "[", 1);
	for (serial = from; serial < collector->serial; serial++) {
		const char *point = collector->points[serial % POINTS_MAX];

		if (serial > from)
			rt_buf_add(text, ",", 1);
		rt_buf_add(text, point, strlen(point));
	}
	rt_buf_add(text, "]", 1);
	*ret_serial = collector->serial > 0 ? collector->serial - 1 : 0;
	pthread_mutex_unlock(&collector->lock);
}

bool collector_wait(struct collector *collector, uint64_t *serial, int64_t wait_ms,
		    struct rt_buf *text)
{
	const struct timespec until = monotonic(rt_monotonic_ns() + wait_ms * 1000000);
	bool found;
	int rc = 0;

	pthread_mutex_lock(&collector->lock);
	while (collector->serial == *serial && !collector->ending && rc == 0)
		rc = pthread_cond_timedwait(&collector->changed, &collector->lock, &until);
	found = collector->serial != *serial && !collector->ending;
	if (found) {
		*serial = collector->serial;
		rt_buf_add(text, collector->newest, strlen(collector->newest));
	}
	pthread_mutex_unlock(&collector->lock);
	return found;
}

bool collector_ended(const struct collector *collector)
{
	struct collector *own = (struct collector *)(uintptr_t)collector;
	bool ending;

	pthread_mutex_lock(&own->lock);
	ending = own->ending;
	pthread_mutex_unlock(&own->lock);
	return ending;
}

/* ---- life ---- */

static int add_urls(struct collector *collector, const char *urls)
{
	while (*urls != '\0') {
		size_t length = strcspn(urls, ",");
		struct source *source = &collector->sources[collector->source_count];

		if (collector->source_count == URLS_MAX ||
		    (strncmp(urls, "http://", 7) != 0 && strncmp(urls, "https://", 8) != 0)) {
			RT_LOG(RT_ERROR, "--metrics: URLs with commas between, at most 64",
			       RT_S("near", urls));
			return RT_INVALID;
		}
		collector->source_count++;
		source->url = rt_printf("%.*s/metrics", (int)length, urls);
		if (!source_open(collector, source))
			return RT_NOMEM;
		urls += length + (urls[length] == ',');
	}
	return RT_OK;
}

int collector_new(const struct collector_options *options, struct collector **ret)
{
	struct collector *collector = rt_alloc(sizeof(*collector));
	pthread_condattr_t clock;
	int rc;

	pthread_mutex_init(&collector->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&collector->changed, &clock);
	pthread_condattr_destroy(&clock);
	collector->tls_ca = rt_strdup(options->tls_ca);
	collector->tls_cert = rt_strdup(options->tls_cert);
	collector->tls_key = rt_strdup(options->tls_key);
	collector->samples = samples_new();
	collector->multi = curl_multi_init();
	rc = collector->multi == NULL ? RT_NOMEM : RT_OK;
	if (rc == RT_OK)
		rc = add_urls(collector, options->urls);
	if (rc == RT_OK && pthread_create(&collector->thread, NULL, collect, collector) != 0)
		rc = RT_SYSTEM;
	if (rc != RT_OK) {
		collector_free(collector);
		return rc;
	}
	collector->started = true;
	*ret = collector;
	return RT_OK;
}

void collector_end(struct collector *collector)
{
	pthread_mutex_lock(&collector->lock);
	collector->ending = true;
	pthread_cond_broadcast(&collector->changed);
	pthread_mutex_unlock(&collector->lock);
}

void collector_free(struct collector *collector)
{
	if (collector == NULL)
		return;
	if (collector->started)
		pthread_join(collector->thread, NULL);
	for (size_t i = 0; i < collector->source_count; i++) {
		curl_easy_cleanup(collector->sources[i].curl); /* takes NULL */
		rt_buf_done(&collector->sources[i].page);
		free(collector->sources[i].url);
	}
	for (size_t i = 0; i < POINTS_MAX; i++)
		free(collector->points[i]);
	if (collector->multi != NULL)
		curl_multi_cleanup(collector->multi);
	free(collector->newest);
	samples_free(collector->samples);
	pthread_mutex_destroy(&collector->lock);
	pthread_cond_destroy(&collector->changed);
	free(collector->tls_ca);
	free(collector->tls_cert);
	free(collector->tls_key);
	free(collector);
}
