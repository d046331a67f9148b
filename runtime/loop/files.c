/* files.c - looks once a second whether files have changed; see files.h. */
#include "files.h"

#include <string.h>
#include <sys/stat.h>

#define LOOK_EVERY_MS 1000

static struct rt_file_state look(const char *path)
{
	struct stat found;

	if (stat(path, &found) != 0)
		return (struct rt_file_state){ 0 };
	return (struct rt_file_state){
		.device = found.st_dev,
		.inode = found.st_ino,
		.size = (uint64_t)found.st_size,
		.changed_ns = found.st_ctim.tv_sec * INT64_C(1000000000) + found.st_ctim.tv_nsec,
	};
}

static bool same(const struct rt_file_state *a, const struct rt_file_state *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->changed_ns == b->changed_ns;
}

/* True if any is not what it was at the last look. */
static bool look_at_all(struct rt_files *files)
{
	bool differ = false;

	for (size_t i = 0; i < files->count; i++) {
		struct rt_file_state now = look(files->paths[i]);

		differ = differ || !same(&now, &files->states[i]);
		files->states[i] = now;
	}
	return differ;
}

static void on_time(struct rt_timer *timer)
{
	struct rt_files *files = RT_CONTAINER_OF(timer, struct rt_files, timer);
	bool differ = look_at_all(files), settled = files->changing && !differ;

	files->changing = differ;
	rt_timer_start(files->loop, timer, LOOK_EVERY_MS, on_time);
	if (settled)
		files->changed(files); /* may stop it */
}

void rt_files_watch(struct rt_loop *loop, struct rt_files *files, const char *const *paths,
		    size_t count, void (*changed)(struct rt_files *files))
{
	memset(files, 0, sizeof(*files));
	files->loop = loop;
	files->changed = changed;
	for (size_t i = 0; i < count && files->count < RT_FILES_MAX; i++)
		if (paths[i] != NULL && paths[i][0] != '\0')
			files->paths[files->count++] = paths[i];
	(void)look_at_all(files);
	rt_timer_start(loop, &files->timer, LOOK_EVERY_MS, on_time);
}

void rt_files_stop(struct rt_files *files)
{
	if (files->loop != NULL)
		rt_timer_stop(files->loop, &files->timer);
	files->loop = NULL;
}
