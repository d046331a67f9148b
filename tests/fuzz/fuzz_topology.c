/* fuzz_topology.c - where Redis is: URLs, keys, and answers about masters in Redis's protocol, as a server sends
 * them. What is read must be addresses that can be connected to; what is refused changes nothing.
 * The first byte selects what the rest is. */
#include "fuzz.h"
#include "redis/connection_internal.h"
#include "redis/topology_internal.h"

static const struct rt_redis_address asked = { "asked", 7000 };

static void check_address(const struct rt_redis_address *address)
{
	size_t length = strnlen(address->host, sizeof(address->host));

	FUZZ_MUST(length > 0 && length < sizeof(address->host));
	FUZZ_MUST(address->port >= 1 && address->port <= 65535);
	for (size_t i = 0; i < length; i++)
		FUZZ_MUST(address->host[i] > ' ' && address->host[i] < 0x7f);
}

static void check_url(const char *text)
{
	static const char *const schemes[] = { "redis", "cluster", "sentinel" };
	static struct rt_redis_url url, again;
	struct rt_buf same = { .data = NULL };
	char error[300];

	if (rt_redis_url_parse(text, &url, error, sizeof(error)) != RT_OK) {
		FUZZ_MUST(strnlen(error, sizeof(error)) < sizeof(error) && error[0] != '\0');
		return;
	}
	FUZZ_MUST(url.count >= 1 && url.count <= RT_REDIS_SEEDS_MAX);
	FUZZ_MUST((url.master[0] != '\0') == (url.kind == RT_TOPOLOGY_SENTINEL));
	if (url.addresses[0].port == 0) { /* a socket */
		FUZZ_MUST(url.kind == RT_TOPOLOGY_ONE && url.addresses[0].host[0] == '/');
		return;
	}
	rt_buf_printf(&same, "%s://", url.tls == RT_REDIS_TLS_YES ? "rediss" : schemes[url.kind]);
	for (size_t i = 0; i < url.count; i++) {
		check_address(&url.addresses[i]);
		rt_buf_printf(&same, "%s[%s]:%d", i > 0 ? "," : "", url.addresses[i].host,
			      url.addresses[i].port);
	}
	rt_buf_printf(&same, "%s%s", url.master[0] != '\0' ? "/" : "", url.master);
	FUZZ_MUST(rt_redis_url_parse(same.data, &again, error, sizeof(error)) == RT_OK);
	FUZZ_MUST(memcmp(&url, &again, sizeof(url)) == 0);
	rt_buf_done(&same);
}

static void check_key(const char *text)
{
	char *tagged = rt_printf("a{%s}b", text);

	FUZZ_MUST(rt_key_slot(text) < RT_REDIS_SLOTS);
	if (text[0] != '\0' && strpbrk(text, "{}") == NULL)
		FUZZ_MUST(rt_key_slot(text) == rt_key_slot(tagged));
	free(tagged);
}

static void check_slots(const struct redis_slots *slots)
{
	for (size_t i = 0; i < slots->count; i++) {
		check_address(&slots->nodes[i]);
		for (size_t j = 0; j < i; j++)
			FUZZ_MUST(!rt_redis_address_same(&slots->nodes[i], &slots->nodes[j]));
	}
	for (size_t i = 0; i < RT_REDIS_SLOTS; i++)
		FUZZ_MUST(slots->owner[i] <= slots->count);
}

static void check_answers(const char *bytes, size_t length)
{
	static struct redis_slots slots; /* of the answers before in this input */
	struct rt_arena arena = { .chunks = NULL };
	redisReader *reader = redisReaderCreateWithFunctions(&redis_reply_functions);
	void *reply = NULL;

	FUZZ_MUST(reader != NULL);
	reader->privdata = &arena;
	redisReaderFeed(reader, bytes, length);
	while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply != NULL) {
		const redisReply *answer = reply;
		size_t count = slots.count;
		struct rt_redis_address named = { .port = 0 };

		if (redis_question_slots.read(answer, &asked, &slots, &named) != NULL)
			FUZZ_MUST(slots.count == count);
		FUZZ_MUST(named.port == 0);
		check_slots(&slots);
		if (redis_question_name.read(answer, &asked, &slots, &named) == NULL)
			check_address(&named);
		else
			FUZZ_MUST(named.port == 0);
		if (redis_question_role.read(answer, &asked, &slots, &named) == NULL)
			FUZZ_MUST(slots.count == 1 && rt_redis_address_same(slots.nodes, &asked));
		if (rt_redis_reply_redirects(answer))
			FUZZ_MUST(rt_redis_reply_status(answer) == RT_UNREADY);
	}
	slots.count = 0;
	memset(slots.owner, 0, sizeof(slots.owner));
	redisReaderFree(reader);
	rt_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = { data, data + size };
	uint8_t kind = fuzz_byte(&fuzz);
	size_t length = (size_t)(fuzz.end - fuzz.at);
	char *text = rt_alloc(length + 1);

	if (length > 0)
		memcpy(text, fuzz.at, length);
	if (kind == 'u')
		check_url(text);
	else if (kind == 'k')
		check_key(text);
	else
		check_answers(text, length);
	free(text);
	return 0;
}
