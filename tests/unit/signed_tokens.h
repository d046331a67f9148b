/* signed_tokens.h - makes keys and tokens (JWK, JWT), good ones and bad ones. What is returned is freed by the caller. */
#ifndef TESTS_SIGNED_TOKENS_H
#define TESTS_SIGNED_TOKENS_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

char *base64url(const void *bytes, size_t length);
/* {"kty":…, without the last brace. */
char *jwk(const EVP_PKEY *key);
/* The signature as JWS has it. `raw` false: of ES256, as OpenSSL has it. */
char *sign(EVP_PKEY *key, const char *content, bool raw);
/* Header and claims as base64url, and the dot between them. */
char *content_of(const char *header, const char *claims);
char *token_of(EVP_PKEY *key, const char *header, const char *claims);

#endif
