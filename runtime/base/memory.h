/* memory.h - memory that was free for a while goes back to the kernel.
 *
 * glibc keeps what is freed below the last block in use, and gRPC frees hundreds of MiB in such places after many
 * calls at once. */
#ifndef RT_MEMORY_H
#define RT_MEMORY_H

/* Call it about once a second, on one thread. It takes time only when there is something to give back: some
 * milliseconds for 100 MiB, about half of one each third time under full load. */
void rt_memory_return(void);

#endif
