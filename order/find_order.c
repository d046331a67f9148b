/* find_order.c - finds the partition of an order, for a caller who may reach it.
 *
 * An id with a bucket says it. For a customer the order is read all the same: whose it is stands in it, and never
 * changes. Another's is answered as one that does not exist.
 *
 * One without, of an order that was placed when there was one partition and whose data was
 * moved since, is looked for in every partition, which costs a read in each. */
#include "access.h"
#include "order/order_internal.h"

struct find {
	struct order *order;
	const struct rt_call *call;
	void (*found)(void *user, int status, int partition);
	void *user;
	int status, partition; /* so far */
	size_t left;           /* reads under way */
	struct looked {
		struct order_get_op get;
		struct find *find;
	} looked[];
};

static bool may_reach(const struct find *find, const struct order_record *record)
{
	struct rt_arena arena = { .chunks = NULL };
	const Tandem__Order__V1__Order *order;
	bool own;

	if (rt_call_identity(find->call)->owner[0] == '\0')
		return true;
	order = order_view(&arena, record, NULL, 0);
	own = order != NULL && access_is_own(find->call, order->customer_id);
	rt_arena_done(&arena);
	return own;
}

static void order_looked_for(struct order_get_op *op, int status)
{
	struct looked *looked = RT_CONTAINER_OF(op, struct looked, get);
	struct find *find = looked->find;
	struct order *order = find->order;

	if (status != RT_OK)
		find->status = status;
	else if (op->found && may_reach(find, &op->record))
		find->partition = op->partition;
	if (--find->left > 0)
		return;
	/* One that does not answer matters only if the order is in none of the others. */
	find->found(find->user, find->partition >= 0 ? RT_OK : find->status, find->partition);
	free(find);
	order_call_end(order);
}

void order_find(struct order *order, const struct rt_call *call, const char *order_id,
		void (*found)(void *user, int status, int partition), void *user)
{
	int partition = order_partition(order, order_id);
	int first = partition >= 0 ? partition : 0;
	size_t count = partition >= 0 ? 1 : (size_t)order->partition_count;
	struct find *find;

	if (partition >= 0 && rt_call_identity(call)->owner[0] == '\0') {
		found(user, RT_OK, partition);
		return;
	}
	find = rt_alloc(sizeof(*find) + count * sizeof(find->looked[0]));
	find->order = order;
	find->call = call;
	find->found = found;
	find->user = user;
	find->partition = -1;
	find->left = count;
	order_call_begin(order);
	for (size_t i = 0; i < count; i++) {
		find->looked[i].find = find;
		find->looked[i].get = (struct order_get_op){ .partition = first + (int)i,
							     .order_id = order_id,
							     .done = order_looked_for };
		order_store_get(order->store, &find->looked[i].get);
	}
}
