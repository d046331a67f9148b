/* fuzz_config.c - settings: flags and variables, and their single values. What is taken lies within its bounds, and is the same
 * when what --print-config says of it is read again.
 *
 * The first byte selects what the rest is: one value (the letters in `value`), or flags and variables. */
#include "base/config.h"

#include "fuzz.h"

#define ARGS_MAX 6

struct settings {
	char *text, *listen, *admin;
	int64_t number, duration_ms, size_bytes;
	bool fast, act;
};
static const struct rt_setting table[] = {
	{ "text", RT_SETTING_STRING, offsetof(struct settings, text), "t", 0, 0, "Text." },
	{ "number", RT_SETTING_INT, offsetof(struct settings, number), "7", -5, 65535, "Number." },
	{ "listen", RT_SETTING_LISTEN, offsetof(struct settings, listen), "127.0.0.1:1", 0, 0,
	  "Where." },
	{ "admin", RT_SETTING_LISTEN, offsetof(struct settings, admin), "", -1, 0, "Or not." },
	{ "duration", RT_SETTING_DURATION, offsetof(struct settings, duration_ms), "2s", 10,
	  INT64_MAX, "How long." },
	{ "size", RT_SETTING_SIZE, offsetof(struct settings, size_bytes), "4MiB", 0, INT64_MAX,
	  "How large." },
	{ "fast", RT_SETTING_BOOL, offsetof(struct settings, fast), "false", 0, 0, "Fast." },
	{ "act", RT_SETTING_ACTION, offsetof(struct settings, act), "", 0, 0, "Act." },
	RT_SETTING_END,
};
static const struct rt_config_program program = { "x", "Does it.", table, sizeof(struct settings) };
static const char *const variables[] = { "TANDEM_TEXT",       "TANDEM_X_NUMBER", "TANDEM_LISTEN",
					 "TANDEM_X_ADMIN",    "TANDEM_DURATION", "TANDEM_X_SIZE",
					 "TANDEM_X_DURATION", "TANDEM_FAST" };

/* What is in the environment: setenv would keep each value that it is ever given. */
static char *assigned[RT_LENGTH(variables)];

/* ---- one value ---- */

static void check_value(uint8_t kind, const char *text)
{
	char host[256];
	int64_t n;
	int port;

	if (kind == 'i' && rt_parse_int(text, -1000, INT64_MAX, &n)) {
		FUZZ_MUST(n >= -1000 && n == strtoll(text, NULL, 10));
	} else if (kind == 'd' && rt_parse_duration(text, &n)) {
		FUZZ_MUST(n >= 0 && n >= strtoll(text, NULL, 10));
	} else if (kind == 's' && rt_parse_size(text, &n)) {
		FUZZ_MUST(n >= 0 && n >= strtoll(text, NULL, 10));
	} else if (kind == 'l' && rt_parse_listen(text, host, &port)) {
		FUZZ_MUST(port >= 0 && port <= 65535);
		FUZZ_MUST(strnlen(host, sizeof(host)) < sizeof(host) && host[0] != '\0');
		FUZZ_MUST(strstr(text, host) != NULL);
	}
}

/* ---- all of them ---- */

static void check_settings(const struct settings *settings)
{
	FUZZ_MUST(rt_text_printable(settings->text, NULL) && strlen(settings->text) <= 4096);
	FUZZ_MUST(settings->listen[0] != '\0');
	FUZZ_MUST(settings->number >= -5 && settings->number <= 65535);
	FUZZ_MUST(settings->duration_ms >= 10 && settings->size_bytes >= 0);
}

/* Reads with these arguments; what goes to standard output is *ret_out, freed by the caller. */
static int read_with(int argc, char **argv, struct settings *settings, bool *ret_exit,
		     char **ret_out)
{
	FILE *out = stdout, *err = stderr;
	char *said = NULL;
	size_t out_length, said_length;
	int rc;

	memset(settings, 0, sizeof(*settings));
	*ret_exit = false;
	stdout = open_memstream(ret_out, &out_length);
	stderr = open_memstream(&said, &said_length);
	rc = rt_config_read(&program, argc, argv, settings, ret_exit);
	fclose(stdout);
	fclose(stderr);
	stdout = out;
	stderr = err;
	FUZZ_MUST(rc == RT_OK || (rc == RT_INVALID && said_length > 0));
	free(said);
	return rc;
}

/* Printed as "(hidden…)": a URL that may hold a password. */
static bool is_hidden(const char *text)
{
	const char *scheme = strstr(text, "://");

	return scheme != NULL && strchr(scheme, '@') != NULL;
}

/* What --print-config prints, as flags, leads to the same. */
static void check_printed(int argc, char **argv, const struct settings *settings)
{
	char print[] = "--print-config", name[] = "x", *printed, *again_out;
	char *more[ARGS_MAX + 3], *flags[RT_LENGTH(table) + 1] = { name };
	struct settings again;
	int count = 1;
	bool end;

	/* Before the others: behind a "--" it would be no flag. */
	more[0] = name;
	more[1] = print;
	memcpy(more + 2, argv + 1, (size_t)argc * sizeof(argv[0]));
	FUZZ_MUST(read_with(argc + 1, more, &again, &end, &printed) == RT_OK && end);
	for (char *line = printed, *next; *line != '\0'; line = next) {
		next = line + strcspn(line, "\n") + 1;
		next[-1] = '\0';
		FUZZ_MUST(rt_text_printable(line, NULL));
		flags[count++] = rt_printf("--%s", line);
	}
	if (is_hidden(settings->text) || is_hidden(settings->listen) || is_hidden(settings->admin))
		goto done;
	FUZZ_MUST(read_with(count, flags, &again, &end, &again_out) == RT_OK && !end);
	FUZZ_MUST(strcmp(again.text, settings->text) == 0 &&
		  strcmp(again.listen, settings->listen) == 0 &&
		  strcmp(again.admin, settings->admin) == 0);
	FUZZ_MUST(again.number == settings->number && again.duration_ms == settings->duration_ms &&
		  again.size_bytes == settings->size_bytes && again.fast == settings->fast);
	rt_config_done(&program, &again);
	free(again_out);
done:
	for (int i = 1; i < count; i++)
		free(flags[i]);
	free(printed);
}

static void check_all(struct fuzz *input)
{
	char name[] = "x", *argv[ARGS_MAX + 2] = { name }, *out;
	struct settings settings;
	int argc = 1;
	bool end;

	for (size_t i = 0; i < RT_LENGTH(variables); i++) {
		bool set = fuzz_byte(input) % 4 == 0;
		char *value = set ? fuzz_text(input, NULL) : NULL;

		unsetenv(variables[i]);
		free(assigned[i]);
		assigned[i] = set ? rt_printf("%s=%s", variables[i], value) : NULL;
		if (set)
			putenv(assigned[i]);
		free(value);
	}
	while (argc <= ARGS_MAX && input->at < input->end)
		argv[argc++] = fuzz_text(input, NULL);
	if (read_with(argc, argv, &settings, &end, &out) == RT_OK && !end) {
		check_settings(&settings);
		check_printed(argc, argv, &settings);
		rt_config_done(&program, &settings);
	}
	free(out);
	while (argc > 1)
		free(argv[--argc]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz input = { data, data + size };
	uint8_t kind = fuzz_byte(&input);
	size_t length = (size_t)(input.end - input.at);
	char *text;

	if (kind == 'a') {
		check_all(&input);
		return 0;
	}
	text = rt_alloc(length + 1);
	if (length > 0)
		memcpy(text, input.at, length);
	check_value(kind, text);
	free(text);
	return 0;
}
