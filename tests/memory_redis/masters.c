/* masters.c - several masters in one keyspace, and failovers that lose what was written last.
 *
 * A replica that has everything costs nothing: only when it begins to lag its master's keys are copied. */
#include <stdlib.h>

#include "internal.h"

int memory_master_at(const struct memory_redis *redis, int partition)
{
	return redis->master_count > 1 ? partition % redis->master_count : 0;
}

int memory_master_of(const struct memory_redis *redis, const char *key)
{
	const char *tag = redis->master_count > 1 ? strchr(key, '{') : NULL;

	return tag == NULL ? 0 : memory_master_at(redis, (int)strtol(tag + 1, NULL, 10));
}

/* Visits the keys of a master; the visitor may delete its key. */
static void keys_each(struct memory_redis *redis, int master,
		      void (*visit)(struct memory_redis *redis, struct memory_key *key, void *user),
		      void *user)
{
	struct memory_key *key, *next;

	HASH_ITER (hh, redis->keys, key, next)
		if (memory_master_of(redis, key->name.data) == master)
			visit(redis, key, user);
}

static void keep(struct memory_redis *redis, struct memory_key *key, void *user)
{
	struct memory_master *master = user;
	struct memory_key *copy = key_copy(key);

	(void)redis;
	HASH_ADD_KEYPTR(hh, master->kept, copy->name.data, copy->name.length, copy);
}

static void lose(struct memory_redis *redis, struct memory_key *key, void *user)
{
	(void)user;
	key_delete(redis, key);
}

void memory_master_lags(struct memory_redis *redis, int number)
{
	struct memory_master *master = &redis->masters[number];

	if (master->lags)
		return;
	master->lags = true;
	master->kept_writes = master->writes;
	keys_each(redis, number, keep, master);
}

void memory_master_caught_up(struct memory_redis *redis, int number)
{
	struct memory_master *master = &redis->masters[number];
	struct memory_key *key, *next;

	master->lags = false;
	HASH_ITER (hh, master->kept, key, next) {
		HASH_DEL(master->kept, key);
		key_free(key);
	}
}

void memory_master_restarts(struct memory_redis *redis, int number)
{
	redis->masters[number].history = ++redis->histories;
}

void memory_master_fails_over(struct memory_redis *redis, int number, int64_t back_ms)
{
	struct memory_master *master = &redis->masters[number];
	struct memory_key *key, *next;

	memory_links_break(redis, number, back_ms);
	if (master->lags) {
		keys_each(redis, number, lose, NULL);
		HASH_ITER (hh, master->kept, key, next) {
			HASH_DEL(master->kept, key);
			HASH_ADD_KEYPTR(hh, redis->keys, key->name.data, key->name.length, key);
		}
		redis->writes++;
	}
	master->lags = false;
	memory_master_restarts(redis, number);
}
