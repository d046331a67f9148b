/* epoll.h - lets a libuv loop wait for gRPC's sockets itself, instead of a thread of ours that
 * waits and wakes it. Private to rpc.
 *
 * gRPC's C API has no way to give its descriptors to another loop. On Linux it keeps them all in
 * one epoll set, and an epoll set is itself a descriptor that can be watched. So we learn which
 * one it is (epoll_create1 while grpc_init runs) and when gRPC has emptied it (epoll_wait); both
 * are functions of libc that our executables interpose, as they do with accept4. Where that does
 * not work (another poll strategy, symbols not exported), rpc/queue.c uses its thread.
 *
 * gRPC reads a socket, works off what it read, and reads again, as long as there is something: a peer
 * that sends without pause keeps it in one call for seconds. So a turn has an end: from then on
 * recvmsg says that there is nothing more, and the next turn has the set report those sockets anew
 * (epoll_ctl, whose arguments we keep for that). Without turns it says so after 4 MiB, since libgrpc
 * 1.51 ends the process after 2 GiB without a pause. */
#ifndef RT_RPC_POLL_H
#define RT_RPC_POLL_H

#include <stdbool.h>
#include <stdint.h>

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
/* Around what this thread lets gRPC do: after end_ns (rt_monotonic_ns) it reads no more. True: input was
 * left unread, so another turn must follow. One thread of the process has turns. */
void rpc_poll_turn_begin(int64_t end_ns);
bool rpc_poll_turn_end(void);

#endif
