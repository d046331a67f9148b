/* events_archive.c - handles the events of archive:{p}:events: drops orders that the archive has.
 *
 *   order_on_archive_event   an order, and the version up to which the archive has it
 *     store->drop            is it still so, and settled? removed, OrderDropped and acknowledgement, one step
 *       drop_stored          the event is done, or will be delivered again
 *
 * An order that is unknown, open, or at another version by now is left as it is. */
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "order/order_internal.h"
#include "tandem/archive/v1/archive_events.pb-c.h"

struct archived {
	struct order *order;
	struct rt_event *event;
	struct order_drop_op op;
};

static void drop_stored(struct order_drop_op *op, int status)
{
	struct archived *archived = RT_CONTAINER_OF(op, struct archived, op);
	struct order *order = archived->order;
	struct rt_event *event = archived->event;

	if (status == RT_OK) {
		if (op->dropped)
			order_count(order->counts.dropped, 1);
		rt_event_done(event);
	} else {
		rt_event_retry(event, status);
	}
	free(archived);
	order_call_end(order);
}

void order_on_archive_event(struct rt_event *event, void *user)
{
	struct order *order = user;
	struct archived *archived;

	if (strcmp(event->type, tandem__archive__v1__order_archived__descriptor.name) != 0) {
		rt_event_poison(event, "unknown type of event");
		return;
	}
	if (!check_order_id(event->subject)) {
		rt_event_poison(event, "the subject is not an order id");
		return;
	}
	archived = rt_alloc(sizeof(*archived));
	archived->order = order;
	archived->event = event;
	archived->op = (struct order_drop_op){ .partition = event->partition,
					       .order_id = event->subject,
					       .version = event->seq,
					       .kept_ms = order->kept_ms,
					       .now_ms = rt_loop_unix_ms(order->loop),
					       .event = event,
					       .done = drop_stored };
	order_call_begin(order);
	order_store_drop(order->store, &archived->op);
}
