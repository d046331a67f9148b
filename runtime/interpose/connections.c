/* connections.c - the connections that this process has accepted: whose they are, what they bring; see
 * interpose.h.
 *
 *   connections_add        accept4 has one (accept_guard.c): are there too many, of all or of this address?
 *     make_room            then the one that was idle longest is closed
 *   connections_may_read   recvmsg asks how much this turn of the loop takes of it (polling.c)
 *   connections_received   recvmsg has bytes of it: the HTTP/2 guard looks at them
 *   rt_connection_refused  a call of it was refused (rpc/callers.c): are there many?
 *   rt_connection_call     on one that is no HTTP/2 a call begins or ends (service/http_calls.c)
 *   connections_resets     recvmsg is asked for more of one that ends, and gives gRPC resets
 *   connections_sent       sendmsg has sent some (corking.c): so does it at these
 *   connections_tls        the same for what TLS decrypts and encrypts (tls.c): its share of a turn, too
 *   close                  whoever owns the descriptor closes it: the entry goes
 *
 * To close a connection we shut its socket down: gRPC sees its end and closes the descriptor. From then on the
 * entry does not count.
 *
 * When a connection ends, for that or because its client went, gRPC ends all its open streams at once, which takes
 * 0.1 ms for each, and nobody is served meanwhile. So where many are open gRPC gets to read first that the client has
 * reset them (RST_STREAM), a few in each turn, and then the end.
 *
 * gRPC reads and writes on any thread, so everything is under one lock; the bit of a descriptor tells without the
 * lock that it is not one of ours. */
#include "interpose_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LISTENERS_MAX   16
#define DESCRIPTORS_MAX (1 << 20)
/* A connection that made calls may be closed for another after so long, because its client expects to make the
 * next one on it. One that never made a call: at any time, the oldest first, so that a new one has as much time for its
 * first call as it takes to fill all places. */
#define IDLE_MS 5000
/* Those that have made no call yet may take a share of all places. With TLS each costs 70 KiB in the middle of its
 * handshake, and 35 KiB afterwards. */
#define NEW_SHARE 8
#define NEW_MIN   64
#define LOOK_MS   1000
/* A turn of the loop takes this many streams of a connection, as far as its bytes tell beforehand; gRPC works off
 * all that it has read before anybody else is served. That is 1 to 10 ms of work. */
#define TURN_STREAMS 128
/* … and so many of all those together that do little else than keep us busy. They take turns. */
#define TURN_STREAMS_FEW 4
#define TURN_FIRST_BYTES                                                                           \
	2048 /* each turn that brings HTTP/2 without streams doubles it, the first one, too */
#define TURN_MIN_BYTES 256
#define TURN_MAX_BYTES 65536
#define LOGS_MAX       5  /* lines a second */
#define RESETS_MIN     64 /* streams: with fewer a connection ends at once */
#define TURN_RESETS    16
/* Of the whole process. gRPC keeps 6 to 11 KiB for each. */
#define UNFINISHED_MAX 6000
#define HELD_MAX_BYTES ((int64_t)64 << 20)
#define HELD_MESSAGES  4 /* … or so many of the largest messages */

struct connection {
	struct connection *next, *prev;
	int fd;
	struct connections_listener *listener; /* NULL: it was closed */
	uint64_t serial;
	struct sockaddr_storage peer;
	struct in6_addr address; /* what counts as one address */
	bool has_address;        /* no: a unix socket */
	bool shut;               /* it does not count any more */
	int64_t accepted_ms, received_ms;
	/* As its owner says, where it is no HTTP/2 (rt_connection_call). */
	size_t calls;
	int64_t called_ms;
	/* What it brought in the turn of the loop that read it last, and how many bytes a turn takes of it. With TLS
	 * gRPC gets whole records, so what was read and what it got differ. */
	uint64_t turn;
	size_t turn_read, turn_bytes, turn_streams, turn_max_bytes;
	size_t held; /* decrypted bytes that wait for the next turn */
	bool held_asked;
	bool resetting;    /* it has ended, and gRPC reads that its streams are reset */
	size_t resets_due; /* how many it may read now */
	bool asked;        /* through TLS: this turn has made gRPC read them */
	unsigned char rest[HTTP2_RESET_BYTES]; /* of the last reset that it read */
	size_t rest_length;
	struct http2_guard http2;
	struct http2_guard *tls; /* of what TLS decrypts; NULL: there is no TLS yet */
};

struct connections_listener {
	int fd; /* -1: a free entry */
	size_t count;
	size_t max; /* 0: as all; it speaks HTTP/2 then */
};

/* What is said once the lock is released. */
struct closing {
	const char *reason; /* NULL: nothing was closed */
	struct sockaddr_storage peer;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct connections_listener listeners[] = { [0 ... LISTENERS_MAX - 1] = { .fd = -1 } };
static struct connection *first;
static struct connection **table; /* by descriptor */
static size_t table_size;
static _Atomic uint64_t known[DESCRIPTORS_MAX / 64]; /* descriptors of connections and listeners */
static uint64_t serials;
static int64_t looked_ms;
static struct rt_connection_limits limits = { .connections_max = 4096 };
static struct http2_limits http2 = {
	.streams_max = 10000,
	.unfinished_max = UNFINISHED_MAX,
	.held_max_bytes = HELD_MAX_BYTES,
};
static struct rt_metric *closed_metric;
static _Atomic uint64_t shed;
static _Atomic size_t resetting_count; /* connections */
/* Connections that waste, and have something to read: in this turn until now, and in the one before. */
static uint64_t wasteful_turn;
static size_t wasteful, wasteful_before;

/* What this thread read last: TLS decrypts it next. */
static _Thread_local struct rt_connection_id last_read;

static int64_t now_ms(void)
{
	return rt_monotonic_ns() / 1000000;
}

static bool is_known(int fd)
{
	return fd >= 0 && fd < DESCRIPTORS_MAX &&
	       (atomic_load_explicit(&known[fd / 64], memory_order_relaxed) >> (fd % 64) & 1) != 0;
}

static void set_known(int fd, bool is)
{
	uint64_t bit = UINT64_C(1) << (fd % 64);

	if (is)
		atomic_fetch_or(&known[fd / 64], bit);
	else
		atomic_fetch_and(&known[fd / 64], ~bit);
}

/* With the lock. */
static struct connection *find(int fd)
{
	return fd >= 0 && (size_t)fd < table_size ? table[fd] : NULL;
}

static struct connection *find_id(struct rt_connection_id id)
{
	struct connection *connection = find(id.fd);

	return connection != NULL && connection->serial == id.serial ? connection : NULL;
}

/* ---- closing ---- */

void rt_connections_metrics(struct rt_metrics *metrics)
{
	static const char *const labels[] = { "reason", NULL };
	static const char *const others[] = { "idle", "connections_max", "connections_per_address",
					      "descriptors" };
	struct rt_metric *metric = NULL;

	if (metrics != NULL) {
		metric = rt_metric(metrics, RT_COUNTER, "tandem_connections_closed_total",
				   "Connections of clients that were closed because of what they "
				   "brought, or because there were too many.",
				   labels);
		for (int i = HTTP2_FINE + 1; i < HTTP2_OFFENCES_END; i++) {
			const char *reason = http2_offence_reason((enum http2_offence)i);

			(void)rt_metric_series(metric, &reason);
		}
		for (size_t i = 0; i < RT_LENGTH(others); i++)
			(void)rt_metric_series(metric, &others[i]);
	}
	pthread_mutex_lock(&lock);
	closed_metric = metric;
	pthread_mutex_unlock(&lock);
}

uint64_t rt_accept_guard_shed(void)
{
	return atomic_load(&shed);
}

/* With the lock. */
static void count_closed(const char *reason)
{
	if (closed_metric != NULL)
		rt_series_add(rt_metric_series(closed_metric, &reason), 1);
}

/* With the lock: gRPC sees the end of the connection, and closes it. */
static void shut(struct connection *connection, const char *reason, struct closing *closing)
{
	if (connection->shut)
		return;
	connection->shut = true;
	if (connection->listener != NULL)
		connection->listener->count--;
	(void)shutdown(connection->fd, SHUT_RDWR);
	count_closed(reason);
	closing->reason = reason;
	closing->peer = connection->peer;
}

static void peer_text(const struct sockaddr_storage *peer, char *text, size_t size)
{
	char address[INET6_ADDRSTRLEN] = "";

	if (peer->ss_family == AF_INET) {
		const struct sockaddr_in *four = (const void *)peer;

		inet_ntop(AF_INET, &four->sin_addr, address, sizeof(address));
		snprintf(text, size, "%s:%u", address, ntohs(four->sin_port));
	} else if (peer->ss_family == AF_INET6) {
		const struct sockaddr_in6 *six = (const void *)peer;
		bool four = IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);

		if (four)
			inet_ntop(AF_INET, six->sin6_addr.s6_addr + 12, address, sizeof(address));
		else
			inet_ntop(AF_INET6, &six->sin6_addr, address, sizeof(address));
		snprintf(text, size, four ? "%s:%u" : "[%s]:%u", address, ntohs(six->sin6_port));
	} else {
		snprintf(text, size, "unix");
	}
}

/* Without the lock. */
static void say(const struct closing *closing)
{
	static _Atomic int64_t second;
	static _Atomic int said;
	int64_t now = now_ms() / 1000;
	char peer[64];

	if (closing->reason == NULL)
		return;
	if (atomic_exchange(&second, now) != now)
		atomic_store(&said, 0);
	if (atomic_fetch_add(&said, 1) >= LOGS_MAX)
		return; /* the metric has them all */
	peer_text(&closing->peer, peer, sizeof(peer));
	RT_LOG(RT_WARN, "a connection is closed", RT_S("peer", peer),
	       RT_S("reason", closing->reason));
}

/* ---- accepting ---- */

/* With the lock. NULL: too many listeners, and their connections are not counted. */
static struct connections_listener *find_listener(int fd)
{
	struct connections_listener *free_one = NULL;

	for (size_t i = 0; i < LISTENERS_MAX; i++) {
		struct connections_listener *listener = &listeners[i];

		if (listener->fd == fd)
			return listener;
		if (free_one == NULL && listener->fd < 0)
			free_one = listener;
	}
	if (free_one == NULL)
		return NULL;
	*free_one = (struct connections_listener){ .fd = fd };
	set_known(fd, true);
	return free_one;
}

void rt_connections_limit(const struct rt_connection_limits *wanted)
{
	pthread_mutex_lock(&lock);
	limits = *wanted;
	http2.streams_max = wanted->streams_max > 0 ? (size_t)wanted->streams_max : 10000;
	/* One connection may have as many as we say in our SETTINGS. */
	http2.unfinished_max = RT_MAX(UNFINISHED_MAX, http2.streams_max);
	http2.held_max_bytes =
		(size_t)RT_MAX(HELD_MAX_BYTES, wanted->message_max_bytes * HELD_MESSAGES);
	pthread_mutex_unlock(&lock);
}

void rt_connections_limit_listener(int listening, int64_t connections_max)
{
	struct connections_listener *listener;

	pthread_mutex_lock(&lock);
	listener = find_listener(listening);
	if (listener != NULL)
		listener->max = (size_t)connections_max;
	pthread_mutex_unlock(&lock);
}

/* What counts as one address: an IPv4 address, or the 64 bits of an IPv6 address that belong to one network. */
static void set_address(struct connection *connection)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned char *bytes = connection->address.s6_addr;

	if (connection->peer.ss_family == AF_INET) {
		memcpy(bytes, mapped, sizeof(mapped));
		memcpy(bytes + 12, &((const struct sockaddr_in *)&connection->peer)->sin_addr, 4);
	} else if (connection->peer.ss_family == AF_INET6) {
		connection->address = ((const struct sockaddr_in6 *)&connection->peer)->sin6_addr;
		if (!IN6_IS_ADDR_V4MAPPED(&connection->address) &&
		    !IN6_IS_ADDR_LOOPBACK(&connection->address))
			memset(bytes + 8, 0, 8);
	} else {
		return;
	}
	connection->has_address = true;
}

static bool is_loopback(const struct in6_addr *address)
{
	return IN6_IS_ADDR_LOOPBACK(address) ||
	       (IN6_IS_ADDR_V4MAPPED(address) && address->s6_addr[12] == 127);
}

/* How many connections this address may have. */
static size_t address_max(const struct connection *connection)
{
	if (limits.connections_per_address > 0)
		return (size_t)limits.connections_per_address;
	if (is_loopback(&connection->address))
		return SIZE_MAX;
	return (size_t)RT_MAX(limits.connections_max / 4, INT64_C(1));
}

static bool same_address(const struct connection *a, const struct connection *b)
{
	return a->has_address && b->has_address &&
	       memcmp(&a->address, &b->address, sizeof(a->address)) == 0;
}

static size_t count_address(const struct connection *like)
{
	size_t count = 0;

	for (struct connection *one = first; one != NULL; one = one->next)
		count += !one->shut && one->listener == like->listener && same_address(one, like);
	return count;
}

static struct http2_guard *guard_of(struct connection *connection)
{
	return connection->tls != NULL ? connection->tls : &connection->http2;
}

/* Since when nothing has happened on it; INT64_MAX: a call is under way. What is no HTTP/2 (yet) has made no call:
 * it is in the middle of a handshake of TLS, or a connection to the admin port. */
static int64_t idle_since(struct connection *connection, bool *ret_called)
{
	const struct http2_guard *guard = guard_of(connection);
	int64_t called_ms = RT_MAX(guard->called_ms, connection->called_ms);

	*ret_called = called_ms != 0 || guard->blind;
	if (guard->stream_count > 0 || connection->calls > 0)
		return INT64_MAX;
	return RT_MAX(guard->blind ? connection->received_ms : called_ms, connection->accepted_ms);
}

/* Closes the connection that was idle longest, those first that never made a call; the list begins with the newest, so
 * of several it is the oldest. `like`: only of its listener and, with `address`, of its address. False: each was in use
 * lately. */
static bool make_room(const struct connection *like, bool address, struct closing *closing)
{
	struct connection *best = NULL;
	int64_t best_since = 0, now = now_ms();
	bool best_called = true;

	for (struct connection *one = first; one != NULL; one = one->next) {
		bool called;
		int64_t since = idle_since(one, &called);

		if (one->shut || one->listener != like->listener ||
		    (address && !same_address(one, like)) || since > now - (called ? IDLE_MS : 0))
			continue;
		if (best == NULL || (best_called && !called) ||
		    (best_called == called && since <= best_since)) {
			best = one;
			best_since = since;
			best_called = called;
		}
	}
	if (best != NULL)
		shut(best, "idle", closing);
	return best != NULL;
}

/* Whether too many of its listener have made no call yet: this one will be one more. */
static bool many_are_new(const struct connection *like, size_t most)
{
	size_t allowed = RT_MAX(most / NEW_SHARE, (size_t)NEW_MIN), count = 0;

	if (like->listener->count < allowed)
		return false;
	for (struct connection *one = first; one != NULL; one = one->next) {
		bool called;

		(void)idle_since(one, &called);
		count += !one->shut && !called && one->listener == like->listener;
	}
	return count >= allowed;
}

/* With the lock. NULL: there is room for it. */
static const char *refusal(const struct connection *connection, struct closing *closing)
{
	size_t most = address_max(connection), of_listener;

	if (connection->listener == NULL)
		return NULL;
	of_listener = connection->listener->max > 0 ? connection->listener->max
						    : (size_t)limits.connections_max;
	if (connection->listener->count >= most && count_address(connection) >= most &&
	    !make_room(connection, true, closing))
		return "connections_per_address";
	if (connection->listener->count < of_listener && many_are_new(connection, of_listener))
		(void)make_room(connection, false, closing);
	if (connection->listener->count >= of_listener && !make_room(connection, false, closing))
		return "connections_max";
	return NULL;
}

/* With the lock. */
static void insert(struct connection *connection)
{
	size_t wanted = (size_t)connection->fd + 1;

	if (wanted > table_size) {
		wanted = RT_MAX(wanted, table_size * 2);
		table = rt_realloc(table, wanted * sizeof(*table));
		memset(table + table_size, 0, (wanted - table_size) * sizeof(*table));
		table_size = wanted;
	}
	table[connection->fd] = connection;
	connection->next = first;
	if (first != NULL)
		first->prev = connection;
	first = connection;
	if (connection->listener != NULL)
		connection->listener->count++;
	connection->serial = ++serials;
	connection->turn_max_bytes = TURN_FIRST_BYTES;
	http2_guard_init(&connection->http2, &http2);
	connection->http2.foreign = connection->listener != NULL && connection->listener->max > 0;
	set_known(connection->fd, true);
}

bool connections_add(int listening, int fd, bool room)
{
	struct connection *connection;
	struct closing idle = { 0 }, refused = { 0 };
	socklen_t length = sizeof(connection->peer);

	if (fd >= DESCRIPTORS_MAX || listening >= DESCRIPTORS_MAX)
		return false;
	connection = rt_alloc(sizeof(*connection));
	connection->fd = fd;
	connection->accepted_ms = now_ms();
	(void)getpeername(fd, (struct sockaddr *)&connection->peer, &length);
	set_address(connection);
	pthread_mutex_lock(&lock);
	connection->listener = find_listener(listening);
	if (room) {
		refused.reason = refusal(connection, &idle);
	} else {
		/* This one cannot be kept; the next try finds a descriptor. */
		(void)make_room(connection, false, &idle);
		refused.reason = "descriptors";
	}
	if (refused.reason == NULL) {
		insert(connection);
		arrivals_begin(fd);
	} else {
		atomic_fetch_add(&shed, 1);
		count_closed(refused.reason);
		refused.peer = connection->peer;
		free(RT_TAKE(connection));
	}
	pthread_mutex_unlock(&lock);
	say(&idle);
	say(&refused);
	return connection != NULL;
}

void connections_shed(void)
{
	atomic_fetch_add(&shed, 1);
	pthread_mutex_lock(&lock);
	count_closed("descriptors");
	pthread_mutex_unlock(&lock);
}

/* ---- closed by its owner ---- */

/* With the lock. */
static void forget_listener(int fd)
{
	for (size_t i = 0; i < LISTENERS_MAX; i++) {
		if (listeners[i].fd != fd)
			continue;
		for (struct connection *one = first; one != NULL; one = one->next) {
			if (one->listener == &listeners[i])
				one->listener = NULL;
		}
		listeners[i].fd = -1;
	}
}

static void forget(int fd)
{
	struct connection *connection;

	pthread_mutex_lock(&lock);
	set_known(fd, false);
	forget_listener(fd);
	connection = find(fd);
	if (connection != NULL) {
		table[fd] = NULL;
		if (connection->next != NULL)
			connection->next->prev = connection->prev;
		if (connection->prev != NULL)
			connection->prev->next = connection->next;
		else
			first = connection->next;
		if (connection->listener != NULL && !connection->shut)
			connection->listener->count--;
		http2_guard_done(&connection->http2);
		if (connection->resetting)
			atomic_fetch_sub(&resetting_count, 1);
		free(connection);
	}
	pthread_mutex_unlock(&lock);
}

/* Ours instead of libc's, in the whole process. The number may be another connection's as soon as the kernel
 * has closed it. */
__attribute__((visibility("default"))) int close(int fd)
{
	if (is_known(fd))
		forget(fd);
	return (int)syscall(SYS_close, fd);
}

/* ---- what connections bring ---- */

/* With the lock: looks at those that bring nothing. */
static void look_at_all(int64_t now, struct closing *closing)
{
	if (now - looked_ms < LOOK_MS)
		return;
	looked_ms = now;
	for (struct connection *one = first; one != NULL; one = one->next) {
		enum http2_offence offence = http2_guard_look(guard_of(one), now);

		if (offence != HTTP2_FINE)
			shut(one, http2_offence_reason(offence), closing);
	}
}

/* With the lock. How many streams of it this turn takes; 0: a later turn does. */
static size_t streams_of_turn(const struct connection *connection, uint64_t turn, bool wastes)
{
	size_t turns;

	if (!wastes)
		return TURN_STREAMS;
	if (wasteful_turn != turn) {
		wasteful_turn = turn;
		wasteful_before = wasteful;
		wasteful = 0;
	}
	wasteful++;
	if (wasteful_before <= TURN_STREAMS_FEW)
		return TURN_STREAMS_FEW / RT_MAX(wasteful_before, (size_t)1);
	turns = (wasteful_before + TURN_STREAMS_FEW - 1) / TURN_STREAMS_FEW;
	return (connection->serial + turn) % turns == 0;
}

/* With the lock: another turn. It takes as many bytes as will be some streams, going by the last turn's. False: none. */
static bool begin_turn(struct connection *connection, uint64_t turn)
{
	size_t streams =
		streams_of_turn(connection, turn, http2_guard_wastes(guard_of(connection)));
	size_t bytes = connection->turn_max_bytes;

	if (streams == 0)
		return false;
	if (connection->turn_streams == 0 && (connection->turn_bytes > 0 || connection->turn == 0))
		bytes *= 2;
	else if (connection->turn_streams > 0)
		bytes = connection->turn_bytes * streams / connection->turn_streams;
	connection->turn_max_bytes =
		RT_MIN(RT_MAX(bytes, (size_t)TURN_MIN_BYTES), (size_t)TURN_MAX_BYTES);
	connection->turn = turn;
	connection->turn_read = connection->turn_bytes = connection->turn_streams = 0;
	connection->resets_due = TURN_RESETS;
	connection->asked = false;
	return true;
}

size_t connections_may_read(int fd, uint64_t turn)
{
	struct connection *connection;
	size_t bytes = SIZE_MAX;

	if (!is_known(fd))
		return bytes;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	if (connection != NULL) {
		if (connection->turn != turn && !begin_turn(connection, turn))
			bytes = 0;
		else if (connection->resetting)
			bytes = connection->resets_due > 0 && !connection->asked ? SIZE_MAX : 0;
		else
			bytes = connection->turn_max_bytes -
				RT_MIN(RT_MAX(connection->turn_read, connection->turn_bytes),
				       connection->turn_max_bytes);
	}
	pthread_mutex_unlock(&lock);
	return bytes;
}

/* With the lock. The parts of the message, up to `length` bytes. *ret_whole: as guard->whole, of all of it. */
static enum http2_offence feed(struct connection *connection, const struct msghdr *message,
			       size_t length, int64_t now, size_t *ret_whole)
{
	enum http2_offence offence = HTTP2_FINE;
	size_t before = 0;

	for (size_t i = 0; i < message->msg_iovlen && before < length; i++) {
		size_t part = RT_MIN(length - before, message->msg_iov[i].iov_len);

		offence = http2_guard_received(&connection->http2, message->msg_iov[i].iov_base,
					       part, now, &connection->turn_streams);
		if (offence != HTTP2_FINE)
			break;
		before += part;
	}
	*ret_whole = connection->http2.whole;
	if (*ret_whole != HTTP2_NO_WHOLE)
		*ret_whole += before;
	return offence;
}

/* With the lock. False: it ends at once, since its streams are few. gRPC has got, or gets now, what ends where a frame
 * ends. */
static bool begin_resets(struct connection *connection)
{
	const struct http2_guard *guard = guard_of(connection);

	if (guard->blind || guard->stream_count < RESETS_MIN)
		return false;
	if (!connection->resetting)
		atomic_fetch_add(&resetting_count, 1);
	connection->resetting = true;
	return true;
}

/* With the lock. Resets of open streams, this turn's share, in `size` bytes; what does not fit of the last one comes first
 * the next time. Returns how many bytes. */
static size_t write_resets(struct connection *connection, unsigned char *bytes, size_t size)
{
	unsigned char frames[(1 + TURN_RESETS) * HTTP2_RESET_BYTES];
	size_t rest = connection->rest_length, most = connection->resets_due, length, written;

	memcpy(frames, connection->rest, rest);
	if (size > rest)
		most = RT_MIN(most, (size - rest + HTTP2_RESET_BYTES - 1) / HTTP2_RESET_BYTES);
	else
		most = 0;
	length = http2_guard_reset(guard_of(connection), frames + rest, most * HTTP2_RESET_BYTES,
				   now_ms());
	connection->resets_due -= length / HTTP2_RESET_BYTES;
	length += rest;
	written = RT_MIN(length, size);
	connection->rest_length = length - written;
	memcpy(connection->rest, frames + written, connection->rest_length);
	memcpy(bytes, frames, written);
	return written;
}

/* With the lock. Puts them where recvmsg puts what it reads. With TLS it is a byte instead: then gRPC asks SSL_read,
 * which has them. Returns how many bytes; 0: no stream is open. */
static size_t put_resets(struct connection *connection, const struct msghdr *message)
{
	unsigned char bytes[TURN_RESETS * HTTP2_RESET_BYTES] = { 0 }, *at = bytes;
	size_t room = 0, length, left;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		room += message->msg_iov[i].iov_len;
	if (connection->tls != NULL || connection->resets_due == 0) /* or outside of turns */
		connection->resets_due = TURN_RESETS;
	if (connection->tls == NULL) {
		length = write_resets(connection, bytes, RT_MIN(room, sizeof(bytes)));
	} else {
		connection->asked = true;
		length = room > 0 &&
			 (connection->tls->stream_count > 0 || connection->rest_length > 0);
	}
	left = length;
	for (size_t i = 0; left > 0; i++) {
		size_t part = RT_MIN(left, message->msg_iov[i].iov_len);

		memcpy(message->msg_iov[i].iov_base, at, part);
		at += part;
		left -= part;
	}
	return length;
}

bool connections_resetting(int fd)
{
	struct connection *connection;
	bool is;

	if (atomic_load_explicit(&resetting_count, memory_order_relaxed) == 0 || !is_known(fd))
		return false;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	is = connection != NULL && connection->resetting;
	pthread_mutex_unlock(&lock);
	return is;
}

size_t connections_resets(int fd, const struct msghdr *message, bool ended)
{
	struct connection *connection;
	size_t bytes = 0;

	if ((!ended && atomic_load_explicit(&resetting_count, memory_order_relaxed) == 0) ||
	    !is_known(fd))
		return 0;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	if (connection != NULL &&
	    (connection->resetting || (ended && http2_guard_between_frames(guard_of(connection)) &&
				       begin_resets(connection))))
		bytes = put_resets(connection, message);
	pthread_mutex_unlock(&lock);
	return bytes;
}

/* With the lock. What gRPC gets of a connection that is shut: of the bytes that have just come the first `whole`, or
 * else resets. */
static ssize_t after_offence(struct connection *connection, const struct msghdr *message,
			     size_t whole)
{
	if (whole == HTTP2_NO_WHOLE || !begin_resets(connection))
		return -1;
	return (ssize_t)(whole > 0 ? whole : put_resets(connection, message));
}

ssize_t connections_received(int fd, const struct msghdr *message, size_t length, int64_t now_ns,
			     int64_t wait_ns)
{
	enum http2_offence offence = HTTP2_FINE;
	struct closing closing = { 0 };
	struct connection *connection;
	int64_t now = now_ns / 1000000;
	ssize_t good = (ssize_t)length;
	size_t whole = HTTP2_NO_WHOLE;

	if (!is_known(fd))
		return good;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	if (connection != NULL) {
		last_read = (struct rt_connection_id){ fd, connection->serial };
		connection->received_ms = now;
		connection->turn_read += length;
		if (!connection->http2.foreign)
			connection->turn_bytes += length;
		if (connection->shut && http2_guard_between_frames(guard_of(connection)))
			whole = 0;
		else if (!connection->http2.foreign && !connection->shut)
			offence = feed(connection, message, length, now, &whole);
		if (offence != HTTP2_FINE)
			shut(connection, http2_offence_reason(offence), &closing);
		/* Those that waste are read late on purpose. */
		if (wait_ns >= 0 && !connection->http2.foreign &&
		    !http2_guard_wastes(guard_of(connection)))
			arrivals_note(wait_ns);
		look_at_all(now, &closing);
		if (connection->shut)
			good = after_offence(connection, message, whole);
	}
	pthread_mutex_unlock(&lock);
	say(&closing);
	return good;
}

void connections_sent(int fd, const struct msghdr *message, size_t length)
{
	struct connection *connection;

	if (!is_known(fd))
		return;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	if (connection != NULL && !connection->http2.foreign) {
		int64_t now = now_ms();

		for (size_t i = 0; i < message->msg_iovlen && length > 0; i++) {
			size_t part = RT_MIN(length, message->msg_iov[i].iov_len);

			http2_guard_sent(&connection->http2, message->msg_iov[i].iov_base, part,
					 now);
			length -= part;
		}
	}
	pthread_mutex_unlock(&lock);
}

/* ---- calls that are refused ---- */

/* 0: it has none. */
static unsigned port_of(const struct sockaddr_storage *peer)
{
	if (peer->ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)peer)->sin_port);
	if (peer->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)peer)->sin6_port);
	return 0;
}

struct rt_connection_id rt_connection_of(const char *peer)
{
	const char *colon = strrchr(peer, ':');
	unsigned port = colon != NULL ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
	struct rt_connection_id found = { 0 };
	char text[64];

	if (port == 0)
		return found;
	pthread_mutex_lock(&lock);
	for (struct connection *one = first; one != NULL && found.serial == 0; one = one->next) {
		if (port_of(&one->peer) != port)
			continue;
		peer_text(&one->peer, text, sizeof(text));
		if (strcmp(text, peer) == 0)
			found = (struct rt_connection_id){ one->fd, one->serial };
	}
	pthread_mutex_unlock(&lock);
	return found;
}

void rt_connection_refused(struct rt_connection_id id)
{
	struct connection *connection;

	if (id.serial == 0)
		return;
	pthread_mutex_lock(&lock);
	connection = find_id(id);
	if (connection != NULL)
		http2_guard_refused(guard_of(connection), now_ms());
	pthread_mutex_unlock(&lock);
}

void rt_connection_call(int fd, bool begins)
{
	struct connection *connection;

	pthread_mutex_lock(&lock);
	connection = fd >= 0 && (size_t)fd < table_size ? table[fd] : NULL;
	if (connection != NULL) {
		if (begins)
			connection->calls++;
		else if (connection->calls > 0)
			connection->calls--;
		connection->called_ms = now_ms();
	}
	pthread_mutex_unlock(&lock);
}

/* ---- what TLS decrypts and encrypts ---- */

struct connections_tls {
	struct rt_connection_id id;
	struct http2_guard guard;
};

bool connections_tls_resets(struct connections_tls *tls, void *buffer, size_t size,
			    size_t *ret_length)
{
	struct connection *connection;
	bool is;

	if (atomic_load_explicit(&resetting_count, memory_order_relaxed) == 0)
		return false;
	pthread_mutex_lock(&lock);
	connection = find_id(tls->id);
	is = connection != NULL && connection->resetting;
	if (is)
		*ret_length = write_resets(connection, buffer, size);
	pthread_mutex_unlock(&lock);
	return is;
}

struct connections_tls *connections_tls_new(void)
{
	struct connections_tls *tls = rt_alloc(sizeof(*tls));
	struct connection *connection;

	http2_guard_init(&tls->guard, &http2);
	pthread_mutex_lock(&lock);
	connection = find_id(last_read);
	if (connection != NULL && connection->http2.foreign && connection->tls == NULL) {
		tls->id = last_read;
		connection->tls = &tls->guard;
	}
	pthread_mutex_unlock(&lock);
	return tls;
}

void connections_tls_free(struct connections_tls *tls)
{
	struct connection *connection;

	pthread_mutex_lock(&lock);
	connection = find_id(tls->id);
	if (connection != NULL) {
		connection->tls = NULL;
		connection->held = 0;
	}
	http2_guard_done(&tls->guard);
	pthread_mutex_unlock(&lock);
	free(tls);
}

size_t connections_tls_share(struct connections_tls *tls, bool come, bool *ret_asked)
{
	struct connection *connection;
	size_t share = SIZE_MAX;

	*ret_asked = false;
	pthread_mutex_lock(&lock);
	connection = find_id(tls->id);
	if (connection != NULL) {
		share = connection->turn_max_bytes -
			RT_MIN(connection->turn_bytes, connection->turn_max_bytes);
		*ret_asked = come && connection->held_asked;
		if (come)
			connection->held_asked = false;
	}
	pthread_mutex_unlock(&lock);
	return share;
}

int connections_tls_hold(struct connections_tls *tls, size_t length)
{
	struct connection *connection;

	pthread_mutex_lock(&lock);
	connection = find_id(tls->id);
	if (connection != NULL)
		connection->held = length;
	pthread_mutex_unlock(&lock);
	return connection != NULL ? tls->id.fd : -1;
}

bool connections_holds(int fd)
{
	struct connection *connection;
	bool holds;

	if (!is_known(fd))
		return false;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	holds = connection != NULL && connection->held > 0;
	pthread_mutex_unlock(&lock);
	return holds;
}

static bool put_byte(const struct msghdr *message)
{
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		if (message->msg_iov[i].iov_len == 0)
			continue;
		*(unsigned char *)message->msg_iov[i].iov_base = 0;
		return true;
	}
	return false;
}

int connections_ask(int fd, const struct msghdr *message)
{
	struct connection *connection;
	int asked = -1;

	if (!is_known(fd))
		return -1;
	pthread_mutex_lock(&lock);
	connection = find(fd);
	if (connection != NULL && connection->held > 0) {
		asked = !connection->held_asked && put_byte(message);
		connection->held_asked |= asked;
	}
	pthread_mutex_unlock(&lock);
	return asked;
}

const char *connections_tls_received(struct connections_tls *tls, const void *bytes, size_t length,
				     size_t *ret_whole)
{
	struct connection *connection;
	struct closing closing = { 0 };
	enum http2_offence offence;
	const char *reason = NULL;
	size_t unknown = 0;

	pthread_mutex_lock(&lock);
	connection = find_id(tls->id);
	if (connection != NULL)
		connection->turn_bytes += length;
	offence = http2_guard_received(&tls->guard, bytes, length, now_ms(),
				       connection != NULL ? &connection->turn_streams : &unknown);
	if (offence != HTTP2_FINE) {
		reason = http2_offence_reason(offence);
		*ret_whole = HTTP2_NO_WHOLE;
		if (connection != NULL) {
			shut(connection, reason, &closing);
			if (tls->guard.whole != HTTP2_NO_WHOLE && begin_resets(connection))
				*ret_whole = tls->guard.whole;
		} else {
			count_closed(reason);
			closing.reason = reason;
		}
	}
	pthread_mutex_unlock(&lock);
	say(&closing);
	return reason;
}

void connections_tls_sent(struct connections_tls *tls, const void *bytes, size_t length)
{
	pthread_mutex_lock(&lock);
	http2_guard_sent(&tls->guard, bytes, length, now_ms());
	pthread_mutex_unlock(&lock);
}
