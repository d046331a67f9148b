/* admin_tls.c - certificates for libmicrohttpd; see admin_tls_internal.h.
 *
 * libmicrohttpd reads its certificate once, at the start. But its GnuTLS sessions can be given others before their
 * handshake: so each connection gets the credentials that are in use when it begins, and keeps them to its end. What
 * was read before goes with its last connection.
 *
 *   loop thread            files changed: make credentials of them, put them in place of those in use
 *   libmicrohttpd's        a connection begins: it takes those in use; it ends: it gives them back
 *
 * Clients are asked for a certificate where those of gRPC are, and may leave it out even if it is required: probes of
 * orchestrators have none. What they may see then is for the pages to say. */
#include "admin_tls_internal.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <string.h>

/* The same as gRPC: forward secrecy, authenticated encryption, nothing before 1.2. */
#define PRIORITIES                                                                                 \
	"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA:-DHE-RSA:"                                \
	"-CIPHER-ALL:+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305:%SERVER_PRECEDENCE"

#define NAME_MAX_BYTES 512

struct admin_tls_shown {
	gnutls_certificate_credentials_t credentials;
	bool asks;    /* clients, for a certificate */
	size_t users; /* connections, and one for being in use */
};

struct admin_tls {
	struct rt_tls *tls;
	struct rt_tls_user user;
	bool required;
	pthread_mutex_t lock; /* of what follows, and of the users of each */
	struct admin_tls_shown *shown;
};

/* ---- what is shown ---- */

/* In a handshake. A certificate that is there must be good; that it is there is asked for later. */
static int check_peer(gnutls_session_t session)
{
	gnutls_typed_vdata_st purpose = {
		.type = GNUTLS_DT_KEY_PURPOSE_OID,
		.data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT
	};
	unsigned int count = 0, faults = 0;

	if (gnutls_certificate_get_peers(session, &count) == NULL)
		return 0;
	if (gnutls_certificate_verify_peers(session, &purpose, 1, &faults) < 0 || faults != 0)
		return GNUTLS_E_CERTIFICATE_ERROR;
	return 0;
}

static gnutls_datum_t datum_of(const char *text)
{
	return (gnutls_datum_t){ .data = (unsigned char *)(uintptr_t)text,
				 .size = (unsigned int)strlen(text) };
}

static void shown_free(struct admin_tls_shown *shown)
{
	if (shown->credentials != NULL)
		gnutls_certificate_free_credentials(shown->credentials);
	free(shown);
}

/* NULL after logging what is wrong: GnuTLS is stricter than OpenSSL, which has read them already. */
static struct admin_tls_shown *shown_new(const struct rt_tls *tls)
{
	struct admin_tls_shown *shown = rt_alloc(sizeof(*shown));
	gnutls_datum_t certificate, key, authorities;
	struct rt_tls_pems pems;
	int rc = gnutls_certificate_allocate_credentials(&shown->credentials);

	rt_tls_pems(tls, &pems);
	certificate = datum_of(pems.certificate);
	key = datum_of(pems.key);
	shown->users = 1;
	shown->asks = pems.authorities != NULL;
	if (rc >= 0)
		rc = gnutls_certificate_set_x509_key_mem2(shown->credentials, &certificate, &key,
							  GNUTLS_X509_FMT_PEM, NULL, 0);
	if (rc >= 0 && shown->asks) {
		authorities = datum_of(pems.authorities);
		rc = gnutls_certificate_set_x509_trust_mem(shown->credentials, &authorities,
							   GNUTLS_X509_FMT_PEM);
		gnutls_certificate_set_verify_function(shown->credentials, check_peer);
	}
	if (rc >= 0)
		return shown;
	RT_LOG(RT_ERROR, "certificate or key cannot be used", RT_S("for", "admin"),
	       RT_S("reason", gnutls_strerror(rc)));
	shown_free(shown);
	return NULL;
}

static struct admin_tls_shown *take(struct admin_tls *tls)
{
	struct admin_tls_shown *shown;

	pthread_mutex_lock(&tls->lock);
	shown = tls->shown;
	shown->users++;
	pthread_mutex_unlock(&tls->lock);
	return shown;
}

void admin_tls_give_back(struct admin_tls *tls, struct admin_tls_shown *shown)
{
	bool last;

	pthread_mutex_lock(&tls->lock);
	last = --shown->users == 0;
	pthread_mutex_unlock(&tls->lock);
	if (last)
		shown_free(shown);
}

static void files_changed(struct rt_tls_user *user)
{
	struct admin_tls *tls = RT_CONTAINER_OF(user, struct admin_tls, user);
	struct admin_tls_shown *now = shown_new(tls->tls), *before;

	if (now == NULL)
		return;
	pthread_mutex_lock(&tls->lock);
	before = tls->shown;
	tls->shown = now;
	pthread_mutex_unlock(&tls->lock);
	admin_tls_give_back(tls, before);
}

/* ---- for libmicrohttpd ---- */

static gnutls_session_t session_of(struct MHD_Connection *connection)
{
	return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
}

/* Before the handshake. */
struct admin_tls_shown *admin_tls_show(struct admin_tls *tls, struct MHD_Connection *connection)
{
	gnutls_session_t session = session_of(connection);
	struct admin_tls_shown *shown = take(tls);

	gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, shown->credentials);
	if (shown->asks)
		gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
	return shown;
}

/* libmicrohttpd does not start without a certificate or somebody to ask for one. Nobody asks: admin_tls_show
 * has given the session its own. */
static int no_certificate(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
			  gnutls_pcert_st **certificates, unsigned int *count,
			  gnutls_ocsp_data_st **ocsp, unsigned int *ocsp_count,
			  gnutls_privkey_t *key, unsigned int *flags)
{
	(void)session, (void)info, (void)certificates, (void)count;
	(void)ocsp, (void)ocsp_count, (void)key, (void)flags;
	return -1;
}

void admin_tls_options(struct MHD_OptionItem ret[ADMIN_TLS_OPTIONS])
{
	ret[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
					  (void *)(uintptr_t)PRIORITIES };
	ret[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_CERT_CALLBACK2, 0,
					  (void *)(uintptr_t)no_certificate };
	ret[2] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
}

bool admin_tls_known(const struct admin_tls *tls, struct MHD_Connection *connection)
{
	unsigned int count = 0;

	return !tls->required ||
	       gnutls_certificate_get_peers(session_of(connection), &count) != NULL;
}

/* ---- what a client has shown ---- */

struct names {
	char **list;
	size_t count, most;
};

static void add_name(struct names *names, const char *kind, const char *text, size_t length)
{
	if (names->count < names->most && memchr(text, '\0', length) == NULL)
		names->list[names->count++] = rt_printf("%s:%.*s", kind, (int)length, text);
}

static void add_common_names(struct names *names, gnutls_x509_crt_t certificate)
{
	char text[NAME_MAX_BYTES];
	size_t length = sizeof(text);

	for (unsigned int i = 0;
	     gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, i, 0, text,
					   &length) != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE &&
	     i < names->most;
	     i++, length = sizeof(text)) {
		if (length < sizeof(text))
			add_name(names, "CN", text, length);
	}
}

static void add_other_names(struct names *names, gnutls_x509_crt_t certificate)
{
	char text[NAME_MAX_BYTES];
	int kind = 0;

	for (unsigned int i = 0; i < names->most; i++) {
		size_t length = sizeof(text);

		kind = gnutls_x509_crt_get_subject_alt_name(certificate, i, text, &length, NULL);
		if (kind == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
			return;
		if (kind == GNUTLS_SAN_DNSNAME)
			add_name(names, "DNS", text, length);
		else if (kind == GNUTLS_SAN_URI)
			add_name(names, "URI", text, length);
		else if (kind == GNUTLS_SAN_RFC822NAME)
			add_name(names, "email", text, length);
	}
}

bool admin_tls_names(struct MHD_Connection *connection, char **names, size_t most,
		     size_t *ret_count)
{
	struct names found = { names, 0, most };
	unsigned int count = 0;
	const gnutls_datum_t *chain = gnutls_certificate_get_peers(session_of(connection), &count);
	gnutls_x509_crt_t certificate;

	if (chain == NULL || count == 0 || gnutls_x509_crt_init(&certificate) < 0)
		return false;
	if (gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == 0) {
		add_common_names(&found, certificate);
		add_other_names(&found, certificate);
	}
	gnutls_x509_crt_deinit(certificate);
	*ret_count = found.count;
	return true;
}

/* ---- start and end ---- */

int admin_tls_new(struct rt_tls *tls, struct admin_tls **ret)
{
	struct admin_tls *admin;
	struct rt_tls_pems pems;
	struct admin_tls_shown *shown = shown_new(tls);

	if (shown == NULL)
		return RT_INVALID;
	rt_tls_pems(tls, &pems);
	admin = rt_alloc(sizeof(*admin));
	admin->tls = tls;
	admin->shown = shown;
	admin->required = pems.required && pems.authorities != NULL;
	pthread_mutex_init(&admin->lock, NULL);
	admin->user.changed = files_changed;
	rt_tls_use(tls, &admin->user);
	*ret = admin;
	return RT_OK;
}

void admin_tls_free(struct admin_tls *tls)
{
	if (tls == NULL)
		return;
	rt_list_remove(&tls->user.link);
	admin_tls_give_back(tls, tls->shown);
	pthread_mutex_destroy(&tls->lock);
	free(tls);
}
