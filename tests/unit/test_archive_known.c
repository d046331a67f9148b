/* test_archive_known.c - the orders that the archive's writer keeps in mind: each is found until it is the oldest of too many.
 * The table is compared with a plain list. */
#include "archive/store_known.h"

#include <stdio.h>
#include <string.h>

#include "run.h"

#define MAX    50
#define IDS    400
#define ROUNDS 20000

static struct archive_text id_of(char text[32], uint32_t number)
{
	int length = snprintf(text, 32, "ord_%u", number);

	return (struct archive_text){ text, (size_t)length };
}

/* What should be there, the oldest first. */
struct model {
	uint32_t list[IDS];
	size_t count;
};

static bool has(const struct model *model, uint32_t number)
{
	for (size_t i = 0; i < model->count; i++)
		if (model->list[i] == number)
			return true;
	return false;
}

static void add(struct model *model, uint32_t number, size_t max)
{
	if (model->count >= max)
		memmove(model->list, model->list + 1, --model->count * sizeof(*model->list));
	model->list[model->count++] = number;
}

static struct archive_known *found(struct archive_known_orders *orders,
				   const struct archive_text *id, uint64_t batch)
{
	return archive_known_find(orders, id, archive_known_ahead(orders, id), batch);
}

static uint32_t next_random(uint32_t *state)
{
	return *state = *state * UINT32_C(1664525) + UINT32_C(1013904223);
}

/* Each order's version is its number: so it is known whether it is the one that was there. */
static void test_as_a_list(void)
{
	struct archive_known_orders orders = { .max = MAX };
	struct model model = { .count = 0 };
	uint32_t random = 1;
	size_t wrong = 0;

	for (uint64_t batch = 1; batch <= ROUNDS; batch++) {
		uint32_t number = 1 + (next_random(&random) >> 8) % IDS;
		char text[32];
		const struct archive_text id = id_of(text, number);
		struct archive_known *known;

		known = found(&orders, &id, batch);
		wrong += strcmp(known->order_id, text) != 0;
		wrong += known->version != (has(&model, number) ? number : 0);
		if (!has(&model, number))
			add(&model, number, MAX);
		known->version = number;
		wrong += orders.count != model.count;
	}
	CU_ASSERT(wrong == 0);
	CU_ASSERT(orders.count == MAX);
	archive_known_forget_all(&orders);
	CU_ASSERT(orders.count == 0);
}

/* None of a batch is forgotten while it is written, however many there are; then the oldest are. */
static void test_a_large_batch(void)
{
	struct archive_known_orders orders = { .max = MAX };
	struct archive_known *list[IDS];
	char text[32];

	for (uint64_t batch = 1; batch <= 3; batch++) {
		for (uint32_t i = 0; i < IDS; i++) {
			const struct archive_text id = id_of(text, i);

			list[i] = found(&orders, &id, batch);
		}
		CU_ASSERT(orders.count == IDS);
		for (uint32_t i = 0; i < IDS; i++) {
			const struct archive_text id = id_of(text, i);

			CU_ASSERT(found(&orders, &id, batch) == list[i]);
			list[i]->version = i + 1;
		}
		archive_known_forget_oldest(&orders);
		CU_ASSERT(orders.count == MAX);
		for (uint32_t i = IDS - MAX; i < IDS; i++) {
			const struct archive_text id = id_of(text, i);

			CU_ASSERT(found(&orders, &id, batch)->version == i + 1);
		}
	}
	archive_known_forget_all(&orders);
}

static const struct test tests[] = {
	{ "as a list has them", test_as_a_list },
	{ "a batch that is larger than what is kept", test_a_large_batch },
};

TESTS_MAIN("archive_known", tests)
