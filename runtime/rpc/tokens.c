/* tokens.c - signed tokens that came lately; see tokens_internal.h. Good ones are known by their SHA-256, addresses by what
 * counts as one: of IPv6 the first 64 bits. Of both so many are kept, the last ones. */
#include "tokens_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <string.h>

#define uthash_fatal(text) abort()
#include <uthash.h>

#define KNOWN_MAX     4096
#define ADDRESSES_MAX 1024
/* Of what an address may have refused in a second, so much may come at once: while signatures are verified, for 0.1 ms and
 * more with each key, others wait. */
#define AT_ONCE_SHARE 10

struct known {
	UT_hash_handle hh; /* by digest */
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct rt_identity identity;
};

struct address {
	UT_hash_handle hh; /* by bytes */
	struct in6_addr bytes;
	struct rpc_bucket refused;
};

/* A table of uthash is in the order in which its entries were added: the first is the oldest. */
struct rpc_tokens {
	struct rt_auth *auth;
	int64_t refused_per_second;
	struct known *known;
	struct address *addresses;
};

/* ---- addresses ---- */

/* All peers without an IP address count as one. */
static struct in6_addr address_of(const char *peer)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct in6_addr address = { 0 };
	char text[INET6_ADDRSTRLEN] = "";
	const char *at = strchr(peer, ':');
	size_t length = 0;

	if (at == NULL)
		return address;
	if (strncmp(peer, "ipv4:", 5) == 0) {
		memcpy(address.s6_addr, mapped, sizeof(mapped));
		length = strcspn(++at, ":");
	} else if (strncmp(peer, "ipv6:", 5) == 0) {
		/* "[" and "]", which gRPC may escape, and a scope between them. */
		at++;
		at += strncmp(at, "%5B", 3) == 0 ? 3 : *at == '[';
		length = strcspn(at, "%]");
	}
	if (length == 0 || length >= sizeof(text))
		return address;
	memcpy(text, at, length);
	if (peer[3] == '4') {
		(void)inet_pton(AF_INET, text, address.s6_addr + 12);
	} else if (inet_pton(AF_INET6, text, &address) == 1 && !IN6_IS_ADDR_V4MAPPED(&address) &&
		   !IN6_IS_ADDR_LOOPBACK(&address)) {
		memset(address.s6_addr + 8, 0, 8);
	}
	return address;
}

static void forget_address(struct rpc_tokens *tokens, struct address *address)
{
	/* It leaves the table, elsewhere: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_DEL(tokens->addresses, address);
	free(address);
}

static struct rpc_bucket *refused_of(struct rpc_tokens *tokens, const char *peer, int64_t now_ms)
{
	struct in6_addr bytes = address_of(peer);
	struct address *address;

	HASH_FIND(hh, tokens->addresses, &bytes, sizeof(bytes), address);
	if (address != NULL)
		return &address->refused;
	if (HASH_COUNT(tokens->addresses) >= ADDRESSES_MAX)
		forget_address(tokens, tokens->addresses);
	address = rt_alloc(sizeof(*address));
	address->bytes = bytes;
	rpc_bucket_init(&address->refused, tokens->refused_per_second,
			RT_MAX(tokens->refused_per_second / AT_ONCE_SHARE, INT64_C(1)), now_ms);
	/* What was forgotten is in it no more: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_ADD(hh, tokens->addresses, bytes, sizeof(bytes), address);
	return &address->refused;
}

/* ---- tokens ---- */

static void forget(struct rpc_tokens *tokens, struct known *known)
{
	/* It leaves the table, elsewhere: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_DEL(tokens->known, known);
	free(known);
}

/* NULL: it was not found good, or is not any more. */
static const struct known *find(struct rpc_tokens *tokens, const uint8_t *digest, int64_t unix_ms)
{
	struct known *known;

	HASH_FIND(hh, tokens->known, digest, SHA256_DIGEST_LENGTH, known);
	if (known == NULL)
		return NULL;
	if (known->identity.generation == rt_auth_generation(tokens->auth) &&
	    known->identity.expires_ms > unix_ms)
		return known;
	forget(tokens, known);
	return NULL;
}

static void remember(struct rpc_tokens *tokens, const uint8_t *digest,
		     const struct rt_identity *identity)
{
	struct known *known = rt_alloc(sizeof(*known));

	if (HASH_COUNT(tokens->known) >= KNOWN_MAX)
		forget(tokens, tokens->known);
	memcpy(known->digest, digest, sizeof(known->digest));
	known->identity = *identity;
	/* What was forgotten is in it no more: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	HASH_ADD(hh, tokens->known, digest, sizeof(known->digest), known);
}

int rpc_tokens_read(struct rpc_tokens *tokens, const char *peer, const char *token, size_t length,
		    int64_t now_ms, int64_t unix_ms, struct rt_identity *ret, const char **ret_why,
		    struct rpc_lack *ret_lack)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	const struct known *known;
	struct rpc_bucket *refused;
	int64_t wait_ms;
	int rc;

	if (!rt_auth_is_signed(token, length))
		return rt_auth_bearer(tokens->auth, token, length, unix_ms, ret, ret_why);
	SHA256((const uint8_t *)token, length, digest);
	known = find(tokens, digest, unix_ms);
	if (known != NULL) {
		*ret = known->identity;
		return RT_OK;
	}
	refused = refused_of(tokens, peer, now_ms);
	wait_ms = rpc_bucket_wait_ms(refused, now_ms);
	if (wait_ms > 0) {
		*ret_lack = (struct rpc_lack){ RPC_REFUSED_TOKENS, tokens->refused_per_second,
					       wait_ms };
		return RT_BUSY;
	}
	rc = rt_auth_bearer(tokens->auth, token, length, unix_ms, ret, ret_why);
	if (rc == RT_OK)
		remember(tokens, digest, ret);
	else
		rpc_bucket_take(refused, 1);
	return rc;
}

/* ---- start and end ---- */

struct rpc_tokens *rpc_tokens_new(struct rt_auth *auth, int64_t refused_per_second)
{
	struct rpc_tokens *tokens = rt_alloc(sizeof(*tokens));

	tokens->auth = auth;
	tokens->refused_per_second = refused_per_second;
	return tokens;
}

void rpc_tokens_free(struct rpc_tokens *tokens)
{
	struct address *address, *next_address;
	struct known *known, *next_known;

	if (tokens == NULL)
		return;
	HASH_ITER (hh, tokens->addresses, address, next_address)
		forget_address(tokens, address);
	HASH_ITER (hh, tokens->known, known, next_known)
		forget(tokens, known);
	free(tokens);
}
