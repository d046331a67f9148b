/* test_order_return.c - the rules of returns: what may come back of an order, and what a repeated request is. */
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "order/order_return.h"
#include "run.h"

typedef Tandem__Order__V1__OrderReturned returned;

static struct rt_arena arena;

/* "apple=2 pear=1", in the arena. */
static Tandem__Order__V1__OrderLine **lines_of(const char *text, size_t *ret)
{
	Tandem__Order__V1__OrderLine **lines = rt_arena_take(&arena, 8 * sizeof(*lines));
	size_t count = 0;
	char sku[32];
	unsigned quantity;
	int length;

	while (sscanf(text, " %31[^= ]=%u%n", sku, &quantity, &length) == 2) {
		lines[count] = rt_arena_take(&arena, sizeof(**lines));
		tandem__order__v1__order_line__init(lines[count]);
		lines[count]->sku = rt_arena_copy(&arena, sku, strlen(sku));
		lines[count++]->quantity = quantity;
		text += length;
	}
	*ret = count;
	return lines;
}

static const char *text_of(Tandem__Order__V1__OrderLine *const *lines, size_t count)
{
	const char *text = "";

	for (size_t i = 0; i < count; i++)
		text = rt_arena_printf(&arena, "%s%s%s=%u", text, i == 0 ? "" : " ", lines[i]->sku,
				       lines[i]->quantity);
	return text;
}

/* Asks for a return of an order of 5 apples and 2 pears. */
static enum order_return_verdict ask(const returned *before, const char *return_id,
				     const char *lines, const char *reason, returned **ret)
{
	Tandem__Order__V1__ReturnOrderRequest request =
		TANDEM__ORDER__V1__RETURN_ORDER_REQUEST__INIT;
	size_t count;
	Tandem__Order__V1__OrderLine **ordered = lines_of("apple=5 pear=2", &count);
	const char *why = NULL;
	enum order_return_verdict verdict;

	request.return_id = rt_arena_copy(&arena, return_id, strlen(return_id));
	request.reason = rt_arena_copy(&arena, reason, strlen(reason));
	request.lines = lines_of(lines, &request.n_lines);
	*ret = NULL;
	verdict = order_return(&arena, ordered, count, before, &request, 1000, ret, &why);
	CU_ASSERT_EQUAL(verdict == ORDER_RETURN_NEW, *ret != NULL);
	CU_ASSERT_EQUAL(verdict == ORDER_RETURN_TOO_MUCH, why != NULL);
	return verdict;
}

static returned *after(const returned *before, const char *return_id, const char *lines)
{
	returned *made;

	CU_ASSERT_EQUAL(ask(before, return_id, lines, "", &made), ORDER_RETURN_NEW);
	return made;
}

static void what_may_come_back(void)
{
	static const struct {
		const char *reason, *before, *lines;
		enum order_return_verdict verdict;
		const char *last, *all;
	} rows[] = {
		{ "some of a line", "", "apple=2", ORDER_RETURN_NEW, "apple=2", "apple=2" },
		{ "a SKU twice is added up", "", "apple=2 apple=3", ORDER_RETURN_NEW, "apple=5",
		  "apple=5" },
		{ "all of it", "", "", ORDER_RETURN_NEW, "apple=5 pear=2", "apple=5 pear=2" },
		{ "the rest", "apple=2 pear=2", "", ORDER_RETURN_NEW, "apple=3", "apple=5 pear=2" },
		{ "of another line", "apple=2", "pear=1", ORDER_RETURN_NEW, "pear=1",
		  "apple=2 pear=1" },
		{ "the last of a line", "apple=4", "apple=1", ORDER_RETURN_NEW, "apple=1",
		  "apple=5" },
		{ "more than was bought", "", "apple=6", ORDER_RETURN_TOO_MUCH, NULL, NULL },
		{ "more than was bought, in two lines", "", "apple=3 apple=3",
		  ORDER_RETURN_TOO_MUCH, NULL, NULL },
		{ "more than is left", "apple=4", "apple=2", ORDER_RETURN_TOO_MUCH, NULL, NULL },
		{ "one line too much spoils the others", "apple=4", "pear=1 apple=2",
		  ORDER_RETURN_TOO_MUCH, NULL, NULL },
		{ "what was not ordered", "", "fig=1", ORDER_RETURN_TOO_MUCH, NULL, NULL },
		{ "nothing is left", "apple=5 pear=2", "", ORDER_RETURN_TOO_MUCH, NULL, NULL },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		returned *before =
			rows[i].before[0] == '\0' ? NULL : after(NULL, "first", rows[i].before);
		returned *made;

		TEST_ROW(ask(before, "second", rows[i].lines, "", &made) == rows[i].verdict,
			 rows[i].reason);
		if (made == NULL || rows[i].last == NULL)
			continue;
		TEST_ROW(made->n_returns == (before == NULL ? 1u : 2u), rows[i].reason);
		TEST_ROW(strcmp(text_of(made->returns[made->n_returns - 1]->lines,
					made->returns[made->n_returns - 1]->n_lines),
				rows[i].last) == 0,
			 rows[i].reason);
		TEST_ROW(strcmp(text_of(made->lines, made->n_lines), rows[i].all) == 0,
			 rows[i].reason);
	}
	rt_arena_done(&arena);
}

static void a_return_id_is_used_once(void)
{
	static const struct {
		const char *reason, *return_id, *lines, *why;
		enum order_return_verdict verdict;
	} rows[] = {
		{ "the same", "r1", "apple=2 pear=1", "broken", ORDER_RETURN_BEFORE },
		{ "in other words", "r1", "pear=1 apple=1 apple=1", "broken", ORDER_RETURN_BEFORE },
		{ "all, which was what", "r1", "", "broken", ORDER_RETURN_BEFORE },
		{ "fewer", "r1", "apple=1 pear=1", "broken", ORDER_RETURN_CONFLICT },
		{ "a line less", "r1", "apple=2", "broken", ORDER_RETURN_CONFLICT },
		{ "a line more", "r1", "apple=2 pear=1 fig=1", "broken", ORDER_RETURN_CONFLICT },
		{ "another reason", "r1", "apple=2 pear=1", "", ORDER_RETURN_CONFLICT },
		{ "another id", "r2", "apple=2 pear=1", "broken", ORDER_RETURN_NEW },
	};
	returned *before, *made;

	CU_ASSERT_EQUAL(ask(NULL, "r1", "apple=2 pear=1", "broken", &before), ORDER_RETURN_NEW);
	CU_ASSERT(before->returns[0]->time->seconds == 1);
	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(ask(before, rows[i].return_id, rows[i].lines, rows[i].why, &made) ==
				 rows[i].verdict,
			 rows[i].reason);
	rt_arena_done(&arena);
}

static void returns_are_bounded(void)
{
	Tandem__Order__V1__ReturnOrderRequest request =
		TANDEM__ORDER__V1__RETURN_ORDER_REQUEST__INIT;
	Tandem__Order__V1__OrderLine ordered = TANDEM__ORDER__V1__ORDER_LINE__INIT;
	Tandem__Order__V1__OrderLine one = TANDEM__ORDER__V1__ORDER_LINE__INIT;
	Tandem__Order__V1__OrderLine *all[] = { &ordered }, *some[] = { &one };
	const char *why = NULL;
	returned *before = NULL;

	ordered.sku = one.sku = (char *)(uintptr_t) "apple";
	ordered.quantity = 1000000;
	one.quantity = 1;
	request.lines = some;
	request.n_lines = 1;
	for (int i = 0; i <= CHECK_RETURNS_MAX; i++) {
		request.return_id = rt_arena_printf(&arena, "r%d", i);
		CU_ASSERT_EQUAL(order_return(&arena, all, 1, before, &request, 1, &before, &why),
				i < CHECK_RETURNS_MAX ? ORDER_RETURN_NEW : ORDER_RETURN_TOO_MANY);
	}
	/* One that was made before is found all the same. */
	request.return_id = (char *)(uintptr_t) "r7";
	CU_ASSERT_EQUAL(order_return(&arena, all, 1, before, &request, 1, &before, &why),
			ORDER_RETURN_BEFORE);
	/* Few, but very long ones, as a damaged order may have them. */
	request.return_id = rt_arena_take(&arena, ORDER_RETURNS_BYTES_MAX + 1);
	memset(request.return_id, 'x', ORDER_RETURNS_BYTES_MAX);
	CU_ASSERT_EQUAL(order_return(&arena, all, 1, NULL, &request, 1, &before, &why),
			ORDER_RETURN_TOO_MANY);
	rt_arena_done(&arena);
}

static const struct test tests[] = {
	{ "what may come back", what_may_come_back },
	{ "a return_id is used once", a_return_id_is_used_once },
	{ "returns are bounded", returns_are_bounded },
};

TESTS_MAIN("order_return", tests)
