/* webhook_receiver.c - the receiver of bench/webhook: it answers each request with 204 at once, and costs so little that what is
 * measured is the sender.
 *
 *   bench-webhook-receiver PORT LOG
 *
 * It appends a line to LOG for each request, "<webhook-id> <when its last byte was read, Unix µs> <body>", within 100 ms, and all
 * of them before it ends (SIGTERM, SIGINT). It takes what tandem-webhook sends, not all of HTTP. */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX 4096
#define FDS_MAX     4096
#define EVENTS_MAX  64
#define FLUSH_MS    100

static struct connection {
	int fd;
	size_t length;
	char data[REQUEST_MAX + 1]; /* ends in a NUL */
} connections[FDS_MAX];             /* by fd */

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
	(void)number;
	ended = 1;
}

static long long unix_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* The value of a header, in the request's head; it ends at the line's end. */
static const char *header(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);

	if (at == NULL)
		errx(1, "a request without %s", name + 2);
	return at + strlen(name);
}

/* Takes a request from the front of the data; false: it is not all there. */
static bool take(struct connection *connection, FILE *log)
{
	static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
	char *end = strstr(connection->data, "\r\n\r\n");
	const char *id;
	size_t length, total;

	if (end == NULL)
		return false;
	length = strtoul(header(connection->data, "\r\ncontent-length: "), NULL, 10);
	total = (size_t)(end - connection->data) + 4 + length;
	if (connection->length < total)
		return false;
	id = header(connection->data, "\r\nwebhook-id: ");
	fprintf(log, "%.*s %lld %.*s\n", (int)strcspn(id, "\r"), id, unix_us(), (int)length,
		end + 4);
	if (send(connection->fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) < 0)
		warn("send");
	connection->length -= total;
	memmove(connection->data, connection->data + total, connection->length + 1);
	return true;
}

static void serve(struct connection *connection, FILE *log)
{
	ssize_t got = recv(connection->fd, connection->data + connection->length,
			   REQUEST_MAX - connection->length, 0);

	if (got <= 0) {
		close(connection->fd); /* and leaves the epoll with it */
		return;
	}
	connection->length += (size_t)got;
	connection->data[connection->length] = '\0';
	while (take(connection, log))
		continue;
	if (connection->length == REQUEST_MAX)
		errx(1, "a request of more than %d bytes", REQUEST_MAX);
}

static void watch(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		err(1, "epoll_ctl");
}

static void accept_one(int epoll, int listener)
{
	int one = 1, fd = accept(listener, NULL, NULL);

	if (fd < 0 || fd >= FDS_MAX)
		err(1, "accept");
	connections[fd].fd = fd;
	connections[fd].length = 0;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	watch(epoll, fd);
}

static int listen_at(unsigned long port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons((uint16_t)port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 1024) < 0)
		err(1, "port %lu", port);
	return fd;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	struct epoll_event events[EVENTS_MAX];
	int epoll = epoll_create1(0), listener;
	FILE *log;

	if (argc != 3)
		errx(2, "usage: bench-webhook-receiver PORT LOG");
	if (epoll < 0) {
		warn("epoll");
		return 1;
	}
	log = fopen(argv[2], "a");
	if (log == NULL)
		err(1, "%s", argv[2]);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	listener = listen_at(strtoul(argv[1], NULL, 10));
	watch(epoll, listener);
	while (!ended) {
		int count = epoll_wait(epoll, events, EVENTS_MAX, FLUSH_MS);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd == listener)
				accept_one(epoll, listener);
			else
				serve(&connections[events[i].data.fd], log);
		}
		if (count == 0)
			fflush(log);
	}
	return fclose(log) == 0 ? 0 : 1;
}
