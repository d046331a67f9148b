/* sessions.h - operators who have signed in, in memory alone. Time is an argument, in monotonic ms. Any thread.
 *
 * A session is known by a cookie of 128 random bits; it ends when it was not used for a while, after some hours
 * however it is used, by signing out, and with the process. What it was signed in with is kept for what the operator
 * does, and overwritten at its end. */
#ifndef CONSOLE_SESSIONS_H
#define CONSOLE_SESSIONS_H

#include "base/base.h"

#define SESSIONS_MAX       64
#define SESSION_COOKIE     32 /* digits */
#define SESSION_NAME_BYTES 64
#define SECRET_BYTES_MAX   16384
#define LONGEST_MS         (INT64_C(12) * 3600 * 1000) /* of a session */

/* By what somebody has signed in. */
enum way {
	WAY_TOKEN,    /* an API key or a token of an operator, which the gateway knows */
	WAY_PASSWORD, /* the password of Redis's user ops */
	WAYS,
};

struct sessions; /* opaque */

struct sessions *sessions_new(int64_t idle_ms);
void sessions_free(struct sessions *sessions); /* takes NULL */
/* Begins one, in place of the one that was not used for longest if there are too many. */
void sessions_begin(struct sessions *sessions, enum way way, const char *name, const char *secret,
		    int64_t now_ms, char cookie[SESSION_COOKIE + 1]);
/* What a request needs of its session; session_done overwrites it. */
struct session {
	enum way way;
	char name[SESSION_NAME_BYTES];
	char *secret;
};
/* False: there is none of this cookie, or it has ended. */
bool sessions_use(struct sessions *sessions, const char *cookie, int64_t now_ms,
		  struct session *ret);
void session_done(struct session *session);
/* The same, but not a use of it: what a page does by itself keeps nobody signed in. */
bool sessions_alive(struct sessions *sessions, const char *cookie, int64_t now_ms);
void sessions_end(struct sessions *sessions, const char *cookie);

/* Who guesses must wait: false, when too many have been refused lately. */
bool sessions_may_try(struct sessions *sessions, int64_t now_ms);
void sessions_refused(struct sessions *sessions, int64_t now_ms);

/* How a session is called in the trail and on the page: the beginning of the secret's SHA-256, as in the list of callers,
 * or "ops". */
void session_name(enum way way, const char *secret, char name[SESSION_NAME_BYTES]);

#endif
