/* in_step.c - knows which records and parts are in step, and has partitions reconciled whose are not (reconcile.c).
 *
 * A master that was replaced by a replica, or started again, may have lost its last writes. Within a slot everything
 * is kept or lost together; but the record of an order in partition p and its part in partition q can be apart then.
 *
 * Each master has a mark, the id of its replication history, which is another one after each promotion and each start.
 * Records in p and parts in q are *in step* while the marks of both masters are those that the last reconciliation of p
 * saw, and while nobody reconciles p because one of them is another one. A split order is served when its partition is in
 * step with itself and with those of its parts; others of the same partition may wait meanwhile.
 *
 * Each instance asks each partition for that, and for its generation, when a connection comes up and every second
 * (tick, INVENTORY_ASK_MS). A generation is noted in the store. It goes with the marks that were told with it: calls of an
 * older one are refused, and it is asked for again.
 *
 * Whichever instance sees that a partition is not in step with all others reconciles it, once the marks of all are
 * known; a lease spares work (reconcile.c). When it is in step again, what has waited is handled at once.
 *
 * Some time after that (--sweep-after) the partition is *swept*: parts that are held for orders without a record, which have not
 * asked again meanwhile, are released; first the record says so. With one partition none of this is there. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "reconcile_internal.h"

#define TICK_MS  100
#define AGAIN_MS 1000
#define RUNS_MAX                                                                                   \
	2 /* at the same time: what all others want of the masters waits behind their calls */

static void tick(struct rt_timer *timer);

static void tick_now(struct inventory_reconciler *reconciler)
{
	if (!reconciler->stopping)
		rt_timer_start(reconciler->loop, &reconciler->timer, 0, tick);
}

/* ---- marks ---- */

/* The digest of the marks as they are now. */
static void look_at_marks(struct inventory_reconciler *reconciler)
{
	struct rt_buf text = { NULL, 0, 0 };
	uint64_t *marks;
	bool known = true;

	if (!reconciler->marks_changed)
		return;
	reconciler->marks_changed = false;
	reconciler->digest[0] = '\0';
	marks = rt_alloc((size_t)reconciler->count * sizeof(*marks));
	for (int q = 0; q < reconciler->count; q++) {
		known = known && reconciler->partitions[q].known;
		marks[q] = reconciler->partitions[q].mark;
	}
	reconcile_marks_write(&text, marks, reconciler->count);
	if (known)
		reconcile_marks_digest(&text, reconciler->digest);
	free(marks);
	rt_buf_done(&text);
}

/* ---- what is in step ---- */

/* Whether the partition's master is still the one that was asked. */
static bool is_current(const struct inventory_reconciler *reconciler, int p)
{
	const struct watched *watched = &reconciler->partitions[p];

	return watched->known &&
	       watched->known_epoch == inventory_store_epoch(reconciler->store, p);
}

bool inventory_in_step(const struct inventory *inventory, int p, int q)
{
	const struct inventory_reconciler *reconciler = inventory->reconciler;

	return is_current(reconciler, p) && is_current(reconciler, q) &&
	       reconciler->partitions[p].seen[q] == reconciler->partitions[q].mark;
}

static bool is_all_in_step(const struct inventory_reconciler *reconciler, int p)
{
	const struct watched *watched = &reconciler->partitions[p];

	return watched->by[0] == '\0' && strcmp(watched->digest, reconciler->digest) == 0;
}

static void report_waiting(const struct inventory_reconciler *reconciler)
{
	struct rt_series *series = reconciler->inventory->reconcile_series.waiting;
	int waiting = 0;

	if (series == NULL)
		return;
	for (int p = 0; p < reconciler->count; p++)
		waiting +=
			reconciler->digest[0] == '\0' || !reconciler->partitions[p].known ||
			!is_all_in_step(reconciler, p) ||
			inventory_store_generation(reconciler->store, p) == INVENTORY_NO_GENERATION;
	rt_series_set(series, waiting);
}

/* ---- asking ---- */

/* Orders of the partition may be served now that could not be before. */
static void serve_again(struct inventory_reconciler *reconciler, int p)
{
	rt_context_outage_over(reconciler->inventory->context, p);
}

/* A master's mark; other partitions may be in step with it, or not any more. */
static void note_mark(struct watched *watched, uint64_t mark)
{
	struct inventory_reconciler *reconciler = watched->reconciler;
	int q = (int)(watched - reconciler->partitions);
	bool changed = !watched->known || watched->mark != mark;

	if (!changed && watched->known_epoch == watched->epoch)
		return;
	reconciler->marks_changed = reconciler->marks_changed || changed;
	watched->known = true;
	watched->known_epoch = watched->epoch;
	watched->mark = mark;
	for (int p = 0; p < reconciler->count; p++)
		if (reconciler->partitions[p].seen[q] == mark)
			serve_again(reconciler, p);
	tick_now(reconciler);
}

/* What the last reconciliation saw; while another one is going on, only what that one sees, too. */
static void note_seen(struct watched *watched, const char *marks, const char *under)
{
	int count = watched->reconciler->count;
	uint64_t *now;

	reconcile_marks_read(marks, watched->seen, count);
	if (watched->by[0] == '\0')
		return;
	now = rt_alloc((size_t)count * sizeof(*now));
	reconcile_marks_read(under, now, count);
	for (int q = 0; q < count; q++)
		if (watched->seen[q] != now[q])
			watched->seen[q] = MARK_NONE;
	free(now);
}

static void note_state(struct watched *watched, const struct inventory_call_op *op)
{
	struct inventory_reconciler *reconciler = watched->reconciler;
	int p = (int)(watched - reconciler->partitions);
	int64_t generation = strtoll(op->texts[1], NULL, 10);
	bool news = inventory_store_generation(reconciler->store, p) == INVENTORY_NO_GENERATION ||
		    generation != watched->generation ||
		    strcmp(watched->digest, op->texts[2]) != 0 ||
		    strcmp(watched->by, op->texts[3]) != 0;

	watched->generation = generation;
	snprintf(watched->digest, sizeof(watched->digest), "%s", op->texts[2]);
	snprintf(watched->by, sizeof(watched->by), "%s", op->texts[3]);
	watched->until_ms = strtoll(op->texts[4], NULL, 10);
	snprintf(watched->sweep, sizeof(watched->sweep), "%s", op->texts[5]);
	if (op->texts[6][0] != '\0')
		note_seen(watched, op->texts[6], op->texts[7]);
	inventory_store_set_generation(reconciler->store, p, generation, watched->epoch);
	note_mark(watched, reconcile_mark(op->texts[0]));
	if (news)
		serve_again(reconciler, p);
	look_at_marks(reconciler);
	report_waiting(reconciler);
}

static void state_asked(struct inventory_call_op *op, int status)
{
	struct watched *watched = RT_CONTAINER_OF(op, struct watched, op);
	struct inventory_reconciler *reconciler = watched->reconciler;

	watched->asking = false;
	if (watched->void_answer) {
		watched->void_answer = false;
		watched->asked_ms = 0;
	} else if (status == RT_OK) {
		watched->outdated = false;
		note_state(watched, op);
	}
	rt_context_release(reconciler->inventory->context);
}

static void ask(struct inventory_reconciler *reconciler, int p)
{
	struct watched *watched = &reconciler->partitions[p];
	uint64_t epoch = inventory_store_epoch(reconciler->store, p);
	int64_t now_ms = rt_loop_now(reconciler->loop), age_ms = now_ms - watched->asked_ms;
	bool waits = !is_current(reconciler, p) || !is_all_in_step(reconciler, p) ||
		     inventory_store_generation(reconciler->store, p) == INVENTORY_NO_GENERATION;

	if (watched->asking || (watched->asked_ms != 0 && epoch == watched->epoch &&
				age_ms < (waits ? TICK_MS : reconciler->inventory->ask_ms)))
		return;
	watched->asking = true;
	watched->asked_ms = now_ms;
	watched->epoch = epoch;
	rt_int_text(rt_loop_unix_ms(reconciler->loop), watched->now);
	/* Another master may tell other marks with the same generation. */
	rt_int_text(is_current(reconciler, p) ? watched->generation : INVENTORY_NO_GENERATION,
		    watched->known_generation);
	watched->op = (struct inventory_call_op){
		.partition = p,
		.function = "state",
		.argv = { watched->now, watched->known_generation, watched->digest, watched->by },
		.wanted = 8,
		.done = state_asked,
	};
	rt_context_hold(reconciler->inventory->context);
	inventory_store_call(reconciler->store, &watched->op);
}

void inventory_ask_generation(const struct inventory *inventory, int p)
{
	inventory->reconciler->partitions[p].asked_ms = 0;
	tick_now(inventory->reconciler);
}

/* ---- what is to be done ---- */

/* After an outage nothing is begun before all masters have been asked again (are_all_current); other failures may last. */
static int64_t pause_after(int status)
{
	return status == RT_OK || status == RT_LOST || status == RT_UNREADY ? TICK_MS : AGAIN_MS;
}

static void run_over(struct inventory_reconciler *reconciler, int p, int status)
{
	struct watched *watched = &reconciler->partitions[p];

	watched->asked_ms = 0;
	watched->outdated = true;
	watched->void_answer = watched->asking;
	watched->again_ms = rt_loop_now(reconciler->loop) + pause_after(status);
	watched->run = NULL;
	reconciler->runs--;
	tick_now(reconciler);
	rt_context_release(reconciler->inventory->context);
}

static void begin_run(struct inventory_reconciler *reconciler, int p,
		      void (*begin)(struct inventory_reconciler *reconciler, int p))
{
	reconciler->runs++;
	rt_context_hold(reconciler->inventory->context);
	begin(reconciler, p);
}

/* Whether another partition refuses the generation of this one for a higher one. A reconciliation has begun with that, and
 * told it there, too late for the next one; but its beginning was lost here. */
static bool is_behind(const struct inventory_reconciler *reconciler, int p)
{
	return inventory_store_refused_for(reconciler->store, p) >
	       reconciler->partitions[p].generation;
}

/* Does what there is to do in this partition, by this instance. */
static void take_up(struct inventory_reconciler *reconciler, int p)
{
	const struct watched *watched = &reconciler->partitions[p];
	int64_t now_ms = rt_loop_unix_ms(reconciler->loop);

	if (watched->run != NULL || watched->again_ms > rt_loop_now(reconciler->loop) ||
	    watched->outdated)
		return;
	if (!is_all_in_step(reconciler, p) || is_behind(reconciler, p)) {
		if (watched->by[0] == '\0' || strcmp(watched->by, reconciler->name) == 0 ||
		    watched->until_ms <= now_ms)
			begin_run(reconciler, p, reconcile_begin);
	} else if (watched->sweep[0] != '\0' && strtoll(watched->sweep, NULL, 10) <= now_ms &&
		   inventory_store_generation(reconciler->store, p) != INVENTORY_NO_GENERATION) {
		begin_run(reconciler, p, reconcile_sweep);
	}
}

/* Otherwise a mark may be of a master that is another one by now. */
static bool are_all_current(const struct inventory_reconciler *reconciler)
{
	for (int p = 0; p < reconciler->count; p++)
		if (!is_current(reconciler, p))
			return false;
	return true;
}

static void tick(struct rt_timer *timer)
{
	struct inventory_reconciler *reconciler =
		RT_CONTAINER_OF(timer, struct inventory_reconciler, timer);
	int first = (int)rt_loop_random(reconciler->loop, (uint64_t)reconciler->count);

	for (int p = 0; p < reconciler->count; p++)
		ask(reconciler, p);
	/* Several instances begin at different ones. */
	if (are_all_current(reconciler))
		for (int i = 0; i < reconciler->count && reconciler->runs < RUNS_MAX; i++)
			take_up(reconciler, (first + i) % reconciler->count);
	rt_timer_start(reconciler->loop, timer, TICK_MS, tick);
}

/* ---- its life ---- */

void inventory_reconcile_metrics(struct inventory_reconcile_series *series,
				 struct rt_metrics *metrics)
{
	static const char *const labels[] = { "to", NULL };
	struct rt_metric *parts;

	series->runs = rt_metric_plain(metrics, RT_COUNTER, "tandem_reconciliations_total",
				       "Partitions that were reconciled because a master was "
				       "replaced or started again.");
	parts = rt_metric(
		metrics, RT_COUNTER, "tandem_reconciled_parts_total",
		"Parts of split orders that reconciliations changed, by what they became; "
		"cancelled: orders that lost their reservation.",
		labels);
	series->released = rt_metric_series(parts, (const char *const[]){ "released" });
	series->committed = rt_metric_series(parts, (const char *const[]){ "committed" });
	series->reserved = rt_metric_series(parts, (const char *const[]){ "reserved" });
	series->cancelled = rt_metric_series(parts, (const char *const[]){ "cancelled" });
	series->waiting =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_partitions_not_in_step",
				"Partitions whose split orders wait for a reconciliation.");
}

struct inventory_reconciler *inventory_reconciler_new(struct inventory *inventory)
{
	struct inventory_store *store = inventory->store;
	int count = inventory_store_partitions(store);
	struct inventory_reconciler *reconciler =
		rt_alloc(sizeof(*reconciler) + (size_t)count * sizeof(reconciler->partitions[0]));
	uint32_t random;

	rt_loop_random_bytes(inventory->loop, &random, sizeof(random));
	snprintf(reconciler->name, sizeof(reconciler->name), "%08" PRIx32, random);
	reconciler->inventory = inventory;
	reconciler->loop = inventory->loop;
	reconciler->store = store;
	reconciler->count = count;
	reconciler->run_over = run_over;
	reconciler->seen = rt_alloc((size_t)count * (size_t)count * sizeof(*reconciler->seen));
	for (int p = 0; p < count; p++) {
		struct watched *watched = &reconciler->partitions[p];

		watched->reconciler = reconciler;
		watched->mark = MARK_NONE;
		watched->generation = INVENTORY_NO_GENERATION;
		watched->seen = &reconciler->seen[(size_t)p * (size_t)count];
		reconcile_marks_read("", watched->seen, count);
		inventory_store_set_generation(store, p, INVENTORY_NO_GENERATION, 0);
	}
	return reconciler;
}

void inventory_reconciler_start(struct inventory_reconciler *reconciler)
{
	tick(&reconciler->timer);
}

void inventory_reconciler_stop(struct inventory_reconciler *reconciler)
{
	reconciler->stopping = true;
	rt_timer_stop(reconciler->loop, &reconciler->timer);
}

void inventory_reconciler_free(struct inventory_reconciler *reconciler)
{
	if (reconciler == NULL)
		return;
	rt_timer_stop(reconciler->loop, &reconciler->timer);
	free(reconciler->seen);
	free(reconciler);
}
