/* callers_internal.h - who makes the calls of a server, and whether they may. Private to rpc. */
#ifndef RT_RPC_CALLERS_INTERNAL_H
#define RT_RPC_CALLERS_INTERNAL_H

#include <grpc/slice.h>

#include "rpc.h"

struct server_call;
struct rpc_callers;

/* ---- for whom a gateway calls (forwarded.c) ---- */

#define RPC_CALLER_KEY   "tandem-caller-bin"
#define RPC_FROM_KEY     "tandem-caller-from-bin"
#define RPC_PEER_TEXT    128
#define RPC_CALLER_BYTES (RT_IDENTITY_NAME + RT_IDENTITY_OWNER + 32)
#define RPC_FROM_BYTES   (RT_IDENTITY_BY + RPC_PEER_TEXT)
/* The values of both; return how long they are. `peer` is left out if it has other characters than addresses have. */
size_t rpc_caller_pack(const struct rt_identity *identity, char bytes[RPC_CALLER_BYTES]);
size_t rpc_from_pack(const struct rt_identity *identity, const char *peer,
		     char bytes[RPC_FROM_BYTES]);
/* Reads them; the second may be NULL. *ret is zeroed; `peer` gets the address, "" if it is not said. False: they are not
 * what a gateway says. */
bool rpc_forwarded_read(const grpc_slice *caller, const grpc_slice *from, struct rt_identity *ret,
			char peer[RPC_PEER_TEXT]);
/* "10.1.2.3:5000" and "[2001:db8::1]:5000" of what gRPC has as "ipv4:10.1.2.3:5000" and "ipv6:%5B2001:db8::1%5D:5000". */
char *rpc_peer_text(struct rt_arena *arena, const char *uri);

/* ---- callers.c ---- */

struct rpc_callers *rpc_callers_new(struct rt_loop *loop, const struct rt_server_options *options);
/* When no call is left. */
void rpc_callers_free(struct rpc_callers *callers);

/* Sets the identity of a call that has come, with a request of so many bytes. False: it is to be refused with *status. */
bool rpc_caller_admit(struct server_call *call, size_t bytes, struct rt_status *status);
/* A message of its client's stream has come … */
void rpc_caller_received(struct server_call *call, size_t bytes);
/* … and the next one may be read in so many ms. */
int64_t rpc_caller_read_wait_ms(const struct server_call *call);
/* A message of its streaming answer is sent. */
void rpc_caller_sends(struct server_call *call, size_t bytes);
/* Before its answer is sent. False: the answer is not to be sent, and *status instead. */
bool rpc_caller_may_send(struct server_call *call, size_t bytes, struct rt_status *status);
/* The client has let it through, or is gone. */
void rpc_caller_sent(struct server_call *call);
/* It is over. Takes one that was not admitted. */
void rpc_caller_left(struct server_call *call);

#endif
