/* topology_internal.h - what a topology reads: addresses, and answers about masters. */
#ifndef RT_REDIS_TOPOLOGY_INTERNAL_H
#define RT_REDIS_TOPOLOGY_INTERNAL_H

#include "topology.h"

#define REDIS_NODES_MAX 1024

/* The masters, by slot. Zeroed memory is a valid empty one. */
struct redis_slots {
	uint16_t owner[RT_REDIS_SLOTS]; /* which of `nodes` serves the slot, from 1; 0: none */
	struct rt_redis_address *nodes; /* masters and replicas */
	size_t count, room;
};
void redis_slots_done(struct redis_slots *slots);
/* One server has all slots. */
void redis_slots_set_all(struct redis_slots *slots, const struct rt_redis_address *master);
/* Reads an answer to CLUSTER SLOTS that `asked` gave. False: it makes no sense, and *slots is as before. */
bool redis_slots_read(struct redis_slots *slots, const struct redisReply *reply,
		      const struct rt_redis_address *asked);
/* NULL: nobody serves it. */
const struct rt_redis_address *redis_slots_master(const struct redis_slots *slots, int partition);

/* Reads [host, port, …]: a node of CLUSTER SLOTS, or an answer to SENTINEL GET-MASTER-ADDR-BY-NAME. A node that
 * does not know its own host gives none, or "?": it is `asked`. False: it makes no sense. */
bool redis_node_read(struct rt_redis_address *ret, const struct redisReply *reply,
		     const struct rt_redis_address *asked);
/* Whether an answer to HELLO is that of a master. */
bool redis_hello_is_master(const struct redisReply *reply);
bool redis_address_same(const struct rt_redis_address *a, const struct rt_redis_address *b);

#endif
