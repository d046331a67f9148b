/* tls.c - TLS to Redis: what a connection sends and receives is sealed and opened here, in memory.
 *
 * The socket stays commands.c's. What it has received is given to OpenSSL, and what OpenSSL wants to send is
 * gathered in a buffer that commands.c sends: so a turn still has one write and one read, as without TLS. */
#include "connection_internal.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PEM_BYTES_MAX (1 << 20)

enum { CA, CERTIFICATE, KEY, FILES };

/* What a file was when it was read. */
struct file_state {
	struct timespec changed;
	dev_t device;
	ino_t inode;
	off_t size;
};

struct rt_redis_tls {
	char *paths[FILES]; /* NULL: none */
	struct file_state states[FILES];
	SSL_CTX *context; /* made of the files as they were then, or as they last were good */
	BIO_METHOD *method;
};

struct redis_tls {
	SSL *ssl;
	const char *in; /* received, and not read by OpenSSL yet */
	size_t in_length;
	struct rt_buf out; /* for the socket … */
	size_t out_sent;   /* … of which so much is sent */
};

/* ---- what OpenSSL reads and writes: memory ---- */

static int memory_write(BIO *bio, const char *data, int length)
{
	struct redis_tls *tls = BIO_get_data(bio);

	rt_buf_add(&tls->out, data, (size_t)length);
	return length;
}

static int memory_read(BIO *bio, char *data, int size)
{
	struct redis_tls *tls = BIO_get_data(bio);
	size_t length = RT_MIN((size_t)size, tls->in_length);

	BIO_clear_retry_flags(bio);
	if (length == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(data, tls->in, length);
	tls->in += length;
	tls->in_length -= length;
	return (int)length;
}

static long memory_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

/* ---- files ---- */

/* The reason of OpenSSL's latest error. */
static const char *latest_error(void)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	return reason != NULL ? reason : "no reason given";
}

static int fail(const char *file, const char *reason, char error[RT_REDIS_TLS_ERROR])
{
	snprintf(error, RT_REDIS_TLS_ERROR, "%.200s: %s", file, reason);
	return RT_INVALID;
}

/* A key with a passphrase is refused: nobody can be asked. */
static int no_passphrase(char *text, int size, int writing, void *user)
{
	(void)text;
	(void)size;
	(void)writing;
	(void)user;
	return -1;
}

static int load_key(SSL_CTX *context, const char *path, char error[RT_REDIS_TLS_ERROR])
{
	struct rt_buf text = { .data = NULL };
	EVP_PKEY *key = NULL;
	BIO *bio;
	int rc =
		rt_file_read(path, RT_FILE_SECRET, PEM_BYTES_MAX, &text, error, RT_REDIS_TLS_ERROR);

	if (rc != RT_OK)
		return rc;
	bio = BIO_new_mem_buf(text.data, (int)text.length);
	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	rt_file_erase(&text);
	if (key == NULL)
		return fail(path, "there is no private key in it, in PEM and without a passphrase",
			    error);
	if (SSL_CTX_use_PrivateKey(context, key) != 1)
		rc = fail(path, "it is not the key of the certificate", error);
	EVP_PKEY_free(key);
	return rc;
}

/* What others can write proves nothing. */
static int check_file(const char *path, char error[RT_REDIS_TLS_ERROR])
{
	struct rt_buf text = { .data = NULL };
	int rc = rt_file_read(path, RT_FILE_TRUSTED, PEM_BYTES_MAX, &text, error,
			      RT_REDIS_TLS_ERROR);

	rt_buf_done(&text);
	return rc;
}

static int load_files(const struct rt_redis_tls *tls, SSL_CTX *context,
		      char error[RT_REDIS_TLS_ERROR])
{
	int rc = RT_OK;

	if (tls->paths[CA] == NULL && SSL_CTX_set_default_verify_paths(context) != 1)
		return fail("the system's CAs", latest_error(), error);
	if (tls->paths[CA] != NULL)
		rc = check_file(tls->paths[CA], error);
	if (rc == RT_OK && tls->paths[CA] != NULL &&
	    SSL_CTX_load_verify_file(context, tls->paths[CA]) != 1)
		return fail(tls->paths[CA], latest_error(), error);
	if (rc != RT_OK || tls->paths[CERTIFICATE] == NULL)
		return rc;
	rc = check_file(tls->paths[CERTIFICATE], error);
	if (rc == RT_OK &&
	    SSL_CTX_use_certificate_chain_file(context, tls->paths[CERTIFICATE]) != 1)
		return fail(tls->paths[CERTIFICATE], latest_error(), error);
	return rc == RT_OK ? load_key(context, tls->paths[KEY], error) : rc;
}

static int make_context(const struct rt_redis_tls *tls, SSL_CTX **ret,
			char error[RT_REDIS_TLS_ERROR])
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	int rc;

	if (context == NULL)
		return fail("OpenSSL", latest_error(), error);
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	/* Each connection checks the certificate anew. */
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	rc = load_files(tls, context, error);
	ERR_clear_error();
	if (rc == RT_OK)
		*ret = context;
	else
		SSL_CTX_free(context);
	return rc;
}

/* True if any is not what it was. */
static bool note_files(struct rt_redis_tls *tls)
{
	bool changed = false;

	for (size_t i = 0; i < FILES; i++) {
		struct file_state now = { .size = -1 }, *before = &tls->states[i];
		struct stat found;

		if (tls->paths[i] != NULL && stat(tls->paths[i], &found) == 0)
			now = (struct file_state){ found.st_ctim, found.st_dev, found.st_ino,
						   found.st_size };
		changed = changed || now.changed.tv_sec != before->changed.tv_sec ||
			  now.changed.tv_nsec != before->changed.tv_nsec ||
			  now.device != before->device || now.inode != before->inode ||
			  now.size != before->size;
		*before = now;
	}
	return changed;
}

/* The files are looked at whenever a connection begins: so the first one after a change uses the new ones.
 * Files that do not fit, because they are just being replaced, are used when they do. */
static SSL_CTX *current_context(struct rt_redis_tls *tls)
{
	char error[RT_REDIS_TLS_ERROR];
	SSL_CTX *context;

	if (!note_files(tls))
		return tls->context;
	if (make_context(tls, &context, error) == RT_OK) {
		SSL_CTX_free(tls->context);
		tls->context = context;
		RT_LOG(RT_INFO, "the files for TLS to Redis have changed and were read again");
	} else {
		RT_LOG(RT_WARN,
		       "the files for TLS to Redis have changed and cannot be used: those "
		       "that were read before still are",
		       RT_S("reason", error));
	}
	return tls->context;
}

int rt_redis_tls_new(const struct rt_redis_tls_files *files, struct rt_redis_tls **ret,
		     char error[RT_REDIS_TLS_ERROR])
{
	const char *const paths[FILES] = { files->ca, files->certificate, files->key };
	struct rt_redis_tls *tls = rt_alloc(sizeof(*tls));
	int rc = RT_NOMEM;

	for (size_t i = 0; i < FILES; i++)
		if (paths[i] != NULL && paths[i][0] != '\0')
			tls->paths[i] = rt_strdup(paths[i]);
	tls->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "memory");
	if (tls->method == NULL)
		goto fail;
	BIO_meth_set_write(tls->method, memory_write);
	BIO_meth_set_read(tls->method, memory_read);
	BIO_meth_set_ctrl(tls->method, memory_control);
	rc = RT_INVALID;
	if ((tls->paths[CERTIFICATE] == NULL) != (tls->paths[KEY] == NULL)) {
		snprintf(error, RT_REDIS_TLS_ERROR, "a certificate and its key belong together: %s",
			 tls->paths[KEY] == NULL ? "--redis-tls-key is missing"
						 : "--redis-tls-cert is missing");
		goto fail;
	}
	(void)note_files(tls);
	rc = make_context(tls, &tls->context, error);
	if (rc != RT_OK)
		goto fail;
	*ret = tls;
	return RT_OK;
fail:
	rt_redis_tls_free(tls);
	return rc;
}

void rt_redis_tls_free(struct rt_redis_tls *tls)
{
	if (tls == NULL)
		return;
	SSL_CTX_free(tls->context);
	BIO_meth_free(tls->method);
	for (size_t i = 0; i < FILES; i++)
		free(tls->paths[i]);
	free(tls);
}

/* ---- one connection ---- */

/* The certificate must be for the address that was connected to. */
static bool expect_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);

	if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
		return true;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
	       SSL_set_tlsext_host_name(ssl, host) == 1;
}

bool redis_tls_begin(struct redis_connection *connection)
{
	struct rt_redis_tls *shared = connection->common.options.tls;
	struct redis_tls *tls = rt_alloc(sizeof(*tls));
	BIO *bio = BIO_new(shared->method);

	connection->tls = tls;
	tls->ssl = SSL_new(current_context(shared));
	if (bio == NULL || tls->ssl == NULL ||
	    !expect_host(tls->ssl, connection->common.options.host)) {
		redis_trouble_set(connection, "TLS", latest_error());
		ERR_clear_error();
		BIO_free(bio);
		return false;
	}
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio); /* takes it */
	SSL_set_connect_state(tls->ssl);
	return SSL_get_error(tls->ssl, SSL_do_handshake(tls->ssl)) == SSL_ERROR_WANT_READ;
}

void redis_tls_end(struct redis_connection *connection)
{
	struct redis_tls *tls = RT_TAKE(connection->tls);

	if (tls == NULL)
		return;
	SSL_free(tls->ssl);
	rt_buf_done(&tls->out);
	free(tls);
}

/* Why nothing more can be sent or received, for a person. */
static void explain(struct redis_connection *connection, int result)
{
	SSL *ssl = connection->tls->ssl;
	long refused = SSL_get_verify_result(ssl);
	unsigned long latest = ERR_peek_last_error();

	if (result == SSL_ERROR_ZERO_RETURN)
		redis_trouble_set(connection, "closed by the server", "");
	else if (refused != X509_V_OK && !SSL_is_init_finished(ssl))
		redis_trouble_set(connection, "TLS: the server's certificate is refused",
				  X509_verify_cert_error_string(refused));
	else if (ERR_GET_LIB(latest) == ERR_LIB_SSL &&
		 ERR_GET_REASON(latest) == SSL_R_WRONG_VERSION_NUMBER)
		redis_trouble_set(connection, "TLS: the server speaks no TLS", "");
	else
		redis_trouble_set(connection, "TLS", latest_error());
	ERR_clear_error();
}

bool redis_tls_seal(struct redis_connection *connection)
{
	struct redis_tls *tls = connection->tls;
	size_t written;
	int result;

	if (connection->out.length == 0)
		return true;
	ERR_clear_error();
	result = SSL_write_ex(tls->ssl, connection->out.data, connection->out.length, &written);
	if (result == 1)
		return true; /* memory takes all */
	explain(connection, SSL_get_error(tls->ssl, result));
	return false;
}

void redis_tls_give(struct redis_connection *connection, const char *bytes, size_t length)
{
	connection->tls->in = bytes;
	connection->tls->in_length = length;
}

enum redis_taken redis_tls_take(struct redis_connection *connection, char *bytes, size_t size,
				size_t *ret_length)
{
	SSL *ssl = connection->tls->ssl;
	int result;

	/* Begins with the handshake, if that is not over. */
	ERR_clear_error();
	result = SSL_read_ex(ssl, bytes, size, ret_length);
	if (result == 1)
		return REDIS_TAKEN;
	result = SSL_get_error(ssl, result);
	if (result == SSL_ERROR_WANT_READ)
		return REDIS_TAKEN_ALL;
	explain(connection, result);
	return REDIS_TAKEN_NEVER;
}

bool redis_tls_ready(const struct redis_connection *connection)
{
	return SSL_is_init_finished(connection->tls->ssl);
}

void redis_tls_out(struct redis_connection *connection, struct rt_buf **out, size_t **sent)
{
	*out = &connection->tls->out;
	*sent = &connection->tls->out_sent;
}
