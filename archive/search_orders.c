/* search_orders.c - SearchOrders: a page of orders. A position is the number of the last order that the page before it
 * looked at. */
#include "archive_internal.h"
#include "check.h"

#define LOOK_MAX       500 /* orders that a page looks at */
#define PAGE_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct search_orders {
	struct archive *archive;
	struct archive_job job;
	struct archive_filter filter;
	int64_t after;
	size_t count_max;
	char *name; /* of the list */
	struct rt_arena arena;
	Tandem__Archive__V1__SearchOrdersResponse response;
	Tandem__Archive__V1__SearchOrdersResponse_Closure closure;
	struct rt_call *call;
};

static void fill(struct search_orders *search, struct archive_orders *found)
{
	Tandem__Archive__V1__SearchOrdersResponse *response = &search->response;
	size_t bytes = 0;

	response->orders =
		rt_arena_take(&search->arena, (found->count + 1) * sizeof(*response->orders));
	for (size_t i = 0; i < found->count; i++) {
		const struct archive_order *order = &found->list[i];

		bytes += order->placed.length + order->detail.length;
		if (i > 0 && bytes > PAGE_BYTES_MAX) {
			found->more = true;
			found->after = found->list[i - 1].no;
			break;
		}
		response->orders[response->n_orders++] = archive_order_view(&search->arena, order);
	}
}

static int run_search(struct archive_job *job, struct archive_store *store)
{
	struct search_orders *search = RT_CONTAINER_OF(job, struct search_orders, job);
	struct archive_orders found;
	int rc = archive_store_search(store, &search->filter, search->after, search->count_max,
				      LOOK_MAX, &search->arena, &found);

	if (rc != RT_OK)
		return rc;
	fill(search, &found);
	search->after = found.more ? found.after : 0;
	return RT_OK;
}

static void search_free(struct search_orders *search)
{
	struct archive *archive = search->archive;

	rt_arena_done(&search->arena);
	free(search->name);
	free(search);
	archive_call_end(archive);
}

static void orders_found(struct archive_job *job)
{
	struct search_orders *search = RT_CONTAINER_OF(job, struct search_orders, job);
	char *token = NULL;

	if (job->status != RT_OK) {
		archive_call_failed(search->call, job);
	} else {
		if (search->after > 0)
			search->response.next_page_token = token =
				archive_new_token(search->name, search->after);
		if (search->after > 0 && !search->filter.oldest_first)
			search->response.complete_after_time =
				archive_time(&search->arena, search->after >> ARCHIVE_NO_BITS);
		search->closure(&search->response, search->call);
	}
	free(token);
	search_free(search);
}

ARCHIVE_HANDLER(archive_search_orders, SearchOrders)
{
	struct archive *archive = RT_CONTAINER_OF(service, struct archive, service);
	struct rt_status status = { .code = 0 };
	struct search_orders *search;
	bool fine;

	if (!check_call(closure_data, &request->base))
		return;
	search = rt_alloc(sizeof(*search));
	search->archive = archive;
	search->job.run = run_search;
	search->job.done = orders_found;
	search->count_max = check_page_size(request->page_size);
	search->closure = closure;
	search->call = closure_data;
	tandem__archive__v1__search_orders_response__init(&search->response);
	fine = archive_filter_from(closure_data, request->filter, &search->filter, &status);
	search->filter.oldest_first = request->oldest_first;
	search->name = archive_filter_name("SearchOrders", &search->filter);
	archive_call_begin(archive);
	if (!fine ||
	    !archive_read_token(search->name, request->page_token, &search->after, &status)) {
		rt_call_fail(search->call, &status);
		rt_status_done(&status);
		search_free(search);
	} else if (!archive_call_job(archive, search->call, &search->job)) {
		search_free(search);
	}
}
