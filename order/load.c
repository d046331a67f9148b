/* load.c - how much order, inventory and Redis have to do, told to the gateways, which refuse new orders by it
 * (gateway/shedding.h).
 *
 *   order_load_begin     an order comes: the clock starts, if it stands
 *     look               every every_ms each partition is asked how far inventory is behind …
 *       behind_answered  … and when the last one has answered, or some still wait after every_ms,
 *     tell_gateways      every gateway is told, once
 *   the clock stops when for QUIET_MS no order has come and nothing waited: gateways that refused orders have learned by
 *   then that they need not
 *
 * What waits is told as a time: how long it takes at the rate of now, which is the wait of an order that comes now. That
 * is known at once when a queue grows; the times that orders took, only when they have waited. The first few orders that
 * are to be stored do not count: they are worked off together, however long Redis takes. */
#include "order/order_internal.h"

#define EVERY_MS     100
#define QUIET_MS     3000
#define FOLLOW_LOOKS 7 /* over so many a rate is taken */
#define KNOWN_LOOKS  3 /* after so many it is known */
#define FORGET       0.02
#define WAITED_MS    20
#define MEMORY       10 /* each so many looks Redis is asked for its memory, which costs it more */
#define GROUP        "inventory"
#define FEW          256 /* orders to be stored */
#define WAIT_MAX     3600000

struct order_load {
	struct order *order;
	struct rt_timer timer;
	struct asked {
		struct order_load *load;
		struct rt_behind_op op;
		struct rt_store_queue *queue;
		size_t storing; /* orders */
		double stored;  /* since the gateways were told */
	} * partitions;
	int under_way; /* partitions that have not answered */
	unsigned int looks;
	bool running; /* the timer */
	bool stopped;
	bool late; /* the gateways were told without the answers that are under way */
	int64_t every_ms;
	order_load_tell *tell;
	int64_t busy_ms;    /* when the last one came, or there was last something to do */
	int64_t told_ms;    /* when the gateways were told; 0: not since the clock started */
	int64_t counted_ms; /* when it was known how many events there are; likewise */
	double delivered;   /* events, ever */
	double written;     /* likewise */
	struct flow {       /* how many in a ms, of late */
		double per_ms;
		unsigned int looks;       /* that have gone in; up to FOLLOW_LOOKS */
	} storing_flow, event_flow,       /* what can be stored and delivered, going by what was */
		order_flow, written_flow; /* what was stored, and events that were written */
};

static void look(struct rt_timer *timer);

static void run(struct order_load *load)
{
	load->running = true;
	rt_timer_start(load->order->loop, &load->timer, load->every_ms, look);
}

void order_load_begin(struct order_load *load, int partition)
{
	load->busy_ms = rt_loop_now(load->order->loop);
	load->partitions[partition].storing++;
	if (!load->running && !load->stopped) {
		load->told_ms = load->counted_ms = 0;
		load->storing_flow = load->event_flow = (struct flow){ 0 };
		load->order_flow = load->written_flow = (struct flow){ 0 };
		run(load);
	}
}

void order_load_end(struct order_load *load, int partition)
{
	load->partitions[partition].storing--;
	load->partitions[partition].stored++;
}

/* ---- rates ---- */

/* Where nothing has waited, fewer say only that fewer came: what a queue can do is forgotten slowly then. */
static void flow_note(struct flow *flow, double count, double passed_ms, bool waited)
{
	double now = count / passed_ms, part;

	if (flow->looks < FOLLOW_LOOKS)
		part = 1 / (double)++flow->looks; /* their mean */
	else
		part = waited || now > flow->per_ms ? 1.0 / FOLLOW_LOOKS : FORGET;
	flow->per_ms += part * (now - flow->per_ms);
}

static bool flow_known(const struct flow *flow)
{
	return flow->looks >= KNOWN_LOOKS;
}

static uint64_t flow_wait_ms(const struct flow *flow, double waiting)
{
	if (waiting <= 0 || !flow_known(flow))
		return 0;
	return waiting < WAIT_MAX * flow->per_ms ? (uint64_t)(waiting / flow->per_ms) : WAIT_MAX;
}

static uint32_t flow_per_second(const struct flow *flow)
{
	return flow_known(flow) ? (uint32_t)(flow->per_ms * 1000) : 0;
}

/* Orders have other events, too, so fewer orders than events are delivered. */
static uint32_t taken_per_second(const struct order_load *load)
{
	double written = load->written_flow.per_ms, orders = load->order_flow.per_ms;

	return written > 0 ? (uint32_t)(flow_per_second(&load->event_flow) * orders / written) : 0;
}

/* What was stored since the gateways were told last, and delivered between two answers of Redis. Where nothing is, Redis
 * or inventory is away: how long what waits will take is not known, and what they can do is not forgotten. */
static void note_stored(struct order_load *load, double stored, double storing)
{
	int64_t now_ms = rt_loop_now(load->order->loop);
	double passed_ms = (double)(now_ms - load->told_ms);

	if (load->told_ms != 0 && passed_ms > 0) {
		if (stored > 0)
			flow_note(&load->storing_flow, stored, passed_ms,
				  flow_wait_ms(&load->storing_flow, storing) > WAITED_MS);
		flow_note(&load->order_flow, stored, passed_ms, true);
	}
	load->told_ms = now_ms;
}

static void note_delivered(struct order_load *load)
{
	int64_t now_ms = rt_loop_now(load->order->loop);
	double passed_ms = (double)(now_ms - load->counted_ms);
	double written = 0, events = 0, delivered;

	for (int p = 0; p < load->order->partition_count; p++) {
		written += (double)load->partitions[p].op.written;
		events += (double)load->partitions[p].op.events;
	}
	delivered = written - events;
	if (load->counted_ms != 0 && passed_ms > 0) {
		flow_note(&load->written_flow, RT_MAX(written - load->written, 0), passed_ms, true);
		/* Less: the stream was made anew. */
		if (delivered > load->delivered)
			flow_note(&load->event_flow, delivered - load->delivered, passed_ms,
				  flow_wait_ms(&load->event_flow, events) > WAITED_MS);
		else
			load->event_flow = (struct flow){ 0 };
	}
	load->counted_ms = now_ms;
	load->delivered = delivered;
	load->written = written;
}

/* ---- telling ---- */

/* Orders that were stored, and those that are to be stored: in partitions that store some, and in those that store none, whose master is
 * away. */
struct storing {
	double stored, moving, held;
};

static struct storing take_storing(struct order_load *load)
{
	struct storing all = { 0 };

	for (int p = 0; p < load->order->partition_count; p++) {
		struct asked *partition = &load->partitions[p];

		if (partition->stored > 0)
			all.moving += (double)partition->storing;
		else
			all.held += (double)partition->storing;
		all.stored += partition->stored;
		partition->stored = 0;
	}
	return all;
}

/* Tells the gateways; stops the clock if there is nothing more to tell. */
static void tell_gateways(struct order_load *load)
{
	Tandem__Order__V1__PlacementLoad message = TANDEM__ORDER__V1__PLACEMENT_LOAD__INIT;
	struct storing storing = take_storing(load);
	int64_t memory = 0, oldest = 0, events = 0;

	for (int p = 0; p < load->order->partition_count; p++) {
		const struct rt_behind_op *op = &load->partitions[p].op;

		events += op->events;
		oldest = RT_MAX(oldest, op->oldest_ms);
		memory = RT_MAX(memory, op->memory_permille);
	}
	message.events = (uint64_t)events;
	message.oldest_ms = (uint64_t)oldest;
	note_stored(load, storing.stored, storing.moving);
	message.wait_ms = flow_wait_ms(&load->event_flow, (double)events);
	message.taken_per_second = taken_per_second(load);
	message.store_ms = flow_wait_ms(&load->storing_flow, storing.moving - FEW);
	message.stored_per_second = flow_per_second(&load->storing_flow);
	message.held = (uint64_t)storing.held;
	message.memory_permille = (uint32_t)memory;
	load->tell(load->order, &message);
	if (events > 0 || storing.moving + storing.held > 0)
		load->busy_ms = rt_loop_now(load->order->loop);
	if (rt_loop_now(load->order->loop) - load->busy_ms > QUIET_MS) {
		load->running = false;
		rt_timer_stop(load->order->loop, &load->timer);
	}
}

static void behind_answered(struct rt_behind_op *op, int status)
{
	struct order_load *load = RT_CONTAINER_OF(op, struct asked, op)->load;
	struct order *order = load->order;

	(void)status; /* failed: the last numbers stay */
	if (--load->under_way == 0 && !load->stopped) {
		note_delivered(load);
		if (!load->late)
			tell_gateways(load);
	}
	order_call_end(order);
}

static void look(struct rt_timer *timer)
{
	struct order_load *load = RT_CONTAINER_OF(timer, struct order_load, timer);

	run(load);
	load->late = load->under_way > 0;
	if (load->late) {
		tell_gateways(load); /* Redis does not answer: store_ms says so */
		return;
	}
	load->looks++;
	for (int p = 0; p < load->order->partition_count; p++) {
		struct rt_behind_op *op = &load->partitions[p].op;

		load->under_way++;
		order_call_begin(load->order);
		op->now_ms = rt_loop_unix_ms(load->order->loop);
		op->with_memory = load->looks % MEMORY == 1;
		rt_store_add(load->partitions[p].queue, op);
	}
}

int order_load_new(struct order *order, const struct rt_context *context, int64_t every_ms,
		   order_load_tell *tell, struct order_load **ret)
{
	struct order_load *load = rt_alloc(sizeof(*load));
	int rc = RT_OK;

	load->order = order;
	load->every_ms = every_ms > 0 ? every_ms : EVERY_MS;
	load->stopped = every_ms < 0;
	load->tell = tell;
	load->partitions = rt_alloc((size_t)context->partition_count * sizeof(*load->partitions));
	for (int p = 0; p < context->partition_count && rc == RT_OK; p++) {
		struct asked *asked = &load->partitions[p];

		asked->load = load;
		asked->op.group = GROUP;
		asked->op.done = behind_answered;
		rc = rt_store_queue_new(context->partitions[p].store, &rt_behind_step, NULL,
					&asked->queue);
	}
	if (rc != RT_OK) {
		order_load_free(load);
		return rc;
	}
	*ret = load;
	return RT_OK;
}

void order_load_stop(struct order_load *load)
{
	load->stopped = true;
	load->running = false;
	rt_timer_stop(load->order->loop, &load->timer);
}

void order_load_free(struct order_load *load)
{
	if (load == NULL)
		return;
	free(load->partitions);
	free(load);
}
