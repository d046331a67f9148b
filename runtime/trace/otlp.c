/* otlp.c - spans as OpenTelemetry's messages, named by its semantic conventions. A struct rt_span gives several: itself,
 * below it the function call that was made for it, and below that the event that it published. */
#include <string.h>
#include <unistd.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "trace.h"

typedef Opentelemetry__Proto__Trace__V1__Span span_message;

#define ATTRIBUTES_MAX 16
#define SPANS_EACH     6 /* that a struct rt_span gives at most */
#define LINKS_MAX      256

#define KIND(name) OPENTELEMETRY__PROTO__TRACE__V1__SPAN__SPAN_KIND__SPAN_KIND_##name

struct writer {
	struct rt_arena *arena;
	span_message **spans;
	size_t count;
};

/* ---- attributes ---- */

static void *arena_zeroed(struct rt_arena *arena, size_t size_bytes)
{
	return memset(rt_arena_take(arena, size_bytes), 0, size_bytes);
}

static uint8_t *put_varint(uint8_t *at, uint64_t number)
{
	for (; number >= 128; number >>= 7)
		*at++ = (uint8_t)(number | 128);
	*at++ = (uint8_t)number;
	return at;
}

static uint8_t *put_bytes(uint8_t *at, uint8_t key, const void *bytes, size_t length)
{
	*at++ = key;
	at = put_varint(at, length);
	memcpy(at, bytes, length);
	return at + length;
}

#define FIELD(number, type) ((number) << 3 | (type)) /* of protobuf: type 0 a number, 2 bytes */
#define NUMBER_MAX          12                       /* bytes of a key and a number */

/* Adds a KeyValue with this packed AnyValue. */
static void add_attribute(struct writer *writer, span_message *span, const char *key,
			  const uint8_t *value, size_t length)
{
	size_t key_length = strlen(key);
	uint8_t *packed = rt_arena_take(writer->arena, key_length + length + 2 * NUMBER_MAX);
	uint8_t *at = put_bytes(packed, FIELD(1, 2), key, key_length);

	at = put_bytes(at, FIELD(2, 2), value, length);
	if (span->attributes == NULL)
		span->attributes =
			rt_arena_take(writer->arena, ATTRIBUTES_MAX * sizeof(*span->attributes));
	span->attributes[span->n_attributes++] =
		(ProtobufCBinaryData){ (size_t)(at - packed), packed };
}

static void add_text(struct writer *writer, span_message *span, const char *key, const char *text)
{
	size_t length = strlen(text);
	uint8_t *value = rt_arena_take(writer->arena, length + NUMBER_MAX);

	add_attribute(writer, span, key, value,
		      (size_t)(put_bytes(value, FIELD(1, 2), text, length) - value));
}

static void add_number(struct writer *writer, span_message *span, const char *key, int64_t number)
{
	uint8_t value[NUMBER_MAX] = { FIELD(3, 0) };

	add_attribute(writer, span, key, value,
		      (size_t)(put_varint(value + 1, (uint64_t)number) - value));
}

/* ---- texts: without printf, which would cost more than the rest ---- */

static char *join(struct rt_arena *arena, const char *const parts[], size_t count)
{
	size_t length = 0;
	char *text, *at;

	for (size_t i = 0; i < count; i++)
		length += strlen(parts[i]);
	text = at = rt_arena_take(arena, length + 1);
	for (size_t i = 0; i < count; i++) {
		size_t part = strlen(parts[i]);

		memcpy(at, parts[i], part);
		at += part;
	}
	*at = '\0';
	return text;
}
#define JOIN(arena, ...)                                                                           \
	join(arena, (const char *const[]){ __VA_ARGS__ },                                          \
	     sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

/* ---- spans ---- */

static ProtobufCBinaryData bytes_of(struct rt_arena *arena, const uint8_t *bytes, size_t length)
{
	return (ProtobufCBinaryData){ length, (uint8_t *)rt_arena_copy(arena, bytes, length) };
}

static bool is_set(const uint8_t id[8])
{
	static const uint8_t none[8];

	return memcmp(id, none, sizeof(none)) != 0;
}

static span_message *add_span(struct writer *writer, const struct rt_span *of, int kind,
			      const uint8_t id[8], const uint8_t parent[8], int64_t begin_us,
			      int64_t end_us)
{
	span_message *span = rt_arena_take(writer->arena, sizeof(*span));

	opentelemetry__proto__trace__v1__span__init(span);
	span->trace_id = bytes_of(writer->arena, of->trace_id, sizeof(of->trace_id));
	span->span_id = bytes_of(writer->arena, id, 8);
	if (is_set(parent))
		span->parent_span_id = bytes_of(writer->arena, parent, 8);
	span->kind = (Opentelemetry__Proto__Trace__V1__Span__SpanKind)kind;
	span->start_time_unix_nano = (uint64_t)begin_us * 1000;
	span->end_time_unix_nano = (uint64_t)RT_MAX(begin_us, end_us) * 1000;
	span->flags = 1;
	if (of->state != NULL)
		span->trace_state = (char *)(uintptr_t)of->state;
	writer->spans[writer->count++] = span;
	return span;
}

static void set_failed(struct writer *writer, span_message *span)
{
	span->status = rt_arena_take(writer->arena, sizeof(*span->status));
	opentelemetry__proto__trace__v1__status__init(span->status);
	span->status->code =
		OPENTELEMETRY__PROTO__TRACE__V1__STATUS__STATUS_CODE__STATUS_CODE_ERROR;
}

static void describe_call(struct writer *writer, span_message *span, const struct rt_span *of)
{
	span->name = JOIN(writer->arena, of->what, "/", of->method);
	add_text(writer, span, "rpc.system", "grpc");
	add_text(writer, span, "rpc.service", of->what);
	add_text(writer, span, "rpc.method", of->method);
	add_number(writer, span, "rpc.grpc.status_code", of->code);
}

static void describe_event(struct writer *writer, span_message *span, const char *operation,
			   const char *kind, const struct rt_span_event *event, const char *subject)
{
	char partition[RT_INT_TEXT], seq[RT_INT_TEXT];

	rt_int_text(event->partition, partition);
	span->name = JOIN(writer->arena, operation, " ", event->context, ":events");
	add_text(writer, span, "messaging.system", "redis");
	add_text(writer, span, "messaging.operation.name", operation);
	add_text(writer, span, "messaging.operation.type", kind);
	add_text(writer, span, "messaging.destination.name",
		 JOIN(writer->arena, event->context, ":{", partition, "}:events"));
	if (event->type == NULL)
		return;
	if (event->seq > 0) {
		rt_int_text((int64_t)event->seq, seq);
		add_text(writer, span, "messaging.message.id",
			 JOIN(writer->arena, subject, "/", seq));
	}
	add_text(writer, span, "tandem.event.type", event->type);
	add_number(writer, span, "tandem.event.attempt", RT_MAX(event->attempt, 1));
}

/* The id of something within another span: that one's, changed by the name. */
static void part_id(const struct rt_span *of, const char *name, uint8_t ret_id[8])
{
	memcpy(ret_id, of->id, 8);
	for (size_t i = 0; name[i] != '\0'; i++)
		ret_id[i % 8] ^= (uint8_t)(name[i] + (int)i);
}

/* Something within another span, which its function call tells. */
static span_message *add_part(struct writer *writer, const struct rt_span *of, const char *name,
			      const uint8_t parent[8], int64_t begin_us, int64_t end_us)
{
	span_message *span;
	uint8_t id[8];

	part_id(of, name, id);
	span = add_span(writer, of, KIND(INTERNAL), id, parent, begin_us, end_us);
	span->name = (char *)(uintptr_t)name;
	return span;
}

static void describe_function(struct writer *writer, span_message *span,
			      const struct rt_function_call *call)
{
	span->name = JOIN(writer->arena, "FCALL ", call->function);
	add_text(writer, span, "db.system", "redis");
	add_text(writer, span, "db.operation.name", "FCALL");
	add_text(writer, span, "db.stored_procedure.name", call->function);
	add_number(writer, span, "db.operation.batch.size", (int64_t)call->count);
}

/* The function call, the event that it published, and what the order has become. */
static void add_stored(struct writer *writer, const struct rt_span *of, const uint8_t own_id[8])
{
	const struct rt_function_call *call = &of->call;
	span_message *span;
	uint8_t id[8];

	part_id(of, call->function, id);
	span = add_span(writer, of, KIND(CLIENT), id, own_id, call->sent_us, call->answered_us);
	describe_function(writer, span, call);
	if (of->published.type != NULL) {
		uint8_t event_id[8];

		if (of->subject[0] != '\0')
			rt_trace_event_id(of, &of->published, event_id);
		else /* of no order: nobody names it as the cause */
			part_id(of, of->published.type, event_id);
		span = add_span(writer, of, KIND(PRODUCER), event_id, id, call->sent_us,
				call->answered_us);
		describe_event(writer, span, "publish", "send", &of->published, of->subject);
	}
	if (of->decision != NULL) {
		span = add_part(writer, of, "decision", own_id, call->sent_us, call->answered_us);
		add_text(writer, span, "tandem.order.status", of->decision);
		add_number(writer, span, "tandem.order.age_ms", of->age_ms);
	}
	if (of->compensates)
		add_part(writer, of, "compensation", own_id, call->sent_us, call->answered_us);
	if (of->waited)
		add_part(writer, of, "wait for decision", own_id, call->answered_us, of->end_us);
}

static const int kinds[] = {
	[RT_SPAN_SERVED] = KIND(SERVER),      [RT_SPAN_CALLED] = KIND(CLIENT),
	[RT_SPAN_ITEM_SERVED] = KIND(SERVER), [RT_SPAN_ITEM_CALLED] = KIND(CLIENT),
	[RT_SPAN_RECEIVED] = KIND(CONSUMER),  [RT_SPAN_PROCESSED] = KIND(CONSUMER),
	[RT_SPAN_TIMER] = KIND(INTERNAL),     [RT_SPAN_FUNCTION] = KIND(CLIENT),
};

/* The ids that other processes make, too. */
static void find_ids(const struct rt_span *of, uint8_t id[8], uint8_t parent[8])
{
	memcpy(id, of->id, 8);
	memcpy(parent, of->parent, 8);
	if (of->kind == RT_SPAN_ITEM_CALLED && !of->carried)
		rt_trace_item_id(of->trace_id, of->number, id);
	else if (of->kind == RT_SPAN_ITEM_SERVED && !of->carried)
		rt_trace_item_id(of->trace_id, of->number, parent);
	else if (of->event.type != NULL)
		rt_trace_event_id(of, &of->event, parent);
}

static span_message *add_one(struct writer *writer, const struct rt_span *of)
{
	span_message *span;
	uint8_t id[8], parent[8];

	find_ids(of, id, parent);
	span = add_span(writer, of, kinds[of->kind], id, parent, of->begin_us, of->end_us);
	switch (of->kind) {
	case RT_SPAN_RECEIVED:
		describe_event(writer, span, "receive", "receive", &of->event, of->subject);
		add_number(writer, span, "messaging.batch.message_count", (int64_t)of->number);
		break;
	case RT_SPAN_PROCESSED:
		describe_event(writer, span, "process", "process", &of->event, of->subject);
		add_text(writer, span, "messaging.consumer.group.name", of->what);
		break;
	case RT_SPAN_TIMER:
		span->name = JOIN(writer->arena, "timer ", of->what);
		break;
	case RT_SPAN_FUNCTION:
		describe_function(writer, span, &of->call);
		break;
	default:
		describe_call(writer, span, of);
		break;
	}
	if (of->subject[0] != '\0')
		add_text(writer, span, "tandem.order.id",
			 rt_arena_copy(writer->arena, of->subject, strlen(of->subject)));
	if (of->failed || (kinds[of->kind] == KIND(CLIENT) && of->code != 0))
		set_failed(writer, span);
	if (of->call.function != NULL && of->kind != RT_SPAN_FUNCTION)
		add_stored(writer, of, id);
	return span;
}

static void add_link(struct writer *writer, span_message *span, const struct rt_span *to)
{
	Opentelemetry__Proto__Trace__V1__Span__Link *link =
		rt_arena_take(writer->arena, sizeof(*link));

	uint8_t id[8], parent[8];

	if (span->n_links == LINKS_MAX)
		return;
	find_ids(to, id, parent);
	if (span->links == NULL)
		span->links = rt_arena_take(writer->arena, LINKS_MAX * sizeof(*span->links));
	opentelemetry__proto__trace__v1__span__link__init(link);
	link->trace_id = bytes_of(writer->arena, to->trace_id, sizeof(to->trace_id));
	/* What published the event; or the call itself. */
	link->span_id = bytes_of(writer->arena, to->event.type != NULL ? parent : id, sizeof(id));
	span->links[span->n_links++] = link;
}

/* ---- the message ---- */

typedef Opentelemetry__Proto__Resource__V1__Resource resource_message;

static void add_about(struct rt_arena *arena, resource_message *resource, const char *key,
		      const char *text)
{
	Opentelemetry__Proto__Common__V1__KeyValue *added = rt_arena_take(arena, sizeof(*added));
	Opentelemetry__Proto__Common__V1__AnyValue *value = rt_arena_take(arena, sizeof(*value));

	opentelemetry__proto__common__v1__key_value__init(added);
	opentelemetry__proto__common__v1__any_value__init(value);
	value->value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE;
	value->string_value = (char *)(uintptr_t)text;
	added->key = (char *)(uintptr_t)key;
	added->value = value;
	resource->attributes[resource->n_attributes++] = added;
}

static resource_message *make_resource(struct rt_arena *arena, const char *service)
{
	resource_message *resource = rt_arena_take(arena, sizeof(*resource));
	char host[256] = "";

	opentelemetry__proto__resource__v1__resource__init(resource);
	resource->attributes = rt_arena_take(arena, ATTRIBUTES_MAX * sizeof(*resource->attributes));
	(void)gethostname(host, sizeof(host) - 1);
	add_about(arena, resource, "service.namespace", "tandem");
	add_about(arena, resource, "service.name", JOIN(arena, "tandem-", service));
	add_about(arena, resource, "service.version", TANDEM_VERSION);
	add_about(arena, resource, "service.instance.id",
		  rt_arena_printf(arena, "%s:%ld", host, (long)getpid()));
	return resource;
}

Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *rt_trace_request(
	struct rt_arena *arena, const char *service, size_t count)
{
	Opentelemetry__Proto__Collector__Trace__V1__ExportTraceServiceRequest *request =
		rt_arena_take(arena, sizeof(*request));
	Opentelemetry__Proto__Trace__V1__ResourceSpans *resource =
		rt_arena_take(arena, sizeof(*resource));
	Opentelemetry__Proto__Trace__V1__ScopeSpans *scope = rt_arena_take(arena, sizeof(*scope));
	struct writer writer = { .arena = arena };
	span_message *last = NULL;

	writer.spans = rt_arena_take(arena, (count * SPANS_EACH + 1) * sizeof(*writer.spans));
	for (size_t i = 0; i < count; i++) {
		const struct rt_span *span = rt_trace_at(i);

		if (span->kind != RT_SPAN_LINK)
			last = add_one(&writer, span);
		else if (last != NULL)
			add_link(&writer, last, span);
	}
	opentelemetry__proto__trace__v1__scope_spans__init(scope);
	scope->scope = rt_arena_take(arena, sizeof(*scope->scope));
	opentelemetry__proto__common__v1__instrumentation_scope__init(scope->scope);
	scope->scope->name = (char *)(uintptr_t) "tandem";
	scope->scope->version = (char *)(uintptr_t)TANDEM_VERSION;
	scope->spans = writer.spans;
	scope->n_spans = writer.count;
	opentelemetry__proto__trace__v1__resource_spans__init(resource);
	resource->resource = make_resource(arena, service);
	resource->scope_spans = arena_zeroed(arena, sizeof(*resource->scope_spans));
	resource->scope_spans[0] = scope;
	resource->n_scope_spans = 1;
	opentelemetry__proto__collector__trace__v1__export_trace_service_request__init(request);
	request->resource_spans = arena_zeroed(arena, sizeof(*request->resource_spans));
	request->resource_spans[0] = resource;
	request->n_resource_spans = 1;
	return request;
}
