/* explain_stock.c - tandemctl explain --sku and --reservation: who holds a SKU, what a reservation is waiting for.
 *
 * Asked of the gateway, as clients ask: GetStock, ListReservations and GetReservation, and of each order GetOrder. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "explain.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define SHOWN_MAX 20 /* orders that hold the SKU; the rest is counted */

#define ORDER_STATE(name)       TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_##name
#define RESERVATION_STATE(name) TANDEM__INVENTORY__V1__RESERVATION_STATE__RESERVATION_STATE_##name

static const char *enum_name(const ProtobufCEnumDescriptor *type, int value, const char *prefix)
{
	const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(type, value);

	return found == NULL ? "?" : found->name + strlen(prefix);
}

static const char *order_status(const Tandem__Order__V1__Order *order)
{
	return enum_name(&tandem__order__v1__order_status__descriptor, (int)order->status,
			 "ORDER_STATUS_");
}

static const char *reservation_state(const Tandem__Inventory__V1__Reservation *reservation)
{
	return enum_name(&tandem__inventory__v1__reservation_state__descriptor,
			 (int)reservation->state, "RESERVATION_STATE_");
}

static int64_t time_ms(const Google__Protobuf__Timestamp *time)
{
	return time == NULL ? 0 : time->seconds * 1000 + time->nanos / 1000000;
}

/* The order of this id. CTL_NEGATIVE: there is none, and stderr says so. *ret is freed with the response. */
static int get_order(struct ctl *ctl, const char *order_id, ProtobufCMessage **ret_response,
		     const Tandem__Order__V1__Order **ret)
{
	Tandem__Order__V1__GetOrderRequest request = TANDEM__ORDER__V1__GET_ORDER_REQUEST__INIT;
	int code;

	request.order_id = (char *)(uintptr_t)order_id;
	code = ctl_call(ctl, ctl_order_service(ctl), "GetOrder", &request.base, ret_response);
	if (code == CTL_OK)
		*ret = ((const Tandem__Order__V1__GetOrderResponse *)*ret_response)->order;
	return code;
}

/* ---- what comes next ---- */

/* What ends the reservation of an order with this status. */
static void say_end(struct rt_buf *text, const Tandem__Order__V1__Order *order, int64_t now_ms)
{
	char time[RT_TIME_TEXT], left[CTL_AGE];
	int64_t until_ms = time_ms(order->hold_expire_time);

	switch (order->status) {
	case ORDER_STATE(RESERVED):
		rt_time_format(until_ms, time);
		ctl_age(left, RT_MAX(until_ms - now_ms, 0));
		rt_buf_printf(text,
			      "it is sold when the order is confirmed, and comes back when it is "
			      "cancelled, or at %s, in %s, when its hold runs out",
			      time, left);
		break;
	case ORDER_STATE(CONFIRMED):
		rt_buf_printf(text, "the order is confirmed: inventory is about to sell it");
		break;
	case ORDER_STATE(PENDING):
		rt_buf_printf(text, "the order service is about to learn that it is reserved");
		break;
	default:
		rt_buf_printf(text, "the order is %s: inventory is about to give it back",
			      order_status(order));
		break;
	}
}

/* ---- a reservation ---- */

static void say_shortage(struct rt_buf *text,
			 const Tandem__Inventory__V1__ReservationShortage *shortage,
			 const char *comma)
{
	if (shortage->unknown)
		rt_buf_printf(text, "%s there was no such SKU as %s", comma, shortage->sku);
	else
		rt_buf_printf(text, "%s of %s %" PRIu32 " were asked for and %" PRIu64 " available",
			      comma, shortage->sku, shortage->requested, shortage->available);
}

static void say_reservation(struct rt_buf *because, struct rt_buf *next,
			    const Tandem__Inventory__V1__Reservation *reservation,
			    const Tandem__Order__V1__Order *order, int64_t now_ms)
{
	switch (reservation->state) {
	case RESERVATION_STATE(RESERVED):
		rt_buf_printf(because, "every line is held for the order");
		if (order != NULL)
			say_end(next, order, now_ms);
		else
			rt_buf_printf(next, "nobody will end it: the order is not there; "
					    "tandemctl audit says what to do");
		break;
	case RESERVATION_STATE(UNAVAILABLE):
		rt_buf_printf(because, "nothing is held:");
		for (size_t i = 0; i < reservation->n_shortages; i++)
			say_shortage(because, reservation->shortages[i], i == 0 ? "" : ",");
		rt_buf_printf(next, "nothing: it stays refused, also when there is stock");
		break;
	case RESERVATION_STATE(COMMITTED):
		rt_buf_printf(because, "the order was confirmed, and this is sold");
		rt_buf_printf(next, "nothing, unless something comes back");
		break;
	case RESERVATION_STATE(RETURNED):
		rt_buf_printf(because, "the order was confirmed, and some or all of it came back");
		rt_buf_printf(next, "nothing, unless more comes back");
		break;
	default:
		rt_buf_printf(because, "the order was cancelled, rejected or has expired, and "
				       "nothing is held for it any more");
		rt_buf_printf(next, "nothing: that is final");
		break;
	}
	rt_buf_add(because, "", 1);
	rt_buf_add(next, "", 1);
}

static void print_reservation(const struct ctl *ctl,
			      const Tandem__Inventory__V1__Reservation *reservation,
			      const Tandem__Order__V1__Order *order, const char *because,
			      const char *next)
{
	struct ctl_table table = { .columns = 2 };
	char time[RT_TIME_TEXT];

	if (ctl->json) {
		ctl_json_print(json_pack("{s:o, s:o, s:s, s:s}", "reservation",
					 ctl_message_json(&reservation->base, true), "order",
					 order == NULL ? json_null()
						       : ctl_message_json(&order->base, true),
					 "because", because, "next", next));
		return;
	}
	rt_time_format(time_ms(reservation->update_time), time);
	ctl_cell(&table, "order_id");
	ctl_cell(&table, "%s", reservation->order_id);
	ctl_cell(&table, "reservation");
	ctl_cell(&table, "%s since %s, version %" PRIu64, reservation_state(reservation), time,
		 reservation->version);
	for (size_t i = 0; i < reservation->n_lines; i++) {
		ctl_cell(&table, i == 0 ? "lines" : "");
		if (reservation->lines[i]->returned > 0)
			ctl_cell(&table, "%s=%" PRIu32 ", of which %" PRIu32 " came back",
				 reservation->lines[i]->sku, reservation->lines[i]->quantity,
				 reservation->lines[i]->returned);
		else
			ctl_cell(&table, "%s=%" PRIu32, reservation->lines[i]->sku,
				 reservation->lines[i]->quantity);
	}
	ctl_cell(&table, "order");
	if (order == NULL)
		ctl_cell(&table, "is not there");
	else
		ctl_cell(&table, "%s, of %s", order_status(order), order->customer_id);
	ctl_table_print(&table);
	printf("\nWhy:  %s\nNext: %s\n", because, next);
}

int explain_reservation(struct ctl *ctl, const char *order_id)
{
	Tandem__Inventory__V1__GetReservationRequest request =
		TANDEM__INVENTORY__V1__GET_RESERVATION_REQUEST__INIT;
	ProtobufCMessage *response = NULL, *of_order = NULL;
	const Tandem__Inventory__V1__GetReservationResponse *answer;
	const Tandem__Order__V1__Order *order = NULL;
	struct rt_buf because = { 0 }, next = { 0 };
	int code;

	request.order_id = (char *)(uintptr_t)order_id;
	code = ctl_call(ctl, ctl_inventory_service(ctl), "GetReservation", &request.base,
			&response);
	if (code != CTL_OK)
		return code;
	answer = (const void *)response;
	code = get_order(ctl, order_id, &of_order, &order);
	if (code != CTL_UNAVAILABLE && answer->reservation != NULL) {
		say_reservation(&because, &next, answer->reservation, order, ctl_now_ms(ctl));
		print_reservation(ctl, answer->reservation, order, because.data, next.data);
	}
	rt_buf_done(&because);
	rt_buf_done(&next);
	if (of_order != NULL)
		protobuf_c_message_free_unpacked(of_order, NULL);
	protobuf_c_message_free_unpacked(response, NULL);
	return code;
}

/* ---- a SKU ---- */

struct holders {
	struct ctl *ctl;
	struct ctl_table table;
	json_t *json;
	size_t count, shown;
	uint64_t units;
	int64_t oldest_ms;    /* since when the one that holds it longest does; INT64_MAX: none */
	int64_t first_end_ms; /* when the first hold runs out, of those shown; INT64_MAX: none */
};

static void show_holder(struct holders *holders,
			const Tandem__Inventory__V1__Reservation *reservation, uint32_t quantity)
{
	const Tandem__Order__V1__Order *order = NULL;
	ProtobufCMessage *response = NULL;
	char since[RT_TIME_TEXT], until[RT_TIME_TEXT] = "-";
	int64_t end_ms = 0;

	if (get_order(holders->ctl, reservation->order_id, &response, &order) == CTL_OK &&
	    order != NULL) {
		end_ms = time_ms(order->hold_expire_time);
		if (order->status == ORDER_STATE(RESERVED))
			holders->first_end_ms = RT_MIN(holders->first_end_ms, end_ms);
	}
	rt_time_format(time_ms(reservation->update_time), since);
	if (end_ms > 0)
		rt_time_format(end_ms, until);
	if (holders->ctl->json) {
		json_array_append_new(
			holders->json,
			json_pack("{s:o, s:I, s:s, s:o, s:o, s:o}", "order_id",
				  ctl_json_text(reservation->order_id), "quantity",
				  (json_int_t)quantity, "since", since, "customer_id",
				  ctl_json_text(order == NULL ? NULL : order->customer_id),
				  "status",
				  ctl_json_text(order == NULL ? NULL : order_status(order)),
				  "hold_expire_time", ctl_json_text(end_ms > 0 ? until : NULL)));
	} else {
		ctl_cell(&holders->table, "%s", reservation->order_id);
		ctl_cell(&holders->table, "%" PRIu32, quantity);
		ctl_cell(&holders->table, "%s", since);
		ctl_cell(&holders->table, "%s", order == NULL ? "?" : order->customer_id);
		ctl_cell(&holders->table, "%s", order == NULL ? "not there" : order_status(order));
		ctl_cell(&holders->table, "%s", until);
	}
	holders->shown++;
	if (response != NULL)
		protobuf_c_message_free_unpacked(response, NULL);
}

static int on_holder(const ProtobufCMessage *item, void *user)
{
	const Tandem__Inventory__V1__Reservation *reservation = (const void *)item;
	uint32_t quantity = reservation->n_lines > 0 ? reservation->lines[0]->quantity : 0;
	struct holders *holders = user;

	holders->count++;
	holders->units += quantity;
	holders->oldest_ms = RT_MIN(holders->oldest_ms, time_ms(reservation->update_time));
	if (holders->shown < SHOWN_MAX)
		show_holder(holders, reservation, quantity);
	return CTL_OK;
}

static void say_sku(struct rt_buf *because, struct rt_buf *next,
		    const Tandem__Inventory__V1__Stock *stock, const struct holders *holders,
		    int64_t now_ms)
{
	char age[CTL_AGE], time[RT_TIME_TEXT];

	rt_buf_printf(because, "%" PRIu64 " of %" PRIu64 " are available", stock->available,
		      stock->received);
	if (stock->committed > 0)
		rt_buf_printf(because, ", %" PRIu64 " are sold", stock->committed);
	if (holders->count > 0) {
		ctl_age(age, RT_MAX(now_ms - holders->oldest_ms, 0));
		rt_buf_printf(because, ", %" PRIu64 " are held by %zu order%s, for %s at most",
			      holders->units, holders->count, holders->count == 1 ? "" : "s", age);
	} else {
		rt_buf_printf(because, ", none is held");
	}
	if (holders->first_end_ms != INT64_MAX) {
		rt_time_format(holders->first_end_ms, time);
		rt_buf_printf(next,
			      "the first hold%s runs out at %s, unless its order is confirmed or "
			      "cancelled before",
			      holders->shown < holders->count ? " of those shown" : "", time);
	} else if (holders->count > 0) {
		rt_buf_printf(next, "tandemctl explain ORDER_ID says what such an order waits for");
	} else {
		rt_buf_printf(next, "nothing, until an order asks for it");
	}
	rt_buf_add(because, "", 1);
	rt_buf_add(next, "", 1);
}

static void print_sku(struct holders *holders, const Tandem__Inventory__V1__Stock *stock,
		      const char *because, const char *next)
{
	if (holders->ctl->json) {
		ctl_json_print(json_pack(
			"{s:o, s:o, s:I, s:I, s:s, s:s}", "stock",
			ctl_message_json(&stock->base, true), "reservations",
			RT_TAKE(holders->json), "holders", (json_int_t)holders->count, "held",
			(json_int_t)holders->units, "because", because, "next", next));
		return;
	}
	printf("%s: available %" PRIu64 ", reserved %" PRIu64 ", committed %" PRIu64
	       ", received %" PRIu64 ", version %" PRIu64 "\n\n",
	       stock->sku, stock->available, stock->reserved, stock->committed, stock->received,
	       stock->version);
	ctl_table_print(&holders->table);
	if (holders->shown < holders->count)
		printf("… and %zu more: tandemctl stock holders %s\n",
		       holders->count - holders->shown, stock->sku);
	printf("%sWhy:  %s\nNext: %s\n", holders->count > 0 ? "\n" : "", because, next);
}

int explain_sku(struct ctl *ctl, const char *sku)
{
	Tandem__Inventory__V1__GetStockRequest get = TANDEM__INVENTORY__V1__GET_STOCK_REQUEST__INIT;
	Tandem__Inventory__V1__ListReservationsRequest request =
		TANDEM__INVENTORY__V1__LIST_RESERVATIONS_REQUEST__INIT;
	struct holders holders = {
		.ctl = ctl,
		.table = CTL_TABLE("ORDER_ID", "QUANTITY", "SINCE", "CUSTOMER_ID", "STATUS",
				   "HELD UNTIL"),
		.json = json_array(),
		.oldest_ms = INT64_MAX,
		.first_end_ms = INT64_MAX,
	};
	struct ctl_list list = {
		.client = ctl_inventory_service(ctl),
		.method = "ListReservations",
		.request = &request.base,
		.items_max = INT64_MAX,
		.on_item = on_holder,
		.user = &holders,
	};
	struct rt_buf because = { 0 }, next = { 0 };
	const Tandem__Inventory__V1__GetStockResponse *answer;
	ProtobufCMessage *response = NULL;
	int code;

	get.sku = request.sku = (char *)(uintptr_t)sku;
	code = ctl_call(ctl, ctl_inventory_service(ctl), "GetStock", &get.base, &response);
	if (code == CTL_OK)
		code = ctl_call_list(ctl, &list);
	answer = (const void *)response;
	if (code == CTL_OK && answer->stock != NULL) {
		say_sku(&because, &next, answer->stock, &holders, ctl_now_ms(ctl));
		print_sku(&holders, answer->stock, because.data, next.data);
	}
	rt_buf_done(&because);
	rt_buf_done(&next);
	free(list.next);
	json_decref(holders.json);
	if (response != NULL)
		protobuf_c_message_free_unpacked(response, NULL);
	return code;
}
