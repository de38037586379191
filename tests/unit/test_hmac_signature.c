/* HMAC signatures: what is signed, under which names, and the body's digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataplane/plugins/auth/hmac_signature.h"

static struct sb_str header(void *arg, struct sb_str name)
{
    static const struct {
        struct sb_str name, value;
    } rows[] = {
        {SB_STR_INIT("date"), SB_STR_INIT("Thu, 22 Jun 2017 17:15:21 GMT")},
        {SB_STR_INIT("x-long"), SB_STR_INIT("0123456789012345678901234567890123456789")},
    };

    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (sb_str_ieq(rows[i].name, name))
            return rows[i].value;
    return (struct sb_str){0};
}

static const struct sb_hmac_subject subject = {
    .method = SB_STR_INIT("GET"),
    .target = SB_STR_INIT("/plain?b=2&a=%201"),
    .version = SB_STR_INIT("1.1"),
    .header = header,
};

/* As recorded of Kong, with alice's secret. */
static void recorded(void **state)
{
    static const struct {
        const char *algorithm, *headers, *signature;
        bool good;
    } rows[] = {
        {"hmac-sha256", "date", "pWh7suBLyjwlokBwUYuq6eM8fECT5On0v+bigd5EHRA=", true},
        {"hmac-sha256", "Date", "I0ybh39360p6HVdvBdQfc26w11CrwcQPAAZkJgvsVOI=", true},
        {"hmac-sha256", "Date", "pWh7suBLyjwlokBwUYuq6eM8fECT5On0v+bigd5EHRA=", false},
        {"hmac-sha1", "date", "P93q45GkZZliCzy9nmJ9lfGJLhw=", true},
        {"hmac-sha512", "date",
         "5m773SJ5f1qpdInPsqZ+1wQL8hltWBBWfpbF1l+6X/"
         "d0NHj40LjQVaho+2oEx/9XeADkkGX2vMscd3C9dPhEog==",
         true},
        {"hmac-sha256", "date request-line", "65x0Z5zjUb7KYrjIFrHcrhX7B4pMAyWU0x+sVoqopSA=", true},
        {"hmac-sha256", "date x-none", "syrdWtI9GmGJpyJBJtSx9TKwddphXeGQnINERgDmQTA=", true},
        {"hmac-sha256", "date", "@@@", false},
        {"hmac-md5", "date", "pWh7suBLyjwlokBwUYuq6eM8fECT5On0v+bigd5EHRA=", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_hmac_words w = {.algorithm = sb_str_c(rows[i].algorithm),
                                  .headers = sb_str_c(rows[i].headers),
                                  .signature = sb_str_c(rows[i].signature)};

        assert_int_equal(sb_hmac_matches(&w, SB_STR("alice-secret"), &subject), rows[i].good);
    }
    assert_true(sb_hmac_known(SB_STR("hmac-sha384")));
    assert_false(sb_hmac_known(SB_STR("HMAC-SHA256")));
}

/* A list that names a header ten thousand times is refused, not signed. */
static void limit(void **state)
{
    enum { TIMES = 40000 };
    char *names = sb_xmalloc(TIMES * 7);
    struct sb_hmac_words w = {.algorithm = SB_STR("hmac-sha256"), .signature = SB_STR("AAAA")};

    (void)state;
    for (size_t i = 0; i < TIMES; i++)
        memcpy(names + i * 7, "x-long ", 7);
    w.headers = sb_str_n(names, TIMES * 7);
    assert_false(sb_hmac_matches(&w, SB_STR("alice-secret"), &subject));
    free(names);
}

static void digests(void **state)
{
    static const struct {
        const char *digest, *body;
        bool good;
    } rows[] = {
        {"SHA-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "hello", true},
        {"sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "hello", false},
        {"SHA-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "Hello", false},
        {"SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "", true},
        {NULL, "", true},
        {NULL, "hello", false},
        {"", "", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str digest = rows[i].digest ? sb_str_c(rows[i].digest) : (struct sb_str){0};

        assert_int_equal(sb_hmac_digest_matches(digest, sb_str_c(rows[i].body)), rows[i].good);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded),
        cmocka_unit_test(limit),
        cmocka_unit_test(digests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
