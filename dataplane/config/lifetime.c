/* lifetime.c - a list of held generations, each with the dropped objects that wait for it. */
#include "dataplane/config/lifetime.h"

#include <stdlib.h>

#include "shared/arena.h"
#include "shared/err.h"
#include "shared/vec.h"

struct dropped {
    uint64_t born;
    void (*fn)(void *arg);
    void *arg;
};

struct held {
    uint64_t generation;
    SB_VEC(struct dropped) waiting;
};

struct sb_lifetimes {
    uint64_t now;
    SB_VEC(struct held) held; /* oldest first; few */
    size_t waiting;
};

struct sb_lifetimes *sb_lifetimes_new(void)
{
    struct sb_lifetimes *l = sb_xcalloc(1, sizeof *l);

    l->now = 1;
    return l;
}

void sb_lifetimes_free(struct sb_lifetimes *l)
{
    if (!l)
        return;
    while (l->held.len)
        sb_lifetimes_retire(l, l->held.p[l->held.len - 1].generation);
    sb_vec_release(&l->held);
    free(l);
}

uint64_t sb_lifetimes_now(const struct sb_lifetimes *l)
{
    return l->now;
}

uint64_t sb_lifetimes_publish(struct sb_lifetimes *l)
{
    sb_vec_push(&l->held, (struct held){.generation = l->now});
    return l->now++;
}

/* Lets the object wait at the newest of the first n held generations, or frees it. */
static void wait_or_free(struct sb_lifetimes *l, size_t n, struct dropped d)
{
    if (n && l->held.p[n - 1].generation >= d.born) {
        sb_vec_push(&l->held.p[n - 1].waiting, d);
        l->waiting++;
        return;
    }
    d.fn(d.arg);
}

void sb_lifetimes_drop(struct sb_lifetimes *l, uint64_t born, void (*fn)(void *arg), void *arg)
{
    wait_or_free(l, l->held.len, (struct dropped){born, fn, arg});
}

void sb_lifetimes_retire(struct sb_lifetimes *l, uint64_t generation)
{
    struct held gone;
    size_t at = l->held.len;

    while (at && l->held.p[at - 1].generation != generation)
        at--;
    sb_assert(at); /* held, and given back once */
    gone = l->held.p[--at];
    l->held.len--;
    memmove(l->held.p + at, l->held.p + at + 1, (l->held.len - at) * sizeof *l->held.p);
    l->waiting -= gone.waiting.len;
    for (size_t i = 0; i < gone.waiting.len; i++)
        wait_or_free(l, at, gone.waiting.p[i]);
    sb_vec_release(&gone.waiting);
}

size_t sb_lifetimes_held(const struct sb_lifetimes *l)
{
    return l->held.len;
}

size_t sb_lifetimes_waiting(const struct sb_lifetimes *l)
{
    return l->waiting;
}
