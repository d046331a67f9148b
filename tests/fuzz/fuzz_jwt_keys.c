/* fuzz_jwt_keys.c - the file of keys. What is read are public keys of the three kinds, none of them weak; what is refused is
 * so in printable text, and leaves no error to OpenSSL's next user.
 *
 * Nearly all of the time would go into OpenSSL's check of RSA numbers, which is not ours: it looks for factors of a
 * number of 2048 bits. So only each 61st modulus is really checked, and of the others its bytes say what the
 * answer is. Points of curves are always checked. */
#include <openssl/core_names.h>
#include <openssl/err.h>

#include "auth/auth_internal.h"
#include "fuzz.h"

static void check_key(const struct auth_jwt_key *key)
{
	static const char *const types[AUTH_ALGORITHMS] = { "RSA", "EC", "ED25519" };

	FUZZ_MUST(key->algorithm < AUTH_ALGORITHMS);
	FUZZ_MUST(EVP_PKEY_is_a(key->key, types[key->algorithm]));
	FUZZ_MUST(key->algorithm != AUTH_RS256 ||
		  (EVP_PKEY_get_bits(key->key) >= 2048 && EVP_PKEY_get_bits(key->key) <= 8192));
	FUZZ_MUST(key->kid == NULL || rt_text_printable(key->kid, NULL));
}

int __real_EVP_PKEY_public_check(EVP_PKEY_CTX *context);
int __wrap_EVP_PKEY_public_check(EVP_PKEY_CTX *context);

int __wrap_EVP_PKEY_public_check(EVP_PKEY_CTX *context)
{
	EVP_PKEY *key = EVP_PKEY_CTX_get0_pkey(context);
	BIGNUM *modulus = NULL;
	BN_ULONG rest = 0;

	if (EVP_PKEY_is_a(key, "RSA") &&
	    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1)
		rest = BN_mod_word(modulus, 61);
	BN_free(modulus);
	return rest == 0 ? __real_EVP_PKEY_public_check(context) : rest % 8 != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rt_buf error = { 0 };
	struct auth_jwt_keys *keys;
	char *text = rt_alloc(size + 1);

	json_object_seed(1); /* a run is the same each time */
	if (size > 0)
		memcpy(text, data, size);
	if (auth_jwt_keys_parse("file", text, size, &keys, &error) == RT_OK) {
		FUZZ_MUST(error.length == 0);
		FUZZ_MUST(keys->count >= 1 && keys->count <= AUTH_JWT_KEYS_MAX);
		for (size_t i = 0; i < keys->count; i++)
			check_key(&keys->list[i]);
		auth_jwt_keys_free(keys);
	} else {
		FUZZ_MUST(error.length > 0 && strncmp(error.data, "file: ", 6) == 0);
		FUZZ_MUST(rt_text_printable(error.data, NULL));
	}
	FUZZ_MUST(ERR_peek_error() == 0);
	rt_buf_done(&error);
	free(text);
	return 0;
}
