/* rate_counters_rounds.c - see rate_counters_sync.h: requests that count on a shelf, and the rounds
 * that bring a shelf in step with Redis. */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "dataplane/plugins/bundled.h"
#include "dataplane/plugins/traffic/rate_counters_redis.h"
#include "dataplane/plugins/traffic/rate_counters_sync.h"
#include "shared/clock.h"

enum { ROUND_MAX = 10000, AGAIN_MS = 1000 };

/* Argument 1: what is added; 2: the key's seconds, from when it is made. */
static const char sync_script[] = "local new = redis.call('exists', KEYS[1]) == 0 "
                                  "local sum = redis.call('incrby', KEYS[1], ARGV[1]) "
                                  "if new then redis.call('expire', KEYS[1], ARGV[2]) end "
                                  "return sum";

/* -- rounds -------------------------------------------------------------------------------------
 */

struct flight {
    struct sb_redis_task task; /* first */
    struct sb_syncing *round;
    struct sb_shelf_delta delta;
    bool landed;
};

/* A round of a worker's: planned, or under way. */
struct sb_syncing {
    struct sb_syncing *next, **link; /* all of the worker */
    struct sb_counting *c;
    struct sb_shelf *shelf;
    struct event *timer;
    int64_t sync_ms;
    struct sb_arena *arena; /* of what is under way; NULL: only planned */
    struct flight *flights;
    size_t n, left;
    bool failed;
};

static void wait_for_turn(struct sb_syncing *r)
{
    int64_t ms = r->failed && r->sync_ms < AGAIN_MS ? AGAIN_MS : r->sync_ms;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    event_add(r->timer, &tv);
}

static void free_round(struct sb_syncing *r)
{
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    event_free(r->timer);
    sb_arena_free(r->arena);
    sb_shelf_drop(r->shelf);
    free(r);
}

static void land(struct flight *f, bool ok, int64_t known)
{
    f->landed = true;
    f->round->left--;
    f->round->failed |= !ok;
    sb_shelf_landed(f->round->shelf, &f->delta, ok, known, sb_clock_ms());
}

static void end_round(struct sb_syncing *r)
{
    sb_arena_free(r->arena);
    r->arena = NULL;
    r->n = 0;
    if (sb_shelf_end(r->shelf))
        wait_for_turn(r);
    else
        free_round(r);
}

static void on_landed(struct sb_redis_task *task, enum sb_rc rc, const struct sb_redis_reply *reply,
                      const struct sb_err *why)
{
    struct flight *f = (struct flight *)task;
    struct sb_syncing *r = f->round;

    if (rc)
        sb_counting_tell(r->c, "Redis", why->text);
    land(f, rc == SB_OK && reply->n == 1, rc ? 0 : reply->value[0]);
    if (r->left == 0)
        end_round(r);
}

static bool take_off(struct flight *f)
{
    struct sb_arena *a = f->round->arena;
    struct sb_str words[] = {SB_STR("EVAL"),
                             sb_str_c(sync_script),
                             SB_STR("1"),
                             f->delta.key,
                             sb_arena_printf(a, "%lld", (long long)f->delta.delta),
                             sb_arena_printf(a, "%lld", (long long)f->delta.len_s)};

    f->task.done = on_landed;
    return !sb_redis_send(f->round->c->redis, sb_shelf_server(f->round->shelf), words, 6, &f->task);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct sb_syncing *r = arg;
    struct sb_arena *a = sb_arena_new(0);
    struct sb_shelf_delta *deltas = SB_NEW_N(a, struct sb_shelf_delta, ROUND_MAX);
    size_t n = sb_shelf_begin(r->shelf, a, deltas, ROUND_MAX, sb_clock_ms());

    (void)fd;
    (void)what;
    if (n == SIZE_MAX) { /* another worker's is under way */
        sb_arena_free(a);
        wait_for_turn(r);
        return;
    }
    r->arena = a;
    r->failed = false;
    r->n = r->left = n;
    r->flights = SB_NEW_N(a, struct flight, n);
    for (size_t i = 0; i < n; i++) {
        r->flights[i].round = r;
        r->flights[i].delta = deltas[i];
        if (!take_off(&r->flights[i]))
            land(&r->flights[i], false, 0);
    }
    if (r->left == 0)
        end_round(r);
}

static void plan(struct sb_exchange *x, const struct sb_count_set *set)
{
    struct sb_counting *c = sb_exchange_worker_state(x, &sb_plugin_rate_limiting);
    struct sb_syncing *r = sb_xcalloc(1, sizeof *r);

    (void)sb_counting_redis(x, c);
    r->c = c;
    r->shelf = sb_shelf_hold(set->redis);
    r->sync_ms = set->sync_ms;
    r->timer = evtimer_new(c->loop, on_turn, r);
    r->next = c->syncing;
    r->link = &c->syncing;
    if (r->next)
        r->next->link = &r->next;
    c->syncing = r;
    wait_for_turn(r);
}

void sb_syncings_forget(struct sb_counting *c)
{
    while (c->syncing) {
        struct sb_syncing *r = c->syncing;

        for (size_t i = 0; i < r->n; i++)
            if (!r->flights[i].landed)
                land(&r->flights[i], false, 0);
        if (!r->arena || sb_shelf_end(r->shelf))
            sb_shelf_unplan(r->shelf);
        free_round(r);
    }
}

/* -- requests -----------------------------------------------------------------------------------
 */

static size_t windows_of(struct sb_exchange *x, const struct sb_tally *t,
                         struct sb_shelf_window out[SB_PERIODS])
{
    const struct sb_count_item *item = t->set->items;
    size_t n = 0;

    for (int p = 0; p < SB_PERIODS; p++)
        if (item->limited[p])
            out[n++] = (struct sb_shelf_window){
                .key = sb_redis_key(sb_exchange_arena(x), t, 0, (enum sb_period)p),
                .limit = item->limit[p],
                .len_s = sb_period_rows[p].len_s};
    return n;
}

static void take_over(struct sb_tally *t, const struct sb_shelf_window *w)
{
    for (int p = 0, i = 0; p < SB_PERIODS; p++)
        if (t->set->items->limited[p])
            t->used[0][p] = w[i++].used;
}

/* What Redis said of all windows is there: the shelf learns it. */
static void learn(const struct sb_tally *t, const struct sb_shelf_window *w)
{
    for (int p = 0, i = 0; p < SB_PERIODS; p++)
        if (t->set->items->limited[p])
            sb_shelf_learn(t->set->shelf, &w[i++], t->used[0][p], sb_clock_ms());
}

/* From what Redis said itself, where the shelf has no say (any more). */
static void take_by_reply(struct sb_exchange *x, struct sb_tally *t)
{
    enum sb_period full;

    t->taken = !sb_tally_full(t->set->items, t->used[0], &full);
    if (t->taken)
        sb_synced_add(x, t);
}

enum sb_rc sb_synced_take(struct sb_exchange *x, struct sb_tally *t)
{
    struct sb_shelf_window w[SB_PERIODS];
    bool taken, must_plan;
    size_t n;
    enum sb_rc rc;

    if (t->direct || (t->done && t->rc))
        return sb_redis_take(x, t);
    n = windows_of(x, t, w);
    if (t->done)
        learn(t, w);
    rc = sb_shelf_take(t->set->shelf, w, n, sb_clock_ms(), t->set->sync_ms, &taken, &must_plan);
    if (rc && t->done) {
        take_by_reply(x, t);
        return SB_OK;
    }
    t->direct = rc == SB_TOOLARGE;
    if (rc)
        return t->direct ? sb_redis_take(x, t) : sb_redis_read(x, t);
    t->taken = taken;
    take_over(t, w);
    if (must_plan)
        plan(x, t->set);
    return SB_OK;
}

void sb_synced_add(struct sb_exchange *x, const struct sb_tally *t)
{
    struct sb_shelf_window w[SB_PERIODS];
    size_t n = windows_of(x, t, w);
    bool must_plan = false;

    for (size_t i = 0; i < n; i++)
        sb_shelf_add(t->set->shelf, &w[i], sb_clock_ms(), &must_plan);
    if (must_plan)
        plan(x, t->set);
}
