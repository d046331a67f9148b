/* hist.c - see hist.h. A value in µs with its top bit at position p ≥ 6 belongs to doubling p - 5, at
 * the step that its next six bits give; smaller values belong to doubling 0, each to its own step. */
#include "hist.h"

static size_t bucket_of(uint64_t us)
{
	unsigned top, doubling;

	if (us < HIST_STEPS)
		return (size_t)us;
	top = 63U - (unsigned)__builtin_clzll(us);
	doubling = top - 5;
	if (doubling >= HIST_DOUBLINGS)
		return (size_t)HIST_DOUBLINGS * HIST_STEPS - 1;
	return (size_t)doubling * HIST_STEPS + (size_t)((us >> (top - 6)) - HIST_STEPS);
}

/* The first value of the next bucket; every value of this one is below it. */
static double bucket_end_us(size_t bucket)
{
	size_t doubling = bucket / HIST_STEPS, step = bucket % HIST_STEPS;

	if (doubling == 0)
		return (double)(step + 1);
	return (double)((uint64_t)(HIST_STEPS + step + 1) << (doubling - 1));
}

void hist_add(struct hist *hist, int64_t ns)
{
	uint64_t value = ns < 0 ? 0 : (uint64_t)ns;

	hist->count++;
	hist->sum_ns += (double)value;
	if (value > hist->max_ns)
		hist->max_ns = value;
	hist->buckets[bucket_of(value / 1000)]++;
}

double hist_ms(const struct hist *hist, double share)
{
	double wanted = share * (double)hist->count, max_ms = (double)hist->max_ns / 1e6;
	uint64_t seen = 0;

	if (hist->count == 0)
		return 0;
	for (size_t i = 0; i < (size_t)HIST_DOUBLINGS * HIST_STEPS; i++) {
		seen += hist->buckets[i];
		if ((double)seen >= wanted && seen > 0) {
			double end_ms = bucket_end_us(i) / 1000;
			return end_ms < max_ms ? end_ms : max_ms;
		}
	}
	return max_ms;
}

double hist_mean_ms(const struct hist *hist)
{
	return hist->count == 0 ? 0 : hist->sum_ns / (double)hist->count / 1e6;
}

void hist_write(const struct hist *hist, FILE *file)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < (size_t)HIST_DOUBLINGS * HIST_STEPS; i++) {
		if (hist->buckets[i] == 0)
			continue;
		seen += hist->buckets[i];
		(void)fprintf(file, "%.9f\t%.4f\n", (double)seen / (double)hist->count,
			      bucket_end_us(i) / 1000);
	}
}
