/* hist.h - a log-linear histogram of durations: 64 steps to every doubling, so the error of a value is
 * at most 1.6 %, from 1 µs to about 4 hours. The layout follows HdrHistogram's idea (Gil Tene). */
#ifndef CTL_HIST_H
#define CTL_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_STEPS     64
#define HIST_DOUBLINGS 34
struct hist {
	uint64_t count, max_ns;
	double sum_ns;
	uint64_t buckets[HIST_DOUBLINGS * HIST_STEPS];
};
void hist_add(struct hist *hist, int64_t ns); /* below 0 counts as 0 */
/* The value below which `share` (0 … 1) of all values are, in ms: the upper end of its step, at most
 * the largest value added. 0 when empty. */
double hist_ms(const struct hist *hist, double share);
double hist_mean_ms(const struct hist *hist);
/* Writes the distribution as lines "share<TAB>ms". */
void hist_write(const struct hist *hist, FILE *file);

#endif
