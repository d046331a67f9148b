/* test_torture.c - every I/O of the main flows fails once: before its effect, after it, or its
 * process dies at that point. The n-th I/O fails in the n-th run, until a flow has fewer than n.
 * Whatever fails, the client gets an answer in the end, and every promise is kept. */
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
	unsigned n_min; /* it has at least so many I/Os */
} flows[] = {
	{ "reserve", reserve, 5 }, { "reject", reject, 5 }, { "confirm", confirm, 8 },
	{ "cancel", cancel, 8 },   { "expire", expire, 8 }, { "adjust", adjust, 3 },
};

static const struct {
	enum world_nth kind;
	const char *name;
} faults[] = {
	{ NTH_FAIL_BEFORE, "fails without its effect" },
	{ NTH_FAIL_AFTER, "takes effect and its answer is lost" },
	{ NTH_KILL_BEFORE, "is not sent: the process dies" },
	{ NTH_KILL_AFTER, "takes effect, then the process dies" },
};

/* Returns false when the flow has fewer than n I/Os. */
static bool run_once(const struct flow *flow, size_t fault, unsigned n)
{
	struct world_options options = { .seed = 11, .record = true };
	struct world *world = world_new(&options);
	bool hit;

	world_stock(world, "apple", 5);
	world_torture(world, faults[fault].kind, n);
	flow->run(world);
	hit = world_nth_hit(world);
	world_calm(world);
	if (world_run_until_quiet(world, WORLD_QUIET_MS))
		world_check(world);
	if (world_violations(world)[0] != '\0') {
		printf("\n    %s, I/O %u %s:\n%s%s", flow->name, n, faults[fault].name,
		       world_transcript(world), world_violations(world));
		CU_FAIL("a promise was broken");
	}
	world_free(world);
	return hit;
}

static void each_io_fails(void)
{
	for (size_t at = 0; at < RT_LENGTH(faults) * RT_LENGTH(flows); at++) {
		const struct flow *flow = &flows[at % RT_LENGTH(flows)];
		size_t fault = at / RT_LENGTH(flows);
		char name[80];
		unsigned n = 1;

		while (run_once(flow, fault, n))
			n++;
		snprintf(name, sizeof(name), "%s, an I/O %s", flow->name, faults[fault].name);
		TEST_ROW(n > flow->n_min, name);
	}
}

int main(void)
{
	static const struct test tests[] = {
		{ "each I/O fails once, before and after its effect", each_io_fails },
	};

	tests_log_nothing();
	return tests_run("torture", tests, RT_LENGTH(tests));
}
