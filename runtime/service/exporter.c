/* exporter.c - sends spans to an OpenTelemetry collector, by OTLP over gRPC.
 *
 *   queued            a span waits (trace.c): at the latest a second later, or when there are many …
 *     send            … the oldest go in one call; one at a time
 *       sent          taken: the next ones. Not taken, but later perhaps: again after a pause, which doubles.
 *                     Refused: given up
 *   rt_exporter_stop  what waits goes at once, as much as is taken within STOP_MS
 *
 * Nothing waits for it: spans that find the queue full are dropped and counted (tandem_spans_total). */
#include "exporter_internal.h"

#include <string.h>

#include "opentelemetry/proto/collector/trace/v1/trace_service.pb-c.h"
#include "trace/trace.h"

#define BATCH_MAX     512
#define WAIT_MS       1000
#define TIMEOUT_MS    5000
#define STOP_MS       1000
#define BACK_OFF_MIN  500
#define BACK_OFF_MAX  30000
#define METHOD_EXPORT 0 /* the only one of TraceService */

struct rt_exporter {
	struct rt_loop *loop;
	char *service;
	struct rt_channel *channel;
	ProtobufCService *client;
	struct rt_client_op op;
	size_t sending; /* spans in the call under way; 0: none is */
	struct rt_timer timer;
	int64_t pause_ms; /* after a failure; 0: the last call went well */
	bool failing;     /* logged */
	bool stopping;
	int64_t stop_by_ms; /* then: of the loop's clock */
	void (*stopped)(void *user);
	void *user;
};

static void channel_freed(void *user)
{
	struct rt_exporter *exporter = user;
	void (*stopped)(void *user) = exporter->stopped;
	void *stopped_user = exporter->user;

	free(exporter->service);
	free(exporter);
	if (stopped != NULL)
		stopped(stopped_user);
}

static void finish(struct rt_exporter *exporter)
{
	rt_timer_stop(exporter->loop, &exporter->timer);
	rt_trace_stop();
	rt_client_free(RT_TAKE(exporter->client));
	rt_channel_free(RT_TAKE(exporter->channel), channel_freed, exporter);
}

static void send(struct rt_exporter *exporter);

/* A collector that is busy, starts or is away takes them later (OTLP's list of codes). */
static bool is_worth_trying_again(int code)
{
	static const int codes[] = { RT_CODE_CANCELLED,         RT_CODE_DEADLINE_EXCEEDED,
				     RT_CODE_ABORTED,           RT_CODE_OUT_OF_RANGE,
				     RT_CODE_UNAVAILABLE,       RT_CODE_DATA_LOSS,
				     RT_CODE_RESOURCE_EXHAUSTED };

	for (size_t i = 0; i < RT_LENGTH(codes); i++)
		if (codes[i] == code)
			return true;
	return false;
}

static void wait_is_over(struct rt_timer *timer)
{
	send(RT_CONTAINER_OF(timer, struct rt_exporter, timer));
}

static void log_outcome(struct rt_exporter *exporter, const struct rt_status *status)
{
	bool failed = status->code != 0;

	if (failed == exporter->failing)
		return;
	exporter->failing = failed;
	if (failed)
		RT_LOG(RT_WARN, "the collector does not take spans",
		       RT_S("code", rt_code_name(status->code)), RT_S("reason", status->message));
	else
		RT_LOG(RT_INFO, "the collector takes spans again");
}

/* Before it has to have stopped. */
static int64_t left_ms(const struct rt_exporter *exporter)
{
	return RT_MAX(exporter->stop_by_ms - rt_loop_now(exporter->loop), INT64_C(0));
}

static void sent(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct rt_exporter *exporter = RT_CONTAINER_OF(op, struct rt_exporter, op);
	size_t count = exporter->sending;
	bool again = is_worth_trying_again(op->status.code);

	(void)response; /* a collector that takes some and refuses others has its own log */
	exporter->sending = 0;
	rt_timer_stop(exporter->loop, &exporter->timer);
	log_outcome(exporter, &op->status);
	if (!again)
		rt_trace_drop(count, op->status.code == 0);
	exporter->pause_ms =
		again ? RT_MIN(RT_MAX(2 * exporter->pause_ms, BACK_OFF_MIN), BACK_OFF_MAX) : 0;
	if (exporter->stopping && (again || rt_trace_queued() == 0 || left_ms(exporter) == 0))
		finish(exporter);
	else if (exporter->pause_ms > 0)
		rt_timer_start(exporter->loop, &exporter->timer,
			       rt_loop_around(exporter->loop, exporter->pause_ms), wait_is_over);
	else if (exporter->stopping || rt_trace_queued() >= BATCH_MAX)
		send(exporter);
	else if (rt_trace_queued() > 0)
		rt_timer_start(exporter->loop, &exporter->timer, WAIT_MS, wait_is_over);
}

/* The links of a read go with it. */
static size_t batch_size(void)
{
	size_t count = RT_MIN(rt_trace_queued(), BATCH_MAX);

	while (count < rt_trace_queued() && rt_trace_at(count)->kind == RT_SPAN_LINK)
		count++;
	return count;
}

static void send(struct rt_exporter *exporter)
{
	struct rt_arena arena = { .chunks = NULL };

	rt_timer_stop(exporter->loop, &exporter->timer);
	exporter->sending = batch_size();
	exporter->op = (struct rt_client_op){
		.timeout_ms = exporter->stopping ? left_ms(exporter) : TIMEOUT_MS,
		.done = sent,
	};
	rt_client_start(exporter->client, METHOD_EXPORT,
			&rt_trace_request(&arena, exporter->service, exporter->sending)->base,
			&exporter->op);
	rt_arena_done(&arena);
}

static void queued(void *user, size_t count)
{
	struct rt_exporter *exporter = user;

	if (exporter->sending > 0 || exporter->pause_ms > 0)
		return;
	/* Not at once: the caller is in the middle of something. */
	if (count == BATCH_MAX)
		rt_timer_start(exporter->loop, &exporter->timer, 0, wait_is_over);
	else if (!rt_timer_running(&exporter->timer))
		rt_timer_start(exporter->loop, &exporter->timer, WAIT_MS, wait_is_over);
}

/* ---- beginning and end ---- */

static bool read_ratio(const char *text, double *ret)
{
	char *end;
	double ratio = strtod(text, &end);

	if (end == text || *end != '\0' || !(ratio >= 0 && ratio <= 1))
		return false;
	*ret = ratio;
	return true;
}

/* Makes a channel to an endpoint, which may be a URL as OpenTelemetry's own variable has it. */
static int make_channel(struct rt_loop *loop, const struct rt_exporter_options *options,
			struct rt_channel **ret)
{
	static const char plain[] = "http://", encrypted[] = "https://";
	const struct rt_channel_options channel = { .tls = options->tls };
	const char *from = options->endpoint;
	char *target;
	size_t length;
	int rc;

	if (strncmp(from, plain, strlen(plain)) == 0) {
		from += strlen(plain);
	} else if (strncmp(from, encrypted, strlen(encrypted)) == 0) {
		from += strlen(encrypted);
		if (options->tls == NULL) {
			RT_LOG(RT_ERROR, "a collector at https:// needs --otlp-tls-ca",
			       RT_S("value", options->endpoint));
			return RT_INVALID;
		}
	}
	target = rt_strdup(from);
	length = strlen(target);
	if (length > 0 && target[length - 1] == '/')
		target[length - 1] = '\0';
	rc = rt_channel_new(loop, target, &channel, ret);
	free(target);
	if (rc != RT_OK)
		RT_LOG(RT_ERROR, "--otlp is not an address", RT_S("value", options->endpoint));
	return rc;
}

int rt_exporter_new(struct rt_loop *loop, const struct rt_exporter_options *options,
		    struct rt_exporter **ret)
{
	struct rt_trace_options trace = { .slow_ms = options->slow_ms,
					  .metrics = options->metrics };
	struct rt_exporter *exporter;
	int rc;

	if (!read_ratio(options->ratio, &trace.ratio)) {
		RT_LOG(RT_ERROR, "--trace-ratio is not a number from 0 to 1",
		       RT_S("value", options->ratio));
		return RT_INVALID;
	}
	exporter = rt_alloc(sizeof(*exporter));
	exporter->loop = loop;
	rc = make_channel(loop, options, &exporter->channel);
	if (rc != RT_OK) {
		free(exporter);
		return rc;
	}
	exporter->service = rt_strdup(options->service);
	exporter->client = rt_client_new(
		exporter->channel,
		&opentelemetry__proto__collector__trace__v1__trace_service__descriptor);
	trace.queued = queued;
	trace.user = exporter;
	rt_trace_start(&trace);
	*ret = exporter;
	return RT_OK;
}

static void stop_is_late(struct rt_timer *timer)
{
	rt_client_cancel(&RT_CONTAINER_OF(timer, struct rt_exporter, timer)->op);
}

void rt_exporter_stop(struct rt_exporter *exporter, void (*stopped)(void *user), void *user)
{
	rt_tracing = false;
	exporter->stopping = true;
	exporter->stop_by_ms = rt_loop_now(exporter->loop) + STOP_MS;
	exporter->stopped = stopped;
	exporter->user = user;
	if (exporter->sending > 0)
		rt_timer_start(exporter->loop, &exporter->timer, STOP_MS, stop_is_late);
	else if (rt_trace_queued() > 0)
		send(exporter);
	else
		finish(exporter);
}
