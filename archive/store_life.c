/* store_life.c - packs and reads an order's life. */
#include "store_life.h"

#include <string.h>

/* ---- kinds ---- */

#define NAMED(text) .name = (text), .length = sizeof(text) - 1
static const struct {
	const char *name;
	size_t length;
	int status;
	bool has_detail;
} kinds[ARCHIVE_KINDS] = {
	[ORDER_PLACED] = { NAMED("OrderPlaced"), .status = 1 },
	[ORDER_RESERVED] = { NAMED("OrderReserved"), .status = 2 },
	[ORDER_REJECTED] = { NAMED("OrderRejected"), .status = 3, .has_detail = true },
	[ORDER_CONFIRMED] = { NAMED("OrderConfirmed"), .status = 4 },
	[ORDER_CANCELLED] = { NAMED("OrderCancelled"), .status = 5, .has_detail = true },
	[ORDER_EXPIRED] = { NAMED("OrderExpired"), .status = 6, .has_detail = true },
	[ORDER_HOLD_EXTENDED] = { NAMED("OrderHoldExtended") },
	[ORDER_RETURNED] = { NAMED("OrderReturned"), .status = 4, .has_detail = true },
	[ORDER_SETTLED] = { NAMED("OrderSettled") },
	[ORDER_DROPPED] = { NAMED("OrderDropped") },
	[INVENTORY_RESERVED] = { NAMED("InventoryReserved") },
	[INVENTORY_UNAVAILABLE] = { NAMED("InventoryUnavailable") },
	[INVENTORY_COMMITTED] = { NAMED("InventoryCommitted") },
	[INVENTORY_RELEASED] = { NAMED("InventoryReleased") },
	[INVENTORY_RETURNED] = { NAMED("InventoryReturned") },
};

enum archive_kind archive_kind_of(const struct archive_text *text)
{
	for (int i = ORDER_PLACED; i < ARCHIVE_KINDS; i++)
		if (text->length == kinds[i].length &&
		    memcmp(text->data, kinds[i].name, text->length) == 0)
			return (enum archive_kind)i;
	return KIND_OTHER;
}

int archive_status_of(enum archive_kind kind)
{
	return kinds[kind].status;
}

bool archive_has_detail(enum archive_kind kind)
{
	return kinds[kind].has_detail;
}

bool archive_of_stock(const struct archive_text *kind)
{
	return archive_is(kind, "StockAdjusted") || archive_is(kind, "StockLow");
}

/* ---- numbers and texts ---- */

uint64_t archive_take_number(struct archive_packed *from)
{
	uint64_t n = 0;

	for (unsigned int shift = 0; shift < 64 && from->at < from->end; shift += 7) {
		uint8_t byte = *from->at++;

		n |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return n;
	}
	from->broken = true;
	return 0;
}

int64_t archive_take_signed(struct archive_packed *from)
{
	uint64_t n = archive_take_number(from);

	return (int64_t)(n >> 1 ^ (0 - (n & 1)));
}

struct archive_text archive_take_text(struct archive_packed *from)
{
	uint64_t length = archive_take_number(from);
	struct archive_text text = { (const char *)from->at, (size_t)length };

	if (length > (uint64_t)(from->end - from->at)) {
		from->broken = true;
		return (struct archive_text){ 0 };
	}
	from->at += length;
	return text;
}

/* ---- events ---- */

void archive_life_add(struct rt_buf *life, int64_t last_ms, enum archive_kind kind,
		      const struct archive_event *event)
{
	static const struct archive_text nothing = { 0 };
	const struct archive_text *data = kind == ORDER_PLACED ? &nothing : &event->data;
	uint8_t *from =
		(uint8_t *)rt_buf_room(life, 1 + 5 * ARCHIVE_NUMBER_MAX + event->kind.length +
						     event->actor.length + data->length);
	uint8_t *at = from;

	*at++ = (uint8_t)(kind << 1 | event->context);
	at = archive_put_number(at, event->version);
	at = archive_put_signed(at, event->time_ms - last_ms);
	if (kind == KIND_OTHER)
		at = archive_put_text(at, &event->kind);
	at = archive_put_text(at, &event->actor);
	at = archive_put_text(at, data);
	life->length += (size_t)(at - from);
}

bool archive_life_next(struct archive_life_reader *reader, enum archive_kind *ret_kind,
		       struct archive_event *ret)
{
	struct archive_packed *packed = &reader->packed;
	uint8_t head;

	if (packed->at == packed->end || *packed->at == 0)
		return false;
	head = *packed->at++;
	*ret_kind = head >> 1 < ARCHIVE_KINDS ? (enum archive_kind)(head >> 1) : KIND_OTHER;
	*ret = (struct archive_event){ .context =
					       (head & 1) != 0 ? ARCHIVE_INVENTORY : ARCHIVE_ORDER,
				       .version = archive_take_number(packed) };
	ret->time_ms = reader->last_ms += archive_take_signed(packed);
	ret->kind = *ret_kind != KIND_OTHER ? (struct archive_text){ kinds[*ret_kind].name,
								     kinds[*ret_kind].length }
					    : archive_take_text(packed);
	ret->actor = archive_take_text(packed);
	ret->data = archive_take_text(packed);
	return !packed->broken;
}
