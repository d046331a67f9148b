/* proxy.c - a client as its callers see it, the same on every transport: what protobuf-c generates, and
 * an operation for each call. */
#include "client_internal.h"

/* The call of a generated proxy function: an op of its own, freed with its end. */
struct invocation {
	struct rt_client_op op;
	ProtobufCClosure closure;
	void *closure_data;
};

static void invocation_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct invocation *invocation = RT_CONTAINER_OF(op, struct invocation, op);

	invocation->closure(message, invocation->closure_data);
}

static void invocation_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct invocation *invocation = RT_CONTAINER_OF(op, struct invocation, op);

	invocation->closure(response, invocation->closure_data);
	free(invocation);
}

#define INVOKE_TIMEOUT_MS 30000
static void client_invoke(ProtobufCService *service, unsigned method_index,
			  const ProtobufCMessage *input, ProtobufCClosure closure,
			  void *closure_data)
{
	struct rpc_client *client = (struct rpc_client *)(void *)service;
	struct invocation *invocation = rt_alloc(sizeof(*invocation));

	invocation->closure = closure;
	invocation->closure_data = closure_data;
	invocation->op.timeout_ms = INVOKE_TIMEOUT_MS;
	invocation->op.done = invocation_done;
	if (client->methods[method_index].server_streams)
		invocation->op.on_message = invocation_message;
	if (!client->methods[method_index].client_streams) {
		rt_client_start(service, method_index, input, &invocation->op);
		return;
	}
	/* A stream of one. */
	rt_client_start(service, method_index, NULL, &invocation->op);
	rt_client_send(&invocation->op, input);
	rt_client_half_close(&invocation->op);
}

void rpc_client_init(struct rpc_client *client, const struct rpc_client_ops *ops,
		     const ProtobufCServiceDescriptor *descriptor, struct rt_metrics *metrics)
{
	client->service.descriptor = descriptor;
	client->service.invoke = client_invoke;
	client->ops = ops;
	client->methods = rt_alloc(descriptor->n_methods * sizeof(*client->methods));
	for (unsigned i = 0; i < descriptor->n_methods; i++)
		rpc_method_init(&client->methods[i], descriptor, NULL, i, metrics, "client");
}

void rpc_client_done(struct rpc_client *client)
{
	for (unsigned i = 0; i < client->service.descriptor->n_methods; i++)
		rpc_method_done(&client->methods[i]);
	free(client->methods);
}

void rpc_client_end(struct rt_client_op *op, const struct rt_status *status,
		    const ProtobufCMessage *response)
{
	op->status = *status; /* lent, not copied: the op may be gone after done */
	op->done(op, response);
}

void rpc_client_sent(struct rt_client_op *op, size_t before_bytes, size_t now_bytes)
{
	const size_t low = RT_CALL_QUEUE_MAX_BYTES / 2;

	if (before_bytes > low && now_bytes <= low && op->on_drained != NULL)
		op->on_drained(op);
}

void rt_client_free(ProtobufCService *service)
{
	struct rpc_client *client = (struct rpc_client *)(void *)service;

	if (client != NULL)
		client->ops->free(client);
}

void rt_client_start(ProtobufCService *service, unsigned method_index,
		     const ProtobufCMessage *request, struct rt_client_op *op)
{
	struct rpc_client *client = (struct rpc_client *)(void *)service;

	RT_FAILPOINT2("rpc.call", client->methods[method_index].descriptor->name);
	client->ops->start(client, &client->methods[method_index], request, op);
}

void rt_client_cancel(struct rt_client_op *op)
{
	((struct rpc_client_call *)op->call)->ops->cancel(op);
}

void rt_client_go_on(struct rt_client_op *op)
{
	((struct rpc_client_call *)op->call)->ops->go_on(op);
}

void rt_client_send(struct rt_client_op *op, const ProtobufCMessage *message)
{
	((struct rpc_client_call *)op->call)->ops->send(op, message);
}

size_t rt_client_queued_bytes(const struct rt_client_op *op)
{
	return ((struct rpc_client_call *)op->call)->ops->queued_bytes(op);
}

void rt_client_half_close(struct rt_client_op *op)
{
	((struct rpc_client_call *)op->call)->ops->half_close(op);
}
