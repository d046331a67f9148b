/* trace.h - spans: what a process did for a call or an order, from when to when, and what caused it.
 *
 * A span is a struct that is embedded in what it times. Nothing is allocated, and without an exporter nothing is done:
 * callers ask rt_tracing first.
 *
 *   rt_span_begin     at the beginning: what it is
 *   rt_span_cause     … and what caused it: a traceparent, or another span of this process
 *   rt_span_concerns  … as soon as it is known which order it is about
 *   rt_span_stored    a function call that was made for it, and the event that it published
 *   rt_span_end       it is queued for the exporter if its trace is sampled, else kept for a while
 *
 * Which trace? A traceparent says it. Without one it is the order's own: 128 bits of its id. So every process knows the
 * trace of each order and whether it is sampled, without a word of the others. What is about no order gets a trace of
 * its own. In the same way the ids of spans that cross from one process to another (an event that is published, an order on
 * its way from the gateway) are made of what both sides know: docs/decisions/046.
 *
 * A span that failed or took too long is sent although its trace is not sampled, with those of the same order that are
 * still kept, and those that follow. Loop thread only. */
#ifndef RT_TRACE_H
#define RT_TRACE_H

#include "base/base.h"

/* Whether there is an exporter: without one, no span begins. */
extern bool rt_tracing;

#define RT_TRACE_ID_TEXT    33 /* 32 hexadecimal digits and a NUL */
#define RT_TRACEPARENT_TEXT 56
#define RT_TRACE_SUBJECT    32

/* Where something stands in a trace: the context that a traceparent carries. */
struct rt_trace {
	uint8_t id[16]; /* of the trace */
	uint8_t span[8];
	bool sampled;
};
/* Reads a W3C traceparent, of version 00 or later. False, and nothing written: it is not valid. */
bool rt_trace_parse(const char *text, size_t length, struct rt_trace *ret);
/* Whether a W3C tracestate is valid, and at most 512 bytes: up to 32 members, "vendor=value,other=value". */
bool rt_trace_state_valid(const char *text, size_t length);
void rt_trace_format(const struct rt_trace *trace, char text[RT_TRACEPARENT_TEXT]);
/* The trace of an order: the bits of its id. False: it is not such an id (letters, an underscore, 26 characters of base32). */
bool rt_trace_of(const char *subject, uint8_t ret_id[16]);
void rt_trace_id_text(const uint8_t id[16], char text[RT_TRACE_ID_TEXT]);
/* For logs and people: the id of the trace that a traceparent names, or else of the order's own; NULL: neither says one.
 * Both may be NULL. `text` is for it. */
const char *rt_trace_find(const char *traceparent, const char *order_id,
			  char text[RT_TRACE_ID_TEXT]);

enum rt_span_kind {
	RT_SPAN_NONE,        /* not begun */
	RT_SPAN_SERVED,      /* a call that came; `what` and `method` are its service and method */
	RT_SPAN_CALLED,      /* a call that was made; likewise */
	RT_SPAN_ITEM_SERVED, /* the same for an item of a stream, by its number */
	RT_SPAN_ITEM_CALLED,
	RT_SPAN_RECEIVED,  /* a read of events, followed by links; `what` is the group */
	RT_SPAN_PROCESSED, /* an event; likewise */
	RT_SPAN_TIMER,     /* something that was due; `what` says it */
	RT_SPAN_FUNCTION,  /* a function call that was made for another span, before its last one */
	RT_SPAN_LINK,      /* belongs to the span before it */
};

/* A call of a function in Redis, which is made for several operations. */
struct rt_function_call {
	const char *function; /* "order_place"; stays valid */
	size_t count;         /* operations */
	int64_t sent_us, answered_us;
	uint64_t number; /* of this process: tells it from others */
};
/* The one whose operations are being ended now; NULL: they end without one. */
extern const struct rt_function_call *rt_function_answered;

/* An event of the span's subject: which stream it is in, and what tells it from others. */
struct rt_span_event {
	const char *context; /* "order"; stays valid, as `type` does */
	const char *type;    /* NULL: none */
	int partition;
	uint32_t attempt;
	uint64_t seq; /* 0: not known */
};

struct rt_span {
	enum rt_span_kind kind;
	int code;     /* gRPC's, of calls */
	bool known;   /* its trace is */
	bool carried; /* … by a traceparent */
	bool sampled, failed;
	bool lasts;   /* it may take as long as it likes */
	bool repeats; /* what was asked before: something took too long */
	bool waited;  /* from the function's answer to its end, for a decision */
	bool compensates;
	uint8_t trace_id[16], id[8], parent[8]; /* trace_id: zero while nobody needs its order's */
	int64_t begin_us, end_us;
	int64_t age_ms; /* of the order when it was decided, of an event when it was read */
	const char *what, *method;
	uint64_t number;              /* of an item; of the events in a read */
	const char *decision;         /* the status that the order got; NULL: none */
	struct rt_span_event event;   /* that was processed, or whose answer a timer waited for */
	struct rt_function_call call; /* the last; function NULL: none was made */
	struct rt_span_event published;
	const char *state; /* the tracestate that came; NULL, "": none; borrowed until it ends */
	char subject[RT_TRACE_SUBJECT]; /* the order's id; "": none, or it is not known */
};

/* Begins it, now. `what` stays valid: a constant, or rt_trace_name. */
void rt_span_begin(struct rt_span *span, enum rt_span_kind kind, const char *what);
/* The same for one that began a little earlier, when the clock was read for several. */
void rt_span_begin_at(struct rt_span *span, enum rt_span_kind kind, const char *what,
		      int64_t begin_us);
/* What a valid traceparent says; others, and NULL, are ignored. */
void rt_span_take_trace(struct rt_span *span, const char *traceparent);
static inline void rt_span_carried(struct rt_span *span, const char *traceparent)
{
	if (traceparent != NULL && traceparent[0] != '\0') /* mostly there is none */
		rt_span_take_trace(span, traceparent);
}
/* It is a part of what another span of this process does. */
void rt_span_cause(struct rt_span *span, const struct rt_span *cause);
/* Which order it is about. False: it is not an order's id. */
bool rt_span_order(struct rt_span *span, const char *order_id);
/* The same; if it is none ("") and the trace is not known, one begins here. */
void rt_span_concerns(struct rt_span *span, const char *order_id);
/* One without a trace begins one of its own, which is sent: spans of other traces have links to it. */
void rt_span_begin_own(struct rt_span *span);
/* How the call ended: a gRPC status, and whether it is the server's fault. */
void rt_span_code(struct rt_span *span, int code);
/* The traceparent for what it causes in other processes; "" if its trace is not known, or is its order's and not sampled:
 * then the others find it by themselves. */
void rt_span_traceparent(const struct rt_span *span, char text[RT_TRACEPARENT_TEXT]);
/* Takes over rt_function_answered. It may be asked several times for the same call. Of several calls the last has
 * published the event; each before it gets a span of its own. */
void rt_span_stored(struct rt_span *span);
/* It ends, now or at end_us if that is set. */
void rt_span_end(struct rt_span *span);
/* With links: to what published the events that it read, or to calls. It is sent, in a trace of its own unless it has one. */
void rt_span_end_linked(struct rt_span *span, const struct rt_span *links, size_t count);
/* A copy that stays valid; there are few such names. */
const char *rt_trace_name(const char *text);

/* ---- for the exporter ---- */

struct rt_trace_options {
	double ratio;    /* of the traces that begin here: 0 to 1 */
	int64_t slow_ms; /* what took longer is sent anyway; 0: only what failed */
	struct rt_metrics *metrics;
	void (*queued)(void *user, size_t count); /* a span was queued */
	void *user;
};
void rt_trace_start(const struct rt_trace_options *options);
/* They are there without an exporter, too. */
void rt_trace_metrics(struct rt_metrics *metrics);
void rt_trace_stop(void);
/* The spans that wait to be sent, the oldest first; they stay until they are dropped. */
size_t rt_trace_queued(void);
const struct rt_span *rt_trace_at(size_t index);
/* The first are sent, or given up. */
void rt_trace_drop(size_t count, bool sent);

/* The spans as a message for a collector (otlp.c), in the arena. */
struct Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest;
struct Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *rt_trace_request(
	struct rt_arena *arena, const char *service, size_t count);

/* The id of the span that published an event of the subject: both sides make it. */
void rt_trace_event_id(const struct rt_span *span, const struct rt_span_event *event,
		       uint8_t ret_id[8]);
void rt_trace_item_id(const uint8_t trace_id[16], uint64_t number, uint8_t ret_id[8]);

#endif
