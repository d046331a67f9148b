/* http_protocol.h - calls as they look over HTTP: the Connect protocol (connectrpc.com/docs/protocol) and gRPC-Web
 * (github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md). Bytes in, bytes out; no I/O.
 *
 *   Connect, unary    application/json, application/proto: the body is the message; errors are JSON with a status of HTTP
 *   Connect, streams  application/connect+json, +proto: messages in envelopes; the last one is JSON and says how it ended
 *   gRPC-Web          application/grpc-web, +proto, +json: messages in the same envelopes; the last one has gRPC's trailers;
 *                     application/grpc-web-text: all that in base64 */
#ifndef RT_HTTP_PROTOCOL_H
#define RT_HTTP_PROTOCOL_H

#include "base/base.h"
#include "rpc/rpc.h"

enum http_protocol { HTTP_CONNECT, HTTP_CONNECT_STREAM, HTTP_GRPC_WEB };
struct http_format {
	enum http_protocol protocol;
	const char *content_type; /* of the answer */
	bool json, base64;
};
/* By the content type of a request; NULL: none. False: it is of another kind. */
bool http_format_of(const char *content_type, struct http_format *ret);
/* All of them, with commas between. */
extern const char http_formats[];

/* The deadline of a request, in ms; 0: none. `text`: its header Connect-Timeout-Ms or grpc-timeout; NULL: it has none. False:
 * it is not a time, and *status says so. */
bool http_timeout_read(const struct http_format *format, const char *text, int64_t *ret_ms,
		       struct rt_status *status);

/* The messages of a request as protobuf's bytes, in memory of their own or in `body`. */
struct http_messages {
	ProtobufCBinaryData *list;
	size_t count;
	struct rt_buf own;
};
/* Takes the body apart; may change it. `most_bytes`: of a message. False: *status says what is wrong with it. */
bool http_messages_read(const struct http_format *format, const ProtobufCMessageDescriptor *type,
			struct rt_buf *body, size_t most_bytes, struct http_messages *ret,
			struct rt_status *status);
void http_messages_done(struct http_messages *messages);

/* Appends a message of an answer. False: it cannot be written, which cannot be. */
bool http_message_write(const struct http_format *format, const ProtobufCMessageDescriptor *type,
			const struct rt_buf *message, struct rt_buf *to);
/* Appends the end of an answer in envelopes: its status, OK or not. */
void http_end_write(const struct http_format *format, const struct rt_status *status,
		    struct rt_buf *to);
/* A status other than OK as a unary answer of Connect: the body, and its status of HTTP. */
unsigned int http_error_write(const struct rt_status *status, struct rt_buf *to);

#endif
