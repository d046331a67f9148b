/* audit_split.c - repairs reservations whose SKUs lie in several partitions, beside services that run.
 *
 * It does nothing that a consumer of inventory might not do at the same moment (decision 029): parts are changed by
 * inventory's own function, in the generation that was read before the record; the record is concluded if it is still
 * the one that was read. So whoever works on the order meanwhile finds what it could have found anyway. Beyond that it
 * corrects parts of records that have ended or are sold, since these never change again.
 *
 *   audit_split_serve   does what inventory does on an event of the order
 *   audit_split_align   makes each part what the record says, as a reconciliation would (decision 034) */
#include <inttypes.h>
#include <string.h>

#include "audit.h"
#include "base/base.h"
#include "inventory/parts.h"
#include "inventory/store.h"

#define TRIES 3

/* An order's record, with the generation that was read before it. */
struct split {
	struct ctl *ctl;
	const struct ctl_deed *deed; /* for the trail */
	const char *order_id;        /* its subject */
	int partition;
	char generation[RT_INT_TEXT];
	enum stock_state state; /* of the record; STOCK_NONE: there is none */
	char *lines;            /* "sku=quantity@q …": its own, or those that were given */
};

/* ---- reading ---- */

/* False: the partition is being reconciled, or Redis could not be asked; the reason is on stderr. */
static bool read_generation(struct split *split)
{
	char key[CTL_KEY];
	redisReply *by, *generation;
	bool good;

	ctl_key(key, "inventory", split->partition, "generation");
	generation = ctl_redis(split->ctl, "GET", key);
	ctl_key(key, "inventory", split->partition, "reconciliation");
	by = ctl_redis(split->ctl, "HGET", key, "by");
	good = generation != NULL && by != NULL && by->type == REDIS_REPLY_NIL;
	if (by != NULL && by->type != REDIS_REPLY_NIL)
		ctl_error("%s: partition %d is being reconciled: audit again later",
			  split->order_id, split->partition);
	snprintf(split->generation, sizeof(split->generation), "%s", ctl_text(generation, "0"));
	freeReplyObject(generation);
	freeReplyObject(by);
	return good;
}

/* The lines with their partitions, where they do not say them. */
static char *place_lines(const struct ctl *ctl, const char *lines)
{
	struct rt_buf text = { 0 };

	while (*lines != '\0') {
		size_t length = strcspn(lines, " "), sku = strcspn(lines, "= ");
		int q = rt_bucket_partition(rt_bucket(lines, sku), ctl->partitions);

		rt_buf_printf(&text, "%s%.*s", text.length == 0 ? "" : " ", (int)length, lines);
		if (memchr(lines, '@', length) == NULL)
			rt_buf_printf(&text, "@%d", q);
		lines += length + (lines[length] == ' ');
	}
	rt_buf_add(&text, "", 1);
	return text.data;
}

/* False: it is damaged or not split, or Redis could not be asked; the reason is on stderr. */
static bool read_record(struct split *split, const char *otherwise)
{
	char key[CTL_KEY];
	redisReply *reply;
	const char *lines = "";
	bool good = true;

	free(RT_TAKE(split->lines));
	split->state = STOCK_NONE;
	if (!read_generation(split))
		return false;
	ctl_key(key, "inventory", split->partition, "r");
	reply = ctl_redis(split->ctl, "HGET", key, split->order_id);
	if (reply == NULL)
		return false;
	if (reply->type == REDIS_REPLY_STRING) {
		good = audit_reservation(ctl_text(reply, ""), &split->state, &lines) &&
		       (lines[0] == '\0' || strchr(lines, '@') != NULL);
		if (!good)
			ctl_error("%s: its reservation is damaged, or not split", split->order_id);
	}
	split->lines = lines[0] != '\0' ? rt_strdup(lines) : place_lines(split->ctl, otherwise);
	freeReplyObject(reply);
	return good;
}

/* The state of the part in q, and its lines, freed by the caller. False: it is damaged or another partition's, or Redis
 * could not be asked. */
static bool read_part(const struct split *split, int q, enum stock_state *ret, char **ret_lines)
{
	char key[CTL_KEY];
	const char *lines = "";
	redisReply *reply;
	int home = split->partition;
	bool good;

	*ret = STOCK_NONE;
	*ret_lines = NULL;
	ctl_key(key, "inventory", q, "parts");
	reply = ctl_redis(split->ctl, "HGET", key, split->order_id);
	if (reply == NULL)
		return false;
	good = reply->type != REDIS_REPLY_STRING ||
	       (audit_part(ctl_text(reply, ""), ret, &home, &lines) && home == split->partition);
	*ret_lines = rt_strdup(lines);
	freeReplyObject(reply);
	return good;
}

/* ---- calls ---- */

/* The state behind an action; false: refused, or it cannot be had. */
static bool act(const struct split *split, int q, enum part_action action, const char *lines,
		enum stock_state *ret)
{
	char events[CTL_KEY], letters[2] = { part_action_letter(action), '\0' };
	int64_t now_ms = ctl_now_ms(split->ctl);
	struct rt_args args = { 0 };
	char time[RT_TIME_TEXT];
	redisReply *reply;
	char answer;
	bool known = false;

	rt_time_format(now_ms, time);
	ctl_key(events, "inventory", q, "events");
	ctl_operate(split->ctl, &args, &inventory_functions, events, NULL, split->deed, "part");
	rt_args_int(&args, now_ms);
	rt_args_str(&args, time);
	rt_args_str(&args, letters);
	rt_args_int(&args, split->partition);
	rt_args_str(&args, split->generation);
	rt_args_int(&args, 1);
	rt_args_str(&args, split->order_id);
	rt_args_str(&args, lines);
	rt_args_int(&args, ctl_now_ms(split->ctl));
	reply = ctl_operate_send(split->ctl, &args, false);
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	answer = reply->elements > 0 ? ctl_text(reply->element[0], "!")[0] : '!';
	for (int state = 0; state < STOCK_STATE_COUNT && !known; state++) {
		char letter = stock_state_letter((enum stock_state)state);

		known = answer == letter || answer == (char)(letter | 0x20);
		if (known)
			*ret = (enum stock_state)state;
	}
	if (!known)
		ctl_error("%s, part in %d: %s", split->order_id, q,
			  answer == '-'   ? "its stock was sold and is not available: it is owed"
			  : answer == '<' ? "the partition was reconciled meanwhile: audit again"
			  : reply->elements > 1 ? ctl_text(reply->element[1], "refused")
						: "refused");
	freeReplyObject(reply);
	return known;
}

/* The same for every partition of the lines. *ret: the set of states. */
static bool act_on_all(const struct split *split, enum part_action action, unsigned *ret)
{
	bool good = true;

	*ret = 0;
	for (int q = 0; q < split->ctl->partitions && good; q++) {
		struct rt_buf lines = { 0 };
		enum stock_state state = STOCK_NONE;

		audit_lines_in(split->lines, q, &lines);
		if (lines.data[0] != '\0') {
			good = act(split, q, action, lines.data, &state);
			*ret |= PARTS_ARE(state);
		}
		rt_buf_done(&lines);
	}
	return good;
}

/* Concludes the record. *ret_again: it is another one by now. */
static bool conclude(const struct split *split, enum stock_request request,
		     enum split_verdict verdict, bool *ret_again)
{
	char events[CTL_KEY], time[RT_TIME_TEXT];
	char letter[2] = { stock_request_letter(request), '\0' };
	char read[3] = { stock_state_letter(split->state), split_verdict_letter(verdict), '\0' };
	int64_t now_ms = ctl_now_ms(split->ctl);
	struct rt_args args = { 0 };
	redisReply *reply;
	const char *ends;
	char *lines;
	bool good;

	ctl_key(events, "inventory", split->partition, "events");
	rt_time_format(now_ms, time);
	ctl_operate(split->ctl, &args, &inventory_functions, events, NULL, split->deed, "conclude");
	rt_args_str(&args, letter);
	rt_args_int(&args, now_ms);
	rt_args_str(&args, time);
	rt_args_str(&args, split->order_id);
	rt_args_str(&args, split->generation);
	rt_args_str(&args, read);
	if (split->state == STOCK_NONE) {
		/* It is asked for now. */
		lines = rt_printf("%013" PRId64 " %s", now_ms, split->lines);
		rt_args_copy(&args, lines, strlen(lines));
		free(lines);
	}
	reply = ctl_operate_send(split->ctl, &args, false);
	rt_args_done(&args);
	if (reply == NULL)
		return false;
	ends = rt_reply_text(reply) != NULL ? rt_reply_text(reply) : "!!!";
	good = strncmp(ends, "!!!", 3) != 0;
	*ret_again = good && ends[2] == '?';
	if (!good)
		ctl_error("%s: %s", split->order_id,
			  reply->elements > 1 ? ctl_text(reply->element[1], "refused") : "refused");
	freeReplyObject(reply);
	return good;
}

/* ---- repairs ---- */

/* Serves a request, by the record as it was read. */
static bool serve_once(const struct split *split, enum stock_request request, bool *ret_again)
{
	enum split_verdict verdict = SPLIT_IS_DONE;
	enum split_step step = split_first(request, split->state);

	while (step != SPLIT_CONCLUDE) {
		static const enum part_action actions[] = { [SPLIT_HOLD] = PART_HOLD,
							    [SPLIT_COMMIT] = PART_COMMIT,
							    [SPLIT_RELEASE] = PART_RELEASE,
							    [SPLIT_RETURN] = PART_RETURN };
		unsigned parts;

		if (step == SPLIT_OWED) {
			ctl_error("%s: some of its stock was promised and is not available",
				  split->order_id);
			return false;
		}
		if (!act_on_all(split, actions[step], &parts))
			return false;
		step = split_next(step, parts, &verdict);
	}
	return conclude(split, request, verdict, ret_again);
}

static struct split split_of(struct ctl *ctl, const struct ctl_deed *deed, int partition)
{
	return (struct split){
		.ctl = ctl, .deed = deed, .order_id = deed->subject, .partition = partition
	};
}

bool audit_split_serve(struct ctl *ctl, const struct ctl_deed *deed, int partition,
		       enum stock_request request, const char *lines)
{
	struct split split = split_of(ctl, deed, partition);
	bool good = true, again = true;

	for (int i = 0; i < TRIES && good && again; i++)
		good = read_record(&split, lines) && serve_once(&split, request, &again);
	free(split.lines);
	return good && !again;
}

/* What makes a part what its record says; PART_ACTION_COUNT: nothing, or not for certain. */
static enum part_action action_for(enum stock_state record, bool named, enum stock_state part)
{
	bool ended = record == STOCK_UNAVAILABLE || record == STOCK_RELEASED;

	if (part == STOCK_RESERVED && record != STOCK_NONE && (ended || !named))
		return PART_RELEASE;
	if (part == STOCK_COMMITTED && ended)
		return PART_TO_RELEASED;
	if (stock_state_sold(record) && named && part != STOCK_COMMITTED)
		return record == STOCK_RETURNED ? PART_TO_RETURNED : PART_TO_COMMITTED;
	/* Not TO_RESERVED: the client may confirm the order at this moment. */
	if (record == STOCK_RESERVED && named && part == STOCK_NONE)
		return PART_HOLD;
	return PART_ACTION_COUNT;
}

/* Aligns the part in q. *ret_short: it is to be held, and is not. Adds lines that are held without a record. */
static bool align_part(const struct split *split, int q, bool *ret_short, struct rt_buf *lonely)
{
	struct rt_buf wanted = { 0 };
	enum stock_state state;
	enum part_action action;
	char *held;
	bool named, good = read_part(split, q, &state, &held);

	audit_lines_in(split->lines, q, &wanted);
	named = wanted.data[0] != '\0';
	action = good ? action_for(split->state, named, state) : PART_ACTION_COUNT;
	if (action != PART_ACTION_COUNT)
		good = act(split, q, action, named ? wanted.data : held, &state);
	*ret_short = *ret_short || (split->state == STOCK_RESERVED && named &&
				    state != STOCK_RESERVED && state != STOCK_COMMITTED);
	for (const char *line = good && split->state == STOCK_NONE && state == STOCK_RESERVED ? held
											      : "";
	     *line != '\0';) {
		size_t length = strcspn(line, " ");

		rt_buf_printf(lonely, "%s%.*s@%d", lonely->length == 0 ? "" : " ", (int)length,
			      line, q);
		line += length + (line[length] == ' ');
	}
	free(held);
	rt_buf_done(&wanted);
	return good;
}

bool audit_split_align(struct ctl *ctl, const struct ctl_deed *deed, int partition,
		       const char *ordered, bool ended, bool reserved)
{
	struct split split = split_of(ctl, deed, partition);
	bool good = read_record(&split, ordered), is_short = false;
	struct rt_buf lonely = { 0 };

	for (int q = 0; q < ctl->partitions && good; q++)
		good = align_part(&split, q, &is_short, &lonely);
	free(split.lines);
	rt_buf_add(&lonely, "", 1);
	/* What nobody asks for any more: the release leaves a record that says so. */
	if (good && lonely.data[0] != '\0')
		good = ended &&
		       audit_split_serve(ctl, deed, partition, STOCK_REQ_RELEASE, lonely.data);
	/* What cannot be held again: the order is cancelled. */
	if (good && is_short)
		good = reserved &&
		       audit_split_serve(ctl, deed, partition, STOCK_REQ_RELEASE, ordered);
	rt_buf_done(&lonely);
	return good;
}
