/* groups.c - tandemctl groups exclude|include|remove: what happens to a group of one's own that does not read.
 *
 * A context trims its stream as far as every group has acknowledged it, also one that nobody reads any more. An
 * excluded one does not hold that back while it has no live consumer; a removed one is gone, and with it up to
 * where it had read. The groups of Tandem's own contexts are not touched. */
#include <string.h>

#include "base/base.h"
#include "commands.h"

struct groups {
	const char *context, *name;
};

static error_t groups_parse(int key, char *arg, struct argp_state *state)
{
	struct groups *groups = ctl_options(state);

	switch (key) {
	case ARGP_KEY_ARG:
		if (state->arg_num > 1)
			argp_error(state, "one context and one group");
		else if (state->arg_num == 1)
			groups->name = arg;
		else if (ctl_context_find(arg) == NULL)
			argp_error(state, "whose stream? %s, not %s", ctl_context_names(), arg);
		else
			groups->context = arg;
		return 0;
	case ARGP_KEY_END:
		if (groups->name == NULL)
			argp_error(state, "which group, and of whose stream?");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* For what gives up events, or the place in them. */
static error_t change_parse(int key, char *arg, struct argp_state *state)
{
	error_t result = groups_parse(key, arg, state);

	if (key == ARGP_KEY_END)
		ctl_need_why(state);
	return result;
}

/* Whether a context of Tandem reads the stream in this group. */
static bool is_own(const struct groups *groups)
{
	for (size_t i = 0; i < CTL_READERS; i++)
		if (strcmp(ctl_readers[i].of, groups->context) == 0 &&
		    strcmp(ctl_readers[i].reader, groups->name) == 0)
			return true;
	return false;
}

static int change_one(struct ctl *ctl, const struct groups *groups, int partition,
		      const char *action, const char *function)
{
	const struct rt_functions *functions = ctl_context_find(groups->context)->functions;
	const struct ctl_deed deed = { .action = action, .subject = groups->name };
	struct rt_args args = { 0 };
	char events[CTL_KEY];
	redisReply *reply;
	bool changed;

	ctl_key(events, groups->context, partition, "events");
	ctl_operate(ctl, &args, functions, events, NULL, &deed, function);
	rt_args_str(&args, groups->name);
	reply = ctl_operate_send(ctl, &args, false);
	rt_args_done(&args);
	if (reply == NULL)
		return CTL_UNAVAILABLE;
	changed = ctl_number(reply) == 1;
	freeReplyObject(reply);
	if (ctl->json)
		ctl_json_print(json_pack("{s:s, s:o, s:i, s:b}", "context", groups->context,
					 "group", ctl_json_text(groups->name), "partition",
					 partition, "changed", changed));
	return changed ? CTL_OK : CTL_NEGATIVE;
}

/* In every partition. CTL_NEGATIVE: it was so already, everywhere. */
static int change_all(struct ctl *ctl, const struct groups *groups, const char *action,
		      const char *function, const char *done)
{
	int partitions = ctl_partitions(ctl), code = CTL_NEGATIVE;

	if (is_own(groups)) {
		ctl_error("%s reads the stream of %s: its group is not changed", groups->name,
			  groups->context);
		return CTL_NEGATIVE;
	}
	if (partitions == 0)
		return CTL_UNAVAILABLE;
	for (int p = 0; p < partitions; p++) {
		int this_one = change_one(ctl, groups, p, action, function);

		if (this_one == CTL_UNAVAILABLE)
			return this_one;
		code = RT_MIN(code, this_one);
	}
	if (!ctl->json)
		printf("%s of %s: %s\n", groups->name, groups->context,
		       code == CTL_OK ? done : "nothing to change");
	return code;
}

static int exclude_run(struct ctl *ctl, void *options)
{
	return change_all(ctl, options, "groups.exclude", "exclude",
			  "it does not hold back trimming while it has no live consumer");
}

static int include_run(struct ctl *ctl, void *options)
{
	return change_all(ctl, options, "groups.include", "include",
			  "it holds back trimming again");
}

static int remove_run(struct ctl *ctl, void *options)
{
	return change_all(ctl, options, "groups.remove", "remove_group", "removed");
}

const struct ctl_command ctl_groups_exclude = {
	.group = "groups",
	.name = "exclude",
	.about = "Lets a group of yours miss events",
	.arguments = "CONTEXT GROUP",
	.text = "Lets the stream of a context be trimmed although this group, one of your own, has "
		"not read it. It may miss events then. Applies once the group has had no live "
		"consumer for a while (--stale-group-after of the service).\vExample:\n"
		"  tandemctl groups exclude order billing --why 'billing is off until May'",
	.changes = true,
	.parse = change_parse,
	.options_size = sizeof(struct groups),
	.run = exclude_run,
};

const struct ctl_command ctl_groups_include = {
	.group = "groups",
	.name = "include",
	.about = "Takes that back",
	.arguments = "CONTEXT GROUP",
	.text = "Events are kept for the group again, from those on that are still there.\v"
		"Example:\n"
		"  tandemctl groups include order billing",
	.changes = true,
	.parse = groups_parse,
	.options_size = sizeof(struct groups),
	.run = include_run,
};

const struct ctl_command ctl_groups_remove = {
	.group = "groups",
	.name = "remove",
	.about = "Removes a group of yours",
	.arguments = "CONTEXT GROUP",
	.text = "Removes a group of your own, and with it what it has read and what is pending for "
		"it.\vExample:\n"
		"  tandemctl groups remove order billing --why 'billing reads from the archive "
		"now'",
	.changes = true,
	.parse = change_parse,
	.options_size = sizeof(struct groups),
	.run = remove_run,
};
