/* world_check.c - whether every promise was kept: compares the stored data with what the clients
 * were answered.
 *
 * Always: received = available + reserved + committed for each SKU; reserved and committed are the
 * sums of the whole reservations and of the parts of split ones, without what came back; an order that is not settled has a timer, and of
 * one that is inventory knows all that came back; an event id has one content
 * (until inventory forgets the order: then its events begin again); what is said to be gone is not there; what is low is
 * said, once (world_low.c).
 * In the end: every order is settled, in inventory too (nothing is reserved for an order that
 * inventory forgot); the parts of a split order are what its record says; what was acknowledged exists and is what was ordered; what was confirmed is
 * sold, what was cancelled is not; no version is missing; no event waits; no dead letter is a good
 * event. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "order/order_record.h"
#include "tandem/order/v1/order_events.pb-c.h"
#include "world_internal.h"

/* For %.*s: a history ends with its line. */
#define HISTORY(record) (int)strcspn((record)->history, "\n"), (record)->history

/* ---- an event id has one content ---- */

struct seen_event {
	char *id; /* "<stream> <subject>/<seq>" */
	char *type;
	uint8_t *data;
	size_t length;
	uint64_t number; /* 0, 1, … in the order in which they came */
	UT_hash_handle hh;
};

static void forget(struct world *world, struct seen_event *seen)
{
	HASH_DEL(world->seen, seen);
	free(seen->id);
	free(seen->type);
	free(seen->data);
	free(seen);
}

/* A new event of an order or a reservation has the next number. */
static void check_predecessor(struct world *world, const char *stream, const char *subject,
			      uint64_t seq)
{
	struct seen_event *seen;
	char *id;

	if (seq <= 1 || strncmp(subject, ORDER_ID_PREFIX, 4) != 0)
		return; /* stock has versions without events */
	/* Of an order that was archived, and lost with its master. */
	if (world_is_made_up(subject) ||
	    (world->counts.failovers > 0 && world_is_among(world->dropped, subject)))
		return;
	id = rt_printf("%s %s/%" PRIu64, stream, subject, seq - 1);
	HASH_FIND_STR(world->seen, id, seen);
	if (seen == NULL)
		world_violation(world, "%s is missing: version %" PRIu64 " came", id, seq);
	free(id);
}

/* Orders whose reservation was forgotten. Copies of earlier events may still arrive, so inventory's
 * events of these orders are not compared any more. */
static bool is_forgotten(const struct world *world, const char *order_id)
{
	return world_is_among(world->forgotten, order_id);
}

void world_check_forget(struct world *world, const char *order_id)
{
	world_add_to(&world->forgotten, order_id);
}

static struct seen_event *find_seen(struct world *world, const char *stream, const char *subject,
				    uint64_t seq)
{
	char *id = rt_printf("%s %s/%" PRIu64, stream, subject, seq);
	struct seen_event *seen;

	HASH_FIND_STR(world->seen, id, seen);
	free(id);
	return seen;
}

static bool is_dropped_event(const struct seen_event *seen)
{
	return strcmp(seen->type, order_event_type(ORDER_EV_DROPPED)) == 0;
}

/* The orders that were dropped are those whose event is still there. */
static void note_dropped(struct world *world)
{
	struct seen_event *seen, *next;

	world_empty(&world->dropped);
	HASH_ITER (hh, world->seen, seen, next)
		if (is_dropped_event(seen)) {
			char *order_id = rt_strdup(strchr(seen->id, ' ') + 1);

			*strchr(order_id, '/') = '\0';
			world_add_to(&world->dropped, order_id);
			free(order_id);
		}
}

/* Only settled orders are dropped, or those that are not there any more: the archive may name them again. How it ended is
 * counted. */
static void check_dropped(struct world *world, const char *stream, const char *subject,
			  uint64_t seq)
{
	static const struct {
		enum order_event event;
		size_t offset;
	} fates[] = {
		{ ORDER_EV_CONFIRMED, offsetof(struct world_counts, confirmed) },
		{ ORDER_EV_CANCELLED, offsetof(struct world_counts, cancelled) },
		{ ORDER_EV_REJECTED, offsetof(struct world_counts, rejected) },
		{ ORDER_EV_EXPIRED, offsetof(struct world_counts, expired) },
	};
	const struct seen_event *before = find_seen(world, stream, subject, seq - 1);

	if (world_is_made_up(subject))
		return;
	world_add_to(&world->dropped, subject);
	world_add_to(&world->dropped_once, subject);
	world->counts.dropped++;
	if (before != NULL && strcmp(before->type, order_event_type(ORDER_EV_SETTLED)) != 0 &&
	    strcmp(before->type, order_event_type(ORDER_EV_REJECTED)) != 0 &&
	    strcmp(before->type, order_event_type(ORDER_EV_DROPPED)) != 0)
		world_violation(world, "%s was dropped behind %s: it is not settled", subject,
				before->type);
	while (seq-- > 1) {
		const struct seen_event *seen = find_seen(world, stream, subject, seq);

		for (size_t i = 0; seen != NULL && i < RT_LENGTH(fates); i++)
			if (strcmp(seen->type, order_event_type(fates[i].event)) == 0) {
				++*(unsigned *)(void *)((char *)&world->counts + fates[i].offset);
				return;
			}
	}
}

void world_check_lost(struct world *world, int master, uint64_t seen_before)
{
	struct seen_event *seen, *next;

	HASH_ITER (hh, world->seen, seen, next)
		if (seen->number >= seen_before &&
		    memory_master_of(world->redis, seen->id) == master)
			forget(world, seen);
	note_dropped(world);
	for (size_t i = 0; i < world->stream_count; i++) {
		struct world_stream *watched = &world->streams[i];
		const struct memory_stream *stream =
			memory_stream_find(world->redis, watched->name);

		if (memory_master_of(world->redis, watched->name) != master)
			continue;
		watched->watched = stream == NULL ? (struct memory_id){ 0 } : stream->last;
		watched->watched_life = stream == NULL ? 0 : stream->life;
	}
}

static char *copy_of(struct rt_slice slice)
{
	return rt_strndup(slice.data == NULL ? "" : slice.data, slice.length);
}

void world_check_event(struct world *world, const char *stream, const struct rt_entry_event *event)
{
	struct seen_event *seen;
	char *id, *subject, *type;

	if (strncmp(stream, "archive:", 8) == 0)
		return;
	subject = copy_of(event->subject);
	if (strncmp(stream, "inventory:", 10) == 0 && is_forgotten(world, subject)) {
		free(subject);
		return;
	}
	type = copy_of(event->type);
	id = rt_printf("%s %s/%" PRIu64, stream, subject, event->seq);
	HASH_FIND_STR(world->seen, id, seen);
	if (seen == NULL) {
		if (strcmp(type, order_event_type(ORDER_EV_DROPPED)) == 0)
			check_dropped(world, stream, subject, event->seq);
		check_predecessor(world, stream, subject, event->seq);
		seen = rt_alloc(sizeof(*seen));
		seen->id = RT_TAKE(id);
		seen->type = RT_TAKE(type);
		seen->number = world->seen_count++;
		seen->length = event->data.length;
		seen->data = rt_alloc(seen->length + 1);
		if (seen->length > 0)
			memcpy(seen->data, event->data.data, seen->length);
		if (strcmp(seen->type, "tandem.inventory.v1.StockLow") == 0)
			world_low_event(world, subject, event);
		HASH_ADD_KEYPTR(hh, world->seen, seen->id, strlen(seen->id), seen);
	} else if (strcmp(type, order_event_type(ORDER_EV_DROPPED)) == 0 &&
		   world_is_among(world->dropped, subject)) {
		/* Said again, perhaps to an archive that knows an earlier version. */
	} else if (strcmp(type, stock_answer_type(STOCK_ANS_RELEASED)) == 0 &&
		   world->counts.failovers > 0 && world_is_among(world->dropped, subject)) {
		/* A failover brought a part of a dropped order back, and a sweep has released it. */
	} else if (strcmp(seen->type, type) != 0) {
		world_violation(world, "%s is two events: %s and %s", id, seen->type, type);
	} else if (seen->length != event->data.length ||
		   (seen->length > 0 && memcmp(seen->data, event->data.data, seen->length) != 0)) {
		world_violation(world, "%s (%s) was repeated with other content", id, type);
	}
	free(id);
	free(type);
	free(subject);
}

void world_check_done(struct world *world)
{
	struct seen_event *seen, *next;

	world_empty(&world->forgotten);
	HASH_ITER (hh, world->seen, seen, next)
		forget(world, seen);
}

/* ---- stock ---- */

struct sums {
	struct world *world;
	uint64_t reserved[WORLD_SKUS], committed[WORLD_SKUS];
};

static void add_up(const struct stored_reservation *reservation, void *user)
{
	struct sums *sums = user;

	if (reservation->split)
		return; /* its parts count */
	for (size_t i = 0; i < reservation->line_count; i++) {
		const struct stored_line *line = &reservation->lines[i];

		if (reservation->state == STOCK_RESERVED)
			sums->reserved[world_sku(line->sku)] += line->quantity;
		else if (stock_state_sold(reservation->state))
			sums->committed[world_sku(line->sku)] += line->quantity - line->returned;
		if (line->returned > line->quantity)
			world_violation(sums->world, "%s: of %" PRIu64 " %s %" PRIu64 " came back",
					reservation->order_id, line->quantity, line->sku,
					line->returned);
	}
}

static void compare_sums(const char *sku, const struct stock *stock, void *user)
{
	struct sums *sums = user;
	size_t i = world_sku(sku);

	if (!stock_adds_up(stock))
		world_violation(sums->world,
				"%s does not add up: received %" PRIu64 ", available %" PRIu64
				", reserved %" PRIu64 ", committed %" PRIu64,
				sku, stock->received, stock->available, stock->reserved,
				stock->committed);
	if (stock->reserved != sums->reserved[i])
		world_violation(sums->world,
				"%s: %" PRIu64 " reserved, but reservations hold %" PRIu64, sku,
				stock->reserved, sums->reserved[i]);
	if (stock->committed != sums->committed[i])
		world_violation(sums->world,
				"%s: %" PRIu64 " committed, but reservations say %" PRIu64, sku,
				stock->committed, sums->committed[i]);
}

static void add_dropped(const char *sku, uint64_t count, void *user)
{
	struct sums *sums = user;

	sums->committed[world_sku(sku)] += count;
}

static void check_stock(struct world *world)
{
	struct sums sums = { .world = world };

	stored_dropped_each(world->redis, add_dropped, &sums);
	stored_reservations_each(world->redis, add_up, &sums);
	stored_parts_each(world->redis, add_up, &sums);
	stored_stock_each(world->redis, compare_sums, &sums);
}

/* Whether what is missing can be had from the doubtful adjustments of the SKU, from `at` on. */
static bool explained(const struct adjusted *at, size_t sku, int64_t missing)
{
	while (at != NULL && !(at->maybe && at->sku == sku))
		at = at->next;
	if (at == NULL)
		return missing == 0;
	return explained(at->next, sku, missing) || explained(at->next, sku, missing - at->delta);
}

static void compare_received(const char *sku, const struct stock *stock, void *user)
{
	struct world *world = user;
	int64_t sum = 0;

	for (const struct adjusted *at = world->adjusted; at != NULL; at = at->next)
		if (!at->maybe && at->sku == world_sku(sku))
			sum += at->delta;
	if (!explained(world->adjusted, world_sku(sku), (int64_t)stock->received - sum))
		world_violation(world, "%s: %" PRIu64 " received, but clients put in %" PRId64, sku,
				stock->received, sum);
}

/* ---- always ---- */

static uint64_t returned_of(const Tandem__Order__V1__OrderReturned *returned, const char *sku)
{
	for (size_t i = 0; returned != NULL && i < returned->n_lines; i++)
		if (strcmp(returned->lines[i]->sku, sku) == 0)
			return returned->lines[i]->quantity;
	return 0;
}

/* What came back of a settled order is what inventory has made available. */
static void check_returned(struct world *world, const struct order_record *record)
{
	struct stored_reservation reservation = { .state = STOCK_NONE };
	const Tandem__Order__V1__OrderReturned *returned;
	struct rt_arena arena = { .chunks = NULL };

	if (record->state != ORDER_CONFIRMED)
		return;
	returned = order_record_returned(&arena, record);
	stored_reservation(world->redis, record->order_id, &reservation);
	for (size_t i = 0; i < reservation.line_count; i++) {
		const struct stored_line *line = &reservation.lines[i];

		if (stock_state_sold(reservation.state) &&
		    line->returned != returned_of(returned, line->sku))
			world_violation(world,
					"%s: %" PRIu64
					" %s came back, of which inventory knows %" PRIu64,
					record->order_id, returned_of(returned, line->sku),
					line->sku, line->returned);
	}
	rt_arena_done(&arena);
}

static void check_at_once(const struct order_record *record, void *user)
{
	struct world *world = user;
	const struct memory_zset *timers;
	double due_ms;

	if (record->state == ORDER_CONFIRMED && record->detail_length > 0)
		check_returned(world, record);
	if (order_state_settled(record->state))
		return;
	timers = stored_timers(world->redis, stored_partition_of(world->redis, record->order_id));
	if (timers == NULL || !memory_zset_score(timers, record->order_id, &due_ms))
		world_violation(world, "%s is %s and not settled, and has no timer",
				record->order_id, order_state_status(record->state));
}

void world_check_now(struct world *world)
{
	if (world->violation_count > 0 || world->checked == world->redis->writes)
		return; /* one violation is enough */
	world->checked = world->redis->writes;
	check_stock(world);
	stored_orders_each(world->redis, check_at_once, world);
	if (world->redis->undeclared > 0)
		world_violation(world, "a function touched a key that was not declared");
}

/* Whether a partition has what the lines ("sku=quantity sku=quantity …") say. */
static bool is_available(const struct world *world, const struct memory_text *own_key,
			 const char *lines)
{
	const struct memory_key *stock;
	char key[64], sku[32];
	uint64_t quantity;
	int length;

	snprintf(key, sizeof(key), "%.*s:stock", (int)(strrchr(own_key->data, ':') - own_key->data),
		 own_key->data);
	stock = memory_find(world->redis, key, MEMORY_HASH);
	while (sscanf(lines, " %31[^= ]=%" SCNu64 "%n", sku, &quantity, &length) == 2) {
		const struct memory_text *counter = stock == NULL ? NULL : memory_field(stock, sku);

		if (counter == NULL || strtoull(counter->data, NULL, 10) < quantity)
			return false;
		lines += length;
	}
	return true;
}

/* What is said not to be there, though it was sold or promised, is not there. The arguments and the answer are those
 * of inventory_part (inventory/functions.lua). */
void world_check_answer(struct world *world, const struct memory_io *io)
{
	const struct redisReply *reply = io->reply;
	const char *letters;
	size_t count;

	if (strcmp(io->what, "inventory_part") != 0 || reply == NULL ||
	    reply->type != REDIS_REPLY_ARRAY)
		return;
	letters = reply->element[0]->str;
	count = strlen(letters);
	for (size_t i = 0; i < count; i++) {
		const struct memory_text *lines = &io->argv[io->argc - 2 * count + i];

		if (letters[i] == '-' && is_available(world, &io->argv[3], lines->data))
			world_violation(world, "%s is owed what is available: %s",
					io->argv[io->argc - 3 * count + i].data, lines->data);
	}
}

/* ---- quiet ---- */

struct unrest {
	const struct world *world;
	char text[256];
	bool any;
};

/* Its stock was promised, is lost, and cannot be had again: a service has said so, and a person decides. */
static bool is_left_to_a_person(const struct world *world, const struct order_record *record)
{
	return (record->state == ORDER_CONFIRMING || record->state == ORDER_RETURNING) &&
	       world_is_named(world, record->order_id);
}

bool world_is_left(const struct world *world, const char *order_id)
{
	struct order_record record;

	return stored_order(world->redis, order_id, &record) && is_left_to_a_person(world, &record);
}

static void find_unsettled(const struct order_record *record, void *user)
{
	struct unrest *unrest = user;

	if (unrest->any || order_state_settled(record->state) ||
	    is_left_to_a_person(unrest->world, record))
		return;
	unrest->any = true;
	snprintf(unrest->text, sizeof(unrest->text), "%s is %s, not settled: %.*s",
		 record->order_id, order_state_status(record->state), HISTORY(record));
}

static size_t aside_of(struct world *world, const char *reader, const char *stream)
{
	char name[64];
	struct memory_stream *aside;

	snprintf(name, sizeof(name), "%s%.*saside:%.*s", reader,
		 (int)(strrchr(stream, ':') + 1 - strchr(stream, ':')), strchr(stream, ':'),
		 (int)strcspn(stream, ":"), stream);
	aside = memory_stream_find(world->redis, name);
	return aside == NULL ? 0 : aside->count;
}

static bool group_rests(struct world *world, const char *stream_name, const char *group_name,
			struct unrest *unrest)
{
	struct memory_stream *stream = memory_stream_find(world->redis, stream_name);
	struct memory_group *group = stream == NULL ? NULL : memory_group_find(stream, group_name);
	size_t lag, aside;

	if (group == NULL) {
		snprintf(unrest->text, sizeof(unrest->text), "%s has no group", stream_name);
		return false;
	}
	lag = stream->count - memory_stream_after(stream, group->delivered);
	aside = aside_of(world, group_name, stream_name);
	if (lag == 0 && group->pending_count == 0 && aside == 0)
		return true;
	snprintf(unrest->text, sizeof(unrest->text),
		 "%s: %zu entries not delivered to %s, %zu not acknowledged, %zu set aside",
		 stream_name, lag, group_name, group->pending_count, aside);
	return false;
}

const char *world_unrest(struct world *world)
{
	static struct unrest unrest;

	unrest = (struct unrest){ .world = world };
	if (!world_clients_idle(world))
		return "clients still call";
	if (!world_chaos_idle(world))
		return "entries are held back";
	if (!world_archive_idle(world))
		return "the archive has more to say";
	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		if (process->dead) {
			snprintf(unrest.text, sizeof(unrest.text), "%s has not ended yet",
				 process->name);
			return unrest.text;
		}
	}
	if (memory_late_count(world->redis) > 0)
		return "effects are still to come";
	stored_orders_each(world->redis, find_unsettled, &unrest);
	if (unrest.any)
		return unrest.text;
	if (world_out_of_step(world) != NULL)
		return world_out_of_step(world);
	for (size_t i = 0; i < world->stream_count; i++)
		if (!group_rests(world, world->streams[i].name, world->streams[i].group, &unrest))
			return unrest.text;
	return NULL;
}

/* ---- in the end ---- */

static const struct {
	enum order_state order;
	enum stock_state stock; /* NONE: must not exist, or not hold anything */
} agreements[] = {
	{ ORDER_CONFIRMED, STOCK_COMMITTED },
	{ ORDER_CANCELLED, STOCK_RELEASED },
	{ ORDER_EXPIRED, STOCK_RELEASED },
	{ ORDER_REJECTED, STOCK_UNAVAILABLE },
};

static void check_agreement(struct world *world, const struct order_record *record)
{
	struct stored_reservation reservation = { .state = STOCK_NONE };

	stored_reservation(world->redis, record->order_id, &reservation);
	/* Nothing may be reserved for an order that inventory forgot, unless the event that says so was
	 * lost unread: the order does not wait for it, and only the audit finds it. */
	if (is_forgotten(world, record->order_id) &&
	    (reservation.state != STOCK_RESERVED || record->version == 2) &&
	    reservation.state != STOCK_COMMITTED)
		return;
	for (size_t i = 0; i < RT_LENGTH(agreements); i++)
		if (record->state == agreements[i].order &&
		    reservation.state != agreements[i].stock &&
		    !(record->state == ORDER_CONFIRMED && reservation.state == STOCK_RETURNED))
			world_violation(world, "%s is %s, but its reservation is '%s': %.*s",
					record->order_id, order_state_status(record->state),
					stock_state_text(reservation.state), HISTORY(record));
}

/* One word for each version, in order; the first is "placed". */
static void check_history(struct world *world, const struct order_record *record)
{
	const char *at = record->history;
	uint64_t versions = 0;

	if (strncmp(at, "placed@", 7) != 0)
		world_violation(world, "%s does not begin with placed: %.*s", record->order_id,
				HISTORY(record));
	while (at != NULL && *at != '\0') {
		versions += strncmp(at, "again+", 6) != 0;
		at = strpbrk(at, " \n");
		at = at == NULL || *at == '\n' ? NULL : at + 1;
	}
	if (versions != record->version)
		world_violation(world, "%s is at version %" PRIu64 " with another history: %.*s",
				record->order_id, record->version, HISTORY(record));
}

/* A refusal says which SKUs do not exist. A master that was lost may have taken a SKU with it. */
static void check_refusal(struct world *world, const struct order_record *record)
{
	struct rt_arena arena = { .chunks = NULL };
	const Tandem__Order__V1__Order *order = order_view(&arena, record, NULL, 0);

	for (size_t i = 0; order != NULL && i < order->n_shortages; i++) {
		const Tandem__Order__V1__Shortage *shortage = order->shortages[i];
		bool unknown = strcmp(shortage->sku, world_unknown_sku) == 0;

		if (shortage->unknown != unknown && (unknown || world->counts.failovers == 0))
			world_violation(world, "%s was refused: %s is said %s", record->order_id,
					shortage->sku, unknown ? "to exist" : "not to exist");
	}
	rt_arena_done(&arena);
}

static void count_fate(struct world *world, const struct order_record *record)
{
	world->counts.confirmed += record->state == ORDER_CONFIRMED;
	world->counts.cancelled += record->state == ORDER_CANCELLED;
	world->counts.rejected += record->state == ORDER_REJECTED;
	world->counts.expired += record->state == ORDER_EXPIRED;
}

static bool was_extended(const struct order_record *record)
{
	struct order_history history;
	struct order_history_item item;

	order_history_begin(&history, record->history);
	while (order_history_next(&history, &item))
		if (item.event == ORDER_EV_EXTENDED)
			return true;
	return false;
}

static void check_order(const struct order_record *record, void *user)
{
	struct world *world = user;

	if (!order_state_settled(record->state) && !is_left_to_a_person(world, record))
		world_violation(world, "%s is %s, not settled: %.*s", record->order_id,
				order_state_status(record->state), HISTORY(record));
	if (world_is_among(world->dropped, record->order_id))
		world_violation(world, "%s was dropped, and is there: %.*s", record->order_id,
				HISTORY(record));
	check_agreement(world, record);
	check_history(world, record);
	check_refusal(world, record);
	if (record->hold_ms > WORLD_HOLD_MAX_MS && was_extended(record))
		world_violation(world, "the hold of %s lasts %" PRId64 " ms", record->order_id,
				record->hold_ms);
	count_fate(world, record);
}

static bool same_lines(const struct booked *booked, const struct order_record *record)
{
	Tandem__Order__V1__OrderPlaced *placed = tandem__order__v1__order_placed__unpack(
		NULL, record->placed_length, record->placed);
	bool same = placed != NULL && placed->content != NULL &&
		    placed->content->n_lines == booked->line_count;

	for (size_t i = 0; same && i < booked->line_count; i++)
		same = strcmp(placed->content->lines[i]->sku, booked->lines[i].sku) == 0 &&
		       placed->content->lines[i]->quantity == booked->lines[i].quantity;
	if (placed != NULL)
		tandem__order__v1__order_placed__free_unpacked(placed, NULL);
	return same;
}

/* How far the time that a history says may be ahead of the one that set the timer (AHEAD_MS of events.lua). */
#define HISTORY_AHEAD_MS 1000

/* It did not expire before the end of its hold that a client has seen. */
static void check_hold(struct world *world, const struct booked *booked,
		       const struct order_record *record)
{
	enum order_state before = ORDER_PENDING;
	struct order_history history;
	struct order_history_item item;

	order_history_begin(&history, record->history);
	while (order_history_next(&history, &item)) {
		if (item.event == ORDER_EV_EXPIRED && before == ORDER_RESERVED &&
		    item.unix_ms + HISTORY_AHEAD_MS < booked->held_until_ms)
			world_violation(
				world, "%s expired %" PRId64 " ms before the end of its hold: %.*s",
				booked->order_id, booked->held_until_ms - item.unix_ms,
				HISTORY(record));
		before = item.state;
	}
}

/* All that was taken back, once each. */
static void check_taken_back(struct world *world, const struct booked *booked,
			     const struct order_record *record)
{
	const Tandem__Order__V1__OrderReturned *returned;
	struct rt_arena arena = { .chunks = NULL };

	if (booked->returns_unsure)
		return;
	returned = order_record_returned(&arena, record);
	for (size_t i = 0; i < booked->line_count; i++)
		if (returned_of(returned, booked->lines[i].sku) != booked->returned[i])
			world_violation(
				world,
				"%s: %" PRIu64 " %s came back, but %" PRIu64 " were taken back",
				booked->order_id, returned_of(returned, booked->lines[i].sku),
				booked->lines[i].sku, booked->returned[i]);
	rt_arena_done(&arena);
}

/* An order that was dropped has ended as a client was told. */
static void check_booked_dropped(struct world *world, const struct booked *booked)
{
	char stream[32];
	bool confirmed = false, cancelled = false;
	const struct seen_event *seen;

	snprintf(stream, sizeof(stream), "order:{%d}:events",
		 stored_partition_of(world->redis, booked->order_id));
	for (uint64_t seq = 1; (seen = find_seen(world, stream, booked->order_id, seq)) != NULL;
	     seq++) {
		confirmed |= strcmp(seen->type, order_event_type(ORDER_EV_CONFIRMED)) == 0;
		cancelled |= strcmp(seen->type, order_event_type(ORDER_EV_CANCELLED)) == 0;
	}
	if (booked->may_be_lost)
		return;
	if ((booked->confirmed && !confirmed) || (booked->cancelled && !cancelled))
		world_violation(world, "%s was %s, and then dropped as something else",
				booked->order_id, booked->confirmed ? "confirmed" : "cancelled");
}

static void check_booked(struct world *world, const struct booked *booked)
{
	struct order_record record;

	if (!stored_order(world->redis, booked->order_id, &record)) {
		if (world_is_among(world->dropped, booked->order_id)) {
			check_booked_dropped(world, booked);
			return;
		}
		world->counts.lost++;
		if (!booked->may_be_lost)
			world_violation(world, "%s was acknowledged and does not exist",
					booked->order_id);
		return;
	}
	if (!same_lines(booked, &record))
		world_violation(world, "%s is stored as something else", booked->order_id);
	check_hold(world, booked, &record);
	check_taken_back(world, booked, &record);
	if (record.version < booked->version)
		world_violation(world, "%s was seen at version %" PRIu64 ", and is at %" PRIu64,
				booked->order_id, booked->version, record.version);
	if (booked->confirmed && record.state != ORDER_CONFIRMED &&
	    !is_left_to_a_person(world, &record))
		world_violation(world, "%s was confirmed and is %s", booked->order_id,
				order_state_status(record.state));
	if (booked->cancelled && record.state != ORDER_CANCELLED)
		world_violation(world, "%s was cancelled and is %s", booked->order_id,
				order_state_status(record.state));
}

static void check_dead_letters(struct world *world, const char *name)
{
	struct memory_stream *letters = memory_stream_find(world->redis, name);

	for (size_t i = 0; letters != NULL && i < letters->count; i++) {
		const struct memory_entry *entry = &letters->entries[i];

		/* One without an id was deleted before it was moved: its content is gone. */
		if (memory_entry_field(entry, "poison")[0] == '\0' &&
		    memory_entry_field(entry, "id")[0] != '\0')
			world_violation(world, "%s is a dead letter in %s: %s",
					memory_entry_field(entry, "id"), name,
					memory_entry_field(entry, "reason"));
	}
}

/* A reservation for an order that does not exist. */
static void check_orphan(const struct stored_reservation *reservation, void *user)
{
	struct world *world = user;
	struct order_record record;

	/* Nobody says again that it was dropped: the audit names it. */
	if (world_is_among(world->dropped, reservation->order_id) && world->order_events_lost &&
	    reservation->state != STOCK_RESERVED)
		return;
	/* Of one that was lost there may be a tombstone. */
	if (!stored_order(world->redis, reservation->order_id, &record) &&
	    !(reservation->state == STOCK_RELEASED && world->counts.failovers > 0))
		world_violation(world, "a reservation, %s, of %s, which does not exist",
				stock_state_text(reservation->state), reservation->order_id);
}

/* How many lines the parts of an order hold or have sold. */
struct part_lines {
	const char *order_id;
	size_t reserved, committed;
};

static void count_lines(const struct stored_reservation *part, void *user)
{
	struct part_lines *lines = user;

	if (strcmp(part->order_id, lines->order_id) != 0)
		return;
	lines->reserved += part->state == STOCK_RESERVED ? part->line_count : 0;
	lines->committed += part->state == STOCK_COMMITTED ? part->line_count : 0;
}

/* A record that says reserved or committed has all its parts. */
static void check_parts_of(const struct stored_reservation *reservation, void *user)
{
	struct world *world = user;
	struct part_lines lines = { .order_id = reservation->order_id };

	if (!reservation->split)
		return;
	stored_parts_each(world->redis, count_lines, &lines);
	if (world_is_named(world, reservation->order_id))
		return;
	if ((reservation->state == STOCK_RESERVED && lines.reserved != reservation->line_count) ||
	    (stock_state_sold(reservation->state) && lines.committed != reservation->line_count))
		world_violation(world, "%s is %s in %zu lines, but its parts hold %zu, sold %zu",
				reservation->order_id, stock_state_text(reservation->state),
				reservation->line_count, lines.reserved, lines.committed);
}

/* A part holds or has sold something only if the record says so. */
static void check_record_of(const struct stored_reservation *part, void *user)
{
	struct world *world = user;
	struct stored_reservation reservation = { .state = STOCK_NONE };

	if (part->state != STOCK_RESERVED && part->state != STOCK_COMMITTED)
		return;
	stored_reservation(world->redis, part->order_id, &reservation);
	/* What was held for an order that inventory forgot, and whose request was lost then: a sweep or the audit finds it. */
	if (reservation.state == STOCK_NONE && part->state == STOCK_RESERVED &&
	    is_forgotten(world, part->order_id))
		return;
	if (reservation.state != part->state &&
	    !(part->state == STOCK_COMMITTED && reservation.state == STOCK_RETURNED))
		world_violation(world, "a part of %s is %s, and its record '%s'", part->order_id,
				stock_state_text(part->state), stock_state_text(reservation.state));
}

/* Once every order is settled. */
static void check_partition(struct world *world, int partition)
{
	const struct memory_zset *timers = stored_timers(world->redis, partition);
	char key[64];

	for (size_t i = 0; timers != NULL && i < timers->count; i++)
		if (!world_is_named(world, timers->entries[i].member.data))
			world_violation(world, "%s has a timer, though it is settled",
					timers->entries[i].member.data);
	snprintf(key, sizeof(key), "order:{%d}:dead", partition);
	check_dead_letters(world, key);
	snprintf(key, sizeof(key), "inventory:{%d}:dead", partition);
	check_dead_letters(world, key);
}

void world_check(struct world *world)
{
	check_stock(world);
	stored_stock_each(world->redis, compare_received, world);
	stored_orders_each(world->redis, check_order, world);
	stored_reservations_each(world->redis, check_orphan, world);
	stored_reservations_each(world->redis, check_parts_of, world);
	stored_parts_each(world->redis, check_record_of, world);
	for (const struct booked *at = world->booked; at != NULL; at = at->next)
		check_booked(world, at);
	for (int p = 0; p < stored_partitions(world->redis); p++)
		check_partition(world, p);
}
