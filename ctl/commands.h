/* commands.h - every command there is; main.c's table lists them in the order of --help. */
#ifndef CTL_COMMANDS_H
#define CTL_COMMANDS_H

#include "ctl.h"

extern const struct ctl_command ctl_order_place, ctl_order_get, ctl_order_list, ctl_order_watch,
	ctl_order_confirm, ctl_order_cancel;                                      /* order.c */
extern const struct ctl_command ctl_stock_adjust, ctl_stock_get, ctl_stock_list;  /* stock.c */
extern const struct ctl_command ctl_events_tail, ctl_events_show, ctl_events_lag; /* events.c */
extern const struct ctl_command ctl_explain;                                      /* explain.c */
extern const struct ctl_command ctl_dead_list, ctl_dead_show, ctl_dead_replay,
	ctl_dead_discard;                   /* dead.c */
extern const struct ctl_command ctl_load;   /* load.c */
extern const struct ctl_command ctl_audit;  /* audit.c */
extern const struct ctl_command ctl_doctor; /* doctor.c */

/* connect.c: ends what was opened. */
void ctl_connections_done(struct ctl *ctl);

#endif
