/* world_loss.c - masters that fail over, and what may be lost with them.
 *
 * A replica hears nothing from some moment on; a while later it takes over. What its master did meanwhile never
 * happened: the records, events and counters of its partitions go back together. Without replicas that must confirm
 * a step (world_options), what clients were answered meanwhile may be gone, and is not asked for in the end. With
 * them nothing that was answered may be.
 *
 *   on_loss        now and then: chooses a master
 *     lag          its replica begins to lag
 *       fail_over  a while later: the replica takes over, or it hears everything again */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "world_internal.h"

/* ---- orders ---- */

struct some_order {
	char order_id[ORDER_ID_LENGTH + 1];
	UT_hash_handle hh;
};

bool world_is_among(const struct some_order *orders, const char *order_id)
{
	struct some_order *found;

	HASH_FIND_STR(orders, order_id, found);
	return found != NULL;
}

void world_add_to(struct some_order **orders, const char *order_id)
{
	struct some_order *order;

	if (world_is_among(*orders, order_id))
		return;
	order = rt_alloc(sizeof(*order));
	snprintf(order->order_id, sizeof(order->order_id), "%s", order_id);
	HASH_ADD_STR(*orders, order_id, order);
}

void world_empty(struct some_order **orders)
{
	struct some_order *order, *next;

	HASH_ITER (hh, *orders, order, next) {
		HASH_DEL(*orders, order);
		free(order);
	}
}

/* ---- what services say of it ---- */

/* What says that something is gone that was sold, or promised to be. */
static const char *const owed_messages[] = {
	"stock that was sold to an order is not there",
	"stock that was promised to an order is not there",
};

static void on_log(const char *line, void *user)
{
	static const char key[] = "order_id=";
	const char *id = strstr(line, key);
	struct world *world = user;
	char order_id[ORDER_ID_LENGTH + 1];
	bool owed = false;

	for (size_t i = 0; i < RT_LENGTH(owed_messages); i++)
		owed = owed || strstr(line, owed_messages[i]) != NULL;
	if (id == NULL || (!owed && strstr(line, "unexpected request of an order") == NULL))
		return;
	snprintf(order_id, sizeof(order_id), "%s", id + strlen(key));
	world_add_to(&world->named, order_id);
	if (!owed)
		return;
	world_say(world, "%-12s ** %s is owed something", "log", world_short(order_id));
	world->counts.owed++;
	if (world->options.replicas > 0)
		world_violation(world, "%s is owed something, though all was replicated", order_id);
}

bool world_is_named(const struct world *world, const char *order_id)
{
	return world->options.replicas == 0 && world->counts.failovers > 0 &&
	       world_is_among(world->named, order_id);
}

static void no_log(const char *line, void *user)
{
	(void)line;
	(void)user;
}

/* ---- failovers ---- */

static int number_of(const struct world_master *master)
{
	return (int)(master - master->world->masters);
}

bool world_has_lost(const struct world *world, int partition, int64_t since_ms)
{
	return world->masters[memory_master_at(world->redis, partition)].lost_ms >= since_ms;
}

int world_sku_partition(const struct world *world, size_t sku)
{
	return rt_bucket_partition(rt_bucket(world_skus[sku], strlen(world_skus[sku])),
				   world->options.partitions);
}

/* What clients have learned since the replica heard the last may be gone; what they have only seen also if it waits
 * for replicas. */
static void doubt_booked(struct world_master *master)
{
	struct world *world = master->world;
	bool durable = world->options.replicas > 0;

	for (struct booked *at = world->booked; at != NULL; at = at->next) {
		int partition = stored_partition_of(world->redis, at->order_id);

		if (memory_master_at(world->redis, partition) != number_of(master))
			continue;
		if (at->version_ms >= master->lags_since_ms)
			at->version = 0;
		if (at->held_ms >= master->lags_since_ms)
			at->held_until_ms = 0;
		if (!durable && at->booked_ms >= master->lags_since_ms)
			at->may_be_lost = true;
		if (!durable && at->ended_ms >= master->lags_since_ms)
			at->confirmed = at->cancelled = false;
		if (!durable && at->returned_ms >= master->lags_since_ms)
			at->returns_unsure = true;
	}
}

static void doubt_adjusted(struct world_master *master)
{
	struct world *world = master->world;

	for (struct adjusted *at = world->adjusted; at != NULL; at = at->next)
		if (memory_master_at(world->redis, world_sku_partition(world, at->sku)) ==
			    number_of(master) &&
		    at->ms >= master->lags_since_ms)
			at->maybe = true;
}

static void lose_it(struct world_master *master)
{
	struct world *world = master->world;

	master->lost_ms = rt_loop_now(world->loop);
	world_check_lost(world, number_of(master), master->seen_before);
	world_low_lost(world, number_of(master));
	world_chaos_lost(world, number_of(master));
	doubt_booked(master);
	if (world->options.replicas == 0)
		doubt_adjusted(master);
}

static void fail_over(struct rt_timer *timer)
{
	struct world_master *master = RT_CONTAINER_OF(timer, struct world_master, timer);
	struct world *world = master->world;
	int64_t back_ms = 1 + (int64_t)world_roll(world, world_roll(world, 2) == 0 ? 100 : 3000);

	if (world_roll(world, 8) == 0) {
		world_say(world, "%-12s ** replica %d has everything", "chaos", number_of(master));
		memory_master_caught_up(world->redis, number_of(master));
		return;
	}
	world_say(world, "%-12s ** replica %d is the master now", "chaos", number_of(master));
	world->counts.failovers++;
	memory_master_fails_over(world->redis, number_of(master), back_ms);
	lose_it(master);
}

/* In some failovers a process of inventory goes on behind them with what it read before. */
static void let_stand_still(struct world *world)
{
	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		if (process->role == ROLE_INVENTORY && !process->dead &&
		    world_roll(world, 4) == 0) {
			world_stand_still(process);
			return;
		}
	}
}

static void lag(struct world *world, struct world_master *master)
{
	int64_t lag_ms = (int64_t)world_roll(world, world_roll(world, 2) == 0 ? 30 : 3000);

	if (rt_timer_running(&master->timer))
		return;
	world_say(world, "%-12s ** replica %d hears nothing for %lld ms", "chaos",
		  number_of(master), (long long)lag_ms);
	master->lags_since_ms = rt_loop_now(world->loop);
	master->seen_before = world->seen_count;
	memory_master_lags(world->redis, number_of(master));
	rt_timer_start(world->loop, &master->timer, lag_ms, fail_over);
	let_stand_still(world);
}

static void on_loss(struct rt_timer *timer)
{
	struct world *world = RT_CONTAINER_OF(timer, struct world, loss_timer);

	lag(world, &world->masters[world_roll(world, (uint64_t)world->redis->master_count)]);
	world_loss_start(world);
}

void world_loss_start(struct world *world)
{
	int64_t every_ms = world->options.plan.failover_every_ms;

	if (every_ms > 0)
		rt_timer_start(world->loop, &world->loss_timer,
			       (int64_t)world_roll(world, (uint64_t)every_ms * 2 + 1), on_loss);
}

void world_loss_stop(struct world *world)
{
	rt_timer_stop(world->loop, &world->loss_timer);
	for (int i = 0; i < world->redis->master_count; i++) {
		rt_timer_stop(world->loop, &world->masters[i].timer);
		memory_master_caught_up(world->redis, i);
	}
}

/* ---- the end ---- */

const char *world_out_of_step(struct world *world)
{
	static char problem[80];
	struct rt_buf marks = { NULL, 0, 0 };

	for (int q = 0; q < world->options.partitions; q++)
		rt_buf_printf(&marks, "%s%016" PRIx64, q > 0 ? " " : "",
			      world->redis->masters[memory_master_at(world->redis, q)].history);
	problem[0] = '\0';
	for (int p = 0; p < world->options.partitions && world->options.partitions > 1; p++) {
		const struct memory_text *seen = NULL, *by = NULL, *sweep = NULL;
		const struct memory_key *key;
		char name[64];

		snprintf(name, sizeof(name), "inventory:{%d}:reconciliation", p);
		key = memory_find(world->redis, name, MEMORY_HASH);
		if (key != NULL) {
			seen = memory_field(key, "marks");
			by = memory_field(key, "by");
			sweep = memory_field(key, "sweep");
		}
		if (seen == NULL || strcmp(seen->data, marks.data) != 0 || by != NULL ||
		    sweep->length > 0)
			snprintf(problem, sizeof(problem), "partition %d is not %s", p,
				 seen != NULL && strcmp(seen->data, marks.data) == 0 && by == NULL
					 ? "swept"
					 : "in step");
	}
	rt_buf_done(&marks);
	return problem[0] == '\0' ? NULL : problem;
}

void world_loss_open(struct world *world)
{
	rt_log_init("world", RT_WARN, false);
	rt_log_sink(on_log, world);
	for (int i = 0; i < MEMORY_MASTERS_MAX; i++) {
		world->masters[i].world = world;
		world->masters[i].lost_ms = -1;
	}
}

void world_loss_close(struct world *world)
{
	rt_log_sink(no_log, NULL);
	world_empty(&world->named);
}
