/* The rules by which the gateway refuses a part of the new orders (gateway/shedding.h). */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "gateway/shedding.h"
#include "run.h"

#define LOOK_MS 200
/* As main.c has them. */
static const struct shed_limits limits = { .of = { [SHED_EVENTS] = 2000,
						   [SHED_AGE] = 30000,
						   [SHED_STORING] = 300,
						   [SHED_MEMORY] = 900 } };

/* What each number asks for. */
static void pressures(void)
{
	static const struct {
		const char *reason;
		struct shed_load load;
		bool on;
		double pressure;
		enum shed_cause cause;
	} rows[] = {
		{ "nothing to do", { { 0 } }, false, 0, 0 },
		{ "at the limit", { { 2000, 30000, 300, 900 } }, false, 0, 0 },
		{ "half way", { { 6000, 0, 0, 0 } }, false, 0.5, SHED_EVENTS },
		{ "all", { { 10000, 0, 0, 0 } }, false, 1, SHED_EVENTS },
		{ "never more than all", { { 1000000, 0, 0, 0 } }, false, 1, SHED_EVENTS },
		{ "an old event", { { 1, 90000, 0, 0 } }, false, 0.5, SHED_AGE },
		{ "slow storing", { { 0, 0, 900, 0 } }, false, 0.5, SHED_STORING },
		{ "half of the rest of the memory",
		  { { 0, 0, 0, 950 } },
		  false,
		  0.45,
		  SHED_MEMORY },
		{ "a full memory leaves some", { { 0, 0, 0, 1001 } }, false, 0.9, SHED_MEMORY },
		{ "the highest counts", { { 6000, 0, 1200, 950 } }, false, 0.75, SHED_STORING },
		{ "once on, down to half of the limit", { { 1000, 15000, 150, 900 } }, true, 0, 0 },
		{ "once on, at the limit", { { 2000, 0, 0, 0 } }, true, 1.0 / 9, SHED_EVENTS },
		{ "once on, all is all", { { 10000, 0, 0, 0 } }, true, 1, SHED_EVENTS },
		{ "memory has one limit", { { 0, 0, 0, 899 } }, true, 0, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		enum shed_cause cause = 0;
		double pressure = shed_pressure(&limits, &rows[i].load, rows[i].on, &cause);

		TEST_ROW(fabs(pressure - rows[i].pressure) < 1e-9, rows[i].reason);
		TEST_ROW(cause == rows[i].cause, rows[i].reason);
	}
}

static void without_limits(void)
{
	const struct shed_load load = { { 1000000, 1000000, 1000000, 1000 } };
	struct shedding shedding = { .on = false };
	struct shed_limits none = { .of = { 0 } };

	CU_ASSERT_FALSE(shed_look(&shedding, &none, &load, 1));
	CU_ASSERT_FALSE(shed_refuses(&shedding));
	none.of[SHED_MEMORY] = 1000; /* only above what Redis may use */
	CU_ASSERT_FALSE(shed_look(&shedding, &none, &load, 2));
}

/* Looks at the same load for so long; returns the time then. */
static int64_t looks(struct shedding *shedding, struct shed_load load, int64_t from_ms, int64_t ms)
{
	for (int64_t at = from_ms; at <= from_ms + ms; at += LOOK_MS)
		(void)shed_look(shedding, &limits, &load, at);
	return from_ms + ms;
}

/* How many of a thousand orders are refused. */
static int refused(struct shedding *shedding)
{
	int count = 0;

	for (int i = 0; i < 1000; i++)
		count += shed_refuses(shedding);
	return count;
}

static void begins_and_ends(void)
{
	const struct shed_load much = { { 6000, 0, 0, 0 } }, none = { { 0 } }, still = { { 1500 } };
	struct shedding shedding = { .on = false };
	int64_t now_ms = 1000000000;

	(void)shed_look(&shedding, &limits, &none, now_ms);
	CU_ASSERT_EQUAL(refused(&shedding), 0);
	/* A burst refuses nothing, also when nothing was heard for long before it. */
	for (int i = 0; i < 3; i++) {
		now_ms += 60000;
		CU_ASSERT_FALSE(shed_look(&shedding, &limits, &much, now_ms));
		CU_ASSERT_FALSE(shed_look(&shedding, &limits, &much, now_ms + LOOK_MS));
		CU_ASSERT_EQUAL(refused(&shedding), 0);
		CU_ASSERT_FALSE(shed_look(&shedding, &limits, &none, now_ms + 2 * LOOK_MS));
		CU_ASSERT_FALSE(shed_look(&shedding, &limits, &much, now_ms + 3 * LOOK_MS));
		CU_ASSERT_FALSE(shed_look(&shedding, &limits, &much, now_ms + 4 * LOOK_MS));
	}
	/* What stays begins. */
	CU_ASSERT(shed_look(&shedding, &limits, &much, now_ms + 5 * LOOK_MS));
	CU_ASSERT(shedding.share > 0 && shedding.share < 0.3);
	CU_ASSERT_FALSE(shed_look(&shedding, &limits, &much, now_ms + 6 * LOOK_MS));
	/* After two seconds it is what is asked. */
	now_ms = looks(&shedding, much, now_ms + 6 * LOOK_MS, 2000);
	CU_ASSERT(fabs(shedding.share - 0.55) < 0.02); /* (6000 - 1000) / 9000 */
	CU_ASSERT_EQUAL(shedding.cause, SHED_EVENTS);
	CU_ASSERT(abs(refused(&shedding) - 555) < 20);
	/* Below the limit, and not below half of it: less, and not the end. */
	now_ms = looks(&shedding, still, now_ms, 10000);
	CU_ASSERT(shedding.on && fabs(shedding.share - 500.0 / 9000) < 0.01);
	/* It ends within three seconds, once. */
	now_ms = looks(&shedding, much, now_ms, 2000);
	now_ms = looks(&shedding, none, now_ms, 3000);
	CU_ASSERT_FALSE(shedding.on);
	CU_ASSERT_EQUAL(refused(&shedding), 0);
	CU_ASSERT_FALSE(shed_look(&shedding, &limits, &none, now_ms + LOOK_MS));
}

static void all_are_refused(void)
{
	const struct shed_load all = { { 50000, 0, 0, 0 } };
	struct shedding shedding = { .on = false };
	int64_t now_ms = looks(&shedding, all, 1000, 10000);

	CU_ASSERT_EQUAL(refused(&shedding), 1000);
	CU_ASSERT_FALSE(shed_forget(&shedding, now_ms + SHED_STALE_MS));
	CU_ASSERT_EQUAL(refused(&shedding), 1000);
	CU_ASSERT(shed_forget(&shedding, now_ms + SHED_STALE_MS + 1));
	CU_ASSERT_EQUAL(refused(&shedding), 0);
	CU_ASSERT_FALSE(shed_forget(&shedding, now_ms + 2 * SHED_STALE_MS));
}

static void causes_have_names(void)
{
	for (unsigned int i = 0; i < SHED_CAUSE_COUNT; i++) {
		CU_ASSERT(strlen(shed_cause_word(i)) > 0);
		CU_ASSERT(strlen(shed_cause_text(i)) > 10);
	}
}

static const struct test tests[] = {
	{ "what each number asks for", pressures },
	{ "without limits nothing is refused", without_limits },
	{ "it begins and ends", begins_and_ends },
	{ "all are refused, until nothing is known", all_are_refused },
	{ "causes have names", causes_have_names },
};

TESTS_MAIN("shedding", tests)
