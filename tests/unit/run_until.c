/* run_until.c - see run_until.h. */
#include "run_until.h"

#include <CUnit/Basic.h>

#define PATIENCE_MS 20000
#define LOOK_MS     2

struct wait {
	struct rt_timer timer;
	struct rt_loop *loop;
	bool over;
};

static void time_passed(struct rt_timer *timer)
{
	struct wait *wait = RT_CONTAINER_OF(timer, struct wait, timer);

	wait->over = true;
	rt_loop_stop(wait->loop);
}

/* Lets the loop run for a moment. False: that has gone on for too long. */
static bool run_on(struct rt_loop *loop, const struct wait *patience)
{
	struct wait look = { .loop = loop };

	rt_timer_start(loop, &look.timer, LOOK_MS, time_passed);
	rt_loop_run(loop);
	rt_timer_stop(loop, &look.timer);
	return !patience->over;
}

void run_until_so(struct rt_loop *loop, bool (*wanted)(void))
{
	struct wait patience = { .loop = loop };

	rt_timer_start(loop, &patience.timer, PATIENCE_MS, time_passed);
	while (!wanted() && run_on(loop, &patience))
		;
	rt_timer_stop(loop, &patience.timer);
	CU_ASSERT_FALSE_FATAL(patience.over);
}

void run_until_count(struct rt_loop *loop, const int *count, int wanted)
{
	struct wait patience = { .loop = loop };

	rt_timer_start(loop, &patience.timer, PATIENCE_MS, time_passed);
	while (*count < wanted && run_on(loop, &patience))
		;
	rt_timer_stop(loop, &patience.timer);
	CU_ASSERT_EQUAL(*count, wanted);
}

void run_for(struct rt_loop *loop, int64_t ms)
{
	struct wait pause = { .loop = loop };

	rt_timer_start(loop, &pause.timer, ms, time_passed);
	while (!pause.over)
		rt_loop_run(loop);
}
