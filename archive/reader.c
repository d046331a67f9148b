/* reader.c - reads the streams of a partition into the database.
 *
 *   archive_partition_start
 *     connect              waits for the connection that reads
 *     ask_positions        what the database has counts, whatever Redis says: it may be an older copy
 *       positions_known    (the writer has answered)
 *     read_more            XREAD of both streams from there on, which waits for something new
 *       entries_read       their events, and what is missing between them, become a batch
 *         read_on          as long as there is more at once, until the batch is large (turns.h)
 *         batch_written    stored, or not: then the positions are asked for again, after a pause
 *       rest               what comes meanwhile is gathered, unless there was more than a read holds
 *       confirm            tells Redis how far is stored: so far the streams may be trimmed
 *   confirm (each second)  shows that the group is alive, and asks how far it is behind
 *
 * One batch is under way in a partition, and one partition's at a time is written. While none is written (the database is
 * away, the disk is full) nothing is read: what is to be archived waits in Redis.
 *
 * A stream's ids count its events (docs/decisions/003). So where events are missing it is known how many: they were trimmed
 * before they were archived, or deleted. That is logged, counted, and noted in the table `gaps`.
 *
 * A stream goes back when a master is lost with its last entries: its numbers begin anew behind what is left (look_for_gap), or
 * it ends before what was read, as the confirmation's answer says (go_back). Orders that the lost entries said to be dropped are
 * there again, so they are not taken for dropped any more (docs/decisions/054). */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "archive_internal.h"
#include "check.h"
#include "events/entry.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "turns.h"

#define BLOCK_MS      5000
#define CONFIRM_MS    1000
#define AGAIN_MIN_MS  200 /* between tries while the database is away: doubles up to … */
#define AGAIN_MAX_MS  5000
#define CONSUMER_IDLE 3600000
/* It is looked for what is left of a stream so long before the first new entry, then longer. */
#define LEFT_MIN_MS 1000
#define KEEP_BYTES  ((size_t)1 << 20) /* of a batch's memory */

enum state { IDLE, CONNECTING, ASKING, READING, WRITING, RESTING, STOPPED };

struct stream {
	struct archive_partition *partition;
	enum archive_context context;
	struct archive_position position; /* as it is stored */
	uint64_t n;                       /* the number of the last event that was read */
	struct archive_turn turn;
	struct rt_redis_op confirm_op;
	bool confirming;
	char confirmed[ARCHIVE_STREAM_ID];   /* what is told now, or was last */
	char end[ARCHIVE_STREAM_ID];         /* of the stream, if that is before it; else "" */
	struct rt_series *done, *lag, *lost; /* NULL: no metrics */
};

/* What was read, and is to be stored. */
struct batch {
	struct archive_job job;
	struct rt_arena arena; /* its texts */
	struct archive_event *events;
	size_t event_capacity;
	struct archive_gap *gaps;
	size_t gap_capacity;
	struct archive_unreadable *unreadable;
	size_t unreadable_capacity;
	struct archive_position positions[ARCHIVE_STREAMS];
	struct archive_batch stored;
	struct archive_written written;
	/* The orders' stream went back: what ends before its first new entry, that one's time, and how long before it was looked
	 * for what is left. */
	char before_back[ARCHIVE_STREAM_ID + 1]; /* "": it did not */
	uint64_t back_ms, looked_ms;
	bool begun; /* something was read */
	int64_t begun_ns;
};

struct archive_partition {
	struct archive *archive;
	int number;
	struct rt_redis *commands; /* the store's */
	struct rt_redis *reader;
	struct rt_redis_waiter waiter;
	struct rt_redis_op read_op;
	char *own_stream, consumer[96];
	enum state state;
	size_t asked; /* entries of each stream, at most */
	struct stream streams[ARCHIVE_STREAMS];
	struct batch batch;
	struct rt_timer timer, confirm_timer;
	int64_t again_ms;
	bool began; /* the positions are known */
	char problem[ARCHIVE_ERROR + 40];
	bool logged; /* the problem */
	void (*stopped)(void *user);
	void *stopped_user;
};

static void connect_reader(struct archive_partition *partition);
static void ask_positions(struct archive_partition *partition);
static void read_more(struct archive_partition *partition);
static void read_on(struct archive_partition *partition);
static void look_for_left(struct archive_partition *partition);

/* ---- the end ---- */

static void end(struct archive_partition *partition)
{
	bool confirming = partition->streams[0].confirming || partition->streams[1].confirming;

	if (partition->stopped == NULL || confirming)
		return;
	partition->state = STOPPED;
	RT_TAKE(partition->stopped)(partition->stopped_user);
}

/* True: it is to stop, and what was under way is not any more. */
static bool ends(struct archive_partition *partition)
{
	if (partition->stopped == NULL)
		return false;
	partition->state = IDLE;
	end(partition);
	return true;
}

/* ---- what keeps it ---- */

static void on_again(struct rt_timer *timer)
{
	connect_reader(RT_CONTAINER_OF(timer, struct archive_partition, timer));
}

/* Begins again after a pause: it is connected, then asks for the positions. */
static void again(struct archive_partition *partition)
{
	struct rt_loop *loop = partition->archive->loop;

	partition->state = RESTING;
	rt_timer_start(loop, &partition->timer, rt_loop_around(loop, partition->again_ms),
		       on_again);
	partition->again_ms = RT_MIN(2 * partition->again_ms, AGAIN_MAX_MS);
}

static void database_failed(struct archive_partition *partition, const struct archive_job *job)
{
	struct archive *archive = partition->archive;

	snprintf(partition->problem, sizeof(partition->problem), "the database: %s", job->error);
	if (archive->counts.up != NULL)
		rt_series_set(archive->counts.up, 0);
	if (!partition->logged)
		RT_LOG(RT_ERROR, "nothing is archived: trying again",
		       RT_I("partition", partition->number),
		       RT_S("status", rt_status_name(job->status)), RT_S("reason", job->error));
	partition->logged = true;
	again(partition);
}

static void database_works(struct archive_partition *partition)
{
	struct archive *archive = partition->archive;

	if (partition->logged)
		RT_LOG(RT_INFO, "events are archived again", RT_I("partition", partition->number));
	partition->logged = false;
	partition->problem[0] = '\0';
	partition->again_ms = AGAIN_MIN_MS;
	if (archive->counts.up != NULL)
		rt_series_set(archive->counts.up, 1);
}

const char *archive_partition_problem(const struct archive_partition *partition)
{
	if (partition->problem[0] != '\0')
		return partition->problem;
	return partition->began ? NULL : "the streams are not read yet";
}

/* ---- telling Redis ---- */

static bool read_id(const char *id, uint64_t *ret_ms, uint64_t *ret_n)
{
	int at = 0;

	return sscanf(id, "%" SCNu64 "-%" SCNu64 "%n", ret_ms, ret_n, &at) == 2 && id[at] == '\0';
}

/* Whether the stream has less than is stored of it. */
static void note_end(struct stream *stream, const redisReply *reply)
{
	uint64_t ms, n, end_ms, end_n;

	if (rt_reply_is_string(reply) && reply->len < sizeof(stream->end) &&
	    read_id(reply->str, &end_ms, &end_n) && read_id(stream->confirmed, &ms, &n) &&
	    (end_ms < ms || (end_ms == ms && end_n < n)))
		snprintf(stream->end, sizeof(stream->end), "%s", reply->str);
}

static void confirmed(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct stream *stream = RT_CONTAINER_OF(op, struct stream, confirm_op);
	struct archive_partition *partition = stream->partition;

	stream->confirming = false;
	stream->end[0] = '\0';
	/* { pending, first pending, lag, removed, delivered, the stream's end, … }, or nil */
	if (status == RT_OK && rt_reply_is_array(reply, 7)) {
		if (stream->lag != NULL)
			rt_series_set(stream->lag, (double)rt_reply_int(reply->element[2]));
		note_end(stream, reply->element[5]);
	} else if (status != RT_OK)
		RT_LOG(RT_DEBUG, "how far the stream is archived could not be told",
		       RT_S("stream", stream->position.stream),
		       RT_S("status", rt_status_name(status)));
	if (partition->state == IDLE)
		end(partition);
}

static void confirm_stream(struct stream *stream)
{
	const struct archive_partition *partition = stream->partition;
	struct rt_args args = { .count = 0 };

	if (stream->confirming)
		return;
	RT_FAILPOINT("archive.confirm");
	stream->confirming = true;
	rt_args_function(&args, &archive_functions, "confirm");
	rt_args_str(&args, "2");
	rt_args_str(&args, partition->own_stream);
	rt_args_str(&args, stream->position.stream);
	rt_args_str(&args, archive_functions.name); /* the group */
	rt_args_str(&args, partition->consumer);
	memcpy(stream->confirmed, stream->position.id, sizeof(stream->confirmed));
	rt_args_str(&args, stream->confirmed);
	rt_args_int(&args, CONSUMER_IDLE);
	rt_redis_send(partition->commands, &stream->confirm_op, &args, 0, confirmed);
	rt_args_done(&args);
}

static void confirm(struct archive_partition *partition)
{
	for (size_t i = 0; partition->began && i < ARCHIVE_STREAMS; i++)
		confirm_stream(&partition->streams[i]);
}

static void on_confirm_time(struct rt_timer *timer)
{
	struct archive_partition *partition =
		RT_CONTAINER_OF(timer, struct archive_partition, confirm_timer);

	rt_timer_start(partition->archive->loop, timer, CONFIRM_MS, on_confirm_time);
	confirm(partition);
}

/* ---- where the database stands ---- */

static int run_positions(struct archive_job *job, struct archive_store *store)
{
	struct batch *batch = RT_CONTAINER_OF(job, struct batch, job);
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < ARCHIVE_STREAMS; i++)
		rc = archive_store_position(store, &batch->positions[i]);
	return rc;
}

static void positions_known(struct archive_job *job)
{
	struct batch *batch = RT_CONTAINER_OF(job, struct batch, job);
	struct archive_partition *partition =
		RT_CONTAINER_OF(batch, struct archive_partition, batch);

	if (ends(partition))
		return;
	if (job->status != RT_OK) {
		database_failed(partition, job);
		return;
	}
	database_works(partition);
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		struct stream *stream = &partition->streams[i];

		stream->position = batch->positions[i];
		stream->turn = (struct archive_turn){ .more = false };
		if (!read_id(stream->position.id, &stream->turn.ms, &stream->n))
			stream->n = 0;
		if (!partition->began)
			RT_LOG(RT_INFO, "archiving", RT_S("stream", stream->position.stream),
			       RT_S("after", stream->position.id),
			       RT_I("events", stream->position.events));
	}
	partition->began = true;
	confirm(partition);
	read_more(partition);
}

static void ask_positions(struct archive_partition *partition)
{
	struct batch *batch = &partition->batch;

	partition->state = ASKING;
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++)
		batch->positions[i] = partition->streams[i].position;
	batch->job.run = run_positions;
	batch->job.done = positions_known;
	archive_worker_add(partition->archive->writer, &batch->job, 0);
}

/* ---- entries become a batch ---- */

static struct archive_text keep(struct batch *batch, const struct rt_slice *slice)
{
	if (slice->length == 0)
		return (struct archive_text){ 0 };
	return (struct archive_text){ rt_arena_copy(&batch->arena, slice->data, slice->length),
				      slice->length };
}

static void add_gap(struct stream *stream, struct batch *batch, const char *before, int64_t events,
		    const char *reason)
{
	struct archive_gap *gap;

	batch->gaps = rt_grow(batch->gaps, batch->stored.gap_count, &batch->gap_capacity,
			      sizeof(*batch->gaps));
	gap = &batch->gaps[batch->stored.gap_count++];
	*gap = (struct archive_gap){ .stream = stream->position.stream,
				     .events = events,
				     .found_ms = rt_loop_unix_ms(stream->partition->archive->loop),
				     .reason = reason };
	snprintf(gap->after, sizeof(gap->after), "%s", batch->positions[stream->context].id);
	snprintf(gap->before, sizeof(gap->before), "%s", before);
}

/* The first time in a batch counts. */
static void note_back(struct batch *batch, const char *id)
{
	uint64_t n;

	if (batch->before_back[0] != '\0' || !read_id(id, &batch->back_ms, &n))
		return;
	snprintf(batch->before_back, sizeof(batch->before_back), "(%s", id);
	batch->looked_ms = LEFT_MIN_MS;
}

#define WENT_BACK "the stream's numbers begin anew: Redis has lost what it had"

/* Compares the number of an entry with that of the one before. `count`: of its events. One that was added by hand has the number
 * 0, or begins the numbers anew without a loss. */
static void look_for_gap(struct stream *stream, struct batch *batch, const char *id, uint64_t n,
			 size_t count)
{
	uint64_t first = n - RT_MIN(n, (uint64_t)count);

	if (first > stream->n)
		add_gap(stream, batch, id, (int64_t)(first - stream->n),
			strcmp(batch->positions[stream->context].id, "0-0") == 0
				? "they were gone when the archive began"
				: "they were gone before they were archived");
	else if (first < stream->n)
		add_gap(stream, batch, id, 0, WENT_BACK);
	/* Where nothing is left of the stream nothing is of the orders. */
	if (first < stream->n && first > 0 && stream->context == ARCHIVE_ORDER)
		note_back(batch, id);
}

/* What an event of orders holds, if that is shown later; NULL: it is not. */
static const ProtobufCMessageDescriptor *content_of(const struct archive_text *kind)
{
	static const struct {
		const char *kind;
		const ProtobufCMessageDescriptor *content;
	} kinds[] = {
		{ "OrderPlaced", &tandem__order__v1__order_placed__descriptor },
		{ "OrderRejected", &tandem__order__v1__order_rejected__descriptor },
		{ "OrderCancelled", &tandem__order__v1__order_cancelled__descriptor },
		{ "OrderExpired", &tandem__order__v1__order_expired__descriptor },
		{ "OrderReturned", &tandem__order__v1__order_returned__descriptor },
	};

	for (size_t i = 0; i < RT_LENGTH(kinds); i++)
		if (kind->length == strlen(kinds[i].kind) &&
		    memcmp(kind->data, kinds[i].kind, kind->length) == 0)
			return kinds[i].content;
	return NULL;
}

/* What is the same for many events of an entry, one behind the other. */
struct alike {
	struct rt_slice type, time;
	struct archive_text kind;
	const ProtobufCMessageDescriptor *content;
	bool kind_valid, of_stock;
	int64_t time_ms;
};

/* Whether a subject is what it should be: an order id, or a SKU. */
static const char *fault_of_subject(const struct rt_slice *from, bool of_stock)
{
	static const char sku_letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	char subject[ARCHIVE_SKU_MAX + 1];

	if (from->length >= sizeof(subject))
		return "its subject is too long";
	memcpy(subject, from->data, from->length);
	subject[from->length] = '\0';
	if (of_stock)
		return strspn(subject, sku_letters) == from->length ? NULL
								    : "its subject is not a SKU";
	return check_order_id(subject) ? NULL : "its subject is not an order id";
}

/* What is wrong with an event, or NULL. */
static const char *fault_of(const struct alike *alike, const struct rt_entry_event *event)
{
	const char *fault = fault_of_subject(&event->subject, alike->of_stock);
	struct rt_wire_fault wrong;

	if (fault != NULL)
		return fault;
	if (!alike->kind_valid || !rt_utf8_valid(event->actor.data, event->actor.length))
		return "a text is not UTF-8";
	if (event->seq > INT64_MAX)
		return "its version is too large";
	if (alike->content != NULL &&
	    !rt_wire_check(alike->content, (const uint8_t *)event->data.data, event->data.length,
			   &wrong))
		return "its content is not valid";
	return NULL;
}

/* An event's time, or that of its entry's id. */
static int64_t time_of(const struct rt_slice *time, uint64_t entry_ms)
{
	char text[RT_TIME_TEXT];
	int64_t ms;

	if (time->length == sizeof(text) - 1) {
		memcpy(text, time->data, time->length);
		text[time->length] = '\0';
		if (rt_time_parse(text, &ms))
			return ms;
	}
	return (int64_t)RT_MIN(entry_ms, (uint64_t)RT_TIME_MS_MAX);
}

/* The type without its package. */
static struct rt_slice short_type(const struct rt_slice *type)
{
	const char *dot = memrchr(type->data, '.', type->length);
	size_t skip = dot != NULL ? (size_t)(dot - type->data) + 1 : 0;

	return (struct rt_slice){ type->data + skip, type->length - skip };
}

static bool same(const struct rt_slice *a, const struct rt_slice *b)
{
	return a->data == b->data && a->length == b->length;
}

/* The entry's events point to the same texts as long as these are the same. */
static void note_alike(struct alike *alike, struct batch *batch, enum archive_context context,
		       uint64_t entry_ms, const struct rt_entry_event *event)
{
	if (!same(&alike->time, &event->time) || alike->type.data == NULL) {
		alike->time = event->time;
		alike->time_ms = time_of(&event->time, entry_ms);
	}
	if (!same(&alike->type, &event->type)) {
		const struct rt_slice kind = short_type(&event->type);

		alike->type = event->type;
		alike->kind = keep(batch, &kind);
		alike->kind_valid = rt_utf8_valid(kind.data, kind.length);
		alike->of_stock = context == ARCHIVE_INVENTORY && archive_of_stock(&alike->kind);
		alike->content = context == ARCHIVE_ORDER ? content_of(&alike->kind) : NULL;
	}
}

/* Returns what is wrong with the event, or NULL: it is in the batch. */
static const char *add_event(struct batch *batch, enum archive_context context, uint64_t entry_ms,
			     struct alike *alike, const struct rt_entry_event *from)
{
	struct archive_event *event;
	const char *fault;

	note_alike(alike, batch, context, entry_ms, from);
	fault = fault_of(alike, from);
	if (fault != NULL)
		return fault;
	batch->events = rt_grow(batch->events, batch->stored.event_count, &batch->event_capacity,
				sizeof(*batch->events));
	event = &batch->events[batch->stored.event_count++];
	*event = (struct archive_event){ .context = context,
					 .kind = alike->kind,
					 .subject = keep(batch, &from->subject),
					 .actor = keep(batch, &from->actor),
					 .data = keep(batch, &from->data),
					 .version = from->seq,
					 .time_ms = alike->time_ms,
					 .entry_ms = (int64_t)entry_ms };
	return NULL;
}

/* An entry that cannot be read, as it is: of each field its length, a line's end and its bytes. */
static void add_unreadable(struct stream *stream, struct batch *batch, const char *id,
			   const redisReply *fields, const char *reason)
{
	struct rt_buf text = { 0 };
	struct archive_unreadable *entry;

	for (size_t i = 0; rt_reply_is_array(fields, 0) && i < fields->elements; i++) {
		if (!rt_reply_is_string(fields->element[i]))
			continue;
		rt_buf_printf(&text, "%zu\n", fields->element[i]->len);
		rt_buf_add(&text, fields->element[i]->str, fields->element[i]->len);
	}
	batch->unreadable = rt_grow(batch->unreadable, batch->stored.unreadable_count,
				    &batch->unreadable_capacity, sizeof(*batch->unreadable));
	entry = &batch->unreadable[batch->stored.unreadable_count++];
	*entry = (struct archive_unreadable){
		.stream = stream->position.stream,
		.id = rt_arena_copy(&batch->arena, id, strlen(id)),
		.reason = reason,
		.data = rt_arena_copy(&batch->arena, text.length > 0 ? text.data : "", text.length),
		.length = text.length
	};
	rt_buf_done(&text);
	RT_LOG(RT_WARN, "an entry cannot be read: it is archived as it is",
	       RT_S("stream", stream->position.stream), RT_S("id", id), RT_S("reason", reason));
}

static bool add_entry(struct stream *stream, struct batch *batch, const redisReply *entry)
{
	struct archive_position *position = &batch->positions[stream->context];
	struct alike alike = { .kind_valid = false };
	struct rt_entry_event *list;
	const char *fault, *id;
	uint64_t ms, n;
	size_t count;

	if (!rt_reply_is_array(entry, 2) || !rt_reply_is_string(entry->element[0]))
		return false;
	id = entry->element[0]->str;
	if (strlen(id) >= sizeof(position->id) || !read_id(id, &ms, &n))
		return false;
	fault = rt_entry_read_reply(entry->element[1], &list, &count);
	if (fault == NULL)
		look_for_gap(stream, batch, id, n, count);
	for (size_t i = 0; i < count; i++) {
		const char *wrong = add_event(batch, stream->context, ms, &alike, &list[i]);

		if (wrong == NULL)
			position->events++;
		else
			fault = wrong;
	}
	free(list);
	if (fault != NULL)
		add_unreadable(stream, batch, id, entry->element[1], fault);
	snprintf(position->id, sizeof(position->id), "%s", id);
	stream->n = n;
	stream->turn.ms = ms;
	return true;
}

static struct stream *stream_called(struct archive_partition *partition, const redisReply *name)
{
	for (size_t i = 0; rt_reply_is_string(name) && i < ARCHIVE_STREAMS; i++)
		if (strcmp(partition->streams[i].position.stream, name->str) == 0)
			return &partition->streams[i];
	return NULL;
}

static bool add_entries(struct archive_partition *partition, struct stream *stream,
			const redisReply *entries)
{
	struct batch *batch = &partition->batch;
	const int64_t *events = &batch->positions[stream->context].events, before = *events;

	for (size_t i = 0; i < entries->elements; i++)
		if (!add_entry(stream, batch, entries->element[i]))
			return false;
	stream->turn.more = entries->elements >= partition->asked;
	stream->turn.entries = entries->elements;
	stream->turn.events = (size_t)(*events - before);
	return true;
}

/* [[stream, [entry, …]], …] */
static bool fill_batch(struct archive_partition *partition, const redisReply *reply)
{
	struct batch *batch = &partition->batch;

	batch->begun = true;
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *part = reply->element[i];
		struct stream *stream;

		if (!rt_reply_is_array(part, 2) || !rt_reply_is_array(part->element[1], 0))
			return false;
		stream = stream_called(partition, part->element[0]);
		if (stream == NULL || !add_entries(partition, stream, part->element[1]))
			return false;
	}
	return true;
}

static void clear_batch(struct archive_partition *partition)
{
	struct batch *batch = &partition->batch;

	rt_arena_reset(&batch->arena, KEEP_BYTES);
	batch->stored = (struct archive_batch){ .event_count = 0 };
	batch->begun = false;
	batch->before_back[0] = '\0';
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		const struct archive_position *stored = &partition->streams[i].position;

		batch->positions[i] = *stored;
		batch->positions[i].events = batch->positions[i].lost_from_ms = 0;
		memcpy(batch->positions[i].from, stored->id, sizeof(batch->positions[i].from));
	}
}

/* ---- writing ---- */

static int run_write(struct archive_job *job, struct archive_store *store)
{
	struct batch *batch = RT_CONTAINER_OF(job, struct batch, job);

	return archive_store_write(store, &batch->stored, &batch->written);
}

static void report_gaps(const struct archive_partition *partition)
{
	const struct archive_batch *stored = &partition->batch.stored;

	for (size_t i = 0; i < stored->gap_count; i++) {
		const struct archive_gap *gap = &stored->gaps[i];

		RT_LOG(RT_WARN, "events of a stream will never be archived",
		       RT_S("stream", gap->stream), RT_I("events", gap->events),
		       RT_S("after", gap->after), RT_S("before", gap->before),
		       RT_S("reason", gap->reason));
		for (size_t j = 0; j < ARCHIVE_STREAMS; j++)
			if (gap->stream == partition->streams[j].position.stream)
				archive_count(partition->streams[j].lost, (double)gap->events);
	}
}

static void report_taken_back(const struct archive_partition *partition)
{
	const struct archive *archive = partition->archive;
	size_t orders = partition->batch.written.taken_back;

	if (orders == 0)
		return;
	RT_LOG(RT_WARN, "the stream has lost that orders were dropped: they may be dropped again",
	       RT_I("partition", partition->number), RT_I("orders", orders));
	if (archive->releases != NULL)
		archive_release_anew(archive->releases[partition->number]);
}

static void on_rested(struct rt_timer *timer)
{
	read_more(RT_CONTAINER_OF(timer, struct archive_partition, timer));
}

static void count_written(struct archive_partition *partition)
{
	struct archive *archive = partition->archive;
	const struct batch *batch = &partition->batch;

	if (archive->counts.write_seconds == NULL)
		return;
	rt_series_observe(archive->counts.write_seconds,
			  (double)(rt_monotonic_ns() - batch->begun_ns) / 1e9);
	rt_series_add(archive->counts.orders, (double)batch->written.orders);
	rt_series_add(archive->counts.repeats, (double)batch->written.repeats);
	rt_series_add(archive->counts.movements, (double)batch->written.movements);
	rt_series_add(archive->counts.dropped, (double)batch->written.dropped);
	rt_series_add(archive->counts.unreadable, (double)batch->stored.unreadable_count);
}

static void batch_written(struct archive_job *job)
{
	struct batch *batch = RT_CONTAINER_OF(job, struct batch, job);
	struct archive_partition *partition =
		RT_CONTAINER_OF(batch, struct archive_partition, batch);
	bool more = false; /* at once */

	if (job->status != RT_OK) {
		if (!ends(partition))
			database_failed(partition, job);
		return;
	}
	database_works(partition);
	count_written(partition);
	if (partition->archive->releases != NULL)
		archive_release_written(partition->archive->releases[partition->number],
					&batch->written);
	report_gaps(partition);
	report_taken_back(partition);
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		struct stream *stream = &partition->streams[i];

		more = more || stream->turn.more;
		archive_count(stream->done, (double)batch->positions[i].events);
		stream->position.events += batch->positions[i].events;
		if (strcmp(stream->position.id, batch->positions[i].id) == 0)
			continue;
		memcpy(stream->position.id, batch->positions[i].id, sizeof(stream->position.id));
		if (partition->stopped == NULL)
			confirm_stream(stream);
	}
	if (ends(partition))
		return;
	if (more || partition->archive->write_every_ms == 0) {
		read_more(partition);
		return;
	}
	partition->state = RESTING;
	rt_timer_start(partition->archive->loop, &partition->timer,
		       partition->archive->write_every_ms, on_rested);
}

static void write_batch(struct archive_partition *partition)
{
	struct batch *batch = &partition->batch;

	partition->state = WRITING;
	batch->stored.partition = partition->number;
	batch->stored.events = batch->events;
	batch->stored.gaps = batch->gaps;
	batch->stored.unreadable = batch->unreadable;
	batch->stored.positions = batch->positions;
	batch->stored.position_count = ARCHIVE_STREAMS;
	batch->begun_ns = rt_monotonic_ns();
	batch->job.run = run_write;
	batch->job.done = batch_written;
	archive_worker_add(partition->archive->writer, &batch->job, 0);
}

/* ---- a stream that went back ---- */

/* An entry that is left was found; or none is in the time that was looked at. What it did not lose it may have been read from,
 * too: orders are said once more to be dropped that are. */
static void left_known(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct archive_partition *partition =
		RT_CONTAINER_OF(op, struct archive_partition, read_op);
	struct batch *batch = &partition->batch;
	uint64_t ms = 1, n;

	if (ends(partition))
		return;
	if (status != RT_OK || !rt_reply_is_array(reply, 0)) {
		again(partition);
	} else if (reply->elements == 0 && batch->looked_ms < batch->back_ms) {
		batch->looked_ms *= 4;
		look_for_left(partition);
	} else {
		if (reply->elements > 0 && rt_reply_is_array(reply->element[0], 2) &&
		    rt_reply_is_string(reply->element[0]->element[0]))
			(void)read_id(reply->element[0]->element[0]->str, &ms, &n);
		batch->positions[ARCHIVE_ORDER].lost_from_ms = (int64_t)RT_MAX(ms, 1U);
		write_batch(partition);
	}
}

/* The time from which on something was lost: that of an entry that is left, before the first new one. It may be somewhat
 * earlier than it could be; an archive may not read backwards. */
static void look_for_left(struct archive_partition *partition)
{
	const struct batch *batch = &partition->batch;
	uint64_t from = batch->back_ms - RT_MIN(batch->looked_ms, batch->back_ms);
	struct rt_args args = { .count = 0 };

	rt_args_str(&args, "XRANGE");
	rt_args_str(&args, partition->streams[ARCHIVE_ORDER].position.stream);
	rt_args_int(&args, (int64_t)from);
	rt_args_str(&args, batch->before_back);
	rt_args_str(&args, "COUNT");
	rt_args_str(&args, "1");
	rt_redis_send(partition->reader, &partition->read_op, &args, 0, left_known);
	rt_args_done(&args);
}

/* A stream ends before what was read of it, and nothing new has come: it is read from there on. False: none does. */
static bool go_back(struct archive_partition *partition)
{
	struct batch *batch = &partition->batch;
	bool back = false;

	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		struct stream *stream = &partition->streams[i];

		if (stream->end[0] == '\0' || strcmp(stream->confirmed, stream->position.id) != 0)
			continue;
		back = true;
		add_gap(stream, batch, stream->end, 0, WENT_BACK);
		memcpy(batch->positions[i].id, stream->end, sizeof(stream->end));
		if (read_id(stream->end, &stream->turn.ms, &stream->n) && i == ARCHIVE_ORDER)
			batch->positions[i].lost_from_ms = (int64_t)stream->turn.ms;
		stream->end[0] = '\0';
	}
	if (back)
		write_batch(partition);
	return back;
}

/* ---- reading ---- */

static enum archive_turns next_turn(const struct archive_partition *partition)
{
	return archive_next_turn(&partition->streams[ARCHIVE_ORDER].turn,
				 &partition->streams[ARCHIVE_INVENTORY].turn,
				 partition->batch.stored.event_count);
}

static void entries_read(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct archive_partition *partition =
		RT_CONTAINER_OF(op, struct archive_partition, read_op);
	const struct batch *batch = &partition->batch;
	bool nothing = status == RT_OK && reply->type == REDIS_REPLY_NIL;

	if (ends(partition))
		return;
	if (nothing && !batch->begun) {
		if (!go_back(partition))
			read_more(partition);
		return;
	}
	if (status == RT_OK && !nothing &&
	    (!rt_reply_is_array(reply, 1) || !fill_batch(partition, reply)))
		status = RT_PROTOCOL;
	if (status == RT_OK && !nothing && next_turn(partition) != ARCHIVE_READ_NONE) {
		read_on(partition);
		return;
	}
	if (status == RT_OK) {
		if (batch->before_back[0] != '\0')
			look_for_left(partition);
		else
			write_batch(partition);
		return;
	}
	RT_LOG(RT_DEBUG, "the streams could not be read", RT_I("partition", partition->number),
	       RT_S("status", rt_status_name(status)));
	again(partition);
}

static bool is_read(enum archive_turns turn, size_t context)
{
	static const enum archive_turns of[ARCHIVE_STREAMS] = {
		[ARCHIVE_ORDER] = ARCHIVE_READ_ORDERS, [ARCHIVE_INVENTORY] = ARCHIVE_READ_INVENTORY
	};

	return turn == ARCHIVE_READ_NONE || (turn & of[context]) != 0;
}

/* What is there already is written soon: then it waits for nothing more. */
static void read_on(struct archive_partition *partition)
{
	const struct batch *batch = &partition->batch;
	const enum archive_turns turn = next_turn(partition);
	struct rt_args args = { .count = 0 };

	RT_FAILPOINT("archive.read");
	partition->asked = archive_turn_entries(&partition->streams[ARCHIVE_ORDER].turn,
						&partition->streams[ARCHIVE_INVENTORY].turn, turn,
						batch->stored.event_count);
	rt_args_str(&args, "XREAD");
	rt_args_str(&args, "COUNT");
	rt_args_int(&args, (int64_t)partition->asked);
	if (turn == ARCHIVE_READ_NONE) { /* nothing is there that is known of */
		rt_args_str(&args, "BLOCK");
		rt_args_int(&args, BLOCK_MS);
	}
	rt_args_str(&args, "STREAMS");
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++)
		if (is_read(turn, i))
			rt_args_str(&args, partition->streams[i].position.stream);
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++)
		if (is_read(turn, i)) {
			rt_args_str(&args, batch->positions[i].id);
			partition->streams[i].turn.more = false;
		}
	rt_redis_send(partition->reader, &partition->read_op, &args, 2 * BLOCK_MS, entries_read);
	rt_args_done(&args);
}

static void read_more(struct archive_partition *partition)
{
	partition->state = READING;
	clear_batch(partition);
	read_on(partition);
}

static void reader_up(struct rt_redis_waiter *waiter)
{
	ask_positions(RT_CONTAINER_OF(waiter, struct archive_partition, waiter));
}

static void connect_reader(struct archive_partition *partition)
{
	partition->state = CONNECTING;
	if (rt_redis_up(partition->reader))
		ask_positions(partition);
	else
		rt_redis_await(partition->reader, &partition->waiter, reader_up);
}

/* ---- life ---- */

static void make_series(struct stream *stream, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "stream", NULL };
	const char *const value[] = { stream->position.stream };

	if (metrics == NULL)
		return;
	stream->done =
		rt_metric_series(rt_metric(metrics, RT_COUNTER, "tandem_archive_events_total",
					   "Events that were archived.", labels),
				 value);
	stream->lag = rt_metric_series(rt_metric(metrics, RT_GAUGE, "tandem_archive_lag_events",
						 "Events that are not archived yet.", labels),
				       value);
	stream->lost = rt_metric_series(
		rt_metric(metrics, RT_COUNTER, "tandem_archive_lost_events_total",
			  "Events that were gone from their stream before they were archived.",
			  labels),
		value);
}

/* Unique for the process; behind the '@' the version of the functions, as other consumers have it. */
static void make_consumer(struct archive_partition *partition)
{
	char host[40] = "host";
	uint32_t random;

	gethostname(host, sizeof(host) - 1);
	rt_loop_random_bytes(partition->archive->loop, &random, sizeof(random));
	snprintf(partition->consumer, sizeof(partition->consumer), "%s-%ld-%08" PRIx32 "@%s", host,
		 (long)getpid(), random, archive_functions.version);
}

static int make_reader(struct archive_partition *partition)
{
	struct rt_redis_options options = *partition->archive->context->redis;
	char *name = rt_printf("%s-reader", options.name != NULL ? options.name : "archive");
	int rc;

	options.name = name;
	options.on_state = NULL; /* its answers show it */
	options.partition = partition->number;
	options.blocks = true;
	rc = rt_redis_new(partition->archive->loop, &options, &partition->reader);
	free(name);
	return rc;
}

int archive_partition_new(struct archive *archive, int number, struct archive_partition **ret)
{
	static const char *const of[ARCHIVE_STREAMS] = {
		[ARCHIVE_ORDER] = "order", [ARCHIVE_INVENTORY] = "inventory"
	};
	struct archive_partition *partition = rt_alloc(sizeof(*partition));
	int rc;

	partition->archive = archive;
	partition->number = number;
	partition->commands = rt_store_redis(archive->context->partitions[number].store);
	partition->own_stream = rt_printf("archive:{%d}:events", number);
	partition->again_ms = AGAIN_MIN_MS;
	rt_list_init(&partition->waiter.link);
	make_consumer(partition);
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		struct stream *stream = &partition->streams[i];

		stream->partition = partition;
		stream->context = (enum archive_context)i;
		snprintf(stream->position.stream, sizeof(stream->position.stream), "%s:{%d}:events",
			 of[i], number);
		snprintf(stream->position.id, sizeof(stream->position.id), "0-0");
		make_series(stream, archive->context->metrics);
	}
	rc = make_reader(partition);
	if (rc != RT_OK) {
		archive_partition_free(partition);
		return rc;
	}
	*ret = partition;
	return RT_OK;
}

static void on_stopped(struct rt_timer *timer)
{
	end(RT_CONTAINER_OF(timer, struct archive_partition, timer));
}

void archive_partition_start(struct archive_partition *partition)
{
	rt_timer_start(partition->archive->loop, &partition->confirm_timer, CONFIRM_MS,
		       on_confirm_time);
	connect_reader(partition);
}

void archive_partition_stop(struct archive_partition *partition, void (*stopped)(void *user),
			    void *user)
{
	struct rt_loop *loop = partition->archive->loop;

	rt_timer_stop(loop, &partition->confirm_timer);
	partition->stopped = stopped;
	partition->stopped_user = user;
	switch (partition->state) {
	case READING:
		rt_redis_reset(partition->reader); /* entries_read, with RT_CANCELED */
		break;
	case ASKING:
	case WRITING:
		break; /* the job ends it */
	default:
		rt_redis_forget(&partition->waiter);
		partition->state = IDLE;
		rt_timer_start(loop, &partition->timer, 0, on_stopped);
	}
}

void archive_partition_free(struct archive_partition *partition)
{
	if (partition == NULL)
		return;
	rt_timer_stop(partition->archive->loop, &partition->timer);
	rt_timer_stop(partition->archive->loop, &partition->confirm_timer);
	rt_redis_forget(&partition->waiter);
	rt_redis_free(partition->reader);
	rt_arena_done(&partition->batch.arena);
	free(partition->batch.events);
	free(partition->batch.gaps);
	free(partition->batch.unreadable);
	free(partition->own_stream);
	free(partition);
}
