/* tls.c - an SSL_read and an SSL_write that show the HTTP/2 guard what goes through TLS; see interpose.h.
 *
 * gRPC works off all that SSL_read gives it before anybody else is served, and a record of TLS may hold hundreds of calls.
 * So SSL_read gives a turn of the loop the connection's share (connections.c), and holds the rest of what was decrypted
 * for the next ones. Meanwhile recvmsg reads nothing of the connection: it gives gRPC a byte, for which gRPC asks again.
 *
 * Of a connection that ends, SSL_read gives gRPC resets of its streams (connections.c) and nothing else any more.
 *
 * Only the server's side of a connection has a guard: it is made by the first SSL_read or SSL_write, and goes with
 * the SSL object, which carries it as its ex_data. */
#include "interpose_internal.h"

#include <dlfcn.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RECORD_BYTES 16384

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int ex_index = -1;
static int (*real_read)(SSL *ssl, void *buffer, int size);
static int (*real_write)(SSL *ssl, const void *buffer, int size);

struct session {
	struct connections_tls *guard;
	unsigned char *held; /* what was decrypted and waits */
	size_t held_length;
};

static void free_session(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number,
			 void *pointer)
{
	struct session *session = data;

	(void)parent, (void)all, (void)index, (void)number, (void)pointer;
	if (session == NULL)
		return;
	connections_tls_free(session->guard);
	free(session->held);
	free(session);
}

static void find_real(void)
{
	*(void **)&real_read = dlsym(RTLD_NEXT, "SSL_read");
	*(void **)&real_write = dlsym(RTLD_NEXT, "SSL_write");
	if (real_read == NULL || real_write == NULL)
		abort(); /* libssl is linked */
	ex_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_session);
}

/* NULL: a client's side. */
static struct session *session_of(SSL *ssl)
{
	struct session *session;

	if (!SSL_is_server(ssl))
		return NULL;
	session = SSL_get_ex_data(ssl, ex_index);
	if (session == NULL) {
		session = rt_alloc(sizeof(*session));
		session->guard = connections_tls_new();
		if (SSL_set_ex_data(ssl, ex_index, session) != 1) {
			connections_tls_free(session->guard);
			free(session);
			return NULL;
		}
	}
	return session;
}

/* ---- what waits for the next turn ---- */

static void set_held(struct session *session, size_t length)
{
	int fd;

	if (length == session->held_length)
		return;
	session->held_length = length;
	fd = connections_tls_hold(session->guard, length);
	if (length == 0)
		free(RT_TAKE(session->held));
	else if (fd >= 0)
		polling_read_later(fd);
}

/* Decrypts all that has come. It is as much as recvmsg reads in a turn, and what was there of a record. Returns what
 * SSL_read said when there was no more. */
static int hold_all(SSL *ssl, struct session *session)
{
	unsigned char bytes[RECORD_BYTES];
	size_t length = session->held_length;
	int got;

	while ((got = real_read(ssl, bytes, sizeof(bytes))) > 0) {
		session->held = rt_realloc(session->held, length + (size_t)got);
		memcpy(session->held + length, bytes, (size_t)got);
		length += (size_t)got;
	}
	set_held(session, length);
	return got;
}

static int take_held(struct session *session, void *buffer, size_t size)
{
	size_t length = RT_MIN(session->held_length, size);

	memcpy(buffer, session->held, length);
	memmove(session->held, session->held + length, session->held_length - length);
	set_held(session, session->held_length - length);
	return (int)length;
}

/* As SSL_read, what this turn still takes of it. */
static int read_share(SSL *ssl, struct session *session, void *buffer, int size)
{
	bool asked;
	BIO *come = SSL_get_rbio(ssl);
	size_t share = connections_tls_share(session->guard, BIO_pending(come) > 0, &asked);
	unsigned char byte;
	int got;

	if (asked)
		(void)BIO_read(come, &byte, 1);
	if (!polling_in_turn())
		share = SIZE_MAX;
	if (share > 0 && session->held_length == 0)
		return real_read(ssl, buffer, (int)RT_MIN((size_t)size, share));
	got = hold_all(ssl, session);
	if (share > 0 && session->held_length > 0)
		return take_held(session, buffer, RT_MIN((size_t)size, share));
	return got;
}

/* ---- resets ---- */

/* Like an SSL_read for which too little has come: what has come is discarded. */
static int read_nothing(SSL *ssl)
{
	unsigned char unread[1024];
	int got;

	while (BIO_read(SSL_get_rbio(ssl), unread, sizeof(unread)) > 0)
		;
	do /* of a record that was read in part */
		got = real_read(ssl, unread, sizeof(unread));
	while (got > 0);
	return got;
}

static bool read_resets(SSL *ssl, struct session *session, void *buffer, int size, int *ret_got)
{
	size_t length = 0;

	if (!connections_tls_resets(session->guard, buffer, (size_t)size, &length))
		return false;
	set_held(session, 0);
	*ret_got = length > 0 ? (int)length : read_nothing(ssl);
	return true;
}

/* ---- ours instead of libssl's, in the whole process ---- */

__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *buffer, int size)
{
	struct session *session;
	const char *reason;
	size_t whole;
	int got;

	pthread_once(&once, find_real);
	session = session_of(ssl);
	if (session == NULL)
		return real_read(ssl, buffer, size);
	if (read_resets(ssl, session, buffer, size, &got))
		return got;
	got = read_share(ssl, session, buffer, size);
	if (got <= 0)
		return got;
	reason = connections_tls_received(session->guard, buffer, (size_t)got, &whole);
	if (reason == NULL)
		return got;
	if (whole != HTTP2_NO_WHOLE && whole > 0)
		return (int)whole;
	if (whole == 0 && read_resets(ssl, session, buffer, size, &got))
		return got;
	ERR_raise_data(ERR_LIB_USER, ERR_R_OPERATION_FAIL, "a connection is closed: %s", reason);
	return -1; /* SSL_get_error says SSL_ERROR_SSL */
}

__attribute__((visibility("default"))) int SSL_write(SSL *ssl, const void *buffer, int size)
{
	struct session *session;
	int sent;

	pthread_once(&once, find_real);
	sent = real_write(ssl, buffer, size);
	session = sent > 0 ? session_of(ssl) : NULL;
	if (session != NULL)
		connections_tls_sent(session->guard, buffer, (size_t)sent);
	return sent;
}

const char *rt_http2_guard_problem(void)
{
	if (!RT_INTERPOSED(close) || !RT_INTERPOSED(recvmsg) || !RT_INTERPOSED(sendmsg) ||
	    !RT_INTERPOSED(SSL_read) || !RT_INTERPOSED(SSL_write))
		return RT_NOT_INTERPOSED;
	return rt_accept_guard_problem();
}
