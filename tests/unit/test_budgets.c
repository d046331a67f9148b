/* Budgets of connections and callers, at exact times. */
#include "rpc/budgets_internal.h"
#include <string.h>

#include "run.h"

static void a_bucket_says_how_long_to_wait(void)
{
	static const struct {
		const char *name;
		int64_t per_second;
		size_t taken;
		int64_t later_ms, wait_ms;
	} rows[] = {
		{ "nothing was taken", 10, 0, 0, 0 },
		{ "one is left", 10, 9, 0, 0 },
		{ "none is left", 10, 10, 0, 100 },
		{ "almost one has come", 10, 10, 99, 1 },
		{ "one has come", 10, 10, 100, 0 },
		{ "it is in debt", 10, 30, 0, 2100 },
		{ "the debt is paid", 10, 30, 2000, 100 },
		{ "it is never fuller than full", 10, 20, 3600000, 0 },
		{ "parts of a ms count as one", 3, 3, 0, 334 },
		{ "no limit", 0, 1000000, 0, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rpc_bucket bucket;

		rpc_bucket_init(&bucket, rows[i].per_second, rows[i].per_second, 1000);
		TEST_ROW(rpc_bucket_full(&bucket, 1000), rows[i].name);
		rpc_bucket_take(&bucket, rows[i].taken);
		TEST_ROW(rpc_bucket_wait_ms(&bucket, 1000 + rows[i].later_ms) == rows[i].wait_ms,
			 rows[i].name);
		/* What it says is true: not before … */
		if (rows[i].wait_ms > 0)
			TEST_ROW(rpc_bucket_wait_ms(&bucket, 1000 + rows[i].later_ms +
								     rows[i].wait_ms - 1) > 0,
				 rows[i].name);
		/* … but then. */
		TEST_ROW(rpc_bucket_wait_ms(&bucket, 1000 + rows[i].later_ms + rows[i].wait_ms) ==
				 0,
			 rows[i].name);
	}
}

static void a_full_bucket_is_not_fuller_later(void)
{
	struct rpc_bucket bucket;

	rpc_bucket_init(&bucket, 10, 10, 0);
	CU_ASSERT_EQUAL(rpc_bucket_wait_ms(&bucket, 60000), 0);
	rpc_bucket_take(&bucket, 10);
	CU_ASSERT_EQUAL(rpc_bucket_wait_ms(&bucket, 60000), 100);
	CU_ASSERT(!rpc_bucket_full(&bucket, 60999));
	CU_ASSERT(rpc_bucket_full(&bucket, 61000));
}

static void what_lacks_is_named(void)
{
	const struct rt_budget budget = { .calls = 3, .streams = 1, .rate = 10, .bytes = 1000 };
	const struct {
		const char *name;
		struct rt_budget budget;
		size_t calls, streams, rate, bytes;
		bool stream;
		const char *reason; /* NULL: there is room */
		int64_t limit, retry_ms;
	} rows[] = {
		{ "room", budget, 2, 1, 9, 999, false, NULL, 0, 0 },
		{ "calls", budget, 3, 0, 0, 0, false, "CALLS_PER_CALLER", 3, 1000 },
		{ "streams", budget, 1, 1, 0, 0, true, "STREAMS_PER_CALLER", 1, 1000 },
		{ "rate", budget, 0, 0, 10, 0, false, "RATE_PER_CALLER", 10, 100 },
		{ "bytes", budget, 0, 0, 0, 1099, false, "BYTES_PER_CALLER", 1000, 100 },
		{ "no limits", { 0 }, 1000, 1000, 1000, 1000000, true, NULL, 0, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rpc_usage usage;
		struct rpc_lack lack = { 0 };
		bool room;

		rpc_usage_init(&usage, &rows[i].budget, 5000);
		for (size_t n = 0; n < rows[i].calls; n++)
			rpc_usage_begin(&usage, n < rows[i].streams);
		rpc_bucket_take(&usage.rate, rows[i].rate);
		rpc_bucket_take(&usage.bytes, rows[i].bytes);
		room = rpc_usage_has_room(&usage, &rows[i].budget, &rpc_budget_caller,
					  rows[i].stream, 5000, &lack);
		TEST_ROW(room == (rows[i].reason == NULL), rows[i].name);
		if (rows[i].reason != NULL) {
			TEST_ROW(strcmp(lack.reason, rows[i].reason) == 0, rows[i].name);
			TEST_ROW(lack.limit == rows[i].limit, rows[i].name);
			TEST_ROW(lack.retry_ms == rows[i].retry_ms, rows[i].name);
		}
		TEST_ROW(rpc_usage_is_idle(&usage, 5000) ==
				 (rows[i].calls + rows[i].rate + rows[i].bytes == 0),
			 rows[i].name);
		for (size_t n = 0; n < rows[i].calls; n++)
			rpc_usage_end(&usage, n < rows[i].streams);
		TEST_ROW(usage.calls == 0 && usage.streams == 0, rows[i].name);
		TEST_ROW(rpc_usage_is_idle(&usage, 10000), rows[i].name);
	}
}

static void shares_are_known(void)
{
	const struct rt_budget budget = { .calls = 4, .streams = 2, .rate = 10, .bytes = 1000 };
	const struct rt_budget none = { 0 };
	struct rpc_usage usage;
	struct rpc_shares shares;

	rpc_usage_init(&usage, &budget, 5000);
	shares = rpc_usage_shares(&usage, &budget, 5000);
	CU_ASSERT(shares.calls + shares.streams + shares.rate + shares.bytes == 0);
	rpc_usage_begin(&usage, true);
	rpc_bucket_take(&usage.rate, 5);
	rpc_bucket_take(&usage.bytes, 1500);
	shares = rpc_usage_shares(&usage, &budget, 5000);
	CU_ASSERT(shares.calls == 0.25 && shares.streams == 0.5);
	CU_ASSERT(shares.rate == 0.5 && shares.bytes == 1.5); /* in debt */
	shares = rpc_usage_shares(&usage, &budget, 6000);
	CU_ASSERT(shares.rate == 0 && shares.bytes == 0.5);
	rpc_usage_init(&usage, &none, 5000);
	rpc_usage_begin(&usage, true);
	shares = rpc_usage_shares(&usage, &none, 5000);
	CU_ASSERT(shares.calls + shares.streams + shares.rate + shares.bytes == 0);
}

static const struct test tests[] = {
	{ "a bucket says how long to wait", a_bucket_says_how_long_to_wait },
	{ "a full bucket is not fuller later", a_full_bucket_is_not_fuller_later },
	{ "what lacks is named", what_lacks_is_named },
	{ "shares of budgets are known", shares_are_known },
};

int main(void)
{
	return tests_run("budgets", tests, RT_LENGTH(tests));
}
