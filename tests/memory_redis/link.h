/* link.h - connections to the Redis in memory: what struct rt_redis is made of in the simulation.
 *
 * A host is one process's way there, all its connections. Commands travel, take effect one by one in the
 * order sent, and answers travel back in that order. On each way something may go wrong, as the fault hook
 * says:
 *
 *   rt_redis_command ─▶ requests ──(before)──▶ effect ──(after)──▶ answers ─▶ done
 *
 *   before fails: no effect, done gets the status    after fails: the effect stays, the answer is
 *   either may be delayed, and what follows waits    lost: done gets the status
 *   MEMORY_LATE: done gets RT_TIMEOUT, and the effect comes after it, when the delay is over: what a
 *   Redis does that stood still and goes on (not for reads that wait: they are lost)
 *   memory_host_cut: the connections are lost with all that is on them
 *   memory_host_kill: the process is dead; nothing it sends has an effect any more, and what it
 *   waits for ends with RT_CANCELED, which nobody outside it can tell from never
 *
 * A read that waits (BLOCK) holds up what is behind it on its connection, as on a real one. */
#ifndef MEMORY_REDIS_LINK_H
#define MEMORY_REDIS_LINK_H

#include "memory_redis.h"
#include "redis/redis.h"

struct memory_host;
/* What a hook is asked about. */
struct memory_io {
	const struct memory_host *host;
	const char *what; /* "order_place", "xreadgroup", … */
	size_t argc;
	const struct memory_text *argv;
	bool after; /* asked after the effect */
};
/* Before only. */
#define MEMORY_LATE 1
/* Returns RT_OK, or the status to fail with; may set *delay_ms. */
typedef int memory_fault_hook(void *user, const struct memory_io *io, int64_t *delay_ms);

struct memory_host {
	struct memory_redis *redis;
	const char *process;      /* its name, for hooks and transcripts */
	memory_fault_hook *fault; /* NULL: nothing goes wrong */
	void *user;
	struct rt_redis_options options; /* for rt_redis_new: its connections are this host's */
	struct rt_list links;
	bool away, dead;
};
void memory_host_init(struct memory_host *host, struct memory_redis *redis, const char *process,
		      memory_fault_hook *fault, void *user);
/* From the loop. With `away` they stay lost until memory_host_back. */
void memory_host_cut(struct memory_host *host, bool away);
void memory_host_back(struct memory_host *host);
void memory_host_kill(struct memory_host *host);
/* Effects that are late and have not come yet. */
size_t memory_late_count(const struct memory_redis *redis);

#endif
