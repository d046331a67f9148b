/* test_clock.c - how samples of another machine's clock change the offset. */
#include "loop/loop.h"
#include "run.h"

static void samples(void)
{
	static const struct {
		const char *name;
		int64_t before_us, sent_us, received_us, server_us, after_us;
	} rows[] = {
		{ "inside the bounds: stays", 1000, 50, 70, 1065, 1000 },
		{ "above them: down to the highest", 1100, 50, 70, 1065, 1015 },
		{ "below them: up to the lowest", 900, 50, 70, 1065, 995 },
		{ "a slow answer: wide bounds", 1100, 50, 2050, 1065, 1015 },
		{ "a slow answer: stays", 1000, 50, 9050, 2065, 1000 },
		{ "the server's clock steps back an hour", 1000, 50, 70, -3600000000, -3600000050 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_clock clock = { .known = true, .offset_us = rows[i].before_us };

		rt_clock_sample(&clock, rows[i].sent_us, rows[i].received_us, rows[i].server_us);
		TEST_ROW(clock.offset_us == rows[i].after_us, rows[i].name);
	}
}

static void first_sample(void)
{
	struct rt_clock clock = { .known = false };

	rt_clock_sample(&clock, 50, 70, 1060);
	CU_ASSERT_TRUE(clock.known);
	CU_ASSERT_EQUAL(clock.offset_us, 1000);
}

static void loop_follows(void)
{
	const int64_t hour_us = INT64_C(3600000000);
	struct rt_loop *loop;
	int64_t wall_ms;

	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&loop), RT_OK);
	wall_ms = rt_loop_unix_ms(loop);
	/* An hour behind this machine's wall clock. */
	rt_loop_set_unix(loop, wall_ms * 1000 - rt_monotonic_ns() / 1000 - hour_us);
	CU_ASSERT_TRUE(rt_loop_unix_ms(loop) < wall_ms - hour_us / 2000);
	CU_ASSERT_TRUE(rt_loop_unix_ms(loop) >= wall_ms - hour_us / 1000 - 1);
	rt_loop_free(loop);
}

static const struct test tests[] = {
	{ "a sample bounds the offset", samples },
	{ "the first sample is taken in its middle", first_sample },
	{ "a loop shows the time that was set", loop_follows },
};

TESTS_MAIN("clock", tests)
