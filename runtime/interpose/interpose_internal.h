/* interpose_internal.h - what the files of interpose share. */
#ifndef RT_INTERPOSE_INTERNAL_H
#define RT_INTERPOSE_INTERNAL_H

#include "http2_guard.h"
#include "interpose.h"

/* Whether libraries that call `name` get `own`, the program's function of that name: only if the program
 * exports its symbols. */
bool rt_interposed(const char *name, void (*own)(void));
#define RT_INTERPOSED(name) rt_interposed(#name, (void (*)(void))(name))
#define RT_NOT_INTERPOSED   "the program does not export its symbols"

/* ---- connections.c ---- */

struct msghdr;
/* Notes a connection that was accepted; `room`: there are descriptors for it. False: the caller closes it. */
bool connections_add(int listening, int fd, bool room);
/* One was closed because there was no descriptor. */
void connections_shed(void);
/* How many bytes this turn still takes of it; SIZE_MAX: all, it is not one of these. 0: the next turn will. */
size_t connections_may_read(int fd, uint64_t turn);
/* recvmsg has brought these bytes. Returns how many of them gRPC gets; -1: none, the connection is to be closed. Or
 * others are in their place: resets. `wait_ns`: they had been in the kernel for so long; -1: nobody knows. */
ssize_t connections_received(int fd, const struct msghdr *message, size_t length, int64_t now_ns,
			     int64_t wait_ns);
/* Whether gRPC reads resets of this connection instead of what comes. */
bool connections_resetting(int fd);
/* Puts such resets into the message and returns how many bytes they are; 0: the connection is none of those, or no
 * stream is open any more. `ended`: recvmsg found the end of the connection. */
size_t connections_resets(int fd, const struct msghdr *message, bool ended);
/* sendmsg has taken these bytes. */
void connections_sent(int fd, const struct msghdr *message, size_t length);

/* The server's side of TLS, of the connection that this thread has read from last. */
struct connections_tls;
struct connections_tls *connections_tls_new(void);
void connections_tls_free(struct connections_tls *tls);
/* NULL, or why the connection is closed: then gRPC gets the first *ret_whole of these bytes, and then resets;
 * HTTP2_NO_WHOLE: neither. */
const char *connections_tls_received(struct connections_tls *tls, const void *bytes, size_t length,
				     size_t *ret_whole);
/* False: the client's own bytes are to be read. True: these resets (*ret_length bytes of frames) instead, a turn's share
 * for each byte that recvmsg gave. */
bool connections_tls_resets(struct connections_tls *tls, void *buffer, size_t size,
			    size_t *ret_length);
/* How many decrypted bytes gRPC may get in this turn. `come`: the SSL object has got bytes of the connection; *ret_asked: the first
 * is the one with which recvmsg made gRPC ask, and means nothing. */
size_t connections_tls_share(struct connections_tls *tls, bool come, bool *ret_asked);
/* So many decrypted bytes wait for the next turn. Until there are none recvmsg reads nothing of the connection.
 * Returns its descriptor; -1: none. */
int connections_tls_hold(struct connections_tls *tls, size_t length);
/* Whether some wait. */
bool connections_holds(int fd);
/* -1: none wait. 1: gRPC gets a byte, so that it asks SSL_read for them; 0: it has got one and has not asked yet. */
int connections_ask(int fd, const struct msghdr *message);
void connections_tls_sent(struct connections_tls *tls, const void *bytes, size_t length);

/* ---- arrivals.c ---- */

/* A connection was accepted. */
void arrivals_begin(int fd);
/* recvmsg. *ret_wait_ns: how long ago the last of what it brings came; -1: nobody knows. */
ssize_t arrivals_read(int fd, struct msghdr *message, int flags, int64_t *ret_wait_ns);
void arrivals_note(int64_t wait_ns);

/* ---- polling.c ---- */

/* Whether this turn has accepted enough: those that were closed meanwhile go first, and so do calls. The next turn has
 * the set report the listening socket again. */
bool polling_accept_later(int fd);

/* Whether this thread is in a turn of the loop, in which each connection has a share. */
bool polling_in_turn(void);
/* The next turn has the set report that there is something to read. */
void polling_read_later(int fd);

/* Whether gRPC has this descriptor in its epoll set. */
bool polling_knows(int fd);

#endif
