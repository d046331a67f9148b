/* redis_cost.c - the order and inventory services, step by step, with a real Redis, so that the cost of
 * each step for Redis can be counted. bench/redis_cost starts Redis, runs this and reads the counts.
 *
 *   bench-redis-cost SOCKET SECRETS counts    orders in batches of 64, 10 and 1
 *   bench-redis-cost SOCKET SECRETS memory    many orders, settled
 *   bench-redis-cost SOCKET SECRETS P NAME LINES BATCH
 *                                             with P partitions: a run of this name, of orders of so many lines;
 *                                             a batch is for all partitions. NAME "cluster": as if Redis were one
 *
 * The real services run (their RPCs, stores and subscriptions), on a loop with virtual time and a fixed
 * seed. Only their connections are replaced: commands wait for their step, and a blocking read waits for
 * its entries. So this file does not depend on what a service sends, and each run sends the same bytes.
 *
 * At last orders wait while inventory is away, and their timers run out once.
 *
 * Each counted step is between a PING and an ECHO, at which the counters are reset and written, and
 * prints a line "step RUN STEP ORDERS". Other lines: "aof RUN ORDERS BYTES" and
 * "memory ORDERS BYTES". The process ends without freeing what is left. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "inventory/inventory.h"
#include "order/order.h"
#include "redis/redis.h"
#include "rpc/rpc.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define UNIX_MS     INT64_C(1764000000123)
#define ROUND_MS    5 /* between two batches */
#define ANSWER_S    120
#define SKUS        1000
#define CUSTOMERS   1000
#define BATCH_MAX   4096
#define LINES_MAX   8
#define EMPTY_STEPS 8
#define WARM_UP_ORDERS                                                                             \
	640 /* past 512 a hash is no longer a list, whose cost grows with each order */
#define TIMERS_EVERY_MS 600000 /* longer than all counted runs, shorter than an order is reserved */
#define MEMORY_ORDERS   30000  /* Redis's tables double at powers of two: these are nearly full */
#define ORDERS_MAX      (MEMORY_ORDERS + BATCH_MAX)
#define ID_SIZE         48
#define COUNTED_ORDERS  3072 /* with several partitions */
#define STEP_ROUNDS     50

/* What is counted: so many orders, in rounds of one batch. `lone`: a round begins after the one before
 * has ended; else while its decisions are under way, so that these are delivered, as under load. */
static const struct run {
	const char *name;
	size_t batch, orders;
	bool lone;
} runs[] = {
	{ "64", 64, 3200, false },
	{ "10", 10, 1500, false },
	{ "1", 1, 300, false },
	{ "lone", 1, 300, true },
};
/* Orders whose requests inventory does not read. */
static const struct run waiting = { "waiting", 1024, 1024, false };

struct side {
	struct rt_redis_options options;
	const char *reads; /* the other side */
};
static struct side order = { .reads = "inventory" };
static struct side inventory = { .reads = "order" };
static int partition_count = 1;
static bool in_one_redis = true;
static size_t line_count = 1; /* of an order */

static struct rt_loop *loop;
static const char *socket_path;
static struct rt_redis_options operator= { .user = "ops" };
static redisContext *control;
static ProtobufCService *order_calls, *stock_calls;
static char order_ids[ORDERS_MAX][ID_SIZE];
static size_t placed_count, answered_count;

static _Noreturn void die(const char *what, const char *detail)
{
	fprintf(stderr, "bench-redis-cost: %s: %s\n", what, detail);
	exit(1);
}

/* ---- connections ---- */

struct line {
	struct rt_redis redis; /* first */
	struct rt_list link;   /* in `lines` */
	struct side *side;
	redisContext *socket;
	struct rt_list asked; /* of struct command */
	size_t pending;
	bool up;
	struct rt_task up_task;
	void (*on_state)(struct rt_redis *redis, bool up, void *user);
	void *user;
};
struct command {
	struct rt_list link;
	struct rt_redis_op *op;
	char *bytes;
	size_t length;
	enum {
		AT_ONCE,
		READS,
		READS_OTHERS
	} kind; /* a read of the other side blocks; one of the archive's stream is never sent */
};
static struct rt_list lines;

static struct line *line_of(const struct rt_redis *redis)
{
	return (struct line *)(uintptr_t)redis;
}

static redisContext *connect_as(const struct rt_redis_options *options)
{
	redisContext *socket = redisConnectUnix(socket_path);
	redisReply *reply;

	if (socket == NULL || socket->err != 0)
		die(socket_path, socket != NULL ? socket->errstr : "no connection");
	redisSetTimeout(socket, (struct timeval){ .tv_sec = ANSWER_S });
	reply = redisCommand(socket, "AUTH %s %s", options->user, options->password);
	if (reply == NULL || reply->type != REDIS_REPLY_STATUS)
		die("AUTH", options->user);
	freeReplyObject(reply);
	return socket;
}

static void line_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct line *line = line_of(redis);
	struct command *command = rt_alloc(sizeof(*command));
	int length = redisFormatCommandArgv(&command->bytes, argc, (const char **)(uintptr_t)argv,
					    lengths);

	(void)timeout_ms;
	if (length < 0)
		die("a command", argv[0]);
	command->op = op;
	command->length = (size_t)length;
	for (int i = 1; strncmp(argv[0], "XREAD", 5) == 0 && i < argc; i++)
		if (strcmp(argv[i], "BLOCK") == 0)
			command->kind = READS_OTHERS;
	for (int i = 1; command->kind == READS_OTHERS && i < argc; i++)
		if (strncmp(argv[i], line->side->reads, strlen(line->side->reads)) == 0 &&
		    strchr(argv[i], '{') != NULL)
			command->kind = READS;
	rt_list_init(&command->link);
	rt_list_push(&line->asked, &command->link);
	line->pending++;
}

static void line_reset(struct rt_redis *redis)
{
	die("a connection is given up", line_of(redis)->side->reads);
}

static bool line_up(const struct rt_redis *redis)
{
	return line_of(redis)->up;
}

static const char *line_error(const struct rt_redis *redis)
{
	return line_up(redis) ? "" : "not connected yet";
}

static size_t line_pending(const struct rt_redis *redis)
{
	return line_of(redis)->pending;
}

static void line_free(struct rt_redis *redis)
{
	die("a connection is freed", line_of(redis)->side->reads);
}

static void on_up(struct rt_task *task)
{
	struct line *line = RT_CONTAINER_OF(task, struct line, up_task);

	line->up = true;
	if (line->on_state != NULL)
		line->on_state(&line->redis, true, line->user);
	rt_redis_notify_up(&line->redis);
}

static int line_connect(void *connector, struct rt_loop *of, const struct rt_redis_options *options,
			struct rt_redis **ret)
{
	static const struct rt_redis_ops ops = { line_command, line_reset,   line_up,
						 line_error,   line_pending, line_free };
	struct line *line = rt_alloc(sizeof(*line));

	line->redis.ops = &ops;
	rt_list_init(&line->redis.waiters);
	line->redis.together = in_one_redis;
	line->side = connector;
	line->socket = connect_as(options);
	line->on_state = options->on_state;
	line->user = options->user_data;
	line->up_task.run = on_up;
	rt_list_init(&line->asked);
	rt_list_init(&line->link);
	rt_list_push(&lines, &line->link);
	rt_loop_defer(of, &line->up_task);
	*ret = &line->redis;
	return RT_OK;
}

/* ---- sending commands ---- */

static void send_commands(const struct line *line, const struct rt_list *commands)
{
	int done = 0;

	for (const struct rt_list *at = commands->next; at != commands; at = at->next) {
		const struct command *command = RT_CONTAINER_OF(at, struct command, link);

		if (redisAppendFormattedCommand(line->socket, command->bytes, command->length) !=
		    REDIS_OK)
			die("a command", line->socket->errstr);
	}
	while (!done)
		if (redisBufferWrite(line->socket, &done) != REDIS_OK)
			die("a command", line->socket->errstr);
}

static void take_answers(struct line *line, struct rt_list *commands)
{
	struct rt_list *at;

	while ((at = rt_list_pop(commands)) != NULL) {
		struct command *command = RT_CONTAINER_OF(at, struct command, link);
		redisReply *reply = NULL;

		if (redisGetReply(line->socket, (void **)&reply) != REDIS_OK)
			die("an answer", line->socket->errstr);
		line->pending--;
		command->op->done(command->op, rt_redis_reply_status(reply), reply);
		freeReplyObject(reply);
		redisFreeCommand(command->bytes);
		free(command);
	}
}

/* Moves the waiting commands of a kind. */
static void take_asked(struct line *line, int kind, struct rt_list *ret)
{
	struct rt_list all, *at;

	rt_list_init(&all);
	rt_list_move(&all, &line->asked);
	while ((at = rt_list_pop(&all)) != NULL) {
		bool wanted = (int)RT_CONTAINER_OF(at, struct command, link)->kind == kind;

		rt_list_push(wanted ? ret : &line->asked, at);
	}
}

#define FOR_EACH_LINE(line)                                                                        \
	for (struct line *line = RT_CONTAINER_OF(lines.next, struct line, link);                   \
	     &line->link != &lines; line = RT_CONTAINER_OF(line->link.next, struct line, link))

/* Runs the services until they wait for events or have nothing to do. */
static void go_on(void)
{
	bool any;

	do {
		any = false;
		rt_loop_run_due(loop);
		FOR_EACH_LINE(line)
		{
			struct rt_list now;

			rt_list_init(&now);
			take_asked(line, AT_ONCE, &now);
			any |= !rt_list_empty(&now);
			send_commands(line, &now);
			take_answers(line, &now);
		}
	} while (any);
}

/* Sends a side's read. The commands that follow from it wait. */
static void deliver(const struct side *side)
{
	FOR_EACH_LINE(line)
	{
		struct rt_list now;

		rt_list_init(&now);
		if (line->side == side)
			take_asked(line, READS, &now);
		send_commands(line, &now);
		take_answers(line, &now);
	}
	rt_loop_run_due(loop);
}

/* ---- reading ---- */

static redisReply *look(const char *format, const char *argument)
{
	redisReply *reply = redisCommand(control, format, argument);

	if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
		die(format, reply != NULL ? reply->str : control->errstr);
	return reply;
}

static long long number(const redisReply *info, const char *name)
{
	const char *at = strstr(info->str, name);

	if (at == NULL || at[strlen(name)] != ':')
		die("INFO has no", name);
	return strtoll(at + strlen(name) + 1, NULL, 10);
}

static const char *named(const redisReply *reply, const char *name)
{
	for (size_t i = 0; i + 1 < reply->elements; i += 2)
		if (strcmp(reply->element[i]->str, name) == 0)
			return reply->element[i + 1]->str;
	die("an answer has no", name);
}

static bool is_behind_in(const struct side *side, int partition)
{
	char *key = rt_printf("%s:{%d}:events", side->reads, partition);
	redisReply *stream = look("XINFO STREAM %s", key);
	redisReply *groups = look("XINFO GROUPS %s", key);
	bool behind = strcmp(named(stream, "last-generated-id"),
			     named(groups->element[0], "last-delivered-id")) != 0;

	freeReplyObject(stream);
	freeReplyObject(groups);
	free(key);
	return behind;
}

/* Whether a side has entries to read. Its group is the only one. */
static bool is_behind(const struct side *side)
{
	bool behind = false;

	for (int p = 0; p < partition_count && !behind; p++)
		behind = is_behind_in(side, p);
	return behind;
}

/* Runs until nothing is under way. */
static void finish(void)
{
	go_on();
	while (is_behind(&inventory) || is_behind(&order)) {
		if (is_behind(&inventory))
			deliver(&inventory);
		if (is_behind(&order))
			deliver(&order);
		go_on();
	}
}

/* ---- calls ---- */

struct call {
	struct rt_client_op op;
	void (*answered)(const ProtobufCMessage *response, void *user);
	void *user;
};

static void call_over(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);

	if (response == NULL)
		die("a call failed", op->status.message);
	if (call->answered != NULL)
		call->answered(response, call->user);
	free(call);
}

/* Calls a method; `answered` may be NULL. */
static void start_call(ProtobufCService *client, const char *method,
		       const ProtobufCMessage *request,
		       void (*answered)(const ProtobufCMessage *response, void *user), void *user)
{
	const ProtobufCServiceDescriptor *service = client->descriptor;
	struct call *call = rt_alloc(sizeof(*call));
	unsigned index = 0;

	while (strcmp(service->methods[index].name, method) != 0)
		index++;
	call->op.done = call_over;
	call->answered = answered;
	call->user = user;
	rt_client_start(client, index, request, &call->op);
}

static void placed(const ProtobufCMessage *message, void *id)
{
	const Tandem__Order__V1__PlaceOrderResponse *response = (const void *)message;

	snprintf(id, ID_SIZE, "%s", response->order->order_id);
}

/* Another SKU than those before it and, as far as there are so many partitions, in another one. */
static void choose_sku(char (*skus)[16], size_t at)
{
	unsigned mask = (unsigned)partition_count - 1;
	bool again;

	do {
		again = false;
		snprintf(skus[at], sizeof(skus[at]), "sku-%04d", (int)rt_loop_random(loop, SKUS));
		for (size_t i = 0; i < at && !again; i++) {
			again = strcmp(skus[i], skus[at]) == 0;
			if (line_count <= (size_t)partition_count)
				again |= ((rt_bucket(skus[i], strlen(skus[i])) ^
					   rt_bucket(skus[at], strlen(skus[at]))) &
					  mask) == 0;
		}
	} while (again);
}

static void place(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		Tandem__Order__V1__OrderLine lines_of[LINES_MAX], *list[LINES_MAX];
		Tandem__Order__V1__PlaceOrderRequest request =
			TANDEM__ORDER__V1__PLACE_ORDER_REQUEST__INIT;
		char skus[LINES_MAX][16], customer[24];

		for (size_t j = 0; j < line_count; j++) {
			choose_sku(skus, j);
			lines_of[j] =
				(Tandem__Order__V1__OrderLine)TANDEM__ORDER__V1__ORDER_LINE__INIT;
			lines_of[j].sku = skus[j];
			lines_of[j].quantity = 1;
			list[j] = &lines_of[j];
		}
		snprintf(customer, sizeof(customer), "customer-%d",
			 (int)rt_loop_random(loop, CUSTOMERS));
		request.customer_id = customer;
		request.lines = list;
		request.n_lines = line_count;
		if (placed_count == ORDERS_MAX)
			die("place", "too many orders");
		start_call(order_calls, "PlaceOrder", &request.base, placed,
			   order_ids[placed_count++]);
	}
}

static void confirm(size_t first, size_t count)
{
	for (size_t i = first; i < first + count; i++) {
		Tandem__Order__V1__ConfirmOrderRequest request =
			TANDEM__ORDER__V1__CONFIRM_ORDER_REQUEST__INIT;

		request.order_id = order_ids[i];
		start_call(order_calls, "ConfirmOrder", &request.base, NULL, NULL);
	}
}

static void got(const ProtobufCMessage *message, void *settled)
{
	const Tandem__Order__V1__GetOrderResponse *response = (const void *)message;
	Tandem__Order__V1__OrderStatus wanted =
		settled != NULL ? TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CONFIRMED
				: TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED;

	if (response == NULL)
		die("an order cannot be read", "GetOrder failed");
	if (response->order->status != wanted || response->order->settled != (settled != NULL))
		die("an order has another status", response->order->order_id);
	answered_count++;
}

/* The orders from `first` on must be decided; `settled`, when not NULL: confirmed and settled. */
static void check_orders(size_t first, void *settled)
{
	answered_count = first;
	for (size_t i = first; i < placed_count; i++) {
		Tandem__Order__V1__GetOrderRequest request =
			TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;

		request.order_id = order_ids[i];
		start_call(order_calls, "GetOrder", &request.base, got, settled);
	}
	go_on();
	if (answered_count != placed_count)
		die("GetOrder", "an answer is missing");
}

static void add_stock(void)
{
	for (int i = 0; i < SKUS; i++) {
		Tandem__Inventory__V1__AdjustStockRequest request =
			TANDEM__INVENTORY__V1__ADJUST_STOCK_REQUEST__INIT;
		char sku[16];

		snprintf(sku, sizeof(sku), "sku-%04d", i);
		request.sku = sku;
		request.delta = 1000000;
		start_call(stock_calls, "AdjustStock", &request.base, NULL, NULL);
	}
}

/* ---- counting ---- */

static void mark(const char *command)
{
	freeReplyObject(look(command, ""));
}

static void begin_step(void)
{
	mark("PING");
}

static void end_step(const struct run *run, const char *step)
{
	mark("ECHO end");
	if (run != NULL)
		printf("step %s %s %zu\n", run->name, step, run->batch);
	else
		printf("step - %s 1\n", step);
}

/* The decision of orders: inventory's answer and its effects. */
static void decide(const struct run *run)
{
	begin_step();
	deliver(&order);
	end_step(run, "deliver_answers");
	begin_step();
	go_on();
	end_step(run, "decide");
}

/* Inventory's work. Under load the decisions of the previous batch are delivered and acknowledged with
 * the orders of this one. */
static void reserve(const struct run *run)
{
	begin_step();
	deliver(&inventory);
	end_step(run, "deliver_orders");
	begin_step();
	go_on();
	end_step(run, "reserve");
}

static void count_round(const struct run *run)
{
	rt_loop_jump(loop, ROUND_MS);
	begin_step();
	place(run->batch);
	go_on();
	end_step(run, "place");
	if (!run->lone) {
		decide(run);
		reserve(run);
		return;
	}
	reserve(run);
	decide(run);
	if (is_behind(&inventory)) { /* events that are not requests were not skipped */
		begin_step();
		deliver(&inventory);
		go_on();
		end_step(run, "deliver_decisions");
	}
}

/* Bytes that are written, or are about to be. */
static long long aof_bytes(void)
{
	redisReply *info = look("INFO %s", "persistence");
	long long bytes = number(info, "aof_current_size") + number(info, "aof_buffer_length");

	freeReplyObject(info);
	return bytes;
}

static void count_run(const struct run *run)
{
	size_t rounds = run->orders / run->batch, first = placed_count;
	long long before;

	if (!run->lone) { /* so that each round has the answers of the one before */
		place(run->batch);
		go_on();
		deliver(&inventory);
		go_on();
	}
	before = aof_bytes();
	for (size_t i = 0; i < rounds; i++)
		count_round(run);
	printf("aof %s %zu %lld\n", run->name, rounds * run->batch, aof_bytes() - before);
	finish();
	check_orders(first, NULL);
}

/* Timers run out while inventory is away: each order is looked at, and its timer is set again. */
static void count_waiting(void)
{
	size_t first = placed_count;

	for (size_t i = 0; i < waiting.orders; i += 64) {
		place(64);
		go_on();
	}
	rt_loop_advance(loop, TIMERS_EVERY_MS);
	begin_step();
	go_on();
	end_step(&waiting, "look_again");
	finish();
	check_orders(first, NULL);
}

static void count_all(void)
{
	for (size_t i = 0; i < WARM_UP_ORDERS; i += 64) {
		place(64);
		finish();
	}
	for (int i = 0; i < EMPTY_STEPS; i++) {
		begin_step();
		end_step(NULL, "empty");
	}
	for (size_t i = 0; i < RT_LENGTH(runs); i++)
		count_run(&runs[i]);
	count_waiting();
}

/* A hash is no list from 16 entries on here. */
static void count_partitions(const char *name, size_t batch)
{
	const struct run run = { name, batch, COUNTED_ORDERS, false };

	for (size_t i = 0; i < WARM_UP_ORDERS; i += batch) {
		place(batch);
		finish();
	}
	for (int i = 0; i < EMPTY_STEPS; i++) {
		begin_step();
		end_step(NULL, "empty");
	}
	count_run(&run);
}

/* ---- memory ---- */

/* Connections have buffers in Redis's memory: closes them all. */
static void close_lines(void)
{
	bool alone = false;

	FOR_EACH_LINE(line)
	{
		redisFree(RT_TAKE(line->socket));
	}
	redisFree(control);
	control = connect_as(&operator);
	while (!alone) {
		redisReply *reply = look("INFO %s", "clients");

		alone = number(reply, "connected_clients") == 1;
		freeReplyObject(reply);
	}
}

/* Redis's memory without the streams, which are trimmed. */
static long long bytes_kept(void)
{
	static const char *const streams[] = { "order:{0}:events", "inventory:{0}:events" };
	redisReply *reply;
	long long bytes;

	close_lines();
	reply = look("INFO %s", "memory");
	bytes = number(reply, "used_memory") - number(reply, "mem_aof_buffer");
	freeReplyObject(reply);
	for (size_t i = 0; i < RT_LENGTH(streams); i++) {
		reply = look("MEMORY USAGE %s SAMPLES 0", streams[i]);
		bytes -= reply->integer;
		freeReplyObject(reply);
	}
	FOR_EACH_LINE(line)
	{
		line->socket = connect_as(&line->side->options);
	}
	return bytes;
}

static void measure_memory(void)
{
	static char settled[] = "";
	long long before = bytes_kept();

	for (size_t i = 0; i < MEMORY_ORDERS; i += 100) {
		place(100);
		finish();
		confirm(i, 100);
		finish();
		rt_loop_jump(loop, ROUND_MS);
	}
	check_orders(0, settled);
	printf("memory %zu %lld\n", placed_count, bytes_kept() - before);
}

/* ---- the runs ---- */

static int number_of(const char *text)
{
	long number = strtol(text, NULL, 10);

	if (number < 1 || number > BATCH_MAX)
		die("not a number from 1 to 4096", text);
	return (int)number;
}

static char *read_password(const char *secrets, const char *user)
{
	char *path = rt_printf("%s/%s", secrets, user), line[128];
	FILE *file = fopen(path, "r");

	if (file == NULL || fgets(line, sizeof(line), file) == NULL)
		die("cannot read", path);
	fclose(file);
	free(path);
	return rt_strndup(line, strcspn(line, "\n"));
}

/* Timers are off, so that only Redis's work for orders is counted. */
static struct rt_context *start(struct side *side, const struct rt_context_domain *domain,
				const void *own, const char *secrets)
{
	struct rt_context_options options = { .redis = &side->options,
					      .events = { RT_EVENTS_DEFAULTS },
					      .consumer = "bench",
					      .trim_every_ms = RT_DAY_MS,
					      .partition_count = partition_count,
					      .domain_options = own };
	struct rt_context *context;

	side->options = (struct rt_redis_options){ .user = domain->name,
						   .password = read_password(secrets, domain->name),
						   .name = domain->name,
						   .connect = line_connect,
						   .connector = side };
	options.events.claim_idle_ms = 4 * RT_DAY_MS;
	options.events.claim_every_ms = RT_DAY_MS;
	options.events.maintain_every_ms = RT_DAY_MS;
	if (rt_context_new(loop, domain, &options, &context) != RT_OK)
		die("cannot make the context", domain->name);
	rt_context_start(context);
	return context;
}

static void start_all(const char *secrets)
{
	const struct order_options options = {
		.clock = { .decision_ms = RT_DAY_MS, .retry_min_ms = 5000, .retry_max_ms = 60000 },
		.stream_length_max = 1000000,
		.timers_every_ms = TIMERS_EVERY_MS,
	};
	struct rt_context *orders, *stock;

	operator.password = read_password(secrets, "ops");
	control = connect_as(&operator);
	orders = start(&order, &order_domain, &options, secrets);
	stock = start(&inventory, &inventory_domain, NULL, secrets);
	for (int i = 0; !rt_context_ready(orders) || !rt_context_ready(stock); i++) {
		if (i == 100)
			die("not ready", "a context");
		go_on();
		rt_loop_advance(loop, 100);
	}
	for (int i = 0; partition_count > 1 && i < STEP_ROUNDS; i++) { /* until all are in step */
		rt_loop_advance(loop, 100);
		go_on();
	}
	order_calls = rt_client_local(loop, order_rpc(orders->data), NULL, NULL);
	stock_calls = rt_client_local(loop, inventory_rpc(stock->data), NULL, NULL);
	add_stock();
	finish();
}

int main(int argc, char **argv)
{
	if (argc != 7 &&
	    (argc != 4 || (strcmp(argv[3], "counts") != 0 && strcmp(argv[3], "memory") != 0))) {
		fprintf(stderr, "usage: bench-redis-cost SOCKET SECRETS counts|memory\n"
				"       bench-redis-cost SOCKET SECRETS P NAME LINES BATCH\n");
		return 2;
	}
	if (argc == 7) {
		partition_count = number_of(argv[3]);
		line_count = (size_t)number_of(argv[5]);
		in_one_redis = strcmp(argv[4], "cluster") != 0;
	}
	rt_log_init("bench-redis-cost", RT_WARN, false); /* not each SKU's first stock */
	socket_path = argv[1];
	rt_list_init(&lines);
	if (rt_loop_new_manual(UNIX_MS, 1, &loop) != RT_OK)
		die("no loop", "");
	start_all(argv[2]);
	if (argc == 7)
		count_partitions(argv[4], (size_t)number_of(argv[6]));
	else if (argv[3][0] == 'c')
		count_all();
	else
		measure_memory();
	return 0;
}
