/* callers.c - the callers file: who has which API key, and whose certificate is whose. A caller a line:
 *
 *   # what follows a word that begins with '#' is a comment
 *   key sha256:<64 hexadecimal digits> shop-7 customer customer_id=cust_7 expires=2027-01-01
 *   cert URI:spiffe://tandem/gateway gateway
 *   cert "CN:Shop Seven" customer customer_id="customer 7"
 *
 * Words are separated by blanks; blanks between double quotes belong to the word, and a double quote itself cannot be
 * written. What is not understood is an error: a caller that was left out, or is somebody else than was meant, would be
 * noticed too late.
 *
 * Keys are 256 random bits, so their plain SHA-256 can stand in a file: there is nothing to guess, and a slow hash or a salt
 * would add nothing. Keys that people think of would need both, so only those of rt_auth_key_new's form are looked up.
 *
 * Looking up: by the first 8 bytes of the digest, then the whole in constant time. What the search takes depends on the
 * digests alone. A digest says nothing about its key, and nobody finds a key for the beginning of a digest that
 * timing might give away: it would have to be one of the 2^256 keys with this very digest, not with one that begins like it. */
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "auth_internal.h"

#define WORDS_MAX  6
#define OWNER_WORD "customer_id="
#define UNTIL_WORD "expires="
#define KEY_PREFIX "tandem_"
#define KEY_HALVES 2 /* of 16 random bytes each */

struct reading {
	struct auth_callers *callers;
	size_t capacity;
	const char *file;
	unsigned int line;
	struct rt_buf *error;
	char *words[WORDS_MAX];
	size_t word_count;
};

static bool RT_PRINTF(2, 3) refuse(const struct reading *reading, const char *format, ...)
{
	char text[400], *shown;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	shown = rt_text_shown(text, strlen(text));
	rt_buf_printf(reading->error, "%s:%u: %s", reading->file, reading->line, shown);
	free(shown);
	return false;
}

/* ---- a line's words ---- */

static bool split(struct reading *reading, char *text)
{
	char *from = text, *to;

	reading->word_count = 0;
	for (;;) {
		bool quoted = false;

		from += strspn(from, " ");
		if (*from == '\0' || *from == '#')
			return true;
		if (reading->word_count == WORDS_MAX)
			return refuse(reading, "more than %d words", WORDS_MAX);
		reading->words[reading->word_count++] = from;
		for (to = from; *from != '\0' && (quoted || *from != ' '); from++) {
			if (*from == '"')
				quoted = !quoted;
			else
				*to++ = *from;
		}
		if (quoted)
			return refuse(reading, "a double quote is not closed");
		if (*from != '\0')
			from++;
		*to = '\0';
	}
}

/* A date, whose day is not part any more, or a second. */
static bool parse_until(const char *text, int64_t *ret_ms)
{
	char full[RT_TIME_TEXT + 16];

	if (strlen(text) == strlen("2027-01-01"))
		snprintf(full, sizeof(full), "%sT00:00:00.000Z", text);
	else if (strlen(text) == strlen("2027-01-01T00:00:00Z") && text[19] == 'Z')
		snprintf(full, sizeof(full), "%.19s.000Z", text);
	else
		return false;
	return rt_time_parse(full, ret_ms);
}

static bool read_option(const struct reading *reading, const char *word,
			struct rt_auth_caller *caller)
{
	if (strncmp(word, OWNER_WORD, strlen(OWNER_WORD)) == 0 && caller->owner == NULL) {
		caller->owner = word + strlen(OWNER_WORD);
		return auth_text_fits(caller->owner, RT_IDENTITY_OWNER) ||
		       refuse(reading, "%.60s… is not 1 to %d bytes of printable text", word,
			      RT_IDENTITY_OWNER - 1);
	}
	if (strncmp(word, UNTIL_WORD, strlen(UNTIL_WORD)) == 0 && caller->expires_ms == INT64_MAX)
		return parse_until(word + strlen(UNTIL_WORD), &caller->expires_ms) ||
		       refuse(reading,
			      "%.60s is not a time such as 2027-01-01 or 2027-01-01T12:00:00Z",
			      word);
	return refuse(reading, "'%.60s' does not belong here, or stands here twice", word);
}

/* A role and the options, from the word `at` on. */
static bool read_rest(const struct reading *reading, size_t at, struct rt_auth_caller *caller)
{
	const char *role = reading->words[at];

	if (!rt_role_parse(role, strlen(role), &caller->role) || caller->role == RT_ROLE_ANONYMOUS)
		return refuse(reading, "'%.60s' is not a role that can be given", role);
	for (size_t i = at + 1; i < reading->word_count; i++)
		if (!read_option(reading, reading->words[i], caller))
			return false;
	if (caller->role == RT_ROLE_CUSTOMER && caller->owner == NULL)
		return refuse(reading, "a customer needs " OWNER_WORD "…");
	if (caller->role != RT_ROLE_CUSTOMER && caller->owner != NULL)
		return refuse(reading, OWNER_WORD " belongs to the role customer alone");
	if (caller->owner == NULL)
		caller->owner = "";
	return true;
}

/* ---- the two kinds of lines ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_digest(const char *text, uint8_t digest[32])
{
	if (strncmp(text, "sha256:", 7) != 0 || strlen(text + 7) != 64)
		return false;
	for (size_t i = 0; i < 32; i++) {
		int high = hex_value(text[7 + 2 * i]), low = hex_value(text[8 + 2 * i]);

		if (high < 0 || low < 0)
			return false;
		digest[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool read_key(const struct reading *reading, struct auth_caller_row *row)
{
	row->caller.way = RT_AUTH_KEY;
	if (reading->word_count < 4)
		return refuse(reading,
			      "a key has at least: key sha256:<64 hexadecimal digits> NAME ROLE");
	if (!parse_digest(reading->words[1], row->digest))
		return refuse(reading, "the second word is not sha256: and 64 digits of 0-9 a-f");
	row->caller.name = reading->words[2];
	if (!auth_text_fits(row->caller.name, RT_IDENTITY_NAME))
		return refuse(reading, "the name is not 1 to %d bytes of printable text",
			      RT_IDENTITY_NAME - 1);
	return read_rest(reading, 3, &row->caller);
}

static bool read_certificate(const struct reading *reading, struct auth_caller_row *row)
{
	static const char *const kinds[] = { "CN:", "DNS:", "URI:", "email:" };
	bool good = false;

	row->caller.way = RT_AUTH_CERTIFICATE;
	if (reading->word_count < 3)
		return refuse(reading, "a certificate has at least: cert NAME ROLE");
	row->caller.name = reading->words[1];
	for (size_t i = 0; i < RT_LENGTH(kinds); i++)
		good = good || (strncmp(row->caller.name, kinds[i], strlen(kinds[i])) == 0 &&
				row->caller.name[strlen(kinds[i])] != '\0');
	if (!good || !auth_text_fits(row->caller.name, RT_IDENTITY_NAME))
		return refuse(reading,
			      "the second word is not CN:, DNS:, URI: or email: and a name, of at "
			      "most %d bytes together",
			      RT_IDENTITY_NAME - 1);
	return read_rest(reading, 2, &row->caller);
}

static bool read_line(struct reading *reading, const char *text, size_t length)
{
	struct auth_callers *callers = reading->callers;
	char *copy = rt_arena_copy(&callers->texts, text, length);
	struct auth_caller_row row = { .caller = { .expires_ms = INT64_MAX,
						   .line = reading->line } };
	uint32_t hidden;
	bool good;

	if (strlen(copy) != length)
		return refuse(reading, "holds a NUL byte");
	for (char *tab = copy; (tab = strchr(tab, '\t')) != NULL;)
		*tab = ' ';
	if (!rt_text_printable(copy, &hidden)) /* or a comment might hide a line */
		return refuse(reading, "holds U+%04X, which is not printable", hidden);
	if (!split(reading, copy))
		return false;
	if (reading->word_count == 0)
		return true;
	if (strcmp(reading->words[0], "key") == 0)
		good = read_key(reading, &row);
	else if (strcmp(reading->words[0], "cert") == 0)
		good = read_certificate(reading, &row);
	else
		good = refuse(reading, "begins with neither key nor cert: '%.60s'",
			      reading->words[0]);
	if (!good)
		return false;
	callers->rows = rt_grow(callers->rows, callers->count, &reading->capacity, sizeof(row));
	callers->rows[callers->count++] = row;
	callers->key_count += row.caller.way == RT_AUTH_KEY ? 1 : 0;
	return true;
}

/* ---- the whole ---- */

static int compare_digests(const void *a, const void *b)
{
	return memcmp(((const struct auth_caller_row *)a)->digest,
		      ((const struct auth_caller_row *)b)->digest, AUTH_DIGEST_BEGIN);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct auth_caller_row *)a)->caller.name,
		      ((const struct auth_caller_row *)b)->caller.name);
}

static int compare_rows(const void *a, const void *b)
{
	const struct auth_caller_row *left = a, *right = b;

	if (left->caller.way != right->caller.way)
		return left->caller.way == RT_AUTH_KEY ? -1 : 1;
	return left->caller.way == RT_AUTH_KEY ? compare_digests(a, b) : compare_names(a, b);
}

/* By name, and those of the same name by line. */
static int compare_names_lines(const void *a, const void *b)
{
	const struct rt_auth_caller *left = &((const struct auth_caller_row *)a)->caller;
	const struct rt_auth_caller *right = &((const struct auth_caller_row *)b)->caller;
	int order = strcmp(left->name, right->name);

	return order != 0 ? order : (left->line > right->line) - (left->line < right->line);
}

/* Two keys may have one name, so that a key can be replaced without a gap; but then they are one caller. */
static bool names_good(struct reading *reading)
{
	struct auth_callers *callers = reading->callers;

	qsort(callers->rows, callers->count, sizeof(callers->rows[0]), compare_names_lines);
	for (size_t i = 1; i < callers->count; i++) {
		const struct rt_auth_caller *a = &callers->rows[i - 1].caller;
		const struct rt_auth_caller *b = &callers->rows[i].caller;

		if (strcmp(a->name, b->name) != 0)
			continue;
		reading->line = b->line;
		if (a->way != b->way || a->role != b->role || strcmp(a->owner, b->owner) != 0)
			return refuse(reading, "'%s' is somebody else on line %u", b->name,
				      a->line);
		if (b->way == RT_AUTH_CERTIFICATE)
			return refuse(reading, "'%s' stands on line %u, too", b->name, a->line);
	}
	return true;
}

static bool digests_good(struct reading *reading)
{
	struct auth_callers *callers = reading->callers;

	qsort(callers->rows, callers->count, sizeof(callers->rows[0]), compare_rows);
	for (size_t i = 1; i < callers->key_count; i++) {
		const struct auth_caller_row *a = &callers->rows[i - 1], *b = &callers->rows[i];

		reading->line = RT_MAX(a->caller.line, b->caller.line);
		if (compare_digests(a, b) == 0)
			return refuse(reading, "the same key stands on line %u",
				      RT_MIN(a->caller.line, b->caller.line));
	}
	return true;
}

int auth_callers_parse(const char *file, const char *text, size_t length, struct auth_callers **ret,
		       struct rt_buf *error)
{
	struct reading reading = { .callers = rt_alloc(sizeof(struct auth_callers)),
				   .file = file,
				   .error = error };
	const char *end = text + length;
	bool good = true;

	while (text < end && good) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *line_end = newline != NULL ? newline : end;

		reading.line++;
		good = read_line(&reading, text, (size_t)(line_end - text));
		text = newline != NULL ? newline + 1 : end;
	}
	/* Nothing to compare is no list for qsort. */
	if (!good ||
	    (reading.callers->count > 0 && (!names_good(&reading) || !digests_good(&reading)))) {
		auth_callers_free(reading.callers);
		return RT_INVALID;
	}
	*ret = reading.callers;
	return RT_OK;
}

void auth_callers_free(struct auth_callers *callers)
{
	if (callers == NULL)
		return;
	free(callers->rows);
	rt_arena_done(&callers->texts);
	free(callers);
}

/* ---- looking up ---- */

const struct rt_auth_caller *auth_callers_key(const struct auth_callers *callers,
					      const uint8_t digest[32])
{
	struct auth_caller_row wanted = { .caller = { .name = "" } };
	const struct auth_caller_row *found;

	if (callers->key_count == 0)
		return NULL;
	memcpy(wanted.digest, digest, sizeof(wanted.digest));
	found = bsearch(&wanted, callers->rows, callers->key_count, sizeof(wanted),
			compare_digests);
	if (found == NULL || CRYPTO_memcmp(found->digest, digest, sizeof(found->digest)) != 0)
		return NULL;
	return &found->caller;
}

const struct rt_auth_caller *auth_callers_certificate(const struct auth_callers *callers,
						      const char *name)
{
	const struct auth_caller_row wanted = { .caller = { .name = name } };
	const struct auth_caller_row *found;

	if (callers->count == callers->key_count)
		return NULL;
	found = bsearch(&wanted, callers->rows + callers->key_count,
			callers->count - callers->key_count, sizeof(wanted), compare_names);
	return found == NULL ? NULL : &found->caller;
}

/* ---- keys ---- */

bool auth_key_digest(const char *key, size_t length, uint8_t digest[32])
{
	const char *half = key + strlen(KEY_PREFIX);

	if (length != RT_AUTH_KEY_TEXT - 1 || memcmp(key, KEY_PREFIX, strlen(KEY_PREFIX)) != 0)
		return false;
	for (int i = 0; i < KEY_HALVES; i++, half += RT_BASE32_128) {
		char text[RT_BASE32_128 + 1] = "";
		bool good;

		memcpy(text, half, RT_BASE32_128);
		good = rt_base32_128_valid(text);
		explicit_bzero(text, sizeof(text));
		if (!good)
			return false;
	}
	rt_sha256(key, length, digest);
	return true;
}

static void add_word(struct rt_buf *line, const char *before, const char *word)
{
	const char *quote = strpbrk(word, " #") != NULL ? "\"" : "";

	rt_buf_printf(line, " %s%s%s%s", before, quote, word, quote);
}

int rt_auth_key_new(const char *name, enum rt_role role, const char *owner, const char *expires,
		    char key[RT_AUTH_KEY_TEXT], struct rt_buf *line, struct rt_buf *error)
{
	uint8_t bytes[KEY_HALVES * 16], digest[32];
	struct rt_buf made = { 0 };
	struct auth_callers *callers;
	int rc;

	if (RAND_priv_bytes(bytes, sizeof(bytes)) != 1) {
		rt_buf_printf(error, "there are no random numbers");
		return RT_SYSTEM;
	}
	memcpy(key, KEY_PREFIX, sizeof(KEY_PREFIX));
	for (size_t i = 0; i < KEY_HALVES; i++)
		rt_base32_128(bytes + 16 * i, key + strlen(KEY_PREFIX) + i * RT_BASE32_128);
	explicit_bzero(bytes, sizeof(bytes));
	rt_sha256(key, strlen(key), digest);
	rt_buf_printf(&made, "key sha256:");
	for (size_t i = 0; i < sizeof(digest); i++)
		rt_buf_printf(&made, "%02x", digest[i]);
	add_word(&made, "", name);
	add_word(&made, "", rt_role_name(role));
	if (owner != NULL)
		add_word(&made, OWNER_WORD, owner);
	if (expires != NULL)
		add_word(&made, UNTIL_WORD, expires);
	/* Whatever the texts hold: the line is good if it says what it shall. */
	rc = auth_callers_parse("the line", made.data, made.length, &callers, error);
	if (rc == RT_OK) {
		const struct rt_auth_caller *caller = auth_callers_key(callers, digest);

		if (callers->count != 1 || caller == NULL || strcmp(caller->name, name) != 0 ||
		    strcmp(caller->owner, owner != NULL ? owner : "") != 0) {
			rt_buf_printf(error, "a text holds what cannot be written: a double quote");
			rc = RT_INVALID;
		}
		auth_callers_free(callers);
	}
	if (rc == RT_OK)
		rt_buf_add(line, made.data, made.length);
	else
		explicit_bzero(key, RT_AUTH_KEY_TEXT);
	rt_buf_done(&made);
	return rc;
}
