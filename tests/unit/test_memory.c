/* Memory that nobody needs any more goes back to the kernel (runtime/base/memory.c). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

#define BLOCKS      16384
#define BLOCK_BYTES 4000 /* glibc takes such blocks from its heap, not from the kernel one by one */

#if defined(__SANITIZE_ADDRESS__)
#define OWN_MALLOC false /* the sanitizer's gives nothing back */
#else
#define OWN_MALLOC true
#endif

static void *blocks[BLOCKS];

static long resident_mb(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long total, resident = 0;

	CU_ASSERT_FATAL(file != NULL);
	CU_ASSERT_EQUAL(fscanf(file, "%ld %ld", &total, &resident), 2);
	fclose(file);
	return resident * sysconf(_SC_PAGESIZE) >> 20;
}

static void take(void)
{
	for (int i = 0; i < BLOCKS; i++) {
		blocks[i] = rt_alloc(BLOCK_BYTES);
		memset(blocks[i], 1, BLOCK_BYTES);
	}
}

/* All but the last one, above which nothing is. */
static void give(void)
{
	for (int i = 0; i < BLOCKS - 1; i++)
		free(blocks[i]);
}

static void look(int times)
{
	while (times-- > 0)
		rt_memory_return();
}

/* Frees all blocks; a few looks later the memory is back. */
static void all_goes_back(long before)
{
	give();
	look(6);
	if (OWN_MALLOC)
		CU_ASSERT(resident_mb() <= before + 4);
	free(blocks[BLOCKS - 1]);
}

static void what_is_unused_goes_back(void)
{
	long before = resident_mb(), most;

	look(1);
	for (int round = 0; round < 2; round++) {
		take();
		most = resident_mb();
		CU_ASSERT(most >= before + 60);
		look(6); /* it is in use */
		CU_ASSERT(resident_mb() >= most - 1);
		give();
		CU_ASSERT(resident_mb() >= most - 4); /* glibc keeps it */
		look(6);
		if (OWN_MALLOC)
			CU_ASSERT(resident_mb() <= before + 4);
		free(blocks[BLOCKS - 1]);
	}
}

/* Also what is free only after the rest was given back. */
static void what_is_unused_later_goes_back(void)
{
	long before = resident_mb();

	look(1);
	take();
	for (int i = 0; i < BLOCKS / 4; i++)
		free(RT_TAKE(blocks[i]));
	look(6);
	if (OWN_MALLOC)
		CU_ASSERT(resident_mb() <= before + 52);
	all_goes_back(before);
}

/* Also what was given back before, and was needed only between two looks. */
static void what_was_needed_between_looks_goes_back(void)
{
	long before;

	take();
	give();
	look(6);
	before = resident_mb();
	free(blocks[BLOCKS - 1]);
	take();
	CU_ASSERT(resident_mb() >= before + 60);
	all_goes_back(before);
}

/* What is free for a moment only is kept: it will be needed again. */
static void what_comes_and_goes_stays(void)
{
	long most;

	take();
	most = resident_mb();
	look(3);
	for (int i = 0; i < 6; i++) {
		give();
		look(1);
		CU_ASSERT(resident_mb() >= most - 4);
		free(blocks[BLOCKS - 1]);
		take();
		look(1);
	}
	give();
	free(blocks[BLOCKS - 1]);
}

/* A hundredth of the time at most, unless that were three seconds. */
static void what_takes_long_is_done_less_often(void)
{
	CU_ASSERT_EQUAL(rt_memory_pause_ns(0), 0);
	CU_ASSERT_EQUAL(rt_memory_pause_ns(20 * 1000), 2 * 1000 * 1000);
	CU_ASSERT_EQUAL(rt_memory_pause_ns(7 * 1000 * 1000), 700 * 1000 * 1000);
	CU_ASSERT_EQUAL(rt_memory_pause_ns(60 * 1000 * 1000), INT64_C(3000000000));
}

static const struct test tests[] = {
	{ "what is unused goes back", what_is_unused_goes_back },
	{ "what is unused later goes back", what_is_unused_later_goes_back },
	{ "what was needed between looks goes back", what_was_needed_between_looks_goes_back },
	{ "what comes and goes stays", what_comes_and_goes_stays },
	{ "what takes long is done less often", what_takes_long_is_done_less_often },
};

TESTS_MAIN("memory", tests)
