/* redis_state.c - asks, reads the answers, sets the metrics. The names after tandem_ are those of redis_exporter,
 * but for replicas. What is not known yet is NaN. */
#include "redis_state_internal.h"

#include <hiredis/hiredis.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ASK_EVERY_MS  5000
#define LOOK_EVERY_MS 500 /* while no master is there */

/* Numbers in an answer of INFO. "ok" counts as 1, another word as 0. */
static const struct number {
	const char *field, *name, *help;
	enum rt_metric_type type;
} numbers[] = {
	{ "used_memory", "tandem_redis_memory_used_bytes", "Memory that the data of Redis takes.",
	  RT_GAUGE },
	{ "used_memory_rss", "tandem_redis_memory_used_rss_bytes",
	  "Memory of the process of Redis that is in RAM.", RT_GAUGE },
	{ "maxmemory", "tandem_redis_memory_max_bytes",
	  "Most memory that the data may take, then orders are refused; 0: no limit.", RT_GAUGE },
	{ "aof_enabled", "tandem_redis_aof_enabled",
	  "1 if Redis writes an append-only file: without it nothing is kept.", RT_GAUGE },
	{ "aof_current_size", "tandem_redis_aof_current_size_bytes",
	  "Size of the append-only file.", RT_GAUGE },
	{ "aof_rewrite_in_progress", "tandem_redis_aof_rewrite_in_progress",
	  "1 while the append-only file is rewritten.", RT_GAUGE },
	{ "aof_last_bgrewrite_status", "tandem_redis_aof_last_bgrewrite_status",
	  "1 if the last rewrite of the append-only file was good.", RT_GAUGE },
	{ "aof_last_write_status", "tandem_redis_aof_last_write_status",
	  "1 if the last write to the append-only file was good: else Redis refuses writes.",
	  RT_GAUGE },
	{ "aof_delayed_fsync", "tandem_redis_aof_delayed_fsync_total",
	  "Times that Redis waited for a slow disk.", RT_COUNTER },
	{ "connected_slaves", "tandem_redis_connected_replicas", "Replicas that are connected.",
	  RT_GAUGE },
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

/* What is asked about a partition. */
struct asked {
	struct rt_redis_state *state;
	int partition;
	struct rt_redis_op info, dead;
	int64_t sent_ns;
	char *dead_key;
	struct rt_series *dead_letters, *values[NUMBERS];
};

struct rt_redis_state {
	struct rt_context *context;
	struct rt_timer timer;
	size_t under_way; /* questions */
	bool asked;       /* at least one, the last time */
	struct rt_series *answer_seconds;
	struct asked *partitions;
};

static void ask(struct rt_timer *timer);

static void ended(struct rt_redis_state *state)
{
	if (--state->under_way > 0)
		return;
	if (!state->context->stopping)
		rt_timer_start(state->context->loop, &state->timer,
			       state->asked ? ASK_EVERY_MS : LOOK_EVERY_MS, ask);
	rt_context_release(state->context);
}

/* ---- answers ---- */

/* The value of a field: "\r\nused_memory:1234\r\n". */
static bool read_number(const char *info, const char *field, double *ret)
{
	size_t length = strlen(field);
	const char *at = info;
	char *end;

	while ((at = strstr(at, field)) != NULL) {
		if ((at == info || at[-1] == '\n') && at[length] == ':')
			break;
		at += length;
	}
	if (at == NULL)
		return false;
	at += length + 1;
	*ret = strtod(at, &end);
	if (end == at)
		*ret = strncmp(at, "ok", 2) == 0;
	return true;
}

static const struct rt_redis *connection_of(const struct rt_context *context, int partition)
{
	return rt_store_redis(context->partitions[partition].store);
}

/* Whether both partitions use one connection, so have one master. */
static bool shared(const struct rt_context *context, int partition, int other)
{
	const struct rt_batch_gate *gate = connection_of(context, partition)->gate;

	return gate != NULL && gate == connection_of(context, other)->gate;
}

static void note_info(struct asked *asked, const char *info)
{
	const struct rt_context *context = asked->state->context;
	double value;

	for (size_t i = 0; i < NUMBERS; i++) {
		if (!read_number(info, numbers[i].field, &value))
			continue;
		rt_series_set(asked->values[i], value);
		for (int p = asked->partition + 1; p < context->partition_count; p++)
			if (shared(context, asked->partition, p))
				rt_series_set(asked->state->partitions[p].values[i], value);
	}
}

static void info_answered(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct asked *asked = RT_CONTAINER_OF(op, struct asked, info);
	struct rt_redis_state *state = asked->state;

	if (status == RT_OK && rt_reply_is_string(reply)) {
		rt_series_observe(state->answer_seconds,
				  (double)(rt_monotonic_ns() - asked->sent_ns) / 1e9);
		note_info(asked, reply->str);
	}
	ended(state);
}

static void dead_answered(struct rt_redis_op *op, int status, const struct redisReply *reply)
{
	struct asked *asked = RT_CONTAINER_OF(op, struct asked, dead);

	if (status == RT_OK)
		rt_series_set(asked->dead_letters, (double)rt_reply_int(reply));
	ended(asked->state);
}

/* ---- questions ---- */

static bool asked_elsewhere(const struct rt_context *context, int partition)
{
	for (int p = 0; p < partition; p++)
		if (shared(context, p, partition))
			return true;
	return false;
}

static void ask_partition(struct asked *asked)
{
	struct rt_redis_state *state = asked->state;
	struct rt_redis *redis = rt_store_redis(state->context->partitions[asked->partition].store);

	if (!rt_redis_up(redis))
		return;
	state->asked = true;
	asked->sent_ns = rt_monotonic_ns();
	if (!asked_elsewhere(state->context, asked->partition)) {
		state->under_way++;
		rt_redis_command(redis, &asked->info, 4,
				 (const char *[]){ "INFO", "memory", "persistence", "replication" },
				 NULL, 0, info_answered);
	}
	state->under_way++;
	rt_redis_command(redis, &asked->dead, 2, (const char *[]){ "XLEN", asked->dead_key }, NULL,
			 0, dead_answered);
}

static void ask(struct rt_timer *timer)
{
	struct rt_redis_state *state = RT_CONTAINER_OF(timer, struct rt_redis_state, timer);

	rt_context_hold(state->context);
	state->asked = false;
	state->under_way = 1; /* this function */
	for (int p = 0; p < state->context->partition_count; p++)
		ask_partition(&state->partitions[p]);
	ended(state);
}

/* ---- start and end ---- */

static void register_partition(struct asked *asked, struct rt_metrics *metrics)
{
	static const char *const by_partition[] = { "partition", NULL }, *const by_stream[] = {
		"stream", NULL
	};
	char number[16];
	const char *const partition[] = { number }, *const stream[] = { asked->dead_key };

	snprintf(number, sizeof(number), "%d", asked->partition);
	asked->dead_letters =
		rt_metric_series(rt_metric(metrics, RT_GAUGE, "tandem_dead_letters",
					   "Dead letters that wait for an operator.", by_stream),
				 stream);
	rt_series_set(asked->dead_letters, NAN);
	for (size_t i = 0; i < NUMBERS; i++) {
		asked->values[i] =
			rt_metric_series(rt_metric(metrics, numbers[i].type, numbers[i].name,
						   numbers[i].help, by_partition),
					 partition);
		rt_series_set(asked->values[i], NAN);
	}
}

struct rt_redis_state *rt_redis_state_new(struct rt_context *context, int replicas)
{
	struct rt_redis_state *state = rt_alloc(sizeof(*state));
	struct rt_metrics *metrics = context->metrics;

	state->context = context;
	state->partitions = rt_alloc((size_t)context->partition_count * sizeof(*state->partitions));
	state->answer_seconds =
		rt_metric_plain(metrics, RT_HISTOGRAM, "tandem_redis_answer_seconds",
				"Time until Redis answered a small question, which "
				"it is asked every 5 s.");
	rt_series_set(rt_metric_plain(metrics, RT_GAUGE, "tandem_redis_replicas_wanted",
				      "Replicas that must have a step before it is answered; "
				      "0: none (--durability)."),
		      replicas);
	for (int p = 0; p < context->partition_count; p++) {
		struct asked *asked = &state->partitions[p];

		asked->state = state;
		asked->partition = p;
		asked->dead_key = rt_printf("%s:{%d}:dead", context->domain->name, p);
		register_partition(asked, metrics);
	}
	rt_timer_start(context->loop, &state->timer, 0, ask);
	return state;
}

void rt_redis_state_stop(struct rt_redis_state *state)
{
	rt_timer_stop(state->context->loop, &state->timer);
}

void rt_redis_state_free(struct rt_redis_state *state)
{
	if (state == NULL)
		return;
	for (int p = 0; p < state->context->partition_count; p++)
		free(state->partitions[p].dead_key);
	free(state->partitions);
	free(state);
}
