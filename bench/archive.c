/* archive.c - how fast the archive's database takes orders, and answers.
 *
 *   bench-archive DATABASE ORDERS [SEARCHES]
 *
 * Writes ORDERS orders, each with the six events of one that was bought, in batches as they come at a high rate; then does
 * SEARCHES searches of each kind at random places, and reads everything as an export does. The database stays: a second
 * run adds to it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "archive/store.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define BATCH     5000  /* orders */
#define OPEN      20000 /* orders between being placed and confirmed */
#define CUSTOMERS 100000
#define SKUS      1000
#define LABELS    50
#define EPOCH_MS  INT64_C(1767225600000)
#define PAGE      50
#define LOOK_MAX  500

static uint64_t seed = 88172645463325252U;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* As order ids of requests with a request_id: without any order. */
static void order_id_of(uint64_t n, char id[ARCHIVE_ORDER_ID + 1])
{
	uint8_t digest[32];

	rt_sha256(&n, sizeof(n), digest);
	snprintf(id, ARCHIVE_ORDER_ID + 1, "ord_");
	rt_base32_128(digest, id + 4);
}

static struct archive_text pack_placed(struct rt_arena *arena, uint64_t n)
{
	Tandem__Order__V1__OrderPlaced placed = TANDEM__ORDER__V1__ORDER_PLACED__INIT;
	Tandem__Order__V1__OrderContent content = TANDEM__ORDER__V1__ORDER_CONTENT__INIT;
	Tandem__Order__V1__OrderLine first = TANDEM__ORDER__V1__ORDER_LINE__INIT, second = first;
	Tandem__Order__V1__OrderLine *lines[] = { &first, &second };
	Tandem__Order__V1__OrderLabel label = TANDEM__ORDER__V1__ORDER_LABEL__INIT;
	Tandem__Order__V1__OrderLabel *labels[] = { &label };
	uint64_t random = next_random();
	size_t length;
	uint8_t *data;

	(void)n;
	content.customer_id = rt_arena_printf(arena, "customer-%" PRIu64, random % CUSTOMERS);
	first.sku = rt_arena_printf(arena, "sku-%04" PRIu64, (random >> 20) % SKUS);
	second.sku = rt_arena_printf(arena, "sku-%04" PRIu64, (random >> 32) % SKUS);
	first.quantity = 1 + (uint32_t)(random & 3);
	second.quantity = 2;
	label.key = (char *)(uintptr_t) "shop";
	label.value = rt_arena_printf(arena, "shop-%" PRIu64, (random >> 44) % LABELS);
	content.lines = lines;
	content.n_lines = 2;
	content.labels = labels;
	content.n_labels = 1;
	placed.content = &content;
	length = tandem__order__v1__order_placed__get_packed_size(&placed);
	data = rt_arena_take(arena, length);
	tandem__order__v1__order_placed__pack(&placed, data);
	return (struct archive_text){ (const char *)data, length };
}

static void add(struct archive_event *events, size_t *count, enum archive_context context,
		const char *kind, const char *id, uint64_t version, int64_t time_ms,
		struct archive_text data)
{
	events[(*count)++] = (struct archive_event){ .context = context,
						     .kind = { kind, strlen(kind) },
						     .subject = { id, strlen(id) },
						     .data = data,
						     .version = version,
						     .time_ms = time_ms };
}

/* What writing alone takes: the events are made here. */
static struct {
	int64_t ns;
	double cpu;
} writing;

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void write_orders(struct archive_store *store, uint64_t first, uint64_t count,
			 struct archive_position positions[2])
{
	static const struct archive_text nothing = { 0 };
	struct archive_event *events = rt_alloc((size_t)6 * BATCH * sizeof(*events));
	struct archive_batch batch = { .events = events,
				       .positions = positions,
				       .position_count = 2 };
	struct rt_arena arena = { .chunks = NULL };
	struct archive_written written;

	for (uint64_t n = first; n < first + count; n++) {
		int64_t time_ms = EPOCH_MS + (int64_t)n / 30;
		char *id = rt_arena_take(&arena, ARCHIVE_ORDER_ID + 1);

		order_id_of(n, id);
		add(events, &batch.event_count, ARCHIVE_ORDER, "OrderPlaced", id, 1, time_ms,
		    pack_placed(&arena, n));
		add(events, &batch.event_count, ARCHIVE_INVENTORY, "InventoryReserved", id, 1,
		    time_ms, nothing);
		add(events, &batch.event_count, ARCHIVE_ORDER, "OrderReserved", id, 2, time_ms,
		    nothing);
		if (n < OPEN)
			continue;
		id = rt_arena_take(&arena, ARCHIVE_ORDER_ID + 1);
		order_id_of(n - OPEN, id);
		add(events, &batch.event_count, ARCHIVE_ORDER, "OrderConfirmed", id, 3, time_ms,
		    nothing);
		add(events, &batch.event_count, ARCHIVE_INVENTORY, "InventoryCommitted", id, 2,
		    time_ms, nothing);
		add(events, &batch.event_count, ARCHIVE_ORDER, "OrderSettled", id, 4, time_ms,
		    nothing);
	}
	for (size_t i = 0; i < 2; i++) {
		memcpy(positions[i].from, positions[i].id, sizeof(positions[i].from));
		snprintf(positions[i].id, sizeof(positions[i].id), "%" PRId64 "-%" PRIu64, EPOCH_MS,
			 first + count);
		positions[i].events = (int64_t)batch.event_count;
	}
	writing.ns -= rt_monotonic_ns();
	writing.cpu -= cpu_seconds();
	if (archive_store_write(store, &batch, &written) != RT_OK) {
		fprintf(stderr, "%s\n", archive_store_error(store));
		exit(1);
	}
	writing.ns += rt_monotonic_ns();
	writing.cpu += cpu_seconds();
	rt_arena_done(&arena);
	free(events);
}

static void fill(struct archive_store *store, uint64_t from, uint64_t to)
{
	struct archive_position positions[2] = { { .stream = "order:{0}:events" },
						 { .stream = "inventory:{0}:events" } };
	int64_t part_ns = 0;

	for (size_t i = 0; i < 2; i++)
		archive_store_position(store, &positions[i]);
	for (uint64_t n = from; n < to; n += BATCH) {
		write_orders(store, n, RT_MIN(to - n, (uint64_t)BATCH), positions);
		if ((n + BATCH) % 500000 == 0) {
			printf("%" PRIu64 " orders: the last 500000 at %.0f orders/s\n", n + BATCH,
			       500000.0 * 1e9 / (double)(writing.ns - part_ns));
			fflush(stdout);
			part_ns = writing.ns;
		}
	}
	printf("written: %" PRIu64 " orders, %.0f orders/s, %.1f s of CPU for a million\n",
	       to - from, (double)(to - from) * 1e9 / (double)writing.ns,
	       writing.cpu * 1e6 / (double)(to - from));
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

enum kind {
	ANY,
	CUSTOMER,
	CUSTOMER_STATUS,
	STATUS,
	SKU,
	LABEL,
	SKU_LABEL,
	TIMES,
	MOVEMENTS,
	ORDER,
	KINDS
};
static const char *const names[] = { "all",       "customer", "customer and status", "status",
				     "SKU",       "label",    "SKU and label",       "time range",
				     "movements", "order" };

static void ask(struct archive_store *store, enum kind kind, uint64_t orders)
{
	struct archive_filter filter = { .status = 0 };
	struct rt_arena arena = { .chunks = NULL };
	int64_t at_ms = EPOCH_MS + (int64_t)(next_random() % RT_MAX(orders / 30, 1));
	struct archive_movements movements;
	struct archive_orders found;
	struct archive_life life;
	char id[ARCHIVE_ORDER_ID + 1];
	int rc;

	if (kind == CUSTOMER || kind == CUSTOMER_STATUS)
		filter.customer_id =
			rt_arena_printf(&arena, "customer-%" PRIu64, next_random() % CUSTOMERS);
	if (kind == STATUS || kind == CUSTOMER_STATUS)
		filter.status = kind == STATUS && next_random() % 2 == 0 ? 2 : 4;
	if (kind == SKU || kind == SKU_LABEL)
		filter.sku = rt_arena_printf(&arena, "sku-%04" PRIu64, next_random() % SKUS);
	if (kind == LABEL || kind == SKU_LABEL) {
		filter.label_key = "shop";
		filter.label_value =
			rt_arena_printf(&arena, "shop-%" PRIu64, next_random() % LABELS);
	}
	if (kind == TIMES) {
		filter.from_ms = at_ms;
		filter.to_ms = at_ms + 60000;
	}
	order_id_of(next_random() % orders, id);
	if (kind == ORDER)
		rc = archive_store_order(store, id, &arena, &life);
	else if (kind == MOVEMENTS)
		rc = archive_store_movements(store, "sku-0001", 0, at_ms, 0, PAGE, &arena,
					     &movements);
	else /* a page somewhere in the list */
		rc = archive_store_search(
			store, &filter,
			kind == TIMES || kind == CUSTOMER || kind == CUSTOMER_STATUS ? 0
										     : at_ms << 20,
			PAGE, LOOK_MAX, &arena, &found);
	if (rc != RT_OK) {
		fprintf(stderr, "%s\n", archive_store_error(store));
		exit(1);
	}
	rt_arena_done(&arena);
}

static void search(struct archive_store *store, size_t count, uint64_t orders)
{
	double *ms = rt_alloc((count + 1) * sizeof(*ms));

	for (int kind = 0; kind < KINDS; kind++) {
		for (size_t i = 0; i < count; i++) {
			int64_t begun_ns = rt_monotonic_ns();

			ask(store, (enum kind)kind, orders);
			ms[i] = (double)(rt_monotonic_ns() - begun_ns) / 1e6;
		}
		qsort(ms, count, sizeof(*ms), compare);
		printf("%-20s p50 %7.2f ms  p99 %7.2f ms  max %7.2f ms\n", names[kind],
		       ms[count / 2], ms[count * 99 / 100], ms[count - 1]);
	}
	free(ms);
}

static void export(struct archive_store *store)
{
	const struct archive_filter filter = { .oldest_first = true };
	int64_t begun_ns = rt_monotonic_ns(), after = 0;
	struct archive_orders found;
	size_t count = 0;

	do {
		struct rt_arena arena = { .chunks = NULL };

		if (archive_store_search(store, &filter, after, 500, 20000, &arena, &found) !=
		    RT_OK)
			exit(1);
		count += found.count;
		after = found.after;
		rt_arena_done(&arena);
	} while (found.more);
	printf("read: %zu orders, %.0f orders/s\n", count,
	       (double)count * 1e9 / (double)(rt_monotonic_ns() - begun_ns));
}

int main(int argc, char **argv)
{
	struct archive_store_options options = { .database = argc > 2 ? argv[1] : "",
						 .writes = true };
	struct archive_store *store;
	struct archive_position position = { .stream = "order:{0}:events" };
	char error[ARCHIVE_ERROR];
	int64_t orders = 0, searches = 0;
	uint64_t before = 0;

	if (argc < 3 || !rt_parse_int(argv[2], 0, INT64_C(1000000000), &orders) ||
	    (argc > 3 && !rt_parse_int(argv[3], 0, 1000000, &searches))) {
		fprintf(stderr, "usage: bench-archive DATABASE ORDERS [SEARCHES]\n");
		return 2;
	}
	if (archive_store_open(&options, &store, error) != RT_OK) {
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	if (archive_store_position(store, &position) == RT_OK && strcmp(position.id, "0-0") != 0)
		before = strtoull(strchr(position.id, '-') + 1, NULL, 10);
	if (orders > 0)
		fill(store, before, before + (uint64_t)orders);
	archive_store_close(store);
	options.writes = false;
	if (archive_store_open(&options, &store, error) != RT_OK)
		return 1;
	if (searches > 0) {
		search(store, (size_t)searches, before + (uint64_t)orders);
		export(store);
	}
	archive_store_close(store);
	return 0;
}
