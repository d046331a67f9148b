/* order_id.c - order ids: a hash of the request, or a UUIDv7. */
#include <string.h>

#include "check.h"
#include "order/order_id.h"

#define ID_MAX 512

static void write_id(const uint8_t bytes[16], char order_id[ORDER_ID_LENGTH + 1])
{
	memcpy(order_id, ORDER_ID_PREFIX, sizeof(ORDER_ID_PREFIX) - 1);
	rt_base32_128(bytes, order_id + sizeof(ORDER_ID_PREFIX) - 1);
}

/* The length in front makes the framing unambiguous: ("ab", "c") and ("a", "bc") differ. */
static size_t frame(uint8_t *to, const char *text)
{
	size_t length = strnlen(text, ID_MAX);

	to[0] = (uint8_t)(length >> 8);
	to[1] = (uint8_t)length;
	memcpy(to + 2, text, length);
	return length + 2;
}

void order_id_of_request(const char *customer_id, const char *request_id,
			 char order_id[ORDER_ID_LENGTH + 1])
{
	uint8_t bytes[2 * (ID_MAX + 2)], digest[32];
	size_t length;

	length = frame(bytes, customer_id);
	length += frame(bytes + length, request_id);
	rt_sha256(bytes, length, digest);
	write_id(digest, order_id);
}

void order_id_new(int64_t unix_ms, const uint8_t random[10], char order_id[ORDER_ID_LENGTH + 1])
{
	uint8_t bytes[16];

	for (int i = 0; i < 6; i++)
		bytes[i] = (uint8_t)((uint64_t)unix_ms >> (40 - 8 * i));
	memcpy(bytes + 6, random, 10);
	bytes[6] = (uint8_t)(0x70 | (bytes[6] & 0x0f));
	bytes[8] = (uint8_t)(0x80 | (bytes[8] & 0x3f));
	write_id(bytes, order_id);
}

void order_id_put_bucket(unsigned int bucket, char order_id[ORDER_ID_LENGTH + 1])
{
	char *digits = order_id + sizeof(ORDER_ID_PREFIX) - 1, *last = digits + RT_BASE32_128 - 1;

	memmove(digits + 2, digits, RT_BASE32_128 - 2);
	digits[0] = rt_base32_letter(bucket >> 5);
	digits[1] = rt_base32_letter(bucket);
	*last = rt_base32_letter(((unsigned int)rt_base32_digit(*last) & ~3U) | CHECK_BUCKET_MARK);
}

int64_t order_id_made_ms(const char *order_id)
{
	const char *digits = order_id + sizeof(ORDER_ID_PREFIX) - 1;
	char text[RT_BASE32_128 + 1];
	uint8_t bytes[16];
	int64_t ms = 0;

	memcpy(text, digits, sizeof(text));
	if (check_order_bucket(order_id) >= 0)
		memcpy(text, digits + 2, RT_BASE32_128 - 2);
	if (!rt_base32_128_read(text, bytes) || bytes[6] >> 4 != 7 || bytes[8] >> 6 != 2)
		return -1;
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | bytes[i];
	return ms;
}
