/* list_position.h - a place in the list of a customer's orders, which is by the time of their placing and their id, newest
 * first. The tokens of ListOrders have it. The order service and the gateway, which puts archived orders into the list,
 * both read and make them. */
#ifndef PROTO_LIST_POSITION_H
#define PROTO_LIST_POSITION_H

#include "check.h"

struct Tandem__Order__V1__ListOrdersRequest;

#define LIST_POSITION_NAME (32 + 4 * CHECK_ID_MAX)
#define LIST_POSITION_ID   30 /* characters of an order's id */

/* Behind the order with this id, which was placed then. That order need not exist. */
struct list_position {
	int64_t ms; /* INT64_MAX: before the newest */
	char order_id[LIST_POSITION_ID + 1];
};

/* The name of the list that is asked for, for its tokens. */
void list_position_name(const struct Tandem__Order__V1__ListOrdersRequest *request,
			char name[LIST_POSITION_NAME]);
/* Where the list goes on with this token, "" for its first page. False: it is not a token of this list. */
bool list_position_read(const char *name, const char *token, struct list_position *ret);
/* The token that goes on there; freed by the caller. */
char *list_position_token(const char *name, const struct list_position *position);
/* Whether an order stands behind this place. */
bool list_position_before(const struct list_position *position, int64_t ms, const char *order_id);

#endif
