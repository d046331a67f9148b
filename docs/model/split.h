/* split.h - the steps of split.pml, in C: each is one atomic step of its processes. `now` is spin's: the state.
 *
 * What a rule decides is asked of the rules. What split.c, mend.c, reconcile.c and functions.lua do around them
 * is written down here, under the names that they have there. */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void (*Uerror)(char *); /* spin's own: reports, and writes the way here */
extern int readtrail;          /* spin's own: a way is shown again */

/* Mistakes: what is taken out. */
#define PLANTED(X)                                                                                 \
	X(no_part_tombstone) /* a release leaves a part that is not there as it is */              \
	X(part_tried_again)  /* a part that was refused is held once there is stock */             \
	X(no_compare)        /* the conclusion does not look at the record */                      \
	X(ack_on_mismatch)   /* another record than was read: acknowledged, not decided anew */    \
	X(refuses_first)     /* a refusal is concluded, and nothing released */                    \
	X(answers_first) /* a repeated order that has ended is answered, and nothing released */   \
	X(no_lines)      /* a release carries no lines */                                          \
	X(no_take)       /* a commit takes nothing where there is no part */                       \
	X(no_generation) /* calls of older generations are served */                               \
	X(no_generation_in_p) /* only by p itself */                                               \
	X(no_epoch)           /* what one master said counts at the next */                        \
	X(no_other_time)      /* events of another time are begun again */                         \
	X(begun_only)         /* ... those that were read but not begun */                         \
	X(only_reserve)       /* ... those that are no OrderPlaced */                              \
	X(void_acked)         /* ... are acknowledged, as if they were served */                   \
	X(serves_always)      /* consumers do not wait until p is in step */                       \
	X(only_p)             /* ... until p is, but not until places are */                       \
	X(no_reconciling)     /* nobody reconciles */                                              \
	X(no_sweep)           /* nobody sweeps */                                                  \
	X(only_asks)          /* sweeping leaves no tombstone in the record */                     \
	X(not_undone)         /* reconciling leaves a sale without a record */                     \
	X(not_held_again)     /* ... and a part of a held record as it is when it is released */   \
	X(one_pass)           /* ... and takes orders as they come */                              \
	X(no_wait_in_place)   /* parts are not waited for */                                       \
	X(no_retry)           /* an unanswered request is not repeated */                          \
	X(given_anew)         /* a return that is repeated is one more */                          \
	X(back_adds)          /* a part adds what a request says to what came back */              \
	X(any_back_answer)    /* an answer to earlier returns settles the order */                 \
	X(back_unanswered)    /* returns that were served before are not answered again */
#define PLANTED_ENUM(name) name,
enum planted { none_planted, PLANTED(PLANTED_ENUM) };
static const char *const planted_names[] = { "",
#define PLANTED_NAME(name) #name,
					     PLANTED(PLANTED_NAME) };

static struct {
	int items[2], wants[2][2], faults;
	bool together, expire, direct, no_client, wait, lose[2];
	unsigned planted; /* a bit for each mistake */
} with;
static bool is_planted(enum planted mistake)
{
	return (with.planted & 1U << mistake) != 0;
}

static void word(const char *name)
{
	struct {
		const char *name;
		bool *at;
	} switches[] = { { "together", &with.together }, { "expire", &with.expire },
			 { "direct", &with.direct },     { "no_client", &with.no_client },
			 { "wait", &with.wait },         { "lose_p", &with.lose[0] },
			 { "lose_q", &with.lose[1] } };
	int *items = with.items, (*wants)[2] = with.wants;

	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
		if (strcmp(name, switches[i].name) == 0) {
			*switches[i].at = true;
			return;
		}
	for (size_t i = 1; i < sizeof(planted_names) / sizeof(planted_names[0]); i++)
		if (strcmp(name, planted_names[i]) == 0) {
			with.planted |= 1U << i;
			return;
		}
	if (sscanf(name, "items=%1d%1d", &items[0], &items[1]) == 2 ||
	    sscanf(name, "wants=%1d%1d,%1d%1d", &wants[0][0], &wants[0][1], &wants[1][0],
		   &wants[1][1]) == 4 ||
	    sscanf(name, "faults=%d", &with.faults) == 1)
		return;
	fprintf(stderr, "MODEL: no such switch: %s\n", name);
	exit(2);
}

static void check(void);
static int master_of(int place);

/* The numbers that the guards have for names of the rules. */
static void check_names(const int *numbers)
{
	static const int names[] = { STOCK_REQ_RESERVE,   STOCK_REQ_COMMIT,
				     STOCK_REQ_RELEASE,   STOCK_REQ_EXPIRE,
				     STOCK_REQ_REJECT,    STOCK_REQ_REJECT_AGAIN,
				     STOCK_ANS_RESERVED,  STOCK_ANS_UNAVAILABLE,
				     STOCK_ANS_COMMITTED, STOCK_ANS_RELEASED,
				     SPLIT_CONCLUDE };

	if (memcmp(numbers, names, sizeof(names)) != 0)
		Uerror("the model's numbers are not those of the rules");
}

static void begin(const int *numbers)
{
	const char *words = getenv("MODEL");
	char *copy = strdup(words != NULL ? words : "");

	for (int i = 0; i < 2; i++) {
		with.items[i] = with.wants[0][i] = with.wants[1][i] = 1;
		with.lose[i] = false;
	}
	with.faults = 255;
	check_names(numbers);
	for (char *at = copy + strspn(copy, " "), *end; *at != '\0'; at = end + strspn(end, " ")) {
		end = at + strcspn(at, " ");
		if (*end != '\0')
			*end++ = '\0';
		word(at);
	}
	free(copy);
	now.available[0] = with.items[0];
	now.available[1] = with.items[1];
	now.faults = with.faults;
	now.waits = with.wait;
	now.place_0 = master_of(0);
	for (int master = 0; master < 2; master++)
		now.phase[master] = with.lose[master] ? 0 : 3;
	check();
}

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
static const char *name_of(int stock_state)
{
	return stock_state == STOCK_NONE ? "none" : stock_state_text(stock_state);
}

/* ---- masters ---- */

static int master_of(int place)
{
	return with.together ? place : place + 1;
}
static int replaced(int master)
{
	return now.phase[master] == 2;
}
/* The marks of all masters; also what is seen of them over connections. */
static int marks(void)
{
	return replaced(0) | replaced(1) << 1;
}
static bool in_step(void)
{
	return is_planted(serves_always) || is_planted(no_reconciling) ||
	       (now.reconciling == 0 && (now.seen & 1) == replaced(0));
}

#ifdef LOSSES
static void copy_p(bool back)
{
	for (int o = 0; o < ORDERS; o++) {
		unsigned char *const pairs[][2] = {
			{ &now.order_now[o], &now.had_order[o] },
			{ &now.requests[o], &now.had_requests[o] },
			{ &now.answers[o], &now.had_answers[o] },
			{ &now.record[o], &now.had_record[o] },
		};

		for (int i = 0; i < 4; i++) {
			*pairs[i][!back] = *pairs[i][back];
			if (back)
				*pairs[i][1] = 0;
		}
	}
	if (!back) {
		now.had_generation = now.generation, now.had_reconciling = now.reconciling;
		now.had_seen = now.seen, now.had_sweep = now.sweep;
	} else {
		now.generation = now.had_generation, now.reconciling = now.had_reconciling;
		now.seen = now.had_seen, now.sweep = now.had_sweep;
		now.had_generation = now.had_reconciling = now.had_seen = now.had_sweep = 0;
	}
}
static void copy_place(int k, bool back)
{
	unsigned char *const pairs[][2] = {
		{ &now.available[k], &now.had_available[k] },
		{ &now.reserved[k], &now.had_reserved[k] },
		{ &now.committed[k], &now.had_committed[k] },
		{ &now.known[k], &now.had_known[k] },
		{ &now.part[k], &now.had_part[k] },
#if ORDERS > 1
		{ &now.part[2 + k], &now.had_part[2 + k] },
#endif
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		*pairs[i][!back] = *pairs[i][back];
		if (back)
			*pairs[i][1] = 0;
	}
}
static void copy_master(int master, bool back)
{
	if (master == 0)
		copy_p(back);
	for (int k = 0; k < 2; k++)
		if (master_of(k) == master)
			copy_place(k, back);
}
static void fail(int master)
{
	now.phase[master]++;
	copy_master(master, now.phase[master] == 2);
	if (now.phase[master] == 2)
		say("the master of %s is replaced; its last writes are lost\n",
		    master == 0 ? "p" : "a place");
	else
		say("from now on the replica of %s lags\n", master == 0 ? "p" : "a place");
	check();
}
#endif

/* Whether a step at this master has a variant whose answer is not used. */
static bool may_be_unconfirmed(int master)
{
	return with.wait && now.phase[master] == 1;
}
/* The replica has it, and all before it. */
static void confirm(int master)
{
#ifdef LOSSES
	if (may_be_unconfirmed(master))
		copy_master(master, false);
#endif
}

/* ---- the order service ---- */

#ifdef RETURNS
/* What came back, by the order. */
enum returns {
	GAVE_NOTHING,
	GAVE_PIECE,
	GAVE_REST /* after it */,
	GAVE_ALL,
	GAVE_PIECE_TWICE /* a mistake */
};
#define GIVEN_PIECE 1
#define GIVEN_REST  2
/* Each return is a version of the order. */
static int version_of(enum returns returns)
{
	static const int versions[] = { 0, 1, 2, 1, 2 };

	return versions[returns];
}
/* How many came back in all of this place's, when the order had this version. */
static int came_back(int o, int k, int version)
{
	enum returns returns = (enum returns)now.returns[o];

	if (version == 0)
		return 0;
	if (returns == GAVE_ALL || (returns == GAVE_REST && version == 2))
		return with.wants[o][k];
	return k == 0 ? version : 0;
}
static int came_back_now(int o, int k)
{
	return came_back(o, k, version_of((enum returns)now.returns[o]));
}
#define PART_BACK(o, k) now.part_back[2 * (o) + (k)]
#else
#define PART_BACK(o, k) 0
#endif

/* Which request inventory gets to read when a rule's event was published; -1: none. */
static int request_of(const struct order_rule *rule)
{
	enum stock_request request;
	const char *type = order_event_type(rule->event);

	return type != NULL && stock_request_parse(type, rule->verdict == ORDER_AGAIN ? 2 : 1,
						   &request)
		       ? (int)request
		       : -1;
}

/* The requests of a kind that wait to be read, and the one that is made now. A return is one to a version. */
static unsigned char *requests_of(int o, int request)
{
#ifdef RETURNS
	if (request == STOCK_REQ_RETURN)
		return &now.back_requests[o];
#endif
	return &now.requests[o];
}
static int request_bit(int o, int request)
{
#ifdef RETURNS
	if (request == STOCK_REQ_RETURN)
		return 1 << version_of((enum returns)now.returns[o]);
#endif
	return 1 << request;
}

static bool has_order(int o)
{
	return now.order_now[o] != 0;
}
static enum order_state order_state(int o)
{
	return (enum order_state)(now.order_now[o] - 1);
}
static bool is_settled(int o)
{
	return has_order(o) && order_state_settled(order_state(o));
}

#define TOLD_PLACED    1
#define TOLD_CONFIRMED 2
#define TOLD_CANCELLED 4
static void tell(int o, int what)
{
	if (with.wait)
		now.told[o] |= what;
	confirm(0);
}

/* order_place. */
static void place(int o, bool confirmed)
{
	now.placed[o] = true;
	now.order_now[o] = 1 + ORDER_PENDING;
	now.requests[o] |= 1 << STOCK_REQ_RESERVE;
	say("order %d is placed%s\n", o, confirmed ? "" : ", unconfirmed");
	if (confirmed)
		tell(o, TOLD_PLACED);
	check();
}

static bool outcome_changed(enum order_state before, enum order_state after)
{
	return order_state_final(before) &&
	       strcmp(order_state_status(before), order_state_status(after)) != 0;
}

/* order_move, but for the end of a step. */
static void move(int o, enum order_input input)
{
	enum order_state before = order_state(o);
	const struct order_rule *rule = order_rule(before, input);
	int request;

	if (!has_order(o) || rule->verdict == ORDER_STAYS || rule->verdict == ORDER_REFUSES)
		return;
	if (rule->verdict == ORDER_MOVES)
		now.order_now[o] = 1 + rule->to;
	request = request_of(rule);
	if (request >= 0)
		*requests_of(o, request) |= request_bit(o, request);
	say("order %d is %s%s\n", o, order_state_text(order_state(o)),
	    rule->verdict == ORDER_AGAIN ? ", and asks again" : "");
	if (outcome_changed(before, order_state(o)))
		Uerror("an order changed its outcome");
}

static bool may_ask(int o, enum order_input input)
{
	return !with.no_client && has_order(o) && !is_settled(o) &&
	       order_rule(order_state(o), input)->verdict == ORDER_MOVES;
}
static void ask(int o, enum order_input input, bool confirmed)
{
	move(o, input);
	if (confirmed)
		tell(o, input == ORDER_IN_CONFIRM ? TOLD_CONFIRMED : TOLD_CANCELLED);
	check();
}

#ifdef RETURNS
/* order_return: a return that is there already is none; nor is one of more than is left. */
static bool may_give(int o, bool rest)
{
	enum returns returns = (enum returns)now.returns[o];

	if (with.no_client || !has_order(o) ||
	    order_rule(order_state(o), ORDER_IN_RETURN)->verdict != ORDER_MOVES)
		return false;
	if (!rest && returns == GAVE_PIECE)
		return is_planted(given_anew) && with.wants[o][0] > 1;
	return returns == GAVE_NOTHING || (rest && returns == GAVE_PIECE);
}
static void give(int o, bool rest)
{
	enum returns returns = (enum returns)now.returns[o];

	if (rest)
		now.returns[o] = returns == GAVE_PIECE ? GAVE_REST : GAVE_ALL;
	else
		now.returns[o] = returns == GAVE_PIECE ? GAVE_PIECE_TWICE : GAVE_PIECE;
	now.given[o] |= rest ? GIVEN_REST : GIVEN_PIECE;
	move(o, ORDER_IN_RETURN);
	check();
}
/* An answer is one to a version. */
static void move_back(int o, int version)
{
	if (version == version_of((enum returns)now.returns[o]) || is_planted(any_back_answer))
		move(o, ORDER_IN_INVENTORY_RETURNED);
}
static void hear_back(int o, int version, bool gone)
{
	if (gone)
		now.back_answers[o] &= ~(1 << version);
	move_back(o, version);
	check();
}
#endif

/* What the timer does when it runs out; late: behind the deadline. */
static enum order_input timer_of(int o, bool late)
{
	const struct order_clock clock = { .decision_ms = 1 };

	return order_timer_input(order_state(o), 0, late, &clock);
}
static bool may_run_out(int o, bool late)
{
	const struct order_rule *rule;
	int request;

	if (!has_order(o) || is_settled(o))
		return false;
	rule = order_rule(order_state(o), timer_of(o, late));
	if (rule->verdict == ORDER_MOVES)
		return with.expire;
	if (rule->verdict != ORDER_AGAIN || is_planted(no_retry))
		return false;
	request = request_of(rule);
	return (*requests_of(o, request) & request_bit(o, request)) == 0;
}
static void run_out(int o, bool late, bool confirmed)
{
	move(o, timer_of(o, late));
	if (confirmed)
		confirm(0);
	check();
}

static const enum order_input inputs[] = {
	[STOCK_ANS_RESERVED] = ORDER_IN_INVENTORY_RESERVED,
	[STOCK_ANS_UNAVAILABLE] = ORDER_IN_INVENTORY_UNAVAILABLE,
	[STOCK_ANS_COMMITTED] = ORDER_IN_INVENTORY_COMMITTED,
	[STOCK_ANS_RELEASED] = ORDER_IN_INVENTORY_RELEASED,
};
static void hear(int o, int answer, bool gone, bool confirmed)
{
	if (gone)
		now.answers[o] &= ~(1 << answer);
	move(o, inputs[answer]);
	if (confirmed)
		confirm(0);
	check();
}

/* An answer is published, in a step of p. */
static void publish(int o, enum stock_answer answer)
{
	if (answer == STOCK_ANS_NOTHING)
		return;
#ifdef RETURNS
	if (answer == STOCK_ANS_RETURNED) {
		now.back_answers[o] |= 1 << now.record_back[o];
		return;
	}
#endif
	if (with.direct)
		move(o, inputs[answer]);
	else
		now.answers[o] |= 1 << answer;
}

/* ---- parts ---- */

static bool shift(unsigned char *from, unsigned char *to, int quantity)
{
	if (*from < quantity)
		return false;
	*from -= quantity, *to += quantity;
	return true;
}

#ifdef RETURNS
/* So many came back in all, as a request says: note_returned. */
static bool take_part_back(int o, int k, int wanted)
{
	unsigned char *back = &PART_BACK(o, k);
	int more = wanted - *back;

	if (is_planted(back_adds) && *back + wanted <= with.wants[o][k])
		more = wanted;
	if (wanted > with.wants[o][k])
		Uerror("more comes back than was sold");
	if (more <= 0)
		return true;
	*back += more;
	return shift(&now.committed[k], &now.available[k], more);
}
#endif

/* inventory_part for one order. Returns the state behind it. */
static enum stock_state part_act(int o, int k, enum part_action action, int back)
{
	unsigned char *at = &now.part[2 * o + k], *available = &now.available[k],
		      *reserved = &now.reserved[k], *committed = &now.committed[k];
	enum stock_state before = (enum stock_state) * at;
	struct part_rule rule = *part_rule(before, action);
	int quantity = with.wants[o][k];
	bool good = true;

	if (is_planted(no_part_tombstone) && before == STOCK_NONE && action == PART_RELEASE)
		rule.to = STOCK_NONE;
	if (is_planted(part_tried_again) && before == STOCK_UNAVAILABLE && action == PART_HOLD)
		rule = *part_rule(STOCK_NONE, PART_HOLD);
	if (is_planted(no_take) && rule.effect == STOCK_TAKE)
		rule = (struct part_rule){ before, action, STOCK_KEEP, before };
	if (is_planted(not_undone) && action == PART_TO_UNSOLD)
		rule = (struct part_rule){ before, action, STOCK_KEEP, before };
	if (is_planted(not_held_again) && before == STOCK_RELEASED && action == PART_TO_RESERVED)
		rule = (struct part_rule){ before, action, STOCK_KEEP, before };
	switch (rule.effect) {
	case STOCK_KEEP:
		break;
	case STOCK_TRY:
		if (!shift(available, reserved, quantity))
			rule.to = STOCK_UNAVAILABLE;
		break;
	case STOCK_TAKE:
		if (!shift(available, committed, quantity))
			rule.to = before;
		break;
	case STOCK_COMMIT_IT:
		good = shift(reserved, committed, quantity);
		break;
	case STOCK_GIVE_BACK:
		good = shift(reserved, available, quantity);
		break;
	case STOCK_HOLD_IT:
		good = shift(committed, reserved, quantity);
		break;
	case STOCK_CALL_BACK:
		good = shift(committed, available, quantity);
		break;
#ifdef RETURNS
	case STOCK_TAKE_BACK:
		good = take_part_back(o, k, back);
		break;
#endif
	default:
		Uerror("the model has no such effect");
	}
	if (!good)
		Uerror("less is reserved or sold than the part says");
	*at = rule.to;
	return rule.to;
}

static int all_places(int o)
{
	return (with.wants[o][0] > 0) | (with.wants[o][1] > 0) << 1;
}

/* ---- consumers: split.c ---- */

#define IDLE  0
#define WAITS 1 /* an event is in memory, and is tried again */
#define STEPS 2
static void sort_consumers(void)
{
#if CONSUMERS == 2 && !defined(PROGRESS)
	/* They are alike: states that differ in who is who are one. */
	unsigned char *const fields[] = { now.c_mode,       now.c_request, now.c_order, now.c_read,
					  now.c_generation, now.c_epochs,  now.c_noted, now.c_step,
					  now.c_verdict,    now.c_todo,
#ifdef RETURNS
					  now.c_version
#endif
	};
	int order = 0;

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]) && order == 0; i++)
		order = fields[i][0] - fields[i][1];
	if (order == 0)
		order = memcmp(&now.c_part[0], &now.c_part[2], 2);
	if (order <= 0)
		return;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		unsigned char first = fields[i][0];

		fields[i][0] = fields[i][1], fields[i][1] = first;
	}
	for (int k = 0; k < 2; k++) {
		unsigned char first = now.c_part[k];

		now.c_part[k] = now.c_part[2 + k], now.c_part[2 + k] = first;
	}
#endif
}

static void forget_step(int c)
{
	now.c_read[c] = now.c_generation[c] = now.c_epochs[c] = now.c_step[c] = 0;
	now.c_verdict[c] = now.c_todo[c] = now.c_part[2 * c] = now.c_part[2 * c + 1] = 0;
}
static void forget(int c)
{
	forget_step(c);
	now.c_mode[c] = now.c_request[c] = now.c_order[c] = now.c_noted[c] = 0;
#ifdef RETURNS
	now.c_version[c] = 0;
#endif
}
/* What the request of a return says came back in all of this place's. */
static int back_of(int c, int k)
{
#ifdef RETURNS
	if (now.c_request[c] == STOCK_REQ_RETURN)
		return came_back(now.c_order[c], k, now.c_version[c]);
#endif
	return 0;
}
/* take_own_lines: a return has lines where something came back. */
static int places_of(int c)
{
	if (now.c_request[c] == STOCK_REQ_RETURN)
		return (back_of(c, 0) > 0) | (back_of(c, 1) > 0) << 1;
	return all_places(now.c_order[c]);
}
static void acknowledge(int c)
{
#ifdef RETURNS
	if (now.c_request[c] == STOCK_REQ_RETURN) {
		now.back_requests[now.c_order[c]] &= ~(1 << now.c_version[c]);
		return;
	}
#endif
	now.requests[now.c_order[c]] &= ~(1 << now.c_request[c]);
}
/* Which master of p gave an event that is in memory. */
static int note_of(int epochs)
{
	return 1 + (epochs & 1);
}
/* Another master may not have it. */
static bool is_of_another_time(int c)
{
	if (now.c_noted[c] == 0 || is_planted(no_other_time) ||
	    (is_planted(only_reserve) && now.c_request[c] != STOCK_REQ_RESERVE))
		return false;
	return now.c_noted[c] != note_of(marks());
}

/* split_failed: the event is tried again. Where nothing is lost that is the same as to be read again. */
static void split_failed(int c)
{
	int note = note_of(now.c_epochs[c]);

#ifndef LOSSES
	forget(c);
	return;
#endif
	if (now.c_noted[c] == 0)
		now.c_noted[c] = note;
	forget_step(c);
	now.c_mode[c] = WAITS;
	say("the event waits in memory\n");
}

static void step_over(int c);

static void take_step(int c)
{
	int todo = 0;

	if (now.c_step[c] == SPLIT_CONCLUDE)
		return;
	if (now.c_step[c] == SPLIT_OWED) {
		say("a promised part is not there\n");
		if (ORDERS == 1 || with.wait)
			Uerror("stock that was promised is owed");
		split_failed(c);
		return;
	}
	for (int k = 0; k < 2; k++) {
		int state = now.c_part[2 * c + k];

		if ((places_of(c) & 1 << k) != 0 &&
		    (now.c_step[c] != SPLIT_RELEASE ||
		     (state != STOCK_UNAVAILABLE && state != STOCK_RELEASED)))
			todo |= 1 << k;
	}
	now.c_todo[c] = todo;
	if (todo == 0)
		step_over(c);
}

static void decide(int c)
{
	int request = now.c_request[c], read = now.c_read[c];

	now.c_part[2 * c] = now.c_part[2 * c + 1] = STOCK_NONE;
	now.c_verdict[c] = SPLIT_IS_DONE;
	now.c_step[c] = split_first(request, read);
	if (is_planted(no_lines) && request != STOCK_REQ_RESERVE && read == STOCK_NONE)
		now.c_step[c] = SPLIT_CONCLUDE;
	if (is_planted(answers_first) && request == STOCK_REQ_RESERVE && read != STOCK_NONE)
		now.c_step[c] = SPLIT_CONCLUDE;
	take_step(c);
}

static bool has_moved(int c)
{
	return now.c_epochs[c] != marks() && !is_planted(no_epoch);
}

/* part_over. */
static void step_over(int c)
{
	unsigned parts = 0;
	enum split_verdict verdict = now.c_verdict[c];

	if (has_moved(c)) {
		split_failed(c);
		return;
	}
	for (int k = 0; k < 2; k++)
		if ((places_of(c) & 1 << k) != 0)
			parts |= PARTS_ARE(now.c_part[2 * c + k]);
	now.c_step[c] = split_next(now.c_step[c], parts, &verdict);
	now.c_verdict[c] = verdict;
	if (is_planted(refuses_first) && now.c_step[c] == SPLIT_RELEASE)
		now.c_step[c] = SPLIT_CONCLUDE;
	take_step(c);
}

static void vanish(unsigned char *set, int bit)
{
	*set &= ~(1 << bit);
	say("a message vanishes\n");
	check();
}

/* The masters that a consumer speaks to which decides now. Where the last reconciliation saw another one, nothing is in step
 * for who speaks to the one of now (inventory_in_step): it waits. */
static int epochs(void)
{
	if (is_planted(no_reconciling) || is_planted(serves_always) || is_planted(only_p))
		return marks();
	return marks() & (now.seen | 1);
}

/* inventory_split_begin, or a request that met a record that is split (inventory_split_go_on). A new
 * order's record is not read. */
static void begin_request(int c, bool reads)
{
	int o = now.c_order[c], request = now.c_request[c];

	if (request == STOCK_REQ_COMMIT && now.record[o] == STOCK_NONE) {
		/* inventory_request serves it. */
#ifndef LOSSES
		Uerror("an unexpected pair, and nothing was lost");
#endif
		now.requests[o] &= ~(1 << request);
		forget(c);
		return;
	}
	now.c_mode[c] = STEPS;
	now.c_read[c] = reads ? now.record[o] : STOCK_NONE;
	now.c_generation[c] = now.generation;
	now.c_epochs[c] = epochs();
	say("a consumer begins %s of order %d: record %s\n", stock_request_type(request), o,
	    reads ? name_of(now.record[o]) : "not read");
	decide(c);
}
static void take(int c, int o, int request, bool reads)
{
	now.c_order[c] = o, now.c_request[c] = request;
	begin_request(c, reads);
	sort_consumers();
	check();
}
#ifdef RETURNS
static void take_back(int c, int o, int version)
{
	now.c_version[c] = version;
	take(c, o, STOCK_REQ_RETURN, true);
}
#endif
/* An event is read while p is not in step. */
static void hold(int c, int o, int request)
{
	now.c_order[c] = o, now.c_request[c] = request, now.c_mode[c] = WAITS;
	if (!is_planted(begun_only))
		now.c_noted[c] = note_of(marks());
	say("%s of order %d is read, and waits\n", stock_request_type(request), o);
	sort_consumers();
	check();
}
static void put_off(int c)
{
	split_failed(c);
	sort_consumers();
	check();
}
static void try_again(int c)
{
	int o = now.c_order[c];

	if (is_of_another_time(c)) {
		/* The consumer (events.c) hands it over only if the other one gives it, too: then it is taken anew. */
		say("an event of another time is forgotten\n");
		if (is_planted(void_acked))
			now.requests[o] &= ~(1 << now.c_request[c]);
		forget(c);
	} else {
		begin_request(c, now.c_noted[c] != 0 || now.c_request[c] != STOCK_REQ_RESERVE);
	}
	sort_consumers();
	check();
}

/* inventory_part. */
static void act(int c, int k, bool confirmed)
{
	static const enum part_action actions[] = { [SPLIT_HOLD] = PART_HOLD,
						    [SPLIT_COMMIT] = PART_COMMIT,
						    [SPLIT_RELEASE] = PART_RELEASE,
						    [SPLIT_RETURN] = PART_RETURN };
	static const char *const words[] = { [SPLIT_HOLD] = "hold",
					     [SPLIT_COMMIT] = "commit",
					     [SPLIT_RELEASE] = "release",
					     [SPLIT_RETURN] = "take back" };
	int o = now.c_order[c], step = now.c_step[c], state;

	if (now.c_generation[c] < now.known[k] && !is_planted(no_generation)) {
		say("a call of an older generation is refused\n");
		split_failed(c);
	} else {
		if (now.c_generation[c] > now.known[k])
			now.known[k] = now.c_generation[c];
		state = part_act(o, k, actions[step], back_of(c, k));
		say("%s order %d in place %d: %s%s\n", words[step], o, k, name_of(state),
		    confirmed ? "" : ", unconfirmed");
		now.c_todo[c] &= ~(1 << k);
		now.c_part[2 * c + k] = state;
		if (confirmed && !is_planted(no_wait_in_place))
			confirm(master_of(k));
		if (!confirmed)
			split_failed(c);
		else if (now.c_todo[c] == 0)
			step_over(c);
	}
	sort_consumers();
	check();
}

/* inventory_conclude for one order, but for the generation and the comparison. `version`: of a request that something came
 * back. Returns the state. */
static int write_record(int o, enum stock_state read, enum stock_request request,
			enum split_verdict verdict, int version)
{
	const struct stock_rule *rule = stock_rule(read, request);
	enum stock_state to = rule->to;
	enum stock_answer answer = rule->answer;

	if (verdict == SPLIT_IS_REFUSED) {
		to = STOCK_UNAVAILABLE;
		answer = STOCK_ANS_UNAVAILABLE;
	} else if (verdict == SPLIT_IS_RELEASED) {
		to = stock_rule(read, STOCK_REQ_RELEASE)->to;
		answer = stock_rule(read, STOCK_REQ_RELEASE)->answer;
	}
#ifndef LOSSES
	if (rule->unexpected)
		Uerror("an unexpected pair, and nothing was lost");
#endif
	now.record[o] = to;
#ifdef RETURNS
	if (is_planted(back_unanswered) && version > 0 && version <= now.record_back[o])
		answer = STOCK_ANS_NOTHING;
	if (version > now.record_back[o])
		now.record_back[o] = version;
#endif
	say("the record of order %d: %s -> %s\n", o, name_of(read), name_of(to));
	publish(o, answer);
	return to;
}

static void conclude(int c, bool stays, bool confirmed)
{
	int o = now.c_order[c], request = now.c_request[c], read = now.c_read[c], version = 0;

#ifdef RETURNS
	version = now.c_version[c];
#endif
	if ((now.c_epochs[c] & 1) != replaced(0) && !is_planted(no_epoch)) {
		say("the connection to p is gone\n");
		split_failed(c);
	} else if (now.c_generation[c] < now.generation && !is_planted(no_generation) &&
		   !is_planted(no_generation_in_p)) {
		say("a conclusion of an older generation is refused\n");
		split_failed(c);
	} else if (now.record[o] != read && !is_planted(no_compare)) {
		say("the record is another one now: %s\n", name_of(now.record[o]));
		now.c_read[c] = now.record[o];
		now.c_epochs[c] = epochs();
		if (is_planted(ack_on_mismatch)) {
			acknowledge(c);
			forget(c);
		} else {
			decide(c);
		}
	} else {
		write_record(o, read, request, now.c_verdict[c], version);
		if (!stays)
			acknowledge(c);
		if (confirmed)
			confirm(0);
		forget(c);
	}
	sort_consumers();
	check();
}

static void die(int c)
{
	say("a consumer dies\n");
	forget(c);
	sort_consumers();
	check();
}

/* ---- the reconciler: reconcile.c, mend.c ---- */

#define R_IDLE     0
#define R_FENCE    1 /* r_todo: masters */
#define R_READ     2 /* the record of r_order */
#define R_ACT      3 /* r_todo: places */
#define R_CONCLUDE 4
#define R_END      5
#define S_READ     6 /* sweeping */
#define S_CONCLUDE 7
#define S_ACT      8
#define S_END      9
static void r_forget(void)
{
	now.r_mode = now.r_generation = now.r_pass = now.r_order = now.r_record = 0;
	now.r_action = now.r_todo = now.r_marks = now.r_above = 0;
	now.r_looked = now.r_missing = now.r_changed = now.r_gives_up = 0;
}
static void r_failed(void)
{
	say("the reconciler is refused\n");
	r_forget();
}

static bool may_reconcile(void)
{
	return now.r_mode == R_IDLE && !is_planted(no_reconciling) &&
	       (now.reconciling != 0 || now.seen != marks());
}
/* FCALL inventory_reconcile. */
static void reconcile(void)
{
	int above = now.r_above;

	now.generation = (above > now.generation ? above : now.generation) + 1;
	now.reconciling = 1;
	r_forget();
	now.r_generation = now.generation;
	now.r_mode = R_FENCE;
	now.r_todo = with.together ? 3 : 7;
	say("a reconciliation begins: generation %d\n", now.generation);
	check();
}

static int pass_of(int state)
{
	if (is_planted(one_pass))
		return 0;
	switch (state) {
	case STOCK_COMMITTED:
		return 1;
	case STOCK_NONE:
	case STOCK_RESERVED:
		return 2;
	default:
		return 0;
	}
}
/* Whether what is in this place may have been lost, or its records: p's own master is another one than the last
 * reconciliation saw, or that of the place. */
static int affected_places(void)
{
	int changed = now.seen ^ now.r_marks, places = 0;

	for (int k = 0; k < 2; k++)
		places |= ((changed & 1) != 0 || (changed & 1 << master_of(k)) != 0) << k;
	return places;
}

static void r_seek(void)
{
	now.r_record = now.r_action = now.r_todo = 0;
	now.r_looked = now.r_missing = now.r_changed = now.r_gives_up = 0;
	now.r_mode = R_READ;
	for (; now.r_pass < 3; now.r_pass++, now.r_order = 0)
		for (; now.r_order < ORDERS; now.r_order++)
			if (pass_of(now.record[now.r_order]) == now.r_pass &&
			    (all_places(now.r_order) & affected_places()) != 0)
				return;
	now.r_order = now.r_pass = 0;
	now.r_mode = R_END;
}

/* FCALL inventory_fence, in the next master. */
static void r_fence(void)
{
	int master = (now.r_todo & 1) != 0 ? 0 : (now.r_todo & 2) != 0 ? 1 : 2;

	now.r_todo &= ~(1 << master);
	now.r_marks |= replaced(master) << master;
	for (int k = 0; k < 2; k++) {
		if (master_of(k) != master)
			continue;
		if (now.known[k] > now.r_above)
			now.r_above = now.known[k];
		if (now.known[k] < now.r_generation)
			now.known[k] = now.r_generation;
	}
	say("fenced: master %d\n", master);
	if (now.r_todo != 0)
		return;
	if (now.r_above >= now.r_generation) {
		now.r_mode = R_IDLE; /* begins once more, above that */
		now.r_generation = 0;
		return;
	}
	now.r_above = 0;
	r_seek();
}

static void r_act(enum part_action action)
{
	now.r_action = action;
	now.r_todo = all_places(now.r_order);
	now.r_missing = false;
	now.r_mode = R_ACT;
}
/* record_read of mend.c. */
static void r_read(void)
{
	static const enum part_action actions[] = { [STOCK_NONE] = PART_TO_UNSOLD,
						    [STOCK_RESERVED] = PART_TO_RESERVED,
						    [STOCK_UNAVAILABLE] = PART_TO_RELEASED,
						    [STOCK_COMMITTED] = PART_TO_COMMITTED,
						    [STOCK_RELEASED] = PART_TO_RELEASED };
	int state = now.record[now.r_order];

	if (now.r_looked ? state == now.r_record : pass_of(state) != now.r_pass) {
		now.r_order++;
		r_seek();
		return;
	}
	now.r_record = state;
	now.r_looked = true;
	now.r_changed = now.r_gives_up = false;
	say("the record of order %d is %s: its parts are brought in line\n", now.r_order,
	    name_of(state));
	r_act(actions[state]);
	/* Without a record, only the parts that were found. */
	if (state == STOCK_NONE)
		now.r_todo &= affected_places();
}

static void r_owed(void)
{
	int o = now.r_order;

	say("stock that was sold to order %d is not there\n", o);
	if (ORDERS == 1 || with.wait)
		Uerror("stock that was sold is owed");
	now.owed[o] = true;
	for (int other = 0; other < ORDERS; other++)
		for (int k = 0; k < 2; k++)
			if ((now.record[other] == STOCK_RELEASED ||
			     now.record[other] == STOCK_UNAVAILABLE) &&
			    now.part[2 * other + k] == STOCK_RESERVED &&
			    now.part[2 * o + k] != STOCK_COMMITTED && with.wants[o][k] > 0)
				Uerror("owed, while an order that has ended keeps it");
}
/* part_over of mend.c. */
static void r_parts_over(void)
{
	if (now.r_action == PART_TO_RESERVED && now.r_missing) {
		now.r_gives_up = true;
		r_act(PART_TO_RELEASED);
	} else if (now.r_gives_up) {
		now.r_mode = R_CONCLUDE;
	} else {
		if (now.r_action == PART_TO_COMMITTED && now.r_missing)
			r_owed();
		if (now.r_changed) {
			now.r_mode = R_READ;
		} else {
			now.r_order++;
			r_seek();
		}
	}
}
/* inventory_part, in the next place. */
static void r_part(bool confirmed)
{
	int k = (now.r_todo & 1) != 0 ? 0 : 1, o = now.r_order;
	int before = now.part[2 * o + k], state;

	if (now.r_generation < now.known[k]) {
		r_failed();
		return;
	}
	now.known[k] = now.r_generation;
	state = part_act(o, k, now.r_action, 0);
	say("reconciling order %d in place %d: %s -> %s\n", o, k, name_of(before), name_of(state));
	now.r_changed |= state != before;
	now.r_missing |= (now.r_action == PART_TO_RESERVED && state != STOCK_RESERVED) ||
			 (now.r_action == PART_TO_COMMITTED && state != STOCK_COMMITTED);
	now.r_todo &= ~(1 << k);
	if (confirmed)
		confirm(master_of(k));
	else
		r_failed();
	if (confirmed && now.r_todo == 0)
		r_parts_over();
}
/* The record says RELEASED from now on, if it is still this one. */
static void r_conclude(enum stock_state read, bool confirmed)
{
	if (now.r_generation < now.generation) {
		r_failed();
		return;
	}
	if (now.record[now.r_order] == read)
		write_record(now.r_order, read, STOCK_REQ_RELEASE, SPLIT_IS_DONE, 0);
	if (confirmed)
		confirm(0);
	else
		r_failed();
}
/* FCALL inventory_reconciled. */
static void r_end(void)
{
	if (now.generation != now.r_generation) {
		r_failed();
		return;
	}
	now.seen = now.r_marks;
	now.reconciling = 0;
	now.sweep = !is_planted(no_sweep);
	say("p is in step\n");
	r_forget();
}

static bool may_sweep(void)
{
	return now.r_mode == R_IDLE && now.sweep && in_step() && now.seen == marks();
}
/* The next part that is held, and its record. r_pass is the place. */
static void s_seek(void)
{
	for (; now.r_order < ORDERS; now.r_order++, now.r_pass = 0)
		for (; now.r_pass < 2; now.r_pass++)
			if (now.part[2 * now.r_order + now.r_pass] == STOCK_RESERVED) {
				now.r_mode = S_READ;
				return;
			}
	now.r_pass = now.r_order = 0;
	now.r_mode = S_END;
}
static void sweep(void)
{
	r_forget();
	now.r_generation = now.generation;
	say("p is swept\n");
	s_seek();
	check();
}
static void s_next(void)
{
	now.r_pass++;
	s_seek();
}
static void s_read(void)
{
	int state = now.record[now.r_order];

	say("sweeping order %d: record %s\n", now.r_order, name_of(state));
	if (state == STOCK_NONE)
		now.r_mode = is_planted(only_asks) ? S_ACT : S_CONCLUDE;
	else if (state == STOCK_RELEASED || state == STOCK_UNAVAILABLE)
		now.r_mode = S_ACT;
	else
		s_next();
}
static void s_act(bool confirmed)
{
	if (now.r_generation < now.known[now.r_pass]) {
		r_failed();
		return;
	}
	say("sweeping order %d in place %d: %s\n", now.r_order, now.r_pass,
	    name_of(part_act(now.r_order, now.r_pass, PART_RELEASE, 0)));
	if (confirmed) {
		confirm(master_of(now.r_pass));
		s_next();
	} else {
		r_failed();
	}
}

/* The next step of what is under way. */
static int r_master(void)
{
	switch (now.r_mode) {
	case R_ACT:
		return master_of((now.r_todo & 1) != 0 ? 0 : 1);
	case S_ACT:
		return master_of(now.r_pass);
	case R_CONCLUDE:
	case S_CONCLUDE:
		return 0;
	default:
		return 2; /* is not waited for */
	}
}
static void r_go_on(bool confirmed)
{
	switch (now.r_mode) {
	case R_FENCE:
		r_fence();
		break;
	case R_READ:
		r_read();
		break;
	case R_ACT:
		r_part(confirmed);
		break;
	case R_CONCLUDE:
		r_conclude(STOCK_RESERVED, confirmed);
		if (now.r_mode == R_CONCLUDE)
			now.r_mode = R_READ;
		break;
	case R_END:
		r_end();
		break;
	case S_READ:
		s_read();
		break;
	case S_CONCLUDE:
		r_conclude(STOCK_NONE, confirmed);
		if (now.r_mode == S_CONCLUDE)
			now.r_mode = S_READ;
		break;
	case S_ACT:
		s_act(confirmed);
		break;
	case S_END:
		now.sweep = 0;
		r_forget();
		break;
	}
	check();
}

/* ---- what must hold ---- */

/* What the order's parts are: a set of states. */
static unsigned parts_of(int o)
{
	unsigned parts = 0;

	for (int k = 0; k < 2; k++)
		if ((all_places(o) & 1 << k) != 0)
			parts |= PARTS_ARE(now.part[2 * o + k]);
	return parts;
}
#define KEPT (PARTS_ARE(STOCK_RESERVED) | PARTS_ARE(STOCK_COMMITTED))

static void check_counters(void)
{
	for (int k = 0; k < 2; k++) {
		int held = 0, sold = 0;

		for (int o = 0; o < ORDERS; o++) {
			int state = now.part[2 * o + k], wanted = with.wants[o][k];

			held += state == STOCK_RESERVED ? wanted : 0;
			sold += state == STOCK_COMMITTED ? wanted - PART_BACK(o, k) : 0;
		}
		if (held + sold > with.items[k])
			Uerror("oversold");
		if (now.reserved[k] != held || now.committed[k] != sold ||
		    now.available[k] + held + sold != with.items[k])
			Uerror("parts do not add up to the counters");
	}
}

#ifdef RETURNS
/* What came back is what clients gave, each return once; and it is available when the order is settled. */
static void check_returns(int o)
{
	for (int k = 0; k < 2; k++) {
		int given = (now.given[o] & GIVEN_REST) != 0        ? with.wants[o][k]
			    : k == 0 && now.given[o] == GIVEN_PIECE ? 1
								    : 0;
		int back = came_back_now(o, k);

		if (back != given)
			Uerror("another number came back than was given");
		if (PART_BACK(o, k) > back)
			Uerror("more is available again than came back");
		if (order_state(o) == ORDER_CONFIRMED && PART_BACK(o, k) != back)
			Uerror("settled, but what came back is not available");
	}
}
#endif

/* While nothing stored is lost. */
static void check_promises(int o)
{
	unsigned parts = parts_of(o);
	enum order_state state = order_state(o);

	if (!has_order(o)) {
		if (parts != PARTS_ARE(STOCK_NONE))
			Uerror("parts without an order");
		return;
	}
	if ((state == ORDER_RESERVED && parts != PARTS_ARE(STOCK_RESERVED)) ||
	    (state == ORDER_CONFIRMING && (parts & ~KEPT) != 0))
		Uerror("a client was promised what is not held");
	if ((state == ORDER_CONFIRMED || state == ORDER_RETURNING) &&
	    parts != PARTS_ARE(STOCK_COMMITTED))
		Uerror("bought, but not sold");
	if (state != ORDER_CONFIRMED && is_settled(o) && (parts & KEPT) != 0)
		Uerror("stock is kept by an order that has ended");
	if ((parts & PARTS_ARE(STOCK_COMMITTED)) != 0 && state != ORDER_CONFIRMING &&
	    state != ORDER_CONFIRMED && state != ORDER_RETURNING)
		Uerror("sold, but not bought");
#ifdef RETURNS
	check_returns(o);
#endif
}

/* What clients were told, with `wait`. */
static void check_told(int o)
{
	const char *status = has_order(o) ? order_state_status(order_state(o)) : "";

	if ((now.told[o] & TOLD_PLACED) != 0 && !has_order(o))
		Uerror("an order that was acknowledged is gone");
	if (((now.told[o] & TOLD_CONFIRMED) != 0 && strcmp(status, "CONFIRMED") != 0) ||
	    ((now.told[o] & TOLD_CANCELLED) != 0 && strcmp(status, "CANCELLED") != 0))
		Uerror("an outcome that was acknowledged is gone");
}

/* Whether nothing is under way but what timers begin. */
static bool is_quiet(void)
{
	for (int o = 0; o < ORDERS; o++)
		if (now.requests[o] != 0 || now.answers[o] != 0)
			return false;
#ifdef RETURNS
	for (int o = 0; o < ORDERS; o++)
		if (now.back_requests[o] != 0 || now.back_answers[o] != 0)
			return false;
#endif
	for (int c = 0; c < CONSUMERS; c++)
		if (now.c_mode[c] != IDLE)
			return false;
	return now.r_mode == R_IDLE && now.reconciling == 0 && now.sweep == 0 &&
	       (now.seen == marks() || is_planted(no_reconciling));
}

/* Whether the parts are what the record says. */
static bool agrees(int o)
{
	unsigned parts = parts_of(o);

#ifdef RETURNS
	for (int k = 0; k < 2; k++)
		if (PART_BACK(o, k) != came_back(o, k, now.record_back[o]))
			return false;
	if (now.record[o] == STOCK_RETURNED)
		return parts == PARTS_ARE(STOCK_COMMITTED);
#endif
	if (now.record[o] == STOCK_COMMITTED || now.record[o] == STOCK_RESERVED)
		return parts == PARTS_ARE(now.record[o]);
	return (parts & KEPT) == 0;
}
/* Whether the order has ended, or is forgotten, and nothing is kept for it but what it bought. */
static bool is_well(int o)
{
	if (has_order(o) && !is_settled(o))
		return false;
	if (has_order(o) && order_state(o) == ORDER_CONFIRMED)
		return parts_of(o) == PARTS_ARE(STOCK_COMMITTED);
	return (parts_of(o) & KEPT) == 0;
}

static void check(void)
{
	check_counters();
	now.serves = in_step();
	now.r_may = may_reconcile() | may_sweep() << 1 |
		    (now.r_mode != R_IDLE && may_be_unconfirmed(r_master())) << 2;
	now.well = true;
	for (int o = 0; o < ORDERS; o++) {
		now.well &= is_well(o);
		now.may_move[o] = may_ask(o, ORDER_IN_CONFIRM) | may_ask(o, ORDER_IN_CANCEL) << 1 |
				  may_run_out(o, false) << 2 | may_run_out(o, true) << 3;
#ifdef RETURNS
		now.may_move[o] |= may_give(o, false) << 4 | may_give(o, true) << 5;
#endif
#ifndef LOSSES
		check_promises(o);
#endif
		if (with.wait)
			check_told(o);
	}
	if (!is_quiet())
		return;
	for (int o = 0; o < ORDERS; o++) {
		/* One that waits for an answer asks again. */
		if (now.owed[o] || (has_order(o) && order_state_waits(order_state(o))))
			continue;
		if (!agrees(o))
			Uerror("in the end parts and record do not agree");
		if ((!has_order(o) || is_settled(o)) && !is_well(o))
			Uerror("stock is kept by an order that has ended, or is gone");
	}
}
