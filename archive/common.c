/* common.c - what the RPCs have in common: jobs, orders as messages, filters and tokens. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "access.h"
#include "archive_internal.h"
#include "order_reason.h"
#include "page_token.h"
#include "tandem/order/v1/order_events.pb-c.h"

#define RETRY_MS 1000

/* ---- calls ---- */

void archive_call_begin(struct archive *archive)
{
	rt_context_hold(archive->context);
}

void archive_call_end(struct archive *archive)
{
	rt_context_release(archive->context);
}

bool archive_call_job(struct archive *archive, struct rt_call *call, struct archive_job *job)
{
	struct rt_status status = { .code = 0 };

	if (archive_worker_add(archive->readers, job, ARCHIVE_JOBS_MAX))
		return true;
	rt_status_set(&status, RT_CODE_RESOURCE_EXHAUSTED, "too many searches wait");
	rt_status_retry(&status, RETRY_MS);
	rt_call_fail(call, &status);
	rt_status_done(&status);
	return false;
}

void archive_call_failed(struct rt_call *call, const struct archive_job *job)
{
	struct rt_status status = { .code = 0 };

	RT_LOG(RT_WARN, "the database could not be read",
	       RT_S("status", rt_status_name(job->status)), RT_S("reason", job->error));
	rt_status_set(&status, RT_CODE_UNAVAILABLE, "the archive's database cannot be read now");
	rt_status_retry(&status, RETRY_MS);
	rt_call_fail(call, &status);
	rt_status_done(&status);
}

/* ---- orders ---- */

Google__Protobuf__Timestamp *archive_time(struct rt_arena *arena, int64_t unix_ms)
{
	Google__Protobuf__Timestamp *time = rt_arena_take(arena, sizeof(*time));

	google__protobuf__timestamp__init(time);
	time->seconds = unix_ms / 1000;
	time->nanos = (int32_t)(unix_ms % 1000) * 1000000;
	return time;
}

int64_t archive_time_ms(const Google__Protobuf__Timestamp *time)
{
	if (time == NULL || time->seconds < 0)
		return 0;
	if (time->seconds >= RT_TIME_MS_MAX / 1000)
		return RT_TIME_MS_MAX;
	return time->seconds * 1000 + RT_MAX(time->nanos, 0) / 1000000;
}

static void view_labels(struct rt_arena *arena, Tandem__Order__V1__Order *order,
			const Tandem__Order__V1__OrderContent *content)
{
	order->n_labels = content->n_labels;
	order->labels = rt_arena_take(arena, (content->n_labels + 1) * sizeof(*order->labels));
	for (size_t i = 0; i < content->n_labels; i++) {
		Tandem__Order__V1__Order__LabelsEntry *entry = rt_arena_take(arena, sizeof(*entry));

		tandem__order__v1__order__labels_entry__init(entry);
		entry->key = content->labels[i]->key;
		entry->value = content->labels[i]->value;
		order->labels[i] = entry;
	}
}

/* Why it has its status: the message of the event that ended it; of a sale what came back since. */
static void view_detail(struct rt_arena *arena, Tandem__Order__V1__Order *order,
			const struct archive_text *detail)
{
	ProtobufCAllocator *in = rt_arena_allocator(arena);
	const uint8_t *data = (const uint8_t *)detail->data;
	const Tandem__Order__V1__OrderRejected *rejected;
	const Tandem__Order__V1__OrderCancelled *cancelled;
	const Tandem__Order__V1__OrderExpired *expired;
	const Tandem__Order__V1__OrderReturned *returned;

	switch (order->status) {
	case TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_REJECTED:
		rejected = tandem__order__v1__order_rejected__unpack(in, detail->length, data);
		order->status_reason = order_reason_rejected(arena, rejected);
		if (rejected == NULL)
			return;
		order->shortages = rejected->shortages;
		order->n_shortages = rejected->n_shortages;
		return;
	case TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CANCELLED:
		cancelled = tandem__order__v1__order_cancelled__unpack(in, detail->length, data);
		order->status_reason = order_reason_cancelled(arena, cancelled);
		return;
	case TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_EXPIRED:
		expired = tandem__order__v1__order_expired__unpack(in, detail->length, data);
		order->status_reason = order_reason_expired(arena, expired);
		return;
	case TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_CONFIRMED:
		returned = tandem__order__v1__order_returned__unpack(in, detail->length, data);
		if (returned == NULL)
			return;
		order->returns = returned->returns;
		order->n_returns = returned->n_returns;
		return;
	default:
		return;
	}
}

Tandem__Archive__V1__ArchivedOrder *archive_order_view(struct rt_arena *arena,
						       const struct archive_order *from)
{
	Tandem__Archive__V1__ArchivedOrder *archived = rt_arena_take(arena, sizeof(*archived));
	Tandem__Order__V1__Order *order = rt_arena_take(arena, sizeof(*order));
	Tandem__Order__V1__OrderPlaced *placed = NULL;

	tandem__archive__v1__archived_order__init(archived);
	tandem__order__v1__order__init(order);
	archived->order = order;
	archived->dropped = from->dropped;
	if (from->placed.length > 0)
		placed = tandem__order__v1__order_placed__unpack(
			rt_arena_allocator(arena), from->placed.length,
			(const uint8_t *)from->placed.data);
	archived->incomplete = placed == NULL || placed->content == NULL;
	order->order_id = (char *)(uintptr_t)from->order_id;
	order->status = (Tandem__Order__V1__OrderStatus)from->status;
	/* As it was when it was dropped: clients have seen no later version. */
	order->version = from->dropped ? from->version - 1 : from->version;
	order->settled = from->settled;
	order->create_time = archive_time(arena, from->placed_ms);
	order->update_time = archive_time(arena, from->updated_ms);
	if (!archived->incomplete) {
		order->customer_id = placed->content->customer_id;
		order->lines = placed->content->lines;
		order->n_lines = placed->content->n_lines;
		view_labels(arena, order, placed->content);
	}
	view_detail(arena, order, &from->detail);
	return archived;
}

/* ---- lists ---- */

static const char *given(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

bool archive_filter_from(const struct rt_call *call,
			 const Tandem__Archive__V1__OrderFilter *message,
			 struct archive_filter *filter, struct rt_status *status)
{
	/* A customer's search is among its own orders. */
	*filter = (struct archive_filter){ .customer_id = given(rt_call_identity(call)->owner) };
	if (message == NULL)
		return true;
	if (message->customer_id[0] != '\0' && !access_customer(call, message->customer_id, status))
		return false;
	if (message->customer_id[0] != '\0')
		filter->customer_id = message->customer_id;
	filter->status = (int)message->status;
	filter->from_ms = archive_time_ms(message->from_time);
	filter->to_ms = archive_time_ms(message->to_time);
	filter->sku = given(message->sku);
	filter->label_key = given(message->label_key);
	filter->label_value = message->label_value;
	return true;
}

static const char *or_nothing(const char *text)
{
	return text != NULL ? text : "";
}

/* Lengths stand before texts: no two lists have the same name. */
char *archive_filter_name(const char *method, const struct archive_filter *filter)
{
	const char *customer = or_nothing(filter->customer_id),
		   *key = or_nothing(filter->label_key);

	return rt_printf("%s %d %d %" PRId64 " %" PRId64 " %zu:%s %zu:%s %s %s", method,
			 filter->oldest_first, filter->status, filter->from_ms, filter->to_ms,
			 strlen(customer), customer, strlen(key), key, or_nothing(filter->sku),
			 filter->label_key != NULL ? filter->label_value : "");
}

bool archive_read_token(const char *list, const char *token, int64_t *ret_after,
			struct rt_status *status)
{
	const char *position = token[0] != '\0' ? page_token_read(list, token) : "0";

	if (position != NULL && rt_parse_int(position, 0, INT64_MAX, ret_after))
		return true;
	page_token_status(status);
	return false;
}

char *archive_new_token(const char *list, int64_t after)
{
	char position[RT_INT_TEXT];

	rt_int_text(after, position);
	return page_token_new(list, position);
}
