/* The connections of a process (runtime/interpose/connections.c): how many there may be, whose idle ones make room
 * for others, and what happens to those that bring too much, plain and through TLS. The clock is ours. */
#include <errno.h>
#include <math.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "interpose/interpose.h"
#include "loopback.h"
#include "run.h"

static int64_t now_ms;
int64_t __wrap_rt_monotonic_ns(void);
int64_t __wrap_rt_monotonic_ns(void)
{
	return now_ms * 1000000;
}

static int64_t clock_ahead_us; /* of the kernel's */
int64_t __real_rt_wall_us(void);
int64_t __wrap_rt_wall_us(void);
int64_t __wrap_rt_wall_us(void)
{
	return __real_rt_wall_us() + clock_ahead_us;
}

#define PAIRS_MAX 80
static struct pair {
	int client, fd; /* fd: what accept4 returned; -1: the connection was closed at once */
} pairs[PAIRS_MAX];
static size_t pair_count;
static int listening, port;
static struct rt_metrics *metrics;
static char last_line[512];

static void keep_line(const char *line, void *user)
{
	(void)user;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static void setup(void)
{
	now_ms += 1000000;
	pair_count = 0;
	last_line[0] = '\0';
	rt_log_sink(keep_line, NULL);
	metrics = rt_metrics_new();
	rt_connections_metrics(metrics);
	rt_uncork(); /* so that our sendmsg is linked: AddressSanitizer's library has one, too */
	listening = loopback_listen(SOCK_NONBLOCK, &port);
}

static void teardown(void)
{
	for (size_t i = 0; i < pair_count; i++) {
		close(pairs[i].client);
		if (pairs[i].fd >= 0)
			close(pairs[i].fd);
	}
	close(listening);
	rt_connections_metrics(NULL);
	rt_metrics_free(metrics);
	rt_log_sink(NULL, NULL);
}

static void limit(int64_t most, int64_t per_address)
{
	rt_connections_limit(&(struct rt_connection_limits){
		.connections_max = most, .connections_per_address = per_address });
}

static struct pair *connect_pair(void)
{
	struct pair *pair = &pairs[pair_count++];

	CU_ASSERT_FATAL(pair_count <= PAIRS_MAX);
	pair->client = loopback_connect(port);
	loopback_wait(listening);
	pair->fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return pair;
}

static bool is_open(const struct pair *pair)
{
	char byte;

	return recv(pair->client, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static double closed(const char *reason)
{
	static const char *const labels[] = { "reason", NULL };

	return rt_series_value(rt_metric_series(
		rt_metric(metrics, RT_COUNTER, "tandem_connections_closed_total", "", labels),
		&reason));
}

/* As gRPC reads. */
static ssize_t read_from(int fd)
{
	char bytes[4096];
	struct iovec parts[2] = { { bytes, 7 }, { bytes + 7, sizeof(bytes) - 7 } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

	return recvmsg(fd, &message, 0);
}

static void write_to(int fd, const void *bytes, size_t length)
{
	struct iovec part = { (void *)(uintptr_t)bytes, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	CU_ASSERT_EQUAL(sendmsg(fd, &message, MSG_NOSIGNAL), (ssize_t)length);
}

#define PREFACE      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define HELLO        PREFACE "\0\0\0\4\0\0\0\0\0"
#define CALL         "\0\0\1\1\5\0\0\0\1x" /* HEADERS, END_STREAM */
#define ANSWER       "\0\0\1\1\5\0\0\0\1x" /* the same back */
#define LARGE_BLOCK  "\1\0\1\1\4\0\0\0\3"  /* HEADERS of 65537 bytes */
#define STRING(text) (text), sizeof(text) - 1

static void bring(const struct pair *pair, const char *bytes, size_t length)
{
	CU_ASSERT_EQUAL(send(pair->client, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
	loopback_wait(pair->fd);
	CU_ASSERT_EQUAL(read_from(pair->fd), (ssize_t)length);
}

/* ---- how many ---- */

static void per_address(void)
{
	limit(100, 2);
	for (int i = 0; i < 2; i++)
		bring(connect_pair(), STRING(HELLO CALL));
	CU_ASSERT(connect_pair()->fd < 0 && errno == EAGAIN);
	CU_ASSERT_FALSE(is_open(&pairs[2]));
	CU_ASSERT_EQUAL(closed("connections_per_address"), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(last_line, "reason=connections_per_address"));
	CU_ASSERT_PTR_NOT_NULL(strstr(last_line, "peer=127.0.0.1:"));
	close(pairs[0].fd);
	pairs[0].fd = -1;
	CU_ASSERT(connect_pair()->fd >= 0); /* there is room again */
}

/* Unless it is set, this machine's own addresses have no limit but that of all. */
static void a_proxy_on_this_machine(void)
{
	limit(4, 0);
	for (int i = 0; i < 4; i++)
		bring(connect_pair(), STRING(HELLO CALL));
	CU_ASSERT(connect_pair()->fd < 0);
	CU_ASSERT_EQUAL(closed("connections_max"), 1);
}

static void unix_sockets_have_no_address(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t length;

	close(listening);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "connections-%d",
		 (int)getpid());
	length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			     strlen(address.sun_path + 1));
	CU_ASSERT_FATAL(bind(listening, (struct sockaddr *)&address, length) == 0);
	CU_ASSERT_FATAL(listen(listening, 4) == 0);
	limit(100, 1);
	for (int i = 0; i < 3; i++) {
		struct pair *pair = &pairs[pair_count++];

		pair->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CU_ASSERT_FATAL(connect(pair->client, (struct sockaddr *)&address, length) == 0);
		pair->fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
		CU_ASSERT(pair->fd >= 0);
	}
}

/* It does not speak HTTP/2: whatever an old connection brought, and was answered, a new one takes its place at once. */
static void a_listener_of_its_own(void)
{
	static const char *const answers[] = { "HTTP/1.1 200 OK\r\n\r\n", HELLO ANSWER };
	char bytes[100];

	limit(100, 0);
	rt_connections_limit_listener(listening, 1);
	connect_pair();
	for (size_t i = 0; i < RT_LENGTH(answers); i++) {
		const struct pair *old = &pairs[i];

		bring(old, STRING(HELLO CALL));
		write_to(old->fd, answers[i], strlen(answers[i]));
		CU_ASSERT(recv(old->client, bytes, sizeof(bytes), 0) > 0);
		CU_ASSERT(connect_pair()->fd >= 0);
		CU_ASSERT_FALSE(is_open(old));
	}
	CU_ASSERT_EQUAL(closed("idle"), 2);
}

/* ---- idle ones ---- */

/* Those that never made a call go first, the oldest; then those whose last call is longest ago. */
static void idle_ones_make_room(void)
{
	limit(4, 0);
	for (int i = 0; i < 4; i++) {
		connect_pair();
		now_ms += 10;
	}
	bring(&pairs[0], STRING(HELLO CALL));
	bring(&pairs[1], STRING(HELLO CALL));
	bring(&pairs[2], STRING(HELLO)); /* no call */
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_FALSE(is_open(&pairs[2]));
	CU_ASSERT_EQUAL(read_from(pairs[2].fd), 0); /* what gRPC closes it for */
	CU_ASSERT_EQUAL(closed("idle"), 1);
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_FALSE(is_open(&pairs[3]));
	/* 0 and 1 have calls under way, and now the new ones, too. */
	bring(&pairs[4], STRING(HELLO CALL));
	bring(&pairs[5], STRING(HELLO CALL));
	write_to(pairs[1].fd, STRING(ANSWER));
	now_ms += 4999;
	CU_ASSERT(connect_pair()->fd < 0);
	now_ms += 1; /* five seconds after the answer */
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT(is_open(&pairs[0]));
	CU_ASSERT_EQUAL(closed("idle"), 3);
	CU_ASSERT_EQUAL(closed("connections_max"), 1);
}

/* However long the others have made no call. */
static void those_that_never_called_go_first(void)
{
	limit(2, 0);
	bring(connect_pair(), STRING(HELLO CALL));
	write_to(pairs[0].fd, STRING(ANSWER));
	now_ms += 3600000;
	connect_pair();
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_EQUAL(closed("idle"), 1);
	CU_ASSERT_FALSE(is_open(&pairs[1]));
}

/* Those without a call have an eighth of the places, or 64. */
static void a_share_for_those_without_a_call(void)
{
	limit(100, 0);
	bring(connect_pair(), STRING(HELLO CALL));
	for (int i = 0; i < 64; i++)
		CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_EQUAL(closed("idle"), 0);
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_EQUAL(closed("idle"), 1);
	CU_ASSERT(is_open(&pairs[0]));
	CU_ASSERT_FALSE(is_open(&pairs[1]));
	bring(&pairs[2], STRING(HELLO CALL)); /* one less */
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_EQUAL(closed("idle"), 1);
}

/* A listener makes room among its own. */
static void idle_ones_of_another_listener(void)
{
	int others, first = listening;

	limit(1, 0);
	connect_pair();
	listening = others = loopback_listen(SOCK_NONBLOCK, &port);
	bring(connect_pair(), STRING(HELLO CALL));
	CU_ASSERT(connect_pair()->fd < 0);
	CU_ASSERT(is_open(&pairs[0]));
	close(others);
	listening = first;
}

/* With a limit for each address, an address makes room among its own. */
static void idle_ones_of_the_address(void)
{
	limit(100, 1);
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_FALSE(is_open(&pairs[0]));
	bring(&pairs[1], STRING(HELLO CALL));
	CU_ASSERT(connect_pair()->fd < 0);
}

/* ---- what they bring ---- */

static void an_offender_is_closed(void)
{
	static const char piece[] = LARGE_BLOCK "never seen";
	struct pair *pair, *other;

	limit(100, 0);
	pair = connect_pair();
	other = connect_pair();
	bring(pair, STRING(HELLO CALL));
	CU_ASSERT_EQUAL(send(pair->client, STRING(piece), MSG_NOSIGNAL), sizeof(piece) - 1);
	CU_ASSERT_EQUAL(read_from(pair->fd), -1);
	CU_ASSERT_EQUAL(errno, ECONNRESET);
	CU_ASSERT_FALSE(is_open(pair));
	CU_ASSERT(is_open(other));
	CU_ASSERT_EQUAL(closed("header_block"), 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(last_line, "reason=header_block"));
}

/* Its number is soon another's: a file, or a connection that we made. */
static void numbers_are_used_again(void)
{
	struct pair *pair;
	int ends[2];

	limit(100, 0);
	pair = connect_pair();
	bring(pair, STRING(HELLO));
	close(pair->fd);
	CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	CU_ASSERT_EQUAL(ends[0], pair->fd);
	pair->fd = -1;
	for (int i = 0; i < 200; i++) { /* SETTINGS: more than a client may send */
		write_to(ends[1], STRING("\0\0\0\4\0\0\0\0\0"));
		CU_ASSERT_EQUAL(read_from(ends[0]), 9);
	}
	close(ends[0]);
	close(ends[1]);
}

/* Requests that do not come to an end are noticed when anybody sends something. */
static void silent_offenders(void)
{
	struct pair *silent, *other;

	limit(100, 0);
	silent = connect_pair();
	other = connect_pair();
	bring(silent, STRING(HELLO));
	for (int i = 0; i < 33; i++) {
		char call[] = "\0\0\1\1\4\0\0\0\0x";

		call[8] = (char)(2 * i + 1);
		bring(silent, call, 10);
	}
	now_ms += 10001;
	bring(other, STRING(HELLO));
	CU_ASSERT_FALSE(is_open(silent));
	CU_ASSERT(is_open(other));
	CU_ASSERT_EQUAL(closed("unfinished_requests"), 1);
}

/* ---- those that end with many streams open ---- */

#define STREAMS 100

static void bring_calls(const struct pair *pair)
{
	for (int i = 0; i < STREAMS; i++) {
		char call[] = "\0\0\1\1\5\0\0\0\0x";

		call[8] = (char)(2 * i + 1);
		bring(pair, call, 10);
	}
}

/* Reads all that comes, `size` bytes at a time, and counts the streams that it resets. It must be nothing else. The
 * last result of reading is kept. */
static ssize_t last_read;
static size_t read_resets(int fd, size_t size)
{
	unsigned char bytes[13 * (STREAMS + 10) + 1024];
	size_t length = 0, count = 0;
	bool reset[128] = { false };

	do {
		struct iovec part = { bytes + length, size };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

		last_read = recvmsg(fd, &message, 0);
		length += last_read > 0 ? (size_t)last_read : 0;
	} while (last_read > 0 && length <= sizeof(bytes) - 1024);
	for (size_t at = 0; at + 13 <= length; at += 13) {
		CU_ASSERT_EQUAL(memcmp(bytes + at, "\0\0\4\3\0\0\0\0", 8), 0);
		CU_ASSERT_EQUAL(memcmp(bytes + at + 9, "\0\0\0\x8", 4), 0);
		count += !reset[bytes[at + 8] / 2];
		reset[bytes[at + 8] / 2] = true;
	}
	CU_ASSERT_EQUAL(length, count * 13);
	return count;
}

/* gRPC reads that its client has reset them, and then the end. */
static void streams_of_one_that_went(void)
{
	static const size_t sizes[] = { 1024, 13, 5 };

	limit(100, 0);
	for (size_t i = 0; i < RT_LENGTH(sizes); i++) {
		struct pair *pair = connect_pair();

		bring(pair, STRING(HELLO));
		bring_calls(pair);
		shutdown(pair->client, SHUT_WR);
		CU_ASSERT_EQUAL(read_resets(pair->fd, sizes[i]), STREAMS);
		CU_ASSERT_EQUAL(last_read, 0);
	}
}

/* What gRPC writes meanwhile is no error, or it would end all streams at once. */
static void writes_to_one_that_went(void)
{
	struct iovec part = { (void *)(uintptr_t)ANSWER, 10 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	const struct linger at_once = { .l_onoff = 1 };
	struct pair *pair;
	char bytes[13];

	limit(100, 0);
	pair = connect_pair();
	bring(pair, STRING(HELLO));
	bring_calls(pair);
	setsockopt(pair->client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close(pair->client);
	pair->client = -1;
	part = (struct iovec){ bytes, sizeof(bytes) };
	CU_ASSERT_EQUAL(recvmsg(pair->fd, &message, 0), 13);
	part = (struct iovec){ (void *)(uintptr_t)ANSWER, 10 };
	CU_ASSERT_EQUAL(sendmsg(pair->fd, &message, MSG_NOSIGNAL), 10);
	CU_ASSERT_EQUAL(read_resets(pair->fd, 1024), STREAMS - 1);
}

static void streams_of_an_offender(void)
{
	static const char piece[] = "\0\0\1\1\5\0\0\0\xc9x" LARGE_BLOCK;
	struct pair *pair;

	limit(100, 0);
	pair = connect_pair();
	bring(pair, STRING(HELLO));
	bring_calls(pair);
	CU_ASSERT_EQUAL(send(pair->client, STRING(piece), MSG_NOSIGNAL), sizeof(piece) - 1);
	CU_ASSERT_EQUAL(read_from(pair->fd), 10); /* one more call, and nothing of the offence */
	CU_ASSERT_EQUAL(closed("header_block"), 1);
	CU_ASSERT_FALSE(is_open(pair));
	CU_ASSERT_EQUAL(read_resets(pair->fd, 1024), STREAMS + 1);
	CU_ASSERT_EQUAL(last_read, 0);
}

/* In the middle of a frame nothing may be put in. */
static void half_a_frame(void)
{
	struct pair *pair;

	limit(100, 0);
	pair = connect_pair();
	bring(pair, STRING(HELLO));
	bring_calls(pair);
	bring(pair, STRING("\0\0\4\0"));
	shutdown(pair->client, SHUT_WR);
	CU_ASSERT_EQUAL(read_from(pair->fd), 0);
}

static void a_few_streams(void)
{
	struct pair *pair;

	limit(100, 0);
	pair = connect_pair();
	bring(pair, STRING(HELLO CALL));
	shutdown(pair->client, SHUT_WR);
	CU_ASSERT_EQUAL(read_from(pair->fd), 0);
}

/* ---- how long what comes waits ---- */

/* Linux begins to note times in the background, once a socket asks for them: until then packets have none. */
static void wait_for_times(const struct pair *pair)
{
	const time_t end = time(NULL) + 10;
	struct msghdr message;

	do {
		char byte, control[64];

		message = (struct msghdr){ .msg_iov = &(struct iovec){ &byte, 1 },
					   .msg_iovlen = 1,
					   .msg_control = control,
					   .msg_controllen = sizeof(control) };
		CU_ASSERT_EQUAL_FATAL(send(pair->client, "x", 1, MSG_NOSIGNAL), 1);
		loopback_wait(pair->fd);
		CU_ASSERT_EQUAL_FATAL(syscall(SYS_recvmsg, pair->fd, &message, 0), 1);
	} while (message.msg_controllen == 0 && time(NULL) < end);
	CU_ASSERT(message.msg_controllen > 0);
}

static void waits_are_known(void)
{
	struct pair *early, *pair;

	limit(100, 0);
	early = connect_pair();
	rt_arrivals_watch();
	wait_for_times(connect_pair());
	(void)rt_arrivals_wait_ms();
	pair = connect_pair();
	clock_ahead_us = 5000000;
	bring(pair, STRING(HELLO CALL));
	CU_ASSERT(rt_arrivals_wait_ms() >= 5000);
	CU_ASSERT_EQUAL(rt_arrivals_wait_ms(), 0); /* nothing was read since then */
	/* On average. */
	bring(pair, STRING(CALL));
	clock_ahead_us = 1000000;
	bring(pair, STRING(CALL));
	CU_ASSERT(fabs(rt_arrivals_wait_ms() - 3000) < 900);
	/* Where the clock was set it is not known, nor of a connection of before. */
	clock_ahead_us = -5000000;
	bring(pair, STRING(CALL));
	clock_ahead_us = 5000000;
	bring(early, STRING(HELLO CALL));
	CU_ASSERT_EQUAL(rt_arrivals_wait_ms(), 0);
	clock_ahead_us = 0;
}

/* ---- TLS ---- */

struct tls {
	SSL_CTX *contexts[2];
	SSL *server, *client;
};

static void give_certificate(SSL_CTX *context)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	CU_ASSERT_FATAL(X509_sign(certificate, key, EVP_sha256()) > 0);
	CU_ASSERT_FATAL(SSL_CTX_use_certificate(context, certificate) == 1);
	CU_ASSERT_FATAL(SSL_CTX_use_PrivateKey(context, key) == 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

/* As gRPC does: what recvmsg brought goes into the SSL object by a BIO. */
static struct tls tls_new(void)
{
	struct tls tls = { .contexts = { SSL_CTX_new(TLS_server_method()),
					 SSL_CTX_new(TLS_client_method()) } };
	BIO *near, *far;

	give_certificate(tls.contexts[0]);
	tls.server = SSL_new(tls.contexts[0]);
	tls.client = SSL_new(tls.contexts[1]);
	CU_ASSERT_FATAL(BIO_new_bio_pair(&near, 1 << 18, &far, 1 << 18) == 1);
	SSL_set_bio(tls.server, near, near);
	SSL_set_bio(tls.client, far, far);
	SSL_set_accept_state(tls.server);
	SSL_set_connect_state(tls.client);
	for (int i = 0; i < 4; i++) {
		(void)SSL_do_handshake(tls.client);
		(void)SSL_do_handshake(tls.server);
	}
	CU_ASSERT_FATAL(SSL_is_init_finished(tls.server) && SSL_is_init_finished(tls.client));
	return tls;
}

static void tls_free(struct tls *tls)
{
	SSL_free(tls->server);
	SSL_free(tls->client);
	SSL_CTX_free(tls->contexts[0]);
	SSL_CTX_free(tls->contexts[1]);
}

static void tls_bring(struct tls *tls, const char *bytes, size_t length)
{
	char got[4096];

	CU_ASSERT_EQUAL(SSL_write(tls->client, bytes, (int)length), (int)length);
	CU_ASSERT_EQUAL(SSL_read(tls->server, got, sizeof(got)), (int)length);
	CU_ASSERT(memcmp(got, bytes, length) == 0);
}

static void an_offender_through_tls(void)
{
	struct tls tls = tls_new();
	struct pair *pair;
	char got[4096];

	limit(1, 0);
	pair = connect_pair();
	bring(pair, STRING("\x16\3\1\2\0")); /* what came last is this connection's */
	tls_bring(&tls, STRING(HELLO CALL));
	now_ms += 3600000;
	CU_ASSERT(connect_pair()->fd < 0); /* a call is under way */
	CU_ASSERT_EQUAL(SSL_write(tls.server, STRING(ANSWER)), 10);
	CU_ASSERT_EQUAL(SSL_read(tls.client, got, sizeof(got)), 10);
	CU_ASSERT_EQUAL(SSL_write(tls.client, STRING(LARGE_BLOCK)), 9);
	CU_ASSERT_EQUAL(SSL_read(tls.server, got, sizeof(got)), -1);
	CU_ASSERT_EQUAL(SSL_get_error(tls.server, -1), SSL_ERROR_SSL);
	ERR_clear_error();
	CU_ASSERT_EQUAL(closed("header_block"), 1);
	CU_ASSERT_FALSE(is_open(pair));
	CU_ASSERT_PTR_NOT_NULL(strstr(last_line, "peer=127.0.0.1:"));
	tls_free(&tls);
	CU_ASSERT(connect_pair()->fd >= 0);
}

/* Counts the resets that SSL_read gives, of `size` bytes at a time, until it waits for more from the socket. */
static size_t read_tls_resets(SSL *ssl, int size)
{
	unsigned char bytes[13 * STREAMS + 16];
	int length = 0, got;

	while ((got = SSL_read(ssl, bytes + length, RT_MIN(size, (int)sizeof(bytes) - length))) > 0)
		length += got;
	CU_ASSERT_EQUAL(SSL_get_error(ssl, got), SSL_ERROR_WANT_READ);
	for (int at = 0; at < length; at += 13)
		CU_ASSERT_EQUAL(memcmp(bytes + at, "\0\0\4\3\0", 5), 0);
	CU_ASSERT_EQUAL(length % 13, 0);
	return (size_t)length / 13;
}

/* recvmsg gives gRPC a byte, for which it asks SSL_read, which has the resets. */
static void tls_resets(struct pair *pair, struct tls *tls, int size)
{
	size_t count = 0;
	char byte;
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	for (int i = 0; i < STREAMS && count < STREAMS; i++) {
		CU_ASSERT_EQUAL(recvmsg(pair->fd, &message, 0), 1);
		CU_ASSERT_EQUAL(BIO_write(SSL_get_wbio(tls->client), &byte, 1), 1);
		count += read_tls_resets(tls->server, size);
	}
	CU_ASSERT_EQUAL(count, STREAMS);
	CU_ASSERT_EQUAL(recvmsg(pair->fd, &message, 0), 0);
}

static struct pair *tls_with_calls(struct tls *tls)
{
	struct pair *pair = connect_pair();
	char calls[STREAMS * 10];

	for (int i = 0; i < STREAMS; i++) {
		memcpy(calls + (ptrdiff_t)i * 10, CALL, 10);
		calls[i * 10 + 8] = (char)(2 * i + 1);
	}
	bring(pair, STRING("\x16\3\1\2\0"));
	tls_bring(tls, STRING(HELLO));
	tls_bring(tls, calls, sizeof(calls));
	return pair;
}

static void streams_through_tls(void)
{
	static const int sizes[] = { 1024, 7 };

	limit(100, 0);
	for (size_t i = 0; i < RT_LENGTH(sizes); i++) {
		struct tls tls = tls_new();
		struct pair *pair = tls_with_calls(&tls);

		shutdown(pair->client, SHUT_WR);
		tls_resets(pair, &tls, sizes[i]);
		tls_free(&tls);
	}
}

/* What it sent behind the offence, and what recvmsg makes of its socket, gRPC does not see. */
static void streams_of_an_offender_through_tls(void)
{
	static const char piece[] = "\0\0\4\x8\0\0\0\0\0\0\0\0\1" LARGE_BLOCK "never seen";
	struct tls tls = tls_new();
	struct pair *pair;
	char got[4096];
	size_t count;

	limit(100, 0);
	pair = tls_with_calls(&tls);
	CU_ASSERT_EQUAL(SSL_write(tls.client, STRING(piece)), sizeof(piece) - 1);
	CU_ASSERT_EQUAL(SSL_write(tls.client, STRING("nor this")), 8);
	CU_ASSERT_EQUAL(SSL_read(tls.server, got, 13 + 9), 13); /* the rest stays in it */
	CU_ASSERT_EQUAL(memcmp(got, piece, 13), 0);
	CU_ASSERT_EQUAL(closed("header_block"), 1);
	CU_ASSERT_FALSE(is_open(pair));
	count = read_tls_resets(tls.server, 1024);
	CU_ASSERT(count < STREAMS);
	while (count < STREAMS) {
		CU_ASSERT_EQUAL_FATAL(read_from(pair->fd), 1);
		count += read_tls_resets(tls.server, 1024);
	}
	CU_ASSERT_EQUAL(count, STREAMS);
	CU_ASSERT_EQUAL(read_from(pair->fd), 0);
	tls_free(&tls);
}

/* What SSL_read gives until it wants more. */
static size_t read_tls(SSL *ssl, unsigned char *bytes)
{
	size_t length = 0;
	int got;

	while ((got = SSL_read(ssl, bytes + length, 4096)) > 0)
		length += (size_t)got;
	CU_ASSERT_EQUAL(SSL_get_error(ssl, got), SSL_ERROR_WANT_READ);
	return length;
}

/* A record of TLS has more than a turn takes of a connection: the next turns get the rest, before anything new. */
static void a_record_in_turns(void)
{
	struct tls tls = tls_new();
	struct pair *pair = connect_pair();
	unsigned char sent[9000], got[sizeof(sent) + 4096], byte = 0;
	size_t length, turns;

	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (unsigned char)"\0\0\4\x8\0\0\0\0\0\0\0\0\1"[i % 13];
	bring(pair, STRING("\x16\3\1\2\0"));
	tls_bring(&tls, STRING(HELLO));
	CU_ASSERT_EQUAL(SSL_write(tls.client, sent, sizeof(sent)), sizeof(sent));
	write_to(pair->client, STRING("later"));
	loopback_wait(pair->fd);
	rt_polling_turn_begin(INT64_MAX);
	CU_ASSERT_EQUAL(read_from(pair->fd), 5); /* begins the connection's turn */
	length = read_tls(tls.server, got);
	CU_ASSERT(length > 0 && length <= 4096);
	write_to(pair->client, STRING("last"));
	for (turns = 1; length < sizeof(sent) && turns < 100; turns++) {
		CU_ASSERT_EQUAL(read_tls(tls.server, got + length), 0);
		(void)rt_polling_turn_end();
		rt_polling_turn_begin(INT64_MAX);
		CU_ASSERT_EQUAL(read_from(pair->fd), 1);
		CU_ASSERT_EQUAL(read_from(pair->fd), -1); /* gRPC tries to fill its buffer */
		CU_ASSERT_EQUAL(BIO_write(SSL_get_wbio(tls.client), &byte, 1), 1);
		length += read_tls(tls.server, got + length);
	}
	CU_ASSERT(turns >= 2);
	CU_ASSERT_EQUAL(length, sizeof(sent));
	CU_ASSERT(memcmp(got, sent, sizeof(sent)) == 0);
	CU_ASSERT_EQUAL(read_from(pair->fd), 4);
	(void)rt_polling_turn_end();
	/* Outside of turns there are no shares. */
	CU_ASSERT_EQUAL(SSL_write(tls.client, sent, sizeof(sent)), sizeof(sent));
	CU_ASSERT_EQUAL(read_tls(tls.server, got), sizeof(sent));
	tls_free(&tls);
}

/* A connection through TLS whose calls have ended is idle, whatever else it sends. */
static void idle_through_tls(void)
{
	struct tls tls = tls_new();
	struct pair *pair;

	limit(1, 0);
	pair = connect_pair();
	bring(pair, STRING("\x16\3\1\2\0"));
	tls_bring(&tls, STRING(HELLO CALL));
	CU_ASSERT_EQUAL(SSL_write(tls.server, STRING(ANSWER)), 10);
	now_ms += 10001;
	tls_bring(&tls, STRING("\0\0\x8\6\0\0\0\0\0"
			       "12345678"));
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_FALSE(is_open(pair));
	close(pair->fd); /* before its SSL object goes */
	pair->fd = -1;
	tls_free(&tls);
}

/* gRPC may free the SSL object first: the connection is one without TLS again. */
static void an_ssl_object_that_goes_first(void)
{
	struct tls tls = tls_new();

	limit(1, 0);
	bring(connect_pair(), STRING("\x16\3\1\2\0"));
	tls_bring(&tls, STRING(HELLO CALL));
	tls_free(&tls);
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_FALSE(is_open(&pairs[0]));
}

/* Who is in the middle of a handshake, however long, has made no call. */
static void handshakes_make_room(void)
{
	limit(1, 0);
	bring(connect_pair(), STRING("\x16\3\1\2\0"));
	CU_ASSERT(connect_pair()->fd >= 0);
	CU_ASSERT_FALSE(is_open(&pairs[0]));
}

/* What a server sends us is not looked at: we have chosen it. */
static void clients_have_no_guard(void)
{
	struct tls tls = tls_new();
	char got[4096];

	for (int i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(SSL_write(tls.server, STRING(HELLO LARGE_BLOCK)), 42);
		CU_ASSERT_EQUAL(SSL_read(tls.client, got, sizeof(got)), 42);
	}
	CU_ASSERT_EQUAL(closed("header_block"), 0);
	tls_free(&tls);
}

static const struct test tests[] = {
	{ "a limit for each address", per_address },
	{ "a proxy on this machine", a_proxy_on_this_machine },
	{ "unix sockets have no address", unix_sockets_have_no_address },
	{ "a listener may have fewer", a_listener_of_its_own },
	{ "idle ones make room", idle_ones_make_room },
	{ "those that never called go first", those_that_never_called_go_first },
	{ "a share for those without a call", a_share_for_those_without_a_call },
	{ "idle ones of another listener stay", idle_ones_of_another_listener },
	{ "idle ones of the address make room", idle_ones_of_the_address },
	{ "how long what comes has waited is known", waits_are_known },
	{ "an offender is closed", an_offender_is_closed },
	{ "numbers are used again", numbers_are_used_again },
	{ "silent offenders", silent_offenders },
	{ "streams of one that went", streams_of_one_that_went },
	{ "writes to one that went", writes_to_one_that_went },
	{ "streams of an offender", streams_of_an_offender },
	{ "half a frame", half_a_frame },
	{ "a few streams", a_few_streams },
	{ "an offender through TLS", an_offender_through_tls },
	{ "a record in turns", a_record_in_turns },
	{ "streams through TLS", streams_through_tls },
	{ "streams of an offender through TLS", streams_of_an_offender_through_tls },
	{ "idle through TLS", idle_through_tls },
	{ "an SSL object that goes first", an_ssl_object_that_goes_first },
	{ "handshakes make room", handshakes_make_room },
	{ "clients have no guard", clients_have_no_guard },
};

TESTS_MAIN_EACH("connections", setup, teardown, tests)
