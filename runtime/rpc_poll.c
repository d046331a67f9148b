/* rpc_poll.c - see rpc_poll.h. */
#include "rpc_poll.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Thread_local bool learning, emptied;
static atomic_int learned = -1;

/* Ours instead of libc's, in the whole process. */
__attribute__((visibility("default"))) int epoll_create1(int flags)
{
	int fd = (int)syscall(SYS_epoll_create1, flags);

	if (learning && fd >= 0)
		atomic_store(&learned, fd);
	return fd;
}

__attribute__((visibility("default"))) int epoll_wait(int fd, struct epoll_event *events,
						      int count_max, int timeout_ms)
{
	int count = (int)syscall(SYS_epoll_pwait, fd, events, count_max, timeout_ms, NULL, 0);

	if (fd == atomic_load_explicit(&learned, memory_order_relaxed) &&
	    (count == 0 || (count < 0 && errno != EINTR)))
		emptied = true;
	return count;
}

void rpc_poll_learn_begin(void)
{
	learning = true;
}

void rpc_poll_learn_end(void)
{
	learning = false;
}

int rpc_poll_fd(void)
{
	return atomic_load(&learned);
}

void rpc_poll_start(void)
{
	emptied = false;
}

bool rpc_poll_emptied(void)
{
	return emptied;
}
