/* test_cluster.c - a topology against real servers: a cluster of three masters with a replica each, whose
 * masters change and die, and a master with a replica and a sentinel. */
#include "redis/topology.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "loopback.h"
#include "redis/key_slot.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"

#define MASTERS    3
#define NODES      6
#define PARTITIONS 4
#define TRIES      4000 /* of 5 ms: until the servers have agreed */
#define EVERY_MS   2    /* the load sends a command so often */

static struct redis_server nodes[NODES], sentinel;
static char bus_ports[NODES][16];
static const char *node_settings[NODES][24];

/* The load on a partition: one INCR after the other. */
static struct load {
	struct rt_redis *redis, *own;
	struct rt_redis_op op;
	bool under_way;
	int partition, ok, unready, lost, other, ups, downs, own_ups, own_downs;
	long long value;             /* the last answer */
	int64_t answered_ms, gap_ms; /* the longest time between two answers that are OK */
} loads[PARTITIONS];
static struct {
	struct rt_loop *loop;
	struct rt_topology *topology;
	struct rt_timer timer;
	struct rt_redis_op op, own_op;
	int ends, own_ends, status, own_status;
	char text[200];
} f;

/* ---- servers ---- */

static bool text_has(struct redis_server *server, const char *command, const char *part)
{
	redisReply *reply = redis_server_command(server, command);
	bool has = reply->str != NULL && strstr(reply->str, part) != NULL;

	freeReplyObject(reply);
	return has;
}

/* Asks until the answer has this in it. */
static void await_text(struct redis_server *server, const char *command, const char *part)
{
	for (int i = 0; i < TRIES; i++) {
		if (text_has(server, command, part))
			return;
		usleep(5000);
	}
	CU_FAIL_FATAL("the servers do not agree");
}

static void start_node(int i)
{
	int port;
	const char *const settings[] = { "--cluster-enabled",
					 "yes",
					 "--cluster-port",
					 bus_ports[i],
					 "--cluster-node-timeout",
					 "1000",
					 "--cluster-require-full-coverage",
					 "no",
					 "--cluster-replica-validity-factor",
					 "0",
					 "--repl-diskless-sync-delay",
					 "0",
					 NULL };

	close(loopback_listen(0, &port));
	snprintf(bus_ports[i], sizeof(bus_ports[i]), "%d", port);
	memcpy(node_settings[i], settings, sizeof(settings));
	redis_server_start(&nodes[i], node_settings[i]);
}

static void start_cluster(void)
{
	char ids[MASTERS][64];

	for (int i = 0; i < NODES; i++)
		start_node(i);
	for (int i = 0; i < NODES; i++) {
		redis_server_do(&nodes[i], "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
		if (i > 0)
			redis_server_do(&nodes[0], "CLUSTER MEET 127.0.0.1 %d %s", nodes[i].port,
					bus_ports[i]);
	}
	for (int i = 0; i < MASTERS; i++) {
		redis_server_do(&nodes[i], "CLUSTER ADDSLOTSRANGE %d %d",
				RT_REDIS_SLOTS * i / MASTERS,
				RT_REDIS_SLOTS * (i + 1) / MASTERS - 1);
		snprintf(ids[i], sizeof(ids[i]), "%s",
			 redis_server_text(&nodes[i], "CLUSTER MYID"));
	}
	for (int i = 0; i < NODES; i++) {
		await_text(&nodes[i], "CLUSTER INFO", "cluster_known_nodes:6");
		await_text(&nodes[i], "CLUSTER INFO", "cluster_slots_ok:16384");
	}
	for (int i = MASTERS; i < NODES; i++)
		redis_server_do(&nodes[i], "CLUSTER REPLICATE %s", ids[i - MASTERS]);
	for (int i = MASTERS; i < NODES; i++)
		await_text(&nodes[i], "INFO replication", "master_link_status:up");
	for (int i = 0; i < NODES; i++)
		await_text(&nodes[i], "CLUSTER INFO", "cluster_state:ok");
}

/* The node that serves a partition, as it says itself. */
static int master_of(int partition)
{
	char key[16];
	int master = -1;

	snprintf(key, sizeof(key), "{%d}n", partition);
	for (int i = 0; i < NODES; i++) {
		redisReply *reply;

		if (nodes[i].pid == 0)
			continue;
		reply = redis_server_command(&nodes[i], "EXISTS %s", key);
		if (reply->type != REDIS_REPLY_ERROR)
			master = i;
		freeReplyObject(reply);
	}
	return master;
}

/* The first node was a master or replica of the same slots as the second. */
static int other_of(int node)
{
	return (node + MASTERS) % NODES;
}

/* ---- the load ---- */

static void on_state(struct rt_redis *redis, bool up, void *user)
{
	struct load *load = user;

	CU_ASSERT_EQUAL(rt_redis_up(redis), up);
	*(up ? &load->ups : &load->downs) += 1;
	CU_ASSERT_EQUAL(load->ups - load->downs, up);
}

static void on_own_state(struct rt_redis *redis, bool up, void *user)
{
	struct load *load = user;

	(void)redis;
	*(up ? &load->own_ups : &load->own_downs) += 1;
	CU_ASSERT_EQUAL(load->own_ups - load->own_downs, up);
}

static void incremented(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct load *load = RT_CONTAINER_OF(op, struct load, op);
	int64_t now = rt_loop_now(f.loop);

	CU_ASSERT_TRUE(load->under_way);
	load->under_way = false;
	if (status == RT_OK) {
		load->ok++;
		load->value = reply->integer;
		load->gap_ms = RT_MAX(load->gap_ms, now - load->answered_ms);
		load->answered_ms = now;
	} else if (status == RT_UNREADY) {
		load->unready++;
	} else if (status == RT_LOST || status == RT_TIMEOUT) {
		load->lost++;
	} else {
		load->other++;
	}
}

static void send_load(struct rt_timer *timer)
{
	for (int p = 0; p < PARTITIONS; p++) {
		struct load *load = &loads[p];
		char key[16];

		if (load->under_way || !rt_redis_up(load->redis))
			continue;
		load->under_way = true;
		snprintf(key, sizeof(key), "{%d}n", p);
		rt_redis_command(load->redis, &load->op, 2, (const char *[]){ "INCR", key }, NULL,
				 0, incremented);
	}
	rt_timer_start(f.loop, timer, EVERY_MS, send_load);
}

static void begin(const char *url_text)
{
	static struct rt_redis_url url;
	struct rt_redis_options options = { .name = "test", .timeout_ms = 500 };
	char error[200];

	memset(loads, 0, sizeof(loads));
	memset(&f, 0, sizeof(f));
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	CU_ASSERT_FATAL(rt_redis_url_parse(url_text, &url, error, sizeof(error)) == RT_OK);
	options.follow_clock = true;
	CU_ASSERT_FATAL(rt_topology_new(f.loop, &url, &options, PARTITIONS, &f.topology) == RT_OK);
	rt_topology_use(f.topology, &options);
	for (int p = 0; p < PARTITIONS; p++) {
		loads[p].partition = options.partition = p;
		options.user_data = &loads[p];
		options.blocks = false;
		options.on_state = on_state;
		CU_ASSERT_FATAL(rt_redis_new(f.loop, &options, &loads[p].redis) == RT_OK);
		options.blocks = true;
		options.on_state = on_own_state;
		CU_ASSERT_FATAL(rt_redis_new(f.loop, &options, &loads[p].own) == RT_OK);
	}
	rt_timer_start(f.loop, &f.timer, 0, send_load);
}

static void end(void)
{
	rt_timer_stop(f.loop, &f.timer);
	for (int p = 0; p < PARTITIONS; p++) {
		CU_ASSERT_EQUAL(loads[p].other, 0);
		rt_redis_free(loads[p].own);
		rt_redis_free(loads[p].redis);
	}
	rt_topology_free(f.topology);
	rt_loop_free(f.loop);
}

static int wanted[PARTITIONS]; /* OK answers */

static bool all_served(void)
{
	for (int p = 0; p < PARTITIONS; p++) {
		if (loads[p].ok < wanted[p] || !rt_redis_up(loads[p].own))
			return false;
	}
	return true;
}

/* Each partition answers this many more commands. */
static void run_more(int count)
{
	for (int p = 0; p < PARTITIONS; p++)
		wanted[p] = loads[p].ok + count;
	run_until_so(f.loop, all_served);
}

static void begin_cluster(void)
{
	char *url = rt_printf("cluster://127.0.0.1:1,127.0.0.1:%d,127.0.0.1:%d", nodes[3].port,
			      nodes[4].port);

	for (int i = 0; i < NODES; i++)
		redis_server_do(&nodes[i], "CLUSTER SAVECONFIG");
	begin(url);
	free(url);
	run_more(20);
}

static void forget_gaps(void)
{
	for (int p = 0; p < PARTITIONS; p++) {
		loads[p].gap_ms = 0;
		loads[p].answered_ms = rt_loop_now(f.loop);
	}
}

static void own_ended(struct rt_redis_op *op, int status, const redisReply *reply)
{
	(void)op;
	f.own_ends++;
	f.own_status = status;
	snprintf(f.text, sizeof(f.text), "%s",
		 reply != NULL && reply->str != NULL ? reply->str : "");
}

static void block(struct load *load)
{
	char key[32];

	snprintf(key, sizeof(key), "{%d}list", load->partition);
	f.own_ends = 0;
	rt_redis_command(load->own, &f.own_op, 3, (const char *[]){ "BLPOP", key, "0" }, NULL,
			 30000, own_ended);
}

/* ---- the tests ---- */

static void served(void)
{
	begin_cluster();
	for (int p = 0; p < PARTITIONS; p++) {
		CU_ASSERT_EQUAL(loads[p].unready + loads[p].lost, 0);
		CU_ASSERT_EQUAL(loads[p].ups, 1);
		CU_ASSERT_EQUAL(rt_redis_epoch(loads[p].redis), 1);
	}
	end();
}

/* CLUSTER FAILOVER: the old master answers what it got, and nothing is lost or done twice. */
static void failover(void)
{
	long long before;
	uint64_t epoch;
	int old;

	begin_cluster();
	old = master_of(1);
	before = loads[1].value - loads[1].ok;
	epoch = rt_redis_epoch(loads[1].redis);
	block(&loads[1]);
	run_more(20);
	forget_gaps();
	redis_server_do(&nodes[other_of(old)], "CLUSTER FAILOVER");
	run_until_count(f.loop, &f.own_ends, 1);
	run_until_count(f.loop, &loads[1].ups, 2);
	run_more(20);
	CU_ASSERT_EQUAL(master_of(1), other_of(old));
	CU_ASSERT(f.own_status == RT_UNREADY || f.own_status == RT_LOST);
	CU_ASSERT_NOT_EQUAL(rt_redis_epoch(loads[1].redis), epoch);
	CU_ASSERT(loads[1].value - before >= loads[1].ok);
	CU_ASSERT(loads[1].value - before <= loads[1].ok + loads[1].lost);
	CU_ASSERT(loads[1].gap_ms < 1500);
	for (int p = 0; p < PARTITIONS; p++) {
		if (master_of(p) != other_of(old))
			CU_ASSERT_EQUAL(loads[p].downs, 0);
	}
	printf("\n    longest wait in a failover: %lld ms\n    ", (long long)loads[1].gap_ms);
	await_text(&nodes[old], "INFO replication", "master_link_status:up");
	end();
}

static void killed(void)
{
	int dead;

	begin_cluster();
	dead = master_of(3);
	block(&loads[3]);
	run_more(20);
	forget_gaps();
	redis_server_kill(&nodes[dead]);
	run_until_count(f.loop, &f.own_ends, 1);
	CU_ASSERT_EQUAL(f.own_status, RT_LOST);
	run_more(20);
	CU_ASSERT_EQUAL(master_of(3), other_of(dead));
	CU_ASSERT_EQUAL(loads[3].ups, 2);
	CU_ASSERT(loads[3].gap_ms < 7000);
	for (int p = 0; p < PARTITIONS; p++) {
		if (master_of(p) != other_of(dead))
			CU_ASSERT_EQUAL(loads[p].downs, 0);
	}
	printf("\n    longest wait after a master was killed: %lld ms\n    ",
	       (long long)loads[3].gap_ms);
	redis_server_restart(&nodes[dead]);
	await_text(&nodes[dead], "INFO replication", "master_link_status:up");
	run_more(20);
	CU_ASSERT_EQUAL(loads[3].ups, 2);
	end();
}

static void op_ended(struct rt_redis_op *op, int status, const redisReply *reply)
{
	(void)op;
	f.ends++;
	f.status = status;
	snprintf(f.text, sizeof(f.text), "%s",
		 reply != NULL && reply->str != NULL ? reply->str : "");
}

static int ask(struct rt_redis *redis, int argc, const char *const *argv)
{
	f.ends = 0;
	rt_redis_command(redis, &f.op, argc, argv, NULL, 0, op_ended);
	run_until_count(f.loop, &f.ends, 1);
	return f.status;
}

static bool partition_2_up(void)
{
	return rt_redis_up(loads[2].redis);
}

/* In a slot that is being migrated, what is not there yet does not happen, here or there. */
static void migrating(void)
{
	static const char script[] = "redis.call('INCR', KEYS[1]) redis.call('SET', '{2}new', '1')";
	int source, target;
	char ids[2][64], value[32];

	begin_cluster();
	source = master_of(2);
	target = master_of(3);
	CU_ASSERT_NOT_EQUAL_FATAL(source, target);
	snprintf(ids[0], sizeof(ids[0]), "%s", redis_server_text(&nodes[source], "CLUSTER MYID"));
	snprintf(ids[1], sizeof(ids[1]), "%s", redis_server_text(&nodes[target], "CLUSTER MYID"));
	redis_server_do(&nodes[source], "SET {2}there 1");
	redis_server_do(&nodes[target], "CLUSTER SETSLOT %d IMPORTING %s", rt_key_slot("{2}"),
			ids[0]);
	redis_server_do(&nodes[source], "CLUSTER SETSLOT %d MIGRATING %s", rt_key_slot("{2}"),
			ids[1]);
	CU_ASSERT_EQUAL(ask(loads[2].redis, 3, (const char *[]){ "SET", "{2}new", "1" }),
			RT_UNREADY);
	CU_ASSERT_EQUAL(strncmp(f.text, "ASK ", 4), 0);
	run_until_so(f.loop, partition_2_up);
	CU_ASSERT_EQUAL(ask(loads[2].redis, 3, (const char *[]){ "SET", "{2}there", "2" }), RT_OK);
	/* A script whose declared key is there, and which then touches one that is not. */
	CU_ASSERT_EQUAL(ask(loads[2].redis, 4, (const char *[]){ "EVAL", script, "1", "{2}n" }),
			RT_UNREADY);
	CU_ASSERT_PTR_NOT_NULL(strstr(f.text, "non local key"));
	redis_server_do(&nodes[source], "CLUSTER SETSLOT %d STABLE", rt_key_slot("{2}"));
	redis_server_do(&nodes[target], "CLUSTER SETSLOT %d STABLE", rt_key_slot("{2}"));
	run_more(20);
	CU_ASSERT_EQUAL(redis_server_int(&nodes[source], "EXISTS {2}new"), 0);
	snprintf(value, sizeof(value), "%s", redis_server_text(&nodes[source], "GET {2}there"));
	CU_ASSERT_STRING_EQUAL(value, "2");
	end();
}

/* A frozen master: its commands end in time, and its replica takes over. */
static void frozen(void)
{
	int old;

	begin_cluster();
	old = master_of(0);
	forget_gaps();
	redis_server_freeze(&nodes[old]);
	run_until_count(f.loop, &loads[0].ups, 2);
	redis_server_thaw(&nodes[old]);
	run_more(20);
	CU_ASSERT_EQUAL(master_of(0), other_of(old));
	CU_ASSERT(loads[0].gap_ms < 10000);
	printf("\n    longest wait after a master froze: %lld ms\n    ",
	       (long long)loads[0].gap_ms);
	await_text(&nodes[old], "INFO replication", "master_link_status:up");
	end();
}

/* A sentinel closes all connections of a server whose role it changes: so a new one each time. */
static void await_role(const char *socket, const char *role)
{
	for (int i = 0; i < TRIES; i++) {
		redisContext *context = redisConnectUnix(socket);
		redisReply *reply = redisCommand(context, "INFO replication");
		bool is = reply != NULL && reply->str != NULL && strstr(reply->str, role) != NULL;

		if (reply != NULL)
			freeReplyObject(reply);
		redisFree(context);
		if (is)
			return;
		usleep(5000);
	}
	CU_FAIL_FATAL("it does not get this role");
}

static void by_sentinel(void)
{
	static const char *const settings[] = { "--repl-diskless-sync-delay", "0", NULL };
	struct redis_server pair[2];
	char *url;

	for (int i = 0; i < 2; i++)
		redis_server_start(&pair[i], settings);
	redis_server_do(&pair[1], "REPLICAOF 127.0.0.1 %d", pair[0].port);
	await_text(&pair[1], "INFO replication", "master_link_status:up");
	redis_server_start_sentinel(&sentinel, "tandem", pair[0].port);
	await_text(&sentinel, "INFO sentinel", "slaves=1");
	url = rt_printf("sentinel://127.0.0.1:1,127.0.0.1:%d/tandem", sentinel.port);
	begin(url);
	free(url);
	run_more(20);
	CU_ASSERT_EQUAL(redis_server_int(&pair[0], "EXISTS {0}n"), 1);
	forget_gaps();
	redis_server_kill(&pair[0]);
	run_until_count(f.loop, &loads[0].ups, 2);
	run_more(20);
	await_role(pair[1].socket, "role:master");
	CU_ASSERT(loads[0].gap_ms < 10000);
	printf("\n    longest wait with a sentinel: %lld ms\n    ", (long long)loads[0].gap_ms);
	/* The old one comes back, as a master at first: nobody uses it. */
	redis_server_restart(&pair[0]);
	await_role(pair[0].socket, "role:slave");
	run_more(20);
	CU_ASSERT_EQUAL(loads[0].ups, 2);
	end();
	redis_server_done(&sentinel);
	redis_server_done(&pair[0]);
	redis_server_done(&pair[1]);
}

static const struct test tests[] = {
	{ "every partition is served by its master", served },
	{ "CLUSTER FAILOVER", failover },
	{ "a slot that is being migrated", migrating },
	{ "a master is killed", killed },
	{ "a master freezes", frozen },
	{ "a master and its replica under a sentinel", by_sentinel },
};

int main(void)
{
	int rc;

	start_cluster();
	rc = tests_run("cluster", tests, RT_LENGTH(tests));
	for (int i = 0; i < NODES; i++)
		redis_server_done(&nodes[i]);
	return rc;
}
