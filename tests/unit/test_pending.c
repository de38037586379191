/* One query for a question, whichever workers want its answer. Workers here are threads with a loop
 * each; the database is an array of numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <event2/event.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#include "dataplane/plugins/credentials/pending.h"

static struct sb_cache *new_cache(void)
{
    struct sb_cache_options o = {.bytes = 64 << 10};

    return sb_cache_new(&o);
}

static struct sb_rows *row(const char *key)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_value *v = sb_value_object(a);
    struct sb_rows *rows;

    sb_object_set(a, v, SB_STR("id"), sb_value_text(a, "00000000-0000-0000-0000-000000000001"));
    sb_object_set(a, v, SB_STR("key"), sb_value_text(a, key));
    rows = sb_rows_build(
        &(struct sb_row_values){SB_KEYAUTH_BY_KEY, (const struct sb_value *[]){v}, 1}, 1);
    sb_arena_free(a);
    return rows;
}

/* -- one thread -- */

enum { MOST = 4 };

/* Two workers' boxes on a loop, and what was told. */
struct two {
    struct sb_cache *cache;
    struct sb_pending *pending;
    struct event_base *base;
    struct sb_claim_box *box[2];
    struct sb_claim claim[MOST];
};

static struct sb_claim *last_told;
static int ntold;

static void on_told(struct sb_claim *claim)
{
    last_told = claim;
    ntold++;
    sb_rows_drop(claim->rows);
    sb_rows_drop(claim->consumer);
}

static struct two begin(void)
{
    struct two t = {.cache = new_cache(), .base = event_base_new()};

    t.pending = sb_pending_new(t.cache);
    for (int i = 0; i < 2; i++)
        t.box[i] = sb_claim_box_new(t.pending, t.base, on_told);
    for (int i = 0; i < MOST; i++)
        t.claim[i].key = sb_cache_key(t.cache, SB_KEYAUTH_BY_KEY, SB_STR("k"));
    ntold = 0;
    last_told = NULL;
    return t;
}

static void end(struct two *t)
{
    for (int i = 0; i < MOST; i++)
        sb_claim_leave(&t->claim[i]);
    for (int i = 0; i < 2; i++)
        sb_claim_box_free(t->box[i]);
    event_base_free(t->base);
    sb_pending_free(t->pending);
    sb_cache_free(t->cache);
}

static int told(struct two *t)
{
    event_base_loop(t->base, EVLOOP_NONBLOCK);
    return ntold;
}

static void who_waits_is_told(void **state)
{
    struct two t = begin();
    struct sb_rows *rows = row("k");

    (void)state;
    assert_true(sb_claim_take(&t.claim[0], t.box[0]));
    assert_false(sb_claim_take(&t.claim[1], t.box[1]));
    assert_false(sb_claim_take(&t.claim[2], t.box[0])); /* the same worker may wait too */
    assert_int_equal(told(&t), 0);
    sb_claim_settle(&t.claim[0], SB_OK, rows, NULL);
    sb_rows_drop(rows);
    assert_int_equal(told(&t), 2);
    assert_int_equal(last_told->rc, SB_OK);
    assert_ptr_equal(last_told->rows, rows);
    /* The question is free again. */
    assert_true(sb_claim_take(&t.claim[1], t.box[1]));
    assert_false(sb_claim_take(&t.claim[0], t.box[0]));
    sb_claim_settle(&t.claim[1], SB_UNAVAILABLE, NULL, NULL);
    assert_int_equal(told(&t), 3);
    assert_int_equal(last_told->rc, SB_UNAVAILABLE);
    end(&t);
}

static void another_question_waits_for_nobody(void **state)
{
    struct two t = begin();

    (void)state;
    t.claim[1].key = sb_cache_key(t.cache, SB_KEYAUTH_BY_KEY, SB_STR("other"));
    t.claim[2].key = sb_cache_key(t.cache, SB_JWT_BY_KEY, SB_STR("k"));
    for (int i = 0; i < 3; i++)
        assert_true(sb_claim_take(&t.claim[i], t.box[0]));
    end(&t);
}

/* Who asks after an invalidation gets an answer from after it; who asked before need not. */
static void an_invalidation_ends_the_waiting(void **state)
{
    struct two t = begin();

    (void)state;
    assert_true(sb_claim_take(&t.claim[0], t.box[0]));
    assert_false(sb_claim_take(&t.claim[1], t.box[1]));
    sb_cache_forget(t.cache, &t.claim[0].key);
    assert_true(sb_claim_take(&t.claim[2], t.box[1]));
    assert_false(sb_claim_take(&t.claim[3], t.box[0])); /* behind the newer one */
    sb_claim_settle(&t.claim[0], SB_OK, NULL, NULL);
    assert_int_equal(told(&t), 1);
    assert_ptr_equal(last_told, &t.claim[1]);
    sb_claim_settle(&t.claim[2], SB_OK, NULL, NULL);
    assert_int_equal(told(&t), 2);
    assert_ptr_equal(last_told, &t.claim[3]);
    end(&t);
}

static void a_worker_that_goes_lets_others_ask(void **state)
{
    struct two t = begin();

    (void)state;
    assert_true(sb_claim_take(&t.claim[0], t.box[0]));
    assert_false(sb_claim_take(&t.claim[1], t.box[1]));
    assert_false(sb_claim_take(&t.claim[2], t.box[1]));
    sb_claim_leave(&t.claim[1]); /* waits no more */
    sb_claim_leave(&t.claim[0]);
    assert_int_equal(told(&t), 1);
    assert_ptr_equal(last_told, &t.claim[2]);
    assert_int_equal(last_told->rc, SB_AGAIN);
    assert_true(sb_claim_take(&t.claim[2], t.box[1]));
    /* One that was told, and goes before it has heard. */
    assert_false(sb_claim_take(&t.claim[0], t.box[0]));
    assert_false(sb_claim_take(&t.claim[3], t.box[0]));
    sb_claim_settle(&t.claim[2], SB_OK, NULL, NULL);
    sb_claim_leave(&t.claim[3]);
    sb_claim_leave(&t.claim[0]);
    assert_int_equal(told(&t), 1);
    end(&t);
}

/* -- workers -- */

enum { WORKERS = 4, ROUNDS = 3000, KEYS = 4 };

struct world {
    struct sb_cache *cache;
    struct sb_pending *pending;
    _Atomic int truth[KEYS], announced[KEYS]; /* what a row says; what the log has told of it */
    _Atomic int queries, waits;
    _Atomic bool stop;
};

struct worker {
    struct world *world;
    struct event_base *base;
    struct sb_claim_box *box;
    unsigned seed;
};

static _Thread_local const struct sb_claim *heard;

static void on_told_worker(struct sb_claim *claim)
{
    heard = claim;
}

static void hear(struct event_base *base, const struct sb_claim *claim)
{
    heard = NULL;
    while (heard != claim)
        event_base_loop(base, EVLOOP_ONCE);
}

static int number(const struct sb_rows *rows)
{
    return atoi(sb_value_str_at(rows->row[0].value, "key").p);
}

/* The worker whose claim it is reads the database. Now and then it goes away instead. */
static struct sb_rows *query(struct worker *w, struct sb_claim *claim, int n)
{
    struct sb_rows *rows = NULL;
    char text[16];

    if (sb_cache_brought(w->world->cache, &claim->key, 1, &rows)) {
        sb_claim_settle(claim, SB_OK, rows, NULL);
        return rows;
    }
    if (rand_r(&w->seed) % 16 == 0) {
        sb_claim_leave(claim);
        return NULL;
    }
    atomic_fetch_add(&w->world->queries, 1);
    snprintf(text, sizeof text, "%d", atomic_load(&w->world->truth[n]));
    rows = row(text);
    sb_cache_put(w->world->cache, &claim->key, &claim->ticket, rows, 1);
    sb_claim_settle(claim, SB_OK, rows, NULL);
    return rows;
}

static struct sb_rows *wait_for(struct worker *w, struct sb_claim *claim)
{
    atomic_fetch_add(&w->world->waits, 1);
    if (rand_r(&w->seed) % 16 == 0) {
        sb_claim_leave(claim);
        return NULL;
    }
    hear(w->base, claim);
    sb_assert(claim->rc == SB_OK || claim->rc == SB_AGAIN);
    return claim->rc ? NULL : claim->rows;
}

static void *worker_thread(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < ROUNDS; i++) {
        int n = rand_r(&w->seed) % KEYS, least;
        struct sb_rows *rows = NULL;
        struct sb_claim claim;
        char name[16];

        snprintf(name, sizeof name, "k%d", n);
        claim = (struct sb_claim){
            .key = sb_cache_key(w->world->cache, SB_KEYAUTH_BY_KEY, sb_str_c(name))};
        least = atomic_load(&w->world->announced[n]);
        if (sb_cache_get(w->world->cache, &claim.key, 1, &rows) == SB_CACHED_NOT)
            rows = sb_claim_take(&claim, w->box) ? query(w, &claim, n) : wait_for(w, &claim);
        if (rows)
            sb_assert(number(rows) >= least);
        sb_rows_drop(rows);
    }
    return NULL;
}

static void *log_thread(void *arg)
{
    struct world *world = arg;
    unsigned seed = 7;

    while (!atomic_load(&world->stop)) {
        int n = rand_r(&seed) % KEYS, now = atomic_fetch_add(&world->truth[n], 1) + 1;
        struct sb_lookup_key key;
        char name[16];

        snprintf(name, sizeof name, "k%d", n);
        key = sb_cache_key(world->cache, SB_KEYAUTH_BY_KEY, sb_str_c(name));
        sb_cache_forget(world->cache, &key);
        atomic_store(&world->announced[n], now);
        sched_yield();
    }
    return NULL;
}

static void workers_agree(void **state)
{
    struct world world = {.cache = new_cache()};
    struct worker w[WORKERS];
    pthread_t threads[WORKERS], log;

    (void)state;
    world.pending = sb_pending_new(world.cache);
    pthread_create(&log, NULL, log_thread, &world);
    for (unsigned i = 0; i < WORKERS; i++) {
        w[i] = (struct worker){.world = &world, .base = event_base_new(), .seed = i};
        w[i].box = sb_claim_box_new(world.pending, w[i].base, on_told_worker);
        pthread_create(&threads[i], NULL, worker_thread, &w[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&world.stop, true);
    pthread_join(log, NULL);
    for (int i = 0; i < WORKERS; i++) {
        sb_claim_box_free(w[i].box);
        event_base_free(w[i].base);
    }
    assert_true(world.queries > 0);
    sb_pending_free(world.pending);
    sb_cache_free(world.cache);
}

/* All workers want the same row at the same time: one asks. */
struct rush {
    struct worker w;
    pthread_barrier_t *together;
    int round;
};

static void *rush_thread(void *arg)
{
    struct rush *r = arg;
    struct world *world = r->w.world;

    for (int i = 0; i < 200; i++) {
        struct sb_rows *rows = NULL;
        struct sb_claim claim;
        char name[16];

        snprintf(name, sizeof name, "rush-%d", i);
        claim =
            (struct sb_claim){.key = sb_cache_key(world->cache, SB_KEYAUTH_BY_KEY, sb_str_c(name))};
        pthread_barrier_wait(r->together);
        if (sb_cache_get(world->cache, &claim.key, 1, &rows) == SB_CACHED_NOT) {
            if (!sb_claim_take(&claim, r->w.box)) {
                hear(r->w.base, &claim);
                rows = claim.rows;
            } else if (sb_cache_brought(world->cache, &claim.key, 1, &rows)) {
                sb_claim_settle(&claim, SB_OK, rows, NULL);
            } else {
                atomic_fetch_add(&world->queries, 1);
                rows = row("1");
                sb_cache_put(world->cache, &claim.key, &claim.ticket, rows, 1);
                sb_claim_settle(&claim, SB_OK, rows, NULL);
            }
        }
        sb_assert(rows);
        sb_rows_drop(rows);
    }
    return NULL;
}

static void a_rush_is_one_query(void **state)
{
    struct world world = {.cache = sb_cache_new(&(struct sb_cache_options){.bytes = 4 << 20})};
    pthread_barrier_t together;
    struct rush r[WORKERS];
    pthread_t threads[WORKERS];

    (void)state;
    world.pending = sb_pending_new(world.cache);
    pthread_barrier_init(&together, NULL, WORKERS);
    for (int i = 0; i < WORKERS; i++) {
        r[i] =
            (struct rush){.w = {.world = &world, .base = event_base_new()}, .together = &together};
        r[i].w.box = sb_claim_box_new(world.pending, r[i].w.base, on_told_worker);
        pthread_create(&threads[i], NULL, rush_thread, &r[i]);
    }
    for (int i = 0; i < WORKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < WORKERS; i++) {
        sb_claim_box_free(r[i].w.box);
        event_base_free(r[i].w.base);
    }
    assert_int_equal(world.queries, 200);
    pthread_barrier_destroy(&together);
    sb_pending_free(world.pending);
    sb_cache_free(world.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_is_told),
        cmocka_unit_test(another_question_waits_for_nobody),
        cmocka_unit_test(an_invalidation_ends_the_waiting),
        cmocka_unit_test(a_worker_that_goes_lets_others_ask),
        cmocka_unit_test(workers_agree),
        cmocka_unit_test(a_rush_is_one_query),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
