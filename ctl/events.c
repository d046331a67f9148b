/* events.c - tandemctl events tail|show|lag: the events of both streams, decoded. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "commands.h"

#define SCAN_MAX        200000 /* entries read for those that pass the filter */
#define FOLLOW_MS       2000   /* how long a read waits for new entries */
#define FOLLOW_MARGIN   5000
#define FOLLOW_PAUSE_MS 100

struct events {
	struct ctl_filter filter;
	const char *id; /* show */
	int64_t count, since_ms;
	int64_t until_ms; /* unix; 0: all */
	bool follow;
};

enum { KEY_SINCE = 256, KEY_UNTIL };

static error_t events_parse(int key, char *arg, struct argp_state *state)
{
	struct events *events = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		events->count = 20;
		return 0;
	case 'c':
		events->filter.context = ctl_parse_context(state, arg, false);
		return 0;
	case 'o':
		events->filter.order = arg;
		return 0;
	case 't':
		events->filter.type = ctl_parse_type(state, arg, false);
		return 0;
	case 'f':
		events->follow = true;
		return 0;
	case 'n':
		if (!rt_parse_int(arg, 0, 1000000, &events->count))
			argp_error(state, "--count: not a number from 0 to 1000000: %s", arg);
		return 0;
	case KEY_SINCE:
		if (!rt_parse_duration(arg, &events->since_ms) || events->since_ms < 1)
			argp_error(state, "--since: not a duration such as 30s or 10m: %s", arg);
		return 0;
	case KEY_UNTIL:
		if (!rt_time_parse(arg, &events->until_ms) || events->until_ms < 1)
			argp_error(state,
				   "--until: not a time such as 2026-11-23T01:02:03.004Z: %s", arg);
		return 0;
	case ARGP_KEY_END:
		if (events->follow && events->until_ms > 0)
			argp_error(state, "--follow and --until do not go together");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static bool wanted(const struct events *events, const char *context)
{
	return events->filter.context == NULL || strcmp(events->filter.context, context) == 0;
}

/* ---- tail ---- */

#define TAIL_COLUMNS "%-24s  %-9s  %-20s  %-20s  %-33s"

static void print_heading(const struct ctl *ctl)
{
	if (!ctl->json)
		printf(TAIL_COLUMNS "  DATA\n", "TIME", "CONTEXT", "STREAM_ID", "TYPE", "EVENT_ID");
}

static void print_line(const struct ctl *ctl, const struct ctl_entry *entry)
{
	struct rt_buf line = { 0 };
	const char *why = "";
	char place[CTL_PLACE];
	json_t *data;
	char *printable;

	if (ctl->json) {
		ctl_json_print(ctl_entry_json(ctl, entry));
		return;
	}
	ctl_place(place, ctl, entry->partition, entry->stream_id);
	rt_buf_printf(&line, TAIL_COLUMNS, entry->time[0] == '\0' ? "-" : entry->time,
		      entry->context, place, ctl_short_type(entry->type), entry->id);
	if (entry->attempt[0] != '\0')
		rt_buf_printf(&line, " (attempt %s)", entry->attempt);
	if (entry->actor[0] != '\0')
		rt_buf_printf(&line, " (by %s)", entry->actor);
	rt_buf_printf(&line, "  ");
	data = ctl_bytes_json(entry->type, entry->data, entry->data_length, false, &why);
	if (data != NULL)
		ctl_json_line(data, &line);
	else
		rt_buf_printf(&line, "(%s: %zu bytes)", why, entry->data_length);
	json_decref(data);
	printable = rt_text_shown(line.data, line.length);
	/* An event without content leaves blanks at the end. */
	for (size_t length = strlen(printable); length > 0 && printable[length - 1] == ' ';)
		printable[--length] = '\0';
	printf("%s\n", printable);
	free(printable);
	rt_buf_done(&line);
}

/* How far each stream was read: an id for each partition and context. */
typedef char position[48];

static position *position_of(position *positions, int partition, size_t context)
{
	return &positions[(size_t)partition * CTL_CONTEXTS + context];
}

/* Adds the newest entries of a stream. `last`: gets its end. */
static bool add_newest(struct ctl *ctl, const struct events *events, int partition,
		       const char *context, position *last, struct ctl_entries *entries)
{
	struct ctl_stream stream;
	char key[CTL_KEY], from[48] = "-", to[48];
	const struct ctl_range range = {
		.context = context,
		.partition = partition,
		.key = key,
		.from = from,
		.to = to,
		.newest_first = true,
		.count_max = events->since_ms > 0 ? INT64_MAX : events->count,
		.scan_max = SCAN_MAX,
		.filter = &events->filter,
	};
	bool good;

	ctl_key(key, context, partition, "events");
	good = ctl_stream_read(ctl, key, &stream);
	snprintf(*last, sizeof(*last), "%s", stream.last);
	/* Redis takes a time alone for all entries of that millisecond. */
	if (events->until_ms > 0)
		snprintf(to, sizeof(to), "%" PRId64, events->until_ms);
	else
		snprintf(to, sizeof(to), "%s", stream.last);
	if (events->since_ms > 0)
		snprintf(from, sizeof(from), "%" PRId64,
			 RT_MAX(0, ctl_now_ms(ctl) - events->since_ms));
	if (good && stream.length > 0 && range.count_max > 0)
		good = ctl_entries_read(ctl, &range, entries, NULL);
	return good;
}

/* Prints the newest entries of all streams, the oldest of them first. `last`: the end of each stream. */
static bool print_newest(struct ctl *ctl, const struct events *events, position *last)
{
	struct ctl_entries entries = { 0 };
	size_t skip = 0;
	bool good = true;

	for (int p = 0; p < ctl->partitions; p++)
		for (size_t i = 0; i < CTL_CONTEXTS; i++)
			if (wanted(events, ctl_contexts[i].name))
				good = add_newest(ctl, events, p, ctl_contexts[i].name,
						  position_of(last, p, i), &entries) &&
				       good;
	ctl_entries_sort(&entries);
	if (events->since_ms == 0 && entries.count > (size_t)events->count)
		skip = entries.count - (size_t)events->count;
	if (events->follow || entries.count > skip)
		print_heading(ctl);
	else if (good && !ctl->json)
		printf("no events\n");
	for (size_t i = skip; i < entries.count; i++)
		print_line(ctl, &entries.list[i]);
	ctl_entries_done(&entries);
	return good;
}

/* Whether it is a key of this context. */
static bool is_key_of(const char *key, const char *context)
{
	size_t length = strlen(context);

	return strncmp(key, context, length) == 0 && key[length] == ':';
}

/* What one round of reading has found. */
struct round {
	struct ctl_entries entries;
	struct rt_arena arena;
	redisReply **replies; /* what the entries point into */
	size_t reply_count;
};

/* Adds what is in a reply of XREAD: an array of streams, each with its entries. */
static void add_read(struct round *round, const struct events *events, int partition,
		     const redisReply *reply, position *last)
{
	for (size_t s = 0; reply->type == REDIS_REPLY_ARRAY && s < reply->elements; s++) {
		const redisReply *stream = reply->element[s];
		const redisReply *list;
		const char *key;
		size_t which = 0;

		if (stream->type != REDIS_REPLY_ARRAY || stream->elements != 2)
			continue;
		key = ctl_text(stream->element[0], "");
		while (which + 1 < CTL_CONTEXTS && !is_key_of(key, ctl_contexts[which].name))
			which++;
		list = stream->element[1];
		for (size_t i = 0; i < list->elements; i++) {
			struct ctl_entry *entry;
			size_t count = ctl_entry_read(list->element[i], ctl_contexts[which].name,
						      partition, &round->arena, &entry);

			if (count > 0)
				snprintf(*position_of(last, partition, which), sizeof(*last), "%s",
					 entry->stream_id);
			for (; count > 0; count--, entry++)
				if (ctl_filter_passes(&events->filter, entry))
					ctl_entries_add(&round->entries, entry);
		}
	}
}

/* Reads the streams of a partition on from `last`. False: Redis could not be asked. */
static bool read_on(struct ctl *ctl, const struct events *events, int partition, int64_t block_ms,
		    struct round *round, position *last)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	rt_args_str(&args, "XREAD");
	rt_args_str(&args, "COUNT");
	rt_args_int(&args, 500);
	if (block_ms > 0) {
		rt_args_str(&args, "BLOCK");
		rt_args_int(&args, block_ms);
	}
	rt_args_str(&args, "STREAMS");
	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		char key[CTL_KEY];

		ctl_key(key, ctl_contexts[i].name, partition, "events");
		if (wanted(events, ctl_contexts[i].name))
			rt_args_copy(&args, key, strlen(key));
	}
	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		const char *id = *position_of(last, partition, i);

		if (wanted(events, ctl_contexts[i].name))
			rt_args_copy(&args, id, strlen(id));
	}
	reply = ctl_redis_args(ctl, &args, block_ms + FOLLOW_MARGIN, false);
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	round->replies[round->reply_count++] = reply;
	add_read(round, events, partition, reply, last);
	return true;
}

/* Prints what comes, until it fails. One partition can be waited for; of several, each is asked in turn. */
static int follow(struct ctl *ctl, const struct events *events, position *last)
{
	const struct timespec pause = { 0, FOLLOW_PAUSE_MS * 1000000 };
	bool good = true;

	while (good && fflush(stdout) == 0 && !ferror(stdout)) {
		struct round round = { 0 };

		round.replies = rt_alloc((size_t)ctl->partitions * sizeof(redisReply *));
		for (int p = 0; good && p < ctl->partitions; p++)
			good = read_on(ctl, events, p, ctl->partitions == 1 ? FOLLOW_MS : 0, &round,
				       last);
		ctl_entries_sort(&round.entries);
		for (size_t i = 0; i < round.entries.count; i++)
			print_line(ctl, &round.entries.list[i]);
		if (ctl->partitions > 1 && round.entries.count == 0)
			(void)nanosleep(&pause, NULL);
		ctl_entries_done(&round.entries);
		rt_arena_done(&round.arena);
		while (round.reply_count > 0)
			freeReplyObject(round.replies[--round.reply_count]);
		free(round.replies);
	}
	return good ? CTL_OK : CTL_UNAVAILABLE;
}

static int tail_run(struct ctl *ctl, void *options)
{
	const struct events *events = options;
	size_t streams = (size_t)ctl_partitions(ctl) * CTL_CONTEXTS;
	position *last;
	int code;

	if (streams == 0)
		return CTL_UNAVAILABLE;
	last = rt_alloc(streams * sizeof(*last));
	for (size_t i = 0; i < streams; i++)
		snprintf(last[i], sizeof(last[i]), "0-0");
	code = print_newest(ctl, events, last) ? CTL_OK : CTL_UNAVAILABLE;
	if (code == CTL_OK && events->follow)
		code = follow(ctl, events, last);
	free(last);
	return code;
}

static const struct argp_option tail_options[] = {
	{ "count", 'n', "N", 0, "How many of the newest events (20)", 0 },
	{ "since", KEY_SINCE, "DURATION", 0, "Instead: all events not older than this", 0 },
	{ "until", KEY_UNTIL, "TIME", 0, "Only events that were stored until this time", 0 },
	{ "follow", 'f', NULL, 0, "Then wait for new events and show them", 0 },
	{ "order", 'o', "ID", 0, "Only events about this order (or SKU)", 0 },
	{ "type", 't', "TYPE", 0, "Only events of this type, such as OrderPlaced", 0 },
	{ "context", 'c', "CONTEXT", 0, "Only events of one context, such as order", 0 },
	{ 0 },
};
const struct ctl_command ctl_events_tail = {
	.group = "events",
	.name = "tail",
	.about = "Shows the newest events, and follows them",
	.text = "Shows the newest events of both streams.\vExamples:\n"
		"  tandemctl events tail -f\n"
		"  tandemctl events tail --order ord_… -n 100\n"
		"  tandemctl events tail --type OrderRejected --since 1h --json | jq .data\n"
		"  tandemctl events tail --until 2026-11-23T01:02:03.004Z",
	.options = tail_options,
	.parse = events_parse,
	.options_size = sizeof(struct events),
	.run = tail_run,
};

/* ---- show ---- */

static error_t show_parse(int key, char *arg, struct argp_state *state)
{
	struct events *events = ctl_options(state);

	switch (key) {
	case 'c':
		return events_parse(key, arg, state);
	case ARGP_KEY_ARG:
		if (events->id != NULL)
			argp_error(state, "one event at a time");
		events->id = arg;
		return 0;
	case ARGP_KEY_END:
		if (events->id == NULL)
			argp_error(state, "which event?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Adds the events of all contexts in a partition that are asked for. */
static bool find_in(struct ctl *ctl, const struct events *events, int partition,
		    const char *stream_id, struct ctl_entries *entries)
{
	bool good = true;

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		char key[CTL_KEY];
		const struct ctl_range range = {
			.context = ctl_contexts[i].name,
			.partition = partition,
			.key = key,
			.from = stream_id != NULL ? stream_id : "-",
			.to = stream_id != NULL ? stream_id : "+",
			.newest_first = true,
			.count_max = INT64_MAX,
			.scan_max = SCAN_MAX,
			.filter = &events->filter,
		};

		ctl_key(key, ctl_contexts[i].name, partition, "events");
		if (wanted(events, ctl_contexts[i].name))
			good = ctl_entries_read(ctl, &range, entries, NULL) && good;
	}
	return good;
}

static int show_run(struct ctl *ctl, void *options)
{
	struct events *events = options;
	struct ctl_entries entries = { 0 };
	int partition = -1;
	const char *stream_id = ctl_place_read(events->id, &partition);
	char *subject = NULL, *slash;
	size_t shown = 0;
	bool good = ctl_partitions(ctl) > 0;

	if (stream_id == NULL) {
		/* "<subject>/<seq>": is searched among the events of the subject. */
		partition = -1;
		subject = rt_strdup(events->id);
		slash = strrchr(subject, '/');
		if (slash != NULL)
			*slash = '\0';
		events->filter.order = subject;
	}
	for (int p = 0; p < ctl->partitions; p++)
		if (partition < 0 || partition == p)
			good = find_in(ctl, events, p, stream_id, &entries) && good;
	ctl_entries_sort(&entries);
	for (size_t i = 0; i < entries.count; i++) {
		json_t *json;

		if (stream_id == NULL && strcmp(entries.list[i].id, events->id) != 0)
			continue;
		json = ctl_entry_json(ctl, &entries.list[i]);
		if (ctl->json) {
			ctl_json_print(json);
		} else {
			printf("%s", shown > 0 ? "\n" : "");
			ctl_json_block(json, 0);
			json_decref(json);
		}
		shown++;
	}
	if (shown == 0 && good)
		ctl_error("no such event in the streams: %s", events->id);
	ctl_entries_done(&entries);
	free(subject);
	if (!good)
		return CTL_UNAVAILABLE;
	return shown > 0 ? CTL_OK : CTL_NEGATIVE;
}

static const struct argp_option show_options[] = {
	{ "context", 'c', "CONTEXT", 0, "Only events of one context, such as order", 0 },
	{ 0 },
};
const struct ctl_command ctl_events_show = {
	.group = "events",
	.name = "show",
	.about = "Shows all fields of one event",
	.arguments = "STREAM_ID|EVENT_ID",
	.text = "Shows all fields of events: those in the entry with this stream id, or each "
		"publication of the event with this event id.\v"
		"Examples:\n"
		"  tandemctl events show 1764000000123-17\n"
		"  tandemctl events show ord_…/1",
	.options = show_options,
	.parse = show_parse,
	.options_size = sizeof(struct events),
	.run = show_run,
};

/* ---- lag ---- */

/* The number of events that the group has set aside; 0 for a group that is not ours. */
static bool read_aside(struct ctl *ctl, const char *context, int partition, const char *group,
		       int64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < CTL_READERS; i++)
		if (strcmp(ctl_readers[i].of, context) == 0 &&
		    strcmp(ctl_readers[i].reader, group) == 0)
			return ctl_aside_count(ctl, &ctl_readers[i], partition, ret);
	return true;
}

static bool read_lag(struct ctl *ctl, const char *context, int partition, const char *key,
		     const struct ctl_stream *stream, const redisReply *group, struct ctl_lag *lag)
{
	const redisReply *name = ctl_named(group, "name");
	const char *const strings[] = { "XPENDING", key };
	redisReply *pending;
	uint64_t ms, n;

	*lag = (struct ctl_lag){ .oldest_ms = -1 };
	lag->pending = ctl_count(ctl_named(group, "pending"));
	lag->lag = ctl_stream_lag(ctl, key, stream,
				  ctl_text(ctl_named(group, "last-delivered-id"), "0-0"));
	if (lag->lag < 0 || !read_aside(ctl, context, partition, ctl_text(name, ""), &lag->aside))
		return false;
	pending = ctl_redis_named(ctl, strings, RT_LENGTH(strings), name);
	if (pending == NULL)
		return false;
	if (pending->elements > 1 && ctl_stream_id(ctl_text(pending->element[1], ""), &ms, &n))
		lag->oldest_ms =
			RT_MAX(0, ctl_now_ms(ctl) - ctl_stream_id_ms(pending->element[1]->str));
	freeReplyObject(pending);
	return ctl_readers_read(ctl, key, name->str, name->len, &lag->readers);
}

/* null for -1, which means unknown. */
static json_t *known_ms(int64_t ms)
{
	return ms < 0 ? json_null() : json_integer(ms);
}

static void lag_json(struct ctl *ctl, int partition, const char *key,
		     const struct ctl_stream *stream, const redisReply *group,
		     const struct ctl_lag *lag)
{
	json_t *json = json_pack(
		"{s:s, s:I, s:o, s:I, s:I, s:I, s:o, s:I, s:o}", "stream", key, "length",
		(json_int_t)stream->length, "group", rt_json_string(group->str, group->len), "lag",
		(json_int_t)lag->lag, "pending", (json_int_t)lag->pending, "aside",
		(json_int_t)lag->aside, "oldest_pending_ms", known_ms(lag->oldest_ms), "consumers",
		(json_int_t)lag->readers.consumers, "seen_ms", known_ms(lag->readers.seen_ms));

	json_object_set_new(json, "consumer_list", ctl_consumers_json(ctl, key, group));
	if (ctl->partitions > 1)
		json_object_set_new(json, "partition", json_integer(partition));
	ctl_json_print(json);
}

static void lag_row(struct ctl_table *table, const char *name, int64_t length,
		    const redisReply *group, const struct ctl_lag *lag)
{
	const struct ctl_readers *readers = &lag->readers;
	char age[CTL_AGE], *shown;

	ctl_cell(table, "%s", name);
	ctl_cell(table, "%" PRId64, length);
	shown = rt_text_shown(group->str, group->len);
	ctl_cell(table, "%s", shown);
	free(shown);
	ctl_cell(table, "%" PRId64, lag->lag);
	ctl_cell(table, "%" PRId64, lag->pending);
	ctl_cell(table, "%" PRId64, lag->aside);
	ctl_age(age, lag->oldest_ms);
	ctl_cell(table, "%s", lag->oldest_ms < 0 ? "-" : age);
	ctl_cell(table, "%zu", readers->consumers);
	ctl_age(age, readers->seen_ms);
	ctl_cell(table, "%s%s", readers->seen_ms < 0 ? "-" : age,
		 readers->seen_ms < 0 ? "" : " ago");
}

static void add_lag(struct ctl_lag_sum sums[CTL_READERS], const char *context, const char *group,
		    int64_t length, const struct ctl_lag *lag)
{
	for (size_t i = 0; i < CTL_READERS; i++) {
		struct ctl_lag *sum = &sums[i].lag;
		int64_t seen_ms = lag->readers.seen_ms;

		if (strcmp(sums[i].pair->of, context) != 0 ||
		    strcmp(sums[i].pair->reader, group) != 0)
			continue;
		sums[i].length += length;
		sum->lag += lag->lag;
		sum->pending += lag->pending;
		sum->aside += lag->aside;
		sum->oldest_ms = RT_MAX(sum->oldest_ms, lag->oldest_ms);
		sum->readers.consumers = RT_MAX(sum->readers.consumers, lag->readers.consumers);
		/* Where it was seen longest ago. */
		sum->readers.seen_ms = RT_MAX(sum->readers.seen_ms, seen_ms);
	}
}

static void print_sums(struct ctl_table *table, const struct ctl_lag_sum sums[CTL_READERS])
{
	for (size_t i = 0; i < CTL_READERS; i++) {
		const char *reader = sums[i].pair->reader;
		const redisReply group = { .str = (char *)(uintptr_t)reader,
					   .len = strlen(reader) };
		char name[CTL_KEY];

		snprintf(name, sizeof(name), "%s, all", sums[i].pair->of);
		lag_row(table, name, sums[i].length, &group, &sums[i].lag);
	}
}

/* Without a table it prints nothing. */
static bool stream_lag(struct ctl *ctl, const char *context, int partition, struct ctl_table *table,
		       struct ctl_lag_sum sums[CTL_READERS])
{
	struct ctl_stream stream;
	redisReply *groups;
	char key[CTL_KEY];
	bool good = true;

	ctl_key(key, context, partition, "events");
	if (!ctl_stream_groups(ctl, key, &stream, &groups))
		return false;
	if (groups == NULL)
		return true;
	for (size_t i = 0; i < groups->elements; i++) {
		const redisReply *name = ctl_named(groups->element[i], "name");
		struct ctl_lag lag;
		bool read =
			name != NULL && name->type == REDIS_REPLY_STRING &&
			read_lag(ctl, context, partition, key, &stream, groups->element[i], &lag);

		good = good && read;
		if (!read)
			continue;
		if (table != NULL && ctl->json)
			lag_json(ctl, partition, key, &stream, name, &lag);
		else if (table != NULL)
			lag_row(table, key, stream.length, name, &lag);
		add_lag(sums, context, ctl_text(name, ""), stream.length, &lag);
	}
	freeReplyObject(groups);
	return good;
}

static bool read_lags(struct ctl *ctl, struct ctl_table *table,
		      struct ctl_lag_sum sums[CTL_READERS])
{
	bool good = ctl_partitions(ctl) > 0;

	for (size_t i = 0; i < CTL_READERS; i++)
		sums[i] = (struct ctl_lag_sum){ .pair = &ctl_readers[i],
						.lag = { .oldest_ms = -1, .readers.seen_ms = -1 } };
	for (size_t i = 0; i < CTL_CONTEXTS; i++)
		for (int p = 0; p < ctl->partitions; p++)
			good = stream_lag(ctl, ctl_contexts[i].name, p, table, sums) && good;
	return good;
}

bool ctl_lags_read(struct ctl *ctl, struct ctl_lag_sum sums[CTL_READERS])
{
	return read_lags(ctl, NULL, sums);
}

static int lag_run(struct ctl *ctl, void *options)
{
	struct ctl_table table = CTL_TABLE("STREAM", "LENGTH", "GROUP", "LAG", "PENDING", "ASIDE",
					   "OLDEST PENDING", "CONSUMERS", "LAST SEEN");
	struct ctl_lag_sum sums[CTL_READERS];
	bool good = read_lags(ctl, &table, sums);

	(void)options;
	if (ctl->partitions > 1 && !ctl->json)
		print_sums(&table, sums);
	ctl_table_print(&table);
	return good ? CTL_OK : CTL_UNAVAILABLE;
}

const struct ctl_command ctl_events_lag = {
	.group = "events",
	.name = "lag",
	.about = "Shows how far each consumer group is behind",
	.text = "Shows how far each consumer group is behind its stream: not delivered (LAG), "
		"delivered and not acknowledged (PENDING), set aside for a retry (ASIDE). LAG and "
		"ASIDE count events, LENGTH and PENDING count entries, which carry one or more. "
		"With several partitions, a row each, and the sums.\v"
		"Examples:\n"
		"  tandemctl events lag\n"
		"  tandemctl events lag --json | jq 'select(.lag > 1000)'",
	.run = lag_run,
};
