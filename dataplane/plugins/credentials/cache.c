/* cache.c - see cache.h.
 *
 *     shard   lock | buckets -> rows -> rows            by bits of hash[0]
 *                  | ring: hand -> rows <-> rows ...    a clock with four grades: a look-up that
 *                  |                                    hits adds one, the hand takes one away
 *                  | absent: sets of eight slots        by bits of hash[1]
 *                  | stamps                             by other bits of hash[1]
 *
 * (I1) Rows in a shard never take more than its limit, as malloc counts them; what an exchange
 * still holds after it was thrown out is bounded by the exchanges. (I2) put() and forget() of a key
 * take the same lock: an answer is either stored before it is declared invalid, and then forgotten,
 * or meets a stamp that has moved. (I3) Strangers choose values, not hashes: no shard, bucket or
 * set can be aimed at.
 */
#include "dataplane/plugins/credentials/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "shared/digest.h"
#include "shared/siphash.h"

enum {
    SHARDS_MAX = 64,
    SHARD_LEN_MIN = 256 << 10,
    ROW_LEN_TYPICAL = 512, /* a bucket for each so many bytes */
    ABSENT_SHARE = 16,     /* one part in so many is for absences */
    WAYS = 8,
    STAMPS = 64,
    USED_MAX = 3,
    BIG_SHARE = 4, /* an answer that takes more than this part of a shard is not worth it */
};

struct absent {
    uint64_t hash[2];
    int64_t stale_ms; /* 0: an empty slot */
    uint32_t edition;
    uint8_t by, used;
};

struct shard {
    pthread_mutex_t lock;
    /* under the lock: */
    struct sb_rows **buckets;
    struct sb_rows *hand; /* NULL: no rows */
    struct absent *absent;
    size_t bytes;
    uint32_t stamps[STAMPS];
    struct sb_cache_stats stats; /* the counters of it */
} __attribute__((aligned(64)));

struct sb_cache {
    struct sb_cache_options o;
    struct sb_siphash_key secret;
    size_t nshards, nbuckets, nsets, limit; /* of a shard but the first */
    size_t fixed;
    _Atomic bool closed;
    struct {
        _Atomic uint64_t all, added, changed;
    } editions[SB_LOOKUP_TABLES];
    struct shard shards[];
};

static size_t power_of_two(size_t n)
{
    size_t p = 1;

    while (p * 2 <= n)
        p *= 2;
    return p;
}

struct sb_cache *sb_cache_new(const struct sb_cache_options *o)
{
    size_t n = power_of_two(o->bytes / SHARD_LEN_MIN + 1), share;
    struct sb_cache *c;

    if (n > SHARDS_MAX)
        n = SHARDS_MAX;
    c = aligned_alloc(64, sizeof *c + n * sizeof c->shards[0]);
    sb_assert(c);
    memset(c, 0, sizeof *c + n * sizeof c->shards[0]);
    c->o = *o;
    c->nshards = n;
    share = o->bytes / n;
    c->nbuckets = power_of_two(share / ROW_LEN_TYPICAL + 1);
    c->nsets = power_of_two(share / ABSENT_SHARE / (WAYS * sizeof(struct absent)) + 1);
    c->fixed = n * (c->nbuckets * sizeof(void *) + c->nsets * WAYS * sizeof(struct absent) +
                    sizeof c->shards[0]);
    c->limit = o->bytes > c->fixed ? (o->bytes - c->fixed) / n : 0;
    sb_random(&c->secret, sizeof c->secret);
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_init(&c->shards[i].lock, NULL);
        c->shards[i].buckets = sb_xcalloc(c->nbuckets, sizeof *c->shards[i].buckets);
        c->shards[i].absent = sb_xcalloc(c->nsets * WAYS, sizeof(struct absent));
    }
    return c;
}

struct sb_lookup_key sb_cache_key(const struct sb_cache *c, enum sb_lookup by, struct sb_str value)
{
    struct sb_lookup_key key = {.by = by};

    sb_siphash(&c->secret, by, value, key.hash);
    return key;
}

static struct shard *shard_of(struct sb_cache *c, const struct sb_lookup_key *key)
{
    return &c->shards[key->hash[0] & (c->nshards - 1)];
}

static struct sb_rows **bucket_of(const struct sb_cache *c, const struct shard *s,
                                  const struct sb_lookup_key *key)
{
    return &s->buckets[key->hash[0] >> 16 & (c->nbuckets - 1)];
}

static uint32_t *stamp_of(struct shard *s, const struct sb_lookup_key *key)
{
    return &s->stamps[key->hash[1] >> 48 & (STAMPS - 1)];
}

static struct absent *set_of(const struct sb_cache *c, const struct shard *s,
                             const struct sb_lookup_key *key)
{
    return &s->absent[(key->hash[1] & (c->nsets - 1)) * WAYS];
}

/* -- rows -- */

static bool is_list(enum sb_lookup by)
{
    return sb_lookup_kind(by)->list;
}

static uint64_t all_of(struct sb_cache *c, enum sb_lookup by)
{
    return atomic_load_explicit(&c->editions[sb_lookup_kind(by)->table].all, memory_order_acquire);
}

static uint64_t added_of(struct sb_cache *c, enum sb_lookup by)
{
    return atomic_load_explicit(&c->editions[sb_lookup_kind(by)->table].added,
                                memory_order_acquire);
}

static struct sb_rows **find_locked(struct sb_cache *c, struct shard *s,
                                    const struct sb_lookup_key *key)
{
    struct sb_rows **at = bucket_of(c, s, key);

    for (; *at; at = &(*at)->chain) {
        s->stats.compared++;
        if (sb_lookup_key_eq(&(*at)->key, key))
            break;
    }
    return at;
}

static void remove_locked(struct shard *s, struct sb_rows **at)
{
    struct sb_rows *rows = *at;

    *at = rows->chain;
    s->hand = rows->after == rows ? NULL : s->hand == rows ? rows->after : s->hand;
    rows->before->after = rows->after;
    rows->after->before = rows->before;
    s->bytes -= rows->size;
    s->stats.rows--;
    sb_rows_drop(rows);
}

/* Behind the hand: the last that it comes to. */
static void add_locked(struct sb_cache *c, struct shard *s, struct sb_rows *rows)
{
    struct sb_rows **bucket = bucket_of(c, s, &rows->key);

    rows->chain = *bucket;
    *bucket = rows;
    rows->used = 0;
    if (s->hand) {
        rows->after = s->hand;
        rows->before = s->hand->before;
        rows->before->after = rows->after->before = rows;
    } else {
        s->hand = rows->before = rows->after = rows;
    }
    s->bytes += rows->size;
    s->stats.rows++;
    s->stats.stored++;
}

static void make_room_locked(struct sb_cache *c, struct shard *s)
{
    while (s->bytes > c->limit && s->hand) {
        struct sb_rows *rows = s->hand;

        if (rows->used) {
            rows->used--;
            s->hand = rows->after;
            continue;
        }
        remove_locked(s, find_locked(c, s, &rows->key));
        s->stats.evicted++;
    }
}

/* -- absences -- */

static uint32_t edition_of(struct sb_cache *c, enum sb_lookup by)
{
    return (uint32_t)(all_of(c, by) + added_of(c, by));
}

static struct absent *find_absent_locked(struct sb_cache *c, struct shard *s,
                                         const struct sb_lookup_key *key)
{
    struct absent *set = set_of(c, s, key), *found = NULL;

    for (int i = 0; i < WAYS; i++) {
        struct sb_lookup_key k = {{set[i].hash[0], set[i].hash[1]}, set[i].by};

        s->stats.compared++;
        if (sb_lookup_key_eq(&k, key) && set[i].stale_ms)
            found = &set[i];
    }
    return found;
}

static bool is_over(struct sb_cache *c, const struct absent *a, int64_t now_ms)
{
    return !a->stale_ms || a->stale_ms <= now_ms || a->edition != edition_of(c, a->by);
}

/* A slot that is free or over; else one that was not asked for lately; then all start anew. */
static struct absent *victim_locked(struct sb_cache *c, struct shard *s,
                                    const struct sb_lookup_key *key, int64_t now_ms)
{
    struct absent *set = set_of(c, s, key);
    unsigned first = (unsigned)s->stats.stored % WAYS;

    for (int i = 0; i < WAYS; i++)
        if (is_over(c, &set[i], now_ms))
            return &set[i];
    for (unsigned i = 0; i < WAYS; i++)
        if (!set[(first + i) % WAYS].used)
            return &set[(first + i) % WAYS];
    for (int i = 0; i < WAYS; i++)
        set[i].used = 0;
    return &set[first];
}

static void put_absent_locked(struct sb_cache *c, struct shard *s, const struct sb_lookup_key *key,
                              int64_t now_ms)
{
    struct absent *a = find_absent_locked(c, s, key);

    if (!a)
        a = victim_locked(c, s, key, now_ms);
    if (!a->stale_ms)
        s->stats.absent++;
    *a = (struct absent){
        .hash = {key->hash[0], key->hash[1]},
        .by = (uint8_t)key->by,
        .edition = edition_of(c, key->by),
        .stale_ms = c->o.absent_ttl_ms ? now_ms + c->o.absent_ttl_ms : INT64_MAX,
    };
    s->stats.stored++;
}

/* -- looking up -- */

static enum sb_cached get_rows_locked(struct sb_cache *c, struct shard *s, struct sb_rows **at,
                                      int64_t now_ms)
{
    struct sb_rows *rows = *at;
    bool old = rows->all != all_of(c, rows->key.by) ||
               (is_list(rows->key.by) && rows->added != added_of(c, rows->key.by));

    if (old || rows->expires_ms <= now_ms || (rows->stale_ms <= now_ms && !c->o.resurrect_ms)) {
        s->stats.invalidated += old;
        remove_locked(s, at);
        return SB_CACHED_NOT;
    }
    if (rows->used < USED_MAX)
        rows->used++;
    return rows->stale_ms <= now_ms ? SB_CACHED_STALE : SB_CACHED_ROWS;
}

static enum sb_cached get_locked(struct sb_cache *c, struct shard *s,
                                 const struct sb_lookup_key *key, int64_t now_ms,
                                 struct sb_rows **rows)
{
    struct sb_rows **at = find_locked(c, s, key), *found = *at;
    enum sb_cached cached = found ? get_rows_locked(c, s, at, now_ms) : SB_CACHED_NOT;
    struct absent *a;

    if (cached != SB_CACHED_NOT) {
        *rows = sb_rows_hold(found);
        cached == SB_CACHED_ROWS ? s->stats.hits++ : s->stats.stale++;
        return cached;
    }
    a = find_absent_locked(c, s, key);
    if (a && !is_over(c, a, now_ms)) {
        a->used = 1;
        s->stats.absences++;
        return SB_CACHED_ABSENT;
    }
    s->stats.misses++;
    return SB_CACHED_NOT;
}

enum sb_cached sb_cache_get(struct sb_cache *c, const struct sb_lookup_key *key, int64_t now_ms,
                            struct sb_rows **rows)
{
    struct shard *s = shard_of(c, key);
    enum sb_cached cached;

    if (atomic_load_explicit(&c->closed, memory_order_acquire))
        return SB_CACHED_NOT;
    pthread_mutex_lock(&s->lock);
    cached = get_locked(c, s, key, now_ms, rows);
    pthread_mutex_unlock(&s->lock);
    return cached;
}

bool sb_cache_brought(struct sb_cache *c, const struct sb_lookup_key *key, int64_t now_ms,
                      struct sb_rows **rows)
{
    struct shard *s = shard_of(c, key);
    enum sb_cached cached;
    struct sb_rows **at;
    struct absent *a;
    bool brought;

    if (atomic_load_explicit(&c->closed, memory_order_acquire))
        return false;
    pthread_mutex_lock(&s->lock);
    at = find_locked(c, s, key);
    cached = *at ? get_rows_locked(c, s, at, now_ms) : SB_CACHED_NOT;
    *rows = cached == SB_CACHED_ROWS ? sb_rows_hold(*at) : NULL;
    a = cached == SB_CACHED_NOT ? find_absent_locked(c, s, key) : NULL;
    brought = *rows || (a && !is_over(c, a, now_ms));
    pthread_mutex_unlock(&s->lock);
    return brought;
}

/* -- storing -- */

struct sb_cache_ticket sb_cache_ask(struct sb_cache *c, const struct sb_lookup_key *key)
{
    struct shard *s = shard_of(c, key);
    struct sb_cache_ticket t = {.all = all_of(c, key->by), .added = added_of(c, key->by)};

    pthread_mutex_lock(&s->lock);
    t.stamp = *stamp_of(s, key);
    pthread_mutex_unlock(&s->lock);
    return t;
}

static bool valid_locked(struct sb_cache *c, struct shard *s, const struct sb_lookup_key *key,
                         const struct sb_cache_ticket *t, bool also_added)
{
    return t->stamp == *stamp_of(s, key) && t->all == all_of(c, key->by) &&
           (!also_added || t->added == added_of(c, key->by));
}

bool sb_cache_valid(struct sb_cache *c, const struct sb_lookup_key *key,
                    const struct sb_cache_ticket *ticket)
{
    struct shard *s = shard_of(c, key);
    bool valid;

    pthread_mutex_lock(&s->lock);
    valid = valid_locked(c, s, key, ticket, true);
    pthread_mutex_unlock(&s->lock);
    return valid;
}

static int64_t stale_at(const struct sb_cache *c, enum sb_lookup by, int64_t now_ms)
{
    int64_t ttl_ms = c->o.ttl_ms, max_ms = sb_lookup_kind(by)->max_ms;

    if (max_ms && (!ttl_ms || max_ms < ttl_ms))
        ttl_ms = max_ms;
    return ttl_ms ? now_ms + ttl_ms : INT64_MAX;
}

static bool is_worth_it(const struct sb_cache *c, enum sb_lookup by, const struct sb_rows *rows)
{
    const struct sb_lookup_kind *kind = sb_lookup_kind(by);

    if (kind->max_ms == SB_REMEMBER_NOT || atomic_load_explicit(&c->closed, memory_order_acquire))
        return false;
    return rows ? rows->size <= c->limit / BIG_SHARE : kind->additions;
}

static void put_locked(struct sb_cache *c, struct shard *s, const struct sb_lookup_key *key,
                       const struct sb_cache_ticket *ticket, struct sb_rows *rows, int64_t now_ms)
{
    struct sb_rows **old = find_locked(c, s, key);

    if (*old)
        remove_locked(s, old);
    if (!rows) {
        put_absent_locked(c, s, key, now_ms);
        return;
    }
    rows->key = *key;
    rows->all = ticket->all;
    rows->added = ticket->added;
    rows->stale_ms = stale_at(c, key->by, now_ms);
    add_locked(c, s, sb_rows_hold(rows));
    make_room_locked(c, s);
}

void sb_cache_put(struct sb_cache *c, const struct sb_lookup_key *key,
                  const struct sb_cache_ticket *ticket, struct sb_rows *rows, int64_t now_ms)
{
    struct shard *s = shard_of(c, key);

    if (!is_worth_it(c, key->by, rows))
        return;
    pthread_mutex_lock(&s->lock);
    if (valid_locked(c, s, key, ticket, !rows || is_list(key->by)))
        put_locked(c, s, key, ticket, rows, now_ms);
    else
        s->stats.refused++;
    pthread_mutex_unlock(&s->lock);
}

static uint64_t changed_of(struct sb_cache *c, enum sb_lookup by)
{
    return atomic_load_explicit(&c->editions[sb_lookup_kind(by)->table].changed,
                                memory_order_acquire);
}

struct sb_cache_ticket sb_cache_ask_any(struct sb_cache *c, enum sb_lookup by)
{
    return (struct sb_cache_ticket){
        .all = all_of(c, by), .added = added_of(c, by), .changed = changed_of(c, by)};
}

void sb_cache_put_any(struct sb_cache *c, const struct sb_lookup_key *key,
                      const struct sb_cache_ticket *ticket, struct sb_rows *rows, int64_t now_ms)
{
    struct shard *s = shard_of(c, key);

    pthread_mutex_lock(&s->lock);
    if (ticket->all == all_of(c, key->by) && ticket->changed == changed_of(c, key->by))
        put_locked(c, s, key, ticket, rows, now_ms);
    else
        s->stats.refused++;
    pthread_mutex_unlock(&s->lock);
}

bool sb_cache_resurrect(struct sb_cache *c, struct sb_rows *rows, int64_t now_ms)
{
    struct shard *s = shard_of(c, &rows->key);

    if (!c->o.resurrect_ms)
        return false;
    pthread_mutex_lock(&s->lock);
    rows->stale_ms = now_ms + c->o.resurrect_ms;
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* -- forgetting -- */

void sb_cache_close(struct sb_cache *c)
{
    atomic_store_explicit(&c->closed, true, memory_order_release);
}

void sb_cache_forget(struct sb_cache *c, const struct sb_lookup_key *key)
{
    struct shard *s = shard_of(c, key);
    struct sb_rows **at;
    struct absent *a;

    pthread_mutex_lock(&s->lock);
    ++*stamp_of(s, key);
    at = find_locked(c, s, key);
    a = find_absent_locked(c, s, key);
    s->stats.invalidated += *at || a;
    if (*at)
        remove_locked(s, at);
    if (a) {
        a->stale_ms = 0;
        s->stats.absent--;
    }
    pthread_mutex_unlock(&s->lock);
}

static void new_edition(struct sb_cache *c, unsigned table, bool only_added)
{
    if (!only_added)
        atomic_fetch_add_explicit(&c->editions[table].all, 1, memory_order_acq_rel);
    atomic_fetch_add_explicit(&c->editions[table].added, 1, memory_order_acq_rel);
}

void sb_cache_forget_all(struct sb_cache *c)
{
    for (unsigned table = 0; table < SB_LOOKUP_TABLES; table++)
        new_edition(c, table, false);
}

static void forget_named(struct sb_cache *c, enum sb_lookup by, struct sb_str name)
{
    struct sb_str column;
    char room[37];

    if (!sb_str_split(&name, '=', &column) || !sb_str_is(column, sb_lookup_kind(by)->column))
        return;
    if (sb_lookup_normalise(by, &name, room)) {
        struct sb_lookup_key key = sb_cache_key(c, by, name);

        sb_cache_forget(c, &key);
    }
}

void sb_cache_invalidate(struct sb_cache *c, const struct sb_invalidation *what)
{
    unsigned done = SB_LOOKUP_TABLES;

    for (enum sb_lookup by = 0; by < SB_LOOKUPS; by++) {
        unsigned table = sb_lookup_kind(by)->table;

        if (!sb_str_is(what->table, sb_lookup_entity(by)->table))
            continue;
        if (what->all && table != done)
            new_edition(c, table, what->added);
        if (!what->all && !what->added && table != done) /* before any of them is forgotten */
            atomic_fetch_add_explicit(&c->editions[table].changed, 1, memory_order_acq_rel);
        done = table;
        for (size_t i = 0; !what->all && i < what->nkeys; i++)
            forget_named(c, by, what->keys[i]);
    }
}

/* -- the rest -- */

void sb_cache_stats(struct sb_cache *c, struct sb_cache_stats *out)
{
    struct sb_cache_stats sum = {.limit = c->o.bytes, .fixed = c->fixed};

    for (size_t i = 0; i < c->nshards; i++) {
        struct shard *s = &c->shards[i];

        pthread_mutex_lock(&s->lock);
        sum.bytes += s->bytes;
        sum.rows += s->stats.rows;
        sum.absent += s->stats.absent;
        sum.hits += s->stats.hits;
        sum.absences += s->stats.absences;
        sum.stale += s->stats.stale;
        sum.misses += s->stats.misses;
        sum.stored += s->stats.stored;
        sum.refused += s->stats.refused;
        sum.evicted += s->stats.evicted;
        sum.invalidated += s->stats.invalidated;
        sum.compared += s->stats.compared;
        pthread_mutex_unlock(&s->lock);
    }
    *out = sum;
}

void sb_cache_free(struct sb_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->nshards; i++) {
        struct shard *s = &c->shards[i];

        while (s->hand)
            remove_locked(s, find_locked(c, s, &s->hand->key));
        pthread_mutex_destroy(&s->lock);
        free(s->buckets);
        free(s->absent);
    }
    free(c);
}
