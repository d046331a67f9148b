/* test_url.c - where Redis is, as --redis says it, and the slots of keys. */
#include "redis/url.h"

#include <string.h>

#include "base/base.h"
#include "redis/key_slot.h"
#include "run.h"

static void key_slots(void)
{
	static const struct {
		const char *key;
		unsigned slot;
	} rows[] = {
		{ "123456789", 0x31c3 },
		{ "foo", 12182 },
		{ "", 0 },
		{ "user1000", 3443 },
		{ "{user1000}.following", 3443 },
		{ "a{user1000}{b}", 3443 },
		{ "order:{0}:events", 13907 },
		{ "{0}", 13907 },
		{ "0", 13907 },
		{ "{}0", 0x3fff & 0x0000 }, /* filled in below: all of the key counts */
	};

	for (size_t i = 0; i + 1 < RT_LENGTH(rows); i++)
		TEST_ROW(rt_key_slot(rows[i].key) == rows[i].slot, rows[i].key);
	CU_ASSERT_NOT_EQUAL(rt_key_slot("{}0"), rt_key_slot(""));
	CU_ASSERT_NOT_EQUAL(rt_key_slot("{}0"), rt_key_slot("0"));
	CU_ASSERT_NOT_EQUAL(rt_key_slot("{0"), rt_key_slot("0"));
}

static void urls(void)
{
	static const struct {
		const char *url, *error; /* NULL: it is good */
		enum rt_topology_kind kind;
		const char *last_host;
		int count, last_port;
		const char *master;
	} rows[] = {
		{ "redis://h:1", NULL, RT_TOPOLOGY_ONE, "h", 1, 1, "" },
		{ "redis://[::1]:6379", NULL, RT_TOPOLOGY_ONE, "::1", 1, 6379, "" },
		{ "unix:/run/redis.sock", NULL, RT_TOPOLOGY_ONE, "/run/redis.sock", 1, 0, "" },
		{ "unix:///run/redis.sock", NULL, RT_TOPOLOGY_ONE, "/run/redis.sock", 1, 0, "" },
		{ "cluster://a:1,b-c.d:65535", NULL, RT_TOPOLOGY_CLUSTER, "b-c.d", 2, 65535, "" },
		{ "cluster://[fe80::1%eth0]:7", NULL, RT_TOPOLOGY_CLUSTER, "fe80::1%eth0", 1, 7,
		  "" },
		{ "sentinel://a:1,b:2,c:26379/tandem", NULL, RT_TOPOLOGY_SENTINEL, "c", 3, 26379,
		  "tandem" },
		{ "", "begins with none of", 0, NULL, 0, 0, NULL },
		{ "h:1",
		  "begins with none of redis://, rediss://, unix:/, cluster://, sentinel://: 'h:1'",
		  0, NULL, 0, 0, NULL },
		{ "rediss://h:1", NULL, RT_TOPOLOGY_ONE, "h", 1, 1, "" },
		{ "rediss:/h:1", "'rediss:/h:1'", 0, NULL, 0, 0, NULL },
		{ "redis://", "not an address", 0, NULL, 0, 0, NULL },
		{ "redis://h", "'h'", 0, NULL, 0, 0, NULL },
		{ "redis://h:0", "'h:0'", 0, NULL, 0, 0, NULL },
		{ "redis://h:65536", "'h:65536'", 0, NULL, 0, 0, NULL },
		{ "redis://::1:6379", "[IPv6]", 0, NULL, 0, 0, NULL },
		{ "redis://u:p@h:1", "--redis-password-file): '…@…'", 0, NULL, 0, 0, NULL },
		{ "redis://u:p/x@h:1", "--redis-password-file", 0, NULL, 0, 0, NULL },
		{ "cluster://h:1,u:p@h:2", "--redis-password-file", 0, NULL, 0, 0, NULL },
		{ "valkey://u:p@h:1", "begins with none of", 0, NULL, 0, 0, NULL },
		{ "redis://a:1,b:2", "one address", 0, NULL, 0, 0, NULL },
		{ "redis://a:1/0", "nothing may follow the addresses: '/0'", 0, NULL, 0, 0, NULL },
		{ "cluster://a:1,,b:2",
		  "not an address, host:port or [IPv6]:port with a port of 1 "
		  "to 65535: ''",
		  0, NULL, 0, 0, NULL },
		{ "cluster://a:1,b:x", "'b:x'", 0, NULL, 0, 0, NULL },
		{ "cluster://a:1/x", "nothing may follow", 0, NULL, 0, 0, NULL },
		{ "sentinel://a:1", "/name", 0, NULL, 0, 0, NULL },
		{ "sentinel://a:1/", "/name", 0, NULL, 0, 0, NULL },
		{ "sentinel://a:1/a b", "'a b'", 0, NULL, 0, 0, NULL },
		{ "unix:redis.sock", "'redis.sock'", 0, NULL, 0, 0, NULL },
	};
	struct rt_redis_url *url = rt_alloc(sizeof(*url));
	char error[300];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		int rc;

		error[0] = '\0';
		rc = rt_redis_url_parse(rows[i].url, url, error, sizeof(error));
		TEST_ROW(rc == (rows[i].error == NULL ? RT_OK : RT_INVALID), rows[i].url);
		if (rows[i].error != NULL) {
			TEST_ROW(strstr(error, rows[i].error) != NULL, rows[i].url);
			TEST_ROW(strstr(error, "u:p") == NULL, rows[i].url); /* no passwords */
			continue;
		}
		TEST_ROW(url->kind == rows[i].kind && (int)url->count == rows[i].count,
			 rows[i].url);
		TEST_ROW(strcmp(url->addresses[url->count - 1].host, rows[i].last_host) == 0 &&
				 url->addresses[url->count - 1].port == rows[i].last_port,
			 rows[i].url);
		TEST_ROW(strcmp(url->master, rows[i].master) == 0, rows[i].url);
	}
	free(url);
}

/* Whether there is TLS, by URL and settings. */
static void urls_and_tls(void)
{
	static const struct {
		const char *url;
		bool plain_good, plain; /* without --redis-tls and --redis-tls-ca */
		bool wanted_good, wanted;
	} rows[] = {
		{ "redis://h:1", true, false, false, false },
		{ "rediss://h:1", true, true, true, true },
		{ "cluster://h:1", true, false, true, true },
		{ "sentinel://h:1/m", true, false, true, true },
		{ "unix:/run/redis.sock", true, false, true, false },
	};
	struct rt_redis_url *url = rt_alloc(sizeof(*url));
	char error[200];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		bool tls = false;
		int rc;

		CU_ASSERT_EQUAL_FATAL(rt_redis_url_parse(rows[i].url, url, error, sizeof(error)),
				      RT_OK);
		rc = rt_redis_url_secure(url, false, &tls, error, sizeof(error));
		TEST_ROW((rc == RT_OK) == rows[i].plain_good && tls == rows[i].plain, rows[i].url);
		tls = false;
		rc = rt_redis_url_secure(url, true, &tls, error, sizeof(error));
		TEST_ROW((rc == RT_OK) == rows[i].wanted_good && tls == rows[i].wanted,
			 rows[i].url);
		TEST_ROW(rc == RT_OK || strstr(error, "write rediss://") != NULL, rows[i].url);
	}
	free(url);
}

static void urls_are_bounded(void)
{
	struct rt_redis_url *url = rt_alloc(sizeof(*url));
	struct rt_buf many = { .data = NULL };
	char error[300];

	rt_buf_printf(&many, "cluster://h:1");
	for (int i = 1; i < RT_REDIS_SEEDS_MAX; i++)
		rt_buf_printf(&many, ",h:%d", i);
	CU_ASSERT_EQUAL(rt_redis_url_parse(many.data, url, error, sizeof(error)), RT_OK);
	rt_buf_printf(&many, ",last:1");
	CU_ASSERT_EQUAL(rt_redis_url_parse(many.data, url, error, sizeof(error)), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "'last:1'"));
	rt_buf_done(&many);
	free(url);
}

static const struct test tests[] = {
	{ "URLs", urls },
	{ "whether there is TLS, by URL and settings", urls_and_tls },
	{ "so many addresses and no more", urls_are_bounded },
	{ "the slot of a key", key_slots },
};

TESTS_MAIN("url", tests)
