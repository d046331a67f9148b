/* http_origins.h - whose pages may call over HTTP: the list of the setting http-allow-origin. */
#ifndef RT_HTTP_ORIGINS_H
#define RT_HTTP_ORIGINS_H

#include "base/base.h"

struct http_origins; /* opaque */
/* `text`: "https://shop.example, https://other.example", "*"; "": none. RT_INVALID after logging which one is none. */
int http_origins_read(const char *text, struct http_origins **ret);
void http_origins_free(struct http_origins *origins); /* takes NULL */
/* `origin`: the header Origin of a request. */
bool http_origins_allow(const struct http_origins *origins, const char *origin);

#endif
