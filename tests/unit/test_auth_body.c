/* Fields in bodies and queries: found, counted, and cut out, which writes the rest anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/plugins/auth/auth_body.h"

#define FORM "application/x-www-form-urlencoded"
#define PART(name, value)                                                                          \
    "--BB\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" value "\r\n"

static const struct {
    const char *type, *text;
    enum sb_auth_field found;
    const char *value, *without; /* without NULL: as it was */
} rows[] = {
    {FORM, "key=k&x=1", SB_FIELD_TEXT, "k", "x=1"},
    {FORM "; charset=utf-8", "a=%20&k%65y=a+b&&x", SB_FIELD_TEXT, "a b", "a=%20&x"},
    {FORM, "z=1&b=*/&key=k&a&z=0", SB_FIELD_TEXT, "k", "a&b=*%2F&z=1&z=0"},
    {FORM, "key=1&key=2", SB_FIELD_REPEATED, NULL, ""},
    {FORM, "key", SB_FIELD_OTHER, NULL, ""},
    {FORM, "akey=1", SB_FIELD_ABSENT, NULL, NULL},
    {FORM, "", SB_FIELD_ABSENT, NULL, NULL},
    {"application/json", "{\"key\":\"k\",\"n\":1}", SB_FIELD_TEXT, "k", "{\"n\":1}"},
    {"application/json", "{\"key\":5}", SB_FIELD_OTHER, NULL, "{}"},
    {"application/json", "{\"key\":[\"k\"]}", SB_FIELD_REPEATED, NULL, "{}"},
    {"application/json", "{\"key\":", SB_FIELD_ABSENT, NULL, NULL},
    {"application/json", "[\"key\" , []]", SB_FIELD_ABSENT, NULL, "[\"key\",[]]"},
    {"application/json", "{ \"u\": \"a/b\" }", SB_FIELD_ABSENT, NULL, "{\"u\":\"a\\/b\"}"},
    {"application/json", "\"key\"", SB_FIELD_ABSENT, NULL, NULL},
    {"text/plain", "key=k", SB_FIELD_ABSENT, NULL, NULL},
    {"multipart/form-data; boundary=BB", PART("key", "k") PART("x", "1") "--BB--\r\n",
     SB_FIELD_TEXT, "k", PART("x", "1") "--BB--\r\n"},
    {"multipart/form-data; boundary=\"BB\"", PART("x", "1") PART("key", "a\r\nb") "--BB--\r\n",
     SB_FIELD_TEXT, "a\r\nb", PART("x", "1") "--BB--\r\n"},
    {"multipart/form-data; boundary=BB", PART("key", "1") PART("key", "2") "--BB--",
     SB_FIELD_REPEATED, NULL, "--BB--\r\n"},
    {"multipart/form-data; boundary=BB", PART("z", "1") PART("key", "k") PART("a", "2") "--BB--",
     SB_FIELD_TEXT, "k", PART("a", "2") PART("z", "1") "--BB--\r\n"},
    {"multipart/form-data; boundary=BB", PART("key", "1"), SB_FIELD_ABSENT, NULL, NULL}, /* cut */
    {"multipart/form-data", PART("key", "1") "--BB--", SB_FIELD_ABSENT, NULL, NULL},
};

static void check(struct sb_str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.p, want, got.len);
}

static void fields(void **state)
{
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_auth_body body = {sb_str_c(rows[i].type), sb_str_c(rows[i].text)};
        struct sb_str value;

        assert_int_equal(sb_auth_body_find(a, &body, SB_STR("key"), &value), rows[i].found);
        if (rows[i].value)
            check(value, rows[i].value);
        check(sb_auth_body_without(a, &body, SB_STR("key")),
              rows[i].without ? rows[i].without : rows[i].text);
    }
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fields)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
