/* audit_archive.c - whether the archive and Redis have the same orders.
 *
 *   streams    how far the archive has read, and what it knows to be missing
 *   stored     every order in Redis, a page at a time, beside what the archive has of it
 *   archived   every archived order that was not dropped, the oldest first, beside what Redis has of it; of those that Redis does
 *              not have, whether they were dropped meanwhile. Of those that were dropped nobody is asked: what Redis has all the
 *              same was seen among the stored
 *   again      what looked wrong is read once more, behind the window; what has changed meanwhile is under way
 *
 * What is kept in mind is a page, and what looked wrong, however many orders there are. An order's history has the ids of its
 * events in the stream: whether the archive has come to the last one, and whether a gap has swallowed one, is exact. Where Redis has lost
 * what the archive has (has_lost), that the archive has more is no fault: it is named as what the archive knows to be missing. */
#include <inttypes.h>
#include <string.h>

#include "audit.h"
#include "base/base.h"
#include "check.h"
#include "order/order_record.h"
#include "tandem/archive/v1/archive_service.pb-c.h"

#define PAGE       500
#define DOUBTS_MAX 1000 /* orders that are read again */

/* An order on both sides. */
struct pair {
	char order_id[64];
	/* In Redis. */
	int partition; /* −1: its id does not say, and it was not found */
	bool stored, damaged;
	enum order_state state;
	uint64_t version;
	bool read; /* the archive has come to its last event, and missed none */
	/* In the archive. */
	bool archived, dropped;
	uint64_t archived_version;
	int archived_status;
};
struct look {
	struct ctl *ctl;
	struct audit_archive *audit;
	Tandem__Archive__V1__ListArchivedStreamsResponse *streams;
	int64_t moved_ms; /* when the orders of before were moved here; 0: none were */
	struct pair page[PAGE];
	size_t count;
	struct pair doubts[DOUBTS_MAX];
	size_t doubt_count;
	char (*ends)[48]; /* of each partition's stream, behind the first look */
};

/* ---- how far the archive has read ---- */

static const Tandem__Archive__V1__ArchivedStream *orders_stream(const struct look *look,
								int partition)
{
	char key[CTL_KEY];

	ctl_key(key, "order", partition, "events");
	for (size_t i = 0; i < look->streams->n_streams; i++)
		if (strcmp(look->streams->streams[i]->name, key) == 0)
			return look->streams->streams[i];
	return NULL;
}

/* Orders that were moved here (tandemctl migrate) have the ids of another store's streams. */
static bool read_moved(struct look *look)
{
	char trail[CTL_KEY], from[48] = "+";
	bool more = look->ctl->partitions > 1;

	ctl_key(trail, "order", 0, "trail");
	while (more && look->moved_ms == 0) {
		redisReply *page =
			ctl_redis(look->ctl, "XREVRANGE", trail, from, "-", "COUNT", "1000");

		if (page == NULL)
			return false;
		more = page->elements == 1000;
		for (size_t i = 0; i < page->elements && look->moved_ms == 0; i++) {
			const redisReply *entry = page->element[i];
			const char *id = ctl_text(entry->element[0], "");

			if (strcmp(ctl_text(ctl_named(entry->element[1], "action"), ""),
				   "migrate") == 0)
				look->moved_ms = ctl_stream_id_ms(id);
			snprintf(from, sizeof(from), "(%s", id);
		}
		freeReplyObject(page);
	}
	return true;
}

/* Whether the archive has come to this entry, and has its events. */
static bool has_read(const struct look *look, const Tandem__Archive__V1__ArchivedStream *stream,
		     const char *id)
{
	if (look->moved_ms > 0 && ctl_stream_id_ms(id) <= look->moved_ms)
		return false;
	/* Of a stream that holds nothing the place may be known, though nothing was read. */
	if (stream->events == 0 || ctl_stream_id_compare(id, stream->last_id) > 0)
		return false;
	for (size_t i = 0; i < stream->n_gaps; i++)
		if (ctl_stream_id_compare(id, stream->gaps[i]->after_id) > 0 &&
		    ctl_stream_id_compare(id, stream->gaps[i]->before_id) < 0)
			return false;
	for (size_t i = 0; i < stream->n_unreadable; i++)
		if (ctl_stream_id_compare(id, stream->unreadable[i]->id) == 0)
			return false;
	return true;
}

/* The same of all events of an order; false also if its history does not say where they are. */
static bool has_read_all(const struct look *look, int partition, const char *text)
{
	const Tandem__Archive__V1__ArchivedStream *stream = orders_stream(look, partition);
	struct order_history_item item;
	struct order_history history;

	order_history_begin(&history, text);
	while (stream != NULL && order_history_next(&history, &item))
		if (!item.again && !has_read(look, stream, item.stream_id))
			return false;
	return stream != NULL;
}

/* Whether Redis has lost events of an order's partition that the archive has: the master failed, and its successor, or an older
 * copy of its data, began the numbers anew. What orders they were nobody knows: the archive names the gap. */
static bool has_lost(const struct look *look, int partition)
{
	char keys[2][CTL_KEY];

	for (size_t i = 0; i < look->streams->n_streams; i++) {
		const Tandem__Archive__V1__ArchivedStream *stream = look->streams->streams[i];
		bool here = partition < 0;

		if (!here) {
			ctl_key(keys[0], "order", partition, "events");
			ctl_key(keys[1], "inventory", partition, "events");
			here = strcmp(stream->name, keys[0]) == 0 ||
			       strcmp(stream->name, keys[1]) == 0;
		}
		for (size_t k = 0; here && k < stream->n_gaps; k++)
			if (stream->gaps[k]->events == 0) /* the numbers do not say how many */
				return true;
	}
	return false;
}

static int read_streams(struct look *look)
{
	Tandem__Archive__V1__ListArchivedStreamsRequest request =
		TANDEM__ARCHIVE__V1__LIST_ARCHIVED_STREAMS_REQUEST__INIT;
	ProtobufCMessage *response = NULL;
	int code = ctl_call(look->ctl, ctl_archive_service(look->ctl), "ListArchivedStreams",
			    &request.base, &response);

	if (code != CTL_OK)
		return code;
	if (look->streams != NULL)
		protobuf_c_message_free_unpacked(&look->streams->base, NULL);
	look->streams = (void *)response;
	return CTL_OK;
}

/* ---- judging ---- */

/* The status in which an order of this state is, as the archive numbers it. */
static int status_of(enum order_state state)
{
	char *name = rt_printf("ORDER_STATUS_%s", order_state_status(state));
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value_by_name(
		&tandem__order__v1__order_status__descriptor, name);

	free(name);
	return value != NULL ? value->value : 0;
}

static enum audit_fault judge(const struct look *look, const struct pair *pair)
{
	const struct audit_archived one = {
		.stored = pair->stored,
		.settled = pair->stored && order_state_settled(pair->state),
		.read = pair->read,
		.version = pair->version,
		.status = status_of(pair->state),
		.archived = pair->archived,
		.dropped = pair->dropped,
		.archived_version = pair->archived_version,
		.archived_status = pair->archived_status,
		.lost = has_lost(look, pair->partition),
	};

	/* What cannot be read is reported as such. */
	return pair->damaged ? AUDIT_FAULT_COUNT : audit_judge_archived(&one);
}

static void judge_page(struct look *look)
{
	for (size_t i = 0; i < look->count; i++) {
		if (judge(look, &look->page[i]) == AUDIT_FAULT_COUNT)
			continue;
		if (look->doubt_count == DOUBTS_MAX)
			look->audit->left_out++;
		else
			look->doubts[look->doubt_count++] = look->page[i];
	}
	look->count = 0;
}

/* ---- in Redis ---- */

static void fill_stored(const struct look *look, struct pair *pair, int partition,
			const redisReply *text)
{
	struct order_record record;

	if (text->type != REDIS_REPLY_STRING)
		return;
	pair->stored = true;
	pair->partition = partition;
	pair->damaged = !order_record_read(text->str, text->len, pair->order_id, &record);
	if (pair->damaged)
		return;
	pair->state = record.state;
	pair->version = record.version;
	pair->read = has_read_all(look, partition, record.history);
}

/* Of the page's orders that may be in this partition. */
static bool read_partition(struct look *look, int partition)
{
	struct pair *asked[PAGE];
	char key[CTL_KEY];
	struct rt_args args = { 0 };
	redisReply *reply;
	size_t count = 0;
	bool good;

	ctl_key(key, "order", partition, "orders");
	rt_args_str(&args, "HMGET");
	rt_args_str(&args, key);
	for (size_t i = 0; i < look->count; i++) {
		struct pair *pair = &look->page[i];

		if (pair->partition != partition && (pair->partition >= 0 || pair->stored))
			continue;
		rt_args_str(&args, pair->order_id);
		asked[count++] = pair;
	}
	if (count == 0) {
		rt_args_done(&args);
		return true;
	}
	reply = ctl_redis_args(look->ctl, &args, 0, false);
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	good = reply->type == REDIS_REPLY_ARRAY && reply->elements == count;
	for (size_t i = 0; good && i < count; i++)
		fill_stored(look, asked[i], partition, reply->element[i]);
	freeReplyObject(reply);
	return good;
}

static bool read_stored(struct look *look)
{
	bool good = true;

	for (int p = 0; p < look->ctl->partitions && good; p++)
		good = read_partition(look, p);
	return good;
}

/* ---- in the archive ---- */

static void fill_archived(struct pair *pair, const Tandem__Archive__V1__ArchivedOrder *order)
{
	pair->archived = true;
	pair->dropped = order->dropped;
	pair->archived_version = order->order->version;
	pair->archived_status = (int)order->order->status;
}

/* Asks for some of these; *ret_answered: for so many there was an answer, one at least. */
static bool find_some(struct look *look, struct pair *const *pairs, size_t count,
		      size_t *ret_answered)
{
	Tandem__Archive__V1__FindOrdersRequest request =
		TANDEM__ARCHIVE__V1__FIND_ORDERS_REQUEST__INIT;
	const Tandem__Archive__V1__FindOrdersResponse *answer;
	ProtobufCMessage *response = NULL;
	char *ids[PAGE];
	size_t found = 0;

	for (size_t i = 0; i < count; i++)
		ids[i] = pairs[i]->order_id;
	request.order_ids = ids;
	request.n_order_ids = count;
	if (ctl_call(look->ctl, ctl_archive_service(look->ctl), "FindOrders", &request.base,
		     &response) != CTL_OK)
		return false;
	answer = (const void *)response;
	/* In the order of the ids, but for those that are not there. */
	for (size_t i = 0; i < count && found < answer->n_orders; i++) {
		const Tandem__Archive__V1__FoundOrder *order = answer->orders[found];

		if (strcmp(order->order->order->order_id, ids[i]) != 0)
			continue;
		fill_archived(pairs[i], order->order);
		found++;
	}
	*ret_answered = answer->answered;
	protobuf_c_message_free_unpacked(response, NULL);
	if (*ret_answered == 0)
		ctl_error("FindOrders answered nothing");
	return *ret_answered > 0;
}

/* What the archive has of the page; `only_missing`: of those that Redis does not have. */
static bool read_archived(struct look *look, bool only_missing)
{
	struct pair *pairs[PAGE];
	size_t count = 0, answered = 0;
	bool good = true;

	for (size_t i = 0; i < look->count; i++)
		if (!only_missing || !look->page[i].stored)
			pairs[count++] = &look->page[i];
	for (size_t at = 0; at < count && good; at += answered)
		good = find_some(look, pairs + at, count - at, &answered);
	return good;
}

/* ---- the passes ---- */

static struct pair *page_add(struct look *look, const char *order_id)
{
	struct pair *pair = &look->page[look->count++];

	*pair = (struct pair){ .partition = ctl_order_partition(look->ctl, order_id) };
	snprintf(pair->order_id, sizeof(pair->order_id), "%s", order_id);
	return pair;
}

static bool stored_page(struct look *look)
{
	if (!read_archived(look, false))
		return false;
	judge_page(look);
	return true;
}

/* The partition that is being scanned. */
struct scan {
	struct look *look;
	int partition;
};

static bool on_stored(const redisReply *name, const redisReply *value, void *user)
{
	const struct scan *scan = user;
	const char *id = ctl_text(name, "");

	/* Other names are no orders, which the audit has said already. */
	if (check_order_id(id))
		fill_stored(scan->look, page_add(scan->look, id), scan->partition, value);
	return scan->look->count < PAGE || stored_page(scan->look);
}

static bool pass_stored(struct look *look)
{
	bool good = true;

	for (int p = 0; p < look->ctl->partitions && good; p++) {
		struct scan scan = { look, p };
		char orders[CTL_KEY];

		ctl_key(orders, "order", p, "orders");
		good = audit_scan(look->ctl, "HSCAN", orders, on_stored, &scan);
	}
	return good && stored_page(look);
}

static bool archived_page(struct look *look)
{
	if (!read_stored(look) || !read_archived(look, true))
		return false;
	for (size_t i = 0; i < look->count; i++)
		look->audit->dropped += look->page[i].dropped;
	judge_page(look);
	return true;
}

static int on_archived(const ProtobufCMessage *item, void *user)
{
	const Tandem__Archive__V1__ArchivedOrder *order = (const void *)item;
	struct look *look = user;

	if (!check_order_id(order->order->order_id))
		return CTL_OK;
	look->audit->archived++;
	if (order->dropped) {
		look->audit->dropped++;
		return CTL_OK;
	}
	fill_archived(page_add(look, order->order->order_id), order);
	return look->count < PAGE || archived_page(look) ? CTL_OK : CTL_UNAVAILABLE;
}

static bool pass_archived(struct look *look)
{
	Tandem__Archive__V1__SearchOrdersRequest request =
		TANDEM__ARCHIVE__V1__SEARCH_ORDERS_REQUEST__INIT;
	struct ctl_list list = {
		.client = ctl_archive_service(look->ctl),
		.method = "SearchOrders",
		.request = &request.base,
		.items_max = INT64_MAX,
		.on_item = on_archived,
		.user = look,
	};
	int code;

	request.oldest_first = true;
	code = ctl_call_list(look->ctl, &list);
	free(list.next);
	return code == CTL_OK && archived_page(look);
}

static bool same(const struct pair *a, const struct pair *b)
{
	return a->stored == b->stored && a->version == b->version && a->state == b->state &&
	       a->archived == b->archived && a->dropped == b->dropped &&
	       a->archived_version == b->archived_version &&
	       a->archived_status == b->archived_status;
}

static void report(const struct look *look, const struct pair *pair, enum audit_fault fault)
{
	char stored[64] = "none", archived[64] = "none", detail[160];

	if (pair->stored)
		snprintf(stored, sizeof(stored), "%s, version %" PRIu64,
			 order_state_status(pair->state), pair->version);
	if (pair->archived)
		snprintf(
			archived, sizeof(archived), "%s%s, version %" PRIu64,
			protobuf_c_enum_descriptor_get_value(
				&tandem__order__v1__order_status__descriptor, pair->archived_status)
					->name +
				strlen("ORDER_STATUS_"),
			pair->dropped ? " and dropped" : "", pair->archived_version);
	snprintf(detail, sizeof(detail), "order %s; archived %s", stored, archived);
	look->audit->on_fault(fault, RT_MAX(pair->partition, 0), pair->order_id, detail,
			      look->audit->user);
}

/* Whether the archive has read all that had happened in an order's partition when the first look ended: an order that was
 * dropped then is known to be dropped. */
static bool has_caught_up(const struct look *look, int partition)
{
	for (int p = 0; p < look->ctl->partitions; p++) {
		const Tandem__Archive__V1__ArchivedStream *stream = orders_stream(look, p);

		if (partition >= 0 && p != partition)
			continue;
		if (stream == NULL || ctl_stream_id_compare(look->ends[p], stream->last_id) > 0)
			return false;
	}
	return true;
}

static bool note_ends(struct look *look)
{
	look->ends = rt_alloc((size_t)look->ctl->partitions * sizeof(*look->ends));
	for (int p = 0; p < look->ctl->partitions; p++) {
		char key[CTL_KEY];
		struct ctl_stream stream;

		ctl_key(key, "order", p, "events");
		if (!ctl_stream_read(look->ctl, key, &stream))
			return false;
		snprintf(look->ends[p], sizeof(look->ends[p]), "%s",
			 stream.exists ? stream.last : "0-0");
	}
	return true;
}

/* Reads the doubts again, a page at a time, on both sides. */
static bool look_again(struct look *look)
{
	for (size_t from = 0; from < look->doubt_count; from += PAGE) {
		size_t count = RT_MIN(look->doubt_count - from, (size_t)PAGE);

		for (size_t i = 0; i < count; i++)
			page_add(look, look->doubts[from + i].order_id);
		if (!read_stored(look) || !read_archived(look, false))
			return false;
		for (size_t i = 0; i < count; i++) {
			const struct pair *pair = &look->page[i];
			enum audit_fault fault = judge(look, pair);

			if (fault == AUDIT_FAULT_COUNT || !same(pair, &look->doubts[from + i]) ||
			    (!pair->stored && !has_caught_up(look, pair->partition)))
				look->audit->under_way++;
			else
				report(look, pair, fault);
		}
		look->count = 0;
	}
	return true;
}

/* What the archive knows to be missing. */
static void report_missing(const struct look *look)
{
	for (size_t i = 0; i < look->streams->n_streams; i++) {
		const Tandem__Archive__V1__ArchivedStream *stream = look->streams->streams[i];

		for (size_t k = 0; k < stream->n_gaps; k++) {
			const Tandem__Archive__V1__ArchiveGap *gap = stream->gaps[k];

			look->audit->on_missing(
				&(struct audit_missing){ stream->name, gap->after_id,
							 gap->before_id, gap->reason, gap->events },
				look->audit->user);
		}
		for (size_t k = 0; k < stream->n_unreadable; k++) {
			const Tandem__Archive__V1__UnreadableEntry *entry = stream->unreadable[k];

			look->audit->on_missing(&(struct audit_missing){ stream->name, entry->id,
									 entry->id, entry->reason,
									 1 },
						look->audit->user);
		}
	}
}

/* ---- all of it ---- */

/* Whether there is an archive: it has a group at the orders' stream. −1: Redis could not be asked. */
static int archive_follows(struct ctl *ctl)
{
	char key[CTL_KEY];
	struct ctl_stream stream;
	redisReply *groups;
	int found = 0;

	ctl_key(key, "order", 0, "events");
	if (!ctl_stream_groups(ctl, key, &stream, &groups))
		return -1;
	if (groups == NULL)
		return 0;
	for (size_t i = 0; i < groups->elements; i++)
		if (strcmp(ctl_text(ctl_named(groups->element[i], "name"), ""), "archive") == 0)
			found = 1;
	freeReplyObject(groups);
	return found;
}

static bool compare(struct look *look, void (*wait)(int64_t ms), int64_t window_ms)
{
	if (!read_moved(look) || !pass_stored(look) || !pass_archived(look))
		return false;
	if (look->doubt_count == 0)
		return true;
	if (!note_ends(look))
		return false;
	wait(window_ms);
	return read_streams(look) == CTL_OK && look_again(look);
}

bool audit_archive(struct ctl *ctl, struct audit_archive *audit, void (*wait)(int64_t ms),
		   int64_t window_ms)
{
	struct look *look;
	bool good = true;
	int follows = archive_follows(ctl);

	audit->is_there = follows > 0;
	if (follows <= 0)
		return follows == 0;
	look = rt_alloc(sizeof(*look));
	look->ctl = ctl;
	look->audit = audit;
	audit->compared = read_streams(look) == CTL_OK;
	if (audit->compared) {
		good = compare(look, wait, window_ms);
		report_missing(look);
		protobuf_c_message_free_unpacked(&look->streams->base, NULL);
	}
	free(look->ends);
	free(look);
	return good;
}
