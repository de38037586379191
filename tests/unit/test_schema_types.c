/* clang-format off: version 14 falls over tables of strings that go on over lines */
/* Hosts, addresses, URLs and paths as Kong takes them apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schema/hostname.h"
#include "schema/uri.h"

static void hosts(void **state)
{
    static const struct {
        const char *text, *host; /* NULL: refused, with why */
        int port;
        const char *why;
    } rows[] = {
        {"a.Test", "a.Test", -1, NULL},
        {"a.test.:80", "a.test.", 80, NULL},
        {"a_b-c.d", "a_b-c.d", -1, NULL},
        {"a-.b", NULL, 0, "invalid hostname: "},
        {"a..b", NULL, 0, "invalid hostname: "},
        {".", NULL, 0, "invalid ipv4 address: "},
        {"", NULL, 0, "invalid hostname: "},
        {"a b", NULL, 0, "invalid hostname: "},
        {"a:65536", NULL, 0, "invalid port number"},
        {"a:x", NULL, 0, "invalid hostname: "},
        {"001.2.3.004:80", "1.2.3.4", 80, NULL},
        {"1.2.3", NULL, 0, "invalid ipv4 address: "},
        {"1.2.3.256", NULL, 0, "invalid ipv4 address: "},
        {"1.2.3.4.5", NULL, 0, "invalid ipv4 address: "},
        {"1.2.3.0004", NULL, 0, "invalid ipv4 address: "},
        {"::1", "[0000:0000:0000:0000:0000:0000:0000:0001]", -1, NULL},
        {"[FE80::1]:8443", "[fe80:0000:0000:0000:0000:0000:0000:0001]", 8443, NULL},
        {"[::1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", -1, NULL},
        {"[::1]x", NULL, 0, "invalid ipv6 address: "},
        {"[::1", NULL, 0, "invalid ipv6 address: "},
        {"1::2::3", NULL, 0, "invalid ipv6 address: "},
        {"::ffff:1.2.3.4", NULL, 0, "invalid ipv6 address: "},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_host h;
        const char *why = "";
        bool ok = sb_host_read(a, sb_str_c(rows[i].text), &h, &why);

        if (ok != (rows[i].host != NULL))
            fail_msg("%s: %d", rows[i].text, ok);
        if (!ok) {
            assert_string_equal(why, rows[i].why);
            continue;
        }
        assert_true(sb_str_is(h.host, rows[i].host));
        assert_int_equal(h.port, rows[i].port);
    }
    sb_arena_free(a);
}

static void addresses(void **state)
{
    static const struct {
        const char *text;
        bool ip, cidr, v4;
    } rows[] = {
        {"1.2.3.4", true, true, true},       {"1.2.3.0/24", false, true, true},
        {"1.2.3.0/33", false, false, false}, {"::1", true, true, false},
        {"fe80::/128", false, true, false},  {"fe80::/129", false, false, false},
        {"1.2.3.4/", false, false, false},   {"a", false, false, false},
        {"", false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str s = sb_str_c(rows[i].text);

        assert_int_equal(sb_ip_valid(s, false, false), rows[i].ip);
        assert_int_equal(sb_ip_valid(s, true, false), rows[i].cidr);
        assert_int_equal(sb_ip_valid(s, true, true), rows[i].v4);
    }
}

static void urls(void **state)
{
    static const struct {
        const char *text, *scheme, *host, *port, *path, *fragment;
    } rows[] = {
        {"http://u:p@a.test:81/x;y?q#f", "http", "a.test", "81", "/x", "f"},
        {"https://[::1]:1/", "https", "::1", "1", "/", NULL},
        {"https://[::1]/", "https", "::1", NULL, "/", NULL},
        {"//a", NULL, "a", NULL, NULL, NULL},
        {"a.test", NULL, NULL, NULL, "a.test", NULL},
        {"userdata: NULL", "userdata", NULL, NULL, " NULL", NULL},
        {"", NULL, NULL, NULL, NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_url u;

        sb_url_split(sb_str_c(rows[i].text), &u);
        assert_true(sb_str_is(u.scheme, rows[i].scheme));
        assert_true(sb_str_is(u.host, rows[i].host));
        assert_true(sb_str_is(u.port, rows[i].port));
        assert_true(sb_str_is(u.path, rows[i].path));
        assert_true(sb_str_is(u.fragment, rows[i].fragment));
    }
}

static void paths(void **state)
{
    static const struct {
        const char *path, *normal, *upgraded;
    } rows[] = {
        {"/", "/", "/"},
        {"/a/./b/../c/", "/a/c/", "/a/c/"},
        {"/..", "/", "/"},
        {"/a//b", "/a/b", "/a/b"},
        {"/%41%2f%3A", "/A%2F%3A", "/A%2F%3A"},
        {"/a/..", "/", "/"},
        {"/a.", "/a.", "/a."},
        {"/\\d+", "/\\d+", "~/\\d+"},
        {"/(a)%2e%20%2f", "/(a). %2F", "~/(a)\\. %2F"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_string_equal(sb_path_normal(a, sb_str_c(rows[i].path)).p, rows[i].normal);
        assert_string_equal(sb_path_upgrade(a, sb_str_c(rows[i].path)).p, rows[i].upgraded);
    }
    assert_true(sb_str_is(sb_path_bad_escape(SB_STR("/%20%zzx")), "%zz"));
    assert_true(sb_str_is(sb_path_bad_escape(SB_STR("/%2")), "%2"));
    assert_null(sb_path_bad_escape(SB_STR("/%2f")).p);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts),
        cmocka_unit_test(addresses),
        cmocka_unit_test(urls),
        cmocka_unit_test(paths),
    };

    return cmocka_run_group_tests_name("schema types", tests, NULL, NULL);
}
