/* details.c - see details.h. */
#include "details.h"

#include <stdio.h>
#include <string.h>

#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

static void read_retry(const ProtobufCMessage *message, struct details *details)
{
	const Google__Protobuf__Duration *delay =
		((const Google__Rpc__RetryInfo *)message)->retry_delay;

	details->retry_ms = delay->seconds * 1000 + delay->nanos / 1000000;
}

static void read_info(const ProtobufCMessage *message, struct details *details)
{
	const Google__Rpc__ErrorInfo *info = (const Google__Rpc__ErrorInfo *)message;

	snprintf(details->reason, sizeof(details->reason), "%s", info->reason);
	snprintf(details->domain, sizeof(details->domain), "%s", info->domain);
}

static void read_precondition(const ProtobufCMessage *message, struct details *details)
{
	snprintf(details->subject, sizeof(details->subject), "%s",
		 ((const Google__Rpc__PreconditionFailure *)message)->violations[0]->subject);
}

static void read_bad_request(const ProtobufCMessage *message, struct details *details)
{
	const Google__Rpc__BadRequest *bad = (const Google__Rpc__BadRequest *)message;

	details->field_count = bad->n_field_violations;
	details->described = true;
	for (size_t i = 0; i < bad->n_field_violations; i++) {
		size_t length = strlen(details->fields);

		snprintf(details->fields + length, sizeof(details->fields) - length, "%s%s",
			 i == 0 ? "" : " ", bad->field_violations[i]->field);
		snprintf(details->description, sizeof(details->description), "%s",
			 bad->field_violations[i]->description);
		if (details->description[0] == '\0')
			details->described = false;
	}
}

struct details details_of(const struct rt_status *status)
{
	static const struct {
		const ProtobufCMessageDescriptor *descriptor;
		void (*read)(const ProtobufCMessage *message, struct details *details);
	} known[] = {
		{ &google__rpc__retry_info__descriptor, read_retry },
		{ &google__rpc__error_info__descriptor, read_info },
		{ &google__rpc__precondition_failure__descriptor, read_precondition },
		{ &google__rpc__bad_request__descriptor, read_bad_request },
	};
	struct details details = { .retry_ms = -1 };
	Google__Rpc__Status *proto = rt_status_to_proto(status);

	for (size_t i = 0; i < proto->n_details; i++)
		for (size_t k = 0; k < RT_LENGTH(known); k++) {
			const Google__Protobuf__Any *any = proto->details[i];
			ProtobufCMessage *message;

			if (strcmp(strrchr(any->type_url, '/') + 1, known[k].descriptor->name) != 0)
				continue;
			message = protobuf_c_message_unpack(known[k].descriptor, NULL,
							    any->value.len, any->value.data);
			if (message == NULL)
				continue;
			known[k].read(message, &details);
			protobuf_c_message_free_unpacked(message, NULL);
		}
	google__rpc__status__free_unpacked(proto, NULL);
	return details;
}
