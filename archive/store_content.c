/* store_content.c - reads an OrderPlaced.
 *
 * As protobuf has it: of a field that comes twice the last one counts, lists are joined, and a content that comes twice is
 * one. */
#include "store_content.h"

#include <string.h>

enum { PLACED_CONTENT = 1 };
enum { CONTENT_CUSTOMER = 1, CONTENT_LINES, CONTENT_LABELS };
enum { LINE_SKU = 1, LINE_QUANTITY };
enum { LABEL_KEY = 1, LABEL_VALUE };

static struct rt_wire_cursor in(const struct archive_text *text)
{
	const uint8_t *data = (const uint8_t *)text->data;

	return (struct rt_wire_cursor){ data, data + text->length };
}

/* A record whose length stands before it: a text or a message. */
static bool take(const struct rt_wire_record *record, struct archive_text *ret)
{
	*ret = (struct archive_text){ (const char *)record->value, record->length };
	return record->wire == RT_WIRE_LENGTH;
}

/* False: there is no other, or it is broken. */
static bool next(struct rt_wire_cursor *cursor, struct rt_wire_record *record, bool *fine)
{
	if (!*fine || cursor->at == cursor->end)
		return false;
	*fine = rt_wire_read(cursor, record);
	return *fine;
}

/* Room for one more in a list, whose former places stay in the arena. */
static void *grown(struct rt_arena *arena, void *list, size_t count, size_t *capacity,
		   size_t item_bytes)
{
	void *larger;

	if (count < *capacity)
		return list;
	*capacity = 2 * *capacity + 2;
	larger = rt_arena_take(arena, *capacity * item_bytes);
	if (count > 0)
		memcpy(larger, list, count * item_bytes);
	return larger;
}

static bool read_line(const struct archive_text *packed, struct archive_content_line *line)
{
	struct rt_wire_cursor cursor = in(packed);
	struct rt_wire_record record;
	bool fine = true;

	*line = (struct archive_content_line){ .sku = { "", 0 } };
	while (next(&cursor, &record, &fine)) {
		if (record.number == LINE_SKU) {
			fine = take(&record, &line->sku);
		} else if (record.number == LINE_QUANTITY) {
			fine = record.wire == RT_WIRE_VARINT;
			line->quantity = fine ? (uint32_t)record.varint : 0;
		}
	}
	return fine;
}

static bool read_label(const struct archive_text *packed, struct archive_content_label *label)
{
	struct rt_wire_cursor cursor = in(packed);
	struct rt_wire_record record;
	bool fine = true;

	*label = (struct archive_content_label){ { "", 0 }, { "", 0 } };
	while (next(&cursor, &record, &fine)) {
		if (record.number == LABEL_KEY)
			fine = take(&record, &label->key);
		else if (record.number == LABEL_VALUE)
			fine = take(&record, &label->value);
	}
	return fine;
}

static bool add_line(struct archive_content *content, const struct archive_text *packed,
		     struct rt_arena *arena)
{
	content->lines = grown(arena, content->lines, content->line_count, &content->line_capacity,
			       sizeof(*content->lines));
	return read_line(packed, &content->lines[content->line_count++]);
}

static bool add_label(struct archive_content *content, const struct archive_text *packed,
		      struct rt_arena *arena)
{
	content->labels = grown(arena, content->labels, content->label_count,
				&content->label_capacity, sizeof(*content->labels));
	return read_label(packed, &content->labels[content->label_count++]);
}

static bool read_content(const struct archive_text *packed, struct rt_arena *arena,
			 struct archive_content *content)
{
	struct rt_wire_cursor cursor = in(packed);
	struct archive_text part;
	struct rt_wire_record record;
	bool fine = true;

	while (next(&cursor, &record, &fine)) {
		if (record.number == CONTENT_CUSTOMER)
			fine = take(&record, &content->customer);
		else if (record.number == CONTENT_LINES)
			fine = take(&record, &part) && add_line(content, &part, arena);
		else if (record.number == CONTENT_LABELS)
			fine = take(&record, &part) && add_label(content, &part, arena);
	}
	return fine;
}

const struct archive_content *archive_content_read(const struct archive_text *placed,
						   struct rt_arena *arena)
{
	struct rt_wire_cursor cursor = in(placed);
	struct archive_content *content = NULL;
	struct rt_wire_record record;
	struct archive_text part;
	bool fine = true;

	while (next(&cursor, &record, &fine)) {
		if (record.number != PLACED_CONTENT)
			continue;
		if (content == NULL) {
			content = rt_arena_take(arena, sizeof(*content));
			*content = (struct archive_content){ .customer = { "", 0 } };
		}
		fine = take(&record, &part) && read_content(&part, arena, content);
	}
	return fine ? content : NULL;
}
