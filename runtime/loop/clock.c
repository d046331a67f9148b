/* clock.c - another machine's clock, from samples of it; see loop.h. */
#include "loop.h"

void rt_clock_sample(struct rt_clock *clock, int64_t sent_us, int64_t received_us,
		     int64_t server_us)
{
	int64_t low_us = server_us - received_us, high_us = server_us - sent_us;

	if (!clock->known)
		clock->offset_us = low_us + (high_us - low_us) / 2;
	else
		clock->offset_us = RT_MAX(low_us, RT_MIN(clock->offset_us, high_us));
	clock->known = true;
}

int64_t rt_clock_wall_ahead_ms(int64_t offset_us)
{
	return (rt_wall_us() - rt_monotonic_ns() / 1000 - offset_us) / 1000;
}
