/* options.c - the options that every command takes, read together with its own. */
#include <string.h>

#include "commands.h"

enum {
	KEY_GATEWAY = 1000,
	KEY_TLS_CA,
	KEY_TLS_CERT,
	KEY_TLS_KEY,
	KEY_TOKEN_FILE,
	KEY_JSON,
	KEY_TIMEOUT,
	KEY_REDIS,
	KEY_REDIS_HOST,
	KEY_REDIS_PORT,
	KEY_REDIS_SOCKET,
	KEY_REDIS_TLS,
	KEY_REDIS_TLS_CA,
	KEY_REDIS_TLS_CERT,
	KEY_REDIS_TLS_KEY,
	KEY_REDIS_USER,
	KEY_REDIS_PASSWORD_FILE,
	KEY_SENTINEL_USER,
	KEY_SENTINEL_PASSWORD_FILE,
	KEY_WHY,
	KEY_FOR,
};
static const struct argp_option common_options[] = {
	{ NULL, 0, NULL, 0, "Options of every command:", 8 },
	{ "json", KEY_JSON, NULL, 0, "One JSON value a line instead of tables", 8 },
	{ "timeout", KEY_TIMEOUT, "DURATION", 0, "How long a call may take (10s)", 8 },
	{ "gateway", KEY_GATEWAY, "HOST:PORT", 0,
	  "Where the gateway listens, or several, separated by commas (TANDEM_GATEWAY_LISTEN, or "
	  "127.0.0.1:50051)",
	  8 },
	{ "tls-ca", KEY_TLS_CA, "PATH", 0,
	  "Calls are encrypted, and the other side's certificate must be from these authorities "
	  "(TANDEM_CTL_TLS_CA, or $TANDEM_VAR/tls/ca.crt after scripts/up --tls; \"\": not "
	  "encrypted)",
	  8 },
	{ "tls-cert", KEY_TLS_CERT, "PATH", 0,
	  "The certificate to show to the gateway (TANDEM_CTL_TLS_CERT, or $TANDEM_VAR/tls/ops.crt "
	  "after scripts/up --tls)",
	  8 },
	{ "tls-key", KEY_TLS_KEY, "PATH", 0,
	  "The key of --tls-cert (TANDEM_CTL_TLS_KEY, or $TANDEM_VAR/tls/ops.key after scripts/up "
	  "--tls)",
	  8 },
	{ "token-file", KEY_TOKEN_FILE, "PATH", 0,
	  "A bearer token or API key to send with each call (TANDEM_CTL_TOKEN_FILE)", 8 },
	{ "redis", KEY_REDIS, "URL", 0,
	  "Where Redis is: cluster://HOST:PORT,…, sentinel://HOST:PORT,…/NAME, "
	  "redis://HOST:PORT or, with TLS, rediss://HOST:PORT (TANDEM_REDIS, or host and port; a "
	  "cluster is also found from one of its nodes)",
	  8 },
	{ "redis-host", KEY_REDIS_HOST, "HOST", 0,
	  "Where Redis listens (TANDEM_REDIS_HOST, or 127.0.0.1)", 8 },
	{ "redis-port", KEY_REDIS_PORT, "PORT", 0, "Redis's port (TANDEM_REDIS_PORT, or 6390)", 8 },
	{ "redis-socket", KEY_REDIS_SOCKET, "PATH", 0, "Instead of host and port", 8 },
	{ "redis-tls", KEY_REDIS_TLS, NULL, 0,
	  "Use TLS to Redis (TANDEM_REDIS_TLS); rediss:// and --redis-tls-ca say the same", 8 },
	{ "redis-tls-ca", KEY_REDIS_TLS_CA, "PATH", 0,
	  "CAs of its certificate (TANDEM_REDIS_TLS_CA, or those of the system)", 8 },
	{ "redis-tls-cert", KEY_REDIS_TLS_CERT, "PATH", 0,
	  "The certificate to show (TANDEM_REDIS_TLS_CERT)", 8 },
	{ "redis-tls-key", KEY_REDIS_TLS_KEY, "PATH", 0,
	  "The key of --redis-tls-cert (TANDEM_REDIS_TLS_KEY)", 8 },
	{ "redis-user", KEY_REDIS_USER, "NAME", 0, "ACL user (ops)", 8 },
	{ "redis-password-file", KEY_REDIS_PASSWORD_FILE, "PATH", 0,
	  "The password of --redis-user ($TANDEM_VAR/secrets/ops, or " CTL_VAR
	  "/secrets/ops; if that file is missing, "
	  "Redis is asked as the default user, which can read everything)",
	  8 },
	{ "redis-sentinel-user", KEY_SENTINEL_USER, "NAME", 0,
	  "Who asks sentinels that have a password (TANDEM_REDIS_SENTINEL_USER, or default)", 8 },
	{ "redis-sentinel-password-file", KEY_SENTINEL_PASSWORD_FILE, "PATH", 0,
	  "The password of --redis-sentinel-user (TANDEM_REDIS_SENTINEL_PASSWORD_FILE)", 8 },
	{ 0 },
};

static error_t common_parse(int key, char *arg, struct argp_state *state)
{
	struct ctl *ctl = state->input;
	struct rt_redis_url url;
	char error[160];

	switch (key) {
	case KEY_GATEWAY:
		ctl->gateway = arg;
		return 0;
	case KEY_TLS_CA:
		ctl->tls_ca = arg;
		if (arg[0] == '\0')
			ctl->tls_cert = ctl->tls_key = arg;
		return 0;
	case KEY_TLS_CERT:
		ctl->tls_cert = arg;
		return 0;
	case KEY_TLS_KEY:
		ctl->tls_key = arg;
		return 0;
	case KEY_TOKEN_FILE:
		ctl->token_file = arg;
		return 0;
	case KEY_JSON:
		ctl->json = true;
		return 0;
	case KEY_TIMEOUT:
		if (!rt_parse_duration(arg, &ctl->timeout_ms) || ctl->timeout_ms < 1)
			argp_error(state, "--timeout: not a duration such as 250ms or 10s: %s",
				   arg);
		return 0;
	case KEY_REDIS:
		if (rt_redis_url_parse(arg, &url, error, sizeof(error)) != RT_OK)
			argp_error(state, "--redis: %s", error);
		ctl->redis_url = arg;
		return 0;
	case KEY_REDIS_HOST:
		ctl->redis_url = "";
		ctl->redis_host = arg;
		return 0;
	case KEY_REDIS_PORT:
		if (!rt_parse_int(arg, 1, 65535, &ctl->redis_port))
			argp_error(state, "--redis-port: not a number from 1 to 65535: %s", arg);
		ctl->redis_url = "";
		return 0;
	case KEY_REDIS_SOCKET:
		ctl->redis_url = "";
		ctl->redis_socket = arg;
		return 0;
	case KEY_REDIS_TLS:
		ctl->redis_tls = true;
		return 0;
	case KEY_REDIS_TLS_CA:
		ctl->redis_tls_ca = arg;
		return 0;
	case KEY_REDIS_TLS_CERT:
		ctl->redis_tls_cert = arg;
		return 0;
	case KEY_REDIS_TLS_KEY:
		ctl->redis_tls_key = arg;
		return 0;
	case KEY_REDIS_USER:
		ctl->redis_user = arg;
		return 0;
	case KEY_REDIS_PASSWORD_FILE:
		ctl->redis_password_file = arg;
		return 0;
	case KEY_SENTINEL_USER:
		ctl->sentinel_user = arg;
		return 0;
	case KEY_SENTINEL_PASSWORD_FILE:
		ctl->sentinel_password_file = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}
const struct argp ctl_common_argp = { common_options, common_parse, NULL, NULL, NULL, NULL, NULL };

#define WHY_BYTES_MAX 256 /* as the reason of an adjustment */
#define FOR_BYTES_MAX 128

static const struct argp_option why_options[] = {
	{ "why", KEY_WHY, "TEXT", 0, "The reason, for the trail (tandemctl trail)", 7 },
	{ "for", KEY_FOR, "NAME", 0, "Who wanted it, for the trail: what calls tandemctl says that",
	  7 },
	{ 0 },
};

static error_t why_parse(int key, char *arg, struct argp_state *state)
{
	struct ctl *ctl = state->input;

	if (key == KEY_FOR) {
		if (arg[0] == '\0' || strlen(arg) > FOR_BYTES_MAX)
			argp_error(state, "--for: 1 to %d bytes", FOR_BYTES_MAX);
		ctl->for_whom = arg;
		return 0;
	}
	if (key != KEY_WHY)
		return ARGP_ERR_UNKNOWN;
	if (arg[0] == '\0' || strlen(arg) > WHY_BYTES_MAX)
		argp_error(state, "--why: 1 to %d bytes", WHY_BYTES_MAX);
	ctl->why = arg;
	return 0;
}
const struct argp ctl_why_argp = { why_options, why_parse, NULL, NULL, NULL, NULL, NULL };

/* The input of a command's parser. */
struct input {
	struct ctl *ctl;
	const struct ctl_command *command;
	void *options;
};

void *ctl_options(const struct argp_state *state)
{
	return ((struct input *)state->input)->options;
}

void ctl_need_why(struct argp_state *state)
{
	if (((struct input *)state->input)->ctl->why == NULL)
		argp_error(state, "--why is needed: the trail says why something was given up");
}

static error_t command_parse(int key, char *arg, struct argp_state *state)
{
	struct input *input = state->input;

	if (key == ARGP_KEY_INIT) {
		state->child_inputs[0] = input;
		state->child_inputs[1] = input->ctl;
		if (input->command->changes)
			state->child_inputs[2] = input->ctl;
	} else if (key == ARGP_KEY_ARG && input->command->arguments == NULL) {
		argp_error(state, "does not take %s", arg);
	} else {
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

bool ctl_options_parse(struct ctl *ctl, const struct ctl_command *command, void *options, int argc,
		       char **argv)
{
	const struct argp own = { .options = command->options,
				  .parser = command->parse,
				  .args_doc = command->arguments,
				  .doc = command->text };
	const struct argp_child children[] = {
		{ &own, 0, NULL, 0 },
		{ &ctl_common_argp, 0, NULL, 8 },
		{ command->changes ? &ctl_why_argp : NULL, 0, NULL, 7 },
		{ 0 },
	};
	const struct argp argp = { NULL, command_parse, NULL, NULL, children, NULL, NULL };
	struct input input = { .ctl = ctl, .command = command, .options = options };

	return argp_parse(&argp, argc, argv, 0, NULL, &input) == 0;
}
