/* contexts.c - the table of contexts, made from the file contexts at the top; and those of others, as they are found. */
#include <string.h>

#include "base/base.h"
#include "ctl.h"

#define NAME_MAX_BYTES 64

#define FUNCTIONS(name, NAME) extern const struct rt_functions name##_functions;
TANDEM_CONTEXTS(FUNCTIONS)

#define CONTEXT(name, NAME) { #name, &name##_functions, "TANDEM_" #NAME "_LISTEN", NAME##_LISTEN },
const struct ctl_context ctl_contexts[CTL_CONTEXTS] = { TANDEM_CONTEXTS(CONTEXT) };
#define READER(reader, of) { #reader, #of },
const struct ctl_reader ctl_readers[CTL_READERS] = { TANDEM_READERS(READER) };

const struct ctl_context *ctl_context_find(const char *name)
{
	for (size_t i = 0; i < CTL_CONTEXTS; i++)
		if (strcmp(name, ctl_contexts[i].name) == 0)
			return &ctl_contexts[i];
	return NULL;
}

bool ctl_context_follows(const char *name)
{
	return strcmp(name, "archive") == 0;
}

char *ctl_context_names(void)
{
	char *names = rt_strdup(ctl_contexts[0].name);

	for (size_t i = 1; i < CTL_CONTEXTS; i++) {
		char *longer = rt_printf("%s%s%s", names, i + 1 < CTL_CONTEXTS ? ", " : " or ",
					 ctl_contexts[i].name);

		free(names);
		names = longer;
	}
	return names;
}

/* ---- contexts of others ---- */

bool ctl_context_may_be(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return name[0] >= 'a' && name[0] <= 'z' && name[length] == '\0' && length <= NAME_MAX_BYTES;
}

static void add_other(struct ctl *ctl, const char *name)
{
	if (!ctl_context_may_be(name) || ctl_context_find(name) != NULL)
		return;
	for (size_t i = 0; i < ctl->other_count; i++)
		if (strcmp(ctl->others[i], name) == 0)
			return;
	ctl->others = rt_realloc(ctl->others, (ctl->other_count + 1) * sizeof(*ctl->others));
	ctl->others[ctl->other_count++] = rt_strdup(name);
}

bool ctl_contexts_read(struct ctl *ctl)
{
	if (ctl->others_known)
		return true;
	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		char key[CTL_KEY];
		redisReply *groups;

		ctl_key(key, ctl_contexts[i].name, 0, "events");
		groups = ctl_redis_try(ctl, "XINFO", "GROUPS", key); /* an error: no stream yet */
		if (groups == NULL)
			return false;
		for (size_t g = 0; groups->type == REDIS_REPLY_ARRAY && g < groups->elements; g++)
			add_other(ctl, ctl_text(ctl_named(groups->element[g], "name"), ""));
		freeReplyObject(groups);
	}
	ctl->others_known = true;
	return true;
}

const char *ctl_context_name(const struct ctl *ctl, const char *only, size_t number)
{
	if (only != NULL)
		return number == 0 ? only : NULL;
	if (number < CTL_CONTEXTS)
		return ctl_contexts[number].name;
	return number - CTL_CONTEXTS < ctl->other_count ? ctl->others[number - CTL_CONTEXTS] : NULL;
}

bool ctl_context_known(const struct ctl *ctl, const char *name)
{
	const char *context;

	for (size_t i = 0; (context = ctl_context_name(ctl, NULL, i)) != NULL; i++)
		if (strcmp(context, name) == 0)
			return true;
	ctl_error("no context is called %s, and no group that reads events", name);
	return false;
}

const struct rt_functions *ctl_functions_of(const char *context)
{
	const struct ctl_context *ours = ctl_context_find(context);

	return ours == NULL ? ctl_contexts[0].functions : ours->functions;
}

const char *ctl_parse_context(struct argp_state *state, const char *name, bool others_too)
{
	if (others_too ? !ctl_context_may_be(name) : ctl_context_find(name) == NULL)
		argp_error(state, "--context: %s%s, not %s", ctl_context_names(),
			   others_too ? ", or another's name" : "", name);
	return name;
}

bool ctl_dead_count(struct ctl *ctl, int64_t *ret)
{
	const char *context;

	*ret = 0;
	if (!ctl_contexts_read(ctl))
		return false;
	for (int p = 0; p < ctl->partitions; p++)
		for (size_t i = 0; (context = ctl_context_name(ctl, NULL, i)) != NULL; i++) {
			char key[CTL_KEY];
			redisReply *length;

			ctl_key(key, context, p, "dead");
			length = ctl_redis(ctl, "XLEN", key);
			if (length == NULL)
				return false;
			*ret += ctl_count(length);
			freeReplyObject(length);
		}
	return true;
}
