/* fuzz_commands.c - whole commands of tandemctl with a Redis whose answers come from the input.
 *
 * The functions that call Redis are replaced (CMakeLists.txt): an answer is made of the input's bytes,
 * mostly in the shape that the command expects, with words that it knows. At the end of the input Redis
 * is unreachable, so every run ends. The output must be printable, its JSON pure ASCII, the exit code
 * one of the four. */
#include <hiredis/hiredis.h>
#include <stdarg.h>

#include "ctl/commands.h"
#include "fuzz.h"
#include "redis/redis.h"

#define ELEMENTS_MAX 12
#define ANSWER_KEPT  ((size_t)64 * 1024)

static struct fuzz input;
/* The answer that is being made. A command gets a copy of it on the heap, which AddressSanitizer guards. */
static struct rt_arena answer_arena;
/* What the command has written to its stdout; the stream is opened once, for every run. */
static struct rt_buf output;

/* ---- words ---- */

static const char good[] = "ord_aaaaaaaaaaaaaaaaaaaaaaaaaa";
/* An OrderPlaced: customer "a", one of "tea", for a minute. */
static const char placed[] = "\x0a\x10\x0a\x01"
			     "a\x12\x07\x0a\x03"
			     "tea\x10\x01\x22\x02\x08\x3c";

static const char *const words[] = {
	good,
	"type",
	"subject",
	"seq",
	"id",
	"time",
	"data",
	"attempt",
	"traceparent",
	"stream",
	"stream_id",
	"group",
	"reason",
	"deliveries",
	"dead_time",
	"replayed",
	"tandem.order.v1.OrderPlaced",
	"tandem.order.v1.OrderCancelled",
	"tandem.inventory.v1.InventoryReserved",
	"tandem.inventory.v1.InventoryUnavailable",
	"tandem.inventory.v1.StockAdjusted",
	"order:{0}:events",
	"inventory:{0}:events",
	"order",
	"inventory",
	"1764000000000-1",
	"1764000000005-2",
	"18446744073709551615-18446744073709551615",
	"9223372036854775808-0",
	"0-0",
	"0",
	"1",
	"2",
	"PENDING",
	"RESERVED",
	"REJECTED",
	"CANCELLED",
	"placed@1764000000000-1",
	"placed@1764000000000-1 reserved+5-2",
	"placed@1764000000000-1 again+2-2 rejected+5-3",
	"RESERVED 1 1764000000000 tea=1",
	"COMMITTED 1 1764000000000 tea=1 cup=2",
	"10 1 0 11 3",
	"tea",
	"order:{0}:orders",
	"ord_aaaaaaaaaaaaaaaaaaaaaaaaaa/1",
	"ord_aaaaaaaaaaaaaaaaaaaaaaaaaa/1 ord_bbbbbbbbbbbbbbbbbbbbbbbbbb/2",
	"batch",
	"\x0a\x00\x12\x01\x02\x1a\x00",
	"PENDING 1 60000 placed@1764000000000-1\n3\nabc",
	"CANCELLED~ 2 60000 attempt=3 placed@1764000000000-1 cancelled+5-2\n0\n",
	"inf",
	"-1",
	"1e300",
	"name",
	"pending",
	"idle",
	"last-delivered-id",
	"last-generated-id",
	"max-deleted-entry-id",
	"first-entry",
	"length",
	"900000",
};

/* ---- answers ---- */

static redisReply *make(int type)
{
	redisReply *reply = rt_arena_take(&answer_arena, sizeof(*reply));

	*reply = (redisReply){ .type = type };
	return reply;
}

static redisReply *make_string(int type, const char *bytes, size_t length)
{
	redisReply *reply = make(type);

	reply->str = rt_arena_copy(&answer_arena, bytes, length);
	reply->len = length;
	return reply;
}

static redisReply *make_integer(int64_t n)
{
	redisReply *reply = make(REDIS_REPLY_INTEGER);

	reply->integer = n;
	return reply;
}

static redisReply *make_array(size_t count)
{
	redisReply *reply = make(REDIS_REPLY_ARRAY);

	reply->element = rt_arena_take(&answer_arena, count * sizeof(redisReply *));
	reply->elements = count;
	return reply;
}

/* A word, or bytes of the input. */
static redisReply *any_string(void)
{
	uint8_t which = fuzz_byte(&input);
	const char *bytes;
	size_t length;

	if (which < RT_LENGTH(words))
		return make_string(REDIS_REPLY_STRING, words[which], strlen(words[which]));
	if (which == RT_LENGTH(words))
		return make_string(REDIS_REPLY_STRING, placed, sizeof(placed) - 1);
	bytes = fuzz_bytes(&input, &length);
	return make_string(REDIS_REPLY_STRING, bytes, length);
}

static redisReply *any_reply(int depth)
{
	uint8_t kind = fuzz_byte(&input) % 8;
	redisReply *reply;
	const char *bytes;
	size_t length;

	switch (kind) {
	case 0:
		return make(REDIS_REPLY_NIL);
	case 1:
		return make_integer(fuzz_int(&input));
	case 2:
		bytes = fuzz_bytes(&input, &length);
		return make_string(REDIS_REPLY_ERROR, bytes, length);
	case 3:
	case 4:
		if (depth >= 4)
			return make_array(0);
		reply = make_array(fuzz_byte(&input) % ELEMENTS_MAX);
		for (size_t i = 0; i < reply->elements; i++)
			reply->element[i] = any_reply(depth + 1);
		return reply;
	default:
		return any_string();
	}
}

/* Mostly the expected kind of answer. */
static redisReply *mostly(redisReply *(*expected)(void))
{
	return fuzz_byte(&input) % 16 == 15 ? any_reply(2) : expected();
}

static redisReply *any_integer(void)
{
	return make_integer(fuzz_int(&input));
}

static redisReply *strings(size_t count)
{
	redisReply *reply = make_array(count);

	for (size_t i = 0; i < count; i++)
		reply->element[i] = mostly(any_string);
	return reply;
}

static redisReply *fields(void)
{
	return strings((size_t)(fuzz_byte(&input) % ELEMENTS_MAX) & ~(size_t)1);
}

static redisReply *entry(void)
{
	redisReply *reply = make_array(2);

	reply->element[0] = mostly(any_string);
	reply->element[1] = mostly(fields);
	return reply;
}

static redisReply *list_of(redisReply *(*one)(void))
{
	redisReply *reply = make_array(fuzz_byte(&input) % 5);

	for (size_t i = 0; i < reply->elements; i++)
		reply->element[i] = mostly(one);
	return reply;
}

/* { name, value, … } with these names. */
static redisReply *named(const char *const *names, size_t count)
{
	redisReply *reply = make_array(2 * count);

	for (size_t i = 0; i < count; i++) {
		reply->element[2 * i] = make_string(REDIS_REPLY_STRING, names[i], strlen(names[i]));
		reply->element[2 * i + 1] =
			fuzz_byte(&input) % 2 == 0 ? mostly(any_string) : mostly(any_integer);
	}
	return reply;
}

static redisReply *record(void)
{
	static const char *const names[] = { "status",  "settled", "version", "hold",
					     "attempt", "history", "placed",  "detail" };

	return named(names, RT_LENGTH(names));
}

static redisReply *stream(void)
{
	static const char *const names[] = { "length", "last-generated-id", "max-deleted-entry-id",
					     "first-entry" };

	return named(names, RT_LENGTH(names));
}

static redisReply *group(void)
{
	static const char *const names[] = { "name", "pending", "last-delivered-id", "idle" };

	return named(names, RT_LENGTH(names));
}

static redisReply *pending(void)
{
	redisReply *reply = make_array(4);

	for (size_t i = 0; i < 4; i++)
		reply->element[i] = i < 2 ? mostly(any_string) : mostly(any_integer);
	return reply;
}

static redisReply *page(void)
{
	redisReply *reply = make_array(2);

	reply->element[0] = make_string(REDIS_REPLY_STRING, "0", 1);
	reply->element[1] = fields();
	return reply;
}

static redisReply *one_case(void)
{
	redisReply *reply = make_array(4);

	reply->element[0] = strings(7);
	reply->element[1] = mostly(any_string);
	reply->element[2] = mostly(any_integer);
	reply->element[3] = mostly(any_integer);
	return reply;
}

static redisReply *script(const struct rt_args *args)
{
	redisReply *reply;

	/* audit's cases: an answer for each id. */
	if (args->count > 6 && strncmp(args->argv[1], "local answers", 13) == 0) {
		reply = make_array((size_t)args->count - 6);
		for (size_t i = 0; i < reply->elements; i++)
			reply->element[i] = mostly(one_case);
		return reply;
	}
	return fuzz_byte(&input) % 4 == 0 ? any_reply(0) : strings(3);
}

static redisReply *answer(const struct rt_args *args)
{
	const char *name = args->argv[0];

	if (fuzz_byte(&input) % 16 == 15)
		return any_reply(0);
	if (strcmp(name, "XRANGE") == 0 || strcmp(name, "XREVRANGE") == 0)
		return list_of(entry);
	if (strcmp(name, "HGETALL") == 0)
		return record();
	if (strcmp(name, "XINFO") == 0)
		return strcmp(args->argv[1], "STREAM") == 0 ? stream() : list_of(group);
	if (strcmp(name, "XPENDING") == 0)
		return args->count > 3 ? list_of(pending) : pending();
	if (strstr(name, "SCAN") != NULL)
		return page();
	if (strcmp(name, "EVAL") == 0 || strcmp(name, "FCALL") == 0)
		return script(args);
	/* Redis counts these: always a small number. */
	if (strcmp(name, "XLEN") == 0 || strcmp(name, "XDEL") == 0)
		return make_integer(fuzz_byte(&input));
	return fuzz_byte(&input) % 2 == 0 ? any_string() : any_reply(0);
}

/* ---- replacements for connect.c, Redis and gRPC ---- */

redisReply *__wrap_ctl_redis_args(struct ctl *ctl, struct rt_args *args, int64_t timeout_ms,
				  bool errors_too);
redisReply *__wrap_ctl_redis_strings(struct ctl *ctl, bool errors_too, const char *const *list,
				     size_t count);
redisReply *__wrap_ctl_redis_named(struct ctl *ctl, const char *const *list, size_t count,
				   const redisReply *name);
void __wrap_ctl_error(const char *format, ...) RT_PRINTF(1, 2);
int64_t __wrap_ctl_now_ms(struct ctl *ctl);
int __wrap_rt_channel_new(struct rt_loop *loop, const char *target,
			  const struct rt_channel_options *options, struct rt_channel **ret);
void __wrap_rt_rpc_init(void);
void __wrap_rt_rpc_shutdown(void);

redisReply *__wrap_ctl_redis_args(struct ctl *ctl, struct rt_args *args, int64_t timeout_ms,
				  bool errors_too)
{
	redisReply *copy;

	(void)ctl;
	(void)timeout_ms;
	if (input.at == input.end) {
		rt_args_clear(args);
		return NULL;
	}
	copy = ctl_reply_copy(answer(args));
	rt_args_clear(args);
	rt_arena_reset(&answer_arena, ANSWER_KEPT);
	if (copy->type == REDIS_REPLY_ERROR && !errors_too) {
		freeReplyObject(copy);
		return NULL;
	}
	return copy;
}

static redisReply *ask(struct ctl *ctl, bool errors_too, const char *const *list, size_t count,
		       const redisReply *name)
{
	static struct rt_args args; /* empty between calls */

	for (size_t i = 0; i < count; i++)
		rt_args_str(&args, list[i]);
	if (name != NULL && name->str != NULL)
		rt_args_add(&args, name->str, name->len);
	return __wrap_ctl_redis_args(ctl, &args, 0, errors_too);
}

redisReply *__wrap_ctl_redis_strings(struct ctl *ctl, bool errors_too, const char *const *list,
				     size_t count)
{
	return ask(ctl, errors_too, list, count, NULL);
}

redisReply *__wrap_ctl_redis_named(struct ctl *ctl, const char *const *list, size_t count,
				   const redisReply *name)
{
	return ask(ctl, false, list, count, name);
}

/* The real one prints the text; here it is only formatted. */
void __wrap_ctl_error(const char *format, ...)
{
	char text[4096];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
}

int64_t __wrap_ctl_now_ms(struct ctl *ctl)
{
	(void)ctl;
	return INT64_C(1764000060000);
}

/* A connection of which only `up` is called. */
static bool redis_up(const struct rt_redis *redis)
{
	(void)redis;
	return input.at < input.end;
}
static const struct rt_redis_ops redis_ops = { .up = redis_up };
static struct rt_redis redis = { .ops = &redis_ops };
static char here[] = "here";
static struct ctl_node node = { .host = here, .listed = true, .master = true, .redis = &redis };

int __wrap_rt_channel_new(struct rt_loop *loop, const char *target,
			  const struct rt_channel_options *options, struct rt_channel **ret)
{
	(void)loop;
	(void)target;
	(void)options;
	(void)ret;
	return RT_INVALID;
}

void __wrap_rt_rpc_init(void)
{
}

void __wrap_rt_rpc_shutdown(void)
{
}

/* ---- a run ---- */

static ssize_t keep_output(void *cookie, const char *bytes, size_t length)
{
	(void)cookie;
	rt_buf_add(&output, bytes, length);
	return (ssize_t)length;
}

static FILE *output_new(void)
{
	FILE *made = fopencookie(NULL, "w", (cookie_io_functions_t){ .write = keep_output });

	FUZZ_MUST(made != NULL);
	return made;
}

static const char *const commands[][8] = {
	{ "explain", good },
	{ "events", "tail", "-n", "100" },
	{ "events", "tail", "--since", "1h", "--order", good },
	{ "events", "show", "1764000000000-1" },
	{ "events", "show", "x/1" },
	{ "events", "lag" },
	{ "dead", "list" },
	{ "dead", "show", "1764000000000-1" },
	{ "dead", "replay", "--all" },
	{ "dead", "discard", "--all", "--why", "test" },
	{ "audit", "--window", "0ms" },
	{ "audit", "--window", "0ms", "--repair-counters", "--yes" },
	{ "doctor" },
};

static const char *const trail[8] = { "trail", "-n", "100" };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ctl_node *nodes[] = { &node };
	struct ctl ctl = { .nodes = nodes,
			   .node_count = 1,
			   .gateway = "here",
			   .timeout_ms = 1000,
			   .redis_url = "",
			   .redis_host = "",
			   .redis_socket = "",
			   .redis_user = "",
			   .redis_password_file = "" };
	static FILE *shown;
	FILE *terminal = stdout;
	const struct ctl_command *command;
	char *argv[12] = { NULL }, json[] = "--json";
	const char *const *line;
	int argc = 0, used, code;
	bool as_json;
	uint8_t first;

	input = (struct fuzz){ data, data + size };
	first = fuzz_byte(&input);
	as_json = first % 2 != 0;
	/* Not one more in the table: inputs that are kept go on meaning what they did. */
	line = first >= 254 ? trail : commands[fuzz_byte(&input) % RT_LENGTH(commands)];
	while (argc < 8 && line[argc] != NULL) {
		argv[argc] = (char *)(uintptr_t)line[argc];
		argc++;
	}
	if (as_json)
		argv[argc++] = json;
	command = ctl_command_find(argv[0], argv[1], &used);
	FUZZ_MUST(command != NULL);
	if (shown == NULL)
		shown = output_new();
	output.length = 0;
	stdout = shown;
	code = ctl_command_run(&ctl, command, argc - used + 1, argv + used - 1);
	stdout = terminal;
	rt_buf_add(&output, "", 1);
	FUZZ_MUST(code >= CTL_OK && code <= CTL_UNAVAILABLE);
	FUZZ_MUST(strlen(output.data) + 1 == output.length);
	if (as_json)
		fuzz_check_json(output.data);
	else
		fuzz_check_shown(output.data);
	for (size_t i = 0; i < ctl.other_count; i++)
		free(ctl.others[i]);
	free(ctl.others);
	free(ctl.who);
	free(ctl.from);
	return 0;
}
