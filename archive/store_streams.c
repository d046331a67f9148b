/* store_streams.c - how far the streams were read, and what is missing of them. */
#include <stdio.h>
#include <string.h>

#include "store_internal.h"
#include "store_sql.h"

/* A list that grows in an arena. */
struct reading {
	struct rt_arena *arena;
	struct archive_streams *streams;
	struct archive_stream *stream; /* whose gaps and entries are read */
	size_t capacity, count_max;
};

static const char *copy(struct rt_arena *arena, const struct db_value *value)
{
	return rt_arena_copy(arena, value->data, value->length);
}

static void copy_id(char to[ARCHIVE_STREAM_ID], const struct db_value *value)
{
	snprintf(to, ARCHIVE_STREAM_ID, "%.*s", (int)value->length, value->data);
}

static void read_stream(const struct db_value *columns, void *user)
{
	struct reading *reading = user;
	struct archive_streams *streams = reading->streams;
	struct archive_position *position;

	if (streams->count == reading->capacity) {
		struct archive_stream *list =
			rt_arena_take(reading->arena, 2 * (reading->capacity + 8) * sizeof(*list));

		if (streams->count > 0)
			memcpy(list, streams->list, streams->count * sizeof(*list));
		streams->list = list;
		reading->capacity = 2 * (reading->capacity + 8);
	}
	position = &streams->list[streams->count].position;
	streams->list[streams->count++] = (struct archive_stream){ .gap_count = 0 };
	snprintf(position->stream, sizeof(position->stream), "%.*s", (int)columns[0].length,
		 columns[0].data);
	copy_id(position->id, &columns[1]);
	position->events = columns[2].number;
}

static void read_gap(const struct db_value *columns, void *user)
{
	struct reading *reading = user;
	struct archive_stream *stream = reading->stream;
	struct archive_gap *gap = &stream->gaps[stream->gap_count];

	if (stream->gap_count == reading->count_max)
		return;
	stream->gap_count++;
	*gap = (struct archive_gap){ .stream = stream->position.stream,
				     .events = columns[2].number,
				     .found_ms = columns[3].number,
				     .reason = copy(reading->arena, &columns[4]) };
	copy_id(gap->after, &columns[0]);
	copy_id(gap->before, &columns[1]);
}

static void read_unreadable(const struct db_value *columns, void *user)
{
	struct reading *reading = user;
	struct archive_stream *stream = reading->stream;

	if (stream->unreadable_count == reading->count_max)
		return;
	stream->unreadable[stream->unreadable_count++] =
		(struct archive_unreadable){ .stream = stream->position.stream,
					     .id = copy(reading->arena, &columns[0]),
					     .reason = copy(reading->arena, &columns[1]) };
}

static int read_missing(struct db *db, struct reading *reading, struct archive_stream *stream)
{
	const struct db_value values[] = { db_text(stream->position.stream),
					   db_number((int64_t)reading->count_max) };
	int rc;

	reading->stream = stream;
	stream->gaps =
		rt_arena_take(reading->arena, (reading->count_max + 1) * sizeof(*stream->gaps));
	stream->unreadable = rt_arena_take(reading->arena,
					   (reading->count_max + 1) * sizeof(*stream->unreadable));
	rc = db->ops->queue(db, &sql_gaps, values, 2, read_gap, reading);
	if (rc == RT_OK)
		rc = db->ops->queue(db, &sql_unreadable, values, 2, read_unreadable, reading);
	return rc == RT_OK ? db->ops->flush(db) : rc;
}

int archive_store_streams(struct archive_store *store, size_t count_max, struct rt_arena *arena,
			  struct archive_streams *ret)
{
	struct reading reading = { .arena = arena, .streams = ret, .count_max = count_max };
	struct db *db = archive_store_db(store);
	int rc;

	*ret = (struct archive_streams){ .count = 0 };
	rc = db->ops->queue(db, &sql_streams, NULL, 0, read_stream, &reading);
	if (rc == RT_OK)
		rc = db->ops->flush(db);
	for (size_t i = 0; rc == RT_OK && i < ret->count; i++)
		rc = read_missing(db, &reading, &ret->list[i]);
	return rc;
}
