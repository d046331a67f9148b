/* entry.h - reads the events of an entry of a stream.
 *
 * The format is that of tandem/events/v1/events.proto: the fields of an entry name its events by type, and
 * an EventBatch holds their content; or the entry is a single event with a field for each part.
 * Nothing is copied: an event points into the entry. */
#ifndef RT_ENTRY_H
#define RT_ENTRY_H

#include "base/base.h"

struct redisReply;

#define RT_ENTRY_EVENTS_MAX 4096 /* in one entry; ours carry a few hundred */

/* Bytes with a length. In fields a NUL follows them, as hiredis does it. */
struct rt_slice {
	const char *data;
	size_t length;
};

/* An entry as it was read: name, value, name, value, … */
struct rt_fields {
	const struct rt_slice *list;
	size_t count; /* names plus values */
};

/* An event of an entry. Absent parts are empty; an absent attempt is 1. */
struct rt_entry_event {
	struct rt_slice type, subject, time, traceparent, tracestate, actor, data;
	uint64_t seq;
	uint32_t attempt;
};

/* Reads all events into *ret (freed by the caller; NULL on error). Returns NULL, or what is wrong with the
 * entry: no event, a bad type, subject or seq, or lists of an EventBatch with another length. */
const char *rt_entry_read(const struct rt_fields *fields, struct rt_entry_event **ret,
			  size_t *ret_count);
/* Views the fields in an answer of Redis; `texts` has room for one each. Returns NULL, or what is
 * wrong: it is not a list, or not of texts. */
const char *rt_entry_fields(const struct redisReply *reply, struct rt_slice *texts,
			    struct rt_fields *ret);
/* rt_entry_read for fields in an answer of Redis, into which the events point. */
const char *rt_entry_read_reply(const struct redisReply *fields, struct rt_entry_event **ret,
				size_t *ret_count);
/* The value of the first field with this name; .data is NULL if there is none. */
struct rt_slice rt_entry_field(const struct rt_fields *fields, const char *name);

#endif
