/* archive.c - makes the archive, and ends it.
 *
 * The context (runtime/context) owns the connection for commands, and its watch over the functions. It subscribes to
 * nothing: each partition has a reader of its own (reader.c), whose place is in the database. */
#include <stdio.h>

#include "archive_internal.h"

static void register_metrics(struct archive *archive, struct rt_metrics *metrics)
{
	if (metrics == NULL)
		return;
	archive->counts.orders = rt_metric_plain(metrics, RT_COUNTER, "tandem_archive_orders_total",
						 "Orders that were archived.");
	archive->counts.repeats =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_archive_repeated_events_total",
				"Events that were archived before: requests and answers that were "
				"repeated.");
	archive->counts.movements =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_archive_movements_total",
				"Movements of stock that were archived.");
	archive->counts.unreadable =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_archive_unreadable_entries_total",
				"Entries of streams that were archived as they are, since they "
				"cannot be read.");
	archive->counts.released =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_archive_released_orders_total",
				"Orders of which it was said that they may be dropped, also "
				"when it was said again.");
	archive->counts.dropped =
		rt_metric_plain(metrics, RT_COUNTER, "tandem_archive_dropped_orders_total",
				"Orders that the order service has dropped.");
	archive->counts.write_seconds =
		rt_metric_plain(metrics, RT_HISTOGRAM, "tandem_archive_write_seconds",
				"Time in which a batch of events was written.");
	archive->counts.up =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_archive_database_up",
				"1 if the database took what was last to be archived.");
}

static void make_releases(struct archive *archive)
{
	archive->releases =
		rt_alloc((size_t)archive->partition_count * sizeof(struct archive_release *));
	for (int p = 0; p < archive->partition_count; p++)
		archive->releases[p] = archive_release_new(archive, p);
}

static int make(struct rt_context *context, const void *given, void **ret_data)
{
	const struct archive_options *options = given;
	struct archive_store_options store = { .database = options->database,
					       .writes = true,
					       .cache_kb = options->cache_kb };
	struct archive *archive = rt_alloc(sizeof(*archive));
	int rc;

	*ret_data = archive;
	archive->service = (Tandem__Archive__V1__ArchiveService_Service)
		TANDEM__ARCHIVE__V1__ARCHIVE_SERVICE__INIT(archive_);
	archive->context = context;
	archive->loop = context->loop;
	archive->write_every_ms = options->write_every_ms;
	archive->release_after_ms = options->release_after_ms;
	archive->release_count = options->release_count;
	archive->release_min_age_ms = options->release_min_age_ms;
	archive->ids = store.ids = archive_ids_new();
	register_metrics(archive, context->metrics);
	archive->partitions =
		rt_alloc((size_t)context->partition_count * sizeof(struct archive_partition *));
	archive->partition_count = context->partition_count;
	rc = archive_worker_new(archive->loop, &store, 1, &archive->writer);
	store.writes = false;
	if (rc == RT_OK)
		rc = archive_worker_new(archive->loop, &store, (size_t)options->reading_threads,
					&archive->readers);
	for (int p = 0; rc == RT_OK && p < archive->partition_count; p++)
		rc = archive_partition_new(archive, p, &archive->partitions[p]);
	if (rc == RT_OK && (archive->release_after_ms > 0 || archive->release_count > 0))
		make_releases(archive);
	return rc;
}

static ProtobufCService *service(void *data, size_t number)
{
	struct archive *archive = data;

	return number == 0 ? &archive->service.base : NULL;
}

static void start(void *data)
{
	const struct archive *archive = data;

	for (int p = 0; p < archive->partition_count; p++)
		archive_partition_start(archive->partitions[p]);
	for (int p = 0; archive->releases != NULL && p < archive->partition_count; p++)
		archive_release_start(archive->releases[p]);
}

/* The first that is found: when the database is away it is that of all. */
static bool storage_problem(const void *data, char *text, size_t size)
{
	const struct archive *archive = data;

	for (int p = 0; p < archive->partition_count; p++) {
		const char *problem = archive_partition_problem(archive->partitions[p]);

		if (problem == NULL)
			continue;
		snprintf(text, size, "%s", problem);
		return true;
	}
	return false;
}

static void ended(void *user)
{
	archive_call_end(user);
}

/* The readers' jobs are of calls, which have ended by now. */
static void stop(void *data)
{
	struct archive *archive = data;

	for (int p = 0; archive->releases != NULL && p < archive->partition_count; p++)
		archive_release_stop(archive->releases[p]);
	for (int p = 0; p < archive->partition_count; p++) {
		archive_call_begin(archive);
		archive_partition_stop(archive->partitions[p], ended, archive);
	}
}

static void data_free(void *data)
{
	struct archive *archive = data;

	/* Waits for its threads, which have nothing to do. */
	archive_worker_free(archive->writer);
	archive_worker_free(archive->readers);
	for (int p = 0; p < archive->partition_count; p++)
		archive_partition_free(archive->partitions[p]);
	for (int p = 0; archive->releases != NULL && p < archive->partition_count; p++)
		archive_release_free(archive->releases[p]);
	free(archive->releases);
	archive_ids_free(archive->ids);
	free(archive->partitions);
	free(archive);
}

const struct rt_context_domain archive_domain = {
	.name = "archive",
	.functions = &archive_functions,
	.make = make,
	.service = service,
	.start = start,
	.storage_problem = storage_problem,
	.stop = stop,
	.free = data_free,
};
