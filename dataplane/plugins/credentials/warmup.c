/* warmup.c - see warmup.h.
 *
 * (I1) A row is stored with a ticket that was taken before it was read, as by any look-up: a change
 * that is heard of in between wins. (I2) Nothing that is in use is pushed out: it ends before the
 * cache is full.
 */
#include "dataplane/plugins/credentials/warmup.h"

#include <pthread.h>
#include <stdlib.h>

#include "dataplane/plugins/credentials/lookup_rows.h"
#include "schema/row.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/map.h"

enum { PAGE = 1000, FULL_PERCENT = 90 };

struct sb_warmup {
    const struct sb_credentials *shared;
    char *cache_size; /* as it was set */
    enum sb_lookup kinds[SB_LOOKUPS];
    int nkinds;
    pthread_t thread;
    _Atomic bool stop;
};

/* One entity's. */
struct load {
    struct sb_warmup *w;
    struct sb_pg *pg;
    struct sb_arena *arena; /* of a page */
    enum sb_lookup by;
    const char *values_sql, *rows_sql;
    struct sb_buf last; /* of the page before */
    uint64_t stored;
};

/* A value, and the ticket for its rows. */
struct slot {
    struct sb_str value;
    struct sb_lookup_key key;
    struct sb_cache_ticket ticket;
};

/* -- a page -- */

static enum sb_rc read_values(struct load *l, struct slot **slots, size_t *n, struct sb_err *err)
{
    const struct sb_str params[] = {sb_buf_get(&l->last), sb_arena_printf(l->arena, "%d", PAGE)};
    struct sb_cache *cache = l->w->shared->cache;
    struct sb_pg_rows rows = {0};
    enum sb_rc rc = sb_pg_query(l->pg, l->values_sql, params, 2, &rows, err);

    *n = 0;
    if (rc)
        return rc;
    *slots = SB_NEW_N(l->arena, struct slot, rows.count);
    while (sb_pg_next(&rows)) {
        struct slot *s = &(*slots)[(*n)++];

        s->value = sb_arena_str(l->arena, sb_pg_text(&rows, 0));
        s->key = sb_cache_key(cache, l->by, s->value);
        s->ticket = sb_cache_ask(cache, &s->key);
    }
    if (*n) {
        sb_buf_clear(&l->last);
        sb_buf_str(&l->last, (*slots)[*n - 1].value);
    }
    sb_pg_rows_release(&rows);
    return SB_OK;
}

/* What the row has in the field by which it is looked up; foreign fields: the id. */
static struct sb_str value_of(const struct sb_value *row, const char *field)
{
    const struct sb_value *v = sb_get(row, field);

    if (sb_is(v, SB_V_OBJECT))
        v = sb_get(v, "id");
    return sb_is(v, SB_V_STR) ? v->s : (struct sb_str){0};
}

/* Rows of one value: n, from first on. */
static void store(struct load *l, const struct sb_map *slots, const struct sb_value **first,
                  size_t n)
{
    struct sb_str value = value_of(*first, sb_lookup_kind(l->by)->field);
    struct slot *s = value.p ? sb_map_get(slots, value) : NULL;
    int64_t now_ms = sb_clock_ms();
    struct sb_rows *rows;

    if (!s)
        return;
    rows = sb_rows_build(&(struct sb_row_values){l->by, first, n}, now_ms);
    sb_cache_put(l->w->shared->cache, &s->key, &s->ticket, rows, now_ms);
    sb_rows_drop(rows);
    l->stored += n;
}

static void store_all(struct load *l, const struct sb_map *slots, const struct sb_value **values,
                      size_t n)
{
    const char *field = sb_lookup_kind(l->by)->field;

    for (size_t i = 0, end; i < n; i = end) {
        struct sb_str value = value_of(values[i], field);

        for (end = i + 1; end < n && sb_str_eq(value_of(values[end], field), value); end++)
            ;
        store(l, slots, &values[i], end - i);
    }
}

static enum sb_rc decode(struct load *l, struct sb_pg_rows *rows, const struct sb_value **values,
                         const struct sb_cache_ticket *consumers, struct sb_err *err)
{
    size_t n = 0;

    while (sb_pg_next(rows)) {
        struct sb_rows *consumer = NULL;
        struct sb_value *v;
        enum sb_rc rc = sb_row_decode(l->arena, sb_lookup_entity(l->by), rows, &v, err);

        if (!rc && sb_lookup_kind(l->by)->brings_consumer)
            rc = sb_lookup_read_consumer(l->w->shared->cache, l->arena, l->by, rows, consumers,
                                         &consumer, err);
        if (rc)
            return rc;
        sb_rows_drop(consumer);
        values[n++] = v;
    }
    return SB_OK;
}

static enum sb_rc read_rows(struct load *l, const struct slot *slots, size_t n, struct sb_err *err)
{
    struct sb_str *items = SB_NEW_N(l->arena, struct sb_str, n), array;
    struct sb_cache_ticket consumers = sb_cache_ask_any(l->w->shared->cache, SB_CONSUMER_BY_ID);
    const struct sb_value **values;
    struct sb_pg_rows rows = {0};
    struct sb_map by_value = {0};
    enum sb_rc rc;

    for (size_t i = 0; i < n; i++) {
        items[i] = slots[i].value;
        sb_map_set(&by_value, slots[i].value, (void *)&slots[i]);
    }
    array = sb_pg_array_text(l->arena, items, n);
    rc = sb_pg_query(l->pg, l->rows_sql, &array, 1, &rows, err);
    if (!rc) {
        values = SB_NEW_N(l->arena, const struct sb_value *, rows.count);
        rc = decode(l, &rows, values, &consumers, err);
        if (!rc)
            store_all(l, &by_value, values, (size_t)rows.count);
    }
    sb_pg_rows_release(&rows);
    sb_map_release(&by_value);
    return rc;
}

/* -- an entity -- */

static bool is_full(const struct sb_warmup *w)
{
    struct sb_cache_stats s;

    sb_cache_stats(w->shared->cache, &s);
    return (s.bytes + s.fixed) * 100 >= s.limit * FULL_PERCENT;
}

static enum sb_rc load_pages(struct load *l, bool *full, struct sb_err *err)
{
    struct slot *slots;
    enum sb_rc rc;
    size_t n;

    do {
        sb_arena_clear(l->arena);
        rc = read_values(l, &slots, &n, err);
        if (!rc && n)
            rc = read_rows(l, slots, n, err);
        *full = is_full(l->w);
    } while (!rc && n == PAGE && !*full && !l->w->stop);
    return rc;
}

/* False: no more of it. */
static bool load(struct sb_warmup *w, struct sb_pg *pg, enum sb_lookup by)
{
    const struct sb_lookup_kind *kind = sb_lookup_kind(by);
    struct sb_arena *a = sb_arena_new(0);
    struct load l = {.w = w, .pg = pg, .arena = sb_arena_new(0), .by = by};
    int64_t began_ms = sb_clock_ms();
    bool full = false;
    struct sb_err err;
    enum sb_rc rc;

    sb_buf_init(&l.last, 0);
    sb_buf_cstr(&l.last, kind->uuid ? "00000000-0000-0000-0000-000000000000" : "");
    l.values_sql = sb_lookup_sql_values(a, by, w->shared->reader.schema);
    l.rows_sql = sb_lookup_sql_many(a, by, w->shared->reader.schema);
    sb_notice("preloading '%s' into the cache ...", kind->entity);
    rc = load_pages(&l, &full, &err);
    if (rc)
        sb_warn("preloading '%s' into the cache ended early: %s", kind->entity, err.text);
    else if (full)
        sb_warn("cache warmup has been stopped because cache memory is exhausted, please consider "
                "increasing the value of 'mem_cache_size' (currently at %s)",
                w->cache_size);
    else
        sb_notice("finished preloading '%s' into the cache (%llu rows in %lld ms)", kind->entity,
                  (unsigned long long)l.stored, (long long)(sb_clock_ms() - began_ms));
    sb_buf_release(&l.last);
    sb_arena_free(l.arena);
    sb_arena_free(a);
    return !rc && !full && !w->stop;
}

static void *warmup_thread(void *arg)
{
    struct sb_warmup *w = arg;
    struct sb_pg *pg;
    struct sb_err err;

    if (sb_pg_connect(&w->shared->reader, &pg, &err)) {
        sb_warn("the cache is not preloaded: %s", err.text);
        return NULL;
    }
    for (int i = 0; i < w->nkinds && load(w, pg, w->kinds[i]); i++)
        ;
    sb_pg_free(pg);
    return NULL;
}

/* -- what is wanted -- */

/* By the first way to look it up, which is the one that plugins use; none where an answer is not
 * remembered for long. */
static bool find_kind(struct sb_str entity, enum sb_lookup *out)
{
    for (enum sb_lookup by = 0; by < SB_LOOKUPS; by++) {
        if (sb_str_is(entity, sb_lookup_kind(by)->entity) && !sb_lookup_kind(by)->max_ms) {
            *out = by;
            return true;
        }
    }
    return false;
}

static void add(struct sb_warmup *w, struct sb_str entity)
{
    enum sb_lookup by;

    if (!sb_entity_find(entity)) {
        sb_warn("%.*s is not a valid entity name, please check the value of "
                "'db_cache_warmup_entities'",
                SB_ARG(entity));
        return;
    }
    if (!find_kind(entity, &by))
        return;
    for (int i = 0; i < w->nkinds; i++)
        if (w->kinds[i] == by)
            return;
    w->kinds[w->nkinds++] = by;
}

struct sb_warmup *sb_warmup_start(const struct sb_credentials *shared,
                                  const struct sb_settings *settings)
{
    struct sb_warmup *w;
    const struct sb_str *names;
    const char *size;
    size_t n;

    if (!shared || !shared->cache)
        return NULL;
    w = sb_xcalloc(1, sizeof *w);
    w->shared = shared;
    names = sb_settings_list(settings, "db_cache_warmup_entities", &n);
    for (size_t i = 0; i < n; i++)
        add(w, names[i]);
    if (!w->nkinds) {
        free(w);
        return NULL;
    }
    size = sb_settings_str(settings, "mem_cache_size");
    size = size ? size : "";
    w->cache_size = memcpy(sb_xmalloc(strlen(size) + 1), size, strlen(size) + 1);
    pthread_create(&w->thread, NULL, warmup_thread, w);
    return w;
}

void sb_warmup_stop(struct sb_warmup *w)
{
    if (!w)
        return;
    w->stop = true;
    pthread_join(w->thread, NULL);
    free(w->cache_size);
    free(w);
}
