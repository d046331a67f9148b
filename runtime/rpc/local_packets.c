/* local_packets.c - the messages between the two ends of a local call. Messages are packed and
 * unpacked as on a wire; a packet arrives in a later turn, after its delay. Each packet is subject to
 * the fault hook: one that fails breaks the call like a lost connection does, the client sees
 * UNAVAILABLE and the server a cancellation. */
#include "local_internal.h"

void rpc_packets_free(struct local_packet *packet)
{
	rt_status_done(&packet->status);
	free(packet);
}

void rpc_packets_drop(struct rt_list *packets)
{
	struct rt_list *link;

	while ((link = rt_list_pop(packets)) != NULL)
		rpc_packets_free(RT_CONTAINER_OF(link, struct local_packet, link));
}

void rpc_packets_deliver_soon(struct local_call *call)
{
	rt_loop_defer(call->client->loop, &call->deliver_task);
}

void rpc_packets_break(struct local_call *call, int code, const char *why)
{
	if (call->broken.code != 0)
		return;
	rt_status_set(&call->broken, code, "%s", why);
	rpc_packets_drop(&call->to_client);
	rpc_packets_deliver_soon(call);
}

/* Asks the fault hook; false: the packet is lost and the call broken. */
static bool pass(struct local_call *call, const char *step, int64_t *delay_ms)
{
	struct local_client *client = call->client;
	int rc;

	*delay_ms = 0;
	if (client->fault == NULL)
		return true;
	rc = client->fault(client->user, step, delay_ms);
	if (rc == RT_OK)
		return true;
	rpc_packets_break(call, RT_CODE_UNAVAILABLE, rt_status_text(rc));
	return false;
}

struct local_packet *rpc_packets_send(struct local_call *call, bool to_server,
				      enum local_packet_kind kind, const ProtobufCMessage *message)
{
	static const char *const steps[] = { "request", "message", "message", "response" };
	size_t length = message != NULL ? protobuf_c_message_get_packed_size(message) : 0;
	int64_t now = rt_loop_now(call->client->loop), delay;
	int64_t *last = to_server ? &call->server_due_ms : &call->client_due_ms;
	struct local_packet *packet;

	if (call->broken.code != 0 || !pass(call, steps[kind], &delay))
		return NULL;
	packet = rt_alloc(sizeof(*packet) + length);
	packet->kind = kind;
	packet->due_ms = *last = RT_MAX(*last, now + delay);
	packet->has_data = message != NULL;
	packet->length = length;
	if (message != NULL)
		protobuf_c_message_pack(message, packet->data);
	rt_list_init(&packet->link);
	rt_list_push(to_server ? &call->to_server : &call->to_client, &packet->link);
	rpc_packets_deliver_soon(call);
	return packet;
}

struct local_packet *rpc_packets_due(struct rt_list *packets, int64_t now, int64_t *next)
{
	struct local_packet *packet;

	if (rt_list_empty(packets))
		return NULL;
	packet = RT_CONTAINER_OF(packets->next, struct local_packet, link);
	if (packet->due_ms > now) {
		*next = RT_MIN(*next, packet->due_ms);
		return NULL;
	}
	return packet;
}
