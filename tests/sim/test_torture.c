/* test_torture.c - every I/O of the main flows fails once: before it takes effect, after it did,
 * or its process dies at that point. The n-th I/O fails in the n-th run, until there are fewer
 * than n. Whatever fails, the client is told in the end, and every promise is kept. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "run.h"
#include "world.h"

static void reserve(struct world *world)
{
	world_order(world, "r1", "apple", 2, 60000, FATE_LEAVE);
}

static void reject(struct world *world)
{
	world_order(world, "r1", "apple", 6, 60000, FATE_LEAVE);
}

static void confirm(struct world *world)
{
	world_order(world, "r1", "apple", 2, 60000, FATE_CONFIRM);
}

static void cancel(struct world *world)
{
	world_order(world, "r1", "apple", 2, 60000, FATE_CANCEL);
}

static void expire(struct world *world)
{
	world_order(world, "r1", "apple", 2, 1000, FATE_LEAVE);
	world_run(world, 3000);
}

static void adjust(struct world *world)
{
	world_stock(world, "apple", -3);
	world_stock(world, "pear", 4);
}

static const struct flow {
	const char *name;
	void (*run)(struct world *world);
	unsigned n_min; /* it has that many I/Os at least */
} flows[] = {
	{ "reserve", reserve, 5 }, { "reject", reject, 5 }, { "confirm", confirm, 8 },
	{ "cancel", cancel, 8 },   { "expire", expire, 8 }, { "adjust", adjust, 3 },
};

static const char *const kind_names[] = { "none", "fails before", "fails after", "kills before",
					  "kills after" };

/* Returns false when the flow has fewer than n I/Os. */
static bool run_once(const struct flow *flow, enum world_nth kind, unsigned n)
{
	struct world_options options = { .seed = 11, .record = true };
	struct world *world = world_new(&options);
	bool hit;

	world_stock(world, "apple", 5);
	world_torture(world, kind, n);
	flow->run(world);
	hit = world_nth_hit(world);
	world_calm(world);
	if (world_run_until_quiet(world, WORLD_QUIET_MS))
		world_check(world);
	if (world_violations(world)[0] != '\0') {
		printf("\n    %s, I/O %u %s:\n%s%s", flow->name, n, kind_names[kind],
		       world_transcript(world), world_violations(world));
		CU_FAIL("a promise was broken");
	}
	world_free(world);
	return hit;
}

static void torture(enum world_nth kind)
{
	unsigned runs = 0;

	for (size_t i = 0; i < RT_LENGTH(flows); i++) {
		unsigned n = 1;

		while (run_once(&flows[i], kind, n))
			n++;
		TEST_ROW(n > flows[i].n_min, flows[i].name);
		runs += n;
	}
	printf("%u runs ", runs);
}

static void fails_before(void)
{
	torture(NTH_FAIL_BEFORE);
}

static void fails_after(void)
{
	torture(NTH_FAIL_AFTER);
}

static void kills_before(void)
{
	torture(NTH_KILL_BEFORE);
}

static void kills_after(void)
{
	torture(NTH_KILL_AFTER);
}

int main(void)
{
	static const struct test tests[] = {
		{ "each I/O fails without its effect", fails_before },
		{ "each I/O takes effect and its answer is lost", fails_after },
		{ "the process dies before each I/O", kills_before },
		{ "the process dies after each I/O", kills_after },
	};

	tests_log_nothing();
	return tests_run("torture", tests, RT_LENGTH(tests));
}
