/* loopback.h - plain TCP on 127.0.0.1, for tests of what listens there. Everything here blocks, and
 * aborts when it fails. */
#ifndef TESTS_LOOPBACK_H
#define TESTS_LOOPBACK_H

/* Listens at a port that the kernel chooses. `flags`: SOCK_NONBLOCK or 0. */
int loopback_listen(int flags, int *ret_port);
int loopback_connect(int port);
/* Until there is something to accept or to read: connect and send may return a moment before. */
void loopback_wait(int fd);

/* Sends a request and reads the answer to its end, then closes `fd`. The answer is kept until the next
 * call. */
const char *loopback_ask(int fd, const char *request);
/* The answer, with its headers, of the HTTP server at this port. */
const char *loopback_get(int port, const char *path);

#endif
