/* service.c - the life of a service, from its arguments to its exit code.
 *
 *   rt_service_run
 *     read_settings      the common ones and the definition's, in one table
 *     build              loop, signals, metrics, admin port, server, definition->start
 *     serve              server, admin port, readiness
 *     rt_loop_run
 *       on_signal        the first one: no longer ready, calls still served
 *         delay_over     drain
 *         drained        no call is left: close the admin port, definition->stop
 *           rt_service_stopped
 *     tear_down
 *
 * The admin port is closed before definition->stop, because its thread reads readiness checks. */
#include "service.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "admin_internal.h"
#include "exporter_internal.h"
#include "http_calls_internal.h"
#include "process_internal.h"
#include "tandem_commit.h"

#define EXIT_USAGE        2
#define STOP_MAX_MS       10000
#define FAREWELL_MS       200
#define OPEN_FILES_WANTED 65536
#define BEAT_MS           1000
#define LOOP_STUCK_MS     10000 /* without a beat: then /healthz fails */
#define LOG_FLUSH_MS      500

struct life {
	struct rt_service service;        /* what the definition sees */
	struct rt_config_program program; /* of the common settings and the definition's */
	struct rt_check serving;
	struct rt_timer delay_timer, stop_timer, beat_timer;
	int64_t return_memory_ns; /* not before then */
	bool draining;
	struct rt_process *process; /* its metrics */
};

static struct rt_service_settings *common(struct life *life)
{
	return life->service.settings;
}

/* ---- settings ---- */

#define COMMON_SETTINGS 26
#define CALL_SETTINGS   16 /* the last of them, which are about calls */
#define COMMON(member)  offsetof(struct rt_service_settings, member)

static void common_settings(const struct rt_service_definition *definition,
			    struct rt_setting table[COMMON_SETTINGS])
{
	const struct rt_setting settings[COMMON_SETTINGS] = {
		{ "listen", RT_SETTING_LISTEN, COMMON(listen), definition->listen, 0, 0,
		  definition->no_grpc ? "Where the page is served." : "Where gRPC is served." },
		{ "admin-listen", RT_SETTING_LISTEN, COMMON(admin_listen), definition->admin_listen,
		  -1, 0,
		  "Where /metrics, /healthz and /readyz are served; empty: nowhere. Other machines "
		  "reach it with TLS alone." },
		{ "tls-cert", RT_SETTING_STRING, COMMON(tls_cert), "", 0, 0,
		  "File with the certificate that gRPC is served with, and those that signed it, "
		  "in PEM form; empty: without TLS. Read again when it changes. The admin port "
		  "uses it, too, if other machines can reach it." },
		{ "tls-key", RT_SETTING_STRING, COMMON(tls_key), "", 0, 0,
		  "File with the certificate's key, which nobody else may read." },
		{ "tls-client-ca", RT_SETTING_STRING, COMMON(tls_client_ca), "", 0, 0,
		  "File with the authorities that clients' certificates are from; empty: clients "
		  "are not asked for one." },
		{ "tls-client-cert", RT_SETTING_STRING, COMMON(tls_client_cert), "required", 0, 0,
		  "Whether clients must show a certificate, where they are asked: required or "
		  "optional." },
		{ "insecure", RT_SETTING_BOOL, COMMON(insecure), "false", 0, 0,
		  "Listen beyond this machine even without TLS, or without knowing who calls." },
		{ "log-level", RT_SETTING_STRING, COMMON(log_level), "info", 0, 0,
		  "Least important lines to log: error, warn, info or debug." },
		{ "log-format", RT_SETTING_STRING, COMMON(log_format), "text", 0, 0,
		  "Form of the log's lines: text or json." },
		{ "dumpable", RT_SETTING_BOOL, COMMON(dumpable), "false", 0, 0,
		  "Leave a core, and let other processes of the user attach, although the process "
		  "knows secrets; for developers." },
		{ "callers", RT_SETTING_STRING, COMMON(callers), "", 0, 0,
		  "File that lists API keys and certificates, each with its caller's name and "
		  "role; "
		  "empty, and no --jwt-keys: nobody is asked who it is. Read again when it "
		  "changes." },
		{ "jwt-keys", RT_SETTING_STRING, COMMON(jwt_keys), "", 0, 0,
		  "File with the keys that bearer tokens are signed with (JWKS); empty: no tokens "
		  "are accepted. Read again when it changes." },
		{ "jwt-issuer", RT_SETTING_STRING, COMMON(jwt_issuer), "", 0, 0,
		  "The issuer that tokens must name." },
		{ "jwt-audience", RT_SETTING_STRING, COMMON(jwt_audience), "", 0, 0,
		  "The audience that tokens must name." },
		{ "jwt-leeway", RT_SETTING_DURATION, COMMON(jwt_leeway_ms), "30s", 0, 600000,
		  "By how much the clocks of the issuer and of this machine may differ." },
		{ "drain-delay", RT_SETTING_DURATION, COMMON(drain_delay_ms), "500ms", 0, 60000,
		  "How long calls are still served after SIGTERM, while health says NOT_SERVING, "
		  "so that clients go to other instances." },
		{ "drain-timeout", RT_SETTING_DURATION, COMMON(drain_ms), "10s", 0, 600000,
		  "How long running calls may take to finish after --drain-delay." },
		{ "message-max", RT_SETTING_SIZE, COMMON(message_max_bytes), "4MiB", 1024,
		  INT64_C(64) << 20, "Largest request that is accepted." },
		{ "calls-max", RT_SETTING_INT, COMMON(calls_max), "10000", 1, 1000000,
		  "Most calls in progress; one more is refused." },
		{ "connections-max", RT_SETTING_INT, COMMON(connections_max), "4096", 1, 1000000,
		  "Most open connections; for one more an idle one is closed, or else the new "
		  "one." },
		{ "connections-per-address", RT_SETTING_INT, COMMON(connections_per_address), "0",
		  0, 1000000,
		  "Most open connections of one address; 0: a quarter of all, and those of this "
		  "machine have no limit of their own." },
		{ "otlp", RT_SETTING_STRING, COMMON(otlp), "", 0, 0,
		  "Where spans go: host:port of a collector that takes OTLP over gRPC, or http:// "
		  "or "
		  "https:// and that; empty: what OTEL_EXPORTER_OTLP_ENDPOINT says, or nowhere." },
		{ "otlp-tls-ca", RT_SETTING_STRING, COMMON(otlp_tls_ca), "", 0, 0,
		  "File with the authorities that the collector's certificate is from, needed for "
		  "https://; empty: calls to it are not encrypted." },
		{ "trace-ratio", RT_SETTING_STRING, COMMON(trace_ratio), "0.01", 0, 0,
		  "Which part of the traces that begin here is sent, 0 to 1; the same for all "
		  "services. "
		  "Callers that send a traceparent decide for themselves." },
		{ "trace-slow", RT_SETTING_DURATION, COMMON(trace_slow_ms), "1s", 0, 600000,
		  "What takes longer is sent whatever the ratio says, as what fails is; 0: only "
		  "what "
		  "fails." },
		{ "print-functions", RT_SETTING_ACTION, COMMON(print_functions), "", 0, 0,
		  "Print the service's Redis functions, for FUNCTION LOAD, and end." },
	};

	memcpy(table, settings, sizeof(settings));
}

#define HTTP_SETTINGS 2
static const struct rt_setting http_settings[HTTP_SETTINGS] = {
	{ "http-listen", RT_SETTING_LISTEN, COMMON(http_listen), "", -1, 0,
	  "Where calls are served over HTTP, too: JSON, the Connect protocol and gRPC-Web, for "
	  "browsers and scripts; with "
	  "TLS if gRPC is. Empty: nowhere." },
	{ "http-allow-origin", RT_SETTING_STRING, COMMON(http_allow_origin), "", 0, 0,
	  "Whose pages may call over HTTP: origins like https://shop.example, separated by commas; "
	  "* for all pages; empty: none." },
};

static void make_program(struct life *life, const struct rt_service_definition *definition)
{
	struct rt_setting settings[COMMON_SETTINGS + HTTP_SETTINGS];
	/* The last of the common ones is --print-functions. */
	size_t left_out = definition->no_grpc ? CALL_SETTINGS : definition->functions == NULL;

	size_t count = COMMON_SETTINGS - left_out;

	common_settings(definition, settings);
	if (definition->http_services != NULL) {
		memcpy(&settings[count], http_settings, sizeof(http_settings));
		count += HTTP_SETTINGS;
	}
	life->program = definition->program;
	life->program.settings = rt_settings_join(settings, count, definition->program.settings);
}

static bool log_settings_good(struct life *life, enum rt_log_level *level, bool *json)
{
	const char *service = life->program.service;

	if (!rt_log_level_parse(common(life)->log_level, level)) {
		fprintf(stderr,
			"tandem-%s: --log-level: %.100s is not one of error, warn, info, debug\n",
			service, common(life)->log_level);
		return false;
	}
	*json = strcmp(common(life)->log_format, "json") == 0;
	if (!*json && strcmp(common(life)->log_format, "text") != 0) {
		fprintf(stderr, "tandem-%s: --log-format: %.100s is neither text nor json\n",
			service, common(life)->log_format);
		return false;
	}
	return true;
}

/* ---- doors ---- */

static bool asks_who(const struct rt_service_settings *set)
{
	return set->callers[0] != '\0' || set->jwt_keys[0] != '\0';
}

#define WITHOUT_TLS "without TLS: set --tls-cert and --tls-key"

static bool refuse_door(const char *service, const char *setting, const char *listen,
			const char *missing, const char *else_all)
{
	fprintf(stderr,
		"tandem-%s: --%s: %.200s can be reached from other machines, %s; or set "
		"--insecure, and everybody who reaches it may %s\n",
		service, setting, listen, missing, else_all);
	return false;
}

/* What is missing for calls at this address; NULL: nothing. */
static const char *missing_at(const struct life *life, const struct rt_service_settings *set,
			      const char *listen)
{
	bool required = strcmp(set->tls_client_cert, "required") == 0;

	if (rt_listen_local(listen))
		return NULL;
	if (set->tls_cert[0] == '\0')
		return WITHOUT_TLS;
	if (!life->service.definition->no_grpc && !asks_who(set) &&
	    (set->tls_client_ca[0] == '\0' || !required))
		return "without knowing who calls: set --callers, --jwt-keys or --tls-client-ca";
	return NULL;
}

/* True: what may listen where it is told to. */
static bool doors_good(struct life *life)
{
	const struct rt_service_settings *set = common(life);
	const char *service = life->program.service, *missing;
	bool has_http = life->service.definition->http_services != NULL;
	bool required = strcmp(set->tls_client_cert, "required") == 0;

	if (!required && strcmp(set->tls_client_cert, "optional") != 0) {
		fprintf(stderr,
			"tandem-%s: --tls-client-cert: %.100s is neither required nor optional\n",
			service, set->tls_client_cert);
		return false;
	}
	if ((set->tls_cert[0] == '\0') != (set->tls_key[0] == '\0') ||
	    (set->tls_client_ca[0] != '\0' && set->tls_cert[0] == '\0')) {
		fprintf(stderr,
			"tandem-%s: --tls-cert and --tls-key go together, and --tls-client-ca "
			"needs "
			"both\n",
			service);
		return false;
	}
	if (set->insecure)
		return true;
	missing = missing_at(life, set, set->listen);
	if (missing != NULL)
		return refuse_door(service, "listen", set->listen, missing, "do everything");
	missing = has_http ? missing_at(life, set, set->http_listen) : NULL;
	if (missing != NULL)
		return refuse_door(service, "http-listen", set->http_listen, missing,
				   "do everything");
	if (!rt_listen_local(set->admin_listen) && set->tls_cert[0] == '\0')
		return refuse_door(service, "admin-listen", set->admin_listen, WITHOUT_TLS,
				   "read its metrics");
	return true;
}

static int print_functions(const struct rt_service_definition *definition)
{
	if (fwrite(definition->functions, 1, definition->functions_length, stdout) !=
		    definition->functions_length ||
	    fflush(stdout) != 0) {
		fprintf(stderr, "tandem-%s: cannot write: %s\n", definition->program.service,
			strerror(errno));
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

/* True: go on. Else *ret_code is the exit code. */
static bool read_settings(struct life *life, int argc, char **argv, int *ret_code)
{
	enum rt_log_level level;
	bool json, end = false;

	*ret_code = EXIT_USAGE;
	life->service.settings = rt_alloc(life->program.settings_size);
	if (rt_config_read(&life->program, argc, argv, life->service.settings, &end) != RT_OK)
		return false;
	if (end) {
		*ret_code = EXIT_SUCCESS;
		return false;
	}
	if (common(life)->print_functions) {
		*ret_code = print_functions(life->service.definition);
		return false;
	}
	if (!log_settings_good(life, &level, &json) || !doors_good(life))
		return false;
	rt_log_init(life->program.service, level, json);
	if (common(life)->dumpable)
		rt_file_allow_dumps();
	return true;
}

/* ---- systemd ---- */

/* A datagram to the socket that systemd (Type=notify) names, as sd_notify(3) describes it. Too
 * little for libsystemd. If systemd does not listen, the service goes on. */
static void notify_systemd(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t length = path != NULL ? strlen(path) : 0;
	int fd;

	if (length < 2 || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0'; /* the abstract namespace */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
		RT_LOG(RT_WARN, "systemd was not notified", RT_S("state", state),
		       RT_S("error", strerror(errno)));
	close(fd);
}

/* ---- the end ---- */

_Noreturn void rt_service_give_up(void)
{
	rt_log_flush(LOG_FLUSH_MS);
	_exit(EXIT_FAILURE);
}

static void stop_took_too_long(struct rt_timer *timer)
{
	(void)timer;
	RT_LOG(RT_ERROR, "the service did not stop in time", RT_I("after_ms", STOP_MAX_MS));
	rt_service_give_up();
}

static void end(struct life *life)
{
	rt_http_calls_free(RT_TAKE(life->service.http));
	rt_admin_free(life->service.admin);
	life->service.admin = NULL;
	rt_timer_start(life->service.loop, &life->stop_timer, STOP_MAX_MS, stop_took_too_long);
	life->service.definition->stop(&life->service);
}

static void http_closed(void *user)
{
	end(user);
}

static void drained(void *user)
{
	struct life *life = user;

	RT_LOG(RT_INFO, "drained");
	if (life->service.http != NULL)
		rt_http_calls_close(life->service.http, http_closed, life);
	else
		end(life);
}

static void no_calls(struct rt_timer *timer)
{
	end(RT_CONTAINER_OF(timer, struct life, delay_timer));
}

static void ended(void *user)
{
	struct rt_service *service = user;
	struct life *life = RT_CONTAINER_OF(service, struct life, service);

	rt_timer_stop(service->loop, &life->stop_timer);
	rt_timer_stop(service->loop, &life->beat_timer);
	rt_loop_stop(service->loop);
}

void rt_service_stopped(struct rt_service *service)
{
	struct rt_exporter *exporter = RT_TAKE(service->exporter);

	if (exporter != NULL)
		rt_exporter_stop(exporter, ended, service);
	else
		ended(service);
}

static void delay_over(struct rt_timer *timer)
{
	struct life *life = RT_CONTAINER_OF(timer, struct life, delay_timer);

	if (life->service.definition->drain != NULL)
		life->service.definition->drain(&life->service);
	rt_server_drain(life->service.server, common(life)->drain_ms, drained, life);
}

static void on_signal(int signum, void *user)
{
	struct life *life = user;
	const char *name = sigabbrev_np(signum);

	if (life->draining) {
		RT_LOG(RT_WARN, "second signal, ending at once", RT_S("signal", name));
		rt_service_give_up();
	}
	life->draining = true;
	rt_check_failed(&life->serving, "the service is shutting down");
	notify_systemd("STOPPING=1");
	if (life->service.server == NULL) {
		RT_LOG(RT_INFO, "ending", RT_S("signal", name));
		rt_timer_start(life->service.loop, &life->delay_timer, 0, no_calls);
		return;
	}
	RT_LOG(RT_INFO, "draining", RT_S("signal", name),
	       RT_I("calls", rt_server_calls(life->service.server)),
	       RT_I("drain_ms", common(life)->drain_ms));
	rt_timer_start(life->service.loop, &life->delay_timer, common(life)->drain_delay_ms,
		       delay_over);
}

/* ---- signals ----
 *
 * SIGTERM and SIGINT drain; those that come before the loop exists wait for it. SIGHUP, SIGUSR1 and
 * SIGUSR2, which other daemons reload or reopen their logs with, do nothing. SIGXFSZ and SIGPIPE are
 * ignored: the write returns an error. SIGQUIT ends the process at
 * once and leaves a core, for looking at one that hangs. */

static const int ending_signals[] = { SIGTERM, SIGINT };
static const int ignored_signals[] = { SIGHUP, SIGUSR1, SIGUSR2 };

static void signals_first(void)
{
	sigset_t held;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < RT_LENGTH(ignored_signals); i++)
		signal(ignored_signals[i], SIG_IGN);
	sigemptyset(&held);
	for (size_t i = 0; i < RT_LENGTH(ending_signals); i++)
		sigaddset(&held, ending_signals[i]);
	sigprocmask(SIG_BLOCK, &held, NULL);
}

static void on_spared_signal(int signum, void *user)
{
	(void)user;
	RT_LOG(RT_INFO, "signal ignored; SIGTERM ends the service",
	       RT_S("signal", sigabbrev_np(signum)));
}

static int signals_to_loop(struct life *life)
{
	struct rt_loop *loop = life->service.loop;
	sigset_t held;
	int rc = RT_OK;

	sigemptyset(&held);
	for (size_t i = 0; i < RT_LENGTH(ignored_signals) && rc == RT_OK; i++)
		rc = rt_loop_on_signal(loop, ignored_signals[i], on_spared_signal, life);
	for (size_t i = 0; i < RT_LENGTH(ending_signals) && rc == RT_OK; i++) {
		rc = rt_loop_on_signal(loop, ending_signals[i], on_signal, life);
		sigaddset(&held, ending_signals[i]);
	}
	sigprocmask(SIG_UNBLOCK, &held, NULL);
	return rc;
}

/* ---- the beginning ---- */

/* Started without standard error, a service would log into the first file or socket it opens. */
static void fill_standard_files(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Less often the longer it takes. */
static void return_memory(struct life *life)
{
	int64_t began_ns = rt_monotonic_ns(), ended_ns;

	if (began_ns < life->return_memory_ns)
		return;
	rt_memory_return();
	ended_ns = rt_monotonic_ns();
	life->return_memory_ns = ended_ns + rt_memory_pause_ns(ended_ns - began_ns);
}

/* Each second, as long as the loop turns. */
static void beat(struct rt_timer *timer)
{
	struct life *life = RT_CONTAINER_OF(timer, struct life, beat_timer);

	rt_admin_alive(life->service.admin, LOOP_STUCK_MS);
	rt_log_flush(0);
	rt_server_rest(life->service.server);
	return_memory(life);
	rt_timer_start(life->service.loop, timer, BEAT_MS, beat);
}

/* Connections, not memory, are what the usual soft limit of 1024 would end first. */
static void raise_open_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= OPEN_FILES_WANTED)
		return;
	limit.rlim_cur = RT_MIN(limit.rlim_max, (rlim_t)OPEN_FILES_WANTED);
	setrlimit(RLIMIT_NOFILE, &limit);
}

static void make_metrics(struct life *life)
{
	const char *const labels[] = { "service", "version", "commit", NULL };
	const char *const values[] = { life->program.service, TANDEM_VERSION, TANDEM_COMMIT };

	life->service.metrics = rt_metrics_new();
	rt_series_set(
		rt_metric_series(rt_metric(life->service.metrics, RT_GAUGE, "tandem_build_info",
					   "Always 1. The commit is empty where it was not "
					   "known when the program was built.",
					   labels),
				 values),
		1);
	life->process = rt_process_new(life->service.metrics);
}

static void cannot_listen(struct life *life, const char *msg, const char *setting,
			  const char *listen)
{
	char variable[64];
	struct rt_buf reason = { 0 };
	char *fix;

	rt_listen_explain(listen, &reason);
	if (reason.length == 0) /* now it would work */
		rt_buf_printf(&reason, "binding it failed, but would work now");
	rt_buf_add(&reason, "", 1);
	snprintf(variable, sizeof(variable), "TANDEM_%s_%s", life->program.service, setting);
	for (char *p = variable; *p != '\0'; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	fix = rt_printf("set --%s or %s to an address that is free", setting, variable);
	RT_LOG(RT_ERROR, msg, RT_S("listen", listen), RT_S("reason", reason.data),
	       RT_S("fix", fix));
	free(fix);
	rt_buf_done(&reason);
}

void rt_service_cannot_listen(struct rt_service *service)
{
	struct life *life = RT_CONTAINER_OF(service, struct life, service);

	cannot_listen(life, "cannot listen", "listen", common(life)->listen);
}

static int make_admin(struct life *life)
{
	const char *listen = common(life)->admin_listen;

	struct rt_tls *tls = rt_listen_local(listen) ? NULL : life->service.tls;
	int rc = RT_OK;

	if (listen[0] != '\0')
		rc = rt_admin_new(listen, tls, life->service.metrics, life->service.readiness,
				  &life->service.admin);
	if (rc == RT_SYSTEM)
		cannot_listen(life, "cannot listen for operators", "admin-listen", listen);
	return rc;
}

static int make_tls(struct life *life)
{
	const struct rt_service_settings *set = common(life);
	const struct rt_tls_options options = {
		.certificate = set->tls_cert,
		.key = set->tls_key,
		.authorities = set->tls_client_ca,
		.required = strcmp(set->tls_client_cert, "required") == 0,
		.metrics = life->service.metrics,
		.purpose = "server",
	};

	if (set->tls_cert[0] == '\0')
		return RT_OK;
	return rt_tls_new(life->service.loop, &options, &life->service.tls);
}

static int make_auth(struct life *life)
{
	const struct rt_service_settings *set = common(life);
	const struct rt_auth_options options = {
		.callers_file = set->callers,
		.jwt_keys_file = set->jwt_keys,
		.jwt_issuer = set->jwt_issuer,
		.jwt_audience = set->jwt_audience,
		.jwt_leeway_ms = set->jwt_leeway_ms,
	};

	if (life->service.definition->no_grpc || !asks_who(set))
		return RT_OK;
	return rt_auth_new(life->service.loop, &options, &life->service.auth);
}

/* Where OpenTelemetry's own variable says, unless the setting does. */
static const char *otlp_endpoint(const struct rt_service_settings *set)
{
	const char *endpoint =
		set->otlp[0] != '\0' ? set->otlp : getenv("OTEL_EXPORTER_OTLP_ENDPOINT");

	return endpoint != NULL ? endpoint : "";
}

static int make_exporter(struct life *life)
{
	const struct rt_service_settings *set = common(life);
	struct rt_service *service = &life->service;
	const struct rt_tls_options tls = {
		.certificate = "",
		.key = "",
		.authorities = set->otlp_tls_ca,
		.metrics = service->metrics,
		.purpose = "otlp",
	};
	struct rt_exporter_options options = {
		.service = life->program.service,
		.endpoint = otlp_endpoint(set),
		.ratio = set->trace_ratio,
		.slow_ms = set->trace_slow_ms,
		.metrics = service->metrics,
	};
	int rc = RT_OK;

	rt_trace_metrics(service->metrics);
	if (options.endpoint[0] == '\0')
		return RT_OK;
	if (set->otlp_tls_ca[0] != '\0')
		rc = rt_tls_new(service->loop, &tls, &service->exporter_tls);
	options.tls = service->exporter_tls;
	return rc == RT_OK ? rt_exporter_new(service->loop, &options, &service->exporter) : rc;
}

static int make_server(struct life *life)
{
	struct rt_service *service = &life->service;
	struct rt_server_options options = {
		.listen = common(life)->listen,
		.message_max_bytes = common(life)->message_max_bytes,
		.calls_max = common(life)->calls_max,
		.connections_max = common(life)->connections_max,
		.connections_per_address = common(life)->connections_per_address,
		.farewell_ms = FAREWELL_MS,
		.access = service->definition->access,
		.inner = service->definition->budgets_offset == 0,
		.readiness = service->readiness,
		.tls = service->tls,
		.auth = service->auth,
		.metrics = service->metrics,
	};

	if (service->definition->no_grpc)
		return RT_OK;
	if (!options.inner)
		options.budgets =
			*(const struct rt_budgets *)(const void *)((const char *)service->settings +
								   service->definition
									   ->budgets_offset);
	return rt_server_new(service->loop, &options, &service->server);
}

static int make_http(struct life *life)
{
	struct rt_service *service = &life->service;
	const struct rt_service_settings *set = common(life);
	const struct rt_http_calls_options options = {
		.listen = set->http_listen,
		.tls = service->tls,
		.allow_origins = set->http_allow_origin,
		.message_max_bytes = set->message_max_bytes,
		.server = service->server,
		.services = service->definition->http_services,
		.metrics = service->metrics,
	};
	int rc;

	if (options.services == NULL || options.listen[0] == '\0')
		return RT_OK;
	rc = rt_http_calls_new(service->loop, &options, &service->http);
	if (rc == RT_SYSTEM)
		cannot_listen(life, "cannot listen for calls over HTTP", "http-listen",
			      options.listen);
	return rc;
}

static int build(struct life *life)
{
	struct rt_service *service = &life->service;
	int rc = rt_loop_new(&service->loop);

	if (rc == RT_OK) {
		service->readiness = rt_readiness_new();
		rt_readiness_add(service->readiness, &life->serving, "serving", NULL);
		rc = signals_to_loop(life);
	}
	if (rc == RT_OK)
		rc = make_tls(life);
	if (rc == RT_OK)
		rc = make_admin(life);
	if (rc == RT_OK)
		rc = make_auth(life);
	if (rc == RT_OK && !service->definition->no_grpc)
		rc = make_exporter(life);
	if (rc == RT_OK)
		rc = make_server(life);
	if (rc == RT_OK)
		rc = make_http(life);
	if (rc == RT_OK)
		return service->definition->start(service);
	RT_LOG(RT_ERROR, "cannot start", RT_S("reason", rt_status_text(rc)));
	return rc;
}

static int serve(struct life *life)
{
	struct rt_service *service = &life->service;
	int rc = service->server != NULL ? rt_server_start(service->server) : RT_OK;

	if (rc != RT_OK) {
		rt_service_cannot_listen(service);
		return rc;
	}
	if (service->admin != NULL && rt_admin_start(service->admin) != RT_OK) {
		RT_LOG(RT_ERROR, "cannot serve operators",
		       RT_S("admin_listen", common(life)->admin_listen));
		return RT_SYSTEM;
	}
	if (service->http != NULL && rt_http_calls_start(service->http) != RT_OK) {
		RT_LOG(RT_ERROR, "cannot serve calls over HTTP",
		       RT_S("http_listen", common(life)->http_listen));
		return RT_SYSTEM;
	}
	rt_check_ready(&life->serving);
	if (service->http != NULL)
		RT_LOG(RT_INFO, "serving calls over HTTP",
		       RT_S("http_listen", common(life)->http_listen),
		       RT_I("http_port", rt_http_calls_port(service->http)));
	RT_LOG(RT_INFO, "serving", RT_S("version", TANDEM_VERSION),
	       RT_S("listen", common(life)->listen),
	       RT_I("port", service->server != NULL ? rt_server_port(service->server) : 0),
	       RT_S("admin_listen", common(life)->admin_listen),
	       RT_I("admin_port", service->admin != NULL ? rt_admin_port(service->admin) : 0));
	notify_systemd("READY=1");
	return RT_OK;
}

static void tear_down(struct life *life)
{
	rt_server_free(life->service.server);
	rt_admin_free(life->service.admin);
	rt_tls_free(life->service.tls);
	rt_tls_free(life->service.exporter_tls);
	rt_auth_free(life->service.auth);
	rt_log_never_wait(NULL);
	rt_readiness_free(life->service.readiness);
	rt_process_free(life->process);
	rt_metrics_free(life->service.metrics);
	rt_loop_free(life->service.loop);
}

int rt_service_run(const struct rt_service_definition *definition, int argc, char **argv)
{
	struct life life = { .service.definition = definition };
	int code;

	signals_first();
	fill_standard_files();
	make_program(&life, definition);
	if (!read_settings(&life, argc, argv, &code))
		goto end;
	raise_open_files();
	rt_memory_begin();
	rt_rpc_init();
	make_metrics(&life);
	rt_log_never_wait(rt_metric_plain(life.service.metrics, RT_COUNTER,
					  "tandem_log_dropped_total",
					  "Log lines dropped because nobody read them."));
	/* After a failed start nothing is freed here: some of it is incomplete or still under way,
	 * and the kernel frees it all. */
	if (build(&life) != RT_OK || serve(&life) != RT_OK)
		rt_service_give_up();
	beat(&life.beat_timer);
	rt_loop_run(life.service.loop);
	tear_down(&life);
	rt_rpc_shutdown();
	RT_LOG(RT_INFO, "ended");
	rt_log_flush(LOG_FLUSH_MS);
	code = EXIT_SUCCESS;
end:
	rt_config_done(&life.program, life.service.settings);
	free(life.service.settings);
	free((void *)life.program.settings);
	return code;
}
