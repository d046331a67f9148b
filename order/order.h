/* order.h - the order service, made of rules, store, RPCs, subscription and timers. main.c runs it
 * as a program; the simulation gives it a Redis in memory.
 *
 *   place_order.c …   one file per RPC          events_inventory.c  handles inventory's events
 *   timers.c          retries, deadlines, holds watch.c             notifies waiters of an order
 *   order_step.c      the rules                 order_record.c      stored ↔ tandem.order.v1.Order
 *   store.h           what it stores            functions.lua       the atomic steps
 */
#ifndef ORDER_H
#define ORDER_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "context/context.h"
#include "store.h"

struct order; /* opaque */

struct order_options {
	struct order_clock clock;
	int64_t stream_length_max; /* of its event stream: above it orders are refused; 0: no limit */
	int64_t hold_max_ms;       /* a hold that is extended lasts so long in all; 0: 30 d */
	int64_t kept_ms; /* an order is not dropped before nothing has happened to it for so long; 0: 60 s, < 0: any time */
	int64_t timers_every_ms; /* how often it checks for due timers; 0: 250 */
	int64_t load_every_ms; /* how often it tells gateways how much there is to do; 0: 200; < 0: never */
};
/* Makes a struct order of struct order_options. */
extern const struct rt_context_domain order_domain;
/* tandem.order.v1.OrderService; borrowed. */
ProtobufCService *order_rpc(struct order *order);
/* tandem.order.v1.PlacementService, for gateways; borrowed. */
ProtobufCService *order_placement_rpc(struct order *order);

#endif
