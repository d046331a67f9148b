/* order_id.h - order ids: "ord_" and 26 digits of base32, 128 bits.
 *
 * With a request_id the id is a hash of customer and request, so that a repeat finds the first order
 * by its key alone. Without one it is a UUIDv7 (RFC 9562): time and 74 random bits.
 *
 * Where orders lie in several partitions an id carries the bucket of its customer, so that it says where the order
 * is: two digits for the bucket, then the first 24 of the 26 digits, the last of them marked (proto/check.h). With one
 * partition ids carry none: earlier versions, which may still run beside this one, would refuse them. */
#ifndef ORDER_ID_H
#define ORDER_ID_H

#include "store.h"

/* SHA-256 over both ids, each behind its length, cut to 128 bits. At most 512 bytes each. */
void order_id_of_request(const char *customer_id, const char *request_id,
			 char order_id[ORDER_ID_LENGTH + 1]);
/* `random`: 10 bytes. */
void order_id_new(int64_t unix_ms, const uint8_t random[10], char order_id[ORDER_ID_LENGTH + 1]);
/* Puts a bucket into an id made by the functions above. */
void order_id_put_bucket(unsigned int bucket, char order_id[ORDER_ID_LENGTH + 1]);
/* When a valid id was made by order_id_new, in unix ms; −1: it is that of a request. One of 64 ids of requests looks as
 * if it were none, and says some time or other. */
int64_t order_id_made_ms(const char *order_id);

#endif
