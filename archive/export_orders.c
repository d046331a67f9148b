/* export_orders.c - ExportOrders: all orders that a search finds, a part in each message.
 *
 *   archive_export_orders → next_part
 *     run_part            (a thread) reads a part, and makes a message of it
 *     part_read           sends it → next_part, or waits until the client has taken some → drained
 *   cancelled             the client has gone: the call ends, at once or when the part under way is read
 *
 * The token of a message says where the next one begins: with it a broken export is resumed. */
#include "archive_internal.h"
#include "check.h"

#define PART_MAX       500 /* orders in a message */
#define PART_BYTES_MAX ((size_t)1024 * 1024)
#define LOOK_MAX       5000 /* orders that a message looks at */

struct export_orders {
	struct archive *archive;
	struct archive_job job;
	struct archive_filter filter;
	int64_t after;
	bool more, reading, cancelled;
	char *name; /* of the list */
	struct rt_arena arena;
	Tandem__Archive__V1__ExportOrdersResponse response;
	Tandem__Archive__V1__ExportOrdersResponse_Closure closure;
	struct rt_call *call;
};

static void next_part(struct export_orders *export);

static void export_free(struct export_orders *export)
{
	struct archive *archive = export->archive;

	rt_arena_done(&export->arena);
	free(export->name);
	free(export);
	archive_call_end(archive);
}

/* Takes back what could still be called; then the call is to be ended. */
static void let_go(struct export_orders *export)
{
	rt_call_on_cancel(export->call, NULL, NULL);
	rt_call_on_drained(export->call, NULL, NULL);
}

static void finish(struct export_orders *export)
{
	let_go(export);
	rt_call_finish(export->call);
	export_free(export);
}

static void cancelled(struct rt_call *call, void *user)
{
	struct export_orders *export = user;

	(void)call;
	export->cancelled = true;
	if (!export->reading)
		finish(export);
}

static void drained(struct rt_call *call, void *user)
{
	(void)call;
	next_part(user);
}

/* ---- a part ---- */

static int run_part(struct archive_job *job, struct archive_store *store)
{
	struct export_orders *export = RT_CONTAINER_OF(job, struct export_orders, job);
	Tandem__Archive__V1__ExportOrdersResponse *response = &export->response;
	struct archive_orders found;
	size_t bytes = 0;
	int rc;

	RT_FAILPOINT("archive.export");
	rc = archive_store_search(store, &export->filter, export->after, PART_MAX, LOOK_MAX,
				  &export->arena, &found);
	if (rc != RT_OK)
		return rc;
	export->more = found.more;
	export->after = found.after;
	response->orders =
		rt_arena_take(&export->arena, (found.count + 1) * sizeof(*response->orders));
	for (size_t i = 0; i < found.count; i++) {
		const struct archive_order *order = &found.list[i];

		bytes += order->placed.length + order->detail.length;
		if (i > 0 && bytes > PART_BYTES_MAX) {
			export->more = true;
			export->after = found.list[i - 1].no;
			break;
		}
		response->orders[response->n_orders++] = archive_order_view(&export->arena, order);
	}
	return RT_OK;
}

static void send_part(struct export_orders *export)
{
	char *token = archive_new_token(export->name, export->after);

	export->response.next_page_token = token;
	export->closure(&export->response, export->call);
	free(token);
}

static void part_read(struct archive_job *job)
{
	struct export_orders *export = RT_CONTAINER_OF(job, struct export_orders, job);

	export->reading = false;
	if (export->cancelled) {
		finish(export);
		return;
	}
	if (job->status != RT_OK) {
		let_go(export);
		archive_call_failed(export->call, job);
		export_free(export);
		return;
	}
	send_part(export);
	if (!export->more)
		finish(export);
	else if (rt_call_queued_bytes(export->call) > RT_CALL_QUEUE_MAX_BYTES)
		rt_call_on_drained(export->call, drained, export);
	else
		next_part(export);
}

static void next_part(struct export_orders *export)
{
	rt_arena_reset(&export->arena, PART_BYTES_MAX);
	tandem__archive__v1__export_orders_response__init(&export->response);
	export->reading = true;
	archive_worker_add(export->archive->readers, &export->job, 0);
}

ARCHIVE_HANDLER(archive_export_orders, ExportOrders)
{
	struct archive *archive = RT_CONTAINER_OF(service, struct archive, service);
	struct rt_status status = { .code = 0 };
	struct export_orders *export;
	bool fine;

	if (!check_call(closure_data, &request->base))
		return;
	export = rt_alloc(sizeof(*export));
	export->archive = archive;
	export->job.run = run_part;
	export->job.done = part_read;
	export->closure = closure;
	export->call = closure_data;
	fine = archive_filter_from(closure_data, request->filter, &export->filter, &status);
	export->filter.oldest_first = true;
	export->name = archive_filter_name("ExportOrders", &export->filter);
	archive_call_begin(archive);
	if (!fine ||
	    !archive_read_token(export->name, request->page_token, &export->after, &status)) {
		rt_call_fail(export->call, &status);
		rt_status_done(&status);
		export_free(export);
		return;
	}
	rt_call_on_cancel(export->call, cancelled, export);
	next_part(export);
}
