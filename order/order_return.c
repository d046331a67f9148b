/* order_return.c - the rules of order_return.h. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "check.h"
#include "order/order_record.h"
#include "order/order_return.h"

typedef Tandem__Order__V1__OrderLine line;

/* The line of a SKU; NULL: there is none. */
static line *line_of(line *const *lines, size_t count, const char *sku)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(lines[i]->sku, sku) == 0)
			return lines[i];
	return NULL;
}

static uint32_t quantity_of(line *const *lines, size_t count, const char *sku)
{
	const line *found = line_of(lines, count, sku);

	return found == NULL ? 0 : found->quantity;
}

/* Adds to the line of a SKU, which may be a new one. The list has room. */
static void add(struct rt_arena *arena, line **lines, size_t *count, const line *more)
{
	line *found = line_of(lines, *count, more->sku);

	if (found == NULL) {
		found = rt_arena_take(arena, sizeof(*found));
		tandem__order__v1__order_line__init(found);
		found->sku = more->sku;
		lines[(*count)++] = found;
	}
	found->quantity += more->quantity;
}

/* What did not come back yet. */
static void add_rest(struct rt_arena *arena, Tandem__Order__V1__OrderReturn *made,
		     line *const *ordered, size_t count,
		     const Tandem__Order__V1__OrderReturned *before)
{
	for (size_t i = 0; i < count; i++) {
		line rest = *ordered[i];

		if (before != NULL)
			rest.quantity -=
				RT_MIN(rest.quantity,
				       quantity_of(before->lines, before->n_lines, rest.sku));
		if (rest.quantity > 0)
			add(arena, made->lines, &made->n_lines, &rest);
	}
}

/* Whether it asks for what this return was. One without lines asks for all that was left then. */
static bool is_same(const Tandem__Order__V1__OrderReturn *made,
		    const Tandem__Order__V1__ReturnOrderRequest *request)
{
	uint64_t sum = 0, asked = 0;

	if (strcmp(made->reason, request->reason) != 0)
		return false;
	if (request->n_lines == 0)
		return true;
	for (size_t i = 0; i < made->n_lines; i++) {
		uint64_t quantity = 0;

		for (size_t j = 0; j < request->n_lines; j++)
			if (strcmp(request->lines[j]->sku, made->lines[i]->sku) == 0)
				quantity += request->lines[j]->quantity;
		if (quantity != made->lines[i]->quantity)
			return false;
		sum += quantity;
	}
	for (size_t j = 0; j < request->n_lines; j++)
		asked += request->lines[j]->quantity;
	return sum == asked;
}

static Tandem__Order__V1__OrderReturn *new_return(
	struct rt_arena *arena, line *const *ordered, size_t count,
	const Tandem__Order__V1__OrderReturned *before,
	const Tandem__Order__V1__ReturnOrderRequest *request, int64_t now_ms)
{
	Tandem__Order__V1__OrderReturn *made = rt_arena_take(arena, sizeof(*made));

	tandem__order__v1__order_return__init(made);
	made->return_id = request->return_id;
	made->reason = request->reason;
	made->time = order_timestamp(arena, now_ms);
	made->lines = rt_arena_take(arena, (count + request->n_lines) * sizeof(*made->lines));
	for (size_t i = 0; i < request->n_lines; i++)
		add(arena, made->lines, &made->n_lines, request->lines[i]);
	if (request->n_lines == 0)
		add_rest(arena, made, ordered, count, before);
	return made;
}

enum order_return_verdict order_return(struct rt_arena *arena, line *const *ordered, size_t count,
				       const Tandem__Order__V1__OrderReturned *before,
				       const Tandem__Order__V1__ReturnOrderRequest *request,
				       int64_t now_ms, Tandem__Order__V1__OrderReturned **ret,
				       const char **ret_why)
{
	size_t returns = before == NULL ? 0 : before->n_returns;
	Tandem__Order__V1__OrderReturned *all;
	Tandem__Order__V1__OrderReturn *made;

	for (size_t i = 0; i < returns; i++)
		if (strcmp(before->returns[i]->return_id, request->return_id) == 0)
			return is_same(before->returns[i], request) ? ORDER_RETURN_BEFORE
								    : ORDER_RETURN_CONFLICT;
	if (returns >= CHECK_RETURNS_MAX)
		return ORDER_RETURN_TOO_MANY;
	made = new_return(arena, ordered, count, before, request, now_ms);
	if (made->n_lines == 0) {
		*ret_why = "everything came back already";
		return ORDER_RETURN_TOO_MUCH;
	}
	all = rt_arena_take(arena, sizeof(*all));
	tandem__order__v1__order_returned__init(all);
	all->returns = rt_arena_take(arena, (returns + 1) * sizeof(*all->returns));
	if (returns > 0)
		memcpy(all->returns, before->returns, returns * sizeof(*all->returns));
	all->returns[returns] = made;
	all->n_returns = returns + 1;
	all->lines = rt_arena_take(arena, (count + made->n_lines) * sizeof(*all->lines));
	for (size_t i = 0; before != NULL && i < before->n_lines; i++)
		add(arena, all->lines, &all->n_lines, before->lines[i]);
	for (size_t i = 0; i < made->n_lines; i++) {
		const line *more = made->lines[i];
		uint32_t bought = quantity_of(ordered, count, more->sku);
		uint32_t back = quantity_of(all->lines, all->n_lines, more->sku);

		if (back > bought || more->quantity > bought - back) {
			*ret_why = rt_arena_printf(arena,
						   "%" PRIu32 " of %s were bought, and %" PRIu32
						   " came back already",
						   bought, more->sku, back);
			return ORDER_RETURN_TOO_MUCH;
		}
		add(arena, all->lines, &all->n_lines, more);
	}
	if (tandem__order__v1__order_returned__get_packed_size(all) > ORDER_RETURNS_BYTES_MAX)
		return ORDER_RETURN_TOO_MANY;
	*ret = all;
	return ORDER_RETURN_NEW;
}
