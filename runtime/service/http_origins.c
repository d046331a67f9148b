/* http_origins.c - see http_origins.h. An origin is compared as a text with what browsers send. So one that no browser would send
 * is a mistake, and refused at the start: it would keep the page out without a word. */
#include "http_origins.h"

#include <string.h>

#define ORIGINS_MAX 64

struct http_origins {
	bool any;
	size_t count;
	char *list[ORIGINS_MAX];
};

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), end_length = strlen(end);

	return length > end_length && strcmp(text + length - end_length, end) == 0;
}

/* Scheme and host in lower case, perhaps a port; the usual port is never there. */
static bool is_origin(const char *text)
{
	static const char scheme_bytes[] = "abcdefghijklmnopqrstuvwxyz0123456789-.";
	static const char host_bytes[] = "abcdefghijklmnopqrstuvwxyz0123456789-._:[]";
	size_t scheme = strspn(text, scheme_bytes);
	const char *host = text + scheme + 3;

	if (scheme == 0 || strncmp(text + scheme, "://", 3) != 0)
		return false;
	if (*host == '\0' || host[strspn(host, host_bytes)] != '\0')
		return false;
	return !(strncmp(text, "https://", 8) == 0 && ends_with(host, ":443")) &&
	       !(strncmp(text, "http://", 7) == 0 && ends_with(host, ":80"));
}

/* Takes `origin`. */
static int add(struct http_origins *origins, char *origin)
{
	bool good = is_origin(origin);

	if (strcmp(origin, "*") == 0) {
		origins->any = true;
		free(origin);
		return RT_OK;
	}
	if (good && origins->count < ORIGINS_MAX) {
		origins->list[origins->count++] = origin;
		return RT_OK;
	}
	RT_LOG(RT_ERROR,
	       good ? "http-allow-origin has too many origins"
		    : "http-allow-origin has something that no browser sends as an origin: "
		      "scheme and host in lower case, no path, no usual port, like "
		      "https://shop.example",
	       RT_S("origin", origin), RT_I("most", ORIGINS_MAX));
	free(origin);
	return RT_INVALID;
}

int http_origins_read(const char *text, struct http_origins **ret)
{
	struct http_origins *origins = rt_alloc(sizeof(*origins));
	int rc = RT_OK;

	while (rc == RT_OK && *text != '\0') {
		size_t length = strcspn(text, ","), blanks = strspn(text, " \t"), end = length;

		while (end > blanks && (text[end - 1] == ' ' || text[end - 1] == '\t'))
			end--;
		rc = add(origins, rt_strndup(text + blanks, end > blanks ? end - blanks : 0));
		text += length + (text[length] == ',');
	}
	if (rc == RT_OK)
		*ret = origins;
	else
		http_origins_free(origins);
	return rc;
}

void http_origins_free(struct http_origins *origins)
{
	if (origins == NULL)
		return;
	for (size_t i = 0; i < origins->count; i++)
		free(origins->list[i]);
	free(origins);
}

bool http_origins_allow(const struct http_origins *origins, const char *origin)
{
	for (size_t i = 0; i < origins->count; i++) {
		if (strcmp(origins->list[i], origin) == 0)
			return true;
	}
	return origins->any;
}
