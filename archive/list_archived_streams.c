/* list_archived_streams.c - ListArchivedStreams: how far the streams were read, and what of them is not here. */
#include "archive_internal.h"
#include "check.h"

#define MISSING_MAX 1000 /* gaps, and unreadable entries, of a stream */

struct list_streams {
	struct archive *archive;
	struct archive_job job;
	struct rt_arena arena;
	Tandem__Archive__V1__ListArchivedStreamsResponse response;
	Tandem__Archive__V1__ListArchivedStreamsResponse_Closure closure;
	struct rt_call *call;
};

static Tandem__Archive__V1__ArchiveGap *view_gap(struct rt_arena *arena, struct archive_gap *from)
{
	Tandem__Archive__V1__ArchiveGap *gap = rt_arena_take(arena, sizeof(*gap));

	tandem__archive__v1__archive_gap__init(gap);
	gap->after_id = from->after;
	gap->before_id = from->before;
	gap->events = (uint64_t)from->events;
	gap->found_time = archive_time(arena, from->found_ms);
	gap->reason = (char *)(uintptr_t)from->reason;
	return gap;
}

static Tandem__Archive__V1__UnreadableEntry *view_unreadable(struct rt_arena *arena,
							     const struct archive_unreadable *from)
{
	Tandem__Archive__V1__UnreadableEntry *entry = rt_arena_take(arena, sizeof(*entry));

	tandem__archive__v1__unreadable_entry__init(entry);
	entry->id = (char *)(uintptr_t)from->id;
	entry->reason = (char *)(uintptr_t)from->reason;
	return entry;
}

static Tandem__Archive__V1__ArchivedStream *view(struct rt_arena *arena,
						 struct archive_stream *from)
{
	Tandem__Archive__V1__ArchivedStream *stream = rt_arena_take(arena, sizeof(*stream));

	tandem__archive__v1__archived_stream__init(stream);
	stream->name = from->position.stream;
	stream->last_id = from->position.id;
	stream->events = (uint64_t)from->position.events;
	stream->gaps = rt_arena_take(arena, (from->gap_count + 1) * sizeof(*stream->gaps));
	for (size_t i = 0; i < from->gap_count; i++)
		stream->gaps[stream->n_gaps++] = view_gap(arena, &from->gaps[i]);
	stream->unreadable =
		rt_arena_take(arena, (from->unreadable_count + 1) * sizeof(*stream->unreadable));
	for (size_t i = 0; i < from->unreadable_count; i++)
		stream->unreadable[stream->n_unreadable++] =
			view_unreadable(arena, &from->unreadable[i]);
	return stream;
}

static int run_list(struct archive_job *job, struct archive_store *store)
{
	struct list_streams *list = RT_CONTAINER_OF(job, struct list_streams, job);
	struct archive_streams found;
	int rc = archive_store_streams(store, MISSING_MAX, &list->arena, &found);

	if (rc != RT_OK)
		return rc;
	list->response.streams =
		rt_arena_take(&list->arena, (found.count + 1) * sizeof(*list->response.streams));
	for (size_t i = 0; i < found.count; i++)
		list->response.streams[list->response.n_streams++] =
			view(&list->arena, &found.list[i]);
	return RT_OK;
}

static void streams_listed(struct archive_job *job)
{
	struct list_streams *list = RT_CONTAINER_OF(job, struct list_streams, job);
	struct archive *archive = list->archive;

	if (job->status == RT_OK)
		list->closure(&list->response, list->call);
	else
		archive_call_failed(list->call, job);
	rt_arena_done(&list->arena);
	free(list);
	archive_call_end(archive);
}

ARCHIVE_HANDLER(archive_list_archived_streams, ListArchivedStreams)
{
	struct archive *archive = RT_CONTAINER_OF(service, struct archive, service);
	struct list_streams *list;

	if (!check_call(closure_data, &request->base))
		return;
	list = rt_alloc(sizeof(*list));
	list->archive = archive;
	list->job.run = run_list;
	list->job.done = streams_listed;
	list->closure = closure;
	list->call = closure_data;
	tandem__archive__v1__list_archived_streams_response__init(&list->response);
	archive_call_begin(archive);
	if (archive_call_job(archive, list->call, &list->job))
		return;
	free(list);
	archive_call_end(archive);
}
