#include "dataplane/upstream/resolver_cache.h"

#include <stdlib.h>

#include "shared/arena.h"

/* -- waiters -- */

void sb_waiter_cancel(struct sb_waiter *waiter)
{
    if (!waiter->link)
        return;
    *waiter->link = waiter->next;
    if (waiter->next)
        waiter->next->link = waiter->link;
    waiter->next = NULL;
    waiter->link = NULL;
}

void sb_name_wait(struct sb_name *e, struct sb_waiter *waiter)
{
    sb_waiter_cancel(waiter);
    waiter->next = e->waiters;
    waiter->link = &e->waiters;
    if (waiter->next)
        waiter->next->link = &waiter->next;
    e->waiters = waiter;
}

void sb_name_wake(struct sb_name *e)
{
    struct sb_waiter *list = e->waiters, *waiter;

    e->waiters = NULL;
    if (list)
        list->link = &list;
    while ((waiter = list)) {
        sb_waiter_cancel(waiter);
        waiter->ready(waiter);
    }
}

/* -- the cache -- */

static void unlink_name(struct sb_name_cache *c, struct sb_name *e)
{
    *(e->newer ? &e->newer->older : &c->newest) = e->older;
    *(e->older ? &e->older->newer : &c->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void link_newest(struct sb_name_cache *c, struct sb_name *e)
{
    e->older = c->newest;
    if (e->older)
        e->older->newer = e;
    else
        c->oldest = e;
    c->newest = e;
}

void sb_name_drop_srv(struct sb_name *e)
{
    for (size_t i = 0; i < e->nsrv; i++)
        sb_waiter_cancel(&e->srv[i].waiter);
    free(e->srv);
    e->srv = NULL;
    e->nsrv = 0;
}

static void free_name(struct sb_name *e)
{
    sb_name_drop_srv(e);
    free(e->list.records);
    free(e);
}

/* Room for one more: the entry unused for longest goes, if nobody waits for it. */
static void evict(struct sb_name_cache *c)
{
    struct sb_name *e = c->oldest;

    while (e && (e->querying || e->waiters || e->fixed))
        e = e->newer;
    if (!e)
        return;
    unlink_name(c, e);
    sb_map_remove(&c->names, e->name);
    c->count--;
    free_name(e);
}

struct sb_name *sb_name_of(struct sb_name_cache *c, struct sb_resolver *r, struct sb_str name)
{
    char lower[SB_DNS_NAME_MAX + 2];
    struct sb_name *e;

    for (size_t i = 0; i < name.len; i++)
        lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
    e = sb_map_get(&c->names, sb_str_n(lower, name.len));
    if (e) {
        unlink_name(c, e);
    } else {
        if (c->count >= c->max)
            evict(c);
        e = sb_xcalloc(1, sizeof *e + name.len + 1);
        memcpy(e->text, lower, name.len);
        e->name = sb_str_n(e->text, name.len);
        e->r = r;
        e->cache = c;
        sb_map_set(&c->names, e->name, e);
        c->count++;
    }
    link_newest(c, e);
    return e;
}

/* -- lists -- */

static bool same_record(const struct sb_resolved_record *a, const struct sb_resolved_record *b)
{
    return memcmp(&a->addr, &b->addr, sizeof a->addr) == 0 && a->port == b->port &&
           a->weight == b->weight && a->alone == b->alone && sb_str_eq(a->srv, b->srv);
}

static bool same_list(const struct sb_name_list *a, const struct sb_name_list *b)
{
    if (a->n != b->n || a->type != b->type)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!same_record(&a->records[i], &b->records[i]))
            return false;
    return true;
}

/* Copies records and the names in them, in one block. */
static struct sb_name_list copy_list(const struct sb_resolved_record *records, size_t n,
                                     enum sb_dns_type type)
{
    struct sb_name_list l = {.n = n, .type = type};
    size_t len = n * sizeof *records;
    char *names;

    for (size_t i = 0; i < n; i++)
        len += records[i].srv.len;
    l.records = sb_xmalloc(len + 1);
    memcpy(l.records, records, n * sizeof *records);
    names = (char *)&l.records[n];
    for (size_t i = 0; i < n; i++) {
        l.total += records[i].weight;
        if (!records[i].srv.len)
            continue;
        memcpy(names, records[i].srv.p, records[i].srv.len);
        l.records[i].srv.p = names;
        names += records[i].srv.len;
    }
    return l;
}

void sb_name_set(struct sb_name *e, const struct sb_resolved_record *records, size_t n,
                 enum sb_dns_type type)
{
    struct sb_name_list fresh = copy_list(records, n, type);

    e->known = SB_NAME_FOUND;
    if (same_list(&e->list, &fresh)) {
        free(fresh.records);
        return;
    }
    free(e->list.records);
    e->list = fresh;
    e->generation = ++e->cache->generation;
}

void sb_name_set_address(struct sb_name *e, const union sb_sockaddr *addr)
{
    struct sb_resolved_record one = {.addr = *addr, .weight = 1, .alone = true};

    sb_name_set(e, &one, 1, addr->sa.sa_family == AF_INET6 ? SB_DNS_AAAA : SB_DNS_A);
}

void sb_name_clear(struct sb_name *e)
{
    if (e->list.n)
        e->generation = ++e->cache->generation;
    e->list.n = 0;
}

void sb_name_cache_release(struct sb_name_cache *c)
{
    struct sb_name *next;

    for (struct sb_name *e = c->newest; e; e = e->older) /* one's waiters hang in other ones */
        sb_name_drop_srv(e);
    for (struct sb_name *e = c->newest; e; e = next) {
        next = e->older;
        free_name(e);
    }
    sb_map_release(&c->names);
}
