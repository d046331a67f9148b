/* load_run.c - sends orders when they are meant to leave, and counts until each is decided.
 *
 *   timer_fired (timerfd)   sends all orders that are due
 *     send_unary/_batch/_stream
 *       order_accepted      the answer: the order has an id
 *   load_decided            the decision, from the stream or with the answer
 *     follow_up             confirms or cancels a share of the reserved orders
 *   tick (100 ms)           progress; the end of sending; the end of draining
 *
 * With --saturate an order leaves whenever one is decided: `outstanding` are always under way.
 * A decision may come before the answer with the order's id: load->open holds what came first. */
#include <math.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "interpose/interpose.h"
#include "load.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"

#define METHOD_PLACE   0
#define METHOD_BATCH   1
#define METHOD_STREAM  2
#define METHOD_CONFIRM 6
#define METHOD_CANCEL  7
#define LINES_MAX      16
#define SEND_MAX       2048 /* orders sent in one turn at most */

struct run;

/* One order on its way to being accepted. */
struct sent {
	int64_t intended_ns;
	bool measured;
	uint16_t skus[LINES_MAX];
};
struct call {
	struct rt_client_op op;
	struct run *run;
	size_t count;
	struct sent *sent;
};
struct follow_up {
	struct rt_client_op op;
	struct run *run;
	struct load_order *order; /* owned from here on */
	bool confirm;
};
/* A StreamOrders call: its orders in a ring, by sequence. */
struct stream {
	struct rt_client_op op;
	struct run *run;
	struct sent *ring;
	uint64_t sequence;
	bool ended;
};
#define RING 65536

struct run {
	struct load *load;
	int timer_fd;
	struct rt_watch *watch;
	struct rt_timer tick;
	struct rt_task refill;
	int64_t next_ns; /* when the next order is meant to leave */
	int64_t drain_until_ns;
	uint64_t index, request_id;
	size_t progress_second; /* the last second whose progress was printed */
	uint64_t pending;       /* sent and neither failed nor decided */
	struct stream *streams;
	Tandem__Order__V1__OrderLine lines[LINES_MAX], *line_refs[LINES_MAX];
	char customer[LOAD_CUSTOMER_SIZE], request_text[64];
	Tandem__Order__V1__PlaceOrderRequest request;
};

static void send_due(struct run *run);

/* splitmix64 (Steele, Lea, Flood 2014): the schedule is the same for the same seed. */
static uint64_t load_random(struct load *load)
{
	uint64_t z = load->random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static double random_share(struct load *load)
{
	return (double)(load_random(load) >> 11) * 0x1p-53;
}

static uint16_t pick_sku(struct load *load)
{
	size_t low = 0, high = (size_t)load->options.skus - 1;
	double share;

	switch (load->options.skew) {
	case LOAD_HOT:
		return 0;
	case LOAD_UNIFORM:
		return (uint16_t)(load_random(load) % (uint64_t)load->options.skus);
	case LOAD_ZIPF:
		break;
	}
	share = random_share(load);
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (load->zipf[middle] < share)
			low = middle + 1;
		else
			high = middle;
	}
	return (uint16_t)low;
}

/* Fills run->request with the next order, and *sent with what is needed when its answer comes. */
static void make_order(struct run *run, struct sent *sent, int64_t intended_ns)
{
	struct load *load = run->load;
	size_t count = (size_t)load->options.lines;

	sent->intended_ns = intended_ns;
	sent->measured = intended_ns >= load->measure_ns;
	for (size_t i = 0; i < count; i++) {
		bool again = true;

		while (again) { /* each SKU once, so that the accounting knows what a line took */
			sent->skus[i] = pick_sku(load);
			again = false;
			for (size_t j = 0; j < i; j++)
				again = again || sent->skus[j] == sent->skus[i];
			if (load->options.skew == LOAD_HOT && again) {
				sent->skus[i] = (uint16_t)i;
				again = false;
			}
		}
		run->lines[i].sku = load->sku_names[sent->skus[i]];
		run->lines[i].quantity = 1;
	}
	(void)snprintf(run->customer, sizeof(run->customer), LOAD_CUSTOMER,
		       load_random(load) % (uint64_t)load->options.customers);
	if (load->options.request_ids)
		(void)snprintf(run->request_text, sizeof(run->request_text), "%016llx-%llu",
			       (unsigned long long)load->options.seed,
			       (unsigned long long)run->request_id++);
}

static struct load_order *open_order(struct load *load, const char *order_id)
{
	struct load_order *order;

	HASH_FIND_STR(load->open, order_id, order);
	if (order == NULL) {
		order = rt_alloc(sizeof(*order));
		(void)snprintf(order->order_id, sizeof(order->order_id), "%s", order_id);
		HASH_ADD_STR(load->open, order_id, order);
	}
	return order;
}

static void free_order(struct load_order *order)
{
	free(order->skus);
	free(order);
}

static void run_idle(struct run *run)
{
	struct load *load = run->load;

	if (load->options.rate <= 0 && load->sending)
		rt_loop_defer(load->loop, &run->refill);
}

static void follow_up_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct follow_up *follow = RT_CONTAINER_OF(op, struct follow_up, op);
	struct load *load = follow->run->load;

	(void)response;
	load->follow_ups--;
	if (op->status.code != 0)
		load->count.follow_up_failed++;
	else if (follow->confirm)
		load->count.confirmed++;
	else
		load->count.cancelled++;
	if (op->status.code == 0 && !follow->confirm)
		for (int64_t i = 0; i < load->options.lines; i++)
			load->booked[follow->order->skus[i]]--;
	free_order(follow->order);
	free(follow);
}

/* True: a follow-up was started and owns the order. */
static bool follow_up(struct run *run, struct load_order *order)
{
	struct load *load = run->load;
	double share = random_share(load);
	struct follow_up *follow;
	Tandem__Order__V1__ConfirmOrderRequest confirm =
		TANDEM__ORDER__V1__CONFIRM_ORDER_REQUEST__INIT;
	Tandem__Order__V1__CancelOrderRequest cancel =
		TANDEM__ORDER__V1__CANCEL_ORDER_REQUEST__INIT;

	if (!order->reserved || share >= load->options.confirm + load->options.cancel)
		return false;
	follow = rt_alloc(sizeof(*follow));
	follow->run = run;
	follow->order = order;
	follow->confirm = share < load->options.confirm;
	follow->op.timeout_ms = 30000;
	follow->op.done = follow_up_done;
	load->follow_ups++;
	confirm.order_id = order->order_id;
	cancel.order_id = order->order_id;
	rt_client_start(load->orders, follow->confirm ? METHOD_CONFIRM : METHOD_CANCEL,
			follow->confirm ? &confirm.base : &cancel.base, &follow->op);
	return true;
}

/* Acceptance and decision are known: counts the order and frees it, unless a follow-up takes it. */
static void close_order(struct run *run, struct load_order *order)
{
	struct load *load = run->load;
	int64_t took_ns = order->decided_ns - order->intended_ns;
	size_t second = (size_t)((order->decided_ns - load->start_ns) / 1000000000);

	HASH_DEL(load->open, order);
	run->pending--;
	if (order->reserved) {
		load->count.reserved++;
		for (int64_t i = 0; i < load->options.lines; i++)
			load->booked[order->skus[i]]++;
	} else {
		load->count.rejected++;
	}
	if (order->decided_ns > load->last_decided_ns)
		load->last_decided_ns = order->decided_ns;
	if (second < load->second_count) {
		load->seconds[second].decided++;
		hist_add(load->seconds[second].decided_hist, took_ns);
	}
	if (order->measured)
		hist_add(&load->decided_hist, took_ns);
	if (order->decided_ns >= load->measure_ns && order->decided_ns < load->end_ns) {
		if (order->reserved)
			load->measured.reserved++;
		else
			load->measured.rejected++;
	}
	if (!follow_up(run, order)) {
		uint64_t slot = load->sample_count < LOAD_SAMPLES
					? load->sample_count++
					: load_random(load) % (load->count.accepted + 1);

		if (slot < LOAD_SAMPLES) {
			memcpy(load->samples[slot], order->order_id, sizeof(order->order_id));
			load->sample_reserved[slot] = order->reserved;
		}
		free_order(order);
	}
	run_idle(run);
}

void load_decided(struct load *load, const char *order_id, bool reserved, int64_t now_ns)
{
	struct load_order *order;

	/* The stream also has orders of other clients: they are never accepted, and are freed at the
	 * end. */
	order = open_order(load, order_id);
	if (order->decided_ns != 0) {
		load->count.twice++;
		return;
	}
	order->decided_ns = now_ns;
	order->reserved = reserved;
	if (order->accepted)
		close_order(load->run, order);
}

static void order_accepted(struct run *run, const struct sent *sent,
			   const Tandem__Order__V1__Order *placed)
{
	struct load *load = run->load;
	struct load_order *order = open_order(load, placed->order_id);
	int64_t now_ns = rt_monotonic_ns();
	size_t second = (size_t)((now_ns - load->start_ns) / 1000000000);
	size_t size = sizeof(uint16_t) * (size_t)load->options.lines;

	if (order->accepted) { /* two answers with one id: the same request_id in use elsewhere */
		load->count.twice++;
		return;
	}
	order->accepted = true;
	order->intended_ns = sent->intended_ns;
	order->measured = sent->measured;
	order->skus = rt_alloc(size);
	memcpy(order->skus, sent->skus, size);
	load->count.accepted++;
	if (second < load->second_count)
		load->seconds[second].accepted++;
	if (sent->measured) {
		load->measured.accepted++;
		hist_add(&load->accepted_hist, now_ns - sent->intended_ns);
	}
	if (load->options.wait &&
	    placed->status != TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_PENDING &&
	    order->decided_ns == 0) {
		order->decided_ns = now_ns;
		order->reserved =
			placed->status == TANDEM__ORDER__V1__ORDER_STATUS__ORDER_STATUS_RESERVED;
	}
	if (order->decided_ns != 0)
		close_order(run, order);
}

/* `sent`: NULL for one that was not. */
static void orders_failed(struct run *run, int code, const struct sent *sent, size_t count)
{
	struct load *load = run->load;
	int64_t now_ns = rt_monotonic_ns();

	for (size_t i = 0; sent != NULL && i < count; i++)
		if (sent[i].measured)
			hist_add(&load->failed_hist, now_ns - sent[i].intended_ns);

	load->count.failed += count;
	load->count.codes[code >= 0 && code <= 16 ? code : 2] += count;
	run->pending -= count;
	run_idle(run);
}

static void add_result(struct run *run, const struct sent *sent,
		       const Tandem__Order__V1__PlaceOrderResult *result)
{
	if (result->result_case == TANDEM__ORDER__V1__PLACE_ORDER_RESULT__RESULT_ORDER)
		order_accepted(run, sent, result->order);
	else
		orders_failed(run, result->error != NULL ? result->error->code : 2, sent, 1);
}

static void order_answered(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);
	struct run *run = call->run;

	run->load->calls--;
	if (response == NULL) {
		orders_failed(run, op->status.code, call->sent, call->count);
	} else if (run->load->options.mode == LOAD_UNARY) {
		order_accepted(run, call->sent,
			       ((const Tandem__Order__V1__PlaceOrderResponse *)response)->order);
	} else {
		const Tandem__Order__V1__BatchPlaceOrdersResponse *batch =
			(const Tandem__Order__V1__BatchPlaceOrdersResponse *)response;

		for (size_t i = 0; i < call->count && i < batch->n_orders; i++)
			add_result(run, &call->sent[i], batch->orders[i]);
	}
	free(call->sent);
	free(call);
}

static struct call *new_call(struct run *run, size_t count)
{
	struct call *call = rt_alloc(sizeof(*call));

	call->run = run;
	call->count = count;
	call->sent = rt_alloc(sizeof(*call->sent) * count);
	call->op.timeout_ms = 30000;
	call->op.done = order_answered;
	run->load->calls++;
	return call;
}

static void send_unary(struct run *run, int64_t intended_ns)
{
	struct call *call = new_call(run, 1);

	make_order(run, &call->sent[0], intended_ns);
	rt_client_start(run->load->orders, METHOD_PLACE, &run->request.base, &call->op);
}

static void send_stream(struct run *run, int64_t intended_ns)
{
	struct load *load = run->load;
	struct stream *stream = &run->streams[run->index % (uint64_t)load->options.connections];
	Tandem__Order__V1__StreamOrdersRequest message =
		TANDEM__ORDER__V1__STREAM_ORDERS_REQUEST__INIT;

	if (stream->ended) {
		orders_failed(run, RT_CODE_UNAVAILABLE, NULL, 1);
		return;
	}
	make_order(run, &stream->ring[stream->sequence % RING], intended_ns);
	message.sequence = stream->sequence++;
	message.request = &run->request;
	rt_client_send(&stream->op, &message.base);
}

/* An order of a batch, with its own lines: they must live until the batch is packed. */
struct batched {
	Tandem__Order__V1__PlaceOrderRequest request;
	Tandem__Order__V1__OrderLine lines[LINES_MAX], *line_refs[LINES_MAX];
	char customer[LOAD_CUSTOMER_SIZE], request_text[64];
};
static void send_batch(struct run *run, const int64_t *intended_ns, size_t count)
{
	Tandem__Order__V1__BatchPlaceOrdersRequest batch =
		TANDEM__ORDER__V1__BATCH_PLACE_ORDERS_REQUEST__INIT;
	struct call *call = new_call(run, count);
	struct batched *items = rt_alloc(sizeof(*items) * count);
	Tandem__Order__V1__PlaceOrderRequest **refs = rt_alloc(sizeof(*refs) * count);

	for (size_t i = 0; i < count; i++) {
		struct batched *item = &items[i];

		make_order(run, &call->sent[i], intended_ns[i]);
		item->request = run->request;
		memcpy(item->lines, run->lines, sizeof(item->lines));
		for (size_t j = 0; j < LINES_MAX; j++)
			item->line_refs[j] = &item->lines[j];
		item->request.lines = item->line_refs;
		memcpy(item->customer, run->customer, sizeof(item->customer));
		item->request.customer_id = item->customer;
		memcpy(item->request_text, run->request_text, sizeof(item->request_text));
		item->request.request_id = item->request_text;
		refs[i] = &item->request;
	}
	batch.n_requests = count;
	batch.requests = refs;
	rt_client_start(run->load->orders, METHOD_BATCH, &batch.base, &call->op);
	free(refs);
	free(items);
}

/* Moves the schedule on by one order. */
static int64_t take_turn(struct run *run)
{
	struct load *load = run->load;
	int64_t intended_ns = run->next_ns;
	double gap_ns = 1e9 / load->options.rate;

	if (load->options.poisson)
		gap_ns *= -log(1 - random_share(load));
	run->next_ns += (int64_t)gap_ns;
	return intended_ns;
}

static void note_sent(struct run *run, int64_t intended_ns, int64_t now_ns)
{
	struct load *load = run->load;
	size_t second = (size_t)((now_ns - load->start_ns) / 1000000000);

	run->index++;
	run->pending++;
	load->count.sent++;
	if (intended_ns >= load->measure_ns)
		load->measured.sent++;
	if (now_ns - intended_ns > 1000000)
		load->count.late++;
	if (second < load->second_count)
		load->seconds[second].sent++;
}

/* Sends the orders that are due by the schedule, or up to `outstanding`. */
static void send_due(struct run *run)
{
	struct load *load = run->load;
	const struct load_options *options = &load->options;
	int64_t now_ns = rt_monotonic_ns(), batch_ns[1000];
	size_t batched = 0, batch = options->mode == LOAD_BATCH ? (size_t)options->batch : 1;

	for (int i = 0; i < SEND_MAX && load->sending; i++) {
		int64_t intended_ns = now_ns;

		if (options->rate > 0) {
			if (run->next_ns > now_ns || run->next_ns >= load->end_ns)
				break;
			intended_ns = take_turn(run);
		} else if (run->pending >= (uint64_t)options->outstanding) {
			break;
		}
		note_sent(run, intended_ns, now_ns);
		if (i == 1) /* a lone one leaves as it is */
			rt_cork();
		switch (options->mode) {
		case LOAD_UNARY:
			send_unary(run, intended_ns);
			break;
		case LOAD_STREAM:
			send_stream(run, intended_ns);
			break;
		case LOAD_BATCH:
			batch_ns[batched++] = intended_ns;
			if (batched == batch) {
				send_batch(run, batch_ns, batched);
				batched = 0;
			}
			break;
		}
	}
	if (batched > 0)
		send_batch(run, batch_ns, batched);
	rt_uncork();
	/* What is still due must not wait for a decision: there may be none. */
	if (load->sending && options->rate <= 0 && run->pending < (uint64_t)options->outstanding)
		rt_loop_defer(load->loop, &run->refill);
}

static void set_timer(struct run *run)
{
	int64_t at_ns = RT_MAX(run->next_ns, rt_monotonic_ns() + 1000);
	struct itimerspec when = { .it_value = { .tv_sec = at_ns / 1000000000,
						 .tv_nsec = at_ns % 1000000000 } };

	(void)timerfd_settime(run->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void timer_fired(void *user, int events)
{
	struct run *run = user;
	uint64_t count;

	(void)events;
	if (read(run->timer_fd, &count, sizeof(count)) < 0)
		return;
	send_due(run);
	if (run->load->sending)
		set_timer(run);
}

static void refill(struct rt_task *task)
{
	send_due(RT_CONTAINER_OF(task, struct run, refill));
}

static void stream_message(struct rt_client_op *op, const ProtobufCMessage *message)
{
	struct stream *stream = RT_CONTAINER_OF(op, struct stream, op);
	const Tandem__Order__V1__StreamOrdersResponse *answer =
		(const Tandem__Order__V1__StreamOrdersResponse *)message;

	if (answer->order != NULL)
		add_result(stream->run, &stream->ring[answer->sequence % RING], answer->order);
}

static void stream_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct stream *stream = RT_CONTAINER_OF(op, struct stream, op);

	(void)response;
	stream->ended = true;
	stream->run->load->calls--;
	if (op->status.code != 0)
		stream->run->load->count.codes[op->status.code]++;
}

static void start_streams(struct run *run)
{
	struct load *load = run->load;

	run->streams = rt_alloc(sizeof(*run->streams) * (size_t)load->options.connections);
	for (int64_t i = 0; i < load->options.connections; i++) {
		struct stream *stream = &run->streams[i];

		stream->run = run;
		stream->ring = rt_alloc(sizeof(*stream->ring) * RING);
		stream->op.on_message = stream_message;
		stream->op.done = stream_done;
		load->calls++;
		rt_client_start(load->orders, METHOD_STREAM, NULL, &stream->op);
	}
}

static void end_streams(struct run *run)
{
	for (int64_t i = 0; run->streams != NULL && i < run->load->options.connections; i++)
		if (!run->streams[i].ended)
			rt_client_half_close(&run->streams[i].op);
}

static void progress(struct run *run, int64_t now_ns)
{
	struct load *load = run->load;
	size_t second = (size_t)((now_ns - load->start_ns) / 1000000000);

	if (load->options.quiet || second <= run->progress_second || second > load->second_count)
		return;
	run->progress_second = second;
	const struct load_second *last = &load->seconds[second - 1];
	(void)fprintf(
		stderr,
		"%4zu s  sent %6llu  accepted %6llu  decided %6llu/s  p99 %7.2f ms  open %llu\n",
		second, (unsigned long long)last->sent, (unsigned long long)last->accepted,
		(unsigned long long)last->decided, hist_ms(last->decided_hist, 0.99),
		(unsigned long long)run->pending);
}

/* Every 100 ms: the ends of the phases. */
static void tick(struct rt_timer *timer)
{
	struct run *run = RT_CONTAINER_OF(timer, struct run, tick);
	struct load *load = run->load;
	int64_t now_ns = rt_monotonic_ns();

	progress(run, now_ns);
	if (load->sending && now_ns >= load->end_ns) {
		load->sending = false;
		run->drain_until_ns = now_ns + load->options.drain_ms * 1000000;
	}
	if (!load->sending) {
		if (run->pending == 0)
			end_streams(run);
		if ((run->pending == 0 && load->calls == 0 && load->follow_ups == 0) ||
		    now_ns > run->drain_until_ns) {
			load->undecided = run->pending;
			load->next(load);
			return;
		}
	}
	rt_timer_start(load->loop, &run->tick, 100, tick);
}

static void fill_request(struct run *run)
{
	const struct load_options *options = &run->load->options;

	tandem__order__v1__place_order_request__init(&run->request);
	for (size_t i = 0; i < LINES_MAX; i++) {
		tandem__order__v1__order_line__init(&run->lines[i]);
		run->line_refs[i] = &run->lines[i];
	}
	run->request.n_lines = (size_t)options->lines;
	run->request.lines = run->line_refs;
	run->request.customer_id = run->customer;
	if (options->request_ids)
		run->request.request_id = run->request_text;
	run->request.wait_for_decision = options->wait;
}

void load_run_start(struct load *load, void (*next)(struct load *load))
{
	struct run *run = rt_alloc(sizeof(*run));
	const struct load_options *options = &load->options;

	load->run = run;
	load->next = next;
	run->load = load;
	run->refill.run = refill;
	fill_request(run);
	load->start_ns = rt_monotonic_ns();
	load->measure_ns = load->start_ns + options->warmup_ms * 1000000;
	load->end_ns = load->measure_ns + options->duration_ms * 1000000;
	/* Whole seconds only: in a part of a second, or after sending has ended, rates seem to drop. */
	load->second_count = (size_t)((options->warmup_ms + options->duration_ms) / 1000);
	load->seconds = rt_alloc(sizeof(*load->seconds) * (load->second_count + 1));
	for (size_t i = 0; i < load->second_count; i++)
		load->seconds[i].decided_hist = rt_alloc(sizeof(struct hist));
	load->sending = true;
	run->next_ns = load->start_ns;
	run->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (run->timer_fd < 0 ||
	    rt_watch_new(load->loop, run->timer_fd, timer_fired, run, &run->watch) != RT_OK) {
		load->error = "the timer cannot be created";
		rt_loop_stop(load->loop);
		return;
	}
	rt_watch_set(run->watch, RT_READABLE);
	if (options->mode == LOAD_STREAM)
		start_streams(run);
	if (options->rate > 0)
		set_timer(run);
	else
		rt_loop_defer(load->loop, &run->refill);
	rt_timer_start(load->loop, &run->tick, 100, tick);
}

void load_run_free(struct load *load)
{
	struct run *run = load->run;
	struct load_order *order = load->open, *after;

	/* Frees the hash table, but the elements stay linked to each other. */
	HASH_CLEAR(hh, load->open);
	for (; order != NULL; order = after) {
		after = order->hh.next;
		free_order(order);
	}
	if (run == NULL)
		return;
	rt_timer_stop(load->loop, &run->tick);
	rt_watch_free(run->watch);
	(void)close(run->timer_fd);
	for (int64_t i = 0; run->streams != NULL && i < load->options.connections; i++)
		free(run->streams[i].ring);
	free(run->streams);
	free(run);
	load->run = NULL;
}
