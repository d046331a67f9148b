/* collect.h - reads the metrics of all services once a second, however many pages are open, and keeps the points of the
 * last minutes. A thread of its own. */
#ifndef CONSOLE_COLLECT_H
#define CONSOLE_COLLECT_H

#include "base/base.h"

struct collector; /* opaque */

struct collector_options {
	const char *urls; /* "http://127.0.0.1:9101,…"; /metrics is asked there */
	const char *tls_ca, *tls_cert, *tls_key; /* "": none */
};
/* RT_INVALID after logging why. The options are copied. */
int collector_new(const struct collector_options *options, struct collector **ret);
/* Who waits is let go, with nothing; nothing more is collected. */
void collector_end(struct collector *collector);
/* After collector_end, when nobody waits any more. Takes NULL. */
void collector_free(struct collector *collector);

/* The numbers of all points that are kept but the newest, as a JSON array, the oldest first: without how each stream and service
 * was, which is most of a point. *ret_serial: the number of the last, so that the newest is waited for next. */
void collector_history(struct collector *collector, struct rt_buf *text, uint64_t *ret_serial);
/* Waits for a point after number *serial, at most so long. False: none came. Else its text is added, and *serial is its
 * number: the newest's. */
bool collector_wait(struct collector *collector, uint64_t *serial, int64_t wait_ms,
		    struct rt_buf *text);
bool collector_ended(const struct collector *collector);

#endif
