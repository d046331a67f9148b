/* rpc_poll.h - lets a libuv loop wait for gRPC's sockets itself, instead of a thread of ours that
 * waits and wakes it. Private to rpc.
 *
 * gRPC's C API has no way to give its descriptors to another loop. On Linux it keeps them all in
 * one epoll set, and an epoll set is itself a descriptor that can be watched. So we learn which
 * one it is (epoll_create1 while grpc_init runs) and when gRPC has emptied it (epoll_wait); both
 * are functions of libc that our executables interpose, as they do with accept4. Where that does
 * not work (another poll strategy, symbols not exported), rpc_queue.c uses its thread. */
#ifndef RT_RPC_POLL_H
#define RT_RPC_POLL_H

#include <stdbool.h>

/* Around grpc_init: begin, init, end. */
void rpc_poll_learn_begin(void);
void rpc_poll_learn_end(void);
/* gRPC's epoll set; -1: not known. */
int rpc_poll_fd(void);
/* Whether gRPC, on this thread and since rpc_poll_start, has looked into its set and found it
 * empty. gRPC takes up to 100 events at a time and works them off one a call, so only then is
 * everything taken that there was. */
void rpc_poll_start(void);
bool rpc_poll_emptied(void);

#endif
