/* test_split_orders.c - inventory serves split orders, on a Redis in memory, with everything going wrong.
 *
 * First single orders, each with one thing that goes wrong, and then many at once; in some runs masters lose their
 * last writes, and records and parts must be brought together again (reconcile.c):
 *
 * Some instances of the inventory service share the streams of several partitions. The order service is a
 * few lines of this test, by the same rules as order_step.c: it publishes requests and hears answers. Requests
 * vanish and come again, answers are late, lost or heard twice; operations fail before or after their effect, or
 * take effect when the instance has long given up and others have taken over its events. Each seed is another run.
 *
 * In the end nothing goes wrong any more, and every order asks until it is answered. Then each SKU's counters add up,
 * each part is what its order's record says, nothing is held for nobody, and no order was told two verdicts. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "inventory/inventory.h"
#include "order/order_id.h"
#include "rpc/rpc.h"
#include "run.h"
#include "sim/stored.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define START_MS       INT64_C(1764000000000)
#define SKUS           10
#define ORDERS         30
#define LINES_MAX      4
#define INSTANCES_MAX  3
#define PARTITIONS_MAX 8
#define ANSWERS_MAX    4096
#define STEPS          400
#define LOSSES_STEPS   120 /* with losses: many orders are under way in the end, too */
#define SEEDS          TESTS_PART(60)
#define MISTAKE_SEEDS  200
#define SAVED_MAX      256

enum status { NEW, PENDING, RESERVED, REJECTED, CONFIRMING, CONFIRMED, CANCELLING, CANCELLED };
struct order {
	char id[ORDER_ID_LENGTH + 1];
	int partition;
	enum status status;
	uint32_t attempt; /* of the last request */
	uint64_t seq;
	struct inventory_line lines[LINES_MAX];
	size_t line_count;
	bool told_reserved, told_unavailable;
};
/* An answer that an order has not heard yet. */
struct answer {
	size_t order;
	char letter; /* of stock.h */
};
struct instance {
	struct memory_host host;
	struct rt_context *context;
	int stopped;
	bool dead;
	struct rt_task end;
	unsigned lives;
	char name[16];
};

static bool
	in_one_redis; /* of the next run: its partitions are, and lose nothing each for itself */
static struct {
	struct rt_loop *loop;
	struct memory_redis *redis;
	int partitions, instance_count;
	struct instance instances[INSTANCES_MAX];
	bool calm;
	char skus[SKUS][8];
	struct order orders[ORDERS];
	struct answer answers[ANSWERS_MAX];
	size_t answer_count;
	struct memory_id read[PARTITIONS_MAX]; /* of inventory's streams */
	char trouble[256];                     /* the first promise that was broken; "": none */
	/* For single orders: what was sent to Redis, "part2 conclude0 …"; and what becomes of it. */
	char sent[512];
	const char *late, *failing; /* such a command has its effect 5 s too late, or none */
	/* Such a command takes a second, and then the connection of partition 1 breaks. */
	const char *breaking;
	const char *killing; /* whoever sends such a command dies */
	/* Losses of the last writes. */
	struct saved {
		char *texts[SAVED_MAX][3]; /* key, field, value; no field: a text */
		size_t count;
		struct order orders[ORDERS];
		bool taken;
	} saved[PARTITIONS_MAX];
	unsigned losses, owed;
	int64_t age_ms; /* of requests when they are published */
} w;

static uint64_t roll(uint64_t bound)
{
	return rt_loop_random(w.loop, bound);
}

static bool chance(unsigned percent)
{
	return roll(100) < percent;
}

static void broken(const char *what, const char *order_id)
{
	if (w.trouble[0] == '\0')
		snprintf(w.trouble, sizeof(w.trouble), "%s %s", what, order_id);
}

/* Of a hash; NULL: none. */
static const struct memory_text *field_of(const char *key, const char *name)
{
	const struct memory_key *hash = memory_find(w.redis, key, MEMORY_HASH);

	return hash == NULL ? NULL : memory_field(hash, name);
}

/* ---- requests ---- */

/* The lines as messages; they live until the next call. */
static Tandem__Order__V1__OrderLine **line_messages(const struct order *order)
{
	static Tandem__Order__V1__OrderLine messages[LINES_MAX], *list[LINES_MAX];

	for (size_t i = 0; i < order->line_count; i++) {
		tandem__order__v1__order_line__init(&messages[i]);
		messages[i].sku = (char *)(uintptr_t)order->lines[i].sku;
		messages[i].quantity = order->lines[i].quantity;
		list[i] = &messages[i];
	}
	return list;
}

static size_t pack_request(const struct order *order, enum stock_request request, uint8_t *packed)
{
	Tandem__Order__V1__OrderPlaced placed = TANDEM__ORDER__V1__ORDER_PLACED__INIT;
	Tandem__Order__V1__OrderContent content = TANDEM__ORDER__V1__ORDER_CONTENT__INIT;
	Tandem__Order__V1__OrderCancelled cancelled = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;
	Tandem__Order__V1__OrderRejected rejected = TANDEM__ORDER__V1__ORDER_REJECTED__INIT;
	Tandem__Order__V1__OrderLine **lines = line_messages(order);

	switch (request) {
	case STOCK_REQ_RESERVE:
		content.customer_id = (char[]){ "customer" };
		content.lines = lines;
		content.n_lines = order->line_count;
		placed.content = &content;
		return tandem__order__v1__order_placed__pack(&placed, packed);
	case STOCK_REQ_RELEASE:
		cancelled.lines = lines;
		cancelled.n_lines = order->line_count;
		return tandem__order__v1__order_cancelled__pack(&cancelled, packed);
	case STOCK_REQ_REJECT:
		rejected.lines = lines;
		rejected.n_lines = order->line_count;
		return tandem__order__v1__order_rejected__pack(&rejected, packed);
	default:
		return 0;
	}
}

static void publish(const struct order *order, enum stock_request request)
{
	uint8_t packed[1024];
	size_t length = pack_request(order, request, packed);
	char stream[32];

	snprintf(stream, sizeof(stream), "order:{%d}:events", order->partition);
	stored_publish(w.redis, stream, rt_loop_unix_ms(w.loop) - w.age_ms,
		       &(struct stored_event){ .type = stock_request_type(request),
					       .subject = order->id,
					       .seq = order->seq,
					       .data = packed,
					       .data_length = length,
					       .attempt = order->attempt });
}

/* In bad times a request may vanish unread, or come twice. */
static void ask(struct order *order, enum stock_request request, uint32_t attempt)
{
	order->attempt = attempt;
	order->seq++;
	if (!w.calm && chance(15))
		return;
	publish(order, request);
	if (!w.calm && chance(15))
		publish(order, request);
}

/* What the order's timer does. */
static void ask_again(struct order *order)
{
	if (order->status == PENDING)
		ask(order, STOCK_REQ_RESERVE, order->attempt + 1);
	else if (order->status == CONFIRMING)
		ask(order, STOCK_REQ_COMMIT, order->attempt + 1);
	else if (order->status == CANCELLING)
		ask(order, STOCK_REQ_RELEASE, order->attempt + 1);
}

static void move(struct order *order, enum status status, enum stock_request request)
{
	order->status = status;
	ask(order, request, 1);
}

/* ---- answers ---- */

/* As order_step.c. */
static void hear(struct order *order, char letter)
{
	enum status status = order->status;
	bool open = status == PENDING || status == RESERVED;

	switch (letter) {
	case 'R':
		order->told_reserved = true;
		if (status == PENDING)
			order->status = RESERVED;
		else if (status == CANCELLED)
			move(order, CANCELLING, STOCK_REQ_RELEASE);
		else if (status == REJECTED)
			ask(order, STOCK_REQ_REJECT, 2);
		break;
	case 'U':
		order->told_unavailable = true;
		if (open)
			move(order, REJECTED, STOCK_REQ_REJECT);
		break;
	case 'C':
		if (open)
			move(order, CONFIRMING, STOCK_REQ_COMMIT);
		else if (status == CONFIRMING)
			order->status = CONFIRMED;
		break;
	default:
		if (open)
			move(order, CANCELLING, STOCK_REQ_RELEASE);
		else if (status == CANCELLING)
			order->status = CANCELLED;
		break;
	}
	if (order->told_reserved && order->told_unavailable && w.losses == 0)
		broken("two verdicts for", order->id);
}

static void note_answer(const struct rt_entry_event *event)
{
	for (size_t i = 0; i < ORDERS; i++) {
		if (strlen(w.orders[i].id) != event->subject.length ||
		    memcmp(w.orders[i].id, event->subject.data, event->subject.length) != 0)
			continue;
		for (int answer = STOCK_ANS_RESERVED; answer < STOCK_ANSWER_COUNT; answer++) {
			const char *type = stock_answer_type((enum stock_answer)answer);

			if (strlen(type) != event->type.length ||
			    memcmp(type, event->type.data, event->type.length) != 0)
				continue;
			CU_ASSERT_FATAL(w.answer_count < ANSWERS_MAX);
			w.answers[w.answer_count++] =
				(struct answer){ i,
						 stock_answer_letter((enum stock_answer)answer) };
		}
	}
}

/* Reads what inventory has published. */
static void read_answers(void)
{
	for (int p = 0; p < w.partitions; p++) {
		const struct memory_stream *stream;
		char key[32];

		snprintf(key, sizeof(key), "inventory:{%d}:events", p);
		stream = memory_stream_find(w.redis, key);
		if (stream == NULL)
			continue;
		for (size_t i = memory_stream_after(stream, w.read[p]); i < stream->count; i++) {
			struct rt_entry_event *events;
			size_t count = stored_events(&stream->entries[i], &events);

			for (size_t j = 0; j < count; j++)
				note_answer(&events[j]);
			free(events);
			w.read[p] = stream->entries[i].id;
		}
	}
}

/* Any of the answers, in any order: heard, lost, or heard again later. */
static void hear_some(size_t most)
{
	while (w.answer_count > 0 && most-- > 0) {
		size_t i = roll(w.answer_count);
		struct answer answer = w.answers[i];

		if (w.calm || !chance(15))
			hear(&w.orders[answer.order], answer.letter);
		if (w.calm || !chance(15))
			w.answers[i] = w.answers[--w.answer_count];
	}
}

/* ---- the instances ---- */

static void instance_stop(struct rt_task *task)
{
	struct instance *instance = RT_CONTAINER_OF(task, struct instance, end);

	rt_context_stop(instance->context, tests_count, &instance->stopped);
}

static void instance_kill(struct instance *instance)
{
	instance->dead = true;
	memory_host_kill(&instance->host);
	instance->end.run = instance_stop;
	rt_loop_post(w.loop, &instance->end);
}

static bool is_command(const char *wanted, const char *command)
{
	return wanted != NULL && strncmp(wanted, command, strlen(wanted)) == 0;
}

/* The calls for orders are noted. */
static int on_single(struct instance *instance, const struct memory_io *io, int64_t *delay_ms)
{
	size_t length = strlen(w.sent);
	char command[32] = "";

	if (strncmp(io->what, "inventory_", 10) == 0 && io->argc > 3)
		sscanf(io->argv[3].data, "inventory:{%31[0-9]", command);
	if (command[0] == '\0' || strstr(io->what, "_version") != NULL ||
	    strstr(io->what, "_state") != NULL || strstr(io->what, "_cursor") != NULL ||
	    strstr(io->what, "_trim") != NULL || strstr(io->what, "_pending") != NULL ||
	    strstr(io->what, "_acknowledge") != NULL)
		return RT_OK;
	memmove(command + strlen(io->what) - 10, command, strlen(command) + 1);
	memcpy(command, io->what + 10, strlen(io->what) - 10);
	if (is_command(w.breaking, command)) {
		*delay_ms += 1000;
		if (io->after) {
			w.breaking = NULL;
			rt_redis_reset(rt_store_redis(instance->context->partitions[1].store));
		}
	}
	if (io->after)
		return RT_OK;
	if (length + strlen(command) + 2 < sizeof(w.sent))
		snprintf(w.sent + length, sizeof(w.sent) - length, "%s%s", length > 0 ? " " : "",
			 command);
	if (is_command(w.late, command)) {
		w.late = NULL;
		*delay_ms += 5000;
		return MEMORY_LATE;
	}
	if (is_command(w.killing, command)) {
		w.killing = NULL;
		instance_kill(instance);
		return RT_CANCELED;
	}
	return is_command(w.failing, command) ? RT_LOST : RT_OK;
}

static int on_io(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	static const int statuses[] = { RT_LOST, RT_TIMEOUT };
	struct instance *instance = user;

	*delay_ms = (int64_t)roll(5);
	if (instance->dead)
		return RT_CANCELED;
	if (w.calm)
		return on_single(instance, io, delay_ms);
	if (roll(1000) == 0) {
		instance_kill(instance);
		return RT_CANCELED;
	}
	if (chance(3))
		*delay_ms += (int64_t)roll(4000);
	if (chance(2))
		return statuses[roll(RT_LENGTH(statuses))];
	if (!io->after && chance(3)) {
		*delay_ms += (int64_t)roll(6000);
		return MEMORY_LATE;
	}
	return RT_OK;
}

static void instance_start(size_t i)
{
	struct instance *instance = &w.instances[i];
	/* So few that a reconciliation does not remember all parts, and mends before it has scanned all. */
	const struct inventory_options domain = { .sweep_after_ms = INVENTORY_SWEEP_AFTER_MS,
						  .compare_max = i % 2 == 0 ? 0 : 2 };
	const struct rt_context_options options = { .events = { RT_EVENTS_DEFAULTS },
						    .domain_options = &domain,
						    .partition_count = w.partitions,
						    .trim_every_ms = 60000,
						    .stale_ms = 60000 };

	instance->stopped = 0;
	instance->dead = false;
	snprintf(instance->name, sizeof(instance->name), "i%zu-%u", i, ++instance->lives);
	memory_host_init(&instance->host, w.redis, instance->name, on_io, instance);
	instance->context =
		stored_context(&instance->host, &inventory_domain, options, instance->name);
	rt_loop_run_due(w.loop);
	rt_context_start(instance->context);
}

/* Ends an instance, if it is not dead already. */
static void instance_end(struct instance *instance)
{
	if (!instance->dead)
		instance_stop(&instance->end);
	for (int i = 0; i < 2000 && instance->stopped == 0; i++)
		rt_loop_advance(w.loop, 10);
	CU_ASSERT_EQUAL_FATAL(instance->stopped, 1);
	rt_context_free(instance->context);
}

/* Others take the place of those that died in the middle of something. */
static void replace_the_dead(void)
{
	for (int i = 0; i < w.instance_count; i++) {
		if (!w.instances[i].dead)
			continue;
		instance_end(&w.instances[i]);
		instance_start((size_t)i);
	}
}

/* ---- losses ---- */

static void forget(struct saved *saved)
{
	for (size_t i = 0; i < saved->count; i++)
		for (int j = 0; j < 3; j++)
			free(saved->texts[i][j]);
	saved->count = 0;
	saved->taken = false;
}

static void save_text(struct saved *saved, const char *key, const char *field, const char *value)
{
	CU_ASSERT_FATAL(saved->count < SAVED_MAX);
	saved->texts[saved->count][0] = rt_strdup(key);
	saved->texts[saved->count][1] = rt_strdup(field);
	saved->texts[saved->count++][2] = rt_strdup(value);
}

/* A step takes them back together. */
static const char *const hashes[] = { "stock", "r",          "parts",         "generations",
				      "alive", "partitions", "reconciliation" };

/* The partition's replica is here, and no further for now. */
static void save(int p)
{
	struct saved *saved = &w.saved[p];
	const redisReply *reply;
	char key[48];

	forget(saved);
	saved->taken = true;
	for (size_t i = 0; i < RT_LENGTH(hashes); i++) {
		snprintf(key, sizeof(key), "inventory:{%d}:%s", p, hashes[i]);
		if (memory_find(w.redis, key, MEMORY_HASH) == NULL)
			continue;
		reply = memory_do(w.redis, "HGETALL", key, NULL);
		for (size_t j = 0; j < reply->elements; j += 2)
			save_text(saved, key, reply->element[j]->str, reply->element[j + 1]->str);
	}
	snprintf(key, sizeof(key), "inventory:{%d}:generation", p);
	reply = memory_do(w.redis, "GET", key, NULL);
	if (reply->type == REDIS_REPLY_STRING)
		save_text(saved, key, NULL, reply->str);
	memcpy(saved->orders, w.orders, sizeof(w.orders));
}

/* Requests and answers are gone, too. */
static void empty(const char *stream)
{
	const struct memory_stream *found = memory_stream_find(w.redis, stream);
	char last[MEMORY_ID_TEXT];

	if (found == NULL)
		return;
	memory_id_format(found->last, last);
	memory_do(w.redis, "XTRIM", stream, "MAXLEN", "0", NULL);
	for (size_t i = 0; i < found->group_count; i++)
		memory_do(w.redis, "XGROUP", "SETID", stream, found->groups[i]->name, last, NULL);
}

/* The replica becomes the master. */
static void lose(int p)
{
	struct saved *saved = &w.saved[p];
	char key[48];

	for (size_t i = 0; i < RT_LENGTH(hashes); i++) {
		snprintf(key, sizeof(key), "inventory:{%d}:%s", p, hashes[i]);
		if (memory_find(w.redis, key, MEMORY_HASH) != NULL)
			memory_do(w.redis, "DEL", key, NULL);
	}
	snprintf(key, sizeof(key), "inventory:{%d}:generation", p);
	memory_do(w.redis, "DEL", key, NULL);
	for (size_t i = 0; i < saved->count; i++) {
		char **text = saved->texts[i];

		if (text[1] != NULL)
			memory_do(w.redis, "HSET", text[0], text[1], text[2], NULL);
		else
			memory_do(w.redis, "SET", text[0], text[2], NULL);
	}
	snprintf(key, sizeof(key), "order:{%d}:events", p);
	empty(key);
	snprintf(key, sizeof(key), "inventory:{%d}:events", p);
	empty(key);
	for (size_t i = w.answer_count; i-- > 0;)
		if (w.orders[w.answers[i].order].partition == p)
			w.answers[i] = w.answers[--w.answer_count];
	for (size_t i = 0; i < ORDERS; i++)
		if (w.orders[i].partition == p)
			w.orders[i] = saved->orders[i];
	forget(saved);
	memory_master_restarts(w.redis, p);
	w.losses++;
}

/* Other processes serve from now on, with the data of before: for the partitions of which it was saved, sometimes for
 * all. */
static void fail_over(void)
{
	bool all = chance(30);

	for (int p = 0; p < w.partitions; p++)
		if (w.saved[p].taken)
			lose(p);
		else if (all)
			memory_master_restarts(w.redis, p);
	for (int i = 0; i < w.instance_count; i++)
		memory_host_cut(&w.instances[i].host, false);
}

/* `instances` 0: some. */
static void begin(uint64_t seed, int partitions, int instances, const struct memory_patch *mistake)
{
	memset(&w, 0, sizeof(w));
	CU_ASSERT_FATAL(rt_loop_new_manual(START_MS, seed, &w.loop) == RT_OK);
	w.redis = memory_redis_new(w.loop);
	w.redis->patches = mistake;
	w.redis->patch_count = mistake != NULL;
	stored_load(w.redis);
	w.partitions = partitions;
	w.redis->master_count = in_one_redis ? 1 : partitions;
	w.redis->together = in_one_redis;
	w.instance_count = instances > 0 ? instances : 2 + (int)roll(INSTANCES_MAX - 1);
	w.calm = true;
	for (int i = 0; i < w.instance_count; i++)
		instance_start((size_t)i);
	rt_loop_advance(w.loop, 1000);
}

static void end(void)
{
	for (int p = 0; p < PARTITIONS_MAX; p++)
		forget(&w.saved[p]);
	for (int i = 0; i < w.instance_count; i++)
		instance_end(&w.instances[i]);
	CU_ASSERT_EQUAL(w.redis->undeclared, 0);
	memory_redis_free(w.redis);
	rt_loop_free(w.loop);
}

/* ---- stock and orders ---- */

static int partition_of(const char *sku)
{
	return rt_bucket_partition(rt_bucket(sku, strlen(sku)), w.partitions);
}

static void stock_make(void)
{
	for (size_t i = 0; i < SKUS; i++) {
		uint64_t items = roll(12);
		char key[32], counters[64];

		snprintf(w.skus[i], sizeof(w.skus[i]), "s%zu", i);
		snprintf(key, sizeof(key), "inventory:{%d}:stock", partition_of(w.skus[i]));
		snprintf(counters, sizeof(counters), "%" PRIu64 " 0 0 %" PRIu64 " 1", items, items);
		memory_do(w.redis, "HSET", key, w.skus[i], counters, NULL);
	}
}

static void order_make(struct order *order)
{
	unsigned bucket = (unsigned)roll(RT_BUCKETS);
	uint8_t random[10];
	size_t first = roll(SKUS), count = 1 + roll(LINES_MAX);

	rt_loop_random_bytes(w.loop, random, sizeof(random));
	order_id_new(START_MS, random, order->id);
	order_id_put_bucket(bucket, order->id);
	order->partition = rt_bucket_partition(bucket, w.partitions);
	for (size_t i = 0; i < count; i++)
		order->lines[order->line_count++] =
			(struct inventory_line){ w.skus[(first + 3 * i) % SKUS],
						 1 + (uint32_t)roll(2) };
}

/* ---- a run ---- */

/* What a client or a timer does to an order. */
static void act(struct order *order)
{
	switch (order->status) {
	case NEW:
		move(order, PENDING, STOCK_REQ_RESERVE);
		if (chance(25))
			move(order, CANCELLING, STOCK_REQ_RELEASE);
		break;
	case PENDING:
	case CONFIRMING:
	case CANCELLING:
		if (order->status == PENDING && chance(20))
			move(order, CANCELLING, STOCK_REQ_RELEASE);
		else
			ask_again(order);
		break;
	case RESERVED:
		if (chance(50))
			move(order, CONFIRMING, STOCK_REQ_COMMIT);
		else if (chance(50))
			move(order, CANCELLING, STOCK_REQ_RELEASE);
		break;
	default:
		/* A request of long ago is delivered again. */
		if (chance(50))
			publish(order, STOCK_REQ_RESERVE);
		break;
	}
}

/* The state of what is stored of an order, its first word; NONE: nothing. */
static enum stock_state stored_state(int partition, const char *hash, const char *order_id)
{
	const struct memory_text *text;
	enum stock_state state = STOCK_NONE;
	char key[32], word[16];

	snprintf(key, sizeof(key), "inventory:{%d}:%s", partition, hash);
	text = field_of(key, order_id);
	if (text != NULL &&
	    (sscanf(text->data, "%15s", word) != 1 || !stock_state_parse(word, &state)))
		broken("damaged record of", order_id);
	return state;
}

/* It was being confirmed, and what was reserved is lost and cannot be had again: a person's matter. */
static bool is_owed(const struct order *order)
{
	return w.losses > 0 && order->status == CONFIRMING &&
	       stored_state(order->partition, "r", order->id) == STOCK_RELEASED;
}

static bool is_quiet(void)
{
	bool quiet = w.answer_count == 0 && memory_late_count(w.redis) == 0;

	for (int p = 0; p < w.partitions && quiet; p++) {
		const struct memory_stream *stream;
		char key[32];

		snprintf(key, sizeof(key), "order:{%d}:events", p);
		stream = memory_stream_find(w.redis, key);
		for (size_t g = 0; stream != NULL && g < stream->group_count; g++)
			quiet = quiet && stream->groups[g]->pending_count == 0 &&
				memory_id_compare(stream->groups[g]->delivered, stream->last) == 0;
	}
	for (size_t i = 0; i < ORDERS && quiet; i++)
		quiet = w.orders[i].status != PENDING && w.orders[i].status != CANCELLING &&
			(w.orders[i].status != CONFIRMING || is_owed(&w.orders[i]));
	return quiet;
}

static void calm_down(void)
{
	w.calm = true;
	replace_the_dead();
	for (int i = 0; i < 100 && !is_quiet(); i++) {
		rt_loop_advance(w.loop, 5000);
		read_answers();
		hear_some(SIZE_MAX);
		for (size_t j = 0; j < ORDERS; j++)
			if (!is_owed(&w.orders[j]))
				ask_again(&w.orders[j]);
	}
	if (!is_quiet())
		broken("never quiet", "");
}

/* ---- what must hold ---- */

/* What orders hold and bought of each SKU, by their records and parts. */
struct held {
	uint64_t reserved, committed;
};

static bool is_whole(const struct order *order)
{
	for (size_t i = 0; i < order->line_count; i++)
		if (partition_of(order->lines[i].sku) != order->partition)
			return false;
	return true;
}

static uint64_t available_of(const char *sku)
{
	const struct memory_text *text;
	char key[32];

	snprintf(key, sizeof(key), "inventory:{%d}:stock", partition_of(sku));
	text = field_of(key, sku);
	return text == NULL ? 0 : strtoull(text->data, NULL, 10);
}

static void check_order(const struct order *order, struct held *held)
{
	enum stock_state record = stored_state(order->partition, "r", order->id);
	bool holds = record == STOCK_RESERVED || record == STOCK_COMMITTED;

	for (size_t i = 0; i < order->line_count; i++) {
		size_t sku = strtoul(order->lines[i].sku + 1, NULL, 10);
		enum stock_state part = is_whole(order)
						? record
						: stored_state(partition_of(order->lines[i].sku),
							       "parts", order->id);

		if (record == STOCK_COMMITTED && part != record && w.losses > 0 &&
		    available_of(order->lines[i].sku) < order->lines[i].quantity)
			w.owed++;
		else if (holds && part != record)
			broken("a part is not what the record says of", order->id);
		if (!holds && (part == STOCK_RESERVED || part == STOCK_COMMITTED))
			broken("held for nobody:", order->id);
		if (part == STOCK_RESERVED)
			held[sku].reserved += order->lines[i].quantity;
		if (part == STOCK_COMMITTED)
			held[sku].committed += order->lines[i].quantity;
	}
	if ((order->status == RESERVED && record != STOCK_RESERVED) ||
	    (order->status == CONFIRMED && record != STOCK_COMMITTED) ||
	    (order->status == REJECTED && record != STOCK_UNAVAILABLE &&
	     record != STOCK_RELEASED) ||
	    (order->status == CANCELLED && record != STOCK_RELEASED))
		broken("the order is not what the record says:", order->id);
}

static void check(void)
{
	struct held held[SKUS] = { { 0, 0 } };

	for (size_t i = 0; i < ORDERS; i++) {
		check_order(&w.orders[i], held);
		w.owed += is_owed(&w.orders[i]);
	}
	for (size_t i = 0; i < SKUS; i++) {
		uint64_t available, reserved, committed, received;
		const struct memory_text *text;
		char key[32];

		snprintf(key, sizeof(key), "inventory:{%d}:stock", partition_of(w.skus[i]));
		text = field_of(key, w.skus[i]);
		if (text == NULL ||
		    sscanf(text->data, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &available,
			   &reserved, &committed, &received) != 4 ||
		    received != available + reserved + committed || reserved != held[i].reserved ||
		    committed != held[i].committed)
			broken("the counters do not add up of", w.skus[i]);
	}
}

/* In some steps a replica falls back, and later it may become the master. */
static void lose_some(int step)
{
	if (step == LOSSES_STEPS - 30 || chance(5))
		save((int)roll((uint64_t)w.partitions));
	if (step < LOSSES_STEPS - 30 && chance(3))
		fail_over();
}

/* Returns whether every promise was kept. What the run did is added to `seen`, by the orders' ends. */
static bool run(uint64_t seed, int partitions, bool with_losses, const struct memory_patch *mistake,
		unsigned seen[CANCELLED + 1])
{
	bool good;

	begin(seed, partitions, 0, mistake);
	stock_make();
	for (size_t i = 0; i < ORDERS; i++)
		order_make(&w.orders[i]);
	w.calm = false;
	for (int i = 0; i < (with_losses ? LOSSES_STEPS : STEPS) && w.trouble[0] == '\0'; i++) {
		act(&w.orders[roll(ORDERS)]);
		rt_loop_advance(w.loop, (int64_t)roll(chance(10) ? 1000 : 30));
		read_answers();
		hear_some(roll(4));
		replace_the_dead();
		if (with_losses)
			lose_some(i);
		if (chance(1))
			memory_host_cut(&w.instances[roll((uint64_t)w.instance_count)].host, false);
	}
	/* A last one, behind which no order would find by itself what is apart. */
	if (with_losses)
		fail_over();
	calm_down();
	if (with_losses) {
		/* What nobody asks for again is released a minute later; and those whose reservation ends with it ask. */
		for (int i = 0; i < 2; i++) {
			rt_loop_advance(w.loop, 70000);
			read_answers();
			hear_some(SIZE_MAX);
			calm_down();
		}
	}
	if (w.trouble[0] == '\0')
		check();
	for (size_t i = 0; i < ORDERS; i++)
		seen[w.orders[i].status]++;
	good = w.trouble[0] == '\0';
	if (!good && mistake == NULL)
		printf("\n    seed %" PRIu64 ", %d partitions: %s", seed, partitions, w.trouble);
	end();
	return good;
}

static void every_promise_is_kept(void)
{
	unsigned seen[CANCELLED + 1] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		in_one_redis = seed % 2 == 0;
		CU_ASSERT_TRUE(run(seed, 1 << (1 + seed % 3), false, NULL, seen));
	}
	in_one_redis = false;
	/* All ends were reached, and each by many. */
	CU_ASSERT(seen[REJECTED] > SEEDS && seen[CONFIRMED] > SEEDS && seen[CANCELLED] > SEEDS);
}

/* Masters lose their last writes: in the end records and parts are together again, nothing is held for nobody. Only a
 * sale may be owed. */
static void losses_are_mended(void)
{
	unsigned seen[CANCELLED + 1] = { 0 }, losses = 0, owed = 0;

	for (uint64_t seed = 1; seed <= SEEDS / 2; seed++) {
		CU_ASSERT_TRUE(run(seed, 1 << (1 + seed % 3), true, NULL, seen));
		losses += w.losses;
		owed += w.owed;
	}
	CU_ASSERT(losses > SEEDS && owed < losses / 4);
	CU_ASSERT(seen[CONFIRMED] > SEEDS / 6 && seen[CANCELLED] > SEEDS / 6);
}

/* With one partition nothing is split, and the same holds. */
static void one_partition(void)
{
	unsigned seen[CANCELLED + 1] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS / 10; seed++)
		CU_ASSERT_TRUE(run(seed, 1, false, NULL, seen));
}

/* Rules of the functions taken out are noticed (the single orders notice others). */
static void mistakes_are_found(void)
{
	static const struct {
		const char *what;
		struct memory_patch patch;
		bool with_losses, in_one_redis;
	} rows[] = {
		{ "a reservation at once does not look for parts",
		  { "inventory", "if parts[k] then\n\t\t\tbegun[at[k]] = true", "if false then" },
		  false,
		  true },
		{ "a reservation at once leaves no parts",
		  { "inventory", "\t\ttogether.add_part(lines.q, order_id, 'RESERVED'",
		    "\t\ttostring(lines.q, order_id, 'RESERVED'" },
		  false,
		  true },
		{ "a reservation at once does not write counters",
		  { "inventory", "\twrite_pairs(place.own.stock, counter_pairs, moved)", "" },
		  false,
		  true },
		{ "a conclusion does not look at the record",
		  { "inventory", "elseif state ~= read[i] then", "elseif false then" },
		  false,
		  false },
		{ "a refused part is tried again",
		  { "inventory", "local rule = state and PART_RULES[state][requests[i]]",
		    "if state == 'U' then state, text = 'N', lines[i] end\n"
		    "local rule = state and PART_RULES[state][requests[i]]" },
		  false,
		  false },
		{ "a released part is held again",
		  { "inventory", "local rule = state and PART_RULES[state][requests[i]]",
		    "if state == 'L' then state, text = 'N', lines[i] end\n"
		    "local rule = state and PART_RULES[state][requests[i]]" },
		  false,
		  false },
		{ "a held part is held again",
		  { "inventory", "local rule = state and PART_RULES[state][requests[i]]",
		    "if state == 'R' and requests[i] == 104 then state, text = 'N', lines[i] end\n"
		    "local rule = state and PART_RULES[state][requests[i]]" },
		  false,
		  false },
		{ "nothing is reconciled",
		  { "inventory", "if letter and find(letters", "if false and find(letters" },
		  true,
		  false },
		{ "nothing is swept",
		  { "inventory", "'sweep', sweep)\n\tif args[6]", "'sweep', '')\n\tif args[6]" },
		  true,
		  false },
		{ "what changes is not noted",
		  { "inventory",
		    "call('ZADD', own['recent:' .. kind], now_ms, now_ms .. concat(recent, ' ', 1, "
		    "n))",
		    "" },
		  true,
		  false },
		{ "a part that is lost is not taken again",
		  { "inventory", "local rule = state and PART_RULES[state][requests[i]]",
		    "if state == 'N' and requests[i] == 82 then return 'R' end\n"
		    "local rule = state and PART_RULES[state][requests[i]]" },
		  true,
		  false },
	};

	for (size_t i = 0; i < TESTS_PART(RT_LENGTH(rows)); i++) {
		unsigned seen[CANCELLED + 1] = { 0 };
		uint64_t seed = 1;

		in_one_redis = rows[i].in_one_redis;
		while (seed <= MISTAKE_SEEDS &&
		       run(seed, 1 << (1 + seed % 3), rows[i].with_losses, &rows[i].patch, seen))
			seed++;
		in_one_redis = false;
		TEST_ROW(seed <= MISTAKE_SEEDS, rows[i].what);
	}
}

/* ---- single orders ---- */

/* An order of partition 0, with a line in partition 1 and one in partition 2. Five pieces of each are there. */
static struct order *single(void)
{
	struct order *order = &w.orders[0];
	uint8_t random[10] = { 0 };

	begin(1, 4, 1, NULL);
	order_id_new(START_MS, random, order->id);
	order_id_put_bucket(0, order->id);
	for (int q = 1; q <= 2; q++) {
		char key[32];

		do
			snprintf(w.skus[q], sizeof(w.skus[q]), "s%d", (int)roll(1000));
		while (partition_of(w.skus[q]) != q);
		order->lines[order->line_count++] = (struct inventory_line){ w.skus[q], 2 };
		snprintf(key, sizeof(key), "inventory:{%d}:stock", q);
		memory_do(w.redis, "HSET", key, w.skus[q], "5 0 0 5 1", NULL);
	}
	return order;
}

static void ask_for(struct order *order, enum stock_request request, uint32_t attempt)
{
	w.sent[0] = '\0';
	ask(order, request, attempt);
	rt_loop_advance(w.loop, 8000);
}

/* What of the order is stored in a hash: its state and lines; "": nothing. */
static void stored_is(int partition, const char *hash, const char *wanted)
{
	const struct memory_text *text;
	char key[32], found[256] = "", state[32], lines[200];

	snprintf(key, sizeof(key), "inventory:{%d}:%s", partition, hash);
	text = field_of(key, w.orders[0].id);
	if (text != NULL && sscanf(text->data, "%31s %*s %*s %199[^\n]", state, lines) == 2)
		snprintf(found, sizeof(found), "%s %s", state, lines);
	for (int q = 1; q <= 2; q++) {
		/* The SKU of partition 1 is written 'a', that of 2 'b'. */
		char *at = strstr(found, w.skus[q]);

		if (at == NULL)
			continue;
		*at = q == 1 ? 'a' : 'b';
		memmove(at + 1, at + strlen(w.skus[q]), strlen(at + strlen(w.skus[q])) + 1);
	}
	CU_ASSERT_STRING_EQUAL(found, wanted);
}

static void all_is(const char *record, const char *part1, const char *part2)
{
	stored_is(0, "r", record);
	stored_is(1, "parts", part1);
	stored_is(2, "parts", part2);
}

static void counters_are(int q, const char *wanted)
{
	char key[32], found[64] = "";
	const struct memory_text *text;

	snprintf(key, sizeof(key), "inventory:{%d}:stock", q);
	text = field_of(key, w.skus[q]);
	if (text != NULL)
		snprintf(found, sizeof(found), "%.*s", (int)(strrchr(text->data, ' ') - text->data),
			 text->data);
	CU_ASSERT_STRING_EQUAL(found, wanted);
}

/* The letters of the answers since the last call. */
static void answered(const char *wanted)
{
	char letters[32] = "";

	read_answers();
	for (size_t i = 0; i < w.answer_count && i + 1 < sizeof(letters); i++)
		letters[i] = w.answers[i].letter;
	w.answer_count = 0;
	CU_ASSERT_STRING_EQUAL(letters, wanted);
}

static bool is_acknowledged(void)
{
	const struct memory_stream *stream = memory_stream_find(w.redis, "order:{0}:events");

	return stream->groups[0]->pending_count == 0;
}

/* Stores a record or the part of partition 1: `head`, then the SKU of partition 1 with `a` behind it, and that of 2 with
 * `b`, unless that is NULL. */
static void set(int partition, const char *hash, const char *head, const char *a, const char *b)
{
	char key[32], text[128];

	snprintf(key, sizeof(key), "inventory:{%d}:%s", partition, hash);
	snprintf(text, sizeof(text), "%s %s%s%s%s%s", head, w.skus[1], a, b != NULL ? " " : "",
		 b != NULL ? w.skus[2] : "", b != NULL ? b : "");
	memory_do(w.redis, "HSET", key, w.orders[0].id, text, NULL);
}

static void a_life(void)
{
	struct order *order = single();

	ask_for(order, STOCK_REQ_RESERVE, 1);
	/* Both parts side by side; the record is not read before. */
	CU_ASSERT(strcmp(w.sent, "part1 part2 conclude0") == 0 ||
		  strcmp(w.sent, "part2 part1 conclude0") == 0);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	counters_are(1, "3 2 0 5");
	CU_ASSERT(is_acknowledged());
	ask_for(order, STOCK_REQ_RESERVE, 2);
	CU_ASSERT_STRING_EQUAL(w.sent, "request0 conclude0");
	ask_for(order, STOCK_REQ_COMMIT, 1);
	all_is("COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2");
	counters_are(2, "3 0 2 5");
	ask_for(order, STOCK_REQ_RELEASE, 1);
	all_is("COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2");
	answered("RRCC");
	CU_ASSERT(is_acknowledged());
	end();
}

static void a_refusal_releases_the_rest(void)
{
	struct order *order = single();

	order->lines[1].quantity = 6;
	ask_for(order, STOCK_REQ_RESERVE, 1);
	all_is("UNAVAILABLE a=2@1 b=6/5@2", "RELEASED a=2", "UNAVAILABLE b=6/5");
	counters_are(1, "5 0 0 5");
	CU_ASSERT_EQUAL(strncmp(w.sent + strlen("part1 part2"), " part1 conclude0", 16), 0);
	ask_for(order, STOCK_REQ_REJECT, 1);
	CU_ASSERT_STRING_EQUAL(w.sent, "request0 conclude0");
	ask_for(order, STOCK_REQ_REJECT, 2);
	all_is("RELEASED a=2@1 b=6/5@2", "RELEASED a=2", "UNAVAILABLE b=6/5");
	answered("UL");
	end();
}

/* One call as ever, if all of its stock is where the order is. */
static void an_order_in_one_partition_is_one_call(void)
{
	struct order *order = single();

	order_id_put_bucket(1, order->id);
	order->partition = 1;
	order->line_count = 1;
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_STRING_EQUAL(w.sent, "request1");
	stored_is(1, "r", "RESERVED a=2");
	ask_for(order, STOCK_REQ_COMMIT, 1);
	CU_ASSERT_STRING_EQUAL(w.sent, "request1");
	answered("RC");
	end();
}

/* Parts are held, and then nothing is ever heard of the request again. The release finds no record. */
static void a_release_finds_what_was_held(void)
{
	struct order *order = single();

	w.failing = "conclude";
	ask_for(order, STOCK_REQ_RESERVE, 1);
	all_is("", "RESERVED a=2", "RESERVED b=2");
	w.failing = NULL;
	w.instances[0].dead = true;
	memory_host_kill(&w.instances[0].host);
	instance_stop(&w.instances[0].end);
	memory_do(w.redis, "DEL", "order:{0}:events", NULL);
	replace_the_dead();
	rt_loop_advance(w.loop, 5000);
	ask_for(order, STOCK_REQ_RELEASE, 1);
	all_is("RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2");
	counters_are(1, "5 0 0 5");
	answered("L");
	end();
}

/* The release came first, and a hold takes effect long after everybody has given it up. */
static void a_hold_that_is_late_finds_the_tombstone(void)
{
	struct order *order = single();

	ask_for(order, STOCK_REQ_RELEASE, 1);
	all_is("RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2");
	w.late = "part2";
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_PTR_NULL(w.late);
	CU_ASSERT_EQUAL(memory_late_count(w.redis), 0);
	all_is("RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2");
	counters_are(2, "5 0 0 5");
	answered("LL");
	end();
}

/* Whatever is held for an order is released before it hears again that it gets nothing. */
static void what_is_over_is_answered_after_the_release(void)
{
	for (int i = 0; i < 2; i++) {
		struct order *order = single();

		set(0, "r", i == 0 ? "UNAVAILABLE 1 5" : "RELEASED 1 5", "=2@1",
		    i == 0 ? "=2/1@2" : "=2@2");
		set(1, "parts", "RESERVED 0 5", "=2", NULL);
		memory_do(w.redis, "HSET", "inventory:{1}:stock", w.skus[1], "3 2 0 5 2", NULL);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		counters_are(1, "5 0 0 5");
		stored_is(1, "parts", "RELEASED a=2");
		/* A tombstone, too, where there was no part. */
		stored_is(2, "parts", "RELEASED b=2");
		answered(i == 0 ? "U" : "L");
		end();
	}
}

/* A part is gone: what was promised is taken from what is available; or nothing is said, until it can be had. */
static void a_commit_that_finds_no_part(void)
{
	struct order *order = single();

	set(0, "r", "RESERVED 1 5", "=2@1", "=2@2");
	set(1, "parts", "RESERVED 0 5", "=2", NULL);
	memory_do(w.redis, "HSET", "inventory:{1}:stock", w.skus[1], "3 2 0 5 2", NULL);
	memory_do(w.redis, "HSET", "inventory:{2}:stock", w.skus[2], "1 4 0 5 2", NULL);
	ask_for(order, STOCK_REQ_COMMIT, 1);
	all_is("RESERVED a=2@1 b=2@2", "COMMITTED a=2", "");
	answered("");
	CU_ASSERT_FALSE(is_acknowledged());
	/* Longer than any other event would be tried. */
	rt_loop_advance(w.loop, 300000);
	CU_ASSERT_FALSE(is_acknowledged());
	CU_ASSERT_PTR_NULL(memory_stream_find(w.redis, "inventory:{0}:dead"));
	memory_do(w.redis, "HSET", "inventory:{2}:stock", w.skus[2], "2 4 0 6 3", NULL);
	rt_loop_advance(w.loop, 30000);
	all_is("COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2");
	counters_are(2, "0 4 2 6");
	answered("C");
	CU_ASSERT(is_acknowledged());
	end();
}

/* What the master of partition 1 said may not be known to the one that is there now: nothing is concluded before all
 * parts have been asked again. */
static void a_connection_that_breaks_voids_what_was_said(void)
{
	struct order *order = single();

	w.breaking = "part2";
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_PTR_NULL(w.breaking);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	CU_ASSERT_EQUAL(strncmp(w.sent + strlen("part1 part2"), " request0 part", 14), 0);
	end();
}

/* The partitions whose masters are other ones. */
static void replaced(const char *partitions)
{
	for (; *partitions != '\0'; partitions++)
		memory_master_restarts(w.redis, *partitions - '0');
}

/* Others have raised the generation of the order's partition: it begins again, with that. */
static void an_older_generation_begins_again(void)
{
	for (int i = 0; i < 2; i++) {
		struct order *order = single();

		memory_do(w.redis, "SET", "inventory:{0}:generation", "4", NULL);
		if (i == 1)
			memory_do(w.redis, "HSET", "inventory:{1}:generations", "0", "4", NULL);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		CU_ASSERT(is_acknowledged());
		all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
		answered("R");
		CU_ASSERT_PTR_NOT_NULL(strstr(w.sent, "request0"));
		CU_ASSERT_PTR_NOT_NULL_FATAL(field_of("inventory:{2}:generations", "0"));
		CU_ASSERT_STRING_EQUAL(field_of("inventory:{2}:generations", "0")->data, "4");
		end();
	}
}

/* If a higher one is known elsewhere, of a reconciliation whose beginning was lost, the partition gets one above that. */
static void a_generation_that_was_lost_is_passed(void)
{
	struct order *order = single();

	memory_do(w.redis, "HSET", "inventory:{1}:generations", "0", "7", NULL);
	ask_for(order, STOCK_REQ_RESERVE, 1);
	rt_loop_advance(w.loop, 5000);
	CU_ASSERT(is_acknowledged());
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	answered("R");
	for (int q = 1; q <= 2; q++) {
		char key[32];

		snprintf(key, sizeof(key), "inventory:{%d}:generations", q);
		CU_ASSERT_PTR_NOT_NULL_FATAL(field_of(key, "0"));
		CU_ASSERT_STRING_EQUAL(field_of(key, "0")->data, "8");
	}
	end();
}

/* Its reservation is under way, and partition 1 does not get its part. */
static struct order *begun(void)
{
	struct order *order = single();

	w.failing = "part1";
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_FALSE(is_acknowledged());
	return order;
}

/* The partition has another master by then, and that one has the event: it delivers it again, and nobody has to ask. */
static void what_was_begun_goes_on_with_another_master(void)
{
	(void)begun();
	replaced("0");
	memory_host_cut(&w.instances[0].host, false);
	w.failing = NULL;
	rt_loop_advance(w.loop, 2000);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	answered("R");
	CU_ASSERT(is_acknowledged());
	end();
}

/* The other master has forgotten the order, and so nothing is done for it. */
static void another_master_forgets_what_was_begun(void)
{
	struct order *order = begun();

	empty("order:{0}:events");
	memory_do(w.redis, "XGROUP", "DESTROY", "order:{0}:events", "inventory", NULL);
	replaced("0");
	memory_host_cut(&w.instances[0].host, false);
	w.failing = NULL;
	rt_loop_advance(w.loop, 8000);
	all_is("", "", "RESERVED b=2");
	answered("");
	ask_for(order, STOCK_REQ_RESERVE, 2);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	answered("R");
	end();
}

/* ---- what callers see of several partitions ---- */

static struct {
	struct rt_client_op op;
	int ends, code;
	ProtobufCMessage *response; /* until the next call */
} call;

static void call_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	size_t size = response != NULL ? protobuf_c_message_get_packed_size(response) : 0;
	uint8_t *packed = rt_alloc(size + 1);

	call.ends++;
	call.code = op->status.code;
	if (response != NULL) {
		protobuf_c_message_pack(response, packed);
		call.response = protobuf_c_message_unpack(response->descriptor, NULL, size, packed);
	}
	free(packed);
}

/* The response as its own type; NULL when the call failed. */
static void *call_run(ProtobufCService *client, const char *method, const ProtobufCMessage *request)
{
	unsigned index = 0;

	if (call.response != NULL)
		protobuf_c_message_free_unpacked(RT_TAKE(call.response), NULL);
	memset(&call, 0, sizeof(call));
	if (request == NULL)
		return NULL;
	call.op.timeout_ms = 10000;
	call.op.done = call_done;
	while (strcmp(client->descriptor->methods[index].name, method) != 0)
		index++;
	rt_client_start(client, index, request, &call.op);
	rt_loop_advance(w.loop, 5000);
	CU_ASSERT_EQUAL(call.ends, 1);
	return call.response;
}

/* SKUs a0 … a19, i pieces of ai. */
static void adjust_twenty(ProtobufCService *client)
{
	Tandem__Inventory__V1__AdjustStockRequest requests[20], *list[20];
	Tandem__Inventory__V1__BatchAdjustStockRequest batch =
		TANDEM__INVENTORY__V1__BATCH_ADJUST_STOCK_REQUEST__INIT;
	const Tandem__Inventory__V1__BatchAdjustStockResponse *adjusted;
	char skus[20][8];

	for (int i = 0; i < 20; i++) {
		tandem__inventory__v1__adjust_stock_request__init(&requests[i]);
		snprintf(skus[i], sizeof(skus[i]), "a%d", i);
		requests[i].sku = skus[i];
		requests[i].delta = i + 1;
		list[i] = &requests[i];
	}
	batch.requests = list;
	batch.n_requests = 20;
	adjusted = call_run(client, "BatchAdjustStock", &batch.base);
	CU_ASSERT_FATAL(adjusted != NULL && adjusted->n_stocks == 20);
	for (size_t i = 0; i < 20; i++) {
		CU_ASSERT_STRING_EQUAL(adjusted->stocks[i]->stock->sku, skus[i]);
		CU_ASSERT_EQUAL(adjusted->stocks[i]->stock->received, i + 1);
	}
}

static void stock_is_one_to_callers(void)
{
	Tandem__Inventory__V1__ListStockRequest list =
		TANDEM__INVENTORY__V1__LIST_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__GetStockRequest get = TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
	const Tandem__Inventory__V1__GetStockResponse *got;
	char token[256] = "", last[80] = "";
	ProtobufCService *client;
	size_t seen = 0;

	begin(1, 4, 1, NULL);
	client = rt_client_local(w.loop, inventory_rpc(w.instances[0].context->data), NULL, NULL);
	adjust_twenty(client);
	get.sku = (char[]){ "a12" };
	got = call_run(client, "GetStock", &get.base);
	CU_ASSERT(got != NULL && got->stock->available == 13);
	list.page_size = 7;
	do {
		const Tandem__Inventory__V1__ListStockResponse *page;

		list.page_token = token;
		page = call_run(client, "ListStock", &list.base);
		CU_ASSERT_PTR_NOT_NULL_FATAL(page);
		for (size_t i = 0; i < page->n_stocks; i++) {
			CU_ASSERT(strcmp(last, page->stocks[i]->sku) < 0);
			snprintf(last, sizeof(last), "%s", page->stocks[i]->sku);
		}
		seen += page->n_stocks;
		snprintf(token, sizeof(token), "%s", page->next_page_token);
	} while (token[0] != '\0');
	CU_ASSERT_EQUAL(seen, 20);
	CU_ASSERT_STRING_EQUAL(last, "a9");
	(void)call_run(client, NULL, NULL);
	rt_client_free(client);
	end();
}

/* By the bucket in the order's id; one of before, which has none, in any partition. */
static void reservations_are_found(void)
{
	Tandem__Inventory__V1__GetReservationRequest get =
		TANDEM__INVENTORY__V1__GET_RESERVATION_REQUEST__INIT;
	const Tandem__Inventory__V1__GetReservationResponse *got;
	char old[ORDER_ID_LENGTH + 1], id[ORDER_ID_LENGTH + 1];
	uint8_t random[10] = { 7 };
	ProtobufCService *client;

	begin(1, 4, 1, NULL);
	client = rt_client_local(w.loop, inventory_rpc(w.instances[0].context->data), NULL, NULL);
	order_id_new(START_MS, random, old);
	order_id_new(START_MS, random, id);
	order_id_put_bucket(6, id);
	memory_do(w.redis, "HSET", "inventory:{3}:r", old, "RESERVED 1 5 a=2", NULL);
	memory_do(w.redis, "HSET", "inventory:{2}:r", id, "UNAVAILABLE 1 5 a=2/00@1 b=3/1@2", NULL);
	get.order_id = old;
	got = call_run(client, "GetReservation", &get.base);
	CU_ASSERT_FATAL(got != NULL && got->reservation->n_lines == 1);
	get.order_id = id;
	got = call_run(client, "GetReservation", &get.base);
	CU_ASSERT_FATAL(got != NULL && got->reservation->n_lines == 2 &&
			got->reservation->n_shortages == 2);
	CU_ASSERT_EQUAL(got->reservation->lines[1]->quantity, 3);
	CU_ASSERT_TRUE(got->reservation->shortages[0]->unknown);
	CU_ASSERT(got->reservation->shortages[1]->available == 1 &&
		  !got->reservation->shortages[1]->unknown);
	memory_do(w.redis, "HDEL", "inventory:{2}:r", id, NULL);
	memory_do(w.redis, "HSET", "inventory:{3}:r", id, "RESERVED 1 5 a=2", NULL);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT_PTR_NULL(call_run(client, "GetReservation", &get.base));
		CU_ASSERT_EQUAL(call.code, RT_CODE_NOT_FOUND);
		memory_do(w.redis, "HDEL", "inventory:{3}:r", old, NULL);
		get.order_id = old;
	}
	(void)call_run(client, NULL, NULL);
	rt_client_free(client);
	end();
}

/* What holds a SKU is in the partition of its stock: a record, or a part. */
static void holders_are_found(void)
{
	Tandem__Inventory__V1__ListReservationsRequest list =
		TANDEM__INVENTORY__V1__LIST_RESERVATIONS_REQUEST__INIT;
	const Tandem__Inventory__V1__ListReservationsResponse *page;
	char r[48], parts[48], stock[48];
	ProtobufCService *client;
	int partition;

	begin(1, 4, 1, NULL);
	client = rt_client_local(w.loop, inventory_rpc(w.instances[0].context->data), NULL, NULL);
	partition = rt_bucket_partition(rt_bucket("a", 1), 4);
	snprintf(r, sizeof(r), "inventory:{%d}:r", partition);
	snprintf(parts, sizeof(parts), "inventory:{%d}:parts", partition);
	snprintf(stock, sizeof(stock), "inventory:{%d}:stock", partition);
	memory_do(w.redis, "HSET", stock, "a", "0 9 0 9 3", NULL);
	memory_do(w.redis, "HSET", r, "o2", "RESERVED 1 5 a=2 d=7", NULL);
	memory_do(w.redis, "HSET", r, "o3", "RESERVED 1 5 a=3@1 b=2@2", NULL);
	memory_do(w.redis, "HSET", parts, "o3", "RESERVED 1 5 a=3", NULL);
	memory_do(w.redis, "HSET", parts, "o4", "RESERVED 3 5 c=1 a=4", NULL);
	list.sku = (char[]){ "a" };
	page = call_run(client, "ListReservations", &list.base);
	CU_ASSERT_FATAL(page != NULL && page->n_reservations == 3);
	CU_ASSERT_STRING_EQUAL(page->next_page_token, "");
	for (size_t i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(page->reservations[i]->lines[0]->quantity,
				strtoul(page->reservations[i]->order_id + 1, NULL, 10));
	(void)call_run(client, NULL, NULL);
	rt_client_free(client);
	end();
}

/* ---- a loss ---- */

/* As the functions note what they change. */
static void note_recent(int partition, const char *hash, const char *order_id, int64_t ms)
{
	char key[48], note[64], score[RT_INT_TEXT];

	snprintf(key, sizeof(key), "inventory:{%d}:recent:%s", partition, hash);
	rt_int_text(ms, score);
	snprintf(note, sizeof(note), "%s;%s %s", score, hash[0] == 'r' ? "r" : "0", order_id);
	memory_do(w.redis, "ZADD", key, score, note, NULL);
}

/* Stores "<STATE> <lines>", with the SKUs of partition 1 and 2 for 'a' and 'b', as changed at `ms`. */
static void put(int partition, const char *hash, const char *text, int64_t ms)
{
	char key[32], stored[200], state[16];
	int at = 0;

	snprintf(key, sizeof(key), "inventory:{%d}:%s", partition, hash);
	memory_do(w.redis, "HDEL", key, w.orders[0].id, NULL);
	if (sscanf(text, "%15s%n", state, &at) != 1)
		return;
	snprintf(stored, sizeof(stored), "%s %d %" PRId64, state, hash[0] == 'r', ms);
	for (const char *c = text + at; *c != '\0'; c++) {
		size_t length = strlen(stored);

		if (c[0] == 'a' || c[0] == 'b')
			snprintf(stored + length, sizeof(stored) - length, "%s",
				 w.skus[c[0] == 'a' ? 1 : 2]);
		else
			snprintf(stored + length, sizeof(stored) - length, "%c", c[0]);
	}
	memory_do(w.redis, "HSET", key, w.orders[0].id, stored, NULL);
	note_recent(partition, hash, w.orders[0].id, ms);
}

static void put_counters(int q, const char *counters)
{
	char key[32], text[64];

	snprintf(key, sizeof(key), "inventory:{%d}:stock", q);
	snprintf(text, sizeof(text), "%s 1", counters);
	memory_do(w.redis, "HSET", key, w.skus[q], text, NULL);
}

/* What is stored of an order behind a loss, and behind the reconciliation. */
struct loss {
	const char *what, *record, *part1, *part2, *counters2;
	const char *record_after, *part1_after, *part2_after, *counters2_after, *answers;
};
static const struct loss losses[] = {
	{ "q lost a hold", "RESERVED a=2@1 b=2@2", "RESERVED a=2", "", "5 0 0 5",
	  "RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2", "3 2 0 5", "" },
	{ "q lost a hold, and others have the stock by now", "RESERVED a=2@1 b=2@2", "RESERVED a=2",
	  "", "1 4 0 5", "RELEASED a=2@1 b=2@2", "RELEASED a=2", "UNAVAILABLE b=2/1", "1 4 0 5",
	  "L" },
	{ "q lost a sale", "COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "RESERVED b=2", "3 2 0 5",
	  "COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2", "3 0 2 5", "" },
	{ "q lost a hold and its sale", "COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "", "5 0 0 5",
	  "COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2", "3 0 2 5", "" },
	{ "q lost a hold and its sale, and others have the stock by now", "COMMITTED a=2@1 b=2@2",
	  "COMMITTED a=2", "", "1 4 0 5", "COMMITTED a=2@1 b=2@2", "COMMITTED a=2", "", "1 4 0 5",
	  "" },
	{ "q lost a release", "RELEASED a=2@1 b=2@2", "RELEASED a=2", "RESERVED b=2", "3 2 0 5",
	  "RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2", "5 0 0 5", "" },
	{ "q lost a refusal", "UNAVAILABLE a=2@1 b=2/1@2", "RELEASED a=2", "", "5 0 0 5",
	  "UNAVAILABLE a=2@1 b=2/1@2", "RELEASED a=2", "RELEASED b=2", "5 0 0 5", "" },
	{ "p lost the end of a sale", "RESERVED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2",
	  "3 0 2 5", "RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2", "3 2 0 5", "" },
	{ "p lost the end of a release", "RESERVED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2",
	  "5 0 0 5", "RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2", "3 2 0 5", "" },
	{ "p lost the end of a release, and others have the stock by now", "RESERVED a=2@1 b=2@2",
	  "RELEASED a=2", "RELEASED b=2", "1 4 0 5", "RELEASED a=2@1 b=2@2", "RELEASED a=2",
	  "UNAVAILABLE b=2/1", "1 4 0 5", "L" },
	{ "p lost all of a sale: its order asks again", "", "COMMITTED a=2", "COMMITTED b=2",
	  "3 0 2 5", "", "RESERVED a=2", "RESERVED b=2", "3 2 0 5", "" },
	{ "p lost a record", "", "RESERVED a=2", "RESERVED b=2", "3 2 0 5", "", "RESERVED a=2",
	  "RESERVED b=2", "3 2 0 5", "" },
	{ "p lost a record, but a release found no part", "RELEASED ", "RESERVED a=2",
	  "RESERVED b=2", "3 2 0 5", "RELEASED ", "RELEASED a=2", "RELEASED b=2", "5 0 0 5", "" },
};

/* The counters of partition 1 are what its part says. */
static const char *counters_of(const char *part)
{
	return part[0] == 'C' ? "3 0 2 5" : strncmp(part, "RES", 3) == 0 ? "3 2 0 5" : "5 0 0 5";
}

static void lost(const struct loss *loss, int64_t ms)
{
	put(0, "r", loss->record, ms);
	put(1, "parts", loss->part1, ms);
	put(2, "parts", loss->part2, ms);
	put_counters(1, counters_of(loss->part1));
	put_counters(2, loss->counters2);
	replaced(loss->what == NULL ? "012" : loss->what[0] == 'q' ? "2" : "0");
}

static void stored_so(const char *record, const char *part1, const char *part2,
		      const char *counters2)
{
	if (strcmp(record, "RELEASED ") == 0) {
		CU_ASSERT_EQUAL(stored_state(0, "r", w.orders[0].id), STOCK_RELEASED);
		record = ""; /* without lines, all_is reads nothing */
	}
	all_is(record, part1, part2);
	counters_are(1, counters_of(part1));
	counters_are(2, counters2);
}

static void each_loss_is_mended(void)
{
	for (size_t i = 0; i < RT_LENGTH(losses); i++) {
		const struct loss *loss = &losses[i];
		unsigned failures = CU_get_number_of_failures();

		single();
		lost(loss, rt_loop_unix_ms(w.loop));
		rt_loop_advance(w.loop, 5000);
		stored_so(loss->record_after, loss->part1_after, loss->part2_after,
			  loss->counters2_after);
		answered(loss->answers);
		/* Once more: everything is found as it should be. */
		replaced("012");
		rt_loop_advance(w.loop, 5000);
		stored_so(loss->record_after, loss->part1_after, loss->part2_after,
			  loss->counters2_after);
		answered("");
		TEST_ROW(CU_get_number_of_failures() == failures, loss->what);
		end();
	}
}

/* The replica had everything that is older. */
static void what_is_older_is_not_looked_at(void)
{
	single();
	rt_loop_advance(w.loop, 200000);
	lost(&losses[2], rt_loop_unix_ms(w.loop) - 100000);
	rt_loop_advance(w.loop, 5000);
	stored_so(losses[2].record, losses[2].part1, losses[2].part2, losses[2].counters2);
	end();
}

/* ... but what is younger than its last note of the master is. */
static void what_the_replica_lacks_is_looked_at(void)
{
	const struct loss *loss = &losses[2];
	char ms[RT_INT_TEXT];

	single();
	rt_loop_advance(w.loop, 200000);
	for (int q = 0; q < 4; q++) {
		char key[32];

		snprintf(key, sizeof(key), "inventory:{%d}:alive", q);
		rt_int_text(rt_loop_unix_ms(w.loop) - 100000, ms);
		memory_do(w.redis, "HSET", key, "0000000000000000", ms, NULL);
	}
	lost(loss, rt_loop_unix_ms(w.loop) - 90000);
	rt_loop_advance(w.loop, 5000);
	stored_so(loss->record_after, loss->part1_after, loss->part2_after, loss->counters2_after);
	end();
}

/* What a reconciliation has mended is of now, but the record that it went by is older. If that is lost again, the next one
 * looks as far back. */
static void what_was_mended_and_is_lost_again_is_mended(void)
{
	const struct loss *loss = &losses[5];
	int64_t then;

	single();
	rt_loop_advance(w.loop, 200000);
	then = rt_loop_unix_ms(w.loop) - 25000;
	for (int i = 0; i < 3; i++) {
		lost(loss, then);
		rt_loop_advance(w.loop, 20000);
		stored_so(loss->record_after, loss->part1_after, loss->part2_after,
			  loss->counters2_after);
	}
	end();
}

/* ... also if whoever has mended it died before the end, and who came after him found nothing to mend; and if p has lost
 * that somebody had begun. */
static void what_somebody_mended_who_died_is_mended_again(void)
{
	const struct loss *loss = &losses[5];

	for (int lost_by_p = 0; lost_by_p < 2; lost_by_p++) {
		int64_t then;

		single();
		rt_loop_advance(w.loop, 200000);
		instance_start((size_t)w.instance_count++);
		rt_loop_advance(w.loop, 2000);
		then = rt_loop_unix_ms(w.loop) - 25000;
		lost(loss, then);
		w.killing = "reconciled0";
		rt_loop_advance(w.loop, 500);
		CU_ASSERT_PTR_NULL(w.killing);
		stored_so(loss->record_after, loss->part1_after, loss->part2_after,
			  loss->counters2_after);
		if (lost_by_p) {
			memory_do(w.redis, "SET", "inventory:{0}:generation", "1", NULL);
			memory_do(w.redis, "HDEL", "inventory:{0}:reconciliation", "by", "until",
				  "under", NULL);
		}
		rt_loop_advance(w.loop, 10000);
		lost(loss, then);
		rt_loop_advance(w.loop, 5000);
		stored_so(loss->record_after, loss->part1_after, loss->part2_after,
			  loss->counters2_after);
		end();
	}
}

/* Switch after switch, with nothing lost: each time only that far back is looked. */
static void what_mended_nothing_makes_nobody_look_further_back(void)
{
	single();
	rt_loop_advance(w.loop, 200000);
	for (int i = 0; i < 4; i++) {
		replaced("2");
		rt_loop_advance(w.loop, 15000);
	}
	lost(&losses[2], rt_loop_unix_ms(w.loop) - 50000);
	rt_loop_advance(w.loop, 5000);
	stored_so(losses[2].record, losses[2].part1, losses[2].part2, losses[2].counters2);
	end();
}

/* A part is looked at when its master is another one, or that of its record. */
static void only_what_is_affected_is_looked_at(void)
{
	static const struct loss unknown = { .what = "p",
					     .record = "COMMITTED a=2@1 b=2@2",
					     .part1 = "COMMITTED a=2",
					     .part2 = "RESERVED b=2",
					     .counters2 = "3 2 0 5" };

	uint64_t history;

	single();
	history = w.redis->masters[0].history;
	lost(&unknown, rt_loop_unix_ms(w.loop));
	w.redis->masters[0].history = history;
	w.sent[0] = '\0';
	replaced("13");
	rt_loop_advance(w.loop, 5000);
	stored_so(unknown.record, unknown.part1, unknown.part2, unknown.counters2);
	CU_ASSERT_PTR_NOT_NULL(strstr(w.sent, "scan0"));
	CU_ASSERT_PTR_NOT_NULL(strstr(w.sent, "scan1"));
	CU_ASSERT_PTR_NOT_NULL(strstr(w.sent, "scan3"));
	CU_ASSERT_PTR_NULL(strstr(w.sent, "request0"));
	CU_ASSERT_PTR_NULL(strstr(w.sent, "part"));
	replaced("2");
	rt_loop_advance(w.loop, 5000);
	stored_so(unknown.record, unknown.part1, "COMMITTED b=2", "3 0 2 5");
	end();
}

/* The part of an order that was sold long ago, and whose drop the new master has not heard of: nobody asks for it again. */
static void a_part_of_a_dropped_order_comes_back(void)
{
	static const char dropped[] = "inventory:{2}:dropped";
	struct order *order = single();
	const struct memory_text *sold;
	int64_t then;

	ask_for(order, STOCK_REQ_RESERVE, 1);
	ask_for(order, STOCK_REQ_COMMIT, 1);
	then = rt_loop_unix_ms(w.loop);
	rt_loop_advance(w.loop, 200000);
	ask_for(order, STOCK_REQ_DROP, 1);
	all_is("", "", "");
	put(2, "parts", "COMMITTED b=2", then);
	memory_do(w.redis, "HDEL", dropped, w.skus[2], NULL);
	w.sent[0] = '\0';
	replaced("2");
	rt_loop_advance(w.loop, 5000);
	all_is("", "", "");
	counters_are(2, "3 0 2 5");
	sold = field_of(dropped, w.skus[2]);
	CU_ASSERT(sold != NULL && strcmp(sold->data, "2") == 0);
	/* The other part lies where nothing was lost. */
	CU_ASSERT_PTR_NULL(strstr(w.sent, "part1"));
	end();
}

/* While q is not in step, the orders that have a part there wait; others of the same partition are served. */
static void others_are_served_meanwhile(void)
{
	struct order *order = single();

	w.failing = "scan";
	replaced("3");
	rt_loop_advance(w.loop, 500);
	ask_for(order, STOCK_REQ_RESERVE, 1);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	answered("R");
	CU_ASSERT_STRING_NOT_EQUAL(
		memory_do(w.redis, "HGET", "inventory:{0}:reconciliation", "by", NULL)->str, "");
	replaced("2");
	rt_loop_advance(w.loop, 500);
	ask_for(order, STOCK_REQ_RELEASE, 1);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	w.failing = NULL;
	rt_loop_advance(w.loop, 5000);
	all_is("RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2");
	answered("L");
	end();
}

/* Nothing is owed that another order is about to give back. */
static void what_has_ended_comes_first(void)
{
	static const struct loss sold = { .record = "COMMITTED a=2@1 b=2@2",
					  .part1 = "COMMITTED a=2",
					  .part2 = "",
					  .counters2 = "0 2 0 2" };
	char text[64];

	single();
	lost(&sold, rt_loop_unix_ms(w.loop));
	snprintf(text, sizeof(text), "RELEASED 1 %" PRId64 " %s=2@2", rt_loop_unix_ms(w.loop),
		 w.skus[2]);
	memory_do(w.redis, "HSET", "inventory:{0}:r", "ord_other", text, NULL);
	note_recent(0, "r", "ord_other", rt_loop_unix_ms(w.loop));
	snprintf(text, sizeof(text), "RESERVED 0 %" PRId64 " %s=2", rt_loop_unix_ms(w.loop),
		 w.skus[2]);
	memory_do(w.redis, "HSET", "inventory:{2}:parts", "ord_other", text, NULL);
	note_recent(2, "parts", "ord_other", rt_loop_unix_ms(w.loop));
	rt_loop_advance(w.loop, 5000);
	stored_so(sold.record, sold.part1, "COMMITTED b=2", "0 0 2 2");
	end();
}

/* Without a loss nothing is raised, and nothing is scanned. */
static void a_first_start_and_a_calm_day(void)
{
	single();
	w.sent[0] = '\0';
	rt_loop_advance(w.loop, 200000);
	CU_ASSERT_STRING_EQUAL(w.sent, "");
	for (int p = 0; p < 4; p++) {
		char key[40];

		snprintf(key, sizeof(key), "inventory:{%d}:generation", p);
		CU_ASSERT_STRING_EQUAL(memory_do(w.redis, "GET", key, NULL)->str, "1");
	}
	end();
}

/* Nobody asks again for what is held: a minute later it is released, and the record says so first. */
static void what_nobody_asks_for_is_swept(void)
{
	const struct loss *loss = &losses[11];

	single();
	lost(loss, rt_loop_unix_ms(w.loop));
	rt_loop_advance(w.loop, 55000);
	stored_so("", "RESERVED a=2", "RESERVED b=2", "3 2 0 5");
	rt_loop_advance(w.loop, 15000);
	stored_so("RELEASED ", "RELEASED a=2", "RELEASED b=2", "5 0 0 5");
	answered("L");
	end();
}

/* ... also if the clock went back after it was held. */
static void swept_though_the_clock_went_back(void)
{
	const struct loss *loss = &losses[11];

	single();
	lost(loss, rt_loop_unix_ms(w.loop) + 100000);
	rt_loop_advance(w.loop, 70000);
	stored_so("RELEASED ", "RELEASED a=2", "RELEASED b=2", "5 0 0 5");
	answered("L");
	end();
}

/* ... also if it went back before another reconciliation, which does not look at what is held. */
static void swept_though_the_clock_went_back_and_another_master_followed(void)
{
	const struct loss *loss = &losses[11];
	char sweep[64];

	single();
	lost(loss, rt_loop_unix_ms(w.loop));
	rt_loop_advance(w.loop, 5000);
	/* As reconciled when the clock was 40 s ahead. */
	put(1, "parts", loss->part1, rt_loop_unix_ms(w.loop) + 40000);
	put(2, "parts", loss->part2, rt_loop_unix_ms(w.loop) + 40000);
	snprintf(sweep, sizeof(sweep), "%" PRId64 " 0", rt_loop_unix_ms(w.loop) + 100000);
	memory_do(w.redis, "HSET", "inventory:{0}:reconciliation", "sweep", sweep, NULL);
	replaced("3");
	rt_loop_advance(w.loop, 95000);
	stored_so("", "RESERVED a=2", "RESERVED b=2", "3 2 0 5");
	rt_loop_advance(w.loop, 15000);
	stored_so("RELEASED ", "RELEASED a=2", "RELEASED b=2", "5 0 0 5");
	answered("L");
	end();
}

/* ... and what is asked for again stays. */
static void what_is_asked_for_is_not_swept(void)
{
	struct order *order = single();

	lost(&losses[10], rt_loop_unix_ms(w.loop));
	rt_loop_advance(w.loop, 5000);
	ask_for(order, STOCK_REQ_RESERVE, 2);
	rt_loop_advance(w.loop, 80000);
	stored_so("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2", "3 2 0 5");
	answered("R");
	end();
}

/* Nothing of a partition is served before it is in step. */
static void orders_wait_for_the_reconciliation(void)
{
	struct order *order = single();

	lost(&losses[7], rt_loop_unix_ms(w.loop));
	w.failing = "scan";
	rt_loop_advance(w.loop, 3000);
	ask_for(order, STOCK_REQ_RELEASE, 1);
	answered("");
	stored_so("RESERVED a=2@1 b=2@2", "COMMITTED a=2", "COMMITTED b=2", "3 0 2 5");
	w.failing = NULL;
	rt_loop_advance(w.loop, 20000);
	/* First the sale, which nobody remembers, is undone; then the order gets what it wants. */
	stored_so("RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2", "5 0 0 5");
	answered("L");
	end();
}

/* Somebody reconciles since he sees another master of q than this instance does, which may still speak to the old one:
 * what it has there is not what the generation is about. */
static void who_sees_other_masters_waits(void)
{
	for (int q = 2; q <= 3; q++) {
		struct order *order = single();
		char under[128];

		snprintf(under, sizeof(under), "%s",
			 field_of("inventory:{0}:reconciliation", "marks")->data);
		under[q * 17] = under[q * 17] == 'f' ? 'e' : 'f';
		memory_do(w.redis, "SET", "inventory:{0}:generation", "9", NULL);
		memory_do(w.redis, "HSET", "inventory:{0}:reconciliation", "by", "another", "until",
			  "9999999999999", "under", under, NULL);
		rt_loop_advance(w.loop, 2000);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		if (q == 2)
			all_is("", "", "");
		else
			all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
		end();
	}
}

/* Connections break while a partition is reconciled: it is reconciled as soon as they are back. */
static void an_outage_delays_it_no_longer_than_it_lasts(void)
{
	const struct loss *loss = &losses[1];

	single();
	lost(loss, rt_loop_unix_ms(w.loop));
	replaced("1");
	w.breaking = "scan1";
	w.sent[0] = '\0';
	rt_loop_advance(w.loop, 500);
	CU_ASSERT_PTR_NOT_NULL(strstr(w.sent, "scan1"));
	w.breaking = NULL;
	memory_host_cut(&w.instances[0].host, false); /* while that is under way */
	rt_loop_advance(w.loop, 900);
	stored_so(loss->record_after, loss->part1_after, loss->part2_after, loss->counters2_after);
	end();
}

/* Several instances; whoever reconciles dies at each of its steps, and another one takes over. */
static void an_instance_that_dies_is_replaced(void)
{
	static const char *const steps[] = { "reconcile0", "fence0", "fence3",      "scan0",
					     "scan2",      "part1",  "reconciled0", "conclude0" };
	const struct loss *loss = &losses[1];

	for (size_t i = 0; i < RT_LENGTH(steps); i++) {
		single();
		for (; w.instance_count < 3; w.instance_count++)
			instance_start((size_t)w.instance_count);
		rt_loop_advance(w.loop, 2000);
		lost(loss, rt_loop_unix_ms(w.loop));
		w.killing = steps[i];
		rt_loop_advance(w.loop, 10000);
		CU_ASSERT_PTR_NULL(w.killing);
		stored_so(loss->record_after, loss->part1_after, loss->part2_after,
			  loss->counters2_after);
		answered(loss->answers);
		end();
	}
}

/* ---- all partitions in one Redis ---- */

/* Whether the partition has published an event of this type. */
static bool has_published(int partition, const char *type)
{
	const struct memory_stream *stream;
	bool found = false;
	char key[32];

	snprintf(key, sizeof(key), "inventory:{%d}:events", partition);
	stream = memory_stream_find(w.redis, key);
	for (size_t i = 0; stream != NULL && i < stream->count && !found; i++) {
		struct rt_entry_event *events;
		size_t count = stored_events(&stream->entries[i], &events);

		for (size_t j = 0; j < count && !found; j++)
			found = strlen(type) == events[j].type.length &&
				memcmp(type, events[j].type.data, events[j].type.length) == 0;
		free(events);
	}
	return found;
}

/* What is stored and answered is the same, at once or step by step; what differs is what was sent. */
static void at_once_is_as_step_by_step(void)
{
	static const struct {
		uint32_t second; /* how much of the second line's SKU is wanted */
		bool unknown;
		const char *record, *part1, *part2, *counters, *answer;
	} rows[] = {
		{ 2, false, "RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2", "3 2 0 5",
		  "R" },
		{ 6, false, "UNAVAILABLE a=2@1 b=6/5@2", "RELEASED a=2", "UNAVAILABLE b=6/5",
		  "5 0 0 5", "U" },
		{ 1, true, "UNAVAILABLE a=2@1 b=1/00@2", "RELEASED a=2", "UNAVAILABLE b=1/00",
		  "5 0 0 5", "U" },
	};

	for (size_t i = 0; i < 2 * RT_LENGTH(rows); i++) {
		size_t at = i / 2;
		struct order *order;

		in_one_redis = i % 2 == 0;
		order = single();
		order->lines[1].quantity = rows[at].second;
		if (rows[at].unknown)
			memory_do(w.redis, "HDEL", "inventory:{2}:stock", w.skus[2], NULL);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		CU_ASSERT_EQUAL(strcmp(w.sent, "reserve0") == 0, in_one_redis);
		all_is(rows[at].record, rows[at].part1, rows[at].part2);
		counters_are(1, rows[at].counters);
		answered(rows[at].answer);
		CU_ASSERT(is_acknowledged());
		/* And it goes on as ever. */
		ask_for(order, STOCK_REQ_RESERVE, 2);
		answered(rows[at].answer);
		ask_for(order, STOCK_REQ_RELEASE, 1);
		stored_is(1, "parts", "RELEASED a=2");
		counters_are(1, "5 0 0 5");
		end();
		in_one_redis = false;
	}
}

/* What is not new, or has more effects, goes step by step. */
static void at_once_only_what_is_simple(void)
{
	struct order *order;

	in_one_redis = true;
	order = single(); /* somebody has begun */
	set(1, "parts", "RESERVED 0 5", "=2", NULL);
	memory_do(w.redis, "HSET", "inventory:{1}:stock", w.skus[1], "3 2 0 5 2", NULL);
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_EQUAL(strncmp(w.sent, "reserve0 part", 13), 0);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	counters_are(1, "3 2 0 5");
	answered("R");
	CU_ASSERT(is_acknowledged());
	end();

	order = single(); /* there is a record */
	set(0, "r", "RELEASED 1 5", "=2@1", "=2@2");
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_EQUAL(strncmp(w.sent, "reserve0 part", 13), 0);
	all_is("RELEASED a=2@1 b=2@2", "RELEASED a=2", "RELEASED b=2");
	counters_are(1, "5 0 0 5");
	answered("L");
	end();

	order = single(); /* it makes something low */
	memory_do(w.redis, "HSET", "inventory:{2}:stock", w.skus[2], "5 0 0 5 1 4", NULL);
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_EQUAL(strncmp(w.sent, "reserve0 part", 13), 0);
	all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
	CU_ASSERT(has_published(2, "tandem.inventory.v1.StockLow"));
	answered("R");
	end();

	order = single(); /* it is low already */
	memory_do(w.redis, "HSET", "inventory:{2}:stock", w.skus[2], "5 0 0 5 1 6", NULL);
	ask_for(order, STOCK_REQ_RESERVE, 1);
	CU_ASSERT_STRING_EQUAL(w.sent, "reserve0");
	CU_ASSERT_FALSE(has_published(2, "tandem.inventory.v1.StockLow"));
	stored_is(2, "stock", "");
	answered("R");
	end();
	in_one_redis = false;
}

/* With the others, and it is stored as ever. */
static void at_once_goes_what_is_not_split(void)
{
	static const struct {
		const char *stock; /* of its SKU */
		const char *sent, *record, *counters, *answer;
		bool low;
	} rows[] = {
		{ "5 0 0 5 1", "reserve1", "RESERVED a=2", "3 2 0 5", "R", false },
		{ "1 0 0 1 1", "reserve1", "UNAVAILABLE a=2/1", "1 0 0 1", "U", false },
		{ "5 0 0 5 1 4", "reserve1 request1", "RESERVED a=2", "3 2 0 5 3", "R", true },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct order *order;

		in_one_redis = true;
		order = single();
		order_id_put_bucket(1, order->id);
		order->partition = 1;
		order->line_count = 1;
		memory_do(w.redis, "HSET", "inventory:{1}:stock", w.skus[1], rows[i].stock, NULL);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		CU_ASSERT_STRING_EQUAL(w.sent, rows[i].sent);
		stored_is(1, "r", rows[i].record);
		stored_is(1, "parts", "");
		counters_are(1, rows[i].counters);
		answered(rows[i].answer);
		CU_ASSERT_EQUAL(has_published(1, "tandem.inventory.v1.StockLow"), rows[i].low);
		ask_for(order, STOCK_REQ_RELEASE, 1);
		CU_ASSERT_STRING_EQUAL(w.sent, "request1");
		end();
		in_one_redis = false;
	}
}

/* A newer generation is there, or none any more: the call does nothing, and the order goes step by step, if need be with that. */
static void at_once_with_another_generation(void)
{
	for (int i = 0; i < 2; i++) {
		struct order *order;

		in_one_redis = true;
		order = single();
		if (i == 0)
			memory_do(w.redis, "SET", "inventory:{0}:generation", "7", NULL);
		else
			memory_do(w.redis, "DEL", "inventory:{0}:generation", NULL);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		CU_ASSERT_EQUAL(strncmp(w.sent, "reserve0 ", 9), 0);
		rt_loop_advance(w.loop, 20000);
		all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
		counters_are(1, "3 2 0 5");
		answered("R");
		end();
		in_one_redis = false;
	}
}

/* An order that waited for long may have been dropped meanwhile. */
static void at_once_unless_it_was_dropped(void)
{
	for (int i = 0; i < 3; i++) {
		struct order *order;
		char text[24];

		in_one_redis = true;
		order = single();
		w.age_ms = 2 * INVENTORY_LATE_MS;
		snprintf(text, sizeof(text), "%" PRId64, rt_loop_unix_ms(w.loop) - w.age_ms - i);
		if (i < 2) /* else nothing was ever dropped */
			memory_do(w.redis, "SET", "inventory:{0}:dropped_until_split", text, NULL);
		ask_for(order, STOCK_REQ_RESERVE, 1);
		CU_ASSERT_STRING_EQUAL(w.sent, "reserve0");
		if (i == 0)
			all_is("", "", "");
		else
			all_is("RESERVED a=2@1 b=2@2", "RESERVED a=2", "RESERVED b=2");
		CU_ASSERT(is_acknowledged());
		end();
		in_one_redis = false;
	}
}

int main(void)
{
	static const struct test tests[] = {
		{ "a life", a_life },
		{ "at once is as step by step", at_once_is_as_step_by_step },
		{ "at once only what is simple", at_once_only_what_is_simple },
		{ "at once goes what is not split", at_once_goes_what_is_not_split },
		{ "at once with another generation", at_once_with_another_generation },
		{ "at once unless it was dropped", at_once_unless_it_was_dropped },
		{ "a refusal releases the rest", a_refusal_releases_the_rest },
		{ "an order in one partition is one call", an_order_in_one_partition_is_one_call },
		{ "a release finds what was held", a_release_finds_what_was_held },
		{ "a hold that is late finds the tombstone",
		  a_hold_that_is_late_finds_the_tombstone },
		{ "what is over is answered after the release",
		  what_is_over_is_answered_after_the_release },
		{ "a commit that finds no part", a_commit_that_finds_no_part },
		{ "a connection that breaks voids what was said",
		  a_connection_that_breaks_voids_what_was_said },
		{ "an older generation begins again", an_older_generation_begins_again },
		{ "a generation that was lost is passed", a_generation_that_was_lost_is_passed },
		{ "what was begun goes on with another master",
		  what_was_begun_goes_on_with_another_master },
		{ "another master forgets what was begun", another_master_forgets_what_was_begun },
		{ "stock is one to callers", stock_is_one_to_callers },
		{ "reservations are found", reservations_are_found },
		{ "who holds a SKU is found", holders_are_found },
		{ "each loss is mended", each_loss_is_mended },
		{ "what is older is not looked at", what_is_older_is_not_looked_at },
		{ "what the replica lacks is looked at", what_the_replica_lacks_is_looked_at },
		{ "what was mended and is lost again is mended",
		  what_was_mended_and_is_lost_again_is_mended },
		{ "what somebody mended who died is mended again",
		  what_somebody_mended_who_died_is_mended_again },
		{ "what mended nothing makes nobody look further back",
		  what_mended_nothing_makes_nobody_look_further_back },
		{ "only what is affected is looked at", only_what_is_affected_is_looked_at },
		{ "a part of a dropped order comes back", a_part_of_a_dropped_order_comes_back },
		{ "what has ended comes first", what_has_ended_comes_first },
		{ "a first start, and a calm day", a_first_start_and_a_calm_day },
		{ "what nobody asks for is swept", what_nobody_asks_for_is_swept },
		{ "what is asked for is not swept", what_is_asked_for_is_not_swept },
		{ "what is held is swept though the clock went back",
		  swept_though_the_clock_went_back },
		{ "... and another master followed",
		  swept_though_the_clock_went_back_and_another_master_followed },
		{ "orders wait for the reconciliation", orders_wait_for_the_reconciliation },
		{ "others are served meanwhile", others_are_served_meanwhile },
		{ "who sees other masters waits", who_sees_other_masters_waits },
		{ "an outage delays it no longer than it lasts",
		  an_outage_delays_it_no_longer_than_it_lasts },
		{ "an instance that dies is replaced", an_instance_that_dies_is_replaced },
		{ "every promise is kept", every_promise_is_kept },
		{ "losses are mended", losses_are_mended },
		{ "one partition", one_partition },
		{ "mistakes are found", mistakes_are_found },
	};

	tests_log_nothing();
	return tests_run("split_orders", tests, RT_LENGTH(tests));
}
