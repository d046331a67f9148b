/* TLS of the operators' port: which versions, who is known, new files, connections that do nothing. The client is
 * OpenSSL's; it blocks. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificates.h"
#include "loopback.h"
#include "run.h"
#include "run_until.h"
#include "service/admin_internal.h"

#define NAMES "DNS:localhost,IP:127.0.0.1"
#define GET   "GET %s HTTP/1.1\r\nHost: x\r\n\r\n"

static char folder[] = "/tmp/tandem-admin-tls-XXXXXX";
static char logged[4096];

static struct {
	struct rt_loop *loop;
	struct rt_metrics *metrics;
	struct rt_readiness *readiness;
	struct rt_check check;
	struct rt_tls *tls;
	struct rt_admin *admin;
} f;

static void keep_log(const char *line, void *user)
{
	size_t length = strlen(logged);

	(void)user;
	snprintf(logged + length, sizeof(logged) - length, "%s\n", line);
}

static void setup(void)
{
	memset(&f, 0, sizeof(f));
	logged[0] = '\0';
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&f.loop), RT_OK);
	f.metrics = rt_metrics_new();
	f.readiness = rt_readiness_new();
	rt_readiness_add(f.readiness, &f.check, "backend", NULL);
	rt_check_failed(&f.check, "10.1.2.3 is away");
	certificates_authority(folder, "ca");
	certificates_authority(folder, "other-ca");
	certificates_issue(folder, "ca", "server", NAMES, 30);
	certificates_issue(folder, "ca", "client", NAMES, 30);
	certificates_issue(folder, "other-ca", "stranger", NAMES, 30);
	certificates_issue(folder, "ca", "late", NAMES, -1);
}

static void teardown(void)
{
	rt_admin_free(f.admin);
	rt_tls_free(f.tls);
	run_for(f.loop, 0);
	rt_readiness_free(f.readiness);
	rt_metrics_free(f.metrics);
	rt_loop_free(f.loop);
}

static const char *path_of(char text[128], const char *name, const char *ending)
{
	text[0] = '\0';
	if (name != NULL)
		snprintf(text, 128, "%s/%s.%s", folder, name, ending);
	return text;
}

static void serve(const char *name, const char *authority, bool required)
{
	char certificate[128], key[128], authorities[128];
	struct rt_tls_options options = {
		.certificate = path_of(certificate, name, "crt"),
		.key = path_of(key, name, "key"),
		.authorities = path_of(authorities, authority, "crt"),
		.required = required,
		.purpose = "server",
	};

	CU_ASSERT_EQUAL_FATAL(rt_tls_new(f.loop, &options, &f.tls), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_admin_new("127.0.0.1:0", f.tls, f.metrics, f.readiness, &f.admin),
			      RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_admin_start(f.admin), RT_OK);
}

/* ---- the client ---- */

struct client {
	SSL_CTX *context;
	SSL *ssl;
	int fd;
	char answer[4096];
};

/* As `name`, NULL: nobody; the server's certificate must be of `authority`. False: the handshake failed. With TLS 1.3
 * the server looks at the client's certificate after it. */
static bool client_connect(struct client *client, const char *name, const char *authority,
			   int oldest, int newest)
{
	char path[128];

	memset(client, 0, sizeof(*client));
	client->context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_min_proto_version(client->context, oldest);
	SSL_CTX_set_max_proto_version(client->context, newest);
	SSL_CTX_set_security_level(client->context, 0); /* else this side has no TLS 1.1 */
	SSL_CTX_set_verify(client->context, SSL_VERIFY_PEER, NULL);
	CU_ASSERT_FATAL(
		SSL_CTX_load_verify_file(client->context, path_of(path, authority, "crt")) == 1);
	if (name != NULL) {
		CU_ASSERT_FATAL(SSL_CTX_use_certificate_file(client->context,
							     path_of(path, name, "crt"),
							     SSL_FILETYPE_PEM) == 1);
		CU_ASSERT_FATAL(SSL_CTX_use_PrivateKey_file(client->context,
							    path_of(path, name, "key"),
							    SSL_FILETYPE_PEM) == 1);
	}
	client->fd = loopback_connect(rt_admin_port(f.admin));
	client->ssl = SSL_new(client->context);
	SSL_set_fd(client->ssl, client->fd);
	SSL_set1_host(client->ssl, "localhost");
	return SSL_connect(client->ssl) == 1;
}

static void client_close(struct client *client)
{
	SSL_free(client->ssl);
	SSL_CTX_free(client->context);
	close(client->fd);
	ERR_clear_error();
}

static const char *body(const struct client *client)
{
	const char *end = strstr(client->answer, "\r\n\r\n");

	return end != NULL ? end + 4 : "";
}

static bool is_whole(const struct client *client)
{
	const char *length = strstr(client->answer, "Content-Length: ");

	return strstr(client->answer, "\r\n\r\n") != NULL && length != NULL &&
	       strlen(body(client)) >= strtoul(length + strlen("Content-Length: "), NULL, 10);
}

/* The status; 0: there was none. */
static int client_get(struct client *client, const char *page)
{
	char request[128];
	size_t have = 0;
	int status = 0, got;

	snprintf(request, sizeof(request), GET, page);
	client->answer[0] = '\0';
	if (SSL_write(client->ssl, request, (int)strlen(request)) <= 0)
		return 0;
	do {
		got = SSL_read(client->ssl, client->answer + have,
			       (int)(sizeof(client->answer) - 1 - have));
		have += got > 0 ? (size_t)got : 0;
		client->answer[have] = '\0';
	} while (got > 0 && !is_whole(client));
	return sscanf(client->answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

/* ---- tests ---- */

static void versions(void)
{
	static const struct row {
		const char *name;
		int version;
		bool good;
	} rows[] = {
		{ "1.3", TLS1_3_VERSION, true },
		{ "1.2", TLS1_2_VERSION, true },
		{ "1.1", TLS1_1_VERSION, false },
		{ "1.0", TLS1_VERSION, false },
	};
	struct client client;

	serve("server", NULL, true);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		bool good = client_connect(&client, NULL, "ca", rows[i].version, rows[i].version);

		TEST_ROW(good == rows[i].good, rows[i].name);
		if (good) {
			TEST_ROW(SSL_version(client.ssl) == rows[i].version, rows[i].name);
			TEST_ROW(client_get(&client, "/metrics") == 200, rows[i].name);
			TEST_ROW(client_get(&client, "/healthz") == 200, rows[i].name);
		}
		client_close(&client);
	}
	/* Nor does it speak without. */
	CU_ASSERT_PTR_NULL(strstr(loopback_get(rt_admin_port(f.admin), "/healthz"), "HTTP/"));
}

/* Encryption that does not authenticate. */
static void old_ciphers(void)
{
	static const char *const rows[] = { "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA" };

	serve("server", NULL, true);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int fd = loopback_connect(rt_admin_port(f.admin));
		SSL_CTX *context = SSL_CTX_new(TLS_client_method());
		SSL *ssl;

		SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
		CU_ASSERT_EQUAL_FATAL(SSL_CTX_set_cipher_list(context, rows[i]), 1);
		ssl = SSL_new(context);
		SSL_set_fd(ssl, fd);
		TEST_ROW(SSL_connect(ssl) != 1, rows[i]);
		SSL_free(ssl);
		SSL_CTX_free(context);
		close(fd);
	}
	ERR_clear_error();
}

static void who_may_see_what(void)
{
	static const struct row {
		const char *what, *client, *authority;
		bool required;
		int metrics; /* 0: the connection is refused */
		const char *ready;
	} rows[] = {
		{ "nobody is asked", NULL, NULL, true, 200, "backend: 10.1.2.3 is away\n" },
		{ "required, and shown", "client", "ca", true, 200, "backend: 10.1.2.3 is away\n" },
		{ "required, none shown", NULL, "ca", true, 403, "not ready\n" },
		{ "required, a stranger's", "stranger", "ca", true, 0, NULL },
		{ "required, an expired one", "late", "ca", true, 0, NULL },
		{ "optional, none shown", NULL, "ca", false, 200, "backend: 10.1.2.3 is away\n" },
		{ "optional, a stranger's", "stranger", "ca", false, 0, NULL },
	};
	static const int versions_of[] = { TLS1_2_VERSION, TLS1_3_VERSION };

	for (size_t i = 0; i < RT_LENGTH(rows) * RT_LENGTH(versions_of); i++) {
		const struct row *row = &rows[i / RT_LENGTH(versions_of)];
		int version = versions_of[i % RT_LENGTH(versions_of)];
		struct client client;

		if (i > 0)
			setup();
		rt_check_ready(&f.check);
		serve("server", row->authority, row->required);
		if (!client_connect(&client, row->client, "ca", version, version)) {
			TEST_ROW(row->metrics == 0, row->what);
		} else {
			TEST_ROW(client_get(&client, "/metrics") == row->metrics, row->what);
			if (row->metrics != 0) {
				TEST_ROW(client_get(&client, "/healthz") == 200, row->what);
				TEST_ROW(client_get(&client, "/readyz") == 200, row->what);
				TEST_ROW(strcmp(body(&client), "ready\n") == 0, row->what);
				rt_check_failed(&f.check, "10.1.2.3 is away");
				TEST_ROW(client_get(&client, "/readyz") == 503, row->what);
				TEST_ROW(strcmp(body(&client), row->ready) == 0, row->what);
			}
		}
		client_close(&client);
		if (i + 1 < RT_LENGTH(rows) * RT_LENGTH(versions_of))
			teardown();
	}
}

static bool says_refused(void)
{
	return strstr(logged, "certificate or key cannot be used") != NULL;
}

static bool says_read(void)
{
	return strstr(logged, "certificates read") != NULL;
}

static bool connects(const char *authority)
{
	struct client client;
	bool good = client_connect(&client, NULL, authority, TLS1_2_VERSION, TLS1_3_VERSION) &&
		    client_get(&client, "/metrics") == 200;

	client_close(&client);
	return good;
}

static void new_files_are_used(void)
{
	struct client old;

	certificates_copy(folder, "server.crt", "own.crt");
	certificates_copy(folder, "server.key", "own.key");
	serve("own", NULL, true);
	CU_ASSERT(client_connect(&old, NULL, "ca", TLS1_2_VERSION, TLS1_3_VERSION));
	CU_ASSERT_EQUAL(client_get(&old, "/metrics"), 200);
	logged[0] = '\0';
	certificates_copy(folder, "stranger.key", "own.key"); /* which does not fit */
	run_until_so(f.loop, says_refused);
	CU_ASSERT(connects("ca"));
	logged[0] = '\0';
	certificates_copy(folder, "stranger.crt", "own.crt");
	run_until_so(f.loop, says_read);
	CU_ASSERT_FALSE(connects("ca"));
	CU_ASSERT(connects("other-ca"));
	/* What was open goes on. */
	CU_ASSERT_EQUAL(client_get(&old, "/metrics"), 200);
	logged[0] = '\0';
	certificates_issue(folder, "ca", "own", NAMES, 10);
	run_until_so(f.loop, says_read);
	CU_ASSERT(connects("ca"));
	CU_ASSERT_EQUAL(client_get(&old, "/metrics"), 200);
	client_close(&old);
}

/* Far more than there may be at once: some say nothing, some stop in the handshake, some ask for nothing, some for
 * a byte now and then. Others do not wait for them. */
static void idle_connections(void)
{
	static const char half[] = "\x16\x03\x01\x02\x00\x01\x00";
	struct client *done[40];
	int fds[160];

	serve("server", "ca", true);
	for (size_t i = 0; i < RT_LENGTH(fds); i++) {
		fds[i] = loopback_connect(rt_admin_port(f.admin));
		if (i % 2 == 0)
			CU_ASSERT(send(fds[i], half, sizeof(half) - 1, MSG_NOSIGNAL) > 0);
		if (i % 20 == 0)
			CU_ASSERT(connects("ca") ==
				  false); /* it has no certificate, but an answer */
	}
	for (size_t i = 0; i < RT_LENGTH(done); i++) {
		done[i] = rt_alloc(sizeof(*done[i]));
		CU_ASSERT(client_connect(done[i], "client", "ca", TLS1_2_VERSION, TLS1_3_VERSION));
		if (i % 2 == 0)
			CU_ASSERT(SSL_write(done[i]->ssl, "GET /met", 8) == 8);
	}
	for (int i = 0; i < 3; i++) {
		struct client client;

		CU_ASSERT(client_connect(&client, "client", "ca", TLS1_2_VERSION, TLS1_3_VERSION));
		CU_ASSERT_EQUAL(client_get(&client, "/metrics"), 200);
		client_close(&client);
	}
	for (size_t i = 0; i < RT_LENGTH(done); i++) {
		client_close(done[i]);
		free(done[i]);
	}
	for (size_t i = 0; i < RT_LENGTH(fds); i++)
		close(fds[i]);
}

static const struct test tests[] = {
	{ "TLS 1.2 and 1.3, nothing before", versions },
	{ "old ciphers are refused", old_ciphers },
	{ "who may see what", who_may_see_what },
	{ "new files are used, and open connections go on", new_files_are_used },
	{ "idle connections keep nobody out", idle_connections },
};

int main(void)
{
	int failed;

	signal(SIGPIPE, SIG_IGN);
	if (mkdtemp(folder) == NULL)
		return 1;
	rt_log_sink(keep_log, NULL);
	failed = tests_run_each("admin_tls", setup, teardown, tests, RT_LENGTH(tests));
	certificates_remove(folder);
	return failed;
}
