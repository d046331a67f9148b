/* get_reservation.c - GetReservation: the reservation of an order. Its id says in which partition it is; one that was
 * made before there were several may be in any, and is looked for in one after the other. */
#include "check.h"
#include "inventory_internal.h"

struct get {
	struct inventory *inventory;
	Tandem__Inventory__V1__GetReservationResponse_Closure closure;
	struct rt_call *call;
	int partitions_left;
	struct inventory_reservation_op op;
};

#define STATE(name) TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_##name
static const Tandem__Inventory__V1__ReservationState states[STOCK_STATE_COUNT] = {
	[STOCK_NONE] = STATE(UNSPECIFIED),        [STOCK_RESERVED] = STATE(RESERVED),
	[STOCK_UNAVAILABLE] = STATE(UNAVAILABLE), [STOCK_COMMITTED] = STATE(COMMITTED),
	[STOCK_RELEASED] = STATE(RELEASED),       [STOCK_RETURNED] = STATE(RETURNED),
};

/* protobuf-c wants lists of pointers. */
static void fill_lines(struct rt_arena *arena, Tandem__Inventory__V1__Reservation *reservation,
		       const struct inventory_reservation_op *op)
{
	reservation->n_lines = op->line_count;
	reservation->lines =
		rt_arena_take(arena, (op->line_count + 1) * sizeof(*reservation->lines));
	for (size_t i = 0; i < op->line_count; i++) {
		Tandem__Inventory__V1__ReservationLine *line = rt_arena_take(arena, sizeof(*line));

		tandem__inventory__v1__reservation_line__init(line);
		line->sku = (char *)(uintptr_t)op->lines[i].sku;
		line->quantity = op->lines[i].quantity;
		line->returned = op->returned[i];
		reservation->lines[i] = line;
	}
	reservation->n_shortages = op->shortage_count;
	reservation->shortages =
		rt_arena_take(arena, (op->shortage_count + 1) * sizeof(*reservation->shortages));
	for (size_t i = 0; i < op->shortage_count; i++) {
		Tandem__Inventory__V1__ReservationShortage *shortage =
			rt_arena_take(arena, sizeof(*shortage));

		tandem__inventory__v1__reservation_shortage__init(shortage);
		shortage->sku = (char *)(uintptr_t)op->shortages[i].sku;
		shortage->requested = op->shortages[i].requested;
		shortage->available = op->shortages[i].available;
		shortage->unknown = op->shortages[i].unknown;
		reservation->shortages[i] = shortage;
	}
}

static void send_answer(struct get *get, const struct inventory_reservation_op *op)
{
	Tandem__Inventory__V1__GetReservationResponse response =
		TANDEM__INVENTORY__V1__GET_RESERVATION_RESPONSE__INIT;
	Tandem__Inventory__V1__Reservation reservation = TANDEM__INVENTORY__V1__RESERVATION__INIT;
	Google__Protobuf__Timestamp update_time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct rt_arena arena = { .chunks = NULL };

	update_time.seconds = op->updated_ms / 1000;
	update_time.nanos = (int32_t)(op->updated_ms % 1000) * 1000000;
	reservation.order_id = (char *)(uintptr_t)op->order_id;
	reservation.state = states[op->state];
	fill_lines(&arena, &reservation, op);
	reservation.version = op->version;
	reservation.update_time = &update_time;
	response.reservation = &reservation;
	get->closure(&response, get->call);
	rt_arena_done(&arena);
}

static void reservation_read(struct inventory_reservation_op *op, int rc)
{
	struct get *get = RT_CONTAINER_OF(op, struct get, op);
	struct inventory *inventory = get->inventory;

	if (rc == RT_OK && !op->found && get->partitions_left > 0) {
		get->partitions_left--;
		op->partition++;
		inventory_store_reservation(inventory->store, op);
		return;
	}
	if (rc != RT_OK) {
		rt_call_fail_from(get->call, rc, "reading the reservation");
	} else if (!op->found) {
		rt_call_failf(get->call, RT_CODE_NOT_FOUND, "order %s never asked for stock",
			      op->order_id);
	} else {
		send_answer(get, op);
	}
	free(get);
	rt_context_release(inventory->context);
}

INVENTORY_HANDLER(inventory_get_reservation, GetReservation)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	int partitions = inventory_store_partitions(inventory->store), bucket;
	struct get *get;

	if (!check_call(closure_data, &request->base))
		return;
	bucket = check_order_bucket(request->order_id);
	get = rt_alloc(sizeof(*get));
	get->inventory = inventory;
	get->closure = closure;
	get->call = closure_data;
	get->op.order_id = request->order_id;
	if (bucket >= 0)
		get->op.partition = rt_bucket_partition((unsigned int)bucket, partitions);
	else
		get->partitions_left = partitions - 1;
	get->op.done = reservation_read;
	rt_context_hold(inventory->context);
	inventory_store_reservation(inventory->store, &get->op);
}
