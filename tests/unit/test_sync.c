/* Rows of translated entities, and the controller's flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "controlplane/options.h"
#include "controlplane/sync/row.h"
#include "shared/json.h"
#include "shared/yaml.h"

#define TAG "managed-by-ingress-controller"

static struct sb_value *parse(struct sb_arena *a, const char *yaml)
{
    struct sb_value *v;
    struct sb_err err = {0};

    if (sb_yaml_parse(a, sb_str_c(yaml), &v, &err))
        fail_msg("%s", err.text);
    return v;
}

/* Every parent and every name has this id. */
static struct sb_str one_id(void *arg, struct sb_str entity, struct sb_str key)
{
    (void)arg, (void)entity, (void)key;
    return SB_STR("0855b320-0dd2-547d-891d-601e9b38647f");
}

static enum sb_rc complete(struct sb_arena *a, const struct sb_translated *t, struct sb_value **row,
                           struct sb_err *err)
{
    struct sb_schema_ctx ctx = {.arena = a};
    struct sb_row_ids ids = {.find = one_id};
    const struct sb_entity *kind = sb_entity_find(sb_str_c(t->entity));
    struct sb_str parent = t->parent_entity ? one_id(NULL, t->parent, t->parent) : SB_STR("");

    assert_non_null(kind);
    return sb_row_complete(&ctx, kind, t, sb_row_id(a, kind, t, parent), TAG, &ids, row, err);
}

static struct sb_translated service(struct sb_arena *a, const char *yaml)
{
    return (struct sb_translated){
        .entity = "services", .key = SB_STR("s"), .value = parse(a, yaml)};
}

static void ids_are_those_of_declarative_entities(void **state)
{
    static const struct {
        const char *entity, *key, *value, *id;
    } rows[] = {
        {"upstreams", "my-upstream", "{name: my-upstream}", "00402a2c-1725-5592-97af-b204bc733b7a"},
        {"services", "my-service", "{name: my-service}", "0855b320-0dd2-547d-891d-601e9b38647f"},
        {"snis", "x", "{name: example.test}", "cc34d920-1fee-52a6-a769-960c38f3705a"},
        {"services", "s", "{name: s, id: 11111111-2222-3333-4444-555555555555}",
         "11111111-2222-3333-4444-555555555555"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_translated t = {.entity = rows[i].entity,
                                  .key = sb_str_c(rows[i].key),
                                  .value = parse(a, rows[i].value)};
        struct sb_str id = sb_row_id(a, sb_entity_find(sb_str_c(t.entity)), &t, SB_STR(""));

        assert_string_equal(sb_arena_cstr(a, id), rows[i].id);
    }
    sb_arena_free(a);
}

static void a_target_is_numbered_by_its_upstream(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_translated t = {.entity = "targets",
                              .key = SB_STR("u/10.0.0.1:80"),
                              .parent_entity = "upstreams",
                              .parent = SB_STR("u"),
                              .value = parse(a, "{target: '10.0.0.1:80', weight: 50}")};
    const struct sb_entity *kind = sb_entity_find(SB_STR("targets"));
    struct sb_str id = sb_row_id(a, kind, &t, SB_STR("00402a2c-1725-5592-97af-b204bc733b7a"));
    struct sb_value *row;
    struct sb_err err = {0};

    (void)state;
    assert_string_equal(sb_arena_cstr(a, id), "f84e3d41-b59b-5b29-8655-9ea8de6013ee");
    if (complete(a, &t, &row, &err))
        fail_msg("%s", err.text);
    assert_string_equal(sb_arena_cstr(a, sb_value_str_at(row, "upstream.id")),
                        "0855b320-0dd2-547d-891d-601e9b38647f");
    sb_arena_free(a);
}

static void rows_are_tagged_and_complete(void **state)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_translated t = service(a, "{name: s, host: h, tags: [a]}");
    struct sb_value *row, *tags;
    struct sb_err err = {0};

    (void)state;
    if (complete(a, &t, &row, &err))
        fail_msg("%s", err.text);
    tags = sb_get(row, "tags");
    assert_int_equal(tags->count, 2);
    assert_true(sb_str_is(tags->items[1]->s, TAG));
    assert_int_equal(sb_value_int_at(row, "connect_timeout", 0), 60000);
    sb_arena_free(a);
}

static void refusals_name_the_field(void **state)
{
    static const struct {
        const char *value, *words;
    } rows[] = {
        {"{name: s}", "host"},
        {"{name: s, host: h, port: 70000}", "invalid service.port: "},
        {"{name: s, host: h, protocol: ftp}", "invalid service.protocol: "},
        {"{name: s, host: h, colour: red}", "invalid service.colour: unknown field"},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_translated t = service(a, rows[i].value);
        struct sb_value *row;
        struct sb_err err = {0};

        assert_int_equal(complete(a, &t, &row, &err), SB_INVALID);
        if (!strstr(err.text, rows[i].words))
            fail_msg("\"%s\" does not say \"%s\"", err.text, rows[i].words);
    }
    sb_arena_free(a);
}

static bool same(struct sb_arena *a, const char *one, const char *other)
{
    uint8_t h[2][SB_ROW_HASH_LEN];

    sb_row_hash(parse(a, one), h[0]);
    sb_row_hash(parse(a, other), h[1]);
    return !memcmp(h[0], h[1], SB_ROW_HASH_LEN);
}

static void hashes_see_what_counts(void **state)
{
    static const struct {
        const char *name, *one, *other;
        bool same;
    } rows[] = {
        {"order of members", "{a: 1, b: 2}", "{b: 2, a: 1}", true},
        {"null is absent", "{a: 1, b: null, c: {d: null}}", "{a: 1, c: {}}", true},
        {"times don't count", "{a: 1, created_at: 1, updated_at: 2}", "{a: 1, created_at: 3}",
         true},
        {"values do", "{a: 1}", "{a: 2}", false},
        {"order of lists does", "{a: [1, 2]}", "{a: [2, 1]}", false},
        {"empty is not absent", "{a: []}", "{}", false},
        {"a number is no text", "{a: 1}", "{a: '1'}", false},
    };
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (same(a, rows[i].one, rows[i].other) != rows[i].same)
            fail_msg("%s", rows[i].name);
    }
    sb_arena_free(a);
}

/* -- flags ----------------------------------------------------------------------------------------
 */

static enum sb_rc load(struct sb_arena *a, const char *line, const char *const *env,
                       struct sb_options *out, struct sb_buf *problems)
{
    char *argv[32] = {(char *)"silverback-controlplane"};
    struct sb_str rest = sb_str_c(line), word;
    int argc = 1;

    while (line[0] && sb_str_split(&rest, ' ', &word))
        argv[argc++] = sb_arena_cstr(a, word);
    return sb_options_load(a, argc, argv, env, out, problems);
}

static void flags_beat_variables_beat_defaults(void **state)
{
    static const char *const env[] = {"CONTROLLER_INGRESS_CLASS=env", "CONTROLLER_ELECTION_ID=e",
                                      "CONTROLLER_UPDATE_STATUS=false",
                                      "CONTROLLER_TERM_DELAY=1m30s", NULL};
    struct sb_arena *a = sb_arena_new(0);
    struct sb_options o;
    struct sb_buf problems;

    (void)state;
    sb_buf_init(&problems, 0);
    assert_int_equal(load(a,
                          "--ingress-class=flag --watch-namespace a,b --enable-drain-support "
                          "--kong-admin-init-retries 3 --enable-controller-kongplugin=false",
                          env, &o, &problems),
                     SB_OK);
    assert_string_equal(o.ingress_class, "flag");
    assert_string_equal(o.election_id, "e");
    assert_string_equal(o.health_bind, ":10254");
    assert_string_equal(o.watch_namespaces[1], "b");
    assert_null(o.watch_namespaces[2]);
    assert_true(o.drain_support);
    assert_false(o.update_status);
    assert_true(o.emit_events);
    assert_int_equal(o.term_delay_ms, 90000);
    sb_buf_release(&problems);
    sb_arena_free(a);
}

static void all_that_is_wrong_is_said_at_once(void **state)
{
    static const char *const env[] = {"CONTROLLER_EMIT_KUBERNETES_EVENTS=perhaps", NULL};
    static const char *const words[] = {
        "CONTROLLER_EMIT_KUBERNETES_EVENTS: \"perhaps\" is not true or false",
        "--ingres-class: unknown flag; did you mean --ingress-class",
        "--colour: unknown flag",
        "--term-delay: \"soon\" is not a duration",
        "--log-level: \"loud\" is not one of trace, debug, info, error",
        "--publish-service: \"proxy\" is not namespace/name",
        "--health-probe-bind-address: \"nowhere\" is not host:port",
        "both admin token and admin token file",
        "--manifests: objects come from files or from an API server",
        "\"stray\": flags start with --",
    };
    struct sb_arena *a = sb_arena_new(0);
    struct sb_options o;
    struct sb_buf problems;

    (void)state;
    sb_buf_init(&problems, 0);
    assert_int_equal(load(a,
                          "--ingres-class=x --colour=red --term-delay soon --log-level=loud "
                          "--publish-service proxy --health-probe-bind-address nowhere "
                          "--kong-admin-token a --kong-admin-token-file b --manifests m "
                          "--kubeconfig k stray",
                          env, &o, &problems),
                     SB_INVALID);
    sb_buf_char(&problems, '\0');
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!strstr(problems.p, words[i]))
            fail_msg("not said: %s\nin: %s", words[i], problems.p);
    }
    sb_buf_release(&problems);
    sb_arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_declarative_entities),
        cmocka_unit_test(a_target_is_numbered_by_its_upstream),
        cmocka_unit_test(rows_are_tagged_and_complete),
        cmocka_unit_test(refusals_name_the_field),
        cmocka_unit_test(hashes_see_what_counts),
        cmocka_unit_test(flags_beat_variables_beat_defaults),
        cmocka_unit_test(all_that_is_wrong_is_said_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
