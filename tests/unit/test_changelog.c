/* The readers of the change log, on a migrated database that KONG_PG_* names: tests/system starts
 * one and runs this. Without it there is nothing to test here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "schema/changelog.h"
#include "shared/settings.h"

#define A "00000000-0000-0000-0000-00000000000a"
#define B "00000000-0000-0000-0000-00000000000b"

extern char **environ;

struct fixture {
    struct sb_settings *settings;
    struct sb_pg *pg;
    struct sb_arena *arena;
};

static int set_up(void **state)
{
    struct sb_settings_source source = {.env = (const char *const *)environ};
    struct fixture *f = sb_xcalloc(1, sizeof *f);
    struct sb_buf problems, warnings;
    struct sb_pg_config config;
    struct sb_err err;

    *state = f;
    f->arena = sb_arena_new(0);
    if (!getenv("KONG_PG_HOST"))
        return 0;
    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    assert_int_equal(sb_settings_load(&source, &f->settings, &problems, &warnings), SB_OK);
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    sb_settings_pg(f->settings, false, &config);
    if (sb_pg_connect(&config, &f->pg, &err))
        fail_msg("%s", err.text);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    sb_pg_free(f->pg);
    sb_settings_free(f->settings);
    sb_arena_free(f->arena);
    free(f);
    return 0;
}

static struct fixture *fixture(void **state)
{
    struct fixture *f = *state;

    if (!f->pg)
        skip();
    return f;
}

static void run(struct fixture *f, const char *sql)
{
    struct sb_err err;

    if (sb_pg_exec(f->pg, sql, &err))
        fail_msg("%s", err.text);
}

static struct sb_changes changes(struct fixture *f, int64_t version, int64_t mark)
{
    struct sb_changes c;
    struct sb_err err;

    if (sb_changes_read(f->pg, f->arena, version, mark, &c, &err))
        fail_msg("%s", err.text);
    return c;
}

static void changes_are_read(void **state)
{
    struct fixture *f = fixture(state);
    struct sb_changes at = changes(f, 0, 0), c;

    assert_true(at.reload && at.version > 0 && at.n == 0);
    assert_true(changes(f, at.version, at.mark + 1).reload);
    c = changes(f, at.version, at.mark);
    assert_true(!c.reload && c.version == at.version && c.n == 0);

    run(f, "INSERT INTO services (id, name) VALUES ('" A "', 'a'), ('" B "', 'b')");
    run(f, "UPDATE services SET host = 'h' WHERE id = '" A "'");
    c = changes(f, at.version, at.mark);
    assert_true(!c.reload && c.version == at.version + 2 && c.n == 1);
    assert_true(sb_str_is(c.list[0].table, "services") && !c.list[0].all);
    assert_int_equal(c.list[0].nids, 2);
    assert_true(sb_str_is(c.list[0].ids[0], A) && sb_str_is(c.list[0].ids[1], B));

    run(f, "TRUNCATE services CASCADE");
    c = changes(f, c.version, c.mark);
    assert_int_equal(c.n, 4);
    for (size_t i = 0; i < c.n; i++)
        assert_true(c.list[i].all && !c.list[i].nids);
}

static struct sb_invalidations invalidations(struct fixture *f, struct sb_str since)
{
    struct sb_invalidations inv;
    struct sb_err err;

    if (sb_invalidations_read(f->pg, f->arena, since, &inv, &err))
        fail_msg("%s", err.text);
    return inv;
}

static void invalidations_are_read(void **state)
{
    struct fixture *f = fixture(state);
    struct sb_invalidations at = invalidations(f, SB_STR("")), inv;

    assert_true(at.restart && at.n == 0 && at.upto.len > 0);
    assert_int_equal(invalidations(f, at.upto).n, 0);

    run(f,
        "INSERT INTO consumers (id, username) VALUES ('" A "', 'with \"quotes\", and {braces}')");
    inv = invalidations(f, at.upto);
    assert_true(!inv.restart && !inv.unsettled && inv.n == 1);
    assert_true(sb_str_is(inv.list[0].table, "consumers"));
    assert_true(inv.list[0].added && !inv.list[0].all);
    assert_int_equal(inv.list[0].nkeys, 2);
    assert_true(sb_str_is(inv.list[0].keys[0], "id=" A));
    assert_true(sb_str_is(inv.list[0].keys[1], "username=with \"quotes\", and {braces}"));

    run(f, "INSERT INTO consumers (id) SELECT md5(i::text)::uuid FROM generate_series(1, 2000) i");
    run(f, "DELETE FROM consumers WHERE id = '" A "'");
    inv = invalidations(f, inv.upto);
    assert_int_equal(inv.n, 2);
    assert_true(inv.list[0].all && inv.list[0].added && !inv.list[0].nkeys);
    assert_true(!inv.list[1].all && !inv.list[1].added);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(changes_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(invalidations_are_read, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
