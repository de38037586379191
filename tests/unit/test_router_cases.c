/* What a real gateway did with 1,000 requests (router/cases.jsonl, made by router/make_cases.py):
 * the same route must answer, with the same path towards the upstream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "router_util.h"

enum { HEADERS_MAX = 64, PROXY_PORT = 8000 };

static unsigned checked, wrong;

static void request_of(struct sb_arena *a, const struct sb_value *v, struct sb_router_request *q)
{
    struct sb_router_header *headers = SB_NEW_N(a, struct sb_router_header, HEADERS_MAX);
    struct sb_str path = sb_value_str_at(v, "path");
    char *normal = sb_arena_alloc(a, path.len + 1);
    const struct sb_value *header;
    size_t len;

    *q = (struct sb_router_request){
        .method = sb_value_str_at(v, "method"),
        .scheme = sb_value_bool_at(v, "https", false) ? SB_PROTO_HTTPS : SB_PROTO_HTTP,
        .host = sb_value_str_at(v, "host"),
        .path = sb_path_normalise(path, normal, &len) ? sb_str_n(normal, len) : path,
        .query = sb_value_str_at(v, "query"),
        .sni = sb_value_str_at(v, "sni"),
        .headers = headers,
        .source_ip = sb_value_str_at(v, "source"),
        .destination_ip = SB_STR("127.0.0.1"),
        .source_port = 40000,
        .destination_port = PROXY_PORT,
    };
    sb_array_each (header, sb_get(v, "headers"))
        headers[q->nheaders++] =
            (struct sb_router_header){header->items[0]->s, header->items[1]->s};
}

static void complain(const struct sb_value *c, const struct sb_router_request *q, const char *what,
                     struct sb_str got, struct sb_str want)
{
    wrong++;
    print_error("%.*s\n  %.*s %.*s (host '%.*s'): %s '%.*s', not '%.*s'\n",
                SB_ARG(sb_value_str_at(c, "name")), SB_ARG(q->method), SB_ARG(q->path),
                SB_ARG(q->host), what, SB_ARG(got), SB_ARG(want));
}

static void check_match(struct sb_arena *a, const struct sb_value *c,
                        const struct sb_router_request *q, const struct sb_router_match *m,
                        const struct sb_value *expect)
{
    struct sb_str origin = sb_value_str_at(expect, "origin"),
                  path = sb_value_str_at(expect, "path"),
                  prefix = sb_value_str_at(expect, "prefix"), passed;
    size_t cap = q->path.len * 3 + 1024, len;
    char *out = sb_arena_alloc(a, cap);
    bool strips = m->route->strip_path && !sb_str_eq(m->prefix, SB_STR("/"));

    if (origin.len && !sb_str_eq(origin, m->route->service->name))
        complain(c, q, "answered", m->route->service->name, origin);
    if (!path.len)
        return;
    assert_true(sb_router_upstream_path(m, q->path, out, cap, &len));
    if (!sb_str_eq(sb_str_n(out, len), path))
        complain(c, q, "upstream path", sb_str_n(out, len), path);
    passed = strips ? m->prefix : SB_STR("");
    if (sb_get(expect, "prefix") && !sb_str_eq(passed, prefix))
        complain(c, q, "prefix", passed, prefix);
}

static void check_request(struct sb_arena *a, const struct sb_router *r, const struct sb_value *c,
                          const struct sb_value *v)
{
    const struct sb_value *expect = sb_get(v, "expect");
    struct sb_router_request q;
    struct sb_router_match m;
    bool want = sb_value_bool_at(expect, "match", false);

    request_of(a, v, &q);
    checked++;
    if (sb_router_match(r, &q, &m) != want)
        complain(c, &q, "answered", want ? SB_STR("nothing") : m.route->name,
                 want ? SB_STR("something") : SB_STR("nothing"));
    else if (want)
        check_match(a, c, &q, &m, expect);
}

/* What the schema asks of a route that is stored. */
static void check_validation(const struct sb_value *c, enum sb_router_flavor flavor,
                             const struct sb_value *v)
{
    struct sb_str want = sb_value_str_at(v, "error"), got;
    struct sb_err err = {0};

    checked++;
    sb_router_route_compiles(&flavor, sb_get(v, "route"), &err);
    got = sb_str_c(err.text);
    if (sb_str_eq(got, want))
        return;
    wrong++;
    print_error("%.*s\n%.*s\nnot\n%.*s\n", SB_ARG(sb_value_str_at(c, "name")), SB_ARG(got),
                SB_ARG(want));
}

static void check_case(struct sb_str line, const char *flavor_name, enum sb_router_flavor flavor)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *c = json_of(a, line);
    const struct sb_value *item;
    struct sb_router_builder *b;
    const struct sb_router *r;

    if (!sb_str_is(sb_value_str_at(c, "flavor"), flavor_name)) {
        sb_arena_free(a);
        return;
    }
    b = sb_router_builder_new(flavor);
    sb_array_each (item, sb_get(c, "routes"))
        put_route(b, a, item);
    r = sb_router_build(b);
    sb_array_each (item, sb_get(c, "requests"))
        check_request(a, r, c, item);
    sb_array_each (item, sb_get(c, "validations"))
        check_validation(c, flavor, item);
    sb_router_drop(b, r);
    sb_router_builder_free(b);
    sb_arena_free(a);
}

static void check_flavor(const char *name, enum sb_router_flavor flavor)
{
    struct sb_buf file;
    struct sb_str rest, line;

    sb_buf_init(&file, 0);
    assert_true(sb_buf_read_file(&file, "tests/unit/router/cases.jsonl"));
    rest = sb_buf_get(&file);
    checked = wrong = 0;
    while (sb_str_split(&rest, '\n', &line)) {
        if (line.len)
            check_case(line, name, flavor);
    }
    print_message("%s: %u requests, %u wrong\n", name, checked, wrong);
    assert_true(checked > 100);
    assert_int_equal(wrong, 0);
    sb_buf_release(&file);
}

static void traditional_compatible(void **state)
{
    (void)state;
    check_flavor("traditional_compatible", SB_ROUTER_TRADITIONAL_COMPATIBLE);
}

static void traditional(void **state)
{
    (void)state;
    check_flavor("traditional", SB_ROUTER_TRADITIONAL);
}

static void expressions(void **state)
{
    (void)state;
    check_flavor("expressions", SB_ROUTER_EXPRESSIONS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traditional_compatible),
        cmocka_unit_test(traditional),
        cmocka_unit_test(expressions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
