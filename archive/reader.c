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
#include <string.h>
#include <unistd.h>

#include "reader_internal.h"

#define BLOCK_MS     5000
#define CONFIRM_MS   1000
#define AGAIN_MIN_MS 200 /* between tries while the database is away: doubles up to … */
#define AGAIN_MAX_MS 5000

static void connect_reader(struct archive_partition *partition);
static void ask_positions(struct archive_partition *partition);
static void read_more(struct archive_partition *partition);
static void read_on(struct archive_partition *partition);
static void look_for_left(struct archive_partition *partition);

/* ---- the end ---- */

/* True: it is to stop, and what was under way is not any more. */
static bool ends(struct archive_partition *partition)
{
	if (partition->stopped == NULL)
		return false;
	partition->state = IDLE;
	archive_reader_end(partition);
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

/* ---- each second ---- */

static void on_confirm_time(struct rt_timer *timer)
{
	struct archive_partition *partition =
		RT_CONTAINER_OF(timer, struct archive_partition, confirm_timer);

	rt_timer_start(partition->archive->loop, timer, CONFIRM_MS, on_confirm_time);
	archive_reader_confirm(partition);
}

/* ---- where the database stands ---- */

static int run_positions(struct archive_job *job, struct archive_store *store)
{
	struct archive_reader_batch *batch = RT_CONTAINER_OF(job, struct archive_reader_batch, job);
	int rc = RT_OK;

	for (size_t i = 0; rc == RT_OK && i < ARCHIVE_STREAMS; i++)
		rc = archive_store_position(store, &batch->positions[i]);
	return rc;
}

static void positions_known(struct archive_job *job)
{
	struct archive_reader_batch *batch = RT_CONTAINER_OF(job, struct archive_reader_batch, job);
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
		struct archive_reader_stream *stream = &partition->streams[i];

		stream->position = batch->positions[i];
		stream->turn = (struct archive_turn){ .more = false };
		if (!archive_reader_id(stream->position.id, &stream->turn.ms, &stream->n))
			stream->n = 0;
		if (!partition->began)
			RT_LOG(RT_INFO, "archiving", RT_S("stream", stream->position.stream),
			       RT_S("after", stream->position.id),
			       RT_I("events", stream->position.events));
	}
	partition->began = true;
	archive_reader_confirm(partition);
	read_more(partition);
}

static void ask_positions(struct archive_partition *partition)
{
	struct archive_reader_batch *batch = &partition->batch;

	partition->state = ASKING;
	for (size_t i = 0; i < ARCHIVE_STREAMS; i++)
		batch->positions[i] = partition->streams[i].position;
	batch->job.run = run_positions;
	batch->job.done = positions_known;
	archive_worker_add(partition->archive->writer, &batch->job, 0);
}

/* ---- writing ---- */

static int run_write(struct archive_job *job, struct archive_store *store)
{
	struct archive_reader_batch *batch = RT_CONTAINER_OF(job, struct archive_reader_batch, job);

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
	const struct archive_reader_batch *batch = &partition->batch;

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
	struct archive_reader_batch *batch = RT_CONTAINER_OF(job, struct archive_reader_batch, job);
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
		struct archive_reader_stream *stream = &partition->streams[i];

		more = more || stream->turn.more;
		archive_count(stream->done, (double)batch->positions[i].events);
		stream->position.events += batch->positions[i].events;
		if (strcmp(stream->position.id, batch->positions[i].id) == 0)
			continue;
		memcpy(stream->position.id, batch->positions[i].id, sizeof(stream->position.id));
		if (partition->stopped == NULL)
			archive_reader_confirm_stream(stream);
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
	struct archive_reader_batch *batch = &partition->batch;

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
	struct archive_reader_batch *batch = &partition->batch;
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
			(void)archive_reader_id(reply->element[0]->element[0]->str, &ms, &n);
		batch->positions[ARCHIVE_ORDER].lost_from_ms = (int64_t)RT_MAX(ms, 1U);
		write_batch(partition);
	}
}

/* The time from which on something was lost: that of an entry that is left, before the first new one. It may be somewhat
 * earlier than it could be; an archive may not read backwards. */
static void look_for_left(struct archive_partition *partition)
{
	const struct archive_reader_batch *batch = &partition->batch;
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
	struct archive_reader_batch *batch = &partition->batch;
	bool back = false;

	for (size_t i = 0; i < ARCHIVE_STREAMS; i++) {
		struct archive_reader_stream *stream = &partition->streams[i];

		if (stream->end[0] == '\0' || strcmp(stream->confirmed, stream->position.id) != 0)
			continue;
		back = true;
		archive_reader_add_gap(stream, batch, stream->end, 0, ARCHIVE_READER_WENT_BACK);
		memcpy(batch->positions[i].id, stream->end, sizeof(stream->end));
		if (archive_reader_id(stream->end, &stream->turn.ms, &stream->n) &&
		    i == ARCHIVE_ORDER)
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
	const struct archive_reader_batch *batch = &partition->batch;
	bool nothing = status == RT_OK && reply->type == REDIS_REPLY_NIL;

	if (ends(partition))
		return;
	if (nothing && !batch->begun) {
		if (!go_back(partition))
			read_more(partition);
		return;
	}
	if (status == RT_OK && !nothing &&
	    (!rt_reply_is_array(reply, 1) || !archive_reader_fill(partition, reply)))
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
	const struct archive_reader_batch *batch = &partition->batch;
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
	archive_reader_clear(partition);
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

static void make_series(struct archive_reader_stream *stream, struct rt_metrics *metrics)
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
		struct archive_reader_stream *stream = &partition->streams[i];

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
	archive_reader_end(RT_CONTAINER_OF(timer, struct archive_partition, timer));
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
