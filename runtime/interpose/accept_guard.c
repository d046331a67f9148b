/* accept_guard.c - an accept4 that does not fail; see interpose.h. Which connections there is room for is
 * decided in connections.c. */
#include "interpose_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPARE_MAX   16 /* descriptors that are left to the rest of the process … */
#define SPARE_SHARE 4  /* … or a quarter of all, when that is less */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int reserve = -1;

static int real_accept(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	return (int)syscall(SYS_accept4, fd, address, length, flags);
}

void rt_accept_guard_init(void)
{
	pthread_mutex_lock(&lock);
	if (reserve < 0)
		reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pthread_mutex_unlock(&lock);
}

/* True when the process has descriptors to spare. The lowest free number is always the one given
 * out, so a high number means that few are left. */
static bool descriptors_left(int fd)
{
	struct rlimit files;
	rlim_t spare;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return true;
	spare = RT_MIN(files.rlim_cur / SPARE_SHARE, (rlim_t)SPARE_MAX);
	return (rlim_t)fd < files.rlim_cur - spare;
}

/* Out of descriptors: takes the connection with the spare one and closes it. False: there is
 * none, or not even that can be done now. */
static bool shed_with_reserve(int fd)
{
	struct pollfd waiting = { .fd = fd, .events = POLLIN };
	int taken = -1;

	pthread_mutex_lock(&lock);
	/* The kernel returns EMFILE even if no connection is waiting. */
	if (reserve >= 0 && poll(&waiting, 1, 0) == 1) {
		close(reserve);
		taken = real_accept(fd, NULL, NULL, SOCK_CLOEXEC);
		if (taken >= 0) {
			close(taken);
			connections_shed();
		}
		reserve = -1;
	}
	/* Another thread may have taken the number: then the next call tries again. */
	if (reserve < 0)
		reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pthread_mutex_unlock(&lock);
	return taken >= 0;
}

/* Errors of one waiting connection: the next one may be fine (accept(2)). */
static bool passing(int error)
{
	return error == ECONNABORTED || error == EPROTO || error == ENETDOWN ||
	       error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET ||
	       error == EHOSTUNREACH || error == ENETUNREACH || error == EPERM;
}

/* The type of `address` is the one <sys/socket.h> declares it with: a transparent union. */
int accept4(int fd, __SOCKADDR_ARG address, socklen_t *restrict length, int flags)
{
	socklen_t room = length != NULL ? *length : 0;

	for (;;) {
		int got;

		if (polling_accept_later(fd)) {
			errno = EAGAIN;
			return -1;
		}
		got = real_accept(fd, address.__sockaddr__, length, flags);

		if (got >= 0 && connections_add(fd, got, descriptors_left(got)))
			return got;
		if (length != NULL)
			*length = room;
		if (got >= 0) {
			close(got);
			continue;
		}
		if (passing(errno))
			continue;
		if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
			return -1;
		if (!shed_with_reserve(fd)) {
			errno = EAGAIN;
			return -1;
		}
	}
}

const char *rt_accept_guard_problem(void)
{
	return RT_INTERPOSED(accept4) ? NULL : RT_NOT_INTERPOSED;
}
