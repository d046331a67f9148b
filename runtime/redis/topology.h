/* topology.h - which master serves which partition, and connections to it.
 *
 * A topology is one of three kinds, as its URL says:
 *
 *   redis://host:port, unix:/path         one Redis serves all partitions; rediss://host:port with TLS
 *   cluster://host:port,host:port         a Redis Cluster, asked at any of its nodes: CLUSTER SLOTS
 *   sentinel://host:port,host:port/name   one master, which any of these sentinels knows by this name
 *
 * Partition p is served by the master that owns the slot of the tag {p}. What a topology gives out are
 * connections that keep the promises of redis.h, of two sorts:
 *
 *   shared   all partitions of a master use one pipelined connection to it
 *   own      a connection of its own, for commands that block
 *
 * Such a connection is up while the partition's master is known, its connection is greeted and nothing
 * says that another one may be the master now. It goes down when its master's connection breaks, when
 * the partition moves, and when an answer is a redirect (rt_redis_reply_redirects): that command did not happen
 * and ends with RT_UNREADY. It is up again when the masters have been asked anew, which begins at once, and
 * after everything it had under way has ended: answers come in the order of the commands, also when the
 * master changes. No redirect is followed by itself, and ASKING is never sent: only the caller knows what
 * a command that did not happen means for those around it. rt_redis_epoch tells whether two commands were
 * answered by the same master over the same connection.
 *
 * The masters are asked every 5 s, sentinels every second, and while a partition is down after 0, 50, 100, … 500 ms; each ±25 %,
 * one question at a time: the node that says MOVED, one whose connection is up, and if there is none the next
 * of all addresses that are known; or the sentinel whose word was good, else the next. A sentinel's word counts
 * when the server that it names says that it is a master. Sentinels are asked as options.sentinel says. Who owes
 * an answer is not asked again.
 *
 * The loop follows the clock of one server alone, the master of partition 0, the same in every process, over
 * a connection of its own; no partition is up before that clock is known. docs/decisions/030.
 *
 * Threads: loop thread only. */
#ifndef RT_REDIS_TOPOLOGY_H
#define RT_REDIS_TOPOLOGY_H

#include "redis.h"
#include "url.h"

struct rt_topology; /* opaque */

/* Connects in the loop's next turns. `options`, copied: user, password, name, timeout, follow_clock, metrics
 * and connect are those of the shared connections and the clock's, sentinel those of connections to sentinels; address,
 * on_state and pending_max are not used. */
int rt_topology_new(struct rt_loop *loop, const struct rt_redis_url *url,
		    const struct rt_redis_options *options, int partition_count,
		    struct rt_topology **ret);
/* Every connection given out must be freed. Takes NULL. */
void rt_topology_free(struct rt_topology *topology);
/* Sets connect and connector: rt_redis_new gives out a connection of options->partition, an own one if
 * options->blocks. Of the other options a shared one uses on_state, user_data, timeout_ms and pending_max, and
 * an own one all but the address, follow_clock and metrics. rt_redis_reset of a shared one ends what this
 * partition has under way and leaves the connection as it is. */
void rt_topology_use(struct rt_topology *topology, struct rt_redis_options *options);

#endif
