/* trail.c - who changed what: entries of the trails, and tandemctl trail, which lists them.
 *
 * Each context has a stream <context>:{p}:trail in each partition (runtime/events/events.lua). What a command changes
 * there is entered in the same step:
 *
 *   a function       is called by way of <context>_operate, which adds the entry if the function did something
 *   plain commands   go in one MULTI with the entry (FUNCTION LOAD and DELETE, the mark that ends a migration)
 *
 * An entry says what tandemctl was told. Whoever has the password of ops can write others (docs/decisions/041). */
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "commands.h"

#define TRAIL_MAX "100000" /* entries of a stream; as events.lua has it */
#define SCAN_MAX  1000000

/* ---- who, and from where ---- */

/* The user of the operating system; behind sudo, who called that, too. */
static char *user_text(void)
{
	const char *caller = getenv("SUDO_USER");
	struct passwd entry, *found = NULL;
	char texts[4096], *name, *text;

	if (getpwuid_r(getuid(), &entry, texts, sizeof(texts), &found) != 0)
		found = NULL;
	name = found != NULL ? rt_strdup(found->pw_name) : rt_printf("uid %ld", (long)getuid());
	if (getuid() != 0 || caller == NULL || caller[0] == '\0')
		return name;
	text = rt_printf("%s (sudo by %s)", name, caller);
	free(name);
	return text;
}

static const char *who_of(struct ctl *ctl)
{
	if (ctl->who == NULL) {
		const char *redis_user = ctl->redis_user[0] == '\0' ? "default" : ctl->redis_user;
		char *user = user_text();

		ctl->who = rt_printf("%s as %s%s%s", user, redis_user,
				     ctl->for_whom == NULL ? "" : " for ",
				     ctl->for_whom == NULL ? "" : ctl->for_whom);
		free(user);
	}
	return ctl->who;
}

static const char *from_of(struct ctl *ctl)
{
	if (ctl->from == NULL) {
		const char *ssh = getenv("SSH_CONNECTION"); /* client, its port, server, its port */
		char host[HOST_NAME_MAX + 1] = "?";

		(void)gethostname(host, sizeof(host));
		host[sizeof(host) - 1] = '\0';
		ctl->from = ssh == NULL || ssh[0] == '\0' ? rt_strdup(host)
							  : rt_printf("%s (ssh from %.*s)", host,
								      (int)strcspn(ssh, " "), ssh);
	}
	return ctl->from;
}

static const char *why_of(const struct ctl *ctl)
{
	return ctl->why == NULL ? "" : ctl->why;
}

/* ---- entering ---- */

void ctl_operate(struct ctl *ctl, struct rt_args *args, const struct rt_functions *functions,
		 const char *events, const char *other, const struct ctl_deed *deed,
		 const char *function)
{
	rt_args_function(args, functions, "operate");
	rt_args_int(args, other == NULL ? 1 : 2);
	rt_args_str(args, events);
	if (other != NULL)
		rt_args_str(args, other);
	rt_args_str(args, who_of(ctl));
	rt_args_str(args, from_of(ctl));
	rt_args_str(args, deed->action);
	rt_args_str(args, deed->subject);
	rt_args_str(args, why_of(ctl));
	rt_args_str(args, deed->about == NULL ? "" : deed->about);
	rt_args_str(args, function);
}

static bool is_error(const redisReply *reply)
{
	return reply != NULL && reply->type == REDIS_REPLY_ERROR;
}

redisReply *ctl_operate_send(struct ctl *ctl, struct rt_args *args, bool errors_too)
{
	redisReply *reply = ctl_redis_args(ctl, args, 0, true);

	if (!is_error(reply))
		return reply;
	if (strstr(reply->str, "Function not found") != NULL)
		ctl_error("Redis lacks the functions of this tandemctl: load them (tandemctl "
			  "functions load)");
	else if (errors_too)
		return reply;
	else
		ctl_error("Redis: %s", reply->str);
	freeReplyObject(reply);
	return NULL;
}

/* MULTI, a command, its entry, EXEC: sent at once over one connection, so both happen or neither. */
enum { MULTI, COMMAND, ENTRY, EXEC, PARTS };
struct transaction {
	struct part {
		struct rt_redis_op op;
		struct transaction *transaction;
	} parts[PARTS];
	struct rt_loop *loop;
	size_t ended;
	int status;        /* of EXEC */
	redisReply *reply; /* of EXEC; NULL: none */
};

static void part_ended(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct part *part = RT_CONTAINER_OF(op, struct part, op);
	struct transaction *transaction = part->transaction;

	if (part == &transaction->parts[EXEC]) {
		transaction->status = status;
		transaction->reply = reply == NULL ? NULL : ctl_reply_copy(reply);
	}
	if (++transaction->ended == PARTS)
		rt_loop_stop(transaction->loop);
}

static void send_part(struct transaction *transaction, struct rt_redis *redis, size_t i,
		      struct rt_args *args)
{
	struct part *part = &transaction->parts[i];

	part->transaction = transaction;
	rt_redis_send(redis, &part->op, args, 0, part_ended);
}

static void add_entry(struct ctl *ctl, struct rt_args *args, const char *key,
		      const struct ctl_deed *deed, const char *result)
{
	const char *const words[] = { "XADD",        key,      "MAXLEN",     TRAIL_MAX,
				      "*",           "who",    who_of(ctl),  "from",
				      from_of(ctl),  "action", deed->action, "subject",
				      deed->subject, "why",    why_of(ctl),  "result",
				      result };

	for (size_t i = 0; i < RT_LENGTH(words); i++)
		rt_args_str(args, words[i]);
}

bool ctl_enter_with(struct ctl *ctl, struct ctl_node *node, struct rt_args *command,
		    const char *key, const struct ctl_deed *deed, const char *result)
{
	struct transaction transaction = { .status = RT_LOST };
	struct rt_args args = { 0 };
	redisReply *reply;
	const char *error;

	ctl->on = node;
	reply = ctl_redis(ctl, "PING"); /* it is connected */
	ctl->on = NULL;
	if (reply == NULL)
		return false;
	freeReplyObject(reply);
	transaction.loop = ctl->loop;
	rt_args_str(&args, "MULTI");
	send_part(&transaction, node->redis, MULTI, &args);
	send_part(&transaction, node->redis, COMMAND, command);
	rt_args_clear(&args);
	add_entry(ctl, &args, key, deed, result);
	send_part(&transaction, node->redis, ENTRY, &args);
	rt_args_clear(&args);
	rt_args_str(&args, "EXEC");
	send_part(&transaction, node->redis, EXEC, &args);
	rt_args_done(&args);
	rt_loop_run(ctl->loop);
	reply = transaction.reply;
	if (reply == NULL) {
		error = rt_status_text(transaction.status);
	} else {
		error = is_error(reply) ? reply->str : NULL;
		for (size_t i = 0; error == NULL && i < reply->elements; i++)
			error = is_error(reply->element[i]) ? reply->element[i]->str : NULL;
	}
	if (error != NULL)
		ctl_error("Redis, %s: %s", deed->action, error);
	freeReplyObject(reply);
	return error == NULL;
}

/* ---- the command ---- */

struct options {
	const char *context, *action, *subject;
	int64_t since_ms, limit;
};

enum { KEY_SINCE = 256 };

static error_t trail_parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		options->limit = 1000;
		return 0;
	case 'c':
		options->context = ctl_parse_context(state, arg, true);
		return 0;
	case 'a':
		options->action = arg;
		return 0;
	case 's':
		options->subject = arg;
		return 0;
	case 'n':
		if (!rt_parse_int(arg, 1, SCAN_MAX, &options->limit))
			argp_error(state, "--limit: not a number from 1 to %d: %s", SCAN_MAX, arg);
		return 0;
	case KEY_SINCE:
		if (!rt_parse_duration(arg, &options->since_ms) || options->since_ms < 1)
			argp_error(state, "--since: not a duration such as 30m or 7d: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* A field of an entry; "": it is not there. */
static const char *field(const struct ctl_entry *entry, const char *name)
{
	return ctl_text(ctl_named(entry->fields, name), "");
}

/* Whether the entry's action is this one, or of this group ("dead": dead.replay and dead.discard). */
static bool is_action(const char *action, const char *wanted)
{
	size_t length = strlen(wanted);

	return strncmp(action, wanted, length) == 0 &&
	       (action[length] == '\0' || action[length] == '.');
}

static bool passes(const struct options *options, const struct ctl_entry *entry)
{
	return (options->action == NULL || is_action(field(entry, "action"), options->action)) &&
	       (options->subject == NULL || strcmp(field(entry, "subject"), options->subject) == 0);
}

/* The entries that are wanted move to the front; of them the newest stay. */
static void choose(const struct options *options, struct ctl_entries *entries, size_t *ret_first)
{
	size_t count = 0;

	for (size_t i = 0; i < entries->count; i++)
		if (passes(options, &entries->list[i]))
			entries->list[count++] = entries->list[i];
	entries->count = count;
	*ret_first = count > (size_t)options->limit ? count - (size_t)options->limit : 0;
}

static bool read_all(struct ctl *ctl, const struct options *options, struct ctl_entries *entries)
{
	char from[48] = "-", key[CTL_KEY];
	int partitions = ctl_partitions(ctl);
	bool good = partitions > 0 && ctl_contexts_read(ctl);
	const char *context;

	if (options->since_ms > 0)
		snprintf(from, sizeof(from), "%" PRId64,
			 RT_MAX(0, ctl_now_ms(ctl) - options->since_ms));
	for (int p = 0; p < partitions; p++)
		for (size_t i = 0;
		     good && (context = ctl_context_name(ctl, options->context, i)) != NULL; i++) {
			const struct ctl_range range = { .context = context,
							 .partition = p,
							 .key = key,
							 .from = from,
							 .to = "+",
							 .count_max = SCAN_MAX,
							 .scan_max = SCAN_MAX };

			ctl_key(key, context, p, "trail");
			good = ctl_entries_read(ctl, &range, entries, NULL);
		}
	ctl_entries_sort(entries);
	return good;
}

static const char *const fields[] = { "who", "from", "action", "subject", "why", "result" };

static void show(struct ctl *ctl, struct ctl_table *table, const struct ctl_entry *entry)
{
	char time[RT_TIME_TEXT];

	rt_time_format(ctl_stream_id_ms(entry->stream_id), time);
	if (ctl->json) {
		json_t *json =
			json_pack("{s:s, s:o, s:s}", "time", time, "stream_id",
				  ctl_json_text(entry->stream_id), "context", entry->context);

		if (ctl->partitions > 1)
			json_object_set_new(json, "partition", json_integer(entry->partition));
		for (size_t i = 0; i < RT_LENGTH(fields); i++)
			json_object_set_new(json, fields[i],
					    ctl_json_text(field(entry, fields[i])));
		ctl_json_print(json);
		return;
	}
	ctl_cell(table, "%s", time);
	for (size_t i = 0; i < RT_LENGTH(fields); i++) {
		const char *text = field(entry, fields[i]);

		ctl_cell(table, "%s", text[0] == '\0' ? "-" : text);
	}
}

static int trail_run(struct ctl *ctl, void *user)
{
	const struct options *options = user;
	struct ctl_table table =
		CTL_TABLE("TIME", "WHO", "FROM", "ACTION", "SUBJECT", "WHY", "RESULT");
	struct ctl_entries entries = { 0 };
	bool good = read_all(ctl, options, &entries);
	bool known = !good || entries.count > 0 || options->context == NULL ||
		     ctl_context_known(ctl, options->context);
	size_t first;

	choose(options, &entries, &first);
	for (size_t i = first; i < entries.count; i++)
		show(ctl, &table, &entries.list[i]);
	ctl_table_print(&table);
	if (first > 0)
		ctl_error("%zu older ones are not shown%s", first, ctl_hint(ctl, ": --limit"));
	if (good && known && entries.count == 0 && !ctl->json)
		printf("no changes\n");
	ctl_entries_done(&entries);
	if (!good)
		return CTL_UNAVAILABLE;
	return known ? CTL_OK : CTL_NEGATIVE;
}

static const struct argp_option trail_options[] = {
	{ "since", KEY_SINCE, "DURATION", 0, "Only changes of the last 30m, 7d …", 0 },
	{ "action", 'a', "ACTION", 0, "Only this action, such as dead.discard, or dead", 0 },
	{ "subject", 's', "SUBJECT", 0, "Only changes of this order, SKU, group …", 0 },
	{ "context", 'c', "CONTEXT", 0,
	  "Only changes of one context's data, such as order or webhook", 0 },
	{ "limit", 'n', "N", 0, "How many at most, the newest (1000)", 0 },
	{ 0 },
};
const struct ctl_command ctl_trail = {
	.name = "trail",
	.about = "Lists what operators changed",
	.text = "Lists what operators changed, oldest first: who, from where, what, why. Stock "
		"that was adjusted, dead letters that were replayed or discarded, repairs, groups, "
		"functions. Each partition keeps the newest " TRAIL_MAX " changes.\vExamples:\n"
		"  tandemctl trail --since 7d\n"
		"  tandemctl trail --action stock.adjust --subject apple --json",
	.options = trail_options,
	.parse = trail_parse,
	.options_size = sizeof(struct options),
	.run = trail_run,
};
