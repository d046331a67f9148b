/* order_return.h - the rules of returns: what may come back of a confirmed order.
 *
 * Pure: no I/O, no clock. An order's returns are kept with it as an OrderReturned: each of them, and what came back in all,
 * which is what inventory is asked to make available. So a request that is repeated, or overtaken by a later one, changes
 * nothing more. */
#ifndef ORDER_RETURN_H
#define ORDER_RETURN_H

#include "base/arena.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define ORDER_RETURNS_BYTES_MAX                                                                    \
	65536 /* of all returns of an order, which are read and written with it */

enum order_return_verdict {
	ORDER_RETURN_NEW,      /* *ret is what the order's returns are then */
	ORDER_RETURN_BEFORE,   /* the same return_id, the same content: nothing to do */
	ORDER_RETURN_CONFLICT, /* the same return_id, other content */
	ORDER_RETURN_TOO_MUCH, /* more than was bought and did not come back before; or nothing is left */
	ORDER_RETURN_TOO_MANY, /* the order has CHECK_RETURNS_MAX returns, or they would be larger than ORDER_RETURNS_BYTES_MAX */
};
/* `lines`: what was ordered, each SKU once. `before`: its returns so far; NULL: none. The request has passed
 * check_request. *ret and *ret_why, which says what is too much, live in the arena and may point into the inputs. */
enum order_return_verdict order_return(struct rt_arena *arena,
				       Tandem__Order__V1__OrderLine *const *lines,
				       size_t line_count,
				       const Tandem__Order__V1__OrderReturned *before,
				       const Tandem__Order__V1__ReturnOrderRequest *request,
				       int64_t now_ms, Tandem__Order__V1__OrderReturned **ret,
				       const char **ret_why);

#endif
