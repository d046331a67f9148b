/* batch.c - group commit.
 *
 * Waiting items hang in one list. A deferred task (end of the turn) takes as many runs off it as
 * may start; a run that finishes defers the task again. So what arrives within one turn travels
 * together, and what arrives while a run is under way waits for its end or for company.
 *
 * With a gate (gate.c) that does so, for all batches that wait there, after the tasks of all others. */
#include "batch_internal.h"

/* A run beside others' is worth so many times `gather`: the round that it would wait for is short. */
#define AT_GATE 2

struct rt_batch {
	struct rt_loop *loop;
	struct rt_batch_options options;
	struct rt_list waiting;
	size_t waiting_count, in_flight;
	struct rt_task flush;
	struct batch_waiter at_gate;
	struct rt_series *runs, *items; /* NULL: not counted */
	bool freed;                     /* while the task was queued: the task frees */
};

static struct rt_batch_gate *gate_of(const struct rt_batch *batch)
{
	return batch->options.gate != NULL ? batch->options.gate(batch->options.user_data) : NULL;
}

static bool too_heavy(const struct rt_batch *batch, size_t weight)
{
	return batch->options.weight_max > 0 && weight > batch->options.weight_max;
}

/* The number and weight of the next items that go together: a unit, as much of it as fits in a run, or a single item. */
static size_t unit_size(const struct rt_batch *batch, size_t *ret_weight)
{
	const struct rt_list *link = batch->waiting.next;
	const void *unit = RT_CONTAINER_OF(link, struct rt_batch_item, link)->unit;
	size_t count = 0;

	*ret_weight = 0;
	for (; link != &batch->waiting && count < batch->options.count_max; link = link->next) {
		const struct rt_batch_item *item =
			RT_CONTAINER_OF(link, struct rt_batch_item, link);

		if (count > 0 && (unit == NULL || item->unit != unit ||
				  too_heavy(batch, *ret_weight + item->weight)))
			break;
		*ret_weight += item->weight;
		count++;
	}
	return count;
}

static struct rt_batch_run *batch_take(struct rt_batch *batch)
{
	struct rt_batch_run *run = rt_alloc(batch->options.run_size);
	struct rt_batch_gate *gate;
	size_t weight = 0;

	run->batch = batch;
	rt_list_init(&run->items);
	while (!rt_list_empty(&batch->waiting)) {
		size_t unit_weight, count = unit_size(batch, &unit_weight);

		weight += unit_weight;
		if (run->count > 0 &&
		    (run->count + count > batch->options.count_max || too_heavy(batch, weight)))
			break;
		run->count += count;
		while (count-- > 0)
			rt_list_push(&run->items, rt_list_pop(&batch->waiting));
	}
	batch->waiting_count -= run->count;
	batch->in_flight++;
	gate = gate_of(batch);
	if (gate != NULL)
		batch_gate_enter(gate, run);
	if (batch->runs != NULL) {
		rt_series_add(batch->runs, 1);
		rt_series_add(batch->items, (double)run->count);
	}
	return run;
}

static bool batch_may_send(const struct rt_batch *batch)
{
	const struct rt_batch_gate *gate = gate_of(batch);
	size_t worth = RT_MAX(batch->options.gather, 1) * (gate != NULL ? AT_GATE : 1);

	if (batch->in_flight == 0 && (gate == NULL || batch_gate_open(gate)))
		return batch->waiting_count > 0;
	return batch->in_flight < batch->options.in_flight_max && batch->waiting_count >= worth;
}

static void batch_send(struct rt_batch *batch)
{
	/* If a sender finishes its run at once, the loop's condition sees it. */
	while (batch_may_send(batch))
		batch->options.send(batch_take(batch), batch->options.user_data);
}

/* Sends at the end of the turn what may be sent. */
static void batch_go_on(struct rt_batch *batch)
{
	struct rt_batch_gate *gate = gate_of(batch);

	if (gate != NULL)
		batch_gate_wait(gate, &batch->at_gate);
	else
		rt_loop_defer(batch->loop, &batch->flush);
}

static void batch_flush(struct rt_task *task)
{
	struct rt_batch *batch = RT_CONTAINER_OF(task, struct rt_batch, flush);

	if (batch->freed)
		free(batch);
	else if (gate_of(batch) != NULL)
		batch_go_on(
			batch); /* meanwhile it has one, or another one than that which was freed */
	else
		batch_send(batch);
}

static bool batch_pass(struct batch_waiter *waiter, struct rt_batch_gate *gate)
{
	struct rt_batch *batch = RT_CONTAINER_OF(waiter, struct rt_batch, at_gate);

	if (gate_of(batch) != gate) {
		batch_go_on(batch);
		return false;
	}
	batch_send(batch);
	return batch->waiting_count > 0;
}

static void batch_free_of_gate(struct batch_waiter *waiter)
{
	struct rt_batch *batch = RT_CONTAINER_OF(waiter, struct rt_batch, at_gate);

	rt_loop_defer(batch->loop, &batch->flush);
}

void rt_batch_metrics(struct rt_metrics *metrics, const char *step, struct rt_series **ret_batches,
		      struct rt_series **ret_items)
{
	static const char *const labels[] = { "step", NULL };
	const char *values[] = { step };

	if (metrics == NULL)
		return;
	*ret_batches = rt_metric_series(rt_metric(metrics, RT_COUNTER, "tandem_batches_total",
						  "Batches sent, by step.", labels),
					values);
	*ret_items = rt_metric_series(rt_metric(metrics, RT_COUNTER, "tandem_batch_items_total",
						"Items in the batches sent, by step.", labels),
				      values);
}

int rt_batch_new(struct rt_loop *loop, const struct rt_batch_options *options,
		 struct rt_batch **ret)
{
	struct rt_batch *batch;

	if (options->count_max == 0 || options->in_flight_max == 0 || options->waiting_max == 0 ||
	    options->run_size < sizeof(struct rt_batch_run) || options->send == NULL)
		return RT_INVALID;
	batch = rt_alloc(sizeof(*batch));
	batch->loop = loop;
	batch->options = *options;
	batch->flush.run = batch_flush;
	rt_list_init(&batch->waiting);
	rt_list_init(&batch->at_gate.link);
	batch->at_gate.pass = batch_pass;
	batch->at_gate.free_of = batch_free_of_gate;
	rt_batch_metrics(options->metrics, options->step, &batch->runs, &batch->items);
	*ret = batch;
	return RT_OK;
}

void rt_batch_free(struct rt_batch *batch)
{
	if (batch == NULL)
		return;
	rt_list_remove(&batch->at_gate.link);
	if (batch->flush.queued)
		batch->freed = true;
	else
		free(batch);
}

bool rt_batch_add(struct rt_batch *batch, struct rt_batch_item *item)
{
	if (batch->waiting_count >= batch->options.waiting_max)
		return false;
	rt_list_init(&item->link);
	rt_list_push(&batch->waiting, &item->link);
	batch->waiting_count++;
	if (gate_of(batch) != NULL || batch_may_send(batch))
		batch_go_on(batch);
	return true;
}

struct rt_batch_item *rt_batch_pop(struct rt_batch *batch)
{
	struct rt_list *link = rt_list_pop(&batch->waiting);

	if (link == NULL)
		return NULL;
	batch->waiting_count--;
	return RT_CONTAINER_OF(link, struct rt_batch_item, link);
}

void rt_batch_finish(struct rt_batch_run *run)
{
	struct rt_batch *batch = run->batch;

	rt_batch_leave(run);
	free(run);
	batch->in_flight--;
	if (batch->waiting_count > 0)
		batch_go_on(batch);
}
