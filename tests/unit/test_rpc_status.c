/* Statuses: set, detailed, packed and read again; bounded whatever is put in. */
#include <google/rpc/status.pb-c.h>
#include <string.h>

#include "base/base.h"
#include "details.h"
#include "rpc/rpc.h"
#include "run.h"

static void test_set(void)
{
	struct rt_status status = { 0 };

	rt_status_set(&status, RT_CODE_NOT_FOUND, "no order %s", "ord_x");
	rt_status_retry(&status, 10);
	CU_ASSERT_EQUAL(status.code, 5);
	CU_ASSERT_STRING_EQUAL(status.message, "no order ord_x");
	/* Set again: the former details are gone; the old message may be an argument. */
	rt_status_set(&status, RT_CODE_ABORTED, "again: %s", status.message);
	CU_ASSERT_STRING_EQUAL(status.message, "again: no order ord_x");
	CU_ASSERT_PTR_NULL(status.details);
	rt_status_done(&status);
	CU_ASSERT_PTR_NULL(status.message);
	CU_ASSERT_EQUAL(status.code, 0);
}

static void test_names(void)
{
	CU_ASSERT_STRING_EQUAL(rt_code_name(0), "OK");
	CU_ASSERT_STRING_EQUAL(rt_code_name(RT_CODE_INVALID_ARGUMENT), "INVALID_ARGUMENT");
	CU_ASSERT_STRING_EQUAL(rt_code_name(RT_CODE_UNAUTHENTICATED), "UNAUTHENTICATED");
	CU_ASSERT_STRING_EQUAL(rt_code_name(17), "UNKNOWN");
	CU_ASSERT_STRING_EQUAL(rt_code_name(-1), "UNKNOWN");
}

static void test_details(void)
{
	struct rt_status status = { 0 };
	Google__Rpc__Status *proto;
	struct details details;

	rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "two faults");
	rt_status_violation(&status, "lines[0].sku", "must not be empty");
	rt_status_retry(&status, 1500);
	rt_status_violation(&status, "hold", "must be at least %d s", 1);
	rt_status_info(&status, "BAD_ORDER");
	rt_status_precondition(&status, "ORDER_STATUS", "ord_x", "is CANCELLED");

	proto = google__rpc__status__unpack(NULL, status.details_length, status.details);
	CU_ASSERT_PTR_NOT_NULL_FATAL(proto);
	CU_ASSERT_EQUAL(proto->code, 3);
	CU_ASSERT_STRING_EQUAL(proto->message, "two faults");
	CU_ASSERT_EQUAL_FATAL(proto->n_details, 4); /* each type once */
	CU_ASSERT_STRING_EQUAL(proto->details[0]->type_url,
			       "type.googleapis.com/google.rpc.BadRequest");
	google__rpc__status__free_unpacked(proto, NULL);

	details = details_of(&status);
	CU_ASSERT_STRING_EQUAL(details.fields, "lines[0].sku hold");
	CU_ASSERT_STRING_EQUAL(details.description, "must be at least 1 s");
	CU_ASSERT_EQUAL(details.retry_ms, 1500);
	CU_ASSERT_EQUAL(rt_status_retry_ms(&status), 1500);
	CU_ASSERT_STRING_EQUAL(details.reason, "BAD_ORDER");
	CU_ASSERT_STRING_EQUAL(details.domain, "tandem");
	CU_ASSERT_STRING_EQUAL(details.subject, "ord_x");
	rt_status_done(&status);
}

static void test_proto(void)
{
	struct rt_status status = { 0 }, copy, back = { 0 };
	Google__Rpc__Status *proto;

	/* Without details and without a message, too. */
	proto = rt_status_to_proto(&status);
	CU_ASSERT_EQUAL(proto->code, 0);
	CU_ASSERT_STRING_EQUAL(proto->message, "");
	rt_status_from_proto(&back, proto);
	CU_ASSERT_PTR_NULL(back.details);
	google__rpc__status__free_unpacked(proto, NULL);

	rt_status_set(&status, RT_CODE_UNAVAILABLE, "away");
	rt_status_retry(&status, 250);
	rt_status_copy(&copy, &status);
	proto = rt_status_to_proto(&copy);
	rt_status_done(&copy);
	rt_status_from_proto(&back, proto);
	google__rpc__status__free_unpacked(proto, NULL);
	CU_ASSERT_EQUAL(back.code, 14);
	CU_ASSERT_STRING_EQUAL(back.message, "away");
	CU_ASSERT_EQUAL_FATAL(back.details_length, status.details_length);
	CU_ASSERT_EQUAL(memcmp(back.details, status.details, status.details_length), 0);
	rt_status_done(&status);
	rt_status_done(&back);
}

static void test_from(void)
{
	static const struct {
		int rc, code;
		bool retry;
	} rows[] = {
		{ RT_OK, 0, false },          { RT_LOST, 14, true },    { RT_UNREADY, 14, true },
		{ RT_FULL, 8, true },         { RT_BUSY, 8, true },     { RT_TIMEOUT, 4, false },
		{ RT_DENIED, 7, false },      { RT_INVALID, 3, false }, { RT_REMOTE, 13, false },
		{ RT_UNCONFIRMED, 14, true },
	};
	struct rt_status status = { 0 };

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		rt_status_from(&status, rows[i].rc, "storing the order");
		CU_ASSERT_EQUAL(status.code, rows[i].code);
		CU_ASSERT_EQUAL(status.details != NULL, rows[i].retry);
		if (rows[i].rc != RT_OK)
			CU_ASSERT_EQUAL(strncmp(status.message, "storing the order: ", 19), 0);
	}
	rt_status_from(&status, RT_LOST, "storing the order");
	CU_ASSERT_STRING_EQUAL(status.message, "storing the order: connection lost");
	rt_status_done(&status);
}

/* The size of a status in an answer's metadata, as HTTP/2 counts it: names, values as they travel
 * (percent-encoded, base64) and 32 bytes for each. */
static size_t metadata_bytes(const struct rt_status *status)
{
	size_t bytes = strlen("grpc-status") + 2 + 32 + strlen("grpc-message") + 32 +
		       strlen("grpc-status-details-bin") + 32;

	for (const char *at = status->message; *at != '\0'; at++)
		bytes += *at >= ' ' && *at <= '~' && *at != '%' ? 1 : 3;
	return bytes + (status->details_length + 2) / 3 * 4;
}

/* Whatever is put in, a client can receive the status: at most 8 KiB of metadata, valid UTF-8. */
static void test_bounds(void)
{
	struct rt_status status = { 0 };
	Google__Rpc__Status *proto;
	char text[5000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "%s", text);
	for (int i = 0; i < 100; i++)
		rt_status_violation(&status, text, "%s", text);
	CU_ASSERT(strlen(status.message) <= 1024);
	CU_ASSERT(status.details_length > 1024 && status.details_length <= 4096);

	/* In any script. */
	for (size_t i = 0; i < sizeof(text) - 8; i += 4)
		memcpy(text + i, "\xf0\x9f\x8d\x8f", 5);
	rt_status_set(&status, RT_CODE_INVALID_ARGUMENT, "%s", text);
	for (int i = 0; i < 100; i++)
		rt_status_violation(&status, text, "%s", text);
	CU_ASSERT(strlen(status.message) > 600);
	CU_ASSERT(status.details_length > 1024);
	CU_ASSERT(metadata_bytes(&status) <= 8192 - 256);
	proto = rt_status_to_proto(&status);
	rt_status_from_proto(&status, proto);
	google__rpc__status__free_unpacked(proto, NULL);
	CU_ASSERT(metadata_bytes(&status) <= 8192 - 256);

	/* Not cut within a character; invalid bytes are replaced. */
	memset(text, 'x', sizeof(text) - 1);
	memcpy(text + 1023, "ä", 3);
	rt_status_set(&status, RT_CODE_UNKNOWN, "%s", text);
	CU_ASSERT_EQUAL(strlen(status.message), 1023);
	CU_ASSERT_TRUE(rt_utf8_valid(status.message, strlen(status.message)));
	rt_status_set(&status, RT_CODE_UNKNOWN, "a\xff z");
	CU_ASSERT_STRING_EQUAL(status.message, "a\\xff z");
	rt_status_done(&status);
}

/* Text from outside that a status repeats is shown harmlessly. */
static void test_echo(void)
{
	static const char hostile[] = "a\x1b[2J\xe2\x80\xae"
				      "b\x7f";
	static const char shown[] = "a\\x1b[2J\\xe2\\x80\\xae"
				    "b\\x7f";
	struct rt_status status = { 0 };
	Google__Rpc__Status *proto;

	rt_status_set(&status, RT_CODE_NOT_FOUND, "%s", hostile);
	CU_ASSERT_STRING_EQUAL(status.message, shown);
	rt_status_violation(&status, hostile, "%s", hostile);
	rt_status_precondition(&status, hostile, hostile, hostile);
	CU_ASSERT_PTR_NULL(memchr(status.details, 0x1b, status.details_length));
	CU_ASSERT_PTR_NULL(memchr(status.details, 0x7f, status.details_length));
	proto = rt_status_to_proto(&status);
	free(proto->message);
	proto->message = rt_strdup(hostile);
	rt_status_from_proto(&status, proto);
	CU_ASSERT_STRING_EQUAL(status.message, shown);
	google__rpc__status__free_unpacked(proto, NULL);
	rt_status_done(&status);
}

static const struct test tests[] = {
	{ "set and done", test_set },
	{ "code names", test_names },
	{ "details gather", test_details },
	{ "to a message and back", test_proto },
	{ "from the end of an operation", test_from },
	{ "bounded and valid", test_bounds },
	{ "text from outside is shown harmlessly", test_echo },
};

TESTS_MAIN("rpc_status", tests)
