/* stored.c - see stored.h. */
#include "stored.h"

#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

#undef NDEBUG /* a simulation that cannot fail is none */
#include <assert.h>

/* ---- the contexts ---- */

void stored_load(struct memory_redis *redis)
{
	const struct rt_functions *const both[] = { &order_functions, &inventory_functions };

	for (size_t i = 0; i < RT_LENGTH(both); i++) {
		const struct redisReply *reply =
			memory_do(redis, "FUNCTION", "LOAD", "REPLACE", both[i]->code, NULL);

		if (reply->type != REDIS_REPLY_STRING) {
			fprintf(stderr, "%s\n", reply->str);
			abort();
		}
	}
}

struct rt_context *stored_context(struct memory_host *host, const struct rt_context_domain *domain,
				  struct rt_context_options options, const char *consumer)
{
	struct rt_context *context;
	int rc;

	options.redis = &host->options;
	options.consumer = consumer;
	rc = rt_context_new(host->redis->loop, domain, &options, &context);
	assert(rc == RT_OK);
	return context;
}

struct rt_stream *stored_source(struct memory_host *host, struct rt_redis *commands,
				const struct rt_functions *functions, const char *stream,
				const char *consumer)
{
	struct rt_stream_options options = { .commands = commands,
					     .stream = stream,
					     .group = functions->name,
					     .consumer = consumer,
					     .functions = functions };
	struct rt_stream *source;
	int rc = rt_reads_new(host->redis->loop, &host->options, 0, functions->name, consumer,
			      &options.reads);

	assert(rc == RT_OK);
	source = rt_stream_new(host->redis->loop, &options);
	rt_reads_release(options.reads);
	return source;
}

/* ---- partitions ---- */

int stored_partitions(const struct memory_redis *redis)
{
	const struct memory_key *key = memory_find(redis, "order:{0}:partitions", MEMORY_TEXT);

	return key == NULL ? 1 : (int)strtol(key->text.data, NULL, 10);
}

int stored_partition_of(const struct memory_redis *redis, const char *order_id)
{
	int bucket = check_order_bucket(order_id);

	return bucket < 0 ? 0 : rt_bucket_partition((unsigned int)bucket, stored_partitions(redis));
}

/* The key "<context>:{p}:<name>"; NULL: there is none of this type. */
static const struct memory_key *key_of(const struct memory_redis *redis, const char *context,
				       int partition, const char *name, enum memory_type type)
{
	char text[64], number[RT_INT_TEXT];
	const char *const words[] = { context, ":{", number, "}:", name };
	size_t length = 0;

	/* Not snprintf: after each step every partition's keys are looked up. */
	rt_int_text(partition, number);
	for (size_t i = 0; i < RT_LENGTH(words); i++) {
		size_t more = strlen(words[i]);

		assert(length + more < sizeof(text));
		memcpy(text + length, words[i], more + 1);
		length += more;
	}
	return memory_find(redis, text, type);
}

/* The value of a field of such a hash, in whichever partition has it; NULL: none. */
static const struct memory_text *field_of(const struct memory_redis *redis, const char *context,
					  const char *name, const char *field)
{
	const struct memory_text *text = NULL;

	for (int p = 0; p < stored_partitions(redis) && text == NULL; p++) {
		const struct memory_key *key = key_of(redis, context, p, name, MEMORY_HASH);

		text = key == NULL ? NULL : memory_field(key, field);
	}
	return text;
}

/* The first field of such a hash of partition `p`; NULL: none. */
static const struct memory_field *fields_of(const struct memory_redis *redis, const char *context,
					    int partition, const char *name)
{
	const struct memory_key *key = key_of(redis, context, partition, name, MEMORY_HASH);

	return key == NULL ? NULL : key->fields;
}

/* ---- orders ---- */

bool stored_order(const struct memory_redis *redis, const char *order_id, struct order_record *ret)
{
	const struct memory_text *text = field_of(redis, "order", "orders", order_id);

	return text != NULL && order_record_read(text->data, text->length, order_id, ret);
}

void stored_orders_each(const struct memory_redis *redis,
			void (*visit)(const struct order_record *record, void *user), void *user)
{
	struct order_record record;

	for (int p = 0; p < stored_partitions(redis); p++)
		for (const struct memory_field *at = fields_of(redis, "order", p, "orders");
		     at != NULL; at = at->hh.next)
			if (order_record_read(at->value.data, at->value.length, at->name.data,
					      &record))
				visit(&record, user);
}

const struct memory_zset *stored_timers(const struct memory_redis *redis, int partition)
{
	const struct memory_key *key = key_of(redis, "order", partition, "timers", MEMORY_ZSET);

	return key == NULL ? NULL : &key->zset;
}

/* ---- stock ---- */

/* As snprintf does, in a tenth of the time: all reservations are read again and again. */
static void set_text(char *to, size_t size, const char *from, size_t length)
{
	length = RT_MIN(length, size - 1);
	memcpy(to, from, length);
	to[length] = '\0';
}

/* The number behind blanks; moves to its end. */
static uint64_t number_at(const char **at)
{
	uint64_t n = 0;

	while (**at == ' ')
		++*at;
	for (; **at >= '0' && **at <= '9'; ++*at)
		n = n * 10 + (uint64_t)(**at - '0');
	return n;
}

/* "<STATE> <version> <unix ms> <lines>", a line being "sku=quantity", "sku=quantity-returned" or "sku=quantity/available", with "@<partition>" behind
 * it if the reservation is split. A part has the order's partition in the place of the version. */
static void reservation_of(const char *order_id, const char *text, struct stored_reservation *ret)
{
	char state[32];
	const char *at;
	size_t length = strcspn(text, " ");
	bool known;

	ret->line_count = 0;
	ret->split = false;
	set_text(ret->order_id, sizeof(ret->order_id), order_id, strlen(order_id));
	set_text(state, sizeof(state), text, length);
	known = stock_state_parse(state, &ret->state);
	assert(known);
	at = text + length;
	number_at(&at);
	number_at(&at);
	if (ret->state == STOCK_RETURNED)
		number_at(&at); /* the order's version whose request said what came back */
	while (*at == ' ' && at[1] != '\0') {
		struct stored_line *line = &ret->lines[ret->line_count++];

		assert(ret->line_count <= STORED_LINES);
		length = strcspn(++at, "=");
		set_text(line->sku, sizeof(line->sku), at, length);
		at += length + 1;
		line->quantity = number_at(&at);
		line->returned = 0;
		if (*at == '-') {
			at++;
			line->returned = number_at(&at);
		}
		length = strcspn(at, " ");
		ret->split = ret->split || memchr(at, '@', length) != NULL;
		at += length;
	}
}

bool stored_reservation(const struct memory_redis *redis, const char *order_id,
			struct stored_reservation *ret)
{
	const struct memory_text *text = field_of(redis, "inventory", "r", order_id);

	if (text != NULL)
		reservation_of(order_id, text->data, ret);
	return text != NULL;
}

static void visit_all(const struct memory_redis *redis, const char *name,
		      void (*visit)(const struct stored_reservation *reservation, void *user),
		      void *user)
{
	struct stored_reservation reservation;

	for (int p = 0; p < stored_partitions(redis); p++)
		for (const struct memory_field *at = fields_of(redis, "inventory", p, name);
		     at != NULL; at = at->hh.next) {
			reservation_of(at->name.data, at->value.data, &reservation);
			visit(&reservation, user);
		}
}

void stored_reservations_each(const struct memory_redis *redis,
			      void (*visit)(const struct stored_reservation *reservation,
					    void *user),
			      void *user)
{
	visit_all(redis, "r", visit, user);
}

void stored_parts_each(const struct memory_redis *redis,
		       void (*visit)(const struct stored_reservation *part, void *user), void *user)
{
	visit_all(redis, "parts", visit, user);
}

struct stock stored_stock(const struct memory_redis *redis, int partition, const char *sku)
{
	const struct memory_text *text = NULL;
	struct stock stock = { .available = 0 };
	const struct memory_key *key;
	char name[64];

	snprintf(name, sizeof(name), "inventory:{%d}:stock", partition);
	key = memory_find(redis, name, MEMORY_HASH);
	if (key != NULL)
		text = memory_field(key, sku);
	if (text != NULL && !inventory_stock_read(text->data, &stock))
		abort();
	return stock;
}

void stored_stock_each(const struct memory_redis *redis,
		       void (*visit)(const char *sku, const struct stock *stock, void *user),
		       void *user)
{
	for (int p = 0; p < stored_partitions(redis); p++)
		for (const struct memory_field *at = fields_of(redis, "inventory", p, "stock");
		     at != NULL; at = at->hh.next) {
			struct stock stock;

			if (!inventory_stock_read(at->value.data, &stock))
				abort();
			visit(at->name.data, &stock, user);
		}
}

void stored_dropped_each(const struct memory_redis *redis,
			 void (*visit)(const char *sku, uint64_t count, void *user), void *user)
{
	for (int p = 0; p < stored_partitions(redis); p++)
		for (const struct memory_field *at = fields_of(redis, "inventory", p, "dropped");
		     at != NULL; at = at->hh.next)
			visit(at->name.data, strtoull(at->value.data, NULL, 10), user);
}

/* ---- events ---- */

static struct memory_text word(const char *text)
{
	return (struct memory_text){ (char *)(uintptr_t)text, strlen(text) };
}

size_t stored_events(const struct memory_entry *entry, struct rt_entry_event **ret)
{
	struct rt_slice *texts = rt_alloc(entry->field_count * sizeof(*texts) + 1);
	struct rt_fields fields = { texts, 0 };
	size_t count;
	bool good;

	for (; fields.count < entry->field_count; fields.count++)
		texts[fields.count] = (struct rt_slice){ entry->fields[fields.count].data,
							 entry->fields[fields.count].length };
	good = rt_entry_read(&fields, ret, &count) == NULL;
	free(texts);
	return good ? count : 0;
}

void stored_append(struct memory_redis *redis, const char *name, int64_t now_ms,
		   const struct memory_text *fields, size_t count)
{
	const struct memory_stream *stream = memory_stream_find(redis, name);
	struct memory_id last = stream == NULL ? (struct memory_id){ 0, 0 } : stream->last;
	struct memory_text *argv = rt_alloc((count + 3) * sizeof(*argv));
	struct rt_arena arena = { .chunks = NULL };
	const struct redisReply *reply;
	const struct memory_entry entry = { .fields = (struct memory_text *)(uintptr_t)fields,
					    .field_count = count };
	struct rt_entry_event *events;
	size_t event_count = stored_events(&entry, &events);
	char id[MEMORY_ID_TEXT];

	free(events);
	memory_id_format((struct memory_id){ RT_MAX((uint64_t)now_ms, last.ms),
					     last.n + RT_MAX(event_count, (size_t)1) },
			 id);
	argv[0] = word("XADD");
	argv[1] = word(name);
	argv[2] = word(id);
	memcpy(argv + 3, fields, count * sizeof(*fields));
	reply = memory_run(redis, &arena, count + 3, argv);
	assert(reply->type == REDIS_REPLY_STRING);
	rt_arena_done(&arena);
	free(argv);
}

void stored_publish(struct memory_redis *redis, const char *stream, int64_t now_ms,
		    const struct stored_event *event)
{
	char seq[24], id[160], time[RT_TIME_TEXT], attempt[12];
	struct memory_text fields[20];
	size_t count = 0;

	snprintf(seq, sizeof(seq), "%" PRIu64, event->seq);
	snprintf(id, sizeof(id), "%s/%s", event->subject, seq);
	snprintf(attempt, sizeof(attempt), "%" PRIu32, event->attempt);
	rt_time_format(now_ms, time);
	const char *const words[] = { "id",           id,    "type", event->type, "subject",
				      event->subject, "seq", seq,    "time",      time };
	for (; count < RT_LENGTH(words); count++)
		fields[count] = word(words[count]);
	fields[count++] = word("data");
	fields[count] = word("");
	if (event->data_length > 0)
		fields[count] =
			(struct memory_text){ (char *)(uintptr_t)event->data, event->data_length };
	count++;
	if (event->attempt > 1) {
		fields[count++] = word("attempt");
		fields[count++] = word(attempt);
	}
	if (event->traceparent != NULL) {
		fields[count++] = word("traceparent");
		fields[count++] = word(event->traceparent);
	}
	if (event->tracestate != NULL) {
		fields[count++] = word("tracestate");
		fields[count++] = word(event->tracestate);
	}
	stored_append(redis, stream, now_ms, fields, count);
}
