/* main.c - tandem-webhook: its settings, and the context run as a program.
 *
 *   tandem-webhook --url=https://shop.example/hooks --secret-file=FILE
 *
 * Each target is a process of its own, whose group, keys and Redis user are called webhook, or webhook-<TARGET> where the
 * variable TANDEM_WEBHOOK_TARGET says so: each gets every event, and is slow or away for itself. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "webhook.h"

struct settings {
	struct rt_context_settings context; /* first */
	struct webhook_options webhook;
};

static const struct rt_setting settings_table[] = {
	{ "url", RT_SETTING_STRING, offsetof(struct settings, webhook.url),
	  "http://127.0.0.1:8000/", 0, 0, "Where decisions are posted." },
	{ "secret-file", RT_SETTING_STRING, offsetof(struct settings, webhook.secret_file), "", 0,
	  0, "File with the secret that signs them: base64, perhaps behind whsec_." },
	{ "timeout", RT_SETTING_DURATION, offsetof(struct settings, webhook.timeout_ms), "10s", 100,
	  600000, "So long the receiver may take for an answer." },
	{ "requests-max", RT_SETTING_INT, offsetof(struct settings, webhook.requests_max), "16", 1,
	  1000, "So many requests to the receiver may be under way; further ones wait." },
	RT_SETTING_END,
};

static unsigned int access_all(const char *path)
{
	(void)path;
	return ~0U; /* anybody: it serves nothing but health and reflection */
}

int main(int argc, char **argv)
{
	const char *target = getenv("TANDEM_WEBHOOK_TARGET");
	const struct rt_context_program program = {
		.domain = &webhook_domain,
		.about = "Posts the decisions about orders to a URL, signed.",
		.listen = "127.0.0.1:50071",
		.admin_listen = "127.0.0.1:9121",
		.access = access_all,
		.settings = settings_table,
		.settings_size = sizeof(struct settings),
		.options_offset = offsetof(struct settings, webhook),
	};

	if (target != NULL && target[0] != '\0')
		webhook_domain.name = rt_printf("webhook-%s", target); /* for as long as it runs */
	return rt_context_run(&program, argc, argv);
}
