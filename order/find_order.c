/* find_order.c - finds the partition of an order.
 *
 * An id with a bucket says it. One without, of an order that was placed when there was one partition and whose data was
 * moved since, is looked for in every partition, which costs a read in each. */
#include "order/order_internal.h"

struct find {
	struct order *order;
	void (*found)(void *user, int status, int partition);
	void *user;
	int status, partition; /* so far */
	size_t left;           /* reads under way */
	struct looked {
		struct order_get_op get;
		struct find *find;
	} looked[];
};

static void order_looked_for(struct order_get_op *op, int status)
{
	struct looked *looked = RT_CONTAINER_OF(op, struct looked, get);
	struct find *find = looked->find;
	struct order *order = find->order;

	if (status != RT_OK)
		find->status = status;
	else if (op->found)
		find->partition = op->partition;
	if (--find->left > 0)
		return;
	/* One that does not answer matters only if the order is in none of the others. */
	find->found(find->user, find->partition >= 0 ? RT_OK : find->status, find->partition);
	free(find);
	order_call_end(order);
}

void order_find(struct order *order, const char *order_id,
		void (*found)(void *user, int status, int partition), void *user)
{
	size_t count = (size_t)order->partition_count;
	int partition = order_partition(order, order_id);
	struct find *find;

	if (partition >= 0) {
		found(user, RT_OK, partition);
		return;
	}
	find = rt_alloc(sizeof(*find) + count * sizeof(find->looked[0]));
	find->order = order;
	find->found = found;
	find->user = user;
	find->partition = -1;
	find->left = count;
	order_call_begin(order);
	for (size_t p = 0; p < count; p++) {
		find->looked[p].find = find;
		find->looked[p].get = (struct order_get_op){ .partition = (int)p,
							     .order_id = order_id,
							     .done = order_looked_for };
		order_store_get(order->store, &find->looked[p].get);
	}
}
