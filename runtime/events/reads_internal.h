/* reads_internal.h - the blocking reads of streams, for stream.c. Loop thread only. */
#ifndef RT_READS_INTERNAL_H
#define RT_READS_INTERNAL_H

#include "events.h"

struct redisReply;

/* What a stream asks for; it belongs to the stream. */
struct rt_read {
	struct rt_list link;
	enum { RT_READ_NONE, RT_READ_WAITS, RT_READ_GIVEN_UP, RT_READ_UNDER_WAY } state;
	const char *stream; /* set once */
	int count_max;      /* entries */
	int64_t block_ms;   /* how long it may wait for one; 0: not */
	/* Exactly once, never before rt_reads_ask has returned. `entries` is an array, valid until this returns; NULL: there are
	 * none, or the status is not RT_OK. RT_NOGROUP when this stream or its group is gone. It may ask again; nobody leaves
	 * from here. */
	void (*done)(struct rt_read *read, int status, const struct redisReply *entries);
};

/* Of the connection over which they are read, to wait for it. */
struct rt_redis *rt_reads_redis(const struct rt_reads *reads);
void rt_reads_join(struct rt_reads *reads, struct rt_read *read);
/* Ends nothing: what Redis delivers for a read that is under way stays pending. */
void rt_reads_leave(struct rt_reads *reads, struct rt_read *read);
void rt_reads_ask(struct rt_reads *reads, struct rt_read *read);
/* It is done soon, with RT_CANCELED or entries. So are the others that are under way. */
void rt_reads_interrupt(struct rt_reads *reads, struct rt_read *read);

#endif
