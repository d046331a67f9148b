/* functions.h - a watch over a context's Redis functions: whether the server has this version of them,
 * and would run them now.
 *
 * Asked when the connection comes up, every second after that, and when a call says that a function is
 * missing. What is missing is loaded where the user may; services may not, there an operator must. The
 * question is a call of the function "version": it costs what the smallest command costs, and Redis
 * refuses it when it would refuse the others (it is a replica, its disk is full).
 * Threads: loop thread only. */
#ifndef RT_FUNCTIONS_H
#define RT_FUNCTIONS_H

#include "redis.h"

struct rt_functions_watch {
	struct rt_loop *loop;
	struct rt_redis *redis;
	const struct rt_functions *functions;
	struct rt_functions_op op;
	struct rt_timer timer;
	bool asking, stopped;
	bool loaded; /* they were there when last asked, on this connection */
	char problem[200];
};

/* `watch` is zeroed, and stopped before `redis` is freed; redis and functions are borrowed. */
void rt_functions_watch_start(struct rt_functions_watch *watch, struct rt_loop *loop,
			      struct rt_redis *redis, const struct rt_functions *functions);
/* To be called by the connection's on_state. */
void rt_functions_watch_state(struct rt_functions_watch *watch, bool up);
/* How a call of one of the functions ended: RT_UNREADY may mean that it is missing. */
void rt_functions_watch_ended(struct rt_functions_watch *watch, int status);
void rt_functions_watch_stop(struct rt_functions_watch *watch);
/* Why the functions cannot be called now, for a person; NULL: they can. */
const char *rt_functions_watch_problem(const struct rt_functions_watch *watch);

#endif
