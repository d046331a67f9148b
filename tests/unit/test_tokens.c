/* Signed tokens that are not good are bounded by address; those that were found good go on. */
#include "rpc/tokens_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"
#include "signed_tokens.h"

#define UNIX_MS INT64_C(1796000000000)
#define HEADER  "{\"alg\":\"EdDSA\"}"
#define CLAIMS                                                                                     \
	"{\"iss\":\"i\",\"aud\":\"a\",\"role\":\"support\",\"exp\":1796000600,\"sub\":\"%s\"}"
#define LIMIT   30
#define AT_ONCE 3 /* a tenth */
#define HOME    "ipv4:192.0.2.1:4711"

static char keys_path[] = "/tmp/tandem-tokens-XXXXXX";
static EVP_PKEY *key, *other_key;
static struct rt_auth *auth;
static struct rpc_tokens *tokens;
static int64_t now_ms;
static struct rpc_lack lack;
static int serial;

static void make_keys(void)
{
	int fd = mkstemp(keys_path);
	char *one;

	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	other_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	one = jwk(key);
	dprintf(fd, "{\"keys\":[%s}]}", one);
	free(one);
	close(fd);
}

static void open_tokens(int64_t limit)
{
	const struct rt_auth_options options = { .jwt_keys_file = keys_path,
						 .jwt_issuer = "i",
						 .jwt_audience = "a" };
	struct rt_buf error = { 0 };

	if (key == NULL)
		make_keys();
	CU_ASSERT_EQUAL_FATAL(rt_auth_read(&options, &auth, &error), RT_OK);
	rt_buf_done(&error);
	tokens = rpc_tokens_new(auth, limit);
	now_ms = 1000;
}

static void close_tokens(void)
{
	rpc_tokens_free(tokens);
	rt_auth_free(auth);
}

static int read_at(const char *peer, const char *token, int64_t unix_ms)
{
	struct rt_identity identity = { 0 };
	const char *why = "";
	int rc = rpc_tokens_read(tokens, peer, token, strlen(token), now_ms, unix_ms, &identity,
				 &why, &lack);

	if (rc == RT_OK)
		CU_ASSERT(identity.role == RT_ROLE_SUPPORT && identity.name[0] != '\0');
	return rc;
}

static char *good_token(const char *name)
{
	char *claims = rt_printf(CLAIMS, name), *token = token_of(key, HEADER, claims);

	free(claims);
	return token;
}

/* A new one each time. */
static int send_bad(const char *peer)
{
	char *claims = rt_printf(CLAIMS, "mallory"), *token;
	int rc;

	token = token_of(other_key, serial++ % 2 == 0 ? HEADER : HEADER " ", claims);
	rc = read_at(peer, token, UNIX_MS);
	free(claims);
	free(token);
	return rc;
}

static void use_up(const char *peer)
{
	for (int i = 0; i < AT_ONCE; i++)
		CU_ASSERT_EQUAL(send_bad(peer), RT_DENIED);
	CU_ASSERT_EQUAL(send_bad(peer), RT_BUSY);
}

static void bad_tokens_are_bounded(void)
{
	open_tokens(LIMIT);
	use_up(HOME);
	CU_ASSERT_STRING_EQUAL(lack.reason, "REFUSED_TOKENS_PER_ADDRESS");
	CU_ASSERT_EQUAL(lack.limit, LIMIT);
	CU_ASSERT_EQUAL(lack.retry_ms, 34);
	now_ms += lack.retry_ms - 1;
	CU_ASSERT_EQUAL(send_bad(HOME), RT_BUSY);
	now_ms += 1;
	CU_ASSERT_EQUAL(send_bad(HOME), RT_DENIED);
	CU_ASSERT_EQUAL(send_bad(HOME), RT_BUSY);
	now_ms += 3600000; /* however long it was quiet */
	use_up(HOME);
	close_tokens();
}

static void without_a_limit_each_is_looked_at(void)
{
	open_tokens(0);
	for (int i = 0; i < 1000; i++)
		CU_ASSERT_EQUAL(send_bad(HOME), RT_DENIED);
	close_tokens();
}

static void good_tokens_go_on(void)
{
	char *known, *fresh;

	open_tokens(LIMIT);
	known = good_token("anna");
	fresh = good_token("bert");
	CU_ASSERT_EQUAL(read_at(HOME, known, UNIX_MS), RT_OK);
	use_up(HOME);
	CU_ASSERT_EQUAL(read_at(HOME, known, UNIX_MS), RT_OK);
	/* This one cannot be told from a bad one without looking at it. */
	CU_ASSERT_EQUAL(read_at(HOME, fresh, UNIX_MS), RT_BUSY);
	CU_ASSERT_EQUAL(read_at("ipv4:192.0.2.2:1", fresh, UNIX_MS), RT_OK);
	CU_ASSERT_EQUAL(read_at(HOME, fresh, UNIX_MS), RT_OK);
	/* Good tokens use nothing up. */
	now_ms += 1000;
	for (int i = 0; i < 5 * LIMIT; i++) {
		char *name = rt_printf("many-%d", i), *one = good_token(name);

		CU_ASSERT_EQUAL(read_at(HOME, one, UNIX_MS), RT_OK);
		free(name);
		free(one);
	}
	use_up(HOME);
	free(known);
	free(fresh);
	close_tokens();
}

static void a_known_token_ends_as_any_other(void)
{
	char *token;

	open_tokens(LIMIT);
	token = good_token("anna");
	CU_ASSERT_EQUAL(read_at(HOME, token, UNIX_MS), RT_OK);
	CU_ASSERT_EQUAL(read_at(HOME, token, UNIX_MS + 599999), RT_OK);
	CU_ASSERT_EQUAL(read_at(HOME, token, UNIX_MS + 600000), RT_DENIED);
	free(token);
	close_tokens();
}

static void keys_of_api_are_not_bounded(void)
{
	open_tokens(LIMIT);
	for (int i = 0; i < 10 * LIMIT; i++)
		CU_ASSERT_EQUAL(read_at(HOME, "tandem_nobodys", UNIX_MS), RT_DENIED);
	CU_ASSERT_EQUAL(send_bad(HOME), RT_DENIED);
	close_tokens();
}

static void what_counts_as_one_address(void)
{
	static const struct {
		const char *name, *one, *other;
		bool same;
	} rows[] = {
		{ "ports", "ipv4:192.0.2.1:1", "ipv4:192.0.2.1:2", true },
		{ "IPv4", "ipv4:192.0.2.1:1", "ipv4:192.0.2.10:1", false },
		{ "IPv6", "ipv6:[2001:db8::1]:1", "ipv6:[2001:db8:0:1::1]:1", false },
		{ "the same network", "ipv6:[2001:db8::1]:1", "ipv6:[2001:db8::2]:1", true },
		{ "escaped", "ipv6:%5B2001:db8::1%5D:1", "ipv6:[2001:db8::1]:2", true },
		{ "escaped others", "ipv6:%5B2001:db8::1%5D:1", "ipv6:%5B2001:db9::1%5D:1", false },
		{ "scopes", "ipv6:[fe80::1%eth0]:1", "ipv6:[fe80::1%25eth1]:1", true },
		{ "IPv4 in IPv6", "ipv6:[::ffff:192.0.2.1]:1", "ipv4:192.0.2.1:9", true },
		{ "loopback", "ipv6:[::1]:1", "ipv4:127.0.0.1:1", false },
		{ "sockets", "unix:/tmp/a", "unix:", true },
		{ "nonsense", "ipv6:", "ipv4:x:y", false },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		open_tokens(LIMIT);
		use_up(rows[i].one);
		TEST_ROW((send_bad(rows[i].other) == RT_BUSY) == rows[i].same, rows[i].name);
		close_tokens();
	}
}

/* More addresses, and more tokens, than are remembered. */
static void not_all_are_remembered(void)
{
	char *first;

	open_tokens(LIMIT);
	first = good_token("first");
	use_up(HOME);
	CU_ASSERT_EQUAL(read_at("unix:", first, UNIX_MS), RT_OK);
	for (unsigned int i = 0; i < 5000; i++) {
		char *name = rt_printf("many-%u", i), *token = good_token(name);
		char *peer = rt_printf("ipv4:10.0.%u.%u:1", i / 256, i % 256);

		CU_ASSERT_EQUAL_FATAL(read_at(peer, token, UNIX_MS), RT_OK);
		free(name);
		free(token);
		free(peer);
	}
	CU_ASSERT_EQUAL(send_bad(HOME), RT_DENIED);
	CU_ASSERT_EQUAL(read_at("unix:", first, UNIX_MS), RT_OK);
	free(first);
	close_tokens();
}

static const struct test tests[] = {
	{ "bad tokens are bounded", bad_tokens_are_bounded },
	{ "without a limit each is looked at", without_a_limit_each_is_looked_at },
	{ "good tokens go on", good_tokens_go_on },
	{ "a known token ends as any other", a_known_token_ends_as_any_other },
	{ "API keys are not bounded", keys_of_api_are_not_bounded },
	{ "what counts as one address", what_counts_as_one_address },
	{ "not all are remembered", not_all_are_remembered },
};

int main(void)
{
	int failed = tests_run("tokens", tests, RT_LENGTH(tests));

	EVP_PKEY_free(key);
	EVP_PKEY_free(other_key);
	(void)unlink(keys_path);
	return failed;
}
