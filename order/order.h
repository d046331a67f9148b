/* order.h - the order service put together from its parts: rules, store, RPCs, subscription,
 * timers. main.c gives it the real parts, the simulation gives it memory.
 *
 *   place_order.c …   one file per RPC          events_inventory.c  what it listens to
 *   timers.c          retries, deadlines, holds watch.c             who waits for an order
 *   order_step.c      the rules                 order_record.c      stored ↔ tandem.order.v1.Order
 *   store.h           what it keeps             functions.lua       the atomic steps
 */
#ifndef ORDER_H
#define ORDER_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "events/events.h"
#include "store.h"

struct order; /* opaque */

struct order_options {
	struct order_store *store; /* owned, once order_new has succeeded */
	struct rt_stream_source
		*inventory; /* the subscription to inventory:{p}:events; owned likewise */
	struct rt_events_options events; /* on_event and user_data are set by order_new */
	struct order_clock clock;
	int64_t stream_length_max;  /* the store's; for warnings before it is reached */
	int64_t timers_every_ms;    /* how often due timers are looked for, 250 */
	int64_t trim_every_ms;      /* 5000 */
	int64_t retain_ms;          /* acknowledged events are kept so long, 3600000 … */
	int64_t retain_count;       /* … and at most so many of them, 100000 */
	int64_t ghost_ms;           /* a group without a live consumer for so long is a ghost */
	struct rt_metrics *metrics; /* NULL: none */
};
int order_new(struct rt_loop *loop, const struct order_options *options, struct order **ret);
/* tandem.order.v1.OrderService; borrowed. */
ProtobufCService *order_rpc(struct order *order);
/* tandem.order.v1.PlacementService, for gateways; borrowed. */
ProtobufCService *order_placement_rpc(struct order *order);
void order_start(struct order *order);
bool order_ready(const struct order *order);
/* True when no order can be placed because storage was full at the last trim: Redis's memory, or the
 * event stream, which has a hard length. `text` then says so, and which consumer group is behind. */
bool order_storage_problem(const struct order *order, char *text, size_t size);
/* The service is asked to end: gateways' streams, which last, end with what is under way on them. */
void order_drain(struct order *order);
/* No new events and timers; calls that wait for a decision are answered with what is known;
 * `stopped` runs once when nothing is under way. */
void order_stop(struct order *order, void (*stopped)(void *user), void *user);
void order_free(struct order *order); /* before the start, or after stopped; takes NULL */

#endif
