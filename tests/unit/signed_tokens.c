/* signed_tokens.c - see signed_tokens.h. */
#include "signed_tokens.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <string.h>

#include "base/base.h"
#include "run.h"

/* By OpenSSL's base64. */
char *base64url(const void *bytes, size_t length)
{
	char *text = rt_alloc(length * 4 / 3 + 8);

	EVP_EncodeBlock((unsigned char *)text, bytes, (int)length);
	text[strcspn(text, "=")] = '\0';
	for (char *c = text; *c != '\0'; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	return text;
}

static char *base64url_bn(const EVP_PKEY *key, const char *name, int pad)
{
	BIGNUM *number = NULL;
	uint8_t bytes[1024];
	int length;

	CU_ASSERT_EQUAL_FATAL(EVP_PKEY_get_bn_param(key, name, &number), 1);
	length = pad > 0 ? BN_bn2binpad(number, bytes, pad) : BN_bn2bin(number, bytes);
	BN_free(number);
	return base64url(bytes, (size_t)length);
}

char *jwk(const EVP_PKEY *key)
{
	char *a, *b = NULL, *made;
	uint8_t raw[32];
	size_t length = sizeof(raw);

	if (EVP_PKEY_is_a(key, "RSA")) {
		a = base64url_bn(key, "n", 0);
		b = base64url_bn(key, "e", 0);
		made = rt_printf("{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"", a, b);
	} else if (EVP_PKEY_is_a(key, "EC")) {
		a = base64url_bn(key, "qx", 32);
		b = base64url_bn(key, "qy", 32);
		made = rt_printf("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"", a,
				 b);
	} else {
		CU_ASSERT_EQUAL_FATAL(EVP_PKEY_get_raw_public_key(key, raw, &length), 1);
		a = base64url(raw, length);
		made = rt_printf("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"", a);
	}
	free(a);
	free(b);
	return made;
}

char *sign(EVP_PKEY *key, const char *content, bool raw)
{
	const EVP_MD *digest = EVP_PKEY_is_a(key, "ED25519") ? NULL : EVP_sha256();
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t bytes[1024];
	size_t length = sizeof(bytes);

	CU_ASSERT_EQUAL_FATAL(EVP_DigestSignInit(context, NULL, digest, NULL, key), 1);
	CU_ASSERT_EQUAL_FATAL(
		EVP_DigestSign(context, bytes, &length, (const uint8_t *)content, strlen(content)),
		1);
	EVP_MD_CTX_free(context);
	if (EVP_PKEY_is_a(key, "EC") && raw) {
		const uint8_t *at = bytes;
		ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)length);
		uint8_t both[64];

		BN_bn2binpad(ECDSA_SIG_get0_r(pair), both, 32);
		BN_bn2binpad(ECDSA_SIG_get0_s(pair), both + 32, 32);
		ECDSA_SIG_free(pair);
		return base64url(both, sizeof(both));
	}
	return base64url(bytes, length);
}

char *content_of(const char *header, const char *claims)
{
	char *a = base64url(header, strlen(header)), *b = base64url(claims, strlen(claims));
	char *content = rt_printf("%s.%s", a, b);

	free(a);
	free(b);
	return content;
}

char *token_of(EVP_PKEY *key, const char *header, const char *claims)
{
	char *content = content_of(header, claims), *signature = sign(key, content, true);
	char *token = rt_printf("%s.%s", content, signature);

	free(content);
	free(signature);
	return token;
}
