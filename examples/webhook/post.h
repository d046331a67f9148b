/* post.h - sends JSON by HTTP POST to one URL with libcurl, several requests at once, on a loop of the runtime. Connections are
 * kept for the next requests. Loop thread only. */
#ifndef POST_H
#define POST_H

#include "base/base.h"
#include "loop/loop.h"

#define POST_HEADERS 3

struct poster; /* opaque */

struct poster_options {
	const char *url;     /* http:// or https://; copied */
	int64_t timeout_ms;  /* of a request, with connecting */
	size_t requests_max; /* under way at the same time */
};
/* RT_OK; RT_INVALID: the URL is none; RT_NOMEM. */
int poster_new(struct rt_loop *loop, const struct poster_options *options, struct poster **ret);
void poster_free(struct poster *poster); /* when no request is under way; takes NULL */

/* A request. Embed it. Its texts are borrowed until done. */
struct post {
	char *headers[POST_HEADERS]; /* beside the usual ones, "name: value" */
	char *body;
	/* Runs once, never before poster_post returns. `code`: of HTTP; 0: there was no answer, and `why` says why. */
	void (*done)(struct post *post, long code, const char *why);
};
/* Not when requests_max are under way. */
void poster_post(struct poster *poster, struct post *post);

#endif
