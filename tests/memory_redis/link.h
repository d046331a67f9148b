/* link.h - connections to the Redis in memory: the struct rt_redis of the simulation.
 *
 * A host holds all connections of one process. Commands travel, take effect one by one in the order sent,
 * and answers travel back in that order. Either way may fail, as the fault hook decides:
 *
 *   rt_redis_command ─▶ requests ──(before)──▶ effect ──(after)──▶ answers ─▶ done
 *
 *   before fails: no effect, done gets the status    after fails: the effect stays, the answer is
 *   either may be delayed, and what follows waits    lost, done gets the status
 *   MEMORY_LATE: done gets RT_TIMEOUT, and the effect happens later, after the delay, as with a Redis
 *   that was stopped and continues (blocked reads are lost instead)
 *   memory_host_cut: the connections are lost with everything on them
 *   memory_host_kill: the process is dead; nothing it sends has an effect any more, and what it
 *   waits for ends with RT_CANCELED, which no other process can see
 *
 * A blocked read (BLOCK) delays what is behind it on its connection, as on a real one; so does a WAIT. */
#ifndef MEMORY_REDIS_LINK_H
#define MEMORY_REDIS_LINK_H

#include "memory_redis.h"
#include "redis/redis.h"

struct memory_host;
/* An I/O, as the fault hook sees it. */
struct memory_io {
	const struct memory_host *host;
	const char *what; /* "order_place", "xreadgroup", … */
	size_t argc;
	const struct memory_text *argv;
	bool after;                     /* after the effect */
	const struct redisReply *reply; /* after the effect: the answer that begins to travel */
};
/* Only before the effect. */
#define MEMORY_LATE 1
/* Returns RT_OK, or the status to fail with; may set *delay_ms. */
typedef int memory_fault_hook(void *user, const struct memory_io *io, int64_t *delay_ms);

struct memory_host {
	struct memory_redis *redis;
	const char *process;      /* its name, for hooks and transcripts */
	memory_fault_hook *fault; /* NULL: nothing fails */
	void *user;
	struct rt_redis_options options; /* for rt_redis_new: its connections are this host's */
	struct rt_list links;
	bool away, dead;
	int64_t still_until_ms;
};
void memory_host_init(struct memory_host *host, struct memory_redis *redis, const char *process,
		      memory_fault_hook *fault, void *user);
/* From the loop. With `away` they stay lost until memory_host_back. */
void memory_host_cut(struct memory_host *host, bool away);
void memory_host_back(struct memory_host *host);
void memory_host_kill(struct memory_host *host);
/* The process stands still for so long: nothing reaches it, nothing that it sends leaves it, and it does not notice
 * that a connection breaks. */
void memory_host_stands_still(struct memory_host *host, int64_t ms);
/* The number of late effects that have not happened yet. */
size_t memory_late_count(const struct memory_redis *redis);

#endif
