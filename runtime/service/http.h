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
	/* A request may be set aside until its answer is there: MHD_suspend_connection. */
	bool suspends;
	MHD_RequestCompletedCallback on_end; /* NULL: none */
	void (*on_close)(void *data);        /* of a connection, with its data; NULL: none */
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
/* The names of the certificate that it has shown, as rt_auth_certificate takes them, freed by the caller one by one. False: it
 * has shown none. In a request. */
#define RT_HTTP_NAMES_MAX 64
bool rt_http_names(const struct rt_http *http, struct MHD_Connection *connection,
		   char *names[RT_HTTP_NAMES_MAX], size_t *ret_count);
/* The other end of a connection as gRPC writes it: "ipv4:10.1.2.3:5000". */
#define RT_HTTP_PEER_TEXT 64
void rt_http_peer(struct MHD_Connection *connection, char text[RT_HTTP_PEER_TEXT]);
/* Where a connection keeps its data; NULL at first. In a request. */
void **rt_http_data(struct MHD_Connection *connection);

#endif
