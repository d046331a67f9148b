/* http.c - see http.h. */
#include "http.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin_tls_internal.h"
#include "interpose/interpose.h"

struct rt_http {
	struct rt_http_options options; /* without what is borrowed for the start alone */
	int fd;
	struct MHD_Daemon *daemon; /* NULL: not started; owns fd from then on */
	struct admin_tls *tls;     /* NULL: plain HTTP */
	char *unix_path;           /* removed at the end; NULL: TCP */
	int port;
};

/* What is kept of a connection, beside what libmicrohttpd keeps. */
struct kept {
	struct admin_tls_shown *shown; /* NULL: plain HTTP */
	void *data;                    /* the user's */
};

static int bound_port(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char service[8];

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
	    getnameinfo((struct sockaddr *)&address, length, NULL, 0, service, sizeof(service),
			NI_NUMERICSERV) != 0)
		return 0;
	return (int)strtol(service, NULL, 10);
}

int rt_http_new(const struct rt_http_options *options, struct rt_http **ret)
{
	struct rt_http *http = rt_alloc(sizeof(*http));
	int rc = RT_OK;

	http->options = *options;
	http->options.listen = NULL;
	http->options.tls = NULL;
	http->fd = rt_listen_open(options->listen);
	if (http->fd < 0) {
		rt_http_free(http);
		return RT_SYSTEM;
	}
	if (strncmp(options->listen, "unix:", 5) == 0)
		http->unix_path = rt_strdup(options->listen + 5);
	else
		http->port = bound_port(http->fd);
	if (options->tls != NULL)
		rc = admin_tls_new(options->tls, &http->tls);
	if (rc == RT_OK)
		*ret = http;
	else
		rt_http_free(http);
	return rc;
}

/* Begun: before the handshake. Closed: after its last request. */
static void on_connection(void *user, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct rt_http *http = user;
	struct kept *kept = *context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*context = kept = rt_alloc(sizeof(*kept));
		if (http->tls != NULL)
			kept->shown = admin_tls_show(http->tls, connection);
		return;
	}
	if (http->options.on_close != NULL)
		http->options.on_close(kept->data);
	if (http->tls != NULL)
		admin_tls_give_back(http->tls, kept->shown);
	free(kept);
}

int rt_http_start(struct rt_http *http)
{
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
	struct MHD_OptionItem options[ADMIN_TLS_OPTIONS] = { { MHD_OPTION_END, 0, NULL } };
	unsigned int most = http->options.connections_max;

	if (http->options.threads)
		flags |= MHD_USE_THREAD_PER_CONNECTION;
	if (http->options.suspends)
		flags |= MHD_ALLOW_SUSPEND_RESUME;
	if (http->tls != NULL) {
		flags |= MHD_USE_TLS;
		admin_tls_options(options);
	}
	/* Some more than are kept: the oldest goes when the new one is there. */
	rt_connections_limit_listener(http->fd, most);
	http->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, http->options.on_request, http->options.user,
		MHD_OPTION_LISTEN_SOCKET, (MHD_socket)http->fd, MHD_OPTION_CONNECTION_LIMIT,
		most + most / 3, MHD_OPTION_CONNECTION_TIMEOUT, http->options.idle_s,
		MHD_OPTION_NOTIFY_COMPLETED, http->options.on_end, http->options.user,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_ARRAY, options,
		MHD_OPTION_END);
	return http->daemon != NULL ? RT_OK : RT_SYSTEM;
}

void rt_http_free(struct rt_http *http)
{
	if (http == NULL)
		return;
	if (http->daemon != NULL)
		MHD_stop_daemon(http->daemon); /* closes the socket, too */
	else if (http->fd >= 0)
		close(http->fd);
	if (http->unix_path != NULL)
		unlink(http->unix_path);
	admin_tls_free(http->tls);
	free(http->unix_path);
	free(http);
}

int rt_http_port(const struct rt_http *http)
{
	return http->port;
}

bool rt_http_known(const struct rt_http *http, struct MHD_Connection *connection)
{
	return http->tls == NULL || admin_tls_known(http->tls, connection);
}

bool rt_http_names(const struct rt_http *http, struct MHD_Connection *connection,
		   char *names[RT_HTTP_NAMES_MAX], size_t *ret_count)
{
	return http->tls != NULL &&
	       admin_tls_names(connection, names, RT_HTTP_NAMES_MAX, ret_count);
}

void rt_http_peer(struct MHD_Connection *connection, char text[RT_HTTP_PEER_TEXT])
{
	const struct sockaddr *address =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
			->client_addr;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
	char host[INET6_ADDRSTRLEN] = "";

	if (address->sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
		snprintf(text, RT_HTTP_PEER_TEXT, "ipv4:%s:%d", host, ntohs(v4->sin_port));
	} else if (address->sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		(void)inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, host, sizeof(host));
		snprintf(text, RT_HTTP_PEER_TEXT, "ipv4:%s:%d", host, ntohs(v6->sin6_port));
	} else if (address->sa_family == AF_INET6) {
		(void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
		snprintf(text, RT_HTTP_PEER_TEXT, "ipv6:[%s]:%d", host, ntohs(v6->sin6_port));
	} else {
		snprintf(text, RT_HTTP_PEER_TEXT, "unix:");
	}
}

void **rt_http_data(struct MHD_Connection *connection)
{
	struct kept *kept = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)
				    ->socket_context;

	return &kept->data;
}
