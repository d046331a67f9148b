/* test_order_id.c - ids of orders: what they depend on, and what they look like. */
#include "check.h"
#include "order/order_id.h"
#include "run.h"

#include <string.h>

static void test_of_request(void)
{
	static const struct {
		const char *why, *customer, *request;
	} others[] = {
		{ "another request", "ann", "2" },
		{ "another customer", "bob", "1" },
		{ "the same bytes, cut elsewhere", "an", "n1" },
		{ "the same bytes, cut elsewhere", "ann1", "" },
		{ "all in the other", "", "ann1" },
	};
	char first[ORDER_ID_LENGTH + 1], other[ORDER_ID_LENGTH + 1];

	order_id_of_request("ann", "1", first);
	/* Fixed for ever: a repeat after an upgrade must find the order. Computed apart:
	 * sha256(00 03 "ann" 00 01 "1"), 16 bytes of it in base32. */
	CU_ASSERT_STRING_EQUAL(first, "ord_ha6bwoz5oh7o2dgv3qbsnp7rmq");
	CU_ASSERT_TRUE(check_order_id(first));
	order_id_of_request("ann", "1", other);
	CU_ASSERT_STRING_EQUAL(first, other);
	for (size_t i = 0; i < RT_LENGTH(others); i++) {
		order_id_of_request(others[i].customer, others[i].request, other);
		TEST_ROW(strcmp(first, other) != 0, others[i].why);
		TEST_ROW(check_order_id(other), others[i].why);
	}
}

/* The longest ids there are differ in their last byte. */
static void test_long_ids(void)
{
	char customer[513], request[513];
	char first[ORDER_ID_LENGTH + 1], other[ORDER_ID_LENGTH + 1];

	memset(customer, 'c', 512);
	memset(request, 'r', 512);
	customer[512] = request[512] = '\0';
	order_id_of_request(customer, request, first);
	request[511] = 'q';
	order_id_of_request(customer, request, other);
	CU_ASSERT_STRING_NOT_EQUAL(first, other);
}

static void test_new(void)
{
	uint8_t random[10];
	char early[ORDER_ID_LENGTH + 1], late[ORDER_ID_LENGTH + 1], other[ORDER_ID_LENGTH + 1];

	/* Every bit that is not random or time is fixed: version 7, variant 10. Computed apart. */
	memset(random, 0xff, sizeof(random));
	order_id_new(0x0123456789ab, random, early);
	CU_ASSERT_STRING_EQUAL(early, "ord_aerukz4jvn777p777777777774");
	CU_ASSERT_TRUE(check_order_id(early));
	memset(random, 0, sizeof(random));
	order_id_new(0x0123456789ac, random, late);
	CU_ASSERT_TRUE(check_order_id(late));
	CU_ASSERT_STRING_NOT_EQUAL(early, late);
	random[9] = 1;
	order_id_new(0x0123456789ac, random, other);
	CU_ASSERT_STRING_NOT_EQUAL(late, other);
}

/* The bucket comes back, and the id is one that no id without a bucket can be. */
static void test_bucket(void)
{
	char id[ORDER_ID_LENGTH + 1], other[ORDER_ID_LENGTH + 1];
	uint8_t random[10];

	for (unsigned int bucket = 0; bucket < RT_BUCKETS; bucket++) {
		memset(random, (int)(bucket & 0xff), sizeof(random));
		order_id_new(0x0123456789ab, random, id);
		CU_ASSERT_EQUAL(check_order_bucket(id), -1);
		order_id_put_bucket(bucket, id);
		TEST_ROW(check_order_id(id), id);
		TEST_ROW(check_order_bucket(id) == (int)bucket, id);
	}
	/* Fixed for ever, as above: 1023 is two times 31, "77". */
	order_id_of_request("ann", "1", id);
	order_id_put_bucket(1023, id);
	CU_ASSERT_STRING_EQUAL(id, "ord_77ha6bwoz5oh7o2dgv3qbsnp7r");
	/* What is random or time in a new id differs still. */
	memset(random, 0, sizeof(random));
	order_id_new(0x0123456789ab, random, id);
	order_id_put_bucket(5, id);
	random[7] = 1;
	order_id_new(0x0123456789ab, random, other);
	order_id_put_bucket(5, other);
	CU_ASSERT_STRING_NOT_EQUAL(id, other);
	CU_ASSERT_EQUAL(check_order_bucket("ord_77"), -1);
	CU_ASSERT_FALSE(check_order_id("ord_77ha6bwoz5oh7o2dgv3qbsnp7s")); /* another mark */
	CU_ASSERT_EQUAL(check_order_bucket("ord_77ha6bwoz5oh7o2dgv3qbsnp7ra"), -1);
}

static const struct test tests[] = {
	{ "the id of a request", test_of_request },
	{ "every byte counts", test_long_ids },
	{ "a new id", test_new },
	{ "an id with a bucket", test_bucket },
};

TESTS_MAIN("order_id", tests)
