/* shedding.c - the rules of shedding.h. */
#include "shedding.h"

#define FOLLOW_MS 100   /* in this time the share comes half of the way to what is asked */
#define BEGIN_MS  250   /* for so long some refusal must be asked for before it begins */
#define LEAST     0.005 /* a smaller share is none */
#define FLOW_MIN  0.1   /* of what leaves a queue so much is taken, however long it is … */
#define FLOW_MOST                                                                                  \
	0.98 /* … and no larger share is refused for it: or nobody would know when it is short again */

const char *shed_cause_word(enum shed_cause cause)
{
#define WORD(name, word, text) [SHED_##name] = (word),
	static const char *const words[SHED_CAUSE_COUNT] = { SHED_CAUSES(WORD) };
#undef WORD
	return words[cause];
}

const char *shed_cause_text(enum shed_cause cause)
{
#define TEXT(name, word, text) [SHED_##name] = (text),
	static const char *const texts[SHED_CAUSE_COUNT] = { SHED_CAUSES(TEXT) };
#undef TEXT
	return texts[cause];
}

/* 0 up to the limit, 1 from `full` on, in proportion between them. Once some are refused it is so from half of the limit on:
 * a load at the limit does not begin and end again and again. */
static double pressure_of(double value, double limit, double full, bool on)
{
	double from = on ? limit / 2 : limit;

	if (value <= from)
		return 0;
	return value >= full ? 1 : (value - from) / (full - from);
}

/* The part of those that come that are more than this queue is to get. */
static double flow_pressure(double value, double limit, double flow, double offered, bool on,
			    double from)
{
	double taken = flow * (1 + (limit - value) / SHED_BACK_MS);

	if (value <= (on ? from : limit))
		return 0;
	if (taken < FLOW_MIN * flow)
		taken = FLOW_MIN * flow;
	if (offered <= taken)
		return 0;
	return taken > (1 - FLOW_MOST) * offered ? 1 - taken / offered : FLOW_MOST;
}

double shed_pressure(const struct shed_limits *limits, const struct shed_load *load, bool on,
		     enum shed_cause *ret_cause)
{
	double highest = 0;

	for (unsigned int i = 0; i < SHED_CAUSE_COUNT; i++) {
		double limit = (double)limits->of[i], pressure;

		if (limits->of[i] == 0)
			continue;
		/* Memory does not go down to half soon: it has one limit. */
		if (i == SHED_MEMORY)
			pressure = SHED_MEMORY_MOST *
				   pressure_of((double)load->of[i], limit, 1000, false);
		else if (load->flow[i] > 0)
			pressure = flow_pressure((double)load->of[i], limit, load->flow[i],
						 load->offered, on,
						 i == SHED_ARRIVING ? limit / 2 : -1);
		else
			pressure = pressure_of((double)load->of[i], limit, SHED_FULL * limit, on);
		if (pressure > highest) {
			highest = pressure;
			*ret_cause = (enum shed_cause)i;
		}
	}
	return highest;
}

bool shed_look(struct shedding *shedding, const struct shed_limits *limits,
	       const struct shed_load *load, int64_t now_ms)
{
	int64_t since_ms = now_ms - shedding->looked_ms;
	double passed_ms = (double)(since_ms < FOLLOW_MS ? since_ms : FOLLOW_MS);
	bool was_on = shedding->on;
	double asked = shed_pressure(limits, load, was_on, &shedding->cause);

	shedding->looked_ms = now_ms;
	if (asked == 0 || since_ms > SHED_STALE_MS)
		shedding->asked_ms = now_ms;
	if (!was_on && now_ms - shedding->asked_ms < BEGIN_MS)
		return false;
	if (!was_on)
		shedding->share = asked;
	else
		shedding->share += (asked - shedding->share) * passed_ms / (FOLLOW_MS + passed_ms);
	if (shedding->share > asked - LEAST && shedding->share < asked + LEAST)
		shedding->share = asked;
	shedding->on = shedding->share > 0;
	if (!shedding->on)
		shedding->share = shedding->owed = 0;
	return shedding->on != was_on;
}

bool shed_forget(struct shedding *shedding, int64_t now_ms)
{
	if (!shedding->on || now_ms - shedding->looked_ms <= SHED_STALE_MS)
		return false;
	shedding->on = false;
	shedding->share = shedding->owed = 0;
	return true;
}

bool shed_refuses(struct shedding *shedding)
{
	if (!shedding->on)
		return false;
	shedding->owed += shedding->share;
	if (shedding->owed < 1)
		return false;
	shedding->owed -= 1;
	return true;
}
