/* gate.c - batches whose runs go the same way wait for each other, and go together.
 *
 * A gate lets small runs go when nothing is under way through it. When much is under way through all gates, a *round* begins:
 * a gate whose runs have ended waits for those of the other gates, so that all go together again. A gate through which
 * nothing has gone in the round does not wait: it joins.
 *
 *   PART_NONE ──a round begins, or it joins──▶ PART_AWAITED ──its runs have ended──▶ PART_ANSWERED ──all have──▶ PART_NONE
 *                                                   │ the others wait no longer
 *                                                   ▼
 *                                               PART_LATE ──its runs ended within late_ms──▶ PART_NONE
 *
 * The others wait for the last gates of a round as long again as those before took, and at least `late_ms`. One that is late
 * goes by itself until its runs end within `late_ms` again. What a gate sends after it was answered, because it is large, does
 * not make a round longer. */
#include "batch_internal.h"

enum part {
	PART_NONE,
	PART_AWAITED,
	PART_ANSWERED,
	PART_LATE,
};

struct rt_batch_gate {
	struct rt_list link;            /* rounds->gates */
	struct rt_batch_rounds *rounds; /* NULL: it was freed, and ends with the last run */
	struct rt_list waiting;         /* struct batch_waiter */
	size_t in_flight, items;        /* runs, and the items in them */
	int64_t busy_since_ms;          /* while any is under way */
	enum part part;
	bool open;
};

struct rt_batch_rounds {
	struct rt_loop *loop;
	struct rt_task task;
	struct rt_list gates;
	size_t worth;
	int64_t late_ms;
	size_t awaited; /* gates; 0: there is no round */
	int64_t began_ms;
	struct rt_timer late;
	bool freed; /* while the task was queued: the task frees */
};

#define FOR_EACH_GATE(gate, rounds)                                                                \
	for (struct rt_batch_gate *gate =                                                          \
		     RT_CONTAINER_OF((rounds)->gates.next, struct rt_batch_gate, link);            \
	     &gate->link != &(rounds)->gates;                                                      \
	     gate = RT_CONTAINER_OF(gate->link.next, struct rt_batch_gate, link))

static void look_soon(struct rt_batch_rounds *rounds)
{
	rt_loop_defer_last(rounds->loop, &rounds->task);
}

/* ---- a round ---- */

static void round_end(struct rt_batch_rounds *rounds)
{
	rt_timer_stop(rounds->loop, &rounds->late);
	rounds->awaited = 0;
	FOR_EACH_GATE(gate, rounds)
	{
		if (gate->part == PART_AWAITED)
			gate->part = PART_LATE;
		else if (gate->part == PART_ANSWERED)
			gate->part = PART_NONE;
	}
	look_soon(rounds);
}

static void round_late(struct rt_timer *timer)
{
	round_end(RT_CONTAINER_OF(timer, struct rt_batch_rounds, late));
}

static void await(struct rt_batch_rounds *rounds)
{
	FOR_EACH_GATE(gate, rounds)
	{
		if (gate->part == PART_NONE && gate->in_flight > 0) {
			gate->part = PART_AWAITED;
			rounds->awaited++;
		}
	}
}

/* After runs have gone: begins a round if they are worth it, or lets gates join. */
static void round_go(struct rt_batch_rounds *rounds)
{
	size_t items = 0;

	FOR_EACH_GATE(gate, rounds)
	{
		if (gate->part != PART_LATE)
			items += gate->items;
	}
	if (rounds->awaited == 0 && items < rounds->worth)
		return;
	if (rounds->awaited == 0)
		rounds->began_ms = rt_loop_now(rounds->loop);
	await(rounds);
}

/* A gate is not awaited any longer. */
static void round_without(struct rt_batch_rounds *rounds)
{
	int64_t took_ms = rt_loop_now(rounds->loop) - rounds->began_ms;

	if (--rounds->awaited == 0)
		round_end(rounds);
	else
		rt_timer_start(rounds->loop, &rounds->late, RT_MAX(took_ms, rounds->late_ms),
			       round_late);
}

/* ---- gates ---- */

static void gate_idle(struct rt_batch_gate *gate)
{
	struct rt_batch_rounds *rounds = gate->rounds;
	int64_t took_ms = rt_loop_now(rounds->loop) - gate->busy_since_ms;

	if (gate->part == PART_AWAITED) {
		gate->part = PART_ANSWERED;
		round_without(rounds);
	} else if (gate->part == PART_LATE && took_ms < rounds->late_ms) {
		gate->part = PART_NONE;
	}
	if (!rt_list_empty(&gate->waiting))
		look_soon(rounds);
}

static void gate_pass(struct rt_batch_gate *gate)
{
	struct rt_list now, *link;

	rt_list_init(&now);
	rt_list_move(&now, &gate->waiting);
	while ((link = rt_list_pop(&now)) != NULL) {
		struct batch_waiter *waiter = RT_CONTAINER_OF(link, struct batch_waiter, link);

		if (waiter->pass(waiter, gate) && rt_list_empty(&waiter->link))
			rt_list_push(&gate->waiting, &waiter->link);
	}
	gate->open = false;
}

/* All gates, so that what has waited for a round goes in one turn. */
static void look(struct rt_task *task)
{
	struct rt_batch_rounds *rounds = RT_CONTAINER_OF(task, struct rt_batch_rounds, task);

	if (rounds->freed) {
		free(rounds);
		return;
	}
	FOR_EACH_GATE(gate, rounds)
	{
		gate->open = gate->in_flight == 0 && gate->part != PART_ANSWERED;
	}
	FOR_EACH_GATE(gate, rounds)
	{
		gate_pass(gate);
	}
	round_go(rounds);
}

void batch_gate_wait(struct rt_batch_gate *gate, struct batch_waiter *waiter)
{
	if (rt_list_empty(&waiter->link))
		rt_list_push(&gate->waiting, &waiter->link);
	look_soon(gate->rounds);
}

bool batch_gate_open(const struct rt_batch_gate *gate)
{
	return gate->open;
}

void batch_gate_enter(struct rt_batch_gate *gate, struct rt_batch_run *run)
{
	run->gate = gate;
	run->gate_items = run->count;
	if (gate->in_flight++ == 0)
		gate->busy_since_ms = rt_loop_now(gate->rounds->loop);
	gate->items += run->count;
}

void rt_batch_leave(struct rt_batch_run *run)
{
	struct rt_batch_gate *gate = RT_TAKE(run->gate);

	if (gate == NULL)
		return;
	gate->items -= run->gate_items;
	if (--gate->in_flight > 0)
		return;
	if (gate->rounds == NULL)
		free(gate);
	else
		gate_idle(gate);
}

void rt_batch_gate_new(struct rt_batch_rounds *rounds, struct rt_batch_gate **ret)
{
	struct rt_batch_gate *gate = rt_alloc(sizeof(*gate));

	gate->rounds = rounds;
	rt_list_init(&gate->waiting);
	rt_list_push(&rounds->gates, &gate->link);
	*ret = gate;
}

void rt_batch_gate_free(struct rt_batch_gate *gate)
{
	struct rt_batch_rounds *rounds;
	struct rt_list *link;

	if (gate == NULL)
		return;
	rounds = RT_TAKE(gate->rounds);
	rt_list_remove(&gate->link);
	if (gate->part == PART_AWAITED)
		round_without(rounds);
	while ((link = rt_list_pop(&gate->waiting)) != NULL) {
		struct batch_waiter *waiter = RT_CONTAINER_OF(link, struct batch_waiter, link);

		waiter->free_of(waiter);
	}
	if (gate->in_flight == 0)
		free(gate);
}

void rt_batch_rounds_new(struct rt_loop *loop, size_t worth, int64_t late_ms,
			 struct rt_batch_rounds **ret)
{
	struct rt_batch_rounds *rounds = rt_alloc(sizeof(*rounds));

	rounds->loop = loop;
	rounds->worth = worth;
	rounds->late_ms = late_ms;
	rounds->task.run = look;
	rt_list_init(&rounds->gates);
	*ret = rounds;
}

void rt_batch_rounds_free(struct rt_batch_rounds *rounds)
{
	if (rounds == NULL)
		return;
	rt_timer_stop(rounds->loop, &rounds->late);
	if (rounds->task.queued)
		rounds->freed = true;
	else
		free(rounds);
}
