/* YAML in and out: scalars, anchors and merge keys, limits, the spelling of what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "shared/json.h"
#include "shared/yaml.h"

static void reads(void **state)
{
    static const struct {
        const char *yaml, *json;
    } rows[] = {
        {"", "null"},
        {"a: 1", "{\"a\":1}"},
        {"[~, null, Null, , '']", NULL},
        {"[~, null, NULL, '']", "[null,null,null,\"\"]"},
        {"[true, True, FALSE, yes, no, on, off, y]",
         "[true,true,false,\"yes\",\"no\",\"on\",\"off\",\"y\"]"},
        {"[1, -1, +2, 0x1F, 017, 0o17, 0b11, 1_000, 08]", "[1,-1,2,31,15,15,3,1000,8]"},
        {"[1.5, .5, 1., 1e3, -2.5e-1, 1.2.3, 1-2, '1']",
         "[1.5,0.5,1,1000,-0.25,\"1.2.3\",\"1-2\",\"1\"]"},
        {"[9223372036854775807, -9223372036854775808, 2020-01-01, 12:30]",
         "[9223372036854775807,-9223372036854775808,\"2020-01-01\",\"12:30\"]"},
        {"[!!str 1, !!int '2', !foo 3]", "[\"1\",2,\"3\"]"},
        {"a: &x {b: 1}\nc: *x", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}"},
        {"x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  a: 3",
         "{\"x\":{\"a\":1,\"b\":2},\"y\":{\"a\":3,\"b\":2}}"},
        {"p: &p {a: 1}\nq: &q {a: 2, b: 2}\nr: {<<: [*p, *q], c: 3}",
         "{\"p\":{\"a\":1},\"q\":{\"a\":2,\"b\":2},\"r\":{\"c\":3,\"a\":1,\"b\":2}}"},
        {"a: 1\na: 2", "{\"a\":2}"},
        {"1: a\nnull: b", "{\"1\":\"a\",\"null\":\"b\"}"},
        {"a: |\n  x\n  y\nb: >-\n  x\n  y", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\"}"},
        {"{\"a\": [1, {\"b\": null}]}", "{\"a\":[1,{\"b\":null}]}"},
        {"- a\n- [b", NULL},
        {"a: *nope", NULL},
        {"a: &a [*a]", NULL},
        {"? [a]\n: b", NULL},
        {"<<: 1", NULL},
        {"a: \t- b\n\tc", NULL},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_value *v;
        struct sb_err err = {0};
        enum sb_rc rc = sb_yaml_parse(a, sb_str_c(rows[i].yaml), &v, &err);

        if (!rows[i].json) {
            if (rc == SB_OK)
                fail_msg("%s is read as %s", rows[i].yaml, sb_json_text(a, v, 0).p);
            assert_non_null(strstr(err.text, "invalid YAML in document 1 at "));
            continue;
        }
        if (rc)
            fail_msg("%s: %s", rows[i].yaml, err.text);
        assert_string_equal(sb_json_text(a, v, 0).p, rows[i].json);
    }
    sb_arena_free(a);
}

static void large_mappings_keep_the_last_of_equal_keys(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v;
    struct sb_buf b;

    (void)state;
    sb_buf_init(&b, 0);
    for (int i = 0; i < 40000; i++)
        sb_buf_printf(&b, "k%d: %d\n", i % 20000, i);
    assert_int_equal(sb_yaml_parse(a, sb_buf_get(&b), &v, NULL), SB_OK);
    assert_int_equal(v->count, 20000);
    assert_int_equal(v->members[7].value->i, 20007);
    sb_buf_release(&b);
    sb_arena_free(a);
}

static void has_limits(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v;
    struct sb_err err;
    struct sb_buf b;

    (void)state;
    sb_buf_init(&b, 0);
    sb_buf_cstr(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 9; i++)
        sb_buf_printf(&b, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i,
                      i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    assert_int_equal(sb_yaml_parse(a, sb_buf_get(&b), &v, &err), SB_TOOLARGE);
    sb_buf_clear(&b);
    for (int i = 0; i < 5000; i++)
        sb_buf_char(&b, '[');
    assert_int_equal(sb_yaml_parse(a, sb_buf_get(&b), &v, &err), SB_TOOLARGE);
    sb_buf_clear(&b);
    sb_buf_cstr(&b, "a0: &a0 []\n");
    for (int i = 1; i < 200; i++)
        sb_buf_printf(&b, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    assert_int_equal(sb_yaml_parse(a, sb_buf_get(&b), &v, &err), SB_TOOLARGE);
    sb_buf_release(&b);
    sb_arena_free(a);
}

static void reads_all_documents(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v;
    struct sb_err err;

    (void)state;
    assert_int_equal(
        sb_yaml_parse_all(a, SB_STR("---\n# none\n---\na: 1\n---\n...\n---\nb: 2\n"), &v, &err),
        SB_OK);
    assert_string_equal(sb_json_text(a, v, 0).p, "[{\"a\":1},{\"b\":2}]");
    assert_int_equal(sb_yaml_parse_all(a, SB_STR("a: 1\n---\nb: [\n"), &v, &err), SB_INVALID);
    assert_non_null(strstr(err.text, "document 2 at line 4"));
    sb_arena_free(a);
}

static void writes(void **state)
{
    static const struct {
        const char *json, *yaml;
    } rows[] = {
        {"{\"b\":[1,{\"d\":2,\"c\":null}],\"a\":{}}", "a: {}\nb:\n- 1\n- c: null\n  d: 2\n"},
        {"{\"_f\":\"3.0\",\"A\":1,\"k10\":1,\"k9\":1,\"a-b\":1,\"a.b\":1}",
         "_f: \"3.0\"\nA: 1\na-b: 1\na.b: 1\nk9: 1\nk10: 1\n"},
        {"[\"yes\",\"null\",\"~\",\"\",\"1\",\"0x1\",\"1:30\",\"2020-01-01\",\"a: b\",\"- "
         "a\",\"#x\",\"*x\"]",
         "- \"yes\"\n- \"null\"\n- \"~\"\n- \"\"\n- \"1\"\n- \"0x1\"\n- \"1:30\"\n- "
         "\"2020-01-01\"\n"
         "- 'a: b'\n- '- a'\n- '#x'\n- '*x'\n"},
        {"[\"10.0.0.1:80\",\"a:b\",\"/x\",\"~/x\",\"1.2.3\",\"\\u00e9\"]",
         "- 10.0.0.1:80\n- a:b\n- /x\n- ~/x\n- 1.2.3\n- \u00e9\n"},
        {"{\"p\":\"a\\nb\",\"q\":\"a\\nb\\n\",\"r\":\"a\\n\\n\"}",
         "p: |-\n  a\n  b\nq: |\n  a\n  b\nr: |+\n  a\n\n"},
        {"[57178899677185,1.5,-0.25,1e300,[[1]],[]]",
         "- 57178899677185\n- 1.5\n- -0.25\n- 1e+300\n- - - 1\n- []\n"},
        {"\"x\"", "x\n"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_value *v;
        struct sb_buf b;

        assert_int_equal(sb_json_parse(a, sb_str_c(rows[i].json), &v, NULL), SB_OK);
        sb_buf_init(&b, 0);
        sb_yaml_write(&b, v);
        sb_buf_char(&b, '\0');
        assert_string_equal(b.p, rows[i].yaml);
        sb_buf_release(&b);
    }
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),      cmocka_unit_test(large_mappings_keep_the_last_of_equal_keys),
        cmocka_unit_test(has_limits), cmocka_unit_test(reads_all_documents),
        cmocka_unit_test(writes),
    };

    return cmocka_run_group_tests_name("yaml", tests, NULL, NULL);
}
