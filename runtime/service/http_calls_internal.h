/* http_calls_internal.h - calls over HTTP for those who have no gRPC: browsers, scripts. libmicrohttpd, a thread of its own,
 * in the protocols of http_protocol.h. Each becomes a call of the server as those of gRPC are (rpc/rpc.h): the same methods,
 * callers, roles, budgets, limits and traces; only the connection is another. */
#ifndef RT_HTTP_CALLS_INTERNAL_H
#define RT_HTTP_CALLS_INTERNAL_H

#include "base/base.h"
#include "rpc/rpc.h"

struct rt_http_calls; /* opaque */

struct rt_http_calls_options {
	const char *listen;        /* as of rt_http_new; borrowed, like all of these */
	struct rt_tls *tls;        /* NULL: plain HTTP */
	const char *allow_origins; /* "https://shop.example,https://other.example", "*"; "": none */
	int64_t message_max_bytes; /* of a body, and of a message */
	struct rt_server *server;
	/* What is served, with the types of its messages; NULL ends it. Health is there already. */
	const ProtobufCServiceDescriptor *const *services;
	struct rt_metrics *metrics;
};
/* Binds. RT_SYSTEM: it cannot be bound; RT_INVALID after logging what is wrong with the certificate or the origins. */
int rt_http_calls_new(struct rt_loop *loop, const struct rt_http_calls_options *options,
		      struct rt_http_calls **ret);
int rt_http_calls_start(struct rt_http_calls *calls);
int rt_http_calls_port(const struct rt_http_calls *calls);
/* When the server has drained: `closed` runs once no call is under way any more and its answer has gone, which may take a second;
 * never before this returns. */
void rt_http_calls_close(struct rt_http_calls *calls, void (*closed)(void *user), void *user);
/* Before the start, or after `closed`. Takes NULL. */
void rt_http_calls_free(struct rt_http_calls *calls);

#endif
