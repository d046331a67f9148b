/* TLS between a channel and a server: who is accepted, and what happens when files change under them. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "certificates.h"
#include "grpc/health/v1/health.pb-c.h"
#include "rpc/rpc.h"
#include "run.h"
#include "run_until.h"

#define NAMES "DNS:localhost,IP:127.0.0.1"

static char folder[] = "/tmp/tandem-tls-XXXXXX";
static char logged[4096];

static struct {
	struct rt_loop *loop;
	struct rt_metrics *metrics;
	struct rt_tls *server_tls, *channel_tls;
	struct rt_server *server;
	struct rt_channel *channel;
	ProtobufCService *client;
	char address[64];
	int freed, drained;
} world;

static void keep_log(const char *line, void *user)
{
	size_t length = strlen(logged);

	(void)user;
	snprintf(logged + length, sizeof(logged) - length, "%s\n", line);
}

static const char *path(const char *name)
{
	static char paths[8][128];
	static size_t next;
	char *text = paths[next++ % RT_LENGTH(paths)];

	text[0] = '\0';
	if (name != NULL)
		snprintf(text, sizeof(paths[0]), "%s/%s", folder, name);
	return text;
}

static void setup(void)
{
	memset(&world, 0, sizeof(world));
	logged[0] = '\0';
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	world.metrics = rt_metrics_new();
	certificates_authority(folder, "ca");
	certificates_authority(folder, "other-ca");
	certificates_issue(folder, "ca", "server", NAMES, 30);
	certificates_issue(folder, "ca", "client", NAMES, 30);
	certificates_issue(folder, "other-ca", "stranger", NAMES, 30);
	certificates_issue(folder, "ca", "late", NAMES, 0);
	certificates_issue(folder, "ca", "misnamed", "DNS:elsewhere", 30);
}

static void teardown(void)
{
	if (world.client != NULL)
		rt_client_free(world.client);
	if (world.channel != NULL) {
		rt_channel_free(world.channel, tests_count, &world.freed);
		run_until_count(world.loop, &world.freed, 1);
	}
	if (world.server != NULL) {
		rt_server_drain(world.server, 5000, tests_count, &world.drained);
		run_until_count(world.loop, &world.drained, 1);
		rt_server_free(world.server);
	}
	rt_tls_free(world.server_tls);
	rt_tls_free(world.channel_tls);
	run_for(world.loop, 0);
	rt_metrics_free(world.metrics);
	rt_loop_free(world.loop);
}

static int tls_new(const char *name, const char *authorities, bool required, struct rt_tls **ret)
{
	char certificate[64], key[64];
	struct rt_tls_options options = {
		.required = required,
		.metrics = world.metrics,
		.purpose = "test",
		.authorities = path(authorities),
		.certificate = path(NULL),
		.key = path(NULL),
	};

	if (name != NULL) {
		snprintf(certificate, sizeof(certificate), "%s.crt", name);
		snprintf(key, sizeof(key), "%s.key", name);
		options.certificate = path(certificate);
		options.key = path(key);
	}
	return rt_tls_new(world.loop, &options, ret);
}

static void serve(const char *name, const char *authorities, bool required)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0", .metrics = world.metrics };

	CU_ASSERT_EQUAL_FATAL(tls_new(name, authorities, required, &world.server_tls), RT_OK);
	options.tls = world.server_tls;
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world.loop, &options, &world.server), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(world.server), RT_OK);
	snprintf(world.address, sizeof(world.address), "127.0.0.1:%d",
		 rt_server_port(world.server));
}

static void connect_as(const char *name, const char *authorities)
{
	struct rt_channel_options options = { .metrics = world.metrics };

	CU_ASSERT_EQUAL_FATAL(tls_new(name, authorities, false, &world.channel_tls), RT_OK);
	options.tls = world.channel_tls;
	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world.loop, world.address, &options, &world.channel),
			      RT_OK);
	world.client = rt_client_new(world.channel, &grpc__health__v1__health__descriptor);
}

/* ---- a call ---- */

struct probe {
	struct rt_client_op op;
	int done, code, messages;
	char message[300];
};

static void probe_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);

	(void)response;
	probe->done++;
	probe->code = op->status.code;
	snprintf(probe->message, sizeof(probe->message), "%s",
		 op->status.message != NULL ? op->status.message : "");
	rt_loop_stop(world.loop);
}

static void probe_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	(void)message;
	RT_CONTAINER_OF(op, struct probe, op)->messages++;
	rt_loop_stop(world.loop);
}

/* The code with which Check ends. */
static int check(struct probe *probe)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	*probe = (struct probe){ .op = { .timeout_ms = 10000, .done = probe_done } };
	rt_client_start(world.client, 0, &request.base, &probe->op);
	run_until_count(world.loop, &probe->done, 1);
	return probe->code;
}

/* ---- who is accepted ---- */

static void those_that_fit_talk(void)
{
	static const struct row {
		const char *name, *client, *server_trusts, *client_trusts, *server;
		bool required;
		int code;
	} rows[] = {
		{ "server alone", NULL, NULL, "ca.crt", "server", false, 0 },
		{ "both", "client", "ca.crt", "ca.crt", "server", true, 0 },
		{ "asked, none given", NULL, "ca.crt", "ca.crt", "server", false, 0 },
		{ "required, none given", NULL, "ca.crt", "ca.crt", "server", true,
		  RT_CODE_UNAVAILABLE },
		{ "asked, by another authority", "stranger", "ca.crt", "ca.crt", "server", false,
		  RT_CODE_UNAVAILABLE },
		{ "expired client", "late", "ca.crt", "ca.crt", "server", false,
		  RT_CODE_UNAVAILABLE },
		{ "server by another authority", NULL, NULL, "other-ca.crt", "server", false,
		  RT_CODE_UNAVAILABLE },
		{ "expired server", NULL, NULL, "ca.crt", "late", false, RT_CODE_UNAVAILABLE },
		{ "server of another name", NULL, NULL, "ca.crt", "misnamed", false,
		  RT_CODE_UNAVAILABLE },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const struct row *row = &rows[i];
		struct probe probe;

		if (i > 0)
			setup();
		serve(row->server, row->server_trusts, row->required);
		connect_as(row->client, row->client_trusts);
		TEST_ROW(check(&probe) == row->code, row->name);
		if (i + 1 < RT_LENGTH(rows))
			teardown();
	}
}

static void plain_and_encrypted_do_not_talk(void)
{
	struct rt_channel_options options = { 0 };
	struct probe probe;

	serve("server", NULL, false);
	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world.loop, world.address, &options, &world.channel),
			      RT_OK);
	world.client = rt_client_new(world.channel, &grpc__health__v1__health__descriptor);
	CU_ASSERT_EQUAL(check(&probe), RT_CODE_UNAVAILABLE);
}

/* ---- files ---- */

static void write_text(const char *name, const char *text, mode_t mode)
{
	FILE *file = fopen(path(name), "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fputs(text, file);
	CU_ASSERT_EQUAL(fchmod(fileno(file), mode), 0);
	fclose(file);
}

static void copy(const char *from, const char *to)
{
	certificates_copy(folder, from, to);
}

static void what_cannot_be_used_is_refused(void)
{
	struct rt_tls *tls = NULL;

	copy("server.crt", "mixed.crt");
	copy("client.key", "mixed.key");
	CU_ASSERT_EQUAL(tls_new("mixed", NULL, false, &tls), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "does not belong to the certificate"));
	copy("server.crt", "open.crt");
	copy("server.key", "open.key");
	CU_ASSERT_EQUAL(chmod(path("open.key"), 0640), 0);
	CU_ASSERT_EQUAL(tls_new("open", NULL, false, &tls), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "open.key has mode 0640"));
	CU_ASSERT_EQUAL(chmod(path("open.key"), 0600), 0);
	CU_ASSERT_EQUAL(chmod(path("open.crt"), 0666), 0);
	CU_ASSERT_EQUAL(tls_new("open", NULL, false, &tls), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "open.crt has mode 0666: others may write it"));
	write_text("empty.crt", "", 0600);
	write_text("empty.key", "", 0600);
	CU_ASSERT_EQUAL(tls_new("empty", NULL, false, &tls), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "empty.crt holds no certificate"));
	CU_ASSERT_EQUAL(tls_new("absent", NULL, false, &tls), RT_SYSTEM);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, "absent.crt: No such file"));
	CU_ASSERT_EQUAL(tls_new("server", "empty.crt", false, &tls), RT_INVALID);
	CU_ASSERT_PTR_NULL(tls);
}

static bool logged_twice(void)
{
	const char *first = strstr(logged, "certificates read");

	return first != NULL && strstr(first + 1, "certificates read") != NULL;
}

static bool refused(void)
{
	return strstr(logged, "certificate or key cannot be used") != NULL;
}

static struct probe watching;
static bool watching_hears(void)
{
	return watching.messages > 0;
}

static void watch_health(void)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;

	watching = (struct probe){ .op = { .on_message = probe_message, .done = probe_done } };
	rt_client_start(world.client, 1, &request.base, &watching.op);
	run_until_so(world.loop, watching_hears);
}

/* A new channel has to trust what the server shows now. */
static int check_anew(const char *authorities)
{
	struct rt_tls *tls = NULL;
	struct rt_channel *channel;
	ProtobufCService *before = world.client;
	struct probe probe;
	int freed = 0, code;

	CU_ASSERT_EQUAL_FATAL(tls_new(NULL, authorities, false, &tls), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world.loop, world.address,
					     &(struct rt_channel_options){ .tls = tls }, &channel),
			      RT_OK);
	world.client = rt_client_new(channel, &grpc__health__v1__health__descriptor);
	code = check(&probe);
	rt_client_free(world.client);
	world.client = before;
	rt_channel_free(channel, tests_count, &freed);
	run_until_count(world.loop, &freed, 1);
	rt_tls_free(tls);
	return code;
}

static void a_server_uses_new_files(void)
{
	copy("server.crt", "own.crt");
	copy("server.key", "own.key");
	serve("own", NULL, false);
	connect_as(NULL, "ca.crt");
	watch_health();
	logged[0] = '\0';
	/* Bad ones first: nothing changes. */
	write_text("own.crt", "no certificate", 0600);
	run_until_so(world.loop, refused);
	CU_ASSERT_EQUAL(check_anew("ca.crt"), 0);
	copy("stranger.key", "own.key");
	copy("stranger.crt", "own.crt");
	logged[0] = '\0';
	keep_log("certificates read", NULL); /* the first of two */
	run_until_so(world.loop, logged_twice);
	CU_ASSERT_EQUAL(check_anew("ca.crt"), RT_CODE_UNAVAILABLE);
	CU_ASSERT_EQUAL(check_anew("other-ca.crt"), 0);
	CU_ASSERT_EQUAL(watching.done, 0); /* what was open goes on */
	rt_client_cancel(&watching.op);
	run_until_count(world.loop, &watching.done, 1);
}

static int64_t connections_made(void)
{
	return rt_channel_connections(world.channel);
}

static bool renewed(void)
{
	return connections_made() == 2 && !rt_channel_usable(world.channel, 1) &&
	       rt_channel_usable(world.channel, 2);
}

static void a_channel_renews_its_connections(void)
{
	struct probe probe;

	copy("client.crt", "mine.crt");
	copy("client.key", "mine.key");
	serve("server", "ca.crt", true);
	connect_as("mine", "ca.crt");
	CU_ASSERT_EQUAL(check(&probe), 0);
	watch_health();
	certificates_issue(folder, "ca", "mine", NAMES, 10);
	run_until_so(world.loop, renewed);
	CU_ASSERT_EQUAL(watching.done, 0); /* its connection waits for it */
	CU_ASSERT_EQUAL(check(&probe), 0);
	rt_client_cancel(&watching.op);
	run_until_count(world.loop, &watching.done, 1);
	CU_ASSERT_EQUAL(check(&probe), 0);
}

static bool has_read_them(void)
{
	return strstr(logged, "certificates read") != NULL;
}

static bool instance_is_usable(void)
{
	return rt_channel_usable(world.channel, 0);
}

static void a_refused_certificate_ends_nothing(void)
{
	struct probe probe;

	certificates_copy(folder, "client.crt", "mine.crt");
	certificates_copy(folder, "client.key", "mine.key");
	serve("server", "ca.crt", true);
	connect_as("mine", "ca.crt");
	rt_channel_check_health(world.channel, "", NULL, "test");
	run_until_so(world.loop, instance_is_usable);
	logged[0] = '\0';
	certificates_issue(folder, "other-ca", "mine", NAMES, 10);
	run_until_so(world.loop, has_read_them);
	/* So long that the new connections were tried, and asked for their health. */
	for (int i = 0; i < 10; i++) {
		run_for(world.loop, 100);
		CU_ASSERT_EQUAL(check(&probe), 0);
	}
}

static const struct test tests[] = {
	{ "those that fit talk, others do not", those_that_fit_talk },
	{ "plain and encrypted do not talk", plain_and_encrypted_do_not_talk },
	{ "what cannot be used is refused", what_cannot_be_used_is_refused },
	{ "a server uses new files, and open calls go on", a_server_uses_new_files },
	{ "a channel renews its connections, and open calls go on",
	  a_channel_renews_its_connections },
	{ "a certificate that is refused ends nothing", a_refused_certificate_ends_nothing },
};

int main(void)
{
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	rt_log_sink(keep_log, NULL);
	rt_rpc_init();
	failed = tests_run_each("tls", setup, teardown, tests, RT_LENGTH(tests));
	rt_rpc_shutdown();
	certificates_remove(folder);
	return failed;
}
