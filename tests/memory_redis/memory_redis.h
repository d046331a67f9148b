/* memory_redis.h - a Redis in memory: the commands that Tandem uses, as Redis 7.0 executes them, and the
 * real function libraries, run by Lua 5.1.
 *
 *   keys.c      the keyspace, and answers as hiredis represents them
 *   commands.c  the table of commands; texts, hashes, sets, sorted sets
 *   streams.c   streams and their groups
 *   lua.c       FUNCTION LOAD, FCALL, and the environment of a library
 *   masters.c   several masters, and failovers that lose what was written last
 *   link.c      connections on which commands travel, are lost or are late (link.h)
 *
 * tests/sim/test_conformance.c compares it with a real Redis, command by command. Other commands and
 * options are refused, with the error that Redis has for unknown ones.
 *
 * In addition it checks that a function uses only declared keys: those in KEYS, and those with the
 * prefix of KEYS[1] ('order:{0}:'). Any other ends the function with an error and is counted.
 * Every command runs at once, on the caller's thread; time is the loop's. */
#ifndef MEMORY_REDIS_H
#define MEMORY_REDIS_H

#include <uthash.h>

#include "base/base.h"
#include "loop/loop.h"

struct redisReply;
struct rt_arena;

struct memory_text {
	char *data; /* a NUL behind it */
	size_t length;
};

/* ---- the data ---- */

struct memory_field { /* of a hash, or of a set, whose values are not used */
	UT_hash_handle hh;
	struct memory_text name, value;
};
struct memory_zset { /* in Redis's order: by score, then by member */
	struct memory_scored {
		double score;
		struct memory_text member;
	} * entries;
	size_t count, capacity;
};
struct memory_id {
	uint64_t ms, n;
};
struct memory_entry {
	struct memory_id id;
	struct memory_text *fields; /* name, value, name, value, … */
	size_t field_count;         /* names plus values */
};
struct memory_consumer {
	char *name;
	int64_t seen_ms;
};
struct memory_pending {
	struct memory_id id;
	struct memory_consumer *consumer;
	int64_t delivered_ms;
	int64_t deliveries;
};
struct memory_group {
	char *name;
	struct memory_id delivered;
	int64_t entries_read;               /* -1: not known */
	struct memory_consumer **consumers; /* by name */
	size_t consumer_count;
	struct memory_pending *pending; /* by id */
	size_t pending_count, pending_room;
};
struct memory_stream {
	struct memory_entry *entries; /* by id */
	size_t count, room;
	struct memory_id last, deleted; /* the highest id assigned, the highest deleted */
	int64_t added;
	struct memory_group **groups; /* by name */
	size_t group_count;
	uint64_t life; /* 1, 2, …: no two streams of a Redis have the same */
};

enum memory_type {
	MEMORY_TEXT,
	MEMORY_HASH,
	MEMORY_SET,
	MEMORY_ZSET,
	MEMORY_STREAM,
};
struct memory_key {
	UT_hash_handle hh; /* redis->keys, in the order of their creation */
	struct memory_text name;
	enum memory_type type;
	int64_t expire_ms; /* unix; 0: never */
	union {
		struct memory_text text;
		struct memory_field *fields; /* HASH, SET; in the order of their creation */
		struct memory_zset zset;
		struct memory_stream stream;
	};
};

/* ---- the Redis ---- */

/* A change of a library's text while it is loaded: how the simulation plants bugs. */
struct memory_patch {
	const char *library; /* "order" */
	const char *text;    /* it must occur exactly once */
	const char *instead;
};

/* One Redis stands for several masters of a cluster: the keys with the tag {p} are those of master p modulo their
 * number. Each has a replica, which has everything until it lags; fails the master over, what the replica
 * does not have is lost. The functions are everywhere. */
#define MEMORY_MASTERS_MAX 16
struct memory_master {
	uint64_t history; /* the id of its replication history; another one: it is another master */
	uint64_t writes;  /* commands of clients that changed something */
	bool lags;
	uint64_t kept_writes;    /* what the replica has, while it lags */
	struct memory_key *kept; /* in the order of their creation */
};

struct memory_function;
struct memory_redis {
	struct rt_loop *loop;
	struct memory_key *keys;
	struct memory_function *functions; /* lua.c's */
	uint64_t writes;                   /* commands that changed something */
	uint64_t
		news; /* of them, those that added entries, or made or deleted groups or keys: what a reader waits for */
	uint64_t lives;
	unsigned undeclared; /* uses of keys that a function had not declared */
	bool memory_full;    /* maxmemory is reached */
	int master_count;    /* 0: one */
	bool together; /* all partitions are in one Redis: a function may use the keys of several */
	struct memory_master masters[MEMORY_MASTERS_MAX];
	uint64_t histories; /* ids that were given to replaced masters */
	const struct memory_patch *patches;
	size_t patch_count;
	/* Called after a command of a client, or a whole function, that brought news; may be NULL. */
	void (*on_change)(void *user);
	/* Called after a command of a client, or a whole function, that changed something; may be NULL. */
	void (*on_write)(void *user, const struct memory_text *argv);
	/* Called for each entry that XREADGROUP delivers to a consumer for the first time; may be NULL. */
	void (*on_delivered)(void *user, const char *consumer, const struct memory_entry *entry);
	void *user;
	/* link.c's: all links; those with a blocked read; effects that are late. */
	struct rt_list links, blocked, late;
	bool same_epoch; /* a mistake: a connection's epoch does not show that it is another one */
	bool changed, notifying;
	struct rt_arena *arena; /* of memory_do */
};
struct memory_redis *memory_redis_new(struct rt_loop *loop);
void memory_redis_free(struct memory_redis *redis); /* every link must be gone; takes NULL */

/* Runs a command; each argument must have a NUL behind its bytes. The answer lives in the arena.
 * NULL: the command would block (BLOCK), and had no effect. */
struct redisReply *memory_run(struct memory_redis *redis, struct rt_arena *arena, size_t argc,
			      const struct memory_text *argv);
/* The same with strings as arguments, ended by NULL. The answer lives until the next call. */
const struct redisReply *memory_do(struct memory_redis *redis, const char *word, ...)
	__attribute__((sentinel));

/* ---- masters: masters.c ---- */

/* Of the key with this name, by its tag; of a partition. */
int memory_master_of(const struct memory_redis *redis, const char *key);
int memory_master_at(const struct memory_redis *redis, int partition);
/* From now on its replica hears nothing. */
void memory_master_lags(struct memory_redis *redis, int master);
/* The replica has everything again. */
void memory_master_caught_up(struct memory_redis *redis, int master);
/* The replica is the master now, with what it has, and a replica of its own. From the loop. Connections to the old
 * one break, and come back back_ms later. */
void memory_master_fails_over(struct memory_redis *redis, int master, int64_t back_ms);
/* It has the same data, and another history. */
void memory_master_restarts(struct memory_redis *redis, int master);

/* ---- looking inside ---- */

/* NULL: there is no such key, or it has another type. */
struct memory_key *memory_find(const struct memory_redis *redis, const char *name,
			       enum memory_type type);
struct memory_stream *memory_stream_find(const struct memory_redis *redis, const char *name);
/* The value of a hash's field; NULL: none. */
const struct memory_text *memory_field(const struct memory_key *key, const char *name);
bool memory_zset_score(const struct memory_zset *zset, const char *member, double *ret);
int memory_id_compare(struct memory_id a, struct memory_id b);
bool memory_id_parse(const char *text, struct memory_id *ret);
#define MEMORY_ID_TEXT 48
void memory_id_format(struct memory_id id, char text[MEMORY_ID_TEXT]);
/* A field's value, "" when the entry has none of this name. */
const char *memory_entry_field(const struct memory_entry *entry, const char *name);
/* The caller frees its `fields`, which are one block. */
struct memory_entry memory_entry_copy(const struct memory_entry *entry);
/* The index of the first entry above `after`. */
size_t memory_stream_after(const struct memory_stream *stream, struct memory_id after);
struct memory_group *memory_group_find(const struct memory_stream *stream, const char *name);

#endif
