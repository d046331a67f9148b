/* post.c - libcurl's multi interface over the loop's watches and timers: curl says which sockets it waits for and when it
 * wants to be called; the loop says when they are ready. For each request that may be under way there is a slot, whose handle
 * is set up once. */
#include "post.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

struct slot {
	CURL *easy;
	struct curl_slist headers[1 + POST_HEADERS]; /* the first is the same in all requests */
	struct post *post;
	struct slot *next; /* idle, too */
};
struct poster {
	struct rt_loop *loop;
	CURLM *multi;
	struct rt_timer timer;
	struct slot *slots, *idle;
	size_t slot_count;
};
struct socket_watch {
	struct poster *poster;
	curl_socket_t fd;
	struct rt_watch *watch;
};

/* Requests that have ended. Another one may begin in `done`. */
static void take_ended(struct poster *poster)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(poster->multi, &left)) != NULL) {
		CURLcode result = message->data.result; /* the message goes with its handle */
		CURL *easy = message->easy_handle;
		struct slot *slot;
		long code = 0;

		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&slot);
		if (result == CURLE_OK)
			curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
		curl_multi_remove_handle(poster->multi, easy);
		slot->next = poster->idle;
		poster->idle = slot;
		slot->post->done(slot->post, code, curl_easy_strerror(result));
	}
}

static void act(struct poster *poster, curl_socket_t fd, int mask)
{
	int running;

	curl_multi_socket_action(poster->multi, fd, mask, &running);
	take_ended(poster);
}

static void timer_fired(struct rt_timer *timer)
{
	act(RT_CONTAINER_OF(timer, struct poster, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long wait_ms, void *user)
{
	struct poster *poster = user;

	(void)multi;
	if (wait_ms < 0)
		rt_timer_stop(poster->loop, &poster->timer);
	else
		rt_timer_start(poster->loop, &poster->timer, wait_ms, timer_fired);
	return 0;
}

static void socket_ready(void *user, int events)
{
	struct socket_watch *socket = user;

	act(socket->poster, socket->fd,
	    ((events & RT_READABLE) != 0 ? CURL_CSELECT_IN : 0) |
		    ((events & RT_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct poster *poster = user;
	struct socket_watch *socket = socket_user;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (socket != NULL)
			rt_watch_free(socket->watch);
		free(socket);
		return 0;
	}
	if (socket == NULL) {
		socket = rt_alloc(sizeof(*socket));
		socket->poster = poster;
		socket->fd = fd;
		if (rt_watch_new(poster->loop, fd, socket_ready, socket, &socket->watch) != RT_OK) {
			free(socket);
			return -1; /* curl fails its requests */
		}
		curl_multi_assign(poster->multi, fd, socket);
	}
	rt_watch_set(socket->watch, ((what & CURL_POLL_IN) != 0 ? RT_READABLE : 0) |
					    ((what & CURL_POLL_OUT) != 0 ? RT_WRITABLE : 0));
	return 0;
}

static size_t drop_answer(char *data, size_t size, size_t count, void *user)
{
	(void)data;
	(void)user;
	return size * count;
}

static int slot_init(struct slot *slot, const struct poster_options *options)
{
	static char type[] = "content-type: application/json";

	slot->easy = curl_easy_init();
	if (slot->easy == NULL)
		return RT_NOMEM;
	slot->headers[0].data = type;
	for (size_t i = 0; i < POST_HEADERS; i++)
		slot->headers[i].next = &slot->headers[i + 1];
	curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
	curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers);
	curl_easy_setopt(slot->easy, CURLOPT_USERAGENT, "tandem-webhook");
	curl_easy_setopt(slot->easy, CURLOPT_TIMEOUT_MS, (long)options->timeout_ms);
	curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, drop_answer);
	if (curl_easy_setopt(slot->easy, CURLOPT_URL, options->url) != CURLE_OK)
		return RT_NOMEM;
	return RT_OK;
}

/* http:// or https://, and a host. */
static bool is_url(const char *text)
{
	CURLU *url = curl_url();
	char *scheme = NULL;
	bool good = curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
		    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		    (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);

	curl_free(scheme);
	curl_url_cleanup(url);
	return good;
}

int poster_new(struct rt_loop *loop, const struct poster_options *options, struct poster **ret)
{
	struct poster *poster;
	int rc = RT_NOMEM;

	if (!is_url(options->url))
		return RT_INVALID;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	poster = rt_alloc(sizeof(*poster));
	poster->loop = loop;
	poster->multi = curl_multi_init();
	if (poster->multi == NULL)
		goto fail;
	curl_multi_setopt(poster->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(poster->multi, CURLMOPT_SOCKETDATA, poster);
	curl_multi_setopt(poster->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(poster->multi, CURLMOPT_TIMERDATA, poster);
	curl_multi_setopt(poster->multi, CURLMOPT_MAXCONNECTS, (long)options->requests_max);
	poster->slots = rt_alloc(options->requests_max * sizeof(*poster->slots));
	while (poster->slot_count < options->requests_max) {
		struct slot *slot = &poster->slots[poster->slot_count++];

		rc = slot_init(slot, options);
		if (rc != RT_OK)
			goto fail;
		slot->next = poster->idle;
		poster->idle = slot;
	}
	*ret = poster;
	return RT_OK;
fail:
	poster_free(poster);
	return rc;
}

void poster_free(struct poster *poster)
{
	if (poster == NULL)
		return;
	for (size_t i = 0; i < poster->slot_count; i++)
		curl_easy_cleanup(poster->slots[i].easy);
	curl_multi_cleanup(poster->multi);
	rt_timer_stop(poster->loop, &poster->timer);
	curl_global_cleanup();
	free(poster->slots);
	free(poster);
}

void poster_post(struct poster *poster, struct post *post)
{
	struct slot *slot = poster->idle;

	poster->idle = slot->next;
	slot->post = post;
	for (size_t i = 0; i < POST_HEADERS; i++)
		slot->headers[1 + i].data = post->headers[i];
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, post->body);
	/* It asks to be called at once (on_timer). */
	curl_multi_add_handle(poster->multi, slot->easy);
}
