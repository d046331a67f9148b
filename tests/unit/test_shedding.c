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
						   [SHED_ARRIVING] = 50,
						   [SHED_MEMORY] = 900 } };

#define LOAD(events, age, storing, arriving, memory)                                               \
	{                                                                                          \
		.of = {(events), (age), (storing), (arriving), (memory) }                          \
	}

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
		{ "nothing to do", { .of = { 0 } }, false, 0, 0 },
		{ "at the limit", LOAD(2000, 30000, 300, 50, 900), false, 0, 0 },
		{ "half way", LOAD(6000, 0, 0, 0, 0), false, 0.5, SHED_EVENTS },
		{ "all", LOAD(10000, 0, 0, 0, 0), false, 1, SHED_EVENTS },
		{ "never more than all", LOAD(1000000, 0, 0, 0, 0), false, 1, SHED_EVENTS },
		{ "an old event", LOAD(1, 90000, 0, 0, 0), false, 0.5, SHED_AGE },
		{ "slow storing", LOAD(0, 0, 900, 0, 0), false, 0.5, SHED_STORING },
		{ "calls wait", LOAD(0, 0, 0, 150, 0), false, 0.5, SHED_ARRIVING },
		{ "half of the rest of the memory", LOAD(0, 0, 0, 0, 950), false, 0.45,
		  SHED_MEMORY },
		{ "a full memory leaves some", LOAD(0, 0, 0, 0, 1001), false, 0.9, SHED_MEMORY },
		{ "the highest counts", LOAD(6000, 0, 1200, 0, 950), false, 0.75, SHED_STORING },
		{ "once on, down to half of the limit", LOAD(1000, 15000, 150, 25, 900), true, 0,
		  0 },
		{ "once on, at the limit", LOAD(2000, 0, 0, 0, 0), true, 1.0 / 9, SHED_EVENTS },
		{ "once on, all is all", LOAD(10000, 0, 0, 0, 0), true, 1, SHED_EVENTS },
		{ "memory has one limit", LOAD(0, 0, 0, 0, 899), true, 0, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		enum shed_cause cause = 0;
		double pressure = shed_pressure(&limits, &rows[i].load, rows[i].on, &cause);

		TEST_ROW(fabs(pressure - rows[i].pressure) < 1e-9, rows[i].reason);
		TEST_ROW(cause == rows[i].cause, rows[i].reason);
	}
}

/* Where it is known how many orders leave the queue, so many are taken. */
static void as_many_as_leave(void)
{
	static const struct {
		const char *reason;
		double value, flow, offered;
		bool on;
		double pressure;
	} rows[] = {
		{ "up to the limit nothing", 300, 1000, 9000, false, 0 },
		{ "at the limit as many as leave", 300, 1000, 2000, true, 0.5 },
		{ "no more come", 300, 1000, 1000, true, 0 },
		{ "half a second more: half", 800, 1000, 2000, true, 0.75 },
		{ "below it more", 50, 1000, 2000, true, 0.375 },
		{ "a tenth at least", 60000, 1000, 2000, true, 0.95 },
		{ "some always", 60000, 1000, 1000000, true, 0.98 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct shed_load load = { .of = { [SHED_STORING] = (int64_t)rows[i].value },
					  .flow = { [SHED_STORING] = rows[i].flow },
					  .offered = rows[i].offered };
		enum shed_cause cause = SHED_STORING;
		double pressure = shed_pressure(&limits, &load, rows[i].on, &cause);

		TEST_ROW(fabs(pressure - rows[i].pressure) < 1e-9, rows[i].reason);
		TEST_ROW(cause == SHED_STORING, rows[i].reason);
	}
}

/* A queue that serves `rate` orders a second and gets what is let through. Returns how long it takes at the end, in ms;
 * *ret_most: at most, from a second on. */
static double queue_after(double rate, double offered, int64_t ms, double *ret_most)
{
	struct shedding shedding = { .on = false };
	struct shed_load load = { .flow = { [SHED_STORING] = rate }, .offered = offered };
	double queue = 0;

	*ret_most = 0;
	for (int64_t now_ms = 1; now_ms <= ms; now_ms++) {
		double come = offered / 1000 * (1 - shedding.share);

		queue = RT_MAX(queue + come - rate / 1000, 0);
		load.of[SHED_STORING] = (int64_t)(queue / rate * 1000);
		if (now_ms % 100 == 0)
			(void)shed_look(&shedding, &limits, &load, now_ms);
		if (now_ms > 1000)
			*ret_most = RT_MAX(*ret_most, queue / rate * 1000);
	}
	return queue / rate * 1000;
}

/* Whatever comes too much, the queue comes to its limit and stays there. */
static void queue_stays_at_its_limit(void)
{
	static const double factors[] = { 1.2, 2, 4, 10 };

	for (size_t i = 0; i < RT_LENGTH(factors); i++) {
		double most, rate = 5000, at_end;

		at_end = queue_after(rate, rate * factors[i], 20000, &most);
		CU_ASSERT(fabs(at_end - 300) < 30);
		/* What came before it began, which was 0.25 s above the limit, and no more. */
		CU_ASSERT(most < 300 + 600 * (factors[i] - 1) + 100);
	}
}

static void without_limits(void)
{
	const struct shed_load load = LOAD(1000000, 1000000, 1000000, 1000000, 1000);
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
	const struct shed_load much = { .of = { 6000, 0, 0, 0 } }, none = { .of = { 0 } },
			       still = { .of = { 1500 } };
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
	}
	/* What stays begins. */
	CU_ASSERT(shed_look(&shedding, &limits, &much, now_ms + 4 * LOOK_MS));
	CU_ASSERT(fabs(shedding.share - 4000.0 / 8000) < 0.01);
	CU_ASSERT_FALSE(shed_look(&shedding, &limits, &much, now_ms + 5 * LOOK_MS));
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
	const struct shed_load all = { .of = { 50000, 0, 0, 0 } };
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
	{ "as many are taken as leave the queue", as_many_as_leave },
	{ "a queue stays at its limit", queue_stays_at_its_limit },
	{ "without limits nothing is refused", without_limits },
	{ "it begins and ends", begins_and_ends },
	{ "all are refused, until nothing is known", all_are_refused },
	{ "causes have names", causes_have_names },
};

TESTS_MAIN("shedding", tests)
