/* release.c - says which orders of a partition the order service may drop.
 *
 *   archive_release_start
 *     look               each second, and sooner while there is more
 *       run_look         (the writer's thread) reads what is kept, the one that changed least recently first
 *       looked           leaves those that are too young
 *         say            publishes OrderArchived for some of them
 *           said         → say, after a moment, until all are said; then look
 *   archive_release_written   the order service has dropped some
 *
 * An order may be dropped when it is settled, is archived with its content, and nothing has happened to it for
 * --release-after; or when there are more such orders than --release-count, whose share each partition has, and this one has
 * been left alone for --release-min-age: before that the order service would keep it, and it had to be said again.
 *
 * At most UNDER_WAY_MAX are under way in a partition: said, and not dropped yet. So the order service has never much to do at
 * once. Those of which nothing has come after AGAIN_MS are said again: from then on the walk begins anew, at the oldest that
 * is still kept. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "archive_internal.h"

#define UNDER_WAY_MAX 20000
#define LOOK_MAX      4000 /* that are read at once */
#define SAY_MAX       400  /* in an entry */
#define SAY_EVERY_MS  20
#define LOOK_EVERY_MS 1000
#define AGAIN_MS      300000

struct archive_release {
	struct archive *archive;
	int partition;
	struct rt_redis *redis; /* the store's */
	char *stream;
	struct rt_timer timer;
	bool stopped;
	bool anew; /* the walk begins anew at the next look */
	bool counted;
	int64_t kept; /* settled orders that the order service has */
	int64_t under_way;
	int64_t walk_ns;                /* when the walk began */
	struct archive_releasable last; /* that was said in this walk */
	/* What was looked for. */
	struct archive_job job;
	struct archive_releasable list[LOOK_MAX];
	int64_t before_ms;
	size_t asked, count, next;
	int64_t count_now; /* of kept ones */
	struct rt_redis_op op;
	size_t saying;
	struct rt_series *kept_series; /* NULL: no metrics */
};

static void look(struct archive_release *release);
static void say(struct archive_release *release);

static void on_look_time(struct rt_timer *timer)
{
	look(RT_CONTAINER_OF(timer, struct archive_release, timer));
}

static void on_say_time(struct rt_timer *timer)
{
	say(RT_CONTAINER_OF(timer, struct archive_release, timer));
}

static void later(struct archive_release *release, int64_t ms, void (*then)(struct rt_timer *timer))
{
	if (!release->stopped)
		rt_timer_start(release->archive->loop, &release->timer, ms, then);
}

static void show(const struct archive_release *release)
{
	if (release->kept_series != NULL && release->counted)
		rt_series_set(release->kept_series, (double)release->kept);
}

/* ---- saying it ---- */

static void said(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct archive_release *release = RT_CONTAINER_OF(op, struct archive_release, op);
	struct archive *archive = release->archive;

	(void)reply;
	if (status == RT_OK) {
		release->next += release->saying;
		release->last = release->list[release->next - 1];
		release->under_way += (int64_t)release->saying;
		archive_count(archive->counts.released, (double)release->saying);
		later(release, SAY_EVERY_MS, on_say_time);
	} else {
		RT_LOG(RT_DEBUG, "it could not be said which orders may be dropped",
		       RT_I("partition", release->partition),
		       RT_S("status", rt_status_name(status)));
		later(release, LOOK_EVERY_MS, on_look_time);
	}
	archive_call_end(archive);
}

static void say(struct archive_release *release)
{
	int64_t now_ms = rt_loop_unix_ms(release->archive->loop);
	struct rt_args args = { .count = 0 };
	char now[RT_TIME_TEXT];

	if (release->next == release->count) {
		later(release, release->count == release->asked ? SAY_EVERY_MS : LOOK_EVERY_MS,
		      on_look_time);
		return;
	}
	RT_FAILPOINT("archive.release");
	release->saying = RT_MIN(release->count - release->next, (size_t)SAY_MAX);
	rt_time_format(now_ms, now);
	rt_args_function(&args, &archive_functions, "release");
	rt_args_str(&args, "1");
	rt_args_str(&args, release->stream);
	rt_args_int(&args, now_ms);
	rt_args_str(&args, now);
	for (size_t i = 0; i < release->saying; i++) {
		const struct archive_releasable *order = &release->list[release->next + i];
		char name[ARCHIVE_ORDER_ID + 24];
		int length = snprintf(name, sizeof(name), "%s/%llu", order->order_id,
				      (unsigned long long)order->version);

		rt_args_copy(&args, name, (size_t)length);
	}
	archive_call_begin(release->archive);
	rt_redis_send(release->redis, &release->op, &args, 0, said);
	rt_args_done(&args);
}

/* ---- looking ---- */

/* By how many there are too many, when those under way are gone. */
static int64_t excess(const struct archive_release *release)
{
	const struct archive *archive = release->archive;

	if (archive->release_count == 0)
		return 0;
	return release->kept - release->under_way -
	       archive->release_count / archive->partition_count;
}

/* What has not changed since then may go when there are too many. */
static int64_t idle_ms(const struct archive_release *release)
{
	const struct archive *archive = release->archive;

	return rt_loop_unix_ms(archive->loop) - archive->release_min_age_ms;
}

/* What has not changed since then is old enough. */
static int64_t old_ms(const struct archive_release *release)
{
	const struct archive *archive = release->archive;

	return archive->release_after_ms > 0
		       ? RT_MIN(rt_loop_unix_ms(archive->loop) - archive->release_after_ms,
				idle_ms(release))
		       : -1;
}

/* How many of those that were found may go. */
static size_t may_go(const struct archive_release *release)
{
	int64_t before_ms = old_ms(release), too_many = excess(release);
	size_t count = 0;

	while (count < release->count &&
	       (release->list[count].updated_ms <= before_ms || (int64_t)count < too_many))
		count++;
	return count;
}

static int run_look(struct archive_job *job, struct archive_store *store)
{
	struct archive_release *release = RT_CONTAINER_OF(job, struct archive_release, job);
	int rc = RT_OK;

	if (!release->counted)
		rc = archive_store_kept(store, release->partition, &release->count_now);
	if (rc == RT_OK)
		rc = archive_store_releasable(store, release->partition, &release->last,
					      release->before_ms, release->asked, release->list,
					      &release->count);
	return rc;
}

static void looked(struct archive_job *job)
{
	struct archive_release *release = RT_CONTAINER_OF(job, struct archive_release, job);
	struct archive *archive = release->archive;

	release->next = 0;
	if (job->status != RT_OK) { /* the reader says it */
		later(release, LOOK_EVERY_MS, on_look_time);
	} else {
		if (!release->counted)
			release->kept = release->count_now;
		release->counted = true;
		show(release);
		release->count = may_go(release);
		if (!release->stopped)
			say(release);
	}
	archive_call_end(archive);
}

/* What was said in the walk before, and is still kept, is said again. */
static void begin_walk(struct archive_release *release, int64_t now_ns)
{
	if (release->under_way > 0 && !release->anew)
		RT_LOG(RT_WARN, "orders that may be dropped are still in Redis: it is said again",
		       RT_I("partition", release->partition), RT_I("orders", release->under_way));
	release->under_way = 0;
	release->last = (struct archive_releasable){ .no = 0 };
	release->walk_ns = now_ns;
	release->anew = false;
}

static void look(struct archive_release *release)
{
	struct archive *archive = release->archive;
	int64_t now_ns = rt_monotonic_ns();

	if (!rt_redis_up(release->redis)) { /* nothing could be said */
		later(release, LOOK_EVERY_MS, on_look_time);
		return;
	}
	if (release->anew || now_ns - release->walk_ns >= AGAIN_MS * INT64_C(1000000))
		begin_walk(release, now_ns);
	if (release->under_way >= UNDER_WAY_MAX) {
		later(release, SAY_EVERY_MS, on_look_time);
		return;
	}
	release->asked = (size_t)RT_MIN(UNDER_WAY_MAX - release->under_way, (int64_t)LOOK_MAX);
	release->before_ms = excess(release) > 0 ? idle_ms(release) : old_ms(release);
	archive_call_begin(archive);
	archive_worker_add(archive->writer, &release->job, 0);
}

void archive_release_written(struct archive_release *release, const struct archive_written *written)
{
	release->kept += written->kept;
	release->under_way = RT_MAX(release->under_way - (int64_t)written->dropped, 0);
	show(release);
}

void archive_release_anew(struct archive_release *release)
{
	release->anew = true;
}

/* ---- life ---- */

struct archive_release *archive_release_new(struct archive *archive, int partition)
{
	struct archive_release *release = rt_alloc(sizeof(*release));
	static const char *const labels[] = { "partition", NULL };
	struct rt_metrics *metrics = archive->context->metrics;
	char number[16];
	const char *const value[] = { number };

	release->archive = archive;
	release->partition = partition;
	release->redis = rt_store_redis(archive->context->partitions[partition].store);
	release->stream = rt_printf("archive:{%d}:events", partition);
	release->job.run = run_look;
	release->job.done = looked;
	release->walk_ns = rt_monotonic_ns();
	snprintf(number, sizeof(number), "%d", partition);
	if (metrics != NULL)
		release->kept_series = rt_metric_series(
			rt_metric(metrics, RT_GAUGE, "tandem_archive_kept_orders",
				  "Settled orders that the order service has, and may drop when "
				  "they are old enough.",
				  labels),
			value);
	return release;
}

void archive_release_start(struct archive_release *release)
{
	later(release, LOOK_EVERY_MS, on_look_time);
}

void archive_release_stop(struct archive_release *release)
{
	release->stopped = true;
	rt_timer_stop(release->archive->loop, &release->timer);
}

void archive_release_free(struct archive_release *release)
{
	if (release == NULL)
		return;
	free(release->stream);
	free(release);
}
