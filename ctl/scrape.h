/* scrape.h - reads /metrics of a service's admin port, and what two readings say together: rates, quantiles.
 *
 * Where the admin ports are: TANDEM_<SERVICE>_ADMIN_LISTEN; else as scripts/up chooses them, by where the service listens. */
#ifndef CTL_SCRAPE_H
#define CTL_SCRAPE_H

#include "ctl.h"

/* The services of Tandem: the gateway, and the contexts. */
enum { CTL_SERVICES = CTL_CONTEXTS + 1 };
const char *ctl_service_name(size_t service);

/* One reading of a service. Zeroed memory is an empty one. */
struct ctl_scrape {
	int64_t at_ns;
	char *why; /* NULL: it was read; else why not */
	struct ctl_series {
		const char *name, *labels; /* the text between the braces, or "" */
		double value;
	} * list;
	size_t count, capacity;
	char *text; /* to which these point */
};
void ctl_scrape_read(struct ctl *ctl, size_t service, struct ctl_scrape *ret);
void ctl_scrape_done(struct ctl_scrape *scrape);

/* The sum of the series of this name whose labels contain this text ("": all). NAN: there are none. */
double ctl_scrape_sum(const struct ctl_scrape *scrape, const char *name, const char *label);
/* Two readings of a service, the earlier first. */
struct ctl_scrapes {
	struct ctl_scrape before, now;
};
/* By how much a sum grew, in all or in a second. NAN: it is not known. */
double ctl_scrape_grown(const struct ctl_scrapes *scrapes, const char *name, const char *label);
double ctl_scrape_rate(const struct ctl_scrapes *scrapes, const char *name, const char *label);
/* The quantile of what a histogram observed between both, in seconds. NAN: it observed nothing. */
double ctl_scrape_quantile(const struct ctl_scrapes *scrapes, const char *name, const char *label,
			   double quantile);
/* The value of a label, into `value`. False: it has no such label. */
bool ctl_series_label(const struct ctl_series *series, const char *label, char *value, size_t size);

#endif
