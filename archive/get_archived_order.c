/* get_archived_order.c - GetArchivedOrder: one order, and all that happened to it. */
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "archive_internal.h"
#include "check.h"

struct get_order {
	struct archive *archive;
	struct archive_job job;
	const char *order_id;
	struct rt_arena arena;
	struct archive_life life;
	Tandem__Archive__V1__GetArchivedOrderResponse response;
	Tandem__Archive__V1__GetArchivedOrderResponse_Closure closure;
	struct rt_call *call;
};

/* What an event is to people; NULL: its kind is all there is to say. */
static const char *text_of(const char *kind)
{
	static const struct {
		const char *kind, *text;
	} texts[] = {
		{ "OrderPlaced",
		  "The order was placed. Inventory was asked to reserve its lines." },
		{ "OrderReserved", "Inventory holds every line." },
		{ "OrderRejected", "Inventory could not hold every line." },
		{ "OrderConfirmed", "The order was confirmed. Inventory was asked to commit the "
				    "reservation." },
		{ "OrderCancelled", "The order was cancelled. Inventory was asked to release what "
				    "it holds." },
		{ "OrderExpired", "The order was ended by its timer. Inventory was asked to "
				  "release what it holds." },
		{ "OrderHoldExtended", "The order keeps its stock for longer." },
		{ "OrderReturned", "Items came back. Inventory was asked to make them available." },
		{ "OrderSettled", "Inventory answered the last request." },
		{ "InventoryReserved", "Every line was reserved." },
		{ "InventoryUnavailable", "A line was short: nothing was reserved." },
		{ "InventoryCommitted", "What was reserved is sold." },
		{ "InventoryReleased", "Nothing is held any more." },
		{ "InventoryReturned", "What came back is available." },
	};

	for (size_t i = 0; i < RT_LENGTH(texts); i++)
		if (strcmp(kind, texts[i].kind) == 0)
			return texts[i].text;
	return NULL;
}

static Tandem__Order__V1__OrderLifeEvent *view_event(struct rt_arena *arena,
						     const struct archive_life_event *from)
{
	Tandem__Order__V1__OrderLifeEvent *event = rt_arena_take(arena, sizeof(*event));
	const char *text = text_of(from->kind);

	tandem__order__v1__order_life_event__init(event);
	event->time = archive_time(arena, from->time_ms);
	event->context = rt_arena_printf(arena, "%s",
					 from->context == ARCHIVE_ORDER ? "order" : "inventory");
	event->kind = (char *)(uintptr_t)from->kind;
	event->text = text != NULL ? rt_arena_printf(arena, "%s", text)
				   : rt_arena_printf(arena, "%s.", from->kind);
	event->version = from->version;
	event->actor = (char *)(uintptr_t)from->actor;
	return event;
}

static int compare(const void *a, const void *b)
{
	const struct archive_life_event *x = a, *y = b;

	if (x->time_ms != y->time_ms)
		return x->time_ms < y->time_ms ? -1 : 1;
	if (x->context == y->context)
		return x->version < y->version ? -1 : x->version > y->version;
	/* Within a millisecond: it is placed, then inventory answers, then that is noted. */
	if (x->version == 1 && x->context == ARCHIVE_ORDER)
		return -1;
	if (y->version == 1 && y->context == ARCHIVE_ORDER)
		return 1;
	return x->context == ARCHIVE_INVENTORY ? -1 : 1;
}

static int run_get(struct archive_job *job, struct archive_store *store)
{
	struct get_order *get = RT_CONTAINER_OF(job, struct get_order, job);
	Tandem__Archive__V1__GetArchivedOrderResponse *response = &get->response;
	struct archive_life *life = &get->life;
	int rc = archive_store_order(store, get->order_id, &get->arena, life);

	if (rc != RT_OK)
		return rc;
	if (life->event_count > 1)
		qsort(life->events, life->event_count, sizeof(*life->events), compare);
	response->order = archive_order_view(&get->arena, &life->order);
	response->events =
		rt_arena_take(&get->arena, (life->event_count + 1) * sizeof(*response->events));
	for (size_t i = 0; i < life->event_count; i++)
		response->events[response->n_events++] = view_event(&get->arena, &life->events[i]);
	return RT_OK;
}

static void order_read(struct archive_job *job)
{
	struct get_order *get = RT_CONTAINER_OF(job, struct get_order, job);
	struct archive *archive = get->archive;
	/* Another customer's is answered as one that does not exist. */
	bool known = job->status == RT_OK &&
		     access_is_own(get->call, get->life.order.customer_id != NULL
						      ? get->life.order.customer_id
						      : "");

	if (known)
		get->closure(&get->response, get->call);
	else if (job->status == RT_OK || job->status == RT_NOT_FOUND)
		rt_call_failf(get->call, RT_CODE_NOT_FOUND, "order %s is not archived",
			      get->order_id);
	else
		archive_call_failed(get->call, job);
	rt_arena_done(&get->arena);
	free(get);
	archive_call_end(archive);
}

ARCHIVE_HANDLER(archive_get_archived_order, GetArchivedOrder)
{
	struct archive *archive = RT_CONTAINER_OF(service, struct archive, service);
	struct get_order *get;

	if (!check_call(closure_data, &request->base))
		return;
	get = rt_alloc(sizeof(*get));
	get->archive = archive;
	get->job.run = run_get;
	get->job.done = order_read;
	get->order_id = request->order_id;
	get->closure = closure;
	get->call = closure_data;
	tandem__archive__v1__get_archived_order_response__init(&get->response);
	archive_call_begin(archive);
	if (archive_call_job(archive, get->call, &get->job))
		return;
	free(get);
	archive_call_end(archive);
}
