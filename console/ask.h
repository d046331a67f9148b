/* ask.h - running tandemctl, which asks gateway and Redis for the page: what it sees is what an operator sees at a
 * terminal, by the same doors.
 *
 * No shell: a program, its words, and an environment that is this process's own. A secret reaches it as a file that
 * is in memory alone (/proc/self/fd/3). At most ASK_AT_ONCE run, each has a deadline, and output is bounded. Any
 * thread; blocks. */
#ifndef CONSOLE_ASK_H
#define CONSOLE_ASK_H

#include "base/base.h"

#define ASK_AT_ONCE       4
#define ASK_WAIT_MS       5000 /* for one of these places */
#define ASK_OUT_BYTES_MAX (32 << 20)
#define ASK_ERR_BYTES_MAX 8192
#define ASK_SECRET_PATH   "/proc/self/fd/3"

struct asker; /* opaque */

/* `program` is kept. */
struct asker *asker_new(const char *program);
/* Nobody may ask any more. Takes NULL. */
void asker_free(struct asker *asker);
/* What runs is killed, and nothing is started: the process ends. */
void asker_end(struct asker *asker);

enum ask_end {
	ASK_ENDED,    /* with an exit code */
	ASK_BUSY,     /* others ask; nothing was run */
	ASK_LATE,     /* not in time: killed */
	ASK_TOO_LONG, /* more output than is taken: killed */
	ASK_LEFT,     /* who asked does not wait any more: killed, or nothing was run */
	ASK_FAILED,   /* it could not be run, or a signal ended it */
};
struct answer {
	enum ask_end end;
	int code;               /* ASK_ENDED: the exit code */
	struct rt_buf out, err; /* with a NUL behind, which does not count */
};
/* `words` end with NULL; the program's name is not among them. `secret` NULL: none. `client`: the socket of who asks, -1: what is
 * begun goes on, whoever leaves. */
void asker_ask(struct asker *asker, const char *const *words, const char *secret, int client,
	       int64_t deadline_ms, struct answer *ret);
void answer_done(struct answer *answer);

#endif
