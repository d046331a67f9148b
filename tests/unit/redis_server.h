/* redis_server.h - a redis-server of the test's own: private folder, unix socket and TCP port. It
 * dies with the test. Everything here blocks. */
#ifndef TESTS_REDIS_SERVER_H
#define TESTS_REDIS_SERVER_H

#include <sys/types.h>

#include <hiredis/hiredis.h>

#include "base/base.h"

struct redis_server {
	char folder[64], socket[96];
	int port;
	int pid; /* 0: not running */
	redisContext *control;
	const char *const *settings;
	bool sentinel;
};

/* `settings`: further arguments of redis-server, such as "--maxmemory", "4mb"; ends with NULL;
 * NULL: none; borrowed. Returns when the server answers. Aborts the test program when it cannot
 * be started, because nothing after it would mean anything. */
void redis_server_start(struct redis_server *server, const char *const *settings);
/* A sentinel, alone, that watches the master at this port under this name. It says after half a second without
 * an answer that a master is down. */
void redis_server_start_sentinel(struct redis_server *server, const char *name, int master_port);
/* SIGKILL; what was not saved is gone. */
void redis_server_kill(struct redis_server *server);
/* After a kill: the same folder, socket and port. */
void redis_server_restart(struct redis_server *server);
/* SIGSTOP and SIGCONT. */
void redis_server_freeze(struct redis_server *server);
void redis_server_thaw(struct redis_server *server);
/* Kills it and removes its folder. */
void redis_server_done(struct redis_server *server);

/* One command with hiredis's format. The reply must be freed with freeReplyObject. */
redisReply *redis_server_command(struct redis_server *server, const char *format, ...);
/* One command whose answer is an integer, a text (kept until the next call) or of no interest.
 * Error answers abort: what a test prepares must work. */
long long redis_server_int(struct redis_server *server, const char *format, ...);
const char *redis_server_text(struct redis_server *server, const char *format, ...);
void redis_server_do(struct redis_server *server, const char *format, ...);
/* FUNCTION LOAD REPLACE of runtime/events/events.lua for a context and as a version of its library, without
 * the context's own part; `extra` is appended to it ("" for nothing). */
void redis_server_load_events(struct redis_server *server, const char *context, const char *version,
			      const char *extra);

/* A process that `answer`s each peer at the port. The caller kills it. */
pid_t redis_server_fake(int *ret_port, void (*answer)(int peer));

#endif
