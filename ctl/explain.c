/* explain.c - tandemctl explain: an order's whole history in both domains, from what Redis holds.
 *
 *   read_order         the order's record; its history has the stream id of each of its events
 *   add_order_events   the events, and where each request is on its way to inventory
 *   add_answers        inventory's events about the order, and where the last is on its way back
 *   add_asides         the order's events that a service could not process yet, and tries again
 *   add_dead_letters   the order's events that a service could not process
 *   read_reservation, read_parts, read_timer, read_readers
 *   print              the history in order of time, then why, then what is next
 *
 * The services go on meanwhile, so the parts may be of slightly different times. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "commands.h"
#include "explain.h"
#include "order/order_record.h"

#define SCAN_MAX 200000 /* inventory's entries that are searched for the order's */

struct happened {
	int64_t unix_ms;
	size_t number; /* in the order of finding: breaks ties */
	const char *context;
	char *kind, *text;
	char stream_id[CTL_PLACE];
	uint64_t version;  /* 0: none */
	const char *actor; /* "": not known, or nobody's doing */
	bool follows;      /* the order's event follows an answer of inventory */
};

struct explain {
	const char *order_id, *sku; /* options */
	bool reservation;
	struct ctl *ctl;
	int partition;    /* of the order */
	redisReply *text; /* the order, as it is stored */
	struct order_record record;
	struct rt_arena arena;
	Tandem__Order__V1__Order *order;
	struct happened *list;
	size_t count, capacity;
	struct explain_facts facts;
	bool searched_all; /* inventory's stream was read to its end */
	char *reservation_text;
	bool gone;                       /* Redis does not have it */
	char trace_id[RT_TRACE_ID_TEXT]; /* "": its id says none, and it began no other */
	char **parts;                    /* of the reservation, by partition; NULL: there is none */
};

static void add(struct explain *explain, int64_t unix_ms, const char *context, const char *kind,
		const char *stream_id, uint64_t version, char *text)
{
	struct happened *happened;

	explain->list =
		rt_grow(explain->list, explain->count, &explain->capacity, sizeof(*happened));
	happened = &explain->list[explain->count];
	*happened = (struct happened){
		.unix_ms = unix_ms,
		.number = explain->count++,
		.context = context,
		.kind = rt_strdup(kind),
		.text = text,
		.version = version,
		.actor = "",
	};
	snprintf(happened->stream_id, sizeof(happened->stream_id), "%s", stream_id);
}

/* When an entry was written: its time field, else its id. The id may be later than the clock, because
 * ids always grow. */
static int64_t written_ms(const char *time, const char *stream_id)
{
	int64_t unix_ms;

	return rt_time_parse(time, &unix_ms) ? unix_ms : ctl_stream_id_ms(stream_id);
}

/* ---- the order ---- */

/* Looks for the order in the partition that its id says, or in all. False: Redis could not be asked. */
static bool find_order(struct explain *explain)
{
	int partition = ctl_order_partition(explain->ctl, explain->order_id);
	int end = partition < 0 ? explain->ctl->partitions : partition + 1;

	for (int p = RT_MAX(partition, 0); p < end; p++) {
		char key[CTL_KEY];

		ctl_key(key, "order", p, "orders");
		freeReplyObject(explain->text);
		explain->text = ctl_redis(explain->ctl, "HGET", key, explain->order_id);
		if (explain->text == NULL)
			return false;
		explain->partition = p;
		if (explain->text->type == REDIS_REPLY_STRING)
			break;
	}
	return true;
}

/* CTL_NEGATIVE: the order does not exist, or its record is damaged; `gone`: the archive may have it. */
static int read_order(struct explain *explain)
{
	struct order_record *record = &explain->record;

	if (ctl_partitions(explain->ctl) == 0 || !find_order(explain))
		return CTL_UNAVAILABLE;
	if (explain->text->type != REDIS_REPLY_STRING) {
		explain->gone = check_order_id(explain->order_id);
		if (explain->gone)
			return CTL_NEGATIVE;
		ctl_error("no such order: %s", explain->order_id);
		return CTL_NEGATIVE;
	}
	if (order_record_read(explain->text->str, explain->text->len, explain->order_id, record))
		explain->order = order_view(&explain->arena, record, NULL, 0);
	if (explain->order == NULL) {
		ctl_error("the record of %s in order:{%d}:orders is damaged", explain->order_id,
			  explain->partition);
		return CTL_NEGATIVE;
	}
	rt_trace_find(order_record_trace(&explain->arena, record).traceparent, explain->order_id,
		      explain->trace_id);
	explain->facts.state = record->state;
	explain->facts.status_reason = explain->order->status_reason;
	explain->facts.attempt = record->attempt;
	return CTL_OK;
}

/* ---- deliveries ---- */

static bool is_event(const struct explain *explain, const struct ctl_entry *entry, uint64_t seq)
{
	return strcmp(entry->subject, explain->order_id) == 0 &&
	       strtoull(entry->seq, NULL, 10) == seq;
}

/* Is the event still in the stream? *ret_behind: the number of events after it in its entry. */
static bool find_event(struct explain *explain, const char *key,
		       const struct explain_delivery *delivery, bool *ret_exists,
		       uint64_t *ret_behind)
{
	redisReply *reply =
		ctl_redis(explain->ctl, "XRANGE", key, delivery->stream_id, delivery->stream_id);
	struct rt_arena arena = { 0 };
	struct ctl_entry *events = NULL;
	size_t count, i = 0;

	if (reply == NULL)
		return false;
	count = reply->elements != 1 ? 0
				     : ctl_entry_read(reply->element[0], "", 0, &arena, &events);
	while (i < count && !is_event(explain, &events[i], delivery->seq))
		i++;
	*ret_exists = i < count;
	*ret_behind = i < count ? count - 1 - i : 0;
	rt_arena_done(&arena);
	freeReplyObject(reply);
	return true;
}

/* The last entry that was delivered to the group; "" when there is no such group. */
static bool last_delivered(struct explain *explain, const char *key, const char *group,
			   char ret[48])
{
	redisReply *groups = ctl_redis_try(explain->ctl, "XINFO", "GROUPS", key);

	if (groups == NULL)
		return false;
	ret[0] = '\0';
	for (size_t i = 0; groups->type == REDIS_REPLY_ARRAY && i < groups->elements; i++) {
		if (strcmp(ctl_text(ctl_named(groups->element[i], "name"), ""), group) == 0)
			snprintf(ret, 48, "%s",
				 ctl_text(ctl_named(groups->element[i], "last-delivered-id"),
					  "0-0"));
	}
	freeReplyObject(groups);
	return true;
}

/* Fills the delivery when its entry is pending. */
static bool read_pending(struct explain *explain, const char *key, const char *group,
			 struct explain_delivery *delivery)
{
	redisReply *reply = ctl_redis(explain->ctl, "XPENDING", key, group, delivery->stream_id,
				      delivery->stream_id, "1");
	const redisReply *one;

	if (reply == NULL)
		return false;
	if (reply->elements == 1 && reply->element[0]->type == REDIS_REPLY_ARRAY &&
	    reply->element[0]->elements == 4) {
		one = reply->element[0];
		delivery->where = EXPLAIN_PENDING;
		snprintf(delivery->consumer, sizeof(delivery->consumer), "%s",
			 ctl_text(one->element[1], "?"));
		delivery->idle_ms =
			RT_MIN(ctl_ms(ctl_number(one->element[2])), explain->facts.now_ms);
		delivery->deliveries = ctl_number(one->element[3]);
	}
	freeReplyObject(reply);
	return true;
}

/* The number of events between the last delivered one and one that `behind` others follow in the entry `until`. */
static int64_t events_between(const char *after, const char *until, uint64_t behind)
{
	uint64_t ms, a = 0, b = 0;

	(void)ctl_stream_id(after, &ms, &a);
	(void)ctl_stream_id(until, &ms, &b);
	return b > a + behind ? (int64_t)RT_MIN(b - a - behind - 1, (uint64_t)INT64_MAX) : 0;
}

/* Finds where the event with delivery->stream_id is on its way to `group`. */
static bool locate(struct explain *explain, const char *key, const char *group,
		   struct explain_delivery *delivery)
{
	char delivered[48];
	bool exists = false;
	uint64_t behind = 0;

	delivery->where = EXPLAIN_NO_EVENT;
	if (!last_delivered(explain, key, group, delivered) ||
	    !find_event(explain, key, delivery, &exists, &behind))
		return false;
	if (delivered[0] == '\0') {
		delivery->where = exists ? EXPLAIN_QUEUED : EXPLAIN_LOST;
		return true;
	}
	if (ctl_stream_id_compare(delivery->stream_id, delivered) > 0) {
		delivery->where = exists ? EXPLAIN_QUEUED : EXPLAIN_LOST;
		delivery->ahead = events_between(delivered, delivery->stream_id, behind);
		return true;
	}
	delivery->where = EXPLAIN_DONE;
	return read_pending(explain, key, group, delivery);
}

/* Adds a pending delivery to the list: it happens now. */
static void add_delivery(struct explain *explain, const char *context,
			 const struct explain_delivery *delivery)
{
	char age[CTL_AGE];

	if (delivery->where != EXPLAIN_PENDING)
		return;
	ctl_age(age, delivery->idle_ms);
	add(explain, explain->facts.now_ms - delivery->idle_ms, context, "delivery",
	    delivery->stream_id, 0,
	    rt_printf("%s is with consumer %s for %s, delivery %" PRId64 ", not acknowledged",
		      delivery->type, delivery->consumer, age, delivery->deliveries));
}

/* ---- events ---- */

static char *event_text(const struct ctl_entry *entry)
{
	const char *why = "";
	struct rt_buf text = { 0 };
	json_t *data = ctl_bytes_json(entry->type, entry->data, entry->data_length, false, &why);

	if (entry->attempt[0] != '\0')
		rt_buf_printf(&text, "attempt %s ", entry->attempt);
	if (entry->replayed[0] != '\0')
		rt_buf_printf(&text, "replayed %s ", entry->replayed);
	if (data != NULL)
		ctl_json_line(data, &text);
	else
		rt_buf_printf(&text, "(%s)", why);
	if (entry->traceparent[0] != '\0')
		rt_buf_printf(&text, " trace %s", entry->traceparent);
	if (entry->tracestate[0] != '\0')
		rt_buf_printf(&text, " %s", entry->tracestate);
	json_decref(data);
	rt_buf_add(&text, "", 1);
	return text.data;
}

/* Adds one item of the history, with its entry when the stream still has it. */
static bool add_order_event(struct explain *explain, const char *key,
			    const struct order_history_item *item)
{
	const char *type = order_event_type(item->event);
	struct ctl_entry *entries = NULL, *entry = NULL;
	struct rt_arena arena = { 0 };
	redisReply *reply =
		ctl_redis(explain->ctl, "XRANGE", key, item->stream_id, item->stream_id);
	size_t count;

	if (reply == NULL)
		return false;
	count = reply->elements != 1 ? 0
				     : ctl_entry_read(reply->element[0], "order",
						      explain->partition, &arena, &entries);
	for (size_t i = 0; i < count && entry == NULL; i++)
		if (is_event(explain, &entries[i], item->version))
			entry = &entries[i];
	if (entry != NULL)
		add(explain, item->unix_ms, "order", ctl_short_type(entry->type), item->stream_id,
		    item->version, event_text(entry));
	else
		add(explain, item->unix_ms, "order",
		    item->again ? "asked again" : ctl_short_type(type == NULL ? "?" : type),
		    item->stream_id, item->version, rt_strdup("(no longer in the stream)"));
	explain->list[explain->count - 1].follows = !order_state_waits(item->state);
	explain->list[explain->count - 1].actor =
		order_history_actor(&explain->arena, &explain->record, item);
	rt_arena_done(&arena);
	freeReplyObject(reply);
	return true;
}

static bool add_order_events(struct explain *explain)
{
	struct explain_delivery *request = &explain->facts.request;
	struct order_history history;
	struct order_history_item item;
	char key[CTL_KEY];

	ctl_key(key, "order", explain->partition, "events");
	order_history_begin(&history, explain->record.history);
	while (order_history_next(&history, &item)) {
		const char *type = order_event_type(item.event);

		if (!add_order_event(explain, key, &item))
			return false;
		if (!order_state_waits(item.state))
			continue; /* it asks nothing of inventory */
		if (!item.again && type != NULL)
			snprintf(request->type, sizeof(request->type), "%s", ctl_short_type(type));
		snprintf(request->stream_id, sizeof(request->stream_id), "%s", item.stream_id);
		request->seq = item.version;
	}
	if (request->stream_id[0] == '\0')
		return true;
	if (!locate(explain, key, "inventory", request))
		return false;
	add_delivery(explain, "inventory", request);
	return true;
}

/* Whether an event can be the answer to the order's last request. */
static bool is_answer(const struct explain *explain, const char *type)
{
	bool reserved = strcmp(type, stock_answer_type(STOCK_ANS_RESERVED)) == 0;

	return explain->facts.state == ORDER_PENDING || !reserved;
}

static bool add_answers(struct explain *explain)
{
	struct explain_delivery *answer = &explain->facts.answer;
	struct ctl_entries entries = { 0 };
	const struct ctl_filter filter = { .order = explain->order_id };
	char from[32], key[CTL_KEY];
	const struct ctl_range range = {
		.context = "inventory",
		.partition = explain->partition,
		.key = key,
		.from = from,
		.to = "+",
		.count_max = 1000,
		.scan_max = SCAN_MAX,
		.filter = &filter,
	};
	bool good;

	ctl_key(key, "inventory", explain->partition, "events");
	/* The clocks of two machines may differ a little. */
	snprintf(from, sizeof(from), "%" PRId64,
		 RT_MAX(0, order_created_ms(&explain->record) - 60000));
	good = ctl_entries_read(explain->ctl, &range, &entries, &explain->searched_all);
	for (size_t i = 0; i < entries.count; i++) {
		const struct ctl_entry *entry = &entries.list[i];
		const char *type = ctl_short_type(entry->type);
		int64_t version = 0;

		(void)rt_parse_int(entry->seq, 0, INT64_MAX, &version);
		add(explain, written_ms(entry->time, entry->stream_id), "inventory", type,
		    entry->stream_id, (uint64_t)version, event_text(entry));
		explain->list[explain->count - 1].actor = "inventory";
		if (!is_answer(explain, entry->type))
			continue;
		snprintf(answer->type, sizeof(answer->type), "%s", type);
		snprintf(answer->stream_id, sizeof(answer->stream_id), "%s", entry->stream_id);
		answer->seq = (uint64_t)version;
	}
	ctl_entries_done(&entries);
	if (good && answer->stream_id[0] != '\0') {
		good = locate(explain, key, "order", answer);
		add_delivery(explain, "order", answer);
	}
	return good;
}

/* ---- events set aside ---- */

/* The delivery for which the order waits, if this is its event, set aside or dead; else NULL. */
static struct explain_delivery *delivery_of(struct explain *explain, const struct ctl_entry *entry)
{
	struct explain_delivery *delivery = strcmp(entry->context, "order") == 0
						    ? &explain->facts.answer
						    : &explain->facts.request;

	if (strcmp(entry->dead_stream_id, delivery->stream_id) != 0 ||
	    !is_event(explain, entry, delivery->seq))
		return NULL;
	return delivery;
}

static bool add_asides(struct explain *explain)
{
	struct ctl_asides asides = { 0 };
	bool good = ctl_asides_read(explain->ctl, explain->partition, explain->order_id, &asides);

	for (size_t i = 0; i < asides.count; i++) {
		const struct ctl_aside *aside = &asides.list[i];
		const struct ctl_entry *event = aside->event;
		struct explain_delivery *delivery = delivery_of(explain, event);
		char *waits = ctl_aside_waits(aside);

		add(explain, aside->since_ms, event->context, "set aside", event->stream_id, 0,
		    rt_printf("%s (%s) failed %" PRId64 " time%s and waits for %s",
			      ctl_short_type(event->type), event->dead_stream_id, aside->failed,
			      aside->failed == 1 ? "" : "s", waits));
		if (delivery != NULL) {
			delivery->where = EXPLAIN_ASIDE;
			delivery->aside_ms = RT_MAX(0, explain->facts.now_ms - aside->since_ms);
			delivery->failed = aside->failed;
			snprintf(delivery->waits, sizeof(delivery->waits), "%s", waits);
		}
		free(waits);
	}
	ctl_asides_done(&asides);
	return good;
}

/* ---- dead letters ---- */

static void set_dead(const struct ctl *ctl, struct explain_delivery *delivery,
		     const struct ctl_entry *entry)
{
	delivery->where = EXPLAIN_DEAD;
	snprintf(delivery->type, sizeof(delivery->type), "%s", ctl_short_type(entry->type));
	ctl_place(delivery->stream_id, ctl, entry->partition, entry->stream_id);
	snprintf(delivery->reason, sizeof(delivery->reason), "%s", entry->reason);
}

static bool add_dead_letters(struct explain *explain)
{
	struct ctl_entries entries = { 0 };
	bool good = true;

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		char key[CTL_KEY];

		ctl_key(key, ctl_contexts[i].name, explain->partition, "dead");
		good = ctl_entries_about(explain->ctl, ctl_contexts[i].name, explain->partition,
					 key, explain->order_id, &entries) &&
		       good;
	}
	for (size_t i = 0; i < entries.count; i++) {
		const struct ctl_entry *entry = &entries.list[i];
		struct explain_delivery *delivery = delivery_of(explain, entry);

		add(explain, written_ms(entry->dead_time, entry->stream_id), entry->context,
		    "dead letter", entry->stream_id, 0,
		    rt_printf("%s (%s) was given up after %s deliveries: %s",
			      ctl_short_type(entry->type), entry->dead_stream_id, entry->deliveries,
			      entry->reason));
		if (delivery != NULL)
			set_dead(explain->ctl, delivery, entry);
	}
	ctl_entries_done(&entries);
	return good;
}

/* ---- the rest ---- */

static bool read_reservation(struct explain *explain)
{
	char key[CTL_KEY], state[16] = "";
	redisReply *reply;
	const char *text;

	ctl_key(key, "inventory", explain->partition, "r");
	reply = ctl_redis(explain->ctl, "HGET", key, explain->order_id);
	text = ctl_text(reply, "");
	if (reply == NULL)
		return false;
	explain->facts.reservation = STOCK_NONE;
	if (reply->type == REDIS_REPLY_STRING) {
		explain->reservation_text = rt_text_shown(reply->str, reply->len);
		snprintf(state, sizeof(state), "%.*s",
			 (int)RT_MIN(strcspn(text, " "), sizeof(state) - 1), text);
		if (!stock_state_parse(state, &explain->facts.reservation))
			ctl_error("the reservation's state is not known: %s",
				  explain->reservation_text);
	}
	freeReplyObject(reply);
	return true;
}

/* The parts of the reservation, in whatever partition: one that the record does not name is shown, too. */
static bool read_parts(struct explain *explain)
{
	int count = explain->ctl->partitions;

	explain->parts = rt_alloc((size_t)count * sizeof(char *));
	for (int q = 0; q < count && count > 1; q++) {
		char key[CTL_KEY];
		redisReply *reply;

		ctl_key(key, "inventory", q, "parts");
		reply = ctl_redis(explain->ctl, "HGET", key, explain->order_id);
		if (reply == NULL)
			return false;
		if (reply->type == REDIS_REPLY_STRING)
			explain->parts[q] = rt_text_shown(reply->str, reply->len);
		freeReplyObject(reply);
	}
	return true;
}

/* A score may be any double. */
static int64_t score_ms(const char *text)
{
	double score = strtod(text, NULL);

	if (!(score > 0))
		return 0;
	return score < (double)RT_TIME_MS_MAX ? (int64_t)score : RT_TIME_MS_MAX;
}

static bool read_timer(struct explain *explain)
{
	char key[CTL_KEY];
	redisReply *reply;
	const char *text;

	ctl_key(key, "order", explain->partition, "timers");
	reply = ctl_redis(explain->ctl, "ZSCORE", key, explain->order_id);
	text = ctl_text(reply, NULL);
	if (reply == NULL)
		return false;
	explain->facts.timer_ms = text == NULL ? -1 : score_ms(text);
	if (text != NULL)
		add(explain, explain->facts.timer_ms, "order", "timer", "", 0,
		    rt_strdup(explain->facts.state == ORDER_RESERVED
				      ? "the hold runs out"
				      : "inventory is asked again, or the order expires"));
	freeReplyObject(reply);
	return true;
}

static bool read_readers(struct explain *explain, const char *context, const char *group,
			 struct ctl_readers *readers)
{
	char key[CTL_KEY];

	ctl_key(key, context, explain->partition, "events");
	return ctl_readers_read(explain->ctl, key, group, strlen(group), readers);
}

/* ---- printing ---- */

/* The order within a context is known. Of events of both contexts in the same millisecond, merge puts
 * the cause before its effect. */
static int by_context(const void *a, const void *b)
{
	const struct happened *one = a, *other = b;
	int order = strcmp(other->context, one->context); /* "order" first */

	if (order != 0)
		return order;
	if (one->unix_ms != other->unix_ms)
		return one->unix_ms < other->unix_ms ? -1 : 1;
	return one->number < other->number ? -1 : 1;
}

/* Puts the list in order of time. */
static void merge(struct explain *explain)
{
	struct happened *merged = rt_alloc((explain->count + 1) * sizeof(*merged));
	size_t order = 0, middle = 0, inventory, count = 0;

	if (explain->count > 1)
		qsort(explain->list, explain->count, sizeof(*explain->list), by_context);
	while (middle < explain->count && strcmp(explain->list[middle].context, "order") == 0)
		middle++;
	inventory = middle;
	while (order < middle || inventory < explain->count) {
		const struct happened *a = &explain->list[order];
		const struct happened *b = &explain->list[inventory];
		bool first =
			order < middle && (inventory == explain->count || a->unix_ms < b->unix_ms ||
					   (a->unix_ms == b->unix_ms && !a->follows));

		merged[count++] = explain->list[first ? order++ : inventory++];
	}
	free(explain->list);
	explain->list = merged;
}

static json_t *parts_json(const struct explain *explain)
{
	json_t *parts = json_array();

	for (int q = 0; q < explain->ctl->partitions; q++)
		if (explain->parts[q] != NULL)
			json_array_append_new(parts, json_pack("{s:i, s:o}", "partition", q, "text",
							       ctl_json_text(explain->parts[q])));
	return parts;
}

static void print_json(const struct explain *explain, const char *because, const char *next)
{
	int64_t timer_ms = explain->facts.timer_ms;
	json_t *events = json_array(), *json;

	for (size_t i = 0; i < explain->count; i++) {
		const struct happened *happened = &explain->list[i];
		char time[RT_TIME_TEXT];

		rt_time_format(happened->unix_ms, time);
		json_array_append_new(events,
				      json_pack("{s:s, s:s, s:o, s:o, s:o, s:I, s:o}", "time", time,
						"context", happened->context, "kind",
						ctl_json_text(happened->kind), "text",
						ctl_json_text(happened->text), "stream_id",
						ctl_json_text(happened->stream_id), "version",
						(json_int_t)happened->version, "actor",
						ctl_json_text(happened->actor)));
	}
	json = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "trace_id",
			 ctl_json_text(explain->trace_id), "order",
			 ctl_message_json(&explain->order->base, true), "reservation",
			 ctl_json_text(explain->reservation_text), "timer_ms",
			 timer_ms < 0 ? json_null() : json_integer(timer_ms), "events", events,
			 "because", ctl_json_text(because), "next", ctl_json_text(next));
	if (explain->ctl->partitions > 1) {
		json_object_set_new(json, "partition", json_integer(explain->partition));
		json_object_set_new(json, "parts", parts_json(explain));
	}
	ctl_json_print(json);
}

static void print_people(const struct explain *explain, const char *because, const char *next)
{
	struct ctl_table table =
		CTL_TABLE("TIME", "CONTEXT", "KIND", "VERSION", "STREAM_ID", "BY", "TEXT");
	char *why = rt_text_shown(because, strlen(because));
	char *then = rt_text_shown(next, strlen(next));

	for (size_t i = 0; i < explain->count; i++) {
		const struct happened *happened = &explain->list[i];
		char time[RT_TIME_TEXT], version[24] = "";

		rt_time_format(happened->unix_ms, time);
		if (happened->version > 0)
			snprintf(version, sizeof(version), "%" PRIu64, happened->version);
		ctl_cell(&table, "%s", time);
		ctl_cell(&table, "%s", happened->context);
		ctl_cell(&table, "%s", happened->kind);
		ctl_cell(&table, "%s", version);
		ctl_cell(&table, "%s", happened->stream_id);
		ctl_cell(&table, "%s", happened->actor);
		ctl_cell(&table, "%s", happened->text);
	}
	ctl_table_print(&table);
	printf("\nTrace:       %s\n", explain->trace_id);
	printf("Reservation: %s\n",
	       explain->reservation_text == NULL ? "none" : explain->reservation_text);
	if (explain->ctl->partitions > 1)
		printf("Partition:   %d\n", explain->partition);
	for (int q = 0; q < explain->ctl->partitions; q++)
		if (explain->parts[q] != NULL)
			printf("Part in %-4d %s\n", q, explain->parts[q]);
	if (!explain->searched_all)
		printf("Only the first %d of inventory's events since the order was placed were "
		       "searched.\n",
		       SCAN_MAX);
	printf("\nWhy:  %s\nNext: %s\n", why, then);
	free(why);
	free(then);
}

static void print(struct explain *explain)
{
	struct rt_buf because = { 0 }, next = { 0 };

	merge(explain);
	explain_because(&explain->facts, &because);
	explain_next(&explain->facts, &next);
	if (explain->ctl->json)
		print_json(explain, because.data, next.data);
	else
		print_people(explain, because.data, next.data);
	rt_buf_done(&because);
	rt_buf_done(&next);
}

/* ---- the command ---- */

static int explain_run(struct ctl *ctl, void *options)
{
	struct explain *explain = options;
	struct explain_facts *facts = &explain->facts;
	int code;

	if (explain->sku != NULL)
		return explain_sku(ctl, explain->sku);
	if (explain->reservation)
		return explain_reservation(ctl, explain->order_id);
	explain->ctl = ctl;
	code = read_order(explain);
	facts->now_ms = ctl_now_ms(ctl);
	if (explain->gone)
		code = explain_archived(ctl, explain->order_id);
	else if (code == CTL_OK) {
		/* A part that cannot be read does not hide the others; stderr names it. */
		bool good = add_order_events(explain);

		good = add_answers(explain) && good;
		good = add_asides(explain) && good;
		good = add_dead_letters(explain) && good;
		good = read_reservation(explain) && good;
		good = read_parts(explain) && good;
		good = read_timer(explain) && good;
		good = read_readers(explain, "order", "inventory", &facts->inventory) && good;
		good = read_readers(explain, "inventory", "order", &facts->order) && good;
		if (good || ctl_redis_up(ctl))
			print(explain);
		if (!good)
			code = CTL_UNAVAILABLE;
	}
	for (size_t i = 0; i < explain->count; i++) {
		free(explain->list[i].kind);
		free(explain->list[i].text);
	}
	free(explain->list);
	free(explain->reservation_text);
	for (int q = 0; explain->parts != NULL && q < ctl->partitions; q++)
		free(explain->parts[q]);
	free(explain->parts);
	rt_arena_done(&explain->arena);
	freeReplyObject(explain->text);
	return code;
}

enum { KEY_RESERVATION = 256 };

static error_t explain_parse(int key, char *arg, struct argp_state *state)
{
	struct explain *explain = ctl_options(state);

	switch (key) {
	case 's':
		explain->sku = arg;
		return 0;
	case KEY_RESERVATION:
		explain->reservation = true;
		return 0;
	case ARGP_KEY_ARG:
		if (explain->order_id != NULL)
			argp_error(state, "one order at a time");
		if (strlen(arg) > 128)
			argp_error(state, "not an order id: %s", arg);
		explain->order_id = arg;
		return 0;
	case ARGP_KEY_END:
		if (explain->order_id == NULL && explain->sku == NULL)
			argp_error(state, "which order?");
		if (explain->sku != NULL && (explain->order_id != NULL || explain->reservation))
			argp_error(state, "an order or a SKU, not both");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option explain_options[] = {
	{ "reservation", KEY_RESERVATION, NULL, 0,
	  "Only what inventory holds for the order, why, and what ends it", 0 },
	{ "sku", 's', "SKU", 0, "Not an order: the counters of a SKU, and which orders hold it",
	  0 },
	{ 0 },
};
const struct ctl_command ctl_explain = {
	.name = "explain",
	.about = "Explains an order, a reservation or a SKU; what is next",
	.arguments = "[ORDER_ID]",
	.text = "Shows an order's whole history in both domains: events and who did what, "
		"deliveries, retries, dead letters, timer, reservation; then why it has its status "
		"and what happens next. Of an order that is in the archive alone, what that has. "
		"Or "
		"what a reservation or a SKU waits for.\vExamples:\n"
		"  tandemctl explain ord_…\n"
		"  tandemctl explain --json ord_… | jq -r '.because, .next'\n"
		"  tandemctl explain --reservation ord_…\n"
		"  tandemctl explain --sku tea",
	.options = explain_options,
	.parse = explain_parse,
	.options_size = sizeof(struct explain),
	.run = explain_run,
};
