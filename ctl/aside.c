/* aside.c - events that were set aside, and tandemctl events aside.
 *
 * An event that failed, or waits behind one of its subject that failed, is in a stream of its reader,
 * <reader>:{p}:aside:<context of the event>, until it is processed or becomes a dead letter
 * (runtime/events/events.h). It is pending there for the consumer that holds it. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"

void ctl_aside_key(char key[CTL_KEY], const struct ctl_reader *pair, int partition)
{
	snprintf(key, CTL_KEY, "%s:{%d}:aside:%s", pair->reader, partition, pair->of);
}

#define PENDING_PAGE "1000"

/* Gives a row of XPENDING to the events of its entry. Returns the first event that is behind that entry. */
static size_t add_delivery(const redisReply *row, struct ctl_aside *list, size_t from, size_t count)
{
	const char *id;

	if (row->type != REDIS_REPLY_ARRAY || row->elements != 4)
		return from;
	id = ctl_text(row->element[0], "");
	for (; from < count; from++) {
		int order = ctl_stream_id_compare(list[from].event->stream_id, id);

		if (order > 0)
			break;
		if (order < 0)
			continue; /* not delivered yet */
		snprintf(list[from].consumer, sizeof(list[from].consumer), "%s",
			 ctl_text(row->element[1], "?"));
		list[from].failed = RT_MAX(0, ctl_count(row->element[3]) - 1);
	}
	return from;
}

/* Reads how often the events of a reader, oldest first, were delivered, and to which consumer; changes
 * nothing of those that were not delivered yet. */
static bool read_deliveries(struct ctl *ctl, const char *key, const struct ctl_reader *pair,
			    struct ctl_aside *list, size_t count)
{
	bool full = true;

	for (size_t at = 0; full && at < count;) {
		redisReply *rows =
			ctl_redis_try(ctl, "XPENDING", key, pair->reader, list[at].event->stream_id,
				      list[count - 1].event->stream_id, PENDING_PAGE);

		if (rows == NULL)
			return false;
		full = rows->elements == strtoul(PENDING_PAGE, NULL, 10);
		for (size_t i = 0; i < rows->elements; i++)
			at = add_delivery(rows->element[i], list, at, count);
		freeReplyObject(rows);
	}
	return true;
}

/* The first event of the same subject, which is retried while the others wait; NULL: this is the first. */
static const struct ctl_entry *find_first(const struct ctl_entries *entries, size_t from, size_t i)
{
	for (size_t j = from; j < i; j++)
		if (strcmp(entries->list[j].subject, entries->list[i].subject) == 0)
			return &entries->list[j];
	return NULL;
}

/* The stream of one reader in one partition: its events are consecutive. */
struct part {
	const struct ctl_reader *pair;
	int partition;
	size_t from, to;
};

static bool read_part(struct ctl *ctl, const char *order, struct ctl_asides *asides,
		      struct part *part)
{
	char key[CTL_KEY];

	ctl_aside_key(key, part->pair, part->partition);
	part->from = asides->entries.count;
	if (!ctl_entries_about(ctl, part->pair->reader, part->partition, key, order,
			       &asides->entries))
		return false;
	part->to = asides->entries.count;
	return true;
}

static bool add_part(struct ctl *ctl, struct ctl_asides *asides, const struct part *part)
{
	char key[CTL_KEY];

	ctl_aside_key(key, part->pair, part->partition);
	for (size_t i = part->from; i < part->to; i++) {
		struct ctl_aside *aside = &asides->list[asides->count++];

		*aside = (struct ctl_aside){ .event = &asides->entries.list[i] };
		aside->since_ms = ctl_stream_id_ms(aside->event->stream_id);
		aside->behind = find_first(&asides->entries, part->from, i);
	}
	return read_deliveries(ctl, key, part->pair, &asides->list[part->from],
			       part->to - part->from);
}

bool ctl_asides_read(struct ctl *ctl, int partition, const char *order, struct ctl_asides *asides)
{
	int first = partition < 0 ? 0 : partition;
	int end = partition < 0 ? ctl->partitions : partition + 1;
	size_t count = CTL_READERS * (size_t)(end - first), at = 0;
	struct part *parts = rt_alloc(count * sizeof(*parts));
	bool good = true;

	for (size_t i = 0; i < CTL_READERS && good; i++)
		for (int p = first; p < end && good; p++, at++) {
			parts[at] = (struct part){ .pair = &ctl_readers[i], .partition = p };
			good = read_part(ctl, order, asides, &parts[at]);
		}
	/* The list points into the entries, which have their final place now. */
	asides->list = rt_alloc((asides->entries.count + 1) * sizeof(*asides->list));
	for (size_t i = 0; i < at && good; i++)
		good = add_part(ctl, asides, &parts[i]);
	free(parts);
	return good;
}

void ctl_asides_done(struct ctl_asides *asides)
{
	ctl_entries_done(&asides->entries);
	free(asides->list);
	*asides = (struct ctl_asides){ 0 };
}

bool ctl_aside_count(struct ctl *ctl, const struct ctl_reader *pair, int partition, int64_t *ret)
{
	char key[CTL_KEY];
	redisReply *length;

	ctl_aside_key(key, pair, partition);
	length = ctl_redis(ctl, "XLEN", key);
	if (length == NULL)
		return false;
	*ret = ctl_count(length);
	freeReplyObject(length);
	return true;
}

char *ctl_aside_waits(const struct ctl_aside *aside)
{
	return aside->behind == NULL
		       ? rt_strdup("its next try")
		       : rt_printf("%s (%s), which is tried again",
				   ctl_short_type(aside->behind->type), aside->behind->id);
}

/* ---- the command ---- */

struct options {
	struct ctl_filter filter;
};

static error_t aside_parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = ctl_options(state);

	switch (key) {
	case 'c':
		options->filter.context = ctl_parse_context(state, arg, false);
		return 0;
	case 'o':
		options->filter.order = arg;
		return 0;
	case 't':
		options->filter.type = ctl_parse_type(state, arg, true);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void print_json(const struct ctl *ctl, const struct ctl_aside *aside)
{
	json_t *json = ctl_entry_json(ctl, aside->event);

	json_object_del(json, "original_stream_id"); /* entry_stream_id below */
	json_object_set_new(json, "entry_stream_id", ctl_json_text(aside->event->dead_stream_id));
	json_object_set_new(json, "since_ms", json_integer((json_int_t)aside->since_ms));
	json_object_set_new(json, "failed", json_integer((json_int_t)aside->failed));
	json_object_set_new(json, "consumer", ctl_json_text(aside->consumer));
	json_object_set_new(json, "behind",
			    ctl_json_text(aside->behind == NULL ? NULL : aside->behind->id));
	ctl_json_print(json);
}

static int aside_run(struct ctl *ctl, void *options)
{
	const struct options *wanted = options;
	struct ctl_table table = CTL_TABLE("STREAM_ID", "CONTEXT", "EVENT_ID", "TYPE", "AGE",
					   "FAILED", "CONSUMER", "WAITS FOR");
	struct ctl_asides asides = { 0 };
	bool good =
		ctl_partitions(ctl) > 0 && ctl_asides_read(ctl, -1, wanted->filter.order, &asides);
	size_t shown = 0;

	for (size_t i = 0; i < asides.count; i++) {
		const struct ctl_aside *aside = &asides.list[i];
		char age[CTL_AGE], place[CTL_PLACE], *waits;

		if (!ctl_filter_passes(&wanted->filter, aside->event))
			continue;
		shown++;
		if (ctl->json) {
			print_json(ctl, aside);
			continue;
		}
		waits = ctl_aside_waits(aside);
		ctl_age(age, RT_MAX(0, ctl_now_ms(ctl) - aside->since_ms));
		ctl_place(place, ctl, aside->event->partition, aside->event->stream_id);
		ctl_cell(&table, "%s", place);
		ctl_cell(&table, "%s", aside->event->context);
		ctl_cell(&table, "%s", aside->event->id);
		ctl_cell(&table, "%s", ctl_short_type(aside->event->type));
		ctl_cell(&table, "%s", age);
		ctl_cell(&table, "%" PRId64, aside->failed);
		ctl_cell(&table, "%s", aside->consumer[0] == '\0' ? "-" : aside->consumer);
		ctl_cell(&table, "%s", waits);
		free(waits);
	}
	ctl_table_print(&table);
	if (good && shown == 0 && !ctl->json)
		printf("nothing is set aside\n");
	ctl_asides_done(&asides);
	return good ? CTL_OK : CTL_UNAVAILABLE;
}

static const struct argp_option aside_options[] = {
	{ "order", 'o', "ID", 0, "Only events about this order (or SKU)", 0 },
	{ "type", 't', "TYPE", 0, "Only events of this type, such as OrderPlaced", 0 },
	{ "context", 'c', "CONTEXT", 0, "Only events that order, or inventory, has set aside", 0 },
	{ 0 },
};
const struct ctl_command ctl_events_aside = {
	.group = "events",
	.name = "aside",
	.about = "Shows the events that wait for a retry",
	.arguments = "",
	.text = "Shows the events that their reader has set aside: they failed and are retried, "
		"or wait behind such an event of the same order. Oldest first, at most 1000 per "
		"reader.\vExamples:\n"
		"  tandemctl events aside\n"
		"  tandemctl events aside --context inventory --json | jq .behind",
	.options = aside_options,
	.parse = aside_parse,
	.options_size = sizeof(struct options),
	.run = aside_run,
};
