/* text.c - decodes UTF-8, and knows the characters that are not printable. */
#include "text.h"

#include <string.h>

size_t rt_utf8_decode(const char *text, size_t length, uint32_t *ret)
{
	static const uint32_t lowest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const uint8_t *s = (const uint8_t *)text;
	size_t count;
	uint32_t c;

	if (length == 0)
		return 0;
	if (s[0] < 0x80) {
		*ret = s[0];
		return 1;
	}
	if (s[0] >= 0xc2 && s[0] < 0xe0) {
		count = 2;
		c = s[0] & 0x1f;
	} else if (s[0] >= 0xe0 && s[0] < 0xf0) {
		count = 3;
		c = s[0] & 0x0f;
	} else if (s[0] >= 0xf0 && s[0] < 0xf5) {
		count = 4;
		c = s[0] & 0x07;
	} else {
		return 0;
	}
	if (count > length)
		return 0;
	for (size_t i = 1; i < count; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < lowest[count] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	*ret = c;
	return count;
}

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS (ONES << 7)

/* Whether eight bytes are characters of ASCII, and none of them is NUL. A byte that is borrowed from has a 0 below it. */
static bool eight_of_ascii(const char *s)
{
	uint64_t word;

	memcpy(&word, s, sizeof(word));
	return ((word | (word - ONES)) & HIGHS) == 0;
}

bool rt_utf8_valid(const void *data, size_t length)
{
	const char *s = data;
	uint32_t c;

	while (length > 0) {
		size_t n = 1;

		/* Nearly everything is ASCII. */
		if (length >= 8 && eight_of_ascii(s)) {
			s += 8;
			length -= 8;
			continue;
		}
		if ((unsigned char)*s >= 0x80)
			n = rt_utf8_decode(s, length, &c);
		else if (*s == '\0')
			n = 0;
		if (n == 0)
			return false;
		s += n;
		length -= n;
	}
	return true;
}

bool rt_character_printable(uint32_t character)
{
	static const struct {
		uint32_t first, last;
	} hidden[] = {
		{ 0x7f, 0x9f },     { 0xad, 0xad },       { 0x61c, 0x61c },   { 0x180e, 0x180e },
		{ 0x200b, 0x200f }, { 0x2028, 0x202e },   { 0x2060, 0x206f }, { 0xfeff, 0xfeff },
		{ 0xfff9, 0xfffb }, { 0xe0000, 0xe007f },
	};

	if (character < 0x7f)
		return character >= 0x20;
	for (size_t i = 0; i < RT_LENGTH(hidden) && character >= hidden[i].first; i++) {
		if (character <= hidden[i].last)
			return false;
	}
	return true;
}

bool rt_text_printable(const char *text, uint32_t *reterr)
{
	size_t length = strlen(text);

	while (length > 0) {
		uint32_t c = 0xfffd;
		size_t n = rt_utf8_decode(text, length, &c);

		if (n == 0 || !rt_character_printable(c)) {
			if (reterr != NULL)
				*reterr = c;
			return false;
		}
		text += n;
		length -= n;
	}
	return true;
}

/* How many characters of ASCII it begins with that are printable: most often all. */
static size_t plain_length(const char *text, size_t length)
{
	size_t n = 0;

	while (n < length && text[n] >= ' ' && text[n] <= '~')
		n++;
	return n;
}

char *rt_text_shown(const char *text, size_t length)
{
	struct rt_buf shown = { 0 };

	while (length > 0) {
		uint32_t c;
		size_t plain = plain_length(text, length);
		size_t n = plain > 0 ? plain : rt_utf8_decode(text, length, &c);

		if (plain > 0 || (n > 0 && rt_character_printable(c))) {
			rt_buf_add(&shown, text, n);
		} else {
			n = RT_MAX(n, (size_t)1);
			for (size_t i = 0; i < n; i++)
				rt_buf_printf(&shown, "\\x%02x", (unsigned char)text[i]);
		}
		text += n;
		length -= n;
	}
	rt_buf_add(&shown, "", 0);
	return shown.data;
}
