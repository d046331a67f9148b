/* Log lines: their two forms, escaping, cutting. */
#include "base/base.h"

#include <fcntl.h>
#include <jansson.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "run.h"

static char last[8192];
static int line_count;

static void keep(const char *line, void *user)
{
	(void)user;
	snprintf(last, sizeof(last), "%s", line);
	line_count++;
}

static void use(bool json)
{
	rt_log_init("order", RT_INFO, json);
	rt_log_sink(keep, NULL);
	last[0] = '\0';
	line_count = 0;
}

/* The line behind its time. */
static const char *rest(void)
{
	char time_text[RT_TIME_TEXT];
	int64_t ms;

	snprintf(time_text, sizeof(time_text), "%.24s", last);
	CU_ASSERT_FATAL(rt_time_parse(time_text, &ms));
	return last + RT_TIME_TEXT;
}

static void text_lines(void)
{
	use(false);
	RT_LOG(RT_INFO, "order placed", RT_S("order_id", "ord_1"), RT_I("version", 1));
	CU_ASSERT_STRING_EQUAL(rest(), "info order placed order_id=ord_1 version=1");
	RT_LOG(RT_ERROR, "no fields");
	CU_ASSERT_STRING_EQUAL(rest(), "error no fields");
	CU_ASSERT_EQUAL(line_count, 2);
}

static const struct {
	const char *value, *text, *json;
} escapes[] = {
	{ "plain", "k=plain", "plain" },
	{ NULL, "k=-", NULL },
	{ "", "k=\"\"", "" },
	{ "-", "k=\"-\"", "-" }, /* not the same as NULL */
	{ "two words", "k=\"two words\"", "two words" },
	{ "a=b", "k=\"a=b\"", "a=b" },
	{ "say \"hi\"", "k=\"say \\\"hi\\\"\"", "say \"hi\"" },
	{ "back\\slash", "k=\"back\\\\slash\"", "back\\slash" },
	{ "two\nlines", "k=\"two\\nlines\"", "two\nlines" },
	{ "\x1b[31mred", "k=\"\\x1b[31mred\"", "\x1b[31mred" },
	{ "del\x7f", "k=\"del\\x7f\"", "del\x7f" },
	{ "gr\xc3\xbc\xc3\x9f", "k=\"gr\xc3\xbc\xc3\x9f\"", "gr\xc3\xbc\xc3\x9f" },
	{ "\xf0\x9f\x98\x80", "k=\"\xf0\x9f\x98\x80\"", "\xf0\x9f\x98\x80" },
	{ "c1\xc2\x9b", "k=\"c1\\xc2\\x9b\"", "c1\xc2\x9b" },
	{ "latin\xfc", "k=\"latin\\xfc\"", "latin\xc3\xbc" },                    /* a lone byte */
	{ "cut\xe2\x82", "k=\"cut\\xe2\\x82\"", "cut\xc3\xa2\xc2\x82" },         /* at the end */
	{ "\xc0\xaf", "k=\"\\xc0\\xaf\"", "\xc3\x80\xc2\xaf" },                  /* overlong */
	{ "\xe0\x80\xaf", "k=\"\\xe0\\x80\\xaf\"", "\xc3\xa0\xc2\x80\xc2\xaf" }, /* of three */
	{ "\xf0\x80\x80\xaf", "k=\"\\xf0\\x80\\x80\\xaf\"",
	  "\xc3\xb0\xc2\x80\xc2\x80\xc2\xaf" }, /* of four */
	{ "\xf4\x90\x80\x80", "k=\"\\xf4\\x90\\x80\\x80\"",
	  "\xc3\xb4\xc2\x90\xc2\x80\xc2\x80" }, /* beyond Unicode */
	{ "rtl\xe2\x80\xae", "k=\"rtl\\xe2\\x80\\xae\"", "rtl\xe2\x80\xae" },
	{ "zero\xe2\x80\x8b", "k=\"zero\\xe2\\x80\\x8b\"", "zero\xe2\x80\x8b" },
	{ "line\xe2\x80\xa8", "k=\"line\\xe2\\x80\\xa8\"", "line\xe2\x80\xa8" },
	{ "mark\xef\xbb\xbf", "k=\"mark\\xef\\xbb\\xbf\"", "mark\xef\xbb\xbf" },
	{ "tag\xf3\xa0\x81\x81", "k=\"tag\\xf3\\xa0\\x81\\x81\"", "tag\xf3\xa0\x81\x81" },
	{ "\xed\xa0\x80", "k=\"\\xed\\xa0\\x80\"", "\xc3\xad\xc2\xa0\xc2\x80" }, /* surrogate */
};

static void escaping(void)
{
	use(false);
	for (size_t i = 0; i < RT_LENGTH(escapes); i++) {
		char wanted[100];

		RT_LOG(RT_WARN, "f", RT_S("k", escapes[i].value));
		snprintf(wanted, sizeof(wanted), "warn f %s", escapes[i].text);
		TEST_ROW(strcmp(rest(), wanted) == 0, escapes[i].text);
	}
}

/* No line holds a character that a person does not see, in either form. */
static void nothing_hidden(void)
{
	for (int json = 0; json < 2; json++) {
		use(json != 0);
		for (size_t i = 0; i < RT_LENGTH(escapes); i++) {
			RT_LOG(RT_INFO, "f", RT_S("k", escapes[i].value));
			TEST_ROW(rt_text_printable(last, NULL), escapes[i].text);
		}
	}
}

static void json_lines(void)
{
	json_t *line;
	json_error_t error;

	use(true);
	RT_LOG(RT_WARN, "slow", RT_I("big", INT64_MIN));
	line = json_loads(last, JSON_REJECT_DUPLICATES, &error);
	CU_ASSERT_PTR_NOT_NULL_FATAL(line);
	CU_ASSERT_EQUAL(strlen(json_string_value(json_object_get(line, "time"))), 24);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(line, "level")), "warn");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(line, "service")), "order");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(line, "msg")), "slow");
	CU_ASSERT_EQUAL(json_integer_value(json_object_get(line, "big")), INT64_MIN);
	json_decref(line);
	for (size_t i = 0; i < RT_LENGTH(escapes); i++) {
		const char *value;

		RT_LOG(RT_INFO, "f", RT_S("k", escapes[i].value));
		line = json_loads(last, 0, &error);
		CU_ASSERT_PTR_NOT_NULL_FATAL(line);
		value = json_string_value(json_object_get(line, "k"));
		if (escapes[i].json == NULL)
			TEST_ROW(json_is_null(json_object_get(line, "k")), escapes[i].text);
		else
			TEST_ROW(value != NULL && strcmp(value, escapes[i].json) == 0,
				 escapes[i].text);
		json_decref(line);
	}
}

/* Values of every length around the limit: never longer than a line may be, always one valid
 * object, and marked when something is missing. */
static void cutting(void)
{
	static char value[5000];
	json_error_t error;

	for (int json = 0; json < 2; json++) {
		use(json);
		for (size_t length = 3900; length < 4300; length++) {
			json_t *line = NULL;
			bool cut;

			memset(value, length % 2 ? 'x' : '"', sizeof(value));
			value[length] = '\0';
			RT_LOG(RT_INFO, "f", RT_S("first", value), RT_I("second", 12345678));
			CU_ASSERT_FATAL(strlen(last) < 4096);
			cut = strstr(last, "second") == NULL;
			if (!json) {
				CU_ASSERT_FATAL(cut == (strstr(last, " cut=true") != NULL));
				continue;
			}
			line = json_loads(last, 0, &error);
			CU_ASSERT_PTR_NOT_NULL_FATAL(line);
			CU_ASSERT_FATAL(cut == json_is_true(json_object_get(line, "cut")));
			json_decref(line);
		}
	}
	/* The message alone can be too long. */
	use(true);
	memset(value, 'y', sizeof(value) - 1);
	RT_LOG(RT_INFO, value, RT_I("k", 1));
	{
		json_t *line = json_loads(last, 0, &error);

		CU_ASSERT_PTR_NOT_NULL_FATAL(line);
		json_decref(line);
	}
}

static int evaluated;

static int count_evaluation(void)
{
	return ++evaluated;
}

static void levels(void)
{
	enum rt_log_level level = RT_ERROR;

	use(false);
	evaluated = 0;
	RT_LOG(RT_DEBUG, "quiet", RT_I("n", count_evaluation()));
	CU_ASSERT_EQUAL(line_count, 0);
	CU_ASSERT_EQUAL(evaluated,
			0); /* arguments of a line that is not written are not evaluated */
	CU_ASSERT(!rt_log_on(RT_DEBUG));
	rt_log_init("order", RT_DEBUG, false);
	RT_LOG(RT_DEBUG, "loud", RT_I("n", count_evaluation()));
	CU_ASSERT_STRING_EQUAL(rest(), "debug loud n=1");
	CU_ASSERT(rt_log_level_parse("debug", &level) && level == RT_DEBUG);
	CU_ASSERT(rt_log_level_parse("error", &level) && level == RT_ERROR);
	CU_ASSERT(!rt_log_level_parse("Error", &level));
	CU_ASSERT(!rt_log_level_parse("", &level));
}

/* Without a sink: one line on stderr, newline at the end. */
static void to_stderr(void)
{
	char got[200] = "";
	int fds[2], saved = dup(STDERR_FILENO);
	ssize_t length;

	use(false);
	rt_log_sink(NULL, NULL);
	CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	RT_LOG(RT_INFO, "one", RT_I("n", 1));
	dup2(saved, STDERR_FILENO);
	length = read(fds[0], got, sizeof(got) - 1);
	CU_ASSERT_EQUAL(length, RT_TIME_TEXT + (ssize_t)strlen("info one n=1\n"));
	CU_ASSERT_STRING_EQUAL(got + RT_TIME_TEXT, "info one n=1\n");
	close(fds[0]);
	close(fds[1]);
	close(saved);
}

/* ---- a reader that stalls ---- */

#define STALLED_LINES 2000

enum out { PIPE, SOCKET, TERMINAL };

static void make_out(enum out kind, int fds[2])
{
	struct termios raw;

	switch (kind) {
	case PIPE:
		CU_ASSERT_EQUAL_FATAL(pipe(fds), 0);
		break;
	case SOCKET:
		CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		break;
	case TERMINAL:
		CU_ASSERT_EQUAL_FATAL(openpty(&fds[0], &fds[1], NULL, NULL, NULL), 0);
		tcgetattr(fds[1], &raw);
		cfmakeraw(&raw);
		tcsetattr(fds[1], TCSANOW, &raw);
		break;
	}
}

/* In a process of its own. Logs more than is read, writes the number of lines dropped to `report`, waits
 * for an answer there, then logs a last line. Returns the exit code: 0, or which check failed. */
static int stalled_logger(enum out kind, int out, int report)
{
	struct rt_metrics *metrics = rt_metrics_new();
	struct rt_series *dropped = rt_metric_plain(metrics, RT_COUNTER, "dropped", "Dropped.");
	int flags = fcntl(out, F_GETFL);
	double count;
	char go;

	alarm(60); /* what waits for the reader ends here */
	dup2(out, STDERR_FILENO);
	rt_log_sink(NULL, NULL);
	rt_log_init("order", RT_INFO, false);
	rt_log_never_wait(dropped);
	for (int i = 0; i < STALLED_LINES; i++)
		RT_LOG(RT_INFO, "line", RT_I("n", i),
		       RT_S("text", "0123456789abcdefghijklmnopqrs"));
	count = rt_series_value(dropped);
	/* A terminal may have found room again by now: the kernel moves what it holds in the background. */
	if (count == 0 || (rt_log_flush(0) && kind != TERMINAL))
		return 1;
	if (write(report, &count, sizeof(count)) != sizeof(count) || read(report, &go, 1) != 1)
		return 2;
	if (!rt_log_flush(10000))
		return 3;
	RT_LOG(RT_INFO, "last");
	if (rt_series_value(dropped) != count)
		return 4;
	/* Other processes that share the descriptor still wait when they write. */
	return fcntl(out, F_GETFL) == flags ? 0 : 5;
}

/* Reads until the last line has come; returns how many lines were whole, and how many were reported as
 * dropped. */
static void read_lines(int fd, int *ret_whole, double *ret_dropped)
{
	static char text[1 << 20];
	size_t length = 0;
	ssize_t n = 1;
	int before = -1;

	*ret_whole = 0;
	*ret_dropped = 0;
	while (strstr(text, " info last\n") == NULL && n > 0) {
		n = read(fd, text + length, sizeof(text) - 1 - length);
		length += (size_t)RT_MAX(n, (ssize_t)0);
		text[length] = '\0';
	}
	for (char *line, *left = text; (line = strsep(&left, "\n")) != NULL && left != NULL;) {
		const char *rest_of = line + RT_TIME_TEXT;
		double count;
		int number = -1;

		if (strcmp(rest_of, "info last") == 0)
			continue;
		/* On a terminal, lines are dropped several times. */
		if (sscanf(rest_of, "warn log lines were dropped, nobody read them count=%lf",
			   &count) == 1) {
			*ret_dropped += count;
			continue;
		}
		CU_ASSERT_EQUAL(sscanf(rest_of, "info line n=%d text=0123456789abcdefghijklmnopqrs",
				       &number),
				1);
		CU_ASSERT(number > before);
		before = number;
		++*ret_whole;
	}
	memset(text, 0, sizeof(text));
}

static void stalled_reader(void)
{
	static const char *const names[] = { "pipe", "socket", "terminal" };

	for (size_t kind = 0; kind < RT_LENGTH(names); kind++) {
		int fds[2], reports[2], status = -1, whole;
		double count = 0, dropped;
		pid_t pid;

		make_out((enum out)kind, fds);
		CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, reports), 0);
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			_exit(stalled_logger((enum out)kind, fds[1], reports[1]));
		close(reports[1]);
		TEST_ROW(read(reports[0], &count, sizeof(count)) == sizeof(count), names[kind]);
		if (send(reports[0], "g", 1, MSG_NOSIGNAL) == 1 && count > 0) {
			read_lines(fds[0], &whole, &dropped);
			TEST_ROW(dropped == count, names[kind]);
			TEST_ROW(whole + (int)dropped == STALLED_LINES, names[kind]);
		}
		CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
		TEST_ROW(status == 0, names[kind]);
		close(fds[0]);
		close(fds[1]);
		close(reports[0]);
	}
}

static const struct test tests[] = {
	{ "no unprintable character", nothing_hidden },
	{ "key=value lines", text_lines },
	{ "no value can forge a line or a field", escaping },
	{ "JSON lines", json_lines },
	{ "long lines are cut and say so", cutting },
	{ "levels", levels },
	{ "lines go to stderr", to_stderr },
	{ "a reader that stalls does not block the program", stalled_reader },
};

TESTS_MAIN("log", tests)
