/* world_low.c - whether StockLow is published once for each step that leaves fewer available than the threshold and found
 * as many or more, in that step, with the counters behind it.
 *
 *   world_low_step     after a function of inventory: of which SKUs is an event due now?
 *   world_low_event    a new StockLow: was it due?
 *   world_low_lost     a failover took steps back, and their events with them */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "world_internal.h"

/* What a step has left due is told in the same step. */
static void check_told(struct world *world)
{
	for (size_t i = 0; i < WORLD_SKUS; i++) {
		if (world->low[i].due)
			world_violation(world, "%s fell below its threshold, and nobody was told",
					world_skus[i]);
		world->low[i].due = false;
	}
}

static struct stock stock_of(const struct world *world, size_t sku)
{
	return stored_stock(world->redis, world_sku_partition(world, sku), world_skus[sku]);
}

void world_low_step(void *user, const struct memory_text *argv)
{
	struct world *world = user;
	int partition;

	if (strcmp(argv[0].data, "FCALL") != 0 ||
	    sscanf(argv[3].data, "inventory:{%d}:", &partition) != 1)
		return;
	check_told(world);
	for (size_t i = 0; i < WORLD_SKUS; i++) {
		struct stock stock;

		if (world_sku_partition(world, i) != partition)
			continue;
		stock = stock_of(world, i);
		world->low[i].due = stock_is_low(&stock) && !world->low[i].is;
		world->low[i].is = stock_is_low(&stock);
	}
}

void world_low_event(struct world *world, const char *sku, const struct rt_entry_event *event)
{
	struct stock stock = stock_of(world, world_sku(sku));
	Tandem__Inventory__V1__StockLow *low = tandem__inventory__v1__stock_low__unpack(
		NULL, event->data.length, (const uint8_t *)event->data.data);

	if (!world->low[world_sku(sku)].due)
		world_violation(world, "StockLow of %s v%" PRIu64 ", which did not fall", sku,
				event->seq);
	world->low[world_sku(sku)].due = false;
	if (low == NULL || low->stock == NULL || strcmp(low->stock->sku, sku) != 0 ||
	    low->stock->available != stock.available ||
	    low->stock->low_stock_threshold != stock.threshold ||
	    low->stock->version != stock.version || event->seq != stock.version)
		world_violation(world, "StockLow of %s v%" PRIu64 " is not what is stored", sku,
				event->seq);
	tandem__inventory__v1__stock_low__free_unpacked(low, NULL);
}

void world_low_lost(struct world *world, int master)
{
	check_told(world);
	for (size_t i = 0; i < WORLD_SKUS; i++) {
		struct stock stock;

		if (memory_master_at(world->redis, world_sku_partition(world, i)) != master)
			continue;
		stock = stock_of(world, i);
		world->low[i].is = stock_is_low(&stock);
	}
}
