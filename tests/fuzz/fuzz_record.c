/* fuzz_record.c - bytes as the record of an order in Redis: the order that order_view makes of it must
 * be one that any client can read. And the small parsers of ids, numbers, times and reservations. */
#include "base/base.h"
#include "check.h"
#include "ctl/audit.h"
#include "fuzz.h"
#include "order/order_record.h"

static char *pick(struct fuzz *fuzz, const char *const *words, size_t count)
{
	uint8_t which = fuzz_byte(fuzz);

	return which < count ? rt_strdup(words[which]) : fuzz_text(fuzz, NULL);
}

static void view(const struct order_record *record)
{
	for (uint64_t version = 0; version <= RT_MIN(record->version, (uint64_t)9); version++) {
		struct rt_arena arena = { .chunks = NULL };
		Tandem__Order__V1__Order *order = order_view(&arena, record, NULL, version);
		struct rt_wire_fault fault;
		size_t length;
		uint8_t *packed;

		if (order != NULL) {
			packed = order_pack(&arena, &order->base, &length);
			FUZZ_MUST(rt_wire_check(&tandem__order__v1__order__descriptor, packed,
						length, &fault));
			FUZZ_MUST(order->create_time->seconds >= 0 &&
				  order->create_time->seconds <= RT_TIME_MS_MAX / 1000);
		}
		rt_arena_done(&arena);
	}
}

static void read_record(struct fuzz *fuzz)
{
	static const char *const statuses[] = { "PENDING",   "RESERVED",  "REJECTED",
						"CONFIRMED", "CANCELLED", "EXPIRED" };
	static const char *const histories[] = {
		"placed@1764000000000-1",
		"placed@1764000000000-1 reserved+5-2",
		"placed@1764000000000-1 rejected+5-2",
		"placed@1764000000000-1 reserved+5-2 confirmed+9-3 settled+10-4",
		"placed@1764000000000-1 again+3-2 reserved+5-2 cancelled+9-3 settled+10-4",
		"placed@1764000000000-1 expired+5-2",
	};
	struct order_history history;
	struct order_history_item item;
	struct order_record record = { .order_id = "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa" };
	char *status = pick(fuzz, statuses, RT_LENGTH(statuses));
	char *text = pick(fuzz, histories, RT_LENGTH(histories));
	char *placed, *detail;

	record.history = text;
	record.version = (uint64_t)fuzz_int(fuzz);
	record.hold_ms = fuzz_int(fuzz);
	record.attempt = (uint32_t)fuzz_int(fuzz);
	placed = fuzz_text(fuzz, &record.placed_length);
	detail = fuzz_text(fuzz, &record.detail_length);
	record.placed = (const uint8_t *)placed;
	record.detail = (const uint8_t *)detail;
	if (order_state_parse(status, fuzz_byte(fuzz) & 1, &record.state))
		view(&record);
	(void)order_created_ms(&record);
	order_history_begin(&history, text);
	while (order_history_next(&history, &item))
		FUZZ_MUST(item.unix_ms >= 0 && item.unix_ms <= RT_TIME_MS_MAX);
	free(status);
	free(text);
	free(placed);
	free(detail);
}

static void read_text(const char *text, size_t length)
{
	char *shown = rt_text_shown(text, length), *again = rt_text_shown(shown, strlen(shown));
	char host[256], time[RT_TIME_TEXT];
	enum stock_state state;
	const char *lines;
	uint64_t ms, n;
	int64_t number;
	int port;

	FUZZ_MUST(rt_text_printable(shown, NULL) && strcmp(shown, again) == 0);
	FUZZ_MUST(rt_utf8_valid(shown, strlen(shown)));
	if (ctl_stream_id(text, &ms, &n)) {
		number = ctl_stream_id_ms(text);
		FUZZ_MUST(number >= 0 && number <= RT_TIME_MS_MAX);
		rt_time_format(number, time);
	}
	if (rt_time_parse(text, &number)) {
		rt_time_format(number, time);
		FUZZ_MUST(strcmp(time, text) == 0);
	}
	if (audit_reservation(text, &state, &lines))
		FUZZ_MUST(lines > text && lines <= text + strlen(text));
	(void)rt_parse_int(text, INT64_MIN, INT64_MAX, &number);
	(void)rt_parse_duration(text, &number);
	(void)rt_parse_size(text, &number);
	(void)rt_parse_listen(text, host, &port);
	(void)check_order_id(text);
	free(shown);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = { data, data + size };
	size_t length;
	char *text;

	if (fuzz_byte(&fuzz) % 2 == 0) {
		read_record(&fuzz);
		return 0;
	}
	text = fuzz_text(&fuzz, &length);
	read_text(text, length);
	free(text);
	return 0;
}
