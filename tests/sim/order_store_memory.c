/* order_store_memory.c - order/store.h in memory: the same answers as store_redis.c with
 * order/functions.lua, held to it by test_conformance.c.
 *
 * Each operation is an own struct around the caller's: its effect fills a result there, at the
 * instant it reaches the Redis, and finish copies that into the caller's fields, when and if the
 * answer gets home. */
#undef NDEBUG /* a simulation that cannot fail is none */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "memory_redis.h"

/* ---- what is kept ---- */

struct memory_order {
	struct order_record record;       /* owns what it points to */
	int64_t placed_id_ms, created_ms; /* of OrderPlaced's id; when it was */
	UT_hash_handle hh;                /* by record.order_id */
};

struct memory_customer {
	char *customer_id;
	struct memory_zset orders;
	UT_hash_handle hh;
};

struct memory_orders {
	struct memory_order *orders;
	struct memory_customer *customers;
	struct memory_zset timers;
};

static void *bytes_copy(const void *data, size_t length)
{
	char *copy = rt_alloc(length + 1);

	if (length > 0)
		memcpy(copy, data, length);
	return copy;
}

static void record_copy(struct order_record *to, const struct order_record *from)
{
	*to = *from;
	to->order_id = rt_strdup(from->order_id);
	to->placed = bytes_copy(from->placed, from->placed_length);
	to->detail = bytes_copy(from->detail, from->detail_length);
	to->history = rt_strdup(from->history);
}

static void record_done(struct order_record *record)
{
	free((void *)(uintptr_t)record->order_id);
	free((void *)(uintptr_t)record->placed);
	free((void *)(uintptr_t)record->detail);
	free((void *)(uintptr_t)record->history);
	*record = (struct order_record){ 0 };
}

struct memory_orders *memory_orders_new(void)
{
	return rt_alloc(sizeof(struct memory_orders));
}

void memory_orders_free(struct memory_orders *orders)
{
	struct memory_order *order, *next_order;
	struct memory_customer *customer, *next_customer;

	if (orders == NULL)
		return;
	HASH_ITER (hh, orders->orders, order, next_order) {
		HASH_DEL(orders->orders, order);
		record_done(&order->record);
		free(order);
	}
	HASH_ITER (hh, orders->customers, customer, next_customer) {
		HASH_DEL(orders->customers, customer);
		free(customer->customer_id);
		memory_zset_done(&customer->orders);
		free(customer);
	}
	memory_zset_done(&orders->timers);
	free(orders);
}

static struct memory_order *order_find(const struct memory_orders *orders, const char *order_id)
{
	struct memory_order *order;

	HASH_FIND_STR(orders->orders, order_id, order);
	return order;
}

static struct memory_customer *customer_find(const struct memory_orders *orders,
					     const char *customer_id)
{
	struct memory_customer *customer;

	HASH_FIND_STR(orders->customers, customer_id, customer);
	return customer;
}

static int by_id(const struct memory_order *a, const struct memory_order *b)
{
	return strcmp(a->record.order_id, b->record.order_id);
}

void memory_orders_each(struct memory_orders *orders,
			void (*visit)(const struct order_record *record, void *user), void *user)
{
	struct memory_order *order, *next;

	HASH_SORT(orders->orders, by_id);
	HASH_ITER (hh, orders->orders, order, next)
		visit(&order->record, user);
}

bool memory_orders_find(const struct memory_orders *orders, const char *order_id,
			struct order_record *ret)
{
	struct memory_order *order = order_find(orders, order_id);

	if (order != NULL)
		*ret = order->record;
	return order != NULL;
}

const struct memory_zset *memory_orders_timers(const struct memory_orders *orders)
{
	return &orders->timers;
}

const struct memory_zset *memory_orders_customer(const struct memory_orders *orders,
						 const char *customer_id)
{
	static const struct memory_zset none;
	struct memory_customer *customer = customer_find(orders, customer_id);

	return customer == NULL ? &none : &customer->orders;
}

/* ---- the store ---- */

struct order_memory {
	struct order_store base;
	struct memory_link link;
	struct tail *tail; /* under way */
};

static struct order_memory *of(struct order_store *store)
{
	return RT_CONTAINER_OF(store, struct order_memory, base);
}

static struct memory_redis *redis_of(const struct memory_op *op)
{
	return op->owner->redis;
}

static struct memory_orders *orders_of(const struct memory_op *op)
{
	return op->owner->redis->orders;
}

/* A history must not grow for ever: from this attempt on the last word is replaced. */
#define AGAIN_KEPT 8
/* An id that is ahead of the time by more than this does not tell the time. */
#define AHEAD_MS 1000

static void forget_last_again(struct memory_order *order)
{
	char *last = strrchr((char *)(uintptr_t)order->record.history, ' ');

	if (last != NULL && strncmp(last, " again+", 7) == 0)
		*last = '\0';
}

/* Puts an event of the order into its stream and into its history. Returns the order's age. */
static int64_t publish(struct memory_redis *redis, struct memory_order *order, const char *name,
		       const char *type, uint64_t seq, const void *data, size_t data_length,
		       uint32_t attempt, int64_t now_ms, const char *traceparent)
{
	struct memory_event event = {
		.type = type,
		.subject = order->record.order_id,
		.seq = seq,
		.data = data,
		.data_length = data_length,
		.attempt = attempt,
		.traceparent = traceparent,
	};
	struct memory_id id = memory_publish(redis->streams, MEMORY_ORDER_STREAM, now_ms, &event);
	bool ahead = id.ms - now_ms > AHEAD_MS;
	char *history, told[32] = "";

	if (ahead)
		snprintf(told, sizeof(told), "~%lld", (long long)now_ms);
	if (attempt > AGAIN_KEPT)
		forget_last_again(order);
	if (order->record.history == NULL) {
		order->placed_id_ms = id.ms;
		order->created_ms = ahead ? now_ms : id.ms;
		history = rt_printf("%s@%lld-%llu%s", name, (long long)id.ms,
				    (unsigned long long)id.n, told);
	} else {
		history = rt_printf("%s %s+%lld-%llu%s", order->record.history, name,
				    (long long)(id.ms - order->placed_id_ms),
				    (unsigned long long)id.n, told);
	}
	free((void *)(uintptr_t)order->record.history);
	order->record.history = history;
	return strchr(history, '~') == NULL ? id.ms - order->placed_id_ms
					    : now_ms - order->created_ms;
}

/* ---- place ---- */

struct place {
	struct memory_op op;
	struct order_place_op *user;
	bool alone; /* nobody waits: `user` is a copy of its own */
	int outcome;
	int status;
	struct order_record record;
};

static void place_new(struct place *place)
{
	const struct order_place_op *in = place->user;
	struct memory_orders *orders = orders_of(&place->op);
	struct memory_order *order = rt_alloc(sizeof(*order));
	struct memory_customer *customer = customer_find(orders, in->customer_id);

	order->record.order_id = rt_strdup(in->order_id);
	order->record.state = ORDER_PENDING;
	order->record.version = 1;
	order->record.placed = bytes_copy(in->placed, in->placed_length);
	order->record.placed_length = in->placed_length;
	order->record.hold_ms = in->hold_ms;
	order->record.attempt = 1;
	HASH_ADD_KEYPTR(hh, orders->orders, order->record.order_id, strlen(order->record.order_id),
			order);
	if (customer == NULL) {
		customer = rt_alloc(sizeof(*customer));
		customer->customer_id = rt_strdup(in->customer_id);
		HASH_ADD_KEYPTR(hh, orders->customers, customer->customer_id,
				strlen(customer->customer_id), customer);
	}
	memory_zset_set(&orders->timers, in->order_id, in->retry_due_ms);
	publish(redis_of(&place->op), order, "placed", order_event_type(ORDER_EV_PLACED), 1,
		in->placed, in->placed_length, 1, in->now_ms, in->traceparent);
	memory_zset_set(&customer->orders, in->order_id, order->created_ms);
	place->outcome = ORDER_PLACED;
	record_copy(&place->record, &order->record);
}

static void place_effect(struct memory_op *op)
{
	struct place *place = RT_CONTAINER_OF(op, struct place, op);
	struct memory_redis *redis = redis_of(op);
	const struct order_place_op *in = place->user;
	struct memory_order *order = order_find(orders_of(op), in->order_id);

	if (order == NULL) {
		if (redis->stream_length_max > 0 &&
		    memory_stream_get(redis->streams, MEMORY_ORDER_STREAM)->count >=
			    (size_t)redis->stream_length_max)
			place->status = RT_FULL;
		else
			place_new(place);
		return;
	}
	if (order->record.placed_length == in->placed_length &&
	    memcmp(order->record.placed, in->placed, in->placed_length) == 0) {
		place->outcome = ORDER_PLACED_BEFORE;
		record_copy(&place->record, &order->record);
	} else {
		place->outcome = ORDER_CONFLICT;
	}
}

static void place_forget(struct order_place_op *user)
{
	free((void *)(uintptr_t)user->order_id);
	free((void *)(uintptr_t)user->customer_id);
	free((void *)(uintptr_t)user->placed);
	free((void *)(uintptr_t)user->traceparent);
	free(user);
}

static void place_finish(struct memory_op *op, int status)
{
	struct place *place = RT_CONTAINER_OF(op, struct place, op);
	struct order_place_op *user = place->user;

	if (status == RT_OK)
		status = place->status;
	if (status == RT_OK) {
		user->outcome = (__typeof__(user->outcome))place->outcome;
		user->record = place->record;
	}
	if (place->alone)
		place_forget(user);
	else
		user->done(user, status);
	record_done(&place->record);
	free(place);
}

static struct memory_op *place_copy(const struct memory_op *op)
{
	const struct order_place_op *in = RT_CONTAINER_OF(op, const struct place, op)->user;
	struct place *copy = rt_alloc(sizeof(*copy));

	copy->alone = true;
	copy->user = rt_alloc(sizeof(*copy->user));
	*copy->user = *in;
	copy->user->order_id = rt_strdup(in->order_id);
	copy->user->customer_id = rt_strdup(in->customer_id);
	copy->user->placed = bytes_copy(in->placed, in->placed_length);
	copy->user->traceparent = rt_strdup(in->traceparent);
	return &copy->op;
}

static void store_place(struct order_store *store, struct order_place_op *user)
{
	struct place *place = rt_alloc(sizeof(*place));

	place->user = user;
	place->op.effect = place_effect;
	place->op.finish = place_finish;
	place->op.copy = place_copy;
	memory_link_submit(&of(store)->link, &place->op, "place", user->order_id);
}

/* ---- move ---- */

struct move {
	struct memory_op op;
	struct order_move_op *user;
	bool alone; /* as in struct place */
	int outcome;
	enum order_state state;
	uint64_t version;
	int64_t age_ms;
	bool with_record;
	struct order_record record;
};

static void set_timer(struct memory_orders *orders, const struct memory_order *order,
		      enum order_timer timer, const struct order_move_op *in)
{
	const char *order_id = order->record.order_id;

	switch (timer) {
	case ORDER_TIMER_KEEP:
		break;
	case ORDER_TIMER_NONE:
		memory_zset_remove(&orders->timers, order_id);
		break;
	case ORDER_TIMER_RETRY:
		memory_zset_set(&orders->timers, order_id, in->retry_due_ms);
		break;
	case ORDER_TIMER_HOLD:
		memory_zset_set(&orders->timers, order_id, in->now_ms + order->record.hold_ms);
		break;
	}
}

/* What the event of a rule says: the request as it was placed, or what ended the order. */
struct content {
	const uint8_t *data;
	size_t length;
};

static struct content content_of(const struct order_move_op *in, const struct memory_order *order,
				 enum order_event event)
{
	const struct order_record *record = &order->record;

	if (event == ORDER_EV_PLACED)
		return (struct content){ record->placed, record->placed_length };
	if (!order_event_has_detail(event))
		return (struct content){ NULL, 0 };
	if (in->data_length > 0)
		return (struct content){ in->data, in->data_length };
	return (struct content){ record->detail, record->detail_length };
}

static void move_on(struct move *move, struct memory_order *order, const struct order_rule *rule)
{
	const struct order_move_op *in = move->user;
	struct content content = content_of(in, order, rule->event);

	order->record.state = rule->to;
	order->record.version++;
	order->record.attempt = 1;
	move->age_ms = publish(redis_of(&move->op), order, order_event_word(rule->event),
			       order_event_type(rule->event), order->record.version, content.data,
			       content.length, 1, in->now_ms, in->traceparent);
	if (order_event_has_detail(rule->event) && content.length > 0 &&
	    content.data != order->record.detail) {
		free((void *)(uintptr_t)order->record.detail);
		order->record.detail = bytes_copy(content.data, content.length);
		order->record.detail_length = content.length;
	}
	set_timer(orders_of(&move->op), order, rule->timer, in);
}

/* Publishes the last request once more: the same id, seq and data. */
static void ask_again(struct move *move, struct memory_order *order, const struct order_rule *rule)
{
	const struct order_move_op *in = move->user;
	struct content content = content_of(in, order, rule->event);

	order->record.attempt++;
	move->age_ms = publish(redis_of(&move->op), order, "again", order_event_type(rule->event),
			       order->record.version, content.data, content.length,
			       order->record.attempt, in->now_ms, in->traceparent);
	set_timer(orders_of(&move->op), order, rule->timer, in);
}

/* What asks inventory for nothing is passed over when it has read all there was before. */
static void pass_over(const struct memory_redis *redis, struct memory_stream *stream,
		      struct memory_id before, const struct order_rule *rule)
{
	struct memory_group *group = memory_group_find(stream, "inventory");
	bool asks = order_rule_asks(rule);

	if (redis->bug == MEMORY_BUG_SKIP_COMPENSATION && rule->event == ORDER_EV_REJECTED)
		asks = false;
	if (group != NULL && !asks && memory_id_compare(group->delivered, before) == 0)
		group->delivered = stream->last;
}

static void move_known(struct move *move, struct memory_order *order)
{
	const struct order_move_op *in = move->user;
	const struct order_rule *rule = order_rule(order->record.state, in->input);
	struct memory_stream *stream =
		memory_stream_find(redis_of(&move->op)->streams, MEMORY_ORDER_STREAM);
	struct memory_id before = stream != NULL ? stream->last : (struct memory_id){ 0 };

	if (in->expected_version != 0 && in->expected_version != order->record.version) {
		move->outcome = ORDER_MISMATCH;
		return;
	}
	switch (rule->verdict) {
	case ORDER_MOVES:
		move_on(move, order, rule);
		move->outcome = ORDER_MOVED;
		break;
	case ORDER_AGAIN:
		ask_again(move, order, rule);
		move->outcome = ORDER_MOVED;
		break;
	case ORDER_STAYS:
		move->outcome = ORDER_STAYED;
		break;
	case ORDER_REFUSES:
		move->outcome = ORDER_REFUSED;
		break;
	}
	if (move->outcome == ORDER_MOVED && stream != NULL)
		pass_over(redis_of(&move->op), stream, before, rule);
}

static void move_effect(struct memory_op *op)
{
	struct move *move = RT_CONTAINER_OF(op, struct move, op);
	const struct order_move_op *in = move->user;
	struct memory_order *order = order_find(orders_of(op), in->order_id);

	if (order == NULL) {
		/* Nor is it acknowledged: somebody should look at it. */
		move->outcome = ORDER_UNKNOWN;
		return;
	}
	move_known(move, order);
	move->state = order->record.state;
	move->version = order->record.version;
	if (in->want_record) {
		move->with_record = true;
		record_copy(&move->record, &order->record);
	}
	if (in->ack_id != NULL)
		memory_ack(redis_of(op), MEMORY_INVENTORY_STREAM, "order", in->ack_id);
}

static void move_forget(struct order_move_op *user)
{
	free((void *)(uintptr_t)user->order_id);
	free((void *)(uintptr_t)user->data);
	free((void *)(uintptr_t)user->traceparent);
	free((void *)(uintptr_t)user->ack_id);
	free(user);
}

static void move_finish(struct memory_op *op, int status)
{
	struct move *move = RT_CONTAINER_OF(op, struct move, op);
	struct order_move_op *user = move->user;

	if (status == RT_OK) {
		user->outcome = (__typeof__(user->outcome))move->outcome;
		user->state = move->state;
		user->version = move->version;
		user->age_ms = move->age_ms;
		if (move->with_record)
			user->record = move->record;
	}
	if (move->alone)
		move_forget(user);
	else
		user->done(user, status);
	record_done(&move->record);
	free(move);
}

static struct memory_op *move_copy(const struct memory_op *op)
{
	const struct order_move_op *in = RT_CONTAINER_OF(op, const struct move, op)->user;
	struct move *copy = rt_alloc(sizeof(*copy));

	copy->alone = true;
	copy->user = rt_alloc(sizeof(*copy->user));
	*copy->user = *in;
	copy->user->order_id = rt_strdup(in->order_id);
	copy->user->data = bytes_copy(in->data, in->data_length);
	copy->user->traceparent = rt_strdup(in->traceparent);
	copy->user->ack_id = rt_strdup(in->ack_id);
	return &copy->op;
}

static void store_move(struct order_store *store, struct order_move_op *user)
{
	struct move *move = rt_alloc(sizeof(*move));

	move->user = user;
	move->op.effect = move_effect;
	move->op.finish = move_finish;
	move->op.copy = move_copy;
	memory_link_submit(&of(store)->link, &move->op, "move", user->order_id);
}

/* ---- get ---- */

struct get {
	struct memory_op op;
	struct order_get_op *user;
	bool found;
	struct order_record record;
};

static void get_effect(struct memory_op *op)
{
	struct get *get = RT_CONTAINER_OF(op, struct get, op);
	struct memory_order *order = order_find(orders_of(op), get->user->order_id);

	get->found = order != NULL;
	if (order != NULL)
		record_copy(&get->record, &order->record);
}

static void get_finish(struct memory_op *op, int status)
{
	struct get *get = RT_CONTAINER_OF(op, struct get, op);
	struct order_get_op *user = get->user;

	if (status == RT_OK) {
		user->found = get->found;
		user->record = get->record;
	}
	user->done(user, status);
	record_done(&get->record);
	free(get);
}

static void store_get(struct order_store *store, struct order_get_op *user)
{
	struct get *get = rt_alloc(sizeof(*get));

	get->user = user;
	get->op.effect = get_effect;
	get->op.finish = get_finish;
	memory_link_submit(&of(store)->link, &get->op, "get", user->order_id);
}

/* ---- list ---- */

struct list {
	struct memory_op op;
	struct order_list_op *user;
	struct order_record *records;
	size_t count, bytes;
	bool more;
};

/* Where the page ends: the newest order that is not on it any more. */
static size_t page_end(const struct memory_zset *zset, const struct order_list_op *in)
{
	size_t end = zset->count;

	if (in->before_id[0] == '\0')
		return end;
	for (size_t i = 0; i < zset->count; i++)
		if (strcmp(zset->entries[i].member, in->before_id) == 0)
			return i;
	while (end > 0 && zset->entries[end - 1].score >= in->before_ms)
		end--;
	return end;
}

static void list_effect(struct memory_op *op)
{
	struct list *list = RT_CONTAINER_OF(op, struct list, op);
	const struct order_list_op *in = list->user;
	const struct memory_zset *zset = memory_orders_customer(orders_of(op), in->customer_id);

	list->records = rt_alloc((in->count_max + 1) * sizeof(*list->records));
	for (size_t i = page_end(zset, in); i-- > 0;) {
		struct memory_order *order = order_find(orders_of(op), zset->entries[i].member);

		assert(order != NULL);
		list->bytes += 512 + order->record.placed_length + order->record.detail_length;
		if (list->count == in->count_max ||
		    (list->count > 0 && list->bytes > in->bytes_max)) {
			list->more = true;
			break;
		}
		record_copy(&list->records[list->count++], &order->record);
	}
}

static void list_finish(struct memory_op *op, int status)
{
	struct list *list = RT_CONTAINER_OF(op, struct list, op);
	struct order_list_op *user = list->user;

	user->last_id = "";
	if (status == RT_OK) {
		user->records = list->records;
		user->record_count = list->count;
		user->more = list->more;
		if (list->count > 0)
			user->last_id = list->records[list->count - 1].order_id;
	}
	user->done(user, status);
	for (size_t i = 0; i < list->count; i++)
		record_done(&list->records[i]);
	free(list->records);
	free(list);
}

static void store_list(struct order_store *store, struct order_list_op *user)
{
	struct list *list = rt_alloc(sizeof(*list));

	list->user = user;
	list->op.effect = list_effect;
	list->op.finish = list_finish;
	memory_link_submit(&of(store)->link, &list->op, "list", "");
}

/* ---- due ---- */

struct due {
	struct memory_op op;
	struct order_due_op *user;
	struct order_due *due;
	size_t count;
	int64_t timer_count;
};

/* Does the order's last request still lie in the stream, ahead of what inventory has read? Its id
 * is the history's last word. */
static bool is_queued(struct memory_redis *redis, const struct memory_order *order)
{
	struct memory_stream *stream = memory_stream_find(redis->streams, MEMORY_ORDER_STREAM);
	struct memory_group *group = stream == NULL ? NULL : memory_group_find(stream, "inventory");
	const char *word = strrchr(order->record.history, '+');
	struct memory_id id;

	if (group == NULL || !memory_id_parse(strpbrk(order->record.history, "@") + 1, &id))
		return false;
	if (word != NULL) {
		id.ms += strtoll(word + 1, NULL, 10);
		id.n = strtoull(strrchr(word, '-') + 1, NULL, 10);
	}
	return memory_id_compare(group->delivered, id) < 0 && memory_stream_at(stream, id) != NULL;
}

static void due_effect(struct memory_op *op)
{
	struct due *due = RT_CONTAINER_OF(op, struct due, op);
	const struct order_due_op *in = due->user;
	struct memory_orders *orders = orders_of(op);
	struct memory_zset *timers = &orders->timers;
	size_t count = 0;
	char **ids;

	due->timer_count = (int64_t)timers->count;
	while (count < timers->count && count < in->count_max &&
	       timers->entries[count].score <= in->now_ms)
		count++;
	ids = rt_alloc((count + 1) * sizeof(*ids));
	for (size_t i = 0; i < count; i++)
		ids[i] = rt_strdup(timers->entries[i].member);
	due->due = rt_alloc((count + 1) * sizeof(*due->due));
	for (size_t i = 0; i < count; i++) {
		struct memory_order *order = order_find(orders, ids[i]);

		if (order == NULL || order_state_settled(order->record.state)) {
			memory_zset_remove(timers, ids[i]);
		} else {
			memory_zset_set(timers, ids[i], in->lease_until_ms);
			record_copy(&due->due[due->count].record, &order->record);
			due->due[due->count++].queued = is_queued(redis_of(op), order);
		}
		free(ids[i]);
	}
	free(ids);
}

static void due_finish(struct memory_op *op, int status)
{
	struct due *due = RT_CONTAINER_OF(op, struct due, op);
	struct order_due_op *user = due->user;

	if (status == RT_OK) {
		user->due = due->due;
		user->due_count = due->count;
		user->timer_count = due->timer_count;
	}
	user->done(user, status);
	for (size_t i = 0; i < due->count; i++)
		record_done(&due->due[i].record);
	free(due->due);
	free(due);
}

static void store_due(struct order_store *store, struct order_due_op *user)
{
	struct due *due = rt_alloc(sizeof(*due));

	due->user = user;
	due->op.effect = due_effect;
	due->op.finish = due_finish;
	memory_link_submit(&of(store)->link, &due->op, "due", "");
}

/* ---- timer ---- */

struct timer {
	struct memory_op op;
	struct order_timer_op *user;
};

static void timer_effect(struct memory_op *op)
{
	const struct order_timer_op *in = RT_CONTAINER_OF(op, struct timer, op)->user;
	struct memory_order *order = order_find(orders_of(op), in->order_id);

	if (order != NULL && order->record.version == in->version &&
	    !order_state_settled(order->record.state))
		memory_zset_set(&orders_of(op)->timers, in->order_id, in->due_ms);
}

static void timer_finish(struct memory_op *op, int status)
{
	struct timer *timer = RT_CONTAINER_OF(op, struct timer, op);

	timer->user->done(timer->user, status);
	free(timer);
}

static void store_timer(struct order_store *store, struct order_timer_op *user)
{
	struct timer *timer = rt_alloc(sizeof(*timer));

	timer->user = user;
	timer->op.effect = timer_effect;
	timer->op.finish = timer_finish;
	memory_link_submit(&of(store)->link, &timer->op, "timer", user->order_id);
}

/* ---- tail ---- */

struct tail {
	struct memory_wait wait;
	struct order_tail_op *user;
	struct memory_id after;
	bool from_end;
	struct order_tail_entry *entries;
	size_t count;
	char last[48];
};

#define TAIL_COUNT_MAX 512

static void tail_take(struct tail *tail, const struct memory_entry *entry)
{
	struct order_tail_entry *to;
	char id[MEMORY_ID_TEXT];

	memory_id_format(entry->id, id);
	snprintf(tail->last, sizeof(tail->last), "%s", id);
	if (memory_entry_field(entry, "type")[0] == '\0' ||
	    memory_entry_field(entry, "subject")[0] == '\0' ||
	    memory_entry_field(entry, "seq")[0] == '\0')
		return; /* no event: somebody's own */
	to = &tail->entries[tail->count++];
	to->stream_id = rt_strdup(id);
	to->type = rt_strdup(memory_entry_field(entry, "type"));
	to->subject = rt_strdup(memory_entry_field(entry, "subject"));
	to->seq = strtoull(memory_entry_field(entry, "seq"), NULL, 10);
}

static bool tail_look(struct memory_wait *wait)
{
	struct tail *tail = RT_CONTAINER_OF(wait, struct tail, wait);
	struct memory_stream *stream =
		memory_stream_get(wait->owner->redis->streams, MEMORY_ORDER_STREAM);
	size_t from, read = 0;

	if (tail->from_end) {
		/* Where the entries end, which may be below the last id that was given. */
		if (stream->count > 0)
			tail->after = stream->entries[stream->count - 1].id;
		memory_id_format(tail->after, tail->last);
		return true;
	}
	snprintf(tail->last, sizeof(tail->last), "%s", tail->user->after);
	from = memory_stream_after(stream, tail->after);
	tail->entries = rt_realloc(tail->entries, (TAIL_COUNT_MAX + 1) * sizeof(*tail->entries));
	while (from + read < stream->count && read < TAIL_COUNT_MAX)
		tail_take(tail, &stream->entries[from + read++]);
	return read > 0;
}

static void tail_finish(struct memory_wait *wait, int status)
{
	struct tail *tail = RT_CONTAINER_OF(wait, struct tail, wait);
	struct order_memory *store = RT_CONTAINER_OF(wait->owner, struct order_memory, link);
	struct order_tail_op *user = tail->user;

	store->tail = NULL;
	if (status == RT_OK) {
		user->entries = tail->entries;
		user->entry_count = tail->count;
		memcpy(user->last, tail->last, sizeof(user->last));
	}
	user->done(user, status);
	for (size_t i = 0; i < tail->count; i++) {
		free((void *)(uintptr_t)tail->entries[i].stream_id);
		free((void *)(uintptr_t)tail->entries[i].type);
		free((void *)(uintptr_t)tail->entries[i].subject);
	}
	free(tail->entries);
	free(tail);
}

static void store_tail(struct order_store *store, struct order_tail_op *user)
{
	struct order_memory *memory = of(store);
	struct tail *tail = rt_alloc(sizeof(*tail));

	assert(memory->tail == NULL);
	memory->tail = tail;
	tail->user = user;
	tail->from_end = strcmp(user->after, "$") == 0;
	if (!memory_id_parse(user->after, &tail->after))
		tail->after = (struct memory_id){ 0 };
	tail->wait.look = tail_look;
	tail->wait.finish = tail_finish;
	memory_wait_start(&tail->wait, &memory->link, "tail", user->block_ms);
}

static void store_tail_interrupt(struct order_store *store)
{
	struct order_memory *memory = of(store);

	if (memory->tail != NULL)
		memory_wait_interrupt(&memory->tail->wait, RT_CANCELED);
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

	trim->trim = memory_trim(redis_of(op)->streams, MEMORY_ORDER_STREAM, in->now_ms,
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

static void store_trim(struct order_store *store, struct rt_trim_op *user)
{
	struct trim *trim = rt_alloc(sizeof(*trim));

	trim->user = user;
	trim->op.effect = trim_effect;
	trim->op.finish = trim_finish;
	memory_link_submit(&of(store)->link, &trim->op, "trim", "");
}

/* ---- the rest ---- */

static bool store_ready(struct order_store *store)
{
	struct order_memory *memory = of(store);

	return !memory->link.away && !memory->link.dead;
}

static void store_free(struct order_store *store)
{
	struct order_memory *memory = of(store);

	memory_link_done(&memory->link);
	free(memory);
}

static const struct order_store_ops ops = {
	.place = store_place,
	.move = store_move,
	.get = store_get,
	.list = store_list,
	.due = store_due,
	.timer = store_timer,
	.tail = store_tail,
	.tail_interrupt = store_tail_interrupt,
	.trim = store_trim,
	.ready = store_ready,
	.free = store_free,
};

struct order_store *order_store_memory_new(struct memory_redis *redis,
					   const struct memory_store_options *options)
{
	struct order_memory *memory = rt_alloc(sizeof(*memory));

	memory->base.ops = &ops;
	memory_link_init(&memory->link, redis, options->process, options->fault, options->user);
	return &memory->base;
}

struct memory_link *order_store_memory_link(struct order_store *store)
{
	return &of(store)->link;
}
