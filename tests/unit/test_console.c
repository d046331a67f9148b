/* The console's parts without a browser: what may be asked and in which words, whose request it is, sessions, points made
 * of metrics, running a program. */
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console/ask.h"
#include "console/prometheus.h"
#include "console/questions.h"
#include "console/request.h"
#include "console/samples.h"
#include "console/sessions.h"
#include "run.h"

/* ---- questions ---- */

static const char *value_of(void *user, const char *name)
{
	const char *const *pairs = user;

	for (; *pairs != NULL; pairs += 2)
		if (strcmp(pairs[0], name) == 0)
			return pairs[1];
	return NULL;
}

#define LONG_64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LONG_128 LONG_64 LONG_64

/* The words, with a '|' behind each, or "!" and the error. */
static const struct {
	const char *name, *path, *pairs[8], *words;
} asked[] = {
	{ "one order", "/api/order", { "id", "ord_x" }, "explain|--json|-L|--|ord_x|" },
	{ "what looks like an option is an argument",
	  "/api/order",
	  { "id", "--gateway=evil" },
	  "explain|--json|-L|--|--gateway=evil|" },
	{ "what is missing", "/api/order", { NULL }, "!id is missing" },
	{ "empty is missing", "/api/order", { "id", "" }, "!id is missing" },
	{ "control characters",
	  "/api/order",
	  { "id", "a\nb" },
	  "!id: not 1 to 128 printable characters" },
	{ "an escape",
	  "/api/order",
	  { "id", "a\033[2J" },
	  "!id: not 1 to 128 printable characters" },
	{ "no UTF-8", "/api/order", { "id", "a\xff" }, "!id: not 1 to 128 printable characters" },
	{ "128 characters",
	  "/api/order",
	  { "id", LONG_128 },
	  "explain|--json|-L|--|" LONG_128 "|" },
	{ "129", "/api/order", { "id", LONG_128 "x" }, "!id: not 1 to 128 printable characters" },
	{ "a customer's orders",
	  "/api/orders",
	  { "customer", "carol", "status", "reserved", "limit", "10" },
	  "order|list|--json|-L|--status=reserved|--limit=10|--|carol|" },
	{ "a page further on",
	  "/api/orders",
	  { "customer", "carol", "page_token", "ab_-=" },
	  "order|list|--json|-L|--page-token=ab_-=|--|carol|" },
	{ "a status with blanks",
	  "/api/orders",
	  { "customer", "c", "status", "a b" },
	  "!status: not a status, such as reserved" },
	{ "a limit of 0",
	  "/api/orders",
	  { "customer", "c", "limit", "0" },
	  "!limit: not a number from 1 to 10000" },
	{ "too large a limit",
	  "/api/orders",
	  { "customer", "c", "limit", "10001" },
	  "!limit: not a number from 1 to 10000" },
	{ "a SKU", "/api/sku", { "sku", "tea" }, "stock|get|--json|-L|--|tea|" },
	{ "a SKU that is none",
	  "/api/sku",
	  { "sku", "tea;ls" },
	  "!sku: not 1 to 64 letters, digits, '.', '_' and '-'" },
	{ "a longer SKU",
	  "/api/sku",
	  { "sku", LONG_64 "x" },
	  "!sku: not 1 to 64 letters, digits, '.', '_' and '-'" },
	{ "replay",
	  "/api/dead/replay",
	  { "id", "3/17-4", "context", "order", "why", "fixed it" },
	  "dead|replay|--json|-L|--context=order|--why=fixed it|--|3/17-4|" },
	{ "replay by force",
	  "/api/dead/replay",
	  { "id", "17-4", "context", "order", "why", "w", "force", "true" },
	  "dead|replay|--json|-L|--context=order|--why=w|--force|--|17-4|" },
	{ "force is true or false",
	  "/api/dead/replay",
	  { "id", "17-4", "context", "order", "why", "w", "force", "1" },
	  "!force: not true or false" },
	{ "replay without a reason",
	  "/api/dead/replay",
	  { "id", "17-4", "context", "order" },
	  "!why is missing" },
	{ "an entry that is none",
	  "/api/dead/discard",
	  { "id", "17", "context", "order", "why", "w" },
	  "!id: not the id of an entry, such as 1764000000123-0" },
	{ "an entry without a partition",
	  "/api/dead/discard",
	  { "id", "/17-1", "context", "order", "why", "w" },
	  "!id: not the id of an entry, such as 1764000000123-0" },
	{ "events until a time",
	  "/api/events",
	  { "count", "100", "until", "2026-11-23T01:02:03.004Z" },
	  "events|tail|--json|-L|--count=100|--until=2026-11-23T01:02:03.004Z|--|" },
	{ "a time that is none",
	  "/api/events",
	  { "until", "2026-11-23" },
	  "!until: not a time, such as 2026-11-23T01:02:03.004Z" },
	{ "a search of the archive",
	  "/api/archive/orders",
	  { "sku", "tea", "label", "shop=north = south", "oldest", "true" },
	  "archive|search|--json|-L|--sku=tea|--label=shop=north = south|--oldest-first|--|" },
	{ "a label without a name",
	  "/api/archive/orders",
	  { "label", "=north" },
	  "!label: not a label, such as shop=north" },
	{ "a label without a value",
	  "/api/archive/orders",
	  { "label", "shop" },
	  "!label: not a label, such as shop=north" },
	{ "a label's name of 65 bytes",
	  "/api/archive/orders",
	  { "label", LONG_64 "x=north" },
	  "!label: not a label, such as shop=north" },
	{ "a label's value of 257 bytes",
	  "/api/archive/orders",
	  { "label", "shop=" LONG_128 LONG_128 "x" },
	  "!label: not a label, such as shop=north" },
	{ "an order's life",
	  "/api/archive/order",
	  { "id", "ord_x" },
	  "archive|show|--json|-L|--|ord_x|" },
	{ "movements",
	  "/api/archive/movements",
	  { "sku", "tea", "limit", "10" },
	  "archive|movements|--json|-L|--limit=10|--|tea|" },
	{ "what it does not know is not looked at",
	  "/api/sku",
	  { "sku", "tea", "redis-user", "ops" },
	  "stock|get|--json|-L|--|tea|" },
};

static void questions_have_fixed_words(void)
{
	static const char *const login[] = { "-L", NULL };

	for (size_t i = 0; i < RT_LENGTH(asked); i++) {
		const struct question *question = question_find(asked[i].path);
		struct rt_buf error = { 0 }, found = { 0 };
		struct rt_arena arena = { 0 };
		const char *const *words;

		CU_ASSERT_PTR_NOT_NULL_FATAL(question);
		words = question_words(question, login, value_of, (void *)(uintptr_t)asked[i].pairs,
				       &arena, &error);
		if (words == NULL)
			rt_buf_printf(&found, "!%.*s", (int)error.length, error.data);
		for (size_t w = 0; words != NULL && words[w] != NULL; w++)
			rt_buf_printf(&found, "%s|", words[w]);
		rt_buf_add(&found, "", 1);
		TEST_ROW(strcmp(found.data, asked[i].words) == 0, asked[i].name);
		rt_buf_done(&found);
		rt_buf_done(&error);
		rt_arena_done(&arena);
	}
	CU_ASSERT_PTR_NULL(question_find("/api/nothing"));
}

/* Whatever takes a right, and only that, is asked by POST and says why. */
static void changes_need_a_reason(void)
{
	for (size_t i = 0; i < question_count; i++) {
		const struct question *question = &questions[i];
		bool why = false;

		for (size_t p = 0; p < QUESTION_ASKS && question->parameters[p].name != NULL; p++)
			why = why || (question->parameters[p].kind == KIND_WHY &&
				      question->parameters[p].required);
		TEST_ROW(why == (question->right == RIGHT_OPERATE), question->path);
	}
}

/* ---- requests ---- */

static const struct {
	const char *host;
	bool anywhere, good;
} hosts[] = {
	{ "localhost:8088", false, true },
	{ "127.0.0.1:8088", false, true },
	{ "127.0.0.1", false, true },
	{ "[::1]:8088", false, true },
	{ "LocalHost", false, true },
	{ "console.example", false, true },
	{ "console.example:1", false, true },
	{ "evil.example:8088", false, false },
	{ "localhost.evil", false, false },
	{ "localhost:80x", false, false },
	{ "localhost:1234567", false, false },
	{ "", false, false },
	{ ":8088", false, false },
	{ "console.example,b", false, false },
	{ "evil.example:8088", true, true },
	{ "", true, false },
	{ "[::1", false, false },
	{ "127.0.0.1.evil.example", false, false },
};

static void foreign_names_are_refused(void)
{
	for (size_t i = 0; i < RT_LENGTH(hosts); i++)
		TEST_ROW(request_host_good(hosts[i].host, "a.example,console.example",
					   hosts[i].anywhere) == hosts[i].good,
			 hosts[i].host);
	CU_ASSERT_FALSE(request_host_good(NULL, "", true));
}

#define JSON_TYPE "application/json"
static const struct {
	const char *name, *host, *origin, *site, *type;
	bool tls, good;
} posts[] = {
	{ "our page", "h:1", "http://h:1", "same-origin", JSON_TYPE, false, true },
	{ "with a charset", "h:1", "http://h:1", "same-origin", JSON_TYPE "; charset=utf-8", false,
	  true },
	{ "a program", "h:1", NULL, NULL, JSON_TYPE, false, true },
	{ "over TLS", "h", "https://h", "same-origin", JSON_TYPE, true, true },
	{ "another scheme", "h", "http://h", "same-origin", JSON_TYPE, true, false },
	{ "a proxy with TLS before us", "h", "https://h", "same-origin", JSON_TYPE, false, true },
	{ "another origin with TLS", "h", "https://evil", NULL, JSON_TYPE, false, false },
	{ "another site", "h:1", "http://evil", "cross-site", JSON_TYPE, false, false },
	{ "another port", "h:1", "http://h:2", "same-site", JSON_TYPE, false, false },
	{ "another origin of an old browser", "h:1", "http://h:2", NULL, JSON_TYPE, false, false },
	{ "another site, and no origin", "h:1", NULL, "cross-site", JSON_TYPE, false, false },
	{ "no origin at all", "h:1", "null", NULL, JSON_TYPE, false, false },
	{ "a form", "h:1", "http://h:1", "same-origin", "application/x-www-form-urlencoded", false,
	  false },
	{ "no type", "h:1", "http://h:1", "same-origin", NULL, false, false },
	{ "no host", NULL, "http://h:1", "same-origin", JSON_TYPE, false, false },
};

static void other_sites_change_nothing(void)
{
	for (size_t i = 0; i < RT_LENGTH(posts); i++)
		TEST_ROW((request_refused(posts[i].host, posts[i].origin, posts[i].site,
					  posts[i].type, posts[i].tls) == NULL) == posts[i].good,
			 posts[i].name);
}

/* What is only read is no secret for other sites, but it is work. */
static void other_sites_ask_nothing(void)
{
	CU_ASSERT(request_own(NULL));
	CU_ASSERT(request_own("same-origin"));
	CU_ASSERT(request_own("none")); /* typed by its user */
	CU_ASSERT_FALSE(request_own("same-site"));
	CU_ASSERT_FALSE(request_own("cross-site"));
	CU_ASSERT_FALSE(request_own(""));
}

static void cookies_are_found(void)
{
	static const struct {
		const char *header, *value;
	} rows[] = {
		{ "c=abcd", "abcd" },
		{ "a=1; c=abcd; d=2", "abcd" },
		{ "a=1;c=abcd", "abcd" },
		{ "c=abcde", NULL },
		{ "c=abc", NULL },
		{ "xc=abcd", NULL },
		{ "", NULL },
		{ ";;; ;c=abcd", "abcd" },
		{ "c=abc; c=abcd", "abcd" },
		{ "cabcde", NULL },
	};
	char value[5];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		bool found = request_cookie(rows[i].header, "c", value, 4);

		TEST_ROW(found == (rows[i].value != NULL), rows[i].header);
		TEST_ROW(!found || strcmp(value, rows[i].value) == 0, rows[i].header);
	}
	CU_ASSERT_FALSE(request_cookie(NULL, "c", value, 4));
}

/* ---- sessions ---- */

#define IDLE_MS 1000

static bool lives(struct sessions *sessions, const char *cookie, int64_t now_ms)
{
	struct session session = { 0 };
	bool found = sessions_use(sessions, cookie, now_ms, &session);

	session_done(&session);
	return found;
}

static void a_session_ends(void)
{
	struct sessions *sessions = sessions_new(IDLE_MS);
	char one[SESSION_COOKIE + 1], two[SESSION_COOKIE + 1];
	struct session session = { 0 };

	sessions_begin(sessions, WAY_PASSWORD, "ops", "secret", 0, one);
	sessions_begin(sessions, WAY_TOKEN, "operator", "key", 0, two);
	CU_ASSERT_EQUAL(strlen(one), SESSION_COOKIE);
	CU_ASSERT_STRING_NOT_EQUAL(one, two);
	CU_ASSERT_FATAL(sessions_use(sessions, two, 500, &session));
	CU_ASSERT_EQUAL(session.way, WAY_TOKEN);
	CU_ASSERT_STRING_EQUAL(session.name, "operator");
	CU_ASSERT_STRING_EQUAL(session.secret, "key");
	session_done(&session);
	/* What the page does by itself is no use. */
	CU_ASSERT(sessions_alive(sessions, one, 999));
	CU_ASSERT_FALSE(lives(sessions, one, 1000));
	CU_ASSERT(lives(sessions, two, 1499));
	sessions_end(sessions, two);
	CU_ASSERT_FALSE(lives(sessions, two, 1499));
	CU_ASSERT_FALSE(lives(sessions, "", 0));
	CU_ASSERT_FALSE(lives(sessions, "00000000000000000000000000000000", 0));
	sessions_free(sessions);
}

static void no_session_lasts_for_ever(void)
{
	struct sessions *sessions = sessions_new(LONGEST_MS);
	char cookie[SESSION_COOKIE + 1];

	sessions_begin(sessions, WAY_PASSWORD, "ops", "secret", 0, cookie);
	CU_ASSERT(lives(sessions, cookie, LONGEST_MS - 1));
	CU_ASSERT_FALSE(lives(sessions, cookie, LONGEST_MS));
	sessions_free(sessions);
}

static void sessions_are_bounded(void)
{
	struct sessions *sessions = sessions_new(LONGEST_MS);
	char cookies[SESSIONS_MAX + 1][SESSION_COOKIE + 1];

	for (size_t i = 0; i < SESSIONS_MAX; i++)
		sessions_begin(sessions, WAY_PASSWORD, "ops", "s", (int64_t)i, cookies[i]);
	CU_ASSERT(
		lives(sessions, cookies[0], 1000)); /* so the second is the one used longest ago */
	sessions_begin(sessions, WAY_PASSWORD, "ops", "s", 1001, cookies[SESSIONS_MAX]);
	CU_ASSERT(lives(sessions, cookies[0], 1002));
	CU_ASSERT_FALSE(lives(sessions, cookies[1], 1002));
	for (size_t i = 2; i <= SESSIONS_MAX; i++)
		CU_ASSERT(lives(sessions, cookies[i], 1002));
	sessions_free(sessions);
}

static void guessing_is_slow(void)
{
	struct sessions *sessions = sessions_new(IDLE_MS);
	int64_t tries = 0;

	for (int64_t now_ms = 0; now_ms < 60000; now_ms += 100)
		if (sessions_may_try(sessions, now_ms)) {
			sessions_refused(sessions, now_ms);
			tries++;
		}
	CU_ASSERT_EQUAL(tries, 20);
	CU_ASSERT_FALSE(sessions_may_try(sessions, 59999));
	CU_ASSERT(sessions_may_try(sessions, 60000));
	sessions_free(sessions);
}

static void names_tell_no_secret(void)
{
	char name[SESSION_NAME_BYTES];

	session_name(WAY_PASSWORD, "abc", name);
	CU_ASSERT_STRING_EQUAL(name, "ops");
	session_name(WAY_TOKEN, "abc", name); /* its SHA-256 begins so */
	CU_ASSERT_STRING_EQUAL(name, "operator (key ba7816bf)");
}

/* ---- points ---- */

static double real_of(const json_t *json, const char *key)
{
	return json_number_value(json_object_get(json, key));
}

static json_t *point(struct samples *samples, const char *const *pages, size_t count,
		     int64_t now_ms)
{
	samples_begin(samples);
	for (size_t i = 0; i < count; i++)
		samples_add(samples, "http://here", pages[i], "connection refused");
	return samples_end(samples, 1000 + now_ms, now_ms);
}

#define INFO(name) "# HELP x y\ntandem_build_info{service=\"" name "\",version=\"1\"} 1\n"

static void points_are_rates(void)
{
	struct samples *samples = samples_new();
	const char *first = INFO("order") "tandem_orders_placed_total{outcome=\"new\"} 100\n"
					  "tandem_orders_placed_total{outcome=\"repeated\"} 7\n"
					  "tandem_orders_unsettled 5\n";
	const char *second = INFO("order") "tandem_orders_placed_total{outcome=\"new\"} 150\n"
					   "tandem_orders_placed_total{outcome=\"repeated\"} 99\n"
					   "tandem_orders_unsettled 6\n";
	json_t *json = point(samples, &first, 1, 0);

	CU_ASSERT(json_is_null(json_object_get(json, "placed"))); /* since when? */
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "unsettled"), 5, 1e-9);
	CU_ASSERT(json_is_null(json_object_get(json, "due"))); /* nobody says it */
	json_decref(json);
	json = point(samples, &second, 1, 2000);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "placed"), 25, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "unsettled"), 6, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "t"), 3000, 1e-9);
	json_decref(json);
	json = point(samples, &first, 1, 3000); /* it was started again: its counters begin anew */
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "placed"), 0, 1e-9);
	json_decref(json);
	samples_free(samples);
}

/* A service that does not answer for a moment comes back with all that it has ever counted. */
static void a_page_that_comes_again_is_no_burst(void)
{
	struct samples *samples = samples_new();
	const char *page = INFO("order") "tandem_orders_placed_total{outcome=\"new\"} 1000000\n";
	const char *none = NULL;
	json_t *json, *list;

	json_decref(point(samples, &page, 1, 0));
	json = point(samples, &none, 1, 1000);
	list = json_object_get(json, "services"); /* whose page it was is known */
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(json_array_get(list, 0), "name")),
			       "order");
	json_decref(json);
	json = point(samples, &page, 1, 2000);
	CU_ASSERT(json_is_null(json_object_get(json, "placed")));
	json_decref(json);
	json = point(samples, &page, 1, 3000);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "placed"), 0, 1e-9);
	json_decref(json);
	samples_free(samples);
}

static void percentiles_come_from_buckets(void)
{
	struct samples *samples = samples_new();
	const char *first =
		INFO("order") "tandem_order_decision_seconds_bucket{le=\"0.1\"} 1000\n"
			      "tandem_order_decision_seconds_bucket{le=\"0.2\"} 1000\n"
			      "tandem_order_decision_seconds_bucket{le=\"+Inf\"} 1000\n";
	const char *second =
		INFO("order") "tandem_order_decision_seconds_bucket{le=\"0.1\"} 1050\n"
			      "tandem_order_decision_seconds_bucket{le=\"0.2\"} 1100\n"
			      "tandem_order_decision_seconds_bucket{le=\"+Inf\"} 1100\n";
	const char *third =
		INFO("order") "tandem_order_decision_seconds_bucket{le=\"0.1\"} 1050\n"
			      "tandem_order_decision_seconds_bucket{le=\"0.2\"} 1100\n"
			      "tandem_order_decision_seconds_bucket{le=\"+Inf\"} 9999\n";
	json_t *json;

	json_decref(point(samples, &first, 1, 0));
	json = point(samples, &second, 1, 1000);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "decision_p50"), 0.1, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "decision_p99"), 0.198, 1e-9);
	CU_ASSERT(json_is_null(json_object_get(json, "call_p50")));
	json_decref(json);
	json = point(samples, &third, 1, 2000); /* beyond the last bound it is at least that */
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "decision_p99"), 0.2, 1e-9);
	json_decref(json);
	samples_free(samples);
}

static void streams_and_services_are_listed(void)
{
	struct samples *samples = samples_new();
	const char *const pages[] = {
		INFO("inventory") "tandem_events_lag{stream=\"order:{0}:events\"} 3\n"
				  "tandem_events_oldest_pending_seconds{stream=\"order:{0}:"
				  "events\"} 1.5\n"
				  "tandem_events_lag{stream=\"order:{1}:events\"} 4\n",
		/* A second instance reads the same group. */
		INFO("inventory") "tandem_events_lag{stream=\"order:{0}:events\"} 2\n"
				  "tandem_dead_letters{stream=\"order:{0}:dead\"} 5\n"
				  "tandem_dead_letters{stream=\"order:{1}:dead\"} 6\n",
		NULL,
		"not a page of ours",
	};
	json_t *json = point(samples, pages, RT_LENGTH(pages), 0), *list, *one;

	list = json_object_get(json, "streams");
	CU_ASSERT_EQUAL_FATAL(json_array_size(list), 2);
	one = json_array_get(list, 0);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "reader")), "inventory");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "stream")),
			       "order:{0}:events");
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "lag"), 3, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "lag"), 7, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "oldest_s"), 1.5, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "letters"), 11, 1e-9);
	list = json_object_get(json, "services");
	CU_ASSERT_EQUAL_FATAL(json_array_size(list), 4);
	CU_ASSERT(json_is_true(json_object_get(json_array_get(list, 0), "up")));
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(json_array_get(list, 2), "error")),
			       "connection refused");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(json_array_get(list, 3), "error")),
			       "this is no service of Tandem");
	json_decref(json);
	samples_free(samples);
}

/* What a service says that does not know it (yet) is no number. */
static void what_is_not_known_is_null(void)
{
	struct samples *samples = samples_new();
	const char *page = INFO("order") "tandem_order_oldest_unanswered_seconds NaN\n"
					 "tandem_events_lag{stream=\"s\"} NaN\n"
					 "tandem_events_pending{stream=\"s\"} 2\n";
	json_t *json = point(samples, &page, 1, 0), *one;

	CU_ASSERT(json_is_null(json_object_get(json, "unanswered_s")));
	CU_ASSERT(json_is_null(json_object_get(json, "lag")));
	one = json_array_get(json_object_get(json, "streams"), 0);
	CU_ASSERT(json_is_null(json_object_get(one, "lag")));
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "pending"), 2, 1e-9);
	json_decref(json);
	samples_free(samples);
}

#define WORK(messages, events0, events1, cpu)                                                      \
	"grpc_server_msg_received_total{grpc_type=\"unary\"} " messages "\n"                       \
	"tandem_events_done_total{stream=\"order:{0}:events\"} " events0 "\n"                      \
	"tandem_events_done_total{stream=\"order:{1}:events\"} " events1 "\n"                      \
	"process_cpu_seconds_total " cpu "\n"                                                      \
	"process_resident_memory_bytes 4096\n"
static void services_and_partitions_have_rates(void)
{
	struct samples *samples = samples_new();
	const char *const first[] = { INFO("inventory") WORK("10", "100", "7", "1"),
				      INFO("order") "process_cpu_seconds_total 5\n" };
	const char *const second[] = { INFO("inventory") WORK("30", "120", "8", "2"), NULL };
	json_t *json, *one;

	json = point(samples, first, 2, 0);
	one = json_array_get(json_object_get(json, "services"), 0);
	CU_ASSERT(json_is_null(json_object_get(one, "messages"))); /* since when? */
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "away"), 0, 1e-9);
	json_decref(json);
	json = point(samples, second, 2, 2000);
	one = json_array_get(json_object_get(json, "services"), 0);
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "messages"), 10, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "events"), 10.5, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "cpu"), 0.5, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "memory"), 4096, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "away"), 1, 1e-9); /* its own rates do not suffer */
	one = json_array_get(json_object_get(json, "services"), 1);
	CU_ASSERT(json_is_null(json_object_get(one, "cpu")));
	json_decref(json);
	json = point(samples, second, 2, 4000); /* the same pages as before: sums can be compared */
	one = json_array_get(json_object_get(json, "streams"), 0);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "stream")),
			       "order:{0}:events");
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "events"), 0, 1e-9);
	json_decref(json);
	json = point(samples,
		     (const char *const[]){ INFO("inventory") WORK("30", "140", "8", "2"), NULL },
		     2, 6000);
	one = json_array_get(json_object_get(json, "streams"), 0);
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "events"), 5,
			       1e-9); /* 20 in the 4 s since the second */
	one = json_array_get(json_object_get(json, "streams"), 1);
	CU_ASSERT_DOUBLE_EQUAL(real_of(one, "events"), 0, 1e-9);
	json_decref(json);
	samples_free(samples);
}

/* 1024 partitions: each reader of each stream is there, and the sums are those of all. */
static void a_thousand_partitions_are_taken(void)
{
	struct samples *samples = samples_new();
	struct rt_buf text = { 0 };
	const char *page;
	json_t *json;

	rt_buf_printf(&text, INFO("order"));
	for (int p = 0; p < 1024; p++)
		rt_buf_printf(&text, "tandem_events_lag{stream=\"inventory:{%d}:events\"} 1\n", p);
	for (int p = 0; p < 1024; p++)
		rt_buf_printf(&text, "tandem_dead_letters{stream=\"order:{%d}:dead\"} 2\n", p);
	rt_buf_add(&text, "", 1);
	page = text.data;
	json = point(samples, &page, 1, 0);
	CU_ASSERT_EQUAL(json_array_size(json_object_get(json, "streams")), 1024);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "lag"), 1024, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "lag_most"), 1, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(real_of(json, "letters"), 2048, 1e-9);
	json_decref(json);
	rt_buf_done(&text);
	samples_free(samples);
}

/* ---- Prometheus ---- */

static void alarms_are_read(void)
{
	static const char answer[] =
		"{\"status\":\"success\",\"data\":{\"alerts\":["
		"{\"labels\":{\"alertname\":\"TandemOrdersHang\",\"severity\":\"page\",\"job\":"
		"\"tandem\"},"
		"\"annotations\":{\"summary\":\"an order <b>\",\"runbook\":\"docs/runbook.md#x\"},"
		"\"state\":\"firing\",\"activeAt\":\"2026-11-27T01:02:03Z\",\"value\":\"1e+00\"},"
		"{\"labels\":{\"alertname\":\"DiskFull\"},\"state\":\"firing\"},"
		"{\"labels\":{\"alertname\":\"TandemX\",\"a\":7}},"
		"{\"labels\":[]},17,null]}}";
	json_t *items = prometheus_read(answer, sizeof(answer) - 1), *one;

	CU_ASSERT_EQUAL_FATAL(json_array_size(items), 2);
	one = json_array_get(items, 0);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "alert")),
			       "TandemOrdersHang");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "state")), "firing");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "summary")), "an order <b>");
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "labels")), "job=tandem");
	one = json_array_get(items, 1);
	CU_ASSERT_STRING_EQUAL(json_string_value(json_object_get(one, "since")), "");
	json_decref(items);
}

static void what_is_not_prometheus_is_refused(void)
{
	static const char *const answers[] = {
		"",
		"{",
		"[]",
		"17",
		"{\"data\":[]}",
		"{\"data\":{\"alerts\":{}}}",
		"<html>",
		"{\"data\":null}",
	};

	for (size_t i = 0; i < RT_LENGTH(answers); i++)
		TEST_ROW(prometheus_read(answers[i], strlen(answers[i])) == NULL, answers[i]);
}

/* Metrics come from outside. */
static void any_text_is_taken(void)
{
	static const char *const texts[] = {
		"",
		"\n\n",
		"{",
		"}",
		"a{",
		"a{b",
		"a{b=",
		"a{b=\"",
		"a{b=\"c",
		"a{b=\"c\"",
		"a{b=\"c\"} ",
		"a{b=\"c\"} x",
		"a b c d",
		" 1",
		"tandem_events_lag{stream=\"} 1",
		"tandem_events_lag{stream=\"\xff\xfe\"} 1",
		"tandem_events_lag{stream=\"s\"} nan",
		"tandem_events_lag{stream=\"s\"} 1e999",
		"tandem_orders_unsettled -inf",
		"\ntandem_build_info{service=\"",
		"tandem_order_decision_seconds_bucket{le=\"nan\"} 1",
		"tandem_order_decision_seconds_bucket{le=\"x\"} 1",
	};
	struct samples *samples = samples_new();
	char wide[5000];

	memset(wide, 'x', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	for (size_t i = 0; i < RT_LENGTH(texts); i++) {
		json_t *json = point(samples, &texts[i], 1, (int64_t)i * 1000);
		char *text = json_dumps(json, 0);

		TEST_ROW(text != NULL, texts[i]);
		free(text);
		json_decref(json);
	}
	json_decref(point(samples, (const char *const[]){ wide }, 1, 0));
	samples_free(samples);
}

/* ---- running a program ---- */

static struct asker *asker;

static struct answer run_shell(const char *script, const char *secret, int64_t deadline_ms)
{
	const char *const words[] = { "-c", script, NULL };
	struct answer answer;

	asker_ask(asker, words, secret, -1, deadline_ms, &answer);
	return answer;
}

static void answers_are_taken(void)
{
	struct answer answer = run_shell("echo out; echo err >&2; exit 3", NULL, 10000);

	CU_ASSERT_EQUAL(answer.end, ASK_ENDED);
	CU_ASSERT_EQUAL(answer.code, 3);
	CU_ASSERT_STRING_EQUAL(answer.out.data, "out\n");
	CU_ASSERT_STRING_EQUAL(answer.err.data, "err\n");
	answer_done(&answer);
}

/* The program reads the secret; neither its words nor its environment have it. */
static void a_secret_is_a_file_in_memory(void)
{
	struct answer answer = run_shell("cat " ASK_SECRET_PATH, "s3cret", 10000);

	CU_ASSERT_EQUAL(answer.code, 0);
	CU_ASSERT_STRING_EQUAL(answer.out.data, "s3cret");
	answer_done(&answer);
	/* Nothing else of ours is open there. */
	answer = run_shell("for fd in 3 4 5 6 7 8 9; do [ ! -e /proc/$$/fd/$fd ] || echo $fd; done",
			   NULL, 10000);
	CU_ASSERT_STRING_EQUAL(answer.out.data, "");
	answer_done(&answer);
}

static void who_is_late_is_killed(void)
{
	int64_t begin_ns = rt_monotonic_ns();
	struct answer answer = run_shell("echo begun; sleep 60 & wait", NULL, 300);

	CU_ASSERT_EQUAL(answer.end, ASK_LATE);
	CU_ASSERT(rt_monotonic_ns() - begin_ns < 30 * INT64_C(1000000000));
	answer_done(&answer);
}

/* Its output is closed, but it has not ended. */
static void who_closes_its_output_and_stays_is_killed(void)
{
	struct answer answer = run_shell("exec >&- 2>&-; sleep 60", NULL, 300);

	CU_ASSERT_EQUAL(answer.end, ASK_LATE);
	answer_done(&answer);
}

/* A browser's connection, which it closes when the program has opened the pipe. */
struct browser {
	char pipe[64];
	int ends[2];
};

static void *leave(void *user)
{
	struct browser *browser = user;
	int fd = open(browser->pipe, O_RDONLY | O_CLOEXEC);

	close(browser->ends[1]);
	close(fd);
	return NULL;
}

/* The program does not go on for nobody, and is not begun for one that has left. */
static void who_asked_has_left(void)
{
	struct browser browser = { .pipe = "/tmp/tandem-test-XXXXXX" };
	char *path = rt_printf("%s/pipe", mkdtemp(browser.pipe));
	char *script = rt_printf("echo > %s; sleep 60", path);
	struct answer answer;
	pthread_t thread;

	snprintf(browser.pipe, sizeof(browser.pipe), "%s", path);
	CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, browser.ends), 0);
	asker_ask(asker, (const char *const[]){ "-c", "echo out", NULL }, NULL, browser.ends[0],
		  10000, &answer);
	CU_ASSERT_EQUAL(answer.end, ASK_ENDED); /* who waits gets it */
	answer_done(&answer);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, leave, &browser), 0);
	asker_ask(asker, (const char *const[]){ "-c", script, NULL }, NULL, browser.ends[0], 30000,
		  &answer);
	CU_ASSERT_EQUAL(answer.end, ASK_LEFT);
	answer_done(&answer);
	pthread_join(thread, NULL);
	asker_ask(asker, (const char *const[]){ "-c", "echo out", NULL }, NULL, browser.ends[0],
		  10000, &answer);
	CU_ASSERT_EQUAL(answer.end, ASK_LEFT);
	CU_ASSERT_EQUAL(answer.out.length, 0);
	answer_done(&answer);
	close(browser.ends[0]);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	free(path);
	free(script);
}

static void too_much_output_ends_it(void)
{
	struct answer answer = run_shell("cat /dev/zero", NULL, 60000);

	CU_ASSERT_EQUAL(answer.end, ASK_TOO_LONG);
	answer_done(&answer);
	answer = run_shell("head -c 100000 /dev/zero >&2; echo out", NULL, 60000);
	CU_ASSERT_EQUAL(answer.end, ASK_ENDED);
	CU_ASSERT_EQUAL(answer.err.length, ASK_ERR_BYTES_MAX);
	CU_ASSERT_STRING_EQUAL(answer.out.data, "out\n");
	answer_done(&answer);
}

static void what_cannot_be_run_is_said(void)
{
	struct asker *missing = asker_new("/nowhere/tandemctl");
	struct answer answer;

	asker_ask(missing, (const char *const[]){ NULL }, NULL, -1, 1000, &answer);
	CU_ASSERT_EQUAL(answer.end, ASK_FAILED);
	CU_ASSERT_PTR_NOT_NULL(strstr(answer.err.data, "/nowhere/tandemctl"));
	answer_done(&answer);
	asker_free(missing);
	answer = run_shell("kill -SEGV $$", NULL, 10000);
	CU_ASSERT_EQUAL(answer.end, ASK_FAILED);
	answer_done(&answer);
}

static void at_the_end_nothing_is_run(void)
{
	struct answer answer;

	asker_end(asker);
	answer = run_shell("echo out", NULL, 10000);
	CU_ASSERT_EQUAL(answer.end, ASK_BUSY);
	answer_done(&answer);
}

/* Nobody but root can read the memory of a process in which secrets are, and it leaves no core. */
static void secrets_can_be_protected(void)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0)
		_exit(rt_file_protect() && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 1);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
}

static const struct test tests[] = {
	{ "questions have fixed words", questions_have_fixed_words },
	{ "changes need a reason", changes_need_a_reason },
	{ "foreign names are refused", foreign_names_are_refused },
	{ "other sites change nothing", other_sites_change_nothing },
	{ "other sites ask nothing", other_sites_ask_nothing },
	{ "cookies are found", cookies_are_found },
	{ "a session ends", a_session_ends },
	{ "no session lasts for ever", no_session_lasts_for_ever },
	{ "sessions are bounded", sessions_are_bounded },
	{ "guessing is slow", guessing_is_slow },
	{ "names tell no secret", names_tell_no_secret },
	{ "points are rates", points_are_rates },
	{ "a page that comes again is no burst", a_page_that_comes_again_is_no_burst },
	{ "percentiles come from buckets", percentiles_come_from_buckets },
	{ "streams and services are listed", streams_and_services_are_listed },
	{ "what is not known is null", what_is_not_known_is_null },
	{ "services and partitions have rates", services_and_partitions_have_rates },
	{ "a thousand partitions are taken", a_thousand_partitions_are_taken },
	{ "alarms are read", alarms_are_read },
	{ "what is not Prometheus is refused", what_is_not_prometheus_is_refused },
	{ "any text is taken", any_text_is_taken },
	{ "answers are taken", answers_are_taken },
	{ "a secret is a file in memory", a_secret_is_a_file_in_memory },
	{ "who is late is killed", who_is_late_is_killed },
	{ "who closes its output and stays is killed", who_closes_its_output_and_stays_is_killed },
	{ "who asked has left", who_asked_has_left },
	{ "too much output ends it", too_much_output_ends_it },
	{ "what cannot be run is said", what_cannot_be_run_is_said },
	{ "secrets can be protected", secrets_can_be_protected },
	{ "at the end nothing is run", at_the_end_nothing_is_run },
};

static void setup(void)
{
	asker = asker_new("/bin/sh");
}

static void teardown(void)
{
	asker_free(asker);
}

TESTS_MAIN_EACH("console", setup, teardown, tests)
