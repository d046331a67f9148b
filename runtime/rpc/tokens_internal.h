/* tokens_internal.h - signed tokens that came lately. Private to rpc.
 *
 * Whoever can reach a server can make it verify signatures, with a different bad token each time, which costs more than all
 * else that a refused call takes. So an address may have so many tokens refused in a second; beyond that its tokens are not
 * looked at. But those that were found good are known again, on every connection: who has one goes on, even from the same
 * address. API keys cost little, and are not bounded. */
#ifndef RT_RPC_TOKENS_INTERNAL_H
#define RT_RPC_TOKENS_INTERNAL_H

#include "auth/auth.h"
#include "budgets_internal.h"

#define RPC_REFUSED_TOKENS "REFUSED_TOKENS_PER_ADDRESS"

struct rpc_tokens;

/* `refused_per_second`: of an address; 0: no limit. */
struct rpc_tokens *rpc_tokens_new(struct rt_auth *auth, int64_t refused_per_second);
void rpc_tokens_free(struct rpc_tokens *tokens); /* takes NULL */
/* As rt_auth_bearer. `peer` says who sends it, as gRPC has it: "ipv4:192.0.2.1:4711". RT_BUSY: it was not looked at, and
 * *ret_lack says when it will be. */
int rpc_tokens_read(struct rpc_tokens *tokens, const char *peer, const char *token, size_t length,
		    int64_t now_ms, int64_t unix_ms, struct rt_identity *ret, const char **ret_why,
		    struct rpc_lack *ret_lack);

#endif
