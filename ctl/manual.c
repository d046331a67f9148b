/* manual.c - prints the options and commands as roff, for packaging/man/tandemctl.1.in, from the tables
 * that the parsers use. */
#include <string.h>

#include "commands.h"

/* The size in bytes of the UTF-8 character at `text`. *ret: its code point. */
static size_t character(const char *text, unsigned *ret)
{
	unsigned char first = (unsigned char)text[0];
	size_t size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4, i = 1;

	*ret = size == 1 ? first : first & (0xffU >> (size + 1));
	for (; i < size && text[i] != '\0'; i++)
		*ret = *ret << 6 | ((unsigned char)text[i] & 0x3f);
	return i;
}

/* Prints `text` escaped, so that roff shows it unchanged. */
static void text_out(FILE *to, const char *text, size_t length)
{
	/* At the start of a line these characters begin a request. */
	if (length > 0 && (text[0] == '.' || text[0] == '\''))
		fputs("\\&", to);
	for (size_t i = 0; i < length;) {
		unsigned one;
		size_t size = character(text + i, &one);

		if (size > 1)
			fprintf(to, "\\[u%04X]", one);
		else if (text[i] == '\\' || text[i] == '-')
			fprintf(to, "%s", text[i] == '-' ? "\\-" : "\\e");
		else
			fputc(text[i], to);
		i += size;
	}
}

/* Prints paragraphs, with empty lines between; lines that begin with two blanks are not filled. */
static void prose(FILE *to, const char *text)
{
	bool verbatim = false;

	while (*text != '\0') {
		size_t length = strcspn(text, "\n");
		bool as_it_is = length > 2 && strncmp(text, "  ", 2) == 0;

		if (as_it_is != verbatim)
			fputs(as_it_is ? ".RS\n.nf\n" : ".fi\n.RE\n", to);
		verbatim = as_it_is;
		if (length == 0) {
			fputs(".PP\n", to);
		} else {
			text_out(to, text + (as_it_is ? 2 : 0), length - (as_it_is ? 2 : 0));
			fputc('\n', to);
		}
		text += length + (text[length] == '\n');
	}
	if (verbatim)
		fputs(".fi\n.RE\n", to);
}

static void options_out(FILE *to, const struct argp_option *option)
{
	for (; option != NULL && (option->name != NULL || option->doc != NULL); option++) {
		bool optional = (option->flags & OPTION_ARG_OPTIONAL) != 0;

		if (option->name == NULL || (option->flags & OPTION_HIDDEN) != 0)
			continue;
		fputs(".TP\n", to);
		if (option->key > ' ' && option->key < 127)
			fprintf(to, "\\fB\\-%c\\fR, ", option->key);
		fputs("\\fB\\-\\-", to);
		text_out(to, option->name, strlen(option->name));
		fputs("\\fR", to);
		if (option->arg != NULL)
			fprintf(to, "%s=\\fI%s\\fR%s", optional ? "[" : "", option->arg,
				optional ? "]" : "");
		fputc('\n', to);
		text_out(to, option->doc, strlen(option->doc));
		fputc('\n', to);
	}
}

static void command_out(FILE *to, const struct ctl_command *command)
{
	const char *text = command->text, *examples = strchr(text, '\v');
	char name[CTL_COMMAND];
	char *before;

	ctl_command_name(command, name);
	fprintf(to, ".SS %s\n", name);
	fprintf(to, "\\fBtandemctl %s\\fR [\\fIOPTION\\fR...]", name);
	if (command->arguments != NULL && command->arguments[0] != '\0') {
		fputs(" \\fI", to);
		text_out(to, command->arguments, strlen(command->arguments));
		fputs("\\fR", to);
	}
	fputs("\n.PP\n", to);
	before = rt_strndup(text, examples == NULL ? strlen(text) : (size_t)(examples - text));
	prose(to, before);
	free(before);
	options_out(to, command->options);
	if (command->changes)
		options_out(to, ctl_why_argp.options);
	if (examples != NULL) {
		fputs(".PP\n", to);
		prose(to, examples + 1);
	}
}

void ctl_manual(FILE *to)
{
	fputs(".SH OPTIONS OF EVERY COMMAND\n", to);
	options_out(to, ctl_common_argp.options);
	fputs(".SH COMMANDS\n", to);
	for (size_t i = 0; i < ctl_command_count; i++)
		command_out(to, ctl_commands[i]);
}
