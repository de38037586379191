/* credentials.c - see credentials.h: the way of a look-up through what is known.
 *
 *     kept by this exchange -> in memory (no database) -> cache -> asked
 */
#include "dataplane/plugins/credentials/credentials.h"

#include "dataplane/http/exchange.h"
#include "dataplane/listen/worker.h"
#include "dataplane/plugins/credentials/asking.h"
#include "dataplane/plugins/credentials/memory.h"
#include "dataplane/plugins/parts.h"
#include "dataplane/plugins/credentials/write.h"
#include "shared/clock.h"

static struct sb_exchange *exchange_of(struct sb_asking *asking)
{
    return (struct sb_exchange *)((char *)asking - offsetof(struct sb_exchange, asking));
}

/* -- what is kept -- */

/* Takes the caller's hold on rows. */
static void keep(struct sb_exchange *x, const struct sb_lookup_key *key, enum sb_rc rc,
                 struct sb_rows *rows)
{
    struct sb_asking *a = &x->asking;
    struct sb_kept *k;

    a->used = true;
    if (a->nkept < SB_KEPT_ROOM) {
        k = &x->kept[a->nkept++];
    } else {
        k = SB_NEW(sb_exchange_arena(x), struct sb_kept);
        k->next = a->more;
        a->more = k;
    }
    k->key = *key;
    k->rc = rc;
    k->rows = rows;
}

static const struct sb_kept *find_kept(const struct sb_exchange *x, const struct sb_lookup_key *key)
{
    const struct sb_asking *a = &x->asking;

    for (unsigned i = 0; i < a->nkept; i++)
        if (sb_lookup_key_eq(&x->kept[i].key, key))
            return &x->kept[i];
    for (const struct sb_kept *k = a->more; k; k = k->next)
        if (sb_lookup_key_eq(&k->key, key))
            return k;
    return NULL;
}

void sb_exchange_hold_rows(struct sb_exchange *x, struct sb_rows *rows)
{
    const struct sb_lookup_key none = {.by = SB_LOOKUPS};

    keep(x, &none, SB_OK, rows);
}

void sb_asking_release(struct sb_asking *a, struct sb_kept kept[SB_KEPT_ROOM])
{
    sb_asker_leave(&a->asker);
    sb_rows_drop(a->stale);
    if (a->writing)
        sb_writing_leave(a->writing);
    for (unsigned i = 0; i < a->nkept; i++)
        sb_rows_drop(kept[i].rows);
    for (const struct sb_kept *k = a->more; k; k = k->next)
        sb_rows_drop(k->rows);
    *a = (struct sb_asking){0};
}

/* -- asking -- */

/* The database did not say: what is known from before goes on working. */
static enum sb_rc do_without(struct sb_exchange *x, const struct sb_lookup_key *key,
                             struct sb_rows *stale)
{
    struct sb_cache *cache = sb_lookups_shared(x->w->lookups)->cache;

    if (!stale || !sb_cache_resurrect(cache, stale, sb_now_ms(x->w))) {
        sb_rows_drop(stale);
        keep(x, key, SB_UNAVAILABLE, NULL);
        return SB_UNAVAILABLE;
    }
    keep(x, key, SB_OK, stale);
    return SB_OK;
}

static void on_answered(struct sb_asker *asker, enum sb_rc rc, struct sb_rows *rows,
                        struct sb_rows *consumer)
{
    struct sb_asking *a = (struct sb_asking *)((char *)asker - offsetof(struct sb_asking, asker));
    struct sb_exchange *x = exchange_of(a);
    struct sb_rows *stale = a->stale;

    a->stale = NULL;
    if (rc) {
        (void)do_without(x, &a->key, stale);
    } else {
        keep(x, &a->key, rows ? SB_OK : SB_NOTFOUND, rows ? sb_rows_hold(rows) : NULL);
        if (consumer)
            keep(x, &consumer->key, SB_OK, sb_rows_hold(consumer));
        sb_rows_drop(stale);
    }
    sb_exchange_resume_again(x);
}

static enum sb_rc ask(struct sb_exchange *x, const struct sb_lookup_key *key, struct sb_str value,
                      struct sb_rows *stale)
{
    struct sb_asking *a = &x->asking;
    enum sb_rc rc;

    sb_assert(!a->asker.flight && !a->stale); /* one at a time */
    a->asker.answered = on_answered;
    rc = sb_lookups_ask(x->w->lookups, key, value, sb_exchange_client_ip(x), &a->asker);
    if (rc != SB_AGAIN)
        return do_without(x, key, stale);
    a->used = true;
    a->key = *key;
    a->stale = stale;
    return SB_AGAIN;
}

/* SB_OK: *rows, held by the exchange. */
static enum sb_rc from_cache(struct sb_exchange *x, const struct sb_lookup_key *key,
                             struct sb_str value, struct sb_rows **rows)
{
    enum sb_cached cached =
        sb_cache_get(sb_lookups_shared(x->w->lookups)->cache, key, sb_now_ms(x->w), rows);

    switch (cached) {
    case SB_CACHED_ROWS:
        keep(x, key, SB_OK, *rows);
        return SB_OK;
    case SB_CACHED_ABSENT:
        return SB_NOTFOUND;
    case SB_CACHED_STALE:
        return ask(x, key, value, *rows);
    default:
        return ask(x, key, value, NULL);
    }
}

static enum sb_rc look_up(struct sb_exchange *x, enum sb_lookup by, struct sb_str value,
                          const struct sb_rows **out)
{
    const struct sb_cache *cache = sb_lookups_shared(x->w->lookups)->cache;
    const struct sb_kept *kept;
    struct sb_lookup_key key;
    struct sb_rows *rows = NULL;
    char room[37];
    enum sb_rc rc;

    if (!sb_lookup_normalise(by, &value, room))
        return SB_NOTFOUND;
    if (!cache) {
        *out = sb_memory_find(x->hold->snap->credentials, by, value, sb_wall_ms());
        return *out ? SB_OK : SB_NOTFOUND;
    }
    key = sb_cache_key(cache, by, value);
    kept = find_kept(x, &key);
    if (kept) {
        *out = kept->rows;
        return kept->rc;
    }
    rc = from_cache(x, &key, value, &rows);
    *out = rows;
    return rc;
}

enum sb_rc sb_credential_find(struct sb_exchange *x, enum sb_lookup by, struct sb_str value,
                              const struct sb_found **found)
{
    const struct sb_rows *rows;
    enum sb_rc rc = look_up(x, by, value, &rows);

    if (rc)
        return rc;
    if (!rows->n)
        return SB_NOTFOUND;
    *found = &rows->row[0];
    return SB_OK;
}

enum sb_rc sb_credential_list(struct sb_exchange *x, enum sb_lookup by, struct sb_str value,
                              const struct sb_found **list, size_t *n)
{
    const struct sb_rows *rows = NULL;
    enum sb_rc rc = look_up(x, by, value, &rows);

    if (rc && rc != SB_NOTFOUND)
        return rc;
    *list = rc ? NULL : rows->row;
    *n = rc ? 0 : rows->n;
    return SB_OK;
}
