/* list_reservations.c - ListReservations: the orders that hold stock of one SKU, page by page (AIP-158).
 *
 * What holds a SKU lies where its stock is: records of orders that are not split, and parts of those that are. Nothing
 * says by SKU which, since keeping that would cost every order (decision 011): all are read, a run of RUN_SIZE after
 * the other, until the page is full.
 *
 *   list_run            one run: inventory_holders (functions.lua)
 *     run_read          those that hold the SKU are noted
 *       list_run        … again, unless the page is full, RUNS_MAX were read, or all that hold it are found:
 *                       the SKU's counter says how many are held, and that tells when there are no more
 *       list_answer
 *
 * A position is where a run begins, how many of what it gives were looked at, and the last of these orders. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "inventory_internal.h"
#include "page_token.h"

#define RUN_SIZE 500
#define RUNS_MAX 200 /* of a page: about 100 ms */

static const char *const kinds[] = { "r", "parts" };

struct holder {
	char *order_id;
	int64_t since_ms;
	uint32_t quantity;
};
struct list {
	struct inventory *inventory;
	Tandem__Inventory__V1__ListReservationsResponse_Closure closure;
	struct rt_call *call;
	const char *sku;
	char *name; /* of the list, for its tokens */
	struct rt_arena arena;
	/* The position. */
	size_t kind;
	uint64_t cursor, skip;
	const char *last; /* order id */
	/* The texts of what is asked. */
	char numbers[3][24];
	struct inventory_call_op op;
	int runs;
	bool from_start;  /* the page is the first one */
	uint64_t version; /* of the counters when the page began */
	uint64_t units;   /* what was found holds so many */
	struct holder *holders;
	size_t count, count_max;
};

static void run_read(struct inventory_call_op *op, int rc);

/* ---- positions ---- */

/* "<kind> <cursor> <skip> <last>". */
static bool position_read(struct list *list, const char *position)
{
	uint64_t *const numbers[] = { &list->cursor, &list->skip };
	const char *at = position + 1;

	if (position[0] != '0' && position[0] != '1')
		return false;
	list->kind = (size_t)(position[0] - '0');
	for (size_t i = 0; i < RT_LENGTH(numbers); i++) {
		size_t digits = at[0] == ' ' ? strspn(at + 1, "0123456789") : 0;

		if (digits == 0 || digits > 20)
			return false;
		*numbers[i] = strtoull(at + 1, NULL, 10);
		at += 1 + digits;
	}
	if (at[0] != ' ' || list->skip > INT32_MAX)
		return false;
	list->last = at + 1;
	return true;
}

static char *position_token(const struct list *list)
{
	char *position = rt_printf("%zu %" PRIu64 " %" PRIu64 " %s", list->kind, list->cursor,
				   list->skip, list->last);
	char *token = page_token_new(list->name, position);

	free(position);
	return token;
}

/* ---- the answer ---- */

static Tandem__Inventory__V1__Reservation *holder_message(struct list *list,
							  const struct holder *holder)
{
	Tandem__Inventory__V1__Reservation *message = rt_arena_take(&list->arena, sizeof(*message));
	Tandem__Inventory__V1__ReservationLine *line = rt_arena_take(&list->arena, sizeof(*line));
	Google__Protobuf__Timestamp *since = rt_arena_take(&list->arena, sizeof(*since));

	tandem__inventory__v1__reservation__init(message);
	tandem__inventory__v1__reservation_line__init(line);
	google__protobuf__timestamp__init(since);
	line->sku = (char *)(uintptr_t)list->sku;
	line->quantity = holder->quantity;
	since->seconds = holder->since_ms / 1000;
	since->nanos = (int32_t)(holder->since_ms % 1000) * 1000000;
	message->order_id = holder->order_id;
	message->state = TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_RESERVED;
	message->lines = rt_arena_take(&list->arena, sizeof(*message->lines));
	message->lines[0] = line;
	message->n_lines = 1;
	message->update_time = since;
	return message;
}

static void list_end(struct list *list)
{
	struct inventory *inventory = list->inventory;

	rt_arena_done(&list->arena);
	free(list->holders);
	free(list->name);
	free(list);
	rt_context_release(inventory->context);
}

static void list_answer(struct list *list, bool more)
{
	Tandem__Inventory__V1__ListReservationsResponse response =
		TANDEM__INVENTORY__V1__LIST_RESERVATIONS_RESPONSE__INIT;
	char *token = NULL;

	response.reservations =
		rt_arena_take(&list->arena, (list->count + 1) * sizeof(*response.reservations));
	for (size_t i = 0; i < list->count; i++)
		response.reservations[i] = holder_message(list, &list->holders[i]);
	response.n_reservations = list->count;
	if (more)
		response.next_page_token = token = position_token(list);
	list->closure(&response, list->call);
	free(token);
	list_end(list);
}

/* ---- the runs ---- */

static void list_run(struct list *list)
{
	snprintf(list->numbers[0], sizeof(list->numbers[0]), "%" PRIu64, list->cursor);
	snprintf(list->numbers[1], sizeof(list->numbers[1]), "%" PRIu64, list->skip);
	snprintf(list->numbers[2], sizeof(list->numbers[2]), "%d", RUN_SIZE);
	list->op = (struct inventory_call_op){
		.partition = inventory_store_partition(list->inventory->store, list->sku),
		.function = "holders",
		.argv = { list->sku, kinds[list->kind], list->numbers[0], list->numbers[1],
			  list->last, list->numbers[2] },
		.wanted = 2,
		.done = run_read,
	};
	list->runs++;
	inventory_store_call(list->inventory->store, &list->op);
}

static int by_order(const void *a, const void *b)
{
	return strcmp(((const struct holder *)a)->order_id, ((const struct holder *)b)->order_id);
}

/* Redis may give the same one twice when a hash shrinks. */
static bool found_once_each(struct list *list)
{
	qsort(list->holders, list->count, sizeof(list->holders[0]), by_order);
	for (size_t i = 1; i < list->count; i++)
		if (by_order(&list->holders[i - 1], &list->holders[i]) == 0)
			return false;
	return true;
}

/* Whether there are no more. What was found adds up to the counter, which has not changed since the page began. */
static bool all_found(struct list *list, const char *counters)
{
	struct stock stock;

	if (counters[0] == '\0')
		return true;
	if (!inventory_stock_read(counters, &stock))
		return false;
	if (list->runs == 1)
		list->version = stock.version;
	if (stock.reserved == 0)
		return true;
	return list->from_start && stock.version == list->version &&
	       stock.reserved == list->units && found_once_each(list);
}

/* Notes what a run found. True: the page is full, and the position is behind its last one. */
static bool note_holders(struct list *list, const struct inventory_call_op *op)
{
	for (size_t i = 2; i + 3 < op->count; i += 4) {
		struct holder *holder = &list->holders[list->count];
		const char *order_id = op->texts[i + 1];

		if (list->count == list->count_max)
			return true;
		holder->order_id = rt_arena_copy(&list->arena, order_id, strlen(order_id));
		holder->since_ms = strtoll(op->texts[i + 2], NULL, 10);
		holder->quantity = (uint32_t)strtoul(op->texts[i + 3], NULL, 10);
		list->units += holder->quantity;
		list->count++;
		list->skip = strtoull(op->texts[i], NULL, 10);
		list->last = holder->order_id;
	}
	return false;
}

/* To the next run. False: there is none. */
static bool step_on(struct list *list, const char *cursor)
{
	list->cursor = strtoull(cursor, NULL, 10);
	list->skip = 0;
	list->last = "";
	return list->cursor != 0 || ++list->kind < RT_LENGTH(kinds);
}

static void run_read(struct inventory_call_op *op, int rc)
{
	struct list *list = RT_CONTAINER_OF(op, struct list, op);

	if (rc != RT_OK) {
		rt_call_fail_from(list->call, rc, "listing the reservations");
		list_end(list);
	} else if (note_holders(list, op)) {
		list_answer(list, true);
	} else if (all_found(list, op->texts[1]) || !step_on(list, op->texts[0])) {
		list_answer(list, false);
	} else if (list->count == list->count_max || list->runs == RUNS_MAX) {
		list_answer(list, true);
	} else {
		list_run(list);
	}
}

/* ---- the call ---- */

INVENTORY_HANDLER(inventory_list_reservations, ListReservations)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct rt_status status = { .code = 0 };
	const char *position = NULL;
	struct list *list;

	if (!check_call(closure_data, &request->base))
		return;
	list = rt_alloc(sizeof(*list));
	list->inventory = inventory;
	list->closure = closure;
	list->call = closure_data;
	list->sku = request->sku;
	list->name = rt_printf("ListReservations %s", request->sku);
	list->count_max = check_page_size(request->page_size);
	list->holders = rt_alloc(list->count_max * sizeof(*list->holders));
	list->last = "";
	list->from_start = request->page_token[0] == '\0';
	rt_context_hold(inventory->context);
	if (!list->from_start)
		position = page_token_read(list->name, request->page_token);
	if (!list->from_start && (position == NULL || !position_read(list, position))) {
		page_token_status(&status);
		rt_call_fail(closure_data, &status);
		rt_status_done(&status);
		list_end(list);
		return;
	}
	list_run(list);
}
