/* events.h - consume a stream of events, at least once, with nothing left behind.
 *
 * Delivery: a handler may see an event twice, and events of different subjects in any order. It
 * finishes each event exactly once, now or later, with one of:
 *   rt_event_done    its effect and its acknowledgement are stored (they were one atomic step)
 *   rt_event_ignore  there is nothing to do; the consumer acknowledges it
 *   rt_event_retry   not now: stays pending and comes again after a back-off; after
 *                    deliveries_max it goes to the dead letters. A status that tells of the
 *                    surroundings and not of the event (RT_LOST, RT_TIMEOUT, RT_BUSY, RT_FULL,
 *                    RT_DENIED, RT_UNREADY, RT_CANCELED, RT_NOGROUP, RT_NOMEM, RT_SYSTEM) does
 *                    not count: no outage buries an event
 *   rt_event_poison  never: goes to the dead letters at once
 * From an event's first retry until it is finished, later events of the same subject wait behind
 * it; others flow on. An entry that arrives delivered more than deliveries_max times is buried
 * unseen: that is how often consumers died with it in their hands, or failed for its own fault.
 * Reading own entries again after a lost connection, and claims of what an outage held up, do
 * not count. After the event was buried, those parked behind it are handled: the handlers commute,
 * and an order must not hang because one of its events was bad.
 *
 * In the order things happen:
 *   ensure group → own pending entries → read (blocking, bounded) → handler → finished
 *   every claim_every_ms: claim what dead consumers left, renew what slow handlers hold
 *   every maintain_every_ms: cursor, idle consumers, lag
 * A lost connection, a vanished group or stream: back-off, ensure, own pending entries, read.
 *
 * An entry that cannot be an event (no type, no subject, either longer than 256 bytes or holding
 * a NUL, a bad seq) is poison. Envelope, with the names of CloudEvents: `id`, `type`, `subject`, `seq`,
 * `time`, `attempt`, `traceparent`, `data`.
 * Threads: loop thread only. */
#ifndef RT_EVENTS_H
#define RT_EVENTS_H

#include "base/base.h"
#include "redis/redis.h"

struct rt_events; /* opaque: a subscription */

/* Where the entries come from: one stream, one consumer group, one consumer name. */
struct rt_stream_source; /* opaque */
struct rt_stream_redis_options {
	const struct rt_redis_options *reader; /* for the source's own blocking connection */
	struct rt_redis *commands;             /* borrowed; everything but the blocking read */
	const char *stream;                    /* "order:{0}:events" */
	const char *group;                     /* "inventory" */
	const char *consumer;                  /* unique for the process */
	/* Of the context that reads: they move what is dead and keep its place (runtime/events/events.lua). */
	const struct rt_functions *functions;
	int partition; /* of the keys {p} */
};
int rt_stream_redis_new(struct rt_loop *loop, const struct rt_stream_redis_options *options,
			struct rt_stream_source **ret);

/* A delivered event. Valid from the handler's call until it is finished. */
struct rt_event {
	const char *stream_id; /* transport detail: for acknowledging and for people only */
	const char *id;        /* "<subject>/<seq>": what to recognise a repeat by */
	const char *type;      /* "tandem.order.v1.OrderPlaced" */
	const char *subject;
	uint64_t seq;
	const char *time;        /* RFC 3339; "" when absent */
	uint32_t attempt;        /* 1 unless the producer asked again */
	const char *traceparent; /* "" when absent */
	const uint8_t *data;
	size_t data_length;
	uint32_t deliveries;
	void *user; /* the handler's own, NULL at first */
};
typedef void rt_events_handler(struct rt_event *event, void *user);

struct rt_events_options {
	const char *name; /* for metrics and logs: "order:{0}:events" */
	rt_events_handler *on_event;
	/* Called after the last event of a read was handed over: the place to send what the
	 * handlers gathered. May be NULL. */
	void (*on_batch_end)(void *user);
	void *user_data;
	int read_count_max; /* entries per read, 256 */
	int in_flight_max;  /* handed over and not finished; reading stops here, 1024 */
	int parked_max;     /* waiting for a retry or behind one; reading stops here, 4096 */
	int deliveries_max; /* then to the dead letters, 8 */
	int64_t block_ms;   /* a read waits so long, 5000 */
	int64_t retry_min_ms, retry_max_ms; /* back-off of a retry: doubles, ±25 %; 100, 10000 */
	int64_t claim_idle_ms;              /* entries of others idle for so long are dead, 15000 */
	int64_t claim_every_ms;             /* 5000 */
	int64_t maintain_every_ms;          /* 1000 */
	int64_t consumer_idle_ms;   /* consumers idle for so long and holding nothing go, 3600000 */
	struct rt_metrics *metrics; /* NULL: none */
};
#define RT_EVENTS_DEFAULTS                                                                         \
	.read_count_max = 256, .in_flight_max = 1024, .parked_max = 4096, .deliveries_max = 8,     \
	.block_ms = 5000, .retry_min_ms = 100, .retry_max_ms = 10000, .claim_idle_ms = 15000,      \
	.claim_every_ms = 5000, .maintain_every_ms = 1000, .consumer_idle_ms = 3600000

/* What the group looks like, for metrics and for the trimming of the stream. */
struct rt_stream_info {
	int64_t pending;           /* delivered and not acknowledged, whole group */
	int64_t lag;               /* written and not delivered, by our own sequence numbers */
	int64_t oldest_pending_ms; /* age of the oldest entry not acknowledged; 0: none */
};

/* Owns `source` from now on. Strings are copied. Does nothing until started. */
int rt_events_new(struct rt_loop *loop, struct rt_stream_source *source,
		  const struct rt_events_options *options, struct rt_events **ret);
void rt_events_start(struct rt_events *events);
/* No new events; `stopped` runs when every event that was handed over is finished and every
 * operation has ended (soon, when nothing is under way, and never before this returns). What is
 * parked, and what is retried from now on, stays pending. Once only. */
void rt_events_stop(struct rt_events *events, void (*stopped)(void *user), void *user);
/* Only before the start or after stopped. Takes NULL. */
void rt_events_free(struct rt_events *events);
/* The group is there and reading works: for readiness. */
bool rt_events_ready(const struct rt_events *events);
/* As of the last tending. */
struct rt_stream_info rt_events_info(const struct rt_events *events);

void rt_event_done(struct rt_event *event);
void rt_event_ignore(struct rt_event *event);
void rt_event_retry(struct rt_event *event, int status);
void rt_event_poison(struct rt_event *event, const char *reason);

/* Trims a context's own stream (trim.c) to what some group has not acknowledged, what is younger than
 * retain_ms, or among the newest retain_count (whichever keeps less of the acknowledged). */
struct rt_trim_op {
	struct rt_batch_item item; /* first; the queue's */
	/* In. */
	int64_t now_ms, retain_ms, retain_count, stale_ms;
	/* Out; as they were when it failed. */
	int64_t trimmed, length;
	char holder[64];    /* the group that keeps the most entries from being trimmed; "": none */
	int64_t held;       /* so many */
	bool memory_full;   /* Redis is at its maxmemory */
	size_t stale_count; /* groups without a consumer seen within stale_ms */
	char stale_group[64]; /* one of them */
	void (*done)(struct rt_trim_op *op, int status);
};
extern const struct rt_store_step rt_trim_step;

#endif
