/* memory.h - memory that was free for a while goes back to the kernel.
 *
 * glibc keeps what is freed below the last block in use, and gRPC frees hundreds of MiB in such places after many
 * calls at once. */
#ifndef RT_MEMORY_H
#define RT_MEMORY_H

#include <stdint.h>

/* Call it about once a second, on one thread. It takes some milliseconds when there are 100 MiB to give back; else it
 * looks at each free piece of the heap, which takes as long when there are many. */
void rt_memory_return(void);
/* How long to leave it alone after it has taken so long: so it takes a hundredth of the time, or it is done
 * every three seconds: what is not needed any more goes back within ten. */
int64_t rt_memory_pause_ns(int64_t took_ns);
/* At the start, before there are threads: all share one heap. What lies between many heaps' pieces is given back to nobody, and but
 * for the loop's thread hardly any allocates. */
void rt_memory_begin(void);

#endif
