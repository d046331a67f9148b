/* audit_read.c - reads orders, reservations and timers without stopping anything: SCAN for the
 * names, then for each hundred of them one script that reads both keyspaces at one instant. */
#include <inttypes.h>
#include <string.h>

#include "audit.h"
#include "base/base.h"
#include "order/order_record.h"

#define BATCH       100
#define UNREAD_MAX  50000 /* entries of a stream that are looked at */
#define PENDING_MAX "5000"

/* ---- cases ---- */

static const char case_script[] = "local answers = {}\n"
				  "for i, id in ipairs(ARGV) do\n"
				  "	answers[i] = { redis.pcall('HGET', KEYS[1], id) or '',\n"
				  "		redis.pcall('HGET', KEYS[2], id) or '',\n"
				  "		redis.pcall('ZSCORE', KEYS[3], id) and 1 or 0 }\n"
				  "end\n"
				  "return answers\n";

/* Whether the history has one event for each version, up to this state. *ret_ms: of the last. */
static bool history_fits(const char *text, const struct audit_case *one, int64_t *ret_ms)
{
	struct order_history history;
	struct order_history_item item;

	*ret_ms = 0;
	order_history_begin(&history, text);
	while (order_history_next(&history, &item))
		if (item.event == ORDER_EV_RESERVED)
			*ret_ms = item.unix_ms;
	return order_history_at_end(&history) && history.version == one->version &&
	       history.state == one->state;
}

static uint32_t returned_of(const Tandem__Order__V1__OrderReturned *returned, const char *sku)
{
	for (size_t i = 0; returned != NULL && i < returned->n_lines; i++)
		if (strcmp(returned->lines[i]->sku, sku) == 0)
			return returned->lines[i]->quantity;
	return 0;
}

/* "sku=quantity sku=quantity" of what was ordered, "sku=quantity-returned" with what came back; NULL: it cannot be
 * read. */
static char *order_lines(struct rt_arena *arena, const struct order_record *record,
			 const Tandem__Order__V1__OrderReturned *returned)
{
	const ProtobufCMessageDescriptor *type = &tandem__order__v1__order_placed__descriptor;
	Tandem__Order__V1__OrderPlaced *message;
	struct rt_buf text = { 0 };
	struct rt_wire_fault fault;

	if (!rt_wire_check(type, record->placed, record->placed_length, &fault))
		return NULL;
	message = tandem__order__v1__order_placed__unpack(rt_arena_allocator(arena),
							  record->placed_length, record->placed);
	if (message == NULL || message->content == NULL || message->content->n_lines == 0)
		return NULL;
	for (size_t i = 0; i < message->content->n_lines; i++) {
		const Tandem__Order__V1__OrderLine *line = message->content->lines[i];
		uint32_t back = returned_of(returned, line->sku);

		rt_buf_printf(&text, "%s%s=%" PRIu32, i == 0 ? "" : " ", line->sku, line->quantity);
		if (back > 0)
			rt_buf_printf(&text, "-%" PRIu32, back);
	}
	rt_buf_add(&text, "", 1);
	return text.data;
}

/* *ret_lines: what was ordered; *ret_sold: the same with what came back, as its reservation should have it. */
static bool order_read(struct rt_arena *arena, struct audit_case *one, const redisReply *text,
		       char **ret_lines, char **ret_sold)
{
	struct order_record record;
	int64_t reserved_ms;

	if (text->type != REDIS_REPLY_STRING ||
	    !order_record_read(text->str, text->len, one->order_id, &record) ||
	    record.version < 1 || record.hold_ms < 1 || record.hold_ms > RT_TIME_MS_MAX)
		return false;
	*ret_lines = order_lines(arena, &record, NULL);
	if (*ret_lines == NULL)
		return false;
	*ret_sold = order_lines(arena, &record, order_record_returned(arena, &record));
	one->state = record.state;
	one->version = record.version;
	one->history_gap = !history_fits(record.history, one, &reserved_ms);
	if (one->state == ORDER_RESERVED)
		one->hold_until_ms = reserved_ms + record.hold_ms;
	return true;
}

bool audit_reservation(const char *text, enum stock_state *ret_state, const char **ret_lines)
{
	char word[16];
	uint64_t version;
	int64_t ms;
	int at = 0;

	if (sscanf(text, "%15[A-Z] %" SCNu64 " %" SCNd64 "%n", word, &version, &ms, &at) != 3 ||
	    text[at] != ' ')
		return false;
	*ret_lines = text + at + 1;
	if (!stock_state_parse(word, ret_state))
		return false;
	/* Behind the order's version whose request said what came back. */
	if (*ret_state == STOCK_RETURNED) {
		size_t digits = strspn(*ret_lines, "0123456789");

		if (digits == 0 || (*ret_lines)[digits] != ' ')
			return false;
		*ret_lines += digits + 1;
	}
	return true;
}

static void add_print(struct audit_case *one, const redisReply *text)
{
	one->fingerprint = audit_fingerprint(one->fingerprint, text->str == NULL ? "" : text->str,
					     text->str == NULL ? 0 : (size_t)text->len);
}

/* Makes a case of one answer of the script. False: Redis could not be asked for its parts. */
static bool case_read(struct audit_reader *reader, const char *id, const redisReply *answer)
{
	struct audit_case one = { .order_id = id,
				  .partition = reader->partition,
				  .fingerprint = 14695981039346656037U };
	const redisReply *order = answer->element[0], *record = answer->element[1];
	int partitions = reader->ctl->partitions;
	struct rt_arena arena = { 0 };
	const char *reserved = "";
	char *lines = NULL, *sold = NULL;
	bool holds, fit, good = true;

	one.ordered = order->type != REDIS_REPLY_STRING || order->len > 0;
	one.order_damaged = one.ordered && !order_read(&arena, &one, order, &lines, &sold);
	one.timed = ctl_number(answer->element[2]) != 0;
	if (record->type != REDIS_REPLY_STRING)
		one.reservation_damaged = true;
	else if (record->len > 0)
		one.reservation_damaged =
			!audit_reservation(ctl_text(record, ""), &one.stock, &reserved);
	holds = one.stock == STOCK_RESERVED || stock_state_sold(one.stock);
	fit = audit_lines_fit(sold != NULL ? sold : "", reserved, one.partition, partitions,
			      &one.split);
	/* While something comes back the reservation says so, or does not yet. */
	one.lines_differ = holds && sold != NULL && !fit && one.state != ORDER_RETURNING;
	one.lines = lines != NULL ? lines : "";
	add_print(&one, order);
	add_print(&one, record);
	one.fingerprint = audit_fingerprint(one.fingerprint, one.timed ? "t" : "", one.timed);
	if (partitions > 1)
		good = audit_parts_of(reader->ctl, reader->parts, reader->again, reserved, &one);
	if (good)
		reader->on_case(&one, reader->user);
	free((struct audit_part *)(uintptr_t)one.parts);
	free(lines);
	free(sold);
	rt_arena_done(&arena);
	return good;
}

/* What the script answers for all ids, at one instant. NULL: Redis could not be asked. */
static redisReply *read_at_once(struct audit_reader *reader)
{
	char orders[CTL_KEY], reservations[CTL_KEY], timers[CTL_KEY];
	struct rt_args args = { 0 };
	redisReply *reply;

	ctl_key(orders, "order", reader->partition, "orders");
	ctl_key(reservations, "inventory", reader->partition, "r");
	ctl_key(timers, "order", reader->partition, "timers");
	rt_args_str(&args, "EVAL");
	rt_args_str(&args, case_script);
	rt_args_int(&args, 3);
	rt_args_str(&args, orders);
	rt_args_str(&args, reservations);
	rt_args_str(&args, timers);
	for (size_t i = 0; i < reader->count; i++)
		rt_args_str(&args, reader->ids[i]);
	reply = ctl_redis_args(reader->ctl, &args, 0, false);
	rt_args_done(&args);
	return reply;
}

/* Reads by plain commands what the script answers for one id. The parts are of different instants, but
 * a violation is still proven: nothing has changed between the two looks, so there was an instant
 * between them at which all parts were as they were read. */
static bool read_plainly(struct audit_reader *reader, const char *id)
{
	char orders[CTL_KEY], reservations[CTL_KEY], timers[CTL_KEY];
	redisReply none = { .type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t) "" };
	redisReply timed = { .type = REDIS_REPLY_INTEGER }, *parts[3] = { 0 }, *all[3];
	const redisReply answer = { .type = REDIS_REPLY_ARRAY, .elements = 3, .element = all };
	bool good = true;

	ctl_key(orders, "order", reader->partition, "orders");
	ctl_key(reservations, "inventory", reader->partition, "r");
	ctl_key(timers, "order", reader->partition, "timers");
	parts[0] = ctl_redis_try(reader->ctl, "HGET", orders, id);
	parts[1] = ctl_redis_try(reader->ctl, "HGET", reservations, id);
	parts[2] = ctl_redis_try(reader->ctl, "ZSCORE", timers, id);
	for (size_t i = 0; i < RT_LENGTH(parts); i++) {
		good = good && parts[i] != NULL;
		all[i] = good && parts[i]->type == REDIS_REPLY_NIL ? &none : parts[i];
	}
	if (good) {
		timed.integer = parts[2]->type == REDIS_REPLY_STRING;
		all[2] = &timed;
		good = case_read(reader, id, &answer);
	}
	for (size_t i = 0; i < RT_LENGTH(parts); i++)
		if (parts[i] != NULL)
			freeReplyObject(parts[i]);
	return good;
}

bool audit_reader_flush(struct audit_reader *reader)
{
	redisReply *reply = NULL;
	bool good = true;

	if (reader->count == 0)
		return true;
	if (!reader->plain) {
		reader->ctl->denied = false;
		reader->ctl->deny_quietly = true;
		reply = read_at_once(reader);
		reader->ctl->deny_quietly = false;
		reader->plain = reply == NULL && reader->ctl->denied;
		good = reader->plain || (reply != NULL && reply->type == REDIS_REPLY_ARRAY &&
					 reply->elements == reader->count);
	}
	for (size_t i = 0; i < reader->count; i++) {
		if (good && reader->plain)
			good = read_plainly(reader, reader->ids[i]);
		else if (good && reply != NULL && reply->element[i]->elements == 3)
			good = case_read(reader, reader->ids[i], reply->element[i]);
		free(reader->ids[i]);
	}
	reader->count = 0;
	if (reply != NULL)
		freeReplyObject(reply);
	return good;
}

bool audit_reader_add(struct audit_reader *reader, int partition, const char *id)
{
	/* Those of a partition are read together. */
	if (reader->count > 0 && reader->partition != partition && !audit_reader_flush(reader))
		return false;
	reader->partition = partition;
	if (reader->ids == NULL)
		reader->ids = rt_alloc(BATCH * sizeof(*reader->ids));
	reader->ids[reader->count++] = rt_strdup(id);
	return reader->count < BATCH || audit_reader_flush(reader);
}

void audit_reader_done(struct audit_reader *reader)
{
	for (size_t i = 0; i < reader->count; i++)
		free(reader->ids[i]);
	free(reader->ids);
	reader->ids = NULL;
	reader->count = 0;
}

/* ---- events that wait to be read ---- */

static void add_subjects(struct audit_ids *ids, const struct ctl_entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		audit_ids_add(ids, entries->list[i].subject);
}

static bool add_range(struct ctl *ctl, struct audit_ids *ids, const char *context, const char *key,
		      const char *from, const char *to, bool *complete)
{
	const struct ctl_range range = {
		.context = context,
		.key = key,
		.from = from,
		.to = to,
		.count_max = UNREAD_MAX,
		.scan_max = UNREAD_MAX,
	};
	struct ctl_entries entries = { 0 };
	bool seen_all = true;
	bool good = ctl_entries_read(ctl, &range, &entries, &seen_all);

	*complete = *complete && seen_all;
	add_subjects(ids, &entries);
	ctl_entries_done(&entries);
	return good;
}

static bool add_pending(struct ctl *ctl, struct audit_ids *ids, const char *context,
			const char *key, const char *group, bool *complete)
{
	redisReply *pending = ctl_redis(ctl, "XPENDING", key, group, "-", "+", PENDING_MAX);
	bool good = pending != NULL;

	for (size_t i = 0; good && i < pending->elements; i++) {
		const redisReply *one = pending->element[i];
		const char *id = one->elements > 0 ? ctl_text(one->element[0], "") : "";
		bool whole = true;

		good = id[0] == '\0' || add_range(ctl, ids, context, key, id, id, &whole);
	}
	if (good && pending->elements == strtoul(PENDING_MAX, NULL, 10))
		*complete = false;
	if (pending != NULL)
		freeReplyObject(pending);
	return good;
}

static bool unread_of(struct ctl *ctl, struct audit_ids *ids, const char *context, int partition,
		      const char *group, bool *complete)
{
	struct ctl_stream stream;
	char key[CTL_KEY], from[64] = "-";
	redisReply *groups;
	bool found = false, good;

	ctl_key(key, context, partition, "events");
	if (!ctl_stream_groups(ctl, key, &stream, &groups))
		return false;
	if (groups == NULL)
		return true;
	for (size_t i = 0; i < groups->elements && !found; i++) {
		const redisReply *one = groups->element[i];

		if (strcmp(ctl_text(ctl_named(one, "name"), ""), group) != 0)
			continue;
		found = true;
		snprintf(from, sizeof(from), "(%s",
			 ctl_text(ctl_named(one, "last-delivered-id"), "0-0"));
	}
	freeReplyObject(groups);
	/* Without its group all entries count as unread. */
	good = add_range(ctl, ids, context, key, from, "+", complete);
	return good && (!found || add_pending(ctl, ids, context, key, group, complete));
}

/* What one reader has not read of a partition, or has set aside. */
static bool unread_by(struct ctl *ctl, struct audit_ids *ids, const struct ctl_reader *pair,
		      int partition, bool *complete)
{
	char aside[CTL_KEY];

	/* In this order, so that an event set aside in between is found once at least. */
	ctl_aside_key(aside, pair, partition);
	return unread_of(ctl, ids, pair->of, partition, pair->reader, complete) &&
	       add_range(ctl, ids, pair->reader, aside, "-", "+", complete);
}

bool audit_unread(struct ctl *ctl, struct audit_ids *ids, bool *ret_complete)
{
	bool good = true;

	*ret_complete = true;
	for (size_t i = 0; i < CTL_READERS && good; i++)
		for (int p = 0; p < ctl->partitions && good; p++)
			if (!ctl_context_follows(ctl_readers[i].reader))
				good = unread_by(ctl, ids, &ctl_readers[i], p, ret_complete);
	return good;
}
