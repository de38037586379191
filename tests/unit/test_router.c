/* The router: what the recorded cases don't reach, changes step by step, and what a lookup costs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "router_util.h"

/* One router of routes given as JSON, with what it takes to drop it. */
struct fixture {
    struct sb_arena *a;
    struct sb_router_builder *b;
    const struct sb_router *r;
};

static struct fixture start(enum sb_router_flavor flavor, const char *routes)
{
    struct fixture f = {.a = sb_arena_new(0), .b = sb_router_builder_new(flavor)};
    const struct sb_value *row;

    sb_array_each (row, json_quoted(f.a, routes))
        put_route(f.b, f.a, row);
    f.r = sb_router_build(f.b);
    return f;
}

static void finish(struct fixture *f)
{
    sb_router_drop(f->b, f->r);
    sb_router_builder_free(f->b);
    sb_arena_free(f->a);
}

static const char *winner_of(const struct sb_router *r, const struct sb_router_request *q)
{
    struct sb_router_match m;

    return sb_router_match(r, q, &m) ? m.route->name.p : "-";
}

/* "GET /path host", with the winner's name expected. */
static void expect(const struct sb_router *r, const char *host, const char *path, const char *name)
{
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .scheme = SB_PROTO_HTTP,
                                  .host = sb_str_c(host),
                                  .path = sb_str_c(path),
                                  .destination_port = 8000};

    if (strcmp(winner_of(r, &q), name))
        fail_msg("%s%s: %s, not %s", host, path, winner_of(r, &q), name);
}

#define ID(n) "'id':'00000000-0000-4000-8000-00000000000" #n "','name':'R" #n "'"

static void hosts_and_wildcards(void **state)
{
    static const struct {
        const char *host, *name;
    } rows[] = {
        {"a.com", "R1"},     {"A.com", "-"},     {"x.a.com", "R2"},
        {"x.y.a.com", "R2"}, {".a.com", "R2"},   {"xa.com", "-"},
        {"b.org", "R3"},     {"b.", "R3"},       {"b", "-"},
        {"xb.org", "-"},     {"c.com:81", "R4"}, {"c.com:82", "-"},
        {"c.com", "-"},      {"a.com:99", "R1"}, {"a.com:x", "-"},
        {"", "-"},           {"[::1]:80", "R5"}, {"q.a.com.evil.org", "-"},
        {"a.com.", "-"},     {"\x01", "-"},      {"x.q.a.com:7", "R6"},
        {"x.q.a.com", "R2"},
    };
    struct fixture f = start(
        SB_ROUTER_TRADITIONAL_COMPATIBLE,
        "[{" ID(1) ",'hosts':['a.com']},{" ID(2) ",'hosts':['*.a.com']},{" ID(
            3) ",'hosts':['b.*']},{" ID(4) ",'hosts':['c.com:81']},{" ID(5) ",'hosts':['[::1]:80']}"
                                                                            ",{" ID(6) ",'hosts':['"
                                                                                       "*.q.a.com:"
                                                                                       "7']}]");

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(f.r, rows[i].host, "/", rows[i].name);
    finish(&f);
}

/* Kong takes "hosts": [] for hosts without a wildcard. */
static void empty_hosts_rank_as_plain(void **state)
{
    struct fixture f = start(
        SB_ROUTER_TRADITIONAL_COMPATIBLE,
        "[{" ID(1) ",'hosts':[],'paths':['/a']},{" ID(2) ",'paths':['/a'],'methods':['GET']}]");

    (void)state;
    expect(f.r, "a.com", "/a", "R1");
    finish(&f);
}

/* In expressions, too, where they are fields. */
static void header_names_have_no_case(void **state)
{
    struct fixture f =
        start(SB_ROUTER_EXPRESSIONS,
              "[{" ID(1) ",'protocols':['http'],'expression':'http.headers.X_Foo == \\\"1\\\"'}]");
    const struct sb_router_header headers[] = {{SB_STR("x-foo"), SB_STR("1")}};
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .scheme = SB_PROTO_HTTP,
                                  .path = SB_STR("/"),
                                  .headers = headers,
                                  .nheaders = 1};

    (void)state;
    assert_string_equal(winner_of(f.r, &q), "R1");
    finish(&f);
}

/* A Host of all dots, or of one long label, costs a walk and no more. */
static void hostile_hosts(void **state)
{
    static char host[32768];
    struct fixture f = start(SB_ROUTER_TRADITIONAL_COMPATIBLE,
                             "[{" ID(1) ",'hosts':['*.a.com','*..........'],'paths':['/']},{" ID(
                                 2) ",'hosts':['a.*']},{" ID(3) ",'paths':['/']}]");

    (void)state;
    memset(host, '.', sizeof host - 1);
    expect(f.r, host, "/", "R1");
    memset(host, 'a', sizeof host - 1);
    expect(f.r, host, "/", "R3");
    finish(&f);
}

static void evil_regexes_end(void **state)
{
    static char path[65537];
    static const char *const patterns[] = {"(a+)+$",     "(a|a)*b", "(a*)*b",
                                           "([a-z]+)*=", "(.*)*x",  "(?:a?){50}a{50}z"};

    (void)state;
    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    path[60000] = '!';
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        char route[128];
        struct fixture f;

        snprintf(route, sizeof route, "[{" ID(1) ",'paths':['~/%s']}]", patterns[i]);
        f = start(SB_ROUTER_TRADITIONAL_COMPATIBLE, route);
        expect(f.r, "h", path, "-");
        finish(&f);
    }
}

/* A search begins at each of 64 K places: what one place costs is bounded so that the sum is. The
 * same pattern on a short text still has all the steps that it wants. */
static void evil_searches_end(void **state)
{
    static char path[65537];
    struct fixture f = start(SB_ROUTER_EXPRESSIONS,
                             "[{" ID(1) ",'expression':'http.path ~ \\\"(a|aa|aaa){6}[0-9]\\\"'}]");

    (void)state;
    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    expect(f.r, "h", path, "-");
    expect(f.r, "h", "/aaaaaaaaaaaa7", "R1");
    finish(&f);
}

static void captures(void **state)
{
    struct fixture f = start(SB_ROUTER_TRADITIONAL_COMPATIBLE,
                             "[{" ID(1) ",'paths':['~/v(\\\\d+)/(?<name>[^/]+)(/x)?']}]");
    struct sb_router_request q = {.method = SB_STR("GET"), .path = SB_STR("/v12/jo/y")};
    struct sb_router_capture c[8];
    struct sb_router_match m;

    (void)state;
    assert_true(sb_router_match(f.r, &q, &m));
    assert_int_equal(sb_router_captures(&m, q.path, c, 8), 4);
    assert_true(sb_str_eq(c[0].value, SB_STR("/v12/jo")) && sb_str_eq(m.prefix, c[0].value));
    assert_true(sb_str_eq(c[1].value, SB_STR("12")) && c[1].name.len == 0);
    assert_true(sb_str_eq(c[2].value, SB_STR("jo")) && sb_str_eq(c[2].name, SB_STR("name")));
    assert_null(c[3].value.p);
    assert_int_equal(sb_router_captures(&m, q.path, c, 1), 1);
    finish(&f);
}

static void stream_routes(void **state)
{
    static const struct {
        const char *sni, *src, *name;
        uint16_t src_port, dst_port;
    } rows[] = {
        {"", "10.1.2.3", "R3", 1, 9000}, /* source range and port together */
        {"", "10.2.2.3", "R2", 1, 9000},      {"", "10.2.2.3", "-", 1, 9001},
        {"a.com", "10.2.2.3", "R1", 1, 9001}, {"b.com", "10.2.2.3", "-", 1, 9001},
        {"x.c.com", "1.1.1.1", "R4", 1, 1},   {"", "fd00::5", "R5", 7, 1},
        {"", "fd00::5", "-", 8, 1},
    };
    struct fixture f =
        start(SB_ROUTER_TRADITIONAL_COMPATIBLE,
              "[{" ID(1) ",'protocols':['tls'],'snis':['a.com'],'destinations':[{'port':9001}]},"
                         "{" ID(2) ",'protocols':['tcp'],'destinations':[{'port':9000}]},{" ID(
                             3) ",'protocols':['tcp'],'sources':[{'ip':'10.1.9.9/16'}],"
                                "'destinations':[{'port':9000}]},{" ID(
                                    4) ",'protocols':['tls_passthrough'],'snis':['*.c.com'],'"
                                       "destinations':[{'port':1}]},{" ID(5) ",'protocols':['tcp'],"
                                                                             "'sources':[{'ip':'"
                                                                             "fd00::/"
                                                                             "8','port':7}]}]");

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_router_request q = {.scheme = SB_PROTO_TCP,
                                      .sni = sb_str_c(rows[i].sni),
                                      .source_ip = sb_str_c(rows[i].src),
                                      .source_port = rows[i].src_port,
                                      .destination_port = rows[i].dst_port};
        bool skipped = !q.sni.len && rows[i].dst_port != 9000; /* snis don't count without TLS */

        if (!skipped && strcmp(winner_of(f.r, &q), rows[i].name))
            fail_msg("row %zu: %s, not %s", i, winner_of(f.r, &q), rows[i].name);
    }
    expect(f.r, "h", "/", "-"); /* none of them is for HTTP */
    finish(&f);
}

static void a_broken_route_is_left_out(void **state)
{
    static const struct {
        const char *route, *words;
    } rows[] = {
        {"{" ID(1) ",'paths':['~/a(?!b)']}", "paths: regex parse error:\n    ^/a(?!b)\n       ^^^\n"
                                             "error: look-around, including look-ahead and "
                                             "look-behind, is not supported"},
        {"{" ID(1) ",'paths':['~/(a)\\\\1']}", "paths: regex parse error:\n    ^/(a)\\1\n         "
                                               "^^\nerror: backreferences are not supported"},
        {"{" ID(1) ",'paths':['~/a(b']}",
         "paths: regex parse error:\n    ^/a(b\n       ^\nerror: unclosed group"},
        {"{" ID(1) ",'paths':['~/[b']}",
         "paths: regex parse error:\n    ^/[b\n      ^\nerror: unclosed character class"},
        {"{" ID(1) ",'paths':['~/a{3,1}']}",
         "paths: regex parse error:\n    ^/a{3,1}\n       ^^^^^\nerror: invalid repetition count "
         "range, the start must be <= the end"},
        {"{" ID(1) ",'paths':['~/(?>a)']}",
         "paths: regex parse error:\n    ^/(?>a)\n        ^\nerror: unrecognized flag"},
        {"{" ID(1) ",'headers':{'x':['~*(']}}",
         "headers.x: regex parse error:\n    (\n    ^\nerror: unclosed group"},
        {"{" ID(1) ",'hosts':['a.*.com']}", "hosts: invalid wildcard 'a.*.com'"},
        {"{" ID(1) ",'hosts':['*']}", "hosts: invalid wildcard '*'"},
        {"{" ID(1) ",'hosts':[1]}", "hosts: expected a string"},
        {"{" ID(1) ",'protocols':['tcp'],'sources':[{'ip':'10.0.0.0/33'}]}",
         "sources: invalid ip or cidr range: '10.0.0.0/33'"},
    };
    struct fixture f = start(SB_ROUTER_TRADITIONAL_COMPATIBLE,
                             "[{" ID(1) ",'paths':['/a']},{" ID(2) ",'paths':['/']}]");

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_value *row = json_quoted(f.a, rows[i].route);
        struct sb_router_source source = {row, make_route(f.a, row)};
        struct sb_err err = {0};

        assert_int_equal(sb_router_put(f.b, &source, &err), SB_INVALID);
        assert_string_equal(err.text, rows[i].words);
    }
    expect(f.r, "h", "/a", "R1"); /* what was built stays */
    sb_router_drop(f.b, f.r);
    f.r = sb_router_build(f.b);
    expect(f.r, "h", "/a", "R2"); /* the former version is gone too */
    assert_int_equal(sb_router_size(f.r), 1);
    finish(&f);
}

/* -- versions --------------------------------------------------------------------------------- */

static void put_text(struct fixture *f, const char *route)
{
    put_route(f->b, f->a, json_quoted(f->a, route));
}

/* Each version answers as it did when it was made, whatever comes after and in whatever order they
 * are dropped. */
static void versions_do_not_see_each_other(void **state)
{
    static const char *const steps[] = {
        "{" ID(1) ",'paths':['/a']}",       "{" ID(2) ",'paths':['/ab','/a']}",
        "{" ID(1) ",'hosts':['h']}",        "{" ID(3) ",'paths':['/abc'],'methods':['GET']}",
        "{" ID(2) ",'paths':['~/a(b|c)']}", "{" ID(1) ",'paths':['/']}",
    };
    enum { STEPS = sizeof steps / sizeof *steps };
    static const char *const winners[STEPS + 1] = {"-", "R1", "R2", "R1", "R1", "R1", "R2"};
    const struct sb_router *r[STEPS + 1];
    struct fixture f = start(SB_ROUTER_TRADITIONAL_COMPATIBLE, "[]");

    (void)state;
    r[0] = sb_router_build(f.b);
    for (int i = 0; i < STEPS; i++) {
        put_text(&f, steps[i]);
        r[i + 1] = sb_router_build(f.b);
    }
    for (int i = 0; i <= STEPS; i++)
        expect(r[i], "h", "/abc", winners[i]);
    for (int i = 1; i <= 3; i++)
        sb_router_remove(f.b, sb_str_c(i == 1   ? "00000000-0000-4000-8000-000000000001"
                                       : i == 2 ? "00000000-0000-4000-8000-000000000002"
                                                : "00000000-0000-4000-8000-000000000003"));
    sb_router_remove(f.b, SB_STR("unknown"));
    for (int i = 0; i <= STEPS; i++) {
        int at = (i * 3 + 1) % (STEPS + 1);

        expect(r[at], "h", "/abc", winners[at]);
        sb_router_drop(f.b, r[at]);
    }
    sb_router_drop(f.b, f.r);
    f.r = sb_router_build(f.b);
    expect(f.r, "h", "/abc", "-");
    assert_int_equal(sb_router_size(f.r), 0);
    finish(&f);
}

/* -- explaining ------------------------------------------------------------------------------- */

static void explains(void **state)
{
    static const char *const words[] = {
        "R2 /x|",
        "R1 /|fits, but R2 has hosts, and none of them is a wildcard",
        "R3 |hosts: 'a.com' (port 8000) is none of *.b.com, c.com:81",
        "R4 /y|paths: '/x' does not begin so",
        "R5 ~/[0-9]|paths: '/x' does not match",
        "R6 /x|methods: not GET",
        "R7 /x|headers: the request has no v",
        "R8 /x|headers: w has another value",
        "R9 /x|fits, but R2 has the higher id",
    };
    struct fixture
        f =
            start(
                SB_ROUTER_TRADITIONAL_COMPATIBLE,
                "[{" ID(1) ",'paths':['/']},{" ID(2) ",'hosts':['a.com'],'paths':['/x']},{" ID(3) ",'hosts':['*.b.com','c.com:81']},{" ID(
                    4) ",'paths':['/y']},{" ID(5) ",'paths':['~/[0-9]']},{" ID(6) ",'paths':['/"
                                                                                  "x'],'methods':['"
                                                                                  "POST','FOO']},"
                                                                                  "{" ID(
                                                                                      7) ",'"
                                                                                         "paths'"
                                                                                         ":['/"
                                                                                         "x'],'"
                                                                                         "header"
                                                                                         "s':{'"
                                                                                         "V':['"
                                                                                         "1']}},"
                                                                                         "{" ID(
                                                                                             8) ",'"
                                                                                                "pa"
                                                                                                "th"
                                                                                                "s'"
                                                                                                ":["
                                                                                                "'/"
                                                                                                "x'"
                                                                                                "],"
                                                                                                "'h"
                                                                                                "ea"
                                                                                                "de"
                                                                                                "rs"
                                                                                                "':"
                                                                                                "{'"
                                                                                                "w'"
                                                                                                ":["
                                                                                                "'1"
                                                                                                "']"
                                                                                                "}}"
                                                                                                ","
                                                                                                "{'"
                                                                                                "id"
                                                                                                "':"
                                                                                                "'0"
                                                                                                "00"
                                                                                                "00"
                                                                                                "00"
                                                                                                "0-"
                                                                                                "00"
                                                                                                "00"
                                                                                                "-4"
                                                                                                "00"
                                                                                                "0-"
                                                                                                "80"
                                                                                                "00"
                                                                                                "-0"
                                                                                                "00"
                                                                                                "00"
                                                                                                "00"
                                                                                                "00"
                                                                                                "00"
                                                                                                "0'"
                                                                                                ",'"
                                                                                                "na"
                                                                                                "me"
                                                                                                "':"
                                                                                                "'R"
                                                                                                "9'"
                                                                                                ",'"
                                                                                                "ho"
                                                                                                "st"
                                                                                                "s'"
                                                                                                ":["
                                                                                                "'a"
                                                                                                ".c"
                                                                                                "om"
                                                                                                "']"
                                                                                                ","
                                                                                                "'p"
                                                                                                "at"
                                                                                                "hs"
                                                                                                "':"
                                                                                                "['"
                                                                                                "/x"
                                                                                                "']"
                                                                                                "}"
                                                                                                "]");
    struct sb_router_header header = {SB_STR("W"), SB_STR("2")};
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .host = SB_STR("a.com"),
                                  .path = SB_STR("/x"),
                                  .headers = &header,
                                  .nheaders = 1,
                                  .destination_port = 8000};
    struct sb_router_verdict *v;
    size_t n = sb_router_explain(f.b, &q, f.a, &v);

    (void)state;
    assert_int_equal(n, 9);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        bool found = false;

        for (size_t k = 0; k < n; k++) {
            struct sb_str line = sb_arena_printf(f.a, "%.*s %.*s|%.*s", SB_ARG(v[k].route->name),
                                                 SB_ARG(v[k].paths), SB_ARG(v[k].why));

            found |= sb_str_is(line, words[i]);
        }
        if (!found)
            fail_msg("nobody says: %s", words[i]);
    }
    assert_true(v[0].fits || v[1].fits);
    finish(&f);
}

/* -- cost, by counts -------------------------------------------------------------------------- */

enum shape { MANY_HOSTS, ONE_HOST, NO_HOST, WILDCARDS, REGEXES, SHAPES };

/* The pattern with n for its '#'. */
static struct sb_str numbered(struct sb_arena *a, const char *pattern, int n)
{
    const char *at = strchr(pattern, '#');

    return at ? sb_arena_printf(a, "%.*s%d%s", (int)(at - pattern), pattern, n, at + 1)
              : sb_str_c(pattern);
}

static struct sb_value *strings(struct sb_arena *a, const char *pattern, int n)
{
    struct sb_value *list = sb_value_array(a);

    sb_array_push(a, list, sb_value_str(a, numbered(a, pattern, n)));
    return list;
}

static const struct {
    const char *host, *path, *ask_host, *ask_path;
    unsigned regexes;
} shapes[SHAPES] = {
    [MANY_HOSTS] = {"h#.example.com", "/api", "h#.example.com", "/api/x", 0},
    [ONE_HOST] = {"example.com", "/p#/", "example.com", "/p#/x", 0},
    [NO_HOST] = {NULL, "/p#/", "any", "/p#/x", 0},
    [WILDCARDS] = {"*.d#.com", "/", "x.y.d#.com", "/x", 0},
    [REGEXES] = {"example.com", "~/p#/[0-9]+$", "example.com", "/p#/77", 1},
};

static void put_shape(struct sb_router_builder *b, struct sb_arena *a, enum shape shape, int n)
{
    struct sb_value *row = sb_value_object(a);

    sb_object_set(a, row, SB_STR("id"),
                  sb_value_str(a, sb_arena_printf(a, "00000000-0000-4000-8000-%012d", n)));
    sb_object_set(a, row, SB_STR("name"), sb_value_str(a, sb_arena_printf(a, "r%d", n)));
    sb_object_set(a, row, SB_STR("paths"), strings(a, shapes[shape].path, n));
    if (shapes[shape].host)
        sb_object_set(a, row, SB_STR("hosts"), strings(a, shapes[shape].host, n));
    put_route(b, a, row);
}

static void check_cost(struct sb_arena *a, const struct sb_router *r, enum shape shape, int n)
{
    struct sb_router_request q = {.method = SB_STR("GET"),
                                  .scheme = SB_PROTO_HTTP,
                                  .host = numbered(a, shapes[shape].ask_host, n),
                                  .path = numbered(a, shapes[shape].ask_path, n)};
    struct sb_router_match m;

    assert_true(sb_router_match(r, &q, &m));
    assert_string_equal(m.route->name.p, numbered(a, "r#", n).p);
    assert_int_equal(m.candidates, 1);
    assert_int_equal(m.regexes, shapes[shape].regexes);
    q.host = SB_STR("unknown.example.org");
    q.path = SB_STR("/unknown");
    assert_false(sb_router_match(r, &q, &m));
    assert_int_equal(m.candidates, 0);
}

static void lookups_stay_flat(void **state)
{
    static const int sizes[] = {10, 1000, 10000, 100000};

    (void)state;
    for (enum shape shape = 0; shape < SHAPES; shape++) {
        struct sb_router_builder *b = sb_router_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE);
        struct sb_arena *a = sb_arena_new(1 << 16);
        int n = 0;

        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            const struct sb_router *r;

            if (shape == REGEXES && sizes[i] > 10000)
                break; /* compiling them is what takes time */
            while (n < sizes[i])
                put_shape(b, a, shape, n++);
            r = sb_router_build(b);
            for (int at = 0; at < n; at += 1 + n / 7)
                check_cost(a, r, shape, at);
            sb_router_drop(b, r);
        }
        sb_router_builder_free(b);
        sb_arena_free(a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_and_wildcards),
        cmocka_unit_test(empty_hosts_rank_as_plain),
        cmocka_unit_test(header_names_have_no_case),
        cmocka_unit_test(hostile_hosts),
        cmocka_unit_test(evil_regexes_end),
        cmocka_unit_test(evil_searches_end),
        cmocka_unit_test(captures),
        cmocka_unit_test(stream_routes),
        cmocka_unit_test(a_broken_route_is_left_out),
        cmocka_unit_test(versions_do_not_see_each_other),
        cmocka_unit_test(explains),
        cmocka_unit_test(lookups_stay_flat),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
