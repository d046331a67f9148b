/* held_internal.h - the entries that a consumer holds (events.c): delivered and not finished, with their
 * events, and the subjects whose later events have to wait. This only keeps their state; the consumer
 * decides what to do with an entry. */
#ifndef RT_HELD_INTERNAL_H
#define RT_HELD_INTERNAL_H

#include <uthash.h>

#include "entry.h"
#include "events.h"

enum entry_state { READY, HANDED, RETRY, BEHIND, FINISHING, ENTRY_STATES };
enum outcome { OPEN, UNFINISHED, DONE_WITH, IGNORED_IT, FAILED, POISONED, MUST_WAIT };

/* A subject of which at least one event is being retried. */
struct subject {
	char *name;
	size_t blockers;
	struct rt_list behind;
	UT_hash_handle hh;
};

/* The span of an event's handling, and its traceparent. */
struct handling {
	struct rt_span span;
	char traceparent[RT_TRACEPARENT_TEXT];
};

struct event {
	struct rt_event event; /* first */
	struct entry *entry;
	enum outcome outcome;
	int status;              /* FAILED */
	char *reason;            /* POISONED */
	struct subject *blocked; /* blocks this one; NULL: none */
};

struct entry {
	struct held *held;
	enum entry_state state; /* set by entry_set alone */
	bool aside;             /* in aside:… */
	bool whole; /* one event with a field for each part: retried and moved to the dead letters as it is */
	struct rt_list link;   /* ready, behind a subject, or in a queue of the consumer's */
	struct rt_timer retry; /* in RETRY */
	bool outage;           /* ... because of one */
	unsigned int tries;
	uint32_t deliveries;
	uint64_t life;      /* events->life when it was delivered, the last time */
	int64_t touched_ms; /* delivered or renewed: the idle clock of the group */
	bool again;   /* delivered once more while it was held: needs a separate acknowledgement */
	bool claimed; /* its claim is counted, and it was not handled since */
	bool recount; /* the group has another number of deliveries */
	bool acked;   /* a command acknowledges it, or has */
	bool anew;    /* once it is decided, all its events are handled again */
	char *reason; /* why the whole entry becomes a dead letter */
	size_t unfinished; /* events that are handed over */
	size_t done;       /* events that are done or ignored */
	size_t in_command; /* events whose effect `command` stores */
	const void *command;
	struct handling *handlings; /* of its events; NULL: they are not traced */
	const char *ack_id;         /* stream id, with a leading '+' in aside:… */
	UT_hash_handle hh;          /* by ack_id */
	char *bytes;                /* ack_id, and the texts of the events */
	size_t count;
	struct event events[];
};

struct held {
	struct rt_loop *loop;
	struct entry *entries; /* all, by ack_id */
	struct subject *subjects;
	struct rt_list ready;
	size_t counts[ENTRY_STATES]; /* events of the entries in each state */
	bool recount_wanted;         /* some entry has recount set */
	int partition;               /* of the events */
};
void held_init(struct held *held, struct rt_loop *loop, int partition);

/* Makes an entry that is held, READY and in no list. Copies its events. */
struct entry *entry_new(struct held *held, const char *stream_id, bool aside, uint32_t deliveries,
			const struct rt_entry_event *list, size_t count);
/* NULL: not held. */
struct entry *entry_find(const struct held *held, const char *stream_id, bool aside);
/* Frees an entry that is finished, or stays pending for another consumer. */
void entry_remove(struct entry *entry);
void entries_remove(struct rt_list *entries);
const char *stream_id_of(const struct entry *entry);
/* What an entry counts for in the bounds: its events, at least 1, also if it has none or was deleted. */
size_t weight_of(const struct entry *entry);

void entry_set(struct entry *entry, enum entry_state state);
/* Makes it READY and appends it to that list. */
void entry_ready(struct entry *entry);
/* Sets its number of deliveries; the group gets it with the next recount. */
void entry_count(struct entry *entry, uint32_t deliveries);
/* None of its events is done, or has another outcome. */
void entry_reopen(struct entry *entry);
/* Takes back the delivery that its claim counted: the entry was not at fault. */
void entry_uncount_claim(struct entry *entry);

/* From its first retry on an event blocks its subject. */
void event_block(struct event *event);
/* The event's retries are over: those behind it are ready, in order. */
void event_unblock(struct event *event);
/* The blocker of this event's subject; NULL: none, or the event itself. */
struct subject *blocker_of(const struct event *event);

#endif
