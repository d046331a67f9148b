/* config.c - one table of settings, read by glibc's argp.
 *
 *   rt_config_read
 *     parse flags      argp only notes where each value's text is
 *     --help, …        answered at once: they work whatever the environment holds
 *     resolve          per setting: flag, TANDEM_<SERVICE>_<NAME>, TANDEM_<NAME>, default
 *     set_value        text → value, or a line on stderr that names the culprit and the limit
 *
 * argp would end the process itself, with exit code 64, which is not one of ours; so it runs
 * with ARGP_NO_EXIT and ARGP_NO_HELP, and our options replace its built-in ones. */
#include "config.h"

#include <argp.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

#define TEXT_MAX_BYTES 4096
/* Keys of argp options: above every character, so that none is a short option. */
enum { KEY_HELP = 0x100, KEY_USAGE, KEY_VERSION, KEY_PRINT, KEY_SETTING };

struct reading {
	const struct rt_config_program *program;
	char *name; /* tandem-order */
	size_t count;
	const char **flags; /* per setting: the flag's text; NULL: not given */
	char **docs;        /* per setting: what --help says */
	struct argp_option *options;
	struct argp argp;
	bool asked[KEY_SETTING - KEY_HELP]; /* --help and its like, by key */
};

/* Where a value's text came from, for messages. */
struct origin {
	const char *text;
	char name[128]; /* "--redis-port" or "TANDEM_REDIS_PORT" */
};

/* ---- single values ---- */

struct unit {
	const char *suffix;
	int64_t factor;
};
static const struct unit duration_units[] = {
	{ "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 },
};
static const struct unit size_units[] = {
	{ "GiB", INT64_C(1) << 30 },
	{ "MiB", 1 << 20 },
	{ "KiB", 1 << 10 },
	{ "", 1 },
};
static const struct unit no_units[] = { { "", 1 } };

/* Digits at the start of `text`, nothing but digits: no sign, no blank. False: none, or more
 * than 64 bits hold. */
static bool parse_digits(const char *text, const char **ret_end, int64_t *ret)
{
	int64_t value = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, *p - '0', &value))
			return false;
	}
	*ret_end = p;
	*ret = value;
	return p != text;
}

bool rt_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret)
{
	bool negative = text[0] == '-';
	const char *end;
	int64_t value;

	if (!parse_digits(text + negative, &end, &value) || *end != '\0')
		return false;
	if (negative)
		value = -value;
	if (value < min || value > max)
		return false;
	*ret = value;
	return true;
}

static bool parse_unit(const char *text, const struct unit *units, size_t count, int64_t *ret)
{
	const char *suffix;
	int64_t value;

	if (!parse_digits(text, &suffix, &value))
		return false;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(suffix, units[i].suffix) != 0)
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value))
			return false;
		*ret = value;
		return true;
	}
	return false;
}

bool rt_parse_duration(const char *text, int64_t *ret_ms)
{
	/* 0 is the same in any unit. */
	if (strcmp(text, "0") == 0) {
		*ret_ms = 0;
		return true;
	}
	return parse_unit(text, duration_units, RT_LENGTH(duration_units), ret_ms);
}

bool rt_parse_size(const char *text, int64_t *ret_bytes)
{
	return parse_unit(text, size_units, RT_LENGTH(size_units), ret_bytes);
}

static bool parse_whole(const char *text, int64_t *ret)
{
	return rt_parse_int(text, INT64_MIN, INT64_MAX, ret);
}

bool rt_parse_listen(const char *text, char *host, int *ret_port)
{
	const char *colon = strrchr(text, ':');
	const char *start = text;
	size_t length;
	int64_t port;

	if (colon == NULL || !rt_parse_int(colon + 1, 0, 65535, &port) || colon[1] == '-')
		return false;
	length = (size_t)(colon - text);
	if (length >= 2 && text[0] == '[' && text[length - 1] == ']') {
		start++;
		length -= 2;
	} else if (memchr(text, ':', length) != NULL) {
		return false; /* an IPv6 address without brackets: which colon is the port's? */
	}
	if (length == 0 || length > 255)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (!isgraph((unsigned char)start[i]) || start[i] == '/' || start[i] == '[' ||
		    start[i] == ']')
			return false;
	}
	memcpy(host, start, length);
	host[length] = '\0';
	*ret_port = (int)port;
	return true;
}

static bool parse_bool(const char *text, bool *ret)
{
	static const struct {
		const char *text;
		bool value;
	} values[] = {
		{ "true", true },   { "yes", true }, { "1", true },
		{ "false", false }, { "no", false }, { "0", false },
	};

	for (size_t i = 0; i < RT_LENGTH(values); i++) {
		if (strcmp(text, values[i].text) == 0) {
			*ret = values[i].value;
			return true;
		}
	}
	return false;
}

/* A value in the largest unit that represents it exactly. */
static void write_unit(struct rt_buf *text, int64_t value, const struct unit *units, size_t count)
{
	size_t i = 0;

	if (value == 0) {
		rt_buf_printf(text, "0");
		return;
	}
	while (i + 1 < count && value % units[i].factor != 0)
		i++;
	rt_buf_printf(text, "%lld%s", (long long)(value / units[i].factor), units[i].suffix);
}

/* By enum rt_setting_type. Only numbers have what is behind the word. */
static const struct {
	const char *word; /* what --help calls a value; NULL: there is none */
	bool (*parse)(const char *text, int64_t *ret);
	const char *mistake; /* what is said of a text that does not parse */
	const struct unit *units;
	size_t unit_count;
} types[] = {
	[RT_SETTING_STRING] = { .word = "TEXT" },
	[RT_SETTING_INT] = { "NUMBER", parse_whole, "is not a whole number", no_units,
			     RT_LENGTH(no_units) },
	[RT_SETTING_DURATION] = { "DURATION", rt_parse_duration,
				  "is not a duration such as 250ms, 15s, 10m, 2h or 30d",
				  duration_units, RT_LENGTH(duration_units) },
	[RT_SETTING_SIZE] = { "SIZE", rt_parse_size,
			      "is not a size such as 512, 64KiB, 4MiB or 1GiB", size_units,
			      RT_LENGTH(size_units) },
	[RT_SETTING_BOOL] = { .word = "BOOL" },
	[RT_SETTING_LISTEN] = { .word = "ADDRESS" },
	[RT_SETTING_ACTION] = { .word = NULL },
};

static void write_number(struct rt_buf *text, enum rt_setting_type type, int64_t value)
{
	write_unit(text, value, types[type].units, types[type].unit_count);
}

static void write_range(struct rt_buf *text, const struct rt_setting *setting)
{
	write_number(text, setting->type, setting->min);
	rt_buf_printf(text, " … ");
	write_number(text, setting->type, setting->max);
}

/* ---- messages ---- */

/* "tandem-order: --redis-port: 70000 is not within 1 … 65535". The value is cut and made
 * harmless: it may hold anything. */
static void complain(const struct reading *reading, const struct origin *origin, const char *what)
{
	char *shown = rt_text_shown(origin->text, strnlen(origin->text, 99));

	fprintf(stderr, "%s: %s: %s %s\n", reading->name, origin->name,
		shown[0] == '\0' ? "an empty value" : shown, what);
	free(shown);
}

static int complain_range(const struct reading *reading, const struct origin *origin,
			  const struct rt_setting *setting)
{
	struct rt_buf text = { 0 };

	rt_buf_printf(&text, "is not within ");
	write_range(&text, setting);
	complain(reading, origin, text.data);
	rt_buf_done(&text);
	return RT_INVALID;
}

/* ---- settings ---- */

static bool is_text(enum rt_setting_type type)
{
	return type == RT_SETTING_STRING || type == RT_SETTING_LISTEN;
}

static int set_number(const struct reading *reading, const struct rt_setting *setting,
		      const struct origin *origin, int64_t *ret)
{
	int64_t value;

	if (!types[setting->type].parse(origin->text, &value)) {
		complain(reading, origin, types[setting->type].mistake);
		return RT_INVALID;
	}
	if (value < setting->min || value > setting->max)
		return complain_range(reading, origin, setting);
	*ret = value;
	return RT_OK;
}

static bool valid_listen(const char *text)
{
	char host[256];
	int port;

	/* 107: what fits into a sockaddr_un. */
	if (strncmp(text, "unix:", 5) == 0)
		return text[5] != '\0' && strlen(text + 5) <= 107;
	return rt_parse_listen(text, host, &port);
}

static int set_text(const struct reading *reading, const struct rt_setting *setting,
		    const struct origin *origin, char **ret)
{
	const char *what = NULL;

	if (!rt_text_printable(origin->text, NULL))
		what = "is not printable UTF-8";
	if (strlen(origin->text) > TEXT_MAX_BYTES)
		what = "… is longer than 4096 bytes";
	else if (setting->type == RT_SETTING_LISTEN && !valid_listen(origin->text) &&
		 !(origin->text[0] == '\0' && setting->min < 0))
		what = "is neither host:port nor unix:/path";
	if (what != NULL) {
		complain(reading, origin, what);
		return RT_INVALID;
	}
	*ret = rt_strdup(origin->text);
	return RT_OK;
}

static int set_value(const struct reading *reading, const struct rt_setting *setting,
		     const struct origin *origin, void *settings)
{
	void *field = (char *)settings + setting->offset;

	if (types[setting->type].parse != NULL)
		return set_number(reading, setting, origin, field);
	if (is_text(setting->type))
		return set_text(reading, setting, origin, field);
	if (parse_bool(origin->text, field))
		return RT_OK;
	complain(reading, origin, "is neither true nor false");
	return RT_INVALID;
}

/* "redis-port" → TANDEM_REDIS_PORT; with a service → TANDEM_ORDER_REDIS_PORT. */
static void variable_name(char *name, size_t size, const char *service, const char *setting)
{
	snprintf(name, size, "TANDEM_%s%s%s", service != NULL ? service : "",
		 service != NULL ? "_" : "", setting);
	for (char *p = name; *p != '\0'; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

/* The setting's text, from the source that takes precedence. */
static void resolve(const struct reading *reading, size_t i, struct origin *origin)
{
	const struct rt_setting *setting = &reading->program->settings[i];
	const char *const services[] = { reading->program->service, NULL };

	snprintf(origin->name, sizeof(origin->name), "--%s", setting->name);
	origin->text = reading->flags[i];
	if (origin->text != NULL)
		return;
	for (size_t k = 0; k < RT_LENGTH(services) && setting->type != RT_SETTING_ACTION; k++) {
		variable_name(origin->name, sizeof(origin->name), services[k], setting->name);
		origin->text = getenv(origin->name);
		if (origin->text != NULL && origin->text[0] != '\0')
			return;
	}
	snprintf(origin->name, sizeof(origin->name), "default of --%s", setting->name);
	origin->text = setting->standard;
	if (setting->type == RT_SETTING_ACTION)
		origin->text = "false";
}

/* ---- argp ---- */

static error_t on_option(int key, char *arg, struct argp_state *state)
{
	struct reading *reading = state->input;

	if (key == ARGP_KEY_ARG) {
		argp_error(state, "unexpected argument '%.100s'", arg);
		return EINVAL;
	}
	if (key < KEY_HELP || key >= KEY_SETTING + (int)reading->count)
		return ARGP_ERR_UNKNOWN;
	if (key < KEY_SETTING)
		reading->asked[key - KEY_HELP] = true;
	else
		reading->flags[key - KEY_SETTING] = arg != NULL ? arg : "true";
	return 0;
}

/* "Redis TCP port. Default 6390, 1 … 65535; TANDEM_REDIS_PORT" */
static char *option_doc(const struct rt_setting *setting)
{
	struct rt_buf doc = { 0 };
	char variable[128];

	rt_buf_printf(&doc, "%s", setting->help);
	if (setting->type == RT_SETTING_ACTION)
		return doc.data;
	if (setting->standard[0] != '\0')
		rt_buf_printf(&doc, " Default %s", setting->standard);
	else
		rt_buf_printf(&doc, " Default: none");
	if (types[setting->type].parse != NULL) {
		rt_buf_printf(&doc, ", ");
		write_range(&doc, setting);
	}
	variable_name(variable, sizeof(variable), NULL, setting->name);
	rt_buf_printf(&doc, "; %s", variable);
	return doc.data;
}

static void reading_init(struct reading *reading, const struct rt_config_program *program)
{
	static const struct argp_option fixed[] = {
		{ "print-config", KEY_PRINT, NULL, 0, "Print every setting and its value, and end.",
		  -1 },
		{ "help", KEY_HELP, NULL, 0, "Print this, and end.", -1 },
		{ "usage", KEY_USAGE, NULL, 0, "Print the flags, and end.", -1 },
		{ "version", KEY_VERSION, NULL, 0, "Print the version, and end.", -1 },
		{ NULL, 0, NULL, 0, NULL, 0 },
	};
	struct argp_option *option;
	char service[64];

	memset(reading, 0, sizeof(*reading));
	reading->program = program;
	reading->name = rt_printf("tandem-%s", program->service);
	while (program->settings[reading->count].name != NULL)
		reading->count++;
	reading->flags = rt_alloc(reading->count * sizeof(reading->flags[0]));
	reading->docs = rt_alloc((reading->count + 1) * sizeof(reading->docs[0]));
	reading->options = rt_alloc(reading->count * sizeof(reading->options[0]) + sizeof(fixed));
	option = reading->options;
	for (size_t i = 0; i < reading->count; i++, option++) {
		const struct rt_setting *setting = &program->settings[i];

		reading->docs[i] = option_doc(setting);
		option->name = setting->name;
		option->key = KEY_SETTING + (int)i;
		option->arg = types[setting->type].word;
		option->flags = setting->type == RT_SETTING_BOOL ? OPTION_ARG_OPTIONAL : 0;
		option->doc = reading->docs[i];
	}
	memcpy(option, fixed, sizeof(fixed));
	variable_name(service, sizeof(service), program->service, "name");
	reading->docs[reading->count] = rt_printf(
		"%s\vA flag overrides %s, which overrides TANDEM_NAME.", program->about, service);
	reading->argp = (struct argp){ .options = reading->options,
				       .parser = on_option,
				       .doc = reading->docs[reading->count] };
}

static void reading_done(struct reading *reading)
{
	for (size_t i = 0; i <= reading->count; i++)
		free(reading->docs[i]);
	free(reading->docs);
	free(reading->options);
	free(reading->flags);
	free(reading->name);
}

static int parse_flags(struct reading *reading, int argc, char **argv)
{
	/* A copy: the name in messages is ours, and getopt sorts. */
	char **args = rt_alloc(((size_t)argc + 2) * sizeof(args[0]));
	error_t rc;

	args[0] = reading->name;
	for (int i = 1; i < argc; i++)
		args[i] = argv[i];
	rc = argp_parse(&reading->argp, RT_MAX(argc, 1), args, ARGP_NO_EXIT | ARGP_NO_HELP, NULL,
			reading);
	free(args);
	return rc == 0 ? RT_OK : RT_INVALID;
}

/* A URL with a user or password is refused later; here it is hidden. */
static const char *may_show(const char *text)
{
	const char *scheme = strstr(text, "://");

	return scheme != NULL && strchr(scheme, '@') != NULL ? "(hidden: it may hold a password)"
							     : text;
}

static void print_value(const struct rt_setting *setting, const void *settings)
{
	const void *field = (const char *)settings + setting->offset;
	struct rt_buf text = { 0 };

	if (setting->type == RT_SETTING_ACTION)
		return;
	if (is_text(setting->type))
		rt_buf_printf(&text, "%s", may_show(*(char *const *)field));
	else if (setting->type == RT_SETTING_BOOL)
		rt_buf_printf(&text, "%s", *(const bool *)field ? "true" : "false");
	else
		write_number(&text, setting->type, *(const int64_t *)field);
	printf("%s=%s\n", setting->name, text.data);
	rt_buf_done(&text);
}

static bool asked(const struct reading *reading, int key)
{
	return reading->asked[key - KEY_HELP];
}

/* --help, --usage and --version; true: one was given. */
static bool answer(struct reading *reading)
{
	if (asked(reading, KEY_HELP))
		argp_help(&reading->argp, stdout,
			  ARGP_HELP_PRE_DOC | ARGP_HELP_USAGE | ARGP_HELP_LONG | ARGP_HELP_POST_DOC,
			  reading->name);
	else if (asked(reading, KEY_USAGE))
		argp_help(&reading->argp, stdout, ARGP_HELP_USAGE, reading->name);
	else if (asked(reading, KEY_VERSION))
		printf("%s %s\n", reading->name, TANDEM_VERSION);
	else
		return false;
	return true;
}

static int fill(const struct reading *reading, void *settings)
{
	for (size_t i = 0; i < reading->count; i++) {
		struct origin origin;
		int rc;

		resolve(reading, i, &origin);
		rc = set_value(reading, &reading->program->settings[i], &origin, settings);
		if (rc != RT_OK)
			return rc;
	}
	return RT_OK;
}

static bool is_variable(const struct reading *reading, const char *text, size_t length)
{
	static const char target[] =
		"_TARGET"; /* TANDEM_ORDER_TARGET is of others: --order-target */

	if (length > strlen(target) &&
	    memcmp(text + length - strlen(target), target, strlen(target)) == 0)
		return true;
	for (size_t i = 0; i < reading->count; i++) {
		const struct rt_setting *setting = &reading->program->settings[i];
		char name[128];

		variable_name(name, sizeof(name), reading->program->service, setting->name);
		if (setting->type != RT_SETTING_ACTION && strlen(name) == length &&
		    memcmp(name, text, length) == 0)
			return true;
	}
	return false;
}

/* The program's own variables that are no settings. Their values are not shown: they may be secrets. */
static void name_unknown_variables(const struct reading *reading)
{
	char own[128];

	variable_name(own, sizeof(own), reading->program->service, "");
	for (char *const *variable = environ; *variable != NULL; variable++) {
		size_t length = strcspn(*variable, "=");
		char *shown;

		if (strncmp(*variable, own, strlen(own)) != 0 ||
		    is_variable(reading, *variable, length))
			continue;
		shown = rt_text_shown(*variable, RT_MIN(length, (size_t)99));
		fprintf(stderr, "%s: %s: there is no such setting, it is ignored\n", reading->name,
			shown);
		free(shown);
	}
}

int rt_config_read(const struct rt_config_program *program, int argc, char **argv, void *settings,
		   bool *ret_exit)
{
	struct reading reading;
	bool end = false;
	int rc;

	reading_init(&reading, program);
	rc = parse_flags(&reading, argc, argv);
	if (rc == RT_OK)
		end = answer(&reading);
	if (rc == RT_OK && !end)
		rc = fill(&reading, settings);
	if (rc == RT_OK && !end)
		name_unknown_variables(&reading);
	if (rc == RT_OK && !end && asked(&reading, KEY_PRINT)) {
		for (size_t i = 0; i < reading.count; i++)
			print_value(&program->settings[i], settings);
		end = true;
	}
	if (rc != RT_OK || end)
		rt_config_done(program, settings);
	if (rc == RT_OK)
		*ret_exit = end;
	reading_done(&reading);
	return rc;
}

struct rt_setting *rt_settings_join(const struct rt_setting *first, size_t first_count,
				    const struct rt_setting *then)
{
	size_t then_count = 0;
	struct rt_setting *table;

	while (then != NULL && then[then_count].name != NULL)
		then_count++;
	/* Zeroed: what follows the last is RT_SETTING_END. */
	table = rt_alloc((first_count + then_count + 1) * sizeof(table[0]));
	for (size_t i = 0; i < first_count + then_count; i++)
		table[i] = i < first_count ? first[i] : then[i - first_count];
	return table;
}

void rt_config_done(const struct rt_config_program *program, void *settings)
{
	if (settings == NULL)
		return;
	for (const struct rt_setting *s = program->settings; s->name != NULL; s++) {
		if (is_text(s->type)) {
			char **field = (char **)(void *)((char *)settings + s->offset);

			free(*field);
			*field = NULL;
		}
	}
}
