/* JSON Web Tokens: what is one, whose signature it bears, and whether it is still good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/ecdsa.h>
#include <openssl/encoder.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "dataplane/plugins/auth/jwt_token.h"
#include "shared/digest.h"

static struct sb_jwt_keys *keys;

static struct sb_str token_of(struct sb_arena *a, const char *header, const char *claims,
                              struct sb_str signature)
{
    struct sb_str h = sb_base64url_encode(a, sb_str_c(header));
    struct sb_str c = sb_base64url_encode(a, sb_str_c(claims));
    struct sb_str s = sb_base64url_encode(a, signature);

    return sb_arena_printf(a, "%.*s.%.*s.%.*s", SB_ARG(h), SB_ARG(c), SB_ARG(s));
}

static void taken_apart(void **state)
{
    static const struct {
        const char *header, *claims, *wrong;
    } rows[] = {
        {"{\"alg\":\"HS256\"}", "{}", NULL},
        {"{\"alg\":\"EdDSA\"}", "\"text\"", NULL},
        {"{\"alg\":\"none\"}", "{}", "invalid alg"},
        {"{\"alg\":\"hs256\"}", "{}", "invalid alg"},
        {"{\"alg\":5}", "{}", "invalid alg"},
        {"{}", "{}", "invalid alg"},
        {"\"x\"", "{}", "invalid alg"},
        {"{", "{}", "invalid JSON"},
        {"{\"alg\":\"HS256\"}", "", "invalid JSON"},
        {"{\"alg\":\"HS256\"}", "{} {}", "invalid JSON"},
        {"{\"alg\":\"HS256\"}", "null", "invalid claims"},
        {"{\"alg\":\"HS256\"}", "false", "invalid claims"},
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_jwt jwt;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str t = token_of(a, rows[i].header, rows[i].claims, SB_STR("s"));
        const char *wrong = sb_jwt_parse(a, t, &jwt);

        assert_string_equal(wrong ? wrong : "", rows[i].wrong ? rows[i].wrong : "");
    }
    assert_string_equal(sb_jwt_parse(a, SB_STR(""), &jwt), "invalid JSON");
    assert_string_equal(sb_jwt_parse(a, SB_STR("e30.e30"), &jwt), "invalid JSON");
    assert_string_equal(sb_jwt_parse(a, SB_STR(".."), &jwt), "invalid JSON");
    assert_string_equal(sb_jwt_parse(a, SB_STR("eyJhbGciOiJIUzI1NiJ9.e30.x.y"), &jwt),
                        "invalid signature");
    sb_arena_free(a);
}

static struct sb_str pem_of(struct sb_arena *a, EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct sb_str pem;
    char *p;
    long n;

    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    n = BIO_get_mem_data(bio, &p);
    pem = sb_arena_str(a, sb_str_n(p, (size_t)n));
    BIO_free(bio);
    return pem;
}

static EVP_PKEY *key_for(const char *alg)
{
    if (alg[0] == 'R' || alg[0] == 'P')
        return EVP_RSA_gen(2048);
    if (strcmp(alg, "EdDSA") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return EVP_EC_gen(alg[2] == '2' ? "P-256" : alg[2] == '3' ? "P-384" : "P-521");
}

static struct sb_str raw_ecdsa(struct sb_arena *a, const uint8_t *der, size_t len, int half)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    uint8_t *raw = sb_arena_alloc(a, (size_t)half * 2);

    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, half), half);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + half, half), half);
    ECDSA_SIG_free(sig);
    return sb_str_n((char *)raw, (size_t)half * 2);
}

static struct sb_str sign(struct sb_arena *a, const char *alg, EVP_PKEY *key, struct sb_str input)
{
    const char *name = alg[2] == '2' ? "SHA256" : alg[2] == '3' ? "SHA384" : "SHA512";
    const EVP_MD *md = alg[0] == 'E' && alg[1] == 'd' ? NULL : EVP_get_digestbyname(name);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx;
    uint8_t *out = sb_arena_alloc(a, 1024);
    size_t len = 1024;

    assert_int_equal(EVP_DigestSignInit(ctx, &pctx, md, NULL, key), 1);
    if (alg[0] == 'P')
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_DigestSign(ctx, out, &len, (const uint8_t *)input.p, input.len), 1);
    EVP_MD_CTX_free(ctx);
    if (alg[0] == 'E' && alg[1] == 'S')
        return raw_ecdsa(a, out, len, alg[2] == '2' ? 32 : alg[2] == '3' ? 48 : 66);
    return sb_str_n((char *)out, len);
}

/* Signs, verifies, and verifies again with a byte of the signature turned. */
static void round_trip(struct sb_arena *a, const char *alg, EVP_PKEY *key, struct sb_str pem)
{
    struct sb_str header = sb_arena_printf(a, "{\"alg\":\"%s\"}", alg);
    struct sb_str t = token_of(a, header.p, "{\"iss\":\"i\"}", SB_STR("")), sig;
    struct sb_jwt jwt;

    assert_null(sb_jwt_parse(a, t, &jwt));
    sig = sign(a, alg, key, jwt.input);
    t = token_of(a, header.p, "{\"iss\":\"i\"}", sig);
    assert_null(sb_jwt_parse(a, t, &jwt));
    assert_int_equal(sb_jwt_verify(&jwt, keys, pem), SB_OK);
    jwt.signature = sb_str_first(jwt.signature, jwt.signature.len - 1);
    assert_int_equal(sb_jwt_verify(&jwt, keys, pem), SB_DENIED);
    jwt.signature = sb_arena_str(a, sig);
    *(char *)(uintptr_t)(jwt.signature.p + 5) ^= 1;
    assert_int_equal(sb_jwt_verify(&jwt, keys, pem), SB_DENIED);
    assert_int_equal(sb_jwt_verify(&jwt, keys, SB_STR("no key")), SB_INVALID);
}

static void public_keys(void **state)
{
    static const char *const algs[] = {"RS256", "RS384", "RS512", "PS256", "PS384",
                                       "PS512", "ES256", "ES384", "ES512", "EdDSA"};
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof algs / sizeof *algs; i++) {
        EVP_PKEY *key = key_for(algs[i]);

        round_trip(a, algs[i], key, pem_of(a, key));
        EVP_PKEY_free(key);
    }
    sb_arena_free(a);
}

/* A private key will do, and an RSA key by itself. */
static void other_forms_of_keys(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    EVP_PKEY *key = key_for("RS256");
    struct sb_str pem[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        BIO *bio = BIO_new(BIO_s_mem());
        OSSL_ENCODER_CTX *e =
            OSSL_ENCODER_CTX_new_for_pkey(key, i ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR, "PEM",
                                          i ? "pkcs1" : "PrivateKeyInfo", NULL);
        char *p;
        long n;

        assert_int_equal(OSSL_ENCODER_to_bio(e, bio), 1);
        n = BIO_get_mem_data(bio, &p);
        pem[i] = sb_arena_str(a, sb_str_n(p, (size_t)n));
        BIO_free(bio);
        OSSL_ENCODER_CTX_free(e);
        round_trip(a, "RS256", key, pem[i]);
    }
    assert_true(sb_str_starts(pem[1], SB_STR("-----BEGIN RSA PUBLIC KEY")));
    EVP_PKEY_free(key);
    sb_arena_free(a);
}

/* A key of another kind is refused before it is asked. */
static void keys_of_the_wrong_kind(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    EVP_PKEY *ec = key_for("ES384");
    struct sb_str pem = pem_of(a, ec);
    char sig[64] = {1};
    struct sb_jwt jwt;

    (void)state;
    assert_null(sb_jwt_parse(a, token_of(a, "{\"alg\":\"RS256\"}", "{}", SB_STR("x")), &jwt));
    assert_int_equal(sb_jwt_verify(&jwt, keys, pem), SB_DENIED);
    assert_null(sb_jwt_parse(a, token_of(a, "{\"alg\":\"ES256\"}", "{}", sb_str_n(sig, 64)), &jwt));
    assert_int_equal(sb_jwt_verify(&jwt, keys, pem), SB_DENIED); /* P-384 under ES256 */
    EVP_PKEY_free(ec);
    sb_arena_free(a);
}

static void secrets(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_jwt jwt;

    (void)state;
    /* as recorded of Kong */
    assert_null(sb_jwt_parse(a,
                             SB_STR("eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9."
                                    "eyJpc3MiOiAiYWxpY2UtaXNzIn0."
                                    "d11dl2vJrGoeuNsFiCTh_tTS_7tGC3yeVZfFW-1KJw0"),
                             &jwt));
    assert_true(sb_jwt_alg_is_hmac(&jwt));
    assert_int_equal(sb_jwt_verify(&jwt, keys, SB_STR("sec")), SB_OK);
    assert_int_equal(sb_jwt_verify(&jwt, keys, SB_STR("Sec")), SB_DENIED);
    assert_int_equal(sb_jwt_verify(&jwt, keys, SB_STR("")), SB_DENIED);
    sb_arena_free(a);
}

static void claims(void **state)
{
    static const struct {
        const char *claims, *claim, *wrong;
    } rows[] = {
        {"{\"exp\":101}", "exp", NULL},
        {"{\"exp\":100}", "exp", "token expired"},
        {"{\"exp\":100.5}", "exp", NULL},
        {"{\"exp\":-1}", "exp", "token expired"},
        {"{\"exp\":\"101\"}", "exp", "must be a number"},
        {"{\"exp\":null}", "exp", "must be a number"},
        {"{}", "nbf", "must be a number"},
        {"\"x\"", "nbf", "must be a number"},
        {"{\"nbf\":100}", "nbf", NULL},
        {"{\"nbf\":101}", "nbf", "token not valid yet"},
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_jwt jwt;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *wrong;

        assert_null(
            sb_jwt_parse(a, token_of(a, "{\"alg\":\"HS256\"}", rows[i].claims, SB_STR("x")), &jwt));
        wrong = sb_jwt_claim_check(&jwt, sb_str_c(rows[i].claim), 100);
        assert_string_equal(wrong ? wrong : "", rows[i].wrong ? rows[i].wrong : "");
    }
    assert_null(
        sb_jwt_parse(a, token_of(a, "{\"alg\":\"HS256\"}", "{\"exp\":110}", SB_STR("x")), &jwt));
    assert_true(sb_jwt_expires_within(&jwt, 100, 10));
    assert_false(sb_jwt_expires_within(&jwt, 100, 9));
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_apart),
        cmocka_unit_test(public_keys),
        cmocka_unit_test(other_forms_of_keys),
        cmocka_unit_test(keys_of_the_wrong_kind),
        cmocka_unit_test(secrets),
        cmocka_unit_test(claims),
    };
    int failed;

    keys = sb_jwt_keys_new();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    sb_jwt_keys_free(keys);
    return failed;
}
