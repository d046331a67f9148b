/* channel.c - the connections to the instances behind a target: which there are, and which is next.
 *
 * A target is a list of addresses and names. A name is looked up again and again (names.c): connections to
 * new addresses are added, those to addresses that are gone get no new calls, and are closed when their
 * calls have ended. gRPC opens and closes what is underneath; while no instance is there, calls fail at
 * once with UNAVAILABLE. Until a name was looked up for the first time gRPC looks it up for calls that do not
 * wait for that. Instances that are asked for their health (probe.c), and do not serve, get
 * no calls while another does. */
#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <string.h>

#include "client_internal.h"

#define POOL_MAX                                                                                   \
	64 /* calls whose memory is kept: they lie where the many were, and hold whole pages there */
#define CONNECTIONS_MAX 1024

static void call_free(struct client_call *call)
{
	grpc_metadata_array_destroy(&call->initial);
	grpc_metadata_array_destroy(&call->trailing);
	rt_arena_done(&call->arena);
	free(call);
}

static void run_freed(struct rt_task *task)
{
	struct rt_channel *channel = RT_CONTAINER_OF(task, struct rt_channel, freed_task);
	void (*freed)(void *user) = channel->freed;
	void *user = channel->freed_user;
	struct rt_list *link;

	while ((link = rt_list_pop(&channel->pool)) != NULL)
		call_free(RT_CONTAINER_OF(link, struct client_call, link));
	for (size_t i = 0; i < channel->count; i++)
		rpc_connection_free(channel->connections[i]);
	rpc_connection_free(channel->nowhere);
	rpc_connection_free(channel->early);
	rpc_names_free(channel);
	if (channel->prober != NULL)
		channel->prober->done(channel);
	rpc_queue_unref(channel->queue);
	if (channel->authorization != NULL)
		explicit_bzero(channel->authorization, strlen(channel->authorization));
	free(channel->authorization);
	free(channel->connections);
	free(channel);
	if (freed != NULL)
		freed(user);
}

/* ---- which connections there are ---- */

/* Adds the connections to an address. */
static void connect_to(struct rt_channel *channel, const char *address, const struct rpc_name *name)
{
	for (int i = 0; i < channel->each && channel->count < CONNECTIONS_MAX; i++) {
		size_t slot = 0;

		while (slot < channel->count && channel->connections[slot] != NULL)
			slot++;
		if (slot == channel->count) {
			channel->connections =
				rt_grow(channel->connections, channel->count, &channel->capacity,
					sizeof(struct rpc_connection *));
			channel->count++;
		}
		channel->connections[slot] = rpc_connection_new(channel, address, name);
	}
}

static void close_if_left(struct rt_channel *channel, struct rpc_connection *connection)
{
	if (!connection->leaving || !rt_list_empty(&connection->calls))
		return;
	for (size_t i = 0; i < channel->count; i++)
		if (channel->connections[i] == connection)
			channel->connections[i] = NULL;
	rpc_connection_free(connection);
}

static void leave(struct rt_channel *channel, struct rpc_connection *connection)
{
	struct rt_list *next;

	if (connection->leaving)
		return;
	connection->leaving = true;
	if (channel->prober != NULL)
		channel->prober->leaves(connection);
	/* None ends in here: gRPC says so later. */
	for (struct rt_list *link = connection->calls.next; link != &connection->calls;
	     link = next) {
		struct rt_client_op *op = RT_CONTAINER_OF(link, struct client_call, link)->op;

		next = link->next;
		if (op->on_leave != NULL)
			op->on_leave(op);
	}
	close_if_left(channel, connection);
}

static bool is_listed(const char *address, char *const *addresses, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(address, addresses[i]) == 0)
			return true;
	return false;
}

static bool is_connected(const struct rt_channel *channel, const char *address)
{
	for (size_t i = 0; i < channel->count; i++)
		if (channel->connections[i] != NULL &&
		    strcmp(channel->connections[i]->address, address) == 0)
			return true;
	return false;
}

/* These are the addresses of a name now. */
static void set_addresses(struct rt_channel *channel, const struct rpc_name *name,
			  char *const *addresses, size_t count)
{
	for (size_t i = 0; i < channel->count; i++) {
		struct rpc_connection *connection = channel->connections[i];

		if (connection == NULL || connection->name != name)
			continue;
		if (!is_listed(connection->address, addresses, count))
			leave(channel, connection);
		else if (connection->leaving)
			connection->leaving = false;
	}
	for (size_t i = 0; i < count; i++) {
		if (is_connected(channel, addresses[i]))
			continue;
		connect_to(channel, addresses[i], name);
		if (channel->prober != NULL)
			channel->prober->connected(channel);
	}
}

/* ---- other certificates ----
 *
 * Each address gets new connections at once. Those with the certificates of before stay in use until all of the
 * new ones are usable, so a certificate that the other side does not accept ends nothing; or until RENEW_MAX_MS
 * have passed, because an instance that is down keeps no other's waiting. */

#define RENEW_EVERY_MS 100
#define RENEW_MAX_MS   10000

static bool has_renewal(const struct rt_channel *channel, const char *address)
{
	for (size_t i = 0; i < channel->count; i++)
		if (channel->connections[i] != NULL &&
		    channel->connections[i]->renewal == channel->renewal &&
		    strcmp(channel->connections[i]->address, address) == 0)
			return true;
	return false;
}

static void leave_old(struct rt_channel *channel)
{
	for (size_t i = 0; i < channel->count; i++)
		if (channel->connections[i] != NULL &&
		    channel->connections[i]->renewal != channel->renewal)
			leave(channel, channel->connections[i]);
}

static void renew_time(struct rt_timer *timer)
{
	struct rt_channel *channel = RT_CONTAINER_OF(timer, struct rt_channel, renew_timer);
	bool late = rt_loop_now(channel->loop) - channel->renewed_ms > RENEW_MAX_MS;
	size_t usable = 0, others = 0;

	for (size_t i = 0; i < channel->count; i++) {
		const struct rpc_connection *connection = channel->connections[i];

		if (connection == NULL || connection->leaving ||
		    connection->renewal != channel->renewal)
			continue;
		/* The 1 makes it connect. */
		if (grpc_channel_check_connectivity_state(connection->grpc, 1) ==
			    GRPC_CHANNEL_READY &&
		    rpc_connection_usable(connection))
			usable++;
		else
			others++;
	}
	if (usable > 0 && (others == 0 || late))
		leave_old(channel);
	else
		rt_timer_start(channel->loop, timer, RENEW_EVERY_MS, renew_time);
}

static void certificates_changed(struct rt_tls_user *user)
{
	struct rt_channel *channel = RT_CONTAINER_OF(user, struct rt_channel, tls_user);
	size_t count = channel->count;

	if (channel->closing)
		return;
	channel->renewal++;
	channel->renewed_ms = rt_loop_now(channel->loop);
	for (size_t i = 0; i < count; i++) {
		const struct rpc_connection *connection = channel->connections[i];

		/* connect_to makes all connections of an address. */
		if (connection != NULL && !connection->leaving &&
		    connection->renewal + 1 == channel->renewal &&
		    !has_renewal(channel, connection->address))
			connect_to(channel, connection->address, connection->name);
	}
	if (channel->prober != NULL)
		channel->prober->connected(channel);
	rt_timer_start(channel->loop, &channel->renew_timer, RENEW_EVERY_MS, renew_time);
}

/* The address in this part of a target, without the spaces around it; NULL: there is none. */
static char *address_of(const char *text, size_t length)
{
	while (length > 0 && *text == ' ')
		text++, length--;
	while (length > 0 && text[length - 1] == ' ')
		length--;
	return length > 0 ? rt_strndup(text, length) : NULL;
}

/* False: it has an empty part. */
static bool connect_all(struct rt_channel *channel, const char *target)
{
	for (const char *at = target;; at++) {
		size_t length = strcspn(at, ",");
		char *address = address_of(at, length);

		if (address == NULL)
			return false;
		if (rpc_name_is(address))
			rpc_name_add(channel, address, set_addresses);
		else
			connect_to(channel, address, NULL);
		free(address);
		at += length;
		if (*at == '\0')
			return true;
	}
}

/* ---- which is next ---- */

/* The one with the fewest calls, in turn among equals, of those that are usable; or of those that are
 * there. One that has stopped answering keeps its calls, and so gets hardly any more. */
static int next_in_turn(struct rt_channel *channel, bool usable)
{
	const struct rpc_connection *least = NULL;
	size_t least_slot = 0;

	for (size_t i = 0; i < channel->count; i++) {
		size_t slot = (channel->turn + i) % channel->count;
		const struct rpc_connection *connection = channel->connections[slot];

		if (connection == NULL || (usable && !rpc_connection_usable(connection)) ||
		    (least != NULL && connection->balanced_count >= least->balanced_count))
			continue;
		least = connection;
		least_slot = slot;
	}
	if (least == NULL)
		return 0;
	channel->turn = least_slot + 1;
	return (int)least_slot + 1;
}

/* For calls while there is no connection. */
static struct rpc_connection *without_address(struct rt_channel *channel)
{
	const struct rpc_name *name = rpc_names_unknown(channel);
	char *address;

	if (name == NULL)
		return channel->nowhere;
	if (channel->early == NULL) {
		address = rpc_name_address(name);
		channel->early = rpc_connection_new(channel, address, name);
		free(address);
	}
	return channel->early;
}

struct rpc_connection *rpc_channel_connection(struct rt_channel *channel, int *number)
{
	if (*number == 0 && channel->count == 1)
		*number = 1;
	if (*number == 0)
		*number = next_in_turn(channel, true);
	if (*number == 0)
		*number = next_in_turn(channel, false);
	if (*number < 1 || (size_t)*number > channel->count ||
	    channel->connections[*number - 1] == NULL)
		return without_address(channel);
	return channel->connections[*number - 1];
}

int rt_channel_connections(const struct rt_channel *channel)
{
	return (int)channel->count;
}

bool rt_channel_usable(const struct rt_channel *channel, int connection)
{
	size_t first = connection == 0 ? 0 : (size_t)connection - 1;
	size_t end = connection == 0 ? channel->count : RT_MIN(first + 1, channel->count);

	for (size_t i = first; i < end; i++)
		if (channel->connections[i] != NULL &&
		    rpc_connection_usable(channel->connections[i]))
			return true;
	return false;
}

/* ---- start and end ---- */

int rt_channel_new(struct rt_loop *loop, const char *target,
		   const struct rt_channel_options *options, struct rt_channel **ret)
{
	struct rt_channel *channel = rt_alloc(sizeof(*channel));

	channel->loop = loop;
	channel->metrics = options->metrics;
	channel->each = RT_MAX(options->connections, 1);
	channel->message_max_bytes = options->message_max_bytes > 0 ? options->message_max_bytes
								    : RPC_MESSAGE_STANDARD_BYTES;
	channel->freed_task.run = run_freed;
	channel->tls = options->tls;
	if (options->token != NULL)
		channel->authorization = rt_printf("Bearer %s", options->token);
	rt_list_init(&channel->tls_user.link);
	channel->tls_user.changed = certificates_changed;
	if (channel->tls != NULL)
		rt_tls_use(channel->tls, &channel->tls_user);
	rt_list_init(&channel->pool);
	channel->queue = rpc_queue_ref(loop);
	channel->nowhere = rpc_connection_nowhere(channel, target);
	if (!connect_all(channel, target)) {
		rt_channel_free(channel, NULL, NULL);
		return RT_INVALID;
	}
	*ret = channel;
	return RT_OK;
}

static void free_if_ended(struct rt_channel *channel)
{
	if (channel->closing && channel->call_count == 0 && rpc_names_stop(channel, free_if_ended))
		rt_loop_defer(channel->loop, &channel->freed_task);
}

void rpc_channel_call_ended(struct rt_channel *channel, struct rpc_connection *connection)
{
	channel->call_count--;
	close_if_left(channel, connection);
	free_if_ended(channel);
}

static void cancel_calls(const struct rpc_connection *connection)
{
	for (const struct rt_list *link = connection->calls.next; link != &connection->calls;
	     link = link->next)
		grpc_call_cancel(RT_CONTAINER_OF(link, struct client_call, link)->grpc, NULL);
}

void rt_channel_free(struct rt_channel *channel, void (*freed)(void *user), void *user)
{
	if (channel == NULL) {
		if (freed != NULL)
			freed(user);
		return;
	}
	channel->closing = true;
	channel->freed = freed;
	channel->freed_user = user;
	rt_list_remove(&channel->tls_user.link);
	rt_timer_stop(channel->loop, &channel->renew_timer);
	if (channel->prober != NULL)
		channel->prober->stop(channel);
	for (size_t i = 0; i < channel->count; i++)
		if (channel->connections[i] != NULL)
			cancel_calls(channel->connections[i]);
	cancel_calls(channel->nowhere);
	if (channel->early != NULL)
		cancel_calls(channel->early);
	free_if_ended(channel);
}

/* ---- the memory of its calls, kept for the next ones ---- */

struct client_call *rpc_client_call_new(struct rt_channel *channel)
{
	struct rt_list *pooled = rt_list_pop(&channel->pool);
	struct client_call *call;

	if (pooled != NULL) {
		channel->pool_count--;
		return RT_CONTAINER_OF(pooled, struct client_call, link);
	}
	call = rt_alloc(sizeof(*call));
	rt_list_init(&call->link);
	call->channel = channel;
	grpc_metadata_array_init(&call->initial);
	grpc_metadata_array_init(&call->trailing);
	return call;
}

void rpc_client_call_release(struct client_call *call)
{
	struct rt_channel *channel = call->channel;

	rpc_outgoing_drop(&call->outgoing);
	if (call->received != NULL)
		grpc_byte_buffer_destroy(RT_TAKE(call->received));
	grpc_slice_unref(call->message);
	grpc_call_unref(RT_TAKE(call->grpc));
	rt_status_done(&call->status);
	rt_arena_reset(&call->arena, RPC_ARENA_KEEP_BYTES);
	call->sending_bytes = call->queued_bytes = 0;
	rpc_metadata_reset(&call->initial);
	rpc_metadata_reset(&call->trailing);
	call->send_started = call->read_started = call->initial_asked = false;
	call->status_done = call->half_closed = call->cancelled = false;
	call->op = NULL;
	rt_list_remove(&call->link);
	if (channel->pool_count == POOL_MAX) {
		call_free(call);
		return;
	}
	rt_list_push(&channel->pool, &call->link);
	channel->pool_count++;
}
