/* reconcile.c - brings the records and parts of a partition together again after a loss of data (in_step.c says when).
 *
 *   begin     in p, by whoever sees that it is not in step: a lease, a new generation, and the marks that are seen now
 *   fence     in every q: calls of older generations are refused from now on; says the mark that is there, and when
 *             the one that p knew was last alive: what is older than that, and half a minute, was not lost
 *   begin     once more if some q knows a higher generation, which p has lost, or has another mark by now
 *   scan      p's parts in every q, and then the records of p, page by page: an order is noted if a part is not what the record
 *             says it should be. If p's own master is the same as before, only parts in those that are not, and records
 *             that name such a part. Nobody else changes these orders meanwhile: they are not in step
 *   mend      the orders that were noted (mend.c), in three passes, so that nothing is owed that somebody is about to give
 *             back: orders that have ended, that are sold, that are held (or have no record). If there are very many, some
 *             are mended before all are scanned
 *   end       in p: it is in step with the marks that were seen
 *
 * A sweep scans in the same way, and mends held parts without a record. Several partitions go side by side. The lease is renewed every second
 * and is for speed only: every call carries the generation, and is refused once somebody else has begun. Whatever
 * fails on the way, it begins again a second later. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>

#include "base/arena.h"
#include "reconcile_internal.h"

#define LEASE_MS "5000"
#define RENEW_MS 1000
#define SLACK_MS 30000 /* clocks, and commands under way */
#define PAGE     100   /* a fraction of a millisecond of a master that others use as well */
#define MENDS    256   /* side by side */
#define NUMBER   RT_INT_TEXT

/* A call with room for numbers as texts. */
struct call {
	struct inventory_call_op op; /* first */
	struct reconcile_run *run;
	char numbers[3][NUMBER];
};
struct fence {
	struct call call;
	uint64_t mark, before; /* as p knows it */
	char before_text[MARK_TEXT];
	int64_t known, alive_ms; /* 0: not known */
	bool changed;            /* another master than before */
};
/* A part that was found. */
struct part {
	UT_hash_handle hh; /* by key: "q order" */
	enum stock_state state;
	int q;
	bool has_record; /* it was compared with that */
	const char *order_id, *lines;
	char key[];
};
/* An order to mend. */
struct unequal {
	struct unequal *next;
	int found; /* the partition of the part that was found; -1: the record was */
	const char *order_id, *lines;
};
/* A reconciliation or a sweep of a partition. */
struct reconcile_run {
	struct inventory_reconciler *reconciler;
	int p;
	bool sweeps, failed, renewing, begun, ended;
	bool first; /* of the partition's life: nothing can be lost */
	int status;
	int64_t generation;
	struct call call, renewal;
	struct rt_timer renew_timer;
	struct fence *fences; /* by partition */
	uint64_t *marks;      /* under which it reconciles */
	struct rt_buf marks_text;
	char digest[MARK_TEXT], sweep[64];
	size_t waiting;
	/* Of the last reconciliation that has mended something. */
	int64_t last_ended_ms, last_since_ms;
	/* Another one has begun and did not end: nobody knows what it has mended. `before` is the generation that p knew. */
	bool follows_another;
	int64_t before;
	int64_t since_ms, to_ms;
	char from_text[NUMBER], cursor[NUMBER];
	int q; /* whose parts are scanned; the number of partitions: the records of p are */
	struct rt_arena arena;
	struct part *parts; /* hash */
	struct rt_arena unequal_arena;
	struct unequal *unequal, *next;
	size_t unequal_count;
	bool scanned; /* to the end */
	enum inventory_pass pass;
	struct inventory_mended mended;
};

/* ---- marks ---- */

void reconcile_marks_write(struct rt_buf *text, const uint64_t *marks, int count)
{
	text->length = 0;
	for (int q = 0; q < count; q++) {
		rt_buf_add(text, " ", q > 0);
		if (marks[q] == MARK_NONE)
			rt_buf_add(text, "-", 1);
		else
			rt_buf_printf(text, "%016" PRIx64, marks[q]);
	}
	rt_buf_add(text, "", 1);
	text->length--;
}

uint64_t reconcile_mark(const char *text)
{
	return text[0] == '\0' || text[0] == '-' ? MARK_NONE : strtoull(text, NULL, 16);
}

void reconcile_marks_read(const char *text, uint64_t *marks, int count)
{
	for (int q = 0; q < count; q++) {
		marks[q] = reconcile_mark(text);
		text += strcspn(text, " ");
		text += text[0] == ' ';
	}
}

void reconcile_marks_digest(const struct rt_buf *text, char digest[MARK_TEXT])
{
	uint8_t hash[32];

	rt_sha256(text->data, text->length, hash);
	for (int i = 0; i < 8; i++)
		snprintf(digest + 2 * i, 3, "%02x", hash[i]);
}

/* ---- calls ---- */

static void run_fail(struct reconcile_run *run, int status)
{
	run->failed = true;
	run->status = status;
}

static void run_over(struct reconcile_run *run);

static void call(struct call *call, struct reconcile_run *run, int partition, const char *function,
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
static bool is_over(struct reconcile_run *run, int status)
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

/* ---- mending ---- */

static void run_finish(struct reconcile_run *run);
static void scan(struct reconcile_run *run);
static void mend_more(struct reconcile_run *run);

static void mended(void *user, int status)
{
	struct reconcile_run *run = user;

	/* Of damaged data: it stays as it is, and audit names it. */
	if (status != RT_OK && status != RT_REMOTE)
		run_fail(run, status);
	if (--run->waiting == 0 && !is_over(run, RT_OK))
		mend_more(run);
}

static void mend_one(struct reconcile_run *run, const struct unequal *unequal)
{
	run->waiting++;
	inventory_mend(&(const struct inventory_mend){ .inventory = run->reconciler->inventory,
						       .partition = run->p,
						       .generation = run->generation,
						       .pass = run->pass,
						       .order_id = unequal->order_id,
						       .found = unequal->found,
						       .lines = unequal->lines,
						       .mended = &run->mended,
						       .done = mended,
						       .user = run });
}

/* A record that is of another pass ends its mending at once. */
static void mend_more(struct reconcile_run *run)
{
	if (run->next == NULL && !run->sweeps && run->pass + 1 < INVENTORY_PASSES) {
		run->pass++;
		run->next = run->unequal;
	}
	if (run->next == NULL) {
		rt_arena_reset(&run->unequal_arena, 0);
		run->unequal = NULL;
		run->unequal_count = 0;
		(run->scanned ? run_finish : scan)(run);
		return;
	}
	run->waiting = 1;
	for (int i = 0; i < MENDS && run->next != NULL; i++) {
		mend_one(run, run->next);
		run->next = run->next->next;
	}
	mended(run, RT_OK);
}

static void mend_begin(struct reconcile_run *run)
{
	run->pass = run->sweeps ? INVENTORY_PASS_SWEEP : INVENTORY_PASS_ENDED;
	run->next = run->unequal;
	mend_more(run);
}

static void note_unequal(struct reconcile_run *run, const char *order_id, int found,
			 const char *lines)
{
	struct rt_arena *arena = &run->unequal_arena;
	struct unequal *unequal = rt_arena_take(arena, sizeof(*unequal));

	*unequal = (struct unequal){
		.next = run->unequal,
		.found = found,
		.order_id = rt_arena_copy(arena, order_id, strlen(order_id)),
		.lines = rt_arena_copy(arena, lines, strlen(lines)),
	};
	run->unequal = unequal;
	run->unequal_count++;
}

/* ---- scanning ---- */

/* Whether parts in q, or their records, may have been lost or may have come back. */
static bool is_affected(const struct reconcile_run *run, int q)
{
	return run->sweeps || run->fences[run->p].changed || run->fences[q].changed;
}

static void part_key(struct rt_buf *key, int q, const char *order_id)
{
	key->length = 0;
	rt_buf_printf(key, "%d %s", q, order_id);
}

static struct part *part_find(const struct reconcile_run *run, int q, const char *order_id)
{
	struct rt_buf key = { NULL, 0, 0 };
	struct part *part;

	part_key(&key, q, order_id);
	HASH_FIND(hh, run->parts, key.data, key.length, part);
	rt_buf_done(&key);
	return part;
}

/* Beyond the bound parts are not compared, but mended as if they differed, which looks at each once more. */
static void note_part(struct reconcile_run *run, const char *order_id, enum stock_state state,
		      const char *lines)
{
	struct part *part = part_find(run, run->q, order_id);
	struct rt_buf key = { NULL, 0, 0 };

	if (part != NULL)
		return; /* a scan may find it twice */
	if (HASH_COUNT(run->parts) >= run->reconciler->inventory->compare_max) {
		note_unequal(run, order_id, run->q, lines);
		return;
	}
	part_key(&key, run->q, order_id);
	part = rt_arena_take(&run->arena, sizeof(*part) + key.length + 1);
	*part = (struct part){ .state = state, .q = run->q };
	memcpy(part->key, key.data, key.length);
	part->key[key.length] = '\0';
	part->order_id = part->key + key.length - strlen(order_id);
	part->lines = rt_arena_copy(&run->arena, lines, strlen(lines));
	HASH_ADD(hh, run->parts, key[0], key.length, part);
	rt_buf_done(&key);
}

/* Whether the part in q is what the record says. */
static bool is_equal(const struct reconcile_run *run, int q, const char *order_id,
		     enum stock_state record)
{
	struct part *part = part_find(run, q, order_id);
	enum stock_state state = part == NULL ? STOCK_NONE : part->state;
	const struct part_rule *rule = part_rule(state, inventory_mend_action(record));

	if (part != NULL)
		part->has_record = true;
	return rule->effect == STOCK_KEEP && rule->to == state;
}

/* Lines are as "sku=2@1 sku=1@3". Those that cannot be read are left to mend.c. */
static void compare_record(struct reconcile_run *run, const char *order_id, enum stock_state state,
			   const char *lines)
{
	struct inventory_record record = { .lines = NULL };
	bool equal = inventory_record_read_lines(lines, &record);

	for (size_t i = 0; i < record.line_count; i++) {
		int q = record.lines[i].partition;

		if (q < 0 || q >= run->reconciler->count)
			equal = false;
		else if (is_affected(run, q) && !is_equal(run, q, order_id, state))
			equal = false;
	}
	inventory_record_done(&record);
	if (!equal && !run->sweeps)
		note_unequal(run, order_id, -1, lines);
}

/* A record that was dropped, whose parts were in "@1@3". Where another master is now a part may be there again, however old it
 * is; nothing else tells of it. */
static void look_for_dropped(struct reconcile_run *run, const char *order_id, const char *places)
{
	for (const char *at = strchr(places, '@'); at != NULL; at = strchr(at + 1, '@')) {
		int q = (int)strtol(at + 1, NULL, 10);

		if (q < run->reconciler->count && run->fences[q].changed &&
		    part_find(run, q, order_id) == NULL)
			note_unequal(run, order_id, q, "");
	}
}

/* All parts and records were seen: parts without a record are left. The record may be an older one. */
static void scan_end(struct reconcile_run *run)
{
	const struct part *part;

	for (part = run->parts; part != NULL; part = part->hh.next)
		if (!part->has_record)
			note_unequal(run, part->order_id, part->q, part->lines);
	run->scanned = true;
	mend_begin(run);
}

static void scanned(struct inventory_call_op *op, int status)
{
	struct reconcile_run *run = ((struct call *)op)->run;
	int count = run->reconciler->count;

	if (is_over(run, status))
		return;
	snprintf(run->cursor, sizeof(run->cursor), "%s", op->texts[0]);
	for (size_t i = 1; i + 2 < op->count; i += 3) {
		enum stock_state state;

		if (!stock_state_of_letter(op->texts[i + 1][0], &state))
			continue;
		if (run->q < count)
			note_part(run, op->texts[i], state, op->texts[i + 2]);
		else if (state == STOCK_NONE)
			look_for_dropped(run, op->texts[i], op->texts[i + 2]);
		else
			compare_record(run, op->texts[i], state, op->texts[i + 2]);
	}
	if (strcmp(run->cursor, "0") == 0)
		run->q++;
	if (run->q > count)
		scan_end(run);
	else if (run->unequal_count >= run->reconciler->inventory->compare_max)
		mend_begin(run); /* and then goes on */
	else
		scan(run);
}

/* A page. Parts that are held are swept if they are old enough, whose records may be younger. */
static void scan(struct reconcile_run *run)
{
	struct call *page = &run->call;
	int count = run->reconciler->count;
	bool parts;

	while (run->q < count && !is_affected(run, run->q))
		run->q++;
	parts = run->q < count;
	rt_int_text(run->p, page->numbers[0]);
	rt_int_text(PAGE, page->numbers[1]);
	rt_int_text(parts ? run->to_ms : INT64_MAX, page->numbers[2]);
	ARGS(page, parts ? "parts" : "r", page->numbers[0], run->cursor, page->numbers[1],
	     run->from_text, page->numbers[2], run->sweeps ? (parts ? "R" : "RUCLB") : "RUCLBN");
	call(page, run, parts ? run->q : run->p, "scan", 1, scanned);
}

static void scan_begin(struct reconcile_run *run)
{
	rt_int_text(run->since_ms, run->from_text);
	snprintf(run->cursor, sizeof(run->cursor), "0");
	run->q = 0;
	scan(run);
}

/* ---- the beginning and the end of a reconciliation ---- */

static void begin(struct reconcile_run *run, int64_t above);

/* From when on something may have been lost; if that may be something that a reconciliation has mended, from when on that
 * looked. */
static int64_t since(const struct reconcile_run *run)
{
	int64_t since_ms = rt_loop_unix_ms(run->reconciler->loop);

	for (int q = 0; q < run->reconciler->count; q++) {
		const struct fence *fence = &run->fences[q];

		if (fence->changed)
			since_ms = RT_MIN(since_ms, fence->alive_ms);
	}
	since_ms = RT_MAX(since_ms - SLACK_MS, 0);
	if (run->last_ended_ms >= since_ms)
		since_ms = RT_MIN(since_ms, run->last_since_ms);
	return since_ms;
}

/* Whether other masters were there than when it began: it must say so in p first. */
static bool marks_moved(struct reconcile_run *run)
{
	bool moved = false;

	for (int q = 0; q < run->reconciler->count; q++) {
		moved = moved || run->marks[q] != run->fences[q].mark;
		run->marks[q] = run->fences[q].mark;
	}
	return moved;
}

static void fenced_all(struct reconcile_run *run)
{
	int64_t known = 0;
	bool moved = marks_moved(run);

	for (int q = 0; q < run->reconciler->count; q++)
		known = RT_MAX(known, run->fences[q].known);
	/* p has lost that somebody has begun. */
	run->follows_another = run->follows_another || known > run->before;
	if (moved || known >= run->generation) {
		begin(run, known);
		return;
	}
	run->since_ms = since(run);
	run->to_ms = INT64_MAX;
	run->first = run->generation == 1 && run->fences[run->p].before == MARK_NONE && known == 0;
	if (run->first)
		run_finish(run);
	else
		scan_begin(run);
}

static void fenced(struct inventory_call_op *op, int status)
{
	struct fence *fence = (struct fence *)op;
	struct reconcile_run *run = fence->call.run;

	if (status != RT_OK) {
		run_fail(run, status);
	} else {
		fence->known = strtoll(op->texts[0], NULL, 10);
		fence->mark = reconcile_mark(op->texts[1]);
		fence->alive_ms = strtoll(op->texts[2], NULL, 10);
		fence->changed = fence->before != fence->mark;
	}
	if (--run->waiting > 0)
		return;
	if (!is_over(run, RT_OK))
		fenced_all(run);
}

/* `before` is what the last reconciliation saw. */
static void fence(struct reconcile_run *run, const char *before)
{
	int count = run->reconciler->count;
	uint64_t *marks = rt_alloc((size_t)count * sizeof(*marks));

	reconcile_marks_read(before, marks, count);
	run->waiting = (size_t)count;
	for (int q = 0; q < count; q++) {
		struct fence *fence = &run->fences[q];
		struct rt_buf text = { NULL, 0, 0 };

		fence->before = marks[q];
		reconcile_marks_write(&text, &fence->before, 1);
		snprintf(fence->before_text, sizeof(fence->before_text), "%s", (char *)text.data);
		rt_buf_done(&text);
		rt_int_text(run->p, fence->call.numbers[0]);
		rt_int_text(run->generation, fence->call.numbers[1]);
		ARGS(&fence->call, fence->call.numbers[0], fence->call.numbers[1],
		     fence->before_text);
		call(&fence->call, run, q, "fence", 3, fenced);
	}
	free(marks);
}

static void begun(struct inventory_call_op *op, int status)
{
	struct reconcile_run *run = ((struct call *)op)->run;
	const char *by;

	if (is_over(run, status))
		return;
	run->generation = strtoll(op->texts[0], NULL, 10);
	if (run->generation == 0 || op->count < 6) {
		is_over(run, RT_UNREADY);
		return;
	}
	by = op->texts[4];
	run->follows_another =
		run->follows_another ||
		(by[0] != '\0' && (!run->begun || strcmp(by, run->reconciler->name) != 0));
	run->begun = true;
	run->before = strtoll(op->texts[5], NULL, 10);
	run->last_ended_ms = strtoll(op->texts[2], NULL, 10);
	run->last_since_ms = op->texts[3][0] == '\0' ? INT64_MAX : strtoll(op->texts[3], NULL, 10);
	fence(run, op->texts[1]);
}

static void call_reconcile(struct call *at, struct reconcile_run *run, int64_t held, int64_t above,
			   void (*done)(struct inventory_call_op *op, int status))
{
	rt_int_text(rt_loop_unix_ms(run->reconciler->loop), at->numbers[0]);
	rt_int_text(held, at->numbers[1]);
	rt_int_text(above, at->numbers[2]);
	ARGS(at, at->numbers[0], run->reconciler->name, LEASE_MS, at->numbers[1], at->numbers[2],
	     run->digest, run->marks_text.data);
	call(at, run, run->p, "reconcile", 2, done);
}

static void begin(struct reconcile_run *run, int64_t above)
{
	reconcile_marks_write(&run->marks_text, run->marks, run->reconciler->count);
	reconcile_marks_digest(&run->marks_text, run->digest);
	call_reconcile(&run->call, run, 0, above, begun);
}

static void renew(struct rt_timer *timer);

static void renewed(struct inventory_call_op *op, int status)
{
	struct reconcile_run *run = ((struct call *)op)->run;

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
	struct reconcile_run *run = RT_CONTAINER_OF(timer, struct reconcile_run, renew_timer);

	run->renewing = true;
	call_reconcile(&run->renewal, run, run->generation, 0, renewed);
}

static void finished(struct inventory_call_op *op, int status)
{
	struct reconcile_run *run = ((struct call *)op)->run;

	if (status == RT_OK && strcmp(op->texts[0], "0") == 0)
		status = RT_UNREADY;
	if (!is_over(run, status))
		run_over(run);
}

/* What is mended now can be lost again, although what it went by is older: then the next reconciliation must look as far
 * back as this one. */
static bool may_have_mended(const struct reconcile_run *run)
{
	const struct inventory_mended *done = &run->mended;

	return run->follows_another ||
	       done->released + done->committed + done->reserved + done->cancelled > 0;
}

static void run_finish(struct reconcile_run *run)
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
	rt_int_text(rt_loop_unix_ms(run->reconciler->loop), end->numbers[2]);
	ARGS(end, end->numbers[0], (char *)run->marks_text.data, run->digest,
	     run->first ? "" : end->numbers[1], run->from_text,
	     may_have_mended(run) ? end->numbers[2] : "");
	call(end, run, run->p, "reconciled", 1, finished);
}

/* ---- a run's life ---- */

static void count_run(const struct reconcile_run *run)
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

static void log_run(const struct reconcile_run *run)
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
static void run_over(struct reconcile_run *run)
{
	run->ended = true;
	rt_timer_stop(run->reconciler->loop, &run->renew_timer);
	if (run->renewing)
		return;
	count_run(run);
	log_run(run);
	run->reconciler->run_over(run->reconciler, run->p, run->failed ? run->status : RT_OK);
	HASH_CLEAR(hh, run->parts);
	rt_arena_done(&run->arena);
	rt_arena_done(&run->unequal_arena);
	rt_buf_done(&run->marks_text);
	free(run->marks);
	free(run->fences);
	free(run);
}

static struct reconcile_run *run_new(struct inventory_reconciler *reconciler, int p)
{
	struct reconcile_run *run = rt_alloc(sizeof(*run));
	size_t count = (size_t)reconciler->count;

	run->reconciler = reconciler;
	run->p = p;
	run->fences = rt_alloc(count * sizeof(*run->fences));
	run->marks = rt_alloc(count * sizeof(*run->marks));
	reconciler->partitions[p].run = run;
	return run;
}

void reconcile_begin(struct inventory_reconciler *reconciler, int p)
{
	struct reconcile_run *run = run_new(reconciler, p);

	for (int q = 0; q < reconciler->count; q++)
		run->marks[q] = reconciler->partitions[q].mark;
	rt_timer_start(reconciler->loop, &run->renew_timer, RENEW_MS, renew);
	begin(run, inventory_store_refused_for(reconciler->store, p));
}

void reconcile_sweep(struct inventory_reconciler *reconciler, int p)
{
	struct reconcile_run *run = run_new(reconciler, p);
	const char *sweep = reconciler->partitions[p].sweep;

	run->sweeps = true;
	run->generation = inventory_store_generation(reconciler->store, p);
	snprintf(run->sweep, sizeof(run->sweep), "%s", sweep);
	run->since_ms = strchr(sweep, ' ') == NULL ? 0 : strtoll(strchr(sweep, ' '), NULL, 10);
	run->to_ms = rt_loop_unix_ms(reconciler->loop) - reconciler->inventory->sweep_after_ms;
	scan_begin(run);
}
