/* reader_confirm.c - tells Redis how far is stored, and hears where the streams end. */
#include <string.h>

#include "reader_internal.h"

#define CONSUMER_IDLE 3600000

void archive_reader_end(struct archive_partition *partition)
{
	bool confirming = partition->streams[0].confirming || partition->streams[1].confirming;

	if (partition->stopped == NULL || confirming)
		return;
	partition->state = STOPPED;
	RT_TAKE(partition->stopped)(partition->stopped_user);
}

/* Whether the stream has less than is stored of it. */
static void note_end(struct archive_reader_stream *stream, const redisReply *reply)
{
	uint64_t ms, n, end_ms, end_n;

	if (rt_reply_is_string(reply) && reply->len < sizeof(stream->end) &&
	    archive_reader_id(reply->str, &end_ms, &end_n) &&
	    archive_reader_id(stream->confirmed, &ms, &n) &&
	    (end_ms < ms || (end_ms == ms && end_n < n)))
		snprintf(stream->end, sizeof(stream->end), "%s", reply->str);
}

static void confirmed(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct archive_reader_stream *stream =
		RT_CONTAINER_OF(op, struct archive_reader_stream, confirm_op);
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
		archive_reader_end(partition);
}

void archive_reader_confirm_stream(struct archive_reader_stream *stream)
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

void archive_reader_confirm(struct archive_partition *partition)
{
	for (size_t i = 0; partition->began && i < ARCHIVE_STREAMS; i++)
		archive_reader_confirm_stream(&partition->streams[i]);
}
