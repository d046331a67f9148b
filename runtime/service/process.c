/* process.c - the numbers of the process, from the kernel. What cannot be read stays as it was. */
#include "process_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct rt_process {
	struct rt_series *cpu_seconds, *resident_bytes, *virtual_bytes, *open_fds, *max_fds;
};

static void note_cpu(const struct rt_process *process)
{
	struct timespec used;

	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0)
		rt_series_set(process->cpu_seconds,
			      (double)used.tv_sec + (double)used.tv_nsec / 1e9);
}

static void note_memory(const struct rt_process *process)
{
	FILE *file = fopen("/proc/self/statm", "re");
	double page = (double)sysconf(_SC_PAGESIZE);
	unsigned long long virtual_pages, resident_pages;

	if (file == NULL)
		return;
	if (fscanf(file, "%llu %llu", &virtual_pages, &resident_pages) == 2) {
		rt_series_set(process->virtual_bytes, (double)virtual_pages * page);
		rt_series_set(process->resident_bytes, (double)resident_pages * page);
	}
	fclose(file);
}

static void note_files(const struct rt_process *process)
{
	DIR *folder = opendir("/proc/self/fd");
	struct rlimit limit;
	int entries = 0;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		rt_series_set(process->max_fds, (double)limit.rlim_cur);
	if (folder == NULL)
		return;
	while (readdir(folder) != NULL)
		entries++;
	closedir(folder);
	rt_series_set(process->open_fds, entries - 3); /* ".", "..", and the folder itself */
}

static void note_all(void *user)
{
	const struct rt_process *process = user;

	note_cpu(process);
	note_memory(process);
	note_files(process);
}

struct rt_process *rt_process_new(struct rt_metrics *metrics)
{
	struct rt_process *process = rt_alloc(sizeof(*process));

	rt_series_set(rt_metric_plain(metrics, RT_GAUGE, "process_start_time_seconds",
				      "Start of the process, unix time."),
		      (double)rt_wall_us() / 1e6);
	process->cpu_seconds = rt_metric_plain(metrics, RT_COUNTER, "process_cpu_seconds_total",
					       "CPU time of the process, user and system.");
	process->resident_bytes =
		rt_metric_plain(metrics, RT_GAUGE, "process_resident_memory_bytes",
				"Memory of the process that is in RAM.");
	process->virtual_bytes = rt_metric_plain(metrics, RT_GAUGE, "process_virtual_memory_bytes",
						 "Address space of the process.");
	process->open_fds = rt_metric_plain(metrics, RT_GAUGE, "process_open_fds",
					    "File descriptors that are open.");
	process->max_fds = rt_metric_plain(metrics, RT_GAUGE, "process_max_fds",
					   "Most file descriptors that may be open.");
	rt_metrics_on_write(metrics, note_all, process);
	return process;
}

void rt_process_free(struct rt_process *process)
{
	free(process);
}
