/* unanswered.c - since when the oldest request to inventory has had no answer, in each partition.
 *
 * No order costs anything for it: a request without an answer has a timer, and each time that runs out (timers.c) the
 * order is looked at. The oldest one that was seen is remembered until this instance moves it, or until it would have
 * been seen once more if it still waited: then another instance has moved it. */
#include <stdio.h>

#include "order/order_internal.h"

/* When the order asked inventory for what it waits for; 0: its history cannot be read. */
static int64_t asked_ms(const struct order_record *record)
{
	struct order_history history;
	struct order_history_item item;
	int64_t ms = 0;

	order_history_begin(&history, record->history);
	while (order_history_next(&history, &item))
		if (!item.again)
			ms = item.unix_ms;
	return ms;
}

void order_unanswered_note(struct order_unanswered *unanswered, const struct order_record *record,
			   int64_t now_ms)
{
	int64_t since_ms;

	if (unanswered->seconds == NULL || !order_state_waits(record->state))
		return;
	since_ms = asked_ms(record);
	if (since_ms == 0 || (unanswered->since_ms != 0 && unanswered->since_ms < since_ms))
		return;
	unanswered->since_ms = since_ms;
	unanswered->seen_ms = now_ms;
	snprintf(unanswered->order_id, sizeof(unanswered->order_id), "%s", record->order_id);
}

void order_unanswered_moved(struct order_unanswered *unanswered, const char *order_id)
{
	if (unanswered->since_ms == 0 || strcmp(unanswered->order_id, order_id) != 0)
		return;
	unanswered->since_ms = 0;
	rt_series_set(unanswered->seconds, 0);
}

void order_unanswered_looked(struct order_unanswered *unanswered, int64_t now_ms)
{
	if (unanswered->since_ms == 0)
		return;
	if (now_ms - unanswered->seen_ms > unanswered->keep_ms)
		unanswered->since_ms = 0;
	rt_series_set(unanswered->seconds,
		      unanswered->since_ms == 0
			      ? 0
			      : (double)RT_MAX(now_ms - unanswered->since_ms, 0) / 1000);
}
