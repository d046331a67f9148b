/* jwt.c - a signed token: what it says, and whether to believe it (RFC 7519, RFC 7515, RFC 8725).
 *
 *   auth_jwt_read
 *     split            three parts, each base64url
 *     read_header      what is it, and which algorithm and key does it name?
 *     signed_by_one    one of our keys has signed it
 *     auth_jwt_claims  only then is the content looked at: for us, from our issuer, for now?
 *     read_caller      who it is
 *
 * Of the header only alg, kid, typ and crit are read. A key that comes with the token (jwk, jku, x5c, x5u) is never looked
 * at: it would prove nothing.
 *
 * The size of a token bounds its JSON; jansson nests it at most 2 048 deep, refuses NUL in texts and names that stand twice,
 * and hashes with a seed of its own.
 *
 * The error queue of OpenSSL is the thread's: what verifying leaves there would look like a fault of the next TLS
 * connection. So it is emptied. */
#include <jansson.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <string.h>
#include <strings.h>

#include "auth_internal.h"

#define SIGNATURE_MAX 1024 /* RSA of 8192 bits */
#define ES256_HALF    32
#define SECONDS_MAX   (RT_TIME_MS_MAX / 1000)
#define OWNER_CLAIM   "customer_id"

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return RT_DENIED;
}

/* ---- the form ---- */

struct part {
	const char *text;
	size_t length;
};
enum { HEADER, CLAIMS, SIGNATURE, PARTS };

/* The parts between the dots. How many there are; what is more than three is counted only. */
static size_t split(const char *token, size_t length, struct part parts[PARTS])
{
	const char *end = token + length;
	size_t count = 0;

	for (const char *at = token;; at++) {
		const char *dot = memchr(at, '.', (size_t)(end - at));
		const char *part_end = dot != NULL ? dot : end;

		if (count < PARTS)
			parts[count] = (struct part){ at, (size_t)(part_end - at) };
		count++;
		if (dot == NULL)
			return count;
		at = part_end;
	}
}

/* A part's bytes with a NUL behind them, freed by the caller. NULL: it is not base64url. */
static char *decode(const struct part *part, size_t *ret_length)
{
	uint8_t *bytes = rt_alloc(RT_BASE64_DECODED(part->length) + 1);

	if (rt_base64url_decode(part->text, part->length, bytes, ret_length))
		return (char *)bytes;
	free(bytes);
	return NULL;
}

/* ---- the header ---- */

struct header {
	enum auth_algorithm algorithm;
	const char *kid; /* NULL: it names none. Lives as long as `json` */
	json_t *json;
};

static bool typ_good(const json_t *typ)
{
	static const char *const good[] = { "JWT", "at+jwt", "application/at+jwt" };

	if (typ == NULL)
		return true;
	for (size_t i = 0; i < RT_LENGTH(good) && json_is_string(typ); i++)
		if (strcasecmp(json_string_value(typ), good[i]) == 0)
			return true;
	return false;
}

static int read_header(const struct part *part, struct header *ret, const char **ret_why)
{
	size_t length = 0;
	char *text = decode(part, &length);
	const json_t *alg, *kid;

	if (text == NULL)
		return refuse(ret_why, "the header is not base64url");
	ret->json = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	free(text);
	if (!json_is_object(ret->json))
		return refuse(ret_why, "the header is not a JSON object of unique names");
	alg = json_object_get(ret->json, "alg");
	kid = json_object_get(ret->json, "kid");
	if (!json_is_string(alg) || !auth_algorithm_parse(json_string_value(alg), &ret->algorithm))
		return refuse(ret_why, "alg is none of RS256, ES256 and EdDSA");
	if (json_object_get(ret->json, "crit") != NULL)
		return refuse(ret_why, "crit names extensions, and there are none");
	if (!typ_good(json_object_get(ret->json, "typ")))
		return refuse(ret_why, "typ is neither JWT nor at+jwt");
	if (kid != NULL && !json_is_string(kid))
		return refuse(ret_why, "kid is not a text");
	ret->kid = json_string_value(kid);
	return RT_OK;
}

/* ---- the signature ---- */

/* A signature of ES256 is two numbers of 32 bytes; OpenSSL wants them as DER. 0: it is none. */
static size_t es256_der(const uint8_t *raw, size_t length, uint8_t der[SIGNATURE_MAX])
{
	ECDSA_SIG *signature = ECDSA_SIG_new();
	BIGNUM *r, *s;
	uint8_t *at = der;
	int der_length = 0;

	if (signature != NULL && length == 2 * (size_t)ES256_HALF) {
		r = BN_bin2bn(raw, ES256_HALF, NULL);
		s = BN_bin2bn(raw + ES256_HALF, ES256_HALF, NULL);
		if (r != NULL && s != NULL && ECDSA_SIG_set0(signature, r, s) == 1) {
			der_length = i2d_ECDSA_SIG(signature, &at);
		} else {
			BN_free(r);
			BN_free(s);
		}
	}
	ECDSA_SIG_free(signature);
	return der_length > 0 ? (size_t)der_length : 0;
}

static bool verify(const struct auth_jwt_key *key, const uint8_t *signature,
		   size_t signature_length, const struct part *content)
{
	const EVP_MD *digest = key->algorithm == AUTH_EDDSA ? NULL : EVP_sha256();
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = context != NULL &&
		    EVP_DigestVerifyInit(context, NULL, digest, NULL, key->key) == 1 &&
		    EVP_DigestVerify(context, signature, signature_length,
				     (const uint8_t *)content->text, content->length) == 1;

	EVP_MD_CTX_free(context);
	return good;
}

static int signed_by_one(const struct auth_jwt_keys *keys, const struct header *header,
			 const struct part parts[PARTS], const char **ret_why)
{
	/* As it came: both parts and the dot between them. */
	const struct part content = { parts[HEADER].text,
				      parts[HEADER].length + 1 + parts[CLAIMS].length };
	uint8_t bytes[RT_BASE64_DECODED(SIGNATURE_MAX * 4 / 3 + 4)], der[SIGNATURE_MAX];
	const uint8_t *signature = bytes;
	bool known = false, good = false;
	size_t length = 0;

	if (parts[SIGNATURE].length > SIGNATURE_MAX * 4 / 3 + 4 ||
	    !rt_base64url_decode(parts[SIGNATURE].text, parts[SIGNATURE].length, bytes, &length))
		return refuse(ret_why, "the signature is not base64url of at most 1024 bytes");
	if (header->algorithm == AUTH_ES256) {
		length = es256_der(bytes, length, der);
		signature = der;
	}
	for (size_t i = 0; i < keys->count && !good; i++) {
		const struct auth_jwt_key *key = &keys->list[i];

		if (key->algorithm != header->algorithm ||
		    (header->kid != NULL &&
		     (key->kid == NULL || strcmp(key->kid, header->kid) != 0)))
			continue;
		known = true;
		good = length > 0 && verify(key, signature, length, &content);
	}
	ERR_clear_error();
	if (!known)
		return refuse(ret_why, header->kid != NULL
					       ? "no key of this algorithm has the token's kid"
					       : "there is no key of the token's algorithm");
	return good ? RT_OK : refuse(ret_why, "the signature does not fit");
}

/* ---- the claims ---- */

/* A time in seconds, with or without fractions. False: there is something else. Not there: *ret_ms stays. */
static bool read_time(const json_t *claims, const char *name, int64_t *ret_ms)
{
	const json_t *time = json_object_get(claims, name);

	if (time == NULL)
		return true;
	if (!json_is_number(time) || json_number_value(time) < 0 ||
	    json_number_value(time) > (double)SECONDS_MAX)
		return false;
	*ret_ms = json_is_integer(time) ? json_integer_value(time) * 1000
					: (int64_t)(json_real_value(time) * 1000);
	return true;
}

static int check_times(const struct auth_jwt_rules *rules, const json_t *claims, int64_t unix_ms,
		       int64_t *ret_expires_ms, const char **ret_why)
{
	int64_t expires_ms = -1, not_before_ms = 0, issued_ms = 0;

	if (!read_time(claims, "exp", &expires_ms) || !read_time(claims, "nbf", &not_before_ms) ||
	    !read_time(claims, "iat", &issued_ms))
		return refuse(ret_why, "exp, nbf or iat is not a time");
	if (expires_ms < 0)
		return refuse(ret_why, "exp is missing");
	if (unix_ms >= expires_ms + rules->leeway_ms)
		return refuse(ret_why, "it has expired");
	if (unix_ms < not_before_ms - rules->leeway_ms)
		return refuse(ret_why, "nbf: it is not valid yet");
	if (unix_ms < issued_ms - rules->leeway_ms)
		return refuse(ret_why, "iat lies in the future");
	*ret_expires_ms = expires_ms + rules->leeway_ms;
	return RT_OK;
}

static bool is_text(const json_t *json, const char *text)
{
	return json_is_string(json) && strcmp(json_string_value(json), text) == 0;
}

static bool is_for(const json_t *audience, const char *own)
{
	const json_t *one;
	bool found = is_text(audience, own);
	size_t i;

	json_array_foreach(audience, i, one) found = found || is_text(one, own);
	return found;
}

static int read_caller(const json_t *claims, int64_t expires_ms, struct rt_identity *ret,
		       const char **ret_why)
{
	const char *name = json_string_value(json_object_get(claims, "sub"));
	const char *owner = json_string_value(json_object_get(claims, OWNER_CLAIM));
	const char *role_text = json_string_value(json_object_get(claims, "role"));
	enum rt_role role;

	if (name == NULL || !auth_text_fits(name, RT_IDENTITY_NAME))
		return refuse(ret_why, "sub is not 1 to 127 bytes of printable text");
	if (role_text == NULL || !rt_role_parse(role_text, strlen(role_text), &role) ||
	    role == RT_ROLE_ANONYMOUS)
		return refuse(ret_why, "role is not one that can be given");
	if (role == RT_ROLE_CUSTOMER &&
	    (owner == NULL || !auth_text_fits(owner, RT_IDENTITY_OWNER)))
		return refuse(ret_why, "a customer's " OWNER_CLAIM
				       " is not 1 to 512 bytes of printable text");
	auth_identity_set(ret, RT_AUTH_TOKEN, role, name, role == RT_ROLE_CUSTOMER ? owner : NULL,
			  expires_ms);
	return RT_OK;
}

int auth_jwt_claims(const struct auth_jwt_rules *rules, const char *json, size_t length,
		    int64_t unix_ms, struct rt_identity *ret, const char **ret_why)
{
	json_t *claims = json_loadb(json, length, JSON_REJECT_DUPLICATES, NULL);
	int64_t expires_ms = 0;
	int rc;

	if (!json_is_object(claims))
		rc = refuse(ret_why, "the claims are not a JSON object of unique names");
	else if (!is_text(json_object_get(claims, "iss"), rules->issuer))
		rc = refuse(ret_why, "iss is another issuer");
	else if (!is_for(json_object_get(claims, "aud"), rules->audience))
		rc = refuse(ret_why, "aud: it is for others");
	else
		rc = check_times(rules, claims, unix_ms, &expires_ms, ret_why);
	if (rc == RT_OK)
		rc = read_caller(claims, expires_ms, ret, ret_why);
	json_decref(claims);
	return rc;
}

/* ---- the whole ---- */

int auth_jwt_read(const struct auth_jwt_keys *keys, const struct auth_jwt_rules *rules,
		  const char *token, size_t length, int64_t unix_ms, struct rt_identity *ret,
		  const char **ret_why)
{
	struct header header = { .kid = NULL };
	struct part parts[PARTS];
	size_t count, claims_length = 0;
	char *claims = NULL;
	int rc;

	if (length > AUTH_JWT_MAX)
		return refuse(ret_why, "it is longer than 8192 bytes");
	count = split(token, length, parts);
	if (count == 5)
		return refuse(ret_why, "it is encrypted (JWE)");
	if (count != PARTS)
		return refuse(ret_why, "it has not three parts");
	rc = read_header(&parts[HEADER], &header, ret_why);
	if (rc == RT_OK)
		rc = signed_by_one(keys, &header, parts, ret_why);
	json_decref(header.json);
	if (rc != RT_OK)
		return rc;
	claims = decode(&parts[CLAIMS], &claims_length);
	if (claims == NULL)
		return refuse(ret_why, "the claims are not base64url");
	rc = auth_jwt_claims(rules, claims, claims_length, unix_ms, ret, ret_why);
	free(claims);
	return rc;
}

bool rt_auth_jwt_parts(const char *token, size_t length, char **ret_header, char **ret_claims)
{
	struct part parts[PARTS];
	char *header, *claims;
	size_t ignored;

	if (length > AUTH_JWT_MAX || split(token, length, parts) != PARTS)
		return false;
	header = decode(&parts[HEADER], &ignored);
	claims = decode(&parts[CLAIMS], &ignored);
	if (header == NULL || claims == NULL) {
		free(header);
		free(claims);
		return false;
	}
	*ret_header = header;
	*ret_claims = claims;
	return true;
}
