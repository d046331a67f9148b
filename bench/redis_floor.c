/* redis_floor.c - the other floor: Redis's work for an order as bare commands from one pipelined
 * client, without functions, services or decisions: the least that Redis needs.
 *
 *   bench-redis-floor SOCKET ORDERS BATCH
 *
 * For each batch: store and publish (HSET, XADD, ZADD index; ZADD timers once), deliver to
 * inventory (XREADGROUP), reserve (HMGET, HSET counters once; HSET, XADD an order; XACK once),
 * deliver to order, decide (HMGET, HSET, XADD an order; ZADD, XACK once), deliver and acknowledge
 * the decision to inventory. The keys and fields are those that the services write. Prints nothing;
 * the caller reads Redis's CPU. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX   1000
#define SKUS        1000
#define PLACED_SIZE 38 /* a packed OrderPlaced of one line */

static redisContext *redis;
static int unanswered;
static const char *argv_[4096];
static size_t lengths[4096];
static int argc_;
static char scratch[1 << 20], *text = scratch;

static void add(const char *s)
{
	argv_[argc_] = s;
	lengths[argc_++] = strlen(s);
}

/* A printf format with one %ld, not checked by the compiler: all of them are in this file. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void addf(const char *format, long n)
{
	int length = snprintf(text, 64, format, n);

	argv_[argc_] = text;
	lengths[argc_++] = (size_t)length;
	text += length + 1;
}

static void send_it(void)
{
	if (redisAppendCommandArgv(redis, argc_, argv_, lengths) != REDIS_OK)
		exit(1);
	argc_ = 0;
	text = scratch;
	unanswered++;
}

static void answers(void)
{
	for (; unanswered > 0; unanswered--) {
		redisReply *reply = NULL;

		if (redisGetReply(redis, (void **)&reply) != REDIS_OK ||
		    reply->type == REDIS_REPLY_ERROR) {
			(void)fprintf(stderr, "redis-floor: %s\n",
				      reply != NULL ? reply->str : redis->errstr);
			exit(1);
		}
		freeReplyObject(reply);
	}
}

static void publish(const char *stream, long order, long stream_n, const char *seq,
		    const char *type, const char *data, size_t data_length)
{
	add("XADD");
	add(stream);
	addf("1764000000000-%ld", stream_n);
	add("id");
	addf(seq[0] == '1' ? "ord_%026ld/1" : "ord_%026ld/2", order);
	add("type");
	add(type);
	add("subject");
	addf("ord_%026ld", order);
	add("seq");
	add(seq);
	add("time");
	add("2026-11-23T01:02:03.004Z");
	add("data");
	argv_[argc_] = data;
	lengths[argc_++] = data_length;
	send_it();
}

static void deliver(const char *stream, const char *group, long count)
{
	add("XREADGROUP");
	add("GROUP");
	add(group);
	add("one");
	add("COUNT");
	addf("%ld", count);
	add("STREAMS");
	add(stream);
	add(">");
	send_it();
}

static void acknowledge(const char *stream, const char *group, long from, long count)
{
	add("XACK");
	add(stream);
	add(group);
	for (long i = 0; i < count; i++)
		addf("1764000000000-%ld", from + i);
	send_it();
}

static void timers(long first, long count)
{
	add("ZADD");
	add("order:{0}:timers");
	for (long i = 0; i < count; i++) {
		addf("%ld", 1764000060000 + first + i);
		addf("ord_%026ld", first + i);
	}
	send_it();
}

static void place(long first, long count, const char *placed)
{
	for (long i = first; i < first + count; i++) {
		add("HSET");
		addf("order:{0}:o:ord_%026ld", i);
		add("status");
		add("PENDING");
		add("version");
		add("1");
		add("placed");
		argv_[argc_] = placed;
		lengths[argc_++] = PLACED_SIZE;
		add("hold");
		add("900000");
		add("history");
		add("placed@1764000000123-4711");
		send_it();
		publish("order:{0}:events", i, 2 * first + 1 + i - first, "1",
			"tandem.order.v1.OrderPlaced", placed, PLACED_SIZE);
		add("ZADD");
		addf("order:{0}:customer:customer-%ld", i % 10000);
		addf("%ld", 1764000000123 + i);
		addf("ord_%026ld", i);
		send_it();
	}
	timers(first, count);
}

static void reserve(long first, long count)
{
	add("HMGET");
	add("inventory:{0}:stock");
	for (long i = 0; i < count; i++)
		addf("sku-%04ld", (first + i) % SKUS);
	send_it();
	add("HSET");
	add("inventory:{0}:stock");
	for (long i = 0; i < count; i++) {
		addf("sku-%04ld", (first + i) % SKUS);
		addf("%ld 5 0 1000000 12", 999995 - i);
	}
	send_it();
	for (long i = first; i < first + count; i++) {
		add("HSET");
		addf("inventory:{0}:r:ord_%026ld", i);
		add("state");
		add("RESERVED");
		add("version");
		add("1");
		add("lines");
		addf("sku-%04ld=1", i % SKUS);
		add("time");
		add("1764000000124");
		send_it();
		publish("inventory:{0}:events", i, i + 1, "1",
			"tandem.inventory.v1.InventoryReserved", "", 0);
	}
	acknowledge("order:{0}:events", "inventory", 2 * first + 1, count);
}

static void decide(long first, long count)
{
	for (long i = first; i < first + count; i++) {
		add("HMGET");
		addf("order:{0}:o:ord_%026ld", i);
		add("status");
		add("version");
		add("hold");
		add("history");
		send_it();
		add("HSET");
		addf("order:{0}:o:ord_%026ld", i);
		add("status");
		add("RESERVED");
		add("version");
		add("2");
		add("history");
		add("placed@1764000000123-4711 reserved+4-4715");
		send_it();
		publish("order:{0}:events", i, 2 * first + 1 + count + i - first, "2",
			"tandem.order.v1.OrderReserved", "", 0);
	}
	timers(first, count);
	acknowledge("inventory:{0}:events", "order", first + 1, count);
}

int main(int argc, char **argv)
{
	long orders = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
	long batch = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
	char placed[PLACED_SIZE];

	if (orders < 1 || batch < 1 || batch > BATCH_MAX) {
		(void)fprintf(stderr, "usage: bench-redis-floor SOCKET ORDERS BATCH\n");
		return 2;
	}
	redis = redisConnectUnix(argv[1]);
	if (redis == NULL || redis->err != 0) {
		(void)fprintf(stderr, "redis-floor: no connection to %s\n", argv[1]);
		return 1;
	}
	memset(placed, 'x', sizeof(placed));
	(void)redisCommand(redis, "XGROUP CREATE order:{0}:events inventory 0 MKSTREAM");
	(void)redisCommand(redis, "XGROUP CREATE inventory:{0}:events order 0 MKSTREAM");
	for (long first = 0; first < orders; first += batch) {
		place(first, batch, placed);
		answers();
		deliver("order:{0}:events", "inventory", batch);
		reserve(first, batch);
		deliver("inventory:{0}:events", "order", batch);
		answers();
		decide(first, batch);
		deliver("order:{0}:events", "inventory", batch);
		acknowledge("order:{0}:events", "inventory", 2 * first + 1 + batch, batch);
		answers();
	}
	redisFree(redis);
	return 0;
}
