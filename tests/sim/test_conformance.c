/* test_conformance.c - the memory stores give the same answers as the real ones.
 *
 * The same random operations go to order_store_memory and inventory_store_memory, and to
 * order/store_redis.c and inventory/store_redis.c with a real Redis: several at once, so that the
 * real ones form batches, in all states, with ids that repeat, with entries that are delivered,
 * acknowledged and deleted. Every answer is written as text and compared; at the end of a seed
 * the whole contents are, streams entry by entry.
 *
 *   TANDEM_CONFORMANCE_SEED=<seed>   runs that seed only, and prints every step */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "loop/loop.h"
#include "memory_redis.h"
#include "redis/redis.h"
#include "run.h"
#include "unit/redis_server.h"

#define SEEDS       40
#define STEPS       120
#define AT_ONCE_MAX 8
#define ORDERS      10
#define DATA_MAX    24

enum kind {
	PLACE,
	MOVE,
	GET,
	LIST,
	DUE,
	TIMER,
	TAIL,
	ORDER_TRIM,
	REQUEST,
	ADJUST,
	STOCK,
	LIST_STOCK,
	RESERVATION,
	INVENTORY_TRIM,
	KINDS
};
static const char *const kind_names[KINDS] = {
	"place",       "move",    "get",    "list",  "due",        "timer",       "tail",
	"trim orders", "request", "adjust", "stock", "list stock", "reservation", "trim inventory"
};

/* What to do, for both sides. */
struct step {
	enum kind kind;
	char order_id[ORDER_ID_LENGTH + 1], customer_id[16], text[32], ack_id[MEMORY_ID_TEXT],
		after[MEMORY_ID_TEXT];
	uint8_t data[DATA_MAX];
	size_t data_length, count_max, bytes_max, line_count;
	struct inventory_line lines[3];
	int64_t now_ms, then_ms, number, retain_ms, retain_count, ghost_ms;
	uint64_t version;
	uint32_t attempt;
	bool flag;
	int input;
	const char *sku;
};

struct side {
	const char *name;
	struct rt_loop *loop;
	struct order_store *orders;
	struct inventory_store *inventory;
	size_t under_way;
	bool real;
};

struct call {
	struct side *side;
	struct rt_buf text;
	union {
		struct order_place_op place;
		struct order_move_op move;
		struct order_get_op get;
		struct order_list_op list;
		struct order_due_op due;
		struct order_timer_op timer;
		struct order_tail_op tail;
		struct rt_trim_op trim;
		struct inventory_request_op request;
		struct inventory_adjust_op adjust;
		struct inventory_stock_op stock;
		struct inventory_list_op list_stock;
		struct inventory_reservation_op reservation;
		struct rt_trim_op inventory_trim;
	} op;
};

/* Everything of one seed. */
struct drive {
	uint64_t seed;
	struct rt_loop *dice; /* a manual loop, for its random numbers alone */
	struct redis_server *server;
	struct memory_redis *memory;
	struct side sides[2]; /* memory, Redis */
	int64_t now_ms;
	unsigned fresh_count, steps;
	bool loud;
};

static uint64_t roll(struct drive *drive, uint64_t bound)
{
	return rt_loop_random(drive->dice, bound);
}

/* ---- answers as text ---- */

static void add_bytes(struct rt_buf *text, const char *name, const void *data, size_t length)
{
	const uint8_t *bytes = data;

	rt_buf_printf(text, " %s=", name);
	for (size_t i = 0; i < length; i++)
		rt_buf_printf(text, "%02x", bytes[i]);
}

static void add_record(struct rt_buf *text, const struct order_record *record)
{
	rt_buf_printf(text, " {%s %s%s v%" PRIu64 " hold=%" PRId64 " attempt=%" PRIu32 " '%s'",
		      record->order_id, order_state_status(record->state),
		      order_state_settled(record->state) ? " settled" : "", record->version,
		      record->hold_ms, record->attempt, record->history);
	add_bytes(text, "placed", record->placed, record->placed_length);
	add_bytes(text, "detail", record->detail, record->detail_length);
	rt_buf_printf(text, "}");
}

static void add_stock(struct rt_buf *text, const struct stock *stock)
{
	rt_buf_printf(text, " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
		      stock->available, stock->reserved, stock->committed, stock->received,
		      stock->version);
}

static bool ended(struct call *call, int status)
{
	rt_buf_printf(&call->text, "%s", rt_status_name(status));
	if (--call->side->under_way == 0 && call->side->real)
		rt_loop_stop(call->side->loop);
	return status == RT_OK;
}

static void place_done(struct order_place_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.place);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " outcome %d", (int)op->outcome);
	if (op->outcome != ORDER_CONFLICT)
		add_record(&call->text, &op->record);
}

static void move_done(struct order_move_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.move);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " outcome %d", (int)op->outcome);
	if (op->outcome == ORDER_UNKNOWN)
		return;
	rt_buf_printf(&call->text, " state %d v%" PRIu64, (int)op->state, op->version);
	if (op->outcome == ORDER_MOVED)
		rt_buf_printf(&call->text, " age %" PRId64, op->age_ms);
	if (op->want_record)
		add_record(&call->text, &op->record);
}

static void get_done(struct order_get_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.get);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " found %d", op->found);
	if (op->found)
		add_record(&call->text, &op->record);
}

static void list_done(struct order_list_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.list);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " more %d last %s", op->more, op->last_id);
	for (size_t i = 0; i < op->record_count; i++)
		add_record(&call->text, &op->records[i]);
}

static void due_done(struct order_due_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.due);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " timers %" PRId64, op->timer_count);
	for (size_t i = 0; i < op->due_count; i++) {
		add_record(&call->text, &op->due[i].record);
		rt_buf_printf(&call->text, " queued %d", op->due[i].queued);
	}
}

static void timer_done(struct order_timer_op *op, int status)
{
	ended(RT_CONTAINER_OF(op, struct call, op.timer), status);
}

static void tail_done(struct order_tail_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.tail);

	if (!ended(call, status))
		return;
	for (size_t i = 0; i < op->entry_count; i++)
		rt_buf_printf(&call->text, " [%s %s %s %" PRIu64 "]", op->entries[i].stream_id,
			      op->entries[i].type, op->entries[i].subject, op->entries[i].seq);
	rt_buf_printf(&call->text, " last %s", op->last);
}

static void trim_done(struct rt_trim_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.trim);

	if (ended(call, status))
		rt_buf_printf(&call->text, " trimmed %" PRId64 " length %" PRId64 " ghosts %zu %s",
			      op->trimmed, op->length, op->ghost_count,
			      op->ghost_count > 0 ? op->ghost : "");
}

static void request_done(struct inventory_request_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.request);

	if (ended(call, status))
		rt_buf_printf(&call->text, " %d → %d answer %d", (int)op->before, (int)op->after,
			      (int)op->answer);
}

static void adjust_done(struct inventory_adjust_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.adjust);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " outcome %d", (int)op->outcome);
	add_stock(&call->text, &op->stock);
}

static void stock_done(struct inventory_stock_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.stock);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " found %d", op->found);
	if (op->found)
		add_stock(&call->text, &op->stock);
}

static void list_stock_done(struct inventory_list_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.list_stock);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " more %d", op->more);
	for (size_t i = 0; i < op->stock_count; i++) {
		rt_buf_printf(&call->text, " %s:", op->stocks[i].sku);
		add_stock(&call->text, &op->stocks[i].stock);
	}
}

static void reservation_done(struct inventory_reservation_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.reservation);

	if (!ended(call, status))
		return;
	rt_buf_printf(&call->text, " found %d", op->found);
	if (!op->found)
		return;
	rt_buf_printf(&call->text, " %s v%" PRIu64 " at %" PRId64, stock_state_text(op->state),
		      op->version, op->updated_ms);
	for (size_t i = 0; i < op->line_count; i++)
		rt_buf_printf(&call->text, " %s×%" PRIu32, op->lines[i].sku, op->lines[i].quantity);
	for (size_t i = 0; i < op->shortage_count; i++)
		rt_buf_printf(&call->text, " %s:%" PRIu32 "/%" PRIu64, op->shortages[i].sku,
			      op->shortages[i].requested, op->shortages[i].available);
}

static void inventory_trim_done(struct rt_trim_op *op, int status)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op.inventory_trim);

	if (ended(call, status))
		rt_buf_printf(&call->text, " trimmed %" PRId64 " length %" PRId64 " ghosts %zu %s",
			      op->trimmed, op->length, op->ghost_count,
			      op->ghost_count > 0 ? op->ghost : "");
}

/* ---- a step on one side ---- */

static const char *or_null(const char *text)
{
	return text[0] == '\0' ? NULL : text;
}

static void start_order_step(struct call *call, const struct step *step)
{
	struct order_store *store = call->side->orders;

	switch (step->kind) {
	case PLACE:
		call->op.place = (struct order_place_op){ .order_id = step->order_id,
							  .fresh = step->flag,
							  .customer_id = step->customer_id,
							  .placed = step->data,
							  .placed_length = step->data_length,
							  .hold_ms = step->number,
							  .now_ms = step->now_ms,
							  .retry_due_ms = step->then_ms,
							  .traceparent = step->text,
							  .done = place_done };
		store->ops->place(store, &call->op.place);
		break;
	case MOVE:
		call->op.move = (struct order_move_op){ .order_id = step->order_id,
							.input = (enum order_input)step->input,
							.expected_version = step->version,
							.data = step->data,
							.data_length = step->data_length,
							.now_ms = step->now_ms,
							.retry_due_ms = step->then_ms,
							.traceparent = step->text,
							.ack_id = or_null(step->ack_id),
							.want_record = step->flag,
							.done = move_done };
		store->ops->move(store, &call->op.move);
		break;
	case GET:
		call->op.get =
			(struct order_get_op){ .order_id = step->order_id, .done = get_done };
		store->ops->get(store, &call->op.get);
		break;
	case LIST:
		call->op.list = (struct order_list_op){ .customer_id = step->customer_id,
							.count_max = step->count_max,
							.before_ms = step->then_ms,
							.before_id = step->text,
							.bytes_max = step->bytes_max,
							.done = list_done };
		store->ops->list(store, &call->op.list);
		break;
	case DUE:
		call->op.due = (struct order_due_op){ .now_ms = step->now_ms,
						      .lease_until_ms = step->then_ms,
						      .count_max = step->count_max,
						      .done = due_done };
		store->ops->due(store, &call->op.due);
		break;
	case TIMER:
		call->op.timer = (struct order_timer_op){ .order_id = step->order_id,
							  .version = step->version,
							  .due_ms = step->then_ms,
							  .done = timer_done };
		store->ops->timer(store, &call->op.timer);
		break;
	case TAIL:
		call->op.tail = (struct order_tail_op){ .after = step->after,
							.block_ms = 1,
							.done = tail_done };
		store->ops->tail(store, &call->op.tail);
		break;
	default:
		call->op.trim = (struct rt_trim_op){ .now_ms = step->now_ms,
						     .retain_ms = step->retain_ms,
						     .retain_count = step->retain_count,
						     .ghost_ms = step->ghost_ms,
						     .done = trim_done };
		store->ops->trim(store, &call->op.trim);
		break;
	}
}

static void start_inventory_step(struct call *call, const struct step *step)
{
	struct inventory_store *store = call->side->inventory;

	switch (step->kind) {
	case REQUEST:
		call->op.request = (struct inventory_request_op){
			.order_id = step->order_id,
			.request = (enum stock_request)step->input,
			.lines = step->lines,
			.line_count = step->input == STOCK_REQ_RESERVE ? step->line_count : 0,
			.seq = step->version,
			.attempt = step->attempt,
			.now_ms = step->now_ms,
			.traceparent = step->text,
			.ack_id = or_null(step->ack_id),
			.done = request_done
		};
		store->ops->request(store, &call->op.request);
		break;
	case ADJUST:
		call->op.adjust = (struct inventory_adjust_op){ .sku = step->sku,
								.delta = step->number,
								.request_id = step->customer_id,
								.reason = step->text,
								.now_ms = step->now_ms,
								.done = adjust_done };
		store->ops->adjust(store, &call->op.adjust);
		break;
	case STOCK:
		call->op.stock =
			(struct inventory_stock_op){ .sku = step->sku, .done = stock_done };
		store->ops->stock(store, &call->op.stock);
		break;
	case LIST_STOCK:
		call->op.list_stock = (struct inventory_list_op){ .after = step->sku,
								  .count_max = step->count_max,
								  .done = list_stock_done };
		store->ops->list(store, &call->op.list_stock);
		break;
	case RESERVATION:
		call->op.reservation =
			(struct inventory_reservation_op){ .order_id = step->order_id,
							   .done = reservation_done };
		store->ops->reservation(store, &call->op.reservation);
		break;
	default:
		call->op.inventory_trim = (struct rt_trim_op){ .now_ms = step->now_ms,
							       .retain_ms = step->retain_ms,
							       .retain_count = step->retain_count,
							       .ghost_ms = step->ghost_ms,
							       .done = inventory_trim_done };
		store->ops->trim(store, &call->op.inventory_trim);
		break;
	}
}

static void start_step(struct side *side, struct call *call, const struct step *step)
{
	call->side = side;
	side->under_way++;
	if (step->kind < REQUEST)
		start_order_step(call, step);
	else
		start_inventory_step(call, step);
}

static void finish_steps(struct side *side)
{
	if (side->real && side->under_way > 0)
		rt_loop_run(side->loop);
	for (int i = 0; !side->real && side->under_way > 0 && i < 100; i++)
		rt_loop_advance(side->loop, 1);
}

/* ---- what to do ---- */

static const char *const skus[] = { "apple", "Pear-1", "fig.2", "kiwi_3" };

static void some_order(struct drive *drive, char id[ORDER_ID_LENGTH + 1])
{
	uint8_t bytes[16] = { (uint8_t)roll(drive, ORDERS) };

	memcpy(id, ORDER_ID_PREFIX, 4);
	rt_base32_128(bytes, id + 4);
}

static void fresh_order(struct drive *drive, char id[ORDER_ID_LENGTH + 1])
{
	uint8_t bytes[16] = { 0xff, (uint8_t)(drive->fresh_count >> 8),
			      (uint8_t)drive->fresh_count };

	drive->fresh_count++;
	memcpy(id, ORDER_ID_PREFIX, 4);
	rt_base32_128(bytes, id + 4);
}

/* An entry that is pending with the group, or "". */
static void some_pending(struct drive *drive, const char *stream_name, const char *group_name,
			 char id[MEMORY_ID_TEXT])
{
	struct memory_stream *stream = memory_stream_find(drive->memory->streams, stream_name);
	struct memory_group *group = stream == NULL ? NULL : memory_group_find(stream, group_name);

	id[0] = '\0';
	if (group != NULL && group->pending_count > 0 && roll(drive, 3) > 0)
		memory_id_format(group->pending[roll(drive, group->pending_count)].id, id);
}

static void some_data(struct drive *drive, struct step *step, uint64_t variety)
{
	step->data_length = roll(drive, variety);
	for (size_t i = 0; i < step->data_length; i++)
		step->data[i] = (uint8_t)(roll(drive, 3) == 0 ? 0 : 0x5a + step->data_length);
}

static void some_lines(struct drive *drive, struct step *step)
{
	size_t first = roll(drive, RT_LENGTH(skus));

	step->line_count = 1 + roll(drive, RT_LENGTH(step->lines));
	for (size_t i = 0; i < step->line_count; i++)
		step->lines[i] = (struct inventory_line){
			.sku = skus[(first + i) % RT_LENGTH(skus)],
			.quantity = 1 + (uint32_t)roll(drive, roll(drive, 4) == 0 ? 1000 : 10),
		};
}

static void order_step_in(struct drive *drive, struct step *step)
{
	uint64_t known = roll(drive, 3);

	switch (step->kind) {
	case PLACE:
		step->flag = roll(drive, 8) == 0;
		if (step->flag)
			fresh_order(drive, step->order_id);
		some_data(drive, step, 4);
		step->number = 1000 + (int64_t)roll(drive, 5000);
		break;
	case MOVE:
		step->input = (int)roll(drive, ORDER_INPUT_COUNT);
		step->version = roll(drive, 5) == 0 ? 1 + roll(drive, 4) : 0;
		step->flag = roll(drive, 2) == 0;
		some_data(drive, step, 6);
		some_pending(drive, MEMORY_INVENTORY_STREAM, "order", step->ack_id);
		break;
	case LIST:
		step->text[0] = '\0';
		step->then_ms = INT64_MAX;
		if (known > 0)
			snprintf(step->text, sizeof(step->text), "%s", step->order_id);
		if (known > 0)
			step->then_ms = step->now_ms - (int64_t)roll(drive, 20000);
		break;
	case TIMER:
		step->version = 1 + roll(drive, 4);
		break;
	case TAIL:
		snprintf(step->after, sizeof(step->after), "$");
		if (known > 0)
			snprintf(step->after, sizeof(step->after), "%" PRId64 "-%" PRIu64,
				 step->now_ms - (int64_t)roll(drive, 20000), roll(drive, 50));
		break;
	default:
		break;
	}
}

static void inventory_step_in(struct drive *drive, struct step *step)
{
	switch (step->kind) {
	case REQUEST:
		/* Reserving is half of what happens. */
		step->input = roll(drive, 2) == 0 ? STOCK_REQ_RESERVE
						  : (int)roll(drive, STOCK_REQUEST_COUNT);
		some_lines(drive, step);
		step->version = 1 + roll(drive, 3);
		step->attempt = 1 + (uint32_t)(roll(drive, 3) == 0 ? roll(drive, 3) : 0);
		some_pending(drive, MEMORY_ORDER_STREAM, "inventory", step->ack_id);
		break;
	case ADJUST:
		step->number = (int64_t)roll(drive, 60) - 20;
		if (step->number == 0 || roll(drive, 20) == 0)
			step->number = STOCK_MAX - 10;
		if (roll(drive, 2) == 0)
			step->customer_id[0] = '\0'; /* the request id, here */
		break;
	case LIST_STOCK:
		if (roll(drive, 2) == 0)
			step->sku = "";
		break;
	default:
		break;
	}
}

static struct step some_step(struct drive *drive, enum kind kind)
{
	struct step step = { .kind = kind, .now_ms = drive->now_ms };

	some_order(drive, step.order_id);
	snprintf(step.customer_id, sizeof(step.customer_id), "c%d", (int)roll(drive, 3));
	if (roll(drive, 3) == 0)
		snprintf(step.text, sizeof(step.text), "00-%d", (int)roll(drive, 2));
	step.then_ms = drive->now_ms + (int64_t)roll(drive, 4000);
	step.count_max = 1 + roll(drive, 6);
	step.bytes_max = roll(drive, 6) * 560;
	step.sku = skus[roll(drive, RT_LENGTH(skus))];
	step.retain_ms = (int64_t)roll(drive, 60000);
	step.retain_count = (int64_t)roll(drive, 40);
	step.ghost_ms = INT64_C(1) << 50;
	if (kind < REQUEST)
		order_step_in(drive, &step);
	else
		inventory_step_in(drive, &step);
	return step;
}

/* ---- what happens around the stores, on both sides ---- */

static const char *const streams[] = { MEMORY_ORDER_STREAM, MEMORY_INVENTORY_STREAM };
static const char *const groups[] = { "inventory", "order" };

static void deliver(struct drive *drive, size_t which, size_t count)
{
	struct memory_stream *stream = memory_stream_get(drive->memory->streams, streams[which]);
	struct memory_group *group =
		memory_group_make(stream, groups[which], (struct memory_id){ 0 });
	size_t from = memory_stream_after(stream, group->delivered);
	redisReply *reply;

	if (from < stream->count) /* with nothing to deliver Redis notes no consumer */
		memory_group_saw(group, "c", 0);
	for (size_t i = from; i < stream->count && i < from + count; i++) {
		memory_group_deliver(group, stream->entries[i].id, "c", 0, 1);
		group->delivered = stream->entries[i].id;
	}
	freeReplyObject(redis_server_command(drive->server, "XGROUP CREATE %s %s 0 MKSTREAM",
					     streams[which], groups[which]));
	reply = redis_server_command(drive->server, "XREADGROUP GROUP %s c COUNT %d STREAMS %s >",
				     groups[which], (int)count, streams[which]);
	CU_ASSERT_NOT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
}

static void delete_entry(struct drive *drive, size_t which)
{
	struct memory_stream *stream = memory_stream_get(drive->memory->streams, streams[which]);
	char id[MEMORY_ID_TEXT];
	size_t at;

	if (stream->count == 0)
		return;
	at = roll(drive, stream->count);
	memory_id_format(stream->entries[at].id, id);
	redis_server_do(drive->server, "XDEL %s %s", streams[which], id);
	memory_stream_remove(stream, stream->entries[at].id);
}

static void happen_around(struct drive *drive)
{
	switch (roll(drive, 8)) {
	case 0:
	case 1:
	case 2:
		deliver(drive, roll(drive, 2), 1 + roll(drive, 10));
		break;
	case 3:
		delete_entry(drive, roll(drive, 2));
		break;
	default:
		break;
	}
	drive->now_ms += (int64_t)roll(drive, 1500);
	if (roll(drive, 12) == 0)
		drive->now_ms -= 3000; /* clocks do */
}

/* ---- one round: the same steps on both sides, and the answers compared ---- */

static bool compare(struct drive *drive, const char *what, const char *memory, const char *real)
{
	bool same = strcmp(memory, real) == 0;

	if (!same)
		printf("\n    seed %" PRIu64 " step %u, %s\n      memory: %s\n      redis:  %s\n",
		       drive->seed, drive->steps, what, memory, real);
	else if (drive->loud)
		printf("    %u %s: %s\n", drive->steps, what, memory);
	CU_ASSERT(same);
	return same;
}

static bool round_of(struct drive *drive, enum kind kind)
{
	bool alone = kind == TAIL; /* one at a time is its contract */
	size_t count = alone ? 1 : 1 + roll(drive, AT_ONCE_MAX);
	struct step steps[AT_ONCE_MAX];
	struct call calls[2][AT_ONCE_MAX] = { 0 };
	bool good = true;

	for (size_t i = 0; i < count; i++)
		steps[i] = some_step(drive, kind);
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < count; i++)
			start_step(&drive->sides[side], &calls[side][i], &steps[i]);
		finish_steps(&drive->sides[side]);
	}
	for (size_t i = 0; i < count; i++) {
		char what[128];

		drive->steps++;
		snprintf(what, sizeof(what), "%s %s input %d v%" PRIu64, kind_names[kind],
			 steps[i].order_id, steps[i].input, steps[i].version);
		good = compare(drive, what, calls[0][i].text.data, calls[1][i].text.data) && good;
		rt_buf_done(&calls[0][i].text);
		rt_buf_done(&calls[1][i].text);
	}
	return good;
}

/* ---- the whole contents ---- */

static void add_reply(struct rt_buf *text, const redisReply *reply)
{
	switch (reply->type) {
	case REDIS_REPLY_INTEGER:
		rt_buf_printf(text, "%lld", reply->integer);
		break;
	case REDIS_REPLY_ARRAY:
		for (size_t i = 0; i < reply->elements; i++) {
			rt_buf_printf(text, i == 0 ? "(" : " ");
			add_reply(text, reply->element[i]);
		}
		rt_buf_printf(text, reply->elements == 0 ? "()" : ")");
		break;
	case REDIS_REPLY_NIL:
		rt_buf_printf(text, "nil");
		break;
	default:
		for (size_t i = 0; i < reply->len; i++)
			rt_buf_printf(text,
				      reply->str[i] > 32 && reply->str[i] < 127 ? "%c" : "\\%02x",
				      (uint8_t)reply->str[i]);
		break;
	}
}

/* The same for what is in memory. */
static void add_text(struct rt_buf *text, const char *bytes, size_t length)
{
	redisReply reply = { .type = REDIS_REPLY_STRING,
			     .str = (char *)(uintptr_t)bytes,
			     .len = (__typeof__(reply.len))length };

	add_reply(text, &reply);
}

static void compare_reply(struct drive *drive, const char *what, struct rt_buf *memory,
			  redisReply *reply)
{
	struct rt_buf real = { 0 };

	add_reply(&real, reply);
	freeReplyObject(reply);
	rt_buf_printf(memory, "%s", "");
	compare(drive, what, memory->data == NULL ? "" : memory->data, real.data);
	rt_buf_done(&real);
	rt_buf_done(memory);
}

static void compare_order(const struct order_record *record, void *user)
{
	struct drive *drive = user;
	struct rt_buf text = { 0 };

	rt_buf_printf(&text, "(%s %" PRIu64 " ", order_state_status(record->state),
		      record->version);
	add_text(&text, (const char *)record->placed, record->placed_length);
	rt_buf_printf(&text, " %" PRId64 " ", record->hold_ms);
	add_text(&text, record->history, strlen(record->history));
	rt_buf_printf(&text, order_state_settled(record->state) ? " 1 " : " nil ");
	if (record->detail_length > 0)
		add_text(&text, (const char *)record->detail, record->detail_length);
	else
		rt_buf_printf(&text, "nil");
	if (record->attempt > 1)
		rt_buf_printf(&text, " %" PRIu32 ")", record->attempt);
	else
		rt_buf_printf(&text, " nil)");
	compare_reply(
		drive, record->order_id, &text,
		redis_server_command(drive->server,
				     "HMGET order:{0}:o:%s status version placed hold history "
				     "settled detail attempt",
				     record->order_id));
}

static void compare_zset(struct drive *drive, const struct memory_zset *zset, const char *key)
{
	struct rt_buf text = { 0 };

	for (size_t i = 0; i < zset->count; i++)
		rt_buf_printf(&text, "%s%s %" PRId64, i == 0 ? "(" : " ", zset->entries[i].member,
			      zset->entries[i].score);
	rt_buf_printf(&text, zset->count == 0 ? "()" : ")");
	compare_reply(drive, key, &text,
		      redis_server_command(drive->server, "ZRANGE %s 0 -1 WITHSCORES", key));
}

static void compare_stock(const char *sku, const struct stock *stock, void *user)
{
	struct drive *drive = user;
	struct rt_buf text = { 0 }, words = { 0 };

	add_stock(&words, stock);
	add_text(&text, words.data + 1, words.length - 1);
	rt_buf_done(&words);
	compare_reply(drive, sku, &text,
		      redis_server_command(drive->server, "HGET inventory:{0}:stock %s", sku));
}

static void compare_reservation(const struct memory_reservation *reservation, void *user)
{
	struct drive *drive = user;
	struct rt_buf text = { 0 }, words = { 0 };
	size_t short_count = 0;

	rt_buf_printf(&words, "%s %" PRIu64 " %" PRId64 " ", stock_state_text(reservation->state),
		      reservation->version, reservation->updated_ms);
	for (size_t i = 0; i < reservation->line_count; i++) {
		const struct inventory_line *line = &reservation->lines[i];

		rt_buf_printf(&words, "%s%s=%" PRIu32, i == 0 ? "" : " ", line->sku,
			      line->quantity);
		if (short_count < reservation->shortage_count &&
		    strcmp(reservation->shortages[short_count].sku, line->sku) == 0)
			rt_buf_printf(&words, "/%" PRIu64,
				      reservation->shortages[short_count++].available);
	}
	add_text(&text, words.data, words.length);
	rt_buf_done(&words);
	compare_reply(drive, reservation->order_id, &text,
		      redis_server_command(drive->server, "HGET inventory:{0}:r %s",
					   reservation->order_id));
}

static void compare_stream(struct drive *drive, size_t which)
{
	struct memory_stream *stream = memory_stream_get(drive->memory->streams, streams[which]);
	struct memory_group *group = memory_group_find(stream, groups[which]);
	struct rt_buf text = { 0 };
	char id[MEMORY_ID_TEXT];

	for (size_t i = 0; i < stream->count; i++) {
		const struct memory_entry *entry = &stream->entries[i];

		memory_id_format(entry->id, id);
		rt_buf_printf(&text, "%s(%s ", i == 0 ? "(" : " ", id);
		for (size_t j = 0; j < entry->field_count; j++) {
			rt_buf_printf(&text, j == 0 ? "(" : " ");
			add_text(&text, entry->fields[j], entry->lengths[j]);
		}
		rt_buf_printf(&text, "))");
	}
	rt_buf_printf(&text, stream->count == 0 ? "()" : ")");
	compare_reply(drive, streams[which], &text,
		      redis_server_command(drive->server, "XRANGE %s - +", streams[which]));
	if (group == NULL)
		return;
	for (size_t i = 0; i < group->pending_count; i++) {
		memory_id_format(group->pending[i].id, id);
		rt_buf_printf(&text, "%s%s", i == 0 ? "(" : " ", id);
	}
	rt_buf_printf(&text, group->pending_count == 0 ? "()" : ")");
	compare_reply(drive, "pending", &text,
		      redis_server_command(
			      drive->server, "EVAL %s 1 %s %s",
			      "local t = {} for _, p in ipairs(redis.call('XPENDING', KEYS[1], "
			      "ARGV[1], '-', '+', 100000)) do t[#t + 1] = p[1] end return t",
			      streams[which], groups[which]));
	memory_id_format(group->delivered, id);
	rt_buf_printf(&text, "%s", id);
	compare_reply(drive, "delivered", &text,
		      redis_server_command(
			      drive->server, "EVAL %s 1 %s %s",
			      "for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do "
			      "if g[2] == ARGV[1] then return g[8] end end",
			      streams[which], groups[which]));
}

static void compare_contents(struct drive *drive)
{
	struct memory_redis *memory = drive->memory;

	memory_orders_each(memory->orders, compare_order, drive);
	compare_zset(drive, memory_orders_timers(memory->orders), "order:{0}:timers");
	for (int i = 0; i < 3; i++) {
		char customer[8], key[64];

		snprintf(customer, sizeof(customer), "c%d", i);
		snprintf(key, sizeof(key), "order:{0}:customer:%s", customer);
		compare_zset(drive, memory_orders_customer(memory->orders, customer), key);
	}
	memory_inventory_each_stock(memory->inventory, compare_stock, drive);
	memory_inventory_each(memory->inventory, compare_reservation, drive);
	compare_stream(drive, 0);
	compare_stream(drive, 1);
}

/* ---- seeds ---- */

struct poll {
	struct rt_timer timer;
	struct side *side;
};

static void poll_ready(struct rt_timer *timer)
{
	struct poll *poll = RT_CONTAINER_OF(timer, struct poll, timer);
	struct side *side = poll->side;

	if (side->orders->ops->ready(side->orders) && side->inventory->ops->ready(side->inventory))
		rt_loop_stop(side->loop);
	else
		rt_timer_start(side->loop, timer, 2, poll_ready);
}

static void drive_open(struct drive *drive)
{
	struct rt_redis_options redis = { .unix_path = drive->server->socket,
					  .name = "conformance",
					  .timeout_ms = 5000,
					  .pending_max = 1000 };
	struct order_store_redis_options order = { .redis = &redis, .stream_length_max = 1000000 };
	struct inventory_store_redis_options inventory = { .redis = &redis };
	struct memory_store_options options = { .process = "memory" };
	struct side *memory = &drive->sides[0], *real = &drive->sides[1];
	struct poll poll = { .side = real };

	redis_server_do(drive->server, "FLUSHALL");
	drive->now_ms = INT64_C(1764000000000);
	CU_ASSERT_FATAL(rt_loop_new_manual(0, drive->seed, &drive->dice) == RT_OK);
	*memory = (struct side){ .name = "memory" };
	CU_ASSERT_FATAL(rt_loop_new_manual(0, 1, &memory->loop) == RT_OK);
	drive->memory = memory_redis_new(memory->loop);
	memory->orders = order_store_memory_new(drive->memory, &options);
	memory->inventory = inventory_store_memory_new(drive->memory, &options);
	*real = (struct side){ .name = "redis", .real = true };
	CU_ASSERT_FATAL(rt_loop_new(&real->loop) == RT_OK);
	CU_ASSERT_FATAL(order_store_redis_new(real->loop, &order, &real->orders) == RT_OK);
	CU_ASSERT_FATAL(inventory_store_redis_new(real->loop, &inventory, &real->inventory) ==
			RT_OK);
	rt_timer_start(real->loop, &poll.timer, 0, poll_ready);
	rt_loop_run(real->loop);
	/* The stores have not seen a stream yet that is not there. */
	deliver(drive, 0, 1);
	deliver(drive, 1, 1);
}

static void drive_close(struct drive *drive)
{
	for (int i = 0; i < 2; i++) {
		struct side *side = &drive->sides[i];

		CU_ASSERT_EQUAL(side->under_way, 0);
		side->orders->ops->free(side->orders);
		side->inventory->ops->free(side->inventory);
	}
	memory_redis_free(drive->memory);
	rt_loop_free(drive->sides[0].loop);
	rt_loop_free(drive->sides[1].loop);
	rt_loop_free(drive->dice);
}

/* Returns how many operations were compared. */
static unsigned run_seed(struct redis_server *server, uint64_t seed, bool loud)
{
	/* How often each kind comes, out of the sum. */
	static const unsigned weights[KINDS] = {
		[PLACE] = 16,      [MOVE] = 30,          [GET] = 4,   [LIST] = 4,
		[DUE] = 6,         [TIMER] = 3,          [TAIL] = 4,  [ORDER_TRIM] = 2,
		[REQUEST] = 24,    [ADJUST] = 10,        [STOCK] = 2, [LIST_STOCK] = 2,
		[RESERVATION] = 5, [INVENTORY_TRIM] = 2,
	};
	struct drive drive = { .seed = seed, .server = server, .loud = loud };
	unsigned sum = 0;
	bool good = true;

	for (int i = 0; i < KINDS; i++)
		sum += weights[i];
	drive_open(&drive);
	for (int i = 0; i < STEPS && good; i++) {
		unsigned at = (unsigned)roll(&drive, sum);
		int kind = 0;

		while (at >= weights[kind])
			at -= weights[kind++];
		happen_around(&drive);
		good = round_of(&drive, (enum kind)kind);
	}
	compare_contents(&drive);
	drive_close(&drive);
	return drive.steps;
}

static void memory_is_redis(void)
{
	const char *only = getenv("TANDEM_CONFORMANCE_SEED");
	struct redis_server server;
	unsigned steps = 0;

	redis_server_start(&server, NULL);
	if (only != NULL) {
		steps = run_seed(&server, strtoull(only, NULL, 10), true);
	} else {
		for (uint64_t seed = 1; seed <= SEEDS; seed++)
			steps += run_seed(&server, seed, false);
		CU_ASSERT(steps > SEEDS * STEPS);
	}
	redis_server_done(&server);
	printf("%u operations compared ", steps);
}

int main(void)
{
	static const struct test tests[] = {
		{ "the memory stores answer as the real ones", memory_is_redis },
	};

	return tests_run("conformance", tests, RT_LENGTH(tests));
}
