/* scrape.c - one GET of HTTP/1.0 over a socket, with TLS where the admin port has it; the text format of Prometheus as a
 * list of series; sums and quantiles. */
#include "scrape.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/base.h"

#define TEXT_MAX    (4 * 1024 * 1024) /* of an answer */
#define BUCKETS_MAX 64                /* of a histogram */

/* ---- where it is ---- */

#define GATEWAY_LISTEN       "127.0.0.1:50051"
#define GATEWAY_ADMIN_LISTEN "127.0.0.1:9101"

static const struct service {
	const char *name, *variable, *admin_variable, *listen, *admin_listen;
} services[CTL_SERVICES] = { { "gateway", "TANDEM_GATEWAY_LISTEN", "TANDEM_GATEWAY_ADMIN_LISTEN",
			       GATEWAY_LISTEN, GATEWAY_ADMIN_LISTEN },
#define SERVICE(name, NAME)                                                                        \
	{ #name, "TANDEM_" #NAME "_LISTEN", "TANDEM_" #NAME "_ADMIN_LISTEN", NAME##_LISTEN,        \
	  NAME##_ADMIN_LISTEN },
			     TANDEM_CONTEXTS(SERVICE)
#undef SERVICE
};

const char *ctl_service_name(size_t service)
{
	return services[service].name;
}

static const char *setting(const char *variable)
{
	const char *value = getenv(variable);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* As scripts/lib/settings.sh has it: 1000 ports above the service, unless that listens where it does by default. */
static char *admin_address(const struct service *service)
{
	const char *admin = setting(service->admin_variable), *listen = setting(service->variable);
	const char *colon = listen == NULL ? NULL : strrchr(listen, ':');
	int64_t port;

	if (admin != NULL)
		return ctl_target(admin);
	if (colon == NULL || strcmp(listen, service->listen) == 0 ||
	    !rt_parse_int(colon + 1, 1, 65535, &port))
		return rt_strdup(service->admin_listen);
	port += port <= 64535 ? 1000 : -1000;
	admin = rt_printf("%.*s:%d", (int)(colon - listen), listen, (int)port);
	listen = ctl_target(admin);
	free((char *)(uintptr_t)admin);
	return (char *)(uintptr_t)listen;
}

/* ---- the request ---- */

struct link {
	int fd;
	SSL_CTX *context; /* NULL: no TLS */
	SSL *ssl;
};

static void link_close(struct link *link)
{
	SSL_free(link->ssl);
	SSL_CTX_free(link->context);
	if (link->fd >= 0)
		close(link->fd);
}

/* Connects to "host:port". NULL: it did; else why not. */
static char *link_open(struct link *link, const char *address, int64_t timeout_ms)
{
	const struct timeval limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	const char *colon = strrchr(address, ':');
	struct addrinfo *found = NULL;
	char *host, *why = NULL;
	int rc;

	link->fd = -1;
	if (colon == NULL)
		return rt_strdup("not an address");
	host = address[0] == '[' ? rt_strndup(address + 1, (size_t)(colon - address) - 2)
				 : rt_strndup(address, (size_t)(colon - address));
	rc = getaddrinfo(host, colon + 1, &hints, &found);
	free(host);
	if (rc != 0)
		return rt_strdup(gai_strerror(rc));
	link->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (link->fd < 0 ||
	    setsockopt(link->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(link->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(link->fd, found->ai_addr, found->ai_addrlen) < 0)
		why = rt_strdup(errno == EINPROGRESS ? "it did not answer in time"
						     : strerror(errno));
	freeaddrinfo(found);
	return why;
}

/* NULL: the other side is who it should be. */
static char *link_secure(struct link *link, const struct ctl *ctl, const char *address)
{
	char *host = rt_strndup(address, strcspn(address, ":")), *why = NULL;
	const char *cert = ctl->tls_cert, *key = ctl->tls_key;

	link->context = SSL_CTX_new(TLS_client_method());
	if (link->context == NULL ||
	    SSL_CTX_load_verify_locations(link->context, ctl->tls_ca, NULL) != 1 ||
	    (cert != NULL && cert[0] != '\0' &&
	     (SSL_CTX_use_certificate_chain_file(link->context, cert) != 1 ||
	      SSL_CTX_use_PrivateKey_file(link->context, key, SSL_FILETYPE_PEM) != 1)))
		why = rt_strdup("the files of --tls-… cannot be used");
	if (why == NULL) {
		SSL_CTX_set_verify(link->context, SSL_VERIFY_PEER, NULL);
		link->ssl = SSL_new(link->context);
		if (link->ssl == NULL || SSL_set1_host(link->ssl, host) != 1 ||
		    SSL_set_tlsext_host_name(link->ssl, host) != 1 ||
		    SSL_set_fd(link->ssl, link->fd) != 1 || SSL_connect(link->ssl) != 1) {
			const char *reason = ERR_reason_error_string(ERR_get_error());

			why = rt_printf("TLS: %s", reason != NULL ? reason : "it failed");
		}
	}
	free(host);
	return why;
}

static int link_write(const struct link *link, const char *data, int length)
{
	return link->ssl != NULL ? SSL_write(link->ssl, data, length)
				 : (int)send(link->fd, data, (size_t)length, MSG_NOSIGNAL);
}

static int link_read(const struct link *link, char *data, int size)
{
	return link->ssl != NULL ? SSL_read(link->ssl, data, size)
				 : (int)recv(link->fd, data, (size_t)size, 0);
}

/* The body of the answer, in `text`. NULL: it came; else why not. */
static char *get(const struct link *link, struct rt_buf *text)
{
	static const char request[] = "GET /metrics HTTP/1.0\r\nHost: tandem\r\n\r\n";
	static const char good[] = "HTTP/1.";
	char data[16384], *body;
	int length;

	if (link_write(link, request, (int)strlen(request)) != (int)strlen(request))
		return rt_strdup("the connection broke");
	while ((length = link_read(link, data, sizeof(data))) > 0 && text->length < TEXT_MAX)
		rt_buf_add(text, data, (size_t)length);
	rt_buf_add(text, "", 1);
	body = strstr(text->data, "\r\n\r\n");
	if (body == NULL || strncmp(text->data, good, strlen(good)) != 0)
		return rt_strdup(length < 0 && errno == EAGAIN ? "it did not answer in time"
							       : "its answer is not HTTP");
	if (strncmp(text->data + 8, " 200 ", 5) != 0)
		return rt_printf("it answered %.3s", text->data + 9);
	memmove(text->data, body + 4, strlen(body + 4) + 1);
	return NULL;
}

/* ---- the text ---- */

static void read_line(struct ctl_scrape *scrape, char *line)
{
	char *value = strrchr(line, ' '), *brace = strchr(line, '{');
	struct ctl_series *series;

	if (line[0] == '#' || value == NULL)
		return;
	*value++ = '\0';
	if (brace != NULL) {
		char *end = strrchr(brace, '}');

		*brace++ = '\0';
		if (end != NULL)
			*end = '\0';
	}
	scrape->list =
		rt_grow(scrape->list, scrape->count, &scrape->capacity, sizeof(*scrape->list));
	series = &scrape->list[scrape->count++];
	series->name = line;
	series->labels = brace != NULL ? brace : "";
	series->value = strtod(value, NULL);
}

void ctl_scrape_read(struct ctl *ctl, size_t service, struct ctl_scrape *ret)
{
	char *address = admin_address(&services[service]), *rest, *line, *why;
	struct rt_buf text = { 0 };
	struct link link = { .fd = -1 };

	*ret = (struct ctl_scrape){ .at_ns = rt_monotonic_ns() };
	why = link_open(&link, address, RT_MIN(ctl->timeout_ms, 3000));
	if (why == NULL && ctl->tls_ca != NULL && ctl->tls_ca[0] != '\0' &&
	    !rt_listen_local(address))
		why = link_secure(&link, ctl, address);
	if (why == NULL)
		why = get(&link, &text);
	link_close(&link);
	if (why != NULL) {
		ret->why = rt_printf("no metrics from %s: %s", address, why);
		free(why);
		rt_buf_done(&text);
	} else {
		ret->text = text.data;
		for (line = strtok_r(ret->text, "\n", &rest); line != NULL;
		     line = strtok_r(NULL, "\n", &rest))
			read_line(ret, line);
	}
	free(address);
}

void ctl_scrape_done(struct ctl_scrape *scrape)
{
	free(scrape->why);
	free(scrape->list);
	free(scrape->text);
	*scrape = (struct ctl_scrape){ 0 };
}

/* ---- what they say ---- */

static bool is_of(const struct ctl_series *series, const char *name, const char *label)
{
	return strcmp(series->name, name) == 0 && strstr(series->labels, label) != NULL;
}

double ctl_scrape_sum(const struct ctl_scrape *scrape, const char *name, const char *label)
{
	double sum = 0;
	bool found = false;

	for (size_t i = 0; i < scrape->count; i++) {
		if (!is_of(&scrape->list[i], name, label) || isnan(scrape->list[i].value))
			continue;
		sum += scrape->list[i].value;
		found = true;
	}
	return found ? sum : NAN;
}

double ctl_scrape_grown(const struct ctl_scrapes *scrapes, const char *name, const char *label)
{
	double now = ctl_scrape_sum(&scrapes->now, name, label);
	double before = ctl_scrape_sum(&scrapes->before, name, label);

	if (scrapes->before.count == 0)
		return NAN;
	/* A series appears with its first event; a service that was started again begins at 0. */
	return isnan(before) || before > now ? now : now - before;
}

double ctl_scrape_rate(const struct ctl_scrapes *scrapes, const char *name, const char *label)
{
	double seconds = (double)(scrapes->now.at_ns - scrapes->before.at_ns) / 1e9;

	return seconds > 0 ? ctl_scrape_grown(scrapes, name, label) / seconds : NAN;
}

bool ctl_series_label(const struct ctl_series *series, const char *label, char *value, size_t size)
{
	size_t length = strlen(label);

	for (const char *at = series->labels; (at = strstr(at, label)) != NULL; at += length) {
		if ((at != series->labels && at[-1] != ',') || at[length] != '=')
			continue;
		snprintf(value, size, "%.*s", (int)strcspn(at + length + 2, "\""), at + length + 2);
		return true;
	}
	return false;
}

struct bucket {
	double below, count;
};

/* Adds the buckets of a reading, times `sign`; they come in the order of their bounds. */
static size_t add_buckets(const struct ctl_scrape *scrape, const char *name, const char *label,
			  double sign, struct bucket buckets[BUCKETS_MAX], size_t count)
{
	for (size_t i = 0; i < scrape->count; i++) {
		char bound[32];
		double below;
		size_t at = 0;

		if (!is_of(&scrape->list[i], name, label) ||
		    !ctl_series_label(&scrape->list[i], "le", bound, sizeof(bound)))
			continue;
		below = strtod(bound, NULL);
		while (at < count && buckets[at].below < below)
			at++;
		if (at == count || buckets[at].below > below) {
			if (count == BUCKETS_MAX)
				continue;
			memmove(&buckets[at + 1], &buckets[at], (count - at) * sizeof(*buckets));
			buckets[at] = (struct bucket){ below, 0 };
			count++;
		}
		buckets[at].count += sign * scrape->list[i].value;
	}
	return count;
}

double ctl_scrape_quantile(const struct ctl_scrapes *scrapes, const char *name, const char *label,
			   double quantile)
{
	struct bucket buckets[BUCKETS_MAX];
	char *series = rt_printf("%s_bucket", name);
	double from = 0, before = 0, rank;
	size_t count = add_buckets(&scrapes->now, series, label, 1, buckets, 0);

	count = add_buckets(&scrapes->before, series, label, -1, buckets, count);
	free(series);
	if (scrapes->before.count == 0 || count == 0 || !(buckets[count - 1].count > 0))
		return NAN;
	rank = quantile * buckets[count - 1].count;
	for (size_t i = 0; i < count; i++) {
		double in = buckets[i].count - before;

		if (buckets[i].count >= rank)
			return isinf(buckets[i].below) || in <= 0
				       ? from
				       : from + (buckets[i].below - from) * (rank - before) / in;
		from = buckets[i].below;
		before = buckets[i].count;
	}
	return from;
}
