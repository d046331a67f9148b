/* message.c - what a call carries: messages, checked and unpacked into an arena, packed into gRPC's
 * buffers; those of a stream that wait for their turn; metadata. */
#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <string.h>

#include "grpc_internal.h"

#define METADATA_KEEP 64 /* entries that a call of before leaves room for */

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
	/* We never decompress: only afterwards is it known how large a message becomes. */
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

/* ---- messages that wait to be sent ---- */

struct rpc_outgoing {
	struct rpc_outgoing *next;
	grpc_byte_buffer *buffer;
	size_t length;
};

void rpc_outgoing_add(struct rpc_outgoing_queue *queue, grpc_byte_buffer *buffer, size_t length)
{
	struct rpc_outgoing *outgoing = rt_alloc(sizeof(*outgoing));

	outgoing->buffer = buffer;
	outgoing->length = length;
	if (queue->first == NULL)
		queue->last = &queue->first;
	*queue->last = outgoing;
	queue->last = &outgoing->next;
}

bool rpc_outgoing_take(struct rpc_outgoing_queue *queue, grpc_byte_buffer **ret_buffer,
		       size_t *ret_length)
{
	struct rpc_outgoing *outgoing = queue->first;

	if (outgoing == NULL)
		return false;
	queue->first = outgoing->next;
	*ret_buffer = outgoing->buffer;
	*ret_length = outgoing->length;
	free(outgoing);
	return true;
}

size_t rpc_outgoing_drop(struct rpc_outgoing_queue *queue)
{
	grpc_byte_buffer *buffer;
	size_t bytes = 0, length;

	while (rpc_outgoing_take(queue, &buffer, &length)) {
		bytes += length;
		if (buffer != NULL)
			grpc_byte_buffer_destroy(buffer);
	}
	return bytes;
}

/* ---- metadata ---- */

static bool metadata_legal(const char *key, const void *value, size_t length)
{
	size_t key_length = strlen(key);
	const char *text = value;

	if (key_length == 0 || strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != key_length)
		return false;
	if (key_length > 4 && strcmp(key + key_length - 4, "-bin") == 0)
		return true;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			return false;
	}
	return true;
}

void rpc_metadata_add(struct rpc_metadata **list, struct rt_arena *arena, const char *key,
		      const void *value, size_t length)
{
	struct rpc_metadata *entry;

	if (!metadata_legal(key, value, length))
		return;
	entry = rt_arena_take(arena, sizeof(*entry));
	entry->next = NULL;
	entry->key = rt_arena_copy(arena, key, strlen(key));
	entry->value = rt_arena_copy(arena, value, length);
	entry->length = length;
	while (*list != NULL)
		list = &(*list)->next;
	*list = entry;
}

const struct rpc_metadata *rpc_metadata_find(const struct rpc_metadata *list, const char *key)
{
	while (list != NULL && strcmp(list->key, key) != 0)
		list = list->next;
	return list;
}

size_t rpc_metadata_fill(const struct rpc_metadata *list, grpc_metadata *array)
{
	size_t count = 0;

	for (; list != NULL && count < RPC_METADATA_SENT_MAX; list = list->next) {
		array[count].key = grpc_slice_from_copied_string(list->key);
		array[count++].value = grpc_slice_from_copied_buffer(list->value, list->length);
	}
	return count;
}

void rpc_metadata_unref(grpc_metadata *array, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		grpc_slice_unref(array[i].key);
		grpc_slice_unref(array[i].value);
	}
}

void rpc_metadata_reset(grpc_metadata_array *array)
{
	array->count = 0;
	if (array->capacity <= METADATA_KEEP)
		return;
	grpc_metadata_array_destroy(array);
	grpc_metadata_array_init(array);
}

const char *rpc_metadata_received(const grpc_metadata_array *array, const char *key,
				  struct rt_arena *arena, size_t *ret_length)
{
	for (size_t i = 0; i < array->count; i++) {
		const grpc_metadata *entry = &array->metadata[i];
		size_t length = GRPC_SLICE_LENGTH(entry->value);

		if (grpc_slice_str_cmp(entry->key, key) != 0)
			continue;
		if (ret_length != NULL)
			*ret_length = length;
		return rt_arena_copy(arena, GRPC_SLICE_START_PTR(entry->value), length);
	}
	return NULL;
}
