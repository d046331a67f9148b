/* auth.c - the files of callers and keys, what was read from them last, and the questions to it.
 *
 *   rt_auth_new
 *     rt_auth_read      each file that is named: may others write it? what does it say?
 *     rt_files_watch    from now on:
 *       on_changed      the same for each file whose bytes are others; a bad one changes nothing */
#include "auth.h"

#include <stdio.h>
#include <string.h>

#include "auth_internal.h"
#include "loop/files.h"

#define FILE_MAX (4 << 20)

/* A file and what was read from it. */
struct source {
	char *path;         /* "": there is none */
	uint8_t digest[32]; /* of the bytes that were read; zeros at first */
	bool bad;           /* what it holds now is not what is used */
};

struct rt_auth {
	struct rt_loop *loop; /* NULL: a tool's */
	struct source callers_file, jwt_keys_file;
	struct auth_callers *callers;
	struct auth_jwt_keys *jwt_keys;
	char *issuer, *audience;
	struct auth_jwt_rules jwt_rules; /* points to these */
	uint64_t generation;
	struct rt_files files;
};

/* ---- reading a file ---- */

static int parse_callers(struct rt_auth *auth, const struct rt_buf *text, struct rt_buf *error)
{
	struct auth_callers *callers;
	int rc = auth_callers_parse(auth->callers_file.path, text->data, text->length, &callers,
				    error);

	if (rc != RT_OK)
		return rc;
	auth_callers_free(auth->callers);
	auth->callers = callers;
	if (auth->loop != NULL)
		RT_LOG(RT_INFO, "the callers file was read", RT_S("file", auth->callers_file.path),
		       RT_I("keys", callers->key_count),
		       RT_I("certificates", callers->count - callers->key_count));
	return RT_OK;
}

static int parse_jwt_keys(struct rt_auth *auth, const struct rt_buf *text, struct rt_buf *error)
{
	struct auth_jwt_keys *keys;
	int rc = auth_jwt_keys_parse(auth->jwt_keys_file.path, text->data, text->length, &keys,
				     error);

	if (rc != RT_OK)
		return rc;
	auth_jwt_keys_free(auth->jwt_keys);
	auth->jwt_keys = keys;
	if (auth->loop != NULL)
		RT_LOG(RT_INFO, "the keys of tokens were read",
		       RT_S("file", auth->jwt_keys_file.path), RT_I("keys", keys->count),
		       RT_I("ignored", keys->ignored));
	return RT_OK;
}

/* Reads it, unless it is what was read last. RT_OK: what is used is what it holds. */
static int read_source(struct rt_auth *auth, struct source *source,
		       int (*parse)(struct rt_auth *auth, const struct rt_buf *text,
				    struct rt_buf *error),
		       struct rt_buf *error)
{
	struct rt_buf text = { 0 };
	uint8_t digest[32];
	char why[400];
	int rc;

	if (source->path[0] == '\0')
		return RT_OK;
	rc = rt_file_read(source->path, RT_FILE_TRUSTED, FILE_MAX, &text, why, sizeof(why));
	if (rc != RT_OK) {
		rt_buf_printf(error, "%s", why);
		rc = RT_INVALID;
	} else {
		rt_sha256(text.data, text.length, digest);
		if (source->bad || memcmp(digest, source->digest, sizeof(digest)) != 0) {
			rc = parse(auth, &text, error);
			if (rc == RT_OK) {
				memcpy(source->digest, digest, sizeof(digest));
				auth->generation++;
			}
		}
	}
	source->bad = rc != RT_OK;
	rt_buf_done(&text);
	return rc;
}

/* ---- reading them again ---- */

static void read_again(struct rt_auth *auth, struct source *source,
		       int (*parse)(struct rt_auth *auth, const struct rt_buf *text,
				    struct rt_buf *error))
{
	struct rt_buf error = { 0 };

	if (read_source(auth, source, parse, &error) != RT_OK)
		RT_LOG(RT_ERROR, "a file that says who may call is bad; what was read before stays",
		       RT_S("reason", error.data));
	rt_buf_done(&error);
}

static void on_changed(struct rt_files *files)
{
	struct rt_auth *auth = RT_CONTAINER_OF(files, struct rt_auth, files);

	read_again(auth, &auth->callers_file, parse_callers);
	read_again(auth, &auth->jwt_keys_file, parse_jwt_keys);
}

/* ---- a life ---- */

static const char *or_empty(const char *text)
{
	return text != NULL ? text : "";
}

static int read_both(struct rt_loop *loop, const struct rt_auth_options *options,
		     struct rt_auth **ret, struct rt_buf *error)
{
	struct rt_auth *auth = rt_alloc(sizeof(*auth));
	int rc = RT_OK;

	auth->loop = loop;
	auth->callers_file.path = rt_strdup(or_empty(options->callers_file));
	auth->jwt_keys_file.path = rt_strdup(or_empty(options->jwt_keys_file));
	auth->issuer = rt_strdup(or_empty(options->jwt_issuer));
	auth->audience = rt_strdup(or_empty(options->jwt_audience));
	auth->jwt_rules =
		(struct auth_jwt_rules){ auth->issuer, auth->audience, options->jwt_leeway_ms };
	if (auth->jwt_keys_file.path[0] != '\0' &&
	    (auth->issuer[0] == '\0' || auth->audience[0] == '\0')) {
		rt_buf_printf(error, "--jwt-keys needs --jwt-issuer and --jwt-audience: a token of "
				     "another issuer, or for another service, would be taken, too");
		rc = RT_INVALID;
	}
	if (rc == RT_OK && loop != NULL) { /* before they are read: no change is missed */
		const char *const paths[] = { auth->callers_file.path, auth->jwt_keys_file.path };

		rt_files_watch(loop, &auth->files, paths, RT_LENGTH(paths), on_changed);
	}
	if (rc == RT_OK)
		rc = read_source(auth, &auth->callers_file, parse_callers, error);
	if (rc == RT_OK)
		rc = read_source(auth, &auth->jwt_keys_file, parse_jwt_keys, error);
	if (rc != RT_OK) {
		rt_auth_free(auth);
		return rc;
	}
	*ret = auth;
	return RT_OK;
}

int rt_auth_new(struct rt_loop *loop, const struct rt_auth_options *options, struct rt_auth **ret)
{
	struct rt_buf error = { 0 };
	int rc = read_both(loop, options, ret, &error);

	if (rc != RT_OK)
		RT_LOG(RT_ERROR, "it is not known who may call", RT_S("reason", error.data));
	rt_buf_done(&error);
	return rc;
}

int rt_auth_read(const struct rt_auth_options *options, struct rt_auth **ret, struct rt_buf *error)
{
	return read_both(NULL, options, ret, error);
}

void rt_auth_free(struct rt_auth *auth)
{
	if (auth == NULL)
		return;
	rt_files_stop(&auth->files);
	auth_callers_free(auth->callers);
	auth_jwt_keys_free(auth->jwt_keys);
	free(auth->callers_file.path);
	free(auth->jwt_keys_file.path);
	free(auth->issuer);
	free(auth->audience);
	free(auth);
}

uint64_t rt_auth_generation(const struct rt_auth *auth)
{
	return auth->generation;
}

/* ---- the questions ---- */

static int refuse(const char **ret_why, const char *why)
{
	*ret_why = why;
	return RT_DENIED;
}

static int answer(const struct rt_auth_caller *caller, int64_t unix_ms, struct rt_identity *ret,
		  const char **ret_why)
{
	if (unix_ms >= caller->expires_ms)
		return refuse(ret_why, "its line in the callers file has expired");
	auth_identity_set(ret, caller->way, caller->role, caller->name, caller->owner,
			  caller->expires_ms);
	return RT_OK;
}

static int answer_key(const struct rt_auth *auth, const char *key, size_t length, int64_t unix_ms,
		      struct rt_identity *ret, const char **ret_why)
{
	const struct rt_auth_caller *caller;
	uint8_t digest[32];

	if (!auth_key_digest(key, length, digest))
		return refuse(ret_why, "it is neither a signed token nor an API key");
	if (auth->callers == NULL)
		return refuse(ret_why, "there is no callers file, so there are no API keys");
	caller = auth_callers_key(auth->callers, digest);
	if (caller == NULL)
		return refuse(ret_why, "the API key is not in the callers file");
	if (answer(caller, unix_ms, ret, ret_why) != RT_OK)
		return RT_DENIED;
	/* Two keys may have one name; by this their lines are told apart. */
	snprintf(ret->by, sizeof(ret->by), "key %02x%02x%02x%02x", digest[0], digest[1], digest[2],
		 digest[3]);
	return RT_OK;
}

bool rt_auth_is_signed(const char *token, size_t length)
{
	return memchr(token, '.', length) != NULL;
}

int rt_auth_bearer(struct rt_auth *auth, const char *token, size_t length, int64_t unix_ms,
		   struct rt_identity *ret, const char **ret_why)
{
	int rc;

	if (length == 0)
		rc = refuse(ret_why, "it is empty");
	else if (!rt_auth_is_signed(token, length))
		rc = answer_key(auth, token, length, unix_ms, ret, ret_why);
	else if (auth->jwt_keys == NULL)
		rc = refuse(ret_why, "there is no file of keys, so no signed token is taken");
	else
		rc = auth_jwt_read(auth->jwt_keys, &auth->jwt_rules, token, length, unix_ms, ret,
				   ret_why);
	if (rc == RT_OK)
		ret->generation = auth->generation;
	return rc;
}

int rt_auth_certificate(struct rt_auth *auth, const char *const *names, size_t count,
			int64_t unix_ms, struct rt_identity *ret, const char **ret_why)
{
	const struct rt_auth_caller *found = NULL;
	int rc;

	for (size_t i = 0; i < count && auth->callers != NULL; i++) {
		const struct rt_auth_caller *caller =
			auth_callers_certificate(auth->callers, names[i]);

		if (caller == NULL)
			continue;
		if (found != NULL &&
		    (caller->role != found->role || strcmp(caller->owner, found->owner) != 0))
			return refuse(ret_why, "its names stand for different callers");
		if (found == NULL)
			found = caller;
	}
	if (found == NULL)
		return refuse(ret_why,
			      auth->callers == NULL
				      ? "there is no callers file, so no certificate is known"
				      : "none of its names is in the callers file");
	rc = answer(found, unix_ms, ret, ret_why);
	if (rc == RT_OK)
		ret->generation = auth->generation;
	return rc;
}

/* ---- for tools ---- */

bool rt_auth_caller(const struct rt_auth *auth, size_t i, struct rt_auth_caller *ret)
{
	if (auth->callers == NULL || i >= auth->callers->count)
		return false;
	*ret = auth->callers->rows[i].caller;
	return true;
}

bool rt_auth_jwt_key(const struct rt_auth *auth, size_t i, const char **ret_algorithm,
		     const char **ret_kid)
{
	if (auth->jwt_keys == NULL || i >= auth->jwt_keys->count)
		return false;
	*ret_algorithm = auth_algorithm_name(auth->jwt_keys->list[i].algorithm);
	*ret_kid = auth->jwt_keys->list[i].kid;
	return true;
}

size_t rt_auth_jwt_keys_ignored(const struct rt_auth *auth)
{
	return auth->jwt_keys == NULL ? 0 : auth->jwt_keys->ignored;
}
