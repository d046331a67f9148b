/* rt.h - what every file of the runtime and the services uses: status codes, ownership
 * helpers, small utilities.
 *
 * Conventions, everywhere:
 *  - `rt_x_new/_free` own what they make; `_free` and `_done` take NULL and half-built objects.
 *  - `ret` is written on success only.
 *  - A submit function returns void; its `done(op, status)` runs exactly once, on the loop thread,
 *    and never before the submit function has returned.
 *  - Units go last in a name: timeout_ms, size_bytes. */
#ifndef RT_H
#define RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Every way an operation of the runtime can end: name, number, text, gRPC status code. */
#define RT_STATUS_MAP(X)                                                                           \
	X(RT_OK, 0, "ok", 0)                                                                       \
	X(RT_INVALID, -1, "invalid argument", 3)                                                   \
	X(RT_TIMEOUT, -2, "deadline passed", 4)                                                    \
	X(RT_NOT_FOUND, -3, "not found", 5)                                                        \
	X(RT_CANCELED, -4, "cancelled", 1)                                                         \
	X(RT_LOST, -5, "connection lost", 14)                                                      \
	X(RT_BUSY, -6, "too much under way", 8)                                                    \
	X(RT_FULL, -7, "storage is full", 8)                                                       \
	X(RT_DENIED, -8, "permission denied", 7)                                                   \
	X(RT_NOGROUP, -9, "the consumer group or its stream is gone", 14)                          \
	X(RT_REMOTE, -10, "the peer answered with an error", 13)                                   \
	X(RT_PROTOCOL, -11, "the peer's answer makes no sense", 13)                                \
	X(RT_NOMEM, -12, "out of memory", 8)                                                       \
	X(RT_SYSTEM, -13, "a system call failed", 13)                                              \
	X(RT_UNREADY, -14, "not ready yet", 14)                                                    \
	X(RT_UNCONFIRMED, -15, "no replica has confirmed it", 14)

#define RT_STATUS_ENUM(name, number, text, code) name = (number),
enum rt_status_code { RT_STATUS_MAP(RT_STATUS_ENUM) };
#undef RT_STATUS_ENUM

/* The name ("RT_LOST") and the text ("connection lost") of a status. Never NULL. */
const char *rt_status_name(int status);
const char *rt_status_text(int status);
/* The gRPC status code with which a call ends for such a status. */
int rt_status_grpc_code(int status);

#define RT_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define RT_LENGTH(array)                   (sizeof(array) / sizeof((array)[0]))
#define RT_MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define RT_MAX(a, b)                       ((a) > (b) ? (a) : (b))
#define RT_PRINTF(fmt, args)               __attribute__((format(printf, fmt, args)))
/* Hands a pointer over and forgets it here. */
#define RT_TAKE(p)                                                                                 \
	__extension__({                                                                            \
		__typeof__(p) rt_take_ = (p);                                                      \
		(p) = NULL;                                                                        \
		rt_take_;                                                                          \
	})

/* Allocation that cannot fail: gRPC and hiredis abort when memory runs out, so do we, with a
 * line on stderr. What they return is freed with free(). */
void *rt_alloc(size_t size_bytes);            /* zeroed */
void *rt_realloc(void *p, size_t size_bytes); /* not zeroed */
/* The list, with room for one item more than the `count` that it has. */
void *rt_grow(void *list, size_t count, size_t *capacity, size_t item_bytes);
char *rt_strdup(const char *s); /* NULL gives NULL */
char *rt_strndup(const char *s, size_t length);
char *rt_printf(const char *format, ...) RT_PRINTF(1, 2);

/* An intrusive doubly linked list; an element not in a list points at itself. */
struct rt_list {
	struct rt_list *next, *prev;
};
void rt_list_init(struct rt_list *list);
bool rt_list_empty(const struct rt_list *list);
void rt_list_push(struct rt_list *list, struct rt_list *element); /* at the end */
void rt_list_remove(struct rt_list *element);                     /* leaves it pointing at itself */
struct rt_list *rt_list_pop(struct rt_list *list);                /* the first, or NULL */
void rt_list_move(struct rt_list *to, struct rt_list *from);      /* all; `to` must be empty */

/* A number in decimal digits and a NUL; returns their length. Much cheaper than snprintf. */
#define RT_INT_TEXT 21
size_t rt_int_text(int64_t n, char text[RT_INT_TEXT]);

/* A growing byte buffer. Zeroed memory is a valid empty one; rt_buf_done frees. */
struct rt_buf {
	char *data;
	size_t length, capacity;
};
void rt_buf_add(struct rt_buf *buf, const void *data, size_t length);
/* Where so many bytes and a NUL may be written; the caller adds what it wrote to `length`. */
char *rt_buf_room(struct rt_buf *buf, size_t more);
void rt_buf_printf(struct rt_buf *buf, const char *format, ...) RT_PRINTF(2, 3);
void rt_buf_done(struct rt_buf *buf);

/* CLOCK_MONOTONIC: for durations. */
int64_t rt_monotonic_ns(void);
/* This machine's wall clock, which may be wrong and may jump; what decides about orders goes by
 * rt_loop_unix_ms. */
int64_t rt_wall_us(void);
/* The same as it was read first since the loop slept: for times that are only shown, and are asked for often. On its
 * thread only. */
int64_t rt_turn_us(void);
void rt_turn_begins(void); /* called by the loop */

/* Writes `unix_ms` as RFC 3339 with milliseconds, "2026-11-23T01:02:03.004Z". */
#define RT_TIME_TEXT   25
#define RT_TIME_MS_MAX INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
void rt_time_format(int64_t unix_ms, char text[RT_TIME_TEXT]);
/* Reads what rt_time_format wrote. False, and nothing written, when it is something else. */
bool rt_time_parse(const char *text, int64_t *ret_unix_ms);

/* SHA-256 (FIPS 180-4, from libcrypto). */
void rt_sha256(const void *data, size_t length, uint8_t digest[32]);
/* ---- partitions ---- */

/* Data is spread over partitions by a hash of what it belongs to: its bucket. A partition is a range of buckets' lowest
 * bits, so the number of partitions is a power of two. The hash must never change: data would not be found. */
#define RT_BUCKETS        1024
#define RT_PARTITIONS_MAX RT_BUCKETS
/* 0 to RT_BUCKETS - 1: FNV-1a of 32 bits, then the mixing steps of MurmurHash3 (fmix32). */
unsigned int rt_bucket(const char *text, size_t length);
static inline int rt_bucket_partition(unsigned int bucket, int partition_count)
{
	return (int)(bucket & ((unsigned int)partition_count - 1));
}

/* Base32 in lower case, alphabet of RFC 4648 without padding: 16 bytes give 26 characters. */
#define RT_BASE32_128 26
void rt_base32_128(const uint8_t bytes[16], char text[RT_BASE32_128 + 1]);
bool rt_base32_128_valid(const char *text);
/* The 16 bytes that 26 characters stand for, whatever the two bits are that the last has too many, and whatever follows.
 * False, and bytes of no use: one of them is none of the alphabet. */
bool rt_base32_128_read(const char *text, uint8_t bytes[16]);
/* A digit's letter (0 to 31), and back; -1: it is none. */
char rt_base32_letter(unsigned int digit);
int rt_base32_digit(char letter);

/* Room for what `length` characters decode to. */
#define RT_BASE64_DECODED(length) ((length) / 4 * 3 + 3)
/* Base64url of RFC 4648 as RFC 7515 has it: no padding, no blanks, and the bits that are left over are zero, so that
 * bytes have one spelling. */
bool rt_base64url_decode(const char *text, size_t length, uint8_t *ret, size_t *ret_length);
/* Both alphabets of RFC 4648, padded or not. */
bool rt_base64_decode(const char *text, size_t length, uint8_t *ret, size_t *ret_length);

#endif
