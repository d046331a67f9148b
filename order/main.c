/* main.c - tandem-order: its settings, and the context run as a program. */
#include "access.h"
#include "context/context.h"
#include "contexts.h"
#include "order.h"

struct settings {
	struct rt_context_settings context; /* first */
	struct order_options order;
};

#define AT(member) offsetof(struct settings, order.member)
static const struct rt_setting settings_table[] = {
	{ "stream-length-max", RT_SETTING_INT, AT(stream_length_max), "1000000", 100,
	  INT64_C(1000000000), "Above so many events in its stream orders are refused." },
	{ "decision-timeout", RT_SETTING_DURATION, AT(clock.decision_ms), "2m", 100, 30 * RT_DAY_MS,
	  "An order that inventory has not answered after this time expires." },
	{ "retry-min", RT_SETTING_DURATION, AT(clock.retry_min_ms), "2s", 10, RT_DAY_MS,
	  "A request without an answer is published again after this time, which then doubles." },
	{ "retry-max", RT_SETTING_DURATION, AT(clock.retry_max_ms), "30s", 10, RT_DAY_MS,
	  "The longest time between two repeats of a request." },
	{ "hold-max", RT_SETTING_DURATION, AT(hold_max_ms), "30d", 1000, 30 * RT_DAY_MS,
	  "A hold that is extended lasts so long in all, from the reservation on." },
	{ "keep-at-least", RT_SETTING_DURATION, AT(kept_ms), "1m", 100, 30 * RT_DAY_MS,
	  "A settled order that the archive has is not dropped before nothing has happened to it "
	  "for "
	  "so long. Not much less than a minute: requests of it may still be under way." },
	{ "timers-every", RT_SETTING_DURATION, AT(timers_every_ms), "250ms", 10, 60000,
	  "How often to look for orders whose timer has run out." },
	RT_SETTING_END,
};

static bool settings_good(const void *given)
{
	const struct order_clock *clock = &((const struct settings *)given)->order.clock;

	if (clock->retry_max_ms >= clock->retry_min_ms)
		return true;
	RT_LOG(RT_ERROR, "--retry-max must be at least --retry-min",
	       RT_I("retry_max_ms", clock->retry_max_ms),
	       RT_I("retry_min_ms", clock->retry_min_ms));
	return false;
}

int main(int argc, char **argv)
{
	const struct rt_context_program program = {
		.domain = &order_domain,
		.about = "Places orders, and brings each to exactly one outcome.",
		.listen = ORDER_LISTEN,
		.admin_listen = ORDER_ADMIN_LISTEN,
		.access = access_roles,
		.settings = settings_table,
		.settings_size = sizeof(struct settings),
		.options_offset = offsetof(struct settings, order),
		.settings_good = settings_good,
	};

	return rt_context_run(&program, argc, argv);
}
