/* streams.h - Redis Streams in memory, as far as the stores, the sources and the simulation's
 * faults need them. Synchronous; who calls decides when things arrive.
 *
 * Ids compare by ms, then by n, as in Redis; memory_publish numbers them as runtime/events/events.lua
 * does. */
#ifndef SIM_STREAMS_H
#define SIM_STREAMS_H

#include "base/base.h"

struct memory_id {
	int64_t ms;
	uint64_t n;
};
int memory_id_compare(struct memory_id a, struct memory_id b);
bool memory_id_parse(const char *text, struct memory_id *ret);
#define MEMORY_ID_TEXT 48
void memory_id_format(struct memory_id id, char text[MEMORY_ID_TEXT]);

struct memory_entry {
	struct memory_id id;
	char **fields; /* name, value, name, value, …; each NUL-terminated after its bytes */
	size_t *lengths;
	size_t field_count; /* names plus values */
};
/* A field's value, "" when it has none of this name. */
const char *memory_entry_field(const struct memory_entry *entry, const char *name);
void memory_entry_copy(struct memory_entry *to, const struct memory_entry *from);
void memory_entry_done(struct memory_entry *entry);

struct memory_pending {
	struct memory_id id;
	char *consumer;
	int64_t delivered_ms;
	uint32_t deliveries;
};
struct memory_consumer {
	char *name;
	int64_t seen_ms;
};
struct memory_group {
	char *name;
	struct memory_id delivered;
	struct memory_pending *pending; /* by id */
	size_t pending_count;
	struct memory_consumer *consumers;
	size_t consumer_count;
};
struct memory_stream {
	char *name;
	uint64_t life; /* 1, 2, …: no two streams have the same, deleted ones included */
	struct memory_entry *entries; /* by id */
	size_t count;
	struct memory_id last; /* generated */
	struct memory_group *groups;
	size_t group_count;
};

struct memory_streams; /* opaque: all of them, by name */
/* Who is told that something was added to some stream. */
struct memory_waiter {
	struct rt_list link;
	void (*woken)(struct memory_waiter *waiter);
};

struct memory_streams *memory_streams_new(void);
void memory_streams_free(struct memory_streams *streams);
/* NULL: no such stream. */
struct memory_stream *memory_stream_find(struct memory_streams *streams, const char *name);
/* Made when it is not there. */
struct memory_stream *memory_stream_get(struct memory_streams *streams, const char *name);
/* DEL. */
void memory_stream_delete(struct memory_streams *streams, const char *name);
void memory_streams_wait(struct memory_streams *streams, struct memory_waiter *waiter);
void memory_streams_unwait(struct memory_waiter *waiter);
/* Whoever waits looks again: a group or a stream has gone. */
void memory_streams_wake(struct memory_streams *streams);
/* What Redis does in one step: who waits is woken at its end, and sees all of it. */
void memory_streams_step(struct memory_streams *streams);
void memory_streams_step_end(struct memory_streams *streams);

/* XADD with an id above the last one. Fields are copied. */
void memory_stream_add(struct memory_streams *streams, const char *name,
		       const struct memory_entry *entry);
/* An event with the envelope's fields in their one order. */
struct memory_event {
	const char *type, *subject;
	uint64_t seq;
	const void *data;
	size_t data_length;
	uint32_t attempt;        /* 0 or 1: left out */
	const char *traceparent; /* NULL or "": left out */
};
struct memory_id memory_publish(struct memory_streams *streams, const char *name, int64_t now_ms,
				const struct memory_event *event);
/* The index of the first entry above `after`. */
size_t memory_stream_after(const struct memory_stream *stream, struct memory_id after);
/* NULL: not in the stream. */
const struct memory_entry *memory_stream_at(const struct memory_stream *stream,
					    struct memory_id id);
/* XDEL. */
void memory_stream_remove(struct memory_stream *stream, struct memory_id id);
/* XTRIM MINID: entries below `low` go. Returns how many. */
size_t memory_stream_trim(struct memory_stream *stream, struct memory_id low);

/* Groups. NULL: none of this name. */
struct memory_group *memory_group_find(struct memory_stream *stream, const char *name);
/* XGROUP CREATE; one that is there stays as it is. */
struct memory_group *memory_group_make(struct memory_stream *stream, const char *name,
				       struct memory_id delivered);
void memory_group_destroy(struct memory_stream *stream, const char *name);
void memory_group_saw(struct memory_group *group, const char *consumer, int64_t now_ms);
/* NULL: not pending. */
struct memory_pending *memory_group_pending(struct memory_group *group, struct memory_id id);
/* Delivered to the consumer: pending, once more. */
void memory_group_deliver(struct memory_group *group, struct memory_id id, const char *consumer,
			  int64_t now_ms, uint32_t deliveries);
bool memory_group_ack(struct memory_group *group, struct memory_id id);
void memory_group_drop_consumer(struct memory_group *group, const char *consumer);

/* What <context>_trim of runtime/events/events.lua does and answers. */
struct memory_trim {
	int64_t trimmed, length, held;
	char holder[64];
	size_t ghost_count;
	char ghost[64];
};
struct memory_trim memory_trim(struct memory_streams *streams, const char *name, int64_t now_ms,
			       int64_t retain_ms, int64_t retain_count, int64_t ghost_ms);

#endif
