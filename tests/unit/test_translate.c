/* The small rules of translation, a corner a row; whole objects are compared in tests/conformance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "controlplane/translate/annotations.h"
#include "controlplane/translate/expression.h"
#include "controlplane/translate/fields.h"
#include "controlplane/translate/translator.h"
#include "shared/json.h"
#include "shared/yaml.h"

static void assert_text(struct sb_str s, const char *expected)
{
    char text[512];

    snprintf(text, sizeof text, "%.*s", SB_ARG(s));
    assert_string_equal(text, expected);
}

static void rewrites(void **state)
{
    static const struct {
        const char *template, *uri, *error;
    } rows[] = {
        {"/", "/", NULL},
        {"/x/$1", "/x/$(uri_captures[1])", NULL},
        {"/$12/$2y", "/$(uri_captures[12])/$(uri_captures[2])y", NULL},
        {"/$1$2", "/$(uri_captures[1])$(uri_captures[2])", NULL},
        {"/\\$1", "/$1", NULL},
        {"/$1\\$", "/$(uri_captures[1])$", NULL},
        {"/\\x", NULL, "unexpected x at pos 2"},
        {"/$x", NULL, "unexpected x at pos 2"},
        {"/$\xc3\xa9", NULL, "unexpected \xc3\xa9 at pos 2"},
        {"/\\", NULL, "unexpected end of string"},
        {"/$", NULL, "unexpected end of string"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str uri, error;
        bool good = rewrite_uri(a, sb_str_c(rows[i].template), &uri, &error);

        assert_int_equal(good, rows[i].uri != NULL);
        assert_text(good ? uri : error, good ? rows[i].uri : rows[i].error);
    }
    sb_arena_free(a);
}

static void names(void **state)
{
    static const struct {
        const char *text;
        bool plain, alias, method, protocol;
    } rows[] = {
        {"example.com", true, true, false, false}, {"EXAMPLE-1.com", true, true, false, false},
        {"10.0.0.1", true, true, false, false},    {"*.example.com", false, true, false, false},
        {"example.*", false, true, false, false},  {"*.example.*", false, true, false, false},
        {"*", false, false, false, false},         {"*.", false, false, false, false},
        {"a.*.com", false, false, false, false},   {"-a.com", false, false, false, false},
        {"a-.com", false, false, false, false},    {"a--b.com", false, false, false, false},
        {"a..com", false, false, false, false},    {"a.com.", false, false, false, false},
        {"a_b.com", false, false, false, false},   {"a.com:80", false, false, false, false},
        {"", false, false, false, false},          {"GET", true, true, true, false},
        {"get", true, true, false, false},         {"M-SEARCH", true, true, false, false},
        {"grpcs", true, true, false, true},        {"tls_passthrough", false, false, false, true},
        {"udp", true, true, false, false},         {"HTTP", true, true, true, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str s = sb_str_c(rows[i].text);

        assert_int_equal(is_plain_host(s), rows[i].plain);
        assert_int_equal(is_host_alias(s), rows[i].alias);
        assert_int_equal(is_method(s), rows[i].method);
        assert_int_equal(is_protocol(s), rows[i].protocol);
    }
}

static void booleans(void **state)
{
    static const struct {
        const char *text;
        int exact, any_case; /* -1: no boolean */
    } rows[] = {
        {"1", 1, 1},      {"true", 1, 1},  {"TRUE", 1, 1},    {"tRue", -1, 1}, {"F", 0, 0},
        {"fALSE", -1, 0}, {"yes", -1, -1}, {" true", -1, -1}, {"", -1, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int any = 0; any < 2; any++) {
            bool value = false;
            bool is = go_bool(sb_str_c(rows[i].text), any, &value);

            assert_int_equal(is ? value : -1, any ? rows[i].any_case : rows[i].exact);
        }
    }
}

/* Annotations as flow YAML, the route they give on one that has hosts [a.com] and protocols [x]. */
static void routes(void **state)
{
    static const struct {
        const char *annotations, *route;
    } rows[] = {
        {"{}", "{\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/strip-path: 'TRUE'}", "{\"hosts\":[\"a.com\"],\"strip_path\":true}"},
        {"{konghq.com/snis: ' ,'}", "{\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/host-aliases: 'b.com,a.com,b.com'}", "{\"hosts\":[\"a.com\",\"b.com\"]}"},
        {"{konghq.com/host-aliases: 'b.com,*'}", "{\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/protocols: 'https,grpc', konghq.com/strip-path: 'true'}",
         "{\"hosts\":[\"a.com\"],\"protocols\":[\"http\",\"https\"]}"},
        {"{konghq.com/headers.x: ',', konghq.com/headers-separator: ''}",
         "{\"headers\":{\"x\":[\"\",\"\"]},\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/headers.x: 'a;b, c', konghq.com/headers-separator: ;}",
         "{\"headers\":{\"x\":[\"a\",\"b, c\"]},\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/headers.x: '', konghq.com/headers.: a}", "{\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/path-handling: xv1y}", "{\"hosts\":[\"a.com\"],\"path_handling\":\"xv1y\"}"},
        {"{konghq.com/path-handling: v}", "{\"hosts\":[\"a.com\"]}"},
        {"{konghq.com/regex-priority: '+7'}", "{\"hosts\":[\"a.com\"],\"regex_priority\":7}"},
        {"{ingress.kubernetes.io/force-ssl-redirect: 'true', konghq.com/protocols: 'udp'}",
         "{\"hosts\":[\"a.com\"],\"https_redirect_status_code\":302,\"protocols\":[\"https\"]}"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_value *route = sb_value_object(a), *hosts = sb_value_array(a), *annotations;

        sb_array_push(a, hosts, sb_value_text(a, "a.com"));
        set_value(a, route, "hosts", hosts);
        assert_int_equal(sb_yaml_parse(a, sb_str_c(rows[i].annotations), &annotations, NULL),
                         SB_OK);
        route_annotations(a, route, annotations, false);
        assert_text(sb_json_text(a, route, SB_JSON_SORTED), rows[i].route);
    }
    sb_arena_free(a);
}

static void expressions(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct operands none = {0}, one = {0}, two = {0};

    (void)state;
    operand_add(a, &one, SB_STR("x"));
    operand_add(a, &one, SB_STR(""));
    operand_add(a, &two, any_of(a, &one));
    operand_add(a, &two, all_of(a, &none));
    operand_add(a, &two, predicate(a, SB_STR("f"), "==", SB_STR("a\"\\\n\t\r")));
    assert_text(all_of(a, &none), "");
    assert_text(any_of(a, &one), "x");
    assert_text(all_of(a, &two), "(x) && (f == \"a\\\"\\\\\\n\\t\\r\")");
    sb_arena_free(a);
}

static struct order at(int rank, bool last, const char *created, const char *ns, const char *name)
{
    return (struct order){rank, last, sb_str_c(created), sb_str_c(ns), sb_str_c(name), 0};
}

static void order(void **state)
{
    const struct order rows[] = {
        at(0, false, "", "z", "z"),
        at(0, false, "2024-01-01T00:00:00Z", "a-b", "x"), /* "a-b/x" < "a/x" */
        at(0, false, "2024-01-01T00:00:00Z", "a", "x"),
        at(0, false, "2024-01-01T00:00:00Z", "a", "xx"),
        at(0, false, "2024-01-02T00:00:00Z", "a", "a"),
        at(0, true, "2023-01-01T00:00:00Z", "a", "a"),
        at(1, false, "2022-01-01T00:00:00Z", "a", "a"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
            assert_int_equal(order_cmp(&rows[i], &rows[k]), (i > k) - (i < k));
    }
}

static void settings(void **state)
{
    static const struct {
        const char *yaml, *error;
    } rows[] = {
        {"{feature_flags: {ExpressionRoutes: true}, options: {workspace: w}}", NULL},
        {"{flags: {}}", "flags: unknown"},
        {"{options: {colour: red}}", "options: colour: unknown"},
        {"{options: {workspace: 1}}", "options: workspace: must be a text"},
        {"{feature_flags: {FillIDs: 'no'}}", "feature_flags: FillIDs: must be true or false"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_translate_settings s;
        struct sb_value *doc;
        struct sb_err err;

        sb_translate_settings_init(&s);
        assert_int_equal(sb_yaml_parse(a, sb_str_c(rows[i].yaml), &doc, &err), SB_OK);
        if (!rows[i].error) {
            assert_int_equal(sb_translate_settings_read(&s, a, doc, &err), SB_OK);
            assert_true(s.expression_routes && s.fill_ids);
            assert_string_equal(s.workspace, "w");
            continue;
        }
        assert_int_equal(sb_translate_settings_read(&s, a, doc, &err), SB_INVALID);
        assert_string_equal(err.text, rows[i].error);
    }
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rewrites), cmocka_unit_test(names),       cmocka_unit_test(booleans),
        cmocka_unit_test(routes),   cmocka_unit_test(expressions), cmocka_unit_test(order),
        cmocka_unit_test(settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
