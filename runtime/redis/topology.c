/* topology.c - asks which master serves which partition, keeps connections to them, and gives them out.
 *
 * A *link* is a connection to one address. A *view* is what is given out: the connection of a partition. A
 * view's commands go over its link, each with a struct call around it. In the order things happen:
 *
 *   ask                  the timer: chooses a node, sends the question when its link is up
 *     masters_answered   the slots that it read are those that hold from now on
 *   settle               end of the turn: each view leaves a link that is not its master's, joins the one
 *                        that is, and goes up; links that nobody uses are freed, here alone, because no
 *                        connection may be freed inside of its own callbacks
 *   link_state, redirected
 *                        the view goes down at once, and the masters are asked soon
 *
 * Questions are numbered: a view that went down goes up only by an answer to a later question. */
#include "connection_internal.h"

#include <stdio.h>
#include <string.h>

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
	size_t views;
	bool own, sentinel, clock; /* clock: the loop follows its server's */
	bool verified;             /* it may serve: it is up and, where that is asked, a master */
	bool verifying;
	bool retired; /* ends when nothing is under way on it */
};

struct view {
	struct rt_redis redis; /* first */
	struct rt_list list;   /* topology->views */
	struct rt_topology *topology;
	struct rt_redis_options options;
	struct rt_arena texts;
	struct link *link; /* NULL: its master is not known */
	bool up;
	uint64_t down_at;     /* the number of the latest question when it went down */
	struct rt_list calls; /* under way, in order */
	size_t call_count;
	struct rt_list refused; /* of struct rt_redis_op; they end with op->status */
	struct rt_task turn;
	bool reset;
	bool freed; /* while `turn` was queued: the task frees */
};

struct call {
	struct rt_redis_op op;
	struct rt_list list;
	struct link *link;
	struct view *view; /* NULL: it has ended already, for whoever sent it */
	struct rt_redis_op *sender;
};

struct question {
	struct rt_redis_op op;
	struct link *link;
	uint64_t number;
};

struct rt_topology {
	struct rt_loop *loop;
	struct rt_redis_url url;
	struct rt_redis_options options;
	struct rt_arena texts;
	int partition_count;
	struct redis_slots slots, read;
	uint64_t question,
		answered;   /* the number of the latest one; of the one that `slots` answers */
	struct link *asked; /* NULL: none is under way, or kept for the next */
	bool asking, sent;
	bool troubled; /* something has gone wrong since the latest question began */
	bool logged;   /* that has been logged */
	bool clock_known;
	int64_t asked_ms, retry_ms;   /* when the latest question began, and the pause after it */
	size_t candidate;             /* the address to ask next */
	struct rt_redis_address hint; /* that a redirect named; port 0: none */
	struct rt_timer timer;
	struct rt_list views, links;
	struct rt_task settle;
	bool freed; /* while `settle` was queued: the task frees */
	char problem[320];
};

static void settle_soon(struct rt_topology *topology)
{
	rt_loop_defer(topology->loop, &topology->settle);
}

static int64_t around(struct rt_topology *topology, int64_t ms)
{
	return ms * 3 / 4 + (int64_t)rt_loop_random(topology->loop, (uint64_t)ms / 2 + 1);
}

/* ---- trouble ---- */

static void ask(struct rt_timer *timer);

/* The masters are asked, after a pause since the latest question that grows while that does not help. */
static void ask_soon(struct rt_topology *topology)
{
	int64_t due_ms = topology->asked_ms + around(topology, topology->retry_ms);
	int64_t now = rt_loop_now(topology->loop);

	if (topology->url.kind == RT_TOPOLOGY_ONE)
		return;
	topology->troubled = true;
	if (!topology->asking && topology->timer.due_ms > due_ms)
		rt_timer_start(topology->loop, &topology->timer, RT_MAX(due_ms - now, 0), ask);
}

/* Logged once, until all is well again. `address` NULL: none of them. */
static void note_problem(struct rt_topology *topology, const struct rt_redis_address *address,
			 const char *problem)
{
	if (address != NULL)
		snprintf(topology->problem, sizeof(topology->problem), "%.100s:%d: %.200s",
			 address->host, address->port, problem);
	else
		snprintf(topology->problem, sizeof(topology->problem), "%.300s", problem);
	if (topology->url.kind == RT_TOPOLOGY_ONE)
		return; /* its connection logs */
	if (topology->options.log_trouble && !topology->logged)
		RT_LOG(RT_WARN, "a master of Redis is away or another one",
		       RT_S("reason", topology->problem));
	topology->logged = true;
	ask_soon(topology);
}

static void note_well(struct rt_topology *topology)
{
	if (topology->options.log_trouble && topology->logged)
		RT_LOG(RT_INFO, "all masters of Redis are there");
	topology->logged = false;
	topology->problem[0] = '\0';
}

static void view_down(struct view *view)
{
	if (!view->up)
		return;
	view->up = false;
	if (view->options.on_state != NULL)
		view->options.on_state(&view->redis, false, view->options.user_data);
}

/* It is down until the masters have been asked once more. */
static void view_doubted(struct view *view)
{
	view->down_at = view->topology->question;
	view_down(view);
}

static void view_up(struct view *view)
{
	view->up = true;
	view->redis.epoch++;
	if (view->options.on_state != NULL)
		view->options.on_state(&view->redis, true, view->options.user_data);
	rt_redis_notify_up(&view->redis);
}

/* An answer says that this is not, or not now, the partition's master. */
static void redirected(struct view *view, struct link *link, const redisReply *reply)
{
	struct rt_topology *topology = view->topology;

	if (topology->url.kind == RT_TOPOLOGY_ONE || !view->up)
		return; /* what was under way then says nothing new */
	if (topology->url.kind == RT_TOPOLOGY_CLUSTER)
		redis_moved_read(reply->str, &link->address, &topology->hint);
	else
		link->verified = false;
	note_problem(topology, &link->address, reply->str);
	view_doubted(view);
	settle_soon(topology);
}

/* ---- links ---- */

static void send_question(struct rt_topology *topology);
static void verify(struct link *link);

static void link_came(struct link *link)
{
	struct rt_topology *topology = link->topology;

	if (link == topology->asked && topology->asking && !topology->sent)
		send_question(topology);
	if (link->clock)
		topology->clock_known = true;
	if (topology->url.kind == RT_TOPOLOGY_SENTINEL && !link->sentinel)
		verify(link);
	else
		link->verified = true;
}

/* Takes the views of a link down. Their callbacks may make and free others. */
static void link_went(struct link *link)
{
	struct rt_topology *topology = link->topology;
	struct rt_list views, *at;

	link->verified = false;
	if (!link->own && link->views > 0)
		note_problem(topology, &link->address, rt_redis_error(link->redis));
	rt_list_init(&views);
	rt_list_move(&views, &topology->views);
	while ((at = rt_list_pop(&views)) != NULL) {
		struct view *view = RT_CONTAINER_OF(at, struct view, list);

		rt_list_push(&topology->views, at);
		if (view->link == link)
			view_doubted(view);
	}
}

static void link_state(struct rt_redis *redis, bool up, void *user)
{
	struct link *link = user;

	(void)redis;
	if (up)
		link_came(link);
	else
		link_went(link);
	settle_soon(link->topology);
}

static void link_free(struct link *link)
{
	rt_list_remove(&link->list);
	link->retired = true;
	rt_redis_free(link->redis);
	rt_batch_gate_free(link->gate);
	free(link);
}

static struct rt_redis_address *master_of(struct rt_topology *topology, int partition)
{
	char tag[RT_INT_TEXT];
	size_t place;

	if (topology->url.kind == RT_TOPOLOGY_ONE)
		return &topology->url.addresses[0];
	rt_int_text(partition, tag);
	place = topology->slots.owner[rt_key_slot(tag)];
	return place > 0 ? &topology->slots.nodes[place - 1] : NULL;
}

static bool clock_is_of(struct rt_topology *topology, const struct rt_redis_address *address)
{
	const struct rt_redis_address *master = master_of(topology, 0);

	return topology->options.follow_clock && master != NULL &&
	       redis_address_same(master, address);
}

/* `options`: of an own connection; NULL: it is shared. */
static struct link *link_new(struct rt_topology *topology, const struct rt_redis_address *address,
			     const struct rt_redis_options *own, bool sentinel)
{
	struct link *link = rt_alloc(sizeof(*link));
	struct rt_redis_options options = own != NULL ? *own : topology->options;

	link->topology = topology;
	link->address = *address;
	link->own = own != NULL;
	link->sentinel = sentinel;
	link->clock = !link->own && !sentinel && clock_is_of(topology, address);
	options.connect = topology->options.connect;
	options.connector = topology->options.connector;
	options.unix_path = address->port == 0 ? link->address.host : NULL;
	options.host = link->address.host;
	options.port = address->port;
	options.on_state = link_state;
	options.user_data = link;
	options.follow_clock = link->clock;
	options.metrics = link->clock ? topology->options.metrics : NULL;
	if (topology->url.kind != RT_TOPOLOGY_ONE || link->own)
		options.log_trouble = false; /* note_problem does */
	if (!link->own)
		options.pending_max = SIZE_MAX; /* each view has a bound */
	if (sentinel) {
		options.user = options.sentinel.user;
		options.password = options.sentinel.password;
	}
	rt_list_init(&link->list);
	rt_list_push(&topology->links, &link->list);
	if (!link->own && !sentinel && topology->partition_count > 1)
		rt_batch_gate_new(topology->loop, &link->gate);
	if (rt_redis_new(topology->loop, &options, &link->redis) == RT_OK)
		return link;
	rt_batch_gate_free(link->gate);
	rt_list_remove(&link->list);
	free(link);
	return NULL;
}

/* The shared link to an address. */
static struct link *link_get(struct rt_topology *topology, const struct rt_redis_address *address,
			     bool sentinel)
{
	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		if (!link->own && !link->retired && link->sentinel == sentinel &&
		    redis_address_same(&link->address, address))
			return link;
	}
	return link_new(topology, address, NULL, sentinel);
}

/* ---- questions ---- */

static void question_send(struct link *link, int argc, const char *const *argv,
			  void (*answered)(struct rt_redis_op *op, int status,
					   const redisReply *reply))
{
	struct question *question = rt_alloc(sizeof(*question));

	question->link = link;
	question->number = link->topology->question;
	rt_redis_command(link->redis, &question->op, argc, argv, NULL, 0, answered);
}

static void hello_answered(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct question *question = RT_CONTAINER_OF(op, struct question, op);
	struct link *link = question->link;

	free(question);
	link->verifying = false;
	if (link->retired)
		return;
	link->verified = status == RT_OK && redis_hello_is_master(reply);
	if (reply != NULL && !link->verified)
		note_problem(link->topology, &link->address,
			     status == RT_OK ? "this is not a master now" : reply->str);
	settle_soon(link->topology);
}

/* HELLO and not ROLE: every user may send it. */
static void verify(struct link *link)
{
	if (link->verifying)
		return;
	link->verifying = true;
	question_send(link, 1, (const char *[]){ "HELLO" }, hello_answered);
}

/* The question has ended; the next is due. */
static void ask_later(struct rt_topology *topology)
{
	topology->asking = false;
	if (topology->url.kind == RT_TOPOLOGY_CLUSTER)
		topology->asked = NULL;
	rt_timer_start(topology->loop, &topology->timer,
		       around(topology,
			      topology->url.kind == RT_TOPOLOGY_SENTINEL ? SENTINEL_MS : EVERY_MS),
		       ask);
	if (topology->troubled)
		ask_soon(topology);
	settle_soon(topology);
}

static void not_answered(struct rt_topology *topology, const char *reason)
{
	struct link *link = RT_TAKE(topology->asked);

	note_problem(topology, &link->address, reason);
	ask_later(topology);
}

static void answer_late(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, timer);
	const char *error = rt_redis_error(topology->asked->redis);

	not_answered(topology, *error != '\0' ? error : "no answer in time");
}

/* Of a sentinel: what was verified before may have changed since. */
static void verify_again(struct rt_topology *topology)
{
	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		if (!link->sentinel && !link->verified && rt_redis_up(link->redis))
			verify(link);
	}
}

static void masters_answered(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct question *question = RT_CONTAINER_OF(op, struct question, op);
	struct link *link = question->link;
	struct rt_topology *topology = link->topology;
	bool wanted = topology->asking && question->number == topology->question;
	bool cluster = topology->url.kind == RT_TOPOLOGY_CLUSTER;
	struct redis_slots before;

	free(question);
	if (!wanted || topology->freed)
		return;
	if (status == RT_OK && reply->type == REDIS_REPLY_NIL) {
		not_answered(topology, "this sentinel knows no master of that name");
	} else if (status != RT_OK) {
		not_answered(topology, reply != NULL ? reply->str : rt_status_text(status));
	} else if (!(cluster ? redis_slots_read(&topology->read, reply, &link->address)
			     : redis_slots_read_sentinel(&topology->read, reply))) {
		not_answered(topology, "its answer about the masters makes no sense");
	} else {
		before = topology->slots;
		topology->slots = topology->read;
		topology->read = before;
		topology->answered = topology->question;
		if (!cluster)
			verify_again(topology);
		ask_later(topology);
	}
}

static void send_question(struct rt_topology *topology)
{
	topology->sent = true;
	if (topology->url.kind == RT_TOPOLOGY_CLUSTER)
		question_send(topology->asked, 2, (const char *[]){ "CLUSTER", "SLOTS" },
			      masters_answered);
	else
		question_send(topology->asked, 3,
			      (const char *[]){ "SENTINEL", "GET-MASTER-ADDR-BY-NAME",
						topology->url.master },
			      masters_answered);
}

/* A shared link that is up, another one each time; NULL: none. */
static struct link *link_that_answers(struct rt_topology *topology)
{
	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);
		bool sentinel = topology->url.kind == RT_TOPOLOGY_SENTINEL;

		if (!link->own && !link->retired && link->sentinel == sentinel &&
		    rt_redis_up(link->redis)) {
			rt_list_remove(at);
			rt_list_push(&topology->links, at);
			return link;
		}
	}
	return NULL;
}

/* NULL: it cannot be connected to. */
static struct link *choose(struct rt_topology *topology)
{
	bool cluster = topology->url.kind == RT_TOPOLOGY_CLUSTER;
	size_t nodes = cluster ? topology->slots.count : 0;
	size_t at = topology->candidate % (topology->url.count + nodes);
	struct rt_redis_address hint = topology->hint;
	struct link *link = NULL;

	topology->hint.port = 0;
	if (hint.port != 0)
		return link_get(topology, &hint, false);
	/* What a sentinel answered a moment ago did not help: another one is asked. */
	if (cluster || topology->retry_ms == 0)
		link = link_that_answers(topology);
	if (link != NULL)
		return link;
	topology->candidate++;
	return link_get(topology,
			at < topology->url.count ? &topology->url.addresses[at]
						 : &topology->slots.nodes[at - topology->url.count],
			!cluster);
}

static void ask(struct rt_timer *timer)
{
	struct rt_topology *topology = RT_CONTAINER_OF(timer, struct rt_topology, timer);

	if (!topology->troubled)
		note_well(topology);
	topology->asked = choose(topology);
	topology->retry_ms =
		topology->troubled
			? RT_MAX(RETRY_MIN_MS, RT_MIN(2 * topology->retry_ms, RETRY_MAX_MS))
			: 0;
	topology->troubled = false;
	topology->asked_ms = rt_loop_now(topology->loop);
	topology->question++;
	if (topology->asked == NULL) {
		topology->troubled = true;
		ask_later(topology);
		return;
	}
	topology->asking = true;
	topology->sent = false;
	rt_timer_start(topology->loop, timer, ANSWER_MS + 2 * topology->retry_ms, answer_late);
	if (rt_redis_up(topology->asked->redis))
		send_question(topology);
}

/* ---- the end of a turn ---- */

static void leave(struct view *view)
{
	struct link *link = view->link;

	view_down(view);
	view->link = NULL;
	view->redis.gate = NULL;
	link->views--;
	if (link->own)
		link->retired = true;
}

static void join(struct view *view, const struct rt_redis_address *master)
{
	struct rt_topology *topology = view->topology;

	view->link = view->options.blocks ? link_new(topology, master, &view->options, false)
					  : link_get(topology, master, false);
	if (view->link == NULL)
		return;
	view->link->views++;
	view->redis.gate = view->link->gate;
}

static bool may_go_up(const struct view *view)
{
	const struct rt_topology *topology = view->topology;

	return view->link != NULL && view->link->verified && rt_list_empty(&view->calls) &&
	       topology->clock_known &&
	       (topology->url.kind == RT_TOPOLOGY_ONE || topology->answered > view->down_at);
}

static void settle_view(struct view *view)
{
	const struct rt_redis_address *master = master_of(view->topology, view->options.partition);

	if (view->link != NULL && (master == NULL || view->link->retired ||
				   !redis_address_same(&view->link->address, master)))
		leave(view);
	if (view->link == NULL && master != NULL)
		join(view, master);
	if (!view->up && may_go_up(view))
		view_up(view);
}

/* Frees the links that are of no use any more. */
static void settle_links(struct rt_topology *topology)
{
	struct rt_list links, *at;

	rt_list_init(&links);
	rt_list_move(&links, &topology->links);
	while ((at = rt_list_pop(&links)) != NULL) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);
		bool idle = link->views == 0 && link != topology->asked;

		rt_list_push(&topology->links, at);
		if (idle && (link->own || rt_redis_pending(link->redis) == 0))
			link_free(link);
	}
}

/* A link whose server's clock is followed, but must not be any more, or the other way round, is replaced. */
static void retire_by_clock(struct rt_topology *topology)
{
	if (master_of(topology, 0) == NULL)
		return;
	for (struct rt_list *at = topology->links.next; at != &topology->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, list);

		if (!link->own && !link->sentinel &&
		    link->clock != clock_is_of(topology, &link->address))
			link->retired = true;
	}
}

static void settle(struct rt_task *task)
{
	struct rt_topology *topology = RT_CONTAINER_OF(task, struct rt_topology, settle);
	struct rt_list views, *at;
	bool all_up = true;

	if (topology->freed) {
		free(topology);
		return;
	}
	retire_by_clock(topology);
	rt_list_init(&views);
	rt_list_move(&views, &topology->views);
	while ((at = rt_list_pop(&views)) != NULL) {
		struct view *view = RT_CONTAINER_OF(at, struct view, list);

		rt_list_push(&topology->views, at);
		settle_view(view);
		all_up = all_up && view->up;
	}
	settle_links(topology);
	if (!all_up)
		ask_soon(topology);
}

/* ---- what is given out ---- */

static struct view *view_of(struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, struct view, redis);
}

static void call_ended(struct rt_redis_op *op, int status, const redisReply *reply)
{
	struct call *call = RT_CONTAINER_OF(op, struct call, op);
	struct rt_redis_op *sender = call->sender;
	struct view *view = call->view;
	struct link *link = call->link;

	rt_list_remove(&call->list);
	free(call);
	if (view == NULL) {
		settle_soon(link->topology);
		return;
	}
	view->call_count--;
	if (reply != NULL && rt_redis_reply_redirects(reply))
		redirected(view, link, reply);
	if (!view->up)
		settle_soon(link->topology);
	if (status == RT_CANCELED && link->retired)
		status = RT_LOST; /* the master is another one */
	sender->done(sender, status, reply);
}

static void view_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct view *view = view_of(redis);
	struct call *call;

	if (!view->up || view->call_count >= view->options.pending_max) {
		op->status = view->up ? RT_BUSY : RT_LOST;
		rt_list_push(&view->refused, &op->link);
		rt_loop_defer_last(view->topology->loop, &view->turn);
		return;
	}
	call = rt_alloc(sizeof(*call));
	call->view = view;
	call->link = view->link;
	call->sender = op;
	rt_list_init(&call->list);
	rt_list_push(&view->calls, &call->list);
	view->call_count++;
	rt_redis_command(view->link->redis, &call->op, argc, argv, lengths,
			 timeout_ms > 0 ? timeout_ms : view->options.timeout_ms, call_ended);
}

/* Ends what was refused, each with its status unless another is given. What the callbacks send meanwhile
 * waits for the next time. */
static void end_refused(struct view *view, int status)
{
	struct rt_list refused, *at;

	rt_list_init(&refused);
	rt_list_move(&refused, &view->refused);
	while ((at = rt_list_pop(&refused)) != NULL) {
		struct rt_redis_op *op = RT_CONTAINER_OF(at, struct rt_redis_op, link);

		op->done(op, status != RT_OK ? status : op->status, NULL);
	}
}

/* Ends what is under way now; the answers will be of no interest. */
static void cancel_calls(struct view *view)
{
	struct rt_list calls, *at;

	rt_list_init(&calls);
	rt_list_move(&calls, &view->calls);
	view->call_count = 0;
	while ((at = rt_list_pop(&calls)) != NULL) {
		struct call *call = RT_CONTAINER_OF(at, struct call, list);

		call->view = NULL;
		call->sender->done(call->sender, RT_CANCELED, NULL);
	}
}

static void view_turn(struct rt_task *task)
{
	struct view *view = RT_CONTAINER_OF(task, struct view, turn);
	bool reset = view->reset;

	if (view->freed) {
		free(view);
		return;
	}
	view->reset = false;
	if (reset)
		cancel_calls(view);
	end_refused(view, RT_OK);
}

static void view_reset(struct rt_redis *redis)
{
	struct view *view = view_of(redis);

	if (view->options.blocks && view->link != NULL) {
		rt_redis_reset(view->link->redis);
	} else {
		view->reset = true;
		rt_loop_defer_last(view->topology->loop, &view->turn);
	}
}

static bool view_is_up(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct view, redis)->up;
}

static const char *view_error(const struct rt_redis *redis)
{
	const struct view *view = RT_CONTAINER_OF(redis, const struct view, redis);
	const char *error = view->link != NULL ? rt_redis_error(view->link->redis) : "";

	if (view->up)
		return "";
	if (*error != '\0')
		return error;
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
	while (!rt_list_empty(&view->calls) || !rt_list_empty(&view->refused)) {
		cancel_calls(view);
		end_refused(view, RT_CANCELED);
	}
	rt_list_remove(&view->list);
	if (view->link != NULL)
		leave(view);
	settle_soon(view->topology);
	rt_arena_done(&view->texts);
	if (view->turn.queued)
		view->freed = true;
	else
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
	rt_list_init(&view->calls);
	rt_list_init(&view->refused);
	view->turn.run = view_turn;
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
	topology->partition_count = partition_count;
	redis_options_copy(&topology->options, options, &topology->texts);
	topology->clock_known = !topology->options.follow_clock;
	topology->settle.run = settle;
	rt_list_init(&topology->views);
	rt_list_init(&topology->links);
	if (url->kind != RT_TOPOLOGY_ONE) {
		topology->candidate = rt_loop_random(loop, url->count);
		rt_timer_start(loop, &topology->timer, 0, ask);
	}
	*ret = topology;
	return RT_OK;
}

void rt_topology_free(struct rt_topology *topology)
{
	struct rt_list *at;

	if (topology == NULL)
		return;
	topology->freed = true;
	rt_timer_stop(topology->loop, &topology->timer);
	while ((at = rt_list_pop(&topology->links)) != NULL)
		link_free(RT_CONTAINER_OF(at, struct link, list));
	redis_slots_done(&topology->slots);
	redis_slots_done(&topology->read);
	rt_arena_done(&topology->texts);
	if (!topology->settle.queued)
		free(topology);
}
