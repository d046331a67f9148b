/* delivered.h - events from a real stream, for tests of a store that acknowledges their entries. */
#ifndef TESTS_DELIVERED_H
#define TESTS_DELIVERED_H

#include "events/events.h"

/* Reads `stream` for the context of these functions and this store. One stream at a time. */
void delivered_start(struct rt_loop *loop, struct rt_store *store,
		     const struct rt_redis_options *redis, const struct rt_functions *functions,
		     const char *stream);
/* The next event, in their order; runs the loop until there is one. The caller finishes it. */
struct rt_event *delivered_next(void);
/* The caller has finished all events it got; the others stay pending. */
void delivered_stop(void);

#endif
