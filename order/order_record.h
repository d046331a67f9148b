/* order_record.h - converts between a client's request, the stored order, and the answer.
 *
 *   PlaceOrderRequest ─order_content─▶ OrderContent ─order_pack, in an OrderPlaced─▶ the stored bytes
 *   the stored text ─order_record_read─▶ struct order_record
 *   struct order_record ─order_view─▶ tandem.order.v1.Order, as of any of its versions
 *
 * Pure. Results live in the arena and may point into their inputs. */
#ifndef ORDER_RECORD_H
#define ORDER_RECORD_H

#include "base/base.h"
#include "store.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

/* The content of a request that passed check_request: lines with the same SKU added up, in the order of
 * first mention; labels sorted by key, the last of equal keys wins; the hold filled in. Two
 * requests that mean the same have the same content. */
Tandem__Order__V1__OrderContent *order_content(struct rt_arena *arena,
					       const Tandem__Order__V1__PlaceOrderRequest *request);
int64_t order_hold_ms(const Tandem__Order__V1__OrderContent *content);
/* Packs any message. */
uint8_t *order_pack(struct rt_arena *arena, const ProtobufCMessage *message, size_t *ret_length);

/* Reads an order's text as functions.lua stores it; the record points into it. False: it is damaged. */
bool order_record_read(const char *text, size_t length, const char *order_id,
		       struct order_record *ret);
/* The order as of `version`; 0: the current one. `content`: as it was placed, if the caller has it;
 * NULL: taken from the record. Returns NULL when the record is damaged. */
Tandem__Order__V1__Order *order_view(struct rt_arena *arena, const struct order_record *record,
				     Tandem__Order__V1__OrderContent *content, uint64_t version);

/* One item of a record's history. */
struct order_history_item {
	enum order_event event; /* NOTHING for "again" */
	bool again;
	enum order_state state; /* after it */
	int64_t unix_ms;
	uint64_t version; /* after it; of the request, for "again" */
	char stream_id[48];
};
struct order_history {
	const char *at;
	int64_t placed_id_ms, created_ms;
	uint64_t version;
	enum order_state state; /* after the items read so far; PENDING before */
};
void order_history_begin(struct order_history *history, const char *text);
/* False: the end, or unreadable text (then history->at is not at the end of the text). */
bool order_history_next(struct order_history *history, struct order_history_item *ret);
bool order_history_at_end(const struct order_history *history);
/* The trace context of the step that placed it; "": none. Its texts live in the arena. */
struct order_trace {
	const char *traceparent, *tracestate;
};
struct order_trace order_record_trace(struct rt_arena *arena, const struct order_record *record);
/* Who did it: a caller as rt_call_actor has it, "inventory" or "timer"; "": not known. Lives in the arena. */
const char *order_history_actor(struct rt_arena *arena, const struct order_record *record,
				const struct order_history_item *item);
/* When the order was placed, in unix ms; 0: its history cannot be read. */
int64_t order_created_ms(const struct order_record *record);

/* What came back of a CONFIRMED order; NULL: nothing, or it cannot be read. Lives in the arena. */
const Tandem__Order__V1__OrderReturned *order_record_returned(struct rt_arena *arena,
							      const struct order_record *record);

Google__Protobuf__Timestamp *order_timestamp(struct rt_arena *arena, int64_t unix_ms);

#endif
