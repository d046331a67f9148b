/* link.c - see link.h.
 *
 * A link has two queues and two timers: the first request takes effect when it is due and moves to the
 * answers; the first answer is delivered when it is due. Those behind a delayed one wait. */
#include <ctype.h>
#include <stdio.h>

#include "internal.h"
#include "link.h"

#define LATE_AFTER_MS 100 /* the timeout of a command whose effect is late */
#define RECONNECT_MS  50

struct command {
	struct rt_list link;
	struct rt_redis_op *op; /* NULL: it is late, its caller got RT_TIMEOUT */
	struct memory_redis *redis;
	int master;
	char what[48];
	int status;
	int64_t due_ms, block_ms;
	struct rt_arena arena; /* arguments and answer */
	size_t argc;
	struct memory_text *argv;
	const redisReply *reply;
	struct rt_timer late_timer;
};

struct link {
	struct rt_redis redis; /* first: one is the other */
	struct memory_host *host;
	struct rt_loop *loop;
	struct rt_list of_host, of_redis, of_blocked; /* of_blocked: while `waits` */
	int master;
	uint64_t written; /* its master's writes at the latest command: what a WAIT is for */
	bool broken;      /* the process stands still, and does not know it yet */
	int64_t back_ms;
	void (*on_state)(struct rt_redis *redis, bool up, void *user);
	void *user;
	struct rt_list requests, answers; /* of struct command */
	size_t pending;
	struct command *waits; /* a blocked read, or a WAIT */
	struct rt_timer request_timer, answer_timer, wait_timer, up_timer, reset_timer, down_timer;
	bool up;
};

static struct link *of(struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, struct link, redis);
}

static struct command *first_of(struct rt_list *queue)
{
	return rt_list_empty(queue) ? NULL : RT_CONTAINER_OF(queue->next, struct command, link);
}

/* ---- commands ---- */

/* Those that have ended, to be used again with their memory: most of a command's time would be malloc's. With the address
 * sanitizer none is, so that it finds who uses an answer that is gone. */
#ifdef __SANITIZE_ADDRESS__
#define SPARE_MAX 0
#else
#define SPARE_MAX 256
#endif
#define SPARE_BYTES 8192
static struct command *spare[SPARE_MAX + 1];
static size_t spare_count;

/* The function without its version, or the command. */
static void name_command(struct command *command)
{
	bool function = strcasecmp(command->argv[0].data, "FCALL") == 0 && command->argc > 1;
	const char *name = command->argv[function ? 1 : 0].data;
	const char *version = function ? strrchr(name, '_') : NULL;
	size_t length = version != NULL ? (size_t)(version - name) : strlen(name);

	length = RT_MIN(length, sizeof(command->what) - 1);
	for (size_t i = 0; i < length; i++)
		command->what[i] = (char)tolower((unsigned char)name[i]);
}

static bool is_wait(const struct command *command)
{
	return strcmp(command->what, "wait") == 0;
}

static struct command *command_new(const struct link *link, int argc, const char *const *argv,
				   const size_t *lengths)
{
	struct command *command =
		spare_count > 0 ? spare[--spare_count] : rt_alloc(sizeof(*command));
	bool may_block = strncasecmp(argv[0], "XREAD", 5) == 0;

	rt_list_init(&command->link);
	command->redis = link->host->redis;
	command->master = link->master;
	command->argc = (size_t)argc;
	command->argv = rt_arena_take(&command->arena, (size_t)argc * sizeof(*command->argv));
	for (size_t i = 0; i < command->argc; i++) {
		struct memory_text *text = &command->argv[i];

		text->length = lengths != NULL ? lengths[i] : strlen(argv[i]);
		text->data = rt_arena_take(&command->arena, text->length + 1);
		memcpy(text->data, argv[i], text->length);
		text->data[text->length] = '\0';
		if (may_block && i > 0 && strcasecmp(command->argv[i - 1].data, "BLOCK") == 0)
			command->block_ms = strtoll(text->data, NULL, 10);
	}
	name_command(command);
	if (is_wait(command) && argc == 3)
		command->block_ms = strtoll(argv[2], NULL, 10);
	return command;
}

static void command_free(struct command *command)
{
	struct rt_arena arena = command->arena;

	if (spare_count == SPARE_MAX) {
		rt_arena_done(&arena);
		free(command);
		return;
	}
	rt_arena_reset(&arena, SPARE_BYTES);
	*command = (struct command){ .arena = arena };
	spare[spare_count++] = command;
}

/* Redis's answer for a status of the hook that means an error of Redis; NULL for others. */
static const redisReply *answer_for(int status)
{
	static char loading[] = "LOADING Redis is loading the dataset in memory";
	static char full[] = "OOM command not allowed when used memory > 'maxmemory'.";
	static char denied[] = "NOPERM this user has no permissions to run this command";
	static char no_group[] = "NOGROUP No such key or consumer group";
	static char other[] = "ERR something else";
	static const struct {
		int status;
		redisReply reply;
	} answers[] = {
		{ RT_UNREADY, { .type = REDIS_REPLY_ERROR, .str = loading } },
		{ RT_FULL, { .type = REDIS_REPLY_ERROR, .str = full } },
		{ RT_DENIED, { .type = REDIS_REPLY_ERROR, .str = denied } },
		{ RT_NOGROUP, { .type = REDIS_REPLY_ERROR, .str = no_group } },
		{ RT_REMOTE, { .type = REDIS_REPLY_ERROR, .str = other } },
	};

	for (size_t i = 0; i < RT_LENGTH(answers); i++)
		if (answers[i].status == status)
			return &answers[i].reply;
	return NULL;
}

/* Runs it at its master. */
static const redisReply *run(struct command *command)
{
	struct memory_redis *redis = command->redis;
	uint64_t writes = redis->writes;
	const redisReply *reply = memory_run(redis, &command->arena, command->argc, command->argv);

	redis->masters[command->master].writes += redis->writes != writes;
	return reply;
}

static void command_ends(struct link *link, struct command *command, int status)
{
	rt_list_remove(&command->link);
	link->pending--;
	if (status == RT_OK && command->reply != NULL)
		status = rt_redis_reply_status(command->reply);
	else
		command->reply = answer_for(status);
	command->op->done(command->op, status, command->reply);
	command_free(command);
}

/* ---- late effects ---- */

static void late_ends(struct command *command)
{
	rt_timer_stop(command->redis->loop, &command->late_timer);
	rt_list_remove(&command->link);
	command_free(command);
}

static void late_comes(struct rt_timer *timer)
{
	struct command *command = RT_CONTAINER_OF(timer, struct command, late_timer);

	run(command);
	late_ends(command);
}

static void late_start(struct memory_redis *redis, struct command *command, int64_t delay_ms)
{
	rt_list_push(&redis->late, &command->link);
	rt_timer_start(redis->loop, &command->late_timer, delay_ms, late_comes);
}

size_t memory_late_count(const struct memory_redis *redis)
{
	size_t count = 0;

	for (const struct rt_list *at = redis->late.next; at != &redis->late; at = at->next)
		count++;
	return count;
}

void memory_late_free(struct memory_redis *redis)
{
	while (!rt_list_empty(&redis->late))
		late_ends(first_of(&redis->late));
}

/* ---- requests and answers ---- */

static void requests_due(struct rt_timer *timer);
static void answers_due(struct rt_timer *timer);

/* Nothing reaches or leaves a process that stands still. */
static int64_t due_ms(const struct link *link, const struct command *command)
{
	return RT_MAX(command->due_ms, link->host->still_until_ms);
}

static void arm(struct link *link)
{
	struct command *request = first_of(&link->requests), *answer = first_of(&link->answers);
	int64_t now = rt_loop_now(link->loop);

	if (request != NULL && link->waits == NULL && !rt_timer_running(&link->request_timer))
		rt_timer_start(link->loop, &link->request_timer,
			       RT_MAX(due_ms(link, request) - now, 0), requests_due);
	if (answer != NULL && !rt_timer_running(&link->answer_timer))
		rt_timer_start(link->loop, &link->answer_timer,
			       RT_MAX(due_ms(link, answer) - now, 0), answers_due);
}

static int ask(const struct link *link, const struct command *command, bool after,
	       int64_t *delay_ms)
{
	const struct memory_host *host = link->host;
	struct memory_io io = { .host = host,
				.what = command->what,
				.argc = command->argc,
				.argv = command->argv,
				.after = after,
				.reply = after ? command->reply : NULL };

	*delay_ms = 0;
	return host->fault == NULL ? RT_OK : host->fault(host->user, &io, delay_ms);
}

/* Its answer begins to travel. */
static void answer(struct link *link, struct command *command)
{
	int64_t delay_ms = 0;

	if (command->status == RT_OK)
		command->status = ask(link, command, true, &delay_ms);
	if (link->host->dead)
		command->status = RT_CANCELED;
	command->due_ms = rt_loop_now(link->loop) + delay_ms;
	rt_list_push(&link->answers, &command->link);
}

static void stop_waiting(struct link *link)
{
	link->waits = NULL;
	rt_list_remove(&link->of_blocked);
	rt_timer_stop(link->loop, &link->wait_timer);
}

/* A WAIT: how many replicas have what its connection wrote. */
static const redisReply *confirmed(const struct link *link)
{
	static const redisReply numbers[] = { { .type = REDIS_REPLY_INTEGER, .integer = 0 },
					      { .type = REDIS_REPLY_INTEGER, .integer = 1 } };
	const struct memory_master *master = &link->host->redis->masters[link->master];

	return &numbers[!master->lags || link->written <= master->kept_writes];
}

static void wait_is_over(struct rt_timer *timer)
{
	static const redisReply nothing = { .type = REDIS_REPLY_NIL };
	struct link *link = RT_CONTAINER_OF(timer, struct link, wait_timer);
	struct command *command = link->waits;

	stop_waiting(link);
	command->reply = is_wait(command) ? confirmed(link) : &nothing;
	answer(link, command);
	arm(link);
}

/* One request takes effect, fails, or blocks. */
static void serve(struct link *link, struct command *command)
{
	if (command->status == RT_OK && link->host->dead)
		command->status = RT_CANCELED;
	if (command->status == RT_OK && link->broken)
		command->status = RT_LOST;
	if (command->status == RT_OK && is_wait(command)) {
		command->reply = confirmed(link);
		if (command->reply->integer == 0) {
			link->waits = command;
			rt_timer_start(link->loop, &link->wait_timer, command->block_ms,
				       wait_is_over);
			return;
		}
	} else if (command->status == RT_OK) {
		command->reply = run(command);
		link->written = link->host->redis->masters[link->master].writes;
		if (command->reply == NULL) {
			link->waits = command;
			rt_list_push(&link->host->redis->blocked, &link->of_blocked);
			rt_timer_start(link->loop, &link->wait_timer, command->block_ms,
				       wait_is_over);
			return;
		}
	}
	answer(link, command);
}

static void requests_due(struct rt_timer *timer)
{
	struct link *link = RT_CONTAINER_OF(timer, struct link, request_timer);
	int64_t now = rt_loop_now(link->loop);
	struct command *command;

	while (link->waits == NULL && (command = first_of(&link->requests)) != NULL &&
	       due_ms(link, command) <= now) {
		rt_list_remove(&command->link);
		serve(link, command);
	}
	arm(link);
}

static void answers_due(struct rt_timer *timer)
{
	struct link *link = RT_CONTAINER_OF(timer, struct link, answer_timer);
	int64_t now = rt_loop_now(link->loop);
	struct command *command;
	struct rt_list due;

	rt_list_init(&due);
	while ((command = first_of(&link->answers)) != NULL && due_ms(link, command) <= now) {
		rt_list_remove(&command->link);
		rt_list_push(&due, &command->link);
	}
	arm(link);
	while ((command = first_of(&due)) != NULL)
		command_ends(link, command, command->status);
}

static bool has_more(const struct memory_redis *redis, const struct command *command,
		     const char *name, const char *id)
{
	const struct memory_stream *stream = memory_stream_find(redis, name);
	const struct memory_group *group;
	struct memory_id after;

	if (stream == NULL)
		return true;
	if (memory_id_parse(id, &after))
		return memory_id_compare(after, stream->last) < 0;
	group = strcmp(id, ">") != 0 ? NULL : memory_group_find(stream, command->argv[2].data);
	return group == NULL || memory_id_compare(group->delivered, stream->last) < 0;
}

/* Whether there can be something for a blocked read: one of its streams has an entry behind its id, or behind those that its
 * group has read. What is not certain is found out by running it. */
static bool may_go_on(const struct memory_redis *redis, const struct command *command)
{
	size_t from = 1, streams;
	bool more = false;

	while (strcasecmp(command->argv[from - 1].data, "STREAMS") != 0)
		from++;
	streams = (command->argc - from) / 2;
	for (size_t i = from; i < from + streams && !more; i++)
		more = has_more(redis, command, command->argv[i].data,
				command->argv[i + streams].data);
	return more;
}

/* Runs blocked reads again, the oldest first. */
static void run_blocked(struct memory_redis *redis)
{
	struct rt_list due, *at;

	rt_list_init(&due);
	rt_list_move(&due, &redis->blocked);
	while ((at = rt_list_pop(&due)) != NULL) {
		struct link *link = RT_CONTAINER_OF(at, struct link, of_blocked);
		struct command *command = link->waits;

		rt_list_push(&redis->blocked, at);
		if (!may_go_on(redis, command))
			continue;
		command->reply = run(command);
		if (command->reply == NULL)
			continue;
		stop_waiting(link);
		answer(link, command);
		arm(link);
	}
}

void memory_changed(struct memory_redis *redis)
{
	redis->changed = true;
	if (redis->notifying)
		return; /* by a blocked read: the loop below goes on */
	redis->notifying = true;
	while (redis->changed) {
		redis->changed = false;
		if (redis->on_change != NULL)
			redis->on_change(redis->user);
		run_blocked(redis);
	}
	redis->notifying = false;
}

/* Ends all requests and answers, from the loop. */
static void lose(struct link *link, int status)
{
	int64_t now = rt_loop_now(link->loop);
	struct rt_list *at;

	if (link->waits != NULL) {
		rt_list_push(&link->answers, &link->waits->link);
		stop_waiting(link);
	}
	while ((at = rt_list_pop(&link->requests)) != NULL)
		rt_list_push(&link->answers, at);
	for (at = link->answers.next; at != &link->answers; at = at->next) {
		struct command *command = RT_CONTAINER_OF(at, struct command, link);

		command->status = status;
		command->due_ms = now;
	}
	rt_timer_stop(link->loop, &link->request_timer);
	rt_timer_stop(link->loop, &link->answer_timer);
	arm(link);
}

/* ---- links ---- */

static void on_up(struct rt_timer *timer)
{
	struct link *link = RT_CONTAINER_OF(timer, struct link, up_timer);
	int64_t still_ms = link->host->still_until_ms - rt_loop_now(link->loop);

	if (still_ms > 0) {
		rt_timer_start(link->loop, timer, still_ms, on_up);
		return;
	}
	link->up = true;
	link->redis.epoch += link->redis.epoch == 0 || !link->host->redis->same_epoch;
	if (link->on_state != NULL)
		link->on_state(&link->redis, true, link->user);
	rt_redis_notify_up(&link->redis);
}

/* It reconnects after back_ms, unless that is negative. */
static void down(struct link *link, int status, int64_t back_ms)
{
	bool was_up = link->up;

	link->up = link->broken = false;
	rt_timer_stop(link->loop, &link->up_timer);
	rt_timer_stop(link->loop, &link->down_timer);
	if (was_up && link->on_state != NULL && !link->host->dead)
		link->on_state(&link->redis, false, link->user);
	lose(link, status);
	if (back_ms >= 0)
		rt_timer_start(link->loop, &link->up_timer, back_ms, on_up);
}

static void on_reset(struct rt_timer *timer)
{
	struct link *link = RT_CONTAINER_OF(timer, struct link, reset_timer);

	if (link->up)
		down(link, RT_CANCELED, 0);
}

static void link_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct link *link = of(redis);
	struct command *command = command_new(link, argc, argv, lengths);
	int64_t delay_ms = 0;

	(void)timeout_ms; /* MEMORY_LATE simulates it */
	command->op = op;
	if (link->host->dead)
		command->status = RT_CANCELED;
	else if (!link->up)
		command->status = RT_LOST;
	else
		command->status = ask(link, command, false, &delay_ms);
	if (command->status == MEMORY_LATE) {
		command->status = command->block_ms > 0 ? RT_LOST : RT_TIMEOUT;
		if (command->block_ms == 0)
			late_start(link->host->redis, command_new(link, argc, argv, lengths),
				   delay_ms);
		delay_ms = RT_MIN(delay_ms, LATE_AFTER_MS);
	}
	if (link->host->dead)
		command->status = RT_CANCELED;
	command->due_ms = rt_loop_now(link->loop) + delay_ms;
	rt_list_push(&link->requests, &command->link);
	link->pending++;
	arm(link);
}

static void link_reset(struct rt_redis *redis)
{
	rt_timer_start(of(redis)->loop, &of(redis)->reset_timer, 0, on_reset);
}

static bool link_up(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct link, redis)->up;
}

static const char *link_error(const struct rt_redis *redis)
{
	return link_up(redis) ? "" : "the simulation has no connection";
}

static size_t link_pending(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, const struct link, redis)->pending;
}

static void link_free(struct rt_redis *redis)
{
	struct link *link = of(redis);
	struct command *command;

	link->on_state = NULL;
	link->up = false;
	do {
		lose(link, RT_CANCELED);
		while ((command = first_of(&link->answers)) != NULL)
			command_ends(link, command, RT_CANCELED);
	} while (!rt_list_empty(&link->requests)); /* a done sent another command */
	rt_timer_stop(link->loop, &link->request_timer);
	rt_timer_stop(link->loop, &link->answer_timer);
	rt_timer_stop(link->loop, &link->up_timer);
	rt_timer_stop(link->loop, &link->reset_timer);
	rt_timer_stop(link->loop, &link->down_timer);
	rt_list_remove(&link->of_host);
	rt_list_remove(&link->of_redis);
	free(link);
}

static const struct rt_redis_ops link_ops = {
	.command = link_command,
	.reset = link_reset,
	.up = link_up,
	.error = link_error,
	.pending = link_pending,
	.free = link_free,
};

static int link_connect(void *connector, struct rt_loop *loop,
			const struct rt_redis_options *options, struct rt_redis **ret)
{
	struct memory_host *host = connector;
	struct link *link = rt_alloc(sizeof(*link));

	link->redis.ops = &link_ops;
	rt_list_init(&link->redis.waiters);
	link->redis.together = host->redis->together;
	link->host = host;
	link->loop = loop;
	link->master = memory_master_at(host->redis, options->partition);
	link->on_state = options->on_state;
	link->user = options->user_data;
	rt_list_init(&link->of_blocked);
	rt_list_init(&link->requests);
	rt_list_init(&link->answers);
	rt_list_init(&link->of_redis);
	rt_list_push(&host->redis->links, &link->of_redis);
	rt_list_push(&host->links, &link->of_host);
	if (!host->away && !host->dead)
		rt_timer_start(loop, &link->up_timer, 0, on_up);
	*ret = &link->redis;
	return RT_OK;
}

/* ---- hosts ---- */

void memory_host_init(struct memory_host *host, struct memory_redis *redis, const char *process,
		      memory_fault_hook *fault, void *user)
{
	*host = (struct memory_host){
		.redis = redis, .process = process, .fault = fault, .user = user
	};
	host->options = (struct rt_redis_options){ .host = "memory",
						   .name = process,
						   .timeout_ms = 2000,
						   .connect = link_connect,
						   .connector = host };
	rt_list_init(&host->links);
}

static void all_down(struct memory_host *host, int status, int64_t back_ms)
{
	for (struct rt_list *at = host->links.next; at != &host->links; at = at->next)
		down(RT_CONTAINER_OF(at, struct link, of_host), status, back_ms);
}

void memory_host_cut(struct memory_host *host, bool away)
{
	host->away = away;
	all_down(host, RT_LOST, away ? -1 : RECONNECT_MS);
}

void memory_host_back(struct memory_host *host)
{
	host->away = false;
	for (struct rt_list *at = host->links.next; at != &host->links && !host->dead;
	     at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, of_host);

		if (!link->up)
			rt_timer_start(link->loop, &link->up_timer, 0, on_up);
	}
}

void memory_host_kill(struct memory_host *host)
{
	host->dead = true;
	all_down(host, RT_CANCELED, -1);
}

void memory_host_stands_still(struct memory_host *host, int64_t ms)
{
	host->still_until_ms = rt_loop_now(host->redis->loop) + ms;
}

/* ---- failovers ---- */

static void on_down(struct rt_timer *timer)
{
	struct link *link = RT_CONTAINER_OF(timer, struct link, down_timer);

	down(link, RT_LOST, link->host->away ? -1 : link->back_ms);
}

/* A process that stands still learns of it later, perhaps behind the answers that it had received before. */
static void link_break(struct link *link, int64_t back_ms)
{
	int64_t still_ms = link->host->still_until_ms - rt_loop_now(link->loop);

	if (still_ms <= 0 || !link->up) {
		down(link, RT_LOST, link->host->away || link->host->dead ? -1 : back_ms);
		return;
	}
	if (link->waits != NULL) {
		link->waits->status = RT_LOST;
		rt_list_push(&link->answers, &link->waits->link);
		stop_waiting(link);
		arm(link);
	}
	link->broken = true;
	link->back_ms = back_ms;
	rt_timer_start(link->loop, &link->down_timer,
		       still_ms + (int64_t)rt_loop_random(link->loop, 4), on_down);
}

void memory_links_break(struct memory_redis *redis, int master, int64_t back_ms)
{
	struct rt_list *at, *next;

	for (at = redis->late.next; at != &redis->late; at = next) {
		struct command *command = RT_CONTAINER_OF(at, struct command, link);

		next = at->next;
		if (command->master == master)
			late_ends(command);
	}
	for (at = redis->links.next; at != &redis->links; at = at->next) {
		struct link *link = RT_CONTAINER_OF(at, struct link, of_redis);

		if (link->master == master)
			link_break(link, back_ms);
	}
}
