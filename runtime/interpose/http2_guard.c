/* http2_guard.c - counts the frames of a connection; see http2_guard.h.
 *
 *   http2_guard_received   the preface, then frame after frame: 9 bytes of header, the payload is skipped
 *     received_headers     a stream is opened; its header block is measured until it ends
 *     received_data        a message comes; small pieces are counted
 *     received_reset       a stream has ended; early resets are counted
 *     count                everything else: so many a second
 *   http2_guard_sent       the same for what our side sends: a stream is answered, a stream has ended
 *
 * Of a stream it knows: since when it is open, whether the client's request is complete or our side has answered
 * (until then it is unfinished), and how many bytes came since our side last answered on it. gRPC keeps those bytes
 * until they are a message. */
#include "http2_guard.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/random.h>

/* ---- limits ---- */

/* gRPC refuses calls with more than 16 KiB of metadata (rpc/server.c), and tells the caller so. Four times that
 * is refused in that way; with more the caller does not mean it. */
#define BLOCK_MAX_BYTES 65536
/* Clients fill frames of 16 KiB, so a block of that size has four. */
#define CONTINUATIONS_MAX 32
/* A reset counts if its stream is younger and our side has answered nothing: gRPC may not even have given the
 * call to us. A client whose deadlines pass, or that has another answer, waited longer. */
#define EARLY_MS 25
/* A client that begins thousands of calls at once sends all their headers first, and then the messages as its
 * window allows: one after the other is finished. Where many are unfinished and none is finished for so long, the
 * client is not about to. */
#define UNFINISHED_FEW 32
#define STALLED_MAX_MS 10000
/* What a DATA frame costs gRPC beside its bytes: a slice, and its share of a read buffer. */
#define FRAME_COST 64
/* Smaller than any message of a client's stream: an order with its number has more. A stream of orders that wait for their
 * decision brings thousands a second, unanswered. */
#define SMALL_BYTES 16
/* Beyond the process's limit those are closed that have more than this. */
#define SHARE_STREAMS 64
#define SHARE_BYTES   65536
/* From so many on others go first. */
#define WASTED_FEW 64

/* Frames a second: `base`, and more where calls are made: a share (in quarters) of the streams that were opened
 * in this second, and of the frames with which we answered. */
static const struct limit {
	enum http2_offence offence;
	uint32_t base, of_opened, of_answered;
} limits[HTTP2_KINDS] = {
	/* Hedging clients reset a few of a hundred. After a pause of this process (a second without the
	 * processor) the headers and resets of all calls that timed out come together. */
	[HTTP2_KIND_RESET] = { HTTP2_RESETS, 2000, 1, 0 },
	/* One at the start, then one each time a client changes its window: at most a few a second. */
	[HTTP2_KIND_SETTINGS] = { HTTP2_SETTINGS, 100, 0, 0 },
	/* Keepalive: one each few seconds. To measure the path: grpc-go after each answer at most. */
	[HTTP2_KIND_PING] = { HTTP2_PINGS, 100, 0, 4 },
	/* Two for each frame that we send, where a client grants each byte at once. */
	[HTTP2_KIND_WINDOW_UPDATE] = { HTTP2_WINDOW_UPDATES, 5000, 8, 8 },
	/* Messages of a few bytes: one a call, or one an answer on a stream. */
	[HTTP2_KIND_SMALL_DATA] = { HTTP2_SMALL_DATA, 5000, 8, 4 },
	/* Priorities, unknown frames, what belongs to streams that have ended: a client cancels a call while
	 * we answer it. */
	[HTTP2_KIND_USELESS] = { HTTP2_USELESS, 5000, 4, 4 },
};

static const char *const reasons[] = { [HTTP2_FINE] = "fine",
#define X(name, reason) [HTTP2_##name] = reason,
				       HTTP2_OFFENCES(X)
#undef X
};

const char *http2_offence_reason(enum http2_offence offence)
{
	return reasons[offence];
}

/* ---- HTTP/2 (RFC 9113) ---- */

enum {
	DATA = 0,
	HEADERS = 1,
	RST_STREAM = 3,
	SETTINGS = 4,
	PING = 6,
	WINDOW_UPDATE = 8,
	CONTINUATION = 9,
};
#define END_STREAM  0x1
#define END_HEADERS 0x4
#define HEADER_SIZE 9

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_SIZE (sizeof(preface) - 1)

/* ---- the streams that are open ---- */

#define FINISHED 1 /* the client has sent all of its request */
#define ANSWERED 2 /* our side has sent something */

struct http2_stream {
	uint32_t id; /* 0: a free place */
	uint32_t held_bytes;
	uint32_t opened_ms;
	uint32_t flags;
};

#define CAPACITY_FIRST 16
#define CAPACITY_KEPT  1024 /* more is given back when no stream is open */

/* Ids differ by 2, and a client may choose them: without the secret it could choose those that collide. */
static uint32_t secret;

static void make_secret(void)
{
	if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) != sizeof(secret))
		secret = (uint32_t)rt_monotonic_ns();
	secret |= 1;
}

static size_t place_of(const struct http2_guard *guard, uint32_t id)
{
	return ((id ^ secret) * UINT32_C(0x9E3779B1) >> 8) & (guard->capacity - 1);
}

static struct http2_stream *find(const struct http2_guard *guard, uint32_t id)
{
	size_t place;

	if (guard->stream_count == 0 || id == 0)
		return NULL;
	for (place = place_of(guard, id); guard->streams[place].id != 0;
	     place = (place + 1) & (guard->capacity - 1)) {
		if (guard->streams[place].id == id)
			return &guard->streams[place];
	}
	return NULL;
}

static struct http2_stream *free_place(const struct http2_guard *guard, uint32_t id)
{
	size_t place = place_of(guard, id);

	while (guard->streams[place].id != 0)
		place = (place + 1) & (guard->capacity - 1);
	return &guard->streams[place];
}

static void grow(struct http2_guard *guard)
{
	struct http2_stream *old = guard->streams;
	size_t old_capacity = guard->capacity;

	guard->capacity = old_capacity == 0 ? CAPACITY_FIRST : old_capacity * 2;
	guard->streams = rt_alloc(guard->capacity * sizeof(*guard->streams));
	for (size_t i = 0; i < old_capacity; i++) {
		if (old[i].id != 0)
			*free_place(guard, old[i].id) = old[i];
	}
	free(old);
}

static void set_unfinished(struct http2_guard *guard, size_t count, int64_t now_ms)
{
	bool fewer = count < guard->unfinished;

	guard->limits->unfinished += count - guard->unfinished;
	guard->unfinished = count;
	if (count <= UNFINISHED_FEW)
		guard->stalled_since_ms = 0;
	else if (fewer || guard->stalled_since_ms == 0)
		guard->stalled_since_ms = now_ms;
}

static void set_held(struct http2_guard *guard, struct http2_stream *stream, uint32_t bytes)
{
	guard->limits->held_bytes += (size_t)bytes - stream->held_bytes;
	guard->held_bytes += (size_t)bytes - stream->held_bytes;
	stream->held_bytes = bytes;
}

static void set_flag(struct http2_guard *guard, struct http2_stream *stream, uint32_t flag,
		     int64_t now_ms)
{
	if (stream->flags == 0)
		set_unfinished(guard, guard->unfinished - 1, now_ms);
	stream->flags |= flag;
	if (stream->held_bytes > 0)
		set_held(guard, stream, 0);
}

static struct http2_stream *add(struct http2_guard *guard, uint32_t id, int64_t now_ms)
{
	struct http2_stream *stream;

	if ((guard->stream_count + 1) * 4 > guard->capacity * 3)
		grow(guard);
	stream = free_place(guard, id);
	*stream = (struct http2_stream){ .id = id, .opened_ms = (uint32_t)now_ms };
	guard->stream_count++;
	guard->called_ms = now_ms;
	set_unfinished(guard, guard->unfinished + 1, now_ms);
	return stream;
}

/* Takes it out, and moves those back that stand behind it because their place was taken. */
static void take_out(struct http2_guard *guard, struct http2_stream *stream, int64_t now_ms)
{
	size_t mask = guard->capacity - 1, hole = (size_t)(stream - guard->streams);

	set_flag(guard, stream, FINISHED, now_ms);
	guard->called_ms = now_ms;
	for (size_t next = (hole + 1) & mask; guard->streams[next].id != 0;
	     next = (next + 1) & mask) {
		size_t home = place_of(guard, guard->streams[next].id);

		if (((next - home) & mask) >= ((next - hole) & mask)) {
			guard->streams[hole] = guard->streams[next];
			hole = next;
		}
	}
	guard->streams[hole] = (struct http2_stream){ 0 };
	if (--guard->stream_count == 0 && guard->capacity > CAPACITY_KEPT) {
		free(RT_TAKE(guard->streams));
		guard->capacity = 0;
	}
}

void http2_guard_init(struct http2_guard *guard, struct http2_limits *limits_of_process)
{
	if (secret == 0)
		make_secret();
	*guard = (struct http2_guard){ .limits = limits_of_process };
}

void http2_guard_done(struct http2_guard *guard)
{
	guard->limits->unfinished -= guard->unfinished;
	guard->limits->held_bytes -= guard->held_bytes;
	free(guard->streams);
	*guard = (struct http2_guard){ .limits = guard->limits };
}

/* ---- frames ---- */

static uint32_t big_endian(const unsigned char *bytes)
{
	uint32_t number;

	memcpy(&number, bytes, sizeof(number));
	return ntohl(number);
}

/* Moves on to behind the header of the next frame, which comes in pieces. False: it is not complete yet. */
static bool piece_of_header(struct http2_frames *frames, const unsigned char **at,
			    const unsigned char *end)
{
	size_t piece = RT_MIN((size_t)(end - *at), (size_t)(HEADER_SIZE - frames->have));

	memcpy(frames->header + frames->have, *at, piece);
	frames->have = (unsigned char)(frames->have + piece);
	*at += piece;
	if (frames->have < HEADER_SIZE)
		return false;
	frames->have = 0;
	return true;
}

/* Moves on to behind the next frame's header. False: it is not complete yet. Inline: gRPC sends a frame's header and its
 * payload as two pieces, so that much of what an order takes here is calls. */
static inline bool next_frame(struct http2_frames *frames, const unsigned char **at,
			      const unsigned char *end)
{
	const unsigned char *header;
	size_t there = (size_t)(end - *at);

	if (frames->left >= there) {
		frames->left -= (uint32_t)there;
		return false;
	}
	header = *at += frames->left;
	if (frames->have == 0 && end - header >= HEADER_SIZE) {
		*at += HEADER_SIZE;
	} else {
		frames->left = 0;
		if (!piece_of_header(frames, at, end))
			return false;
		header = frames->header;
	}
	frames->length = frames->left = big_endian(header) >> 8;
	frames->type = header[3];
	frames->flags = header[4];
	frames->stream = big_endian(header + 5) & 0x7fffffff;
	return true;
}

static bool wastes_now(const struct http2_guard *guard)
{
	uint32_t enough = WASTED_FEW + guard->opened / 4;

	return guard->unfinished > WASTED_FEW || guard->counts[HTTP2_KIND_RESET] > enough ||
	       guard->refused > enough;
}

static void begin_second(struct http2_guard *guard, int64_t now_ms)
{
	if (now_ms - guard->second_began_ms < 1000)
		return;
	/* Or each second would begin with a burst. */
	guard->wasted = now_ms - guard->second_began_ms < 2000 && wastes_now(guard);
	guard->second_began_ms = now_ms;
	memset(guard->counts, 0, sizeof(guard->counts));
	guard->opened = guard->answered = guard->refused = 0;
}

static enum http2_offence count(struct http2_guard *guard, enum http2_kind kind)
{
	const struct limit *limit = &limits[kind];
	uint64_t more = (uint64_t)guard->opened * limit->of_opened +
			(uint64_t)guard->answered * limit->of_answered;

	return ++guard->counts[kind] > limit->base + more / 4 ? limit->offence : HTTP2_FINE;
}

/* ---- what the client sends ---- */

static enum http2_offence measure_block(struct http2_guard *guard, const struct http2_frames *frame)
{
	guard->block_bytes += frame->length;
	if (guard->block_bytes > BLOCK_MAX_BYTES)
		return HTTP2_HEADER_BLOCK;
	if (frame->type == CONTINUATION && ++guard->block_frames > CONTINUATIONS_MAX)
		return HTTP2_CONTINUATIONS;
	if (frame->flags & END_HEADERS)
		guard->block_stream = guard->block_bytes = guard->block_frames = 0;
	else
		guard->block_stream = frame->stream;
	return HTTP2_FINE;
}

static enum http2_offence received_headers(struct http2_guard *guard,
					   const struct http2_frames *frame, int64_t now_ms)
{
	enum http2_offence offence = measure_block(guard, frame);
	struct http2_stream *stream;

	if (offence != HTTP2_FINE)
		return offence;
	if (frame->stream % 2 == 0 || frame->stream <= guard->last_stream) {
		stream = find(guard, frame->stream);
		if (stream == NULL)
			return count(guard, HTTP2_KIND_USELESS);
	} else {
		guard->last_stream = frame->stream;
		guard->opened++;
		if (guard->blind)
			return HTTP2_FINE;
		if (guard->stream_count >= guard->limits->streams_max)
			return HTTP2_STREAMS;
		stream = add(guard, frame->stream, now_ms);
	}
	if (frame->flags & END_STREAM)
		set_flag(guard, stream, FINISHED, now_ms);
	if (guard->limits->unfinished > guard->limits->unfinished_max &&
	    guard->unfinished > SHARE_STREAMS)
		return HTTP2_UNFINISHED;
	return http2_guard_look(guard, now_ms);
}

static enum http2_offence received_data(struct http2_guard *guard, const struct http2_frames *frame,
					int64_t now_ms)
{
	struct http2_stream *stream = find(guard, frame->stream);
	bool end = frame->flags & END_STREAM;

	if (!end && frame->length < SMALL_BYTES) {
		enum http2_offence offence = count(guard, HTTP2_KIND_SMALL_DATA);

		if (offence != HTTP2_FINE)
			return offence;
	}
	if (stream == NULL)
		return frame->length < SMALL_BYTES ? count(guard, HTTP2_KIND_USELESS) : HTTP2_FINE;
	if (end) {
		set_flag(guard, stream, FINISHED, now_ms);
		return HTTP2_FINE;
	}
	set_held(guard, stream, stream->held_bytes + frame->length + FRAME_COST);
	if (guard->held_bytes > guard->limits->held_max_bytes / 2 ||
	    (guard->limits->held_bytes > guard->limits->held_max_bytes &&
	     guard->held_bytes > SHARE_BYTES))
		return HTTP2_HELD;
	return HTTP2_FINE;
}

static enum http2_offence received_reset(struct http2_guard *guard,
					 const struct http2_frames *frame, int64_t now_ms)
{
	struct http2_stream *stream = find(guard, frame->stream);
	bool early;

	if (stream == NULL)
		return count(guard, HTTP2_KIND_USELESS);
	early = (uint32_t)now_ms - stream->opened_ms < EARLY_MS && !(stream->flags & ANSWERED);
	take_out(guard, stream, now_ms);
	return early ? count(guard, HTTP2_KIND_RESET) : HTTP2_FINE;
}

static enum http2_offence received_frame(struct http2_guard *guard, int64_t now_ms)
{
	const struct http2_frames *frame = &guard->in;

	/* Only its CONTINUATION may follow headers that have not ended: gRPC closes the connection otherwise. */
	if (guard->block_stream != 0)
		return measure_block(guard, frame);
	switch (frame->type) {
	case DATA:
		return guard->blind ? HTTP2_FINE : received_data(guard, frame, now_ms);
	case HEADERS:
		return received_headers(guard, frame, now_ms);
	case RST_STREAM:
		return guard->blind ? HTTP2_FINE : received_reset(guard, frame, now_ms);
	case SETTINGS:
		return count(guard, HTTP2_KIND_SETTINGS);
	case PING:
		return count(guard, HTTP2_KIND_PING);
	case WINDOW_UPDATE:
		return count(guard, HTTP2_KIND_WINDOW_UPDATE);
	default:
		return count(guard, HTTP2_KIND_USELESS);
	}
}

/* Skips the preface. False: there is nothing behind it. */
static bool skip_preface(struct http2_guard *guard, const unsigned char **at,
			 const unsigned char *end)
{
	size_t piece = RT_MIN((size_t)(end - *at), PREFACE_SIZE - guard->preface);

	if (memcmp(*at, preface + guard->preface, piece) != 0)
		guard->foreign = true;
	guard->preface = (unsigned char)(guard->preface + piece);
	*at += piece;
	return !guard->foreign && *at < end;
}

enum http2_offence http2_guard_received(struct http2_guard *guard, const void *bytes, size_t length,
					int64_t now_ms, size_t *ret_opened)
{
	const unsigned char *at = bytes, *end = at + length;
	enum http2_offence offence = HTTP2_FINE;
	uint32_t before;

	begin_second(guard, now_ms);
	guard->whole = HTTP2_NO_WHOLE;
	before = guard->opened;
	if (guard->foreign || (guard->preface < PREFACE_SIZE && !skip_preface(guard, &at, end)))
		return HTTP2_FINE;
	while (offence == HTTP2_FINE && next_frame(&guard->in, &at, end)) {
		bool in_block = guard->block_stream != 0;
		size_t behind = (size_t)(at - (const unsigned char *)bytes);

		offence = received_frame(guard, now_ms);
		if (offence != HTTP2_FINE && !in_block && behind >= HEADER_SIZE)
			guard->whole = behind - HEADER_SIZE;
	}
	*ret_opened += guard->opened - before;
	return offence;
}

bool http2_guard_between_frames(const struct http2_guard *guard)
{
	return guard->preface == PREFACE_SIZE && guard->in.have == 0 && guard->in.left == 0 &&
	       guard->block_stream == 0;
}

size_t http2_guard_reset(struct http2_guard *guard, unsigned char *frames, size_t size,
			 int64_t now_ms)
{
	static const unsigned char start[] = { 0, 0, 4, RST_STREAM, 0 };
	static const unsigned char cancel[] = { 0, 0, 0, 8 };
	size_t length = 0;

	for (size_t i = 0; i < guard->capacity && guard->stream_count > 0; i++) {
		/* Another may take its place. */
		while (guard->capacity > 0 && guard->streams[i].id != 0) {
			uint32_t id = htonl(guard->streams[i].id);

			if (size - length < HTTP2_RESET_BYTES)
				return length;
			memcpy(frames + length, start, sizeof(start));
			memcpy(frames + length + 5, &id, sizeof(id));
			memcpy(frames + length + 9, cancel, sizeof(cancel));
			length += HTTP2_RESET_BYTES;
			take_out(guard, &guard->streams[i], now_ms);
		}
	}
	return length;
}

bool http2_guard_wastes(const struct http2_guard *guard)
{
	return guard->wasted || wastes_now(guard);
}

void http2_guard_refused(struct http2_guard *guard, int64_t now_ms)
{
	begin_second(guard, now_ms);
	guard->refused++;
}

enum http2_offence http2_guard_look(const struct http2_guard *guard, int64_t now_ms)
{
	return guard->stalled_since_ms != 0 && now_ms - guard->stalled_since_ms > STALLED_MAX_MS
		       ? HTTP2_UNFINISHED
		       : HTTP2_FINE;
}

/* ---- what our side sends ---- */

static void sent_frame(struct http2_guard *guard, int64_t now_ms)
{
	const struct http2_frames *frame = &guard->out;
	bool answers = frame->type == DATA || frame->type == HEADERS;
	struct http2_stream *stream;

	if (frame->type > CONTINUATION) {
		guard->blind = true;
		return;
	}
	if (answers) {
		begin_second(guard, now_ms);
		guard->answered++;
	} else if (frame->type != RST_STREAM) {
		return;
	}
	stream = find(guard, frame->stream);
	if (stream == NULL)
		return;
	if (frame->type == RST_STREAM || frame->flags & END_STREAM) {
		take_out(guard, stream, now_ms);
		return;
	}
	set_flag(guard, stream, ANSWERED, now_ms);
}

void http2_guard_sent(struct http2_guard *guard, const void *bytes, size_t length, int64_t now_ms)
{
	const unsigned char *at = bytes, *end = at + length;

	while (!guard->blind && next_frame(&guard->out, &at, end))
		sent_frame(guard, now_ms);
}
