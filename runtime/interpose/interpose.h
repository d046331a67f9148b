/* interpose.h - functions of libc that our executables have of their own, because gRPC core offers no
 * other way. README.md in this folder says why, for which versions of libgrpc it was proven, and
 * what happens where it does not hold. */
#ifndef RT_INTERPOSE_H
#define RT_INTERPOSE_H

#include "base/base.h"

/* ---- accepting (accept_guard.c): a listener that no lack of descriptors can stop ----
 *
 * gRPC core 1.51 stops listening for ever when accept4 fails with EMFILE (CVE-2023-4785). Our accept4
 * takes the connection with a spare descriptor then and closes it, so a listener only ever sees
 * connections or "none now". It leaves some descriptors to the rest of the process. */

/* Before the first connection is accepted. */
void rt_accept_guard_init(void);
/* Connections closed at once since the start. */
uint64_t rt_accept_guard_shed(void);
/* Why the guard is not in place, for a person; NULL: it is. */
const char *rt_accept_guard_problem(void);

/* ---- connections (connections.c): how many there may be, and what they may bring ----
 *
 * The connections of a listener are bounded, and those of one address. When there are as many as there may be, one is
 * closed for the new one: the oldest that never made a call, or that whose last call is longest ago. If all are in use, the
 * new one is closed. Those that have made no call yet take an eighth of the places at most. What
 * connections bring is looked at by the HTTP/2 guard (http2_guard.h): plain in recvmsg, with TLS in SSL_read
 * (tls.c). One that brings too much is closed before gRPC gets it. */
struct rt_connection_limits {
	int64_t connections_max; /* of each listening socket of the process */
	/* Of these, of one address (of IPv6: of one /64). 0: a quarter, and no limit for this machine's own
	 * addresses, because a proxy may be there. Unix sockets have no address. */
	int64_t connections_per_address;
	int64_t streams_max;       /* calls open at once on a connection; 0: 10000 */
	int64_t message_max_bytes; /* of a request */
};
/* The last ones set hold for the process. */
void rt_connections_limit(const struct rt_connection_limits *limits);
/* A listening socket that has fewer, and does not speak HTTP/2: what goes through its connections is not looked at. */
void rt_connections_limit_listener(int listening, int64_t connections_max);
/* A connection, which its descriptor alone does not tell: another may have the number by now. */
struct rt_connection_id {
	int fd;
	uint64_t serial; /* 0: none */
};
/* The one from "192.0.2.1:4711" or "[2001:db8::1]:4711"; none where the address has a scope, or none. Looks at all of
 * them: not for each call. */
struct rt_connection_id rt_connection_of(const char *peer);
/* One of its calls was refused before anybody worked on it. Where most of what a connection brings comes to that, others
 * go first. */
void rt_connection_refused(struct rt_connection_id id);
/* A call begins or ends on the connection that has this descriptor now, and that is no HTTP/2: while one is under way the
 * connection is in use. */
void rt_connection_call(int fd, bool begins);
/* Counts what is closed there, by reason; NULL before the registry is freed. */
void rt_connections_metrics(struct rt_metrics *metrics);
/* Why what connections bring is not looked at, for a person; NULL: it is. */
const char *rt_http2_guard_problem(void);

/* ---- arrivals (arrivals.c): how long what clients send waits before it is read ---- */

/* From now on, for the connections that are accepted. */
void rt_arrivals_watch(void);
/* How long what was read since the last call had been in the kernel, on average; 0: nothing was read. Without what is read
 * late because its connection wastes. */
double rt_arrivals_wait_ms(void);

/* ---- polling (polling.c): a loop waits for gRPC's sockets itself ----
 *
 * gRPC's C API has no way to give its descriptors to another loop. On Linux it keeps them all in
 * one epoll set, and an epoll set is itself a descriptor that can be watched. So we learn which
 * one it is (epoll_create1 while grpc_init runs) and when gRPC has emptied it (epoll_wait). Where that
 * does not work rpc/queue.c has a thread that waits and wakes the loop.
 *
 * gRPC reads a socket, works off what it read, and reads again, as long as there is something: a peer
 * that sends without pause keeps it in one call for seconds. So a turn has an end, and takes a part only of what
 * one connection has brought: from then on recvmsg says that there is nothing more, and the next turn has the set report those sockets again
 * (epoll_ctl, whose arguments we keep for that). Without turns it says so after 4 MiB, since libgrpc
 * 1.51 ends the process after 2 GiB without a pause. */

/* grpc_init, with a look at which epoll set gRPC makes. */
void rt_polling_init(void);
/* gRPC's epoll set; -1: a thread has to wait. */
int rt_polling_fd(void);
/* Why a thread has to wait, for a person; NULL: it need not. */
const char *rt_polling_problem(void);
/* Whether gRPC, on this thread and since rt_polling_start, has looked into its set and found it
 * empty. gRPC takes up to 100 events at a time and works them off one a call, so only then is
 * everything taken that there was. */
void rt_polling_start(void);
bool rt_polling_emptied(void);
/* Around what this thread lets gRPC do: after end_ns (rt_monotonic_ns) it reads no more. True: input was
 * left unread, so another turn must follow. One thread of the process has turns. */
void rt_polling_turn_begin(int64_t end_ns);
bool rt_polling_turn_end(void);

/* ---- writing (corking.c): many answers are sent together ----
 *
 * gRPC writes each answer separately. What this thread writes between rt_cork and rt_uncork the kernel collects
 * and sends in full packets, the last one at rt_uncork: the client is woken once. Uncork before the thread
 * returns to its loop; do not nest. Without our sendmsg and epoll set both do nothing.
 *
 * Always held back, until the next write to the same socket: window updates of a few bytes. */
void rt_cork(void);
void rt_uncork(void);
/* Why answers are sent one by one, for a person; NULL: they are not. */
const char *rt_corking_problem(void);

/* ---- deadlocks (deadlocks.c): abseil's deadlock detection is off ----
 *
 * Debian's abseil looks for cycles among the mutexes that gRPC holds, a debugging aid that costs a tenth of a
 * call. Call this once, before grpc_init. False: abseil has no function with a known name, and detection
 * stays on. */
bool rt_deadlock_detection_off(void);

#endif
