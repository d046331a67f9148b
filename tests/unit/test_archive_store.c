/* test_archive_store.c - the archive's database: what a batch does to it, and what it answers. In SQLite, in a folder of its
 * own. live/archive does the same to PostgreSQL. */
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "archive/store.h"
#include "archive/store_index.h"
#include "run.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define DAY_MS INT64_C(86400000)
#define T0     INT64_C(1767225600000)

static struct {
	char folder[64], *database;
	struct archive_store *store;
	struct rt_arena arena;
	struct archive_event events[64];
	struct archive_batch batch;
	struct archive_position positions[2];
	struct archive_written written;
	int64_t cache_orders; /* of a store that is opened */
} world;

static struct archive_store *open_store(bool writes)
{
	const struct archive_store_options options = { .database = world.database,
						       .writes = writes,
						       .sleep_ms = 1,
						       .segment_orders = 4,
						       .cache_orders = world.cache_orders };
	struct archive_store *store = NULL;
	char error[ARCHIVE_ERROR] = "";

	CU_ASSERT_EQUAL_FATAL(archive_store_open(&options, &store, error), RT_OK);
	return store;
}

static void begin_batch(void)
{
	world.batch = (struct archive_batch){ .events = world.events,
					      .positions = world.positions,
					      .position_count = 2 };
	for (size_t i = 0; i < 2; i++) {
		memcpy(world.positions[i].from, world.positions[i].id,
		       sizeof(world.positions[i].from));
		world.positions[i].events = 0;
	}
}

static void setup(void)
{
	memset(&world, 0, sizeof(world));
	snprintf(world.folder, sizeof(world.folder), "/tmp/tandem archive XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(world.folder));
	world.database = rt_printf("%s/archive.db", world.folder);
	for (size_t i = 0; i < 2; i++) {
		snprintf(world.positions[i].stream, sizeof(world.positions[i].stream),
			 "%s:{0}:events", i == 0 ? "order" : "inventory");
		snprintf(world.positions[i].id, sizeof(world.positions[i].id), "0-0");
	}
	world.store = open_store(true);
	begin_batch();
}

static void teardown(void)
{
	static const char *const ends[] = { "", "-wal", "-shm" };

	archive_store_close(world.store);
	for (size_t i = 0; i < RT_LENGTH(ends); i++) {
		char *path = rt_printf("%s%s", world.database, ends[i]);

		unlink(path);
		free(path);
	}
	rmdir(world.folder);
	free(world.database);
	rt_arena_done(&world.arena);
}

/* ---- what happens ---- */

static const char *order_id(int n)
{
	char *id = rt_arena_printf(&world.arena, "ord_%026d", 0);

	for (char *c = id + 4; *c != '\0'; c++)
		*c = 'a';
	id[28] = (char)('a' + n / 26);
	id[27] = (char)('a' + n % 26);
	return id;
}

static struct archive_text packed(const ProtobufCMessage *message)
{
	size_t length = protobuf_c_message_get_packed_size(message);
	uint8_t *data = rt_arena_take(&world.arena, length + 1);

	protobuf_c_message_pack(message, data);
	return (struct archive_text){ (const char *)data, length };
}

static void happens_with(enum archive_context context, const char *kind, const char *subject,
			 uint64_t version, int64_t time_ms, struct archive_text data)
{
	world.events[world.batch.event_count++] =
		(struct archive_event){ .context = context,
					.kind = { kind, strlen(kind) },
					.subject = { subject, strlen(subject) },
					.data = data,
					.version = version,
					.time_ms = time_ms,
					.entry_ms = time_ms };
	world.positions[context].events++;
	snprintf(world.positions[context].id, sizeof(world.positions[context].id), "%lld-%zu",
		 (long long)time_ms, world.batch.event_count);
}

static void happens(enum archive_context context, const char *kind, const char *subject,
		    uint64_t version, int64_t time_ms)
{
	happens_with(context, kind, subject, version, time_ms, (struct archive_text){ 0 });
}

static void placed(const char *id, const char *customer, const char *sku, const char *label,
		   int64_t time_ms)
{
	Tandem__Order__V1__OrderPlaced message = TANDEM__ORDER__V1__ORDER_PLACED__INIT;
	Tandem__Order__V1__OrderContent content = TANDEM__ORDER__V1__ORDER_CONTENT__INIT;
	Tandem__Order__V1__OrderLine line = TANDEM__ORDER__V1__ORDER_LINE__INIT;
	Tandem__Order__V1__OrderLine *lines[] = { &line };
	Tandem__Order__V1__OrderLabel tag = TANDEM__ORDER__V1__ORDER_LABEL__INIT;
	Tandem__Order__V1__OrderLabel *labels[] = { &tag };

	line.sku = (char *)(uintptr_t)sku;
	line.quantity = 3;
	tag.key = (char *)(uintptr_t) "shop";
	tag.value = (char *)(uintptr_t)label;
	content.customer_id = (char *)(uintptr_t)customer;
	content.lines = lines;
	content.n_lines = 1;
	content.labels = labels;
	content.n_labels = label != NULL;
	message.content = &content;
	happens_with(ARCHIVE_ORDER, "OrderPlaced", id, 1, time_ms, packed(&message.base));
}

static void written(void)
{
	CU_ASSERT_EQUAL_FATAL(archive_store_write(world.store, &world.batch, &world.written),
			      RT_OK);
	begin_batch();
}

static void bought(const char *id, int64_t time_ms)
{
	placed(id, "carol", "tea", "north", time_ms);
	happens(ARCHIVE_INVENTORY, "InventoryReserved", id, 1, time_ms + 1);
	happens(ARCHIVE_ORDER, "OrderReserved", id, 2, time_ms + 2);
	happens(ARCHIVE_ORDER, "OrderConfirmed", id, 3, time_ms + 1000);
	happens(ARCHIVE_INVENTORY, "InventoryCommitted", id, 2, time_ms + 1001);
	happens(ARCHIVE_ORDER, "OrderSettled", id, 4, time_ms + 1002);
}

/* ---- what is asked ---- */

static struct archive_life life_of(const char *id)
{
	struct archive_life life = { .event_count = 0 };

	CU_ASSERT_EQUAL(archive_store_order(world.store, id, &world.arena, &life), RT_OK);
	return life;
}

static struct archive_movements movements_of(const char *sku)
{
	struct archive_movements movements = { .count = 0 };

	CU_ASSERT_EQUAL(
		archive_store_movements(world.store, sku, 0, 0, 0, 100, &world.arena, &movements),
		RT_OK);
	return movements;
}

static size_t found(struct archive_filter filter)
{
	struct archive_orders orders = { .count = 0 };

	CU_ASSERT_EQUAL(
		archive_store_search(world.store, &filter, 0, 100, 10000, &world.arena, &orders),
		RT_OK);
	CU_ASSERT_FALSE(orders.more);
	return orders.count;
}
#define FOUND(...) found((struct archive_filter){ __VA_ARGS__ })

/* ---- the tests ---- */

static void an_order_has_its_life(void)
{
	struct archive_life life;

	bought(order_id(1), T0);
	written();
	CU_ASSERT_EQUAL(world.written.orders, 1);
	life = life_of(order_id(1));
	CU_ASSERT_STRING_EQUAL(life.order.customer_id, "carol");
	CU_ASSERT_EQUAL(life.order.status, 4);
	CU_ASSERT(life.order.settled);
	CU_ASSERT_EQUAL(life.order.version, 4);
	CU_ASSERT_EQUAL(life.order.placed_ms, T0);
	CU_ASSERT_EQUAL(life.order.updated_ms, T0 + 1002);
	CU_ASSERT_EQUAL_FATAL(life.event_count, 6);
	CU_ASSERT_STRING_EQUAL(life.events[3].kind, "OrderSettled");
	CU_ASSERT_STRING_EQUAL(life.events[5].kind, "InventoryCommitted");
	CU_ASSERT_EQUAL(archive_store_order(world.store, order_id(2), &world.arena, &life),
			RT_NOT_FOUND);
}

/* In one batch or in one for each event: the same. */
static void batches_do_not_matter(void)
{
	struct archive_event events[6];
	struct archive_life life;

	bought(order_id(1), T0);
	memcpy(events, world.events, sizeof(events));
	for (size_t i = 0; i < 2; i++)
		snprintf(world.positions[i].id, sizeof(world.positions[i].id), "0-0");
	begin_batch();
	for (size_t i = 0; i < RT_LENGTH(events); i++) {
		happens_with(events[i].context, events[i].kind.data, order_id(1), events[i].version,
			     events[i].time_ms, events[i].data);
		written();
		/* What is kept in mind must be what is stored. */
		if (i % 2 == 0) {
			archive_store_close(world.store);
			world.store = open_store(true);
		}
	}
	life = life_of(order_id(1));
	CU_ASSERT_EQUAL(life.event_count, 6);
	CU_ASSERT_EQUAL(life.order.status, 4);
	CU_ASSERT(life.order.settled);
	CU_ASSERT_EQUAL(movements_of("tea").count, 2);
}

static const char *sku_of(int n)
{
	return rt_arena_printf(&world.arena, "%s-%d", n % 3 == 0 ? "a rather long SKU" : "tea", n);
}

/* Orders are forgotten, and their memory is that of others: what is stored of each is its own. The first one is the oldest in mind
 * when a batch begins with it, in which others come. */
static void few_are_kept_in_mind(void)
{
	enum { ORDERS = 12 };

	archive_store_close(world.store);
	world.cache_orders = 3;
	world.store = open_store(true);
	for (int n = 0; n < ORDERS; n++) {
		if (n > 0)
			happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(n - 1), 1, T0 + n);
		placed(order_id(n), n % 2 == 0 ? "carol" : "dave", sku_of(n), "north", T0 + n);
		for (uint64_t version = 2; version < (uint64_t)n % 4 + 2; version++)
			happens(ARCHIVE_ORDER, "OrderHoldExtended", order_id(n), version,
				T0 + n + 9);
		if (n % 2 == 1)
			written();
	}
	happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(ORDERS - 1), 1, T0 + ORDERS);
	written();
	happens(ARCHIVE_INVENTORY, "InventoryCommitted", order_id(ORDERS - 1), 2, T0 + 99);
	for (int n = 0; n < ORDERS - 1; n++)
		happens(ARCHIVE_INVENTORY, "InventoryReleased", order_id(n), 2, T0 + 100 + n);
	happens(ARCHIVE_ORDER, "OrderConfirmed", order_id(ORDERS - 1), 5, T0 + 200);
	written();
	for (int n = 0; n < ORDERS; n++) {
		struct archive_life life = life_of(order_id(n));
		struct archive_movements movements = movements_of(sku_of(n));

		CU_ASSERT_EQUAL(life.event_count, (size_t)(3 + n % 4 + (n == ORDERS - 1)));
		CU_ASSERT_STRING_EQUAL(life.order.customer_id, n % 2 == 0 ? "carol" : "dave");
		CU_ASSERT_EQUAL(life.order.version, n == ORDERS - 1 ? 5 : (uint64_t)n % 4 + 1);
		CU_ASSERT_EQUAL_FATAL(movements.count, 2);
		CU_ASSERT_STRING_EQUAL(movements.list[1].order_id, order_id(n));
		CU_ASSERT_EQUAL(movements.list[0].kind,
				n == ORDERS - 1 ? ARCHIVE_COMMITTED : ARCHIVE_RELEASED);
	}
	CU_ASSERT_EQUAL(FOUND(.label_key = "shop", .label_value = "north"), ORDERS);
}

static void repeats_are_stored_once(void)
{
	struct archive_life life;

	bought(order_id(1), T0);
	written();
	placed(order_id(1), "carol", "tea", "north", T0 + 5000);
	happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(1), 1, T0 + 5001);
	/* The last ones, too. */
	happens(ARCHIVE_ORDER, "OrderSettled", order_id(1), 4, T0 + 5002);
	happens(ARCHIVE_INVENTORY, "InventoryCommitted", order_id(1), 2, T0 + 5003);
	written();
	CU_ASSERT_EQUAL(world.written.repeats, 4);
	CU_ASSERT_EQUAL(world.written.orders, 0);
	life = life_of(order_id(1));
	CU_ASSERT_EQUAL(life.event_count, 6);
	CU_ASSERT_EQUAL(life.order.status, 4);
	CU_ASSERT_EQUAL(life.order.placed_ms, T0);
	CU_ASSERT_EQUAL(movements_of("tea").count, 2);
}

static void every_way_to_end(void)
{
	static const struct {
		const char *kind;
		uint64_t version;
		int status;
		bool settled;
	} rows[] = {
		{ "OrderRejected", 2, 3, true },
		{ "OrderRejected", 3, 3, false },
		{ "OrderCancelled", 2, 5, false },
		{ "OrderExpired", 2, 6, false },
		{ "OrderReserved", 2, 2, false },
		{ "OrderReturned", 2, 4, false }, /* its OrderConfirmed was lost */
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *id = order_id((int)i);
		struct archive_life life;

		placed(id, "carol", "tea", NULL, T0);
		happens(ARCHIVE_ORDER, rows[i].kind, id, rows[i].version, T0 + 1);
		written();
		life = life_of(id);
		CU_ASSERT_EQUAL(life.order.status, rows[i].status);
		CU_ASSERT_EQUAL(life.order.settled, rows[i].settled);
		CU_ASSERT_EQUAL(life.order.version, rows[i].version);
		CU_ASSERT_EQUAL(life.event_count, 2);
	}
}

static void stock_moves(void)
{
	Tandem__Inventory__V1__StockAdjusted adjusted = TANDEM__INVENTORY__V1__STOCK_ADJUSTED__INIT;
	static const int kinds[] = { ARCHIVE_RELEASED, ARCHIVE_RESERVED, ARCHIVE_ADJUSTED };
	struct archive_movements movements;

	adjusted.delta = -7;
	happens_with(ARCHIVE_INVENTORY, "StockAdjusted", "tea", 1, T0, packed(&adjusted.base));
	placed(order_id(1), "carol", "tea", NULL, T0 + 1);
	happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(1), 1, T0 + 2);
	happens(ARCHIVE_INVENTORY, "StockLow", "tea", 3, T0 + 2);
	happens(ARCHIVE_INVENTORY, "InventoryReleased", order_id(1), 2, T0 + 3);
	/* Nothing was held for this one: its release moves nothing. */
	placed(order_id(2), "carol", "tea", NULL, T0 + 4);
	happens(ARCHIVE_INVENTORY, "InventoryReleased", order_id(2), 1, T0 + 5);
	written();
	movements = movements_of("tea");
	CU_ASSERT_EQUAL_FATAL(movements.count, RT_LENGTH(kinds));
	for (size_t i = 0; i < RT_LENGTH(kinds); i++)
		CU_ASSERT_EQUAL(movements.list[i].kind, kinds[i]);
	CU_ASSERT_EQUAL(movements.list[2].quantity, -7);
	CU_ASSERT_PTR_NULL(movements.list[2].order_id);
	CU_ASSERT_EQUAL(movements.list[1].quantity, 3);
	CU_ASSERT_STRING_EQUAL(movements.list[1].order_id, order_id(1));
	CU_ASSERT_EQUAL(movements.list[1].time_ms, T0 + 2);
}

/* Each return once, though the event has those before it, too. */
static void returns_move_stock(void)
{
	Tandem__Order__V1__OrderReturned returned = TANDEM__ORDER__V1__ORDER_RETURNED__INIT;
	Tandem__Order__V1__OrderReturn back[2] = { TANDEM__ORDER__V1__ORDER_RETURN__INIT,
						   TANDEM__ORDER__V1__ORDER_RETURN__INIT };
	Tandem__Order__V1__OrderReturn *returns[] = { &back[0], &back[1] };
	Tandem__Order__V1__OrderLine lines[2] = { TANDEM__ORDER__V1__ORDER_LINE__INIT,
						  TANDEM__ORDER__V1__ORDER_LINE__INIT };
	Tandem__Order__V1__OrderLine *line[] = { &lines[0], &lines[1] };
	static const int64_t quantities[] = { 2, 1 };
	struct archive_movements movements;

	placed(order_id(1), "carol", "tea", NULL, T0);
	returned.returns = returns;
	for (size_t i = 0; i < 2; i++) {
		lines[i].sku = (char *)(uintptr_t) "tea";
		lines[i].quantity = (uint32_t)(1 + i);
		back[i].lines = &line[i];
		back[i].n_lines = 1;
		returned.n_returns = i + 1;
		for (int repeats = 0; repeats < 2; repeats++)
			happens_with(ARCHIVE_ORDER, "OrderReturned", order_id(1), 5 + i,
				     T0 + 1 + (int64_t)i, packed(&returned.base));
	}
	written();
	movements = movements_of("tea");
	CU_ASSERT_EQUAL_FATAL(movements.count, 2);
	for (size_t i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(movements.list[i].kind, ARCHIVE_RETURNED);
		CU_ASSERT_EQUAL(movements.list[i].quantity, quantities[i]);
		CU_ASSERT_STRING_EQUAL(movements.list[i].order_id, order_id(1));
	}
}

/* Inventory's stream was read further than the orders'. */
static void inventory_may_be_first(void)
{
	struct archive_life life;

	happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(1), 1, T0 + 50);
	written();
	life = life_of(order_id(1));
	CU_ASSERT_PTR_NULL(life.order.customer_id);
	CU_ASSERT_EQUAL(life.order.status, 0);
	CU_ASSERT_EQUAL(movements_of("tea").count, 0);
	placed(order_id(1), "carol", "tea", "north", T0);
	happens(ARCHIVE_ORDER, "OrderReserved", order_id(1), 2, T0 + 60);
	happens(ARCHIVE_INVENTORY, "InventoryCommitted", order_id(1), 2, T0 + 70);
	written();
	life = life_of(order_id(1));
	CU_ASSERT_STRING_EQUAL(life.order.customer_id, "carol");
	CU_ASSERT_EQUAL(life.order.placed_ms, T0);
	CU_ASSERT_EQUAL(life.event_count, 4);
	CU_ASSERT_EQUAL(movements_of("tea").count, 2);
	CU_ASSERT_EQUAL(FOUND(.to_ms = T0 + 1), 1);
	CU_ASSERT_EQUAL(FOUND(.from_ms = T0 + 1), 0);
	CU_ASSERT_EQUAL(FOUND(.sku = "tea"), 1);
}

/* Its OrderPlaced was trimmed before it was archived. */
static void an_order_may_stay_incomplete(void)
{
	struct archive_life life;

	happens(ARCHIVE_ORDER, "OrderConfirmed", order_id(1), 3, T0);
	written();
	life = life_of(order_id(1));
	CU_ASSERT_PTR_NULL(life.order.customer_id);
	CU_ASSERT_EQUAL(life.order.placed.length, 0);
	CU_ASSERT_EQUAL(life.order.status, 4);
	CU_ASSERT_EQUAL(FOUND(.status = 4), 1);
}

static void searches(void)
{
	static const struct {
		const char *reason;
		struct archive_filter filter;
		size_t count;
	} rows[] = {
		{ "all", { .status = 0 }, 6 },
		{ "a customer", { .customer_id = "carol" }, 4 },
		{ "another", { .customer_id = "dave" }, 2 },
		{ "nobody", { .customer_id = "carol2" }, 0 },
		{ "a status", { .status = 2 }, 1 },
		{ "a SKU", { .sku = "tea" }, 3 },
		{ "a label", { .label_key = "shop", .label_value = "north" }, 3 },
		{ "its value counts", { .label_key = "shop", .label_value = "nort" }, 0 },
		{ "from a time on", { .from_ms = T0 + 3 * DAY_MS }, 3 },
		{ "before a time", { .to_ms = T0 + 3 * DAY_MS }, 3 },
		{ "between", { .from_ms = T0 + DAY_MS, .to_ms = T0 + 3 * DAY_MS }, 2 },
		{ "customer and SKU", { .customer_id = "carol", .sku = "tea" }, 2 },
		{ "customer and label",
		  { .customer_id = "dave", .label_key = "shop", .label_value = "north" },
		  1 },
		{ "SKU and label",
		  { .sku = "tea", .label_key = "shop", .label_value = "north" },
		  3 },
		{ "SKU and status", { .sku = "tea", .status = 2 }, 1 },
		{ "status and time", { .status = 1, .from_ms = T0 + 3 * DAY_MS }, 3 },
	};

	for (int n = 0; n < 6; n++) {
		bool even = n % 2 == 0;

		placed(order_id(n), n < 4 ? "carol" : "dave", even ? "tea" : "mug",
		       even ? "north" : "south", T0 + n * DAY_MS);
	}
	happens(ARCHIVE_ORDER, "OrderReserved", order_id(2), 2, T0 + 9 * DAY_MS);
	written();
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct archive_filter filter = rows[i].filter;

		if (found(filter) != rows[i].count)
			printf("\n  %s\n", rows[i].reason);
		CU_ASSERT_EQUAL(found(filter), rows[i].count);
		filter.oldest_first = true;
		CU_ASSERT_EQUAL(found(filter), rows[i].count);
	}
}

/* Whatever the page's size and the bound of what it looks at: each order once, in order. */
static void pages(void)
{
	static const struct archive_filter filters[] = {
		{ .status = 0 },
		{ .customer_id = "carol" },
		{ .customer_id = "carol", .sku = "tea" },
		{ .sku = "tea", .status = 1, .oldest_first = true },
		{ .label_key = "shop", .label_value = "north", .oldest_first = true },
	};

	for (int n = 0; n < 50; n++) {
		placed(order_id(n), n % 3 == 0 ? "dave" : "carol", n % 2 == 0 ? "tea" : "mug",
		       "north", T0 + n / 5);
		if (n % 7 == 6)
			written();
	}
	written();
	for (size_t i = 0; i < RT_LENGTH(filters); i++) {
		size_t all = found(filters[i]);

		for (size_t size = 1; size < 60; size += 7) {
			struct archive_orders page = { .more = true };
			size_t count = 0;
			int64_t last = 0;

			for (int64_t after = 0; page.more; after = page.after) {
				CU_ASSERT_EQUAL_FATAL(archive_store_search(world.store, &filters[i],
									   after, size, 3,
									   &world.arena, &page),
						      RT_OK);
				for (size_t j = 0; j < page.count; j++) {
					CU_ASSERT(last == 0 || (page.list[j].no > last) ==
								       filters[i].oldest_first);
					last = page.list[j].no;
				}
				count += page.count;
			}
			CU_ASSERT_EQUAL(count, all);
		}
	}
}

/* Orders lie in many segments: each is found, by who knows which segments may have it and by who does not. */
static void segments(void)
{
	struct archive_store *reader;
	struct archive_life life;

	for (int n = 0; n < 40; n++) {
		placed(order_id(n), "carol", "tea", NULL, T0 + n);
		if (n % 3 == 2)
			written();
	}
	/* Inventory's event came long before, in the middle of the others. */
	happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(100), 1, T0 + 100);
	written();
	placed(order_id(100), "carol", "tea", NULL, T0 + 20);
	written();
	CU_ASSERT_EQUAL(world.written.orders, 0);
	reader = open_store(false);
	for (int n = 0; n <= 40; n++) {
		const char *id = order_id(n < 40 ? n : 100);

		CU_ASSERT_EQUAL(life_of(id).order.placed_ms, T0 + (n < 40 ? n : 20));
		CU_ASSERT_EQUAL(archive_store_order(reader, id, &world.arena, &life), RT_OK);
		CU_ASSERT_STRING_EQUAL(life.order.order_id, id);
	}
	CU_ASSERT_EQUAL(archive_store_order(reader, order_id(77), &world.arena, &life),
			RT_NOT_FOUND);
	archive_store_close(reader);
	CU_ASSERT_EQUAL(FOUND(.sku = "tea"), 41);
	CU_ASSERT_EQUAL(FOUND(.status = 1), 41);
	CU_ASSERT_EQUAL(FOUND(.customer_id = "carol", .from_ms = T0 + 20, .to_ms = T0 + 21), 2);
	/* Who writes anew knows them, too. */
	archive_store_close(world.store);
	world.store = open_store(true);
	for (int n = 0; n < 40; n++)
		placed(order_id(n), "carol", "tea", NULL, T0 + 1000);
	happens(ARCHIVE_ORDER, "OrderCancelled", order_id(1), 2, T0 + 1001);
	written();
	CU_ASSERT_EQUAL(world.written.orders, 0);
	CU_ASSERT_EQUAL(world.written.repeats, 40);
	CU_ASSERT_EQUAL(FOUND(.status = 1), 40);
	CU_ASSERT_EQUAL(FOUND(.status = 5), 1);
}

/* However they lie in rows: each once, newest first. */
static void pages_of_movements(void)
{
	for (int n = 0; n < 30; n++) {
		bought(order_id(n), T0 + n * 400);
		if (n % 10 == 9)
			written();
	}
	CU_ASSERT_EQUAL(movements_of("tea").count, 60);
	for (size_t size = 1; size < 70; size += 4) {
		struct archive_movements page = { .more = true };
		size_t count = 0;
		int64_t last = INT64_MAX;

		for (int64_t after = 0; page.more; after = page.after) {
			CU_ASSERT_EQUAL_FATAL(archive_store_movements(world.store, "tea", T0 + 401,
								      T0 + 8 * 400, after, size,
								      &world.arena, &page),
					      RT_OK);
			for (size_t i = 0; i < page.count; i++) {
				CU_ASSERT(page.list[i].no < last);
				CU_ASSERT(page.list[i].time_ms >= T0 + 401);
				CU_ASSERT(page.list[i].time_ms < T0 + 8 * 400);
				CU_ASSERT_PTR_NOT_NULL(page.list[i].order_id);
				last = page.list[i].no;
			}
			count += page.count;
		}
		/* Reserved: the second to the eighth. Committed: the first to the fifth, and the sixth. */
		CU_ASSERT_EQUAL(count, 7 + 6);
	}
}

static size_t releasable(struct archive_releasable list[8], int64_t before_ms)
{
	const struct archive_releasable start = { .no = 0 };
	size_t count = 0;

	CU_ASSERT_EQUAL(
		archive_store_releasable(world.store, 0, &start, before_ms, 8, list, &count),
		RT_OK);
	return count;
}

/* What is settled and archived as a whole, the one that changed least recently first; once. */
static void what_may_be_dropped(void)
{
	char *ids[] = { rt_arena_printf(&world.arena, "%s", order_id(1)),
			rt_arena_printf(&world.arena, "%s", order_id(9)),
			rt_arena_printf(&world.arena, "%s", order_id(3)) };
	struct archive_releasable list[8];
	struct archive_order found[3];
	int64_t kept = 0;

	bought(order_id(1), T0 + 50);
	bought(order_id(2), T0);
	placed(order_id(3), "carol", "tea", NULL, T0);
	happens(ARCHIVE_ORDER, "OrderSettled", order_id(4), 4, T0); /* how it was placed is gone */
	written();
	CU_ASSERT_EQUAL(world.written.kept, 2);
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 2);
	CU_ASSERT_STRING_EQUAL(list[0].order_id, order_id(2));
	CU_ASSERT_EQUAL(list[0].version, 4);
	CU_ASSERT_EQUAL(list[0].updated_ms, T0 + 1002);
	CU_ASSERT_STRING_EQUAL(list[1].order_id, order_id(1));
	CU_ASSERT_EQUAL(releasable(list, T0 + 1002), 1);
	/* Something came back: it is not settled until inventory has answered. */
	happens(ARCHIVE_ORDER, "OrderReturned", order_id(2), 5, T0 + 5000);
	written();
	CU_ASSERT_EQUAL(world.written.kept, -1);
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 1);
	happens(ARCHIVE_ORDER, "OrderSettled", order_id(2), 6, T0 + 5001);
	happens(ARCHIVE_ORDER, "OrderDropped", order_id(1), 5, T0 + 6000);
	written();
	CU_ASSERT_EQUAL(world.written.dropped, 1);
	CU_ASSERT_EQUAL(world.written.kept, 0);
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 1);
	CU_ASSERT_STRING_EQUAL(list[0].order_id, order_id(2));
	CU_ASSERT_EQUAL(list[0].version, 6);
	CU_ASSERT_EQUAL(archive_store_kept(world.store, 0, &kept), RT_OK);
	CU_ASSERT_EQUAL(kept, 1);
	/* It is still here. */
	CU_ASSERT_EQUAL(archive_store_find(world.store, ids, 3, &world.arena, found), RT_OK);
	CU_ASSERT_STRING_EQUAL(found[0].order_id, order_id(1));
	CU_ASSERT(found[0].dropped);
	CU_ASSERT_EQUAL(found[0].updated_ms, T0 + 50 + 1002); /* dropping changes nothing */
	CU_ASSERT_EQUAL(found[0].status, 4);
	CU_ASSERT(found[0].placed.length > 0);
	CU_ASSERT_PTR_NULL(found[1].order_id);
	CU_ASSERT_STRING_EQUAL(found[2].order_id, order_id(3));
	CU_ASSERT_FALSE(found[2].dropped);
	CU_ASSERT_STRING_EQUAL(life_of(order_id(1)).events[4].kind, "OrderDropped");
}

/* What came back is in Redis alone. */
static void an_order_of_which_an_event_is_missing_is_not_dropped(void)
{
	struct archive_releasable list[8];

	bought(order_id(1), T0);
	written();
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 1);
	happens(ARCHIVE_ORDER, "OrderSettled", order_id(1), 6, T0 + 5001);
	written();
	CU_ASSERT_EQUAL(world.written.kept, -1);
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 0);
	/* Nor in a batch of its own, behind which the order is read again. */
	happens(ARCHIVE_ORDER, "OrderReturned", order_id(1), 7, T0 + 6000);
	written();
	happens(ARCHIVE_ORDER, "OrderSettled", order_id(1), 8, T0 + 6001);
	written();
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 0);
}

static void dropped(const char *id, uint64_t version, int64_t time_ms)
{
	happens(ARCHIVE_ORDER, "OrderDropped", id, version, time_ms);
	written();
	CU_ASSERT_EQUAL(world.written.dropped, 1);
	CU_ASSERT_EQUAL(world.written.kept, -1);
}

static void lost_from(int64_t ms)
{
	world.positions[0].lost_from_ms = ms;
	written();
	world.positions[0].lost_from_ms = 0;
}

/* A master was lost with its last entries: orders that they said to be dropped are there again. */
static void that_it_was_dropped_may_be_lost(void)
{
	struct archive_releasable list[8];

	for (int i = 1; i <= 3; i++)
		bought(order_id(i), T0 + i);
	written();
	for (int i = 1; i <= 3; i++)
		dropped(order_id(i), 5, T0 + i * DAY_MS);
	CU_ASSERT_EQUAL(releasable(list, T0 + DAY_MS), 0);
	/* What is written with it follows it: to the second one something has happened in the meantime. */
	happens(ARCHIVE_ORDER, "OrderReturned", order_id(2), 5, T0 + 4 * DAY_MS);
	lost_from(T0 + 2 * DAY_MS);
	CU_ASSERT_EQUAL(world.written.taken_back, 2);
	CU_ASSERT_EQUAL(world.written.kept, 1);
	CU_ASSERT_EQUAL(world.written.repeats, 0);
	CU_ASSERT_EQUAL_FATAL(releasable(list, T0 + DAY_MS), 1);
	CU_ASSERT_STRING_EQUAL(list[0].order_id, order_id(3));
	CU_ASSERT_EQUAL(list[0].version, 4);
	CU_ASSERT(life_of(order_id(1)).order.dropped);
	CU_ASSERT_FALSE(life_of(order_id(2)).order.dropped);
	CU_ASSERT_FALSE(life_of(order_id(3)).order.dropped);
	happens(ARCHIVE_ORDER, "OrderSettled", order_id(2), 6, T0 + 4 * DAY_MS);
	written();
	CU_ASSERT_EQUAL(world.written.kept, 1);
	CU_ASSERT_EQUAL(releasable(list, T0 + 5 * DAY_MS), 2);
	/* They are dropped once more, and that may be lost again. */
	archive_store_close(world.store);
	world.store = open_store(true);
	dropped(order_id(2), 7, T0 + 6 * DAY_MS);
	dropped(order_id(3), 5, T0 + 7 * DAY_MS);
	CU_ASSERT_EQUAL(releasable(list, T0 + 8 * DAY_MS), 0);
	CU_ASSERT_EQUAL(life_of(order_id(3)).order.version, 5);
	lost_from(T0 + 7 * DAY_MS);
	CU_ASSERT_EQUAL(world.written.taken_back, 1);
	CU_ASSERT_EQUAL(releasable(list, T0 + 8 * DAY_MS), 1);
}

static void run_sql(const char *sql)
{
	sqlite3 *handle;

	CU_ASSERT_EQUAL_FATAL(sqlite3_open(world.database, &handle), SQLITE_OK);
	CU_ASSERT_EQUAL_FATAL(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(handle);
}

/* As version 1 had it: a row for each posting, under the key itself. The database has one segment, number 0. */
static void make_version_1(const int *orders, size_t count)
{
	const int64_t keys[] = { archive_key(KEY_CUSTOMER, "carol", 5),
				 archive_key(KEY_SKU, "tea", 3),
				 archive_key_of_label(&(struct archive_text){ "shop", 4 },
						      &(struct archive_text){ "north", 5 }) };

	archive_store_close(world.store);
	run_sql("DROP INDEX orders_dropped; DELETE FROM schema WHERE version > 1; DELETE FROM "
		"postings; DELETE FROM numbers "
		"WHERE name = 'posting_rows'; ALTER TABLE postings DROP COLUMN postings");
	for (size_t i = 0; i < RT_LENGTH(keys); i++)
		run_sql(rt_arena_printf(&world.arena,
					"INSERT INTO postings SELECT %lld, order_no FROM orders",
					(long long)keys[i]));
	run_sql(rt_arena_printf(
		&world.arena,
		"INSERT INTO postings SELECT %lld + status, order_no FROM orders WHERE status > 2",
		(long long)archive_key_of_status(0)));
	for (size_t i = 0; i < count; i++)
		run_sql(rt_arena_printf(
			&world.arena,
			"INSERT INTO postings SELECT %lld, order_no FROM orders WHERE order_id = "
			"'%s'",
			(long long)archive_key(KEY_ID, order_id(orders[i]), ARCHIVE_ORDER_ID),
			order_id(orders[i])));
	world.store = open_store(true);
}

/* Of what was dropped before version 2 of the tables it is not known when: it stays dropped. */
static void tables_of_version_1(void)
{
	struct archive_releasable list[8];

	for (int i = 1; i <= 2; i++)
		bought(order_id(i), T0);
	written();
	dropped(order_id(1), 5, T0 + DAY_MS);
	run_sql("UPDATE orders SET dropped = 1 WHERE dropped > 1");
	make_version_1((const int[]){ 1, 2 }, 2);
	dropped(order_id(2), 5, T0 + DAY_MS);
	lost_from(1);
	CU_ASSERT_EQUAL(world.written.taken_back, 1);
	CU_ASSERT_EQUAL_FATAL(releasable(list, T0 + DAY_MS), 1);
	CU_ASSERT_STRING_EQUAL(list[0].order_id, order_id(2));
}

static void positions_belong_to_the_effects(void)
{
	struct archive_position position = { .stream = "order:{0}:events" };
	struct archive_store *second;

	bought(order_id(1), T0);
	written();
	CU_ASSERT_EQUAL(archive_store_position(world.store, &position), RT_OK);
	CU_ASSERT_STRING_EQUAL(position.id, world.positions[0].id);
	CU_ASSERT_EQUAL(position.events, 4);
	/* Another process has gone on: what it does not know of is not written over. */
	second = open_store(true);
	placed(order_id(2), "carol", "tea", NULL, T0 + 9);
	CU_ASSERT_EQUAL(archive_store_write(second, &world.batch, &world.written), RT_OK);
	CU_ASSERT_EQUAL(archive_store_write(world.store, &world.batch, &world.written), RT_BUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(archive_store_error(world.store), "another process"));
	CU_ASSERT_EQUAL(FOUND(.status = 1), 1);
	archive_store_close(second);
}

/* A row of the batch cannot be written: none is, and the positions stay. */
static void all_or_nothing(void)
{
	struct archive_position position = { .stream = "order:{0}:events" };
	sqlite3 *handle;

	CU_ASSERT_EQUAL_FATAL(sqlite3_open(world.database, &handle), SQLITE_OK);
	CU_ASSERT_EQUAL(sqlite3_exec(handle,
				     "CREATE TRIGGER full BEFORE INSERT ON orders WHEN "
				     "NEW.version = 4 BEGIN SELECT RAISE(ABORT, 'no'); END",
				     NULL, NULL, NULL),
			SQLITE_OK);
	bought(order_id(1), T0);
	CU_ASSERT_EQUAL(archive_store_write(world.store, &world.batch, &world.written), RT_INVALID);
	CU_ASSERT_EQUAL(archive_store_position(world.store, &position), RT_OK);
	CU_ASSERT_STRING_EQUAL(position.id, "0-0");
	CU_ASSERT_EQUAL(FOUND(.status = 0), 0);
	CU_ASSERT_EQUAL(sqlite3_exec(handle, "DROP TRIGGER full", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(handle);
	written();
	CU_ASSERT_EQUAL(FOUND(.status = 4), 1);
	CU_ASSERT_EQUAL(life_of(order_id(1)).event_count, 6);
}

/* The file must not grow any more: an error, and it goes on when it may. */
static void a_full_disk(void)
{
	struct rlimit limit, small;
	struct stat file;

	signal(SIGXFSZ, SIG_IGN);
	bought(order_id(0), T0);
	written();
	CU_ASSERT_EQUAL_FATAL(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = limit;
	CU_ASSERT_EQUAL_FATAL(stat(rt_arena_printf(&world.arena, "%s-wal", world.database), &file),
			      0);
	small.rlim_cur = (rlim_t)file.st_size;
	for (int n = 1; n < 40; n++)
		placed(order_id(n), "carol", "tea", NULL, T0 + n);
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &small), 0);
	CU_ASSERT_NOT_EQUAL(archive_store_write(world.store, &world.batch, &world.written), RT_OK);
	CU_ASSERT_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
	archive_store_close(world.store);
	world.store = open_store(true);
	CU_ASSERT_EQUAL(FOUND(.status = 0), 1);
	written();
	CU_ASSERT_EQUAL(FOUND(.status = 0), 40);
}

/* What no batch has written that failed. */
static void nothing_but(size_t orders, const char *position_id)
{
	struct archive_position position = { .stream = "order:{0}:events" };

	CU_ASSERT_EQUAL(archive_store_position(world.store, &position), RT_OK);
	CU_ASSERT_STRING_EQUAL(position.id, position_id);
	CU_ASSERT_EQUAL(FOUND(.status = 0), orders);
	CU_ASSERT_EQUAL(FOUND(.customer_id = "carol"), orders);
	CU_ASSERT_EQUAL(FOUND(.status = 2), 0);
	CU_ASSERT_EQUAL(movements_of("tea").count, 0);
}

/* Orders by many customers: they are more than are inserted by one statement. */
static void many_are_placed(int from, int to)
{
	for (int n = from; n < to; n++)
		placed(order_id(n), rt_arena_printf(&world.arena, "customer %d", n == 25 ? 20 : n),
		       "tea", rt_arena_printf(&world.arena, "%0750d", n), T0 + n);
}

/* A row in the middle of those that one statement inserts cannot be, and others of the batch follow: none is written. */
static void a_statement_that_fails_half_way(void)
{
	char before[ARCHIVE_STREAM_ID];

	placed(order_id(0), "carol", "tea", NULL, T0);
	written();
	memcpy(before, world.positions[0].id, sizeof(before));
	run_sql("CREATE UNIQUE INDEX one_each ON orders (customer_id)");
	happens(ARCHIVE_ORDER, "OrderReserved", order_id(0), 2, T0 + 1);
	many_are_placed(1, 60);
	CU_ASSERT_EQUAL(archive_store_write(world.store, &world.batch, &world.written), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(archive_store_error(world.store), "UNIQUE constraint"));
	nothing_but(1, before);
	/* Another batch, with the same store. */
	world.batch.event_count = 0;
	memcpy(world.positions[0].id, before, sizeof(before));
	begin_batch();
	many_are_placed(30, 31);
	written();
	CU_ASSERT_EQUAL(FOUND(.status = 0), 2);
	/* All of them, when they may be. */
	run_sql("DROP INDEX one_each");
	happens(ARCHIVE_ORDER, "OrderReserved", order_id(0), 2, T0 + 1);
	many_are_placed(1, 60);
	written();
	CU_ASSERT_EQUAL(world.written.orders, 58);
	CU_ASSERT_EQUAL(world.written.repeats, 1);
	CU_ASSERT_EQUAL(FOUND(.status = 0), 60);
	CU_ASSERT_EQUAL(FOUND(.status = 2), 1);
}

static int pages_max; /* of a database that is opened; 0: any */

static int bound_pages(sqlite3 *handle, const char **error, const struct sqlite3_api_routines *api)
{
	char *sql = rt_printf("PRAGMA max_page_count = %d", pages_max);
	int rc = sqlite3_exec(handle, sql, NULL, NULL, NULL);

	(void)error;
	(void)api;
	free(sql);
	return rc;
}

static int page_count(void)
{
	sqlite3 *handle;
	sqlite3_stmt *statement;
	int count;

	CU_ASSERT_EQUAL_FATAL(sqlite3_open(world.database, &handle), SQLITE_OK);
	CU_ASSERT_EQUAL(sqlite3_prepare_v2(handle, "PRAGMA page_count", -1, &statement, NULL),
			SQLITE_OK);
	CU_ASSERT_EQUAL(sqlite3_step(statement), SQLITE_ROW);
	count = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	sqlite3_close(handle);
	return count;
}

/* As files were made before: they keep their pages. */
static void pages_of_another_size(void)
{
	int before;

	placed(order_id(0), "carol", "tea", NULL, T0);
	written();
	archive_store_close(world.store);
	run_sql("PRAGMA journal_mode=DELETE; PRAGMA page_size=4096; VACUUM");
	before = page_count();
	world.store = open_store(true);
	many_are_placed(1, 60);
	written();
	CU_ASSERT(page_count() > before + 10); /* larger ones: five */
	CU_ASSERT_EQUAL(FOUND(.status = 0), 60);
	CU_ASSERT_EQUAL(FOUND(.customer_id = "carol"), 1);
}

static void open_with_pages(int max)
{
	archive_store_close(world.store);
	pages_max = max;
	world.store = open_store(true);
}

/* The disk is full at each page that a batch needs, one after another: nothing of it is written, until all of it is. */
static void a_disk_that_is_full_in_the_middle(void)
{
	char before[ARCHIVE_STREAM_ID];
	int first, max, rc;

	placed(order_id(0), "carol", "tea", NULL, T0);
	written();
	memcpy(before, world.positions[0].id, sizeof(before));
	happens(ARCHIVE_ORDER, "OrderReserved", order_id(0), 2, T0 + 1);
	happens(ARCHIVE_INVENTORY, "InventoryReserved", order_id(0), 1, T0 + 2);
	many_are_placed(1, 60);
	first = page_count();
	CU_ASSERT_EQUAL_FATAL(sqlite3_auto_extension((void (*)(void))bound_pages), SQLITE_OK);
	for (max = first;; max++) {
		CU_ASSERT_FATAL(max < first + 100);
		open_with_pages(max);
		rc = archive_store_write(world.store, &world.batch, &world.written);
		if (rc == RT_OK)
			break;
		CU_ASSERT_EQUAL(rc, RT_FULL);
		CU_ASSERT_PTR_NOT_NULL(strstr(archive_store_error(world.store), "full"));
		nothing_but(1, before);
	}
	sqlite3_reset_auto_extension();
	CU_ASSERT(max - first > 2);
	CU_ASSERT_EQUAL(world.written.orders, 59);
	CU_ASSERT_EQUAL(FOUND(.status = 0), 60);
	CU_ASSERT_EQUAL(FOUND(.status = 2), 1);
	CU_ASSERT_EQUAL(movements_of("tea").count, 1);
}

/* A process is killed in the middle of writing, again and again: positions and effects agree. */
static void killed_at_any_moment(void)
{
	for (int round = 0; round < TESTS_PART(20); round++) {
		struct archive_position position = { .stream = "order:{0}:events" };
		pid_t child;
		int status;

		archive_store_close(RT_TAKE(world.store));
		child = fork();
		if (child == 0) {
			struct archive_store_options options = { .database = world.database,
								 .writes = true };
			char error[ARCHIVE_ERROR];

			if (archive_store_open(&options, &world.store, error) != RT_OK ||
			    archive_store_position(world.store, &position) != RT_OK)
				_exit(1);
			for (int n = (int)position.events;; n++) {
				memcpy(world.positions[0].id, position.id, sizeof(position.id));
				begin_batch();
				world.batch.position_count = 1;
				placed(order_id(n % 600), "carol", "tea", NULL, T0 + n);
				position = world.positions[0];
				if (archive_store_write(world.store, &world.batch,
							&world.written) != RT_OK)
					_exit(1);
			}
		}
		usleep((useconds_t)(1000 * (5 + 7 * (round % 5))));
		kill(child, SIGKILL);
		CU_ASSERT_EQUAL(waitpid(child, &status, 0), child);
		CU_ASSERT(WIFSIGNALED(status));
		world.store = open_store(true);
		CU_ASSERT_EQUAL(archive_store_position(world.store, &position), RT_OK);
		{
			struct archive_orders orders;

			CU_ASSERT_EQUAL(
				archive_store_search(world.store,
						     &(struct archive_filter){ .status = 0 }, 0,
						     1000, 10000, &world.arena, &orders),
				RT_OK);
			CU_ASSERT_EQUAL(orders.count, (size_t)RT_MIN(position.events, 600));
		}
	}
}

static void gaps_and_unreadable_entries_are_kept(void)
{
	const struct archive_gap gap = { .stream = "order:{0}:events",
					 .after = "0-0",
					 .before = "5-5",
					 .events = 5,
					 .reason = "they were gone" };
	const struct archive_unreadable entry = { .stream = "order:{0}:events",
						  .id = "6-6",
						  .reason = "bad",
						  .data = "1\nx",
						  .length = 3 };
	struct archive_streams streams;

	world.batch.gaps = &gap;
	world.batch.gap_count = 1;
	world.batch.unreadable = &entry;
	world.batch.unreadable_count = 1;
	placed(order_id(1), "carol", "tea", NULL, T0);
	written();
	CU_ASSERT_EQUAL(archive_store_streams(world.store, 10, &world.arena, &streams), RT_OK);
	CU_ASSERT_EQUAL_FATAL(streams.count, 2); /* the first is inventory's */
	CU_ASSERT_STRING_EQUAL(streams.list[1].position.stream, "order:{0}:events");
	CU_ASSERT_EQUAL_FATAL(streams.list[1].gap_count, 1);
	CU_ASSERT_EQUAL(streams.list[1].gaps[0].events, 5);
	CU_ASSERT_STRING_EQUAL(streams.list[1].gaps[0].before, "5-5");
	CU_ASSERT_STRING_EQUAL(streams.list[1].gaps[0].reason, "they were gone");
	CU_ASSERT_EQUAL_FATAL(streams.list[1].unreadable_count, 1);
	CU_ASSERT_STRING_EQUAL(streams.list[1].unreadable[0].id, "6-6");
	CU_ASSERT_STRING_EQUAL(streams.list[1].unreadable[0].reason, "bad");
}

static void tables_of_a_later_version_are_left_alone(void)
{
	const struct archive_store_options options = { .database = world.database, .writes = true };
	struct archive_store *store;
	char error[ARCHIVE_ERROR] = "";
	sqlite3 *handle;

	CU_ASSERT_EQUAL_FATAL(sqlite3_open(world.database, &handle), SQLITE_OK);
	CU_ASSERT_EQUAL(
		sqlite3_exec(handle, "INSERT INTO schema VALUES (1000, 0)", NULL, NULL, NULL),
		SQLITE_OK);
	sqlite3_close(handle);
	CU_ASSERT_EQUAL(archive_store_open(&options, &store, error), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "version 1000"));
}

static void what_version_1_wrote_is_found(void)
{
	bought(order_id(1), T0);
	bought(order_id(2), T0 + 1);
	placed(order_id(3), "carol", "tea", "north", T0 + 2);
	written();
	make_version_1((const int[]){ 1, 2, 3 }, 3);
	for (int n = 1; n <= 3; n++)
		CU_ASSERT_EQUAL(life_of(order_id(n)).order.version, n < 3 ? 4 : 1);
	CU_ASSERT_EQUAL(FOUND(.customer_id = "carol"), 3);
	CU_ASSERT_EQUAL(FOUND(.sku = "tea"), 3);
	CU_ASSERT_EQUAL(FOUND(.label_key = "shop", .label_value = "north"), 3);
	CU_ASSERT_EQUAL(FOUND(.status = 4), 2);
	/* What is written now lies beside it, in the same segment. */
	bought(order_id(2), T0 + 1);
	happens(ARCHIVE_ORDER, "OrderCancelled", order_id(3), 2, T0 + 1000);
	bought(order_id(4), T0 + 2000);
	written();
	CU_ASSERT_EQUAL(world.written.orders, 1);
	CU_ASSERT_EQUAL(world.written.repeats, 6);
	CU_ASSERT_EQUAL(FOUND(.customer_id = "carol"), 4);
	CU_ASSERT_EQUAL(FOUND(.customer_id = "carol", .oldest_first = true), 4);
	CU_ASSERT_EQUAL(FOUND(.status = 4), 3);
	CU_ASSERT_EQUAL(FOUND(.status = 5), 1);
	CU_ASSERT_EQUAL(life_of(order_id(4)).order.version, 4);
}

static void what_is_no_database_is_refused(void)
{
	struct archive_store_options options = { .database = "/nowhere/archive.db",
						 .writes = true };
	struct archive_store *store;
	char error[ARCHIVE_ERROR] = "";
	int file;

	CU_ASSERT_EQUAL(archive_store_open(&options, &store, error), RT_DENIED);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "/nowhere/archive.db"));
	archive_store_close(RT_TAKE(world.store));
	file = open(world.database, O_WRONLY | O_TRUNC);
	CU_ASSERT_FATAL(file >= 0);
	for (int i = 0; i < 200; i++)
		CU_ASSERT_EQUAL(write(file, "this is a text of some length", 29), 29);
	close(file);
	options.database = world.database;
	CU_ASSERT_EQUAL(archive_store_open(&options, &store, error), RT_INVALID);
	/* A server that is away. */
	options.database = "postgresql://nobody@127.0.0.1:1/nothing";
	CU_ASSERT_EQUAL(archive_store_open(&options, &store, error), RT_LOST);
}

/* A reader waits until there are tables, and changes nothing. */
static void readers_only_read(void)
{
	struct archive_store *reader = open_store(false);
	char *other = rt_printf("%s/other.db", world.folder);
	struct archive_store_options options = { .database = other };
	struct archive_store *store;
	char error[ARCHIVE_ERROR];

	placed(order_id(1), "carol", "tea", NULL, T0);
	CU_ASSERT_NOT_EQUAL(archive_store_write(reader, &world.batch, &world.written), RT_OK);
	CU_ASSERT_EQUAL(archive_store_open(&options, &store, error), RT_DENIED);
	archive_store_close(reader);
	free(other);
}

static const struct test tests[] = {
	{ "an order has its life", an_order_has_its_life },
	{ "in one batch or in many", batches_do_not_matter },
	{ "few are kept in mind", few_are_kept_in_mind },
	{ "repeats are stored once", repeats_are_stored_once },
	{ "every way in which an order ends", every_way_to_end },
	{ "stock moves", stock_moves },
	{ "returns move stock", returns_move_stock },
	{ "inventory's event may come first", inventory_may_be_first },
	{ "an order may stay incomplete", an_order_may_stay_incomplete },
	{ "searches by each index and by two", searches },
	{ "pages have each order once", pages },
	{ "orders in many segments", segments },
	{ "pages of movements", pages_of_movements },
	{ "what may be dropped", what_may_be_dropped },
	{ "an order of which an event is missing is not dropped",
	  an_order_of_which_an_event_is_missing_is_not_dropped },
	{ "that it was dropped may be lost", that_it_was_dropped_may_be_lost },
	{ "tables of version 1", tables_of_version_1 },
	{ "pages of another size", pages_of_another_size },
	{ "positions belong to the effects", positions_belong_to_the_effects },
	{ "all of a batch or nothing", all_or_nothing },
	{ "a full disk", a_full_disk },
	{ "a statement that fails half way", a_statement_that_fails_half_way },
	{ "a disk that is full in the middle", a_disk_that_is_full_in_the_middle },
	{ "killed at any moment", killed_at_any_moment },
	{ "gaps and unreadable entries are kept", gaps_and_unreadable_entries_are_kept },
	{ "tables of a later version are left alone", tables_of_a_later_version_are_left_alone },
	{ "what version 1 wrote is found", what_version_1_wrote_is_found },
	{ "what is no database is refused", what_is_no_database_is_refused },
	{ "readers only read", readers_only_read },
};
TESTS_MAIN_EACH("archive_store", setup, teardown, tests)
