/* key_slot.c - which slot of a cluster a key is in. */
#include "key_slot.h"

#include <stdbool.h>
#include <string.h>

uint16_t rt_key_slot(const char *key)
{
	const char *open = strchr(key, '{');
	const char *close = open != NULL ? strchr(open, '}') : NULL;
	bool tagged = close != NULL && close > open + 1;
	const char *at = tagged ? open + 1 : key, *end = tagged ? close : key + strlen(key);
	unsigned crc = 0;

	for (; at < end; at++) {
		crc ^= (unsigned)(unsigned char)*at << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
	}
	return (uint16_t)(crc & (RT_REDIS_SLOTS - 1));
}
