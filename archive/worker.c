/* worker.c - threads that take jobs from a queue.
 *
 *   archive_worker_add → (a thread) take_job → run → (the loop) job_done → done */
#include "worker.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

struct thread {
	struct archive_worker *worker;
	pthread_t id;
	bool started;
	struct archive_store *store;
};

struct archive_worker {
	struct rt_loop *loop;
	struct archive_store_options options;
	char *database;
	pthread_mutex_t lock; /* of the queue */
	pthread_cond_t changed;
	struct rt_list jobs;
	size_t waiting;
	bool stopping;
	size_t thread_count;
	struct thread *threads;
};

static struct archive_job *take_job(struct archive_worker *worker)
{
	struct rt_list *link;

	pthread_mutex_lock(&worker->lock);
	while (rt_list_empty(&worker->jobs) && !worker->stopping)
		pthread_cond_wait(&worker->changed, &worker->lock);
	link = rt_list_pop(&worker->jobs);
	worker->waiting -= link != NULL;
	pthread_mutex_unlock(&worker->lock);
	return link != NULL ? RT_CONTAINER_OF(link, struct archive_job, link) : NULL;
}

static void job_done(struct rt_task *task)
{
	struct archive_job *job = RT_CONTAINER_OF(task, struct archive_job, task);

	job->done(job);
}

static bool is_failure(int status)
{
	return status != RT_OK && status != RT_NOT_FOUND && status != RT_CANCELED;
}

static void run_job(struct thread *thread, struct archive_job *job)
{
	struct archive_worker *worker = thread->worker;

	job->status = RT_OK;
	job->error[0] = '\0';
	if (thread->store == NULL)
		job->status = archive_store_open(&worker->options, &thread->store, job->error);
	if (job->status == RT_OK) {
		job->status = job->run(job, thread->store);
		if (is_failure(job->status)) {
			memcpy(job->error, archive_store_error(thread->store), sizeof(job->error));
			archive_store_close(RT_TAKE(thread->store));
		}
	}
	job->task.run = job_done;
	rt_loop_post(worker->loop, &job->task);
}

static void *run_thread(void *user)
{
	struct thread *thread = user;
	struct archive_job *job;

	while ((job = take_job(thread->worker)) != NULL)
		run_job(thread, job);
	archive_store_close(RT_TAKE(thread->store));
	return NULL;
}

/* Signals are the loop's. */
static int start_thread(struct thread *thread)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&thread->id, NULL, run_thread, thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	thread->started = rc == 0;
	return rc == 0 ? RT_OK : RT_SYSTEM;
}

int archive_worker_new(struct rt_loop *loop, const struct archive_store_options *options,
		       size_t thread_count, struct archive_worker **ret)
{
	struct archive_worker *worker = rt_alloc(sizeof(*worker));
	int rc = RT_OK;

	worker->loop = loop;
	worker->options = *options;
	worker->options.database = worker->database = rt_strdup(options->database);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->changed, NULL);
	rt_list_init(&worker->jobs);
	worker->threads = rt_alloc(thread_count * sizeof(*worker->threads));
	worker->thread_count = thread_count;
	for (size_t i = 0; rc == RT_OK && i < thread_count; i++) {
		worker->threads[i].worker = worker;
		rc = start_thread(&worker->threads[i]);
	}
	if (rc != RT_OK) {
		archive_worker_free(worker);
		return rc;
	}
	*ret = worker;
	return RT_OK;
}

bool archive_worker_add(struct archive_worker *worker, struct archive_job *job, size_t waiting_max)
{
	bool full;

	pthread_mutex_lock(&worker->lock);
	full = waiting_max > 0 && worker->waiting >= waiting_max;
	if (!full) {
		job->worker = worker;
		rt_list_push(&worker->jobs, &job->link);
		worker->waiting++;
		pthread_cond_signal(&worker->changed);
	}
	pthread_mutex_unlock(&worker->lock);
	return !full;
}

static void end_threads(struct archive_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	worker->stopping = true;
	pthread_cond_broadcast(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
}

void archive_worker_free(struct archive_worker *worker)
{
	if (worker == NULL)
		return;
	end_threads(worker);
	for (size_t i = 0; i < worker->thread_count; i++)
		if (worker->threads[i].started)
			pthread_join(worker->threads[i].id, NULL);
	pthread_cond_destroy(&worker->changed);
	pthread_mutex_destroy(&worker->lock);
	free(worker->threads);
	free(worker->database);
	free(worker);
}
