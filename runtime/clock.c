/* clock.c - see clock.h. */
#include "clock.h"

#include <time.h>

static int64_t read_us(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

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

int64_t rt_clock_monotonic_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

int64_t rt_clock_wall_ahead_ms(int64_t offset_us)
{
	return (read_us(CLOCK_REALTIME) - rt_clock_monotonic_us() - offset_us) / 1000;
}
