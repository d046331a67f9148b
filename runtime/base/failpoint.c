/* failpoint.c - a small table of the plans and of the points passed, under a mutex: these
 * builds are for tests, where being simple counts more than being fast.
 *
 * A plan that does not parse ends the process: otherwise a test would pass although its
 * crash never happened. */
#include "failpoint.h"

#ifdef TANDEM_FAILPOINTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

#define NAME_MAX_BYTES 128
#define PLANS_MAX      16
#define PASSED_MAX     1024

enum action { CRASH, FAIL, SLEEP };

struct plan {
	char name[NAME_MAX_BYTES];
	int64_t nth; /* 0: every time */
	enum action action;
	int64_t sleep_ms;
	int64_t passes;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct plan plans[PLANS_MAX];
static size_t plan_count;
static char *passed[PASSED_MAX];
static size_t passed_count;
static const char *list_path;

static _Noreturn void bad_plan(const char *text)
{
	fprintf(stderr, "TANDEM_FAILPOINT: '%s' is not name:nth:crash|error|sleep=ms\n", text);
	_exit(2);
}

static bool parse_plan(char *text, struct plan *plan)
{
	char *action = strrchr(text, ':');
	char *nth;

	if (action == NULL)
		return false;
	*action++ = '\0';
	nth = strrchr(text, ':');
	if (nth == NULL)
		return false;
	*nth++ = '\0';
	if (text[0] == '\0' || strlen(text) >= sizeof(plan->name))
		return false;
	snprintf(plan->name, sizeof(plan->name), "%s", text);
	if (strcmp(nth, "*") != 0 && !rt_parse_int(nth, 1, INT64_MAX, &plan->nth))
		return false;
	if (strcmp(action, "crash") == 0)
		plan->action = CRASH;
	else if (strcmp(action, "error") == 0)
		plan->action = FAIL;
	else if (strncmp(action, "sleep=", 6) == 0)
		plan->action = SLEEP;
	else
		return false;
	return plan->action != SLEEP || rt_parse_int(action + 6, 0, 600000, &plan->sleep_ms);
}

static void read_plans(void)
{
	char *text = rt_strdup(getenv("TANDEM_FAILPOINT"));
	char *rest = text, *part;

	list_path = getenv("TANDEM_FAILPOINT_LIST");
	while ((part = strsep(&rest, ",")) != NULL) {
		char *copy = rt_strdup(part);

		if (part[0] != '\0' &&
		    (plan_count == PLANS_MAX || !parse_plan(copy, &plans[plan_count++])))
			bad_plan(part);
		free(copy);
	}
	free(text);
}

/* Under the lock. */
static void list_once(const char *name)
{
	char line[NAME_MAX_BYTES + 1];
	int fd;

	for (size_t i = 0; i < passed_count; i++) {
		if (strcmp(passed[i], name) == 0)
			return;
	}
	if (passed_count == PASSED_MAX)
		return;
	passed[passed_count++] = rt_strdup(name);
	fd = open(list_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	/* One write: several processes may append to the same list. */
	snprintf(line, sizeof(line), "%s\n", name);
	if (write(fd, line, strlen(line)) < 0)
		fprintf(stderr, "TANDEM_FAILPOINT_LIST: cannot write\n");
	close(fd);
}

/* Under the lock: the plan whose turn has come, or NULL. */
static const struct plan *due_plan(const char *name)
{
	const struct plan *due = NULL;

	for (size_t i = 0; i < plan_count; i++) {
		if (strcmp(plans[i].name, name) != 0)
			continue;
		plans[i].passes++;
		if (plans[i].nth == 0 || plans[i].nth == plans[i].passes)
			due = &plans[i];
	}
	return due;
}

static void sleep_ms(int64_t ms)
{
	struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) < 0)
		;
}

int rt_failpoint(const char *name, const char *detail)
{
	char full[NAME_MAX_BYTES];
	const struct plan *plan;

	pthread_once(&once, read_plans);
	if (plan_count == 0 && list_path == NULL)
		return RT_OK;
	snprintf(full, sizeof(full), "%s%s%s", name, detail != NULL ? "." : "",
		 detail != NULL ? detail : "");
	pthread_mutex_lock(&lock);
	if (list_path != NULL)
		list_once(full);
	plan = due_plan(full);
	pthread_mutex_unlock(&lock);
	if (plan == NULL)
		return RT_OK;
	switch (plan->action) {
	case CRASH:
		kill(getpid(), SIGKILL);
		pause();
		break;
	case FAIL:
		return RT_LOST;
	case SLEEP:
		sleep_ms(plan->sleep_ms);
		break;
	}
	return RT_OK;
}

#endif
