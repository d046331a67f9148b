/* Calls as they look over HTTP: what is read and written, byte by byte, and what is refused. */
#include "service/http_protocol.h"

#include <string.h>

#include "run.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

#define STOCK (&tandem__inventory__v1__get_stock_request__descriptor)
#define MOST  64

static struct http_format format_of(const char *type)
{
	struct http_format format = { 0 };

	CU_ASSERT_FATAL(http_format_of(type, &format));
	return format;
}

static void content_types(void)
{
	static const struct {
		const char *type;
		enum http_protocol protocol;
		bool good, json, base64;
	} rows[] = {
		{ "application/json", HTTP_CONNECT, true, true, false },
		{ "Application/JSON; charset=UTF-8", HTTP_CONNECT, true, true, false },
		{ "application/json ; charset=\"utf-8\"", HTTP_CONNECT, true, true, false },
		{ "application/json;charset=utf-8;odata=verbose", HTTP_CONNECT, true, true, false },
		{ "application/json; odata=verbose; Charset=\"UTF-8\" ; a=b", HTTP_CONNECT, true,
		  true, false },
		{ "application/json;", HTTP_CONNECT, true, true, false },
		{ "application/proto", HTTP_CONNECT, true, false, false },
		{ "application/connect+json", HTTP_CONNECT_STREAM, true, true, false },
		{ "application/connect+proto", HTTP_CONNECT_STREAM, true, false, false },
		{ "application/grpc-web", HTTP_GRPC_WEB, true, false, false },
		{ "application/grpc-web+json", HTTP_GRPC_WEB, true, true, false },
		{ "application/grpc-web-text", HTTP_GRPC_WEB, true, false, true },
		{ "application/grpc-web-text+proto", HTTP_GRPC_WEB, true, false, true },
		{ "application/json; charset=latin1", 0, false, false, false },
		{ "application/json; odata=verbose; charset=latin1", 0, false, false, false },
		{ "application/json; charset=utf-8x", 0, false, false, false },
		{ "application/jsonp", 0, false, false, false },
		{ "application/grpc", 0, false, false, false },
		{ "text/plain", 0, false, false, false },
		{ "", 0, false, false, false },
		{ NULL, 0, false, false, false },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct http_format format = { 0 };
		bool good = http_format_of(rows[i].type, &format);

		TEST_ROW(good == rows[i].good && (!good || (format.protocol == rows[i].protocol &&
							    format.json == rows[i].json &&
							    format.base64 == rows[i].base64)),
			 rows[i].type != NULL ? rows[i].type : "none");
	}
}

static void deadlines(void)
{
	static const struct {
		const char *type, *text;
		int64_t ms; /* -1: refused */
	} rows[] = {
		{ "application/json", NULL, 0 },
		{ "application/json", "5000", 5000 },
		{ "application/json", "0", 1 }, /* passed, and nonetheless one */
		{ "application/json", "9999999999", 9999999999 },
		{ "application/json", "99999999999", -1 },
		{ "application/json", "", -1 },
		{ "application/json", "-1", -1 },
		{ "application/json", "5s", -1 },
		{ "application/grpc-web", "5S", 5000 },
		{ "application/grpc-web", "100m", 100 },
		{ "application/grpc-web", "1u", 1 },
		{ "application/grpc-web", "99999999H", 31536000000 },
		{ "application/grpc-web", "999999999n", -1 },
		{ "application/grpc-web", "5", -1 },
		{ "application/grpc-web", "5s", -1 },
		{ "application/grpc-web", "5Sm", -1 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct http_format format = format_of(rows[i].type);
		struct rt_status status = { 0 };
		int64_t ms = -1;
		bool good = http_timeout_read(&format, rows[i].text, &ms, &status);

		TEST_ROW(good ? ms == rows[i].ms && status.code == 0
			      : rows[i].ms == -1 && status.code == RT_CODE_INVALID_ARGUMENT,
			 rows[i].text != NULL ? rows[i].text : "none");
		rt_status_done(&status);
	}
}

#define TEXT(literal) (literal), sizeof(literal) - 1

static void bodies(void)
{
	static const struct {
		const char *type, *body;
		size_t length;
		int code; /* 0: taken */
		size_t count;
		const char *last; /* of the messages, as bytes */
		size_t last_length;
	} rows[] = {
		{ "application/proto", TEXT("\x0a\x01t"), 0, 1, TEXT("\x0a\x01t") },
		{ "application/proto", TEXT(""), 0, 1, TEXT("") },
		{ "application/json", TEXT("{\"sku\":\"t\"}"), 0, 1, TEXT("\x0a\x01t") },
		{ "application/json", TEXT("{}"), 0, 1, TEXT("") },
		{ "application/json", TEXT(""), 3, 1, NULL, 0 },
		{ "application/json", TEXT("{\"sku\":\"t\"} x"), 3, 1, NULL, 0 },
		{ "application/json", TEXT("{\"sku\":\"\\u0000\"}"), 3, 1, NULL, 0 },
		{ "application/json", TEXT("{\"sku\":\"\xff\"}"), 3, 1, NULL, 0 },
		{ "application/json", TEXT("{\"sku\":1}"), 3, 1, NULL, 0 },
		{ "application/connect+json", TEXT("\0\0\0\0\2{}\0\0\0\0\13{\"sku\":\"t\"}"), 0, 2,
		  TEXT("\x0a\x01t") },
		{ "application/connect+proto", TEXT("\0\0\0\0\3\x0a\x01t"), 0, 1,
		  TEXT("\x0a\x01t") },
		{ "application/grpc-web", TEXT("\0\0\0\0\0"), 0, 1, TEXT("") },
		{ "application/grpc-web", TEXT(""), 0, 0, NULL, 0 },
		{ "application/grpc-web", TEXT("\0\0\0\0"), 3, 0, NULL, 0 },
		{ "application/grpc-web", TEXT("\0\0\0\0\1"), 3, 0, NULL, 0 },
		{ "application/grpc-web", TEXT("\0\377\377\377\377"), 8, 0, NULL, 0 },
		{ "application/grpc-web", TEXT("\0\0\0\0\101"), 8, 0, NULL, 0 },
		{ "application/grpc-web", TEXT("\1\0\0\0\0"), 12, 0, NULL, 0 },
		{ "application/grpc-web", TEXT("\2\0\0\0\0"), 3, 0, NULL, 0 },
		{ "application/grpc-web-text", TEXT("AAAAAAMKAXQ="), 0, 1, TEXT("\x0a\x01t") },
		/* In two pieces, each with its padding. */
		{ "application/grpc-web-text", TEXT("AAAAAAM=CgF0"), 0, 1, TEXT("\x0a\x01t") },
		{ "application/grpc-web-text", TEXT("AAAAAAMKAXQ"), 3, 0, NULL, 0 },
		{ "application/grpc-web-text", TEXT("===="), 3, 0, NULL, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct http_format format = format_of(rows[i].type);
		struct http_messages messages = { 0 };
		struct rt_status status = { 0 };
		struct rt_buf body = { 0 };
		const ProtobufCBinaryData *last;
		bool good;

		rt_buf_add(&body, rows[i].body, rows[i].length);
		good = http_messages_read(&format, STOCK, &body, MOST, &messages, &status);
		TEST_ROW(status.code == rows[i].code && good == (rows[i].code == 0), rows[i].type);
		TEST_ROW(!good || messages.count == rows[i].count, rows[i].type);
		if (good && messages.count > 0 && messages.count == rows[i].count) {
			last = &messages.list[messages.count - 1];
			TEST_ROW(last->len == rows[i].last_length &&
					 memcmp(last->data, rows[i].last, last->len) == 0,
				 rows[i].type);
		}
		http_messages_done(&messages);
		rt_status_done(&status);
		rt_buf_done(&body);
	}
}

/* JSON may be larger than what it stands for, not the other way round. */
static void a_message_that_is_too_large(void)
{
	struct http_format format = format_of("application/json");
	struct http_messages messages = { 0 };
	struct rt_status status = { 0 };
	struct rt_buf body = { 0 };

	rt_buf_printf(&body, "{\"sku\":\"%065d\"}", 0);
	CU_ASSERT_FALSE(http_messages_read(&format, STOCK, &body, MOST, &messages, &status));
	CU_ASSERT_EQUAL(status.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT_STRING_EQUAL(status.message, "the message is larger than 64 bytes");
	http_messages_done(&messages);
	rt_status_done(&status);
	rt_buf_done(&body);
}

/* A small text may be a large tree: at most 16 MiB, or 16 times the largest message. */
static void a_tree_that_is_too_large(void)
{
	static const struct {
		const char *name, *value;
		int fit; /* about 16 MiB */
	} rows[] = {
		{ "objects", "{}", 57000 },        { "lists", "[]", 86000 },
		{ "numbers", "0", 250000 },        { "strings", "\"{[,\\\"{[\"", 220000 },
		{ "members", "{\"a\":0}", 44000 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		for (int large = 0; large < 2; large++) {
			struct http_format format = format_of("application/json");
			struct http_messages messages = { 0 };
			struct rt_status status = { 0 };
			struct rt_buf body = { 0 };

			rt_buf_printf(&body, "{\"sku\":[%s", rows[i].value);
			for (int n = 1; n < rows[i].fit * (large ? 11 : 10) / 10; n++)
				rt_buf_printf(&body, ",%s", rows[i].value);
			rt_buf_printf(&body, "]}");
			CU_ASSERT_FALSE(http_messages_read(&format, STOCK, &body, MOST, &messages,
							   &status));
			TEST_ROW(status.code == (large ? RT_CODE_RESOURCE_EXHAUSTED
						       : RT_CODE_INVALID_ARGUMENT),
				 rows[i].name);
			http_messages_done(&messages);
			rt_status_done(&status);
			rt_buf_done(&body);
		}
}

static bool end_is(const char *type, const struct rt_status *status, const char *expected,
		   size_t length)
{
	struct http_format format = format_of(type);
	struct rt_buf text = { 0 };
	bool same;

	http_end_write(&format, status, &text);
	same = text.length == length && memcmp(text.data, expected, length) == 0;
	rt_buf_done(&text);
	return same;
}

static void ends(void)
{
	static const struct rt_status good;
	struct rt_status bad = { 0 };

	rt_status_set(&bad, RT_CODE_CANCELLED, "50%% of \xc3\xa9");
	CU_ASSERT(end_is("application/connect+json", &good, TEXT("\2\0\0\0\2{}")));
	CU_ASSERT(end_is("application/connect+proto", &bad,
			 TEXT("\2\0\0\0\063{\"error\":{\"code\":\"canceled\",\"message\":\"50% of "
			      "\xc3\xa9\"}}")));
	CU_ASSERT(end_is("application/grpc-web", &good, TEXT("\x80\0\0\0\x10grpc-status: 0\r\n")));
	CU_ASSERT(
		end_is("application/grpc-web", &bad,
		       TEXT("\x80\0\0\0\057grpc-status: 1\r\ngrpc-message: 50%25 of %C3%A9\r\n")));
	CU_ASSERT(end_is("application/grpc-web-text", &good, TEXT("gAAAABBncnBjLXN0YXR1czogMA0K")));
	rt_status_done(&bad);
}

static void errors(void)
{
	static const struct {
		int code;
		unsigned int status;
		const char *text;
	} rows[] = {
		{ RT_CODE_CANCELLED, 499, "{\"code\":\"canceled\",\"message\":\"m\"}" },
		{ RT_CODE_INVALID_ARGUMENT, 400,
		  "{\"code\":\"invalid_argument\",\"message\":\"m\"}" },
		{ RT_CODE_DEADLINE_EXCEEDED, 504,
		  "{\"code\":\"deadline_exceeded\",\"message\":\"m\"}" },
		{ RT_CODE_RESOURCE_EXHAUSTED, 429,
		  "{\"code\":\"resource_exhausted\",\"message\":\"m\"}" },
		{ RT_CODE_FAILED_PRECONDITION, 400,
		  "{\"code\":\"failed_precondition\",\"message\":\"m\"}" },
		{ RT_CODE_UNIMPLEMENTED, 501, "{\"code\":\"unimplemented\",\"message\":\"m\"}" },
		{ RT_CODE_UNAUTHENTICATED, 401,
		  "{\"code\":\"unauthenticated\",\"message\":\"m\"}" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_status status = { 0 };
		struct rt_buf text = { 0 };

		rt_status_set(&status, rows[i].code, "m");
		TEST_ROW(http_error_write(&status, &text) == rows[i].status, rows[i].text);
		TEST_ROW(strcmp(text.data, rows[i].text) == 0, rows[i].text);
		rt_status_done(&status);
		rt_buf_done(&text);
	}
}

/* A detail is there for programs, and for people. */
static void details(void)
{
	struct rt_status status = { 0 };
	struct rt_buf text = { 0 };

	rt_status_set(&status, RT_CODE_UNAVAILABLE, "later");
	rt_status_retry(&status, 1500);
	CU_ASSERT_EQUAL(http_error_write(&status, &text), 503);
	CU_ASSERT_STRING_EQUAL(
		text.data, "{\"code\":\"unavailable\",\"message\":\"later\",\"details\":[{\"type\":"
			   "\"google.rpc.RetryInfo\",\"value\":\"CggIARCAyrXuAQ\",\"debug\":"
			   "{\"retryDelay\":\"1.500000000s\"}}]}");
	rt_status_done(&status);
	rt_buf_done(&text);
}

static const struct test tests[] = {
	{ "content types", content_types },
	{ "deadlines", deadlines },
	{ "bodies", bodies },
	{ "a message that is too large", a_message_that_is_too_large },
	{ "a tree that is too large", a_tree_that_is_too_large },
	{ "ends of answers", ends },
	{ "errors", errors },
	{ "details of errors", details },
};

TESTS_MAIN("http_protocol", tests)
