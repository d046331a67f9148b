/* complete.c - candidates for the next word of a tandemctl command line, for the shell: commands where
 * a command is expected, the values that an option takes, options anywhere else. */
#include <string.h>

#include "auth/auth.h"
#include "commands.h"
#include "load.h"
#include "tandem/order/v1/order.pb-c.h"

/* What the arguments before the last one say. */
struct line {
	const struct ctl_command *command; /* NULL: none yet */
	const char *group;                 /* "order", and its command is to come */
	const struct argp_option *open;    /* an option whose argument comes next */
	bool other;                        /* there was a word that is not a command */
};

/* Finds "--name", "--name=…", "-x" or "-xyz" (its last letter). */
static const struct argp_option *find_in(const struct argp_option *option, const char *word)
{
	size_t length = strcspn(word, "=");

	for (; option != NULL && (option->name != NULL || option->doc != NULL); option++) {
		if (option->name == NULL)
			continue;
		if (word[1] == '-' && strlen(option->name) == length - 2 &&
		    strncmp(option->name, word + 2, length - 2) == 0)
			return option;
		if (word[1] != '-' && word[1] != '\0' && option->key == word[strlen(word) - 1])
			return option;
	}
	return NULL;
}

static const struct argp_option *find_option(const struct ctl_command *command, const char *word)
{
	const struct argp_option *found = find_in(ctl_common_argp.options, word);

	if (found == NULL && command != NULL)
		found = find_in(command->options, word);
	if (found == NULL && command != NULL && command->changes)
		found = find_in(ctl_why_argp.options, word);
	return found;
}

static void read_word(struct line *line, const char *word)
{
	int taken;

	if (line->open != NULL) {
		line->open = NULL;
	} else if (word[0] == '-') {
		line->open = find_option(line->command, word);
		if (line->open != NULL &&
		    (line->open->arg == NULL || (line->open->flags & OPTION_ARG_OPTIONAL) != 0 ||
		     strchr(word, '=') != NULL))
			line->open = NULL;
	} else if (line->command == NULL && !line->other) {
		line->command = line->group == NULL ? ctl_command_find(word, NULL, &taken)
						    : ctl_command_find(line->group, word, &taken);
		if (line->command == NULL && line->group == NULL && ctl_is_group(word))
			line->group = word;
		else
			line->other = line->command == NULL;
	}
}

/* The first words of all commands, each once ("order"); or the commands of `group` ("place"). */
static void commands_out(FILE *to, const char *group)
{
	const char *last = "";

	for (size_t i = 0; i < ctl_command_count; i++) {
		const struct ctl_command *command = ctl_commands[i];
		const char *first = command->group == NULL ? command->name : command->group;

		if (group == NULL && strcmp(first, last) != 0)
			fprintf(to, "%s\n", first);
		if (group != NULL && command->group != NULL && strcmp(command->group, group) == 0)
			fprintf(to, "%s\n", command->name);
		last = first;
	}
}

static void options_out(FILE *to, const struct argp_option *option)
{
	for (; option != NULL && (option->name != NULL || option->doc != NULL); option++) {
		if (option->name != NULL && (option->flags & OPTION_HIDDEN) == 0)
			fprintf(to, "--%s\n", option->name);
	}
}

static void list_out(FILE *to, const char *const values[3])
{
	for (int i = 0; i < 3; i++)
		fprintf(to, "%s\n", values[i]);
}

/* The values for an option's argument, by its name in the tables. */
static void values_out(FILE *to, const char *argument)
{
	const ProtobufCEnumDescriptor *statuses = &tandem__order__v1__order_status__descriptor;
	const char *type;

	if (strcmp(argument, "CONTEXT") == 0) {
		for (size_t i = 0; i < CTL_CONTEXTS; i++)
			fprintf(to, "%s\n", ctl_contexts[i].name);
	} else if (strcmp(argument, "STATUS") == 0) {
		for (unsigned i = 0; i < statuses->n_values; i++)
			if (statuses->values[i].value != 0)
				fprintf(to, "%s\n",
					statuses->values[i].name + strlen("ORDER_STATUS_"));
	} else if (strcmp(argument, "TYPE") == 0) {
		for (size_t i = 0; (type = ctl_event_type(i)) != NULL; i++)
			fprintf(to, "%s\n", ctl_short_type(type));
	} else if (strcmp(argument, "ROLE") == 0) {
		for (int i = RT_ROLE_ANONYMOUS + 1; i < RT_ROLES; i++)
			fprintf(to, "%s\n", rt_role_name((enum rt_role)i));
	} else if (strcmp(argument, "MODE") == 0) {
		list_out(to, load_modes);
	} else if (strcmp(argument, "SKEW") == 0) {
		list_out(to, load_skews);
	} else if (strcmp(argument, "PATH") == 0 || strcmp(argument, "FOLDER") == 0) {
		fputs("<file>\n", to);
	}
}

void ctl_complete(FILE *to, int count, char *const *args)
{
	struct line line = { 0 };
	const char *last = count > 0 ? args[count - 1] : "";

	for (int i = 0; i + 1 < count; i++)
		read_word(&line, args[i]);
	if (line.open != NULL) {
		values_out(to, line.open->arg);
	} else if (last[0] != '-' && line.command == NULL) {
		if (!line.other)
			commands_out(to, line.group);
	} else {
		if (line.command != NULL)
			options_out(to, line.command->options);
		if (line.command != NULL && line.command->changes)
			options_out(to, ctl_why_argp.options);
		options_out(to, ctl_common_argp.options);
		fputs("--help\n", to);
		if (line.command == NULL && line.group == NULL)
			fputs("--version\n", to);
	}
}
