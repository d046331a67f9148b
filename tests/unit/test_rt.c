/* The runtime's small helpers: statuses, lists, buffers, times, digests, encodings. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "run.h"

static void statuses(void)
{
	CU_ASSERT_STRING_EQUAL(rt_status_name(RT_OK), "RT_OK");
	CU_ASSERT_STRING_EQUAL(rt_status_name(RT_LOST), "RT_LOST");
	CU_ASSERT_STRING_EQUAL(rt_status_text(RT_LOST), "connection lost");
	CU_ASSERT_EQUAL(rt_status_grpc_code(RT_LOST), 14);
	CU_ASSERT_EQUAL(rt_status_grpc_code(RT_OK), 0);
	/* Not in the list: still something to print, and never OK. */
	CU_ASSERT_STRING_EQUAL(rt_status_name(7), "RT_?");
	CU_ASSERT_STRING_EQUAL(rt_status_text(7), "unknown status");
	CU_ASSERT_EQUAL(rt_status_grpc_code(7), 2);
}

static void strings(void)
{
	char *s = rt_strdup("abc");
	char *part = rt_strndup("abcdef", 3);
	char *shorter = rt_strndup("ab", 100);
	char *text = rt_printf("%s-%d", "n", 7);

	CU_ASSERT_STRING_EQUAL(s, "abc");
	CU_ASSERT_STRING_EQUAL(part, "abc");
	CU_ASSERT_STRING_EQUAL(shorter, "ab");
	CU_ASSERT_STRING_EQUAL(text, "n-7");
	CU_ASSERT_PTR_NULL(rt_strdup(NULL));
	CU_ASSERT_PTR_NULL(rt_strndup(NULL, 3));
	free(s);
	free(part);
	free(shorter);
	free(text);
}

static void allocation(void)
{
	char *p = rt_alloc(16), *nothing = rt_alloc(0);
	static const char zero[16];

	CU_ASSERT(memcmp(p, zero, sizeof(zero)) == 0);
	CU_ASSERT_PTR_NOT_NULL(nothing);
	memcpy(p, "kept", 5);
	p = rt_realloc(p, 4096);
	CU_ASSERT_STRING_EQUAL(p, "kept");
	free(p);
	free(nothing);
}

struct item {
	int number;
	struct rt_list link;
};

static void lists(void)
{
	struct item items[4] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
	struct rt_list list, other;
	struct rt_list *first;

	rt_list_init(&list);
	CU_ASSERT(rt_list_empty(&list));
	CU_ASSERT_PTR_NULL(rt_list_pop(&list));
	for (int i = 0; i < 3; i++)
		rt_list_push(&list, &items[i].link);
	rt_list_remove(&items[1].link);
	CU_ASSERT(rt_list_empty(&items[1].link));
	rt_list_remove(&items[1].link); /* again: no harm */
	rt_list_move(&other, &list);
	CU_ASSERT(rt_list_empty(&list));
	first = rt_list_pop(&other);
	CU_ASSERT_EQUAL(RT_CONTAINER_OF(first, struct item, link)->number, 0);
	first = rt_list_pop(&other);
	CU_ASSERT_EQUAL(RT_CONTAINER_OF(first, struct item, link)->number, 2);
	CU_ASSERT_PTR_NULL(rt_list_pop(&other));
	rt_list_move(&list, &other);
	CU_ASSERT(rt_list_empty(&list));
}

static void buffers(void)
{
	struct rt_buf buf = { 0 };
	char long_text[1000];

	rt_buf_add(&buf, NULL, 0);
	CU_ASSERT_EQUAL(buf.length, 0);
	rt_buf_add(&buf, "a\0b", 3);
	CU_ASSERT_EQUAL(buf.length, 3);
	CU_ASSERT(memcmp(buf.data, "a\0b", 4) == 0);
	memset(long_text, 'x', sizeof(long_text));
	long_text[sizeof(long_text) - 1] = '\0';
	rt_buf_printf(&buf, "%d %s", 12, long_text);
	CU_ASSERT_EQUAL(buf.length, 3 + 3 + 999);
	CU_ASSERT_STRING_EQUAL(buf.data + 6, long_text);
	/* Exactly what fits, and one more, at every length. */
	for (int i = 0; i < 300; i++) {
		size_t before = buf.length;

		rt_buf_printf(&buf, "%.*s", i, long_text);
		CU_ASSERT_EQUAL(buf.length, before + (size_t)i);
		CU_ASSERT_EQUAL(buf.data[buf.length], '\0');
	}
	/* Room is for all of it, and takes nothing away. */
	for (size_t i = 0; i < 300; i++) {
		const size_t before = buf.length;

		memset(rt_buf_room(&buf, i), 'y', i);
		CU_ASSERT_EQUAL(buf.length, before);
		CU_ASSERT(buf.capacity > before + i);
		buf.length += i;
	}
	rt_buf_add(&buf, "", 0);
	CU_ASSERT_STRING_EQUAL(buf.data + buf.length - 3, "yyy");
	rt_buf_done(&buf);
	CU_ASSERT_PTR_NULL(buf.data);
	rt_buf_done(&buf);
	rt_buf_done(NULL);
}

static const struct {
	int64_t unix_ms;
	const char *text;
} times[] = {
	{ 0, "1970-01-01T00:00:00.000Z" },
	{ 1, "1970-01-01T00:00:00.001Z" },
	{ 951782399999, "2000-02-28T23:59:59.999Z" },
	{ 951782400000, "2000-02-29T00:00:00.000Z" }, /* a leap century */
	{ 951868800000, "2000-03-01T00:00:00.000Z" },
	{ 1795395723004, "2026-11-23T01:02:03.004Z" },
	{ 4107542400000, "2100-03-01T00:00:00.000Z" }, /* not a leap century */
	{ 253402300799999, "9999-12-31T23:59:59.999Z" },
};

static void times_both_ways(void)
{
	char text[RT_TIME_TEXT];
	int64_t ms;

	for (size_t i = 0; i < RT_LENGTH(times); i++) {
		rt_time_format(times[i].unix_ms, text);
		TEST_ROW(strcmp(text, times[i].text) == 0, times[i].text);
		ms = -1;
		TEST_ROW(rt_time_parse(times[i].text, &ms), times[i].text);
		TEST_ROW(ms == times[i].unix_ms, times[i].text);
	}
	/* Out of range: the nearest that can be written. */
	rt_time_format(-5, text);
	CU_ASSERT_STRING_EQUAL(text, "1970-01-01T00:00:00.000Z");
	rt_time_format(INT64_MAX, text);
	CU_ASSERT_STRING_EQUAL(text, "9999-12-31T23:59:59.999Z");
	/* Every day of 400 years, at a changing time of day. */
	for (int64_t day = 0; day < 146097; day++) {
		int64_t wanted = day * 86400000 + day * 7919 % 86400000;

		rt_time_format(wanted, text);
		if (!rt_time_parse(text, &ms) || ms != wanted) {
			CU_FAIL("a time does not come back as it was");
			return;
		}
	}
}

static void times_refused(void)
{
	static const char *const bad[] = {
		"",
		"2026-11-23",
		"2026-11-23T01:02:03Z",
		"2026-11-23T01:02:03.004",
		"2026-11-23T01:02:03.004z",
		"2026-11-23t01:02:03.004Z",
		"2026-11-23T01:02:03.0040Z",
		"2026-11-23T01:02:03.004+00:00",
		"2026-02-30T01:02:03.004Z",
		"2026-13-01T01:02:03.004Z",
		"2026-00-01T01:02:03.004Z",
		"2026-01-00T01:02:03.004Z",
		"2026-01-01T24:00:00.000Z",
		"2026-01-01T00:60:00.000Z",
		"2026-01-01T00:00:60.000Z",
		"1969-12-31T23:59:59.999Z",
		"0000-01-01T00:00:00.000Z",
		"-026-11-23T01:02:03.004Z",
		" 2026-11-23T01:02:03.004Z",
	};
	int64_t ms = 42;

	for (size_t i = 0; i < RT_LENGTH(bad); i++)
		TEST_ROW(!rt_time_parse(bad[i], &ms), bad[i]);
	CU_ASSERT(!rt_time_parse(NULL, &ms));
	CU_ASSERT_EQUAL(ms, 42);
}

static void sha256(void)
{
	/* FIPS 180-4, example 1. */
	static const uint8_t abc[32] = { 0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
					 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
					 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
					 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad };
	uint8_t digest[32];

	rt_sha256("abc", 3, digest);
	CU_ASSERT(memcmp(digest, abc, 32) == 0);
}

static void numbers_as_text(void)
{
	static const int64_t numbers[] = { 0,
					   1,
					   9,
					   10,
					   99,
					   100,
					   -1,
					   -10,
					   1764000000123,
					   INT64_MAX,
					   INT64_MAX - 1,
					   INT64_MIN,
					   INT64_MIN + 1 };
	char text[RT_INT_TEXT], wanted[RT_INT_TEXT];

	for (size_t i = 0; i < RT_LENGTH(numbers); i++) {
		snprintf(wanted, sizeof(wanted), "%" PRId64, numbers[i]);
		CU_ASSERT_EQUAL(rt_int_text(numbers[i], text), strlen(wanted));
		CU_ASSERT_STRING_EQUAL(text, wanted);
	}
}

static void base32(void)
{
	static const struct {
		uint8_t bytes[16];
		const char *text;
	} rows[] = {
		{ { 0 }, "aaaaaaaaaaaaaaaaaaaaaaaaaa" },
		{ { 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		    255 },
		  "777777777777777777777777"
		  "74" },
		/* python3: base64.b32encode(bytes(range(16))).lower() */
		{ { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
		  "aaaqeayeaudaocajbifqydiob4" },
	};
	uint8_t read[16];
	char text[RT_BASE32_128 + 1];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		rt_base32_128(rows[i].bytes, text);
		TEST_ROW(strcmp(text, rows[i].text) == 0, rows[i].text);
		TEST_ROW(rt_base32_128_valid(rows[i].text), rows[i].text);
		TEST_ROW(rt_base32_128_read(rows[i].text, read) &&
				 memcmp(read, rows[i].bytes, sizeof(read)) == 0,
			 rows[i].text);
	}
	CU_ASSERT(rt_base32_128_read("aaaqeayeaudaocajbifqydiob7", read)); /* unused bits set */
	CU_ASSERT(!rt_base32_128_read("", read));
	CU_ASSERT(!rt_base32_128_read("aaaqeayeaudaocajbifqydiob", read));
	CU_ASSERT(!rt_base32_128_read("AAAQEAYEAUDAOCAJBIFQYDIOB4", read));
	CU_ASSERT(!rt_base32_128_valid(NULL));
	CU_ASSERT(!rt_base32_128_valid(""));
	CU_ASSERT(!rt_base32_128_valid("aaaqeayeaudaocajbifqydiob"));   /* 25 */
	CU_ASSERT(!rt_base32_128_valid("aaaqeayeaudaocajbifqydiob4a")); /* 27 */
	CU_ASSERT(!rt_base32_128_valid("AAAQEAYEAUDAOCAJBIFQYDIOB4"));  /* upper case */
	CU_ASSERT(!rt_base32_128_valid("aaaqeayeaudaocajbifqydio14"));  /* no 1 in it */
	CU_ASSERT(!rt_base32_128_valid("aaaqeayeaudaocajbifqydiob5"));  /* unused bits set */
}

static void take(void)
{
	char *p = rt_strdup("x");
	char *q = RT_TAKE(p);

	CU_ASSERT_PTR_NULL(p);
	CU_ASSERT_STRING_EQUAL(q, "x");
	free(q);
}

/* Fixed for ever: data lies where they say. Computed apart. */
static void buckets(void)
{
	static const struct {
		const char *text;
		unsigned int bucket;
	} rows[] = {
		{ "", 11 }, { "tea", 689 }, { "sku-0001", 937 }, { "ann", 741 }, { "ä", 771 },
	};
	int counts[RT_BUCKETS] = { 0 };
	char text[32];

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(rt_bucket(rows[i].text, strlen(rows[i].text)) == rows[i].bucket,
			 rows[i].text);
	/* Texts that differ little spread evenly, whatever the number of partitions. */
	for (int count = 2; count <= RT_PARTITIONS_MAX; count *= 2) {
		memset(counts, 0, sizeof(counts));
		for (int i = 0; i < 100 * count; i++) {
			snprintf(text, sizeof(text), "sku-%06d", i);
			counts[rt_bucket_partition(rt_bucket(text, strlen(text)), count)]++;
		}
		for (int p = 0; p < count; p++)
			TEST_ROW(counts[p] > 50 && counts[p] < 160, "100 expected");
	}
}

static const struct test tests[] = {
	{ "each status has a name, a text and a gRPC code", statuses },
	{ "strings are copied", strings },
	{ "memory comes zeroed", allocation },
	{ "a list keeps the order, and its elements leave it", lists },
	{ "a buffer grows", buffers },
	{ "a time is written and read back", times_both_ways },
	{ "texts that are not times are refused", times_refused },
	{ "sha-256 of the standard's example", sha256 },
	{ "numbers as text", numbers_as_text },
	{ "texts have buckets", buckets },
	{ "base32 has one spelling of a number", base32 },
	{ "RT_TAKE sets the pointer to NULL", take },
};

TESTS_MAIN("rt", tests)
