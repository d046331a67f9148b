/* program.c - the main of a context: its settings, its readiness, and the service's callbacks. */
#include "context.h"
#include "redis/topology.h"
#include "redis_state_internal.h"

#include <stdio.h>
#include <string.h>

#define PENDING_COMMANDS 100000
#define REPLICAS_WANTED  1   /* durability replicated */
#define READY_EVERY_MS   200 /* for changes that are not reported */

/* One per process; its readiness is read until the end. */
static struct context_program {
	const struct rt_context_program *definition;
	struct rt_service *service;
	struct rt_topology *topology; /* NULL: there is one Redis and one partition */
	struct rt_redis_tls *tls;     /* NULL: none */
	struct rt_context *context;
	struct rt_redis_state *redis_state;
	struct rt_series *served;
	struct rt_check redis_check, events_check, storage_check;
	struct rt_timer ready_timer;
	struct rt_task ready_changed;
	char refusal[300]; /* that was logged; "": none */
	bool stopping;
} program;

/* ---- settings ---- */

#define AT(member) offsetof(struct rt_context_settings, member)
static const struct rt_setting common_settings[] = {
	{ "redis", RT_SETTING_STRING, AT(redis.url), "", 0, 0,
	  "Where Redis is: redis://host:port, rediss://host:port (with TLS), unix:/path, "
	  "cluster://host:port,host:port or sentinel://host:port,host:port/name; when set, host, "
	  "port and socket are not used." },
	{ "redis-host", RT_SETTING_STRING, AT(redis.host), "127.0.0.1", 0, 0, "Redis host." },
	{ "redis-port", RT_SETTING_INT, AT(redis.port), "6390", 1, 65535, "Redis TCP port." },
	{ "redis-socket", RT_SETTING_STRING, AT(redis.unix_path), "", 0, 0,
	  "Path of Redis's unix socket; when set, host and port are not used." },
	{ "redis-tls", RT_SETTING_BOOL, AT(redis.tls), "false", 0, 0,
	  "Use TLS to Redis, also to nodes of a cluster and to sentinels; --redis-tls-ca and "
	  "rediss:// say the same." },
	{ "redis-tls-ca", RT_SETTING_STRING, AT(redis.tls_ca), "", 0, 0,
	  "File with the CAs of Redis's certificate, in PEM; empty: those of the system." },
	{ "redis-tls-cert", RT_SETTING_STRING, AT(redis.tls_cert), "", 0, 0,
	  "File with the certificate that is shown to Redis, in PEM; empty: none." },
	{ "redis-tls-key", RT_SETTING_STRING, AT(redis.tls_key), "", 0, 0,
	  "File with its key, in PEM, without a passphrase." },
	{ "redis-user", RT_SETTING_STRING, AT(redis.user), "", 0, 0,
	  "Redis ACL user; empty: no authentication." },
	{ "redis-password-file", RT_SETTING_STRING, AT(redis.password_file), "", 0, 0,
	  "File whose first line is the user's password." },
	{ "redis-sentinel-user", RT_SETTING_STRING, AT(redis.sentinel_user), "default", 0, 0,
	  "User of the sentinels, when they have a password." },
	{ "redis-sentinel-password-file", RT_SETTING_STRING, AT(redis.sentinel_password_file), "",
	  0, 0, "File whose first line is that user's password; empty: they have none." },
	{ "redis-deploy-user", RT_SETTING_STRING, AT(redis.deploy_user), "", 0, 0,
	  "Redis ACL user that may load functions: the service then loads its own where they are "
	  "missing; empty: an operator does." },
	{ "redis-deploy-password-file", RT_SETTING_STRING, AT(redis.deploy_password_file), "", 0, 0,
	  "File whose first line is that user's password." },
	{ "redis-timeout", RT_SETTING_DURATION, AT(redis.timeout_ms), "2s", 10, 600000,
	  "How long a command may wait for its answer before it fails." },
	{ "partitions", RT_SETTING_INT, AT(partitions), "1", 1, RT_PARTITIONS_MAX,
	  "Number of partitions of the data, a power of two; the first start fixes it." },
	{ "durability", RT_SETTING_STRING, AT(durability), "", 0, 0,
	  "When a step is stored: local (the master has it) or replicated (a replica, too); "
	  "empty: replicated in a cluster, else local." },
	{ "trim-every", RT_SETTING_DURATION, AT(trim_every_ms), "5s", 100, RT_DAY_MS,
	  "How often the context's event stream is trimmed." },
	{ "retain", RT_SETTING_DURATION, AT(retain_ms), "1h", 0, 365 * RT_DAY_MS,
	  "How long events are kept that every group has acknowledged." },
	{ "retain-count", RT_SETTING_INT, AT(retain_count), "100000", 0, INT64_C(1000000000),
	  "How many events are kept at most that every group has acknowledged." },
	{ "stale-group-after", RT_SETTING_DURATION, AT(stale_ms), "10m", 1000, 365 * RT_DAY_MS,
	  "How long a group's consumers may be gone before it is reported." },
	{ "follower-max", RT_SETTING_INT, AT(follower_max), "500000", 0, INT64_C(1000000000),
	  "So many events at most are kept for the archive: if it is further behind it misses the "
	  "oldest. 0: any number." },
	{ "read-count", RT_SETTING_INT, AT(read_count_max), "256", 1, 10000,
	  "Events in one read of the other context's stream." },
	{ "events-in-flight", RT_SETTING_INT, AT(in_flight_max), "1024", 1, 1000000,
	  "Most events in progress; at this limit, reading stops." },
	{ "events-parked", RT_SETTING_INT, AT(parked_max), "4096", 1, 1000000,
	  "Most events waiting for a retry, or behind one; at this limit, reading stops." },
	{ "deliveries-max", RT_SETTING_INT, AT(deliveries_max), "8", 1, 1000,
	  "Failures after which an event goes to the dead letters." },
	{ "event-retry-min", RT_SETTING_DURATION, AT(event_retry_min_ms), "100ms", 1, RT_DAY_MS,
	  "Pause before an event's first retry; it doubles with each." },
	{ "event-retry-max", RT_SETTING_DURATION, AT(event_retry_max_ms), "10s", 1, RT_DAY_MS,
	  "The longest pause between two tries of an event." },
	{ "claim-idle", RT_SETTING_DURATION, AT(claim_idle_ms), "1500ms", 100, RT_DAY_MS,
	  "How long another consumer may hold an event before it is taken over." },
	{ "claim-every", RT_SETTING_DURATION, AT(claim_every_ms), "250ms", 50, RT_DAY_MS,
	  "How often events that another consumer holds too long are looked for." },
	{ "consumer-idle", RT_SETTING_DURATION, AT(consumer_idle_ms), "1h", 1000, 365 * RT_DAY_MS,
	  "How long a consumer that holds nothing may be gone before it is removed." },
};

/* The common settings, with the context's name as Redis user, then its own; freed by the caller. */
static struct rt_setting *settings_table(const struct rt_context_program *definition)
{
	struct rt_setting *table =
		rt_settings_join(common_settings, RT_LENGTH(common_settings), definition->settings);

	for (size_t i = 0; i < RT_LENGTH(common_settings); i++) {
		if (table[i].offset == AT(redis.user))
			table[i].standard = definition->domain->name;
	}
	return table;
}

/* Whether a password file can be read; connections read it themselves. */
static bool password_good(const char *path)
{
	char error[RT_PASSWORD_ERROR], *password;
	bool more = false;

	if (rt_password_read(path, &password, &more, error) != RT_OK) {
		RT_LOG(RT_ERROR, "a password file cannot be used", RT_S("reason", error),
		       RT_S("fix", "its first line is the user's password, and only the user that "
				   "the service runs as may read it"));
		return false;
	}
	rt_password_free(password);
	if (more)
		RT_LOG(RT_WARN, "only the first line of the password file is used",
		       RT_S("file", path));
	return true;
}

static bool passwords_good(const struct rt_redis_settings *settings)
{
	return password_good(settings->password_file) &&
	       password_good(settings->sentinel_password_file) &&
	       password_good(settings->deploy_password_file);
}

static struct rt_redis_options redis_options(const struct rt_context_settings *settings,
					     const char *name)
{
	const struct rt_redis_settings *redis = &settings->redis;
	bool open = redis->sentinel_password_file[0] == '\0'; /* the sentinels */

	return (struct rt_redis_options){
		.user = redis->user,
		.password_file = redis->password_file,
		.sentinel = { .user = open ? "" : redis->sentinel_user,
			      .password_file = redis->sentinel_password_file },
		.deploy = { .user = redis->deploy_user,
			    .password_file = redis->deploy_password_file },
		.tls = program.tls,
		.log_trouble = true,
		.name = name,
		.timeout_ms = redis->timeout_ms,
		.pending_max = PENDING_COMMANDS,
	};
}

static struct rt_events_options events_options(const struct rt_context_settings *settings)
{
	struct rt_events_options options = { RT_EVENTS_DEFAULTS };

	options.read_count_max = (int)settings->read_count_max;
	options.in_flight_max = (int)settings->in_flight_max;
	options.parked_max = (int)settings->parked_max;
	options.deliveries_max = (int)settings->deliveries_max;
	options.retry_min_ms = settings->event_retry_min_ms;
	options.retry_max_ms = settings->event_retry_max_ms;
	options.claim_idle_ms = settings->claim_idle_ms;
	options.claim_every_ms = settings->claim_every_ms;
	options.consumer_idle_ms = settings->consumer_idle_ms;
	return options;
}

/* ---- readiness ---- */

/* A service that can serve some of its partitions is ready: what keeps it from the others is logged here. */
static void note_refusal(void)
{
	struct rt_context *context = program.context;
	const char *refusal = rt_context_refusal(context);
	int served = rt_context_served(context);

	if (served == context->partition_count) {
		if (program.refusal[0] != '\0')
			RT_LOG(RT_INFO, "all partitions are served");
		program.refusal[0] = '\0';
	} else if (refusal != NULL && rt_context_ready(context) &&
		   strcmp(refusal, program.refusal) != 0) {
		snprintf(program.refusal, sizeof(program.refusal), "%s", refusal);
		RT_LOG(RT_ERROR, "some partitions are not served", RT_S("reason", refusal),
		       RT_I("served", served), RT_I("partitions", context->partition_count));
	}
}

static void note_ready(void)
{
	struct rt_context *context = program.context;
	const char *problem = rt_context_problem(context);
	const char *unread = rt_context_unread(context);
	char full[200];

	rt_series_set(program.served, rt_context_served(context));
	note_refusal();
	if (rt_context_mismatch(context)) {
		RT_LOG(RT_ERROR, "--partitions is not what the data was begun with",
		       RT_S("reason", problem));
		rt_service_give_up();
	}
	if (problem == NULL)
		rt_check_ready(&program.redis_check);
	else
		rt_check_failed(&program.redis_check, "%s", problem);
	if (problem != NULL)
		rt_check_failed(&program.events_check, "waits for Redis");
	else if (unread != NULL)
		rt_check_failed(&program.events_check, "%s is not being read", unread);
	else
		rt_check_ready(&program.events_check);
	if (context->domain->storage_problem != NULL) {
		if (context->domain->storage_problem(context->data, full, sizeof(full)))
			rt_check_failed(&program.storage_check, "%s", full);
		else
			rt_check_ready(&program.storage_check);
	}
}

static void on_ready_time(struct rt_timer *timer)
{
	note_ready();
	rt_timer_start(program.service->loop, timer, READY_EVERY_MS, on_ready_time);
}

static void on_ready_changed(struct rt_task *task)
{
	(void)task;
	if (!program.stopping)
		note_ready();
}

static void add_checks(void)
{
	struct rt_readiness *readiness = program.service->readiness;

	rt_readiness_add(readiness, &program.redis_check, "redis", NULL);
	rt_readiness_add(readiness, &program.events_check, "events", NULL);
	if (program.context->domain->storage_problem != NULL)
		rt_readiness_add(readiness, &program.storage_check, "storage", NULL);
}

/* ---- the service's life ---- */

static bool is_replicated(const struct rt_context_settings *settings,
			  const struct rt_redis_url *url)
{
	return settings->durability[0] == '\0' ? url->kind == RT_TOPOLOGY_CLUSTER
					       : strcmp(settings->durability, "replicated") == 0;
}

/* What the table of settings cannot check. */
static bool settings_good(const struct rt_context_settings *settings)
{
	if ((settings->partitions & (settings->partitions - 1)) != 0)
		RT_LOG(RT_ERROR, "--partitions must be a power of two",
		       RT_I("partitions", settings->partitions));
	else if (settings->durability[0] != '\0' && strcmp(settings->durability, "local") != 0 &&
		 strcmp(settings->durability, "replicated") != 0)
		RT_LOG(RT_ERROR, "--durability must be local or replicated",
		       RT_S("durability", settings->durability));
	else if (settings->event_retry_max_ms < settings->event_retry_min_ms)
		RT_LOG(RT_ERROR, "--event-retry-max must be at least --event-retry-min",
		       RT_I("event_retry_max_ms", settings->event_retry_max_ms),
		       RT_I("event_retry_min_ms", settings->event_retry_min_ms));
	else
		return program.definition->settings_good == NULL ||
		       program.definition->settings_good(settings);
	return false;
}

/* Where Redis is, by --redis or by the settings before it. */
static int read_url(const struct rt_redis_settings *settings, struct rt_redis_url *ret)
{
	bool socket = settings->unix_path[0] != '\0';
	char error[400];

	if (settings->url[0] == '\0') {
		*ret = (struct rt_redis_url){ .kind = RT_TOPOLOGY_ONE, .count = 1 };
		ret->addresses[0].port = socket ? 0 : (int)settings->port;
		snprintf(ret->addresses[0].host, sizeof(ret->addresses[0].host), "%s",
			 socket ? settings->unix_path : settings->host);
		return RT_OK;
	}
	if (rt_redis_url_parse(settings->url, ret, error, sizeof(error)) == RT_OK)
		return RT_OK;
	RT_LOG(RT_ERROR, "--redis is not where a Redis can be", RT_S("reason", error));
	return RT_INVALID;
}

/* TLS to Redis, if URL or settings ask for it. */
static int make_tls(const struct rt_redis_settings *settings, const struct rt_redis_url *url)
{
	const struct rt_redis_tls_files files = { settings->tls_ca, settings->tls_cert,
						  settings->tls_key };
	char error[RT_PASSWORD_ERROR];
	bool wanted = settings->tls || settings->tls_ca[0] != '\0', secure;
	int rc = rt_redis_url_secure(url, wanted, &secure, error, sizeof(error));

	if (rc == RT_OK && secure)
		rc = rt_redis_tls_new(&files, &program.tls, error);
	if (rc != RT_OK)
		RT_LOG(RT_ERROR, "TLS to Redis is not possible so", RT_S("reason", error));
	return rc;
}

/* One partition on one Redis has connections of its own; all else goes by a topology. */
static int place(const struct rt_context_settings *settings, const struct rt_redis_url *url,
		 struct rt_redis_options *redis)
{
	const struct rt_redis_address *first = &url->addresses[0];
	struct rt_redis_options shared = *redis;
	int rc;

	if (url->kind == RT_TOPOLOGY_ONE && settings->partitions == 1) {
		redis->host = first->host;
		redis->port = first->port;
		redis->unix_path = first->port == 0 ? first->host : NULL;
		return RT_OK;
	}
	shared.follow_clock = true;
	shared.metrics = program.service->metrics;
	rc = rt_topology_new(program.service->loop, url, &shared, (int)settings->partitions,
			     &program.topology);
	if (rc == RT_OK)
		rt_topology_use(program.topology, redis);
	return rc;
}

static int make_context(const struct rt_context_settings *settings, const struct rt_redis_url *url)
{
	const struct rt_context_program *definition = program.definition;
	char *name = rt_printf("tandem-%s", definition->domain->name);
	struct rt_redis_options redis = redis_options(settings, name);
	const struct rt_context_options options = {
		.redis = &redis,
		.events = events_options(settings),
		.partition_count = (int)settings->partitions,
		.replicas = is_replicated(settings, url) ? REPLICAS_WANTED : 0,
		.trim_every_ms = settings->trim_every_ms,
		.retain_ms = settings->retain_ms,
		.retain_count = settings->retain_count,
		.stale_ms = settings->stale_ms,
		.follower_max = settings->follower_max,
		.domain_options = (const char *)settings + definition->options_offset,
		.metrics = program.service->metrics,
		.changed = &program.ready_changed,
	};
	int rc = place(settings, url, &redis);

	if (rc == RT_OK)
		rc = rt_context_new(program.service->loop, definition->domain, &options,
				    &program.context);
	free(name);
	return rc;
}

static int start(struct rt_service *service)
{
	const struct rt_context_settings *settings = service->settings;
	const struct rt_context_domain *domain = program.definition->domain;
	struct rt_redis_url url;
	ProtobufCService *rpc;
	int rc;

	program.service = service;
	program.ready_changed.run = on_ready_changed;
	if (!settings_good(settings))
		return RT_INVALID;
	rc = read_url(&settings->redis, &url);
	if (rc == RT_OK)
		rc = make_tls(&settings->redis, &url);
	if (rc != RT_OK)
		return rc;
	if (!passwords_good(&settings->redis))
		return RT_SYSTEM;
	rc = make_context(settings, &url);
	if (rc != RT_OK) {
		RT_LOG(RT_ERROR, "cannot start", RT_S("reason", rt_status_text(rc)));
		return rc;
	}
	add_checks();
	program.served = rt_metric_plain(service->metrics, RT_GAUGE, "tandem_partitions_served",
					 "Partitions whose data can be reached and whose streams "
					 "are read.");
	for (size_t i = 0; (rpc = domain->service(program.context->data, i)) != NULL; i++)
		rt_server_add(service->server, rpc);
	rt_context_start(program.context);
	program.redis_state = rt_redis_state_new(
		program.context, is_replicated(settings, &url) ? REPLICAS_WANTED : 0);
	on_ready_time(&program.ready_timer);
	return RT_OK;
}

static void drain(struct rt_service *service)
{
	(void)service;
	if (program.context->domain->drain != NULL)
		program.context->domain->drain(program.context->data);
}

static void context_stopped(void *user)
{
	(void)user;
	rt_redis_state_free(program.redis_state);
	rt_context_free(program.context);
	rt_topology_free(program.topology);
	rt_redis_tls_free(program.tls);
	rt_service_stopped(program.service);
}

static void stop(struct rt_service *service)
{
	program.stopping = true;
	rt_timer_stop(service->loop, &program.ready_timer);
	rt_redis_state_stop(program.redis_state);
	rt_context_stop(program.context, context_stopped, NULL);
}

int rt_context_run(const struct rt_context_program *definition, int argc, char **argv)
{
	struct rt_setting *settings = settings_table(definition);
	const struct rt_service_definition service = {
		.program = { .service = definition->domain->name,
			     .about = definition->about,
			     .settings = settings,
			     .settings_size = definition->settings_size },
		.listen = definition->listen,
		.admin_listen = definition->admin_listen,
		.access = definition->access,
		.functions = definition->domain->functions->code,
		.functions_length = definition->domain->functions->code_length,
		.start = start,
		.drain = drain,
		.stop = stop,
	};
	int code;

	program.definition = definition;
	code = rt_service_run(&service, argc, argv);
	free(settings);
	return code;
}
