/* main.c - tandemctl: finds the command, parses its options with the common ones, runs it.
 *
 * TANDEM_CTL_TLS_CA, _CERT, _KEY and TANDEM_CTL_TOKEN_FILE are its own.
 * The services and scripts read the same variables: TANDEM_VAR, TANDEM_GATEWAY_LISTEN,
 * TANDEM_REDIS, TANDEM_REDIS_HOST, _PORT, _SOCKET, _TLS, _TLS_CA, _TLS_CERT, _TLS_KEY, _SENTINEL_USER and
 * _SENTINEL_PASSWORD_FILE. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "commands.h"

/* What main's parser fills. */
struct input {
	struct ctl *ctl;
	int command_at; /* index of the first word that is not an option */
};

static void list_commands(FILE *to, const char *group)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		const struct ctl_command *command = ctl_commands[i];
		char name[CTL_COMMAND];

		if (group != NULL && (command->group == NULL || strcmp(command->group, group) != 0))
			continue;
		ctl_command_name(command, name);
		fprintf(to, "  %-17s %s\n", name, command->about);
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
		      "Exit codes: 0 success, 1 the answer is no, 2 wrong usage, 3 no answer.\n");
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
		/* The command; the rest is parsed by its own parser. */
		input->command_at = state->next - 1;
		state->next = state->argc;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* No such command: prints the commands of the group, or an error. */
static int no_command(int argc, char **argv)
{
	bool help = argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0);

	if (ctl_is_group(argv[0]) && (argc == 1 || help)) {
		fprintf(help ? stdout : stderr, "Commands:\n");
		list_commands(help ? stdout : stderr, argv[0]);
		return help ? CTL_OK : CTL_USAGE;
	}
	if (ctl_is_group(argv[0]))
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

/* A switch, as the services read it. */
static bool is_set(const char *variable)
{
	const char *value = setting(variable, "false");

	return strcmp(value, "true") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "1") == 0;
}

/* Where scripts/up --tls has put this file; "": it was not used. */
static const char *standard_tls(const char *file, char path[PATH_MAX])
{
	const char *var = setting("TANDEM_VAR", CTL_VAR);

	snprintf(path, PATH_MAX, "%s/tls/on", var);
	if (access(path, F_OK) != 0)
		return "";
	snprintf(path, PATH_MAX, "%s/tls/%s", var, file);
	return path;
}

static void ctl_init(struct ctl *ctl)
{
	static char ca[PATH_MAX], cert[PATH_MAX], key[PATH_MAX];
	const char *port = setting("TANDEM_REDIS_PORT", "6390");
	struct rt_redis_url url;
	char error[160];

	ctl->gateway = setting("TANDEM_GATEWAY_LISTEN", "127.0.0.1:50051");
	ctl->tls_ca = setting("TANDEM_CTL_TLS_CA", standard_tls("ca.crt", ca));
	ctl->tls_cert = setting("TANDEM_CTL_TLS_CERT", standard_tls("ops.crt", cert));
	ctl->tls_key = setting("TANDEM_CTL_TLS_KEY", standard_tls("ops.key", key));
	ctl->token_file = setting("TANDEM_CTL_TOKEN_FILE", "");
	ctl->redis_url = setting("TANDEM_REDIS", "");
	ctl->redis_host = setting("TANDEM_REDIS_HOST", "127.0.0.1");
	ctl->redis_socket = setting("TANDEM_REDIS_SOCKET", "");
	ctl->redis_tls = is_set("TANDEM_REDIS_TLS");
	ctl->redis_tls_ca = setting("TANDEM_REDIS_TLS_CA", standard_tls("ca.crt", ca));
	ctl->redis_tls_cert = setting("TANDEM_REDIS_TLS_CERT", standard_tls("ops.crt", cert));
	ctl->redis_tls_key = setting("TANDEM_REDIS_TLS_KEY", standard_tls("ops.key", key));
	ctl->redis_user = "ops";
	ctl->sentinel_user = setting("TANDEM_REDIS_SENTINEL_USER", "default");
	ctl->sentinel_password_file = setting("TANDEM_REDIS_SENTINEL_PASSWORD_FILE", "");
	ctl->timeout_ms = 10000;
	if (!rt_parse_int(port, 1, 65535, &ctl->redis_port)) {
		ctl_error("TANDEM_REDIS_PORT is not a number from 1 to 65535: %s", port);
		exit(CTL_USAGE);
	}
	if (ctl->redis_url[0] != '\0' &&
	    rt_redis_url_parse(ctl->redis_url, &url, error, sizeof(error)) != RT_OK) {
		ctl_error("TANDEM_REDIS: %s", error);
		exit(CTL_USAGE);
	}
}

int main(int argc, char **argv)
{
	const struct argp_child children[] = { { &ctl_common_argp, 0, NULL, 8 }, { 0 } };
	const struct argp argp = { NULL,
				   main_parse,
				   "COMMAND [ARGUMENT...]",
				   "Places and follows orders, changes stock, inspects and repairs "
				   "Tandem.\v ",
				   children,
				   help_filter,
				   NULL };
	struct ctl ctl = { 0 };
	struct input input = { .ctl = &ctl };
	const struct ctl_command *command;
	int taken = 0, code;

	signal(SIGPIPE, SIG_DFL); /* the parent may have set another action */
	if (argc > 1 && strcmp(argv[1], "--print-manual") == 0) { /* for the install target */
		ctl_manual(stdout);
		return CTL_OK;
	}
	if (argc > 1 && strcmp(argv[1], "--complete") == 0) { /* for the shell's completion */
		ctl_complete(stdout, argc - 2, argv + 2);
		return CTL_OK;
	}
	argp_program_version = "tandemctl " TANDEM_VERSION;
	argp_err_exit_status = CTL_USAGE;
	if (is_set("TANDEM_DUMPABLE")) /* as the services' --dumpable */
		rt_file_allow_dumps();
	ctl_init(&ctl);
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &input) != 0)
		return CTL_USAGE;
	if (input.command_at == 0) {
		argp_help(&argp, stderr, ARGP_HELP_STD_USAGE, argv[0]);
		return CTL_USAGE;
	}
	argc -= input.command_at;
	argv += input.command_at;
	command = ctl_command_find(argv[0], argc > 1 ? argv[1] : NULL, &taken);
	if (command == NULL)
		return no_command(argc, argv);
	argp_program_version = NULL; /* commands have no --version */
	/* The program's name replaces the last word of the command. */
	code = ctl_command_run(&ctl, command, argc - taken + 1, argv + taken - 1);
	ctl_connections_done(&ctl);
	return code;
}
