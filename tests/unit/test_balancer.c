/* Rings: what consistent hashing is defined by, against Kong's vectors; who is picked, health and
 * weights heeded; and what changes cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "dataplane/listen/worker.h"
#include "dataplane/upstream/balancer.h"
#include "dataplane/upstream/balancer_hash.h"
#include "dataplane/upstream/health.h"
#include "dataplane/upstream/xxhash32.h"
#include "shared/buf.h"
#include "shared/clock.h"
#include "shared/json.h"
#include "shared/log.h"
#include "shared/settings.h"

static const struct {
    const char *text;
    uint32_t hash;
} vectors[] = {
    {"", 46947589U},
    {"1", 3068971186U},
    {"hello", 4211111929U},
    {"10.0.0.1::80 1", 1053262915U},
    {"10.0.0.1::80 2", 126921282U},
    {"Nobody inspects the spammish repetition", 0xe2293b2fU}, /* more than a stripe */
};

static void test_xxhash32(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        assert_int_equal(sb_xxhash32(sb_str_c(vectors[i].text)), vectors[i].hash);
}

static const struct {
    const char *text;
    int family; /* 0: no address */
} addresses[] = {
    {"10.0.0.1", AF_INET},
    {"::1", AF_INET6},
    {"[::1]", AF_INET6},
    {"fe80::1", AF_INET6},
    {"", 0},
    {"a.test", 0},
    {"10.0.0", 0},
    {"10.0.0.256", 0},
    {"[10.0.0.1", 0},
    {"::g", 0},
    {"1", 0},
};

static void test_addresses(void **state)
{
    union sb_sockaddr a;

    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_int_equal(sb_address_parse(sb_str_c(addresses[i].text), 80, &a),
                         addresses[i].family != 0);
        if (addresses[i].family)
            assert_int_equal(a.sa.sa_family, addresses[i].family);
    }
}

/* -- a worker with nothing but what balancing needs -- */

struct fixture {
    struct sb_worker w;
    struct sb_balancer *b;
    struct sb_arena *arena;
    struct sb_settings *settings;
    uint64_t generation;
};

static int64_t clock_ms(void *arg)
{
    (void)arg;
    return sb_clock_ms();
}

static int set_up(void **state)
{
    const char *env[] = {"KONG_DATABASE=off", "KONG_DNS_HOSTSFILE=/dev/null", NULL};
    struct sb_settings_source source = {.env = env};
    struct fixture *f = sb_xcalloc(1, sizeof *f);
    struct sb_buf problems, warnings;

    sb_log_set_level(SB_LOG_ERROR);
    sb_buf_init(&problems, 0);
    sb_buf_init(&warnings, 0);
    assert_int_equal(sb_settings_load(&source, &f->settings, &problems, &warnings), SB_OK);
    sb_buf_release(&problems);
    sb_buf_release(&warnings);
    f->arena = sb_arena_new(0);
    f->w.base = event_base_new();
    f->w.random[0] = 1;
    f->w.health = sb_health_new();
    f->w.resolver = sb_resolver_new(f->w.base, f->settings, clock_ms, NULL);
    f->b = sb_balancer_new(&f->w);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    sb_balancer_free(f->b);
    sb_resolver_free(f->w.resolver);
    sb_health_free(f->w.health);
    event_base_free(f->w.base);
    sb_settings_free(f->settings);
    sb_arena_free(f->arena);
    free(f);
    return 0;
}

/* targets: "10.0.0.1:80 100, ..."; entity: the row as JSON. */
static struct sb_upstream *make(struct fixture *f, uint32_t slot, enum sb_algorithm algorithm,
                                const char *targets, const char *entity)
{
    struct sb_upstream *up = SB_NEW(f->arena, struct sb_upstream);
    struct sb_target *list = SB_NEW_N(f->arena, struct sb_target, 64);
    struct sb_str rest = sb_str_c(targets), piece;
    struct sb_value *row;

    assert_int_equal(sb_json_parse(f->arena, sb_str_c(entity), &row, NULL), SB_OK);
    *up = (struct sb_upstream){.id = sb_arena_printf(f->arena, "id-%u", slot),
                               .name = sb_arena_printf(f->arena, "u%u.up", slot),
                               .generation = ++f->generation,
                               .slot = slot,
                               .algorithm = algorithm,
                               .slots = 1000,
                               .targets = list,
                               .entity = row};
    while (sb_str_split(&rest, ',', &piece)) {
        struct sb_target *t = &list[up->ntargets++];
        char host[64];
        unsigned port;

        piece = sb_str_trim(piece);
        assert_int_equal(
            sscanf(sb_arena_cstr(f->arena, piece), "%63[^:]:%u %d", host, &port, &t->weight), 3);
        t->host = sb_arena_str(f->arena, sb_str_c(host));
        t->port = (uint16_t)port;
        t->target = sb_arena_printf(f->arena, "%s:%u", host, port);
    }
    return up;
}

static uint32_t hash_text(void *request, const struct sb_hash_inputs *in)
{
    (void)in;
    return sb_xxhash32(sb_str_c(request));
}

/* Picks once more with the same request; the address as text, "" for none. */
static const char *pick_again(struct fixture *f, const struct sb_upstream *up, struct sb_pick *p,
                              const char *value)
{
    static char text[SB_ADDRESS_TEXT];
    union {
        const char *text;
        void *request;
    } v = {.text = value};

    if (p->address)
        sb_balancer_done(p);
    if (sb_balancer_pick(f->b, up, p, hash_text, v.request))
        return "";
    return sb_address_text(&p->addr, text);
}

static const char *pick(struct fixture *f, const struct sb_upstream *up, struct sb_pick *p,
                        const char *value)
{
    *p = (struct sb_pick){0};
    return pick_again(f, up, p, value);
}

/* -- hashing -- */

/* Computed by Kong's rules, apart from this code: where a value goes, and where next. */
static const struct {
    const char *value, *first, *second;
} places[] = {
    {"", "10.0.0.3", "10.0.0.1"},
    {"a", "10.0.0.2", "10.0.0.1"},
    {"b", "10.0.0.2", "10.0.0.1"},
    {"c", "10.0.0.1", "10.0.0.3"},
    {"1", "10.0.0.2", "10.0.0.1"},
    {"42", "10.0.0.1", "10.0.0.3"},
    {"alice", "10.0.0.1", "10.0.0.2"},
    {"bob", "10.0.0.3", "10.0.0.1"},
    {"hello", "10.0.0.1", "10.0.0.3"},
    {"session-4711", "10.0.0.3", "10.0.0.2"},
    {"/path/a/b", "10.0.0.2", "10.0.0.3"},
    {"00000000-0000-4000-8000-000000000001", "10.0.0.2", "10.0.0.3"},
};

static void test_hash_ring(void **state)
{
    struct fixture *f = *state;
    const struct sb_upstream *up =
        make(f, 1, SB_ALGO_CONSISTENT_HASHING,
             "10.0.0.2:80 50, 10.0.0.1:80 100, 10.0.0.3:8000 100, 10.0.0.10:80 1", "{}");
    struct sb_pick p;

    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        assert_string_equal(pick(f, up, &p, places[i].value), places[i].first);
        assert_string_equal(pick_again(f, up, &p, "not asked again"), places[i].second);
        sb_balancer_done(&p);
    }
    assert_int_equal(sb_balancer_builds(f->b), 1);
}

/* -- shares -- */

static void test_wheel_shares(void **state)
{
    struct fixture *f = *state;
    const struct sb_upstream *up =
        make(f, 1, SB_ALGO_ROUND_ROBIN, "10.0.0.1:80 300, 10.0.0.2:80 100, 10.0.0.3:80 0", "{}");
    unsigned counts[4] = {0};
    struct sb_pick p;

    for (int i = 0; i < 40; i++) {
        const char *text = pick(f, up, &p, NULL);

        counts[text[strlen(text) - 1] - '0']++;
        sb_balancer_done(&p);
    }
    assert_int_equal(counts[1], 30);
    assert_int_equal(counts[2], 10);
    assert_int_equal(counts[3], 0);
}

/* Who is busy is known across a change of the targets. */
static void test_least_connections_across_a_change(void **state)
{
    struct fixture *f = *state;
    const struct sb_upstream *up =
        make(f, 1, SB_ALGO_LEAST_CONNECTIONS, "10.0.0.1:80 100, 10.0.0.2:80 100", "{}");
    struct sb_pick held[3], p;
    char busy[SB_ADDRESS_TEXT];

    snprintf(busy, sizeof busy, "%s", pick(f, up, &held[0], NULL));
    up = make(f, 1, SB_ALGO_LEAST_CONNECTIONS, "10.0.0.1:80 100, 10.0.0.2:80 100, 10.0.0.3:80 100",
              "{}");
    for (int i = 1; i < 3; i++)
        assert_string_not_equal(pick(f, up, &held[i], NULL), busy);
    for (int i = 0; i < 3; i++)
        sb_balancer_done(&held[i]);
    (void)pick(f, up, &p, NULL);
    sb_balancer_done(&p);
}

static void test_nothing_to_pick(void **state)
{
    static const char *const none[] = {"", "10.0.0.1:80 0", "no.invalid:80 100"};
    struct fixture *f = *state;
    struct sb_pick p;

    for (int algorithm = SB_ALGO_ROUND_ROBIN; algorithm <= SB_ALGO_LATENCY; algorithm++)
        for (size_t i = 0; i < sizeof none / sizeof *none; i++)
            assert_string_equal(
                pick(f, make(f, 1, (enum sb_algorithm)algorithm, none[i][0] ? none[i] : NULL, "{}"),
                     &p, "x"),
                "");
}

/* -- health -- */

static const char checked[] = "{\"healthchecks\":{\"threshold\":40,\"passive\":{\"unhealthy\":"
                              "{\"tcp_failures\":2,\"http_failures\":1,\"timeouts\":1,"
                              "\"http_statuses\":[500]},\"healthy\":{\"successes\":0}}}}";

static void test_reports_take_addresses_out(void **state)
{
    static const char three[] = "10.0.0.1:80 100, 10.0.0.2:80 100, 10.0.0.3:80 100";
    struct fixture *f = *state;

    for (int algorithm = SB_ALGO_ROUND_ROBIN; algorithm <= SB_ALGO_LATENCY; algorithm++) {
        const struct sb_upstream *up =
            make(f, 10 + (uint32_t)algorithm, (enum sb_algorithm)algorithm, three, checked);
        char first[SB_ADDRESS_TEXT];
        struct sb_pick p;

        snprintf(first, sizeof first, "%s", pick(f, up, &p, "x"));
        sb_balancer_report(&p, SB_TRY_BROKEN);
        sb_balancer_report_status(&p, 404);
        sb_balancer_report_status(&p, 200);
        sb_balancer_report(&p, SB_TRY_BROKEN);
        sb_balancer_done(&p);
        for (int i = 0; i < 6; i++) {
            assert_string_not_equal(pick(f, up, &p, "x"), first);
            sb_balancer_done(&p);
        }
        (void)pick(f, up, &p, "x"); /* now a third is left, and 40 percent are asked for */
        sb_balancer_report_status(&p, 500);
        sb_balancer_done(&p);
        assert_string_equal(pick(f, up, &p, "x"), "");
    }
}

/* -- what changes cost -- */

static void test_builds_are_counted(void **state)
{
    struct fixture *f = *state;
    const struct sb_upstream *a, *old,
        *b = make(f, 2, SB_ALGO_CONSISTENT_HASHING, "10.0.1.1:80 100, 10.0.1.2:80 100", "{}");
    struct sb_pick p;

    a = old = make(f, 1, SB_ALGO_CONSISTENT_HASHING, "10.0.0.1:80 100", "{}");
    for (int i = 0; i < 100; i++) {
        (void)pick(f, i & 1 ? a : b, &p, "x");
        sb_balancer_done(&p);
    }
    assert_int_equal(sb_balancer_builds(f->b), 2);
    for (int i = 0; i < 1000; i++) /* a thousand changes of one upstream between two picks */
        a = make(f, 1, SB_ALGO_CONSISTENT_HASHING, "10.0.0.1:80 100, 10.0.0.2:80 100", "{}");
    for (int i = 0; i < 100; i++) { /* and an exchange that began before */
        (void)pick(f, i % 3 == 0 ? a : i % 3 == 1 ? b : old, &p, "x");
        sb_balancer_done(&p);
    }
    assert_int_equal(sb_balancer_builds(f->b), 3);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xxhash32),
        cmocka_unit_test(test_addresses),
        TEST(test_hash_ring),
        TEST(test_wheel_shares),
        TEST(test_least_connections_across_a_change),
        TEST(test_nothing_to_pick),
        TEST(test_reports_take_addresses_out),
        TEST(test_builds_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
