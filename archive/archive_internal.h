/* archive_internal.h - what the archive's files share among themselves. */
#ifndef ARCHIVE_INTERNAL_H
#define ARCHIVE_INTERNAL_H

#include "archive.h"
#include "rpc/rpc.h"
#include "store.h"
#include "tandem/archive/v1/archive_service.pb-c.h"
#include "worker.h"

#define ARCHIVE_STREAMS 2 /* of a partition: the orders' and inventory's */

struct archive_partition; /* reader.c */
struct archive_release;   /* release.c */

struct archive {
	Tandem__Archive__V1__ArchiveService_Service service;
	struct rt_context *context;
	struct rt_loop *loop;
	struct archive_worker *writer, *readers;
	struct archive_ids *ids; /* of the database, for all threads */
	struct archive_partition **partitions;
	struct archive_release **releases; /* of each partition; NULL: nothing is released */
	int partition_count;
	int64_t write_every_ms, release_after_ms, release_count, release_min_age_ms;
	struct {
		struct rt_series *orders, *events, *repeats, *movements, *unreadable,
			*write_seconds, *searches, *up, *released, *dropped; /* NULL: no metrics */
	} counts;
};

/* ---- reader.c ---- */

/* Reads the partition's streams into the database, from where it stands. */
int archive_partition_new(struct archive *archive, int number, struct archive_partition **ret);
void archive_partition_start(struct archive_partition *partition);
/* `stopped` runs once, when no batch is under way any more; never before this returns. */
void archive_partition_stop(struct archive_partition *partition, void (*stopped)(void *user),
			    void *user);
void archive_partition_free(struct archive_partition *partition); /* takes NULL */
/* Why nothing is archived, for a person; NULL: it is. */
const char *archive_partition_problem(const struct archive_partition *partition);

/* ---- release.c ---- */

/* Says, from time to time, which of the partition's orders may be dropped. */
struct archive_release *archive_release_new(struct archive *archive, int partition);
void archive_release_start(struct archive_release *release);
/* A batch of the partition was written. */
void archive_release_written(struct archive_release *release,
			     const struct archive_written *written);
/* Orders are kept again that were not: from the oldest on. */
void archive_release_anew(struct archive_release *release);
void archive_release_stop(struct archive_release *release);
void archive_release_free(struct archive_release *release); /* takes NULL */

static inline void archive_count(struct rt_series *series, double by)
{
	if (series != NULL)
		rt_series_add(series, by);
}

/* ---- common.c ---- */

/* Jobs of calls that may wait; one more is refused. */
#define ARCHIVE_JOBS_MAX 1000
/* A call begins and ends: the context does not stop in between. */
void archive_call_begin(struct archive *archive);
void archive_call_end(struct archive *archive);
/* Has a job of a call done; false: there are too many, and the call has failed. */
bool archive_call_job(struct archive *archive, struct rt_call *call, struct archive_job *job);
/* Ends a call whose job has failed. */
void archive_call_failed(struct rt_call *call, const struct archive_job *job);
/* An order as the RPCs give it; all of it lives in the arena. */
Tandem__Archive__V1__ArchivedOrder *archive_order_view(struct rt_arena *arena,
						       const struct archive_order *order);
Google__Protobuf__Timestamp *archive_time(struct rt_arena *arena, int64_t unix_ms);
int64_t archive_time_ms(const Google__Protobuf__Timestamp *time); /* NULL: 0 */

/* What a list is of: search_orders.c and export_orders.c. Texts are borrowed from request and caller. False: a customer
 * asks for another's orders, and *status says so. */
bool archive_filter_from(const struct rt_call *call,
			 const Tandem__Archive__V1__OrderFilter *message,
			 struct archive_filter *filter, struct rt_status *status);
/* The name of the list, for its tokens; freed by the caller. */
char *archive_filter_name(const char *method, const struct archive_filter *filter);
/* Where a list goes on; false: it is not a token of it, and *status says so. */
bool archive_read_token(const char *list, const char *token, int64_t *ret_after,
			struct rt_status *status);
char *archive_new_token(const char *list, int64_t after);

#define ARCHIVE_HANDLER(function, Method)                                                          \
	void function(Tandem__Archive__V1__ArchiveService_Service *service,                        \
		      const Tandem__Archive__V1__##Method##Request *request,                       \
		      Tandem__Archive__V1__##Method##Response_Closure closure, void *closure_data)
ARCHIVE_HANDLER(archive_search_orders, SearchOrders);
ARCHIVE_HANDLER(archive_get_archived_order, GetArchivedOrder);
ARCHIVE_HANDLER(archive_list_stock_movements, ListStockMovements);
ARCHIVE_HANDLER(archive_export_orders, ExportOrders);
ARCHIVE_HANDLER(archive_find_orders, FindOrders);
ARCHIVE_HANDLER(archive_list_archived_streams, ListArchivedStreams);

#endif
