/* service.h - what every service's main does: settings, log, loop, metrics, admin port, gRPC
 * server, signals; then start, ready, drain, stop.
 *
 *   main → rt_service_run
 *     read settings (exit 2 when they are bad)   log, gRPC, loop, metrics, certificates, admin port bound
 *     definition->start                          makes the service's own objects, adds its services
 *     server started, health answers             admin port answers, systemd hears READY=1
 *     … SIGTERM or SIGINT
 *     health NOT_SERVING, drain_delay_ms          calls are served; load balancers go elsewhere
 *     server drained                              calls that run finish, or drain_ms is over
 *     calls over HTTP closed                      where there are any
 *     admin port closed
 *     definition->stop                            the service's own objects end
 *     exit 0
 * A second signal while draining ends the process at once with exit 1; so does a stop
 * that has not ended after 10 s. SIGHUP, SIGUSR1 and SIGUSR2 do nothing but a line in the log. */
#ifndef RT_SERVICE_H
#define RT_SERVICE_H

#include "base/base.h"
#include "rpc/rpc.h"

/* Settings every service has. The service's own struct begins with it. */
struct rt_service_settings {
	char *listen, *admin_listen, *log_level, *log_format;
	char *tls_cert, *tls_key, *tls_client_ca, *tls_client_cert;
	char *callers, *jwt_keys, *jwt_issuer, *jwt_audience;
	int64_t jwt_leeway_ms;
	bool insecure;
	int64_t drain_delay_ms, drain_ms, message_max_bytes, calls_max, connections_max;
	int64_t connections_per_address;
	char *otlp, *otlp_tls_ca, *trace_ratio;
	int64_t trace_slow_ms;
	bool dumpable, print_functions;
	char *http_listen, *http_allow_origin; /* of a service with http_services */
};

struct rt_admin;
struct rt_exporter;
struct rt_http_calls;

struct rt_service {
	const struct rt_service_definition *definition;
	struct rt_loop *loop;
	struct rt_metrics *metrics;
	struct rt_admin *admin;         /* NULL: none wanted (admin-listen is empty) */
	struct rt_readiness *readiness; /* what start adds its checks to */
	struct rt_server *server;       /* NULL: it serves no gRPC */
	struct rt_http_calls *http;     /* NULL: nor calls over HTTP */
	struct rt_tls *tls;             /* the server's; NULL: none */
	struct rt_auth *auth;           /* NULL: nobody is asked who it is */
	struct rt_exporter *exporter;   /* of spans; NULL: none */
	struct rt_tls *exporter_tls;
	void *settings; /* the definition's struct */
	void *data;     /* what start made */
};

struct rt_service_definition {
	struct rt_config_program
		program; /* its settings: the own ones; the common ones are added */
	const char *listen, *admin_listen; /* defaults: "127.0.0.1:50051", "127.0.0.1:9101" */
	/* It serves something else than gRPC at `listen`: `start` binds and serves there, and says that it cannot by
	 * rt_service_cannot_listen; who calls is for it to ask. It has none of the settings that are about calls. */
	bool no_grpc;
	/* As in struct rt_server_options. */
	unsigned int (*access)(const char *path);
	/* Of a service that faces clients: where in its settings the struct rt_budgets is. 0: it stands behind a gateway. */
	size_t budgets_offset;
	/* What it serves over HTTP, too, where its settings say; NULL ends it. NULL: it has none of these settings. */
	const ProtobufCServiceDescriptor *const *http_services;
	/* Printed by --print-functions; NULL: none. */
	const char *functions;
	size_t functions_length;
	/* Makes what the service needs, adds services to service->server, sets service->data. RT_OK, or anything
	 * else after logging why (exit 1). Must not wait: what needs Redis becomes ready later. */
	int (*start)(struct rt_service *service);
	/* The service is asked to end, and its server drains: ends calls that would last. NULL: it has
	 * none. */
	void (*drain)(struct rt_service *service);
	/* Ends what start made, then calls rt_service_stopped once. */
	void (*stop)(struct rt_service *service);
};

/* The whole life of a service; returns the exit code. */
int rt_service_run(const struct rt_service_definition *definition, int argc, char **argv);
void rt_service_stopped(struct rt_service *service);
/* Ends the process at once with exit 1, after logging why: it can never serve as it is set up. */
_Noreturn void rt_service_give_up(void);
/* Logs why nobody can listen at the address of the setting `listen`, and what to do. */
void rt_service_cannot_listen(struct rt_service *service);

/* Settings of a service that keeps its state in Redis (context/program.c). */
struct rt_redis_settings {
	char *url, *host, *unix_path;
	char *user, *password_file;
	char *sentinel_user, *sentinel_password_file;
	char *deploy_user, *deploy_password_file;
	char *tls_ca, *tls_cert, *tls_key;
	bool tls;
	int64_t port, timeout_ms;
};

#endif
