/* run_until.h - a loop in real time runs until what a test waits for is so. */
#ifndef TESTS_RUN_UNTIL_H
#define TESTS_RUN_UNTIL_H

#include <stdbool.h>

#include "loop/loop.h"

/* Looks every 2 ms, and whenever rt_loop_stop was called; after 20 s the test has failed, fatally. */
void run_until_so(struct rt_loop *loop, bool (*wanted)(void));

#endif
