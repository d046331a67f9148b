/* contexts.c - the table of contexts, made from the file contexts at the top. */
#include <string.h>

#include "base/base.h"
#include "ctl.h"

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
