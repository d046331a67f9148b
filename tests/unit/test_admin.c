/* The operators' port: pages, readiness, refusals. */
#include "service/admin_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loopback.h"
#include "run.h"

/* Each test begins with a port that answers. */
static struct {
	struct rt_metrics *metrics;
	struct rt_readiness *readiness;
	struct rt_admin *admin;
	const char *answer; /* the last */
} f;

static int make(const char *listen, struct rt_admin **ret)
{
	return rt_admin_new(listen, NULL, f.metrics, f.readiness, ret);
}

static void setup(void)
{
	f.metrics = rt_metrics_new();
	f.readiness = rt_readiness_new();
	CU_ASSERT_EQUAL_FATAL(make("127.0.0.1:0", &f.admin), RT_OK);
	CU_ASSERT(rt_admin_port(f.admin) > 0);
	CU_ASSERT_EQUAL_FATAL(rt_admin_start(f.admin), RT_OK);
}

static void teardown(void)
{
	rt_admin_free(f.admin);
	rt_readiness_free(f.readiness);
	rt_metrics_free(f.metrics);
}

/* Keeps the answer; 0: it has no status, the connection was closed. */
static int status_of(const char *answer)
{
	int status = 0;

	f.answer = answer;
	return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

static int talk(int fd, const char *request)
{
	return status_of(loopback_ask(fd, request));
}

static int get(const char *path)
{
	return status_of(loopback_get(rt_admin_port(f.admin), path));
}

static const char *body(void)
{
	const char *end = strstr(f.answer, "\r\n\r\n");

	return end != NULL ? end + 4 : "";
}

static void pages(void)
{
	rt_series_add(rt_metric_plain(f.metrics, RT_COUNTER, "orders_total", "Orders."), 3);
	CU_ASSERT_EQUAL(get("/metrics"), 200);
	CU_ASSERT_PTR_NOT_NULL(
		strstr(f.answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8"));
	CU_ASSERT_STRING_EQUAL(body(), "# HELP orders_total Orders.\n"
				       "# TYPE orders_total counter\norders_total 3\n");
	CU_ASSERT_EQUAL(get("/healthz"), 200);
	CU_ASSERT_EQUAL(get("/metrics?x=1"), 200);
	CU_ASSERT_EQUAL(get("/"), 404);
	CU_ASSERT_EQUAL(get("/../metrics"), 404);
}

static void refusals(void)
{
	int port = rt_admin_port(f.admin);

	CU_ASSERT_EQUAL(talk(loopback_connect(port),
			     "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
			     "Connection: close\r\n\r\nhello"),
			405);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.answer, "Allow: GET, HEAD"));
	CU_ASSERT_EQUAL(talk(loopback_connect(port), "HEAD /healthz HTTP/1.1\r\nHost: x\r\n"
						     "Connection: close\r\n\r\n"),
			200);
	CU_ASSERT_STRING_EQUAL(body(), "");
	CU_ASSERT_NOT_EQUAL(talk(loopback_connect(port), "GARBAGE\r\n\r\n"), 200);
	/* It still serves. */
	CU_ASSERT_EQUAL(get("/healthz"), 200);
}

static void liveness(void)
{
	CU_ASSERT_EQUAL(get("/healthz"), 200);
	rt_admin_alive(f.admin, 60000);
	CU_ASSERT_EQUAL(get("/healthz"), 200);
	rt_admin_alive(f.admin, 0);
	CU_ASSERT_EQUAL(get("/healthz"), 503);
	CU_ASSERT_STRING_EQUAL(body(), "the loop does not turn\n");
	CU_ASSERT_EQUAL(get("/metrics"), 200);
	rt_admin_alive(f.admin, 60000);
	CU_ASSERT_EQUAL(get("/healthz"), 200);
	rt_admin_alive(NULL, 0);
}

static void readiness(void)
{
	static struct rt_check redis, backend; /* until the teardown */

	CU_ASSERT_EQUAL(get("/readyz"), 200); /* nothing asked for */
	rt_readiness_add(f.readiness, &redis, "redis", NULL);
	rt_readiness_add(f.readiness, &backend, "backend", "a.Service");
	CU_ASSERT_EQUAL(get("/readyz"), 503);
	CU_ASSERT_STRING_EQUAL(body(), "redis: not known yet\nbackend: not known yet\n");
	rt_check_ready(&redis);
	rt_check_failed(&backend, "gone for %d ms", 7);
	CU_ASSERT_EQUAL(get("/readyz"), 503);
	CU_ASSERT_STRING_EQUAL(body(), "backend: gone for 7 ms\n");
	CU_ASSERT_FALSE(rt_readiness_ready(f.readiness, ""));
	CU_ASSERT_FALSE(rt_readiness_ready(f.readiness, "a.Service"));
	CU_ASSERT_TRUE(rt_readiness_ready(f.readiness, "another.Service"));
	rt_check_ready(&backend);
	CU_ASSERT_EQUAL(get("/readyz"), 200);
	CU_ASSERT_STRING_EQUAL(body(), "ready\n");
	CU_ASSERT_TRUE(rt_readiness_ready(f.readiness, ""));
	rt_check_failed(&redis, "away"); /* and back */
	CU_ASSERT_EQUAL(get("/readyz"), 503);
	CU_ASSERT_FALSE(rt_readiness_ready(f.readiness, "another.Service"));
	CU_ASSERT_EQUAL(get("/healthz"), 200);
}

/* A loop that hangs is not ready, whatever its checks said before. */
static void stuck_loop(void)
{
	rt_admin_alive(f.admin, 1000000);
	CU_ASSERT_EQUAL(get("/readyz"), 200);
	rt_admin_alive(f.admin, -1);
	CU_ASSERT_EQUAL(get("/readyz"), 503);
	CU_ASSERT_STRING_EQUAL(body(), "loop: it does not turn\n");
	rt_admin_alive(f.admin, 1000000);
	CU_ASSERT_EQUAL(get("/readyz"), 200);
}

static void starts_later(void)
{
	const char *request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	struct rt_admin *later, *never;
	int fd;

	CU_ASSERT_EQUAL_FATAL(make("127.0.0.1:0", &later), RT_OK);
	fd = loopback_connect(rt_admin_port(later)); /* waits in the backlog */
	CU_ASSERT_EQUAL_FATAL(rt_admin_start(later), RT_OK);
	CU_ASSERT_EQUAL(talk(fd, request), 200);
	rt_admin_free(later);
	/* Freed without a start. */
	CU_ASSERT_EQUAL_FATAL(make("127.0.0.1:0", &never), RT_OK);
	rt_admin_free(never);
	rt_admin_free(NULL);
}

static void unix_socket(void)
{
	struct rt_admin *admin;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/tandem-admin-XXXXXX", listen[100];
	int fd;

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/admin", folder);
	snprintf(listen, sizeof(listen), "unix:%s/admin", folder);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL_FATAL(make(listen, &admin), RT_OK);
		CU_ASSERT_EQUAL_FATAL(rt_admin_start(admin), RT_OK);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		CU_ASSERT_EQUAL(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
		CU_ASSERT_EQUAL(talk(fd, "GET /healthz HTTP/1.0\r\n\r\n"), 200);
		rt_admin_free(admin);
		CU_ASSERT_NOT_EQUAL(access(address.sun_path, F_OK), 0);
		/* A socket that a killed process left behind is replaced. */
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		CU_ASSERT_EQUAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
		close(fd);
	}
	unlink(address.sun_path);
	rmdir(folder);
}

static void cannot_listen(void)
{
	struct rt_admin *second = NULL;
	static const char *const bad[] = { "nonsense", "no.such.host.invalid:0",
					   "unix:/nowhere/at/all" };
	char taken[40];

	snprintf(taken, sizeof(taken), "127.0.0.1:%d", rt_admin_port(f.admin));
	CU_ASSERT_EQUAL(make(taken, &second), RT_SYSTEM);
	for (size_t i = 0; i < RT_LENGTH(bad); i++)
		TEST_ROW(make(bad[i], &second) == RT_SYSTEM, bad[i]);
	CU_ASSERT_PTR_NULL(second);
}

static const struct test tests[] = {
	{ "metrics, health, nothing else", pages },
	{ "other methods than GET are refused", refusals },
	{ "/healthz reports a loop that does not turn", liveness },
	{ "ready when every check is", readiness },
	{ "a loop that does not turn is not ready", stuck_loop },
	{ "a connection made before the start waits for it", starts_later },
	{ "a unix socket, left behind or not", unix_socket },
	{ "an address that cannot be listened at", cannot_listen },
};

TESTS_MAIN_EACH("admin", setup, teardown, tests)
