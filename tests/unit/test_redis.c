/* test_redis.c - the connection to a real redis-server: order, one write a turn, every way to fail,
 * and reconnecting. */
#include "redis/redis.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "redis_server.h"
#include "run.h"
#include "run_until.h"

#include <string.h>

#define OPS 64

struct op {
	struct rt_redis_op op;
	int calls, status, type;
	long long integer;
	char text[256];
	int place; /* in the order of ends, from 1 */
};
static struct fixture {
	struct rt_loop *loop;
	struct rt_redis *redis;
	struct op ops[OPS];
	int ends, ups, downs;
} f;

static struct redis_server shared;

static void on_state(struct rt_redis *redis, bool up, void *user)
{
	(void)user;
	CU_ASSERT_EQUAL(rt_redis_up(redis), up);
	*(up ? &f.ups : &f.downs) += 1;
}

static void op_done(struct rt_redis_op *base, int status, const redisReply *reply)
{
	struct op *op = RT_CONTAINER_OF(base, struct op, op);

	op->calls++;
	op->status = status;
	op->type = reply != NULL ? reply->type : 0;
	op->integer = reply != NULL ? reply->integer : 0;
	snprintf(op->text, sizeof(op->text), "%s",
		 reply != NULL && reply->str != NULL ? reply->str : "");
	op->place = ++f.ends;
}

static void run_until_ends(int ends)
{
	run_until_count(f.loop, &f.ends, ends);
}

static void run_until_up(int ups)
{
	run_until_count(f.loop, &f.ups, ups);
}

/* A connection that need not come up. */
static void begin(struct rt_redis_options options)
{
	f = (struct fixture){ .ends = 0 };
	options.on_state = on_state;
	CU_ASSERT_FATAL(rt_loop_new(&f.loop) == RT_OK);
	CU_ASSERT_FATAL(rt_redis_new(f.loop, &options, &f.redis) == RT_OK);
}

static void end(void)
{
	rt_redis_free(RT_TAKE(f.redis));
	rt_loop_free(RT_TAKE(f.loop));
}

/* Replaces the connection. */
static void use(struct rt_redis_options options)
{
	end();
	begin(options);
}

static void use_up(struct rt_redis_options options)
{
	use(options);
	run_until_up(1);
}

/* Each test begins with a server without keys, and a connection that is up. */
static void setup(void)
{
	redis_server_do(&shared, "FLUSHALL");
	begin((struct rt_redis_options){ .unix_path = shared.socket, .name = "test" });
	run_until_up(1);
}

/* Sends words separated by blanks. */
static void send_timed(int i, const char *words, int64_t timeout_ms)
{
	struct rt_args args = { .count = 0 };

	while (*words != '\0') {
		size_t length = strcspn(words, " ");

		rt_args_add(&args, words, length);
		words += length + strspn(words + length, " ");
	}
	rt_redis_send(f.redis, &f.ops[i].op, &args, timeout_ms, op_done);
	rt_args_done(&args);
}

static void send(int i, const char *words)
{
	send_timed(i, words, 0);
}

/* Sends the next one and waits for its end. */
static const struct op *ask(const char *words)
{
	int i = f.ends;

	send(i, words);
	run_until_ends(i + 1);
	return &f.ops[i];
}

static void pipelining(void)
{
	CU_ASSERT_STRING_EQUAL(rt_redis_error(f.redis), "");
	for (int i = 0; i < 50; i++)
		send(i, "INCR n");
	CU_ASSERT_EQUAL(f.ends, 0); /* never before the submit has returned */
	CU_ASSERT_EQUAL(rt_redis_pending(f.redis), 50);
	run_until_ends(50);
	for (int i = 0; i < 50; i++) {
		CU_ASSERT_EQUAL(f.ops[i].calls, 1);
		CU_ASSERT_EQUAL(f.ops[i].status, RT_OK);
		CU_ASSERT_EQUAL(f.ops[i].integer, i + 1);
		CU_ASSERT_EQUAL(f.ops[i].place, i + 1);
	}
	CU_ASSERT_EQUAL(rt_redis_pending(f.redis), 0);
}

/* The server counts the reads it needed: fifty commands of a turn arrive in one. */
static long long server_reads(void)
{
	redisReply *reply = redis_server_command(&shared, "INFO stats");
	const char *line = strstr(reply->str, "total_reads_processed:");
	long long reads =
		line != NULL ? strtoll(line + strlen("total_reads_processed:"), NULL, 10) : -1;

	freeReplyObject(reply);
	return reads;
}

static void one_write(void)
{
	long long before = server_reads();

	for (int i = 0; i < 50; i++)
		send(i, "PING");
	run_until_ends(50);
	CU_ASSERT_EQUAL(server_reads() - before, 2); /* ours and that of this INFO */
}

static void send_args(int i, struct rt_args *args)
{
	rt_redis_send(f.redis, &f.ops[i].op, args, 0, op_done);
	rt_args_clear(args);
}

static void large_values(void)
{
	enum { LENGTH = 4 << 20 };
	char *large = rt_alloc(LENGTH);
	struct rt_args args = { .count = 0 };

	memset(large, 'x', LENGTH);
	large[1] = '\0';
	rt_args_str(&args, "SET");
	rt_args_copy(&args, "large", 5);
	rt_args_add(&args, large, LENGTH);
	send_args(0, &args);
	rt_args_str(&args, "SETRANGE");
	rt_args_str(&args, "large");
	rt_args_int(&args, LENGTH - 3);
	rt_args_copy(&args, "a\0z", 3);
	send_args(1, &args);
	rt_args_str(&args, "SET");
	rt_args_str(&args, "empty");
	rt_args_copy(&args, "", 0);
	send_args(2, &args);
	rt_args_done(&args);
	run_until_ends(3);
	CU_ASSERT_EQUAL(f.ops[1].integer, LENGTH);
	CU_ASSERT_EQUAL(ask("GET large")->status, RT_OK);
	CU_ASSERT_EQUAL(f.ops[3].type, REDIS_REPLY_STRING);
	CU_ASSERT_STRING_EQUAL(f.ops[3].text, "x"); /* this test cuts it at the NUL */
	CU_ASSERT_EQUAL(ask("STRLEN empty")->status, RT_OK);
	CU_ASSERT_EQUAL(ask("GET none")->status, RT_OK);
	CU_ASSERT_EQUAL(f.ops[5].type, REDIS_REPLY_NIL);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "STRLEN large"), LENGTH);
	CU_ASSERT_EQUAL(redis_server_int(&shared, "STRLEN empty"), 0);
	redis_server_do(&shared, "DEL large");
	free(large);
}

static void error_answers(void)
{
	static const struct {
		const char *command, *begins;
		int status;
	} rows[] = {
		{ "NOSUCHCOMMAND", "ERR", RT_REMOTE },
		{ "LPUSH s 1", "WRONGTYPE", RT_REMOTE },
		{ "XREADGROUP GROUP g c COUNT 1 STREAMS none >", "NOGROUP", RT_NOGROUP },
		{ "XGROUP CREATE xs g 0", "BUSYGROUP", RT_REMOTE },
		{ "FCALL nosuch_version 0", "ERR Function not found", RT_UNREADY },
		{ "EVALSHA 0000000000000000000000000000000000000000 0", "NOSCRIPT", RT_UNREADY },
		{ "AUTH nobody wrong", "WRONGPASS", RT_DENIED },
		{ "FCALL t_inner 1 xs", "ERR", RT_REMOTE },
		{ "PING", "PONG", RT_OK },
	};

	redis_server_do(&shared, "SET s 1");
	redis_server_do(&shared, "XGROUP CREATE xs g 0 MKSTREAM");
	redis_server_do(&shared, "FUNCTION LOAD REPLACE %s",
			"#!lua name=t\nredis.register_function('t_inner', function(keys) return "
			"redis.call('NOSUCH', keys[1]) end)\n");
	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		send((int)i, rows[i].command);
	run_until_ends((int)RT_LENGTH(rows));
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		TEST_ROW(f.ops[i].status == rows[i].status, rows[i].command);
		TEST_ROW(strncmp(f.ops[i].text, rows[i].begins, strlen(rows[i].begins)) == 0,
			 rows[i].command);
	}
	CU_ASSERT_EQUAL(f.downs, 0);
}

static void denied(void)
{
	redis_server_do(&shared, "ACL SETUSER narrow reset on >secret ~own:* +get +set +fcall");
	redis_server_do(&shared, "FUNCTION LOAD REPLACE %s",
			"#!lua name=t\nredis.register_function('t_get', function(keys) return "
			"redis.call('GET', 'foreign') end)\n"
			"redis.register_function('t_ping', function() return redis.call('PING') "
			"end)\n");
	use_up((struct rt_redis_options){ .unix_path = shared.socket,
					  .user = "narrow",
					  .password = "secret",
					  .name = "not-allowed" });
	CU_ASSERT_EQUAL(ask("SET own:a 1")->status, RT_OK);
	CU_ASSERT_EQUAL(ask("SET foreign:a 1")->status, RT_DENIED);
	CU_ASSERT_EQUAL(ask("PING")->status, RT_DENIED);
	CU_ASSERT_EQUAL(ask("FCALL t_get 1 own:a")->status, RT_DENIED);
	CU_ASSERT_EQUAL(ask("FCALL t_ping 1 own:a")->status, RT_DENIED);
}

static void wrong_password(void)
{
	redis_server_do(&shared, "ACL SETUSER narrow reset on >secret ~own:* +get");
	use((struct rt_redis_options){
		.unix_path = shared.socket, .user = "narrow", .password = "guess" });
	run_for(f.loop, 300);
	CU_ASSERT_EQUAL(f.ups, 0);
	CU_ASSERT_FALSE(rt_redis_up(f.redis));
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.redis), "WRONGPASS"));
	/* The password is put right: the connection comes without a restart. */
	redis_server_do(&shared, "ACL SETUSER narrow >guess");
	run_until_up(1);
}

/* ---- the log ---- */

static char lines[8192];

static void keep_line(const char *line, void *user)
{
	size_t length = strlen(lines);

	(void)user;
	snprintf(lines + length, sizeof(lines) - length, "%s\n", line);
}

static int logged(const char *what)
{
	int count = 0;

	for (const char *p = lines; (p = strstr(p, what)) != NULL; p++)
		count++;
	return count;
}

/* The password file of the user narrow, made anew. */
static const char *password_file(const char *password, mode_t mode)
{
	static char path[96];
	FILE *file;

	snprintf(path, sizeof(path), "%s/password", shared.folder);
	(void)unlink(path);
	file = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fprintf(file, "%s\n", password);
	fclose(file);
	CU_ASSERT_EQUAL(chmod(path, mode), 0);
	return path;
}

static bool is_logged_in_vain(void)
{
	return strstr(rt_redis_error(f.redis), "WRONGPASS") != NULL;
}

static bool is_unreadable(void)
{
	return strstr(rt_redis_error(f.redis), "password file: ") != NULL;
}

/* The file is read whenever the connection begins: the user gets a new password beside the old one, the file is
 * replaced, the old one goes. */
static void password_is_replaced(void)
{
	const char *path = password_file("old", 0600);

	redis_server_do(&shared, "ACL SETUSER narrow reset on >old ~own:* +get +set");
	use_up((struct rt_redis_options){
		.unix_path = shared.socket, .user = "narrow", .password_file = path });
	redis_server_do(&shared, "ACL SETUSER narrow >new");
	password_file("new", 0600);
	redis_server_do(&shared, "ACL SETUSER narrow <old");
	CU_ASSERT_EQUAL(ask("SET own:a 1")->status, RT_OK); /* who has logged in stays */
	CU_ASSERT_EQUAL(f.downs, 0);
	rt_redis_reset(f.redis);
	run_until_up(2);

	/* The other way round it comes back when the password is there. */
	password_file("newest", 0600);
	rt_redis_reset(f.redis);
	run_until_so(f.loop, is_logged_in_vain);
	redis_server_do(&shared, "ACL SETUSER narrow >newest");
	run_until_up(3);

	/* A file that others may read is not used. */
	password_file("newest", 0640);
	rt_redis_reset(f.redis);
	run_until_so(f.loop, is_unreadable);
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.redis), path));
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.redis), "has mode 0640"));
	CU_ASSERT_EQUAL(f.ups, 3);
	CU_ASSERT_EQUAL(chmod(path, 0600), 0);
	run_until_up(4);
}

/* Each attempt fails the same way: that is logged once, with what to do about it. */
static void trouble_is_logged(void)
{
	const char *path = password_file("guess", 0600);
	char fix[200];
	struct rt_redis_options options = { .unix_path = shared.socket,
					    .user = "narrow",
					    .password_file = path,
					    .log_trouble = true };

	redis_server_do(&shared, "ACL SETUSER narrow reset on >secret ~own:* +get");
	lines[0] = '\0';
	rt_log_sink(keep_line, NULL);
	use(options);
	run_for(f.loop, 700);
	CU_ASSERT_EQUAL(logged("error Redis cannot be used"), 1);
	CU_ASSERT_EQUAL(logged("WRONGPASS"), 1);
	snprintf(fix, sizeof(fix),
		 "the user narrow, enabled, with the password in the first line of %s", path);
	CU_ASSERT_EQUAL(logged(fix), 1);
	redis_server_do(&shared, "ACL SETUSER narrow >guess");
	run_until_up(1);
	CU_ASSERT_EQUAL(logged("info Redis is back"), 1);

	/* A denied command is logged once. */
	for (int i = 0; i < 3; i++)
		send(i, "SET own:a 1");
	run_until_ends(3);
	CU_ASSERT_EQUAL(logged("error Redis denies the user a command user=narrow"), 1);
	CU_ASSERT_EQUAL(logged("NOPERM"), 1);

	/* The user is deleted: Redis closes the connection, and then does not let it in. */
	redis_server_do(&shared, "ACL DELUSER narrow");
	run_for(f.loop, 700);
	CU_ASSERT_EQUAL(logged("error Redis cannot be used"), 2);
	CU_ASSERT_EQUAL(logged("WRONGPASS"), 2);
	rt_log_sink(NULL, NULL);
}

/* Another program than Redis at its port. */
static void answer_http(int peer)
{
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	char request[256];

	/* Read first: unread bytes would reset the connection. */
	if (read(peer, request, sizeof(request)) < 0 || write(peer, answer, sizeof(answer) - 1) < 0)
		_exit(1);
}

static void no_redis(void)
{
	struct rt_redis_options options = { .host = "127.0.0.1", .log_trouble = true };
	pid_t pid = redis_server_fake(&options.port, answer_http);

	lines[0] = '\0';
	rt_log_sink(keep_line, NULL);
	use(options);
	run_for(f.loop, 700);
	CU_ASSERT_EQUAL(logged("what answers there is not Redis"), 1);
	rt_log_sink(NULL, NULL);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Answers TIME and PING; the first answer is delayed. */
static void answer_slowly(int peer)
{
	bool first = true;
	char request[256];
	ssize_t length;

	while ((length = read(peer, request, sizeof(request) - 1)) > 0) {
		int64_t now_us = rt_wall_us();

		request[length] = '\0';
		if (first)
			usleep(400000);
		first = false;
		if (strstr(request, "TIME") != NULL)
			dprintf(peer, "*2\r\n$10\r\n%010lld\r\n$6\r\n%06lld\r\n",
				(long long)(now_us / 1000000), (long long)(now_us % 1000000));
		if (strstr(request, "PING") != NULL)
			dprintf(peer, "+PONG\r\n");
	}
}

/* The clock is right when the connection comes up, although one answer was slow. */
static void clock_after_slow_answer(void)
{
	struct rt_redis_options options = { .host = "127.0.0.1", .follow_clock = true };
	pid_t pid = redis_server_fake(&options.port, answer_slowly);
	int64_t ahead_ms;

	use_up(options);
	ahead_ms = rt_loop_unix_ms(f.loop) - rt_wall_us() / 1000;
	CU_ASSERT(ahead_ms > -100 && ahead_ms < 100);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void full(void)
{
	redis_server_do(&shared, "CONFIG SET maxmemory 1");
	send(0, "SET own:a 1");
	send(1, "GET own:a");
	run_until_ends(2);
	redis_server_do(&shared, "CONFIG SET maxmemory 0");
	CU_ASSERT_EQUAL(f.ops[0].status, RT_FULL);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_OK);
}

static void bounded(void)
{
	use_up((struct rt_redis_options){ .unix_path = shared.socket, .pending_max = 3 });
	for (int i = 0; i < 5; i++)
		send(i, "PING");
	CU_ASSERT_EQUAL(rt_redis_pending(f.redis), 3);
	CU_ASSERT_EQUAL(f.ends, 0);
	run_until_ends(5);
	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(f.ops[i].calls, 1);
		CU_ASSERT_EQUAL(f.ops[i].status, i < 3 ? RT_OK : RT_BUSY);
	}
	CU_ASSERT_EQUAL(ask("PING")->status, RT_OK);
}

/* A command without an answer takes the connection down: it gets RT_TIMEOUT, those behind it
 * RT_LOST, and the connection comes back. */
static void timeouts(void)
{
	int64_t begun = rt_loop_now(f.loop);

	send_timed(0, "BLPOP nothing 0", 200);
	send_timed(1, "PING", 10000);
	run_until_ends(2);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_TIMEOUT);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_LOST);
	CU_ASSERT_TRUE(rt_loop_now(f.loop) - begun >= 200);
	CU_ASSERT_TRUE(rt_loop_now(f.loop) - begun < 5000);
	CU_ASSERT_EQUAL(f.downs, 1);
	run_until_up(2);
	CU_ASSERT_EQUAL(ask("PING")->status, RT_OK);
}

static void late_command_first(void)
{
	/* The later command has the earlier deadline. */
	send_timed(0, "BLPOP nothing 0", 10000);
	send_timed(1, "PING", 100);
	run_until_ends(2);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_LOST);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_TIMEOUT);
}

static void killed_and_restarted(void)
{
	struct redis_server server;

	redis_server_start(&server, NULL);
	use_up((struct rt_redis_options){ .host = "127.0.0.1", .port = server.port });
	send(0, "BLPOP nothing 0");
	run_for(f.loop, 50);
	redis_server_kill(&server);
	run_until_ends(1);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_LOST);
	CU_ASSERT_EQUAL(f.downs, 1);
	send(1, "PING");
	CU_ASSERT_EQUAL(f.ends, 1);
	run_until_ends(2);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_LOST);
	run_for(f.loop, 300); /* some attempts fail */
	CU_ASSERT_EQUAL(f.ups, 1);
	CU_ASSERT_STRING_NOT_EQUAL(rt_redis_error(f.redis), "");
	redis_server_restart(&server);
	run_until_up(2);
	CU_ASSERT_EQUAL(ask("PING")->status, RT_OK);
	redis_server_done(&server);
}

static void frozen(void)
{
	struct redis_server server;

	redis_server_start(&server, NULL);
	use_up((struct rt_redis_options){
		.host = "127.0.0.1", .port = server.port, .timeout_ms = 150 });
	redis_server_freeze(&server);
	CU_ASSERT_EQUAL(ask("PING")->status, RT_TIMEOUT);
	/* The kernel still accepts; the first command has no answer. */
	run_for(f.loop, 500);
	CU_ASSERT_EQUAL(f.ups, 1);
	redis_server_thaw(&server);
	run_until_up(2);
	redis_server_done(&server);
}

static void loading(void)
{
	struct redis_server server;
	int written = 0;

	redis_server_start(&server, (const char *[]){ "--loading-process-events-interval-bytes",
						      "1024", "--rdbcompression", "no", NULL });
	redis_server_do(&server, "DEBUG POPULATE 1000 key 100");
	redis_server_do(&server, "CONFIG SET key-load-delay 1000");
	/* Saves and loads again, a thousand keys of a millisecond; the test does not wait for the answer. */
	redisAppendCommand(server.control, "DEBUG RELOAD");
	while (!written)
		CU_ASSERT_FATAL(redisBufferWrite(server.control, &written) == REDIS_OK);
	use((struct rt_redis_options){ .unix_path = server.socket });
	run_for(f.loop, 300);
	CU_ASSERT_EQUAL(f.ups, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.redis), "LOADING"));
	run_until_up(1);
	CU_ASSERT_EQUAL(ask("DBSIZE")->integer, 1000);
	redis_server_done(&server);
}

static void freed_while_under_way(void)
{
	send(0, "BLPOP nothing 0");
	run_for(f.loop, 20);
	send(1, "PING");
	rt_redis_free(RT_TAKE(f.redis));
	CU_ASSERT_EQUAL(f.ends, 2);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_CANCELED);
	CU_ASSERT_EQUAL(f.ops[1].status, RT_CANCELED);
	CU_ASSERT_EQUAL(f.downs, 0);

	/* Before the first turn, and while no server listens. */
	use((struct rt_redis_options){ .unix_path = "/nonexistent/socket" });
	send(0, "PING");
	rt_redis_free(RT_TAKE(f.redis));
	CU_ASSERT_EQUAL(f.ops[0].status, RT_CANCELED);
	use((struct rt_redis_options){ .unix_path = "/nonexistent/socket" });
	run_for(f.loop, 100);
	CU_ASSERT_PTR_NOT_NULL(strstr(rt_redis_error(f.redis), "cannot connect"));
}

static void bad_options(void)
{
	struct rt_redis *redis = NULL;

	CU_ASSERT_EQUAL(rt_redis_new(f.loop, &(struct rt_redis_options){ .unix_path = "" }, &redis),
			RT_INVALID);
	CU_ASSERT_PTR_NULL(redis);
	rt_redis_free(NULL);
}

static struct rt_functions_watch watch;

#define LIBRARY(version)                                                                           \
	"#!lua name=lib_" version "\nredis.register_function{function_name='lib_version_" version  \
	"', callback=function() return '" version "' end, flags={'no-writes','allow-oom'}}\n"

static bool watch_answered(void)
{
	return !watch.asking;
}

/* The problem that a watch of this version reports once it has asked; "": the functions can be called. */
static const char *problem_of(const char *version, const char *code)
{
	static char problem[sizeof(watch.problem)];
	const struct rt_functions functions = { "lib", version, code, strlen(code) };

	watch = (struct rt_functions_watch){ .deploy = watch.deploy };
	rt_functions_watch_start(&watch, f.loop, f.redis, &functions, "lib:{0}:events", 1);
	rt_functions_watch_state(&watch, true);
	CU_ASSERT_TRUE(watch.asking);
	run_until_so(f.loop, watch_answered);
	CU_ASSERT_EQUAL(watch.loaded, rt_functions_watch_problem(&watch) == NULL);
	snprintf(problem, sizeof(problem), "%s", watch.problem);
	rt_functions_watch_stop(&watch);
	watch.deploy = NULL;
	return problem;
}

#define LACKS_3                                                                                    \
	"Redis lacks the functions lib_3: load them (tandemctl functions load), or set "           \
	"--redis-deploy-user"

static void functions(void)
{
	redis_server_do(&shared, "FUNCTION FLUSH");
	CU_ASSERT_STRING_EQUAL(problem_of("1", LIBRARY("1")), ""); /* not there: loaded */
	CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "FCALL lib_version_1 0"), "1");
	CU_ASSERT_STRING_EQUAL(problem_of("1", "not even Lua"), ""); /* there: not replaced */
	CU_ASSERT_STRING_EQUAL(problem_of("2", LIBRARY("2")), "");   /* another: beside it */
	CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "FCALL lib_version_2 0"), "2");
	CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "FCALL lib_version_1 0"), "1");
	CU_ASSERT_STRING_EQUAL(problem_of("3", "not even Lua"), LACKS_3);

	redis_server_do(&shared, "ACL SETUSER caller reset on nopass ~* +fcall");
	use_up((struct rt_redis_options){ .unix_path = shared.socket, .user = "caller" });
	CU_ASSERT_STRING_EQUAL(problem_of("2", LIBRARY("2")), "");
	CU_ASSERT_STRING_EQUAL(problem_of("3", LIBRARY("3")), LACKS_3);
}

/* As Redis 6 does. */
static void answer_without_functions(int peer)
{
	char request[512];
	ssize_t length;

	while ((length = read(peer, request, sizeof(request) - 1)) > 0) {
		request[length] = '\0';
		if (strstr(request, "PING") != NULL)
			dprintf(peer, "+PONG\r\n");
		if (strstr(request, "FCALL") != NULL)
			dprintf(peer,
				"-ERR unknown command `FCALL`, with args beginning with: \r\n");
	}
}

static void too_old(void)
{
	struct rt_redis_options options = { .host = "127.0.0.1" };
	pid_t pid = redis_server_fake(&options.port, answer_without_functions);

	use_up(options);
	CU_ASSERT_STRING_EQUAL(problem_of("1", LIBRARY("1")),
			       "Redis has no functions: version 7.0 or later is needed");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* How a store's watch connects as the deploy user. */
static const char *problem_as(const char *deploy_user, const char *password, const char *version,
			      const char *code)
{
	const struct rt_redis_options deploy = { .unix_path = shared.socket,
						 .user = deploy_user,
						 .password = password,
						 .timeout_ms = 200 };

	watch.deploy = &deploy;
	return problem_of(version, code);
}

static long long connections_made(void)
{
	const char *text =
		strstr(redis_server_text(&shared, "INFO stats"), "total_connections_received:");

	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	return strtoll(text + strlen("total_connections_received:"), NULL, 10);
}

/* The user of the connection may not load functions, another one may: it does, and replaces nothing. */
static void deploy_user(void)
{
	static const char lacks[] =
		"Redis lacks the functions lib_5, and the user %s does not load "
		"them: %s";
	static const struct {
		const char *user, *password, *code, *why;
	} rows[] = {
		{ "deploy", "wrong", LIBRARY("5"),
		  "AUTH: WRONGPASS invalid username-password pair" },
		{ "idle", "secret", LIBRARY("5"), "NOPERM " },
		{ "deploy", "secret", "not even Lua", "ERR Missing library metadata" },
	};
	char text[200];
	long long before;

	redis_server_do(&shared, "FUNCTION FLUSH");
	redis_server_do(&shared, "ACL SETUSER caller reset on nopass ~* +fcall");
	redis_server_do(&shared, "ACL SETUSER idle reset on >secret +ping");
	redis_server_do(&shared, "ACL SETUSER deploy reset on >secret +ping +function|load");
	use_up((struct rt_redis_options){ .unix_path = shared.socket, .user = "caller" });
	CU_ASSERT_STRING_EQUAL(problem_as("deploy", "secret", "4", LIBRARY("4")), "");
	CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "FCALL lib_version_4 0"), "4");
	CU_ASSERT_STRING_EQUAL(problem_as("deploy", "secret", "4", "not even Lua"), "");
	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *problem = problem_as(rows[i].user, rows[i].password, "5", rows[i].code);

		snprintf(text, sizeof(text), lacks, rows[i].user, rows[i].why);
		TEST_ROW(strncmp(problem, text, strlen(text)) == 0, problem);
		TEST_ROW(watch.deployer == NULL, rows[i].why);
	}
	before = connections_made();
	CU_ASSERT_STRING_EQUAL(problem_as("deploy", "secret", "5", LIBRARY("4")),
			       "Redis lacks the functions lib_5, and the user deploy does not load "
			       "them: they are loaded, and not found");
	CU_ASSERT_EQUAL(connections_made() - before, 1); /* it is tried again a second later */
	CU_ASSERT_STRING_EQUAL(problem_as("deploy", "secret", "5", LIBRARY("5")), "");
	CU_ASSERT_STRING_EQUAL(redis_server_text(&shared, "FCALL lib_version_4 0"), "4");
	CU_ASSERT_EQUAL(redis_server_int(&shared, "ACL DELUSER deploy idle caller"), 3);
}

static bool deploys(void)
{
	return watch.deployer != NULL;
}

/* It is stopped while the deploy user's connection is being made. */
static void deploy_stopped(void)
{
	const struct rt_redis_options deploy = { .unix_path = shared.socket,
						 .user = "nobody",
						 .timeout_ms = 5000 };
	const struct rt_functions functions = { "lib", "6", LIBRARY("6"), strlen(LIBRARY("6")) };
	redisReply *reply;

	use_up((struct rt_redis_options){ .unix_path = shared.socket });
	watch = (struct rt_functions_watch){ .deploy = &deploy };
	rt_functions_watch_start(&watch, f.loop, f.redis, &functions, "lib:{0}:events", 1);
	rt_functions_watch_state(&watch, true);
	run_until_so(f.loop, deploys);
	rt_functions_watch_stop(&watch);
	CU_ASSERT_PTR_NULL(watch.deployer);
	reply = redis_server_command(&shared, "FCALL lib_version_6 0");
	CU_ASSERT_EQUAL(reply->type, REDIS_REPLY_ERROR);
	freeReplyObject(reply);
	watch.deploy = NULL;
}

/* ---- another kind of connection ---- */

struct echo {
	struct rt_redis redis;
	const char *name; /* of the options */
	char said[256];   /* the command under way */
	struct rt_redis_op *op;
	int64_t timeout_ms;
	int resets, frees;
};

static void echo_command(struct rt_redis *redis, struct rt_redis_op *op, int argc,
			 const char *const *argv, const size_t *lengths, int64_t timeout_ms)
{
	struct echo *echo = RT_CONTAINER_OF(redis, struct echo, redis);
	size_t length = 0;

	for (int i = 0; i < argc; i++)
		length += (size_t)snprintf(
			echo->said + length, sizeof(echo->said) - length, "%.*s|",
			(int)(lengths != NULL ? lengths[i] : strlen(argv[i])), argv[i]);
	echo->op = op;
	echo->timeout_ms = timeout_ms;
}

static void echo_reset(struct rt_redis *redis)
{
	RT_CONTAINER_OF(redis, struct echo, redis)->resets++;
}

static bool echo_up(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, struct echo, redis)->frees == 0;
}

static const char *echo_error(const struct rt_redis *redis)
{
	return echo_up(redis) ? "" : "freed";
}

static size_t echo_pending(const struct rt_redis *redis)
{
	return RT_CONTAINER_OF(redis, struct echo, redis)->op != NULL;
}

static void echo_free(struct rt_redis *redis)
{
	RT_CONTAINER_OF(redis, struct echo, redis)->frees++;
}

static int echo_connect(void *connector, struct rt_loop *loop,
			const struct rt_redis_options *options, struct rt_redis **ret)
{
	static const struct rt_redis_ops ops = { .command = echo_command,
						 .reset = echo_reset,
						 .up = echo_up,
						 .error = echo_error,
						 .pending = echo_pending,
						 .free = echo_free };
	struct echo *echo = connector;

	CU_ASSERT_PTR_NOT_NULL(loop);
	echo->redis.ops = &ops;
	echo->name = options->name;
	*ret = &echo->redis;
	return RT_OK;
}

static void echo_answer(struct echo *echo, int type)
{
	redisReply reply = { .type = type, .str = echo->said, .len = strlen(echo->said) };
	struct rt_redis_op *op = RT_TAKE(echo->op);

	op->done(op, rt_redis_reply_status(&reply), &reply);
}

/* A connector given in the options makes the connection; arguments and functions work as on any other. */
static void another_kind(void)
{
	struct echo echo = { .name = NULL };
	const struct rt_functions functions = { "lib", "3", "code", 4 };

	use((struct rt_redis_options){
		.name = "echoed", .connect = echo_connect, .connector = &echo });
	CU_ASSERT_PTR_EQUAL_FATAL(f.redis, &echo.redis);
	CU_ASSERT_STRING_EQUAL(echo.name, "echoed");
	CU_ASSERT_TRUE(rt_redis_up(f.redis));
	send_timed(0, "SET a 1", 70);
	CU_ASSERT_STRING_EQUAL(echo.said, "SET|a|1|");
	CU_ASSERT_EQUAL(echo.timeout_ms, 70);
	CU_ASSERT_EQUAL(rt_redis_pending(f.redis), 1);
	CU_ASSERT_EQUAL(f.ends, 0);
	echo_answer(&echo, REDIS_REPLY_STATUS);
	CU_ASSERT_EQUAL(f.ops[0].status, RT_OK);
	CU_ASSERT_STRING_EQUAL(f.ops[0].text, "SET|a|1|");
	CU_ASSERT_EQUAL(rt_redis_pending(f.redis), 0);

	watch = (struct rt_functions_watch){ .loop = NULL };
	rt_functions_watch_start(&watch, f.loop, f.redis, &functions, "lib:{0}:events", 1);
	rt_functions_watch_state(&watch, true);
	CU_ASSERT_STRING_EQUAL(echo.said, "FCALL|lib_version_3|1|lib:{0}:events|1|");
	snprintf(echo.said, sizeof(echo.said), "ERR Function not found");
	echo_answer(&echo, REDIS_REPLY_ERROR);
	CU_ASSERT_STRING_EQUAL(echo.said, "FUNCTION|LOAD|REPLACE|code|");
	snprintf(echo.said, sizeof(echo.said), "NOPERM no");
	echo_answer(&echo, REDIS_REPLY_ERROR);
	CU_ASSERT_FALSE(watch.asking);
	CU_ASSERT_STRING_EQUAL(rt_functions_watch_problem(&watch), LACKS_3);
	rt_functions_watch_stop(&watch);

	rt_redis_reset(f.redis);
	CU_ASSERT_EQUAL(echo.resets, 1);
	end();
	CU_ASSERT_EQUAL(echo.frees, 1);
	CU_ASSERT_STRING_EQUAL(rt_redis_error(&echo.redis), "freed");
}

static void advance_to_timer(void)
{
	rt_loop_advance(f.loop, rt_loop_next_due(f.loop) - rt_loop_now(f.loop));
}

/* This process stood still: what has arrived meanwhile is read only after the timers that are due. That is not Redis's
 * silence, which is noticed a moment later. */
static void own_pause(void)
{
	struct echo echo = { .name = NULL };
	const struct rt_functions functions = { "lib", "3", "code", 4 };

	end();
	f = (struct fixture){ .ends = 0 };
	CU_ASSERT_FATAL(rt_loop_new_manual(0, 1, &f.loop) == RT_OK);
	CU_ASSERT_FATAL(rt_redis_new(f.loop,
				     &(struct rt_redis_options){ .connect = echo_connect,
								 .connector = &echo },
				     &f.redis) == RT_OK);
	watch = (struct rt_functions_watch){ .loop = NULL };
	rt_functions_watch_start(&watch, f.loop, f.redis, &functions, "lib:{0}:events", 1);
	rt_functions_watch_state(&watch, true);
	for (int i = 0; i < 3; i++) {
		snprintf(echo.said, sizeof(echo.said), "3");
		echo_answer(&echo, REDIS_REPLY_STRING);
		CU_ASSERT_PTR_NULL(rt_functions_watch_problem(&watch));
		advance_to_timer();
		CU_ASSERT_TRUE_FATAL(watch.asking);
		for (int late = 0; late <= i; late++) {
			advance_to_timer(); /* a second later, and some more */
			CU_ASSERT_PTR_NULL(rt_functions_watch_problem(&watch));
		}
	}
	advance_to_timer();
	CU_ASSERT_PTR_NOT_NULL_FATAL(rt_functions_watch_problem(&watch));
	CU_ASSERT_STRING_EQUAL(rt_functions_watch_problem(&watch), "Redis does not answer");
	snprintf(echo.said, sizeof(echo.said), "3");
	echo_answer(&echo, REDIS_REPLY_STRING);
	CU_ASSERT_PTR_NULL(rt_functions_watch_problem(&watch));
	rt_functions_watch_stop(&watch);
	end();
}

int main(void)
{
	static const struct test tests[] = {
		{ "answers come in order", pipelining },
		{ "a turn's commands go out in one write", one_write },
		{ "large, empty and absent values", large_values },
		{ "error answers have their status", error_answers },
		{ "what the user may not do is denied", denied },
		{ "a wrong password is reported, and tried again", wrong_password },
		{ "trouble is logged once, with what to do", trouble_is_logged },
		{ "a password that is replaced", password_is_replaced },
		{ "a server that is not Redis", no_redis },
		{ "the clock is right after a slow answer", clock_after_slow_answer },
		{ "a Redis without functions", too_old },
		{ "a full server", full },
		{ "commands under way have a bound", bounded },
		{ "a command without an answer", timeouts },
		{ "the later command has the earlier deadline", late_command_first },
		{ "killed and restarted", killed_and_restarted },
		{ "frozen and thawed", frozen },
		{ "a server that loads its data is not up", loading },
		{ "freed while commands are under way", freed_while_under_way },
		{ "bad options are refused", bad_options },
		{ "function libraries", functions },
		{ "the deploy user loads what is missing", deploy_user },
		{ "stopped while the deploy user connects", deploy_stopped },
		{ "another kind of connection", another_kind },
		{ "the process's own pause is not Redis's", own_pause },
	};
	int rc;

	rt_file_allow_dumps();
	redis_server_start(&shared, NULL);
	rc = tests_run_each("redis", setup, end, tests, RT_LENGTH(tests));
	redis_server_done(&shared);
	return rc;
}
