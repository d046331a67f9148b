/* worker.h - threads that use the database, so that the loop never waits for it.
 *
 * A job is run by one of the worker's threads, with that thread's own store, and is done on the loop. A thread opens its
 * store when the first job comes, and again after a job has failed: a database that was away is used as soon as it is
 * back.
 *
 * Threads: but for `run`, everything is called on, and calls back on, the loop thread. */
#ifndef ARCHIVE_WORKER_H
#define ARCHIVE_WORKER_H

#include "loop/loop.h"
#include "store.h"

struct archive_worker; /* opaque */

/* Embed it, zeroed. */
struct archive_job {
	/* In. `run` is called by a thread of the worker; RT_NOT_FOUND, RT_CANCELED and RT_INVALID are no failure of the
	 * database. It is not called if the database cannot be opened. */
	int (*run)(struct archive_job *job, struct archive_store *store);
	void (*done)(struct archive_job *job);
	/* Out. */
	int status;
	char error[ARCHIVE_ERROR]; /* of a failure */
	/* The worker's. */
	struct rt_list link;
	struct rt_task task;
	struct archive_worker *worker;
};

/* `options` is copied. */
int archive_worker_new(struct rt_loop *loop, const struct archive_store_options *options,
		       size_t thread_count, struct archive_worker **ret);
/* False: `waiting_max` jobs wait already, and nothing happened; 0: any number may. */
bool archive_worker_add(struct archive_worker *worker, struct archive_job *job, size_t waiting_max);
/* When every job is done: waits for its threads, which close their stores. Takes NULL. */
void archive_worker_free(struct archive_worker *worker);

#endif
