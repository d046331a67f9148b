/* store_redis.c - the order store on Redis: the operations of functions.lua, as queues of commands
 * (runtime/redis). It defines how each operation is sent and how its answer is read.
 *
 *   place, move, drop, timer   many in one FCALL
 *   get                        many in one HMGET
 *   list, due                  one FCALL each
 *   tail                       XREAD; one that waits has its own connection, because it delays later commands */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "events/entry.h"
#include "order_id.h"
#include "order_record.h"
#include "redis/redis.h"
#include "store.h"

#define PLACE_COUNT_MAX 128
#define MOVE_COUNT_MAX  256
#define IN_FLIGHT_MAX   4
#define GATHER          64 /* waiting operations that start a second call beside the first */
#define WAITING_MAX     100000
#define GETS_MAX        64  /* in a command */
#define TIMERS_MAX      256 /* in a call */
#define LISTS_MAX       1   /* a page takes up to some milliseconds, for which orders wait */
#define TAIL_COUNT_MAX  64  /* entries; each may carry hundreds of events */
#define KEY_MAX         64
#define WEIGHT_MAX                                                                                 \
	(128 * 1024) /* bytes of content in a call, which go into one entry of the stream */
#define ORDER_BYTES_MAX (16 * 1024) /* the limits of a request allow no larger order */
#define INVENTORY_GROUP "inventory" /* reads ours, and answers */

/* What lies in one partition. */
struct partition {
	struct rt_loop *loop;
	struct rt_redis *redis;      /* the store's, for reads of the tail that do not wait … */
	struct rt_redis *tail_redis; /* … and for those that do */
	void (*published)(void *user, const char *before, const char *last);
	void *published_user;
	char events_key[KEY_MAX], inventory_key[KEY_MAX], archive_key[KEY_MAX], orders_key[KEY_MAX];
	char length_max[24];
	size_t order_bytes; /* of an order that moves, as far as is known: it is read and written whole */
	int64_t timeout_ms;
	struct rt_store_queue *place, *move, *drop, *get, *list, *due, *timer;
	char placed_history[80]; /* of the orders whose answer is being passed on */
	struct tail_call *tail;
	struct rt_args tail_args;
};

struct order_store {
	struct partition *partitions;
	int partition_count;
};

/* Reads an order in an answer. False: there is none, or it is damaged. */
static bool read_order(const struct redisReply *reply, const char *order_id,
		       struct order_record *ret)
{
	return rt_reply_is_string(reply) &&
	       order_record_read(reply->str, (size_t)reply->len, order_id, ret);
}

/* Reports which entries of the stream an answer has published, if any. It says so by '<before> <last>'. */
static void report_published(const struct partition *partition, const char *ids)
{
	size_t length = strcspn(ids, " \n");
	const char *last = ids + length + (ids[length] == ' ');
	char before[KEY_MAX], id[KEY_MAX];

	snprintf(before, sizeof(before), "%.*s", (int)length, ids);
	/* A time mark may follow it. */
	snprintf(id, sizeof(id), "%.*s", (int)strcspn(last, "~\n"), last);
	if (partition->published != NULL && id[0] != '\0' && strcmp(id, before) != 0)
		partition->published(partition->published_user, before, id);
}

/* ---- place ---- */

static bool is_there(const char *text)
{
	return text != NULL && text[0] != '\0';
}

/* What is known of an order's id, and whether its customer's orders are counted. */
static const char *flag_of(const struct order_place_op *op)
{
	bool counted = op->pending_max > 0;

	if (op->fresh)
		return counted ? "F" : "f";
	if (op->asked)
		return counted ? "A" : "a";
	return counted ? "+" : "-";
}

static void place_begin(struct rt_store_run *run)
{
	const struct partition *partition = run->user;
	struct rt_buf flags = { NULL, 0, 0 };
	int64_t now_ms = 0, due_ms = INT64_MAX, position = 0, pending_max = 0;

	RT_STORE_FOR_EACH(const struct order_place_op, op, run)
	{
		rt_buf_add(&flags, flag_of(op), 1);
		pending_max = RT_MAX(pending_max, op->pending_max);
		now_ms = RT_MAX(now_ms, op->now_ms);
		due_ms = RT_MIN(due_ms, op->retry_due_ms);
	}
	rt_buf_add(&flags, partition->length_max, strlen(partition->length_max));
	rt_store_add_time(run, now_ms);
	rt_args_int(run->args, due_ms);
	rt_args_copy(run->args, flags.data, flags.length);
	rt_buf_done(&flags);
	RT_STORE_FOR_EACH(const struct order_place_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
		rt_args_str(run->args, op->customer_id);
		rt_args_int(run->args, op->hold_ms);
		rt_args_add(run->args, op->placed, op->placed_length);
	}
	if (pending_max > 0) {
		rt_args_int(run->args, 0);
		rt_args_int(run->args, pending_max);
		rt_args_str(run->args, "");
	}
	RT_STORE_FOR_EACH(const struct order_place_op, op, run)
	{
		position++;
		if (!is_there(op->traceparent) && !is_there(op->actor))
			continue;
		rt_args_int(run->args, position);
		rt_args_trace(run->args, op->traceparent, op->tracestate);
		rt_args_str(run->args, is_there(op->actor) ? op->actor : "");
	}
}

/* The first arguments of order_find. */
static void find_begin(struct rt_store_run *run)
{
	struct rt_buf flags = { NULL, 0, 0 };
	int64_t now_ms = 0;

	rt_store_call(run, "find", NULL);
	RT_STORE_FOR_EACH(const struct order_place_op, op, run)
	{
		rt_buf_add(&flags, flag_of(op), 1);
		now_ms = RT_MAX(now_ms, op->now_ms);
	}
	rt_args_int(run->args, now_ms);
	rt_args_copy(run->args, flags.data, flags.length);
	rt_buf_done(&flags);
}

/* The history of orders that were placed just now; a stream id that is too long is cut. */
static void write_placed(struct partition *partition, const char *stream_id)
{
	snprintf(partition->placed_history, sizeof(partition->placed_history), "%s@%s",
		 order_event_word(ORDER_EV_PLACED), stream_id);
}

/* A letter for each order and, if they were to be placed, '<before> <last>'. */
static bool read_letters(struct rt_store_run *run, const struct redisReply *reply)
{
	struct partition *partition = run->user;
	size_t count = run->batch.count;
	const char *last;

	run->read = 1;
	run->text = rt_reply_text(reply);
	if (run->text == NULL || strcspn(run->text, " ") != count)
		return false;
	if (run->commands > 1)
		return true;
	last = strrchr(run->text + count, ' ');
	if (last == NULL || last == run->text + count)
		return false;
	write_placed(partition, last + 1);
	report_published(partition, run->text + count + 1);
	return true;
}

/* Storage is full, so the whole call was refused. Orders placed before are still answered. */
static bool place_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	bool full = *status == RT_FULL && run->commands == 1, stream_full;

	if (*status == RT_OK && !read_letters(run, reply))
		*status = RT_PROTOCOL;
	if (!full)
		return false;
	stream_full = strstr(reply->str, "has reached its hard length") != NULL;
	find_begin(run);
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
	struct partition *partition = run->user;
	struct order_place_op *op = item;

	switch (run->text[run->index]) {
	case 'C':
		op->outcome = ORDER_CONFLICT;
		return RT_OK;
	case 'X':
		op->outcome = ORDER_TOO_MANY;
		return RT_OK;
	case 'D':
		if (run->read >= reply->elements || !rt_reply_is_string(reply->element[run->read]))
			return RT_PROTOCOL;
		op->earlier_id = reply->element[run->read++]->str;
		op->outcome = ORDER_PERHAPS_DROPPED;
		return RT_OK;
	case 'P':
		op->outcome = ORDER_PLACED;
		op->record = (struct order_record){
			.order_id = op->order_id,
			.state = ORDER_PENDING,
			.version = 1,
			.placed = op->placed,
			.placed_length = op->placed_length,
			.hold_ms = op->hold_ms,
			.attempt = 1,
			.history = partition->placed_history,
		};
		return RT_OK;
	case 'E':
		if (run->read >= reply->elements || !rt_reply_is_string(reply->element[run->read]))
			return RT_PROTOCOL;
		op->earlier_id = reply->element[run->read++]->str;
		/* fall through */
	case 'B':
		op->outcome = ORDER_PLACED_BEFORE;
		return run->read < reply->elements && read_order(reply->element[run->read++],
								 op->order_id, &op->record)
			       ? RT_OK
			       : RT_PROTOCOL;
	default: /* when storage is full: not placed; otherwise unexpected */
		return run->commands > 1 ? RT_FULL : RT_PROTOCOL;
	}
}

RT_STORE_END(place_end, struct order_place_op)

static const struct rt_store_step place_step = {
	.name = "order_place",
	.durable = true,
	.count_max = PLACE_COUNT_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = GATHER,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.function = "place",
	.begin = place_begin,
	.answered = place_answered,
	.decode = place_decode,
	.end = place_end,
};

/* ---- move ---- */

/* Whether it has fields that few operations have. */
static bool has_extra(const struct order_move_op *op)
{
	return op->expected_version != 0 || op->input == ORDER_IN_REQUEST_UNANSWERED ||
	       op->input == ORDER_IN_EXTEND || op->data_length > 0 || is_there(op->traceparent) ||
	       is_there(op->actor);
}

static void add_extension(struct rt_args *args, const struct order_move_op *op)
{
	char text[64];

	rt_args_copy(args, text,
		     (size_t)snprintf(text, sizeof(text), "%" PRId64 "+%" PRId64, op->hold_until_ms,
				      op->hold_max_ms));
}

static void move_extras(struct rt_store_run *run)
{
	int64_t position = 0;

	RT_STORE_FOR_EACH(const struct order_move_op, op, run)
	{
		position++;
		if (!has_extra(op))
			continue;
		rt_args_int(run->args, position);
		if (op->expected_version != 0)
			rt_args_int(run->args, (int64_t)op->expected_version);
		else
			rt_args_str(run->args, "");
		/* The due time depends on the attempt. */
		if (op->input == ORDER_IN_REQUEST_UNANSWERED)
			rt_args_int(run->args, op->retry_due_ms);
		else if (op->input == ORDER_IN_EXTEND)
			add_extension(run->args, op);
		else
			rt_args_str(run->args, "");
		rt_args_add(run->args, op->data == NULL ? (const void *)"" : op->data,
			    op->data_length);
		rt_args_trace(run->args, op->traceparent, op->tracestate);
		rt_args_str(run->args, is_there(op->actor) ? op->actor : "");
	}
}

static void move_begin(struct rt_store_run *run)
{
	const struct partition *partition = run->user;
	struct rt_buf letters = { NULL, 0, 0 }, wanted = { NULL, 0, 0 };
	int64_t now_ms = 0, due_ms = INT64_MAX, extras = 0;
	bool delivered = false, wants = false;

	RT_STORE_FOR_EACH(const struct order_move_op, op, run)
	{
		char letter = order_input_letter(op->input);

		rt_buf_add(&letters, &letter, 1);
		rt_buf_add(&wanted, op->want_record ? "w" : op->want_history ? "h" : "-", 1);
		wants |= op->want_record || op->want_history;
		now_ms = RT_MAX(now_ms, op->now_ms);
		due_ms = RT_MIN(due_ms, op->retry_due_ms);
		extras += has_extra(op);
		delivered |= op->event != NULL;
	}
	rt_store_call(run, "move", delivered ? partition->inventory_key : NULL);
	rt_store_add_time(run, now_ms);
	rt_args_int(run->args, due_ms);
	rt_args_copy(run->args, letters.data, letters.length);
	if (!wants)
		wanted.length = RT_MIN(wanted.length, 1);
	if (extras > 0)
		rt_buf_printf(&wanted, "%" PRId64, extras);
	rt_args_copy(run->args, wanted.data, wanted.length);
	rt_buf_done(&letters);
	rt_buf_done(&wanted);
	RT_STORE_FOR_EACH(const struct order_move_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
	}
	move_extras(run);
	RT_STORE_FOR_EACH(const struct order_move_op, op, run)
	{
		const char *ack_id = op->event == NULL ? NULL : rt_event_ack(op->event, run);

		if (ack_id != NULL)
			rt_args_str(run->args, ack_id);
	}
}

/* Reads a line: "U", "G", or outcome, state, version and, for M, the age, then the history if wanted: "MR2 15". Returns
 * its end, or NULL. */
static const char *read_outcome(struct order_move_op *op, const char *text)
{
	char *end;

	if (text[0] == 'U' || text[0] == 'G') {
		op->outcome = text[0] == 'U' ? ORDER_UNKNOWN : ORDER_GONE;
		return text + 1;
	}
	switch (text[0]) {
	case 'M':
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
	case 'L':
		op->outcome = ORDER_BEYOND;
		break;
	default:
		return NULL;
	}
	if (!order_state_of_letter(text[1], &op->state))
		return NULL;
	op->version = strtoull(text + 2, &end, 10);
	op->age_ms = *end == ' ' ? strtoll(end + 1, &end, 10) : 0;
	if (op->want_history && *end == ' ')
		op->history = end + 1;
	return end + strcspn(end, "\n");
}

/* How large the orders of the next calls are is not known before they are read, so it is taken from those before: it
 * rises at once and falls slowly, and a call carries at most WEIGHT_MAX of that. */
static void note_size(struct partition *partition, int64_t size)
{
	if (size > 0)
		partition->order_bytes =
			RT_MAX((size_t)size, partition->order_bytes - partition->order_bytes / 8);
}

static bool move_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	const char *head = *status == RT_OK ? rt_reply_text(reply) : NULL, *line;
	char *ids;

	run->read = 1;
	line = head != NULL ? strchr(head, '\n') : NULL;
	if (*status == RT_OK && line == NULL)
		*status = RT_PROTOCOL;
	if (*status != RT_OK)
		return false;
	run->text = line + 1;
	note_size(run->user, strtoll(head, &ids, 10));
	if (*ids == ' ')
		report_published(run->user, ids + 1);
	/* If an order is unknown nothing was acknowledged. */
	if (run->text[0] == 'U' || strstr(run->text, "\nU") != NULL) {
		RT_STORE_FOR_EACH(const struct order_move_op, op, run)
		{
			if (op->event != NULL)
				rt_event_not_acked(op->event);
		}
	}
	return false;
}

static int move_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_move_op *op = item;
	const char *end = run->text == NULL ? NULL : read_outcome(op, run->text);

	run->text = end == NULL ? NULL : end + (*end == '\n');
	if (end == NULL)
		return RT_PROTOCOL;
	if (!op->want_record || op->outcome == ORDER_UNKNOWN || op->outcome == ORDER_GONE)
		return RT_OK;
	if (run->read >= reply->elements ||
	    !read_order(reply->element[run->read++], op->order_id, &op->record))
		return RT_PROTOCOL;
	if (op->outcome == ORDER_MOVED)
		op->history = op->record.history;
	return RT_OK;
}

RT_STORE_END(move_end, struct order_move_op)

static bool move_outdated(const void *item)
{
	const struct order_move_op *op = item;

	return op->event != NULL && !rt_event_is_current(op->event);
}

static const struct rt_store_step move_step = {
	.name = "order_move",
	.durable = true,
	.count_max = MOVE_COUNT_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = GATHER,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = move_outdated,
	.begin = move_begin,
	.answered = move_answered,
	.decode = move_decode,
	.end = move_end,
};

/* ---- drop ---- */

static void drop_begin(struct rt_store_run *run)
{
	const struct partition *partition = run->user;
	int64_t now_ms = 0, kept_ms = 0, count = 0;
	bool delivered = false;

	RT_STORE_FOR_EACH(const struct order_drop_op, op, run)
	{
		now_ms = RT_MAX(now_ms, op->now_ms);
		kept_ms = op->kept_ms;
		delivered |= op->event != NULL;
		count++;
	}
	rt_store_call(run, "drop", delivered ? partition->archive_key : NULL);
	rt_store_add_time(run, now_ms);
	rt_args_int(run->args, kept_ms);
	rt_args_int(run->args, count);
	RT_STORE_FOR_EACH(const struct order_drop_op, op, run)
	{
		int64_t made_ms = order_id_made_ms(op->order_id);

		rt_args_str(run->args, op->order_id);
		rt_args_int(run->args, (int64_t)op->version);
		if (made_ms >= 0)
			rt_args_int(run->args, made_ms);
		else
			rt_args_str(run->args, "");
	}
	RT_STORE_FOR_EACH(const struct order_drop_op, op, run)
	{
		const char *ack_id = op->event == NULL ? NULL : rt_event_ack(op->event, run);

		if (ack_id != NULL)
			rt_args_str(run->args, ack_id);
	}
}

static bool drop_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	if (*status != RT_OK)
		return false;
	if (!read_letters(run, reply))
		*status = RT_PROTOCOL;
	return false;
}

static int drop_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_drop_op *op = item;

	(void)reply;
	op->dropped = run->text[run->index] == 'D';
	return RT_OK;
}

RT_STORE_END(drop_end, struct order_drop_op)

static bool drop_outdated(const void *item)
{
	const struct order_drop_op *op = item;

	return op->event != NULL && !rt_event_is_current(op->event);
}

static const struct rt_store_step drop_step = {
	.name = "order_drop",
	.durable = true,
	.count_max = MOVE_COUNT_MAX,
	.in_flight_max = 1,
	.waiting_max = WAITING_MAX,
	.needs_functions = true,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = drop_outdated,
	.begin = drop_begin,
	.answered = drop_answered,
	.decode = drop_decode,
	.end = drop_end,
};

/* ---- get ---- */

/* Reads share the connection with orders that are placed and decided. So only a few are under way and
 * the others wait: orders are not delayed or refused, however many clients read. */

static void get_begin(struct rt_store_run *run)
{
	const struct partition *partition = run->user;

	rt_args_str(run->args, "HMGET");
	rt_args_str(run->args, partition->orders_key);
}

static void get_encode(struct rt_store_run *run, const void *item)
{
	rt_args_str(run->args, ((const struct order_get_op *)item)->order_id);
}

static int get_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_get_op *op = item;

	(void)run;
	op->found = read_order(reply, op->order_id, &op->record);
	return RT_OK;
}

RT_STORE_END(get_end, struct order_get_op)

static const struct rt_store_step get_step = {
	.name = "order_get",
	.count_max = GETS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.waiting_max = WAITING_MAX,
	.begin = get_begin,
	.encode = get_encode,
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
	rt_args_str(run->args, op->before_id);
	rt_args_int(run->args, (int64_t)op->bytes_max);
}

/* { more, dropped, id, record, id, record, … } */
static int list_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct order_list_op *op = item;
	size_t count;

	(void)run;
	if (!rt_reply_is_array(reply, 2) || reply->element[1]->str == NULL)
		return RT_PROTOCOL;
	count = (reply->elements - 2) / 2;
	op->dropped_ms = strtoll(reply->element[1]->str, NULL, 10);
	op->records = rt_alloc((count + 1) * sizeof(*op->records));
	op->more = rt_reply_int(reply->element[0]) != 0;
	for (size_t i = 0; i < count; i++) {
		struct redisReply **at = &reply->element[2 + 2 * i];

		op->last_id = at[0]->str;
		if (read_order(at[1], at[0]->str, &op->records[op->record_count]))
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

		if (!read_order(at[2], at[0]->str, &op->due[op->due_count].record))
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
	.count_max = TIMERS_MAX,
	.in_flight_max = 1,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX, /* of the orders that are read */
	.whole_answer = true,
	.function = "timer",
	.encode = timer_encode,
	.end = timer_end,
};

/* ---- tail ---- */

/* A read of the tail. The caller may cancel it (tail_interrupt) while Redis still blocks: it
 * ends when both the answer has arrived and no task of it is queued. */
struct tail_call {
	struct rt_redis_op op;
	struct rt_task task;
	struct partition *partition;
	struct order_tail_op *tail; /* NULL: answered, or cancelled */
	bool from_end;
	bool under_way, task_queued;
};

static void tail_end(struct tail_call *call)
{
	if (call->under_way || call->task_queued)
		return;
	free(call);
}

/* Appends the events of an entry to *events, and their texts to *texts. */
static void tail_entry(const struct redisReply *reply, struct rt_buf *events,
		       struct rt_arena *texts)
{
	struct rt_entry_event *list;
	size_t count;

	if (!rt_reply_is_array(reply, 2) ||
	    rt_entry_read_reply(reply->element[1], &list, &count) != NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct order_tail_entry event = {
			.stream_id = reply->element[0]->str,
			.type = rt_arena_printf(texts, "%.*s", (int)list[i].type.length,
						list[i].type.data),
			.subject = rt_arena_printf(texts, "%.*s", (int)list[i].subject.length,
						   list[i].subject.data),
			.seq = list[i].seq,
		};

		rt_buf_add(events, &event, sizeof(event));
	}
	free(list);
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
	struct rt_buf events = { NULL, 0, 0 };
	struct rt_arena texts = { 0 };

	snprintf(tail->last, sizeof(tail->last), "%s", call->from_end ? "0-0" : tail->after);
	for (size_t i = 0; i < count; i++) {
		if (rt_reply_is_array(entries->element[i], 2))
			snprintf(tail->last, sizeof(tail->last), "%s",
				 entries->element[i]->element[0]->str);
		if (!call->from_end)
			tail_entry(entries->element[i], &events, &texts);
	}
	tail->entries = (struct order_tail_entry *)(void *)events.data;
	tail->entry_count = events.length / sizeof(*tail->entries);
	tail->done(tail, RT_OK);
	rt_buf_done(&events);
	rt_arena_done(&texts);
}

static void tail_done(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct tail_call *call = RT_CONTAINER_OF(op, struct tail_call, op);

	call->under_way = false;
	if (call->tail != NULL) {
		call->partition->tail = NULL;
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
	struct partition *partition = &store->partitions[op->partition];
	struct tail_call *call = rt_alloc(sizeof(*call));
	struct rt_args *args = &partition->tail_args;

	call->partition = partition;
	call->tail = op;
	call->from_end = strcmp(op->after, "$") == 0;
	call->under_way = true;
	partition->tail = call;
	rt_args_clear(args);
	if (call->from_end) {
		rt_args_str(args, "XREVRANGE");
		rt_args_str(args, partition->events_key);
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
		rt_args_str(args, partition->events_key);
		rt_args_str(args, op->after);
	}
	rt_redis_send(op->block_ms > 0 ? partition->tail_redis : partition->redis, &call->op, args,
		      partition->timeout_ms + op->block_ms, tail_done);
}

static void tail_cancelled(struct rt_task *task)
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

void order_store_on_published(struct order_store *store, int partition,
			      void (*published)(void *user, const char *before, const char *last),
			      void *user)
{
	store->partitions[partition].published = published;
	store->partitions[partition].published_user = user;
}

void order_store_tail_interrupt(struct order_store *store, int partition)
{
	struct tail_call *call = RT_TAKE(store->partitions[partition].tail);

	if (call == NULL)
		return;
	call->task.run = tail_cancelled;
	call->task_queued = true;
	rt_loop_defer(call->partition->loop, &call->task);
}

/* ---- the store ---- */

void order_store_place(struct order_store *store, struct order_place_op *op)
{
	op->item.weight = op->placed_length;
	rt_store_add(store->partitions[op->partition].place, op);
}

void order_store_move(struct order_store *store, struct order_move_op *op)
{
	struct partition *partition = &store->partitions[op->partition];

	op->history = NULL;
	op->item.weight = op->data_length +
			  (op->stored_length > 0 ? op->stored_length : partition->order_bytes);
	op->item.unit = op->event == NULL ? NULL : rt_event_entry(op->event);
	rt_store_add(partition->move, op);
}

void order_store_drop(struct order_store *store, struct order_drop_op *op)
{
	struct partition *partition = &store->partitions[op->partition];

	op->item.weight = partition->order_bytes; /* it is read */
	op->item.unit = op->event == NULL ? NULL : rt_event_entry(op->event);
	rt_store_add(partition->drop, op);
}

void order_store_get(struct order_store *store, struct order_get_op *op)
{
	op->found = false;
	rt_store_add(store->partitions[op->partition].get, op);
}

void order_store_list(struct order_store *store, struct order_list_op *op)
{
	op->records = NULL;
	op->record_count = 0;
	op->last_id = "";
	op->more = false;
	rt_store_add(store->partitions[op->partition].list, op);
}

void order_store_due(struct order_store *store, struct order_due_op *op)
{
	op->due = NULL;
	op->due_count = 0;
	rt_store_add(store->partitions[op->partition].due, op);
}

void order_store_timer(struct order_store *store, struct order_timer_op *op)
{
	op->item.weight = op->stored_length;
	rt_store_add(store->partitions[op->partition].timer, op);
}

static int partition_init(struct partition *partition, struct rt_loop *loop, int number,
			  struct rt_store *store, const struct order_store_options *options)
{
	const struct {
		const struct rt_store_step *step;
		struct rt_store_queue **queue;
	} queues[] = {
		{ &place_step, &partition->place }, { &move_step, &partition->move },
		{ &drop_step, &partition->drop },   { &get_step, &partition->get },
		{ &list_step, &partition->list },   { &due_step, &partition->due },
		{ &timer_step, &partition->timer },
	};
	struct rt_redis_options tail = *options->redis;
	int rc;

	partition->loop = loop;
	partition->order_bytes = ORDER_BYTES_MAX;
	partition->timeout_ms = options->redis->timeout_ms;
	snprintf(partition->events_key, sizeof(partition->events_key), "order:{%d}:events", number);
	snprintf(partition->inventory_key, sizeof(partition->inventory_key),
		 "inventory:{%d}:events", number);
	snprintf(partition->archive_key, sizeof(partition->archive_key), "archive:{%d}:events",
		 number);
	snprintf(partition->orders_key, sizeof(partition->orders_key), "order:{%d}:orders", number);
	snprintf(partition->length_max, sizeof(partition->length_max), "%" PRId64,
		 options->stream_length_max);
	partition->redis = rt_store_redis(store);
	tail.partition = number;
	tail.blocks = true;
	rc = rt_redis_new(loop, &tail, &partition->tail_redis);
	for (size_t i = 0; i < RT_LENGTH(queues) && rc == RT_OK; i++)
		rc = rt_store_queue_new(store, queues[i].step, partition, queues[i].queue);
	return rc;
}

int order_store_new(struct rt_loop *loop, struct rt_store *const *stores,
		    const struct order_store_options *options, struct order_store **ret)
{
	struct order_store *store = rt_alloc(sizeof(*store));
	int rc = RT_OK;

	store->partitions = rt_alloc((size_t)options->partition_count * sizeof(*store->partitions));
	for (int p = 0; p < options->partition_count && rc == RT_OK; p++) {
		store->partition_count++;
		rc = partition_init(&store->partitions[p], loop, p, stores[p], options);
	}
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
	for (int p = 0; p < store->partition_count; p++) {
		rt_redis_free(store->partitions[p].tail_redis);
		rt_args_done(&store->partitions[p].tail_args);
	}
	free(store->partitions);
	free(store);
}
