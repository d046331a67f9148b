/* reconcile.c - brings records and parts together again after a loss of data; until then no split order is served.
 *
 * A master that was replaced by a replica, or started again, may have lost its last writes. Within a slot everything
 * is kept or lost together; but the record of an order in partition p and its parts in others can be apart then.
 *
 * Each master has a mark, the id of its replication history, which is another one after each promotion and each start.
 * A partition p is *in step* while the marks of the masters of all partitions are those that its last reconciliation
 * saw (it keeps a hash of them, the digest), and nobody reconciles it. Each instance asks each partition for that and
 * for its generation, when the connection comes up and every second (tick), and whatever it finds is
 * noted in the store as the partition's generation (judge): split.c serves no order of a partition that is not in step.
 *
 *   begin     in p, by whoever sees that it is not in step: a lease, and a new generation
 *   fence     in every q: calls of older generations are refused from now on; says the mark that is there now, and when
 *             the one that p knew was last alive: what is older than that, and a minute, was not lost
 *   begin     once more if some q knows a higher generation: p has lost that
 *   scan      three passes, so that nothing is owed that somebody is about to give back: orders that have ended, that are sold,
 *             that are held (or have no record). In each the records of p, and p's parts in every q, page by page.
 *             If p's own master is the same as before, only parts in those that are not, and records that name such a part
 *     mend    each order (mend.c); once, if it was found by its record and by its parts
 *   end       in p: it is in step with the marks that the fence saw
 *
 * Several partitions go side by side. The lease is renewed every second and is for speed only: every call carries the generation, and
 * is refused once somebody else has begun. Whatever fails on the way, it begins again a second later.
 *
 * Some time after that (--sweep-after) the partition is *swept*: parts that are held for orders without a record, which have not
 * asked again meanwhile, are released; first the record says so. With one partition none of this is there. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "base/arena.h"
#include "base/base.h"
#include "inventory_internal.h"

#define TICK_MS  100
#define ASK_MS   1000
#define LEASE_MS "5000"
#define RENEW_MS 1000
#define AGAIN_MS 1000
#define SLACK_MS 60000 /* clocks, and commands under way */
#define PAGE     1000
#define RUNS_MAX 8      /* at the same time */
#define SEEN_MAX 100000 /* orders of a run of which it is remembered that their records were seen */
#define MARK_MAX 24
#define NUMBER   RT_INT_TEXT

struct run;
/* What is known of a partition. */
struct watched {
	struct inventory_reconciler *reconciler;
	struct run *run; /* NULL: none */
	struct inventory_call_op op;
	char now[NUMBER];
	bool asking, known;
	bool outdated, void_answer;  /* since a run; the answer under way is from before it */
	int64_t asked_ms, again_ms;  /* monotonic */
	uint64_t epoch, known_epoch; /* of the last question, and of what is known */
	char mark[MARK_MAX], digest[MARK_MAX], by[64], sweep[MARK_MAX];
	int64_t generation, until_ms;
};

/* A call with room for numbers as texts. */
struct call {
	struct inventory_call_op op; /* first */
	struct run *run;
	char numbers[3][NUMBER];
};
struct fence {
	struct call call;
	char mark[MARK_MAX];
	char before[MARK_MAX];   /* as p knows it; "": not */
	int64_t known, alive_ms; /* 0: not known */
	bool changed;            /* another master than before */
};
/* An order whose record was seen: it names its parts. */
struct seen {
	UT_hash_handle hh;
	char order_id[];
};
/* A reconciliation or a sweep of a partition. */
struct run {
	struct inventory_reconciler *reconciler;
	int p;
	bool sweeps, failed, renewing, ended;
	bool first; /* of the partition's life: nothing can be lost */
	int status;
	int64_t generation;
	struct call call, renewal;
	struct rt_timer renew_timer;
	struct fence *fences; /* by partition */
	struct rt_buf marks;
	char digest[MARK_MAX], sweep[MARK_MAX];
	size_t waiting;
	int64_t since_ms, to_ms;
	char from_text[NUMBER], to_text[NUMBER], cursor[NUMBER];
	int pass, q; /* q -1: the records of p */
	struct rt_arena arena;
	struct seen *seen; /* hash */
	struct inventory_mended mended;
};

struct inventory_reconciler {
	struct inventory *inventory;
	struct rt_loop *loop;
	struct inventory_store *store;
	struct rt_timer timer;
	bool stopping;
	char name[NUMBER];
	char digest[MARK_MAX]; /* of the marks of now; "": some are not known */
	bool marks_changed;
	int count, runs;
	struct watched partitions[];
};

static void make_digest(const struct rt_buf *marks, char digest[MARK_MAX])
{
	uint8_t hash[32];

	rt_sha256(marks->data, marks->length, hash);
	for (int i = 0; i < 8; i++)
		snprintf(digest + 2 * i, 3, "%02x", hash[i]);
}

static void add_mark(struct rt_buf *marks, const char *mark)
{
	rt_buf_printf(marks, "%s%s", marks->length > 0 ? " " : "", mark);
}

/* ---- runs: calls ---- */

static void run_fail(struct run *run, int status)
{
	run->failed = true;
	run->status = status;
}

static void run_over(struct run *run);
static void tick(struct rt_timer *timer);

static void call(struct call *call, struct run *run, int partition, const char *function,
		 size_t wanted, void (*done)(struct inventory_call_op *op, int status))
{
	call->run = run;
	call->op.partition = partition;
	call->op.function = function;
	call->op.wanted = wanted;
	call->op.done = done;
	inventory_store_call(run->reconciler->store, &call->op);
}

static void set_args(struct call *call, const char *const *argv, size_t count)
{
	for (size_t i = 0; i < INVENTORY_CALL_ARGS; i++)
		call->op.argv[i] = i < count ? argv[i] : NULL;
}
#define ARGS(call, ...)                                                                            \
	set_args(call, (const char *const[]){ __VA_ARGS__ },                                       \
		 RT_LENGTH(((const char *const[]){ __VA_ARGS__ })))

/* Whether the run has ended here: the status is not RT_OK, something failed before, or the service stops. */
static bool is_over(struct run *run, int status)
{
	if (status != RT_OK)
		run_fail(run, status);
	else if (run->reconciler->stopping)
		run_fail(run, RT_CANCELED);
	if (!run->failed)
		return false;
	run_over(run);
	return true;
}

/* ---- runs: scanning ---- */

/* Of the states of the records of each pass. */
static const char *const pass_letters[INVENTORY_PASSES] = { "UL", "C", "R" };

static void scan(struct run *run);

/* Whether parts in q, or their records, may have been lost or may have come back. */
static bool is_affected(const struct run *run, int q)
{
	return run->sweeps || run->fences[run->p].changed || run->fences[q].changed;
}

/* Behind a page. */
static void scan_on(struct run *run)
{
	if (is_over(run, RT_OK))
		return;
	if (strcmp(run->cursor, "0") == 0) {
		do
			run->q++;
		while (run->q < run->reconciler->count && !is_affected(run, run->q));
		if (run->q == run->reconciler->count) {
			run->q = -1;
			run->pass++;
		}
	}
	scan(run);
}

static void mended(void *user, int status)
{
	struct run *run = user;

	/* Of damaged data: it stays as it is, and audit names it. */
	if (status != RT_OK && status != RT_REMOTE)
		run_fail(run, status);
	if (--run->waiting == 0)
		scan_on(run);
}

/* Whether one of these lines, "sku=2@1 sku=1@3", is affected. Lines that cannot be read are left to mend.c. */
static bool names_affected(const struct run *run, const char *lines)
{
	struct inventory_record record = { .lines = NULL };
	bool affected = !inventory_record_read_lines(lines, &record);

	for (size_t i = 0; i < record.line_count && !affected; i++) {
		int q = record.lines[i].partition;

		affected = q < 0 || q >= run->reconciler->count || is_affected(run, q);
	}
	inventory_record_done(&record);
	return affected;
}

/* Whether the order's record was seen. */
static bool was_seen(const struct run *run, const char *order_id)
{
	struct seen *seen;

	HASH_FIND(hh, run->seen, order_id, strlen(order_id), seen);
	return seen != NULL;
}

/* Beyond the bound nothing is noted: an order is then mended once more for each of its parts, to no effect. */
static void note_seen(struct run *run, const char *order_id)
{
	size_t length = strlen(order_id);
	struct seen *seen;

	if (HASH_COUNT(run->seen) >= SEEN_MAX || was_seen(run, order_id))
		return;
	seen = rt_arena_take(&run->arena, sizeof(*seen) + length + 1);
	memcpy(seen->order_id, order_id, length + 1);
	HASH_ADD(hh, run->seen, order_id[0], length, seen);
}

/* Whether to mend what was found: an order, the letter of its state, and lines. */
static bool is_wanted(struct run *run, const char *order_id, char letter, const char *lines)
{
	if (run->sweeps)
		return true;
	if (run->q >= 0)
		return !was_seen(run, order_id);
	if (run->pass == 0)
		note_seen(run, order_id);
	return strchr(pass_letters[run->pass], letter) != NULL && names_affected(run, lines);
}

static void scanned(struct inventory_call_op *op, int status)
{
	struct run *run = ((struct call *)op)->run;

	if (is_over(run, status))
		return;
	snprintf(run->cursor, sizeof(run->cursor), "%s", op->texts[0]);
	run->waiting = 1;
	for (size_t i = 1; i + 2 < op->count; i += 3) {
		if (!is_wanted(run, op->texts[i], op->texts[i + 1][0], op->texts[i + 2]))
			continue;
		run->waiting++;
		inventory_mend(&(const struct inventory_mend){
			.inventory = run->reconciler->inventory,
			.partition = run->p,
			.generation = run->generation,
			.pass = run->sweeps ? INVENTORY_PASS_SWEEP : (enum inventory_pass)run->pass,
			.order_id = op->texts[i],
			.found = run->q,
			.lines = op->texts[i + 2],
			.mended = &run->mended,
			.done = mended,
			.user = run });
	}
	mended(run, RT_OK);
}

static void run_finish(struct run *run);

/* The first pass sees all records. Parts are found by their time alone, whatever their state. */
static void scan(struct run *run)
{
	struct call *page = &run->call;

	if (run->sweeps && run->q < 0)
		run->q = 0;
	if (run->pass == (run->sweeps ? 1 : INVENTORY_PASSES)) {
		run_finish(run);
		return;
	}
	rt_int_text(run->p, page->numbers[0]);
	rt_int_text(PAGE, page->numbers[1]);
	ARGS(page, run->q < 0 ? "r" : "parts", page->numbers[0], run->cursor, page->numbers[1],
	     run->from_text, run->to_text,
	     run->sweeps                   ? "R"
	     : run->q < 0 && run->pass > 0 ? pass_letters[run->pass]
					   : "RUCL");
	call(page, run, run->q < 0 ? run->p : run->q, "scan", 1, scanned);
}

static void scan_begin(struct run *run)
{
	rt_int_text(run->since_ms, run->from_text);
	rt_int_text(run->to_ms, run->to_text);
	snprintf(run->cursor, sizeof(run->cursor), "0");
	run->q = -1;
	scan(run);
}

/* ---- runs: the beginning and the end of a reconciliation ---- */

static void begin(struct run *run, int64_t above);

/* The mark of partition q among those that a reconciliation has seen; "": it is not among them. */
static void mark_before(const char *marks, int q, char mark[MARK_MAX])
{
	size_t length;

	for (; q > 0 && marks[0] != '\0'; q--) {
		marks += strcspn(marks, " ");
		marks += marks[0] == ' ';
	}
	length = RT_MIN(strcspn(marks, " "), (size_t)MARK_MAX - 1);
	memcpy(mark, marks, length);
	mark[length] = '\0';
}

/* From when on something may have been lost. */
static int64_t since(const struct run *run)
{
	int64_t since_ms = rt_loop_unix_ms(run->reconciler->loop);

	for (int q = 0; q < run->reconciler->count; q++) {
		const struct fence *fence = &run->fences[q];

		if (fence->changed)
			since_ms = RT_MIN(since_ms, fence->alive_ms);
	}
	return RT_MAX(since_ms - SLACK_MS, 0);
}

static void fenced_all(struct run *run)
{
	int64_t known = 0;
	bool marks_before = run->fences[run->p].before[0] != '\0';

	for (int q = 0; q < run->reconciler->count; q++)
		known = RT_MAX(known, run->fences[q].known);
	if (known >= run->generation) {
		begin(run, known);
		return;
	}
	run->marks.length = 0;
	for (int q = 0; q < run->reconciler->count; q++)
		add_mark(&run->marks, run->fences[q].mark);
	rt_buf_add(&run->marks, "", 1);
	run->marks.length--;
	make_digest(&run->marks, run->digest);
	run->since_ms = since(run);
	run->to_ms = INT64_MAX;
	run->first = run->generation == 1 && !marks_before && known == 0;
	if (run->first)
		run->pass = INVENTORY_PASSES;
	scan_begin(run);
}

static void fenced(struct inventory_call_op *op, int status)
{
	struct fence *fence = (struct fence *)op;
	struct run *run = fence->call.run;

	if (status != RT_OK) {
		run_fail(run, status);
	} else {
		fence->known = strtoll(op->texts[0], NULL, 10);
		snprintf(fence->mark, sizeof(fence->mark), "%s", op->texts[1]);
		fence->alive_ms = strtoll(op->texts[2], NULL, 10);
		fence->changed = strcmp(fence->before, fence->mark) != 0;
	}
	if (--run->waiting > 0)
		return;
	if (!is_over(run, RT_OK))
		fenced_all(run);
}

static void begun(struct inventory_call_op *op, int status)
{
	struct run *run = ((struct call *)op)->run;
	int count = run->reconciler->count;

	if (is_over(run, status))
		return;
	run->generation = strtoll(op->texts[0], NULL, 10);
	if (run->generation == 0) {
		is_over(run, RT_UNREADY);
		return;
	}
	run->waiting = (size_t)count;
	for (int q = 0; q < count; q++)
		mark_before(op->texts[1], q, run->fences[q].before);
	for (int q = 0; q < count; q++) {
		struct fence *fence = &run->fences[q];

		rt_int_text(run->p, fence->call.numbers[0]);
		rt_int_text(run->generation, fence->call.numbers[1]);
		ARGS(&fence->call, fence->call.numbers[0], fence->call.numbers[1], fence->before);
		call(&fence->call, run, q, "fence", 3, fenced);
	}
}

static void call_reconcile(struct call *at, struct run *run, int64_t held, int64_t above,
			   void (*done)(struct inventory_call_op *op, int status))
{
	rt_int_text(rt_loop_unix_ms(run->reconciler->loop), at->numbers[0]);
	rt_int_text(held, at->numbers[1]);
	rt_int_text(above, at->numbers[2]);
	ARGS(at, at->numbers[0], run->reconciler->name, LEASE_MS, at->numbers[1], at->numbers[2],
	     run->reconciler->digest);
	call(at, run, run->p, "reconcile", 2, done);
}

static void begin(struct run *run, int64_t above)
{
	call_reconcile(&run->call, run, 0, above, begun);
}

static void renew(struct rt_timer *timer);

static void renewed(struct inventory_call_op *op, int status)
{
	struct run *run = ((struct call *)op)->run;

	run->renewing = false;
	/* Behind the end nobody reconciles: no failure. */
	if (!run->ended && status == RT_OK && strcmp(op->texts[0], "0") == 0)
		run_fail(run, RT_UNREADY);
	if (run->ended)
		run_over(run);
	else
		rt_timer_start(run->reconciler->loop, &run->renew_timer, RENEW_MS, renew);
}

static void renew(struct rt_timer *timer)
{
	struct run *run = RT_CONTAINER_OF(timer, struct run, renew_timer);

	run->renewing = true;
	call_reconcile(&run->renewal, run, run->generation, 0, renewed);
}

static void finished(struct inventory_call_op *op, int status)
{
	struct run *run = ((struct call *)op)->run;

	if (status == RT_OK && strcmp(op->texts[0], "0") == 0)
		status = RT_UNREADY;
	if (!is_over(run, status))
		run_over(run);
}

static void run_finish(struct run *run)
{
	struct call *end = &run->call;

	if (run->sweeps) {
		ARGS(end, run->sweep);
		call(end, run, run->p, "swept", 1, finished);
		return;
	}
	rt_int_text(run->generation, end->numbers[0]);
	rt_int_text(rt_loop_unix_ms(run->reconciler->loop) +
			    run->reconciler->inventory->sweep_after_ms,
		    end->numbers[1]);
	ARGS(end, end->numbers[0], run->marks.data, run->digest, run->first ? "" : end->numbers[1]);
	call(end, run, run->p, "reconciled", 1, finished);
}

/* ---- runs: their life ---- */

static void count_run(const struct run *run)
{
	const struct inventory_reconcile_series *series =
		&run->reconciler->inventory->reconcile_series;
	const struct inventory_mended *done = &run->mended;

	if (series->runs == NULL)
		return;
	rt_series_add(series->released, (double)done->released);
	rt_series_add(series->committed, (double)done->committed);
	rt_series_add(series->reserved, (double)done->reserved);
	rt_series_add(series->cancelled, (double)done->cancelled);
	if (!run->failed && !run->sweeps && !run->first)
		rt_series_add(series->runs, 1);
}

static void log_run(const struct run *run)
{
	const struct inventory_mended *done = &run->mended;

	if (run->failed)
		RT_LOG(run->generation == 0 ? RT_DEBUG : RT_WARN, "a partition was not reconciled",
		       RT_I("partition", run->p), RT_S("status", rt_status_name(run->status)));
	else if (run->sweeps && done->released > 0)
		RT_LOG(RT_WARN, "stock that was held for no order is released",
		       RT_I("partition", run->p), RT_I("parts_released", done->released));
	else if (!run->sweeps && !run->first)
		RT_LOG(RT_WARN, "partition reconciled: a master was replaced or started again",
		       RT_I("partition", run->p), RT_I("generation", run->generation),
		       RT_I("parts_released", done->released),
		       RT_I("parts_committed", done->committed),
		       RT_I("parts_reserved", done->reserved),
		       RT_I("orders_cancelled", done->cancelled), RT_I("orders_owed", done->owed));
}

/* Everything but a renewal has ended. */
static void run_over(struct run *run)
{
	struct inventory_reconciler *reconciler = run->reconciler;
	struct watched *watched = &reconciler->partitions[run->p];

	run->ended = true;
	rt_timer_stop(reconciler->loop, &run->renew_timer);
	if (run->renewing)
		return;
	count_run(run);
	log_run(run);
	watched->asked_ms = 0;
	watched->outdated = true;
	watched->void_answer = watched->asking;
	watched->again_ms = rt_loop_now(reconciler->loop) + (run->failed ? AGAIN_MS : TICK_MS);
	watched->run = NULL;
	reconciler->runs--;
	if (!reconciler->stopping)
		rt_timer_start(reconciler->loop, &reconciler->timer, 0, tick);
	HASH_CLEAR(hh, run->seen);
	rt_arena_done(&run->arena);
	rt_buf_done(&run->marks);
	free(run->fences);
	free(run);
	rt_context_release(reconciler->inventory->context);
}

static struct run *run_new(struct inventory_reconciler *reconciler, int p)
{
	struct run *run = rt_alloc(sizeof(*run));

	run->reconciler = reconciler;
	run->p = p;
	run->fences = rt_alloc((size_t)reconciler->count * sizeof(*run->fences));
	reconciler->partitions[p].run = run;
	reconciler->runs++;
	rt_context_hold(reconciler->inventory->context);
	return run;
}

static void reconcile(struct inventory_reconciler *reconciler, int p)
{
	struct run *run = run_new(reconciler, p);

	rt_timer_start(reconciler->loop, &run->renew_timer, RENEW_MS, renew);
	begin(run, 0);
}

static void sweep(struct inventory_reconciler *reconciler, int p)
{
	struct run *run = run_new(reconciler, p);

	run->sweeps = true;
	run->generation = inventory_store_generation(reconciler->store, p);
	run->to_ms = rt_loop_unix_ms(reconciler->loop) - reconciler->inventory->sweep_after_ms;
	snprintf(run->sweep, sizeof(run->sweep), "%s", reconciler->partitions[p].sweep);
	scan_begin(run);
}

/* ---- watching ---- */

/* The marks of all partitions as they are now. */
static void look_at_marks(struct inventory_reconciler *reconciler)
{
	struct rt_buf marks = { NULL, 0, 0 };
	bool known = true;

	if (!reconciler->marks_changed)
		return;
	reconciler->marks_changed = false;
	reconciler->digest[0] = '\0';
	for (int q = 0; q < reconciler->count; q++) {
		known = known && reconciler->partitions[q].known;
		add_mark(&marks, reconciler->partitions[q].mark);
	}
	if (known)
		make_digest(&marks, reconciler->digest);
	rt_buf_done(&marks);
}

static bool is_in_step(const struct inventory_reconciler *reconciler, int p)
{
	const struct watched *watched = &reconciler->partitions[p];

	return watched->by[0] == '\0' && strcmp(watched->digest, reconciler->digest) == 0;
}

static void judge(struct inventory_reconciler *reconciler)
{
	int waiting = 0;

	look_at_marks(reconciler);
	for (int p = 0; p < reconciler->count; p++) {
		struct watched *watched = &reconciler->partitions[p];

		if (reconciler->digest[0] != '\0' && watched->known)
			inventory_store_set_generation(reconciler->store, p,
						       is_in_step(reconciler, p)
							       ? watched->generation
							       : INVENTORY_NOT_IN_STEP,
						       watched->known_epoch);
		waiting +=
			inventory_store_generation(reconciler->store, p) == INVENTORY_NOT_IN_STEP;
	}
	if (reconciler->inventory->reconcile_series.waiting != NULL)
		rt_series_set(reconciler->inventory->reconcile_series.waiting, waiting);
}

static void note_state(struct watched *watched, const struct inventory_call_op *op)
{
	struct inventory_reconciler *reconciler = watched->reconciler;

	if (!watched->known || strcmp(watched->mark, op->texts[0]) != 0)
		reconciler->marks_changed = true;
	watched->known = true;
	watched->known_epoch = watched->epoch;
	snprintf(watched->mark, sizeof(watched->mark), "%s", op->texts[0]);
	watched->generation = strtoll(op->texts[1], NULL, 10);
	snprintf(watched->digest, sizeof(watched->digest), "%s", op->texts[2]);
	snprintf(watched->by, sizeof(watched->by), "%s", op->texts[3]);
	watched->until_ms = strtoll(op->texts[4], NULL, 10);
	snprintf(watched->sweep, sizeof(watched->sweep), "%s", op->texts[5]);
}

static void state_asked(struct inventory_call_op *op, int status)
{
	struct watched *watched = RT_CONTAINER_OF(op, struct watched, op);
	struct inventory_reconciler *reconciler = watched->reconciler;

	watched->asking = false;
	if (watched->void_answer) {
		watched->void_answer = false;
		watched->asked_ms = 0;
	} else if (status == RT_OK) {
		watched->outdated = false;
		note_state(watched, op);
		judge(reconciler);
	}
	rt_context_release(reconciler->inventory->context);
}

static void ask(struct inventory_reconciler *reconciler, int p)
{
	struct watched *watched = &reconciler->partitions[p];
	uint64_t epoch = inventory_store_epoch(reconciler->store, p);
	int64_t now_ms = rt_loop_now(reconciler->loop), age_ms = now_ms - watched->asked_ms;
	bool waits = inventory_store_generation(reconciler->store, p) == INVENTORY_NOT_IN_STEP;

	if (watched->asking || (watched->asked_ms != 0 && epoch == watched->epoch &&
				age_ms < (waits ? TICK_MS : ASK_MS)))
		return;
	watched->asking = true;
	watched->asked_ms = now_ms;
	watched->epoch = epoch;
	rt_int_text(rt_loop_unix_ms(reconciler->loop), watched->now);
	watched->op.partition = p;
	watched->op.function = "state";
	watched->op.argv[0] = watched->now;
	watched->op.wanted = 6;
	watched->op.done = state_asked;
	rt_context_hold(reconciler->inventory->context);
	inventory_store_call(reconciler->store, &watched->op);
}

/* Does what there is to do in this partition, by this instance. */
static void take_up(struct inventory_reconciler *reconciler, int p)
{
	const struct watched *watched = &reconciler->partitions[p];
	int64_t now_ms = rt_loop_unix_ms(reconciler->loop);

	if (watched->run != NULL || watched->again_ms > rt_loop_now(reconciler->loop) ||
	    watched->outdated)
		return;
	if (!is_in_step(reconciler, p)) {
		if (watched->by[0] == '\0' || strcmp(watched->by, reconciler->name) == 0 ||
		    watched->until_ms <= now_ms)
			reconcile(reconciler, p);
	} else if (watched->sweep[0] != '\0' && strtoll(watched->sweep, NULL, 10) <= now_ms &&
		   inventory_store_generation(reconciler->store, p) != INVENTORY_NOT_IN_STEP) {
		sweep(reconciler, p);
	}
}

static void tick(struct rt_timer *timer)
{
	struct inventory_reconciler *reconciler =
		RT_CONTAINER_OF(timer, struct inventory_reconciler, timer);
	int first = (int)rt_loop_random(reconciler->loop, (uint64_t)reconciler->count);

	for (int p = 0; p < reconciler->count; p++)
		ask(reconciler, p);
	/* Several instances begin at different ones. */
	for (int i = 0;
	     i < reconciler->count && reconciler->runs < RUNS_MAX && reconciler->digest[0] != '\0';
	     i++)
		take_up(reconciler, (first + i) % reconciler->count);
	rt_timer_start(reconciler->loop, timer, TICK_MS, tick);
}

/* ---- its life ---- */

void inventory_reconcile_metrics(struct inventory_reconcile_series *series,
				 struct rt_metrics *metrics)
{
	static const char *const labels[] = { "to", NULL };
	struct rt_metric *parts;

	series->runs = rt_metric_plain(metrics, RT_COUNTER, "tandem_reconciliations_total",
				       "Partitions that were reconciled because a master was "
				       "replaced or started again.");
	parts = rt_metric(
		metrics, RT_COUNTER, "tandem_reconciled_parts_total",
		"Parts of split orders that reconciliations changed, by what they became; "
		"cancelled: orders that lost their reservation.",
		labels);
	series->released = rt_metric_series(parts, (const char *const[]){ "released" });
	series->committed = rt_metric_series(parts, (const char *const[]){ "committed" });
	series->reserved = rt_metric_series(parts, (const char *const[]){ "reserved" });
	series->cancelled = rt_metric_series(parts, (const char *const[]){ "cancelled" });
	series->waiting =
		rt_metric_plain(metrics, RT_GAUGE, "tandem_partitions_not_in_step",
				"Partitions whose split orders wait for a reconciliation.");
}

struct inventory_reconciler *inventory_reconciler_new(struct inventory *inventory)
{
	struct inventory_store *store = inventory->store;
	int count = inventory_store_partitions(store);
	struct inventory_reconciler *reconciler =
		rt_alloc(sizeof(*reconciler) + (size_t)count * sizeof(reconciler->partitions[0]));
	uint32_t random;

	rt_loop_random_bytes(inventory->loop, &random, sizeof(random));
	snprintf(reconciler->name, sizeof(reconciler->name), "%08" PRIx32, random);
	reconciler->inventory = inventory;
	reconciler->loop = inventory->loop;
	reconciler->store = store;
	reconciler->count = count;
	for (int p = 0; p < count; p++) {
		reconciler->partitions[p].reconciler = reconciler;
		inventory_store_set_generation(store, p, INVENTORY_NOT_IN_STEP, 0);
	}
	return reconciler;
}

void inventory_reconciler_start(struct inventory_reconciler *reconciler)
{
	tick(&reconciler->timer);
}

void inventory_reconciler_stop(struct inventory_reconciler *reconciler)
{
	reconciler->stopping = true;
	rt_timer_stop(reconciler->loop, &reconciler->timer);
}

void inventory_reconciler_free(struct inventory_reconciler *reconciler)
{
	if (reconciler != NULL)
		rt_timer_stop(reconciler->loop, &reconciler->timer);
	free(reconciler);
}
