/* topology.c - asks which master serves which partition, keeps connections to them, and gives them out.
 *
 * A *link* is a connection to one address. A *view* is what is given out: the connection of a partition. A
 * view's commands go over its link, each with a struct call around it. In the order things happen:
 *
 *   ask              the timer: chooses a node, sends the question when its link is up
 *     answered       a cluster's node: these masters hold from now on; a sentinel: the server that it
 *                    names is asked in its turn, and holds when it says that it is a master
 *   settle           a turn later: each view leaves a link that is not its master's, joins the one that is,
 *                    and goes up; links that nobody uses are freed, here alone, because no connection may
 *                    be freed inside of its own callbacks
 *   link_state, redirected
 *                    the view goes down at once, and the masters are asked soon
 *
 * Questions are numbered: a view that went down goes up only by an answer to a later question. One Redis
 * at an address answers by itself: it is the master. */
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "connection_internal.h"
#include "topology_internal.h"

#define EVERY_MS     5000
#define SENTINEL_MS  1000 /* a master that was replaced may go on, and knows nothing of it */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 500
#define ANSWER_MS    250 /* for connecting and answering, and twice the pause before */

struct link {
	struct rt_list list; /* topology->links */
	struct rt_topology *topology;
	struct rt_redis_address address;
	struct rt_redis *redis;
	struct rt_batch_gate *gate; /* of its partitions' batches; NULL: of one partition, or own */
	bool own, sentinel;
	size_t views;
};

struct view {
	struct rt_redis redis; /* first */
	struct rt_list list;   /* topology->views */
	struct rt_topology *topology;
	struct rt_redis_options options;
	struct rt_arena texts;
	struct link *link; /* NULL: its master is not known */
	bool up;
	uint64_t down_at;     /* the number of the latest question when it was doubted */
	struct rt_list calls; /* under way, in order */
	size_t call_count;
	struct rt_list ending; /* of struct rt_redis_op, which end with op->status … */
	struct rt_timer end;   /* … a turn later */
};

struct call {
	struct rt_redis_op op;
	struct rt_list list;
	struct link *link;
	struct rt_redis_op *sender; /* of a view; NULL: it has ended already */
};

struct question {
	struct rt_redis_op op;
	struct link *link;
	uint64_t number;
};

struct rt_topology {
	struct rt_loop *loop;
	struct rt_redis_url url;
	struct rt_redis_options options; /* of shared links */
	struct rt_arena texts;
	int partition_count;
	struct redis_slots slots;
	uint64_t question, answered; /* the number of the latest; of the one that `slots` answers */
	struct link *asked;          /* whose answer is awaited; NULL: nobody's */
	/* Who is asked next, if it is up: the sentinel whose word was good, or the node that says
	 * MOVED; NULL: another one. */
	struct link *source;
	size_t candidate;           /* the address to ask when no link is up */
	bool troubled;              /* something has gone wrong since the latest question began */
	int64_t asked_ms, retry_ms; /* when that was, and the pause after it */
	bool logs;
	char problem[320];           /* "": none since it was logged that all is well */
	struct rt_timer ask, settle; /* ask: when to, or when to give the answer up */
	struct rt_list views, links;
	struct rt_redis *clock; /* a view of partition 0, which the loop follows; NULL: none */
	bool clock_known;
};

/* ---- trouble ---- */

static void ask(struct rt_timer *timer);
static void settle(struct rt_timer *timer);

static void settle_soon(struct rt_topology *topology)
{
	if (!rt_timer_running(&topology->settle))
		rt_timer_start(topology->loop, &topology->settle, 0, settle);
}

static int64_t around(struct rt_topology *topology, int64_t ms)
{
	return ms * 3 / 4 + (int64_t)rt_loop_random(topology->loop, (uint64_t)ms / 2 + 1);
}

/* The masters are asked, after a pause since the latest question that grows while that does not help. */
static void ask_soon(struct rt_topology *topology)
{
	int64_t due_ms = topology->asked_ms + around(topology, topology->retry_ms);
	int64_t pause_ms = due_ms - rt_loop_now(topology->loop);

	topology->troubled = true;
	if (topology->asked == NULL && topology->ask.due_ms > due_ms)
		rt_timer_start(topology->loop, &topology->ask, RT_MAX(pause_ms, 0), ask);
}

/* Logged once, until all is well again. */
static void trouble(struct link *link, const char *reason)
{
	struct rt_topology *topology = link->topology;
	bool first = topology->problem[0] == '\0';

	snprintf(topology->problem, sizeof(topology->problem), "%.100s:%d: %.200s",
		 link->address.host, link->address.port, reason);
	if (first && topology->logs)
		RT_LOG(RT_WARN, "a master of Redis is away or another one",
		       RT_S("reason", topology->problem));
	ask_soon(topology);
}

static void note_well(struct rt_topology *topology)
{
	if (topology->logs && topology->problem[0] != '\0')
		RT_LOG(RT_INFO, "all masters of Redis are there");
	topology->problem[0] = '\0';
}

static void view_set_up(struct view *view, bool up)
{
	if (view->up == up)
		return;
	view->up = up;
	if (up)
		view->redis.epoch++;
	if (view->options.on_state != NULL)
		view->options.on_state(&view->redis, up, view->options.user_data);
	if (up)
		rt_redis_notify_up(&view->redis);
}

/* It is down until the masters have been asked once more. */
static void doubt(struct view *view)
{
	view->down_at = view->topology->question;
	view_set_up(view, false);
}

/* Visits the views of a link, or all if it is NULL. Their callbacks may make and free others. */
static void visit_views(struct rt_topology *topology, const struct link *link,
			void (*visit)(struct view *view))
{
	struct rt_list views, *at;

	rt_list_init(&views);
	rt_list_move(&views, &topology->views);
	while ((at = rt_list_pop(&views)) != NULL) {
		struct view *view = RT_CONTAINER_OF(at, struct view, list);

		rt_list_push(&topology->views, at);
		if (link == NULL || view->link == link)
			visit(view);
	}
}

/* An answer says that this is not, or not now, the partition's master. */
static void redirected(struct view *view, struct link *link, const redisReply *reply)
{
	enum rt_topology_kind kind = view->topology->url.kind;

	if (kind == RT_TOPOLOGY_ONE || !view->up)
		return; /* what was under way then says nothing new */
	/* Who says MOVED knows the new master. */
	if (kind == RT_TOPOLOGY_CLUSTER && rt_redis_reply_begins(reply, "MOVED"))
		view->topology->source = link;
	trouble(link, reply->str);
	doubt(view);
}

/* ---- links ---- */

static void send_question(struct link *link);

static void link_state(struct rt_redis *redis, bool up, void *user)
{
	struct link *link = user;
	struct rt_topology *topology = link->topology;

	(void)redis;
	if (up && link == topology->asked)
		send_question(link);
	if (!up && !link->own && link->views > 0)
		trouble(link, rt_redis_error(link->redis));
	if (!up)
		visit_views(topology, link, doubt);
	settle_soon(topology);
}

static void link_free(struct link *link)
{
	rt_list_remove(&link->list);
	rt_redis_free(link->redis);
	rt_batch_gate_free(link->gate);
	free(link);
}

/* `own`: the options of a connection of its own; NULL: it is shared. */
static struct link *link_new(struct rt_topology *topology, const struct rt_redis_address *address,
			     const struct rt_redis_options *own, bool sentinel)
{
	struct link *link = rt_alloc(sizeof(*link));
	struct rt_redis_options options = own != NULL ? *own : topology->options;

	link->topology = topology;
	link->address = *address;
	link->own = own != NULL;
	link->sentinel = sentinel;
	options.connect = topology->options.connect;
	options.connector = topology->options.connector;
	options.unix_path = address->port == 0 ? link->address.host : NULL;
	options.host = link->address.host;
	options.port = address->port;
	options.on_state = link_state;
	options.user_data = link;
	if (sentinel) {
		options.user = options.sentinel.user;
		options.password = options.sentinel.password;
		options.password_file = options.sentinel.password_file;
	}
	rt_list_init(&link->list);
	rt_list_push(&topology->links, &link->list);
	if (own == NULL && !sentinel && topology->partition_count > 1)
		rt_batch_gate_new(topology->loop, &link->gate);
	if (rt_redis_new(topology->loop, &options, &link->redis) != RT_OK)
		abort(); /* there is an address */
	return link;
}

/* The shared link to an address. */
static struct link *link_get(struct rt_topology *topology, const struct rt_redis_address *address,
			     bool sentinel)
{
	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		if (!link->own && link->sentinel == sentinel &&
		    redis_address_same(&link->address, address))
			return link;
	}
	return link_new(topology, address, NULL, sentinel);
}

/* ---- questions ---- */

/* The question has ended; the next is due. */
static void ask_later(struct rt_topology *topology)
{
	bool sentinel = topology->url.kind == RT_TOPOLOGY_SENTINEL;

	topology->asked = NULL;
	rt_timer_start(topology->loop, &topology->ask,
		       around(topology, sentinel ? SENTINEL_MS : EVERY_MS), ask);
	if (topology->troubled)
		ask_soon(topology);
	settle_soon(topology);
}

static void not_answered(struct rt_topology *topology, const char *reason)
{
	topology->source = NULL;
	trouble(topology->asked, reason);
	ask_later(topology);
}

static void answer_late(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, ask);
	const char *error = rt_redis_error(topology->asked->redis);

	not_answered(topology, *error != '\0' ? error : "no answer in time");
}

static void ask_link(struct link *link)
{
	struct rt_topology *topology = link->topology;

	topology->asked = link;
	rt_timer_start(topology->loop, &topology->ask, ANSWER_MS + 2 * topology->retry_ms,
		       answer_late);
	if (rt_redis_up(link->redis))
		send_question(link);
	else if (link->views > 0) /* a master that is away: it is not waited for */
		not_answered(topology, rt_redis_error(link->redis));
}

/* Reads an answer about the masters. NULL, or what is wrong with it. */
static const char *read_answer(struct link *link, const redisReply *reply)
{
	struct rt_topology *topology = link->topology;
	struct rt_redis_address named;

	if (topology->url.kind == RT_TOPOLOGY_CLUSTER) {
		if (!redis_slots_read(&topology->slots, reply, &link->address))
			return "its answer about the masters makes no sense";
	} else if (link->sentinel) {
		if (reply->type == REDIS_REPLY_NIL)
			return "this sentinel knows no master of that name";
		if (!redis_node_read(&named, reply, &link->address))
			return "its answer about the master makes no sense";
		topology->source = link;
		ask_link(link_get(topology, &named, false));
		return NULL;
	} else {
		if (!redis_hello_is_master(reply))
			return "this is not a master now";
		redis_slots_set_all(&topology->slots, &link->address);
	}
	topology->answered = topology->question;
	ask_later(topology);
	return NULL;
}

static void answered(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct question *question = RT_CONTAINER_OF(op, struct question, op);
	struct link *link = question->link;
	struct rt_topology *topology = link->topology;
	bool wanted = link == topology->asked && question->number == topology->question;
	const char *wrong;

	free(question);
	if (!wanted)
		return;
	if (status == RT_OK)
		wrong = read_answer(link, reply);
	else
		wrong = reply != NULL ? reply->str : rt_status_text(status);
	if (wrong != NULL)
		not_answered(topology, wrong);
}

/* HELLO and not ROLE: every user may send it. */
static void send_question(struct link *link)
{
	struct rt_topology *topology = link->topology;
	struct question *question = rt_alloc(sizeof(*question));
	const char *argv[] = { "HELLO", "GET-MASTER-ADDR-BY-NAME", topology->url.master };
	int argc = 1;

	if (topology->url.kind == RT_TOPOLOGY_CLUSTER) {
		argv[0] = "CLUSTER";
		argv[1] = "SLOTS";
		argc = 2;
	} else if (link->sentinel) {
		argv[0] = "SENTINEL";
		argc = 3;
	}
	question->link = link;
	question->number = topology->question;
	rt_redis_command(link->redis, &question->op, argc, argv, NULL, 0, answered);
}

/* Another link of a cluster that is up, each time another one, else the next address. */
static struct link *choose(struct rt_topology *topology)
{
	bool cluster = topology->url.kind == RT_TOPOLOGY_CLUSTER;
	size_t seeds = topology->url.count, known = cluster ? topology->slots.count : 0;
	struct link *source = RT_TAKE(topology->source);
	size_t i;

	if (source != NULL && rt_redis_up(source->redis))
		return source;
	for (struct rt_list *at = topology->links.next; cluster && at != &topology->links;
	     at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		if (!link->own && rt_redis_up(link->redis)) {
			rt_list_remove(at);
			rt_list_push(&topology->links, at);
			return link;
		}
	}
	i = topology->candidate++ % (seeds + known);
	return link_get(topology,
			i < seeds ? &topology->url.addresses[i] : &topology->slots.nodes[i - seeds],
			!cluster);
}

static void ask(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, ask);
	int64_t longer_ms = RT_MAX(RETRY_MIN_MS, RT_MIN(2 * topology->retry_ms, RETRY_MAX_MS));

	if (!topology->troubled)
		note_well(topology);
	topology->retry_ms = topology->troubled ? longer_ms : 0;
	topology->troubled = false;
	topology->question++;
	topology->asked_ms = rt_loop_now(topology->loop);
	if (topology->url.kind != RT_TOPOLOGY_ONE) {
		ask_link(choose(topology));
		return;
	}
	topology->answered = topology->question;
	ask_later(topology);
}

/* ---- what is given out ---- */

static void end_now(struct view *view, int status)
{
	struct rt_list ending, *at;

	rt_list_init(&ending);
	rt_list_move(&ending, &view->ending);
	while ((at = rt_list_pop(&ending)) != NULL) {
		struct rt_redis_op *op = RT_CONTAINER_OF(at, struct rt_redis_op, link);

		op->done(op, status != RT_OK ? status : op->status, NULL);
	}
}

static void end_due(struct rt_timer *timer)
{
	end_now(RT_CONTAINER_OF(timer, struct view, end), RT_OK);
}

/* An operation ends a turn later. */
static void end_soon(struct view *view, struct rt_redis_op *op, int status)
{
	op->status = status;
	rt_list_push(&view->ending, &op->link);
	if (!rt_timer_running(&view->end))
		rt_timer_start(view->topology->loop, &view->end, 0, end_due);
}

/* Ends what is under way; the answers will be of no interest. */
static void give_up(struct view *view, int status)
{
	struct rt_list *at;

	while ((at = rt_list_pop(&view->calls)) != NULL) {
		struct call *call = RT_CONTAINER_OF(at, struct call, list);

		end_soon(view, RT_TAKE(call->sender), status);
	}
	view->call_count = 0;
}

static void leave(struct view *view)
{
	struct link *link = RT_TAKE(view->link);

	view_set_up(view, false);
	view->redis.gate = NULL;
	link->views--;
	if (link->own)
		give_up(view, RT_LOST);
}

static void settle_view(struct view *view)
{
	struct rt_topology *topology = view->topology;
	const struct rt_redis_address *master =
		redis_slots_master(&topology->slots, view->options.partition);

	if (view->link != NULL &&
	    (master == NULL || !redis_address_same(&view->link->address, master)))
		leave(view);
	if (view->link == NULL && master != NULL) {
		view->link = view->options.blocks
				     ? link_new(topology, master, &view->options, false)
				     : link_get(topology, master, false);
		view->link->views++;
		view->redis.gate = view->link->gate;
	}
	if (view->link != NULL && rt_redis_up(view->link->redis) && rt_list_empty(&view->calls) &&
	    (topology->clock_known || &view->redis == topology->clock) &&
	    topology->answered > view->down_at)
		view_set_up(view, true);
	if (!view->up)
		ask_soon(topology);
}

static void settle(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, settle);
	struct rt_list *at, *next;

	visit_views(topology, NULL, settle_view);
	for (at = topology->links.next; at != &topology->links; at = next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		next = at->next;
		if (link->views == 0 && link != topology->asked && link != topology->source &&
		    (link->own || rt_redis_pending(link->redis) == 0))
			link_free(link);
	}
}

static struct view *view_of(struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, struct view, redis);
}

static void call_ended(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);
	struct rt_redis_op *sender = call->sender;
	struct link *link = call->link;
	struct view *view = sender != NULL ? view_of(sender->redis) : NULL;

	rt_list_remove(&call->list);
	free(call);
	if (view != NULL) {
		view->call_count--;
		if (reply != NULL && rt_redis_reply_redirects(reply))
			redirected(view, link, reply);
	}
	if (view == NULL || !view->up)
		settle_soon(link->topology);
	if (view != NULL)
		sender->done(sender, status, reply);
}

static void view_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct view *view = view_of(redis);
	struct call *call;

	if (!view->up || view->call_count >= view->options.pending_max) {
		end_soon(view, op, view->up ? RT_BUSY : RT_LOST);
		return;
	}
	call = rt_alloc(sizeof(*call));
	call->link = view->link;
	call->sender = op;
	rt_list_init(&call->list);
	rt_list_push(&view->calls, &call->list);
	view->call_count++;
	rt_redis_command(view->link->redis, &call->op, argc, argv, lengths,
			 timeout_ms > 0 ? timeout_ms : view->options.timeout_ms, call_ended);
}

static void view_reset(struct rt_redis *redis)
{
	struct view *view = view_of(redis);

	if (view->options.blocks && view->link != NULL)
		rt_redis_reset(view->link->redis);
	else
		give_up(view, RT_CANCELED);
}

static bool view_is_up(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct view, redis)->up;
}

static const char *view_error(const struct rt_redis *redis)
{
	const struct view *view = RT_CONTAINER_OF(redis, const struct view, redis);
	const char *error = view->link != NULL ? rt_redis_error(view->link->redis) : "";

	if (view->up || *error != '\0')
		return view->up ? "" : error;
	return view->topology->problem[0] != '\0' ? view->topology->problem
						  : "the master is not known yet";
}

static size_t view_pending(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct view, redis)->call_count;
}

static void view_free(struct rt_redis *redis)
{
	struct view *view = view_of(redis);

	view->options.on_state = NULL;
	view->up = false;
	give_up(view, RT_CANCELED);
	while (!rt_list_empty(&view->ending)) /* callbacks may send more */
		end_now(view, RT_CANCELED);
	if (view->link != NULL)
		leave(view);
	settle_soon(view->topology);
	rt_timer_stop(view->topology->loop, &view->end);
	rt_list_remove(&view->list);
	rt_arena_done(&view->texts);
	free(view);
}

static const struct rt_redis_ops view_ops = {
	.command = view_command,
	.reset = view_reset,
	.up = view_is_up,
	.error = view_error,
	.pending = view_pending,
	.free = view_free,
};

static int view_connect(void *connector, struct rt_loop *loop,
			const struct rt_redis_options *options, struct rt_redis **ret)
{
	struct rt_topology *topology = connector;
	struct view *view;

	(void)loop; /* the topology's */
	if (options->partition < 0 || options->partition >= topology->partition_count)
		return RT_INVALID;
	view = rt_alloc(sizeof(*view));
	view->redis.ops = &view_ops;
	rt_list_init(&view->redis.waiters);
	view->topology = topology;
	redis_options_copy(&view->options, options, &view->texts);
	view->options.follow_clock = view->options.log_trouble = false; /* one does, for all */
	view->options.metrics = NULL;
	rt_list_init(&view->calls);
	rt_list_init(&view->ending);
	rt_list_init(&view->list);
	rt_list_push(&topology->views, &view->list);
	settle_soon(topology);
	*ret = &view->redis;
	return RT_OK;
}

void rt_topology_use(struct rt_topology *topology, struct rt_redis_options *options)
{
	options->connect = view_connect;
	options->connector = topology;
}

static void clock_state(struct rt_redis *redis, bool up, void *user)
{
	struct rt_topology *topology = user;

	(void)redis;
	topology->clock_known = topology->clock_known || up;
	settle_soon(topology);
}

/* The clock is followed over a connection of its own, so that it moves with partition 0 and no other. */
static void clock_new(struct rt_topology *topology)
{
	struct rt_redis_options options = topology->options;

	options.partition = 0;
	options.blocks = true;
	options.on_state = clock_state;
	options.user_data = topology;
	view_connect(topology, topology->loop, &options, &topology->clock);
	view_of(topology->clock)->options.follow_clock = true;
	view_of(topology->clock)->options.metrics = options.metrics;
}

int rt_topology_new(struct rt_loop *loop, const struct rt_redis_url *url,
		    const struct rt_redis_options *options, int partition_count,
		    struct rt_topology **ret)
{
	bool one = url->kind == RT_TOPOLOGY_ONE;
	struct rt_topology *topology;

	if (url->count == 0 || partition_count < 1 || partition_count > RT_PARTITIONS_MAX)
		return RT_INVALID;
	topology = rt_alloc(sizeof(*topology));
	topology->loop = loop;
	topology->url = *url;
	topology->partition_count = partition_count;
	redis_options_copy(&topology->options, options, &topology->texts);
	rt_list_init(&topology->views);
	rt_list_init(&topology->links);
	topology->clock_known = !options->follow_clock;
	if (options->follow_clock)
		clock_new(topology);
	topology->options.follow_clock = false;
	topology->options.metrics = NULL;
	topology->options.pending_max = SIZE_MAX; /* each view has a bound */
	/* One Redis's own connection says best what is wrong with it. */
	topology->options.log_trouble = options->log_trouble && one;
	topology->logs = options->log_trouble && !one;
	if (one)
		redis_slots_set_all(&topology->slots, &url->addresses[0]);
	topology->candidate = rt_loop_random(loop, url->count);
	rt_timer_start(loop, &topology->ask, 0, ask);
	*ret = topology;
	return RT_OK;
}

void rt_topology_free(struct rt_topology *topology)
{
	struct rt_list *at;

	if (topology == NULL)
		return;
	rt_redis_free(topology->clock);
	topology->asked = NULL;
	while ((at = rt_list_pop(&topology->links)) != NULL)
		link_free(RT_CONTAINER_OF(at, struct link, list));
	rt_timer_stop(topology->loop, &topology->ask);
	rt_timer_stop(topology->loop, &topology->settle);
	redis_slots_done(&topology->slots);
	rt_arena_done(&topology->texts);
	free(topology);
}
