/* auth_internal.h - the parts of auth.c: callers file, file of keys, tokens. None of them does I/O. */
#ifndef RT_AUTH_INTERNAL_H
#define RT_AUTH_INTERNAL_H

#include <openssl/evp.h>

#include "auth.h"

/* ---- identity.c ---- */

/* Printable UTF-8 of 1 to `size` - 1 bytes. */
bool auth_text_fits(const char *text, size_t size);
/* Fills an identity but its generation; the texts fit. `owner` NULL: "". */
void auth_identity_set(struct rt_identity *ret, enum rt_auth_way way, enum rt_role role,
		       const char *name, const char *owner, int64_t expires_ms);

/* ---- callers.c ---- */

struct auth_callers {
	struct auth_caller_row {
		uint8_t digest[32]; /* of a key */
		struct rt_auth_caller caller;
	} * rows; /* keys by digest, then certificates by name */
	size_t count, key_count;
	struct rt_arena texts;
};
/* By so many bytes of their digests keys are looked up, before the whole is compared. */
#define AUTH_DIGEST_BEGIN 8
/* `file` is its name in errors, "file:line: what is wrong". RT_OK, or RT_INVALID. */
int auth_callers_parse(const char *file, const char *text, size_t length, struct auth_callers **ret,
		       struct rt_buf *error);
void auth_callers_free(struct auth_callers *callers);
/* NULL: there is none. */
const struct rt_auth_caller *auth_callers_key(const struct auth_callers *callers,
					      const uint8_t digest[32]);
const struct rt_auth_caller *auth_callers_certificate(const struct auth_callers *callers,
						      const char *name);
/* An API key's digest. False: it has not the form of one. */
bool auth_key_digest(const char *key, size_t length, uint8_t digest[32]);

/* ---- jwt_keys.c ---- */

enum auth_algorithm { AUTH_RS256, AUTH_ES256, AUTH_EDDSA, AUTH_ALGORITHMS };
/* False: it is none of these. */
bool auth_algorithm_parse(const char *text, enum auth_algorithm *ret);
const char *auth_algorithm_name(enum auth_algorithm algorithm);

#define AUTH_JWT_KEYS_MAX 16
struct auth_jwt_keys {
	struct auth_jwt_key {
		enum auth_algorithm algorithm; /* the only one it is used with */
		char *kid;                     /* NULL: it has none */
		EVP_PKEY *key;
	} list[AUTH_JWT_KEYS_MAX];
	size_t count, ignored;
};
int auth_jwt_keys_parse(const char *file, const char *text, size_t length,
			struct auth_jwt_keys **ret, struct rt_buf *error);
void auth_jwt_keys_free(struct auth_jwt_keys *keys);

/* ---- jwt.c ---- */

#define AUTH_JWT_MAX 8192
struct auth_jwt_rules {
	const char *issuer, *audience;
	int64_t leeway_ms;
};
/* RT_OK, or RT_DENIED and *ret_why. */
int auth_jwt_read(const struct auth_jwt_keys *keys, const struct auth_jwt_rules *rules,
		  const char *token, size_t length, int64_t unix_ms, struct rt_identity *ret,
		  const char **ret_why);
/* The step of auth_jwt_read after the signature. */
int auth_jwt_claims(const struct auth_jwt_rules *rules, const char *json, size_t length,
		    int64_t unix_ms, struct rt_identity *ret, const char **ret_why);

#endif
