/* http2_guard.h - what one HTTP/2 connection of a client may bring, judged by the headers of its frames.
 *
 * gRPC core 1.51 takes what a client sends before it knows whether the client means it: streams that are reset
 * at once, headers that never end, streams that never get a message. The guard sees the bytes before gRPC
 * does, and says when they are more than a client that makes calls has reason to send. It also sees what
 * our side sends, so it knows which streams have ended.
 *
 * No I/O; time is an argument. Not safe for several threads at once: the caller locks. */
#ifndef RT_HTTP2_GUARD_H
#define RT_HTTP2_GUARD_H

#include "base/base.h"

/* X(name, reason as in the metric and the log) */
#define HTTP2_OFFENCES(X)                                                                          \
	X(HEADER_BLOCK, "header_block")      /* the headers of a stream are too long */            \
	X(CONTINUATIONS, "continuations")    /* … or in too many pieces */                       \
	X(STREAMS, "streams")                /* more streams are open than we allow */             \
	X(UNFINISHED, "unfinished_requests") /* requests of which the rest does not come */        \
	X(HELD, "unanswered_bytes")          /* what gRPC keeps of messages that do not end */     \
	X(RESETS, "resets") /* streams that are reset as soon as they are opened */                \
	X(SETTINGS, "settings")                                                                    \
	X(PINGS, "pings")                                                                          \
	X(WINDOW_UPDATES, "window_updates")                                                        \
	X(SMALL_DATA, "small_data")  /* DATA frames of a few bytes */                              \
	X(USELESS, "useless_frames") /* what changes nothing */

enum http2_offence {
	HTTP2_FINE,
#define X(name, reason) HTTP2_##name,
	HTTP2_OFFENCES(X)
#undef X
		HTTP2_OFFENCES_END
};
/* "header_block". */
const char *http2_offence_reason(enum http2_offence offence);

/* Of the whole process; the connections share it. Zeroed at first. */
struct http2_limits {
	size_t streams_max;            /* open at once on a connection, as our SETTINGS say */
	size_t unfinished_max;         /* requests, in the process */
	size_t held_max_bytes;         /* in the process; half of it on a connection */
	size_t unfinished, held_bytes; /* now */
};

/* How often a connection brought something in this second. */
enum http2_kind {
	HTTP2_KIND_RESET,
	HTTP2_KIND_SETTINGS,
	HTTP2_KIND_PING,
	HTTP2_KIND_WINDOW_UPDATE,
	HTTP2_KIND_SMALL_DATA,
	HTTP2_KIND_USELESS,
	HTTP2_KINDS
};

/* Where the bytes of one direction are. */
struct http2_frames {
	unsigned char header[9];
	unsigned char have; /* bytes of the header */
	unsigned char type, flags;
	uint32_t stream, length;
	uint32_t left; /* bytes of the payload to come */
};

struct http2_stream;
struct http2_guard {
	struct http2_limits *limits;
	struct http2_frames in, out;
	unsigned char preface; /* bytes of the client's preface that have come */
	bool foreign;          /* it does not speak HTTP/2: gRPC refuses it */
	bool blind; /* we do not understand what our side sends: streams are not counted */

	uint32_t last_stream, block_stream;
	uint32_t block_bytes, block_frames; /* of headers that have not ended */

	struct http2_stream *streams; /* those that are open: a hash table, by id */
	size_t stream_count, capacity;
	size_t unfinished, held_bytes;
	int64_t stalled_since_ms; /* since when many requests are unfinished and none was finished; 0: few are */
	int64_t called_ms; /* when a stream was opened or ended last; 0: never */
	size_t whole;      /* after an offence: see http2_guard_received */

	int64_t second_began_ms;
	uint32_t counts[HTTP2_KINDS];
	uint32_t opened, answered; /* streams; frames with which our side answered */
	uint32_t refused;          /* calls, before anybody worked on them */
	bool wasted;               /* the second before: see http2_guard_wastes */
};

void http2_guard_init(struct http2_guard *guard, struct http2_limits *limits);
void http2_guard_done(struct http2_guard *guard);
/* The client sent this. Any offence: close the connection, and give none of these bytes to gRPC, or only the first
 * `guard->whole` of them, which end where a frame ends (HTTP2_NO_WHOLE: none does).
 * *ret_opened (added to) is how many streams they open. */
#define HTTP2_NO_WHOLE SIZE_MAX
enum http2_offence http2_guard_received(struct http2_guard *guard, const void *bytes, size_t length,
					int64_t now_ms, size_t *ret_opened);
/* Our side sent this. */
void http2_guard_sent(struct http2_guard *guard, const void *bytes, size_t length, int64_t now_ms);
/* Whether what the client has sent ends where a frame ends, and no header block is open. */
bool http2_guard_between_frames(const struct http2_guard *guard);
/* Writes RST_STREAM for open streams, as if the client had reset them, as many as fit into `size` bytes, and forgets
 * these. Returns how many bytes that are. */
#define HTTP2_RESET_BYTES 13
size_t http2_guard_reset(struct http2_guard *guard, unsigned char *frames, size_t size,
			 int64_t now_ms);
/* A call was refused for who makes it, or for what its caller has used up. */
void http2_guard_refused(struct http2_guard *guard, int64_t now_ms);
/* Whether much of what it does comes to nothing, or did in the second before: calls that are reset at once, that are refused,
 * or of which the rest does not come. It is no offence yet, and others go first. */
bool http2_guard_wastes(const struct http2_guard *guard);
/* For a look now and then at a connection that brings nothing. */
enum http2_offence http2_guard_look(const struct http2_guard *guard, int64_t now_ms);

#endif
