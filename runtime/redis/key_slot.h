/* key_slot.h - which slot of a cluster a key is in. */
#ifndef RT_REDIS_KEY_SLOT_H
#define RT_REDIS_KEY_SLOT_H

#include <stdint.h>

#define RT_REDIS_SLOTS 16384

/* CRC-16 (XMODEM) of what is between the first '{' and the next '}', or of all of it when there is nothing. */
uint16_t rt_key_slot(const char *key);

#endif
