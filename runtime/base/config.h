/* config.h - one table of settings drives --flags, TANDEM_* variables, --help, --print-config and
 * --version (glibc argp underneath).
 *
 * A setting named "redis-port" of the service "order" is, strongest first: the flag --redis-port,
 * the variable TANDEM_ORDER_REDIS_PORT, the variable TANDEM_REDIS_PORT, its default. Only the
 * strongest is looked at; a variable that is empty counts as not set. A bad value or an unknown
 * flag stops the start with a line naming the flag or variable and the limit. A variable that begins with
 * TANDEM_ORDER_ and is no setting's, such as a misspelt one, gets a line and is ignored: what is read by services
 * of several versions may have it. */
#ifndef RT_CONFIG_H
#define RT_CONFIG_H

#include "rt.h"

enum rt_setting_type {
	RT_SETTING_STRING, /* char *, owned by the configuration, one line; may be "" */
	RT_SETTING_INT,    /* int64_t within min … max */
	RT_SETTING_DURATION, /* int64_t of ms within min … max; "250ms", "15s", "10m", "2h", "30d" */
	RT_SETTING_SIZE,     /* int64_t of bytes within min … max; "64KiB", "4MiB", plain bytes */
	RT_SETTING_BOOL,     /* bool; "true", "false", "yes", "no", "1", "0"; bare flag: true */
	RT_SETTING_LISTEN, /* char *: "host:port" or "unix:/path"; with min -1 also "" */
	RT_SETTING_ACTION, /* bool: a bare flag that does something else than running; no
			      variable, not printed by --print-config */
};

struct rt_setting {
	const char *name;
	enum rt_setting_type type;
	size_t offset;        /* of the value in the settings struct */
	const char *standard; /* the default, as text */
	int64_t min, max;
	const char *help; /* one sentence */
};
#define RT_SETTING_END                                                                             \
	{                                                                                          \
		.name = NULL                                                                       \
	}

/* What a program calls itself: "order" gives tandem-order and TANDEM_ORDER_*. */
struct rt_config_program {
	const char *service;
	const char *about;                 /* one sentence for --help */
	const struct rt_setting *settings; /* the program's own, ends with RT_SETTING_END */
	size_t settings_size;              /* of the struct the offsets point into */
};

/* `first_count` settings and those of `then` (ends with RT_SETTING_END; or NULL) as one table; freed by
 * the caller. */
struct rt_setting *rt_settings_join(const struct rt_setting *first, size_t first_count,
				    const struct rt_setting *then);

/* Fills `settings` (zeroed by the caller, `settings_size` bytes) from flags, environment and
 * defaults. Returns RT_OK, or RT_INVALID after writing the reason to stderr.
 * --help, --version and --print-config write to stdout and set *ret_exit. Strings are there only
 * after RT_OK without *ret_exit. */
int rt_config_read(const struct rt_config_program *program, int argc, char **argv, void *settings,
		   bool *ret_exit);
/* Frees the strings in it. */
void rt_config_done(const struct rt_config_program *program, void *settings);

/* Single values, for tools that parse more than settings. False: not such a value. */
bool rt_parse_int(const char *text, int64_t min, int64_t max, int64_t *ret);
bool rt_parse_duration(const char *text, int64_t *ret_ms);
bool rt_parse_size(const char *text, int64_t *ret_bytes);
/* "host:port" into its two; brackets of [::1] are taken off. `host` must hold 256 bytes. */
bool rt_parse_listen(const char *text, char *host, int *ret_port);

#endif
