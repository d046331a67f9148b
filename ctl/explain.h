/* explain.h - the facts about an order, and the explanation made from them.
 *
 * explain.c gathers the facts from Redis, explain_why.c (pure) turns them into the two sentences
 * at the end: why the order has its status, and what happens next. */
#ifndef CTL_EXPLAIN_H
#define CTL_EXPLAIN_H

#include "ctl.h"
#include "inventory/stock.h"
#include "order/order_step.h"

/* Where an event is on its way to the group that must process it. */
struct explain_delivery {
	enum {
		EXPLAIN_NO_EVENT, /* there is none */
		EXPLAIN_QUEUED,   /* in the stream, not delivered yet */
		EXPLAIN_PENDING,  /* delivered, not acknowledged */
		EXPLAIN_ASIDE,    /* set aside by its reader, which retries it */
		EXPLAIN_DONE,     /* acknowledged */
		EXPLAIN_LOST,     /* not delivered, and no longer in the stream */
		EXPLAIN_DEAD,     /* in the dead letters */
	} where;
	char type[48];             /* short: "OrderPlaced" */
	char stream_id[CTL_PLACE]; /* of its entry; DEAD: of the dead letter */
	uint64_t seq;
	int64_t ahead;      /* QUEUED: events before it */
	char consumer[128]; /* PENDING */
	int64_t idle_ms, deliveries;
	int64_t aside_ms, failed; /* ASIDE: how long; how often */
	char waits[256];          /* ASIDE: for what */
	char reason[256];         /* DEAD */
};

struct explain_facts {
	int64_t now_ms;
	enum order_state state;
	const char *status_reason; /* "" : none */
	uint32_t attempt;
	int64_t timer_ms; /* unix; -1: none */
	struct explain_delivery request, answer;
	enum stock_state reservation;
	struct ctl_readers inventory, order; /* of the order's and of inventory's stream */
};

/* explain_stock.c: the same for what is held for an order, and for a SKU. The exit code. */
int explain_reservation(struct ctl *ctl, const char *order_id);
int explain_sku(struct ctl *ctl, const char *sku);
/* explain_archive.c: of an order that Redis does not have. */
int explain_archived(struct ctl *ctl, const char *order_id);

/* Both sentences, for people. Freed with rt_buf_done; ends with a NUL that length does not count. */
void explain_because(const struct explain_facts *facts, struct rt_buf *text);
void explain_next(const struct explain_facts *facts, struct rt_buf *text);

#endif
