/* test_archive_content.c - what the archive reads of an OrderPlaced is what protobuf-c reads of it. */
#include <string.h>

#include "archive/store_content.h"
#include "run.h"
#include "tandem/order/v1/order_events.pb-c.h"

typedef Tandem__Order__V1__OrderContent Expected;

static struct {
	size_t contents, without, refused; /* of the bytes that were compared */
} seen;

static bool is(const struct archive_text *text, const char *expected)
{
	return text->length == strlen(expected) && memcmp(text->data, expected, text->length) == 0;
}

static bool same(const struct archive_content *content, const Expected *expected)
{
	bool equal = is(&content->customer, expected->customer_id) &&
		     content->line_count == expected->n_lines &&
		     content->label_count == expected->n_labels;

	for (size_t i = 0; equal && i < content->line_count; i++)
		equal = is(&content->lines[i].sku, expected->lines[i]->sku) &&
			content->lines[i].quantity == expected->lines[i]->quantity;
	for (size_t i = 0; equal && i < content->label_count; i++)
		equal = is(&content->labels[i].key, expected->labels[i]->key) &&
			is(&content->labels[i].value, expected->labels[i]->value);
	return equal;
}

/* Whether both read the same, where rt_wire_check accepts the bytes. They lie alone, so that a sanitizer sees who reads
 * behind them. */
static bool compare(const void *data, size_t length)
{
	uint8_t *alone = rt_realloc(NULL, length + (length == 0));
	struct archive_text text = { (const char *)alone, length };
	Tandem__Order__V1__OrderPlaced *placed = NULL;
	struct rt_arena arena = { 0 };
	const struct archive_content *content;
	struct rt_wire_fault fault;
	bool fine = true;

	memcpy(alone, data, length);
	content = archive_content_read(&text, &arena);
	if (rt_wire_check(&tandem__order__v1__order_placed__descriptor, alone, length, &fault)) {
		placed = tandem__order__v1__order_placed__unpack(NULL, length, alone);
		fine = placed != NULL && (placed->content != NULL) == (content != NULL) &&
		       (content == NULL || same(content, placed->content));
		seen.contents += content != NULL;
		seen.without += content == NULL;
	} else {
		seen.refused++;
	}
	if (placed != NULL)
		tandem__order__v1__order_placed__free_unpacked(placed, NULL);
	rt_arena_done(&arena);
	free(alone);
	return fine;
}

/* ---- rows ---- */

#define BYTES(s) s, sizeof(s) - 1

static const struct {
	const char *why, *bytes;
	size_t length;
	bool content;
} rows[] = {
	{ "nothing", BYTES(""), false },
	{ "an empty content", BYTES("\x0a\x00"), true },
	{ "an order",
	  BYTES("\x0a\x18\x0a\003bob\x12\x07\x0a\003pea\x10\x02\x1a\x08\x0a\001k\x12\003val"),
	  true },
	{ "a field besides the content", BYTES("\x10\x05\x0a\x05\x0a\003bob\x18\x05"), true },
	{ "only another field", BYTES("\x10\x05"), false },
	{ "a customer that comes twice", BYTES("\x0a\x0a\x0a\003bob\x0a\003eve"), true },
	{ "and is empty then", BYTES("\x0a\x07\x0a\003bob\x0a\x00"), true },
	{ "a content that comes twice", BYTES("\x0a\x05\x0a\003bob\x0a\x05\x0a\003eve"), true },
	{ "without a customer then", BYTES("\x0a\x05\x0a\003bob\x0a\x04\x12\x02\x10\x01"), true },
	{ "with an empty one then", BYTES("\x0a\x05\x0a\003bob\x0a\x02\x0a\x00"), true },
	{ "a line without a SKU", BYTES("\x0a\x04\x12\x02\x10\x07"), true },
	{ "an empty line, an empty label", BYTES("\x0a\x04\x12\x00\x1a\x00"), true },
	{ "a SKU and a quantity that come twice",
	  BYTES("\x0a\x0c\x12\x0a\x0a\001a\x10\x01\x0a\001b\x10\x02"), true },
	{ "lines and labels by turns",
	  BYTES("\x0a\x0e\x12\x02\x10\x01\x1a\x02\x0a\x00\x12\x02\x10\x02\x1a\x00"), true },
	{ "a quantity of ten bytes",
	  BYTES("\x0a\x0d\x12\x0b\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true },
	{ "a hold", BYTES("\x0a\x06\x22\x04\x08\x05\x10\x01"), true },
	{ "unknown fields of every wire type",
	  BYTES("\x0a\x18\xa0\x06\x01\xa1\00612345678\xa2\x06\x02\xff\x00\xa5\0061234"), true },
	{ "a number for a content", BYTES("\x08\x05"), false },
	{ "a number for a customer", BYTES("\x0a\x02\x08\x05"), false },
	{ "a number for a line", BYTES("\x0a\x02\x10\x05"), false },
	{ "a number for a SKU", BYTES("\x0a\x04\x12\x02\x08\x05"), false },
	{ "a text for a quantity", BYTES("\x0a\x05\x12\x03\x12\x01x"), false },
	{ "a number for a label", BYTES("\x0a\x02\x18\x05"), false },
	{ "a number for a key", BYTES("\x0a\x04\x1a\x02\x08\x05"), false },
	{ "a number for a value", BYTES("\x0a\x04\x1a\x02\x10\x05"), false },
	{ "a group", BYTES("\x0a\x02\x2b\x2c"), false },
	{ "a line that is longer than its content", BYTES("\x0a\x04\x12\x05\x0a\003pea"), false },
	{ "a content that is longer than all", BYTES("\x0a\x06\x0a\003bob"), false },
	{ "broken behind a content", BYTES("\x0a\x05\x0a\003bob\x92"), false },
};

static void rows_are_read_alike(void)
{
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct archive_text text = { rows[i].bytes, rows[i].length };
		struct rt_arena arena = { 0 };
		bool content = archive_content_read(&text, &arena) != NULL;

		if (content != rows[i].content || !compare(rows[i].bytes, rows[i].length))
			printf("\n  %s\n", rows[i].why);
		CU_ASSERT_EQUAL(content, rows[i].content);
		CU_ASSERT(compare(rows[i].bytes, rows[i].length));
		rt_arena_done(&arena);
	}
}

/* ---- messages by chance ---- */

static uint64_t random_state;

static unsigned below(unsigned n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)(random_state >> 33) % n;
}

static void put_varint(struct rt_buf *to, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		rt_buf_printf(to, "%c", (int)(n & 0x7f) | 0x80);
	rt_buf_add(to, (const char[]){ (char)n }, 1);
}

static void put_text(struct rt_buf *to, unsigned number)
{
	unsigned length = below(4) == 0 ? 0 : below(200);

	put_varint(to, number << 3 | RT_WIRE_LENGTH);
	put_varint(to, length);
	for (unsigned i = 0; i < length; i++)
		rt_buf_printf(to, "%c", 'a' + (int)below(26));
}

static void put_number(struct rt_buf *to, unsigned number)
{
	put_varint(to, number << 3 | RT_WIRE_VARINT);
	put_varint(to, below(1U << below(30)));
}

/* A field that nobody knows. */
static void put_unknown(struct rt_buf *to)
{
	unsigned number = 5 + below(1U << below(28));

	switch (below(4)) {
	case 0:
		put_number(to, number);
		break;
	case 1:
		put_varint(to, number << 3 | RT_WIRE_FIXED64);
		rt_buf_add(to, "12345678", 8);
		break;
	case 2:
		put_text(to, number);
		break;
	default:
		put_varint(to, number << 3 | RT_WIRE_FIXED32);
		rt_buf_add(to, "1234", 4);
	}
}

static void put_message(struct rt_buf *to, unsigned number, const struct rt_buf *message)
{
	put_varint(to, number << 3 | RT_WIRE_LENGTH);
	put_varint(to, message->length);
	if (message->length > 0)
		rt_buf_add(to, message->data, message->length);
}

/* A line (a text and a number), a label (two texts), a hold (two numbers): number 2, 3 or 4 of a content. */
static void put_part(struct rt_buf *to, unsigned number)
{
	struct rt_buf part = { 0 };

	for (unsigned i = below(4); i > 0; i--)
		if (below(6) == 0)
			put_unknown(&part);
		else if (number == 3 || (number == 2 && below(2) == 0))
			put_text(&part, number == 3 ? 1 + below(2) : 1);
		else
			put_number(&part, number == 4 ? 1 + below(2) : 2);
	put_message(to, number, &part);
	rt_buf_done(&part);
}

static void put_content(struct rt_buf *to)
{
	struct rt_buf content = { 0 };

	for (unsigned i = below(12); i > 0; i--)
		switch (below(5)) {
		case 0:
			put_text(&content, 1);
			break;
		case 1:
			put_unknown(&content);
			break;
		default:
			put_part(&content, 2 + below(3));
		}
	put_message(to, 1, &content);
	rt_buf_done(&content);
}

static void put_placed(struct rt_buf *to)
{
	for (unsigned i = below(3); i > 0; i--)
		if (below(4) == 0)
			put_unknown(to);
		else
			put_content(to);
}

/* As it is, cut at each length, and with bytes that are others. */
static bool whole_cut_and_changed(struct rt_buf *message)
{
	bool fine = compare(message->data, message->length);

	for (size_t length = 0; fine && length < message->length; length++)
		fine = compare(message->data, length);
	for (int i = 0; fine && message->length > 0 && i < 40; i++) {
		char *byte = &message->data[below((unsigned)message->length)], before = *byte;

		*byte = (char)below(256);
		fine = compare(message->data, message->length);
		if (below(3) != 0) /* else the next one changes in what has changed */
			*byte = before;
	}
	return fine;
}

static void messages_are_read_alike(void)
{
	memset(&seen, 0, sizeof(seen));
	for (int i = 1; i <= TESTS_PART(5000); i++) {
		struct rt_buf message = { 0 };
		bool fine;

		random_state = (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15);
		rt_buf_add(&message, "", 0);
		put_placed(&message);
		fine = whole_cut_and_changed(&message);
		rt_buf_done(&message);
		CU_ASSERT(fine);
		if (!fine) {
			printf("\n  message %d\n", i);
			break;
		}
	}
	/* All of it was tried. */
	CU_ASSERT(seen.contents > TESTS_PART(10000));
	CU_ASSERT(seen.without > TESTS_PART(10000));
	CU_ASSERT(seen.refused > TESTS_PART(100000));
}

static const struct test tests[] = {
	{ "rows are read as protobuf-c reads them", rows_are_read_alike },
	{ "messages by chance, too", messages_are_read_alike },
};
TESTS_MAIN("archive_content", tests)
