/* protocol.pml - the protocol between the two domains, for spin: ORDERS orders want one piece each of
 * a SKU of which there are ITEMS, while messages are lost, repeated and reordered, processes die, and
 * clients change their minds.
 *
 * The rules are not written down here a second time: the checker is compiled together with
 * order/order_step.c and inventory/stock.c and runs their tables (see `check`).
 *
 * What is one atomic step in the services (one Redis function call: state, event and acknowledgement) is
 * one step here. Streams are sets of messages, taken in any order: a message that is taken may stay (it
 * comes again) or vanish unread (it is lost). A process that dies forgets what it had read but not
 * stored; that is the timer's input here, and for a message it is the same as not having read it.
 *
 * Switches for spin:
 *   -DORDERS=n -DITEMS=n   2 and 1
 *   -DFAULTS=n             so many faults at most; without it any number (not for progress)
 *   -DONE_STEP_TIMER       see proctype timer
 *   -DRETURNS              what was sold may come back, once
 *   -DLOSE_RECORD          a fault more: the reservation of an order that was refused is lost, stock
 *                          comes in, and the order's request is repeated
 * and for the compiler: -DBUG_…, a mistake planted on purpose, to see that it is found. */

#ifndef ORDERS
#define ORDERS 2
#endif
#ifndef ITEMS
#define ITEMS 1
#endif

#ifdef LOSE_RECORD
#define RECORDS_VANISH 1
#else
#define RECORDS_VANISH 0
#endif

c_decl {
\#include <stdarg.h>
\#include <stdbool.h>
\#include <stdio.h>
\#include <string.h>
\#include "inventory/stock.h"
\#include "order/order_step.h"
};

/* Orders. */
bool placed[ORDERS];
byte order_now[ORDERS];     /* enum order_state */
bool settled[ORDERS];       /* as order_step.c says of it */
byte timer_read[ORDERS];    /* 1 + the input that a timer process decided on, not yet stored */
/* Inventory. */
byte held_now[ORDERS];      /* enum stock_state */
byte available, reserved, committed;
/* Streams: a bit for each enum stock_request, and for each enum stock_answer. */
byte requests[ORDERS], answers[ORDERS];
byte came_in;               /* stock, after the start */
bool came_back[ORDERS];     /* its client returned it (order/order_return.c: once, and only what is sold) */
#ifdef FAULTS
byte faults = FAULTS;
#endif
/* Arguments of the steps below. */
hidden byte x_order, x_request, x_answer;

c_code {
	extern void (*Uerror)(char *); /* spin's own: reports, and writes the way here */
	extern int readtrail;          /* spin's own: a way is shown again */

	/* Tells a step, when a way is shown again. */
	static void say(const char *format, ...)
	{
		va_list args;

		if (!readtrail)
			return;
		va_start(args, format);
		printf("= ");
		vprintf(format, args);
		va_end(args);
	}
	static const char *short_name(const char *type)
	{
		return type != NULL ? strrchr(type, '.') + 1 : "-";
	}

	/* Which request inventory gets to read when a rule's event was published; -1: none. */
	static int request_of(const struct order_rule *rule)
	{
		enum stock_request request;
		const char *type = order_event_type(rule->event);

\#ifdef BUG_SKIP_COMPENSATION
		if (rule->event == ORDER_EV_REJECTED)
			return -1;
\#endif
		return type != NULL && stock_request_parse(type, rule->verdict == ORDER_AGAIN ? 2 : 1,
							   &request)
			       ? (int)request
			       : -1;
	}

	/* The outcomes: what may never change once it is there. */
	static const char *outcome(int state)
	{
		return order_state_final(state) ? order_state_status(state) : "";
	}

	static void check(void);

	/* One step of the order service: order_place. */
	static void order_place(void)
	{
		now.placed[x_order] = 1;
		now.order_now[x_order] = ORDER_PENDING;
		now.requests[x_order] |= 1 << STOCK_REQ_RESERVE;
		say("order %d: placed\n", x_order);
		check();
	}

	/* One step of the order service: order_move. */
	static void order_move(enum order_input input)
	{
		int o = x_order, before = now.order_now[o], request;
		const struct order_rule *rule = order_rule(before, input);

\#ifdef BUG_CANCEL_ANYWAY
		if (input == ORDER_IN_CANCEL && rule->verdict == ORDER_REFUSES)
			rule = order_rule(ORDER_RESERVED, ORDER_IN_CANCEL);
\#endif
\#ifdef BUG_NO_RETRY
		if (input == ORDER_IN_REQUEST_UNANSWERED)
			return;
\#endif
		if (rule->verdict == ORDER_STAYS || rule->verdict == ORDER_REFUSES)
			return;
		if (rule->verdict == ORDER_MOVES)
			now.order_now[o] = rule->to;
		request = request_of(rule);
		if (request >= 0)
			now.requests[o] |= 1 << request;
		now.settled[o] = order_state_settled(now.order_now[o]);
		say("order %d: %s%s, publishes %s\n", o, order_state_status(now.order_now[o]),
		    now.settled[o] ? " and settled" : "", short_name(order_event_type(rule->event)));
		if (outcome(before)[0] != 0 && strcmp(outcome(before), outcome(now.order_now[o])) != 0)
			Uerror("an order changed its outcome");
		check();
	}

	/* What the timer means, by the state that is read now. */
	static void timer_look(bool late)
	{
		const struct order_clock clock = { .decision_ms = 1 };

		now.timer_read[x_order] =
			1 + order_timer_input(now.order_now[x_order], 0, late, &clock);
	}

	static void timer_act(void)
	{
		enum order_input input = now.timer_read[x_order] - 1;

		now.timer_read[x_order] = 0;
		order_move(input);
	}

	/* An answer arrives. */
	static void order_hear(void)
	{
		static const enum order_input inputs[] = {
			[STOCK_ANS_RESERVED] = ORDER_IN_INVENTORY_RESERVED,
			[STOCK_ANS_UNAVAILABLE] = ORDER_IN_INVENTORY_UNAVAILABLE,
			[STOCK_ANS_COMMITTED] = ORDER_IN_INVENTORY_COMMITTED,
			[STOCK_ANS_RELEASED] = ORDER_IN_INVENTORY_RELEASED,
			[STOCK_ANS_RETURNED] = ORDER_IN_INVENTORY_RETURNED,
		};

		order_move(inputs[x_answer]);
	}

	/* One step of the inventory service: inventory_request. */
	static void stock_request(void)
	{
		int o = x_order, state = now.held_now[o];
		const struct stock_rule *rule = stock_rule(state, x_request);
		int to, answer;

\#ifdef BUG_ANSWER_ANEW
		if (x_request == STOCK_REQ_RESERVE)
			rule = stock_rule(STOCK_NONE, STOCK_REQ_RESERVE);
\#endif
		to = rule->to;
		answer = rule->answer;
		if (rule->unexpected && !RECORDS_VANISH)
			Uerror("an unexpected pair, and nothing stored was lost");
		switch (rule->effect) {
		case STOCK_KEEP:
			break;
		case STOCK_TRY:
\#ifdef BUG_NO_CHECK
			now.available--, now.reserved++;
			break;
\#endif
			if (now.available > 0) {
				now.available--, now.reserved++;
			} else {
				to = STOCK_UNAVAILABLE;
				answer = STOCK_ANS_UNAVAILABLE;
			}
			break;
		case STOCK_COMMIT_IT:
			now.reserved--, now.committed++;
			break;
		case STOCK_GIVE_BACK:
			now.reserved--, now.available++;
			break;
		case STOCK_TAKE_BACK: /* what came back in all: the one piece, unless it did before */
\#ifdef BUG_RETURN_TWICE
			now.committed--, now.available++;
			break;
\#endif
			if (state == STOCK_COMMITTED)
				now.committed--, now.available++;
			break;
		}
\#ifdef BUG_NO_TOMBSTONE
		if (state == STOCK_NONE && to == STOCK_RELEASED)
			to = STOCK_NONE;
\#endif
\#ifdef BUG_SILENT_REPEAT
		if (to == state)
			answer = STOCK_ANS_NOTHING;
\#endif
		now.held_now[o] = to;
		if (answer != STOCK_ANS_NOTHING)
			now.answers[o] |= 1 << answer;
		say("inventory serves %s of order %d: it is %s, answers %s\n",
		    short_name(stock_request_type(x_request)), o, to == STOCK_NONE ? "unknown" : stock_state_text(to),
		    short_name(stock_answer_type(answer)));
		check();
	}

	/* The reservation of a refused order is lost. */
	static void lose_record(void)
	{
		now.held_now[x_order] = STOCK_NONE;
		now.available++, now.came_in++;
		now.requests[x_order] |= 1 << STOCK_REQ_RESERVE;
		say("the refusal of order %d is lost, stock comes in, and OrderPlaced comes again\n",
		    x_order);
		check();
	}

	/* What must hold in every state. */
	static void check(void)
	{
		int held = 0, sold = 0;

		for (int o = 0; o < ORDERS; o++) {
			int state = now.order_now[o], stock = now.held_now[o];

			held += stock == STOCK_RESERVED;
			sold += stock == STOCK_COMMITTED;
			if (!now.placed[o])
				continue;
			if ((state == ORDER_RESERVED && stock != STOCK_RESERVED) ||
			    (state == ORDER_CONFIRMING && stock != STOCK_RESERVED &&
			     stock != STOCK_COMMITTED))
				Uerror("a client was promised what is not held");
			if ((state == ORDER_CONFIRMED || state == ORDER_RETURNING) &&
			    !stock_state_sold(stock))
				Uerror("bought, but not sold");
			if (state == ORDER_CONFIRMED &&
			    (stock == STOCK_RETURNED) != now.came_back[o])
				Uerror("returned and settled, but not available");
			if (stock == STOCK_RETURNED && !now.came_back[o])
				Uerror("available, but not returned");
			if ((state == ORDER_CANCELLED || state == ORDER_EXPIRED) &&
			    stock != STOCK_RELEASED)
				Uerror("called off and settled, but not released");
			if (state == ORDER_REJECTED && stock != STOCK_UNAVAILABLE &&
			    !RECORDS_VANISH)
				Uerror("rejected, but not refused");
			if (stock_state_sold(stock) && state != ORDER_CONFIRMING &&
			    state != ORDER_CONFIRMED && state != ORDER_RETURNING)
				Uerror("sold, but not bought");
		}
		if (held + sold > ITEMS + now.came_in)
			Uerror("oversold");
		if (now.reserved != held || now.committed != sold)
			Uerror("reservations do not add up to the counters");
		if (now.available + now.reserved + now.committed != ITEMS + now.came_in)
			Uerror("stock leaked");
	}
};

/* Something goes wrong with a message, or a process dies: may it still? */
#ifdef FAULTS
#define FAULT           faults > 0 -> faults--
#define CLIENT_WAITS(o) !settled[o]
#else
#define FAULT           true
#define CLIENT_WAITS(o) true
#endif

#define SOLD_ORDER 5 /* ORDER_CONFIRMED, checked in init */

/* A client places an order, and confirms or cancels it, or neither, whenever it likes. */
proctype client(byte o) {
	d_step { x_order = o; c_code { order_place(); } };
end:	do
	:: break
	:: d_step { CLIENT_WAITS(o) -> x_order = o; c_code { order_move(ORDER_IN_CONFIRM); } }
	:: d_step { CLIENT_WAITS(o) -> x_order = o; c_code { order_move(ORDER_IN_CANCEL); } }
#ifdef RETURNS
	:: d_step { order_now[o] == SOLD_ORDER && !came_back[o] -> came_back[o] = true; x_order = o;
		c_code { order_move(ORDER_IN_RETURN); } }
#endif
	od
}

/* The order's timer: it is read in one step and acted upon in another, when things may have changed.
 * With ONE_STEP_TIMER at once: fewer states, for the dearest of the runs. */
#define TIMER_DUE(o) placed[o] && !settled[o] && timer_read[o] == 0
proctype timer(byte o) {
end:	do
#ifdef ONE_STEP_TIMER
	:: d_step { TIMER_DUE(o) -> x_order = o; c_code { timer_look(false); timer_act(); } }
	:: d_step { TIMER_DUE(o) -> x_order = o; c_code { timer_look(true); timer_act(); } }
#else
	:: d_step { TIMER_DUE(o) -> x_order = o; c_code { timer_look(false); } }
	:: d_step { TIMER_DUE(o) -> x_order = o; c_code { timer_look(true); } }
	:: d_step { timer_read[o] != 0 -> x_order = o; c_code { timer_act(); } }
	:: d_step { timer_read[o] != 0 && FAULT; timer_read[o] = 0 } /* died in between */
#endif
	od
}

/* Of the enums of the rules, checked in init. */
#define REFUSED_ORDER 3 /* ORDER_REJECTED */
#define HELD_STOCK    1 /* STOCK_RESERVED */
#define REFUSED_STOCK 2 /* STOCK_UNAVAILABLE */

#define IS_SET(set, bit) (set & (1 << bit)) != 0
#define TAKE(set, bit)   set = set & ~(1 << bit)

/* A message of the order stream is served; or served and not acknowledged, so that it comes again; or
 * lost. */
#define REQUEST(r)                                                                                 \
	:: d_step { IS_SET(requests[o], r) -> TAKE(requests[o], r); x_order = o; x_request = r;    \
		c_code { stock_request(); } }                                                      \
	:: d_step { IS_SET(requests[o], r) && FAULT; x_order = o; x_request = r;                   \
		c_code { stock_request(); } }                                                      \
	:: d_step { IS_SET(requests[o], r) && FAULT; TAKE(requests[o], r) }
proctype inventory_service(byte o) {
end:	do
	REQUEST(0)
	REQUEST(1)
	REQUEST(2)
	REQUEST(3)
	REQUEST(4)
	REQUEST(5)
#ifdef RETURNS
	REQUEST(6)
#endif
#ifdef LOSE_RECORD
	:: d_step { order_now[o] == REFUSED_ORDER && held_now[o] == REFUSED_STOCK && FAULT;
		x_order = o; c_code { lose_record(); } }
#endif
	od
}

/* The same for the inventory stream. */
#define ANSWER_KEPT(a)                                                                             \
	:: d_step { IS_SET(answers[o], a) -> TAKE(answers[o], a); x_order = o; x_answer = a;       \
		c_code { order_hear(); } }                                                         \
	:: d_step { IS_SET(answers[o], a) && FAULT; x_order = o; x_answer = a;                     \
		c_code { order_hear(); } }
#define ANSWER(a)                                                                                  \
	ANSWER_KEPT(a)                                                                             \
	:: d_step { IS_SET(answers[o], a) && FAULT; TAKE(answers[o], a) }
proctype order_service(byte o) {
end:	do
#ifdef LOSE_RECORD
	ANSWER_KEPT(1) /* nobody waits for it: if it was lost, too, only the audit would know */
#else
	ANSWER(1)
#endif
	ANSWER(2)
	ANSWER(3)
	ANSWER(4)
#ifdef RETURNS
	ANSWER(5)
#endif
	od
}

init {
	byte i = 0;

	c_code {
		if (REFUSED_ORDER != ORDER_REJECTED || HELD_STOCK != STOCK_RESERVED ||
		    REFUSED_STOCK != STOCK_UNAVAILABLE || SOLD_ORDER != ORDER_CONFIRMED)
			Uerror("the model's names for states are not those of the rules");
	};
	atomic {
		available = ITEMS;
		do
		:: i < ORDERS ->
			run client(i);
			run timer(i);
			run inventory_service(i);
			run order_service(i);
			i++
		:: else -> break
		od
	}
}

/* Every order ends, and inventory has answered its last request, for good. */
#ifdef LOSE_RECORD
ltl progress { <>[] (settled[0] && !(order_now[0] == REFUSED_ORDER && held_now[0] == HELD_STOCK)) }
#elif ORDERS == 1
ltl progress { <>[] settled[0] }
#else
ltl progress { <>[] (settled[0] && settled[1]) }
#endif
