/* order_record.c - request → content → stored bytes, and record → Order.
 *
 * Most answers are about PENDING orders whose request is still in memory: then nothing is unpacked,
 * and the lines point into the request. */
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "order/order_record.h"
#include "order_reason.h"

#define ID_MS_MAX (INT64_C(1) << 53) /* of a stream id: Lua's numbers are exact up to here */

/* ---- request → content ---- */

static bool lines_are_plain(const Tandem__Order__V1__PlaceOrderRequest *request)
{
	for (size_t i = 0; i < request->n_lines; i++) {
		/* Fields that a newer client adds to a line are not stored: packing would keep them. */
		if (request->lines[i]->base.n_unknown_fields > 0)
			return false;
		for (size_t j = 0; j < i; j++)
			if (strcmp(request->lines[i]->sku, request->lines[j]->sku) == 0)
				return false;
	}
	return true;
}

static void merge_lines(struct rt_arena *arena, Tandem__Order__V1__OrderContent *content,
			const Tandem__Order__V1__PlaceOrderRequest *request)
{
	if (lines_are_plain(request)) {
		content->n_lines = request->n_lines;
		content->lines = request->lines;
		return;
	}
	content->lines = rt_arena_take(arena, request->n_lines * sizeof(*content->lines));
	for (size_t i = 0; i < request->n_lines; i++) {
		Tandem__Order__V1__OrderLine *line = NULL;

		for (size_t j = 0; j < content->n_lines && line == NULL; j++)
			if (strcmp(request->lines[i]->sku, content->lines[j]->sku) == 0)
				line = content->lines[j];
		if (line == NULL) {
			line = rt_arena_take(arena, sizeof(*line));
			tandem__order__v1__order_line__init(line);
			line->sku = request->lines[i]->sku;
			content->lines[content->n_lines++] = line;
		}
		line->quantity += request->lines[i]->quantity;
	}
}

/* Insertion by key: at most 16 of them, and the last of equal keys replaces the others. */
static void sort_labels(struct rt_arena *arena, Tandem__Order__V1__OrderContent *content,
			const Tandem__Order__V1__PlaceOrderRequest *request)
{
	Tandem__Order__V1__OrderLabel **labels;

	if (request->n_labels == 0)
		return;
	labels = rt_arena_take(arena, request->n_labels * sizeof(*labels));
	for (size_t i = 0; i < request->n_labels; i++) {
		Tandem__Order__V1__OrderLabel *label = rt_arena_take(arena, sizeof(*label));
		size_t place = content->n_labels;

		tandem__order__v1__order_label__init(label);
		label->key = request->labels[i]->key;
		label->value = request->labels[i]->value;
		while (place > 0 && strcmp(labels[place - 1]->key, label->key) > 0)
			place--;
		if (place > 0 && strcmp(labels[place - 1]->key, label->key) == 0) {
			labels[place - 1] = label;
			continue;
		}
		memmove(&labels[place + 1], &labels[place],
			(content->n_labels - place) * sizeof(*labels));
		labels[place] = label;
		content->n_labels++;
	}
	content->labels = labels;
}

Tandem__Order__V1__OrderContent *order_content(struct rt_arena *arena,
					       const Tandem__Order__V1__PlaceOrderRequest *request)
{
	Tandem__Order__V1__OrderContent *content = rt_arena_take(arena, sizeof(*content));
	Google__Protobuf__Duration *hold = rt_arena_take(arena, sizeof(*hold));
	int64_t hold_ms = CHECK_HOLD_STANDARD_MS;

	tandem__order__v1__order_content__init(content);
	content->customer_id = request->customer_id;
	merge_lines(arena, content, request);
	sort_labels(arena, content, request);
	if (request->hold != NULL)
		hold_ms = request->hold->seconds * 1000 + request->hold->nanos / 1000000;
	google__protobuf__duration__init(hold);
	hold->seconds = hold_ms / 1000;
	hold->nanos = (int32_t)(hold_ms % 1000) * 1000000;
	content->hold = hold;
	return content;
}

int64_t order_hold_ms(const Tandem__Order__V1__OrderContent *content)
{
	return content->hold->seconds * 1000 + content->hold->nanos / 1000000;
}

uint8_t *order_pack(struct rt_arena *arena, const ProtobufCMessage *message, size_t *ret_length)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = rt_arena_take(arena, length + 1);

	protobuf_c_message_pack(message, bytes);
	*ret_length = length;
	return bytes;
}

/* ---- the stored text ---- */

/* Reads a number and the character that must follow it. */
static bool read_count(const char **at, const char *end, char stop, int64_t max, int64_t *ret)
{
	int64_t n = 0;
	const char *digit = *at;

	for (; digit < end && *digit >= '0' && *digit <= '9'; digit++) {
		n = n * 10 + (*digit - '0');
		if (n > max)
			return false;
	}
	if (digit == *at || digit == end || *digit != stop)
		return false;
	*ret = n;
	*at = digit + 1;
	return true;
}

bool order_record_read(const char *text, size_t length, const char *order_id,
		       struct order_record *ret)
{
	static const char attempt_word[] = "attempt=";
	struct order_record record = { .order_id = order_id, .attempt = 1 };
	const char *at = text, *end = text + length, *blank = memchr(text, ' ', length);
	int64_t version, attempt, placed_length;

	if (blank == NULL || !order_state_parse(text, (size_t)(blank - text), &record.state))
		return false;
	at = blank + 1;
	if (!read_count(&at, end, ' ', INT64_MAX / 16, &version) ||
	    !read_count(&at, end, ' ', INT64_MAX / 16, &record.hold_ms))
		return false;
	if ((size_t)(end - at) > strlen(attempt_word) &&
	    memcmp(at, attempt_word, strlen(attempt_word)) == 0) {
		at += strlen(attempt_word);
		if (!read_count(&at, end, ' ', UINT32_MAX, &attempt))
			return false;
		record.attempt = (uint32_t)attempt;
	}
	record.version = (uint64_t)version;
	record.history = at;
	at = memchr(at, '\n', (size_t)(end - at));
	if (at == NULL)
		return false;
	at++;
	if (!read_count(&at, end, '\n', INT32_MAX, &placed_length) || placed_length > end - at)
		return false;
	record.placed = (const uint8_t *)at;
	record.placed_length = (size_t)placed_length;
	record.detail = record.placed + placed_length;
	record.detail_length = (size_t)(end - at - placed_length);
	if (record.detail_length == 0)
		record.detail = NULL;
	*ret = record;
	return true;
}

/* ---- history ---- */

void order_history_begin(struct order_history *history, const char *text)
{
	*history = (struct order_history){ .at = text };
}

/* The word at the start of the text: an event, or "again". */
static size_t read_word(const char *text, struct order_history_item *item)
{
	size_t length = strcspn(text, "@+ \n");

	for (int event = 0; event < ORDER_EVENT_COUNT; event++) {
		const char *word = order_event_word((enum order_event)event);

		if (word == NULL)
			word = ORDER_AGAIN_WORD;
		if (strlen(word) == length && memcmp(word, text, length) == 0) {
			item->event = (enum order_event)event;
			item->again = item->event == ORDER_EV_NOTHING;
			return length;
		}
	}
	return 0;
}

/* Milliseconds, absolute or since the order was placed: from 0 to `max`. */
static bool read_ms(const char *text, int64_t placed_ms, int64_t max, int64_t *ret,
		    const char **ret_end)
{
	bool earlier =
		text[0] == '-'; /* the stream was deleted and began again with the clock set back */
	const char *digits = text + earlier;
	size_t length = strspn(digits, "0123456789");
	int64_t ms;

	if (length == 0 || length > 16)
		return false;
	ms = strtoll(text, NULL, 10) + placed_ms;
	if (ms < 0 || ms > max)
		return false;
	*ret = ms;
	*ret_end = digits + length;
	return true;
}

/* `number`: 20 digits at most. */
static void write_id(char id[48], int64_t unix_ms, const char *number, size_t length)
{
	size_t at = rt_int_text(unix_ms, id);

	id[at++] = '-';
	memcpy(id + at, number, length);
	id[at + length] = '\0';
}

bool order_history_next(struct order_history *history, struct order_history_item *ret)
{
	struct order_history_item item = { .again = false };
	const char *at = history->at;
	size_t length = read_word(at, &item);
	bool first = item.event == ORDER_EV_PLACED;
	const char *number, *end;

	if (length == 0 || at[length] != (first ? '@' : '+') || first != (history->version == 0))
		return false;
	if (!read_ms(at + length + 1, first ? 0 : history->placed_id_ms, ID_MS_MAX, &item.unix_ms,
		     &end) ||
	    *end != '-')
		return false;
	number = end + 1;
	if (number[0] < '0' || number[0] > '9')
		return false;
	length = strspn(number, "0123456789");
	if (length > 20)
		return false;
	if (first)
		history->placed_id_ms = item.unix_ms;
	write_id(item.stream_id, item.unix_ms, number, length);
	at = number + length;
	if (*at == '~') {
		if (!read_ms(at + 1, 0, RT_TIME_MS_MAX, &item.unix_ms, &end))
			return false;
		at = end;
	}
	if ((*at != ' ' && *at != '\0' && *at != '\n') || item.unix_ms > RT_TIME_MS_MAX)
		return false;
	if (first)
		history->created_ms = item.unix_ms;
	if (!item.again) {
		history->version++;
		history->state = order_state_after(history->state, item.event);
	}
	item.version = history->version;
	item.state = history->state;
	history->at = at + (*at == ' ');
	*ret = item;
	return true;
}

bool order_history_at_end(const struct order_history *history)
{
	return *history->at == '\0' || *history->at == '\n';
}

int64_t order_created_ms(const struct order_record *record)
{
	struct order_history history;
	struct order_history_item item;

	order_history_begin(&history, record->history);
	return order_history_next(&history, &item) ? item.unix_ms : 0;
}

/* ---- who ---- */

/* Stored bytes are checked like requests, because a client cannot read an order with a text that is
 * not UTF-8. NULL: damaged or missing. */
static ProtobufCMessage *read_stored(struct rt_arena *arena, const ProtobufCMessageDescriptor *type,
				     const uint8_t *bytes, size_t length)
{
	struct rt_wire_fault fault;

	if (bytes == NULL || !rt_wire_check(type, bytes, length, &fault))
		return NULL;
	return protobuf_c_message_unpack(type, rt_arena_allocator(arena), length, bytes);
}

static const Tandem__Order__V1__OrderActors *read_actors(struct rt_arena *arena,
							 const struct order_record *record)
{
	return (const void *)read_stored(arena, &tandem__order__v1__order_actors__descriptor,
					 record->detail, record->detail_length);
}

struct order_trace order_record_trace(struct rt_arena *arena, const struct order_record *record)
{
	const Tandem__Order__V1__OrderActors *actors = read_actors(arena, record);

	for (size_t i = 0; actors != NULL && i < actors->n_actors; i++)
		if (actors->actors[i]->traceparent[0] != '\0')
			return (struct order_trace){ actors->actors[i]->traceparent,
						     actors->actors[i]->tracestate };
	return (struct order_trace){ "", "" };
}

static const char *stored_actor(struct rt_arena *arena, const struct order_record *record,
				uint64_t version)
{
	const Tandem__Order__V1__OrderActors *actors = read_actors(arena, record);

	for (size_t i = 0; actors != NULL && i < actors->n_actors; i++)
		if (actors->actors[i]->version == version)
			return actors->actors[i]->actor;
	return "";
}

const char *order_history_actor(struct rt_arena *arena, const struct order_record *record,
				const struct order_history_item *item)
{
	if (item->again)
		return "timer";
	switch (item->event) {
	case ORDER_EV_PLACED:
	case ORDER_EV_EXTENDED:
	case ORDER_EV_RETURNED:
	case ORDER_EV_CONFIRMED:
	case ORDER_EV_CANCELLED:
		return stored_actor(arena, record, item->version);
	case ORDER_EV_EXPIRED:
		return "timer";
	default:
		return "inventory";
	}
}

/* ---- record → Order ---- */

Google__Protobuf__Timestamp *order_timestamp(struct rt_arena *arena, int64_t unix_ms)
{
	Google__Protobuf__Timestamp *time = rt_arena_take(arena, sizeof(*time));
	int64_t seconds = unix_ms / 1000;
	int64_t ms = unix_ms % 1000;

	if (ms < 0) {
		seconds--;
		ms += 1000;
	}
	google__protobuf__timestamp__init(time);
	time->seconds = seconds;
	time->nanos = (int32_t)ms * 1000000;
	return time;
}

/* The state and times of a version, from the history. */
struct times {
	enum order_state state;
	int64_t created_ms, updated_ms, reserved_ms;
};
static bool read_times(const struct order_record *record, uint64_t version, struct times *ret)
{
	struct times times = { .state = ORDER_PENDING };
	struct order_history history;
	struct order_history_item item;

	order_history_begin(&history, record->history);
	while (history.version < version && order_history_next(&history, &item)) {
		if (item.again)
			continue;
		times.state = item.state;
		times.updated_ms = item.unix_ms;
		if (item.event == ORDER_EV_RESERVED)
			times.reserved_ms = item.unix_ms;
	}
	if (history.version != version)
		return false;
	times.created_ms = history.created_ms;
	if (version == record->version)
		times.state = record->state;
	*ret = times;
	return true;
}

static Tandem__Order__V1__OrderContent *read_content(struct rt_arena *arena,
						     const struct order_record *record)
{
	Tandem__Order__V1__OrderPlaced *placed =
		(void *)read_stored(arena, &tandem__order__v1__order_placed__descriptor,
				    record->placed, record->placed_length);

	return placed == NULL ? NULL : placed->content;
}

static void view_labels(struct rt_arena *arena, Tandem__Order__V1__Order *order,
			const Tandem__Order__V1__OrderContent *content)
{
	Tandem__Order__V1__Order__LabelsEntry *entries;

	if (content->n_labels == 0)
		return;
	order->labels = rt_arena_take(arena, content->n_labels * sizeof(*order->labels));
	entries = rt_arena_take(arena, content->n_labels * sizeof(*entries));
	for (size_t i = 0; i < content->n_labels; i++) {
		tandem__order__v1__order__labels_entry__init(&entries[i]);
		entries[i].key = content->labels[i]->key;
		entries[i].value = content->labels[i]->value;
		order->labels[i] = &entries[i];
	}
	order->n_labels = content->n_labels;
}

static void view_rejected(struct rt_arena *arena, Tandem__Order__V1__Order *order,
			  const struct order_record *record)
{
	Tandem__Order__V1__OrderRejected *rejected =
		(void *)read_stored(arena, &tandem__order__v1__order_rejected__descriptor,
				    record->detail, record->detail_length);

	order->status_reason = order_reason_rejected(arena, rejected);
	if (rejected == NULL)
		return;
	order->n_shortages = rejected->n_shortages;
	order->shortages = rejected->shortages;
}

static char *cancel_reason(struct rt_arena *arena, const struct order_record *record)
{
	Tandem__Order__V1__OrderCancelled *cancelled =
		(void *)read_stored(arena, &tandem__order__v1__order_cancelled__descriptor,
				    record->detail, record->detail_length);

	return order_reason_cancelled(arena, cancelled);
}

static char *expire_reason(struct rt_arena *arena, const struct order_record *record)
{
	Tandem__Order__V1__OrderExpired *expired =
		(void *)read_stored(arena, &tandem__order__v1__order_expired__descriptor,
				    record->detail, record->detail_length);

	return order_reason_expired(arena, expired);
}

const Tandem__Order__V1__OrderReturned *order_record_returned(struct rt_arena *arena,
							      const struct order_record *record)
{
	const Tandem__Order__V1__OrderReturned *returned;

	if (record->state != ORDER_CONFIRMED && record->state != ORDER_RETURNING)
		return NULL;
	returned = (const void *)read_stored(arena, &tandem__order__v1__order_returned__descriptor,
					     record->detail, record->detail_length);
	return returned != NULL && returned->n_returns > 0 ? returned : NULL;
}

static void view_returns(struct rt_arena *arena, Tandem__Order__V1__Order *order,
			 const struct order_record *record)
{
	const Tandem__Order__V1__OrderReturned *returned = order_record_returned(arena, record);

	if (returned == NULL)
		return;
	order->returns = returned->returns;
	order->n_returns = returned->n_returns;
}

static Tandem__Order__V1__OrderStatus view_status(enum order_state state)
{
	static const Tandem__Order__V1__OrderStatus statuses[ORDER_STATE_COUNT] = {
		[ORDER_PENDING] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING,
		[ORDER_RESERVED] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED,
		[ORDER_REJECTING] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED,
		[ORDER_REJECTED] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED,
		[ORDER_CONFIRMING] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CONFIRMED,
		[ORDER_CONFIRMED] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CONFIRMED,
		[ORDER_RETURNING] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CONFIRMED,
		[ORDER_CANCELLING] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED,
		[ORDER_CANCELLED] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED,
		[ORDER_EXPIRING] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_EXPIRED,
		[ORDER_EXPIRED] = TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_EXPIRED,
	};

	return statuses[state];
}

Tandem__Order__V1__Order *order_view(struct rt_arena *arena, const struct order_record *record,
				     Tandem__Order__V1__OrderContent *content, uint64_t version)
{
	Tandem__Order__V1__Order *order;
	struct times times;

	if (version == 0)
		version = record->version;
	if (content == NULL)
		content = read_content(arena, record);
	if (content == NULL || record->hold_ms < 0 || record->hold_ms > CHECK_HOLD_MAX_MS ||
	    !read_times(record, version, &times))
		return NULL;
	order = rt_arena_take(arena, sizeof(*order));
	tandem__order__v1__order__init(order);
	order->order_id = (char *)record->order_id;
	order->customer_id = content->customer_id;
	order->n_lines = content->n_lines;
	order->lines = content->lines;
	order->status = view_status(times.state);
	order->version = version;
	order->settled = order_state_settled(times.state);
	order->create_time = order_timestamp(arena, times.created_ms);
	order->update_time = times.updated_ms == times.created_ms
				     ? order->create_time
				     : order_timestamp(arena, times.updated_ms);
	view_labels(arena, order, content);
	switch (times.state) {
	case ORDER_RESERVED:
		order->hold_expire_time =
			order_timestamp(arena, times.reserved_ms + record->hold_ms);
		break;
	case ORDER_CONFIRMED:
	case ORDER_RETURNING:
		view_returns(arena, order, record);
		break;
	case ORDER_REJECTING:
	case ORDER_REJECTED:
		view_rejected(arena, order, record);
		break;
	case ORDER_CANCELLING:
	case ORDER_CANCELLED:
		order->status_reason = cancel_reason(arena, record);
		break;
	case ORDER_EXPIRING:
	case ORDER_EXPIRED:
		order->status_reason = expire_reason(arena, record);
		break;
	default:
		break;
	}
	return order;
}
