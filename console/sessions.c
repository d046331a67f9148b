/* sessions.c - see sessions.h. */
#include "sessions.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define REFUSED_MAX 20 /* within REFUSED_MS */
#define REFUSED_MS  60000

struct kept {
	bool used;
	char cookie[SESSION_COOKIE + 1];
	struct session session;
	int64_t begin_ms, last_ms;
};

struct sessions {
	pthread_mutex_t lock;
	int64_t idle_ms;
	struct kept list[SESSIONS_MAX];
	int64_t refused_ms[REFUSED_MAX]; /* when; a ring */
	size_t refused_at;
};

struct sessions *sessions_new(int64_t idle_ms)
{
	struct sessions *sessions = rt_alloc(sizeof(*sessions));

	pthread_mutex_init(&sessions->lock, NULL);
	sessions->idle_ms = idle_ms;
	for (size_t i = 0; i < REFUSED_MAX; i++)
		sessions->refused_ms[i] = INT64_MIN;
	return sessions;
}

static void wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

void session_done(struct session *session)
{
	wipe(session->secret);
	session->secret = NULL;
}

static void forget(struct kept *kept)
{
	session_done(&kept->session);
	explicit_bzero(kept, sizeof(*kept));
}

void sessions_free(struct sessions *sessions)
{
	if (sessions == NULL)
		return;
	for (size_t i = 0; i < SESSIONS_MAX; i++)
		forget(&sessions->list[i]);
	pthread_mutex_destroy(&sessions->lock);
	free(sessions);
}

static void new_cookie(char cookie[SESSION_COOKIE + 1])
{
	uint8_t bytes[SESSION_COOKIE / 2];

	/* The kernel always gives so few. */
	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		abort();
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(cookie + 2 * i, 3, "%02x", bytes[i]);
}

static void forget_ended(struct sessions *sessions, int64_t now_ms)
{
	for (size_t i = 0; i < SESSIONS_MAX; i++) {
		struct kept *kept = &sessions->list[i];

		if (kept->used && (now_ms - kept->last_ms >= sessions->idle_ms ||
				   now_ms - kept->begin_ms >= LONGEST_MS))
			forget(kept);
	}
}

void sessions_begin(struct sessions *sessions, enum way way, const char *name, const char *secret,
		    int64_t now_ms, char cookie[SESSION_COOKIE + 1])
{
	struct kept *place = &sessions->list[0];

	pthread_mutex_lock(&sessions->lock);
	forget_ended(sessions, now_ms);
	for (size_t i = 0; i < SESSIONS_MAX && place->used; i++) {
		struct kept *kept = &sessions->list[i];

		if (!kept->used || kept->last_ms < place->last_ms)
			place = kept;
	}
	forget(place);
	place->used = true;
	place->session.way = way;
	snprintf(place->session.name, sizeof(place->session.name), "%s", name);
	place->session.secret = rt_strdup(secret);
	place->begin_ms = place->last_ms = now_ms;
	new_cookie(place->cookie);
	memcpy(cookie, place->cookie, sizeof(place->cookie));
	pthread_mutex_unlock(&sessions->lock);
}

/* Compares in a time that does not tell how much of the cookie is right. */
static struct kept *find(struct sessions *sessions, const char *cookie)
{
	struct kept *found = NULL;

	if (strlen(cookie) != SESSION_COOKIE)
		return NULL;
	for (size_t i = 0; i < SESSIONS_MAX; i++)
		if (CRYPTO_memcmp(sessions->list[i].cookie, cookie, SESSION_COOKIE) == 0 &&
		    sessions->list[i].used)
			found = &sessions->list[i];
	return found;
}

bool sessions_use(struct sessions *sessions, const char *cookie, int64_t now_ms,
		  struct session *ret)
{
	struct kept *kept;

	pthread_mutex_lock(&sessions->lock);
	forget_ended(sessions, now_ms);
	kept = find(sessions, cookie);
	if (kept != NULL) {
		kept->last_ms = now_ms;
		*ret = kept->session;
		ret->secret = rt_strdup(kept->session.secret);
	}
	pthread_mutex_unlock(&sessions->lock);
	return kept != NULL;
}

bool sessions_alive(struct sessions *sessions, const char *cookie, int64_t now_ms)
{
	bool alive;

	pthread_mutex_lock(&sessions->lock);
	forget_ended(sessions, now_ms);
	alive = find(sessions, cookie) != NULL;
	pthread_mutex_unlock(&sessions->lock);
	return alive;
}

void sessions_end(struct sessions *sessions, const char *cookie)
{
	struct kept *kept;

	pthread_mutex_lock(&sessions->lock);
	kept = find(sessions, cookie);
	if (kept != NULL)
		forget(kept);
	pthread_mutex_unlock(&sessions->lock);
}

/* ---- guessing ---- */

bool sessions_may_try(struct sessions *sessions, int64_t now_ms)
{
	int64_t oldest_ms;

	pthread_mutex_lock(&sessions->lock);
	oldest_ms = sessions->refused_ms[sessions->refused_at]; /* of the last REFUSED_MAX */
	pthread_mutex_unlock(&sessions->lock);
	return oldest_ms == INT64_MIN || now_ms - oldest_ms >= REFUSED_MS;
}

void sessions_refused(struct sessions *sessions, int64_t now_ms)
{
	pthread_mutex_lock(&sessions->lock);
	sessions->refused_ms[sessions->refused_at] = now_ms;
	sessions->refused_at = (sessions->refused_at + 1) % REFUSED_MAX;
	pthread_mutex_unlock(&sessions->lock);
}

/* ---- names ---- */

void session_name(enum way way, const char *secret, char name[SESSION_NAME_BYTES])
{
	uint8_t digest[32];

	rt_sha256(secret, strlen(secret), digest);
	if (way == WAY_PASSWORD)
		snprintf(name, SESSION_NAME_BYTES, "ops");
	else
		snprintf(name, SESSION_NAME_BYTES, "operator (key %02x%02x%02x%02x)", digest[0],
			 digest[1], digest[2], digest[3]);
}
