/* world_chaos.c - what befalls the house, one thing at a time, as the plan weighs them. */
#include <stdio.h>
#include <string.h>

#include "world_internal.h"

static const char *const stream_names[] = { MEMORY_ORDER_STREAM, MEMORY_INVENTORY_STREAM };
static const char *const group_names[] = { "inventory", "order" };

/* An entry that vanished, to come back. */
struct held_back {
	struct rt_list link;
	struct world *world;
	struct rt_timer timer;
	const char *stream;
	struct memory_entry entry;
};

static struct memory_stream *some_stream(struct world *world)
{
	size_t which = world_roll(world, RT_LENGTH(stream_names));

	return memory_stream_find(world->redis->streams, stream_names[which]);
}

/* Recent entries matter most. */
static struct memory_entry *some_entry(struct world *world, struct memory_stream *stream)
{
	size_t recent = world_roll(world, 3) == 0 ? stream->count : 6;
	size_t span = RT_MIN(stream->count, recent);

	return span == 0 ? NULL : &stream->entries[stream->count - 1 - world_roll(world, span)];
}

static void say_entry(struct world *world, const char *what, const struct memory_entry *entry)
{
	const char *type = strrchr(memory_entry_field(entry, "type"), '.');

	world_say(world, "%-12s ** %s %s %s v%s", "chaos", what, type == NULL ? "?" : type + 1,
		  world_short(memory_entry_field(entry, "subject")),
		  memory_entry_field(entry, "seq"));
}

static void write_again(struct world *world, const char *stream_name,
			const struct memory_entry *entry)
{
	struct memory_stream *stream = memory_stream_get(world->redis->streams, stream_name);
	struct memory_entry copy = *entry;

	copy.id = (struct memory_id){ .ms = RT_MAX(rt_loop_unix_ms(world->loop), stream->last.ms),
				      .n = stream->last.n + 1 };
	memory_stream_add(world->redis->streams, stream_name, &copy);
}

/* ---- entries ---- */

static void delete_entry(struct world *world, struct memory_stream *stream)
{
	struct memory_entry *entry = some_entry(world, stream);

	if (entry == NULL)
		return;
	say_entry(world, "lost:", entry);
	memory_stream_remove(stream, entry->id);
}

static void trim_stream(struct world *world, struct memory_stream *stream)
{
	struct memory_id low = stream->last;

	low.n++;
	world_say(world, "%-12s ** %s trimmed to nothing", "chaos", stream->name);
	memory_stream_trim(stream, low);
}

static void repeat_entry(struct world *world, struct memory_stream *stream)
{
	struct memory_entry *entry = some_entry(world, stream), copy;

	if (entry == NULL)
		return;
	say_entry(world, "repeated:", entry);
	memory_entry_copy(&copy, entry);
	write_again(world, stream->name, &copy);
	memory_entry_done(&copy);
}

static void come_back(struct rt_timer *timer)
{
	struct held_back *held = RT_CONTAINER_OF(timer, struct held_back, timer);
	struct world *world = held->world;

	say_entry(world, "back again:", &held->entry);
	write_again(world, held->stream, &held->entry);
	memory_entry_done(&held->entry);
	rt_list_remove(&held->link);
	free(held);
}

static void hold_back(struct world *world, struct memory_stream *stream)
{
	struct memory_entry *entry = some_entry(world, stream);
	struct held_back *held;

	if (entry == NULL)
		return;
	say_entry(world, "held back:", entry);
	held = rt_alloc(sizeof(*held));
	held->world = world;
	held->stream =
		strcmp(stream->name, stream_names[0]) == 0 ? stream_names[0] : stream_names[1];
	memory_entry_copy(&held->entry, entry);
	memory_stream_remove(stream, entry->id);
	rt_list_push(&world->held_back, &held->link);
	rt_timer_start(world->loop, &held->timer, 1 + (int64_t)world_roll(world, 8000), come_back);
}

static void add_poison(struct world *world, struct memory_stream *stream)
{
	static const char *const texts[][8] = {
		{ "what", "is this", "poison", "1" },
		{ "type", "tandem.order.v1.OrderNobodyKnows", "subject", "ord_x", "seq", "1",
		  "poison", "1" },
	};
	const char *const *text = texts[world_roll(world, RT_LENGTH(texts))];
	struct memory_entry entry = { .field_count = 0 };
	char *fields[8];
	size_t lengths[8];

	while (entry.field_count < 8 && text[entry.field_count] != NULL) {
		fields[entry.field_count] = (char *)(uintptr_t)text[entry.field_count];
		lengths[entry.field_count] = strlen(text[entry.field_count]);
		entry.field_count++;
	}
	entry.fields = fields;
	entry.lengths = lengths;
	world_say(world, "%-12s ** poison in %s", "chaos", stream->name);
	world->poison_count++;
	write_again(world, stream->name, &entry);
}

/* ---- stored data ---- */

struct refusal {
	struct world *world;
	uint64_t seen;
	char order_id[ORDER_ID_LENGTH + 1]; /* one of those that were seen, or "" */
};

static void find_refusal(const struct memory_reservation *reservation, void *user)
{
	struct refusal *refusal = user;
	struct order_record record;

	if (reservation->state == STOCK_UNAVAILABLE &&
	    memory_orders_find(refusal->world->redis->orders, reservation->order_id, &record) &&
	    record.state == ORDER_REJECTED && world_roll(refusal->world, ++refusal->seen) == 0)
		snprintf(refusal->order_id, sizeof(refusal->order_id), "%s", reservation->order_id);
}

/* Inventory forgets what it refused, and is asked once more: perhaps there is stock now. */
static void forget_refusal(struct world *world)
{
	struct memory_stream *stream =
		memory_stream_find(world->redis->streams, MEMORY_ORDER_STREAM);
	struct refusal refusal = { .world = world };

	memory_inventory_each(world->redis->inventory, find_refusal, &refusal);
	if (refusal.order_id[0] == '\0')
		return;
	world_say(world, "%-12s ** the refusal of %s is forgotten", "chaos",
		  world_short(refusal.order_id));
	memory_inventory_forget(world->redis->inventory, refusal.order_id);
	world_check_forget(world, refusal.order_id);
	for (size_t i = 0; stream != NULL && i < stream->count; i++) {
		struct memory_entry copy;

		if (strcmp(memory_entry_field(&stream->entries[i], "subject"), refusal.order_id) !=
			    0 ||
		    strcmp(memory_entry_field(&stream->entries[i], "seq"), "1") != 0)
			continue;
		memory_entry_copy(&copy, &stream->entries[i]);
		write_again(world, MEMORY_ORDER_STREAM, &copy);
		memory_entry_done(&copy);
		break;
	}
}

/* ---- groups and streams ---- */

static void forget_group(struct world *world, struct memory_stream *stream)
{
	size_t which = strcmp(stream->name, stream_names[0]) == 0 ? 0 : 1;

	world_say(world, "%-12s ** %s forgets its group", "chaos", stream->name);
	memory_group_destroy(stream, group_names[which]);
	memory_streams_wake(world->redis->streams);
}

static void forget_stream(struct world *world, struct memory_stream *stream)
{
	world_say(world, "%-12s ** %s is gone", "chaos", stream->name);
	memory_stream_delete(world->redis->streams, stream->name);
	memory_streams_wake(world->redis->streams);
}

/* ---- connections and processes ---- */

static void cut(struct process *process, bool away)
{
	if (process->dead)
		return;
	if (process->store_link != NULL)
		memory_link_cut(process->store_link, away);
	if (process->source_link != NULL)
		memory_link_cut(process->source_link, away);
}

static void cut_some(struct world *world)
{
	struct process *process = world_some_process(world);

	if (process == NULL)
		return;
	world_say(world, "%-12s ** %s loses its connections", "chaos", process->name);
	cut(process, false);
}

static void redis_back(struct world *world)
{
	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		if (process->store_link != NULL)
			memory_link_back(process->store_link);
		if (process->source_link != NULL)
			memory_link_back(process->source_link);
	}
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
	world_say(world, "%-12s ** Redis goes down", "chaos");
	world->redis_away = true;
	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next)
		cut(RT_CONTAINER_OF(at, struct process, link), true);
	rt_timer_start(world->loop, &world->redis_timer, 50 + (int64_t)world_roll(world, 3000),
		       on_redis_back);
}

static void kill_some(struct world *world)
{
	struct process *process = world_some_process(world);

	if (process != NULL)
		world_kill(process, "killed");
}

static void jump(struct world *world)
{
	int64_t ms = (int64_t)world_roll(world, 40000) - 10000;

	world_say(world, "%-12s ** the clock jumps by %lld ms", "chaos", (long long)ms);
	rt_loop_jump(world->loop, ms);
}

/* ---- one after the other ---- */

static void befall_stream(struct world *world, enum world_chaos kind)
{
	static void (*const acts[])(struct world * world, struct memory_stream * stream) = {
		[CHAOS_DELETE] = delete_entry,       [CHAOS_TRIM] = trim_stream,
		[CHAOS_REPEAT] = repeat_entry,       [CHAOS_HOLD_BACK] = hold_back,
		[CHAOS_FORGET_GROUP] = forget_group, [CHAOS_FORGET_STREAM] = forget_stream,
		[CHAOS_POISON] = add_poison,
	};
	struct memory_stream *stream = some_stream(world);

	if (stream != NULL)
		acts[kind](world, stream);
}

static void befall(struct world *world, enum world_chaos kind)
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
	default:
		befall_stream(world, kind);
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
		befall(world, (enum world_chaos)kind);
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
}

void world_chaos_stop(struct world *world)
{
	rt_timer_stop(world->loop, &world->chaos_timer);
	rt_timer_stop(world->loop, &world->redis_timer);
	if (world->redis_away)
		redis_back(world);
}

bool world_chaos_idle(const struct world *world)
{
	return rt_list_empty(&world->held_back);
}

void world_chaos_close(struct world *world)
{
	while (!rt_list_empty(&world->held_back)) {
		struct held_back *held =
			RT_CONTAINER_OF(world->held_back.next, struct held_back, link);

		rt_timer_stop(world->loop, &held->timer);
		memory_entry_done(&held->entry);
		rt_list_remove(&held->link);
		free(held);
	}
}

/* ---- a plan out of the seed: some things often, others not at all ---- */

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
		.stream_length_max =
			world_roll(world, 6) == 0 ? 60 + (int64_t)world_roll(world, 60) : 0,
		.chaos_every_ms =
			world_roll(world, 8) == 0 ? 0 : 200 + (int64_t)world_roll(world, 2500),
	};

	for (int i = 0; i < CHAOS_KINDS; i++)
		plan.chaos[i] = some_rate(world, 100);
	plan.chaos[CHAOS_FORGET_STREAM] /= 4;
	plan.chaos[CHAOS_TRIM] /= 2;
	return plan;
}
