/* order_reason.h - why an order has its status, for people, from the message of the event that gave it the status. The order
 * service and the archive say the same. */
#ifndef PROTO_ORDER_REASON_H
#define PROTO_ORDER_REASON_H

#include "base/base.h"
#include "tandem/order/v1/order_events.pb-c.h"

/* The texts live as long as message and arena. NULL: the message cannot be read. */
char *order_reason_rejected(struct rt_arena *arena,
			    const Tandem__Order__V1__OrderRejected *rejected);
char *order_reason_cancelled(struct rt_arena *arena,
			     const Tandem__Order__V1__OrderCancelled *cancelled);
char *order_reason_expired(struct rt_arena *arena, const Tandem__Order__V1__OrderExpired *expired);

#endif
