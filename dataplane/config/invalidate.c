#include "dataplane/config/invalidate.h"

#include <stdlib.h>

#include "schema/changelog.h"
#include "shared/clock.h"
#include "shared/log.h"

enum { SOON_FIRST_MS = 2, SOON_MAX_MS = 250 }; /* doubled from the one to the other */

/* A watermark, and when it was read. */
struct mark {
    struct sb_arena *arena; /* of text */
    struct sb_str text;     /* "": nothing yet */
    int64_t at_ms;
};

struct sb_invalidator {
    struct sb_cache *cache;
    int64_t poll_ms, propagation_ms;
    bool replica;
    struct mark seen;  /* from where it is read */
    struct mark newer; /* from where it will be, once it is old enough */
    int64_t next_ms, soon_ms;
    int64_t echo_until_ms; /* the replica may not have it yet */
};

struct sb_invalidator *sb_invalidator_new(struct sb_cache *cache, int64_t poll_ms,
                                          int64_t propagation_ms, bool replica)
{
    struct sb_invalidator *v = sb_xcalloc(1, sizeof *v);

    v->cache = cache;
    v->poll_ms = poll_ms;
    v->propagation_ms = propagation_ms;
    v->replica = replica;
    v->seen.arena = sb_arena_new(256);
    v->newer.arena = sb_arena_new(256);
    v->soon_ms = SOON_FIRST_MS;
    return v;
}

void sb_invalidator_free(struct sb_invalidator *v)
{
    if (!v)
        return;
    sb_arena_free(v->seen.arena);
    sb_arena_free(v->newer.arena);
    free(v);
}

void sb_invalidator_wake(struct sb_invalidator *v)
{
    v->next_ms = 0;
    v->soon_ms = SOON_FIRST_MS;
    if (v->replica)
        v->echo_until_ms = sb_clock_ms() + v->poll_ms;
}

int64_t sb_invalidator_next_ms(const struct sb_invalidator *v)
{
    return v->next_ms;
}

static void apply(struct sb_invalidator *v, const struct sb_invalidations *inv)
{
    if (inv->restart) {
        if (v->seen.text.len)
            sb_info("credentials: the log does not reach back: everything cached is forgotten");
        sb_cache_forget_all(v->cache);
    }
    for (size_t i = 0; i < inv->n; i++)
        sb_cache_invalidate(v->cache, &inv->list[i]);
}

static void plan(struct sb_invalidator *v, bool soon)
{
    int64_t now_ms = sb_clock_ms();

    if (!soon && now_ms >= v->echo_until_ms) {
        v->next_ms = now_ms + v->poll_ms;
        v->soon_ms = SOON_FIRST_MS;
        return;
    }
    v->next_ms = now_ms + v->soon_ms;
    v->soon_ms = v->soon_ms * 2 < SOON_MAX_MS ? v->soon_ms * 2 : SOON_MAX_MS;
}

static void set_mark(struct mark *m, struct sb_str text)
{
    sb_arena_clear(m->arena);
    m->text = sb_arena_str(m->arena, text);
    m->at_ms = sb_clock_ms();
}

static void move_on(struct sb_invalidator *v, const struct sb_invalidations *inv)
{
    struct mark old = v->seen;

    if (!v->propagation_ms || inv->restart || !v->seen.text.len) {
        set_mark(&v->seen, inv->upto);
        set_mark(&v->newer, inv->upto);
    } else if (sb_clock_ms() >= v->newer.at_ms + v->propagation_ms) {
        v->seen = v->newer;
        v->newer = old;
        set_mark(&v->newer, inv->upto);
    }
}

enum sb_rc sb_invalidator_step(struct sb_invalidator *v, struct sb_pg *pg, struct sb_err *err)
{
    struct sb_invalidations inv;
    struct sb_arena *a;
    enum sb_rc rc;

    if (sb_clock_ms() < v->next_ms)
        return SB_OK;
    a = sb_arena_new(0);
    rc = sb_invalidations_read(pg, a, v->seen.text, &inv, err);
    if (!rc) {
        apply(v, &inv);
        move_on(v, &inv);
    }
    plan(v, !rc && inv.unsettled);
    sb_arena_free(a);
    return rc;
}
