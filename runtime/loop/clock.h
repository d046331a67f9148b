/* clock.h - the one clock that decides: Redis's.
 *
 * Several instances work on the same orders, each on a machine whose wall clock may be wrong. What
 * they decide by (what is due, when a hold ends, ids, ages) must be the same everywhere, so a loop
 * can follow the clock of its Redis: rt_loop_unix_ms is then Redis's time, told by this machine's
 * monotonic clock and an offset that TIME keeps right. A wall clock that is wrong or jumps changes
 * nothing; it is reported.
 *
 * A sample bounds the offset: the server's time was read between sending and receiving. An offset
 * inside the bounds stays, one outside moves to the nearer bound; so a slow answer says little and
 * does no harm. docs/decisions/017. */
#ifndef RT_CLOCK_H
#define RT_CLOCK_H

#include "base/base.h"
#include "loop.h"

struct rt_clock {
	bool known;
	int64_t offset_us; /* Redis's time less CLOCK_MONOTONIC */
};
/* Takes a sample: the server's Unix time, read between two readings of the monotonic clock. */
void rt_clock_sample(struct rt_clock *clock, int64_t sent_us, int64_t received_us,
		     int64_t server_us);

/* How far this machine's wall clock is ahead of the time that `offset_us` gives, in ms. */
int64_t rt_clock_wall_ahead_ms(int64_t offset_us);
/* Past this a wall clock is reported: log, tandem_clock_offset_seconds, CLIENT LIST, doctor. */
#define RT_CLOCK_WRONG_MS 2000

#endif
