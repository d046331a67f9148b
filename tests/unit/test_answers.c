/* test_answers.c - the answer to a batch that was accepted fits into the message that a client takes,
 * whatever the results of its items are. */
#include "check.h"
#include "google/rpc/status.pb-c.h"
#include "order/order_record.h"
#include "run.h"

#include <string.h>

#define ID "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa"

typedef Tandem__Order__V1__PlaceOrderRequest PlaceOrder;
typedef Tandem__Order__V1__PlaceOrderResult PlaceResult;

/* Random numbers that are the same in every run. */
static uint64_t dice_state = 7;
static size_t dice(size_t below)
{
	dice_state = dice_state * 6364136223846793005U + 1442695040888963407U;
	return (size_t)(dice_state >> 33) % below;
}

/* Small numbers often, the largest often. */
static size_t size_up_to(size_t max)
{
	return dice(3) == 0 ? max : dice(dice(2) == 0 ? max + 1 : RT_MIN(max, (size_t)4) + 1);
}

static char *text(struct rt_arena *arena, size_t length, const char *letters)
{
	char *made = rt_arena_take(arena, length + 1);
	size_t count = strlen(letters);

	for (size_t i = 0; i < length; i++)
		made[i] = letters[dice(count)];
	made[length] = '\0';
	return made;
}

/* `count` characters of `width` + 1 bytes each. */
static char *word(struct rt_arena *arena, size_t count, size_t width)
{
	static const char *const characters[] = { "x", "\xc3\xa9", "\xe2\x82\xac",
						  "\xf0\x9f\x8d\x8f" };
	size_t bytes = strlen(characters[width]);
	char *made = rt_arena_take(arena, bytes * count + 1);

	for (size_t i = 0; i < count; i++)
		memcpy(made + i * bytes, characters[width], bytes);
	made[bytes * count] = '\0';
	return made;
}

/* An order with so many lines and labels, which are empty. */
static PlaceOrder *order_new(struct rt_arena *arena, size_t lines, size_t labels)
{
	PlaceOrder *request = rt_arena_take(arena, sizeof(*request));

	tandem__order__v1__place_order_request__init(request);
	request->n_lines = lines;
	request->lines = rt_arena_take(arena, lines * sizeof(*request->lines));
	for (size_t i = 0; i < lines; i++) {
		request->lines[i] = rt_arena_take(arena, sizeof(**request->lines));
		tandem__order__v1__order_line__init(request->lines[i]);
	}
	request->n_labels = labels;
	request->labels = rt_arena_take(arena, (labels + 1) * sizeof(*request->labels));
	for (size_t i = 0; i < labels; i++) {
		request->labels[i] = rt_arena_take(arena, sizeof(**request->labels));
		tandem__order__v1__place_order_request__labels_entry__init(request->labels[i]);
	}
	return request;
}

static PlaceOrder *random_order(struct rt_arena *arena)
{
	size_t same = dice(4);
	PlaceOrder *request =
		order_new(arena, 1 + size_up_to(CHECK_LINES_MAX - 1), size_up_to(CHECK_LABELS_MAX));

	request->request_id = word(arena, size_up_to(CHECK_ID_MAX), dice(4));
	request->customer_id = word(arena, 1 + size_up_to(CHECK_ID_MAX - 1), dice(4));
	for (size_t i = 0; i < request->n_lines; i++) {
		Tandem__Order__V1__OrderLine *line = request->lines[i];

		line->sku = text(arena, 1 + size_up_to(CHECK_SKU_MAX - 1), "aZ9._-");
		/* Lines of one SKU are added up, to no more than a line may have. */
		if (same == 0 && i > 0)
			line->sku = request->lines[dice(i)]->sku;
		line->quantity = same == 0 ? (uint32_t)dice(CHECK_QUANTITY_MAX / 100) + 1
					   : CHECK_QUANTITY_MAX / 100;
	}
	for (size_t i = 0; i < request->n_labels; i++) {
		request->labels[i]->key =
			text(arena, 1 + size_up_to(CHECK_LABEL_KEY_MAX - 1), "kl");
		request->labels[i]->value =
			text(arena, size_up_to(CHECK_LABEL_VALUE_MAX), "vw\x01");
	}
	return request;
}

/* Every line was short; the numbers are larger than any that the rules let pass. */
static const uint8_t *rejected_detail(struct rt_arena *arena,
				      const Tandem__Order__V1__OrderContent *content,
				      size_t *ret_length)
{
	Tandem__Order__V1__OrderRejected rejected = TANDEM__ORDER__V1__ORDER_REJECTED__INIT;

	rejected.n_shortages = content->n_lines;
	rejected.shortages = rt_arena_take(arena, content->n_lines * sizeof(*rejected.shortages));
	for (size_t i = 0; i < content->n_lines; i++) {
		Tandem__Order__V1__Shortage *shortage = rt_arena_take(arena, sizeof(*shortage));

		tandem__order__v1__shortage__init(shortage);
		shortage->sku = content->lines[i]->sku;
		shortage->requested = UINT32_MAX;
		shortage->available = UINT64_MAX;
		rejected.shortages[i] = shortage;
	}
	return order_pack(arena, &rejected.base, ret_length);
}

static const uint8_t *cancelled_detail(struct rt_arena *arena, size_t *ret_length)
{
	Tandem__Order__V1__OrderCancelled cancelled = TANDEM__ORDER__V1__ORDER_CANCELLED__INIT;

	cancelled.reason = text(arena, CHECK_REASON_MAX, "because ");
	return order_pack(arena, &cancelled.base, ret_length);
}

/* How many bytes the result has in the answer: its own, a tag and a length. */
static size_t result_bytes(PlaceResult *result)
{
	Tandem__Order__V1__BatchPlaceOrdersResponse response =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_RESPONSE__INIT;

	response.orders = &result;
	response.n_orders = 1;
	return tandem__order__v1__batch_place_orders_response__get_packed_size(&response);
}

/* The size of the largest result with this order, in any state that it can get into: a repeat of its
 * request is answered with the state that it has then. */
static size_t order_bytes_max(struct rt_arena *arena, const PlaceOrder *request)
{
	static const struct {
		enum order_state state;
		uint64_t version;
		const char *history;
	} rows[] = {
		{ ORDER_PENDING, 1, "placed@253402200799999-1" },
		{ ORDER_RESERVED, 2, "placed@253402200799999-1 reserved+99999-2" },
		{ ORDER_REJECTED, 2, "placed@253402200799999-1 rejected+99999-2" },
		{ ORDER_CANCELLED, 3,
		  "placed@253402200799999-1 cancelled+99999-2 settled+9999999-3" },
		{ ORDER_EXPIRED, 3, "placed@253402200799999-1 expired+99999-2 settled+9999999-3" },
	};
	Tandem__Order__V1__OrderPlaced placed = TANDEM__ORDER__V1__ORDER_PLACED__INIT;
	struct order_record record = { .order_id = ID, .hold_ms = CHECK_HOLD_MAX_MS, .attempt = 1 };
	size_t most = 0;

	placed.content = order_content(arena, request);
	record.placed = order_pack(arena, &placed.base, &record.placed_length);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		PlaceResult result = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__INIT;

		record.state = rows[i].state;
		record.version = rows[i].version;
		record.history = rows[i].history;
		record.detail = NULL;
		record.detail_length = 0;
		if (record.state == ORDER_REJECTED)
			record.detail =
				rejected_detail(arena, placed.content, &record.detail_length);
		else if (record.state == ORDER_CANCELLED)
			record.detail = cancelled_detail(arena, &record.detail_length);
		result.result_case = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER;
		result.order = order_view(arena, &record, NULL, 0);
		CU_ASSERT_FATAL(result.order != NULL);
		most = RT_MAX(most, result_bytes(&result));
	}
	return most;
}

static void test_no_order_is_larger_than_its_bound(void)
{
	for (int i = 0; i < 3000; i++) {
		struct rt_arena arena = { .chunks = NULL };
		struct rt_status status = { .code = 0 };
		PlaceOrder *request = random_order(&arena);

		CU_ASSERT_TRUE_FATAL(check_request(&request->base, &status));
		CU_ASSERT(order_bytes_max(&arena, request) <= check_result_max(request));
		rt_arena_done(&arena);
	}
}

static size_t error_bytes(const struct rt_status *status)
{
	PlaceResult result = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__INIT;
	size_t bytes;

	result.result_case = TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ERROR;
	result.error = rt_status_to_proto(status);
	bytes = result_bytes(&result);
	google__rpc__status__free_unpacked(result.error, NULL);
	return bytes;
}

/* Requests that break as many limits as there are, with the longest names. */
static void test_no_error_is_larger_than_its_bound(void)
{
	for (int i = 0; i < 300; i++) {
		struct rt_arena arena = { .chunks = NULL };
		struct rt_status status = { .code = 0 };
		PlaceOrder *request = random_order(&arena);
		bool bad_labels = dice(2) == 0;

		request->request_id = (char *)(dice(2) == 0 ? "\n" : "");
		request->customer_id = word(&arena, dice(2) == 0 ? 200 : 5, dice(4));
		for (size_t j = 0; j < request->n_lines; j++) {
			request->lines[j]->sku = (char *)(dice(2) == 0 ? "apple" : "no sku");
			request->lines[j]->quantity = (uint32_t)(UINT32_MAX - dice(2));
		}
		for (size_t j = 0; j < request->n_labels && bad_labels; j++) {
			request->labels[j]->key = text(&arena, 65, "\x01\"%");
			request->labels[j]->value = text(&arena, 300, "v");
		}
		CU_ASSERT_FALSE(check_request(&request->base, &status));
		CU_ASSERT(error_bytes(&status) <= CHECK_ERROR_MAX);
		rt_status_done(&status);
		rt_arena_done(&arena);
	}
}

static Tandem__Order__V1__BatchPlaceOrdersRequest batch_of(struct rt_arena *arena,
							   PlaceOrder *request, size_t count)
{
	Tandem__Order__V1__BatchPlaceOrdersRequest batch =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;

	batch.requests = rt_arena_take(arena, (count + 1) * sizeof(*batch.requests));
	batch.n_requests = count;
	for (size_t i = 0; i < count; i++)
		batch.requests[i] = request;
	return batch;
}

static PlaceOrder *order_of(struct rt_arena *arena, size_t lines, size_t sku_length, size_t labels)
{
	PlaceOrder *request = order_new(arena, lines, labels);

	request->customer_id = labels == CHECK_LABELS_MAX ? word(arena, CHECK_ID_MAX, 3)
							  : text(arena, CHECK_ID_MAX, "c");
	for (size_t i = 0; i < lines; i++) {
		request->lines[i]->sku = text(arena, sku_length, "abcdefghijklmnop");
		request->lines[i]->quantity = CHECK_QUANTITY_MAX;
	}
	for (size_t i = 0; i < labels; i++) {
		request->labels[i]->key = rt_arena_printf(arena, "%0*zu", CHECK_LABEL_KEY_MAX, i);
		request->labels[i]->value = text(arena, CHECK_LABEL_VALUE_MAX, "v");
	}
	return request;
}

/* The sizes of batches that the documentation promises. */
static void test_batches(void)
{
	static const struct {
		const char *name;
		size_t count, lines, sku_length, labels;
		bool good;
	} rows[] = {
		{ "1000 orders of one line", 1000, 1, 8, 0, true },
		{ "1000 ordinary orders", 1000, 8, 32, 2, true },
		{ "1000 orders as large as is promised", 1000, 30, 32, 2, true },
		{ "190 of the largest orders", 190, 100, 64, 16, true },
		{ "a few more of them", 195, 100, 64, 16, false },
		{ "330 orders with 100 of the longest SKUs", 330, 100, 64, 0, false },
		{ "1000 orders of 4 KB", 1000, 1, 8, 12, false },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_arena arena = { .chunks = NULL };
		struct rt_status status = { .code = 0 };
		PlaceOrder *request =
			order_of(&arena, rows[i].lines, rows[i].sku_length, rows[i].labels);
		Tandem__Order__V1__BatchPlaceOrdersRequest batch =
			batch_of(&arena, request, rows[i].count);

		TEST_ROW(check_request(&batch.base, &status) == rows[i].good, rows[i].name);
		/* The bound asks for little more than the answer could need. */
		TEST_ROW(check_result_max(request) <= RT_MAX(order_bytes_max(&arena, request) + 256,
							     (size_t)CHECK_ERROR_MAX),
			 rows[i].name);
		if (rows[i].good) {
			TEST_ROW(protobuf_c_message_get_packed_size(&batch.base) <= 4 << 20,
				 rows[i].name);
			TEST_ROW(rows[i].count * order_bytes_max(&arena, request) <=
					 CHECK_ANSWER_MAX,
				 rows[i].name);
		} else {
			TEST_ROW(status.code == RT_CODE_INVALID_ARGUMENT, rows[i].name);
			TEST_ROW(status.message != NULL &&
					 strncmp(status.message, "requests can get", 16) == 0 &&
					 strstr(status.message, "4194304") != NULL,
				 rows[i].name);
		}
		rt_status_done(&status);
		rt_arena_done(&arena);
	}
}

static const struct test tests[] = {
	{ "no order is larger than its bound", test_no_order_is_larger_than_its_bound },
	{ "no error is larger than its bound", test_no_error_is_larger_than_its_bound },
	{ "batches whose answers fit", test_batches },
};

TESTS_MAIN("answers", tests)
