/* redis_state_internal.h - metrics of what a context's Redis says of itself, and of the context's dead letters: memory, the
 * append-only file, replicas, how fast it answers. For programs; tests and the simulation do without.
 *
 * Every 5 s, in each partition that is served: INFO and XLEN, in one write. Partitions that share a connection have the same
 * master, which is asked once. While Redis is away the last numbers stay; tandem_partitions_served says that it is.
 * Threads: loop thread only. */
#ifndef RT_CONTEXT_REDIS_STATE_INTERNAL_H
#define RT_CONTEXT_REDIS_STATE_INTERNAL_H

#include "context.h"

struct rt_redis_state; /* opaque */

/* For a context with metrics. `replicas`: as in struct rt_context_options. */
struct rt_redis_state *rt_redis_state_new(struct rt_context *context, int replicas);
/* The context is asked to stop: no further questions. Those under way hold it. */
void rt_redis_state_stop(struct rt_redis_state *state);
/* After the context has stopped. Takes NULL. */
void rt_redis_state_free(struct rt_redis_state *state);

#endif
