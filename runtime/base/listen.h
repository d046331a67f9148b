/* listen.h - listening at an address, and why nobody can, for a person. */
#ifndef RT_LISTEN_H
#define RT_LISTEN_H

#include "rt.h"

/* A socket that listens at `listen`, closed on exec, without waiting. What a killed process left at the
 * path of a unix socket is taken away. -1: it cannot be had. */
int rt_listen_open(const char *listen);
/* Tries to listen at `listen` ("127.0.0.1:50051", "unix:/path") and appends what is wrong, with the
 * process that is in the way where that can be known; nothing when it works. Blocks: for the start of
 * a service, after listening has failed. */
void rt_listen_explain(const char *listen, struct rt_buf *text);
/* Only processes on this machine can reach it: a loopback address, "localhost", a unix socket, or "". */
bool rt_listen_local(const char *listen);
/* Somebody listens at this unix socket; what a process that was killed left there does not count. */
bool rt_listen_unix_taken(const char *path);

#endif
