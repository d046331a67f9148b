/* otlp.c - spans as OpenTelemetry's messages, named by its semantic conventions. A struct rt_span gives several: itself,
 * below it the function call that was made for it, and below that the event that it published. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "trace.h"

typedef Opentelemetry__Proto__Trace__V1__Span span_message;
typedef Opentelemetry__Proto__Common__V1__KeyValue attribute;
typedef Opentelemetry__Proto__Common__V1__AnyValue attribute_value;

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

static attribute_value *add_attribute(struct rt_arena *arena, attribute ***list, size_t *count,
				      const char *key)
{
	attribute *added = rt_arena_take(arena, sizeof(*added));
	attribute_value *value = rt_arena_take(arena, sizeof(*value));

	if (*list == NULL)
		*list = rt_arena_take(arena, ATTRIBUTES_MAX * sizeof(**list));
	opentelemetry__proto__common__v1__key_value__init(added);
	opentelemetry__proto__common__v1__any_value__init(value);
	added->key = (char *)(uintptr_t)key;
	added->value = value;
	(*list)[(*count)++] = added;
	return value;
}

static void value_text(attribute_value *value, const char *text)
{
	value->value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_STRING_VALUE;
	value->string_value = (char *)(uintptr_t)text;
}

static void add_text(struct writer *writer, span_message *span, const char *key, const char *text)
{
	value_text(add_attribute(writer->arena, &span->attributes, &span->n_attributes, key), text);
}

static void add_number(struct writer *writer, span_message *span, const char *key, int64_t number)
{
	attribute_value *value =
		add_attribute(writer->arena, &span->attributes, &span->n_attributes, key);

	value->value_case = OPENTELEMETRY__PROTO__COMMON__V1__ANY_VALUE__VALUE_INT_VALUE;
	value->int_value = number;
}

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
	span->name = rt_arena_printf(writer->arena, "%s/%s", of->what, of->method);
	add_text(writer, span, "rpc.system", "grpc");
	add_text(writer, span, "rpc.service", of->what);
	add_text(writer, span, "rpc.method", of->method);
	add_number(writer, span, "rpc.grpc.status_code", of->code);
}

static void describe_event(struct writer *writer, span_message *span, const char *operation,
			   const char *kind, const struct rt_span_event *event, const char *subject)
{
	char *stream =
		rt_arena_printf(writer->arena, "%s:{%d}:events", event->context, event->partition);

	span->name = rt_arena_printf(writer->arena, "%s %s:events", operation, event->context);
	add_text(writer, span, "messaging.system", "redis");
	add_text(writer, span, "messaging.operation.name", operation);
	add_text(writer, span, "messaging.operation.type", kind);
	add_text(writer, span, "messaging.destination.name", stream);
	if (event->type == NULL)
		return;
	if (event->seq > 0)
		add_text(writer, span, "messaging.message.id",
			 rt_arena_printf(writer->arena, "%s/%llu", subject,
					 (unsigned long long)event->seq));
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

/* The function call, the event that it published, and what the order has become. */
static void add_stored(struct writer *writer, const struct rt_span *of, const uint8_t own_id[8])
{
	const struct rt_function_call *call = &of->call;
	span_message *span;
	uint8_t id[8];

	part_id(of, call->function, id);
	span = add_span(writer, of, KIND(CLIENT), id, own_id, call->sent_us, call->answered_us);
	span->name = rt_arena_printf(writer->arena, "FCALL %s", call->function);
	add_text(writer, span, "db.system", "redis");
	add_text(writer, span, "db.operation.name", "FCALL");
	add_text(writer, span, "db.stored_procedure.name", call->function);
	add_number(writer, span, "db.operation.batch.size", (int64_t)call->count);
	if (of->published.type != NULL) {
		uint8_t event_id[8];

		rt_trace_event_id(of, &of->published, event_id);
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
	[RT_SPAN_TIMER] = KIND(INTERNAL),
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
		span->name = rt_arena_printf(writer->arena, "timer %s", of->what);
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
	if (of->call.function != NULL)
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
	find_ids(to, id, parent); /* what published it */
	if (span->links == NULL)
		span->links = rt_arena_take(writer->arena, LINKS_MAX * sizeof(*span->links));
	opentelemetry__proto__trace__v1__span__link__init(link);
	link->trace_id = bytes_of(writer->arena, to->trace_id, sizeof(to->trace_id));
	link->span_id = bytes_of(writer->arena, parent, sizeof(parent));
	span->links[span->n_links++] = link;
}

/* ---- the message ---- */

static Opentelemetry__Proto__Resource__V1__Resource *make_resource(struct rt_arena *arena,
								   const char *service)
{
	Opentelemetry__Proto__Resource__V1__Resource *resource =
		rt_arena_take(arena, sizeof(*resource));
	char host[256] = "";

	opentelemetry__proto__resource__v1__resource__init(resource);
	(void)gethostname(host, sizeof(host) - 1);
#define ADD(key) add_attribute(arena, &resource->attributes, &resource->n_attributes, key)
	value_text(ADD("service.namespace"), "tandem");
	value_text(ADD("service.name"), rt_arena_printf(arena, "tandem-%s", service));
	value_text(ADD("service.version"), TANDEM_VERSION);
	value_text(ADD("service.instance.id"),
		   rt_arena_printf(arena, "%s:%ld", host, (long)getpid()));
#undef ADD
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
