/* status.c - the status that a caller gets when a call to a service has failed. */
#include <string.h>

#include "gateway_internal.h"

void gateway_status_copy(struct rt_status *to, const struct rt_status *from)
{
	static const char type[] = "google.rpc.RetryInfo";

	rt_status_copy(to, from);
	/* Nobody cancelled it: gRPC ends calls like this when they reach a server that shuts down. */
	if (to->code == RT_CODE_CANCELLED)
		rt_status_set(to, RT_CODE_UNAVAILABLE, "a service is shutting down");
	/* An Any names its type in plain text. */
	if (to->code == RT_CODE_UNAVAILABLE &&
	    (to->details == NULL ||
	     memmem(to->details, to->details_length, type, sizeof(type) - 1) == NULL))
		rt_status_retry(to, GATEWAY_RETRY_MS);
}
