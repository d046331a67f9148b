/* questions.h - what the page may ask, and the words of tandemctl for each: fixed tables. What comes from outside is
 * one value of a known kind each, checked here, and given as --option=value, or behind "--". No I/O. */
#ifndef CONSOLE_QUESTIONS_H
#define CONSOLE_QUESTIONS_H

#include "base/base.h"

enum right {
	RIGHT_LOOK,  /* whoever sees the page */
	RIGHT_CHECK, /* the same; who has signed in asks Redis as that operator, and learns more */
	RIGHT_OPERATE, /* who has signed in */
};

/* Of which kind a value is; its bounds are those of the contract. */
enum kind {
	KIND_TEXT,    /* 1 to 128 printable characters: a customer, an order */
	KIND_WHY,     /* 1 to 256 printable bytes */
	KIND_SKU,     /* [A-Za-z0-9._-]{1,64} */
	KIND_STATUS,  /* of an order: letters */
	KIND_NUMBER,  /* 1 to 10000 */
	KIND_TOKEN,   /* of a page */
	KIND_ENTRY,   /* "1764000000123-0", "3/1764000000123-0" */
	KIND_CONTEXT, /* letters */
	KIND_TIME,    /* "2026-11-23T01:02:03.004Z" */
	KIND_LABEL,   /* "shop=north": printable, the key 1 to 64 bytes, the value at most 256 */
	KIND_FLAG,    /* "true": the option is given; "": it is not */
};

struct parameter {
	const char *name;
	const char *option; /* "--limit="; NULL: an argument of its own, behind "--" */
	enum kind kind;
	bool required;
};

#define QUESTION_WORDS 6
#define QUESTION_ASKS  9
struct question {
	const char *path; /* "/api/orders" */
	enum right right; /* RIGHT_OPERATE: asked by POST, others by GET */
	int64_t deadline_ms;
	const char *words[QUESTION_WORDS];          /* ends with NULL */
	struct parameter parameters[QUESTION_ASKS]; /* ends with a NULL name */
};

extern const struct question questions[];
extern const size_t question_count;
/* NULL: there is no such path. */
const struct question *question_find(const char *path);

/* The words for tandemctl, allocated in `arena`, which end with NULL; `login` (ends with NULL) are those that say as whom
 * it asks. `value_of` gives a parameter's value; NULL: none. NULL: *error says what is wrong with which value. */
const char *const *question_words(const struct question *question, const char *const *login,
				  const char *(*value_of)(void *user, const char *name), void *user,
				  struct rt_arena *arena, struct rt_buf *error);

#endif
