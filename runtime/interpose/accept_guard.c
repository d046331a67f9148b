/* accept_guard.c - an accept4 that does not fail; see interpose.h.
 *
 * Nobody reports to us that a connection was closed: whoever owns the descriptor closes it. So
 * each listener keeps a table of what it accepted, descriptor and inode (a socket's inode is its
 * own as long as it lives), and only when the table is full looks which of them are still there.
 * That costs a system call each; while connections beyond the limit arrive it is done every
 * RECOUNT_MS at most. */
#include "interpose_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LISTENERS_MAX  16
#define SPARE_MAX      16 /* descriptors that are left to the rest of the process … */
#define SPARE_SHARE    4  /* … or a quarter of all, when that is less */
#define RECOUNT_MS     50
#define LIMIT_STANDARD 4096

struct connection {
	int fd;
	ino_t inode;
};
struct listener {
	int fd;
	ino_t inode;
	struct connection *open;
	size_t count, capacity;
	int64_t recounted_ms;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct listener listeners[LISTENERS_MAX];
static int reserve = -1;
static _Atomic int64_t limit = LIMIT_STANDARD;
static _Atomic uint64_t shed;

static int real_accept(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	return (int)syscall(SYS_accept4, fd, address, length, flags);
}

void rt_accept_guard_limit(int64_t connections_max)
{
	atomic_store(&limit, connections_max);
	pthread_mutex_lock(&lock);
	if (reserve < 0)
		reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	pthread_mutex_unlock(&lock);
}

uint64_t rt_accept_guard_shed(void)
{
	return atomic_load(&shed);
}

static ino_t inode_of(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) == 0 && S_ISSOCK(stat.st_mode) ? stat.st_ino : 0;
}

static int64_t now_ms(void)
{
	return rt_monotonic_ns() / 1000000;
}

/* The listener's entry; reuses one whose socket is gone. NULL: too many listeners. */
static struct listener *find_listener(int fd)
{
	ino_t inode = inode_of(fd);
	struct listener *free_one = NULL;

	for (size_t i = 0; i < LISTENERS_MAX; i++) {
		struct listener *listener = &listeners[i];

		if (listener->inode != 0 && listener->fd == fd && listener->inode == inode)
			return listener;
		if (free_one == NULL &&
		    (listener->inode == 0 || inode_of(listener->fd) != listener->inode))
			free_one = listener;
	}
	if (free_one == NULL || inode == 0)
		return NULL;
	free_one->fd = fd;
	free_one->inode = inode;
	free_one->count = 0;
	free_one->recounted_ms = 0;
	return free_one;
}

/* Forgets the connections that are closed. */
static void recount(struct listener *listener)
{
	size_t kept = 0;

	for (size_t i = 0; i < listener->count; i++) {
		if (inode_of(listener->open[i].fd) == listener->open[i].inode)
			listener->open[kept++] = listener->open[i];
	}
	listener->count = kept;
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

/* Notes the connection. False: the listener has as many as it may. */
static bool note(int listening, int fd)
{
	struct listener *listener = find_listener(listening);
	size_t most = (size_t)atomic_load(&limit);

	if (listener == NULL)
		return true;
	if (listener->count >= most && now_ms() - listener->recounted_ms >= RECOUNT_MS) {
		recount(listener);
		listener->recounted_ms = now_ms();
	}
	if (listener->count >= most)
		return false;
	if (listener->count == listener->capacity) {
		/* Before growing: most of a long list is closed connections. */
		recount(listener);
		if (listener->count > listener->capacity / 2 || listener->capacity == 0) {
			listener->capacity = listener->capacity * 2 + 64;
			listener->open = rt_realloc(listener->open,
						    listener->capacity * sizeof(*listener->open));
		}
	}
	listener->open[listener->count++] = (struct connection){ fd, inode_of(fd) };
	return true;
}

static bool admit(int listening, int fd)
{
	bool noted;

	if (!descriptors_left(fd))
		return false;
	pthread_mutex_lock(&lock);
	noted = note(listening, fd);
	pthread_mutex_unlock(&lock);
	return noted;
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
			atomic_fetch_add(&shed, 1);
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
		int got = real_accept(fd, address.__sockaddr__, length, flags);

		if (got >= 0 && admit(fd, got))
			return got;
		if (length != NULL)
			*length = room;
		if (got >= 0) {
			close(got);
			atomic_fetch_add(&shed, 1);
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
