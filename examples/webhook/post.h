/* post.h - sends HTTP POST requests with libcurl, many at once, on a loop of the runtime. Loop thread only. */
#ifndef POST_H
#define POST_H

#include "base/base.h"
#include "loop/loop.h"

struct poster; /* opaque */

struct poster_options {
	const char *url;
	const char *const *headers; /* of every request, "Name: value"; ends with NULL */
	int64_t timeout_ms;         /* of a request, with connecting */
	int64_t connections;        /* so many at most; further requests wait */
};
/* RT_OK, or RT_NOMEM. Strings are copied. */
int poster_new(struct rt_loop *loop, const struct poster_options *options, struct poster **ret);
void poster_free(struct poster *poster); /* when no request is under way; takes NULL */

/* A request. Embed it. */
struct post {
	const char *const *headers; /* further ones; ends with NULL; borrowed until done */
	const char *body;           /* likewise */
	size_t length;
	/* Runs once, never before poster_post returns. `code`: of HTTP; 0: there was no answer, and `why` says why. */
	void (*done)(struct post *post, long code, const char *why);
	void *easy, *list; /* the poster's */
};
void poster_post(struct poster *poster, struct post *post);

#endif
