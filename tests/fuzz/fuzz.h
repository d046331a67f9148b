/* fuzz.h - what the fuzzers share: bytes taken from the input, and checks of every text.
 *
 * A fuzzer takes what it needs from its input, in order; at the end of the input it gets zeros. A check
 * that fails ends with a trap, which libFuzzer reports with the input. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define FUZZ_MUST(condition)                                                                       \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__,           \
				#condition);                                                       \
			__builtin_trap();                                                          \
		}                                                                                  \
	} while (0)

struct fuzz {
	const uint8_t *at, *end;
};

static inline uint8_t fuzz_byte(struct fuzz *fuzz)
{
	return fuzz->at < fuzz->end ? *fuzz->at++ : 0;
}

/* A byte with the length (after 255 another), then the bytes. Points into the input. */
static inline const char *fuzz_bytes(struct fuzz *fuzz, size_t *ret_length)
{
	size_t length = fuzz_byte(fuzz);
	const char *bytes;

	if (length == 255)
		length += (size_t)fuzz_byte(fuzz) * 16;
	length = RT_MIN(length, (size_t)(fuzz->end - fuzz->at));
	bytes = (const char *)fuzz->at;
	fuzz->at += length;
	*ret_length = length;
	return bytes;
}

/* The same with a NUL behind it; freed by the caller. */
static inline char *fuzz_text(struct fuzz *fuzz, size_t *ret_length)
{
	size_t length;
	const char *bytes = fuzz_bytes(fuzz, &length);
	char *text = rt_alloc(length + 1);

	memcpy(text, bytes, length);
	if (ret_length != NULL)
		*ret_length = length;
	return text;
}

static inline int64_t fuzz_int(struct fuzz *fuzz)
{
	static const int64_t edges[] = {
		0, 1, -1, INT64_MAX, INT64_MIN, UINT32_MAX, 1764000000000
	};
	uint64_t n = 0;
	uint8_t kind = fuzz_byte(fuzz);

	if (kind < RT_LENGTH(edges))
		return edges[kind];
	for (int i = 0; i < 8 && kind >= 128; i++)
		n = n << 8 | fuzz_byte(fuzz);
	return kind < 128 ? kind : (int64_t)n;
}

/* Output for people: whole lines of printable UTF-8. */
static inline void fuzz_check_shown(char *text)
{
	for (char *line = text, *end; *line != '\0'; line = end + 1) {
		end = line + strcspn(line, "\n");
		FUZZ_MUST(*end == '\n');
		*end = '\0';
		FUZZ_MUST(rt_text_printable(line, NULL));
	}
}

/* Output of --json: one value per line, in pure ASCII. */
static inline void fuzz_check_json(char *text)
{
	for (char *line = text, *end; *line != '\0'; line = end + 1) {
		json_t *json;

		end = line + strcspn(line, "\n");
		FUZZ_MUST(*end == '\n');
		*end = '\0';
		for (const char *c = line; *c != '\0'; c++)
			FUZZ_MUST(*c >= 0x20 && *c < 0x7f);
		json = json_loads(line, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		if (json == NULL)
			fprintf(stderr, "not JSON: %s\n", line);
		FUZZ_MUST(json != NULL);
		json_decref(json);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
