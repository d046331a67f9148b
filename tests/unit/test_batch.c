/* test_batch.c - which items are sent together, in which order, and which wait. */
#include "loop/loop.h"
#include "run.h"

#include <string.h>

#define ITEMS 32

struct item {
	struct rt_batch_item item;
	char name;
};
struct run {
	struct rt_batch_run run;
	struct fixture *fixture;
};
struct fixture {
	struct rt_loop *loop;
	struct rt_batch *batch;
	struct item items[ITEMS];
	struct run *under_way[ITEMS];
	size_t under_way_count;
	bool finish_at_once;
	char sent[256]; /* "abc|d|": items that were sent together */
	size_t sent_length;
};

static void send_run(struct rt_batch_run *base, void *user)
{
	struct run *run = RT_CONTAINER_OF(base, struct run, run);
	struct fixture *fixture = user;

	CU_ASSERT_PTR_NULL(run->fixture); /* zeroed */
	run->fixture = fixture;
	for (struct rt_list *link = base->items.next; link != &base->items; link = link->next) {
		struct rt_batch_item *item = RT_CONTAINER_OF(link, struct rt_batch_item, link);

		fixture->sent[fixture->sent_length++] =
			RT_CONTAINER_OF(item, struct item, item)->name;
	}
	fixture->sent[fixture->sent_length++] = '|';
	if (fixture->finish_at_once)
		rt_batch_finish(base);
	else
		fixture->under_way[fixture->under_way_count++] = run;
}

static void setup(struct fixture *fixture, struct rt_batch_options options)
{
	*fixture = (struct fixture){ .loop = NULL };
	options.run_size = sizeof(struct run);
	options.send = send_run;
	options.user_data = fixture;
	CU_ASSERT_FATAL(rt_loop_new_manual(0, 1, &fixture->loop) == RT_OK);
	CU_ASSERT_FATAL(rt_batch_new(fixture->loop, &options, &fixture->batch) == RT_OK);
	for (size_t i = 0; i < ITEMS; i++)
		fixture->items[i].name = (char)('a' + i);
}

static void teardown(struct fixture *fixture)
{
	while (fixture->under_way_count > 0)
		rt_batch_finish(&fixture->under_way[--fixture->under_way_count]->run);
	rt_batch_free(fixture->batch);
	rt_loop_run_due(fixture->loop);
	rt_loop_free(fixture->loop);
}

/* A script, a character a step: a letter adds that item, '.' ends the turn, '!' finishes the
 * oldest run, '-' takes back the item that has waited longest. */
static void play(struct fixture *fixture, const char *script)
{
	for (; *script != '\0'; script++) {
		if (*script == '.') {
			rt_loop_run_due(fixture->loop);
		} else if (*script == '!') {
			CU_ASSERT_FATAL(fixture->under_way_count > 0);
			rt_batch_finish(&fixture->under_way[0]->run);
			fixture->under_way_count--;
			for (size_t i = 0; i < fixture->under_way_count; i++)
				fixture->under_way[i] = fixture->under_way[i + 1];
		} else if (*script == '-') {
			CU_ASSERT_PTR_NOT_NULL(rt_batch_pop(fixture->batch));
		} else {
			CU_ASSERT(
				rt_batch_add(fixture->batch, &fixture->items[*script - 'a'].item));
		}
	}
}

static void gathering(void)
{
	static const struct {
		const char *name, *script, *sent;
		size_t count_max, in_flight_max, gather;
		bool finish_at_once;
	} rows[] = {
		{ "a lone item goes at the end of its turn", "a.", "a|", 8, 1, 0, false },
		{ "nothing goes before the end of the turn", "abc", "", 8, 1, 0, false },
		{ "one turn's items go together, in order", "abc.", "abc|", 8, 1, 0, false },
		{ "items added meanwhile wait, then go together", "a.bcd..!.", "a|bcd|", 8, 1, 0,
		  false },
		{ "no run is larger than count_max", "abcde.!.!.", "ab|cd|e|", 2, 1, 0, false },
		{ "as many runs as may be under way", "abcdef.", "ab|cd|", 2, 2, 0, false },
		{ "a finished run makes room for one", "abcdef.!.", "ab|cd|ef|", 2, 2, 0, false },
		{ "no further run for less than gather", "a.bc.", "a|", 8, 4, 3, false },
		{ "a further run when gather items wait", "a.bc.d.", "a|bcd|", 8, 4, 3, false },
		{ "the end of a run lets fewer go", "a.bc.!.", "a|bc|", 8, 4, 3, false },
		{ "not the end of one of two", "a.bcd.e.!.", "a|bcd|", 8, 4, 3, false },
		{ "a sender may finish at once", "abcde.", "ab|cd|e|", 2, 1, 0, true },
		{ "an item taken back is not sent", "abc-.", "bc|", 8, 1, 0, false },
		{ "taking back the only one sends nothing", "a-.", "", 8, 1, 0, false },
		{ "a finish without waiting items sends nothing", "a.!.", "a|", 8, 1, 0, false },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct fixture fixture;

		setup(&fixture, (struct rt_batch_options){ .count_max = rows[i].count_max,
							   .in_flight_max = rows[i].in_flight_max,
							   .gather = rows[i].gather,
							   .waiting_max = ITEMS });
		fixture.finish_at_once = rows[i].finish_at_once;
		play(&fixture, rows[i].script);
		TEST_ROW(strcmp(fixture.sent, rows[i].sent) == 0, rows[i].name);
		rt_loop_run_due(fixture.loop);
		while (fixture.under_way_count > 0)
			play(&fixture, "!.");
		TEST_ROW(rt_batch_pop(fixture.batch) == NULL, rows[i].name);
		teardown(&fixture);
	}
}

/* Items of a unit go together unless a run cannot hold them, and no run is too heavy. */
static void units_and_weights(void)
{
	static const struct {
		const char *name, *script, *sent;
		const char *units;   /* of a, b, …; a dot: none */
		const char *weights; /* of a, b, …; NULL: none */
		size_t count_max, weight_max;
	} rows[] = {
		{ "units that fit go together", "abcde.", "abcde|", "xxyyy", NULL, 5, 0 },
		{ "a unit that does not fit waits for the next run", "abcdef.!.", "abc|def|",
		  "xxxyyy", NULL, 5, 0 },
		{ "single items fill a run", "abcde.!.", "abcd|e|", "xx...", NULL, 4, 0 },
		{ "single items do not overtake a unit", "abcdef.!.", "abc|def|", "xxxyy.", NULL, 4,
		  0 },
		{ "a unit larger than a run is split", "abcdef.!.!.", "ab|cd|ef|", "xxxxx.", NULL,
		  2, 0 },
		{ "… from the start of a run on", "abcdef.!.!.", "a|bcd|ef|", ".xxxxy", NULL, 3,
		  0 },
		{ "only consecutive items", "abcd.!.", "ab|cd|", "xyxx", NULL, 3, 0 },
		{ "the rest of a unit goes together", "abcd-.!.", "b|cd|", "xxyy", NULL, 2, 0 },
		{ "items added during a run go in the next", "ab.c.!.", "ab|c|", "xxx", NULL, 8,
		  0 },
		{ "weight limits a run", "abcd.!.", "ab|cd|", "....", "5533", 8, 10 },
		{ "exactly the limit", "abc.!.", "ab|c|", "...", "551", 8, 10 },
		{ "a heavy one goes alone", "abc.!.!.", "a|b|c|", "...", "191", 8, 5 },
		{ "a unit that is too heavy is split", "abcde.!.", "abc|de|", ".xxx.", "13331", 8,
		  8 },
		{ "a unit that does not fit waits for the next", "abcde.!.", "ab|cde|", "xxyy.",
		  "33331", 8, 8 },
		{ "without a limit weights do not count", "abc.", "abc|", "...", "999", 8, 0 },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct fixture fixture;

		setup(&fixture, (struct rt_batch_options){ .count_max = rows[i].count_max,
							   .weight_max = rows[i].weight_max,
							   .in_flight_max = 1,
							   .waiting_max = ITEMS });
		for (size_t j = 0; rows[i].units[j] != '\0'; j++) {
			struct rt_batch_item *item = &fixture.items[j].item;

			item->unit =
				rows[i].units[j] == '.' ? NULL : strchr("xyz", rows[i].units[j]);
			item->weight =
				rows[i].weights == NULL ? 0 : (size_t)(rows[i].weights[j] - '0');
		}
		play(&fixture, rows[i].script);
		if (strcmp(fixture.sent, rows[i].sent) != 0)
			printf("\n    sent %s, not %s", fixture.sent, rows[i].sent);
		TEST_ROW(strcmp(fixture.sent, rows[i].sent) == 0, rows[i].name);
		TEST_ROW(rt_batch_pop(fixture.batch) == NULL, rows[i].name);
		teardown(&fixture);
	}
}

static void bound(void)
{
	struct fixture fixture;

	setup(&fixture,
	      (struct rt_batch_options){ .count_max = 2, .in_flight_max = 1, .waiting_max = 3 });
	play(&fixture, "ab.cde");
	CU_ASSERT_FALSE(rt_batch_add(fixture.batch, &fixture.items[5].item));
	play(&fixture, "!.");
	CU_ASSERT_TRUE(rt_batch_add(fixture.batch, &fixture.items[5].item));
	/* An item that was sent cannot be taken back. */
	CU_ASSERT_PTR_EQUAL(rt_batch_pop(fixture.batch), &fixture.items[4].item);
	play(&fixture, "e!.");
	CU_ASSERT_STRING_EQUAL(fixture.sent, "ab|cd|fe|");
	teardown(&fixture);
}

static void counted(void)
{
	struct fixture fixture;
	struct rt_metrics *metrics = rt_metrics_new();
	struct rt_buf text = { .data = NULL };

	setup(&fixture, (struct rt_batch_options){ .count_max = 3,
						   .in_flight_max = 1,
						   .waiting_max = ITEMS,
						   .metrics = metrics,
						   .step = "try" });
	fixture.finish_at_once = true;
	play(&fixture, "abcde.");
	rt_metrics_write(metrics, &text);
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "tandem_batches_total{step=\"try\"} 2\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text.data, "tandem_batch_items_total{step=\"try\"} 5\n"));
	rt_buf_done(&text);
	teardown(&fixture);
	rt_metrics_free(metrics);
}

static void bad_options(void)
{
	/* Each lacks one thing. */
	static const struct rt_batch_options rows[] = {
		{ 0, 0, 1, 0, 1, sizeof(struct run), send_run, NULL, NULL, NULL,
		  "no items in a run" },
		{ 1, 0, 0, 0, 1, sizeof(struct run), send_run, NULL, NULL, NULL, "no runs" },
		{ 1, 0, 1, 0, 0, sizeof(struct run), send_run, NULL, NULL, NULL,
		  "no items that wait" },
		{ 1, 0, 1, 0, 1, sizeof(struct rt_batch_run) - 1, send_run, NULL, NULL, NULL,
		  "small run" },
		{ 1, 0, 1, 0, 1, sizeof(struct run), NULL, NULL, NULL, NULL, "no sender" },
	};
	struct rt_batch *batch = NULL;
	struct rt_loop *loop;

	CU_ASSERT_FATAL(rt_loop_new_manual(0, 1, &loop) == RT_OK);
	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(rt_batch_new(loop, &rows[i], &batch) == RT_INVALID, rows[i].step);
	CU_ASSERT_PTR_NULL(batch);
	rt_batch_free(NULL);
	rt_loop_free(loop);
}

/* ---- gates ---- */

#define LANES      3
#define LANE_ITEMS 8
#define WORTH      4
#define LATE_MS    10

/* Batches that share a gate. Of lane 'a' the items are sent as a, b, …; of the second as i, j, … */
struct lanes {
	struct fixture fixture[LANES];
	struct rt_loop *loop;
	struct rt_batch_rounds *rounds;
	struct rt_batch_gate *gate, *own[LANES], *at[LANES];
	char sent[256]; /* of all, in order */
};

static struct lanes *lanes;

static struct rt_batch_gate *lane_gate(void *user)
{
	const struct fixture *fixture = user;

	return lanes->at[fixture - lanes->fixture];
}

static void lane_send(struct rt_batch_run *base, void *user)
{
	struct fixture *fixture = user;
	size_t from = fixture->sent_length;

	send_run(base, user);
	strncat(lanes->sent, fixture->sent + from, fixture->sent_length - from);
}

static void lanes_setup(void)
{
	lanes = rt_alloc(sizeof(*lanes));
	CU_ASSERT_FATAL(rt_loop_new_manual(0, 1, &lanes->loop) == RT_OK);
	rt_batch_rounds_new(lanes->loop, WORTH, LATE_MS, &lanes->rounds);
	rt_batch_gate_new(lanes->rounds, &lanes->gate);
	for (size_t i = 0; i < LANES; i++) {
		struct fixture *fixture = &lanes->fixture[i];
		const struct rt_batch_options options = { .count_max = 4,
							  .in_flight_max = 2,
							  .gather = 2,
							  .waiting_max = LANE_ITEMS,
							  .run_size = sizeof(struct run),
							  .send = lane_send,
							  .gate = lane_gate,
							  .user_data = fixture };

		lanes->at[i] = lanes->gate;
		CU_ASSERT_FATAL(rt_batch_new(lanes->loop, &options, &fixture->batch) == RT_OK);
		for (size_t j = 0; j < LANE_ITEMS; j++)
			fixture->items[j].name = (char)('a' + LANE_ITEMS * i + j);
	}
}

static void lanes_teardown(void)
{
	for (size_t i = 0; i < LANES; i++) {
		struct fixture *fixture = &lanes->fixture[i];

		while (fixture->under_way_count > 0)
			rt_batch_finish(&fixture->under_way[--fixture->under_way_count]->run);
		while (rt_batch_pop(fixture->batch) != NULL)
			;
		rt_batch_free(fixture->batch);
	}
	rt_batch_gate_free(lanes->gate);
	for (size_t i = 0; i < LANES; i++)
		rt_batch_gate_free(lanes->own[i]);
	rt_batch_rounds_free(lanes->rounds);
	rt_loop_run_due(lanes->loop);
	rt_loop_free(lanes->loop);
	free(lanes);
}

static struct fixture *lane_of(char item)
{
	return &lanes->fixture[(item - 'a') / LANE_ITEMS];
}

static void finish_first(struct fixture *fixture)
{
	fixture->loop = lanes->loop;
	play(fixture, "!");
}

/* Gives each lane a gate of its own. */
static void lanes_part(void)
{
	for (size_t i = 0; i < LANES; i++) {
		rt_batch_gate_new(lanes->rounds, &lanes->own[i]);
		lanes->at[i] = lanes->own[i];
	}
}

/* As play, with the items of all lanes: '1', '2', '3' finish the oldest run of a lane; '+' is half of LATE_MS. */
static void lanes_play(const char *script)
{
	for (; *script != '\0'; script++) {
		if (*script == '.') {
			rt_loop_run_due(lanes->loop);
		} else if (*script == '+') {
			rt_loop_advance(lanes->loop, LATE_MS / 2);
		} else if (*script >= '1' && *script <= '3') {
			finish_first(&lanes->fixture[*script - '1']);
		} else {
			struct fixture *fixture = lane_of(*script);

			CU_ASSERT(rt_batch_add(fixture->batch,
					       &fixture->items[(*script - 'a') % LANE_ITEMS].item));
		}
	}
}

static void gates(void)
{
	static const struct {
		const char *name, *script, *sent;
	} rows[] = {
		{ "what waits goes in one round", "ajr.", "a|j|r|" },
		{ "nothing goes before the end of the turn", "aj", "" },
		{ "small runs wait for those of others", "a.jb.r.", "a|" },
		{ "and go together when the last of a round ends", "aj.bkr.1.2.", "a|j|b|k|r|" },
		{ "a run worth twice `gather` does not wait", "a.jkl.m.", "a|jklm|" },
		{ "nor does it let small ones go", "a.ijkl.r.1.", "a|ijkl|" },
		{ "one that does not wait counts", "a.ijkl.r.1.2.", "a|ijkl|r|" },
		{ "a batch with more than a run sends them in a round", "abcdefgh.", "abcd|efgh|" },
		{ "a rest waits", "abcde.", "abcd|" },
		{ "a rest goes with others", "abcde.i.1.", "abcd|e|i|" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		lanes_setup();
		lanes_play(rows[i].script);
		TEST_ROW(strcmp(lanes->sent, rows[i].sent) == 0, rows[i].name);
		lanes_teardown();
	}
}

static void rounds(void)
{
	static const struct {
		const char *name, *script, *sent;
	} rows[] = {
		{ "while little is under way gates do not wait for each other", "aij.1b.",
		  "a|ij|b|" },
		{ "while much is, one that was answered waits", "abij.1c.", "ab|ij|" },
		{ "and all go together", "abij.1c.k.2.", "ab|ij|c|k|" },
		{ "the next round begins anew", "abij.12.cdkl.2m.", "ab|ij|cd|kl|" },
		{ "one through which nothing has gone does not wait", "abij.q.", "ab|ij|q|" },
		{ "and is waited for", "abij.q.12c.", "ab|ij|q|" },
		{ "as long as it is under way", "abij.q.12c.3.", "ab|ij|q|c|" },
		{ "a large run does not wait", "abij.1cdef.", "ab|ij|cdef|" },
		{ "nor is it waited for", "abij.1cdef.k.2.", "ab|ij|cdef|k|" },
		{ "one may take a while", "abij.1c.+", "ab|ij|" },
		{ "but is not waited for when it is late", "abij.1c.++", "ab|ij|c|" },
		{ "it may take as long again as others took", "abij.+++1c.++", "ab|ij|" },
		{ "and not longer", "abij.+++1c.+++", "ab|ij|c|" },
		{ "as the last of the others took", "abijqr.1c.+2.+.", "ab|ij|qr|" },
		{ "a late one is waited for no more", "abij.1cd.++qr.2k.13e.", "ab|ij|cd|qr|k|e|" },
		{ "until it was in time", "abij.1cd.++qr.2k.2l.13e.", "ab|ij|cd|qr|k|l|" },
		{ "what is under way at a late one begins no round", "abijkl.1c.++q.1d.",
		  "ab|ijkl|c|q|d|" },
		{ "nor does what was under way", "abij.12c.q.1d.", "ab|ij|c|q|d|" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		lanes_setup();
		lanes_part();
		lanes_play(rows[i].script);
		TEST_ROW(strcmp(lanes->sent, rows[i].sent) == 0, rows[i].name);
		lanes_teardown();
	}
}

/* Others do not wait for a gate that was freed, though its runs end later. */
static void awaited_gate_freed(void)
{
	lanes_setup();
	lanes_part();
	lanes_play("abij.1c.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "ab|ij|");
	rt_batch_gate_free(RT_TAKE(lanes->own[1]));
	lanes->at[1] = NULL;
	lanes_play(".2k.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "ab|ij|c|k|");
	lanes_teardown();
}

/* A run that has left makes room, while it is not finished. */
static void leaving(void)
{
	lanes_setup();
	lanes_play("a.j.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|");
	rt_batch_leave(&lanes->fixture[0].under_way[0]->run);
	lanes_play("b.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|j|"); /* b's batch has a run of its own under way */
	lanes_play("1.2.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|j|b|");
	lanes_teardown();
}

/* Batches that wait go on when they have another gate or none, and when the gate is freed. */
static void other_gates(void)
{
	struct rt_batch_gate *other;

	lanes_setup();
	rt_batch_gate_new(lanes->rounds, &other);
	lanes_play("a.jr.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|");
	lanes->at[1] = other;
	lanes->at[2] = NULL;
	lanes_play("1.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|j|r|");
	lanes_play("3b.k.s."); /* k waits: of its batch a run is under way */
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|j|r|b|s|");
	lanes->at[0] = lanes->at[1] = NULL;
	lanes_play("12c.");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|j|r|b|s|k|c|");
	rt_batch_gate_free(other);
	lanes_teardown();
}

static void gate_freed(void)
{
	struct rt_batch_gate *other;

	lanes_setup();
	rt_batch_gate_new(lanes->rounds, &other);
	lanes_play("a.j."); /* j waits for a, which leaves later */
	rt_batch_gate_free(lanes->gate);
	lanes->gate = NULL;
	for (size_t i = 0; i < LANES; i++)
		lanes->at[i] = other;
	lanes_play(".");
	CU_ASSERT_STRING_EQUAL(lanes->sent, "a|j|");
	lanes_play("12");
	rt_batch_gate_free(other);
	lanes_teardown();
}

static const struct test tests[] = {
	{ "items are gathered", gathering },
	{ "units and weights", units_and_weights },
	{ "waiting items are bounded", bound },
	{ "batches and items are counted", counted },
	{ "bad options are refused", bad_options },
	{ "small runs wait at a gate", gates },
	{ "a run leaves its gate", leaving },
	{ "a batch changes gates", other_gates },
	{ "a gate is freed", gate_freed },
	{ "gates go in rounds", rounds },
	{ "nobody waits for a freed gate", awaited_gate_freed },
};

TESTS_MAIN("batch", tests)
