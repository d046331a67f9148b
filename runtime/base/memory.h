/* memory.h - memory that was free for a while goes back to the kernel.
 *
 * glibc keeps what is freed below the last block in use, and gRPC frees hundreds of MiB in such places after many
 * calls at once. */
#ifndef RT_MEMORY_H
#define RT_MEMORY_H

/* Call it about once a second, on one thread. It takes time only when there is something to give back: some
 * milliseconds for 100 MiB, about half of one each third time under full load. */
void rt_memory_return(void);
/* At the start, before there are threads: all share one heap. What lies between many heaps' pieces is given back to nobody, and but
 * for the loop's thread hardly any allocates. */
void rt_memory_begin(void);

#endif
