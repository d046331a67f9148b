/* admin.c - what http.c serves to operators, from a thread of its own.
 *
 * The operators' port must not be a way to stop the service or to fill its memory: few
 * connections, short time-outs, bodies are not read.
 *
 * With TLS (admin_tls.c) clients that have to show a certificate, and do not, learn from /healthz and /readyz
 * whether it lives and is ready, and nothing else: probes of orchestrators have none. */
#include "admin_internal.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "http.h"

#define CONNECTIONS_MAX   48
#define CONNECTION_IDLE_S 10

struct rt_admin {
	struct rt_metrics *metrics;
	struct rt_http *http;
	_Atomic int64_t alive_until_ms; /* monotonic; 0: never set */
	struct rt_readiness *readiness;
};

/* ---- answers ---- */

static void metrics_page(struct rt_admin *admin, struct rt_buf *text)
{
	rt_metrics_write(admin->metrics, text);
}

static int64_t clock_ms(void)
{
	return rt_monotonic_ns() / 1000000;
}

/* This thread answers whatever the loop does; the loop must have said that it turns. */
static bool is_alive(struct rt_admin *admin)
{
	int64_t until_ms = atomic_load(&admin->alive_until_ms);

	return until_ms == 0 || clock_ms() < until_ms;
}

static bool alive_page(struct rt_admin *admin, struct rt_buf *text)
{
	bool alive = is_alive(admin);

	rt_buf_printf(text, alive ? "alive\n" : "the loop does not turn\n");
	return alive;
}

/* True: everything is ready, and the loop turns: otherwise the checks are out of date. */
static bool ready_page(struct rt_admin *admin, struct rt_buf *text)
{
	bool ready = true;

	if (!is_alive(admin)) {
		rt_buf_printf(text, "loop: it does not turn\n");
		ready = false;
	}
	return rt_readiness_write(admin->readiness, text, ready);
}

/* What is wrong names addresses and processes. */
static void hide_reasons(struct rt_buf *text, bool ready)
{
	text->length = 0;
	rt_buf_printf(text, ready ? "ready\n" : "not ready\n");
}

/* Takes `text`. */
static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status,
			       const char *content_type, struct rt_buf *text)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	rt_buf_add(text, NULL, 0);
	response = MHD_create_response_from_buffer(text->length, text->data, MHD_RESPMEM_MUST_FREE);
	if (response == NULL) {
		rt_buf_done(text);
		return MHD_NO;
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *connection, const char *url,
				  const char *method, const char *version, const char *body,
				  size_t *body_length, void **state)
{
	static char seen;
	struct rt_admin *admin = user;
	const char *type = "text/plain; charset=utf-8";
	unsigned status = MHD_HTTP_OK;
	struct rt_buf text = { 0 };
	bool known, ready;

	(void)version;
	(void)body;
	/* Called first with the headers; a body comes later and is ignored. */
	if (*state == NULL) {
		*state = &seen;
		return MHD_YES;
	}
	if (*body_length > 0) {
		*body_length = 0;
		return MHD_YES;
	}
	known = rt_http_known(admin->http, connection);
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		status = MHD_HTTP_METHOD_NOT_ALLOWED;
		rt_buf_printf(&text, "only GET and HEAD\n");
	} else if (strcmp(url, "/metrics") == 0 && !known) {
		status = MHD_HTTP_FORBIDDEN;
		rt_buf_printf(&text, "a client certificate is required\n");
	} else if (strcmp(url, "/metrics") == 0) {
		type = "text/plain; version=0.0.4; charset=utf-8";
		metrics_page(admin, &text);
	} else if (strcmp(url, "/healthz") == 0) {
		if (!alive_page(admin, &text))
			status = MHD_HTTP_SERVICE_UNAVAILABLE;
	} else if (strcmp(url, "/readyz") == 0) {
		ready = ready_page(admin, &text);
		if (!ready)
			status = MHD_HTTP_SERVICE_UNAVAILABLE;
		if (!known)
			hide_reasons(&text, ready);
	} else {
		status = MHD_HTTP_NOT_FOUND;
		rt_buf_printf(&text, "there are /metrics, /healthz and /readyz\n");
	}
	return respond(connection, status, type, &text);
}

/* ---- life ---- */

int rt_admin_new(const char *listen, struct rt_tls *tls, struct rt_metrics *metrics,
		 struct rt_readiness *readiness, struct rt_admin **ret)
{
	struct rt_admin *admin = rt_alloc(sizeof(*admin));
	const struct rt_http_options options = {
		.listen = listen,
		.tls = tls,
		.connections_max = CONNECTIONS_MAX,
		.idle_s = CONNECTION_IDLE_S,
		.on_request = on_request,
		.user = admin,
	};
	int rc;

	admin->metrics = metrics;
	admin->readiness = readiness;
	rc = rt_http_new(&options, &admin->http);
	if (rc == RT_OK)
		*ret = admin;
	else
		rt_admin_free(admin);
	return rc;
}

int rt_admin_start(struct rt_admin *admin)
{
	return rt_http_start(admin->http);
}

void rt_admin_free(struct rt_admin *admin)
{
	if (admin == NULL)
		return;
	rt_http_free(admin->http);
	free(admin);
}

int rt_admin_port(const struct rt_admin *admin)
{
	return rt_http_port(admin->http);
}

void rt_admin_alive(struct rt_admin *admin, int64_t for_ms)
{
	if (admin != NULL)
		atomic_store(&admin->alive_until_ms, clock_ms() + for_ms);
}
