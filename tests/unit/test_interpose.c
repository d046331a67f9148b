/* test_interpose.c - the metrics report which of the tricks of runtime/interpose are in place, in each kind
 * of process. The test runs itself as such a process: `modes` serves, prints its metrics, and ends. */
#include "interpose/interpose.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loopback.h"
#include "rpc/rpc.h"
#include "run.h"

const char *grpc_version_string(void);

/* Overrides libgrpc's: the runtime sees another version. */
const char *grpc_version_string(void)
{
	const char *pretended = getenv("TEST_GRPC_VERSION");
	const char *(*real)(void) = NULL;

	*(void **)&real = dlsym(RTLD_NEXT, "grpc_version_string");
	return pretended != NULL ? pretended : real();
}

/* Replaces abseil's function: records its argument. */
void deadlock_mode(int mode) __asm__(
	"_ZN4absl7debian329SetMutexDeadlockDetectionModeENS0_15OnDeadlockCycleE");
static int told_mode = -1;
void deadlock_mode(int mode)
{
	told_mode = mode;
}

static void stop(void *user)
{
	rt_loop_stop(user);
}

static int print_modes(void)
{
	struct rt_server_options options = { .listen = "127.0.0.1:0" };
	struct rt_metrics *metrics = options.metrics = rt_metrics_new();
	struct rt_server *server;
	struct rt_loop *loop;
	struct rt_buf text = { 0 };

	rt_rpc_init();
	if (rt_loop_new(&loop) != RT_OK || rt_server_new(loop, &options, &server) != RT_OK ||
	    rt_server_start(server) != RT_OK)
		return 1;
	rt_metrics_write(metrics, &text);
	rt_buf_add(&text, "", 1);
	printf("%s\ndeadlocks: %d %d\nproblems: %s; %s\n", text.data, told_mode,
	       rt_deadlock_detection_off(),
	       rt_polling_problem() != NULL ? rt_polling_problem() : "none",
	       rt_accept_guard_problem() != NULL ? rt_accept_guard_problem() : "none");
	rt_buf_done(&text);
	rt_server_drain(server, 1000, stop, loop);
	rt_loop_run(loop);
	rt_server_free(server);
	rt_loop_free(loop);
	rt_rpc_shutdown();
	rt_metrics_free(metrics);
	return 0;
}

static void run_program(const char *program, const char *variable, const char *value, char *text,
			size_t size)
{
	size_t length = 0;
	ssize_t got;
	int ends[2], status = -1;
	pid_t pid;

	CU_ASSERT_FATAL(pipe(ends) == 0);
	pid = fork();
	if (pid == 0) {
		unsetenv("GRPC_POLL_STRATEGY");
		if (variable != NULL)
			setenv(variable, value, 1);
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		execl(program, program, "modes", (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while ((got = read(ends[0], text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	text[length] = '\0';
	close(ends[0]);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
}

static void modes(void)
{
	static const struct {
		const char *program, *variable, *value; /* the environment's; NULL: as it is */
		bool epoll, guard;
		const char *problems;
	} rows[] = {
		{ "/proc/self/exe", NULL, NULL, true, true, "none; none" },
		{ "/proc/self/exe", "GRPC_POLL_STRATEGY", "poll", false, true,
		  "gRPC made no epoll set (GRPC_POLL_STRATEGY); none" },
		{ "/proc/self/exe", "TEST_GRPC_VERSION", "38.0.0", false, true,
		  "it was not tried with this version of libgrpc; none" },
		{ TEST_HIDDEN_PROGRAM, NULL, NULL, false, false,
		  "the program does not export its symbols; the program does not export its "
		  "symbols" },
	};
	char text[32768], problems[256];

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		const char *row = rows[i].problems;

		run_program(rows[i].program, rows[i].variable, rows[i].value, text, sizeof(text));
		snprintf(problems, sizeof(problems), "\nproblems: %s\n", row);
		TEST_ROW(strstr(text, rows[i].epoll ? "tandem_grpc_polling{mode=\"epoll\"} 1\n"
						    : "tandem_grpc_polling{mode=\"epoll\"} 0\n"),
			 row);
		TEST_ROW(strstr(text, rows[i].epoll ? "tandem_grpc_polling{mode=\"thread\"} 0\n"
						    : "tandem_grpc_polling{mode=\"thread\"} 1\n"),
			 row);
		TEST_ROW(strstr(text, rows[i].guard ? "tandem_accept_guard 1\n"
						    : "tandem_accept_guard 0\n"),
			 row);
		TEST_ROW(strstr(text, problems), row);
		TEST_ROW(strstr(text, "deadlocks: 0 1\n"), row);
		TEST_ROW(strstr(text, rows[i].epoll ? "tandem_grpc_corking 1\n"
						    : "tandem_grpc_corking 0\n"),
			 row);
	}
}

/* ---- corking ---- */

struct pair {
	int near, far;
};

/* Both ends of a TCP connection; `near` is in gRPC's epoll set if `known`. */
static struct pair pair_new(bool known)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	struct epoll_event nothing = { .events = 0 };
	struct pair pair = { .near = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };

	CU_ASSERT_FATAL(bind(listener, (struct sockaddr *)&address, length) == 0);
	CU_ASSERT_FATAL(listen(listener, 1) == 0);
	CU_ASSERT_FATAL(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
	CU_ASSERT_FATAL(connect(pair.near, (struct sockaddr *)&address, length) == 0);
	pair.far = accept(listener, NULL, NULL);
	CU_ASSERT_FATAL(pair.far >= 0);
	close(listener);
	CU_ASSERT(setsockopt(pair.near, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
	if (known)
		CU_ASSERT_FATAL(epoll_ctl(rt_polling_fd(), EPOLL_CTL_ADD, pair.near, &nothing) ==
				0);
	return pair;
}

static void pair_close(struct pair pair)
{
	close(pair.near);
	close(pair.far);
}

static ssize_t write_to(int fd, const void *data, size_t length)
{
	struct iovec part = { .iov_base = (void *)(uintptr_t)data, .iov_len = length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static unsigned packets_sent(struct pair pair)
{
	struct tcp_info info = { .tcpi_state = 0 };
	socklen_t length = sizeof(info);

	CU_ASSERT(getsockopt(pair.near, IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
	return info.tcpi_data_segs_out;
}

static void expect_packets(struct pair pair, const char *sent, unsigned packets)
{
	char got[64] = "";
	ssize_t bytes = 0, more;

	while (bytes < (ssize_t)strlen(sent) &&
	       (more = recv(pair.far, got + bytes, sizeof(got) - 1 - (size_t)bytes, 0)) > 0)
		bytes += more;
	CU_ASSERT_STRING_EQUAL(got, sent);
	CU_ASSERT_EQUAL(packets_sent(pair), packets);
}

static void write_twice(struct pair pair)
{
	CU_ASSERT_EQUAL(write_to(pair.near, "one", 3), 3);
	CU_ASSERT_EQUAL(write_to(pair.near, "two", 3), 3);
}

static void corked_writes_are_sent_together(void)
{
	struct pair grpcs = pair_new(true), other = pair_new(false);

	CU_ASSERT_PTR_NULL_FATAL(rt_corking_problem());
	rt_cork();
	write_twice(grpcs);
	write_twice(other);
	rt_uncork();
	expect_packets(grpcs, "onetwo", 1);
	expect_packets(other, "onetwo", 2); /* not gRPC's */
	write_twice(grpcs);
	expect_packets(grpcs, "onetwo", 3); /* not corked any more */
	pair_close(grpcs);
	pair_close(other);
}

enum { RST_STREAM = 3, WINDOW_UPDATE = 8 };

/* Writes frames of four bytes, split between two parts as gRPC does; as window updates each grants `value` bytes. */
static void write_frames(int fd, unsigned char type, size_t count, uint32_t value)
{
	unsigned char frames[5][13] = { { 0 } };
	struct iovec parts[2] = { { .iov_base = frames, .iov_len = 10 },
				  { .iov_base = frames[0] + 10,
				    .iov_len = count * sizeof(frames[0]) - 10 } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

	for (size_t i = 0; i < count; i++) {
		frames[i][2] = 4;
		frames[i][3] = type;
		memcpy(&frames[i][9], &(uint32_t){ htonl(value) }, sizeof(value));
	}
	CU_ASSERT_EQUAL(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT),
			(ssize_t)(count * sizeof(frames[0])));
}

/* Writes frames, then "x". Returns how many packets that took. */
static unsigned packets_of(struct pair pair, unsigned char type, size_t count, uint32_t value)
{
	unsigned before = packets_sent(pair);
	char got[80];

	write_frames(pair.near, type, count, value);
	CU_ASSERT_EQUAL(write_to(pair.near, "x", 1), 1);
	CU_ASSERT_EQUAL(recv(pair.far, got, count * 13 + 1, MSG_WAITALL), (ssize_t)count * 13 + 1);
	return packets_sent(pair) - before;
}

/* A window update waits for the next write to its socket, if it is small, and the window held back is. */
static void window_updates_wait_for_company(void)
{
	struct pair grpcs = pair_new(true), other = pair_new(false);
	char got[13];

	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 1, 52), 1);
	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 2, 8192), 1);
	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 1, 16385), 2);
	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 1, 0x7fffffff), 2);
	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 5, 1),
			2); /* longer than what is looked at */
	CU_ASSERT_EQUAL(packets_of(grpcs, RST_STREAM, 1, 8), 2);
	/* What is held back has a limit. */
	write_frames(grpcs.near, WINDOW_UPDATE, 1, 16000);
	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 1, 1000), 2);
	CU_ASSERT_EQUAL(recv(grpcs.far, got, sizeof(got), MSG_WAITALL), sizeof(got));
	CU_ASSERT_EQUAL(packets_of(grpcs, WINDOW_UPDATE, 1, 16384), 1); /* … and counts anew */
	/* Nothing is held back for ever. */
	write_frames(grpcs.near, WINDOW_UPDATE, 1, 52);
	CU_ASSERT_EQUAL(recv(grpcs.far, got, sizeof(got), MSG_WAITALL), sizeof(got));
	pair_close(grpcs);
	write_frames(other.near, WINDOW_UPDATE, 1, 52); /* not gRPC's */
	CU_ASSERT_EQUAL(packets_sent(other), 1);
	pair_close(other);
}

/* Sockets beyond the limit write at once. */
static void a_cork_has_a_limit_of_sockets(void)
{
	struct pair pairs[66];

	for (size_t i = 0; i < RT_LENGTH(pairs); i++)
		pairs[i] = pair_new(true);
	rt_cork();
	for (size_t i = 0; i < RT_LENGTH(pairs); i++)
		write_twice(pairs[i]);
	rt_uncork();
	for (size_t i = 0; i < RT_LENGTH(pairs); i++)
		expect_packets(pairs[i], "onetwo", i < 64 ? 1 : 2);
	/* The next cork starts empty. */
	rt_cork();
	write_twice(pairs[65]);
	rt_uncork();
	expect_packets(pairs[65], "onetwo", 3);
	for (size_t i = 0; i < RT_LENGTH(pairs); i++)
		pair_close(pairs[i]);
}

/* gRPC gets the kernel's answer, and all accepted bytes arrive. */
static void a_full_socket_returns_eagain(void)
{
	static char block[100000];
	struct pair pair = pair_new(true);
	size_t taken = 0, got = 0;
	ssize_t bytes;

	rt_cork();
	while ((bytes = write_to(pair.near, block, sizeof(block))) > 0)
		taken += (size_t)bytes;
	CU_ASSERT(bytes == -1 && errno == EAGAIN);
	CU_ASSERT(taken > 0);
	rt_uncork();
	CU_ASSERT(shutdown(pair.near, SHUT_WR) == 0);
	while ((bytes = recv(pair.far, block, sizeof(block), 0)) > 0)
		got += (size_t)bytes;
	CU_ASSERT_EQUAL(bytes, 0);
	CU_ASSERT_EQUAL(got, taken);
	pair_close(pair);
}

static void a_closed_socket_sends_what_it_holds(void)
{
	struct pair pair = pair_new(true), next;
	char got[16] = "";

	rt_cork();
	write_twice(pair);
	close(pair.near);
	CU_ASSERT_EQUAL(recv(pair.far, got, sizeof(got) - 1, MSG_WAITALL), 6);
	CU_ASSERT_STRING_EQUAL(got, "onetwo");
	next = pair_new(false); /* has the same number */
	CU_ASSERT_EQUAL(next.near, pair.near);
	rt_uncork();
	write_twice(next);
	expect_packets(next, "onetwo", 2);
	close(pair.far);
	pair_close(next);
	/* The peer has closed: the error is the kernel's. */
	pair = pair_new(true);
	close(pair.far);
	rt_cork();
	while (write_to(pair.near, "x", 1) == 1)
		;
	CU_ASSERT(errno == EPIPE || errno == ECONNRESET);
	rt_uncork();
	close(pair.near);
}

/* ---- reading in turns ---- */

#define PREFACE     "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define FRAMES      5000
#define END_STREAM  1
#define END_HEADERS 4

/* A connection that was accepted, of gRPC's set, to which its client has sent that it speaks HTTP/2, and HEADERS (1) or
 * DATA (0) of one byte. */
static struct pair accepted_pair(unsigned char type, unsigned char flags)
{
	static unsigned char frames[FRAMES][10];
	struct epoll_event nothing = { .events = 0 };
	struct pair pair;
	int port, listener = loopback_listen(0, &port);

	memset(frames, 0, sizeof(frames));
	for (uint32_t i = 0; i < FRAMES; i++) {
		uint32_t stream = htonl(type == 1 ? 1 + 2 * i : 1);

		frames[i][2] = 1;
		frames[i][3] = type;
		frames[i][4] = flags;
		memcpy(&frames[i][5], &stream, sizeof(stream));
	}
	pair.far = loopback_connect(port);
	pair.near = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CU_ASSERT_FATAL(pair.near >= 0);
	close(listener);
	CU_ASSERT_EQUAL(send(pair.far, PREFACE, sizeof(PREFACE) - 1, 0), sizeof(PREFACE) - 1);
	CU_ASSERT_EQUAL(send(pair.far, frames, sizeof(frames), 0), sizeof(frames));
	CU_ASSERT_FATAL(epoll_ctl(rt_polling_fd(), EPOLL_CTL_ADD, pair.near, &nothing) == 0);
	return pair;
}

/* What this turn reads of it, in pieces, until there is nothing more. */
static size_t reads(const struct pair *pair)
{
	char bytes[1500];
	struct iovec parts[2] = { { bytes, 500 }, { bytes + 500, 1000 } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	size_t total = 0;
	ssize_t got;

	while ((got = recvmsg(pair->near, &message, 0)) > 0)
		total += (size_t)got;
	CU_ASSERT(got < 0 && errno == EAGAIN);
	CU_ASSERT(message.msg_iov == parts && message.msg_iovlen == 2);
	return total;
}

static size_t turn_reads(const struct pair *pair)
{
	size_t total;

	rt_polling_turn_begin(INT64_MAX);
	total = reads(pair);
	CU_ASSERT(rt_polling_turn_end()); /* the next one goes on */
	return total;
}

static void a_turn_takes_a_part(void)
{
	struct pair data = accepted_pair(0, 0), calls = accepted_pair(1, END_HEADERS);

	CU_ASSERT_EQUAL(turn_reads(&data), 4096);
	CU_ASSERT_EQUAL(turn_reads(&data), 8192);
	CU_ASSERT_EQUAL(turn_reads(&data), 16384);
	/* Many requests of which the rest does not come: others go first. */
	CU_ASSERT_EQUAL(turn_reads(&calls), 4096);
	CU_ASSERT_EQUAL(turn_reads(&calls), 256);
	CU_ASSERT_EQUAL(turn_reads(&calls), 256);
	pair_close(data);
	pair_close(calls);
}

/* The descriptor's peer, as gRPC names it but for "ipv4:". */
static struct rt_connection_id id_of(const struct pair *pair)
{
	struct sockaddr_in own;
	socklen_t length = sizeof(own);
	char peer[32];

	CU_ASSERT_FATAL(getsockname(pair->far, (struct sockaddr *)&own, &length) == 0);
	snprintf(peer, sizeof(peer), "127.0.0.1:%u", ntohs(own.sin_port));
	return rt_connection_of(peer);
}

static void refuse_calls(const struct pair *pair)
{
	struct rt_connection_id id = id_of(pair);

	CU_ASSERT_EQUAL(id.fd, pair->near);
	for (int i = 0; i < 200; i++)
		rt_connection_refused(id);
}

/* Calls of a connection that are refused; those of another are none of its business. */
static void a_turn_takes_little_where_calls_are_refused(void)
{
	struct pair bad = accepted_pair(1, END_HEADERS | END_STREAM);
	struct pair good = accepted_pair(1, END_HEADERS | END_STREAM);

	CU_ASSERT_EQUAL(turn_reads(&bad), 4096); /* 406 calls */
	CU_ASSERT_EQUAL(turn_reads(&good), 4096);
	refuse_calls(&bad);
	CU_ASSERT_EQUAL(turn_reads(&bad), 256);
	CU_ASSERT_EQUAL(turn_reads(&good), 1291); /* 128 calls */
	CU_ASSERT_EQUAL(rt_connection_of("127.0.0.1:0").serial, 0);
	CU_ASSERT_EQUAL(rt_connection_of("unix:/tmp/x").serial, 0);
	CU_ASSERT_EQUAL(rt_connection_of("").serial, 0);
	rt_connection_refused((struct rt_connection_id){ 0 });
	rt_connection_refused(
		(struct rt_connection_id){ good.near, UINT64_MAX }); /* one from before */
	pair_close(bad);
	pair_close(good);
}

#define WASTEFUL 20

/* A turn takes 4 streams of all of them together, and each has its turn. */
static void those_that_waste_share_a_turn(void)
{
	struct pair pairs[WASTEFUL];
	size_t read[WASTEFUL] = { 0 };

	for (size_t i = 0; i < WASTEFUL; i++)
		pairs[i] = accepted_pair(1, END_HEADERS | END_STREAM);
	for (int turn = 0; turn < 60; turn++) {
		size_t served = 0;

		for (size_t i = 0; i < WASTEFUL; i++)
			refuse_calls(&pairs[i]);
		rt_polling_turn_begin(INT64_MAX);
		for (size_t i = 0; i < WASTEFUL; i++) {
			size_t bytes = reads(&pairs[i]);

			served += bytes > 0;
			read[i] += bytes;
		}
		CU_ASSERT(rt_polling_turn_end());
		if (turn > 0)
			CU_ASSERT(served == 4);
	}
	for (size_t i = 0; i < WASTEFUL; i++) {
		TEST_ROW(read[i] >= 4096 + 10 * 256, "one of them");
		pair_close(pairs[i]);
	}
}

/* A turn accepts a few connections; the next one goes on. */
static void a_turn_accepts_a_part(void)
{
	struct epoll_event nothing = { .events = 0 };
	int port, listener = loopback_listen(SOCK_NONBLOCK, &port), clients[12], taken[12];
	int count = 0;

	rt_connections_limit(&(struct rt_connection_limits){ .connections_max = 100 });
	CU_ASSERT_FATAL(epoll_ctl(rt_polling_fd(), EPOLL_CTL_ADD, listener, &nothing) == 0);
	for (int i = 0; i < 12; i++)
		clients[i] = loopback_connect(port);
	for (int turn = 0; turn < 2; turn++) {
		int fd;

		rt_polling_turn_begin(INT64_MAX);
		while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
			taken[count++] = fd;
		CU_ASSERT_EQUAL(errno, EAGAIN);
		CU_ASSERT_EQUAL(count, turn == 0 ? 8 : 12);
		CU_ASSERT_EQUAL(rt_polling_turn_end(), turn == 0);
	}
	for (int i = 0; i < 12; i++) {
		close(taken[i]);
		close(clients[i]);
	}
	close(listener);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "each process reports which of them are in place", modes },
		{ "corked writes of gRPC are sent together", corked_writes_are_sent_together },
		{ "window updates wait for company", window_updates_wait_for_company },
		{ "a cork has a limit of sockets", a_cork_has_a_limit_of_sockets },
		{ "a full socket returns EAGAIN, corked or not", a_full_socket_returns_eagain },
		{ "a corked socket that is closed sends what it holds",
		  a_closed_socket_sends_what_it_holds },
		{ "a turn takes a part of what came", a_turn_takes_a_part },
		{ "a turn takes little where calls are refused",
		  a_turn_takes_little_where_calls_are_refused },
		{ "those that waste share a turn", those_that_waste_share_a_turn },
		{ "a turn accepts a part of those that came", a_turn_accepts_a_part },
	};
	int failed;

	if (argc > 1 && strcmp(argv[1], "modes") == 0)
		return print_modes();
	rt_rpc_init();
	failed = tests_run("interpose", tests, RT_LENGTH(tests));
	rt_rpc_shutdown();
	return failed;
}
