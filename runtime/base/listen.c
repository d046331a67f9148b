/* listen.c - see listen.h.
 *
 * gRPC reports only that it cannot bind an address. So we try it ourselves and read the error. The
 * process that has a port is found as ss(8) does it: the inode of the listening socket in
 * /proc/net/tcp*, then the process that has it open, which only its own user and root may see. */
#include "listen.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "config.h"

#define TCP_LISTEN    0x0a
#define BACKLOG       128 /* one that is not accepted at once waits; beyond these it waits a second */
#define UNIX_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

/* ---- which process has a port ---- */

/* The inode of the socket that listens at the port; 0: none. */
static unsigned long listening_inode(const char *table, int port)
{
	char line[512];
	unsigned long found = 0;
	FILE *file = fopen(table, "re");

	while (file != NULL && found == 0 && fgets(line, sizeof(line), file) != NULL) {
		unsigned long inode;
		unsigned at, state;

		if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*u %*u %lu", &at,
			   &state, &inode) == 3 &&
		    state == TCP_LISTEN && at == (unsigned)port)
			found = inode;
	}
	if (file != NULL)
		fclose(file);
	return found;
}

static bool has_open(const char *pid, const char *socket)
{
	char folder[300], path[600], target[64];
	struct dirent *entry;
	bool found = false;
	DIR *fds;

	snprintf(folder, sizeof(folder), "/proc/%s/fd", pid);
	fds = opendir(folder);
	while (fds != NULL && !found && (entry = readdir(fds)) != NULL) {
		ssize_t length;

		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		target[RT_MAX(length, (ssize_t)0)] = '\0';
		found = strcmp(target, socket) == 0;
	}
	if (fds != NULL)
		closedir(fds);
	return found;
}

static void name_process(const char *pid, struct rt_buf *text)
{
	char path[300], name[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	file = fopen(path, "re");
	if (file != NULL && fgets(name, sizeof(name), file) == NULL)
		name[0] = '\0';
	if (file != NULL)
		fclose(file);
	rt_buf_printf(text, " by process %s (%.*s)", pid, (int)strcspn(name, "\n"), name);
}

static void name_holder(int port, struct rt_buf *text)
{
	unsigned long inode = listening_inode("/proc/net/tcp", port);
	char socket[64];
	struct dirent *entry;
	bool found = false;
	DIR *processes;

	if (inode == 0)
		inode = listening_inode("/proc/net/tcp6", port);
	snprintf(socket, sizeof(socket), "socket:[%lu]", inode);
	processes = inode != 0 ? opendir("/proc") : NULL;
	while (processes != NULL && !found && (entry = readdir(processes)) != NULL) {
		if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name) ||
		    !has_open(entry->d_name, socket))
			continue;
		found = true;
		name_process(entry->d_name, text);
	}
	if (processes != NULL)
		closedir(processes);
	if (!found)
		rt_buf_printf(text, " by a process of another user");
}

/* ---- listening ---- */

bool rt_listen_unix_taken(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	bool taken;
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return false;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	/* EAGAIN: a process listens, but its accept queue is full. */
	taken = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN;
	close(fd);
	return taken;
}

static int open_address(const struct sockaddr *address, socklen_t length)
{
	int on = 1, error;
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if ((address->sa_family == AF_UNIX ||
	     setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0) &&
	    bind(fd, address, length) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* *ret_rc is getaddrinfo's. */
static int open_tcp(const char *host, int port, int *ret_rc)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
				  .ai_socktype = SOCK_STREAM };
	struct addrinfo *addresses = NULL;
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%d", port);
	*ret_rc = getaddrinfo(host, service, &hints, &addresses);
	if (*ret_rc != 0)
		return -1;
	for (struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next)
		fd = open_address(a->ai_addr, a->ai_addrlen);
	freeaddrinfo(addresses);
	return fd;
}

static int open_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat stat;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path));
	if (rt_listen_unix_taken(path)) {
		errno = EADDRINUSE;
		return -1;
	}
	/* A killed process leaves its socket there; a file of another type is not ours. */
	if (lstat(path, &stat) == 0 && S_ISSOCK(stat.st_mode))
		unlink(path);
	return open_address((const struct sockaddr *)&address, sizeof(address));
}

int rt_listen_open(const char *listen)
{
	char host[256];
	int port, rc;

	if (strncmp(listen, "unix:", 5) == 0)
		return open_unix(listen + 5);
	return rt_parse_listen(listen, host, &port) ? open_tcp(host, port, &rc) : -1;
}

/* ---- why listening failed ---- */

static void explain_tcp(const char *host, int port, struct rt_buf *text)
{
	int rc, fd = open_tcp(host, port, &rc), error = errno;

	if (rc != 0) {
		rt_buf_printf(text, "%s has no address: %s", host, gai_strerror(rc));
		return;
	}
	if (fd >= 0)
		close(fd);
	else if (error == EADDRINUSE) {
		rt_buf_printf(text, "port %d is taken", port);
		name_holder(port, text);
	} else if (error == EADDRNOTAVAIL) {
		rt_buf_printf(text, "%s is not an address of this machine", host);
	} else if (error == EACCES && port < 1024) {
		rt_buf_printf(text, "port %d is below 1024 and needs CAP_NET_BIND_SERVICE", port);
	} else {
		rt_buf_printf(text, "%s", strerror(error));
	}
}

static void explain_unix(const char *path, struct rt_buf *text)
{
	struct stat stat;
	int fd;

	if (strlen(path) > UNIX_PATH_MAX) {
		rt_buf_printf(text, "the path has more than %zu bytes", UNIX_PATH_MAX);
		return;
	}
	if (rt_listen_unix_taken(path)) {
		rt_buf_printf(text, "another process listens there");
		return;
	}
	if (lstat(path, &stat) == 0 && !S_ISSOCK(stat.st_mode)) {
		rt_buf_printf(text, "there is a file that is not a socket");
		return;
	}
	fd = open_unix(path);
	if (fd < 0) {
		rt_buf_printf(text, "%s", strerror(errno));
		return;
	}
	unlink(path);
	close(fd);
}

void rt_listen_explain(const char *listen, struct rt_buf *text)
{
	char host[256];
	int port;

	if (strncmp(listen, "unix:", 5) == 0)
		explain_unix(listen + 5, text);
	else if (rt_parse_listen(listen, host, &port))
		explain_tcp(host, port, text);
	else
		rt_buf_printf(text, "not an address: host:port or unix:/path is one");
}

bool rt_listen_local(const char *listen)
{
	char host[256];
	struct in_addr four;
	struct in6_addr six;
	int port;

	if (strncmp(listen, "unix:", 5) == 0 || listen[0] == '\0')
		return true;
	if (!rt_parse_listen(listen, host, &port))
		return false;
	if (inet_pton(AF_INET, host, &four) == 1)
		return ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET;
	if (inet_pton(AF_INET6, host, &six) == 1)
		return IN6_IS_ADDR_LOOPBACK(&six);
	return strcmp(host, "localhost") == 0;
}
