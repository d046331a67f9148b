/* readiness.c - see readiness.h. */
#include "readiness.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

struct rt_readiness {
	pthread_mutex_t lock; /* the checks, for rt_readiness_write */
	struct rt_list checks;
	void (*changed)(void *user);
	void *user;
};

struct rt_readiness *rt_readiness_new(void)
{
	struct rt_readiness *readiness = rt_alloc(sizeof(*readiness));

	rt_list_init(&readiness->checks);
	pthread_mutex_init(&readiness->lock, NULL);
	return readiness;
}

void rt_readiness_free(struct rt_readiness *readiness)
{
	if (readiness == NULL)
		return;
	pthread_mutex_destroy(&readiness->lock);
	free(readiness);
}

void rt_readiness_add(struct rt_readiness *readiness, struct rt_check *check, const char *name,
		      const char *service)
{
	check->readiness = readiness;
	check->name = name;
	check->service = service;
	check->ready = false;
	snprintf(check->reason, sizeof(check->reason), "not known yet");
	rt_list_init(&check->link);
	pthread_mutex_lock(&readiness->lock);
	rt_list_push(&readiness->checks, &check->link);
	pthread_mutex_unlock(&readiness->lock);
}

static void check_set(struct rt_check *check, bool ready, const char *reason)
{
	struct rt_readiness *readiness = check->readiness;
	bool changes = check->ready != ready;

	if (!changes && strcmp(check->reason, reason) == 0)
		return;
	pthread_mutex_lock(&readiness->lock);
	check->ready = ready;
	snprintf(check->reason, sizeof(check->reason), "%s", reason);
	pthread_mutex_unlock(&readiness->lock);
	if (ready)
		RT_LOG(RT_INFO, "ready", RT_S("check", check->name));
	else
		RT_LOG(RT_WARN, "not ready", RT_S("check", check->name), RT_S("reason", reason));
	if (changes && readiness->changed != NULL)
		readiness->changed(readiness->user);
}

void rt_check_ready(struct rt_check *check)
{
	check_set(check, true, "");
}

void rt_check_failed(struct rt_check *check, const char *format, ...)
{
	char reason[sizeof(check->reason)];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	check_set(check, false, reason);
}

static const struct rt_check *check_of(const struct rt_list *link)
{
	return RT_CONTAINER_OF(link, const struct rt_check, link);
}

bool rt_readiness_ready(const struct rt_readiness *readiness, const char *service)
{
	for (const struct rt_list *link = readiness->checks.next; link != &readiness->checks;
	     link = link->next) {
		const struct rt_check *check = check_of(link);
		bool counts = service[0] == '\0' || check->service == NULL ||
			      strcmp(check->service, service) == 0;

		if (counts && !check->ready)
			return false;
	}
	return true;
}

bool rt_readiness_write(struct rt_readiness *readiness, struct rt_buf *text, bool ready)
{
	bool all = ready;

	pthread_mutex_lock(&readiness->lock);
	for (struct rt_list *link = readiness->checks.next; link != &readiness->checks;
	     link = link->next) {
		const struct rt_check *check = check_of(link);

		if (check->ready)
			continue;
		all = false;
		rt_buf_printf(text, "%s: %s\n", check->name, check->reason);
	}
	pthread_mutex_unlock(&readiness->lock);
	if (all)
		rt_buf_printf(text, "ready\n");
	return all;
}

void rt_readiness_watch(struct rt_readiness *readiness, void (*changed)(void *user), void *user)
{
	readiness->changed = changed;
	readiness->user = user;
}
