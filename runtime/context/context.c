/* context.c - makes a context, trims its stream, and ends it.
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

static void trim_later(struct rt_context *context);

/* Warns once about a group without a consumer, and again when it is another group. */
static void warn_of_stale_group(struct rt_context *context)
{
	const struct rt_trim_op *trim = &context->trim;

	if (strcmp(context->stale_group, trim->stale_group) == 0)
		return;
	memcpy(context->stale_group, trim->stale_group, sizeof(context->stale_group));
	if (trim->stale_count > 0)
		RT_LOG(RT_WARN, "a group without a consumer holds back the trimming of the stream",
		       RT_S("group", trim->stale_group), RT_I("stale_groups", trim->stale_count),
		       RT_I("length", trim->length));
}

static void note_trimmed(struct rt_context *context)
{
	const struct rt_trim_op *trim = &context->trim;

	warn_of_stale_group(context);
	if (context->domain->on_trimmed != NULL)
		context->domain->on_trimmed(context->data);
	if (context->metrics == NULL)
		return;
	rt_series_add(context->trimmed, (double)trim->trimmed);
	rt_series_set(context->stream_length, (double)trim->length);
	rt_series_set(context->stream_held, (double)trim->held);
	rt_series_set(context->stale, (double)trim->stale_count);
}

static void stream_trimmed(struct rt_trim_op *trim, int status)
{
	struct rt_context *context = RT_CONTAINER_OF(trim, struct rt_context, trim);

	if (status == RT_OK)
		note_trimmed(context);
	else
		RT_LOG(RT_DEBUG, "the stream was not trimmed",
		       RT_S("status", rt_status_name(status)));
	if (!context->stopping)
		trim_later(context);
	rt_context_release(context);
}

static void trim_now(struct rt_timer *timer)
{
	struct rt_context *context = RT_CONTAINER_OF(timer, struct rt_context, trim_timer);

	rt_context_hold(context);
	context->trim.now_ms = rt_loop_unix_ms(context->loop);
	context->trim.done = stream_trimmed;
	rt_store_add(context->trim_queue, &context->trim);
}

static void trim_later(struct rt_context *context)
{
	rt_timer_start(context->loop, &context->trim_timer, context->trim_every_ms, trim_now);
}

static void register_metrics(struct rt_context *context)
{
	struct rt_metrics *metrics = context->metrics;

	if (metrics == NULL)
		return;
	context->stream_length = rt_metric_plain(metrics, RT_GAUGE, "tandem_stream_length",
						 "Events in the context's event stream.");
	context->stream_held =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_stream_held_events",
				"Events in the context's event stream that some group "
				"has not acknowledged.");
	context->trimmed = rt_metric_plain(metrics, RT_COUNTER, "tandem_stream_trimmed_total",
					   "Entries trimmed from the context's event stream.");
	context->stale =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_stream_stale_groups",
				"Groups of the context's event stream without a live consumer.");
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

static int subscribe(struct rt_context *context, const struct rt_context_subscription *subscription,
		     const struct rt_context_options *options, const char *consumer)
{
	struct rt_context_stream *stream = &context->streams[context->stream_count++];
	const struct rt_stream_options source = {
		.reader = options->redis,
		.commands = rt_store_redis(context->store),
		.stream = stream->name =
			rt_printf("%s:{%d}:events", subscription->context, context->partition),
		.group = context->domain->name,
		.consumer = consumer,
		.functions = context->domain->functions,
		.partition = context->partition,
	};
	struct rt_events_options events = options->events;
	struct rt_stream *made;
	int rc = rt_stream_new(context->loop, &source, &made);

	if (rc != RT_OK)
		return rc;
	events.name = stream->name;
	events.on_event = subscription->on_event;
	events.user_data = context->data;
	events.metrics = context->metrics;
	events.changed = options->changed;
	return rt_events_new(context->loop, made, &events, &stream->events);
}

static int make_members(struct rt_context *context, const struct rt_context_options *options)
{
	const struct rt_context_domain *domain = context->domain;
	const struct rt_store_options store = { .redis = options->redis,
						.functions = domain->functions,
						.partition = context->partition,
						.metrics = options->metrics,
						.changed = options->changed };
	char consumer[128];
	int rc = rt_store_new(context->loop, &store, &context->store);

	if (rc == RT_OK)
		rc = rt_store_queue_new(context->store, &rt_trim_step, NULL, &context->trim_queue);
	if (rc == RT_OK)
		rc = domain->make(context, options->domain_options, &context->data);
	make_consumer(context, consumer, sizeof(consumer));
	for (const struct rt_context_subscription *subscription = domain->subscriptions;
	     rc == RT_OK && subscription->context != NULL; subscription++)
		rc = subscribe(context, subscription, options,
			       options->consumer != NULL ? options->consumer : consumer);
	return rc;
}

/* ---- start and end ---- */

int rt_context_new(struct rt_loop *loop, const struct rt_context_domain *domain,
		   const struct rt_context_options *options, struct rt_context **ret)
{
	struct rt_context *context = rt_alloc(sizeof(*context));
	int rc;

	context->domain = domain;
	context->loop = loop;
	context->metrics = options->metrics;
	context->partition = RT_CONTEXT_PARTITION;
	context->redis = options->redis;
	context->stop_task.run = stop_over;
	context->trim_every_ms =
		options->trim_every_ms > 0 ? options->trim_every_ms : TRIM_EVERY_MS;
	context->trim.retain_ms = options->retain_ms;
	context->trim.retain_count = options->retain_count;
	context->trim.stale_ms = options->stale_ms;
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
	for (size_t i = 0; i < context->stream_count; i++)
		rt_events_start(context->streams[i].events);
	if (context->domain->start != NULL)
		context->domain->start(context->data);
	trim_later(context);
}

bool rt_context_ready(const struct rt_context *context)
{
	return rt_store_problem(context->store) == NULL && rt_context_unread(context) == NULL;
}

const char *rt_context_unread(const struct rt_context *context)
{
	for (size_t i = 0; i < context->stream_count; i++)
		if (!rt_events_ready(context->streams[i].events))
			return context->streams[i].name;
	return NULL;
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
	rt_timer_stop(context->loop, &context->trim_timer);
	rt_context_hold(context);
	if (context->domain->stop != NULL)
		context->domain->stop(context->data);
	for (size_t i = 0; i < context->stream_count; i++) {
		rt_context_hold(context);
		rt_events_stop(context->streams[i].events, subscription_stopped, context);
	}
	rt_context_release(context);
}

void rt_context_free(struct rt_context *context)
{
	if (context == NULL)
		return;
	rt_timer_stop(context->loop, &context->trim_timer);
	for (size_t i = 0; i < context->stream_count; i++) {
		rt_events_free(context->streams[i].events);
		free(context->streams[i].name);
	}
	if (context->data != NULL)
		context->domain->free(context->data);
	rt_store_free(context->store);
	free(context);
}
