/* order_reason.c - see order_reason.h. */
#include "order_reason.h"

#include <inttypes.h>

#define SHORTAGES_SHOWN 3

/* What was wrong, before what is said of each SKU. */
static const char *rejection(const Tandem__Order__V1__OrderRejected *rejected)
{
	for (size_t i = 0; i < rejected->n_shortages; i++)
		if (!rejected->shortages[i]->unknown)
			return "out of stock";
	return rejected->n_shortages == 0 ? "out of stock" : "unknown SKU";
}

char *order_reason_rejected(struct rt_arena *arena,
			    const Tandem__Order__V1__OrderRejected *rejected)
{
	char *reason;

	if (rejected == NULL)
		return rt_arena_printf(arena, "out of stock");
	reason = rt_arena_printf(arena, "%s", rejection(rejected));
	for (size_t i = 0; i < RT_MIN(rejected->n_shortages, (size_t)SHORTAGES_SHOWN); i++) {
		const Tandem__Order__V1__Shortage *shortage = rejected->shortages[i];

		if (shortage->unknown)
			reason = rt_arena_printf(arena, "%s%s %s: there is no such SKU", reason,
						 i == 0 ? ":" : ";", shortage->sku);
		else
			reason = rt_arena_printf(arena,
						 "%s%s %s: %" PRIu32 " wanted, %" PRIu64 " there",
						 reason, i == 0 ? ":" : ";", shortage->sku,
						 shortage->requested, shortage->available);
	}
	if (rejected->n_shortages > SHORTAGES_SHOWN)
		reason = rt_arena_printf(arena, "%s; and %zu more", reason,
					 rejected->n_shortages - SHORTAGES_SHOWN);
	return reason;
}

char *order_reason_cancelled(struct rt_arena *arena,
			     const Tandem__Order__V1__OrderCancelled *cancelled)
{
	if (cancelled == NULL || cancelled->reason[0] == '\0')
		return rt_arena_printf(arena, "cancelled by the client");
	return cancelled->reason;
}

char *order_reason_expired(struct rt_arena *arena, const Tandem__Order__V1__OrderExpired *expired)
{
	if (expired == NULL || expired->reason[0] == '\0')
		return rt_arena_printf(arena, "not decided or confirmed in time");
	return expired->reason;
}
