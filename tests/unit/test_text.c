/* Text from outside: decoding, which characters are printable, and how others are shown. */
#include "base/base.h"

#include <string.h>

#include "run.h"

/* Encodes a number as UTF-8 would, whether it is a character or not. */
static size_t encode(uint32_t c, char text[5])
{
	size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char first[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

	text[length] = '\0';
	for (size_t i = length - 1; i > 0; i--, c >>= 6)
		text[i] = (char)(0x80 | (c & 0x3f));
	text[0] = (char)(first[length] | c);
	return length;
}

/* Every character is decoded as itself; other numbers are refused. */
static void every_character(void)
{
	for (uint32_t c = 0; c < 0x120000; c++) {
		bool is = c < 0x110000 && (c < 0xd800 || c > 0xdfff);
		char text[5];
		size_t length = encode(c, text);
		uint32_t decoded = 0;

		if (rt_utf8_decode(text, length, &decoded) != (is ? length : 0) ||
		    (is && decoded != c) || rt_utf8_valid(text, length) != (is && c != 0) ||
		    (length > 1 && rt_utf8_decode(text, length - 1, &decoded) != 0)) {
			printf("\n    U+%04X", c);
			CU_FAIL_FATAL("is decoded wrongly");
		}
	}
}

/* A byte that is wrong is found wherever it stands, and a character that is right is, between any others. */
static void every_byte_of_a_longer_text(void)
{
	for (int fill = 1; fill < 0x80; fill += 0x3f) {
		for (size_t at = 0; at < 24; at++) {
			char text[26];

			for (int byte = 0; byte < 0x100; byte++) {
				memset(text, fill, sizeof(text));
				text[at] = (char)byte;
				if (rt_utf8_valid(text, 24) != (byte > 0 && byte < 0x80)) {
					printf("\n    byte %d at %zu of 24", byte, at);
					CU_FAIL_FATAL("is taken wrongly");
				}
			}
			memset(text, fill, sizeof(text));
			memcpy(text + at, "\xc3\xa4", 2);
			CU_ASSERT_TRUE_FATAL(rt_utf8_valid(text, at + 2));
			CU_ASSERT_TRUE_FATAL(rt_utf8_valid(text, sizeof(text)));
			CU_ASSERT_FALSE_FATAL(rt_utf8_valid(text, at + 1));
		}
	}
}

/* Shown text is printable, and the same when shown again; printable text is not changed. */
static void every_character_shown(void)
{
	for (uint32_t c = 0; c < 0x120000; c++) {
		char text[5];
		size_t length = encode(c, text);
		char *shown = rt_text_shown(text, length);
		char *again = rt_text_shown(shown, strlen(shown));
		bool printable = c > 0 && rt_text_printable(text, NULL);

		if (!rt_text_printable(shown, NULL) || strcmp(shown, again) != 0 ||
		    (strcmp(shown, text) == 0) != printable) {
			printf("\n    U+%04X: %s", c, shown);
			CU_FAIL_FATAL("is shown wrongly");
		}
		free(shown);
		free(again);
	}
}

static void printable(void)
{
	static const struct {
		const char *text;
		uint32_t hidden; /* 0: printable */
	} rows[] = {
		{ "", 0 },
		{ "plain ~", 0 },
		{ "ä€😀", 0 },
		{ "tab\t", '\t' },
		{ "del\x7f", 0x7f },
		{ "next line \xc2\x85", 0x85 },
		{ "a\xe2\x80\xae", 0x202e },
		{ "a\xe2\x80\xab\xe2\x80\xac", 0x202b },
		{ "\xef\xbb\xbf"
		  "a",
		  0xfeff },
		{ "\xf3\xa0\x80\xa0", 0xe0020 },
		{ "\xff", 0xfffd },
		{ "\xf4\x90\x80\x80", 0xfffd },         /* above U+10FFFF */
		{ "\xed\xa0\xbd\xed\xb8\x80", 0xfffd }, /* a pair of surrogates */
		{ "cut\xe2\x80", 0xfffd },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		uint32_t hidden = 0;

		TEST_ROW(rt_text_printable(rows[i].text, &hidden) == (rows[i].hidden == 0),
			 rows[i].text);
		TEST_ROW(hidden == rows[i].hidden, rows[i].text);
	}
	/* NUL is a character, too, where there is a length. */
	CU_ASSERT_FALSE(rt_character_printable(0));
}

static const struct test tests[] = {
	{ "every character is decoded", every_character },
	{ "every byte of a longer text", every_byte_of_a_longer_text },
	{ "every character is shown harmlessly", every_character_shown },
	{ "printable text", printable },
};

TESTS_MAIN("text", tests)
