/* test_archive_ids.c - which segments of the archive may have an id: each that has it is named, and of ids that are nowhere
 * hardly any is looked for. */
#include "archive/store_index.h"

#include <stdio.h>

#include "archive/store.h"
#include "run.h"

#define SEGMENTS 64 /* all of a table */
#define EACH     ARCHIVE_SEGMENT_ORDERS
#define ASKED    20000

static int64_t key_of(size_t number)
{
	char id[32];
	int length = snprintf(id, sizeof(id), "ord_%zu", number);

	return archive_key(KEY_ID, id, (size_t)length);
}

static void test_full_table(void)
{
	struct archive_ids *ids = archive_ids_new();
	struct archive_new_ids noted = { .count = 0 };
	size_t missing = 0, may = 0;

	for (size_t segment = 0; segment < SEGMENTS; segment++) {
		for (size_t i = 0; i < EACH; i++)
			archive_ids_note(&noted, segment, key_of(segment * EACH + i));
		archive_ids_add_noted(ids, &noted);
	}
	archive_ids_all_added(ids);
	for (size_t i = 0; i < ASKED; i++) {
		size_t number = i * (SEGMENTS * EACH / ASKED), below = number / EACH + 1;

		missing +=
			!archive_ids_before(ids, key_of(number), &below) || below != number / EACH;
		below = SEGMENTS;
		may += archive_ids_before(ids, key_of(SEGMENTS * EACH + i), &below);
	}
	CU_ASSERT(missing == 0);
	CU_ASSERT(may < ASKED / 100);
	archive_new_ids_done(&noted);
	archive_ids_free(ids);
}

static const struct test tests[] = {
	{ "a table that is full", test_full_table },
};

TESTS_MAIN("archive_ids", tests)
