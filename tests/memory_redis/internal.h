/* internal.h - what the files of the Redis in memory share. */
#ifndef MEMORY_REDIS_INTERNAL_H
#define MEMORY_REDIS_INTERNAL_H

#include <hiredis/hiredis.h>
#include <string.h>
#include <strings.h>

#include "memory_redis.h"

/* A command that runs. */
struct memory_call {
	struct memory_redis *redis;
	struct rt_arena *arena;
	size_t argc;
	const struct memory_text *argv;
	int64_t now_ms;
	bool scripted; /* a function runs it: its answer is used before the next command */
};

typedef redisReply *memory_runs(struct memory_call *call);
enum { CMD_WRITE = 1, CMD_DENYOOM = 2, CMD_NOSCRIPT = 4 };
struct memory_command {
	const char *name;
	int arity; /* with the name; negative: at least */
	int flags;
	int key, key_last; /* which arguments are keys: 0 none; last -1: all from the first on */
	memory_runs *run;
};
/* NULL: no such command. */
const struct memory_command *memory_command_find(const char *name);
/* The error that the number of arguments is wrong. */
bool memory_arity_fits(int arity, size_t argc);
/* Calls visit for each argument that is a key. */
void memory_command_keys(const struct memory_command *command, const struct memory_call *call,
			 void (*visit)(const struct memory_text *key, void *user), void *user);

/* ---- answers ---- */

redisReply *reply_new(struct memory_call *call, int type);
redisReply *reply_ok(struct memory_call *call);
redisReply *reply_nil(struct memory_call *call);
redisReply *reply_int(struct memory_call *call, int64_t n);
/* The bytes are copied, unless a function asks. */
redisReply *reply_text(struct memory_call *call, const struct memory_text *text);
redisReply *reply_str(struct memory_call *call, const char *text);
redisReply *reply_id(struct memory_call *call, struct memory_id id);
redisReply *reply_error(struct memory_call *call, const char *format, ...) RT_PRINTF(2, 3);
#define ERROR_TYPE           "WRONGTYPE Operation against a key holding the wrong kind of value"
#define ERROR_SYNTAX         "ERR syntax error"
#define ERROR_SCRIPT_UNKNOWN "ERR Unknown Redis command called from script"
#define ERROR_SCRIPT_ARITY   "ERR Wrong number of args calling Redis command from script"
#define ERROR_INT            "ERR value is not an integer or out of range"
#define ERROR_OOM            "OOM command not allowed when used memory > 'maxmemory'."
/* An empty array with room for so many. */
redisReply *reply_array(struct memory_call *call, size_t room);
void reply_push(redisReply *array, redisReply *element);
/* Adds a name and a value. */
void reply_named(struct memory_call *call, redisReply *array, const char *name, redisReply *value);

/* ---- arguments ---- */

bool arg_is(const struct memory_call *call, size_t i, const char *word);
bool arg_int(const struct memory_call *call, size_t i, int64_t *ret);

/* ---- keys ---- */

struct memory_text text_copy(const char *data, size_t length);
bool text_same(const struct memory_text *a, const struct memory_text *b);
/* The key of the argument: NULL in *ret when there is none. False: it has another type. */
bool key_get(struct memory_call *call, size_t i, enum memory_type type, struct memory_key **ret);
/* It is made when there is none. */
bool key_make(struct memory_call *call, size_t i, enum memory_type type, struct memory_key **ret);
void key_delete(struct memory_redis *redis, struct memory_key *key);
void stream_done(struct memory_stream *stream);

/* lua.c */
memory_runs run_fcall, run_fcall_ro, run_function;
void memory_functions_free(struct memory_redis *redis);
/* A client's command changed something: tells who waits. */
void memory_changed(struct memory_redis *redis);
void memory_late_free(struct memory_redis *redis);

/* streams.c */
memory_runs run_xack, run_xadd, run_xautoclaim, run_xclaim, run_xdel, run_xgroup, run_xinfo,
	run_xlen, run_xpending, run_xrange, run_xread, run_xreadgroup, run_xrevrange, run_xtrim;

#endif
