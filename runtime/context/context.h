/* context.h - a context: a service that keeps its state in Redis, publishes streams of events of its
 * own, and subscribes to those of other contexts.
 *
 * Its data lies in partitions (docs/decisions/029): keys with the same {p} are in one slot, and a step is atomic
 * within it. A partition has its own store, its own stream of events, and reads the streams of the same number.
 *
 * Each context describes itself in a table, struct rt_context_domain. Everything else is here: the
 * connection and the functions, the subscriptions, the trimming of the own streams, waiting for what is
 * under way before it ends; and for the program the settings, readiness and main.
 *
 *   rt_context_run (main)        rt_context_new (tests, simulation)
 *     settings, service            stores → domain->make → a source for each subscription and partition
 *     rt_context_start             subscriptions read; every trim_every_ms the own streams are trimmed
 *     … SIGTERM → domain->drain
 *     rt_context_stop              subscriptions and trimming end; domain->stop;
 *                                  when nothing is held any more: stopped
 *     rt_context_free              subscriptions, domain->free, store
 *
 * Threads: loop thread only. */
#ifndef RT_CONTEXT_H
#define RT_CONTEXT_H

#include <protobuf-c/protobuf-c.h>

#include "base/base.h"
#include "events/events.h"
#include "redis/redis.h"
#include "service/service.h"

#define RT_CONTEXT_SUBSCRIPTIONS_MAX 4
#define RT_DAY_MS                    INT64_C(86400000)

struct rt_context;
struct rt_partition;

/* What a context listens to; its consumer group has the name of the context that reads. */
struct rt_context_subscription {
	const char *context;         /* whose events: "inventory"; NULL: the table's end */
	rt_events_handler *on_event; /* its user is what `make` made */
};

struct rt_context_domain {
	const char *name; /* "order": its keys begin with it, its Redis user is called so */
	const struct rt_functions *functions;
	struct rt_context_subscription subscriptions[RT_CONTEXT_SUBSCRIPTIONS_MAX + 1];
	/* A group of its stream that may be left behind, when it holds more than options.follower_max events; NULL:
	 * none. */
	const char *follower;
	/* Makes the domain's own object, *ret_data, from its own options. What is written so far is
	 * freed with `free` when it fails. */
	int (*make)(struct rt_context *context, const void *options, void **ret_data);
	/* Its gRPC services, by number; NULL behind the last. */
	ProtobufCService *(*service)(void *data, size_t number);
	void (*start)(void *data); /* these may be NULL */
	/* The partition's own stream was trimmed: its `trim` says what of it is held, and by whom. */
	void (*on_trimmed)(void *data, const struct rt_partition *partition);
	/* Why storage takes nothing new, for a person; false: it does. */
	bool (*storage_problem)(const void *data, char *text, size_t size);
	/* The service is asked to end: calls that would last are ended. */
	void (*drain)(void *data);
	/* Ends what would go on by itself; what takes time is held (rt_context_hold). */
	void (*stop)(void *data);
	void (*free)(void *data); /* takes what a failed `make` left */
};

struct rt_context_options {
	const struct rt_redis_options *redis; /* its connections are made from it; borrowed */
	struct rt_events_options events; /* of each subscription; name and handler are set here */
	const char *consumer;            /* its name in the groups; NULL: one that is unique */
	int partition_count;             /* a power of two up to RT_PARTITIONS_MAX; 0: 1 */
	int replicas;          /* that must have a step before it is answered OK; 0: none */
	int64_t trim_every_ms; /* 0: 5000 */
	int64_t retain_ms, retain_count; /* of the own stream (rt_trim_op) */
	int64_t stale_ms;                /* a group without a live consumer for so long is stale */
	int64_t follower_max;            /* events that domain->follower may hold; 0: any number */
	const void *domain_options;      /* for the domain's `make` */
	struct rt_metrics *metrics;      /* NULL: none */
	/* Deferred when rt_context_ready or its problem may have changed; or NULL. */
	struct rt_task *changed;
};

/* A domain's code may read these; only this folder's files write to them. */
struct rt_partition {
	struct rt_context *context;
	int number; /* the {p} of its keys */
	struct rt_store *store;
	struct rt_trim_op trim; /* the last one */
	/* This folder's alone. */
	struct rt_context_stream {
		char *name;
		struct rt_events *events;
	} streams[RT_CONTEXT_SUBSCRIPTIONS_MAX];
	size_t stream_count;
	struct rt_store_queue *trim_queue;
	struct rt_timer trim_timer;
	char stale_group[64]; /* the group that was last warned about */
	struct rt_series *stream_length, *stream_held, *trimmed, *stale; /* NULL without metrics */
};
struct rt_context {
	const struct rt_context_domain *domain;
	void *data; /* what the domain made */
	struct rt_loop *loop;
	struct rt_metrics *metrics;           /* NULL: none */
	const struct rt_redis_options *redis; /* for further connections; only while it is made */
	struct rt_partition *partitions;      /* by their number */
	int partition_count;
	bool begun; /* all partitions could be served once */
	bool stopping;
	int64_t trim_every_ms;
	/* This folder's alone. */
	size_t holds;
	struct rt_task stop_task;
	void (*stopped)(void *user);
	void *stopped_user;
};

int rt_context_new(struct rt_loop *loop, const struct rt_context_domain *domain,
		   const struct rt_context_options *options, struct rt_context **ret);
void rt_context_start(struct rt_context *context);
/* It can serve: the functions are there and every subscription is read. At first in all partitions; later it is enough
 * that it can serve one, since all others of its kind have the same trouble with the rest. */
bool rt_context_ready(struct rt_context *context);
/* How many partitions can be served. */
int rt_context_served(const struct rt_context *context);
/* What waits because of an outage in this partition is handled now (rt_events_outage_over). */
void rt_context_outage_over(struct rt_context *context, int partition);
/* Why it is not ready: a store's problem, for a person; or a stream that is not read, "inventory:{0}:events". NULL:
 * it is not that. */
const char *rt_context_problem(struct rt_context *context);
const char *rt_context_unread(struct rt_context *context);
/* What Redis answered that keeps a partition from being served, for a person; NULL: nothing. */
const char *rt_context_refusal(const struct rt_context *context);
/* The data in Redis was begun with another number of partitions: this context will never serve it. */
bool rt_context_mismatch(const struct rt_context *context);
/* `stopped` runs once, when nothing is under way, and never before this returns. */
void rt_context_stop(struct rt_context *context, void (*stopped)(void *user), void *user);
void rt_context_free(
	struct rt_context *context); /* before the start, or after stopped; takes NULL */

/* Something waits for the store, and no longer does: the context does not stop in between. */
void rt_context_hold(struct rt_context *context);
void rt_context_release(struct rt_context *context);

/* ---- the program ---- */

/* Settings that every context has. The program's own struct begins with it. */
struct rt_context_settings {
	struct rt_service_settings service; /* first */
	struct rt_redis_settings redis;
	int64_t partitions;
	char *durability;
	int64_t trim_every_ms, retain_ms, retain_count, stale_ms, follower_max;
	int64_t read_count_max, in_flight_max, parked_max, deliveries_max;
	int64_t event_retry_min_ms, event_retry_max_ms, claim_idle_ms, claim_every_ms;
	int64_t consumer_idle_ms;
};

struct rt_context_program {
	const struct rt_context_domain *domain;
	const char *about;                        /* one sentence for --help */
	const char *listen, *admin_listen;        /* defaults */
	unsigned int (*access)(const char *path); /* as in struct rt_server_options */
	const struct rt_setting *settings; /* its own, added to the common ones; NULL: none */
	size_t settings_size;              /* of the struct they point into */
	size_t options_offset;             /* in it: what the domain's `make` is given */
	/* What its table cannot check; logs which setting is wrong. NULL: nothing. */
	bool (*settings_good)(const void *settings);
};
/* The whole life of the program; returns the exit code. */
int rt_context_run(const struct rt_context_program *program, int argc, char **argv);

#endif
