/* migrate_totals.c - adds up a store: orders and reservations by state, stock by counters and by reservations.
 *
 * It reads a store as it is, whatever the migration has made of it, page by page. Sums over SKUs have a hash: two stores
 * with the same one have the same sum for each SKU. */
#include <inttypes.h>
#include <string.h>

#include "audit.h"
#include "base/base.h"
#include "migrate.h"

struct adding {
	struct migration_totals *totals;
	bool damaged;
};

/* Adds a SKU's quantity. */
static void add(struct migration_sum *sum, const char *sku, size_t length, uint64_t quantity)
{
	uint64_t hash = audit_fingerprint(14695981039346656037U, sku, length);

	sum->sum += quantity;
	sum->hash += (hash | 1) * quantity;
}

static bool damaged(struct adding *adding, const char *what, const redisReply *name)
{
	adding->damaged = true;
	ctl_error("%s %s is damaged", what, ctl_text(name, "?"));
	return false;
}

static bool on_order(const redisReply *name, const redisReply *value, void *user)
{
	struct adding *adding = user;
	enum order_state state;

	if (value->type != REDIS_REPLY_STRING ||
	    !order_state_parse(value->str, strcspn(value->str, " "), &state))
		return damaged(adding, "the order", name);
	adding->totals->orders[state]++;
	return true;
}

/* Of "quantity", or "quantity-returned": what is held or sold still. */
static uint64_t quantity_of(const char *text)
{
	char *end;
	uint64_t quantity = strtoull(text, &end, 10);

	return *end == '-' ? quantity - RT_MIN(quantity, strtoull(end + 1, NULL, 10)) : quantity;
}

/* Adds what lines hold here: those with "@q" have it in a part. */
static void add_lines(struct migration_totals *totals, enum stock_state state, const char *lines)
{
	struct migration_sum *sum = state == STOCK_RESERVED ? &totals->held : &totals->sold;

	if (state != STOCK_RESERVED && !stock_state_sold(state))
		return;
	while (*lines != '\0') {
		size_t length = strcspn(lines, " "), sku = strcspn(lines, "= ");

		if (sku < length && memchr(lines, '@', length) == NULL)
			add(sum, lines, sku, quantity_of(lines + sku + 1));
		lines += length + (lines[length] == ' ');
	}
}

static bool on_reservation(const redisReply *name, const redisReply *value, void *user)
{
	struct adding *adding = user;
	enum stock_state state;
	const char *lines;

	if (!audit_reservation(ctl_text(value, ""), &state, &lines))
		return damaged(adding, "the reservation of", name);
	adding->totals->reservations[state]++;
	add_lines(adding->totals, state, lines);
	return true;
}

static bool on_part(const redisReply *name, const redisReply *value, void *user)
{
	struct adding *adding = user;
	enum stock_state state;
	const char *lines;
	int home;

	if (!audit_part(ctl_text(value, ""), &state, &home, &lines))
		return damaged(adding, "a part of the reservation of", name);
	add_lines(adding->totals, state, lines);
	return true;
}

static bool on_stock(const redisReply *name, const redisReply *value, void *user)
{
	struct adding *adding = user;
	struct migration_totals *totals = adding->totals;
	struct migration_sum *const sums[] = { &totals->available, &totals->reserved,
					       &totals->committed, &totals->received };
	const char *text = ctl_text(value, "");
	char *end;

	for (size_t i = 0; i < RT_LENGTH(sums); i++) {
		uint64_t quantity = strtoull(text, &end, 10);

		if (end == text || *end != ' ')
			return damaged(adding, "the stock of", name);
		add(sums[i], name->str, (size_t)name->len, quantity);
		text = end + 1;
	}
	totals->skus++;
	return true;
}

static bool count(struct ctl *ctl, const char *context, int partition, const char *rest,
		  int64_t *ret)
{
	char key[CTL_KEY];
	redisReply *reply;

	ctl_key(key, context, partition, rest);
	reply = ctl_redis(ctl, "ZCARD", key);
	*ret += ctl_count(reply);
	if (reply == NULL)
		return false;
	freeReplyObject(reply);
	return true;
}

bool migration_totals(struct ctl *ctl, struct migration_totals *totals)
{
	static const struct {
		const char *context, *rest;
		bool (*on_pair)(const redisReply *name, const redisReply *value, void *user);
	} hashes[] = { { "order", "orders", on_order },
		       { "inventory", "r", on_reservation },
		       { "inventory", "parts", on_part },
		       { "inventory", "stock", on_stock } };
	struct adding adding = { .totals = totals };
	bool good = true;

	*totals = (struct migration_totals){ .timers = 0 };
	for (int p = 0; p < ctl->partitions && good; p++) {
		for (size_t i = 0; i < RT_LENGTH(hashes) && good; i++) {
			char key[CTL_KEY];

			ctl_key(key, hashes[i].context, p, hashes[i].rest);
			good = audit_scan(ctl, "HSCAN", key, hashes[i].on_pair, &adding);
		}
		good = good && count(ctl, "order", p, "timers", &totals->timers) &&
		       count(ctl, "inventory", p, "skus", &totals->listed);
	}
	return good;
}

/* ---- comparing ---- */

struct comparison {
	const struct ctl *ctl;
	struct ctl_table table;
	int differ;
};

static void show(struct comparison *comparison, const char *name, struct migration_sum source,
		 struct migration_sum target)
{
	bool same = source.sum == target.sum && source.hash == target.hash;

	comparison->differ += !same;
	if (comparison->ctl->json) {
		ctl_json_print(json_pack("{s:s, s:I, s:I, s:b}", "total", name, "source",
					 (json_int_t)source.sum, "target", (json_int_t)target.sum,
					 "same", same));
		return;
	}
	ctl_cell(&comparison->table, "%s", name);
	ctl_cell(&comparison->table, "%" PRIu64, source.sum);
	ctl_cell(&comparison->table, "%" PRIu64, target.sum);
	ctl_cell(&comparison->table, "%s", same ? "" : "DIFFERENT");
}

static void show_count(struct comparison *comparison, const char *kind, const char *name,
		       int64_t source, int64_t target)
{
	char text[64];

	if (source == 0 && target == 0)
		return;
	snprintf(text, sizeof(text), "%s%s%s", kind, name[0] == '\0' ? "" : " ", name);
	show(comparison, text, (struct migration_sum){ (uint64_t)source, 0 },
	     (struct migration_sum){ (uint64_t)target, 0 });
}

int migration_compare(const struct ctl *ctl, const struct migration_totals *source,
		      const struct migration_totals *target)
{
	struct comparison comparison = { .ctl = ctl,
					 .table = CTL_TABLE("TOTAL", "SOURCE", "TARGET", "") };

	for (int i = 0; i < ORDER_STATE_COUNT; i++)
		show_count(&comparison, "orders", order_state_text((enum order_state)i),
			   source->orders[i], target->orders[i]);
	show_count(&comparison, "timers", "", source->timers, target->timers);
	for (int i = STOCK_RESERVED; i < STOCK_STATE_COUNT; i++)
		show_count(&comparison, "reservations", stock_state_text((enum stock_state)i),
			   source->reservations[i], target->reservations[i]);
	show_count(&comparison, "SKUs", "", source->skus, target->skus);
	show_count(&comparison, "SKUs", "listed", source->listed, target->listed);
	show(&comparison, "held by reservations", source->held, target->held);
	show(&comparison, "sold by reservations", source->sold, target->sold);
	show(&comparison, "available", source->available, target->available);
	show(&comparison, "reserved", source->reserved, target->reserved);
	show(&comparison, "committed", source->committed, target->committed);
	show(&comparison, "received", source->received, target->received);
	ctl_table_print(&comparison.table);
	return comparison.differ;
}
