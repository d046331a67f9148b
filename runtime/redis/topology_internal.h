/* topology_internal.h - who the masters of partitions are, and what is asked to find out. */
#ifndef RT_REDIS_TOPOLOGY_INTERNAL_H
#define RT_REDIS_TOPOLOGY_INTERNAL_H

#include "key_slot.h"
#include "topology.h"

#define REDIS_NODES_MAX 1024

/* The masters, by slot. Zeroed memory is a valid empty one; plain data. */
struct redis_slots {
	uint16_t owner[RT_REDIS_SLOTS]; /* which of `nodes` serves the slot, from 1; 0: none */
	size_t count;
	struct rt_redis_address nodes[REDIS_NODES_MAX]; /* masters and replicas */
};
/* One server has all slots. */
void redis_slots_set_all(struct redis_slots *slots, const struct rt_redis_address *master);
/* NULL: nobody serves it. */
const struct rt_redis_address *redis_slots_master(const struct redis_slots *slots, int partition);

/* Reads [host, port, …]: a node of CLUSTER SLOTS, or an answer to SENTINEL GET-MASTER-ADDR-BY-NAME. A node that
 * does not know its own host gives none, or "?": it is `asked`. False: it makes no sense. */
bool redis_node_read(struct rt_redis_address *ret, const struct redisReply *reply,
		     const struct rt_redis_address *asked);

/* What a server is asked about the masters. */
struct redis_question {
	const char *words[2];
	int word_count;                          /* 3: the third is the name of the master */
	int64_t every_ms;                        /* if all is well */
	const struct redis_question *of_masters; /* what the masters that are found are asked */
	/* NULL, or what is wrong with the answer of `asked`: then *slots is as before. It says who the masters are, or
	 * sets ret_named, whose port was 0, to the server that must be asked in its turn. */
	const char *(*read)(const struct redisReply *reply, const struct rt_redis_address *asked,
			    struct redis_slots *slots, struct rt_redis_address *ret_named);
};
extern const struct redis_question redis_question_slots; /* of a node of a cluster: slots.c */
extern const struct redis_question redis_question_name;  /* of a sentinel: sentinel.c */
extern const struct redis_question redis_question_role;  /* of the server that it names */
/* Makes these options those of a connection to a sentinel. */
void redis_sentinel_login(struct rt_redis_options *options);

#endif
