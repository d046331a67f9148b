/* url.h - where Redis is, as --redis says it.
 *
 *   redis://host:port, unix:/path         one Redis; rediss://host:port with TLS
 *   cluster://host:port,host:port         a Redis Cluster, of which these are some nodes
 *   sentinel://host:port,host:port/name   the master that these sentinels know by this name
 *
 * Users and passwords are no part of it. */
#ifndef RT_REDIS_URL_H
#define RT_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RT_REDIS_HOST_MAX    255
#define RT_REDIS_SEEDS_MAX   64
#define RT_REDIS_MASTER_NAME 64

struct rt_redis_address {
	char host[RT_REDIS_HOST_MAX + 1]; /* without brackets */
	int port;                         /* 0: host is the path of a unix socket */
};
/* False, and nothing is set: not a host, or not a port that can be connected to. `host` ends with a NUL, maybe later. */
bool rt_redis_address_set(struct rt_redis_address *address, const char *host, size_t length,
			  int64_t port);
bool rt_redis_address_same(const struct rt_redis_address *a, const struct rt_redis_address *b);

enum rt_topology_kind { RT_TOPOLOGY_ONE, RT_TOPOLOGY_CLUSTER, RT_TOPOLOGY_SENTINEL };
/* Whether there is TLS: redis:// and unix: say no, rediss:// says yes, the others leave it open. */
enum rt_redis_url_tls { RT_REDIS_TLS_OPEN, RT_REDIS_TLS_NO, RT_REDIS_TLS_YES };
/* Where Redis is. Plain data. */
struct rt_redis_url {
	enum rt_topology_kind kind;
	enum rt_redis_url_tls tls;
	size_t count;
	struct rt_redis_address addresses[RT_REDIS_SEEDS_MAX]; /* or sentinels; at least one */
	char master[RT_REDIS_MASTER_NAME + 1]; /* its name with the sentinels, else "" */
};
/* RT_OK, or RT_INVALID with the reason, which names the part, in `error`. */
int rt_redis_url_parse(const char *text, struct rt_redis_url *ret, char *error, size_t size);

/* Whether connections there use TLS, when `wanted` is what the settings say: never to a socket. RT_OK, or RT_INVALID
 * when URL and settings contradict each other, with the reason in `error`. */
int rt_redis_url_secure(const struct rt_redis_url *url, bool wanted, bool *ret, char *error,
			size_t size);

#endif
