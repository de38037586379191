/* resolver.c - a cache of answers, and the order in which types are asked for.
 *
 *   get(name) -> entry: known and fresh, or stale and renewed behind the asker's back, or asked
 *
 *   asked:  SRV? -no-> A? -no-> AAAA? -no-> NOT_FOUND         (the order is the settings')
 *            |yes       |yes
 *            v          +--> records
 *        the names of the lowest priority: entries of their own that are asked for addresses only
 *        (so that an SRV record cannot lead to itself); when all have answered: records
 *
 * (I1) An entry that is being asked about, or waited for, is not evicted. (I2) A list that an entry
 * showed is replaced, never changed, and its generation with it.
 */
#include "dataplane/upstream/resolver.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dataplane/upstream/dns_client.h"
#include "shared/buf.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/settings.h"

enum { HOSTS_FILE_MAX = 4 << 20, NAME_MAX_LEN = 253, TYPES_MAX = 6 };

/* In the order of types: the one that had an answer the last time. */
static const enum sb_dns_type LAST = (enum sb_dns_type)0;

/* In front of the name of an entry that is asked for addresses only. */
#define ADDRESSES_ONLY '\1'

enum known { UNKNOWN, FOUND, NOT_FOUND, FAILED };

/* What an entry shows. */
struct list {
    struct sb_resolved_record *records;
    size_t n;
    unsigned total;
    enum sb_dns_type type;
};

/* A record of an SRV answer, whose name is being resolved. */
struct srv {
    struct sb_waiter waiter;
    struct entry *of;
    uint16_t port, weight;
    char name[SB_DNS_NAME_MAX + 2]; /* the key of its entry */
};

struct entry {
    struct entry *newer, *older; /* by use */
    struct sb_resolver *r;
    struct sb_str name; /* behind the struct */
    enum known known;
    bool querying, fixed; /* fixed: from the hosts file */
    int64_t expires_ms, stale_until_ms;
    uint64_t generation;
    unsigned turn;
    struct list list;
    struct sb_waiter *waiters;
    enum sb_dns_type types[TYPES_MAX]; /* still to ask for, ended by 0 */
    enum sb_dns_type asked, last;      /* last: what had an answer */
    bool saw_failure;                  /* of a type that mattered */
    struct srv *srv;
    size_t nsrv;
    int64_t srv_expires_ms;
    char text[];
};

struct sb_resolver {
    struct sb_dns *dns;
    int64_t (*now_ms)(void *arg);
    void *arg;
    struct sb_map entries;
    struct entry *newest, *oldest;
    size_t count, max;
    uint64_t generation;
    enum sb_dns_type order[TYPES_MAX]; /* LAST among them; ended by n */
    size_t norder;
    bool srv_by_shape;    /* SRV for _x._y.z only, and nothing else for it */
    int64_t valid_ttl_ms; /* -1: the record's */
    int64_t stale_ms, not_found_ms, error_ms;
};

static void next_type(struct entry *e);
static void collect_srv(struct entry *e);

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

static void add_waiter(struct entry *e, struct sb_waiter *waiter)
{
    sb_waiter_cancel(waiter);
    waiter->next = e->waiters;
    waiter->link = &e->waiters;
    if (waiter->next)
        waiter->next->link = &waiter->next;
    e->waiters = waiter;
}

/* Those who wait may wait anew, for the same name: only the ones there now are woken. */
static void wake_waiters(struct entry *e)
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

static void unlink_entry(struct sb_resolver *r, struct entry *e)
{
    *(e->newer ? &e->newer->older : &r->newest) = e->older;
    *(e->older ? &e->older->newer : &r->oldest) = e->newer;
    e->newer = e->older = NULL;
}

static void link_newest(struct sb_resolver *r, struct entry *e)
{
    e->older = r->newest;
    if (e->older)
        e->older->newer = e;
    else
        r->oldest = e;
    r->newest = e;
}

static void drop_srv(struct entry *e)
{
    for (size_t i = 0; i < e->nsrv; i++)
        sb_waiter_cancel(&e->srv[i].waiter);
    free(e->srv);
    e->srv = NULL;
    e->nsrv = 0;
}

static void free_entry(struct entry *e)
{
    drop_srv(e);
    free(e->list.records);
    free(e);
}

/* Room for one more: the entry unused for longest goes, if nobody waits for it. */
static void evict(struct sb_resolver *r)
{
    struct entry *e = r->oldest;

    while (e && (e->querying || e->waiters || e->fixed))
        e = e->newer;
    if (!e)
        return;
    unlink_entry(r, e);
    sb_map_remove(&r->entries, e->name);
    r->count--;
    free_entry(e);
}

static struct entry *entry_of(struct sb_resolver *r, struct sb_str name)
{
    char lower[SB_DNS_NAME_MAX + 2];
    struct entry *e;

    for (size_t i = 0; i < name.len; i++)
        lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] | 0x20) : name.p[i];
    e = sb_map_get(&r->entries, sb_str_n(lower, name.len));
    if (e) {
        unlink_entry(r, e);
    } else {
        if (r->count >= r->max)
            evict(r);
        e = sb_xcalloc(1, sizeof *e + name.len + 1);
        memcpy(e->text, lower, name.len);
        e->name = sb_str_n(e->text, name.len);
        e->r = r;
        sb_map_set(&r->entries, e->name, e);
        r->count++;
    }
    link_newest(r, e);
    return e;
}

static bool addresses_only(const struct entry *e)
{
    return e->text[0] == ADDRESSES_ONLY;
}

/* The name itself. */
static struct sb_str asked_name(const struct entry *e)
{
    return sb_str_from(e->name, addresses_only(e) ? 1 : 0);
}

static int64_t now_ms(const struct sb_resolver *r)
{
    return r->now_ms(r->arg);
}

/* -- lists -- */

static bool same_record(const struct sb_resolved_record *a, const struct sb_resolved_record *b)
{
    return memcmp(&a->addr, &b->addr, sizeof a->addr) == 0 && a->port == b->port &&
           a->weight == b->weight && a->alone == b->alone && sb_str_eq(a->srv, b->srv);
}

static bool same_list(const struct list *a, const struct list *b)
{
    if (a->n != b->n || a->type != b->type)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!same_record(&a->records[i], &b->records[i]))
            return false;
    return true;
}

/* Copies records and the names in them, in one block. */
static struct list copy_list(const struct sb_resolved_record *records, size_t n,
                             enum sb_dns_type type)
{
    struct list l = {.n = n, .type = type};
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

static void set_records(struct entry *e, const struct sb_resolved_record *records, size_t n,
                        enum sb_dns_type type)
{
    struct list fresh = copy_list(records, n, type);

    e->known = FOUND;
    if (same_list(&e->list, &fresh)) {
        free(fresh.records);
        return;
    }
    free(e->list.records);
    e->list = fresh;
    e->generation = ++e->r->generation;
}

static void set_address(struct entry *e, const union sb_sockaddr *addr)
{
    struct sb_resolved_record one = {.addr = *addr, .weight = 1, .alone = true};

    set_records(e, &one, 1, addr->sa.sa_family == AF_INET6 ? SB_DNS_AAAA : SB_DNS_A);
}

static unsigned gcd(unsigned a, unsigned b)
{
    while (b) {
        unsigned t = a % b;

        a = b;
        b = t;
    }
    return a;
}

/* Where in the total the next turn falls: steps of about its golden section, without a common
 * divisor, visit every place once a round and mix the records well. */
const struct sb_resolved_record *sb_resolved_turn(const struct sb_resolved *found)
{
    unsigned turn = (*found->turn)++, step, at;

    if (found->n == 1)
        return &found->records[0];
    if (found->total == found->n)
        return &found->records[turn % found->n];
    step = found->total - found->total * 382 / 1000;
    while (gcd(step, found->total) != 1)
        step++;
    at = (unsigned)((uint64_t)turn * step % found->total);
    for (size_t i = 0; i < found->n; i++) {
        if (at < found->records[i].weight)
            return &found->records[i];
        at -= found->records[i].weight;
    }
    return &found->records[0];
}

/* -- answers -- */

static int64_t ttl_ms(const struct sb_resolver *r, uint32_t ttl)
{
    if (r->valid_ttl_ms >= 0)
        return r->valid_ttl_ms;
    return ttl < 1 ? 1000 : (int64_t)ttl * 1000;
}

static void answered(struct entry *e, int64_t expires_ms)
{
    e->querying = false;
    e->expires_ms = expires_ms;
    e->stale_until_ms = expires_ms + e->r->stale_ms;
    wake_waiters(e);
}

/* No type had an answer. */
static void failed(struct entry *e)
{
    struct sb_resolver *r = e->r;
    int64_t now = now_ms(r);
    bool no_name = !e->saw_failure;

    e->querying = false;
    if (!no_name && e->known == FOUND && now < e->stale_until_ms) {
        e->expires_ms = now + r->error_ms; /* the old answer is better than none */
    } else {
        if (e->list.n)
            e->generation = ++r->generation;
        e->list.n = 0;
        e->known = no_name ? NOT_FOUND : FAILED;
        e->expires_ms = e->stale_until_ms = now + (no_name ? r->not_found_ms : r->error_ms);
    }
    if (!no_name)
        sb_warn("resolving %.*s: no answer from the name servers", SB_ARG(asked_name(e)));
    wake_waiters(e);
}

static void take_addresses(struct entry *e, const struct sb_dns_record *records, size_t n,
                           uint32_t ttl)
{
    struct sb_resolved_record list[SB_DNS_RECORDS_MAX];

    for (size_t i = 0; i < n; i++)
        list[i] =
            (struct sb_resolved_record){.addr = records[i].addr, .weight = 1, .alone = n == 1};
    set_records(e, list, n, e->asked);
    e->last = e->asked;
    answered(e, now_ms(e->r) + ttl_ms(e->r, ttl));
}

/* Addresses that came with an SRV answer save questions. */
static void take_extra(struct sb_resolver *r, const struct sb_dns_answer *answer, const char *key)
{
    struct entry *e = entry_of(r, sb_str_c(key));
    struct sb_dns_record found[SB_DNS_RECORDS_MAX];
    uint32_t ttl = answer->ttl;
    size_t n = 0;

    if (e->querying || now_ms(r) < e->expires_ms)
        return;
    for (size_t i = 0; i < answer->nextra; i++) {
        if (strcmp(answer->extra[i].name, key + 1) != 0)
            continue;
        if (n && found[0].addr.sa.sa_family != answer->extra[i].addr.sa.sa_family)
            continue;
        if (answer->extra[i].ttl < ttl)
            ttl = answer->extra[i].ttl;
        found[n++] = answer->extra[i];
    }
    if (n == 0)
        return;
    e->asked = found[0].addr.sa.sa_family == AF_INET6 ? SB_DNS_AAAA : SB_DNS_A;
    take_addresses(e, found, n, ttl);
}

static void on_srv_resolved(struct sb_waiter *waiter)
{
    struct srv *s = (struct srv *)((char *)waiter - offsetof(struct srv, waiter));

    collect_srv(s->of);
}

/* The records of the lowest priority; what points to the name itself leads nowhere. */
static void take_srv(struct entry *e, const struct sb_dns_answer *answer)
{
    unsigned lowest = UINT16_MAX;

    for (size_t i = 0; i < answer->n; i++)
        if (answer->records[i].priority < lowest)
            lowest = answer->records[i].priority;
    drop_srv(e);
    e->srv = sb_xcalloc(answer->n, sizeof *e->srv);
    for (size_t i = 0; i < answer->n; i++) {
        const struct sb_dns_record *from = &answer->records[i];
        struct srv *s = &e->srv[e->nsrv];

        if (from->priority != lowest || !from->name[0] || sb_str_is(e->name, from->name))
            continue;
        *s = (struct srv){.waiter = {.ready = on_srv_resolved}, .of = e, .port = from->port};
        s->weight = from->weight ? from->weight : 1;
        s->name[0] = ADDRESSES_ONLY;
        memcpy(s->name + 1, from->name, sizeof from->name);
        e->nsrv++;
        take_extra(e->r, answer, s->name);
    }
    e->srv_expires_ms = now_ms(e->r) + ttl_ms(e->r, answer->ttl);
    if (e->nsrv)
        collect_srv(e);
    else
        next_type(e);
}

static size_t add_srv(struct sb_resolved_record *list, size_t n, const struct srv *s,
                      const struct sb_resolved_record *from, size_t nfrom)
{
    for (size_t i = 0; i < nfrom && n < SB_DNS_RECORDS_MAX; i++)
        list[n++] = (struct sb_resolved_record){.addr = from[i].addr,
                                                .srv = sb_str_c(s->name + 1),
                                                .alone = nfrom == 1,
                                                .port = s->port,
                                                .weight = s->weight};
    return n;
}

/* Once all names of an SRV answer have answered: the entry's records. */
static void collect_srv(struct entry *e)
{
    struct sb_resolved_record list[SB_DNS_RECORDS_MAX], one = {0};
    struct sb_resolved found;
    bool waiting = false;
    size_t n = 0;

    for (size_t i = 0; i < e->nsrv; i++) {
        struct srv *s = &e->srv[i];
        enum sb_rc rc = SB_OK;

        if (sb_address_parse(sb_str_c(s->name + 1), 0, &one.addr)) {
            n = add_srv(list, n, s, &one, 1);
            continue;
        }
        rc = sb_resolver_get(e->r, sb_str_c(s->name), &s->waiter, &found);
        waiting |= rc == SB_AGAIN;
        if (rc == SB_OK)
            n = add_srv(list, n, s, found.records, found.n);
    }
    if (waiting)
        return;
    e->last = SB_DNS_SRV;
    if (n == 0) {
        drop_srv(e);
        failed(e);
        return;
    }
    set_records(e, list, n, SB_DNS_SRV);
    drop_srv(e);
    answered(e, e->srv_expires_ms);
}

static void on_answer(void *arg, enum sb_rc rc, const struct sb_dns_answer *answer)
{
    struct entry *e = arg;

    if (rc == SB_OK && answer->n && e->asked == SB_DNS_SRV) {
        take_srv(e, answer);
        return;
    }
    if (rc == SB_OK && answer->n) {
        take_addresses(e, answer->records, answer->n, answer->ttl);
        return;
    }
    if (rc == SB_UNAVAILABLE && (e->asked != SB_DNS_SRV || !e->types[0]))
        e->saw_failure = true;
    if (rc == SB_NOTFOUND && e->asked == SB_DNS_A && e->types[0] == SB_DNS_AAAA)
        e->types[0] = 0; /* no such name, of whatever type */
    next_type(e);
}

/* -- questions -- */

static void next_type(struct entry *e)
{
    struct sb_str name = asked_name(e);

    e->asked = e->types[0];
    if (!e->asked) {
        failed(e);
        return;
    }
    memmove(e->types, e->types + 1, sizeof e->types - sizeof *e->types);
    sb_dns_ask(e->r->dns, name.p, e->asked, !addresses_only(e), on_answer, e);
}

static size_t add_type(enum sb_dns_type types[TYPES_MAX], size_t n, enum sb_dns_type type)
{
    for (size_t i = 0; i < n; i++)
        if (types[i] == type)
            return n;
    if (n < TYPES_MAX - 1 && type)
        types[n++] = type;
    return n;
}

/* _service._proto.name */
static bool is_service_name(struct sb_str name)
{
    ptrdiff_t dot = sb_str_chr(name, '.', 0);

    return name.len > 2 && name.p[0] == '_' && dot > 0 && (size_t)dot + 1 < name.len &&
           name.p[dot + 1] == '_';
}

/* Which types to ask for, in order; addresses always at the end. */
static void order_types(struct entry *e)
{
    const struct sb_resolver *r = e->r;
    bool service = is_service_name(e->name);
    size_t n = 0;

    memset(e->types, 0, sizeof e->types);
    for (size_t i = 0; i < r->norder; i++) {
        enum sb_dns_type type = r->order[i] == LAST ? e->last : r->order[i];

        if (type == SB_DNS_SRV && (addresses_only(e) || (r->srv_by_shape && !service)))
            continue;
        if (type != SB_DNS_SRV && r->srv_by_shape && service)
            continue;
        n = add_type(e->types, n, type);
    }
    if (!(r->srv_by_shape && service)) {
        n = add_type(e->types, n, SB_DNS_A);
        (void)add_type(e->types, n, SB_DNS_AAAA);
    }
}

static void query(struct entry *e)
{
    e->querying = true;
    e->saw_failure = false;
    order_types(e);
    next_type(e);
}

/* What needs no server: RFC 6761, and the hosts file's names behind SRV records. */
static void special_name(struct entry *e)
{
    struct sb_str name = asked_name(e);
    union sb_sockaddr loopback;

    if (sb_str_is(name, "localhost") || sb_str_ends(name, SB_STR(".localhost"))) {
        (void)sb_address_parse(SB_STR("127.0.0.1"), 0, &loopback);
        set_address(e, &loopback);
        e->fixed = true;
    } else if (sb_str_is(name, "invalid") || sb_str_ends(name, SB_STR(".invalid"))) {
        e->known = NOT_FOUND;
        e->fixed = true;
    } else if (addresses_only(e)) {
        const struct entry *plain = sb_map_get(&e->r->entries, name);

        if (plain && plain->fixed && plain->known == FOUND) {
            set_records(e, plain->list.records, plain->list.n, plain->list.type);
            e->fixed = true;
        }
    }
}

enum sb_rc sb_resolver_get(struct sb_resolver *r, struct sb_str name, struct sb_waiter *waiter,
                           struct sb_resolved *out)
{
    int64_t now = now_ms(r);
    struct entry *e;

    if (name.len == 0 || name.len > NAME_MAX_LEN + 1 || memchr(name.p, '\0', name.len))
        return SB_NOTFOUND;
    e = entry_of(r, name);
    if (e->known == UNKNOWN && !e->querying)
        special_name(e);
    if (!e->fixed && !e->querying && now >= e->expires_ms)
        query(e);
    if (e->known == FOUND && (e->fixed || now < e->stale_until_ms)) {
        *out = (struct sb_resolved){e->list.records, e->list.n,     e->list.type,
                                    &e->turn,        e->list.total, e->generation};
        return SB_OK;
    }
    if (e->querying) {
        if (!waiter)
            return SB_UNAVAILABLE;
        add_waiter(e, waiter);
        return SB_AGAIN;
    }
    return e->known == NOT_FOUND ? SB_NOTFOUND : SB_UNAVAILABLE;
}

/* -- starting -- */

/* One line of the hosts file: address, names. The first line of a name wins, IPv4 before IPv6. */
static void hosts_line(struct sb_resolver *r, struct sb_str line)
{
    ptrdiff_t hash = sb_str_chr(line, '#', 0);
    union sb_sockaddr addr;
    bool have = false;

    if (hash >= 0)
        line = sb_str_first(line, (size_t)hash);
    for (size_t i = 0, start; i < line.len;) {
        struct sb_str word;
        struct entry *e;

        while (i < line.len && (unsigned char)line.p[i] <= ' ')
            i++;
        start = i;
        while (i < line.len && (unsigned char)line.p[i] > ' ')
            i++;
        word = sb_str_n(line.p + start, i - start);
        if (word.len == 0 || word.len > NAME_MAX_LEN)
            return;
        if (!have) {
            if (!sb_address_parse(word, 0, &addr))
                return;
            have = true;
            continue;
        }
        e = entry_of(r, word);
        if (e->known == FOUND && (e->list.type == SB_DNS_A || addr.sa.sa_family == AF_INET6))
            continue;
        set_address(e, &addr);
        e->fixed = true;
    }
}

static void read_hosts(struct sb_resolver *r, const char *path)
{
    struct sb_buf file;
    struct sb_str rest, line;

    sb_buf_init(&file, HOSTS_FILE_MAX);
    if (sb_buf_read_file(&file, path)) {
        rest = sb_buf_get(&file);
        while (sb_str_split(&rest, '\n', &line))
            hosts_line(r, line);
    }
    sb_buf_release(&file);
}

/* CNAME is followed in any answer, so it is not asked for by itself. */
static void read_order(struct sb_resolver *r, const struct sb_str *names, size_t n)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {{"LAST", 0}, {"SRV", SB_DNS_SRV}, {"A", SB_DNS_A}, {"AAAA", SB_DNS_AAAA}};

    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            if (sb_str_ieq(names[i], sb_str_c(types[k].name)) && r->norder < TYPES_MAX - 1)
                r->order[r->norder++] = (enum sb_dns_type)types[k].type;
}

/* The names of the settings, of either of Kong's clients. */
struct names {
    const char *servers, *hosts, *order, *valid, *stale, *not_found, *error, *size;
};

static const struct names classic = {"dns_resolver",  "dns_hostsfile", "dns_order",
                                     "dns_valid_ttl", "dns_stale_ttl", "dns_not_found_ttl",
                                     "dns_error_ttl", "dns_cache_size"};
static const struct names newer = {
    "resolver_address",   "resolver_hosts_file", "resolver_family",    "resolver_valid_ttl",
    "resolver_stale_ttl", "resolver_error_ttl",  "resolver_error_ttl", "resolver_lru_cache_size"};

static int64_t ttl_setting(const struct sb_settings *s, const char *name, double def)
{
    return (int64_t)(sb_settings_num(s, name, def) * 1000);
}

struct sb_resolver *sb_resolver_new(struct event_base *base, const struct sb_settings *s,
                                    int64_t (*clock)(void *arg), void *arg)
{
    struct sb_resolver *r = sb_xcalloc(1, sizeof *r);
    const struct names *n = sb_settings_bool(s, "new_dns_client") ? &newer : &classic;
    const char *hosts = sb_settings_str(s, n->hosts);
    const struct sb_str *list;
    size_t len;

    r->now_ms = clock;
    r->arg = arg;
    r->max = (size_t)sb_settings_int(s, n->size, 10000);
    if (r->max < 16)
        r->max = 16;
    r->srv_by_shape = n == &newer;
    r->valid_ttl_ms = sb_settings_num(s, n->valid, -1) >= 0 ? ttl_setting(s, n->valid, 0) : -1;
    r->stale_ms = ttl_setting(s, n->stale, 3600);
    r->not_found_ms = ttl_setting(s, n->not_found, 30);
    r->error_ms = ttl_setting(s, n->error, 1);
    list = sb_settings_list(s, n->order, &len);
    read_order(r, list, len);
    list = sb_settings_list(s, n->servers, &len);
    r->dns = sb_dns_new(base, list, len);
    read_hosts(r, hosts ? hosts : "/etc/hosts");
    return r;
}

void sb_resolver_free(struct sb_resolver *r)
{
    struct entry *next;

    if (!r)
        return;
    sb_dns_free(r->dns);
    for (struct entry *e = r->newest; e; e = next) { /* an entry's waiters hang in other ones */
        next = e->older;
        drop_srv(e);
    }
    for (struct entry *e = r->newest; e; e = next) {
        next = e->older;
        free_entry(e);
    }
    sb_map_release(&r->entries);
    free(r);
}
