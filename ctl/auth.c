/* auth.c - tandemctl auth new-key|check|show-token: API keys, and what the files that say who may call mean. Nothing is
 * connected to; the files are read as a service reads them (runtime/auth). */
#include <string.h>

#include "auth/auth.h"
#include "base/base.h"
#include "commands.h"

#define TOKEN_BYTES 16384

/* ---- options ---- */

struct auth {
	struct rt_auth_options files;
	/* Of new-key. */
	const char *name, *owner, *expires;
	enum rt_role role;
};

enum {
	KEY_CALLERS = 256,
	KEY_JWT_KEYS,
	KEY_ISSUER,
	KEY_AUDIENCE,
	KEY_LEEWAY,
	KEY_NAME,
	KEY_ROLE,
	KEY_OWNER,
	KEY_EXPIRES
};

/* As a service reads them. */
static void files_from_environment(struct argp_state *state, struct rt_auth_options *files)
{
	const char *leeway = getenv("TANDEM_JWT_LEEWAY");

	files->callers_file = getenv("TANDEM_CALLERS");
	files->jwt_keys_file = getenv("TANDEM_JWT_KEYS");
	files->jwt_issuer = getenv("TANDEM_JWT_ISSUER");
	files->jwt_audience = getenv("TANDEM_JWT_AUDIENCE");
	files->jwt_leeway_ms = 30000;
	if (leeway != NULL && leeway[0] != '\0' &&
	    !rt_parse_duration(leeway, &files->jwt_leeway_ms))
		argp_error(state, "TANDEM_JWT_LEEWAY: not a duration such as 30s: %s", leeway);
}

static error_t files_parse(int key, char *arg, struct argp_state *state)
{
	struct rt_auth_options *files = &((struct auth *)ctl_options(state))->files;

	switch (key) {
	case ARGP_KEY_INIT:
		files_from_environment(state, files);
		return 0;
	case KEY_CALLERS:
		files->callers_file = arg;
		return 0;
	case KEY_JWT_KEYS:
		files->jwt_keys_file = arg;
		return 0;
	case KEY_ISSUER:
		files->jwt_issuer = arg;
		return 0;
	case KEY_AUDIENCE:
		files->jwt_audience = arg;
		return 0;
	case KEY_LEEWAY:
		if (!rt_parse_duration(arg, &files->jwt_leeway_ms))
			argp_error(state, "--jwt-leeway: not a duration such as 30s: %s", arg);
		return 0;
	case ARGP_KEY_END:
		if ((files->callers_file == NULL || files->callers_file[0] == '\0') &&
		    (files->jwt_keys_file == NULL || files->jwt_keys_file[0] == '\0'))
			argp_error(state, "needs --callers, --jwt-keys, or both");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t new_key_parse(int key, char *arg, struct argp_state *state)
{
	struct auth *auth = ctl_options(state);

	switch (key) {
	case KEY_NAME:
		auth->name = arg;
		return 0;
	case KEY_ROLE:
		if (!rt_role_parse(arg, strlen(arg), &auth->role))
			argp_error(state,
				   "--role: customer, support, stock, gateway or operator, "
				   "not %s",
				   arg);
		return 0;
	case KEY_OWNER:
		auth->owner = arg;
		return 0;
	case KEY_EXPIRES:
		auth->expires = arg;
		return 0;
	case ARGP_KEY_END:
		if (auth->name == NULL || auth->role == RT_ROLE_ANONYMOUS)
			argp_error(state, "needs --name and --role");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- new-key ---- */

static int new_key_run(struct ctl *ctl, void *options)
{
	const struct auth *auth = options;
	struct rt_buf line = { 0 }, error = { 0 };
	char key[RT_AUTH_KEY_TEXT];
	int rc = rt_auth_key_new(auth->name, auth->role, auth->owner, auth->expires, key, &line,
				 &error);

	if (rc != RT_OK)
		ctl_error("%s", error.data);
	else if (ctl->json)
		ctl_json_print(json_pack("{s:s, s:s}", "key", key, "line", line.data));
	else
		printf("The key, which is shown only now, for the caller:\n\n  %s\n\n"
		       "Its line for the callers file of the services:\n\n%s\n",
		       key, line.data);
	explicit_bzero(key, sizeof(key));
	rt_buf_done(&line);
	rt_buf_done(&error);
	return rc == RT_OK ? CTL_OK : CTL_USAGE;
}

/* ---- check ---- */

static struct rt_auth *read_files(const struct rt_auth_options *files)
{
	struct rt_buf error = { 0 };
	struct rt_auth *auth = NULL;

	if (rt_auth_read(files, &auth, &error) != RT_OK)
		ctl_error("%s", error.data);
	rt_buf_done(&error);
	return auth;
}

static void time_text(char text[RT_TIME_TEXT], int64_t ms)
{
	if (ms == INT64_MAX)
		text[0] = '\0';
	else
		rt_time_format(ms, text);
}

static void print_callers(const struct ctl *ctl, const struct rt_auth *auth)
{
	struct ctl_table table = CTL_TABLE("LINE", "BY", "NAME", "ROLE", "CUSTOMER", "EXPIRES", "");
	struct rt_auth_caller caller;

	for (size_t i = 0; rt_auth_caller(auth, i, &caller); i++) {
		bool expired = caller.expires_ms <= rt_wall_us() / 1000;
		char expires[RT_TIME_TEXT];

		time_text(expires, caller.expires_ms);
		if (ctl->json) {
			ctl_json_print(json_pack(
				"{s:i, s:s, s:o, s:s, s:o, s:s, s:b}", "line", (int)caller.line,
				"by", rt_auth_way_name(caller.way), "name",
				ctl_json_text(caller.name), "role", rt_role_name(caller.role),
				"customer_id", ctl_json_text(caller.owner), "expires", expires,
				"expired", expired));
			continue;
		}
		ctl_cell(&table, "%u", caller.line);
		ctl_cell(&table, "%s", rt_auth_way_name(caller.way));
		ctl_cell(&table, "%s", caller.name);
		ctl_cell(&table, "%s", rt_role_name(caller.role));
		ctl_cell(&table, "%s", caller.owner);
		ctl_cell(&table, "%s", expires);
		ctl_cell(&table, "%s", expired ? "expired" : "");
	}
	ctl_table_print(&table);
}

static void print_jwt_keys(const struct ctl *ctl, const struct rt_auth *auth)
{
	struct ctl_table table = CTL_TABLE("ALGORITHM", "KID");
	const char *algorithm, *kid;
	size_t ignored = rt_auth_jwt_keys_ignored(auth);

	for (size_t i = 0; rt_auth_jwt_key(auth, i, &algorithm, &kid); i++) {
		if (ctl->json) {
			ctl_json_print(json_pack("{s:s, s:o}", "algorithm", algorithm, "kid",
						 kid == NULL ? json_null() : ctl_json_text(kid)));
			continue;
		}
		ctl_cell(&table, "%s", algorithm);
		ctl_cell(&table, "%s", kid == NULL ? "(none)" : kid);
	}
	ctl_table_print(&table);
	if (ignored > 0 && ctl->json)
		ctl_json_print(json_pack("{s:I}", "ignored", (json_int_t)ignored));
	else if (ignored > 0)
		printf("%zu keys for other algorithms or uses are left out\n", ignored);
}

static int check_run(struct ctl *ctl, void *options)
{
	struct rt_auth_options files = ((const struct auth *)options)->files;
	struct rt_auth *auth;

	/* The files are good or bad whatever tokens must say. */
	if (files.jwt_issuer == NULL || files.jwt_issuer[0] == '\0')
		files.jwt_issuer = "any";
	if (files.jwt_audience == NULL || files.jwt_audience[0] == '\0')
		files.jwt_audience = "any";
	auth = read_files(&files);
	if (auth == NULL)
		return CTL_NEGATIVE;
	print_callers(ctl, auth);
	print_jwt_keys(ctl, auth);
	rt_auth_free(auth);
	return CTL_OK;
}

/* ---- show-token ---- */

/* The header or the claims, as JSON or as the text they are if they are none; takes `text`. */
static json_t *part_json(char *text)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);

	if (json == NULL)
		json = ctl_json_text(text);
	free(text);
	return json;
}

static void print_part(const char *name, const json_t *json)
{
	struct rt_buf line = { 0 };

	ctl_json_line(json, &line);
	printf("%-10s %s\n", name, line.length == 0 ? "" : line.data);
	rt_buf_done(&line);
}

/* Times in seconds are for machines. */
static void print_time(const json_t *claims, const char *name)
{
	const json_t *time = json_object_get(claims, name);
	char text[RT_TIME_TEXT];

	if (!json_is_integer(time))
		return;
	rt_time_format(RT_MIN(RT_MAX(json_integer_value(time), (json_int_t)0),
			      (json_int_t)(RT_TIME_MS_MAX / 1000)) *
			       1000,
		       text);
	printf("  %-8s %s\n", name, text);
}

static void print_verdict(const struct rt_identity *identity, const char *why)
{
	char expires[RT_TIME_TEXT];
	char *name, *owner;

	if (why != NULL) {
		printf("refused    %s\n", why);
		return;
	}
	time_text(expires, identity->expires_ms);
	name = rt_text_shown(identity->name, strlen(identity->name));
	owner = rt_text_shown(identity->owner, strlen(identity->owner));
	printf("accepted   %s %s, by %s%s%s%s%s\n", rt_role_name(identity->role), name,
	       identity->way == RT_AUTH_KEY ? "an API key" : "a signed token",
	       owner[0] != '\0' ? ", customer_id " : "", owner,
	       expires[0] != '\0' ? ", until " : "", expires);
	free(name);
	free(owner);
}

static json_t *verdict_json(const struct rt_identity *identity, const char *why)
{
	char expires[RT_TIME_TEXT];

	if (why != NULL)
		return json_pack("{s:b, s:s}", "accepted", 0, "why", why);
	time_text(expires, identity->expires_ms);
	return json_pack("{s:b, s:s, s:s, s:o, s:o, s:s}", "accepted", 1, "by",
			 rt_auth_way_name(identity->way), "role", rt_role_name(identity->role),
			 "name", ctl_json_text(identity->name), "customer_id",
			 ctl_json_text(identity->owner), "expires", expires);
}

static void print_token(const struct ctl *ctl, const char *token, size_t length,
			const struct rt_identity *identity, const char *why)
{
	char *header_text, *claims_text;
	json_t *header = NULL, *claims = NULL, *json;

	if (rt_auth_jwt_parts(token, length, &header_text, &claims_text)) {
		header = part_json(header_text);
		claims = part_json(claims_text);
	}
	if (ctl->json) {
		json = verdict_json(identity, why);
		if (header != NULL) {
			json_object_set(json, "header", header);
			json_object_set(json, "claims", claims);
		}
		ctl_json_print(json);
	} else {
		if (header != NULL) {
			print_part("header", header);
			print_part("claims", claims);
			print_time(claims, "exp");
			print_time(claims, "nbf");
			print_time(claims, "iat");
		}
		print_verdict(identity, why);
	}
	json_decref(header);
	json_decref(claims);
}

static int show_token_run(struct ctl *ctl, void *options)
{
	const struct auth *asked = options;
	struct rt_identity identity = { .role = RT_ROLE_ANONYMOUS };
	struct rt_auth *auth = read_files(&asked->files);
	char token[TOKEN_BYTES];
	const char *why = NULL;
	size_t length;

	if (auth == NULL)
		return CTL_NEGATIVE;
	length = fread(token, 1, sizeof(token), stdin);
	if (length > 0 && token[length - 1] == '\n')
		length--;
	rt_auth_bearer(auth, token, length, rt_wall_us() / 1000, &identity, &why);
	print_token(ctl, token, length, &identity, why);
	explicit_bzero(token, sizeof(token));
	rt_auth_free(auth);
	return why == NULL ? CTL_OK : CTL_NEGATIVE;
}

/* ---- the commands ---- */

#define FILE_OPTIONS                                                                               \
	{ "callers", KEY_CALLERS, "PATH", 0, "API keys and certificates (TANDEM_CALLERS)", 1 },    \
		{ "jwt-keys",                                                                      \
		  KEY_JWT_KEYS,                                                                    \
		  "PATH",                                                                          \
		  0,                                                                               \
		  "Keys that tokens are signed with, a JWK set (TANDEM_JWT_KEYS)",                 \
		  1 },                                                                             \
		{ "jwt-issuer",                                                                    \
		  KEY_ISSUER,                                                                      \
		  "TEXT",                                                                          \
		  0,                                                                               \
		  "What a token's iss must be (TANDEM_JWT_ISSUER)",                                \
		  1 },                                                                             \
		{ "jwt-audience",                                                                  \
		  KEY_AUDIENCE,                                                                    \
		  "TEXT",                                                                          \
		  0,                                                                               \
		  "What a token's aud must have (TANDEM_JWT_AUDIENCE)",                            \
		  1 },                                                                             \
	{                                                                                          \
		"jwt-leeway", KEY_LEEWAY, "DURATION", 0,                                           \
			"How far clocks may differ (TANDEM_JWT_LEEWAY, or 30s)", 1                 \
	}

static const struct argp_option new_key_options[] = {
	{ "name", KEY_NAME, "NAME", 0, "What logs and the trail call the caller", 0 },
	{ "role", KEY_ROLE, "ROLE", 0, "customer, support, stock, gateway or operator", 0 },
	{ "customer-id", KEY_OWNER, "ID", 0, "Of a customer: whose orders it may reach", 0 },
	{ "expires", KEY_EXPIRES, "TIME", 0,
	  "From then on it is refused: 2027-01-01 or 2027-01-01T12:00:00Z (it does not end)", 0 },
	{ 0 },
};
const struct ctl_command ctl_auth_new_key = {
	.group = "auth",
	.name = "new-key",
	.about = "Makes an API key and its line for the callers file",
	.text = "Makes an API key, prints it once, and prints the line that makes it known to the "
		"services: that line has only its hash.\v"
		"To replace a key without a gap: add the line of a second key with the same name, "
		"give the caller the new key, then take the first line out. The services read the "
		"file again by themselves.\n\n"
		"Examples:\n"
		"  tandemctl auth new-key --name shop-7 --role customer --customer-id cust_7\n"
		"  tandemctl auth new-key --name stock-import --role stock --expires 2027-01-01",
	.options = new_key_options,
	.parse = new_key_parse,
	.options_size = sizeof(struct auth),
	.run = new_key_run,
};

static const struct argp_option files_options[] = { FILE_OPTIONS, { 0 } };
const struct ctl_command ctl_auth_check = {
	.group = "auth",
	.name = "check",
	.about = "Checks the files that say who may call",
	.text = "Reads the callers file and the keys of tokens as a service does, and lists what "
		"they hold. Exit code 1: a service would refuse them.\vExample:\n"
		"  tandemctl auth check --callers /etc/tandem/callers --jwt-keys "
		"/etc/tandem/jwt-keys.json",
	.options = files_options,
	.parse = files_parse,
	.options_size = sizeof(struct auth),
	.run = check_run,
};

const struct ctl_command ctl_auth_show_token = {
	.group = "auth",
	.name = "show-token",
	.about = "Says who a token stands for, or why it is refused",
	.text = "Reads a token or an API key from standard input, and says who it stands for, or "
		"why "
		"a service refuses it (exit code 1). Callers are not told why.\vExample:\n"
		"  tandemctl auth show-token --jwt-keys keys.json --jwt-issuer https://id.example "
		"\\\n"
		"    --jwt-audience tandem < token",
	.options = files_options,
	.parse = files_parse,
	.options_size = sizeof(struct auth),
	.run = show_token_run,
};
