/* test_interpose.c - the metrics report which of the tricks of runtime/interpose are in place, in each kind
 * of process. The test runs itself as such a process: `modes` serves, prints its metrics, and ends. */
#include "interpose/interpose.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rpc/rpc.h"
#include "run.h"

const char *grpc_version_string(void);

/* Overrides libgrpc's: the runtime sees another version. */
const char *grpc_version_string(void)
{
	const char *pretended = getenv("TEST_GRPC_VERSION");
	const char *(*real)(void) = NULL;

	*(void **)&real = dlsym(RTLD_NEXT, "grpc_version_string");
	return pretended != NULL ? pretended : real();
}

static void stop(void *user)
{
	rt_loop_stop(user);
}

static int print_modes(void)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0" };
	struct rt_metrics *metrics = options.metrics = rt_metrics_new();
	struct rt_server *server;
	struct rt_loop *loop;
	struct rt_buf text = { 0 };

	rt_rpc_init();
	if (rt_loop_new(&loop) != RT_OK || rt_server_new(loop, &options, &server) != RT_OK ||
	    rt_server_start(server) != RT_OK)
		return 1;
	rt_metrics_write(metrics, &text);
	rt_buf_add(&text, "", 1);
	printf("%s\nproblems: %s; %s\n", text.data,
	       rt_polling_problem() != NULL ? rt_polling_problem() : "none",
	       rt_accept_guard_problem() != NULL ? rt_accept_guard_problem() : "none");
	rt_buf_done(&text);
	rt_server_drain(server, 1000, stop, loop);
	rt_loop_run(loop);
	rt_server_free(server);
	rt_loop_free(loop);
	rt_rpc_shutdown();
	rt_metrics_free(metrics);
	return 0;
}

static void run_program(const char *program, const char *variable, const char *value, char *text,
			size_t size)
{
	size_t length = 0;
	ssize_t got;
	int ends[2], status = -1;
	pid_t pid;

	CU_ASSERT_FATAL(pipe(ends) == 0);
	pid = fork();
	if (pid == 0) {
		unsetenv("GRPC_POLL_STRATEGY");
		if (variable != NULL)
			setenv(variable, value, 1);
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl(program, program, "modes", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while ((got = read(ends[0], text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	text[length] = '\0';
	close(ends[0]);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
}

static void modes(void)
{
	static const struct {
		const char *program, *variable, *value; /* the environment's; NULL: as it is */
		bool epoll, guard;
		const char *problems;
	} rows[] = {
		{ "/proc/self/exe", NULL, NULL, true, true, "none; none" },
		{ "/proc/self/exe", "GRPC_POLL_STRATEGY", "poll", false, true,
		  "gRPC made no epoll set (GRPC_POLL_STRATEGY); none" },
		{ "/proc/self/exe", "TEST_GRPC_VERSION", "38.0.0", false, true,
		  "it was not tried with this version of libgrpc; none" },
		{ TEST_HIDDEN_PROGRAM, NULL, NULL, false, false,
		  "the program does not export its symbols; the program does not export its "
		  "symbols" },
	};
	char text[32768], problems[256];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *row = rows[i].problems;

		run_program(rows[i].program, rows[i].variable, rows[i].value, text, sizeof(text));
		snprintf(problems, sizeof(problems), "\nproblems: %s\n", row);
		TEST_ROW(strstr(text, rows[i].epoll ? "tandem_grpc_polling{mode=\"epoll\"} 1\n"
						    : "tandem_grpc_polling{mode=\"epoll\"} 0\n"),
			 row);
		TEST_ROW(strstr(text, rows[i].epoll ? "tandem_grpc_polling{mode=\"thread\"} 0\n"
						    : "tandem_grpc_polling{mode=\"thread\"} 1\n"),
			 row);
		TEST_ROW(strstr(text, rows[i].guard ? "tandem_accept_guard 1\n"
						    : "tandem_accept_guard 0\n"),
			 row);
		TEST_ROW(strstr(text, problems), row);
	}
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "each process reports which of them are in place", modes },
	};

	if (argc > 1 && strcmp(argv[1], "modes") == 0)
		return print_modes();
	return tests_run("interpose", tests, RT_LENGTH(tests));
}
