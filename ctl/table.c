/* table.c - text for people: aligned columns, nothing unprintable. */
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "base/base.h"
#include "ctl.h"

void ctl_cell(struct ctl_table *table, const char *format, ...)
{
	va_list args;
	char *text = NULL;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	if (table->count == table->capacity) {
		table->capacity = table->capacity == 0 ? 64 : 2 * table->capacity;
		table->cells = rt_realloc(table->cells, table->capacity * sizeof(*table->cells));
	}
	table->cells[table->count++] =
		text == NULL ? rt_strdup("") : rt_text_shown(text, strlen(text));
	free(text);
}

void ctl_print_next_page(const struct ctl *ctl, const char *nothing, const char *token)
{
	if (ctl->json && token[0] != '\0') {
		json_t *json = json_object();

		json_object_set_new(json, "next_page_token", ctl_json_string(token, strlen(token)));
		ctl_json_print(json);
	} else if (!ctl->json && token[0] != '\0') {
		printf("more: the same with --page-token %s\n", token);
	} else if (!ctl->json && nothing != NULL) {
		printf("%s\n", nothing);
	}
}

/* Characters, as the cells hold printable UTF-8 only. */
static size_t width(const char *text)
{
	size_t count = 0;

	for (; *text != '\0'; text++)
		count += ((unsigned char)*text & 0xc0) != 0x80;
	return count;
}

/* Without blanks at the end. */
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
	size_t columns = (size_t)table->columns;
	size_t *widths = rt_alloc(columns * sizeof(*widths));

	for (size_t i = 0; i < table->count; i++)
		widths[i % columns] = RT_MAX(widths[i % columns], width(table->cells[i]));
	/* A heading alone is not worth a line. */
	for (size_t row = 0; table->count > columns && row < table->count; row += columns)
		print_row(&table->cells[row], widths, columns);
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(widths);
	free(table->cells);
	*table = (struct ctl_table){ .columns = table->columns };
}
