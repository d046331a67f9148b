/* tables.c - writes the tables of stock.h and parts.h as Lua, and the fields of the messages that only functions.lua
 * can pack. The build runs it; it is not part of the service.
 *
 *   STATE_LETTERS.<WORD>          the letter of a state, by the word that is stored
 *   RULES.<state's letter>        by the byte of the request's letter: a rule
 *   REFUSED                       the rule for a reservation that is short
 *   PART_RULES.<state's letter>   by the byte of the action's letter: effect, to and word
 *   a rule                        effect (K T M B R A H C D), to (a state's letter), word (of that state);
 *                                 type, when it answers; ends: the letters of the state before, of
 *                                 the state after, and of the answer
 *   FIELDS.<Message>.<field>      key (the bytes in front of the value), zigzag
 *   ADJUSTED, LOW                 the types of the events about an adjustment, and about stock that is low
 *   RETURNED                      the type of the answer to a return */
#include <inttypes.h>
#include <stdio.h>

#include "parts.h"
#include "stock.h"
#include "tandem/inventory/v1/inventory_events.pb-c.h"

static const char effect_letters[] = {
	[STOCK_KEEP] = 'K',      [STOCK_TRY] = 'T',       [STOCK_COMMIT_IT] = 'M',
	[STOCK_GIVE_BACK] = 'B', [STOCK_TAKE_BACK] = 'R', [STOCK_TAKE] = 'A',
	[STOCK_HOLD_IT] = 'H',   [STOCK_CALL_BACK] = 'C', [STOCK_DROP_IT] = 'D'
};

/* Writes a rule; `before` is the state in which it applies. */
static void write_rule(const struct stock_rule *rule, enum stock_state before)
{
	const char *type = stock_answer_type(rule->answer);
	char to = stock_state_letter(rule->to);

	printf("{ effect = '%c', to = '%c', word = '%s', ends = '%c%c%c'",
	       effect_letters[rule->effect], to, stock_state_text(rule->to),
	       stock_state_letter(before), to, stock_answer_letter(rule->answer));
	if (type != NULL)
		printf(",\n\t\t\ttype = '%s'", type);
	printf(" }");
}

static void write_rules(void)
{
	printf("local STATE_LETTERS = {");
	for (int state = STOCK_RESERVED; state < STOCK_STATE_COUNT; state++)
		printf(" %s = '%c',", stock_state_text((enum stock_state)state),
		       stock_state_letter((enum stock_state)state));
	printf(" }\nlocal RULES = {\n");
	for (int state = 0; state < STOCK_STATE_COUNT; state++) {
		printf("\t%c = {\n", stock_state_letter((enum stock_state)state));
		for (int request = 0; request < STOCK_REQUEST_COUNT; request++) {
			printf("\t\t[%d] = ", stock_request_letter((enum stock_request)request));
			write_rule(stock_rule((enum stock_state)state, (enum stock_request)request),
				   (enum stock_state)state);
			printf(",\n");
		}
		printf("\t},\n");
	}
	/* The same end as for a repeat. */
	printf("}\nlocal REFUSED = ");
	write_rule(stock_rule(STOCK_UNAVAILABLE, STOCK_REQ_RESERVE), STOCK_NONE);
	printf("\n");
}

static void write_part_rules(void)
{
	printf("local PART_RULES = {\n");
	for (int state = 0; state < STOCK_STATE_COUNT; state++) {
		printf("\t%c = {", stock_state_letter((enum stock_state)state));
		for (int action = 0; action < PART_ACTION_COUNT; action++) {
			const struct part_rule *rule =
				part_rule((enum stock_state)state, (enum part_action)action);

			printf("\n\t\t[%d] = { effect = '%c', to = '%c', word = '%s' },",
			       part_action_letter(rule->action), effect_letters[rule->effect],
			       stock_state_letter(rule->to), stock_state_text(rule->to));
		}
		printf("\n\t},\n");
	}
	printf("}\n");
}

/* A key is the number and the wire type, as a varint. False: functions.lua cannot pack such a field. */
static bool write_field(const ProtobufCFieldDescriptor *field)
{
	uint32_t key = field->id << 3;

	switch (field->type) {
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_BOOL:
		break;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		key |= 2;
		break;
	default:
		fprintf(stderr, "%s has a type that is not packed here\n", field->name);
		return false;
	}
	printf("\t\t%s = { key = '", field->name);
	for (; key >= 0x80; key >>= 7)
		printf("\\%" PRIu32, (key & 0x7f) | 0x80);
	printf("\\%" PRIu32 "', zigzag = %s },\n", key,
	       field->type == PROTOBUF_C_TYPE_SINT64 ? "true" : "false");
	return true;
}

static bool write_messages(void)
{
	static const ProtobufCMessageDescriptor *const messages[] = {
		&tandem__inventory__v1__inventory_unavailable__descriptor,
		&tandem__inventory__v1__reservation_shortage__descriptor,
		&tandem__inventory__v1__stock_adjusted__descriptor,
		&tandem__inventory__v1__stock_low__descriptor,
		&tandem__inventory__v1__inventory_returned__descriptor,
		&tandem__inventory__v1__stock__descriptor,
	};

	printf("local FIELDS = {\n");
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		printf("\t%s = {\n", messages[i]->short_name);
		for (unsigned j = 0; j < messages[i]->n_fields; j++)
			if (!write_field(&messages[i]->fields[j]))
				return false;
		printf("\t},\n");
	}
	printf("}\nlocal ADJUSTED = '%s'\nlocal LOW = '%s'\nlocal RETURNED = '%s'\n",
	       tandem__inventory__v1__stock_adjusted__descriptor.name,
	       tandem__inventory__v1__stock_low__descriptor.name,
	       tandem__inventory__v1__inventory_returned__descriptor.name);
	return true;
}

int main(void)
{
	printf("-- Generated from stock.c, parts.c and the .proto files by tables.c, which says "
	       "what is in "
	       "here.\n");
	write_rules();
	write_part_rules();
	return !write_messages() || ferror(stdout) != 0 || fflush(stdout) != 0;
}
