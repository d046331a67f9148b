/* What a connection may bring: each limit of runtime/interpose/http2_guard.c from both sides, and what clients
 * that only make calls do. */
#include "interpose/http2_guard.h"

#include <string.h>

#include "run.h"

enum {
	DATA,
	HEADERS,
	PRIORITY,
	RST_STREAM,
	SETTINGS,
	PUSH_PROMISE,
	PING,
	GOAWAY,
	WINDOW_UPDATE,
	CONTINUATION,
};
#define END_STREAM  1
#define END_HEADERS 4

static struct http2_limits limits;
static struct http2_guard guard;
static enum http2_offence offence; /* the first one */
static int64_t now_ms;
static size_t opened;

static void setup(void)
{
	limits = (struct http2_limits){ .streams_max = 10000,
					.unfinished_max = 10000,
					.held_max_bytes = 64 << 20 };
	http2_guard_init(&guard, &limits);
	offence = HTTP2_FINE;
	now_ms = 1000000;
	opened = 0;
	offence = http2_guard_received(&guard, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, now_ms,
				       &opened);
}

static void teardown(void)
{
	http2_guard_done(&guard);
	CU_ASSERT_EQUAL(limits.unfinished, 0);
	CU_ASSERT_EQUAL(limits.held_bytes, 0);
}

static void make_header(unsigned char *header, int type, int flags, uint32_t stream, size_t length)
{
	header[0] = (unsigned char)(length >> 16);
	header[1] = (unsigned char)(length >> 8);
	header[2] = (unsigned char)length;
	header[3] = (unsigned char)type;
	header[4] = (unsigned char)flags;
	for (int i = 0; i < 4; i++)
		header[5 + i] = (unsigned char)(stream >> (24 - 8 * i));
}

static void receive(const void *bytes, size_t length)
{
	if (offence == HTTP2_FINE)
		offence = http2_guard_received(&guard, bytes, length, now_ms, &opened);
}

/* The client sends a frame; its payload is zeros. */
static void comes(int type, int flags, uint32_t stream, size_t length)
{
	static const unsigned char zeros[1 << 16];
	unsigned char header[9];

	make_header(header, type, flags, stream, length);
	receive(header, sizeof(header));
	for (size_t part; length > 0; length -= part) {
		part = RT_MIN(length, sizeof(zeros));
		receive(zeros, part);
	}
}

static void goes(int type, int flags, uint32_t stream, size_t length)
{
	unsigned char frame[9 + 64] = { 0 };

	make_header(frame, type, flags, stream, length);
	http2_guard_sent(&guard, frame, 9 + length, now_ms);
}

/* A unary call comes. */
static void call_comes(uint32_t stream, size_t length)
{
	comes(HEADERS, END_HEADERS, stream, 30);
	comes(DATA, END_STREAM, stream, length);
}

/* Its answer goes. */
static void answer_goes(uint32_t stream)
{
	goes(HEADERS, END_HEADERS, stream, 20);
	goes(DATA, 0, stream, 60);
	goes(HEADERS, END_HEADERS | END_STREAM, stream, 10);
}

/* ---- limits ---- */

static void header_blocks(void)
{
	comes(HEADERS, 0, 1, 16384);
	comes(CONTINUATION, 0, 1, 16384);
	comes(CONTINUATION, 0, 1, 16384);
	comes(CONTINUATION, END_HEADERS, 1, 16384);
	comes(HEADERS, END_HEADERS, 3, 16384); /* measured anew */
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	CU_ASSERT_EQUAL(opened, 2);
	comes(HEADERS, 0, 5, 65536);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(CONTINUATION, 0, 5, 1);
	CU_ASSERT_EQUAL(offence, HTTP2_HEADER_BLOCK);
}

/* One frame is enough, and its payload is not waited for. */
static void a_large_header_frame(void)
{
	unsigned char header[9];

	make_header(header, HEADERS, END_HEADERS, 1, 65537);
	receive(header, sizeof(header));
	CU_ASSERT_EQUAL(offence, HTTP2_HEADER_BLOCK);
}

static void headers_in_pieces(void)
{
	comes(HEADERS, 0, 1, 10);
	for (int i = 0; i < 32; i++)
		comes(CONTINUATION, 0, 1, 0);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(CONTINUATION, END_HEADERS, 1, 0);
	CU_ASSERT_EQUAL(offence, HTTP2_CONTINUATIONS);
}

static void open_streams(void)
{
	for (uint32_t i = 0; i < 10000; i++)
		call_comes(1 + 2 * i, 100);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	CU_ASSERT_EQUAL(guard.stream_count, 10000);
	for (uint32_t i = 0; i < 10000; i += 2)
		answer_goes(1 + 2 * i);
	CU_ASSERT_EQUAL(guard.stream_count, 5000);
	for (uint32_t i = 0; i < 5000; i++)
		call_comes(20001 + 2 * i, 100);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(HEADERS, END_HEADERS, 30001, 30);
	CU_ASSERT_EQUAL(offence, HTTP2_STREAMS);
}

/* Thousands of calls begin at once; their messages come as the window allows. */
static void unfinished_requests_come_to_an_end(void)
{
	for (uint32_t i = 0; i < 5000; i++)
		comes(HEADERS, END_HEADERS, 1 + 2 * i, 30);
	for (uint32_t i = 0; i < 100; i++) {
		now_ms += 9000;
		comes(DATA, END_STREAM, 1 + 2 * i, 100);
		CU_ASSERT_EQUAL(http2_guard_look(&guard, now_ms), HTTP2_FINE);
	}
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	now_ms += 10001;
	CU_ASSERT_EQUAL(http2_guard_look(&guard, now_ms), HTTP2_UNFINISHED);
	comes(HEADERS, END_HEADERS, 20001, 30);
	CU_ASSERT_EQUAL(offence, HTTP2_UNFINISHED);
}

/* A few may take as long as they want: streams of both sides. */
static void a_few_unfinished_requests(void)
{
	for (uint32_t i = 0; i < 32; i++)
		comes(HEADERS, END_HEADERS, 1 + 2 * i, 30);
	now_ms += 3600000;
	CU_ASSERT_EQUAL(http2_guard_look(&guard, now_ms), HTTP2_FINE);
	comes(HEADERS, END_HEADERS, 65, 30);
	CU_ASSERT_EQUAL(http2_guard_look(&guard, now_ms + 10001), HTTP2_UNFINISHED);
	goes(HEADERS, END_HEADERS, 65, 20); /* an answer: it is under way */
	CU_ASSERT_EQUAL(http2_guard_look(&guard, now_ms + 10001), HTTP2_FINE);
}

/* Others have brought the process to its limit: who has few goes on. */
static void unfinished_requests_of_the_process(void)
{
	limits.unfinished = 10000;
	for (uint32_t i = 0; i < 64; i++)
		comes(HEADERS, END_HEADERS, 1 + 2 * i, 30);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(HEADERS, END_HEADERS, 129, 30);
	CU_ASSERT_EQUAL(offence, HTTP2_UNFINISHED);
	limits.unfinished -= 10000;
}

static void unanswered_bytes(void)
{
	comes(HEADERS, END_HEADERS, 1, 30);
	for (int i = 0; i < 2039; i++)
		comes(DATA, 0, 1, 16384); /* with 64 more for each, just below 32 MiB */
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	CU_ASSERT_EQUAL(guard.held_bytes, 2039 * (16384 + 64));
	goes(DATA, 0, 1, 5); /* an answer: they have been read */
	CU_ASSERT_EQUAL(guard.held_bytes, 0);
	for (int i = 0; i < 2040; i++)
		comes(DATA, 0, 1, 16384);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(DATA, 0, 1, 16384);
	CU_ASSERT_EQUAL(offence, HTTP2_HELD);
}

static void unanswered_bytes_of_the_process(void)
{
	limits.held_bytes = 64 << 20;
	comes(HEADERS, END_HEADERS, 1, 30);
	comes(DATA, 0, 1, 65536 - 64);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(DATA, 0, 1, 100);
	CU_ASSERT_EQUAL(offence, HTTP2_HELD);
	limits.held_bytes -= 64 << 20;
}

static void early_resets(void)
{
	/* At first the streams of this second are few, so a quarter of them adds 667. */
	for (uint32_t i = 0; offence == HTTP2_FINE && i < 100000; i++) {
		call_comes(1 + 2 * i, 100);
		comes(RST_STREAM, 0, 1 + 2 * i, 4);
	}
	CU_ASSERT_EQUAL(offence, HTTP2_RESETS);
	CU_ASSERT_EQUAL(opened, 2667);
	CU_ASSERT_EQUAL(guard.stream_count, 0);
}

/* What is older, or was answered, does not count; neither does one in five. */
static void other_resets(void)
{
	uint32_t stream = 1;

	for (int i = 0; i < 10000; i++, stream += 2) {
		call_comes(stream, 100);
		goes(HEADERS, END_HEADERS, stream, 20);
		comes(RST_STREAM, 0, stream, 4);
	}
	for (int i = 0; i < 9000; i++, stream += 2)
		call_comes(stream, 100);
	now_ms += 25;
	for (int i = 0; i < 9000; i++)
		comes(RST_STREAM, 0, stream - 2 * (uint32_t)(i + 1), 4);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	now_ms += 1000;
	for (int i = 0; i < 100000; i++, stream += 2) {
		call_comes(stream, 100);
		if (i % 5 == 0)
			comes(RST_STREAM, 0, stream, 4);
		else
			answer_goes(stream);
	}
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
}

/* Frames that do nothing: so many in a second, and again in the next; more where calls are made. */
static void floods(void)
{
	static const struct {
		int type;
		size_t length;
		enum http2_offence offence;
		unsigned base, of_opened, of_answered; /* quarters */
	} rows[] = {
		{ SETTINGS, 6, HTTP2_SETTINGS, 100, 0, 0 },
		{ PING, 8, HTTP2_PINGS, 100, 0, 4 },
		{ WINDOW_UPDATE, 4, HTTP2_WINDOW_UPDATES, 5000, 8, 8 },
		{ DATA, 0, HTTP2_SMALL_DATA, 5000, 8, 4 },
		{ DATA, 15, HTTP2_SMALL_DATA, 5000, 8, 4 },
		{ PRIORITY, 5, HTTP2_USELESS, 5000, 4, 4 },
		{ PUSH_PROMISE, 4, HTTP2_USELESS, 5000, 4, 4 },
		{ GOAWAY, 8, HTTP2_USELESS, 5000, 4, 4 },
		{ 77, 1000, HTTP2_USELESS, 5000, 4, 4 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *row = http2_offence_reason(rows[i].offence);
		unsigned opens = 1, calls = 1000;

		teardown();
		setup();
		comes(HEADERS, END_HEADERS, 1, 30); /* of the DATA */
		for (int second = 0; second < 2; second++, opens = 0) {
			for (unsigned n = 0; n < rows[i].base + opens * rows[i].of_opened / 4; n++)
				comes(rows[i].type, 0, rows[i].type == DATA, rows[i].length);
			TEST_ROW(offence == HTTP2_FINE, row);
			now_ms += 1000;
		}
		for (unsigned n = 0; n < calls; n++) {
			call_comes(3 + 2 * n, 100);
			answer_goes(3 + 2 * n);
		}
		for (unsigned n = 0; n < rows[i].base + calls * rows[i].of_opened / 4 +
						 3 * calls * rows[i].of_answered / 4;
		     n++)
			comes(rows[i].type, 0, rows[i].type == DATA, rows[i].length);
		TEST_ROW(offence == HTTP2_FINE, row);
		comes(rows[i].type, 0, rows[i].type == DATA, rows[i].length);
		TEST_ROW(offence == rows[i].offence, row);
	}
}

/* What belongs to streams that have ended: resets, the rest of messages, trailers. */
static void late_frames(void)
{
	comes(HEADERS, END_HEADERS, 1, 30);
	goes(HEADERS, END_HEADERS | END_STREAM, 1, 20);
	CU_ASSERT_EQUAL(guard.stream_count, 0);
	for (int i = 0; i < 1667; i++) {
		comes(RST_STREAM, 0, 1, 4);
		comes(HEADERS, END_HEADERS | END_STREAM, 1, 10);
		comes(DATA, 0, 1, 16384);
		comes(DATA, END_STREAM, 1, 0);
	}
	CU_ASSERT_EQUAL(offence,
			HTTP2_FINE); /* 5001 of 5000, and one more for the stream and its answer */
	comes(RST_STREAM, 0, 1, 4);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	comes(RST_STREAM, 0, 1, 4);
	CU_ASSERT_EQUAL(offence, HTTP2_USELESS);
}

/* ---- what is fine ---- */

/* 25 000 calls a second for a while, some cancelled, with a stream that stays. */
static void a_busy_client(void)
{
	uint32_t stream = 3;

	comes(SETTINGS, 0, 0, 12);
	comes(SETTINGS, 1, 0, 0);
	comes(HEADERS, END_HEADERS, 1, 30);
	for (int i = 0; i < 100000; i++, stream += 2) {
		now_ms += i % 25 == 0;
		call_comes(stream, 5);
		comes(WINDOW_UPDATE, 0, 0, 4);
		comes(DATA, 0, 1, 20);
		goes(DATA, 0, 1, 20);
		comes(WINDOW_UPDATE, 0, 0, 4);
		if (i % 50 == 0)
			comes(RST_STREAM, 0, stream, 4);
		else
			answer_goes(stream);
		comes(PING, 0, 0, 8);
	}
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	CU_ASSERT_EQUAL(guard.stream_count, 1);
	CU_ASSERT_EQUAL(opened, 100001);
}

/* The same bytes one by one. */
static void bytes_one_by_one(void)
{
	unsigned char bytes[3 * 9 + 50 + 4], answer[9 + 60];

	http2_guard_done(&guard);
	http2_guard_init(&guard, &limits);
	for (const char *c = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"; *c != '\0'; c++)
		receive(c, 1);
	memset(bytes, 0xff, sizeof(bytes));
	make_header(bytes, HEADERS, END_HEADERS, 1, 30);
	make_header(bytes + 39, DATA, 0, 1, 20);
	for (size_t i = 0; i < 68; i++)
		receive(bytes + i, 1);
	CU_ASSERT_EQUAL(guard.stream_count, 1);
	CU_ASSERT_EQUAL(guard.held_bytes, 20 + 64);
	memset(answer, 0xff, sizeof(answer));
	make_header(answer, DATA, 0, 1, 60);
	for (size_t i = 0; i < sizeof(answer); i++)
		http2_guard_sent(&guard, answer + i, 1, now_ms);
	CU_ASSERT_EQUAL(guard.held_bytes, 0);
	CU_ASSERT_FALSE(guard.blind);
	make_header(bytes, RST_STREAM, 0, 1, 4);
	for (size_t i = 0; i < 13; i++)
		receive(bytes + i, 1);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	CU_ASSERT_EQUAL(guard.stream_count, 0);
}

/* The same bytes in two pieces, wherever they are cut. */
static void bytes_in_two_pieces(void)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	unsigned char bytes[24 + 9 + 30 + 9 + 20 + 9 + 4];

	memset(bytes, 0xff, sizeof(bytes));
	memcpy(bytes, preface, 24);
	make_header(bytes + 24, HEADERS, END_HEADERS, 1, 30);
	make_header(bytes + 63, DATA, 0, 1, 20);
	make_header(bytes + 92, HEADERS, END_HEADERS | END_STREAM, 3, 4);
	for (size_t cut = 1; cut < sizeof(bytes); cut++) {
		http2_guard_done(&guard);
		http2_guard_init(&guard, &limits);
		receive(bytes, cut);
		receive(bytes + cut, sizeof(bytes) - cut);
		CU_ASSERT_EQUAL(guard.stream_count, 2);
		CU_ASSERT_EQUAL(guard.held_bytes, 20 + 64);
		CU_ASSERT_EQUAL(guard.unfinished, 1);
	}
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
}

/* A connection that does not speak HTTP/2 is gRPC's to refuse. */
static void another_protocol(void)
{
	for (size_t cut = 0; cut < 24; cut++) {
		char text[25] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

		http2_guard_done(&guard);
		http2_guard_init(&guard, &limits);
		text[cut] ^= 1;
		receive(text, 10);
		receive(text + 10, 14);
		CU_ASSERT(guard.foreign);
		for (int i = 0; i < 1000; i++)
			comes(SETTINGS, 0, 0, 6);
		CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	}
}

/* When our side sends what we do not understand, streams are not counted: nobody is closed for that. */
static void what_we_do_not_understand(void)
{
	comes(HEADERS, END_HEADERS, 1, 30);
	goes(200, 0, 1, 4);
	CU_ASSERT(guard.blind);
	for (uint32_t i = 1; i < 20000; i++)
		call_comes(1 + 2 * i, 100);
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
	for (int i = 0; i < 101; i++)
		comes(SETTINGS, 0, 0, 6);
	CU_ASSERT_EQUAL(offence, HTTP2_SETTINGS); /* that one still is */
}

/* Streams that end in any order are found, whatever else is in the table. */
static void any_order(void)
{
	static uint32_t ids[3000];
	uint32_t seed = 7, last = 1;

	for (size_t i = 0; i < RT_LENGTH(ids); i++, last += 2 + 2 * (seed >> 8) % 3000) {
		seed = seed * 1664525 + 1013904223;
		ids[i] = last;
		call_comes(last, 100);
	}
	for (size_t left = RT_LENGTH(ids); left > 0; left--) {
		size_t pick;

		seed = seed * 1664525 + 1013904223;
		pick = (seed >> 8) % left;
		goes(RST_STREAM, 0, ids[pick], 4);
		ids[pick] = ids[left - 1];
		CU_ASSERT_EQUAL(guard.stream_count, left - 1);
	}
	CU_ASSERT_EQUAL(guard.capacity, 0); /* given back */
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
}

/* Each open stream is reset once, as many at a time as there is room for. */
static void resets(void)
{
	unsigned char frames[10 * HTTP2_RESET_BYTES], seen[100] = { 0 };
	size_t length, count = 0;

	for (uint32_t i = 0; i < 100; i++)
		call_comes(1 + 2 * i, 100);
	CU_ASSERT_EQUAL(http2_guard_reset(&guard, frames, HTTP2_RESET_BYTES - 1, now_ms), 0);
	while ((length = http2_guard_reset(&guard, frames, sizeof(frames) - 1, now_ms)) > 0) {
		CU_ASSERT_EQUAL(length % HTTP2_RESET_BYTES, 0);
		for (size_t at = 0; at < length; at += HTTP2_RESET_BYTES) {
			unsigned char expected[HTTP2_RESET_BYTES] = { [12] = 8 /* CANCEL */ };
			uint32_t stream = (uint32_t)frames[at + 8] | (uint32_t)frames[at + 7] << 8;

			CU_ASSERT_FATAL(stream % 2 == 1 && stream < 200);
			CU_ASSERT_EQUAL(seen[stream / 2]++, 0);
			make_header(expected, RST_STREAM, 0, stream, 4);
			CU_ASSERT_EQUAL(memcmp(frames + at, expected, sizeof(expected)), 0);
			count++;
		}
		CU_ASSERT_EQUAL(guard.stream_count, 100 - count);
	}
	CU_ASSERT_EQUAL(count, 100);
	CU_ASSERT_EQUAL(count % 9, 1); /* the buffer has room for nine */
}

/* Where the last frame before an offence ends, if gRPC may get what is before. */
static void whole_frames(void)
{
	unsigned char bytes[9 + 30 + 9];

	make_header(bytes, HEADERS, END_HEADERS, 1, 30);
	make_header(bytes + 39, HEADERS, 0, 3, 65537);
	receive(bytes, sizeof(bytes));
	CU_ASSERT_EQUAL(offence, HTTP2_HEADER_BLOCK);
	CU_ASSERT_EQUAL(guard.whole, 39);
	offence = HTTP2_FINE;
	teardown();
	setup();
	CU_ASSERT(http2_guard_between_frames(&guard));
	receive(bytes, 39 + 4);
	CU_ASSERT_FALSE(http2_guard_between_frames(&guard)); /* four bytes of a header */
	receive(bytes + 39 + 4, 5);
	CU_ASSERT_EQUAL(offence, HTTP2_HEADER_BLOCK);
	CU_ASSERT_EQUAL(guard.whole, HTTP2_NO_WHOLE);
	offence = HTTP2_FINE;
	teardown();
	setup();
	receive(bytes, 20);
	CU_ASSERT_FALSE(http2_guard_between_frames(&guard)); /* in the middle of a frame */
	receive(bytes + 20, 19);
	CU_ASSERT(http2_guard_between_frames(&guard));
	comes(HEADERS, 0, 3, 30);
	CU_ASSERT_FALSE(http2_guard_between_frames(&guard)); /* its CONTINUATION is to come */
	comes(CONTINUATION, 0, 3, 65536);
	CU_ASSERT_EQUAL(offence, HTTP2_HEADER_BLOCK);
	CU_ASSERT_EQUAL(guard.whole, HTTP2_NO_WHOLE);
}

/* Others go first when most of what it does comes to nothing. */
static void wasted_work(void)
{
	for (uint32_t i = 0; i < 64; i++)
		comes(HEADERS, END_HEADERS, 1 + 2 * i, 30);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard));
	comes(HEADERS, END_HEADERS, 129, 30);
	CU_ASSERT(http2_guard_wastes(&guard));
	for (uint32_t i = 0; i <= 64; i++)
		comes(DATA, END_STREAM, 1 + 2 * i, 100);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard));
	for (uint32_t i = 0; i <= 64; i++)
		comes(RST_STREAM, 0, 1 + 2 * i, 4);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard)); /* 65 of 65 is not much yet */
	for (uint32_t i = 0; i < 32; i++) {
		call_comes(131 + 2 * i, 100);
		comes(RST_STREAM, 0, 131 + 2 * i, 4);
	}
	CU_ASSERT(http2_guard_wastes(&guard));
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
}

/* Calls that are refused, beside others: `good` of them. */
static void refused_calls(uint32_t refused, uint32_t good)
{
	for (uint32_t i = 0; i < refused + good; i++) {
		call_comes((guard.last_stream + 1) | 1, 100);
		if (i < refused)
			http2_guard_refused(&guard, now_ms);
	}
}

static void refused_work(void)
{
	refused_calls(85, 0);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard));
	refused_calls(1, 0);
	CU_ASSERT(http2_guard_wastes(&guard));
	/* The next second does not begin with as many. */
	now_ms += 1000;
	refused_calls(0, 1);
	CU_ASSERT(http2_guard_wastes(&guard));
	now_ms += 1000;
	refused_calls(0, 1);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard));
	/* A second long ago says nothing. */
	refused_calls(100, 0);
	now_ms += 2000;
	refused_calls(0, 1);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard));
}

/* A proxy's connection goes on while one of its callers has its calls refused. */
static void refused_beside_others(void)
{
	refused_calls(0, 1000);
	refused_calls(313, 0);
	CU_ASSERT_FALSE(http2_guard_wastes(&guard));
	CU_ASSERT_EQUAL(offence, HTTP2_FINE);
}

static const struct test tests[] = {
	{ "a header block is bounded", header_blocks },
	{ "a large HEADERS frame is refused before it comes", a_large_header_frame },
	{ "a header block has few pieces", headers_in_pieces },
	{ "open streams are bounded", open_streams },
	{ "unfinished requests come to an end", unfinished_requests_come_to_an_end },
	{ "a few unfinished requests may stay", a_few_unfinished_requests },
	{ "unfinished requests of the process are bounded", unfinished_requests_of_the_process },
	{ "unanswered bytes are bounded", unanswered_bytes },
	{ "unanswered bytes of the process are bounded", unanswered_bytes_of_the_process },
	{ "early resets are bounded", early_resets },
	{ "other resets are not", other_resets },
	{ "frames that do nothing are bounded", floods },
	{ "so are those of streams that have ended", late_frames },
	{ "wasted work", wasted_work },
	{ "calls that are refused", refused_work },
	{ "calls that are refused beside others", refused_beside_others },
	{ "a busy client", a_busy_client },
	{ "bytes one by one", bytes_one_by_one },
	{ "bytes in two pieces", bytes_in_two_pieces },
	{ "another protocol", another_protocol },
	{ "what we do not understand", what_we_do_not_understand },
	{ "streams end in any order", any_order },
	{ "resets", resets },
	{ "whole frames", whole_frames },
};

TESTS_MAIN_EACH("http2_guard", setup, teardown, tests)
