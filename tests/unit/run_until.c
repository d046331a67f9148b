/* run_until.c - a loop in real time runs until what a test waits for is so. */
#include "run_until.h"

#include <CUnit/Basic.h>

#define PATIENCE_MS 20000
#define LOOK_MS     2

struct wait {
	struct rt_timer patience, look;
	struct rt_loop *loop;
	bool over;
};

static void patience_over(struct rt_timer *timer)
{
	struct wait *wait = RT_CONTAINER_OF(timer, struct wait, patience);

	wait->over = true;
	rt_loop_stop(wait->loop);
}

static void look_again(struct rt_timer *timer)
{
	rt_loop_stop(RT_CONTAINER_OF(timer, struct wait, look)->loop);
}

void run_until_so(struct rt_loop *loop, bool (*wanted)(void))
{
	struct wait wait = { .loop = loop };

	rt_timer_start(loop, &wait.patience, PATIENCE_MS, patience_over);
	while (!wait.over && !wanted()) {
		rt_timer_start(loop, &wait.look, LOOK_MS, look_again);
		rt_loop_run(loop);
		rt_timer_stop(loop, &wait.look);
	}
	rt_timer_stop(loop, &wait.patience);
	CU_ASSERT_FALSE_FATAL(wait.over);
}
