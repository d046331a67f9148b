/* migrate.c - tandemctl migrate: copies a store into an empty one of more partitions, on one Redis or a cluster.
 *
 *   ready      no service is connected to either store, and nothing is under way in the source (drain.c): all that
 *              will happen is in orders and timers. The target is empty, or holds what a migration that was broken
 *              off has left: that is deleted, and all begins anew
 *   mark       the number of partitions is "migrating" in every partition of the target: no service starts there
 *   copy       migrate_copy.c; the source is only read
 *   compare    all of it once more, with what the target has; and the totals of both (migrate_totals.c)
 *   streams    those of the target begin where the source's end. What they hold is not copied: an order's record has
 *              its history
 *   finish     if the source has not changed meanwhile: the number of partitions is written, {0} of order last, with
 *              an entry in the trail */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"
#include "migrate.h"

#define MIGRATING "migrating" /* as events.lua has it */
#define WAIT_MS   "10000"

struct options {
	const char *from, *from_user, *from_password_file;
	int64_t partitions;
};

/* ---- the options ---- */

enum { KEY_FROM = 256, KEY_FROM_USER, KEY_FROM_PASSWORD_FILE, KEY_PARTITIONS };

static error_t migrate_parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = ctl_options(state);
	struct rt_redis_url url;
	char error[160];

	switch (key) {
	case ARGP_KEY_INIT:
		options->from_user = "ops";
		return 0;
	case KEY_FROM:
		if (rt_redis_url_parse(arg, &url, error, sizeof(error)) != RT_OK)
			argp_error(state, "--from: %s", error);
		options->from = arg;
		return 0;
	case KEY_FROM_USER:
		options->from_user = arg;
		return 0;
	case KEY_FROM_PASSWORD_FILE:
		options->from_password_file = arg;
		return 0;
	case KEY_PARTITIONS:
		if (!rt_parse_int(arg, 1, RT_PARTITIONS_MAX, &options->partitions) ||
		    (options->partitions & (options->partitions - 1)) != 0)
			argp_error(state, "--partitions: not a power of two from 1 to %d: %s",
				   RT_PARTITIONS_MAX, arg);
		return 0;
	case ARGP_KEY_END:
		if (options->from == NULL || options->partitions == 0)
			argp_error(state, "--from and --partitions are needed");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- ready ---- */

/* Whether a client of a service is in the list of clients. */
static bool has_client(const char *clients, const char *context)
{
	char user[64], name[64];

	snprintf(user, sizeof(user), " user=%s ", context);
	snprintf(name, sizeof(name), " name=tandem-%s", context);
	return strstr(clients, user) != NULL || strstr(clients, name) != NULL;
}

/* Whether no service is connected to any node. */
static int find_services(struct ctl *ctl, const char *which)
{
	int code = CTL_OK;

	for (struct ctl_node *node = NULL;
	     code == CTL_OK && (node = ctl_node_next(ctl, node, false)) != NULL;) {
		redisReply *clients;

		ctl->on = node;
		clients = ctl_redis(ctl, "CLIENT", "LIST");
		ctl->on = NULL;
		if (clients == NULL)
			return CTL_UNAVAILABLE;
		for (size_t i = 0; i < CTL_CONTEXTS && code == CTL_OK; i++) {
			if (!has_client(ctl_text(clients, ""), ctl_contexts[i].name))
				continue;
			ctl_error("%s is connected to the %s, at %s:%d: stop all services first",
				  ctl_contexts[i].name, which, node->host, node->port);
			code = CTL_NEGATIVE;
		}
		freeReplyObject(clients);
	}
	return code;
}

static int check_source(struct ctl *source)
{
	struct rt_buf what = { 0 };
	int64_t dead = 0;
	int code = find_services(source, "source");

	if (code != CTL_OK)
		return code;
	if (!ctl_under_way(source, &what) || !ctl_dead_count(source, &dead))
		code = CTL_UNAVAILABLE;
	else if (what.length > 0 || dead > 0)
		code = CTL_NEGATIVE;
	if (code == CTL_NEGATIVE && what.length > 0)
		ctl_error("something is under way in the source: let its services go on until "
			  "tandemctl drain says that nothing is\n%s",
			  what.data);
	else if (code == CTL_NEGATIVE)
		ctl_error("the source has %" PRId64 " dead letters: replay or discard them "
			  "(tandemctl dead list)",
			  dead);
	rt_buf_done(&what);
	return code;
}

/* ---- the marks ---- */

static bool set_mark(struct ctl *target, const char *context, int partition, const char *value)
{
	char key[CTL_KEY];
	redisReply *reply;

	ctl_key(key, context, partition, "partitions");
	reply = ctl_redis(target, "SET", key, value);
	if (reply == NULL)
		return false;
	freeReplyObject(reply);
	return true;
}

/* From the mark with this number on, 0 is {0} of the first context; or back to it. */
static bool set_marks(struct ctl *target, const char *value, int first, bool back)
{
	int count = CTL_CONTEXTS * target->partitions;

	for (int i = first; i < count; i++) {
		int at = back ? count - 1 - (i - first) : i;

		if (!set_mark(target, ctl_contexts[at % CTL_CONTEXTS].name, at / CTL_CONTEXTS,
			      value))
			return false;
	}
	return true;
}

/* All, with {0} of the first context last: while that is MIGRATING the store is not complete. Its end is entered in the
 * trail. */
static bool set_final_marks(const struct migration *migration, const char *from)
{
	struct ctl *target = migration->target;
	char partitions[RT_INT_TEXT], key[CTL_KEY], trail[CTL_KEY];
	const struct ctl_deed deed = { .action = "migrate", .subject = from };
	struct rt_args args = { 0 };
	char *result = rt_printf("%" PRId64 " orders, from %d to %d partitions", migration->orders,
				 migration->source->partitions, target->partitions);
	bool good;

	rt_int_text(target->partitions, partitions);
	ctl_key(key, ctl_contexts[0].name, 0, "partitions");
	ctl_key(trail, ctl_contexts[0].name, 0, "trail");
	rt_args_str(&args, "SET");
	rt_args_str(&args, key);
	rt_args_str(&args, partitions);
	good = set_marks(target, partitions, 1, true) &&
	       ctl_enter_with(target, ctl_node_of_key(target, key), &args, trail, &deed, result);
	rt_args_done(&args);
	free(result);
	return good;
}

/* Asks every master. *ret_sum: of the answers that are numbers. */
static bool ask_masters(struct ctl *ctl, const char *const *command, size_t count, int64_t *ret_sum)
{
	struct ctl_node *node = NULL;

	*ret_sum = 0;
	while ((node = ctl_node_next(ctl, node, true)) != NULL) {
		redisReply *reply;

		ctl->on = node;
		reply = ctl_redis_strings(ctl, false, command, count);
		ctl->on = NULL;
		if (reply == NULL)
			return false;
		*ret_sum += ctl_count(reply);
		freeReplyObject(reply);
	}
	return ctl_redis_up(ctl);
}
#define ASK_MASTERS(ctl, ret_sum, ...) ask_masters(ctl, CTL_STRINGS(__VA_ARGS__), ret_sum)

/* Deletes everything; the key last, which says whose it is. */
static bool empty_target(struct ctl *target, const char *key)
{
	const struct ctl_node *last = ctl_node_of_key(target, key);

	for (int turn = 0; turn < 2; turn++) {
		for (struct ctl_node *node = NULL;
		     (node = ctl_node_next(target, node, true)) != NULL;) {
			redisReply *reply;

			if ((node == last) != (turn == 1))
				continue;
			target->on = node;
			reply = ctl_redis(target, "FLUSHDB");
			target->on = NULL;
			if (reply == NULL)
				return false;
			freeReplyObject(reply);
		}
	}
	return true;
}

/* How many keys the target has, but for the marks and entries that loading functions leaves. False: Redis could not
 * be asked. */
static bool count_keys(struct ctl *target, int64_t *ret)
{
	if (!ASK_MASTERS(target, ret, "DBSIZE"))
		return false;
	for (size_t i = 0; i < CTL_CONTEXTS; i++) {
		char format[CTL_KEY], trail[CTL_KEY];
		redisReply *reply;

		ctl_key(format, ctl_contexts[i].name, 0, "format");
		ctl_key(trail, ctl_contexts[i].name, 0, "trail");
		reply = ctl_redis(target, "EXISTS", format, trail);
		if (reply == NULL)
			return false;
		*ret -= ctl_count(reply);
		freeReplyObject(reply);
	}
	return true;
}

/* The target becomes empty but for its marks. */
static int begin_target(struct migration *migration)
{
	struct ctl *target = migration->target;
	char key[CTL_KEY];
	redisReply *mark;
	int64_t keys;
	bool unfinished;
	int code = find_services(target, "target");

	if (code != CTL_OK)
		return code;
	ctl_key(key, ctl_contexts[0].name, 0, "partitions");
	mark = ctl_redis(target, "GET", key);
	if (mark == NULL || !count_keys(target, &keys)) {
		freeReplyObject(mark);
		return CTL_UNAVAILABLE;
	}
	unfinished = strcmp(ctl_text(mark, ""), MIGRATING) == 0;
	freeReplyObject(mark);
	if (keys > 0 && !unfinished) {
		ctl_error("the target holds %" PRId64 " keys: it must be empty", keys);
		return CTL_NEGATIVE;
	}
	if (keys > 0 && !target->json)
		printf("a migration into the target was broken off: it begins anew\n");
	/* Its trail is written again, between the entries of the source's: entries can only be added in order. */
	if (!migration_read_own(migration) ||
	    (keys + (int64_t)migration->own.count > 0 && !empty_target(target, key)))
		return CTL_UNAVAILABLE;
	return set_marks(target, MIGRATING, 0, false) ? CTL_OK : CTL_UNAVAILABLE;
}

/* ---- copying ---- */

static int count_orders(struct migration *migration)
{
	for (int p = 0; p < migration->source->partitions; p++) {
		char key[CTL_KEY];
		redisReply *reply;

		ctl_key(key, "order", p, "orders");
		reply = ctl_redis(migration->source, "HLEN", key);
		if (reply == NULL)
			return CTL_UNAVAILABLE;
		migration->orders_all += ctl_count(reply);
		freeReplyObject(reply);
	}
	return CTL_OK;
}

/* CTL_NEGATIVE: something is damaged, or Redis could not be asked half-way; the reason is on stderr. */
static int copy(struct migration *migration)
{
	struct migration_totals source, target;

	if (count_orders(migration) != CTL_OK)
		return CTL_UNAVAILABLE;
	if (!migration_go(migration))
		return CTL_NEGATIVE;
	migration->compares = true;
	if (!migration_go(migration) || !migration_totals(migration->source, &source) ||
	    !migration_totals(migration->target, &target))
		return CTL_NEGATIVE;
	if (migration->differences > 0)
		ctl_error("%" PRId64 " values differ", migration->differences);
	return migration_compare(migration->target, &source, &target) + migration->differences > 0
		       ? CTL_NEGATIVE
		       : CTL_OK;
}

/* Once nothing can have changed: the replicas have all of it, then the store is declared complete. */
static int finish(struct migration *migration, const struct rt_buf *ends, const char *from)
{
	struct ctl *target = migration->target;
	struct rt_buf now = { 0 };
	int64_t ignored;
	int code = find_services(migration->source, "source");

	if (code != CTL_OK)
		return code;
	if (!migration_ends(migration->source, &now))
		code = CTL_UNAVAILABLE;
	else if (strcmp(now.data, ends->data) != 0) {
		ctl_error("the source has changed meanwhile: stop its services, and begin anew");
		code = CTL_NEGATIVE;
	}
	rt_buf_done(&now);
	if (code != CTL_OK)
		return code;
	return migration_begin_streams(migration) && set_final_marks(migration, from) &&
			       ASK_MASTERS(target, &ignored, "WAIT", "0", WAIT_MS)
		       ? CTL_OK
		       : CTL_UNAVAILABLE;
}

static int migrate(struct migration *migration, const char *from)
{
	struct rt_buf ends = { 0 };
	int code = check_source(migration->source);

	if (code == CTL_OK)
		code = begin_target(migration);
	if (code == CTL_OK && !migration_ends(migration->source, &ends))
		code = CTL_UNAVAILABLE;
	if (code == CTL_OK)
		code = copy(migration);
	if (code == CTL_OK)
		code = finish(migration, &ends, from);
	rt_buf_done(&ends);
	return code;
}

/* ---- the command ---- */

static void tell_end(const struct migration *migration, int64_t began_ns)
{
	double seconds = (double)(rt_monotonic_ns() - began_ns) / 1e9;

	if (migration->target->json)
		ctl_json_print(json_pack("{s:I, s:i, s:i, s:f}", "migrated",
					 (json_int_t)migration->orders, "from",
					 migration->source->partitions, "partitions",
					 migration->target->partitions, "seconds", seconds));
	else
		printf("migrated %" PRId64 " orders from %d to %d partitions in %.1f s\n",
		       migration->orders, migration->source->partitions,
		       migration->target->partitions, seconds);
}

static int migrate_run(struct ctl *ctl, void *user)
{
	const struct options *options = user;
	struct ctl source = { .redis_url = options->from,
			      .redis_host = "",
			      .redis_socket = "",
			      .redis_user = options->from_user,
			      .redis_password_file = options->from_password_file,
			      .sentinel_user = ctl->sentinel_user,
			      .sentinel_password_file = ctl->sentinel_password_file,
			      .timeout_ms = ctl->timeout_ms,
			      .json = ctl->json };
	struct migration migration = { .source = &source, .target = ctl };
	int64_t began_ns = rt_monotonic_ns();
	int code = CTL_UNAVAILABLE;

	if (strncmp(options->from, "redis://", 8) !=
	    0) { /* that is without TLS, whatever the target is */
		source.redis_tls = ctl->redis_tls;
		source.redis_tls_ca = ctl->redis_tls_ca;
		source.redis_tls_cert = ctl->redis_tls_cert;
		source.redis_tls_key = ctl->redis_tls_key;
	}
	ctl->partitions = (int)options->partitions;
	if (ctl_partitions(&source) == 0) {
		code = CTL_UNAVAILABLE;
	} else if (source.partitions > ctl->partitions) {
		ctl_error("the source has %d partitions: there cannot be fewer afterwards",
			  source.partitions);
		code = CTL_USAGE;
	} else {
		code = migrate(&migration, options->from);
	}
	ctl_entries_done(&migration.own);
	if (code == CTL_OK)
		tell_end(&migration, began_ns);
	ctl_connections_done(&source);
	return code;
}

static const struct argp_option migrate_options[] = {
	{ "from", KEY_FROM, "URL", 0, "The store to copy, as --redis; it is only read", 0 },
	{ "from-user", KEY_FROM_USER, "NAME", 0, "ACL user there (ops)", 0 },
	{ "from-password-file", KEY_FROM_PASSWORD_FILE, "PATH", 0,
	  "The password of --from-user (the same file as for the target)", 0 },
	{ "partitions", KEY_PARTITIONS, "NUMBER", 0,
	  "How many partitions the target gets, for good: a power of two up to 1024", 0 },
	{ 0 },
};
const struct ctl_command ctl_migrate = {
	.name = "migrate",
	.about = "Copies a store into one of more partitions",
	.text = "Copies all orders, reservations, timers and stock into an empty Redis or cluster, "
		"the target (--redis), as a store of more partitions, and proves that both hold "
		"the same. All services must be stopped, and nothing may be under way (tandemctl "
		"drain). Events, which are history, stay in the source. One that was broken off "
		"begins anew. Exit code 1: it was refused, or something differs.\vExample:\n"
		"  tandemctl migrate --from redis://10.0.0.1:6390 --from-password-file "
		"/etc/tandem/ops \\\n"
		"    --redis cluster://10.0.0.2:6390,10.0.0.3:6390 --partitions 8",
	.changes = true,
	.options = migrate_options,
	.parse = migrate_parse,
	.options_size = sizeof(struct options),
	.run = migrate_run,
};
