/* functions.c - tandemctl functions list|load|prune: the versions of the services' Redis functions that
 * are loaded, and which of them are in use.
 *
 * A library is called <context>_<version>. An instance that calls its functions reads other
 * contexts' events as a consumer whose name ends in "@<version>", and reads every few seconds; so
 * Redis knows which versions are in use, and when each was last used. */
#include <inttypes.h>
#include <string.h>

#include "base/base.h"
#include "commands.h"

#define IDLE_STANDARD_MS 60000

/* ---- reading ---- */

/* The version of a library of this context; NULL: it is another library. */
static const char *version_of(const char *library, const char *context)
{
	size_t length = strlen(context);

	if (strncmp(library, context, length) != 0 || library[length] != '_')
		return NULL;
	return library + length + 1;
}

static struct ctl_version *find_version(struct ctl_versions *versions, const char *version)
{
	struct ctl_version *found;

	for (size_t i = 0; i < versions->count; i++) {
		if (strcmp(versions->list[i].version, version) == 0)
			return &versions->list[i];
	}
	if (versions->count == CTL_VERSIONS_MAX)
		return NULL;
	found = &versions->list[versions->count++];
	*found = (struct ctl_version){ .seen_ms = -1 };
	snprintf(found->version, sizeof(found->version), "%s", version);
	found->own = strcmp(version, ctl_context_find(versions->context)->functions->version) == 0;
	return found;
}

/* The libraries of the node that is asked. */
static bool read_libraries(struct ctl *ctl, struct ctl_versions *versions)
{
	redisReply *reply = ctl_redis(ctl, "FUNCTION", "LIST");

	if (reply == NULL)
		return false;
	for (size_t i = 0; i < reply->elements; i++) {
		const char *library = ctl_text(ctl_named(reply->element[i], "library_name"), "");
		const char *version = version_of(library, versions->context);
		struct ctl_version *found;

		found = version != NULL ? find_version(versions, version) : NULL;
		if (found != NULL)
			found->nodes++;
	}
	freeReplyObject(reply);
	return true;
}

/* Those that every master has are loaded. */
static bool read_every_master(struct ctl *ctl, struct ctl_versions *versions)
{
	int masters = 0;
	bool good = true;

	for (struct ctl_node *node = NULL; good && (node = ctl_node_next(ctl, node, true));) {
		ctl->on = node;
		good = read_libraries(ctl, versions);
		masters++;
	}
	ctl->on = NULL;
	for (size_t i = 0; i < versions->count; i++)
		versions->list[i].loaded = versions->list[i].nodes == masters;
	return good && masters > 0;
}

/* An instance, as its consumers in all partitions show it. */
struct instance {
	char *name;
	int64_t idle_ms; /* since it was seen in any of them */
};
struct instances {
	struct instance *list;
	size_t count, capacity;
};

static void note_instance(struct instances *instances, const char *name, int64_t idle_ms)
{
	for (size_t i = 0; i < instances->count; i++) {
		struct instance *known = &instances->list[i];

		if (strcmp(known->name, name) != 0)
			continue;
		known->idle_ms = RT_MIN(known->idle_ms, idle_ms);
		return;
	}
	instances->list = rt_grow(instances->list, instances->count, &instances->capacity,
				  sizeof(*instances->list));
	instances->list[instances->count++] = (struct instance){ rt_strdup(name), idle_ms };
}

/* Adds the consumers that read the events of `other` in a partition. False: Redis could not be asked. */
static bool read_consumers(struct ctl *ctl, const char *context, const char *other, int partition,
			   struct instances *instances)
{
	char stream[CTL_KEY];
	redisReply *reply;

	ctl_key(stream, other, partition, "events");
	/* An error: no stream yet, or no group. */
	reply = ctl_redis_try(ctl, "XINFO", "CONSUMERS", stream, context);
	if (reply == NULL)
		return false;
	for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
		note_instance(instances, ctl_text(ctl_named(reply->element[i], "name"), ""),
			      ctl_number(ctl_named(reply->element[i], "idle")));
	freeReplyObject(reply);
	return true;
}

static void count_instance(struct ctl_versions *versions, const struct instance *instance)
{
	const char *version = strrchr(instance->name, '@');
	struct ctl_version *found = version != NULL ? find_version(versions, version + 1) : NULL;

	if (found == NULL)
		return;
	found->instances += instance->idle_ms <= CTL_ABSENT_MS;
	found->seen_ms =
		found->seen_ms < 0 ? instance->idle_ms : RT_MIN(found->seen_ms, instance->idle_ms);
}

/* The consumers of all partitions: an instance reads each, but has none where its group was just deleted. */
static bool read_instances(struct ctl *ctl, struct ctl_versions *versions, const char *other)
{
	struct instances instances = { 0 };
	int partitions = ctl_partitions(ctl);
	bool good = partitions > 0;

	for (int p = 0; p < partitions && good; p++)
		good = read_consumers(ctl, versions->context, other, p, &instances);
	for (size_t i = 0; i < instances.count; i++) {
		if (good)
			count_instance(versions, &instances.list[i]);
		free(instances.list[i].name);
	}
	free(instances.list);
	return good;
}

bool ctl_versions_read(struct ctl *ctl, const char *context, struct ctl_versions *versions)
{
	*versions = (struct ctl_versions){ .context = context };
	if (!read_every_master(ctl, versions))
		return false;
	/* An instance reads the streams of every context that its own reads: one context shows all. */
	for (size_t i = 0; i < CTL_READERS; i++)
		if (strcmp(ctl_readers[i].reader, context) == 0)
			return read_instances(ctl, versions, ctl_readers[i].of);
	return true;
}

/* ---- the commands ---- */

struct functions {
	int64_t idle_ms;
};

static void show_version(struct ctl *ctl, struct ctl_table *table, const char *context,
			 const struct ctl_version *version)
{
	char age[CTL_AGE] = "never";

	if (ctl->json) {
		json_t *json = json_pack("{s:s, s:o, s:b, s:b, s:i}", "context", context, "version",
					 ctl_json_text(version->version), "loaded", version->loaded,
					 "own", version->own, "instances", version->instances);

		if (version->seen_ms >= 0)
			json_object_set_new(json, "seen_ms_ago", json_integer(version->seen_ms));
		ctl_json_print(json);
		return;
	}
	if (version->seen_ms >= 0)
		ctl_age(age, version->seen_ms);
	ctl_cell(table, "%s", context);
	ctl_cell(table, "%s", version->version);
	ctl_cell(table, "%s", version->loaded ? "yes" : "no");
	ctl_cell(table, "%d", version->instances);
	ctl_cell(table, "%s", age);
	ctl_cell(table, "%s", version->own ? "of this tandemctl" : "");
}

static int list_run(struct ctl *ctl, void *options)
{
	struct ctl_table table = CTL_TABLE("CONTEXT", "VERSION", "LOADED", "INSTANCES", "SEEN", "");
	struct ctl_versions versions;
	int code = CTL_OK;

	(void)options;
	for (size_t c = 0; code == CTL_OK && c < CTL_CONTEXTS; c++) {
		if (!ctl_versions_read(ctl, ctl_contexts[c].name, &versions))
			code = CTL_UNAVAILABLE;
		for (size_t i = 0; code == CTL_OK && i < versions.count; i++)
			show_version(ctl, &table, versions.context, &versions.list[i]);
	}
	ctl_table_print(&table);
	return code;
}

/* A command about a context's library, for every master; replicas get it from theirs. */
struct order_to_all {
	struct ctl *ctl;
	const char *context;
	char library[64];
	const char *words[3];              /* "FUNCTION", … */
	const struct rt_functions *loaded; /* whose code follows; NULL: the name follows */
	const char *action;                /* in the trail; NULL: it changes nothing */
};

/* The command for a master; PING if it is to delete what that master does not have. False: Redis could not be asked. */
static bool command_for(const struct order_to_all *order, struct ctl_node *node,
			struct rt_args *args)
{
	struct ctl *ctl = order->ctl;
	redisReply *found;
	bool absent;

	if (order->loaded == NULL) {
		ctl->on = node;
		found = ctl_redis(ctl, "FUNCTION", "LIST", "LIBRARYNAME", order->library);
		ctl->on = NULL;
		if (found == NULL)
			return false;
		absent = found->elements == 0;
		freeReplyObject(found);
		if (absent) {
			rt_args_str(args, "PING");
			return true;
		}
	}
	for (size_t i = 0; i < RT_LENGTH(order->words) && order->words[i] != NULL; i++)
		rt_args_str(args, order->words[i]);
	if (order->loaded != NULL)
		rt_args_add(args, order->loaded->code, order->loaded->code_length);
	else
		rt_args_str(args, order->library);
	return true;
}

/* Runs it on a master, and enters it in the trail `key` there; NULL: does not. */
static bool run_on(const struct order_to_all *order, struct ctl_node *node, const char *key)
{
	const struct ctl_deed deed = { .action = order->action, .subject = order->library };
	struct ctl *ctl = order->ctl;
	struct rt_args args = { 0 };
	redisReply *reply;
	bool good = command_for(order, node, &args);

	if (good && key != NULL) {
		good = ctl_enter_with(ctl, node, &args, key, &deed, "on every master");
	} else if (good) {
		ctl->on = node;
		reply = ctl_redis_args(ctl, &args, 0, false);
		ctl->on = NULL;
		good = reply != NULL;
		freeReplyObject(reply);
	}
	rt_args_done(&args);
	return good;
}

/* On the master that keeps the trail of partition 0 last: then it is done, and entered in the same step. */
static bool run_on_all(const struct order_to_all *order)
{
	struct ctl *ctl = order->ctl;
	const struct ctl_node *last;
	char trail[CTL_KEY];
	bool good = ctl_node_next(ctl, NULL, true) != NULL;

	ctl_key(trail, order->context, 0, "trail");
	last = good ? ctl_node_of_key(ctl, trail) : NULL;
	for (int turn = 0; turn < 2; turn++)
		for (struct ctl_node *node = NULL;
		     good && (node = ctl_node_next(ctl, node, true)) != NULL;)
			if ((node == last) == (turn == 1))
				good = run_on(order, node,
					      turn == 1 && order->action != NULL ? trail : NULL);
	return good;
}

/* Whether every master has it. */
static bool is_loaded(struct ctl *ctl, const struct rt_functions *functions, bool *ret)
{
	struct ctl_versions versions = { .context = functions->name };

	if (!read_every_master(ctl, &versions))
		return false;
	*ret = false;
	for (size_t i = 0; i < versions.count; i++)
		*ret = *ret || (versions.list[i].own && versions.list[i].loaded);
	return true;
}

static bool load_functions(struct ctl *ctl, const struct rt_functions *functions)
{
	struct order_to_all order = { .ctl = ctl,
				      .context = functions->name,
				      .words = { "FUNCTION", "LOAD", "REPLACE" },
				      .loaded = functions };
	bool loaded;

	snprintf(order.library, sizeof(order.library), "%s_%s", functions->name,
		 functions->version);
	if (!is_loaded(ctl, functions, &loaded))
		return false;
	order.action = loaded ? NULL : "functions.load";
	if (!run_on_all(&order))
		return false;
	if (!ctl->json)
		printf("loaded %s\n", order.library);
	return true;
}

/* Whether the context's data still has the form of an earlier version. False: Redis could not be asked. */
static bool has_former_data(struct ctl *ctl, const struct rt_functions *functions, bool *ret)
{
	char function[64], stream[CTL_KEY];
	redisReply *reply;

	snprintf(function, sizeof(function), "%s_version_%s", functions->name, functions->version);
	ctl_key(stream, functions->name, 0, "events");
	reply = ctl_redis_try(ctl, "FCALL", function, "1", stream);
	if (reply == NULL)
		return false;
	*ret = reply->type == REDIS_REPLY_ERROR &&
	       strstr(reply->str, "an earlier version wrote") != NULL;
	freeReplyObject(reply);
	return true;
}

/* Instances of earlier versions would not find rewritten orders, and would write more in the former form. True:
 * none of them runs. */
static bool have_stopped(struct ctl *ctl, const char *context)
{
	struct ctl_versions versions;
	redisReply *clients = ctl_redis(ctl, "CLIENT", "LIST");
	char user[32];
	bool connected;

	if (clients == NULL)
		return false;
	snprintf(user, sizeof(user), " user=%s ", context);
	connected = strstr(ctl_text(clients, ""), user) != NULL;
	freeReplyObject(clients);
	if (!connected)
		return true;
	if (!ctl_versions_read(ctl, context, &versions))
		return false;
	for (size_t i = 0; i < versions.count; i++) {
		if (versions.list[i].own || versions.list[i].instances == 0)
			continue;
		ctl_error("stop all instances of %s@%s first (and wait %d s): the orders must be "
			  "rewritten, and they cannot read the new form",
			  context, versions.list[i].version, CTL_ABSENT_MS / 1000);
		return false;
	}
	return true;
}

/* Rewrites data of earlier versions, page by page. */
static bool rewrite_data(struct ctl *ctl, const struct rt_functions *functions)
{
	const struct ctl_deed deed = { .action = "functions.upgrade", .subject = functions->name };
	char stream[CTL_KEY], cursor[32] = "0";
	int64_t rewritten = 0, damaged = 0;

	ctl_key(stream, functions->name, 0, "events");
	do {
		struct rt_args args = { 0 };
		redisReply *reply;

		ctl_operate(ctl, &args, functions, stream, NULL, &deed, "upgrade");
		rt_args_str(&args, cursor);
		reply = ctl_operate_send(ctl, &args, false);
		rt_args_done(&args);
		if (reply == NULL)
			return false;
		if (!rt_reply_is_array(reply, 3)) {
			ctl_error("%s: unexpected answer of Redis", functions->name);
			freeReplyObject(reply);
			return false;
		}
		snprintf(cursor, sizeof(cursor), "%s", ctl_text(reply->element[0], "0"));
		rewritten += ctl_count(reply->element[1]);
		damaged += ctl_count(reply->element[2]);
		freeReplyObject(reply);
	} while (strcmp(cursor, "0") != 0);
	if (!ctl->json)
		printf("rewrote %" PRId64 " orders of an earlier version\n", rewritten);
	if (damaged > 0)
		ctl_error("%" PRId64 " orders are damaged: tandemctl audit names them, and their "
			  "former keys are still there",
			  damaged);
	return true;
}

static int load_run(struct ctl *ctl, void *options)
{
	(void)options;
	for (size_t c = 0; c < CTL_CONTEXTS; c++) {
		const struct rt_functions *functions = ctl_contexts[c].functions;

		bool former = false;

		if (!load_functions(ctl, functions) || !has_former_data(ctl, functions, &former))
			return CTL_UNAVAILABLE;
		if (former && !have_stopped(ctl, functions->name))
			return CTL_NEGATIVE;
		if (former && !rewrite_data(ctl, functions))
			return CTL_UNAVAILABLE;
	}
	return CTL_OK;
}

static bool remove_library(struct ctl *ctl, const char *context, const struct ctl_version *version)
{
	struct order_to_all order = { .ctl = ctl,
				      .context = context,
				      .words = { "FUNCTION", "DELETE" },
				      .action = "functions.prune" };

	snprintf(order.library, sizeof(order.library), "%s_%s", context, version->version);
	if (!run_on_all(&order))
		return false;
	if (!ctl->json)
		printf("removed %s\n", order.library);
	return true;
}

static int prune_run(struct ctl *ctl, void *options)
{
	const struct functions *own = options;
	int64_t idle_ms = own->idle_ms > 0 ? own->idle_ms : IDLE_STANDARD_MS;
	struct ctl_versions versions;

	for (size_t c = 0; c < CTL_CONTEXTS; c++) {
		if (!ctl_versions_read(ctl, ctl_contexts[c].name, &versions))
			return CTL_UNAVAILABLE;
		for (size_t i = 0; i < versions.count; i++) {
			const struct ctl_version *version = &versions.list[i];
			bool used = version->seen_ms >= 0 && version->seen_ms <= idle_ms;

			if (version->nodes > 0 && !version->own && !used &&
			    !remove_library(ctl, versions.context, version))
				return CTL_UNAVAILABLE;
		}
	}
	return CTL_OK;
}

static error_t prune_parse(int key, char *arg, struct argp_state *state)
{
	struct functions *own = ctl_options(state);

	if (key != 'i')
		return ARGP_ERR_UNKNOWN;
	if (!rt_parse_duration(arg, &own->idle_ms) || own->idle_ms < 1)
		argp_error(state, "--idle: not a duration such as 10s: %s", arg);
	return 0;
}

const struct ctl_command ctl_functions_list = {
	.group = "functions",
	.name = "list",
	.about = "Lists versions of the Redis functions",
	.text = "Lists the versions of the services' Redis functions: whether each is loaded, how "
		"many instances call it, and when one was last seen.\vExample:\n"
		"  tandemctl functions list",
	.run = list_run,
};

const struct ctl_command ctl_functions_load = {
	.group = "functions",
	.name = "load",
	.about = "Loads this version of the Redis functions",
	.text = "Loads the Redis functions that this tandemctl and the services of its build "
		"call, beside those of other versions, and rewrites orders that an "
		"earlier version stored in another form, once its instances have stopped. The "
		"first step of an upgrade.\vExample:\n"
		"  tandemctl functions load",
	.changes = true,
	.run = load_run,
};

static const struct argp_option prune_options[] = {
	{ "idle", 'i', "DURATION", 0, "Only versions that no instance has called for so long (1m)",
	  0 },
	{ 0 },
};
const struct ctl_command ctl_functions_prune = {
	.group = "functions",
	.name = "prune",
	.about = "Removes unused versions of the Redis functions",
	.text = "Removes versions of the Redis functions that no instance calls any more, except "
		"the version of this tandemctl. The last step of an upgrade.\vExample:\n"
		"  tandemctl functions prune",
	.changes = true,
	.options = prune_options,
	.parse = prune_parse,
	.options_size = sizeof(struct functions),
	.run = prune_run,
};
