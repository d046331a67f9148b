/* redis_floor.c - the other floor: the Redis work of an order as bare commands from one pipelined
 * client, without functions, services or decisions. Redis cannot do the job for less.
 *
 *   bench-redis-floor SOCKET ORDERS BATCH
 *
 * For each batch: store and publish (HSET, ZADD, XADD once; ZADD index an order), deliver to
 * inventory (XREADGROUP), reserve (HMGET twice, XADD, HSET twice, XACK), deliver to order, decide
 * (HMGET, XADD, HSET, ZADD, XACK), deliver and acknowledge the decision to inventory. The same keys,
 * fields and entries as the services write. Prints nothing; the caller reads Redis's CPU. */
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

static void add_bytes(const char *bytes, size_t length)
{
	argv_[argc_] = bytes;
	lengths[argc_++] = length;
}

/* An entry with an event of each of `count` orders; n: of the first event. */
static void publish(const char *stream, long n, long first, long count, const char *seq,
		    const char *type, const char *batch, size_t batch_length)
{
	char *names;

	add("XADD");
	add(stream);
	addf("1764000000000-%ld", n + count - 1);
	add(type);
	names = text;
	for (long i = first; i < first + count; i++)
		text += snprintf(text, 64, "%sord_%026ld/%s", i == first ? "" : " ", i, seq);
	add_bytes(names, (size_t)(text++ - names));
	add("time");
	add("2026-11-23T01:02:03.004Z");
	if (batch_length > 0) {
		add("batch");
		add_bytes(batch, batch_length);
	}
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

static void acknowledge(const char *stream, const char *group, long n)
{
	add("XACK");
	add(stream);
	add(group);
	addf("1764000000000-%ld", n);
	send_it();
}

static void read_orders(const char *key, long first, long count)
{
	add("HMGET");
	add(key);
	for (long i = first; i < first + count; i++)
		addf("ord_%026ld", i);
	send_it();
}

/* Orders with this first line, and the content below. */
static void write_orders(long first, long count, const char *head)
{
	size_t length = strlen(head);

	add("HSET");
	add("order:{0}:orders");
	for (long i = first; i < first + count; i++) {
		char *order = text + 64;

		addf("ord_%026ld", i);
		memcpy(order, head, length + 1);
		memset(order + length, 'x', PLACED_SIZE);
		add_bytes(order, length + PLACED_SIZE);
		text = order + length + PLACED_SIZE;
	}
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

static void place(long first, long count, const char *batch)
{
	timers(first, count);
	write_orders(first, count, "PENDING 1 900000 placed@1764000000123-4711\n38\n");
	publish("order:{0}:events", 2 * first + 1, first, count, "1", "tandem.order.v1.OrderPlaced",
		batch, (size_t)count * (PLACED_SIZE + 2));
	for (long i = first; i < first + count; i++) {
		add("ZADD");
		addf("order:{0}:customer:customer-%ld", i % 10000);
		addf("%ld", 1764000000123 + i);
		addf("ord_%026ld", i);
		send_it();
	}
}

static void reserve(long first, long count)
{
	read_orders("inventory:{0}:r", first, count);
	add("HMGET");
	add("inventory:{0}:stock");
	for (long i = 0; i < count; i++)
		addf("sku-%04ld", (first + i) % SKUS);
	send_it();
	publish("inventory:{0}:events", first + 1, first, count, "1",
		"tandem.inventory.v1.InventoryReserved", NULL, 0);
	add("HSET");
	add("inventory:{0}:stock");
	for (long i = 0; i < count; i++) {
		addf("sku-%04ld", (first + i) % SKUS);
		addf("%ld 5 0 1000000 12", 999995 - i);
	}
	send_it();
	add("HSET");
	add("inventory:{0}:r");
	for (long i = first; i < first + count; i++) {
		addf("ord_%026ld", i);
		addf("RESERVED 1 1764000000124 sku-%04ld=1", i % SKUS);
	}
	send_it();
	acknowledge("order:{0}:events", "inventory", 2 * first + count);
}

static void decide(long first, long count)
{
	read_orders("order:{0}:orders", first, count);
	publish("order:{0}:events", 2 * first + count + 1, first, count, "2",
		"tandem.order.v1.OrderReserved", NULL, 0);
	write_orders(first, count,
		     "RESERVED 2 900000 placed@1764000000123-4711 reserved+4-4715\n38\n");
	timers(first, count);
	acknowledge("inventory:{0}:events", "order", first + count);
}

int main(int argc, char **argv)
{
	long orders = argc == 4 ? strtol(argv[2], NULL, 10) : 0;
	long batch = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
	static char packed[BATCH_MAX * (PLACED_SIZE + 2)];

	if (orders < 1 || batch < 1 || batch > BATCH_MAX) {
		(void)fprintf(stderr, "usage: bench-redis-floor SOCKET ORDERS BATCH\n");
		return 2;
	}
	redis = redisConnectUnix(argv[1]);
	if (redis == NULL || redis->err != 0) {
		(void)fprintf(stderr, "redis-floor: no connection to %s\n", argv[1]);
		return 1;
	}
	memset(packed, 'x', sizeof(packed));
	(void)redisCommand(redis, "XGROUP CREATE order:{0}:events inventory 0 MKSTREAM");
	(void)redisCommand(redis, "XGROUP CREATE inventory:{0}:events order 0 MKSTREAM");
	for (long first = 0; first < orders; first += batch) {
		place(first, batch, packed);
		answers();
		deliver("order:{0}:events", "inventory", batch);
		reserve(first, batch);
		deliver("inventory:{0}:events", "order", batch);
		answers();
		decide(first, batch);
		deliver("order:{0}:events", "inventory", batch);
		acknowledge("order:{0}:events", "inventory", 2 * (first + batch));
		answers();
	}
	redisFree(redis);
	return 0;
}
