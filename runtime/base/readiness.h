/* readiness.h - whether this process can serve, and if not, why: named checks, one list a process.
 * /readyz and grpc.health.v1 both answer from it, so they cannot differ.
 *
 * A check belongs to one gRPC service or to all. A service is ready while its checks and those of all
 * hold; the process is ready while every check does.
 *
 * Threads: the loop thread sets checks; any thread may write the list as text. */
#ifndef RT_READINESS_H
#define RT_READINESS_H

#include "rt.h"

struct rt_readiness; /* opaque */

struct rt_check {
	struct rt_list link;
	struct rt_readiness *readiness;
	const char *name;    /* "redis" */
	const char *service; /* full name of the gRPC service; NULL: of all */
	bool ready;
	char reason[200]; /* why it is not */
};

struct rt_readiness *rt_readiness_new(void);
void rt_readiness_free(struct rt_readiness *readiness); /* takes NULL */
/* `check` is zeroed, and not ready until it is set; it and its texts live as long as `readiness`. */
void rt_readiness_add(struct rt_readiness *readiness, struct rt_check *check, const char *name,
		      const char *service);
void rt_check_ready(struct rt_check *check);
void rt_check_failed(struct rt_check *check, const char *format, ...) RT_PRINTF(2, 3);
/* `service` "": the whole process. */
bool rt_readiness_ready(const struct rt_readiness *readiness, const char *service);
/* Any thread. Adds a line for each check that does not hold: its name and the reason; or "ready", when
 * all do and `ready` says that the rest is, too. False: something is not ready. */
bool rt_readiness_write(struct rt_readiness *readiness, struct rt_buf *text, bool ready);
/* `changed` runs when a check changed; one a process. NULL: nobody asks. */
void rt_readiness_watch(struct rt_readiness *readiness, void (*changed)(void *user), void *user);

#endif
