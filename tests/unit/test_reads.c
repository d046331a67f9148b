/* test_reads.c - streams that share a blocking read (runtime/events/reads.c), against a real Redis. */
#include <stdio.h>
#include <string.h>

#include <hiredis/hiredis.h>

#include "events/reads_internal.h"
#include "redis/redis.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"

#define READERS 3
#define LONG_MS 60000 /* longer than a test may take: what depends on its end fails */

static struct redis_server server;

struct reader {
	struct rt_read read;
	char stream[32];
	int dones, status, gone;
	char ids[256]; /* of the entries that came, all of them */
	bool again;    /* it asks again from its callback */
};
static struct fixture {
	struct rt_loop *loop;
	struct rt_reads *reads;
	struct reader readers[READERS];
} f;

static void ask(struct reader *reader, int64_t block_ms)
{
	reader->read.count_max = 10;
	reader->read.block_ms = block_ms;
	rt_reads_ask(f.reads, &reader->read);
}

static void on_done(struct rt_read *read, int status, const redisReply *entries)
{
	struct reader *reader = RT_CONTAINER_OF(read, struct reader, read);
	size_t length = strlen(reader->ids);

	reader->dones++;
	reader->status = status;
	reader->gone += status == RT_NOGROUP;
	for (size_t i = 0; entries != NULL && i < entries->elements; i++)
		length += (size_t)snprintf(reader->ids + length, sizeof(reader->ids) - length,
					   "%s ", entries->element[i]->element[0]->str);
	if (reader->again)
		ask(reader, LONG_MS);
}

static bool is_up(void)
{
	return rt_redis_up(rt_reads_redis(f.reads));
}

/* How many clients wait in Redis for an entry. */
static bool one_is_blocked(void)
{
	redisReply *info = redis_server_command(&server, "INFO clients");
	bool blocked = strstr(info->str, "blocked_clients:1") != NULL;

	freeReplyObject(info);
	return blocked;
}

static bool none_is_blocked(void)
{
	return !one_is_blocked();
}

static long long reads_sent(void)
{
	redisReply *info = redis_server_command(&server, "INFO commandstats");
	const char *at = strstr(info->str, "cmdstat_xreadgroup:calls=");
	long long calls = at == NULL ? 0 : strtoll(strchr(at, '=') + 1, NULL, 10);

	freeReplyObject(info);
	return calls;
}

static void setup(void)
{
	const struct rt_redis_options redis = { .unix_path = server.socket, .name = "reads" };

	f = (struct fixture){ .loop = NULL };
	redis_server_do(&server, "FLUSHALL");
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	CU_ASSERT_FATAL(rt_reads_new(f.loop, &redis, 0, "g", "c", &f.reads) == RT_OK);
	for (int i = 0; i < READERS; i++) {
		struct reader *reader = &f.readers[i];

		snprintf(reader->stream, sizeof(reader->stream), "s:{%d}:events", i);
		reader->read.stream = reader->stream;
		reader->read.done = on_done;
		rt_reads_join(f.reads, &reader->read);
		redis_server_do(&server, "XGROUP CREATE %s g 0 MKSTREAM", reader->stream);
	}
	rt_reads_release(f.reads);
	run_until_so(f.loop, is_up);
	redis_server_do(&server, "CONFIG RESETSTAT");
}

static void teardown(void)
{
	for (int i = 0; i < READERS; i++)
		rt_reads_leave(f.reads, &f.readers[i].read);
	rt_loop_free(RT_TAKE(f.loop));
}

static void add(int i, const char *id)
{
	redis_server_do(&server, "XADD %s %s f v", f.readers[i].stream, id);
}

static bool all_done(void)
{
	for (int i = 0; i < READERS; i++)
		if (f.readers[i].dones == 0)
			return false;
	return true;
}

static void all_streams_in_one_read(void)
{
	setup();
	add(0, "1-1");
	add(0, "1-2");
	add(2, "2-1");
	for (int i = 0; i < READERS; i++)
		ask(&f.readers[i], LONG_MS);
	CU_ASSERT_FALSE(all_done()); /* never before it returns */
	run_until_so(f.loop, all_done);
	CU_ASSERT_STRING_EQUAL(f.readers[0].ids, "1-1 1-2 ");
	CU_ASSERT_STRING_EQUAL(f.readers[1].ids, "");
	CU_ASSERT_STRING_EQUAL(f.readers[2].ids, "2-1 ");
	for (int i = 0; i < READERS; i++) {
		CU_ASSERT_EQUAL(f.readers[i].status, RT_OK);
		CU_ASSERT_EQUAL(f.readers[i].dones, 1);
	}
	CU_ASSERT_EQUAL(reads_sent(), 1);
	teardown();
}

static void the_smallest_count_goes_for_all(void)
{
	setup();
	add(0, "1-1");
	add(0, "1-2");
	for (int i = 0; i < READERS; i++)
		ask(&f.readers[i], LONG_MS);
	f.readers[2].read.count_max = 1;
	run_until_so(f.loop, all_done);
	CU_ASSERT_STRING_EQUAL(f.readers[0].ids, "1-1 ");
	teardown();
}

static bool second_has_more(void)
{
	return f.readers[1].ids[0] != '\0';
}

/* The read under way goes without it, and nothing comes that would end it. */
static void one_that_asks_later_does_not_wait_for_the_others(void)
{
	setup();
	f.readers[0].again = f.readers[2].again = true;
	ask(&f.readers[0], LONG_MS);
	ask(&f.readers[2], LONG_MS);
	run_until_so(f.loop, one_is_blocked);
	add(1, "1-1");
	ask(&f.readers[1], LONG_MS);
	run_until_so(f.loop, second_has_more);
	CU_ASSERT_STRING_EQUAL(f.readers[1].ids, "1-1 ");
	CU_ASSERT_EQUAL(f.readers[1].dones, 1);
	teardown();
}

static bool some_is_gone(void)
{
	for (int i = 0; i < READERS; i++)
		if (f.readers[i].gone > 0)
			return true;
	return false;
}

static void check_that_only_the_second_is_gone(void)
{
	CU_ASSERT_EQUAL(f.readers[0].gone, 0);
	CU_ASSERT(f.readers[1].gone > 0);
	CU_ASSERT_EQUAL(f.readers[2].gone, 0);
}

static void only_the_one_whose_group_is_gone_learns_of_it(void)
{
	setup();
	redis_server_do(&server, "XGROUP DESTROY %s g", f.readers[1].stream);
	for (int i = 0; i < READERS; i++)
		ask(&f.readers[i], LONG_MS);
	run_until_so(f.loop, some_is_gone);
	check_that_only_the_second_is_gone();
	teardown();
}

static void only_the_one_that_is_deleted_meanwhile_learns_of_it(void)
{
	setup();
	for (int i = 0; i < READERS; i++) {
		f.readers[i].again = i != 1;
		ask(&f.readers[i], LONG_MS);
	}
	run_until_so(f.loop, one_is_blocked);
	f.readers[1].again = true;
	redis_server_do(&server, "DEL %s", f.readers[1].stream);
	run_until_so(f.loop, some_is_gone);
	check_that_only_the_second_is_gone();
	teardown();
}

static void one_alone_learns_that_it_is_deleted(void)
{
	setup();
	rt_reads_leave(f.reads, &f.readers[0].read);
	rt_reads_leave(f.reads, &f.readers[2].read);
	ask(&f.readers[1], LONG_MS);
	run_until_so(f.loop, one_is_blocked);
	redis_server_do(&server, "DEL %s", f.readers[1].stream);
	run_until_so(f.loop, some_is_gone);
	CU_ASSERT_EQUAL(f.readers[1].status, RT_NOGROUP);
	rt_reads_leave(f.reads, &f.readers[1].read);
	rt_loop_free(RT_TAKE(f.loop));
}

static void all_end_when_one_is_interrupted(void)
{
	setup();
	for (int i = 0; i < READERS; i++)
		ask(&f.readers[i], LONG_MS);
	run_until_so(f.loop, one_is_blocked);
	rt_reads_interrupt(f.reads, &f.readers[1].read);
	CU_ASSERT_FALSE(all_done());
	run_until_so(f.loop, all_done);
	for (int i = 0; i < READERS; i++)
		CU_ASSERT_EQUAL(f.readers[i].status, RT_CANCELED);
	run_until_so(f.loop, none_is_blocked);
	teardown();
}

static bool second_done(void)
{
	return f.readers[1].dones > 0;
}

/* It was not sent yet. */
static void one_that_waits_is_given_up_alone(void)
{
	setup();
	ask(&f.readers[0], LONG_MS);
	f.readers[0].again = true;
	run_until_so(f.loop, one_is_blocked);
	ask(&f.readers[1], LONG_MS);
	rt_reads_interrupt(f.reads, &f.readers[1].read);
	CU_ASSERT_EQUAL(f.readers[1].dones, 0);
	run_until_so(f.loop, second_done);
	CU_ASSERT_EQUAL(f.readers[1].status, RT_CANCELED);
	CU_ASSERT_EQUAL(f.readers[1].dones, 1);
	CU_ASSERT(f.readers[0].dones == 0 || f.readers[0].status == RT_OK);
	teardown();
}

/* What is delivered for it stays pending. */
static void one_leaves_while_it_is_read(void)
{
	setup();
	for (int i = 0; i < READERS; i++)
		ask(&f.readers[i], LONG_MS);
	run_until_so(f.loop, one_is_blocked);
	rt_reads_leave(f.reads, &f.readers[0].read);
	add(0, "1-1");
	run_until_so(f.loop, second_done);
	CU_ASSERT_EQUAL(f.readers[0].dones, 0);
	CU_ASSERT_EQUAL(f.readers[1].status, RT_OK);
	CU_ASSERT_EQUAL(redis_server_int(&server, "XLEN %s", f.readers[0].stream), 1);
	rt_reads_leave(f.reads, &f.readers[1].read);
	rt_reads_leave(f.reads, &f.readers[2].read);
	rt_loop_free(RT_TAKE(f.loop));
}

/* Without BLOCK it answers at once. */
static void one_does_not_block(void)
{
	setup();
	ask(&f.readers[0], LONG_MS);
	ask(&f.readers[1], 0);
	ask(&f.readers[2], LONG_MS);
	run_until_so(f.loop, all_done);
	for (int i = 0; i < READERS; i++)
		CU_ASSERT_EQUAL(f.readers[i].status, RT_OK);
	teardown();
}

int main(void)
{
	static const struct test tests[] = {
		{ "all streams in one read", all_streams_in_one_read },
		{ "the smallest count goes for all", the_smallest_count_goes_for_all },
		{ "one that asks later does not wait for the others",
		  one_that_asks_later_does_not_wait_for_the_others },
		{ "only the one whose group is gone learns of it",
		  only_the_one_whose_group_is_gone_learns_of_it },
		{ "only the one that is deleted meanwhile learns of it",
		  only_the_one_that_is_deleted_meanwhile_learns_of_it },
		{ "one alone learns that it is deleted", one_alone_learns_that_it_is_deleted },
		{ "all end when one is interrupted", all_end_when_one_is_interrupted },
		{ "one that waits is given up alone", one_that_waits_is_given_up_alone },
		{ "one leaves while it is read", one_leaves_while_it_is_read },
		{ "one does not block", one_does_not_block },
	};
	int result;

	tests_log_nothing();
	redis_server_start(&server, NULL);
	result = tests_run("reads", tests, RT_LENGTH(tests));
	redis_server_done(&server);
	return result;
}
