/* load.h - the load generator: options, what a run counts, and its phases.
 *
 *   load.c        options, phases, report          load_run.c    sending and counting
 *   load_tail.c   decisions, read from the stream  load_accounting.c  compares stock afterwards
 *   load_stock.c  stock before, cleaning up
 *
 * Phases: stock → warm-up → measured → drain (until each accepted order is decided) → accounting.
 * Time is taken from the instant an order was *meant* to leave, so a stall of the system or of
 * the generator counts against every order it delays (no coordinated omission). */
#ifndef CTL_LOAD_H
#define CTL_LOAD_H

#include <inttypes.h>
#include <stdio.h>
#include <uthash.h>

#include "ctl.h"
#include "events/events.h"
#include "hist.h"
#include "loop/loop.h"
#include "redis/redis.h"
#include "redis/topology.h"
#include "rpc/rpc.h"

/* The names of the load's own SKUs and customers, by which it recognises them. */
#define LOAD_SKU           "load-%04u"
#define LOAD_SKU_SIZE      16
#define LOAD_SKUS_MAX      10000
#define LOAD_CUSTOMER      "load-customer-%" PRIu64
#define LOAD_CUSTOMER_SIZE 40

enum load_mode { LOAD_UNARY, LOAD_BATCH, LOAD_STREAM };
enum load_skew { LOAD_UNIFORM, LOAD_ZIPF, LOAD_HOT };
extern const char *const load_modes[3], *const load_skews[3]; /* as their options name them */

struct load_options {
	const char *target;
	struct rt_redis_url redis;      /* and its partitions: where decisions are read */
	struct rt_redis_login login;    /* who reads there */
	struct rt_redis_login sentinel; /* who asks its sentinels */
	struct rt_redis_tls *tls;       /* NULL: none */
	int partitions;
	double rate;   /* orders/s; 0: saturate */
	bool saturate; /* --saturate is given */
	bool poisson;
	int64_t outstanding; /* saturate: orders not decided yet, at most */
	int64_t duration_ms, warmup_ms, drain_ms;
	int64_t connections, batch, skus, lines, customers, seed, stock;
	enum load_mode mode;
	enum load_skew skew;
	double confirm, cancel; /* shares of the reserved orders */
	bool wait;              /* get decisions by wait_for_decision, not from the stream */
	bool request_ids, json, accounting, quiet, yes, clean;
	const char *out; /* folder for the files that scripts/load plots; NULL: none */
};

/* One order, until both its acceptance and its decision are known. */
struct load_order {
	char order_id[32];
	int64_t intended_ns;
	bool accepted, measured, reserved;
	int64_t decided_ns; /* 0: not yet */
	uint16_t *skus;     /* of the lines; quantity 1 each */
	UT_hash_handle hh;
};

struct load_second {
	uint64_t sent, accepted, decided;
	struct hist *decided_hist;
};

#define LOAD_SAMPLES 200
struct load_count {
	uint64_t sent, accepted, failed, reserved, rejected, confirmed, cancelled, follow_up_failed;
	uint64_t late;      /* left more than 1 ms after they were meant to */
	uint64_t codes[17]; /* failures by gRPC code */
	uint64_t twice;     /* decided a second time: always an error */
	uint64_t tail_entries;
};

struct load {
	struct load_options options;
	struct ctl *ctl;
	struct rt_loop *loop;
	struct rt_tls *tls; /* of the channel */
	struct rt_channel *channel;
	ProtobufCService *orders, *inventory;
	char **sku_names;
	double *zipf;            /* cumulative shares */
	int64_t *booked;         /* per SKU: reserved by orders of this run */
	int64_t *opening;        /* per SKU: reserved + committed before the run */
	struct load_order *open; /* hash: accepted or decided, not both */
	struct load_count count, measured;
	struct hist accepted_hist, decided_hist, failed_hist;
	struct load_second *seconds; /* since the start: warm-up, then the measured time */
	size_t second_count;
	int64_t start_ns, measure_ns, end_ns, last_decided_ns, first_measured_decided_ns;
	uint64_t calls, follow_ups; /* under way */
	uint64_t undecided;         /* accepted or under way, and not decided */
	uint64_t random;
	char samples[LOAD_SAMPLES][32];
	bool sample_reserved[LOAD_SAMPLES];
	size_t sample_count;
	bool sending;
	void *run, *tail;                /* load_run.c's, load_tail.c's */
	void (*next)(struct load *load); /* starts the next phase */
	const char *error;
	struct rt_timer timer;
};

/* load_run.c: sends until end_ns, then waits for decisions; then load->next. */
void load_run_start(struct load *load, void (*next)(struct load *load));
void load_run_free(struct load *load);
/* Takes note of an order's decision. */
void load_decided(struct load *load, const char *order_id, bool reserved, int64_t now_ns);

/* load_tail.c: reads the order stream from its present end on; calls `next` when it has found it. */
void load_tail_start(struct load *load, void (*next)(struct load *load));
void load_tail_free(struct load *load);

/* load_stock.c: these two block and return an exit code; errors are on stderr. Asks before it writes
 * when there is stock of other SKUs (no terminal: CTL_USAGE), fills the SKUs up to options->stock, and
 * returns the opening balance of each. */
int load_stock_open(struct ctl *ctl, const struct load_options *options, int64_t *ret_opening);
/* Cancels the load's orders that are not settled and takes its available stock out. */
int load_stock_clean(struct ctl *ctl, const struct load_options *options);
/* Whether it is one of the load's SKUs, and which. */
bool load_sku_index(const char *sku, size_t *ret_index);

/* load_accounting.c: compares stock, and a sample of orders, with what the run saw. */
void load_accounting_close(struct load *load, void (*next)(struct load *load));

#endif
