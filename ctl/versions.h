/* versions.h - the versions of a context's Redis functions, as Redis knows them. */
#ifndef CTL_VERSIONS_H
#define CTL_VERSIONS_H

#include "ctl.h"

#define CTL_ABSENT_MS    15000 /* a consumer that was not seen for so long is not there */
#define CTL_VERSIONS_MAX 64

struct ctl_version {
	char version[32];
	bool loaded;     /* its library is */
	bool own;        /* it is what this tandemctl was built with */
	int instances;   /* that call it and are there */
	int64_t seen_ms; /* ago, one of them; -1: never */
};
struct ctl_versions {
	const char *context;
	struct ctl_version list[CTL_VERSIONS_MAX];
	size_t count;
};
/* Those that are loaded, or that some instance calls. False: Redis could not be asked. */
bool ctl_versions_read(struct ctl *ctl, const char *context, struct ctl_versions *versions);

#endif
