/* corking.c - a sendmsg that sends the answers of one turn together; see interpose.h.
 *
 * This process buffers nothing: the kernel gets everything at once, marked with MSG_MORE, and sends what it
 * has held back when TCP_NODELAY is set again at the end. So gRPC still sees errors, a full buffer (EAGAIN) and
 * partial writes; a socket that is closed in between sends what it holds; one that is not TCP ignores both.
 *
 * Window updates need no cork. After each message of a stream gRPC grants its few bytes again, in a write of
 * their own, and the other side wakes up for nothing. Such a write waits for the next one to the same socket, as
 * long as no more than a quarter of the smallest window is held back; so a sender that has used up its window gets
 * more within that quarter. The kernel sends what no write follows after 200 ms. */
#include "interpose_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOCKETS_MAX 64 /* of one cork; further ones write at once */

#define UPDATE_SIZE  13 /* of a WINDOW_UPDATE frame (RFC 9113, 6.9) */
#define UPDATE_TYPE  8
#define UPDATES_MAX  4     /* in a write that is held back */
#define HELD_MAX     16384 /* bytes of window; gRPC's windows have at least 65 535 */
#define HELD_SOCKETS 1024  /* descriptors from this on write at once */

static _Thread_local bool corked;
static _Thread_local int sockets[SOCKETS_MAX];
static _Thread_local size_t socket_count;
static _Thread_local uint32_t held_window[HELD_SOCKETS]; /* since the last write that was sent */

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

/* The bytes that the message grants if it consists of window updates; else 0. Frames may be split
 * between its parts. */
static uint32_t granted_window(const struct msghdr *message)
{
	unsigned char bytes[UPDATES_MAX * UPDATE_SIZE];
	size_t length = 0;
	uint32_t window = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *part = &message->msg_iov[i];

		if (part->iov_len > sizeof(bytes) - length)
			return 0;
		memcpy(bytes + length, part->iov_base, part->iov_len);
		length += part->iov_len;
	}
	if (length % UPDATE_SIZE != 0)
		return 0;
	for (const unsigned char *frame = bytes; frame < bytes + length; frame += UPDATE_SIZE) {
		static const unsigned char header[] = { 0, 0, UPDATE_SIZE - 9, UPDATE_TYPE };
		uint32_t update;

		if (memcmp(frame, header, sizeof(header)) != 0)
			return 0;
		memcpy(&update, frame + 9, sizeof(update));
		window += RT_MIN(ntohl(update), (uint32_t)HELD_MAX + 1);
	}
	return window;
}

/* Whether the message may wait for the next one. */
static bool hold_window(int fd, const struct msghdr *message)
{
	uint32_t window = granted_window(message);

	if (fd < 0 || fd >= HELD_SOCKETS)
		return false;
	if (window == 0 || held_window[fd] + window > HELD_MAX || !polling_knows(fd)) {
		held_window[fd] = 0;
		return false;
	}
	held_window[fd] += window;
	return true;
}

/* The connection has ended. While gRPC reads that its streams are reset it must not hear of that from its writes. */
static ssize_t not_sent(int fd, const struct msghdr *message)
{
	int error = errno;
	ssize_t length = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		length += (ssize_t)message->msg_iov[i].iov_len;
	if (connections_resetting(fd))
		return length;
	errno = error;
	return -1;
}

/* Ours instead of libc's, in the whole process. */
__attribute__((visibility("default"))) ssize_t sendmsg(int fd, const struct msghdr *message,
						       int flags)
{
	ssize_t sent;

	if ((corked && cork_socket(fd)) || hold_window(fd, message))
		flags |= MSG_MORE;
	sent = syscall(SYS_sendmsg, fd, message, flags);
	if (sent > 0)
		connections_sent(fd, message, (size_t)sent);
	else if (sent < 0 && errno != EAGAIN && errno != EINTR)
		sent = not_sent(fd, message);
	return sent;
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
