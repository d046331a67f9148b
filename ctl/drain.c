/* drain.c - what is under way in a store, and tandemctl drain, which waits until nothing is.
 *
 * Nothing is under way when every group has read and acknowledged its stream, no event is set aside, and every order
 * is settled or waits for its client (RESERVED). Then all that is left to happen is in orders and timers. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "commands.h"
#include "order/order_step.h"

#define PAGE    500
#define LOOK_MS 200
#define WAIT_MS 60000

/* ---- looking ---- */

/* A group's events that it has not read, or not acknowledged. */
static bool look_at_group(struct ctl *ctl, const char *key, const struct ctl_stream *stream,
			  const redisReply *group, struct rt_buf *what)
{
	const redisReply *name = ctl_named(group, "name");
	int64_t pending = ctl_count(ctl_named(group, "pending"));
	int64_t lag = ctl_stream_lag(ctl, key, stream,
				     ctl_text(ctl_named(group, "last-delivered-id"), "0-0"));

	if (lag > 0 || pending > 0)
		rt_buf_printf(what,
			      "%s: group %s has %" PRId64 " events not read, %" PRId64
			      " entries not acknowledged\n",
			      key, ctl_text(name, "?"), lag, pending);
	return lag >= 0;
}

/* The group of `reader` must be there when there is anything to read. */
static bool look_at_stream(struct ctl *ctl, const struct ctl_reader *pair, int partition,
			   struct rt_buf *what)
{
	struct ctl_stream stream;
	char key[CTL_KEY];
	redisReply *groups;
	bool found = false, good = true;

	ctl_key(key, pair->of, partition, "events");
	if (!ctl_stream_groups(ctl, key, &stream, &groups))
		return false;
	if (groups == NULL)
		return true;
	for (size_t i = 0; i < groups->elements && good; i++) {
		const char *name = ctl_text(ctl_named(groups->element[i], "name"), "");

		found = found || strcmp(name, pair->reader) == 0;
		good = look_at_group(ctl, key, &stream, groups->element[i], what);
	}
	if (!found && stream.length > 0)
		rt_buf_printf(what, "%s: the group %s is missing\n", key, pair->reader);
	freeReplyObject(groups);
	return good;
}

static bool look_aside(struct ctl *ctl, const struct ctl_reader *pair, int partition,
		       struct rt_buf *what)
{
	char key[CTL_KEY];
	int64_t count;

	if (!ctl_aside_count(ctl, pair, partition, &count))
		return false;
	ctl_aside_key(key, pair, partition);
	if (count > 0)
		rt_buf_printf(what, "%s: %" PRId64 " events wait for a retry\n", key, count);
	return true;
}

/* Counts those of these orders that are not settled and do not wait for their client. */
static bool count_undecided(struct ctl *ctl, int partition, const redisReply *ids, int64_t *count)
{
	struct rt_args args = { 0 };
	char key[CTL_KEY];
	redisReply *orders;

	ctl_key(key, "order", partition, "orders");
	rt_args_str(&args, "HMGET");
	rt_args_str(&args, key);
	for (size_t i = 0; i < ids->elements; i++)
		rt_args_add(&args, ids->element[i]->str, ids->element[i]->len);
	orders = ctl_redis_args(ctl, &args, 0, false);
	rt_args_done(&args);
	if (orders == NULL)
		return false;
	for (size_t i = 0; i < orders->elements; i++) {
		const redisReply *text = orders->element[i];
		enum order_state state;

		/* What has no order, or a damaged one, is for the audit. */
		if (text->type == REDIS_REPLY_STRING &&
		    order_state_parse(text->str, strcspn(text->str, " "), &state))
			*count += !order_state_settled(state) && state != ORDER_RESERVED;
	}
	freeReplyObject(orders);
	return true;
}

/* Every order that is not settled has a timer. */
static bool look_at_orders(struct ctl *ctl, int partition, struct rt_buf *what)
{
	char key[CTL_KEY], from[RT_INT_TEXT], to[RT_INT_TEXT];
	int64_t undecided = 0;
	bool more = true;

	ctl_key(key, "order", partition, "timers");
	for (int64_t at = 0; more; at += PAGE) {
		redisReply *ids;

		rt_int_text(at, from);
		rt_int_text(at + PAGE - 1, to);
		ids = ctl_redis(ctl, "ZRANGE", key, from, to);
		if (ids == NULL)
			return false;
		more = ids->elements == PAGE;
		if (ids->elements > 0 && !count_undecided(ctl, partition, ids, &undecided)) {
			freeReplyObject(ids);
			return false;
		}
		freeReplyObject(ids);
	}
	if (undecided > 0)
		rt_buf_printf(what, "order:{%d}:orders: %" PRId64 " orders wait for inventory\n",
			      partition, undecided);
	return true;
}

bool ctl_under_way(struct ctl *ctl, struct rt_buf *what)
{
	bool good = ctl_partitions(ctl) > 0;

	for (int p = 0; p < ctl->partitions && good; p++) {
		good = look_at_orders(ctl, p, what);
		for (size_t i = 0; i < CTL_READERS && good; i++)
			good = look_at_stream(ctl, &ctl_readers[i], p, what) &&
			       look_aside(ctl, &ctl_readers[i], p, what);
	}
	rt_buf_add(what, "", 1);
	what->length--;
	return good;
}

/* ---- the command ---- */

struct drain {
	int64_t wait_ms;
};

static error_t drain_parse(int key, char *arg, struct argp_state *state)
{
	struct drain *drain = ctl_options(state);

	switch (key) {
	case ARGP_KEY_INIT:
		drain->wait_ms = WAIT_MS;
		return 0;
	case 'w':
		if (!rt_parse_duration(arg, &drain->wait_ms))
			argp_error(state, "--wait: not a duration such as 500ms or 2m: %s", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int drain_run(struct ctl *ctl, void *options)
{
	const struct drain *drain = options;
	const struct timespec pause = { 0, LOOK_MS * 1000000L };
	int64_t until_ns = rt_monotonic_ns() + drain->wait_ms * 1000000;
	struct rt_buf what = { 0 };
	int code = CTL_OK;

	for (;;) {
		what.length = 0;
		if (!ctl_under_way(ctl, &what))
			code = CTL_UNAVAILABLE;
		else if (what.length > 0 && rt_monotonic_ns() >= until_ns)
			code = CTL_NEGATIVE;
		else if (what.length > 0) {
			nanosleep(&pause, NULL);
			continue;
		}
		break;
	}
	if (ctl->json && code != CTL_UNAVAILABLE)
		ctl_json_print(json_pack("{s:b, s:o}", "drained", code == CTL_OK, "under_way",
					 ctl_json_text(what.data)));
	else if (code == CTL_OK)
		printf("nothing is under way\n");
	else if (code == CTL_NEGATIVE)
		printf("%s", what.data);
	rt_buf_done(&what);
	return code;
}

static const struct argp_option drain_options[] = {
	{ "wait", 'w', "DURATION", 0, "How long to wait (1m)", 0 },
	{ 0 },
};
const struct ctl_command ctl_drain = {
	.name = "drain",
	.about = "Waits until nothing is under way",
	.text = "Waits until every event has been read and every order is settled or waits for its "
		"client. Stop the gateways first, so that nothing new comes; order and inventory "
		"must run. Exit code 1: something is still under way, and is listed.\vExample:\n"
		"  scripts/down gateway && tandemctl drain",
	.options = drain_options,
	.parse = drain_parse,
	.options_size = sizeof(struct drain),
	.run = drain_run,
};
