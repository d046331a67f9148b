/* A service's life in a process of its own: exit codes, readiness, signals, systemd.
 *
 * The gRPC server is a stand-in (the functions below win over the library's), so that a test
 * decides how long a drain takes. Each service runs in a forked child that writes a letter for each
 * step into a pipe. */
#include "service/service.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "loopback.h"
#include "run.h"
#include "service/exporter_internal.h"
#include "tandem_commit.h"

static int story_fd = -1;

static void record(char letter)
{
	if (write(story_fd, &letter, 1) != 1)
		abort();
}

/* ---- the stand-in ---- */

struct rt_server {
	struct rt_loop *loop;
	struct rt_readiness *readiness;
	struct rt_timer timer;
	void (*drained)(void *user);
	void *user;
};

/* What goes wrong in the next child. */
static struct {
	bool drain_hangs, start_fails, own_start_fails, closed_stderr;
	int early_signal; /* sent to itself before there is a loop */
	int *hang;        /* a pipe: the loop hangs until there is something to read */
} next;

void rt_rpc_init(void)
{
	if (next.early_signal != 0)
		raise(next.early_signal);
}

void rt_rpc_shutdown(void)
{
	record('x');
}

/* The server answers health calls: it is notified of changes. */
static void readiness_changed(void *user)
{
	struct rt_server *server = user;

	record(rt_readiness_ready(server->readiness, "tandem.test.v1.Served") ? 'S' : 's');
}

int rt_server_new(struct rt_loop *loop, const struct rt_server_options *options,
		  struct rt_server **ret)
{
	if (options->metrics == NULL || options->calls_max != 7 || options->reuse_port)
		record('?');
	*ret = rt_alloc(sizeof(**ret));
	(*ret)->loop = loop;
	(*ret)->readiness = options->readiness;
	rt_readiness_watch(options->readiness, readiness_changed, *ret);
	return RT_OK;
}

int rt_server_start(struct rt_server *server)
{
	(void)server;
	return next.start_fails ? RT_SYSTEM : RT_OK;
}

int rt_server_port(const struct rt_server *server)
{
	(void)server;
	return 1;
}

static void drain_ends(struct rt_timer *timer)
{
	struct rt_server *server = RT_CONTAINER_OF(timer, struct rt_server, timer);

	server->drained(server->user);
}

void rt_server_drain(struct rt_server *server, int64_t grace_ms, void (*drained)(void *user),
		     void *user)
{
	record('d');
	server->drained = drained;
	server->user = user;
	if (grace_ms != 3000)
		record('?');
	if (!next.drain_hangs)
		rt_timer_start(server->loop, &server->timer, 1, drain_ends);
}

void rt_server_free(struct rt_server *server)
{
	record('f');
	free(server);
}

void rt_server_rest(struct rt_server *server)
{
	(void)server;
}

void rt_http_call_start(struct rt_server *server, struct rt_http_call *call)
{
	(void)server, (void)call;
	record('?');
}

void rt_http_call_cancel(struct rt_http_call *call)
{
	(void)call;
}

void rt_http_call_sent(struct rt_http_call *call, size_t bytes)
{
	(void)call, (void)bytes;
}

size_t rt_server_calls(const struct rt_server *server)
{
	(void)server;
	return 0;
}

/* Spans have their own tests (unit/trace, live/trace); what sends them is a client of gRPC's. */
int rt_exporter_new(struct rt_loop *loop, const struct rt_exporter_options *options,
		    struct rt_exporter **ret)
{
	(void)loop;
	(void)options;
	(void)ret;
	return RT_INVALID;
}

void rt_exporter_stop(struct rt_exporter *exporter, void (*stopped)(void *user), void *user)
{
	(void)exporter;
	stopped(user);
}

/* ---- the service ---- */

struct settings {
	struct rt_service_settings common;
	struct rt_redis_settings redis;
	int64_t depth;
};

static const struct rt_setting own_settings[] = {
	{ "redis-port", RT_SETTING_INT, offsetof(struct settings, redis.port), "6390", 1, 65535,
	  "Redis TCP port." },
	{ "redis-user", RT_SETTING_STRING, offsetof(struct settings, redis.user), "order", 0, 0,
	  "Redis ACL user." },
	{ "depth", RT_SETTING_INT, offsetof(struct settings, depth), "5", 1, 9, "How deep." },
	RT_SETTING_END,
};

struct state {
	struct rt_service *service;
	struct rt_timer timer;
	struct rt_check check;
};

static void hang(struct rt_timer *timer)
{
	char unused;

	record('h');
	if (read(next.hang[0], &unused, 1) < 0)
		abort();
	(void)timer;
}

static int own_start(struct rt_service *service)
{
	const struct settings *settings = service->settings;
	struct state *state = rt_alloc(sizeof(*state));
	struct rlimit limit;

	state->service = service;
	service->data = state;
	rt_readiness_add(service->readiness, &state->check, "own", "tandem.test.v1.Other");
	if (next.hang != NULL)
		rt_timer_start(service->loop, &state->timer, 1, hang);
	record(settings->depth == 6 && settings->redis.port == 6390 ? 'a' : '?');
	getrlimit(RLIMIT_NOFILE, &limit);
	if (limit.rlim_cur < RT_MIN(limit.rlim_max, (rlim_t)65536))
		record('?');
	return next.own_start_fails ? RT_SYSTEM : RT_OK;
}

static void own_ends(struct rt_timer *timer)
{
	struct state *state = RT_CONTAINER_OF(timer, struct state, timer);
	struct rt_service *service = state->service;

	record('o');
	free(state);
	rt_service_stopped(service);
}

static void own_drain(struct rt_service *service)
{
	(void)service;
	record('e');
}

static void own_stop(struct rt_service *service)
{
	struct state *state = service->data;

	/* The admin thread is gone: what it read may be freed. */
	record(service->admin == NULL ? 'p' : '?');
	rt_timer_start(service->loop, &state->timer, 1, own_ends);
}

static const char functions[] = "#!lua name=order\nreturn 1\n";

static const struct rt_service_definition service = {
	.program = { "order", "Keeps orders.", own_settings, sizeof(struct settings) },
	.listen = "127.0.0.1:0",
	.admin_listen = "127.0.0.1:0",
	.functions = functions,
	.functions_length = sizeof(functions) - 1,
	.start = own_start,
	.drain = own_drain,
	.stop = own_stop,
};

/* ---- the parent's side ---- */

static struct child {
	pid_t pid;
	int story, out; /* 0: not open */
	char steps[64];
	size_t step_count;
} child;

static void spawn(const struct rt_service_definition *definition, const char *flag,
		  const char *flag2)
{
	char *argv[] = { (char *)"x",
			 (char *)"--calls-max=7",
			 (char *)"--drain-timeout=3s",
			 (char *)"--depth=6",
			 (char *)flag,
			 (char *)flag2,
			 NULL };
	int argc = 4 + (flag != NULL) + (flag2 != NULL);
	int story[2];

	if (child.out > 0)
		close(child.out);
	memset(&child, 0, sizeof(child));
	CU_ASSERT_EQUAL_FATAL(pipe2(story, O_CLOEXEC), 0);
	child.out = memfd_create("out", 0);
	fflush(NULL);
	child.pid = fork();
	if (child.pid == 0) {
		dup2(child.out, STDOUT_FILENO);
		dup2(child.out, STDERR_FILENO);
		if (next.closed_stderr)
			close(STDERR_FILENO);
		story_fd = story[1];
		alarm(60); /* whatever happens, no child stays */
		exit(rt_service_run(definition, argc, argv));
	}
	close(story[1]);
	child.story = story[0];
	memset(&next, 0, sizeof(next));
}

/* Waits until the child has written `letter`. */
static void wait_for(char letter)
{
	char step = 0;

	while (step != letter) {
		CU_ASSERT_EQUAL_FATAL(read(child.story, &step, 1), 1);
		CU_ASSERT_FATAL(child.step_count + 1 < sizeof(child.steps));
		child.steps[child.step_count++] = step;
	}
}

/* The exit code; minus the signal that ended it. */
static int end_of(void)
{
	int status = 0;
	ssize_t n;

	while ((n = read(child.story, child.steps + child.step_count,
			 sizeof(child.steps) - 1 - child.step_count)) > 0)
		child.step_count += (size_t)n;
	close(child.story);
	while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char *output(void)
{
	static char text[16384];
	ssize_t n = pread(child.out, text, sizeof(text) - 1, 0);

	text[RT_MAX(n, (ssize_t)0)] = '\0';
	return text;
}

static void serve(void)
{
	spawn(&service, NULL, NULL);
	wait_for('S');
}

static void ends(int code, const char *steps)
{
	CU_ASSERT_EQUAL(end_of(), code);
	CU_ASSERT_STRING_EQUAL(child.steps, steps);
}

static void stop(int signum, int code, const char *steps)
{
	kill(child.pid, signum);
	ends(code, steps);
}

static void expect_output(const char *text)
{
	TEST_ROW(strstr(output(), text) != NULL, text);
}

/* start, SERVING; not serving, drain, own drain, own stop, own end; server freed, gRPC ended */
#define WHOLE_LIFE "aSsedpofx"

/* ---- tests ---- */

static void whole_life(void)
{
	static const int signals[] = { SIGTERM, SIGINT };

	for (size_t i = 0; i < RT_LENGTH(signals); i++) {
		serve();
		stop(signals[i], 0, WHOLE_LIFE);
		expect_output(" info serving version=");
		expect_output(" info ended\n");
	}
}

static void second_signal(void)
{
	next.drain_hangs = true;
	serve();
	kill(child.pid, SIGTERM);
	wait_for('d');
	stop(SIGTERM, 1, "aSsed");
}

/* While the service begins, serves, and drains. */
static void ignored_signals(void)
{
	static const int signals[] = { SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ };

	for (size_t i = 0; i < RT_LENGTH(signals); i++) {
		char line[64];

		next.early_signal = signals[i];
		next.drain_hangs = true;
		serve();
		kill(child.pid, signals[i]);
		kill(child.pid, SIGTERM);
		wait_for('d');
		kill(child.pid, signals[i]);
		kill(child.pid, SIGINT);
		TEST_ROW(end_of() == 1, sigabbrev_np(signals[i]));
		CU_ASSERT_STRING_EQUAL(child.steps, "aSsed");
		snprintf(line, sizeof(line), "signal ignored; SIGTERM ends the service signal=%s\n",
			 sigabbrev_np(signals[i]));
		if (signals[i] != SIGPIPE && signals[i] != SIGXFSZ)
			TEST_ROW(strstr(output(), line) != NULL, line);
		expect_output("draining signal=TERM");
		expect_output("ending at once signal=INT");
	}
}

/* A signal comes before there is a loop: the service begins, drains and ends. */
static void early_end(void)
{
	static const int signals[] = { SIGTERM, SIGINT };

	for (size_t i = 0; i < RT_LENGTH(signals); i++) {
		next.early_signal = signals[i];
		spawn(&service, NULL, NULL);
		TEST_ROW(end_of() == 0, sigabbrev_np(signals[i]));
		CU_ASSERT_STRING_EQUAL(child.steps, WHOLE_LIFE);
	}
}

static void quit_signal(void)
{
	serve();
	stop(SIGQUIT, -SIGQUIT, "aS");
}

static void broken_pipe(void)
{
	serve();
	kill(child.pid, SIGPIPE);
	stop(SIGTERM, 0, WHOLE_LIFE);
}

static void failed_starts(void)
{
	next.own_start_fails = true;
	spawn(&service, NULL, NULL);
	ends(1, "a");
	next.start_fails = true;
	spawn(&service, NULL, NULL);
	CU_ASSERT_EQUAL(end_of(), 1);
	expect_output("cannot listen listen=127.0.0.1:0 reason=");
	expect_output("--listen or TANDEM_ORDER_LISTEN");
	spawn(&service, "--admin-listen=unix:/nowhere/at/all", NULL);
	CU_ASSERT_EQUAL(end_of(), 1);
	expect_output("cannot listen for operators"
		      " listen=unix:/nowhere/at/all"
		      " reason=\"No such file or directory\"");
	expect_output("--admin-listen or TANDEM_ORDER_ADMIN_LISTEN");
}

static const struct {
	const char *flag;
	int code;
	const char *output; /* somewhere in it */
} answers[] = {
	{ "--nonsense", 2, "tandem-order: unrecognized option '--nonsense'" },
	{ "--depth=10", 2, "tandem-order: --depth: 10 is not within 1 … 9" },
	{ "--log-level=loud", 2,
	  "tandem-order: --log-level: loud is not one of error, warn, info, debug" },
	{ "--log-format=xml", 2, "tandem-order: --log-format: xml is neither text nor json" },
	{ "--help", 0, "--redis-port=NUMBER" },
	{ "--version", 0, "tandem-order " TANDEM_VERSION },
	{ "--print-config", 0, "redis-user=order\n" },
	{ "--print-functions", 0, "#!lua name=order\nreturn 1\n" },
};

static void answered_at_once(void)
{
	struct rt_service_definition without = service;

	for (size_t i = 0; i < RT_LENGTH(answers); i++) {
		spawn(&service, answers[i].flag, NULL);
		TEST_ROW(end_of() == answers[i].code, answers[i].flag);
		TEST_ROW(strstr(output(), answers[i].output) != NULL, answers[i].flag);
		TEST_ROW(child.steps[0] == '\0', answers[i].flag); /* nothing was started */
	}
	without.functions = NULL;
	spawn(&without, "--print-functions", NULL);
	CU_ASSERT_EQUAL(end_of(), 2);
	expect_output("unrecognized option");
}

static void no_admin_port(void)
{
	spawn(&service, "--admin-listen=", "--log-format=json");
	wait_for('S');
	stop(SIGTERM, 0, WHOLE_LIFE);
	expect_output("\"msg\":\"serving\"");
}

/* The child logs it when it serves. */
static int admin_port(void)
{
	const char *port = NULL;

	for (int i = 0; i < 3000 && (port = strstr(output(), "admin_port=")) == NULL; i++)
		usleep(10000);
	CU_ASSERT_PTR_NOT_NULL_FATAL(port);
	return (int)strtol(port + strlen("admin_port="), NULL, 10);
}

/* Asks the child's admin port for `path`; the whole answer. */
static const char *ask(const char *path)
{
	return loopback_get(admin_port(), path);
}

/* A socket such as systemd's, which receives the service's notifications. */
static int notify_socket(const char *path, socklen_t path_length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 10 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, path_length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	CU_ASSERT_EQUAL_FATAL(
		bind(fd, (struct sockaddr *)&address,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_length)),
		0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void expect_notification(int fd, const char *wanted)
{
	char state[100] = "";

	CU_ASSERT(recv(fd, state, sizeof(state) - 1, 0) > 0);
	CU_ASSERT_STRING_EQUAL(state, wanted);
}

static void systemd(void)
{
	char folder[] = "/tmp/tandem-notify-XXXXXX", path[64];

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	for (int abstract = 0; abstract < 2; abstract++) {
		int fd;

		snprintf(path, sizeof(path), "%s%s/s", abstract ? "@" : "", folder);
		fd = notify_socket(path, (socklen_t)strlen(path));
		setenv("NOTIFY_SOCKET", path, 1);
		next.drain_hangs = true;
		spawn(&service, NULL, NULL);
		expect_notification(fd, "READY=1");
		/* READY means that the server serves; the check of the own part has not run yet. */
		CU_ASSERT_PTR_NOT_NULL(strstr(ask("/readyz"), "\r\n\r\nown: not known yet\n"));
		CU_ASSERT_PTR_NOT_NULL(
			strstr(ask("/metrics"),
			       "tandem_build_info{service=\"order\",version=\"" TANDEM_VERSION
			       "\",commit=\"" TANDEM_COMMIT "\"} 1\n"));
		kill(child.pid, SIGTERM);
		expect_notification(fd, "STOPPING=1");
		wait_for('d');
		CU_ASSERT_PTR_NOT_NULL(
			strstr(ask("/readyz"), "serving: the service is shutting down\n"));
		stop(SIGTERM, 1, "aSsed");
		close(fd);
		if (!abstract)
			unlink(path);
	}
	/* No process listens there: the service serves all the same. */
	setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
	serve();
	stop(SIGTERM, 0, WHOLE_LIFE);
	unsetenv("NOTIFY_SOCKET");
	rmdir(folder);
}

/* A number of /metrics; -1: there is none. */
static double number(const char *name)
{
	char line[64];
	const char *at;

	snprintf(line, sizeof(line), "\n%s ", name);
	at = strstr(ask("/metrics"), line);
	return at == NULL ? -1 : strtod(at + strlen(line), NULL);
}

static void process_numbers(void)
{
	enum { MORE = 20 };
	double cpu_s, fds;
	int more[MORE];

	serve();
	cpu_s = number("process_cpu_seconds_total");
	fds = number("process_open_fds");
	CU_ASSERT(cpu_s > 0);
	CU_ASSERT(fds > 5 && fds < number("process_max_fds"));
	CU_ASSERT(number("process_resident_memory_bytes") > 1e6);
	CU_ASSERT(number("process_resident_memory_bytes") < number("process_virtual_memory_bytes"));
	CU_ASSERT(fabs(number("process_start_time_seconds") - (double)time(NULL)) < 300);
	CU_ASSERT(number("process_cpu_seconds_total") > cpu_s);
	/* They are accepted before the one that asks; that of the question before may not be closed yet. */
	for (int i = 0; i < MORE; i++)
		more[i] = loopback_connect(admin_port());
	CU_ASSERT(fabs(number("process_open_fds") - fds - MORE) <= 1);
	for (int i = 0; i < MORE; i++)
		close(more[i]);
	stop(SIGTERM, 0, WHOLE_LIFE);
}

/* The answer to `path` has this status. */
static bool answered(const char *path, const char *status)
{
	return strncmp(ask(path) + strlen("HTTP/1.1 "), status, strlen(status)) == 0;
}

static bool becomes(const char *path, const char *status)
{
	for (int i = 0; i < 3000; i++) {
		if (answered(path, status))
			return true;
		usleep(10000);
	}
	return false;
}

static void stuck_loop(void)
{
	int hang[2];

	CU_ASSERT_EQUAL_FATAL(pipe2(hang, O_CLOEXEC), 0);
	next.hang = hang;
	spawn(&service, NULL, NULL);
	close(hang[0]);
	wait_for('h');
	CU_ASSERT(becomes("/healthz", "503"));
	CU_ASSERT_EQUAL(write(hang[1], "g", 1), 1);
	close(hang[1]);
	CU_ASSERT(becomes("/healthz", "200"));
	stop(SIGTERM, 0, "aShsedpofx");
}

/* Started with these closed, as by 2>&-: what the service opens first must not become its log. */
static void no_standard_error(void)
{
	char path[64], target[64] = "";

	next.closed_stderr = true;
	serve();
	snprintf(path, sizeof(path), "/proc/%d/fd/2", (int)child.pid);
	CU_ASSERT(readlink(path, target, sizeof(target) - 1) > 0);
	CU_ASSERT_STRING_EQUAL(target, "/dev/null");
	stop(SIGTERM, 0, WHOLE_LIFE);
}

static const struct test tests[] = {
	{ "start, serve, drain, stop, exit 0", whole_life },
	{ "a second signal ends at once with 1", second_signal },
	{ "other signals are ignored", ignored_signals },
	{ "a service that is ended before it serves drains, too", early_end },
	{ "SIGQUIT ends at once", quit_signal },
	{ "/healthz reports that the loop hangs", stuck_loop },
	{ "without standard error the log goes nowhere else", no_standard_error },
	{ "a broken pipe does not end the service", broken_pipe },
	{ "a failed start exits 1 with the reason", failed_starts },
	{ "questions and bad settings are answered at once", answered_at_once },
	{ "no admin port, log in JSON", no_admin_port },
	{ "systemd gets READY and STOPPING, the pages agree", systemd },
	{ "the numbers of the process", process_numbers },
};

int main(void)
{
	tests_forget_settings();
	return tests_run("service", tests, RT_LENGTH(tests));
}
