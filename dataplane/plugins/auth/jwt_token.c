#include "dataplane/plugins/auth/jwt_token.h"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#include "dataplane/plugins/auth/auth_text.h"
#include "schema/keys.h"
#include "shared/digest.h"
#include "shared/json.h"

/* -- algorithms ---------------------------------------------------------------------------------
 */

enum family { HMAC_SECRET, RSA_PKCS1, RSA_PSS, ECDSA_RAW, EDDSA };

struct sb_jwt_alg {
    struct sb_str name;
    enum family family;
    const char *digest;   /* NULL: part of the algorithm */
    size_t signature_len; /* 0: the key's */
};

static const struct sb_jwt_alg algorithms[] = {
    {SB_STR_INIT("HS256"), HMAC_SECRET, "SHA256", 32},
    {SB_STR_INIT("HS384"), HMAC_SECRET, "SHA384", 48},
    {SB_STR_INIT("HS512"), HMAC_SECRET, "SHA512", 64},
    {SB_STR_INIT("RS256"), RSA_PKCS1, "SHA256", 0},
    {SB_STR_INIT("RS384"), RSA_PKCS1, "SHA384", 0},
    {SB_STR_INIT("RS512"), RSA_PKCS1, "SHA512", 0},
    {SB_STR_INIT("PS256"), RSA_PSS, "SHA256", 0},
    {SB_STR_INIT("PS384"), RSA_PSS, "SHA384", 0},
    {SB_STR_INIT("PS512"), RSA_PSS, "SHA512", 0},
    {SB_STR_INIT("ES256"), ECDSA_RAW, "SHA256", 64},
    {SB_STR_INIT("ES384"), ECDSA_RAW, "SHA384", 96},
    {SB_STR_INIT("ES512"), ECDSA_RAW, "SHA512", 132},
    {SB_STR_INIT("EdDSA"), EDDSA, NULL, 0},
};

static const struct sb_jwt_alg *algorithm(struct sb_str name)
{
    for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
        if (sb_str_eq(algorithms[i].name, name))
            return &algorithms[i];
    return NULL;
}

struct sb_str sb_jwt_alg_name(const struct sb_jwt *jwt)
{
    return jwt->alg->name;
}

bool sb_jwt_alg_is_hmac(const struct sb_jwt *jwt)
{
    return jwt->alg->family == HMAC_SECRET;
}

/* -- taking apart -------------------------------------------------------------------------------
 */

static bool json_part(struct sb_arena *a, struct sb_str part, struct sb_value **out)
{
    struct sb_str text;

    return sb_base64url_decode(a, part, &text) && text.len &&
           sb_json_parse(a, text, out, NULL) == SB_OK;
}

const char *sb_jwt_parse(struct sb_arena *a, struct sb_str token, struct sb_jwt *out)
{
    struct sb_str rest = token, header, claims;

    *out = (struct sb_jwt){0};
    if (token.len > SB_JWT_LEN_MAX || !sb_str_split(&rest, '.', &header) ||
        !sb_str_split(&rest, '.', &claims) || !rest.p || !json_part(a, header, &out->header) ||
        !json_part(a, claims, &out->claims))
        return "invalid JSON";
    out->input = sb_str_first(token, header.len + 1 + claims.len);
    out->alg = algorithm(sb_value_str_at(out->header, "alg"));
    if (!out->alg)
        return "invalid alg";
    if (sb_is_nil(out->claims) || (out->claims->type == SB_V_BOOL && !out->claims->b))
        return "invalid claims";
    if (!sb_base64url_decode(a, rest, &out->signature))
        return "invalid signature";
    return NULL;
}

/* -- keys ---------------------------------------------------------------------------------------
 */

/* By the digest of their text; what comes later takes the place of what was there. */
enum { KEYS_KEPT = 64 };

struct sb_jwt_keys {
    struct {
        uint8_t digest[SB_SHA256_LEN];
        EVP_PKEY *key; /* NULL: nothing kept here */
    } kept[KEYS_KEPT];
};

struct sb_jwt_keys *sb_jwt_keys_new(void)
{
    return sb_xcalloc(1, sizeof(struct sb_jwt_keys));
}

void sb_jwt_keys_free(struct sb_jwt_keys *keys)
{
    for (size_t i = 0; i < KEYS_KEPT; i++)
        EVP_PKEY_free(keys->kept[i].key);
    free(keys);
}

static EVP_PKEY *public_key(struct sb_jwt_keys *keys, struct sb_str pem)
{
    uint8_t digest[SB_SHA256_LEN];
    size_t slot;
    EVP_PKEY *key;

    sb_sha256(pem, digest);
    slot = digest[0] % KEYS_KEPT;
    if (keys->kept[slot].key && memcmp(keys->kept[slot].digest, digest, sizeof digest) == 0)
        return keys->kept[slot].key;
    key = sb_pem_key(pem);
    if (!key)
        return NULL;
    EVP_PKEY_free(keys->kept[slot].key);
    keys->kept[slot].key = key;
    memcpy(keys->kept[slot].digest, digest, sizeof digest);
    return key;
}

static bool key_fits(const struct sb_jwt_alg *alg, EVP_PKEY *key)
{
    int id = EVP_PKEY_get_base_id(key);

    switch (alg->family) {
    case RSA_PKCS1:
        return id == EVP_PKEY_RSA;
    case RSA_PSS:
        return id == EVP_PKEY_RSA || id == EVP_PKEY_RSA_PSS;
    case ECDSA_RAW: /* the curve has the size of half a signature */
        return id == EVP_PKEY_EC &&
               (size_t)(EVP_PKEY_get_bits(key) + 7) / 8 == alg->signature_len / 2;
    case EDDSA:
        return id == EVP_PKEY_ED25519 || id == EVP_PKEY_ED448;
    case HMAC_SECRET:
        break;
    }
    return false;
}

/* -- verifying ----------------------------------------------------------------------------------
 */

static bool by_secret(const struct sb_jwt *jwt, struct sb_str secret)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    return HMAC(EVP_get_digestbyname(jwt->alg->digest), secret.p, (int)secret.len,
                (const uint8_t *)jwt->input.p, jwt->input.len, mac, &len) &&
           sb_secret_eq(sb_str_n((const char *)mac, len), jwt->signature);
}

/* JWS writes r and s one after the other, OpenSSL wants them as DER. */
static int to_der(struct sb_str raw, uint8_t **der)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    const uint8_t *p = (const uint8_t *)raw.p;
    int half = (int)(raw.len / 2), len = -1;
    BIGNUM *r = BN_bin2bn(p, half, NULL), *s = BN_bin2bn(p + half, half, NULL);

    if (sig && r && s && ECDSA_SIG_set0(sig, r, s)) {
        len = i2d_ECDSA_SIG(sig, der);
    } else {
        BN_free(r);
        BN_free(s);
    }
    ECDSA_SIG_free(sig);
    return len;
}

static bool digest_verify(const struct sb_jwt *jwt, EVP_PKEY *key, const uint8_t *sig, size_t len)
{
    const EVP_MD *md = jwt->alg->digest ? EVP_get_digestbyname(jwt->alg->digest) : NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    bool ok;

    ok = ctx && EVP_DigestVerifyInit(ctx, &pctx, md, NULL, key) == 1 &&
         (jwt->alg->family != RSA_PSS ||
          (EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO) == 1)) &&
         EVP_DigestVerify(ctx, sig, len, (const uint8_t *)jwt->input.p, jwt->input.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return ok;
}

static bool by_key(const struct sb_jwt *jwt, EVP_PKEY *key)
{
    uint8_t *der = NULL;
    bool ok;
    int len;

    if (jwt->alg->family != ECDSA_RAW)
        return digest_verify(jwt, key, (const uint8_t *)jwt->signature.p, jwt->signature.len);
    len = to_der(jwt->signature, &der);
    ok = len > 0 && digest_verify(jwt, key, der, (size_t)len);
    OPENSSL_free(der);
    return ok;
}

enum sb_rc sb_jwt_verify(const struct sb_jwt *jwt, struct sb_jwt_keys *keys, struct sb_str key)
{
    EVP_PKEY *pkey;

    if (jwt->alg->signature_len && jwt->signature.len != jwt->alg->signature_len)
        return SB_DENIED;
    if (jwt->alg->family == HMAC_SECRET)
        return by_secret(jwt, key) ? SB_OK : SB_DENIED;
    pkey = public_key(keys, key);
    if (!pkey)
        return SB_INVALID;
    return key_fits(jwt->alg, pkey) && by_key(jwt, pkey) ? SB_OK : SB_DENIED;
}

/* -- claims -------------------------------------------------------------------------------------
 */

const char *sb_jwt_claim_check(const struct sb_jwt *jwt, struct sb_str claim, int64_t now_s)
{
    const struct sb_value *v = sb_object_get(jwt->claims, claim);

    if (!sb_is_number(v))
        return "must be a number";
    if (sb_str_is(claim, "exp") && sb_number(v) <= (double)now_s)
        return "token expired";
    if (sb_str_is(claim, "nbf") && sb_number(v) > (double)now_s)
        return "token not valid yet";
    return NULL;
}

bool sb_jwt_expires_within(const struct sb_jwt *jwt, int64_t now_s, int64_t max_s)
{
    const struct sb_value *v = sb_object_get(jwt->claims, SB_STR("exp"));

    return sb_is_number(v) && sb_number(v) - (double)now_s <= (double)max_s;
}
