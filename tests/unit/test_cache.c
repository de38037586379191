/* The cache of credentials: what is found, what is forgotten, what it may cost, and many threads at
 * once. Times are given, never waited for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <malloc.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <pthread.h>
#include <stdio.h>

#include "dataplane/plugins/credentials/cache.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/siphash.h"

#define CONSUMER "00000000-0000-0000-0000-00000000000a"

static struct sb_rows *row(enum sb_lookup by, const char *key, double ttl)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v = sb_value_object(a), *consumer = sb_value_object(a);
    const struct sb_value *values[] = {v};
    struct sb_rows *rows;

    sb_object_set(a, consumer, SB_STR("id"), sb_value_text(a, CONSUMER));
    sb_object_set(a, v, SB_STR("id"), sb_value_text(a, "00000000-0000-0000-0000-000000000001"));
    sb_object_set(a, v, SB_STR("consumer"), consumer);
    sb_object_set(a, v, SB_STR("key"), sb_value_text(a, key));
    if (ttl > 0)
        sb_object_set(a, v, SB_STR("ttl"), sb_value_num(a, ttl));
    rows = sb_rows_build(&(struct sb_row_values){by, values, 1}, 1000);
    sb_arena_free(a);
    return rows;
}

/* As a worker does it: key NULL for what is absent. */
static void put(struct sb_cache *c, enum sb_lookup by, const char *value, bool there, double ttl,
                int64_t now_ms)
{
    struct sb_lookup_key key = sb_cache_key(c, by, sb_str_c(value));
    struct sb_cache_ticket ticket = sb_cache_ask(c, &key);
    struct sb_rows *rows = there ? row(by, value, ttl) : NULL;

    sb_cache_put(c, &key, &ticket, rows, now_ms);
    sb_rows_drop(rows);
}

static enum sb_cached get(struct sb_cache *c, enum sb_lookup by, const char *value, int64_t now_ms)
{
    struct sb_lookup_key key = sb_cache_key(c, by, sb_str_c(value));
    struct sb_rows *rows = NULL;
    enum sb_cached cached = sb_cache_get(c, &key, now_ms, &rows);

    if (cached == SB_CACHED_ROWS || cached == SB_CACHED_STALE) {
        assert_int_equal(rows->n, 1);
        assert_true(sb_str_is(sb_value_str_at(rows->row[0].value, "key"), value));
        sb_rows_drop(rows);
    }
    return cached;
}

static struct sb_cache *cache(size_t bytes, int64_t ttl_ms, int64_t absent_ms, int64_t resurrect_ms)
{
    struct sb_cache_options o = {bytes, ttl_ms, absent_ms, resurrect_ms};

    return sb_cache_new(&o);
}

static void siphash_is_siphash(void **state)
{
    struct sb_siphash_key key;
    uint64_t tweak = 0x0706050403020100, ours[2];
    char text[80] = {0, 1, 2, 3, 4, 5, 6, 7};
    uint8_t theirs[16];
    size_t size = 16, len;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t("size", &size), OSSL_PARAM_construct_end()};

    (void)state;
    sb_random(&key, sizeof key);
    sb_random(text + 8, sizeof text - 8);
    for (size_t n = 8; n < sizeof text; n++) {
        EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
        EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);

        assert_int_equal(EVP_MAC_init(ctx, (unsigned char *)&key, sizeof key, params), 1);
        assert_int_equal(EVP_MAC_update(ctx, (unsigned char *)text, n), 1);
        assert_int_equal(EVP_MAC_final(ctx, theirs, &len, sizeof theirs), 1);
        sb_siphash(&key, tweak, sb_str_n(text + 8, n - 8), ours);
        assert_memory_equal(ours, theirs, 16);
        EVP_MAC_CTX_free(ctx);
        EVP_MAC_free(mac);
    }
}

static void rows_are_copied_whole(void **state)
{
    struct sb_rows *rows = row(SB_KEYAUTH_BY_KEY, "k", 5);
    const struct sb_found *found = &rows->row[0];

    (void)state;
    assert_true(sb_str_is(found->id, "00000000-0000-0000-0000-000000000001"));
    assert_true(sb_str_is(found->consumer_id, CONSUMER));
    assert_null(sb_get(found->value, "ttl"));
    assert_int_equal(found->value->count, 3);
    assert_int_equal(rows->expires_ms, 6000);
    assert_true(found->expires_ms > sb_wall_ms() && found->expires_ms <= sb_wall_ms() + 5000);
    assert_null(found->consumer);
    assert_ptr_equal(found->credential->row, found);
    assert_string_equal(found->credential->kind, "keyauth_credentials");
    sb_rows_drop(rows);
}

static void what_is_stored_is_found(void **state)
{
    struct sb_cache *c = cache(1 << 20, 0, 0, 0);

    (void)state;
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "a", 1000), SB_CACHED_NOT);
    put(c, SB_KEYAUTH_BY_KEY, "a", true, 0, 1000);
    put(c, SB_KEYAUTH_BY_KEY, "none", false, 0, 1000);
    put(c, SB_KEYAUTH_BY_KEY, "brief", true, 2, 1000);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "a", INT64_MAX - 1), SB_CACHED_ROWS);
    assert_int_equal(get(c, SB_JWT_BY_KEY, "a", 1000), SB_CACHED_NOT); /* another kind */
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "none", INT64_MAX - 1), SB_CACHED_ABSENT);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "brief", 2999), SB_CACHED_ROWS);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "brief", 3000), SB_CACHED_NOT);
    /* What nobody announces is not remembered, or not for long. */
    put(c, SB_TOKEN_BY_ACCESS_TOKEN, "t", false, 0, 1000);
    assert_int_equal(get(c, SB_TOKEN_BY_ACCESS_TOKEN, "t", 1000), SB_CACHED_NOT);
    put(c, SB_CODE_BY_CODE, "c", true, 0, 1000);
    assert_int_equal(get(c, SB_CODE_BY_CODE, "c", 1000), SB_CACHED_NOT);
    put(c, SB_SESSION_BY_SESSION_ID, "s", true, 0, 1000);
    assert_int_equal(get(c, SB_SESSION_BY_SESSION_ID, "s", 1999), SB_CACHED_ROWS);
    assert_int_equal(get(c, SB_SESSION_BY_SESSION_ID, "s", 2000), SB_CACHED_NOT);
    sb_cache_free(c);
}

static void time_makes_stale(void **state)
{
    struct sb_cache *c = cache(1 << 20, 10000, 3000, 30000);
    struct sb_lookup_key key = sb_cache_key(c, SB_KEYAUTH_BY_KEY, SB_STR("a"));
    struct sb_rows *rows;

    (void)state;
    put(c, SB_KEYAUTH_BY_KEY, "a", true, 0, 1000);
    put(c, SB_KEYAUTH_BY_KEY, "none", false, 0, 1000);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "none", 3999), SB_CACHED_ABSENT);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "none", 4000), SB_CACHED_NOT);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "a", 10999), SB_CACHED_ROWS);
    assert_int_equal(sb_cache_get(c, &key, 11000, &rows), SB_CACHED_STALE);
    assert_true(sb_cache_resurrect(c, rows, 11000));
    sb_rows_drop(rows);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "a", 40999), SB_CACHED_ROWS);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "a", 41000), SB_CACHED_STALE);
    sb_cache_free(c);
}

static void invalidate(struct sb_cache *c, const char *table, bool added, const char *key)
{
    struct sb_str keys[] = {sb_str_c(key)};
    struct sb_invalidation what = {.table = sb_str_c(table), .added = added, .all = !key};

    if (key) {
        what.keys = keys;
        what.nkeys = 1;
    }
    sb_cache_invalidate(c, &what);
}

static void the_log_ends_what_it_names(void **state)
{
    struct sb_cache *c = cache(1 << 20, 0, 0, 0);

    (void)state;
    put(c, SB_KEYAUTH_BY_KEY, "a=b", true, 0, 0);
    put(c, SB_KEYAUTH_BY_KEY, "b", true, 0, 0);
    put(c, SB_KEYAUTH_BY_KEY, "none", false, 0, 1);
    put(c, SB_JWT_BY_KEY, "b", true, 0, 0);
    put(c, SB_ACLS_BY_CONSUMER, CONSUMER, true, 0, 0);
    invalidate(c, "keyauth_credentials", false, "key=a=b");
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "a=b", 1), SB_CACHED_NOT);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "b", 1), SB_CACHED_ROWS);
    /* New rows end absences and lists. */
    invalidate(c, "keyauth_credentials", true, NULL);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "b", 1), SB_CACHED_ROWS);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "none", 1), SB_CACHED_NOT);
    invalidate(c, "acls", true, "consumer_id=" CONSUMER);
    put(c, SB_KEYAUTH_BY_KEY, "none", false, 0, 1);
    invalidate(c, "keyauth_credentials", true, "key=none");
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "none", 1), SB_CACHED_NOT);
    /* All of a table, and nothing but it. */
    invalidate(c, "keyauth_credentials", false, NULL);
    assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, "b", 1), SB_CACHED_NOT);
    assert_int_equal(get(c, SB_JWT_BY_KEY, "b", 1), SB_CACHED_ROWS);
    sb_cache_forget_all(c);
    assert_int_equal(get(c, SB_JWT_BY_KEY, "b", 1), SB_CACHED_NOT);
    sb_cache_free(c);
}

static void an_answer_from_before_is_refused(void **state)
{
    static const struct {
        const char *what, *key;
        bool added, there, stored;
    } rows[] = {
        {"nothing happened", "", false, true, true},
        {"the row changed", "key=k", false, true, false},
        {"the table changed", NULL, false, true, false},
        {"the row came, it was read absent", "key=k", true, false, false},
        {"rows came, it was read absent", NULL, true, false, false},
        {"rows came, it was read", NULL, true, true, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_cache *c = cache(1 << 20, 0, 0, 0);
        struct sb_lookup_key key = sb_cache_key(c, SB_KEYAUTH_BY_KEY, SB_STR("k"));
        struct sb_cache_ticket ticket = sb_cache_ask(c, &key);
        struct sb_rows *answer = rows[i].there ? row(SB_KEYAUTH_BY_KEY, "k", 0) : NULL;

        if (!rows[i].key || rows[i].key[0])
            invalidate(c, "keyauth_credentials", rows[i].added, rows[i].key);
        sb_cache_put(c, &key, &ticket, answer, 1);
        sb_rows_drop(answer);
        if ((get(c, SB_KEYAUTH_BY_KEY, "k", 1) != SB_CACHED_NOT) != rows[i].stored)
            fail_msg("%s", rows[i].what);
        sb_cache_free(c);
    }
}

/* The bound holds, what is asked for often stays, and strangers' keys push out only each other. */
static void the_bound_holds(void **state)
{
    enum { KNOWN = 200, MANY = 100000 };
    struct sb_cache *c = cache(4 << 20, 0, 0, 0);
    struct sb_cache_stats s, after;
    char name[32];

    (void)state;
    for (int i = 0; i < KNOWN; i++) {
        snprintf(name, sizeof name, "known-%d", i);
        put(c, SB_KEYAUTH_BY_KEY, name, true, 0, 1);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "once-%d", i);
        put(c, SB_KEYAUTH_BY_KEY, name, true, 0, 1);
        snprintf(name, sizeof name, "known-%d", i % KNOWN);
        assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, name, 1), SB_CACHED_ROWS);
    }
    sb_cache_stats(c, &s);
    assert_true(s.bytes + s.fixed <= s.limit);
    assert_true(s.bytes + s.fixed > s.limit * 3 / 4);
    assert_int_equal(s.rows + s.evicted, s.stored);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "stranger-%d", i);
        put(c, SB_KEYAUTH_BY_KEY, name, false, 0, 1);
    }
    sb_cache_stats(c, &after);
    assert_int_equal(after.bytes, s.bytes);
    assert_int_equal(after.rows, s.rows);
    assert_int_equal(after.fixed, s.fixed);
    assert_true(after.absent * 32 <= s.limit / 8);
    for (int i = 0; i < KNOWN; i++) {
        snprintf(name, sizeof name, "known-%d", i);
        assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, name, 1), SB_CACHED_ROWS);
    }
    sb_cache_free(c);
}

/* What the accounting says is what malloc has given. */
static void memory_is_counted(void **state)
{
    struct sb_cache *c = cache(8 << 20, 0, 0, 0);
    struct sb_cache_stats s;
    struct mallinfo2 before = mallinfo2(), after;
    char name[32];

    (void)state;
    for (int i = 0; i < 5000; i++) {
        snprintf(name, sizeof name, "%d", i);
        put(c, SB_KEYAUTH_BY_KEY, name, true, 0, 1);
    }
    after = mallinfo2();
    sb_cache_stats(c, &s);
    assert_int_equal(s.rows, 5000);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* But for what malloc keeps at hand for small blocks. */
    assert_in_range(after.uordblks - before.uordblks, s.bytes * 97 / 100, s.bytes * 103 / 100);
#endif
    (void)before;
    (void)after;
    sb_cache_free(c);
}

/* By count, not by clock: a guess that shares all but the last byte with a stored key costs the
 * same comparisons as one that shares nothing, and a comparison has no early way out. */
static void guesses_cost_the_same(void **state)
{
    struct sb_cache *c = cache(1 << 20, 0, 0, 0);
    struct sb_cache_stats s;
    uint64_t per_guess[3][64], before;
    static const char stored[] = "0123456789abcdef0123456789abcdef";
    char guess[3][64];

    (void)state;
    put(c, SB_KEYAUTH_BY_KEY, stored, true, 0, 1);
    for (int i = 0; i < 64; i++) {
        snprintf(guess[0], sizeof guess[0], "x%031d", i);             /* shares nothing */
        snprintf(guess[1], sizeof guess[1], "%.16s%016d", stored, i); /* half */
        snprintf(guess[2], sizeof guess[2], "%.30s%02d", stored, i);  /* all but the end */
        for (int k = 0; k < 3; k++) {
            sb_cache_stats(c, &s);
            before = s.compared;
            assert_int_equal(get(c, SB_KEYAUTH_BY_KEY, guess[k], 1), SB_CACHED_NOT);
            sb_cache_stats(c, &s);
            per_guess[k][i] = s.compared - before;
            /* The slots of a set; and the stored key, only if chance puts them in one bucket. */
            assert_in_range(per_guess[k][i], 8, 9);
        }
    }
    sb_cache_free(c);
}

/* -- threads -- */

enum { THREADS = 4, ROUNDS = 20000, KEYS = 64 };

struct shared_keys {
    struct sb_cache *c;
    _Atomic int truth[KEYS]; /* the "database": which edition of the row it has */
    _Atomic bool stop;
};

/* Asks, reads the database, stores; and checks that what it finds is no older than what was true
 * when the last invalidation had been read. */
static void *worker_thread(void *arg)
{
    struct shared_keys *s = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;

    for (int i = 0; i < ROUNDS; i++) {
        int n = rand_r(&seed) % KEYS;
        char name[16], text[16];
        struct sb_lookup_key key;
        struct sb_cache_ticket ticket;
        struct sb_rows *rows = NULL;

        snprintf(name, sizeof name, "k%d", n);
        key = sb_cache_key(s->c, SB_KEYAUTH_BY_KEY, sb_str_c(name));
        if (sb_cache_get(s->c, &key, 1, &rows) == SB_CACHED_NOT) {
            ticket = sb_cache_ask(s->c, &key);
            snprintf(text, sizeof text, "%d", atomic_load(&s->truth[n]));
            rows = row(SB_KEYAUTH_BY_KEY, text, 0);
            sb_cache_put(s->c, &key, &ticket, rows, 1);
        }
        sb_rows_drop(rows);
    }
    return NULL;
}

static void *config_thread(void *arg)
{
    struct shared_keys *s = arg;
    unsigned seed = 7;

    while (!atomic_load(&s->stop)) {
        int n = rand_r(&seed) % KEYS;
        char name[16];

        atomic_fetch_add(&s->truth[n], 1);
        snprintf(name, sizeof name, "key=k%d", n);
        invalidate(s->c, "keyauth_credentials", false, name);
        if (rand_r(&seed) % 1000 == 0)
            sb_cache_forget_all(s->c);
    }
    return NULL;
}

static void threads_agree(void **state)
{
    struct shared_keys s = {.c = cache(64 << 10, 0, 0, 0)};
    pthread_t threads[THREADS], config;

    (void)state;
    pthread_create(&config, NULL, config_thread, &s);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, worker_thread, &s);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&s.stop, true);
    pthread_join(config, NULL);
    /* All is quiet: whatever is left must be the truth. */
    for (int n = 0; n < KEYS; n++) {
        struct sb_rows *rows;
        struct sb_lookup_key key;
        char name[16], text[16];

        snprintf(name, sizeof name, "k%d", n);
        snprintf(text, sizeof text, "%d", atomic_load(&s.truth[n]));
        key = sb_cache_key(s.c, SB_KEYAUTH_BY_KEY, sb_str_c(name));
        if (sb_cache_get(s.c, &key, 1, &rows) == SB_CACHED_ROWS) {
            assert_true(sb_str_is(sb_value_str_at(rows->row[0].value, "key"), text));
            sb_rows_drop(rows);
        }
    }
    sb_cache_free(s.c);
}

/* -- values -- */

static void values_that_no_row_has(void **state)
{
    static const struct {
        enum sb_lookup by;
        struct sb_str value;
        const char *want; /* NULL: no */
    } rows[] = {
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("key"), "key"},
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT(""), ""},
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("k\303\251y \360\237\230\200"),
         "k\303\251y \360\237\230\200"},
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("k\0y"), NULL},
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("\377"), NULL},
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("\303"), NULL},
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("\300\200"), NULL},     /* overlong NUL */
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("\340\200\200"), NULL}, /* overlong */
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("\355\240\200"), NULL}, /* surrogate */
        {SB_KEYAUTH_BY_KEY, SB_STR_INIT("\364\220\200\200"), NULL},
        {SB_CONSUMER_BY_ID, SB_STR_INIT("00000000-0000-0000-0000-00000000000A"), CONSUMER},
        {SB_CONSUMER_BY_ID, SB_STR_INIT("bob"), NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct sb_str value = rows[i].value;
        char room[37];
        bool can = sb_lookup_normalise(rows[i].by, &value, room);

        assert_int_equal(can, rows[i].want != NULL);
        if (can)
            assert_true(sb_str_is(value, rows[i].want));
    }
}

/* How long a hit takes, told by V=1: nothing is asserted of a clock. */
static void hits_are_timed(void **state)
{
    enum { N = 1000000, HOT = 1000 };
    static char names[HOT][33];
    struct sb_cache *c;
    int64_t began_us;

    (void)state;
    if (!getenv("V"))
        skip();
    c = cache(64 << 20, 0, 0, 0);
    for (int i = 0; i < HOT; i++) {
        snprintf(names[i], sizeof names[i], "%032d", i);
        put(c, SB_KEYAUTH_BY_KEY, names[i], true, 0, 1);
    }
    began_us = sb_clock_us();
    for (int i = 0; i < N; i++) {
        struct sb_lookup_key key = sb_cache_key(c, SB_KEYAUTH_BY_KEY, sb_str_n(names[i % HOT], 32));
        struct sb_rows *rows;

        if (sb_cache_get(c, &key, 1, &rows) == SB_CACHED_ROWS)
            sb_rows_drop(rows);
    }
    printf("  a hit: %.0f ns\n", (double)(sb_clock_us() - began_us) * 1000 / N);
    sb_cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(siphash_is_siphash),
        cmocka_unit_test(rows_are_copied_whole),
        cmocka_unit_test(values_that_no_row_has),
        cmocka_unit_test(what_is_stored_is_found),
        cmocka_unit_test(time_makes_stale),
        cmocka_unit_test(the_log_ends_what_it_names),
        cmocka_unit_test(an_answer_from_before_is_refused),
        cmocka_unit_test(the_bound_holds),
        cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(guesses_cost_the_same),
        cmocka_unit_test(threads_agree),
        cmocka_unit_test(hits_are_timed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
