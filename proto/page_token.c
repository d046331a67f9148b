/* page_token.c - a token is 16 hexadecimal digits of SHA-256 over the list's name, a NUL and the
 * position, and then the position. The hash catches mistakes, not intent: a token made by hand gets
 * what any client may ask for. */
#include "page_token.h"

#include <stdio.h>
#include <string.h>

#define HASH_LENGTH 16

static void hash_position(const char *list, const char *position, char hash[HASH_LENGTH + 1])
{
	struct rt_buf text = { 0 };
	uint8_t digest[32];

	rt_buf_add(&text, list, strlen(list) + 1);
	rt_buf_add(&text, position, strlen(position));
	rt_sha256(text.data, text.length, digest);
	rt_buf_done(&text);
	for (int i = 0; i < HASH_LENGTH / 2; i++)
		snprintf(hash + 2 * i, 3, "%02x", digest[i]);
}

char *page_token_new(const char *list, const char *position)
{
	char hash[HASH_LENGTH + 1];

	hash_position(list, position, hash);
	return rt_printf("%s%s", hash, position);
}

const char *page_token_read(const char *list, const char *token)
{
	char hash[HASH_LENGTH + 1];

	if (strnlen(token, HASH_LENGTH) < HASH_LENGTH)
		return NULL;
	hash_position(list, token + HASH_LENGTH, hash);
	return memcmp(token, hash, HASH_LENGTH) == 0 ? token + HASH_LENGTH : NULL;
}

void page_token_status(struct rt_status *status)
{
	rt_status_set(status, RT_CODE_INVALID_ARGUMENT, "page_token is not one of this list");
	rt_status_info(status, "PAGE_TOKEN");
	rt_status_violation(status, "page_token", "is not a next_page_token of this list");
}
