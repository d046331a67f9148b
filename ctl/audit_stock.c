/* audit_stock.c - adds up every SKU's counters and reservations while they change.
 *
 *   look     reads the counters and what was sold in reservations that were dropped, then all reservations, then both again
 *     same version before and after   the SKU did not change in between: the sums are exact
 *     another version                 looks again, up to LOOKS times
 *   at last  one script sums the SKUs that changed during every look or do not add up: it reads all reservations once, however
 *            many SKUs they are
 *
 * Comparing versions is enough: each change of a reservation changes those of all its SKUs, but for dropping it, which changes how
 * many were sold in dropped ones. Each partition is
 * checked by itself: what is held of its SKUs is in its own reservations and in its parts of those of others.
 * A line "sku=quantity@q" of a reservation moves no counters: partition q has it in a part. */
#include <inttypes.h>
#include <string.h>
#include <uthash.h>

#include "audit.h"
#include "events/entry.h"
#include "inventory/store.h"

#define LOOKS      3
#define COUNTERS   128  /* bytes: six numbers */
#define SUMS       3    /* of a SKU: its counters, what is held, what was sold */
#define SUMMED_MAX 5000 /* SKUs in a call of the script */

struct sku {
	UT_hash_handle hh;
	bool counted;         /* has counters */
	bool steady, correct; /* did not change during a look; and adds up: finished */
	bool dropped_more;    /* during this look */
	char before[COUNTERS];
	uint64_t dropped;             /* sold in reservations that were dropped */
	uint64_t reserved, committed; /* of its reservations; and of those */
	size_t length;
	char name[]; /* bytes: a name that Tandem did not write may hold a NUL */
};

struct look {
	struct ctl *ctl;
	struct audit_stock *audit;
	struct sku *skus;
	struct audit_ids seen; /* HSCAN may give a field twice */
	bool after;
	size_t moving;
};

static struct sku *sku_of(struct look *look, const char *name, size_t length)
{
	struct sku *sku;

	HASH_FIND(hh, look->skus, name, length, sku);
	if (sku != NULL)
		return sku;
	sku = rt_alloc(sizeof(*sku) + length + 1);
	memcpy(sku->name, name, length);
	sku->length = length;
	HASH_ADD_KEYPTR(hh, look->skus, sku->name, length, sku);
	return sku;
}

/* ---- the verdict ---- */

/* Reports the faults of counters and sums of one instant. */
static void judge(const struct audit_stock *audit, const char *name, const char *counters,
		  uint64_t reserved, uint64_t committed)
{
	struct stock stock;
	char detail[320];

	if (counters == NULL) {
		snprintf(detail, sizeof(detail),
			 "reservations of %" PRIu64 " held and %" PRIu64 " sold", reserved,
			 committed);
		if (reserved > 0 || committed > 0)
			audit->on_fault(AUDIT_STOCK_MISSING, name, detail, audit->user);
		return;
	}
	if (!inventory_stock_read(counters, &stock)) {
		snprintf(detail, sizeof(detail), "the field holds '%.100s'", counters);
		audit->on_fault(AUDIT_STOCK_DAMAGED, name, detail, audit->user);
		return;
	}
	snprintf(detail, sizeof(detail),
		 "available %" PRIu64 ", reserved %" PRIu64 ", committed %" PRIu64
		 ", received %" PRIu64 ", version %" PRIu64 "; reservations hold %" PRIu64
		 " and sold %" PRIu64,
		 stock.available, stock.reserved, stock.committed, stock.received, stock.version,
		 reserved, committed);
	if (!stock_adds_up(&stock))
		audit->on_fault(AUDIT_STOCK_SUM, name, detail, audit->user);
	if (stock.reserved != reserved)
		audit->on_fault(AUDIT_RESERVED_SUM, name, detail, audit->user);
	if (stock.committed != committed)
		audit->on_fault(AUDIT_COMMITTED_SUM, name, detail, audit->user);
}

/* KEYS: counters, reservations, parts, sold in dropped reservations. ARGV: SKUs. Answers for each its counters and the sums held
 * and sold, all at one instant. */
static const char exact_script[] =
	"local held, sold, answers = {}, {}, {}\n"
	"for _, sku in ipairs(ARGV) do\n"
	"	held[sku] = 0\n"
	"	sold[sku] = tonumber(redis.call('HGET', KEYS[4], sku) or 0) or 0\n"
	"end\n"
	"local function add(record)\n"
	"	local word, lines = string.match(record, '^(%u+) %d+ %d+ (.*)$')\n"
	"	if word ~= 'RESERVED' and word ~= 'COMMITTED' and word ~= 'RETURNED' then return "
	"end\n"
	"	for line in string.gmatch(lines, '[^ ]+') do\n"
	"		local sku, quantity, back = string.match(line, '^([^=]+)=(%d+)%-?(%d*)$')\n"
	"		if held[sku] and word == 'RESERVED' then\n"
	"			held[sku] = held[sku] + quantity\n"
	"		elseif held[sku] then\n"
	"			sold[sku] = sold[sku] + quantity - (tonumber(back) or 0)\n"
	"		end\n"
	"	end\n"
	"end\n"
	"for key = 2, 3 do\n"
	"	local cursor = '0'\n"
	"	repeat\n"
	"		local page = redis.call('HSCAN', KEYS[key], cursor, 'COUNT', 1000)\n"
	"		cursor = page[1]\n"
	"		for i = 2, #page[2], 2 do add(page[2][i]) end\n"
	"	until cursor == '0'\n"
	"end\n"
	"for i, sku in ipairs(ARGV) do\n"
	"	answers[i] = { redis.call('HGET', KEYS[1], sku), string.format('%d', held[sku]),\n"
	"		string.format('%d', sold[sku]) }\n"
	"end\n"
	"return answers\n";

static bool are_sums(const redisReply *reply, size_t count)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (reply->element[i]->type != REDIS_REPLY_ARRAY ||
		    reply->element[i]->elements != SUMS)
			return false;
	return true;
}

/* NULL: Redis could not be asked; else the answers for all of them, SUMS values each. */
static redisReply *sum_exactly(struct ctl *ctl, int partition, const struct rt_slice *skus,
			       size_t count)
{
	char stock[CTL_KEY], reservations[CTL_KEY], parts[CTL_KEY], dropped[CTL_KEY];
	struct rt_args args = { 0 };
	redisReply *reply;

	ctl_key(stock, "inventory", partition, "stock");
	ctl_key(reservations, "inventory", partition, "r");
	ctl_key(parts, "inventory", partition, "parts");
	ctl_key(dropped, "inventory", partition, "dropped");
	rt_args_str(&args, "EVAL");
	rt_args_str(&args, exact_script);
	rt_args_str(&args, "4");
	rt_args_str(&args, stock);
	rt_args_str(&args, reservations);
	rt_args_str(&args, parts);
	rt_args_str(&args, dropped);
	for (size_t i = 0; i < count; i++)
		rt_args_add(&args, skus[i].data, skus[i].length);
	reply = ctl_redis_args(ctl, &args, 0, false);
	rt_args_done(&args);
	if (reply == NULL || are_sums(reply, count))
		return reply;
	ctl_error("Redis gave no sums");
	freeReplyObject(reply);
	return NULL;
}

/* Writes the counters as they should be beside these sums; "": they are. False: there are none, the reason is on
 * stderr. */
static bool counters_mend(const char *sku, const char *counters, uint64_t held, uint64_t sold,
			  char mended[COUNTERS])
{
	struct stock stock;
	int length;

	if (!inventory_stock_read(counters, &stock)) {
		ctl_error("%s: the counters cannot be read", sku);
		return false;
	}
	if (held > stock.received || sold > stock.received - held) {
		ctl_error("%s: more is held and sold than was received", sku);
		return false;
	}
	mended[0] = '\0';
	if (stock_adds_up(&stock) && stock.reserved == held && stock.committed == sold)
		return true;
	length = snprintf(
		mended, COUNTERS, "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64,
		stock.received - held - sold, held, sold, stock.received, stock.version + 1);
	if (stock.threshold > 0)
		snprintf(mended + length, COUNTERS - (size_t)length, " %" PRIu64, stock.threshold);
	return true;
}

/* Once. *ret_again: the counters were changed meanwhile. */
static bool repair_once(struct ctl *ctl, const struct ctl_deed *deed, int partition,
			bool *ret_again)
{
	const char *sku = deed->subject;
	redisReply *all = sum_exactly(ctl, partition, &(struct rt_slice){ sku, strlen(sku) }, 1);
	const redisReply *sums;
	redisReply *reply;
	const char *counters;
	char events[CTL_KEY], mended[COUNTERS], time[RT_TIME_TEXT];
	struct rt_args args = { 0 };
	int64_t now_ms = ctl_now_ms(ctl);
	bool good;

	*ret_again = false;
	if (all == NULL)
		return false;
	sums = all->element[0];
	counters = ctl_text(sums->element[0], "");
	good = counters_mend(sku, counters, (uint64_t)ctl_number(sums->element[1]),
			     (uint64_t)ctl_number(sums->element[2]), mended);
	if (!good || mended[0] == '\0') {
		freeReplyObject(all);
		return good;
	}
	ctl_key(events, "inventory", partition, "events");
	ctl_operate(ctl, &args, &inventory_functions, events, NULL, deed, "recount");
	rt_args_str(&args, sku);
	rt_args_str(&args, counters);
	rt_args_str(&args, mended);
	rt_time_format(now_ms, time);
	rt_args_int(&args, now_ms);
	rt_args_str(&args, time);
	reply = ctl_operate_send(ctl, &args, false);
	rt_args_done(&args);
	freeReplyObject(all);
	good = reply != NULL;
	*ret_again = good && ctl_number(reply) != 1;
	freeReplyObject(reply);
	return good;
}

bool audit_stock_repair(struct ctl *ctl, const struct ctl_deed *deed, int partition)
{
	bool good = true, again = true;

	for (int i = 0; i < LOOKS && good && again; i++)
		good = repair_once(ctl, deed, partition, &again);
	if (good && again)
		ctl_error("%s: its counters change too often: audit again later", deed->subject);
	return good && !again;
}

/* For a user that may not run scripts: the sums of a SKU that did not change are exact, too. */
static void judge_plainly(struct look *look, const struct sku *sku)
{
	char *name = rt_text_shown(sku->name, sku->length);

	if (sku->steady)
		judge(look->audit, name, sku->before, sku->reserved, sku->committed);
	else
		look->audit->unchecked++;
	free(name);
}

/* By what the script says of it. */
static void judge_exactly(struct look *look, const struct sku *sku, const redisReply *sums)
{
	char *name, *counters = NULL;

	if (memchr(sku->name, '\0', sku->length) != NULL) {
		/* No command of tandemctl can take this name. */
		name = rt_text_shown(sku->name, sku->length);
		look->audit->on_fault(AUDIT_STOCK_DAMAGED, name, "the name holds a NUL",
				      look->audit->user);
	} else {
		name = rt_strndup(sku->name, sku->length);
		if (sums->element[0]->type == REDIS_REPLY_STRING)
			counters = rt_text_shown(sums->element[0]->str, sums->element[0]->len);
		judge(look->audit, name, counters, (uint64_t)ctl_number(sums->element[1]),
		      (uint64_t)ctl_number(sums->element[2]));
	}
	free(name);
	free(counters);
}

static bool judge_together(struct look *look, struct sku *const *skus, size_t count)
{
	struct rt_slice *names = rt_alloc(count * sizeof(*names));
	redisReply *reply;

	for (size_t i = 0; i < count; i++)
		names[i] = (struct rt_slice){ skus[i]->name, skus[i]->length };
	look->ctl->denied = false;
	look->ctl->deny_quietly = true;
	reply = sum_exactly(look->ctl, look->audit->partition, names, count);
	free(names);
	look->ctl->deny_quietly = false;
	if (reply == NULL && !look->ctl->denied)
		return false;
	for (size_t i = 0; i < count; i++)
		if (reply == NULL)
			judge_plainly(look, skus[i]);
		else
			judge_exactly(look, skus[i], reply->element[i]);
	freeReplyObject(reply);
	return true;
}

/* Those that changed during every look, or did not add up. */
static bool judge_rest(struct look *look)
{
	struct sku *skus[SUMMED_MAX], *sku, *next;
	size_t count = 0;
	bool good = true;

	HASH_ITER (hh, look->skus, sku, next) {
		if (sku->correct)
			continue;
		if (count == SUMMED_MAX) {
			good = judge_together(look, skus, count);
			count = 0;
		}
		if (!good)
			break;
		skus[count++] = sku;
	}
	return good && (count == 0 || judge_together(look, skus, count));
}

/* ---- a look ---- */

static bool on_counters(const redisReply *name, const redisReply *value, void *user)
{
	struct look *look = user;
	const char *text = ctl_text(value, "");
	struct sku *sku;

	if (name->str == NULL)
		return true;
	sku = sku_of(look, name->str, name->len);
	if (sku->steady)
		return true;
	if (!look->after) {
		sku->counted = true;
		snprintf(sku->before, sizeof(sku->before), "%s", text);
	} else {
		/* A SKU that was not there before counts as changed, too. */
		sku->steady = sku->counted && !sku->dropped_more && strcmp(sku->before, text) == 0;
	}
	return true;
}

static bool on_dropped(const redisReply *name, const redisReply *value, void *user)
{
	struct look *look = user;
	uint64_t sold = strtoull(ctl_text(value, "0"), NULL, 10);
	struct sku *sku;

	if (name->str == NULL)
		return true;
	sku = sku_of(look, name->str, name->len);
	if (sku->steady)
		return true;
	if (look->after)
		sku->dropped_more = sold != sku->dropped;
	else
		sku->dropped = sold; /* HSCAN may give a field twice */
	return true;
}

static void add_lines(struct look *look, enum stock_state state, const char *lines)
{
	while (*lines != '\0') {
		size_t length = strcspn(lines, "= ");
		bool counted = lines[length] == '=';
		uint64_t quantity = 0;
		struct sku *sku;

		/* What came back is neither held nor sold. */
		if (counted &&
		    lines[length + 1 + strspn(lines + length + 1, "0123456789-")] == '@') {
			/* A part has it. */
			lines += strcspn(lines, " ");
			lines += *lines == ' ';
			continue;
		}
		sku = sku_of(look, lines, length);
		if (counted) {
			char *end;

			quantity = strtoull(lines + length + 1, &end, 10);
			if (*end == '-')
				quantity -= RT_MIN(quantity, strtoull(end + 1, NULL, 10));
		}
		if (sku->steady)
			quantity = 0; /* summed in an earlier look */
		if (state == STOCK_RESERVED)
			sku->reserved += quantity;
		else
			sku->committed += quantity;
		lines += strcspn(lines, " ");
		lines += *lines == ' ';
	}
}

static bool on_reservation(const redisReply *name, const redisReply *value, void *user)
{
	struct look *look = user;
	enum stock_state state;
	const char *lines;

	if (!audit_ids_add(&look->seen, ctl_text(name, "")))
		return true;
	/* A damaged record is reported with its order. */
	if (audit_reservation(ctl_text(value, ""), &state, &lines) &&
	    (state == STOCK_RESERVED || stock_state_sold(state)))
		add_lines(look, state, lines);
	return true;
}

static bool on_part(const redisReply *name, const redisReply *value, void *user)
{
	struct look *look = user;
	enum stock_state state;
	const char *lines;
	int partition;

	if (!audit_ids_add(&look->seen, ctl_text(name, "")))
		return true;
	if (audit_part(ctl_text(value, ""), &state, &partition, &lines) &&
	    (state == STOCK_RESERVED || state == STOCK_COMMITTED))
		add_lines(look, state, lines);
	return true;
}

/* Adds up the parts here of reservations of other partitions. */
static bool look_at_parts(struct look *look)
{
	char parts[CTL_KEY];
	bool good;

	if (look->ctl->partitions == 1)
		return true;
	ctl_key(parts, "inventory", look->audit->partition, "parts");
	good = audit_scan(look->ctl, "HSCAN", parts, on_part, look);
	audit_ids_done(&look->seen);
	return good;
}

static bool look_once(struct look *look)
{
	char stock[CTL_KEY], reservations[CTL_KEY], dropped[CTL_KEY];
	struct sku *sku, *next;
	bool good;

	ctl_key(stock, "inventory", look->audit->partition, "stock");
	ctl_key(dropped, "inventory", look->audit->partition, "dropped");
	ctl_key(reservations, "inventory", look->audit->partition, "r");
	HASH_ITER (hh, look->skus, sku, next) {
		if (sku->steady)
			continue;
		sku->counted = sku->dropped_more = false;
		sku->dropped = sku->reserved = sku->committed = 0;
	}
	look->after = false;
	good = audit_scan(look->ctl, "HSCAN", stock, on_counters, look) &&
	       audit_scan(look->ctl, "HSCAN", dropped, on_dropped, look) &&
	       audit_scan(look->ctl, "HSCAN", reservations, on_reservation, look);
	audit_ids_done(&look->seen);
	good = good && look_at_parts(look);
	look->after = true;
	HASH_ITER (hh, look->skus, sku, next)
		if (!sku->steady)
			sku->committed += sku->dropped;
	return good && audit_scan(look->ctl, "HSCAN", dropped, on_dropped, look) &&
	       audit_scan(look->ctl, "HSCAN", stock, on_counters, look);
}

/* After a look: finds the SKUs that did not change and add up. Returns how many changed. */
static size_t sort_out(struct look *look)
{
	struct sku *sku, *next;
	size_t moving = 0;

	HASH_ITER (hh, look->skus, sku, next) {
		struct stock stock;

		moving += !sku->steady;
		/* A SKU that looks wrong is summed again at the end, at one instant. */
		if (sku->steady && !sku->correct)
			sku->correct = inventory_stock_read(sku->before, &stock) &&
				       stock_adds_up(&stock) && stock.reserved == sku->reserved &&
				       stock.committed == sku->committed;
	}
	return moving;
}

static bool check_partition(struct ctl *ctl, struct audit_stock *audit)
{
	struct look look = { .ctl = ctl, .audit = audit };
	struct sku *sku;
	bool good = true;

	for (int i = 0; i < LOOKS && good; i++) {
		good = look_once(&look);
		if (good && sort_out(&look) == 0)
			break;
	}
	good = good && judge_rest(&look);
	sku = look.skus;
	HASH_CLEAR(hh, look.skus);
	while (sku != NULL) {
		struct sku *next = sku->hh.next;

		audit->hot += !sku->steady;
		audit->skus++;
		free(sku);
		sku = next;
	}
	return good;
}

bool audit_stock(struct ctl *ctl, struct audit_stock *audit)
{
	bool good = true;

	audit->skus = audit->hot = audit->unchecked = 0;
	for (int p = 0; p < ctl->partitions && good; p++) {
		audit->partition = p;
		good = check_partition(ctl, audit);
	}
	return good;
}
