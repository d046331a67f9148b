/* jwt_keys.c - the keys that tokens are signed with: a JWK set (RFC 7517; Ed25519: RFC 8037).
 *
 * A key is for one algorithm, which its type decides: RSA is for RS256, EC on P-256 for ES256, OKP on Ed25519 for
 * EdDSA. What a token says of itself only has to agree (RFC 8725, 3.1). So a public key is never taken for the secret of an
 * HMAC.
 *
 * Issuers publish keys for other uses in the same set; such keys are left out and counted (RFC 7517, 5). But a
 * key that looks like one of ours and is damaged is an error, and so is anything secret: the file is for all to
 * read. */
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "auth_internal.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define KID_MAX      256
#define POINT_BYTES  32 /* of P-256: a coordinate */

static const char *const algorithm_names[AUTH_ALGORITHMS] = {
	[AUTH_RS256] = "RS256",
	[AUTH_ES256] = "ES256",
	[AUTH_EDDSA] = "EdDSA",
};

bool auth_algorithm_parse(const char *text, enum auth_algorithm *ret)
{
	for (int i = 0; i < AUTH_ALGORITHMS; i++) {
		if (strcmp(algorithm_names[i], text) == 0) {
			*ret = (enum auth_algorithm)i;
			return true;
		}
	}
	return false;
}

const char *auth_algorithm_name(enum auth_algorithm algorithm)
{
	return algorithm_names[algorithm];
}

struct reading {
	struct auth_jwt_keys *keys;
	const char *file;
	size_t index; /* of the key, from 1 */
	struct rt_buf *error;
};

static bool RT_PRINTF(2, 3) refuse(const struct reading *reading, const char *format, ...)
{
	char text[400], *shown;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	shown = rt_text_shown(text, strlen(text));
	if (reading->index > 0)
		rt_buf_printf(reading->error, "%s: key %zu: %s", reading->file, reading->index,
			      shown);
	else
		rt_buf_printf(reading->error, "%s: %s", reading->file, shown);
	free(shown);
	return false;
}

/* A member's text; NULL: it is not there, or no text. */
static const char *text_of(const json_t *key, const char *name)
{
	return json_string_value(json_object_get(key, name));
}

/* ---- from members to a key of OpenSSL ---- */

/* A member's bytes; freed by the caller. NULL: not there, not base64url, empty. */
static uint8_t *bytes_of(const json_t *key, const char *name, size_t *ret_length)
{
	const char *text = text_of(key, name);
	uint8_t *bytes;

	if (text == NULL || text[0] == '\0')
		return NULL;
	bytes = rt_alloc(RT_BASE64_DECODED(strlen(text)));
	if (rt_base64url_decode(text, strlen(text), bytes, ret_length))
		return bytes;
	free(bytes);
	return NULL;
}

/* NULL: OpenSSL does not take it. */
static EVP_PKEY *key_of_params(const char *type, OSSL_PARAM *params)
{
	EVP_PKEY_CTX *making = EVP_PKEY_CTX_new_from_name(NULL, type, NULL), *checking;
	EVP_PKEY *key = NULL;

	if (making != NULL && EVP_PKEY_fromdata_init(making) == 1 &&
	    EVP_PKEY_fromdata(making, &key, EVP_PKEY_PUBLIC_KEY, params) == 1) {
		/* The point lies on the curve; modulus and exponent can be ones of RSA. */
		checking = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
		if (checking == NULL || EVP_PKEY_public_check(checking) != 1) {
			EVP_PKEY_free(key);
			key = NULL;
		}
		EVP_PKEY_CTX_free(checking);
	}
	EVP_PKEY_CTX_free(making);
	return key;
}

static EVP_PKEY *rsa_of_numbers(const BIGNUM *n, const BIGNUM *e)
{
	OSSL_PARAM_BLD *building = OSSL_PARAM_BLD_new();
	OSSL_PARAM *params = NULL;
	EVP_PKEY *key = NULL;

	if (building != NULL && OSSL_PARAM_BLD_push_BN(building, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(building, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		params = OSSL_PARAM_BLD_to_param(building);
	if (params != NULL)
		key = key_of_params("RSA", params);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(building);
	return key;
}

static bool read_rsa(const struct reading *reading, const json_t *json, EVP_PKEY **ret)
{
	size_t n_length = 0, e_length = 0;
	uint8_t *n_bytes = bytes_of(json, "n", &n_length);
	uint8_t *e_bytes = bytes_of(json, "e", &e_length);
	BIGNUM *n = NULL, *e = NULL;
	bool good = false;

	if (n_bytes == NULL || e_bytes == NULL || n_length > RSA_BITS_MAX / 8 || e_length > 8) {
		good = refuse(reading,
			      "n and e are not the base64url of numbers of up to %d and 64 "
			      "bits",
			      RSA_BITS_MAX);
		goto end;
	}
	n = BN_bin2bn(n_bytes, (int)n_length, NULL);
	e = BN_bin2bn(e_bytes, (int)e_length, NULL);
	if (n != NULL && BN_num_bits(n) < RSA_BITS_MIN) {
		good = refuse(reading, "RSA of %d bits is too weak: at least %d", BN_num_bits(n),
			      RSA_BITS_MIN);
		goto end;
	}
	*ret = n != NULL && e != NULL ? rsa_of_numbers(n, e) : NULL;
	good = *ret != NULL || refuse(reading, "n and e are not a public key of RSA");
end:
	BN_free(n);
	BN_free(e);
	free(n_bytes);
	free(e_bytes);
	return good;
}

static bool read_ec(const struct reading *reading, const json_t *json, EVP_PKEY **ret)
{
	char group[] = "prime256v1";
	uint8_t point[1 + 2 * POINT_BYTES] = { 4 }; /* not compressed */
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
		OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
		OSSL_PARAM_construct_end(),
	};
	size_t x_length = 0, y_length = 0;
	uint8_t *x = bytes_of(json, "x", &x_length), *y = bytes_of(json, "y", &y_length);
	bool good = x != NULL && y != NULL && x_length == POINT_BYTES && y_length == POINT_BYTES;

	if (good) {
		memcpy(point + 1, x, POINT_BYTES);
		memcpy(point + 1 + POINT_BYTES, y, POINT_BYTES);
		*ret = key_of_params("EC", params);
		good = *ret != NULL;
	}
	free(x);
	free(y);
	return good || refuse(reading, "x and y are not the base64url of a point of P-256");
}

static bool read_okp(const struct reading *reading, const json_t *json, EVP_PKEY **ret)
{
	size_t length = 0;
	uint8_t *x = bytes_of(json, "x", &length);

	if (x != NULL && length == 32)
		*ret = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, length);
	free(x);
	return *ret != NULL || refuse(reading, "x is not the base64url of a public key of Ed25519");
}

/* ---- a key of the set ---- */

static const struct kind {
	const char *kty, *crv; /* crv NULL: it has none */
	bool (*read)(const struct reading *reading, const json_t *json, EVP_PKEY **ret);
} kinds[AUTH_ALGORITHMS] = {
	[AUTH_RS256] = { "RSA", NULL, read_rsa },
	[AUTH_ES256] = { "EC", "P-256", read_ec },
	[AUTH_EDDSA] = { "OKP", "Ed25519", read_okp },
};

/* What it could verify; AUTH_ALGORITHMS: nothing of ours. */
static enum auth_algorithm algorithm_of(const json_t *json)
{
	const char *kty = text_of(json, "kty"), *crv = text_of(json, "crv");
	const char *use = text_of(json, "use"), *alg = text_of(json, "alg");
	const json_t *operations = json_object_get(json, "key_ops"), *operation;
	bool verifies = operations == NULL;
	size_t i;

	json_array_foreach(operations, i, operation) verifies =
		verifies ||
		(json_is_string(operation) && strcmp(json_string_value(operation), "verify") == 0);
	if (kty == NULL || !verifies || (use != NULL && strcmp(use, "sig") != 0))
		return AUTH_ALGORITHMS;
	for (int k = 0; k < AUTH_ALGORITHMS; k++) {
		const struct kind *kind = &kinds[k];

		if (strcmp(kind->kty, kty) == 0 &&
		    (kind->crv == NULL || (crv != NULL && strcmp(kind->crv, crv) == 0)) &&
		    (alg == NULL || strcmp(algorithm_names[k], alg) == 0))
			return (enum auth_algorithm)k;
	}
	return AUTH_ALGORITHMS;
}

static bool holds_a_secret(const json_t *json)
{
	const char *kty = text_of(json, "kty");

	return json_object_get(json, "d") != NULL || json_object_get(json, "k") != NULL ||
	       (kty != NULL && strcmp(kty, "oct") == 0);
}

static bool read_kid(const struct reading *reading, const json_t *json, struct auth_jwt_key *ret)
{
	const json_t *kid = json_object_get(json, "kid");

	if (kid == NULL)
		return true;
	if (!json_is_string(kid) || !auth_text_fits(json_string_value(kid), KID_MAX + 1))
		return refuse(reading, "kid is not 1 to %d bytes of printable text", KID_MAX);
	for (size_t i = 0; i < reading->keys->count; i++) {
		const struct auth_jwt_key *other = &reading->keys->list[i];

		if (other->algorithm == ret->algorithm && other->kid != NULL &&
		    strcmp(other->kid, json_string_value(kid)) == 0)
			return refuse(reading, "the kid '%s' stands in the set twice", other->kid);
	}
	ret->kid = rt_strdup(json_string_value(kid));
	return true;
}

static bool read_one(struct reading *reading, const json_t *json)
{
	struct auth_jwt_keys *keys = reading->keys;
	struct auth_jwt_key key = { .algorithm = algorithm_of(json) };

	if (!json_is_object(json))
		return refuse(reading, "is not an object");
	if (holds_a_secret(json))
		return refuse(reading, "holds a secret; only public keys belong here");
	if (key.algorithm == AUTH_ALGORITHMS) {
		keys->ignored++;
		return true;
	}
	if (keys->count == AUTH_JWT_KEYS_MAX)
		return refuse(reading, "more than %d keys", AUTH_JWT_KEYS_MAX);
	if (!kinds[key.algorithm].read(reading, json, &key.key))
		return false;
	if (!read_kid(reading, json, &key)) {
		EVP_PKEY_free(key.key);
		return false;
	}
	keys->list[keys->count++] = key;
	return true;
}

/* ---- the set ---- */

static bool read_set(struct reading *reading, const json_t *set)
{
	const json_t *list = json_object_get(set, "keys"), *key;
	size_t i;

	if (!json_is_array(list))
		return refuse(reading, "is not a JWK set: an object with an array \"keys\"");
	json_array_foreach(list, i, key)
	{
		reading->index = i + 1;
		if (!read_one(reading, key))
			return false;
	}
	reading->index = 0;
	if (reading->keys->count == 0)
		return refuse(reading, "has no public key for RS256, ES256 or EdDSA (of %zu keys)",
			      reading->keys->ignored);
	return true;
}

int auth_jwt_keys_parse(const char *file, const char *text, size_t length,
			struct auth_jwt_keys **ret, struct rt_buf *error)
{
	struct reading reading = { .keys = rt_alloc(sizeof(struct auth_jwt_keys)),
				   .file = file,
				   .error = error };
	json_error_t fault;
	json_t *set = json_loadb(text, length, JSON_REJECT_DUPLICATES, &fault);
	bool good;

	if (set == NULL)
		good = refuse(&reading, "is not JSON: line %d, column %d: %s", fault.line,
			      fault.column, fault.text);
	else
		good = read_set(&reading, set);
	json_decref(set);
	ERR_clear_error();
	if (!good) {
		auth_jwt_keys_free(reading.keys);
		return RT_INVALID;
	}
	*ret = reading.keys;
	return RT_OK;
}

void auth_jwt_keys_free(struct auth_jwt_keys *keys)
{
	if (keys == NULL)
		return;
	for (size_t i = 0; i < keys->count; i++) {
		EVP_PKEY_free(keys->list[i].key);
		free(keys->list[i].kid);
	}
	free(keys);
}
