/* events_internal.h - a consumer, for its two halves: events.c (what happens to delivered entries) and subscription.c
 * (how they are delivered). Loop thread only. */
#ifndef RT_EVENTS_INTERNAL_H
#define RT_EVENTS_INTERNAL_H

#include "held_internal.h"
#include "stream_internal.h"

enum state { IDLE, CONNECTING, ENSURING, RECOVERING, READING, WAITING, STOPPING, STOPPED };

/* An operation of the stream: begins with events_op_begin and ends with events_op_end. */
struct op {
	struct rt_stream_op op;
	bool busy;
	struct rt_list entries; /* ack, dead_letter, set_aside: its entries */
	char **ids;             /* ack, dead_letter, renew, recount, set_aside: copies */
};

enum counter {
	RECEIVED,
	DONE,
	IGNORED,
	RETRIED,
	DEAD,
	CLAIMED,
	LOST,
	REDELIVERED,
	REBUILT,
	COUNTERS
};
/* How an entry came: new, own that was pending, claimed. */
enum way { NEW, OWN, CLAIM };
enum gauge { IN_FLIGHT, PARKED, ASIDE, LAG, PENDING, OLDEST, GAUGES };

struct rt_events {
	struct rt_loop *loop;
	struct rt_stream *stream;
	struct rt_events_options options;
	char *name;
	enum state state;
	struct held held;
	struct rt_list acking, dead, asiding; /* entries that are FINISHING */
	size_t per_entry;                     /* events per entry in the last read */
	struct op read, pending, claim, renew, recount, ack, dead_letter, set_aside, ensure,
		maintain;
	size_t under_way; /* ops that are busy */
	/* How often it was subscribed. Behind a new connection may be another master that lacks entries: one that was
	 * delivered before is not handed over unless it is delivered again, which own pending ones are. */
	uint64_t life;
	uint64_t epoch; /* of the connection for commands when the subscription began */
	char pending_cursor[48], claim_cursor[48];
	bool pending_aside, claim_aside; /* the second half of the sweep: aside:… */
	bool recover_waits;              /* for room to read the next page of own pending entries */
	int64_t wait_ms;
	struct rt_timer wait, claim_timer, maintain_timer;
	struct rt_timer ack_retry; /* back-off of acknowledging, dead letters and setting aside */
	int64_t ack_retry_ms;
	struct rt_timer ack_gather; /* runs while entries wait to be acknowledged together */
	bool ack_now;               /* it has ended */
	bool rebuilding, failing;   /* logged */
	struct rt_stream_info info, info_next;
	/* Of events.c, for subscription.c. */
	void (*pump)(struct rt_events *events); /* does everything that can be done now */
	/* Takes in the entries of an operation. */
	void (*admit)(struct rt_events *events, const struct rt_stream_op *op, bool aside,
		      enum way way);
	struct rt_task task;
	bool pumping, freed;
	/* To the events that are being handed over and whose traces are sampled. */
	struct rt_span *links;
	size_t link_count, handed_count; /* and all that are */
	int64_t handed_us;               /* since when */
	const char *last_type;           /* of the event before, as rt_trace_name has it */
	void (*stopped)(void *user);
	void *stopped_user;
	struct rt_series *counters[COUNTERS], *gauges[GAUGES];
};

/* ---- consumer.c ---- */

size_t events_in_flight(const struct rt_events *events);
size_t events_parked(const struct rt_events *events);
/* How many entries may be asked for. */
int events_room(const struct rt_events *events);
void events_count(struct rt_events *events, enum counter which, size_t by);
void events_gauge(struct rt_events *events, enum gauge which, double value);
/* Doubles from `min` to `max`, ±25 %. */
int64_t events_back_off(struct rt_events *events, int64_t min, int64_t max, unsigned int tries);

void events_op_begin(struct rt_events *events, struct op *op,
		     void (*done)(struct rt_stream_op *op, int status));
void events_op_end(struct rt_events *events, struct op *op);
#define OP_IDS_MAX 512 /* in one operation */
/* Makes room for ids; events_op_end frees them. */
void events_op_ids(struct op *op, size_t count_max);
void events_op_id(struct op *op, const char *id);

/* ---- subscription.c ---- */

void events_set(struct rt_events *events, enum state state);
/* Forgets entries that wait to be acknowledged or set aside, if the connection is another one: behind it may be a master that has
 * lost what was done for them. They stay pending, and are delivered again. */
void events_forget_done(struct rt_events *events);
void subscription_init(struct rt_events *events);
void subscription_start(struct rt_events *events);
/* Sends no further operations; those under way end. */
void subscription_stop(struct rt_events *events);
/* Begins again if commands go over another connection now, before the one that reads has noticed. */
void subscription_check(struct rt_events *events);
/* Reads as much as there is room for. */
void subscription_more(struct rt_events *events);

#endif
