/* json.h - any message as JSON and back, by its descriptor (jansson's values).
 *
 * What protobuf calls its JSON mapping (protobuf.dev/programming-guides/json) is spoken with programs that know nothing of
 * Tandem: names in lowerCamelCase, 64-bit integers as strings, bytes in base64, times in RFC 3339, "@type" in an Any. Without
 * RT_JSON_MAPPING the form is that of tandemctl: names as in the .proto files, every integer a number. */
#ifndef RT_JSON_H
#define RT_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include "base/base.h"

enum {
	RT_JSON_MAPPING = 1,  /* protobuf's own */
	RT_JSON_DEFAULTS = 2, /* fields that have their default value, too */
};
/* Never NULL. What is nested deeper than RT_WIRE_DEPTH_MAX becomes null, and a value that is not UTF-8 is shown
 * (rt_text_shown). */
json_t *rt_json_of_message(const ProtobufCMessage *message, unsigned int flags);
/* The same of its bytes, which are checked. NULL: they are no such message. */
json_t *rt_json_of_bytes(const ProtobufCMessageDescriptor *type, const void *data, size_t length,
			 unsigned int flags);
/* The types of the details of errors, by name ("google.rpc.BadRequest"). NULL: it is none of them. */
const ProtobufCMessageDescriptor *rt_json_detail_type(const char *name);
json_t *rt_json_string(const char *text, size_t length);

/* Appends the bytes of the message that `json` is in protobuf's mapping; names as in the .proto files are taken, too. False:
 * it is none, and *fault says which field is wrong and why; `bytes` may have got something. */
bool rt_json_to_bytes(const ProtobufCMessageDescriptor *type, const json_t *json,
		      struct rt_buf *bytes, struct rt_wire_fault *fault);

#endif
