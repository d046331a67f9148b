/* store_request.c - requests of orders, and the conclusions of those that are split: FCALL inventory_request and
 * inventory_conclude. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "store_internal.h"

#define ASKED_NOW_MS INT64_C(9999999999999) /* nobody asked: it is not late */
#define REQUESTS_MAX                                                                               \
	256 /* items in a call: about a millisecond of Redis; fits an entry of orders */
#define WEIGHT_MAX                                                                                 \
	(128 * 1024) /* bytes of lines in a call: their shortages go into one entry of the stream */
#define IN_FLIGHT_MAX 2

void inventory_add_split_lines(struct rt_args *args, struct rt_buf *text,
			       const struct inventory_split_line *lines, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct inventory_split_line *at = &lines[i];

		rt_buf_printf(text, "%s%s=%" PRIu32, i == 0 ? "" : " ", at->line.sku,
			      at->line.quantity);
		if (at->was_short && at->unknown)
			rt_buf_printf(text, "/" INVENTORY_UNKNOWN);
		else if (at->was_short)
			rt_buf_printf(text, "/%" PRIu64, at->available);
		rt_buf_printf(text, "@%d", at->partition);
	}
	rt_args_copy(args, text->data, text->length);
}

/* When the order asked, in thirteen digits, and its lines. */
static void add_asked_and_lines(struct rt_args *args, struct rt_buf *text,
				const struct inventory_conclude_op *op)
{
	text->length = 0;
	rt_buf_printf(text, "%013" PRId64 " ",
		      op->request.asked_ms > 0 ? op->request.asked_ms : ASKED_NOW_MS);
	inventory_add_split_lines(args, text, op->lines, op->line_count);
}

static void add_split_returned(struct rt_args *args, struct rt_buf *text,
			       const struct inventory_conclude_op *op)
{
	struct inventory_line *lines = rt_alloc((op->line_count + 1) * sizeof(*lines));

	for (size_t i = 0; i < op->line_count; i++)
		lines[i] = op->lines[i].line;
	inventory_add_returned(args, text, op->request.seq, lines, op->line_count);
	free(lines);
}

static bool is_traced(const struct inventory_request_op *op)
{
	return op->traceparent != NULL && op->traceparent[0] != '\0';
}

static bool has_extra(const struct inventory_request_op *op)
{
	return op->attempt > 1 || is_traced(op) || op->late || op->request == STOCK_REQ_DROP;
}

/* The first arguments: letters and the number of extras, time, and the order ids. Conclusions begin as requests. */
static void requests_head(struct rt_store_run *run, const char *function)
{
	const struct inventory_partition *partition = run->user;
	struct rt_buf letters = { NULL, 0, 0 };
	int64_t now_ms = 0, extras = 0;
	bool delivered = false;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		char letter = op->only_reads ? '?' : stock_request_letter(op->request);

		rt_buf_add(&letters, &letter, 1);
		now_ms = RT_MAX(now_ms, op->now_ms);
		extras += has_extra(op);
		delivered |= op->event != NULL;
	}
	rt_store_call(run, function, delivered ? partition->orders : NULL);
	if (extras > 0)
		rt_buf_printf(&letters, "%" PRId64, extras);
	rt_args_copy(run->args, letters.data, letters.length);
	rt_store_add_time(run, now_ms);
	rt_buf_done(&letters);
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		rt_args_str(run->args, op->order_id);
	}
}

/* The last arguments: extras, and what is acknowledged. An event that only reads is not finished with it. */
static void requests_tail(struct rt_store_run *run)
{
	int64_t position = 0;

	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		position++;
		if (!has_extra(op))
			continue;
		rt_args_int(run->args, position);
		rt_args_int(run->args, op->attempt);
		rt_args_trace(run->args, op->traceparent, op->tracestate);
		if (op->late || op->request == STOCK_REQ_DROP)
			rt_args_int(run->args, op->asked_ms);
		else
			rt_args_str(run->args, "");
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		const char *ack_id =
			op->event == NULL || op->only_reads ? NULL : rt_event_ack(op->event, run);

		if (ack_id != NULL)
			rt_args_str(run->args, ack_id);
	}
}

/* Arguments of the same kind are together, so that the function reads them at once. */
static void request_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;

	requests_head(run, "request");
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		if (op->request == STOCK_REQ_RESERVE && !op->only_reads)
			inventory_add_lines(run->args, &partition->store->text, op->lines, NULL,
					    op->line_count);
		else if (op->request == STOCK_REQ_RETURN && !op->only_reads)
			inventory_add_returned(run->args, &partition->store->text, op->seq,
					       op->lines, op->line_count);
	}
	requests_tail(run);
}

/* What the conclusions rest on: the lowest generation among them, states that were read, verdicts. */
static void conclude_begin(struct rt_store_run *run)
{
	const struct inventory_partition *partition = run->user;
	struct rt_buf letters = { NULL, 0, 0 };
	int64_t generation = INT64_MAX;

	requests_head(run, "conclude");
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		const char both[] = { stock_state_letter(op->read),
				      split_verdict_letter(op->verdict) };

		generation = RT_MIN(generation, op->generation);
		rt_buf_add(&letters, both, sizeof(both));
	}
	rt_args_int(run->args, generation);
	rt_args_copy(run->args, letters.data, letters.length);
	rt_buf_done(&letters);
	RT_STORE_FOR_EACH(const struct inventory_conclude_op, op, run)
	{
		if (op->read == STOCK_NONE)
			add_asked_and_lines(run->args, &partition->store->text, op);
		else if (op->request.request == STOCK_REQ_RETURN)
			add_split_returned(run->args, &partition->store->text, op);
	}
	requests_tail(run);
}

/* Three letters for each. What follows is an error or a record for each request that was not served; then
 * nothing was acknowledged. */
bool inventory_request_answered(struct rt_store_run *run, int *status,
				const struct redisReply *reply)
{
	if (*status != RT_OK)
		return false;
	run->text = rt_reply_text(reply);
	if (run->text == NULL || strlen(run->text) != 3 * run->batch.count) {
		*status = RT_PROTOCOL;
		return false;
	}
	for (size_t i = 1; i < reply->elements; i++) {
		if (!rt_reply_is_string(reply->element[i])) {
			*status = RT_PROTOCOL;
			return false;
		}
	}
	RT_STORE_FOR_EACH(const struct inventory_request_op, op, run)
	{
		if (reply->elements > 1 && op->event != NULL)
			rt_event_not_acked(op->event);
	}
	return false;
}

int inventory_request_decode(struct rt_store_run *run, void *item, const struct redisReply *reply)
{
	struct inventory_request_op *op = item;
	const char *letters = run->text + 3 * run->index;
	const struct redisReply *more = NULL;
	char trace[RT_TRACE_ID_TEXT];

	op->served = letters[0] != '!' && letters[2] != '?';
	if (!op->served) {
		if (++run->read >= reply->elements)
			return RT_PROTOCOL;
		more = reply->element[run->read];
	}
	if (letters[0] == '!') {
		RT_LOG(RT_ERROR, "a request cannot be served", RT_S("order_id", op->order_id),
		       RT_S("reason", more->str),
		       RT_S("trace_id", rt_trace_find(op->traceparent, op->order_id, trace)));
		return RT_REMOTE;
	}
	if (more != NULL)
		return inventory_record_read(more, &op->record) ? RT_OK : RT_REMOTE;
	if (!stock_state_of_letter(letters[0], &op->before) ||
	    !stock_state_of_letter(letters[1], &op->after) ||
	    !stock_answer_of_letter(letters[2], &op->answer))
		return RT_PROTOCOL;
	return RT_OK;
}

void inventory_request_end(void *item, int status)
{
	struct inventory_request_op *op = item;
	struct inventory_record record = op->record;

	op->done(op, status);
	inventory_record_done(&record);
}

bool inventory_request_outdated(const void *item)
{
	const struct inventory_request_op *op = item;

	return op->event != NULL && !rt_event_is_current(op->event);
}

const struct rt_store_step inventory_request_step = {
	.name = "inventory_request",
	.durable = true,
	.count_max = REQUESTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = REQUESTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = inventory_request_outdated,
	.begin = request_begin,
	.answered = inventory_request_answered,
	.decode = inventory_request_decode,
	.end = inventory_request_end,
};

/* Of an older generation: there is a newer one now, to begin again with. */
static bool conclude_answered(struct rt_store_run *run, int *status, const struct redisReply *reply)
{
	struct inventory_partition *partition = run->user;

	if (*status == RT_REMOTE && rt_redis_reply_begins(reply, "GENERATION")) {
		inventory_note_generation(partition, reply->str + strlen("GENERATION"));
		*status = RT_UNREADY;
	}
	return inventory_request_answered(run, status, reply);
}

const struct rt_store_step inventory_conclude_step = {
	.name = "inventory_conclude",
	.durable = true,
	.count_max = REQUESTS_MAX,
	.in_flight_max = IN_FLIGHT_MAX,
	.gather = REQUESTS_MAX / 4,
	.waiting_max = WAITING_MAX,
	.weight_max = WEIGHT_MAX,
	.whole_answer = true,
	.outdated = inventory_request_outdated,
	.begin = conclude_begin,
	.answered = conclude_answered,
	.decode = inventory_request_decode,
	.end = inventory_request_end,
};
