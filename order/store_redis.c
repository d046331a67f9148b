/* store_redis.c - the order store on Redis: the operations of functions.lua, as queues of commands
 * (runtime/redis). For each operation it says how it is sent and how its answer is read.
 *
 *   place, move                  gathered: many in one FCALL
 *   get                          a plain HMGET; list, due, timer, trim: one FCALL each
 *   tail                         XREAD; when it waits, on its own connection: it delays the commands
 *                                behind it */
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
#define GATHER          64 /* so many are worth a second call beside the first */
#define WAITING_MAX     100000
#define GETS_MAX        256 /* under way: about a millisecond of Redis */
#define LISTS_MAX       4   /* a page takes up to some milliseconds */
#define TAIL_COUNT_MAX  512
#define KEY_MAX         64
#define ORDER_KEY_MAX   (KEY_MAX + 4 * 128)
#define GROUP           "order"     /* what this service reads inventory's stream as */
#define INVENTORY_GROUP "inventory" /* what reads ours, and answers */

struct order_store {
	struct rt_loop *loop;
	struct rt_redis *redis;      /* the store's, for reads of the tail that do not wait … */
	struct rt_redis *tail_redis; /* … and for those that do */
	void (*published)(void *user, const char *before, const char *last);
	void *published_user;
	char events_key[KEY_MAX], inventory_key[KEY_MAX], orders_prefix[KEY_MAX];
	char length_max[24];
	int64_t timeout_ms;
	struct rt_store_queue *place, *move, *get, *list, *due, *timer;
	char placed_history[80]; /* of the order whose answer is being passed on */
	struct tail_call *tail;
	struct rt_args tail_args;
};

static void add_text(struct rt_args *args, const char *text)
{
	rt_args_str(args, text == NULL ? "" : text);
}

/* A record as functions.lua answers it: status settled version hold attempt history placed detail.
 * False: no order, or one that is damaged. */
static bool read_record(const struct redisReply *reply, const char *order_id,
			struct order_record *ret)
{
	struct redisReply **field = reply->element;
	struct order_record record = { .order_id = order_id, .attempt = 1 };

	if (!rt_reply_is_array(reply, 8) || !rt_reply_is_string(field[0]) ||
	    field[2]->type != REDIS_REPLY_STRING || field[5]->type != REDIS_REPLY_STRING ||
	    field[6]->type != REDIS_REPLY_STRING)
		return false;
	if (!order_state_parse(field[0]->str, field[1]->type == REDIS_REPLY_STRING, &record.state))
		return false;
	record.version = (uint64_t)rt_reply_int(field[2]);
	record.hold_ms = rt_reply_int(field[3]);
	if (field[4]->type == REDIS_REPLY_STRING)
		record.attempt = (uint32_t)rt_reply_int(field[4]);
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

/* Behind the answers, if anything was published: behind which id, and up to which. */
static void read_range(struct rt_store_run *run, const struct redisReply *reply)
{
	const struct order_store *store = run->user;
	size_t count = run->batch.count;

	if (store->published != NULL && rt_reply_is_array(reply, count + 2) &&
	    rt_reply_is_string(reply->element[count]) &&
	    rt_reply_is_string(reply->element[count + 1]))
		store->published(store->published_user, reply->element[count]->str,
				 reply->element[count + 1]->str);
}

/* ---- place ---- */

static void place_begin(struct rt_store_run *run)
{
	const struct order_store *store = run->user;

	rt_args_str(run->args, store->length_max);
}

static void place_encode(struct rt_store_run *run, const void *item)
{
	const struct order_place_op *op = item;
	struct rt_args *args = run->args;

	rt_args_str(args, op->order_id);
	rt_args_str(args, op->fresh ? "f" : "");
	rt_args_str(args, op->customer_id);
	rt_args_add(args, op->placed, op->placed_length);
	rt_args_int(args, op->hold_ms);
	rt_store_add_now(run, op->now_ms);
	rt_args_int(args, op->retry_due_ms);
	add_text(args, op->traceparent);
}

/* Storage is full, so the whole call was refused. What was placed before is answered nevertheless. */
static bool place_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	bool stream_full;

	if (*status == RT_OK)
		read_range(run, reply);
	if (*status != RT_FULL || run->commands > 1)
		return false;
	stream_full = strstr(reply->str, "has reached its hard length") != NULL;
	rt_store_call(run, "find", NULL);
	RT_STORE_FOR_EACH(struct order_place_op, op, run)
	{
		op->stream_full = stream_full;
		rt_args_str(run->args, op->order_id);
		rt_args_add(run->args, op->placed, op->placed_length);
	}
	return true;
}

static int place_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_store *store = run->user;
	struct order_place_op *op = item;

	switch (reply->type) {
	case REDIS_REPLY_INTEGER:
		op->outcome = ORDER_CONFLICT;
		return RT_OK;
	case REDIS_REPLY_STRING:
		snprintf(store->placed_history, sizeof(store->placed_history), "%s@%s",
			 order_event_word(ORDER_EV_PLACED), reply->str);
		op->outcome = ORDER_PLACED;
		op->record = (struct order_record){
			.order_id = op->order_id,
			.state = ORDER_PENDING,
			.version = 1,
			.placed = op->placed,
			.placed_length = op->placed_length,
			.hold_ms = op->hold_ms,
			.attempt = 1,
			.history = store->placed_history,
		};
		return RT_OK;
	case REDIS_REPLY_NIL: /* not placed, when storage is full; else unexpected */
		return run->commands > 1 ? RT_FULL : RT_PROTOCOL;
	default:
		op->outcome = ORDER_PLACED_BEFORE;
		return read_record(reply, op->order_id, &op->record) ? RT_OK : RT_PROTOCOL;
	}
}

RT_STORE_END(place_end, struct order_place_op)

static const struct rt_store_step place_step = {
	.name = "order_place",
	.count_max = PLACE_COUNT_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = GATHER,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.function = "place",
	.begin = place_begin,
	.encode = place_encode,
	.answered = place_answered,
	.decode = place_decode,
	.end = place_end,
};

/* ---- move ---- */

static void move_begin(struct rt_store_run *run)
{
	const struct order_store *store = run->user;
	bool acks = false;

	RT_STORE_FOR_EACH(const struct order_move_op, op, run)
	{
		acks |= op->ack_id != NULL;
	}
	rt_store_call(run, "move", acks ? store->inventory_key : NULL);
	rt_args_str(run->args, GROUP);
}

static void add_what(struct rt_args *args, const struct order_move_op *op)
{
	char text[32] = { order_input_letter(op->input), op->want_record    ? 'w'
							 : op->want_history ? 'h'
									    : '-' };
	int length = 2;

	if (op->expected_version != 0)
		length += snprintf(text + 2, sizeof(text) - 2, "%" PRIu64, op->expected_version);
	rt_args_copy(args, text, (size_t)length);
}

static void move_encode(struct rt_store_run *run, const void *item)
{
	const struct order_move_op *op = item;
	struct rt_args *args = run->args;

	rt_args_str(args, op->order_id);
	add_what(args, op);
	rt_store_add_now(run, op->now_ms);
	rt_args_int(args, op->retry_due_ms);
	rt_args_add(args, op->data == NULL ? (const void *)"" : op->data, op->data_length);
	add_text(args, op->traceparent);
	add_text(args, op->ack_id);
}

/* "U", or outcome, state, version and, for M, the age, and the history if it is wanted: "MR2 15". */
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
	op->age_ms = *end == ' ' ? strtoll(end + 1, &end, 10) : 0;
	if (op->want_history && *end == ' ')
		op->history = end + 1;
	return true;
}

static bool move_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status == RT_OK)
		read_range(run, reply);
	return false;
}

static int move_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_move_op *op = item;
	const struct redisReply *text = rt_reply_is_array(reply, 2) ? reply->element[0] : reply;

	(void)run;
	if (!rt_reply_is_string(text) || !read_outcome(op, text->str))
		return RT_PROTOCOL;
	if (op->want_record && op->outcome != ORDER_UNKNOWN &&
	    (text == reply || !read_record(reply->element[1], op->order_id, &op->record)))
		return RT_PROTOCOL;
	if (op->want_record && op->outcome == ORDER_MOVED)
		op->history = op->record.history;
	return RT_OK;
}

RT_STORE_END(move_end, struct order_move_op)

static const struct rt_store_step move_step = {
	.name = "order_move",
	.count_max = MOVE_COUNT_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = GATHER,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.begin = move_begin,
	.encode = move_encode,
	.answered = move_answered,
	.decode = move_decode,
	.end = move_end,
};

/* ---- get ---- */

/* Reads share the connection with orders that are placed and decided. So only a few are under way and
 * the others wait: however many clients read, nothing is late, or refused, because of them. */

static void get_encode(struct rt_store_run *run, const void *item)
{
	static const char *const fields[] = { "status",  "settled", "version", "hold",
					      "attempt", "history", "placed",  "detail" };
	const struct order_store *store = run->user;
	const struct order_get_op *op = item;
	char key[ORDER_KEY_MAX];

	snprintf(key, sizeof(key), "%s%s", store->orders_prefix, op->order_id);
	rt_args_str(run->args, "HMGET");
	rt_args_copy(run->args, key, strlen(key));
	for (size_t i = 0; i < RT_LENGTH(fields); i++)
		rt_args_str(run->args, fields[i]);
}

/* A key of another type is not an order. */
static bool get_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	(void)run;
	if (*status == RT_REMOTE && strncmp(reply->str, "WRONGTYPE", 9) == 0)
		*status = RT_OK;
	return false;
}

static int get_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_get_op *op = item;

	(void)run;
	op->found = read_record(reply, op->order_id, &op->record);
	return RT_OK;
}

RT_STORE_END(get_end, struct order_get_op)

static const struct rt_store_step get_step = {
	.count_max = 1,
	.in_flight_max = GETS_MAX,
	.waiting_max = WAITING_MAX,
	.encode = get_encode,
	.answered = get_answered,
	.decode = get_decode,
	.end = get_end,
};

/* ---- list ---- */

static void list_encode(struct rt_store_run *run, const void *item)
{
	const struct order_list_op *op = item;

	rt_args_str(run->args, op->customer_id);
	rt_args_int(run->args, (int64_t)op->count_max);
	rt_args_int(run->args, op->before_ms);
	add_text(run->args, op->before_id);
	rt_args_int(run->args, (int64_t)op->bytes_max);
}

/* { more, id, record, id, record, … } */
static int list_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_list_op *op = item;
	size_t count;

	(void)run;
	if (!rt_reply_is_array(reply, 1))
		return RT_PROTOCOL;
	count = (reply->elements - 1) / 2;
	op->records = rt_alloc((count + 1) * sizeof(*op->records));
	op->more = rt_reply_int(reply->element[0]) != 0;
	for (size_t i = 0; i < count; i++) {
		struct redisReply **at = &reply->element[1 + 2 * i];

		op->last_id = at[0]->str;
		if (read_record(at[1], at[0]->str, &op->records[op->record_count]))
			op->record_count++;
	}
	return RT_OK;
}

static void list_end(void *item, int status)
{
	struct order_list_op *op = item;
	struct order_record *records = op->records;

	op->done(op, status);
	free(records);
}

static const struct rt_store_step list_step = {
	.count_max = 1,
	.in_flight_max = LISTS_MAX,
	.waiting_max = WAITING_MAX,
	.function = "list",
	.encode = list_encode,
	.decode = list_decode,
	.end = list_end,
};

/* ---- due, timer ---- */

static void due_encode(struct rt_store_run *run, const void *item)
{
	const struct order_due_op *op = item;

	rt_args_int(run->args, op->now_ms);
	rt_args_int(run->args, op->lease_until_ms);
	rt_args_int(run->args, (int64_t)op->count_max);
	rt_args_str(run->args, INVENTORY_GROUP);
}

/* { timers, id, queued, record, id, queued, record, … } */
static int due_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_due_op *op = item;
	size_t count;

	(void)run;
	if (!rt_reply_is_array(reply, 1))
		return RT_PROTOCOL;
	count = (reply->elements - 1) / 3;
	op->timer_count = rt_reply_int(reply->element[0]);
	op->due = rt_alloc((count + 1) * sizeof(*op->due));
	for (size_t i = 0; i < count; i++) {
		struct redisReply **at = &reply->element[1 + 3 * i];

		if (!read_record(at[2], at[0]->str, &op->due[op->due_count].record))
			continue;
		op->due[op->due_count].queued = rt_reply_int(at[1]) != 0;
		op->due_count++;
	}
	return RT_OK;
}

static void due_end(void *item, int status)
{
	struct order_due_op *op = item;
	struct order_due *due = op->due;

	op->done(op, status);
	free(due);
}

static const struct rt_store_step due_step = {
	.count_max = 1,
	.in_flight_max = 1,
	.waiting_max = 8,
	.function = "due",
	.encode = due_encode,
	.decode = due_decode,
	.end = due_end,
};

static void timer_encode(struct rt_store_run *run, const void *item)
{
	const struct order_timer_op *op = item;

	rt_args_str(run->args, op->order_id);
	rt_args_int(run->args, (int64_t)op->version);
	rt_args_int(run->args, op->due_ms);
}

RT_STORE_END(timer_end, struct order_timer_op)

static const struct rt_store_step timer_step = {
	.count_max = 1,
	.in_flight_max = GETS_MAX,
	.waiting_max = WAITING_MAX,
	.function = "timer",
	.encode = timer_encode,
	.end = timer_end,
};

/* ---- tail ---- */

/* A read of the tail. The caller may give it up (tail_interrupt) while Redis still blocks: it
 * ends when both the answer has arrived and no task of it is queued. */
struct tail_call {
	struct rt_redis_op op;
	struct rt_task task;
	struct order_store *store;
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

	if (!rt_reply_is_array(reply, 2) || reply->element[1]->type != REDIS_REPLY_ARRAY)
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
	if (!rt_reply_is_array(reply, 1))
		return NULL;
	if (call->from_end)
		return reply;
	return rt_reply_is_array(reply->element[0], 2) ? reply->element[0]->element[1] : NULL;
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
		if (rt_reply_is_array(entries->element[i], 2))
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

void order_store_tail(struct order_store *store, struct order_tail_op *op)
{
	struct tail_call *call = rt_alloc(sizeof(*call));
	struct rt_args *args = &store->tail_args;

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
		if (op->block_ms > 0) {
			rt_args_str(args, "BLOCK");
			rt_args_int(args, op->block_ms);
		}
		rt_args_str(args, "STREAMS");
		rt_args_str(args, store->events_key);
		rt_args_str(args, op->after);
	}
	rt_redis_send(op->block_ms > 0 ? store->tail_redis : store->redis, &call->op, args,
		      store->timeout_ms + op->block_ms, tail_done);
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

void order_store_on_published(struct order_store *store,
			      void (*published)(void *user, const char *before, const char *last),
			      void *user)
{
	store->published = published;
	store->published_user = user;
}

void order_store_tail_interrupt(struct order_store *store)
{
	struct tail_call *call = RT_TAKE(store->tail);

	if (call == NULL)
		return;
	call->task.run = tail_given_up;
	call->task_queued = true;
	rt_loop_defer(store->loop, &call->task);
}

/* ---- the store ---- */

void order_store_place(struct order_store *store, struct order_place_op *op)
{
	rt_store_add(store->place, op);
}

void order_store_move(struct order_store *store, struct order_move_op *op)
{
	op->history = NULL;
	rt_store_add(store->move, op);
}

void order_store_get(struct order_store *store, struct order_get_op *op)
{
	op->found = false;
	rt_store_add(store->get, op);
}

void order_store_list(struct order_store *store, struct order_list_op *op)
{
	op->records = NULL;
	op->record_count = 0;
	op->last_id = "";
	op->more = false;
	rt_store_add(store->list, op);
}

void order_store_due(struct order_store *store, struct order_due_op *op)
{
	op->due = NULL;
	op->due_count = 0;
	rt_store_add(store->due, op);
}

void order_store_timer(struct order_store *store, struct order_timer_op *op)
{
	rt_store_add(store->timer, op);
}

int order_store_new(struct rt_loop *loop, const struct order_store_options *options,
		    struct order_store **ret)
{
	struct order_store *store = rt_alloc(sizeof(*store));
	const struct {
		const struct rt_store_step *step;
		struct rt_store_queue **queue;
	} queues[] = {
		{ &place_step, &store->place }, { &move_step, &store->move },
		{ &get_step, &store->get },     { &list_step, &store->list },
		{ &due_step, &store->due },     { &timer_step, &store->timer },
	};
	int rc;

	store->loop = loop;
	store->timeout_ms = options->redis->timeout_ms;
	snprintf(store->events_key, sizeof(store->events_key), "order:{%d}:events",
		 options->partition);
	snprintf(store->inventory_key, sizeof(store->inventory_key), "inventory:{%d}:events",
		 options->partition);
	snprintf(store->orders_prefix, sizeof(store->orders_prefix),
		 "order:{%d}:o:", options->partition);
	snprintf(store->length_max, sizeof(store->length_max), "%" PRId64,
		 options->stream_length_max);
	store->redis = rt_store_redis(options->store);
	rc = rt_redis_new(loop, options->redis, &store->tail_redis);
	for (size_t i = 0; i < RT_LENGTH(queues) && rc == RT_OK; i++)
		rc = rt_store_queue_new(options->store, queues[i].step, store, queues[i].queue);
	if (rc != RT_OK) {
		order_store_free(store);
		return rc;
	}
	*ret = store;
	return RT_OK;
}

void order_store_free(struct order_store *store)
{
	if (store == NULL)
		return;
	rt_redis_free(store->tail_redis);
	rt_args_done(&store->tail_args);
	free(store);
}
