/* world.h - the whole system in one process: gateways, order and inventory services, their Redis
 * and their clients, on one loop with virtual time, driven by one seed. The same seed gives exactly
 * the same run.
 *
 *   clients ─▶ gateway ─▶ order ──▶ memory Redis ◀── inventory
 *
 * Only what is outside a service's process is replaced: gRPC (rt_client_local) and Redis
 * (memory_redis/memory_redis.h), in which the real functions run. A process may die at any point:
 * from then on nothing it does has an effect, and all it waits for is lost. Its memory is then
 * stopped and freed in the ordinary way, which no other process can see.
 *
 *   world.c          processes, calls between them, faults, transcript
 *   world_clients.c  the clients, and what they were promised
 *   world_chaos.c    what goes wrong around the services
 *   world_archive.c  stands in for the archive
 *   world_loss.c     masters that fail over, and what may be lost with them
 *   world_check.c    whether every promise was kept
 *   world_low.c      of them: that what is low is said */
#ifndef WORLD_H
#define WORLD_H

#include "gateway/gateway.h"
#include "inventory/inventory.h"
#include "order/order.h"
#include "rpc/rpc.h"
#include "stored.h"

#define WORLD_SKUS        4
#define WORLD_INSTANCES   3              /* of a service at most */
#define WORLD_PARTITIONS  8              /* at most */
#define WORLD_HOLD_MAX_MS INT64_C(30000) /* of a hold that is extended, in all */
#define WORLD_START_MS    INT64_C(1764000000000)
#define WORLD_QUIET_MS    80000 /* it must be quiet within that after the last fault */
#define WORLD_VIOLATIONS  8     /* no more are recorded */

struct world;

/* ---- faults ---- */

/* How often each fault happens: a chance in 10 000. */
struct world_plan {
	unsigned io_before, io_after, io_late, io_delay, io_slow,
		io_kill;    /* a store or stream operation */
	unsigned hold_late; /* a part is held long after that was given up */
	unsigned call_before, call_after, call_delay; /* a step of an RPC */
	int64_t latency_ms;                           /* of each step, at most */
	int64_t chaos_every_ms; /* mean time between two events of world_chaos.c; 0: none */
	unsigned chaos[16];     /* their weights, by enum world_chaos */
	/* Mean time between two failovers, in which a master is replaced by its replica, which lacks the last
	 * writes; 0: none. */
	int64_t failover_every_ms;
	bool sheds; /* the gateways refuse orders when events of orders wait for long */
};
enum world_chaos {
	CHAOS_DELETE,         /* a stream entry is lost (XDEL) */
	CHAOS_TRIM,           /* all entries of a stream are lost (XTRIM MAXLEN 0) */
	CHAOS_REPEAT,         /* an entry is added once more */
	CHAOS_HOLD_BACK,      /* an entry is deleted and added again later, behind others */
	CHAOS_DESTROY_GROUP,  /* XGROUP DESTROY */
	CHAOS_DELETE_STREAM,  /* DEL */
	CHAOS_CUT,            /* a process loses its connections */
	CHAOS_RESTART_REDIS,  /* every process loses them, for a while */
	CHAOS_KILL,           /* a process dies, and another starts in its place */
	CHAOS_POISON,         /* an entry that is not an event, or of an unknown type */
	CHAOS_JUMP,           /* the clock jumps */
	CHAOS_FORGET_REFUSAL, /* a rejected order's reservation is lost, and its request repeated */
	CHAOS_STAND_STILL,    /* a process stands still for a while, and then goes on */
	CHAOS_KINDS
};

enum world_nth { NTH_NONE, NTH_FAIL_BEFORE, NTH_FAIL_AFTER, NTH_KILL_BEFORE, NTH_KILL_AFTER };

/* Bugs planted on purpose, for the test that the simulation finds them. */
enum world_bug {
	BUG_NONE,
	BUG_SKIP_ACK,         /* effects are stored without their acknowledgement */
	BUG_FORGET_TOMBSTONE, /* a release that overtook its order leaves no trace */
	BUG_ANSWER_ANEW,      /* a repeated request is served as if it were new */
	/* Inventory skips every OrderRejected, even one that requests a release. */
	BUG_SKIP_COMPENSATION,
	BUG_UNKNOWN_IS_SHORT, /* a SKU that does not exist is refused like one that is sold out */
	BUG_EXTEND_NO_TIMER,  /* a hold that is extended runs out as before */
	BUG_EXTEND_ANYWAY,    /* it may be extended beyond its limit */
	BUG_EXTEND_SHORTENS,  /* an extension to an earlier time shortens it */
	BUG_RETURN_TWICE,     /* a return that is asked for again comes back again */
	BUG_RETURN_UNSAID,    /* a reservation does not say that more came back of it */
	BUG_DROP_ANY_VERSION, /* an order is dropped although it has another version than the archive */
	BUG_DROP_OPEN,        /* … although it is not settled */
	BUG_DROP_UNNOTED, /* ids of dropped orders are not noted: a request that is repeated places them again */
	BUG_DROP_UNCOUNTED, /* what a dropped reservation had sold is not added up */
	BUG_DROP_HELD,      /* a reservation is dropped with what it holds */
	BUG_DROP_FORGOTTEN, /* nobody notes which split orders were dropped: a part that comes back stays */
	BUG_DROP_AFRESH, /* an old request of a dropped order reserves again */
	BUG_RETURN_ANYWAY, /* an order moves though it is another version than the one that was read */
	BUG_BATCH_APART,  /* what a call did to an order before is not seen by what it does next */
	BUG_LOW_AGAIN,    /* each step that leaves a SKU low says so */
	BUG_LOW_STAYS,    /* only the first fall is said */
	BUG_LOW_UNRAISED, /* a raised threshold is not a fall */
	BUG_LOW_PARTS,    /* nor is a part of a split order */
	/* Of the rules of docs/decisions/029 each is left out once. */
	BUG_R1_FRESH_VERDICT,   /* a part that was refused may be held later */
	BUG_R1_NO_TOMBSTONE,    /* a part that is not there leaves no trace when it is released */
	BUG_R2_ANY_RECORD,      /* a conclusion does not compare the record */
	BUG_R3_KEEP_PARTS,      /* parts are not released before the record is written */
	BUG_R4_NO_LINES,        /* a release that meets no record does not know the parts */
	BUG_R5_NO_TAKING,       /* a commit does not take a part that is missing */
	BUG_R6_ANY_GENERATION,  /* calls of older generations are not refused */
	BUG_R7_SAME_CONNECTION, /* what an old master said is acted upon at a new one */
	BUG_R8_NO_WAIT,         /* no step waits for a replica, though clients trust that */
	WORLD_BUGS
};
/* "skip-ack"; NULL for none. */
extern const char *const world_bug_names[WORLD_BUGS];

/* How seldom services look by themselves whether there is something to do: multiples of the shortest periods of
 * the simulation (world.c). 0: one. */
struct world_pace {
	int timers; /* order, for orders whose timer has run out */
	int claims; /* for events of dead consumers; groups are maintained, and streams trimmed, as seldom */
	int marks; /* inventory, for masters that are others now */
};

struct world_options {
	uint64_t seed;
	enum world_bug bug;
	struct world_plan plan;
	struct world_pace pace;
	int orders, inventories, gateways; /* instances; 0: one */
	int partitions;                    /* 0: one */
	int masters;                       /* of Redis, which share the partitions; 0: one */
	int replicas;                      /* that must have a step before it is answered OK */
	int64_t decision_ms;               /* of the order service's clock; 0: 15000 */
	int64_t stream_length_max;         /* of the order stream; 0: none */
	/* Clients also extend holds, return items, move orders in batches, set thresholds and ask for a SKU that does not exist. */
	bool shop;
	/* An archive says that it has orders, which are dropped then. */
	bool drops;
	int64_t kept_ms; /* with `drops`: not before nothing has happened to them for so long */
	bool record;     /* keep a transcript */
};

struct world *world_new(const struct world_options *options);
void world_free(struct world *world);
struct rt_loop *world_loop(struct world *world);
struct memory_redis *world_redis(struct world *world);
/* Lets time pass. */
void world_run(struct world *world, int64_t ms);
/* No more faults from here on. */
void world_calm(struct world *world);
/* Runs until every order is settled, every event handled and every call answered. False: not within
 * limit_ms, which is a violation too. */
bool world_run_until_quiet(struct world *world, int64_t limit_ms);
/* For torture: only the n-th I/O from now on, counted from 1, fails. */
void world_torture(struct world *world, enum world_nth kind, unsigned n);
/* Whether it has failed. */
bool world_nth_hit(const struct world *world);
/* Checks every promise; each broken one is a violation. To be called when the world is quiet. */
void world_check(struct world *world);
/* Lines, or "" when every promise was kept. */
const char *world_violations(const struct world *world);
const char *world_transcript(const struct world *world);
/* What happened in a run. */
struct world_counts {
	unsigned orders, confirmed, cancelled, rejected, expired, faults, deaths, chaos;
	unsigned dropped, failovers, lost,
		owed;     /* lost: orders that do not exist any more, of those acknowledged */
	int64_t quiet_ms; /* how long it took until it was quiet */
};
struct world_counts world_counts(const struct world *world);

/* ---- by hand: one call at a time, for transcripts and torture ---- */

enum world_order_fate { FATE_LEAVE, FATE_CONFIRM, FATE_CANCEL };
/* Adjusts stock; repeats the call until the outcome is known. */
void world_stock(struct world *world, const char *sku, int64_t delta);
/* Places an order, waits for the decision, then confirms it, cancels it or lets its hold expire;
 * repeats each call until the outcome is known. */
void world_order(struct world *world, const char *request_id, const char *sku, uint32_t quantity,
		 int64_t hold_ms, enum world_order_fate fate);

/* ---- a whole run ---- */

/* Whether the run of this seed can show the bug at all: some concern only losses of Redis. */
bool world_bug_may_show(enum world_bug bug, uint64_t seed);

/* The run of a seed, with random clients and a random plan, from the beginning to the check. */
struct world *world_run_seed(uint64_t seed, enum world_bug bug, bool record);

#endif
