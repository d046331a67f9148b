/* Who is calling: signed tokens, API keys, certificates; the callers file and the file of keys; what happens when they change.
 * Tokens are made here, with keys made here; and some are from the RFCs. */
#include "auth/auth_internal.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"
#include "signed_tokens.h"

#define NOW INT64_C(1796000000000) /* 2026-11-30 */
#define ISS "https://issuer.example"
#define AUD "tandem"

static char folder[] = "/tmp/tandem-auth-XXXXXX";
static char callers_path[64], keys_path[64], spare_path[64];
static struct rt_loop *loop;
static struct rt_auth *auth;
static char logged[8192];

static EVP_PKEY *rsa, *rsa_other, *ec, *ed;
static char *rsa_jwk, *rsa_other_jwk, *ec_jwk,
	*ed_jwk; /* without kid, and without the last brace */

static void keep_line(const char *line, void *user)
{
	(void)user;
	strncat(logged, line, sizeof(logged) - strlen(logged) - 1);
}

/* ---- asking ---- */

static const struct auth_jwt_rules rules = { ISS, AUD, 30000 };

static struct auth_jwt_keys *keys_of(const char *set)
{
	struct auth_jwt_keys *keys = NULL;
	struct rt_buf error = { 0 };

	if (auth_jwt_keys_parse("set", set, strlen(set), &keys, &error) != RT_OK)
		printf("\n    %s", error.data);
	CU_ASSERT_PTR_NOT_NULL_FATAL(keys);
	rt_buf_done(&error);
	return keys;
}

/* The set that most tests use. */
static struct auth_jwt_keys *all_keys(void)
{
	char *set = rt_printf("{\"keys\":[%s,\"kid\":\"r1\"},%s,\"kid\":\"r2\"},%s,\"kid\":\"e1\"},"
			      "%s}]}",
			      rsa_jwk, rsa_other_jwk, ec_jwk, ed_jwk);
	struct auth_jwt_keys *keys = keys_of(set);

	CU_ASSERT_EQUAL(keys->count, 4);
	CU_ASSERT_EQUAL(keys->ignored, 0);
	free(set);
	return keys;
}

/* "" when the token is taken, else why it is not. What is asked leaves nothing in OpenSSL's queue of errors, and nothing in
 * the identity when it is refused. */
static const char *verdict(const struct auth_jwt_keys *keys, const char *token,
			   struct rt_identity *ret)
{
	uint8_t before[sizeof(*ret)];
	const char *why = NULL;
	int rc;

	memset(before, 0x55, sizeof(before));
	memcpy(ret, before, sizeof(before));
	rc = auth_jwt_read(keys, &rules, token, strlen(token), NOW, ret, &why);
	CU_ASSERT_EQUAL(ERR_peek_error(), 0);
	if (rc == RT_OK) {
		CU_ASSERT_PTR_NULL(why);
		return "";
	}
	CU_ASSERT_EQUAL(rc, RT_DENIED);
	CU_ASSERT_EQUAL(memcmp((const uint8_t *)ret, before, sizeof(before)), 0);
	return why;
}

static bool verdict_is(const struct auth_jwt_keys *keys, const char *token, const char *expected)
{
	struct rt_identity identity;
	const char *why = verdict(keys, token, &identity);

	if (strcmp(why, expected) != 0)
		printf("\n    '%s' instead of '%s'", why, expected);
	return strcmp(why, expected) == 0;
}

#define GOOD                                                                                       \
	"\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"exp\":1796000600,\"sub\":\"shop\","             \
	"\"role\":\"support\""
#define GOOD_CLAIMS "{" GOOD "}"
#define NO_FIT      "the signature does not fit"

/* ---- tokens ---- */

static void published(void)
{
	/* RFC 7515, A.2 and A.3; RFC 8037, A.1 and A.4. What they say is nothing for us, but that is looked at
	 * after the signature. */
	static const char set[] =
		"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbj"
		"i9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRP"
		"EwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS"
		"-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWN"
		"moudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"},"
		"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHv"
		"RVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"
		"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwI"
		"aaPcHURo\"}]}";
	static const char joe[] = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leG"
				  "FtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
	static const struct {
		const char *header, *claims, *signature, *why;
	} rows[] = {
		{ "eyJhbGciOiJSUzI1NiJ9", joe,
		  "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_"
		  "lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO7"
		  "5vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOk"
		  "HWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
		  "wlVmtVrBp0igcN_IoypGlUPQGe77Rw",
		  "iss is another issuer" },
		{ "eyJhbGciOiJFUzI1NiJ9", joe,
		  "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3"
		  "-Kg6NU1Q",
		  "iss is another issuer" },
		{ "eyJhbGciOiJFZERTQSJ9", "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
		  "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr"
		  "_MuM0KAg",
		  "the claims are not a JSON object of unique names" },
	};
	struct auth_jwt_keys *keys = keys_of(set);

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *token =
			rt_printf("%s.%s.%s", rows[i].header, rows[i].claims, rows[i].signature);
		char *other = rt_printf("%s.x%s.%s", rows[i].header, rows[i].claims + 1,
					rows[i].signature);

		TEST_ROW(verdict_is(keys, token, rows[i].why), rows[i].header);
		TEST_ROW(verdict_is(keys, other, NO_FIT), rows[i].header);
		free(token);
		free(other);
	}
	auth_jwt_keys_free(keys);
}

static void headers(void)
{
	static const char none[] = "alg is none of RS256, ES256 and EdDSA";
	static const char no_object[] = "the header is not a JSON object of unique names";
	static const char no_typ[] = "typ is neither JWT nor at+jwt";
	static const char no_kid[] = "no key of this algorithm has the token's kid";
	const struct {
		EVP_PKEY *key; /* that signs it */
		const char *header, *why;
	} rows[] = {
		{ rsa, "{\"alg\":\"RS256\"}", "" },
		{ rsa, "{\"alg\":\"RS256\",\"kid\":\"r1\",\"typ\":\"JWT\"}", "" },
		{ rsa_other, "{\"alg\":\"RS256\"}", "" }, /* each key is tried */
		{ rsa_other, "{\"alg\":\"RS256\",\"kid\":\"r2\",\"typ\":\"at+jwt\"}", "" },
		{ ec, "{\"alg\":\"ES256\",\"typ\":\"jwt\"}", "" },
		{ ec, "{\"alg\":\"ES256\",\"kid\":\"e1\",\"typ\":\"application/at+JWT\"}", "" },
		{ ed, "{\"alg\":\"EdDSA\"}", "" },
		/* Extensions that may be ignored are. */
		{ ed, "{\"alg\":\"EdDSA\",\"x5t\":\"abc\",\"other\":{\"a\":[1]}}", "" },
		/* Another algorithm than the key's. */
		{ rsa, "{\"alg\":\"none\"}", none },
		{ rsa, "{\"alg\":\"None\"}", none },
		{ rsa, "{\"alg\":\"HS256\"}", none },
		{ rsa, "{\"alg\":\"RS512\"}", none },
		{ rsa, "{\"alg\":\"PS256\"}", none },
		{ rsa, "{\"alg\":\"rs256\"}", none },
		{ rsa, "{\"alg\":[\"RS256\"]}", none },
		{ rsa, "{\"alg\":null}", none },
		{ rsa, "{\"typ\":\"JWT\"}", none },
		{ rsa, "{}", none },
		{ rsa, "{\"alg\":\"ES256\"}", NO_FIT },
		{ ec, "{\"alg\":\"RS256\"}", NO_FIT },
		{ ec, "{\"alg\":\"EdDSA\"}", NO_FIT },
		{ ed, "{\"alg\":\"ES256\"}", NO_FIT },
		/* Another key than the one that is named. */
		{ rsa, "{\"alg\":\"RS256\",\"kid\":\"r2\"}", NO_FIT },
		{ rsa, "{\"alg\":\"RS256\",\"kid\":\"r3\"}", no_kid },
		{ rsa, "{\"alg\":\"RS256\",\"kid\":\"e1\"}", no_kid },
		{ rsa, "{\"alg\":\"RS256\",\"kid\":\"\"}", no_kid },
		{ ed, "{\"alg\":\"EdDSA\",\"kid\":\"d1\"}", no_kid }, /* that key has none */
		{ rsa, "{\"alg\":\"RS256\",\"kid\":1}", "kid is not a text" },
		{ rsa, "{\"alg\":\"RS256\",\"kid\":null}", "kid is not a text" },
		/* What must be understood, and is not. */
		{ rsa, "{\"alg\":\"RS256\",\"crit\":[\"exp\"],\"exp\":1}",
		  "crit names extensions, and there are none" },
		{ rsa, "{\"alg\":\"RS256\",\"crit\":[]}",
		  "crit names extensions, and there are none" },
		{ rsa, "{\"alg\":\"RS256\",\"typ\":\"secevent+jwt\"}", no_typ },
		{ rsa, "{\"alg\":\"RS256\",\"typ\":\"\"}", no_typ },
		{ rsa, "{\"alg\":\"RS256\",\"typ\":7}", no_typ },
		/* No header. */
		{ rsa, "{\"alg\":\"RS256\",\"alg\":\"none\"}", no_object },
		{ rsa, "[\"RS256\"]", no_object },
		{ rsa, "\"RS256\"", no_object },
		{ rsa, "{\"alg\":\"RS256\"} ", "" },
		{ rsa, "{\"alg\":\"RS256\"}x", no_object },
		{ rsa, "{\"alg\":\"RS256\\u0000\"}", no_object },
		{ rsa, "", no_object },
	};
	struct auth_jwt_keys *keys = all_keys();

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *token = token_of(rows[i].key, rows[i].header, GOOD_CLAIMS);

		TEST_ROW(verdict_is(keys, token, rows[i].why), rows[i].header);
		free(token);
	}
	auth_jwt_keys_free(keys);
}

static void claims(void)
{
	static const char no_object[] = "the claims are not a JSON object of unique names";
	static const char no_time[] = "exp, nbf or iat is not a time";
	static const char no_issuer[] = "iss is another issuer";
	static const char others[] = "aud: it is for others";
	static const char no_role[] = "role is not one that can be given";
	static const char no_name[] = "sub is not 1 to 127 bytes of printable text";
	static const char no_owner[] = "a customer's customer_id is not 1 to 512 bytes of "
				       "printable text";
#define FROM  "\"iss\":\"" ISS "\","
#define FOR   "\"aud\":\"" AUD "\","
#define UNTIL "\"exp\":1796000600,"
#define WHO   "\"sub\":\"shop\",\"role\":\"support\""
	static const struct {
		const char *claims, *why;
	} rows[] = {
		{ "{" FROM FOR UNTIL WHO "}", "" },
		{ "{" FROM FOR UNTIL WHO ",\"customer_id\":\"c\",\"scope\":\"a b\",\"n\":[{}]}",
		  "" },
		{ "{" FROM "\"aud\":[\"others\",\"" AUD "\"]," UNTIL WHO "}", "" },
		{ "{" FROM "\"aud\":[1,\"" AUD "\"]," UNTIL WHO "}", "" },
		{ "{" FROM FOR UNTIL
		  "\"sub\":\"shop\",\"role\":\"customer\",\"customer_id\":\"c 7\""
		  "}",
		  "" },
		/* Issuer and audience. */
		{ "{" FOR UNTIL WHO "}", no_issuer },
		{ "{\"iss\":\"" ISS "/\"," FOR UNTIL WHO "}", no_issuer },
		{ "{\"iss\":[\"" ISS "\"]," FOR UNTIL WHO "}", no_issuer },
		{ "{" FROM UNTIL WHO "}", others },
		{ "{" FROM "\"aud\":\"others\"," UNTIL WHO "}", others },
		{ "{" FROM "\"aud\":[\"others\"]," UNTIL WHO "}", others },
		{ "{" FROM "\"aud\":[]," UNTIL WHO "}", others },
		{ "{" FROM "\"aud\":{\"" AUD "\":\"" AUD "\"}," UNTIL WHO "}", others },
		{ "{" FROM "\"aud\":\"Tandem\"," UNTIL WHO "}", others },
		{ "{" FROM "\"aud\":\"" AUD " others\"," UNTIL WHO "}", others },
		/* Times: now is 1796000000, and 30 s are forgiven. */
		{ "{" FROM FOR WHO "}", "exp is missing" },
		{ "{" FROM FOR "\"exp\":1795999971," WHO "}", "" },
		{ "{" FROM FOR "\"exp\":1795999970," WHO "}", "it has expired" },
		{ "{" FROM FOR "\"exp\":1795999970.5," WHO "}", "" },
		{ "{" FROM FOR "\"exp\":0," WHO "}", "it has expired" },
		{ "{" FROM FOR "\"exp\":-1," WHO "}", no_time },
		{ "{" FROM FOR "\"exp\":\"1796000600\"," WHO "}", no_time },
		{ "{" FROM FOR "\"exp\":null," WHO "}", no_time },
		{ "{" FROM FOR "\"exp\":253402300799," WHO "}", "" },
		{ "{" FROM FOR "\"exp\":253402300800," WHO "}", no_time },
		{ "{" FROM FOR "\"exp\":1e300," WHO "}", no_time },
		{ "{" FROM FOR "\"exp\":9223372036854775807," WHO "}", no_time },
		{ "{" FROM FOR "\"exp\":9223372036854775808," WHO "}", no_object },
		{ "{" FROM FOR UNTIL "\"nbf\":1796000030," WHO "}", "" },
		{ "{" FROM FOR UNTIL "\"nbf\":1796000031," WHO "}", "nbf: it is not valid yet" },
		{ "{" FROM FOR UNTIL "\"nbf\":true," WHO "}", no_time },
		{ "{" FROM FOR UNTIL "\"iat\":1796000030," WHO "}", "" },
		{ "{" FROM FOR UNTIL "\"iat\":1796000031," WHO "}", "iat lies in the future" },
		{ "{" FROM FOR UNTIL "\"iat\":1500000000," WHO "}", "" },
		{ "{" FROM FOR UNTIL "\"iat\":{}," WHO "}", no_time },
		/* Who it is. */
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\"}", no_role },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":\"anonymous\"}", no_role },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":\"Support\"}", no_role },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":\"\"}", no_role },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":[\"support\"]}", no_role },
		{ "{" FROM FOR UNTIL "\"role\":\"support\"}", no_name },
		{ "{" FROM FOR UNTIL "\"sub\":\"\",\"role\":\"support\"}", no_name },
		{ "{" FROM FOR UNTIL "\"sub\":7,\"role\":\"support\"}", no_name },
		{ "{" FROM FOR UNTIL "\"sub\":\"a\\nb\",\"role\":\"support\"}", no_name },
		{ "{" FROM FOR UNTIL "\"sub\":\"a\\u202eb\",\"role\":\"support\"}", no_name },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":\"customer\"}", no_owner },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":\"customer\",\"customer_id\":\"\"}",
		  no_owner },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\",\"role\":\"customer\",\"customer_id\":7}",
		  no_owner },
		{ "{" FROM FOR UNTIL "\"sub\":\"s\",\"role\":\"customer\",\"customer_id\":\"\\t\"}",
		  no_owner },
		/* Not an object, or one that two readers could understand differently. */
		{ "{" FROM FOR UNTIL WHO ",\"role\":\"operator\"}", no_object },
		{ "{" FROM FOR UNTIL WHO ",\"a\":{\"b\":1,\"b\":1}}", no_object },
		{ "{" FROM FOR UNTIL WHO ",\"r\\u006fle\":\"operator\"}", no_object },
		{ "{" FROM FOR UNTIL "\"sub\":\"shop\\u0000\",\"role\":\"support\"}", no_object },
		{ "{" FROM FOR UNTIL WHO "}{}", no_object },
		{ "[" FROM "]", no_object },
		{ "7", no_object },
		{ "", no_object },
	};
	struct auth_jwt_keys *keys = all_keys();

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		char *token = token_of(ed, "{\"alg\":\"EdDSA\"}", rows[i].claims);

		TEST_ROW(verdict_is(keys, token, rows[i].why), rows[i].claims);
		free(token);
	}
	auth_jwt_keys_free(keys);
}

/* Texts as long as they may be, and one byte longer. */
static void long_texts(void)
{
	struct auth_jwt_keys *keys = all_keys();
	struct rt_identity identity;

	for (int more = 0; more < 2; more++) {
		char *body = rt_printf("{" FROM FOR UNTIL "\"sub\":\"%0*d\",\"role\":\"stock\"}",
				       127 + more, 0);
		char *token = token_of(ed, "{\"alg\":\"EdDSA\"}", body);

		CU_ASSERT_EQUAL(verdict(keys, token, &identity)[0] == '\0', more == 0);
		CU_ASSERT(more == 1 || strlen(identity.name) == 127);
		free(body);
		free(token);
		body = rt_printf("{" FROM FOR UNTIL "\"sub\":\"s\",\"role\":\"customer\","
				 "\"customer_id\":\"%0*d\"}",
				 512 + more, 0);
		token = token_of(ed, "{\"alg\":\"EdDSA\"}", body);
		CU_ASSERT_EQUAL(verdict(keys, token, &identity)[0] == '\0', more == 0);
		CU_ASSERT(more == 1 || strlen(identity.owner) == 512);
		free(body);
		free(token);
	}
	/* The longest token, and one that is longer. */
	for (int size = 5900; size < 6100; size += 100) {
		char *body = rt_printf("{" GOOD ",\"more\":\"%0*d\"}", size, 0);
		char *token = token_of(ed, "{\"alg\":\"EdDSA\"}", body);

		CU_ASSERT(verdict_is(keys, token,
				     strlen(token) > 8192 ? "it is longer than 8192 bytes" : ""));
		CU_ASSERT_EQUAL(strlen(token) > 8192, size == 6000);
		free(body);
		free(token);
	}
	auth_jwt_keys_free(keys);
}

static void what_a_token_means(void)
{
	struct auth_jwt_keys *keys = all_keys();
	struct rt_identity identity;
	char *token;

	token = token_of(ed, "{\"alg\":\"EdDSA\"}",
			 "{" FROM FOR UNTIL "\"sub\":\"shop-7\",\"role\":\"customer\","
			 "\"customer_id\":\"Zürich 7\"}");
	CU_ASSERT_STRING_EQUAL(verdict(keys, token, &identity), "");
	CU_ASSERT_EQUAL(identity.role, RT_ROLE_CUSTOMER);
	CU_ASSERT_STRING_EQUAL(rt_auth_way_name(identity.way), "token");
	CU_ASSERT_STRING_EQUAL(identity.name, "shop-7");
	CU_ASSERT_STRING_EQUAL(identity.owner, "Zürich 7");
	CU_ASSERT_EQUAL(identity.expires_ms, INT64_C(1796000630000));
	free(token);
	/* Who is no customer owns nothing, whatever the token says. */
	token = token_of(ed, "{\"alg\":\"EdDSA\"}",
			 "{" FROM FOR UNTIL WHO ",\"customer_id\":\"cust_7\"}");
	CU_ASSERT_STRING_EQUAL(verdict(keys, token, &identity), "");
	CU_ASSERT_EQUAL(identity.role, RT_ROLE_SUPPORT);
	CU_ASSERT_STRING_EQUAL(identity.owner, "");
	free(token);
	auth_jwt_keys_free(keys);
}

/* Any one bit of a token that is another makes it another token. */
static void every_bit_counts(void)
{
	EVP_PKEY *const signers[] = { rsa, ec, ed };
	static const char *const names[] = { "{\"alg\":\"RS256\"}", "{\"alg\":\"ES256\"}",
					     "{\"alg\":\"EdDSA\"}" };
	struct auth_jwt_keys *keys = all_keys();
	struct rt_identity identity;

	for (size_t i = 0; i < RT_LENGTH(signers); i++) {
		char *token = token_of(signers[i], names[i], GOOD_CLAIMS);

		CU_ASSERT(verdict_is(keys, token, ""));
		for (size_t at = 0; token[at] != '\0'; at++) {
			for (int bit = 0; bit < 7; bit++) {
				token[at] ^= (char)(1 << bit);
				TEST_ROW(verdict(keys, token, &identity)[0] != '\0', token);
				token[at] ^= (char)(1 << bit);
			}
		}
		free(token);
	}
	auth_jwt_keys_free(keys);
}

/* Whoever has no key tries. */
static void forged(void)
{
	struct auth_jwt_keys *keys = all_keys();
	char *content, *signature, *token, *header;
	uint8_t mac[EVP_MAX_MD_SIZE], zeros[256] = { 0 };
	unsigned int mac_length = 0;
	BUF_MEM *pem = NULL;
	BIO *bio = BIO_new(BIO_s_mem());

	/* HMAC with the public key as its secret. */
	PEM_write_bio_PUBKEY(bio, rsa);
	BIO_get_mem_ptr(bio, &pem);
	content = content_of("{\"alg\":\"HS256\",\"typ\":\"JWT\"}", GOOD_CLAIMS);
	HMAC(EVP_sha256(), pem->data, (int)pem->length, (const uint8_t *)content, strlen(content),
	     mac, &mac_length);
	signature = base64url(mac, mac_length);
	token = rt_printf("%s.%s", content, signature);
	CU_ASSERT(verdict_is(keys, token, "alg is none of RS256, ES256 and EdDSA"));
	BIO_free(bio);
	free(content);
	free(signature);
	free(token);

	/* No signature at all. */
	content = content_of("{\"alg\":\"none\"}", GOOD_CLAIMS);
	token = rt_printf("%s.", content);
	CU_ASSERT(verdict_is(keys, token, "alg is none of RS256, ES256 and EdDSA"));
	free(content);
	free(token);
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "{\"alg\":\"RS256\"}", "{\"alg\":\"ES256\"}",
						     "{\"alg\":\"EdDSA\"}" };

		content = content_of(names[i], GOOD_CLAIMS);
		token = rt_printf("%s.", content);
		TEST_ROW(verdict_is(keys, token, NO_FIT), names[i]);
		free(token);
		/* Zeros: for r and s a known mistake (CVE-2022-21449). */
		signature = base64url(zeros, i == 0 ? 256 : 64);
		token = rt_printf("%s.%s", content, signature);
		TEST_ROW(verdict_is(keys, token, NO_FIT), names[i]);
		free(signature);
		free(token);
		free(content);
	}

	/* ES256 as DER, which only JWS forbids. */
	content = content_of("{\"alg\":\"ES256\"}", GOOD_CLAIMS);
	signature = sign(ec, content, false);
	token = rt_printf("%s.%s", content, signature);
	CU_ASSERT(verdict_is(keys, token, NO_FIT));
	free(content);
	free(signature);
	free(token);

	/* And with a byte more than it has. */
	content = content_of("{\"alg\":\"ES256\"}", GOOD_CLAIMS);
	signature = sign(ec, content, true);
	token = rt_printf("%s.%sA", content, signature);
	CU_ASSERT(verdict_is(keys, token, NO_FIT));
	free(content);
	free(signature);
	free(token);

	/* A key of one's own, sent along. */
	auth_jwt_keys_free(keys);
	header = rt_printf("{\"keys\":[%s}]}", rsa_jwk);
	keys = keys_of(header);
	free(header);
	header = rt_printf("{\"alg\":\"RS256\",\"jwk\":%s}}", rsa_other_jwk);
	token = token_of(rsa_other, header, GOOD_CLAIMS);
	CU_ASSERT(verdict_is(keys, token, NO_FIT));
	free(token);
	free(header);
	token = token_of(ec, "{\"alg\":\"ES256\"}", GOOD_CLAIMS);
	CU_ASSERT(verdict_is(keys, token, "there is no key of the token's algorithm"));
	free(token);
	auth_jwt_keys_free(keys);
}

static void forms(void)
{
	struct auth_jwt_keys *keys = all_keys();
	char *token = token_of(ed, "{\"alg\":\"EdDSA\"}", GOOD_CLAIMS), *other;
	char *dot = strchr(token, '.');
	static const struct {
		const char *token, *why;
	} rows[] = {
		{ "", "it has not three parts" },
		{ ".", "it has not three parts" },
		{ "..", "the header is not a JSON object of unique names" },
		{ "...", "it has not three parts" },
		{ "a.b.c.d.e", "it is encrypted (JWE)" },
		{ "a.b.c.d.e.f", "it has not three parts" },
		{ "a.e30.", "the header is not base64url" },
		{ "e30=.e30.", "the header is not base64url" },
		{ "e31.e30.", "the header is not base64url" },   /* bits are left over */
		{ "e30gA.e30.", "the header is not base64url" }, /* six bits are no byte */
		{ "e3 0.e30.", "the header is not base64url" },
		{ "e30+.e30.", "the header is not base64url" },
		{ "e30.e30.", "alg is none of RS256, ES256 and EdDSA" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(verdict_is(keys, rows[i].token, rows[i].why), rows[i].token);
	/* Padding, a blank, a line's end: the same bytes, but not the same token. */
	other = rt_printf("%s==", token);
	CU_ASSERT(verdict_is(keys, other, "the signature is not base64url of at most 1024 bytes"));
	free(other);
	other = rt_printf("%s\n", token);
	CU_ASSERT(verdict_is(keys, other, "the signature is not base64url of at most 1024 bytes"));
	free(other);
	other = rt_printf(" %s", token);
	CU_ASSERT(verdict_is(keys, other, "the header is not base64url"));
	free(other);
	other = rt_printf("%.*s=%s", (int)(dot - token), token, dot);
	CU_ASSERT(verdict_is(keys, other, "the header is not base64url"));
	free(other);
	/* More than any signature has. */
	other = rt_printf("%.*s%02000d", (int)(strrchr(token, '.') + 1 - token), token, 0);
	CU_ASSERT(verdict_is(keys, other, "the signature is not base64url of at most 1024 bytes"));
	free(other);
	free(token);
	auth_jwt_keys_free(keys);
}

/* JSON as deep as a token can hold. */
static void deep(void)
{
	struct auth_jwt_keys *keys = all_keys();
	char *body = rt_alloc(6000), *token;

	memset(body, '[', 5000);
	token = token_of(ed, "{\"alg\":\"EdDSA\"}", body);
	CU_ASSERT(verdict_is(keys, token, "the claims are not a JSON object of unique names"));
	free(token);
	token = token_of(ed, body, "{}");
	CU_ASSERT(verdict_is(keys, token, "the header is not a JSON object of unique names"));
	free(token);
	free(body);
	auth_jwt_keys_free(keys);
}

static void parts_of_a_token(void)
{
	char *header = NULL, *body = NULL;

	CU_ASSERT_TRUE(rt_auth_jwt_parts("e30.W10.!", 9, &header, &body));
	CU_ASSERT_STRING_EQUAL(header, "{}");
	CU_ASSERT_STRING_EQUAL(body, "[]");
	free(header);
	free(body);
	CU_ASSERT_FALSE(rt_auth_jwt_parts("e30.W10", 7, &header, &body));
	CU_ASSERT_FALSE(rt_auth_jwt_parts("e30.!.", 6, &header, &body));
	CU_ASSERT_FALSE(rt_auth_jwt_parts("", 0, &header, &body));
}

/* ---- keys of tokens ---- */

static bool set_refused(const char *set, const char *why)
{
	struct auth_jwt_keys *keys = NULL;
	struct rt_buf error = { 0 };
	int rc = auth_jwt_keys_parse("k.json", set, strlen(set), &keys, &error);
	bool good = rc == RT_INVALID && strcmp(error.data, why) == 0;

	CU_ASSERT_EQUAL(ERR_peek_error(), 0);
	if (!good)
		printf("\n    %s", rc == RT_OK ? "it is taken" : error.data);
	if (rc == RT_OK)
		auth_jwt_keys_free(keys);
	rt_buf_done(&error);
	return good;
}

static void bad_sets(void)
{
	static const char no_rsa[] =
		"k.json: key 1: n and e are not the base64url of numbers of up "
		"to 8192 and 64 bits";
	static const char no_point[] = "k.json: key 1: x and y are not the base64url of a point of "
				       "P-256";
	static const char no_ed[] = "k.json: key 1: x is not the base64url of a public key of "
				    "Ed25519";
	static const char none[] = "k.json: has no public key for RS256, ES256 or EdDSA (of 1 "
				   "keys)";
	static const char secret[] = "k.json: key 1: holds a secret; only public keys belong here";
#define ONE(members) "{\"keys\":[{" members "}]}"
#define EC_X         "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\""
#define EC_Y         "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\""
#define ED_X         "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\""
#define OKP          "\"kty\":\"OKP\",\"crv\":\"Ed25519\"," ED_X
	static const struct {
		const char *set, *why;
	} rows[] = {
		{ "", "k.json: is not JSON: line 1, column 0: '[' or '{' expected near end of "
		      "file" },
		{ "{", "k.json: is not JSON: line 1, column 1: string or '}' expected near end of "
		       "file" },
		{ "{\"keys\":1,\"keys\":[]}",
		  "k.json: is not JSON: line 1, column 16: duplicate object key near '\"keys\"'" },
		{ "[]", "k.json: is not a JWK set: an object with an array \"keys\"" },
		{ "{}", "k.json: is not a JWK set: an object with an array \"keys\"" },
		{ "{\"keys\":{}}", "k.json: is not a JWK set: an object with an array \"keys\"" },
		{ "{\"keys\":[]}", "k.json: has no public key for RS256, ES256 or EdDSA (of 0 "
				   "keys)" },
		{ "{\"keys\":[7]}", "k.json: key 1: is not an object" },
		/* Secrets. */
		{ ONE("\"kty\":\"oct\",\"k\":\"c2VjcmV0\""), secret },
		{ ONE("\"kty\":\"oct\""), secret },
		{ ONE("\"kty\":\"new\",\"k\":\"c2VjcmV0\""), secret },
		{ ONE(OKP ",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\""), secret },
		/* Keys for something else. */
		{ ONE("\"kty\":\"new\""), none },
		{ ONE("\"n\":\"1\""), none },
		{ ONE("\"kty\":\"OKP\"," ED_X), none },
		{ ONE("\"kty\":\"OKP\",\"crv\":\"X25519\"," ED_X), none },
		{ ONE("\"kty\":\"EC\",\"crv\":\"P-384\"," EC_X "," EC_Y), none },
		{ ONE(OKP ",\"use\":\"enc\""), none },
		{ ONE(OKP ",\"key_ops\":[\"sign\"]"), none },
		{ ONE(OKP ",\"key_ops\":\"verify\""), none },
		{ ONE(OKP ",\"alg\":\"RS256\""), none },
		/* Damaged. */
		{ ONE("\"kty\":\"RSA\""), no_rsa },
		{ ONE("\"kty\":\"RSA\",\"n\":\"AQAB\""), no_rsa },
		{ ONE("\"kty\":\"RSA\",\"n\":\"\",\"e\":\"AQAB\""), no_rsa },
		{ ONE("\"kty\":\"RSA\",\"n\":\"AQ==\",\"e\":\"AQAB\""), no_rsa },
		{ ONE("\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQABAQABAQABAQAB\""), no_rsa },
		{ ONE("\"kty\":\"EC\",\"crv\":\"P-256\"," EC_X), no_point },
		{ ONE("\"kty\":\"EC\",\"crv\":\"P-256\"," EC_X ",\"y\":\"AQAB\""), no_point },
		{ ONE("\"kty\":\"EC\",\"crv\":\"P-256\"," EC_X
		      ",\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\""),
		  no_point }, /* not on the curve */
		{ ONE("\"kty\":\"OKP\",\"crv\":\"Ed25519\""), no_ed },
		{ ONE("\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAB\""), no_ed },
		{ ONE("\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":[]"), no_ed },
		{ ONE(OKP ",\"kid\":7"), "k.json: key 1: kid is not 1 to 256 bytes of printable "
					 "text" },
		{ ONE(OKP ",\"kid\":\"\""), "k.json: key 1: kid is not 1 to 256 bytes of printable "
					    "text" },
		{ "{\"keys\":[{" OKP ",\"kid\":\"a\"},{" OKP ",\"kid\":\"a\"}]}",
		  "k.json: key 2: the kid 'a' stands in the set twice" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++)
		TEST_ROW(set_refused(rows[i].set, rows[i].why), rows[i].set);
}

/* Keys that are too weak, and too many. */
static void weak_sets(void)
{
	struct rt_buf set = { 0 };
	EVP_PKEY *weak = EVP_RSA_gen(2040);
	char *json = jwk(weak), *even;

	rt_buf_printf(&set, "{\"keys\":[%s}]}", json);
	CU_ASSERT(set_refused(set.data,
			      "k.json: key 1: RSA of 2040 bits is too weak: at least 2048"));
	rt_buf_done(&set);
	free(json);
	EVP_PKEY_free(weak);
	/* An even exponent, and 1. */
	for (int e = 1; e < 3; e++) {
		json = rt_strdup(rsa_jwk);
		even = strstr(json, "\"e\":");
		CU_ASSERT_PTR_NOT_NULL_FATAL(even);
		rt_buf_printf(&set, "{\"keys\":[%.*s\"e\":\"%s\"}]}", (int)(even - json), json,
			      e == 1 ? "AQ" : "Ag");
		CU_ASSERT(set_refused(set.data,
				      "k.json: key 1: n and e are not a public key of RSA"));
		rt_buf_done(&set);
		free(json);
	}
	rt_buf_printf(&set, "{\"keys\":[{" OKP "}");
	for (int i = 0; i < 16; i++)
		rt_buf_printf(&set, ",{" OKP "}");
	rt_buf_printf(&set, "]}");
	CU_ASSERT(set_refused(set.data, "k.json: key 17: more than 16 keys"));
	rt_buf_done(&set);
}

/* What issuers add, and keys for other uses beside those for ours. */
static void good_sets(void)
{
	static const char set[] =
		"{\"more\":1,\"keys\":[{" OKP ",\"kid\":\"a\",\"use\":\"sig\",\"alg\":\"EdDSA\","
		"\"key_ops\":[\"sign\",\"verify\"],\"x5c\":[\"MII\"],\"other\":{}},"
		"{\"kty\":\"EC\",\"crv\":\"P-256\"," EC_X "," EC_Y ",\"kid\":\"a\"},"
		"{" OKP ",\"use\":\"enc\"},{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP\"}]}";
	struct auth_jwt_keys *keys = keys_of(set);

	CU_ASSERT_EQUAL(keys->count, 2);
	CU_ASSERT_EQUAL(keys->ignored, 2);
	CU_ASSERT_EQUAL(keys->list[0].algorithm, AUTH_EDDSA);
	CU_ASSERT_EQUAL(keys->list[1].algorithm, AUTH_ES256);
	CU_ASSERT_STRING_EQUAL(keys->list[0].kid, "a");
	auth_jwt_keys_free(keys);
}

/* ---- the callers file ---- */

#define HASH  "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define HASH2 "sha256:1111111111111111222222222222222222222222222222222222222222222222"
#define HASH3 "sha256:abcdef0123456789333333333333333333333333333333333333333333333333"

static struct auth_callers *callers_of(const char *text, size_t length)
{
	struct auth_callers *callers = NULL;
	struct rt_buf error = { 0 };

	if (auth_callers_parse("callers", text, length, &callers, &error) != RT_OK)
		printf("\n    %s", error.data);
	CU_ASSERT_PTR_NOT_NULL_FATAL(callers);
	rt_buf_done(&error);
	return callers;
}

static void bad_callers(void)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{ "nobody\n", "c:1: begins with neither key nor cert: 'nobody'" },
		{ "\n# one\nkey\n",
		  "c:3: a key has at least: key sha256:<64 hexadecimal digits> NAME ROLE" },
		{ "key " HASH " shop",
		  "c:1: a key has at least: key sha256:<64 hexadecimal digits> NAME ROLE" },
		{ "key sha256:11 shop stock",
		  "c:1: the second word is not sha256: and 64 digits of 0-9 a-f" },
		{ "key " HASH "1 shop stock",
		  "c:1: the second word is not sha256: and 64 digits of 0-9 a-f" },
		{ "key sha256:G111111111111111111111111111111111111111111111111111111111111111 "
		  "shop stock",
		  "c:1: the second word is not sha256: and 64 digits of 0-9 a-f" },
		{ "key md5:1111 shop stock",
		  "c:1: the second word is not sha256: and 64 digits of 0-9 a-f" },
		{ "key " HASH " \"\" stock",
		  "c:1: the name is not 1 to 127 bytes of printable text" },
		{ "key " HASH " shop admin", "c:1: 'admin' is not a role that can be given" },
		{ "key " HASH " shop anonymous",
		  "c:1: 'anonymous' is not a role that can be given" },
		{ "key " HASH " shop Stock", "c:1: 'Stock' is not a role that can be given" },
		{ "key " HASH " shop customer", "c:1: a customer needs customer_id=…" },
		{ "key " HASH " shop customer customer_id=",
		  "c:1: customer_id=… is not 1 to 512 bytes of printable text" },
		{ "key " HASH " shop stock customer_id=c",
		  "c:1: customer_id= belongs to the role customer alone" },
		{ "key " HASH " shop stock expires=soon",
		  "c:1: expires=soon is not a time such as 2027-01-01 or 2027-01-01T12:00:00Z" },
		{ "key " HASH " shop stock expires=2027-02-30",
		  "c:1: expires=2027-02-30 is not a time such as 2027-01-01 or "
		  "2027-01-01T12:00:00Z" },
		{ "key " HASH " shop stock expires=2027-01-01T12:00:00+",
		  "c:1: expires=2027-01-01T12:00:00+ is not a time such as 2027-01-01 or "
		  "2027-01-01T12:00:00Z" },
		{ "key " HASH " shop stock expires=2027-01-01 expires=2028-01-01",
		  "c:1: 'expires=2028-01-01' does not belong here, or stands here twice" },
		{ "key " HASH " s customer customer_id=a customer_id=b",
		  "c:1: 'customer_id=b' does not belong here, or stands here twice" },
		{ "key " HASH " shop stock valid=1",
		  "c:1: 'valid=1' does not belong here, or stands here twice" },
		{ "key " HASH " shop stock a b c", "c:1: more than 6 words" },
		{ "key " HASH " \"shop stock", "c:1: a double quote is not closed" },
		{ "key " HASH " shop stock\r\n", "c:1: holds U+000D, which is not printable" },
		{ "# \xe2\x80\xae hidden\n", "c:1: holds U+202E, which is not printable" },
		{ "\xff", "c:1: holds U+FFFD, which is not printable" },
		{ "cert CN:a\n", "c:1: a certificate has at least: cert NAME ROLE" },
		{ "cert a stock\n",
		  "c:1: the second word is not CN:, DNS:, URI: or email: and a name, of at most "
		  "127 bytes together" },
		{ "cert CN: stock\n",
		  "c:1: the second word is not CN:, DNS:, URI: or email: and a name, of at most "
		  "127 bytes together" },
		{ "cert cn:a stock\n",
		  "c:1: the second word is not CN:, DNS:, URI: or email: and a name, of at most "
		  "127 bytes together" },
		/* Twice. */
		{ "key " HASH " a stock\nkey " HASH " b stock",
		  "c:2: the same key stands on line 1" },
		{ "key " HASH2 " a stock\n\nkey " HASH " a stock",
		  "c:3: the same key stands on line 1" },
		{ "cert CN:a stock\ncert CN:b stock\ncert CN:a stock",
		  "c:3: 'CN:a' stands on line 1, too" },
		{ "cert CN:a stock\ncert CN:a operator", "c:2: 'CN:a' is somebody else on line 1" },
		{ "key " HASH " a stock\nkey " HASH3 " a operator",
		  "c:2: 'a' is somebody else on line 1" },
		{ "key " HASH3 " a customer customer_id=a\nkey " HASH " a customer customer_id=b",
		  "c:2: 'a' is somebody else on line 1" },
		{ "key " HASH " CN:a stock\ncert CN:a stock",
		  "c:2: 'CN:a' is somebody else on line 1" },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct auth_callers *callers = NULL;
		struct rt_buf error = { 0 };
		int rc = auth_callers_parse("c", rows[i].text, strlen(rows[i].text), &callers,
					    &error);

		TEST_ROW(rc == RT_INVALID, rows[i].text);
		if (rc != RT_OK && strcmp(error.data, rows[i].why) != 0)
			printf("\n    %s", error.data);
		TEST_ROW(rc != RT_OK && strcmp(error.data, rows[i].why) == 0, rows[i].text);
		auth_callers_free(callers);
		rt_buf_done(&error);
	}
}

static void nul_in_callers(void)
{
	static const char text[] = "key " HASH " a stock\0 expires=2020-01-01";
	struct auth_callers *callers = NULL;
	struct rt_buf error = { 0 };

	CU_ASSERT_EQUAL(auth_callers_parse("c", text, sizeof(text) - 1, &callers, &error),
			RT_INVALID);
	CU_ASSERT_STRING_EQUAL(error.data, "c:1: holds a NUL byte");
	rt_buf_done(&error);
}

static void good_callers(void)
{
	static const char text[] =
		"# who may call\n"
		"\n"
		"key " HASH " shop-7 customer customer_id=cust_7 expires=2027-01-01 # old\n"
		"\tkey\t" HASH3 "\tshop-7 \t customer  customer_id=\"cust_7\"\n"
		"cert \"CN:Shop Seven\" customer expires=2026-11-30T00:53:20Z "
		"\"customer_id=customer # 7\"\n"
		"cert URI:spiffe://tandem/gateway gateway\n"
		"cert DNS:ops operator"; /* without a line's end */
	struct auth_callers *callers = callers_of(text, sizeof(text) - 1);
	const struct rt_auth_caller *caller;
	uint8_t digest[32];

	CU_ASSERT_EQUAL(callers->count, 5);
	CU_ASSERT_EQUAL(callers->key_count, 2);
	memset(digest, 0x11, sizeof(digest));
	caller = auth_callers_key(callers, digest);
	CU_ASSERT_PTR_NOT_NULL_FATAL(caller);
	CU_ASSERT_STRING_EQUAL(caller->name, "shop-7");
	CU_ASSERT_STRING_EQUAL(caller->owner, "cust_7");
	CU_ASSERT_EQUAL(caller->role, RT_ROLE_CUSTOMER);
	CU_ASSERT_EQUAL(caller->line, 3);
	CU_ASSERT_EQUAL(caller->expires_ms, INT64_C(1798761600000));
	/* Only the beginning is the same. */
	digest[31] ^= 1;
	CU_ASSERT_PTR_NULL(auth_callers_key(callers, digest));
	digest[31] ^= 1;
	digest[0] ^= 1;
	CU_ASSERT_PTR_NULL(auth_callers_key(callers, digest));

	caller = auth_callers_certificate(callers, "CN:Shop Seven");
	CU_ASSERT_PTR_NOT_NULL_FATAL(caller);
	CU_ASSERT_STRING_EQUAL(caller->owner, "customer # 7");
	CU_ASSERT_EQUAL(caller->expires_ms, NOW);
	caller = auth_callers_certificate(callers, "URI:spiffe://tandem/gateway");
	CU_ASSERT_PTR_NOT_NULL_FATAL(caller);
	CU_ASSERT_EQUAL(caller->role, RT_ROLE_GATEWAY);
	CU_ASSERT_EQUAL(caller->expires_ms, INT64_MAX);
	CU_ASSERT_PTR_NOT_NULL(auth_callers_certificate(callers, "DNS:ops"));
	CU_ASSERT_PTR_NULL(auth_callers_certificate(callers, "CN:ops"));
	CU_ASSERT_PTR_NULL(auth_callers_certificate(callers, "DNS:op"));
	CU_ASSERT_PTR_NULL(auth_callers_certificate(callers, "shop-7")); /* a key's name */
	auth_callers_free(callers);

	callers = callers_of("", 0);
	CU_ASSERT_PTR_NULL(auth_callers_key(callers, digest));
	CU_ASSERT_PTR_NULL(auth_callers_certificate(callers, ""));
	auth_callers_free(callers);
}

/* ---- both, with files ---- */

static void write_file(const char *path, const char *text)
{
	FILE *file;

	(void)unlink(path);
	file = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	fputs(text, file);
	fclose(file);
	CU_ASSERT_EQUAL(chmod(path, 0644), 0);
}

static const struct rt_auth_options files_options = { .callers_file = callers_path,
						      .jwt_keys_file = keys_path,
						      .jwt_issuer = ISS,
						      .jwt_audience = AUD,
						      .jwt_leeway_ms = 30000 };

static void make_keys(void)
{
	rsa = EVP_RSA_gen(2048);
	rsa_other = EVP_RSA_gen(3072);
	ec = EVP_EC_gen("P-256");
	ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	rsa_jwk = jwk(rsa);
	rsa_other_jwk = jwk(rsa_other);
	ec_jwk = jwk(ec);
	ed_jwk = jwk(ed);
}

static void open_auth(void)
{
	char *set;

	if (rsa == NULL)
		make_keys();
	set = rt_printf("{\"keys\":[%s}]}", ed_jwk);
	write_file(keys_path, set);
	free(set);
	write_file(callers_path, "cert CN:gateway gateway\n");
	logged[0] = '\0';
	CU_ASSERT_EQUAL_FATAL(rt_loop_new_manual(NOW, 1, &loop), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_auth_new(loop, &files_options, &auth), RT_OK);
}

static void close_auth(void)
{
	rt_auth_free(auth);
	rt_loop_free(loop);
	auth = NULL;
}

static bool logs(const char *text)
{
	bool found = strstr(logged, text) != NULL;

	if (!found)
		printf("\n    log: %s", logged);
	return found;
}

static const char *bearer(const char *token, int64_t now, struct rt_identity *ret)
{
	const char *why = "";

	memset(ret, 0, sizeof(*ret));
	if (rt_auth_bearer(auth, token, strlen(token), now, ret, &why) == RT_OK)
		return "";
	CU_ASSERT_EQUAL(ret->role, RT_ROLE_ANONYMOUS);
	return why;
}

static const char *certificate(const char *a, const char *b, struct rt_identity *ret)
{
	const char *const names[] = { a, b };
	const char *why = "";

	memset(ret, 0, sizeof(*ret));
	return rt_auth_certificate(auth, names, 1 + (b != NULL), NOW, ret, &why) == RT_OK ? ""
											  : why;
}

static void api_keys(void)
{
	struct rt_buf line = { 0 }, error = { 0 };
	struct rt_identity identity;
	char key[RT_AUTH_KEY_TEXT], second[RT_AUTH_KEY_TEXT], *longer;

	CU_ASSERT_EQUAL_FATAL(rt_auth_key_new("shop #7", RT_ROLE_CUSTOMER, "cust 7", "2027-01-01",
					      key, &line, &error),
			      RT_OK);
	rt_buf_printf(&line, "\n");
	CU_ASSERT_EQUAL_FATAL(
		rt_auth_key_new("ops", RT_ROLE_OPERATOR, NULL, NULL, second, &line, &error), RT_OK);
	CU_ASSERT_STRING_NOT_EQUAL(key, second);
	CU_ASSERT_EQUAL(strlen(key), 59);
	CU_ASSERT_PTR_NULL(strstr(line.data, key + 7)); /* its hash alone */
	write_file(callers_path, line.data);
	close_auth();
	CU_ASSERT_EQUAL_FATAL(rt_loop_new_manual(NOW, 1, &loop), RT_OK);
	CU_ASSERT_EQUAL_FATAL(rt_auth_new(loop, &files_options, &auth), RT_OK);

	CU_ASSERT_STRING_EQUAL(bearer(key, NOW, &identity), "");
	CU_ASSERT_EQUAL(identity.role, RT_ROLE_CUSTOMER);
	CU_ASSERT_STRING_EQUAL(rt_auth_way_name(identity.way), "key");
	CU_ASSERT_STRING_EQUAL(identity.name, "shop #7");
	CU_ASSERT_STRING_EQUAL(identity.owner, "cust 7");
	CU_ASSERT_EQUAL(identity.expires_ms, INT64_C(1798761600000));
	CU_ASSERT_EQUAL(identity.generation, rt_auth_generation(auth));
	CU_ASSERT_STRING_EQUAL(bearer(key, INT64_C(1798761599999), &identity), "");
	CU_ASSERT_STRING_EQUAL(bearer(key, INT64_C(1798761600000), &identity),
			       "its line in the callers file has expired");
	CU_ASSERT_STRING_EQUAL(bearer(second, INT64_C(1798761600000), &identity), "");
	CU_ASSERT_EQUAL(identity.role, RT_ROLE_OPERATOR);
	CU_ASSERT_EQUAL(identity.expires_ms, INT64_MAX);
	/* Others. */
	key[20] = key[20] == 'a' ? 'b' : 'a';
	CU_ASSERT_STRING_EQUAL(bearer(key, NOW, &identity),
			       "the API key is not in the callers file");
	longer = rt_printf("%sa", second);
	CU_ASSERT_STRING_EQUAL(bearer(longer, NOW, &identity),
			       "it is neither a signed token nor an API key");
	free(longer);
	key[30] = 'A';
	CU_ASSERT_STRING_EQUAL(bearer(key, NOW, &identity),
			       "it is neither a signed token nor an API key");
	key[30] = 'a';
	key[6] = '-';
	CU_ASSERT_STRING_EQUAL(bearer(key, NOW, &identity),
			       "it is neither a signed token nor an API key");
	second[58] = '\0';
	CU_ASSERT_STRING_EQUAL(bearer(second, NOW, &identity),
			       "it is neither a signed token nor an API key");
	CU_ASSERT_STRING_EQUAL(bearer("", NOW, &identity), "it is empty");
	rt_buf_done(&line);
	rt_buf_done(&error);
}

/* A key that somebody thought of is none, even when its hash stands in the file. */
static void keys_are_random(void)
{
	static const char guessable[] = "secret";
	struct rt_identity identity;
	struct rt_buf text = { 0 };
	uint8_t digest[32];

	rt_sha256(guessable, strlen(guessable), digest);
	rt_buf_printf(&text, "key sha256:");
	for (int i = 0; i < 32; i++)
		rt_buf_printf(&text, "%02x", digest[i]);
	rt_buf_printf(&text, " shop stock\n");
	write_file(callers_path, text.data);
	rt_loop_advance(loop, 3000);
	CU_ASSERT_STRING_EQUAL(bearer(guessable, NOW, &identity),
			       "it is neither a signed token nor an API key");
	rt_buf_done(&text);
}

static void keys_that_cannot_be(void)
{
	static const struct {
		const char *name, *owner, *expires;
		enum rt_role role;
		const char *why;
	} rows[] = {
		{ "a", NULL, NULL, RT_ROLE_CUSTOMER, "the line:1: a customer needs customer_id=…" },
		{ "a", "b", NULL, RT_ROLE_STOCK,
		  "the line:1: customer_id= belongs to the role customer alone" },
		{ "a", NULL, NULL, RT_ROLE_ANONYMOUS,
		  "the line:1: 'anonymous' is not a role that can be given" },
		{ "a", NULL, "soon", RT_ROLE_STOCK,
		  "the line:1: expires=soon is not a time such as 2027-01-01 or "
		  "2027-01-01T12:00:00Z" },
		{ "a\"b", NULL, NULL, RT_ROLE_STOCK, "the line:1: a double quote is not closed" },
		{ "a\"\"b", NULL, NULL, RT_ROLE_STOCK,
		  "a text holds what cannot be written: a double quote" },
		{ "a\nb", NULL, NULL, RT_ROLE_STOCK, NULL },
		{ "a\" operator \"#", NULL, NULL, RT_ROLE_STOCK, NULL },
		{ "", NULL, NULL, RT_ROLE_STOCK, NULL },
	};

	for (size_t i = 0; i < RT_LENGTH(rows); i++) {
		struct rt_buf line = { 0 }, error = { 0 };
		char key[RT_AUTH_KEY_TEXT];
		int rc = rt_auth_key_new(rows[i].name, rows[i].role, rows[i].owner, rows[i].expires,
					 key, &line, &error);

		TEST_ROW(rc == RT_INVALID && line.length == 0 && key[0] == '\0', rows[i].name);
		TEST_ROW(rc != RT_OK &&
				 (rows[i].why == NULL || strcmp(error.data, rows[i].why) == 0),
			 error.data);
		rt_buf_done(&line);
		rt_buf_done(&error);
	}
}

static void certificates(void)
{
	struct rt_identity identity;

	write_file(callers_path,
		   "cert CN:gateway gateway\ncert DNS:gateway gateway\n"
		   "cert URI:x customer customer_id=a\ncert email:x customer "
		   "customer_id=b\ncert CN:old stock expires=2026-11-01\ncert CN:ops operator\n");
	rt_loop_advance(loop, 3000);
	CU_ASSERT_STRING_EQUAL(certificate("CN:gateway", "DNS:localhost", &identity), "");
	CU_ASSERT_EQUAL(identity.role, RT_ROLE_GATEWAY);
	CU_ASSERT_STRING_EQUAL(rt_auth_way_name(identity.way), "certificate");
	CU_ASSERT_STRING_EQUAL(identity.name, "CN:gateway");
	CU_ASSERT_EQUAL(identity.generation, rt_auth_generation(auth));
	CU_ASSERT_STRING_EQUAL(certificate("DNS:localhost", "DNS:gateway", &identity), "");
	CU_ASSERT_STRING_EQUAL(certificate("CN:gateway", "DNS:gateway", &identity), "");
	CU_ASSERT_STRING_EQUAL(certificate("URI:x", NULL, &identity), "");
	CU_ASSERT_STRING_EQUAL(identity.owner, "a");
	CU_ASSERT_STRING_EQUAL(certificate("URI:x", "email:x", &identity),
			       "its names stand for different callers");
	CU_ASSERT_STRING_EQUAL(certificate("URI:x", "CN:gateway", &identity),
			       "its names stand for different callers");
	CU_ASSERT_STRING_EQUAL(certificate("CN:ops", "CN:gateway", &identity),
			       "its names stand for different callers");
	CU_ASSERT_STRING_EQUAL(certificate("CN:old", NULL, &identity),
			       "its line in the callers file has expired");
	CU_ASSERT_STRING_EQUAL(certificate("CN:nobody", "gateway", &identity),
			       "none of its names is in the callers file");
}

/* Files that others could write are not read. */
static void writable_by_others(void)
{
	static const mode_t modes[] = { 0664, 0646, 0666, 0620 };
	struct rt_auth *other = NULL;

	for (size_t i = 0; i < RT_LENGTH(modes); i++) {
		struct rt_buf error = { 0 };
		char *why = rt_printf("%s has mode %04o: others may write it; chmod go-w it",
				      callers_path, (unsigned int)modes[i]);

		CU_ASSERT_EQUAL(chmod(callers_path, modes[i]), 0);
		CU_ASSERT_EQUAL(rt_auth_read(&files_options, &other, &error), RT_INVALID);
		CU_ASSERT_STRING_EQUAL(error.data, why);
		rt_buf_done(&error);
		free(why);
	}
	CU_ASSERT_EQUAL(chmod(callers_path, 0600), 0);
	if (geteuid() == 0) { /* nobody else can give files away */
		struct rt_buf error = { 0 };

		CU_ASSERT_EQUAL(chown(callers_path, 65534, 0), 0);
		CU_ASSERT_EQUAL(rt_auth_read(&files_options, &other, &error), RT_INVALID);
		CU_ASSERT_PTR_NOT_NULL(strstr(error.data, " belongs to user 65534"));
		CU_ASSERT_EQUAL(chown(callers_path, 0, 0), 0);
		rt_buf_done(&error);
	}
	CU_ASSERT_EQUAL(chmod(keys_path, 0666), 0);
	logged[0] = '\0';
	CU_ASSERT_EQUAL(rt_auth_new(loop, &files_options, &other), RT_INVALID);
	CU_ASSERT(logs("it is not known who may call"));
	CU_ASSERT(logs("has mode 0666: others may write it"));
	CU_ASSERT_EQUAL(chmod(keys_path, 0444), 0);
	CU_ASSERT_EQUAL(rt_auth_new(loop, &files_options, &other), RT_OK);
	rt_auth_free(other);
}

static void no_files(void)
{
	struct rt_auth_options options = files_options;
	struct rt_buf error = { 0 };
	struct rt_auth *other = NULL;

	options.callers_file = folder;
	CU_ASSERT_EQUAL(rt_auth_read(&options, &other, &error), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.data, " is not a file"));
	rt_buf_done(&error);
	options.callers_file = spare_path;
	CU_ASSERT_EQUAL(rt_auth_read(&options, &other, &error), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.data, ": No such file or directory"));
	rt_buf_done(&error);
	CU_ASSERT_EQUAL(mkfifo(spare_path, 0600), 0);
	CU_ASSERT_EQUAL(rt_auth_read(&options, &other, &error), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.data, " is not a file"));
	rt_buf_done(&error);
	CU_ASSERT_EQUAL(unlink(spare_path), 0);
	options = files_options;
	options.jwt_audience = "";
	CU_ASSERT_EQUAL(rt_auth_read(&options, &other, &error), RT_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(error.data, "--jwt-keys needs --jwt-issuer"));
	rt_buf_done(&error);
	options.jwt_audience = AUD;
	options.jwt_issuer = NULL;
	CU_ASSERT_EQUAL(rt_auth_read(&options, &other, &error), RT_INVALID);
	rt_buf_done(&error);
}

/* Without files nobody is known. */
static void nothing_configured(void)
{
	const struct rt_auth_options none = { 0 };
	struct rt_auth *with_files = auth;
	struct rt_buf error = { 0 };
	struct rt_identity identity;
	char key[RT_AUTH_KEY_TEXT];

	CU_ASSERT_EQUAL_FATAL(rt_auth_read(&none, &auth, &error), RT_OK);
	CU_ASSERT_EQUAL(rt_auth_key_new("a", RT_ROLE_STOCK, NULL, NULL, key, &error, &error),
			RT_OK);
	CU_ASSERT_STRING_EQUAL(bearer(key, NOW, &identity),
			       "there is no callers file, so there are no API keys");
	CU_ASSERT_STRING_EQUAL(bearer("a.b.c", NOW, &identity),
			       "there is no file of keys, so no signed token is taken");
	CU_ASSERT_STRING_EQUAL(certificate("CN:gateway", NULL, &identity),
			       "there is no callers file, so no certificate is known");
	rt_auth_free(auth);
	auth = with_files;
	rt_buf_done(&error);
}

static void read_again(void)
{
	char *token = token_of(ed, "{\"alg\":\"EdDSA\"}", GOOD_CLAIMS), *set;
	char *by_rsa = token_of(rsa, "{\"alg\":\"RS256\"}", GOOD_CLAIMS);
	uint64_t generation = rt_auth_generation(auth);
	struct rt_identity identity;

	CU_ASSERT(logs("the callers file was read"));
	CU_ASSERT(logs("the keys of tokens were read"));
	CU_ASSERT_STRING_EQUAL(bearer(token, NOW, &identity), "");
	/* A caller more. */
	logged[0] = '\0';
	write_file(callers_path, "cert CN:gateway gateway\ncert CN:ops operator\n");
	rt_loop_advance(loop, 3000);
	CU_ASSERT_STRING_EQUAL(certificate("CN:ops", NULL, &identity), "");
	CU_ASSERT(rt_auth_generation(auth) > generation);
	CU_ASSERT_EQUAL(identity.generation, rt_auth_generation(auth));
	CU_ASSERT(logs("certificates=2"));
	CU_ASSERT_PTR_NULL(strstr(logged, "keys of tokens")); /* that file is as it was */
	generation = rt_auth_generation(auth);
	/* A mistake changes nothing, and is said once. */
	logged[0] = '\0';
	write_file(callers_path, "cert CN:ops operator\ncert CN:gateway\n");
	rt_loop_advance(loop, 9000);
	CU_ASSERT(logs("what was read before stays"));
	CU_ASSERT(logs(":2: a certificate has at least: cert NAME ROLE"));
	CU_ASSERT_PTR_NULL(strstr(strstr(logged, "stays") + 1, "stays"));
	CU_ASSERT_STRING_EQUAL(certificate("CN:gateway", NULL, &identity), "");
	CU_ASSERT_EQUAL(rt_auth_generation(auth), generation);
	/* So does a file that is away, or that others can write. */
	logged[0] = '\0';
	CU_ASSERT_EQUAL(unlink(callers_path), 0);
	rt_loop_advance(loop, 3000);
	CU_ASSERT(logs("No such file"));
	CU_ASSERT_STRING_EQUAL(certificate("CN:gateway", NULL, &identity), "");
	logged[0] = '\0';
	write_file(callers_path, "cert CN:evil operator\n");
	CU_ASSERT_EQUAL(chmod(callers_path, 0666), 0);
	rt_loop_advance(loop, 3000);
	CU_ASSERT(logs("others may write it"));
	CU_ASSERT_STRING_EQUAL(certificate("CN:evil", NULL, &identity),
			       "none of its names is in the callers file");
	CU_ASSERT_EQUAL(rt_auth_generation(auth), generation);
	/* Put right, with what it had before: that is said, too. */
	logged[0] = '\0';
	write_file(callers_path, "cert CN:gateway gateway\ncert CN:ops operator\n");
	rt_loop_advance(loop, 3000);
	CU_ASSERT(logs("the callers file was read"));
	generation = rt_auth_generation(auth);
	/* Other keys for tokens. */
	logged[0] = '\0';
	set = rt_printf("{\"keys\":[%s}]}", rsa_jwk);
	write_file(keys_path, set);
	free(set);
	rt_loop_advance(loop, 3000);
	CU_ASSERT_STRING_EQUAL(bearer(token, NOW, &identity),
			       "there is no key of the token's algorithm");
	CU_ASSERT_STRING_EQUAL(bearer(by_rsa, NOW, &identity), "");
	CU_ASSERT(rt_auth_generation(auth) > generation);
	CU_ASSERT_PTR_NULL(strstr(logged, "the callers file was read"));
	free(token);
	free(by_rsa);
}

static void what_tools_see(void)
{
	struct rt_buf error = { 0 };
	struct rt_auth *seen = NULL;
	struct rt_auth_caller caller;
	const char *algorithm, *kid;

	logged[0] = '\0';
	CU_ASSERT_EQUAL_FATAL(rt_auth_read(&files_options, &seen, &error), RT_OK);
	CU_ASSERT_STRING_EQUAL(logged, "");
	CU_ASSERT_TRUE(rt_auth_caller(seen, 0, &caller));
	CU_ASSERT_STRING_EQUAL(caller.name, "CN:gateway");
	CU_ASSERT_EQUAL(caller.way, RT_AUTH_CERTIFICATE);
	CU_ASSERT_FALSE(rt_auth_caller(seen, 1, &caller));
	CU_ASSERT_TRUE(rt_auth_jwt_key(seen, 0, &algorithm, &kid));
	CU_ASSERT_STRING_EQUAL(algorithm, "EdDSA");
	CU_ASSERT_PTR_NULL(kid);
	CU_ASSERT_FALSE(rt_auth_jwt_key(seen, 1, &algorithm, &kid));
	CU_ASSERT_EQUAL(rt_auth_jwt_keys_ignored(seen), 0);
	rt_auth_free(seen);
	rt_buf_done(&error);
}

static void roles(void)
{
	enum rt_role role = RT_ROLE_STOCK;

	for (int i = 0; i < RT_ROLES; i++) {
		const char *name = rt_role_name((enum rt_role)i);

		CU_ASSERT(rt_role_parse(name, strlen(name), &role) && role == (enum rt_role)i);
		CU_ASSERT_FALSE(rt_role_parse(name, strlen(name) - 1, &role));
	}
	CU_ASSERT_STRING_EQUAL(rt_role_name(RT_ROLE_ANONYMOUS), "anonymous");
	CU_ASSERT_STRING_EQUAL(rt_role_name(RT_ROLES), "unknown");
	CU_ASSERT_FALSE(rt_role_parse("", 0, &role));
	CU_ASSERT_STRING_EQUAL(rt_auth_way_name(RT_AUTH_NONE), "nothing");
	CU_ASSERT_STRING_EQUAL(rt_auth_way_name(RT_AUTH_CERTIFICATE), "certificate");
}

static const struct test tests[] = {
	{ "tokens of the RFCs", published },
	{ "headers of tokens", headers },
	{ "claims of tokens", claims },
	{ "long texts", long_texts },
	{ "what a token means", what_a_token_means },
	{ "every bit of a token counts", every_bit_counts },
	{ "forged tokens", forged },
	{ "forms of tokens", forms },
	{ "deep JSON", deep },
	{ "parts of a token", parts_of_a_token },
	{ "bad sets of keys", bad_sets },
	{ "weak keys, and too many", weak_sets },
	{ "good sets of keys", good_sets },
	{ "bad callers files", bad_callers },
	{ "a NUL in a callers file", nul_in_callers },
	{ "good callers files", good_callers },
	{ "API keys", api_keys },
	{ "API keys are random", keys_are_random },
	{ "API keys that cannot be", keys_that_cannot_be },
	{ "certificates", certificates },
	{ "files that others may write", writable_by_others },
	{ "files that are none", no_files },
	{ "nothing is configured", nothing_configured },
	{ "files are read again", read_again },
	{ "what tools see", what_tools_see },
	{ "roles", roles },
};

int main(void)
{
	int failed;

	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(callers_path, sizeof(callers_path), "%s/callers", folder);
	snprintf(keys_path, sizeof(keys_path), "%s/keys.json", folder);
	snprintf(spare_path, sizeof(spare_path), "%s/spare", folder);
	rt_log_sink(keep_line, NULL);
	failed = tests_run_each("auth", open_auth, close_auth, tests, RT_LENGTH(tests));
	free(rsa_jwk);
	free(rsa_other_jwk);
	free(ec_jwk);
	free(ed_jwk);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(rsa_other);
	EVP_PKEY_free(ec);
	EVP_PKEY_free(ed);
	(void)unlink(callers_path);
	(void)unlink(keys_path);
	return failed | (rmdir(folder) != 0);
}
