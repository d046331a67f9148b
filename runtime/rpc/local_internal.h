/* local_internal.h - calls within this process: both ends of one, and what is on its way between them.
 * Private to local*.c. */
#ifndef RT_RPC_LOCAL_INTERNAL_H
#define RT_RPC_LOCAL_INTERNAL_H

#include "client_internal.h"

struct local_client {
	struct rpc_client base;
	struct rt_loop *loop;
	ProtobufCService *service;
	int (*fault)(void *user, const char *step, int64_t *delay_ms);
	void *user;
	size_t calls;
	bool freed;
};

enum local_packet_kind { LOCAL_REQUEST, LOCAL_MESSAGE, LOCAL_HALF_CLOSE, LOCAL_END };
struct local_packet {
	struct rt_list link;
	enum local_packet_kind kind;
	int64_t due_ms;
	struct rt_status status; /* END */
	bool has_data;
	size_t length;
	uint8_t data[];
};

struct local_call {
	struct rt_call base;
	struct rpc_client_call client_base;
	struct local_client *client;
	struct rt_client_op *op; /* NULL: the client has its end */
	struct rt_arena client_arena;
	struct rt_list to_server, to_client;
	int64_t server_due_ms, client_due_ms; /* packets do not overtake each other */
	int64_t deadline_ms;
	struct rpc_metadata *metadata; /* the client's */
	const struct rt_identity *caller;
	struct rt_timer deadline_timer, due_timer;
	struct rt_task deliver_task;
	size_t client_queued_bytes;
	bool server_began, server_ended, half_closed;
	struct rt_status broken; /* what the client hears soon, instead of anything else */
};

/* local_packets.c. Sends a packet on its way; NULL when it is lost, and the call broken. */
struct local_packet *rpc_packets_send(struct local_call *call, bool to_server,
				      enum local_packet_kind kind, const ProtobufCMessage *message);
/* The first packet if it may arrive now; else NULL, and *next is when it may. */
struct local_packet *rpc_packets_due(struct rt_list *packets, int64_t now, int64_t *next);
void rpc_packets_free(struct local_packet *packet);
void rpc_packets_drop(struct rt_list *packets);
/* The call is broken in the middle: the client hears `code`, the server that it is cancelled. */
void rpc_packets_break(struct local_call *call, int code, const char *why);
/* Something can be delivered in the next turn, or the call freed. */
void rpc_packets_deliver_soon(struct local_call *call);

#endif
