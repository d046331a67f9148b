/* budgets_internal.h - what a connection, or a caller, has under way and has taken lately, and whether that leaves room
 * for one more call. Private to rpc. Pure: time is an argument. */
#ifndef RT_RPC_BUDGETS_INTERNAL_H
#define RT_RPC_BUDGETS_INTERNAL_H

#include "rpc.h"

/* A token bucket. What is taken may be more than what is there, because
 * the size of an answer is known when it is made: then the bucket is in debt until that has come, too. */
struct rpc_bucket {
	int64_t per_second;  /* 0: no limit */
	int64_t most_milli;  /* that it holds */
	int64_t there_milli; /* in thousandths: as many as come in a ms */
	int64_t filled_ms;
};
/* It is full: so many may be taken at once. */
void rpc_bucket_init(struct rpc_bucket *bucket, int64_t per_second, int64_t at_once,
		     int64_t now_ms);
/* In how many ms something may be taken; 0: now. */
int64_t rpc_bucket_wait_ms(struct rpc_bucket *bucket, int64_t now_ms);
void rpc_bucket_take(struct rpc_bucket *bucket, size_t amount);
/* It is as good as new. */
bool rpc_bucket_full(struct rpc_bucket *bucket, int64_t now_ms);

struct rpc_usage {
	size_t calls, streams; /* under way; streams are calls, too */
	struct rpc_bucket rate, bytes;
};
void rpc_usage_init(struct rpc_usage *usage, const struct rt_budget *budget, int64_t now_ms);

/* What it is that has a budget, and the ErrorInfo for each of its parts. */
struct rpc_budget_names {
	const char *calls, *streams, *rate, *bytes;
};
extern const struct rpc_budget_names rpc_budget_connection, rpc_budget_caller;

/* Why there is no room. */
struct rpc_lack {
	const char *reason; /* for the ErrorInfo */
	int64_t limit, retry_ms;
};
/* For one more call, or stream. */
bool rpc_usage_has_room(struct rpc_usage *usage, const struct rt_budget *budget,
			const struct rpc_budget_names *names, bool stream, int64_t now_ms,
			struct rpc_lack *ret);
/* A call has begun, or ended. */
void rpc_usage_begin(struct rpc_usage *usage, bool stream);
void rpc_usage_end(struct rpc_usage *usage, bool stream);
/* Which share of each of its budgets it uses; 0 where there is no limit, more than 1 for one in debt. */
struct rpc_shares {
	double calls, streams, rate, bytes;
};
struct rpc_shares rpc_usage_shares(struct rpc_usage *usage, const struct rt_budget *budget,
				   int64_t now_ms);
/* Has it no call, and would a new one be no better off? */
bool rpc_usage_is_idle(struct rpc_usage *usage, int64_t now_ms);

#endif
