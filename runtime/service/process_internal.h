/* process_internal.h - what every exporter for Prometheus says about its process, under the usual names:
 * process_cpu_seconds_total, process_resident_memory_bytes, process_virtual_memory_bytes, process_open_fds,
 * process_max_fds, process_start_time_seconds. They are asked for when the metrics are written. */
#ifndef RT_PROCESS_INTERNAL_H
#define RT_PROCESS_INTERNAL_H

#include "base/base.h"

struct rt_process; /* opaque */

/* Registers the metrics, and sets them whenever `metrics` is written. */
struct rt_process *rt_process_new(struct rt_metrics *metrics);
/* `metrics` is not written any more. Takes NULL. */
void rt_process_free(struct rt_process *process);

#endif
