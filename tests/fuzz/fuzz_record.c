/* fuzz_record.c - bytes as the record of an order in Redis: the order that order_view makes of it must
 * be one that any client can read. And the small parsers of ids, numbers, times and reservations. */
#include <inttypes.h>
#include <string.h>

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

/* A text as functions.lua stores it, with parts that may be wrong. */
static void make_text(struct fuzz *fuzz, struct rt_buf *ret)
{
	static const char *const states[] = { "PENDING",   "RESERVED",   "REJECTED",  "REJECTED~",
					      "CONFIRMED", "CONFIRMED~", "CANCELLED", "CANCELLED~",
					      "EXPIRED",   "EXPIRED~" };
	static const char *const histories[] = {
		"placed@1764000000000-1",
		"placed@1764000000000-1 reserved+5-2",
		"placed@1764000000000-1 rejected+5-2",
		"placed@1764000000000-1 reserved+5-2 confirmed+9-3 settled+10-4",
		"placed@1764000000000-1 again+3-2 reserved+5-2 cancelled+9-3 settled+10-4",
		"placed@1764000000000-1 expired+5-2",
	};
	char *state = pick(fuzz, states, RT_LENGTH(states));
	char *history = pick(fuzz, histories, RT_LENGTH(histories));
	int64_t version = fuzz_int(fuzz), hold_ms = fuzz_int(fuzz), attempt = fuzz_int(fuzz);
	size_t placed_length, detail_length;
	char *placed = fuzz_text(fuzz, &placed_length), *detail = fuzz_text(fuzz, &detail_length);

	rt_buf_printf(ret, "%s %" PRId64 " %" PRId64 " ", state, version, hold_ms);
	if (attempt != 1)
		rt_buf_printf(ret, "attempt=%" PRId64 " ", attempt);
	rt_buf_printf(ret, "%s\n%zu\n", history,
		      fuzz_byte(fuzz) % 8 == 7 ? (size_t)fuzz_byte(fuzz) : placed_length);
	rt_buf_add(ret, placed, placed_length);
	rt_buf_add(ret, detail, detail_length);
	free(state);
	free(history);
	free(placed);
	free(detail);
}

static void read_order(const char *text, size_t length)
{
	struct order_history history;
	struct order_history_item item;
	struct order_record record;

	if (!order_record_read(text, length, "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa", &record))
		return;
	/* Its parts are in the text, in order, after the history. */
	FUZZ_MUST(record.history >= text &&
		  memchr(record.history, '\n', (size_t)(text + length - record.history)) != NULL);
	FUZZ_MUST(record.placed >= (const uint8_t *)text);
	FUZZ_MUST(record.placed + record.placed_length + record.detail_length ==
		  (const uint8_t *)text + length);
	FUZZ_MUST((record.detail == NULL) == (record.detail_length == 0));
	view(&record);
	(void)order_created_ms(&record);
	order_history_begin(&history, record.history);
	while (order_history_next(&history, &item))
		FUZZ_MUST(item.unix_ms >= 0 && item.unix_ms <= RT_TIME_MS_MAX);
	FUZZ_MUST(history.at < (const char *)record.placed);
}

/* In a block of exactly its length, so that sanitizers find reads past its end. */
static void read_copy(const char *text, size_t length)
{
	char *copy = malloc(length);

	if (copy != NULL && length > 0)
		read_order(memcpy(copy, text, length), length);
	free(copy);
}

static void read_record(struct fuzz *fuzz)
{
	struct rt_buf text = { NULL, 0, 0 };

	make_text(fuzz, &text);
	read_copy(text.data, text.length);
	rt_buf_done(&text);
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
	read_copy(text, length);
	free(text);
	return 0;
}
