/* arrivals.c - how long what clients send has waited in the kernel when it is read; see interpose.h.
 *
 * The kernel notes when a packet came (SO_TIMESTAMPNS) and recvmsg gets that with the bytes. gRPC does not ask for it, and
 * may ask for something else, so the read has room of its own for both. What is read together carries the time of its last
 * packet, so the wait of the first was longer. */
#include "interpose_internal.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_BYTES 256
#define WAIT_MAX_NS   (INT64_C(60) * 1000000000) /* more: somebody has set the clock */

static atomic_bool watched;
/* Since they were asked for last. */
static atomic_llong waited_ns, reads;

void rt_arrivals_watch(void)
{
	atomic_store(&watched, true);
}

double rt_arrivals_wait_ms(void)
{
	double count = (double)atomic_exchange(&reads, 0);
	double ns = (double)atomic_exchange(&waited_ns, 0);

	return count > 0 ? ns / count / 1e6 : 0;
}

void arrivals_begin(int fd)
{
	const int on = 1;

	if (atomic_load_explicit(&watched, memory_order_relaxed))
		(void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
}

void arrivals_note(int64_t wait_ns)
{
	atomic_fetch_add_explicit(&waited_ns, wait_ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
}

static int64_t wait_since(const struct cmsghdr *header)
{
	struct timespec came;
	int64_t ns;

	memcpy(&came, CMSG_DATA(header), sizeof(came));
	ns = rt_wall_us() * 1000 - (came.tv_sec * INT64_C(1000000000) + came.tv_nsec);
	return ns < 0 || ns > WAIT_MAX_NS ? -1 : ns;
}

/* What else was asked for goes where the caller wants it. */
static void give_control(struct msghdr *message, const struct cmsghdr *header, size_t *used)
{
	size_t room = message->msg_controllen, space = CMSG_ALIGN(header->cmsg_len);

	if (*used + header->cmsg_len > room) {
		message->msg_flags |= MSG_CTRUNC;
		return;
	}
	memcpy((char *)message->msg_control + *used, header, header->cmsg_len);
	*used += RT_MIN(space, room - *used);
}

ssize_t arrivals_read(int fd, struct msghdr *message, int flags, int64_t *ret_wait_ns)
{
	union {
		struct cmsghdr aligned;
		char bytes[CONTROL_BYTES];
	} control;
	struct msghdr read = *message;
	size_t used = 0;
	ssize_t bytes;

	*ret_wait_ns = -1;
	if (!atomic_load_explicit(&watched, memory_order_relaxed))
		return syscall(SYS_recvmsg, fd, message, flags);
	read.msg_control = control.bytes;
	read.msg_controllen = sizeof(control);
	bytes = syscall(SYS_recvmsg, fd, &read, flags);
	if (bytes < 0)
		return bytes;
	message->msg_namelen = read.msg_namelen;
	message->msg_flags = read.msg_flags;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&read); header != NULL;
	     header = CMSG_NXTHDR(&read, header)) {
		if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS)
			*ret_wait_ns = wait_since(header);
		else
			give_control(message, header, &used);
	}
	message->msg_controllen = used;
	return bytes;
}
