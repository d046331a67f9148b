/* files.h - files that are read again when they change: certificates, keys, lists of callers.
 *
 * Once a second each file's device, inode, size and time of change are looked at. This notices whatever
 * replaces files: a write, a rename over them, a link that a mount of Kubernetes turns. Watching by inotify
 * would miss the last, and network file systems.
 *
 * Whoever writes several files that belong together is in the middle of it when the first has changed. So
 * `changed` runs when nothing has changed for a second, and what it then reads may still not fit: then it keeps
 * what it had, and is called again after the next change. */
#ifndef RT_FILES_H
#define RT_FILES_H

#include "loop.h"

#define RT_FILES_MAX 4

struct rt_file_state {
	uint64_t device, inode, size;
	int64_t changed_ns; /* 0: there is no such file */
};
/* Embed it, zeroed. */
struct rt_files {
	struct rt_loop *loop;
	const char *paths[RT_FILES_MAX]; /* borrowed */
	struct rt_file_state states[RT_FILES_MAX];
	size_t count;
	bool changing; /* since `changed` ran last */
	struct rt_timer timer;
	void (*changed)(struct rt_files *files);
};
/* Compares from now on with what the files are now: read them after this. A path that is NULL or "" is left out. */
void rt_files_watch(struct rt_loop *loop, struct rt_files *files, const char *const *paths,
		    size_t count, void (*changed)(struct rt_files *files));
/* Takes one that does not watch. */
void rt_files_stop(struct rt_files *files);

#endif
