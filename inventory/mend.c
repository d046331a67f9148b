/* mend.c - brings the parts of one order in line with its record, after a loss of data (reconcile.c).
 *
 *   inventory_mend
 *     read_record         in another pass' state: nothing to do
 *       record_read
 *         align           its parts, in all partitions side by side: to what the record says
 *           part_over     a reservation that cannot be had: all is released, and then it ends
 *             conclude    the record: released, which tells the order
 *         read_record     if anything was changed: the record may be another one by now; then all over again
 *
 * The record is the truth, also about sales that it has forgotten. */
#include <string.h>

#include "base/arena.h"
#include "base/base.h"
#include "inventory_internal.h"

struct mending;
struct place {
	struct mending *mending;
	struct inventory_part_op op;
};
struct mending {
	struct inventory_mend mend;
	struct rt_arena arena;
	struct inventory_conclude_op op; /* its request also reads the record */
	bool looked;                     /* the record was read before: `seen` */
	enum stock_state seen;
	struct inventory_record found; /* the lines of the part that was found */
	struct place *places;
	size_t place_count, waiting;
	enum part_action action;
	int status;
	int64_t updated_ms; /* of the record */
	bool changed, missing, gives_up;
};

static void read_record(struct mending *mending);

static void mending_end(struct mending *mending, int status)
{
	struct inventory_mend mend = mending->mend;

	inventory_record_done(&mending->found);
	rt_arena_done(&mending->arena);
	free(mending);
	mend.done(mend.user, status);
}

/* ---- the record ---- */

static void concluded(struct inventory_request_op *op, int status)
{
	struct mending *mending = RT_CONTAINER_OF(op, struct mending, op.request);

	if (status == RT_OK && op->served && mending->gives_up)
		mending->mend.mended->cancelled++;
	if (status == RT_OK)
		read_record(mending);
	else
		mending_end(mending, status);
}

/* The record, if it is still in this state, says from now on that everything is released. */
static void conclude(struct mending *mending, enum stock_state read)
{
	struct inventory_conclude_op *op = &mending->op;

	op->request.request = STOCK_REQ_RELEASE;
	op->request.only_reads = false;
	op->request.now_ms = rt_loop_unix_ms(mending->mend.inventory->loop);
	op->request.done = concluded;
	op->generation = mending->mend.generation;
	op->read = read;
	op->verdict = SPLIT_IS_DONE;
	op->line_count = 0;
	inventory_store_conclude(mending->mend.inventory->store, op);
}

/* ---- parts ---- */

static void act(struct mending *mending, enum part_action action);

/* It was sold, and is not there: nobody can be told but a person. */
static void owed(struct mending *mending)
{
	struct inventory *inventory = mending->mend.inventory;
	const char *order_id = mending->mend.order_id;
	char trace[RT_TRACE_ID_TEXT];

	RT_LOG(RT_ERROR, "stock that was sold to an order is not there", RT_S("order_id", order_id),
	       RT_S("trace_id", rt_trace_find(NULL, order_id, trace)));
	mending->mend.mended->owed++;
	if (inventory->owed != NULL)
		rt_series_add(inventory->owed, 1);
}

static bool is_of_a_sale(enum part_action action)
{
	return action == PART_TO_COMMITTED || action == PART_TO_RETURNED;
}

static void part_over(struct mending *mending)
{
	if (--mending->waiting > 0)
		return;
	if (mending->status != RT_OK) {
		mending_end(mending, mending->status);
	} else if (mending->action == PART_TO_RESERVED && mending->missing) {
		mending->gives_up = true;
		act(mending, PART_TO_RELEASED);
	} else if (mending->gives_up) {
		conclude(mending, STOCK_RESERVED);
	} else {
		if (is_of_a_sale(mending->action) && mending->missing)
			owed(mending);
		if (mending->changed && mending->mend.pass != INVENTORY_PASS_SWEEP)
			read_record(mending);
		else
			mending_end(mending, RT_OK);
	}
}

static void count(struct inventory_mended *mended, enum stock_state state)
{
	if (state == STOCK_RESERVED)
		mended->reserved++;
	else if (state == STOCK_COMMITTED)
		mended->committed++;
	else /* or dropped, as its order was */
		mended->released++;
}

static void part_ended(struct inventory_part_op *op, int status)
{
	struct mending *mending = RT_CONTAINER_OF(op, struct place, op)->mending;

	if (status != RT_OK)
		mending->status = status;
	else if (op->changed)
		count(mending->mend.mended, op->part.state);
	mending->changed |= op->changed;
	mending->missing |=
		(mending->action == PART_TO_RESERVED && op->part.state != STOCK_RESERVED) ||
		(is_of_a_sale(mending->action) && op->part.state != STOCK_COMMITTED);
	part_over(mending);
}

static void act(struct mending *mending, enum part_action action)
{
	mending->action = action;
	mending->waiting = 1;
	mending->status = RT_OK;
	mending->missing = false;
	for (size_t i = 0; i < mending->place_count; i++) {
		struct inventory_part_op *op = &mending->places[i].op;

		mending->waiting++;
		op->action = action;
		op->changed = false;
		op->now_ms = rt_loop_unix_ms(mending->mend.inventory->loop);
		inventory_store_part(mending->mend.inventory->store, op);
	}
	part_over(mending);
}

/* ---- which parts ---- */

static struct place *add_place(struct mending *mending, int partition, size_t lines_max)
{
	struct place *place = &mending->places[mending->place_count++];

	*place = (struct place){ .mending = mending };
	place->op.partition = partition;
	place->op.order_partition = mending->mend.partition;
	place->op.generation = mending->mend.generation;
	place->op.order_id = mending->mend.order_id;
	place->op.asked_ms = mending->updated_ms;
	place->op.lines = rt_arena_take(&mending->arena, lines_max * sizeof(struct inventory_line));
	place->op.returned = rt_arena_take(&mending->arena, lines_max * sizeof(uint32_t));
	place->op.done = part_ended;
	return place;
}

static void add_line(struct mending *mending, struct place *place,
		     const struct inventory_split_line *line)
{
	struct inventory_line *lines = (struct inventory_line *)place->op.lines;
	uint32_t *returned = (uint32_t *)place->op.returned;

	returned[place->op.line_count] = line->returned;
	lines[place->op.line_count++] =
		(struct inventory_line){ rt_arena_copy(&mending->arena, line->line.sku,
						       strlen(line->line.sku)),
					 line->line.quantity };
}

/* Those that the record names; if it names none, or is not there, the one that was found. False: a line is of no
 * partition. */
static bool make_places(struct mending *mending, const struct inventory_record *record)
{
	const struct inventory_mend *mend = &mending->mend;
	int partitions = inventory_store_partitions(mend->inventory->store);

	mending->place_count = 0;
	mending->updated_ms = record->updated_ms;
	mending->places =
		rt_arena_take(&mending->arena, (record->line_count + 1) * sizeof(*mending->places));
	for (size_t i = 0; i < record->line_count; i++) {
		const struct inventory_split_line *line = &record->lines[i];
		struct place *place = NULL;

		if (line->partition < 0 || line->partition >= partitions)
			return false;
		for (size_t j = 0; j < mending->place_count; j++)
			if (mending->places[j].op.partition == line->partition)
				place = &mending->places[j];
		if (place == NULL)
			place = add_place(mending, line->partition, record->line_count);
		add_line(mending, place, line);
	}
	if (record->line_count == 0 && mend->found >= 0) {
		struct place *place = add_place(mending, mend->found, mending->found.line_count);

		for (size_t i = 0; i < mending->found.line_count; i++)
			add_line(mending, place, &mending->found.lines[i]);
	}
	return true;
}

/* ---- what to do ---- */

static enum inventory_pass pass_of(enum stock_state record)
{
	switch (record) {
	case STOCK_COMMITTED:
	case STOCK_RETURNED:
		return INVENTORY_PASS_SOLD;
	case STOCK_NONE:
	case STOCK_RESERVED:
		return INVENTORY_PASS_HELD;
	default:
		return INVENTORY_PASS_ENDED;
	}
}

enum part_action inventory_mend_action(enum stock_state record)
{
	static const enum part_action actions[] = {
		[STOCK_NONE] = PART_TO_UNSOLD,          [STOCK_RESERVED] = PART_TO_RESERVED,
		[STOCK_UNAVAILABLE] = PART_TO_RELEASED, [STOCK_COMMITTED] = PART_TO_COMMITTED,
		[STOCK_RELEASED] = PART_TO_RELEASED,    [STOCK_RETURNED] = PART_TO_RETURNED
	};

	return actions[record];
}

static void align(struct mending *mending)
{
	mending->looked = true;
	mending->changed = mending->gives_up = false;
	act(mending, inventory_mend_action(mending->seen));
}

/* Touches nothing but what has ended; so it may run beside everything else. */
static void sweep(struct mending *mending)
{
	if (mending->seen == STOCK_NONE)
		conclude(mending, STOCK_NONE);
	else if (pass_of(mending->seen) == INVENTORY_PASS_ENDED)
		act(mending, PART_RELEASE);
	else
		mending_end(mending, RT_OK);
}

static void record_read(struct inventory_request_op *op, int status)
{
	struct mending *mending = RT_CONTAINER_OF(op, struct mending, op.request);
	enum inventory_pass pass = mending->mend.pass;
	enum stock_state state = op->record.state;

	if (status != RT_OK) {
		mending_end(mending, status);
		return;
	}
	if (mending->looked ? state == mending->seen
			    : pass != INVENTORY_PASS_SWEEP && pass_of(state) != pass) {
		mending_end(mending, RT_OK);
		return;
	}
	mending->seen = state;
	if (!make_places(mending, &op->record) || mending->place_count == 0)
		mending_end(mending, RT_OK);
	else if (pass == INVENTORY_PASS_SWEEP)
		sweep(mending);
	else
		align(mending);
}

static void read_record(struct mending *mending)
{
	mending->op.request.only_reads = true;
	mending->op.request.done = record_read;
	inventory_store_request(mending->mend.inventory->store, &mending->op.request);
}

void inventory_mend(const struct inventory_mend *mend)
{
	struct mending *mending = rt_alloc(sizeof(*mending));

	mending->mend = *mend;
	mending->mend.order_id =
		rt_arena_copy(&mending->arena, mend->order_id, strlen(mend->order_id));
	/* Damaged lines are those of a part that cannot be served either. */
	if (!inventory_record_read_lines(mend->lines, &mending->found))
		mending->found.line_count = 0;
	mending->op.request.partition = mend->partition;
	mending->op.request.order_id = mending->mend.order_id;
	mending->op.request.attempt = 1;
	mending->op.request.now_ms = rt_loop_unix_ms(mend->inventory->loop);
	read_record(mending);
}
