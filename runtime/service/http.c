/* http.c - see http.h. */
#include "http.h"

#include <netdb.h>
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

int rt_http_start(struct rt_http *http)
{
	unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;
	struct MHD_OptionItem options[ADMIN_TLS_OPTIONS] = { { MHD_OPTION_END, 0, NULL } };
	unsigned int most = http->options.connections_max;

	if (http->options.threads)
		flags |= MHD_USE_THREAD_PER_CONNECTION;
	if (http->tls != NULL) {
		flags |= MHD_USE_TLS;
		admin_tls_options(http->tls, options);
	}
	/* Some more than are kept: the oldest goes when the new one is there. */
	rt_connections_limit_listener(http->fd, most);
	http->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, http->options.on_request, http->options.user,
		MHD_OPTION_LISTEN_SOCKET, (MHD_socket)http->fd, MHD_OPTION_CONNECTION_LIMIT,
		most + most / 3, MHD_OPTION_CONNECTION_TIMEOUT, http->options.idle_s,
		MHD_OPTION_NOTIFY_COMPLETED, http->options.on_end, http->options.user,
		MHD_OPTION_ARRAY, options, MHD_OPTION_END);
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
