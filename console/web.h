/* web.h - what browsers get: the page, live points, answers to questions, signing in and out.
 *
 *   GET  /, /console.js, /console.css    the page, compiled in
 *   GET  /api/me                         who asks, and what may be done
 *   GET  /api/alarms                     what fires in Prometheus
 *   GET  /api/live                       server-sent events: "history" once, then a "point" each second
 *   GET  /api/…                          what questions.c has: {"items": […]}
 *   POST /api/sign-in, /api/sign-out     {"way": "password", "secret": "…"}
 *   POST /api/…                          what changes something, by who has signed in
 *
 * What a page asks by itself has the header Tandem-Refresh: it keeps nobody signed in.
 *
 * Errors are {"error": "…"} with a status that fits. A request has a thread of its own and may wait. */
#ifndef CONSOLE_WEB_H
#define CONSOLE_WEB_H

#include "ask.h"
#include "collect.h"
#include "prometheus.h"
#include "service/http.h"
#include "sessions.h"

struct web; /* opaque */

struct web_options {
	const char *listen;
	struct rt_tls *tls; /* NULL: none */
	/* Other machines reach it: nothing is shown to who has not signed in. */
	bool public;
	const char *hosts; /* further names under which browsers reach it */
	int64_t streams_max;
	/* As whom gateway and Redis are asked for who looks, and by operators with a token; "": as Redis's default user, without
	 * a token; and: not at all. */
	const char *reader_user, *reader_password_file, *reader_token_file;
	const char *operator_user, *operator_password_file;
	/* Borrowed. */
	struct asker *asker;
	struct sessions *sessions;
	struct collector *collector;
	struct prometheus *prometheus;
	struct rt_metrics *metrics;
};
/* Binds; the options' texts are borrowed, too. Statuses as of rt_http_new. */
int web_new(const struct web_options *options, struct web **ret);
int web_start(struct web *web);
/* After collector_end and asker_end. Takes NULL. */
void web_free(struct web *web);
int web_port(const struct web *web);

/* A file of the page (generated). */
struct page_file {
	const char *path, *type;
	const unsigned char *data;
	size_t length;
};
extern const struct page_file page_files[];
extern const size_t page_file_count;

#endif
