/* args.c - the arguments of a command, gathered one by one. */
#include "redis.h"

#include <string.h>

static void args_reserve(struct rt_args *args)
{
	if (args->count < args->capacity)
		return;
	args->capacity = args->capacity == 0 ? 16 : args->capacity * 2;
	args->argv = rt_realloc(args->argv, (size_t)args->capacity * sizeof(*args->argv));
	args->lengths = rt_realloc(args->lengths, (size_t)args->capacity * sizeof(*args->lengths));
	args->text_at = rt_realloc(args->text_at, (size_t)args->capacity * sizeof(*args->text_at));
}

void rt_args_add(struct rt_args *args, const void *data, size_t length)
{
	args_reserve(args);
	args->argv[args->count] = length == 0 ? "" : data;
	args->lengths[args->count] = length;
	args->text_at[args->count] = 0;
	args->count++;
}

void rt_args_str(struct rt_args *args, const char *s)
{
	rt_args_add(args, s, strlen(s));
}

void rt_args_copy(struct rt_args *args, const void *data, size_t length)
{
	size_t at = args->text.length;

	rt_buf_add(&args->text, data, length);
	rt_args_add(args, NULL, 0);
	args->lengths[args->count - 1] = length;
	args->text_at[args->count - 1] = at + 1;
}

void rt_args_int(struct rt_args *args, int64_t n)
{
	char text[RT_INT_TEXT];

	rt_args_copy(args, text, rt_int_text(n, text));
}

void rt_args_trace(struct rt_args *args, const char *traceparent, const char *tracestate)
{
	char *both;

	if (traceparent == NULL || traceparent[0] == '\0') {
		rt_args_str(args, "");
	} else if (tracestate == NULL || tracestate[0] == '\0') {
		rt_args_str(args, traceparent);
	} else {
		both = rt_printf("%s %s", traceparent, tracestate);
		rt_args_copy(args, both, strlen(both));
		free(both);
	}
}

void rt_args_clear(struct rt_args *args)
{
	args->count = 0;
	args->text.length = 0;
}

void rt_args_done(struct rt_args *args)
{
	free(args->argv);
	free(args->lengths);
	free(args->text_at);
	rt_buf_done(&args->text);
	*args = (struct rt_args){ .count = 0 };
}

void rt_redis_send(struct rt_redis *redis, struct rt_redis_op *op, struct rt_args *args,
		   int64_t timeout_ms,
		   void (*done)(struct rt_redis_op *op, int status, const struct redisReply *reply))
{
	/* Only now: the text may have moved while it grew. */
	for (int i = 0; i < args->count; i++) {
		if (args->text_at[i] != 0 && args->lengths[i] != 0)
			args->argv[i] = args->text.data + args->text_at[i] - 1;
	}
	rt_redis_command(redis, op, args->count, args->argv, args->lengths, timeout_ms, done);
}
