/* memory_redis.h - the one Redis of a simulation: what the memory stores keep, and the links over
 * which each process reaches it.
 *
 * What is kept survives every process, as Redis does. A link is a process's pipelined connection:
 * requests travel, take effect one by one in the order sent, and answers travel back in that
 * order. On each way something may go wrong, as the fault hook says:
 *
 *   submit ─▶ requests ──(before)──▶ effect ──(after)──▶ answers ─▶ done
 *
 *   before fails: no effect, done gets the status    after fails: the effect stays, the answer is
 *   either may be delayed, and what follows waits    lost: done gets the status
 *   MEMORY_LATE: done gets RT_TIMEOUT, and the effect comes after it, when the delay is over: what a
 *   Redis does that stood still and goes on
 *   memory_link_cut: the connection is lost with all that is on it
 *   memory_link_kill: the process is dead; nothing it sends has an effect any more, and what it
 *   waits for ends with RT_CANCELED, which nobody outside it can tell from never */
#ifndef MEMORY_REDIS_H
#define MEMORY_REDIS_H

#include "events/stream_internal.h"
#include "inventory/store.h"
#include "order/store.h"
#include "streams.h"

#define MEMORY_ORDER_STREAM     "order:{0}:events"
#define MEMORY_INVENTORY_STREAM "inventory:{0}:events"

/* Bugs planted on purpose, for the test that the simulation finds them. */
enum memory_bug {
	MEMORY_BUG_NONE,
	MEMORY_BUG_SKIP_ACK,         /* effects are stored without their acknowledgement */
	MEMORY_BUG_FORGET_TOMBSTONE, /* a release that overtook its order leaves no trace */
	MEMORY_BUG_ANSWER_ANEW,      /* a repeated request is served as if it were new */
	/* Whatever is said in an OrderRejected is passed over, also what asks to give back. */
	MEMORY_BUG_SKIP_COMPENSATION,
	MEMORY_BUGS
};
/* "skip-ack"; NULL for none. */
extern const char *const memory_bug_names[MEMORY_BUGS];

/* A set of members by score, in Redis's order: by score, then by member. */
struct memory_zset {
	struct memory_zset_entry {
		char *member;
		int64_t score;
	} * entries;
	size_t count, capacity;
};
void memory_zset_set(struct memory_zset *zset, const char *member, int64_t score);
void memory_zset_remove(struct memory_zset *zset, const char *member);
bool memory_zset_score(const struct memory_zset *zset, const char *member, int64_t *ret);
void memory_zset_done(struct memory_zset *zset);

struct memory_orders;    /* order_store_memory.c */
struct memory_inventory; /* inventory_store_memory.c */

/* How far a group had come when it was last tended. */
struct memory_cursor {
	char *key;
	struct memory_id mark;
};

struct memory_link;
struct memory_redis {
	struct rt_loop *loop;
	struct memory_streams *streams;
	struct memory_cursor cursors[4];
	struct memory_orders *orders;
	struct memory_inventory *inventory;
	enum memory_bug bug;
	int64_t stream_length_max; /* past it no order is placed; 0: none */
	struct rt_list late;       /* of struct memory_op */
	struct memory_link *late_link;
	/* Told of each entry that sets out to a subscriber; may be NULL. */
	void (*on_delivered)(void *user, const struct memory_link *link,
			     const struct memory_entry *entry);
	void *user;
};
struct memory_redis *memory_redis_new(struct rt_loop *loop);
void memory_redis_free(struct memory_redis *redis); /* every link must be gone; takes NULL */
/* Effects that are late and have not come yet. */
size_t memory_redis_late(const struct memory_redis *redis);
/* Made when it is not there. */
struct memory_cursor *memory_cursor(struct memory_redis *redis, const char *key);
/* XACK by stream id. */
void memory_ack(struct memory_redis *redis, const char *stream, const char *group, const char *id);

/* ---- links ---- */

/* What a hook is asked about. */
struct memory_io {
	const struct memory_link *link;
	const char *what;    /* "place", "move", "request", … */
	const char *subject; /* the order or SKU it is about; "" */
	bool after;          /* asked after the effect */
};
/* Before only, and only for what can: see above. */
#define MEMORY_LATE 1
/* Returns RT_OK, or the status to fail with; may set *delay_ms. */
typedef int memory_fault_hook(void *user, const struct memory_io *io, int64_t *delay_ms);

struct memory_op {
	struct rt_list link;
	struct memory_link *owner;
	const char *what, *subject;
	int status;
	int64_t due_ms;
	void (*effect)(struct memory_op *op);             /* at the Redis */
	void (*finish)(struct memory_op *op, int status); /* back home: calls done, frees itself */
	/* A copy that owns its input and has nobody to tell; NULL: cannot be late. */
	struct memory_op *(*copy)(const struct memory_op *op);
	struct rt_timer late_timer;
};

struct memory_link {
	struct memory_redis *redis;
	const char *process; /* its name, for hooks and transcripts */
	memory_fault_hook *fault;
	void *user;
	struct rt_list requests, answers; /* of struct memory_op */
	struct rt_timer request_timer, answer_timer;
	struct rt_list waits; /* of struct memory_wait, under way */
	bool away, dead;
};
/* `fault` may be NULL. */
void memory_link_init(struct memory_link *link, struct memory_redis *redis, const char *process,
		      memory_fault_hook *fault, void *user);
void memory_link_submit(struct memory_link *link, struct memory_op *op, const char *what,
			const char *subject);
/* Everything on its way ends with RT_LOST, now (from the loop); with `away`, everything sent
 * later does so, too, until memory_link_back. */
void memory_link_cut(struct memory_link *link, bool away);
void memory_link_back(struct memory_link *link);
void memory_link_kill(struct memory_link *link);

/* A read that waits for entries. It has a connection of its own, so that it holds nobody up, but
 * shares the link's fate and hook. Embed it, zeroed.
 *
 *   memory_wait_start ──(before)──▶ look … look (at each new entry) ──(after)──▶ finish */
struct memory_wait {
	struct rt_list link;
	struct memory_link *owner;
	struct memory_waiter waiter;
	struct rt_timer timer;
	const char *what;
	int64_t block_ms;
	bool under_way, waiting;
	int status;
	/* Takes what there is. True: that is an answer. */
	bool (*look)(struct memory_wait *wait);
	void (*finish)(struct memory_wait *wait, int status);
};
void memory_wait_start(struct memory_wait *wait, struct memory_link *link, const char *what,
		       int64_t block_ms);
/* Ends one that is under way, from the loop. */
void memory_wait_interrupt(struct memory_wait *wait, int status);

/* Ends what is on its way with RT_CANCELED before it returns. */
void memory_link_done(struct memory_link *link);

/* ---- the stores ---- */

struct memory_store_options {
	const char *process;
	memory_fault_hook *fault;
	void *user;
};
struct order_store *order_store_memory_new(struct memory_redis *redis,
					   const struct memory_store_options *options);
struct inventory_store *inventory_store_memory_new(struct memory_redis *redis,
						   const struct memory_store_options *options);
struct memory_link *order_store_memory_link(struct order_store *store);
struct memory_link *inventory_store_memory_link(struct inventory_store *store);

struct memory_orders *memory_orders_new(void);
void memory_orders_free(struct memory_orders *orders);
struct memory_inventory *memory_inventory_new(void);
void memory_inventory_free(struct memory_inventory *inventory);

/* ---- subscriptions (source_memory.c) ---- */

struct memory_source_options {
	const char *process;
	memory_fault_hook *fault;
	void *user;
	const char *stream, *group, *consumer, *context; /* as in rt_stream_redis_options */
};
struct rt_stream_source *source_memory_new(struct memory_redis *redis,
					   const struct memory_source_options *options);
struct memory_link *source_memory_link(struct rt_stream_source *source);

/* ---- looking inside ---- */

/* Every order, by id. `record` is valid until the next change. */
void memory_orders_each(struct memory_orders *orders,
			void (*visit)(const struct order_record *record, void *user), void *user);
bool memory_orders_find(const struct memory_orders *orders, const char *order_id,
			struct order_record *ret);
const struct memory_zset *memory_orders_timers(const struct memory_orders *orders);
const struct memory_zset *memory_orders_customer(const struct memory_orders *orders,
						 const char *customer_id);

struct memory_reservation {
	const char *order_id;
	enum stock_state state;
	uint64_t version;
	int64_t updated_ms;
	const struct inventory_line *lines;
	size_t line_count;
	const struct inventory_shortage *shortages; /* when it was refused; kept ever after */
	size_t shortage_count;
};
void memory_inventory_each(struct memory_inventory *inventory,
			   void (*visit)(const struct memory_reservation *reservation, void *user),
			   void *user);
bool memory_inventory_find(const struct memory_inventory *inventory, const char *order_id,
			   struct memory_reservation *ret);
/* Loses a reservation that holds nothing. */
void memory_inventory_forget(struct memory_inventory *inventory, const char *order_id);
void memory_inventory_each_stock(struct memory_inventory *inventory,
				 void (*visit)(const char *sku, const struct stock *stock,
					       void *user),
				 void *user);

#endif
