/* Counters of rate limits: windows of the calendar, the table that a process' workers share (also
 * by many threads at once), the shelf that is brought in step with Redis, and Redis' replies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dataplane/plugins/traffic/rate_counters_local.h"
#include "dataplane/plugins/traffic/rate_counters_sync.h"
#include "dataplane/plugins/traffic/redis_reply.h"

/* -- windows ------------------------------------------------------------------------------------
 */

enum { NOW_S = 1740787199 }; /* 2025-02-28T23:59:59Z */

static void test_windows(void **state)
{
    static const struct {
        int64_t now_s;
        enum sb_period period;
        int64_t start_s;
    } rows[] = {
        {NOW_S, SB_PER_SECOND, NOW_S},
        {NOW_S, SB_PER_MINUTE, 1740787140},
        {NOW_S, SB_PER_HOUR, 1740783600},
        {NOW_S, SB_PER_DAY, 1740700800},
        {NOW_S, SB_PER_MONTH, 1738368000},
        {NOW_S, SB_PER_YEAR, 1735689600},
        {NOW_S + 1, SB_PER_MONTH, NOW_S + 1},   /* 2025-03-01 */
        {1709164800, SB_PER_MONTH, 1706745600}, /* 2024-02-29: the leap day */
        {1709251200, SB_PER_MONTH, 1709251200}, /* 2024-03-01 */
        {1704067199, SB_PER_YEAR, 1672531200},  /* 2023-12-31T23:59:59 */
        {1704067200, SB_PER_YEAR, 1704067200},  /* 2024-01-01 */
        {4102444799, SB_PER_YEAR, 4070908800},  /* 2099-12-31 */
        {4107542400, SB_PER_MONTH, 4107542400}, /* 2100-03-01, no leap year */
        {0, SB_PER_YEAR, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (sb_window_start(rows[i].period, rows[i].now_s) != rows[i].start_s)
            fail_msg("row %zu: %lld", i, (long long)sb_window_start(rows[i].period, rows[i].now_s));
}

/* Every day until 2200, as the C library has it. */
static void test_calendar(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 84000; day++) {
        time_t t = day * 86400;
        struct tm tm;

        gmtime_r(&t, &tm);
        assert_int_equal(sb_window_start(SB_PER_MONTH, t), (day - tm.tm_mday + 1) * 86400);
        assert_int_equal(sb_window_start(SB_PER_YEAR, t + 86399), (day - tm.tm_yday) * 86400);
    }
}

static void test_numbers(void **state)
{
    static const struct {
        double n;
        const char *text;
    } rows[] = {{0, "0"},       {5, "5"},   {2.5, "2.5"},
                {0.1, "0.1"},   {-1, "-1"}, {1e13, "10000000000000"},
                {1e15, "1e+15"}};
    struct sb_arena *a = sb_arena_new(0);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(sb_count_text(a, rows[i].n).p, rows[i].text);
    sb_arena_free(a);
}

/* -- the local table ----------------------------------------------------------------------------
 */

static struct sb_count_item limited(enum sb_period p, double limit)
{
    struct sb_count_item item = {.tag = 7};

    item.limited[p] = true;
    item.limit[p] = limit;
    return item;
}

/* How many of n requests pass. */
static int passes(struct sb_counters *c, const struct sb_count_item *item, const char *who,
                  int64_t now_s, int n)
{
    int64_t used[SB_PERIODS];
    int passed = 0;

    while (n--)
        passed += sb_counters_take(c, item, sb_str_c(who), now_s, used);
    return passed;
}

static void test_local(void **state)
{
    struct sb_counters *c = sb_counters_new(16);
    struct sb_count_item minute = limited(SB_PER_MINUTE, 3), half = limited(SB_PER_DAY, 2.5),
                         both = limited(SB_PER_MINUTE, 3), other = limited(SB_PER_MINUTE, 1);
    int64_t used[SB_PERIODS];

    (void)state;
    both.tag = 8;
    both.limited[SB_PER_HOUR] = true;
    both.limit[SB_PER_HOUR] = 5;
    other.tag = 9;
    assert_int_equal(passes(c, &minute, "a", NOW_S, 5), 3);
    assert_int_equal(passes(c, &minute, "b", NOW_S, 5), 3);
    assert_int_equal(passes(c, &other, "a", NOW_S, 5), 1);         /* another scope */
    assert_int_equal(passes(c, &minute, "a", NOW_S + 1, 1), 1);    /* the next minute */
    assert_int_equal(passes(c, &minute, "a", NOW_S, 5), 2);        /* a clock that is behind */
    assert_int_equal(passes(c, &minute, "a", NOW_S - 3600, 1), 1); /* one that was wrong */
    assert_int_equal(passes(c, &half, "h", NOW_S, 9), 3);
    assert_int_equal(passes(c, &both, "a", NOW_S - 120, 9), 3); /* who is refused by the minute */
    assert_int_equal(passes(c, &both, "a", NOW_S, 9), 2);       /* is not counted in the hour */
    sb_counters_add(c, &both, sb_str_c("n"), NOW_S, 4);
    sb_counters_add(c, &both, sb_str_c("n"), NOW_S, -6);
    sb_counters_read(c, &both, sb_str_c("n"), NOW_S, used);
    assert_int_equal(used[SB_PER_YEAR], -2);
    sb_counters_add(c, &both, sb_str_c("n"), NOW_S, INT64_C(1) << 33);
    sb_counters_read(c, &both, sb_str_c("n"), NOW_S, used);
    assert_int_equal(used[SB_PER_SECOND], INT32_MAX);
    sb_counters_read(c, &both, sb_str_c("nobody"), NOW_S, used);
    assert_int_equal(used[SB_PER_YEAR], 0);
    sb_counters_free(c);
}

/* Where there is no room: what is over goes first, then what was used longest ago. */
static void test_local_is_bounded(void **state)
{
    struct sb_counters *c = sb_counters_new(1); /* eight lines */
    struct sb_count_item day = limited(SB_PER_DAY, 1), second = limited(SB_PER_SECOND, 1);
    char who[] = "0";

    (void)state;
    for (int i = 0; i < 7; i++, who[0]++)
        assert_int_equal(passes(c, &day, who, NOW_S - 100 + i, 1), 1);
    assert_int_equal(passes(c, &second, "s", NOW_S - 90, 1), 1);
    assert_int_equal(passes(c, &day, "x", NOW_S - 80, 1), 1); /* in place of the second's */
    assert_int_equal(passes(c, &day, "0", NOW_S - 79, 1), 0); /* all others are there */
    assert_int_equal(passes(c, &day, "y", NOW_S - 78, 1), 1); /* in place of "1" */
    assert_int_equal(passes(c, &day, "0", NOW_S - 77, 1), 0);
    assert_int_equal(passes(c, &day, "2", NOW_S - 76, 1), 0);
    assert_int_equal(passes(c, &day, "1", NOW_S - 75, 1), 1);
    sb_counters_free(c);
}

enum { THREADS = 4, EACH = 20000 };

struct crowd {
    struct sb_counters *c;
    struct sb_shelf *shelf;
    atomic_int passed, planned;
};

static void *take_many(void *arg)
{
    static const char *const names[] = {"a", "b", "c"};
    struct crowd *crowd = arg;
    struct sb_count_item item = limited(SB_PER_DAY, THREADS * EACH / 6);

    for (int i = 0; i < EACH; i++)
        crowd->passed += passes(crowd->c, &item, names[i % 3], NOW_S, 1);
    return NULL;
}

static void run_crowd(struct crowd *crowd, void *(*run)(void *arg))
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void test_local_by_many(void **state)
{
    struct crowd crowd = {.c = sb_counters_new(16)};

    (void)state;
    run_crowd(&crowd, take_many);
    /* Half of what was asked for each of the three: not one more, not one less. */
    assert_int_equal(crowd.passed, 3 * (THREADS * EACH / 6));
    sb_counters_free(crowd.c);
}

/* -- the shelf ----------------------------------------------------------------------------------
 */

enum { SYNC_MS = 100 };

static struct sb_shelf *a_shelf(void)
{
    return sb_shelf_hold(&(struct sb_redis_server){.key = SB_STR("test"), .host = SB_STR("h")});
}

static struct sb_shelf_window a_window(const char *key, double limit)
{
    return (struct sb_shelf_window){.key = sb_str_c(key), .limit = limit, .len_s = 60};
}

static void test_shelf(void **state)
{
    struct sb_shelf *s = a_shelf();
    struct sb_shelf_window w = a_window("k", 5);
    struct sb_arena *a = sb_arena_new(0);
    struct sb_shelf_delta d[4];
    bool taken, plan;

    (void)state;
    assert_int_equal(sb_shelf_take(s, &w, 1, 1000, SYNC_MS, &taken, &plan), SB_NOTFOUND);
    sb_shelf_learn(s, &w, 2, 1000);
    assert_int_equal(sb_shelf_take(s, &w, 1, 1000, SYNC_MS, &taken, &plan), SB_OK);
    assert_true(taken && plan && w.used == 2);
    assert_int_equal(sb_shelf_take(s, &w, 1, 1050, SYNC_MS, &taken, &plan), SB_OK);
    assert_true(taken && !plan && w.used == 3); /* a round is planned already */

    /* The round: two fly, and one comes while they do; another node counted, too. */
    assert_int_equal(sb_shelf_begin(s, a, d, 4, 1100), 1);
    assert_int_equal(d[0].delta, 2);
    assert_int_equal(sb_shelf_take(s, &w, 1, 1101, SYNC_MS, &taken, &plan), SB_OK);
    assert_true(taken && plan && w.used == 4);
    assert_int_equal(sb_shelf_begin(s, a, d + 1, 3, 1102), SIZE_MAX); /* one at a time */
    sb_shelf_landed(s, &d[0], true, 6, 1103);
    assert_false(sb_shelf_end(s)); /* for the next one is planned */
    assert_int_equal(sb_shelf_take(s, &w, 1, 1104, SYNC_MS, &taken, &plan), SB_OK);
    assert_true(!taken && w.used == 7);

    /* A round that fails: nothing is lost, and Redis is asked before anybody else passes. */
    assert_int_equal(sb_shelf_begin(s, a, d, 4, 1200), 1);
    sb_shelf_landed(s, &d[0], false, 0, 1201);
    assert_true(sb_shelf_end(s));
    assert_int_equal(sb_shelf_take(s, &w, 1, 1202, SYNC_MS, &taken, &plan), SB_NOTFOUND);
    assert_int_equal(sb_shelf_begin(s, a, d, 4, 1300), 1);
    assert_int_equal(d[0].delta, 1);
    sb_shelf_landed(s, &d[0], true, 7, 1301);
    assert_false(sb_shelf_end(s));
    assert_int_equal(sb_shelf_take(s, &w, 1, 1302, SYNC_MS, &taken, &plan), SB_OK);
    assert_true(!taken && w.used == 7);
    assert_int_equal(sb_shelf_take(s, &w, 1, 1500, SYNC_MS, &taken, &plan), SB_NOTFOUND); /* old */
    sb_arena_free(a);
    sb_shelf_drop(s);
}

static void test_shelf_all_or_nothing(void **state)
{
    struct sb_shelf *s = a_shelf();
    struct sb_shelf_window w[] = {a_window("minute", 1), a_window("hour", 9)};
    bool taken, plan;

    (void)state;
    for (int i = 0; i < 2; i++)
        sb_shelf_learn(s, &w[i], 0, 1000);
    for (int i = 0; i < 5; i++)
        assert_int_equal(sb_shelf_take(s, w, 2, 1000, SYNC_MS, &taken, &plan), SB_OK);
    assert_true(!taken && w[0].used == 1 && w[1].used == 1);
    sb_shelf_drop(s);
}

/* Takes, and runs the rounds that fall to it, with a Redis that adds up. */
static _Atomic int64_t redis_sum;

static void run_round(struct sb_shelf *s, int64_t now_ms)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_shelf_delta d;
    size_t n;

    do {
        while ((n = sb_shelf_begin(s, a, &d, 1, now_ms)) == SIZE_MAX)
            sched_yield();
        if (n)
            sb_shelf_landed(s, &d, true, atomic_fetch_add(&redis_sum, d.delta) + d.delta, now_ms);
    } while (sb_shelf_end(s));
    sb_arena_free(a);
}

static void *sync_many(void *arg)
{
    struct crowd *crowd = arg;
    struct sb_shelf_window w = a_window("k", THREADS * EACH / 2);
    bool taken, plan;

    for (int i = 0; i < EACH; i++) {
        assert_int_equal(sb_shelf_take(crowd->shelf, &w, 1, 1000, SYNC_MS, &taken, &plan), SB_OK);
        crowd->passed += taken;
        if (plan)
            run_round(crowd->shelf, 1000);
    }
    return NULL;
}

static void test_shelf_by_many(void **state)
{
    struct crowd crowd = {.shelf = a_shelf()};
    struct sb_shelf_window w = a_window("k", 1);

    (void)state;
    redis_sum = 0;
    sb_shelf_learn(crowd.shelf, &w, 0, 1000);
    run_crowd(&crowd, sync_many);
    assert_int_equal(crowd.passed, THREADS * EACH / 2);
    assert_int_equal(redis_sum, THREADS * EACH / 2);
    sb_shelf_drop(crowd.shelf);
}

/* -- replies ------------------------------------------------------------------------------------
 */

/* What a row reads as: "1" , "[1 2]", "!error", "text"; "?" : refused; "..." : more is to come. */
static void describe(struct sb_redis_replies *r, char *out, size_t len)
{
    const struct sb_redis_reply *reply;
    enum sb_rc rc = sb_redis_replies_next(r, &reply);
    size_t n = 0;

    if (rc || reply->text[0]) {
        snprintf(out, len, "%s%s",
                 rc == SB_AGAIN ? "..."
                 : rc           ? "?"
                 : reply->error ? "!"
                                : "",
                 rc ? "" : reply->text);
        return;
    }
    out[0] = '\0';
    for (size_t i = 0; i < reply->n; i++)
        n += (size_t)snprintf(out + n, len - n, "%s%lld", i ? " " : "", (long long)reply->value[i]);
}

static void test_replies(void **state)
{
    static const struct {
        const char *said, *read;
    } rows[] = {
        {":12\r\n", "12"},
        {"$2\r\n-7\r\n", "-7"},
        {"$-1\r\n", "0"},
        {"+OK\r\n", "OK"},
        {"-ERR no\r\n", "!ERR no"},
        {"*3\r\n:1\r\n$1\r\n2\r\n$-1\r\n", "1 2 0"},
        {"*0\r\n", ""},
        {"*2\r\n:1\r\n", "..."},
        {"$5\r\nab", "..."},
        {"*1\r\n*1\r\n:1\r\n", "?"}, /* nested */
        {"*1\r\n$1\r\nx\r\n", "?"},  /* a list of what is no number */
        {"*1025\r\n", "?"},
        {"*2000000000\r\n", "?"},
        {"HTTP/1.1 400 Bad Request\r\n", "?"},
    };
    char read[256];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_redis_replies *r = sb_redis_replies_new();

        for (const char *p = rows[i].said; *p; p++) /* in the smallest pieces */
            if (sb_redis_replies_feed(r, p, 1))
                break;
        describe(r, read, sizeof read);
        if (strcmp(read, rows[i].read) != 0)
            fail_msg("%s is read as %s", rows[i].said, read);
        sb_redis_replies_free(r);
    }
}

static void test_replies_are_bounded(void **state)
{
    struct sb_redis_replies *r = sb_redis_replies_new();
    static const char much[4096];
    const struct sb_redis_reply *reply;
    enum sb_rc rc = sb_redis_replies_feed(r, "$500000000\r\n", 12);
    int fed = 0;

    (void)state;
    while (!rc && fed++ < 1000) {
        assert_int_equal(sb_redis_replies_next(r, &reply), SB_AGAIN);
        rc = sb_redis_replies_feed(r, much, sizeof much);
    }
    assert_int_equal(rc, SB_INVALID);
    assert_true(fed < 20);
    sb_redis_replies_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_local),
        cmocka_unit_test(test_local_is_bounded),
        cmocka_unit_test(test_local_by_many),
        cmocka_unit_test(test_shelf),
        cmocka_unit_test(test_shelf_all_or_nothing),
        cmocka_unit_test(test_shelf_by_many),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_replies_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
