/* table.c - prints tables for people, with aligned columns and printable characters only; and lists. */
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "base/base.h"
#include "ctl.h"

static void add_cell(struct ctl_table *table, char *text)
{
	table->cells = rt_grow(table->cells, table->count, &table->capacity, sizeof(char *));
	table->cells[table->count++] = text;
}

void ctl_cell(struct ctl_table *table, const char *format, ...)
{
	va_list args;
	char *text = NULL;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	for (size_t i = 0; table->count < table->columns && table->heading != NULL; i++)
		add_cell(table, rt_strdup(table->heading[i]));
	add_cell(table, text == NULL ? rt_strdup("") : rt_text_shown(text, strlen(text)));
	free(text);
}

/* The number of characters: cells hold printable UTF-8 only. */
static size_t width(const char *text)
{
	size_t count = 0;

	for (; *text != '\0'; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

/* Prints a row without blanks at its end. */
static void print_row(char *const *cells, const size_t *widths, size_t columns)
{
	size_t used = columns;

	while (used > 1 && cells[used - 1][0] == '\0')
		used--;
	for (size_t i = 0; i < used; i++) {
		fputs(cells[i], stdout);
		for (size_t pad = width(cells[i]); i + 1 < used && pad < widths[i] + 2; pad++)
			putchar(' ');
	}
	putchar('\n');
}

void ctl_table_print(struct ctl_table *table)
{
	size_t columns = table->columns;
	size_t *widths = rt_alloc(columns * sizeof(*widths));

	for (size_t i = 0; i < table->count; i++)
		widths[i % columns] = RT_MAX(widths[i % columns], width(table->cells[i]));
	for (size_t row = 0; row < table->count; row += columns)
		print_row(&table->cells[row], widths, columns);
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(widths);
	free(table->cells);
	*table = (struct ctl_table){ .columns = table->columns, .heading = table->heading };
}

/* ---- lists ---- */

struct printed {
	const struct ctl *ctl;
	struct ctl_table *table;
	void (*row)(struct ctl_table *table, const ProtobufCMessage *item);
};

static int print_item(const ProtobufCMessage *item, void *user)
{
	const struct printed *printed = user;

	if (printed->ctl->json)
		ctl_json_print(ctl_message_json(item, true));
	else
		printed->row(printed->table, item);
	return CTL_OK;
}

int ctl_print_list(struct ctl *ctl, const struct ctl_list *asked, struct ctl_table *table,
		   void (*row)(struct ctl_table *table, const ProtobufCMessage *item),
		   const char *nothing)
{
	struct printed printed = { ctl, table, row };
	struct ctl_list list = *asked;
	int code;

	list.on_item = print_item;
	list.user = &printed;
	code = ctl_call_list(ctl, &list);
	ctl_table_print(table);
	if (code == CTL_OK && list.next[0] != '\0' && ctl->json)
		ctl_json_print(json_pack("{s:o}", "next_page_token", ctl_json_text(list.next)));
	else if (code == CTL_OK && list.next[0] != '\0')
		printf("more: the same with --page-token %s\n", list.next);
	else if (code == CTL_OK && list.count == 0 && !ctl->json)
		printf("%s\n", nothing);
	free(list.next);
	return code;
}
