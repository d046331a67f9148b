/* connection_internal.h - one connection over a socket, the files that make it up, and what they call
 * of each other: only what is below them.
 *
 *   connection.c     its life: connect, greet, up, down, connect again
 *   commands.c       the commands under way: sent in one write, answered in order
 *   tls.c            TLS: what is sent and received is sealed and opened, if options.tls says so
 *   server_clock.c   the server's clock, which the loop follows
 *   trouble.c        why the connection is away, for the log
 *   reply.c          an answer as hiredis reads it, and the status that it means
 *   common.c         what it has in common with a topology's connections (topology.c) */
#ifndef RT_REDIS_CONNECTION_INTERNAL_H
#define RT_REDIS_CONNECTION_INTERNAL_H

#include <hiredis/hiredis.h>

#include "base/base.h"
#include "loop/loop.h"
#include "redis.h"

#define REDIS_GREETINGS_MAX 4
#define REDIS_REPLIES_KEEP  65536 /* bytes of memory for answers, while there is none */

enum redis_state { REDIS_AWAY, REDIS_CONNECTING, REDIS_SECURING, REDIS_GREETING, REDIS_UP };

struct redis_clock {
	struct rt_loop *loop;
	struct rt_redis *redis;
	const char *name; /* of the connection; NULL: it has none */
	struct rt_clock clock;
	struct rt_redis_waiter up;
	int64_t sent_us; /* of the TIME under way */
	int greeting_samples;
	struct rt_redis_op op, name_op;
	struct rt_timer timer;
	bool wall_is_wrong, naming;
	struct rt_series *offset_seconds; /* NULL without metrics */
};

/* What every connection here has. */
struct redis_common {
	struct rt_redis redis; /* first: one is the other */
	struct rt_loop *loop;
	struct rt_redis_options options; /* of its own, with standard values filled in */
	struct rt_arena texts;           /* that they point to */
	bool up;
	size_t pending; /* commands under way */
	struct rt_list
		refused; /* struct rt_redis_op that were not sent, and end with op->status … */
	struct rt_timer end; /* … in the next turn */
};

struct redis_connection {
	struct redis_common common; /* first */
	enum redis_state state;
	redisContext *context;
	struct rt_watch *watch;
	struct rt_list pending;  /* sent, in order */
	struct rt_buf out;       /* commands in Redis's protocol … */
	size_t out_sent;         /* … of which so much is sent */
	struct redis_tls *tls;   /* NULL: plain */
	struct rt_arena replies; /* the answer that is being read or handled */
	struct rt_task turn;
	struct rt_timer connect;  /* away: when to try; until it is up: when to give up */
	struct rt_timer deadline; /* no later than the first deadline of the commands under way */
	struct rt_redis_op greetings[REDIS_GREETINGS_MAX];
	size_t greetings_left;
	struct redis_clock clock;
	int64_t retry_ms;
	bool freed; /* while `turn` was queued: the task frees */
	bool reset; /* asked for; `turn` does it */
	char error[RT_PASSWORD_ERROR + 40];
	char logged[RT_PASSWORD_ERROR +
		    40];    /* the last error that was logged, until it is up again */
	bool denial_logged; /* since it is up */
};

/* common.c. A copy with standard values filled in that keeps no pointer of the caller's, but into `texts`. */
void redis_options_copy(struct rt_redis_options *own, const struct rt_redis_options *options,
			struct rt_arena *texts);
/* `common` is zeroed. */
void redis_common_init(struct redis_common *common, const struct rt_redis_ops *ops,
		       struct rt_loop *loop, const struct rt_redis_options *options);
/* Tells on_state, and who waits for it. */
void redis_common_set_up(struct redis_common *common, bool up);
/* Whether a command may be sent. False: it ends with RT_LOST or RT_BUSY. */
bool redis_common_admit(struct redis_common *common, struct rt_redis_op *op);
/* Ends an operation that is not under way, in the next turn. */
void redis_common_refuse(struct redis_common *common, struct rt_redis_op *op, int status);
/* Nothing is under way any more: ends what was refused with RT_CANCELED, now. */
void redis_common_done(struct redis_common *common);
/* Of struct rt_redis_ops. */
bool redis_common_is_up(const struct rt_redis *redis);
size_t redis_common_pending(const struct rt_redis *redis);

/* commands.c. Names `op` after its command, for the failpoints. */
#ifdef TANDEM_FAILPOINTS
void redis_commands_name(struct rt_redis_op *op, int argc, const char *const *argv,
			 const size_t *lengths);
#else
#define redis_commands_name(op, argc, argv, lengths) ((void)0)
#endif
/* Makes room for so many bytes of commands. */
void redis_commands_reserve(struct redis_connection *connection, size_t bytes);
/* Formats the command and puts its op behind those under way. */
void redis_commands_add(struct redis_connection *connection, struct rt_redis_op *op, int argc,
			const char *const *argv, const size_t *lengths);
/* Sends what can be sent; reads and answers what has arrived, first TLS's handshake. False: the connection is of no use
 * (connection->error says why), and has not been taken down yet. */
bool redis_commands_write(struct redis_connection *connection);
bool redis_commands_read(struct redis_connection *connection);
/* The earliest deadline of a command under way; INT64_MAX without one. */
int64_t redis_commands_deadline(const struct redis_connection *connection);
/* Takes all that are under way off; redis_commands_end ends them, those whose deadline has passed
 * with RT_TIMEOUT when `status` is RT_LOST. */
void redis_commands_take(struct redis_connection *connection, struct rt_list *taken);
void redis_commands_end(struct redis_connection *connection, struct rt_list *taken, int status);

/* tls.c. Begins: makes connection->tls, and the first message to the server. False, as below: the connection is of
 * no use, connection->error says why. */
bool redis_tls_begin(struct redis_connection *connection);
/* Takes none. */
void redis_tls_end(struct redis_connection *connection);
/* The handshake is over. */
bool redis_tls_ready(const struct redis_connection *connection);
/* Seals all of connection->out. */
bool redis_tls_seal(struct redis_connection *connection);
/* The buffer that goes to the socket in place of connection->out, and how much of it is sent. */
void redis_tls_out(struct redis_connection *connection, struct rt_buf **out, size_t **sent);
/* These bytes have arrived; they are borrowed until all are taken: what they hold is taken bit by bit. */
void redis_tls_give(struct redis_connection *connection, const char *bytes, size_t length);
enum redis_taken {
	REDIS_TAKEN,      /* so many bytes */
	REDIS_TAKEN_ALL,  /* there are no more */
	REDIS_TAKEN_NEVER /* and never will be: connection->error says why */
};
enum redis_taken redis_tls_take(struct redis_connection *connection, char *bytes, size_t size,
				size_t *ret_length);

/* server_clock.c */
void redis_clock_init(struct redis_clock *clock, struct redis_connection *connection);
/* The greeting sends a TIME; its answer came: false: it sends another. */
void redis_clock_greet(struct redis_clock *clock);
bool redis_clock_greeted(struct redis_clock *clock, const redisReply *reply);
/* Until then the time is asked every second, whenever the connection is up. */
void redis_clock_stop(struct redis_clock *clock);

/* trouble.c */
void redis_trouble_set(struct redis_connection *connection, const char *what, const char *detail);
void redis_trouble_away(struct redis_connection *connection);
void redis_trouble_back(struct redis_connection *connection);
void redis_trouble_denied(struct redis_connection *connection, const char *reason);

/* reply.c. `reader->privdata` is a struct rt_arena. */
extern redisReplyObjectFunctions redis_reply_functions;

#endif
