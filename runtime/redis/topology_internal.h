/* topology_internal.h - what a topology reads: answers about masters, and texts with addresses. */
#ifndef RT_REDIS_TOPOLOGY_INTERNAL_H
#define RT_REDIS_TOPOLOGY_INTERNAL_H

#include "topology.h"

#define REDIS_NODES_MAX 1024

/* The masters of a cluster. Zeroed memory is a valid empty one. */
struct redis_slots {
	uint16_t owner[RT_REDIS_SLOTS]; /* which of `nodes` serves the slot, from 1; 0: none */
	struct rt_redis_address *nodes; /* masters and replicas */
	size_t count, room;
};
void redis_slots_done(struct redis_slots *slots);
/* Reads an answer to CLUSTER SLOTS that `asked` gave, which stands for nodes without a host. False: it
 * makes no sense, and *slots is empty. */
bool redis_slots_read(struct redis_slots *slots, const struct redisReply *reply,
		      const struct rt_redis_address *asked);
/* Reads an answer to SENTINEL GET-MASTER-ADDR-BY-NAME: all slots are that address's. */
bool redis_slots_read_sentinel(struct redis_slots *slots, const struct redisReply *reply);
/* The address in "MOVED 3999 host:port", an answer of `asked`. */
bool redis_moved_read(const char *text, const struct rt_redis_address *asked,
		      struct rt_redis_address *ret);
/* Whether an answer to HELLO is that of a master. */
bool redis_hello_is_master(const struct redisReply *reply);

bool redis_address_same(const struct rt_redis_address *a, const struct rt_redis_address *b);

#endif
