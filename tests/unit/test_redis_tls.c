/* test_redis_tls.c - TLS to a real redis-server, and to servers that misbehave: whose certificate is accepted, what is
 * said about one that is not, and files that are replaced. */
#include "redis/redis.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "certificates.h"
#include "loopback.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"

#define OPS 64

struct op {
	struct rt_redis_op op;
	int status, type;
	long long integer;
	size_t length;
	char text[128];
};
static struct fixture {
	struct rt_loop *loop;
	struct rt_redis *redis;
	struct rt_redis_tls *tls;
	struct op ops[OPS];
	int ends, ups, downs;
} f;

static struct redis_server server; /* with TLS at the port below, plain at its own */
static int tls_port;
static char folder[] = "/tmp/tandem-tls-XXXXXX";
static char lines[16384]; /* logged */
static int64_t timeout_ms = 10000;

static void keep_line(const char *line, void *user)
{
	size_t length = strlen(lines);

	(void)user;
	snprintf(lines + length, sizeof(lines) - length, "%s\n", line);
}

static int logged(const char *what)
{
	int count = 0;

	for (const char *p = lines; (p = strstr(p, what)) != NULL; p++)
		count++;
	return count;
}

/* A file of the folder; kept until the eighth call after. */
static const char *file(const char *name)
{
	static char paths[8][96];
	static int next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return name[0] == '\0' ? "" : path;
}

static void on_state(struct rt_redis *redis, bool up, void *user)
{
	(void)redis;
	(void)user;
	*(up ? &f.ups : &f.downs) += 1;
}

static void op_done(struct rt_redis_op *base, int status, const redisReply *reply)
{
	struct op *op = RT_CONTAINER_OF(base, struct op, op);

	op->status = status;
	op->type = reply != NULL ? reply->type : 0;
	op->integer = reply != NULL ? reply->integer : 0;
	op->length = reply != NULL ? reply->len : 0;
	snprintf(op->text, sizeof(op->text), "%s",
		 reply != NULL && reply->str != NULL ? reply->str : "");
	f.ends++;
}

static void tls_begin(const char *ca, const char *client)
{
	char certificate[64], key[64], error[RT_REDIS_TLS_ERROR] = "";
	bool has = client[0] != '\0';

	snprintf(certificate, sizeof(certificate), "%s%s", client, has ? ".crt" : "");
	snprintf(key, sizeof(key), "%s%s", client, has ? ".key" : "");
	CU_ASSERT_EQUAL_FATAL(
		rt_redis_tls_new(
			&(struct rt_redis_tls_files){ file(ca), file(certificate), file(key) },
			&f.tls, error),
		RT_OK);
}

static void end(void)
{
	rt_redis_free(RT_TAKE(f.redis));
	rt_redis_tls_free(RT_TAKE(f.tls));
	rt_loop_free(RT_TAKE(f.loop));
	rt_log_sink(tests_no_line, NULL);
}

/* A connection to a port, as this client; NULL: without TLS. */
static void begin(const char *host, int port, const char *ca, const char *client)
{
	struct rt_redis_options options = {
		.host = host,
		.port = port,
		.timeout_ms = timeout_ms,
		.on_state = on_state,
		.log_trouble = true,
	};

	end();
	f = (struct fixture){ .ends = 0 };
	lines[0] = '\0';
	rt_log_sink(keep_line, NULL);
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	if (ca != NULL)
		tls_begin(ca, client);
	options.tls = f.tls;
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &options, &f.redis) == RT_OK);
}

static void begin_up(const char *host, int port, const char *ca, const char *client)
{
	begin(host, port, ca, client);
	run_until_count(f.loop, &f.ups, 1);
}

static bool has_trouble(void)
{
	return logged("Redis cannot be used") + logged("Redis is away") > 0;
}

/* The connection does not come up: the reason, and what the log says to do. */
static void fails(const char *row, const char *reason, const char *fix)
{
	run_until_so(f.loop, has_trouble);
	TEST_ROW(f.ups == 0, row);
	TEST_ROW(strstr(lines, reason) != NULL, row);
	TEST_ROW(strstr(lines, fix) != NULL, row);
	if (strstr(lines, reason) == NULL || strstr(lines, fix) == NULL)
		printf("\n    said: %s", lines);
}

static void send_words(int i, const char *words)
{
	struct rt_args args = { .count = 0 };

	while (*words != '\0') {
		size_t length = strcspn(words, " ");

		rt_args_add(&args, words, length);
		words += length + strspn(words + length, " ");
	}
	rt_redis_send(f.redis, &f.ops[i].op, &args, 0, op_done);
	rt_args_done(&args);
}

static const struct op *ask(const char *words)
{
	int i = f.ends;

	send_words(i, words);
	run_until_count(f.loop, &f.ends, i + 1);
	return &f.ops[i];
}

/* ---- what works ---- */

static void commands(void)
{
	begin_up("127.0.0.1", tls_port, "ca.crt", "client");
	CU_ASSERT_STRING_EQUAL(rt_redis_error(f.redis), "");
	for (int i = 0; i < 50; i++)
		send_words(i, "INCR n");
	run_until_count(f.loop, &f.ends, 50);
	for (int i = 0; i < 50; i++)
		CU_ASSERT_EQUAL(f.ops[i].integer, i + 1);
	CU_ASSERT_EQUAL(ask("ECHO hello")->status, RT_OK);
	CU_ASSERT_STRING_EQUAL(f.ops[50].text, "hello");
	CU_ASSERT_EQUAL(f.downs, 0);
}

/* More than a record, and than the kernel's buffers take. */
static void large(void)
{
	enum { LENGTH = 24 << 20 };
	char *value = rt_alloc(LENGTH);
	struct rt_args args = { .count = 0 };

	begin_up("127.0.0.1", tls_port, "ca.crt", "client");
	memset(value, 'x', LENGTH);
	rt_args_str(&args, "SET");
	rt_args_str(&args, "large");
	rt_args_add(&args, value, LENGTH);
	rt_redis_send(f.redis, &f.ops[0].op, &args, 10000, op_done);
	rt_args_done(&args);
	free(value);
	send_words(1, "GET large");
	send_words(2, "STRLEN large");
	run_until_count(f.loop, &f.ends, 3);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_OK);
	CU_ASSERT_EQUAL(f.ops[1].length, LENGTH);
	CU_ASSERT_EQUAL(f.ops[2].integer, LENGTH);
	redis_server_do(&server, "DEL large");
}

/* ---- servers made for a test ---- */

static SSL_CTX *server_context(const char *certificate)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	char key[64];

	snprintf(key, sizeof(key), "%s.key", certificate);
	if (SSL_CTX_use_PrivateKey_file(context, file(key), SSL_FILETYPE_PEM) != 1)
		_exit(2);
	snprintf(key, sizeof(key), "%s.crt", certificate);
	if (SSL_CTX_use_certificate_chain_file(context, file(key)) != 1)
		_exit(2);
	return context;
}

static int key_updates; /* that the client sent */

static void on_message(int sent, int version, int type, const void *data, size_t length, SSL *ssl,
		       void *user)
{
	(void)version;
	(void)ssl;
	(void)user;
	if (!sent && type == SSL3_RT_HANDSHAKE && length > 0 &&
	    *(const unsigned char *)data == SSL3_MT_KEY_UPDATE)
		key_updates++;
}

/* PINGs are answered, COUNTs by the number of key updates seen; each time new keys are asked for. */
static void answer_with_new_keys(int peer)
{
	SSL_CTX *context = server_context("good");
	SSL *ssl = SSL_new(context);
	char request[256], answer[64];
	int length;

	SSL_set_msg_callback(ssl, on_message);
	SSL_set_fd(ssl, peer);
	if (SSL_accept(ssl) != 1)
		_exit(1);
	while ((length = SSL_read(ssl, request, sizeof(request) - 1)) > 0) {
		request[length] = '\0';
		if (strstr(request, "PING") != NULL)
			snprintf(answer, sizeof(answer), "+PONG\r\n");
		else
			snprintf(answer, sizeof(answer), ":%d\r\n", key_updates);
		if (SSL_write(ssl, answer, (int)strlen(answer)) <= 0)
			break;
		SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED);
		if (SSL_do_handshake(ssl) != 1)
			break;
	}
	_exit(0);
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void new_keys(void)
{
	int port;
	pid_t pid = redis_server_fake(&port, answer_with_new_keys);

	begin_up("127.0.0.1", port, "ca.crt", "");
	(void)ask("COUNT");
	(void)ask("COUNT");
	CU_ASSERT(ask("COUNT")->integer >= 2);
	CU_ASSERT_EQUAL(f.downs, 0);
	stop(pid);
}

/* Bytes go one by one to Redis and back. */
static void trickle(int peer)
{
	int redis = loopback_connect(tls_port);
	struct pollfd both[2] = { { .fd = peer, .events = POLLIN },
				  { .fd = redis, .events = POLLIN } };
	char byte;

	while (poll(both, 2, -1) > 0) {
		for (int i = 0; i < 2; i++) {
			if (both[i].revents == 0)
				continue;
			if (read(both[i].fd, &byte, 1) != 1 || write(both[1 - i].fd, &byte, 1) != 1)
				_exit(0);
		}
	}
}

static void byte_by_byte(void)
{
	int port;
	pid_t pid = redis_server_fake(&port, trickle);

	begin_up("127.0.0.1", port, "ca.crt", "client");
	CU_ASSERT_STRING_EQUAL(ask("ECHO hello")->text, "hello");
	stop(pid);
}

/* ---- certificates ---- */

/* Redis takes this certificate for new connections. */
static void serve_with(const char *name)
{
	char certificate[64], key[64];

	snprintf(certificate, sizeof(certificate), "%s.crt", name);
	snprintf(key, sizeof(key), "%s.key", name);
	redis_server_do(&server, "CONFIG SET tls-cert-file %s tls-key-file %s", file(certificate),
			file(key));
}

static void names(void)
{
	static const struct {
		const char *host, *server, *ca, *reason, *fix;
	} rows[] = {
		{ "127.0.0.1", "good", "ca.crt", NULL, NULL },
		{ "localhost", "good", "ca.crt", NULL, NULL },
		{ "127.0.0.1", "good", "both.crt", NULL, NULL },
		{ "127.0.0.1", "elsewhere", "ca.crt",
		  "TLS: the server's certificate is refused: IP address mismatch",
		  "must name the host" },
		{ "localhost", "elsewhere", "ca.crt",
		  "TLS: the server's certificate is refused: hostname mismatch",
		  "must name the host" },
		{ "localhost", "address", "ca.crt",
		  "TLS: the server's certificate is refused: hostname mismatch",
		  "must name the host" },
		{ "127.0.0.1", "expired", "ca.crt",
		  "TLS: the server's certificate is refused: certificate has expired",
		  "renew the" },
		{ "127.0.0.1", "early", "ca.crt",
		  "TLS: the server's certificate is refused: certificate is not yet valid",
		  "set this machine's clock" },
		{ "127.0.0.1", "good", "other.crt", "TLS: the server's certificate is refused: ",
		  "of a CA in the file of --redis-tls-ca" },
		{ "127.0.0.1", "good", "", "TLS: the server's certificate is refused: ",
		  "of a CA in the file of --redis-tls-ca" },
		{ "127.0.0.1", "own", "ca.crt",
		  "TLS: the server's certificate is refused: self-signed certificate",
		  "of a CA in the file of --redis-tls-ca" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char row[120];

		snprintf(row, sizeof(row), "%s at %s, %s", rows[i].server, rows[i].host,
			 rows[i].ca);
		serve_with(rows[i].server);
		if (rows[i].reason == NULL) {
			begin_up(rows[i].host, tls_port, rows[i].ca, "client");
			TEST_ROW(!has_trouble(), row);
			continue;
		}
		begin(rows[i].host, tls_port, rows[i].ca, "client");
		fails(row, rows[i].reason, rows[i].fix);
	}
	serve_with("good");
}

/* Redis asks for a certificate. */
static void clients(void)
{
	begin("127.0.0.1", tls_port, "ca.crt", "");
	fails("none", "TLS: ", "set --redis-tls-cert and --redis-tls-key");
	begin("127.0.0.1", tls_port, "ca.crt", "stranger");
	fails("of another CA", "TLS: ", "set --redis-tls-cert and --redis-tls-key");
	begin_up("127.0.0.1", tls_port, "ca.crt", "client");
}

/* ---- protocols ---- */

static void answer_oldly(int peer)
{
	SSL_CTX *context = server_context("good");
	SSL *ssl;

	SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
	SSL_CTX_set_max_proto_version(context, TLS1_1_VERSION);
	SSL_CTX_set_security_level(context, 0);
	ssl = SSL_new(context);
	SSL_set_fd(ssl, peer);
	(void)SSL_accept(ssl);
	SSL_free(ssl);
	SSL_CTX_free(context);
}

static void answer_tls12(int peer)
{
	SSL_CTX *context = server_context("good");
	SSL *ssl;
	char request[256];

	SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
	ssl = SSL_new(context);
	SSL_set_fd(ssl, peer);
	if (SSL_accept(ssl) != 1)
		_exit(1);
	while (SSL_read(ssl, request, sizeof(request)) > 0)
		if (SSL_write(ssl, "+PONG\r\n", 7) <= 0)
			break;
	_exit(0);
}

static void answer_http(int peer)
{
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	char request[1024];

	/* Read first: unread bytes would reset the connection. */
	if (read(peer, request, sizeof(request)) < 0 || write(peer, answer, sizeof(answer) - 1) < 0)
		_exit(1);
}

static void answer_by_closing(int peer)
{
	char request[1024];

	if (read(peer, request, sizeof(request)) < 0)
		_exit(1);
}

static void answer_never(int peer)
{
	char request[1024];

	while (read(peer, request, sizeof(request)) > 0)
		;
}

static void answer_unasked(int peer)
{
	SSL_CTX *context = server_context("good");
	SSL *ssl = SSL_new(context);

	SSL_set_fd(ssl, peer);
	if (SSL_accept(ssl) != 1 || SSL_write(ssl, "220 mail\r\n", 10) != 10)
		_exit(1);
	answer_never(peer);
}

static void other_servers(void)
{
	static const struct {
		const char *name;
		void (*answer)(int peer);
		const char *reason, *fix;
	} rows[] = {
		{ "HTTP", answer_http, "TLS: the server speaks no TLS", "redis://" },
		{ "closes", answer_by_closing, "TLS: closed by the server in the handshake",
		  "Redis's log says why" },
		{ "silent", answer_never, "TLS: no answer in time", "may speak no TLS" },
		{ "TLS 1.1", answer_oldly, "TLS: tlsv1 alert protocol version",
		  "TLS 1.2 or newer" },
		{ "mail", answer_unasked, "not Redis's protocol", "is not Redis" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int port;
		pid_t pid = redis_server_fake(&port, rows[i].answer);

		timeout_ms = rows[i].answer == answer_never ? 300 : 10000;
		begin("127.0.0.1", port, "ca.crt", "client");
		fails(rows[i].name, rows[i].reason, rows[i].fix);
		timeout_ms = 10000;
		stop(pid);
	}
}

static void tls12(void)
{
	int port;
	pid_t pid = redis_server_fake(&port, answer_tls12);

	begin_up("127.0.0.1", port, "ca.crt", "");
	CU_ASSERT_EQUAL(ask("PING")->status, RT_OK);
	stop(pid);
}

/* TLS at the plain port, and none at that of TLS. */
static void wrong_ports(void)
{
	begin("127.0.0.1", server.port, "ca.crt", "client");
	fails("TLS to a plain Redis", "TLS: ", "no TLS");
	begin("127.0.0.1", tls_port, NULL, "");
	fails("plain to a Redis with TLS", "", "if it has TLS there, set rediss://");
}

/* ---- files ---- */

static void bad_files(void)
{
	static const struct {
		const char *ca, *certificate, *key, *reason;
	} rows[] = {
		{ "none.crt", "", "", "none.crt: No such file or directory" },
		{ "good.key", "", "", "good.key: " }, /* no certificate is in it */
		{ "ca.crt", "none.crt", "client.key", "none.crt: No such file or directory" },
		{ "ca.crt", "client.crt", "none.key", "none.key: No such file or directory" },
		{ "ca.crt", "client.crt", "good.key",
		  "good.key: it is not the key of the certificate" },
		{ "ca.crt", "client.crt", "client.crt",
		  "client.crt: there is no private key in it" },
		{ "ca.crt", "client.crt", "locked.key", "without a passphrase" },
		{ "ca.crt", "client.crt", "open.key", "open.key has mode 0640" },
		{ "shared.crt", "", "", "shared.crt has mode 0664" },
		{ "ca.crt", "shared.crt", "client.key", "shared.crt has mode 0664" },
		{ "ca.crt", "client.crt", "", "--redis-tls-key is missing" },
		{ "ca.crt", "", "client.key", "--redis-tls-cert is missing" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const struct rt_redis_tls_files files = { file(rows[i].ca),
							  file(rows[i].certificate),
							  file(rows[i].key) };
		char error[RT_REDIS_TLS_ERROR] = "";
		struct rt_redis_tls *tls = NULL;

		TEST_ROW(rt_redis_tls_new(&files, &tls, error) != RT_OK && tls == NULL,
			 rows[i].reason);
		TEST_ROW(strstr(error, rows[i].reason) != NULL, error);
	}
	rt_redis_tls_free(NULL);
}

static void replace(const char *from, const char *to)
{
	char path[96];

	snprintf(path, sizeof(path), "%s", file(to));
	(void)unlink(path);
	CU_ASSERT_EQUAL(link(file(from), path), 0);
}

static void reconnect(void)
{
	rt_redis_reset(f.redis);
}

/* A connection stays when files are replaced, and the next one uses what is there then. */
static void replaced_files(void)
{
	replace("ca.crt", "current.crt");
	begin_up("127.0.0.1", tls_port, "current.crt", "client");

	/* The server's certificate is of another CA now, which is not trusted yet. */
	serve_with("renewed");
	CU_ASSERT_EQUAL(ask("PING")->status, RT_OK);
	CU_ASSERT_EQUAL(f.downs, 0);
	reconnect();
	run_until_so(f.loop, has_trouble);
	CU_ASSERT_EQUAL(f.ups, 1);
	replace("other.crt", "current.crt");
	run_until_count(f.loop, &f.ups, 2);
	CU_ASSERT_EQUAL(logged("the files for TLS to Redis have changed and were read again"), 1);

	/* What cannot be used changes nothing. */
	replace("good.key", "current.crt");
	reconnect();
	run_until_count(f.loop, &f.ups, 3);
	CU_ASSERT_EQUAL(logged("those that were read before still are"), 1);
	serve_with("good");
}

/* Between the replacing of a key and its certificate they do not fit. */
static void replaced_key(void)
{
	replace("client.crt", "current.crt");
	replace("client.key", "current.key");
	begin_up("127.0.0.1", tls_port, "ca.crt", "current");
	replace("second.key", "current.key");
	reconnect();
	run_until_count(f.loop, &f.ups, 2);
	CU_ASSERT_EQUAL(logged("it is not the key of the certificate"), 1);
	replace("second.crt", "current.crt");
	reconnect();
	run_until_count(f.loop, &f.ups, 3);
	CU_ASSERT_EQUAL(logged("the files for TLS to Redis have changed and were read again"), 1);
}

/* ---- */

static void copy_both(void)
{
	FILE *both = fopen(file("both.crt"), "w");

	for (int i = 0; i < 2; i++) {
		FILE *one = fopen(file(i == 0 ? "other.crt" : "ca.crt"), "r");
		char text[4096];
		size_t length = fread(text, 1, sizeof(text), one);

		fwrite(text, 1, length, both);
		fclose(one);
	}
	fclose(both);
}

/* A key of P-256 under the passphrase "secret". */
static const char locked[] = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
			     "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiTQazq36LqFwICCAAw\n"
			     "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEPf9kyICUQkslXreDNUSKqkEgZDK\n"
			     "i8NjKeQrQjG7Ye8g7/3gkFzNvLvQcPYiRNWz2Q7BMCnReNjuvvrnlO/venYIo7Fx\n"
			     "AcwACQr7BNL+err5FGhesaMFQw9OxScAVxFAdXXhCKEPx3QGE61AmrATd3Days+L\n"
			     "xT14hh4SHHllENtabPnkaXJFuPBIemQowIW9ibVh6Kn/aTAAuMBpXeH8oT81EcQ=\n"
			     "-----END ENCRYPTED PRIVATE KEY-----\n";

static void make_files(void)
{
	static const char here[] = "DNS:localhost,IP:127.0.0.1";
	static const struct {
		const char *authority, *name, *names;
		int from_days, days;
	} wanted[] = {
		{ "ca", "good", here, -1, 1 },
		{ "ca", "address", "IP:127.0.0.1", -1, 1 },
		{ "ca", "elsewhere", "DNS:redis,IP:127.0.0.2", -1, 1 },
		{ "ca", "expired", here, -2, -1 },
		{ "ca", "early", here, 1, 2 },
		{ "other", "renewed", here, -1, 1 },
		{ "ca", "client", NULL, -1, 1 },
		{ "ca", "second", NULL, -1, 1 },
		{ "other", "stranger", NULL, -1, 1 },
		{ "ca", "open", NULL, -1, 1 },
	};
	FILE *key;

	if (mkdtemp(folder) == NULL)
		abort();
	certificates_authority(folder, "ca");
	certificates_authority(folder, "other");
	certificates_authority(folder, "own");
	for (size_t i = 0; i < RT_LENGTH(wanted); i++)
		certificates_issue_from(folder, wanted[i].authority, wanted[i].name,
					wanted[i].names, wanted[i].from_days, wanted[i].days);
	key = fopen(file("locked.key"), "w");
	if (key == NULL)
		abort();
	fputs(locked, key);
	fclose(key);
	copy_both();
	certificates_copy(folder, "client.crt", "shared.crt");
	if (chmod(file("shared.crt"), 0664) != 0)
		abort();
	if (chmod(file("locked.key"), 0600) != 0 || chmod(file("open.key"), 0640) != 0 ||
	    chmod(file("both.crt"), 0644) != 0)
		abort();
}

static void start_server(void)
{
	char port[16];

	close(loopback_listen(0, &tls_port));
	snprintf(port, sizeof(port), "%d", tls_port);
	redis_server_start(&server,
			   (const char *[]){ "--tls-port", port, "--tls-cert-file",
					     file("good.crt"), "--tls-key-file", file("good.key"),
					     "--tls-ca-cert-file", file("ca.crt"), NULL });
}

static void setup(void)
{
	redis_server_do(&server, "FLUSHALL");
}

static const struct test tests[] = {
	{ "commands", commands },
	{ "large commands and answers", large },
	{ "new keys", new_keys },
	{ "bytes that come one by one", byte_by_byte },
	{ "whose certificate is accepted", names },
	{ "certificates of clients", clients },
	{ "servers that are something else", other_servers },
	{ "TLS 1.2", tls12 },
	{ "ports with and without TLS", wrong_ports },
	{ "files that cannot be used", bad_files },
	{ "replaced files", replaced_files },
	{ "a key that is replaced before its certificate", replaced_key },
};

int main(void)
{
	int rc;

	rt_file_allow_dumps();
	make_files();
	start_server();
	rc = tests_run_each("redis_tls", setup, end, tests, RT_LENGTH(tests));
	redis_server_done(&server);
	certificates_remove(folder);
	return rc;
}
