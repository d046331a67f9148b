/* failpoint.h - named points in the code where a test makes the process die, fail or wait.
 *
 * They exist only in a build with -DFAILPOINTS=ON; otherwise they cost nothing, not even a
 * comparison. In such a build the environment says what happens:
 *
 *   TANDEM_FAILPOINT=name:nth:action[,name:nth:action…]
 *     nth     the pass at which it happens, from 1; *: at each
 *     action  crash     the process is killed, as by kill -9
 *             error     RT_FAILPOINT_STATUS is RT_LOST there; nothing at an RT_FAILPOINT
 *             sleep=ms  the thread that passes sleeps
 *   TANDEM_FAILPOINT_LIST=path
 *     the name of each point is appended to the file when it is first passed: how a script finds
 *     out which there are
 *
 * A point that stands for many has a detail: RT_FAILPOINT2("redis.send", "order_place") is called
 * redis.send.order_place. Any thread. */
#ifndef RT_FAILPOINT_H
#define RT_FAILPOINT_H

#include "rt.h"

#ifdef TANDEM_FAILPOINTS
/* `detail` may be NULL. RT_OK or RT_LOST. */
int rt_failpoint(const char *name, const char *detail);
#define RT_FAILPOINT(name)                 ((void)rt_failpoint(name, NULL))
#define RT_FAILPOINT2(name, detail)        ((void)rt_failpoint(name, detail))
#define RT_FAILPOINT_STATUS(name)          rt_failpoint(name, NULL)
#define RT_FAILPOINT2_STATUS(name, detail) rt_failpoint(name, detail)
#else
#define RT_FAILPOINT(name)                 ((void)0)
#define RT_FAILPOINT2(name, detail)        ((void)0)
#define RT_FAILPOINT_STATUS(name)          ((int)RT_OK)
#define RT_FAILPOINT2_STATUS(name, detail) ((int)RT_OK)
#endif

#endif
