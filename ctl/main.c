/* main.c - tandemctl: finds the command, parses its options with the common ones, runs it.
 *
 * Where things are comes from the same variables as for the services and scripts: TANDEM_VAR,
 * TANDEM_GATEWAY_LISTEN, TANDEM_REDIS_HOST, _PORT and _SOCKET. */
#include <signal.h>
#include <string.h>

#include "commands.h"
#include "config.h"
#include "ctl.h"

static const struct ctl_command *const commands[] = {
	&ctl_order_place,  &ctl_order_get,    &ctl_order_list, &ctl_order_watch, &ctl_order_confirm,
	&ctl_order_cancel, &ctl_stock_adjust, &ctl_stock_get,  &ctl_stock_list,  &ctl_explain,
	&ctl_events_tail,  &ctl_events_show,  &ctl_events_lag, &ctl_dead_list,   &ctl_dead_show,
	&ctl_dead_replay,  &ctl_dead_discard, &ctl_audit,      &ctl_doctor,      &ctl_load,
};

/* What a parser's input is. */
struct input {
	struct ctl *ctl;
	void *options;
	int command_at; /* main's parser: index of the first word that is no option */
};

void *ctl_options(const struct argp_state *state)
{
	return ((struct input *)state->input)->options;
}

struct ctl *ctl_of(const struct argp_state *state)
{
	return ((struct input *)state->input)->ctl;
}

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
	{ "redis-host", KEY_REDIS_HOST, "HOST", 0, "(TANDEM_REDIS_HOST, or 127.0.0.1)", 8 },
	{ "redis-port", KEY_REDIS_PORT, "PORT", 0, "(TANDEM_REDIS_PORT, or 6390)", 8 },
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
static const struct argp common_argp = {
	common_options, common_parse, NULL, NULL, NULL, NULL, NULL
};

/* Without a parser of its own a command takes no arguments. */
static error_t none_parse(int key, char *arg, struct argp_state *state)
{
	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	argp_error(state, "does not take %s", arg);
	return 0;
}
static const struct argp none_argp = { NULL, none_parse, NULL, NULL, NULL, NULL, NULL };

/* ---- one command ---- */

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

static int command_run(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv)
{
	const struct argp_child children[] = {
		{ command->argp == NULL ? &none_argp : command->argp, 0, NULL, 0 },
		{ &common_argp, 0, NULL, 8 },
		{ 0 },
	};
	const struct argp argp = { NULL, command_parse, NULL, NULL, children, NULL, NULL };
	struct input input = { .ctl = ctl, .options = rt_alloc(command->options_size + 1) };
	char name[64];
	int code = CTL_USAGE;

	snprintf(name, sizeof(name), "tandemctl %s%s%s",
		 command->group == NULL ? "" : command->group, command->group == NULL ? "" : " ",
		 command->name);
	argv[0] = name; /* what usage messages begin with */
	if (argp_parse(&argp, argc, argv, 0, NULL, &input) == 0)
		code = command->run(ctl, input.options);
	free(input.options);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		ctl_error("the output could not be written");
		code = CTL_UNAVAILABLE;
	}
	return code;
}

/* ---- finding it ---- */

static void list_commands(FILE *to, const char *group)
{
	for (size_t i = 0; i < RT_LENGTH(commands); i++) {
		const struct ctl_command *command = commands[i];
		char words[64];

		if (group != NULL && (command->group == NULL || strcmp(command->group, group) != 0))
			continue;
		snprintf(words, sizeof(words), "%s%s%s",
			 command->group == NULL ? "" : command->group,
			 command->group == NULL ? "" : " ", command->name);
		fprintf(to, "  %-15s %s\n", words, command->about);
	}
}

static char *help_filter(int key, const char *text, void *input)
{
	char *list = NULL;
	size_t size = 0;
	FILE *file;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)(uintptr_t)text;
	file = open_memstream(&list, &size);
	if (file == NULL)
		return (char *)(uintptr_t)text;
	fprintf(file, "Commands:\n");
	list_commands(file, NULL);
	fprintf(file, "\nEach has its own --help, with examples.\n"
		      "Exit codes: 0 fine, 1 the answer is no, 2 used wrongly, 3 could not ask.\n");
	fclose(file);
	return list;
}

static error_t main_parse(int key, char *arg, struct argp_state *state)
{
	struct input *input = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = input->ctl;
		return 0;
	case ARGP_KEY_ARG:
		/* The command; what follows is its own. */
		input->command_at = state->next - 1;
		state->next = state->argc;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* The words of a command at argv[0] and, for a group's, argv[1]; *ret_words says how many. */
static const struct ctl_command *find_command(int argc, char **argv, int *ret_words)
{
	for (size_t i = 0; i < RT_LENGTH(commands); i++) {
		const struct ctl_command *command = commands[i];

		if (command->group == NULL && strcmp(command->name, argv[0]) == 0) {
			*ret_words = 1;
			return command;
		}
		if (command->group != NULL && argc > 1 && strcmp(command->group, argv[0]) == 0 &&
		    strcmp(command->name, argv[1]) == 0) {
			*ret_words = 2;
			return command;
		}
	}
	return NULL;
}

static bool is_group(const char *word)
{
	for (size_t i = 0; i < RT_LENGTH(commands); i++) {
		if (commands[i]->group != NULL && strcmp(commands[i]->group, word) == 0)
			return true;
	}
	return false;
}

/* No such command: says what there is. */
static int no_command(int argc, char **argv)
{
	bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0);

	if (is_group(argv[0]) && (argc == 1 || help)) {
		fprintf(help ? stdout : stderr, "Commands:\n");
		list_commands(help ? stdout : stderr, argv[0]);
		return help ? CTL_OK : CTL_USAGE;
	}
	if (is_group(argv[0]))
		ctl_error("no such command: %s %s", argv[0], argv[1]);
	else
		ctl_error("no such command: %s; see tandemctl --help", argv[0]);
	return CTL_USAGE;
}

/* ---- */

static const char *setting(const char *variable, const char *standard)
{
	const char *value = getenv(variable);

	return value == NULL || value[0] == '\0' ? standard : value;
}

static void ctl_init(struct ctl *ctl)
{
	const char *port = setting("TANDEM_REDIS_PORT", "6390");

	ctl->gateway = setting("TANDEM_GATEWAY_LISTEN", "127.0.0.1:50051");
	ctl->redis_host = setting("TANDEM_REDIS_HOST", "127.0.0.1");
	ctl->redis_socket = setting("TANDEM_REDIS_SOCKET", "");
	ctl->redis_user = "ops";
	ctl->timeout_ms = 10000;
	if (!rt_parse_int(port, 1, 65535, &ctl->redis_port)) {
		ctl_error("TANDEM_REDIS_PORT is not a number from 1 to 65535: %s", port);
		exit(CTL_USAGE);
	}
}

int main(int argc, char **argv)
{
	const struct argp_child children[] = { { &common_argp, 0, NULL, 8 }, { 0 } };
	const struct argp argp = { NULL,
				   main_parse,
				   "COMMAND [ARGUMENT...]",
				   "Places and follows orders, shows why things are where they "
				   "are, and mends them.\v ",
				   children,
				   help_filter,
				   NULL };
	struct ctl ctl = { 0 };
	struct input input = { .ctl = &ctl };
	const struct ctl_command *command;
	int words = 0, code;

	argp_program_version = "tandemctl " TANDEM_VERSION;
	argp_err_exit_status = CTL_USAGE;
	signal(SIGPIPE, SIG_IGN);
	ctl_init(&ctl);
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &input) != 0)
		return CTL_USAGE;
	if (input.command_at == 0) {
		argp_help(&argp, stderr, ARGP_HELP_STD_USAGE, argv[0]);
		return CTL_USAGE;
	}
	argc -= input.command_at;
	argv += input.command_at;
	command = find_command(argc, argv, &words);
	if (command == NULL)
		return no_command(argc, argv);
	/* The last word of the command gives its place to the program's name. */
	code = command_run(&ctl, command, argc - words + 1, argv + words - 1);
	ctl_connections_done(&ctl);
	return code;
}
