/* pending.c - see pending.h.
 *
 * (I1) Of a key, one claim at most is in the table: the newest that is ours. Older ones end by
 * themselves. (I2) A shard's lock is taken before a box's and before the cache's; a box outlives
 * its claims, so who tells under the shard's lock finds it alive.
 */
#include "dataplane/plugins/credentials/pending.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { SHARDS = 64, BUCKETS = 32 };

struct shard {
    pthread_mutex_t lock;
    /* under the lock: the claims of it, whose box's worker changes only what it was told */
    struct sb_claim *buckets[BUCKETS];
} __attribute__((aligned(64)));

struct sb_pending {
    struct sb_cache *cache;
    struct shard shards[SHARDS];
};

struct sb_claim_box {
    struct sb_pending *pending;
    void (*told)(struct sb_claim *claim);
    struct event *wake;
    int fd;
    struct {
        pthread_mutex_t lock;
        struct sb_claim *first, **last;
    } shared;
};

static struct shard *shard_of(struct sb_pending *p, const struct sb_claim *claim)
{
    return &p->shards[claim->key.hash[1] & (SHARDS - 1)];
}

static struct sb_claim **bucket_of(struct shard *s, const struct sb_claim *claim)
{
    return &s->buckets[claim->key.hash[1] >> 8 & (BUCKETS - 1)];
}

/* -- lists -- */

static void link_to(struct sb_claim **at, struct sb_claim *claim)
{
    claim->next = *at;
    claim->link = at;
    if (claim->next)
        claim->next->link = &claim->next;
    *at = claim;
}

static void unlink_claim(struct sb_claim *claim)
{
    *claim->link = claim->next;
    if (claim->next)
        claim->next->link = claim->link;
    claim->next = NULL;
    claim->link = NULL;
}

static void leave_table_locked(struct shard *s, struct sb_claim *claim)
{
    struct sb_claim **at = bucket_of(s, claim);

    while (*at && *at != claim)
        at = &(*at)->chain;
    if (*at)
        *at = claim->chain;
    claim->chain = NULL;
}

/* -- being told -- */

static void post(struct sb_claim_box *box, struct sb_claim *claim)
{
    const uint64_t one = 1;
    bool first;

    pthread_mutex_lock(&box->shared.lock);
    first = !box->shared.first;
    link_to(box->shared.last, claim);
    box->shared.last = &claim->next;
    if (first && write(box->fd, &one, sizeof one) != sizeof one)
        sb_assert(false); /* an eventfd that takes no 1 is full of wakes */
    pthread_mutex_unlock(&box->shared.lock);
}

static void take_out_locked(struct sb_claim_box *box, struct sb_claim *claim)
{
    if (box->shared.last == &claim->next)
        box->shared.last = claim->link;
    unlink_claim(claim);
}

static struct sb_claim *next_told(struct sb_claim_box *box)
{
    struct sb_claim *claim;

    pthread_mutex_lock(&box->shared.lock);
    claim = box->shared.first;
    if (claim)
        take_out_locked(box, claim);
    pthread_mutex_unlock(&box->shared.lock);
    return claim;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct sb_claim_box *box = arg;
    struct sb_claim *claim;
    uint64_t wakes;

    (void)what;
    (void)!read(fd, &wakes, sizeof wakes);
    while ((claim = next_told(box))) {
        claim->state = SB_CLAIM_NONE;
        box->told(claim);
    }
}

struct sb_claim_box *sb_claim_box_new(struct sb_pending *p, struct event_base *base,
                                      void (*told)(struct sb_claim *claim))
{
    struct sb_claim_box *box = sb_xcalloc(1, sizeof *box);

    box->pending = p;
    box->told = told;
    box->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sb_assert(box->fd >= 0);
    pthread_mutex_init(&box->shared.lock, NULL);
    box->shared.last = &box->shared.first;
    box->wake = event_new(base, box->fd, EV_READ | EV_PERSIST, on_wake, box);
    event_add(box->wake, NULL);
    return box;
}

void sb_claim_box_free(struct sb_claim_box *box)
{
    if (!box)
        return;
    sb_assert(!box->shared.first);
    event_free(box->wake);
    close(box->fd);
    pthread_mutex_destroy(&box->shared.lock);
    free(box);
}

/* -- claims -- */

/* Another's, whose answer will still be right. */
static struct sb_claim *find_locked(struct sb_pending *p, struct shard *s,
                                    const struct sb_claim *claim)
{
    struct sb_claim *found = *bucket_of(s, claim);

    while (found && !sb_lookup_key_eq(&found->key, &claim->key))
        found = found->chain;
    if (!found || sb_cache_valid(p->cache, &found->key, &found->ticket))
        return found;
    leave_table_locked(s, found);
    return NULL;
}

bool sb_claim_take(struct sb_claim *claim, struct sb_claim_box *box)
{
    struct sb_pending *p = box->pending;
    struct shard *s = shard_of(p, claim);
    struct sb_claim *other;

    sb_assert(claim->state == SB_CLAIM_NONE);
    claim->box = box;
    claim->ticket = sb_cache_ask(p->cache, &claim->key);
    pthread_mutex_lock(&s->lock);
    other = find_locked(p, s, claim);
    if (other) {
        claim->state = SB_CLAIM_WAITS;
        link_to(&other->first, claim);
    } else {
        claim->state = SB_CLAIM_OURS;
        claim->chain = *bucket_of(s, claim);
        *bucket_of(s, claim) = claim;
    }
    pthread_mutex_unlock(&s->lock);
    return !other;
}

static void settle_locked(struct shard *s, struct sb_claim *claim, enum sb_rc rc,
                          struct sb_rows *rows, struct sb_rows *consumer)
{
    leave_table_locked(s, claim);
    while (claim->first) {
        struct sb_claim *one = claim->first;

        unlink_claim(one);
        one->state = SB_CLAIM_TOLD;
        one->rc = rc;
        one->rows = rows ? sb_rows_hold(rows) : NULL;
        one->consumer = consumer ? sb_rows_hold(consumer) : NULL;
        post(one->box, one);
    }
    claim->state = SB_CLAIM_NONE;
}

void sb_claim_settle(struct sb_claim *claim, enum sb_rc rc, struct sb_rows *rows,
                     struct sb_rows *consumer)
{
    struct shard *s = shard_of(claim->box->pending, claim);

    pthread_mutex_lock(&s->lock);
    sb_assert(claim->state == SB_CLAIM_OURS);
    settle_locked(s, claim, rc, rows, consumer);
    pthread_mutex_unlock(&s->lock);
}

static void forget_told(struct sb_claim *claim)
{
    pthread_mutex_lock(&claim->box->shared.lock);
    take_out_locked(claim->box, claim);
    pthread_mutex_unlock(&claim->box->shared.lock);
    sb_rows_drop(claim->rows);
    sb_rows_drop(claim->consumer);
    claim->rows = claim->consumer = NULL;
}

void sb_claim_leave(struct sb_claim *claim)
{
    struct shard *s;

    if (!claim->box)
        return;
    s = shard_of(claim->box->pending, claim);
    pthread_mutex_lock(&s->lock);
    if (claim->state == SB_CLAIM_OURS)
        settle_locked(s, claim, SB_AGAIN, NULL, NULL);
    else if (claim->state == SB_CLAIM_WAITS)
        unlink_claim(claim);
    else if (claim->state == SB_CLAIM_TOLD)
        forget_told(claim);
    claim->state = SB_CLAIM_NONE;
    pthread_mutex_unlock(&s->lock);
}

/* -- the whole -- */

struct sb_pending *sb_pending_new(struct sb_cache *cache)
{
    struct sb_pending *p = aligned_alloc(64, sizeof *p);

    sb_assert(p);
    memset(p, 0, sizeof *p);
    p->cache = cache;
    for (int i = 0; i < SHARDS; i++)
        pthread_mutex_init(&p->shards[i].lock, NULL);
    return p;
}

void sb_pending_free(struct sb_pending *p)
{
    if (!p)
        return;
    for (int i = 0; i < SHARDS; i++)
        pthread_mutex_destroy(&p->shards[i].lock);
    free(p);
}
