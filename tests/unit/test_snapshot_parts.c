/* Lifetimes and the tables that snapshots share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "dataplane/config/lifetime.h"
#include "dataplane/config/table.h"
#include "shared/arena.h"

/* -- lifetimes -- */

static void count_down(void *arg)
{
    --*(int *)arg;
}

static void unpublished_goes_at_once(void **state)
{
    struct sb_lifetimes *l = sb_lifetimes_new();
    int alive = 1;

    (void)state;
    sb_lifetimes_publish(l);
    sb_lifetimes_drop(l, sb_lifetimes_now(l), count_down, &alive);
    assert_int_equal(alive, 0);
    sb_lifetimes_free(l);
}

static void waits_for_those_that_reach_it(void **state)
{
    /* Born in generation b, dropped while d is built; given back in this order; freed after n. */
    static const struct {
        const char *what;
        uint64_t born, dropped;
        uint64_t order[4];
        int freed_after;
    } cases[] = {
        {"newest last", 1, 5, {1, 2, 3, 4}, 4},
        {"newest first", 1, 5, {4, 3, 2, 1}, 4},
        {"holes", 1, 5, {2, 4, 1, 3}, 4},
        {"born late", 3, 5, {4, 3, 2, 1}, 2},
        {"born late, old first", 4, 5, {1, 2, 4, 3}, 3},
        {"dropped early", 1, 3, {4, 3, 2, 1}, 4},
        {"dropped early, gone", 1, 3, {1, 2, 3, 4}, 2},
        {"only one", 2, 3, {1, 3, 2, 4}, 3},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sb_lifetimes *l = sb_lifetimes_new();
        int alive = 1, after = 0;

        while (sb_lifetimes_now(l) <= 4) {
            if (sb_lifetimes_now(l) == cases[i].dropped)
                sb_lifetimes_drop(l, cases[i].born, count_down, &alive);
            sb_lifetimes_publish(l);
        }
        if (cases[i].dropped == 5)
            sb_lifetimes_drop(l, cases[i].born, count_down, &alive);
        while (alive && after < 4)
            sb_lifetimes_retire(l, cases[i].order[after++]);
        if (after != cases[i].freed_after || alive)
            fail_msg("%s: freed after %d", cases[i].what, after);
        assert_int_equal(sb_lifetimes_waiting(l), 0);
        sb_lifetimes_free(l);
    }
}

static void freeing_frees_what_waits(void **state)
{
    struct sb_lifetimes *l = sb_lifetimes_new();
    int alive = 1;

    (void)state;
    sb_lifetimes_publish(l);
    sb_lifetimes_drop(l, 1, count_down, &alive);
    assert_int_equal(alive, 1);
    assert_int_equal(sb_lifetimes_waiting(l), 1);
    sb_lifetimes_free(l);
    assert_int_equal(alive, 0);
}

/* -- names -- */

enum { NAMES = 3000, GENERATIONS = 6 };

static void tables_keep_what_they_showed(void **state)
{
    static char names[NAMES][16];
    struct sb_lifetimes *l = sb_lifetimes_new();
    struct sb_table *t = NULL;
    const struct sb_table *seen[GENERATIONS];

    (void)state;
    for (int i = 0; i < NAMES; i++)
        snprintf(names[i], sizeof names[i], "name-%d", i);
    /* In generation g every name has the value g, but those that it divides are gone. */
    for (int g = 0; g < GENERATIONS; g++) {
        for (int i = 0; i < NAMES; i++)
            sb_table_set(l, &t, sb_str_c(names[i]), i % (g + 2) ? names[g] : NULL);
        seen[g] = t;
        sb_lifetimes_publish(l);
    }
    for (int g = 0; g < GENERATIONS; g++) {
        size_t n = 0;

        for (int i = 0; i < NAMES; i++) {
            const void *want = i % (g + 2) ? names[g] : NULL;

            assert_ptr_equal(sb_table_find(seen[g], sb_str_c(names[i])), want);
            n += want != NULL;
        }
        assert_int_equal(sb_table_size(seen[g]), n);
        assert_null(sb_table_find(seen[g], SB_STR("another")));
    }
    sb_table_drop(l, &t);
    sb_lifetimes_free(l);
}

static void a_change_copies_one_shard(void **state)
{
    static char names[NAMES][16];
    struct sb_lifetimes *l = sb_lifetimes_new();
    struct sb_table *t = NULL;

    (void)state;
    for (int i = 0; i < NAMES; i++) {
        snprintf(names[i], sizeof names[i], "name-%d", i);
        sb_table_set(l, &t, sb_str_c(names[i]), names[i]);
    }
    sb_lifetimes_publish(l);
    sb_table_set(l, &t, sb_str_c(names[7]), names[8]);
    assert_int_equal(sb_lifetimes_waiting(l), 2); /* the table and the shard */
    sb_table_set(l, &t, SB_STR("not there"), NULL);
    assert_int_equal(sb_lifetimes_waiting(l), 2);
    sb_table_drop(l, &t);
    sb_lifetimes_free(l);
}

/* -- slots -- */

static const struct sb_upstream *slot(const struct sb_slots *s, uint32_t at)
{
    struct sb_snapshot snap = {.upstreams = *s};
    struct sb_service service = {.upstream_slot = at};

    return sb_service_upstream(&snap, &service);
}

static void slots_keep_what_they_showed(void **state)
{
    static struct sb_upstream upstreams[1000];
    struct sb_lifetimes *l = sb_lifetimes_new();
    struct sb_slot_table t = {0};
    struct sb_slots first, second, third;

    (void)state;
    assert_null(slot(&t.now, 5));
    for (uint32_t i = 1; i < 200; i++)
        sb_slots_set(l, &t, i, &upstreams[i]);
    first = t.now;
    sb_lifetimes_publish(l);
    for (uint32_t i = 150; i < 1000; i++)
        sb_slots_set(l, &t, i, &upstreams[i - 1]);
    second = t.now;
    sb_lifetimes_publish(l);
    sb_slots_set(l, &t, 1, NULL);
    third = t.now;
    for (uint32_t i = 1; i < 1000; i++) {
        assert_ptr_equal(slot(&first, i), i < 200 ? &upstreams[i] : NULL);
        assert_ptr_equal(slot(&second, i), &upstreams[i < 150 ? i : i - 1]);
        assert_ptr_equal(slot(&third, i), i == 1 ? NULL : &upstreams[i < 150 ? i : i - 1]);
    }
    assert_null(slot(&third, 0));
    assert_null(slot(&third, 100000));
    sb_slots_drop(l, &t);
    sb_lifetimes_free(l);
}

/* -- certificates by name -- */

static void names_find_their_certificate(void **state)
{
    static const char *const rows[] = {"a.test", "*.a.test", "b.*", "*.c.b.test", "*.d"};
    static const struct {
        const char *name, *row; /* "": none */
        bool star;              /* with a row "*" it is that one */
    } cases[] = {
        {"a.test", "a.test", false},
        {"x.a.test", "*.a.test", false},
        {"x.y.a.test", "", true},
        {"b.test", "b.*", false},
        {"b.co.uk", "", true},
        {"x.c.b.test", "*.c.b.test", false},
        {"x.d", "", true}, /* two labels have no suffix */
        {"", "", false},
        {"nodots", "", true},
        {".", "", true},
        {"x.a.test.", "", true},
    };
    static struct sb_certificate certificates[6];
    static struct sb_sni snis[6];
    struct sb_lifetimes *l = sb_lifetimes_new();
    struct sb_table *t = NULL;

    (void)state;
    for (size_t star = 0; star < 2; star++) {
        for (size_t i = 0; i < 5 + star; i++) {
            struct sb_str name = sb_str_c(i < 5 ? rows[i] : "*");

            snis[i] = (struct sb_sni){name, &certificates[i]};
            sb_table_set(l, &t, name, &snis[i]);
        }
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct sb_snapshot snap = {.snis = t};
            const struct sb_certificate *c =
                sb_snapshot_certificate(&snap, sb_str_c(cases[i].name));
            const char *want = star && cases[i].star ? "*" : cases[i].row;
            struct sb_str got = c ? snis[c - certificates].name : SB_STR("");

            if (!sb_str_is(got, want))
                fail_msg("%s: '%.*s', not '%s'", cases[i].name, SB_ARG(got), want);
        }
    }
    sb_table_drop(l, &t);
    sb_lifetimes_free(l);
}

static void long_names_are_no_harm(void **state)
{
    static char name[70000];
    struct sb_lifetimes *l = sb_lifetimes_new();
    struct sb_table *t = NULL;
    struct sb_certificate certificate = {0};
    struct sb_sni sni = {SB_STR("*"), &certificate};
    struct sb_snapshot snap;

    (void)state;
    memset(name, 'a', sizeof name);
    name[3] = name[9] = '.';
    sb_table_set(l, &t, sni.name, &sni);
    snap = (struct sb_snapshot){.snis = t};
    for (size_t len = 250; len < 260; len++)
        assert_ptr_equal(sb_snapshot_certificate(&snap, sb_str_n(name, len)), &certificate);
    assert_ptr_equal(sb_snapshot_certificate(&snap, sb_str_n(name, sizeof name)), &certificate);
    sb_table_drop(l, &t);
    sb_lifetimes_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unpublished_goes_at_once),
        cmocka_unit_test(waits_for_those_that_reach_it),
        cmocka_unit_test(freeing_frees_what_waits),
        cmocka_unit_test(tables_keep_what_they_showed),
        cmocka_unit_test(a_change_copies_one_shard),
        cmocka_unit_test(slots_keep_what_they_showed),
        cmocka_unit_test(names_find_their_certificate),
        cmocka_unit_test(long_names_are_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
