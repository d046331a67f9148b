/* migrate_copy.c - what becomes of each order, reservation, SKU and adjustment in a store of more partitions.
 *
 *   an order          goes to the partition of its customer, with its timer, its entry in the customer's list,
 *                     and its reservation. An id that carries no bucket stays as it is; earlier_ids leads a repeated
 *                     request there
 *   a reservation     is kept as it is if all its SKUs lie with its order. Otherwise it is split: its lines get "@q",
 *                     and if it holds or sold anything each partition q gets a part
 *   a SKU             goes to its own partition, with its adjustments
 *   a trail           stays in its partition; between its entries stands, by time, what the target's own trail said before
 *
 * What each page of the source becomes is a list of commands of four words, gathered by partition of the target.
 * One script runs them; another compares them with what is there. So what was written is what is compared, and the
 * counts (migrate_totals.c) say that nothing else is there. */
#include <inttypes.h>
#include <string.h>

#include "audit.h"
#include "base/base.h"
#include "check.h"
#include "migrate.h"
#include "order/order_id.h"
#include "order/order_record.h"

#define PAGE        "500"
#define WORDS       4
#define BATCH_WORDS (WORDS * 256) /* of a partition, in a call */
#define BYTES_MAX   (4 << 20)     /* in all partitions' batches */
#define TELL_NS     INT64_C(1000000000)

/* Commands for one partition, as arguments of a script. */
struct migration_batch {
	struct rt_args command;
	size_t bytes;
};

/* The fields and values of an entry as one word: each with its length and ':' before it. */
#define FIELDS_OF                                                                                  \
	"local function fields_of(text)\n"                                                         \
	"	local fields, at = {}, 1\n"                                                              \
	"	while at <= #text do\n"                                                                  \
	"		local length, from = string.match(text, '^(%d+):()', at)\n"                             \
	"		fields[#fields + 1] = string.sub(text, from, from + length - 1)\n"                      \
	"		at = from + length\n"                                                                   \
	"	end\n"                                                                                   \
	"	return fields\n"                                                                         \
	"end\n"
static const char write_script[] =
	FIELDS_OF "for i = 1, #ARGV, 4 do\n"
		  "	local command, key, a, b = unpack(ARGV, i, i + 3)\n"
		  "	if command == 'SET' then\n"
		  "		redis.call('SET', key, a, 'PXAT', b)\n"
		  "	elseif command == 'KEEP' then\n" /* SET, without an end */
		  "		redis.call('SET', key, a)\n"
		  "	elseif command == 'XADD' then\n"
		  "		redis.call('XADD', key, a, unpack(fields_of(b)))\n"
		  "	else\n"
		  "		redis.call(command, key, a, b)\n"
		  "	end\n"
		  "end\n"
		  "return {}\n";
/* Answers the keys that do not have what a command wrote. What expires may have done so. */
static const char compare_script[] = FIELDS_OF
	"local time, wrong = redis.call('TIME'), {}\n"
	"local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
	"for i = 1, #ARGV, 4 do\n"
	"	local command, key, a, b = unpack(ARGV, i, i + 3)\n"
	"	local same\n"
	"	if command == 'HSET' then\n"
	"		same = redis.call('HGET', key, a) == b\n"
	"	elseif command == 'ZADD' then\n"
	"		same = tonumber(redis.call('ZSCORE', key, b) or 'nan') == tonumber(a)\n"
	"	elseif command == 'KEEP' then\n"
	"		same, a = redis.call('GET', key) == a, ''\n"
	"	elseif command == 'XADD' then\n"
	"		local entry = redis.call('XRANGE', key, a, a)[1]\n"
	"		same = entry and table.concat(entry[2], '\\0') ==\n"
	"			table.concat(fields_of(b), '\\0')\n"
	"	else\n"
	"		same = redis.call('GET', key) == a and\n"
	"			redis.call('PEXPIRETIME', key) == tonumber(b) or now >= "
	"tonumber(b)\n"
	"	end\n"
	"	if not same then\n"
	"		wrong[#wrong + 1] = key .. ' ' .. (command == 'ZADD' and b or a)\n"
	"	end\n"
	"end\n"
	"return wrong\n";

/* ---- commands ---- */

/* Runs or compares what was gathered for a partition. */
static bool send_batch(struct migration *migration, int partition)
{
	struct migration_batch *batch = &migration->batches[partition];
	redisReply *reply;

	if (batch->command.count == 0)
		return true;
	reply = ctl_redis_args(migration->target, &batch->command, 0, false);
	migration->bytes -= batch->bytes;
	batch->bytes = 0;
	if (reply == NULL)
		return false;
	for (size_t i = 0; i < reply->elements; i++) {
		if (++migration->differences <= 10)
			ctl_error("the target differs: %s", ctl_text(reply->element[i], "?"));
	}
	freeReplyObject(reply);
	return true;
}

static bool send_all(struct migration *migration)
{
	bool good = true;

	for (int t = 0; t < migration->target->partitions && good; t++)
		good = send_batch(migration, t);
	return good;
}

struct word {
	const char *data;
	size_t length;
};
static struct word word(const char *text)
{
	return (struct word){ text, strlen(text) };
}
static struct word word_of(const redisReply *reply)
{
	return (struct word){ reply->str, (size_t)reply->len };
}

/* Adds a command for a partition. */
static bool put(struct migration *migration, int partition, const char *command, const char *key,
		struct word a, struct word b)
{
	struct migration_batch *batch = &migration->batches[partition];
	struct rt_args *args = &batch->command;
	size_t bytes = strlen(key) + a.length + b.length;

	if (args->count == 0) {
		char slot[CTL_KEY];

		/* Not `key`: a script may not be given a trail, to which ops may only add. */
		ctl_key(slot, "order", partition, "orders");
		rt_args_str(args, "EVAL");
		rt_args_str(args, migration->compares ? compare_script : write_script);
		rt_args_str(args, "1");
		rt_args_copy(args, slot, strlen(slot));
	}
	rt_args_str(args, command);
	rt_args_copy(args, key, strlen(key));
	rt_args_copy(args, a.data, a.length);
	rt_args_copy(args, b.data, b.length);
	batch->bytes += bytes;
	migration->bytes += bytes;
	if (args->count >= BATCH_WORDS)
		return send_batch(migration, partition);
	return migration->bytes < BYTES_MAX || send_all(migration);
}

/* The same, of a context's key. */
static bool put_in(struct migration *migration, int partition, const char *command,
		   const char *context, const char *rest, struct word a, struct word b)
{
	char key[CTL_KEY];

	ctl_key(key, context, partition, rest);
	return put(migration, partition, command, key, a, b);
}

/* ---- reservations ---- */

static int sku_partition(const struct migration *migration, const char *sku, size_t length)
{
	return rt_bucket_partition(rt_bucket(sku, length), migration->target->partitions);
}

/* A line of a reservation: "sku=quantity", "sku=quantity-returned", "sku=quantity/available", and "@q" where it was split. */
struct line {
	const char *text;
	int length; /* without "@q" */
	int partition;
};

/* The lines of a reservation, freed by the caller. */
static struct line *read_lines(const struct migration *migration, const char *text, size_t *ret)
{
	struct line *lines = NULL;
	size_t count = 0, capacity = 0;

	while (*text != '\0') {
		size_t length = strcspn(text, " "), sku = strcspn(text, "= ");
		struct line *line;

		lines = rt_grow(lines, count, &capacity, sizeof(*lines));
		line = &lines[count++];
		line->text = text;
		line->partition = sku_partition(migration, text, sku);
		/* A SKU has no '@'. */
		line->length = (int)RT_MIN(length, strcspn(text, "@"));
		text += length + (text[length] == ' ');
	}
	*ret = count;
	return lines;
}

/* Puts a part into each partition of these lines. */
static bool put_parts(struct migration *migration, int home, struct word id,
		      const struct line *lines, size_t count, const char *state, int64_t ms)
{
	bool good = true;

	for (size_t i = 0; i < count && good; i++) {
		struct rt_buf part = { 0 };
		size_t before = 0;

		while (lines[before].partition != lines[i].partition)
			before++;
		if (before < i)
			continue; /* it has its part */
		rt_buf_printf(&part, "%s %d %" PRId64, state, home, ms);
		for (size_t j = i; j < count; j++)
			if (lines[j].partition == lines[i].partition)
				rt_buf_printf(&part, " %.*s", lines[j].length, lines[j].text);
		good = put_in(migration, lines[i].partition, "HSET", "inventory", "parts", id,
			      (struct word){ part.data, part.length });
		rt_buf_done(&part);
	}
	return good;
}

/* Puts a reservation into partition t. */
static bool put_reservation(struct migration *migration, int t, struct word id,
			    const redisReply *record)
{
	const char *text = ctl_text(record, ""), *rest = "", *ms = text;
	struct rt_buf made = { 0 };
	enum stock_state state;
	struct line *lines;
	size_t count;
	bool split = false, good = true;

	if (!audit_reservation(text, &state, &rest)) {
		ctl_error("the reservation of %.*s is damaged", (int)id.length, id.data);
		return false;
	}
	lines = read_lines(migration, rest, &count);
	for (size_t i = 0; i < count; i++)
		split = split || lines[i].partition != t;
	rt_buf_add(&made, text, (size_t)(rest - text));
	for (size_t i = 0; i < count; i++) {
		rt_buf_printf(&made, "%s%.*s", i == 0 ? "" : " ", lines[i].length, lines[i].text);
		if (split)
			rt_buf_printf(&made, "@%d", lines[i].partition);
	}
	for (int i = 0; i < 2; i++)
		ms += strcspn(ms, " ") + 1;
	/* A part stays COMMITTED when something came back. */
	if (split && (state == STOCK_RESERVED || stock_state_sold(state)))
		good = put_parts(migration, t, id, lines, count,
				 stock_state_text(state == STOCK_RESERVED ? STOCK_RESERVED
									  : STOCK_COMMITTED),
				 strtoll(ms, NULL, 10));
	good = good && put_in(migration, t, "HSET", "inventory", "r", id,
			      (struct word){ made.data, made.length });
	free(lines);
	rt_buf_done(&made);
	return good;
}

/* ---- orders ---- */

/* The partition of an order's customer, who is written to *ret_customer, in the arena. -1: it is damaged. */
static int home_of(const struct migration *migration, struct rt_arena *arena, const char *id,
		   const struct order_record *record, const char **ret_customer)
{
	const ProtobufCMessageDescriptor *type = &tandem__order__v1__order_placed__descriptor;
	int id_bucket = check_order_id(id) ? check_order_bucket(id) : -1;
	Tandem__Order__V1__OrderPlaced *placed;
	struct rt_wire_fault fault;
	unsigned int bucket;

	if (!rt_wire_check(type, record->placed, record->placed_length, &fault))
		return -1;
	placed = tandem__order__v1__order_placed__unpack(rt_arena_allocator(arena),
							 record->placed_length, record->placed);
	if (placed == NULL || placed->content == NULL)
		return -1;
	*ret_customer = placed->content->customer_id;
	bucket = rt_bucket(*ret_customer, strlen(*ret_customer));
	if (id_bucket >= 0 && (unsigned int)id_bucket != bucket)
		return -1;
	return rt_bucket_partition(bucket, migration->target->partitions);
}

/* The id that a repeated request would have. */
static bool put_earlier_id(struct migration *migration, int t, const char *id, const char *customer)
{
	char now[ORDER_ID_LENGTH + 1];

	if (migration->target->partitions == 1 || !check_order_id(id) ||
	    check_order_bucket(id) >= 0)
		return true;
	snprintf(now, sizeof(now), "%s", id);
	order_id_put_bucket(rt_bucket(customer, strlen(customer)), now);
	return put_in(migration, t, "HSET", "order", "earlier_ids", word(now), word(id));
}

/* An order, with what belongs to it. */
static bool put_order(struct migration *migration, const redisReply *name, const redisReply *text,
		      const redisReply *reservation, const redisReply *timer)
{
	struct rt_arena arena = { 0 };
	const char *id = ctl_text(name, NULL), *customer = NULL;
	char ms[RT_INT_TEXT], key[CTL_KEY];
	struct order_record record;
	int t = -1;
	bool good;

	if (id != NULL && text->type == REDIS_REPLY_STRING &&
	    order_record_read(text->str, text->len, id, &record))
		t = home_of(migration, &arena, id, &record, &customer);
	if (t < 0) {
		ctl_error("the order %s is damaged: tandemctl audit names what is",
			  id != NULL ? id : "?");
		rt_arena_done(&arena);
		return false;
	}
	rt_int_text(order_created_ms(&record), ms);
	snprintf(key, sizeof(key), "order:{%d}:customer:%s", t, customer);
	good = put_in(migration, t, "HSET", "order", "orders", word(id), word_of(text)) &&
	       put(migration, t, "ZADD", key, word(ms), word(id)) &&
	       put_earlier_id(migration, t, id, customer);
	if (good && timer->type == REDIS_REPLY_STRING)
		good = put_in(migration, t, "ZADD", "order", "timers", word_of(timer), word(id));
	if (good && reservation->type == REDIS_REPLY_STRING)
		good = put_reservation(migration, t, word(id), reservation);
	rt_arena_done(&arena);
	return good;
}

/* Asks for values of the names that stand at every `step`th place of a list. */
static redisReply *read_of(struct ctl *ctl, const char *command, const char *key,
			   const redisReply *names, size_t step)
{
	struct rt_args args = { 0 };
	redisReply *reply;

	rt_args_str(&args, command);
	rt_args_str(&args, key);
	for (size_t i = 0; i < names->elements; i += step)
		rt_args_add(&args, names->element[i]->str, names->element[i]->len);
	reply = ctl_redis_args(ctl, &args, 0, false);
	rt_args_done(&args);
	if (reply != NULL && reply->elements == (names->elements + step - 1) / step)
		return reply;
	freeReplyObject(reply);
	return NULL;
}

static void tell(struct migration *migration)
{
	const char *doing = migration->compares ? "compared" : "copied";
	int64_t now_ns = rt_monotonic_ns();

	if (migration->told_ns + TELL_NS > now_ns)
		return;
	migration->told_ns = now_ns;
	if (migration->target->json)
		ctl_json_print(json_pack("{s:I, s:I}", doing, (json_int_t)migration->orders,
					 "orders", (json_int_t)migration->orders_all));
	else
		printf("%-9s %" PRId64 " of %" PRId64 " orders\n", doing, migration->orders,
		       migration->orders_all);
	(void)fflush(stdout);
}

static bool put_orders(struct migration *migration, int p, const redisReply *pairs)
{
	char reservations[CTL_KEY], timers[CTL_KEY];
	redisReply *records = NULL, *due = NULL;
	bool good;

	if (pairs->elements == 0)
		return true;
	ctl_key(reservations, "inventory", p, "r");
	ctl_key(timers, "order", p, "timers");
	records = read_of(migration->source, "HMGET", reservations, pairs, 2);
	due = read_of(migration->source, "ZMSCORE", timers, pairs, 2);
	good = records != NULL && due != NULL;
	for (size_t i = 0; i + 1 < pairs->elements && good; i += 2) {
		migration->reservations += records->element[i / 2]->type == REDIS_REPLY_STRING;
		good = put_order(migration, pairs->element[i], pairs->element[i + 1],
				 records->element[i / 2], due->element[i / 2]);
	}
	migration->orders += (int64_t)(pairs->elements / 2);
	freeReplyObject(records);
	freeReplyObject(due);
	tell(migration);
	return good;
}

/* Reservations without an order: those that hold nothing wait for nobody, and go to the partition of the id, or, if
 * that carries no bucket, of their own number. */
static bool put_lonely(struct migration *migration, int p, const redisReply *pairs)
{
	char orders[CTL_KEY];
	redisReply *texts = NULL;
	bool good = true;

	if (pairs->elements == 0)
		return true;
	ctl_key(orders, "order", p, "orders");
	texts = read_of(migration->source, "HMGET", orders, pairs, 2);
	if (texts == NULL)
		return false;
	for (size_t i = 0; i + 1 < pairs->elements && good; i += 2) {
		const char *id = ctl_text(pairs->element[i], NULL), *lines;
		int bucket = id != NULL && check_order_id(id) ? check_order_bucket(id) : -1;
		int t = bucket < 0 ? p
				   : rt_bucket_partition((unsigned int)bucket,
							 migration->target->partitions);
		enum stock_state state = STOCK_NONE;

		if (texts->element[i / 2]->type == REDIS_REPLY_STRING)
			continue;
		if (id == NULL ||
		    !audit_reservation(ctl_text(pairs->element[i + 1], ""), &state, &lines) ||
		    state == STOCK_RESERVED || stock_state_sold(state)) {
			ctl_error("the reservation of %s has no order: tandemctl audit says what "
				  "to do",
				  id != NULL ? id : "?");
			good = false;
		} else {
			good = put_reservation(migration, t, word(id), pairs->element[i + 1]);
		}
	}
	freeReplyObject(texts);
	return good;
}

/* ---- stock ---- */

static bool put_skus(struct migration *migration, int p, const redisReply *pairs)
{
	bool good = true;

	(void)p;
	for (size_t i = 0; i + 1 < pairs->elements && good; i += 2) {
		struct word sku = word_of(pairs->element[i]);
		int t = sku_partition(migration, sku.data, sku.length);

		good = put_in(migration, t, "HSET", "inventory", "stock", sku,
			      word_of(pairs->element[i + 1])) &&
		       put_in(migration, t, "ZADD", "inventory", "skus", word("0"), sku);
	}
	return good;
}

/* ---- what was dropped ---- */

/* How many of each SKU were sold in reservations that were dropped. */
static bool put_dropped(struct migration *migration, int p, const redisReply *pairs)
{
	bool good = true;

	(void)p;
	for (size_t i = 0; i + 1 < pairs->elements && good; i += 2) {
		struct word sku = word_of(pairs->element[i]);

		good = put_in(migration, sku_partition(migration, sku.data, sku.length), "HSET",
			      "inventory", "dropped", sku, word_of(pairs->element[i + 1]));
	}
	return good;
}

/* A time up to which something was dropped: the latest of all partitions, in each. */
static bool put_latest(struct migration *migration, const char *context, const char *rest)
{
	char key[CTL_KEY], text[RT_INT_TEXT];
	int64_t latest = 0;
	bool good = true;

	for (int p = 0; p < migration->source->partitions; p++) {
		redisReply *reply;

		ctl_key(key, context, p, rest);
		reply = ctl_redis(migration->source, "GET", key);
		if (reply == NULL)
			return false;
		latest = RT_MAX(latest, strtoll(ctl_text(reply, "0"), NULL, 10));
		freeReplyObject(reply);
	}
	rt_int_text(latest, text);
	for (int t = 0; t < migration->target->partitions && latest > 0 && good; t++)
		good = put_in(migration, t, "KEEP", context, rest, word(text), word(""));
	return good;
}

/* In all partitions together (order/functions.lua); an id's bits are at numbers modulo a partition's share. */
#define DROPPED_BYTES ((size_t)8 * 1024 * 1024)

/* Adds the noted ids of a partition, whose share is `from` bytes, to a share of `to`. */
static void add_noted(char *noted, size_t to, const redisReply *bits, size_t from)
{
	for (size_t i = 0; i < (size_t)bits->len; i++)
		for (size_t at = i; at < RT_MAX(from, to); at += from)
			noted[at % to] = (char)(noted[at % to] | bits->str[i]);
}

/* The ids of dropped orders. Where an order would be now is not known of them, so every partition gets all. */
static bool put_noted(struct migration *migration)
{
	size_t from = DROPPED_BYTES / (size_t)migration->source->partitions;
	size_t to = DROPPED_BYTES / (size_t)migration->target->partitions;
	char key[CTL_KEY], *noted = rt_alloc(to);
	bool good = true, any = false;

	for (int p = 0; p < migration->source->partitions && good; p++) {
		redisReply *bits;

		ctl_key(key, "order", p, "dropped_ids");
		bits = ctl_redis(migration->source, "GET", key);
		good = bits != NULL;
		if (good && bits->type == REDIS_REPLY_STRING) {
			any = true;
			add_noted(noted, to, bits, from);
		}
		freeReplyObject(bits);
	}
	for (int t = 0; t < migration->target->partitions && any && good; t++)
		good = put_in(migration, t, "KEEP", "order", "dropped_ids",
			      (struct word){ noted, to }, word(""));
	free(noted);
	return good;
}

static bool put_all_dropped(struct migration *migration)
{
	return put_latest(migration, "order", "dropped") &&
	       put_latest(migration, "inventory", "dropped_until") &&
	       put_latest(migration, "inventory", "dropped_until_split") && put_noted(migration);
}

/* ---- adjustments ---- */

/* What was adjusted under a request id: the key with its value and when it expires. */
static bool put_adjustment(struct migration *migration, const char *key)
{
	const char *sku = strstr(key, ":adjust:") + strlen(":adjust:");
	int t = sku_partition(migration, sku, strcspn(sku, ":"));
	redisReply *value = ctl_redis(migration->source, "GET", key);
	redisReply *expires = ctl_redis(migration->source, "PEXPIRETIME", key);
	char *made = rt_printf("inventory:{%d}:adjust:%s", t, sku);
	char ms[RT_INT_TEXT];
	bool good = value != NULL && expires != NULL;

	/* It may have expired just now. */
	if (good && value->type == REDIS_REPLY_STRING && expires->integer > 0) {
		rt_int_text(expires->integer, ms);
		good = put(migration, t, "SET", made, word_of(value), word(ms));
	}
	free(made);
	freeReplyObject(value);
	freeReplyObject(expires);
	return good;
}

static bool put_adjustments_of(struct migration *migration, struct ctl_node *node)
{
	struct ctl *source = migration->source;
	char cursor[32] = "0";
	bool good = true;

	do {
		redisReply *page;

		source->on = node;
		page = ctl_redis(source, "SCAN", cursor, "MATCH", "inventory:{*}:adjust:*", "COUNT",
				 "1000");
		source->on = NULL;
		if (page == NULL)
			return false;
		snprintf(cursor, sizeof(cursor), "%s", ctl_text(page->element[0], "0"));
		for (size_t i = 0; i < page->element[1]->elements && good; i++) {
			const char *key = ctl_text(page->element[1]->element[i], NULL);

			good = key == NULL || put_adjustment(migration, key);
		}
		freeReplyObject(page);
	} while (good && strcmp(cursor, "0") != 0);
	return good;
}

/* ---- the trails ---- */

static bool put_entry(struct migration *migration, const struct ctl_entry *entry)
{
	struct rt_buf packed = { 0 };
	bool good;

	for (size_t i = 0; i < entry->fields->elements; i++) {
		const redisReply *text = entry->fields->element[i];

		rt_buf_printf(&packed, "%zu:", (size_t)text->len);
		rt_buf_add(&packed, text->str, (size_t)text->len);
	}
	good = put_in(migration, entry->partition, "XADD", entry->context, "trail",
		      word(entry->stream_id), (struct word){ packed.data, packed.length });
	rt_buf_done(&packed);
	return good;
}

/* Those of all contexts in a partition. */
static bool read_trails(struct ctl *ctl, int p, struct ctl_entries *entries)
{
	bool good = true;

	for (size_t i = 0; i < CTL_CONTEXTS && good; i++) {
		char key[CTL_KEY];
		const struct ctl_range range = { .context = ctl_contexts[i].name,
						 .partition = p,
						 .key = key,
						 .from = "-",
						 .to = "+",
						 .count_max = INT64_MAX,
						 .scan_max = INT64_MAX };

		ctl_key(key, ctl_contexts[i].name, p, "trail");
		good = ctl_entries_read(ctl, &range, entries, NULL);
	}
	return good;
}

bool migration_read_own(struct migration *migration)
{
	bool good = true;

	for (int t = 0; t < migration->target->partitions && good; t++)
		good = read_trails(migration->target, t, &migration->own);
	return good;
}

/* Those of the source and the target's own, by their ids. What a migration that was broken off has copied is in both. */
static bool put_trails_of(struct migration *migration, int t)
{
	struct ctl_entries entries = { 0 };
	bool good =
		t >= migration->source->partitions || read_trails(migration->source, t, &entries);

	for (size_t i = 0; i < migration->own.count; i++)
		if (migration->own.list[i].partition == t)
			ctl_entries_add(&entries, &migration->own.list[i]);
	ctl_entries_sort(&entries);
	for (size_t i = 0; i < entries.count && good; i++) {
		const struct ctl_entry *entry = &entries.list[i], *before = entry - 1;

		if (i == 0 || strcmp(entry->context, before->context) != 0 ||
		    strcmp(entry->stream_id, before->stream_id) != 0)
			good = put_entry(migration, entry);
	}
	ctl_entries_done(&entries);
	return good;
}

static bool put_trails(struct migration *migration)
{
	bool good = true;

	for (int t = 0; t < migration->target->partitions && good; t++)
		good = put_trails_of(migration, t);
	return good;
}

/* ---- all of it ---- */

/* Gives the hash of a partition to `on_page`, page by page. */
static bool each_page(struct migration *migration, const char *context, int p, const char *rest,
		      bool (*on_page)(struct migration *migration, int p, const redisReply *pairs))
{
	char key[CTL_KEY], cursor[32] = "0";
	bool good = true;

	ctl_key(key, context, p, rest);
	do {
		redisReply *page =
			ctl_redis(migration->source, "HSCAN", key, cursor, "COUNT", PAGE);

		if (page == NULL)
			return false;
		snprintf(cursor, sizeof(cursor), "%s", ctl_text(page->element[0], "0"));
		good = on_page(migration, p, page->element[1]);
		freeReplyObject(page);
	} while (good && strcmp(cursor, "0") != 0);
	return good;
}

/* Orders with their reservations, and reservations without an order, if there are any. */
static bool go_orders(struct migration *migration, int p)
{
	char key[CTL_KEY];
	redisReply *length;
	int64_t others;

	migration->reservations = 0;
	if (!each_page(migration, "order", p, "orders", put_orders))
		return false;
	ctl_key(key, "inventory", p, "r");
	length = ctl_redis(migration->source, "HLEN", key);
	if (length == NULL)
		return false;
	others = ctl_count(length) - migration->reservations;
	freeReplyObject(length);
	return others == 0 || each_page(migration, "inventory", p, "r", put_lonely);
}

bool migration_go(struct migration *migration)
{
	struct ctl *source = migration->source;
	size_t count = (size_t)migration->target->partitions;
	bool good;

	migration->batches = rt_alloc(count * sizeof(*migration->batches));
	migration->orders = 0;
	/* First: what the target's own trail said is nowhere else until then. */
	good = put_trails(migration) && send_all(migration);
	for (int p = 0; p < source->partitions && good; p++)
		good = go_orders(migration, p) &&
		       each_page(migration, "inventory", p, "stock", put_skus) &&
		       each_page(migration, "inventory", p, "dropped", put_dropped);
	good = good && put_all_dropped(migration);
	for (struct ctl_node *node = NULL;
	     good && (node = ctl_node_next(source, node, true)) != NULL;)
		good = put_adjustments_of(migration, node);
	good = good && send_all(migration);
	for (size_t t = 0; t < count; t++)
		rt_args_done(&migration->batches[t].command);
	free(migration->batches);
	migration->batches = NULL;
	migration->bytes = 0;
	return good;
}

/* ---- streams ---- */

static bool answered(redisReply *reply)
{
	bool good = reply != NULL;

	freeReplyObject(reply);
	return good;
}

/* Copies the marks and sets that are the same in every partition. */
static bool copy_settings(const struct migration *migration, const char *context, int p, int t)
{
	char from[CTL_KEY], to[CTL_KEY];
	redisReply *reply;
	bool good;

	ctl_key(from, context, p, "format");
	ctl_key(to, context, t, "format");
	reply = ctl_redis(migration->source, "GET", from);
	good = reply != NULL && (reply->type != REDIS_REPLY_STRING ||
				 answered(ctl_redis(migration->target, "SET", to, reply->str)));
	freeReplyObject(reply);
	ctl_key(from, context, p, "excluded_groups");
	ctl_key(to, context, t, "excluded_groups");
	reply = good ? ctl_redis(migration->source, "SMEMBERS", from) : NULL;
	good = reply != NULL;
	for (size_t i = 0; good && i < reply->elements; i++)
		good = answered(ctl_redis_named(migration->target,
						(const char *const[]){ "SADD", to }, 2,
						reply->element[i]));
	freeReplyObject(reply);
	return good;
}

/* Creates a group that has read everything. */
static bool begin_group(struct ctl *target, const char *key, const char *group, const char *last)
{
	redisReply *reply = ctl_redis_try(target, "XGROUP", "CREATE", key, group, last, "MKSTREAM");
	bool good = reply != NULL &&
		    (reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "BUSYGROUP", 9) == 0);

	if (reply != NULL && !good)
		ctl_error("Redis, XGROUP CREATE %s %s: %s", key, group, reply->str);
	freeReplyObject(reply);
	return good;
}

/* The stream that a reader reads begins behind the source's last event, for its group and all others. */
static bool begin_stream(const struct migration *migration, const struct ctl_reader *pair, int p,
			 int t)
{
	char from[CTL_KEY], to[CTL_KEY], cursor[CTL_KEY];
	struct ctl *target = migration->target;
	struct ctl_stream stream;
	redisReply *groups;
	bool good;

	ctl_key(from, pair->of, p, "events");
	ctl_key(to, pair->of, t, "events");
	ctl_key(cursor, pair->reader, t, "cursor");
	if (!ctl_stream_read(migration->source, from, &stream))
		return false;
	if (!stream.exists)
		return true;
	groups = ctl_redis(migration->source, "XINFO", "GROUPS", from);
	good = groups != NULL && begin_group(target, to, pair->reader, stream.last);
	for (size_t i = 0; good && i < groups->elements; i++)
		good = begin_group(target, to,
				   ctl_text(ctl_named(groups->element[i], "name"), pair->reader),
				   stream.last);
	freeReplyObject(groups);
	return good && answered(ctl_redis(target, "XSETID", to, stream.last)) &&
	       answered(ctl_redis(target, "HSET", cursor, to, stream.last));
}

bool migration_begin_streams(const struct migration *migration)
{
	bool good = true;

	for (int t = 0; t < migration->target->partitions && good; t++) {
		int p = t & (migration->source->partitions - 1);

		for (size_t i = 0; i < CTL_CONTEXTS && good; i++)
			good = copy_settings(migration, ctl_contexts[i].name, p, t);
		for (size_t i = 0; i < CTL_READERS && good; i++)
			good = begin_stream(migration, &ctl_readers[i], p, t);
	}
	return good;
}

bool migration_ends(struct ctl *ctl, struct rt_buf *text)
{
	text->length = 0;
	for (int p = 0; p < ctl->partitions; p++) {
		for (size_t i = 0; i < CTL_CONTEXTS; i++) {
			static const char *const streams[] = { "events", "trail" };

			for (size_t j = 0; j < RT_LENGTH(streams); j++) {
				struct ctl_stream stream;
				char key[CTL_KEY];

				ctl_key(key, ctl_contexts[i].name, p, streams[j]);
				if (!ctl_stream_read(ctl, key, &stream))
					return false;
				rt_buf_printf(text, "%s ", stream.last);
			}
		}
	}
	rt_buf_add(text, "", 1);
	return true;
}
