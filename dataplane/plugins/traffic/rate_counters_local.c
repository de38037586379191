/* rate_counters_local.c - see rate_counters_local.h.
 *
 * (I1) Two lines of a bucket never have the same key. (I2) A window's count belongs to the window
 * that began at its start; asked about a later one it is 0.
 */
#include "dataplane/plugins/traffic/rate_counters_local.h"

#include <pthread.h>
#include <stdlib.h>

#include "shared/digest.h"
#include "shared/siphash.h"

enum { BUCKETS = 32768, LINES = 8, LOCKS = 256, CACHE_LINE = 64, BEHIND_S = 2 };

struct window {
    uint32_t start_s;
    int32_t count;
};

struct line {
    uint64_t key; /* both 0: free */
    uint32_t key_more, used_s;
    struct window windows[SB_PERIODS];
};

_Static_assert(sizeof(struct line) == CACHE_LINE, "a counter is a cache line");

struct lock {
    _Alignas(CACHE_LINE) pthread_mutex_t mutex;
};

struct sb_counters {
    struct sb_siphash_key secret;
    size_t buckets;
    struct line *lines;
    void *memory; /* of lines, before they were aligned */
    struct lock locks[LOCKS];
};

struct sb_counters *sb_counters_new(size_t buckets)
{
    struct sb_counters *c = NULL;
    pthread_mutexattr_t attr;

    if (posix_memalign((void **)&c, CACHE_LINE, sizeof *c))
        abort();
    c->buckets = buckets ? buckets : BUCKETS;
    sb_random(&c->secret, sizeof c->secret);
    c->memory = sb_xcalloc(c->buckets * LINES + 1, sizeof(struct line));
    c->lines = (struct line *)(((uintptr_t)c->memory + CACHE_LINE - 1) & ~(uintptr_t)63);
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_init(&c->locks[i].mutex, &attr);
    pthread_mutexattr_destroy(&attr);
    return c;
}

void sb_counters_free(struct sb_counters *c)
{
    if (!c)
        return;
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&c->locks[i].mutex);
    free(c->memory);
    free(c);
}

static struct sb_counters *shared;

static void make_shared(void)
{
    shared = sb_counters_new(0);
}

struct sb_counters *sb_counters_shared(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_shared);
    return shared;
}

uint64_t sb_counters_tag(const struct sb_counters *c, struct sb_str text)
{
    uint64_t hash[2];

    sb_siphash(&c->secret, 0, text, hash);
    return hash[0];
}

/* -- lines -- */

struct place {
    uint64_t key;
    uint32_t key_more;
    struct line *bucket;
    pthread_mutex_t *mutex;
};

static struct place place_of(struct sb_counters *c, uint64_t tag, struct sb_str identifier)
{
    uint64_t hash[2], bucket;

    sb_siphash(&c->secret, tag, identifier, hash);
    bucket = hash[1] >> 32 & (c->buckets - 1);
    return (struct place){.key = hash[0] ? hash[0] : 1,
                          .key_more = (uint32_t)hash[1],
                          .bucket = &c->lines[bucket * LINES],
                          .mutex = &c->locks[bucket % LOCKS].mutex};
}

static struct line *find_locked(const struct place *p)
{
    for (int i = 0; i < LINES; i++)
        if (p->bucket[i].key == p->key && p->bucket[i].key_more == p->key_more)
            return &p->bucket[i];
    return NULL;
}

static bool is_over(const struct line *l, int64_t now_s)
{
    for (int p = 0; p < SB_PERIODS; p++)
        if (l->windows[p].count && l->windows[p].start_s + sb_period_rows[p].len_s > now_s)
            return false;
    return true;
}

/* The line to give up. */
static struct line *victim_locked(const struct place *p, int64_t now_s)
{
    struct line *oldest = p->bucket;

    for (int i = 0; i < LINES; i++) {
        struct line *l = &p->bucket[i];

        if (!l->key || is_over(l, now_s))
            return l;
        if (l->used_s < oldest->used_s)
            oldest = l;
    }
    return oldest;
}

static struct line *find_or_make_locked(const struct place *p, int64_t now_s)
{
    struct line *l = find_locked(p);

    if (!l) {
        l = victim_locked(p, now_s);
        *l = (struct line){.key = p->key, .key_more = p->key_more};
    }
    l->used_s = (uint32_t)now_s;
    return l;
}

/* The window of now. A clock that is a little behind another worker's counts in that one's. */
static struct window *window_locked(struct line *l, enum sb_period period, int64_t now_s)
{
    struct window *w = &l->windows[period];
    int64_t start = sb_window_start(period, now_s);

    if (w->start_s < start || w->start_s > now_s + BEHIND_S)
        *w = (struct window){.start_s = (uint32_t)start};
    return w;
}

static void add_locked(struct window *w, int64_t value)
{
    int64_t sum = w->count + value;

    w->count = (int32_t)(sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum);
}

/* -- verbs -- */

bool sb_counters_take(struct sb_counters *c, const struct sb_count_item *item,
                      struct sb_str identifier, int64_t now_s, int64_t used[SB_PERIODS])
{
    struct place place = place_of(c, item->tag, identifier);
    struct line *l;
    bool free_everywhere = true;

    pthread_mutex_lock(place.mutex);
    l = find_or_make_locked(&place, now_s);
    for (int p = 0; p < SB_PERIODS; p++) {
        used[p] = item->limited[p] ? window_locked(l, p, now_s)->count : 0;
        free_everywhere &= !item->limited[p] || item->limit[p] > (double)used[p];
    }
    for (int p = 0; free_everywhere && p < SB_PERIODS; p++)
        if (item->limited[p])
            add_locked(&l->windows[p], 1);
    pthread_mutex_unlock(place.mutex);
    return free_everywhere;
}

void sb_counters_read(struct sb_counters *c, const struct sb_count_item *item,
                      struct sb_str identifier, int64_t now_s, int64_t used[SB_PERIODS])
{
    struct place place = place_of(c, item->tag, identifier);
    struct line *l;

    pthread_mutex_lock(place.mutex);
    l = find_locked(&place);
    for (int p = 0; p < SB_PERIODS; p++)
        used[p] = l ? window_locked(l, p, now_s)->count : 0;
    pthread_mutex_unlock(place.mutex);
}

void sb_counters_add(struct sb_counters *c, const struct sb_count_item *item,
                     struct sb_str identifier, int64_t now_s, int64_t value)
{
    struct place place = place_of(c, item->tag, identifier);
    struct line *l;

    pthread_mutex_lock(place.mutex);
    l = find_or_make_locked(&place, now_s);
    for (int p = 0; p < SB_PERIODS; p++)
        add_locked(window_locked(l, p, now_s), value);
    pthread_mutex_unlock(place.mutex);
}
