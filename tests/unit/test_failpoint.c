/* Failpoints: what a plan does at which pass, and which points are listed; nothing without the build
 * option. Each case runs in a forked child, because the environment is read once a process. */
#include "base/base.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#ifdef TANDEM_FAILPOINTS
#define BUILT_IN true
#else
#define BUILT_IN false
#endif

/* Passes a few points; exit code: which pass of "a" failed, 0 for none, 100 for two or more. */
static _Noreturn void pass_points(void)
{
	int code = 0;

	for (int pass = 1; pass <= 3; pass++) {
		if (RT_FAILPOINT_STATUS("a") != RT_OK)
			code = code == 0 ? pass : 100;
		RT_FAILPOINT("b");
		RT_FAILPOINT2("c", "d");
		if (RT_FAILPOINT2_STATUS("c", "e") != RT_OK)
			code += 50;
	}
	_exit(code);
}

/* The child's exit code, or minus the signal that ended it. */
static int child(const char *plan, const char *list, double *ret_seconds)
{
	struct timespec start, end;
	int status = 0;
	pid_t pid;

	fflush(NULL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	pid = fork();
	if (pid == 0) {
		if (freopen("/dev/null", "w", stderr) == NULL)
			_exit(99);
		if (plan != NULL)
			setenv("TANDEM_FAILPOINT", plan, 1);
		if (list != NULL)
			setenv("TANDEM_FAILPOINT_LIST", list, 1);
		pass_points();
	}
	CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
	clock_gettime(CLOCK_MONOTONIC, &end);
	*ret_seconds =
		(double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void plans(void)
{
	static const struct {
		const char *plan;
		int end;
		const char *why;
	} rows[] = {
		{ NULL, 0, "no plan" },
		{ "", 0, "an empty plan" },
		{ "a:1:error", 1, "the first pass" },
		{ "a:3:error", 3, "the third pass" },
		{ "a:4:error", 0, "never reached" },
		{ "a:*:error", 100, "each pass" },
		{ "b:1:error", 0, "a point that cannot fail" },
		{ "a:2:crash", -SIGKILL, "a crash" },
		{ "b:1:crash", -SIGKILL, "a crash at a plain point" },
		{ "c.d:1:crash", -SIGKILL, "a point with a detail" },
		{ "c.e:2:error", 50, "another detail of it" },
		{ "c:1:crash", 0, "the name without its detail" },
		{ "a:1:error,c.e:1:error", 51, "two plans" },
		{ "nobody:1:crash", 0, "an unknown name" },
		{ "a:1", 2, "no action" },
		{ "a:1:explode", 2, "no such action" },
		{ "a:0:crash", 2, "passes count from 1" },
		{ "a:x:crash", 2, "no number" },
		{ ":1:crash", 2, "no name" },
		{ "a:1:sleep=", 2, "how long?" },
	};
	double seconds;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int end = child(rows[i].plan, NULL, &seconds);

		TEST_ROW(end == (BUILT_IN ? rows[i].end : 0), rows[i].why);
	}
	CU_ASSERT_EQUAL(child("b:2:sleep=60", NULL, &seconds), 0);
	CU_ASSERT(!BUILT_IN || seconds >= 0.06);
}

static void listed(void)
{
	char path[] = "/tmp/tandem-failpoints-XXXXXX", text[256] = "";
	int fd = mkstemp(path);
	double seconds;

	CU_ASSERT_EQUAL(child(NULL, path, &seconds), 0);
	CU_ASSERT(read(fd, text, sizeof(text) - 1) >= 0);
	CU_ASSERT_STRING_EQUAL(text, BUILT_IN ? "a\nb\nc.d\nc.e\n" : "");
	close(fd);
	unlink(path);
	/* A list that cannot be written makes nothing fail. */
	CU_ASSERT_EQUAL(child(NULL, "/nowhere/at/all", &seconds), 0);
}

static const struct test tests[] = {
	{ "a plan acts at its pass", plans },
	{ "points are listed once", listed },
};

TESTS_MAIN("failpoint", tests)
