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
	[BUG_SKIP_ACK] = { { "order", "acknowledge(keys, GROUP, args, acks)", "" },
			   { "inventory", "acknowledge(keys, GROUP, args, acks)", "" } },
	[BUG_FORGET_TOMBSTONE] = { { "inventory", "	if rule.to == state then\n",
				     "	if rule.to == state or (state == 'N' and rule.word == "
				     "'RELEASED') then\n" } },
	[BUG_ANSWER_ANEW] = { { "inventory", "	if record then\n		local word\n",
				"	if record and requests[i] ~= RESERVE then\n"
				"		local word\n" } },
	/* OrderRejected is not read as a request to release what is held. */
	[BUG_SKIP_COMPENSATION] = { { "inventory", "	local effect = rule.effect\n",
				      "	local effect = requests.rejects and 'K' or rule.effect\n" },
				    { "inventory", "	local good, instead, instead_lines =",
				      "	requests.rejects = requests[i] == 106\n"
				      "	local good, instead, instead_lines =" } },
};

void world_plant(struct memory_redis *redis, enum world_bug bug)
{
	redis->patches = patches[bug];
	while (redis->patch_count < PATCHES_MAX && patches[bug][redis->patch_count].text != NULL)
		redis->patch_count++;
}
