/* tls.c - certificates and keys as gRPC wants them; see tls.h.
 *
 * gRPC says little about files that it cannot use, and would go on without a key. So they are parsed here first.
 *
 * A server asks for its certificate at each handshake, on whichever thread that runs: hence the lock. */
#include "tls.h"

#include <grpc/grpc_security.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "loop/files.h"
#include "tls_internal.h"

#define PEM_MAX_BYTES (1024 * 1024)
#define ERROR_BYTES   512

/* What the files hold. */
struct pems {
	struct rt_buf certificate, key, authorities; /* without data: there is no such file */
};

struct rt_tls {
	char *certificate, *key, *authorities; /* paths */
	const char *purpose;
	bool required, quiet;
	struct rt_files files;
	struct rt_list users;
	struct rt_series *expires, *reloads, *refused; /* NULL: no metrics */

	pthread_mutex_t lock; /* of what follows */
	struct pems pems;
	bool server_has_them; /* a server has fetched `pems` */
};

static void pems_done(struct pems *pems)
{
	rt_file_erase(&pems->certificate);
	rt_file_erase(&pems->key);
	rt_file_erase(&pems->authorities);
}

/* ---- reading ---- */

static int no_passphrase(char *buf, int size, int writing, void *user)
{
	(void)buf, (void)size, (void)writing, (void)user;
	return 0;
}

static BIO *bio_of(const struct rt_buf *text)
{
	return BIO_new_mem_buf(text->data, (int)text->length);
}

/* The first certificate of the text; NULL: there is none. *ret_count: how many there are. */
static X509 *certificates_of(const struct rt_buf *text, size_t *ret_count)
{
	BIO *bio = bio_of(text);
	X509 *first = NULL, *next;

	*ret_count = 0;
	while ((next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
		++*ret_count;
		if (first == NULL)
			first = next;
		else
			X509_free(next);
	}
	BIO_free(bio);
	ERR_clear_error();
	return first;
}

static int64_t expiry_of(const X509 *certificate)
{
	struct tm when;

	if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1)
		return 0;
	return timegm(&when);
}

/* Checks the certificate and its key. */
static int check_pair(const struct rt_tls *tls, const struct pems *pems, int64_t *ret_expires,
		      char error[ERROR_BYTES])
{
	size_t count;
	X509 *certificate = certificates_of(&pems->certificate, &count);
	BIO *bio = bio_of(&pems->key);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	int rc = RT_INVALID;

	if (certificate == NULL)
		snprintf(error, ERROR_BYTES, "%s holds no certificate in PEM form",
			 tls->certificate);
	else if (key == NULL)
		snprintf(error, ERROR_BYTES,
			 "%s holds no private key in PEM form, or one with a passphrase", tls->key);
	else if (X509_check_private_key(certificate, key) != 1)
		snprintf(error, ERROR_BYTES,
			 "the key in %s does not belong to the certificate in %s", tls->key,
			 tls->certificate);
	else
		rc = RT_OK;
	if (rc == RT_OK)
		*ret_expires = expiry_of(certificate);
	EVP_PKEY_free(key);
	BIO_free(bio);
	X509_free(certificate);
	ERR_clear_error();
	return rc;
}

static int check_authorities(const struct rt_tls *tls, const struct pems *pems,
			     char error[ERROR_BYTES])
{
	size_t count;
	X509 *first = certificates_of(&pems->authorities, &count);

	X509_free(first);
	if (first != NULL)
		return RT_OK;
	snprintf(error, ERROR_BYTES, "%s holds no certificate in PEM form", tls->authorities);
	return RT_INVALID;
}

static int read_pems(const struct rt_tls *tls, struct pems *ret, int64_t *ret_expires,
		     char error[ERROR_BYTES])
{
	struct pems pems = { .key.data = NULL };
	int rc = RT_OK;

	if (tls->certificate[0] != '\0') {
		rc = rt_file_read(tls->certificate, RT_FILE_TRUSTED, PEM_MAX_BYTES,
				  &pems.certificate, error, ERROR_BYTES);
		if (rc == RT_OK)
			rc = rt_file_read(tls->key, RT_FILE_SECRET, PEM_MAX_BYTES, &pems.key, error,
					  ERROR_BYTES);
		if (rc == RT_OK)
			rc = check_pair(tls, &pems, ret_expires, error);
	}
	if (rc == RT_OK && tls->authorities[0] != '\0') {
		rc = rt_file_read(tls->authorities, RT_FILE_TRUSTED, PEM_MAX_BYTES,
				  &pems.authorities, error, ERROR_BYTES);
		if (rc == RT_OK)
			rc = check_authorities(tls, &pems, error);
	}
	if (rc == RT_OK)
		*ret = pems;
	else
		pems_done(&pems);
	return rc;
}

/* Reads the files and puts what they hold in place of what is there. */
static int load(struct rt_tls *tls)
{
	char error[ERROR_BYTES], until[RT_TIME_TEXT] = "";
	int64_t expires_s = 0;
	struct pems pems, old;
	int rc = read_pems(tls, &pems, &expires_s, error);

	if (rc != RT_OK) {
		RT_LOG(RT_ERROR, "certificate or key cannot be used", RT_S("for", tls->purpose),
		       RT_S("reason", error));
		return rc;
	}
	pthread_mutex_lock(&tls->lock);
	old = tls->pems;
	tls->pems = pems;
	tls->server_has_them = false;
	pthread_mutex_unlock(&tls->lock);
	pems_done(&old);
	if (expires_s > 0 && expires_s < RT_TIME_MS_MAX / 1000)
		rt_time_format(expires_s * 1000, until);
	if (!tls->quiet)
		RT_LOG(RT_INFO, "certificates read", RT_S("for", tls->purpose),
		       RT_S("valid_until", until));
	if (tls->expires != NULL && expires_s > 0)
		rt_series_set(tls->expires, (double)expires_s);
	return RT_OK;
}

static void files_changed(struct rt_files *files)
{
	struct rt_tls *tls = RT_CONTAINER_OF(files, struct rt_tls, files);
	struct rt_list *next;
	int rc = load(tls);

	if (tls->reloads != NULL)
		rt_series_add(rc == RT_OK ? tls->reloads : tls->refused, 1);
	if (rc != RT_OK)
		return;
	for (struct rt_list *link = tls->users.next; link != &tls->users; link = next) {
		struct rt_tls_user *user = RT_CONTAINER_OF(link, struct rt_tls_user, link);

		next = link->next;
		user->changed(user);
	}
}

/* ---- for servers and channels ---- */

static grpc_ssl_pem_key_cert_pair pair_of(const struct pems *pems)
{
	return (grpc_ssl_pem_key_cert_pair){ .private_key = pems->key.data,
					     .cert_chain = pems->certificate.data };
}

/* Any thread. */
static grpc_ssl_certificate_config_reload_status fetch(void *user,
						       grpc_ssl_server_certificate_config **ret)
{
	struct rt_tls *tls = user;
	grpc_ssl_certificate_config_reload_status status =
		GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;

	pthread_mutex_lock(&tls->lock);
	if (!tls->server_has_them) {
		grpc_ssl_pem_key_cert_pair pair = pair_of(&tls->pems);
		/* gRPC insists on some, which it does not use when clients are not asked. */
		const char *roots = tls->authorities[0] != '\0' ? tls->pems.authorities.data
								: tls->pems.certificate.data;

		*ret = grpc_ssl_server_certificate_config_create(roots, &pair, 1);
		tls->server_has_them = true;
		status = GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
	}
	pthread_mutex_unlock(&tls->lock);
	return status;
}

grpc_server_credentials *rpc_tls_server_credentials(struct rt_tls *tls)
{
	grpc_ssl_client_certificate_request_type request = GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;

	if (tls->authorities[0] != '\0')
		request = tls->required ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
					: GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY;
	return grpc_ssl_server_credentials_create_with_options(
		grpc_ssl_server_credentials_create_options_using_config_fetcher(request, fetch,
										tls));
}

grpc_channel_credentials *rpc_tls_channel_credentials(struct rt_tls *tls)
{
	grpc_channel_credentials *credentials;
	grpc_ssl_pem_key_cert_pair pair;

	pthread_mutex_lock(&tls->lock);
	pair = pair_of(&tls->pems);
	credentials = grpc_ssl_credentials_create_ex(
		tls->pems.authorities.data, tls->certificate[0] != '\0' ? &pair : NULL, NULL, NULL);
	pthread_mutex_unlock(&tls->lock);
	return credentials;
}

void rt_tls_use(struct rt_tls *tls, struct rt_tls_user *user)
{
	rt_list_push(&tls->users, &user->link);
}

void rt_tls_pems(const struct rt_tls *tls, struct rt_tls_pems *ret)
{
	/* Without the lock: only the loop thread puts others in their place. */
	*ret = (struct rt_tls_pems){
		.certificate = tls->pems.certificate.data,
		.key = tls->pems.key.data,
		.authorities = tls->pems.authorities.data,
		.required = tls->required,
	};
}

/* ---- start and end ---- */

static void make_metrics(struct rt_tls *tls, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "purpose", NULL };
	static const char *const results[] = { "purpose", "result", NULL };
	struct rt_metric *reads;

	if (metrics == NULL)
		return;
	tls->expires = rt_metric_series(
		rt_metric(metrics, RT_GAUGE, "tandem_tls_certificate_expires_timestamp_seconds",
			  "When the certificate in use ends, unix time.", labels),
		(const char *const[]){ tls->purpose });
	reads = rt_metric(metrics, RT_COUNTER, "tandem_tls_reloads_total",
			  "How often certificate files had changed, and were used or refused.",
			  results);
	tls->reloads = rt_metric_series(reads, (const char *const[]){ tls->purpose, "used" });
	tls->refused = rt_metric_series(reads, (const char *const[]){ tls->purpose, "refused" });
}

int rt_tls_new(struct rt_loop *loop, const struct rt_tls_options *options, struct rt_tls **ret)
{
	struct rt_tls *tls;
	int rc;

	if ((options->certificate[0] == '\0') != (options->key[0] == '\0')) {
		RT_LOG(RT_ERROR, "a certificate needs its key, and a key its certificate",
		       RT_S("for", options->purpose));
		return RT_INVALID;
	}
	tls = rt_alloc(sizeof(*tls));
	tls->certificate = rt_strdup(options->certificate);
	tls->key = rt_strdup(options->key);
	tls->authorities = rt_strdup(options->authorities);
	tls->purpose = options->purpose;
	tls->required = options->required;
	tls->quiet = options->quiet;
	pthread_mutex_init(&tls->lock, NULL);
	rt_list_init(&tls->users);
	make_metrics(tls, options->metrics);
	rt_files_watch(loop, &tls->files,
		       (const char *const[]){ tls->certificate, tls->key, tls->authorities }, 3,
		       files_changed);
	rc = load(tls);
	if (rc == RT_OK)
		*ret = tls;
	else
		rt_tls_free(tls);
	return rc;
}

void rt_tls_free(struct rt_tls *tls)
{
	if (tls == NULL)
		return;
	rt_files_stop(&tls->files);
	pems_done(&tls->pems);
	pthread_mutex_destroy(&tls->lock);
	free(tls->certificate);
	free(tls->key);
	free(tls->authorities);
	free(tls);
}
