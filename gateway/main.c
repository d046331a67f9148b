/* main.c - the gateway's wiring: settings, clients, one server.
 *
 * Shuts down in this order: calls (the server is drained before `stop`), the streams that place
 * orders, the channels with the calls still under way on them, the gateway. */
#include "access.h"
#include "base/base.h"
#include "check.h"
#include "gateway_internal.h"
#include "interpose/interpose.h"
#include "service/service.h"
#include "tandem/archive/v1/archive_service.pb-c.h"
#include "tandem/inventory/v1/inventory_service.pb-c.h"

struct settings {
	struct rt_service_settings service; /* first */
	char *order_target, *inventory_target, *archive_target;
	char *upstream_ca, *upstream_cert, *upstream_key;
	int64_t connections, batch_max, orders_max, timeout_ms;
	struct rt_budgets budgets;
	int64_t pending_per_caller;
	int64_t shed_wait_ms, shed_events, shed_age_ms, shed_storing_ms, shed_arriving_ms,
		shed_memory_percent;
};

struct process {
	struct rt_service *service;
	struct rt_tls *tls; /* of the channels; NULL: none */
	struct rt_channel *order_channel, *inventory_channel, *archive_channel;
	ProtobufCService *order, *placement, *inventory, *archive;
	struct gateway *gateway;
};

#define AT(member) offsetof(struct settings, member)
static const struct rt_setting settings[] = {
	{ "order-target", RT_SETTING_STRING, AT(order_target), "127.0.0.1:50052", 0, 0,
	  "Where the order service listens: host:port, or several, separated by commas. Calls go "
	  "to all "
	  "instances that serve, at every address that a host's name has." },
	{ "inventory-target", RT_SETTING_STRING, AT(inventory_target), "127.0.0.1:50053", 0, 0,
	  "Where the inventory service listens; the form is that of --order-target." },
	{ "archive-target", RT_SETTING_STRING, AT(archive_target), "127.0.0.1:50054", 0, 0,
	  "Where the archive listens; the form is that of --order-target. Empty: there is none, "
	  "and "
	  "orders that the order service has dropped are unknown." },
	{ "upstream-tls-ca", RT_SETTING_STRING, AT(upstream_ca), "", 0, 0,
	  "File with the authorities that the certificates of the services behind the gateway are "
	  "from; empty: "
	  "calls "
	  "to them are not encrypted." },
	{ "upstream-tls-cert", RT_SETTING_STRING, AT(upstream_cert), "", 0, 0,
	  "File with the certificate that the gateway shows to the services behind it." },
	{ "upstream-tls-key", RT_SETTING_STRING, AT(upstream_key), "", 0, 0,
	  "File with the key of --upstream-tls-cert, which nobody else may read." },
	{ "connections", RT_SETTING_INT, AT(connections), "1", 1, 64,
	  "Connections to each instance of a service behind the gateway." },
	{ "batch-max", RT_SETTING_INT, AT(batch_max), "128", 1, GATEWAY_BATCH_MAX,
	  "How many orders one message to the order service holds at most." },
	{ "orders-max", RT_SETTING_INT, AT(orders_max), "20000", 1, 10000000,
	  "How many orders may be on their way to the order service, or wait there for their "
	  "decision; further ones are refused." },
	{ "shed-wait", RT_SETTING_DURATION, AT(shed_wait_ms), "100ms", 0, 86400000,
	  "So long the events of orders that wait for inventory may take at the rate of now; from "
	  "there on only as many orders are taken as are worked off. 0: no limit." },
	{ "shed-events", RT_SETTING_INT, AT(shed_events), "250", 0, 1000000000,
	  "While no more events than these wait for inventory, how long they take does not "
	  "count." },
	{ "shed-age", RT_SETTING_DURATION, AT(shed_age_ms), "30s", 0, 86400000,
	  "For so long an event may wait for inventory; from there on a part of the new orders is "
	  "refused, from five times as long on all. 0: no limit." },
	{ "shed-storing", RT_SETTING_DURATION, AT(shed_storing_ms), "100ms", 0, 86400000,
	  "So long storing the orders that are to be stored may take; from there on only as many "
	  "are "
	  "taken as are stored. 0: no limit." },
	{ "shed-arriving", RT_SETTING_DURATION, AT(shed_arriving_ms), "50ms", 0, 86400000,
	  "For so long calls may wait before the gateway reads them; from there on fewer orders "
	  "are "
	  "taken. 0: no limit." },
	{ "shed-memory", RT_SETTING_INT, AT(shed_memory_percent), "90", 0, 100,
	  "So much of the memory that Redis may use, in percent, may be used; with more, a part of "
	  "the "
	  "new orders is refused, nine of ten when all is used. 0: no limit." },
	{ "timeout", RT_SETTING_DURATION, AT(timeout_ms), "30s", 10, 3600000,
	  "The deadline of calls that have none of their own." },
	{ "calls-per-connection", RT_SETTING_INT, AT(budgets.connection.calls), "2500", 0, 1000000,
	  "Most calls of one connection in progress; one more is refused. 0: no limit." },
	{ "streams-per-connection", RT_SETTING_INT, AT(budgets.connection.streams), "1000", 0,
	  1000000,
	  "Most streams of one connection that are open, watches above all. 0: no limit." },
	{ "calls-per-caller", RT_SETTING_INT, AT(budgets.caller.calls), "5000", 0, 1000000,
	  "Most calls in progress of one caller that has said who it is, on all its connections. "
	  "0: no "
	  "limit." },
	{ "streams-per-caller", RT_SETTING_INT, AT(budgets.caller.streams), "2000", 0, 1000000,
	  "Most open streams of one caller that has said who it is. 0: no limit." },
	{ "rate-per-connection", RT_SETTING_INT, AT(budgets.connection.rate), "0", 0, 1000000,
	  "Most calls of one connection in a second; each message of a client's stream is one. 0: "
	  "no limit." },
	{ "rate-per-caller", RT_SETTING_INT, AT(budgets.caller.rate), "0", 0, 1000000,
	  "Most calls in a second of one caller that has said who it is. 0: no limit." },
	{ "bytes-per-connection", RT_SETTING_SIZE, AT(budgets.connection.bytes), "0", 0,
	  INT64_C(1) << 40,
	  "Most bytes of requests and answers of one connection in a second. 0: no limit." },
	{ "bytes-per-caller", RT_SETTING_SIZE, AT(budgets.caller.bytes), "0", 0, INT64_C(1) << 40,
	  "Most bytes of requests and answers in a second of one caller that has said who it is. "
	  "0: "
	  "no limit." },
	{ "unread-per-connection", RT_SETTING_SIZE, AT(budgets.unread_bytes_per_connection),
	  "16MiB", 0, INT64_C(1) << 40,
	  "Most bytes of answers that a connection has not read yet; beyond them calls fail. Twice "
	  "as much for all connections together. 0: no limit." },
	{ "pending-per-caller", RT_SETTING_INT, AT(pending_per_caller), "5000", 0, 1000000,
	  "Most orders of one customer that has said who it is, that are on their way or that "
	  "inventory "
	  "has not answered yet. 0: no limit." },
	{ "refused-tokens-per-address", RT_SETTING_INT, AT(budgets.refused_tokens_per_address),
	  "100", 0, 1000000,
	  "Most signed tokens of one address in a second that are not good; beyond them only those "
	  "that "
	  "were found good before are taken from it. 0: no limit." },
	RT_SETTING_END,
};

static void process_free(struct process *process)
{
	gateway_free(process->gateway);
	if (process->order != NULL)
		rt_client_free(process->order);
	if (process->placement != NULL)
		rt_client_free(process->placement);
	if (process->inventory != NULL)
		rt_client_free(process->inventory);
	if (process->archive != NULL)
		rt_client_free(process->archive);
	rt_tls_free(process->tls);
	free(process);
}

/* `flag`: where `target` comes from. `name`: of the service's readiness check; NULL: the gateway is ready without it. */
static int connect_to(struct process *process, const char *flag, const char *target,
		      const char *name, const ProtobufCServiceDescriptor *descriptor,
		      struct rt_channel **ret)
{
	struct rt_service *service = process->service;
	const struct settings *set = service->settings;
	/* message-max limits requests. Callers must learn what a request has changed, so every
	 * answer that the services can give is accepted. */
	const struct rt_channel_options options = {
		.message_max_bytes =
			RT_MAX(set->service.message_max_bytes, (int64_t)CHECK_ANSWER_MAX),
		.metrics = service->metrics,
		.connections = (int)set->connections,
		.tls = process->tls,
	};
	int rc = rt_channel_new(service->loop, target, &options, ret);

	if (rc == RT_OK)
		rt_channel_check_health(*ret, descriptor->name,
					name != NULL ? service->readiness : NULL, name);
	else
		RT_LOG(RT_ERROR, "a target is no list of addresses like host:port,host:port",
		       RT_S("flag", flag), RT_S("target", target),
		       RT_S("reason", rt_status_text(rc)));
	return rc;
}

static int make_tls(struct process *process)
{
	const struct settings *set = process->service->settings;
	const struct rt_tls_options options = {
		.certificate = set->upstream_cert,
		.key = set->upstream_key,
		.authorities = set->upstream_ca,
		.metrics = process->service->metrics,
		.purpose = "upstream",
	};

	if (set->upstream_ca[0] != '\0')
		return rt_tls_new(process->service->loop, &options, &process->tls);
	if (set->upstream_cert[0] == '\0' && set->upstream_key[0] == '\0')
		return RT_OK;
	RT_LOG(RT_ERROR, "--upstream-tls-cert and --upstream-tls-key need --upstream-tls-ca");
	return RT_INVALID;
}

/* Channels to the services behind, and what is called on them. What it has made stays, whatever it returns. */
static int connect_all(struct process *process)
{
	const struct settings *set = process->service->settings;
	const ProtobufCServiceDescriptor *order = &tandem__order__v1__order_service__descriptor;
	const ProtobufCServiceDescriptor *inventory =
		&tandem__inventory__v1__inventory_service__descriptor;
	const ProtobufCServiceDescriptor *archive =
		&tandem__archive__v1__archive_service__descriptor;
	int rc = make_tls(process);

	if (rc == RT_OK)
		rc = connect_to(process, "--order-target", set->order_target, "order", order,
				&process->order_channel);
	if (rc == RT_OK)
		rc = connect_to(process, "--inventory-target", set->inventory_target, "inventory",
				inventory, &process->inventory_channel);
	if (rc == RT_OK && set->archive_target[0] != '\0')
		rc = connect_to(process, "--archive-target", set->archive_target, NULL, archive,
				&process->archive_channel);
	if (rc != RT_OK)
		return rc;
	process->order = rt_client_new(process->order_channel, order);
	process->placement = rt_client_new(process->order_channel,
					   &tandem__order__v1__placement_service__descriptor);
	process->inventory = rt_client_new(process->inventory_channel, inventory);
	if (process->archive_channel != NULL)
		process->archive = rt_client_new(process->archive_channel, archive);
	return RT_OK;
}

static int make_gateway(struct process *process)
{
	const struct settings *set = process->service->settings;
	const struct gateway_options options = {
		.batch_max = set->batch_max,
		.orders_max = set->orders_max,
		.timeout_ms = set->timeout_ms,
		.pending_per_caller = set->pending_per_caller,
		.shed.events_few = set->shed_events,
		.shed.of = { [SHED_EVENTS] = set->shed_wait_ms,
			     [SHED_AGE] = set->shed_age_ms,
			     [SHED_STORING] = set->shed_storing_ms,
			     [SHED_ARRIVING] = set->shed_arriving_ms,
			     [SHED_MEMORY] = 10 * set->shed_memory_percent },
		.metrics = process->service->metrics,
		.order = process->order,
		.placement = process->placement,
		.order_channel = process->order_channel,
		.inventory = process->inventory,
		.inventory_channel = process->inventory_channel,
		.archive = process->archive,
		.archive_channel = process->archive_channel,
	};

	return gateway_new(process->service->loop, &options, &process->gateway);
}

static int start(struct rt_service *service)
{
	struct process *process = rt_alloc(sizeof(*process));
	int rc;

	rt_arrivals_watch();
	process->service = service;
	rc = connect_all(process);
	if (rc == RT_OK)
		rc = make_gateway(process);
	if (rc != RT_OK) {
		/* The process ends; channels without calls end with it. */
		rt_channel_free(process->order_channel, NULL, NULL);
		rt_channel_free(process->inventory_channel, NULL, NULL);
		rt_channel_free(process->archive_channel, NULL, NULL);
		process_free(process);
		return rc;
	}
	rt_server_add(service->server, gateway_order_rpc(process->gateway));
	rt_server_add(service->server, gateway_inventory_rpc(process->gateway));
	if (process->archive != NULL)
		rt_server_add(service->server, gateway_archive_rpc(process->gateway));
	service->data = process;
	return RT_OK;
}

/* stop → gateway_ended → order_ended → inventory_ended → archive_ended: each channel ends the calls under way on it. */
static void archive_ended(void *user)
{
	struct process *process = user;
	struct rt_service *service = process->service;

	process_free(process);
	rt_service_stopped(service);
}

static void inventory_ended(void *user)
{
	struct process *process = user;

	rt_channel_free(process->archive_channel, archive_ended, process);
}

static void order_ended(void *user)
{
	struct process *process = user;

	rt_channel_free(process->inventory_channel, inventory_ended, process);
}

static void gateway_ended(void *user)
{
	struct process *process = user;

	rt_channel_free(process->order_channel, order_ended, process);
}

static void stop(struct rt_service *service)
{
	struct process *process = service->data;

	gateway_stop(process->gateway, gateway_ended, process);
}

int main(int argc, char **argv)
{
	static const ProtobufCServiceDescriptor *const http_services[] = {
		&tandem__order__v1__order_service__descriptor,
		&tandem__inventory__v1__inventory_service__descriptor,
		&tandem__archive__v1__archive_service__descriptor,
		NULL,
	};
	static const struct rt_service_definition definition = {
		.program = {
			.service = "gateway",
			.about = "Checks each call that enters Tandem, gathers orders, passes it on.",
			.settings = settings,
			.settings_size = sizeof(struct settings),
		},
		.listen = "127.0.0.1:50051",
		.admin_listen = "127.0.0.1:9101",
		.access = access_roles,
		.http_services = http_services,
		.budgets_offset = offsetof(struct settings, budgets),
		.start = start,
		.stop = stop,
	};

	return rt_service_run(&definition, argc, argv);
}
