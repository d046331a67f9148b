/* reader_internal.h - what the files of the reader share: reader.c (its course), reader_batch.c (entries become a batch) and
 * reader_confirm.c (Redis is told how far is stored). */
#ifndef ARCHIVE_READER_INTERNAL_H
#define ARCHIVE_READER_INTERNAL_H

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>

#include "archive_internal.h"
#include "turns.h"

enum archive_reader_state { IDLE, CONNECTING, ASKING, READING, WRITING, RESTING, STOPPED };

struct archive_reader_stream {
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
struct archive_reader_batch {
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
	enum archive_reader_state state;
	size_t asked; /* entries of each stream, at most */
	struct archive_reader_stream streams[ARCHIVE_STREAMS];
	struct archive_reader_batch batch;
	struct rt_timer timer, confirm_timer;
	int64_t again_ms;
	bool began; /* the positions are known */
	char problem[ARCHIVE_ERROR + 40];
	bool logged; /* the problem */
	void (*stopped)(void *user);
	void *stopped_user;
};

/* A stream's id, as its numbers. */
static inline bool archive_reader_id(const char *id, uint64_t *ret_ms, uint64_t *ret_n)
{
	int at = 0;

	return sscanf(id, "%" SCNu64 "-%" SCNu64 "%n", ret_ms, ret_n, &at) == 2 && id[at] == '\0';
}

/* ---- reader_batch.c ---- */

#define ARCHIVE_READER_WENT_BACK "the stream's numbers begin anew: Redis has lost what it had"

/* Adds what XREAD has answered; false: it cannot be read. */
bool archive_reader_fill(struct archive_partition *partition, const redisReply *reply);
/* It begins where the streams are stored to. */
void archive_reader_clear(struct archive_partition *partition);
void archive_reader_add_gap(struct archive_reader_stream *stream,
			    struct archive_reader_batch *batch, const char *before, int64_t events,
			    const char *reason);

/* ---- reader_confirm.c ---- */

/* The rest is at its end. If it is to stop, it has when no confirmation is under way any more. */
void archive_reader_end(struct archive_partition *partition);

/* Tells Redis how far is stored, of both streams or of one, unless that is under way. */
void archive_reader_confirm(struct archive_partition *partition);
void archive_reader_confirm_stream(struct archive_reader_stream *stream);

#endif
