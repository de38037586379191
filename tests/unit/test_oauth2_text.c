/* OAuth 2.0 as text: scopes, redirect URIs, challenges, hashed secrets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/plugins/auth/oauth2_text.h"
#include "schema/keys.h"
#include "shared/json.h"

static void check(struct sb_str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.p, want, got.len);
}

static void scopes(void **state)
{
    static const struct {
        const char *scope, *out, *wrong; /* out NULL: none */
    } rows[] = {
        {"email", "email", NULL},
        {" phone \t email ", "phone email", NULL},
        {"", NULL, NULL},
        {"  ", NULL, NULL},
        {"email zz phone", NULL, "zz"},
        {"Email", NULL, "Email"},
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *allowed;
    struct sb_str out, wrong;

    (void)state;
    assert_int_equal(sb_json_parse(a, SB_STR("[\"email\",\"phone\"]"), &allowed, NULL), SB_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool ok = sb_oauth2_scope(a, allowed, sb_str_c(rows[i].scope), &out, &wrong);

        assert_int_equal(ok, rows[i].wrong == NULL);
        if (!ok)
            check(wrong, rows[i].wrong);
        else if (rows[i].out)
            check(out, rows[i].out);
        else
            assert_null(out.p);
    }
    sb_arena_free(a);
}

static void redirects(void **state)
{
    static const struct {
        const char *uri, *parameters, *query, *fragment;
    } rows[] = {
        {"https://a/cb", "{\"state\":\"s t\",\"code\":\"c\"}", "https://a/cb?code=c&state=s%20t",
         "https://a/cb#code=c&state=s%20t"},
        {"https://a/cb?x=1", "{\"code\":\"c\"}", "https://a/cb?code=c&x=1",
         "https://a/cb?x=1#code=c"},
        {"https://a/cb?x=a%2Cb&code=old&y", "{\"code\":\"c\"}",
         "https://a/cb?code=c&x=a%2cb&y=true", "https://a/cb?x=a%2Cb&code=old&y#code=c"},
        {"app:back#old=1", "{\"n\":7200,\"a-b\":\"\"}", "app:back?a-b&n=7200#old=1",
         "app:back#a-b&n=7200&old=1"},
        {"https://a/cb?b=1&b&b=3&a=", "{\"state\":\"\"}",
         "https://a/cb?a&b%5b1%5d=1&b%5b2%5d=true&b%5b3%5d=3&state",
         "https://a/cb?b=1&b&b=3&a=#state"},
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *parameters;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(sb_json_parse(a, sb_str_c(rows[i].parameters), &parameters, NULL), SB_OK);
        check(sb_oauth2_redirect(a, sb_str_c(rows[i].uri), parameters, false), rows[i].query);
        check(sb_oauth2_redirect(a, sb_str_c(rows[i].uri), parameters, true), rows[i].fragment);
    }
    sb_arena_free(a);
}

static void challenges(void **state)
{
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    check(sb_oauth2_challenge(a, SB_STR("a+b/c==")), "a-b_c");
    /* RFC 7636, appendix B */
    assert_true(sb_oauth2_verifier_fits(a, SB_STR("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
                                        SB_STR("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")));
    assert_false(sb_oauth2_verifier_fits(a, SB_STR("eBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
                                         SB_STR("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")));
    assert_false(sb_oauth2_verifier_fits(a, SB_STR("x"), SB_STR("")));
    sb_arena_free(a);
}

/* What the schema stores on write is what is recognised here. */
static void hashes(void **state)
{
    static const char *const broken[] = {
        "$pbkdf2-sha512$",
        "$pbkdf2-sha512$i=10000,l=32$AAAA",
        "$pbkdf2-sha512$i=10000,l=32$AAAA$AAAA",
        "$pbkdf2-sha512$i=99999999,l=3$AAAA$AAAA",
        "$pbkdf2-sha512$i=0,l=3$AAAA$AAAA",
        "$pbkdf2-sha512$i=x,l=3$AAAA$AAAA",
    };
    struct sb_schema_ctx ctx = {.arena = sb_arena_new(0)};
    struct sb_value *row;
    struct sb_str stored;
    bool current;

    (void)state;
    assert_int_equal(sb_json_parse(ctx.arena,
                                   SB_STR("{\"client_secret\":\"clsec\",\"hash_secret\":true}"),
                                   &row, NULL),
                     SB_OK);
    sb_hash_oauth2_secret(&ctx, row);
    stored = sb_value_str_at(row, "client_secret");
    assert_true(sb_oauth2_hash_fits(ctx.arena, stored, SB_STR("clsec"), &current));
    assert_true(current);
    assert_false(sb_oauth2_hash_fits(ctx.arena, stored, SB_STR("clsec2"), &current));
    assert_false(sb_oauth2_hash_fits(ctx.arena, SB_STR("clsec"), SB_STR("clsec"), &current));
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        assert_false(
            sb_oauth2_hash_fits(ctx.arena, sb_str_c(broken[i]), SB_STR("clsec"), &current));
    sb_arena_free(ctx.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scopes),
        cmocka_unit_test(redirects),
        cmocka_unit_test(challenges),
        cmocka_unit_test(hashes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
