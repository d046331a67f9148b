/* memory.c - see memory.h.
 *
 * What malloc counts as free includes what was given back before, and what was needed again between two looks does not
 * show in it. So two things must be true for some seconds: much is free, and the process has more memory than it had
 * when it last gave some back. */
#include "memory.h"

#include <fcntl.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOKS          3
#define WORTH_IT_BYTES ((size_t)1 << 20)

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

static size_t less(size_t a, size_t b)
{
	return a < b ? a : b;
}

void rt_memory_return(void)
{
	static size_t least_unused = SIZE_MAX, least_resident = SIZE_MAX, needed = SIZE_MAX;
	static int looks;
	size_t resident = resident_bytes();

	least_unused = less(least_unused, mallinfo2().fordblks);
	least_resident = less(least_resident, resident);
	needed = less(needed, resident);
	if (++looks < LOOKS)
		return;
	if (least_unused >= WORTH_IT_BYTES && least_resident >= needed + WORTH_IT_BYTES) {
		(void)malloc_trim(0);
		needed = resident_bytes();
	}
	looks = 0;
	least_unused = least_resident = SIZE_MAX;
}
