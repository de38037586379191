/* keys.c - certificates, private and public keys, JSON web keys, and the secrets that are stored as
 * hashes. Everything that OpenSSL hands out is released where it was taken. */
#include "schema/keys.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "schema/types.h"
#include "schema/validate.h"
#include "shared/digest.h"
#include "shared/json.h"

/* -- reading ----------------------------------------------------------------------------------- */

/* No passphrase is ever asked for. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static BIO *bio_of(struct sb_str s)
{
    return s.len < INT32_MAX ? BIO_new_mem_buf(s.len ? s.p : "", (int)s.len) : NULL;
}

/* The first certificate of a PEM text, or a DER one. */
static X509 *read_certificate(struct sb_str s)
{
    const unsigned char *der = (const unsigned char *)s.p;
    BIO *bio = bio_of(s);
    X509 *x = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);

    if (!x && s.len)
        x = d2i_X509(NULL, &der, (long)s.len);
    BIO_free(bio);
    return x;
}

static EVP_PKEY *read_private_key(struct sb_str s)
{
    BIO *bio = bio_of(s);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);

    BIO_free(bio);
    return key;
}

static EVP_PKEY *read_public_key(struct sb_str s)
{
    BIO *bio = bio_of(s);
    EVP_PKEY *key = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);

    BIO_free(bio);
    return key;
}

EVP_PKEY *sb_pem_key(struct sb_str pem)
{
    const unsigned char *p = (const unsigned char *)pem.p;
    size_t len = pem.len;
    EVP_PKEY *key = NULL;
    OSSL_DECODER_CTX *ctx = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM", NULL, NULL, 0, NULL, NULL);

    if (ctx && OSSL_DECODER_CTX_set_pem_password_cb(ctx, no_passphrase, NULL) == 1)
        (void)!OSSL_DECODER_from_data(ctx, &p, &len);
    OSSL_DECODER_CTX_free(ctx);
    ERR_clear_error();
    return key;
}

/* OpenSSL's last words, and its queue emptied. */
static const char *ssl_words(struct sb_schema_ctx *ctx)
{
    char words[256];
    unsigned long code = ERR_peek_last_error();

    ERR_clear_error();
    ERR_error_string_n(code, words, sizeof words);
    return sb_say(ctx, "%s", words);
}

const char *sb_check_certificate(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                 const struct sb_value *v)
{
    X509 *x = read_certificate(v->s);

    (void)f;
    if (!x)
        return sb_say(ctx, "invalid certificate: x509.new: %s", ssl_words(ctx));
    X509_free(x);
    ERR_clear_error();
    return NULL;
}

const char *sb_check_key(struct sb_schema_ctx *ctx, const struct sb_field *f,
                         const struct sb_value *v)
{
    EVP_PKEY *key = read_private_key(v->s);

    (void)f;
    if (!key)
        return sb_say(ctx, "invalid key: pkey.new:load_key: %s", ssl_words(ctx));
    EVP_PKEY_free(key);
    return NULL;
}

const char *sb_check_public_key(struct sb_schema_ctx *ctx, const struct sb_field *f,
                                const struct sb_value *v)
{
    EVP_PKEY *key = sb_pem_key(v->s);

    (void)ctx;
    (void)f;
    if (!key)
        return "invalid key";
    EVP_PKEY_free(key);
    return NULL;
}

/* -- certificates ------------------------------------------------------------------------------ */

static bool is_pair(struct sb_str cert, struct sb_str key)
{
    X509 *x = read_certificate(cert);
    EVP_PKEY *k = read_private_key(key);
    bool ok = x && k && X509_check_private_key(x, k) == 1;

    EVP_PKEY_free(k);
    X509_free(x);
    ERR_clear_error();
    return ok;
}

static void check_pair(struct sb_schema_ctx *ctx, const struct sb_value *entity, const char *cert,
                       const char *key, const char *text, struct sb_value *errors)
{
    const struct sb_value *c = sb_get(entity, cert), *k = sb_get(entity, key);

    if (!sb_is_nil(c) && !sb_is_nil(k) && !is_pair(c->s, k->s))
        sb_errors_entity(ctx->arena, errors, text);
}

void sb_check_certificate_pairs(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                                struct sb_value *errors)
{
    check_pair(ctx, entity, "cert", "key", "certificate does not match key", errors);
}

void sb_check_alternative_pairs(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                                struct sb_value *errors)
{
    check_pair(ctx, entity, "cert_alt", "key_alt", "alternative certificate does not match key",
               errors);
}

static int key_type(struct sb_str cert)
{
    X509 *x = read_certificate(cert);
    int type = x ? EVP_PKEY_base_id(X509_get0_pubkey(x)) : 0;

    X509_free(x);
    ERR_clear_error();
    return type;
}

void sb_check_alternative_types(struct sb_schema_ctx *ctx, const struct sb_value *entity,
                                struct sb_value *errors)
{
    const struct sb_value *cert = sb_get(entity, "cert"), *alt = sb_get(entity, "cert_alt");

    if (!sb_is_nil(cert) && !sb_is_nil(alt) && key_type(cert->s) == key_type(alt->s))
        sb_errors_entity(
            ctx->arena, errors,
            "certificate and alternative certificate need to have different type (e.g. "
            "RSA and ECDSA), the provided certificates were both of the same type");
}

void sb_check_ca(struct sb_schema_ctx *ctx, const struct sb_value *entity, struct sb_value *errors)
{
    static const struct sb_str begin = SB_STR_INIT("-----BEGIN CERTIFICATE-----");
    struct sb_str cert = sb_value_str_at(entity, "cert");
    ptrdiff_t first = sb_str_find(cert, begin, 0);
    const char *why = NULL;
    X509 *x;

    if (first >= 0 && sb_str_find(cert, begin, (size_t)first + 1) >= 0) {
        sb_errors_entity(ctx->arena, errors, "please submit only one certificate at a time");
        return;
    }
    x = read_certificate(cert);
    if (!x)
        return;
    if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
        why = "certificate expired, \"Not After\" time is in the past";
    else if (!(X509_get_extension_flags(x) & EXFLAG_CA))
        why = "certificate does not appear to be a CA because it is missing the \"CA\" basic "
              "constraint";
    X509_free(x);
    ERR_clear_error();
    if (why)
        sb_errors_entity(ctx->arena, errors, why);
}

void sb_digest_ca(struct sb_schema_ctx *ctx, struct sb_value *entity)
{
    X509 *x = read_certificate(sb_value_str_at(entity, "cert"));
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (x && X509_digest(x, EVP_sha256(), md, &len))
        sb_object_set(ctx->arena, entity, SB_STR("cert_digest"),
                      sb_value_str(ctx->arena, sb_hex(ctx->arena, md, len)));
    X509_free(x);
    ERR_clear_error();
}

/* -- keys -------------------------------------------------------------------------------------- */

const char *sb_check_pem(struct sb_schema_ctx *ctx, const struct sb_field *f,
                         const struct sb_value *v)
{
    const struct sb_value *pub = sb_get(v, "public_key"), *priv = sb_get(v, "private_key");
    EVP_PKEY *public_key = NULL, *private_key = NULL;
    const char *why = NULL;

    (void)f;
    if (sb_is_vault_reference(pub) || sb_is_vault_reference(priv))
        return NULL;
    if (sb_is(pub, SB_V_STR))
        public_key = read_public_key(pub->s);
    if (sb_is(priv, SB_V_STR))
        private_key = read_private_key(priv->s);
    if (!sb_is_nil(pub) && !public_key)
        why = "could not load public key";
    else if (!sb_is_nil(priv) && !private_key)
        why = sb_say(ctx, "could not load private key%s", ssl_words(ctx));
    else if (public_key && private_key && EVP_PKEY_eq(public_key, private_key) != 1)
        why = "public key does not match private key";
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(private_key);
    ERR_clear_error();
    return why;
}

/* A member in base64url, as bytes; false when it is absent or none. */
static bool jwk_bytes(struct sb_arena *a, const struct sb_value *jwk, const char *name,
                      struct sb_str *out)
{
    const struct sb_value *v = sb_get(jwk, name);
    char *s;

    if (!sb_is(v, SB_V_STR) || v->s.len == 0)
        return false;
    s = sb_arena_cstr(a, v->s);
    for (size_t i = 0; i < v->s.len; i++)
        s[i] = s[i] == '-' ? '+' : s[i] == '_' ? '/' : s[i];
    return sb_base64_decode(a, sb_str_n(s, v->s.len), out) && out->len > 0;
}

/* Collects the numbers of a key; they must live until it is built. */
struct jwk {
    struct sb_arena *arena;
    const struct sb_value *members;
    OSSL_PARAM_BLD *params;
    BIGNUM *numbers[8];
    int count;
};

static bool push_number(struct jwk *j, const char *member, const char *param)
{
    struct sb_str s;
    BIGNUM *n;

    if (!jwk_bytes(j->arena, j->members, member, &s) || s.len > 4096)
        return false;
    n = BN_bin2bn((const unsigned char *)s.p, (int)s.len, NULL);
    j->numbers[j->count++] = n;
    return OSSL_PARAM_BLD_push_BN(j->params, param, n) == 1;
}

static bool push_rsa(struct jwk *j)
{
    if (!push_number(j, "n", OSSL_PKEY_PARAM_RSA_N) || !push_number(j, "e", OSSL_PKEY_PARAM_RSA_E))
        return false;
    return !sb_get(j->members, "d") || push_number(j, "d", OSSL_PKEY_PARAM_RSA_D);
}

static bool push_ec(struct jwk *j)
{
    static const struct {
        const char *crv, *group;
        size_t len;
    } curves[] = {
        {"P-256", "prime256v1", 32}, {"P-384", "secp384r1", 48}, {"P-521", "secp521r1", 66}};
    struct sb_str crv = sb_value_str_at(j->members, "crv"), x, y;
    /* The builder keeps pointers to strings: they must live until the key is built. */
    unsigned char *point = sb_arena_zero(j->arena, 1 + 2 * 66);

    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        size_t n = curves[i].len;

        if (!sb_str_is(crv, curves[i].crv))
            continue;
        if (!jwk_bytes(j->arena, j->members, "x", &x) ||
            !jwk_bytes(j->arena, j->members, "y", &y) || x.len > n || y.len > n)
            return false;
        point[0] = POINT_CONVERSION_UNCOMPRESSED;
        memcpy(point + 1 + (n - x.len), x.p, x.len);
        memcpy(point + 1 + n + (n - y.len), y.p, y.len);
        return OSSL_PARAM_BLD_push_utf8_string(j->params, OSSL_PKEY_PARAM_GROUP_NAME,
                                               curves[i].group, 0) == 1 &&
               OSSL_PARAM_BLD_push_octet_string(j->params, OSSL_PKEY_PARAM_PUB_KEY, point,
                                                1 + 2 * n) == 1 &&
               (!sb_get(j->members, "d") || push_number(j, "d", OSSL_PKEY_PARAM_PRIV_KEY));
    }
    return false;
}

static bool push_okp(struct jwk *j)
{
    struct sb_str x;

    return jwk_bytes(j->arena, j->members, "x", &x) &&
           OSSL_PARAM_BLD_push_octet_string(j->params, OSSL_PKEY_PARAM_PUB_KEY, x.p, x.len) == 1;
}

/* OpenSSL's name of the algorithm, NULL when there is none for this key. */
static const char *algorithm(struct jwk *j)
{
    struct sb_str kty = sb_value_str_at(j->members, "kty"),
                  crv = sb_value_str_at(j->members, "crv");

    if (sb_str_is(kty, "RSA"))
        return push_rsa(j) ? "RSA" : NULL;
    if (sb_str_is(kty, "EC"))
        return push_ec(j) ? "EC" : NULL;
    if (!sb_str_is(kty, "OKP") || !push_okp(j))
        return NULL;
    return sb_str_is(crv, "Ed25519")  ? "ED25519"
           : sb_str_is(crv, "X25519") ? "X25519"
           : sb_str_is(crv, "Ed448")  ? "ED448"
           : sb_str_is(crv, "X448")   ? "X448"
                                      : NULL;
}

static bool jwk_loads(struct sb_arena *a, const struct sb_value *members)
{
    struct jwk j = {.arena = a, .members = members, .params = OSSL_PARAM_BLD_new()};
    const char *name = algorithm(&j);
    OSSL_PARAM *params = name ? OSSL_PARAM_BLD_to_param(j.params) : NULL;
    EVP_PKEY_CTX *ctx = params ? EVP_PKEY_CTX_new_from_name(NULL, name, NULL) : NULL;
    EVP_PKEY *key = NULL;
    bool ok = ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params) == 1;

    EVP_PKEY_free(key);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(j.params);
    for (int i = 0; i < j.count; i++)
        BN_clear_free(j.numbers[i]);
    ERR_clear_error();
    return ok;
}

#define TEXT(n)                                                                                    \
    {                                                                                              \
        .name = n, .type = SB_T_STRING                                                             \
    }
#define TEXTS(n)                                                                                   \
    {                                                                                              \
        .name = n, .type = SB_T_ARRAY, .elements = &sb_type_string                                 \
    }

static const struct sb_field jwk_fields[] = {
    TEXT("issuer"),   TEXT("kty"),  TEXT("use"),
    TEXTS("key_ops"), TEXT("alg"),  {.name = "kid", .type = SB_T_STRING, .flags = SB_F_REQUIRED},
    TEXT("x5u"),      TEXTS("x5c"), TEXT("x5t"),
    TEXT("x5t#S256"), TEXT("k"),    TEXT("x"),
    TEXT("y"),        TEXT("crv"),  TEXT("n"),
    TEXT("e"),        TEXT("d"),    TEXT("p"),
    TEXT("q"),        TEXT("dp"),   TEXT("dq"),
    TEXT("qi"),       TEXT("oth"),  TEXT("r"),
    TEXT("t"),        {0}};

void sb_check_jwk(struct sb_schema_ctx *ctx, const struct sb_value *entity, struct sb_value *errors)
{
    const struct sb_value *text = sb_get(entity, "jwk");
    struct sb_value *jwk, *record, *wrong;
    const char *why = NULL;

    if (sb_is_nil(text) || text->s.len == 0)
        return;
    if (sb_json_parse(ctx->arena, text->s, &jwk, NULL) || jwk->type != SB_V_OBJECT)
        why = "could not json decode jwk string";
    else if (!sb_value_equal(sb_get(jwk, "kid"), sb_get(entity, "kid")))
        why = "kid in jwk.kid must be equal to keys.kid";
    else if (!jwk_loads(ctx->arena, jwk))
        why = "could not load JWK, likely not a valid key";
    else if (sb_record_check(ctx, jwk_fields, jwk, &record, &wrong))
        why = sb_kong_lua_text(ctx->arena, wrong).p;
    if (why)
        sb_errors_entity(ctx->arena, errors, why);
}

/* -- secrets that are stored as hashes --------------------------------------------------------- */

void sb_hash_basic_password(struct sb_schema_ctx *ctx, struct sb_value *entity)
{
    struct sb_str password = sb_value_str_at(entity, "password");
    struct sb_str salted = sb_arena_printf(ctx->arena, "%.*s%.*s", SB_ARG(password),
                                           SB_ARG(sb_value_str_at(entity, "consumer.id")));
    uint8_t md[SB_SHA1_LEN];

    sb_sha1(salted, md);
    sb_object_set(ctx->arena, entity, SB_STR("password"),
                  sb_value_str(ctx->arena, sb_hex(ctx->arena, md, sizeof md)));
}

static struct sb_str base64_bare(struct sb_arena *a, const void *p, size_t len)
{
    struct sb_str s = sb_base64_encode(a, sb_str_n(p, len));

    while (s.len && s.p[s.len - 1] == '=')
        s.len--;
    return s;
}

/* $pbkdf2-sha512$i=10000,l=32$<salt>$<hash> */
void sb_hash_oauth2_secret(struct sb_schema_ctx *ctx, struct sb_value *entity)
{
    enum { ROUNDS = 10000, SALT_LEN = 16, HASH_LEN = 32 };
    struct sb_str secret = sb_value_str_at(entity, "client_secret"), text;
    unsigned char salt[SALT_LEN], hash[HASH_LEN];

    if (!sb_value_bool_at(entity, "hash_secret", false) || secret.len == 0 ||
        secret.len > INT32_MAX)
        return;
    sb_random(salt, sizeof salt);
    sb_assert(PKCS5_PBKDF2_HMAC(secret.p, (int)secret.len, salt, SALT_LEN, ROUNDS, EVP_sha512(),
                                HASH_LEN, hash) == 1);
    text = sb_arena_printf(ctx->arena, "$pbkdf2-sha512$i=%d,l=%d$%.*s$%.*s", ROUNDS, HASH_LEN,
                           SB_ARG(base64_bare(ctx->arena, salt, SALT_LEN)),
                           SB_ARG(base64_bare(ctx->arena, hash, HASH_LEN)));
    sb_object_set(ctx->arena, entity, SB_STR("client_secret"), sb_value_str(ctx->arena, text));
}
