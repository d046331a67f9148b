/* message.c - bytes into messages and back: checked and unpacked into an arena, packed into gRPC's
 * buffers. */
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>

#include "call_internal.h"
#include "grpc_internal.h"

ProtobufCMessage *rpc_unpack(struct rt_arena *arena, const ProtobufCMessageDescriptor *descriptor,
			     const uint8_t *data, size_t length, bool from_server,
			     struct rt_status *status)
{
	static const uint8_t nothing[1];
	int code = from_server ? RT_CODE_INTERNAL : RT_CODE_INVALID_ARGUMENT;
	ProtobufCMessage *message;
	struct rt_wire_fault fault;

	if (data == NULL)
		data = nothing; /* an empty message may come without bytes */
	if (!rt_wire_check(descriptor, data, length, &fault)) {
		rt_status_set(status, code, "%s%s%s %s", descriptor->name,
			      fault.field[0] != '\0' ? ": " : "", fault.field, fault.what);
		if (!from_server)
			rt_status_violation(status, fault.field, "%s", fault.what);
		return NULL;
	}
	message = protobuf_c_message_unpack(descriptor, rt_arena_allocator(arena), length, data);
	if (message == NULL)
		rt_status_set(status, code, "%s does not parse", descriptor->name);
	return message;
}

grpc_byte_buffer *rpc_pack(const ProtobufCMessage *message, size_t *ret_length)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	grpc_slice slice = grpc_slice_malloc(length);
	grpc_byte_buffer *buffer;

	protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
	buffer = grpc_raw_byte_buffer_create(&slice, 1);
	grpc_slice_unref(slice);
	*ret_length = length;
	return buffer;
}

bool rpc_bytes_read(struct rpc_bytes *bytes, grpc_byte_buffer *buffer)
{
	grpc_byte_buffer_reader reader;
	grpc_slice *slice;

	*bytes = (struct rpc_bytes){ .buffer = buffer, .joined = grpc_empty_slice() };
	/* Never unpacked: how large it would become is known only afterwards. */
	if (buffer->data.raw.compression != GRPC_COMPRESS_NONE)
		return false;
	if (buffer->data.raw.slice_buffer.count <= 1) {
		if (buffer->data.raw.slice_buffer.count == 0)
			return true;
		slice = &buffer->data.raw.slice_buffer.slices[0];
		bytes->data = GRPC_SLICE_START_PTR(*slice);
		bytes->length = GRPC_SLICE_LENGTH(*slice);
		return true;
	}
	if (!grpc_byte_buffer_reader_init(&reader, buffer))
		return false;
	bytes->joined = grpc_byte_buffer_reader_readall(&reader);
	grpc_byte_buffer_reader_destroy(&reader);
	/* The slice's own bytes may be inside `joined`, which must not move from here on. */
	bytes->data = GRPC_SLICE_START_PTR(bytes->joined);
	bytes->length = GRPC_SLICE_LENGTH(bytes->joined);
	return true;
}

void rpc_bytes_done(struct rpc_bytes *bytes)
{
	grpc_slice_unref(bytes->joined);
	grpc_byte_buffer_destroy(bytes->buffer);
}
