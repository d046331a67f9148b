/* store_internal.h - shared by the files of the inventory store only. */
#ifndef INVENTORY_STORE_INTERNAL_H
#define INVENTORY_STORE_INTERNAL_H

#include "redis/redis.h"
#include "store.h"

#define WAITING_MAX       20000 /* operations of a queue */
#define INVENTORY_UNKNOWN "00"  /* the available quantity of a SKU that does not exist */

/* What a partition has of its own; the user of its queues. */
struct inventory_partition {
	int number;
	struct inventory_store *store;
	struct rt_store *redis;
	char *events, *orders, *reservations, *stock, *skus; /* keys */
	int64_t generation;
	/* The connection over which that was learned; 0: it does not matter. */
	uint64_t generation_epoch;
	int64_t refused_for; /* the highest for which a call with an older one was refused */
	struct rt_store_queue *request, *conclude, *part, *adjust, *stocks, *list, *reservation;
	struct rt_store_queue *call, *state, *holders, *threshold;
};
struct inventory_store {
	struct rt_buf text;             /* of the command that is being built */
	struct rt_store_queue *reserve; /* for all partitions */
	int count;
	struct inventory_partition partitions[];
};

/* store_text.c. Each SKU occurs once, and has no character that the functions' parsers use; there is one. */
bool inventory_lines_valid(const struct inventory_line *lines, size_t count);
/* Adds lines as one argument; `returned`: of each, how many came back, or NULL. */
void inventory_add_lines(struct rt_args *args, struct rt_buf *text,
			 const struct inventory_line *lines, const uint32_t *returned,
			 size_t count);
/* Adds what the request of this version of an order says that came back, as one argument. */
void inventory_add_returned(struct rt_args *args, struct rt_buf *text, uint64_t order_version,
			    const struct inventory_line *lines, size_t count);
/* store_request.c. Adds the lines of a split order behind what `text` holds, as one argument. */
void inventory_add_split_lines(struct rt_args *args, struct rt_buf *text,
			       const struct inventory_split_line *lines, size_t count);
/* Reads a counter of an HMGET: RT_OK and whether it exists. */
int inventory_counters_read(const struct redisReply *reply, bool *ret_found, struct stock *ret);
/* Somebody knows this generation of the partition: if it is a newer one, the one of now must be asked for. */
void inventory_note_generation(struct inventory_partition *partition, const char *text);

/* Reads a record, "<STATE> <version> <unix ms> <lines>"; there is none if it is "" or "<unix ms>". False: it is damaged. What was read so far
 * is freed with inventory_record_done, also then. */
bool inventory_record_read(const struct redisReply *reply, struct inventory_record *ret);

/* store_request.c. For all steps that serve requests: struct inventory_request_op or what begins with one. */
bool inventory_request_answered(struct rt_store_run *run, int *status,
				const struct redisReply *reply);
int inventory_request_decode(struct rt_store_run *run, void *item, const struct redisReply *reply);
void inventory_request_end(void *item, int status);
bool inventory_request_outdated(const void *item);

extern const struct rt_store_step inventory_request_step, inventory_conclude_step;
extern const struct rt_store_step inventory_part_step;    /* store_part.c */
extern const struct rt_store_step inventory_reserve_step; /* store_reserve.c */
extern const struct rt_store_step inventory_list_step;    /* store_list.c */
/* store_call.c */
extern const struct rt_store_step inventory_call_step, inventory_state_step, inventory_holders_step;

#endif
