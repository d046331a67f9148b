/* context.c - makes a context, trims its streams, and ends it.
 *
 * An operation in progress holds the context: an RPC or an event that waits for the store, a trim, a
 * subscription that has not stopped. The context reports its end once it was asked to stop and
 * nothing holds it. */
#include "context.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TRIM_EVERY_MS 5000
#define READ_TOGETHER 16 /* partitions that share a blocking read: it takes time for each of them */

/* ---- what is under way ---- */

void rt_context_hold(struct rt_context *context)
{
	context->holds++;
}

void rt_context_release(struct rt_context *context)
{
	if (--context->holds == 0 && context->stopping)
		rt_loop_defer(context->loop, &context->stop_task);
}

/* Called from no other callback: what has stopped may be freed. */
static void stop_over(struct rt_task *task)
{
	struct rt_context *context = RT_CONTAINER_OF(task, struct rt_context, stop_task);

	if (context->holds == 0 && context->stopped != NULL)
		RT_TAKE(context->stopped)(context->stopped_user);
}

/* ---- trimming ---- */

static void trim_later(struct rt_partition *partition);

/* Warns once about a group without a consumer, and again when it is another group. */
static void warn_of_stale_group(struct rt_partition *partition)
{
	const struct rt_trim_op *trim = &partition->trim;

	if (strcmp(partition->stale_group, trim->stale_group) == 0)
		return;
	memcpy(partition->stale_group, trim->stale_group, sizeof(partition->stale_group));
	if (trim->stale_count > 0)
		RT_LOG(RT_WARN, "a group without a consumer holds back the trimming of the stream",
		       RT_S("group", trim->stale_group), RT_I("stale_groups", trim->stale_count),
		       RT_I("length", trim->length), RT_I("partition", partition->number));
}

static void note_trimmed(struct rt_partition *partition)
{
	const struct rt_trim_op *trim = &partition->trim;
	const struct rt_context *context = partition->context;

	warn_of_stale_group(partition);
	if (context->domain->on_trimmed != NULL)
		context->domain->on_trimmed(context->data, partition);
	if (context->metrics == NULL)
		return;
	rt_series_add(partition->trimmed, (double)trim->trimmed);
	rt_series_set(partition->stream_length, (double)trim->length);
	rt_series_set(partition->stream_held, (double)trim->held);
	rt_series_set(partition->stale, (double)trim->stale_count);
}

static void stream_trimmed(struct rt_trim_op *trim, int status)
{
	struct rt_partition *partition = RT_CONTAINER_OF(trim, struct rt_partition, trim);

	if (status == RT_OK)
		note_trimmed(partition);
	else
		RT_LOG(RT_DEBUG, "the stream was not trimmed",
		       RT_S("status", rt_status_name(status)));
	if (!partition->context->stopping)
		trim_later(partition);
	rt_context_release(partition->context);
}

static void trim_now(struct rt_timer *timer)
{
	struct rt_partition *partition = RT_CONTAINER_OF(timer, struct rt_partition, trim_timer);

	rt_context_hold(partition->context);
	partition->trim.now_ms = rt_loop_unix_ms(partition->context->loop);
	partition->trim.done = stream_trimmed;
	rt_store_add(partition->trim_queue, &partition->trim);
}

static void trim_later(struct rt_partition *partition)
{
	struct rt_context *context = partition->context;

	rt_timer_start(context->loop, &partition->trim_timer, context->trim_every_ms, trim_now);
}

static void register_metrics(struct rt_context *context)
{
	static const char *const labels[] = { "stream", NULL };
	struct rt_metrics *metrics = context->metrics;
	struct rt_metric *length, *held, *trimmed, *stale;

	if (metrics == NULL)
		return;
	length = rt_metric(metrics, RT_GAUGE, "tandem_stream_length",
			   "Events in an event stream of the context.", labels);
	held = rt_metric(metrics, RT_GAUGE, "tandem_stream_held_events",
			 "Events in an event stream of the context that some group has not "
			 "acknowledged.",
			 labels);
	trimmed = rt_metric(metrics, RT_COUNTER, "tandem_stream_trimmed_total",
			    "Entries trimmed from an event stream of the context.", labels);
	stale = rt_metric(metrics, RT_GAUGE, "tandem_stream_stale_groups",
			  "Groups of an event stream of the context without a live consumer.",
			  labels);
	for (int p = 0; p < context->partition_count; p++) {
		struct rt_partition *partition = &context->partitions[p];
		char *stream = rt_printf("%s:{%d}:events", context->domain->name, p);
		const char *const label[] = { stream };

		partition->stream_length = rt_metric_series(length, label);
		partition->stream_held = rt_metric_series(held, label);
		partition->trimmed = rt_metric_series(trimmed, label);
		partition->stale = rt_metric_series(stale, label);
		free(stream);
	}
}

/* ---- subscriptions ---- */

/* Unique for the process, even when a container always has the same pid. After the '@' comes the
 * version of the functions it calls, so that an operator sees which are in use. */
static void make_consumer(const struct rt_context *context, char *text, size_t size)
{
	char host[64] = "host";
	uint32_t random;

	gethostname(host, sizeof(host) - 1);
	rt_loop_random_bytes(context->loop, &random, sizeof(random));
	snprintf(text, size, "%s-%ld-%08" PRIx32 "@%s", host, (long)getpid(), random,
		 context->domain->functions->version);
}

static int subscribe(struct rt_partition *partition,
		     const struct rt_context_subscription *subscription,
		     const struct rt_context_options *options, const char *consumer,
		     struct rt_reads *reads)
{
	struct rt_context *context = partition->context;
	struct rt_context_stream *stream = &partition->streams[partition->stream_count++];
	const struct rt_stream_options source = {
		.reads = reads,
		.commands = rt_store_redis(partition->store),
		.stream = stream->name =
			rt_printf("%s:{%d}:events", subscription->context, partition->number),
		.group = context->domain->name,
		.consumer = consumer,
		.functions = context->domain->functions,
		.partition = partition->number,
	};
	struct rt_events_options events = options->events;

	events.name = stream->name;
	events.partition = partition->number;
	events.context = subscription->context;
	events.group = context->domain->name;
	events.on_event = subscription->on_event;
	events.user_data = context->data;
	events.metrics = context->metrics;
	events.changed = options->changed;
	return rt_events_new(context->loop, rt_stream_new(context->loop, &source), &events,
			     &stream->events);
}

static int make_partition(struct rt_context *context, int number,
			  const struct rt_context_options *options)
{
	struct rt_partition *partition = &context->partitions[number];
	const struct rt_store_options store = { .redis = options->redis,
						.functions = context->domain->functions,
						.context = context->domain->name,
						.partition = number,
						.partition_count = context->partition_count,
						.replicas = options->replicas,
						.metrics = options->metrics,
						.changed = options->changed };
	int rc;

	partition->context = context;
	partition->number = number;
	partition->trim.retain_ms = options->retain_ms;
	partition->trim.retain_count = options->retain_count;
	partition->trim.stale_ms = options->stale_ms;
	partition->trim.follower = options->follower_max > 0 ? context->domain->follower : NULL;
	partition->trim.follower_max = options->follower_max;
	rc = rt_store_new(context->loop, &store, &partition->store);
	return rc != RT_OK ? rc
			   : rt_store_queue_new(partition->store, &rt_trim_step, NULL,
						&partition->trim_queue);
}

/* To one context's streams of all partitions. */
static int subscribe_all(struct rt_context *context,
			 const struct rt_context_subscription *subscription,
			 const struct rt_context_options *options, const char *consumer)
{
	int share = rt_store_redis(context->partitions[0].store)->together ? READ_TOGETHER : 1;
	struct rt_reads *reads = NULL;
	int rc = RT_OK;

	for (int p = 0; rc == RT_OK && p < context->partition_count; p++) {
		if (p % share == 0) {
			rt_reads_release(RT_TAKE(reads));
			rc = rt_reads_new(context->loop, options->redis, p, context->domain->name,
					  consumer, &reads);
		}
		if (rc == RT_OK)
			rc = subscribe(&context->partitions[p], subscription, options, consumer,
				       reads);
	}
	rt_reads_release(reads);
	return rc;
}

static int make_members(struct rt_context *context, const struct rt_context_options *options)
{
	char consumer[128];
	int rc = RT_OK;

	for (int p = 0; rc == RT_OK && p < context->partition_count; p++)
		rc = make_partition(context, p, options);
	if (rc == RT_OK)
		rc = context->domain->make(context, options->domain_options, &context->data);
	make_consumer(context, consumer, sizeof(consumer));
	for (const struct rt_context_subscription *subscription = context->domain->subscriptions;
	     rc == RT_OK && subscription->context != NULL; subscription++)
		rc = subscribe_all(context, subscription, options,
				   options->consumer != NULL ? options->consumer : consumer);
	return rc;
}

/* ---- start and end ---- */

int rt_context_new(struct rt_loop *loop, const struct rt_context_domain *domain,
		   const struct rt_context_options *options, struct rt_context **ret)
{
	struct rt_context *context;
	int rc, count = options->partition_count > 0 ? options->partition_count : 1;

	if (count > RT_PARTITIONS_MAX || (count & (count - 1)) != 0)
		return RT_INVALID;
	context = rt_alloc(sizeof(*context));
	context->domain = domain;
	context->loop = loop;
	context->metrics = options->metrics;
	context->partition_count = count;
	context->partitions = rt_alloc((size_t)count * sizeof(*context->partitions));
	context->redis = options->redis;
	context->stop_task.run = stop_over;
	context->trim_every_ms =
		options->trim_every_ms > 0 ? options->trim_every_ms : TRIM_EVERY_MS;
	register_metrics(context);
	rc = make_members(context, options);
	context->redis = NULL;
	if (rc != RT_OK) {
		rt_context_free(context);
		return rc;
	}
	*ret = context;
	return RT_OK;
}

void rt_context_start(struct rt_context *context)
{
	for (int p = 0; p < context->partition_count; p++) {
		struct rt_partition *partition = &context->partitions[p];

		for (size_t i = 0; i < partition->stream_count; i++)
			rt_events_start(partition->streams[i].events);
		trim_later(partition);
	}
	if (context->domain->start != NULL)
		context->domain->start(context->data);
}

static const char *unread_of(const struct rt_partition *partition)
{
	for (size_t i = 0; i < partition->stream_count; i++)
		if (!rt_events_ready(partition->streams[i].events))
			return partition->streams[i].name;
	return NULL;
}

void rt_context_outage_over(struct rt_context *context, int partition)
{
	struct rt_partition *at = &context->partitions[partition];

	for (size_t i = 0; i < at->stream_count; i++)
		rt_events_outage_over(at->streams[i].events);
}

int rt_context_served(const struct rt_context *context)
{
	int served = 0;

	for (int p = 0; p < context->partition_count; p++)
		served += rt_store_problem(context->partitions[p].store) == NULL &&
			  unread_of(&context->partitions[p]) == NULL;
	return served;
}

bool rt_context_ready(struct rt_context *context)
{
	int served = rt_context_served(context);

	context->begun = context->begun || served == context->partition_count;
	return context->begun && served > 0;
}

const char *rt_context_problem(struct rt_context *context)
{
	const char *problem = NULL;

	if (rt_context_ready(context))
		return NULL;
	for (int p = 0; p < context->partition_count; p++) {
		const struct rt_store *store = context->partitions[p].store;

		/* That ends the service, others may end by themselves. */
		if (problem == NULL || rt_store_mismatch(store))
			problem = rt_store_problem(store);
	}
	return problem;
}

const char *rt_context_unread(struct rt_context *context)
{
	const char *unread = NULL;

	if (rt_context_ready(context))
		return NULL;
	for (int p = 0; p < context->partition_count && unread == NULL; p++)
		unread = unread_of(&context->partitions[p]);
	return unread;
}

const char *rt_context_refusal(const struct rt_context *context)
{
	const char *refusal = NULL;

	for (int p = 0; p < context->partition_count && refusal == NULL; p++)
		refusal = rt_store_refusal(context->partitions[p].store);
	return refusal;
}

bool rt_context_mismatch(const struct rt_context *context)
{
	for (int p = 0; p < context->partition_count; p++)
		if (rt_store_mismatch(context->partitions[p].store))
			return true;
	return false;
}

static void subscription_stopped(void *user)
{
	rt_context_release(user);
}

void rt_context_stop(struct rt_context *context, void (*stopped)(void *user), void *user)
{
	context->stopping = true;
	context->stopped = stopped;
	context->stopped_user = user;
	rt_context_hold(context);
	if (context->domain->stop != NULL)
		context->domain->stop(context->data);
	for (int p = 0; p < context->partition_count; p++) {
		struct rt_partition *partition = &context->partitions[p];

		rt_timer_stop(context->loop, &partition->trim_timer);
		for (size_t i = 0; i < partition->stream_count; i++) {
			rt_context_hold(context);
			rt_events_stop(partition->streams[i].events, subscription_stopped, context);
		}
	}
	rt_context_release(context);
}

void rt_context_free(struct rt_context *context)
{
	if (context == NULL)
		return;
	for (int p = 0; p < context->partition_count; p++) {
		struct rt_partition *partition = &context->partitions[p];

		rt_timer_stop(context->loop, &partition->trim_timer);
		for (size_t i = 0; i < partition->stream_count; i++) {
			rt_events_free(partition->streams[i].events);
			free(partition->streams[i].name);
		}
	}
	if (context->data != NULL)
		context->domain->free(context->data);
	for (int p = 0; p < context->partition_count; p++)
		rt_store_free(context->partitions[p].store);
	free(context->partitions);
	free(context);
}
