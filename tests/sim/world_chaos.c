/* world_chaos.c - what goes wrong around the services, one thing at a time, weighted by the plan. */
#include <stdio.h>
#include <string.h>

#include "world_internal.h"

/* An entry that was deleted and will be added again. */
struct held_back {
	struct rt_list link;
	struct world *world;
	struct rt_timer timer;
	const char *stream;
	struct memory_entry entry; /* a copy */
};

/* Mostly a recent one: those matter most. */
static struct memory_entry *some_entry(struct world *world, const struct memory_stream *stream)
{
	size_t recent = world_roll(world, 3) == 0 ? stream->count : 6;
	size_t span = RT_MIN(stream->count, recent);

	return span == 0 ? NULL : &stream->entries[stream->count - 1 - world_roll(world, span)];
}

static void say_entry(struct world *world, const char *what, const struct memory_entry *entry)
{
	struct rt_entry_event *events;
	size_t count = stored_events(entry, &events);
	char who[32];

	snprintf(who, sizeof(who), "chaos        ** %s", what);
	for (size_t i = 0; i < count; i++)
		world_say_event(world, who, &events[i], false);
	free(events);
}

static void write_again(struct world *world, const char *stream, const struct memory_entry *entry)
{
	stored_append(world->redis, stream, rt_loop_unix_ms(world->loop), entry->fields,
		      entry->field_count);
}

static void delete_it(struct world *world, const char *stream, const struct memory_entry *entry)
{
	char id[MEMORY_ID_TEXT];

	memory_id_format(entry->id, id);
	memory_do(world->redis, "XDEL", stream, id, NULL);
}

/* ---- entries ---- */

static void delete_entry(struct world *world, const char *name, const struct memory_stream *stream)
{
	const struct memory_entry *entry = some_entry(world, stream);

	if (entry == NULL)
		return;
	say_entry(world, "lost:", entry);
	world->order_events_lost |= name[0] == 'o';
	delete_it(world, name, entry);
}

static void trim_stream(struct world *world, const char *name, const struct memory_stream *stream)
{
	(void)stream;
	world_say(world, "%-12s ** %s trimmed to nothing", "chaos", name);
	world->order_events_lost |= name[0] == 'o';
	memory_do(world->redis, "XTRIM", name, "MAXLEN", "0", NULL);
}

static void repeat_entry(struct world *world, const char *name, const struct memory_stream *stream)
{
	const struct memory_entry *entry = some_entry(world, stream);

	if (entry == NULL)
		return;
	say_entry(world, "repeated:", entry);
	write_again(world, name, entry);
}

static void held_free(struct held_back *held)
{
	rt_timer_stop(held->world->loop, &held->timer);
	free(held->entry.fields);
	rt_list_remove(&held->link);
	free(held);
}

static void come_back(struct rt_timer *timer)
{
	struct held_back *held = RT_CONTAINER_OF(timer, struct held_back, timer);

	say_entry(held->world, "back again:", &held->entry);
	write_again(held->world, held->stream, &held->entry);
	held_free(held);
}

static void hold_back(struct world *world, const char *name, const struct memory_stream *stream)
{
	const struct memory_entry *entry = some_entry(world, stream);
	struct held_back *held;

	if (entry == NULL)
		return;
	say_entry(world, "held back:", entry);
	held = rt_alloc(sizeof(*held));
	held->world = world;
	held->stream = name;
	held->entry = memory_entry_copy(entry);
	delete_it(world, name, entry);
	rt_list_push(&world->held_back, &held->link);
	rt_timer_start(world->loop, &held->timer, 1 + (int64_t)world_roll(world, 8000), come_back);
}

static void add_poison(struct world *world, const char *name, const struct memory_stream *stream)
{
	static const char *const texts[][8] = {
		{ "what", "is this", "poison", "1" },
		{ "type", "tandem.order.v1.OrderNobodyKnows", "subject", "ord_x", "seq", "1",
		  "poison", "1" },
	};
	const char *const *text = texts[world_roll(world, RT_LENGTH(texts))];
	struct memory_text fields[8];
	size_t count = 0;

	(void)stream;
	for (; count < RT_LENGTH(fields) && text[count] != NULL; count++)
		fields[count] =
			(struct memory_text){ (char *)(uintptr_t)text[count], strlen(text[count]) };
	world_say(world, "%-12s ** poison in %s", "chaos", name);
	world->poison_count++;
	stored_append(world->redis, name, rt_loop_unix_ms(world->loop), fields, count);
}

/* ---- stored data ---- */

struct refusal {
	struct world *world;
	uint64_t seen;
	char order_id[ORDER_ID_LENGTH + 1]; /* one of those seen, at random, or "" */
};

/* Of an order whose parts are looked at. */
struct holding {
	const char *order_id;
	bool any;
};

static void note_holding(const struct stored_reservation *part, void *user)
{
	struct holding *holding = user;

	holding->any = holding->any ||
		       ((part->state == STOCK_RESERVED || part->state == STOCK_COMMITTED) &&
			strcmp(part->order_id, holding->order_id) == 0);
}

/* Whether a part of it holds something, which a failover may have brought back: that is not forgotten. */
static bool holds_something(struct world *world, const char *order_id)
{
	struct holding holding = { .order_id = order_id };

	stored_parts_each(world->redis, note_holding, &holding);
	return holding.any;
}

static void find_refusal(const struct stored_reservation *reservation, void *user)
{
	struct refusal *refusal = user;
	struct order_record record;

	if (reservation->state == STOCK_UNAVAILABLE &&
	    stored_order(refusal->world->redis, reservation->order_id, &record) &&
	    record.state == ORDER_REJECTED &&
	    !holds_something(refusal->world, reservation->order_id) &&
	    world_roll(refusal->world, ++refusal->seen) == 0)
		snprintf(refusal->order_id, sizeof(refusal->order_id), "%s", reservation->order_id);
}

/* Inventory forgets a refusal, and the request is repeated: there may be stock now. */
static void forget_refusal(struct world *world)
{
	const struct memory_stream *stream;
	struct refusal refusal = { .world = world };
	char key[64];

	stored_reservations_each(world->redis, find_refusal, &refusal);
	/* A hold that is late must find what the order's end has left: only a failover loses that, and holds of before it are
	 * refused. */
	if (refusal.order_id[0] == '\0' || memory_late_count(world->redis) > 0)
		return;
	world_say(world, "%-12s ** the refusal of %s is forgotten", "chaos",
		  world_short(refusal.order_id));
	for (int p = 0; p < world->options.partitions; p++) {
		snprintf(key, sizeof(key), "inventory:{%d}:r", p);
		memory_do(world->redis, "HDEL", key, refusal.order_id, NULL);
		snprintf(key, sizeof(key), "inventory:{%d}:parts", p);
		memory_do(world->redis, "HDEL", key, refusal.order_id, NULL);
	}
	world_check_forget(world, refusal.order_id);
	snprintf(key, sizeof(key), "order:{%d}:events",
		 stored_partition_of(world->redis, refusal.order_id));
	stream = memory_stream_find(world->redis, key);
	for (size_t i = 0; stream != NULL && i < stream->count; i++) {
		struct rt_entry_event *events;
		size_t count = stored_events(&stream->entries[i], &events);
		bool found = false;

		for (size_t k = 0; k < count; k++)
			found = found || (events[k].seq == 1 &&
					  events[k].subject.length == strlen(refusal.order_id) &&
					  memcmp(events[k].subject.data, refusal.order_id,
						 events[k].subject.length) == 0);
		free(events);
		if (found) {
			write_again(world, key, &stream->entries[i]);
			break;
		}
	}
}

/* ---- groups and streams ---- */

static void destroy_group(struct world *world, const char *name, const struct memory_stream *stream)
{
	(void)stream;
	world_say(world, "%-12s ** %s loses its group", "chaos", name);
	memory_do(world->redis, "XGROUP", "DESTROY", name,
		  strncmp(name, "order:", 6) == 0 ? "inventory" : "order", NULL);
}

static void delete_stream(struct world *world, const char *name, const struct memory_stream *stream)
{
	(void)stream;
	world_say(world, "%-12s ** %s is deleted", "chaos", name);
	world->order_events_lost |= name[0] == 'o';
	memory_do(world->redis, "DEL", name, NULL);
}

/* ---- connections and processes ---- */

static void cut_some(struct world *world)
{
	struct process *process = world_some_process(world);

	if (process == NULL)
		return;
	world_say(world, "%-12s ** %s loses its connections", "chaos", process->name);
	memory_host_cut(&process->host, false);
}

static void redis_back(struct world *world)
{
	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next)
		memory_host_back(&RT_CONTAINER_OF(at, struct process, link)->host);
	world->redis_away = false;
	world_say(world, "%-12s ** Redis is back", "chaos");
}

static void on_redis_back(struct rt_timer *timer)
{
	redis_back(RT_CONTAINER_OF(timer, struct world, redis_timer));
}

static void restart_redis(struct world *world)
{
	if (world->redis_away)
		return;
	world_say(world, "%-12s ** Redis ends", "chaos");
	world->redis_away = true;
	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next)
		memory_host_cut(&RT_CONTAINER_OF(at, struct process, link)->host, true);
	for (int i = 0; i < world->redis->master_count; i++)
		memory_master_restarts(world->redis, i);
	rt_timer_start(world->loop, &world->redis_timer, 50 + (int64_t)world_roll(world, 3000),
		       on_redis_back);
}

static void kill_some(struct world *world)
{
	struct process *process = world_some_process(world);

	if (process != NULL)
		world_kill(process, "killed");
}

void world_stand_still(struct process *process)
{
	struct world *world = process->world;
	int64_t ms = 100 + (int64_t)world_roll(world, world_roll(world, 2) == 0 ? 500 : 8000);

	world_say(world, "%-12s ** %s stands still for %lld ms", "chaos", process->name,
		  (long long)ms);
	memory_host_stands_still(&process->host, ms);
}

static void stand_still(struct world *world)
{
	struct process *process = world_some_process(world);

	if (process != NULL)
		world_stand_still(process);
}

static void jump(struct world *world)
{
	int64_t ms = (int64_t)world_roll(world, 40000) - 10000;

	world_say(world, "%-12s ** the clock jumps by %lld ms", "chaos", (long long)ms);
	rt_loop_jump(world->loop, ms);
}

/* ---- one after the other ---- */

static void disturb_stream(struct world *world, enum world_chaos kind)
{
	static void (*const acts[])(struct world * world, const char *name,
				    const struct memory_stream *stream) = {
		[CHAOS_DELETE] = delete_entry,         [CHAOS_TRIM] = trim_stream,
		[CHAOS_REPEAT] = repeat_entry,         [CHAOS_HOLD_BACK] = hold_back,
		[CHAOS_DESTROY_GROUP] = destroy_group, [CHAOS_DELETE_STREAM] = delete_stream,
		[CHAOS_POISON] = add_poison,
	};
	const char *name = world->streams[world_roll(world, world->stream_count)].name;
	const struct memory_stream *stream = memory_stream_find(world->redis, name);

	if (stream != NULL)
		acts[kind](world, name, stream);
}

static void disturb(struct world *world, enum world_chaos kind)
{
	world->counts.chaos++;
	switch (kind) {
	case CHAOS_CUT:
		cut_some(world);
		break;
	case CHAOS_RESTART_REDIS:
		restart_redis(world);
		break;
	case CHAOS_KILL:
		kill_some(world);
		break;
	case CHAOS_JUMP:
		jump(world);
		break;
	case CHAOS_FORGET_REFUSAL:
		forget_refusal(world);
		break;
	case CHAOS_STAND_STILL:
		stand_still(world);
		break;
	default:
		disturb_stream(world, kind);
		break;
	}
}

static void chaos_next(struct world *world);

static void on_chaos(struct rt_timer *timer)
{
	struct world *world = RT_CONTAINER_OF(timer, struct world, chaos_timer);
	const struct world_plan *plan = &world->options.plan;
	unsigned sum = 0, at;
	int kind = 0;

	for (int i = 0; i < CHAOS_KINDS; i++)
		sum += plan->chaos[i];
	if (sum > 0) {
		at = (unsigned)world_roll(world, sum);
		while (at >= plan->chaos[kind])
			at -= plan->chaos[kind++];
		disturb(world, (enum world_chaos)kind);
	}
	chaos_next(world);
}

static void chaos_next(struct world *world)
{
	int64_t every_ms = world->options.plan.chaos_every_ms;

	if (every_ms > 0)
		rt_timer_start(world->loop, &world->chaos_timer,
			       (int64_t)world_roll(world, (uint64_t)every_ms * 2 + 1), on_chaos);
}

void world_chaos_start(struct world *world)
{
	chaos_next(world);
	world_loss_start(world);
}

void world_chaos_stop(struct world *world)
{
	rt_timer_stop(world->loop, &world->chaos_timer);
	rt_timer_stop(world->loop, &world->redis_timer);
	world_loss_stop(world);
	if (world->redis_away)
		redis_back(world);
}

bool world_chaos_idle(const struct world *world)
{
	return rt_list_empty(&world->held_back);
}

void world_chaos_lost(struct world *world, int master)
{
	struct rt_list *at = world->held_back.next, *next;

	for (; at != &world->held_back; at = next) {
		struct held_back *held = RT_CONTAINER_OF(at, struct held_back, link);
		const struct memory_stream *stream = memory_stream_find(world->redis, held->stream);

		next = at->next;
		if (memory_master_of(world->redis, held->stream) == master &&
		    (stream == NULL || memory_id_compare(held->entry.id, stream->last) > 0))
			held_free(held);
	}
}

void world_chaos_close(struct world *world)
{
	while (!rt_list_empty(&world->held_back))
		held_free(RT_CONTAINER_OF(world->held_back.next, struct held_back, link));
}

/* ---- a plan from the seed: some faults often, others never ---- */

static unsigned some_rate(struct world *world, unsigned most)
{
	static const unsigned shares[] = { 0, 0, 5, 20, 100 };

	return most * shares[world_roll(world, RT_LENGTH(shares))] / 100;
}

struct world_plan world_random_plan(struct world *world)
{
	struct world_plan plan = {
		.io_before = some_rate(world, 1000),
		.io_after = some_rate(world, 1000),
		.io_late = some_rate(world, 500),
		.io_delay = some_rate(world, 3000),
		.io_slow = some_rate(world, 100),
		.io_kill = some_rate(world, 60),
		.call_before = some_rate(world, 1000),
		.call_after = some_rate(world, 1500),
		.call_delay = some_rate(world, 1500),
		.latency_ms = (int64_t)world_roll(world, 4),
		.chaos_every_ms =
			world_roll(world, 8) == 0 ? 0 : 200 + (int64_t)world_roll(world, 2500),
	};

	for (int i = 0; i < CHAOS_KINDS; i++)
		plan.chaos[i] = some_rate(world, 100);
	plan.chaos[CHAOS_DELETE_STREAM] /= 4;
	plan.chaos[CHAOS_TRIM] /= 2;
	if (world->options.partitions > 1 && world_roll(world, 4) > 0)
		plan.failover_every_ms = 400 + (int64_t)world_roll(world, 4000);
	if (world->options.partitions > 1)
		plan.hold_late = some_rate(world, 5000);
	plan.sheds = world->options.seed % 8 == 3;
	return plan;
}
