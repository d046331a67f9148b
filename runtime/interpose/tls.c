/* tls.c - an SSL_read and an SSL_write that show the HTTP/2 guard what goes through TLS; see interpose.h.
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
#include <sys/socket.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int ex_index = -1;
static int (*real_read)(SSL *ssl, void *buffer, int size);
static int (*real_write)(SSL *ssl, const void *buffer, int size);

static void free_guard(void *parent, void *guard, CRYPTO_EX_DATA *data, int index, long number,
		       void *pointer)
{
	(void)parent, (void)data, (void)index, (void)number, (void)pointer;
	if (guard != NULL)
		connections_tls_free(guard);
}

static void find_real(void)
{
	*(void **)&real_read = dlsym(RTLD_NEXT, "SSL_read");
	*(void **)&real_write = dlsym(RTLD_NEXT, "SSL_write");
	if (real_read == NULL || real_write == NULL)
		abort(); /* libssl is linked */
	ex_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_guard);
}

/* NULL: a client's side. */
static struct connections_tls *guard_of(SSL *ssl)
{
	struct connections_tls *guard;

	if (!SSL_is_server(ssl))
		return NULL;
	guard = SSL_get_ex_data(ssl, ex_index);
	if (guard == NULL) {
		guard = connections_tls_new();
		if (SSL_set_ex_data(ssl, ex_index, guard) != 1) {
			connections_tls_free(guard);
			return NULL;
		}
	}
	return guard;
}

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

static bool read_resets(SSL *ssl, void *buffer, int size, int *ret_got)
{
	struct connections_tls *guard = SSL_get_ex_data(ssl, ex_index);
	size_t length = 0;

	if (guard == NULL || !connections_tls_resets(guard, buffer, (size_t)size, &length))
		return false;
	*ret_got = length > 0 ? (int)length : read_nothing(ssl);
	return true;
}

/* Ours instead of libssl's, in the whole process. */
__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *buffer, int size)
{
	struct connections_tls *guard;
	const char *reason;
	size_t whole;
	int got;

	pthread_once(&once, find_real);
	if (read_resets(ssl, buffer, size, &got))
		return got;
	got = real_read(ssl, buffer, size);
	if (got <= 0)
		return got;
	guard = guard_of(ssl);
	if (guard == NULL)
		return got;
	reason = connections_tls_received(guard, buffer, (size_t)got, &whole);
	if (reason == NULL)
		return got;
	if (whole != HTTP2_NO_WHOLE && whole > 0)
		return (int)whole;
	if (whole == 0 && read_resets(ssl, buffer, size, &got))
		return got;
	ERR_raise_data(ERR_LIB_USER, ERR_R_OPERATION_FAIL, "a connection is closed: %s", reason);
	return -1; /* SSL_get_error says SSL_ERROR_SSL */
}

__attribute__((visibility("default"))) int SSL_write(SSL *ssl, const void *buffer, int size)
{
	struct connections_tls *guard;
	int sent;

	pthread_once(&once, find_real);
	sent = real_write(ssl, buffer, size);
	guard = sent > 0 ? guard_of(ssl) : NULL;
	if (guard != NULL)
		connections_tls_sent(guard, buffer, (size_t)sent);
	return sent;
}

const char *rt_http2_guard_problem(void)
{
	if (!RT_INTERPOSED(close) || !RT_INTERPOSED(recvmsg) || !RT_INTERPOSED(sendmsg) ||
	    !RT_INTERPOSED(SSL_read) || !RT_INTERPOSED(SSL_write))
		return RT_NOT_INTERPOSED;
	return rt_accept_guard_problem();
}
