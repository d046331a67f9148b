/* fuzz_jwt.c - signed tokens. Whatever comes is taken or refused with a reason; what is taken says who it is, and for how long;
 * what is refused changes nothing, and leaves no error to OpenSSL's next user.
 *
 * The first byte selects what the rest is: a token ('t'); a header and claims, which are signed here ('s'); claims whose
 * signature is held to be good, and the time ('c'); a change of a good token, which must be refused ('m'). */
#include <openssl/err.h>
#include <openssl/evp.h>

#include "auth/auth_internal.h"
#include "fuzz.h"

#define NOW INT64_C(1796000000000)

/* The keys of RFC 7515, A.2 and A.3, and of RFC 8037, A.1; of the last the private part is known here. */
static const char set[] =
	"{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"r\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQ"
	"oTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWv"
	"G6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2"
	"CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2e"
	"thFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"},"
	"{\"kty\":\"EC\",\"kid\":\"e\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus"
	"9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	"\"}]}";
static const char private_part[] = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
static const struct auth_jwt_rules rules = { "i", "a", 30000 };

static struct auth_jwt_keys *keys;
static EVP_PKEY *signer;
static char *good_token;

/* ---- making tokens ---- */

static void add_base64url(struct rt_buf *token, const void *bytes, size_t length)
{
	char *text = rt_alloc(length * 4 / 3 + 8);

	EVP_EncodeBlock((unsigned char *)text, bytes, (int)length);
	text[strcspn(text, "=")] = '\0';
	for (char *c = text; *c != '\0'; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	rt_buf_add(token, text, strlen(text));
	free(text);
}

static void add_signature(struct rt_buf *token)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	uint8_t bytes[64];
	size_t length = sizeof(bytes);

	FUZZ_MUST(EVP_DigestSignInit(context, NULL, NULL, NULL, signer) == 1);
	FUZZ_MUST(EVP_DigestSign(context, bytes, &length, (const uint8_t *)token->data,
				 token->length) == 1);
	EVP_MD_CTX_free(context);
	rt_buf_add(token, ".", 1);
	add_base64url(token, bytes, length);
}

static void make_token(struct rt_buf *token, const char *header, size_t header_length,
		       const char *claims, size_t claims_length)
{
	add_base64url(token, header, header_length);
	rt_buf_add(token, ".", 1);
	add_base64url(token, claims, claims_length);
	add_signature(token);
}

static void start(void)
{
	static const char header[] = "{\"alg\":\"EdDSA\"}";
	static const char claims[] =
		"{\"iss\":\"i\",\"aud\":\"a\",\"exp\":1796000600,\"sub\":\"s\","
		"\"role\":\"customer\",\"customer_id\":\"c\"}";
	struct rt_buf error = { 0 }, token = { 0 };
	uint8_t bytes[RT_BASE64_DECODED(sizeof(private_part))];
	size_t length = 0;

	json_object_seed(1); /* a run is the same each time */
	FUZZ_MUST(auth_jwt_keys_parse("set", set, strlen(set), &keys, &error) == RT_OK);
	FUZZ_MUST(rt_base64url_decode(private_part, strlen(private_part), bytes, &length));
	signer = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, bytes, length);
	FUZZ_MUST(signer != NULL);
	make_token(&token, header, strlen(header), claims, strlen(claims));
	good_token = token.data;
}

/* ---- checking ---- */

static void check(int rc, const struct rt_identity *identity, const struct rt_identity *before,
		  const char *why, int64_t now)
{
	FUZZ_MUST(ERR_peek_error() == 0);
	if (rc != RT_OK) {
		FUZZ_MUST(rc == RT_DENIED && why != NULL && why[0] != '\0');
		FUZZ_MUST(memcmp(identity, before, sizeof(*identity)) == 0);
		return;
	}
	FUZZ_MUST(identity->role > RT_ROLE_ANONYMOUS && identity->role < RT_ROLES);
	FUZZ_MUST(identity->way == RT_AUTH_TOKEN);
	FUZZ_MUST(auth_text_fits(identity->name, sizeof(identity->name)));
	FUZZ_MUST((identity->owner[0] != '\0') == (identity->role == RT_ROLE_CUSTOMER));
	FUZZ_MUST(identity->owner[0] == '\0' ||
		  auth_text_fits(identity->owner, sizeof(identity->owner)));
	FUZZ_MUST(identity->expires_ms > now);
}

static int read_token(const char *token, size_t length)
{
	struct rt_identity identity, before;
	const char *why = NULL;
	char *header, *claims;
	int rc;

	memset(&identity, 0x55, sizeof(identity));
	before = identity;
	rc = auth_jwt_read(keys, &rules, token, length, NOW, &identity, &why);
	check(rc, &identity, &before, why, NOW);
	if (rt_auth_jwt_parts(token, length, &header, &claims)) {
		free(header);
		free(claims);
	} else {
		FUZZ_MUST(rc != RT_OK);
	}
	return rc;
}

static void read_signed(struct fuzz *input)
{
	struct rt_buf token = { 0 };
	size_t header_length, claims_length;
	const char *header = fuzz_bytes(input, &header_length);
	const char *claims = fuzz_bytes(input, &claims_length);

	make_token(&token, header, header_length, claims, claims_length);
	read_token(token.data, token.length);
	rt_buf_done(&token);
}

static void read_claims(struct fuzz *input)
{
	struct rt_identity identity, before;
	int64_t now = fuzz_int(input);
	size_t length = (size_t)(input->end - input->at);
	char *claims = rt_alloc(length + 1);
	const char *why = NULL;
	int rc;

	now = RT_MIN(RT_MAX(now, INT64_C(0)), RT_TIME_MS_MAX);
	memcpy(claims, input->at, length);
	memset(&identity, 0x55, sizeof(identity));
	before = identity;
	rc = auth_jwt_claims(&rules, claims, length, now, &identity, &why);
	check(rc, &identity, &before, why, now);
	free(claims);
}

/* Bytes taken out and others put in. */
static void read_changed(struct fuzz *input)
{
	size_t length = strlen(good_token), put_length;
	size_t at = (fuzz_byte(input) * 256U + fuzz_byte(input)) % (length + 1);
	size_t out = fuzz_byte(input);
	const char *put = fuzz_bytes(input, &put_length);
	struct rt_buf token = { 0 };

	out = RT_MIN(out, length - at);
	rt_buf_add(&token, good_token, at);
	rt_buf_add(&token, put, put_length);
	rt_buf_add(&token, good_token + at + out, length - at - out);
	FUZZ_MUST((read_token(token.data, token.length) == RT_OK) ==
		  (token.length == length && memcmp(token.data, good_token, length) == 0));
	rt_buf_done(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz input = { data, data + size };
	uint8_t kind = fuzz_byte(&input);
	size_t length;
	char *token;

	if (keys == NULL)
		start();
	if (kind == 's') {
		read_signed(&input);
	} else if (kind == 'c') {
		read_claims(&input);
	} else if (kind == 'm') {
		read_changed(&input);
	} else {
		length = (size_t)(input.end - input.at);
		token = rt_alloc(length + 1);
		memcpy(token, input.at, length);
		read_token(token, length);
		free(token);
	}
	return 0;
}
