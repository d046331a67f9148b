/* main.c - tandem-console's wiring: settings, the collector, who runs tandemctl, the web server.
 *
 * Ends in this order: the collector lets go who waits for points, what is asked is killed, the web server waits for its
 * requests, then all is freed. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "base/base.h"
#include "collect.h"
#include "contexts.h"
#include "prometheus.h"
#include "service/service.h"
#include "sessions.h"
#include "web.h"

#define GATEWAY_ADMIN_LISTEN "127.0.0.1:9101"

struct settings {
	struct rt_service_settings service; /* first */
	char *hosts, *metrics, *metrics_ca, *metrics_cert, *metrics_key, *prometheus, *tandemctl;
	char *reader_user, *reader_password_file, *reader_token_file;
	char *operator_user, *operator_password_file;
	int64_t session_ms, pages;
};

struct process {
	struct collector *collector;
	struct prometheus *prometheus;
	struct asker *asker;
	struct sessions *sessions;
	struct web *web;
};

#define URL_OF(name, NAME) ",http://" NAME##_ADMIN_LISTEN
#define AT(member)         offsetof(struct settings, member)
static const struct rt_setting settings[] = {
	{ "hosts", RT_SETTING_STRING, AT(hosts), "", 0, 0,
	  "Further names under which browsers reach it, separated by commas, where it listens on "
	  "this machine alone: those of a proxy." },
	{ "metrics", RT_SETTING_STRING, AT(metrics),
	  "http://" GATEWAY_ADMIN_LISTEN TANDEM_CONTEXTS(URL_OF), 0, 0,
	  "Where the services have their metrics: the URLs of their admin ports, separated by "
	  "commas, of all instances." },
	{ "metrics-tls-ca", RT_SETTING_STRING, AT(metrics_ca), "", 0, 0,
	  "File with the authorities that the certificates of the admin ports (and of Prometheus) "
	  "are "
	  "from; empty: those "
	  "of the system." },
	{ "metrics-tls-cert", RT_SETTING_STRING, AT(metrics_cert), "", 0, 0,
	  "File with the certificate to show to the admin ports." },
	{ "metrics-tls-key", RT_SETTING_STRING, AT(metrics_key), "", 0, 0,
	  "File with the key of the certificate that is shown to the admin ports." },
	{ "prometheus", RT_SETTING_STRING, AT(prometheus), "", 0, 0,
	  "Where Prometheus is, such as http://127.0.0.1:9090: the page shows which alarms of "
	  "Tandem "
	  "fire there. Empty: only what the console judges by itself." },
	{ "tandemctl", RT_SETTING_STRING, AT(tandemctl), "", 0, 0,
	  "The program that asks gateway and Redis, where the variables say that it asks by hand; "
	  "empty: the one beside this program." },
	{ "reader-user", RT_SETTING_STRING, AT(reader_user), "", 0, 0,
	  "As which user Redis is asked for what is shown; empty: as the default user." },
	{ "reader-password-file", RT_SETTING_STRING, AT(reader_password_file), "", 0, 0,
	  "File with that user's password." },
	{ "reader-token-file", RT_SETTING_STRING, AT(reader_token_file), "", 0, 0,
	  "File with the API key or token with which the gateway is asked for what is shown, of "
	  "the role support; empty: none." },
	{ "operator-user", RT_SETTING_STRING, AT(operator_user), "ops", 0, 0,
	  "As which user Redis is asked for what operators change who have signed in with a key "
	  "or token." },
	{ "operator-password-file", RT_SETTING_STRING, AT(operator_password_file), "", 0, 0,
	  "File with that user's password; empty: they change nothing." },
	{ "session", RT_SETTING_DURATION, AT(session_ms), "30m", 1000, LONGEST_MS,
	  "An operator who does nothing for so long is signed out." },
	{ "pages", RT_SETTING_INT, AT(pages), "32", 1, 64,
	  "Most pages that are open at once and are told what happens." },
	RT_SETTING_END,
};

/* The tandemctl beside this program. */
static char *own_tandemctl(void)
{
	char path[PATH_MAX] = "";
	ssize_t length = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash = length > 0 ? strrchr(path, '/') : NULL;

	if (slash == NULL)
		return rt_strdup("tandemctl");
	*slash = '\0';
	return rt_printf("%s/tandemctl", path);
}

static bool is_public(const struct rt_service_settings *set)
{
	return !rt_listen_local(set->listen);
}

static int start(struct rt_service *service)
{
	const struct settings *set = service->settings;
	struct process *process = rt_alloc(sizeof(*process));
	char *program = set->tandemctl[0] != '\0' ? rt_strdup(set->tandemctl) : own_tandemctl();
	const struct collector_options collector = {
		.urls = set->metrics,
		.tls_ca = set->metrics_ca,
		.tls_cert = set->metrics_cert,
		.tls_key = set->metrics_key,
	};
	const struct prometheus_options prometheus = {
		.url = set->prometheus,
		.tls_ca = set->metrics_ca,
		.tls_cert = set->metrics_cert,
		.tls_key = set->metrics_key,
	};
	struct web_options web = {
		.listen = set->service.listen,
		.tls = service->tls,
		.public = is_public(&set->service),
		.hosts = set->hosts,
		.streams_max = set->pages,
		.reader_user = set->reader_user,
		.reader_password_file = set->reader_password_file,
		.reader_token_file = set->reader_token_file,
		.operator_user = set->operator_user,
		.operator_password_file = set->operator_password_file,
		.metrics = service->metrics,
	};
	int rc = RT_OK;

	if (access(program, X_OK) != 0) {
		RT_LOG(RT_ERROR, "there is no such program", RT_S("tandemctl", program));
		rc = RT_INVALID;
	}
	/* Operators sign in with secrets. */
	if (rc == RT_OK && !rt_file_protect()) {
		RT_LOG(RT_ERROR, "this process cannot protect secrets",
		       RT_S("error", strerror(errno)));
		rc = RT_SYSTEM;
	}
	web.asker = process->asker = asker_new(program);
	web.sessions = process->sessions = sessions_new(set->session_ms);
	free(program);
	if (rc == RT_OK)
		rc = collector_new(&collector, &process->collector);
	web.collector = process->collector;
	if (rc == RT_OK)
		rc = prometheus_new(&prometheus, &process->prometheus);
	web.prometheus = process->prometheus;
	if (rc == RT_OK) {
		rc = web_new(&web, &process->web);
		if (rc == RT_SYSTEM)
			rt_service_cannot_listen(service);
	}
	if (rc == RT_OK)
		rc = web_start(process->web);
	if (rc != RT_OK)
		return rc; /* the process ends, and all of this with it */
	RT_LOG(RT_INFO, "the page is served", RT_I("port", web_port(process->web)));
	service->data = process;
	return RT_OK;
}

static void stop(struct rt_service *service)
{
	struct process *process = service->data;

	collector_end(process->collector);
	asker_end(process->asker);
	web_free(process->web);
	collector_free(process->collector);
	prometheus_free(process->prometheus);
	asker_free(process->asker);
	sessions_free(process->sessions);
	free(process);
	rt_service_stopped(service);
}

int main(int argc, char **argv)
{
	static const struct rt_service_definition definition = {
		.program = {
			.service = "console",
			.about = "Shows people what goes on in Tandem, and lets operators repair it.",
			.settings = settings,
			.settings_size = sizeof(struct settings),
		},
		.listen = "127.0.0.1:8088",
		.admin_listen = "127.0.0.1:9105",
		.no_grpc = true,
		.start = start,
		.stop = stop,
	};

	return rt_service_run(&definition, argc, argv);
}
