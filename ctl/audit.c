/* audit.c - tandemctl audit: proves that orders and stock agree, without stopping anything.
 *
 *   parts      reads the parts of reservations that are split over partitions
 *   scan       reads every order with its reservation and timer, a hundred at one instant;
 *              then the reservations, timers and parts whose order was not found
 *   window     waits, so that changes under way can finish
 *   again      reads the suspicious cases again: a case is a violation when it is still wrong, has
 *              not changed at all, and no service still has to read an event about it
 *   stock      compares every SKU's counters with its reservations (audit_stock.c)
 *   archive    compares every order with the archive, if there is one (audit_archive.c)
 *   repair     when asked: repairs, one by one, what the services' own functions can repair; each is entered in the
 *              trail (trail.c) */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "audit.h"
#include "base/base.h"
#include "commands.h"
#include "inventory/store.h"
#include "order/order_record.h"
#include "order/store.h"

#define WINDOW_MS 2000
#define STATES    (ORDER_STATE_COUNT)

struct options {
	int64_t window_ms;
	bool repair, repair_counters, yes;
};

/* A case that looked wrong at the first look. */
struct suspicion {
	char *order_id;
	int partition;
	uint64_t fingerprint;
};
struct violation {
	enum audit_fault fault;
	char *subject, *detail; /* order id or SKU */
	int partition;
	bool split; /* its stock lies in several partitions */
	/* For repairs; of an order that does not exist the state is CANCELLED. */
	char *lines;
	uint64_t version;
	enum order_state state;
	int64_t due_ms;
};

struct audit {
	struct ctl *ctl;
	const struct options *options;
	int partition; /* that is being scanned */
	struct audit_parts parts;
	struct audit_ids orders; /* found by the scan, as "<partition>/<id>" */
	struct audit_ids others; /* reservations, timers and parts of orders that were not found */
	struct audit_ids nameless; /* reported already */
	size_t states[STATES], timers, reservations, tombstones, moved;
	struct suspicion *suspicions;
	size_t suspicion_count, suspicion_capacity, at;
	struct audit_ids unread;
	bool unread_complete;
	struct violation *violations;
	size_t violation_count, violation_capacity;
	struct audit_reader reader;
	struct audit_stock stock;
	struct audit_archive archive;
	size_t gaps, unreadable;
	int64_t dead;
};

/* ---- the options ---- */

enum { KEY_WINDOW = 256, KEY_REPAIR, KEY_REPAIR_COUNTERS, KEY_YES };

static error_t audit_parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		options->window_ms = WINDOW_MS;
		return 0;
	case KEY_WINDOW:
		if (!rt_parse_duration(arg, &options->window_ms))
			argp_error(state, "--window: not a duration such as 500ms or 2s: %s", arg);
		return 0;
	case KEY_REPAIR:
		options->repair = true;
		return 0;
	case KEY_REPAIR_COUNTERS:
		options->repair = options->repair_counters = true;
		return 0;
	case KEY_YES:
		options->yes = true;
		return 0;
	case ARGP_KEY_END:
		if (options->yes && !options->repair)
			argp_error(state, "--yes: needs --repair");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the first look ---- */

static void add_suspicion(struct audit *audit, const struct audit_case *one)
{
	audit->suspicions = rt_grow(audit->suspicions, audit->suspicion_count,
				    &audit->suspicion_capacity, sizeof(*audit->suspicions));
	audit->suspicions[audit->suspicion_count++] =
		(struct suspicion){ rt_strdup(one->order_id), one->partition, one->fingerprint };
}

static void first_look(const struct audit_case *one, void *user)
{
	struct audit *audit = user;
	enum audit_fault faults[AUDIT_FAULTS_MAX];

	if (one->ordered && !one->order_damaged)
		audit->states[one->state]++;
	if (!one->ordered && (one->stock == STOCK_RELEASED || one->stock == STOCK_UNAVAILABLE))
		audit->tombstones++;
	if (audit_judge(one, faults) > 0)
		add_suspicion(audit, one);
}

static struct violation *add_violation(struct audit *audit, enum audit_fault fault, int partition,
				       const char *subject, const char *detail)
{
	struct violation *made;

	audit->violations = rt_grow(audit->violations, audit->violation_count,
				    &audit->violation_capacity, sizeof(*audit->violations));
	made = &audit->violations[audit->violation_count++];
	*made = (struct violation){ .fault = fault,
				    .partition = partition,
				    .subject = rt_strdup(subject),
				    .detail = rt_strdup(detail) };
	return made;
}

/* A name that is not text is reported once, made printable. */
static void report_no_order_id(struct audit *audit, const redisReply *name, const char *where)
{
	char *shown;

	if (name->str == NULL)
		return;
	shown = rt_text_shown(name->str, name->len);
	if (audit_ids_add(&audit->nameless, shown))
		add_violation(audit, AUDIT_NO_ORDER_ID, audit->partition, shown, where);
	free(shown);
}

/* Adds an id of a partition. False: it was in the set already. */
static bool add_id(struct audit_ids *ids, int partition, const char *id)
{
	char *place = rt_printf("%d/%s", partition, id);
	bool added = audit_ids_add(ids, place);

	free(place);
	return added;
}

static bool have_id(const struct audit_ids *ids, int partition, const char *id)
{
	char *place = rt_printf("%d/%s", partition, id);
	bool found = audit_ids_have(ids, place);

	free(place);
	return found;
}

static bool on_order(const redisReply *name, const redisReply *value, void *user)
{
	struct audit *audit = user;
	const char *id = ctl_text(name, NULL);

	(void)value;
	if (id == NULL) {
		report_no_order_id(audit, name, "an order's field");
		return true;
	}
	return !add_id(&audit->orders, audit->partition, id) ||
	       audit_reader_add(&audit->reader, audit->partition, id);
}

/* The id of a reservation, timer or part: of an order that was found, or one more case. */
static bool add_other(int partition, const char *id, void *user)
{
	struct audit *audit = user;

	if (have_id(&audit->orders, partition, id) || !add_id(&audit->others, partition, id))
		return true;
	return audit_reader_add(&audit->reader, partition, id);
}

static bool on_other(struct audit *audit, const redisReply *name)
{
	const char *id = ctl_text(name, NULL);

	if (id != NULL)
		return add_other(audit->partition, id, audit);
	report_no_order_id(audit, name, "of a reservation or a timer");
	return true;
}

static bool on_reservation(const redisReply *name, const redisReply *value, void *user)
{
	struct audit *audit = user;

	(void)value;
	audit->reservations++;
	return on_other(audit, name);
}

static bool on_timer(const redisReply *name, const redisReply *value, void *user)
{
	struct audit *audit = user;

	(void)value;
	audit->timers++;
	return on_other(audit, name);
}

static bool scan_partition(struct audit *audit)
{
	char orders[CTL_KEY], reservations[CTL_KEY], timers[CTL_KEY];

	ctl_key(orders, "order", audit->partition, "orders");
	ctl_key(reservations, "inventory", audit->partition, "r");
	ctl_key(timers, "order", audit->partition, "timers");
	return audit_scan(audit->ctl, "HSCAN", orders, on_order, audit) &&
	       audit_scan(audit->ctl, "HSCAN", reservations, on_reservation, audit) &&
	       audit_scan(audit->ctl, "ZSCAN", timers, on_timer, audit);
}

static bool scan_all(struct audit *audit)
{
	bool good = audit_parts_read(audit->ctl, &audit->parts);

	audit->reader.parts = &audit->parts;
	audit->reader.on_case = first_look;
	for (; audit->partition < audit->ctl->partitions && good; audit->partition++)
		good = scan_partition(audit);
	good = good && audit_parts_each(&audit->parts, add_other, audit) &&
	       audit_reader_flush(&audit->reader);
	audit_ids_done(&audit->others);
	return good;
}

/* ---- the second look ---- */

static const char *reservation_word(const struct audit_case *one)
{
	if (one->reservation_damaged)
		return "damaged";
	return one->stock == STOCK_NONE ? "none" : stock_state_text(one->stock);
}

/* Appends the partition of the case, and its parts. */
static void describe_parts(const struct audit_case *one, char *text, size_t size)
{
	size_t length = strlen(text);

	length += (size_t)snprintf(text + length, size - length, ", partition %d", one->partition);
	for (size_t i = 0; i < one->part_count && length < size; i++) {
		const struct audit_part *part = &one->parts[i];
		const char *word =
			part->state == STOCK_NONE ? "none" : stock_state_text(part->state);

		length += (size_t)snprintf(text + length, size - length, ", part in %d %s",
					   part->partition, part->damaged ? "damaged" : word);
	}
}

static void describe(const struct audit_case *one, char *text, size_t size)
{
	const char *timer = one->timed ? "there" : "none";

	if (!one->ordered || one->order_damaged)
		snprintf(text, size, "order %s, reservation %s, timer %s",
			 one->ordered ? "damaged" : "none", reservation_word(one), timer);
	else
		snprintf(text, size, "order %s%s, version %" PRIu64 ", reservation %s, timer %s",
			 order_state_status(one->state),
			 order_state_settled(one->state) ? "" : " and not settled", one->version,
			 reservation_word(one), timer);
}

static void second_look(const struct audit_case *one, void *user)
{
	struct audit *audit = user;
	const struct suspicion *before = &audit->suspicions[audit->at++];
	enum audit_fault faults[AUDIT_FAULTS_MAX];
	size_t count = audit_judge(one, faults);
	char detail[512];

	if (count == 0 || one->fingerprint != before->fingerprint || !audit->unread_complete ||
	    audit_ids_have(&audit->unread, one->order_id)) {
		audit->moved++;
		return;
	}
	describe(one, detail, sizeof(detail));
	if (audit->ctl->partitions > 1)
		describe_parts(one, detail, sizeof(detail));
	for (size_t i = 0; i < count; i++) {
		struct violation *made =
			add_violation(audit, faults[i], one->partition, one->order_id, detail);

		made->split = one->split;
		made->lines = rt_strdup(one->lines);
		made->version = one->version;
		made->due_ms = one->hold_until_ms;
		made->state = one->ordered ? one->state : ORDER_CANCELLED;
	}
}

static void wait_ms(int64_t ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&time, &time) != 0)
		continue;
}

static bool look_again(struct audit *audit)
{
	bool good;

	if (audit->suspicion_count == 0)
		return true;
	wait_ms(audit->options->window_ms);
	good = audit_unread(audit->ctl, &audit->unread, &audit->unread_complete);
	audit->reader.on_case = second_look;
	audit->reader.again = true;
	for (size_t i = 0; i < audit->suspicion_count && good; i++)
		good = audit_reader_add(&audit->reader, audit->suspicions[i].partition,
					audit->suspicions[i].order_id);
	return good && audit_reader_flush(&audit->reader);
}

static void on_stock(enum audit_fault fault, const char *sku, const char *detail, void *user)
{
	struct audit *audit = user;
	char *where;

	if (audit->ctl->partitions == 1) {
		add_violation(audit, fault, 0, sku, detail);
		return;
	}
	where = rt_printf("%s, partition %d", detail, audit->stock.partition);
	add_violation(audit, fault, audit->stock.partition, sku, where);
	free(where);
}

static void on_archived(enum audit_fault fault, int partition, const char *order_id,
			const char *detail, void *user)
{
	add_violation(user, fault, partition, order_id, detail);
}

/* They are named, and are no violations: nobody can know them any more. */
static void on_missing(const struct audit_missing *missing, void *user)
{
	struct audit *audit = user;
	bool unreadable = strcmp(missing->after_id, missing->before_id) == 0;
	char events[32] = "an unknown number of";

	audit->unreadable += unreadable;
	audit->gaps += !unreadable;
	if (audit->ctl->json && unreadable) {
		ctl_json_print(json_pack("{s:s, s:s, s:s}", "archive_unreadable", missing->stream,
					 "id", missing->after_id, "reason", missing->reason));
	} else if (audit->ctl->json) {
		ctl_json_print(json_pack("{s:s, s:s, s:s, s:I, s:s}", "archive_gap",
					 missing->stream, "after_id", missing->after_id,
					 "before_id", missing->before_id, "events",
					 (json_int_t)missing->events, "reason", missing->reason));
	} else if (unreadable) {
		printf("UNREADABLE for the archive: %s %s: %s\n", missing->stream,
		       missing->after_id, missing->reason);
	} else {
		if (missing->events > 0)
			rt_int_text((int64_t)missing->events, events);
		printf("GAP of the archive: %s, %s events between %s and %s: %s\n", missing->stream,
		       events, missing->after_id, missing->before_id, missing->reason);
	}
}

/* ---- printing ---- */

static bool about_sku(enum audit_fault fault)
{
	return fault >= AUDIT_STOCK_DAMAGED;
}

static bool repairable(const struct audit *audit, const struct violation *violation)
{
	enum audit_repair repair = audit_fault_info(violation->fault)->repair;

	return repair == AUDIT_COUNTERS ? audit->options->repair_counters : repair != AUDIT_BY_HAND;
}

static void violation_json(const struct audit *audit, const struct violation *violation,
			   const char *kind)
{
	const struct audit_fault_info *info = audit_fault_info(violation->fault);
	json_t *json = json_pack("{s:s, s:o, s:s, s:o, s:s, s:b}", "violation", info->name, kind,
				 ctl_json_text(violation->subject), "text", info->text, "detail",
				 ctl_json_text(violation->detail), "fix", info->fix, "repairable",
				 info->repair != AUDIT_BY_HAND);

	if (audit->ctl->partitions > 1)
		json_object_set_new(json, "partition", json_integer(violation->partition));
	ctl_json_print(json);
}

static void print_violations(const struct audit *audit)
{
	for (size_t i = 0; i < audit->violation_count; i++) {
		const struct violation *violation = &audit->violations[i];
		const struct audit_fault_info *info = audit_fault_info(violation->fault);
		const char *kind = about_sku(violation->fault) ? "sku" : "order_id";
		char *subject = rt_text_shown(violation->subject, strlen(violation->subject));
		char *detail = rt_text_shown(violation->detail, strlen(violation->detail));

		if (audit->ctl->json)
			violation_json(audit, violation, kind);
		else
			printf("VIOLATION  %s %s  %s: %s\n           %s\n           fix: %s\n",
			       kind, subject, info->name, info->text, detail, info->fix);
		free(subject);
		free(detail);
	}
}

static json_t *archive_json(const struct audit *audit)
{
	const struct audit_archive *archive = &audit->archive;

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "orders", (json_int_t)archive->archived,
			 "dropped", (json_int_t)archive->dropped, "gaps", (json_int_t)audit->gaps,
			 "unreadable", (json_int_t)audit->unreadable, "in_flight",
			 (json_int_t)archive->under_way, "left_out", (json_int_t)archive->left_out);
}

static void print_archive(const struct audit *audit)
{
	const struct audit_archive *archive = &audit->archive;

	if (!archive->is_there)
		return;
	if (!archive->compared) {
		printf("archive       not compared: it could not be asked\n");
		return;
	}
	printf("archive       %zu orders, %zu of them dropped here; %zu gaps, %zu unreadable "
	       "entries",
	       archive->archived, archive->dropped, audit->gaps, audit->unreadable);
	if (archive->under_way > 0)
		printf("; %zu second looks were only under way", archive->under_way);
	if (archive->left_out > 0)
		printf("; %zu more looked wrong: audit again", archive->left_out);
	printf("\n");
}

static void print_summary_json(const struct audit *audit)
{
	json_t *states = json_object(), *json;

	for (int i = 0; i < STATES; i++) {
		char name[32];

		snprintf(name, sizeof(name), "%s%s", order_state_status((enum order_state)i),
			 order_state_settled((enum order_state)i) || i == ORDER_PENDING ||
					 i == ORDER_RESERVED
				 ? ""
				 : "_UNSETTLED");
		/* Two states are CONFIRMED_UNSETTLED. */
		json_object_set_new(states, name,
				    json_integer(json_integer_value(json_object_get(states, name)) +
						 (json_int_t)audit->states[i]));
	}
	json = json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "orders",
			 (json_int_t)audit->orders.count, "states", states, "timers",
			 (json_int_t)audit->timers, "reservations", (json_int_t)audit->reservations,
			 "tombstones", (json_int_t)audit->tombstones, "skus",
			 (json_int_t)audit->stock.skus, "hot_skus", (json_int_t)audit->stock.hot,
			 "not_checked_skus", (json_int_t)audit->stock.unchecked, "dead_letters",
			 (json_int_t)audit->dead, "second_looks",
			 (json_int_t)audit->suspicion_count, "in_flight", (json_int_t)audit->moved,
			 "violations", (json_int_t)audit->violation_count);
	if (audit->ctl->partitions > 1) {
		json_object_set_new(json, "partitions", json_integer(audit->ctl->partitions));
		json_object_set_new(json, "parts", json_integer((json_int_t)audit->parts.count));
	}
	if (audit->archive.compared)
		json_object_set_new(json, "archive", archive_json(audit));
	ctl_json_print(json);
}

static void print_summary(const struct audit *audit)
{
	const char *comma = "";

	if (audit->ctl->json) {
		print_summary_json(audit);
		return;
	}
	if (audit->ctl->ops_password_missing != NULL)
		printf("Redis user    default, which cannot repair: the password file of ops "
		       "cannot "
		       "be read: %s\n",
		       audit->ctl->ops_password_missing);
	printf("orders        %zu (", audit->orders.count);
	for (int i = 0; i < STATES; i++) {
		enum order_state state = (enum order_state)i;
		bool open = !order_state_settled(state) && state != ORDER_PENDING &&
			    state != ORDER_RESERVED;

		if (audit->states[i] == 0)
			continue;
		printf("%s%zu %s%s", comma, audit->states[i], order_state_status(state),
		       open ? " not settled" : "");
		comma = ", ";
	}
	printf("%s)\n", comma[0] == '\0' ? "none" : "");
	printf("timers        %zu\n", audit->timers);
	printf("reservations  %zu", audit->reservations);
	if (audit->tombstones > 0)
		printf(", %zu of them hold nothing and have no order", audit->tombstones);
	if (audit->ctl->partitions > 1)
		printf("\nparts         %zu, of reservations that are split over %d partitions",
		       audit->parts.count, audit->ctl->partitions);
	printf("\nSKUs          %zu", audit->stock.skus);
	if (audit->stock.unchecked > 0)
		printf(", %zu of them not checked: they changed during each look, and only the "
		       "user ops may sum them at one instant",
		       audit->stock.unchecked);
	else if (audit->stock.hot > 0)
		printf(", %zu of them summed at one instant: they changed during each look",
		       audit->stock.hot);
	printf("\ndead letters  %" PRId64 "%s\n", audit->dead,
	       audit->dead > 0 ? " (tandemctl dead list)" : "");
	printf("second looks  %zu, %zu of them were only under way\n", audit->suspicion_count,
	       audit->moved);
	if (audit->suspicion_count > 0 && !audit->unread_complete)
		printf("              too many events wait to be read for a verdict: audit again "
		       "later\n");
	print_archive(audit);
	printf("violations    %zu\n", audit->violation_count);
}

/* ---- repair ---- */

static enum stock_request request_of(const struct violation *violation, enum audit_repair repair)
{
	if (repair == AUDIT_RESERVE)
		return STOCK_REQ_RESERVE;
	if (repair == AUDIT_COMMIT)
		return STOCK_REQ_COMMIT;
	if (violation->state == ORDER_REJECTED)
		return STOCK_REQ_REJECT;
	return violation->state == ORDER_EXPIRED ? STOCK_REQ_EXPIRE : STOCK_REQ_RELEASE;
}

static struct ctl_deed deed_of(const struct violation *violation)
{
	return (struct ctl_deed){ .action = "repair",
				  .subject = violation->subject,
				  .about = audit_fault_info(violation->fault)->name };
}

/* Does what inventory does on the order's event, without an entry to acknowledge. */
static bool ask_inventory(struct ctl *ctl, const struct violation *violation,
			  enum audit_repair repair)
{
	const struct ctl_deed deed = deed_of(violation);
	char events[CTL_KEY], time[RT_TIME_TEXT];
	enum stock_request request = request_of(violation, repair);
	char letter[2] = { stock_request_letter(request), '\0' };
	int64_t now_ms = ctl_now_ms(ctl);
	struct rt_args args = { 0 };
	redisReply *reply;
	bool good;

	if (violation->split)
		return audit_split_serve(ctl, &deed, violation->partition, request,
					 violation->lines);
	ctl_key(events, "inventory", violation->partition, "events");
	rt_time_format(now_ms, time);
	ctl_operate(ctl, &args, &inventory_functions, events, NULL, &deed, "request");
	rt_args_str(&args, letter);
	rt_args_int(&args, now_ms);
	rt_args_str(&args, time);
	rt_args_str(&args, violation->subject);
	if (repair == AUDIT_RESERVE)
		rt_args_str(&args, violation->lines);
	reply = ctl_operate_send(ctl, &args, false);
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	good = rt_reply_text(reply) != NULL && reply->elements < 2;
	if (!good)
		ctl_error("%s: %s", violation->subject,
			  reply->elements > 1 ? ctl_text(reply->element[1], "refused") : "refused");
	freeReplyObject(reply);
	return good;
}

static bool set_timer(struct ctl *ctl, const struct violation *violation)
{
	const struct ctl_deed deed = deed_of(violation);
	char events[CTL_KEY];
	struct rt_args args = { 0 };
	redisReply *reply;

	ctl_key(events, "order", violation->partition, "events");
	ctl_operate(ctl, &args, &order_functions, events, NULL, &deed, "timer");
	rt_args_str(&args, violation->subject);
	rt_args_int(&args, (int64_t)violation->version);
	rt_args_int(&args, violation->due_ms > 0 ? violation->due_ms : ctl_now_ms(ctl));
	reply = ctl_operate_send(ctl, &args, false);
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	freeReplyObject(reply);
	return true;
}

/* Removes the timer, unless the order needs it by now. */
static bool drop_timer(struct ctl *ctl, const struct violation *violation)
{
	const struct ctl_deed deed = deed_of(violation);
	char events[CTL_KEY], orders[CTL_KEY];
	struct rt_args args = { 0 };
	struct order_record record;
	redisReply *order, *reply;
	bool stored;

	ctl_key(events, "order", violation->partition, "events");
	ctl_key(orders, "order", violation->partition, "orders");
	order = ctl_redis(ctl, "HGET", orders, violation->subject);
	if (order == NULL)
		return false;
	stored = order->type == REDIS_REPLY_STRING;
	if (stored && (!order_record_read(order->str, order->len, violation->subject, &record) ||
		       !order_state_settled(record.state))) {
		freeReplyObject(order);
		return true;
	}
	/* Only as long as the order is as it was read. */
	ctl_operate(ctl, &args, &order_functions, events, NULL, &deed, "drop_timer");
	rt_args_str(&args, violation->subject);
	rt_args_add(&args, stored ? order->str : "", stored ? order->len : 0);
	reply = ctl_operate_send(ctl, &args, false);
	rt_args_done(&args);
	freeReplyObject(order);
	if (reply == NULL)
		return false;
	freeReplyObject(reply);
	return true;
}

static bool repair_one(struct ctl *ctl, const struct violation *violation)
{
	enum audit_repair repair = audit_fault_info(violation->fault)->repair;
	/* An order that does not exist counts as CANCELLED. */
	bool ended = violation->state == ORDER_REJECTED || violation->state == ORDER_CANCELLED ||
		     violation->state == ORDER_EXPIRED;
	bool reserved = violation->state == ORDER_RESERVED;
	const struct ctl_deed deed = deed_of(violation);

	switch (repair) {
	case AUDIT_SET_TIMER:
		return set_timer(ctl, violation);
	case AUDIT_DROP_TIMER:
		return drop_timer(ctl, violation);
	case AUDIT_PARTS:
		return audit_split_align(ctl, &deed, violation->partition, violation->lines, ended,
					 reserved);
	case AUDIT_COUNTERS:
		return audit_stock_repair(ctl, &deed, violation->partition);
	default:
		return ask_inventory(ctl, violation, repair);
	}
}

/* Counters first, so that they are right when inventory is asked to change them. */
static void repair_all(const struct audit *audit)
{
	size_t count = 0, repaired = 0;

	for (size_t i = 0; i < audit->violation_count; i++)
		count += repairable(audit, &audit->violations[i]);
	if (count == 0 || ctl_agree(audit->options->yes, "repair %zu of them", count) != CTL_OK)
		return;
	for (int orders = 0; orders < 2; orders++) {
		for (size_t i = 0; i < audit->violation_count; i++) {
			const struct violation *violation = &audit->violations[i];

			if (repairable(audit, violation) &&
			    about_sku(violation->fault) == (orders == 0))
				repaired += repair_one(audit->ctl, violation);
		}
	}
	if (!audit->ctl->json)
		printf("repaired      %zu of %zu; audit again to see what is left\n", repaired,
		       audit->violation_count);
}

/* ---- the command ---- */

static void audit_done(struct audit *audit)
{
	for (size_t i = 0; i < audit->suspicion_count; i++)
		free(audit->suspicions[i].order_id);
	for (size_t i = 0; i < audit->violation_count; i++) {
		free(audit->violations[i].subject);
		free(audit->violations[i].detail);
		free(audit->violations[i].lines);
	}
	free(audit->suspicions);
	free(audit->violations);
	audit_parts_done(&audit->parts);
	audit_ids_done(&audit->orders);
	audit_ids_done(&audit->others);
	audit_ids_done(&audit->nameless);
	audit_ids_done(&audit->unread);
	audit_reader_done(&audit->reader);
}

static int audit_run(struct ctl *ctl, void *options)
{
	struct audit audit = {
		.ctl = ctl,
		.options = options,
		.unread_complete = true,
		.reader = { .ctl = ctl, .user = &audit },
		.stock = { .on_fault = on_stock, .user = &audit },
		.archive = { .on_fault = on_archived, .on_missing = on_missing, .user = &audit },
	};
	int code = CTL_UNAVAILABLE;

	if (ctl_partitions(ctl) > 0 && scan_all(&audit) && look_again(&audit) &&
	    audit_stock(ctl, &audit.stock) && ctl_dead_count(ctl, &audit.dead) &&
	    audit_archive(ctl, &audit.archive, wait_ms, audit.options->window_ms)) {
		print_violations(&audit);
		print_summary(&audit);
		if (audit.options->repair)
			repair_all(&audit);
		code = audit.violation_count > 0 ? CTL_NEGATIVE : CTL_OK;
	}
	audit_done(&audit);
	return code;
}

static const struct argp_option audit_options[] = {
	{ "window", KEY_WINDOW, "DURATION", 0,
	  "How long a change may be under way before it is a violation (2s)", 0 },
	{ "repair", KEY_REPAIR, NULL, 0,
	  "Repair what the services' own functions can repair: set a timer, release, reserve or "
	  "commit again",
	  0 },
	{ "repair-counters", KEY_REPAIR_COUNTERS, NULL, 0,
	  "Also set a SKU's counters to the sums of its reservations. The stock of a lost "
	  "reservation becomes available then: look at the numbers first",
	  0 },
	{ "yes", KEY_YES, NULL, 0, "Do not ask before repairing", 0 },
	{ 0 },
};
const struct ctl_command ctl_audit = {
	.name = "audit",
	.about = "Proves that orders and stock agree; repairs",
	.text = "Proves that orders, reservations, timers and stock agree, and the archive, if "
		"there "
		"is one, with the orders, while everything runs. "
		"A second look separates violations from changes under way. Exit code 1: there are "
		"violations (also when this run has repaired them).\vExamples:\n"
		"  tandemctl audit\n"
		"  tandemctl audit --repair --yes --window 5s",
	.changes = true,
	.options = audit_options,
	.parse = audit_parse,
	.options_size = sizeof(struct options),
	.run = audit_run,
};
