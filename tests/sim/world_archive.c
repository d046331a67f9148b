/* world_archive.c - stands in for the archive: now and then it says of some orders that it has all of them up to a version.
 *
 * Mostly that is true of a settled order. But it is slow, says things twice, and knows orders that are not there: so it also
 * names versions of before, orders that are not settled, what it has named already, and orders that never were.
 *
 * In the end it names each order that a failover has brought back, until it is dropped again: parts of it may be gone, in
 * partitions that have lost nothing. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "world_internal.h"

#define CALM_LOOKS 8
#define MADE_UP    "ord_aaaaaaaaaaaaaaaa"

bool world_is_made_up(const char *order_id)
{
	return strncmp(order_id, MADE_UP, strlen(MADE_UP)) == 0;
}

static void say(struct world *world, int partition, const char *name)
{
	static char type[] = "tandem.archive.v1.OrderArchived", time_key[] = "time";
	char stream[64], time[RT_TIME_TEXT];
	const struct memory_text fields[] = {
		{ type, strlen(type) },
		{ (char *)(uintptr_t)name, strlen(name) },
		{ time_key, strlen(time_key) },
		{ time, RT_TIME_TEXT - 1 },
	};

	rt_time_format(rt_loop_unix_ms(world->loop), time);
	snprintf(stream, sizeof(stream), "archive:{%d}:events", partition);
	world_say(world, "archive      has %s", name);
	stored_append(world->redis, stream, rt_loop_unix_ms(world->loop), fields,
		      RT_LENGTH(fields));
}

static void say_order(struct world *world, const char *order_id, uint64_t version)
{
	char *name = world->archived[world_roll(world, RT_LENGTH(world->archived))];

	snprintf(name, sizeof(world->archived[0]), "%s/%" PRIu64, order_id, version);
	say(world, stored_partition_of(world->redis, order_id), name);
}

static void consider(const struct order_record *record, void *user)
{
	struct world *world = user;
	bool settled = order_state_settled(record->state);
	uint64_t version = record->version;

	if (world_roll(world, settled ? world->archive_eager : 12 * world->archive_eager) > 0)
		return;
	/* What is lost then was not said to be settled. */
	if (!settled && world->options.plan.failover_every_ms > 0)
		return;
	if (version > 1 && world_roll(world, 5) == 0)
		version--;
	say_order(world, record->order_id, version);
}

/* Again, or of an order that never was. */
static void say_more(struct world *world)
{
	const char *name = world->archived[world_roll(world, RT_LENGTH(world->archived))];
	char order_id[ORDER_ID_LENGTH + 1];

	if (world_roll(world, 6) == 0) {
		snprintf(order_id, sizeof(order_id), MADE_UP "bcdefghijb");
		order_id[ORDER_ID_LENGTH - 2] = rt_base32_letter((unsigned)world_roll(world, 32));
		say_order(world, order_id, 3 + world_roll(world, 3));
	} else if (name[0] != '\0') {
		snprintf(order_id, sizeof(order_id), "%s", name);
		say(world, stored_partition_of(world->redis, order_id), name);
	}
}

static void say_again(const struct order_record *record, void *user)
{
	struct world *world = user;

	if (!order_state_settled(record->state) ||
	    !world_is_among(world->dropped_once, record->order_id))
		return;
	world->archive_waits = true;
	say_order(world, record->order_id, record->version);
}

static void next(struct world *world);

static void look(struct rt_timer *timer)
{
	struct world *world = RT_CONTAINER_OF(timer, struct world, archive_timer);

	stored_orders_each(world->redis, consider, world);
	if (world_roll(world, 3) == 0)
		say_more(world);
	world->archive_waits = false;
	if (world->calm && --world->archive_left == 0) {
		stored_orders_each(world->redis, say_again, world);
		world->archive_left += world->archive_waits;
	}
	if (!world->calm || world->archive_left > 0)
		next(world);
}

static void next(struct world *world)
{
	rt_timer_start(world->loop, &world->archive_timer, 100 + (int64_t)world_roll(world, 600),
		       look);
}

void world_archive_start(struct world *world)
{
	if (!world->options.drops)
		return;
	world->archive_eager = 1 + (unsigned)world_roll(world, 10);
	next(world);
}

void world_archive_calm(struct world *world)
{
	world->archive_left = CALM_LOOKS;
}

void world_archive_stop(struct world *world)
{
	rt_timer_stop(world->loop, &world->archive_timer);
	world_empty(&world->dropped);
	world_empty(&world->dropped_once);
}

bool world_archive_idle(const struct world *world)
{
	return !rt_timer_running(&world->archive_timer);
}
