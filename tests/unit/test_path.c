/* Paths: the normal form that routes are matched against, and the path the upstream gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/router/router.h"

static void normal_form(void **state)
{
    static const struct {
        const char *path, *normal; /* NULL: as it is, and nothing is copied */
    } rows[] = {
        {"/", NULL},
        {"", NULL},
        {"/foo", NULL},
        {"/foo/", NULL},
        {"/foo//bar", "/foo/bar"},
        {"//foo/bar", "/foo/bar"},
        {"/foo///", "/foo/"},
        {"//", "/"},
        {"/foo/./bar", "/foo/bar"},
        {"/foo/a/../bar", "/foo/bar"},
        {"/foo/..", "/"},
        {"/foo/.", "/foo/"},
        {"/foo/bar/..", "/foo/"},
        {"/..", "/"},
        {"/../..", "/"},
        {"/../../x", "/x"},
        {"/a/b/../../../c", "/c"},
        {"/a//../b", "/b"},
        {"/a/..//b", "/b"},
        {"/.//.././/x", "/x"},
        {"/foo.", NULL},
        {"/foo..", NULL},
        {"/foo/...", NULL},
        {"/foo/.bar", NULL},
        {"/foo/..bar", NULL},
        {"/%66oo", "/foo"},
        {"/fo%6F", "/foo"},
        {"/foo%2fbar", "/foo%2Fbar"},
        {"/foo%2Fbar", NULL},
        {"/foo/%2e%2e/bar", "/bar"},
        {"/foo/%2e", "/foo/"},
        {"/foo%2e%2e/bar", "/foo../bar"},
        {"/foo/%2e%2e%2fbar", "/foo/..%2Fbar"},
        {"/a%2f..%2fb", "/a%2F..%2Fb"},
        {"/foo%20bar", "/foo bar"},
        {"/foo%7Bbar%7D", "/foo{bar}"},
        {"/foo%22", "/foo\""},
        {"/foo%5c", "/foo\\"},
        {"/foo%25bar", NULL},
        {"/foo%2525", NULL},
        {"/foo%3a", "/foo%3A"},
        {"/foo%40", NULL},
        {"/foo%2B", NULL},
        {"/foo%7Ebar", "/foo~bar"},
        {"/foo%c3%a9", "/foo\xc3\xa9"},
        {"/foo\xc3\xa9", NULL},
        {"/foo%ff", "/foo\xff"},
        {"/foo+bar", NULL},
        {"/a|b", NULL},
        {"/foo;a=b/../c", "/c"},
        {"/foo%zz", NULL}, /* no triplet: the HTTP parser refused it already */
        {"/foo%", NULL},
        {"/foo%4", NULL},
        {"*", NULL},
        {".", ""},
        {"..", ""},
        {"./x", "x"},
        {"../x", "x"},
        {"../.././x", "x"},
        {"x/../y", "/y"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str path = sb_str_c(rows[i].path);
        char out[128];
        size_t len;
        bool changed = sb_path_normalise(path, out, &len);

        if (changed != (rows[i].normal != NULL))
            fail_msg("%s: %s", rows[i].path, changed ? "changed" : "unchanged");
        if (!changed)
            continue;
        assert_string_equal(out, rows[i].normal);
        assert_int_equal(len, strlen(rows[i].normal));
    }
}

/* What was normalised stays as it is, whatever it was. */
static void normal_form_is_stable(void **state)
{
    static const char pieces[][6] = {"/", ".", "..", "a", "%2e", "%2F", "%61", "%", "//", "%25"};
    unsigned seed = 1;

    (void)state;
    for (int n = 0; n < 20000; n++) {
        char path[128] = "/", once[128], twice[128];
        size_t len;

        for (int i = 0; i < 12; i++) {
            seed = seed * 1103515245 + 12345;
            strcat(path, pieces[(seed >> 16) % (sizeof pieces / sizeof *pieces)]);
        }
        if (!sb_path_normalise(sb_str_c(path), once, &len))
            continue;
        /* "%%61" gives a "%a" that was none before; decoding is one pass, as Kong's. */
        if (strchr(once, '%') && sb_path_normalise(sb_str_n(once, len), twice, &len))
            continue;
        if (sb_path_normalise(sb_str_c(once), twice, &len))
            fail_msg("%s -> %s -> %s", path, once, twice);
    }
}

static void hostile_lengths_cost_little(void **state)
{
    static char path[65536], out[65537];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof path; i++)
        path[i] = "/a/../b/."[i % 9];
    assert_true(sb_path_normalise(sb_str_n(path, sizeof path), out, &len));
    assert_true(len < sizeof path);
}

enum { KEEP, STRIP };

static const struct {
    const char *service, *prefix, *path;
    const char *out[2][2]; /* by handling (v0, v1) and strip */
} table[] = {
    {"/", "/", "/", {{"/", "/"}, {"/", "/"}}},
    {"/", "/", "/rt", {{"/rt", "/rt"}, {"/rt", "/rt"}}},
    {"/", "/", "/rt/", {{"/rt/", "/rt/"}, {"/rt/", "/rt/"}}},
    {"/", "/", "/rt/x", {{"/rt/x", "/rt/x"}, {"/rt/x", "/rt/x"}}},
    {"/", "/", "/rt../x", {{"/rt../x", "/rt../x"}, {"/rt../x", "/rt../x"}}},
    {"/", "/rt", "/rt", {{"/rt", "/"}, {"/rt", "/"}}},
    {"/", "/rt", "/rt/", {{"/rt/", "/"}, {"/rt/", "/"}}},
    {"/", "/rt", "/rtx", {{"/rtx", "/x"}, {"/rtx", "/x"}}}, /* not by segments: Kong's rule */
    {"/", "/rt", "/rt/x", {{"/rt/x", "/x"}, {"/rt/x", "/x"}}},
    {"/", "/rt", "/rt./x", {{"/rt./x", "/x"}, {"/rt./x", "/x"}}},
    {"/", "/rt", "/rt../x", {{"/rt../x", "/x"}, {"/rt../x", "/x"}}},
    {"/", "/rt", "/rt..", {{"/rt..", "/"}, {"/rt..", "/"}}},
    {"/", "/rt/", "/rt/", {{"/rt/", "/"}, {"/rt/", "/"}}},
    {"/", "/rt/", "/rt/x", {{"/rt/x", "/x"}, {"/rt/x", "/x"}}},
    {"/", "", "/", {{"/", "/"}, {"/", "/"}}},
    {"/", "", "/rt./x", {{"/rt./x", "/rt./x"}, {"/rt./x", "/rt./x"}}},
    {"/srv", "/", "/", {{"/srv", "/srv"}, {"/srv", "/srv"}}},
    {"/srv", "/", "/rt", {{"/srv/rt", "/srv/rt"}, {"/srvrt", "/srvrt"}}},
    {"/srv", "/", "/rt/", {{"/srv/rt/", "/srv/rt/"}, {"/srvrt/", "/srvrt/"}}},
    {"/srv", "/", "/rt..", {{"/srv/rt..", "/srv/rt.."}, {"/srvrt..", "/srvrt.."}}},
    {"/srv", "/rt", "/rt", {{"/srv/rt", "/srv"}, {"/srvrt", "/srv"}}},
    {"/srv", "/rt", "/rt/", {{"/srv/rt/", "/srv/"}, {"/srvrt/", "/srv/"}}},
    {"/srv", "/rt", "/rtx", {{"/srv/rtx", "/srv/x"}, {"/srvrtx", "/srvx"}}},
    {"/srv", "/rt", "/rt/x", {{"/srv/rt/x", "/srv/x"}, {"/srvrt/x", "/srv/x"}}},
    {"/srv", "/rt", "/rt./x", {{"/srv/rt./x", "/srv/x"}, {"/srvrt./x", "/srvx"}}},
    {"/srv", "/rt", "/rt../x", {{"/srv/rt../x", "/srv/x"}, {"/srvrt../x", "/srvx"}}},
    {"/srv", "/rt", "/rt..", {{"/srv/rt..", "/srv"}, {"/srvrt..", "/srv"}}},
    {"/srv", "/rt/", "/rt/", {{"/srv/rt/", "/srv/"}, {"/srvrt/", "/srv"}}},
    {"/srv", "/rt/", "/rt/x", {{"/srv/rt/x", "/srv/x"}, {"/srvrt/x", "/srvx"}}},
    {"/srv", "", "/", {{"/srv", "/srv"}, {"/srv", "/srv"}}},
    {"/srv", "", "/rt", {{"/srv/rt", "/srv/rt"}, {"/srvrt", "/srvrt"}}},
    {"/srv/", "/", "/", {{"/srv/", "/srv/"}, {"/srv/", "/srv/"}}},
    {"/srv/", "/", "/rt", {{"/srv/rt", "/srv/rt"}, {"/srv/rt", "/srv/rt"}}},
    {"/srv/", "/rt", "/rt", {{"/srv/rt", "/srv"}, {"/srv/rt", "/srv/"}}},
    {"/srv/", "/rt", "/rt/", {{"/srv/rt/", "/srv/"}, {"/srv/rt/", "/srv/"}}},
    {"/srv/", "/rt", "/rtx", {{"/srv/rtx", "/srv/x"}, {"/srv/rtx", "/srv/x"}}},
    {"/srv/", "/rt", "/rt/x", {{"/srv/rt/x", "/srv/x"}, {"/srv/rt/x", "/srv/x"}}},
    {"/srv/", "/rt", "/rt../x", {{"/srv/rt../x", "/srv/x"}, {"/srv/rt../x", "/srv/x"}}},
    {"/srv/", "/rt", "/rt..", {{"/srv/rt..", "/srv"}, {"/srv/rt..", "/srv/"}}},
    {"/srv/", "/rt/", "/rt/x", {{"/srv/rt/x", "/srv/x"}, {"/srv/rt/x", "/srv/x"}}},
    {"/srv/", "", "/", {{"/srv/", "/srv/"}, {"/srv/", "/srv/"}}},
    {"/srv/", "", "/rt..", {{"/srv/rt..", "/srv/rt.."}, {"/srv/rt..", "/srv/rt.."}}},
    /* what was decoded for matching is escaped again */
    {"/",
     "/a",
     "/a/b {c}\"\\|^`<>\x01\x7f\xc3\xa9",
     {{"/a/b%20%7Bc%7D%22%5C%7C%5E%60%3C%3E%01%7F%C3%A9",
       "/b%20%7Bc%7D%22%5C%7C%5E%60%3C%3E%01%7F%C3%A9"},
      {"/a/b%20%7Bc%7D%22%5C%7C%5E%60%3C%3E%01%7F%C3%A9",
       "/b%20%7Bc%7D%22%5C%7C%5E%60%3C%3E%01%7F%C3%A9"}}},
    {"/s p",
     "/a",
     "/a%2Fb!#$&'()*+,:;=?@[]-._~",
     {{"/s%20p/a%2Fb!#$&'()*+,:;=?@[]-._~", "/s%20p/%2Fb!#$&'()*+,:;=?@[]-._~"},
      {"/s%20pa%2Fb!#$&'()*+,:;=?@[]-._~", "/s%20p%2Fb!#$&'()*+,:;=?@[]-._~"}}},
};

static void upstream_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (int v1 = 0; v1 < 2; v1++) {
            for (int strip = KEEP; strip <= STRIP; strip++) {
                struct sb_service service = {.path = sb_str_c(table[i].service)};
                struct sb_route route = {.strip_path = strip, .service = &service};
                struct sb_router_match m = {
                    .route = &route, .prefix_len = strlen(table[i].prefix), .path_handling_v1 = v1};
                char out[256] = "";
                size_t len = 0;

                assert_true(sb_router_upstream_path(&m, sb_str_c(table[i].path), out,
                                                    sizeof out - 1, &len));
                out[len] = '\0';
                if (strcmp(out, table[i].out[v1][strip]))
                    fail_msg("v%d strip %d: %s + %s + %s = %s, not %s", v1, strip, table[i].service,
                             table[i].prefix, table[i].path, out, table[i].out[v1][strip]);
            }
        }
    }
}

static void says_when_it_does_not_fit(void **state)
{
    struct sb_route route = {.strip_path = true};
    struct sb_router_match m = {.route = &route};
    char out[8];
    size_t len;

    (void)state;
    assert_true(sb_router_upstream_path(&m, SB_STR("/1234567"), out, sizeof out, &len));
    assert_int_equal(len, 8);
    assert_false(sb_router_upstream_path(&m, SB_STR("/12345678"), out, sizeof out, &len));
    assert_false(sb_router_upstream_path(&m, SB_STR("/12345 7"), out, sizeof out, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_form),
        cmocka_unit_test(normal_form_is_stable),
        cmocka_unit_test(hostile_lengths_cost_little),
        cmocka_unit_test(upstream_paths),
        cmocka_unit_test(says_when_it_does_not_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
