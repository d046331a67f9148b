/* run_until.h - a loop in real time runs until what a test waits for is so, or for a while. */
#ifndef TESTS_RUN_UNTIL_H
#define TESTS_RUN_UNTIL_H

#include <stdbool.h>

#include "loop/loop.h"

/* Looks every 2 ms, and whenever rt_loop_stop was called; after 20 s the test has failed, fatally. */
void run_until_so(struct rt_loop *loop, bool (*wanted)(void));
/* The same until *count is `wanted`; when it is already more, the test has failed. */
void run_until_count(struct rt_loop *loop, const int *count, int wanted);
/* For what must not happen meanwhile, or takes that long. */
void run_for(struct rt_loop *loop, int64_t ms);

#endif
