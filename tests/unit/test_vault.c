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
        {"{vault://env/my-json/port}", ""}, /* no text */
        {"{vault://env/my%2Djson//user}", "u"},
        {"{vault://env/my-json/user/}", ""}, /* all of it is the resource */
        {"{vault://env/my-secret/}", "one"},
        {"{vault://env/a/b/user}", "deep"}, /* the last part is the key */
        {"{vault://env/my-secret#1}", "one"},
        {"{vault://env/my-secret#2}", "zero"}, /* MY_SECRET_PREVIOUS */
        {"{vault://env/my-secret#x}", ""},
        {"{vault://env/my-secret?prefix=1}", "one"}, /* can't be one */
        {"{vault://env?x/my-secret}", ""},
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
        {"{vault://mine/my-secret?prefix=}", "one"},
        {"{vault://mine/my-secret?prefix=1}", "one"},
        {"{vault://plain/my-secret}", "one"},
        {"{vault://far/my-secret}", ""}, /* of a kind that is not built */
    };
    struct sb_vaults *v = sb_vaults_new(NULL);
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    setenv("MY_SECRET", "one", 1);
    setenv("MY_SECRET_PREVIOUS", "zero", 1);
    setenv("OTHER_SECRET", "two", 1);
    setenv("A/B", "{\"user\":\"deep\"}", 1);
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

/* -- another kind of vault: slow, at times away, and asked with times -- */

static struct {
    int64_t now_ms;
    const char *secret; /* NULL: none */
    bool away;
    int asked;
} far;

static int64_t far_clock(void)
{
    return far.now_ms;
}

static enum sb_rc get_far(struct sb_arena *a, const struct sb_vault_question *q, struct sb_str *out)
{
    far.asked++;
    if (far.away)
        return SB_UNAVAILABLE;
    *out = sb_arena_printf(a, "%s of %.*s", far.secret ? far.secret : "",
                           SB_ARG(sb_value_str_at(q->options, "region")));
    return far.secret ? SB_OK : SB_NOTFOUND;
}

static const struct sb_vault_option far_options[] = {
    {"region", false, NULL},
    {"ttl", true, NULL},
    {"neg_ttl", true, NULL},
    {"resurrect_ttl", true, NULL},
    {0},
};
static const struct sb_vault_kind far_kind = {"far", far_options, get_far};

struct step {
    int after_s;
    const char *secret;
    bool away, changed;
    const char *want;
    int asked;
};

static void follow(const char *reference, const struct step *steps)
{
    struct sb_vaults *v = sb_vaults_new(NULL);
    struct sb_arena *a = sb_arena_new(0);

    memset(&far, 0, sizeof far);
    sb_vaults_add(v, &far_kind);
    sb_vaults_set_clock(v, far_clock);
    sb_vaults_put(v, SB_STR("v"),
                  json(a, "{'name':'far','prefix':'here','config':{'region':'eu','ttl':100,"
                          "'neg_ttl':200,'resurrect_ttl':300}}"));
    for (const struct step *s = steps; s->want; s++) {
        struct sb_str got;
        bool changed;

        far.now_ms += s->after_s * 1000;
        far.secret = s->secret;
        far.away = s->away;
        changed = sb_vaults_rotate(v);
        got = sb_vaults_get(v, a, sb_str_c(reference));
        if (!sb_str_is(got, s->want) || changed != s->changed || far.asked != s->asked)
            fail_msg("%s, step %td: '%.*s', changed %d, asked %d", reference, s - steps,
                     SB_ARG(got), changed, far.asked);
    }
    sb_arena_free(a);
    sb_vaults_free(v);
}

static void times(void **state)
{
    (void)state;
    follow("{vault://here/s}", (const struct step[]){
                                   {0, "one", false, false, "one of eu", 1},
                                   {99, "two", false, false, "one of eu", 1},
                                   {1, "two", false, true, "two of eu", 2},
                                   {100, "two", true, false, "two of eu", 4}, /* away: at each */
                                   {299, NULL, false, false, "two of eu", 6}, /* and not found */
                                   {1, NULL, true, true, "", 7},              /* for too long */
                                   {199, "three", false, false, "", 7},       /* neg_ttl */
                                   {1, "three", false, true, "three of eu", 8},
                                   {0},
                               });
    follow("{vault://here/s?ttl=10&region=us&resurrect_ttl=0&neg_ttl=x}",
           (const struct step[]){
               {0, "one", false, false, "one of us", 1},
               {10, "two", false, true, "two of us", 2},
               {10, NULL, false, false, "two of us", 4}, /* two minutes at least */
               {119, NULL, false, false, "two of us", 6},
               {1, NULL, false, true, "", 8},
               {0},
           });
    /* Named by its kind: without options, for good. */
    follow("{vault://far/s}", (const struct step[]){
                                  {0, "one", false, false, "one of ", 1},
                                  {1000000, "two", false, false, "one of ", 1},
                                  {0},
                              });
}

/* A vault that is another now is asked at once, and the secret of the one before is no substitute.
 */
static void a_vault_changes(void **state)
{
    struct sb_vaults *v = sb_vaults_new(NULL);
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str reference = SB_STR("{vault://here/s}");

    (void)state;
    memset(&far, 0, sizeof far);
    far.secret = "one";
    sb_vaults_add(v, &far_kind);
    sb_vaults_put(v, SB_STR("v"),
                  json(a, "{'name':'far','prefix':'here','config':{'region':'eu','ttl':1000}}"));
    assert_true(sb_str_is(sb_vaults_get(v, a, reference), "one of eu"));
    assert_false(sb_vaults_rotate(v));
    sb_vaults_put(v, SB_STR("v"),
                  json(a, "{'name':'far','prefix':'here','config':{'region':'us','ttl':1000}}"));
    assert_true(sb_vaults_rotate(v));
    assert_true(sb_str_is(sb_vaults_get(v, a, reference), "one of us"));
    far.away = true;
    sb_vaults_put(v, SB_STR("v"),
                  json(a, "{'name':'far','prefix':'here','config':{'region':'us','ttl':1000}}"));
    assert_true(sb_str_is(sb_vaults_get(v, a, reference), "one of us"));
    sb_vaults_put(v, SB_STR("v"),
                  json(a, "{'name':'far','prefix':'here','config':{'region':'x','ttl':1000}}"));
    assert_true(sb_vaults_get(v, a, reference).len == 0);
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
        cmocka_unit_test(times),
        cmocka_unit_test(a_vault_changes),
        cmocka_unit_test(plugins_get_secrets),
    };

    return cmocka_run_group_tests(tests, add_plugin, forget);
}
