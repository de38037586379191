/* What requests and responses are changed by: rules on objects, arguments and forms as such. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/plugins/args.h"
#include "dataplane/plugins/multipart.h"
#include "dataplane/plugins/transform/transform.h"
#include "shared/json.h"

static void is(struct sb_str got, const char *want)
{
    if (!sb_str_is(got, want))
        fail_msg("%.*s, not %s", SB_ARG(got), want);
}

/* -- rules -- */

static void rules(void **state)
{
    static const struct {
        const char *text, *name, *value;
    } rows[] = {
        {"a:b", "a", "b"},
        {"a", "a", NULL},
        {"a:", "a", NULL},
        {"a::b", "a", "b"},
        {"a:http://b:1", "a", "http://b:1"},
        {"a: b", "a", " b"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_rule r = sb_rule_of(a, sb_str_c(rows[i].text));

        is(r.name, rows[i].name);
        assert_int_equal(r.value.p != NULL, rows[i].value != NULL);
        is(r.value, rows[i].value);
    }
    sb_arena_free(a);
}

static void members(void **state)
{
    static const struct {
        const char *before;
        enum sb_verb verb;
        const char *after;
        bool changed;
    } rows[] = {
        {"{\"k\":1}", SB_REPLACE, "{\"k\":\"v\"}", true},
        {"{\"k\":null}", SB_REPLACE, "{\"k\":\"v\"}", true},
        {"{\"k\":false}", SB_REPLACE, "{\"k\":false}", false},
        {"{}", SB_REPLACE, "{}", false},
        {"{}", SB_ADD, "{\"k\":\"v\"}", true},
        {"{\"k\":false}", SB_ADD, "{\"k\":\"v\"}", true},
        {"{\"k\":null}", SB_ADD, "{\"k\":null}", false},
        {"{}", SB_APPEND, "{\"k\":[\"v\"]}", true},
        {"{\"k\":\"a\"}", SB_APPEND, "{\"k\":[\"a\",\"v\"]}", true},
        {"{\"k\":[1]}", SB_APPEND, "{\"k\":[1,\"v\"]}", true},
        {"{\"k\":{}}", SB_APPEND, "{\"k\":[\"v\"]}", true},
        {"{\"k\":{\"a\":1}}", SB_APPEND, "{\"k\":{\"a\":1,\"1\":\"v\"}}", true},
        {"{\"k\":5}", SB_APPEND, "{\"k\":[\"v\"]}", true},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_value *v;

        assert_int_equal(sb_json_parse(a, sb_str_c(rows[i].before), &v, NULL), SB_OK);
        assert_int_equal(sb_member_change(a, v, rows[i].verb, SB_STR("k"), sb_value_text(a, "v")),
                         rows[i].changed);
        is(sb_json_text(a, v, 0), rows[i].after);
    }
    sb_arena_free(a);
}

/* -- arguments -- */

static void arguments(void **state)
{
    static const struct {
        const char *text, *json, *back, *sorted;
    } rows[] = {
        {"b=1&a=2", "{\"b\":\"1\",\"a\":\"2\"}", "b=1&a=2", "a=2&b=1"},
        {"a=1&b=2&a=3&a", "{\"a\":[\"1\",\"3\",true],\"b\":\"2\"}", "a=1&a=3&a&b=2",
         "a=1&a=3&a&b=2"},
        {"x=%2Fa%20b+c", "{\"x\":\"/a b c\"}", "x=%2Fa%20b%20c", "x=%2Fa%20b%20c"},
        {"flag&empty=&&=none", "{\"flag\":true,\"empty\":\"\"}", "flag&empty=", "empty=&flag"},
        {"!'()*-._~=%00", "{\"!'()*-._~\":\"\\u0000\"}", "!'()*-._~=%00", "!'()*-._~=%00"},
        {"a%zz=%4", "{\"a%zz\":\"%4\"}", "a%25zz=%254", "a%25zz=%254"},
        {"", "{}", "", ""},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_value *v;

        assert_int_equal(sb_args_object(a, sb_str_c(rows[i].text), &v), SB_OK);
        is(sb_json_text(a, v, 0), rows[i].json);
        is(sb_args_text(a, v), rows[i].back);
        is(sb_args_text_sorted(a, v), rows[i].sorted);
    }
    sb_arena_free(a);
}

static void too_many_arguments(void **state)
{
    static char text[2 * (SB_ARGS_MAX + 1)];
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v;

    (void)state;
    for (size_t i = 0; i < sizeof text; i += 2)
        memcpy(text + i, "a&", 2);
    assert_int_equal(sb_args_object(a, sb_str_n(text, sizeof text - 2), &v), SB_OK);
    assert_int_equal(sb_args_object(a, sb_str_n(text, sizeof text), &v), SB_TOOLARGE);
    sb_arena_free(a);
}

/* -- forms -- */

#define PART(name, value)                                                                          \
    "--BB\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"
#define FILE_PART                                                                                  \
    "--BB\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\n"                   \
    "Content-Type: text/plain\r\n\r\nline\r\n--BBno\r\nmid--BB\r\n"

static void forms(void **state)
{
    static const struct {
        const char *text;
        enum sb_rc rc;
        const char *set, *removed; /* with x=new; without x */
    } rows[] = {
        {PART("a", "1") PART("x", "2") "--BB--\r\n", SB_OK,
         PART("a", "1") PART("x", "new") "--BB--\r\n", PART("a", "1") "--BB--\r\n"},
        {"preamble\r\n" PART("a", "1") "--BB--", SB_OK,
         PART("a", "1") PART("x", "new") "--BB--\r\n", PART("a", "1") "--BB--\r\n"},
        {PART("x", "1") PART("x", "2") "--BB--", SB_OK,
         PART("x", "1") PART("x", "new") "--BB--\r\n", ""},
        {"", SB_OK, PART("x", "new") "--BB--\r\n", ""},
        {PART("a", "1"), SB_INVALID, NULL, NULL},
        {"nothing", SB_INVALID, NULL, NULL},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_form f;

        assert_int_equal(sb_form_parse(a, SB_STR("multipart/form-data; boundary=BB"),
                                       sb_str_c(rows[i].text), &f),
                         rows[i].rc);
        if (rows[i].rc)
            continue;
        sb_form_set(a, &f, SB_STR("x"), SB_STR("new"));
        is(sb_form_text(a, &f), rows[i].set);
        assert_true(sb_form_remove(&f, SB_STR("x")) > 0);
        is(sb_form_text(a, &f), rows[i].removed);
    }
    sb_arena_free(a);
}

/* What is not touched stays as it came: files, and lines that only look like a boundary. */
static void a_file(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_form f;

    (void)state;
    assert_int_equal(sb_form_parse(a, SB_STR("multipart/form-data; boundary=\"BB\""),
                                   SB_STR(FILE_PART PART("a", "1") "--BB--\r\n"), &f),
                     SB_OK);
    (void)sb_form_remove(&f, SB_STR("a"));
    is(sb_form_text(a, &f), FILE_PART "--BB--\r\n");
    sb_form_add(a, &f, SB_STR("q\"\r\n"), SB_STR("v"));
    is(sb_form_text(a, &f), FILE_PART PART("q%22%0D%0A", "v") "--BB--\r\n");
    assert_int_equal(sb_form_parse(a, SB_STR("multipart/form-data"), SB_STR(""), &f), SB_INVALID);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules),     cmocka_unit_test(members),
        cmocka_unit_test(arguments), cmocka_unit_test(too_many_arguments),
        cmocka_unit_test(forms),     cmocka_unit_test(a_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
