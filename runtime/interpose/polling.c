/* polling.c - what gRPC does with its epoll set, seen from outside; see interpose.h. */
#include "interpose_internal.h"

#include <errno.h>
#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How gRPC has put a descriptor into its set. */
struct entry {
	struct epoll_event event;
	bool known, left, due;
	int next_left, next_due;
	size_t unbroken; /* bytes read outside of turns since we last reported EAGAIN */
	int said;        /* how often we reported it in a row */
};

static _Thread_local bool learning, emptied;
static _Thread_local int64_t turn_end_ns; /* 0: no turn */
static _Thread_local uint64_t turn;       /* its number */
static atomic_int learned = -1;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for what follows */
static struct entry *entries;                            /* by descriptor */
static size_t entry_count;
static int first_left = -1; /* descriptors with input that a turn left unread */
/* Those of them whose input the kernel does not have any more: TLS has decrypted it (tls.c). This turn's epoll_wait
 * reports them itself. */
static _Atomic int first_due = -1;

/* gRPC sizes its next buffer by what it read since it last began to read and found nothing, and
 * computes that as an int: 2 GiB without a pause end the process (an assertion in tcp_posix.cc).
 * Where no turn ends, we report EAGAIN after so many bytes; twice, since gRPC may be in the middle
 * of reading the first time. */
#define UNBROKEN_MAX ((size_t)4 << 20)
#define PARTS_MAX    8 /* buffers of one read */
#define TURN_ACCEPTS 8

/* With the lock. */
static struct entry *entry_of(int fd)
{
	size_t wanted = (size_t)fd + 1;

	if (wanted > entry_count) {
		wanted = RT_MAX(wanted, entry_count * 2);
		entries = rt_realloc(entries, wanted * sizeof(entries[0]));
		memset(entries + entry_count, 0, (wanted - entry_count) * sizeof(entries[0]));
		entry_count = wanted;
	}
	return &entries[fd];
}

static void note_entry(int fd, const struct epoll_event *event)
{
	struct entry *entry = entry_of(fd);

	entry->event = *event;
	entry->known = true;
	entry->unbroken = 0;
}

/* Replaces libc's, in the whole process. */
__attribute__((visibility("default"))) int epoll_create1(int flags)
{
	int fd = (int)syscall(SYS_epoll_create1, flags);

	if (learning && fd >= 0)
		atomic_store(&learned, fd);
	return fd;
}

/* Adds those that are due; a descriptor may have been closed meanwhile. */
static int report_due(struct epoll_event *events, int count, int count_max)
{
	pthread_mutex_lock(&lock);
	while (first_due >= 0 && count < count_max) {
		struct entry *entry = &entries[first_due];

		if (connections_holds(first_due)) {
			events[count] = entry->event;
			events[count++].events = EPOLLIN;
		}
		entry->due = false;
		first_due = entry->next_due;
	}
	pthread_mutex_unlock(&lock);
	return count;
}

__attribute__((visibility("default"))) int epoll_wait(int fd, struct epoll_event *events,
						      int count_max, int timeout_ms)
{
	bool ours = fd == atomic_load_explicit(&learned, memory_order_relaxed);
	bool due = ours && atomic_load_explicit(&first_due, memory_order_relaxed) >= 0;
	int count =
		(int)syscall(SYS_epoll_pwait, fd, events, count_max, due ? 0 : timeout_ms, NULL, 0);

	if (due && count >= 0)
		count = report_due(events, count, count_max);
	if (ours && (count == 0 || (count < 0 && errno != EINTR)))
		emptied = true;
	return count;
}

__attribute__((visibility("default"))) int epoll_ctl(int set, int operation, int fd,
						     struct epoll_event *event)
{
	bool add = operation == EPOLL_CTL_ADD &&
		   set == atomic_load_explicit(&learned, memory_order_relaxed);
	int rc;

	if (!add)
		return (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
	pthread_mutex_lock(&lock);
	rc = (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
	if (rc == 0)
		note_entry(fd, event);
	pthread_mutex_unlock(&lock);
	return rc;
}

/* False: not a descriptor of gRPC's. */
static bool leave_unread(int fd)
{
	bool known;

	pthread_mutex_lock(&lock);
	known = (size_t)fd < entry_count && entries[fd].known;
	if (known && !entries[fd].left) {
		entries[fd].left = true;
		entries[fd].next_left = first_left;
		first_left = fd;
	}
	pthread_mutex_unlock(&lock);
	return known;
}

bool polling_in_turn(void)
{
	return turn_end_ns != 0;
}

void polling_read_later(int fd)
{
	(void)leave_unread(fd);
}

bool polling_accept_later(int fd)
{
	static _Thread_local uint64_t counted_turn;
	static _Thread_local int count;

	if (turn_end_ns == 0)
		return false;
	if (counted_turn != turn) {
		counted_turn = turn;
		count = 0;
	}
	return ++count > TURN_ACCEPTS && leave_unread(fd);
}

bool polling_knows(int fd)
{
	bool known;

	pthread_mutex_lock(&lock);
	known = fd >= 0 && (size_t)fd < entry_count && entries[fd].known;
	pthread_mutex_unlock(&lock);
	return known;
}

/* Whether a read outside of turns has to return EAGAIN once. The set reports changes only, so we make
 * it report the remaining input. A set that is polled does so by itself. */
static bool must_break(int fd)
{
	struct entry *entry;
	bool over;

	pthread_mutex_lock(&lock);
	entry = entry_of(fd);
	over = entry->unbroken >= UNBROKEN_MAX;
	if (over) {
		if (++entry->said == 2) {
			entry->said = 0;
			entry->unbroken = 0;
		}
		if (entry->known)
			(void)syscall(SYS_epoll_ctl, atomic_load(&learned), EPOLL_CTL_MOD, fd,
				      &entry->event);
	}
	pthread_mutex_unlock(&lock);
	return over;
}

static void note_read(int fd, size_t bytes)
{
	pthread_mutex_lock(&lock);
	entry_of(fd)->unbroken += bytes;
	pthread_mutex_unlock(&lock);
}

/* Bytes that the connection may not bring gRPC does not see. */
static ssize_t read_guarded(int fd, struct msghdr *message, int flags, int64_t now_ns)
{
	size_t resets = connections_resets(fd, message, false);
	int64_t wait_ns;
	ssize_t bytes;
	int asked;

	if (resets > 0)
		return (ssize_t)resets;
	asked = connections_ask(fd, message);
	if (asked > 0)
		return asked;
	if (asked == 0) {
		errno = EAGAIN;
		return -1;
	}
	bytes = arrivals_read(fd, message, flags, &wait_ns);
	if (bytes > 0) {
		bytes = connections_received(fd, message, (size_t)bytes, now_ns, wait_ns);
		if (bytes < 0)
			errno = ECONNRESET;
	} else if (bytes == 0 || (errno != EAGAIN && errno != EINTR)) {
		int error = errno;

		resets = connections_resets(fd, message, true);
		if (resets > 0)
			return (ssize_t)resets;
		errno = error;
	}
	return bytes;
}

/* The same, at most `most` bytes (0: any number). gRPC gives a few buffers at once. */
static ssize_t read_part(int fd, struct msghdr *message, int flags, int64_t now_ns, size_t most)
{
	struct iovec parts[PARTS_MAX], *given = message->msg_iov;
	size_t count = message->msg_iovlen, used = 0;
	ssize_t bytes;

	for (; most > 0 && used < RT_MIN(count, (size_t)PARTS_MAX); used++) {
		parts[used] = given[used];
		parts[used].iov_len = RT_MIN(parts[used].iov_len, most);
		most -= parts[used].iov_len;
	}
	if (used > 0) {
		message->msg_iov = parts;
		message->msg_iovlen = used;
	}
	bytes = read_guarded(fd, message, flags, now_ns);
	message->msg_iov = given;
	message->msg_iovlen = count;
	return bytes;
}

static ssize_t read_outside(int fd, struct msghdr *message, int flags)
{
	ssize_t bytes;

	if (fd >= 0 && must_break(fd)) {
		errno = EAGAIN;
		return -1;
	}
	bytes = read_guarded(fd, message, flags, rt_monotonic_ns());
	if (bytes > 0)
		note_read(fd, (size_t)bytes);
	return bytes;
}

__attribute__((visibility("default"))) ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	size_t most;
	int64_t now_ns;

	if (flags & MSG_ERRQUEUE) /* it brings nothing that the client sent */
		return syscall(SYS_recvmsg, fd, message, flags);
	if (turn_end_ns == 0)
		return read_outside(fd, message, flags);
	now_ns = rt_monotonic_ns();
	most = connections_may_read(fd, turn);
	if ((now_ns >= turn_end_ns || most == 0) && leave_unread(fd)) {
		errno = EAGAIN;
		return -1;
	}
	return read_part(fd, message, flags, now_ns, most);
}

void rt_polling_turn_begin(int64_t end_ns)
{
	turn_end_ns = end_ns;
	turn++;
	if (first_left < 0)
		return;
	pthread_mutex_lock(&lock);
	while (first_left >= 0) {
		struct entry *entry = &entries[first_left];

		/* The set reports a change only, and setting an entry again counts as one. A
		 * descriptor that was closed meanwhile is not in the set (ENOENT), or it is as
		 * another one, which then hears in vain that there is something to read. */
		(void)syscall(SYS_epoll_ctl, atomic_load(&learned), EPOLL_CTL_MOD, first_left,
			      &entry->event);
		if (connections_holds(first_left) && !entry->due) {
			entry->due = true;
			entry->next_due = first_due;
			first_due = first_left;
		}
		entry->left = false;
		first_left = entry->next_left;
	}
	pthread_mutex_unlock(&lock);
}

bool rt_polling_turn_end(void)
{
	turn_end_ns = 0;
	return first_left >= 0;
}

void rt_polling_init(void)
{
	learning = true;
	grpc_init();
	learning = false;
}

/* The versions of libgrpc (grpc_version_string) whose epoll set was seen to behave as interpose.h
 * says: 1.51. */
static bool version_is_proven(const char *version)
{
	return strcmp(version, "29.0.0") == 0;
}

const char *rt_polling_problem(void)
{
	if (!RT_INTERPOSED(epoll_create1) || !RT_INTERPOSED(epoll_wait) ||
	    !RT_INTERPOSED(epoll_ctl) || !RT_INTERPOSED(recvmsg))
		return RT_NOT_INTERPOSED;
	if (!version_is_proven(grpc_version_string()))
		return "it was not tried with this version of libgrpc";
	if (atomic_load(&learned) < 0)
		return "gRPC made no epoll set (GRPC_POLL_STRATEGY)";
	return NULL;
}

int rt_polling_fd(void)
{
	return rt_polling_problem() == NULL ? atomic_load(&learned) : -1;
}

void rt_polling_start(void)
{
	emptied = false;
}

bool rt_polling_emptied(void)
{
	return emptied;
}
