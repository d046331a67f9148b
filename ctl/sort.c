/* sort.c - puts events of several streams in order of time.
 *
 * A stream keeps its own order. Where streams have events of the same millisecond, a cause comes before its
 * effect: the types tell which of an order's events come first. */
#include <string.h>

#include "base/base.h"
#include "ctl.h"

/* An event among those of its millisecond. */
struct item {
	struct ctl_entry entry;
	size_t stream, at;          /* index of its context; position among the stream's */
	int stage;                  /* an event is caused by those of lower stages; 0: unknown */
	size_t after[CTL_CONTEXTS]; /* how many events of each stream come before it */
};

static int stage_of(const char *type)
{
	static const struct {
		const char *type;
		int stage;
	} stages[] = {
		{ "OrderPlaced", 1 },       { "InventoryReserved", 2 },
		{ "OrderReserved", 3 },     { "InventoryUnavailable", 2 },
		{ "OrderRejected", 3 },     { "OrderConfirmed", 4 },
		{ "OrderCancelled", 4 },    { "OrderExpired", 4 },
		{ "InventoryReleased", 5 }, { "InventoryCommitted", 5 },
		{ "OrderSettled", 6 },
	};

	for (size_t i = 0; i < RT_LENGTH(stages); i++)
		if (strcmp(ctl_short_type(type), stages[i].type) == 0)
			return stages[i].stage;
	return 0;
}

static size_t stream_of(const struct ctl_entry *entry)
{
	const struct ctl_context *context = ctl_context_find(entry->context);

	return context == NULL ? 0 : (size_t)(context - ctl_contexts);
}

static uint64_t ms_of(const struct ctl_entry *entry)
{
	uint64_t ms = 0, n = 0;

	(void)ctl_stream_id(entry->stream_id, &ms, &n);
	return ms;
}

static int compare(uint64_t a, uint64_t b)
{
	return a == b ? 0 : a < b ? -1 : 1;
}

static int by_ms_and_stream(const void *a, const void *b)
{
	const struct ctl_entry *one = a, *other = b;
	int order = compare(ms_of(one), ms_of(other));

	/* An order's events are in one partition, causes and effects. */
	if (order == 0)
		order = one->partition - other->partition;
	if (order == 0)
		order = compare(stream_of(one), stream_of(other));
	if (order == 0)
		order = ctl_stream_id_compare(one->stream_id, other->stream_id);
	return order != 0 ? order : compare(one->index, other->index);
}

static int by_subject_and_stage(const void *a, const void *b)
{
	const struct item *one = *(struct item *const *)a, *other = *(struct item *const *)b;
	int order = strcmp(one->entry.subject, other->entry.subject);

	return order != 0 ? order : one->stage - other->stage;
}

/* Finds what must come before each event: those of lower stages that have the same subject. */
static void find_causes(struct item *items, size_t count)
{
	struct item **sorted = rt_alloc(count * sizeof(*sorted));
	size_t after[CTL_CONTEXTS];

	for (size_t i = 0; i < count; i++)
		sorted[i] = &items[i];
	qsort(sorted, count, sizeof(*sorted), by_subject_and_stage);
	for (size_t i = 0; i < count; i++) {
		struct item *item = sorted[i];

		if (i == 0 || strcmp(sorted[i - 1]->entry.subject, item->entry.subject) != 0)
			memset(after, 0, sizeof(after));
		if (item->stage == 0)
			continue;
		memcpy(item->after, after, sizeof(after));
		item->after[item->stream] = 0; /* its stream's order is known */
		after[item->stream] = RT_MAX(after[item->stream], item->at + 1);
	}
	free(sorted);
}

/* The events of one millisecond, by stream; and how many of each stream are in order. */
struct streams {
	const struct item *items[CTL_CONTEXTS];
	size_t counts[CTL_CONTEXTS], shown[CTL_CONTEXTS];
};

static bool is_next(const struct streams *streams, const struct item *item)
{
	for (size_t i = 0; i < CTL_CONTEXTS; i++)
		if (streams->shown[i] < item->after[i])
			return false;
	return true;
}

/* Takes the next event. If each stream waits for another, which only events made by hand can do: any. */
static const struct item *take_next(struct streams *streams)
{
	size_t chosen = 0;

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		if (streams->shown[i] == streams->counts[i])
			continue;
		chosen = i;
		if (is_next(streams, &streams->items[i][streams->shown[i]]))
			break;
	}
	return &streams->items[chosen][streams->shown[chosen]++];
}

/* Merges the events of one millisecond, which are sorted by stream. */
static void merge(struct ctl_entry *list, size_t count)
{
	struct item *items = rt_alloc(count * sizeof(*items));
	struct streams streams = { 0 };

	for (size_t i = 0; i < CTL_CONTEXTS; i++)
		streams.items[i] = items;
	for (size_t i = 0; i < count; i++) {
		size_t stream = stream_of(&list[i]);

		items[i] = (struct item){ .entry = list[i],
					  .stream = stream,
					  .at = streams.counts[stream],
					  .stage = stage_of(list[i].type) };
		if (streams.counts[stream]++ == 0)
			streams.items[stream] = &items[i];
	}
	find_causes(items, count);
	for (size_t i = 0; i < count; i++)
		list[i] = take_next(&streams)->entry;
	free(items);
}

/* Of the same millisecond and partition. */
static bool is_together(const struct ctl_entry *one, const struct ctl_entry *other)
{
	return one->partition == other->partition && ms_of(one) == ms_of(other);
}

void ctl_entries_sort(struct ctl_entries *entries)
{
	struct ctl_entry *list = entries->list;

	if (entries->count > 1)
		qsort(list, entries->count, sizeof(*list), by_ms_and_stream);
	for (size_t from = 0, to; from < entries->count; from = to) {
		for (to = from + 1; to < entries->count && is_together(&list[from], &list[to]);)
			to++;
		if (stream_of(&list[from]) != stream_of(&list[to - 1]))
			merge(&list[from], to - from);
	}
}
