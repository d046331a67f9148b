/* dead.c - tandemctl dead list|show|replay|discard: entries that a consumer could not process.
 *
 * The stream <context>:{p}:dead holds each with its own fields and the stream it came from. Replaying
 * adds the own fields at the end of that stream, under its next id, and deletes the entry from the
 * dead letters: in one function (events.lua), so that the entry is always in exactly one of the two. Every
 * group of the stream reads it again; consumers recognise a repeat by subject and seq, so replaying an entry
 * that was processed does no harm. Both changes are entered in the trail (trail.c).
 *
 * Against endless replays: the field `replayed` counts them, and stays when the entry becomes a dead
 * letter again. After REPLAYS_MAX the replay is refused, except with --force.
 *
 * The same for contexts of others, such as examples/webhook: ctl_contexts_read finds those that read. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"

#define REPLAYS_MAX 3
#define SCAN_MAX    1000000
#define IDS_MAX     1000

struct dead {
	struct ctl_filter filter;
	const char *ids[IDS_MAX]; /* as ctl_place writes them */
	size_t id_count;
	int64_t limit;
	bool all, dry_run, force, yes;
};

enum { KEY_REASON = 256, KEY_ALL, KEY_DRY_RUN, KEY_FORCE, KEY_YES };

static error_t dead_parse(int key, char *arg, struct argp_state *state)
{
	struct dead *dead = ctl_options(state);
	int partition;

	switch (key) {
	case ARGP_KEY_INIT:
		dead->limit = INT64_MAX;
		return 0;
	case 'c':
		dead->filter.context = ctl_parse_context(state, arg, true);
		return 0;
	case 'o':
		dead->filter.order = arg;
		return 0;
	case 't':
		dead->filter.type = ctl_parse_type(state, arg, true);
		return 0;
	case KEY_REASON:
		dead->filter.reason = arg;
		return 0;
	case 'n':
		if (!rt_parse_int(arg, 1, INT64_MAX, &dead->limit))
			argp_error(state, "--limit: not a number from 1: %s", arg);
		return 0;
	case KEY_ALL:
		dead->all = true;
		return 0;
	case KEY_DRY_RUN:
		dead->dry_run = true;
		return 0;
	case KEY_FORCE:
		dead->force = true;
		return 0;
	case KEY_YES:
		dead->yes = true;
		return 0;
	case ARGP_KEY_ARG:
		if (ctl_place_read(arg, &partition) == NULL)
			argp_error(state, "not the id of a dead letter: %s", arg);
		if (dead->id_count == IDS_MAX)
			argp_error(state, "more than %d ids", IDS_MAX);
		dead->ids[dead->id_count++] = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t list_parse(int key, char *arg, struct argp_state *state)
{
	if (key == ARGP_KEY_ARG) {
		argp_error(state, "does not take %s; see dead show", arg);
		return 0;
	}
	return dead_parse(key, arg, state);
}

/* Replay and discard change things: they need ids, or --all. */
static error_t change_parse(int key, char *arg, struct argp_state *state)
{
	struct dead *dead = ctl_options(state);

	if (key == ARGP_KEY_END) {
		if (dead->id_count == 0 && !dead->all)
			argp_error(state, "which ones? ids, or --all (with a filter)");
		if (dead->id_count > 0 && dead->all)
			argp_error(state, "ids, or --all: not both");
		return 0;
	}
	return dead_parse(key, arg, state);
}

/* What is discarded is gone: the trail has to say why. */
static error_t discard_parse(int key, char *arg, struct argp_state *state)
{
	error_t result = change_parse(key, arg, state);

	if (key == ARGP_KEY_END && !((struct dead *)ctl_options(state))->dry_run)
		ctl_need_why(state);
	return result;
}

static error_t show_parse(int key, char *arg, struct argp_state *state)
{
	struct dead *dead = ctl_options(state);

	if (key == ARGP_KEY_END) {
		if (dead->id_count == 0)
			argp_error(state, "which one?");
		return 0;
	}
	return dead_parse(key, arg, state);
}

/* ---- reading ---- */

/* Reads the dead letters of a context in a partition. */
static bool read_context(struct ctl *ctl, const struct dead *dead, const char *context,
			 int partition, const char *from, const char *to, int64_t limit,
			 struct ctl_entries *entries)
{
	char key[CTL_KEY];
	const struct ctl_range range = {
		.context = context,
		.partition = partition,
		.key = key,
		.from = from,
		.to = to,
		.count_max = limit,
		.scan_max = SCAN_MAX,
		.filter = &dead->filter,
	};

	ctl_key(key, context, partition, "dead");
	return ctl_entries_read(ctl, &range, entries, NULL);
}

/* The same of the context that is asked for, or of all. False: some could not be read; `entries` has the others. */
static bool read_range(struct ctl *ctl, const struct dead *dead, int partition, const char *from,
		       const char *to, int64_t limit, struct ctl_entries *entries)
{
	const char *context;
	bool good = true;

	for (size_t i = 0; (context = ctl_context_name(ctl, dead->filter.context, i)) != NULL; i++)
		good = read_context(ctl, dead, context, partition, from, to, limit, entries) &&
		       good;
	return good;
}

/* Reads the one with this id: of its partition, or of any when the id does not say which. */
static bool read_id(struct ctl *ctl, const struct dead *dead, const char *place,
		    struct ctl_entries *entries)
{
	int partition;
	const char *id = ctl_place_read(place, &partition);
	bool good = true;

	for (int p = 0; p < ctl->partitions; p++)
		if (partition < 0 || partition == p)
			good = read_range(ctl, dead, p, id, id, INT64_MAX, entries) && good;
	return good;
}

/* Reads those with the given ids, or all that pass the filter. *ret_missing: how many ids, or contexts, do not exist. */
static bool read_chosen(struct ctl *ctl, const struct dead *dead, struct ctl_entries *entries,
			size_t *ret_missing)
{
	bool good = ctl_partitions(ctl) > 0 && ctl_contexts_read(ctl);

	*ret_missing = 0;
	if (dead->id_count == 0) {
		for (int p = 0; p < ctl->partitions; p++)
			good = read_range(ctl, dead, p, "-", "+", dead->limit, entries) && good;
		ctl_entries_sort(entries);
		if ((int64_t)entries->count > dead->limit)
			entries->count = (size_t)dead->limit;
		if (good && entries->count == 0 && dead->filter.context != NULL &&
		    !ctl_context_known(ctl, dead->filter.context))
			*ret_missing = 1;
		return good;
	}
	for (size_t i = 0; i < dead->id_count && ctl->partitions > 0; i++) {
		size_t before = entries->count;
		bool read = read_id(ctl, dead, dead->ids[i], entries);

		good = good && read;
		if (entries->count > before || !read)
			continue;
		ctl_error("not in the dead letters: %s", dead->ids[i]);
		(*ret_missing)++;
	}
	return good;
}

/* ---- list, show ---- */

static const char *or_dash(const char *text)
{
	return text[0] == '\0' ? "-" : text;
}

static int list_run(struct ctl *ctl, void *options)
{
	struct dead *dead = options;
	struct ctl_table table = CTL_TABLE("STREAM_ID", "CONTEXT", "EVENT_ID", "TYPE", "DEAD_TIME",
					   "DELIVERIES", "REPLAYED", "REASON");
	struct ctl_entries entries = { 0 };
	size_t missing;
	bool good = read_chosen(ctl, dead, &entries, &missing);

	for (size_t i = 0; i < entries.count; i++) {
		const struct ctl_entry *entry = &entries.list[i];
		char place[CTL_PLACE];

		if (ctl->json) {
			ctl_json_print(ctl_entry_json(ctl, entry));
			continue;
		}
		ctl_place(place, ctl, entry->partition, entry->stream_id);
		ctl_cell(&table, "%s", place);
		ctl_cell(&table, "%s", entry->context);
		ctl_cell(&table, "%s", or_dash(entry->id));
		ctl_cell(&table, "%s", or_dash(ctl_short_type(entry->type)));
		ctl_cell(&table, "%s", or_dash(entry->dead_time));
		ctl_cell(&table, "%s", or_dash(entry->deliveries));
		ctl_cell(&table, "%s", or_dash(entry->replayed));
		ctl_cell(&table, "%s", or_dash(entry->reason));
	}
	ctl_table_print(&table);
	if (good && entries.count == 0 && missing == 0 && !ctl->json)
		printf("no dead letters\n");
	ctl_entries_done(&entries);
	if (!good)
		return CTL_UNAVAILABLE;
	return missing == 0 ? CTL_OK : CTL_NEGATIVE;
}

static int show_run(struct ctl *ctl, void *options)
{
	struct dead *dead = options;
	struct ctl_entries entries = { 0 };
	size_t missing;
	bool good = read_chosen(ctl, dead, &entries, &missing);

	for (size_t i = 0; i < entries.count; i++) {
		json_t *json = ctl_entry_json(ctl, &entries.list[i]);

		if (ctl->json) {
			ctl_json_print(json);
			continue;
		}
		printf("%s", i > 0 ? "\n" : "");
		ctl_json_block(json, 0);
		json_decref(json);
	}
	ctl_entries_done(&entries);
	if (!good)
		return CTL_UNAVAILABLE;
	return missing == 0 ? CTL_OK : CTL_NEGATIVE;
}

/* ---- replay, discard ---- */

/* Whether an entry may be put back there: into our streams of its partition, not into any key that a field
 * names. */
static bool is_our_stream(const char *stream, int partition)
{
	char key[CTL_KEY];

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		ctl_key(key, ctl_contexts[i].name, partition, "events");
		if (strcmp(stream, key) == 0)
			return true;
	}
	return false;
}

/* Why an entry is not replayed; NULL: it may be. */
static const char *refusal_reason(const struct dead *dead, const struct ctl_entry *entry)
{
	int64_t replayed = 0;

	if (!is_our_stream(entry->stream, entry->partition))
		return "it does not say which stream it came from";
	if (entry->replayed[0] != '\0' && !rt_parse_int(entry->replayed, 0, INT64_MAX, &replayed))
		replayed = REPLAYS_MAX; /* not a number of ours */
	if (replayed >= REPLAYS_MAX && !dead->force)
		return "it was replayed three times: find out why it fails, then replay it by "
		       "force";
	return NULL;
}

static void print_outcome(const struct ctl *ctl, const struct ctl_entry *entry, const char *outcome,
			  const char *detail)
{
	if (ctl->json) {
		json_t *json = json_pack("{s:s, s:o, s:o, s:s, s:o}", "context", entry->context,
					 "stream_id", ctl_json_text(entry->stream_id), "event_id",
					 ctl_json_text(entry->id), "outcome", outcome, "detail",
					 ctl_json_text(detail));

		if (ctl->partitions > 1)
			json_object_set_new(json, "partition", json_integer(entry->partition));
		ctl_json_print(json);
	} else {
		char place[CTL_PLACE], *line, *shown;

		ctl_place(place, ctl, entry->partition, entry->stream_id);
		line = rt_printf("%s  %s  %s%s%s", place, or_dash(entry->id), outcome,
				 detail[0] == '\0' ? "" : ": ", detail);
		shown = rt_text_shown(line, strlen(line));
		printf("%s\n", shown);
		free(shown);
		free(line);
	}
}

/* Begins the call of a function for one entry; the entry's id is its first argument. */
static void operate_on(struct ctl *ctl, struct rt_args *args, const struct ctl_entry *entry,
		       const char *action, char events[CTL_KEY], const char *stream)
{
	const struct ctl_deed deed = {
		.action = action,
		.subject = entry->subject[0] != '\0' ? entry->subject : entry->stream_id,
	};

	ctl_key(events, entry->context, entry->partition, "events");
	ctl_operate(ctl, args, ctl_functions_of(entry->context), events, stream, &deed,
		    action + strlen("dead."));
	rt_args_str(args, entry->stream_id);
}

/* Replays one entry. Returns the exit code for it. */
static int replay_one(struct ctl *ctl, const struct dead *dead, const struct ctl_entry *entry)
{
	const char *why = refusal_reason(dead, entry);
	struct rt_args args = { 0 };
	char events[CTL_KEY];
	redisReply *reply;
	int code = CTL_OK;

	if (why != NULL) {
		print_outcome(ctl, entry, "refused", why);
		return CTL_NEGATIVE;
	}
	if (dead->dry_run) {
		print_outcome(ctl, entry, "would be replayed to", entry->stream);
		return CTL_OK;
	}
	operate_on(ctl, &args, entry, "dead.replay", events, entry->stream);
	rt_args_int(&args, ctl_now_ms(ctl));
	reply = ctl_operate_send(ctl, &args, true);
	rt_args_done(&args);
	if (reply == NULL)
		return CTL_UNAVAILABLE;
	if (reply->type == REDIS_REPLY_ERROR) {
		/* For example more fields than a script can take: other entries can be replayed. */
		print_outcome(ctl, entry, "refused", reply->str);
		code = CTL_NEGATIVE;
	} else if (reply->type == REDIS_REPLY_STRING) {
		char *where = rt_printf("%s, now %s", entry->stream, reply->str);

		print_outcome(ctl, entry, "replayed to", where);
		free(where);
	} else {
		print_outcome(ctl, entry, "gone", "it was replayed or discarded meanwhile");
		code = CTL_NEGATIVE;
	}
	freeReplyObject(reply);
	return code;
}

static int discard_one(struct ctl *ctl, const struct dead *dead, const struct ctl_entry *entry)
{
	struct rt_args args = { 0 };
	char events[CTL_KEY];
	redisReply *reply;
	bool gone;

	if (dead->dry_run) {
		print_outcome(ctl, entry, "would be discarded", "");
		return CTL_OK;
	}
	operate_on(ctl, &args, entry, "dead.discard", events, NULL);
	reply = ctl_operate_send(ctl, &args, false);
	rt_args_done(&args);
	if (reply == NULL)
		return CTL_UNAVAILABLE;
	gone = reply->type == REDIS_REPLY_NIL;
	freeReplyObject(reply);
	print_outcome(ctl, entry, gone ? "gone" : "discarded",
		      gone ? "it was replayed or discarded meanwhile" : "");
	return gone ? CTL_NEGATIVE : CTL_OK;
}

static int change_each(struct ctl *ctl, struct dead *dead, bool for_good,
		       int (*one)(struct ctl *ctl, const struct dead *dead,
				  const struct ctl_entry *entry))
{
	struct ctl_entries entries = { 0 };
	size_t missing = 0;
	int code = CTL_OK;
	bool agreed;

	if (!read_chosen(ctl, dead, &entries, &missing))
		code = CTL_UNAVAILABLE;
	else if (for_good && dead->all && !dead->dry_run && entries.count > 0)
		code = ctl_agree(dead->yes, "delete %zu dead letters for good", entries.count);
	agreed = code == CTL_OK;
	for (size_t i = 0; i < entries.count && agreed && code != CTL_UNAVAILABLE; i++) {
		int this_one = one(ctl, dead, &entries.list[i]);

		code = RT_MAX(code, this_one);
	}
	if (code == CTL_OK && entries.count == 0 && missing == 0 && !ctl->json)
		printf("no dead letters\n");
	ctl_entries_done(&entries);
	return missing > 0 ? RT_MAX(code, CTL_NEGATIVE) : code;
}

static int replay_run(struct ctl *ctl, void *options)
{
	return change_each(ctl, options, false, replay_one);
}

static int discard_run(struct ctl *ctl, void *options)
{
	return change_each(ctl, options, true, discard_one);
}

/* ---- the commands ---- */

#define FILTER_OPTIONS                                                                             \
	{ "order", 'o', "ID", 0, "Only those about this order (or SKU)", 1 },                      \
		{ "type", 't', "TYPE", 0, "Only those of this type, such as OrderPlaced", 1 },     \
		{ "reason", KEY_REASON, "TEXT", 0, "Only those whose reason contains this", 1 },   \
		{ "context",                                                                       \
		  'c',                                                                             \
		  "CONTEXT",                                                                       \
		  0,                                                                               \
		  "Only those of one context, such as order or webhook",                           \
		  1 },                                                                             \
	{                                                                                          \
		"limit", 'n', "N", 0, "How many at most, the oldest first", 1                      \
	}
#define CHANGE_OPTIONS                                                                             \
	{ "all", KEY_ALL, NULL, 0, "All that pass the filter", 2 },                                \
	{                                                                                          \
		"dry-run", KEY_DRY_RUN, NULL, 0, "Print what would be done, change nothing", 2     \
	}

static const struct argp_option list_options[] = { FILTER_OPTIONS, { 0 } };
const struct ctl_command ctl_dead_list = {
	.group = "dead",
	.name = "list",
	.about = "Lists entries that could not be processed",
	.arguments = "",
	.text = "Lists the entries that could not be processed, oldest first.\vExamples:\n"
		"  tandemctl dead list\n"
		"  tandemctl dead list --context inventory --reason 'not a message'",
	.options = list_options,
	.parse = list_parse,
	.options_size = sizeof(struct dead),
	.run = list_run,
};

static const struct argp_option show_options[] = {
	{ "context", 'c', "CONTEXT", 0, "Only those of one context, such as order or webhook", 0 },
	{ 0 },
};
const struct ctl_command ctl_dead_show = {
	.group = "dead",
	.name = "show",
	.about = "Shows all fields of dead letters",
	.arguments = "STREAM_ID...",
	.text = "Shows all fields of dead letters.\vExample:\n"
		"  tandemctl dead show 1764000000123-0",
	.options = show_options,
	.parse = show_parse,
	.options_size = sizeof(struct dead),
	.run = show_run,
};

static const struct argp_option replay_options[] = {
	FILTER_OPTIONS,
	CHANGE_OPTIONS,
	{ "force", KEY_FORCE, NULL, 0, "Also entries that were replayed three times already", 2 },
	{ 0 },
};
const struct ctl_command ctl_dead_replay = {
	.group = "dead",
	.name = "replay",
	.about = "Puts entries back into their stream",
	.arguments = "STREAM_ID...|--all",
	.text = "Puts entries back into the stream they came from, once their cause is "
		"fixed.\v"
		"An entry that fails again becomes a dead letter again; after three replays it is "
		"refused. Replaying an entry that was processed does no harm.\n\n"
		"Examples:\n"
		"  tandemctl dead replay 1764000000123-0\n"
		"  tandemctl dead replay --all --type OrderPlaced --dry-run",
	.changes = true,
	.options = replay_options,
	.parse = change_parse,
	.options_size = sizeof(struct dead),
	.run = replay_run,
};

static const struct argp_option discard_options[] = {
	FILTER_OPTIONS,
	CHANGE_OPTIONS,
	{ "yes", KEY_YES, NULL, 0, "With --all: do not ask", 2 },
	{ 0 },
};
const struct ctl_command ctl_dead_discard = {
	.group = "dead",
	.name = "discard",
	.about = "Deletes dead letters",
	.arguments = "STREAM_ID...|--all",
	.text = "Deletes dead letters for good, and keeps in the trail who did it and why. With "
		"--all "
		"it asks first; without a terminal it needs --yes.\vExamples:\n"
		"  tandemctl dead discard 1764000000123-0 --why 'made by hand in a test'\n"
		"  tandemctl dead discard --all --reason 'no type' --dry-run",
	.changes = true,
	.options = discard_options,
	.parse = discard_parse,
	.options_size = sizeof(struct dead),
	.run = discard_run,
};
