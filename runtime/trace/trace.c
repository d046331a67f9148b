/* trace.c - traces and spans in this process: ids, what is sampled, what waits for the exporter, what is kept in case
 * that its order turns out to be slow.
 *
 *   rt_span_end → sampled, or of an order that was found slow   → the queue → exporter
 *              → failed, or slow itself: so is its order now    → the queue, with what is kept of it
 *              → else                                           → kept, in place of the oldest
 *
 * Both are rings of fixed size. What is kept is found by a hash of its order: each bucket is a chain from the newest to
 * the oldest, which ends where the ring has been written over. */
#include "trace.h"

#include <string.h>
#include <sys/random.h>

#define QUEUE_MAX 8192
#define KEPT_MAX  16384 /* a power of two, as all of these */
#define SLOW_MAX  1024
#define NAMES_MAX 64 /* types of events that were processed */

bool rt_tracing;
const struct rt_function_call *rt_function_answered;

/* A span that may be sent later. */
struct kept {
	struct rt_span span;
	uint64_t key, before; /* of its order; the one before in its bucket */
};

static struct {
	struct rt_trace_options options;
	int64_t slow_us;
	uint64_t threshold; /* a trace is sampled if the last 56 bits of its id are not below it */
	uint64_t random, last_id;
	struct rt_span *queue;
	size_t first, count;
	struct kept *kept;       /* NULL: nothing is */
	uint64_t kept_count;     /* ever, and one more: 0 ends a chain */
	uint64_t *newest;        /* of each bucket */
	uint64_t slow[SLOW_MAX]; /* keys of orders that were found slow */
	char *names[NAMES_MAX];
	struct rt_series *sent, *dropped, *given_up;
} self;

/* ---- W3C Trace Context ---- */

static bool is_there(const char *text)
{
	return text != NULL && text[0] != '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads `count` bytes. False: not lower-case hexadecimal digits. */
static bool read_hex(const char *text, uint8_t *ret, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static char *write_hex(char *to, const uint8_t *bytes, size_t count)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++) {
		*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 15];
	}
	return to;
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

bool rt_trace_parse(const char *text, size_t length, struct rt_trace *ret)
{
	const size_t whole = RT_TRACEPARENT_TEXT - 1;
	struct rt_trace trace;
	uint8_t version, flags;

	if (length < whole || !read_hex(text, &version, 1) || version == 0xff)
		return false;
	/* A later version may have more behind a further dash. */
	if (length > whole && (version == 0 || text[whole] != '-'))
		return false;
	if (text[2] != '-' || text[35] != '-' || text[52] != '-' ||
	    !read_hex(text + 3, trace.id, sizeof(trace.id)) ||
	    !read_hex(text + 36, trace.span, sizeof(trace.span)) ||
	    !read_hex(text + 53, &flags, 1) || is_zero(trace.id, sizeof(trace.id)) ||
	    is_zero(trace.span, sizeof(trace.span)))
		return false;
	trace.sampled = (flags & 1) != 0;
	*ret = trace;
	return true;
}

#define STATE_BYTES_MAX   512
#define STATE_MEMBERS_MAX 32

/* A member without the blanks around it: key=value. */
static bool is_state_member(const char *text, size_t length)
{
	const char *equals = memchr(text, '=', length);
	size_t key = equals != NULL ? (size_t)(equals - text) : 0, at = 0;

	if (key == 0 || key > 256 || length - key - 1 > 256 || length - key - 1 == 0)
		return false;
	if (!((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= '0' && text[0] <= '9')))
		return false;
	while (at < key && strchr("abcdefghijklmnopqrstuvwxyz0123456789_-*/@", text[at]) != NULL)
		at++;
	if (at < key)
		return false;
	for (at = key + 1; at < length; at++)
		if (text[at] < ' ' || text[at] > '~' || text[at] == '=')
			return false;
	return true;
}

bool rt_trace_state_valid(const char *text, size_t length)
{
	const char *end = text + length;
	size_t members = 0;

	if (length == 0 || length > STATE_BYTES_MAX)
		return false;
	while (text <= end) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *to = comma != NULL ? comma : end, *next = to + 1;

		while (text < to && (*text == ' ' || *text == '\t'))
			text++;
		while (text < to && (to[-1] == ' ' || to[-1] == '\t'))
			to--;
		/* An empty member is allowed. */
		if (text < to &&
		    (++members > STATE_MEMBERS_MAX || !is_state_member(text, (size_t)(to - text))))
			return false;
		text = next;
	}
	return members > 0;
}

void rt_trace_format(const struct rt_trace *trace, char text[RT_TRACEPARENT_TEXT])
{
	const uint8_t version = 0, flags = trace->sampled;
	char *to = write_hex(text, &version, 1);

	*to++ = '-';
	to = write_hex(to, trace->id, sizeof(trace->id));
	*to++ = '-';
	to = write_hex(to, trace->span, sizeof(trace->span));
	*to++ = '-';
	*write_hex(to, &flags, 1) = '\0';
}

void rt_trace_id_text(const uint8_t id[16], char text[RT_TRACE_ID_TEXT])
{
	*write_hex(text, id, 16) = '\0';
}

/* ---- ids ---- */

bool rt_trace_of(const char *subject, uint8_t ret_id[16])
{
	const char *digits = subject;

	while (*digits >= 'a' && *digits <= 'z')
		digits++;
	if (*digits++ != '_' || !rt_base32_128_read(digits, ret_id))
		return false;
	return digits[RT_BASE32_128] == '\0' && !is_zero(ret_id, 16);
}

const char *rt_trace_find(const char *traceparent, const char *order_id,
			  char text[RT_TRACE_ID_TEXT])
{
	struct rt_trace trace;

	if ((traceparent == NULL || !rt_trace_parse(traceparent, strlen(traceparent), &trace)) &&
	    (order_id == NULL || !rt_trace_of(order_id, trace.id)))
		return NULL;
	rt_trace_id_text(trace.id, text);
	return text;
}

/* Never 0. xorshift64*: for ids, not for secrets. */
static uint64_t random_number(void)
{
	self.random ^= self.random >> 12;
	self.random ^= self.random << 25;
	self.random ^= self.random >> 27;
	return self.random * UINT64_C(0x2545f4914f6cdd1d);
}

/* FNV-1a, but by eight bytes at a time. */
#define HASH_BASIS UINT64_C(0xcbf29ce484222325)
static uint64_t hash_more(uint64_t hash, const void *data, size_t length)
{
	const uint8_t *bytes = data;

	for (size_t at = 0; at < length; at += sizeof(uint64_t)) {
		uint64_t number = 0;

		memcpy(&number, bytes + at, RT_MIN(length - at, sizeof(number)));
		hash = (hash ^ number) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32; /* the high bits count in the low ones of the next */
	}
	return hash;
}

static void made_id(const uint8_t trace_id[16], const char *subject, const char *word,
		    uint64_t number, uint8_t ret_id[8])
{
	uint64_t hash = hash_more(HASH_BASIS, trace_id, 16);

	hash = hash_more(hash, subject, strlen(subject));
	hash = hash_more(hash, word, strlen(word));
	hash = hash_more(hash, &number, sizeof(number));
	hash += hash == 0;
	memcpy(ret_id, &hash, sizeof(hash));
}

void rt_trace_event_id(const struct rt_span *span, const struct rt_span_event *event,
		       uint8_t ret_id[8])
{
	made_id(span->trace_id, span->subject, event->type, RT_MAX(event->attempt, 1), ret_id);
}

void rt_trace_item_id(const uint8_t trace_id[16], uint64_t number, uint8_t ret_id[8])
{
	made_id(trace_id, "", "item", number, ret_id);
}

static uint64_t bytes_number(const void *bytes)
{
	uint64_t number;

	memcpy(&number, bytes, sizeof(number));
	return number;
}

/* Whether the ratio takes a trace; every process with the same ratio says the same. As OpenTelemetry has it: by the
 * last 56 bits of the id. */
static bool is_sampled(const uint8_t trace_id[16])
{
	uint64_t last = __builtin_bswap64(bytes_number(trace_id + 8)) & ((UINT64_C(1) << 56) - 1);

	return last >= self.threshold;
}

/* ---- spans ---- */

void rt_span_begin_at(struct rt_span *span, enum rt_span_kind kind, const char *what,
		      int64_t begin_us)
{
	/* As good as a random one in its trace, for two additions: the first of a process is random, and the step takes
	 * them through all of 64 bits. */
	self.last_id += UINT64_C(0x9e3779b97f4a7c15);
	memset(span, 0, sizeof(*span));
	span->kind = kind;
	span->what = what;
	memcpy(span->id, &self.last_id, sizeof(self.last_id));
	span->begin_us = begin_us;
}

void rt_span_begin(struct rt_span *span, enum rt_span_kind kind, const char *what)
{
	rt_span_begin_at(span, kind, what, rt_turn_us());
}

void rt_span_take_trace(struct rt_span *span, const char *traceparent)
{
	struct rt_trace trace;

	if (!rt_trace_parse(traceparent, strlen(traceparent), &trace))
		return;
	memcpy(span->trace_id, trace.id, sizeof(trace.id));
	memcpy(span->parent, trace.span, sizeof(trace.span));
	span->known = span->carried = true;
	span->sampled = trace.sampled;
}

void rt_span_cause(struct rt_span *span, const struct rt_span *cause)
{
	if (!cause->known)
		return;
	memcpy(span->trace_id, cause->trace_id, sizeof(cause->trace_id));
	memcpy(span->parent, cause->id, sizeof(cause->id));
	memcpy(span->subject, cause->subject, sizeof(cause->subject));
	span->known = true;
	span->carried = cause->carried;
	span->sampled = cause->sampled;
	span->state = cause->state;
}

static void begin_trace(struct rt_span *span)
{
	uint64_t numbers[2] = { random_number(), random_number() };

	memcpy(span->trace_id, numbers, sizeof(numbers));
	span->known = true;
	/* Others know it only if they are told. */
	span->carried = span->sampled = is_sampled(span->trace_id);
}

/* False for nearly all orders that are not sampled, by 13 of the 56 bits: their ids need not be read as a whole. */
static bool may_be_sampled(const char *digits)
{
	unsigned int first = (unsigned int)rt_base32_digit(digits[14]) & 7, second, third;

	if (first < self.threshold >> 53)
		return false; /* most of them */
	second = (unsigned int)rt_base32_digit(digits[15]) & 31;
	third = (unsigned int)rt_base32_digit(digits[16]) & 31;
	return (first << 10 | second << 5 | third) >= self.threshold >> 43;
}

/* Reads the id of its trace, unless that is there. False: its order's id is none. */
static bool identify(struct rt_span *span)
{
	return !is_zero(span->trace_id, sizeof(span->trace_id)) ||
	       rt_trace_of(span->subject, span->trace_id);
}

bool rt_span_order(struct rt_span *span, const char *order_id)
{
	size_t length;

	if (span->subject[0] != '\0' && strcmp(span->subject, order_id) == 0)
		return true;
	length = strnlen(order_id, sizeof(span->subject));
	if (length <= RT_BASE32_128 || length == sizeof(span->subject) ||
	    order_id[length - RT_BASE32_128 - 1] != '_')
		return false;
	if (length == sizeof("ord_") - 1 + RT_BASE32_128)
		memcpy(span->subject, order_id,
		       sizeof("ord_") + RT_BASE32_128); /* without a call */
	else
		memcpy(span->subject, order_id, length + 1);
	if (span->known)
		return true;
	if (may_be_sampled(order_id + length - RT_BASE32_128)) {
		if (!identify(span)) {
			span->subject[0] = '\0';
			return false;
		}
		span->sampled = is_sampled(span->trace_id);
	}
	span->known = true;
	return true;
}

void rt_span_concerns(struct rt_span *span, const char *order_id)
{
	if (!rt_span_order(span, order_id) && !span->known)
		begin_trace(span);
}

void rt_span_begin_own(struct rt_span *span)
{
	if (!span->known)
		begin_trace(span);
	span->carried = false; /* what it causes has other traces */
	span->sampled = true;
}

/* By OpenTelemetry's conventions for servers. */
void rt_span_code(struct rt_span *span, int code)
{
	static const bool faults[17] = {
		[2] = true,  /* UNKNOWN */
		[4] = true,  /* DEADLINE_EXCEEDED */
		[12] = true, /* UNIMPLEMENTED */
		[13] = true, /* INTERNAL */
		[14] = true, /* UNAVAILABLE */
		[15] = true, /* DATA_LOSS */
	};

	span->code = code;
	span->failed = code < 0 || code >= (int)RT_LENGTH(faults) || faults[code];
}

void rt_span_traceparent(const struct rt_span *span, char text[RT_TRACEPARENT_TEXT])
{
	struct rt_trace trace;

	text[0] = '\0';
	if (!span->known || (!span->carried && !span->sampled))
		return;
	memcpy(trace.id, span->trace_id, sizeof(trace.id));
	memcpy(trace.span, span->id, sizeof(trace.span));
	trace.sampled = span->sampled;
	rt_trace_format(&trace, text);
}

static void end_earlier_call(const struct rt_span *of)
{
	struct rt_span span;

	rt_span_begin_at(&span, RT_SPAN_FUNCTION, of->call.function, of->call.sent_us);
	rt_span_cause(&span, of);
	span.call = of->call;
	span.end_us = of->call.answered_us;
	rt_span_end(&span);
}

void rt_span_stored(struct rt_span *span)
{
	const struct rt_function_call *call = rt_function_answered;

	if (call == NULL || call->number == span->call.number)
		return;
	if (span->call.function != NULL)
		end_earlier_call(span);
	span->call = *call;
}

/* ---- the queue ---- */

static void note(struct rt_series *series, size_t by)
{
	if (series != NULL)
		rt_series_add(series, (double)by);
}

static void enqueue(const struct rt_span *span)
{
	struct rt_span *copy;

	if (self.count == QUEUE_MAX) {
		note(self.dropped, 1);
		return;
	}
	copy = &self.queue[(self.first + self.count) % QUEUE_MAX];
	*copy = *span;
	if (!identify(copy))
		return;
	copy->state = is_there(span->state) ? rt_strdup(span->state) : NULL;
	self.count++;
	self.options.queued(self.options.user, self.count);
}

size_t rt_trace_queued(void)
{
	return self.count;
}

const struct rt_span *rt_trace_at(size_t index)
{
	return &self.queue[(self.first + index) % QUEUE_MAX];
}

void rt_trace_drop(size_t dropped, bool sent)
{
	size_t spans = 0;

	for (size_t i = 0; i < dropped; i++) {
		const struct rt_span *span = rt_trace_at(i);

		spans += span->kind != RT_SPAN_LINK;
		free((void *)(uintptr_t)span->state);
	}
	self.first = (self.first + dropped) % QUEUE_MAX;
	self.count -= dropped;
	note(sent ? self.sent : self.given_up, spans);
}

/* ---- what is kept ---- */

/* Of its order, or else of its trace. Never 0. */
static uint64_t key_of(const struct rt_span *span)
{
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t key;

	if (span->subject[0] != '\0')
		key = (bytes_number(span->subject + 4) ^ bytes_number(span->subject + 12) * 31 ^
		       bytes_number(span->subject + 22) * 961) *
		      factor;
	else
		key = bytes_number(span->trace_id + 8) * factor;
	return key ^ key >> 29 ^ 1;
}

static void keep(const struct rt_span *span, uint64_t key)
{
	uint64_t number = self.kept_count++;
	uint64_t *newest = &self.newest[key & (KEPT_MAX - 1)];
	struct kept *kept = &self.kept[number & (KEPT_MAX - 1)];

	kept->span = *span;
	kept->span.state = NULL;
	kept->key = key;
	kept->before = *newest;
	*newest = number;
}

/* Sends what is kept of the same order. */
static void send_kept(uint64_t key)
{
	uint64_t number = self.newest[key & (KEPT_MAX - 1)];

	while (number != 0 && number + KEPT_MAX >= self.kept_count) {
		struct kept *kept = &self.kept[number & (KEPT_MAX - 1)];

		if (kept->key == key) {
			kept->key = 0;
			kept->span.sampled = true;
			enqueue(&kept->span);
		}
		number = kept->before;
	}
}

static bool is_slow(const struct rt_span *span)
{
	if (span->failed || span->repeats)
		return true;
	return self.slow_us > 0 &&
	       ((!span->lasts && span->end_us - span->begin_us >= self.slow_us) ||
		span->age_ms >= self.options.slow_ms);
}

void rt_span_end(struct rt_span *span)
{
	uint64_t key, *found;
	bool slow;

	if (!rt_tracing) /* not any more */
		return;
	if (span->end_us ==
	    0) /* not before the function's answer, which may have come in this turn */
		span->end_us = RT_MAX(rt_turn_us(), span->call.answered_us);
	if (span->sampled) {
		enqueue(span);
		return;
	}
	slow = is_slow(span);
	if (!slow && (!span->known || self.kept == NULL))
		return;
	if (!span->known)
		begin_trace(span);
	if (self.kept != NULL) {
		key = key_of(span);
		found = &self.slow[key & (SLOW_MAX - 1)];
		if (!slow && *found != key) {
			keep(span, key);
			return;
		}
		if (*found != key) {
			*found = key;
			send_kept(key);
		}
	}
	span->sampled = true;
	enqueue(span);
}

void rt_span_end_linked(struct rt_span *span, const struct rt_span *links, size_t count)
{
	if (!rt_tracing)
		return;
	/* They must stay together. */
	if (self.count + 1 + count > QUEUE_MAX) {
		note(self.dropped, 1);
		return;
	}
	if (!span->known)
		begin_trace(span);
	span->sampled = true;
	if (span->end_us == 0)
		span->end_us = rt_turn_us();
	enqueue(span);
	for (size_t i = 0; i < count; i++)
		enqueue(&links[i]);
}

/* ---- names ---- */

const char *rt_trace_name(const char *text)
{
	size_t length = strlen(text);
	uint64_t end = 0;

	memcpy(&end, text + length - RT_MIN(length, sizeof(end)), RT_MIN(length, sizeof(end)));
	for (size_t at = (size_t)((end ^ end >> 23) + length) % NAMES_MAX, i = 0; i < NAMES_MAX;
	     i++) {
		char **name = &self.names[(at + i) % NAMES_MAX];

		if (*name == NULL)
			*name = rt_strdup(text);
		if (strcmp(*name, text) == 0)
			return *name;
	}
	return "other";
}

/* ---- beginning and end ---- */

void rt_trace_metrics(struct rt_metrics *metrics)
{
	static const char *const labels[] = { "outcome", NULL };
	struct rt_metric *spans;

	if (metrics == NULL)
		return;
	spans = rt_metric(
		metrics, RT_COUNTER, "tandem_spans_total",
		"Spans for the collector: sent, dropped because too many waited, or given "
		"up because it did not take them.",
		labels);
	self.sent = rt_metric_series(spans, (const char *const[]){ "sent" });
	self.dropped = rt_metric_series(spans, (const char *const[]){ "dropped" });
	self.given_up = rt_metric_series(spans, (const char *const[]){ "given_up" });
}

void rt_trace_start(const struct rt_trace_options *options)
{
	const double all = (double)(UINT64_C(1) << 56);

	memset(&self, 0, sizeof(self));
	self.options = *options;
	self.slow_us = options->slow_ms * 1000;
	self.threshold = (uint64_t)((1 - options->ratio) * all);
	while (self.random == 0)
		if (getrandom(&self.random, sizeof(self.random), 0) < 0)
			self.random = (uint64_t)rt_monotonic_ns();
	self.last_id = random_number();
	self.queue = rt_alloc(QUEUE_MAX * sizeof(*self.queue));
	if (options->slow_ms > 0) {
		self.kept = rt_alloc(KEPT_MAX * sizeof(*self.kept));
		self.newest = rt_alloc(KEPT_MAX * sizeof(*self.newest));
		self.kept_count = 1;
	}
	rt_trace_metrics(options->metrics);
	rt_turn_begins();
	rt_tracing = true;
}

void rt_trace_stop(void)
{
	rt_tracing = false;
	if (self.count > 0)
		rt_trace_drop(self.count, false);
	free(self.queue);
	free(self.kept);
	free(self.newest);
	for (size_t i = 0; i < NAMES_MAX; i++)
		free(self.names[i]);
	memset(&self, 0, sizeof(self));
}
