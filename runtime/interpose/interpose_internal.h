/* interpose_internal.h - what the files of interpose share. */
#ifndef RT_INTERPOSE_INTERNAL_H
#define RT_INTERPOSE_INTERNAL_H

#include "interpose.h"

/* Whether libraries that call `name` get `own`, the program's function of that name: only if the program
 * exports its symbols. */
bool rt_interposed(const char *name, void (*own)(void));
#define RT_INTERPOSED(name) rt_interposed(#name, (void (*)(void))(name))
#define RT_NOT_INTERPOSED   "the program does not export its symbols"

/* polling.c. Whether gRPC has this descriptor in its epoll set. */
bool polling_knows(int fd);

#endif
