/* topology.c - asks which master serves which partition, keeps connections to them, and gives them out.
 *
 * A *link* is a connection to one address. A *view* is what is given out: the connection of a partition. A
 * view's commands go over its link, each with a struct call around it. In the order things happen:
 *
 *   ask              the timer: chooses whom to ask, sends the question when its link is up
 *     answered       these masters hold from now on, or another server is to be asked first
 *   settle           a turn later: each view leaves a link that is not its master's, joins the one that is,
 *                    and goes up; links that nobody uses are freed, here alone, because no connection may
 *                    be freed inside of its own callbacks
 *   link_state, redirected
 *                    the view goes down at once, and the masters are asked soon
 *
 * Questions are numbered: a view that went down goes up only by an answer to a later question. One Redis at
 * an address is the master, and is asked nothing. */
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "connection_internal.h"
#include "topology_internal.h"

#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 500
#define ANSWER_MS    250 /* for connecting and answering, and twice the pause before */

/* The calls to all masters go in rounds when so many orders are under way, half of what does not wait at one master;
 * a master of a machine that has other work may take so long for its part. */
#define ROUND_WORTH   64
#define ROUND_LATE_MS 50

/* What the addresses in the URL are asked. One Redis is never asked: it is the master. */
static const struct redis_question *const first_questions[] = {
	[RT_TOPOLOGY_ONE] = &redis_question_role,
	[RT_TOPOLOGY_CLUSTER] = &redis_question_slots,
	[RT_TOPOLOGY_SENTINEL] = &redis_question_name,
};

struct link {
	struct rt_list list; /* topology->links */
	struct rt_topology *topology;
	struct rt_redis_address address;
	const struct redis_question *question; /* that is asked there … */
	struct rt_redis_op op;                 /* … and is under way … */
	bool asking;                           /* … if this is set */
	struct rt_redis *redis;
	struct rt_batch_gate *gate; /* of its partitions' batches; NULL: of one partition, or own */
	bool own;                   /* of one view */
	size_t views;
};

struct view {
	struct redis_common common; /* first */
	struct rt_list list;        /* topology->views */
	struct rt_topology *topology;
	struct link *link;    /* NULL: its master is not known */
	uint64_t down_at;     /* the number of the latest question when it was doubted */
	struct rt_list calls; /* under way, in order */
};

struct call {
	struct rt_redis_op op;
	struct rt_list list;
	struct rt_redis_op *sender; /* of a view; NULL: it has ended already */
};

struct rt_topology {
	struct rt_loop *loop;
	struct rt_redis_url url;
	const struct redis_question *first; /* what the addresses in the URL are asked */
	struct rt_redis_options options;    /* of shared links */
	struct rt_arena texts;
	int partition_count;
	struct redis_slots slots;
	uint64_t question, answered; /* the number of the latest; of the one that `slots` answers */
	struct link *asked;          /* whose answer is awaited; NULL: nobody's */
	/* Who is asked next, if it is up: the sentinel whose word was good, or the node that says
	 * MOVED; NULL: another one. */
	struct link *source;
	size_t candidate;            /* the address to ask when no link is up */
	bool troubled;               /* something has gone wrong since the latest question began */
	int64_t asked_ms, retry_ms;  /* when that was, and the pause after it */
	char problem[320];           /* "": none since it was logged that all is well */
	struct rt_timer ask, settle; /* ask: when to, or when to give the answer up */
	struct rt_list views, links;
	struct rt_batch_rounds *rounds; /* of all links' gates */
	struct rt_redis *clock; /* a view of partition 0, which the loop follows; NULL: none */
};

/* ---- trouble ---- */

static void ask(struct rt_timer *timer);
static void settle(struct rt_timer *timer);

static void settle_soon(struct rt_topology *topology)
{
	if (!rt_timer_running(&topology->settle))
		rt_timer_start(topology->loop, &topology->settle, 0, settle);
}

/* The masters are asked, after a pause since the latest question that grows while that does not help. */
static void ask_soon(struct rt_topology *topology)
{
	int64_t due_ms = topology->asked_ms + rt_loop_around(topology->loop, topology->retry_ms);
	int64_t pause_ms = due_ms - rt_loop_now(topology->loop);

	topology->troubled = true;
	if (topology->asked == NULL && rt_timer_running(&topology->ask) &&
	    topology->ask.due_ms > due_ms)
		rt_timer_start(topology->loop, &topology->ask, RT_MAX(pause_ms, 0), ask);
}

/* Logged once, until all is well again. */
static void trouble(struct link *link, const char *reason)
{
	struct rt_topology *topology = link->topology;
	bool first = topology->problem[0] == '\0';

	snprintf(topology->problem, sizeof(topology->problem), "%.100s:%d: %.200s",
		 link->address.host, link->address.port, reason);
	if (first && topology->options.log_trouble)
		RT_LOG(RT_WARN, "a master of Redis is away or another one",
		       RT_S("reason", topology->problem));
	ask_soon(topology);
}

/* It is down until the masters have been asked once more. */
static void doubt(struct view *view)
{
	view->down_at = view->topology->question;
	redis_common_set_up(&view->common, false);
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
static void redirected(struct view *view, const redisReply *reply)
{
	struct rt_topology *topology = view->topology;

	if (topology->url.kind == RT_TOPOLOGY_ONE || !view->common.up)
		return; /* there is no other one; what was under way then says nothing new */
	if (rt_redis_reply_begins(reply, "MOVED"))
		topology->source = view->link; /* it knows the new master */
	trouble(view->link, reply->str);
	doubt(view);
}

/* ---- links ---- */

static void send_question(struct link *link);

static void link_state(struct rt_redis *redis, bool up, void *user)
{
	struct link *link = user;
	bool one = link->topology->url.kind == RT_TOPOLOGY_ONE;

	if (up && link == link->topology->asked)
		send_question(link);
	if (!up && !one && !link->own && link->views > 0)
		trouble(link, rt_redis_error(redis));
	if (!up)
		visit_views(link->topology, link, doubt);
	settle_soon(link->topology);
}

/* `own`: the options of an own one; NULL: those of the topology. */
static struct link *link_new(struct rt_topology *topology, const struct rt_redis_address *address,
			     const struct redis_question *question,
			     const struct rt_redis_options *own)
{
	struct link *link = rt_alloc(sizeof(*link));
	struct rt_redis_options options = own != NULL ? *own : topology->options;

	link->topology = topology;
	link->address = *address;
	link->question = question;
	link->own = own != NULL;
	options.connect = topology->options.connect;
	options.connector = topology->options.connector;
	options.unix_path = address->port == 0 ? link->address.host : NULL;
	options.host = link->address.host;
	options.port = address->port;
	options.on_state = link_state;
	options.user_data = link;
	/* The connection to one Redis says best what is wrong; of several, trouble() does. */
	options.log_trouble = options.log_trouble && topology->url.kind == RT_TOPOLOGY_ONE;
	if (question == &redis_question_name)
		redis_sentinel_login(&options);
	rt_list_push(&topology->links, &link->list);
	if (!link->own && topology->partition_count > 1)
		rt_batch_gate_new(topology->rounds, &link->gate);
	if (rt_redis_new(topology->loop, &options, &link->redis) != RT_OK)
		abort(); /* there is an address */
	return link;
}

/* The shared link to an address; with `own` options, a new one of one view. */
static struct link *link_get(struct rt_topology *topology, const struct rt_redis_address *address,
			     const struct redis_question *question,
			     const struct rt_redis_options *own)
{
	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		if (own == NULL && !link->own && link->question == question &&
		    rt_redis_address_same(&link->address, address))
			return link;
	}
	return link_new(topology, address, question, own);
}

static void link_free(struct link *link)
{
	rt_list_remove(&link->list);
	rt_redis_free(link->redis);
	rt_batch_gate_free(link->gate);
	free(link);
}

/* ---- questions ---- */

static void ask_later(struct rt_topology *topology)
{
	topology->asked = NULL;
	rt_timer_start(topology->loop, &topology->ask,
		       rt_loop_around(topology->loop, topology->first->every_ms), ask);
	if (topology->troubled)
		ask_soon(topology);
	settle_soon(topology);
}

static void not_answered(struct rt_topology *topology, const char *reason)
{
	topology->source = NULL;
	trouble(topology->asked, *reason != '\0' ? reason : "no answer in time");
	ask_later(topology);
}

static void answer_late(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, ask);

	not_answered(topology, rt_redis_error(topology->asked->redis));
}

static void ask_link(struct link *link)
{
	struct rt_topology *topology = link->topology;

	topology->asked = link;
	rt_timer_start(topology->loop, &topology->ask, ANSWER_MS + 2 * topology->retry_ms,
		       answer_late);
	if (rt_redis_up(link->redis) && !link->asking)
		send_question(link);
	else if (link->views > 0 || link->asking) /* nobody waits for a master that is away */
		not_answered(topology, rt_redis_error(link->redis));
}

static void answered(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct link *link = RT_CONTAINER_OF(op, struct link, op);
	struct rt_topology *topology = link->topology;
	struct rt_redis_address named = { .port = 0 };
	const char *wrong = reply != NULL ? reply->str : rt_status_text(status);

	link->asking = false;
	if (link != topology->asked)
		return; /* it was given up */
	if (status == RT_OK)
		wrong = link->question->read(reply, &link->address, &topology->slots, &named);
	if (wrong != NULL) {
		not_answered(topology, wrong);
	} else if (named.port != 0) {
		topology->source = link;
		ask_link(link_get(topology, &named, topology->first->of_masters, NULL));
	} else {
		topology->answered = topology->question;
		ask_later(topology);
	}
}

static void send_question(struct link *link)
{
	const struct redis_question *question = link->question;
	const char *argv[] = { question->words[0], question->words[1], link->topology->url.master };

	link->asking = true;
	rt_redis_command(link->redis, &link->op, question->word_count, argv, NULL, 0, answered);
}

/* The source; or of a cluster another link that is up, each time another one; or the next address. */
static struct link *choose(struct rt_topology *topology)
{
	bool cluster = topology->url.kind == RT_TOPOLOGY_CLUSTER;
	size_t seeds = topology->url.count, known = cluster ? topology->slots.count : 0, i;
	struct link *source = RT_TAKE(topology->source), *chosen = NULL;

	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);
		bool may = link == source || (cluster && !link->own && chosen == NULL);

		if (may && rt_redis_up(link->redis) && !link->asking)
			chosen = link;
	}
	if (chosen != NULL) {
		rt_list_remove(&chosen->list);
		rt_list_push(&topology->links, &chosen->list);
		return chosen;
	}
	i = topology->candidate++ % (seeds + known);
	return link_get(topology,
			i < seeds ? &topology->url.addresses[i] : &topology->slots.nodes[i - seeds],
			topology->first, NULL);
}

static void ask(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, ask);
	int64_t longer_ms = RT_MAX(RETRY_MIN_MS, RT_MIN(2 * topology->retry_ms, RETRY_MAX_MS));

	if (!topology->troubled && topology->problem[0] != '\0') {
		topology->problem[0] = '\0';
		if (topology->options.log_trouble)
			RT_LOG(RT_INFO, "all masters of Redis are there");
	}
	topology->retry_ms = topology->troubled ? longer_ms : 0;
	topology->troubled = false;
	topology->question++;
	topology->asked_ms = rt_loop_now(topology->loop);
	ask_link(choose(topology));
}

/* ---- what is given out ---- */

/* Ends what is under way; the answers will be of no interest. */
static void give_up(struct view *view, int status)
{
	struct rt_list *at;

	while ((at = rt_list_pop(&view->calls)) != NULL) {
		struct call *call = RT_CONTAINER_OF(at, struct call, list);

		redis_common_refuse(&view->common, RT_TAKE(call->sender), status);
	}
	view->common.pending = 0;
}

static void leave(struct view *view)
{
	struct link *link = RT_TAKE(view->link);

	redis_common_set_up(&view->common, false);
	view->common.redis.gate = NULL;
	link->views--;
	if (link->own)
		give_up(view, RT_LOST);
}

static void join(struct view *view, const struct rt_redis_address *master)
{
	const struct rt_redis_options *options = &view->common.options;

	view->link = link_get(view->topology, master, view->topology->first->of_masters,
			      options->blocks ? options : NULL);
	view->link->views++;
	view->common.redis.gate = view->link->gate;
}

/* No other view is up before that which follows the clock, and is the first that is visited, was up once. */
static bool clock_known(const struct view *view)
{
	const struct rt_redis *clock = view->topology->clock;

	return clock == NULL || clock == &view->common.redis || rt_redis_epoch(clock) > 0;
}

static void settle_view(struct view *view)
{
	struct rt_topology *topology = view->topology;
	const struct rt_redis_address *master =
		redis_slots_master(&topology->slots, view->common.options.partition);

	if (view->link != NULL &&
	    (master == NULL || !rt_redis_address_same(&view->link->address, master)))
		leave(view);
	if (view->link == NULL && master != NULL)
		join(view, master);
	if (view->link != NULL && rt_redis_up(view->link->redis) && rt_list_empty(&view->calls) &&
	    topology->answered > view->down_at && clock_known(view))
		redis_common_set_up(&view->common, true);
	if (!view->common.up)
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
	return RT_CONTAINER_OF(redis, struct view, common.redis);
}

static void call_ended(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);
	struct rt_redis_op *sender = call->sender;
	struct view *view = sender != NULL ? view_of(sender->redis) : NULL;

	rt_list_remove(&call->list);
	free(call);
	if (view == NULL)
		return;
	view->common.pending--;
	if (reply != NULL && rt_redis_reply_redirects(reply))
		redirected(view, reply);
	if (!view->common.up)
		settle_soon(view->topology); /* it may be what is waited for */
	sender->done(sender, status, reply);
}

static void view_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct view *view = view_of(redis);
	struct call *call;

	if (!redis_common_admit(&view->common, op))
		return;
	call = rt_alloc(sizeof(*call));
	call->sender = op;
	rt_list_push(&view->calls, &call->list);
	view->common.pending++;
	rt_redis_command(view->link->redis, &call->op, argc, argv, lengths,
			 timeout_ms > 0 ? timeout_ms : view->common.options.timeout_ms, call_ended);
}

static void view_reset(struct rt_redis *redis)
{
	struct view *view = view_of(redis);

	if (view->common.options.blocks && view->link != NULL)
		rt_redis_reset(view->link->redis);
	else
		give_up(view, RT_CANCELED);
}

static const char *view_error(const struct rt_redis *redis)
{
	const struct view *view = RT_CONTAINER_OF(redis, const struct view, common.redis);
	const char *error = view->link != NULL ? rt_redis_error(view->link->redis) : "";
	const char *problem = view->topology->problem;

	if (view->common.up || *error != '\0')
		return view->common.up ? "" : error;
	return *problem != '\0' ? problem : "the master is not known yet";
}

static void view_free(struct rt_redis *redis)
{
	struct view *view = view_of(redis);

	view->common.options.on_state = NULL;
	give_up(view, RT_CANCELED);
	if (view->link != NULL)
		leave(view);
	redis_common_done(&view->common);
	settle_soon(view->topology);
	rt_list_remove(&view->list);
	free(view);
}

static const struct rt_redis_ops view_ops = {
	.command = view_command,
	.reset = view_reset,
	.up = redis_common_is_up,
	.error = view_error,
	.pending = redis_common_pending,
	.free = view_free,
};

/* The struct rt_redis_options.connect that rt_topology_use sets. */
static int view_connect(void *connector, struct rt_loop *loop,
			const struct rt_redis_options *options, struct rt_redis **ret)
{
	struct rt_topology *topology = connector;
	struct rt_redis_options own = *options;
	struct view *view;

	if (own.partition < 0 || own.partition >= topology->partition_count)
		return RT_INVALID;
	own.log_trouble = false;
	own.follow_clock = topology->options.follow_clock; /* the first does, for all */
	own.metrics = topology->options.metrics;
	view = rt_alloc(sizeof(*view));
	redis_common_init(&view->common, &view_ops, loop, &own);
	view->topology = topology;
	view->common.redis.together = topology->url.kind != RT_TOPOLOGY_CLUSTER;
	rt_list_init(&view->calls);
	rt_list_push(&topology->views, &view->list);
	settle_soon(topology);
	*ret = &view->common.redis;
	return RT_OK;
}

void rt_topology_use(struct rt_topology *topology, struct rt_redis_options *options)
{
	options->connect = view_connect;
	options->connector = topology;
}

/* ---- a topology ---- */

/* The clock is followed over a connection of its own, so that it moves with partition 0 and no other. */
static void follow_clock(struct rt_topology *topology)
{
	struct rt_redis_options options = topology->options;

	options.partition = 0;
	options.blocks = true;
	options.on_state = NULL;
	view_connect(topology, topology->loop, &options, &topology->clock);
	topology->options.follow_clock = false;
}

int rt_topology_new(struct rt_loop *loop, const struct rt_redis_url *url,
		    const struct rt_redis_options *options, int partition_count,
		    struct rt_topology **ret)
{
	struct rt_topology *topology;

	if (url->count == 0 || partition_count < 1 || partition_count > RT_PARTITIONS_MAX)
		return RT_INVALID;
	topology = rt_alloc(sizeof(*topology));
	topology->loop = loop;
	topology->url = *url;
	topology->first = first_questions[url->kind];
	topology->partition_count = partition_count;
	redis_options_copy(&topology->options, options, &topology->texts);
	rt_list_init(&topology->views);
	rt_list_init(&topology->links);
	rt_batch_rounds_new(loop, ROUND_WORTH, ROUND_LATE_MS, &topology->rounds);
	if (options->follow_clock)
		follow_clock(topology);
	topology->options.metrics = NULL;
	topology->options.pending_max = SIZE_MAX; /* each view has a bound */
	topology->candidate = rt_loop_random(loop, url->count);
	if (url->kind == RT_TOPOLOGY_ONE) {
		redis_slots_set_all(&topology->slots, &url->addresses[0]);
		topology->answered = UINT64_MAX; /* for good */
	} else {
		rt_timer_start(loop, &topology->ask, 0, ask);
	}
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
	rt_batch_rounds_free(topology->rounds);
	rt_timer_stop(topology->loop, &topology->ask);
	rt_timer_stop(topology->loop, &topology->settle);
	rt_arena_done(&topology->texts);
	free(topology);
}
