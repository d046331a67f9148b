/* webhook.h - posts the decisions about orders to a URL: a context that reads order:{p}:events and publishes nothing. */
#ifndef WEBHOOK_H
#define WEBHOOK_H

#include "context/context.h"

struct webhook_options {
	char *url, *secret_file;
	int64_t timeout_ms, requests_max;
};
/* Makes itself of struct webhook_options. Its name is that of the target's group: see main.c. */
extern struct rt_context_domain webhook_domain;

#endif
