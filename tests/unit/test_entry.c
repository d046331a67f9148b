/* test_entry.c - reading an entry: its fields, and its EventBatch, which the code generated from
 * tandem/events/v1/events.proto packs here. */
#include "events/entry.h"

#include <hiredis/hiredis.h>
#include <string.h>

#include "run.h"
#include "tandem/events/v1/events.pb-c.h"

#define TEXTS_MAX 20
#define LISTS_MAX 4

static struct rt_slice text(const char *data)
{
	return (struct rt_slice){ data, strlen(data) };
}

static bool is(struct rt_slice slice, const char *data)
{
	return slice.length == strlen(data) &&
	       (slice.length == 0 || memcmp(slice.data, data, slice.length) == 0);
}

/* Bytes as a slice. */
#define BYTES(literal)                                                                             \
	(struct rt_slice)                                                                          \
	{                                                                                          \
		literal, sizeof(literal) - 1                                                       \
	}

/* An entry with these names and values, NULL at the end, and the batch if it has data. */
struct made {
	struct rt_slice texts[TEXTS_MAX];
	struct rt_fields fields;
};

static const struct rt_fields *make(struct made *made, const char *const *words,
				    struct rt_slice batch)
{
	made->fields = (struct rt_fields){ made->texts, 0 };
	for (; *words != NULL; words++)
		made->texts[made->fields.count++] = text(*words);
	if (batch.data != NULL) {
		made->texts[made->fields.count++] = text("batch");
		made->texts[made->fields.count++] = batch;
	}
	return &made->fields;
}
#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })
static const struct rt_slice no_batch = { NULL, 0 };

/* ---- events ---- */

static void lists(void)
{
	struct rt_entry_event *events;
	struct made made;
	size_t count;

	/* A second field of a type: a subject has several events. */
	CU_ASSERT_PTR_NULL(
		rt_entry_read(make(&made,
				   WORDS("t.Placed", "ord_a/1 ord_b/1", "t.Settled", "ord_a/2",
					 "time", "then", "t.Placed", "a/b/18446744073709551615"),
				   no_batch),
			      &events, &count));
	CU_ASSERT_EQUAL_FATAL(count, 4);
	static const struct {
		const char *type, *subject;
		uint64_t seq;
	} wanted[] = { { "t.Placed", "ord_a", 1 },
		       { "t.Placed", "ord_b", 1 },
		       { "t.Settled", "ord_a", 2 },
		       { "t.Placed", "a/b", UINT64_MAX } };
	for (size_t i = 0; i < count; i++) {
		TEST_ROW(is(events[i].type, wanted[i].type), wanted[i].subject);
		TEST_ROW(is(events[i].subject, wanted[i].subject), wanted[i].subject);
		TEST_ROW(events[i].seq == wanted[i].seq, wanted[i].subject);
		TEST_ROW(is(events[i].time, "then"), wanted[i].subject);
		TEST_ROW(events[i].attempt == 1, wanted[i].subject);
		TEST_ROW(events[i].data.length == 0, wanted[i].subject);
		TEST_ROW(events[i].traceparent.length == 0, wanted[i].subject);
		TEST_ROW(events[i].actor.length == 0, wanted[i].subject);
	}
	free(events);
}

static void single(void)
{
	struct rt_entry_event *event;
	struct made made;
	size_t count;

	CU_ASSERT_PTR_NULL(rt_entry_read(
		make(&made,
		     WORDS("id", "ord_a/7", "type", "t.Placed", "subject", "ord_a", "seq", "7",
			   "time", "then", "data", "bytes", "attempt", "3", "traceparent",
			   "00-trace", "actor", "stock stan (token)", "tracestate", "rojo=1"),
		     no_batch),
		&event, &count));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT(is(event->type, "t.Placed"));
	CU_ASSERT(is(event->subject, "ord_a"));
	CU_ASSERT_EQUAL(event->seq, 7);
	CU_ASSERT(is(event->time, "then"));
	CU_ASSERT(is(event->data, "bytes"));
	CU_ASSERT_EQUAL(event->attempt, 3);
	CU_ASSERT(is(event->traceparent, "00-trace"));
	CU_ASSERT(is(event->tracestate, "rojo=1"));
	CU_ASSERT(is(event->actor, "stock stan (token)"));
	free(event);
}

/* ---- EventBatch ---- */

/* Packs a batch with the generated code; the lists may have any length. Freed by the caller. */
static struct rt_slice pack(size_t data, size_t attempts, size_t traceparents, size_t actors,
			    size_t tracestates)
{
	static uint8_t bytes[] = { 'a', '\0', 'b' };
	ProtobufCBinaryData datas[LISTS_MAX] = {
		{ 3, bytes }, { 0, bytes }, { 1, bytes }, { 2, bytes }
	};
	uint32_t numbers[LISTS_MAX] = { 0, 1, 300, UINT32_MAX };
	char *parents[LISTS_MAX] = { (char *)(uintptr_t) "00-a", (char *)(uintptr_t) "",
				     (char *)(uintptr_t) "00-c", (char *)(uintptr_t) "00-d" };
	char *callers[LISTS_MAX] = { (char *)(uintptr_t) "", (char *)(uintptr_t) "operator olga",
				     (char *)(uintptr_t) "", (char *)(uintptr_t) "stock stan" };
	char *states[LISTS_MAX] = { (char *)(uintptr_t) "rojo=1", (char *)(uintptr_t) "",
				    (char *)(uintptr_t) "", (char *)(uintptr_t) "congo=2" };
	Tandem__Events__V1__EventBatch batch = TANDEM__EVENTS__V1__EVENT_BATCH__INIT;
	uint8_t *packed;

	batch.n_data = data;
	batch.data = datas;
	batch.n_attempt = attempts;
	batch.attempt = numbers;
	batch.n_traceparent = traceparents;
	batch.traceparent = parents;
	batch.n_actor = actors;
	batch.actor = callers;
	batch.n_tracestate = tracestates;
	batch.tracestate = states;
	packed = rt_alloc(tandem__events__v1__event_batch__get_packed_size(&batch) + 1);
	return (struct rt_slice){ (char *)packed,
				  tandem__events__v1__event_batch__pack(&batch, packed) };
}

static void batch(void)
{
	struct rt_slice packed = pack(4, 4, 4, 4, 4);
	struct rt_entry_event *events;
	struct made made;
	size_t count;

	CU_ASSERT_PTR_NULL(rt_entry_read(
		make(&made, WORDS("t.A", "a/1 b/1", "t.B", "c/1 d/1"), packed), &events, &count));
	CU_ASSERT_EQUAL_FATAL(count, 4);
	CU_ASSERT_EQUAL_FATAL(events[0].data.length, 3);
	CU_ASSERT_EQUAL(memcmp(events[0].data.data, "a\0b", 3), 0);
	CU_ASSERT_EQUAL(events[1].data.length, 0);
	CU_ASSERT_EQUAL(events[2].data.length, 1);
	CU_ASSERT_EQUAL(events[3].data.length, 2);
	CU_ASSERT_EQUAL(events[0].attempt, 1); /* 0 means once */
	CU_ASSERT_EQUAL(events[1].attempt, 1);
	CU_ASSERT_EQUAL(events[2].attempt, 300);
	CU_ASSERT_EQUAL(events[3].attempt, UINT32_MAX);
	CU_ASSERT(is(events[0].traceparent, "00-a"));
	CU_ASSERT(is(events[1].traceparent, ""));
	CU_ASSERT(is(events[2].traceparent, "00-c"));
	CU_ASSERT(is(events[3].traceparent, "00-d"));
	CU_ASSERT(is(events[0].actor, ""));
	CU_ASSERT(is(events[1].actor, "operator olga"));
	CU_ASSERT(is(events[2].actor, ""));
	CU_ASSERT(is(events[3].actor, "stock stan"));
	CU_ASSERT(is(events[0].tracestate, "rojo=1"));
	CU_ASSERT(is(events[2].tracestate, ""));
	CU_ASSERT(is(events[3].tracestate, "congo=2"));
	free(events);
	free((char *)(uintptr_t)packed.data);
}

/* Each list is empty, or has an item for each event. */
static void lists_that_fit(void)
{
	for (size_t i = 0; i < 5 * 5 * 5 * 5 * 5; i++) {
		size_t lengths[] = { i % 5, i / 5 % 5, i / 25 % 5, i / 125 % 5, i / 625 };
		struct rt_slice packed =
			pack(lengths[0], lengths[1], lengths[2], lengths[3], lengths[4]);
		struct rt_entry_event *events;
		struct made made;
		const char *fault;
		bool fits = true;
		size_t count;
		char row[32];

		for (size_t list = 0; list < RT_LENGTH(lengths); list++)
			fits = fits && (lengths[list] == 0 || lengths[list] == 3);
		fault = rt_entry_read(make(&made, WORDS("t.A", "a/1 b/1 c/1"), packed), &events,
				      &count);
		snprintf(row, sizeof(row), "%zu %zu %zu %zu", lengths[0], lengths[1], lengths[2],
			 lengths[3]);
		TEST_ROW((fault == NULL) == fits, row);
		TEST_ROW((events == NULL) == !fits, row);
		TEST_ROW(count == (fits ? 3 : 0), row);
		free(events);
		free((char *)(uintptr_t)packed.data);
	}
}

static void bad_batches(void)
{
	static const struct {
		const char *why;
		struct rt_slice batch;
		uint32_t attempt; /* of the second event; 0: it does not parse */
	} rows[] = {
		{ "an empty one", { "", 0 }, 1 },
		{ "data of two", BYTES("\x0a\x01x\x0a\x01y"), 1 },
		{ "empty data of two", BYTES("\x0a\x00\x0a\x00"), 1 },
		{ "a field that a later version may have", BYTES("\x0a\x00\x0a\x00\x32\x02zz"), 1 },
		{ "tracestates of two", BYTES("\x2a\x00\x2a\x02zz"), 1 },
		{ "a tracestate of two", BYTES("\x2a\x02zz"), 0 },
		{ "actors of two", BYTES("\x22\x00\x22\x02zz"), 1 },
		{ "an actor of two", BYTES("\x22\x02zz"), 0 },
		{ "actors of two, and one more", BYTES("\x22\x00\x22\x00\x22\x00"), 0 },
		{ "an actor as a number", BYTES("\x20\x01\x20\x01"), 0 },
		{ "a tag alone", BYTES("\x0a"), 0 },
		{ "a length past the end", BYTES("\x0a\x03xy"), 0 },
		{ "a length past all memory", BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		  0 },
		{ "a varint without an end",
		  BYTES("\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), 0 },
		{ "a varint that is cut off", BYTES("\x0a\x80"), 0 },
		{ "data as a number", BYTES("\x08\x01\x08\x01"), 0 },
		{ "a group", BYTES("\x0b\x0c"), 0 },
		{ "attempts of two", BYTES("\x12\x02\x01\x02"), 2 },
		{ "attempts of two, one in two bytes", BYTES("\x12\x03\x01\x80\x01"), 128 },
		{ "an attempt that is cut off", BYTES("\x12\x02\x01\x80"), 0 },
		{ "attempts of two, twice", BYTES("\x12\x02\x01\x02\x12\x02\x01\x02"), 0 },
		{ "a tag past 32 bits", BYTES("\x8a\x80\x80\x80\x10\x00"), 0 },
		{ "an empty list of attempts", BYTES("\x12\x00"), 0 },
		{ "an attempt past 32 bits", BYTES("\x12\x07\x01\xff\xff\xff\xff\xff\x01"),
		  UINT32_MAX },
		{ "a text", BYTES("hello world"), 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_entry_event *events;
		struct made made;
		const char *fault;
		size_t count;

		fault = rt_entry_read(make(&made, WORDS("t.A", "a/1 b/1"), rows[i].batch), &events,
				      &count);
		TEST_ROW((fault == NULL) == (rows[i].attempt > 0), rows[i].why);
		if (fault != NULL)
			TEST_ROW(strcmp(fault, "not an event: its batch does not parse") == 0,
				 rows[i].why);
		else
			TEST_ROW(events[1].attempt == rows[i].attempt, rows[i].why);
		free(events);
	}
}

/* ---- faults ---- */

#define BAD_TYPE    "not an event: bad type"
#define BAD_SUBJECT "not an event: bad subject"
#define BAD_SEQ     "not an event: bad seq"

static char long_text[257 + 1], longest_text[256 + 1];

static void faults(void)
{
	static const struct {
		const char *why, *fault; /* NULL: none */
		const char *words[10];
	} rows[] = {
		{ "nothing", BAD_TYPE, { NULL } },
		{ "a time alone", BAD_TYPE, { "time", "then" } },
		{ "a name without a value", BAD_TYPE, { "t" } },
		{ "something else", BAD_SUBJECT, { "hello", "world" } },
		{ "no names", BAD_SUBJECT, { "t", "" } },
		{ "no names in one of two", BAD_SUBJECT, { "t", "a/1", "u", "" } },
		{ "a space", BAD_SUBJECT, { "t", " " } },
		{ "a leading space", BAD_SUBJECT, { "t", " a/1" } },
		{ "a trailing space", BAD_SUBJECT, { "t", "a/1 " } },
		{ "two spaces", BAD_SUBJECT, { "t", "a/1  b/1" } },
		{ "no subject", BAD_SUBJECT, { "t", "/1" } },
		{ "no seq", BAD_SEQ, { "t", "a/" } },
		{ "no seq in the second", BAD_SEQ, { "t", "a/1 b/" } },
		{ "a seq that is a word", BAD_SEQ, { "t", "a/one" } },
		{ "a seq below 0", BAD_SEQ, { "t", "a/-1" } },
		{ "a seq with a sign", BAD_SEQ, { "t", "a/+1" } },
		{ "a seq past 64 bits", BAD_SEQ, { "t", "a/18446744073709551616" } },
		{ "a seq far past 64 bits", BAD_SEQ, { "t", "a/100000000000000000000" } },
		{ "an empty type", BAD_TYPE, { "", "a/1" } },
		{ "a long type", BAD_TYPE, { long_text, "a/1" } },
		{ "the longest type", NULL, { longest_text, "a/1" } },
		{ "single: no type", BAD_TYPE, { "subject", "a", "seq", "1" } },
		{ "single: an empty type", BAD_TYPE, { "type", "", "subject", "a", "seq", "1" } },
		{ "single: a long type",
		  BAD_TYPE,
		  { "type", long_text, "subject", "a", "seq", "1" } },
		{ "single: no subject", BAD_SUBJECT, { "type", "t", "seq", "1" } },
		{ "single: a long subject",
		  BAD_SUBJECT,
		  { "type", "t", "subject", long_text, "seq", "1" } },
		{ "single: the longest subject",
		  NULL,
		  { "type", "t", "subject", longest_text, "seq", "1" } },
		{ "single: no seq", BAD_SEQ, { "type", "t", "subject", "a" } },
		{ "single: an empty seq", BAD_SEQ, { "type", "t", "subject", "a", "seq", "" } },
		{ "single: a seq with a space",
		  BAD_SEQ,
		  { "type", "t", "subject", "a", "seq", " 1" } },
		{ "single: an attempt that is not a number",
		  NULL,
		  { "type", "t", "subject", "a", "seq", "1", "attempt", "x" } },
	};

	memset(long_text, 'x', sizeof(long_text) - 1);
	memset(longest_text, 'x', sizeof(longest_text) - 1);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_entry_event *events;
		struct made made;
		const char *fault;
		size_t count;

		fault = rt_entry_read(make(&made, rows[i].words, no_batch), &events, &count);
		TEST_ROW((fault == NULL) == (rows[i].fault == NULL), rows[i].why);
		if (fault != NULL && rows[i].fault != NULL)
			TEST_ROW(strcmp(fault, rows[i].fault) == 0, rows[i].why);
		TEST_ROW(count == (fault == NULL), rows[i].why);
		TEST_ROW((events == NULL) == (fault != NULL), rows[i].why);
		if (fault == NULL)
			TEST_ROW(events->attempt == 1, rows[i].why);
		free(events);
	}
}

/* A NUL in a subject or a type would end it for all code that reads it as a text. */
static void nul_bytes(void)
{
	struct rt_slice texts[] = { text("t"), BYTES("a\0b/1") };
	const struct rt_fields fields = { texts, 2 };
	struct rt_entry_event *events;
	size_t count;

	CU_ASSERT_STRING_EQUAL(rt_entry_read(&fields, &events, &count), BAD_SUBJECT);
	texts[0] = BYTES("t\0u");
	texts[1] = text("a/1");
	CU_ASSERT_STRING_EQUAL(rt_entry_read(&fields, &events, &count), BAD_TYPE);
}

/* The most events that an entry may have, and one more. */
static void huge(void)
{
	char *names = rt_alloc(4 * (RT_ENTRY_EVENTS_MAX + 1) + 1);
	struct rt_slice texts[4] = { text("t"), { names, 0 }, text("u"), text("a/1") };
	struct rt_fields fields = { texts, 2 };
	struct rt_entry_event *events;
	size_t count;

	for (size_t i = 0; i <= RT_ENTRY_EVENTS_MAX; i++)
		memcpy(names + 4 * i, "a/1 ", 4);
	texts[1].length = 4 * RT_ENTRY_EVENTS_MAX - 1;
	CU_ASSERT_PTR_NULL(rt_entry_read(&fields, &events, &count));
	CU_ASSERT_EQUAL(count, RT_ENTRY_EVENTS_MAX);
	free(events);
	fields.count = 4;
	CU_ASSERT_STRING_EQUAL(rt_entry_read(&fields, &events, &count), "too many events");
	CU_ASSERT_PTR_NULL(events);
	fields.count = 2;
	texts[1].length += 4;
	CU_ASSERT_STRING_EQUAL(rt_entry_read(&fields, &events, &count), "too many events");
	memset(names, ' ', 4 * RT_ENTRY_EVENTS_MAX);
	CU_ASSERT_STRING_EQUAL(rt_entry_read(&fields, &events, &count), "too many events");
	free(names);
}

/* ---- from a reply ---- */

static void reply(void)
{
	redisReply words[] = {
		{ .type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t) "t", .len = 1 },
		{ .type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t) "a/1 b/2", .len = 7 }
	};
	redisReply *elements[] = { &words[0], &words[1] };
	redisReply fields = { .type = REDIS_REPLY_ARRAY, .elements = 2, .element = elements };
	struct rt_entry_event *events;
	size_t count;

	CU_ASSERT_PTR_NULL(rt_entry_read_reply(&fields, &events, &count));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_PTR_EQUAL(events[1].subject.data, words[1].str + 4); /* not copied */
	free(events);
	words[1].type = REDIS_REPLY_INTEGER;
	CU_ASSERT_STRING_EQUAL(rt_entry_read_reply(&fields, &events, &count),
			       "not an event: a field is not a text");
	CU_ASSERT_PTR_NULL(events);
	fields.type = REDIS_REPLY_NIL;
	CU_ASSERT_STRING_EQUAL(rt_entry_read_reply(&fields, &events, &count),
			       "not an event: no fields");
	CU_ASSERT_STRING_EQUAL(rt_entry_read_reply(NULL, &events, &count),
			       "not an event: no fields");
	CU_ASSERT_EQUAL(count, 0);
}

static void fields(void)
{
	struct made made;
	const struct rt_fields *entry =
		make(&made, WORDS("aa", "2", "a", "1", "a", "3", "b", "a", "c"), no_batch);

	CU_ASSERT(is(rt_entry_field(entry, "a"), "1")); /* the first one */
	CU_ASSERT(is(rt_entry_field(entry, "aa"), "2"));
	CU_ASSERT_PTR_NULL(rt_entry_field(entry, "1").data);
	CU_ASSERT_PTR_NULL(rt_entry_field(entry, "c").data); /* it has no value */
}

int main(void)
{
	static const struct test tests[] = {
		{ "fields that list events", lists },
		{ "a single event", single },
		{ "a batch packed by the generated code", batch },
		{ "lists of the right and the wrong length", lists_that_fit },
		{ "batches that do not parse", bad_batches },
		{ "errors name what is wrong", faults },
		{ "NUL bytes", nul_bytes },
		{ "the most events in an entry", huge },
		{ "a reply", reply },
		{ "fields by name", fields },
	};

	return tests_run("entry", tests, RT_LENGTH(tests));
}
