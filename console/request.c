/* request.c - see request.h. */
#include "request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The name without its port; brackets stay. */
static size_t name_length(const char *host)
{
	const char *bracket = host[0] == '[' ? strchr(host, ']') : NULL;

	return bracket != NULL ? (size_t)(bracket - host) + 1 : strcspn(host, ":");
}

static bool is_name(const char *host, size_t length, const char *name, size_t name_bytes)
{
	return length == name_bytes && strncasecmp(host, name, length) == 0;
}

bool request_host_good(const char *host, const char *hosts, bool anywhere)
{
	static const char *const own[] = { "localhost", "127.0.0.1", "[::1]" };
	size_t length, port;

	if (host == NULL || host[0] == '\0')
		return false;
	length = name_length(host);
	port = host[length] == ':' ? strspn(host + length + 1, "0123456789") + 1 : 0;
	if (length == 0 || host[length + port] != '\0' || port > 6)
		return false;
	if (anywhere)
		return true;
	for (size_t i = 0; i < RT_LENGTH(own); i++)
		if (is_name(host, length, own[i], strlen(own[i])))
			return true;
	while (*hosts != '\0') {
		size_t bytes = strcspn(hosts, ",");

		if (is_name(host, length, hosts, bytes))
			return true;
		hosts += bytes + (hosts[bytes] == ',');
	}
	return false;
}

bool request_own(const char *fetch_site)
{
	return fetch_site == NULL || strcmp(fetch_site, "same-origin") == 0 ||
	       strcmp(fetch_site, "none") == 0;
}

/* Whether an origin is that of the host. Behind a proxy that has TLS, it has "https" where we have none. */
static bool is_origin_of(const char *origin, const char *host, bool tls)
{
	size_t scheme = strncmp(origin, "https://", 8) == 0          ? 8
			: !tls && strncmp(origin, "http://", 7) == 0 ? 7
								     : 0;

	return scheme > 0 && host != NULL && strcasecmp(origin + scheme, host) == 0;
}

const char *request_refused(const char *host, const char *origin, const char *fetch_site,
			    const char *content_type, bool tls)
{
	if (content_type == NULL ||
	    strncmp(content_type, "application/json", strlen("application/json")) != 0)
		return "the content type must be application/json";
	if (fetch_site != NULL && strcmp(fetch_site, "same-origin") != 0)
		return "it comes from another site";
	/* Browsers send it with each POST; other programs are not made to send what their user does not want. */
	if (origin != NULL && !is_origin_of(origin, host, tls))
		return "it comes from another origin";
	return NULL;
}

bool request_cookie(const char *header, const char *name, char *value, size_t length)
{
	size_t name_bytes = strlen(name);

	while (header != NULL && *header != '\0') {
		size_t bytes = strcspn(header, ";");

		if (bytes == name_bytes + 1 + length && strncmp(header, name, name_bytes) == 0 &&
		    header[name_bytes] == '=') {
			memcpy(value, header + name_bytes + 1, length);
			value[length] = '\0';
			return true;
		}
		header += bytes;
		header += strspn(header, "; ");
	}
	return false;
}
