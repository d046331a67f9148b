/* world_seed.c - the run of a seed: how many processes and clients, what goes wrong and how often,
 * and whether all promises were kept in the end. */
#include "world_internal.h"

#define MASTERS_MAX 3

/* Chosen so that each number occurs with each other one. */
static int partitions_of(uint64_t seed)
{
	return seed / 8 % 2 == 0 ? 1 : 2 << seed / 16 % 3;
}

static int masters_of(uint64_t seed)
{
	return RT_MIN(1 + (int)(seed / 64 % MASTERS_MAX), partitions_of(seed));
}

static int replicas_of(uint64_t seed)
{
	return partitions_of(seed) == 1 ? 0 : (int)(seed / 192 % 2);
}

/* Each is a digit of a number that depends on every bit of the seed: so few seeds have all of them. */
static struct world_pace pace_of(uint64_t seed)
{
	uint64_t mixed = seed * UINT64_C(0x9e3779b97f4a7c15) >> 40;

	return (struct world_pace){ .timers = 1 << mixed % 4,
				    .claims = 1 << mixed / 4 % 2,
				    .marks = 1 << mixed / 8 % 4 };
}

/* One seed of five, half of them with what shops do after the sale. The others are as they were without. */
static bool drops_of(uint64_t seed)
{
	return seed % 10 == 1 || seed % 10 == 4;
}

/* -1: at any time. */
static int64_t kept_of(uint64_t seed)
{
	static const int64_t kept[] = { -1, -1, 200, 2000 };

	return kept[seed / 10 % RT_LENGTH(kept)];
}

bool world_bug_may_show(enum world_bug bug, uint64_t seed)
{
	if (bug == BUG_R8_NO_WAIT && replicas_of(seed) == 0)
		return false;
	if (bug >= BUG_DROP_ANY_VERSION && bug <= BUG_DROP_AFRESH)
		return drops_of(seed);
	return bug < BUG_LOW_PARTS || partitions_of(seed) > 1;
}

struct world *world_run_seed(uint64_t seed, enum world_bug bug, bool record)
{
	struct world_options options = { .seed = seed, .bug = bug, .record = record };
	struct world *world;

	options.orders = 1 + (int)(seed % 2);
	options.inventories = 1 + (int)(seed / 2 % 2);
	options.gateways = 1 + (int)(seed / 4 % 2);
	options.partitions = partitions_of(seed);
	options.masters = masters_of(seed);
	options.replicas = replicas_of(seed);
	/* In some runs the decision timeout applies; in others only an answer can decide an order. */
	options.decision_ms = seed % 3 == 0 ? 4000 : 2 * WORLD_QUIET_MS;
	/* Four seeds of ten. The others are as they were without: among them are those that find the rarest bugs, for which
	 * thousands of runs were looked through (test_seeds.c). */
	options.shop = seed % 10 == 2 || seed % 10 == 4 || seed % 10 == 6 || seed % 10 == 9;
	options.drops = drops_of(seed);
	options.kept_ms = options.drops ? kept_of(seed) : 0;
	options.pace = pace_of(seed);
	options.stream_length_max = seed % 5 == 0 ? 60 + (int64_t)(seed / 5 % 60) : 0;
	world = world_new(&options);
	for (int i = 0; i < WORLD_SKUS; i++)
		world_stock(world, world_skus[i], 5 + (int64_t)world_roll(world, 40));
	world->options.plan = world_random_plan(world);
	world_clients_start(world, 1 + (unsigned)world_roll(world, 5));
	world_chaos_start(world);
	world_archive_start(world);
	world_run(world, 3000 + (int64_t)world_roll(world, 15000));
	world_calm(world);
	if (world_run_until_quiet(world, WORLD_QUIET_MS))
		world_check(world);
	return world;
}
