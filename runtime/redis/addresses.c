/* addresses.c - reads where Redis is: URLs, slots of keys, and answers that name nodes. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "topology_internal.h"

#define NAME "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_"

bool redis_address_same(const struct rt_redis_address *a, const struct rt_redis_address *b)
{
	return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* False: not a host, or not a port that can be connected to. */
static bool address_set(struct rt_redis_address *address, const char *host, size_t length,
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

/* ---- the slot of a key ---- */

uint16_t rt_key_slot(const char *key)
{
	const char *open = strchr(key, '{');
	const char *close = open != NULL ? strchr(open, '}') : NULL;
	bool tagged = close != NULL && close > open + 1;
	const char *at = tagged ? open + 1 : key, *end = tagged ? close : key + strlen(key);
	unsigned crc = 0;

	for (; at < end; at++) {
		crc ^= (unsigned)(unsigned char)*at << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1;
	}
	return (uint16_t)(crc & (RT_REDIS_SLOTS - 1));
}

/* ---- URLs ---- */

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
	    !address_set(&url->addresses[url->count], host, strlen(host), port))
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

/* ---- answers ---- */

void redis_slots_done(struct redis_slots *slots)
{
	free(slots->nodes);
	memset(slots, 0, sizeof(*slots));
}

/* The place of a node in the list, from 1; added if it is new. 0: there are too many. */
static uint16_t node_place(struct redis_slots *slots, const struct rt_redis_address *node)
{
	for (size_t i = 0; i < slots->count; i++) {
		if (redis_address_same(&slots->nodes[i], node))
			return (uint16_t)(i + 1);
	}
	if (slots->count == REDIS_NODES_MAX)
		return 0;
	slots->nodes = rt_grow(slots->nodes, slots->count, &slots->room, sizeof(*slots->nodes));
	slots->nodes[slots->count++] = *node;
	return (uint16_t)slots->count;
}

void redis_slots_set_all(struct redis_slots *slots, const struct rt_redis_address *master)
{
	redis_slots_done(slots);
	node_place(slots, master);
	for (size_t i = 0; i < RT_REDIS_SLOTS; i++)
		slots->owner[i] = 1;
}

const struct rt_redis_address *redis_slots_master(const struct redis_slots *slots, int partition)
{
	char tag[RT_INT_TEXT];
	size_t place;

	rt_int_text(partition, tag);
	place = slots->owner[rt_key_slot(tag)];
	return place > 0 ? &slots->nodes[place - 1] : NULL;
}

bool redis_node_read(struct rt_redis_address *ret, const redisReply *reply,
		     const struct rt_redis_address *asked)
{
	const redisReply *host;

	if (!rt_reply_is_array(reply, 2))
		return false;
	host = reply->element[0];
	if (host->type == REDIS_REPLY_NIL ||
	    (rt_reply_is_string(host) && (host->len == 0 || strcmp(host->str, "?") == 0)))
		return address_set(ret, asked->host, strlen(asked->host),
				   rt_reply_int(reply->element[1]));
	return rt_reply_is_string(host) &&
	       address_set(ret, host->str, host->len, rt_reply_int(reply->element[1]));
}

/* One range, [first, last, master, replica, …]. */
static bool read_range(struct redis_slots *slots, const redisReply *range,
		       const struct rt_redis_address *asked)
{
	long long first, last;

	if (!rt_reply_is_array(range, 3) || range->element[0]->type != REDIS_REPLY_INTEGER ||
	    range->element[1]->type != REDIS_REPLY_INTEGER)
		return false;
	first = range->element[0]->integer;
	last = range->element[1]->integer;
	if (first < 0 || last < first || last >= RT_REDIS_SLOTS)
		return false;
	for (size_t i = 2; i < range->elements; i++) {
		struct rt_redis_address node;
		uint16_t place;

		if (!redis_node_read(&node, range->element[i], asked))
			return false;
		place = node_place(slots, &node);
		if (place == 0)
			return false;
		for (long long slot = first; i == 2 && slot <= last; slot++)
			slots->owner[slot] = place;
	}
	return true;
}

bool redis_slots_read(struct redis_slots *slots, const redisReply *reply,
		      const struct rt_redis_address *asked)
{
	struct redis_slots read = { .count = 0 };
	bool good = rt_reply_is_array(reply, 0);

	for (size_t i = 0; good && i < reply->elements; i++)
		good = read_range(&read, reply->element[i], asked);
	redis_slots_done(good ? slots : &read);
	if (good)
		*slots = read;
	return good;
}

bool redis_hello_is_master(const redisReply *reply)
{
	for (size_t i = 0; rt_reply_is_array(reply, i + 2); i += 2) {
		if (rt_reply_is_string(reply->element[i]) &&
		    strcmp(reply->element[i]->str, "role") == 0)
			return rt_reply_is_string(reply->element[i + 1]) &&
			       strcmp(reply->element[i + 1]->str, "master") == 0;
	}
	return false;
}
