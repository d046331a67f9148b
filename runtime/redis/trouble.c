/* trouble.c - why a connection is away, for an operator: each reason once, with what to do about it. */
#include "connection_internal.h"

#include <stdio.h>
#include <string.h>

void redis_trouble_set(struct redis_connection *connection, const char *what, const char *detail)
{
	snprintf(connection->error, sizeof(connection->error), "%s%s%s", what,
		 *detail == '\0' ? "" : ": ", detail);
}

static bool speaks(const struct redis_connection *connection)
{
	return connection->common.options.log_trouble &&
	       connection->common.options.on_state != NULL;
}

static const char *file_of(const struct redis_connection *connection)
{
	const char *file = connection->common.options.password_file;

	return file != NULL ? file : "no file";
}

/* What to do about the error; NULL: wait, or start Redis. */
static char *fix_of(const struct redis_connection *connection)
{
	/* The first that is part of the error. */
	static const struct {
		const char *error, *fix;
	} fixes[] = {
		{ "password file", "its first line must be the user's password, and only its owner "
				   "may have rights on it; it is read again until then" },
		{ "NOAUTH", "set --redis-user and --redis-password-file" },
		{ "not Redis's protocol", "what answers there is not Redis: "
					  "see --redis-host, --redis-port and --redis-socket" },
		{ "mismatch", "the certificate of Redis must name the host that is connected to" },
		{ "has expired",
		  "renew the certificate of Redis, if this machine's clock is right" },
		{ "not yet valid", "set this machine's clock, or renew the certificate of Redis" },
		{ "certificate is refused",
		  "the certificate of Redis must be of a CA in the file of --redis-tls-ca" },
		{ "speaks no TLS",
		  "its port for TLS is another one (tls-port), or it has none: then "
		  "set redis://host:port, without --redis-tls and --redis-tls-ca" },
		{ "protocol version", "Redis must speak TLS 1.2 or newer (tls-protocols)" },
		{ "closed by the server in the handshake",
		  "Redis's log says why; or what answers there speaks no TLS" },
		{ "TLS: no answer in time", "what answers there may speak no TLS (tls-port)" },
		{ "alert", "Redis refuses this client's certificate, or lacks one (its log says "
			   "more): set --redis-tls-cert and --redis-tls-key, of a CA that Redis "
			   "trusts" },
	};

	if (strstr(connection->error, "WRONGPASS") != NULL)
		return rt_printf("Redis must have the user %s, enabled, with the password in the "
				 "first line of %s (--redis-user, --redis-password-file); "
				 "it is tried again until then",
				 connection->common.options.user, file_of(connection));
	if (connection->state == REDIS_GREETING && connection->common.options.tls == NULL &&
	    (strstr(connection->error, "closed by the server") != NULL ||
	     strstr(connection->error, "read failed") != NULL))
		return rt_strdup("it ended the connection before it said anything: if it has TLS "
				 "there, set rediss://host:port, or --redis-tls");
	for (size_t i = 0; i < RT_LENGTH(fixes); i++)
		if (strstr(connection->error, fixes[i].error) != NULL)
			return rt_strdup(fixes[i].fix);
	return NULL;
}

static char *address_of(const struct redis_connection *connection)
{
	if (connection->common.options.unix_path != NULL)
		return rt_strdup(connection->common.options.unix_path);
	return rt_printf("%s:%d", connection->common.options.host, connection->common.options.port);
}

/* Each reason once: attempts follow each other quickly. */
void redis_trouble_away(struct redis_connection *connection)
{
	char *address, *fix;

	if (!speaks(connection) || strcmp(connection->logged, connection->error) == 0)
		return;
	snprintf(connection->logged, sizeof(connection->logged), "%s", connection->error);
	address = address_of(connection);
	fix = fix_of(connection);
	if (fix != NULL)
		RT_LOG(RT_ERROR, "Redis cannot be used", RT_S("redis", address),
		       RT_S("reason", connection->error), RT_S("fix", fix));
	else
		RT_LOG(RT_WARN, "Redis is away", RT_S("redis", address),
		       RT_S("reason", connection->error));
	free(fix);
	free(address);
}

void redis_trouble_back(struct redis_connection *connection)
{
	char *address;

	if (!speaks(connection) || connection->logged[0] == '\0')
		return;
	connection->logged[0] = '\0';
	address = address_of(connection);
	RT_LOG(RT_INFO, "Redis is back", RT_S("redis", address));
	free(address);
}

/* The first of each connection. */
void redis_trouble_denied(struct redis_connection *connection, const char *reason)
{
	if (!speaks(connection) || connection->denial_logged || connection->state != REDIS_UP)
		return;
	connection->denial_logged = true;
	RT_LOG(RT_ERROR, "Redis denies the user a command",
	       RT_S("user", connection->common.options.user), RT_S("reason", reason),
	       RT_S("fix", "give the user its rights again; scripts/lib/redis-open does"));
}
