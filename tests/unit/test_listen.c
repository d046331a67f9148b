/* Why an address cannot be listened at: the text for each reason. */
#include "base/base.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loopback.h"
#include "run.h"

static const char *explained(const char *listen)
{
	static char kept[1024];
	struct rt_buf text = { 0 };

	rt_listen_explain(listen, &text);
	rt_buf_add(&text, NULL, 0);
	snprintf(kept, sizeof(kept), "%.*s", (int)text.length, text.data);
	rt_buf_done(&text);
	return kept;
}

/* Connections that come at once wait; those for which there is no place would wait for a second. */
static void backlog(void)
{
	int fd = rt_listen_open("127.0.0.1:0");
	struct tcp_info info;
	socklen_t length = sizeof(info);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	CU_ASSERT(info.tcpi_sacked >= 128); /* of a socket that listens: its places */
	close(fd);
}

static void taken(void)
{
	char listen_at[64], wanted[128];
	int port, fd = loopback_listen(0, &port);

	snprintf(listen_at, sizeof(listen_at), "127.0.0.1:%d", port);
	snprintf(wanted, sizeof(wanted), "port %d is taken by process %d (", port, (int)getpid());
	CU_ASSERT_EQUAL(strncmp(explained(listen_at), wanted, strlen(wanted)), 0);
	close(fd);
	CU_ASSERT_STRING_EQUAL(explained(listen_at), "");
}

static void rows(void)
{
	static const struct {
		const char *listen, *problem;
	} table[] = {
		{ "192.0.2.1:5000", "192.0.2.1 is not an address of this machine" },
		{ "host.invalid:5000", "host.invalid has no address: " },
		{ "nonsense", "not an address: host:port or unix:/path is one" },
		{ "unix:/nowhere/at/all", "No such file or directory" },
		{ "unix:/etc/passwd", "there is a file that is not a socket" },
		{ "127.0.0.1:0", "" },
	};

	for (size_t i = 0; i < RT_LENGTH(table); i++)
		TEST_ROW(strncmp(explained(table[i].listen), table[i].problem,
				 table[i].problem[0] == '\0' ? 1 : strlen(table[i].problem)) == 0,
			 table[i].listen);
}

static void unix_sockets(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/tandem-listen-XXXXXX", listen_at[128], long_path[300];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", folder);
	snprintf(listen_at, sizeof(listen_at), "unix:%s", address.sun_path);
	CU_ASSERT_STRING_EQUAL(explained(listen_at), "");
	CU_ASSERT_NOT_EQUAL(access(address.sun_path, F_OK), 0); /* nothing is left */
	CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 1), 0);
	CU_ASSERT_STRING_EQUAL(explained(listen_at), "another process listens there");
	CU_ASSERT(rt_listen_unix_taken(address.sun_path));
	close(fd);
	CU_ASSERT_FALSE(rt_listen_unix_taken(address.sun_path));
	CU_ASSERT_STRING_EQUAL(explained(listen_at), ""); /* left by a process that ended */
	unlink(address.sun_path);
	rmdir(folder);
	memset(long_path, 'p', sizeof(long_path));
	memcpy(long_path, "unix:/", 6);
	long_path[sizeof(long_path) - 1] = '\0';
	CU_ASSERT_STRING_EQUAL(explained(long_path), "the path has more than 107 bytes");
}

static const struct test tests[] = {
	{ "connections that come at once wait", backlog },
	{ "a taken port: which process has it", taken },
	{ "every other reason", rows },
	{ "unix sockets", unix_sockets },
};

TESTS_MAIN("listen", tests)
