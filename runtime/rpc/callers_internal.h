/* callers_internal.h - who makes the calls of a server, and whether they may. Private to rpc. */
#ifndef RT_RPC_CALLERS_INTERNAL_H
#define RT_RPC_CALLERS_INTERNAL_H

#include "rpc.h"

struct server_call;
struct rpc_callers;

/* The caller of a server that asks nobody. */
extern const struct rt_identity rpc_everybody;

/* The metadata in which a gateway says for whom it calls. */
#define RPC_CALLER_KEY     "tandem-caller-bin"
#define RPC_IDENTITY_BYTES (RT_IDENTITY_NAME + RT_IDENTITY_OWNER + 32)
/* Returns how long it is. */
size_t rpc_identity_pack(const struct rt_identity *identity, char bytes[RPC_IDENTITY_BYTES]);

struct rpc_callers *rpc_callers_new(struct rt_loop *loop, const struct rt_server_options *options);
/* When no call is left. */
void rpc_callers_free(struct rpc_callers *callers);

/* Sets the identity of a call that has come. False: it is to be refused with *status. */
bool rpc_caller_admit(struct server_call *call, struct rt_status *status);
/* Before its answer is sent. False: the answer is not to be sent, and *status instead. */
bool rpc_caller_may_send(struct server_call *call, size_t bytes, struct rt_status *status);
/* The client has let it through, or is gone. */
void rpc_caller_sent(struct server_call *call);
/* It is over. Takes one that was not admitted. */
void rpc_caller_left(struct server_call *call);

#endif
