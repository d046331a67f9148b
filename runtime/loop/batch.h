/* batch.h - group commit: gathers items that wait and sends them together, without holding a
 * lone one back.
 *
 * An item that is added is sent at the end of the turn when nothing is under way. Else it waits
 * until a run ends, or until `gather` items wait and fewer than in_flight_max runs are under way;
 * the next run takes all that wait, up to count_max. So the busier it is, the larger the batches:
 * few small runs one beside the other would cost each stage behind them a wake-up (Nagle,
 * RFC 896, on another level). Order is kept within a batch and between sends.
 *
 *   rt_batch_add → (end of turn) send(run) → … → rt_batch_finish(run) → next run
 */
#ifndef RT_BATCH_H
#define RT_BATCH_H

#include "base/base.h"
#include "loop.h"

struct rt_batch; /* opaque */

struct rt_batch_item {
	struct rt_list link;
	bool waiting; /* added, and in no run yet; the batch's */
};
/* One batch under way. Comes zeroed, at the start of run_size bytes that are the sender's. */
struct rt_batch_run {
	struct rt_batch *batch;
	struct rt_list items; /* of struct rt_batch_item, in the order added */
	size_t count;
};
struct rt_batch_options {
	size_t count_max;     /* items in a run */
	size_t in_flight_max; /* runs under way */
	size_t gather;        /* items that a further run is worth; 0: one */
	size_t waiting_max;   /* items waiting; rt_batch_add refuses one more */
	size_t run_size;      /* sizeof the sender's run struct, which begins with rt_batch_run */
	void (*send)(struct rt_batch_run *run, void *user);
	void *user_data;
	struct rt_metrics *metrics; /* tandem_batches_total and tandem_batch_items_total; or NULL */
	const char *step;           /* their label: "order_place"; not kept */
};
int rt_batch_new(struct rt_loop *loop, const struct rt_batch_options *options,
		 struct rt_batch **ret);
/* Nothing may wait or be under way; the loop may still hold it for the rest of the turn. Takes
 * NULL. */
void rt_batch_free(struct rt_batch *batch);
/* False: waiting_max items wait already; nothing happened. */
bool rt_batch_add(struct rt_batch *batch, struct rt_batch_item *item);
/* Takes an item back that still waits. False: it is under way. */
bool rt_batch_remove(struct rt_batch *batch, struct rt_batch_item *item);
/* Takes back the item that has waited longest; NULL: none waits. */
struct rt_batch_item *rt_batch_pop(struct rt_batch *batch);
/* The sender is done with the run and with every item in it; frees the run. */
void rt_batch_finish(struct rt_batch_run *run);
/* The series that count batches and the items in them, for a step that gathers by other means. Without
 * metrics nothing is written. */
void rt_batch_metrics(struct rt_metrics *metrics, const char *step, struct rt_series **ret_batches,
		      struct rt_series **ret_items);
size_t rt_batch_waiting(const struct rt_batch *batch);
size_t rt_batch_in_flight(const struct rt_batch *batch);

#endif
