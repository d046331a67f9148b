/* test_page_token.c - a token is valid for its own list only, whole and unchanged. */
#include "page_token.h"

#include <string.h>

#include "run.h"

static void test_round_trip(void)
{
	static const char *const positions[] = { "", "a", "apple", "1764000000000ord_x" };

	for (size_t i = 0; i < RT_LENGTH(positions); i++) {
		char *token = page_token_new("ListOrders 0 ann", positions[i]);

		CU_ASSERT_STRING_EQUAL(page_token_read("ListOrders 0 ann", token), positions[i]);
		/* URL-safe, as AIP-158 wants it, when the position is. */
		CU_ASSERT_EQUAL(strspn(token, "0123456789abcdefghijklmnopqrstuvwxyz_-."),
				strlen(token));
		free(token);
	}
}

static void test_invalid_tokens(void)
{
	static const char *const lists[] = { "ListOrders 0 bob",  "ListOrders 1 ann",
					     "ListOrders 0 ann ", "ListOrders 0 an",
					     "ListStock",         "" };
	char *token = page_token_new("ListOrders 0 ann", "apple");
	size_t length = strlen(token);

	for (size_t i = 0; i < RT_LENGTH(lists); i++)
		CU_ASSERT_PTR_NULL(page_token_read(lists[i], token));
	for (size_t i = 0; i < length; i++) {
		char kept = token[i];

		token[i] = kept == 'a' ? 'b' : 'a';
		CU_ASSERT_PTR_NULL(page_token_read("ListOrders 0 ann", token));
		token[i] = '\0';
		CU_ASSERT_PTR_NULL(page_token_read("ListOrders 0 ann", token));
		token[i] = kept;
	}
	CU_ASSERT_PTR_NOT_NULL(page_token_read("ListOrders 0 ann", token));
	/* The end of the list's name does not count as part of the position, nor the other way round. */
	free(token);
	token = page_token_new("ListOrders 0 ann", "x");
	CU_ASSERT_PTR_NULL(page_token_read("ListOrders 0 annx", token));
	free(token);
}

static void test_status(void)
{
	struct rt_status status = { .code = 0 };

	page_token_status(&status);
	CU_ASSERT_EQUAL(status.code, RT_CODE_INVALID_ARGUMENT);
	CU_ASSERT_PTR_NOT_NULL(strstr(status.message, "page_token"));
	CU_ASSERT_PTR_NOT_NULL(status.details);
	rt_status_done(&status);
}

static const struct test tests[] = {
	{ "made and read back", test_round_trip },
	{ "tokens of other lists, and changed ones", test_invalid_tokens },
	{ "the status for an invalid token", test_status },
};

TESTS_MAIN("page_token", tests)
