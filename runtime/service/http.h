/* http.h - an HTTP server on an address: libmicrohttpd, on a socket we bind ourselves (so that host names, IPv6, unix
 * sockets and port 0 work the same way everywhere), with the TLS of gRPC's files where there are any (admin_tls.c).
 *
 * How many connections there are is bounded: for one more the oldest is closed, so slow ones do not keep others out. */
#ifndef RT_HTTP_H
#define RT_HTTP_H

#include <microhttpd.h>

#include "base/base.h"
#include "rpc/tls.h"

struct rt_http; /* opaque */

struct rt_http_options {
	const char *listen; /* "127.0.0.1:9101", port 0: any; "unix:/path" */
	struct rt_tls *tls; /* borrowed; NULL: plain HTTP */
	unsigned int connections_max, idle_s;
	/* Each connection has a thread of its own, so a request may wait; else one thread answers all. */
	bool threads;
	MHD_AccessHandlerCallback on_request;
	MHD_RequestCompletedCallback on_end; /* NULL: none */
	void *user;
};
/* Binds. RT_SYSTEM: it cannot be bound; RT_INVALID after logging what is wrong with the certificate. */
int rt_http_new(const struct rt_http_options *options, struct rt_http **ret);
/* Begins to answer; who connected before waits until now. */
int rt_http_start(struct rt_http *http);
/* Waits until requests under way have ended. Takes NULL. */
void rt_http_free(struct rt_http *http);
int rt_http_port(const struct rt_http *http);
/* Whether the client has shown a certificate, or none is required. In a request. */
bool rt_http_known(const struct rt_http *http, struct MHD_Connection *connection);

#endif
