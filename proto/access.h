/* access.h - what callers may do: one table of roles, method by method.
 *
 * The table holds for the gateway, and again for the services behind it: there only the gateway and operators
 * may call, and the role is that of the caller on whose behalf the gateway does. */
#ifndef ACCESS_H
#define ACCESS_H

#include "rpc/rpc.h"

/* The roles that may call the method of this path, as a mask of 1 << enum rt_role; 0: nobody may, or there is no
 * such method. Customers reach what belongs to their own customer_id only: the services see to that. */
unsigned int access_roles(const char *path);

/* What has this customer_id is within the call's reach: its caller is no customer, or this one. */
bool access_is_own(const struct rt_call *call, const char *customer_id);
/* The same for a request that names a customer. False: *status is PERMISSION_DENIED. */
bool access_customer(const struct rt_call *call, const char *customer_id, struct rt_status *status);

/* RESOURCE_EXHAUSTED: a customer has so many orders that inventory has not answered. */
void access_pending(struct rt_status *status, int64_t limit);

#endif
