/* run.h - the main of a CUnit executable: one suite of named tests, run in the order of the table;
 * exit 0 only when all of them ran and passed.
 *
 *   static const struct test tests[] = { { "a stopped timer never fires", stopped }, … };
 *   TESTS_MAIN("loop", tests)
 *
 * Where every test begins and ends in the same way, TESTS_MAIN_EACH does that for them. A program that
 * prepares more than its tests has a main of its own, which calls tests_run or tests_run_each. */
#ifndef TESTS_RUN_H
#define TESTS_RUN_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"

/* With sanitizers a program takes several times as long, and only has to come everywhere once: tests of many
 * random runs do a part of them. The ordinary build does them all. */
#if defined(__SANITIZE_ADDRESS__)
#define TESTS_PART(count) (((count) + 4) / 5)
#else
#define TESTS_PART(count) (count)
#endif

struct test {
	const char *name;
	void (*run)(void);
};

/* What tests_run_each runs around the test of the table that CUnit is at. */
static struct {
	void (*setup)(void);
	void (*teardown)(void);
	const struct test *tests;
} tests_each;

static inline void tests_each_run(void)
{
	const struct test *test = tests_each.tests;

	while (strcmp(test->name, CU_get_current_test()->pName) != 0)
		test++;
	tests_each.setup();
	test->run();
	tests_each.teardown();
}

static inline int tests_run(const char *suite_name, const struct test *tests, size_t count)
{
	CU_pSuite suite;
	bool good;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	suite = CU_add_suite(suite_name, NULL, NULL);
	for (size_t i = 0; i < count; i++) {
		if (suite == NULL ||
		    CU_add_test(suite, tests[i].name,
				tests_each.tests != NULL ? tests_each_run : tests[i].run) == NULL) {
			fprintf(stderr, "%s: cannot add test '%s'\n", suite_name, tests[i].name);
			return 1;
		}
	}
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	good = CU_get_number_of_tests_run() == count && CU_get_number_of_failures() == 0 &&
	       CU_get_number_of_asserts() > 0;
	CU_cleanup_registry();
	return good ? 0 : 1;
}

/* The same with `setup` before each test and `teardown` after it, unless an assertion was fatal. */
static inline int tests_run_each(const char *suite_name, void (*setup)(void),
				 void (*teardown)(void), const struct test *tests, size_t count)
{
	tests_each.setup = setup;
	tests_each.teardown = teardown;
	tests_each.tests = tests;
	return tests_run(suite_name, tests, count);
}

#define TESTS_MAIN(suite_name, tests)                                                              \
	int main(void)                                                                             \
	{                                                                                          \
		return tests_run(suite_name, tests, RT_LENGTH(tests));                             \
	}
#define TESTS_MAIN_EACH(suite_name, setup, teardown, tests)                                        \
	int main(void)                                                                             \
	{                                                                                          \
		return tests_run_each(suite_name, setup, teardown, tests, RT_LENGTH(tests));       \
	}

/* The end of what was stopped, freed or drained: counts in the int that `user` points to. */
static inline void tests_count(void *user)
{
	++*(int *)user;
}

static inline void tests_no_line(const char *line, void *user)
{
	(void)line, (void)user;
}

/* What is logged is not what this program is about. */
static inline void tests_log_nothing(void)
{
	rt_log_sink(tests_no_line, NULL);
}

/* Takes every TANDEM_ variable out of the environment: a test of settings starts from none. */
static inline void tests_forget_settings(void)
{
	size_t i = 0;

	while (environ[i] != NULL) {
		char name[256];

		snprintf(name, sizeof(name), "%.*s", (int)strcspn(environ[i], "="), environ[i]);
		if (strncmp(name, "TANDEM_", 7) == 0 && unsetenv(name) == 0)
			i = 0; /* the rest moved up */
		else
			i++;
	}
}

/* An assertion in a table's loop: says which row failed. */
#define TEST_ROW(condition, row_name)                                                              \
	do {                                                                                       \
		bool row_good_ = (condition);                                                      \
		if (!row_good_)                                                                    \
			printf("\n    row '%s': %s is false", (row_name), #condition);             \
		CU_ASSERT(row_good_);                                                              \
	} while (0)

#endif
