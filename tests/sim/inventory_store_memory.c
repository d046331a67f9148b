/* inventory_store_memory.c - inventory/store.h in memory: the same answers as store_redis.c with
 * inventory/functions.lua, held to it by test_conformance.c. Built like order_store_memory.c. */
#undef NDEBUG /* a simulation that cannot fail is none */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "memory_redis.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

/* ---- what is kept ---- */

struct counter {
	char *sku;
	struct stock stock;
	UT_hash_handle hh;
};

/* A reservation. The lines that were short when it was refused say what was there. */
struct held {
	char *order_id;
	enum stock_state state;
	uint64_t version;
	int64_t updated_ms;
	struct inventory_line *lines;
	size_t line_count;
	struct inventory_shortage *shortages;
	size_t shortage_count;
	UT_hash_handle hh;
};

struct adjustment {
	char *key; /* "<sku>:<request_id>" */
	int64_t delta;
	char *reason;
	struct stock stock;
	UT_hash_handle hh;
};

struct memory_inventory {
	struct counter *counters;
	struct held *reservations;
	struct adjustment *adjustments;
};

static struct inventory_line *lines_copy(const struct inventory_line *lines, size_t count)
{
	struct inventory_line *copy = rt_alloc((count + 1) * sizeof(*copy));

	for (size_t i = 0; i < count; i++) {
		copy[i].sku = rt_strdup(lines[i].sku);
		copy[i].quantity = lines[i].quantity;
	}
	return copy;
}

static void lines_free(struct inventory_line *lines, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free((void *)(uintptr_t)lines[i].sku);
	free(lines);
}

static struct inventory_shortage *shortages_copy(const struct inventory_shortage *shortages,
						 size_t count)
{
	struct inventory_shortage *copy = rt_alloc((count + 1) * sizeof(*copy));

	for (size_t i = 0; i < count; i++) {
		copy[i] = shortages[i];
		copy[i].sku = rt_strdup(shortages[i].sku);
	}
	return copy;
}

static void shortages_free(struct inventory_shortage *shortages, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free((void *)(uintptr_t)shortages[i].sku);
	free(shortages);
}

static void held_free(struct held *held)
{
	free(held->order_id);
	lines_free(held->lines, held->line_count);
	shortages_free(held->shortages, held->shortage_count);
	free(held);
}

struct memory_inventory *memory_inventory_new(void)
{
	return rt_alloc(sizeof(struct memory_inventory));
}

void memory_inventory_free(struct memory_inventory *inventory)
{
	struct counter *counter, *next_counter;
	struct held *held, *next_held;
	struct adjustment *adjustment, *next_adjustment;

	if (inventory == NULL)
		return;
	HASH_ITER (hh, inventory->counters, counter, next_counter) {
		HASH_DEL(inventory->counters, counter);
		free(counter->sku);
		free(counter);
	}
	HASH_ITER (hh, inventory->reservations, held, next_held) {
		HASH_DEL(inventory->reservations, held);
		held_free(held);
	}
	HASH_ITER (hh, inventory->adjustments, adjustment, next_adjustment) {
		HASH_DEL(inventory->adjustments, adjustment);
		free(adjustment->key);
		free(adjustment->reason);
		free(adjustment);
	}
	free(inventory);
}

static struct counter *counter_find(const struct memory_inventory *inventory, const char *sku)
{
	struct counter *counter;

	HASH_FIND_STR(inventory->counters, sku, counter);
	return counter;
}

static struct held *held_find(const struct memory_inventory *inventory, const char *order_id)
{
	struct held *held;

	HASH_FIND_STR(inventory->reservations, order_id, held);
	return held;
}

static int by_order(const struct held *a, const struct held *b)
{
	return strcmp(a->order_id, b->order_id);
}

static int by_sku(const struct counter *a, const struct counter *b)
{
	return strcmp(a->sku, b->sku);
}

static struct memory_reservation view_of(const struct held *held)
{
	return (struct memory_reservation){
		.order_id = held->order_id,
		.state = held->state,
		.version = held->version,
		.updated_ms = held->updated_ms,
		.lines = held->lines,
		.line_count = held->line_count,
		.shortages = held->shortages,
		.shortage_count = held->shortage_count,
	};
}

void memory_inventory_each(struct memory_inventory *inventory,
			   void (*visit)(const struct memory_reservation *reservation, void *user),
			   void *user)
{
	struct held *held, *next;

	HASH_SORT(inventory->reservations, by_order);
	HASH_ITER (hh, inventory->reservations, held, next) {
		struct memory_reservation view = view_of(held);

		visit(&view, user);
	}
}

void memory_inventory_forget(struct memory_inventory *inventory, const char *order_id)
{
	struct held *held = held_find(inventory, order_id);

	assert(held != NULL && held->state != STOCK_RESERVED && held->state != STOCK_COMMITTED);
	HASH_DEL(inventory->reservations, held);
	held_free(held);
}

bool memory_inventory_find(const struct memory_inventory *inventory, const char *order_id,
			   struct memory_reservation *ret)
{
	struct held *held = held_find(inventory, order_id);

	if (held != NULL)
		*ret = view_of(held);
	return held != NULL;
}

void memory_inventory_each_stock(struct memory_inventory *inventory,
				 void (*visit)(const char *sku, const struct stock *stock,
					       void *user),
				 void *user)
{
	struct counter *counter, *next;

	HASH_SORT(inventory->counters, by_sku);
	HASH_ITER (hh, inventory->counters, counter, next)
		visit(counter->sku, &counter->stock, user);
}

/* ---- the store ---- */

struct inventory_memory {
	struct inventory_store base;
	struct memory_link link;
};

static struct inventory_memory *of(struct inventory_store *store)
{
	return RT_CONTAINER_OF(store, struct inventory_memory, base);
}

static struct memory_inventory *inventory_of(const struct memory_op *op)
{
	return op->owner->redis->inventory;
}

/* ---- request ---- */

struct request {
	struct memory_op op;
	struct inventory_request_op *user;
	bool alone; /* nobody waits: `user` is a copy of its own */
	enum stock_state before, after;
	enum stock_answer answer;
	int status;
};

/* What is short of the lines; nothing is when all of them can be reserved. */
static size_t find_shortages(const struct memory_inventory *inventory,
			     const struct inventory_request_op *in,
			     struct inventory_shortage *shortages)
{
	size_t count = 0;

	for (size_t i = 0; i < in->line_count; i++) {
		struct counter *counter = counter_find(inventory, in->lines[i].sku);
		uint64_t available = counter == NULL ? 0 : counter->stock.available;

		if (available < in->lines[i].quantity)
			shortages[count++] =
				(struct inventory_shortage){ .sku = in->lines[i].sku,
							     .requested = in->lines[i].quantity,
							     .available = available };
	}
	return count;
}

static void shift(struct memory_inventory *inventory, const struct inventory_line *lines,
		  size_t count, bool (*change)(struct stock *stock, uint64_t quantity))
{
	for (size_t i = 0; i < count; i++) {
		struct counter *counter = counter_find(inventory, lines[i].sku);
		bool changed = counter != NULL && change(&counter->stock, lines[i].quantity);

		assert(changed);
		(void)changed;
	}
}

static bool all_held(const struct memory_inventory *inventory, const struct held *held)
{
	for (size_t i = 0; i < held->line_count; i++) {
		struct counter *counter = counter_find(inventory, held->lines[i].sku);

		if (counter == NULL || counter->stock.reserved < held->lines[i].quantity)
			return false;
	}
	return true;
}

static void pack_shortages(const struct held *held, struct rt_buf *data)
{
	Tandem__Inventory__V1__InventoryUnavailable message =
		TANDEM__INVENTORY__V1__INVENTORY_UNAVAILABLE__INIT;
	Tandem__Inventory__V1__ReservationShortage *shortages;
	size_t length;
	uint8_t *packed;

	shortages = rt_alloc((held->shortage_count + 1) * sizeof(*shortages));
	message.shortages = rt_alloc((held->shortage_count + 1) * sizeof(*message.shortages));
	for (size_t i = 0; i < held->shortage_count; i++) {
		tandem__inventory__v1__reservation_shortage__init(&shortages[i]);
		shortages[i].sku = (char *)(uintptr_t)held->shortages[i].sku;
		shortages[i].requested = held->shortages[i].requested;
		shortages[i].available = held->shortages[i].available;
		message.shortages[i] = &shortages[i];
	}
	message.n_shortages = held->shortage_count;
	length = tandem__inventory__v1__inventory_unavailable__get_packed_size(&message);
	packed = rt_alloc(length + 1);
	tandem__inventory__v1__inventory_unavailable__pack(&message, packed);
	rt_buf_add(data, packed, length);
	free(packed);
	free(message.shortages);
	free(shortages);
}

static void answer(struct request *request, const struct held *held, uint64_t version)
{
	const struct inventory_request_op *in = request->user;
	struct memory_event event = {
		.type = stock_answer_type(request->answer),
		.subject = in->order_id,
		.seq = version,
		.attempt = in->attempt,
		.traceparent = in->traceparent,
	};
	struct rt_buf data = { 0 };

	if (request->answer == STOCK_ANS_NOTHING)
		return;
	if (request->answer == STOCK_ANS_UNAVAILABLE)
		pack_shortages(held, &data);
	event.data = data.data;
	event.data_length = data.length;
	memory_publish(request->op.owner->redis->streams, MEMORY_INVENTORY_STREAM, in->now_ms,
		       &event);
	rt_buf_done(&data);
}

static struct held *held_new(struct request *request, struct inventory_shortage *shortages,
			     size_t shortage_count)
{
	const struct inventory_request_op *in = request->user;
	struct memory_inventory *inventory = inventory_of(&request->op);
	struct held *held = rt_alloc(sizeof(*held));
	bool with_lines = in->request == STOCK_REQ_RESERVE;

	held->order_id = rt_strdup(in->order_id);
	held->line_count = with_lines ? in->line_count : 0;
	held->lines = lines_copy(in->lines, held->line_count);
	held->shortages = shortages_copy(shortages, shortage_count);
	held->shortage_count = shortage_count;
	HASH_ADD_KEYPTR(hh, inventory->reservations, held->order_id, strlen(held->order_id), held);
	return held;
}

static void serve_request(struct request *request, struct held *held)
{
	const struct inventory_request_op *in = request->user;
	struct memory_redis *redis = request->op.owner->redis;
	struct memory_inventory *inventory = redis->inventory;
	const struct stock_rule *rule;
	struct inventory_shortage *shortages = NULL;
	size_t shortage_count = 0;

	request->before = held == NULL ? STOCK_NONE : held->state;
	if (redis->bug == MEMORY_BUG_ANSWER_ANEW && in->request == STOCK_REQ_RESERVE)
		request->before = STOCK_NONE;
	rule = stock_rule(request->before, in->request);
	request->after = rule->to;
	request->answer = rule->answer;
	switch (rule->effect) {
	case STOCK_KEEP:
		break;
	case STOCK_TRY:
		shortages = rt_alloc((in->line_count + 1) * sizeof(*shortages));
		shortage_count = find_shortages(inventory, in, shortages);
		if (shortage_count == 0) {
			shift(inventory, in->lines, in->line_count, stock_reserve);
		} else {
			request->after = STOCK_UNAVAILABLE;
			request->answer = STOCK_ANS_UNAVAILABLE;
		}
		break;
	case STOCK_COMMIT_IT:
	case STOCK_GIVE_BACK:
		if (!all_held(inventory, held)) {
			request->status = RT_REMOTE;
			return;
		}
		shift(inventory, held->lines, held->line_count,
		      rule->effect == STOCK_COMMIT_IT ? stock_commit : stock_release);
		break;
	}
	if (request->after != request->before &&
	    !(redis->bug == MEMORY_BUG_FORGET_TOMBSTONE && held == NULL &&
	      request->after == STOCK_RELEASED)) {
		if (held == NULL)
			held = held_new(request, shortages, shortage_count);
		held->state = request->after;
		held->version++;
		held->updated_ms = in->now_ms;
	}
	answer(request, held, held == NULL ? 1 : held->version);
	free(shortages);
	if (in->ack_id != NULL)
		memory_ack(redis, MEMORY_ORDER_STREAM, "inventory", in->ack_id);
}

static void request_effect(struct memory_op *op)
{
	struct request *request = RT_CONTAINER_OF(op, struct request, op);

	serve_request(request, held_find(inventory_of(op), request->user->order_id));
}

static void request_forget(struct inventory_request_op *user)
{
	free((void *)(uintptr_t)user->order_id);
	lines_free((struct inventory_line *)(uintptr_t)user->lines, user->line_count);
	free((void *)(uintptr_t)user->traceparent);
	free((void *)(uintptr_t)user->ack_id);
	free(user);
}

static void request_finish(struct memory_op *op, int status)
{
	struct request *request = RT_CONTAINER_OF(op, struct request, op);
	struct inventory_request_op *user = request->user;

	if (status == RT_OK)
		status = request->status;
	if (status == RT_OK) {
		user->before = request->before;
		user->after = request->after;
		user->answer = request->answer;
	}
	if (request->alone)
		request_forget(user);
	else
		user->done(user, status);
	free(request);
}

static struct memory_op *request_copy(const struct memory_op *op)
{
	const struct inventory_request_op *in = RT_CONTAINER_OF(op, const struct request, op)->user;
	struct request *copy = rt_alloc(sizeof(*copy));

	copy->alone = true;
	copy->user = rt_alloc(sizeof(*copy->user));
	*copy->user = *in;
	copy->user->order_id = rt_strdup(in->order_id);
	copy->user->lines = lines_copy(in->lines, in->line_count);
	copy->user->traceparent = rt_strdup(in->traceparent);
	copy->user->ack_id = rt_strdup(in->ack_id);
	return &copy->op;
}

static void store_request(struct inventory_store *store, struct inventory_request_op *user)
{
	struct request *request = rt_alloc(sizeof(*request));

	request->user = user;
	request->op.effect = request_effect;
	request->op.finish = request_finish;
	request->op.copy = request_copy;
	memory_link_submit(&of(store)->link, &request->op, "request", user->order_id);
}

/* ---- adjust ---- */

struct adjust {
	struct memory_op op;
	struct inventory_adjust_op *user;
	bool alone; /* as in struct request */
	int outcome;
	struct stock stock;
};

static void publish_adjusted(struct adjust *adjust)
{
	const struct inventory_adjust_op *in = adjust->user;
	Tandem__Inventory__V1__Stock stock = TANDEM__INVENTORY__V1__STOCK__INIT;
	Tandem__Inventory__V1__StockAdjusted message = TANDEM__INVENTORY__V1__STOCK_ADJUSTED__INIT;
	struct memory_event event = {
		.type = "tandem.inventory.v1.StockAdjusted",
		.subject = in->sku,
		.seq = adjust->stock.version,
	};
	uint8_t data[1024];

	stock.sku = (char *)(uintptr_t)in->sku;
	stock.available = adjust->stock.available;
	stock.reserved = adjust->stock.reserved;
	stock.committed = adjust->stock.committed;
	stock.received = adjust->stock.received;
	stock.version = adjust->stock.version;
	message.delta = in->delta;
	message.reason = (char *)(uintptr_t)in->reason;
	message.stock = &stock;
	assert(tandem__inventory__v1__stock_adjusted__get_packed_size(&message) <= sizeof(data));
	event.data_length = tandem__inventory__v1__stock_adjusted__pack(&message, data);
	event.data = data;
	memory_publish(adjust->op.owner->redis->streams, MEMORY_INVENTORY_STREAM, in->now_ms,
		       &event);
}

static void adjust_anew(struct adjust *adjust, struct counter *counter, const char *key)
{
	const struct inventory_adjust_op *in = adjust->user;
	struct memory_inventory *inventory = inventory_of(&adjust->op);
	struct stock stock = counter == NULL ? (struct stock){ 0 } : counter->stock;

	if (!stock_adjust(&stock, in->delta)) {
		adjust->outcome = in->delta < 0 ? INVENTORY_SHORT : INVENTORY_OVERFLOW;
		adjust->stock = stock;
		return;
	}
	if (counter == NULL) {
		counter = rt_alloc(sizeof(*counter));
		counter->sku = rt_strdup(in->sku);
		HASH_ADD_KEYPTR(hh, inventory->counters, counter->sku, strlen(counter->sku),
				counter);
	}
	counter->stock = stock;
	adjust->stock = stock;
	adjust->outcome = INVENTORY_ADJUSTED;
	if (key != NULL) {
		struct adjustment *adjustment = rt_alloc(sizeof(*adjustment));

		adjustment->key = rt_strdup(key);
		adjustment->delta = in->delta;
		adjustment->reason = rt_strdup(in->reason);
		adjustment->stock = stock;
		HASH_ADD_KEYPTR(hh, inventory->adjustments, adjustment->key,
				strlen(adjustment->key), adjustment);
	}
	publish_adjusted(adjust);
}

static void adjust_effect(struct memory_op *op)
{
	struct adjust *adjust = RT_CONTAINER_OF(op, struct adjust, op);
	const struct inventory_adjust_op *in = adjust->user;
	struct memory_inventory *inventory = inventory_of(op);
	struct adjustment *before = NULL;
	char *key = NULL;

	if (in->request_id[0] != '\0') {
		key = rt_printf("%s:%s", in->sku, in->request_id);
		HASH_FIND_STR(inventory->adjustments, key, before);
	}
	if (before == NULL) {
		adjust_anew(adjust, counter_find(inventory, in->sku), key);
	} else {
		bool same = before->delta == in->delta && strcmp(before->reason, in->reason) == 0;

		adjust->outcome = same ? INVENTORY_ADJUSTED_BEFORE : INVENTORY_CONFLICT;
		adjust->stock = before->stock;
	}
	free(key);
}

static void adjust_forget(struct inventory_adjust_op *user)
{
	free((void *)(uintptr_t)user->sku);
	free((void *)(uintptr_t)user->request_id);
	free((void *)(uintptr_t)user->reason);
	free(user);
}

static void adjust_finish(struct memory_op *op, int status)
{
	struct adjust *adjust = RT_CONTAINER_OF(op, struct adjust, op);
	struct inventory_adjust_op *user = adjust->user;

	if (status == RT_OK) {
		user->outcome = (__typeof__(user->outcome))adjust->outcome;
		user->stock = adjust->stock;
	}
	if (adjust->alone)
		adjust_forget(user);
	else
		user->done(user, status);
	free(adjust);
}

static struct memory_op *adjust_copy(const struct memory_op *op)
{
	const struct inventory_adjust_op *in = RT_CONTAINER_OF(op, const struct adjust, op)->user;
	struct adjust *copy = rt_alloc(sizeof(*copy));

	copy->alone = true;
	copy->user = rt_alloc(sizeof(*copy->user));
	*copy->user = *in;
	copy->user->sku = rt_strdup(in->sku);
	copy->user->request_id = rt_strdup(in->request_id);
	copy->user->reason = rt_strdup(in->reason);
	return &copy->op;
}

static void store_adjust(struct inventory_store *store, struct inventory_adjust_op *user)
{
	struct adjust *adjust = rt_alloc(sizeof(*adjust));

	adjust->user = user;
	adjust->op.effect = adjust_effect;
	adjust->op.finish = adjust_finish;
	adjust->op.copy = adjust_copy;
	memory_link_submit(&of(store)->link, &adjust->op, "adjust", user->sku);
}

/* ---- stock ---- */

struct look {
	struct memory_op op;
	struct inventory_stock_op *user;
	bool found;
	struct stock stock;
};

static void look_effect(struct memory_op *op)
{
	struct look *look = RT_CONTAINER_OF(op, struct look, op);
	struct counter *counter = counter_find(inventory_of(op), look->user->sku);

	look->found = counter != NULL;
	if (counter != NULL)
		look->stock = counter->stock;
}

static void look_finish(struct memory_op *op, int status)
{
	struct look *look = RT_CONTAINER_OF(op, struct look, op);
	struct inventory_stock_op *user = look->user;

	if (status == RT_OK) {
		user->found = look->found;
		user->stock = look->stock;
	}
	user->done(user, status);
	free(look);
}

static void store_stock(struct inventory_store *store, struct inventory_stock_op *user)
{
	struct look *look = rt_alloc(sizeof(*look));

	look->user = user;
	look->op.effect = look_effect;
	look->op.finish = look_finish;
	memory_link_submit(&of(store)->link, &look->op, "stock", user->sku);
}

/* ---- list ---- */

struct list {
	struct memory_op op;
	struct inventory_list_op *user;
	struct inventory_listed *stocks;
	size_t count;
	bool more;
};

static void list_effect(struct memory_op *op)
{
	struct list *list = RT_CONTAINER_OF(op, struct list, op);
	const struct inventory_list_op *in = list->user;
	struct memory_inventory *inventory = inventory_of(op);
	struct counter *counter, *next;

	list->stocks = rt_alloc((in->count_max + 1) * sizeof(*list->stocks));
	HASH_SORT(inventory->counters, by_sku);
	HASH_ITER (hh, inventory->counters, counter, next) {
		if (strcmp(counter->sku, in->after) <= 0)
			continue;
		if (list->count == in->count_max) {
			list->more = true;
			break;
		}
		list->stocks[list->count].sku = rt_strdup(counter->sku);
		list->stocks[list->count++].stock = counter->stock;
	}
}

static void list_finish(struct memory_op *op, int status)
{
	struct list *list = RT_CONTAINER_OF(op, struct list, op);
	struct inventory_list_op *user = list->user;

	if (status == RT_OK) {
		user->stocks = list->stocks;
		user->stock_count = list->count;
		user->more = list->more;
	}
	user->done(user, status);
	for (size_t i = 0; i < list->count; i++)
		free((void *)(uintptr_t)list->stocks[i].sku);
	free(list->stocks);
	free(list);
}

static void store_list(struct inventory_store *store, struct inventory_list_op *user)
{
	struct list *list = rt_alloc(sizeof(*list));

	list->user = user;
	list->op.effect = list_effect;
	list->op.finish = list_finish;
	memory_link_submit(&of(store)->link, &list->op, "list", "");
}

/* ---- reservation ---- */

struct reservation {
	struct memory_op op;
	struct inventory_reservation_op *user;
	bool found;
	struct held held; /* owns its lines and shortages */
};

static void reservation_effect(struct memory_op *op)
{
	struct reservation *reservation = RT_CONTAINER_OF(op, struct reservation, op);
	struct held *held = held_find(inventory_of(op), reservation->user->order_id);
	struct held *copy = &reservation->held;

	reservation->found = held != NULL;
	if (held == NULL)
		return;
	copy->state = held->state;
	copy->version = held->version;
	copy->updated_ms = held->updated_ms;
	copy->line_count = held->line_count;
	copy->lines = lines_copy(held->lines, held->line_count);
	/* What was short is told while it is the reason. */
	copy->shortage_count = held->state == STOCK_UNAVAILABLE ? held->shortage_count : 0;
	copy->shortages = shortages_copy(held->shortages, copy->shortage_count);
}

static void reservation_finish(struct memory_op *op, int status)
{
	struct reservation *reservation = RT_CONTAINER_OF(op, struct reservation, op);
	struct inventory_reservation_op *user = reservation->user;
	struct held *held = &reservation->held;

	if (status == RT_OK) {
		user->found = reservation->found;
		user->state = held->state;
		user->version = held->version;
		user->updated_ms = held->updated_ms;
		user->lines = held->lines;
		user->line_count = held->line_count;
		user->shortages = held->shortages;
		user->shortage_count = held->shortage_count;
	}
	user->done(user, status);
	lines_free(held->lines, held->line_count);
	shortages_free(held->shortages, held->shortage_count);
	free(reservation);
}

static void store_reservation(struct inventory_store *store, struct inventory_reservation_op *user)
{
	struct reservation *reservation = rt_alloc(sizeof(*reservation));

	reservation->user = user;
	reservation->op.effect = reservation_effect;
	reservation->op.finish = reservation_finish;
	memory_link_submit(&of(store)->link, &reservation->op, "reservation", user->order_id);
}

/* ---- trim ---- */

struct trim {
	struct memory_op op;
	struct rt_trim_op *user;
	struct memory_trim trim;
};

static void trim_effect(struct memory_op *op)
{
	struct trim *trim = RT_CONTAINER_OF(op, struct trim, op);
	const struct rt_trim_op *in = trim->user;

	trim->trim = memory_trim(op->owner->redis->streams, MEMORY_INVENTORY_STREAM, in->now_ms,
				 in->retain_ms, in->retain_count, in->ghost_ms);
}

static void trim_finish(struct memory_op *op, int status)
{
	struct trim *trim = RT_CONTAINER_OF(op, struct trim, op);
	struct rt_trim_op *user = trim->user;

	if (status == RT_OK) {
		user->trimmed = trim->trim.trimmed;
		user->length = trim->trim.length;
		user->held = trim->trim.held;
		snprintf(user->holder, sizeof(user->holder), "%s", trim->trim.holder);
		user->ghost_count = trim->trim.ghost_count;
		snprintf(user->ghost, sizeof(user->ghost), "%s", trim->trim.ghost);
	}
	user->done(user, status);
	free(trim);
}

static void store_trim(struct inventory_store *store, struct rt_trim_op *user)
{
	struct trim *trim = rt_alloc(sizeof(*trim));

	trim->user = user;
	trim->op.effect = trim_effect;
	trim->op.finish = trim_finish;
	memory_link_submit(&of(store)->link, &trim->op, "trim", "");
}

/* ---- the rest ---- */

static bool store_ready(struct inventory_store *store)
{
	struct inventory_memory *memory = of(store);

	return !memory->link.away && !memory->link.dead;
}

static void store_free(struct inventory_store *store)
{
	struct inventory_memory *memory = of(store);

	memory_link_done(&memory->link);
	free(memory);
}

static const struct inventory_store_ops ops = {
	.request = store_request,
	.adjust = store_adjust,
	.stock = store_stock,
	.list = store_list,
	.reservation = store_reservation,
	.trim = store_trim,
	.ready = store_ready,
	.free = store_free,
};

struct inventory_store *inventory_store_memory_new(struct memory_redis *redis,
						   const struct memory_store_options *options)
{
	struct inventory_memory *memory = rt_alloc(sizeof(*memory));

	memory->base.ops = &ops;
	memory_link_init(&memory->link, redis, options->process, options->fault, options->user);
	return &memory->base;
}

struct memory_link *inventory_store_memory_link(struct inventory_store *store)
{
	return &of(store)->link;
}
