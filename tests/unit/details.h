/* details.h - what the details of a status say, for tests that look at them. */
#ifndef TESTS_DETAILS_H
#define TESTS_DETAILS_H

#include "rpc/rpc.h"

struct details {
	int64_t retry_ms;            /* RetryInfo; -1: none */
	char reason[64], domain[64]; /* ErrorInfo */
	char subject[64];            /* PreconditionFailure, the first violation's */
	/* BadRequest: the fields' names, a blank between them; how many; each has a description. */
	char fields[256];
	size_t field_count;
	char description[128]; /* the last one's */
	bool described;
};
struct details details_of(const struct rt_status *status);

#endif
