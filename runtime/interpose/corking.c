/* corking.c - a sendmsg that sends the answers of one turn together; see interpose.h.
 *
 * This process buffers nothing: the kernel gets everything at once, marked with MSG_MORE, and sends what it
 * has held back when TCP_NODELAY is set again at the end. So gRPC still sees errors, a full buffer (EAGAIN) and
 * partial writes; a socket that is closed in between sends what it holds; one that is not TCP ignores both. */
#include "interpose_internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOCKETS_MAX 64 /* of one cork; further ones write at once */

static _Thread_local bool corked;
static _Thread_local int sockets[SOCKETS_MAX];
static _Thread_local size_t socket_count;

/* Whether to cork writes to this socket. */
static bool cork_socket(int fd)
{
	for (size_t i = 0; i < socket_count; i++)
		if (sockets[i] == fd)
			return true;
	if (socket_count == SOCKETS_MAX || !polling_knows(fd))
		return false;
	sockets[socket_count++] = fd;
	return true;
}

/* Ours instead of libc's, in the whole process. */
__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message,
						       int flags)
{
	if (corked && cork_socket(fd))
		flags |= MSG_MORE;
	return syscall(SYS_sendmsg, fd, message, flags);
}

void rt_cork(void)
{
	corked = true;
}

void rt_uncork(void)
{
	const int on = 1;

	corked = false;
	for (size_t i = 0; i < socket_count; i++)
		(void)setsockopt(sockets[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	socket_count = 0;
}

const char *rt_corking_problem(void)
{
	return RT_INTERPOSED(sendmsg) ? rt_polling_problem() : RT_NOT_INTERPOSED;
}
