/* test_topology.c - connections to the masters of partitions, in virtual time: nodes that are made up answer
 * what a cluster or sentinels would, move slots, die and come back. */
#include "redis/topology.h"

#include <hiredis/hiredis.h>
#include <stdio.h>

#include "base/base.h"
#include "redis/key_slot.h"
#include "run.h"

#define NODES      8
#define PARTITIONS 4
#define OPS        32
#define TRAVEL_MS  1

/* ---- nodes ---- */

struct node {
	char host[16];
	int port;
	bool dead;         /* refuses connections */
	bool frozen;       /* answers nothing */
	bool is_master;    /* what HELLO says */
	const char *fault; /* its answer to every command with a key; NULL: it serves */
	int names;         /* SENTINEL GET-MASTER-ADDR-BY-NAME: the node; -1: none */
	bool garbage;      /* its answer about the masters makes no sense */
	bool forgot;       /* it knows no other node, and serves nothing */
	int connections, made, questions, clocks;
};
struct connection {
	struct rt_redis redis; /* first */
	struct rt_list list;
	struct rt_loop *loop;
	struct node *node; /* NULL: nothing is at this address */
	struct rt_redis_options options;
	bool up, reset;
	struct rt_list sent, lost; /* of struct sent */
	struct rt_timer come, answer, end;
};
struct sent {
	struct rt_list list;
	struct rt_redis_op *op;
	char words[3][64];
	int owner[PARTITIONS]; /* when it was sent */
	int64_t due_ms;
	int status;
};
static struct {
	struct rt_loop *loop;
	struct rt_topology *topology;
	struct node nodes[NODES];
	int owner[PARTITIONS]; /* node; -1: the slot is not served */
	struct rt_list connections;
	int strangers; /* connections to addresses without a node */
	struct rt_arena arena;
	struct seat {
		struct rt_redis *redis;
		int ups, downs;
		uint64_t epoch_in_on_state;
	} shared[PARTITIONS], own[PARTITIONS];
	struct op {
		struct rt_redis_op op;
		int calls, status, place;
		char text[64];
	} ops[OPS];
	int ends;
} f;

static redisReply *reply_of(int type)
{
	redisReply *reply = rt_arena_take(&f.arena, sizeof(*reply));

	*reply = (redisReply){ .type = type };
	return reply;
}

static redisReply *text_of(int type, const char *text)
{
	redisReply *reply = reply_of(type);

	reply->str = rt_arena_copy(&f.arena, text, strlen(text));
	reply->len = strlen(text);
	return reply;
}

static redisReply *int_of(long long n)
{
	redisReply *reply = reply_of(REDIS_REPLY_INTEGER);

	reply->integer = n;
	return reply;
}

static redisReply *array_of(size_t count)
{
	redisReply *reply = reply_of(REDIS_REPLY_ARRAY);

	reply->elements = count;
	reply->element = rt_arena_take(&f.arena, (count + 1) * sizeof(redisReply *));
	return reply;
}

static int slot_of(int partition)
{
	char key[32];

	snprintf(key, sizeof(key), "order:{%d}:events", partition);
	return rt_key_slot(key);
}

static redisReply *slots_reply(const int *owner)
{
	redisReply *reply = array_of(0);

	reply->element = rt_arena_take(&f.arena, PARTITIONS * sizeof(redisReply *));
	for (int p = 0; p < PARTITIONS; p++) {
		redisReply *range, *node;

		if (owner[p] < 0)
			continue;
		range = array_of(3);
		node = array_of(3);
		node->element[0] = text_of(REDIS_REPLY_STRING, f.nodes[owner[p]].host);
		node->element[1] = int_of(f.nodes[owner[p]].port);
		node->element[2] = text_of(REDIS_REPLY_STRING, "id");
		range->element[0] = int_of(slot_of(p));
		range->element[1] = int_of(slot_of(p));
		range->element[2] = node;
		reply->element[reply->elements++] = range;
	}
	return reply;
}

static redisReply *sentinel_reply(const struct node *node)
{
	redisReply *reply;
	char port[16];

	if (node->names < 0)
		return reply_of(REDIS_REPLY_NIL);
	snprintf(port, sizeof(port), "%d", f.nodes[node->names].port);
	reply = array_of(2);
	reply->element[0] = text_of(REDIS_REPLY_STRING, f.nodes[node->names].host);
	reply->element[1] = text_of(REDIS_REPLY_STRING, port);
	return reply;
}

static redisReply *hello_reply(const struct node *node)
{
	redisReply *reply = array_of(4);

	reply->element[0] = text_of(REDIS_REPLY_STRING, "server");
	reply->element[1] = text_of(REDIS_REPLY_STRING, "redis");
	reply->element[2] = text_of(REDIS_REPLY_STRING, "role");
	reply->element[3] = text_of(REDIS_REPLY_STRING, node->is_master ? "master" : "replica");
	return reply;
}

/* The second word is a partition's number: its node gives its port, others say where it is. */
static redisReply *key_reply(struct node *node, int partition)
{
	const struct node *owner = f.owner[partition] >= 0 ? &f.nodes[f.owner[partition]] : NULL;
	char text[64];

	if (node->fault != NULL)
		return text_of(REDIS_REPLY_ERROR, node->fault);
	if (owner == NULL)
		return text_of(REDIS_REPLY_ERROR, "CLUSTERDOWN Hash slot not served");
	snprintf(text, sizeof(text), "MOVED %d %s:%d", slot_of(partition), owner->host,
		 owner->port);
	if (owner != node)
		return text_of(REDIS_REPLY_ERROR, text);
	return int_of(node->port);
}

/* NULL: it does not answer yet. */
static redisReply *reply_to(struct node *node, const struct sent *sent)
{
	if (strcmp(sent->words[0], "BLOCK") == 0)
		return NULL;
	if (strcmp(sent->words[0], "HELLO") == 0)
		return hello_reply(node);
	if (strcmp(sent->words[0], "CLUSTER") != 0 && strcmp(sent->words[0], "SENTINEL") != 0)
		return key_reply(node, (int)strtol(sent->words[1], NULL, 10));
	node->questions++;
	if (node->garbage)
		return text_of(REDIS_REPLY_STATUS, "what");
	if (node->forgot)
		return array_of(0);
	return sent->words[0][0] == 'C' ? slots_reply(sent->owner) : sentinel_reply(node);
}

static void answer_due(struct rt_timer *timer);

static void arm(struct connection *connection)
{
	const struct sent *first = RT_CONTAINER_OF(connection->sent.next, struct sent, list);
	int64_t now = rt_loop_now(connection->loop);

	rt_timer_stop(connection->loop, &connection->answer);
	if (connection->up && !rt_list_empty(&connection->sent) && !connection->node->frozen)
		rt_timer_start(connection->loop, &connection->answer,
			       RT_MAX(first->due_ms - now, 0), answer_due);
}

static void answer_due(struct rt_timer *timer)
{
	struct connection *connection = RT_CONTAINER_OF(timer, struct connection, answer);
	struct sent *sent = RT_CONTAINER_OF(connection->sent.next, struct sent, list);
	redisReply *reply = reply_to(connection->node, sent);

	if (reply == NULL)
		return;
	rt_list_remove(&sent->list);
	sent->op->done(sent->op, rt_redis_reply_status(reply), reply);
	free(sent);
	arm(connection);
}

static void end_lost(struct connection *connection, int status)
{
	struct rt_list *at;

	while ((at = rt_list_pop(&connection->lost)) != NULL) {
		struct sent *sent = RT_CONTAINER_OF(at, struct sent, list);

		sent->op->done(sent->op, status != RT_OK ? status : sent->status, NULL);
		free(sent);
	}
}

static void end_due(struct rt_timer *timer)
{
	end_lost(RT_CONTAINER_OF(timer, struct connection, end), RT_OK);
}

static void come_due(struct rt_timer *timer);

/* It is lost, and tried again after a while. */
static void cut(struct connection *connection, int status)
{
	struct rt_list *at;

	if (!connection->up)
		return;
	connection->up = false;
	connection->node->connections--;
	rt_timer_stop(connection->loop, &connection->answer);
	if (connection->options.on_state != NULL)
		connection->options.on_state(&connection->redis, false,
					     connection->options.user_data);
	while ((at = rt_list_pop(&connection->sent)) != NULL) {
		struct sent *sent = RT_CONTAINER_OF(at, struct sent, list);

		sent->status = status;
		rt_list_push(&connection->lost, at);
	}
	end_lost(connection, RT_OK);
	rt_timer_start(connection->loop, &connection->come, 50, come_due);
}

static void come_due(struct rt_timer *timer)
{
	struct connection *connection = RT_CONTAINER_OF(timer, struct connection, come);

	if (connection->reset && connection->up) {
		connection->reset = false;
		cut(connection, RT_CANCELED);
		return;
	}
	if (connection->node == NULL || connection->node->dead) {
		rt_timer_start(connection->loop, timer, 50, come_due);
		return;
	}
	connection->up = true;
	connection->reset = false;
	connection->node->connections++;
	connection->node->made++;
	connection->redis.epoch++;
	if (connection->options.on_state != NULL)
		connection->options.on_state(&connection->redis, true,
					     connection->options.user_data);
	rt_redis_notify_up(&connection->redis);
}

static void node_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct connection *connection = RT_CONTAINER_OF(redis, struct connection, redis);
	struct sent *sent = rt_alloc(sizeof(*sent));

	CU_ASSERT_PTR_NULL(lengths);
	(void)timeout_ms;
	rt_list_init(&sent->list);
	sent->op = op;
	memcpy(sent->owner, f.owner, sizeof(sent->owner));
	sent->due_ms = rt_loop_now(connection->loop) + TRAVEL_MS;
	for (int i = 0; i < argc && i < 3; i++)
		snprintf(sent->words[i], sizeof(sent->words[i]), "%s", argv[i]);
	sent->status = RT_LOST;
	rt_list_push(connection->up ? &connection->sent : &connection->lost, &sent->list);
	if (connection->up)
		arm(connection);
	else
		rt_timer_start(connection->loop, &connection->end, 0, end_due);
}

static void node_reset(struct rt_redis *redis)
{
	struct connection *connection = RT_CONTAINER_OF(redis, struct connection, redis);

	connection->reset = true;
	rt_timer_start(connection->loop, &connection->come, 0, come_due);
}

static bool node_up(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct connection, redis)->up;
}

static const char *node_error(const struct rt_redis *redis)
{
	return node_up(redis) ? "" : "nobody there";
}

static size_t node_pending(const struct rt_redis *redis)
{
	const struct connection *connection =
		RT_CONTAINER_OF(redis, const struct connection, redis);
	size_t count = 0;

	for (const struct rt_list *at = connection->sent.next; at != &connection->sent;
	     at = at->next)
		count++;
	return count;
}

static void node_free(struct rt_redis *redis)
{
	struct connection *connection = RT_CONTAINER_OF(redis, struct connection, redis);
	struct rt_list *at;

	connection->options.on_state = NULL;
	cut(connection, RT_CANCELED);
	do {
		end_lost(connection, RT_CANCELED);
		while ((at = rt_list_pop(&connection->sent)) != NULL)
			rt_list_push(&connection->lost, at);
	} while (!rt_list_empty(&connection->lost));
	rt_timer_stop(connection->loop, &connection->come);
	rt_timer_stop(connection->loop, &connection->answer);
	rt_timer_stop(connection->loop, &connection->end);
	rt_list_remove(&connection->list);
	free(connection);
}

static int node_connect(void *connector, struct rt_loop *loop,
			const struct rt_redis_options *options, struct rt_redis **ret)
{
	static const struct rt_redis_ops ops = { .command = node_command,
						 .reset = node_reset,
						 .up = node_up,
						 .error = node_error,
						 .pending = node_pending,
						 .free = node_free };
	struct connection *connection = rt_alloc(sizeof(*connection));

	CU_ASSERT_PTR_EQUAL(connector, &f);
	connection->redis.ops = &ops;
	rt_list_init(&connection->redis.waiters);
	connection->loop = loop;
	connection->options = *options;
	rt_list_init(&connection->sent);
	rt_list_init(&connection->lost);
	rt_list_init(&connection->list);
	rt_list_push(&f.connections, &connection->list);
	for (int i = 0; i < NODES; i++) {
		if (f.nodes[i].port == options->port && strcmp(f.nodes[i].host, options->host) == 0)
			connection->node = &f.nodes[i];
	}
	if (connection->node == NULL)
		f.strangers++;
	else if (options->follow_clock)
		connection->node->clocks++;
	rt_timer_start(loop, &connection->come, TRAVEL_MS, come_due);
	*ret = &connection->redis;
	return RT_OK;
}

/* Cuts all connections to a node. */
static void node_cut(int node)
{
	struct rt_list cutting, *at;

	rt_list_init(&cutting);
	rt_list_move(&cutting, &f.connections);
	while ((at = rt_list_pop(&cutting)) != NULL) {
		struct connection *connection = RT_CONTAINER_OF(at, struct connection, list);

		rt_list_push(&f.connections, at);
		if (connection->node == &f.nodes[node])
			cut(connection, RT_LOST);
	}
}

static void node_kill(int node)
{
	f.nodes[node].dead = true;
	node_cut(node);
}

static void node_freeze(int node, bool frozen)
{
	f.nodes[node].frozen = frozen;
	for (struct rt_list *at = f.connections.next; at != &f.connections; at = at->next)
		arm(RT_CONTAINER_OF(at, struct connection, list));
}

/* ---- what is given out ---- */

static void on_state(struct rt_redis *redis, bool up, void *user)
{
	struct seat *seat = user;

	CU_ASSERT_EQUAL(rt_redis_up(redis), up);
	*(up ? &seat->ups : &seat->downs) += 1;
	CU_ASSERT_EQUAL(seat->ups - seat->downs, up); /* each change is told once */
	if (up)
		seat->epoch_in_on_state = rt_redis_epoch(redis);
}

static void seat_new(int partition, bool own)
{
	struct seat *seat = own ? &f.own[partition] : &f.shared[partition];
	struct rt_redis_options options = { .name = own ? "reader" : "commands",
					    .on_state = on_state,
					    .user_data = seat,
					    .follow_clock = true,
					    .partition = partition,
					    .blocks = own,
					    .pending_max = 8 };

	rt_topology_use(f.topology, &options);
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &options, &seat->redis) == RT_OK);
	CU_ASSERT_FALSE(rt_redis_up(seat->redis));
}

static void seat_free(struct seat *seat)
{
	rt_redis_free(RT_TAKE(seat->redis));
}

static void setup(void)
{
	memset(&f, 0, sizeof(f));
	CU_ASSERT_FATAL(rt_loop_new_manual(0, 7, &f.loop) == RT_OK);
	rt_list_init(&f.connections);
	for (int i = 0; i < NODES; i++) {
		snprintf(f.nodes[i].host, sizeof(f.nodes[i].host), "node%d", i);
		f.nodes[i].port = 7000 + i;
		f.nodes[i].is_master = true;
		f.nodes[i].names = 2;
	}
	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = p / 2; /* 0 0 1 1 */
}

static void begin(const char *url_text, bool follow_clock)
{
	const struct rt_redis_options options = { .name = "commands",
						  .user = "order",
						  .password = "secret",
						  .follow_clock = follow_clock,
						  .connect = node_connect,
						  .connector = &f };
	struct rt_redis_url *url = rt_alloc(sizeof(*url));
	char error[200];

	CU_ASSERT_FATAL(rt_redis_url_parse(url_text, url, error, sizeof(error)) == RT_OK);
	CU_ASSERT_FATAL(rt_topology_new(f.loop, url, &options, PARTITIONS, &f.topology) == RT_OK);
	free(url);
	for (int p = 0; p < PARTITIONS; p++)
		seat_new(p, false);
	seat_new(0, true);
	seat_new(2, true);
}

static void begin_cluster(void)
{
	begin("cluster://node0:7000,node1:7001", false);
	rt_loop_advance(f.loop, 1000);
}

static void teardown(void)
{
	for (int p = 0; p < PARTITIONS; p++) {
		seat_free(&f.shared[p]);
		seat_free(&f.own[p]);
	}
	rt_topology_free(RT_TAKE(f.topology));
	if (f.loop != NULL)
		rt_loop_run_due(f.loop);
	CU_ASSERT_TRUE(rt_list_empty(&f.connections));
	rt_loop_free(RT_TAKE(f.loop));
	rt_arena_done(&f.arena);
	for (int i = 0; i < OPS; i++)
		CU_ASSERT(f.ops[i].calls <= 1);
}

static void op_done(struct rt_redis_op *base, int status, const redisReply *reply)
{
	struct op *op = RT_CONTAINER_OF(base, struct op, op);

	op->calls++;
	op->status = status;
	op->place = ++f.ends;
	if (reply != NULL && reply->type == REDIS_REPLY_INTEGER)
		snprintf(op->text, sizeof(op->text), "%lld", reply->integer);
	else if (reply != NULL && reply->str != NULL)
		snprintf(op->text, sizeof(op->text), "%.60s", reply->str);
}

static void send(int i, const struct seat *seat, const char *command, int partition)
{
	char key[16];

	snprintf(key, sizeof(key), "%d", partition);
	rt_redis_command(seat->redis, &f.ops[i].op, 2, (const char *[]){ command, key }, NULL, 0,
			 op_done);
	CU_ASSERT_EQUAL(f.ops[i].calls, 0);
}

/* Sends the command number i to a partition, and lets it travel. */
static const struct op *ask(int i, int partition)
{
	send(i, &f.shared[partition], "GET", partition);
	rt_loop_advance(f.loop, 2 * TRAVEL_MS);
	CU_ASSERT_EQUAL(f.ops[i].calls, 1);
	return &f.ops[i];
}

static bool all_up(void)
{
	bool up = rt_redis_up(f.own[0].redis) && rt_redis_up(f.own[2].redis);

	for (int p = 0; p < PARTITIONS; p++)
		up = up && rt_redis_up(f.shared[p].redis);
	return up;
}

/* Every partition is served by its owner. */
static void check_served(int first_op)
{
	CU_ASSERT_TRUE(all_up());
	for (int p = 0; p < PARTITIONS; p++) {
		const struct op *op = ask(first_op + p, p);

		CU_ASSERT_EQUAL(op->status, RT_OK);
		CU_ASSERT_EQUAL(strtol(op->text, NULL, 10), f.nodes[f.owner[p]].port);
	}
}

static int questions(void)
{
	int count = 0;

	for (int i = 0; i < NODES; i++)
		count += f.nodes[i].questions;
	return count;
}

/* ---- answers that redirect ---- */

static void redirects(void)
{
	static const struct {
		const char *text;
		bool redirects;
		int status;
	} rows[] = {
		{ "MOVED 3999 127.0.0.1:6381", true, RT_UNREADY },
		{ "ASK 3999 127.0.0.1:6381", true, RT_UNREADY },
		{ "TRYAGAIN Multiple keys request during rehashing of slot", true, RT_UNREADY },
		{ "CLUSTERDOWN The cluster is down", true, RT_UNREADY },
		{ "READONLY You can't write against a read only replica.", true, RT_UNREADY },
		{ "LOADING Redis is loading the dataset in memory", true, RT_UNREADY },
		{ "MASTERDOWN Link with MASTER is down", true, RT_UNREADY },
		{ "UNBLOCKED force unblock from blocking operation, instance state changed "
		  "(master -> replica?)",
		  true, RT_UNREADY },
		{ "ERR Script attempted to access a non local key in a cluster node script: f, on "
		  "@user_function:3.",
		  true, RT_UNREADY },
		{ "UNBLOCKED the stream key no longer exists", false, RT_NOGROUP },
		{ "BUSY Redis is busy running a script", false, RT_UNREADY },
		{ "NOREPLICAS Not enough good replicas to write.", false, RT_UNREADY },
		{ "MOVEDX 1 a:1", false, RT_REMOTE },
		{ "ERR unknown", false, RT_REMOTE },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		redisReply *reply = text_of(REDIS_REPLY_ERROR, rows[i].text);

		TEST_ROW(rt_redis_reply_redirects(reply) == rows[i].redirects, rows[i].text);
		TEST_ROW(rt_redis_reply_status(reply) == rows[i].status, rows[i].text);
		reply->type = REDIS_REPLY_STRING;
		TEST_ROW(!rt_redis_reply_redirects(reply), rows[i].text);
	}
}

/* ---- one Redis ---- */

static void one(void)
{
	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = 3;
	begin("redis://node3:7003", true);
	rt_loop_advance(f.loop, 10);
	CU_ASSERT_EQUAL(f.nodes[3].connections, 4); /* one for all, two of their own, the clock's */
	CU_ASSERT_EQUAL(f.nodes[3].clocks, 1);
	check_served(0);
	for (int p = 0; p < PARTITIONS; p++) {
		CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[p].redis), 1);
		CU_ASSERT_TRUE(f.shared[p].redis->together);
	}

	/* It goes: commands end after on_state, and those sent now are refused. */
	send(4, &f.shared[1], "GET", 1);
	CU_ASSERT_EQUAL(rt_redis_pending(f.shared[1].redis), 1);
	CU_ASSERT_EQUAL(rt_redis_pending(f.shared[2].redis), 0);
	node_kill(3);
	CU_ASSERT_EQUAL(f.ops[4].status, RT_LOST);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	CU_ASSERT_STRING_EQUAL(rt_redis_error(f.shared[0].redis), "nobody there");
	send(5, &f.shared[2], "GET", 2);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(f.ops[5].status, RT_LOST);
	CU_ASSERT_EQUAL(f.shared[0].downs, 1);
	CU_ASSERT_EQUAL(f.nodes[3].questions, 0);
	f.nodes[3].dead = false;
	rt_loop_advance(f.loop, 100);
	check_served(6);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[0].redis), 2);
	CU_ASSERT_EQUAL(f.shared[0].epoch_in_on_state, 2);

	/* A replica is not left: there is no other. */
	f.nodes[3].fault = "READONLY You can't write against a read only replica.";
	CU_ASSERT_EQUAL(ask(10, 0)->status, RT_UNREADY);
	CU_ASSERT_TRUE(all_up());
}

static void unix_socket(void)
{
	struct node *node = &f.nodes[5];

	snprintf(node->host, sizeof(node->host), "/run/redis");
	node->port = 0;
	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = 5;
	begin("unix:/run/redis", false);
	rt_loop_advance(f.loop, 10);
	check_served(0);
}

static void order_and_bound(void)
{
	f.owner[1] = 0;
	begin_cluster();
	for (int i = 0; i < 10; i++)
		send(i, &f.shared[i % 2], "GET", i % 2);
	for (int i = 10; i < 17; i++)
		send(i, &f.shared[0], "GET", 0);
	CU_ASSERT_EQUAL(rt_redis_pending(f.shared[0].redis), 8);
	rt_loop_advance(f.loop, 5);
	for (int i = 0; i < 17; i++) {
		bool refused = i >= 13; /* eight are under way */

		CU_ASSERT_EQUAL(f.ops[i].calls, 1);
		CU_ASSERT_EQUAL(f.ops[i].status, refused ? RT_BUSY : RT_OK);
		if (!refused)
			CU_ASSERT(f.ops[i].place > i);
		if (i > 0 && !refused)
			CU_ASSERT(f.ops[i].place > f.ops[i - 1].place);
	}
	CU_ASSERT_EQUAL(f.nodes[0].connections, 2);
}

/* ---- a cluster ---- */

static void cluster(void)
{
	begin_cluster();
	check_served(0);
	CU_ASSERT_EQUAL(f.nodes[0].connections, 2);
	CU_ASSERT_EQUAL(f.nodes[1].connections, 2);
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT(questions() >= 60000 / 6250 && questions() <= 3 + 60000 / 3750);
	CU_ASSERT_EQUAL(f.shared[0].ups + f.shared[2].ups, 2);
	CU_ASSERT_FALSE(f.shared[0].redis->together);
	/* A slot moves without a command that would tell: the next question does. */
	f.owner[3] = 4;
	rt_loop_advance(f.loop, 7000);
	check_served(4);
	CU_ASSERT_EQUAL(f.shared[3].downs, 1);
	CU_ASSERT_EQUAL(f.shared[2].downs, 0);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[3].redis), 2);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[2].redis), 1);
}

static void only_the_last_seed_answers(void)
{
	begin("cluster://node6:7006,gone:1,node2:7002", false);
	f.nodes[6].dead = true;
	rt_loop_advance(f.loop, 3000);
	check_served(0);
	CU_ASSERT_EQUAL(f.nodes[2].connections, 0); /* it serves nothing */
}

static void moved(bool known)
{
	int to = known ? 1 : 5, before, at_node;

	begin_cluster();
	CU_ASSERT_EQUAL(ask(0, 0)->status, RT_OK);
	before = questions();
	at_node = f.nodes[0].questions;
	f.owner[0] = to;
	send(1, &f.shared[0], "GET", 0);
	send(2, &f.shared[1], "GET", 1);
	send(3, &f.shared[0], "GET", 0);
	rt_loop_advance(f.loop, TRAVEL_MS);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_UNREADY);
	CU_ASSERT_EQUAL(strncmp(f.ops[1].text, "MOVED ", 6), 0);
	CU_ASSERT_EQUAL(f.ops[2].status, RT_OK); /* the others go on */
	CU_ASSERT_EQUAL(f.ops[3].status, RT_UNREADY);
	CU_ASSERT(f.ops[1].place < f.ops[2].place && f.ops[2].place < f.ops[3].place);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.shared[0].redis), "MOVED"));
	rt_loop_advance(f.loop, 20);
	CU_ASSERT_TRUE(rt_redis_up(f.shared[0].redis)); /* asked at once */
	check_served(4);
	CU_ASSERT_EQUAL(f.shared[0].downs, 1);
	CU_ASSERT_EQUAL(f.shared[1].downs, 0);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[0].redis), 2);
	CU_ASSERT_TRUE(rt_redis_up(f.own[0].redis));
	CU_ASSERT_EQUAL(f.own[0].downs, 1);       /* the own connection has moved, too */
	CU_ASSERT_EQUAL(questions() - before, 1); /* the node that says MOVED knows it */
	CU_ASSERT_EQUAL(f.nodes[0].questions - at_node, 1);
}

static void moved_to_another(void)
{
	moved(true);
}

static void moved_to_unknown(void)
{
	moved(false);
}

/* What was sent to the old master is answered by it before the new one gets anything. */
static void order_across_masters(void)
{
	begin_cluster();
	send(0, &f.shared[0], "GET", 0);
	node_freeze(0, true);
	f.owner[0] = 1;
	rt_loop_advance(f.loop, 15000); /* a question finds it out */
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	CU_ASSERT_EQUAL(f.ops[0].calls, 0);
	CU_ASSERT_TRUE(rt_redis_up(f.shared[1].redis)); /* the connection has not broken */
	node_freeze(0, false);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_UNREADY);
	check_served(1);
	CU_ASSERT_EQUAL(f.shared[0].downs, 1);
}

static void cluster_down(void)
{
	int before;

	begin_cluster();
	f.nodes[0].fault = "CLUSTERDOWN The cluster is down";
	before = questions();
	for (int i = 0; i < 20; i++) {
		if (rt_redis_up(f.shared[0].redis))
			CU_ASSERT_EQUAL(ask(i, 0)->status, RT_UNREADY);
		rt_loop_advance(f.loop, 500);
	}
	CU_ASSERT(f.shared[0].downs > 5);
	CU_ASSERT(f.shared[0].downs < 30); /* 10 s */
	CU_ASSERT(questions() - before < 40);
	CU_ASSERT_EQUAL(f.shared[2].downs, 0);
	f.nodes[0].fault = NULL;
	rt_loop_advance(f.loop, 1000);
	check_served(20);
}

/* No answer says that a slot is served: its partition is down, not the others. */
static void uncovered(void)
{
	begin_cluster();
	f.owner[3] = -1;
	CU_ASSERT_EQUAL(ask(0, 3)->status, RT_UNREADY);
	rt_loop_advance(f.loop, 3000);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[3].redis));
	CU_ASSERT_EQUAL(f.shared[3].downs, 1);
	CU_ASSERT_TRUE(rt_redis_up(f.shared[2].redis));
	f.owner[3] = 0;
	rt_loop_advance(f.loop, 1000);
	check_served(1);
}

static void master_dies(void)
{
	begin_cluster();
	send(0, &f.shared[2], "GET", 2);
	send(1, &f.own[2], "BLOCK", 2);
	node_kill(1);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_LOST);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_LOST);
	CU_ASSERT_EQUAL(f.shared[2].downs, 1);
	rt_loop_advance(f.loop, 3000); /* nobody has taken over yet */
	CU_ASSERT_FALSE(rt_redis_up(f.shared[2].redis));
	CU_ASSERT(questions() < 20);
	CU_ASSERT_EQUAL(f.shared[0].downs, 0);
	f.owner[2] = f.owner[3] = 4; /* the replica */
	rt_loop_advance(f.loop, 700);
	check_served(2);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.own[2].redis), 2);
	/* The old one comes back and serves nothing. */
	f.nodes[1].dead = false;
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_EQUAL(f.nodes[1].connections, 0);
	CU_ASSERT_EQUAL(f.shared[2].downs, 1);
}

/* The connection to a master breaks and comes back: the epoch is another one. */
static void connection_breaks(void)
{
	begin_cluster();
	node_cut(0);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	CU_ASSERT_FALSE(rt_redis_up(f.shared[1].redis));
	CU_ASSERT_TRUE(rt_redis_up(f.shared[2].redis));
	rt_loop_advance(f.loop, 500);
	check_served(0);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[1].redis), 2);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[2].redis), 1);
}

static void all_die(void)
{
	int made, before;

	begin_cluster();
	for (int i = 0; i < NODES; i++)
		node_kill(i);
	made = f.strangers;
	before = questions();
	rt_loop_advance(f.loop, 60000);
	CU_ASSERT_EQUAL(questions(), before);
	CU_ASSERT_EQUAL(f.strangers, made);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	CU_ASSERT_STRING_NOT_EQUAL(rt_redis_error(f.shared[0].redis), "");
	/* All come back, the masters are others. */
	for (int i = 0; i < NODES; i++)
		f.nodes[i].dead = false;
	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = 6 - p;
	rt_loop_advance(f.loop, 3000);
	check_served(0);
	CU_ASSERT_EQUAL(f.shared[0].ups, 2);
}

static void frozen_node_is_not_waited_for(void)
{
	begin_cluster();
	node_freeze(1, true);
	f.owner[1] = 5;
	CU_ASSERT_EQUAL(ask(0, 1)->status, RT_UNREADY);
	rt_loop_advance(f.loop, 2000);
	CU_ASSERT_EQUAL(ask(1, 1)->status, RT_OK);
	CU_ASSERT_TRUE(rt_redis_up(f.shared[2].redis));
	/* What it answers later, to a question that was given up, is of no interest. */
	rt_loop_advance(f.loop, 20000);
	f.nodes[1].garbage = true;
	node_freeze(1, false);
	rt_loop_advance(f.loop, 10);
	f.nodes[1].garbage = false;
	check_served(2);
}

/* The answer to an earlier question is not taken for that to a later one, which waits for it. */
static void late_answer(void)
{
	int before;

	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = 0;
	begin("cluster://node0:7000", false);
	rt_loop_advance(f.loop, 1000);
	check_served(0);
	node_freeze(0, true);
	rt_loop_advance(f.loop, 8000); /* it is asked, and given up */
	f.owner[1] = 1;
	rt_loop_advance(f.loop, 4000); /* and asked again */
	CU_ASSERT_TRUE(all_up());
	before = f.nodes[0].questions;
	node_freeze(0, false);
	rt_loop_advance(f.loop, 20);
	CU_ASSERT_EQUAL(f.nodes[0].questions - before, 1); /* no other was sent behind it */
	rt_loop_advance(f.loop, 650);
	check_served(4);
	CU_ASSERT_EQUAL(f.shared[1].downs, 1);
	CU_ASSERT_EQUAL(f.shared[0].downs, 0);
}

static void answer_without_sense(void)
{
	begin_cluster();
	f.nodes[0].garbage = f.nodes[1].garbage = true;
	rt_loop_advance(f.loop, 30000);
	check_served(0); /* what was known still is */
	CU_ASSERT_EQUAL(f.shared[0].downs, 0);
	f.nodes[1].garbage = false;
	f.owner[0] = 1;
	rt_loop_advance(f.loop, 7000);
	check_served(4);
}

/* A master comes back without its data and its nodes.conf: whom the others serve does not notice. */
static void node_forgets(void)
{
	begin_cluster();
	f.nodes[0].forgot = true;
	f.nodes[0].fault = "CLUSTERDOWN Hash slot not served";
	node_cut(0);
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_EQUAL(ask(0, 0)->status, RT_UNREADY);
	CU_ASSERT_EQUAL(ask(1, 2)->status, RT_OK);
	CU_ASSERT_EQUAL(f.shared[2].downs + f.shared[3].downs + f.own[2].downs, 0);
	f.owner[0] = f.owner[1] = 4; /* its replica */
	rt_loop_advance(f.loop, 1000);
	check_served(2);
}

/* ---- connections of their own, reset, free ---- */

static void own_follows(void)
{
	begin_cluster();
	send(0, &f.own[0], "BLOCK", 0);
	rt_loop_advance(f.loop, 10);
	CU_ASSERT_EQUAL(ask(1, 0)->status, RT_OK); /* it does not hold up the shared one */
	f.owner[0] = 5;
	rt_loop_advance(f.loop, 7000);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_LOST);
	send(2, &f.own[0], "GET", 0);
	rt_loop_advance(f.loop, 5);
	CU_ASSERT_EQUAL(strtol(f.ops[2].text, NULL, 10), 7005);
	/* Its own answer says that it has moved. */
	f.owner[0] = 6;
	send(3, &f.own[0], "GET", 0);
	rt_loop_advance(f.loop, 200);
	CU_ASSERT_EQUAL(f.ops[3].status, RT_UNREADY);
	check_served(4);
}

static void resets(void)
{
	begin_cluster();
	send(0, &f.own[0], "BLOCK", 0);
	rt_loop_advance(f.loop, 5);
	rt_redis_reset(f.own[0].redis);
	rt_loop_advance(f.loop, 1);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_CANCELED);
	rt_loop_advance(f.loop, 500);
	CU_ASSERT_TRUE(rt_redis_up(f.own[0].redis));
	CU_ASSERT_EQUAL(rt_redis_epoch(f.own[0].redis), 2);

	/* A shared one: what this partition has under way, and nothing else. */
	send(1, &f.shared[0], "GET", 0);
	send(2, &f.shared[1], "GET", 1);
	rt_redis_reset(f.shared[0].redis);
	CU_ASSERT_EQUAL(f.ops[1].calls, 0);
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_CANCELED);
	CU_ASSERT_EQUAL(rt_redis_pending(f.shared[0].redis), 0);
	rt_loop_advance(f.loop, 5);
	CU_ASSERT_EQUAL(f.ops[2].status, RT_OK);
	CU_ASSERT_EQUAL(f.shared[0].downs, 0);
	check_served(3);
}

static void freed_under_way(void)
{
	begin_cluster();
	send(0, &f.shared[0], "GET", 0);
	send(1, &f.shared[1], "GET", 1);
	send(2, &f.own[2], "BLOCK", 2);
	seat_free(&f.shared[0]);
	seat_free(&f.own[2]);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_CANCELED);
	CU_ASSERT_EQUAL(f.ops[2].status, RT_CANCELED);
	CU_ASSERT_EQUAL(f.shared[0].downs, 0);
	rt_loop_advance(f.loop, 5);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_OK);
	CU_ASSERT_EQUAL(f.nodes[1].connections, 1); /* its own is closed */
	/* Refused, and freed before that was told. */
	node_kill(1);
	send(3, &f.shared[2], "GET", 2);
	seat_free(&f.shared[2]);
	CU_ASSERT_EQUAL(f.ops[3].status, RT_CANCELED);
	/* All of a topology at once, with a question under way. */
	send(4, &f.shared[1], "GET", 1);
}

static void freed_at_once(void)
{
	begin("cluster://node0:7000", false);
	send(0, &f.shared[0], "GET", 0);
	rt_loop_run_due(f.loop);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_LOST);
	CU_ASSERT_STRING_NOT_EQUAL(rt_redis_error(f.shared[0].redis), "");
}

static struct rt_redis_waiter waiter;
static int waiter_ups;

static void waiter_up(struct rt_redis_waiter *up)
{
	CU_ASSERT_PTR_EQUAL(up, &waiter);
	waiter_ups++;
	send(0, &f.shared[0], "GET", 0);
}

static void waiters(void)
{
	begin("cluster://node0:7000", false);
	rt_list_init(&waiter.link);
	waiter_ups = 0;
	rt_redis_await(f.shared[0].redis, &waiter, waiter_up);
	rt_loop_advance(f.loop, 100);
	CU_ASSERT_EQUAL(waiter_ups, 1);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_OK);
	node_cut(0);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(waiter_ups, 1);
}

/* ---- the clock ---- */

static int clock_node(void)
{
	int found = -1, count = 0;

	for (struct rt_list *at = f.connections.next; at != &f.connections; at = at->next) {
		const struct connection *connection = RT_CONTAINER_OF(at, struct connection, list);

		if (connection->options.follow_clock) {
			count++;
			found = (int)(connection->node - f.nodes);
		}
	}
	CU_ASSERT_EQUAL(count, 1);
	return found;
}

/* One connection follows a clock: that to the master of partition 0; no partition is up before. */
static void one_clock(void)
{
	f.nodes[0].dead = true;
	begin("cluster://node1:7001", true);
	rt_loop_advance(f.loop, 3000);
	CU_ASSERT_EQUAL(f.nodes[1].connections, 2);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[2].redis));
	CU_ASSERT_EQUAL(clock_node(), 0);
	f.nodes[0].dead = false;
	rt_loop_advance(f.loop, 1000);
	check_served(0);
	/* Partition 0 moves to a master that has a connection already. */
	f.owner[0] = 1;
	rt_loop_advance(f.loop, 7000);
	CU_ASSERT_EQUAL(clock_node(), 1);
	check_served(4);
	CU_ASSERT_EQUAL(f.shared[0].downs, 1);
	CU_ASSERT_EQUAL(f.shared[2].downs, 0); /* who is there already does not notice */
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[2].redis), 1);
	node_kill(1);
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_TRUE(rt_redis_up(f.shared[1].redis)); /* the clock goes on by itself */
	f.owner[0] = f.owner[2] = f.owner[3] = 6;
	rt_loop_advance(f.loop, 1000);
	CU_ASSERT_EQUAL(clock_node(), 6);
	check_served(8);
}

/* ---- sentinels ---- */

static void begin_sentinel(void)
{
	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = 2;
	begin("sentinel://node6:7006,node7:7007/tandem", true);
	rt_loop_advance(f.loop, 1500);
}

static void all_at(int node)
{
	for (int p = 0; p < PARTITIONS; p++)
		f.owner[p] = node;
}

static void sentinel(void)
{
	begin_sentinel();
	check_served(0);
	CU_ASSERT_EQUAL(f.nodes[2].connections, 4);
	CU_ASSERT_EQUAL(f.nodes[6].connections + f.nodes[7].connections, 1);
	CU_ASSERT_EQUAL(clock_node(), 2);
	for (struct rt_list *at = f.connections.next; at != &f.connections; at = at->next) {
		const struct connection *connection = RT_CONTAINER_OF(at, struct connection, list);

		CU_ASSERT_EQUAL(connection->options.user == NULL,
				connection->options.port == 7006 ||
					connection->options.port == 7007 ||
					strcmp(connection->options.name, "reader") == 0);
	}
	/* The master dies, and the sentinels name the replica. */
	node_kill(2);
	rt_loop_advance(f.loop, 2000);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	f.nodes[6].names = f.nodes[7].names = 3;
	all_at(3);
	rt_loop_advance(f.loop, 1500);
	check_served(4);
	CU_ASSERT_EQUAL(f.shared[0].downs, 1);
	CU_ASSERT_EQUAL(clock_node(), 3);
}

/* While a master is dead nobody waits for it: the new one is found by the next question. */
static void failovers_by_sentinel(void)
{
	begin_sentinel();
	for (int i = 0; i < 20; i++) {
		int to = 3 - i % 2;

		node_kill(5 - to);
		rt_loop_advance(f.loop, 2000 + 37 * i);
		CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
		f.nodes[to].dead = false;
		f.nodes[6].names = f.nodes[7].names = to;
		all_at(to);
		rt_loop_advance(f.loop, 650);
		CU_ASSERT_TRUE(rt_redis_up(f.shared[0].redis));
	}
	CU_ASSERT_EQUAL(f.shared[0].downs, 20);
	check_served(0);
}

static void sentinel_names_a_replica(void)
{
	f.nodes[2].is_master = false;
	begin_sentinel();
	CU_ASSERT_FALSE(rt_redis_up(f.shared[0].redis));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(rt_redis_error(f.shared[0].redis), "node2:7002: this is not a master now"));
	CU_ASSERT_EQUAL(f.shared[0].ups, 0);
	f.nodes[2].is_master = true; /* it is promoted */
	rt_loop_advance(f.loop, 1500);
	check_served(0);
	/* It becomes a replica while its connections stay. */
	f.nodes[2].is_master = false;
	f.nodes[2].fault = "READONLY You can't write against a read only replica.";
	CU_ASSERT_EQUAL(ask(4, 1)->status, RT_UNREADY);
	rt_loop_advance(f.loop, 2000);
	CU_ASSERT_FALSE(rt_redis_up(f.shared[1].redis));
	CU_ASSERT_EQUAL(f.shared[1].downs, 1);
	f.nodes[6].names = f.nodes[7].names = 4;
	all_at(4);
	rt_loop_advance(f.loop, 1500);
	check_served(5);
}

/* Node 3 is the master; one of the two sentinels still names node 2. */
static void begin_lagging(void)
{
	f.nodes[6].names = 2;
	f.nodes[7].names = 3;
	all_at(3);
	begin("sentinel://node6:7006,node7:7007/tandem", true);
	rt_loop_advance(f.loop, 3000);
}

/* The sentinel that names the new master is found, and kept; when it goes, and the other one is asked, the
 * master is not left for one that does not say that it is a master. */
static void lagging_sentinel(void)
{
	begin_lagging();
	check_served(0);
	rt_loop_advance(f.loop, 20000);
	CU_ASSERT_EQUAL(f.shared[0].downs + f.own[0].downs, 0);
	for (int i = 0; i < 20; i++) {
		f.nodes[7].dead = true;
		node_cut(7);
		rt_loop_advance(f.loop, 2000);
		CU_ASSERT_TRUE(all_up());
		f.nodes[7].dead = false;
		rt_loop_advance(f.loop, 2000);
	}
	CU_ASSERT(f.nodes[6].questions > 20);
	CU_ASSERT_EQUAL(f.shared[0].downs + f.own[0].downs, 0);
	CU_ASSERT_EQUAL(rt_redis_epoch(f.shared[0].redis), 1);
	check_served(4);
}

static void lagging_sentinel_names_a_dead_server(void)
{
	f.nodes[2].dead = true;
	lagging_sentinel();
}

static void lagging_sentinel_names_a_replica(void)
{
	f.nodes[2].is_master = false;
	lagging_sentinel();
}

/* Of two servers that say they are masters, that one is used which the sentinel names that is asked. */
static void lagging_sentinel_is_believed_by_a_master(void)
{
	f.nodes[6].names = 3;
	f.nodes[7].dead = true;
	begin_sentinel();
	all_at(3);
	check_served(0);
	f.nodes[6].names = 2;
	rt_loop_advance(f.loop, 2000);
	all_at(2);
	check_served(4);
	CU_ASSERT_EQUAL(f.shared[0].downs, 1);
}

static void sentinel_does_not_know(void)
{
	f.nodes[6].names = f.nodes[7].names = -1;
	begin_sentinel();
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.shared[0].redis),
				      "this sentinel knows no master of that name"));
	f.nodes[7].names = 2; /* one of them does */
	rt_loop_advance(f.loop, 5000);
	check_served(0);
}

static void bad_options(void)
{
	struct rt_redis_url *url = rt_alloc(sizeof(*url));
	struct rt_redis_options options = { .name = "commands" };
	struct rt_redis *redis = NULL;
	char error[200];

	CU_ASSERT_EQUAL(rt_topology_new(f.loop, url, &options, 1, &f.topology), RT_INVALID);
	CU_ASSERT_EQUAL(rt_redis_url_parse("redis://h:1", url, error, sizeof(error)), RT_OK);
	CU_ASSERT_EQUAL(rt_topology_new(f.loop, url, &options, 0, &f.topology), RT_INVALID);
	CU_ASSERT_EQUAL(rt_topology_new(f.loop, url, &options, 1025, &f.topology), RT_INVALID);
	CU_ASSERT_PTR_NULL(f.topology);
	CU_ASSERT_EQUAL(rt_topology_new(f.loop, url, &options, 2, &f.topology), RT_OK);
	options.partition = 2;
	rt_topology_use(f.topology, &options);
	CU_ASSERT_EQUAL(rt_redis_new(f.loop, &options, &redis), RT_INVALID);
	CU_ASSERT_PTR_NULL(redis);
	rt_topology_free(NULL);
	free(url);
}

static const struct test tests[] = {
	{ "answers that redirect", redirects },
	{ "one Redis: all partitions share a connection", one },
	{ "one Redis at a socket", unix_socket },
	{ "answers come in order, and each partition has a bound", order_and_bound },
	{ "a cluster: each partition is served by its master", cluster },
	{ "only the last seed answers", only_the_last_seed_answers },
	{ "moved to another node", moved_to_another },
	{ "moved to a node that was not known", moved_to_unknown },
	{ "order is kept when the master changes", order_across_masters },
	{ "the cluster is down and back", cluster_down },
	{ "a slot that nobody serves", uncovered },
	{ "a master dies, a replica takes over", master_dies },
	{ "a connection breaks", connection_breaks },
	{ "all nodes die and come back as others", all_die },
	{ "a frozen node is not waited for", frozen_node_is_not_waited_for },
	{ "a late answer", late_answer },
	{ "an answer without sense", answer_without_sense },
	{ "a node that has forgotten its cluster", node_forgets },
	{ "a connection of its own follows the master", own_follows },
	{ "reset", resets },
	{ "freed while commands are under way", freed_under_way },
	{ "freed at once", freed_at_once },
	{ "waiters", waiters },
	{ "one server's clock is followed", one_clock },
	{ "the master that sentinels name", sentinel },
	{ "the next master is found by the next question", failovers_by_sentinel },
	{ "what a sentinel names is a replica", sentinel_names_a_replica },
	{ "a sentinel still names a master that died", lagging_sentinel_names_a_dead_server },
	{ "a sentinel still names a master that became a replica",
	  lagging_sentinel_names_a_replica },
	{ "of two masters the one that the sentinel names",
	  lagging_sentinel_is_believed_by_a_master },
	{ "a sentinel does not know the master", sentinel_does_not_know },
	{ "bad options are refused", bad_options },
};

TESTS_MAIN_EACH("topology", setup, teardown, tests)
