/* test_conformance.c - the Redis in memory (tests/memory_redis) answers as a real one does.
 *
 * The same random commands go to both, from a functions' calls down to single commands and through
 * redis.call and redis.pcall, with few keys and few ids, so that they meet: on keys of other types, in
 * all states of a group, with memory that is full. Every answer is written as text and compared; at the
 * end of a seed all keys are. What depends on the time (idle, ids of dead letters and trails) is not compared.
 *
 *   TANDEM_CONFORMANCE_SEED=<seed>   runs that seed only, and prints every command */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "inventory/store.h"
#include "loop/loop.h"
#include "memory_redis/memory_redis.h"
#include "order/store.h"
#include "redis/redis.h"
#include "run.h"
#include "unit/redis_server.h"

#define SEEDS     60
#define STEPS     400
#define FRESH     12 /* seeds, since a library is loaded for each call */
#define WORDS_MAX 96
#define START_MS  INT64_C(1764000000000)

/* Words; what begins with '%' is made up:
 *   %h %s %z %y %x %t  a key with a hash, a set, a sorted set, one with scores 0, a stream, a text; now
 *   and then another (not for %y)
 *   %f field   %v value   %m score   %n number   %g group   %c consumer
 *   %i an id   %a an id for XADD, mostly the next one   %r a bound of a range   %b one of scores
 *   %E %S  the streams of orders, of stock
 *   %o order   %u customer   %k SKU   %T ms   %N now   %l lines   %J %3 one, three inputs of orders
 * What stands in [ ] is there one to three times. FCALL's functions have no version here. */
static const char *const templates[] = {
	"GET %t",
	"MGET %t %t %h",
	"SET %t %v",
	"SET %t %v PX 100000",
	"SET %t %v PX 0",
	"SET %t %v %v",
	"DEL %t",
	"DEL %h %x",
	"EXISTS %t %h %x",
	"TYPE %t",
	"TYPE %x",
	"HSET %h [ %f %v ]",
	"HSET %h %f",
	"HGET %h %f",
	"HMGET %h [ %f ]",
	"HDEL %h [ %f ]",
	"SADD %s [ %v ]",
	"SREM %s [ %v ]",
	"SISMEMBER %s %v",
	"ZADD %z [ %m %v ]",
	"ZREM %z [ %v ]",
	"ZCARD %z",
	"ZREVRANK %z %v",
	"HSCAN %h 0",
	"HINCRBY %h %f %n",
	"BITFIELD %s SET u1 9 1 SET u1 3 0 GET u1 9 SET u1 9 1",
	"BITFIELD %s GET u1 2 SET u1 40 1",
	"BITFIELD_RO %s GET u1 9 GET u1 1000",
	"BITFIELD_RO %s GET u1 9 SET u1 9 1",
	"ZRANGE %z %n %n WITHSCORES",
	"ZREVRANGE %z %n %n",
	"ZRANGEBYSCORE %z %b %b",
	"ZREMRANGEBYSCORE %z %b %b",
	"ZRANGEBYSCORE %z -inf %b LIMIT %n %n",
	"ZREVRANGEBYSCORE %z %b %b LIMIT %n %n",
	"ZADD %y [ 0 %v ]",
	"ZADD %y 0 %f",
	"ZREM %y %v",
	"ZRANGEBYLEX %y - + LIMIT %n %n",
	"ZRANGEBYLEX %y (%v + LIMIT 0 %n",
	"ZRANGEBYLEX %y [%v (%v",
	"ZRANGEBYLEX %y %v +",
	"XADD %x %a [ %f %v ]",
	"XADD %x %a [ %f %v ]",
	"XADD %x %a [ %f %v ]",
	"XADD %x %a %f %v %f",
	"XLEN %x",
	"XRANGE %x %r %r",
	"XRANGE %x %r %r COUNT %n",
	"XREVRANGE %x %r %r COUNT %n",
	"XDEL %x [ %i ]",
	"XTRIM %x MINID %i",
	"XINFO STREAM %x",
	"XINFO GROUPS %x",
	"XINFO GROUPS %x",
	"XINFO CONSUMERS %x %g",
	"XINFO NOTHING %x",
	"XGROUP CREATE %x %g %i",
	"XGROUP CREATE %x %g %i MKSTREAM",
	"XGROUP SETID %x %g %i",
	"XGROUP SETID %x %g %i ENTRIESREAD %n",
	"XGROUP CREATECONSUMER %x %g %c",
	"XGROUP DELCONSUMER %x %g %c",
	"XGROUP DESTROY %x %g",
	"XREADGROUP GROUP %g %c COUNT 3 STREAMS %x >",
	"XREADGROUP GROUP %g %c COUNT 2 STREAMS %x >",
	"XREADGROUP GROUP %g %c STREAMS %x >",
	"XREADGROUP GROUP %g %c COUNT 2 STREAMS %x %i",
	"XREADGROUP GROUP %g %c COUNT 2 STREAMS %x %x > >",
	"XREADGROUP GROUP %g %c BLOCK 1 STREAMS %x %x %i >",
	"XREADGROUP GROUP %g %c STREAMS %x %x >",
	"XREADGROUP GROUP %g %c BLOCK 1 STREAMS %x 99-99",
	"XREAD COUNT %n STREAMS %x %i",
	"XREAD COUNT %n STREAMS %x %x %i %i",
	"XACK %x %g [ %i ]",
	"XPENDING %x %g",
	"XPENDING %x %g %r %r %n",
	"XPENDING %x %g IDLE 0 %r + 5 %c",
	"XPENDING %x %g IDLE 900000 - + 5",
	"XAUTOCLAIM %x %g %c 0 0 COUNT 1",
	"XCLAIM %x %g %c 0 [ %i ] JUSTID",
	"XCLAIM %x %g %c 900000 %i JUSTID",
	"XTRIM %x MAXLEN 9",
	"XCLAIM %x %g %c 0 [ %i ] RETRYCOUNT %n JUSTID",
	"XAUTOCLAIM %x %g %c 0 %i COUNT 2",
	"XAUTOCLAIM %x %g %c 900000 %i",
	"NOTHING",
	"GET",
	"FCALL probe_values 0 %n",
	"FCALL probe_values 1",
	"FCALL nothing 0",
	"FCALL order_place 1 %E %N time %T -60 %o %u 60000 %v",
	"FCALL order_place 1 %E %N time %T f60 %o %u 60000 %v 1 tp",
	"FCALL order_place 1 %E %N time %T -f-60 %o %u 6000 %v %o %u 7000 %v %o %u 6000 %v 2 tp",
	"FCALL order_place 1 %E %N time %T -a60 %o %u 60000 %v %o %u 60000 %v",
	"FCALL order_find 1 %E %T - %o %v",
	"FCALL order_find 1 %E %T -a %o %v %o %v",
	"FCALL order_drop 2 %E archive:{0}:events %N time -100 1 %o %n  %i",
	"FCALL order_drop 2 %E archive:{0}:events %N time -100 3 %o %n  %o 1 7 %o 2  %i +%i",
	"FCALL order_move 2 %E %S %N time %T %J w %o %i",
	"FCALL order_move 2 %E %S %N time %T %J h1 %o 1  %T %v tp [ %i ]",
	"FCALL order_move 2 %E %S %N time %T %3 wh- %o %o %o %i +%i",
	"FCALL order_move 1 %E %N time %T %3 -wh2 %o %o %o 1 2   tp 3  %T %v ",
	"FCALL order_move 1 %E %N time %T %3 hhw %o %o %o",
	"FCALL order_list 1 %E %u %n %T  1500",
	"FCALL order_list 1 %E %u %n %T %o 1500",
	"FCALL order_due 1 %E %T %T 5 inventory",
	"FCALL order_timer 1 %E [ %o %n %T ]",
	"FCALL order_behind 1 %E %T inventory 0",
	"FCALL order_trim 1 %E %T 10 5 -1",
	"FCALL order_trim 1 %E %T 30 %n 900000",
	"SADD order:{0}:excluded_groups inventory",
	"FCALL order_acknowledge 2 %E %S order %i +%i",
	"FCALL order_set_aside 2 %E %S order %c %i time why 2 type ord_1 1 time 1  data",
	"FCALL order_dead_letter 2 %E %S order time why [ %i ]",
	"FCALL order_pending 2 %E %S order %c 0 5",
	"FCALL order_cursor 2 %E %S order %c 900000",
	"FCALL order_version 1 order:{0}:events",
	"FCALL inventory_request 2 %S %E r %N time %o %l %i",
	"FCALL inventory_request 2 %S %E rr1 %N time %o %o %l %l 1 2 tp  %i %i",
	"FCALL inventory_request 2 %S %E rmle2 %N time %o %o %o %o %l 2 3 tp  4 1 tp %T %i +%i",
	"FCALL inventory_request 2 %S %E d1 %N time %o 1 1  %T %i",
	"FCALL inventory_request 1 %S drd2 %N time %o %o %o %l 1 1  %T 3 1  %T",
	"FCALL inventory_request 1 %S kjm %N time %o %o %o",
	"FCALL inventory_adjust 1 %S 1000000 %N time [ %k %n %v because who from ]",
	"FCALL inventory_adjust 1 %S 1000000 %N time %k 60  because who from",
	"FCALL inventory_adjusted 1 %S 1000000 %T time [ %k %n %v because who from ]",
	"FCALL order_operate 1 %E who from dead.discard %v why  discard %i",
	"FCALL order_operate 2 %E %S who from dead.replay %v why  replay %i %T",
	"FCALL order_operate 1 %E who from groups.exclude inventory why about exclude inventory",
	"FCALL order_operate 1 %E who from groups.include inventory why about include inventory",
	"FCALL order_operate 1 %E who from repair %o why about timer %o %n %T",
	"FCALL order_operate 1 %E who from repair %o why about drop_timer %o text",
	"FCALL inventory_operate 1 %S who from repair %o why about request r %N time %o %l",
	"FCALL inventory_operate 1 %S who from repair %k why about recount %k text text",
	"FCALL inventory_operate 1 %S who from nothing %k why about trim",
	"XADD %x MAXLEN 7 %a [ %f %v ]",
	"FCALL inventory_trim 1 %S %T 10 5 -1",
	"FCALL inventory_pending 2 %S %E inventory %c 0 5",
	"FCALL inventory_cursor 2 %S %E inventory %c -1",
	"XGROUP CREATE %E inventory 0 MKSTREAM",
	"XGROUP CREATE %S order 0 MKSTREAM",
	"XREADGROUP GROUP inventory %c COUNT 4 STREAMS %E >",
	"XREADGROUP GROUP order %c COUNT 4 STREAMS %S >",
	"XDEL %E %i",
	"ZADD order:{0}:timers %m %o",
	"HSET order:{0}:orders %o text",
	"HMGET order:{0}:orders [ %o ]",
	"HDEL order:{0}:orders %o",
	"HSET inventory:{0}:stock %k text",
	"SET order:{0}:customer:v1 text",
	"DEL order:{0}:customer:v1",
};

static const char probe[] =
	"#!lua name=probe\n"
	"local function run(call, args) return call(unpack(args)) end\n"
	"redis.register_function('probe_call', function(keys, args)\n"
	"	return { 'before', run(redis.call, args), 'behind' } end)\n"
	"redis.register_function('probe_pcall', function(keys, args)\n"
	"	local answer = run(redis.pcall, args)\n"
	"	return { type(answer), answer } end)\n"
	"redis.register_function{ function_name = 'probe_read', flags = { 'no-writes' },\n"
	"	callback = function(keys, args) return run(redis.pcall, args) end }\n"
	"redis.register_function{ function_name = 'probe_write', flags = { 'allow-oom' },\n"
	"	callback = function(keys, args)\n"
	"		redis.call('HSET', 't:{0}:h1', 'a', 1.5, 'b', 1e15, 'c', 2^53)\n"
	"		return run(redis.call, args) end }\n"
	"redis.register_function('probe_values', function(keys, args)\n"
	"	local n = tonumber(args[1])\n"
	"	if n == 0 then return { 1.9, -1.9, true, false, 'text', { 1, nil, 3 } }\n"
	"	elseif n == 1 then return redis.error_reply('OOM of our own')\n"
	"	elseif n == 2 then return redis.error_reply('bare')\n"
	"	elseif n == 3 then return redis.status_reply('FINE')\n"
	"	elseif n == 4 then error('raised')\n"
	"	elseif n == 5 then error({ err = 'CODE raised' })\n"
	"	elseif n == 6 then return undefined\n"
	"	elseif n == 7 then undefined = 1\n"
	"	elseif n == 8 then return { 1, { err = 'ERR inside' }, { ok = 'INSIDE' } }\n"
	"	elseif n == 9 then return redis.call()\n"
	"	elseif n == 10 then return redis.call('GET', {})\n"
	"	elseif n == 11 then return nil + 1\n"
	"	elseif n == 12 then return redis.call('FCALL', 'probe_values', 0)\n"
	"	end\n"
	"	return function() end end)\n";

/* Both sides, and what is random. */
struct drive {
	struct redis_server *server;
	struct memory_redis *memory;
	struct rt_loop *loop; /* a manual one: its random numbers, and the memory's time */
	struct rt_arena arena;
	int64_t now_ms;
	uint64_t last_ms, last_n; /* of ids for XADD */
	bool full, loud;
	unsigned steps;
	/* The command. */
	size_t count;
	struct memory_text words[WORDS_MAX];
};

static uint64_t roll(struct drive *drive, uint64_t bound)
{
	return rt_loop_random(drive->loop, bound);
}

/* ---- commands out of templates ---- */

static void add_word(struct drive *drive, const char *text)
{
	struct memory_text *word = &drive->words[drive->count++];

	word->length = strlen(text);
	word->data = rt_arena_printf(&drive->arena, "%s", text);
}

static const char *make_id(struct drive *drive)
{
	uint64_t ms = roll(drive, 3) == 0 ? (uint64_t)(START_MS + (int64_t)roll(drive, 90)) : 0;

	if (roll(drive, 12) == 0)
		return rt_arena_printf(&drive->arena, "%" PRIu64, roll(drive, 9));
	return rt_arena_printf(&drive->arena, "%" PRIu64 "-%" PRIu64, ms + roll(drive, 9),
			       roll(drive, 9));
}

static const char *make_next_id(struct drive *drive)
{
	if (roll(drive, 10) == 0)
		return make_id(drive);
	drive->last_ms += roll(drive, 2);
	drive->last_n = roll(drive, 9);
	return rt_arena_printf(&drive->arena, "%" PRIu64 "-%" PRIu64, drive->last_ms / 4,
			       drive->last_n);
}

static const char *make_range(struct drive *drive)
{
	static const char *const ends[] = { "-", "+", "-", "+", "nothing", "(-", "(+" };

	if (roll(drive, 2) == 0)
		return ends[roll(drive, roll(drive, 8) == 0 ? RT_LENGTH(ends) : 4)];
	return rt_arena_printf(&drive->arena, "%s%s", roll(drive, 2) == 0 ? "(" : "",
			       make_id(drive));
}

static const char *make_now(struct drive *drive)
{
	drive->now_ms += (int64_t)roll(drive, 20) - 4;
	return rt_arena_printf(&drive->arena, "%" PRId64, drive->now_ms);
}

static const char *make_inputs(struct drive *drive, int count)
{
	static const char inputs[] = {
#define INPUT_LETTER(name, letter) (letter),
		ORDER_INPUTS(INPUT_LETTER)
#undef INPUT_LETTER
	};
	char letters[4] = "";

	for (int i = 0; i < count; i++)
		letters[i] = inputs[roll(drive, sizeof(inputs))];
	return rt_arena_printf(&drive->arena, "%s", letters);
}

static const char *make_lines(struct drive *drive)
{
	static const char *const lines[] = { "tea=1", "tea=2 cup=1", "tea=40", "cup=7 pot=1" };

	return lines[roll(drive, RT_LENGTH(lines))];
}

static const char *make_key(struct drive *drive, char kind)
{
	static const char kinds[] = "hszxt";

	if (kind != 'y' && roll(drive, 25) == 0)
		kind = kinds[roll(drive, 5)];
	return rt_arena_printf(&drive->arena, "t:{0}:%c%d", kind, 1 + (int)roll(drive, 2));
}

static const char *make(struct drive *drive, char kind)
{
	static const char *const bounds[] = { "-inf", "+inf", "3", "(3", "7.5", "(0", "text" };
	static const char *const scores[] = { "1", "2", "3.25", "-4", "1e3", "7", "text" };
	struct rt_arena *arena = &drive->arena;

	switch (kind) {
	case 'f':
	case 'k':
	case 'c':
		return rt_arena_printf(arena, "%s%d", kind == 'k' ? "sku" : "f",
				       (int)roll(drive, 4));
	case 'u':
	case 'v':
		return rt_arena_printf(arena, "v%d", (int)roll(drive, kind == 'u' ? 2 : 5));
	case 'm':
		return scores[roll(drive, roll(drive, 8) == 0 ? 7 : 6)];
	case 'b':
		return bounds[roll(drive, roll(drive, 8) == 0 ? 7 : 6)];
	case 'n':
		return roll(drive, 30) == 0
			       ? "text"
			       : rt_arena_printf(arena, "%d", (int)roll(drive, 18) - 3);
	case 'E':
		return "order:{0}:events";
	case 'S':
		return "inventory:{0}:events";
	case 'g':
		return roll(drive, 2) == 0 ? "g1" : "g2";
	case 'i':
		return make_id(drive);
	case 'a':
		return make_next_id(drive);
	case 'r':
		return make_range(drive);
	case 'o':
		return rt_arena_printf(arena, "ord_%d", (int)roll(drive, 8));
	case 'T':
		return rt_arena_printf(arena, "%" PRId64,
				       drive->now_ms + (int64_t)roll(drive, 60) - 20);
	case 'N':
		return make_now(drive);
	case 'J':
		return make_inputs(drive, 1);
	case '3':
		return make_inputs(drive, 3);
	case 'l':
		return make_lines(drive);
	default:
		return make_key(drive, kind);
	}
}

/* The text with what it stands for. */
static void add_made(struct drive *drive, const char *word)
{
	const char *at = strchr(word, '%');

	if (at == NULL)
		add_word(drive, word);
	else
		add_word(drive, rt_arena_printf(&drive->arena, "%.*s%s%s", (int)(at - word), word,
						make(drive, at[1]), at + 2));
}

static void add_function(struct drive *drive, const char *name)
{
	bool of_order = strncmp(name, "order_", 6) == 0;

	if (of_order || strncmp(name, "inventory_", 10) == 0)
		name = rt_arena_printf(
			&drive->arena, "%s_%s", name,
			(of_order ? &order_functions : &inventory_functions)->version);
	add_word(drive, name);
}

static void make_command(struct drive *drive)
{
	static const char *const wraps[] = { "probe_call", "probe_pcall", "probe_read",
					     "probe_write" };
	const char *template = templates[roll(drive, RT_LENGTH(templates))], *again = NULL;
	bool wrap = false;
	char word[128];

	rt_arena_reset(&drive->arena, 65536);
	drive->count = 0;
	if (template[0] != 'F' && (template[0] == 'X' || strchr(template, ':') == NULL))
		wrap = roll(drive, 4) == 0;
	if (wrap) {
		add_word(drive, "FCALL");
		add_word(drive, wraps[roll(drive, RT_LENGTH(wraps))]);
		add_word(drive, "3");
		add_word(drive, "t:{0}:events");
		add_word(drive, "order:{0}:events");
		add_word(drive, "inventory:{0}:events");
	}
	for (const char *at = template; at != NULL;) {
		const char *end = strchrnul(at, ' ');

		snprintf(word, sizeof(word), "%.*s", (int)(end - at), at);
		at = *end == '\0' ? NULL : end + 1;
		if (strcmp(word, "[") == 0)
			again = at;
		else if (strcmp(word, "]") == 0)
			at = drive->count < WORDS_MAX - 20 && roll(drive, 3) == 0 ? again : at;
		else if (drive->count == 1 && strncmp(template, "FCALL", 5) == 0)
			add_function(drive, word);
		else
			add_made(drive, word);
	}
}

/* ---- answers as text ---- */

static void add_reply(struct rt_buf *text, const redisReply *reply);

/* Idle times, and how Redis lays a stream out, are not compared. */
static bool is_hidden(const redisReply *array, size_t i)
{
	const redisReply *before = i > 0 ? array->element[i - 1] : NULL;

	if (array->element[i]->type != REDIS_REPLY_INTEGER || before->type != REDIS_REPLY_STRING)
		return false;
	if (array->elements == 4 && i == 2 && array->element[3]->type == REDIS_REPLY_INTEGER)
		return true;
	return strcmp(before->str, "idle") == 0 || strncmp(before->str, "radix-tree-", 11) == 0;
}

static void add_array(struct rt_buf *text, const redisReply *reply)
{
	rt_buf_printf(text, "[");
	for (size_t i = 0; i < reply->elements; i++) {
		if (i > 0 && is_hidden(reply, i))
			rt_buf_printf(text, " ?");
		else
			add_reply(text, reply->element[i]);
	}
	rt_buf_printf(text, " ]");
}

static void add_reply(struct rt_buf *text, const redisReply *reply)
{
	switch (reply->type) {
	case REDIS_REPLY_INTEGER:
		rt_buf_printf(text, " %lld", reply->integer);
		break;
	case REDIS_REPLY_ARRAY:
		add_array(text, reply);
		break;
	case REDIS_REPLY_NIL:
		rt_buf_printf(text, " nil");
		break;
	default:
		rt_buf_printf(text, reply->type == REDIS_REPLY_STRING ? " '" : " <");
		for (size_t i = 0; i < (size_t)reply->len; i++)
			rt_buf_printf(text, reply->str[i] < ' ' ? "\\x%02x" : "%c",
				      (unsigned char)reply->str[i]);
		rt_buf_printf(text, reply->type == REDIS_REPLY_STRING ? "'" : ">");
	}
}

/* ---- both sides ---- */

static redisReply *ask_real(struct drive *drive)
{
	const char *argv[WORDS_MAX];
	size_t lengths[WORDS_MAX];

	for (size_t i = 0; i < drive->count; i++) {
		argv[i] = drive->words[i].data;
		lengths[i] = drive->words[i].length;
	}
	return redisCommandArgv(drive->server->control, (int)drive->count, argv, lengths);
}

/* False: the answers differ. */
static bool run_command(struct drive *drive)
{
	redisReply *real = ask_real(drive);
	const redisReply *memory =
		memory_run(drive->memory, &drive->arena, drive->count, drive->words);
	static const redisReply nothing = { .type = REDIS_REPLY_NIL };
	struct rt_buf said = { 0 }, expected = { 0 };
	bool same;

	add_reply(&said, memory == NULL ? &nothing : memory);
	add_reply(&expected, real);
	rt_buf_add(&said, "", 1);
	rt_buf_add(&expected, "", 1);
	same = strcmp(said.data, expected.data) == 0;
	if (!same || drive->loud) {
		printf("\n%u:", drive->steps);
		for (size_t i = 0; i < drive->count; i++)
			printf(" %s",
			       drive->words[i].data[0] == '\0' ? "''" : drive->words[i].data);
		printf("\n   memory:%s\n   Redis: %s\n", said.data, expected.data);
	}
	freeReplyObject(real);
	rt_buf_done(&said);
	rt_buf_done(&expected);
	return same;
}

static bool compare_words(struct drive *drive, const char *text)
{
	const char *at = text;

	rt_arena_reset(&drive->arena, 65536);
	drive->count = 0;
	while (*at != '\0') {
		size_t length = strcspn(at, " ");

		add_word(drive, rt_arena_printf(&drive->arena, "%.*s", (int)length, at));
		at += length + (at[length] == ' ');
	}
	return run_command(drive);
}

static bool RT_PRINTF(2, 3) compare(struct drive *drive, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return compare_words(drive, text);
}

/* ---- all that is kept ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool same_key(struct drive *drive, const struct memory_key *key)
{
	const char *name = key->name.data;
	bool good = compare(drive, "TYPE %s", name);

	switch (key->type) {
	case MEMORY_TEXT:
		return good && compare(drive, "GET %s", name);
	case MEMORY_HASH:
		return good && compare(drive, "HGETALL %s", name);
	case MEMORY_SET:
		for (struct memory_field *at = key->fields; at != NULL; at = at->hh.next)
			good = good && compare(drive, "SISMEMBER %s %s", name, at->name.data);
		return good && redis_server_int(drive->server, "SCARD %s", name) ==
				       (long long)HASH_COUNT(key->fields);
	case MEMORY_ZSET:
		return good && compare(drive, "ZRANGE %s 0 -1 WITHSCORES", name);
	case MEMORY_STREAM:
		break;
	}
	if (strstr(name, ":dead") != NULL || strstr(name, ":trail") != NULL)
		return good && compare(drive, "XLEN %s", name);
	good = good && compare(drive, "XRANGE %s - +", name) &&
	       compare(drive, "XINFO STREAM %s", name) && compare(drive, "XINFO GROUPS %s", name);
	for (size_t i = 0; i < key->stream.group_count; i++) {
		const char *group = key->stream.groups[i]->name;

		good = good && compare(drive, "XINFO CONSUMERS %s %s", name, group) &&
		       compare(drive, "XPENDING %s %s - + 1000", name, group);
	}
	return good;
}

static bool same_keys(struct drive *drive)
{
	const char *names[512];
	size_t count = 0;
	redisReply *real = redis_server_command(drive->server, "KEYS *");
	const char **real_names = rt_alloc((real->elements + 1) * sizeof(*real_names));
	bool good;

	for (struct memory_key *key = drive->memory->keys; key != NULL && count < RT_LENGTH(names);
	     key = key->hh.next)
		names[count++] = key->name.data;
	for (size_t i = 0; i < real->elements; i++)
		real_names[i] = real->element[i]->str;
	qsort(names, count, sizeof(*names), by_text);
	qsort(real_names, real->elements, sizeof(*real_names), by_text);
	good = count == real->elements;
	for (size_t i = 0; good && i < count; i++)
		good = strcmp(names[i], real_names[i]) == 0;
	if (!good)
		printf("\n   %zu keys in memory, %zu in Redis\n", count, real->elements);
	freeReplyObject(real);
	free(real_names);
	for (struct memory_key *key = drive->memory->keys; good && key != NULL; key = key->hh.next)
		good = same_key(drive, key);
	return good;
}

/* ---- a seed ---- */

static void load(struct drive *drive, const char *code, size_t length)
{
	const struct memory_text words[] = { { (char *)(uintptr_t) "FUNCTION", 8 },
					     { (char *)(uintptr_t) "LOAD", 4 },
					     { (char *)(uintptr_t) "REPLACE", 7 },
					     { (char *)(uintptr_t)code, length } };

	memcpy(drive->words, words, sizeof(words));
	drive->count = RT_LENGTH(words);
	CU_ASSERT_TRUE_FATAL(run_command(drive));
}

static void set_full(struct drive *drive, bool full)
{
	drive->full = full;
	drive->memory->memory_full = full;
	redis_server_do(drive->server, "CONFIG SET maxmemory %d", full ? 1 : 0);
}

static bool run_seed(struct redis_server *server, uint64_t seed, bool loud)
{
	struct drive drive = { .server = server, .now_ms = START_MS, .last_ms = 4, .loud = loud };
	bool good = true;
	int rc = rt_loop_new_manual((int64_t)time(NULL) * 1000, seed, &drive.loop);

	CU_ASSERT_EQUAL_FATAL(rc, RT_OK);
	drive.memory = memory_redis_new(drive.loop);
	set_full(&drive, false);
	redis_server_do(server, "FLUSHALL");
	redis_server_do(server, "FUNCTION FLUSH");
	load(&drive, probe, sizeof(probe) - 1);
	load(&drive, order_functions.code, order_functions.code_length);
	load(&drive, inventory_functions.code, inventory_functions.code_length);
	while (good && drive.steps++ < STEPS) {
		if (roll(&drive, drive.full ? 10 : 100) == 0)
			set_full(&drive, !drive.full);
		make_command(&drive);
		good = run_command(&drive);
	}
	good = good && same_keys(&drive);
	CU_ASSERT_EQUAL(drive.memory->undeclared, 0);
	memory_redis_free(drive.memory);
	rt_loop_free(drive.loop);
	rt_arena_done(&drive.arena);
	return good;
}

static void same_answers(void)
{
	/* So that a hash keeps its fields in the order they came. */
	static const char *const settings[] = { "--hash-max-listpack-value", "100000", NULL };
	const char *only = getenv("TANDEM_CONFORMANCE_SEED");
	struct redis_server server;

	redis_server_start(&server, settings);
	if (only != NULL) {
		CU_ASSERT(run_seed(&server, strtoull(only, NULL, 10), true));
	} else {
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			if (run_seed(&server, seed, false))
				continue;
			printf("see it: TANDEM_CONFORMANCE_SEED=%" PRIu64 "\n", seed);
			CU_FAIL("the answers differ");
			break;
		}
	}
	redis_server_done(&server);
}

/* ---- what a library caches ---- */

/* Read all data that a seed can have written. */
static const char *const kept[] = {
	"XRANGE order:{0}:events - +",
	"XRANGE inventory:{0}:events - +",
	"HGETALL order:{0}:orders",
	"ZRANGE order:{0}:timers 0 -1 WITHSCORES",
	"ZRANGE order:{0}:customer:v0 0 -1 WITHSCORES",
	"ZRANGE order:{0}:customer:v1 0 -1 WITHSCORES",
	"HGETALL inventory:{0}:stock",
	"HGETALL inventory:{0}:r",
};

/* Sends the same to both, and to the second with libraries just loaded. False: they differ. */
static bool same_when_fresh(struct drive *drive, struct memory_redis *fresh)
{
	struct rt_buf said = { 0 }, expected = { 0 };
	struct rt_arena arena = { .chunks = NULL };
	static const redisReply nothing = { .type = REDIS_REPLY_NIL };
	const redisReply *reply;
	bool same;

	reply = memory_run(drive->memory, &arena, drive->count, drive->words);
	add_reply(&said, reply == NULL ? &nothing : reply);
	if (strcmp(drive->words[0].data, "FCALL") == 0) {
		memory_do(fresh, "FUNCTION", "LOAD", "REPLACE", order_functions.code, NULL);
		memory_do(fresh, "FUNCTION", "LOAD", "REPLACE", inventory_functions.code, NULL);
	}
	reply = memory_run(fresh, &arena, drive->count, drive->words);
	add_reply(&expected, reply == NULL ? &nothing : reply);
	rt_buf_add(&said, "", 1);
	rt_buf_add(&expected, "", 1);
	same = strcmp(said.data, expected.data) == 0;
	if (!same) {
		printf("\n%u:", drive->steps);
		for (size_t i = 0; i < drive->count; i++)
			printf(" %s",
			       drive->words[i].data[0] == '\0' ? "''" : drive->words[i].data);
		printf("\n   used: %s\n   fresh:%s\n", said.data, expected.data);
	}
	rt_arena_done(&arena);
	rt_buf_done(&said);
	rt_buf_done(&expected);
	return same;
}

static void set_words(struct drive *drive, const char *text)
{
	rt_arena_reset(&drive->arena, 65536);
	drive->count = 0;
	while (*text != '\0') {
		size_t length = strcspn(text, " ");

		add_word(drive, rt_arena_printf(&drive->arena, "%.*s", (int)length, text));
		text += length + (text[length] == ' ');
	}
}

static bool fresh_seed(uint64_t seed)
{
	struct drive drive = { .now_ms = START_MS, .last_ms = 4 };
	struct memory_redis *fresh;
	bool good = true;

	CU_ASSERT_FATAL(rt_loop_new_manual(START_MS, seed, &drive.loop) == RT_OK);
	drive.memory = memory_redis_new(drive.loop);
	fresh = memory_redis_new(drive.loop);
	memory_do(drive.memory, "FUNCTION", "LOAD", order_functions.code, NULL);
	memory_do(drive.memory, "FUNCTION", "LOAD", inventory_functions.code, NULL);
	while (good && drive.steps++ < STEPS) {
		make_command(&drive);
		/* Skips commands on other keys. */
		if (drive.count < 2 || (strcmp(drive.words[0].data, "FCALL") != 0 &&
					strstr(drive.words[1].data, "{0}") == NULL))
			continue;
		good = same_when_fresh(&drive, fresh);
	}
	for (size_t i = 0; good && i < RT_LENGTH(kept); i++) {
		set_words(&drive, kept[i]);
		good = same_when_fresh(&drive, fresh);
	}
	memory_redis_free(drive.memory);
	memory_redis_free(fresh);
	rt_loop_free(drive.loop);
	rt_arena_done(&drive.arena);
	return good;
}

/* Data that the functions keep between calls (reused tables, caches) does not change results: a library that
 * has just been loaded does the same. */
static void nothing_leaks(void)
{
	for (uint64_t seed = 1; seed <= FRESH; seed++) {
		if (fresh_seed(seed))
			continue;
		printf("seed %" PRIu64 "\n", seed);
		CU_FAIL("a call depends on those before it");
		break;
	}
}

/* What a real Redis lets a function do, and a cluster would not. */
static void declared_keys(void)
{
	static const struct {
		const char *why, *key;
		bool declared;
	} rows[] = {
		{ "it is KEYS[1]", "t:{0}:events", true },
		{ "it is KEYS[2]", "order:{0}:events", true },
		{ "it has the prefix of KEYS[1]", "t:{0}:a", true },
		{ "it has that of KEYS[2]", "order:{0}:a", false },
		{ "it lies in another slot", "t:{1}:events", false },
	};
	struct memory_redis *redis;
	struct rt_loop *loop;

	CU_ASSERT_FATAL(rt_loop_new_manual(START_MS, 1, &loop) == RT_OK);
	redis = memory_redis_new(loop);
	memory_do(redis, "FUNCTION", "LOAD", probe, NULL);
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		unsigned before = redis->undeclared;
		const redisReply *reply =
			memory_do(redis, "FCALL", "probe_call", "2", "t:{0}:events",
				  "order:{0}:events", "EXISTS", rows[i].key, NULL);

		TEST_ROW((reply->type == REDIS_REPLY_ARRAY) == rows[i].declared, rows[i].why);
		TEST_ROW(redis->undeclared == before + !rows[i].declared, rows[i].why);
	}
	memory_redis_free(redis);
	rt_loop_free(loop);
}

int main(void)
{
	static const struct test tests[] = {
		{ "the Redis in memory answers as a real one", same_answers },
		{ "a call does the same in a fresh library", nothing_leaks },
		{ "a function touches keys that are declared", declared_keys },
	};

	return tests_run("conformance", tests, RT_LENGTH(tests));
}
