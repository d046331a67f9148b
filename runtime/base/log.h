/* log.h - one line per message.
 *
 *   RT_LOG(RT_INFO, "order placed", RT_S("order_id", id), RT_I("version", 1));
 *   2026-11-23T01:02:03.004Z info order placed order_id=ord_… version=1
 *   {"time":"…","level":"info","service":"order","msg":"order placed","order_id":"…","version":1}
 *
 * Goes to stderr, one write(2) a line, any thread; blocks while stderr is full, unless
 * rt_log_never_wait was called. Values are escaped; a line is cut at 4 KiB.
 * Libraries return, services log: runtime code logs only what it cannot return to a caller. */
#ifndef RT_LOG_H
#define RT_LOG_H

#include "metrics.h"
#include "rt.h"

enum rt_log_level { RT_ERROR, RT_WARN, RT_INFO, RT_DEBUG };

struct rt_kv {
	const char *key;
	enum { RT_KV_STRING, RT_KV_INT } kind;
	const char *string; /* NULL is written as - */
	int64_t integer;
};
#define RT_S(k, v) ((struct rt_kv){ .key = (k), .kind = RT_KV_STRING, .string = (v) })
#define RT_I(k, v) ((struct rt_kv){ .key = (k), .kind = RT_KV_INT, .integer = (int64_t)(v) })

/* Logs a message with any number of RT_S, RT_I. Costs one comparison when the level is off. */
#define RT_LOG(level, ...)                                                                         \
	do {                                                                                       \
		if (rt_log_on(level))                                                              \
			RT_LOG_(level, __VA_ARGS__, RT_S(NULL, NULL));                             \
	} while (0)
#define RT_LOG_(level, msg, ...) rt_log_write(level, msg, (const struct rt_kv[]){ __VA_ARGS__ })

/* Set once at start. `service` must stay valid. */
void rt_log_init(const char *service, enum rt_log_level level, bool json);
/* Sends lines to `sink` instead of stderr (tests); NULL: back to stderr. */
void rt_log_sink(void (*sink)(const char *line, void *user), void *user);
/* From now on a line that stderr has no room for is dropped and counted in `dropped` (NULL: only in
 * the line that says so, once there is room). First at the start, before other threads log; again
 * with NULL before the series goes. */
void rt_log_never_wait(struct rt_series *dropped);
/* Writes what is left: the rest of a line, how many were dropped. Waits at most `wait_ms` for room. True:
 * nothing is left. For a tick, and before the end of the process. */
bool rt_log_flush(int64_t wait_ms);
bool rt_log_on(enum rt_log_level level);
/* `kv` ends with a NULL key. */
void rt_log_write(enum rt_log_level level, const char *msg, const struct rt_kv *kv);
/* "error", "warn", "info", "debug". */
bool rt_log_level_parse(const char *text, enum rt_log_level *ret);

#endif
