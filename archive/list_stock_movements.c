/* list_stock_movements.c - ListStockMovements: a page of what happened to a SKU. A position is the number of the last
 * movement of the page before it. */
#include <inttypes.h>

#include "archive_internal.h"
#include "check.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

struct list_movements {
	struct archive *archive;
	struct archive_job job;
	const char *sku;
	int64_t from_ms, to_ms, after;
	size_t count_max;
	char *name; /* of the list */
	struct rt_arena arena;
	Tandem__Archive__V1__ListStockMovementsResponse response;
	Tandem__Archive__V1__ListStockMovementsResponse_Closure closure;
	struct rt_call *call;
};

static Tandem__Archive__V1__StockMovement *view(struct rt_arena *arena,
						const struct archive_movement *from)
{
	Tandem__Archive__V1__StockMovement *movement = rt_arena_take(arena, sizeof(*movement));
	const Tandem__Inventory__V1__StockAdjusted *adjusted;

	tandem__archive__v1__stock_movement__init(movement);
	movement->time = archive_time(arena, from->time_ms);
	movement->kind = (Tandem__Archive__V1__StockMovementKind)from->kind;
	movement->quantity = from->quantity;
	movement->actor = (char *)(uintptr_t)from->actor;
	if (from->order_id != NULL)
		movement->order_id = (char *)(uintptr_t)from->order_id;
	if (from->data.length == 0)
		return movement;
	adjusted = tandem__inventory__v1__stock_adjusted__unpack(
		rt_arena_allocator(arena), from->data.length, (const uint8_t *)from->data.data);
	if (adjusted != NULL)
		movement->reason = adjusted->reason;
	return movement;
}

static int run_list(struct archive_job *job, struct archive_store *store)
{
	struct list_movements *list = RT_CONTAINER_OF(job, struct list_movements, job);
	struct archive_movements found;
	int rc = archive_store_movements(store, list->sku, list->from_ms, list->to_ms, list->after,
					 list->count_max, &list->arena, &found);

	if (rc != RT_OK)
		return rc;
	list->response.movements =
		rt_arena_take(&list->arena, (found.count + 1) * sizeof(*list->response.movements));
	for (size_t i = 0; i < found.count; i++)
		list->response.movements[i] = view(&list->arena, &found.list[i]);
	list->response.n_movements = found.count;
	list->after = found.more ? found.after : 0;
	return RT_OK;
}

static void list_free(struct list_movements *list)
{
	struct archive *archive = list->archive;

	rt_arena_done(&list->arena);
	free(list->name);
	free(list);
	archive_call_end(archive);
}

static void movements_listed(struct archive_job *job)
{
	struct list_movements *list = RT_CONTAINER_OF(job, struct list_movements, job);
	char *token = NULL;

	if (job->status != RT_OK) {
		archive_call_failed(list->call, job);
	} else {
		if (list->after > 0)
			list->response.next_page_token = token =
				archive_new_token(list->name, list->after);
		list->closure(&list->response, list->call);
	}
	free(token);
	list_free(list);
}

ARCHIVE_HANDLER(archive_list_stock_movements, ListStockMovements)
{
	struct archive *archive = RT_CONTAINER_OF(service, struct archive, service);
	struct rt_status status = { .code = 0 };
	struct list_movements *list;

	if (!check_call(closure_data, &request->base))
		return;
	list = rt_alloc(sizeof(*list));
	list->archive = archive;
	list->job.run = run_list;
	list->job.done = movements_listed;
	list->sku = request->sku;
	list->from_ms = archive_time_ms(request->from_time);
	list->to_ms = archive_time_ms(request->to_time);
	list->count_max = check_page_size(request->page_size);
	list->closure = closure;
	list->call = closure_data;
	list->name = rt_printf("ListStockMovements %" PRId64 " %" PRId64 " %s", list->from_ms,
			       list->to_ms, list->sku);
	tandem__archive__v1__list_stock_movements_response__init(&list->response);
	archive_call_begin(archive);
	if (!archive_read_token(list->name, request->page_token, &list->after, &status)) {
		rt_call_fail(list->call, &status);
		rt_status_done(&status);
		list_free(list);
	} else if (!archive_call_job(archive, list->call, &list->job)) {
		list_free(list);
	}
}
