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
		const char
			*of[STOCK_STATE_COUNT]; /* NONE RESERVED UNAVAILABLE COMMITTED RELEASED */
	} rows[] = {
		/* Its timer asks until there is an answer, whatever that is. */
		{ ORDER_PENDING, { "", "", "", "", "" } },
		/* Its timer only ends the hold: nothing would repair this. */
		{ ORDER_RESERVED,
		  { " order-without-reservation", "", " order-without-reservation",
		    " sold-unconfirmed", " order-without-reservation" } },
		{ ORDER_REJECTED,
		  { " ended-without-record", " hold-of-ended", "", " sold-of-ended", "" } },
		/* Asked for until it is committed, which nothing held cannot be. */
		{ ORDER_CONFIRMING,
		  { " confirm-without-reservation", "", " confirmed-without-stock", "",
		    " confirmed-without-stock" } },
		{ ORDER_CONFIRMED,
		  { " confirmed-without-stock", " confirmed-not-sold", " confirmed-without-stock",
		    "", " confirmed-without-stock" } },
		/* A release is on its way, and is answered whatever there is, but for a sale. */
		{ ORDER_CANCELLING, { "", "", "", " sold-of-ended", "" } },
		{ ORDER_EXPIRING, { "", "", "", " sold-of-ended", "" } },
		{ ORDER_REJECTING, { "", "", "", " sold-of-ended", "" } },
		{ ORDER_CANCELLED,
		  { " ended-without-record", " hold-of-ended", "", " sold-of-ended", "" } },
		{ ORDER_EXPIRED,
		  { " ended-without-record", " hold-of-ended", "", " sold-of-ended", "" } },
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
		one.stock = state == ORDER_RESERVED || state == ORDER_CONFIRMING ? STOCK_RESERVED
			    : state == ORDER_CONFIRMED                           ? STOCK_COMMITTED
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
	{ "every fault has a name, a text and a fix", every_fault_is_described },
};

TESTS_MAIN("audit", tests)
