/* memory.c - see memory.h.
 *
 * What malloc counts as free includes what was given back before. So for some seconds more must be free than there was
 * when it was given back; or the process must have more memory than then, since what was needed again between two looks
 * does not show in what is free. The least of these seconds is what nobody has needed. */
#include "memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rt.h"

#define LOOKS          3
#define WORTH_IT_BYTES ((size_t)1 << 20)
#define PAUSE_FACTOR   100
#define PAUSE_MAX_NS   (INT64_C(3) * 1000 * 1000 * 1000)

/* What the process has of the machine's memory. 0: the kernel does not say. */
static size_t resident_bytes(void)
{
	char line[128]; /* pages: size resident … */
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	const char *resident;

	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return 0;
	line[length] = '\0';
	resident = strchr(line, ' ');
	return resident == NULL ? 0 : strtoul(resident, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

void rt_memory_begin(void)
{
	(void)mallopt(M_ARENA_MAX, 1);
}

int64_t rt_memory_pause_ns(int64_t took_ns)
{
	return RT_MIN(took_ns, PAUSE_MAX_NS / PAUSE_FACTOR) * PAUSE_FACTOR;
}

void rt_memory_return(void)
{
	static struct {
		size_t unused, resident;
	} least = { SIZE_MAX, SIZE_MAX }, returned = { SIZE_MAX, SIZE_MAX };
	static int looks;
	size_t unused = mallinfo2().fordblks, resident = resident_bytes();

	least.unused = RT_MIN(least.unused, unused);
	least.resident = RT_MIN(least.resident, resident);
	returned.unused = RT_MIN(returned.unused, unused);
	returned.resident = RT_MIN(returned.resident, resident);
	if (++looks < LOOKS)
		return;
	if (least.unused >= WORTH_IT_BYTES &&
	    (least.unused - returned.unused >= WORTH_IT_BYTES ||
	     least.resident - returned.resident >= WORTH_IT_BYTES)) {
		(void)malloc_trim(0);
		returned.unused = mallinfo2().fordblks;
		returned.resident = resident_bytes();
	}
	looks = 0;
	least.unused = least.resident = SIZE_MAX;
}
