/* fuzz_http2_guard.c - bytes of both directions of a connection, in pieces, with time between them. The guard must
 * come to the same state when it gets them one by one, and its counts must agree with the streams that it knows.
 * The limits are small, so that they are reached. */
#include "fuzz.h"
#include "interpose/http2_guard.h"

static void check(const struct http2_guard *guard, const struct http2_limits *limits)
{
	FUZZ_MUST(guard->stream_count <= limits->streams_max);
	FUZZ_MUST(guard->unfinished <= guard->stream_count);
	FUZZ_MUST(guard->stream_count <= guard->capacity);
	FUZZ_MUST(limits->unfinished == guard->unfinished);
	FUZZ_MUST(limits->held_bytes == guard->held_bytes);
	FUZZ_MUST(guard->in.have < 9 && guard->out.have < 9);
}

/* Each open stream is reset, in pieces of any size. */
static void check_resets(struct http2_guard *guard, int64_t now_ms)
{
	unsigned char frames[5 * HTTP2_RESET_BYTES];
	size_t count = guard->stream_count, length;

	while ((length = http2_guard_reset(guard, frames, sizeof(frames) - count % 20, now_ms)) > 0)
		count -= length / HTTP2_RESET_BYTES;
	FUZZ_MUST(count == 0 && guard->stream_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = { .at = data, .end = data + size };
	struct http2_limits limits[2];
	struct http2_guard whole, single;
	size_t opened[2] = { 0, 0 };
	int64_t now_ms = 1000;
	enum http2_offence offences[2] = { HTTP2_FINE, HTTP2_FINE };

	for (int i = 0; i < 2; i++)
		limits[i] = (struct http2_limits){ .streams_max = 20,
						   .unfinished_max = 10,
						   .held_max_bytes = 4000 };
	http2_guard_init(&whole, &limits[0]);
	http2_guard_init(&single, &limits[1]);
	while (fuzz.at < fuzz.end && offences[0] == HTTP2_FINE) {
		uint8_t what = fuzz_byte(&fuzz);
		size_t length;
		const char *bytes;

		now_ms += (what & 0x7f) * (what & 0x40 ? 100 : 1);
		bytes = fuzz_bytes(&fuzz, &length);
		if (what & 0x80)
			http2_guard_sent(&whole, bytes, length, now_ms);
		else
			offences[0] =
				http2_guard_received(&whole, bytes, length, now_ms, &opened[0]);
		for (size_t i = 0; i < length && offences[1] == HTTP2_FINE; i++) {
			if (what & 0x80)
				http2_guard_sent(&single, bytes + i, 1, now_ms);
			else
				offences[1] = http2_guard_received(&single, bytes + i, 1, now_ms,
								   &opened[1]);
		}
		FUZZ_MUST(offences[0] == offences[1] && opened[0] == opened[1]);
		FUZZ_MUST(whole.stream_count == single.stream_count);
		FUZZ_MUST(whole.held_bytes == single.held_bytes);
		FUZZ_MUST(whole.blind == single.blind && whole.foreign == single.foreign);
		FUZZ_MUST(http2_guard_look(&whole, now_ms) == http2_guard_look(&single, now_ms));
		check(&whole, &limits[0]);
		check(&single, &limits[1]);
	}
	FUZZ_MUST(http2_offence_reason(offences[0]) != NULL);
	check_resets(&whole, now_ms);
	http2_guard_done(&whole);
	http2_guard_done(&single);
	FUZZ_MUST(limits[0].unfinished == 0 && limits[0].held_bytes == 0);
	return 0;
}
