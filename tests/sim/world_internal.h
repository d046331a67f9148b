/* world_internal.h - what the files of the world share. */
#ifndef WORLD_INTERNAL_H
#define WORLD_INTERNAL_H

#include "world.h"

enum role { ROLE_ORDER, ROLE_INVENTORY, ROLE_GATEWAY, ROLES };

/* A service's process, alive or dead. */
struct process {
	struct rt_list link; /* world->processes */
	struct world *world;
	enum role role;
	char name[24];     /* "order-1" */
	char consumer[32]; /* "order-1.3": the third process in this place */
	int place;
	bool dead, stopped;
	unsigned calls; /* in progress */
	struct rt_task end;
	struct memory_host host;    /* its connections to Redis */
	struct rt_context *context; /* of an order or inventory service */
	struct order *order;
	struct inventory *inventory;
	struct gateway *gateway;
	ProtobufCService *to_order, *to_placement, *to_inventory; /* a gateway's clients */
};

/* A service as its clients reach it: calls go to the processes that are alive, in turn. */
struct route {
	ProtobufCService service; /* first */
	struct world *world;
	enum role role;
	unsigned turn;
};

/* A stream of events. */
struct world_stream {
	char name[32];     /* "order:{0}:events" */
	const char *group; /* that reads it */
	/* How far it was read, for the transcript and world_check_event. */
	struct memory_id watched;
	uint64_t watched_life;
};

struct world_client;
struct booked;
struct adjusted;
struct seen_event;
struct some_order;

/* A master of Redis. */
struct world_master {
	struct world *world;
	struct rt_timer timer;          /* the failover, while its replica lags */
	int64_t lags_since_ms, lost_ms; /* the latest failover that lost something; loop time */
	uint64_t seen_before;           /* world->seen_count when the lag began */
};

struct world {
	struct world_options options;
	struct rt_loop *loop;
	struct memory_redis *redis;
	struct rt_list processes;
	unsigned started[ROLES][WORLD_INSTANCES];
	struct route order_route, placement_route, inventory_route;
	struct route gateway_order_route, gateway_inventory_route;
	struct route_call *route_calls;
	bool calm;
	enum world_nth nth_kind;
	unsigned nth, io_count;
	bool nth_hit;
	struct world_counts counts;
	struct rt_buf transcript, violations;
	unsigned violation_count;
	struct world_stream streams[3 * WORLD_PARTITIONS];
	size_t stream_count;
	uint64_t checked; /* redis->writes at the last world_check_now */
	struct seen_event *seen;
	uint64_t seen_count;          /* ever */
	struct some_order *forgotten; /* the refusals */
	struct {                      /* world_low.c, of each SKU */
		bool is, due;
	} low[WORLD_SKUS];
	/* world_loss.c */
	struct world_master masters[MEMORY_MASTERS_MAX];
	struct rt_timer loss_timer; /* until the next replica lags */
	struct some_order *named;   /* a service has logged that something is missing */
	/* world_clients.c */
	ProtobufCService *orders, *stock; /* what the clients call */
	struct rt_list clients;
	struct booked *booked;
	struct adjusted *adjusted;
	unsigned client_count;
	/* world_archive.c */
	struct rt_timer archive_timer;
	unsigned archive_eager;     /* of so many settled orders it has one at a time */
	unsigned archive_left;      /* how often it looks once it is calm */
	struct some_order *dropped; /* orders that were said to be */
	/* Those that ever were: a failover may have brought them back. */
	struct some_order *dropped_once;
	bool archive_waits; /* for some of them to be dropped again */
	char archived[8][ORDER_ID_LENGTH +
			 24]; /* what it said last, by chance: "<order id>/<version>" */
	bool order_events_lost;
	/* world_chaos.c */
	struct rt_timer chaos_timer, redis_timer;
	bool redis_away;
	struct rt_list held_back;
	unsigned poison_count;
};

extern const char *const world_skus[WORLD_SKUS];
extern const char *const world_unknown_sku; /* of which there never is stock */

/* ---- world.c ---- */

/* The index of a SKU in world_skus. */
size_t world_sku(const char *sku);
uint64_t world_roll(struct world *world, uint64_t bound);
bool world_chance(struct world *world, unsigned in_10000); /* never when calm */
void world_say(struct world *world, const char *format, ...) RT_PRINTF(2, 3);
void world_violation(struct world *world, const char *format, ...) RT_PRINTF(2, 3);
/* The first letters of an order id; two buffers in turn. */
const char *world_short(const char *order_id);
void world_kill(struct process *process, const char *why);
struct process *world_start(struct world *world, enum role role, int place);
/* One that is alive, or NULL. */
struct process *world_some_process(struct world *world);

/* ---- world_bugs.c ---- */

void world_plant(struct world *world, enum world_bug bug);

/* ---- world_clients.c ---- */

void world_clients_open(struct world *world);
void world_clients_close(struct world *world);
void world_clients_start(struct world *world, unsigned count);
/* Nothing fails any more: each finishes what it does, and does little else, since that shows little. */
void world_clients_calm(struct world *world);
bool world_clients_idle(const struct world *world);

/* What a client was answered about an order of its own. */
struct booked {
	struct booked *next;
	char order_id[ORDER_ID_LENGTH + 1], customer[16], request_id[32];
	struct inventory_line lines[3];
	size_t line_count;
	bool confirmed, cancelled;
	uint64_t returned[3]; /* of each line, how many came back */
	bool returns_unsure;  /* some of it was perhaps lost, or nobody learned what became of it */
	int64_t returned_ms;
	uint64_t version;      /* the highest it saw */
	int64_t hold_ms;       /* as it was ordered */
	int64_t held_until_ms; /* the latest end of its hold that it saw, unix; 0: none */
	/* When it learned that; and whether the order may have been lost since. */
	int64_t booked_ms, ended_ms, version_ms, held_ms;
	bool may_be_lost;
};

/* An adjustment. */
struct adjusted {
	struct adjusted *next;
	size_t sku;
	int64_t delta, ms; /* when a client learned of it */
	/* It was refused after an earlier try was lost, which may have taken effect; or it may have been lost. */
	bool maybe;
};

/* ---- world_chaos.c ---- */

struct world_plan world_random_plan(struct world *world);
void world_chaos_start(struct world *world);
void world_chaos_stop(struct world *world);
/* For a while. */
void world_stand_still(struct process *process);
bool world_chaos_idle(const struct world *world);
void world_chaos_close(struct world *world);
/* What is held back is lost if its stream does not reach to it any more. */
void world_chaos_lost(struct world *world, int master);

/* ---- world_archive.c ---- */

void world_archive_start(struct world *world);
void world_archive_calm(struct world *world);
void world_archive_stop(struct world *world);
bool world_archive_idle(const struct world *world);
/* Whether it is an order that never was. */
bool world_is_made_up(const char *order_id);

/* ---- world_loss.c ---- */

/* Orders, by id. */
bool world_is_among(const struct some_order *orders, const char *order_id);
void world_add_to(struct some_order **orders, const char *order_id);
void world_empty(struct some_order **orders);

void world_loss_open(struct world *world);
void world_loss_close(struct world *world);
/* From now on masters fail over, if that is planned. */
void world_loss_start(struct world *world);
/* Every replica has everything. */
void world_loss_stop(struct world *world);
/* Whether the partition's master has lost something since then. */
bool world_has_lost(const struct world *world, int partition, int64_t since_ms);
int world_sku_partition(const struct world *world, size_t sku);
/* Something is missing for this order, and a service has said so. */
bool world_is_named(const struct world *world, const char *order_id);
/* Nothing more becomes of the order: its stock is lost, and a person decides. */
bool world_is_left(const struct world *world, const char *order_id);
/* Why records and parts are not brought together yet; NULL: they are. */
const char *world_out_of_step(struct world *world);

/* ---- world_low.c ---- */

/* A command has changed something; `user` is the world. */
void world_low_step(void *user, const struct memory_text *argv);
/* A StockLow that did not come before. */
void world_low_event(struct world *world, const char *sku, const struct rt_entry_event *event);
/* What this master's replica did not have is lost. */
void world_low_lost(struct world *world, int master);

/* ---- world_check.c ---- */

/* Checks what must always hold. */
void world_check_now(struct world *world);
/* A new entry in a stream. */
void world_check_event(struct world *world, const char *stream, const struct rt_entry_event *event);
/* An answer that Redis has just given. */
void world_check_answer(struct world *world, const struct memory_io *io);
/* A line of the transcript. */
void world_say_event(struct world *world, const char *who, const struct rt_entry_event *event,
		     bool with_attempt);
/* An order's reservation was deleted: inventory's events of the order begin again. */
void world_check_forget(struct world *world, const char *order_id);
/* What was added to the streams of this master since then is lost. */
void world_check_lost(struct world *world, int master, uint64_t seen_before);
void world_check_done(struct world *world);
/* Why it is not quiet; NULL when it is. Valid until the next call. */
const char *world_unrest(struct world *world);

#endif
