/* clang-format off: version 14 falls over tables of strings that go on over lines */
/* Declarative documents: ids, forms, faults, export; and what a real gateway answered to the pushes
 * of tests/conformance/kong-cases/declarative. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schema/declarative.h"
#include "shared/json.h"
#include "recorded.h"

static struct sb_value *yaml(struct sb_arena *a, const char *text)
{
    struct sb_value *v;
    struct sb_err err;

    if (sb_declarative_text(a, sb_str_c(text), NULL, &v, &err))
        fail_msg("%s: %s", text, err.text);
    return v;
}

static struct sb_value *load(struct sb_arena *a, const char *text)
{
    struct sb_schema_ctx ctx = {.arena = a, .dbless = true, .now_s = 7};
    struct sb_kong_error e = {0};
    struct sb_value *rows;
    char hash[33];

    if (sb_declarative_load(&ctx, yaml(a, text), sb_str_c(text), &rows, hash, &e))
        fail_msg("%s: %s", text, e.message.p);
    return rows;
}

#define V3 "_format_version: '3.0'\n"

static void ids_follow_from_names(void **state)
{
    static const struct {
        const char *doc, *kind, *id;
    } rows[] = {
        {"services: [{name: my-service, host: h}]", "services",
         "0855b320-0dd2-547d-891d-601e9b38647f"},
        {"routes: [{name: my-route, paths: [/]}]", "routes",
         "481a9539-f49c-51b6-b2e2-fe99ee68866c"},
        {"consumers: [{username: my-user}]", "consumers", "4b1b701d-de2b-5588-9aa2-3b97061d9f52"},
        {"upstreams: [{name: my-upstream}]", "upstreams", "00402a2c-1725-5592-97af-b204bc733b7a"},
        {"vaults: [{prefix: my-env, name: env}]", "vaults", "3dc3bf8d-e9b4-576c-af74-01619966a0d0"},
        {"plugins: [{name: file-log, config: {path: /x}}]", "plugins",
         "fde0c91c-fe4b-5c64-8567-f62228388d48"},
        {"services: [{name: my-service, host: h, plugins: [{name: file-log, config: {path: /x}}]}]",
         "plugins", "ff5af6e2-7c22-5b6c-834e-594211031e23"},
        {"routes: [{name: my-route, paths: [/], plugins: [{name: file-log, config: {path: /x}}]}]",
         "plugins", "4b9cc4b0-30cc-5cc2-8236-0352d64fae1f"},
        {"consumers: [{username: my-user, plugins: [{name: file-log, config: {path: /x}}]}]",
         "plugins", "01a0ccf9-4a06-5887-b5f4-f49c610ba852"},
        {"services: [{name: my-service, host: h}]\nplugins: [{name: file-log, service: my-service, "
         "config: "
         "{path: /x}}]",
         "plugins", "df0b44dc-94ea-52a0-b1ae-16ccc9476da9"},
        {"upstreams: [{name: my-upstream, targets: [{target: '10.0.0.1:80'}]}]", "targets",
         "f84e3d41-b59b-5b29-8655-9ea8de6013ee"},
        {"consumers: [{username: my-user, acls: [{group: grp}]}]", "acls",
         "23e9b7e8-f7a5-556b-8f77-86049ad288c0"},
        {"consumers: [{username: u, basicauth_credentials: [{username: bob, password: p}]}]",
         "basicauth_credentials", "c32b532d-e1e7-5040-b7d6-c426e350866b"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_value *out = load(a, sb_arena_printf(a, V3 "%s", rows[i].doc).p);
        struct sb_str id = sb_value_str_at(sb_get(out, rows[i].kind)->items[0], "id");

        if (!sb_str_is(id, rows[i].id))
            fail_msg("%s: %.*s", rows[i].doc, SB_ARG(id));
        sb_arena_free(a);
    }
}

/* Documents and, by dotted paths of positions and names, what must come out of them. */
static void forms(void **state)
{
    static const struct {
        const char *doc, *kind, *field, *want;
    } rows[] = {
        {V3 "services: [{name: s, host: h}]\nroutes: [{name: r, paths: [/], service: s}]", "routes",
         "service", "{\"id\":\"b268827a-8f7f-551f-8769-e6bceb2f3ec6\"}"},
        {V3 "consumers: [{username: u, basicauth_credentials: [{username: b, password: "
            "p}]}]\n_transform: "
            "false",
         "basicauth_credentials", "password", "\"p\""},
        {"_format_version: '1.1'\nroutes: [{name: r, paths: ['/a(b)%2fc', /x/../y]}]", "routes",
         "paths", "[\"~/a(b)%2Fc\",\"/y\"]"},
        {"_format_version: '2.1'\nservices: [{name: s, host: h, routes: [{paths: ['/\\d+']}]}]",
         "routes", "paths", "[\"~/\\\\d+\"]"},
        {V3 "upstreams: [{name: u, targets: [{target: a}]}]", "targets", "target", "\"a:8000\""},
        {V3
         "services: [{name: s, host: h, updated_at: 3, created_at: 2, _comment: x, _ignore: [1]}]",
         "services", "updated_at", "3"},
        {V3 "services: [{name: s, host: h}]", "services", "updated_at", "7"},
        {V3 "services: [{name: s, url: 'https://h/p', retries: null}]", "services", "retries",
         "null"},
        {V3 "services: [{name: s, host: h, plugins: [{name: cors, service: s}]}]", "plugins",
         "enabled", "true"},
        {V3 "consumers: [{username: u, keyauth_credentials: [{key: k, ttl: 99}]}]",
         "keyauth_credentials", "ttl", "99"},
        {"{\"_format_version\":\"3.0\",\"services\":[{\"host\":\"h\"}],\"routes\":null,\"plugins\":"
         "[]}",
         "services", "port", "80"},
        {V3 "parameters: [{key: k, value: v}]", "parameters", "value", "\"v\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_value *out = load(a, rows[i].doc), *list = sb_get(out, rows[i].kind);

        assert_non_null(list);
        assert_string_equal(sb_json_text(a, sb_get(list->items[0], rows[i].field), 0).p,
                            rows[i].want);
        sb_arena_free(a);
    }
}

static void refuses(void **state)
{
    static const struct {
        const char *doc, *fields, *flattened, *pretty;
    } rows[] = {
        {"services: [{name: s, host: h}]", "{\"_format_version\":\"required field missing\"}", "[]",
         "in '_format_version': required field missing"},
        {"_format_version: 3.0", "{\"_format_version\":\"expected a string\"}", "[]",
         "in '_format_version': expected a string"},
        {V3 "foo: 1\ntags: []\nservices: x",
         "{\"foo\":\"unknown field\",\"tags\":\"unknown field\",\"services\":\"expected an "
         "array\"}",
         "[]",
         "in 'foo': unknown field\nin 'tags': unknown field\nin 'services': expected an array"},
        {V3 "services: [x, {name: s}]",
         "{\"services\":[\"expected a record\",{\"host\":\"required field missing\"}]}",
         "[{\"entity_type\":\"service\",\"entity_name\":\"s\",\"entity\":{\"name\":\"s\"},"
         "\"errors\":[{"
         "\"type\":\"field\",\"field\":\"host\",\"message\":\"required field "
         "missing\"}]},{\"entity_type\":"
         "\"service\",\"entity\":{},\"errors\":[{\"type\":\"entity\",\"message\":\"expected a "
         "record\"}]}]",
         "in 'services':\n  - in entry 1 of 'services': expected a record\n  - in entry 2 of "
         "'services':\n  "
         "  in 'host': required field missing"},
        {V3 "services: [{host: h, routes: x}]",
         "{\"services\":[{\"routes\":\"expected an array\"}]}",
         "[{\"entity_type\":\"service\",\"entity\":{\"host\":\"h\",\"routes\":\"x\"},\"errors\":[{"
         "\"type\":"
         "\"field\","
         "\"field\":\"routes\",\"message\":\"expected an array\"}]}]",
         "in 'services':\n  - in entry 1 of 'services':\n    in 'routes': expected an array"},
        {V3 "services: [{host: h, plugins: [{name: cors, consumer: u}]}]",
         "{\"services\":[{\"plugins\":[{\"consumer\":\"value must be null\"}]}]}",
         "[{\"entity_type\":\"plugin\",\"entity_name\":\"cors\",\"entity\":{\"name\":\"cors\","
         "\"consumer\":"
         "\"u\"},\"errors\":[{\"type\":\"field\",\"field\":\"consumer\",\"message\":\"value must "
         "be null\"}]}]",
         "in 'services':\n  - in entry 1 of 'services':\n    in 'plugins':\n      - in entry 1 of "
         "'plugins':\n        in 'consumer': value must be null"},
        {V3 "routes: [{name: r, paths: [/], service: ghost}]",
         "{\"routes\":{\"r\":[\"invalid reference 'service: ghost' (no such entry in "
         "'services')\"]}}",
         "[{\"entity_type\":\"route\",\"entity_id\":\"da7ba03a-f1be-52d4-8a7e-c8f32640689a\","
         "\"entity_name\":\"r\",\"entity\":{\"name\":\"r\",\"paths\":[\"/"
         "\"],\"service\":\"ghost\",\"id\":"
         "\"da7ba03a-f1be-52d4-8a7e-c8f32640689a\"},\"errors\":[{\"type\":\"field\",\"field\":"
         "\"service\","
         "\"message\":\"invalid reference 'service: ghost' (no such entry in 'services')\"}]}]",
         "in 'routes':\n  in 'r':\n    - in entry 1 of 'r': invalid reference 'service: ghost' (no "
         "such "
         "entry in 'services')"},
        {V3
         "consumers: [{custom_id: x, id: 00000000-0000-4000-8000-000000000001}, {custom_id: x, id: "
         "00000000-0000-4000-8000-000000000002}]",
         "{\"consumers\":{\"00000000-0000-4000-8000-000000000002\":\"uniqueness violation: "
         "'consumers' "
         "entity with custom_id set to 'x' already declared\"}}",
         "[{\"entity_type\":\"consumer\",\"entity_id\":\"00000000-0000-4000-8000-000000000002\","
         "\"entity\":"
         "{\"custom_id\":\"x\",\"id\":\"00000000-0000-4000-8000-000000000002\"},\"errors\":[{"
         "\"type\":"
         "\"entity\",\"message\":\"uniqueness violation: 'consumers' entity with custom_id set to "
         "'x' "
         "already declared\"}]}]",
         "in 'consumers':\n  in '00000000-0000-4000-8000-000000000002': uniqueness violation: "
         "'consumers' "
         "entity with custom_id set to 'x' already declared"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a};
        struct sb_kong_error e = {0};
        struct sb_value *out;
        char hash[33];

        if (!sb_declarative_load(&ctx, yaml(a, rows[i].doc), SB_STR(""), &out, hash, &e))
            fail_msg("accepted: %s", rows[i].doc);
        assert_int_equal(e.code, SB_KONG_DECLARATIVE_CONFIG);
        assert_string_equal(sb_json_text(a, e.fields, 0).p, rows[i].fields);
        assert_string_equal(sb_arena_cstr(a, sb_declarative_pretty(a, &e)), rows[i].pretty);
        sb_declarative_flatten(a, &e);
        assert_string_equal(sb_json_text(a, e.flattened, 0).p, rows[i].flattened);
        sb_arena_free(a);
    }
}

/* What stands within another entity may refer to a third one, as long as nothing else is wrong. */
static void nested_references(void **state)
{
    static const struct {
        const char *doc, *fields; /* NULL: loads */
    } rows[] = {
        {V3 "services: [{name: s, host: h, plugins: [{name: acme, route: r}]}]\n"
            "routes: [{name: r, paths: [/]}]",
         "{\"services\":[{\"plugins\":[{\"route\":\"value must be null\",\"service\":\"value must "
         "be null\",\"config\":{\"account_email\":\"required field missing\"}}]}]}"},
        {V3 "services: [{name: s, host: h, plugins: [{name: cors, route: r}]}]\n"
            "routes: [{name: r, paths: [/]}]",
         NULL},
        {V3 "services: [{name: s, host: h, routes: [{name: r, paths: [/], service: t}]}, {name: t, "
            "host: h}]",
         NULL},
        {V3 "services: [{name: s, host: h, routes: [{name: r, paths: [/], service: s}]}, {host: a "
            "b}]",
         "{\"services\":[{\"routes\":[{\"service\":\"value must be null\"}]},{\"host\":\"invalid "
         "value: a b\"}]}"},
        {V3 "plugins: [{name: cors, service: x}, {name: cors, foo: 1}]",
         "{\"plugins\":[{\"service\":{\"id\":\"missing primary key\"}},{\"foo\":\"unknown "
         "field\"}]}"},
        {V3
         "consumers: [{username: u, basicauth_credentials: [{username: b, password: p, consumer: "
         "x}]}]",
         "{\"consumers\":[{\"basicauth_credentials\":[{\"consumer\":\"value must be null\","
         "\"@entity\":[\"all or none of these fields must be set: 'password', "
         "'consumer.id'\"]}]}]}"},
        {V3 "routes: [{protocols: [x], plugins: [{name: nope}]}]",
         "{\"routes\":[{\"protocols\":\"unknown type: x\"}]}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_schema_ctx ctx = {.arena = a};
        struct sb_kong_error e = {0};
        struct sb_value *out;
        char hash[33];
        enum sb_rc rc = sb_declarative_load(&ctx, yaml(a, rows[i].doc), SB_STR(""), &out, hash, &e);

        if (!rc != !rows[i].fields)
            fail_msg("%s: %s", rows[i].doc, rc ? e.message.p : "accepted");
        if (rc)
            assert_string_equal(sb_json_text(a, e.fields, 0).p, rows[i].fields);
        sb_arena_free(a);
    }
}

static void texts(void **state)
{
    static const struct {
        const char *name, *text, *why;
    } rows[] = {
        {NULL, "{\"a\":1}", NULL},
        {NULL, "a: 1", NULL},
        {"x.yml", "a: 1", NULL},
        {"x.json", "a: 1", "failed parsing declarative configuration: invalid JSON"},
        {"x.lua", "{}", "unknown file type: x.lua. (Accepted types: json, yaml)"},
        {NULL, "hello", "failed parsing declarative configuration: expected an object"},
        {NULL, "a: 'x'\nb:\n  - name: a\n url: b\n",
         "failed parsing declarative configuration: 4:2: did not find expected key"},
        {NULL, "a: 'x'\nb:\n\t- name: a\n",
         "failed parsing declarative configuration: 2:1: found character that cannot start any "
         "token"},
        {NULL, "{]",
         "failed parsing declarative configuration: 1:1: did not find expected node content"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_arena *a = sb_arena_new(0);
        struct sb_err err = {0};
        struct sb_value *doc;
        enum sb_rc rc = sb_declarative_text(a, sb_str_c(rows[i].text), rows[i].name, &doc, &err);

        assert_int_equal(rc != SB_OK, rows[i].why != NULL);
        if (rows[i].why && strncmp(err.text, rows[i].why, strlen(rows[i].why)) != 0)
            fail_msg("%s", err.text);
        sb_arena_free(a);
    }
}

static void hashes(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_kong_error e;
    struct sb_value *rows;
    char one[33], two[33];

    (void)state;
    assert_int_equal(
        sb_declarative_load(&ctx, yaml(a, V3 "services: []"), SB_STR("x"), &rows, one, &e), 0);
    assert_string_equal(one, "00000000000000000000000000000000");
    assert_int_equal(
        sb_declarative_load(&ctx, yaml(a, V3 "services: [{host: h}]"), SB_STR("x"), &rows, one, &e),
        0);
    assert_string_equal(one, "9dd4e461268c8034f5c8564e155c67a6");
    assert_int_equal(sb_declarative_load(&ctx, yaml(a, V3 "services: [{host: h, port: 1}]"),
                                         SB_STR(""), &rows, one, &e),
                     0);
    assert_int_equal(sb_declarative_load(&ctx, yaml(a, "services: [{port: 1, host: h}]\n" V3),
                                         SB_STR(""), &rows, two, &e),
                     0);
    assert_string_equal(one, two);
    sb_arena_free(a);
}

/* An export loads again, and gives the same rows. */
static void exports_load_again(void **state)
{
    static const char doc[] =
        V3 "services: [{name: s, url: 'http://h', routes: [{name: r, paths: [/], plugins: [{name: "
           "rate-limiting, config: {minute: 1, redis_host: a}}]}]}]\n"
           "consumers: [{username: u, basicauth_credentials: [{username: b, password: p}], "
           "keyauth_credentials: [{key: k, ttl: 1999999999}]}]\n"
           "upstreams: [{name: up, targets: [{target: 10.0.0.1}]}]\n"
           "vaults: [{name: env, prefix: my-env, config: {prefix: X}}]\n";
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_value *rows = load(a, doc), *again, *dump;
    struct sb_kong_error e = {0};
    char hash[33];

    (void)state;
    dump = sb_declarative_dump(&ctx, rows);
    if (sb_declarative_load(&ctx, dump, SB_STR(""), &again, hash, &e))
        fail_msg("%s", e.message.p);
    if (!sb_value_equal(sb_declarative_dump(&ctx, again), dump))
        fail_msg("%s\n%s", sb_json_text(a, dump, 0).p,
                 sb_json_text(a, sb_declarative_dump(&ctx, again), 0).p);
    assert_true(sb_is(sb_get(sb_get(dump, "routes")->items[0], "service"), SB_V_STR));
    assert_null(sb_value_at(sb_get(dump, "plugins")->items[0], "config.redis_host"));
    sb_arena_free(a);
}

/* -- what a real gateway answered ---------------------------------------------------------------
 */

/* Where we answer otherwise on purpose: dangling references and clashes are attributed to their
 * entity in flattened_errors, where Kong drops them; internals of nested SNIs are not shown. */
static const char *const deviations[] = {
    "certificate with nested snis",   "invalid reference: route to a missing service",
    "invalid reference by id",        "consumer reference by custom_id is invalid",
    "duplicate consumer custom_id",   "duplicate key-auth keys",
    "duplicate basic-auth usernames", "duplicate snis",
};

static bool deviates(struct sb_str name, bool flatten, bool ok)
{
    for (size_t i = 0; i < sizeof deviations / sizeof *deviations; i++) {
        if (sb_str_is(name, deviations[i]))
            return flatten || ok;
    }
    return false;
}

static unsigned checked, wrong;

/* The answer to a push, as the Admin API builds it. */
static struct sb_value *answer(struct sb_schema_ctx *ctx, const struct sb_value *push, bool flatten,
                               bool *ok)
{
    struct sb_value *doc = sb_get(push, "config"), *rows, *shown;
    struct sb_str text = sb_value_str_at(push, "body");
    struct sb_kong_error e = {0};
    struct sb_err err;
    char hash[33];
    enum sb_rc rc = SB_OK;

    if (sb_is(sb_get(doc, "config"), SB_V_STR)) {
        text = sb_get(doc, "config")->s;
        doc = NULL;
    }
    if (!doc)
        rc = sb_declarative_text(ctx->arena, text, NULL, &doc, &err);
    if (rc)
        sb_declarative_refused(ctx->arena, err.text, &e);
    else
        rc = sb_declarative_load_shown(ctx, doc, text, &rows, &shown, hash, &e);
    *ok = !rc;
    if (!rc)
        return shown;
    if (flatten)
        sb_declarative_flatten(ctx->arena, &e);
    return sb_kong_error_body(ctx->arena, &e);
}

static bool is_about_text(const struct sb_value *push)
{
    const struct sb_value *header;

    sb_array_each (header, sb_get(push, "headers")) {
        if (sb_str_find(header->s, SB_STR("yaml"), 0) >= 0)
            return sb_value_str_at(push, "body").len > 0;
    }
    return sb_get(push, "config") != NULL;
}

static void replay_push(struct sb_str name, struct sb_value *step)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_schema_ctx ctx = {.arena = a, .dbless = true};
    struct sb_value *push = sb_value_copy(a, sb_get(step, "push")), *got;
    const struct sb_value *want = sb_value_at(step, "expect.json");
    int64_t status = sb_value_int_at(step, "expect.status", 0);
    bool flatten = sb_str_find(sb_value_str_at(push, "query"), SB_STR("flatten_errors=1"), 0) >= 0,
         ok;

    if (is_about_text(push) && (status == 201 || status == 400)) {
        recorded_fill_ports(a, push);
        got = answer(&ctx, push, flatten, &ok);
        checked++;
        if (!deviates(name, flatten, ok) &&
            (ok != (status == 201) || (want && !recorded_same(got, want)))) {
            print_message("%.*s: %s\n", SB_ARG(name), sb_json_text(a, got, 0).p);
            wrong++;
        }
    }
    sb_arena_free(a);
}

static void replay_step(struct sb_str name, const struct sb_value *file, struct sb_value *step)
{
    (void)file;
    if (sb_get(step, "push"))
        replay_push(name, step);
}

static void answers_as_recorded(void **state)
{
    (void)state;
    recorded_replay("declarative", replay_step);
    assert_true(checked > 100);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_follow_from_names),
        cmocka_unit_test(forms),
        cmocka_unit_test(refuses),
        cmocka_unit_test(nested_references),
        cmocka_unit_test(texts),
        cmocka_unit_test(hashes),
        cmocka_unit_test(exports_load_again),
        cmocka_unit_test(answers_as_recorded),
    };

    return cmocka_run_group_tests_name("declarative", tests, NULL, NULL);
}
