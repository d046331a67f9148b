/* shed.c - refuses new orders early when order, inventory and Redis cannot keep up: what the instances of the order service
 * say goes into the rules of shedding.h, and what those say is done, logged and counted. */
#include <inttypes.h>

#include "gateway_internal.h"
#include "interpose/interpose.h"

#define LOOK_MS      100
#define COUNT_MS     80  /* over a shorter time rates mean nothing */
#define FOLLOW       0.5 /* of the way to the rate of the last look */
#define FORGET       0.02
#define ARRIVING_FEW 256 /* orders that wait to be read */
#define WAITED_MS    5

/* How long a caller whose order was refused is asked to wait: longer, the more are refused. */
#define RETRY_MIN_MS  500
#define RETRY_MORE_MS 2000

void gateway_shed_metrics(struct gateway *gateway, struct rt_metrics *metrics)
{
	static const char *const labels[] = { "cause", NULL };
	struct rt_metric *orders, *loads;

	gateway->shed_share = rt_metric_plain(
		metrics, RT_GAUGE, "tandem_gateway_shed_share",
		"Part of the new orders that is refused because more come than can be served, "
		"0 to 1.");
	orders = rt_metric(metrics, RT_COUNTER, "tandem_gateway_shed_orders_total",
			   "Orders refused because more came than could be served, by cause.",
			   labels);
	loads = rt_metric(metrics, RT_GAUGE, "tandem_gateway_load",
			  "What the order service says there is to do, against the limit above "
			  "which orders are refused: 1 is the limit.",
			  labels);
	for (unsigned int i = 0; i < SHED_CAUSE_COUNT; i++) {
		const char *const cause[] = { shed_cause_word(i) };

		gateway->shed_orders[i] = rt_metric_series(orders, cause);
		gateway->loads[i] = rt_metric_series(loads, cause);
	}
}

/* ---- what is known ---- */

static void log_change(struct gateway *gateway, int64_t now_ms)
{
	const struct shedding *shedding = &gateway->shedding;

	if (shedding->on) {
		gateway->shed_since_ms = now_ms;
		gateway->shed_count = 0;
		RT_LOG(RT_WARN, "more orders come than can be served: some are refused",
		       RT_S("cause", shed_cause_word(shedding->cause)),
		       RT_S("why", shed_cause_text(shedding->cause)),
		       RT_I("limit", gateway->options.shed.of[shedding->cause]));
	} else {
		RT_LOG(RT_INFO, "no order is refused any more because of too many",
		       RT_I("after_ms", now_ms - gateway->shed_since_ms),
		       RT_I("refused", gateway->shed_count));
	}
}

static void show(struct gateway *gateway, const struct shed_load *load)
{
	if (gateway->shed_share == NULL)
		return;
	rt_series_set(gateway->shed_share, gateway->shedding.share);
	for (unsigned int i = 0; i < SHED_CAUSE_COUNT; i++) {
		int64_t limit = gateway->options.shed.of[i];

		rt_series_set(gateway->loads[i],
			      limit == 0 ? 0 : (double)load->of[i] / (double)limit);
	}
}

/* How long those take that are more than a few. Others than the gateway can take its CPU, and where few orders come,
 * refusing them gives none back. */
static double arriving_wait_ms(const struct gateway_shed *shed)
{
	double orders = shed->offered_flow * shed->wait_ms / 1000;

	return orders > ARRIVING_FEW ? shed->wait_ms * (orders - ARRIVING_FEW) / orders : 0;
}

/* The highest of what the instances have said lately. */
static struct shed_load known_load(struct gateway *gateway, int64_t now_ms)
{
	struct shed_load load = { .offered = gateway->shed.offered_flow };

	gateway->shed.held = 0;
	for (size_t i = 0; i < gateway->stream_count; i++) {
		const struct gateway_stream *stream = gateway->streams[i];

		if (stream->load_ms == 0 || now_ms - stream->load_ms > SHED_STALE_MS)
			continue;
		gateway->shed.held += stream->held;
		for (unsigned int j = 0; j < SHED_CAUSE_COUNT; j++) {
			load.of[j] = RT_MAX(load.of[j], stream->load.of[j]);
			load.flow[j] += stream->load.flow[j];
		}
	}
	load.of[SHED_ARRIVING] = (int64_t)arriving_wait_ms(&gateway->shed);
	/* Of those that were admitted more came than could be read, as its wait grew. */
	load.flow[SHED_ARRIVING] =
		gateway->shed.admitted_flow / (1 + RT_MIN(RT_MAX(gateway->shed.growth, -0.5), 3));
	return load;
}

static int64_t at_most(uint64_t value)
{
	return (int64_t)RT_MIN(value, (uint64_t)INT64_MAX);
}

#define WAIT_MAX_MS 3600000

/* How long those events take that are more than a few. */
static int64_t wait_of_more(const struct shed_limits *limits,
			    const Tandem__Order__V1__PlacementLoad *message)
{
	double events = (double)message->events, more = events - (double)limits->events_few;
	double wait_ms = (double)RT_MIN(message->wait_ms, (uint64_t)WAIT_MAX_MS);

	return more > 0 ? (int64_t)(wait_ms * more / events) : 0;
}

/* ---- looking ---- */

static void flow_note(double *flow, double count, double passed_ms, double part)
{
	*flow += part * (count * 1000 / passed_ms - *flow);
}

static void count(struct gateway *gateway, int64_t now_ms)
{
	struct gateway_shed *shed = &gateway->shed;
	double passed_ms = (double)(now_ms - shed->counted_ms), wait_ms;

	if (passed_ms < COUNT_MS)
		return;
	wait_ms = rt_arrivals_wait_ms();
	flow_note(&shed->offered_flow, shed->offered, passed_ms, FOLLOW);
	/* Where nothing has waited, fewer say nothing about how many there could be. */
	flow_note(&shed->admitted_flow, shed->admitted, passed_ms,
		  wait_ms > WAITED_MS || shed->admitted * 1000 > shed->admitted_flow * passed_ms
			  ? FOLLOW
			  : FORGET);
	shed->growth = (wait_ms - shed->wait_ms) / passed_ms;
	shed->wait_ms = wait_ms;
	shed->offered = shed->admitted = 0;
	shed->counted_ms = now_ms;
}

static void look(struct gateway *gateway)
{
	int64_t now_ms = rt_loop_now(gateway->loop);
	struct shed_load load;

	count(gateway, now_ms);
	load = known_load(gateway, now_ms);
	gateway->shed.stored_flow = load.flow[SHED_STORING];
	if (shed_look(&gateway->shedding, &gateway->options.shed, &load, now_ms))
		log_change(gateway, now_ms);
	show(gateway, &load);
}

static void forget(struct gateway *gateway)
{
	const struct shed_load nothing = { .offered = 0 };
	int64_t now_ms = rt_loop_now(gateway->loop);

	if (!shed_forget(&gateway->shedding, now_ms))
		return;
	log_change(gateway, now_ms);
	show(gateway, &nothing);
}

static void tick(struct rt_timer *timer)
{
	struct gateway *gateway = RT_CONTAINER_OF(timer, struct gateway, shed.timer);

	look(gateway);
	gateway->shed.running =
		gateway->shedding.on ||
		rt_loop_now(gateway->loop) - gateway->shed.asked_ms <= SHED_STALE_MS;
	if (gateway->shed.running)
		rt_timer_start(gateway->loop, timer, LOOK_MS, tick);
}

/* The clock runs while there is something to look at. */
static void run(struct gateway *gateway)
{
	struct gateway_shed *shed = &gateway->shed;

	shed->asked_ms = rt_loop_now(gateway->loop);
	if (shed->running || gateway->stopping)
		return;
	shed->running = true;
	shed->counted_ms = shed->asked_ms;
	shed->offered = shed->admitted = shed->offered_flow = shed->admitted_flow = 0;
	shed->wait_ms = shed->growth = 0;
	(void)rt_arrivals_wait_ms();
	rt_timer_start(gateway->loop, &shed->timer, LOOK_MS, tick);
}

void gateway_shed_stop(struct gateway *gateway)
{
	rt_timer_stop(gateway->loop, &gateway->shed.timer);
	gateway->shed.running = false;
}

void gateway_shed_note(struct gateway_stream *stream,
		       const Tandem__Order__V1__PlacementLoad *message)
{
	struct gateway *gateway = stream->gateway;

	stream->load_ms = RT_MAX(rt_loop_now(gateway->loop), 1);
	stream->load.of[SHED_EVENTS] = wait_of_more(&gateway->options.shed, message);
	stream->load.flow[SHED_EVENTS] = message->taken_per_second;
	stream->load.of[SHED_AGE] = at_most(message->oldest_ms);
	stream->load.of[SHED_STORING] = at_most(message->store_ms);
	stream->load.flow[SHED_STORING] = message->stored_per_second;
	stream->held = (double)message->held;
	stream->load.of[SHED_MEMORY] = message->memory_permille;
	run(gateway);
	look(gateway);
}

/* Whether storing those that are under way takes so long already that all are to be refused. */
static bool is_full(const struct gateway *gateway)
{
	double storing = (double)gateway->waiting_count - gateway->shed.held;

	if (!gateway->shedding.on || gateway->shed.stored_flow == 0)
		return false;
	for (size_t i = 0; i < gateway->stream_count; i++)
		storing += (double)gateway->streams[i]->storing_count;
	return storing > SHED_QUEUE * (double)gateway->options.shed.of[SHED_STORING] *
				 gateway->shed.stored_flow / 1000;
}

void gateway_shed_lost(struct gateway_stream *stream)
{
	struct gateway *gateway = stream->gateway;
	struct shed_load load;

	stream->load_ms = 0;
	load = known_load(gateway, rt_loop_now(gateway->loop));
	show(gateway, &load);
}

bool gateway_shed_admits(struct gateway *gateway, struct rt_status *status)
{
	struct shedding *shedding = &gateway->shedding;

	run(gateway);
	gateway->shed.offered++;
	if (shedding->on)
		forget(gateway);
	if (!is_full(gateway) && !shed_refuses(shedding)) {
		gateway->shed.admitted++;
		return true;
	}
	gateway->shed_count++;
	if (gateway->shed_share != NULL)
		rt_series_add(gateway->shed_orders[shedding->cause], 1);
	rt_status_set(status, RT_CODE_RESOURCE_EXHAUSTED,
		      "more orders come than can be served, so some are refused: %s",
		      shed_cause_text(shedding->cause));
	rt_status_info(status, "OVERLOADED");
	rt_status_retry(status, RETRY_MIN_MS + (int64_t)(shedding->share * RETRY_MORE_MS));
	return false;
}
