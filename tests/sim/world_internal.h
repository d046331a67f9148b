/* world_internal.h - what the files of the world share. */
#ifndef WORLD_INTERNAL_H
#define WORLD_INTERNAL_H

#include "world.h"

#define WORLD_MAYBE 8

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
struct seen_event;
struct forgotten;

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
	struct world_stream streams[2 * WORLD_PARTITIONS];
	size_t stream_count;
	uint64_t checked; /* redis->writes at the last world_check_now */
	struct seen_event *seen;
	struct forgotten *forgotten;
	/* world_clients.c */
	ProtobufCService *orders, *stock; /* what the clients call */
	struct rt_list clients;
	struct booked *booked;
	int64_t received[WORLD_SKUS]; /* the sum of the adjustments that were confirmed */
	/* Adjustments that were refused after an earlier try was lost: that one may have taken
	 * effect. */
	struct {
		size_t sku;
		int64_t delta;
	} maybe[WORLD_MAYBE];
	unsigned maybe_count;
	unsigned client_count;
	/* world_chaos.c */
	struct rt_timer chaos_timer, redis_timer;
	bool redis_away;
	struct rt_list held_back;
	unsigned poison_count;
};

extern const char *const world_skus[WORLD_SKUS];

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

void world_plant(struct memory_redis *redis, enum world_bug bug);

/* ---- world_clients.c ---- */

void world_clients_open(struct world *world);
void world_clients_close(struct world *world);
void world_clients_start(struct world *world, unsigned count);
bool world_clients_idle(const struct world *world);

/* What a client was answered about an order of its own. */
struct booked {
	struct booked *next;
	char order_id[ORDER_ID_LENGTH + 1], customer[16], request_id[32];
	struct inventory_line lines[3];
	size_t line_count;
	bool confirmed, cancelled;
	uint64_t version; /* the highest it saw */
};

/* ---- world_chaos.c ---- */

struct world_plan world_random_plan(struct world *world);
void world_chaos_start(struct world *world);
void world_chaos_stop(struct world *world);
bool world_chaos_idle(const struct world *world);
void world_chaos_close(struct world *world);

/* ---- world_check.c ---- */

/* Checks what must always hold. */
void world_check_now(struct world *world);
/* A new entry in a stream. */
void world_check_event(struct world *world, const char *stream, const struct rt_entry_event *event);
/* A line of the transcript. */
void world_say_event(struct world *world, const char *who, const struct rt_entry_event *event,
		     bool with_attempt);
/* An order's reservation was deleted: inventory's events of the order begin again. */
void world_check_forget(struct world *world, const char *order_id);
void world_check_done(struct world *world);
/* Why it is not quiet; NULL when it is. Valid until the next call. */
const char *world_unrest(struct world *world);

#endif
