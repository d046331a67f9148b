/* ask.c - see ask.h.
 *
 *   asker_ask
 *     take_place     one of ASK_AT_ONCE, or busy
 *     start          the secret into memory, pipes, posix_spawn
 *     listen_to      both pipes, until both are closed, or the deadline
 *     await_end      it may have closed them and run on: the same deadline
 *     waitpid        a process that was killed is waited for, too */
#include "ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS_MAX 48
#define LOOK_MS   100 /* how soon the end of the process is noticed */

extern char **environ;

struct asker {
	char *program;
	pthread_mutex_t lock;
	pthread_cond_t left; /* a place is free */
	int running;
	_Atomic bool ending;
};

struct asker *asker_new(const char *program)
{
	struct asker *asker = rt_alloc(sizeof(*asker));
	pthread_condattr_t clock;

	asker->program = rt_strdup(program);
	pthread_mutex_init(&asker->lock, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&asker->left, &clock);
	pthread_condattr_destroy(&clock);
	return asker;
}

void asker_free(struct asker *asker)
{
	if (asker == NULL)
		return;
	pthread_mutex_destroy(&asker->lock);
	pthread_cond_destroy(&asker->left);
	free(asker->program);
	free(asker);
}

void asker_end(struct asker *asker)
{
	asker->ending = true;
	pthread_mutex_lock(&asker->lock);
	pthread_cond_broadcast(&asker->left);
	pthread_mutex_unlock(&asker->lock);
}

/* ---- places ---- */

static int64_t now_ms(void)
{
	return rt_monotonic_ns() / 1000000;
}

/* Whether who asked has gone away; `client` -1: nobody can tell. */
static bool has_left(int client)
{
	struct pollfd fd = { .fd = client, .events = POLLRDHUP };

	return client >= 0 && poll(&fd, 1, 0) > 0;
}

/* ASK_ENDED: there is one. */
static enum ask_end take_place(struct asker *asker, int client)
{
	int64_t until_ms = now_ms() + ASK_WAIT_MS;
	enum ask_end end = ASK_ENDED;
	bool left = has_left(client);

	pthread_mutex_lock(&asker->lock);
	while (asker->running == ASK_AT_ONCE && now_ms() < until_ms && !left && !asker->ending) {
		int64_t look_ns = rt_monotonic_ns() + LOOK_MS * INT64_C(1000000);
		const struct timespec look = { look_ns / 1000000000, look_ns % 1000000000 };

		(void)pthread_cond_timedwait(&asker->left, &asker->lock, &look);
		left = has_left(client);
	}
	if (left)
		end = ASK_LEFT;
	else if (asker->running == ASK_AT_ONCE || asker->ending)
		end = ASK_BUSY;
	asker->running += end == ASK_ENDED;
	/* It may have been woken for a place that it does not take. */
	if (left)
		pthread_cond_signal(&asker->left);
	pthread_mutex_unlock(&asker->lock);
	return end;
}

static void leave_place(struct asker *asker)
{
	pthread_mutex_lock(&asker->lock);
	asker->running--;
	pthread_cond_signal(&asker->left);
	pthread_mutex_unlock(&asker->lock);
}

/* ---- the process ---- */

/* A file in memory that holds the secret, and that its owner alone may read; -1: it cannot be had. */
static int secret_file(const char *secret)
{
	size_t length = strlen(secret);
	int fd = memfd_create("secret", MFD_CLOEXEC);

	if (fd >= 0 && fchmod(fd, S_IRUSR | S_IWUSR) == 0 &&
	    write(fd, secret, length) == (ssize_t)length)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

/* 0, or the error's number. */
static int spawn(const struct asker *asker, const char *const *words, int secret, int out, int err,
		 pid_t *ret)
{
	char *argv[WORDS_MAX + 2] = { asker->program };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	sigset_t none, all;
	size_t count = 0;
	int rc;

	for (; words[count] != NULL; count++) {
		if (count == WORDS_MAX)
			return E2BIG;
		argv[count + 1] = (char *)(uintptr_t)words[count];
	}
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&how);
	rc = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
	if (rc == 0 && secret >= 0)
		rc = posix_spawn_file_actions_adddup2(&files, secret, 3);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(&files, secret >= 0 ? 4 : 3);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(&how, &none);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(&how, &all);
	if (rc == 0)
		rc = posix_spawnattr_setpgroup(&how, 0);
	if (rc == 0)
		rc = posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
							    POSIX_SPAWN_SETPGROUP);
	if (rc == 0)
		rc = posix_spawn(ret, asker->program, &files, &how, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&how);
	return rc;
}

/* Adds what can be read; closes the pipe at its end. False: there is more than `most`. */
static bool read_on(int *fd, struct rt_buf *text, size_t most)
{
	char bytes[65536];
	ssize_t length = read(*fd, bytes, sizeof(bytes));

	if (length < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (length <= 0) {
		close(*fd);
		*fd = -1;
		return true;
	}
	if (text->length + (size_t)length > most)
		return false;
	rt_buf_add(text, bytes, (size_t)length);
	return true;
}

/* What it says on standard error beyond the bound is read and forgotten. */
static void read_errors(int *fd, struct rt_buf *text)
{
	struct rt_buf rest = { 0 };

	if (text->length >= ASK_ERR_BYTES_MAX)
		(void)read_on(fd, &rest, SIZE_MAX);
	else
		(void)read_on(fd, text, SIZE_MAX);
	text->length = RT_MIN(text->length, (size_t)ASK_ERR_BYTES_MAX);
	rt_buf_done(&rest);
}

/* Returns ASK_ENDED when both pipes are at their end. */
static enum ask_end listen_to(const struct asker *asker, int *out, int *err, int client,
			      int64_t until_ms, struct answer *answer)
{
	while (*out >= 0 || *err >= 0) {
		struct pollfd fds[] = { { .fd = *out, .events = POLLIN },
					{ .fd = *err, .events = POLLIN },
					{ .fd = client, .events = POLLRDHUP } };
		int64_t left_ms = until_ms - now_ms();

		if (left_ms <= 0 || asker->ending)
			return ASK_LATE;
		if (poll(fds, RT_LENGTH(fds), (int)RT_MIN(left_ms, (int64_t)LOOK_MS)) <= 0)
			continue;
		if (fds[2].revents != 0)
			return ASK_LEFT;
		if (fds[0].revents != 0 && !read_on(out, &answer->out, ASK_OUT_BYTES_MAX))
			return ASK_TOO_LONG;
		if (fds[1].revents != 0)
			read_errors(err, &answer->err);
	}
	return ASK_ENDED;
}

/* ASK_ENDED when the process has ended. */
static enum ask_end await_end(const struct asker *asker, pid_t pid, int64_t until_ms)
{
	struct pollfd process = { .fd = pidfd_open(pid, 0), .events = POLLIN };
	enum ask_end end = ASK_LATE;
	int64_t left_ms;

	if (process.fd < 0)
		return ASK_LATE; /* it is killed, since nobody can wait for it with a deadline */
	while (end == ASK_LATE && (left_ms = until_ms - now_ms()) > 0 && !asker->ending)
		if (poll(&process, 1, (int)RT_MIN(left_ms, (int64_t)LOOK_MS)) > 0)
			end = ASK_ENDED;
	close(process.fd);
	return end;
}

static void run(struct asker *asker, const char *const *words, int secret, int client,
		int64_t deadline_ms, struct answer *answer)
{
	int64_t until_ms = now_ms() + deadline_ms;
	int out[2] = { -1, -1 }, err[2] = { -1, -1 }, status = 0, rc;
	pid_t pid = 0;

	answer->end = ASK_FAILED;
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		rc = errno;
	else
		rc = spawn(asker, words, secret, out[1], err[1], &pid);
	if (out[1] >= 0)
		close(out[1]);
	if (err[1] >= 0)
		close(err[1]);
	if (rc != 0) {
		rt_buf_printf(&answer->err, "%s cannot be run: %s", asker->program, strerror(rc));
	} else {
		answer->end = listen_to(asker, &out[0], &err[0], client, until_ms, answer);
		if (answer->end == ASK_ENDED)
			answer->end = await_end(asker, pid, until_ms);
		if (answer->end != ASK_ENDED)
			(void)kill(-pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (answer->end == ASK_ENDED && WIFEXITED(status)) {
			answer->code = WEXITSTATUS(status);
		} else if (answer->end == ASK_ENDED) {
			answer->end = ASK_FAILED;
			rt_buf_printf(&answer->err, "signal %d ended it", WTERMSIG(status));
		}
	}
	if (out[0] >= 0)
		close(out[0]);
	if (err[0] >= 0)
		close(err[0]);
}

void asker_ask(struct asker *asker, const char *const *words, const char *secret, int client,
	       int64_t deadline_ms, struct answer *ret)
{
	int file = -1;

	*ret = (struct answer){ .end = take_place(asker, client) };
	if (ret->end == ASK_ENDED) {
		if (secret != NULL)
			file = secret_file(secret);
		if (secret != NULL && file < 0) {
			ret->end = ASK_FAILED;
			rt_buf_printf(&ret->err, "no memory for a secret: %s", strerror(errno));
		} else {
			run(asker, words, file, client, deadline_ms, ret);
		}
		if (file >= 0)
			close(file);
		leave_place(asker);
	}
	rt_buf_add(&ret->out, "", 1);
	rt_buf_add(&ret->err, "", 1);
	ret->out.length--;
	ret->err.length--;
}

void answer_done(struct answer *answer)
{
	rt_buf_done(&answer->out);
	rt_buf_done(&answer->err);
}
