/* text.h - text from outside: whether it is UTF-8, and whether a person sees it as what it is.
 *
 * Printable is every character but those that cannot be seen, or that move or hide what stands
 * beside them:
 *
 *   U+0000-001F, 007F-009F   control characters
 *   U+00AD, 180E, 200B-200D, 2060-2065, FEFF
 *                            without a width
 *   U+061C, 200E-200F, 202A-202E, 2066-206F
 *                            marks of the direction of writing, and what became of them
 *   U+2028-2029              ends of lines and paragraphs
 *   U+FFF9-FFFB              marks of annotations
 *   U+E0000-E007F            tags
 *
 * The contract uses "printable" in this sense. Log lines, error messages, metrics and the output of
 * tandemctl all go through rt_text_shown. */
#ifndef RT_TEXT_H
#define RT_TEXT_H

#include "rt.h"

/* The character of RFC 3629 at the start of `text`: no surrogate, nothing overlong, nothing above
 * U+10FFFF. Returns how many bytes it takes; 0: there is none. */
size_t rt_utf8_decode(const char *text, size_t length, uint32_t *ret);
/* Valid UTF-8 by RFC 3629 without NUL. */
bool rt_utf8_valid(const void *data, size_t length);
bool rt_character_printable(uint32_t character);
/* UTF-8 of printable characters only. Else *reterr (may be NULL) is the first character that is not
 * printable, U+FFFD for bytes that are none. */
bool rt_text_printable(const char *text, uint32_t *reterr);
/* A copy to be shown, freed by the caller: the bytes of what is not printable as \xNN. It is UTF-8,
 * and the same again when it is copied so once more. */
char *rt_text_shown(const char *text, size_t length);

#endif
