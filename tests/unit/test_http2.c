/* HTTP/2's own pieces: heads that come and go in fields, bytes that wait for frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataplane/http/h2_fields.h"
#include "dataplane/http/h2_wire.h"

/* -- text to fields -- */

static const struct {
    const char *head;
    bool host;
    const char *fields;
} heads[] = {
    {"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\n\r\n", false, "A=1|B=2|"},
    {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nA: b:c \r\n\r\n",
     false, "A=b:c|"},
    {"HTTP/1.1 200 OK\r\nupgrade: x\r\nKEEP-ALIVE: 1\r\nProxy-Connection: x\r\nE:\r\n\r\n", false,
     "E=|"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", false, "X=y|"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", true, "Host=a|X=y|"},
    {"HTTP/1.1 204 No Content\r\n\r\n", false, ""},
    {"HTTP/1.1 200 OK\r\nA: 1\nB: 2\n\n", false, "A=1|B=2|"}, /* lines that passed as they came */
};

static void text_becomes_fields(void **state)
{
    char out[256];

    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct sb_h2_fields *f = sb_h2_fields();
        size_t at = 0;

        sb_h2_field_lines(f, sb_str_c(heads[i].head), heads[i].host);
        out[0] = '\0';
        for (size_t k = 0; k < f->n; k++)
            at += (size_t)snprintf(out + at, sizeof out - at, "%.*s=%.*s|", (int)f->nv[k].namelen,
                                   (const char *)f->nv[k].name, (int)f->nv[k].valuelen,
                                   (const char *)f->nv[k].value);
        assert_string_equal(out, heads[i].fields);
        assert_false(f->full);
    }
}

static void ids_stay_out_of_the_table(void **state)
{
    struct sb_h2_fields *f = sb_h2_fields();

    (void)state;
    sb_h2_field(f, SB_STR("X-Kong-Request-Id"), SB_STR("0123"));
    sb_h2_field(f, SB_STR("X-Kong-Proxy-Latency"), SB_STR("0"));
    assert_int_equal(f->nv[0].flags, NGHTTP2_NV_FLAG_NO_INDEX);
    assert_int_equal(f->nv[1].flags, NGHTTP2_NV_FLAG_NONE);
    for (size_t i = 0; i < SB_H2_FIELDS_MAX; i++)
        sb_h2_field(f, SB_STR("a"), SB_STR("b"));
    assert_true(f->full);
    assert_int_equal(f->n, SB_H2_FIELDS_MAX);
}

/* -- fields to heads -- */

static struct sb_router_header headers[4];
static uint8_t ids[4];

static struct sb_http_head fresh(void)
{
    return (struct sb_http_head){.headers = headers, .ids = ids, .headers_max = 4};
}

static const struct {
    const char *method, *target;
    int result;
    const char *path;
} targets[] = {
    {"GET", "/a?b", 0, "/a"},       {"get", "/", 400, NULL},     {"", "/", 400, NULL},
    {"GET", "", 400, NULL},         {"GET", "a", 400, NULL},     {"GET", "/a b", 400, NULL},
    {"GET", "/\x01", 400, NULL},    {"GET", "/../x", 400, NULL}, {"OPTIONS", "*", 400, NULL},
    {"CONNECT", "a:80", 405, NULL}, {"TRACE", "/", 405, NULL},
};

static void targets_are_judged_as_in_http1(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        struct sb_http_head h = fresh();

        assert_int_equal(
            sb_http_set_target(&h, sb_str_c(targets[i].method), sb_str_c(targets[i].target)),
            targets[i].result);
        if (targets[i].path)
            assert_true(sb_str_is(h.path, targets[i].path));
    }
}

static const struct {
    const char *name, *value;
    int result;
    size_t kept;
} fields[] = {
    {"x-a", "1", 0, 1},
    {"x_a", "1", 0, 1},
    {"dotted.name", "1", 0, 0},
    {"content_length", "1", 0, 0},
    {"with space", "1", 400, 0},
    {"with:colon", "1", 400, 0},
    {"host", "a.test", 0, 1},
    {"host", "a/b", 400, 1},
    {"content-length", "12", 0, 1},
    {"content-length", "1x", 400, 1},
};

static void fields_are_judged_as_lines_are(void **state)
{
    struct sb_http_head h;

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        h = fresh();
        assert_int_equal(
            sb_http_add_field(&h, sb_str_c(fields[i].name), sb_str_c(fields[i].value), true),
            fields[i].result);
        assert_int_equal(h.nheaders, fields[i].kept);
    }
    h = fresh();
    assert_int_equal(sb_http_add_field(&h, SB_STR("host"), SB_STR("a"), true), 0);
    assert_int_equal(sb_http_add_field(&h, SB_STR("host"), SB_STR("a"), true), 400);
    h = fresh();
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sb_http_add_field(&h, SB_STR("a"), SB_STR("b"), false), 0);
    assert_int_equal(sb_http_add_field(&h, SB_STR("a"), SB_STR("b"), false), 494);
}

/* -- bytes -- */

static void bytes_are_taken_from_the_front(void **state)
{
    struct sb_h2_bytes b = {0};

    (void)state;
    sb_h2_bytes_add(&b, "abc", 3);
    b.at = 2;
    sb_h2_bytes_trim(&b);
    assert_int_equal(sb_h2_bytes_left(&b), 1);
    sb_h2_bytes_add(&b, "def", 3);
    assert_memory_equal(b.p + b.at, "cdef", 4);
    b.at = b.len;
    sb_h2_bytes_trim(&b);
    assert_int_equal(b.len, 0);
    free(b.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_becomes_fields),
        cmocka_unit_test(ids_stay_out_of_the_table),
        cmocka_unit_test(targets_are_judged_as_in_http1),
        cmocka_unit_test(fields_are_judged_as_lines_are),
        cmocka_unit_test(bytes_are_taken_from_the_front),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
