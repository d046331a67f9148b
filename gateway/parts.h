/* parts.h - what the gateway's files share among themselves. */
#ifndef GATEWAY_PARTS_H
#define GATEWAY_PARTS_H

#include "batch.h"
#include "gateway.h"
#include "rpc.h"
#include "tandem/order/v1/order_service.pb-c.h"

/* A packed order that keeps to the contract's limits is smaller; what is larger carries fields
 * nobody knows, and a batch of those would pass the message limit of the order service. */
#define GATEWAY_ORDER_MAX_BYTES 16384
/* Times the above, and times the largest answer (check_result_max), stays below 4 MiB. */
#define GATEWAY_BATCH_MAX 190
/* What UNAVAILABLE tells a caller to wait, when whoever said it did not. */
#define GATEWAY_RETRY_MS 200

typedef Tandem__Order__V1__Order gateway_order;

/* A service as the gateway serves it: same descriptor as the client behind it, own invoke. */
struct gateway_service {
	ProtobufCService base;
	struct gateway *gateway;
	ProtobufCService *client;
};

struct gateway {
	struct rt_loop *loop;
	struct gateway_options options;
	struct gateway_service order, inventory;
	/* Indexes of the methods that do not simply pass through. */
	unsigned place_order, batch_place_orders, stream_orders, watch_order;
	/* Orders on their way: those that want the answer at once, and those that wait for the
	 * decision, apart, because a batch with one of the latter comes back late. */
	struct rt_batch *placing, *deciding;
	size_t alone_count; /* orders sent one by one, or followed */
	/* What send() packs from: batch_max pointers. */
	Tandem__Order__V1__PlaceOrderRequest **requests;
	struct rt_series *alone, *refused, *followed; /* NULL: no metrics */
};

/* ---- one order on its way to the order service (place_order.c) ---- */

struct gateway_placing;
/* `order` is NULL when it was not placed; then `status` says why. Both are gone on return. */
typedef void gateway_placed(const gateway_order *order, const struct rt_status *status, void *user);
/* Sends an order for `call`, with its deadline and traceparent. Checked, but not cancelled ones
 * only. `done` runs once, never before this returns, unless the placing is abandoned.
 * `request` is the caller's until then. NULL: refused, *status says why. */
struct gateway_placing *gateway_place(struct gateway *gateway, struct rt_call *call,
				      const Tandem__Order__V1__PlaceOrderRequest *request,
				      gateway_placed *done, void *user, struct rt_status *status);
/* Nobody waits for it any more: `done` will not run, `request` and `call` may go. The order may
 * have been placed all the same. */
void gateway_place_abandon(struct gateway_placing *placing);
/* The limits of one order; false: *status says which is broken. */
bool gateway_check_order(const Tandem__Order__V1__PlaceOrderRequest *request,
			 struct rt_status *status);
struct rt_batch *gateway_batch_new(struct gateway *gateway, bool deciding);

/* ---- the methods with a file of their own ---- */

void gateway_place_order(struct gateway *gateway, const ProtobufCMessage *message,
			 ProtobufCClosure closure, struct rt_call *call);
void gateway_stream_orders(struct gateway *gateway, ProtobufCClosure closure, struct rt_call *call);

/* ---- passing on (route.c) ---- */

/* Serves `client`'s methods. */
void gateway_route_init(struct gateway_service *service, struct gateway *gateway,
			ProtobufCService *client);
/* The deadline for what is done on a call's behalf, ms from now: the call's own, at most
 * timeout_ms when it has none. <= 0: passed. */
int64_t gateway_remaining_ms(const struct gateway *gateway, const struct rt_call *call);
/* A copy of a status that goes back to a caller: UNAVAILABLE gets RetryInfo if it has none. */
void gateway_status_copy(struct rt_status *to, const struct rt_status *from);
/* Ends a call that was cancelled or whose deadline passed. */
void gateway_call_gone(struct rt_call *call);

#endif
