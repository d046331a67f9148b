/* get_reservation.c - GetReservation: what is, was or should have been held for an order. */
#include "check.h"
#include "inventory_internal.h"

struct get {
	struct inventory *inventory;
	Tandem__Inventory__V1__GetReservationResponse_Closure closure;
	void *closure_data;
	struct inventory_reservation_op op;
};

static Tandem__Inventory__V1__ReservationState state_message(enum stock_state state)
{
	switch (state) {
	case STOCK_RESERVED:
		return TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_RESERVED;
	case STOCK_UNAVAILABLE:
		return TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_UNAVAILABLE;
	case STOCK_COMMITTED:
		return TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_COMMITTED;
	case STOCK_RELEASED:
		return TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_RELEASED;
	case STOCK_NONE:
	case STOCK_STATE_COUNT:
		break;
	}
	return TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_UNSPECIFIED;
}

/* The lists of a reservation's message; protobuf-c wants lists of pointers. */
struct parts {
	Tandem__Inventory__V1__ReservationLine *lines, **line_list;
	Tandem__Inventory__V1__ReservationShortage *shortages, **shortage_list;
};

static void parts_fill(struct parts *parts, const struct inventory_reservation_op *op)
{
	/* One more than needed each: they may be empty. */
	parts->lines = rt_alloc((op->line_count + 1) * sizeof(*parts->lines));
	parts->line_list = rt_alloc((op->line_count + 1) * sizeof(*parts->line_list));
	parts->shortages = rt_alloc((op->shortage_count + 1) * sizeof(*parts->shortages));
	parts->shortage_list = rt_alloc((op->shortage_count + 1) * sizeof(*parts->shortage_list));
	for (size_t i = 0; i < op->line_count; i++) {
		Tandem__Inventory__V1__ReservationLine *line = &parts->lines[i];

		tandem__inventory__v1__reservation_line__init(line);
		line->sku = (char *)(uintptr_t)op->lines[i].sku;
		line->quantity = op->lines[i].quantity;
		parts->line_list[i] = line;
	}
	for (size_t i = 0; i < op->shortage_count; i++) {
		Tandem__Inventory__V1__ReservationShortage *shortage = &parts->shortages[i];

		tandem__inventory__v1__reservation_shortage__init(shortage);
		shortage->sku = (char *)(uintptr_t)op->shortages[i].sku;
		shortage->requested = op->shortages[i].requested;
		shortage->available = op->shortages[i].available;
		parts->shortage_list[i] = shortage;
	}
}

static void parts_done(struct parts *parts)
{
	free(parts->lines);
	free(parts->line_list);
	free(parts->shortages);
	free(parts->shortage_list);
}

static void get_answer(struct get *get, const struct inventory_reservation_op *op)
{
	Tandem__Inventory__V1__GetReservationResponse response =
		TANDEM__INVENTORY__V1__GET_RESERVATION_RESPONSE__INIT;
	Tandem__Inventory__V1__Reservation reservation = TANDEM__INVENTORY__V1__RESERVATION__INIT;
	Google__Protobuf__Timestamp update_time = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	struct parts parts;

	parts_fill(&parts, op);
	update_time.seconds = op->updated_ms / 1000;
	update_time.nanos = (int32_t)(op->updated_ms % 1000) * 1000000;
	reservation.order_id = (char *)(uintptr_t)op->order_id;
	reservation.state = state_message(op->state);
	reservation.lines = parts.line_list;
	reservation.n_lines = op->line_count;
	reservation.shortages = parts.shortage_list;
	reservation.n_shortages = op->shortage_count;
	reservation.version = op->version;
	reservation.update_time = &update_time;
	response.reservation = &reservation;
	get->closure(&response, get->closure_data);
	parts_done(&parts);
}

static void reservation_read(struct inventory_reservation_op *op, int rc)
{
	struct get *get = RT_CONTAINER_OF(op, struct get, op);
	struct inventory *inventory = get->inventory;

	if (rc != RT_OK) {
		struct rt_status status = { .code = 0 };

		rt_status_from(&status, rc, "reading the reservation");
		rt_call_fail(get->closure_data, &status);
		rt_status_done(&status);
	} else if (!op->found) {
		rt_call_failf(get->closure_data, RT_CODE_NOT_FOUND,
			      "order %s never asked for stock", op->order_id);
	} else {
		get_answer(get, op);
	}
	free(get);
	rt_context_release(inventory->context);
}

void inventory_get_reservation(Tandem__Inventory__V1__InventoryService_Service *service,
			       const Tandem__Inventory__V1__GetReservationRequest *request,
			       Tandem__Inventory__V1__GetReservationResponse_Closure closure,
			       void *closure_data)
{
	struct inventory *inventory = RT_CONTAINER_OF(service, struct inventory, service);
	struct rt_status status = { .code = 0 };
	struct get *get;

	if (!check_request(&request->base, &status)) {
		rt_call_fail(closure_data, &status);
		rt_status_done(&status);
		return;
	}
	get = rt_alloc(sizeof(*get));
	get->inventory = inventory;
	get->closure = closure;
	get->closure_data = closure_data;
	get->op.order_id = request->order_id;
	get->op.done = reservation_read;
	rt_context_hold(inventory->context);
	inventory_store_reservation(inventory->store, &get->op);
}
