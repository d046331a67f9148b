/* world_bugs.c - the bugs planted on purpose, each a change in the text of the real functions. */
#include "world_internal.h"

const char *const world_bug_names[WORLD_BUGS] = {
	[BUG_SKIP_ACK] = "skip-ack",
	[BUG_FORGET_TOMBSTONE] = "forget-tombstone",
	[BUG_ANSWER_ANEW] = "answer-anew",
	[BUG_SKIP_COMPENSATION] = "skip-compensation",
};

#define PATCHES_MAX 2

static const struct memory_patch patches[WORLD_BUGS][PATCHES_MAX] = {
	[BUG_SKIP_ACK] = { { "order", "redis.call('XACK', keys[2], args[1], unpack(acks))", "" },
			   { "inventory",
			     "redis.call('XACK', keys[2], GROUP, unpack(args, at, "
			     "at + acks - 1))",
			     "" } },
	[BUG_FORGET_TOMBSTONE] = { { "inventory", "batch.latest[order_id] = rule.word",
				     "local kept = state == 'N' and rule.word == 'RELEASED' and "
				     "{} or batch.latest\n"
				     "kept[order_id] = rule.word" } },
	[BUG_ANSWER_ANEW] = { { "inventory", "	if record then\n		local word\n",
				"	if record and batch.requests[i] ~= RESERVE then\n"
				"		local word\n" } },
	[BUG_SKIP_COMPENSATION] = { { "order", "if not rule.asks and not",
				      "if (not rule.asks or rule.event == EVENTS.REJECTED) and "
				      "not" },
				    { "order", "or rule.asks and stream.last",
				      "or rule.asks and rule.event ~= EVENTS.REJECTED and "
				      "stream.last" } },
};

void world_plant(struct memory_redis *redis, enum world_bug bug)
{
	redis->patches = patches[bug];
	while (redis->patch_count < PATCHES_MAX && patches[bug][redis->patch_count].text != NULL)
		redis->patch_count++;
}
