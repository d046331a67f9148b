/* test_trace.c - traces and spans: which traceparents are valid, which trace an order has, what is sampled, what is sent
 * although it is not, and what a collector gets. */
#include "trace/trace.h"

#include <string.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "order/order_id.h"
#include "run.h"

#define TRACE  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define UNSENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
#define ORDER  "ord_7slxoqzsmv3gkylbovxgs3lfna"

/* ---- traceparent ---- */

static void traceparents(void)
{
	static const struct {
		const char *text, *written; /* NULL: it is not valid */
	} rows[] = {
		{ TRACE, TRACE },
		{ UNSENT, UNSENT },
		/* other flags are not passed on */
		{ "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", TRACE },
		/* a later version, with more behind it */
		{ "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TRACE },
		{ "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", TRACE },
		{ "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", NULL },
		{ TRACE "-more", NULL },
		{ "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", NULL },
		{ "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", NULL },
		{ "00-00000000000000000000000000000000-00f067aa0ba902b7-01", NULL },
		{ "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", NULL },
		{ "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", NULL },
		{ "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", NULL },
		{ "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", NULL },
		{ "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", NULL },
		{ "-------------------------------------------------------", NULL },
		{ "", NULL },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char text[RT_TRACEPARENT_TEXT] = "";
		struct rt_trace trace;
		bool valid = rt_trace_parse(rows[i].text, strlen(rows[i].text), &trace);

		if (valid)
			rt_trace_format(&trace, text);
		TEST_ROW(valid == (rows[i].written != NULL), rows[i].text);
		TEST_ROW(strcmp(text, rows[i].written != NULL ? rows[i].written : "") == 0,
			 rows[i].text);
	}
}

static void tracestates(void)
{
	static const struct {
		const char *text;
		bool valid;
	} rows[] = {
		{ "rojo=00f067aa0ba902b7", true },
		{ "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", true },
		{ " rojo=1 ,\tfw529a3039@dt=FfffffffFf;6 2, , 4/b*c-d_e=!", true },
		{ "", false },
		{ " , ", false },
		{ "rojo", false },
		{ "=1", false },
		{ "rojo=", false },
		{ "Rojo=1", false },
		{ "rojo=1=2", false },
		{ "ro jo=1", false },
		{ "rojo=\x7f", false },
		{ "rojo=1,congo", false },
		{ "@rojo=1", false },
	};
	struct rt_buf many = { NULL, 0, 0 };
	char text[600];

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(rt_trace_state_valid(rows[i].text, strlen(rows[i].text)) == rows[i].valid,
			 rows[i].text);
	for (int i = 0; i < 32; i++)
		rt_buf_add(&many, "a=1,", 4);
	CU_ASSERT(rt_trace_state_valid(many.data, many.length));
	rt_buf_add(&many, "a=1", 3);
	CU_ASSERT_FALSE(rt_trace_state_valid(many.data, many.length));
	rt_buf_done(&many);
	memset(text, 'a', sizeof(text));
	text[1] = '=';
	CU_ASSERT_FALSE(rt_trace_state_valid(text, 513));
	CU_ASSERT_FALSE(rt_trace_state_valid(text, 300));
	CU_ASSERT(rt_trace_state_valid(text, 200));
}

static void orders(void)
{
	static const uint8_t bytes[16] = { 0xfc, 0x97, 0x77, 1, 2,  3,  4,  5,
					   6,    7,    8,    9, 10, 11, 12, 255 };
	static const char *const others[] = { "",
					      "tea",
					      "ord_",
					      "7slxoqzsmv3gkylbovxgs3lfna",
					      "ord_7slxoqzsmv3gkylbovxgs3lfn",
					      "ord_7slxoqzsmv3gkylbovxgs3lfnaa",
					      "ord_7slxoqzsmv3gkylbovxgs3l!na",
					      "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa" };
	char order_id[40] = "ord_", text[RT_TRACE_ID_TEXT];
	uint8_t id[16];

	rt_base32_128(bytes, order_id + strlen(order_id));
	CU_ASSERT(rt_trace_of(order_id, id));
	CU_ASSERT(memcmp(id, bytes, sizeof(id)) == 0);
	rt_trace_id_text(id, text);
	CU_ASSERT_STRING_EQUAL(text, "fc97770102030405060708090a0b0cff");
	/* With several partitions, too, whose ids are not those of 128 bits. */
	order_id_put_bucket(1023, order_id);
	CU_ASSERT(rt_trace_of(order_id, id));
	for (size_t i = 0; i < RT_LENGTH(others); i++)
		TEST_ROW(!rt_trace_of(others[i], id), others[i]);
}

/* ---- what is sent ---- */

static size_t queued;
static void note_queued(void *user, size_t count)
{
	(void)user;
	queued = count;
}

static void begin(double ratio, int64_t slow_ms)
{
	const struct rt_trace_options options = { .ratio = ratio,
						  .slow_ms = slow_ms,
						  .queued = note_queued };

	queued = 0;
	rt_trace_start(&options);
}

/* A span of an order that took so long. */
static void span_took(const char *order_id, const char *traceparent, int64_t ms)
{
	struct rt_span span;

	rt_span_begin(&span, RT_SPAN_SERVED, "service");
	span.method = "Method";
	rt_span_carried(&span, traceparent);
	rt_span_concerns(&span, order_id);
	span.end_us = span.begin_us + ms * 1000;
	rt_span_end(&span);
}

static void ratio(void)
{
	size_t sampled = 0;

	begin(0.01, 0);
	for (int i = 0; i < 20000; i++) {
		struct rt_span span;

		rt_span_begin(&span, RT_SPAN_SERVED, "service");
		rt_span_concerns(&span, "");
		CU_ASSERT(span.known);
		sampled += span.sampled;
	}
	CU_ASSERT(sampled > 100 && sampled < 320); /* 200, ± 8 σ */
	rt_trace_stop();
	CU_ASSERT_FALSE(rt_tracing);

	begin(1, 0);
	span_took(ORDER, "", 1);
	span_took("", "", 1);
	CU_ASSERT_EQUAL(rt_trace_queued(), 2);
	span_took(ORDER, UNSENT, 1); /* its caller decides */
	CU_ASSERT_EQUAL(rt_trace_queued(), 2);
	rt_trace_stop();

	begin(0, 0);
	span_took(ORDER, "", 100000);
	CU_ASSERT_EQUAL(rt_trace_queued(), 0);
	span_took(ORDER, TRACE, 1);
	CU_ASSERT_EQUAL(rt_trace_queued(), 1);
	rt_trace_stop();
}

/* The last 56 bits of an id decide, as elsewhere. */
static void threshold(void)
{
	static const struct {
		const char *why;
		uint8_t eighth, ninth, last; /* bytes of the id; those between are as the last */
		double ratio;
		bool sampled;
	} rows[] = {
		{ "just below one half", 0xff, 0x7f, 0xff, 0.5, false },
		{ "one half", 0x00, 0x80, 0x00, 0.5, true },
		{ "the highest", 0x00, 0xff, 0xff, 0.001, true },
		{ "the highest, of none", 0xff, 0xff, 0xff, 0, false },
		{ "the lowest, of all", 0xff, 0x00, 0x00, 1, true },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char order_id[40] = "ord_";
		struct rt_span span;
		uint8_t id[16];

		memset(id, rows[i].last, sizeof(id));
		id[0] = 1;
		id[8] = rows[i].eighth;
		id[9] = rows[i].ninth;
		rt_base32_128(id, order_id + strlen(order_id));
		begin(rows[i].ratio, 0);
		rt_span_begin(&span, RT_SPAN_SERVED, "service");
		TEST_ROW(rt_span_order(&span, order_id), rows[i].why);
		TEST_ROW(span.sampled == rows[i].sampled, rows[i].why);
		rt_trace_stop();
	}
}

static void slow(void)
{
	static const char *const other = "ord_7777777777777777777777777y";
	struct rt_span failed;

	begin(0, 1000);
	span_took(ORDER, "", 10);
	span_took(ORDER, UNSENT, 20);
	span_took(other, "", 999);
	CU_ASSERT_EQUAL(rt_trace_queued(), 0);
	/* It brings the others of its order, and those that follow go at once. */
	span_took(ORDER, "", 1000);
	CU_ASSERT_EQUAL(rt_trace_queued(), 3);
	span_took(ORDER, "", 1);
	CU_ASSERT_EQUAL(rt_trace_queued(), 4);
	for (size_t i = 0; i < rt_trace_queued(); i++)
		CU_ASSERT_STRING_EQUAL(rt_trace_at(i)->subject, ORDER);
	span_took(ORDER, "", 1000); /* nothing twice */
	CU_ASSERT_EQUAL(rt_trace_queued(), 5);
	/* What failed, although nothing is known of it. */
	rt_span_begin(&failed, RT_SPAN_SERVED, "service");
	rt_span_code(&failed, 3);
	rt_span_end(&failed);
	CU_ASSERT_EQUAL(rt_trace_queued(), 5);
	rt_span_begin(&failed, RT_SPAN_SERVED, "service");
	rt_span_code(&failed, 14);
	rt_span_end(&failed);
	CU_ASSERT_EQUAL(rt_trace_queued(), 6);
	/* A watch may last. */
	rt_span_begin(&failed, RT_SPAN_SERVED, "service");
	failed.lasts = true;
	failed.end_us = failed.begin_us + 5000000;
	rt_span_end(&failed);
	CU_ASSERT_EQUAL(rt_trace_queued(), 6);
	rt_trace_stop();
}

/* Of an order's spans those are still there that are among the last 16384 of all; the chain of the others is not
 * followed: it leads to what came in their place, and back again. */
static void kept(void)
{
	static const char *const other = "ord_7777777777777777777777777y";
	static const struct {
		int others;
		size_t sent;
	} rows[] = { { 0, 2 }, { 16383, 2 }, { 16384, 1 }, { 17000, 1 } };

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		begin(0, 1000);
		span_took(ORDER, "", 1);
		for (int j = 0; j < rows[i].others; j++)
			span_took(other, "", 1);
		span_took(ORDER, "", 1000);
		CU_ASSERT_EQUAL(rt_trace_queued(), rows[i].sent);
		rt_trace_drop(rt_trace_queued(), true);
		span_took(other, "", 1000);
		CU_ASSERT_EQUAL(rt_trace_queued(), (size_t)RT_MIN(rows[i].others + 1, 8192));
		rt_trace_stop();
	}
}

static void bounds(void)
{
	struct rt_metrics *metrics = rt_metrics_new();
	const struct rt_trace_options options = {
		.ratio = 0, .slow_ms = 1000, .queued = note_queued, .metrics = metrics
	};
	struct rt_metric *spans = rt_metric(metrics, RT_COUNTER, "tandem_spans_total", "",
					    (const char *const[]){ "outcome", NULL });
	struct rt_series *dropped = rt_metric_series(spans, (const char *const[]){ "dropped" });

	rt_trace_start(&options);
	/* What was kept long ago is forgotten. */
	span_took(ORDER, "", 1);
	for (int i = 0; i < 20000; i++)
		span_took("", "", 1);
	span_took(ORDER, "", 1000);
	CU_ASSERT_EQUAL(rt_trace_queued(), 1);
	/* What finds no room is dropped, and counted. */
	for (int i = 0; i < 8200; i++)
		span_took(ORDER, TRACE, 1);
	CU_ASSERT_EQUAL(rt_trace_queued(), 8192);
	CU_ASSERT_EQUAL(rt_series_value(dropped), 9);
	rt_trace_drop(8000, true);
	CU_ASSERT_EQUAL(rt_trace_queued(), 192);
	span_took(ORDER, TRACE, 1);
	CU_ASSERT_EQUAL(rt_trace_queued(), 193);
	rt_trace_stop();
	rt_metrics_free(metrics);
}

/* ---- what a collector gets ---- */

typedef Opentelemetry__Proto__Trace__V1__Span span_message;

static const char *attribute(const span_message *span, const char *key, char text[128])
{
	text[0] = '\0';
	for (size_t i = 0; i < span->n_attributes; i++) {
		Opentelemetry__Proto__Common__V1__KeyValue *one =
			opentelemetry__proto__common__v1__key_value__unpack(
				NULL, span->attributes[i].len, span->attributes[i].data);

		CU_ASSERT_PTR_NOT_NULL_FATAL(one);
		if (strcmp(one->key, key) != 0)
			(void)0; /* another one */
		else if (one->value->value_case ==
			 OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE)
			snprintf(text, 128, "%s", one->value->string_value);
		else
			snprintf(text, 128, "%lld", (long long)one->value->int_value);
		opentelemetry__proto__common__v1__key_value__free_unpacked(one, NULL);
	}
	return text;
}

static bool same(ProtobufCBinaryData id, ProtobufCBinaryData other)
{
	return id.len == other.len && memcmp(id.data, other.data, id.len) == 0;
}

/* An order on its way: the gateway's item, the order service's, and inventory's event, of which no one knows the other. */
static void linked(void)
{
	const struct rt_function_call call = { "order_place", 7, 1000, 3000, 1 };
	const struct rt_span_event placed = { "order", "tandem.order.v1.OrderPlaced", 3, 1, 1 };
	Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *request;
	struct rt_arena arena = { .chunks = NULL };
	struct rt_span item, served, processed;
	span_message **spans;
	char text[128], traceparent[RT_TRACEPARENT_TEXT];

	begin(1, 0);
	rt_span_begin(&item, RT_SPAN_ITEM_CALLED, "tandem.order.v1.PlacementService");
	item.method = "Place";
	item.number = 42;
	rt_span_traceparent(&item, traceparent);
	CU_ASSERT_STRING_EQUAL(traceparent, ""); /* not known yet */
	rt_span_concerns(&item, ORDER);
	rt_span_code(&item, 0);

	rt_span_begin(&served, RT_SPAN_ITEM_SERVED, "tandem.order.v1.PlacementService");
	served.method = "Place";
	served.number = 42;
	rt_span_order(&served, ORDER);
	rt_function_answered = &call;
	rt_span_stored(&served);
	rt_function_answered = NULL;
	served.published = placed;
	rt_span_code(&served, 0);

	rt_span_begin(&processed, RT_SPAN_PROCESSED, "inventory");
	processed.event = placed;
	rt_span_order(&processed, ORDER);
	processed.failed = true;
	rt_span_end(&item);
	rt_span_end(&served);
	rt_span_end(&processed);

	CU_ASSERT_EQUAL(queued, 3);
	request = rt_trace_request(&arena, "order", 3);
	CU_ASSERT_EQUAL_FATAL(request->resource_spans[0]->scope_spans[0]->n_spans, 5);
	spans = request->resource_spans[0]->scope_spans[0]->spans;
	for (size_t i = 0; i < 5; i++)
		CU_ASSERT(same(spans[i]->trace_id, spans[0]->trace_id));
	CU_ASSERT_EQUAL(spans[0]->parent_span_id.len, 0);
	for (size_t i = 1; i < 5; i++) /* each is below the one before it */
		CU_ASSERT(same(spans[i]->parent_span_id, spans[i - 1]->span_id));
	CU_ASSERT_STRING_EQUAL(spans[0]->name, "tandem.order.v1.PlacementService/Place");
	CU_ASSERT_EQUAL(spans[0]->kind, 3);
	CU_ASSERT_EQUAL(spans[1]->kind, 2);
	CU_ASSERT_STRING_EQUAL(attribute(spans[1], "rpc.method", text), "Place");
	CU_ASSERT_STRING_EQUAL(attribute(spans[1], "rpc.grpc.status_code", text), "0");
	CU_ASSERT_STRING_EQUAL(attribute(spans[1], "tandem.order.id", text), ORDER);
	CU_ASSERT_STRING_EQUAL(spans[2]->name, "FCALL order_place");
	CU_ASSERT_STRING_EQUAL(attribute(spans[2], "db.system", text), "redis");
	CU_ASSERT_STRING_EQUAL(attribute(spans[2], "db.operation.batch.size", text), "7");
	CU_ASSERT_EQUAL(spans[2]->start_time_unix_nano, 1000000);
	CU_ASSERT_EQUAL(spans[2]->end_time_unix_nano, 3000000);
	CU_ASSERT_STRING_EQUAL(spans[3]->name, "publish order:events");
	CU_ASSERT_STRING_EQUAL(attribute(spans[3], "messaging.destination.name", text),
			       "order:{3}:events");
	CU_ASSERT_STRING_EQUAL(attribute(spans[3], "messaging.message.id", text), ORDER "/1");
	CU_ASSERT_STRING_EQUAL(spans[4]->name, "process order:events");
	CU_ASSERT_STRING_EQUAL(attribute(spans[4], "messaging.consumer.group.name", text),
			       "inventory");
	CU_ASSERT_EQUAL(spans[4]->status->code, 2);
	CU_ASSERT_PTR_NULL(spans[1]->status);
	rt_arena_done(&arena);
	rt_trace_stop();
}

/* With a trace that its caller began, each names its cause. */
static void carried(void)
{
	struct rt_span served, item;
	char text[RT_TRACEPARENT_TEXT];
	struct rt_trace trace;

	begin(0, 0);
	rt_span_begin(&served, RT_SPAN_SERVED, "service");
	rt_span_carried(&served, "not one");
	CU_ASSERT_FALSE(served.known);
	rt_span_carried(&served, TRACE);
	CU_ASSERT(served.sampled);
	rt_span_begin(&item, RT_SPAN_ITEM_CALLED, "service");
	rt_span_cause(&item, &served);
	rt_span_concerns(&item, ORDER);
	CU_ASSERT(memcmp(item.parent, served.id, 8) == 0);
	rt_span_traceparent(&item, text);
	CU_ASSERT(rt_trace_parse(text, strlen(text), &trace));
	CU_ASSERT(memcmp(trace.id, served.trace_id, 16) == 0);
	CU_ASSERT(memcmp(trace.span, item.id, 8) == 0);
	CU_ASSERT(trace.sampled);
	rt_trace_stop();
}

/* Of several function calls for the same thing each is there, whoever else it was made for. */
static void several_calls(void)
{
	const struct rt_function_call calls[] = { { "inventory_part", 2, 1000, 3000, 1 },
						  { "inventory_part", 1, 1000, 2000, 2 },
						  { "inventory_conclude", 1, 4000, 5000, 3 } };
	static const int order[] = { 0, 0, 1, 1, 2, 2 };
	Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *request;
	struct rt_arena arena = { .chunks = NULL };
	struct rt_span span;
	span_message **spans;
	char text[128];

	begin(1, 0);
	rt_span_begin(&span, RT_SPAN_PROCESSED, "inventory");
	span.event = (struct rt_span_event){ "order", "tandem.order.v1.OrderPlaced", 0, 1, 1 };
	rt_span_order(&span, ORDER);
	for (size_t i = 0; i < RT_LENGTH(order); i++) {
		rt_function_answered = &calls[order[i]];
		rt_span_stored(&span);
	}
	rt_function_answered = NULL;
	span.published = (struct rt_span_event){ "inventory",
						 "tandem.inventory.v1.InventoryReserved", 0, 1, 0 };
	rt_span_end(&span);
	CU_ASSERT_EQUAL_FATAL(rt_trace_queued(), 3);
	request = rt_trace_request(&arena, "inventory", 3);
	CU_ASSERT_EQUAL_FATAL(request->resource_spans[0]->scope_spans[0]->n_spans, 5);
	spans = request->resource_spans[0]->scope_spans[0]->spans;
	CU_ASSERT_STRING_EQUAL(spans[0]->name, "FCALL inventory_part");
	CU_ASSERT_STRING_EQUAL(attribute(spans[0], "db.operation.batch.size", text), "2");
	CU_ASSERT_EQUAL(spans[0]->end_time_unix_nano, 3000000);
	CU_ASSERT_EQUAL(spans[0]->kind, 3);
	CU_ASSERT_STRING_EQUAL(spans[1]->name, "FCALL inventory_part");
	CU_ASSERT_EQUAL(spans[1]->end_time_unix_nano, 2000000);
	CU_ASSERT_STRING_EQUAL(spans[2]->name, "process order:events");
	CU_ASSERT_STRING_EQUAL(spans[3]->name, "FCALL inventory_conclude");
	CU_ASSERT_STRING_EQUAL(spans[4]->name, "publish inventory:events");
	CU_ASSERT_FALSE(same(spans[0]->span_id, spans[1]->span_id));
	for (size_t i = 0; i < 5; i++)
		CU_ASSERT(same(spans[i]->trace_id, spans[2]->trace_id));
	for (size_t i = 0; i < 4; i++)
		CU_ASSERT(i == 2 || same(spans[i]->parent_span_id, spans[2]->span_id));
	CU_ASSERT(same(spans[4]->parent_span_id, spans[3]->span_id));
	rt_arena_done(&arena);
	rt_trace_stop();
}

static void links(void)
{
	Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *request;
	struct rt_arena arena = { .chunks = NULL };
	struct rt_span read, orders[2];
	span_message *span;

	begin(0, 0);
	for (size_t i = 0; i < 2; i++) {
		rt_span_begin(&orders[i], RT_SPAN_LINK, "inventory");
		rt_span_carried(&orders[i], TRACE);
	}
	rt_span_begin(&read, RT_SPAN_RECEIVED, "inventory");
	read.event.context = "order";
	read.number = 9;
	rt_span_end_linked(&read, orders, 2);
	request = rt_trace_request(&arena, "order", rt_trace_queued());
	CU_ASSERT_EQUAL_FATAL(request->resource_spans[0]->scope_spans[0]->n_spans, 1);
	span = request->resource_spans[0]->scope_spans[0]->spans[0];
	CU_ASSERT_STRING_EQUAL(span->name, "receive order:events");
	CU_ASSERT_EQUAL_FATAL(span->n_links, 2);
	CU_ASSERT(memcmp(span->links[1]->trace_id.data, orders[1].trace_id, 16) == 0);
	rt_arena_done(&arena);
	rt_trace_stop();
}

static void names(void)
{
	char text[] = "tandem.order.v1.OrderPlaced";
	const char *name;

	begin(0, 0);
	name = rt_trace_name(text);
	CU_ASSERT_STRING_EQUAL(name, text);
	CU_ASSERT_PTR_EQUAL(rt_trace_name(text), name);
	CU_ASSERT_PTR_NOT_EQUAL(rt_trace_name("tandem.order.v2.OrderPlaced"), name);
	for (int i = 0; i < 100; i++) {
		char other[20];

		snprintf(other, sizeof(other), "type%d", i);
		name = rt_trace_name(other);
	}
	CU_ASSERT_STRING_EQUAL(name, "other");
	rt_trace_stop();
}

int main(void)
{
	static const struct test tests[] = {
		{ "which traceparents are valid", traceparents },
		{ "which tracestates are", tracestates },
		{ "the trace of an order", orders },
		{ "the ratio, and the caller's decision", ratio },
		{ "the threshold", threshold },
		{ "what is slow or fails is sent with its order", slow },
		{ "what is kept and what waits is bounded", bounds },
		{ "what is kept of an order is found while it is there", kept },
		{ "each process finds the ids of the others", linked },
		{ "a trace that a caller began", carried },
		{ "a span with several function calls", several_calls },
		{ "a read has links to what it brought", links },
		{ "names that stay", names },
	};

	return tests_run("trace", tests, RT_LENGTH(tests));
}
