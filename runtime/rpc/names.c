/* names.c - looks up the names in a channel's target: every address that DNS gives is used.
 *
 *   look_up            every EVERY_MS, on a thread of its own, because getaddrinfo blocks
 *     lookup_run       … there
 *     looked_up        the channel gets the addresses
 *
 * When a lookup fails the addresses found before stay. A lookup that takes long holds up nothing: at the end of
 * its channel it is left to itself, and frees what it has. */
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "client_internal.h"

#define EVERY_MS      2000
#define ADDRESSES_MAX 256 /* of a name; further ones are not used */

struct rpc_name {
	struct rpc_name *next;
	struct rt_channel *channel;
	char *host, *port;
	struct rt_timer timer;
	struct lookup *lookup; /* under way */
	bool looked_up;        /* once at least, with or without success */
	bool failing;
	void (*found)(struct rt_channel *channel, const struct rpc_name *name,
		      char *const *addresses, size_t count);
};

/* Shared by the loop and the thread. */
struct lookup {
	pthread_mutex_t lock;  /* of the next two */
	struct rpc_name *name; /* NULL: nobody waits for it any more */
	bool posted;
	struct rt_loop *loop;
	struct rt_task task;
	char *host, *port;
	int error; /* getaddrinfo's */
	char *addresses[ADDRESSES_MAX];
	size_t count;
};

static void lookup_free(struct lookup *lookup)
{
	for (size_t i = 0; i < lookup->count; i++)
		free(lookup->addresses[i]);
	pthread_mutex_destroy(&lookup->lock);
	free(lookup->host);
	free(lookup->port);
	free(lookup);
}

/* ---- on the thread ---- */

static void add_address(struct lookup *lookup, const struct sockaddr *address)
{
	const struct sockaddr_in *four = (const void *)address;
	const struct sockaddr_in6 *six = (const void *)address;
	bool is_six = address->sa_family == AF_INET6;
	char text[INET6_ADDRSTRLEN], *made;

	if ((!is_six && address->sa_family != AF_INET) || lookup->count == ADDRESSES_MAX)
		return;
	inet_ntop(address->sa_family, is_six ? (const void *)&six->sin6_addr : &four->sin_addr,
		  text, sizeof(text));
	made = is_six ? rt_printf("[%s]:%s", text, lookup->port)
		      : rt_printf("%s:%s", text, lookup->port);
	for (size_t i = 0; i < lookup->count; i++) {
		if (strcmp(lookup->addresses[i], made) == 0) {
			free(made);
			return;
		}
	}
	lookup->addresses[lookup->count++] = made;
}

static void looked_up(struct rt_task *task);

static void *lookup_run(void *data)
{
	const struct addrinfo hints = { .ai_flags = AI_ADDRCONFIG, .ai_socktype = SOCK_STREAM };
	struct lookup *lookup = data;
	struct addrinfo *found = NULL;
	bool wanted;

	lookup->error = getaddrinfo(lookup->host, lookup->port, &hints, &found);
	if (lookup->error == 0) {
		for (const struct addrinfo *at = found; at != NULL; at = at->ai_next)
			add_address(lookup, at->ai_addr);
		freeaddrinfo(found);
	}
	pthread_mutex_lock(&lookup->lock);
	wanted = lookup->name != NULL;
	lookup->posted = wanted;
	if (wanted)
		rt_loop_post(lookup->loop, &lookup->task);
	pthread_mutex_unlock(&lookup->lock);
	if (!wanted)
		lookup_free(lookup);
	return NULL;
}

/* ---- on the loop ---- */

static void thread_start(struct lookup *lookup)
{
	pthread_attr_t detached;
	pthread_t thread;
	sigset_t all, old;

	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	/* Signals are for the loop's thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&thread, &detached, lookup_run, lookup) != 0)
		abort(); /* as when memory runs out */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&detached);
}

static void look_up(struct rt_timer *timer)
{
	struct rpc_name *name = RT_CONTAINER_OF(timer, struct rpc_name, timer);
	struct lookup *lookup = rt_alloc(sizeof(*lookup));

	pthread_mutex_init(&lookup->lock, NULL);
	lookup->name = name;
	lookup->loop = name->channel->loop;
	lookup->task.run = looked_up;
	lookup->host = rt_strdup(name->host);
	lookup->port = rt_strdup(name->port);
	name->lookup = lookup;
	thread_start(lookup);
}

/* Logs the first failure of several. */
static void note_error(struct rpc_name *name, const struct lookup *lookup)
{
	bool failed = lookup->error != 0 || lookup->count == 0;

	if (failed && !name->failing)
		RT_LOG(RT_WARN, "a name cannot be looked up: trying again",
		       RT_S("name", name->host),
		       RT_S("error", lookup->error != 0 ? gai_strerror(lookup->error)
							: "it has no address"));
	name->failing = failed;
}

static void looked_up(struct rt_task *task)
{
	struct lookup *lookup = RT_CONTAINER_OF(task, struct lookup, task);
	struct rpc_name *name = lookup->name;
	struct rt_channel *channel = name->channel;

	/* The thread still holds the lock for a moment after it has posted this. */
	pthread_mutex_lock(&lookup->lock);
	pthread_mutex_unlock(&lookup->lock);
	name->lookup = NULL;
	name->looked_up = true;
	if (!channel->closing) {
		note_error(name, lookup);
		if (!name->failing)
			name->found(channel, name, lookup->addresses, lookup->count);
		rt_timer_start(channel->loop, &name->timer, EVERY_MS, look_up);
	}
	lookup_free(lookup);
	if (channel->names_stopped != NULL && rpc_names_stop(channel, channel->names_stopped))
		channel->names_stopped(channel);
}

/* "host:port"; addresses, and what else gRPC understands ("unix:/path"), are left to it. */
bool rpc_name_is(const char *address)
{
	size_t host = strcspn(address, ":/[]%");
	const char *port = address + host + 1;
	struct in_addr four;
	char text[256];

	if (host == 0 || host >= sizeof(text) || address[host] != ':' || *port == '\0' ||
	    port[strspn(port, "0123456789")] != '\0')
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)host, address);
	return inet_pton(AF_INET, text, &four) != 1;
}

void rpc_name_add(struct rt_channel *channel, const char *address,
		  void (*found)(struct rt_channel *channel, const struct rpc_name *name,
				char *const *addresses, size_t count))
{
	struct rpc_name *name = rt_alloc(sizeof(*name));
	size_t host = strcspn(address, ":");

	name->channel = channel;
	name->found = found;
	name->host = rt_strndup(address, host);
	name->port = rt_strdup(address + host + 1);
	name->next = channel->names;
	channel->names = name;
	rt_timer_start(channel->loop, &name->timer, 0, look_up);
}

bool rpc_names_stop(struct rt_channel *channel, void (*stopped)(struct rt_channel *channel))
{
	bool none = true;

	channel->names_stopped = stopped;
	for (struct rpc_name *name = channel->names; name != NULL; name = name->next) {
		struct lookup *lookup = name->lookup;

		rt_timer_stop(channel->loop, &name->timer);
		if (lookup == NULL)
			continue;
		pthread_mutex_lock(&lookup->lock);
		if (lookup->posted) {
			none = false;
		} else {
			lookup->name = NULL;
			name->lookup = NULL;
		}
		pthread_mutex_unlock(&lookup->lock);
	}
	return none;
}

const char *rpc_name_host(const struct rpc_name *name)
{
	return name->host;
}

const struct rpc_name *rpc_names_unknown(const struct rt_channel *channel)
{
	for (const struct rpc_name *name = channel->names; name != NULL; name = name->next)
		if (!name->looked_up)
			return name;
	return NULL;
}

char *rpc_name_address(const struct rpc_name *name)
{
	return rt_printf("%s:%s", name->host, name->port);
}

void rpc_names_free(struct rt_channel *channel)
{
	while (channel->names != NULL) {
		struct rpc_name *name = channel->names;

		channel->names = name->next;
		free(name->host);
		free(name->port);
		free(name);
	}
}
