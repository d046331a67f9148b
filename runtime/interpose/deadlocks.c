/* deadlocks.c - turns off abseil's deadlock detection; see interpose.h.
 *
 * Debian builds abseil with it: whenever a thread locks a mutex while it holds another, abseil looks it up in a
 * graph of all mutexes of the process, under a global lock. The function that sets its mode is public, but C++:
 * we call it by its mangled name, which contains the version's namespace. */
#include "interpose_internal.h"

#include <dlfcn.h>

#define IGNORE 0 /* absl::OnDeadlockCycle::kIgnore */

bool rt_deadlock_detection_off(void)
{
	static const char *const names[] = {
		/* absl::debian3: 20220623 of Debian 12; absl: no namespace for the version. */
		"_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE",
		"_ZN4absl29SetMutexDeadlockDetectionModeENS_15OnDeadlockCycleE",
	};
	void (*set_mode)(int mode) = NULL;

	for (size_t i = 0; i < RT_LENGTH(names) && set_mode == NULL; i++)
		*(void **)&set_mode = dlsym(RTLD_DEFAULT, names[i]);
	if (set_mode != NULL)
		set_mode(IGNORE);
	return set_mode != NULL;
}
