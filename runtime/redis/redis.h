/* redis.h - one pipelined, asynchronous connection to Redis on the loop, and what is sent on it:
 * commands, their arguments, calls of a context's functions, and what a context's store is made of.
 *
 * Commands are answered in the order they were sent. While the connection is away every command
 * fails with RT_LOST: nothing is kept to be sent later, because the caller alone knows
 * whether it may be repeated. A command whose answer does not come within its timeout fails with
 * RT_TIMEOUT and takes the connection down (what was sent cannot be called back, and answers
 * come in order); the others on it get RT_LOST.
 *
 * The connection comes back by itself: after 50 ms, doubling up to 2 s, each ±25 %.
 * All commands of one turn of the loop go out in one write. The process must ignore SIGPIPE.
 * Threads: loop thread only. */
#ifndef RT_REDIS_H
#define RT_REDIS_H

#include "base/base.h"
#include "loop/loop.h"
#include "trace/trace.h"

struct redisReply;
struct rt_redis;

struct rt_redis_login {
	const char *user; /* NULL or "": none */
	const char *password;
	const char *password_file; /* as in struct rt_redis_options */
};

/* TLS, from 1.2 on (tls.c): the server's certificate must be for the host that is connected to, and of a CA that is
 * trusted. The files are looked at whenever a connection begins: connections that are made after a change use
 * the new ones, the others stay. */
struct rt_redis_tls;           /* opaque */
#define RT_REDIS_TLS_ERROR 480 /* bytes that `error` has */
struct rt_redis_tls_files {
	const char *ca;                /* of servers, in PEM; NULL or "": the system's */
	const char *certificate, *key; /* of this client, in PEM; NULL or "": it has none */
};
/* RT_OK, or another status with the reason, which names the file, in `error`. */
int rt_redis_tls_new(const struct rt_redis_tls_files *files, struct rt_redis_tls **ret,
		     char error[RT_REDIS_TLS_ERROR]);
/* After the connections that use it. Takes NULL. */
void rt_redis_tls_free(struct rt_redis_tls *tls);

struct rt_redis_options {
	const char *host; /* or, when unix_path is set, unused */
	int port;
	const char *unix_path; /* NULL or "": TCP */
	const char *user;      /* NULL or "": no AUTH */
	const char *password;
	/* Its first line is the password (base/secret.h), read whenever a connection begins. NULL or "": `password`
	 * is it. */
	const char *password_file;
	struct rt_redis_tls *tls;       /* borrowed; NULL, or with a unix_path: no TLS */
	struct rt_redis_login deploy;   /* who may load functions, of a store's connection */
	struct rt_redis_login sentinel; /* who asks sentinels, of a topology's */
	/* Why the connection is away is logged, each reason once until it is back, if on_state is
	 * set: of several connections with the same options one speaks. */
	bool log_trouble;
	const char *name;   /* CLIENT SETNAME; what CLIENT LIST shows */
	int64_t timeout_ms; /* for commands that give none, and for connecting. 0: 2000 */
	size_t pending_max; /* commands under way; one more gets RT_BUSY. 0: 4096 */
	/* The loop's Unix time follows this server's clock, from before the connection is up (loop/loop.h). A
	 * wall clock that is wrong is logged, and shown in the connection's name. */
	bool follow_clock;
	struct rt_metrics *metrics; /* tandem_clock_offset_seconds; NULL: none */
	int partition; /* whose keys it is used for, where several servers have them (topology.h) */
	bool blocks;   /* its commands may block: it is not shared */
	/* Called when the connection is up (authenticated, data loaded) and when it went, then
	 * before the commands under way end; NULL: nobody asks. Must not free. */
	void (*on_state)(struct rt_redis *redis, bool up, void *user);
	void *user_data;
	/* Makes another kind of connection in place of this one: a Redis in memory, for the simulation.
	 * It must keep all promises of this header. NULL: over a socket. */
	int (*connect)(void *connector, struct rt_loop *loop,
		       const struct rt_redis_options *options, struct rt_redis **ret);
	void *connector;
};

/* Strings are copied. Starts connecting in the loop's next turn. */
int rt_redis_new(struct rt_loop *loop, const struct rt_redis_options *options,
		 struct rt_redis **ret);

/* A command. Embed it; nothing but `done` is the caller's to set, through rt_redis_command. */
struct rt_redis_op {
	struct rt_list link;
	struct rt_redis *redis;
	int64_t deadline_ms;
	int status;
#ifdef TANDEM_FAILPOINTS
	char what[48]; /* the command, for the points' names */
	bool written;
#endif
	/* `reply` is valid until this returns; NULL unless the status is RT_OK, RT_REMOTE or one
	 * of the error answers below, where it is the error reply.
	 *   RT_OK       any answer but an error (a nil is an answer)
	 *   RT_FULL     -OOM, -MISCONF (disk full)
	 *   RT_DENIED   -NOPERM, -NOAUTH, -WRONGPASS
	 *   RT_NOGROUP  -NOGROUP, -UNBLOCKED
	 *   RT_UNREADY  it did not happen: a redirect (rt_redis_reply_redirects), -BUSY, -NOREPLICAS,
	 *               function not found
	 *   RT_REMOTE   every other error answer
	 *   RT_LOST, RT_TIMEOUT, RT_BUSY, RT_CANCELED */
	void (*done)(struct rt_redis_op *op, int status, const struct redisReply *reply);
};
/* A connection: what it can do is in `ops`, what it keeps lies behind. The functions below are all
 * there is to call. */
struct rt_redis_ops {
	/* link, redis, done and status of `op` are set. */
	void (*command)(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			const char *const *argv, const size_t *lengths, int64_t timeout_ms);
	void (*reset)(struct rt_redis *redis);
	bool (*up)(const struct rt_redis *redis);
	const char *(*error)(const struct rt_redis *redis);
	size_t (*pending)(const struct rt_redis *redis);
	void (*free)(struct rt_redis *redis);
};
struct rt_redis {
	const struct rt_redis_ops *ops;
	struct rt_list waiters; /* struct rt_redis_waiter, until it is up */
	uint64_t epoch;         /* how often it has come up: counted before on_state */
	/* Of a connection that several partitions share (topology.h): small batches wait for each other. */
	struct rt_batch_gate *gate;
	/* Behind it are all partitions, and no cluster: a function may use the keys of several. */
	bool together;
};

/* Sends a command; the arguments are copied before it returns. `lengths` NULL: C strings.
 * timeout_ms 0: the connection's. */
static inline void rt_redis_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
				    const char *const *argv, const size_t *lengths,
				    int64_t timeout_ms,
				    void (*done)(struct rt_redis_op *op, int status,
						 const struct redisReply *reply))
{
	rt_list_init(&op->link);
	op->redis = redis;
	op->status = RT_OK;
	op->done = done;
	redis->ops->command(redis, op, argc, argv, lengths, timeout_ms);
}
/* Soon: closes the connection, ends what is under way with RT_CANCELED, and connects again. For
 * giving up a blocking command. */
static inline void rt_redis_reset(struct rt_redis *redis)
{
	redis->ops->reset(redis);
}
static inline bool rt_redis_up(const struct rt_redis *redis)
{
	return redis->ops->up(redis);
}
/* A number that is another one whenever the connection behind it was made anew, or is one to another master
 * (topology.h). Commands that must be seen by one server, in order, were so if it is the same before the first
 * and after the last, and all were answered. */
static inline uint64_t rt_redis_epoch(const struct rt_redis *redis)
{
	return redis->epoch;
}
/* Waits for a connection to be up. */
struct rt_redis_waiter {
	struct rt_list link; /* initialise it before rt_redis_forget */
	void (*up)(struct rt_redis_waiter *waiter);
};
/* Calls `up` once, when the connection is up the next time, after on_state: it may send commands, and must
 * not free the connection. A waiter waits for one connection at a time, the last one given. */
void rt_redis_await(struct rt_redis *redis, struct rt_redis_waiter *waiter,
		    void (*up)(struct rt_redis_waiter *waiter));
static inline void rt_redis_forget(struct rt_redis_waiter *waiter)
{
	rt_list_remove(&waiter->link);
}
/* For implementations of struct rt_redis_ops: calls the waiters when the connection is up. */
void rt_redis_notify_up(struct rt_redis *redis);
/* Why it is not up, for a person; "" when it is. */
static inline const char *rt_redis_error(const struct rt_redis *redis)
{
	return redis->ops->error(redis);
}
static inline size_t rt_redis_pending(const struct rt_redis *redis)
{
	return redis->ops->pending(redis);
}
/* Every command under way ends with RT_CANCELED before this returns (the one exception to
 * "never before"). Takes NULL. Not to be called from a command's `done`. */
static inline void rt_redis_free(struct rt_redis *redis)
{
	if (redis != NULL)
		redis->ops->free(redis);
}

/* What an answer means for `done`: RT_OK, or one of the error answers above. */
int rt_redis_reply_status(const struct redisReply *reply);
/* Whether an answer says that another server may have to be asked, or this one later: -MOVED, -ASK,
 * -TRYAGAIN, -CLUSTERDOWN, -READONLY, -LOADING, -MASTERDOWN, and what a cluster says of them to a function and
 * to a blocked command. The command did not happen: a function whose first command names a key of its slot has
 * ended there. */
bool rt_redis_reply_redirects(const struct redisReply *reply);
/* Whether the text of an error answer begins with `prefix`, as whole words. */
bool rt_redis_reply_begins(const struct redisReply *reply, const char *prefix);

/* Arguments for a command, gathered one by one. Zeroed memory is a valid empty one. The bytes are
 * borrowed until rt_redis_send, except those of _int and _copy, which it keeps. */
struct rt_args {
	const char **argv;
	size_t *lengths;
	int count, capacity;
	struct rt_buf text; /* what _int and _copy keep */
	size_t *text_at;    /* per argument: offset in text plus 1, or 0 */
};
void rt_args_add(struct rt_args *args, const void *data, size_t length);
void rt_args_str(struct rt_args *args, const char *s);
void rt_args_int(struct rt_args *args, int64_t n);
/* A <trace> of events.lua. "" and NULL: there is none. */
void rt_args_trace(struct rt_args *args, const char *traceparent, const char *tracestate);
void rt_args_copy(struct rt_args *args, const void *data, size_t length);
void rt_args_clear(struct rt_args *args); /* empty again, memory kept */
void rt_args_done(struct rt_args *args);
/* rt_redis_command with gathered arguments; they can be cleared when it returns. */
void rt_redis_send(struct rt_redis *redis, struct rt_redis_op *op, struct rt_args *args,
		   int64_t timeout_ms,
		   void (*done)(struct rt_redis_op *op, int status,
				const struct redisReply *reply));

/* A version of a context's Redis functions. `code` is a library "<name>_<version>", whose functions
 * are called "<name>_<function>_<version>"; so several versions stand side by side. Its function
 * "version" answers `version`. */
struct rt_functions {
	const char *name, *version, *code; /* "order", "1a2b3c4d" */
	size_t code_length;
};
/* Adds FCALL and the name of one of the functions; `function` is "place". */
void rt_args_function(struct rt_args *args, const struct rt_functions *functions,
		      const char *function);

/* A watch over a context's functions: whether the server has this version of them, and would run them
 * now; and whether the data there was begun with this number of partitions.
 *
 * Asked when the connection comes up, every second after that, and when a call says that a function is
 * missing. The question is a call of the function "version": it costs what the smallest command costs, and Redis
 * refuses it when it would refuse the others (it is a replica, its disk is full).
 *
 * What is missing is loaded by the deploy user over a short connection, without replacing anything: versions stand side
 * by side, and of several instances one loads. Without a deploy user it is loaded over this connection where its user
 * may; services' users may not, there an operator must. */
struct rt_functions_watch {
	struct rt_loop *loop;
	struct rt_redis *redis;
	const struct rt_functions *functions;
	const char *own_stream; /* the functions' first key */
	int partition_count;    /* of the context */
	struct rt_redis_op op;
	struct rt_timer timer;
	bool asking, stopped;
	int waits;     /* for an answer that is late */
	bool loaded;   /* they were there when last asked, on this connection */
	bool mismatch; /* the data has another number of partitions */
	char problem[300];
	struct rt_task *changed; /* deferred when the problem may have changed; or NULL */
	/* How the deploy user connects; NULL: there is none. Borrowed. */
	const struct rt_redis_options *deploy;
	struct rt_redis *deployer; /* while it loads */
	struct rt_redis_op deploy_op;
	struct rt_timer deploy_timer; /* it is over, or has taken too long */
	bool deployed;                /* in this second */
	char deploy_error[120];
};

/* `watch` is zeroed but for `changed` and `deploy`, and stopped before `redis` is freed; the others are borrowed. */
void rt_functions_watch_start(struct rt_functions_watch *watch, struct rt_loop *loop,
			      struct rt_redis *redis, const struct rt_functions *functions,
			      const char *own_stream, int partition_count);
/* To be called by the connection's on_state. */
void rt_functions_watch_state(struct rt_functions_watch *watch, bool up);
/* How a call of one of the functions ended: RT_UNREADY may mean that it is missing. */
void rt_functions_watch_ended(struct rt_functions_watch *watch, int status);
void rt_functions_watch_stop(struct rt_functions_watch *watch);
/* Why the functions cannot be called now, for a person; NULL: they can. */
const char *rt_functions_watch_problem(const struct rt_functions_watch *watch);

/* A context's store: a connection, a watch over the context's functions, and queues of operations
 * (store.c).
 *
 * A queue holds operations of one kind. Those that have gathered (rt_batch) go as one command, and each
 * gets its part of the answer. In the order things happen:
 *
 *   rt_store_add → (end of the turn) outdated, begin, encode of each → the command is sent
 *     → answered → decode and end of each operation
 *
 * An operation ends exactly once, never before rt_store_add has returned. One that cannot wait (the
 * queue is full, or the store refuses it) ends at the end of the turn. */
struct rt_store;       /* opaque */
struct rt_store_queue; /* opaque */

struct rt_store_options {
	/* Copied. What on_state, user_data, follow_clock and metrics say is set by the store. */
	const struct rt_redis_options *redis;
	const struct rt_functions *functions; /* of the context whose store it is */
	const char *context; /* with what its keys begin; NULL: the functions' name */
	int partition;       /* {p} of its keys */
	int partition_count; /* of the context; 0: 1 */
	int replicas; /* that must have what a step wrote before it ends with RT_OK; 0: none */
	struct rt_metrics *metrics; /* NULL: none */
	struct rt_task *changed;    /* deferred when rt_store_problem may have changed; or NULL */
};
int rt_store_new(struct rt_loop *loop, const struct rt_store_options *options,
		 struct rt_store **ret);
/* Ends what waits or is under way with RT_CANCELED, frees the queues and the store. Takes NULL. */
void rt_store_free(struct rt_store *store);
struct rt_redis *rt_store_redis(struct rt_store *store);
/* Why it cannot serve, for a person; NULL: it can. */
const char *rt_store_problem(const struct rt_store *store);
/* What Redis answered that keeps it from serving, for a person; NULL: nothing, or Redis is away. */
const char *rt_store_refusal(const struct rt_store *store);
/* Its data has another number of partitions: it will never be served. */
bool rt_store_mismatch(const struct rt_store *store);

/* The operations of one command. */
struct rt_store_run {
	struct rt_batch_run batch; /* first; the operations are its items */
	struct rt_store_queue *queue;
	void *user;           /* as given to rt_store_queue_new */
	struct rt_args *args; /* of the command that is being put together */
	size_t index;         /* of the operation whose answer is being read */
	int commands;         /* sent for these operations */
	/* The step's position in an answer that decode gets whole. */
	size_t read;
	const char *text;
	struct rt_redis_op op;
	struct rt_function_call call; /* for spans */
	/* Of a durable command: its answer, and the connection's epoch then, until a WAIT confirms it. */
	struct rt_list link;
	const struct redisReply *reply;
	uint64_t epoch;
	struct rt_arena kept;
};
#define RT_STORE_FOR_EACH(type, op, run)                                                           \
	for (type *op = (type *)(run)->batch.items.next;                                           \
	     (const struct rt_list *)op != &(run)->batch.items;                                    \
	     op = (type *)((const struct rt_list *)op)->next)

/* A kind of operation: a struct that begins with a struct rt_batch_item. */
struct rt_store_step {
	const char *name;     /* label of its metrics; NULL: not counted */
	size_t count_max;     /* operations in a command; 1: each is answered by a whole answer */
	size_t in_flight_max; /* commands under way */
	size_t gather;        /* operations that a further command is worth; 0: one */
	size_t waiting_max;   /* operations that wait; one more ends with RT_BUSY */
	size_t weight_max;    /* of the operations' items in a command; 0: no limit */
	/* Which of the context's functions the command calls, with the own stream as its key. NULL:
	 * begin puts in the command from its first word. */
	const char *function;
	/* Whether an operation must not be sent any more, since the connection is another one by now: it ends with
	 * RT_LOST. NULL: any may be sent. */
	bool (*outdated)(const void *op);
	/* Not sent while the functions are known to be missing: ends with RT_UNREADY. */
	bool needs_functions;
	/* Where replicas are asked for, a WAIT covers each command that was answered OK: what it did, and what it read, is
	 * there, or the operations end with RT_UNCONFIRMED. The answer is kept until then. */
	bool durable;
	/* The answer is not an array with an element for each operation: decode is given all of it. */
	bool whole_answer;
	/* Adds to run->args what comes before the operations; NULL: nothing. What is added without a
	 * copy must stay until the command is sent. */
	void (*begin)(struct rt_store_run *run);
	/* Adds the arguments of one operation; NULL: none. */
	void (*encode)(struct rt_store_run *run, const void *op);
	/* Looks at the answer first, and may change the status. True: run->args, which was empty, holds
	 * a further command for the same operations. NULL: not wanted. */
	bool (*answered)(struct rt_store_run *run, int *status, const struct redisReply *reply);
	/* Reads an operation's part of an answer that is RT_OK; how it ends. NULL: with RT_OK. */
	int (*decode)(struct rt_store_run *run, void *op, const struct redisReply *reply);
	/* Calls the operation's done, which may free it, and frees what decode made. */
	void (*end)(void *op, int status);
};
/* An `end` that does nothing but call `done`. */
#define RT_STORE_END(name, type)                                                                   \
	static void name(void *op, int status)                                                     \
	{                                                                                          \
		type *ended = op;                                                                  \
                                                                                                   \
		ended->done(ended, status);                                                        \
	}

/* `step` must stay. The queue is freed with the store. */
int rt_store_queue_new(struct rt_store *store, const struct rt_store_step *step, void *user,
		       struct rt_store_queue **ret);
void rt_store_add(struct rt_store_queue *queue, void *op);
/* Ends an operation at the end of the turn, without sending it. */
void rt_store_refuse(struct rt_store_queue *queue, void *op, int status);

/* Begins a call of one of the context's functions: its keys are the own stream and, unless it is
 * NULL, another one. */
void rt_store_call(struct rt_store_run *run, const char *function, const char *second_key);
/* The same with these keys, of which the first is an own stream: for functions that concern several partitions. */
void rt_store_call_keys(struct rt_store_run *run, const char *function, const char *const *keys,
			size_t count);
/* Adds the time of a command, that of its latest operation: as unix ms, and as RFC 3339. */
void rt_store_add_time(struct rt_store_run *run, int64_t now_ms);

/* Reading answers. */
/* A copy of an answer, that lives as long as the arena. */
const struct redisReply *rt_reply_copy(struct rt_arena *arena, const struct redisReply *reply);
bool rt_reply_is_array(const struct redisReply *reply, size_t length_min);
bool rt_reply_is_string(const struct redisReply *reply);
/* The text of a function that answers a text, or, if more follows it, a list that begins with it; else NULL. */
const char *rt_reply_text(const struct redisReply *reply);
/* An integer, or a string of digits; else 0. */
int64_t rt_reply_int(const struct redisReply *reply);

#endif
