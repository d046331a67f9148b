/* internal.h - what the files of the Redis in memory share. */
#ifndef MEMORY_REDIS_INTERNAL_H
#define MEMORY_REDIS_INTERNAL_H

#include <hiredis/hiredis.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

/* How uthash.h finds keys and fields: in a fraction of the time of its own function. */
static inline unsigned memory_hash(const void *data, size_t length)
{
	const uint64_t factor = UINT64_C(0x9e3779b97f4a7c15);
	const char *at = data;
	uint64_t hash = length, some = 0;

	for (; length >= sizeof(some); length -= sizeof(some), at += sizeof(some)) {
		memcpy(&some, at, sizeof(some));
		hash = (hash ^ some) * factor;
		hash ^= hash >> 32;
	}
	some = 0;
	memcpy(&some, at, length);
	hash = (hash ^ some) * factor;
	return (unsigned)(hash >> 32);
}
#define HASH_FUNCTION(data, length, hash) ((hash) = memory_hash(data, length))

#include "memory_redis.h"

/* A command that is executed. */
struct memory_call {
	struct memory_redis *redis;
	struct rt_arena *arena;
	size_t argc;
	const struct memory_text *argv;
	const struct memory_command *command;
	int64_t now_ms;
	bool scripted; /* called by a function: its answer is used before the next command */
	int master;    /* that runs it, if a function calls it */
	struct memory_key *key; /* the first key argument's; NULL: it does not exist */
	redisReply *error;      /* set by helpers that return false */
};

enum {
	CMD_WRITE = 1,
	CMD_DENYOOM = 2,
	CMD_NOSCRIPT = 4,
	CMD_LATE = 8, /* it checks its arguments before the type of its key */
	CMD_ANY = 16, /* keys of any type */
};
typedef redisReply *memory_runs(struct memory_call *call);
struct memory_command {
	const char *name; /* "XINFO|GROUPS" */
	int arity;        /* with the name; negative: at least */
	int flags;
	int key, key_last; /* which arguments are keys: 0 none; last -1: all from the first on */
	enum memory_type type;
	memory_runs *run;
};
/* Finds the command and checks the number of arguments. NULL, or the error. */
redisReply *memory_call_begin(struct memory_call *call);
redisReply *memory_call_run(struct memory_call *call);
/* Calls visit for each argument that is a key. */
void memory_call_keys(const struct memory_call *call,
		      void (*visit)(const struct memory_text *key, void *user), void *user);

/* ---- answers ---- */

redisReply *reply_new(struct memory_call *call, int type);
redisReply *reply_status(struct memory_call *call, const char *text);
redisReply *reply_ok(struct memory_call *call);
redisReply *reply_nil(struct memory_call *call);
redisReply *reply_int(struct memory_call *call, int64_t n);
/* The bytes are copied, unless a function made the call. */
redisReply *reply_text(struct memory_call *call, const struct memory_text *text);
redisReply *reply_str(struct memory_call *call, const char *text);
redisReply *reply_id(struct memory_call *call, struct memory_id id);
redisReply *reply_error(struct memory_call *call, const char *format, ...) RT_PRINTF(2, 3);
#define ERROR_SYNTAX "ERR syntax error"
#define ERROR_INT    "ERR value is not an integer or out of range"
#define ERROR_OOM    "OOM command not allowed when used memory > 'maxmemory'."
/* An empty array with room for so many. */
redisReply *reply_array(struct memory_call *call, size_t room);
void reply_push(redisReply *array, redisReply *element);
/* An array of one value for each letter: s text (const char *), i number (int64_t), d id (struct memory_id),
 * r an answer (redisReply *). */
redisReply *reply_list(struct memory_call *call, const char *types, ...);
/* Sets the call's error; returns false. */
bool fail(struct memory_call *call, const char *format, ...) RT_PRINTF(2, 3);

/* ---- arguments ---- */

bool arg_is(const struct memory_call *call, size_t i, const char *word);
bool arg_int(struct memory_call *call, size_t i, int64_t *ret);

/* ---- keys ---- */

struct memory_text text_copy(const char *data, size_t length);
/* As %.17g does: how Redis writes a score, and a number that Lua passes to a command. */
#define NUMBER_TEXT 40
void number_text(double n, char text[NUMBER_TEXT]);
bool text_same(const struct memory_text *a, const struct memory_text *b);
/* The key that argument i names; NULL: there is none. */
struct memory_key *key_find(struct memory_call *call, size_t i);
/* Whether the call's key has the command's type; commands with CMD_LATE call it themselves. */
bool key_fits(struct memory_call *call);
/* The call's key; created when it does not exist. */
struct memory_key *key_make(struct memory_call *call);
void key_delete(struct memory_redis *redis, struct memory_key *key);
/* Not in any keyspace. */
struct memory_key *key_copy(const struct memory_key *key);
void key_free(struct memory_key *key);
void stream_done(struct memory_stream *stream);
struct memory_stream stream_copy(const struct memory_stream *stream);

/* link.c: connections to this master break, and late effects there do not come any more. */
void memory_links_break(struct memory_redis *redis, int master, int64_t back_ms);

/* lua.c */
memory_runs run_fcall, run_function_load;
void memory_functions_free(struct memory_redis *redis);
/* A client's command brought news: runs blocked reads again. */
void memory_changed(struct memory_redis *redis);
void memory_late_free(struct memory_redis *redis);

/* streams.c */
memory_runs run_xack, run_xadd, run_xautoclaim, run_xclaim, run_xdel, run_xgroup_create,
	run_xgroup_createconsumer, run_xgroup_delconsumer, run_xgroup_destroy, run_xgroup_setid,
	run_xinfo_consumers, run_xinfo_groups, run_xinfo_stream, run_xlen, run_xpending, run_xrange,
	run_xread, run_xreadgroup, run_xtrim;

#endif
