/* commands.c - the table of all commands, finding one and running it.
 *
 * Only this table, each command's own options and the common options (options.c) name commands and
 * options: --help, the manual page (manual.c) and the completion (complete.c) are made from them. */
#include <string.h>

#include "base/base.h"
#include "commands.h"

const struct ctl_command *const ctl_commands[] = {
	&ctl_order_place,
	&ctl_order_get,
	&ctl_order_list,
	&ctl_order_watch,
	&ctl_order_confirm,
	&ctl_order_cancel,
	&ctl_order_extend,
	&ctl_order_return,
	&ctl_stock_adjust,
	&ctl_stock_threshold,
	&ctl_stock_get,
	&ctl_stock_list,
	&ctl_stock_holders,
	&ctl_archive_search,
	&ctl_archive_show,
	&ctl_archive_movements,
	&ctl_archive_export,
	&ctl_explain,
	&ctl_events_tail,
	&ctl_events_show,
	&ctl_events_lag,
	&ctl_events_aside,
	&ctl_dead_list,
	&ctl_dead_show,
	&ctl_dead_replay,
	&ctl_dead_discard,
	&ctl_audit,
	&ctl_doctor,
	&ctl_top,
	&ctl_trail,
	&ctl_groups_exclude,
	&ctl_groups_include,
	&ctl_groups_remove,
	&ctl_drain,
	&ctl_migrate,
	&ctl_load,
	&ctl_functions_list,
	&ctl_functions_load,
	&ctl_functions_prune,
	&ctl_auth_new_key,
	&ctl_auth_check,
	&ctl_auth_show_token,
	&ctl_auth_try,
};
const size_t ctl_command_count = RT_LENGTH(ctl_commands);

/* ---- finding one ---- */

const struct ctl_command *ctl_command_find(const char *first, const char *second, int *ret_taken)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		const struct ctl_command *command = ctl_commands[i];

		*ret_taken = command->group == NULL ? 1 : 2;
		if (command->group == NULL && strcmp(command->name, first) == 0)
			return command;
		if (command->group != NULL && second != NULL &&
		    strcmp(command->group, first) == 0 && strcmp(command->name, second) == 0)
			return command;
	}
	return NULL;
}

bool ctl_is_group(const char *word)
{
	for (size_t i = 0; i < ctl_command_count; i++) {
		if (ctl_commands[i]->group != NULL && strcmp(ctl_commands[i]->group, word) == 0)
			return true;
	}
	return false;
}

void ctl_command_name(const struct ctl_command *command, char name[CTL_COMMAND])
{
	snprintf(name, CTL_COMMAND, "%s%s%s", command->group == NULL ? "" : command->group,
		 command->group == NULL ? "" : " ", command->name);
}

/* ---- running one ---- */

int ctl_command_run(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv)
{
	char name[CTL_COMMAND], program[CTL_COMMAND + 16];
	void *options = rt_alloc(command->options_size + 1);
	int code = CTL_USAGE;

	ctl_command_name(command, name);
	snprintf(program, sizeof(program), "tandemctl %s", name);
	argv[0] = program; /* usage messages begin with it */
	if (ctl_options_parse(ctl, command, options, argc, argv))
		code = command->run(ctl, options);
	free(options);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		ctl_error("the output could not be written");
		code = CTL_UNAVAILABLE;
	}
	return code;
}
