/* tables.c - writes the tables of order_step.h as Lua, for functions.lua. The build runs it; it is not
 * part of the service.
 *
 *   AGAIN_WORD                        "again", in the history
 *   EVENTS.<NAME>                     name, type, word in the history, has_detail
 *   RULES                             by the stored form of a state, then by the byte of the input's letter
 *   a rule                            verdict (M A S F D), from and to (letters of states), state (the new stored
 *                                     form); and, if it publishes: event, timer (KEEP NONE RETRY HOLD)
 *   EXTENSIONS_MAX                    how often a hold may be extended
 *   OPEN_STATES                       stored forms of the states that are not settled */
#include <stdio.h>

#include "order_step.h"

static const char verdict_letters[] = { [ORDER_MOVES] = 'M',
					[ORDER_AGAIN] = 'A',
					[ORDER_STAYS] = 'S',
					[ORDER_REFUSES] = 'F',
					[ORDER_DROPS] = 'D' };
static const char *const timer_words[] = { [ORDER_TIMER_KEEP] = "KEEP",
					   [ORDER_TIMER_NONE] = "NONE",
					   [ORDER_TIMER_RETRY] = "RETRY",
					   [ORDER_TIMER_HOLD] = "HOLD" };
#define EVENT_NAME(name, type, word, has_detail) [ORDER_EV_##name] = #name,
static const char *const event_names[] = { ORDER_EVENTS(EVENT_NAME) };

static const char *truth(bool yes)
{
	return yes ? "true" : "false";
}

static void write_events(void)
{
	printf("local AGAIN_WORD = '%s'\nlocal EXTENSIONS_MAX = %d\nlocal EVENTS = {\n",
	       ORDER_AGAIN_WORD, ORDER_EXTENSIONS_MAX);
	for (int i = 0; i < ORDER_EVENT_COUNT; i++) {
		enum order_event event = (enum order_event)i;

		if (event == ORDER_EV_NOTHING)
			continue;
		printf("\t%s = { name = '%s', type = '%s', word = '%s', has_detail = %s },\n",
		       event_names[event], event_names[event], order_event_type(event),
		       order_event_word(event), truth(order_event_has_detail(event)));
	}
	printf("}\n");
}

static void write_rule(const struct order_rule *rule)
{
	printf("\t\t[%d] = { verdict = '%c', from = '%c', to = '%c', state = '%s'",
	       order_input_letter(rule->input), verdict_letters[rule->verdict],
	       order_state_letter(rule->state), order_state_letter(rule->to),
	       order_state_text(rule->to));
	if (rule->event != ORDER_EV_NOTHING)
		printf(", event = EVENTS.%s, timer = '%s'", event_names[rule->event],
		       timer_words[rule->timer]);
	printf(" },\n");
}

static void write_rules(void)
{
	printf("local RULES = {\n");
	for (int state = 0; state < ORDER_STATE_COUNT; state++) {
		printf("\t['%s'] = {\n", order_state_text((enum order_state)state));
		for (int input = 0; input < ORDER_INPUT_COUNT; input++)
			write_rule(order_rule((enum order_state)state, (enum order_input)input));
		printf("\t},\n");
	}
	printf("}\n");
}

static void write_open_states(void)
{
	printf("local OPEN_STATES = {");
	for (int state = 0; state < ORDER_STATE_COUNT; state++)
		if (!order_state_settled((enum order_state)state))
			printf(" ['%s'] = true,", order_state_text((enum order_state)state));
	printf(" }\n");
}

int main(void)
{
	printf("-- Generated from order_step.c by tables.c, which describes the content.\n");
	write_events();
	write_rules();
	write_open_states();
	return ferror(stdout) != 0 || fflush(stdout) != 0;
}
