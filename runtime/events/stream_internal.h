/* stream_internal.h - a subscription in Redis, for the consumer (events.h): one stream, one consumer group, one
 * consumer name, and the stream aside:… of events that were set aside.
 *
 * Operations are asynchronous, one of each kind at a time; `done` runs exactly once, never before the call
 * has returned. */
#ifndef RT_STREAM_INTERNAL_H
#define RT_STREAM_INTERNAL_H

#include "entry.h"
#include "events.h"

/* An entry as it was delivered. */
struct rt_entry {
	const char *stream_id;   /* "1764000000123-4711" */
	struct rt_fields fields; /* none: it is pending, but deleted from the stream */
	uint32_t deliveries; /* 1 for a new one; the group's count for pending ones; 0 unknown */
};

/* An event that rt_stream_set_aside sets aside. */
struct rt_aside {
	const struct rt_event *event;
	uint32_t deliveries;
	const char *reason; /* to the dead letters; NULL: to aside:… */
	char stream_id[48]; /* out: of its entry in aside:…; "": none */
};

struct rt_stream_op {
	/* In. */
	bool aside;      /* use aside:…; not for read, ensure, maintain, set_aside */
	int count_max;   /* of entries */
	int64_t idle_ms; /* claim: only entries idle for at least so long */
	const char *const
		*ids; /* ack, renew, recount, dead_letter: the entries; borrowed until done */
	size_t id_count;
	const char *cursor;  /* pending: ids after it, "0" first; claim: the cursor, "0-0" first */
	const char *reason;  /* dead_letter: a text */
	uint32_t deliveries; /* recount: the group's new count */
	/* set_aside: of the entry ids[0]. In and out; borrowed until done. */
	struct rt_aside *asides;
	size_t aside_count;
	/* Out; valid in done. */
	struct rt_entry *entries;
	size_t entry_count;
	char next_cursor[48]; /* claim: where to continue; "0-0": at the end */
	size_t lost_count;    /* claim: pending entries that are no longer in the stream */
	bool taken;           /* set_aside: the entry was no longer ours, nothing was done */
	void (*done)(struct rt_stream_op *op, int status);
};

struct rt_stream {
	struct rt_loop *loop;
};

/* Whether both of its connections to Redis are up; if not, all operations fail with RT_LOST. */
bool rt_stream_connected(const struct rt_stream *stream);
/* rt_redis_epoch of the connection for commands. */
uint64_t rt_stream_epoch(const struct rt_stream *stream);
/* Calls `connected` once both are up, unless the stream is freed before. Only while they are not. */
void rt_stream_await(struct rt_stream *stream, void (*connected)(void *user), void *user);
/* Waits up to block_ms for new entries. RT_NOGROUP when group or stream is gone. */
void rt_stream_read(struct rt_stream *stream, struct rt_stream_op *op, int64_t block_ms);
/* Reads this consumer's own pending entries after op->cursor, without counting a delivery. */
void rt_stream_pending(struct rt_stream *stream, struct rt_stream_op *op);
/* Takes over idle entries of other consumers; counts a delivery. */
void rt_stream_claim(struct rt_stream *stream, struct rt_stream_op *op);
/* Restarts the idle clock of own entries, without counting a delivery. */
void rt_stream_renew(struct rt_stream *stream, struct rt_stream_op *op);
/* The same, and sets the group's count of their deliveries to op->deliveries. */
void rt_stream_recount(struct rt_stream *stream, struct rt_stream_op *op);
/* Acknowledges entries that had no effect; ids in aside:… have a leading '+'. */
void rt_stream_ack(struct rt_stream *stream, struct rt_stream_op *op);
/* Acknowledges an entry and sets some of its events aside: one step. */
void rt_stream_set_aside(struct rt_stream *stream, struct rt_stream_op *op);
/* Moves whole entries to the dead letters with op->reason, and acknowledges them: one step. */
void rt_stream_dead_letter(struct rt_stream *stream, struct rt_stream_op *op);
/* Creates the group at the stored cursor, at 0 without one; also the stream, if it is gone; and the consumer.
 * RT_OK if the group exists. */
void rt_stream_ensure(struct rt_stream *stream, struct rt_stream_op *op);
/* Stores the group's low-water mark as the cursor, removes consumers that are idle for longer than
 * op->idle_ms and have nothing pending, and fills *info. */
void rt_stream_maintain(struct rt_stream *stream, struct rt_stream_op *op,
			struct rt_stream_info *info);
/* Ends a read that waits: its done runs soon, with RT_CANCELED or entries. */
void rt_stream_interrupt(struct rt_stream *stream);
void rt_stream_free(struct rt_stream *stream);

#endif
