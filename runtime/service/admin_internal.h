/* admin_internal.h - the HTTP port for operators: /metrics, /healthz, /readyz. libmicrohttpd, its own
 * thread; it reads metrics and readiness, and nothing else of the service.
 *
 * /healthz is 200 while the loop turns (rt_admin_alive), else 503. /readyz is 200 while it turns and
 * every readiness check holds, else 503 with a line for each that does not (readiness.h). */
#ifndef RT_ADMIN_INTERNAL_H
#define RT_ADMIN_INTERNAL_H

#include "base/base.h"
#include "rpc/tls.h"

struct rt_admin; /* opaque */

/* Binds `listen` ("127.0.0.1:9101", port 0: any; "unix:/path"). The others are borrowed; `tls` NULL: plain HTTP.
 * RT_SYSTEM: it cannot be bound; RT_INVALID after logging what is wrong with the certificate. */
int rt_admin_new(const char *listen, struct rt_tls *tls, struct rt_metrics *metrics,
		 struct rt_readiness *readiness, struct rt_admin **ret);
/* Begins to answer, from a thread of its own; who connected before waits until now. */
int rt_admin_start(struct rt_admin *admin);
void rt_admin_free(struct rt_admin *admin);
int rt_admin_port(const struct rt_admin *admin);
/* The loop turns, and says so again within `for_ms`: else /healthz says that it does not. Before the
 * first time /healthz is 200. Takes NULL. */
void rt_admin_alive(struct rt_admin *admin, int64_t for_ms);

#endif
