/* base64url.c - see rt.h. OpenSSL's decoder takes blanks, padding and left-over bits, and so several spellings
 * of the same bytes. */
#include "rt.h"

/* What a character stands for, and one more; 0: it is none of the alphabet. */
static unsigned int value_of(char c, bool both)
{
	if (c >= 'A' && c <= 'Z')
		return (unsigned int)(c - 'A') + 1;
	if (c >= 'a' && c <= 'z')
		return (unsigned int)(c - 'a') + 27;
	if (c >= '0' && c <= '9')
		return (unsigned int)(c - '0') + 53;
	if (both && (c == '+' || c == '/'))
		return c == '+' ? 63 : 64;
	return c == '-' ? 63 : c == '_' ? 64 : 0;
}

static bool decode(const char *text, size_t length, bool both, uint8_t *ret, size_t *ret_length)
{
	unsigned int bits = 0, count = 0;
	size_t at = 0;

	if (length % 4 == 1)
		return false;
	for (size_t i = 0; i < length; i++) {
		unsigned int value = value_of(text[i], both);

		if (value == 0)
			return false;
		bits = (bits << 6 | (value - 1)) & 0xffff;
		count += 6;
		if (count >= 8) {
			count -= 8;
			ret[at++] = (uint8_t)(bits >> count);
		}
	}
	if ((bits & ((1U << count) - 1)) != 0)
		return false;
	*ret_length = at;
	return true;
}

bool rt_base64url_decode(const char *text, size_t length, uint8_t *ret, size_t *ret_length)
{
	return decode(text, length, false, ret, ret_length);
}

bool rt_base64_decode(const char *text, size_t length, uint8_t *ret, size_t *ret_length)
{
	size_t padding = 0;

	while (padding < 2 && padding < length && text[length - padding - 1] == '=')
		padding++;
	if (padding > 0 && length % 4 != 0)
		return false;
	return decode(text, length - padding, true, ret, ret_length);
}
