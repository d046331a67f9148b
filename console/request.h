/* request.h - what the headers of a request say: whether it comes from our own page, and whose session it is. No I/O.
 *
 * Browsers send what other sites' pages ask for, too. So the Host must be a name of ours (a foreign name that was made to
 * lead here is refused), and what changes something must come from a page of the same origin. */
#ifndef CONSOLE_REQUEST_H
#define CONSOLE_REQUEST_H

#include "base/base.h"

/* Whether a browser means us by that Host header: "localhost", a loopback address or one of `hosts` (names with commas
 * between), with any port or none. With `anywhere` every name is ours: other machines reach us, and every page wants a
 * session, whose cookie no foreign name gets. */
bool request_host_good(const char *host, const char *hosts, bool anywhere);
/* NULL: a request that changes something may do so; else why it may not. Headers that are not there are NULL. */
const char *request_refused(const char *host, const char *origin, const char *fetch_site,
			    const char *content_type, bool tls);
/* Whether a browser says that what it fetches is for our own page, or for its user; other programs do not say. */
bool request_own(const char *fetch_site);
/* The value of a cookie, copied into `value`; false: it is not there, or of another length. */
bool request_cookie(const char *header, const char *name, char *value, size_t length);

#endif
