/* interposed.c - whether the program's functions take precedence over libc's. */
#include <dlfcn.h>

#include "interpose_internal.h"

bool rt_interposed(const char *name, void (*own)(void))
{
	/* The order of the dynamic linker: the program, then its libraries. */
	return (uintptr_t)dlsym(RTLD_DEFAULT, name) == (uintptr_t)own;
}
