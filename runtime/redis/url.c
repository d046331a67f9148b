/* url.c - reads where Redis is. */
#include "url.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define NAME "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

bool rt_redis_address_same(const struct rt_redis_address *a, const struct rt_redis_address *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

bool rt_redis_address_set(struct rt_redis_address *address, const char *host, size_t length,
			  int64_t port)
{
	if (length == 0 || length > RT_REDIS_HOST_MAX || strspn(host, NAME ":%") < length ||
	    port < 1 || port > 65535)
		return false;
	memcpy(address->host, host, length);
	address->host[length] = '\0';
	address->port = (int)port;
	return true;
}

static int refuse(char *error, size_t size, const char *what, const char *part, size_t length)
{
	/* What is before an '@' may hold a password. */
	const char *at = memrchr(part, '@', length);
	char *shown = at == NULL ? rt_text_shown(part, length) : rt_strdup("…@…");

	snprintf(error, size, "%s: '%s'", what, shown);
	free(shown);
	return RT_INVALID;
}

static int parse_address(const char *text, size_t length, struct rt_redis_url *url, char *error,
			 size_t size)
{
	char part[RT_REDIS_HOST_MAX + 16], host[RT_REDIS_HOST_MAX + 1];
	int port;

	if (url->count == RT_REDIS_SEEDS_MAX)
		return refuse(error, size, "more than 64 addresses; the 65th is", text, length);
	snprintf(part, sizeof(part), "%.*s", (int)length, text);
	if (length >= sizeof(part) || !rt_parse_listen(part, host, &port) ||
	    !rt_redis_address_set(&url->addresses[url->count], host, strlen(host), port))
		return refuse(error, size,
			      "not an address, host:port or [IPv6]:port with a port of 1 to 65535",
			      text, length);
	url->count++;
	return RT_OK;
}

/* The name of a master, as sentinels take it. */
static int parse_master(const char *name, struct rt_redis_url *url, char *error, size_t size)
{
	size_t length = strlen(name);

	if (length == 0 || length > RT_REDIS_MASTER_NAME || strspn(name, NAME) < length)
		return refuse(error, size,
			      "after the sentinels comes /name, the master's, 1 to 64 of "
			      "A-Z a-z 0-9 . - _",
			      name, length);
	memcpy(url->master, name, length + 1);
	return RT_OK;
}

static int parse_socket(const char *path, struct rt_redis_url *url, char *error, size_t size)
{
	if (path[0] == '/' && path[1] == '/')
		path += 2; /* unix:///path */
	if (path[0] != '/' || strlen(path) > RT_REDIS_HOST_MAX)
		return refuse(error, size, "not a socket's path, unix:/path", path, strlen(path));
	snprintf(url->addresses[0].host, sizeof(url->addresses[0].host), "%s", path);
	url->count = 1;
	return RT_OK;
}

int rt_redis_url_parse(const char *text, struct rt_redis_url *ret, char *error, size_t size)
{
	static const struct {
		const char *scheme;
		enum rt_topology_kind kind;
		enum rt_redis_url_tls tls;
	} kinds[] = {
		{ "redis://", RT_TOPOLOGY_ONE, RT_REDIS_TLS_NO },
		{ "rediss://", RT_TOPOLOGY_ONE, RT_REDIS_TLS_YES },
		{ "cluster://", RT_TOPOLOGY_CLUSTER, RT_REDIS_TLS_OPEN },
		{ "sentinel://", RT_TOPOLOGY_SENTINEL, RT_REDIS_TLS_OPEN },
	};
	const char *at = NULL;
	int rc = RT_OK;

	memset(ret, 0, sizeof(*ret));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_socket(text + 5, ret, error, size);
	for (size_t i = 0; i < RT_LENGTH(kinds); i++) {
		if (strncmp(text, kinds[i].scheme, strlen(kinds[i].scheme)) == 0) {
			at = text + strlen(kinds[i].scheme);
			ret->kind = kinds[i].kind;
			ret->tls = kinds[i].tls;
		}
	}
	if (at == NULL)
		return refuse(error, size,
			      "begins with none of redis://, rediss://, unix:/, cluster://, "
			      "sentinel://",
			      text, strlen(text));
	if (strchr(at, '@') != NULL)
		return refuse(error, size,
			      "user and password do not belong here (--redis-user, "
			      "--redis-password-file)",
			      at, strlen(at));
	for (bool more = true; more && rc == RT_OK;) {
		size_t length = strcspn(at, ",/");

		rc = parse_address(at, length, ret, error, size);
		at += length;
		more = *at == ',';
		at += more ? 1 : 0;
	}
	if (rc != RT_OK)
		return rc;
	if (ret->kind == RT_TOPOLOGY_SENTINEL)
		return parse_master(*at == '/' ? at + 1 : at, ret, error, size);
	if (*at != '\0')
		return refuse(error, size, "nothing may follow the addresses", at, strlen(at));
	if (ret->kind == RT_TOPOLOGY_ONE && ret->count > 1)
		return refuse(error, size,
			      "redis:// and rediss:// have one address; a second one is",
			      ret->addresses[1].host, strlen(ret->addresses[1].host));
	return RT_OK;
}

int rt_redis_url_secure(const struct rt_redis_url *url, bool wanted, bool *ret, char *error,
			size_t size)
{
	bool socket = url->addresses[0].port == 0;

	if (wanted && !socket && url->tls == RT_REDIS_TLS_NO) {
		snprintf(error, size,
			 "redis:// is without TLS, and --redis-tls or --redis-tls-ca is set: "
			 "write rediss://");
		return RT_INVALID;
	}
	*ret = !socket && (wanted || url->tls == RT_REDIS_TLS_YES);
	return RT_OK;
}
