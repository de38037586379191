/* rate_counters_sync.c - see rate_counters_sync.h: the entries and their arithmetic.
 *
 * (I1) At most one round is planned and one under way for a shelf. (I2) Each request that was
 * counted is in exactly one of known, fresh and flying; a round that is lost with its connection
 * may have been counted by Redis all the same, and is then counted twice.
 */
#include "dataplane/plugins/traffic/rate_counters_sync.h"

#include <pthread.h>
#include <stdlib.h>

#include "shared/map.h"

enum { SWEEP_MS = 10000 };

struct entry {
    struct entry *next; /* of those that are fresh */
    bool listed;
    int64_t known, fresh, flying;
    int64_t heard_ms; /* when Redis said what is known; 0: it is to be asked */
    int64_t expires_ms, len_s;
    size_t key_len;
    char key[];
};

struct sb_shelf {
    struct sb_shelf *next;
    struct sb_arena *arena; /* of this and the server */
    struct sb_redis_server server;
    unsigned holders; /* under `shelves` */
    struct {
        pthread_mutex_t lock;
        struct sb_map entries;
        struct entry *fresh;
        bool planned, running;
        int64_t sweep_ms;
    } shared;
};

static pthread_mutex_t shelves_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sb_shelf *shelves;

/* -- shelves ------------------------------------------------------------------------------------
 */

static struct sb_shelf *new_shelf(const struct sb_redis_server *server)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_shelf *s = SB_NEW(a, struct sb_shelf);

    s->arena = a;
    sb_redis_server_copy(a, server, &s->server);
    pthread_mutex_init(&s->shared.lock, NULL);
    return s;
}

struct sb_shelf *sb_shelf_hold(const struct sb_redis_server *server)
{
    struct sb_shelf *s;

    pthread_mutex_lock(&shelves_lock);
    for (s = shelves; s && !sb_str_eq(s->server.key, server->key); s = s->next)
        ;
    if (!s) {
        s = new_shelf(server);
        s->next = shelves;
        shelves = s;
    }
    s->holders++;
    pthread_mutex_unlock(&shelves_lock);
    return s;
}

static void free_shelf(struct sb_shelf *s)
{
    struct sb_map_slot *slot;

    sb_map_each (slot, &s->shared.entries)
        free(slot->value);
    sb_map_release(&s->shared.entries);
    pthread_mutex_destroy(&s->shared.lock);
    SSL_CTX_free(s->server.tls);
    sb_arena_free(s->arena);
}

void sb_shelf_drop(struct sb_shelf *s)
{
    struct sb_shelf **at;
    bool last;

    pthread_mutex_lock(&shelves_lock);
    last = --s->holders == 0;
    for (at = &shelves; last && *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    pthread_mutex_unlock(&shelves_lock);
    if (last)
        free_shelf(s);
}

const struct sb_redis_server *sb_shelf_server(const struct sb_shelf *s)
{
    return &s->server;
}

/* -- entries ------------------------------------------------------------------------------------
 */

static struct entry *find_locked(struct sb_shelf *s, struct sb_str key)
{
    return sb_map_get(&s->shared.entries, key);
}

static struct entry *make_locked(struct sb_shelf *s, const struct sb_shelf_window *w,
                                 int64_t now_ms)
{
    struct entry *e = find_locked(s, w->key);

    if (e || s->shared.entries.count >= SB_SHELF_MAX)
        return e;
    e = sb_xcalloc(1, sizeof *e + w->key.len);
    e->key_len = w->key.len;
    memcpy(e->key, w->key.p, w->key.len);
    e->len_s = w->len_s;
    e->expires_ms = now_ms + w->len_s * 1000;
    sb_map_set(&s->shared.entries, sb_str_n(e->key, e->key_len), e);
    return e;
}

static void add_fresh_locked(struct sb_shelf *s, struct entry *e, int64_t n)
{
    e->fresh += n;
    if (e->listed)
        return;
    e->next = s->shared.fresh;
    s->shared.fresh = e;
    e->listed = true;
}

static void count_locked(struct sb_shelf *s, struct entry *e, bool *plan)
{
    add_fresh_locked(s, e, 1);
    *plan |= !s->shared.planned;
    s->shared.planned = true;
}

/* Something was heard of it not long ago, or will be soon. */
static bool is_current(const struct entry *e, int64_t now_ms, int64_t sync_ms)
{
    return e && e->heard_ms && (now_ms < e->heard_ms + sync_ms || e->fresh || e->flying);
}

static enum sb_rc look_locked(struct sb_shelf *s, struct sb_shelf_window *w, struct entry **e,
                              int64_t now_ms, int64_t sync_ms)
{
    *e = find_locked(s, w->key);
    if (!*e && s->shared.entries.count >= SB_SHELF_MAX)
        return SB_TOOLARGE;
    if (!is_current(*e, now_ms, sync_ms))
        return SB_NOTFOUND;
    w->used = (*e)->known + (*e)->fresh + (*e)->flying;
    return SB_OK;
}

enum sb_rc sb_shelf_take(struct sb_shelf *s, struct sb_shelf_window *w, size_t n, int64_t now_ms,
                         int64_t sync_ms, bool *taken, bool *plan)
{
    struct entry *e[SB_PERIODS];
    enum sb_rc rc = SB_OK;

    *taken = true;
    *plan = false;
    pthread_mutex_lock(&s->shared.lock);
    for (size_t i = 0; !rc && i < n; i++) {
        rc = look_locked(s, &w[i], &e[i], now_ms, sync_ms);
        *taken &= w[i].limit > (double)w[i].used;
    }
    for (size_t i = 0; !rc && *taken && i < n; i++)
        count_locked(s, e[i], plan);
    pthread_mutex_unlock(&s->shared.lock);
    return rc;
}

void sb_shelf_learn(struct sb_shelf *s, const struct sb_shelf_window *w, int64_t known,
                    int64_t now_ms)
{
    struct entry *e;

    pthread_mutex_lock(&s->shared.lock);
    e = make_locked(s, w, now_ms);
    if (e) {
        e->known = known > e->known ? known : e->known; /* answers may pass each other */
        e->heard_ms = now_ms;
    }
    pthread_mutex_unlock(&s->shared.lock);
}

void sb_shelf_add(struct sb_shelf *s, const struct sb_shelf_window *w, int64_t now_ms, bool *plan)
{
    struct entry *e;

    pthread_mutex_lock(&s->shared.lock);
    e = make_locked(s, w, now_ms);
    if (e)
        count_locked(s, e, plan);
    pthread_mutex_unlock(&s->shared.lock);
}

/* -- rounds -------------------------------------------------------------------------------------
 */

void sb_shelf_unplan(struct sb_shelf *s)
{
    pthread_mutex_lock(&s->shared.lock);
    s->shared.planned = false;
    pthread_mutex_unlock(&s->shared.lock);
}

/* What is over goes, if all of it is known. */
static void sweep_locked(struct sb_shelf *s, int64_t now_ms)
{
    struct sb_map kept = {0};
    struct sb_map_slot *slot;

    if (now_ms < s->shared.sweep_ms)
        return;
    s->shared.sweep_ms = now_ms + SWEEP_MS;
    sb_map_each (slot, &s->shared.entries) {
        struct entry *e = slot->value;

        if (e->expires_ms > now_ms || e->fresh || e->flying)
            sb_map_set(&kept, sb_str_n(e->key, e->key_len), e);
        else
            free(e);
    }
    sb_map_release(&s->shared.entries);
    s->shared.entries = kept;
}

size_t sb_shelf_begin(struct sb_shelf *s, struct sb_arena *a, struct sb_shelf_delta *out,
                      size_t max, int64_t now_ms)
{
    size_t n = 0;
    struct entry *e;

    pthread_mutex_lock(&s->shared.lock);
    if (s->shared.running) {
        pthread_mutex_unlock(&s->shared.lock);
        return SIZE_MAX;
    }
    s->shared.planned = false;
    s->shared.running = true;
    while (n < max && (e = s->shared.fresh)) {
        s->shared.fresh = e->next;
        e->listed = false;
        e->flying = e->expires_ms > now_ms ? e->fresh : 0; /* what is over counts nowhere */
        e->fresh = 0;
        if (e->flying)
            out[n++] = (struct sb_shelf_delta){sb_arena_str(a, sb_str_n(e->key, e->key_len)),
                                               e->flying, e->len_s};
    }
    sweep_locked(s, now_ms);
    pthread_mutex_unlock(&s->shared.lock);
    return n;
}

void sb_shelf_landed(struct sb_shelf *s, const struct sb_shelf_delta *d, bool ok, int64_t known,
                     int64_t now_ms)
{
    struct entry *e;

    pthread_mutex_lock(&s->shared.lock);
    e = find_locked(s, d->key);
    sb_assert(e && e->flying == d->delta);
    e->flying = 0;
    if (ok) {
        e->known = known;
        e->heard_ms = now_ms;
    } else {
        e->heard_ms = 0; /* whoever comes next finds out whether Redis is away */
        add_fresh_locked(s, e, d->delta);
    }
    pthread_mutex_unlock(&s->shared.lock);
}

bool sb_shelf_end(struct sb_shelf *s)
{
    bool plan;

    pthread_mutex_lock(&s->shared.lock);
    s->shared.running = false;
    plan = s->shared.fresh && !s->shared.planned;
    s->shared.planned |= plan;
    pthread_mutex_unlock(&s->shared.lock);
    return plan;
}
