/* world.h - the whole house in one process: gateways, order and inventory services, their Redis
 * and their clients, on one loop with a clock of its own, driven by one seed. The same seed gives
 * the same run, to the letter.
 *
 *   clients ─▶ gateway ─▶ order ──▶ memory Redis ◀── inventory
 *
 * Only what would be outside a service's process is not the real thing: gRPC (rt_client_local)
 * and Redis (memory_redis/memory_redis.h), in which the real functions run. A process dies in the middle of anything: from then on nothing it
 * does has an effect, and all it waits for is lost; what is left of it is stopped and freed by
 * the ordinary way, which nobody outside can see.
 *
 *   world.c          processes, calls between them, faults, transcript
 *   world_clients.c  who uses the house, and what they were promised
 *   world_chaos.c    what befalls it
 *   world_check.c    whether every promise was kept */
#ifndef WORLD_H
#define WORLD_H

#include "gateway/gateway.h"
#include "inventory/inventory.h"
#include "order/order.h"
#include "rpc/rpc.h"
#include "stored.h"

#define WORLD_SKUS       4
#define WORLD_INSTANCES  3 /* of a service at most */
#define WORLD_START_MS   INT64_C(1764000000000)
#define WORLD_QUIET_MS   80000 /* it must be quiet so long after the last fault */
#define WORLD_VIOLATIONS 8     /* more are not written down */

struct world;

/* ---- faults ---- */

/* How often what happens; each a chance in 10 000. */
struct world_plan {
	unsigned io_before, io_after, io_late, io_delay, io_slow,
		io_kill;                              /* a store or stream operation */
	unsigned call_before, call_after, call_delay; /* a step of an RPC */
	int64_t latency_ms;                           /* of everything, at most */
	int64_t chaos_every_ms; /* something befalls the house so often; 0: never */
	unsigned chaos[16];     /* weights of what, by enum world_chaos */
};
enum world_chaos {
	CHAOS_DELETE,         /* a stream entry is lost (XDEL) */
	CHAOS_TRIM,           /* all entries of a stream are (XTRIM MAXLEN 0) */
	CHAOS_REPEAT,         /* an entry is written once more */
	CHAOS_HOLD_BACK,      /* an entry vanishes and comes back later, behind others */
	CHAOS_FORGET_GROUP,   /* XGROUP DESTROY */
	CHAOS_FORGET_STREAM,  /* DEL */
	CHAOS_CUT,            /* a process loses its connections */
	CHAOS_RESTART_REDIS,  /* every process does, for a while */
	CHAOS_KILL,           /* a process dies, and another starts in its place */
	CHAOS_POISON,         /* an entry that is no event, or one nobody knows */
	CHAOS_JUMP,           /* the clock does */
	CHAOS_FORGET_REFUSAL, /* a rejected order's reservation is lost, and its request repeated */
	CHAOS_KINDS
};

enum world_nth { NTH_NONE, NTH_FAIL_BEFORE, NTH_FAIL_AFTER, NTH_KILL_BEFORE, NTH_KILL_AFTER };

/* Bugs planted on purpose, for the test that the simulation finds them. */
enum world_bug {
	BUG_NONE,
	BUG_SKIP_ACK,         /* effects are stored without their acknowledgement */
	BUG_FORGET_TOMBSTONE, /* a release that overtook its order leaves no trace */
	BUG_ANSWER_ANEW,      /* a repeated request is served as if it were new */
	/* Whatever is said in an OrderRejected is passed over, also what asks to give back. */
	BUG_SKIP_COMPENSATION,
	WORLD_BUGS
};
/* "skip-ack"; NULL for none. */
extern const char *const world_bug_names[WORLD_BUGS];

struct world_options {
	uint64_t seed;
	enum world_bug bug;
	struct world_plan plan;
	int orders, inventories, gateways; /* instances; 0: one */
	int64_t decision_ms;               /* of the order service's clock; 0: 15000 */
	int64_t stream_length_max;         /* of the order stream; 0: none */
	bool record;                       /* keep a transcript */
};

struct world *world_new(const struct world_options *options);
void world_free(struct world *world);
struct rt_loop *world_loop(struct world *world);
struct memory_redis *world_redis(struct world *world);
/* Time passes. */
void world_run(struct world *world, int64_t ms);
/* No more faults from here on. */
void world_calm(struct world *world);
/* Until every order is settled, every event handled, every call answered, and nobody waits.
 * False: not within limit_ms; that is a violation, too. */
bool world_run_until_quiet(struct world *world, int64_t limit_ms);
/* For torture: the n-th I/O from here on, counted from 1, goes wrong, and nothing else. */
void world_torture(struct world *world, enum world_nth kind, unsigned n);
/* It has. */
bool world_nth_hit(const struct world *world);
/* Everything the house promises; each broken promise is a violation. Call it when it is quiet. */
void world_check(struct world *world);
/* Lines, or "" when every promise was kept. */
const char *world_violations(const struct world *world);
const char *world_transcript(const struct world *world);
/* What a run was worth. */
struct world_counts {
	unsigned orders, confirmed, cancelled, rejected, expired, faults, deaths, chaos;
	int64_t quiet_ms; /* how long it took to come to rest */
};
struct world_counts world_counts(const struct world *world);

/* ---- by hand: one call at a time, for transcripts and torture ---- */

enum world_order_fate { FATE_LEAVE, FATE_CONFIRM, FATE_CANCEL };
/* Puts stock in; retries until it is told how that ended. */
void world_stock(struct world *world, const char *sku, int64_t delta);
/* Places an order and sees it through: waits for the decision, then confirms, cancels or lets
 * its hold run out; retries until it is told. */
void world_order(struct world *world, const char *request_id, const char *sku, uint32_t quantity,
		 int64_t hold_ms, enum world_order_fate fate);

/* ---- all by itself ---- */

/* Random clients, a random plan, everything: the run of a seed, from beginning to check. */
struct world *world_run_seed(uint64_t seed, enum world_bug bug, bool record);

#endif
