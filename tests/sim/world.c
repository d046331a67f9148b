/* world.c - processes, calls between them, faults, transcript. */
#undef NDEBUG /* the assertions of a simulation must run */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "rpc/call_internal.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"
#include "tandem/order/v1/order_service.pb-c.h"
#include "tandem/order/v1/placement.pb-c.h"
#include "world_internal.h"

static const char *const role_names[ROLES] = { "order", "inventory", "gateway" };
const char *const world_unknown_sku = "quince";
const char *const world_skus[WORLD_SKUS] = { "apple", "pear", "fig", "kiwi" };

/* ---- chance and text ---- */

size_t world_sku(const char *sku)
{
	size_t i = 0;

	while (i < WORLD_SKUS && strcmp(world_skus[i], sku) != 0)
		i++;
	assert(i < WORLD_SKUS);
	return i;
}

uint64_t world_roll(struct world *world, uint64_t bound)
{
	return rt_loop_random(world->loop, bound);
}

bool world_chance(struct world *world, unsigned in_10000)
{
	return !world->calm && in_10000 > 0 && world_roll(world, 10000) < in_10000;
}

static RT_PRINTF(3, 0) void add_line(struct world *world, struct rt_buf *buf, const char *format,
				     va_list args)
{
	char line[512];

	vsnprintf(line, sizeof(line), format, args);
	rt_buf_printf(buf, "[%6" PRId64 " ms] %s\n", rt_loop_now(world->loop), line);
}

void world_say(struct world *world, const char *format, ...)
{
	va_list args;

	if (!world->options.record)
		return;
	va_start(args, format);
	add_line(world, &world->transcript, format, args);
	va_end(args);
}

void world_violation(struct world *world, const char *format, ...)
{
	va_list args;

	if (++world->violation_count > WORLD_VIOLATIONS)
		return;
	va_start(args, format);
	add_line(world, &world->violations, format, args);
	va_end(args);
}

const char *world_short(const char *order_id)
{
	static char texts[2][16];
	static unsigned turn;
	char *text = texts[turn++ % 2];

	snprintf(text, sizeof(texts[0]), "%.10s", order_id);
	return text;
}

/* ---- faults of I/O ---- */

/* The one I/O of a torture run that fails. */
static bool is_nth(struct world *world, bool after, int *status, bool *kill)
{
	enum world_nth kind = world->nth_kind;
	bool wants_after = kind == NTH_FAIL_AFTER || kind == NTH_KILL_AFTER;

	if (kind == NTH_NONE || after != wants_after || world->calm ||
	    ++world->io_count != world->nth)
		return false;
	world->nth_hit = true;
	*kill = kind == NTH_KILL_BEFORE || kind == NTH_KILL_AFTER;
	*status = *kill ? RT_CANCELED : RT_LOST;
	return true;
}

static int random_fault(struct world *world, bool after)
{
	static const int before_statuses[] = { RT_LOST, RT_TIMEOUT, RT_BUSY, RT_UNREADY };
	static const int after_statuses[] = { RT_LOST, RT_TIMEOUT };

	if (after)
		return after_statuses[world_roll(world, RT_LENGTH(after_statuses))];
	return before_statuses[world_roll(world, RT_LENGTH(before_statuses))];
}

static void set_delay(struct world *world, int64_t *delay_ms)
{
	const struct world_plan *plan = &world->options.plan;

	*delay_ms = 0;
	if (plan->latency_ms > 0)
		*delay_ms = (int64_t)world_roll(world, (uint64_t)plan->latency_ms + 1);
	if (world_chance(world, plan->io_delay))
		*delay_ms += (int64_t)world_roll(world, 400);
	if (world_chance(world, plan->io_slow))
		*delay_ms += (int64_t)world_roll(world, 6000);
}

/* The first order id among a command's arguments, or "". */
static const char *subject_of(const struct memory_io *io)
{
	for (size_t i = 1; i < io->argc; i++)
		if (strncmp(io->argv[i].data, ORDER_ID_PREFIX, 4) == 0)
			return io->argv[i].data;
	return "";
}

/* Whether the command reads the archive's stream, or what was set aside of it. */
static bool concerns_archive(const struct memory_io *io)
{
	static const char stream[] = "archive:{", aside[] = ":aside:archive";

	for (size_t i = 1; i < io->argc; i++) {
		const struct memory_text *arg = &io->argv[i];

		if (arg->length >= strlen(aside) &&
		    (memcmp(arg->data, stream, strlen(stream)) == 0 ||
		     memcmp(arg->data + arg->length - strlen(aside), aside, strlen(aside)) == 0))
			return true;
	}
	return false;
}

/* Whether the command holds parts of split orders. */
static bool is_hold(const struct memory_io *io)
{
	return strcmp(io->what, "inventory_part") == 0 && strchr(io->argv[6].data, 'h') != NULL;
}

static int on_io(void *user, const struct memory_io *io, int64_t *delay_ms)
{
	struct process *process = user;
	struct world *world = process->world;
	const struct world_plan *plan = &world->options.plan;
	int status = RT_OK;
	bool kill = false;

	if (io->after)
		world_check_answer(world, io);
	if (process->dead)
		return RT_CANCELED;
	/* Without an archive nothing is there to be read; and what else goes wrong is the same as before there was any. */
	if (!world->options.drops && concerns_archive(io))
		return RT_OK;
	set_delay(world, delay_ms);
	if (is_nth(world, io->after, &status, &kill)) {
	} else if (world_chance(world, plan->io_kill)) {
		kill = true;
	} else if (world_chance(world, io->after ? plan->io_after : plan->io_before)) {
		status = random_fault(world, io->after);
	} else if (!io->after && world_chance(world, plan->io_late)) {
		status = MEMORY_LATE;
		*delay_ms += (int64_t)world_roll(world, 6000);
	} else if (!io->after && is_hold(io) && world_chance(world, plan->hold_late)) {
		status = MEMORY_LATE;
		*delay_ms += (int64_t)world_roll(world, 12000);
	} else {
		return RT_OK;
	}
	world->counts.faults++;
	world_say(world, "%-12s !! %s %s%s %s the effect", process->name, io->what,
		  world_short(subject_of(io)),
		  kill                    ? "kills"
		  : status == MEMORY_LATE ? "RT_TIMEOUT"
					  : rt_status_name(status),
		  io->after               ? "after"
		  : status == MEMORY_LATE ? "long before"
					  : "before");
	if (kill) {
		world_kill(process, "during an I/O");
		return RT_CANCELED;
	}
	return status;
}

/* ---- calls between processes ---- */

/* A call that a process works on. Its transport is the local one, with two exceptions: what a dead
 * process sends is dropped, and its calls end as if their connection was lost. */
struct route_call {
	struct rt_call *call;
	const struct rpc_call_ops *transport;
	struct rpc_call_ops ops;
	struct process *process;
	UT_hash_handle hh; /* by call */
};

static struct world *calls_world; /* the one that runs: a call's transport has no other way to it */

static struct route_call *route_call_of(struct rt_call *call)
{
	struct route_call *found;

	HASH_FIND_PTR(calls_world->route_calls, &call, found);
	assert(found != NULL);
	return found;
}

static void route_send(struct rt_call *call, const ProtobufCMessage *message)
{
	struct route_call *routed = route_call_of(call);

	if (!routed->process->dead)
		routed->transport->send(call, message);
}

static void route_end(struct rt_call *call, const ProtobufCMessage *answer,
		      const struct rt_status *status)
{
	struct route_call *routed = route_call_of(call);
	struct rt_status lost = { 0 };

	call->ops = routed->transport;
	HASH_DEL(calls_world->route_calls, routed);
	rt_status_set(&lost, RT_CODE_UNAVAILABLE, "connection lost");
	if (routed->process->dead)
		call->ops->end(call, NULL, &lost);
	else
		call->ops->end(call, answer, status);
	rt_status_done(&lost);
	routed->process->calls--;
	free(routed);
}

static void route_call_new(struct world *world, struct rt_call *call, struct process *process)
{
	struct route_call *routed = rt_alloc(sizeof(*routed));

	routed->call = call;
	routed->transport = call->ops;
	routed->ops = *call->ops;
	routed->ops.send = route_send;
	routed->ops.end = route_end;
	routed->process = process;
	call->ops = &routed->ops;
	process->calls++;
	HASH_ADD_PTR(world->route_calls, call, routed);
}

static bool serves(const struct process *process, enum role role)
{
	return process->role == role && !process->dead;
}

/* The process whose turn it is; NULL: none is alive. */
static struct process *route_target(struct route *route)
{
	struct world *world = route->world;
	struct process *alive[WORLD_INSTANCES];
	unsigned count = 0;

	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		if (serves(process, route->role))
			alive[count++] = process;
	}
	return count == 0 ? NULL : alive[route->turn++ % count];
}

static ProtobufCService *service_of(const struct route *route, const struct process *process)
{
	const ProtobufCServiceDescriptor *descriptor = route->service.descriptor;

	switch (process->role) {
	case ROLE_ORDER:
		return descriptor == &tandem__order__v1__placement_service__descriptor
			       ? order_placement_rpc(process->order)
			       : order_rpc(process->order);
	case ROLE_INVENTORY:
		return inventory_rpc(process->inventory);
	default:
		return descriptor == &tandem__inventory__v1__inventory_service__descriptor
			       ? gateway_inventory_rpc(process->gateway)
			       : gateway_order_rpc(process->gateway);
	}
}

static void route_invoke(ProtobufCService *service, unsigned method_index,
			 const ProtobufCMessage *input, ProtobufCClosure closure, void *call)
{
	struct route *route = RT_CONTAINER_OF(service, struct route, service);
	struct world *world = route->world;
	struct process *process = route_target(route);
	ProtobufCService *target;

	if (process == NULL) {
		rt_call_failf(call, RT_CODE_UNAVAILABLE, "no %s is running",
			      role_names[route->role]);
		return;
	}
	route_call_new(world, call, process);
	target = service_of(route, process);
	target->invoke(target, method_index, input, closure, call);
}

static void route_init(struct route *route, struct world *world, enum role role,
		       const ProtobufCServiceDescriptor *descriptor)
{
	route->service.descriptor = descriptor;
	route->service.invoke = route_invoke;
	route->world = world;
	route->role = role;
}

static int call_fault(struct world *world, const char *step, int64_t *delay_ms)
{
	const struct world_plan *plan = &world->options.plan;
	bool after = strcmp(step, "request") != 0, kill;
	bool may_be_nth = world->nth_kind == NTH_FAIL_BEFORE || world->nth_kind == NTH_FAIL_AFTER;
	int status;

	if (plan->latency_ms > 0)
		*delay_ms = (int64_t)world_roll(world, (uint64_t)plan->latency_ms + 1);
	if (world_chance(world, plan->call_delay))
		*delay_ms += (int64_t)world_roll(world, 3000);
	if (!(may_be_nth && is_nth(world, after, &status, &kill)) &&
	    !world_chance(world, after ? plan->call_after : plan->call_before))
		return RT_OK;
	world->counts.faults++;
	world_say(world, "%-12s !! a %s is lost", "network", step);
	return RT_LOST;
}

/* A gateway's calls end with its process. */
static int on_gateway_call(void *user, const char *step, int64_t *delay_ms)
{
	struct process *process = user;

	return process->dead ? RT_LOST : call_fault(process->world, step, delay_ms);
}

static int on_client_call(void *user, const char *step, int64_t *delay_ms)
{
	return call_fault(user, step, delay_ms);
}

/* ---- processes ---- */

static void start_context(struct process *process, const struct rt_context_domain *domain,
			  const void *domain_options)
{
	const int partitions = process->world->options.partitions;
	const int pace = process->world->options.pace.claims;
	struct rt_context_options options = {
		.events = { RT_EVENTS_DEFAULTS },
		.trim_every_ms = 6000 * pace,
		.retain_ms = 10000,
		.retain_count = 50,
		.stale_ms = 3600000,
		.partition_count = partitions,
		.replicas = process->world->options.bug == BUG_R8_NO_WAIT
				    ? 0
				    : process->world->options.replicas,
		.domain_options = domain_options,
	};

	/* Shorter times than in production, so that runs are short; and a good event never becomes a
	 * dead letter, however often its consumers die. */
	options.events.deliveries_max = 100000;
	options.events.retry_max_ms = 2000;
	/* Of each stream: seldom where there are many. Most of a run's time goes into what is done all the time. */
	options.events.claim_idle_ms = 4000 * RT_MAX(partitions / 4, 1) * pace;
	options.events.claim_every_ms = 1500 * RT_MAX(partitions / 4, 1) * pace;
	options.events.maintain_every_ms = 2000 * RT_MAX(partitions / 2, 1) * pace;
	options.events.consumer_idle_ms = 60000;
	process->context = stored_context(&process->host, domain, options, process->consumer);
	rt_context_start(process->context);
}

static void start_order(struct process *process)
{
	const int partitions = process->world->options.partitions;
	const struct order_options options = {
		.clock = { .decision_ms = process->world->options.decision_ms,
			   .retry_min_ms = 1000,
			   .retry_max_ms = 8000 },
		.stream_length_max = process->world->options.stream_length_max,
		.hold_max_ms = WORLD_HOLD_MAX_MS,
		.timers_every_ms =
			250 * RT_MAX(partitions / 2, 1) * process->world->options.pace.timers,
		/* Nobody is told where gateways have no limits. */
		.load_every_ms = process->world->options.plan.sheds ? 0 : -1,
		.kept_ms = process->world->options.kept_ms,
	};

	start_context(process, &order_domain, &options);
	process->order = process->context->data;
}

static void start_inventory(struct process *process)
{
	/* Longer than it takes most orders to ask again. */
	const struct inventory_options options = {
		.ask_ms = 1000 * process->world->options.pace.marks,
		.sweep_after_ms = 5000,
		.compare_max = 5,
		/* Effects may come, and the clock jump, by more than any other. */
		.late_ms = process->world->options.drops ? -1 : 0
	};

	start_context(process, &inventory_domain, &options);
	process->inventory = process->context->data;
}

static void start_gateway(struct process *process)
{
	struct world *world = process->world;
	struct gateway_options options = { .connections = world->options.orders,
					   .batch_max = 128,
					   .orders_max = 1000,
					   .timeout_ms = 30000 };
	int rc;

	if (world->options.plan.sheds)
		options.shed.of[SHED_AGE] = 1000;

	process->to_order =
		rt_client_local(world->loop, &world->order_route.service, on_gateway_call, process);
	process->to_placement = rt_client_local(world->loop, &world->placement_route.service,
						on_gateway_call, process);
	process->to_inventory = rt_client_local(world->loop, &world->inventory_route.service,
						on_gateway_call, process);
	options.placement = process->to_placement;
	options.order = process->to_order;
	options.inventory = process->to_inventory;
	rc = gateway_new(world->loop, &options, &process->gateway);
	assert(rc == RT_OK);
}

struct process *world_start(struct world *world, enum role role, int place)
{
	struct process *process = rt_alloc(sizeof(*process));

	process->world = world;
	process->role = role;
	process->place = place;
	snprintf(process->name, sizeof(process->name), "%s-%d", role_names[role], place + 1);
	snprintf(process->consumer, sizeof(process->consumer), "%s.%u", process->name,
		 ++world->started[role][place]);
	memory_host_init(&process->host, world->redis, process->name, on_io, process);
	process->host.away = world->redis_away;
	rt_list_push(&world->processes, &process->link);
	world_say(world, "%-12s starts", process->name);
	if (role == ROLE_ORDER)
		start_order(process);
	else if (role == ROLE_INVENTORY)
		start_inventory(process);
	else
		start_gateway(process);
	return process;
}

static void on_stopped(void *user)
{
	struct process *process = user;

	process->stopped = true;
}

/* A dead process is stopped in the ordinary way, unseen by others. */
static void process_stop(struct rt_task *task)
{
	struct process *process = RT_CONTAINER_OF(task, struct process, end);

	if (process->context != NULL)
		rt_context_stop(process->context, on_stopped, process);
	else
		gateway_stop(process->gateway, on_stopped, process);
}

void world_kill(struct process *process, const char *why)
{
	struct world *world = process->world;

	if (process->dead)
		return;
	world_say(world, "%-12s DIES, %s", process->name, why);
	world->counts.deaths++;
	process->dead = true;
	memory_host_kill(&process->host);
	process->end.run = process_stop;
	rt_loop_post(world->loop, &process->end);
}

static void process_free(struct process *process)
{
	rt_list_remove(&process->link);
	rt_context_free(process->context);
	gateway_free(process->gateway);
	if (process->to_order != NULL)
		rt_client_free(process->to_order);
	if (process->to_placement != NULL)
		rt_client_free(process->to_placement);
	if (process->to_inventory != NULL)
		rt_client_free(process->to_inventory);
	free(process);
}

static void free_the_dead(struct world *world)
{
	struct rt_list *at = world->processes.next, *next;

	for (; at != &world->processes; at = next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		next = at->next;
		if (process->dead && process->stopped && process->calls == 0)
			process_free(process);
	}
}

/* Starts another process in the place of a dead one, after a while. */
static void replace_the_dead(struct world *world)
{
	bool alive[ROLES][WORLD_INSTANCES] = { 0 };
	const int places[ROLES] = { world->options.orders, world->options.inventories,
				    world->options.gateways };

	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		if (!process->dead)
			alive[process->role][process->place] = true;
	}
	for (int role = 0; role < ROLES; role++)
		for (int place = 0; place < places[role]; place++)
			if (!alive[role][place] && (world->calm || world_roll(world, 3) == 0))
				world_start(world, (enum role)role, place);
}

struct process *world_some_process(struct world *world)
{
	struct process *alive[ROLES * WORLD_INSTANCES];
	unsigned count = 0;

	for (struct rt_list *at = world->processes.next; at != &world->processes; at = at->next) {
		struct process *process = RT_CONTAINER_OF(at, struct process, link);

		if (!process->dead)
			alive[count++] = process;
	}
	return count == 0 ? NULL : alive[world_roll(world, count)];
}

/* ---- the streams, as they grow ---- */

void world_say_event(struct world *world, const char *who, const struct rt_entry_event *event,
		     bool with_attempt)
{
	char type[64], subject[64], attempt[32] = "";
	const char *dot;

	if (!world->options.record)
		return;
	snprintf(type, sizeof(type), "%.*s", (int)event->type.length, event->type.data);
	snprintf(subject, sizeof(subject), "%.*s", (int)event->subject.length, event->subject.data);
	if (with_attempt && event->attempt > 1)
		snprintf(attempt, sizeof(attempt), " attempt %" PRIu32, event->attempt);
	dot = strrchr(type, '.');
	world_say(world, "%-12s %s %s v%" PRIu64 "%s", who, dot == NULL ? "(no event)" : dot + 1,
		  world_short(subject), event->seq, attempt);
}

static void look_at_stream(struct world *world, struct world_stream *watched)
{
	struct memory_stream *stream = memory_stream_find(world->redis, watched->name);
	char arrow[32];

	if (stream == NULL)
		return;
	if (stream->life != watched->watched_life)
		watched->watched = (struct memory_id){ 0 }; /* a new one of that name */
	watched->watched_life = stream->life;
	if (memory_id_compare(watched->watched, stream->last) == 0)
		return;
	snprintf(arrow, sizeof(arrow), "%.*s->", (int)strcspn(watched->name, ":"), watched->name);
	for (size_t at = memory_stream_after(stream, watched->watched); at < stream->count; at++) {
		struct rt_entry_event *events;
		size_t count = stored_events(&stream->entries[at], &events);

		if (count == 0)
			world_say(world, "%-12s (no event)", arrow);
		for (size_t k = 0; k < count; k++) {
			world_say_event(world, arrow, &events[k], true);
			world_check_event(world, watched->name, &events[k]);
		}
		free(events);
	}
	watched->watched = stream->last;
}

static void on_added(void *user)
{
	struct world *world = user;

	for (size_t i = 0; i < world->stream_count; i++)
		look_at_stream(world, &world->streams[i]);
}

static void on_delivered(void *user, const char *consumer, const struct memory_entry *entry)
{
	struct world *world = user;
	struct rt_entry_event *events;
	size_t count;
	char arrow[32];

	if (!world->options.record)
		return;
	count = stored_events(entry, &events);
	snprintf(arrow, sizeof(arrow), "%.*s<-", (int)strcspn(consumer, "."), consumer);
	if (count == 0)
		world_say(world, "%-12s (no event)", arrow);
	for (size_t i = 0; i < count; i++)
		world_say_event(world, arrow, &events[i], false);
	free(events);
}

/* ---- the world ---- */

static void name_streams(struct world *world)
{
	static const char *const contexts[] = { "order", "inventory", "archive" };
	static const char *const groups[] = { "inventory", "order", "order" };
	size_t count = world->options.drops ? 3 : 2;

	assert(world->options.partitions <= WORLD_PARTITIONS);
	for (int p = 0; p < world->options.partitions; p++)
		for (size_t i = 0; i < count; i++) {
			struct world_stream *stream = &world->streams[world->stream_count++];

			snprintf(stream->name, sizeof(stream->name), "%s:{%d}:events", contexts[i],
				 p);
			stream->group = groups[i];
		}
}

struct world *world_new(const struct world_options *options)
{
	struct world *world = rt_alloc(sizeof(*world));
	int rc;

	world->options = *options;
	world->options.orders = RT_MAX(options->orders, 1);
	world->options.inventories = RT_MAX(options->inventories, 1);
	world->options.gateways = RT_MAX(options->gateways, 1);
	world->options.partitions = RT_MAX(options->partitions, 1);
	world->options.pace.timers = RT_MAX(options->pace.timers, 1);
	world->options.pace.claims = RT_MAX(options->pace.claims, 1);
	world->options.pace.marks = RT_MAX(options->pace.marks, 1);
	name_streams(world);
	if (options->decision_ms == 0)
		world->options.decision_ms = 15000;
	calls_world = world;
	rc = rt_loop_new_manual(WORLD_START_MS, options->seed, &world->loop);
	assert(rc == RT_OK);
	world->redis = memory_redis_new(world->loop);
	world->redis->master_count = RT_MAX(options->masters, 1);
	world->redis->together = world->redis->master_count == 1;
	world_loss_open(world);
	world_plant(world, options->bug);
	stored_load(world->redis);
	world->redis->on_delivered = options->record ? on_delivered : NULL;
	world->redis->on_change = on_added;
	world->redis->on_write = options->shop ? world_low_step : NULL;
	world->redis->user = world;
	rt_list_init(&world->processes);
	route_init(&world->order_route, world, ROLE_ORDER,
		   &tandem__order__v1__order_service__descriptor);
	route_init(&world->placement_route, world, ROLE_ORDER,
		   &tandem__order__v1__placement_service__descriptor);
	route_init(&world->inventory_route, world, ROLE_INVENTORY,
		   &tandem__inventory__v1__inventory_service__descriptor);
	route_init(&world->gateway_order_route, world, ROLE_GATEWAY,
		   &tandem__order__v1__order_service__descriptor);
	route_init(&world->gateway_inventory_route, world, ROLE_GATEWAY,
		   &tandem__inventory__v1__inventory_service__descriptor);
	world->orders = rt_client_local(world->loop, &world->gateway_order_route.service,
					on_client_call, world);
	world->stock = rt_client_local(world->loop, &world->gateway_inventory_route.service,
				       on_client_call, world);
	world_clients_open(world);
	rt_list_init(&world->held_back);
	for (int i = 0; i < world->options.orders; i++)
		world_start(world, ROLE_ORDER, i);
	for (int i = 0; i < world->options.inventories; i++)
		world_start(world, ROLE_INVENTORY, i);
	for (int i = 0; i < world->options.gateways; i++)
		world_start(world, ROLE_GATEWAY, i);
	rt_loop_advance(world->loop, 1000); /* they connect and subscribe */
	return world;
}

static bool all_stopped(const struct world *world)
{
	for (const struct rt_list *at = world->processes.next; at != &world->processes;
	     at = at->next) {
		const struct process *process = RT_CONTAINER_OF(at, const struct process, link);

		if (!process->stopped || process->calls > 0)
			return false;
	}
	return true;
}

/* Stops all; what does not stop shows as a leak or a failed assertion. */
void world_free(struct world *world)
{
	struct rt_list *link;

	if (world == NULL)
		return;
	world->calm = true;
	world_chaos_stop(world);
	world_chaos_close(world);
	world_clients_close(world);
	world_archive_stop(world);
	for (link = world->processes.next; link != &world->processes; link = link->next)
		world_kill(RT_CONTAINER_OF(link, struct process, link), "as the world ends");
	for (int i = 0; i < 1000 && !all_stopped(world); i++)
		rt_loop_advance(world->loop, 100);
	assert(all_stopped(world));
	rt_client_free(world->orders);
	rt_client_free(world->stock);
	while (!rt_list_empty(&world->processes)) {
		struct process *process =
			RT_CONTAINER_OF(world->processes.next, struct process, link);

		assert(process->calls == 0);
		process_free(process);
	}
	rt_loop_run_due(world->loop);
	world_check_done(world);
	world_loss_close(world);
	world->redis->on_change = NULL;
	world->redis->on_write = NULL;
	memory_redis_free(world->redis);
	rt_loop_free(world->loop);
	rt_buf_done(&world->transcript);
	rt_buf_done(&world->violations);
	free(world);
}

struct rt_loop *world_loop(struct world *world)
{
	return world->loop;
}

struct memory_redis *world_redis(struct world *world)
{
	return world->redis;
}

#define STEP_MS 250

void world_run(struct world *world, int64_t ms)
{
	int64_t end = rt_loop_now(world->loop) + ms;

	calls_world = world;
	while (rt_loop_now(world->loop) < end) {
		rt_loop_advance(world->loop, RT_MIN(STEP_MS, end - rt_loop_now(world->loop)));
		free_the_dead(world);
		replace_the_dead(world);
		world_check_now(world);
	}
}

void world_calm(struct world *world)
{
	world->calm = true;
	world_chaos_stop(world);
	world_archive_calm(world);
	world_clients_calm(world);
	world_say(world, "%-12s no more faults", "world");
}

#define STREAM_MAX 5000

/* Clients never send so much: something is repeated endlessly. */
static bool grows(struct world *world)
{
	for (size_t i = 0; i < world->stream_count; i++) {
		const struct memory_stream *stream =
			memory_stream_find(world->redis, world->streams[i].name);

		if (stream != NULL && stream->count > STREAM_MAX)
			return true;
	}
	return false;
}

bool world_run_until_quiet(struct world *world, int64_t limit_ms)
{
	int64_t began = rt_loop_now(world->loop);
	const char *unrest;

	while ((unrest = world_unrest(world)) != NULL) {
		if (rt_loop_now(world->loop) >= began + limit_ms || grows(world)) {
			world_violation(world, "not quiet after %" PRId64 " ms: %s",
					rt_loop_now(world->loop) - began, unrest);
			return false;
		}
		world_run(world, 500);
	}
	world->counts.quiet_ms = rt_loop_now(world->loop) - began;
	world_say(world, "%-12s quiet", "world");
	return true;
}

void world_torture(struct world *world, enum world_nth kind, unsigned n)
{
	world->nth_kind = kind;
	world->nth = n;
	world->io_count = 0;
}

bool world_nth_hit(const struct world *world)
{
	return world->nth_hit;
}

const char *world_violations(const struct world *world)
{
	return world->violations.data == NULL ? "" : world->violations.data;
}

const char *world_transcript(const struct world *world)
{
	return world->transcript.data == NULL ? "" : world->transcript.data;
}

struct world_counts world_counts(const struct world *world)
{
	return world->counts;
}
