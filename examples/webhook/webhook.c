/* webhook.c - an event becomes a signed request; the answer says what becomes of the event.
 *
 *   on_event        a decision? → body, headers with the signature (Standard Webhooks 1.0), poster_post
 *     posted        2xx: done. No answer, 408, 429, 5xx: the receiver is away; it comes again, as long as it takes. Another
 *                   answer: it comes again, too, and is a dead letter after --deliveries-max
 *
 * The receiver knows a repeat by its webhook-id, <order id>/<version>. */
#include "webhook.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#include "post.h"

#define SECRET_MAX 1024

struct webhook {
	struct rt_context *context;
	struct poster *poster;
	struct rt_buf secret;
	struct rt_series *sent, *failed;
};
struct delivery {
	struct post post;
	struct webhook *webhook;
	struct rt_event *event;
	char *headers[4], *body;
};

static const char *const decisions[] = { "OrderReserved", "OrderRejected", "OrderConfirmed",
					 "OrderCancelled", "OrderExpired", "OrderReturned" };

/* The decision's name; NULL: the event is none. */
static const char *decision_of(const struct rt_event *event)
{
	static const char package[] = "tandem.order.v1.";

	if (strncmp(event->type, package, sizeof(package) - 1) != 0)
		return NULL;
	for (size_t i = 0; i < RT_LENGTH(decisions); i++)
		if (strcmp(event->type + sizeof(package) - 1, decisions[i]) == 0)
			return decisions[i];
	return NULL;
}

static void delivery_free(struct delivery *delivery)
{
	for (size_t i = 0; i < RT_LENGTH(delivery->headers); i++)
		free(delivery->headers[i]);
	free(delivery->body);
	free(delivery);
}

static bool is_away(long code)
{
	return code == 0 || code == 408 || code == 429 || code >= 500;
}

static void posted(struct post *post, long code, const char *why)
{
	struct delivery *delivery = RT_CONTAINER_OF(post, struct delivery, post);
	struct webhook *webhook = delivery->webhook;
	struct rt_event *event = delivery->event;
	bool good = code >= 200 && code < 300;

	rt_series_add(good ? webhook->sent : webhook->failed, 1);
	if (!good)
		RT_LOG(RT_DEBUG, "not delivered", RT_S("subject", event->subject), RT_I("code", code),
		       RT_S("reason", why));
	delivery_free(delivery);
	rt_context_release(webhook->context);
	if (good)
		rt_event_done(event);
	else
		rt_event_retry(event, is_away(code) ? RT_LOST : RT_INVALID);
}

/* "v1,<base64 of the HMAC-SHA256 of id.timestamp.body>" */
static void sign(const struct webhook *webhook, const char *signed_text, char ret[64])
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	HMAC(EVP_sha256(), webhook->secret.data, (int)webhook->secret.length,
	     (const uint8_t *)signed_text, strlen(signed_text), digest, &length);
	strcpy(ret, "v1,");
	EVP_EncodeBlock((uint8_t *)ret + 3, digest, (int)length);
}

static void on_event(struct rt_event *event, void *user)
{
	struct webhook *webhook = user;
	const char *decision = decision_of(event);
	long long now = rt_loop_unix_ms(webhook->context->loop) / 1000;
	struct delivery *delivery;
	char *signed_text, signature[64];
	json_t *body;

	if (decision == NULL) {
		rt_event_ignore(event);
		return;
	}
	delivery = rt_alloc(sizeof(*delivery));
	delivery->webhook = webhook;
	delivery->event = event;
	body = json_pack("{ss ss sI ss}", "type", decision, "order_id", event->subject, "version",
			 (json_int_t)event->seq, "time", event->time);
	delivery->body = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
	json_decref(body);
	if (delivery->body == NULL) {
		delivery_free(delivery);
		rt_event_poison(event, "its texts are no UTF-8");
		return;
	}
	signed_text = rt_printf("%s/%llu.%lld.%s", event->subject, (unsigned long long)event->seq, now,
				delivery->body);
	sign(webhook, signed_text, signature);
	free(signed_text);
	delivery->headers[0] =
		rt_printf("webhook-id: %s/%llu", event->subject, (unsigned long long)event->seq);
	delivery->headers[1] = rt_printf("webhook-timestamp: %lld", now);
	delivery->headers[2] = rt_printf("webhook-signature: %s", signature);
	delivery->post.headers = (const char *const *)delivery->headers;
	delivery->post.body = delivery->body;
	delivery->post.length = strlen(delivery->body);
	delivery->post.done = posted;
	rt_context_hold(webhook->context);
	poster_post(webhook->poster, &delivery->post);
}

static int make(struct rt_context *context, const void *options, void **ret_data)
{
	static const char *const headers[] = { "content-type: application/json", "user-agent: tandem-webhook",
					       "expect:", NULL };
	static const char *const labels[] = { "outcome", NULL };
	static const char *const sent[] = { "delivered" }, *const failed[] = { "failed" };
	const struct webhook_options *set = options;
	const struct poster_options poster = { .url = set->url,
					       .headers = headers,
					       .timeout_ms = set->timeout_ms,
					       .connections = set->connections };
	struct webhook *webhook = rt_alloc(sizeof(*webhook));
	struct rt_metric *posts;
	char error[200];
	int rc;

	*ret_data = webhook;
	webhook->context = context;
	posts = rt_metric(context->metrics, RT_COUNTER, "tandem_webhook_posts_total",
			  "Requests to the receiver, by outcome.", labels);
	webhook->sent = rt_metric_series(posts, sent);
	webhook->failed = rt_metric_series(posts, failed);
	rc = rt_file_read(set->secret_file, RT_FILE_SECRET, SECRET_MAX, &webhook->secret, error,
			  sizeof(error));
	if (rc != RT_OK) {
		RT_LOG(RT_ERROR, "cannot read the secret", RT_S("reason", error));
		return rc;
	}
	webhook->secret.length = strcspn(webhook->secret.data, "\n");
	if (webhook->secret.length == 0) {
		RT_LOG(RT_ERROR, "the file of the secret is empty", RT_S("file", set->secret_file));
		return RT_INVALID;
	}
	return poster_new(context->loop, &poster, &webhook->poster);
}

static ProtobufCService *service(void *data, size_t number)
{
	(void)data;
	(void)number;
	return NULL;
}

static void data_free(void *data)
{
	struct webhook *webhook = data;

	if (webhook == NULL)
		return;
	poster_free(webhook->poster);
	rt_file_erase(&webhook->secret);
	free(webhook);
}

extern const struct rt_functions webhook_functions;

struct rt_context_domain webhook_domain = {
	.name = "webhook",
	.functions = &webhook_functions,
	.subscriptions = { { "order", on_event } },
	.make = make,
	.service = service,
	.free = data_free,
};
