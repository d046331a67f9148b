/* list_position.c - see list_position.h. A token holds the time, in 13 digits, and the id. */
#include "list_position.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "page_token.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define TIME_LENGTH 13

void list_position_name(const Tandem__Order__V1__ListOrdersRequest *request,
			char name[LIST_POSITION_NAME])
{
	/* The number first, at a fixed length: no two lists have the same name. */
	snprintf(name, LIST_POSITION_NAME, "ListOrders %08x %s", (unsigned)request->status,
		 request->customer_id);
}

bool list_position_read(const char *name, const char *token, struct list_position *ret)
{
	char time[TIME_LENGTH + 1];
	const char *position;

	*ret = (struct list_position){ .ms = INT64_MAX };
	if (token[0] == '\0')
		return true;
	position = page_token_read(name, token);
	if (position == NULL || strlen(position) != TIME_LENGTH + LIST_POSITION_ID ||
	    strspn(position, "0123456789") < TIME_LENGTH)
		return false;
	memcpy(time, position, TIME_LENGTH);
	time[TIME_LENGTH] = '\0';
	ret->ms = strtoll(time, NULL, 10);
	memcpy(ret->order_id, position + TIME_LENGTH, LIST_POSITION_ID + 1);
	return check_order_id(ret->order_id);
}

char *list_position_token(const char *name, const struct list_position *position)
{
	char text[32 + LIST_POSITION_ID];

	snprintf(text, sizeof(text), "%0*" PRId64 "%s", TIME_LENGTH, position->ms,
		 position->order_id);
	return page_token_new(name, text);
}

bool list_position_before(const struct list_position *position, int64_t ms, const char *order_id)
{
	if (ms != position->ms)
		return ms < position->ms;
	return strcmp(order_id, position->order_id) < 0;
}
