/* callers.c - who makes the calls that a server gets, whether they may, and how much they may have under way.
 *
 *   rpc_caller_admit     a call has come: which connection, who is it, may this role call this method, is there
 *                        room in the budgets? Else it is refused, and the status says why.
 *     note_refused         where most calls of a connection are, others go first (interpose/connections.c)
 *   rpc_caller_received  a message of a client's stream has come; the next one is read when the budgets allow it
 *   rpc_caller_may_send  its answer is there: does the client read the others?
 *   rpc_caller_sent      gRPC has sent it
 *   rpc_caller_left      it has ended
 *
 * A connection is known by its auth context: gRPC makes one for each, and we hold it, so that no later one
 * can have the same address; one that was read elsewhere (http_call.c) by its struct rt_http_peer. Its record stays for a while after its last call, because most connections call again: it
 * remembers what the certificate says, and the last token and whose it is. What other tokens say, and how many
 * were refused, tokens.c knows. Budgets of a connection are in its record, those of a caller in a record of its own, which
 * all its connections share. Both kinds are kept in a list by use, and the oldest idle ones go.
 *
 * Without a struct rt_auth nobody is asked, and everybody may do everything: budgets of connections hold all the
 * same. */
#include "callers_internal.h"

#include <assert.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "budgets_internal.h"
#include "interpose/interpose.h"
#include "server_internal.h"
#include "tokens_internal.h"

#define uthash_fatal(text) abort()
#include <uthash.h>

#define IDLE_MAX           1024 /* records kept of connections, and of callers, without a call */
#define TOKEN_MAX_BYTES    8192
#define NAMES_MAX          64 /* of a certificate; further ones are not looked at */
#define RETRY_MS           1000
#define LOG_EVERY_MS       1000 /* refusals in the log; those in between are counted */
#define UNREAD_SHARE_BYTES 65536
#define REFUSED_FEW        32 /* calls of a connection, before it is looked up */
#define LOOK_EVERY_MS      1000
#define LARGE_METHODS      4 /* of a connection that are remembered for their large answers */

/* Why calls are refused: the label of the metric, and the ErrorInfo. */
#define UNKNOWN_CALLER        "UNAUTHENTICATED"
#define ROLE                  "ROLE"
#define UNREAD_PER_CONNECTION "UNREAD_PER_CONNECTION"
#define REASONS_MAX           12

/* Somebody who has said who it is. */
struct rpc_caller_named {
	UT_hash_handle hh; /* by key */
	struct rt_list link;
	char *key;
	struct rpc_usage usage;
	size_t connections; /* records that point here */
};

/* A method whose answers on this connection were large lately: the next ones will be, too. */
struct large_answers {
	const struct server_method *method; /* NULL: none */
	size_t bytes;
};

struct rpc_caller_connection {
	UT_hash_handle hh; /* by key */
	struct rt_list link;
	const void *key; /* the one of these that is set: held, so that no other has its address */
	grpc_auth_context *context; /* of a connection of gRPC */
	struct rt_http_peer *peer;  /* of another */
	struct rpc_usage usage;
	size_t refused;             /* calls */
	struct rt_connection_id id; /* once REFUSED_FEW were; or none */
	size_t unread_bytes;        /* of answers that are on their way to it */
	size_t expected_bytes;      /* of those that are not there yet, where they will be large */
	struct large_answers large[LARGE_METHODS];
	struct rpc_caller_named *named; /* NULL: nobody known */
	/* What the certificate and the token say; both hold for the generation that is in them. */
	bool certificate_read;
	struct rt_identity by_certificate; /* way RT_AUTH_NONE: it shows none that is known */
	char *token;                       /* the last, with its length; NULL: none */
	size_t token_length;
	struct rt_identity by_token;
};

struct rpc_callers {
	struct rt_loop *loop;
	struct rt_auth *auth; /* NULL: nobody is asked */
	bool inner;
	struct rt_budgets budgets;
	struct rpc_tokens *tokens; /* NULL: as auth */
	struct rpc_caller_connection *connections;
	struct rpc_caller_connection *latest; /* of the last call; most come several at a time */
	struct rpc_caller_named *named;
	struct rt_list used, named_used; /* by their last call; the first is the oldest */
	size_t idle, named_idle;
	struct {
		const char *name;
		struct rt_series *refused;
	} reasons[REASONS_MAX]; /* of refusals; without metrics there are none */
	size_t reason_count;
	size_t unread_bytes; /* of all connections */
	int64_t logged_ms;
	uint64_t unlogged;
	/* Statuses of refusals, because they cost more to make than the rest of a refusal: of callers that are not known, and
	 * the last one of a budget. */
	struct rt_status unknown, used_up;
	struct rpc_lack used_up_lack;
	/* NULL: no metrics. */
	struct rt_series *kept_connections, *kept_named, *delayed;
	struct used_series {
		struct rt_series *calls, *streams, *rate, *bytes;
	} used_connection, used_caller; /* and where there are no budgets */
	struct rt_series *used_unread;
	struct rt_timer look_timer;
};

static const struct rt_identity nobody = { .role = RT_ROLE_ANONYMOUS, .expires_ms = INT64_MAX };

/* ---- refusing ---- */

static void count_refused(struct rpc_callers *callers, const char *reason)
{
	for (size_t i = 0; i < callers->reason_count; i++) {
		if (strcmp(callers->reasons[i].name, reason) == 0)
			rt_series_add(callers->reasons[i].refused, 1);
	}
}

/* `why` is for the log alone. */
static void log_refused(struct server_call *call, const char *why)
{
	struct rpc_callers *callers = call->server->callers;
	int64_t now_ms = rt_loop_now(callers->loop);
	char trace[RT_TRACE_ID_TEXT];

	callers->unlogged++;
	if (callers->logged_ms != 0 && now_ms - callers->logged_ms < LOG_EVERY_MS)
		return;
	RT_LOG(RT_WARN, "a call was refused", RT_S("method", call->method->base.path),
	       RT_S("peer", rt_call_peer(&call->base)), RT_S("caller", rt_call_actor(&call->base)),
	       RT_S("reason", why), RT_I("refused", (int64_t)callers->unlogged),
	       RT_S("trace_id", rt_trace_find(rt_call_traceparent(&call->base), NULL, trace)));
	callers->logged_ms = now_ms;
	callers->unlogged = 0;
}

static bool refuse_unknown(struct server_call *call, const char *why, struct rt_status *status)
{
	rt_status_copy(status, &call->server->callers->unknown);
	count_refused(call->server->callers, UNKNOWN_CALLER);
	log_refused(call, why);
	return false;
}

static bool refuse_role(struct server_call *call, struct rt_status *status)
{
	const struct rt_identity *identity = call->base.identity;
	char why[100];

	rt_status_set(status, RT_CODE_PERMISSION_DENIED, "the role %s may not call %s here",
		      rt_role_name(identity->role), call->method->base.path);
	rt_status_info(status, ROLE);
	count_refused(call->server->callers, ROLE);
	snprintf(why, sizeof(why), "the role %s may not", rt_role_name(identity->role));
	log_refused(call, why);
	return false;
}

static bool refuse_budget(struct server_call *call, const struct rpc_lack *lack,
			  struct rt_status *status)
{
	struct rpc_callers *callers = call->server->callers;
	const struct rpc_lack *last = &callers->used_up_lack;

	if (last->reason != lack->reason || last->limit != lack->limit ||
	    last->retry_ms != lack->retry_ms) {
		callers->used_up_lack = *lack;
		rt_status_set(&callers->used_up, RT_CODE_RESOURCE_EXHAUSTED,
			      "the budget %s is used up: %lld", lack->reason,
			      (long long)lack->limit);
		rt_status_info(&callers->used_up, lack->reason);
		rt_status_retry(&callers->used_up, lack->retry_ms);
	}
	rt_status_copy(status, &callers->used_up);
	count_refused(callers, lack->reason);
	return false;
}

/* ---- records ---- */

/* Not in the table any more. */
static void connection_free(struct rpc_caller_connection *connection)
{
	rt_list_remove(&connection->link);
	if (connection->named != NULL)
		connection->named->connections--;
	if (connection->token != NULL)
		OPENSSL_clear_free(connection->token, connection->token_length);
	if (connection->context != NULL)
		grpc_auth_context_release(connection->context);
	rt_http_peer_free(connection->peer);
	free(connection);
}

static int64_t now(const struct rpc_callers *callers)
{
	return rt_loop_now(callers->loop);
}

/* How many records there are has changed. */
static void count_kept(struct rpc_callers *callers)
{
	if (callers->kept_connections == NULL)
		return;
	rt_series_set(callers->kept_connections, HASH_COUNT(callers->connections));
	rt_series_set(callers->kept_named, HASH_COUNT(callers->named));
}

static void named_free(struct rpc_caller_named *named)
{
	rt_list_remove(&named->link);
	free(named->key);
	free(named);
}

/* The list begins with those that were used least recently; those with calls are few. The last is the one that was
 * just made, and stays. */
static void forget_idle_connections(struct rpc_callers *callers)
{
	struct rt_list *link = callers->used.next;

	while (callers->idle > IDLE_MAX && link != callers->used.prev &&
	       callers->connections != NULL) {
		struct rpc_caller_connection *connection =
			RT_CONTAINER_OF(link, struct rpc_caller_connection, link);

		link = link->next;
		if (connection->usage.calls > 0)
			continue;
		HASH_DEL(callers->connections, connection);
		if (callers->latest == connection)
			callers->latest = NULL;
		connection_free(connection);
		callers->idle--;
	}
	count_kept(callers);
}

/* Who is in debt is remembered: a new record would have none. */
static void forget_idle_named(struct rpc_callers *callers)
{
	struct rt_list *link = callers->named_used.next;

	while (callers->named_idle > IDLE_MAX && link != callers->named_used.prev &&
	       callers->named != NULL) {
		struct rpc_caller_named *named =
			RT_CONTAINER_OF(link, struct rpc_caller_named, link);

		link = link->next;
		if (named->connections > 0 || !rpc_usage_is_idle(&named->usage, now(callers)))
			continue;
		HASH_DEL(callers->named, named);
		named_free(named);
		callers->named_idle--;
	}
	count_kept(callers);
}

/* The record of the call's connection; NULL: gRPC has no context for it. */
static struct rpc_caller_connection *connection_of(struct server_call *call)
{
	struct rpc_callers *callers = call->server->callers;
	struct rt_http_peer *peer = call->http != NULL ? call->http->peer : NULL;
	grpc_auth_context *context = peer == NULL ? grpc_call_auth_context(call->grpc) : NULL;
	const void *key = peer != NULL ? (const void *)peer : context;
	struct rpc_caller_connection *connection;

	if (key == NULL)
		return NULL;
	connection = callers->latest;
	if (connection == NULL || connection->key != key)
		HASH_FIND_PTR(callers->connections, &key, connection);
	if (connection != NULL) {
		if (context != NULL)
			grpc_auth_context_release(context);
		callers->latest = connection;
		return connection;
	}
	connection = rt_alloc(sizeof(*connection));
	connection->key = key;
	connection->context = context;
	if (peer != NULL)
		connection->peer = rt_http_peer_hold(peer);
	rpc_usage_init(&connection->usage, &callers->budgets.connection, now(callers));
	rt_list_init(&connection->link);
	rt_list_push(&callers->used, &connection->link);
	HASH_ADD_PTR(callers->connections, key, connection);
	callers->idle++;
	forget_idle_connections(callers);
	return connection;
}

/* The record that all connections of this identity share. */
static struct rpc_caller_named *named_of(struct rpc_callers *callers,
					 const struct rt_identity *identity)
{
	char key[RT_IDENTITY_NAME + 32];
	struct rpc_caller_named *named;

	snprintf(key, sizeof(key), "%s:%s", rt_auth_way_name(identity->way), identity->name);
	HASH_FIND_STR(callers->named, key, named);
	if (named != NULL)
		return named;
	named = rt_alloc(sizeof(*named));
	named->key = rt_strdup(key);
	rpc_usage_init(&named->usage, &callers->budgets.caller, now(callers));
	rt_list_init(&named->link);
	rt_list_push(&callers->named_used, &named->link);
	HASH_ADD_KEYPTR(hh, callers->named, named->key, strlen(named->key), named);
	callers->named_idle++;
	forget_idle_named(callers);
	return named;
}

/* ---- who ---- */

static const grpc_slice *received(const struct server_call *call, const char *key)
{
	for (size_t i = 0; i < call->metadata.count; i++)
		if (grpc_slice_str_cmp(call->metadata.metadata[i].key, key) == 0)
			return &call->metadata.metadata[i].value;
	return NULL;
}

static bool is_current(const struct rpc_callers *callers, const struct rt_identity *identity)
{
	return identity->generation == rt_auth_generation(callers->auth) &&
	       identity->expires_ms > rt_wall_us() / 1000;
}

/* The value of authorization; NULL: none. */
static const char *authorization(const struct server_call *call, size_t *ret_length)
{
	const grpc_slice *value;

	if (call->http != NULL) {
		*ret_length =
			call->http->authorization != NULL ? strlen(call->http->authorization) : 0;
		return call->http->authorization;
	}
	value = received(call, "authorization");
	if (value == NULL)
		return NULL;
	*ret_length = GRPC_SLICE_LENGTH(*value);
	return (const char *)GRPC_SLICE_START_PTR(*value);
}

/* Takes what follows "Bearer " in the value of authorization; false: it is something else. */
static bool bearer_of(const char *text, size_t length, const char **ret, size_t *ret_length)
{
	static const char scheme[] = "bearer ";
	size_t skip = sizeof(scheme) - 1;

	if (length <= skip || strncasecmp(text, scheme, skip) != 0)
		return false;
	while (skip < length && text[skip] == ' ')
		skip++;
	*ret = text + skip;
	*ret_length = length - skip;
	return *ret_length > 0 && *ret_length <= TOKEN_MAX_BYTES;
}

static int read_token(struct server_call *call, const char *token, size_t length,
		      struct rt_identity *ret, const char **ret_why, struct rpc_lack *ret_lack)
{
	struct rpc_callers *callers = call->server->callers;
	char *uri = call->http == NULL ? grpc_call_get_peer(call->grpc) : NULL;
	int rc = rpc_tokens_read(callers->tokens, uri != NULL ? uri : call->http->peer->uri, token,
				 length, now(callers), rt_wall_us() / 1000, ret, ret_why, ret_lack);

	if (uri != NULL)
		gpr_free(uri);
	return rc;
}

/* By its token. RT_NOT_FOUND: the call has none. RT_BUSY: it was not looked at, see *ret_lack. */
static int identify_by_token(struct server_call *call, struct rpc_caller_connection *connection,
			     const struct rt_identity **ret, const char **ret_why,
			     struct rpc_lack *ret_lack)
{
	struct rpc_callers *callers = call->server->callers;
	struct rt_identity identity;
	size_t length = 0;
	const char *token, *value = authorization(call, &length);
	int rc;

	if (value == NULL)
		return RT_NOT_FOUND;
	if (!bearer_of(value, length, &token, &length)) {
		*ret_why = "authorization is not a bearer token of at most 8 KiB";
		return RT_DENIED;
	}
	*ret = &connection->by_token;
	if (connection->token != NULL && length == connection->token_length &&
	    CRYPTO_memcmp(token, connection->token, length) == 0 &&
	    is_current(callers, &connection->by_token))
		return RT_OK;
	rc = read_token(call, token, length, &identity, ret_why, ret_lack);
	if (rc != RT_OK)
		return rc;
	if (connection->token != NULL)
		OPENSSL_clear_free(connection->token, connection->token_length);
	connection->token = OPENSSL_malloc(length);
	assert(connection->token != NULL);
	memcpy(connection->token, token, length);
	connection->token_length = length;
	connection->by_token = identity;
	return RT_OK;
}

/* Adds the values of a property of the certificate, as "<kind>:<value>". */
static size_t add_names(const grpc_auth_context *context, const char *property, const char *kind,
			struct rt_arena *arena, const char **names, size_t count)
{
	grpc_auth_property_iterator it =
		grpc_auth_context_find_properties_by_name(context, property);
	const grpc_auth_property *found;

	while (count < NAMES_MAX && (found = grpc_auth_property_iterator_next(&it)) != NULL) {
		if (memchr(found->value, '\0', found->value_length) != NULL)
			continue;
		names[count++] = rt_arena_printf(arena, "%s:%s", kind, found->value);
	}
	return count;
}

/* By its certificate, which TLS has verified. RT_NOT_FOUND: it shows none. */
static int identify_by_certificate(struct server_call *call,
				   struct rpc_caller_connection *connection,
				   const struct rt_identity **ret, const char **ret_why)
{
	struct rpc_callers *callers = call->server->callers;
	struct rt_arena arena = { .chunks = NULL };
	const grpc_auth_context *context = connection->context;
	const char *names[NAMES_MAX];
	size_t count = 0;
	int rc;

	*ret = &connection->by_certificate;
	if (connection->certificate_read && is_current(callers, &connection->by_certificate))
		return RT_OK;
	if (context != NULL ? !grpc_auth_context_peer_is_authenticated(context)
			    : !connection->peer->has_certificate)
		return RT_NOT_FOUND;
	if (context != NULL) {
		count = add_names(context, GRPC_X509_CN_PROPERTY_NAME, "CN", &arena, names, count);
		count = add_names(context, GRPC_PEER_DNS_PROPERTY_NAME, "DNS", &arena, names,
				  count);
		count = add_names(context, GRPC_PEER_URI_PROPERTY_NAME, "URI", &arena, names,
				  count);
		count = add_names(context, GRPC_PEER_EMAIL_PROPERTY_NAME, "email", &arena, names,
				  count);
	} else {
		for (; count < connection->peer->name_count && count < NAMES_MAX; count++)
			names[count] = connection->peer->names[count];
	}
	rc = rt_auth_certificate(callers->auth, names, count, rt_wall_us() / 1000,
				 &connection->by_certificate, ret_why);
	connection->certificate_read = rc == RT_OK;
	rt_arena_done(&arena);
	return rc;
}

/* The call's own copy: the record may change while it lasts. */
static void set_identity(struct server_call *call, const struct rt_identity *identity)
{
	call->base.identity = (const struct rt_identity *)(const void *)rt_arena_copy(
		&call->base.arena, (const char *)identity, sizeof(*identity));
}

/* Takes over what a gateway says of the caller for whom it calls. RT_NOT_FOUND: it says nothing. */
static int identify_by_word(struct server_call *call)
{
	/* Gateways call by gRPC. */
	const grpc_slice *caller = call->http == NULL ? received(call, RPC_CALLER_KEY) : NULL;
	struct rt_identity identity;
	char peer[RPC_PEER_TEXT];

	if (caller == NULL)
		return RT_NOT_FOUND;
	if (!rpc_forwarded_read(caller, received(call, RPC_FROM_KEY), &identity, peer))
		return RT_DENIED;
	identity.way = call->base.identity->way;
	set_identity(call, &identity);
	if (peer[0] != '\0')
		call->base.peer = rt_arena_copy(&call->base.arena, peer, strlen(peer));
	return RT_OK;
}

static bool refuse_word(struct server_call *call, struct rt_status *status)
{
	return refuse_unknown(call, "the gateway's word on the caller cannot be read", status);
}

/* *ret_forwarded: it is not the caller itself that calls, but a gateway. */
static bool identify(struct server_call *call, struct rpc_caller_connection *connection,
		     bool *ret_forwarded, struct rt_status *status)
{
	const struct rt_identity *direct = NULL;
	const char *why = "it shows neither a token nor a certificate";
	struct rpc_lack lack;
	int rc;

	call->base.identity = &nobody;
	if (connection == NULL)
		return refuse_unknown(call, "its connection is not known", status);
	rc = identify_by_token(call, connection, &direct, &why, &lack);
	if (rc == RT_BUSY)
		return refuse_budget(call, &lack, status);
	if (rc == RT_NOT_FOUND)
		rc = identify_by_certificate(call, connection, &direct, &why);
	if (rc == RT_NOT_FOUND)
		return true; /* some methods are for anyone */
	if (rc != RT_OK)
		return refuse_unknown(call, why, status);
	set_identity(call, direct);
	if (direct->role != RT_ROLE_GATEWAY)
		return true;
	rc = identify_by_word(call);
	*ret_forwarded = rc == RT_OK;
	return rc != RT_DENIED || refuse_word(call, status);
}

/* ---- may it ---- */

static bool is_allowed(struct server_call *call, bool forwarded, struct rt_status *status)
{
	const struct rpc_callers *callers = call->server->callers;
	const struct rt_identity *identity = call->base.identity;
	bool anonymous = identity->role == RT_ROLE_ANONYMOUS;

	if ((call->method->roles & 1u << identity->role) != 0 &&
	    (!callers->inner || forwarded || anonymous || identity->role == RT_ROLE_GATEWAY ||
	     identity->role == RT_ROLE_OPERATOR))
		return true;
	if (anonymous)
		return refuse_unknown(call, "it shows neither a token nor a certificate", status);
	return refuse_role(call, status);
}

/* ---- budgets ---- */

static bool is_stream(const struct server_call *call)
{
	return call->method->base.client_streams || call->method->base.server_streams;
}

/* NULL: none. The method NULL: a free entry. */
static const struct large_answers *large_of(const struct rpc_caller_connection *connection,
					    const struct server_method *method)
{
	for (size_t i = 0; i < LARGE_METHODS; i++) {
		if (connection->large[i].method == method)
			return &connection->large[i];
	}
	return NULL;
}

static size_t expected_of(const struct rpc_caller_connection *connection,
			  const struct server_method *method)
{
	const struct large_answers *large = large_of(connection, method);

	return large != NULL ? large->bytes : 0;
}

static void note_answer(struct rpc_caller_connection *connection,
			const struct server_method *method, size_t bytes)
{
	const struct large_answers *known = large_of(connection, method);
	struct large_answers *entry;

	if (known == NULL && bytes >= UNREAD_SHARE_BYTES)
		known = large_of(connection, NULL);
	if (known == NULL)
		return;
	entry = &connection->large[known - connection->large];
	*entry = (struct large_answers){ method, RT_MAX(bytes, entry->bytes - entry->bytes / 8) };
	if (entry->bytes < UNREAD_SHARE_BYTES)
		*entry = (struct large_answers){ 0 };
}

/* Whether the connection, should it read nothing, has room for one more answer of this size. */
static bool may_expect(const struct server_call *call,
		       const struct rpc_caller_connection *connection)
{
	size_t most = (size_t)call->server->callers->budgets.unread_bytes_per_connection;
	size_t there = connection->unread_bytes + connection->expected_bytes;
	size_t more = expected_of(connection, call->method);

	return more == 0 || most == 0 || there == 0 || there + more <= most;
}

static void end_expecting(struct server_call *call)
{
	call->connection->expected_bytes -= call->expected_bytes;
	call->expected_bytes = 0;
}

static bool refuse_unread(struct server_call *call, struct rt_status *status)
{
	int64_t most = call->server->callers->budgets.unread_bytes_per_connection;

	return refuse_budget(call, &(struct rpc_lack){ UNREAD_PER_CONNECTION, most, RETRY_MS },
			     status);
}

static bool has_room(struct server_call *call, struct rpc_caller_connection *connection,
		     struct rpc_caller_named *named, struct rt_status *status)
{
	struct rpc_callers *callers = call->server->callers;
	const struct rt_budgets *budgets = &callers->budgets;
	int64_t now_ms = now(callers);
	bool stream = is_stream(call);
	struct rpc_lack lack;

	if (!may_expect(call, connection))
		return refuse_unread(call, status);
	if (rpc_usage_has_room(&connection->usage, &budgets->connection, &rpc_budget_connection,
			       stream, now_ms, &lack) &&
	    (named == NULL || rpc_usage_has_room(&named->usage, &budgets->caller,
						 &rpc_budget_caller, stream, now_ms, &lack)))
		return true;
	return refuse_budget(call, &lack, status);
}

static void take_bytes(struct server_call *call, size_t bytes)
{
	if (call->connection != NULL)
		rpc_bucket_take(&call->connection->usage.bytes, bytes);
	if (call->named != NULL)
		rpc_bucket_take(&call->named->usage.bytes, bytes);
}

/* A call, or a message of a client's stream. */
static void take(struct server_call *call, size_t bytes)
{
	if (call->connection != NULL)
		rpc_bucket_take(&call->connection->usage.rate, 1);
	if (call->named != NULL)
		rpc_bucket_take(&call->named->usage.rate, 1);
	take_bytes(call, bytes);
}

static void begin(struct server_call *call, struct rpc_caller_connection *connection,
		  struct rpc_caller_named *named)
{
	struct rpc_callers *callers = call->server->callers;
	bool stream = is_stream(call);

	call->connection = connection;
	call->named = named;
	call->expected_bytes = expected_of(connection, call->method);
	connection->expected_bytes += call->expected_bytes;
	if (connection->usage.calls == 0)
		callers->idle--;
	rpc_usage_begin(&connection->usage, stream);
	if (callers->used.prev != &connection->link) {
		rt_list_remove(&connection->link);
		rt_list_push(&callers->used, &connection->link);
	}
	if (connection->named != named) {
		if (connection->named != NULL)
			connection->named->connections--;
		if (named != NULL)
			named->connections++;
		connection->named = named;
	}
	if (named == NULL)
		return;
	if (named->usage.calls == 0)
		callers->named_idle--;
	rpc_usage_begin(&named->usage, stream);
	rt_list_remove(&named->link);
	rt_list_push(&callers->named_used, &named->link);
}

static bool admit(struct server_call *call, struct rpc_caller_connection *connection, size_t bytes,
		  struct rt_status *status)
{
	struct rpc_callers *callers = call->server->callers;
	struct rpc_caller_named *named = NULL;

	if (callers->auth != NULL) {
		bool forwarded = false;

		if (!identify(call, connection, &forwarded, status) ||
		    !is_allowed(call, forwarded, status))
			return false;
		if (call->base.identity->way != RT_AUTH_NONE && !callers->inner)
			named = named_of(callers, call->base.identity);
	}
	if (connection == NULL || callers->inner)
		return true;
	/* Health must be heard from a server that is busy. */
	if (!call->method->always && !has_room(call, connection, named, status))
		return false;
	begin(call, connection, named);
	take(call, bytes);
	return true;
}

static void note_refused(struct server_call *call, struct rpc_caller_connection *connection)
{
	if (++connection->refused == REFUSED_FEW)
		connection->id = rt_connection_of(call->base.ops->peer(&call->base));
	rt_connection_refused(connection->id);
}

bool rpc_caller_admit(struct server_call *call, size_t bytes, struct rt_status *status)
{
	struct rpc_callers *callers = call->server->callers;
	struct rpc_caller_connection *connection;

	/* Who reaches such a server may do everything, so the word on a caller can only narrow that: a customer reaches its own
	 * orders alone, also where nobody is asked behind a gateway that asks. */
	if (callers->auth == NULL && callers->inner)
		return identify_by_word(call) != RT_DENIED || refuse_word(call, status);
	connection = connection_of(call);
	if (admit(call, connection, bytes, status))
		return true;
	/* Who is read by gRPC; others have one call at a time. */
	if (connection != NULL && !callers->inner && call->http == NULL)
		note_refused(call, connection);
	return false;
}

void rpc_caller_received(struct server_call *call, size_t bytes)
{
	take(call, bytes);
}

static int64_t wait_ms(struct rpc_usage *usage, int64_t now_ms)
{
	return RT_MAX(rpc_bucket_wait_ms(&usage->rate, now_ms),
		      rpc_bucket_wait_ms(&usage->bytes, now_ms));
}

int64_t rpc_caller_read_wait_ms(const struct server_call *call)
{
	struct rpc_callers *callers = call->server->callers;
	int64_t longest_ms = 0;

	if (call->connection != NULL)
		longest_ms = wait_ms(&call->connection->usage, now(callers));
	if (call->named != NULL)
		longest_ms = RT_MAX(longest_ms, wait_ms(&call->named->usage, now(callers)));
	if (longest_ms > 0 && callers->delayed != NULL)
		rt_series_add(callers->delayed, 1);
	return longest_ms;
}

void rpc_caller_sends(struct server_call *call, size_t bytes)
{
	take_bytes(call, bytes);
}

/* gRPC keeps an answer until the client lets it through. Half of the bound of the process is one connection's; who has
 * little there goes on beyond it. */
bool rpc_caller_may_send(struct server_call *call, size_t bytes, struct rt_status *status)
{
	struct rpc_callers *callers = call->server->callers;
	struct rpc_caller_connection *connection = call->connection;
	size_t most = (size_t)callers->budgets.unread_bytes_per_connection;

	if (connection == NULL)
		return true;
	end_expecting(call);
	note_answer(connection, call->method, bytes);
	if (most > 0 && connection->unread_bytes > 0 &&
	    (connection->unread_bytes + bytes > most ||
	     (callers->unread_bytes + bytes > 2 * most &&
	      connection->unread_bytes + bytes > UNREAD_SHARE_BYTES)))
		return refuse_unread(call, status);
	take_bytes(call, bytes);
	call->unread_bytes = bytes;
	connection->unread_bytes += bytes;
	callers->unread_bytes += bytes;
	return true;
}

void rpc_caller_sent(struct server_call *call)
{
	if (call->unread_bytes == 0)
		return;
	call->connection->unread_bytes -= call->unread_bytes;
	call->server->callers->unread_bytes -= call->unread_bytes;
	call->unread_bytes = 0;
}

void rpc_caller_left(struct server_call *call)
{
	struct rpc_callers *callers = call->server->callers;
	struct rpc_caller_connection *connection = call->connection;
	struct rpc_caller_named *named = RT_TAKE(call->named);

	if (connection == NULL)
		return;
	end_expecting(call);
	call->connection = NULL;
	rpc_usage_end(&connection->usage, is_stream(call));
	if (connection->usage.calls == 0)
		callers->idle++;
	if (named == NULL)
		return;
	rpc_usage_end(&named->usage, is_stream(call));
	if (named->usage.calls == 0)
		callers->named_idle++;
}

/* ---- how much of the budgets is used ---- */

static void keep_largest(struct rpc_shares *largest, const struct rpc_shares *shares)
{
	largest->calls = RT_MAX(largest->calls, shares->calls);
	largest->streams = RT_MAX(largest->streams, shares->streams);
	largest->rate = RT_MAX(largest->rate, shares->rate);
	largest->bytes = RT_MAX(largest->bytes, shares->bytes);
}

static void set_used(const struct used_series *series, const struct rpc_shares *shares)
{
	rt_series_set(series->calls, shares->calls);
	rt_series_set(series->streams, shares->streams);
	rt_series_set(series->rate, shares->rate);
	rt_series_set(series->bytes, shares->bytes);
}

/* Looks at all records, some thousands at most, rarely: calls cost nothing more for it. */
static void look(struct rt_timer *timer)
{
	struct rpc_callers *callers = RT_CONTAINER_OF(timer, struct rpc_callers, look_timer);
	const struct rt_budgets *budgets = &callers->budgets;
	struct rpc_shares of_connections = { 0 }, of_callers = { 0 }, shares;
	size_t unread = 0;

	for (struct rpc_caller_connection *connection = callers->connections; connection != NULL;
	     connection = connection->hh.next) {
		shares = rpc_usage_shares(&connection->usage, &budgets->connection, now(callers));
		keep_largest(&of_connections, &shares);
		unread = RT_MAX(unread, connection->unread_bytes);
	}
	for (struct rpc_caller_named *named = callers->named; named != NULL;
	     named = named->hh.next) {
		shares = rpc_usage_shares(&named->usage, &budgets->caller, now(callers));
		keep_largest(&of_callers, &shares);
	}
	set_used(&callers->used_connection, &of_connections);
	set_used(&callers->used_caller, &of_callers);
	if (budgets->unread_bytes_per_connection > 0)
		rt_series_set(callers->used_unread,
			      (double)unread / (double)budgets->unread_bytes_per_connection);
	rt_timer_start(callers->loop, timer, LOOK_EVERY_MS, look);
}

static struct used_series add_used(struct rt_metric *used, const struct rpc_budget_names *names)
{
	return (struct used_series){ rt_metric_series(used, &names->calls),
				     rt_metric_series(used, &names->streams),
				     rt_metric_series(used, &names->rate),
				     rt_metric_series(used, &names->bytes) };
}

static void begin_looking(struct rpc_callers *callers, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "budget", NULL };
	struct rt_metric *used = rt_metric(
		metrics, RT_GAUGE, "tandem_budget_used_ratio",
		"The largest share of a budget that one connection or caller uses. From 1 "
		"on its calls are refused.",
		labels);

	callers->used_connection = add_used(used, &rpc_budget_connection);
	callers->used_caller = add_used(used, &rpc_budget_caller);
	callers->used_unread =
		rt_metric_series(used, (const char *const[]){ UNREAD_PER_CONNECTION });
	rt_timer_start(callers->loop, &callers->look_timer, LOOK_EVERY_MS, look);
}

/* ---- start and end ---- */

static void add_reason(struct rpc_callers *callers, struct rt_metric *refused, const char *reason)
{
	size_t i = callers->reason_count++;

	callers->reasons[i].name = reason;
	callers->reasons[i].refused = rt_metric_series(refused, &reason);
}

static void register_metrics(struct rpc_callers *callers, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "reason", NULL }, *const kinds[] = { "kind", NULL };
	static const struct rpc_budget_names *const names[] = { &rpc_budget_connection,
								&rpc_budget_caller };
	static const char *const others[] = { UNKNOWN_CALLER, ROLE, UNREAD_PER_CONNECTION,
					      RPC_REFUSED_TOKENS };
	struct rt_metric *refused, *kept;

	refused = rt_metric(metrics, RT_COUNTER, "tandem_calls_refused_total",
			    "Calls that were refused for who made them, or for what "
			    "their caller has under way or took lately.",
			    labels);
	for (size_t i = 0; i < RT_LENGTH(others); i++)
		add_reason(callers, refused, others[i]);
	for (size_t i = 0; i < RT_LENGTH(names); i++) {
		add_reason(callers, refused, names[i]->calls);
		add_reason(callers, refused, names[i]->streams);
		add_reason(callers, refused, names[i]->rate);
		add_reason(callers, refused, names[i]->bytes);
	}
	callers->delayed = rt_metric_plain(metrics, RT_COUNTER, "tandem_stream_reads_delayed_total",
					   "Messages of clients' streams that were read later, "
					   "because their caller took too much lately.");
	kept = rt_metric(metrics, RT_GAUGE, "tandem_callers",
			 "Connections and callers that are known: with calls, and the last 1024 "
			 "without.",
			 kinds);
	callers->kept_connections = rt_metric_series(kept, (const char *const[]){ "connection" });
	callers->kept_named = rt_metric_series(kept, (const char *const[]){ "caller" });
}

struct rpc_callers *rpc_callers_new(struct rt_loop *loop, const struct rt_server_options *options)
{
	struct rpc_callers *callers = rt_alloc(sizeof(*callers));

	callers->loop = loop;
	callers->auth = options->auth;
	callers->inner = options->inner;
	callers->budgets = options->budgets;
	/* Not why: a caller that guesses would learn from it. */
	rt_status_set(&callers->unknown, RT_CODE_UNAUTHENTICATED,
		      "the call has no valid credentials: a bearer token, an API key or a client "
		      "certificate that is known here");
	rt_status_info(&callers->unknown, UNKNOWN_CALLER);
	if (callers->auth != NULL)
		callers->tokens =
			rpc_tokens_new(callers->auth, options->budgets.refused_tokens_per_address);
	rt_list_init(&callers->used);
	rt_list_init(&callers->named_used);
	if (options->metrics != NULL)
		register_metrics(callers, options->metrics);
	if (options->metrics != NULL && !options->inner)
		begin_looking(callers, options->metrics);
	return callers;
}

void rpc_callers_free(struct rpc_callers *callers)
{
	struct rt_list *link;

	rt_timer_stop(callers->loop, &callers->look_timer);
	rpc_tokens_free(callers->tokens);
	rt_status_done(&callers->unknown);
	rt_status_done(&callers->used_up);
	HASH_CLEAR(hh, callers->connections);
	HASH_CLEAR(hh, callers->named);
	while ((link = rt_list_pop(&callers->used)) != NULL)
		connection_free(RT_CONTAINER_OF(link, struct rpc_caller_connection, link));
	while ((link = rt_list_pop(&callers->named_used)) != NULL)
		named_free(RT_CONTAINER_OF(link, struct rpc_caller_named, link));
	free(callers);
}
