/* post.c - libcurl's multi interface over the loop's watches and timers: curl says which sockets it waits for and when it
 * wants to be called; the loop says when they are ready. */
#include "post.h"

#include <curl/curl.h>
#include <stdlib.h>

struct poster {
	struct rt_loop *loop;
	CURLM *multi;
	struct curl_slist *headers;
	char *url;
	int64_t timeout_ms;
	struct rt_timer timer;
	struct rt_task added; /* requests of this turn are started together */
};
struct socket_watch {
	struct poster *poster;
	curl_socket_t fd;
	struct rt_watch *watch;
};

/* Requests that have ended. */
static void take_ended(struct poster *poster)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(poster->multi, &left)) != NULL) {
		CURL *easy = message->easy_handle;
		CURLcode result = message->data.result;
		struct post *post;
		long code = 0;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&post);
		if (result == CURLE_OK)
			curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &code);
		curl_multi_remove_handle(poster->multi, easy);
		curl_easy_cleanup(easy);
		curl_slist_free_all(post->list);
		post->done(post, code, curl_easy_strerror(result));
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

static void start_added(struct rt_task *task)
{
	act(RT_CONTAINER_OF(task, struct poster, added), CURL_SOCKET_TIMEOUT, 0);
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

	act(socket->poster, socket->fd, ((events & RT_READABLE) != 0 ? CURL_CSELECT_IN : 0) |
						((events & RT_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct poster *poster = user;
	struct socket_watch *socket = socket_user;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (socket != NULL) {
			rt_watch_free(socket->watch);
			free(socket);
		}
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

int poster_new(struct rt_loop *loop, const struct poster_options *options, struct poster **ret)
{
	struct poster *poster = rt_alloc(sizeof(*poster));

	*ret = NULL;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	poster->multi = curl_multi_init();
	if (poster->multi == NULL) {
		free(poster);
		return RT_NOMEM;
	}
	poster->loop = loop;
	poster->added.run = start_added;
	poster->url = rt_strdup(options->url);
	poster->timeout_ms = options->timeout_ms;
	for (size_t i = 0; options->headers[i] != NULL; i++)
		poster->headers = curl_slist_append(poster->headers, options->headers[i]);
	curl_multi_setopt(poster->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(poster->multi, CURLMOPT_SOCKETDATA, poster);
	curl_multi_setopt(poster->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(poster->multi, CURLMOPT_TIMERDATA, poster);
	curl_multi_setopt(poster->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)options->connections);
	*ret = poster;
	return RT_OK;
}

void poster_free(struct poster *poster)
{
	if (poster == NULL)
		return;
	curl_multi_cleanup(poster->multi);
	rt_timer_stop(poster->loop, &poster->timer);
	curl_slist_free_all(poster->headers);
	curl_global_cleanup();
	free(poster->url);
	free(poster);
}

void poster_post(struct poster *poster, struct post *post)
{
	CURL *easy = curl_easy_init();
	struct curl_slist *list = NULL;

	for (const struct curl_slist *header = poster->headers; header != NULL; header = header->next)
		list = curl_slist_append(list, header->data);
	for (size_t i = 0; post->headers[i] != NULL; i++)
		list = curl_slist_append(list, post->headers[i]);
	post->easy = easy;
	post->list = list;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, post);
	curl_easy_setopt(easy, CURLOPT_URL, poster->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, list);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)post->length);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, post->body);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)poster->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_answer);
	curl_multi_add_handle(poster->multi, easy);
	rt_loop_defer(poster->loop, &poster->added);
}
