/* consumer.c - what both halves of a consumer use: its metrics, the room it has, its operations of the stream. */
#include "events_internal.h"

#define RETRY_EXPONENT 20 /* more doublings than any back-off needs to reach its end */

/* ---- metrics ---- */

void events_count(struct rt_events *events, enum counter which, size_t by)
{
	if (events->counters[which] != NULL && by > 0)
		rt_series_add(events->counters[which], (double)by);
}

void events_gauge(struct rt_events *events, enum gauge which, double value)
{
	if (events->gauges[which] != NULL)
		rt_series_set(events->gauges[which], value);
}

/* ---- room ---- */

size_t events_in_flight(const struct rt_events *events)
{
	return events->held.counts[HANDED] + events->held.counts[FINISHING];
}

size_t events_parked(const struct rt_events *events)
{
	return events->held.counts[RETRY] + events->held.counts[BEHIND];
}

/* How many entries may be read, given the number of events they had lately. A claim under way counts for the
 * bound. A read does not: one that waits for long would leave no room for claims. So a read and a claim
 * together can bring read_count_max too many; these are READY, and handed over within the bound. */
int events_room(const struct rt_events *events)
{
	size_t coming = events->claim.busy ? (size_t)events->claim.op.count_max : 0;
	size_t flying, waiting, most;

	coming *= events->per_entry;
	flying = events_in_flight(events) + events->held.counts[READY] + coming;
	waiting = events_parked(events) + coming;
	if (flying >= (size_t)events->options.in_flight_max ||
	    waiting >= (size_t)events->options.parked_max)
		return 0;
	flying = (size_t)events->options.in_flight_max - flying;
	waiting = (size_t)events->options.parked_max - waiting;
	most = RT_MIN(RT_MIN(flying, waiting), (size_t)events->options.read_count_max);
	return (int)RT_MAX(most / events->per_entry, (size_t)1);
}

int64_t events_back_off(struct rt_events *events, int64_t min, int64_t max, unsigned int tries)
{
	return rt_loop_around(events->loop, RT_MIN(min << RT_MIN(tries, RETRY_EXPONENT), max));
}

/* ---- operations: each begins with events_op_begin and ends with events_op_end ---- */

void events_op_begin(struct rt_events *events, struct op *op,
		     void (*done)(struct rt_stream_op *op, int status))
{
	op->busy = true;
	op->op.done = done;
	op->op.entries = NULL;
	op->op.entry_count = 0;
	op->op.lost_count = 0;
	events->under_way++;
}

void events_op_end(struct rt_events *events, struct op *op)
{
	for (size_t i = 0; op->ids != NULL && i < op->op.id_count; i++)
		free(op->ids[i]);
	free(RT_TAKE(op->ids));
	op->op.id_count = 0;
	op->busy = false;
	events->under_way--;
}

void events_op_ids(struct op *op, size_t count_max)
{
	op->ids = rt_realloc(NULL, count_max * sizeof(*op->ids));
	op->op.ids = (const char *const *)op->ids;
	op->op.id_count = 0;
}

void events_op_id(struct op *op, const char *id)
{
	op->ids[op->op.id_count++] = rt_strdup(id);
}
