/* world_bugs.c - the bugs planted on purpose, each a change in the text of the real functions. */
#include "world_internal.h"

const char *const world_bug_names[WORLD_BUGS] = {
	[BUG_SKIP_ACK] = "skip-ack",
	[BUG_FORGET_TOMBSTONE] = "forget-tombstone",
	[BUG_ANSWER_ANEW] = "answer-anew",
	[BUG_SKIP_COMPENSATION] = "skip-compensation",
	[BUG_UNKNOWN_IS_SHORT] = "unknown-is-short",
	[BUG_EXTEND_NO_TIMER] = "extend-no-timer",
	[BUG_EXTEND_ANYWAY] = "extend-anyway",
	[BUG_EXTEND_SHORTENS] = "extend-shortens",
	[BUG_RETURN_TWICE] = "return-twice",
	[BUG_RETURN_UNSAID] = "return-unsaid",
	[BUG_DROP_ANY_VERSION] = "drop-any-version",
	[BUG_DROP_OPEN] = "drop-open",
	[BUG_DROP_UNNOTED] = "drop-unnoted",
	[BUG_DROP_UNCOUNTED] = "drop-uncounted",
	[BUG_DROP_HELD] = "drop-held",
	[BUG_DROP_FORGOTTEN] = "drop-forgotten",
	[BUG_DROP_AFRESH] = "drop-afresh",
	[BUG_RETURN_ANYWAY] = "return-anyway",
	[BUG_BATCH_APART] = "batch-apart",
	[BUG_LOW_AGAIN] = "low-again",
	[BUG_LOW_STAYS] = "low-stays",
	[BUG_LOW_UNRAISED] = "low-unraised",
	[BUG_LOW_PARTS] = "low-parts",
	[BUG_R1_FRESH_VERDICT] = "r1-fresh-verdict",
	[BUG_R1_NO_TOMBSTONE] = "r1-no-tombstone",
	[BUG_R2_ANY_RECORD] = "r2-any-record",
	[BUG_R3_KEEP_PARTS] = "r3-keep-parts",
	[BUG_R4_NO_LINES] = "r4-no-lines",
	[BUG_R5_NO_TAKING] = "r5-no-taking",
	[BUG_R6_ANY_GENERATION] = "r6-any-generation",
	[BUG_R7_SAME_CONNECTION] = "r7-same-connection",
	[BUG_R8_NO_WAIT] = "r8-no-wait",
};

#define PATCHES_MAX 2

/* Behind the state of a part, before what is done to it. */
#define PART_RULE "	local rule = state and PART_RULES[state][requests[i]]\n"

static const struct memory_patch patches[WORLD_BUGS][PATCHES_MAX] = {
	[BUG_SKIP_ACK] = { { "order", "acknowledge(keys, GROUP, args, acks)", "" },
			   { "inventory", "acknowledge(keys, GROUP, args, acks)", "" } },
	[BUG_FORGET_TOMBSTONE] = { { "inventory", "	if rule.to == state and not grows then\n",
				     "	if rule.to == state and not grows or (state == 'N' and "
				     "rule.word == 'RELEASED') then\n" } },
	[BUG_ANSWER_ANEW] = { { "inventory", "	if record then\n		local word\n",
				"	if record and requests[i] ~= RESERVE then\n"
				"		local word\n" } },
	/* OrderRejected is not read as a request to release what is held. */
	[BUG_SKIP_COMPENSATION] = { { "inventory", "	local effect = rule.effect\n",
				      "	local effect = requests.rejects and 'K' or rule.effect\n" },
				    { "inventory", "	local good, instead, instead_lines =",
				      "	requests.rejects = requests[i] == 106\n"
				      "	local good, instead, instead_lines =" } },
	[BUG_UNKNOWN_IS_SHORT] = { { "inventory", "text .. '/' .. '00'", "text .. '/0'" } },
	[BUG_EXTEND_NO_TIMER] = { { "order", "		local timer = step.rule.timer\n",
				    "		local timer = step.ends and 'KEEP' or "
				    "step.rule.timer\n" } },
	[BUG_EXTEND_ANYWAY] = { { "order", "	elseif hold > tonumber(longest) or ",
				  "	elseif " } },
	[BUG_EXTEND_SHORTENS] = { { "order", "	if hold <= step.hold then\n",
				    "	if false then\n" } },
	[BUG_RETURN_TWICE] = { { "inventory", "		if wants_back <= before then\n",
				 "		if false then\n" },
			       { "inventory", "= sku, wants_back - before\n",
				 "= sku, wants_back\n" } },
	[BUG_RETURN_UNSAID] = { { "inventory", "	if rule.to == state and not grows then\n",
				  "	if rule.to == state then\n" } },
	[BUG_DROP_ANY_VERSION] = { { "order", " and step.was == version and ", " and " } },
	[BUG_DROP_OPEN] = { { "order", "	if step and step.rule.verdict == 'D' and ",
			      "	if step and " } },
	[BUG_DROP_UNNOTED] = { { "order", "	if #places > 1 then ", "	if false then " } },
	[BUG_DROP_UNCOUNTED] = { { "inventory",
				   "		sold[left[i]] = (sold[left[i]] or 0) + "
				   "left[i + 1]\n",
				   "" } },
	[BUG_DROP_HELD] = { { "inventory", "	elseif effect == 'D' then\n",
			      "	elseif effect == 'D' or rule.to == 'N' then\n" },
			    { "inventory", "	elseif kind == 'D' then\n",
			      "	elseif kind == 'D' or rule.to == 'N' then\n" } },
	[BUG_DROP_FORGOTTEN] = { { "inventory", "		recent[count] = ';d'\n",
				   "		recent[count] = ';x'\n" } },
	[BUG_DROP_AFRESH] = { { "inventory",
				"	elseif state == 'N' and drops.asked[i] and "
				"drops.was(i) then\n		return 'NN-'\n"
				"	end\n	local good",
				"	end\n	local good" } },
	[BUG_RETURN_ANYWAY] = { { "order",
				  "	elseif extra and args[extra + 1] ~= '' and args[extra + 1] "
				  "~= step.was "
				  "then\n",
				  "	elseif extra and args[extra + 1] ~= '' and args[extra + 1] "
				  "~= step.was "
				  "and\n"
				  "			step.rule.from ~= 'C' then\n" } },
	[BUG_BATCH_APART] = { { "order", "				texts[i] = texts[at]\n",
				"" } },
	[BUG_LOW_AGAIN] = { { "inventory",
			      "				if low and not counter.low then\n",
			      "				if low then\n" } },
	[BUG_LOW_STAYS] = { { "inventory", "				counter.low = low\n",
			      "				counter.low = counter.low or low\n" } },
	[BUG_LOW_UNRAISED] = { { "inventory", "wanted > 0 and counter.low\n",
				 "counter[AVAILABLE] < wanted\n" } },
	[BUG_LOW_PARTS] = { { "inventory",
			      "		open_stream(keys[1]):publish(now_ms, args[2], events, m)\n",
			      "" } },
	[BUG_R1_FRESH_VERDICT] = { { "inventory", PART_RULE,
				     "	if requests[i] == 104 and (state == 'U' "
				     "or state == 'L') then\n"
				     "		state, text = 'N', lines[i]\n"
				     "	end\n" PART_RULE } },
	[BUG_R1_NO_TOMBSTONE] = { { "inventory", PART_RULE,
				    "	if requests[i] == 102 and state == 'N' then\n"
				    "		return 'L'\n"
				    "	end\n" PART_RULE } },
	[BUG_R2_ANY_RECORD] = { { "inventory",
				  "	elseif state ~= read[i] then\n"
				  "		return state .. state .. '?', record or "
				  "drops.text\n",
				  "	elseif state ~= read[i] then\n"
				  "		rule = RULES[read[i]][requests[i]]\n"
				  "	end\n"
				  "	if not rule then\n"
				  "		return nil, 'the reservation is damaged'\n" } },
	[BUG_R3_KEEP_PARTS] = { { "inventory", PART_RULE,
				  "	if requests[i] == 102 and state == 'R' then\n"
				  "		return 'L'\n"
				  "	end\n" PART_RULE } },
	[BUG_R4_NO_LINES] = { { "order",
				"	if LINES_KEYS[rule.event.name] and has_partitions(own) "
				"then\n",
				"	if false then\n" } },
	[BUG_R5_NO_TAKING] = { { "inventory", "	local move = MOVES[kind]\n",
				 "	local move = MOVES[kind]\n"
				 "	if kind == 'A' then\n"
				 "		return '-'\n"
				 "	end\n" } },
	[BUG_R6_ANY_GENERATION] = { { "inventory",
				      "			if generations[g] < last then\n",
				      "			if false then\n" },
				    { "inventory",
				      "	if args[IDS + n + 1] + 0 < tonumber(generation) then\n",
				      "	if false then\n" } },
};

void world_plant(struct world *world, enum world_bug bug)
{
	struct memory_redis *redis = world->redis;

	redis->same_epoch = bug == BUG_R7_SAME_CONNECTION;
	redis->patches = patches[bug];
	while (redis->patch_count < PATCHES_MAX && patches[bug][redis->patch_count].text != NULL)
		redis->patch_count++;
}
