/* split.pml - orders whose stock lies in several partitions (decisions 029, 033, 034), for spin.
 *
 * Partition p has the orders, inventory's records of them and both streams; an order wants stock in two places,
 * each in a partition of its own, or the first of them in p as well (`together`). Two consumers serve the
 * requests of p; each may stand still after any step, and die. The masters of p and of one place may be replaced
 * by a replica that lacks the last writes. A reconciler brings records and parts together again, and sweeps.
 *
 * The rules are not written down here a second time: the checker is compiled together with order/order_step.c,
 * inventory/stock.c and inventory/parts.c (see `check`), and runs their tables and functions: what a request moves
 * an order to, what it does to a part, which step comes next and what is concluded. Written down here is what split.c, mend.c,
 * reconcile.c and functions.lua do around them; their names are in the comments.
 *
 * A call of a Redis function is one step here. Between two of them anybody else may do anything. Streams are
 * sets of messages, as in protocol.pml: taken in any order, taken again, gone unread.
 *
 * A failover: from some moment on the replica has no more of what its master writes, and later it is the master.
 * Connections to the one before are broken then (the epoch of split.c). With `wait` the answer of a step
 * is used only if the replica has it: each step comes in two variants then, replicated with all before it, or not
 * and its answer not used.
 *
 * Switches when it is translated: -DORDERS=n -DCONSUMERS=n (1 and 2), -DLOSSES: with failovers, -DRETURNS: what was sold comes
 * back, a piece of the first line and all the rest, in two returns or at once; not both of them.
 * Switches when it runs, words in the environment variable MODEL:
 *   items=00 wants=11,11   pieces in stock in both places; how many each order wants in each
 *   together        the first place is in p
 *   faults=n        so many messages at most are repeated or vanish, or consumers and reconcilers die; without
 *                   it any number
 *   expire, direct, no_client   the orders' timers expire them, too; answers are heard at once; no client confirms or cancels
 *   lose_p, lose_q  the master of p, of a place, is replaced
 *   wait            --durability replicated
 *   and the mistakes of `enum planted`, which are planted on purpose, to see that they are found. */

#ifndef ORDERS
#define ORDERS 1
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif

/* Of the enums of the rules, checked in init. */
#define RESERVE      0
#define COMMIT       1
#define RELEASE      2
#define EXPIRE       3
#define REJECT       4
#define REJECT_AGAIN 5
#define A_RESERVED    1
#define A_UNAVAILABLE 2
#define A_COMMITTED   3
#define A_RELEASED    4
#define TO_CONCLUDE   3 /* SPLIT_CONCLUDE */
#if defined(RETURNS) && defined(LOSSES)
#error what comes back is not among what may be lost
#endif

c_decl {
\#include "inventory/parts.h"
\#include "inventory/stock.h"
\#include "order/order_step.h"
};

/* ---- what is stored ---- */

/* In p. */
byte order_now[ORDERS];            /* 1 + enum order_state; 0: there is no such order */
byte requests[ORDERS];             /* a bit for each enum stock_request */
byte answers[ORDERS];              /* a bit for each enum stock_answer */
byte record[ORDERS];               /* enum stock_state */
byte generation, reconciling, seen; /* seen: the marks (bits) of the last reconciliation */
bool sweep;                        /* it is to be swept */
/* In the places: place k's of order o is at 2 * o + k. */
byte part[2 * ORDERS];             /* enum stock_state */
byte available[2], reserved[2], committed[2];
byte known[2];                     /* the generation of p there */

#ifdef RETURNS
byte returns[ORDERS];              /* the order's: enum returns */
byte back_requests[ORDERS], back_answers[ORDERS]; /* a bit for each version of them */
byte record_back[ORDERS];          /* the version that the record has served */
byte part_back[2 * ORDERS];        /* how many came back of a part */
byte given[ORDERS];                /* a bit for each return that a client was told of, or may have been */
#endif

/* What replicas have of p and of one place, while they lag. */
#ifdef LOSSES
byte had_order[ORDERS], had_requests[ORDERS], had_answers[ORDERS], had_record[ORDERS];
byte had_generation, had_reconciling, had_seen;
bool had_sweep;
byte had_part[2 * ORDERS], had_available[2], had_reserved[2], had_committed[2], had_known[2];
#endif
/* Of the masters of p, of the one place, of the other (if that is not p's): 1 its replica lags, 2 it was replaced,
 * 3 it never is. */
byte phase[3];

/* Stock that was sold to it is not there, and a person was told. */
bool owed[ORDERS];
/* What clients were told, with `wait`: bits; it is never lost. */
bool placed[ORDERS];
byte told[ORDERS];

/* ---- processes ---- */

/* Consumers. */
byte c_mode[CONSUMERS], c_request[CONSUMERS], c_order[CONSUMERS];
byte c_read[CONSUMERS];            /* the record */
byte c_generation[CONSUMERS];
byte c_epochs[CONSUMERS];          /* a bit for each master that was replaced by then */
byte c_noted[CONSUMERS];           /* of an event in memory: 0, or which master of p gave it */
byte c_step[CONSUMERS], c_verdict[CONSUMERS];
byte c_todo[CONSUMERS];            /* a bit for each place */
byte c_part[2 * CONSUMERS];        /* the states of the parts, as far as they are known */
#ifdef RETURNS
byte c_version[CONSUMERS];         /* of the returns in the request */
#endif
/* The reconciler. */
byte r_mode, r_generation, r_pass, r_order, r_record, r_action, r_todo, r_marks, r_above;
bool r_looked, r_missing, r_changed, r_gives_up;
byte faults;
/* What follows from all that, and from the switches, for the guards below (check). */
byte may_move[ORDERS];             /* bits: a client's confirm, cancel; the timer, in time and late; a return of a piece, of the rest */
byte r_may;                        /* bits: begin, sweep, have its next step unconfirmed */
bool serves;                       /* consumers think that p is in step */
bool well;                         /* each order has ended, and nothing is kept but what was bought */
bool waits;                        /* `wait` */
byte place_0;                      /* the master of the first place */

c_code {
\#include "docs/model/split.h"
};

#define FAULT          faults > 0
#define FAULT_IT       c_code { if (now.faults != 255) now.faults--; }
#define UNCONFIRMED(m) (waits && phase[m] == 1)
#define HAS(set, bit)  ((set) & (1 << (bit))) != 0

/* ---- what happens ---- */

/* A client places its order, and confirms or cancels it, or neither, whenever it likes. */
#define CLIENT(o)                                                                                  \
	:: d_step { !placed[o] -> c_code { place(o, true); } }                                     \
	:: d_step { !placed[o] && UNCONFIRMED(0) -> c_code { place(o, false); } }                  \
	MOVE(o, 0, ORDER_IN_CONFIRM)                                                               \
	MOVE(o, 1, ORDER_IN_CANCEL)                                                                \
	GIVING(o)
#define MOVE(o, bit, input)                                                                        \
	:: d_step { HAS(may_move[o], bit) -> c_code { ask(o, input, true); } }                     \
	:: d_step { HAS(may_move[o], bit) && UNCONFIRMED(0) -> c_code { ask(o, input, false); } }

/* Something comes back. The reply may be lost: then the client asks once more, with the same id. */
#ifdef RETURNS
#define GIVING(o)                                                                                  \
	:: d_step { HAS(may_move[o], 4) -> c_code { give(o, false); } }                            \
	:: d_step { HAS(may_move[o], 5) -> c_code { give(o, true); } }
#define HEARING_BACK(o) HEAR_BACK(o, 1) HEAR_BACK(o, 2)
#define HEAR_BACK(o, v)                                                                            \
	:: d_step { HAS(back_answers[o], v) -> c_code { hear_back(o, v, true); } }                 \
	:: d_step { HAS(back_answers[o], v) && FAULT -> FAULT_IT; c_code { hear_back(o, v, false); } } \
	:: d_step { HAS(back_answers[o], v) && FAULT -> FAULT_IT; c_code { vanish(&now.back_answers[o], v); } }
#define VANISHING_BACK(o) VANISH_BACK(o, 1) VANISH_BACK(o, 2)
#define VANISH_BACK(o, v)                                                                          \
	:: d_step { HAS(back_requests[o], v) && FAULT -> FAULT_IT; c_code { vanish(&now.back_requests[o], v); } }
#define TAKE_BACK(c, o, v)                                                                         \
	:: d_step { c_mode[c] == 0 && HAS(back_requests[o], v) -> c_code { take_back(c, o, v); } }
#define TAKING_BACK(c, o) TAKE_BACK(c, o, 1) TAKE_BACK(c, o, 2)
#else
#define GIVING(o)
#define HEARING_BACK(o)
#define VANISHING_BACK(o)
#define TAKING_BACK(c, o)
#endif

/* The order's timer runs out. */
#define TIMER(o)                                                                                   \
	RUN_OUT(o, 2, false)                                                                       \
	RUN_OUT(o, 3, true)
#define RUN_OUT(o, bit, late)                                                                      \
	:: d_step { HAS(may_move[o], bit) -> c_code { run_out(o, late, true); } }                  \
	:: d_step { HAS(may_move[o], bit) && UNCONFIRMED(0) -> c_code { run_out(o, late, false); } }

/* An answer is heard; or comes again; or vanishes. */
#define HEARING(o)                                                                                 \
	HEAR(o, A_RESERVED)                                                                        \
	HEAR(o, A_UNAVAILABLE)                                                                     \
	HEAR(o, A_COMMITTED)                                                                       \
	HEAR(o, A_RELEASED)                                                                        \
	HEARING_BACK(o)
#define HEAR(o, a)                                                                                 \
	:: d_step { HAS(answers[o], a) -> c_code { hear(o, a, true, true); } }                     \
	:: d_step { HAS(answers[o], a) && UNCONFIRMED(0) -> c_code { hear(o, a, true, false); } }  \
	:: d_step { HAS(answers[o], a) && FAULT -> FAULT_IT; c_code { hear(o, a, false, true); } } \
	:: d_step { HAS(answers[o], a) && FAULT -> FAULT_IT; c_code { vanish(&now.answers[o], a); } }

/* A request vanishes unread. */
#define VANISHING(o)                                                                               \
	VANISH(o, RESERVE)                                                                         \
	VANISH(o, COMMIT)                                                                          \
	VANISH(o, RELEASE)                                                                         \
	VANISH(o, EXPIRE)                                                                          \
	VANISH(o, REJECT)                                                                          \
	VANISH(o, REJECT_AGAIN)                                                                    \
	VANISHING_BACK(o)
#define VANISH(o, r)                                                                               \
	:: d_step { HAS(requests[o], r) && FAULT -> FAULT_IT; c_code { vanish(&now.requests[o], r); } }

/* A consumer takes a request, and goes through its steps. The record of a new order is not read. */
#if ORDERS > 1
#define TAKING(c) TAKE_ANY(c, 0) TAKE_ANY(c, 1)
#else
#define TAKING(c) TAKE_ANY(c, 0)
#endif
#define TAKE_ANY(c, o)                                                                             \
	TAKE(c, o, RESERVE)                                                                        \
	:: d_step { c_mode[c] == 0 && HAS(requests[o], RESERVE) && serves && record[o] != 0 ->     \
		c_code { take(c, o, RESERVE, false); } }                                           \
	TAKE(c, o, COMMIT)                                                                         \
	TAKE(c, o, RELEASE)                                                                        \
	TAKE(c, o, EXPIRE)                                                                         \
	TAKE(c, o, REJECT)                                                                         \
	TAKE(c, o, REJECT_AGAIN)                                                                   \
	TAKING_BACK(c, o)
#define TAKE(c, o, r)                                                                              \
	:: d_step { c_mode[c] == 0 && HAS(requests[o], r) && serves ->                             \
		c_code { take(c, o, r, true); } }                                                  \
	HOLD(c, o, r)
#ifdef LOSSES
/* It is read while p is not in step, or the consumer does not know yet that it is. An event that waits in memory is
 * tried again; an outage. */
#define HOLD(c, o, r)                                                                              \
	:: d_step { c_mode[c] == 0 && HAS(requests[o], r) && !serves -> c_code { hold(c, o, r); } } \
	:: d_step { c_mode[c] == 0 && HAS(requests[o], r) && serves && FAULT -> FAULT_IT;          \
		c_code { hold(c, o, r); } }
#define WAITING(c)                                                                                 \
	:: d_step { c_mode[c] == 1 && serves -> c_code { try_again(c); } }                         \
	:: d_step { c_mode[c] == 2 && FAULT -> FAULT_IT; c_code { put_off(c); } }
#else
#define HOLD(c, o, r)
#define WAITING(c)
#endif
#define ACT(c, k)                                                                                  \
	:: d_step { HAS(c_todo[c], k) -> c_code { act(c, k, true); } }                             \
	:: d_step { HAS(c_todo[c], k) && UNCONFIRMED(k + place_0) -> c_code { act(c, k, false); } }
#define MAY_CONCLUDE(c) c_mode[c] == 2 && c_step[c] == TO_CONCLUDE
/* At last: the conclusion; the same, and the request comes again; it dies. */
#define CONSUMER(c)                                                                                \
	TAKING(c)                                                                                  \
	ACT(c, 0)                                                                                  \
	ACT(c, 1)                                                                                  \
	WAITING(c)                                                                                 \
	:: d_step { MAY_CONCLUDE(c) -> c_code { conclude(c, false, true); } }                      \
	:: d_step { MAY_CONCLUDE(c) && UNCONFIRMED(0) -> c_code { conclude(c, false, false); } }   \
	:: d_step { MAY_CONCLUDE(c) && FAULT -> FAULT_IT; c_code { conclude(c, true, true); } }    \
	:: d_step { c_mode[c] != 0 && FAULT -> FAULT_IT; c_code { die(c); } }

#define FAILING(m) :: d_step { phase[m] < 2 -> c_code { fail(m); } }

/* It begins to reconcile, or to sweep; goes on; dies, and another one takes over. */
#define RECONCILER                                                                                 \
	:: d_step { HAS(r_may, 0) -> c_code { reconcile(); } }                                     \
	:: d_step { HAS(r_may, 1) -> c_code { sweep(); } }                                         \
	:: d_step { r_mode != 0 -> c_code { r_go_on(true); } }                                     \
	:: d_step { HAS(r_may, 2) -> c_code { r_go_on(false); } }                                  \
	:: d_step { r_mode != 0 && FAULT -> FAULT_IT; c_code { r_forget(); check(); } }

#define BEGIN                                                                                      \
	d_step { c_code {                                                                          \
		begin((const int[]){ RESERVE, COMMIT, RELEASE, EXPIRE, REJECT, REJECT_AGAIN,       \
				     A_RESERVED, A_UNAVAILABLE, A_COMMITTED, A_RELEASED,           \
				     TO_CONCLUDE });                                               \
	} }

/* What must always hold does not depend on who does what: one process has fewer states. */
#ifndef PROGRESS
active proctype all() {
	BEGIN;
end:	do
	CLIENT(0)
	TIMER(0)
	HEARING(0)
	VANISHING(0)
#if ORDERS > 1
	CLIENT(1)
	TIMER(1)
	HEARING(1)
	VANISHING(1)
#endif
	CONSUMER(0)
#if CONSUMERS > 1
	CONSUMER(1)
#endif
#ifdef LOSSES
	FAILING(0)
	FAILING(1)
	RECONCILER
#endif
	od
}
#else
/* Each process goes on for ever, if it can (weak fairness); but nothing of what goes wrong must happen, nobody must
 * confirm or cancel, and time goes on, so that what is stuck does not look like an end. */
proctype wrong() {
	do
	CLIENT(0)
	VANISHING(0)
#ifdef LOSSES
	FAILING(0)
	FAILING(1)
#endif
	:: placed[0] -> break
	od
}
proctype timer() { do TIMER(0) od }
proctype hearing() { do HEARING(0) od }
proctype consumer_0() { do CONSUMER(0) od }
#if CONSUMERS > 1
proctype consumer_1() { do CONSUMER(1) od }
#endif
#ifdef LOSSES
proctype reconciler() { do RECONCILER od }
#endif
init {
	BEGIN;
	atomic {
		run wrong();
		run timer();
		run hearing();
		run consumer_0();
#if CONSUMERS > 1
		run consumer_1();
#endif
#ifdef LOSSES
		run reconciler()
#endif
	}
	do
	:: d_step { true -> skip }
	od
}

ltl progress { <>[] well }
#endif
