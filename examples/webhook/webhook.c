/* webhook.c - an event becomes a signed request; the answer says what becomes of the event.
 *
 *   on_event        a decision? it waits for its turn
 *     send_more     as many as --requests-max are under way: body, headers with the signature (Standard Webhooks 1.0)
 *       posted      2xx: done. No answer, 408, 429, 5xx: the receiver is away; it waits again, as long as it takes. Another
 *                   answer: the runtime hands it over again, later and later, and it is a dead letter after --deliveries-max
 *
 * Requests are signed, and their time counts, when they are sent. The receiver knows a repeat by its webhook-id,
 * <order id>/<version>. */
#include "webhook.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

#include "post.h"
#include "trace/trace.h"

/* Of the key, in bytes, as Standard Webhooks has it. */
#define KEY_MIN         24
#define KEY_MAX         64
#define SIGNATURE_BYTES 32
#define BASE64(bytes)   (((bytes) + 2) / 3 * 4)
#define PAUSE_MIN_MS    100 /* while the receiver is away: doubles */
#define PAUSE_MAX_MS    1600

struct webhook {
	struct rt_context *context;
	struct poster *poster;
	struct rt_list waiting; /* for their turn: deliveries */
	EVP_MAC_CTX *mac;       /* HMAC-SHA256 with the secret; begun anew for each request */
	struct rt_series *sent, *failed;
	size_t under_way, requests_max;
	struct rt_timer pause;
	int64_t pause_ms; /* 0: the receiver is there */
};
struct delivery {
	struct rt_list link;
	struct post post;
	struct webhook *webhook;
	struct rt_event *event;
};

static const char *const decisions[] = { "OrderReserved",  "OrderRejected", "OrderConfirmed",
					 "OrderCancelled", "OrderExpired",  "OrderReturned" };

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

static void texts_free(struct post *post)
{
	for (size_t i = 0; i < POST_HEADERS; i++) {
		free(post->headers[i]);
		post->headers[i] = NULL;
	}
	free(post->body);
	post->body = NULL;
}

static void delivery_free(struct delivery *delivery)
{
	texts_free(&delivery->post);
	free(delivery);
}

/* What may be another answer later, without anybody's doing. */
static bool is_away(long code)
{
	return code == 0 || code == 408 || code == 429 || code >= 500;
}

static void send_more(struct webhook *webhook);

static void pause_over(struct rt_timer *timer)
{
	send_more(RT_CONTAINER_OF(timer, struct webhook, pause));
}

/* The receiver is away. The decision waits again, behind the others: if it alone fails, for whatever reason, it keeps none of
 * them back. */
static void put_off(struct delivery *delivery, long code, const char *why)
{
	struct webhook *webhook = delivery->webhook;
	struct rt_loop *loop = webhook->context->loop;

	texts_free(&delivery->post);
	rt_list_push(&webhook->waiting, &delivery->link);
	if (rt_timer_running(&webhook->pause))
		return;
	/* Said once, when it has been away for some tries. */
	if (webhook->pause_ms < PAUSE_MAX_MS && webhook->pause_ms * 2 >= PAUSE_MAX_MS)
		RT_LOG(RT_WARN, "the receiver is away", RT_I("code", code),
		       RT_S("reason", code == 0 ? why : "its answer"));
	webhook->pause_ms = RT_MIN(RT_MAX(webhook->pause_ms * 2, PAUSE_MIN_MS), PAUSE_MAX_MS);
	rt_timer_start(loop, &webhook->pause, rt_loop_around(loop, webhook->pause_ms), pause_over);
}

static void refused(const struct rt_event *event, long code)
{
	char trace[RT_TRACE_ID_TEXT];

	RT_LOG(RT_WARN, "the receiver refuses a decision", RT_S("subject", event->subject),
	       RT_I("version", (int64_t)event->seq), RT_I("code", code),
	       RT_S("trace_id", rt_trace_find(event->traceparent, event->subject, trace)));
}

static void posted(struct post *post, long code, const char *why)
{
	struct delivery *delivery = RT_CONTAINER_OF(post, struct delivery, post);
	struct webhook *webhook = delivery->webhook;
	struct rt_event *event = delivery->event;
	bool good = code >= 200 && code < 300;

	webhook->under_way--;
	rt_series_add(good ? webhook->sent : webhook->failed, 1);
	if (is_away(code) && !webhook->context->stopping) {
		put_off(delivery, code, why);
	} else if (good) {
		if (webhook->pause_ms == PAUSE_MAX_MS)
			RT_LOG(RT_INFO, "the receiver is back");
		webhook->pause_ms = 0;
		rt_timer_stop(webhook->context->loop, &webhook->pause);
		delivery_free(delivery);
		rt_event_done(event);
	} else { /* refused; or away, and the program ends: another process will post it */
		if (!is_away(code))
			refused(event, code);
		delivery_free(delivery);
		rt_event_retry(event, is_away(code) ? RT_CANCELED : RT_INVALID);
	}
	send_more(webhook);
}

/* The body; NULL: a text is no UTF-8. */
static char *body_of(const struct rt_event *event)
{
	json_t *body =
		json_pack("{ss ss sI ss}", "type", decision_of(event), "order_id", event->subject,
			  "version", (json_int_t)event->seq, "time", event->time);
	char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);

	json_decref(body);
	return text;
}

/* "v1,<base64 of the HMAC-SHA256 of id.timestamp.body>" */
static void add_headers(const struct webhook *webhook, const struct rt_event *event,
			struct post *post)
{
	long long now = rt_loop_unix_ms(webhook->context->loop) / 1000;
	unsigned long long version = event->seq;
	char *text = rt_printf("%s/%llu.%lld.%s", event->subject, version, now, post->body);
	uint8_t digest[SIGNATURE_BYTES], signature[BASE64(SIGNATURE_BYTES) + 1];
	size_t length;

	EVP_MAC_init(webhook->mac, NULL, 0, NULL);
	EVP_MAC_update(webhook->mac, (const uint8_t *)text, strlen(text));
	EVP_MAC_final(webhook->mac, digest, &length, sizeof(digest));
	EVP_EncodeBlock(signature, digest, sizeof(digest));
	post->headers[0] = rt_printf("webhook-id: %s/%llu", event->subject, version);
	post->headers[1] = rt_printf("webhook-timestamp: %lld", now);
	post->headers[2] = rt_printf("webhook-signature: v1,%s", (const char *)signature);
	free(text);
}

/* While the receiver is away there are pauses, and one request after each. */
static size_t requests_max(const struct webhook *webhook)
{
	if (rt_timer_running(&webhook->pause))
		return 0;
	return webhook->pause_ms > 0 ? 1 : webhook->requests_max;
}

static void send_more(struct webhook *webhook)
{
	struct rt_list *link;

	while (webhook->under_way < requests_max(webhook) &&
	       (link = rt_list_pop(&webhook->waiting)) != NULL) {
		struct delivery *delivery = RT_CONTAINER_OF(link, struct delivery, link);

		delivery->post.body = body_of(delivery->event);
		if (delivery->post.body == NULL) {
			rt_event_poison(delivery->event, "its texts are no UTF-8");
			delivery_free(delivery);
			continue;
		}
		add_headers(webhook, delivery->event, &delivery->post);
		webhook->under_way++;
		poster_post(webhook->poster, &delivery->post);
	}
}

static void on_event(struct rt_event *event, void *user)
{
	struct webhook *webhook = user;
	struct delivery *delivery;

	if (decision_of(event) == NULL) {
		rt_event_ignore(event);
		return;
	}
	delivery = rt_alloc(sizeof(*delivery));
	delivery->webhook = webhook;
	delivery->event = event;
	delivery->post.done = posted;
	rt_list_push(&webhook->waiting, &delivery->link);
	send_more(webhook);
}

/* What waits stays pending in Redis; requests under way end by themselves. */
static void stop(void *data)
{
	struct webhook *webhook = data;
	struct rt_list *link;

	rt_timer_stop(webhook->context->loop, &webhook->pause);
	while ((link = rt_list_pop(&webhook->waiting)) != NULL) {
		struct delivery *delivery = RT_CONTAINER_OF(link, struct delivery, link);

		rt_event_retry(delivery->event, RT_CANCELED);
		delivery_free(delivery);
	}
}

static EVP_MAC_CTX *new_mac(const uint8_t *key, size_t length)
{
	char digest[] = "SHA256";
	const OSSL_PARAM params[] = { OSSL_PARAM_utf8_string("digest", digest, sizeof(digest) - 1),
				      OSSL_PARAM_END };
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);

	EVP_MAC_free(hmac); /* the context keeps it */
	if (mac == NULL || EVP_MAC_init(mac, key, length, params) != 1) {
		EVP_MAC_CTX_free(mac);
		return NULL;
	}
	return mac;
}

/* The key is written as "whsec_" and its base64; "whsec_" may be missing. NULL: it is not. */
static EVP_MAC_CTX *read_key(const char *text)
{
	static const char prefix[] = "whsec_";
	uint8_t key[BASE64(KEY_MAX) / 4 * 3];
	size_t length = strcspn(text, "\n"), padding = 0;
	EVP_MAC_CTX *mac = NULL;
	int decoded;

	if (strncmp(text, prefix, sizeof(prefix) - 1) == 0) {
		text += sizeof(prefix) - 1;
		length -= sizeof(prefix) - 1;
	}
	if (length < BASE64(KEY_MIN) || length > BASE64(KEY_MAX))
		return NULL;
	while (padding < 2 && text[length - 1 - padding] == '=')
		padding++;
	decoded = EVP_DecodeBlock(key, (const uint8_t *)text, (int)length) - (int)padding;
	if (decoded >= KEY_MIN && decoded <= KEY_MAX)
		mac = new_mac(key, (size_t)decoded);
	OPENSSL_cleanse(key, sizeof(key));
	return mac;
}

static int read_secret(const char *path, struct webhook *webhook)
{
	struct rt_buf text = { 0 };
	char error[200] = "it must hold the base64 of 24 to 64 bytes, perhaps behind whsec_";
	int rc = rt_file_read(path, RT_FILE_SECRET, 1024, &text, error, sizeof(error));

	if (rc == RT_OK) {
		webhook->mac = read_key(text.data);
		rc = webhook->mac != NULL ? RT_OK : RT_INVALID;
	}
	if (rc != RT_OK)
		RT_LOG(RT_ERROR, "the secret cannot be used", RT_S("file", path),
		       RT_S("reason", error));
	rt_file_erase(&text);
	return rc;
}

static int make(struct rt_context *context, const void *options, void **ret_data)
{
	static const char *const labels[] = { "outcome", NULL };
	static const char *const sent[] = { "delivered" }, *const failed[] = { "failed" };
	const struct webhook_options *set = options;
	const struct poster_options poster = { .url = set->url,
					       .timeout_ms = set->timeout_ms,
					       .requests_max = (size_t)set->requests_max };
	struct webhook *webhook = rt_alloc(sizeof(*webhook));
	struct rt_metric *posts =
		rt_metric(context->metrics, RT_COUNTER, "tandem_webhook_posts_total",
			  "Requests to the receiver, by outcome.", labels);
	int rc;

	*ret_data = webhook;
	webhook->context = context;
	webhook->sent = rt_metric_series(posts, sent);
	webhook->failed = rt_metric_series(posts, failed);
	rt_list_init(&webhook->waiting);
	webhook->requests_max = (size_t)set->requests_max;
	rc = read_secret(set->secret_file, webhook);
	if (rc != RT_OK)
		return rc;
	rc = poster_new(context->loop, &poster, &webhook->poster);
	if (rc == RT_INVALID)
		RT_LOG(RT_ERROR, "--url must begin with http:// or https://",
		       RT_S("url", set->url));
	return rc;
}

/* It serves no gRPC of its own: health, reflection and metrics are the runtime's. */
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
	EVP_MAC_CTX_free(webhook->mac);
	free(webhook);
}

extern const struct rt_functions
	webhook_functions; /* functions.lua, by tandem_functions of CMakeLists.txt */

struct rt_context_domain webhook_domain = {
	.name = "webhook",
	.functions = &webhook_functions,
	.subscriptions = { { "order", on_event } },
	.make = make,
	.service = service,
	.stop = stop,
	.free = data_free,
};
