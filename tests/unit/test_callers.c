/* Who may call: by API key and role, on a gateway's word, and within budgets. */
#include <interop_service.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/metrics.h"
#include "details.h"
#include "grpc/health/v1/health.pb-c.h"
#include "interpose/interpose.h"
#include "rpc/callers_internal.h"
#include "run.h"
#include "run_until.h"

enum { EMPTY_CALL, UNARY_CALL, OUTPUT_CALL, INPUT_CALL };
#define KEYS    5
#define AT_ONCE 40
#define MANY    1200 /* more than records are kept of those without calls */

static char folder[] = "/tmp/tandem-callers-XXXXXX";
static char callers_file[64];
static char keys[KEYS][RT_AUTH_KEY_TEXT], many_keys[MANY][RT_AUTH_KEY_TEXT];

static struct {
	struct rt_loop *loop;
	struct rt_auth *auth;
	struct rt_server *server;
	struct interop_service service;
	char address[64];
	struct rt_call *held[16];
	Grpc__Testing__SimpleResponse_Closure closures[16];
	size_t held_count;
	bool hold;
	size_t answer_bytes;
	struct rt_metrics *metrics;
	struct rt_identity seen; /* by the handler, last */
	char actor[RT_ACTOR_TEXT], peer[RPC_PEER_TEXT];
	int freed, drained;
} world;

/* Holds the call, or answers it. */
static void on_unary(Grpc__Testing__TestService_Service *service,
		     const Grpc__Testing__SimpleRequest *request,
		     Grpc__Testing__SimpleResponse_Closure closure, void *closure_data)
{
	static uint8_t bytes[65536];
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	(void)service;
	(void)request;
	world.seen = *rt_call_identity(closure_data);
	snprintf(world.actor, sizeof(world.actor), "%s", rt_call_actor(closure_data));
	snprintf(world.peer, sizeof(world.peer), "%s", rt_call_peer(closure_data));
	payload.body = (ProtobufCBinaryData){ world.answer_bytes, bytes };
	response.payload = &payload;
	if (!world.hold) {
		closure(&response, closure_data);
		return;
	}
	world.closures[world.held_count] = closure;
	world.held[world.held_count++] = closure_data;
	rt_loop_stop(world.loop);
}

static void answer_held(void)
{
	Grpc__Testing__SimpleResponse response = GRPC__TESTING__SIMPLE_RESPONSE__INIT;

	world.hold = false;
	for (size_t i = 0; i < world.held_count; i++)
		world.closures[i](&response, world.held[i]);
	world.held_count = 0;
}

static size_t held_wanted;
static bool enough_are_held(void)
{
	return world.held_count == held_wanted;
}

static void wait_for_held(size_t count)
{
	held_wanted = count;
	run_until_so(world.loop, enough_are_held);
}

/* Unary calls and streams to us are for customers and operators, the empty call is for anyone, other streams are for
 * operators. */
static unsigned int access_of(const char *path)
{
	if (strstr(path, "/UnaryCall") != NULL || strstr(path, "/StreamingInputCall") != NULL)
		return 1 << RT_ROLE_CUSTOMER | 1 << RT_ROLE_OPERATOR;
	if (strstr(path, "/EmptyCall") != NULL || strstr(path, "Health/Check") != NULL)
		return (1 << RT_ROLES) - 1;
	return 1 << RT_ROLE_OPERATOR;
}

/* The first `count` of the keys: two customers, an operator, a gateway, one that is another operator's. */
static void write_callers(size_t first, size_t count)
{
	static const struct {
		const char *name;
		enum rt_role role;
		const char *owner;
	} callers[KEYS] = {
		{ "anna", RT_ROLE_CUSTOMER, "cust_a" }, { "bert", RT_ROLE_CUSTOMER, "cust_b" },
		{ "olga", RT_ROLE_OPERATOR, NULL },     { "edge", RT_ROLE_GATEWAY, NULL },
		{ "otto", RT_ROLE_OPERATOR, NULL },
	};
	static struct rt_buf lines[KEYS];
	char other[80];
	FILE *file;

	snprintf(other, sizeof(other), "%s.new", callers_file);
	file = fopen(other, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	for (size_t i = first; i < first + count; i++) {
		struct rt_buf error = { 0 };

		if (lines[i].length == 0)
			CU_ASSERT_EQUAL_FATAL(rt_auth_key_new(callers[i].name, callers[i].role,
							      callers[i].owner, NULL, keys[i],
							      &lines[i], &error),
					      RT_OK);
		fprintf(file, "%.*s\n", (int)lines[i].length, lines[i].data);
	}
	fchmod(fileno(file), 0600);
	fclose(file);
	CU_ASSERT_EQUAL(rename(other, callers_file), 0);
}

static void start_at(const char *listen, bool asks, bool inner, struct rt_budgets budgets)
{
	const struct rt_auth_options auth = { .callers_file = callers_file };
	struct rt_server_options options = {
		.listen = listen, .inner = inner, .access = access_of, .budgets = budgets
	};

	memset(&world, 0, sizeof(world));
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	write_callers(0, KEYS);
	if (asks)
		CU_ASSERT_EQUAL_FATAL(rt_auth_new(world.loop, &auth, &world.auth), RT_OK);
	options.auth = world.auth;
	options.metrics = world.metrics = rt_metrics_new();
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world.loop, &options, &world.server), RT_OK);
	interop_service_init(&world.service, world.loop);
	world.service.base.unary_call = on_unary;
	rt_server_add(world.server, &world.service.base.base);
	CU_ASSERT_EQUAL_FATAL(rt_server_start(world.server), RT_OK);
	snprintf(world.address, sizeof(world.address), "%.*s:%d",
		 (int)(strrchr(listen, ':') - listen), listen, rt_server_port(world.server));
}

static void start(bool inner, struct rt_budgets budgets)
{
	start_at("127.0.0.1:0", true, inner, budgets);
}

static void end(void)
{
	rt_server_drain(world.server, 5000, tests_count, &world.drained);
	run_until_count(world.loop, &world.drained, 1);
	rt_server_free(world.server);
	rt_metrics_free(world.metrics);
	rt_auth_free(world.auth);
	run_for(world.loop, 0);
	rt_loop_free(world.loop);
}

/* The value of a series, by its line without the number; -1: there is none. */
static double metric(const char *series)
{
	struct rt_buf text = { 0 };
	char line[128];
	const char *at;
	double value = -1;

	rt_metrics_write(world.metrics, &text);
	rt_buf_add(&text, "", 1);
	snprintf(line, sizeof(line), "\n%s ", series);
	at = strstr(text.data, line);
	if (at != NULL)
		value = strtod(at + strlen(line), NULL);
	rt_buf_done(&text);
	return value;
}

/* ---- a caller ---- */

struct caller {
	struct rt_channel *channel;
	ProtobufCService *client;
};

/* `key` NULL: it says nothing. */
static struct caller caller_new(const char *key)
{
	const struct rt_channel_options options = { .token = key };
	struct caller caller;

	CU_ASSERT_EQUAL_FATAL(rt_channel_new(world.loop, world.address, &options, &caller.channel),
			      RT_OK);
	caller.client = rt_client_new(caller.channel, &grpc__testing__test_service__descriptor);
	return caller;
}

static void caller_free(struct caller *caller)
{
	int freed = 0;

	rt_client_free(caller->client);
	rt_channel_free(caller->channel, tests_count, &freed);
	run_until_count(world.loop, &freed, 1);
}

struct probe {
	struct rt_client_op op;
	int done, code, messages;
	uint8_t details[1024];
	size_t details_length;
};

static void probe_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct probe *probe = RT_CONTAINER_OF(op, struct probe, op);

	(void)response;
	probe->done++;
	probe->code = op->status.code;
	probe->details_length = RT_MIN(op->status.details_length, sizeof(probe->details));
	if (probe->details_length > 0)
		memcpy(probe->details, op->status.details, probe->details_length);
	rt_loop_stop(world.loop);
}

static void probe_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	(void)message;
	RT_CONTAINER_OF(op, struct probe, op)->messages++;
	rt_loop_stop(world.loop);
}

static const struct rt_call *behalf_call; /* its address is passed on, too */

static void start_call(const struct caller *caller, struct probe *probe, unsigned method,
		       const struct rt_identity *behalf)
{
	Grpc__Testing__Empty empty = GRPC__TESTING__EMPTY__INIT;
	Grpc__Testing__SimpleRequest simple = GRPC__TESTING__SIMPLE_REQUEST__INIT;
	Grpc__Testing__StreamingOutputCallRequest output =
		GRPC__TESTING__STREAMING_OUTPUT_CALL_REQUEST__INIT;
	const ProtobufCMessage *const requests[] = { &empty.base, &simple.base, &output.base,
						     NULL };

	/* Long, because the sanitizers and other work slow the machine down. */
	*probe = (struct probe){ .op = { .timeout_ms = 60000,
					 .caller = behalf,
					 .caller_call = behalf_call,
					 .done = probe_done } };
	rt_client_start(caller->client, method, requests[method], &probe->op);
}

static int call(const struct caller *caller, unsigned method, const struct rt_identity *behalf)
{
	struct probe probe;

	start_call(caller, &probe, method, behalf);
	run_until_count(world.loop, &probe.done, 1);
	return probe.code;
}

static bool has_reason(const struct probe *probe, const char *reason)
{
	return memmem(probe->details, probe->details_length, reason, strlen(reason)) != NULL;
}

/* ---- who ---- */

static void a_role_may_call_what_the_table_says(void)
{
	static const struct row {
		const char *name;
		int key;      /* -1: none; KEYS: one that nobody has */
		int codes[3]; /* EmptyCall, UnaryCall, StreamingOutputCall */
	} rows[] = {
		{ "nobody", -1, { 0, RT_CODE_UNAUTHENTICATED, RT_CODE_UNAUTHENTICATED } },
		{ "an unknown key",
		  KEYS,
		  { RT_CODE_UNAUTHENTICATED, RT_CODE_UNAUTHENTICATED, RT_CODE_UNAUTHENTICATED } },
		{ "a customer", 0, { 0, 0, RT_CODE_PERMISSION_DENIED } },
		{ "an operator", 2, { 0, 0, 0 } },
		{ "a gateway", 3, { 0, RT_CODE_PERMISSION_DENIED, RT_CODE_PERMISSION_DENIED } },
	};

	start(false, (struct rt_budgets){ 0 });
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *key = rows[i].key < 0 ? NULL : "tandem_that_nobody_has";
		struct caller caller = caller_new(
			rows[i].key >= 0 && rows[i].key < KEYS ? keys[rows[i].key] : key);

		/* Twice: the second time what was learned is used. */
		for (unsigned method = 0; method < 6; method++)
			TEST_ROW(call(&caller, method % 3, NULL) == rows[i].codes[method % 3],
				 rows[i].name);
		caller_free(&caller);
	}
	end();
}

static const char *actor_of_key(const char *who, const char *key)
{
	static char text[RT_ACTOR_TEXT];
	uint8_t digest[32];

	rt_sha256(key, strlen(key), digest);
	snprintf(text, sizeof(text), "%s (key %02x%02x%02x%02x)", who, digest[0], digest[1],
		 digest[2], digest[3]);
	return text;
}

static void the_handler_learns_who_it_is(void)
{
	static const struct rt_identity other = { .role = RT_ROLE_OPERATOR, .name = "mallory" };
	struct caller anna;

	start(false, (struct rt_budgets){ 0 });
	anna = caller_new(keys[0]);
	/* A customer's word on whom it calls for is not heard. */
	CU_ASSERT_EQUAL(call(&anna, UNARY_CALL, &other), 0);
	CU_ASSERT_STRING_EQUAL(world.seen.name, "anna");
	CU_ASSERT_STRING_EQUAL(world.seen.owner, "cust_a");
	CU_ASSERT_EQUAL(world.seen.role, RT_ROLE_CUSTOMER);
	/* Of two keys with one name it is seen which it was: its digest begins so. */
	CU_ASSERT_STRING_EQUAL(world.actor, actor_of_key("customer anna", keys[0]));
	CU_ASSERT(strncmp(world.peer, "127.0.0.1:", 10) == 0);
	caller_free(&anna);
	end();
}

static bool read_again(void)
{
	return rt_auth_generation(world.auth) > world.seen.generation;
}

static void who_is_no_longer_listed_is_not_known(void)
{
	struct caller anna;

	start(false, (struct rt_budgets){ 0 });
	anna = caller_new(keys[0]);
	CU_ASSERT_EQUAL(call(&anna, UNARY_CALL, NULL), 0);
	write_callers(1, KEYS - 1);
	run_until_so(world.loop, read_again);
	CU_ASSERT_EQUAL(call(&anna, UNARY_CALL, NULL), RT_CODE_UNAUTHENTICATED);
	caller_free(&anna);
	end();
}

static void behind_a_gateway_its_word_counts(void)
{
	static const struct rt_identity customer = { .role = RT_ROLE_CUSTOMER,
						     .name = "anna",
						     .owner = "cust_a" };
	static const struct rt_identity support = { .role = RT_ROLE_SUPPORT, .name = "sue" };
	struct caller gateway, anna, olga;

	start(true, (struct rt_budgets){ 0 });
	gateway = caller_new(keys[3]);
	anna = caller_new(keys[0]);
	olga = caller_new(keys[2]);
	CU_ASSERT_EQUAL(call(&gateway, UNARY_CALL, &customer), 0);
	CU_ASSERT_STRING_EQUAL(world.seen.name, "anna");
	CU_ASSERT_STRING_EQUAL(world.seen.owner, "cust_a");
	CU_ASSERT_EQUAL(world.seen.role, RT_ROLE_CUSTOMER);
	CU_ASSERT_EQUAL(call(&gateway, OUTPUT_CALL, &customer), RT_CODE_PERMISSION_DENIED);
	CU_ASSERT_EQUAL(call(&gateway, UNARY_CALL, &support), RT_CODE_PERMISSION_DENIED);
	CU_ASSERT_EQUAL(call(&gateway, UNARY_CALL, NULL), RT_CODE_PERMISSION_DENIED);
	/* Customers have to go through it, operators need not. */
	CU_ASSERT_EQUAL(call(&anna, UNARY_CALL, NULL), RT_CODE_PERMISSION_DENIED);
	CU_ASSERT_EQUAL(call(&olga, UNARY_CALL, NULL), 0);
	caller_free(&gateway);
	caller_free(&anna);
	caller_free(&olga);
	end();
}

/* With the caller goes how it said who it is, and its address. */
static void behind_a_gateway_the_callers_address_is_known(void)
{
	static const struct rt_identity customer = {
		.role = RT_ROLE_CUSTOMER, .name = "Zoë", .owner = "cust_a", .by = "key 9f86d081"
	};
	static const char *const listens[] = { "127.0.0.1:0", "[::1]:0" };

	for (size_t i = 0; i < RT_LENGTH(listens); i++) {
		struct caller gateway, olga;
		struct probe held;
		char address[RPC_PEER_TEXT];

		start_at(listens[i], true, true, (struct rt_budgets){ 0 });
		gateway = caller_new(keys[3]);
		olga = caller_new(keys[2]);
		world.hold = true;
		start_call(&olga, &held, UNARY_CALL, NULL);
		wait_for_held(1);
		world.hold = false;
		snprintf(address, sizeof(address), "%s", world.peer);
		TEST_ROW(strncmp(address, listens[i], strlen(listens[i]) - 1) == 0, listens[i]);
		TEST_ROW(call(&gateway, UNARY_CALL, &customer) == 0, listens[i]);
		TEST_ROW(strcmp(world.peer, address) != 0, listens[i]); /* it was not said */
		behalf_call = world.held[0];
		TEST_ROW(call(&gateway, UNARY_CALL, &customer) == 0, listens[i]);
		TEST_ROW(strcmp(world.peer, address) == 0, listens[i]);
		TEST_ROW(strcmp(world.actor, "customer Zoë (key 9f86d081)") == 0, world.actor);
		/* The word of others is not heard. */
		TEST_ROW(call(&olga, UNARY_CALL, &customer) == 0, listens[i]);
		TEST_ROW(strcmp(world.actor, actor_of_key("operator olga", keys[2])) == 0,
			 world.actor);
		behalf_call = NULL;
		answer_held();
		run_until_count(world.loop, &held.done, 1);
		caller_free(&gateway);
		caller_free(&olga);
		end();
	}
}

/* Who reaches a server that asks nobody may do everything: but a gateway that asks may stand before it, and its word makes
 * it less. */
static void where_nobody_is_asked_a_word_still_counts(void)
{
	static const struct rt_identity customer = { .role = RT_ROLE_CUSTOMER,
						     .name = "anna",
						     .owner = "cust_a" };
	struct caller gateway;

	start_at("127.0.0.1:0", false, true, (struct rt_budgets){ 0 });
	gateway = caller_new(NULL);
	CU_ASSERT_EQUAL(call(&gateway, UNARY_CALL, &customer), 0);
	CU_ASSERT_STRING_EQUAL(world.seen.owner, "cust_a");
	CU_ASSERT_STRING_EQUAL(world.actor, "customer anna");
	CU_ASSERT_EQUAL(call(&gateway, UNARY_CALL, NULL), 0);
	CU_ASSERT_STRING_EQUAL(world.seen.owner, "");
	CU_ASSERT_STRING_EQUAL(world.actor, "");
	caller_free(&gateway);
	end();
	/* The gateway itself has only callers of its own. */
	start_at("127.0.0.1:0", false, false, (struct rt_budgets){ 0 });
	gateway = caller_new(NULL);
	CU_ASSERT_EQUAL(call(&gateway, UNARY_CALL, &customer), 0);
	CU_ASSERT_STRING_EQUAL(world.actor, "");
	caller_free(&gateway);
	end();
}

#define LONG_127                                                                                   \
	"0123456789012345678901234567890123456789012345678901234567890123"                         \
	"012345678901234567890123456789012345678901234567890123456789012"

static void what_a_gateway_may_say(void)
{
#define WORD(text)                                                                                 \
	{                                                                                          \
		sizeof(text) - 1, (text)                                                           \
	}
	static const struct row {
		const char *why;
		struct {
			size_t length;
			const char *bytes;
		} caller, from; /* from NULL: it is not sent */
		bool good;
		const char *actor, *peer;
	} rows[] = {
		{ "no address", WORD("customer\0c\0anna"), { 0 }, true, "customer anna", "" },
		{ "all", WORD("customer\0c\0anna"),
		  WORD("token\0"
		       "10.1.2.3:5"),
		  true, "customer anna (token)", "10.1.2.3:5" },
		{ "IPv6 with a zone", WORD("stock\0\0CN:Ann Example"),
		  WORD("certificate\0[fe80::1%eth0]:65535"), true,
		  "stock CN:Ann Example (certificate)", "[fe80::1%eth0]:65535" },
		{ "nobody known", WORD("operator\0\0"), WORD("\0unix:"), true, "", "unix:" },
		{ "an empty word", WORD("operator\0\0olga"), WORD("\0"), true, "operator olga",
		  "" },
		{ "the longest", WORD("operator\0\0" LONG_127), WORD("certificate\0" LONG_127),
		  true, "operator " LONG_127 " (certificate)", LONG_127 },
		{ "nothing", WORD(""), { 0 }, false, NULL, NULL },
		{ "no such role", WORD("root\0\0x"), { 0 }, false, NULL, NULL },
		{ "the beginning of a role", WORD("oper\0\0x"), { 0 }, false, NULL, NULL },
		{ "no owner", WORD("operator\0x"), { 0 }, false, NULL, NULL },
		{ "a text too many", WORD("operator\0\0x\0y"), { 0 }, false, NULL, NULL },
		{ "a name too long", WORD("operator\0\0" LONG_127 "x"), { 0 }, false, NULL, NULL },
		{ "control characters in a name",
		  WORD("operator\0\0x\033[31m"),
		  { 0 },
		  false,
		  NULL,
		  NULL },
		{ "no UTF-8", WORD("operator\0\0\xff"), { 0 }, false, NULL, NULL },
		{ "an owner that is not printable",
		  WORD("customer\0c\n\0x"),
		  { 0 },
		  false,
		  NULL,
		  NULL },
		{ "no NUL in the second", WORD("operator\0\0x"), WORD("token"), false, NULL, NULL },
		{ "a text too many in it", WORD("operator\0\0x"),
		  WORD("token\0"
		       "1\0"
		       "2"),
		  false, NULL, NULL },
		{ "a way too long", WORD("operator\0\0x"), WORD("certificate of whom, then?\0"),
		  false, NULL, NULL },
		{ "an address too long", WORD("operator\0\0x"), WORD("token\0" LONG_127 "0"), false,
		  NULL, NULL },
		{ "blanks in an address", WORD("operator\0\0x"),
		  WORD("token\0"
		       "10.1.2.3 fake=1"),
		  false, NULL, NULL },
		{ "control characters in an address", WORD("operator\0\0x"),
		  WORD("token\0"
		       "10.1.2.3:5\n"),
		  false, NULL, NULL },
		{ "quotes in an address", WORD("operator\0\0x"),
		  WORD("token\0"
		       "\"10.1.2.3"),
		  false, NULL, NULL },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const struct row *row = &rows[i];
		grpc_slice caller =
			grpc_slice_from_copied_buffer(row->caller.bytes, row->caller.length);
		grpc_slice from = grpc_slice_from_copied_buffer(
			row->from.bytes == NULL ? "" : row->from.bytes, row->from.length);
		struct rt_identity identity;
		char peer[RPC_PEER_TEXT], actor[RT_ACTOR_TEXT];
		bool good = rpc_forwarded_read(&caller, row->from.bytes == NULL ? NULL : &from,
					       &identity, peer);

		TEST_ROW(good == row->good, row->why);
		if (row->good && good) {
			rt_identity_actor(&identity, actor);
			TEST_ROW(strcmp(actor, row->actor) == 0, row->why);
			TEST_ROW(strcmp(peer, row->peer) == 0, row->why);
			TEST_ROW(rt_actor_good(actor), row->why);
		}
		grpc_slice_unref(caller);
		grpc_slice_unref(from);
	}
}

static void what_is_passed_on_is_what_may_be_said(void)
{
	const struct rt_identity identity = { .role = RT_ROLE_STOCK,
					      .name = LONG_127,
					      .by = "token" };
	static const struct row {
		const char *peer, *sent;
	} rows[] = {
		{ NULL, "" },
		{ "10.1.2.3:5", "10.1.2.3:5" },
		{ "[2001:db8::1]:443", "[2001:db8::1]:443" },
		{ "unix:/run/a socket", "" },
		{ LONG_127, LONG_127 },
		{ LONG_127 "0", "" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char caller[RPC_CALLER_BYTES], from[RPC_FROM_BYTES], peer[RPC_PEER_TEXT];
		grpc_slice packed =
			grpc_slice_from_copied_buffer(caller, rpc_caller_pack(&identity, caller));
		grpc_slice more = grpc_slice_from_copied_buffer(
			from, rpc_from_pack(&identity, rows[i].peer, from));
		struct rt_identity got;

		TEST_ROW(rpc_forwarded_read(&packed, &more, &got, peer), rows[i].sent);
		TEST_ROW(strcmp(peer, rows[i].sent) == 0, rows[i].sent);
		TEST_ROW(strcmp(got.by, "token") == 0 && strcmp(got.name, LONG_127) == 0,
			 rows[i].sent);
		grpc_slice_unref(packed);
		grpc_slice_unref(more);
	}
}

static void addresses_are_shown_as_people_write_them(void)
{
	static const struct row {
		const char *uri, *text;
	} rows[] = {
		{ "ipv4:10.1.2.3:5000", "10.1.2.3:5000" },
		{ "ipv6:%5B2001:db8::1%5D:5000", "[2001:db8::1]:5000" },
		{ "ipv6:[::1]:5000", "[::1]:5000" },
		{ "ipv6:%5bfe80::1%25eth0%5d:5000", "[fe80::1%eth0]:5000" },
		{ "ipv6:%5", "%5" },
		{ "ipv6:%", "%" },
		{ "ipv6:%zz", "%zz" },
		{ "unix:/run/x%0a", "unix:/run/x%0a" },
		{ "unix:", "unix:" },
		{ "", "" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_arena arena = { .chunks = NULL };

		TEST_ROW(strcmp(rpc_peer_text(&arena, rows[i].uri), rows[i].text) == 0,
			 rows[i].uri);
		rt_arena_done(&arena);
	}
}

/* ---- budgets ---- */

/* Holds a call of `first`; then one of `second` is refused for this reason, until the first has ended. */
static void refused_while_held(const char *first, const char *second, const char *reason)
{
	struct caller one = caller_new(first), other;
	struct probe held, refused;

	other = strcmp(first, second) == 0 && strstr(reason, "CONNECTION") != NULL
			? one
			: caller_new(second);
	world.hold = true;
	start_call(&one, &held, UNARY_CALL, NULL);
	wait_for_held(world.held_count + 1);
	start_call(&other, &refused, UNARY_CALL, NULL);
	run_until_count(world.loop, &refused.done, 1);
	CU_ASSERT_EQUAL(refused.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT(has_reason(&refused, reason));
	CU_ASSERT(has_reason(&refused, "google.rpc.RetryInfo"));
	answer_held();
	run_until_count(world.loop, &held.done, 1);
	CU_ASSERT_EQUAL(call(&other, UNARY_CALL, NULL), 0);
	if (other.channel != one.channel)
		caller_free(&other);
	caller_free(&one);
}

static void a_connection_has_a_budget(void)
{
	struct caller other;
	struct probe probe;

	start(false, (struct rt_budgets){ .connection.calls = 1 });
	refused_while_held(keys[2], keys[2], "CALLS_PER_CONNECTION");
	/* Another connection has its own. */
	world.hold = true;
	other = caller_new(keys[2]);
	start_call(&other, &probe, UNARY_CALL, NULL);
	wait_for_held(1);
	refused_while_held(keys[2], keys[2], "CALLS_PER_CONNECTION");
	run_until_count(world.loop, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, 0);
	caller_free(&other);
	end();
}

static void a_caller_has_a_budget(void)
{
	struct caller bert;

	start(false, (struct rt_budgets){ .caller.calls = 1 });
	refused_while_held(keys[0], keys[0], "CALLS_PER_CALLER");
	bert = caller_new(keys[1]);
	CU_ASSERT_EQUAL(call(&bert, UNARY_CALL, NULL), 0);
	caller_free(&bert);
	end();
}

static struct details details_of_probe(const struct probe *probe)
{
	const struct rt_status status = { .code = probe->code,
					  .details = (void *)(uintptr_t)probe->details,
					  .details_length = probe->details_length };

	return details_of(&status);
}

/* Calls until one is refused for this reason; returns how many were not. Then it is as RetryInfo says. */
static int calls_until_refused(const struct caller *caller, const char *reason,
			       int64_t retry_max_ms)
{
	struct details details;
	struct probe probe;

	for (int good = 0; good < 100; good++) {
		start_call(caller, &probe, UNARY_CALL, NULL);
		run_until_count(world.loop, &probe.done, 1);
		if (probe.code == 0)
			continue;
		details = details_of_probe(&probe);
		CU_ASSERT_EQUAL(probe.code, RT_CODE_RESOURCE_EXHAUSTED);
		CU_ASSERT_STRING_EQUAL(details.reason, reason);
		CU_ASSERT(details.retry_ms > 0 && details.retry_ms <= retry_max_ms);
		run_for(world.loop, details.retry_ms);
		CU_ASSERT_EQUAL(call(caller, UNARY_CALL, NULL), 0);
		return good;
	}
	CU_FAIL("none was refused");
	return -1;
}

/* The metric has the share of whoever uses most: one is in debt for ten seconds. */
static bool budget_is_used(void)
{
	return metric("tandem_budget_used_ratio{budget=\"BYTES_PER_CALLER\"}") > 5;
}

static void budgets_used(void)
{
	struct caller anna, bert;

	start(false, (struct rt_budgets){ .caller.rate = 1000, .caller.bytes = 5000 });
	anna = caller_new(keys[0]);
	bert = caller_new(keys[1]);
	CU_ASSERT_EQUAL(metric("tandem_budget_used_ratio{budget=\"BYTES_PER_CALLER\"}"), 0);
	world.answer_bytes = 50000;
	CU_ASSERT_EQUAL(call(&anna, UNARY_CALL, NULL), 0);
	world.answer_bytes = 10;
	CU_ASSERT_EQUAL(call(&bert, UNARY_CALL, NULL), 0);
	run_until_so(world.loop, budget_is_used);
	CU_ASSERT(metric("tandem_budget_used_ratio{budget=\"BYTES_PER_CALLER\"}") <= 10.1);
	CU_ASSERT_EQUAL(metric("tandem_budget_used_ratio{budget=\"BYTES_PER_CONNECTION\"}"), 0);
	CU_ASSERT_EQUAL(metric("tandem_budget_used_ratio{budget=\"CALLS_PER_CALLER\"}"), 0);
	caller_free(&anna);
	caller_free(&bert);
	end();
}

static void a_caller_has_a_rate(void)
{
	struct caller anna, bert;

	start(false, (struct rt_budgets){ .caller.rate = 5 });
	anna = caller_new(keys[0]);
	bert = caller_new(keys[1]);
	CU_ASSERT(calls_until_refused(&anna, "RATE_PER_CALLER", 200) >= 5);
	CU_ASSERT_EQUAL(call(&bert, UNARY_CALL, NULL), 0);
	CU_ASSERT_EQUAL(metric("tandem_calls_refused_total{reason=\"RATE_PER_CALLER\"}"), 1);
	caller_free(&anna);
	caller_free(&bert);
	end();
}

/* A small request can have a large answer: both count. The answer is 20 000 bytes, a second's are 40 000: the third call
 * is made with what two have left, which may be little, and the next waits until that is paid. */
static void a_caller_has_bytes(void)
{
	struct caller anna, again;

	start(false, (struct rt_budgets){ .caller.bytes = 40000 });
	world.answer_bytes = 19990;
	anna = caller_new(keys[0]);
	CU_ASSERT(calls_until_refused(&anna, "BYTES_PER_CALLER", 510) >= 2);
	/* Another connection is no other caller. */
	again = caller_new(keys[0]);
	CU_ASSERT(calls_until_refused(&again, "BYTES_PER_CALLER", 510) >= 0);
	CU_ASSERT_EQUAL(metric("tandem_calls_refused_total{reason=\"BYTES_PER_CALLER\"}"), 2);
	caller_free(&anna);
	caller_free(&again);
	end();
}

static void a_connection_has_a_rate_and_bytes(void)
{
	struct caller one, two;

	start(false, (struct rt_budgets){ .connection = { .rate = 5, .bytes = 40000 } });
	one = caller_new(keys[0]);
	two = caller_new(keys[0]);
	CU_ASSERT(calls_until_refused(&one, "RATE_PER_CONNECTION", 200) >= 5);
	world.answer_bytes = 19990;
	CU_ASSERT(calls_until_refused(&two, "BYTES_PER_CONNECTION", 510) >= 2);
	caller_free(&one);
	caller_free(&two);
	end();
}

/* What unit/tokens says of them reaches the caller. */
static void refused_tokens_have_a_budget(void)
{
	struct caller mallory, anna;
	struct probe probe;
	struct details details;

	start(false, (struct rt_budgets){ .refused_tokens_per_address = 30 });
	mallory = caller_new("a.b.c");
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(call(&mallory, UNARY_CALL, NULL), RT_CODE_UNAUTHENTICATED);
	start_call(&mallory, &probe, UNARY_CALL, NULL);
	run_until_count(world.loop, &probe.done, 1);
	details = details_of_probe(&probe);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT_STRING_EQUAL(details.reason, "REFUSED_TOKENS_PER_ADDRESS");
	CU_ASSERT(details.retry_ms > 0 && details.retry_ms <= 34);
	anna = caller_new(keys[0]);
	CU_ASSERT_EQUAL(call(&anna, UNARY_CALL, NULL), 0);
	caller_free(&mallory);
	caller_free(&anna);
	end();
}

/* The connection's record in runtime/interpose learns of calls that are refused, once they are some. */
static int refused_of_known;
void __real_rt_connection_refused(struct rt_connection_id id);
void __wrap_rt_connection_refused(struct rt_connection_id id);
void __wrap_rt_connection_refused(struct rt_connection_id id)
{
	refused_of_known += id.serial != 0;
	__real_rt_connection_refused(id);
}

static int known_after(const struct caller *caller, int calls, bool refused)
{
	refused_of_known = 0;
	for (int i = 0; i < calls; i++)
		CU_ASSERT_EQUAL(call(caller, UNARY_CALL, NULL) != 0, refused);
	return refused_of_known;
}

static void refused_calls_are_laid_to_their_connection(void)
{
	struct caller mallory, anna;

	start(false, (struct rt_budgets){ .refused_tokens_per_address = 10 });
	mallory = caller_new("nobody");
	anna = caller_new(keys[0]);
	CU_ASSERT_EQUAL(known_after(&mallory, 41, true), 10);
	CU_ASSERT_EQUAL(known_after(&anna, 41, false), 0);
	caller_free(&mallory);
	caller_free(&anna);
	mallory = caller_new("a.b.c");
	CU_ASSERT_EQUAL(known_after(&mallory, 41, true), 10);
	caller_free(&mallory);
	end();
}

static void send_input(struct probe *probe, size_t bytes)
{
	static uint8_t body[65536];
	Grpc__Testing__StreamingInputCallRequest request =
		GRPC__TESTING__STREAMING_INPUT_CALL_REQUEST__INIT;
	Grpc__Testing__Payload payload = GRPC__TESTING__PAYLOAD__INIT;

	payload.body = (ProtobufCBinaryData){ bytes, body };
	request.payload = &payload;
	rt_client_send(&probe->op, &request.base);
}

/* Nothing of it is lost, it only takes as long as it must. */
static void a_stream_is_read_as_the_budgets_allow(void)
{
	static const struct {
		const char *name;
		struct rt_budget budget;
		size_t bytes;
	} rows[] = {
		{ "rate", { .rate = 10 }, 10 },
		{ "bytes", { .bytes = 10000 }, 1000 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct caller anna;
		struct probe probe;
		int64_t begun_ms;

		start(false, (struct rt_budgets){ .caller = rows[i].budget });
		anna = caller_new(keys[0]);
		CU_ASSERT_EQUAL(call(&anna, EMPTY_CALL, NULL), 0);
		begun_ms = rt_loop_now(world.loop);
		start_call(&anna, &probe, INPUT_CALL, NULL);
		for (int n = 0; n < 20; n++)
			send_input(&probe, rows[i].bytes);
		rt_client_half_close(&probe.op);
		run_until_count(world.loop, &probe.done, 1);
		TEST_ROW(probe.code == 0, rows[i].name);
		/* Half of them may come at once. */
		TEST_ROW(rt_loop_now(world.loop) - begun_ms >= 800, rows[i].name);
		TEST_ROW(metric("tandem_stream_reads_delayed_total") > 0, rows[i].name);
		caller_free(&anna);
		end();
	}
}

/* Adds many customers to the callers file. */
static void write_many(void)
{
	FILE *file = fopen(callers_file, "a");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	for (size_t i = 0; i < MANY; i++) {
		struct rt_buf line = { 0 }, error = { 0 };
		char name[32];

		snprintf(name, sizeof(name), "many-%zu", i);
		CU_ASSERT_EQUAL_FATAL(rt_auth_key_new(name, RT_ROLE_CUSTOMER, name, NULL,
						      many_keys[i], &line, &error),
				      RT_OK);
		fprintf(file, "%.*s\n", (int)line.length, line.data);
		rt_buf_done(&line);
	}
	fclose(file);
}

static bool all_are_known(void)
{
	return rt_auth_generation(world.auth) > world.seen.generation;
}

static int ended;

static void count_ended(struct rt_client_op *op, const ProtobufCMessage *response)
{
	(void)response;
	CU_ASSERT_EQUAL(op->status.code, 0);
	ended++;
}

/* Each calls once, on a connection of its own; some of them at the same time. */
static void many_call(void)
{
	static struct caller callers[AT_ONCE];
	static struct probe probes[AT_ONCE];

	world.seen.generation = rt_auth_generation(world.auth);
	write_many();
	run_until_so(world.loop, all_are_known);
	for (size_t i = 0; i < MANY; i += AT_ONCE) {
		int freed = 0;

		ended = 0;
		for (size_t n = 0; n < AT_ONCE; n++) {
			callers[n] = caller_new(many_keys[i + n]);
			start_call(&callers[n], &probes[n], UNARY_CALL, NULL);
			probes[n].op.done = count_ended;
		}
		run_until_count(world.loop, &ended, AT_ONCE);
		for (size_t n = 0; n < AT_ONCE; n++) {
			rt_client_free(callers[n].client);
			rt_channel_free(callers[n].channel, tests_count, &freed);
		}
		run_until_count(world.loop, &freed, AT_ONCE);
	}
}

static void many_callers_are_not_all_remembered(void)
{
	struct caller first;

	start(false, (struct rt_budgets){ .caller.bytes = 1000 * 1000 });
	many_call();
	CU_ASSERT(metric("tandem_callers{kind=\"connection\"}") <= 1024 + AT_ONCE);
	CU_ASSERT(metric("tandem_callers{kind=\"caller\"}") <= 1024 + AT_ONCE);
	first = caller_new(many_keys[0]);
	CU_ASSERT_EQUAL(call(&first, UNARY_CALL, NULL), 0);
	CU_ASSERT(metric("tandem_callers{kind=\"caller\"}") <= 1024 + AT_ONCE);
	caller_free(&first);
	end();
}

/* All of them are in debt, so that the only one without calls that could be forgotten is the one that was just made. */
static void who_is_in_debt_is_remembered(void)
{
	struct caller first;
	struct probe probe;

	start(false, (struct rt_budgets){ .caller.bytes = 1 });
	world.answer_bytes = 1000;
	many_call();
	CU_ASSERT(metric("tandem_callers{kind=\"connection\"}") <= 1024 + AT_ONCE);
	CU_ASSERT_EQUAL(metric("tandem_callers{kind=\"caller\"}"), MANY);
	first = caller_new(many_keys[0]);
	start_call(&first, &probe, UNARY_CALL, NULL);
	run_until_count(world.loop, &probe.done, 1);
	CU_ASSERT_EQUAL(probe.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT_STRING_EQUAL(details_of_probe(&probe).reason, "BYTES_PER_CALLER");
	caller_free(&first);
	end();
}

static bool no_call_is_left(void)
{
	return rt_server_calls(world.server) == 0;
}

static bool a_read_is_delayed(void)
{
	return metric("tandem_stream_reads_delayed_total") > 0;
}

static void a_stream_that_waits_to_be_read_can_be_cancelled(void)
{
	struct caller anna;
	struct probe probe;

	start(false, (struct rt_budgets){ .caller.bytes = 10 });
	anna = caller_new(keys[0]);
	start_call(&anna, &probe, INPUT_CALL, NULL);
	send_input(&probe, 10000);
	run_until_so(world.loop, a_read_is_delayed);
	rt_client_cancel(&probe.op);
	run_until_count(world.loop, &probe.done, 1);
	run_until_so(world.loop, no_call_is_left);
	CU_ASSERT_EQUAL(world.service.cancelled, 1);
	caller_free(&anna);
	end();
}

static void streams_have_a_budget(void)
{
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct caller olga;
	ProtobufCService *health;
	struct probe first, second;

	start(false, (struct rt_budgets){ .connection.streams = 1 });
	olga = caller_new(keys[2]);
	health = rt_client_new(olga.channel, &grpc__health__v1__health__descriptor);
	first = second =
		(struct probe){ .op = { .on_message = probe_message, .done = probe_done } };
	rt_client_start(health, 1, &request.base, &first.op);
	run_until_count(world.loop, &first.messages, 1);
	rt_client_start(health, 1, &request.base, &second.op);
	run_until_count(world.loop, &second.done, 1);
	CU_ASSERT_EQUAL(second.code, RT_CODE_RESOURCE_EXHAUSTED);
	CU_ASSERT(has_reason(&second, "STREAMS_PER_CONNECTION"));
	CU_ASSERT_EQUAL(call(&olga, UNARY_CALL, NULL), 0);
	rt_client_cancel(&first.op);
	run_until_count(world.loop, &first.done, 1);
	rt_client_free(health);
	caller_free(&olga);
	end();
}

static unsigned int no_access(const char *path)
{
	return strstr(path, "UnaryCall") == NULL;
}

static void a_method_without_a_row_keeps_the_server_from_starting(void)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0", .access = no_access };

	memset(&world, 0, sizeof(world));
	CU_ASSERT_EQUAL_FATAL(rt_loop_new(&world.loop), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_server_new(world.loop, &options, &world.server), RT_OK);
	interop_service_init(&world.service, world.loop);
	rt_server_add(world.server, &world.service.base.base);
	CU_ASSERT_EQUAL(rt_server_start(world.server), RT_INVALID);
	rt_server_free(world.server);
	run_for(world.loop, 0);
	rt_loop_free(world.loop);
}

static const struct test tests[] = {
	{ "a role may call what the table says", a_role_may_call_what_the_table_says },
	{ "the handler learns who it is", the_handler_learns_who_it_is },
	{ "who is no longer listed is not known", who_is_no_longer_listed_is_not_known },
	{ "behind a gateway its word counts", behind_a_gateway_its_word_counts },
	{ "behind a gateway the caller's address is known",
	  behind_a_gateway_the_callers_address_is_known },
	{ "where nobody is asked a word still counts", where_nobody_is_asked_a_word_still_counts },
	{ "what a gateway may say", what_a_gateway_may_say },
	{ "what is passed on is what may be said", what_is_passed_on_is_what_may_be_said },
	{ "addresses are shown as people write them", addresses_are_shown_as_people_write_them },
	{ "a connection has a budget", a_connection_has_a_budget },
	{ "a caller has a budget", a_caller_has_a_budget },
	{ "a caller has a rate", a_caller_has_a_rate },
	{ "how much of a budget is used", budgets_used },
	{ "a caller has bytes", a_caller_has_bytes },
	{ "a connection has a rate and bytes", a_connection_has_a_rate_and_bytes },
	{ "refused tokens have a budget", refused_tokens_have_a_budget },
	{ "refused calls are laid to their connection",
	  refused_calls_are_laid_to_their_connection },
	{ "a stream is read as the budgets allow", a_stream_is_read_as_the_budgets_allow },
	{ "a stream that waits to be read can be cancelled",
	  a_stream_that_waits_to_be_read_can_be_cancelled },
	{ "many callers are not all remembered", many_callers_are_not_all_remembered },
	{ "who is in debt is remembered", who_is_in_debt_is_remembered },
	{ "streams have a budget", streams_have_a_budget },
	{ "a method without a row keeps the server from starting",
	  a_method_without_a_row_keeps_the_server_from_starting },
};

int main(void)
{
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(callers_file, sizeof(callers_file), "%s/callers", folder);
	tests_log_nothing();
	rt_rpc_init();
	failed = tests_run("callers", tests, RT_LENGTH(tests));
	rt_rpc_shutdown();
	(void)unlink(callers_file);
	return failed | (rmdir(folder) != 0);
}
