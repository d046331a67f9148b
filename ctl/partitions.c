/* partitions.c - how many partitions the data has, and where an order lies. */
#include "base/base.h"
#include "check.h"
#include "ctl.h"

/* False: Redis could not be asked, or the answer is no number of partitions. 0: the context has no data yet. */
static bool read_partitions(struct ctl *ctl, const char *context, int *ret)
{
	char key[CTL_KEY];
	redisReply *reply;
	int64_t count = 0;
	bool good;

	ctl_key(key, context, 0, "partitions");
	reply = ctl_redis(ctl, "GET", key);
	if (reply == NULL)
		return false;
	good = reply->type == REDIS_REPLY_NIL ||
	       (rt_parse_int(ctl_text(reply, ""), 1, RT_PARTITIONS_MAX, &count) &&
		(count & (count - 1)) == 0);
	if (!good)
		ctl_error("%s is not a number of partitions: %s", key, ctl_text(reply, "?"));
	freeReplyObject(reply);
	*ret = (int)count;
	return good;
}

int ctl_partitions(struct ctl *ctl)
{
	const char *other = "";
	int found = 0;

	for (size_t i = 0; i < CTL_CONTEXTS && ctl->partitions == 0; i++) {
		const char *context = ctl_contexts[i].name;
		int count;

		if (!read_partitions(ctl, context, &count))
			return 0;
		if (count > 0 && found > 0 && count != found) {
			ctl_error("the contexts differ in their number of partitions: "
				  "%s:{0}:partitions is %d, and that of %s is %d",
				  context, count, other, found);
			return 0;
		}
		if (count > 0) {
			found = count;
			other = context;
		}
	}
	if (ctl->partitions == 0)
		ctl->partitions = found > 0 ? found : 1;
	return ctl->partitions;
}

int ctl_order_partition(struct ctl *ctl, const char *order_id)
{
	int bucket = check_order_id(order_id) ? check_order_bucket(order_id) : -1;

	if (ctl->partitions == 1)
		return 0;
	return bucket < 0 ? -1 : rt_bucket_partition((unsigned int)bucket, ctl->partitions);
}
