/* clang-format off: version 14 falls over tables of strings that go on over lines */
/* What a real gateway answered to POSTs of entities, as far as the schema alone decides it: the
 * refusals (code 2), word for word, and what the accepted ones became. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "schema/entity.h"
#include "shared/json.h"

#include "recorded.h"

static unsigned checked, wrong;

/* Nested collections: under which parent's field. */
static const struct {
    const char *path, *field;
} parents[] = {{"services", "service"},         {"routes", "route"},
               {"consumers", "consumer"},       {"upstreams", "upstream"},
               {"certificates", "certificate"}, {"key-sets", "set"}};
static const struct {
    const char *path, *entity;
} nested[] = {{"key-auth", "keyauth_credentials"},
              {"basic-auth", "basicauth_credentials"},
              {"hmac-auth", "hmacauth_credentials"},
              {"jwt", "jwt_secrets"}};

/* Decided elsewhere: by what is stored (certificates with SNIs, read-only tags, protocols of
 * parents), by what is enabled, or by the router. */
static const char *const elsewhere[] = {
    "create; snis is an empty list",
    "create with snis; they are sorted and become snis",
    "create with rsa and alternative ec certificate",
    "snis in the body: duplicates, in use, invalid",
    "vault references are accepted unread",
    "wrong expressions",
    "/tags is read-only",
    "/status: the database is reachable (shown through a saved value)",
    "/: version, tagline, database and flavor (shown through saved values)",
    "installed but not enabled",
    "protocols must fit the route and service",
    "validate: foreign keys by name are not resolved",
    "invalid targets", /* the store words it, before the field's check */
};

static bool is_elsewhere(struct sb_str name)
{
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        if (sb_str_is(name, elsewhere[i]))
            return true;
    }
    return false;
}

static const struct sb_entity *by_path(struct sb_str path)
{
    const struct sb_entity *kind = sb_entity_by_path(path);

    for (size_t i = 0; !kind && i < sizeof nested / sizeof *nested; i++) {
        if (sb_str_is(path, nested[i].path))
            kind = sb_entity_find(sb_str_c(nested[i].entity));
    }
    return kind;
}

static struct sb_value *some_id(struct sb_arena *a)
{
    struct sb_value *v = sb_value_object(a);

    sb_object_set(a, v, SB_STR("id"), sb_value_text(a, "00000000-0000-4000-8000-0000000000aa"));
    return v;
}

/* What the store does before the schema looks: names of others become ids. */
static void resolve_names(struct sb_arena *a, const struct sb_entity *kind, struct sb_value *input)
{
    for (const struct sb_field *f = kind->fields; f->name; f++) {
        const struct sb_value *v = sb_get(input, f->name);

        if (f->type == SB_T_FOREIGN && (sb_get(v, "name") || sb_get(v, "username")))
            sb_object_set(a, input, sb_str_c(f->name), some_id(a));
    }
}

/* The kind that a POST to this path makes; its parent's field is set in input. NULL: not one of
 * those. */
static const struct sb_entity *kind_of(struct sb_arena *a, struct sb_str path,
                                       struct sb_value *input, bool *validate)
{
    struct sb_str rest = sb_str_from(path, 1), part[4] = {0};
    size_t n = 0;

    while (n < 4 && sb_str_split(&rest, '/', &part[n]))
        n++;
    *validate = n == 3 && sb_str_is(part[0], "schemas") && sb_str_is(part[2], "validate");
    if (*validate)
        return sb_entity_find(part[1]);
    if (n == 1)
        return by_path(part[0]);
    for (size_t i = 0; n == 3 && i < sizeof parents / sizeof *parents; i++) {
        if (sb_str_is(part[0], parents[i].path)) {
            sb_object_set(a, input, sb_str_c(parents[i].field), some_id(a));
            return by_path(part[2]);
        }
    }
    return NULL;
}

/* Ids and times are not compared; saved values and what a parent's id was neither. */
static bool as_recorded(struct sb_arena *a, const struct sb_value *got, const struct sb_value *want)
{
    const struct sb_member *m;

    sb_object_each (m, want) {
        const struct sb_value *g = sb_object_get(got, m->key);

        if (!g)
            return false;
        if (m->value->type == SB_V_OBJECT && sb_get(m->value, "id"))
            continue;
        if (m->value->type == SB_V_STR && sb_str_chr(m->value->s, '0', 0) >= 0)
            continue;
        if (!recorded_same(g, m->value))
            return false;
    }
    (void)a;
    return got->count == want->count;
}

static void replay_step(struct sb_str name, const struct sb_value *file, struct sb_value *step)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_str flavor = sb_value_str_at(file, "env.KONG_ROUTER_FLAVOR");
    struct sb_schema_ctx ctx = {.arena = a,
                                .expressions = sb_str_is(flavor, "expressions"),
                                .traditional = sb_str_is(flavor, "traditional")};
    const struct sb_value *admin = sb_get(step, "admin"), *want = sb_value_at(step, "expect.json");
    struct sb_value *input =
        sb_is(sb_get(admin, "json"), SB_V_OBJECT) ? sb_value_copy(a, sb_get(admin, "json")) : NULL;
    int64_t status = sb_value_int_at(step, "expect.status", 0),
            code = sb_value_int_at(want, "code", 0);
    struct sb_kong_error e = {0};
    const struct sb_entity *kind = NULL;
    struct sb_value *got;
    bool validate = false, ok;

    if (input && want && sb_str_is(sb_value_str_at(admin, "method"), "POST") && !is_elsewhere(name))
        kind = kind_of(a, sb_value_str_at(admin, "path"), input, &validate);
    if (!kind || (status == 400 ? code != 2 : status != 201 && !(status == 200 && validate)))
        goto out;
    recorded_fill_ports(a, input);
    resolve_names(a, kind, input);
    ok = sb_entity_insert(&ctx, kind, input, &got, &e) == SB_OK;
    got = ok ? sb_entity_read(&ctx, kind, got) : sb_kong_error_body(a, &e);
    checked++;
    if (ok != (status != 400) ||
        (ok ? !validate && !as_recorded(a, got, want) : !recorded_same(got, want))) {
        print_message("%.*s: %s\n", SB_ARG(name), sb_json_text(a, got, 0).p);
        wrong++;
    }
out:
    sb_arena_free(a);
}

static void posts_as_recorded(void **state)
{
    (void)state;
    recorded_replay("admin", replay_step);
    recorded_replay("schemas", replay_step);
    print_message("%u recorded POSTs\n", checked);
    assert_true(checked > 450);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(posts_as_recorded),
    };

    return cmocka_run_group_tests_name("schema cases", tests, NULL, NULL);
}
