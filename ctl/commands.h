/* commands.h - all commands, and what is made from their tables. */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include "ctl.h"

extern const struct ctl_command ctl_order_place, ctl_order_get, ctl_order_list, ctl_order_watch,
	ctl_order_confirm, ctl_order_cancel, ctl_order_extend, ctl_order_return; /* order.c */
extern const struct ctl_command ctl_stock_adjust, ctl_stock_threshold, ctl_stock_get,
	ctl_stock_list, ctl_stock_holders; /* stock.c */
extern const struct ctl_command ctl_archive_search, ctl_archive_show, ctl_archive_movements,
	ctl_archive_export;                                                       /* archive.c */
extern const struct ctl_command ctl_events_tail, ctl_events_show, ctl_events_lag; /* events.c */
extern const struct ctl_command ctl_events_aside;                                 /* aside.c */
extern const struct ctl_command ctl_explain;                                      /* explain.c */
extern const struct ctl_command ctl_dead_list, ctl_dead_show, ctl_dead_replay,
	ctl_dead_discard;                  /* dead.c */
extern const struct ctl_command ctl_trail; /* trail.c */
extern const struct ctl_command ctl_groups_exclude, ctl_groups_include,
	ctl_groups_remove;                   /* groups.c */
extern const struct ctl_command ctl_load;    /* load.c */
extern const struct ctl_command ctl_audit;   /* audit.c */
extern const struct ctl_command ctl_doctor;  /* doctor.c */
extern const struct ctl_command ctl_drain;   /* drain.c */
extern const struct ctl_command ctl_top;     /* top.c */
extern const struct ctl_command ctl_migrate; /* migrate.c */
extern const struct ctl_command ctl_functions_list, ctl_functions_load,
	ctl_functions_prune; /* functions.c */
extern const struct ctl_command ctl_auth_new_key, ctl_auth_check, ctl_auth_show_token; /* auth.c */
extern const struct ctl_command ctl_auth_try; /* auth_try.c */

/* options.c: the options that every command takes, parsed with the command's own from argv[1] on. */
extern const struct argp ctl_common_argp;
/* And those that change something: --why. */
extern const struct argp ctl_why_argp;
bool ctl_options_parse(struct ctl *ctl, const struct ctl_command *command, void *options, int argc,
		       char **argv);

/* commands.c: all of them, in the order of --help. */
extern const struct ctl_command *const ctl_commands[];
extern const size_t ctl_command_count;
/* The command of that name (`second` may be NULL), and how many arguments its name takes; or NULL. */
const struct ctl_command *ctl_command_find(const char *first, const char *second, int *ret_taken);
/* Whether `word` is a group, as "order" of "order place". */
bool ctl_is_group(const char *word);
/* Writes the full name, such as "order place". */
#define CTL_COMMAND 64
void ctl_command_name(const struct ctl_command *command, char name[CTL_COMMAND]);
/* Parses the command's options from argv[1] on and runs it. Returns the exit code. */
int ctl_command_run(struct ctl *ctl, const struct ctl_command *command, int argc, char **argv);

/* manual.c: the sections of the manual page that are made from the tables, as roff. */
void ctl_manual(FILE *to);
/* complete.c: prints what the last of these arguments may be, one a line; "<file>": any file.
 * `args` are the arguments after the program's name; the last may be "". */
void ctl_complete(FILE *to, int count, char *const *args);

/* connect.c: closes all connections that were opened. */
void ctl_connections_done(struct ctl *ctl);

#endif
