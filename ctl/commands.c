/* commands.c - every command there is, and the options that all of them take.
 *
 * These tables and each command's own argp are the only place where commands and options are
 * named: --help, the manual page (manual.c) and the completion (complete.c) are made from them. */
#include <string.h>

#include "base/base.h"
#include "commands.h"

const struct ctl_command *const ctl_commands[] = {
	&ctl_order_place,    &ctl_order_get,      &ctl_order_list,      &ctl_order_watch,
	&ctl_order_confirm,  &ctl_order_cancel,   &ctl_stock_adjust,    &ctl_stock_get,
	&ctl_stock_list,     &ctl_explain,        &ctl_events_tail,     &ctl_events_show,
	&ctl_events_lag,     &ctl_dead_list,      &ctl_dead_show,       &ctl_dead_replay,
	&ctl_dead_discard,   &ctl_audit,          &ctl_doctor,          &ctl_load,
	&ctl_functions_list, &ctl_functions_load, &ctl_functions_prune,
};
const size_t ctl_command_count = RT_LENGTH(ctl_commands);

/* ---- the options of every command ---- */

enum {
	KEY_GATEWAY = 1000,
	KEY_JSON,
	KEY_TIMEOUT,
	KEY_REDIS_HOST,
	KEY_REDIS_PORT,
	KEY_REDIS_SOCKET,
	KEY_REDIS_USER,
	KEY_REDIS_PASSWORD_FILE,
};
static const struct argp_option common_options[] = {
	{ NULL, 0, NULL, 0, "Options of every command:", 8 },
	{ "json", KEY_JSON, NULL, 0, "One JSON value a line instead of tables", 8 },
	{ "timeout", KEY_TIMEOUT, "DURATION", 0, "How long a question may take (10s)", 8 },
	{ "gateway", KEY_GATEWAY, "HOST:PORT", 0,
	  "Where the gateway listens (TANDEM_GATEWAY_LISTEN, or 127.0.0.1:50051)", 8 },
	{ "redis-host", KEY_REDIS_HOST, "HOST", 0,
	  "Where Redis listens (TANDEM_REDIS_HOST, or 127.0.0.1)", 8 },
	{ "redis-port", KEY_REDIS_PORT, "PORT", 0, "Its port (TANDEM_REDIS_PORT, or 6390)", 8 },
	{ "redis-socket", KEY_REDIS_SOCKET, "PATH", 0, "Instead of host and port", 8 },
	{ "redis-user", KEY_REDIS_USER, "NAME", 0, "ACL user (ops)", 8 },
	{ "redis-password-file", KEY_REDIS_PASSWORD_FILE, "PATH", 0,
	  "Its password ($TANDEM_VAR/secrets/ops, or var/secrets/ops; where there is none, "
	  "Redis is asked as the default user, who may look at everything)",
	  8 },
	{ 0 },
};

static error_t common_parse(int key, char *arg, struct argp_state *state)
{
	struct ctl *ctl = state->input;

	switch (key) {
	case KEY_GATEWAY:
		ctl->gateway = arg;
		return 0;
	case KEY_JSON:
		ctl->json = true;
		return 0;
	case KEY_TIMEOUT:
		if (!rt_parse_duration(arg, &ctl->timeout_ms) || ctl->timeout_ms < 1)
			argp_error(state, "--timeout: not a duration such as 250ms or 10s: %s",
				   arg);
		return 0;
	case KEY_REDIS_HOST:
		ctl->redis_host = arg;
		return 0;
	case KEY_REDIS_PORT:
		if (!rt_parse_int(arg, 1, 65535, &ctl->redis_port))
			argp_error(state, "--redis-port: not a number from 1 to 65535: %s", arg);
		return 0;
	case KEY_REDIS_SOCKET:
		ctl->redis_socket = arg;
		return 0;
	case KEY_REDIS_USER:
		ctl->redis_user = arg;
		return 0;
	case KEY_REDIS_PASSWORD_FILE:
		ctl->redis_password_file = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}
const struct argp ctl_common_argp = { common_options, common_parse, NULL, NULL, NULL, NULL, NULL };

/* ---- finding one ---- */

const struct ctl_command *ctl_command_find(const char *first, const char *second, int *ret_words)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		const struct ctl_command *command = ctl_commands[i];

		*ret_words = command->group == NULL ? 1 : 2;
		if (command->group == NULL && strcmp(command->name, first) == 0)
			return command;
		if (command->group != NULL && second != NULL &&
		    strcmp(command->group, first) == 0 && strcmp(command->name, second) == 0)
			return command;
	}
	return NULL;
}

bool ctl_is_group(const char *word)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		if (ctl_commands[i]->group != NULL && strcmp(ctl_commands[i]->group, word) == 0)
			return true;
	}
	return false;
}

void ctl_command_name(const struct ctl_command *command, char name[CTL_COMMAND])
{
	snprintf(name, CTL_COMMAND, "%s%s%s", command->group == NULL ? "" : command->group,
		 command->group == NULL ? "" : " ", command->name);
}

/* ---- running one ---- */

/* What a parser's input is. */
struct input {
	struct ctl *ctl;
	void *options;
};

void *ctl_options(const struct argp_state *state)
{
	return ((struct input *)state->input)->options;
}

static error_t command_parse(int key, char *arg, struct argp_state *state)
{
	struct input *input = state->input;

	(void)arg;
	if (key != ARGP_KEY_INIT)
		return ARGP_ERR_UNKNOWN;
	state->child_inputs[0] = input;
	state->child_inputs[1] = input->ctl;
	return 0;
}

int ctl_command_run(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv)
{
	const struct argp_child children[] = {
		{ command->argp, 0, NULL, 0 },
		{ &ctl_common_argp, 0, NULL, 8 },
		{ 0 },
	};
	const struct argp argp = { NULL, command_parse, NULL, NULL, children, NULL, NULL };
	struct input input = { .ctl = ctl, .options = rt_alloc(command->options_size + 1) };
	char name[CTL_COMMAND], program[CTL_COMMAND + 16];
	int code = CTL_USAGE;

	ctl_command_name(command, name);
	snprintf(program, sizeof(program), "tandemctl %s", name);
	argv[0] = program; /* what usage messages begin with */
	if (argp_parse(&argp, argc, argv, 0, NULL, &input) == 0)
		code = command->run(ctl, input.options);
	free(input.options);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		ctl_error("the output could not be written");
		code = CTL_UNAVAILABLE;
	}
	return code;
}
