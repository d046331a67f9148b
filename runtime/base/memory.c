/* memory.c - see memory.h.
 *
 * malloc's free bytes include those that were given back before, so what counts is how much there is beyond that. The
 * least of some seconds is what nobody has needed. */
#include "memory.h"

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>

#define LOOKS          3
#define WORTH_IT_BYTES ((size_t)1 << 20)

void rt_memory_return(void)
{
	static size_t least = SIZE_MAX, returned;
	static int looks;
	size_t unused = mallinfo2().fordblks;

	/* Some of it was taken into use again. */
	if (unused < returned)
		returned = unused;
	if (unused < least)
		least = unused;
	if (++looks < LOOKS)
		return;
	if (least >= returned + WORTH_IT_BYTES) {
		(void)malloc_trim(0);
		returned = mallinfo2().fordblks;
	}
	looks = 0;
	least = SIZE_MAX;
}
