/* context.h - what the mains of the contexts share: a context keeps its state in Redis, publishes
 * a stream of its own and listens to another's.
 *
 * Its settings struct holds a struct rt_context_settings, its table RT_CONTEXT_SETTINGS. */
#ifndef RT_CONTEXT_H
#define RT_CONTEXT_H

#include "events/events.h"
#include "redis/redis.h"
#include "service.h"

#define RT_CONTEXT_PARTITION 0 /* the {p} of the keys; docs/decisions/005 */

struct rt_context_settings {
	struct rt_redis_settings redis;
	int64_t trim_every_ms, retain_ms, retain_count, ghost_ms;
	int64_t read_count_max, in_flight_max, parked_max, deliveries_max;
	int64_t event_retry_min_ms, event_retry_max_ms, claim_idle_ms, claim_every_ms;
	int64_t consumer_idle_ms;
};
#define RT_DAY_MS INT64_C(86400000)
#define RT_CONTEXT_SETTINGS(settings_type, member, redis_user)                                     \
	RT_REDIS_SETTINGS(settings_type, member.redis, redis_user),                                \
		{ "trim-every",                                                                    \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.trim_every_ms),                                   \
		  "5s",                                                                            \
		  100,                                                                             \
		  RT_DAY_MS,                                                                       \
		  "How often the own event stream is trimmed." },                                  \
		{ "retain",                                                                        \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.retain_ms),                                       \
		  "1h",                                                                            \
		  0,                                                                               \
		  365 * RT_DAY_MS,                                                                 \
		  "Events that every group has acknowledged are kept for so long …" },             \
		{ "retain-count",                                                                  \
		  RT_SETTING_INT,                                                                  \
		  offsetof(settings_type, member.retain_count),                                    \
		  "100000",                                                                        \
		  0,                                                                               \
		  INT64_C(1000000000),                                                             \
		  "… and at most so many of them." },                                              \
		{ "ghost-after",                                                                   \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.ghost_ms),                                        \
		  "10m",                                                                           \
		  1000,                                                                            \
		  365 * RT_DAY_MS,                                                                 \
		  "A group whose consumers have been gone for so long is reported." },             \
		{ "read-count",                                                                    \
		  RT_SETTING_INT,                                                                  \
		  offsetof(settings_type, member.read_count_max),                                  \
		  "256",                                                                           \
		  1,                                                                               \
		  10000,                                                                           \
		  "Events in one read of the other context's stream." },                           \
		{ "events-in-flight",                                                              \
		  RT_SETTING_INT,                                                                  \
		  offsetof(settings_type, member.in_flight_max),                                   \
		  "1024",                                                                          \
		  1,                                                                               \
		  1000000,                                                                         \
		  "Events being handled; reading stops there." },                                  \
		{ "events-parked",                                                                 \
		  RT_SETTING_INT,                                                                  \
		  offsetof(settings_type, member.parked_max),                                      \
		  "4096",                                                                          \
		  1,                                                                               \
		  1000000,                                                                         \
		  "Events waiting for a retry, or behind one; reading stops there." },             \
		{ "deliveries-max",                                                                \
		  RT_SETTING_INT,                                                                  \
		  offsetof(settings_type, member.deliveries_max),                                  \
		  "8",                                                                             \
		  1,                                                                               \
		  1000,                                                                            \
		  "An event that failed so often goes to the dead letters." },                     \
		{ "event-retry-min",                                                               \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.event_retry_min_ms),                              \
		  "100ms",                                                                         \
		  1,                                                                               \
		  RT_DAY_MS,                                                                       \
		  "An event that failed is tried again after so long; doubles." },                 \
		{ "event-retry-max",                                                               \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.event_retry_max_ms),                              \
		  "10s",                                                                           \
		  1,                                                                               \
		  RT_DAY_MS,                                                                       \
		  "The longest pause between two tries of an event." },                            \
		{ "claim-idle",                                                                    \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.claim_idle_ms),                                   \
		  "15s",                                                                           \
		  100,                                                                             \
		  RT_DAY_MS,                                                                       \
		  "Events that another consumer has held for so long are taken over." },           \
		{ "claim-every",                                                                   \
		  RT_SETTING_DURATION,                                                             \
		  offsetof(settings_type, member.claim_every_ms),                                  \
		  "5s",                                                                            \
		  50,                                                                              \
		  RT_DAY_MS,                                                                       \
		  "How often such events are looked for." },                                       \
	{                                                                                          \
		"consumer-idle", RT_SETTING_DURATION,                                              \
			offsetof(settings_type, member.consumer_idle_ms), "1h", 1000,              \
			365 * RT_DAY_MS,                                                           \
			"Consumers that have been gone for so long and hold nothing are removed."  \
	}

/* The connection the settings ask for. `name` and `password` are borrowed as long as the result. */
struct rt_redis_options rt_context_redis(const struct rt_context_settings *settings,
					 const char *name, const char *password);
/* How to consume `stream`; on_event and user_data are left to the caller. */
struct rt_events_options rt_context_events(const struct rt_context_settings *settings,
					   const char *stream, struct rt_metrics *metrics);
/* The subscription of the functions' context to `stream`: a group of the context's name, a consumer
 * name that is this process's alone and ends in "@" and the version of the functions. */
int rt_context_source(struct rt_loop *loop, const struct rt_functions *functions,
		      const char *stream, const struct rt_redis_options *redis,
		      struct rt_redis *commands, struct rt_stream_source **ret);

#endif
