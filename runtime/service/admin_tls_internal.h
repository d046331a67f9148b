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

#define ADMIN_TLS_OPTIONS 4
/* For MHD_start_daemon, after MHD_OPTION_ARRAY; the flag MHD_USE_TLS belongs to them. */
void admin_tls_options(struct admin_tls *tls, struct MHD_OptionItem ret[ADMIN_TLS_OPTIONS]);

/* Whether the client has shown a certificate, or none is required. In a request. */
bool admin_tls_known(const struct admin_tls *tls, struct MHD_Connection *connection);

#endif
