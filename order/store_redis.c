/* store_redis.c - the order store on Redis: functions.lua does the steps, this file gathers what
 * waits, sends it as one call and takes the answer apart.
 *
 *   place, move    batched: rt_batch_add → send at the end of the turn → FCALL → done of each item
 *   get            a plain HMGET; list, due, timer, trim: one FCALL each
 *   tail           XREAD on a connection of its own: a blocking read holds up what is behind it
 *
 * Whether Redis has the functions is watched (runtime/redis/functions.c); while it has not, place and
 * move end with RT_UNREADY. What is refused before it was sent ends at the end of the turn, by a task. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "redis/redis.h"
#include "store.h"

#define PLACE_COUNT_MAX 128
#define MOVE_COUNT_MAX  256
#define IN_FLIGHT_MAX   4
#define GATHER          64 /* that a second call beside the first is worth */
#define WAITING_MAX     100000
#define GETS_MAX        256 /* under way: about a millisecond of Redis */
#define LISTS_MAX       4   /* a page takes up to some milliseconds */
#define TAIL_COUNT_MAX  512
#define KEY_MAX         64
#define ORDER_KEY_MAX   (KEY_MAX + 4 * 128)
#define MOMENT_MAX      48
#define GROUP           "order"     /* what this service reads inventory's stream as */
#define INVENTORY_GROUP "inventory" /* what reads ours, and answers */

struct store {
	struct order_store base;
	struct rt_loop *loop;
	struct rt_redis *redis, *tail_redis;
	char events_key[KEY_MAX], inventory_key[KEY_MAX], orders_prefix[KEY_MAX];
	char length_max[24];
	int64_t timeout_ms;
	struct rt_batch *place, *move, *get, *list;
	struct rt_args args; /* of the call that is being put together */
	struct rt_functions_watch functions;
	bool freed;
	/* Refused before they were sent; ended by the task. */
	struct rt_list busy_places, busy_moves, busy_gets, busy_lists;
	struct rt_task busy;
	struct tail_call *tail;
};

/* A batch under way. */
struct run {
	struct rt_batch_run run;
	struct store *store;
	struct rt_redis_op op;
};

/* A call for one operation of the caller's. */
struct single {
	struct rt_redis_op op;
	void *caller;
};

static struct store *store_of(struct order_store *base)
{
	return RT_CONTAINER_OF(base, struct store, base);
}

/* ---- what Redis answers ---- */

static int64_t reply_int(const struct redisReply *reply)
{
	if (reply->type == REDIS_REPLY_INTEGER)
		return reply->integer;
	if (reply->type == REDIS_REPLY_STRING)
		return strtoll(reply->str, NULL, 10);
	return 0;
}

static bool is_array(const struct redisReply *reply, size_t length_min)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements >= length_min;
}

/* A record as functions.lua answers it: status settled version hold attempt history placed detail.
 * False: no order, or one that is damaged. */
static bool read_record(const struct redisReply *reply, const char *order_id,
			struct order_record *ret)
{
	struct redisReply **field = reply->element;
	struct order_record record = { .order_id = order_id, .attempt = 1 };

	if (!is_array(reply, 8) || field[0]->type != REDIS_REPLY_STRING ||
	    field[2]->type != REDIS_REPLY_STRING || field[5]->type != REDIS_REPLY_STRING ||
	    field[6]->type != REDIS_REPLY_STRING)
		return false;
	if (!order_state_parse(field[0]->str, field[1]->type == REDIS_REPLY_STRING, &record.state))
		return false;
	record.version = (uint64_t)reply_int(field[2]);
	record.hold_ms = reply_int(field[3]);
	if (field[4]->type == REDIS_REPLY_STRING)
		record.attempt = (uint32_t)reply_int(field[4]);
	record.history = field[5]->str;
	record.placed = (const uint8_t *)field[6]->str;
	record.placed_length = (size_t)field[6]->len;
	if (field[7]->type == REDIS_REPLY_STRING) {
		record.detail = (const uint8_t *)field[7]->str;
		record.detail_length = (size_t)field[7]->len;
	}
	*ret = record;
	return true;
}

static int64_t at_least_0(int64_t n)
{
	return n < 0 ? 0 : n;
}

/* ---- calls ---- */

static void call_begin(struct store *store, const char *function, bool with_inventory)
{
	struct rt_args *args = &store->args;

	rt_args_clear(args);
	rt_args_function(args, &order_functions, function);
	rt_args_str(args, with_inventory ? "2" : "1");
	rt_args_str(args, store->events_key);
	if (with_inventory)
		rt_args_str(args, store->inventory_key);
}

/* The moment of an operation, told once for all that share it. */
static void add_moment(struct rt_args *args, int64_t now_ms, int64_t *told_ms)
{
	char text[MOMENT_MAX], time[RT_TIME_TEXT];
	int length;

	if (now_ms == *told_ms) {
		rt_args_add(args, "", 0);
		return;
	}
	*told_ms = now_ms;
	rt_time_format(now_ms, time);
	length = snprintf(text, sizeof(text), "%" PRId64 "%s", now_ms, time);
	rt_args_copy(args, text, (size_t)length);
}

static void add_text(struct rt_args *args, const char *text)
{
	rt_args_str(args, text == NULL ? "" : text);
}

static void single_send(struct store *store, void *caller,
			void (*done)(struct rt_redis_op *op, int status,
				     const struct redisReply *reply))
{
	struct single *single = rt_alloc(sizeof(*single));

	single->caller = caller;
	rt_redis_send(store->redis, &single->op, &store->args, 0, done);
}

/* The caller's operation; frees the call. */
static void *single_end(struct rt_redis_op *op)
{
	struct single *single = RT_CONTAINER_OF(op, struct single, op);
	void *caller = single->caller;

	free(single);
	return caller;
}

/* ---- place ---- */

static struct order_place_op *pop_place(struct rt_list *items)
{
	struct rt_list *link = rt_list_pop(items);

	return link == NULL ? NULL : RT_CONTAINER_OF(link, struct order_place_op, item.link);
}

static int place_answer(struct order_place_op *op, const struct redisReply *reply)
{
	char history[80];

	if (reply->type == REDIS_REPLY_INTEGER) {
		op->outcome = ORDER_CONFLICT;
		op->done(op, RT_OK);
		return RT_OK;
	}
	if (reply->type == REDIS_REPLY_STRING) {
		snprintf(history, sizeof(history), "%s@%s", order_event_word(ORDER_EV_PLACED),
			 reply->str);
		op->outcome = ORDER_PLACED;
		op->record = (struct order_record){
			.order_id = op->order_id,
			.state = ORDER_PENDING,
			.version = 1,
			.placed = op->placed,
			.placed_length = op->placed_length,
			.hold_ms = op->hold_ms,
			.attempt = 1,
			.history = history,
		};
	} else if (read_record(reply, op->order_id, &op->record)) {
		op->outcome = ORDER_PLACED_BEFORE;
	} else {
		return RT_PROTOCOL;
	}
	op->done(op, RT_OK);
	return RT_OK;
}

/* Each of the run gets its answer; nil is nobody's: such an order ends with `nil_status`. */
static void place_answers(struct run *run, int status, const struct redisReply *reply,
			  int nil_status)
{
	struct order_place_op *op;

	if (status == RT_OK && !is_array(reply, run->run.count))
		status = RT_PROTOCOL;
	for (size_t i = 0; (op = pop_place(&run->run.items)) != NULL; i++) {
		int rc = status;

		if (rc == RT_OK && reply->element[i]->type == REDIS_REPLY_NIL)
			rc = nil_status;
		if (rc == RT_OK)
			rc = place_answer(op, reply->element[i]);
		if (rc != RT_OK)
			op->done(op, rc);
	}
	rt_batch_finish(&run->run);
}

static void place_found(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(redis_op, struct run, op);

	rt_functions_watch_ended(&run->store->functions, status);
	place_answers(run, status, reply, RT_FULL);
}

/* Storage is full, so the whole call was refused. What was placed before is answered nevertheless. */
static void place_find(struct run *run, const struct redisReply *why)
{
	struct store *store = run->store;
	bool stream_full = strstr(why->str, "has reached its hard length") != NULL;

	call_begin(store, "find", false);
	for (struct rt_list *link = run->run.items.next; link != &run->run.items;
	     link = link->next) {
		struct order_place_op *op = RT_CONTAINER_OF(link, struct order_place_op, item.link);

		op->stream_full = stream_full;
		rt_args_str(&store->args, op->order_id);
		rt_args_add(&store->args, op->placed, op->placed_length);
	}
	rt_redis_send(store->redis, &run->op, &store->args, 0, place_found);
}

static void place_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(redis_op, struct run, op);

	rt_functions_watch_ended(&run->store->functions, status);
	if (status == RT_FULL)
		place_find(run, reply);
	else
		place_answers(run, status, reply, RT_PROTOCOL);
}

static void place_refuse(struct rt_batch_run *run, int status)
{
	struct order_place_op *op;

	while ((op = pop_place(&run->items)) != NULL)
		op->done(op, status);
	rt_batch_finish(run);
}

static void place_send(struct rt_batch_run *batch_run, void *user)
{
	struct store *store = user;
	struct run *run = RT_CONTAINER_OF(batch_run, struct run, run);
	struct rt_args *args = &store->args;
	int64_t told_ms = -1;

	if (!store->functions.loaded) {
		place_refuse(batch_run, rt_redis_up(store->redis) ? RT_UNREADY : RT_LOST);
		return;
	}
	run->store = store;
	call_begin(store, "place", false);
	rt_args_str(args, store->length_max);
	for (struct rt_list *link = run->run.items.next; link != &run->run.items;
	     link = link->next) {
		const struct order_place_op *op =
			RT_CONTAINER_OF(link, struct order_place_op, item.link);

		rt_args_str(args, op->order_id);
		rt_args_str(args, op->fresh ? "f" : "");
		rt_args_str(args, op->customer_id);
		rt_args_add(args, op->placed, op->placed_length);
		rt_args_int(args, op->hold_ms);
		add_moment(args, at_least_0(op->now_ms), &told_ms);
		rt_args_int(args, op->retry_due_ms);
		add_text(args, op->traceparent);
	}
	rt_redis_send(store->redis, &run->op, args, 0, place_done);
}

static void store_place(struct order_store *base, struct order_place_op *op)
{
	struct store *store = store_of(base);

	if (rt_batch_add(store->place, &op->item))
		return;
	rt_list_init(&op->item.link);
	rt_list_push(&store->busy_places, &op->item.link);
	rt_loop_defer(store->loop, &store->busy);
}

/* ---- move ---- */

static struct order_move_op *pop_move(struct rt_list *items)
{
	struct rt_list *link = rt_list_pop(items);

	return link == NULL ? NULL : RT_CONTAINER_OF(link, struct order_move_op, item.link);
}

/* "U", or outcome, state, version and, for M, the age: "MR2 15". */
static bool read_outcome(struct order_move_op *op, const char *text)
{
	char *end;

	if (text[0] == 'U') {
		op->outcome = ORDER_UNKNOWN;
		return true;
	}
	switch (text[0]) {
	case 'M':
	case 'A':
		op->outcome = ORDER_MOVED;
		break;
	case 'S':
		op->outcome = ORDER_STAYED;
		break;
	case 'F':
		op->outcome = ORDER_REFUSED;
		break;
	case 'V':
		op->outcome = ORDER_MISMATCH;
		break;
	default:
		return false;
	}
	if (!order_state_of_letter(text[1], &op->state))
		return false;
	op->version = strtoull(text + 2, &end, 10);
	op->age_ms = *end == ' ' ? strtoll(end + 1, NULL, 10) : 0;
	return true;
}

static int move_answer(struct order_move_op *op, const struct redisReply *reply)
{
	const struct redisReply *text = reply;

	if (is_array(reply, 2))
		text = reply->element[0];
	if (text->type != REDIS_REPLY_STRING || !read_outcome(op, text->str))
		return RT_PROTOCOL;
	if (op->want_record && op->outcome != ORDER_UNKNOWN &&
	    (text == reply || !read_record(reply->element[1], op->order_id, &op->record)))
		return RT_PROTOCOL;
	op->done(op, RT_OK);
	return RT_OK;
}

static void move_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(redis_op, struct run, op);
	struct order_move_op *op;

	rt_functions_watch_ended(&run->store->functions, status);
	if (status == RT_OK && !is_array(reply, run->run.count))
		status = RT_PROTOCOL;
	for (size_t i = 0; (op = pop_move(&run->run.items)) != NULL; i++) {
		int rc = status;

		if (rc == RT_OK)
			rc = move_answer(op, reply->element[i]);
		if (rc != RT_OK)
			op->done(op, rc);
	}
	rt_batch_finish(&run->run);
}

static void move_refuse(struct rt_batch_run *run, int status)
{
	struct order_move_op *op;

	while ((op = pop_move(&run->items)) != NULL)
		op->done(op, status);
	rt_batch_finish(run);
}

static void add_what(struct rt_args *args, const struct order_move_op *op)
{
	char text[32] = { order_input_letter(op->input), op->want_record ? 'w' : '-' };
	int length = 2;

	if (op->expected_version != 0)
		length += snprintf(text + 2, sizeof(text) - 2, "%" PRIu64, op->expected_version);
	rt_args_copy(args, text, (size_t)length);
}

static void move_send(struct rt_batch_run *batch_run, void *user)
{
	struct store *store = user;
	struct run *run = RT_CONTAINER_OF(batch_run, struct run, run);
	struct rt_args *args = &store->args;
	int64_t told_ms = -1;
	bool acks = false;

	if (!store->functions.loaded) {
		move_refuse(batch_run, rt_redis_up(store->redis) ? RT_UNREADY : RT_LOST);
		return;
	}
	run->store = store;
	for (struct rt_list *link = run->run.items.next; link != &run->run.items; link = link->next)
		acks |= RT_CONTAINER_OF(link, struct order_move_op, item.link)->ack_id != NULL;
	call_begin(store, "move", acks);
	rt_args_str(args, GROUP);
	for (struct rt_list *link = run->run.items.next; link != &run->run.items;
	     link = link->next) {
		const struct order_move_op *op =
			RT_CONTAINER_OF(link, struct order_move_op, item.link);

		rt_args_str(args, op->order_id);
		add_what(args, op);
		add_moment(args, at_least_0(op->now_ms), &told_ms);
		rt_args_int(args, op->retry_due_ms);
		rt_args_add(args, op->data == NULL ? (const void *)"" : op->data, op->data_length);
		add_text(args, op->traceparent);
		add_text(args, op->ack_id);
	}
	rt_redis_send(store->redis, &run->op, args, 0, move_done);
}

static void store_move(struct order_store *base, struct order_move_op *op)
{
	struct store *store = store_of(base);

	if (rt_batch_add(store->move, &op->item))
		return;
	rt_list_init(&op->item.link);
	rt_list_push(&store->busy_moves, &op->item.link);
	rt_loop_defer(store->loop, &store->busy);
}

/* ---- get ---- */

/* Reads share the connection with orders that are placed and decided. So few are under way, the
 * others wait here: however many clients look, nothing is late, or refused, behind them. */

static struct order_get_op *pop_get(struct rt_list *items)
{
	struct rt_list *link = rt_list_pop(items);

	return link == NULL ? NULL : RT_CONTAINER_OF(link, struct order_get_op, item.link);
}

static void get_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(redis_op, struct run, op);
	struct order_get_op *op = pop_get(&run->run.items);

	op->found = status == RT_OK && read_record(reply, op->order_id, &op->record);
	/* A thing of another type at an order's key is no order. */
	if (status == RT_REMOTE && strncmp(reply->str, "WRONGTYPE", 9) == 0)
		status = RT_OK;
	op->done(op, status);
	rt_batch_finish(&run->run);
}

static void get_send(struct rt_batch_run *batch_run, void *user)
{
	static const char *const fields[] = { "status",  "settled", "version", "hold",
					      "attempt", "history", "placed",  "detail" };
	struct store *store = user;
	struct run *run = RT_CONTAINER_OF(batch_run, struct run, run);
	const struct order_get_op *op =
		RT_CONTAINER_OF(batch_run->items.next, struct order_get_op, item.link);
	char key[ORDER_KEY_MAX];

	snprintf(key, sizeof(key), "%s%s", store->orders_prefix, op->order_id);
	rt_args_clear(&store->args);
	rt_args_str(&store->args, "HMGET");
	rt_args_str(&store->args, key);
	for (size_t i = 0; i < RT_LENGTH(fields); i++)
		rt_args_str(&store->args, fields[i]);
	rt_redis_send(store->redis, &run->op, &store->args, 0, get_done);
}

static void store_get(struct order_store *base, struct order_get_op *op)
{
	struct store *store = store_of(base);

	op->found = false;
	if (rt_batch_add(store->get, &op->item))
		return;
	rt_list_init(&op->item.link);
	rt_list_push(&store->busy_gets, &op->item.link);
	rt_loop_defer(store->loop, &store->busy);
}

/* ---- list ---- */

static struct order_list_op *pop_list(struct rt_list *items)
{
	struct rt_list *link = rt_list_pop(items);

	return link == NULL ? NULL : RT_CONTAINER_OF(link, struct order_list_op, item.link);
}

/* { more, id, record, id, record, … }; the records are freed by the caller. */
static struct order_record *read_list(struct order_list_op *op, const struct redisReply *reply)
{
	size_t count = (reply->elements - 1) / 2;
	struct order_record *records = rt_alloc((count + 1) * sizeof(*records));

	op->more = reply_int(reply->element[0]) != 0;
	for (size_t i = 0; i < count; i++) {
		struct redisReply **at = &reply->element[1 + 2 * i];

		op->last_id = at[0]->str;
		if (read_record(at[1], at[0]->str, &records[op->record_count]))
			op->record_count++;
	}
	return records;
}

static void list_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct run *run = RT_CONTAINER_OF(redis_op, struct run, op);
	struct order_list_op *op = pop_list(&run->run.items);
	struct order_record *records = NULL;

	rt_functions_watch_ended(&run->store->functions, status);
	if (status == RT_OK && !is_array(reply, 1))
		status = RT_PROTOCOL;
	if (status == RT_OK)
		op->records = records = read_list(op, reply);
	op->done(op, status);
	free(records);
	rt_batch_finish(&run->run);
}

static void list_send(struct rt_batch_run *batch_run, void *user)
{
	struct store *store = user;
	struct run *run = RT_CONTAINER_OF(batch_run, struct run, run);
	const struct order_list_op *op =
		RT_CONTAINER_OF(batch_run->items.next, struct order_list_op, item.link);

	run->store = store;
	call_begin(store, "list", false);
	rt_args_str(&store->args, op->customer_id);
	rt_args_int(&store->args, (int64_t)op->count_max);
	rt_args_int(&store->args, op->before_ms);
	add_text(&store->args, op->before_id);
	rt_args_int(&store->args, (int64_t)op->bytes_max);
	rt_redis_send(store->redis, &run->op, &store->args, 0, list_done);
}

static void store_list(struct order_store *base, struct order_list_op *op)
{
	struct store *store = store_of(base);

	op->records = NULL;
	op->record_count = 0;
	op->last_id = "";
	op->more = false;
	if (rt_batch_add(store->list, &op->item))
		return;
	rt_list_init(&op->item.link);
	rt_list_push(&store->busy_lists, &op->item.link);
	rt_loop_defer(store->loop, &store->busy);
}

/* ---- due, timer, trim ---- */

static void due_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct order_due_op *op = single_end(redis_op);
	struct order_due *due = NULL;

	if (status == RT_OK && !is_array(reply, 1))
		status = RT_PROTOCOL;
	op->due = NULL;
	op->due_count = 0;
	if (status == RT_OK) {
		size_t count = (reply->elements - 1) / 3;

		op->timer_count = reply_int(reply->element[0]);
		op->due = due = rt_alloc((count + 1) * sizeof(*due));
		for (size_t i = 0; i < count; i++) {
			struct redisReply **at = &reply->element[1 + 3 * i];

			if (!read_record(at[2], at[0]->str, &due[op->due_count].record))
				continue;
			due[op->due_count].queued = reply_int(at[1]) != 0;
			op->due_count++;
		}
	}
	op->done(op, status);
	free(due);
}

static void store_due(struct order_store *base, struct order_due_op *op)
{
	struct store *store = store_of(base);

	call_begin(store, "due", false);
	rt_args_int(&store->args, op->now_ms);
	rt_args_int(&store->args, op->lease_until_ms);
	rt_args_int(&store->args, (int64_t)op->count_max);
	rt_args_str(&store->args, INVENTORY_GROUP);
	single_send(store, op, due_done);
}

static void timer_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct order_timer_op *op = single_end(redis_op);

	(void)reply;
	op->done(op, status);
}

static void store_timer(struct order_store *base, struct order_timer_op *op)
{
	struct store *store = store_of(base);

	call_begin(store, "timer", false);
	rt_args_str(&store->args, op->order_id);
	rt_args_int(&store->args, (int64_t)op->version);
	rt_args_int(&store->args, op->due_ms);
	single_send(store, op, timer_done);
}

static void trim_done(struct rt_redis_op *redis_op, int status, const struct redisReply *reply)
{
	struct order_trim_op *op = single_end(redis_op);

	if (status == RT_OK && !is_array(reply, 5))
		status = RT_PROTOCOL;
	op->ghost_count = 0;
	op->ghost[0] = '\0';
	if (status == RT_OK) {
		op->trimmed = reply_int(reply->element[0]);
		op->length = reply_int(reply->element[1]);
		op->holder[0] = '\0';
		if (reply->element[2]->type == REDIS_REPLY_STRING)
			snprintf(op->holder, sizeof(op->holder), "%s", reply->element[2]->str);
		op->held = reply_int(reply->element[3]);
		op->memory_full = reply_int(reply->element[4]) != 0;
		op->ghost_count = reply->elements - 5;
		if (op->ghost_count > 0 && reply->element[5]->type == REDIS_REPLY_STRING)
			snprintf(op->ghost, sizeof(op->ghost), "%s", reply->element[5]->str);
	}
	op->done(op, status);
}

static void store_trim(struct order_store *base, struct order_trim_op *op)
{
	struct store *store = store_of(base);

	call_begin(store, "trim", false);
	rt_args_int(&store->args, op->now_ms);
	rt_args_int(&store->args, op->retain_ms);
	rt_args_int(&store->args, op->retain_count);
	rt_args_int(&store->args, op->ghost_ms);
	single_send(store, op, trim_done);
}

/* ---- tail ---- */

/* A read of the tail. The caller may give it up (tail_interrupt) while Redis still holds it: it
 * ends when both the answer has come and no task of it is queued. */
struct tail_call {
	struct rt_redis_op op;
	struct rt_task task;
	struct store *store;
	struct order_tail_op *tail; /* NULL: answered, or given up */
	bool from_end;
	bool under_way, task_queued;
};

static void tail_end(struct tail_call *call)
{
	if (call->under_way || call->task_queued)
		return;
	free(call);
}

static const struct redisReply *field_of(const struct redisReply *fields, const char *name)
{
	for (size_t i = 0; i + 1 < fields->elements; i += 2)
		if (fields->element[i]->type == REDIS_REPLY_STRING &&
		    strcmp(fields->element[i]->str, name) == 0)
			return fields->element[i + 1];
	return NULL;
}

static bool tail_entry(const struct redisReply *reply, struct order_tail_entry *ret)
{
	const struct redisReply *type, *subject, *seq;

	if (!is_array(reply, 2) || reply->element[1]->type != REDIS_REPLY_ARRAY)
		return false;
	type = field_of(reply->element[1], "type");
	subject = field_of(reply->element[1], "subject");
	seq = field_of(reply->element[1], "seq");
	if (type == NULL || subject == NULL || seq == NULL)
		return false;
	*ret = (struct order_tail_entry){ .stream_id = reply->element[0]->str,
					  .type = type->str,
					  .subject = subject->str,
					  .seq = strtoull(seq->str, NULL, 10) };
	return true;
}

/* The entries of an XREAD answer, or of the XREVRANGE that finds the end; NULL: none. */
static const struct redisReply *tail_entries(const struct tail_call *call,
					     const struct redisReply *reply)
{
	if (!is_array(reply, 1))
		return NULL;
	if (call->from_end)
		return reply;
	return is_array(reply->element[0], 2) ? reply->element[0]->element[1] : NULL;
}

static void tail_answer(struct tail_call *call, const struct redisReply *reply)
{
	struct order_tail_op *tail = RT_TAKE(call->tail);
	const struct redisReply *entries = tail_entries(call, reply);
	size_t count = entries == NULL ? 0 : entries->elements;
	struct order_tail_entry *read = rt_alloc((count + 1) * sizeof(*read));

	snprintf(tail->last, sizeof(tail->last), "%s", call->from_end ? "0-0" : tail->after);
	tail->entries = read;
	tail->entry_count = 0;
	for (size_t i = 0; i < count; i++) {
		if (is_array(entries->element[i], 2))
			snprintf(tail->last, sizeof(tail->last), "%s",
				 entries->element[i]->element[0]->str);
		if (!call->from_end && tail_entry(entries->element[i], &read[tail->entry_count]))
			tail->entry_count++;
	}
	tail->done(tail, RT_OK);
	free(read);
}

static void tail_done(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct tail_call *call = RT_CONTAINER_OF(op, struct tail_call, op);

	call->under_way = false;
	if (call->tail != NULL) {
		call->store->tail = NULL;
		if (status == RT_OK) {
			tail_answer(call, reply);
		} else {
			struct order_tail_op *tail = RT_TAKE(call->tail);

			tail->entry_count = 0;
			tail->done(tail, status);
		}
	}
	tail_end(call);
}

static void store_tail(struct order_store *base, struct order_tail_op *op)
{
	struct store *store = store_of(base);
	struct tail_call *call = rt_alloc(sizeof(*call));
	struct rt_args *args = &store->args;

	call->store = store;
	call->tail = op;
	call->from_end = strcmp(op->after, "$") == 0;
	call->under_way = true;
	store->tail = call;
	rt_args_clear(args);
	if (call->from_end) {
		rt_args_str(args, "XREVRANGE");
		rt_args_str(args, store->events_key);
		rt_args_str(args, "+");
		rt_args_str(args, "-");
		rt_args_str(args, "COUNT");
		rt_args_str(args, "1");
	} else {
		rt_args_str(args, "XREAD");
		rt_args_str(args, "COUNT");
		rt_args_int(args, TAIL_COUNT_MAX);
		rt_args_str(args, "BLOCK");
		rt_args_int(args, RT_MAX(op->block_ms, 1));
		rt_args_str(args, "STREAMS");
		rt_args_str(args, store->events_key);
		rt_args_str(args, op->after);
	}
	rt_redis_send(store->tail_redis, &call->op, args,
		      store->timeout_ms + (call->from_end ? 0 : op->block_ms), tail_done);
}

static void tail_given_up(struct rt_task *task)
{
	struct tail_call *call = RT_CONTAINER_OF(task, struct tail_call, task);
	struct order_tail_op *tail = RT_TAKE(call->tail);

	call->task_queued = false;
	if (tail != NULL) {
		tail->entry_count = 0;
		tail->done(tail, RT_CANCELED);
	}
	tail_end(call);
}

static void store_tail_interrupt(struct order_store *base)
{
	struct store *store = store_of(base);
	struct tail_call *call = RT_TAKE(store->tail);

	if (call == NULL)
		return;
	call->task.run = tail_given_up;
	call->task_queued = true;
	rt_loop_defer(store->loop, &call->task);
}

/* ---- the store ---- */

static void on_state(struct rt_redis *redis, bool up, void *user)
{
	struct store *store = user;

	(void)redis;
	rt_functions_watch_state(&store->functions, up);
}

static bool store_ready(struct order_store *base)
{
	struct store *store = store_of(base);

	return rt_functions_watch_problem(&store->functions) == NULL;
}

static void end_refused(struct store *store, int status)
{
	struct order_place_op *place;
	struct order_move_op *move;
	struct order_get_op *get;
	struct order_list_op *list;

	while ((place = pop_place(&store->busy_places)) != NULL)
		place->done(place, status);
	while ((move = pop_move(&store->busy_moves)) != NULL)
		move->done(move, status);
	while ((get = pop_get(&store->busy_gets)) != NULL)
		get->done(get, status);
	while ((list = pop_list(&store->busy_lists)) != NULL)
		list->done(list, status);
}

static void on_busy(struct rt_task *task)
{
	struct store *store = RT_CONTAINER_OF(task, struct store, busy);

	if (store->freed)
		free(store);
	else
		end_refused(store, RT_BUSY);
}

/* Ends what waits in a batch; what is under way has ended with the connection. */
static void end_waiting(struct store *store)
{
	struct rt_batch_item *item;

	while (store->place != NULL && (item = rt_batch_pop(store->place)) != NULL)
		rt_list_push(&store->busy_places, &item->link);
	while (store->move != NULL && (item = rt_batch_pop(store->move)) != NULL)
		rt_list_push(&store->busy_moves, &item->link);
	while (store->get != NULL && (item = rt_batch_pop(store->get)) != NULL)
		rt_list_push(&store->busy_gets, &item->link);
	while (store->list != NULL && (item = rt_batch_pop(store->list)) != NULL)
		rt_list_push(&store->busy_lists, &item->link);
	end_refused(store, RT_CANCELED);
}

static void store_free(struct order_store *base)
{
	struct store *store = base == NULL ? NULL : store_of(base);

	if (store == NULL)
		return;
	rt_functions_watch_stop(&store->functions);
	rt_redis_free(store->tail_redis);
	rt_redis_free(store->redis);
	end_waiting(store);
	rt_batch_free(store->place);
	rt_batch_free(store->move);
	rt_batch_free(store->get);
	rt_batch_free(store->list);
	rt_args_done(&store->args);
	if (store->busy.queued)
		store->freed = true;
	else
		free(store);
}

static const struct order_store_ops store_ops = {
	.place = store_place,
	.move = store_move,
	.get = store_get,
	.list = store_list,
	.due = store_due,
	.timer = store_timer,
	.tail = store_tail,
	.tail_interrupt = store_tail_interrupt,
	.trim = store_trim,
	.ready = store_ready,
	.free = store_free,
};

static int new_batches(struct store *store, struct rt_metrics *metrics)
{
	struct rt_batch_options options = { .in_flight_max = IN_FLIGHT_MAX,
					    .gather = GATHER,
					    .waiting_max = WAITING_MAX,
					    .user_data = store,
					    .metrics = metrics };
	int rc;

	options.count_max = PLACE_COUNT_MAX;
	options.run_size = sizeof(struct run);
	options.send = place_send;
	options.step = "order_place";
	rc = rt_batch_new(store->loop, &options, &store->place);
	if (rc != RT_OK)
		return rc;
	options.count_max = MOVE_COUNT_MAX;
	options.run_size = sizeof(struct run);
	options.send = move_send;
	options.step = "order_move";
	rc = rt_batch_new(store->loop, &options, &store->move);
	if (rc != RT_OK)
		return rc;
	/* One by one: only so that few are under way. */
	options.metrics = NULL;
	options.count_max = 1;
	options.gather = 0;
	options.in_flight_max = GETS_MAX;
	options.send = get_send;
	rc = rt_batch_new(store->loop, &options, &store->get);
	if (rc != RT_OK)
		return rc;
	options.in_flight_max = LISTS_MAX;
	options.send = list_send;
	return rt_batch_new(store->loop, &options, &store->list);
}

static int new_connections(struct store *store, const struct rt_redis_options *given,
			   struct rt_metrics *metrics)
{
	struct rt_redis_options options = *given;
	int rc;

	options.on_state = on_state;
	options.user_data = store;
	options.follow_clock = true;
	options.metrics = metrics;
	rc = rt_redis_new(store->loop, &options, &store->redis);
	if (rc != RT_OK)
		return rc;
	rt_functions_watch_start(&store->functions, store->loop, store->redis, &order_functions);
	options.on_state = NULL;
	options.follow_clock = false;
	return rt_redis_new(store->loop, &options, &store->tail_redis);
}

int order_store_redis_new(struct rt_loop *loop, const struct order_store_redis_options *options,
			  struct order_store **ret)
{
	struct store *store = rt_alloc(sizeof(*store));
	int rc;

	store->base.ops = &store_ops;
	store->loop = loop;
	store->timeout_ms = options->redis->timeout_ms;
	store->busy.run = on_busy;
	rt_list_init(&store->busy_places);
	rt_list_init(&store->busy_moves);
	rt_list_init(&store->busy_gets);
	rt_list_init(&store->busy_lists);
	snprintf(store->events_key, sizeof(store->events_key), "order:{%d}:events",
		 options->partition);
	snprintf(store->inventory_key, sizeof(store->inventory_key), "inventory:{%d}:events",
		 options->partition);
	snprintf(store->orders_prefix, sizeof(store->orders_prefix),
		 "order:{%d}:o:", options->partition);
	snprintf(store->length_max, sizeof(store->length_max), "%" PRId64,
		 options->stream_length_max);
	rc = new_batches(store, options->metrics);
	if (rc != RT_OK)
		goto fail;
	rc = new_connections(store, options->redis, options->metrics);
	if (rc != RT_OK)
		goto fail;
	*ret = &store->base;
	return RT_OK;
fail:
	store_free(&store->base);
	return rc;
}

struct rt_redis *order_store_redis_connection(struct order_store *store)
{
	return store_of(store)->redis;
}

const char *order_store_redis_problem(const struct order_store *store)
{
	return rt_functions_watch_problem(
		&RT_CONTAINER_OF(store, const struct store, base)->functions);
}
