/* store_content.h - what an OrderPlaced holds, as far as orders are found by it.
 *
 * It is read for each order that is archived, and protobuf-c would make a message of each line and label. What it says is the
 * same (unit/archive_content compares them) of bytes that rt_wire_check accepts, as reader.c has seen to: what lies in
 * fields that are not read is not looked at. Texts lie in what is read, lists in the arena. */
#ifndef ARCHIVE_STORE_CONTENT_H
#define ARCHIVE_STORE_CONTENT_H

#include "store.h"

struct archive_content {
	struct archive_text customer;
	struct archive_content_line {
		struct archive_text sku;
		uint32_t quantity;
	} * lines;
	size_t line_count, line_capacity;
	struct archive_content_label {
		struct archive_text key, value;
	} * labels;
	size_t label_count, label_capacity;
};
/* NULL: `placed` is no OrderPlaced with a content. */
const struct archive_content *archive_content_read(const struct archive_text *placed,
						   struct rt_arena *arena);

#endif
