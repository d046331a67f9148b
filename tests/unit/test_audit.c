/* What the audit finds in an order and its reservation: every pair of states, timers, damage. */
#include <string.h>

#include "ctl/audit.h"
#include "run.h"

/* The names of the faults found, with a space in front of each. */
static void judged(const struct audit_case *one, char *text, size_t size)
{
	enum audit_fault faults[AUDIT_FAULTS_MAX];
	size_t count = audit_judge(one, faults), length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < count && length < size; i++)
		length += (size_t)snprintf(text + length, size - length, " %s",
					   audit_fault_info(faults[i])->name);
}

static bool is(const struct audit_case *one, const char *expected)
{
	char text[256];

	judged(one, text, sizeof(text));
	if (strcmp(text, expected) == 0)
		return true;
	printf("\n    order %d, reservation %d: is '%s', expected '%s'\n", (int)one->state,
	       (int)one->stock, text, expected);
	return false;
}

static void every_pair(void)
{
	static const struct {
		enum order_state order;
		const char *of
			[STOCK_STATE_COUNT]; /* NONE RESERVED UNAVAILABLE COMMITTED RELEASED RETURNED */
	} rows[] = {
		/* Its timer asks until there is an answer, whatever that is. */
		{ ORDER_PENDING, { "", "", "", "", "", "" } },
		/* Its timer only ends the hold: nothing would repair this. */
		{ ORDER_RESERVED,
		  { " order-without-reservation", "", " order-without-reservation",
		    " sold-unconfirmed", " order-without-reservation", " sold-unconfirmed" } },
		{ ORDER_REJECTED,
		  { " ended-without-record", " hold-of-ended", "", " sold-of-ended", "",
		    " sold-of-ended" } },
		/* Asked for until it is committed, which nothing held cannot be. */
		{ ORDER_CONFIRMING,
		  { " confirm-without-reservation", "", " confirmed-without-stock", "",
		    " confirmed-without-stock", "" } },
		{ ORDER_CONFIRMED,
		  { " confirmed-without-stock", " confirmed-not-sold", " confirmed-without-stock",
		    "", " confirmed-without-stock", "" } },
		{ ORDER_RETURNING,
		  { " confirmed-without-stock", " confirmed-not-sold", " confirmed-without-stock",
		    "", " confirmed-without-stock", "" } },
		/* A release is on its way, and is answered whatever there is, but for a sale. */
		{ ORDER_CANCELLING, { "", "", "", " sold-of-ended", "", " sold-of-ended" } },
		{ ORDER_EXPIRING, { "", "", "", " sold-of-ended", "", " sold-of-ended" } },
		{ ORDER_REJECTING, { "", "", "", " sold-of-ended", "", " sold-of-ended" } },
		{ ORDER_CANCELLED,
		  { " ended-without-record", " hold-of-ended", "", " sold-of-ended", "",
		    " sold-of-ended" } },
		{ ORDER_EXPIRED,
		  { " ended-without-record", " hold-of-ended", "", " sold-of-ended", "",
		    " sold-of-ended" } },
	};

	CU_ASSERT_EQUAL(RT_LENGTH(rows), ORDER_STATE_COUNT);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		for (int stock = 0; stock < STOCK_STATE_COUNT; stock++) {
			const struct audit_case one = {
				.order_id = "ord_x",
				.ordered = true,
				.state = rows[i].order,
				.stock = (enum stock_state)stock,
				.timed = !order_state_settled(rows[i].order),
			};

			CU_ASSERT(is(&one, rows[i].of[stock]));
		}
	}
}

static void without_an_order(void)
{
	struct audit_case one = { .order_id = "ord_x" };
	static const char *const of[STOCK_STATE_COUNT] = {
		[STOCK_NONE] = "",
		[STOCK_RESERVED] = " reservation-without-order",
		[STOCK_UNAVAILABLE] = "", /* holds nothing */
		[STOCK_COMMITTED] = " sold-without-order",
		[STOCK_RELEASED] = "",
		[STOCK_RETURNED] = " sold-without-order",
	};

	for (int stock = 0; stock < STOCK_STATE_COUNT; stock++) {
		one.stock = (enum stock_state)stock;
		CU_ASSERT(is(&one, of[stock]));
	}
	one.stock = STOCK_NONE;
	one.timed = true;
	CU_ASSERT(is(&one, " timer-without-order"));
}

static void timers(void)
{
	struct audit_case one = { .order_id = "ord_x", .ordered = true };

	for (int state = 0; state < ORDER_STATE_COUNT; state++) {
		bool settled = order_state_settled((enum order_state)state);

		one.state = (enum order_state)state;
		/* A reservation that fits. */
		one.stock = state == ORDER_RESERVED || state == ORDER_CONFIRMING   ? STOCK_RESERVED
			    : state == ORDER_CONFIRMED || state == ORDER_RETURNING ? STOCK_COMMITTED
										   : STOCK_RELEASED;
		one.timed = false;
		CU_ASSERT(is(&one, settled ? "" : " no-timer"));
		one.timed = true;
		CU_ASSERT(is(&one, settled ? " timer-of-settled" : ""));
	}
}

static void damage(void)
{
	struct audit_case one = {
		.order_id = "ord_x", .ordered = true, .order_damaged = true, .stock = STOCK_RESERVED
	};

	/* A record that cannot be read is not compared. */
	CU_ASSERT(is(&one, " order-damaged"));
	one.reservation_damaged = true;
	CU_ASSERT(is(&one, " order-damaged reservation-damaged"));
	one.order_damaged = false;
	one.state = ORDER_CONFIRMED;
	CU_ASSERT(is(&one, " reservation-damaged"));
	one.reservation_damaged = false;
	one.stock = STOCK_COMMITTED;
	one.history_gap = true;
	CU_ASSERT(is(&one, " version-gap"));
	one.lines_differ = true;
	one.timed = true;
	CU_ASSERT(is(&one, " version-gap lines-differ timer-of-settled"));
}

static void reservations_are_read(void)
{
	static const struct {
		const char *text;
		bool good;
		enum stock_state state;
		const char *lines;
	} rows[] = {
		{ "RESERVED 1 1700000000000 a=1 b=2", true, STOCK_RESERVED, "a=1 b=2" },
		{ "RELEASED 2 1700000000000 ", true, STOCK_RELEASED, "" },
		{ "UNAVAILABLE 1 1 a=5/2", true, STOCK_UNAVAILABLE, "a=5/2" },
		{ "RELEASED 2 1700000000000", false, STOCK_NONE, "" },
		{ "RETURNED 3 1700000000000 5 apple=2-1", true, STOCK_RETURNED, "apple=2-1" },
		{ "RETURNED 3 1700000000000 apple=2-1", false, STOCK_NONE, "" },
		{ "", false, STOCK_NONE, "" },
		{ "HELD 1 1 a=1", false, STOCK_NONE, "" },
		{ "reserved 1 1 a=1", false, STOCK_NONE, "" },
		{ "RESERVED x 1 a=1", false, STOCK_NONE, "" },
		{ "RESERVED 1 a=1", false, STOCK_NONE, "" },
		{ "AVERYLONGWORDTHATISNOSTATE 1 1 a=1", false, STOCK_NONE, "" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		enum stock_state state = STOCK_NONE;
		const char *lines = "";

		CU_ASSERT_EQUAL(audit_reservation(rows[i].text, &state, &lines), rows[i].good);
		if (!rows[i].good)
			continue;
		CU_ASSERT_EQUAL(state, rows[i].state);
		CU_ASSERT_STRING_EQUAL(lines, rows[i].lines);
	}
}

static void ids(void)
{
	struct audit_ids ids = { 0 };

	CU_ASSERT_FALSE(audit_ids_have(&ids, "a"));
	CU_ASSERT(audit_ids_add(&ids, "a"));
	CU_ASSERT_FALSE(audit_ids_add(&ids, "a"));
	CU_ASSERT(audit_ids_add(&ids, ""));
	CU_ASSERT(audit_ids_have(&ids, "a") && audit_ids_have(&ids, ""));
	CU_ASSERT_EQUAL(ids.count, 2);
	audit_ids_done(&ids);
	CU_ASSERT_FALSE(audit_ids_have(&ids, "a"));
}

/* The verdict on one part of a reservation in this state. */
static bool part_is(enum stock_state record, const struct audit_part *part, const char *expected)
{
	const struct audit_case one = {
		.order_id = "ord_x", .stock = record, .split = true, .parts = part, .part_count = 1
	};
	char text[256];

	/* Without an order, which says what it says of a reservation that is not split. */
	judged(&one, text, sizeof(text));
	if (record == STOCK_RESERVED && strncmp(text, " reservation-without-order", 26) == 0)
		memmove(text, text + 26, strlen(text + 26) + 1);
	if (stock_state_sold(record) && strncmp(text, " sold-without-order", 19) == 0)
		memmove(text, text + 19, strlen(text + 19) + 1);
	if (strcmp(text, expected) == 0)
		return true;
	printf("\n    reservation %d, part %d: is '%s', expected '%s'\n", (int)record,
	       (int)part->state, text, expected);
	return false;
}

static void every_part(void)
{
	static const struct {
		enum stock_state record;
		const char *of
			[STOCK_STATE_COUNT]; /* NONE RESERVED UNAVAILABLE COMMITTED RELEASED RETURNED */
	} rows[] = {
		/* Parts are made before the reservation, which is made when all of them are there. */
		{ STOCK_NONE,
		  { "", " part-without-record", "", " part-sold-without-record", "",
		    " part-damaged" } },
		{ STOCK_RESERVED,
		  { " part-missing", "", " part-missing", " part-sold-unconfirmed", " part-missing",
		    " part-damaged" } },
		{ STOCK_UNAVAILABLE, { "", " part-held", "", " part-sold", "", " part-damaged" } },
		{ STOCK_COMMITTED,
		  { " part-missing", " part-not-sold", " part-missing", "", " part-missing",
		    " part-damaged" } },
		{ STOCK_RETURNED,
		  { " part-missing", " part-not-sold", " part-missing", "", " part-missing",
		    " part-damaged" } },
		{ STOCK_RELEASED, { "", " part-held", "", " part-sold", "", " part-damaged" } },
	};

	CU_ASSERT_EQUAL(RT_LENGTH(rows), STOCK_STATE_COUNT);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		for (int state = 0; state < STOCK_STATE_COUNT; state++) {
			struct audit_part part = { .state = (enum stock_state)state,
						   .named = rows[i].record != STOCK_NONE };
			const char *expected;
			bool ended;

			CU_ASSERT(part_is(rows[i].record, &part, rows[i].of[state]));
			/* What has ended need not name its parts. */
			part.named = false;
			ended = rows[i].record == STOCK_UNAVAILABLE ||
				rows[i].record == STOCK_RELEASED;
			CU_ASSERT(part_is(rows[i].record, &part, rows[ended ? i : 0].of[state]));
			part.differs = true;
			expected = rows[ended ? i : 0].of[state];
			expected = expected[0] == '\0' ? " part-differs" : expected;
			CU_ASSERT(part_is(rows[i].record, &part, expected));
			part.damaged = true;
			CU_ASSERT(part_is(rows[i].record, &part, " part-damaged"));
		}
	}
}

/* An order whose reservation names three parts: each kind of fault is reported once. */
static void faults_of_parts(void)
{
	struct audit_part parts[] = { { .partition = 1, .named = true, .state = STOCK_RESERVED },
				      { .partition = 2, .named = true, .state = STOCK_RESERVED },
				      { .partition = 5, .named = true, .state = STOCK_RESERVED } };
	struct audit_case one = { .order_id = "ord_x",
				  .ordered = true,
				  .state = ORDER_RESERVED,
				  .stock = STOCK_RESERVED,
				  .timed = true,
				  .split = true,
				  .parts = parts,
				  .part_count = RT_LENGTH(parts) };

	CU_ASSERT(is(&one, ""));
	parts[0].state = parts[2].state = STOCK_NONE;
	CU_ASSERT(is(&one, " part-missing"));
	parts[2].state = STOCK_COMMITTED;
	parts[1].differs = true;
	CU_ASSERT(is(&one, " part-missing part-differs part-sold-unconfirmed"));
	one.order_damaged = true;
	CU_ASSERT(is(&one, " order-damaged part-missing part-differs part-sold-unconfirmed"));
	/* Nothing is compared with a record that cannot be read. */
	one.order_damaged = false;
	one.reservation_damaged = true;
	CU_ASSERT(is(&one, " reservation-damaged"));
}

static void parts_are_read(void)
{
	static const struct {
		const char *text;
		bool good;
		enum stock_state state;
		int partition;
		const char *lines;
	} rows[] = {
		{ "RESERVED 3 1700000000000 a=1 b=2", true, STOCK_RESERVED, 3, "a=1 b=2" },
		{ "COMMITTED 0 1 a=1", true, STOCK_COMMITTED, 0, "a=1" },
		{ "RELEASED 7 1700000000000", true, STOCK_RELEASED, 7, "" },
		{ "RELEASED 7 1700000000000 ", true, STOCK_RELEASED, 7, "" },
		{ "HELD 7 1700000000000 a=1", false, STOCK_NONE, 0, "" },
		{ "RESERVED 7", false, STOCK_NONE, 0, "" },
		{ "RESERVED 7 1x a=1", false, STOCK_NONE, 0, "" },
		{ "", false, STOCK_NONE, 0, "" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		enum stock_state state;
		const char *lines = "";
		int partition = -1;
		bool good = audit_part(rows[i].text, &state, &partition, &lines);

		TEST_ROW(good == rows[i].good, rows[i].text);
		if (!good || !rows[i].good)
			continue;
		TEST_ROW(state == rows[i].state, rows[i].text);
		TEST_ROW(partition == rows[i].partition, rows[i].text);
		TEST_ROW(strcmp(lines, rows[i].lines) == 0, rows[i].text);
	}
}

static void lines_are_compared(void)
{
	char here[64], there[64], elsewhere[64], names[3][8] = { "", "", "" };
	bool split;

	/* One partition: as they are. */
	CU_ASSERT(audit_lines_fit("a=1 b=2", "a=1 b=2", 0, 1, &split) && !split);
	CU_ASSERT_FALSE(audit_lines_fit("a=1 b=2", "a=1", 0, 1, &split));
	CU_ASSERT_FALSE(audit_lines_fit("a=1", "a=1 b=2", 0, 1, &split));
	CU_ASSERT_FALSE(audit_lines_fit("a=1", "a=2", 0, 1, &split));
	CU_ASSERT_FALSE(audit_lines_fit("a=1", "b=1", 0, 1, &split));
	/* A SKU of each of two partitions. */
	for (int i = 0; i < 100; i++) {
		char name[8];

		snprintf(name, sizeof(name), "s@%d", i);
		snprintf(names[rt_bucket_partition(rt_bucket(name, strlen(name)), 2)], 8, "%s",
			 name);
	}
	CU_ASSERT_FATAL(names[0][0] != '\0' && names[1][0] != '\0');
	snprintf(here, sizeof(here), "%s=1 %s=2", names[0], names[1]);
	snprintf(there, sizeof(there), "%s=1@0 %s=2@1", names[0], names[1]);
	snprintf(elsewhere, sizeof(elsewhere), "%s=1@0 %s=2@0", names[0], names[1]);
	CU_ASSERT(audit_lines_fit(here, there, 0, 2, &split) && split);
	CU_ASSERT(audit_lines_fit(here, there, 1, 2, &split) && split);
	CU_ASSERT_FALSE(audit_lines_fit(here, elsewhere, 0, 2, &split));
	/* Not split, and a SKU is not of this partition. */
	CU_ASSERT_FALSE(audit_lines_fit(here, here, 0, 2, &split));
	CU_ASSERT(split);
	*strchr(here, ' ') = '\0';
	CU_ASSERT(audit_lines_fit(here, here, 0, 2, &split) && !split);
}

static void beside_the_archive(void)
{
	static const struct {
		const char *why, *wanted; /* "": nothing is wrong */
		struct audit_archived one;
	} rows[] = {
		{ "the same", "", { true, true, true, 4, 4, true, false, 4, 4, false } },
		{ "neither", "", { false, false, false, 0, 0, false, false, 0, 0, false } },
		{ "dropped", "", { false, false, false, 0, 0, true, true, 5, 4, false } },
		{ "not settled yet", "", { true, false, true, 3, 2, true, false, 2, 2, false } },
		{ "not settled and not archived yet",
		  "",
		  { true, false, true, 3, 2, false, false, 0, 0, false } },
		{ "not read yet", "", { true, true, false, 4, 4, true, false, 2, 2, false } },
		{ "not read at all yet",
		  "",
		  { true, true, false, 4, 4, false, false, 0, 0, false } },
		{ "missing",
		  "not-archived",
		  { true, true, true, 4, 4, false, false, 0, 0, false } },
		{ "an earlier version",
		  "archived-differs",
		  { true, true, true, 4, 4, true, false, 3, 4, false } },
		{ "another status",
		  "archived-differs",
		  { true, true, true, 4, 4, true, false, 4, 5, false } },
		{ "gone from Redis",
		  "archived-not-stored",
		  { false, false, false, 0, 0, true, false, 4, 4, false } },
		{ "older in Redis",
		  "archived-not-stored",
		  { true, true, true, 4, 4, true, false, 5, 4, false } },
		{ "older in Redis, and open",
		  "archived-not-stored",
		  { true, false, false, 3, 4, true, false, 4, 4, false } },
		{ "dropped, and there",
		  "archived-not-stored",
		  { true, true, true, 4, 4, true, true, 5, 4, false } },
		{ "lost in Redis", "", { false, false, false, 0, 0, true, false, 4, 4, true } },
		{ "lost in part", "", { true, false, false, 3, 4, true, false, 4, 4, true } },
		{ "lost and placed again",
		  "",
		  { true, true, true, 4, 4, true, false, 4, 5, true } },
		{ "lost there, and missing",
		  "not-archived",
		  { true, true, true, 4, 4, false, false, 0, 0, true } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum audit_fault fault = audit_judge_archived(&rows[i].one);
		const char *name = fault == AUDIT_FAULT_COUNT ? "" : audit_fault_info(fault)->name;

		TEST_ROW(strcmp(name, rows[i].wanted) == 0, rows[i].why);
	}
}

static void every_fault_is_described(void)
{
	for (int i = 0; i < AUDIT_FAULT_COUNT; i++) {
		const struct audit_fault_info *info = audit_fault_info((enum audit_fault)i);

		CU_ASSERT_PTR_NOT_NULL_FATAL(info->name);
		CU_ASSERT(info->text[0] != '\0');
		/* The text names --repair exactly where --repair helps. */
		CU_ASSERT_EQUAL(strstr(info->fix, "--repair") != NULL,
				info->repair != AUDIT_BY_HAND);
	}
}

static const struct test tests[] = {
	{ "every pair of states", every_pair },
	{ "without an order", without_an_order },
	{ "timers", timers },
	{ "damage", damage },
	{ "reservations are read", reservations_are_read },
	{ "sets of ids", ids },
	{ "every state of a part", every_part },
	{ "faults of parts", faults_of_parts },
	{ "parts are read", parts_are_read },
	{ "lines are compared", lines_are_compared },
	{ "an order beside the archive", beside_the_archive },
	{ "every fault has a name, a text and a fix", every_fault_is_described },
};

TESTS_MAIN("audit", tests)
