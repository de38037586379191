/* Array literals and identifiers; sessions are tested against real servers in tests/system. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "shared/pg.h"

static void arrays_parse(void **state)
{
    static const struct {
        const char *literal;
        int n; /* -1: refused */
        const char *items[4];
    } cases[] = {
        {"{}", 0, {0}},
        {"{a}", 1, {"a"}},
        {"{a,b,c}", 3, {"a", "b", "c"}},
        {"{\"\"}", 1, {""}},
        {"{\"a,b\",c}", 2, {"a,b", "c"}},
        {"{\"a\\\"b\",\"\\\\\"}", 2, {"a\"b", "\\"}},
        {"{a,NULL,\"NULL\"}", 3, {"a", NULL, "NULL"}},
        {"{\"}\",\"{\"}", 2, {"}", "{"}},
        {"", -1, {0}},
        {"{", -1, {0}},
        {"a", -1, {0}},
        {"{\"a}", -1, {0}},
        {"{\"a\\}", -1, {0}},
        {"{{a},{b}}", -1, {0}},
        {"{a}b}", -1, {0}},
        {"{\"a\"b}", -1, {0}},
        {"{a\\}", -1, {0}},
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str *items;
    size_t n;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool ok = sb_pg_array_parse(a, sb_str_c(cases[i].literal), &items, &n);

        if (ok != (cases[i].n >= 0))
            fail_msg("%s: %d", cases[i].literal, ok);
        if (!ok)
            continue;
        assert_int_equal(n, cases[i].n);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(items[k].p == NULL, cases[i].items[k] == NULL);
            assert_true(sb_str_eq(items[k], sb_str_c(cases[i].items[k])));
        }
    }
    sb_arena_free(a);
}

static void arrays_come_back(void **state)
{
    const struct sb_str in[] = {SB_STR(""), SB_STR("NULL"), SB_STR("a\"b\\c"), SB_STR("{x, y}")};
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str *out;
    size_t n;

    (void)state;
    assert_true(sb_pg_array_parse(a, sb_pg_array_text(a, in, 4), &out, &n));
    assert_int_equal(n, 4);
    for (size_t i = 0; i < n; i++)
        assert_true(sb_str_eq(in[i], out[i]));
    assert_true(sb_str_is(sb_pg_array_text(a, NULL, 0), "{}"));
    sb_arena_free(a);
}

static void identifiers_are_quoted(void **state)
{
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    assert_string_equal(sb_pg_ident(a, "kong").p, "\"kong\"");
    assert_string_equal(sb_pg_ident(a, "a\"; DROP").p, "\"a\"\"; DROP\"");
    sb_arena_free(a);
}

static void a_dead_server_is_an_error(void **state)
{
    struct sb_pg_config config = {.host = "127.0.0.1,/nonexistent",
                                  .port = 1,
                                  .user = "u",
                                  .database = "d",
                                  .password = "secret",
                                  .timeout_ms = 2000};
    struct sb_err err = {0};
    struct sb_pg *pg;

    (void)state;
    assert_int_equal(sb_pg_connect(&config, &pg, &err), SB_UNAVAILABLE);
    assert_non_null(strstr(err.text, "127.0.0.1:1"));
    assert_non_null(strstr(err.text, "/nonexistent"));
    assert_non_null(strstr(err.text, "as user 'u', database 'd'"));
    assert_null(strstr(err.text, "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_parse),
        cmocka_unit_test(arrays_come_back),
        cmocka_unit_test(identifiers_are_quoted),
        cmocka_unit_test(a_dead_server_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
