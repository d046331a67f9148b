/* find_orders.c - FindOrders: many orders by their ids, for gateways. */
#include "archive_internal.h"
#include "check.h"

#define ANSWER_BYTES_MAX ((size_t)1024 * 1024) /* of what was placed: an answer has it twice */

struct find_orders {
	struct archive *archive;
	struct archive_job job;
	const Tandem__Archive__V1__FindOrdersRequest *request;
	struct rt_arena arena;
	Tandem__Archive__V1__FindOrdersResponse response;
	Tandem__Archive__V1__FindOrdersResponse_Closure closure;
	struct rt_call *call;
};

static Tandem__Archive__V1__FoundOrder *view(struct rt_arena *arena,
					     const struct archive_order *order)
{
	Tandem__Archive__V1__FoundOrder *found = rt_arena_take(arena, sizeof(*found));

	tandem__archive__v1__found_order__init(found);
	found->order = archive_order_view(arena, order);
	found->placed.data = (uint8_t *)(uintptr_t)order->placed.data;
	found->placed.len = order->placed.length;
	return found;
}

static int run_find(struct archive_job *job, struct archive_store *store)
{
	struct find_orders *find = RT_CONTAINER_OF(job, struct find_orders, job);
	Tandem__Archive__V1__FindOrdersResponse *response = &find->response;
	size_t count = find->request->n_order_ids, bytes = 0;
	struct archive_order *list = rt_arena_take(&find->arena, (count + 1) * sizeof(*list));
	int rc = archive_store_find(store, find->request->order_ids, count, &find->arena, list);

	if (rc != RT_OK)
		return rc;
	response->orders = rt_arena_take(&find->arena, (count + 1) * sizeof(*response->orders));
	for (size_t i = 0; i < count; i++) {
		bytes += list[i].placed.length + list[i].detail.length;
		if (i > 0 && bytes > ANSWER_BYTES_MAX)
			break;
		response->answered++;
		if (list[i].order_id != NULL)
			response->orders[response->n_orders++] = view(&find->arena, &list[i]);
	}
	return RT_OK;
}

static void find_free(struct find_orders *find)
{
	struct archive *archive = find->archive;

	rt_arena_done(&find->arena);
	free(find);
	archive_call_end(archive);
}

static void orders_found(struct archive_job *job)
{
	struct find_orders *find = RT_CONTAINER_OF(job, struct find_orders, job);

	if (job->status == RT_OK)
		find->closure(&find->response, find->call);
	else
		archive_call_failed(find->call, job);
	find_free(find);
}

ARCHIVE_HANDLER(archive_find_orders, FindOrders)
{
	struct archive *archive = RT_CONTAINER_OF(service, struct archive, service);
	struct find_orders *find;

	if (!check_call(closure_data, &request->base))
		return;
	find = rt_alloc(sizeof(*find));
	find->archive = archive;
	find->job.run = run_find;
	find->job.done = orders_found;
	find->request = request;
	find->closure = closure;
	find->call = closure_data;
	tandem__archive__v1__find_orders_response__init(&find->response);
	archive_call_begin(archive);
	if (!archive_call_job(archive, find->call, &find->job))
		find_free(find);
}
