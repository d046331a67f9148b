/* redis_server.c - starts and stops a redis-server for a test. */
#include "redis_server.h"

#include "loopback.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TRIES    2000
#define START_PAUSE_US 5000
#define ARGS_MAX       64

static _Noreturn void die(const char *what, const char *detail)
{
	fprintf(stderr, "redis_server: %s: %s\n", what, detail);
	abort();
}

static _Noreturn void run_server(const struct redis_server *server)
{
	char port[16], log[128];
	const char *argv[ARGS_MAX] = { "redis-server",
				       "--port",
				       port,
				       "--bind",
				       "127.0.0.1",
				       "--unixsocket",
				       server->socket,
				       "--dir",
				       server->folder,
				       "--save",
				       "",
				       "--daemonize",
				       "no",
				       "--logfile",
				       log,
				       "--enable-debug-command",
				       "local" };
	int count = 17;

	if (server->sentinel) {
		snprintf(log, sizeof(log), "%s/sentinel.conf", server->folder);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("redis-server", "redis-server", log, "--sentinel", (char *)NULL);
		_exit(127);
	}
	snprintf(port, sizeof(port), "%d", server->port);
	snprintf(log, sizeof(log), "%s/log", server->folder);
	for (int i = 0; server->settings != NULL && server->settings[i] != NULL; i++) {
		if (count == ARGS_MAX - 1)
			_exit(126);
		argv[count++] = server->settings[i];
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execvp("redis-server", (char *const *)(uintptr_t)argv);
	_exit(127);
}

static bool answers(struct redis_server *server)
{
	redisReply *reply;
	bool good;

	server->control = redisConnectUnix(server->socket);
	if (server->control == NULL)
		return false;
	reply = server->control->err == 0 ? redisCommand(server->control, "PING") : NULL;
	good = reply != NULL && reply->type == REDIS_REPLY_STATUS;
	if (reply != NULL)
		freeReplyObject(reply);
	if (!good)
		redisFree(RT_TAKE(server->control));
	return good;
}

/* False: it ended, such as when another process took the port meanwhile. */
static bool launch(struct redis_server *server)
{
	server->pid = fork();
	if (server->pid < 0)
		die("fork", strerror(errno));
	if (server->pid == 0)
		run_server(server);
	for (int i = 0; i < START_TRIES; i++) {
		if (answers(server))
			return true;
		if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
			server->pid = 0;
			return false;
		}
		usleep(START_PAUSE_US); /* between tries to connect: that is the synchronisation */
	}
	die("no answer", server->folder);
}

static void make_folder(struct redis_server *server)
{
	signal(SIGPIPE, SIG_IGN);
	snprintf(server->folder, sizeof(server->folder), "/tmp/tandem-redis-XXXXXX");
	if (mkdtemp(server->folder) == NULL)
		die("mkdtemp", strerror(errno));
	snprintf(server->socket, sizeof(server->socket), "%s/socket", server->folder);
}

void redis_server_start(struct redis_server *server, const char *const *settings)
{
	*server = (struct redis_server){ .settings = settings };
	make_folder(server);
	for (int i = 0; i < 5; i++) {
		close(loopback_listen(0, &server->port)); /* a port that is free */
		if (launch(server))
			return;
	}
	die("does not start", server->folder);
}

void redis_server_start_sentinel(struct redis_server *server, const char *name, int master_port)
{
	char path[96];
	FILE *file;

	*server = (struct redis_server){ .sentinel = true };
	make_folder(server);
	close(loopback_listen(0, &server->port));
	snprintf(path, sizeof(path), "%s/sentinel.conf", server->folder);
	file = fopen(path, "w");
	if (file == NULL)
		die("cannot write", path);
	fprintf(file,
		"port %d\nbind 127.0.0.1\nunixsocket %s\ndir %s\nlogfile %s/log\n"
		"sentinel monitor %s 127.0.0.1 %d 1\n"
		"sentinel down-after-milliseconds %s 500\n"
		"sentinel failover-timeout %s 3000\n",
		server->port, server->socket, server->folder, server->folder, name, master_port,
		name, name);
	fclose(file);
	if (!launch(server))
		die("does not start", server->folder);
}

void redis_server_kill(struct redis_server *server)
{
	if (server->control != NULL)
		redisFree(RT_TAKE(server->control));
	if (server->pid == 0)
		return;
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	server->pid = 0;
}

void redis_server_restart(struct redis_server *server)
{
	redis_server_kill(server);
	if (!launch(server))
		die("does not start again", server->folder);
}

void redis_server_freeze(struct redis_server *server)
{
	kill(server->pid, SIGSTOP);
}

void redis_server_thaw(struct redis_server *server)
{
	kill(server->pid, SIGCONT);
}

void redis_server_done(struct redis_server *server)
{
	pid_t pid;

	redis_server_kill(server);
	if (server->folder[0] == '\0')
		return;
	pid = fork();
	if (pid == 0) {
		execlp("rm", "rm", "-rf", "--", server->folder, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	server->folder[0] = '\0';
}

static redisReply *command(struct redis_server *server, const char *format, va_list args)
{
	redisReply *reply = redisvCommand(server->control, format, args);

	if (reply == NULL)
		die(format, server->control->errstr);
	return reply;
}

redisReply *redis_server_command(struct redis_server *server, const char *format, ...)
{
	redisReply *reply;
	va_list args;

	va_start(args, format);
	reply = command(server, format, args);
	va_end(args);
	return reply;
}

static redisReply *good_command(struct redis_server *server, const char *format, va_list args)
{
	redisReply *reply = command(server, format, args);

	if (reply->type == REDIS_REPLY_ERROR)
		die(format, reply->str);
	return reply;
}

long long redis_server_int(struct redis_server *server, const char *format, ...)
{
	redisReply *reply;
	long long integer;
	va_list args;

	va_start(args, format);
	reply = good_command(server, format, args);
	va_end(args);
	if (reply->type != REDIS_REPLY_INTEGER)
		die(format, "not an integer");
	integer = reply->integer;
	freeReplyObject(reply);
	return integer;
}

const char *redis_server_text(struct redis_server *server, const char *format, ...)
{
	static char text[4096];
	redisReply *reply;
	va_list args;

	va_start(args, format);
	reply = good_command(server, format, args);
	va_end(args);
	snprintf(text, sizeof(text), "%s", reply->str != NULL ? reply->str : "");
	freeReplyObject(reply);
	return text;
}

void redis_server_do(struct redis_server *server, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	freeReplyObject(good_command(server, format, args));
	va_end(args);
}

/* Appends `text` with every `mark` in it replaced. */
static void add_replaced(struct rt_buf *buf, const char *text, const char *mark, const char *by)
{
	const char *at;

	while ((at = strstr(text, mark)) != NULL) {
		rt_buf_add(buf, text, (size_t)(at - text));
		rt_buf_add(buf, by, strlen(by));
		text = at + strlen(mark);
	}
	rt_buf_add(buf, text, strlen(text));
}

void redis_server_load_events(struct redis_server *server, const char *context, const char *version,
			      const char *extra)
{
	char *file = NULL;
	size_t length = 0;
	struct rt_buf half = { .data = NULL }, code = { .data = NULL };
	FILE *stream = fopen(TANDEM_SOURCE "/runtime/events/events.lua", "r");

	if (stream == NULL || getdelim(&file, &length, '\0', stream) < 0)
		die("cannot read", TANDEM_SOURCE "/runtime/events/events.lua");
	fclose(stream);
	rt_buf_printf(&code, "#!lua name=%s_%s\n", context, version);
	add_replaced(&half, file, "@CONTEXT@", context);
	add_replaced(&code, half.data, "@VERSION@", version);
	rt_buf_add(&code, extra, strlen(extra));
	redis_server_do(server, "FUNCTION LOAD REPLACE %b", code.data, code.length);
	rt_buf_done(&half);
	rt_buf_done(&code);
	free(file);
}

pid_t redis_server_fake(int *ret_port, void (*answer)(int peer))
{
	int fd = loopback_listen(0, ret_port);
	pid_t pid = fork();

	while (pid == 0) {
		int peer = accept(fd, NULL, NULL);

		if (peer < 0)
			_exit(1);
		answer(peer);
		close(peer);
	}
	close(fd);
	return pid;
}
