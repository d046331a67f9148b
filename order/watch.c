/* watch.c - notifies waiters from this instance's moves, and from the tail of order:{p}:events.
 *
 *   order_watch_moved                notifies its waiters, or reads the order for them
 *   published                        own entries need no reading: the tail's position moves past them
 *
 *   order_watch_add → tail_begin ("$") → tail_begun: all nodes are queued for reading → tail_next
 *   tail_next                        pauses, or waits at the stream when others publish there, too
 *     tail_read → entries_read       nodes of these entries are queued for reading → tail_next
 *     reads_begin → node_begin_read → order_read → its waiters → reads_begin
 *   no entry for LOOK_MS → tail_look: was the stream deleted and begun again?
 *   no node for LINGER_MS → the tail is not read any more
 *
 * An instance that is alone finds nothing in the tail: it has published everything in the stream itself.
 * Waiting at the stream would wake it with each of its own entries. So it reads every few
 * milliseconds, less often while no waiter is added. When it finds entries that are not its own, or
 * its own do not follow each other, it is not alone: then it waits at the stream, and is woken at once.
 * It lingers because the next waiter is usually added soon, and then the tail is still running.
 *
 * Reads share the store's connection with orders that are placed and decided, and all nodes may have
 * to be read in one turn: so at most READS_MAX are under way, the others queue. Nodes with news queue
 * apart from nodes that are only swept, and the two queues take turns: a sweep over thousands of nodes
 * delays no waiter. */
#include <stdio.h>
#include <string.h>

#include "loop/loop.h"
#include "order/watch.h"

#define uthash_fatal(text) abort()
#include <uthash.h>

#define BLOCK_MS      1000
#define LOOK_MS       1000
#define LINGER_MS     200
#define PAUSE_MIN_MS  5     /* between two reads of the tail, alone … */
#define PAUSE_MAX_MS  80    /* … when no waiter was added since */
#define OTHERS_MS     10000 /* after an entry of another instance, it counts as active for so long */
#define BACK_OFF_MS   100
#define SWEEP_MS      500  /* how often all nodes are checked … */
#define READ_AFTER_MS 5000 /* … and read again, when their last read is so long ago */
#define READS_MAX     ORDER_WATCH_READS_MAX

#define STREAM_ID sizeof(((struct order_tail_op *)NULL)->last)

struct order_watch_node {
	UT_hash_handle hh;
	struct order_watch *watch;
	char order_id[ORDER_ID_LENGTH + 1];
	struct rt_list waiters;
	uint64_t version; /* the newest that is known */
	uint64_t asked;   /* READING: that was known when the read began */
	int64_t read_ms;
	struct order_get_op get;
	uint64_t reads; /* that have begun */
	enum node_stage { NODE_IDLE, NODE_STALE, NODE_CHANGED, NODE_READING } stage;
	struct rt_list queue; /* STALE, CHANGED: in the list of that name */
	bool again;           /* READING: read once more when this read has ended */
	bool notifying;
};

struct order_watch {
	struct rt_loop *loop;
	struct order_store *store;
	int partition;
	struct order_watch_node *nodes;
	size_t waiter_count, waiters_max;
	size_t reads; /* under way */
	/* Nodes to be read: with news; because their last read is old. */
	struct rt_list changed, stale;
	bool stale_next; /* when both have nodes */
	struct rt_series *waiters;
	enum { TAIL_OFF, TAIL_BEGINS, TAIL_RUNS, TAIL_PAUSES, TAIL_BACKS_OFF } tail;
	struct order_tail_op tail_op;
	char after[STREAM_ID]; /* its position: everything up to there is known */
	/* After the first and up to the second there are only own entries. "": none yet. */
	char own_from[STREAM_ID], own[STREAM_ID];
	int64_t others_until_ms; /* until then others count as publishing, too */
	int64_t pause_ms;
	int64_t idle_since_ms, looked_ms;
	struct rt_timer pause, sweep; /* pause: PAUSES, BACKS_OFF */
	bool stopping;
	void (*stopped)(void *user);
	void *stopped_user;
};

static void tail_begin(struct order_watch *watch);
static void tail_read(struct order_watch *watch, int64_t block_ms);

/* ---- nodes ---- */

static void node_release(struct order_watch_node *node)
{
	struct order_watch *watch = node->watch;

	if (node->stage == NODE_READING || node->notifying || !rt_list_empty(&node->waiters))
		return;
	rt_list_remove(&node->queue);
	HASH_DEL(watch->nodes, node);
	free(node);
	if (watch->nodes == NULL)
		watch->idle_since_ms = rt_loop_now(watch->loop);
}

static void stop_check(struct order_watch *watch)
{
	if (!watch->stopping || watch->stopped == NULL || watch->reads > 0 ||
	    watch->tail != TAIL_OFF)
		return;
	RT_TAKE(watch->stopped)(watch->stopped_user);
}

/* What waiters get: the order that was read, or how an own move ended. */
struct node_news {
	int status;
	const struct order_record *record;
	const struct order_move_op *move; /* NULL: it was read */
	bool read;                        /* set when a waiter needs the moved order's record */
};

static void waiter_read(struct order_waiter *waiter, const struct node_news *news)
{
	const struct order_record *record = news->record;

	if (waiter->first_read > waiter->node->reads)
		return; /* it was added while this was read: the next read is for it */
	if (news->status != RT_OK) {
		if (waiter->on_failed != NULL)
			waiter->on_failed(waiter, news->status);
		return;
	}
	if (record != NULL && record->version <= waiter->known_version)
		return;
	if (record != NULL)
		waiter->known_version = record->version;
	waiter->on_order(waiter, record);
}

static void waiter_moved(struct order_waiter *waiter, struct node_news *news)
{
	const struct order_move_op *move = news->move;

	if (move->version <= waiter->known_version)
		return;
	if (waiter->on_moved == NULL || move->history == NULL) {
		news->read = true;
		return;
	}
	waiter->known_version = move->version;
	waiter->on_moved(waiter, move);
}

/* Notifies each waiter; meanwhile any may be removed, or added. */
static void node_notify(struct order_watch_node *node, struct node_news *news)
{
	struct rt_list remaining;
	struct rt_list *link;

	rt_list_init(&remaining);
	rt_list_move(&remaining, &node->waiters);
	while ((link = rt_list_pop(&remaining)) != NULL) {
		struct order_waiter *waiter = RT_CONTAINER_OF(link, struct order_waiter, link);

		rt_list_push(&node->waiters, link);
		if (news->move != NULL)
			waiter_moved(waiter, news);
		else
			waiter_read(waiter, news);
	}
}

/* ---- reading ---- */

/* Queues the node for reading. A stale one that has news moves to the changed ones. */
static void node_queue(struct order_watch_node *node, enum node_stage stage)
{
	struct order_watch *watch = node->watch;

	if (node->stage == NODE_READING) {
		node->again = true;
	} else if (node->stage < stage) {
		rt_list_remove(&node->queue);
		rt_list_push(stage == NODE_CHANGED ? &watch->changed : &watch->stale, &node->queue);
		node->stage = stage;
	}
}

static struct order_watch_node *queue_pop(struct order_watch *watch)
{
	bool stale = rt_list_empty(&watch->changed) ||
		     (watch->stale_next && !rt_list_empty(&watch->stale));
	struct rt_list *link = rt_list_pop(stale ? &watch->stale : &watch->changed);

	watch->stale_next = !stale;
	return link == NULL ? NULL : RT_CONTAINER_OF(link, struct order_watch_node, queue);
}

static void order_read(struct order_get_op *op, int status);

static void node_begin_read(struct order_watch_node *node)
{
	struct order_watch *watch = node->watch;

	node->stage = NODE_READING;
	node->again = false;
	node->reads++;
	node->asked = node->version;
	node->read_ms = rt_loop_now(watch->loop);
	node->get = (struct order_get_op){ .partition = watch->partition,
					   .order_id = node->order_id,
					   .done = order_read };
	watch->reads++;
	order_store_get(watch->store, &node->get);
}

static void reads_begin(struct order_watch *watch)
{
	struct order_watch_node *node;

	while (watch->reads < READS_MAX && (node = queue_pop(watch)) != NULL)
		node_begin_read(node);
}

static void node_read(struct order_watch_node *node)
{
	node_queue(node, NODE_CHANGED);
	reads_begin(node->watch);
}

/* Redis knew a newer version when it was asked, and does not any more: another master has taken over without it. The
 * waiters are told what there is now. */
static void node_lost(struct order_watch_node *node, uint64_t version)
{
	node->again |= node->version > node->asked;
	node->version = version;
	for (struct rt_list *at = node->waiters.next; at != &node->waiters; at = at->next) {
		struct order_waiter *waiter = RT_CONTAINER_OF(at, struct order_waiter, link);

		waiter->known_version = RT_MIN(waiter->known_version, version - 1);
	}
}

static void order_read(struct order_get_op *op, int status)
{
	struct order_watch_node *node = RT_CONTAINER_OF(op, struct order_watch_node, get);
	struct order_watch *watch = node->watch;
	struct node_news news = { .status = status, .record = op->found ? &op->record : NULL };

	watch->reads--;
	node->stage = NODE_IDLE;
	node->notifying = true;
	/* After a failure the tail's next start, or the sweep, reads it again. */
	if (status == RT_OK && op->found && op->record.version < node->asked) {
		node_lost(node, op->record.version);
	} else if (status == RT_OK && op->found) {
		node->again |= op->record.version < node->version;
		node->version = RT_MAX(node->version, op->record.version);
	}
	node_notify(node, &news);
	node->notifying = false;
	if (node->again && !watch->stopping)
		node_queue(node, NODE_CHANGED);
	node_release(node);
	reads_begin(watch);
	stop_check(watch);
}

static void read_all(struct order_watch *watch)
{
	struct order_watch_node *node, *next;

	HASH_ITER (hh, watch->nodes, node, next) {
		node_queue(node, NODE_STALE);
	}
	reads_begin(watch);
}

static void sweep(struct rt_timer *timer)
{
	struct order_watch *watch = RT_CONTAINER_OF(timer, struct order_watch, sweep);
	int64_t before_ms = rt_loop_now(watch->loop) - READ_AFTER_MS;
	struct order_watch_node *node, *next;

	HASH_ITER (hh, watch->nodes, node, next) {
		if (node->read_ms <= before_ms)
			node_queue(node, NODE_STALE);
	}
	reads_begin(watch);
	if (watch->nodes != NULL)
		rt_timer_start(watch->loop, &watch->sweep, SWEEP_MS, sweep);
}

/* ---- the tail ---- */

static void tail_end(struct order_watch *watch)
{
	watch->tail = TAIL_OFF;
	stop_check(watch);
}

static bool tail_is_wanted(const struct order_watch *watch)
{
	if (watch->stopping)
		return false;
	return watch->nodes != NULL || rt_loop_now(watch->loop) - watch->idle_since_ms < LINGER_MS;
}

static void pause_ended(struct rt_timer *timer)
{
	struct order_watch *watch = RT_CONTAINER_OF(timer, struct order_watch, pause);

	if (!tail_is_wanted(watch))
		tail_end(watch);
	else if (watch->tail == TAIL_BACKS_OFF)
		tail_begin(watch);
	else
		tail_read(watch, 0);
}

static void tail_failed(struct order_watch *watch)
{
	if (watch->stopping) {
		tail_end(watch);
		return;
	}
	watch->tail = TAIL_BACKS_OFF;
	rt_timer_start(watch->loop, &watch->pause, BACK_OFF_MS, pause_ended);
}

static void tail_next(struct order_watch *watch);
static void tail_look(struct order_watch *watch);

static bool id_less(const char *id, const char *other)
{
	unsigned long long id_ms, id_n, other_ms, other_n;

	return sscanf(id, "%llu-%llu", &id_ms, &id_n) == 2 &&
	       sscanf(other, "%llu-%llu", &other_ms, &other_n) == 2 &&
	       (id_ms < other_ms || (id_ms == other_ms && id_n < other_n));
}

/* ---- the own entries ---- */

/* Moves the tail's position past the own entries. */
static void pass_own(struct order_watch *watch)
{
	if (watch->own[0] != '\0' && !id_less(watch->after, watch->own_from) &&
	    id_less(watch->after, watch->own))
		memcpy(watch->after, watch->own, sizeof(watch->after));
}

static void others_publish(struct order_watch *watch)
{
	watch->others_until_ms = rt_loop_now(watch->loop) + OTHERS_MS;
	if (watch->tail == TAIL_PAUSES) {
		rt_timer_stop(watch->loop, &watch->pause);
		tail_read(watch, 0);
	}
}

static void published(void *user, const char *before, const char *last)
{
	struct order_watch *watch = user;
	bool follows = strcmp(before, watch->own) == 0;
	bool restarted = !follows && id_less(before, watch->own);

	if (!follows)
		snprintf(watch->own_from, sizeof(watch->own_from), "%s", before);
	if (!follows && watch->own[0] != '\0')
		others_publish(watch);
	snprintf(watch->own, sizeof(watch->own), "%s", last);
	if (watch->tail == TAIL_RUNS || watch->tail == TAIL_PAUSES)
		pass_own(watch);
	/* The stream was deleted: its entries that were not read are lost. */
	if (restarted)
		read_all(watch);
}

/* ---- reading the tail ---- */

/* A stream that was deleted begins again, and its ids may be lower than the tail's position: when that was
 * made by a clock that was ahead, or in the same millisecond. */

/* Is the number of the first entry after the tail's position lower than it should be? */
static bool stream_restarted(const char *first, const char *after)
{
	unsigned long long first_ms, first_n, ms, n;

	return sscanf(first, "%llu-%llu", &first_ms, &first_n) == 2 &&
	       sscanf(after, "%llu-%llu", &ms, &n) == 2 && first_n <= n;
}

static void entries_read(struct order_tail_op *op, int status)
{
	struct order_watch *watch = RT_CONTAINER_OF(op, struct order_watch, tail_op);
	size_t known = 0;

	if (status != RT_OK) {
		tail_failed(watch);
		return;
	}
	/* Entries that this instance published meanwhile. */
	while (known < op->entry_count && !id_less(watch->after, op->entries[known].stream_id))
		known++;
	if (known < op->entry_count && stream_restarted(op->entries[known].stream_id, watch->after))
		read_all(watch);
	for (size_t i = known; i < op->entry_count && watch->nodes != NULL; i++) {
		struct order_watch_node *node;

		HASH_FIND_STR(watch->nodes, op->entries[i].subject, node);
		if (node != NULL && op->entries[i].seq > node->version)
			node_read(node);
	}
	if (known < op->entry_count && op->block_ms == 0)
		others_publish(watch);
	if (id_less(watch->after, op->last)) {
		memcpy(watch->after, op->last, sizeof(watch->after));
		pass_own(watch);
		tail_next(watch);
	} else if (rt_loop_now(watch->loop) - watch->looked_ms >= LOOK_MS) {
		tail_look(watch);
	} else {
		watch->pause_ms = RT_MIN(2 * watch->pause_ms, PAUSE_MAX_MS);
		tail_next(watch);
	}
}

static void tail_looked(struct order_tail_op *op, int status)
{
	struct order_watch *watch = RT_CONTAINER_OF(op, struct order_watch, tail_op);

	if (status != RT_OK) {
		tail_failed(watch);
		return;
	}
	watch->looked_ms = rt_loop_now(watch->loop);
	if (id_less(op->last, watch->after)) {
		memcpy(watch->after, op->last, sizeof(watch->after));
		read_all(watch);
	}
	tail_next(watch);
}

/* Asks where the stream ends. */
static void tail_ask_end(struct order_watch *watch,
			 void (*done)(struct order_tail_op *op, int status))
{
	watch->tail_op =
		(struct order_tail_op){ .partition = watch->partition, .after = "$", .done = done };
	order_store_tail(watch->store, &watch->tail_op);
}

/* No entry for a while: is the stream still the same? */
static void tail_look(struct order_watch *watch)
{
	if (tail_is_wanted(watch))
		tail_ask_end(watch, tail_looked);
	else
		tail_end(watch);
}

static void tail_read(struct order_watch *watch, int64_t block_ms)
{
	watch->tail = TAIL_RUNS;
	watch->tail_op = (struct order_tail_op){ .partition = watch->partition,
						 .after = watch->after,
						 .block_ms = block_ms,
						 .done = entries_read };
	order_store_tail(watch->store, &watch->tail_op);
}

static void tail_next(struct order_watch *watch)
{
	if (!tail_is_wanted(watch)) {
		tail_end(watch);
	} else if (rt_loop_now(watch->loop) < watch->others_until_ms) {
		tail_read(watch, BLOCK_MS);
	} else {
		watch->tail = TAIL_PAUSES;
		rt_timer_start(watch->loop, &watch->pause, watch->pause_ms, pause_ended);
	}
}

static void tail_begun(struct order_tail_op *op, int status)
{
	struct order_watch *watch = RT_CONTAINER_OF(op, struct order_watch, tail_op);

	if (status != RT_OK) {
		tail_failed(watch);
		return;
	}
	watch->looked_ms = rt_loop_now(watch->loop);
	memcpy(watch->after, op->last, sizeof(watch->after));
	pass_own(watch);
	read_all(watch);
	tail_next(watch);
}

static void tail_begin(struct order_watch *watch)
{
	watch->tail = TAIL_BEGINS;
	tail_ask_end(watch, tail_begun);
}

/* ---- the watch ---- */

struct order_watch *order_watch_new(struct rt_loop *loop, struct order_store *store, int partition,
				    size_t waiters_max, struct rt_series *waiters)
{
	struct order_watch *watch = rt_alloc(sizeof(*watch));

	watch->loop = loop;
	watch->store = store;
	watch->partition = partition;
	watch->waiters_max = waiters_max;
	watch->waiters = waiters;
	watch->pause_ms = PAUSE_MIN_MS;
	order_store_on_published(store, partition, published, watch);
	rt_list_init(&watch->changed);
	rt_list_init(&watch->stale);
	return watch;
}

static struct order_watch_node *node_of(struct order_watch *watch, const char *order_id)
{
	struct order_watch_node *node;

	HASH_FIND_STR(watch->nodes, order_id, node);
	if (node != NULL)
		return node;
	node = rt_alloc(sizeof(*node));
	node->watch = watch;
	node->read_ms = rt_loop_now(watch->loop);
	rt_list_init(&node->waiters);
	rt_list_init(&node->queue);
	snprintf(node->order_id, sizeof(node->order_id), "%s", order_id);
	HASH_ADD_STR(watch->nodes, order_id, node);
	return node;
}

bool order_watch_add(struct order_watch *watch, struct order_waiter *waiter, const char *order_id,
		     uint64_t known, bool read)
{
	struct order_watch_node *node;

	if (watch->stopping || watch->waiter_count >= watch->waiters_max)
		return false;
	node = node_of(watch, order_id);
	node->version = RT_MAX(node->version, known);
	waiter->node = node;
	waiter->known_version = known;
	waiter->first_read = node->reads + 1;
	if (node->stage == NODE_READING)
		node->again = true;
	rt_list_init(&waiter->link);
	rt_list_push(&node->waiters, &waiter->link);
	watch->waiter_count++;
	if (watch->waiters != NULL)
		rt_series_add(watch->waiters, 1);
	if (watch->tail == TAIL_OFF)
		tail_begin(watch);
	else if (watch->tail == TAIL_PAUSES && watch->pause_ms > PAUSE_MIN_MS)
		rt_timer_start(watch->loop, &watch->pause, PAUSE_MIN_MS, pause_ended);
	watch->pause_ms = PAUSE_MIN_MS;
	if (read)
		node_read(node);
	if (!rt_timer_running(&watch->sweep))
		rt_timer_start(watch->loop, &watch->sweep, SWEEP_MS, sweep);
	return true;
}

bool order_watch_has(const struct order_watch *watch, const char *order_id)
{
	struct order_watch_node *node;

	HASH_FIND_STR(watch->nodes, order_id, node);
	return node != NULL;
}

void order_watch_moved(struct order_watch *watch, const struct order_move_op *move)
{
	struct order_watch_node *node;
	struct node_news news = { .move = move };

	HASH_FIND_STR(watch->nodes, move->order_id, node);
	if (node == NULL || move->version <= node->version)
		return;
	node->version = move->version;
	node->notifying = true;
	node_notify(node, &news);
	node->notifying = false;
	if (news.read)
		node_read(node);
	node_release(node);
}

void order_watch_read(struct order_watch *watch, struct order_waiter *waiter)
{
	(void)watch;
	if (waiter->node == NULL)
		return;
	waiter->known_version = 0;
	node_read(waiter->node);
}

void order_watch_remove(struct order_watch *watch, struct order_waiter *waiter)
{
	struct order_watch_node *node = RT_TAKE(waiter->node);

	if (node == NULL)
		return;
	rt_list_remove(&waiter->link);
	watch->waiter_count--;
	if (watch->waiters != NULL)
		rt_series_add(watch->waiters, -1);
	node_release(node);
}

void order_watch_stop(struct order_watch *watch, void (*stopped)(void *user), void *user)
{
	struct order_watch_node *node, *next;

	watch->stopping = true;
	watch->stopped = stopped;
	watch->stopped_user = user;
	rt_timer_stop(watch->loop, &watch->sweep);
	if (rt_timer_running(&watch->pause)) {
		rt_timer_stop(watch->loop, &watch->pause);
		watch->tail = TAIL_OFF;
	}
	/* A waiter's callback may end other waiters: free no node before all have run. */
	for (node = watch->nodes; node != NULL; node = node->hh.next)
		node->notifying = true;
	for (node = watch->nodes; node != NULL; node = node->hh.next)
		while (!rt_list_empty(&node->waiters)) {
			struct order_waiter *waiter =
				RT_CONTAINER_OF(node->waiters.next, struct order_waiter, link);

			waiter->on_stop(waiter);
		}
	HASH_ITER (hh, watch->nodes, node, next) {
		node->notifying = false;
		node_release(node);
	}
	if (watch->tail == TAIL_BEGINS || watch->tail == TAIL_RUNS)
		order_store_tail_interrupt(watch->store, watch->partition);
	stop_check(watch);
}

void order_watch_free(struct order_watch *watch)
{
	if (watch == NULL)
		return;
	rt_timer_stop(watch->loop, &watch->sweep);
	rt_timer_stop(watch->loop, &watch->pause);
	order_store_on_published(watch->store, watch->partition, NULL, NULL);
	free(watch);
}
