/* resolver.c - a cache of answers, and the order in which types are asked for.
 *
 *   get(name) -> entry: known and fresh, or stale and renewed behind the asker's back, or asked
 *
 *   asked:  SRV? -no-> A? -no-> AAAA? -no-> missing         (the order is the settings')
 *            |yes       |yes
 *            v          +--> records
 *        the names of the lowest priority: entries of their own that are asked for addresses only
 *        (so that an SRV record cannot lead to itself); when all have answered: records
 */
#include "dataplane/upstream/resolver.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dataplane/upstream/dns_client.h"
#include "dataplane/upstream/resolver_cache.h"
#include "shared/buf.h"
#include "shared/log.h"
#include "shared/settings.h"

enum { HOSTS_FILE_MAX = 4 << 20 };

/* In the order of types: the one that had an answer the last time. */
static const enum sb_dns_type LAST = (enum sb_dns_type)0;

/* In front of the name of an entry that is asked for addresses only. */
#define ADDRESSES_ONLY '\1'

struct sb_resolver {
    struct sb_dns *dns;
    int64_t (*now_ms)(void *arg);
    void *arg;
    struct sb_name_cache cache;
    enum sb_dns_type order[SB_NAME_TYPES_MAX]; /* LAST among them; ended by n */
    size_t norder;
    bool srv_by_shape;    /* SRV for _x._y.z only, and nothing else for it */
    int64_t valid_ttl_ms; /* -1: the record's */
    int64_t stale_ms, not_found_ms, error_ms;
};

static void next_type(struct sb_name *e);
static void collect_srv(struct sb_name *e);

static bool addresses_only(const struct sb_name *e)
{
    return e->text[0] == ADDRESSES_ONLY;
}

/* The name itself. */
static struct sb_str asked_name(const struct sb_name *e)
{
    return sb_str_from(e->name, addresses_only(e) ? 1 : 0);
}

static int64_t now_ms(const struct sb_resolver *r)
{
    return r->now_ms(r->arg);
}

/* -- answers -- */

static int64_t ttl_ms(const struct sb_resolver *r, uint32_t ttl)
{
    if (r->valid_ttl_ms >= 0)
        return r->valid_ttl_ms;
    return ttl < 1 ? 1000 : (int64_t)ttl * 1000;
}

static void answered(struct sb_name *e, int64_t expires_ms)
{
    e->querying = false;
    e->expires_ms = expires_ms;
    e->stale_until_ms = expires_ms + e->r->stale_ms;
    sb_name_wake(e);
}

/* No type had an answer. */
static void failed(struct sb_name *e)
{
    struct sb_resolver *r = e->r;
    int64_t now = now_ms(r);
    bool no_name = !e->saw_failure;

    e->querying = false;
    if (!no_name && e->known == SB_NAME_FOUND && now < e->stale_until_ms) {
        e->expires_ms = now + r->error_ms; /* the old answer is better than none */
    } else {
        sb_name_clear(e);
        e->known = no_name ? SB_NAME_MISSING : SB_NAME_FAILED;
        e->expires_ms = e->stale_until_ms = now + (no_name ? r->not_found_ms : r->error_ms);
    }
    if (!no_name)
        sb_warn("resolving %.*s: no answer from the name servers", SB_ARG(asked_name(e)));
    sb_name_wake(e);
}

static void take_addresses(struct sb_name *e, const struct sb_dns_record *records, size_t n,
                           uint32_t ttl)
{
    struct sb_resolved_record list[SB_DNS_RECORDS_MAX];

    for (size_t i = 0; i < n; i++)
        list[i] =
            (struct sb_resolved_record){.addr = records[i].addr, .weight = 1, .alone = n == 1};
    sb_name_set(e, list, n, e->asked);
    e->last = e->asked;
    answered(e, now_ms(e->r) + ttl_ms(e->r, ttl));
}

/* Addresses that came with an SRV answer save questions. */
static void take_extra(struct sb_resolver *r, const struct sb_dns_answer *answer, const char *key)
{
    struct sb_name *e = sb_name_of(&r->cache, r, sb_str_c(key));
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
    struct sb_name_srv *s =
        (struct sb_name_srv *)((char *)waiter - offsetof(struct sb_name_srv, waiter));

    collect_srv(s->of);
}

/* The records of the lowest priority; what points to the name itself leads nowhere. */
static void take_srv(struct sb_name *e, const struct sb_dns_answer *answer)
{
    unsigned lowest = UINT16_MAX;

    for (size_t i = 0; i < answer->n; i++)
        if (answer->records[i].priority < lowest)
            lowest = answer->records[i].priority;
    sb_name_drop_srv(e);
    e->srv = sb_xcalloc(answer->n, sizeof *e->srv);
    for (size_t i = 0; i < answer->n; i++) {
        const struct sb_dns_record *from = &answer->records[i];
        struct sb_name_srv *s = &e->srv[e->nsrv];

        if (from->priority != lowest || !from->name[0] || sb_str_is(e->name, from->name))
            continue;
        *s =
            (struct sb_name_srv){.waiter = {.ready = on_srv_resolved}, .of = e, .port = from->port};
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

static size_t add_srv(struct sb_resolved_record *list, size_t n, const struct sb_name_srv *s,
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
static void collect_srv(struct sb_name *e)
{
    struct sb_resolved_record list[SB_DNS_RECORDS_MAX], one = {0};
    struct sb_resolved found;
    bool waiting = false;
    size_t n = 0;

    for (size_t i = 0; i < e->nsrv; i++) {
        struct sb_name_srv *s = &e->srv[i];
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
        sb_name_drop_srv(e);
        failed(e);
        return;
    }
    sb_name_set(e, list, n, SB_DNS_SRV);
    sb_name_drop_srv(e);
    answered(e, e->srv_expires_ms);
}

static void on_answer(void *arg, enum sb_rc rc, const struct sb_dns_answer *answer)
{
    struct sb_name *e = arg;

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

static void next_type(struct sb_name *e)
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

static size_t add_type(enum sb_dns_type types[SB_NAME_TYPES_MAX], size_t n, enum sb_dns_type type)
{
    for (size_t i = 0; i < n; i++)
        if (types[i] == type)
            return n;
    if (n < SB_NAME_TYPES_MAX - 1 && type)
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
static void order_types(struct sb_name *e)
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

static void query(struct sb_name *e)
{
    e->querying = true;
    e->saw_failure = false;
    order_types(e);
    next_type(e);
}

/* What needs no server: RFC 6761, and the hosts file's names behind SRV records. */
static void special_name(struct sb_name *e)
{
    struct sb_str name = asked_name(e);
    union sb_sockaddr loopback;

    if (sb_str_is(name, "localhost") || sb_str_ends(name, SB_STR(".localhost"))) {
        (void)sb_address_parse(SB_STR("127.0.0.1"), 0, &loopback);
        sb_name_set_address(e, &loopback);
        e->fixed = true;
    } else if (sb_str_is(name, "invalid") || sb_str_ends(name, SB_STR(".invalid"))) {
        e->known = SB_NAME_MISSING;
        e->fixed = true;
    } else if (addresses_only(e)) {
        const struct sb_name *plain = sb_map_get(&e->r->cache.names, name);

        if (plain && plain->fixed && plain->known == SB_NAME_FOUND) {
            sb_name_set(e, plain->list.records, plain->list.n, plain->list.type);
            e->fixed = true;
        }
    }
}

enum sb_rc sb_resolver_get(struct sb_resolver *r, struct sb_str name, struct sb_waiter *waiter,
                           struct sb_resolved *out)
{
    int64_t now = now_ms(r);
    struct sb_name *e;

    if (name.len == 0 || name.len > SB_NAME_LEN_MAX + 1 || memchr(name.p, '\0', name.len))
        return SB_NOTFOUND;
    e = sb_name_of(&r->cache, r, name);
    if (e->known == SB_NAME_UNKNOWN && !e->querying)
        special_name(e);
    if (!e->fixed && !e->querying && now >= e->expires_ms)
        query(e);
    if (e->known == SB_NAME_FOUND && (e->fixed || now < e->stale_until_ms)) {
        *out = (struct sb_resolved){e->list.records, e->list.n,     e->list.type,
                                    &e->turn,        e->list.total, e->generation};
        return SB_OK;
    }
    if (e->querying) {
        if (!waiter)
            return SB_UNAVAILABLE;
        sb_name_wait(e, waiter);
        return SB_AGAIN;
    }
    return e->known == SB_NAME_MISSING ? SB_NOTFOUND : SB_UNAVAILABLE;
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
        struct sb_name *e;

        while (i < line.len && (unsigned char)line.p[i] <= ' ')
            i++;
        start = i;
        while (i < line.len && (unsigned char)line.p[i] > ' ')
            i++;
        word = sb_str_n(line.p + start, i - start);
        if (word.len == 0 || word.len > SB_NAME_LEN_MAX)
            return;
        if (!have) {
            if (!sb_address_parse(word, 0, &addr))
                return;
            have = true;
            continue;
        }
        e = sb_name_of(&r->cache, r, word);
        if (e->known == SB_NAME_FOUND &&
            (e->list.type == SB_DNS_A || addr.sa.sa_family == AF_INET6))
            continue;
        sb_name_set_address(e, &addr);
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
            if (sb_str_ieq(names[i], sb_str_c(types[k].name)) && r->norder < SB_NAME_TYPES_MAX - 1)
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
    r->cache.max = (size_t)sb_settings_int(s, n->size, 10000);
    if (r->cache.max < 16)
        r->cache.max = 16;
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
    if (!r)
        return;
    sb_dns_free(r->dns);
    sb_name_cache_release(&r->cache);
    free(r);
}
