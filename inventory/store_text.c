/* store_text.c - the texts in which records, lines and counters are stored: functions.lua says what they look like. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "store_internal.h"

/* Reads a number and steps behind its digits. */
static bool number_read(char **text, uint64_t *ret)
{
	size_t digits = strspn(*text, "0123456789");

	if (digits == 0 || digits > 16)
		return false;
	*ret = strtoull(*text, NULL, 10);
	*text += digits;
	return true;
}

/* "sku=quantity", with "-returned" when some of a sale came back, "/available" when it was short ("/00": no such SKU), and "@q" when the order is split. */
static bool line_read(char *text, struct inventory_split_line *ret)
{
	char *at = strchr(text, '=');
	uint64_t quantity, partition, returned;

	if (at == NULL)
		return false;
	*at++ = '\0';
	*ret = (struct inventory_split_line){ .line = { text, 0 }, .partition = -1 };
	if (!number_read(&at, &quantity) || quantity > UINT32_MAX)
		return false;
	ret->line.quantity = (uint32_t)quantity;
	if (*at == '-') {
		at++;
		if (!number_read(&at, &returned) || returned > quantity)
			return false;
		ret->returned = (uint32_t)returned;
	}
	ret->was_short = *at == '/';
	if (ret->was_short) {
		at++;
		ret->unknown = strncmp(at, INVENTORY_UNKNOWN, strlen(INVENTORY_UNKNOWN)) == 0;
		if (!number_read(&at, &ret->available))
			return false;
	}
	if (*at == '@') {
		at++;
		if (!number_read(&at, &partition) || partition > INT32_MAX)
			return false;
		ret->partition = (int)partition;
	}
	return *at == '\0';
}

/* The lines; of a return behind the order's version, which is no line. */
static bool lines_read(char *text, struct inventory_record *ret)
{
	size_t lines = 1;
	char *rest, *at = text;

	if (number_read(&at, &ret->returned_at) && *at == ' ')
		text = at + 1;
	else
		ret->returned_at = 0;
	for (const char *c = text; *c != '\0'; c++)
		lines += *c == ' ';
	ret->lines = rt_alloc(lines * sizeof(*ret->lines));
	for (char *line = strtok_r(text, " ", &rest); line != NULL;
	     line = strtok_r(NULL, " ", &rest))
		if (!line_read(line, &ret->lines[ret->line_count++]))
			return false;
	return true;
}

bool inventory_record_read_lines(const char *text, struct inventory_record *ret)
{
	ret->memory = rt_strdup(text);
	return lines_read(ret->memory, ret);
}

bool inventory_record_read(const struct redisReply *reply, struct inventory_record *ret)
{
	uint64_t updated_ms;
	char *at;

	*ret = (struct inventory_record){ .state = STOCK_NONE };
	if (reply->len == 0)
		return true;
	ret->memory = rt_strndup(reply->str, (size_t)reply->len);
	at = strchr(ret->memory, ' ');
	if (at == NULL) {
		at = ret->memory;
		if (!number_read(&at, &updated_ms) || *at != '\0')
			return false;
		ret->updated_ms = (int64_t)updated_ms;
		return true;
	}
	*at++ = '\0';
	if (!stock_state_parse(ret->memory, &ret->state) || !number_read(&at, &ret->version) ||
	    *at++ != ' ' || !number_read(&at, &updated_ms) || *at++ != ' ')
		return false;
	ret->updated_ms = (int64_t)updated_ms;
	return lines_read(at, ret);
}

void inventory_record_done(struct inventory_record *record)
{
	free(record->lines);
	free(record->memory);
}

/* ---- lines as arguments ---- */

/* Checks that each SKU occurs once, and has no character that the functions' parsers use. */
bool inventory_lines_valid(const struct inventory_line *lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (lines[i].sku[0] == '\0' || strpbrk(lines[i].sku, " =/@") != NULL)
			return false;
		for (size_t j = 0; j < i; j++)
			if (strcmp(lines[i].sku, lines[j].sku) == 0)
				return false;
	}
	return count > 0;
}

void inventory_add_lines(struct rt_args *args, struct rt_buf *text,
			 const struct inventory_line *lines, const uint32_t *returned, size_t count)
{
	text->length = 0;
	for (size_t i = 0; i < count; i++) {
		rt_buf_printf(text, "%s%s=%" PRIu32, i == 0 ? "" : " ", lines[i].sku,
			      lines[i].quantity);
		if (returned != NULL && returned[i] > 0)
			rt_buf_printf(text, "-%" PRIu32, returned[i]);
	}
	rt_args_copy(args, text->data, text->length);
}

void inventory_add_returned(struct rt_args *args, struct rt_buf *text, uint64_t order_version,
			    const struct inventory_line *lines, size_t count)
{
	text->length = 0;
	rt_buf_printf(text, "%" PRIu64, order_version);
	for (size_t i = 0; i < count; i++)
		rt_buf_printf(text, " %s=%" PRIu32, lines[i].sku, lines[i].quantity);
	rt_args_copy(args, text->data, text->length);
}

/* ---- counters ---- */

/* The threshold is left out when there is none. */
bool inventory_stock_read(const char *text, struct stock *ret)
{
	uint64_t *const counters[] = { &ret->available, &ret->reserved, &ret->committed,
				       &ret->received,  &ret->version,  &ret->threshold };

	ret->threshold = 0;
	for (size_t i = 0;; i++) {
		size_t digits = strspn(text, "0123456789");

		if (digits == 0 || digits > 16)
			return false;
		*counters[i] = strtoull(text, NULL, 10);
		text += digits;
		if (*text == '\0')
			return i == 4 || (i == 5 && ret->threshold > 0);
		if (*text++ != ' ' || i == 5)
			return false;
	}
}

int inventory_counters_read(const struct redisReply *reply, bool *ret_found, struct stock *ret)
{
	if (reply->type == REDIS_REPLY_NIL) {
		*ret_found = false;
		return RT_OK;
	}
	if (!rt_reply_is_string(reply) || !inventory_stock_read(reply->str, ret))
		return RT_REMOTE;
	*ret_found = true;
	return RT_OK;
}

/* ---- generations ---- */

void inventory_note_generation(struct inventory_partition *partition, const char *text)
{
	int64_t generation = strtoll(text, NULL, 10);

	partition->refused_for = RT_MAX(partition->refused_for, generation);
	if (generation > partition->generation)
		partition->generation = INVENTORY_NO_GENERATION;
}
