/* events.h - consumes a stream of events at least once and loses none.
 *
 * An entry of a stream carries the events of one atomic step (tandem/events/v1/events.proto). A handler gets
 * events one by one; it may see one twice, and events of different subjects in any order. It
 * finishes each event exactly once, now or later, with one of:
 *   rt_event_done    its effect is stored
 *   rt_event_ignore  there is nothing to do
 *   rt_event_retry   not now: it comes again after a back-off; after deliveries_max it moves to the dead
 *                    letters. A status that is not the event's fault (RT_LOST, RT_TIMEOUT, RT_BUSY,
 *                    RT_FULL, RT_DENIED, RT_UNREADY, RT_UNCONFIRMED, RT_CANCELED, RT_NOGROUP, RT_NOMEM, RT_SYSTEM)
 *                    does not count: an outage makes no dead letters, and its back-off ends at 1 s
 *   rt_event_poison  never: it moves to the dead letters at once
 *
 * An entry is acknowledged when all its events are finished: by the command that stores the effects
 * of the last ones (rt_event_ack), or by a command of its own. An event that fails, is poison or must wait
 * leaves its entry alone, in the step that acknowledges the entry: to the dead letters, or to the
 * context's stream aside:…, where it has its own entry, pending for the same group; everything
 * below applies to that as well. So it does not delay the rest of its entry. In an outage the whole entry
 * waits and comes again, except for events that are done.
 *
 * From an event's first retry until it is finished, later events of the same subject wait behind
 * it; others are handled. An entry that arrives delivered more than deliveries_max times moves to the dead
 * letters without being handled: so often consumers died while they held it, or failed because of it. From half
 * of that on, the events of an entry are set aside one by one, so that only the one at fault continues.
 * Reading own entries again after a lost connection, and claims of entries that an outage delayed, do
 * not count. Once the event is a dead letter, those parked behind it are handled: the handlers commute,
 * and an order must not get stuck because of one bad event.
 *
 * In the order things happen:
 *   both connections to Redis are up → ensure group → own pending entries → read (blocking, bounded) → handler → finished
 *   every claim_every_ms: claim entries of dead consumers, renew those of slow handlers
 *   every maintain_every_ms: cursor, idle consumers, lag
 * After a lost connection, group or stream: back-off, connected again, ensure, own pending entries, read. The master may be
 * another one by then, which lacks entries: an event that is not with its handler is handed over only if it is delivered
 * again.
 *
 * An entry that does not parse (entry.h), or is not an event, is poison.
 * Threads: loop thread only. */
#ifndef RT_EVENTS_H
#define RT_EVENTS_H

#include "base/base.h"
#include "redis/redis.h"

struct rt_events; /* opaque: a subscription */

/* A connection over which streams are read that lie in one Redis, for one consumer of one group (reads.c). With these
 * options it goes to the Redis of `partition`. Strings are copied. */
struct rt_reads; /* opaque */
int rt_reads_new(struct rt_loop *loop, const struct rt_redis_options *options, int partition,
		 const char *group, const char *consumer, struct rt_reads **ret);
/* By who made it, once the streams are made: it ends with the last of them. Takes NULL. */
void rt_reads_release(struct rt_reads *reads);

/* Where the entries come from: one stream, one consumer group, one consumer name. */
struct rt_stream; /* opaque */
struct rt_stream_options {
	struct rt_reads *reads;    /* of the same group and consumer */
	struct rt_redis *commands; /* borrowed; everything but the blocking read */
	const char *stream;        /* "order:{0}:events" */
	const char *group;         /* "inventory": the context that reads; its keys begin so */
	const char *consumer;      /* unique for the process */
	/* Of the context that reads: for dead letters and the cursor (runtime/events/events.lua). */
	const struct rt_functions *functions;
	int partition; /* of the keys {p} */
};
struct rt_stream *rt_stream_new(struct rt_loop *loop, const struct rt_stream_options *options);

/* A delivered event. Its texts end in a NUL. Valid from the handler's call until it is finished. */
struct rt_event {
	const char *stream_id; /* of its entry: for logs only */
	const char *type;      /* "tandem.order.v1.OrderPlaced" */
	const char *subject;   /* a repeat has the same subject and seq */
	uint64_t seq;
	const char *time;        /* RFC 3339; "" when absent */
	uint32_t attempt;        /* 1 unless the producer repeated the request */
	const char *traceparent; /* "" when absent */
	const char
		*tracestate; /* that came with it; likewise, and when one of the two is not valid */
	const char *actor;   /* who asked for it (events.proto); likewise */
	const uint8_t *data;
	size_t data_length;
	uint32_t deliveries;
	int partition;               /* of its stream */
	void *user;                  /* the handler's own, NULL at first */
	struct rt_span *span;        /* of its handling; NULL: it is not traced */
	const char *own_traceparent; /* of its handling, for what that causes; "": none */
};
typedef void rt_events_handler(struct rt_event *event, void *user);

struct rt_events_options {
	const char *name; /* for metrics and logs: "order:{0}:events" */
	int partition;    /* of the stream: events carry it */
	const char *context,
		*group; /* of the stream, and who reads it, for spans; kept as they are */
	rt_events_handler *on_event;
	/* Called after the last event of a read was handed over: sends what the handlers have
	 * gathered. May be NULL. */
	void (*on_batch_end)(void *user);
	void *user_data;
	int read_count_max; /* events per read, estimated, 256 */
	int in_flight_max; /* handed over and not finished; reading stops here, plus an entry, 1024 */
	int parked_max;    /* waiting for a retry or behind one; reading stops here, 4096 */
	int deliveries_max;                 /* then it moves to the dead letters, 8 */
	int64_t block_ms;                   /* how long a read waits, 5000 */
	int64_t retry_min_ms, retry_max_ms; /* back-off of a retry: doubles, ±25 %; 100, 10000 */
	int64_t claim_idle_ms;      /* entries of others are claimed when idle so long, 1500 */
	int64_t claim_every_ms;     /* 250 */
	int64_t maintain_every_ms;  /* 1000 */
	int64_t consumer_idle_ms;   /* idle consumers with nothing pending are removed, 3600000 */
	struct rt_metrics *metrics; /* NULL: none */
	struct rt_task *changed;    /* deferred when rt_events_ready has changed; or NULL */
};
#define RT_EVENTS_DEFAULTS                                                                         \
	.read_count_max = 256, .in_flight_max = 1024, .parked_max = 4096, .deliveries_max = 8,     \
	.block_ms = 5000, .retry_min_ms = 100, .retry_max_ms = 10000, .claim_idle_ms = 1500,       \
	.claim_every_ms = 250, .maintain_every_ms = 1000, .consumer_idle_ms = 3600000

/* The state of the group, for metrics. */
struct rt_stream_info {
	int64_t pending;           /* entries delivered and not acknowledged, whole group */
	int64_t aside;             /* events set aside */
	int64_t lag;               /* events written and not delivered, by their numbers */
	int64_t oldest_pending_ms; /* age of the oldest entry not acknowledged; 0: none */
};

/* Owns `stream` from now on. Strings are copied. Does nothing until started. */
int rt_events_new(struct rt_loop *loop, struct rt_stream *stream,
		  const struct rt_events_options *options, struct rt_events **ret);
void rt_events_start(struct rt_events *events);
/* No new events; `stopped` runs when every event that was handed over is finished and every
 * operation has ended; never before this returns. Events that are parked, or retried from now on,
 * stay pending. Once only. */
void rt_events_stop(struct rt_events *events, void (*stopped)(void *user), void *user);
/* Only before the start or after stopped. Takes NULL. */
void rt_events_free(struct rt_events *events);
/* What waits because of an outage (rt_event_retry) is handled now: the caller has seen its end. */
void rt_events_outage_over(struct rt_events *events);
/* The group exists and reading works: for readiness. */
bool rt_events_ready(const struct rt_events *events);
/* As of the last maintenance. */
struct rt_stream_info rt_events_info(const struct rt_events *events);

void rt_event_done(struct rt_event *event);
/* For a command that stores the effects of several events and can acknowledge their entries in the same step
 * (acknowledge in events.lua): notes that the command stores this event's effect. Returns the entry to
 * acknowledge, or NULL: some events of it are neither done nor in this command. `command` identifies the
 * command. The id belongs to the event. When the command has ended, its events must be finished before the
 * next one is built. */
const char *rt_event_ack(struct rt_event *event, const void *command);
/* The command acknowledged nothing. Call this when it has ended, before the event is finished or goes into another
 * command. */
void rt_event_not_acked(struct rt_event *event);
/* Whether a command that is sent now goes to the master that delivered the event, over the same connection. Another one
 * may not have the event: then nothing of it must be stored, and it is to be retried with RT_LOST. It comes again if
 * the other one has it. */
bool rt_event_is_current(const struct rt_event *event);
/* Identifies the event's entry: its events should be stored by one command. */
const void *rt_event_entry(const struct rt_event *event);
void rt_event_ignore(struct rt_event *event);
void rt_event_retry(struct rt_event *event, int status);
void rt_event_poison(struct rt_event *event, const char *reason);

/* Trims a context's own stream (trim.c) to what some group has not acknowledged, what is younger than
 * retain_ms, or among the newest retain_count (whichever keeps less of the acknowledged). */
struct rt_trim_op {
	struct rt_batch_item item; /* first; the queue's */
	/* In. */
	int64_t now_ms, retain_ms, retain_count, stale_ms;
	const char *follower; /* a group that holds follower_max events at most; NULL: none */
	int64_t follower_max;
	/* Out; unchanged when it failed. */
	int64_t trimmed;    /* entries */
	int64_t length;     /* events left */
	char holder[64];    /* the group that keeps the most events from being trimmed; "": none */
	int64_t held;       /* how many */
	bool memory_full;   /* Redis is at its maxmemory */
	size_t stale_count; /* groups without a consumer seen within stale_ms */
	char stale_group[64]; /* one of them */
	void (*done)(struct rt_trim_op *op, int status);
};
extern const struct rt_store_step rt_trim_step;

/* How far a group of a context's own stream is behind (behind.c), and how full Redis's memory is. */
struct rt_behind_op {
	struct rt_batch_item item; /* first; the queue's */
	/* In. */
	int64_t now_ms;
	const char *group; /* there may be none: then it is not behind */
	bool with_memory;  /* memory is wanted, too */
	/* Out; unchanged when it failed. */
	int64_t events;          /* not delivered */
	int64_t oldest_ms;       /* the age of the oldest that is not acknowledged */
	int64_t written;         /* events, ever */
	int64_t memory_permille; /* of maxmemory; 0: there is no limit */
	void (*done)(struct rt_behind_op *op, int status);
};
extern const struct rt_store_step rt_behind_step;

#endif
