/* Settings: values as text, where they come from, what is refused and how it is said. */
#include "base/base.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "run.h"

struct settings {
	char *host, *listen, *admin_listen;
	int64_t port, timeout_ms, size_bytes;
	bool fast, act;
};

static const struct rt_setting table[] = {
	{ "redis-host", RT_SETTING_STRING, offsetof(struct settings, host), "127.0.0.1", 0, 0,
	  "Redis host." },
	{ "redis-port", RT_SETTING_INT, offsetof(struct settings, port), "6390", 1, 65535,
	  "Redis TCP port." },
	{ "listen", RT_SETTING_LISTEN, offsetof(struct settings, listen), "127.0.0.1:50052", 0, 0,
	  "Where to listen." },
	{ "admin-listen", RT_SETTING_LISTEN, offsetof(struct settings, admin_listen), "", -1, 0,
	  "Where operators look." },
	{ "redis-timeout", RT_SETTING_DURATION, offsetof(struct settings, timeout_ms), "2s", 10,
	  600000, "How long." },
	{ "message-max", RT_SETTING_SIZE, offsetof(struct settings, size_bytes), "4MiB", 1024,
	  1 << 30, "How large." },
	{ "fast", RT_SETTING_BOOL, offsetof(struct settings, fast), "false", 0, 0, "Fast." },
	{ "act", RT_SETTING_ACTION, offsetof(struct settings, act), "", 0, 0, "Act." },
	RT_SETTING_END,
};
static const struct rt_config_program program = { "order", "Keeps orders.", table,
						  sizeof(struct settings) };

static struct settings got;
static bool got_exit;
static char out[16384], err[16384];

static void slurp(int fd, char *text, size_t size)
{
	ssize_t length;

	lseek(fd, 0, SEEK_SET);
	length = read(fd, text, size - 1);
	text[RT_MAX(length, (ssize_t)0)] = '\0';
	close(fd);
}

/* Reads the settings with up to three arguments, keeping what is printed. */
static int read_settings(const char *a, const char *b, const char *c)
{
	char *argv[] = { (char *)"whatever", (char *)a, (char *)b, (char *)c, NULL };
	int argc = 1 + (a != NULL) + (b != NULL) + (c != NULL);
	int out_saved = dup(STDOUT_FILENO), err_saved = dup(STDERR_FILENO);
	int out_fd = memfd_create("out", 0), err_fd = memfd_create("err", 0);
	int rc;

	fflush(stdout);
	dup2(out_fd, STDOUT_FILENO);
	dup2(err_fd, STDERR_FILENO);
	memset(&got, 0, sizeof(got));
	got_exit = false;
	rc = rt_config_read(&program, argc, argv, &got, &got_exit);
	fflush(stdout);
	dup2(out_saved, STDOUT_FILENO);
	dup2(err_saved, STDERR_FILENO);
	close(out_saved);
	close(err_saved);
	slurp(out_fd, out, sizeof(out));
	slurp(err_fd, err, sizeof(err));
	return rc;
}

static void ints(void)
{
	static const struct {
		const char *text;
		bool good;
		int64_t value;
	} rows[] = {
		{ "0", true, 0 },
		{ "-10", true, -10 },
		{ "100", true, 100 },
		{ "007", true, 7 },
		{ "101", false, 0 },
		{ "-11", false, 0 },
		{ "", false, 0 },
		{ "-", false, 0 },
		{ "+5", false, 0 },
		{ " 5", false, 0 },
		{ "5 ", false, 0 },
		{ "0x5", false, 0 },
		{ "5.0", false, 0 },
		{ "9223372036854775808", false, 0 },
		{ "99999999999999999999999999", false, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int64_t value = 42;

		TEST_ROW(rt_parse_int(rows[i].text, -10, 100, &value) == rows[i].good,
			 rows[i].text);
		TEST_ROW(value == (rows[i].good ? rows[i].value : 42), rows[i].text);
	}
}

static void durations_and_sizes(void)
{
	static const struct {
		const char *text;
		bool (*parse)(const char *text, int64_t *ret);
		bool good;
		int64_t value;
	} rows[] = {
		{ "250ms", rt_parse_duration, true, 250 },
		{ "15s", rt_parse_duration, true, 15000 },
		{ "10m", rt_parse_duration, true, 600000 },
		{ "2h", rt_parse_duration, true, 7200000 },
		{ "30d", rt_parse_duration, true, INT64_C(2592000000) },
		{ "0", rt_parse_duration, true, 0 },
		{ "0s", rt_parse_duration, true, 0 },
		{ "15", rt_parse_duration, false, 0 }, /* of what? */
		{ "1.5s", rt_parse_duration, false, 0 },
		{ "-1s", rt_parse_duration, false, 0 },
		{ "s", rt_parse_duration, false, 0 },
		{ "1h30m", rt_parse_duration, false, 0 },
		{ "1 s", rt_parse_duration, false, 0 },
		{ "1S", rt_parse_duration, false, 0 },
		{ "9223372036854775807d", rt_parse_duration, false, 0 },
		{ "", rt_parse_duration, false, 0 },
		{ "512", rt_parse_size, true, 512 },
		{ "64KiB", rt_parse_size, true, 65536 },
		{ "4MiB", rt_parse_size, true, 4194304 },
		{ "1GiB", rt_parse_size, true, 1073741824 },
		{ "4MB", rt_parse_size, false, 0 },
		{ "4M", rt_parse_size, false, 0 },
		{ "KiB", rt_parse_size, false, 0 },
		{ "9223372036854775807KiB", rt_parse_size, false, 0 },
		{ "", rt_parse_size, false, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int64_t value = 42;

		TEST_ROW(rows[i].parse(rows[i].text, &value) == rows[i].good, rows[i].text);
		TEST_ROW(value == (rows[i].good ? rows[i].value : 42), rows[i].text);
	}
}

static void listens(void)
{
	static const struct {
		const char *text, *host;
		int port;
	} rows[] = {
		{ "127.0.0.1:50051", "127.0.0.1", 50051 },
		{ "localhost:0", "localhost", 0 },
		{ "[::1]:65535", "::1", 65535 },
		{ "[::]:1", "::", 1 },
		{ "::1:50051", NULL, 0 },
		{ ":50051", NULL, 0 },
		{ "[]:50051", NULL, 0 },
		{ "host", NULL, 0 },
		{ "host:", NULL, 0 },
		{ "host:65536", NULL, 0 },
		{ "host:-1", NULL, 0 },
		{ "host:-0", NULL, 0 },
		{ "host:80x", NULL, 0 },
		{ "ho st:80", NULL, 0 },
		{ "unix:/tmp/x", NULL, 0 },
		{ "", NULL, 0 },
	};
	char text[400], host[256];
	int port;

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		bool good = rt_parse_listen(rows[i].text, host, &port);

		TEST_ROW(good == (rows[i].host != NULL), rows[i].text);
		if (good && rows[i].host != NULL)
			TEST_ROW(strcmp(host, rows[i].host) == 0 && port == rows[i].port,
				 rows[i].text);
	}
	memset(text, 'h', sizeof(text));
	memcpy(text + 255, ":80", 4);
	CU_ASSERT(rt_parse_listen(text, host, &port));
	memcpy(text + 255, "h:80", 5);
	CU_ASSERT(!rt_parse_listen(text, host, &port));
}

static void defaults(void)
{
	CU_ASSERT_EQUAL_FATAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT(!got_exit);
	CU_ASSERT_STRING_EQUAL(got.host, "127.0.0.1");
	CU_ASSERT_STRING_EQUAL(got.listen, "127.0.0.1:50052");
	CU_ASSERT_STRING_EQUAL(got.admin_listen, "");
	CU_ASSERT_EQUAL(got.port, 6390);
	CU_ASSERT_EQUAL(got.timeout_ms, 2000);
	CU_ASSERT_EQUAL(got.size_bytes, 4194304);
	CU_ASSERT(!got.fast && !got.act);
	CU_ASSERT_STRING_EQUAL(out, "");
	CU_ASSERT_STRING_EQUAL(err, "");
	rt_config_done(&program, &got);
	CU_ASSERT_PTR_NULL(got.host);
	rt_config_done(&program, &got);
	rt_config_done(&program, NULL);
}

static void strongest_wins(void)
{
	setenv("TANDEM_REDIS_PORT", "1", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 1);
	rt_config_done(&program, &got);
	setenv("TANDEM_ORDER_REDIS_PORT", "2", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 2);
	rt_config_done(&program, &got);
	CU_ASSERT_EQUAL(read_settings("--redis-port", "3", NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 3);
	rt_config_done(&program, &got);
	CU_ASSERT_EQUAL(read_settings("--redis-port=3", "--redis-port=4", NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 4);
	rt_config_done(&program, &got);
	/* What is overruled is not looked at; what is empty is not set. */
	setenv("TANDEM_REDIS_PORT", "nonsense", 1);
	setenv("TANDEM_ORDER_REDIS_PORT", "5", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 5);
	rt_config_done(&program, &got);
	setenv("TANDEM_REDIS_PORT", "", 1);
	setenv("TANDEM_ORDER_REDIS_PORT", "", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 6390);
	rt_config_done(&program, &got);
	unsetenv("TANDEM_REDIS_PORT");
	unsetenv("TANDEM_ORDER_REDIS_PORT");
	/* An action has no variable. */
	setenv("TANDEM_ACT", "true", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT(!got.act);
	rt_config_done(&program, &got);
	CU_ASSERT_EQUAL(read_settings("--act", NULL, NULL), RT_OK);
	CU_ASSERT(got.act);
	rt_config_done(&program, &got);
	unsetenv("TANDEM_ACT");
}

static void bools(void)
{
	static const struct {
		const char *flag;
		bool value;
	} rows[] = {
		{ "--fast", true },      { "--fast=yes", true }, { "--fast=1", true },
		{ "--fast=true", true }, { "--fast=no", false }, { "--fast=0", false },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		TEST_ROW(read_settings(rows[i].flag, NULL, NULL) == RT_OK, rows[i].flag);
		TEST_ROW(got.fast == rows[i].value, rows[i].flag);
		rt_config_done(&program, &got);
	}
}

static const struct {
	const char *flag, *message; /* all of stderr; NULL: see `begins` */
	const char *begins;
} refusals[] = {
	{ "--redis-port=70000", "tandem-order: --redis-port: 70000 is not within 1 … 65535\n",
	  NULL },
	{ "--redis-port=0", "tandem-order: --redis-port: 0 is not within 1 … 65535\n", NULL },
	{ "--redis-port=x", "tandem-order: --redis-port: x is not a whole number\n", NULL },
	{ "--redis-port=", "tandem-order: --redis-port: an empty value is not a whole number\n",
	  NULL },
	{ "--redis-timeout=5",
	  "tandem-order: --redis-timeout: 5 is not a duration such as 250ms, 15s, 10m, 2h or "
	  "30d\n",
	  NULL },
	{ "--redis-timeout=11m", "tandem-order: --redis-timeout: 11m is not within 10ms … 10m\n",
	  NULL },
	{ "--message-max=2GiB", "tandem-order: --message-max: 2GiB is not within 1KiB … 1GiB\n",
	  NULL },
	{ "--fast=maybe", "tandem-order: --fast: maybe is neither true nor false\n", NULL },
	{ "--listen=here", "tandem-order: --listen: here is neither host:port nor unix:/path\n",
	  NULL },
	{ "--listen=",
	  "tandem-order: --listen: an empty value is neither host:port nor unix:/path\n", NULL },
	{ "--listen=unix:", "tandem-order: --listen: unix: is neither host:port nor unix:/path\n",
	  NULL },
	{ "--redis-host=a\nb", "tandem-order: --redis-host: a\\x0ab is not printable UTF-8\n",
	  NULL },
	{ "--nonsense", NULL, "tandem-order: unrecognized option '--nonsense'\n" },
	{ "stray", NULL, "tandem-order: unexpected argument 'stray'\n" },
	{ "--redis-port", NULL, "tandem-order: option '--redis-port' requires an argument\n" },
	{ "-p", NULL, "tandem-order: invalid option -- 'p'\n" },
};

static void refused(void)
{
	static char huge[5100] = "--redis-host=";

	for (size_t i = 0; i < RT_LENGTH(refusals); i++) {
		const char *begins = refusals[i].begins;

		TEST_ROW(read_settings(refusals[i].flag, NULL, NULL) == RT_INVALID,
			 refusals[i].flag);
		TEST_ROW(begins != NULL ? strncmp(err, begins, strlen(begins)) == 0
					: strcmp(err, refusals[i].message) == 0,
			 refusals[i].flag);
		TEST_ROW(out[0] == '\0', refusals[i].flag);
		TEST_ROW(got.host == NULL, refusals[i].flag); /* nothing to free */
	}
	memset(huge + 13, 'x', sizeof(huge) - 14);
	CU_ASSERT_EQUAL(read_settings(huge, NULL, NULL), RT_INVALID);
	CU_ASSERT(strlen(err) < 200);
	/* The same for variables, by their names. */
	setenv("TANDEM_REDIS_PORT", "70000", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_INVALID);
	CU_ASSERT_STRING_EQUAL(err,
			       "tandem-order: TANDEM_REDIS_PORT: 70000 is not within 1 … 65535\n");
	unsetenv("TANDEM_REDIS_PORT");
	setenv("TANDEM_ORDER_FAST", "2", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_INVALID);
	CU_ASSERT_STRING_EQUAL(err,
			       "tandem-order: TANDEM_ORDER_FAST: 2 is neither true nor false\n");
	unsetenv("TANDEM_ORDER_FAST");
}

static void printed(void)
{
	CU_ASSERT_EQUAL(
		read_settings("--print-config", "--redis-timeout=90s", "--listen=unix:/run/order"),
		RT_OK);
	CU_ASSERT(got_exit);
	CU_ASSERT_PTR_NULL(got.host);
	CU_ASSERT_STRING_EQUAL(out, "redis-host=127.0.0.1\n"
				    "redis-port=6390\n"
				    "listen=unix:/run/order\n"
				    "admin-listen=\n"
				    "redis-timeout=90s\n"
				    "message-max=4MiB\n"
				    "fast=false\n");
	CU_ASSERT_EQUAL(read_settings("--print-config", "--redis-port=0", NULL), RT_INVALID);
	CU_ASSERT_STRING_EQUAL(out, "");
	CU_ASSERT_EQUAL(read_settings("--version", NULL, NULL), RT_OK);
	CU_ASSERT(got_exit);
	CU_ASSERT_STRING_EQUAL(out, "tandem-order " TANDEM_VERSION "\n");
}

static void helped(void)
{
	static const char *const wanted[] = {
		"Usage: tandem-order ",
		"Keeps orders.",
		"--redis-port=NUMBER",
		"Default 6390",
		"1 … 65535",
		"TANDEM_REDIS_PORT",
		"10ms … 10m",
		"1KiB … 1GiB",
		"--print-config",
		"--version",
		"TANDEM_ORDER_NAME",
		"--fast[=BOOL]",
	};

	/* Help works whatever the environment holds. */
	setenv("TANDEM_REDIS_PORT", "nonsense", 1);
	CU_ASSERT_EQUAL(read_settings("--help", NULL, NULL), RT_OK);
	unsetenv("TANDEM_REDIS_PORT");
	CU_ASSERT(got_exit);
	CU_ASSERT_STRING_EQUAL(err, "");
	for (size_t i = 0; i < RT_LENGTH(wanted); i++)
		TEST_ROW(strstr(out, wanted[i]) != NULL, wanted[i]);
	CU_ASSERT_EQUAL(read_settings("--usage", NULL, NULL), RT_OK);
	CU_ASSERT(got_exit);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "[--redis-port=NUMBER]"));
}

static const struct test tests[] = {
	{ "whole numbers", ints },
	{ "durations and sizes", durations_and_sizes },
	{ "addresses to listen at", listens },
	{ "without anything: the defaults", defaults },
	{ "flag, own variable, common variable, default", strongest_wins },
	{ "the words for true and false", bools },
	{ "bad values and flags are refused by name and limit", refused },
	{ "print-config and version", printed },
	{ "help shows defaults, limits and variables", helped },
};

int main(void)
{
	tests_forget_settings();
	return tests_run("config", tests, RT_LENGTH(tests));
}
