/* Settings: values as text, where they come from, which are refused and with what message. */
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

static bool parse_int(const char *text, int64_t *ret)
{
	return rt_parse_int(text, -10, 100, ret);
}

static void numbers(void)
{
	static const struct {
		const char *text;
		bool (*parse)(const char *text, int64_t *ret);
		bool good;
		int64_t value;
	} rows[] = {
		{ "0", parse_int, true, 0 },
		{ "-10", parse_int, true, -10 },
		{ "100", parse_int, true, 100 },
		{ "007", parse_int, true, 7 },
		{ "101", parse_int, false, 0 },
		{ "-11", parse_int, false, 0 },
		{ "", parse_int, false, 0 },
		{ "-", parse_int, false, 0 },
		{ "+5", parse_int, false, 0 },
		{ " 5", parse_int, false, 0 },
		{ "5 ", parse_int, false, 0 },
		{ "0x5", parse_int, false, 0 },
		{ "5.0", parse_int, false, 0 },
		{ "9223372036854775808", parse_int, false, 0 },
		{ "99999999999999999999999999", parse_int, false, 0 },
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
	static const struct {
		const char *name;
		const char *common, *own;   /* variables */
		const char *first, *second; /* flags */
		int64_t port;
	} rows[] = {
		{ "the common variable", "1", NULL, NULL, NULL, 1 },
		{ "the service's own", "1", "2", NULL, NULL, 2 },
		{ "the flag", "1", "2", "--redis-port", "3", 3 },
		{ "the later flag", "1", "2", "--redis-port=3", "--redis-port=4", 4 },
		{ "an overruled value is not read", "nonsense", "5", NULL, NULL, 5 },
		{ "an empty variable counts as unset", "", "", NULL, NULL, 6390 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		setenv("TANDEM_REDIS_PORT", rows[i].common, 1);
		if (rows[i].own != NULL)
			setenv("TANDEM_ORDER_REDIS_PORT", rows[i].own, 1);
		TEST_ROW(read_settings(rows[i].first, rows[i].second, NULL) == RT_OK, rows[i].name);
		TEST_ROW(got.port == rows[i].port, rows[i].name);
		rt_config_done(&program, &got);
		unsetenv("TANDEM_REDIS_PORT");
		unsetenv("TANDEM_ORDER_REDIS_PORT");
	}
}

static void flags_and_actions(void)
{
	static const struct {
		const char *flag;
		bool fast, act;
	} rows[] = {
		{ "--fast", true, false },     { "--fast=yes", true, false },
		{ "--fast=1", true, false },   { "--fast=true", true, false },
		{ "--fast=no", false, false }, { "--fast=0", false, false },
		{ "--act", false, true },
	};

	setenv("TANDEM_ACT", "true", 1); /* an action has no variable */
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		TEST_ROW(read_settings(rows[i].flag, NULL, NULL) == RT_OK, rows[i].flag);
		TEST_ROW(got.fast == rows[i].fast && got.act == rows[i].act, rows[i].flag);
		rt_config_done(&program, &got);
	}
	unsetenv("TANDEM_ACT");
}

#define PORT_RANGE " is not within 1 … 65535\n"
#define NO_ADDRESS " is neither host:port nor unix:/path\n"

/* The message after "tandem-order: "; argp's own messages have a second line. */
static const struct {
	const char *flag, *message;
	bool goes_on;
} refusals[] = {
	{ "--redis-port=70000", "--redis-port: 70000" PORT_RANGE, false },
	{ "--redis-port=0", "--redis-port: 0" PORT_RANGE, false },
	{ "--redis-port=x", "--redis-port: x is not a whole number\n", false },
	{ "--redis-port=", "--redis-port: an empty value is not a whole number\n", false },
	{ "--redis-timeout=5",
	  "--redis-timeout: 5 is not a duration such as 250ms, 15s, 10m, 2h or 30d\n", false },
	{ "--redis-timeout=11m", "--redis-timeout: 11m is not within 10ms … 10m\n", false },
	{ "--message-max=2GiB", "--message-max: 2GiB is not within 1KiB … 1GiB\n", false },
	{ "--fast=maybe", "--fast: maybe is neither true nor false\n", false },
	{ "--listen=here", "--listen: here" NO_ADDRESS, false },
	{ "--listen=", "--listen: an empty value" NO_ADDRESS, false },
	{ "--listen=unix:", "--listen: unix:" NO_ADDRESS, false },
	{ "--redis-host=a\nb", "--redis-host: a\\x0ab is not printable UTF-8\n", false },
	{ "--nonsense", "unrecognized option '--nonsense'\n", true },
	{ "stray", "unexpected argument 'stray'\n", true },
	{ "--redis-port", "option '--redis-port' requires an argument\n", true },
	{ "-p", "invalid option -- 'p'\n", true },
};

static bool refused_with(const char *flag, const char *message, bool goes_on)
{
	static const char name[] = "tandem-order: ";
	const char *said = err + sizeof(name) - 1;

	return read_settings(flag, NULL, NULL) == RT_INVALID &&
	       strncmp(err, name, sizeof(name) - 1) == 0 &&
	       (goes_on ? strncmp(said, message, strlen(message)) : strcmp(said, message)) == 0;
}

static void refused(void)
{
	static char huge[5100] = "--redis-host=";

	for (size_t i = 0; i < RT_LENGTH(refusals); i++) {
		const char *flag = refusals[i].flag;

		TEST_ROW(refused_with(flag, refusals[i].message, refusals[i].goes_on), flag);
		TEST_ROW(out[0] == '\0', flag);
		TEST_ROW(got.host == NULL, flag); /* nothing to free */
	}
	memset(huge + 13, 'x', sizeof(huge) - 14);
	CU_ASSERT_EQUAL(read_settings(huge, NULL, NULL), RT_INVALID);
	CU_ASSERT(strlen(err) < 200);
	/* The same for variables, by their names. */
	setenv("TANDEM_REDIS_PORT", "70000", 1);
	CU_ASSERT(refused_with(NULL, "TANDEM_REDIS_PORT: 70000" PORT_RANGE, false));
	unsetenv("TANDEM_REDIS_PORT");
	setenv("TANDEM_ORDER_FAST", "2", 1);
	CU_ASSERT(refused_with(NULL, "TANDEM_ORDER_FAST: 2 is neither true nor false\n", false));
	unsetenv("TANDEM_ORDER_FAST");
}

/* Of the program's own variables alone, and never the value. */
static void unknown_variables(void)
{
	setenv("TANDEM_ORDER_REDIS_PROT", "secret", 1);
	setenv("TANDEM_ORDER_ACT", "1", 1);
	setenv("TANDEM_ORDER_REDIS_PORT", "7000", 1);
	setenv("TANDEM_ORDERLY", "1", 1);
	setenv("TANDEM_ORDER_TARGET", "order:50052", 1); /* a setting of the gateway's */
	setenv("TANDEM_INVENTORY_ANYTHING", "1", 1);
	CU_ASSERT_EQUAL(read_settings(NULL, NULL, NULL), RT_OK);
	CU_ASSERT_EQUAL(got.port, 7000);
	CU_ASSERT_PTR_NOT_NULL(strstr(err,
				      "tandem-order: TANDEM_ORDER_REDIS_PROT: there is no such "
				      "setting, it is ignored\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(err, "TANDEM_ORDER_ACT: there is no such setting"));
	CU_ASSERT_PTR_NULL(strstr(err, "secret"));
	CU_ASSERT_PTR_NULL(strstr(err, "REDIS_PORT"));
	CU_ASSERT_PTR_NULL(strstr(err, "ORDERLY"));
	CU_ASSERT_PTR_NULL(strstr(err, "TARGET"));
	CU_ASSERT_PTR_NULL(strstr(err, "INVENTORY"));
	rt_config_done(&program, &got);
	CU_ASSERT_EQUAL(read_settings("--version", NULL, NULL), RT_OK);
	CU_ASSERT_STRING_EQUAL(err, "");
	unsetenv("TANDEM_ORDER_REDIS_PROT");
	unsetenv("TANDEM_ORDER_ACT");
	unsetenv("TANDEM_ORDER_REDIS_PORT");
	unsetenv("TANDEM_ORDERLY");
	unsetenv("TANDEM_ORDER_TARGET");
	unsetenv("TANDEM_INVENTORY_ANYTHING");
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
	{ "whole numbers, durations and sizes", numbers },
	{ "addresses to listen at", listens },
	{ "without flags and variables: the defaults", defaults },
	{ "flag, own variable, common variable, default", strongest_wins },
	{ "the words for true and false, and an action", flags_and_actions },
	{ "bad values and flags are refused by name and limit", refused },
	{ "variables that are no settings", unknown_variables },
	{ "print-config and version", printed },
	{ "help shows defaults, limits and variables", helped },
};

int main(void)
{
	tests_forget_settings();
	return tests_run("config", tests, RT_LENGTH(tests));
}
