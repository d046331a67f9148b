/* admin_tls_internal.h - TLS of the admin port. libmicrohttpd does it with GnuTLS; here is what it shows and asks
 * for, from the files that gRPC is served with. Private to service. */
#ifndef RT_ADMIN_TLS_INTERNAL_H
#define RT_ADMIN_TLS_INTERNAL_H

#include <microhttpd.h>

#include "base/base.h"
#include "rpc/tls.h"

struct admin_tls; /* opaque */

/* `tls` is borrowed. RT_INVALID after logging what GnuTLS does not take. Loop thread. */
int admin_tls_new(struct rt_tls *tls, struct admin_tls **ret);
/* After the daemon has stopped. Takes NULL. */
void admin_tls_free(struct admin_tls *tls);

#define ADMIN_TLS_OPTIONS 3
/* For MHD_start_daemon, after MHD_OPTION_ARRAY; the flag MHD_USE_TLS belongs to them. */
void admin_tls_options(struct MHD_OptionItem ret[ADMIN_TLS_OPTIONS]);

/* A connection begins: it shows what is in use now … */
struct admin_tls_shown; /* opaque */
struct admin_tls_shown *admin_tls_show(struct admin_tls *tls, struct MHD_Connection *connection);
/* … until it has ended. */
void admin_tls_give_back(struct admin_tls *tls, struct admin_tls_shown *shown);

/* Whether the client has shown a certificate, or none is required. In a request. */
bool admin_tls_known(const struct admin_tls *tls, struct MHD_Connection *connection);
/* The names of the certificate that it has shown, which was verified in the handshake: "CN:", "DNS:", "URI:" and "email:" and
 * what it says; freed by the caller one by one. False: it has shown none. In a request. */
bool admin_tls_names(struct MHD_Connection *connection, char **names, size_t most,
		     size_t *ret_count);

#endif
