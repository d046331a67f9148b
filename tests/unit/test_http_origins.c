/* Whose pages may call over HTTP: what the setting takes, and what it refuses instead of never matching it. */
#include "service/http_origins.h"

#include <string.h>

#include "run.h"

static void lists(void)
{
	static const struct {
		const char *list, *origin;
		bool allowed;
	} rows[] = {
		{ "", "https://a.example", false },
		{ "https://a.example", "https://a.example", true },
		{ "https://a.example", "http://a.example", false },
		{ "https://a.example", "https://a.example.evil", false },
		{ "https://a.example", "null", false },
		{ "https://a.example,https://b.example:8443", "https://b.example:8443", true },
		{ "https://a.example, https://b.example ", "https://b.example", true },
		{ "http://[::1]:3000", "http://[::1]:3000", true },
		{ "chrome-extension://abc", "chrome-extension://abc", true },
		{ "*", "https://a.example", true },
		{ "*", "null", true },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct http_origins *origins = NULL;

		TEST_ROW(http_origins_read(rows[i].list, &origins) == RT_OK, rows[i].list);
		TEST_ROW(origins != NULL &&
				 http_origins_allow(origins, rows[i].origin) == rows[i].allowed,
			 rows[i].list);
		http_origins_free(origins);
	}
}

/* No browser sends these, so nobody would ever be let in. */
static void what_is_no_origin(void)
{
	static const char *const rows[] = {
		"a.example",
		"https://",
		"https://a.example/",
		"https://a.example/b",
		"https://A.example",
		"HTTPS://a.example",
		"https://a b",
		"https://*.example",
		"https://a.example:443",
		"http://a.example:80",
		"null",
		"https://a.example,,https://b.example",
		"://a.example",
		" ",
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct http_origins *origins = NULL;

		TEST_ROW(http_origins_read(rows[i], &origins) == RT_INVALID && origins == NULL,
			 rows[i]);
	}
}

static void too_many(void)
{
	struct http_origins *origins = NULL;
	struct rt_buf text = { 0 };

	for (int i = 0; i < 64; i++)
		rt_buf_printf(&text, "%shttps://%d.example", i > 0 ? "," : "", i);
	CU_ASSERT_EQUAL(http_origins_read(text.data, &origins), RT_OK);
	http_origins_free(origins);
	origins = NULL;
	rt_buf_printf(&text, ",https://64.example");
	CU_ASSERT_EQUAL(http_origins_read(text.data, &origins), RT_INVALID);
	CU_ASSERT_PTR_NULL(origins);
	rt_buf_done(&text);
}

static const struct test tests[] = {
	{ "lists", lists },
	{ "what is no origin", what_is_no_origin },
	{ "too many", too_many },
};

TESTS_MAIN("http_origins", tests)
