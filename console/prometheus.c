/* prometheus.c - see prometheus.h. */
#include "prometheus.h"

#include <curl/curl.h>
#include <pthread.h>
#include <string.h>

#define ANSWER_BYTES_MAX (4 << 20)
#define ALARMS_MAX       1000

struct prometheus {
	char *url, *alerts; /* alerts: where they are */
	char *tls_ca, *tls_cert, *tls_key;
	pthread_mutex_t
		lock; /* of what follows; held while it is asked: others want the same answer */
	struct rt_buf answer; /* as it goes to pages, or why it could not be had */
	bool good;
	int64_t asked_ms; /* INT64_MIN: never */
};

int prometheus_new(const struct prometheus_options *options, struct prometheus **ret)
{
	struct prometheus *prometheus;
	size_t length = strlen(options->url);

	if (length > 0 && strncmp(options->url, "http://", 7) != 0 &&
	    strncmp(options->url, "https://", 8) != 0) {
		RT_LOG(RT_ERROR, "--prometheus: not an URL such as http://127.0.0.1:9090",
		       RT_S("value", options->url));
		return RT_INVALID;
	}
	while (length > 0 && options->url[length - 1] == '/')
		length--;
	prometheus = rt_alloc(sizeof(*prometheus));
	prometheus->url = rt_printf("%.*s", (int)length, options->url);
	prometheus->alerts = rt_printf("%s/api/v1/alerts", prometheus->url);
	prometheus->tls_ca = rt_strdup(options->tls_ca);
	prometheus->tls_cert = rt_strdup(options->tls_cert);
	prometheus->tls_key = rt_strdup(options->tls_key);
	prometheus->asked_ms = INT64_MIN;
	pthread_mutex_init(&prometheus->lock, NULL);
	*ret = prometheus;
	return RT_OK;
}

void prometheus_free(struct prometheus *prometheus)
{
	if (prometheus == NULL)
		return;
	pthread_mutex_destroy(&prometheus->lock);
	rt_buf_done(&prometheus->answer);
	free(prometheus->url);
	free(prometheus->alerts);
	free(prometheus->tls_ca);
	free(prometheus->tls_cert);
	free(prometheus->tls_key);
	free(prometheus);
}

/* ---- what it answers ---- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text == NULL ? "" : text;
}

/* "stream=order:{0}:events partition=3": what tells an alarm from others of its name. */
static json_t *other_labels(json_t *labels)
{
	struct rt_buf text = { 0 };
	const char *name;
	json_t *value, *json;

	json_object_foreach(labels, name, value) if (strcmp(name, "alertname") != 0 &&
						     strcmp(name, "severity") != 0 &&
						     json_is_string(value))
		rt_buf_printf(&text, "%s%s=%s", text.length > 0 ? " " : "", name,
			      json_string_value(value));
	rt_buf_add(&text, "", 1);
	json = json_string(text.data);
	rt_buf_done(&text);
	return json != NULL ? json : json_string("");
}

json_t *prometheus_read(const char *answer, size_t length)
{
	json_t *json = json_loadb(answer, length, 0, NULL);
	json_t *alerts = json_object_get(json_object_get(json, "data"), "alerts");
	json_t *items, *alert;
	size_t i;

	if (!json_is_array(alerts)) {
		json_decref(json);
		return NULL;
	}
	items = json_array();
	json_array_foreach(alerts, i, alert)
	{
		json_t *labels = json_object_get(alert, "labels");
		json_t *annotations = json_object_get(alert, "annotations");
		const char *name = text_of(labels, "alertname");

		/* It may look at other things, too. */
		if (strncmp(name, "Tandem", 6) != 0 || json_array_size(items) == ALARMS_MAX)
			continue;
		json_array_append_new(
			items,
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "alert", name, "state",
				  text_of(alert, "state"), "since", text_of(alert, "activeAt"),
				  "severity", text_of(labels, "severity"), "summary",
				  text_of(annotations, "summary"), "runbook",
				  text_of(annotations, "runbook"), "labels", other_labels(labels)));
	}
	json_decref(json);
	return items;
}

/* ---- asking ---- */

static size_t take(char *data, size_t size, size_t count, void *user)
{
	struct rt_buf *body = user;

	if (body->length + size * count > ANSWER_BYTES_MAX)
		return 0;
	rt_buf_add(body, data, size * count);
	return size * count;
}

/* False: *error says why. */
static bool fetch(const struct prometheus *prometheus, struct rt_buf *body, struct rt_buf *error)
{
	char reason[CURL_ERROR_SIZE] = "";
	CURL *curl = curl_easy_init();
	long status = 0;
	CURLcode rc;

	if (curl == NULL) {
		rt_buf_printf(error, "no memory");
		return false;
	}
	curl_easy_setopt(curl, CURLOPT_URL, prometheus->alerts);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_PROXY, "");
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)PROMETHEUS_MS);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
	if (prometheus->tls_ca[0] != '\0')
		curl_easy_setopt(curl, CURLOPT_CAINFO, prometheus->tls_ca);
	if (prometheus->tls_cert[0] != '\0') {
		curl_easy_setopt(curl, CURLOPT_SSLCERT, prometheus->tls_cert);
		curl_easy_setopt(curl, CURLOPT_SSLKEY, prometheus->tls_key);
	}
	rc = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	if (rc != CURLE_OK)
		rt_buf_printf(error, "Prometheus at %s: %s", prometheus->url,
			      reason[0] != '\0' ? reason : curl_easy_strerror(rc));
	else if (status != 200)
		rt_buf_printf(error, "Prometheus at %s answers with status %ld", prometheus->url,
			      status);
	return rc == CURLE_OK && status == 200;
}

/* Fills `answer` anew. */
static void ask(struct prometheus *prometheus)
{
	struct rt_buf body = { 0 };
	json_t *items = NULL;

	prometheus->answer.length = 0;
	prometheus->good = fetch(prometheus, &body, &prometheus->answer);
	if (prometheus->good) {
		items = prometheus_read(body.data == NULL ? "" : body.data, body.length);
		prometheus->good = items != NULL;
		if (items == NULL)
			rt_buf_printf(&prometheus->answer, "what answers at %s is not Prometheus",
				      prometheus->url);
	}
	if (prometheus->good) {
		json_t *json = json_pack("{s:s, s:O}", "from", prometheus->url, "items", items);
		char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);

		rt_buf_printf(&prometheus->answer, "%s", text == NULL ? "{}" : text);
		free(text);
		json_decref(json);
	}
	json_decref(items);
	rt_buf_done(&body);
}

bool prometheus_alarms(struct prometheus *prometheus, int64_t now_ms, struct rt_buf *text,
		       struct rt_buf *error)
{
	bool good;

	if (prometheus->url[0] == '\0') {
		rt_buf_printf(text, "{\"from\":null,\"items\":[]}");
		return true;
	}
	pthread_mutex_lock(&prometheus->lock);
	if (prometheus->asked_ms == INT64_MIN ||
	    now_ms - prometheus->asked_ms >= PROMETHEUS_KEEP_MS) {
		ask(prometheus);
		prometheus->asked_ms = rt_monotonic_ns() / 1000000;
	}
	good = prometheus->good;
	rt_buf_printf(good ? text : error, "%s", prometheus->answer.data);
	pthread_mutex_unlock(&prometheus->lock);
	return good;
}
