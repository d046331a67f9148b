/* rt.c - status names, allocation that cannot fail, lists, buffers, RFC 3339 times, SHA-256,
 * base32. */
#include "rt.h"

#include <openssl/sha.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct status {
	const char *name, *text;
	int grpc_code;
};

static const struct status *find_status(int status)
{
#define ROW(name, number, text, code) [-(number)] = { #name, text, code },
	static const struct status statuses[] = { RT_STATUS_MAP(ROW) };
#undef ROW
	static const struct status unknown = { "RT_?", "unknown status", 2 }; /* UNKNOWN */

	if (status > 0 || status <= -(int)RT_LENGTH(statuses))
		return &unknown;
	return &statuses[-status];
}

const char *rt_status_name(int status)
{
	return find_status(status)->name;
}

const char *rt_status_text(int status)
{
	return find_status(status)->text;
}

int rt_status_grpc_code(int status)
{
	return find_status(status)->grpc_code;
}

static _Noreturn void out_of_memory(void)
{
	static const char line[] = "out of memory\n";

	/* No stdio and no log: both may allocate. */
	if (write(STDERR_FILENO, line, sizeof(line) - 1) < 0)
		abort();
	abort();
}

void *rt_alloc(size_t size_bytes)
{
	void *p = calloc(1, size_bytes > 0 ? size_bytes : 1);

	if (p == NULL)
		out_of_memory();
	return p;
}

void *rt_realloc(void *p, size_t size_bytes)
{
	void *q = realloc(p, size_bytes > 0 ? size_bytes : 1);

	if (q == NULL)
		out_of_memory();
	return q;
}

void *rt_grow(void *list, size_t count, size_t *capacity, size_t item_bytes)
{
	if (count < *capacity)
		return list;
	*capacity = RT_MAX(2 * *capacity, (size_t)16);
	return rt_realloc(list, *capacity * item_bytes);
}

char *rt_strdup(const char *s)
{
	return s == NULL ? NULL : rt_strndup(s, strlen(s));
}

char *rt_strndup(const char *s, size_t length)
{
	char *copy;

	if (s == NULL)
		return NULL;
	length = strnlen(s, length);
	copy = rt_alloc(length + 1);
	memcpy(copy, s, length);
	return copy;
}

char *rt_printf(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int length;

	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	if (length < 0)
		out_of_memory();
	return text;
}

void rt_list_init(struct rt_list *list)
{
	list->next = list;
	list->prev = list;
}

bool rt_list_empty(const struct rt_list *list)
{
	return list->next == list;
}

void rt_list_push(struct rt_list *list, struct rt_list *element)
{
	element->next = list;
	element->prev = list->prev;
	list->prev->next = element;
	list->prev = element;
}

void rt_list_remove(struct rt_list *element)
{
	element->prev->next = element->next;
	element->next->prev = element->prev;
	rt_list_init(element);
}

struct rt_list *rt_list_pop(struct rt_list *list)
{
	struct rt_list *first = list->next;

	if (first == list)
		return NULL;
	rt_list_remove(first);
	return first;
}

void rt_list_move(struct rt_list *to, struct rt_list *from)
{
	if (rt_list_empty(from)) {
		rt_list_init(to);
		return;
	}
	to->next = from->next;
	to->prev = from->prev;
	to->next->prev = to;
	to->prev->next = to;
	rt_list_init(from);
}

/* Room for `more` bytes and a NUL behind them, so that a buffer can be read as a C string. */
static void buf_reserve(struct rt_buf *buf, size_t more)
{
	size_t capacity = RT_MAX(buf->capacity, (size_t)64);

	if (more < buf->capacity - buf->length)
		return;
	if (more > SIZE_MAX / 2 - buf->length - 1)
		out_of_memory();
	while (capacity < buf->length + more + 1)
		capacity *= 2;
	buf->data = rt_realloc(buf->data, capacity);
	buf->capacity = capacity;
}

char *rt_buf_room(struct rt_buf *buf, size_t more)
{
	buf_reserve(buf, more);
	return buf->data + buf->length;
}

void rt_buf_add(struct rt_buf *buf, const void *data, size_t length)
{
	buf_reserve(buf, length);
	if (length > 0)
		memcpy(buf->data + buf->length, data, length);
	buf->length += length;
	buf->data[buf->length] = '\0';
}

void rt_buf_printf(struct rt_buf *buf, const char *format, ...)
{
	va_list args, again;
	int length;

	va_start(args, format);
	va_copy(again, args);
	buf_reserve(buf, 64);
	length = vsnprintf(buf->data + buf->length, buf->capacity - buf->length, format, args);
	if (length < 0)
		out_of_memory();
	if ((size_t)length >= buf->capacity - buf->length) {
		buf_reserve(buf, (size_t)length);
		vsnprintf(buf->data + buf->length, buf->capacity - buf->length, format, again);
	}
	buf->length += (size_t)length;
	va_end(again);
	va_end(args);
}

void rt_buf_done(struct rt_buf *buf)
{
	if (buf == NULL)
		return;
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}

/* ---- time ----
 *
 * Calendar arithmetic of ours instead of gmtime_r and strftime: every event carries a time, and
 * gmtime_r takes a process-wide lock. The algorithms are days_from_civil and civil_from_days of
 * howardhinnant.github.io/date_algorithms.html, for the years 1970 to 9999. */

#define DAY_MS INT64_C(86400000)

static void put_digits(char *text, int64_t value, int digits)
{
	for (int i = digits - 1; i >= 0; i--) {
		text[i] = (char)('0' + value % 10);
		value /= 10;
	}
}

static int64_t clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t rt_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t rt_wall_us(void)
{
	return clock_ns(CLOCK_REALTIME) / 1000;
}

static _Thread_local int64_t turn_us; /* 0: not read since the turn began */

int64_t rt_turn_us(void)
{
	if (turn_us == 0)
		turn_us = rt_wall_us();
	return turn_us;
}

void rt_turn_begins(void)
{
	turn_us = 0;
}

void rt_time_format(int64_t unix_ms, char text[RT_TIME_TEXT])
{
	int64_t ms = RT_MIN(RT_MAX(unix_ms, INT64_C(0)), RT_TIME_MS_MAX);
	int64_t in_day = ms % DAY_MS;
	int64_t z = ms / DAY_MS + 719468; /* days since 0000-03-01 */
	int64_t era = z / 146097;
	int64_t doe = z % 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	int64_t mp = (5 * doy + 2) / 153;
	int64_t month = mp < 10 ? mp + 3 : mp - 9;

	memcpy(text, "0000-00-00T00:00:00.000Z", RT_TIME_TEXT);
	put_digits(text, yoe + era * 400 + (month <= 2), 4);
	put_digits(text + 5, month, 2);
	put_digits(text + 8, doy - (153 * mp + 2) / 5 + 1, 2);
	put_digits(text + 11, in_day / 3600000, 2);
	put_digits(text + 14, in_day / 60000 % 60, 2);
	put_digits(text + 17, in_day / 1000 % 60, 2);
	put_digits(text + 20, in_day % 1000, 3);
}

bool rt_time_parse(const char *text, int64_t *ret_unix_ms)
{
	static const char shape[] = "0000-00-00T00:00:00.000Z";
	int64_t number[7] = { 0 };
	int64_t year, month, yoe, doy, days, ms;
	char again[RT_TIME_TEXT];
	int field = 0;

	if (text == NULL || strnlen(text, RT_TIME_TEXT) != RT_TIME_TEXT - 1)
		return false;
	for (int i = 0; shape[i] != '\0'; i++) {
		if (shape[i] != '0') {
			if (text[i] != shape[i])
				return false;
			field++;
			continue;
		}
		if (text[i] < '0' || text[i] > '9')
			return false;
		number[field] = number[field] * 10 + (text[i] - '0');
	}
	month = number[1];
	year = number[0] - (month <= 2);
	if (year < 1969 || month < 1 || month > 12)
		return false;
	yoe = year % 400;
	doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + number[2] - 1;
	days = year / 400 * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
	ms = days * DAY_MS + number[3] * 3600000 + number[4] * 60000 + number[5] * 1000 + number[6];
	/* 30 February, hour 25 and the like convert back to something else. */
	rt_time_format(ms, again);
	if (memcmp(again, text, RT_TIME_TEXT) != 0)
		return false;
	*ret_unix_ms = ms;
	return true;
}

/* ---- numbers ---- */

size_t rt_int_text(int64_t n, char text[RT_INT_TEXT])
{
	uint64_t rest = n < 0 ? -(uint64_t)n : (uint64_t)n;
	size_t length = n < 0, at;

	for (uint64_t left = rest; left >= 10; left /= 10)
		length++;
	at = ++length;
	text[at] = '\0';
	do {
		text[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	if (n < 0)
		text[0] = '-';
	return length;
}

/* ---- digests, buckets and encodings ---- */

void rt_sha256(const void *data, size_t length, uint8_t digest[32])
{
	SHA256(data, length, digest);
}

unsigned int rt_bucket(const char *text, size_t length)
{
	uint32_t hash = 2166136261U;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)text[i]) * 16777619U;
	hash = (hash ^ hash >> 16) * 0x85ebca6bU;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35U;
	return (hash ^ hash >> 16) % RT_BUCKETS;
}

static const char base32_alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

void rt_base32_128(const uint8_t bytes[16], char text[RT_BASE32_128 + 1])
{
	uint32_t bits = 0;
	int count = 0, at = 0;

	for (int i = 0; i < 16; i++) {
		bits = (bits << 8 | bytes[i]) & 0xffff;
		for (count += 8; count >= 5; count -= 5)
			text[at++] = base32_alphabet[bits >> (count - 5) & 31];
	}
	text[at++] = base32_alphabet[bits << (5 - count) & 31];
	text[at] = '\0';
}

/* What a character stands for, and one more; 0: it is none of the alphabet. */
static const unsigned char base32_values[256] = {
	['a'] = 1,  ['b'] = 2,  ['c'] = 3,  ['d'] = 4,  ['e'] = 5,  ['f'] = 6,  ['g'] = 7,
	['h'] = 8,  ['i'] = 9,  ['j'] = 10, ['k'] = 11, ['l'] = 12, ['m'] = 13, ['n'] = 14,
	['o'] = 15, ['p'] = 16, ['q'] = 17, ['r'] = 18, ['s'] = 19, ['t'] = 20, ['u'] = 21,
	['v'] = 22, ['w'] = 23, ['x'] = 24, ['y'] = 25, ['z'] = 26, ['2'] = 27, ['3'] = 28,
	['4'] = 29, ['5'] = 30, ['6'] = 31, ['7'] = 32,
};

bool rt_base32_128_valid(const char *text)
{
	unsigned int last;

	if (text == NULL || strnlen(text, RT_BASE32_128 + 1) != RT_BASE32_128)
		return false;
	for (size_t i = 0; i < RT_BASE32_128 - 1; i++)
		if (base32_values[(unsigned char)text[i]] == 0)
			return false;
	/* 128 bits leave two of the last character's five unused: they are zero, so that one
	 * number has one spelling. */
	last = base32_values[(unsigned char)text[RT_BASE32_128 - 1]];
	return last != 0 && ((last - 1) & 3) == 0;
}

/* So many characters as a number. Sets *bad if one is none of the alphabet. */
static uint64_t read_digits(const char *text, size_t count, bool *bad)
{
	uint64_t number = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned int value = base32_values[(unsigned char)text[i]];

		*bad |= value == 0;
		number = number << 5 | ((value - 1) & 31);
	}
	return number;
}

bool rt_base32_128_read(const char *text, uint8_t bytes[16])
{
	bool bad = strnlen(text, RT_BASE32_128) < RT_BASE32_128;
	uint64_t first = bad ? 0 : read_digits(text, 12, &bad);
	uint64_t second = bad ? 0 : read_digits(text + 12, 12, &bad);
	uint64_t third = bad ? 0 : read_digits(text + 24, 2, &bad);
	uint64_t halves[2] = { __builtin_bswap64(first << 4 | second >> 56),
			       __builtin_bswap64(second << 8 | third >> 2) };

	memcpy(bytes, halves, sizeof(halves));
	return !bad;
}

char rt_base32_letter(unsigned int digit)
{
	return base32_alphabet[digit & 31];
}

int rt_base32_digit(char letter)
{
	return base32_values[(unsigned char)letter] - 1;
}
