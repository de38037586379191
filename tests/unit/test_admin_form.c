/* What forms say, as Kong reads them (reference: admin-api.md 2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dataplane/admin/form.h"
#include "shared/json.h"

struct row {
    const char *entity, *form, *expect; /* ' stands for " */
};

static const struct row rows[] = {
    {"services", "name=a&host=b", "{'name':'a','host':'b'}"},
    {"services", "name=a+b%2Bc&host=%C3%B1", "{'name':'a b+c','host':'ñ'}"},
    {"services", "port=80&retries=x&enabled=true&tls_verify=false",
     "{'port':80,'retries':'x','enabled':true,'tls_verify':false}"},
    {"services", "name=80&host=true", "{'name':'80','host':'true'}"}, /* by type, not by looks */
    {"services", "name=", "{'name':null}"},
    {"services", "name", "{'name':true}"}, /* no value at all */
    {"services", "tags=a", "{'tags':['a']}"},
    {"services", "tags=a&tags=b", "{'tags':['a','b']}"},
    {"services", "tags[]=a&tags[]=b", "{'tags':['a','b']}"},
    {"services", "tags%5B%5D=a", "{'tags':['a']}"},
    {"services", "tags[1]=a&tags[2]=b&tags[1]=c", "{'tags':['c','b']}"},
    {"services", "tags[9]=a", "{'tags':['a']}"},
    {"services", "unknown=1&x.y=2", "{'unknown':'1','x':{'y':'2'}}"},
    {"services", "client_certificate.id=x", "{'client_certificate':{'id':'x'}}"},
    {"routes", "service.name=s&paths[]=/a&methods=GET",
     "{'service':{'name':'s'},'paths':['/a'],'methods':['GET']}"},
    {"routes", "headers[x-a]=1&headers.x-b[]=2&headers[x.c]=3",
     "{'headers':{'x-a':['1'],'x-b':['2'],'x.c':['3']}}"},
    {"routes", "sources[1].ip=10.0.0.1&sources[1].port=80",
     "{'sources':[{'ip':'10.0.0.1','port':80}]}"},
    {"upstreams", "healthchecks.active.healthy.interval=0.5&healthchecks.active.concurrency=3",
     "{'healthchecks':{'active':{'healthy':{'interval':0.5},'concurrency':3}}}"},
    {"upstreams", "healthchecks.active.healthy.http_statuses[]=200",
     "{'healthchecks':{'active':{'healthy':{'http_statuses':[200]}}}}"},
    {"plugins", "name=key-auth&config.key_names=a&config.key_in_body=true",
     "{'name':'key-auth','config':{'key_names':['a'],'key_in_body':true}}"},
    {"plugins", "config.key_in_body=true", "{'config':{'key_in_body':'true'}}"}, /* of what? */
    {"services", "[=1&]=2&[]=3&.=4&a..b=5", NULL}, /* nonsense ends, somehow */
    {"services", "a[b]=1&a[]=2&a=3&a[1].c=4", NULL},
};

static void compare(struct sb_arena *a, const struct row *r, const struct sb_value *got)
{
    struct sb_value *want;
    struct sb_err err;
    char *text;

    if (!r->expect)
        return;
    text = sb_arena_cstr(a, sb_str_c(r->expect));
    for (char *p = text; *p; p++)
        *p = *p == '\'' ? '"' : *p;
    if (sb_json_parse(a, sb_str_c(text), &want, &err) || !sb_value_equal(got, want))
        fail_msg("%s: got %s", r->form, sb_json_text(a, got, 0).p);
}

static void test_forms(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_schema_ctx ctx = {.arena = sb_arena_new(0)};
        struct sb_arg *args;
        struct sb_value *tree;
        size_t n;

        assert_true(sb_args_parse(ctx.arena, sb_str_c(rows[i].form), &args, &n));
        tree = sb_form_tree(ctx.arena, args, n);
        compare(ctx.arena, &rows[i],
                sb_form_read(&ctx, sb_entity_find(sb_str_c(rows[i].entity)), tree));
        sb_arena_free(ctx.arena);
    }
}

static void test_multipart(void **state)
{
    static const char type[] = "multipart/form-data; charset=utf-8; boundary=\"x y\"";
    static const char body[] =
        "before\r\n--x y\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n2\r\n"
        "--x y\r\ncontent-disposition: form-data; name=b; filename=\"f\"\r\nX: y\r\n\r\n\r\n"
        "--x y\r\nContent-Disposition: form-data\r\n\r\nno name\r\n"
        "--x y\r\nno end of head\r\n--x y--\r\nafter";
    struct sb_arena *a = sb_arena_new(0);
    struct sb_arg *args;
    size_t n;

    (void)state;
    assert_true(sb_form_multipart(a, sb_str_c(type), SB_STR(body), &args, &n));
    assert_int_equal(n, 2);
    assert_true(sb_str_is(args[0].name, "a") && sb_str_is(args[0].value, "1\r\n2"));
    assert_true(sb_str_is(args[1].name, "b") && args[1].value.len == 0);
    assert_true(sb_form_multipart(a, SB_STR("multipart/form-data"), SB_STR(body), &args, &n));
    assert_int_equal(n, 0);
    sb_arena_free(a);
}

static void test_paths(void **state)
{
    static const struct {
        const char *path, *segments; /* joined by | */
    } paths[] = {
        {"/", ""},
        {"/a", "a"},
        {"/a/", "a"},
        {"/a//b", "a||b"},
        {"/a%2Fb/c%20d+e", "a/b|c d e"},
        {"/%", "%"},
        {"/%4", "%4"},
        {"/a/b/c/d/e/f/g/h", "a|b|c|d|e|f|g|h"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct sb_call c = {.arena = sb_arena_new(0)};
        struct sb_str joined = SB_STR("");

        assert_true(sb_call_split_path(&c, sb_str_c(paths[i].path)));
        for (size_t k = 0; k < c.nsegments; k++)
            joined = sb_arena_printf(c.arena, "%.*s%s%.*s", SB_ARG(joined), k ? "|" : "",
                                     SB_ARG(c.segments[k]));
        if (!sb_str_is(joined, paths[i].segments))
            fail_msg("%s: got %s", paths[i].path, joined.p);
        sb_arena_free(c.arena);
    }
}

static void test_limits(void **state)
{
    struct sb_call c = {.arena = sb_arena_new(0)};
    struct sb_arg *args;
    struct sb_buf b;
    size_t n;

    (void)state;
    assert_false(sb_call_split_path(&c, SB_STR("/a/b/c/d/e/f/g/h/i")));
    sb_buf_init(&b, 0);
    for (int i = 0; i < SB_ARGS_MAX; i++)
        sb_buf_cstr(&b, "a=1&");
    assert_true(sb_args_parse(c.arena, sb_buf_get(&b), &args, &n));
    sb_buf_cstr(&b, "a=1");
    assert_false(sb_args_parse(c.arena, sb_buf_get(&b), &args, &n));
    sb_buf_release(&b);
    sb_arena_free(c.arena);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_multipart),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(all, NULL, NULL);
}
