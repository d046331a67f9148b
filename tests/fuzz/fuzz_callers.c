/* fuzz_callers.c - the callers file. What is read is found again by its key or name, and is the same when it is written and
 * read once more; what is refused names a line that there is, in printable text. */
#include "auth/auth_internal.h"
#include "fuzz.h"

static size_t lines(const char *text, size_t length)
{
	size_t count = 1;

	for (size_t i = 0; i < length; i++)
		count += text[i] == '\n';
	return count;
}

static void check_error(struct rt_buf *error, const char *text, size_t length)
{
	unsigned int line = 0;

	FUZZ_MUST(sscanf(error->data, "file:%u: ", &line) == 1);
	FUZZ_MUST(line >= 1 && line <= lines(text, length));
	FUZZ_MUST(rt_text_printable(error->data, NULL));
}

static void check_row(const struct auth_callers *callers, const struct auth_caller_row *row)
{
	const struct rt_auth_caller *caller = &row->caller;

	FUZZ_MUST(caller->role > RT_ROLE_ANONYMOUS && caller->role < RT_ROLES);
	FUZZ_MUST(auth_text_fits(caller->name, RT_IDENTITY_NAME));
	FUZZ_MUST((caller->owner[0] != '\0') == (caller->role == RT_ROLE_CUSTOMER));
	FUZZ_MUST(caller->owner[0] == '\0' || auth_text_fits(caller->owner, RT_IDENTITY_OWNER));
	if (caller->way == RT_AUTH_KEY)
		FUZZ_MUST(auth_callers_key(callers, row->digest) == caller);
	else
		FUZZ_MUST(auth_callers_certificate(callers, caller->name) == caller);
}

static void write_row(struct rt_buf *text, const struct auth_caller_row *row)
{
	const struct rt_auth_caller *caller = &row->caller;
	char expires[RT_TIME_TEXT];

	if (caller->way == RT_AUTH_KEY) {
		rt_buf_printf(text, "key sha256:");
		for (size_t i = 0; i < sizeof(row->digest); i++)
			rt_buf_printf(text, "%02x", row->digest[i]);
	} else {
		rt_buf_printf(text, "cert");
	}
	rt_buf_printf(text, " \"%s\" %s", caller->name, rt_role_name(caller->role));
	if (caller->owner[0] != '\0')
		rt_buf_printf(text, " customer_id=\"%s\"", caller->owner);
	if (caller->expires_ms != INT64_MAX) {
		rt_time_format(caller->expires_ms, expires);
		rt_buf_printf(text, " expires=%.19sZ", expires);
	}
	rt_buf_printf(text, "\n");
}

static void check_again(const struct auth_callers *callers)
{
	struct rt_buf text = { 0 }, error = { 0 };
	struct auth_callers *again;

	rt_buf_add(&text, "", 0);
	for (size_t i = 0; i < callers->count; i++)
		write_row(&text, &callers->rows[i]);
	FUZZ_MUST(auth_callers_parse("file", text.data, text.length, &again, &error) == RT_OK);
	FUZZ_MUST(again->count == callers->count && again->key_count == callers->key_count);
	for (size_t i = 0; i < callers->count; i++) {
		const struct auth_caller_row *a = &callers->rows[i], *b = &again->rows[i];

		FUZZ_MUST(memcmp(a->digest, b->digest, sizeof(a->digest)) == 0);
		FUZZ_MUST(a->caller.way == b->caller.way && a->caller.role == b->caller.role &&
			  a->caller.expires_ms == b->caller.expires_ms);
		FUZZ_MUST(strcmp(a->caller.name, b->caller.name) == 0 &&
			  strcmp(a->caller.owner, b->caller.owner) == 0);
	}
	auth_callers_free(again);
	rt_buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rt_buf error = { 0 };
	struct auth_callers *callers;
	char *text = rt_alloc(size + 1);

	if (size > 0)
		memcpy(text, data, size);
	if (auth_callers_parse("file", text, size, &callers, &error) == RT_OK) {
		FUZZ_MUST(error.length == 0);
		for (size_t i = 0; i < callers->count; i++)
			check_row(callers, &callers->rows[i]);
		check_again(callers);
		auth_callers_free(callers);
	} else {
		check_error(&error, text, size);
	}
	rt_buf_done(&error);
	free(text);
	return 0;
}
