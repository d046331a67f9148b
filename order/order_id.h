/* order_id.h - order ids: "ord_" and 26 characters of base32, 128 bits.
 *
 * With a request_id the id is a hash of customer and request, so that a repeat finds the first order
 * by its key alone. Without one it is a UUIDv7 (RFC 9562): time and 74 random bits. */
#ifndef ORDER_ID_H
#define ORDER_ID_H

#include "store.h"

/* SHA-256 over both ids, each behind its length, cut to 128 bits. At most 512 bytes each. */
void order_id_of_request(const char *customer_id, const char *request_id,
			 char order_id[ORDER_ID_LENGTH + 1]);
/* `random`: 10 bytes. */
void order_id_new(int64_t unix_ms, const uint8_t random[10], char order_id[ORDER_ID_LENGTH + 1]);

#endif
