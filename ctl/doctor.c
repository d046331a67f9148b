/* doctor.c - tandemctl doctor: checks what Tandem needs: Redis, users, functions, groups, services.
 * Prints a line for each check: ok, warn (it works, but look at it) or bad (a promise does not hold),
 * with the fix. */
#include <grpc/health/v1/health.pb-c.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "loop/loop.h"
#include "scrape.h"

#define STALE_MS   600000 /* as the services' stale-group-after */
#define LAG_WARN   10000
#define ASIDE_MS   60000   /* a failing event becomes a dead letter sooner, except in an outage */
#define LENGTH_MAX 1000000 /* as the order service's stream-length-max */

enum level { OK, WARN, BAD, UNCHECKED, LEVELS };

struct doctor {
	struct ctl *ctl;
	size_t count[LEVELS];
	bool brief; /* what is right is counted, not shown */
};

static void RT_PRINTF(5, 6) say(struct doctor *doctor, enum level level, const char *check,
				const char *fix, const char *format, ...)
{
	static const char *const levels[] = { "ok", "warn", "bad", "unchecked" };
	const struct ctl_node *node = ctl_is_cluster(doctor->ctl) ? doctor->ctl->on : NULL;
	char detail[512];
	char *shown_check, *shown_detail;
	int length = 0;
	va_list args;

	if (node != NULL && !doctor->ctl->json)
		length = snprintf(detail, sizeof(detail), "%.200s:%d: ", node->host, node->port);
	va_start(args, format);
	vsnprintf(detail + length, sizeof(detail) - (size_t)length, format, args);
	va_end(args);
	doctor->count[level]++;
	if (level == OK && doctor->brief)
		return;
	if (doctor->ctl->json) {
		json_t *json = json_pack("{s:o, s:s, s:o}", "check", ctl_json_text(check), "result",
					 levels[level], "detail", ctl_json_text(detail));

		if (node != NULL)
			json_object_set_new(json, "node",
					    json_sprintf("%s:%d", node->host, node->port));
		if (level != OK)
			json_object_set_new(json, "fix", json_string(fix));
		ctl_json_print(json);
		return;
	}
	shown_check = rt_text_shown(check, strlen(check));
	shown_detail = rt_text_shown(detail, strlen(detail));
	printf("%-9s  %-22s %s\n", levels[level], shown_check, shown_detail);
	if (level != OK)
		printf("%35s-> %s\n", "", fix);
	free(shown_check);
	free(shown_detail);
}

/* ---- Redis itself ---- */

/* Copies a field of INFO's text into `value`. */
static void info_field(const redisReply *info, const char *name, char *value, size_t size)
{
	const char *line = ctl_text(info, "");
	size_t length = strlen(name);

	value[0] = '\0';
	for (; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, length) == 0 && line[length] == ':') {
			snprintf(value, size, "%.*s", (int)strcspn(line + length + 1, "\r\n"),
				 line + length + 1);
			return;
		}
		if (*line == '\0')
			return;
	}
}

/* A replica's link to its master. */
static void check_replica(struct doctor *doctor, const redisReply *info)
{
	char link[16];

	info_field(info, "master_link_status", link, sizeof(link));
	say(doctor, strcmp(link, "up") == 0 ? OK : WARN, "redis role",
	    "its log says why it cannot follow: the rights of the user replica, or the network",
	    "replica, its link to the master is %s", link);
}

/* A master of a cluster, and how many replicas follow it. */
static void check_master(struct doctor *doctor, const redisReply *info)
{
	char replicas[16];

	info_field(info, "connected_slaves", replicas, sizeof(replicas));
	say(doctor, strcmp(replicas, "0") != 0 ? OK : WARN, "redis role",
	    "start its replica: without one the partitions here are away while this master is",
	    "master with %s replicas", replicas);
}

static bool check_info(struct doctor *doctor)
{
	redisReply *info = ctl_redis(doctor->ctl, "INFO");
	char version[32], role[32], written[32], used[32], most[32];
	int64_t used_bytes = 0, most_bytes = 0;

	if (info == NULL)
		return false;
	info_field(info, "redis_version", version, sizeof(version));
	info_field(info, "role", role, sizeof(role));
	info_field(info, "aof_last_write_status", written, sizeof(written));
	info_field(info, "used_memory", used, sizeof(used));
	info_field(info, "maxmemory", most, sizeof(most));
	if (ctl_is_cluster(doctor->ctl)) {
		if (strcmp(role, "master") == 0)
			check_master(doctor, info);
		else
			check_replica(doctor, info);
	}
	freeReplyObject(info);
	(void)rt_parse_int(used, 0, INT64_MAX, &used_bytes);
	(void)rt_parse_int(most, 0, INT64_MAX, &most_bytes);
	if (!ctl_is_cluster(doctor->ctl) && strcmp(role, "master") != 0)
		say(doctor, BAD, "redis role",
		    "point the services at the master, or REPLICAOF NO ONE",
		    "%s: it accepts no writes", role);
	else if (!ctl_is_cluster(doctor->ctl))
		say(doctor, OK, "redis role", "", "master");
	say(doctor, strtol(version, NULL, 10) >= 7 ? OK : BAD, "redis version",
	    "Tandem's functions need Redis 7", "%s", version);
	if (strcmp(written, "ok") != 0)
		say(doctor, BAD, "redis writes",
		    "look at Redis's log, the disk may be full; Redis refuses writes until it "
		    "can "
		    "append",
		    "the last write of the append-only file: %s", written);
	else
		say(doctor, OK, "redis writes", "", "the last write of the append-only file: ok");
	if (most_bytes == 0)
		say(doctor, WARN, "redis memory",
		    "set maxmemory: without it the kernel kills Redis when memory runs out",
		    "%" PRId64 " MiB used, no limit", used_bytes >> 20);
	else
		say(doctor, used_bytes < most_bytes / 10 * 9 ? OK : WARN, "redis memory",
		    "raise maxmemory, or delete settled orders: at the limit new orders are "
		    "refused",
		    "%" PRId64 " of %" PRId64 " MiB used", used_bytes >> 20, most_bytes >> 20);
	return true;
}

static const struct {
	const char *name, *wanted, *or_else; /* or_else: also good; NULL: only `wanted` is */
	enum level level;
	const char *fix;
} redis_settings[] = {
	{ "appendonly", "yes", NULL, BAD,
	  "CONFIG SET appendonly yes: without it a restart forgets everything" },
	{ "appendfsync", "everysec", "always", BAD,
	  "CONFIG SET appendfsync everysec: with no, a power cut may lose half a minute" },
	{ "aof-load-truncated", "no", NULL, BAD,
	  "CONFIG SET aof-load-truncated no: else writes after a torn transaction are lost at the "
	  "next start" },
	{ "maxmemory-policy", "noeviction", NULL, BAD,
	  "CONFIG SET maxmemory-policy noeviction: else Redis deletes orders to make room" },
	{ "save", "", NULL, WARN,
	  "CONFIG SET save \"\": snapshots cost memory and add nothing to the append-only file" },
};

static bool check_settings(struct doctor *doctor)
{
	for (size_t i = 0; i < RT_LENGTH(redis_settings); i++) {
		const char *name = redis_settings[i].name, *or_else = redis_settings[i].or_else;
		redisReply *reply = ctl_redis(doctor->ctl, "CONFIG", "GET", name);
		const char *value;
		bool good;

		if (reply == NULL)
			return false;
		value = ctl_text(ctl_named(reply, name), "?");
		good = strcmp(value, redis_settings[i].wanted) == 0 ||
		       (or_else != NULL && strcmp(value, or_else) == 0);
		say(doctor, good ? OK : redis_settings[i].level, name, redis_settings[i].fix, "%s",
		    value[0] == '\0' ? "(nothing)" : value);
		freeReplyObject(reply);
	}
	return true;
}

/* Reports each connection whose name says that its machine's clock is wrong
 * (runtime/redis/server_clock.c). */
static size_t check_service_clocks(struct doctor *doctor, const char *clients)
{
	size_t wrong = 0;

	for (const char *at = clients; (at = strstr(at, " name=")) != NULL;) {
		int length = (int)strcspn(at += 6, " \n");
		const char *mark = memmem(at, (size_t)length, "@clock", 6);
		int64_t ahead_s = mark == NULL ? 0 : strtoll(mark + 6, NULL, 10);

		if (mark == NULL)
			continue;
		wrong++;
		say(doctor, WARN, "clock",
		    "set the clock of that machine by NTP: until then its logs show wrong times",
		    "%.*s: its machine is %" PRId64 " s %s Redis, whose time is used",
		    (int)(mark - at), at, ahead_s < 0 ? -ahead_s : ahead_s,
		    ahead_s < 0 ? "behind" : "ahead of");
	}
	return wrong;
}

static bool check_clock(struct doctor *doctor)
{
	redisReply *clients = ctl_redis(doctor->ctl, "CLIENT", "LIST");
	int64_t ahead_ms;
	size_t wrong;

	if (clients == NULL)
		return false;
	wrong = check_service_clocks(doctor, ctl_text(clients, ""));
	freeReplyObject(clients);
	ahead_ms = rt_wall_us() / 1000 - ctl_now_ms(doctor->ctl);
	if (ahead_ms > RT_CLOCK_WRONG_MS || ahead_ms < -RT_CLOCK_WRONG_MS)
		say(doctor, WARN, "clock", "set this machine's clock, or Redis's, by NTP",
		    "this machine is %" PRId64 " ms %s Redis", ahead_ms < 0 ? -ahead_ms : ahead_ms,
		    ahead_ms < 0 ? "behind" : "ahead of");
	else if (wrong == 0)
		say(doctor, OK, "clock", "",
		    "this machine and the services are within %d s of Redis, whose time is used",
		    RT_CLOCK_WRONG_MS / 1000);
	return true;
}

/* ---- users ---- */

#define RIGHT_STRINGS 8 /* at most */

/* Whether a user may run a command, by ACL DRYRUN; a missing user may run none. -1: Redis could not be
 * asked. */
static int is_allowed(struct doctor *doctor, const char *const *strings, size_t count)
{
	redisReply *reply = ctl_redis_strings(doctor->ctl, true, strings, count);
	int result;

	if (reply == NULL)
		return -1;
	result = reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0;
	freeReplyObject(reply);
	return result;
}

/* Counts the checks of what users may do. */
struct rights {
	struct doctor *doctor;
	size_t checked, wrong;
	bool lost; /* Redis could not be asked */
};

/* Checks that a user may run `command` (allowed) or may not; `format` says what is wrong when not. */
static RT_PRINTF(4, 5) void check_right(struct rights *rights, bool allowed,
					const char *const command[RIGHT_STRINGS],
					const char *format, ...)
{
	char what[160];
	size_t count = 0;
	va_list args;
	int found;

	if (rights->lost)
		return;
	while (count < RIGHT_STRINGS && command[count] != NULL)
		count++;
	found = is_allowed(rights->doctor, command, count);
	rights->lost = found < 0;
	rights->checked++;
	if (rights->lost || found == allowed)
		return;
	rights->wrong++;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	say(rights->doctor, BAD, "users", "scripts/lib/redis-open sets the users up again", "%s",
	    what);
}

#define COMMAND(...) ((const char *const[RIGHT_STRINGS]){ "ACL", "DRYRUN", __VA_ARGS__ })

static void check_own_rights(struct rights *rights, const char *user)
{
	char key[CTL_KEY];

	ctl_key(key, user, 0, "x");
	check_right(rights, true, COMMAND(user, "HSET", key, "a", "1"),
		    "%s cannot write its own keys", user);
	check_right(rights, false, COMMAND(user, "FLUSHALL"), "%s can delete everything", user);
	check_right(rights, false, COMMAND(user, "EVAL", "return 1", "0"),
		    "%s can run scripts of any kind", user);
	check_right(rights, false, COMMAND(user, "FUNCTION", "LOAD", "x"), "%s can load functions",
		    user);
	if (!ctl_is_cluster(rights->doctor->ctl))
		return;
	check_right(rights, true, COMMAND(user, "CLUSTER", "SLOTS"),
		    "%s cannot ask where the keys are", user);
	check_right(rights, false, COMMAND(user, "ASKING"),
		    "%s can write into a slot that is being migrated", user);
}

static void check_foreign_rights(struct rights *rights, const char *user, const char *other)
{
	char key[CTL_KEY], events[CTL_KEY];

	ctl_key(key, other, 0, "x");
	ctl_key(events, other, 0, "events");
	check_right(rights, false, COMMAND(user, "HSET", key, "a", "1"), "%s can write %s's keys",
		    user, other);
	check_right(rights, false, COMMAND(user, "DEL", key), "%s can delete %s's keys", user,
		    other);
	check_right(rights, false, COMMAND(user, "XADD", events, "*", "a", "1"),
		    "%s can publish events of %s", user, other);
}

/* The user as which services load their functions, when they are told to (docs/operating.md). */
static void check_deploy_rights(struct rights *rights)
{
	const char *set = getenv("TANDEM_REDIS_DEPLOY_USER");
	bool used = set != NULL && set[0] != '\0';
	const char *user = used ? set : "deploy";

	if (used)
		check_right(rights, true, COMMAND(user, "FUNCTION", "LOAD", "x"),
			    "%s cannot load functions, and services log in as it to do that", user);
	check_right(rights, false, COMMAND(user, "FUNCTION", "FLUSH"), "%s can delete functions",
		    user);
	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		const char *name = ctl_contexts[i].name;
		char key[CTL_KEY];

		ctl_key(key, name, 0, "x");
		check_right(rights, false, COMMAND(user, "HGET", key, "a"), "%s can read %s's keys",
			    user, name);
		check_right(rights, false, COMMAND(user, "HSET", key, "a", "1"),
			    "%s can write %s's keys", user, name);
		check_right(rights, false, COMMAND(user, "FCALL", "x", "1", key),
			    "%s can call functions on %s's keys", user, name);
	}
}

/* A user may add to a context's trail, and not take out of it. */
static void check_trail_rights(struct rights *rights, const char *user, const char *context)
{
	char key[CTL_KEY];

	ctl_key(key, context, 0, "trail");
	check_right(rights, true, COMMAND(user, "XADD", key, "*", "a", "1"),
		    "%s cannot add to %s's trail", user, context);
	check_right(rights, false, COMMAND(user, "XDEL", key, "1-1"),
		    "%s can delete entries of %s's trail", user, context);
	check_right(rights, false, COMMAND(user, "DEL", key), "%s can delete %s's trail", user,
		    context);
	check_right(rights, false, COMMAND(user, "XTRIM", key, "MAXLEN", "0"),
		    "%s can trim %s's trail", user, context);
}

static bool check_users(struct doctor *doctor)
{
	static const char *const viewers[] = { "default", "viewer" };
	struct rights rights = { .doctor = doctor };
	char key[CTL_KEY];

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		check_own_rights(&rights, ctl_contexts[i].name);
		check_trail_rights(&rights, ctl_contexts[i].name, ctl_contexts[i].name);
		check_trail_rights(&rights, "ops", ctl_contexts[i].name);
		for (size_t j = 0; j < CTL_CONTEXTS; j++)
			if (j != i)
				check_foreign_rights(&rights, ctl_contexts[i].name,
						     ctl_contexts[j].name);
	}
	for (size_t i = 0; i < CTL_READERS; i++) {
		const struct ctl_reader *pair = &ctl_readers[i];

		ctl_key(key, pair->of, 0, "events");
		check_right(&rights, true, COMMAND(pair->reader, "XACK", key, pair->reader, "1-1"),
			    "%s cannot acknowledge %s's events", pair->reader, pair->of);
	}
	check_deploy_rights(&rights);
	ctl_key(key, ctl_contexts[0].name, 0, "x");
	for (size_t i = 0; i < RT_LENGTH(viewers); i++) {
		check_right(&rights, false, COMMAND(viewers[i], "SET", key, "1"),
			    "the user %s can write", viewers[i]);
		check_right(&rights, false, COMMAND(viewers[i], "KEYS", "*"),
			    "the user %s can make Redis list all keys at once", viewers[i]);
		check_right(&rights, false, COMMAND(viewers[i], "CLIENT", "LIST"),
			    "the user %s can see who is connected", viewers[i]);
		check_right(&rights, false, COMMAND(viewers[i], "CONFIG", "GET", "*"),
			    "the user %s can see the settings", viewers[i]);
	}
	if (rights.lost)
		return false;
	if (rights.wrong == 0)
		say(doctor, OK, "users", "",
		    "each service writes its own keys and no others (%zu checks)", rights.checked);
	return true;
}

/* ---- functions ---- */

static void check_version(struct doctor *doctor, const char *context,
			  const struct ctl_version *version)
{
	char check[64];

	snprintf(check, sizeof(check), "functions of %s", context);
	if (version->instances > 0 && !version->loaded)
		say(doctor, BAD, check,
		    "tandemctl functions load, of the build that the instances run",
		    "%s_%s is not loaded%s, and %d instances call it", context, version->version,
		    version->nodes > 0 ? " on every master" : "", version->instances);
	else if (version->instances > 0)
		say(doctor, OK, check, "", "%s_%s, called by %d instances%s", context,
		    version->version, version->instances,
		    version->own ? "" : " of another build than this tandemctl");
	else if (version->nodes > 0 && !version->loaded)
		say(doctor, version->own ? BAD : WARN, check,
		    "tandemctl functions load puts them on every master",
		    "%s_%s is loaded on %d of the masters only", context, version->version,
		    version->nodes);
	else if (version->loaded && !version->own)
		say(doctor, WARN, check, "tandemctl functions prune removes it",
		    "%s_%s is loaded, and no instance calls it", context, version->version);
	else if (version->loaded)
		say(doctor, OK, check, "", "%s_%s is loaded, and no instance calls it", context,
		    version->version);
}

/* Checks each version that is loaded or called; at least one must be. */
static bool check_functions(struct doctor *doctor, const char *context)
{
	struct ctl_versions versions;
	bool any = false;

	if (!ctl_versions_read(doctor->ctl, context, &versions))
		return false;
	for (size_t i = 0; i < versions.count; i++) {
		check_version(doctor, context, &versions.list[i]);
		any = any || versions.list[i].nodes > 0 || versions.list[i].instances > 0;
	}
	if (!any) {
		char check[64];

		snprintf(check, sizeof(check), "functions of %s", context);
		say(doctor, BAD, check, "tandemctl functions load", "none are loaded");
	}
	return true;
}

/* ---- groups ---- */

/* How many events a group keeps from being trimmed: all from the first that it has not acknowledged.
 * -1: Redis could not be asked. */
static int64_t held_by(struct doctor *doctor, const char *key, const struct ctl_stream *stream,
		       const redisReply *name, int64_t lag)
{
	const char *const strings[] = { "XPENDING", key };
	redisReply *pending = ctl_redis_named(doctor->ctl, strings, RT_LENGTH(strings), name);
	int64_t held = lag;

	if (pending == NULL)
		return -1;
	if (pending->type == REDIS_REPLY_ARRAY && pending->elements >= 2 &&
	    ctl_text(pending->element[1], "")[0] != '\0') {
		held = ctl_stream_events_from(doctor->ctl, key, stream,
					      ctl_text(pending->element[1], ""));
		if (held >= 0)
			held = RT_MAX(lag, held);
	}
	freeReplyObject(pending);
	return held;
}

/* Whether orders are refused when the stream reaches a length. Only that of the order service:
 * inventory's events end orders, which must always be possible. */
static bool is_limited(const char *key)
{
	return strncmp(key, "order:", 6) == 0;
}

static int64_t length_max(const char *key)
{
	const char *set = getenv("TANDEM_ORDER_STREAM_LENGTH_MAX");
	int64_t max = LENGTH_MAX;

	if (is_limited(key) && set != NULL)
		(void)rt_parse_int(set, 1, INT64_MAX, &max);
	return max;
}

/* Whether the group is that of a context which reads the events of `of`. */
static bool is_reader(const char *name, const char *of)
{
	for (size_t i = 0; i < CTL_READERS; i++)
		if (strcmp(ctl_readers[i].of, of) == 0 && strcmp(ctl_readers[i].reader, name) == 0)
			return true;
	return false;
}

static bool is_read(const char *of)
{
	for (size_t i = 0; i < CTL_READERS; i++)
		if (strcmp(ctl_readers[i].of, of) == 0)
			return true;
	return false;
}

static bool check_group(struct doctor *doctor, const char *key, const struct ctl_stream *stream,
			const redisReply *group, bool expected)
{
	const redisReply *name = ctl_named(group, "name");
	int64_t pending = ctl_count(ctl_named(group, "pending")), lag, held, seen;
	char check[CTL_KEY], age[CTL_AGE] = "never", *shown;
	struct ctl_readers readers;

	/* A name may be any bytes. */
	if (name == NULL || name->str == NULL ||
	    !ctl_readers_read(doctor->ctl, key, name->str, name->len, &readers))
		return false;
	shown = rt_text_shown(name->str, name->len);
	snprintf(check, sizeof(check), "group %.100s", shown);
	free(shown);
	lag = ctl_stream_lag(doctor->ctl, key, stream,
			     ctl_text(ctl_named(group, "last-delivered-id"), "0-0"));
	held = lag < 0 ? -1 : held_by(doctor, key, stream, name, lag);
	if (held < 0)
		return false;
	seen = readers.seen_ms;
	if (seen >= 0)
		ctl_age(age, seen);
	if (held >= length_max(key) / 2)
		say(doctor, is_limited(key) && held >= length_max(key) ? BAD : WARN, check,
		    "let it read and acknowledge; or remove it: tandemctl groups remove; or "
		    "tandemctl groups exclude, then it may miss events",
		    is_limited(key) ? "of %s: it has not acknowledged %" PRId64
				      " events; at %" PRId64 " no order is accepted"
				    : "of %s: it has not acknowledged %" PRId64
				      " events (the warning begins at half of %" PRId64
				      "); the stream grows until Redis is full",
		    key, held, length_max(key));
	else if (!expected)
		say(doctor, seen >= 0 && seen <= STALE_MS ? OK : WARN, check,
		    "a stale group prevents trimming: tandemctl groups remove, or exclude",
		    "of %s, not one of Tandem's; last consumer seen %s ago, lag %" PRId64, key, age,
		    lag);
	else if (seen < 0 || seen > CTL_ABSENT_MS)
		say(doctor, WARN, check, "start the service (scripts/up): orders wait for it",
		    "of %s: no consumer reads (last seen: %s); lag %" PRId64 ", pending %" PRId64,
		    key, age, lag, pending);
	else
		say(doctor, lag < LAG_WARN ? OK : WARN, check,
		    "it is behind: look at its CPU and log, or start another instance",
		    "of %s: lag %" PRId64 ", pending %" PRId64 ", seen %s ago", key, lag, pending,
		    age);
	return true;
}

static bool has_group(const redisReply *groups, const char *name)
{
	for (size_t i = 0; i < groups->elements; i++)
		if (strcmp(ctl_text(ctl_named(groups->element[i], "name"), ""), name) == 0)
			return true;
	return false;
}

static bool check_stream(struct doctor *doctor, const char *context, int partition)
{
	struct ctl_stream stream;
	char key[CTL_KEY];
	redisReply *groups;
	bool good = true;

	ctl_key(key, context, partition, "events");
	if (!ctl_stream_read(doctor->ctl, key, &stream))
		return false;
	if (!stream.exists) {
		if (is_read(context))
			say(doctor, WARN, key,
			    "start the services: the first event or reader creates it",
			    "does not exist yet");
		return true;
	}
	say(doctor, OK, key, "", "%" PRId64 " entries, last %s", stream.length, stream.last);
	groups = ctl_redis(doctor->ctl, "XINFO", "GROUPS", key);
	if (groups == NULL)
		return false;
	for (size_t i = 0; i < groups->elements && good; i++) {
		const redisReply *group = groups->element[i];

		good = check_group(doctor, key, &stream, group,
				   is_reader(ctl_text(ctl_named(group, "name"), ""), context));
	}
	for (size_t i = 0; i < CTL_READERS && good; i++)
		if (strcmp(ctl_readers[i].of, context) == 0 &&
		    !has_group(groups, ctl_readers[i].reader))
			say(doctor, WARN, key,
			    "start the service: it creates the group again at its cursor",
			    "its group %s is missing", ctl_readers[i].reader);
	freeReplyObject(groups);
	return good;
}

/* Warns of events that a reader has set aside for long. */
static bool check_aside(struct doctor *doctor, const struct ctl_reader *pair, int partition)
{
	struct ctl_stream stream;
	char key[CTL_KEY], age[CTL_AGE];
	int64_t oldest_ms;

	ctl_aside_key(key, pair, partition);
	if (!ctl_stream_read(doctor->ctl, key, &stream))
		return false;
	if (stream.length == 0) {
		say(doctor, OK, key, "", "nothing is set aside");
		return true;
	}
	oldest_ms = RT_MAX(0, ctl_now_ms(doctor->ctl) - ctl_stream_id_ms(stream.first));
	ctl_age(age, oldest_ms);
	say(doctor, oldest_ms < ASIDE_MS ? OK : WARN, key,
	    "tandemctl events aside shows them; the log of the reader says why they fail",
	    "%" PRId64 " events of %s wait for a retry, the first for %s", stream.length, pair->of,
	    age);
	return true;
}

static bool check_dead(struct doctor *doctor)
{
	int64_t count;

	if (!ctl_dead_count(doctor->ctl, &count))
		return false;
	say(doctor, count == 0 ? OK : WARN, "dead letters",
	    "tandemctl dead list, then replay or discard them", "%" PRId64, count);
	return true;
}

/* ---- the services ---- */

struct health {
	struct rt_client_op op;
	struct ctl *ctl;
	int code;
	bool serving;
};

static void health_done(struct rt_client_op *op, const ProtobufCMessage *response)
{
	struct health *health = RT_CONTAINER_OF(op, struct health, op);
	const Grpc__Health__V1__HealthCheckResponse *answer = (const void *)response;

	health->code = op->status.code;
	health->serving =
		answer != NULL &&
		answer->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	rt_loop_stop(health->ctl->loop);
}

static void channel_freed(void *user)
{
	struct ctl *ctl = user;

	rt_loop_stop(ctl->loop);
}

/* Whether it serves. */
static bool check_health(struct doctor *doctor, const char *name, const char *listen)
{
	struct rt_channel_options options = { 0 };
	Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
	struct ctl *ctl = doctor->ctl;
	struct health health = {
		.op = { .timeout_ms = RT_MIN(ctl->timeout_ms, 3000), .done = health_done },
		.ctl = ctl,
	};
	char *target = ctl_target(listen);
	struct rt_channel *channel;
	ProtobufCService *client;
	struct rt_tls *tls;

	ctl_secure(ctl, ctl->loop, target, &options, &tls);
	if (rt_channel_new(ctl->loop, target, &options, &channel) != RT_OK) {
		say(doctor, BAD, name, "correct the setting", "not an address: %s", listen);
		rt_tls_free(tls);
		free(target);
		return false;
	}
	client = rt_client_new(channel, &grpc__health__v1__health__descriptor);
	rt_client_start(client, 0, &request.base, &health.op);
	rt_loop_run(ctl->loop);
	if (health.serving)
		say(doctor, OK, name, "", "serving at %s", target);
	else if (health.code == 0)
		say(doctor, BAD, name, "its log and /readyz say what it waits for",
		    "not ready, at %s", target);
	else
		say(doctor, BAD, name, "start it (scripts/up)", "no answer at %s: %s", target,
		    rt_code_name(health.code));
	rt_client_free(client);
	rt_channel_free(channel, channel_freed, ctl);
	rt_loop_run(ctl->loop);
	rt_tls_free(tls);
	free(target);
	return health.serving;
}

/* Whether the gateway refuses orders because more come than can be served (gateway/shedding.h). */
static void check_overload(struct doctor *doctor, bool serving)
{
	static const char load[] = "tandem_gateway_load";
	const struct ctl_series *highest = NULL;
	struct ctl_scrape scrape;
	char cause[32] = "";
	double share, part;

	ctl_scrape_read(doctor->ctl, 0, &scrape);
	for (size_t i = 0; i < scrape.count; i++)
		if (strcmp(scrape.list[i].name, load) == 0 &&
		    (highest == NULL || scrape.list[i].value > highest->value))
			highest = &scrape.list[i];
	if (highest == NULL && serving) {
		say(doctor, UNCHECKED, "overload",
		    "name the gateway's admin port: TANDEM_GATEWAY_ADMIN_LISTEN", "%s",
		    scrape.why != NULL ? scrape.why : "it does not say how much there is to do");
	} else if (highest != NULL) {
		share = 100 * ctl_scrape_sum(&scrape, "tandem_gateway_shed_share", "");
		part = 100 * highest->value;
		(void)ctl_series_label(highest, "cause", cause, sizeof(cause));
		if (share > 0)
			say(doctor, WARN, "overload",
			    "tandemctl top shows what is behind: give it more CPU, more instances "
			    "or more memory, or raise the limits (the gateway's settings "
			    "shed-…)",
			    "%.0f %% of the new orders are refused: %s is at %.0f %% of its limit",
			    share, cause, part);
		else
			say(doctor, OK, "overload", "",
			    "no order is refused; the highest load is %s, at %.0f %% of its limit",
			    cause, part);
	}
	ctl_scrape_done(&scrape);
}

static const char *listen_of(const char *variable, const char *standard)
{
	const char *value = getenv(variable);

	return value == NULL || value[0] == '\0' ? standard : value;
}

static void check_services(struct doctor *doctor)
{
	ctl_rpc_init();
	for (size_t i = 0; i < CTL_CONTEXTS; i++)
		(void)check_health(
			doctor, ctl_contexts[i].name,
			listen_of(ctl_contexts[i].listen_variable, ctl_contexts[i].listen));
	check_overload(doctor, check_health(doctor, "gateway", doctor->ctl->gateway));
	rt_rpc_shutdown();
}

/* Whether Redis still answers: then a check that failed does not stop the others. */
static bool redis_is_up(struct doctor *doctor, bool done, const char *check)
{
	if (!done && ctl_redis_up(doctor->ctl))
		say(doctor, BAD, check,
		    "stderr says what Redis answered: the key holds something else",
		    "cannot be read");
	return ctl_redis_up(doctor->ctl);
}

/* True when the check was made; or when the right to make it is missing, which is reported. */
static bool was_checked(struct doctor *doctor, bool good, const char *check)
{
	struct ctl *ctl = doctor->ctl;

	if (!good && ctl->denied && ctl->ops_password_missing == NULL)
		say(doctor, UNCHECKED, check, "ask as that user: --redis-user ops",
		    "only the user ops may check it, and Redis is asked as %s",
		    ctl->redis_user[0] == '\0' ? "default" : ctl->redis_user);
	else if (!good && ctl->denied)
		say(doctor, UNCHECKED, check, "run it where that file is, or name it: TANDEM_VAR",
		    "only the user ops may check it, and its password file cannot be read: %s",
		    ctl->ops_password_missing);
	good = good || ctl->denied;
	ctl->denied = false;
	return good;
}

static bool check_partition(struct doctor *doctor, int partition)
{
	char check[64];

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		bool good = check_stream(doctor, ctl_contexts[i].name, partition);

		snprintf(check, sizeof(check), "%s's events", ctl_contexts[i].name);
		if (!redis_is_up(doctor, was_checked(doctor, good, "groups"), check))
			return false;
	}
	for (size_t i = 0; i < CTL_READERS; i++) {
		bool good = check_aside(doctor, &ctl_readers[i], partition);

		if (!redis_is_up(doctor, was_checked(doctor, good, "set aside"), "set aside"))
			return false;
	}
	return true;
}

static bool check_contexts(struct doctor *doctor)
{
	char check[64];
	bool good = true;

	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		snprintf(check, sizeof(check), "functions of %s", ctl_contexts[i].name);
		if (!was_checked(doctor, check_functions(doctor, ctl_contexts[i].name), check))
			return false;
	}
	doctor->brief = doctor->ctl->partitions > 1 && !doctor->ctl->json;
	for (int p = 0; p < doctor->ctl->partitions && good; p++)
		good = check_partition(doctor, p);
	if (doctor->brief) {
		doctor->brief = false;
		say(doctor, OK, "partitions", "",
		    "%d; what is right about their streams and groups is not shown",
		    doctor->ctl->partitions);
	}
	return good;
}

/* ---- the cluster ---- */

/* How the partitions are spread over the masters, and whether each is served. */
static void check_spread(struct doctor *doctor)
{
	struct ctl *ctl = doctor->ctl;
	int least = ctl->partitions, most = 0, unserved = 0, masters = 0;
	char key[CTL_KEY];

	for (struct ctl_node *node = NULL; (node = ctl_node_next(ctl, node, true)) != NULL;) {
		int count = 0;

		for (int p = 0; p < ctl->partitions; p++) {
			ctl_key(key, ctl_contexts[0].name, p, "events");
			count += ctl_node_of_key(ctl, key) == node;
		}
		least = RT_MIN(least, count);
		most = RT_MAX(most, count);
		masters++;
	}
	for (int p = 0; p < ctl->partitions; p++) {
		ctl_key(key, ctl_contexts[0].name, p, "events");
		unserved += ctl_node_of_key(ctl, key) == NULL;
	}
	if (unserved > 0)
		say(doctor, BAD, "slots", "start the master that had them, or its replica",
		    "%d of %d partitions are served by no master", unserved, ctl->partitions);
	else
		say(doctor, most - least <= 1 ? OK : WARN, "slots",
		    "the load is uneven: assign slots by partition (docs/operating.md)",
		    "%d partitions on %d masters, %d to %d on each", ctl->partitions, masters,
		    least, most);
}

static bool check_state(struct doctor *doctor)
{
	redisReply *info = ctl_redis(doctor->ctl, "CLUSTER", "INFO");
	char state[16];

	if (info == NULL)
		return false;
	info_field(info, "cluster_state", state, sizeof(state));
	freeReplyObject(info);
	say(doctor, strcmp(state, "ok") == 0 ? OK : BAD, "cluster",
	    "it sees no majority of the masters: start those that are down", "state %s", state);
	return true;
}

/* ---- the command ---- */

static bool check_node(struct doctor *doctor)
{
	return was_checked(doctor, check_info(doctor), "redis") &&
	       (!ctl_is_cluster(doctor->ctl) ||
		was_checked(doctor, check_state(doctor), "cluster")) &&
	       was_checked(doctor, check_settings(doctor), "redis settings") &&
	       was_checked(doctor, check_clock(doctor), "clock") &&
	       was_checked(doctor, check_users(doctor), "users");
}

static bool check_nodes(struct doctor *doctor)
{
	struct ctl *ctl = doctor->ctl;
	bool good = false;

	for (struct ctl_node *node = NULL; (node = ctl_node_next(ctl, node, false)) != NULL;) {
		ctl->on = node;
		good = check_node(doctor);
		/* One node of a cluster may be down. */
		if (!good && ctl_is_cluster(ctl) && !ctl_redis_up(ctl)) {
			say(doctor, BAD, "redis", "start it", "does not answer");
			good = true;
		}
		ctl->on = NULL;
		if (!good)
			return false;
	}
	if (good && ctl_is_cluster(ctl))
		check_spread(doctor);
	return good;
}

static int doctor_run(struct ctl *ctl, void *options)
{
	struct doctor doctor = { .ctl = ctl };

	(void)options;
	ctl->deny_quietly = true;
	if (ctl_partitions(ctl) == 0 || !check_nodes(&doctor) || !check_contexts(&doctor) ||
	    !redis_is_up(&doctor, was_checked(&doctor, check_dead(&doctor), "dead letters"),
			 "dead letters"))
		return CTL_UNAVAILABLE;
	check_services(&doctor);
	if (!ctl->json)
		printf("%zu ok, %zu warnings, %zu bad, %zu unchecked\n", doctor.count[OK],
		       doctor.count[WARN], doctor.count[BAD], doctor.count[UNCHECKED]);
	return doctor.count[BAD] > 0 ? CTL_NEGATIVE : CTL_OK;
}

const struct ctl_command ctl_doctor = {
	.name = "doctor",
	.about = "Checks Redis and the services",
	.text = "Checks Redis (version, settings, users, functions, groups, clock) and the "
		"services. Exit "
		"code 1: something is bad.\vExamples:\n"
		"  tandemctl doctor\n"
		"  tandemctl doctor --json | jq 'select(.result != \"ok\")'",
	.run = doctor_run,
};
