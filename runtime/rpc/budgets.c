/* budgets.c - token buckets, and the budgets of a connection or a caller; see budgets_internal.h. */
#include "budgets_internal.h"

#define MILLI 1000
/* Calls end when they end: when one more has room is not known. */
#define RETRY_MS 1000

const struct rpc_budget_names rpc_budget_connection = {
	.calls = "CALLS_PER_CONNECTION",
	.streams = "STREAMS_PER_CONNECTION",
	.rate = "RATE_PER_CONNECTION",
	.bytes = "BYTES_PER_CONNECTION",
};
const struct rpc_budget_names rpc_budget_caller = {
	.calls = "CALLS_PER_CALLER",
	.streams = "STREAMS_PER_CALLER",
	.rate = "RATE_PER_CALLER",
	.bytes = "BYTES_PER_CALLER",
};

/* ---- buckets ---- */

void rpc_bucket_init(struct rpc_bucket *bucket, int64_t per_second, int64_t at_once, int64_t now_ms)
{
	int64_t most_milli = at_once * MILLI;

	*bucket = (struct rpc_bucket){ per_second, most_milli, most_milli, now_ms };
}

static void fill(struct rpc_bucket *bucket, int64_t now_ms)
{
	int64_t lacks_milli = bucket->most_milli - bucket->there_milli;
	int64_t passed_ms = now_ms - bucket->filled_ms;

	bucket->filled_ms = now_ms;
	if (passed_ms > lacks_milli / bucket->per_second)
		bucket->there_milli += lacks_milli;
	else
		bucket->there_milli += bucket->per_second * passed_ms;
}

int64_t rpc_bucket_wait_ms(struct rpc_bucket *bucket, int64_t now_ms)
{
	if (bucket->per_second == 0)
		return 0;
	fill(bucket, now_ms);
	if (bucket->there_milli >= MILLI)
		return 0;
	return (MILLI - bucket->there_milli - 1) / bucket->per_second + 1;
}

void rpc_bucket_take(struct rpc_bucket *bucket, size_t amount)
{
	if (bucket->per_second > 0)
		bucket->there_milli -= (int64_t)amount * MILLI;
}

bool rpc_bucket_full(struct rpc_bucket *bucket, int64_t now_ms)
{
	if (bucket->per_second == 0)
		return true;
	fill(bucket, now_ms);
	return bucket->there_milli == bucket->most_milli;
}

/* ---- what is used ---- */

void rpc_usage_init(struct rpc_usage *usage, const struct rt_budget *budget, int64_t now_ms)
{
	usage->calls = usage->streams = 0;
	rpc_bucket_init(&usage->rate, budget->rate, budget->rate, now_ms);
	rpc_bucket_init(&usage->bytes, budget->bytes, budget->bytes, now_ms);
}

static bool over(size_t used, int64_t limit)
{
	return limit > 0 && used >= (size_t)limit;
}

static bool lacks(struct rpc_lack *ret, const char *reason, int64_t limit, int64_t retry_ms)
{
	ret->reason = reason;
	ret->limit = limit;
	ret->retry_ms = retry_ms;
	return false;
}

bool rpc_usage_has_room(struct rpc_usage *usage, const struct rt_budget *budget,
			const struct rpc_budget_names *names, bool stream, int64_t now_ms,
			struct rpc_lack *ret)
{
	int64_t rate_ms = rpc_bucket_wait_ms(&usage->rate, now_ms);
	int64_t bytes_ms = rpc_bucket_wait_ms(&usage->bytes, now_ms);

	if (over(usage->calls, budget->calls))
		return lacks(ret, names->calls, budget->calls, RETRY_MS);
	if (stream && over(usage->streams, budget->streams))
		return lacks(ret, names->streams, budget->streams, RETRY_MS);
	if (rate_ms > 0)
		return lacks(ret, names->rate, budget->rate, rate_ms);
	if (bytes_ms > 0)
		return lacks(ret, names->bytes, budget->bytes, bytes_ms);
	return true;
}

void rpc_usage_begin(struct rpc_usage *usage, bool stream)
{
	usage->calls++;
	usage->streams += stream;
}

void rpc_usage_end(struct rpc_usage *usage, bool stream)
{
	usage->calls--;
	usage->streams -= stream;
}

static double share_of_bucket(struct rpc_bucket *bucket, int64_t now_ms)
{
	if (bucket->per_second == 0)
		return 0;
	fill(bucket, now_ms);
	return 1 - (double)bucket->there_milli / (double)bucket->most_milli;
}

static double share_of(size_t used, int64_t limit)
{
	return limit > 0 ? (double)used / (double)limit : 0;
}

struct rpc_shares rpc_usage_shares(struct rpc_usage *usage, const struct rt_budget *budget,
				   int64_t now_ms)
{
	return (struct rpc_shares){ share_of(usage->calls, budget->calls),
				    share_of(usage->streams, budget->streams),
				    share_of_bucket(&usage->rate, now_ms),
				    share_of_bucket(&usage->bytes, now_ms) };
}

bool rpc_usage_is_idle(struct rpc_usage *usage, int64_t now_ms)
{
	return usage->calls == 0 && rpc_bucket_full(&usage->rate, now_ms) &&
	       rpc_bucket_full(&usage->bytes, now_ms);
}
