/* main.c - tandem-inventory: its settings, and the context run as a program. */
#include "access.h"
#include "context/context.h"
#include "contexts.h"
#include "inventory.h"

struct settings {
	struct rt_context_settings context; /* first */
	struct inventory_options inventory;
};

static const struct rt_setting settings_table[] = {
	{ "sweep-after", RT_SETTING_DURATION, offsetof(struct settings, inventory.sweep_after_ms),
	  "1m", 1000, RT_DAY_MS,
	  "So long after a master was replaced, stock that is held for an order that nobody knows "
	  "any "
	  "more is released. With several partitions only." },
	RT_SETTING_END,
};

int main(int argc, char **argv)
{
	const struct rt_context_program program = {
		.domain = &inventory_domain,
		.about = "Manages stock, reserves it for orders, and answers with events.",
		.listen = INVENTORY_LISTEN,
		.admin_listen = INVENTORY_ADMIN_LISTEN,
		.access = access_roles,
		.settings = settings_table,
		.settings_size = sizeof(struct settings),
		.options_offset = offsetof(struct settings, inventory),
	};

	return rt_context_run(&program, argc, argv);
}
