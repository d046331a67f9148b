/* auth.h - who is calling: told by a bearer token (a signed token or an API key) or by the names of a client
 * certificate that TLS has verified. What a caller may do is decided elsewhere, by its role.
 *
 *   a signed token   JWT (RFC 7519) with RS256, ES256 or EdDSA, and a key of the file of keys (JWKS, RFC 7517)
 *   an API key       "tandem_" and 52 characters; its SHA-256 is in the callers file
 *   a certificate    one of its names is in the callers file
 *
 * Both files hold nothing secret, but whoever writes them decides who is who: a file that others than its owner may
 * write, or whose owner is neither root nor the user of this process, is refused. They are read again when they change. One
 * that has become bad is logged, and what was read before stays.
 *
 * Reading and verifying are functions of bytes, keys and time, and wait for nothing; only rt_auth_new, rt_auth_read
 * and the loop's timer touch files. Threads: one at a time, with a loop: the loop's thread.
 *
 * docs/security.md says how to use it, docs/decisions/040 why it is so. */
#ifndef RT_AUTH_H
#define RT_AUTH_H

#include "loop/loop.h"

#define RT_ROLE_MAP(X)                                                                             \
	X(RT_ROLE_ANONYMOUS, "anonymous") /* nobody has said who it is; given to no caller */      \
	X(RT_ROLE_CUSTOMER, "customer")   /* has an owner */                                       \
	X(RT_ROLE_SUPPORT, "support")                                                              \
	X(RT_ROLE_STOCK, "stock")                                                                  \
	X(RT_ROLE_GATEWAY, "gateway")                                                              \
	X(RT_ROLE_OPERATOR, "operator")
#define RT_ROLE_ENUM(name, text) name,
enum rt_role { RT_ROLE_MAP(RT_ROLE_ENUM) RT_ROLES };
#undef RT_ROLE_ENUM
/* "customer". Never NULL. */
const char *rt_role_name(enum rt_role role);
bool rt_role_parse(const char *text, size_t length, enum rt_role *ret);

enum rt_auth_way { RT_AUTH_NONE, RT_AUTH_KEY, RT_AUTH_TOKEN, RT_AUTH_CERTIFICATE };
/* "nothing", "key", "token", "certificate": how a caller has said who it is. */
const char *rt_auth_way_name(enum rt_auth_way way);

#define RT_IDENTITY_NAME  128
#define RT_IDENTITY_OWNER 513
#define RT_IDENTITY_BY    24
/* Zeroed, it is an anonymous caller. */
struct rt_identity {
	enum rt_role role;
	enum rt_auth_way way;
	char name
		[RT_IDENTITY_NAME]; /* for logs and for what is counted per caller; printable UTF-8 */
	char owner
		[RT_IDENTITY_OWNER]; /* of a customer: the only owner whose things it may reach; else "" */
	char by[RT_IDENTITY_BY]; /* for people: "token", "certificate", "key 9f86d081" (its digest begins so); or "" */
	int64_t expires_ms;  /* Unix time at which the answer ends; INT64_MAX: it does not */
	uint64_t generation; /* rt_auth_generation when it was answered */
};

/* How a caller is recorded, and shown to people: "customer shop-7 (key 9f86d081)"; "" for one without a name. */
#define RT_ACTOR_TEXT (RT_IDENTITY_NAME + RT_IDENTITY_BY + 32)
void rt_identity_actor(const struct rt_identity *identity, char text[RT_ACTOR_TEXT]);
/* Is this a text that may have been made so, or ""? */
bool rt_actor_good(const char *text);

struct rt_auth; /* opaque */
struct rt_auth_options {
	const char *callers_file;  /* NULL or "": no API keys and no certificates */
	const char *jwt_keys_file; /* NULL or "": no signed tokens */
	/* What a token must say; both are required with a file of keys. */
	const char *jwt_issuer, *jwt_audience;
	int64_t jwt_leeway_ms; /* by so much the clocks of issuer and service may differ */
};
/* Reads the files and watches them; strings are copied. RT_INVALID: a file or an option is bad; the log says what, with
 * file and line. */
int rt_auth_new(struct rt_loop *loop, const struct rt_auth_options *options, struct rt_auth **ret);
/* For tools: the same without a loop, so the files are read once; and `error` gets the reason instead of
 * the log, one line without an end. */
int rt_auth_read(const struct rt_auth_options *options, struct rt_auth **ret, struct rt_buf *error);
void rt_auth_free(struct rt_auth *auth); /* takes NULL */
/* Grows when a file was read again. An identity of an earlier generation may not be so any more: ask again. */
uint64_t rt_auth_generation(const struct rt_auth *auth);

/* It is a signed token, or looks like one: verifying it costs something. */
bool rt_auth_is_signed(const char *token, size_t length);
/* Whose token this is (what follows "Bearer "). RT_OK, or RT_DENIED and *ret_why: for the log and for tools, not for
 * callers, who would learn what to try next. It is one of few constant texts. */
int rt_auth_bearer(struct rt_auth *auth, const char *token, size_t length, int64_t unix_ms,
		   struct rt_identity *ret, const char **ret_why);
/* Whose certificate this is. `names` are those of a verified certificate, each with its kind: "CN:" and the common name
 * of the subject, "DNS:", "URI:" and "email:" and what the subject's alternative names say. Names that stand for
 * different callers are refused. */
int rt_auth_certificate(struct rt_auth *auth, const char *const *names, size_t count,
			int64_t unix_ms, struct rt_identity *ret, const char **ret_why);

/* ---- for tools ---- */

/* The callers of the file, keys first, counted from 0. False: there are no more. `line` is where it stands. */
struct rt_auth_caller {
	enum rt_auth_way way;
	enum rt_role role;
	const char *name, *owner; /* live as long as `auth` */
	int64_t expires_ms;
	unsigned int line;
};
bool rt_auth_caller(const struct rt_auth *auth, size_t i, struct rt_auth_caller *ret);
/* The keys of tokens, counted from 0: algorithm, and kid or NULL. False: there are no more. */
bool rt_auth_jwt_key(const struct rt_auth *auth, size_t i, const char **ret_algorithm,
		     const char **ret_kid);
/* How many keys of the file are of no use here: of another algorithm, or for encryption. */
size_t rt_auth_jwt_keys_ignored(const struct rt_auth *auth);

/* "tandem_" and 52 characters of base32, 256 random bits. */
#define RT_AUTH_KEY_TEXT 60
/* Makes an API key, and the line (without its end) that makes it known in a callers file. `owner` and `expires` may be
 * NULL. RT_INVALID: `error` says what cannot be in such a line. */
int rt_auth_key_new(const char *name, enum rt_role role, const char *owner, const char *expires,
		    char key[RT_AUTH_KEY_TEXT], struct rt_buf *line, struct rt_buf *error);
/* What a signed token says, not verified: header and claims as the JSON text they are, freed by the caller. False: it has
 * not the form of a token. */
bool rt_auth_jwt_parts(const char *token, size_t length, char **ret_header, char **ret_claims);

#endif
