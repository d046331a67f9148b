/* status.c - gRPC statuses and their details.
 *
 * The details are kept packed, as a google.rpc.Status, because that is how they travel: in
 * grpc-status-details-bin and in the items of batches. Adding one unpacks, adds and packs again;
 * this happens on errors only.
 *
 * A status travels as response metadata, of which clients take 8 KiB and no more. So messages and
 * details are bounded here, whatever a caller puts in, and texts are made printable UTF-8: they echo
 * what callers said, and a client that cannot read an error's details would see another error than
 * ours. */
#include "rpc.h"

#include <google/rpc/error_details.pb-c.h>
#include <google/rpc/status.pb-c.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define TEXT_MAX    1024 /* bytes of a message … */
#define TRAVEL_MAX  2048 /* … and as it travels: what is not plain ASCII takes three bytes each */
#define DETAIL_MAX  256  /* bytes of a text in a detail */
#define DETAILS_MAX 4096 /* bytes of all details; further violations are left out */
#define TYPE_PREFIX "type.googleapis.com/"

#define RETRY_STANDARD_MS 1000

const char *rt_code_name(int code)
{
	static const char *const names[] = {
		"OK",
		"CANCELLED",
		"UNKNOWN",
		"INVALID_ARGUMENT",
		"DEADLINE_EXCEEDED",
		"NOT_FOUND",
		"ALREADY_EXISTS",
		"PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION",
		"ABORTED",
		"OUT_OF_RANGE",
		"UNIMPLEMENTED",
		"INTERNAL",
		"UNAVAILABLE",
		"DATA_LOSS",
		"UNAUTHENTICATED",
	};

	if (code < 0 || code >= (int)RT_LENGTH(names))
		return "UNKNOWN";
	return names[code];
}

/* How many of the first `max` bytes of `text` can be kept without cutting a character. */
static size_t cut_length(const char *text, size_t max)
{
	size_t length = strnlen(text, max + 1);

	if (length <= max)
		return length;
	length = max;
	while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
		length--;
	return length;
}

/* A copy to be shown, of at most `max` bytes: what is not printable is escaped. */
static char *clean_text(const char *text, size_t max)
{
	char *shown = rt_text_shown(text, cut_length(text, max));

	shown[cut_length(shown, max)] = '\0';
	return shown;
}

/* A message to be shown: as clean_text, and not more than fits beside the details as it travels. */
static char *message_text(const char *text)
{
	char *shown = clean_text(text, TEXT_MAX);
	size_t length = 0, travels = 0;

	for (; shown[length] != '\0'; length++) {
		bool plain = shown[length] >= ' ' && shown[length] <= '~' && shown[length] != '%';

		travels += plain ? 1 : 3;
		if (travels > TRAVEL_MAX)
			break;
	}
	shown[cut_length(shown, length)] = '\0';
	return shown;
}

static char *detail_text(const char *format, va_list args) RT_PRINTF(1, 0);
static char *detail_text(const char *format, va_list args)
{
	char text[DETAIL_MAX + 8]; /* clean_text cuts it */

	vsnprintf(text, sizeof(text), format, args);
	return clean_text(text, DETAIL_MAX);
}

void rt_status_set(struct rt_status *status, int code, const char *format, ...)
{
	char text[TEXT_MAX + 8]; /* message_text cuts it */
	char *message;
	va_list args;

	/* First: an argument may be the old message. */
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	message = message_text(text);
	rt_status_done(status);
	status->code = code;
	status->message = message;
}

void rt_status_done(struct rt_status *status)
{
	free(status->message);
	free(status->details);
	*status = (struct rt_status){ 0 };
}

static void *copy_bytes(const void *data, size_t length)
{
	return length > 0 ? memcpy(rt_alloc(length), data, length) : NULL;
}

void rt_status_copy(struct rt_status *to, const struct rt_status *from)
{
	to->code = from->code;
	to->message = rt_strdup(from->message);
	to->details = copy_bytes(from->details, from->details_length);
	to->details_length = from->details_length;
}

Google__Rpc__Status *rt_status_to_proto(const struct rt_status *status)
{
	Google__Rpc__Status *proto = NULL;

	if (status->details != NULL)
		proto = google__rpc__status__unpack(NULL, status->details_length, status->details);
	if (proto == NULL) {
		proto = rt_alloc(sizeof(*proto));
		google__rpc__status__init(proto);
	}
	proto->code = status->code;
	if (status->message != NULL) {
		if (proto->message != (char *)protobuf_c_empty_string)
			free(proto->message);
		proto->message = rt_strdup(status->message);
	}
	return proto;
}

void rt_status_from_proto(struct rt_status *status, const Google__Rpc__Status *proto)
{
	struct rt_status made = { .code = proto->code };

	made.message = message_text(proto->message);
	if (proto->n_details > 0) {
		made.details_length = google__rpc__status__get_packed_size(proto);
		made.details = rt_alloc(made.details_length);
		google__rpc__status__pack(proto, made.details);
	}
	rt_status_done(status);
	*status = made;
}

/* ---- details ---- */

static Google__Protobuf__Any *find_detail(const Google__Rpc__Status *proto, const char *type)
{
	for (size_t i = 0; i < proto->n_details; i++) {
		const char *url = proto->details[i]->type_url;

		if (strncmp(url, TYPE_PREFIX, strlen(TYPE_PREFIX)) == 0 &&
		    strcmp(url + strlen(TYPE_PREFIX), type) == 0)
			return proto->details[i];
	}
	return NULL;
}

/* The detail of this type that the status has; NULL: none. Freed by the caller. */
static ProtobufCMessage *get_detail(const struct rt_status *status,
				    const ProtobufCMessageDescriptor *descriptor)
{
	Google__Rpc__Status *proto = rt_status_to_proto(status);
	Google__Protobuf__Any *any = find_detail(proto, descriptor->name);
	ProtobufCMessage *detail = NULL;

	if (any != NULL)
		detail = protobuf_c_message_unpack(descriptor, NULL, any->value.len,
						   any->value.data);
	google__rpc__status__free_unpacked(proto, NULL);
	return detail;
}

/* Puts the detail into the status, in place of one of the same type. Left out when the details
 * would grow too large. */
static void put_detail(struct rt_status *status, const ProtobufCMessage *detail)
{
	Google__Rpc__Status *proto = rt_status_to_proto(status);
	Google__Protobuf__Any *any = find_detail(proto, detail->descriptor->name);
	size_t length;

	if (any == NULL) {
		any = rt_alloc(sizeof(*any));
		google__protobuf__any__init(any);
		any->type_url = rt_printf(TYPE_PREFIX "%s", detail->descriptor->name);
		proto->details = rt_realloc(proto->details,
					    (proto->n_details + 1) * sizeof(*proto->details));
		proto->details[proto->n_details++] = any;
	}
	free(any->value.data);
	any->value.len = protobuf_c_message_get_packed_size(detail);
	any->value.data = rt_alloc(any->value.len + 1);
	protobuf_c_message_pack(detail, any->value.data);

	length = google__rpc__status__get_packed_size(proto);
	if (length <= DETAILS_MAX) {
		free(status->details);
		status->details = rt_alloc(length);
		status->details_length = length;
		google__rpc__status__pack(proto, status->details);
	}
	google__rpc__status__free_unpacked(proto, NULL);
}

void rt_status_violation(struct rt_status *status, const char *field, const char *format, ...)
{
	Google__Rpc__BadRequest *bad;
	Google__Rpc__BadRequest__FieldViolation *violation;
	va_list args;

	bad = (Google__Rpc__BadRequest *)(void *)get_detail(status,
							    &google__rpc__bad_request__descriptor);
	if (bad == NULL) {
		bad = rt_alloc(sizeof(*bad));
		google__rpc__bad_request__init(bad);
	}
	violation = rt_alloc(sizeof(*violation));
	google__rpc__bad_request__field_violation__init(violation);
	violation->field = clean_text(field, DETAIL_MAX);
	va_start(args, format);
	violation->description = detail_text(format, args);
	va_end(args);
	bad->field_violations =
		rt_realloc(bad->field_violations,
			   (bad->n_field_violations + 1) * sizeof(*bad->field_violations));
	bad->field_violations[bad->n_field_violations++] = violation;
	put_detail(status, &bad->base);
	google__rpc__bad_request__free_unpacked(bad, NULL);
}

void rt_status_retry(struct rt_status *status, int64_t delay_ms)
{
	Google__Rpc__RetryInfo info = GOOGLE__RPC__RETRY_INFO__INIT;
	Google__Protobuf__Duration delay = GOOGLE__PROTOBUF__DURATION__INIT;

	delay.seconds = delay_ms / 1000;
	delay.nanos = (int32_t)(delay_ms % 1000) * 1000000;
	info.retry_delay = &delay;
	put_detail(status, &info.base);
}

int64_t rt_status_retry_ms(const struct rt_status *status)
{
	Google__Rpc__RetryInfo *info = (Google__Rpc__RetryInfo *)(void *)get_detail(
		status, &google__rpc__retry_info__descriptor);
	int64_t ms = -1;

	if (info != NULL && info->retry_delay != NULL)
		ms = info->retry_delay->seconds * 1000 + info->retry_delay->nanos / 1000000;
	if (info != NULL)
		google__rpc__retry_info__free_unpacked(info, NULL);
	return ms;
}

void rt_status_info(struct rt_status *status, const char *reason)
{
	Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
	char domain[] = "tandem";
	char *text = clean_text(reason, 63);

	info.reason = text;
	info.domain = domain;
	put_detail(status, &info.base);
	free(text);
}

void rt_status_precondition(struct rt_status *status, const char *type, const char *subject,
			    const char *description)
{
	Google__Rpc__PreconditionFailure *failure;
	Google__Rpc__PreconditionFailure__Violation *violation;

	failure = (Google__Rpc__PreconditionFailure *)(void *)get_detail(
		status, &google__rpc__precondition_failure__descriptor);
	if (failure == NULL) {
		failure = rt_alloc(sizeof(*failure));
		google__rpc__precondition_failure__init(failure);
	}
	violation = rt_alloc(sizeof(*violation));
	google__rpc__precondition_failure__violation__init(violation);
	violation->type = clean_text(type, DETAIL_MAX);
	violation->subject = clean_text(subject, DETAIL_MAX);
	violation->description = clean_text(description, DETAIL_MAX);
	failure->violations = rt_realloc(failure->violations, (failure->n_violations + 1) *
								      sizeof(*failure->violations));
	failure->violations[failure->n_violations++] = violation;
	put_detail(status, &failure->base);
	google__rpc__precondition_failure__free_unpacked(failure, NULL);
}

void rt_status_from(struct rt_status *status, int rc, const char *what)
{
	int code = rt_status_grpc_code(rc);

	if (rc == RT_OK) {
		rt_status_done(status);
		return;
	}
	rt_status_set(status, code, "%s: %s", what, rt_status_text(rc));
	if (code == RT_CODE_UNAVAILABLE || code == RT_CODE_RESOURCE_EXHAUSTED)
		rt_status_retry(status, RETRY_STANDARD_MS);
}
