/* Secrets by reference: what each form of reference comes to, in which fields, and that rotation
 * builds anew what depends on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dataplane/config/build.h"
#include "dataplane/plugins/registry.h"
#include "dataplane/plugins/vault.h"
#include "schema/plugin_json.h"
#include "schema/plugins.h"
#include "shared/json.h"
#include "shared/log.h"

static struct sb_value *json(struct sb_arena *a, const char *text)
{
    struct sb_str s = sb_arena_str(a, sb_str_c(text));
    struct sb_value *v = NULL;
    struct sb_err err;

    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] == '\'')
            ((char *)s.p)[i] = '"';
    if (sb_json_parse(a, s, &v, &err))
        fail_msg("%s: %s", text, err.text);
    return v;
}

static void references(void **state)
{
    static const struct {
        const char *reference, *secret;
    } rows[] = {
        {"{vault://env/my-secret}", "one"},
        {"{vault://env/MY_SECRET}", "one"},
        {"{vault://env/secret?prefix=MY_}", "one"},
        {"{vault://env/secret?ttl=3&prefix=my-}", "one"},
        {"{vault://env/my-json/user}", "u"},
        {"{vault://env/my-json/port}", "5432"},
        {"{vault://env/my-json/none}", ""},
        {"{vault://env/my-json/list}", ""},
        {"{vault://env/my-secret/user}", ""}, /* no JSON */
        {"{vault://env/absent}", ""},
        {"{vault://env}", ""},
        {"{vault://env/}", ""},
        {"{vault://}", ""},
        {"{vault://aws/my-secret}", ""},
        {"{vault://mine/secret}", "one"}, /* an entity with the prefix MY_ */
        {"{vault://mine/secret?prefix=OTHER_}", "two"},
        {"{vault://plain/my-secret}", "one"},
        {"{vault://far/my-secret}", ""}, /* of a kind that is not built */
    };
    struct sb_vaults *v = sb_vaults_new(NULL);
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    setenv("MY_SECRET", "one", 1);
    setenv("OTHER_SECRET", "two", 1);
    setenv("MY_JSON", "{\"user\":\"u\",\"port\":5432,\"list\":[]}", 1);
    sb_vaults_put(v, SB_STR("v1"),
                  json(a, "{'name':'env','prefix':'mine','config':{'prefix':'MY_'}}"));
    sb_vaults_put(v, SB_STR("v2"), json(a, "{'name':'env','prefix':'plain','config':{}}"));
    sb_vaults_put(v, SB_STR("v3"), json(a, "{'name':'gcp','prefix':'far','config':{}}"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str got = sb_vaults_get(v, a, sb_str_c(rows[i].reference));

        if (!sb_str_is(got, rows[i].secret))
            fail_msg("%s: '%.*s', not '%s'", rows[i].reference, SB_ARG(got), rows[i].secret);
    }
    sb_vaults_put(v, SB_STR("v1"), NULL);
    assert_true(sb_vaults_get(v, a, SB_STR("{vault://mine/secret}")).len == 0);
    sb_arena_free(a);
    sb_vaults_free(v);
}

static void rotation(void **state)
{
    struct sb_vaults *v = sb_vaults_new(NULL);
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    setenv("ROTATED", "old", 1);
    assert_true(sb_str_is(sb_vaults_get(v, a, SB_STR("{vault://env/rotated}")), "old"));
    assert_false(sb_vaults_rotate(v));
    setenv("ROTATED", "new", 1);
    assert_true(sb_vaults_rotate(v));
    assert_false(sb_vaults_rotate(v));
    unsetenv("ROTATED");
    assert_true(sb_vaults_rotate(v));
    assert_true(sb_vaults_get(v, a, SB_STR("{vault://env/rotated}")).len == 0);
    sb_arena_free(a);
    sb_vaults_free(v);
}

/* -- in a snapshot -- */

static enum sb_rc compile(const struct sb_plugin_source *in, const void **out, struct sb_err *err)
{
    (void)err;
    *out = sb_json_text(in->arena, in->config, SB_JSON_SORTED).p;
    return SB_OK;
}

static enum sb_rc ok(struct sb_exchange *x, const void *config)
{
    (void)x;
    (void)config;
    return SB_OK;
}

static const struct sb_plugin keeper = {.name = "keeper", .compile = compile, .access = ok};
static struct sb_arena *for_good;

static int add_plugin(void **state)
{
    static const char schema[] =
        "{\"fields\":[{\"secret\":{\"type\":\"string\",\"referenceable\":true}},"
        "{\"plain\":{\"type\":\"string\"}},"
        "{\"list\":{\"type\":\"array\",\"elements\":{\"type\":\"string\",\"referenceable\":true}}},"
        "{\"map\":{\"type\":\"map\",\"keys\":{\"type\":\"string\"},"
        "\"values\":{\"type\":\"string\",\"referenceable\":true}}},"
        "{\"inner\":{\"type\":\"record\",\"fields\":["
        "{\"deep\":{\"type\":\"string\",\"referenceable\":true}}]}}]}";
    const struct sb_subschema *s;
    struct sb_err err;

    (void)state;
    sb_log_set_level(SB_LOG_CRIT);
    for_good = sb_arena_new(0);
    return sb_plugins_add(&keeper, &err) ||
           sb_plugin_schema_parse(for_good, "keeper", sb_str_c(schema), &s, &err) ||
           sb_plugin_schema_add(s, &err);
}

static int forget(void **state)
{
    (void)state;
    sb_arena_free(for_good);
    return 0;
}

static const char *config_of(struct sb_builder *b)
{
    const struct sb_snapshot *snap = sb_builder_build(b, 1);
    const char *config = snap->hooks->phase[SB_PHASE_ACCESS][0].config;

    sb_builder_retire(b, snap); /* the newest lives on in the builder */
    return config;
}

static void put(struct sb_builder *b, struct sb_arena *a, const char *kind, const char *row)
{
    sb_model_put(sb_builder_model(b), sb_str_c(kind), json(a, row), false);
}

static void plugins_get_secrets(void **state)
{
    struct sb_builder *b = sb_builder_new(SB_ROUTER_TRADITIONAL_COMPATIBLE, NULL);
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    setenv("DEEP", "one", 1);
    put(b, a, "plugins",
        "{'id':'p','name':'keeper','config':{'secret':'{vault://env/deep}','plain':"
        "'{vault://env/deep}','list':['x','{vault://env/deep}'],'map':{'k':'{vault://env/deep}'},"
        "'inner':{'deep':'{vault://env/deep}'}}}");
    assert_string_equal(config_of(b), "{\"inner\":{\"deep\":\"one\"},\"list\":[\"x\",\"one\"],"
                                      "\"map\":{\"k\":\"one\"},\"plain\":\"{vault://env/deep}\","
                                      "\"secret\":\"one\"}");
    assert_false(sb_builder_rotate(b));
    setenv("DEEP", "two", 1);
    assert_true(sb_builder_rotate(b));
    assert_non_null(strstr(config_of(b), "\"secret\":\"two\""));
    assert_int_equal(sb_builder_compiled(b), 1);

    put(b, a, "plugins", "{'id':'p','name':'keeper','config':{'secret':'{vault://mine/ep}'}}");
    assert_non_null(strstr(config_of(b), "\"secret\":\"\""));
    put(b, a, "vaults", "{'id':'v','name':'env','prefix':'mine','config':{'prefix':'DE'}}");
    assert_non_null(strstr(config_of(b), "\"secret\":\"two\"")); /* the vault came later */
    sb_model_drop(sb_builder_model(b), SB_STR("vaults"), SB_STR("v"));
    assert_non_null(strstr(config_of(b), "\"secret\":\"\""));
    sb_arena_free(a);
    sb_builder_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references),
        cmocka_unit_test(rotation),
        cmocka_unit_test(plugins_get_secrets),
    };

    return cmocka_run_group_tests(tests, add_plugin, forget);
}
