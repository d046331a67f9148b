/* outgoing.c - the messages of a stream that wait for their turn. */
#include <grpc/byte_buffer.h>

#include "grpc_internal.h"

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
