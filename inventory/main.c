/* main.c - tandem-inventory: the context run as a program. It has no settings of its own. */
#include "context/context.h"
#include "contexts.h"
#include "inventory.h"

int main(int argc, char **argv)
{
	const struct rt_context_program program = {
		.domain = &inventory_domain,
		.about = "Manages stock, reserves it for orders, and answers with events.",
		.listen = INVENTORY_LISTEN,
		.admin_listen = INVENTORY_ADMIN_LISTEN,
		.settings_size = sizeof(struct rt_context_settings),
	};

	return rt_context_run(&program, argc, argv);
}
