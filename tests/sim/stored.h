/* stored.h - contexts on a Redis in memory, and what they keep there. */
#ifndef SIM_STORED_H
#define SIM_STORED_H

#include "context/context.h"
#include "events/entry.h"
#include "inventory/store.h"
#include "memory_redis/link.h"
#include "order/order_record.h"
#include "order/store.h"

#define STORED_ORDERS    "order:{0}:events"
#define STORED_INVENTORY "inventory:{0}:events"

/* ---- the contexts: the real ones ---- */

/* Loads the functions of both. Aborts when they do not load. */
void stored_load(struct memory_redis *redis);
/* A context whose connections are the host's; `consumer` is its name in the groups. */
struct rt_context *stored_context(struct memory_host *host, const struct rt_context_domain *domain,
				  struct rt_context_options options, const char *consumer);
/* Reads `stream` as the context of these functions, whose connection is `commands`. */
struct rt_stream *stored_source(struct memory_host *host, struct rt_redis *commands,
				const struct rt_functions *functions, const char *stream,
				const char *consumer);

/* ---- what is kept: in all partitions ---- */

/* Of the orders; 1 as long as there are none. */
int stored_partitions(const struct memory_redis *redis);
/* Where an order is, by its id; one without a bucket: in the first. */
int stored_partition_of(const struct memory_redis *redis, const char *order_id);

/* All of a record lives until the next change. False: none, or damaged. */
bool stored_order(const struct memory_redis *redis, const char *order_id, struct order_record *ret);
void stored_orders_each(const struct memory_redis *redis,
			void (*visit)(const struct order_record *record, void *user), void *user);
/* NULL: none is kept in this partition. */
const struct memory_zset *stored_timers(const struct memory_redis *redis, int partition);

#define STORED_LINES 8
struct stored_reservation {
	char order_id[ORDER_ID_LENGTH + 1];
	enum stock_state state;
	bool split; /* its lines lie in several partitions, whose parts move the counters */
	size_t line_count;
	struct stored_line {
		char sku[32];
		uint64_t quantity, returned; /* of a sale, how many came back */
	} lines[STORED_LINES];
};
bool stored_reservation(const struct memory_redis *redis, const char *order_id,
			struct stored_reservation *ret);
void stored_reservations_each(const struct memory_redis *redis,
			      void (*visit)(const struct stored_reservation *reservation,
					    void *user),
			      void *user);
/* The parts of split reservations. */
void stored_parts_each(const struct memory_redis *redis,
		       void (*visit)(const struct stored_reservation *part, void *user),
		       void *user);
/* The counters of a SKU; all 0 if there are none. */
struct stock stored_stock(const struct memory_redis *redis, int partition, const char *sku);
void stored_stock_each(const struct memory_redis *redis,
		       void (*visit)(const char *sku, const struct stock *stock, void *user),
		       void *user);

/* How many were sold in reservations that were dropped. */
void stored_dropped_each(const struct memory_redis *redis,
			 void (*visit)(const char *sku, uint64_t count, void *user), void *user);

/* ---- events ---- */

/* The events of an entry (freed by the caller), and how many; 0: it is not one of ours. */
size_t stored_events(const struct memory_entry *entry, struct rt_entry_event **ret);
/* Appends an entry, with the id that events.lua would give it. */
void stored_append(struct memory_redis *redis, const char *stream, int64_t now_ms,
		   const struct memory_text *fields, size_t count);
struct stored_event {
	const char *type, *subject;
	uint64_t seq;
	const void *data;
	size_t data_length;
	uint32_t attempt;        /* 0 or 1: left out */
	const char *traceparent; /* NULL: left out */
	const char *tracestate;  /* likewise */
};
void stored_publish(struct memory_redis *redis, const char *stream, int64_t now_ms,
		    const struct stored_event *event);

#endif
