/* reconcile_internal.h - shared by in_step.c, which sees that partitions must be reconciled, and reconcile.c, which
 * does it. */
#ifndef INVENTORY_RECONCILE_INTERNAL_H
#define INVENTORY_RECONCILE_INTERNAL_H

#include "base/base.h"
#include "inventory_internal.h"

/* A master's mark: the beginning of the id of its replication history, which is another one after each promotion and
 * each start. As a text: 16 hexadecimal digits. */
#define MARK_TEXT 17
#define MARK_NONE UINT64_MAX /* not known; as a text "-" */

struct reconcile_run;
/* What is known of a partition. */
struct watched {
	struct inventory_reconciler *reconciler;
	struct reconcile_run *run; /* NULL: none */
	struct inventory_call_op op;
	char now[RT_INT_TEXT], known_generation[RT_INT_TEXT];
	bool asking, known;
	bool outdated, void_answer;  /* since a run; the answer under way is from before it */
	int64_t asked_ms, again_ms;  /* monotonic */
	uint64_t epoch, known_epoch; /* of the last question, and of what is known */
	uint64_t mark;               /* of its master */
	/* By partition q: the mark of its master for which records here and parts there are in step. */
	uint64_t *seen;
	char digest[MARK_TEXT], by[64], sweep[64];
	int64_t generation, until_ms;
};

struct inventory_reconciler {
	struct inventory *inventory;
	struct rt_loop *loop;
	struct inventory_store *store;
	struct rt_timer timer;
	bool stopping;
	char name[RT_INT_TEXT];
	char digest[MARK_TEXT]; /* of the marks of now; "": some are not known */
	bool marks_changed;
	int count, runs;
	/* Called once for each run, when it has ended. */
	void (*run_over)(struct inventory_reconciler *reconciler, int p, int status);
	uint64_t *seen; /* of all partitions */
	struct watched partitions[];
};

/* reconcile.c. A mark, and the marks of all partitions' masters, as text; and a digest of that. */
uint64_t reconcile_mark(const char *text);
void reconcile_marks_write(struct rt_buf *text, const uint64_t *marks, int count);
void reconcile_marks_read(const char *text, uint64_t *marks,
			  int count); /* MARK_NONE if there are fewer */
void reconcile_marks_digest(const struct rt_buf *text, char digest[MARK_TEXT]);
/* Begins to reconcile, or to sweep, a partition. */
void reconcile_begin(struct inventory_reconciler *reconciler, int p);
void reconcile_sweep(struct inventory_reconciler *reconciler, int p);

#endif
