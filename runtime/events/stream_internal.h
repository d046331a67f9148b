/* stream_internal.h - the seam between the consumer (events.h) and what keeps the streams: Redis
 * (stream_redis.c), or memory in the simulation.
 *
 * A stream source is one subscription: one stream, one consumer group, one consumer name. Its
 * operations are asynchronous, one of each kind under way at a time; `done` runs exactly once. */
#ifndef RT_STREAM_INTERNAL_H
#define RT_STREAM_INTERNAL_H

#include "events.h"

/* An entry as it was delivered. */
struct rt_entry {
	char *stream_id;    /* "1764000000123-4711" */
	char **fields;      /* name, value, name, value, …; each NUL-terminated after its bytes */
	size_t *lengths;    /* of each */
	size_t field_count; /* names plus values; 0 in a re-read: deleted from the stream */
	uint32_t deliveries; /* 1 for a new one; as the group counts, for pending ones; 0 unknown */
};

struct rt_stream_source;

struct rt_stream_op {
	struct rt_stream_source *source;
	/* In. */
	int count_max;   /* entries wanted at most */
	int64_t idle_ms; /* claim: only entries idle for at least so long */
	const char *const
		*ids; /* ack, renew, bury: the entries, by stream id; borrowed until done */
	size_t id_count;
	const char *cursor;  /* pending: ids after it, "0" first; claim: the cursor, "0-0" first */
	const char *reason;  /* bury: why, for people */
	uint32_t deliveries; /* recount: what the group shall count from now on */
	/* Out; valid in done, owned by the source. */
	struct rt_entry *entries;
	size_t entry_count;
	char next_cursor[48]; /* claim: where to go on; "0-0": at the end */
	size_t lost_count;    /* claim: pending entries that are no longer in the stream */
	void (*done)(struct rt_stream_op *op, int status);
};

struct rt_stream_ops {
	/* Waits up to block_ms for new entries (">"). RT_NOGROUP when group or stream is gone. */
	void (*read)(struct rt_stream_source *source, struct rt_stream_op *op, int64_t block_ms);
	/* This consumer's own pending entries after op->cursor; that counts no delivery. */
	void (*pending)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* Takes over entries that others left idle, which counts a delivery. */
	void (*claim)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* Restarts the idle clock of own entries, without counting a delivery. */
	void (*renew)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* The same, and the group counts op->deliveries of them from now on. */
	void (*recount)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* Acknowledges entries without an effect. */
	void (*ack)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* Moves entries to <context>:{p}:dead with op->reason, and acknowledges them: one step. */
	void (*bury)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* Makes the group: at the stored cursor, at 0 without one; with the stream, if it is gone.
	 * A group that is there is success. */
	void (*ensure)(struct rt_stream_source *source, struct rt_stream_op *op);
	/* Housekeeping: stores the group's low-water mark as the cursor, removes consumers that are
	 * idle for longer than op->idle_ms and hold nothing, and fills *info. */
	void (*maintain)(struct rt_stream_source *source, struct rt_stream_op *op,
			 struct rt_stream_info *info);
	/* Abandons a read that waits: its done runs soon, with RT_CANCELED or what it got. */
	void (*interrupt)(struct rt_stream_source *source);
	void (*free)(struct rt_stream_source *source);
};

struct rt_stream_source {
	const struct rt_stream_ops *ops;
	struct rt_loop *loop;
};

#endif
