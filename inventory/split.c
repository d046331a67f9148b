/* split.c - serves the requests of split orders, by the rules of parts.h.
 *
 * Each request goes its own way. What several of them want of the same partition in one turn of the loop goes
 * there in one call (store.h).
 *
 *   inventory_split_begin       the lines of an event lie in several partitions
 *     reserve_at_once           the order is new, and all partitions are in one Redis
 *       concluded               served; or there is more to it: decide
 *     read_record               unless the order is new: then there is most likely none
 *       record_read
 *   inventory_split_go_on       a request that was sent to a record met one that is split
 *     decide                    what must be done to the parts, by the request and the record
 *       parts_act               hold, commit or release, in all partitions side by side
 *         part_ended (for each)
 *           part_over           the last one: were any refused, all are released
 *       conclude                record, answer and acknowledgement, in one step
 *         concluded             served; or the record is another one by now: decide again
 *
 * Whatever fails on the way ends with the event: it is delivered again, and everything that was done
 * finds itself done. So does a request of an order whose partitions are not in step (in_step.c): it waits. */
#include <string.h>

#include "base/arena.h"
#include "base/base.h"
#include "inventory_internal.h"

struct split;
/* A partition in which the order has lines. */
struct place {
	struct split *split;
	struct inventory_part_op op;
	uint64_t epoch;
	enum stock_state state; /* of the part, since the record was read; NONE: not known */
};
struct split {
	struct inventory *inventory;
	struct rt_event *event;
	enum stock_request request;
	struct rt_arena arena; /* lines and places */
	struct inventory_split_line *lines;
	size_t line_count;
	struct place *places;
	size_t place_count;
	/* As the record was read. */
	enum stock_state read;
	int64_t generation;
	uint64_t epoch;
	int64_t dropped_until_ms; /* NONE: the order was dropped, if its request is not younger */
	bool at_once;             /* all of it may be done in one step */
	/* The step that is being taken. */
	enum split_step step;
	enum split_verdict verdict;
	size_t waiting; /* parts under way, and one for the sender itself */
	int status;
	struct inventory_conclude_op op; /* its request also reads the record */
};

/* ---- ends ---- */

static void split_free(struct split *split)
{
	rt_arena_done(&split->arena);
	free(split);
}

static void split_done(struct split *split)
{
	struct rt_event *event = split->event;

	split_free(split);
	rt_event_done(event);
}

/* Its order was dropped: there is nothing to do. */
static void split_ignored(struct split *split)
{
	struct rt_event *event = split->event;

	split_free(split);
	rt_event_ignore(event);
}

static void split_failed(struct split *split, int status)
{
	struct rt_event *event = split->event;
	int p = split->op.request.partition;

	if (inventory_store_generation(split->inventory->store, p) == INVENTORY_NO_GENERATION)
		inventory_ask_generation(split->inventory, p);
	if (split->generation != INVENTORY_NO_GENERATION)
		event->user = split->inventory; /* it was begun: the record may exist by now */
	split_free(split);
	if (status == RT_INVALID)
		rt_event_poison(event, "the lines of the order are not valid");
	else
		rt_event_retry(event, status);
}

/* ---- lines and places ---- */

/* The lines of each partition, one behind the other. */
static void make_places(struct split *split)
{
	struct inventory *inventory = split->inventory;
	size_t count = split->line_count, placed = 0;
	struct inventory_line *lines = rt_arena_take(&split->arena, count * sizeof(*lines));

	split->places = rt_arena_take(&split->arena, count * sizeof(*split->places));
	split->place_count = 0;
	for (size_t i = 0; i < count; i++) {
		int partition = split->lines[i].partition;
		struct place *place = &split->places[split->place_count];
		bool seen = false;

		for (size_t j = 0; j < i && !seen; j++)
			seen = split->lines[j].partition == partition;
		if (seen)
			continue;
		*place = (struct place){ .split = split };
		place->epoch = inventory_store_epoch(inventory->store, partition);
		place->op.partition = partition;
		place->op.order_id = split->event->subject;
		place->op.traceparent = split->event->traceparent;
		place->op.order_partition = split->op.request.partition;
		place->op.asked_ms = split->op.request.asked_ms;
		place->op.lines = &lines[placed];
		for (size_t j = i; j < count; j++) {
			if (split->lines[j].partition != partition)
				continue;
			lines[placed++] = split->lines[j].line;
			place->op.line_count++;
		}
		split->place_count++;
	}
}

/* Copies lines. False: such lines cannot be of a split order. */
static bool take_lines(struct split *split, const struct inventory_split_line *lines, size_t count)
{
	split->lines = rt_arena_take(&split->arena, (count + 1) * sizeof(*split->lines));
	split->line_count = count;
	for (size_t i = 0; i < count; i++) {
		const char *sku = lines[i].line.sku;

		split->lines[i] = lines[i];
		split->lines[i].line.sku = rt_arena_copy(&split->arena, sku, strlen(sku));
		if (lines[i].partition < 0 ||
		    lines[i].partition >= inventory_store_partitions(split->inventory->store))
			return false;
	}
	make_places(split);
	return true;
}

/* A record that was read replaces what was known; one without lines, made by a release without them, leaves them. What came
 * back stands in the request alone. */
static bool take_record(struct split *split, const struct inventory_record *record)
{
	split->read = record->state;
	split->dropped_until_ms = record->state == STOCK_NONE ? record->updated_ms : 0;
	if (record->line_count > 0 && split->request != STOCK_REQ_RETURN)
		return take_lines(split, record->lines, record->line_count);
	for (size_t i = 0; i < split->place_count; i++) {
		split->places[i].state = STOCK_NONE;
		split->places[i].epoch = inventory_store_epoch(split->inventory->store,
							       split->places[i].op.partition);
	}
	for (size_t i = 0; i < split->line_count; i++)
		split->lines[i].was_short = false;
	return true;
}

/* Whether a connection broke since the record was read: behind it may be another master, which does not know what the
 * one before said. */
static bool has_moved(const struct split *split)
{
	const struct inventory_store *store = split->inventory->store;
	bool moved = inventory_store_epoch(store, split->op.request.partition) != split->epoch;

	for (size_t i = 0; i < split->place_count && !moved; i++)
		moved = inventory_store_epoch(store, split->places[i].op.partition) !=
			split->places[i].epoch;
	return moved;
}

/* ---- the steps ---- */

static void decide(struct split *split);
static void take_step(struct split *split);

static void concluded(struct inventory_request_op *op, int status)
{
	struct split *split = RT_CONTAINER_OF(op, struct split, op.request);

	if (status != RT_OK) {
		split_failed(split, status);
	} else if (op->served) {
		inventory_count_served(split->inventory, op);
		split_done(split);
	} else {
		inventory_note_call(split->event);
		split->epoch = inventory_store_epoch(split->inventory->store, op->partition);
		if (take_record(split, &op->record))
			decide(split);
		else
			split_failed(split, RT_REMOTE);
	}
}

/* By what is known now. */
static struct inventory_conclude_op *conclusion(struct split *split)
{
	struct inventory_conclude_op *op = &split->op;

	op->request.only_reads = false;
	op->request.done = concluded;
	op->generation = split->generation;
	op->read = split->read;
	op->verdict = split->verdict;
	op->lines = split->lines;
	op->line_count = split->line_count;
	return op;
}

static void conclude(struct split *split)
{
	inventory_store_conclude(split->inventory->store, conclusion(split));
}

/* A new order, without a step between. */
static void reserve_at_once(struct split *split)
{
	split->at_once = false; /* if it is not served, step by step */
	inventory_store_reserve(split->inventory->store, conclusion(split));
}

/* It was promised and is gone: only after a loss of data. Nothing says that it was sold; it is tried again. */
static void owed(struct split *split)
{
	const struct rt_event *event = split->event;
	char trace[RT_TRACE_ID_TEXT];

	RT_LOG(RT_ERROR, "stock that was promised to an order is not there",
	       RT_S("order_id", event->subject),
	       RT_S("trace_id", rt_trace_find(event->traceparent, event->subject, trace)));
	if (split->inventory->owed != NULL)
		rt_series_add(split->inventory->owed, 1);
	split_failed(split, RT_UNREADY);
}

/* Notes what was short in a part. */
static void note_shortages(struct split *split, const struct inventory_record *part)
{
	for (size_t i = 0; i < part->line_count; i++) {
		const struct inventory_split_line *found = &part->lines[i];

		for (size_t j = 0; j < split->line_count; j++) {
			struct inventory_split_line *line = &split->lines[j];

			if (strcmp(line->line.sku, found->line.sku) != 0)
				continue;
			line->was_short = found->was_short;
			line->available = found->available;
			line->unknown = found->unknown;
		}
	}
}

/* Only after a loss of data: the record does not know of the sale. */
static void warn_of_sold_part(const struct split *split, unsigned parts)
{
	const struct rt_event *event = split->event;
	char trace[RT_TRACE_ID_TEXT];

	if (split->step != SPLIT_RELEASE || (parts & PARTS_ARE(STOCK_COMMITTED)) == 0)
		return;
	RT_LOG(RT_ERROR, "an order is released, but a part of it is sold",
	       RT_S("order_id", event->subject),
	       RT_S("trace_id", rt_trace_find(event->traceparent, event->subject, trace)));
	if (split->inventory->unexpected != NULL)
		rt_series_add(split->inventory->unexpected, 1);
}

static void part_over(struct split *split)
{
	unsigned parts = 0;

	if (--split->waiting > 0)
		return;
	if (split->status == RT_OK && has_moved(split))
		split->status = RT_LOST;
	if (split->status != RT_OK) {
		split_failed(split, split->status);
		return;
	}
	for (size_t i = 0; i < split->place_count; i++)
		parts |= PARTS_ARE(split->places[i].state);
	warn_of_sold_part(split, parts);
	split->step = split_next(split->step, parts, &split->verdict);
	take_step(split);
}

static void part_ended(struct inventory_part_op *op, int status)
{
	struct place *place = RT_CONTAINER_OF(op, struct place, op);
	struct split *split = place->split;

	inventory_note_call(split->event);
	place->state = op->part.state;
	if (status != RT_OK)
		split->status = status;
	else if (split->step == SPLIT_HOLD)
		note_shortages(split, &op->part);
	part_over(split);
}

static void parts_act(struct split *split, enum part_action action)
{
	split->waiting = 1;
	split->status = RT_OK;
	for (size_t i = 0; i < split->place_count; i++) {
		struct place *place = &split->places[i];

		/* It holds nothing, and never will. */
		if (action == PART_RELEASE &&
		    (place->state == STOCK_UNAVAILABLE || place->state == STOCK_RELEASED))
			continue;
		split->waiting++;
		place->op.generation = split->generation;
		place->op.action = action;
		place->op.now_ms = rt_loop_unix_ms(split->inventory->loop);
		place->op.done = part_ended;
		inventory_store_part(split->inventory->store, &place->op);
	}
	part_over(split);
}

static void take_step(struct split *split)
{
	switch (split->step) {
	case SPLIT_HOLD:
		parts_act(split, PART_HOLD);
		break;
	case SPLIT_COMMIT:
		parts_act(split, PART_COMMIT);
		break;
	case SPLIT_RELEASE:
		parts_act(split, PART_RELEASE);
		break;
	case SPLIT_RETURN:
		parts_act(split, PART_RETURN);
		break;
	case SPLIT_DROP:
		parts_act(split, PART_DROP);
		break;
	case SPLIT_CONCLUDE:
		conclude(split);
		break;
	case SPLIT_OWED:
		owed(split);
		break;
	}
}

/* Whether records and parts agree where the order's are. */
static bool is_in_step(const struct split *split)
{
	int p = split->op.request.partition;
	bool in_step = inventory_in_step(split->inventory, p, p);

	for (size_t i = 0; i < split->place_count && in_step; i++)
		in_step = inventory_in_step(split->inventory, p, split->places[i].op.partition);
	return in_step;
}

static void decide(struct split *split)
{
	int64_t asked_ms = split->op.request.asked_ms;

	if (split->read == STOCK_NONE && asked_ms > 0 && asked_ms <= split->dropped_until_ms) {
		split_ignored(split);
		return;
	}
	if (!is_in_step(split)) {
		split_failed(split, RT_UNREADY);
		return;
	}
	split->verdict = SPLIT_IS_DONE;
	if (split->at_once) {
		reserve_at_once(split);
		return;
	}
	split->step = split_first(split->request, split->read);
	take_step(split);
}

/* ---- beginning ---- */

static void record_read(struct inventory_request_op *op, int status)
{
	struct split *split = RT_CONTAINER_OF(op, struct split, op.request);

	inventory_note_call(split->event);
	if (status == RT_OK && (op->served || !take_record(split, &op->record)))
		status = RT_REMOTE;
	if (status == RT_OK && has_moved(split))
		status = RT_LOST;
	if (status == RT_OK)
		decide(split);
	else
		split_failed(split, status);
}

static void read_record(struct split *split)
{
	split->op.request.only_reads = true;
	split->op.request.done = record_read;
	inventory_store_request(split->inventory->store, &split->op.request);
}

static struct split *split_new(struct inventory *inventory, const struct inventory_request_op *from)
{
	struct split *split = rt_alloc(sizeof(*split));

	split->inventory = inventory;
	split->event = from->event;
	split->request = from->request;
	split->op.request = *from;
	split->op.request.lines = NULL;
	split->op.request.line_count = 0;
	return split;
}

/* The lines of a request, with the partitions of their SKUs. */
static bool take_own_lines(struct split *split, const struct inventory_request_op *from)
{
	struct inventory_split_line *lines = rt_alloc((from->line_count + 1) * sizeof(*lines));
	bool good;

	for (size_t i = 0; i < from->line_count; i++) {
		lines[i].line = from->lines[i];
		lines[i].partition =
			inventory_store_partition(split->inventory->store, from->lines[i].sku);
	}
	good = take_lines(split, lines, from->line_count);
	free(lines);
	return good;
}

bool inventory_is_new(const struct inventory_request_op *op)
{
	return op->request == STOCK_REQ_RESERVE && op->attempt <= 1 && op->event->deliveries <= 1 &&
	       op->event->user == NULL;
}

void inventory_split_begin(struct inventory *inventory, const struct inventory_request_op *from)
{
	struct split *split = split_new(inventory, from);

	split->generation = inventory_store_generation(inventory->store, from->partition);
	split->epoch = inventory_store_epoch(inventory->store, from->partition);
	split->at_once = inventory_is_new(from) && inventory_store_is_together(inventory->store);
	if (!take_own_lines(split, from))
		split_failed(split, RT_INVALID);
	else if (split->generation == INVENTORY_NO_GENERATION)
		split_failed(split, RT_UNREADY);
	/* As if it had been read before anything else happened; if more has happened, the conclusion finds out. */
	else if (inventory_is_new(from))
		decide(split);
	else
		read_record(split);
}

void inventory_split_go_on(struct inventory *inventory, const struct inventory_request_op *from,
			   const struct inventory_known *known)
{
	struct split *split = split_new(inventory, from);

	split->generation = known->generation;
	split->epoch = known->epoch;
	if (split->generation == INVENTORY_NO_GENERATION)
		split_failed(split, RT_UNREADY);
	else if ((split->request != STOCK_REQ_RETURN || take_own_lines(split, from)) &&
		 take_record(split, &from->record))
		decide(split);
	else
		split_failed(split, RT_REMOTE);
}
