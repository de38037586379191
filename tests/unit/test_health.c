/* The states of addresses: what reports make of them, one by one and by many threads at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/upstream/health.h"
#include "shared/json.h"
#include "shared/log.h"

static union sb_sockaddr address(const char *ip, uint16_t port)
{
    union sb_sockaddr a;

    assert_true(sb_address_parse(sb_str_c(ip), port, &a));
    return a;
}

/* -- one address -- */

/* s success, h HTTP failure, t TCP failure, o time-out, + set healthy, - set unhealthy; behind each
 * what comes of it: U up, D down. Limits: successes, HTTP, TCP, time-outs. */
static const struct {
    const char *name;
    uint8_t limits[SB_HEALTH_REPORTS];
    const char *story;
} stories[] = {
    {"at the limit", {1, 2, 1, 1}, "hU hD sU"},
    {"limits of zero count nothing", {0, 0, 0, 0}, "hU tU oU sU"},
    {"a success forgets failures", {1, 2, 2, 2}, "hU sU hU hD"},
    {"... but not where successes don't count", {0, 2, 2, 2}, "hU sU hD sD"},
    {"failures of different kinds don't add up", {1, 2, 2, 2}, "hU tU oU hD"},
    {"a failure forgets successes", {2, 2, 1, 2}, "tD sD hD sD sU"},
    {"ignored while fully down", {2, 1, 1, 1}, "hD hD hD sD sU"},
    {"words count for all", {2, 2, 2, 2}, "-D sD sU hU -D +U hU hD +U"},
    {"words forget counts", {2, 2, 2, 2}, "hU +U hU hD"},
};

static void tell(struct sb_health_upstream *u, struct sb_health_address *a,
                 const struct sb_health_limits *l, char what)
{
    static const char reports[] = "shto";
    const char *at = strchr(reports, what);

    if (at)
        sb_health_report(a, l, (enum sb_health_report)(at - reports));
    else
        assert_int_equal(sb_health_force(u, SB_STR("a:80"), NULL, what == '+'), 1);
}

static void test_stories(void **state)
{
    union sb_sockaddr addr = address("10.0.0.1", 80);

    (void)state;
    for (size_t i = 0; i < sizeof stories / sizeof *stories; i++) {
        struct sb_health *h = sb_health_new();
        struct sb_health_upstream *u = sb_health_open(h, SB_STR("u"));
        struct sb_health_address *a = sb_health_enter(u, SB_STR("a:80"), &addr);
        struct sb_health_limits limits = {{0}, {0}, {0}};

        memcpy(limits.limit, stories[i].limits, sizeof limits.limit);
        for (const char *s = stories[i].story; *s; s += s[2] ? 3 : 2) {
            uint64_t before = sb_health_generation(u);
            bool was = sb_health_is_down(a);

            tell(u, a, &limits, s[0]);
            if (sb_health_is_down(a) != (s[1] == 'D'))
                fail_msg("%s: at \"%s\"", stories[i].name, s);
            assert_int_equal(sb_health_generation(u) != before, sb_health_is_down(a) != was);
        }
        sb_health_leave(a);
        sb_health_close(u);
        sb_health_free(h);
    }
}

static void test_statuses(void **state)
{
    static const char row[] = "{\"healthchecks\":{\"active\":{\"healthy\":{\"interval\":0.5,"
                              "\"successes\":1,\"http_statuses\":[200,302]},\"unhealthy\":"
                              "{\"http_failures\":1,\"http_statuses\":[429,999]}}}}";
    static const struct {
        int status;
        bool down;
    } told[] = {{500, false}, {0, false},   {-1, false}, {4096, false}, {429, true},
                {404, true},  {200, false}, {999, true}, {302, false}};
    struct sb_arena *arena = sb_arena_new(0);
    struct sb_health *h = sb_health_new();
    struct sb_health_upstream *u = sb_health_open(h, SB_STR("u"));
    union sb_sockaddr addr = address("::1", 80);
    struct sb_health_address *a = sb_health_enter(u, SB_STR("[::1]:80"), &addr);
    struct sb_health_checks checks;
    struct sb_value *v;

    (void)state;
    assert_int_equal(sb_json_parse(arena, sb_str_c(row), &v, NULL), SB_OK);
    sb_health_checks_read(arena, v, &checks);
    assert_true(checks.on);
    assert_int_equal(checks.healthy_ms, 500);
    assert_int_equal(checks.timeout_ms, 1000);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        sb_health_report_status(a, &checks.active, told[i].status);
        assert_int_equal(sb_health_is_down(a), told[i].down);
    }
    sb_health_leave(a);
    sb_health_close(u);
    sb_health_free(h);
    sb_arena_free(arena);
}

static void test_records(void **state)
{
    struct sb_health *h = sb_health_new();
    struct sb_health_upstream *u = sb_health_open(h, SB_STR("u"));
    union sb_sockaddr one = address("10.0.0.1", 80), two = address("10.0.0.2", 80);
    struct sb_health_address *a = sb_health_enter(u, SB_STR("a:80"), &one), *b, *c;

    (void)state;
    assert_ptr_equal(sb_health_enter(u, SB_STR("a:80"), &one), a);
    b = sb_health_enter(u, SB_STR("a:80"), &two);
    c = sb_health_enter(u, SB_STR("b:80"), &one); /* the same address for another target */
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_int_equal(sb_health_force(u, SB_STR("a:80"), &two, false), 1);
    assert_true(!sb_health_is_down(a) && sb_health_is_down(b) && !sb_health_is_down(c));
    assert_int_equal(sb_health_force(u, SB_STR("a:80"), NULL, false), 2);
    sb_health_retire(a); /* one user is left, and those who come see a new one */
    c = (sb_health_leave(c), sb_health_enter(u, SB_STR("a:80"), &one));
    assert_true(c != a && !sb_health_is_down(c) && sb_health_is_down(a));
    sb_health_leave(a);
    sb_health_leave(b);
    sb_health_leave(c);
    sb_health_close(u);
    sb_health_free(h);
}

/* -- many threads -- */

enum { THREADS = 4, ROUNDS = 20000 };

struct shared {
    struct sb_health *h;
    atomic_uint left;
};

/* What workers, the checker and the Admin API do, all at the same few addresses. */
static void *hammer(void *arg)
{
    struct shared *s = arg;
    struct sb_health_limits limits = {{2, 3, 3, 3}, {0}, {0}};
    struct sb_health_upstream *u = sb_health_open(s->h, SB_STR("u"));
    union sb_sockaddr addr = address("10.0.0.1", 80);
    struct sb_health_address *mine = sb_health_enter(u, SB_STR("a:80"), &addr), **all;
    uint64_t seen = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t generation = sb_health_generation(u);

        assert_true(generation >= seen);
        seen = generation;
        (void)sb_health_is_down(mine);
        sb_health_report(mine, &limits, (enum sb_health_report)(i % SB_HEALTH_REPORTS));
        if (i % 64 == 0) {
            size_t n = sb_health_all(u, &all);

            while (n)
                sb_health_leave(all[--n]);
            free(all);
            (void)sb_health_force(u, SB_STR("a:80"), NULL, i % 128 == 0);
            sb_health_leave(mine);
            mine = sb_health_enter(u, SB_STR("a:80"), &addr);
        }
    }
    sb_health_leave(mine);
    sb_health_close(u);
    atomic_fetch_sub(&s->left, 1);
    return NULL;
}

static void test_many_threads(void **state)
{
    struct shared s = {.h = sb_health_new(), .left = THREADS};
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &s), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(s.left, 0);
    sb_health_free(s.h); /* asserts that nobody is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_many_threads),
    };

    sb_log_set_level(SB_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
