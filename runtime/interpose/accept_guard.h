/* accept_guard.h - the process's own accept4, which no lack of descriptors can stop.
 *
 * gRPC core 1.51 stops listening for ever when accept4 fails with EMFILE (CVE-2023-4785). This
 * file's accept4 stands in front of libc's in every executable that is linked with -rdynamic:
 * without a descriptor it takes the connection with a spare one and closes it, so a listener
 * only ever sees connections or "none now".
 *
 * It also closes connections beyond a limit for each listener, and leaves some descriptors to the
 * rest of the process. */
#ifndef RT_ACCEPT_GUARD_H
#define RT_ACCEPT_GUARD_H

#include "base/base.h"

/* Open connections for each listening socket of the process; the last one set holds. */
void rt_accept_guard_limit(int64_t connections_max);
/* Connections closed at once since the start. */
uint64_t rt_accept_guard_shed(void);

#endif
