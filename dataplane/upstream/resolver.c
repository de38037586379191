#include "dataplane/upstream/resolver.h"

#include <arpa/inet.h>
#include <event2/dns.h>
#include <stdlib.h>

#include "dataplane/listen/worker.h"
#include "shared/buf.h"
#include "shared/log.h"
#include "shared/map.h"

enum { ADDRS_MAX = 64, HOSTS_FILE_MAX = 4 << 20, NAME_MAX_LEN = 253 };

enum known { UNKNOWN, FOUND, NOT_FOUND, FAILED };

struct entry {
    struct entry *newer, *older; /* by use */
    struct sb_resolver *r;
    struct sb_str name; /* behind the struct */
    enum known known;
    bool querying, fixed; /* fixed: from the hosts file */
    int64_t expires_ms, stale_until_ms;
    uint64_t generation;
    unsigned turn;
    size_t n;
    union sb_sockaddr *addrs;
    struct sb_waiter *waiters;
    struct evdns_request *request;
    char text[];
};

struct sb_resolver {
    struct sb_worker *w;
    struct evdns_base *dns;
    struct sb_map entries;
    struct entry *newest, *oldest;
    size_t count, max;
    uint64_t generation;
    int64_t valid_ttl_ms; /* -1: the record's */
    int64_t stale_ms, not_found_ms, error_ms;
};

bool sb_address_parse(struct sb_str text, uint16_t port, union sb_sockaddr *out)
{
    char addr[INET6_ADDRSTRLEN + 1];

    if (text.len > 2 && text.p[0] == '[' && text.p[text.len - 1] == ']')
        text = sb_str_n(text.p + 1, text.len - 2);
    if (text.len == 0 || text.len >= sizeof addr)
        return false;
    memcpy(addr, text.p, text.len);
    addr[text.len] = '\0';
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, addr, &out->in.sin_addr) == 1) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        return true;
    }
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(port);
    return inet_pton(AF_INET6, addr, &out->in6.sin6_addr) == 1;
}

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

static void free_entry(struct entry *e)
{
    if (e->request)
        evdns_cancel_request(e->r->dns, e->request);
    free(e->addrs);
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
    char lower[NAME_MAX_LEN];
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

static void set_addresses(struct entry *e, const union sb_sockaddr *addrs, size_t n)
{
    size_t len = n * sizeof *addrs;

    e->known = FOUND;
    if (e->n == n && memcmp(e->addrs, addrs, len) == 0)
        return;
    e->addrs = sb_xrealloc(e->addrs, len);
    memcpy(e->addrs, addrs, len);
    e->n = n;
    e->generation = ++e->r->generation;
}

/* -- DNS -- */

static void on_aaaa(int result, char type, int count, int ttl, void *addresses, void *arg);

static int64_t ttl_ms(const struct sb_resolver *r, int ttl)
{
    if (r->valid_ttl_ms >= 0)
        return r->valid_ttl_ms;
    return ttl < 1 ? 1000 : (int64_t)ttl * 1000; /* 0 would mean a query a request */
}

static void failed(struct entry *e, int result)
{
    struct sb_resolver *r = e->r;
    int64_t now = sb_now_ms(r->w);
    bool no_name = result == DNS_ERR_NOTEXIST || result == DNS_ERR_NODATA || result == DNS_ERR_NONE;

    if (!no_name && e->known == FOUND && now < e->stale_until_ms) {
        e->expires_ms = now + r->error_ms; /* the old answer is better than none */
        return;
    }
    if (e->n)
        e->generation = ++r->generation;
    e->n = 0;
    e->known = no_name ? NOT_FOUND : FAILED;
    e->expires_ms = e->stale_until_ms = now + (no_name ? r->not_found_ms : r->error_ms);
    if (!no_name)
        sb_warn("resolving %.*s: %s", SB_ARG(e->name), evdns_err_to_string(result));
}

static void answered(struct entry *e, int result, const union sb_sockaddr *addrs, size_t n, int ttl)
{
    e->querying = false;
    if (n) {
        set_addresses(e, addrs, n);
        e->expires_ms = sb_now_ms(e->r->w) + ttl_ms(e->r, ttl);
        e->stale_until_ms = e->expires_ms + e->r->stale_ms;
    } else {
        failed(e, result);
    }
    wake_waiters(e);
}

static void ask_aaaa(struct entry *e, int after)
{
    e->request = evdns_base_resolve_ipv6(e->r->dns, e->name.p, 0, on_aaaa, e);
    if (!e->request)
        answered(e, after, NULL, 0, 0);
}

static void on_a(int result, char type, int count, int ttl, void *addresses, void *arg)
{
    struct entry *e = arg;
    union sb_sockaddr addrs[ADDRS_MAX] = {0};
    const struct in_addr *in = addresses;
    size_t n = 0;

    e->request = NULL;
    if (result == DNS_ERR_CANCEL || result == DNS_ERR_SHUTDOWN)
        return;
    for (int i = 0; result == DNS_ERR_NONE && type == DNS_IPv4_A && i < count && n < ADDRS_MAX;
         i++) {
        addrs[n].in.sin_family = AF_INET;
        addrs[n++].in.sin_addr = in[i];
    }
    if (n == 0 && (result == DNS_ERR_NONE || result == DNS_ERR_NODATA))
        ask_aaaa(e, result);
    else
        answered(e, result, addrs, n, ttl);
}

static void on_aaaa(int result, char type, int count, int ttl, void *addresses, void *arg)
{
    struct entry *e = arg;
    union sb_sockaddr addrs[ADDRS_MAX] = {0};
    const struct in6_addr *in6 = addresses;
    size_t n = 0;

    e->request = NULL;
    if (result == DNS_ERR_CANCEL || result == DNS_ERR_SHUTDOWN)
        return;
    for (int i = 0; result == DNS_ERR_NONE && type == DNS_IPv6_AAAA && i < count && n < ADDRS_MAX;
         i++) {
        addrs[n].in6.sin6_family = AF_INET6;
        addrs[n++].in6.sin6_addr = in6[i];
    }
    answered(e, result, addrs, n, ttl);
}

/* The name as asked: a trailing dot says that no search domain applies. */
static void query(struct entry *e)
{
    bool absolute = e->name.len && e->name.p[e->name.len - 1] == '.';

    e->querying = true;
    e->request =
        evdns_base_resolve_ipv4(e->r->dns, e->name.p, absolute ? DNS_QUERY_NO_SEARCH : 0, on_a, e);
    if (e->request)
        return;
    e->querying = false;
    failed(e, DNS_ERR_SERVERFAILED);
}

/* RFC 6761: what needs no server. */
static void special_name(struct entry *e)
{
    union sb_sockaddr loopback;

    if (sb_str_is(e->name, "localhost") || sb_str_ends(e->name, SB_STR(".localhost"))) {
        (void)sb_address_parse(SB_STR("127.0.0.1"), 0, &loopback);
        set_addresses(e, &loopback, 1);
        e->fixed = true;
    } else if (sb_str_is(e->name, "invalid") || sb_str_ends(e->name, SB_STR(".invalid"))) {
        e->known = NOT_FOUND;
        e->fixed = true;
    }
}

enum sb_rc sb_resolver_get(struct sb_resolver *r, struct sb_str name, struct sb_waiter *waiter,
                           struct sb_resolved *out)
{
    int64_t now = sb_now_ms(r->w);
    struct entry *e;

    if (name.len == 0 || name.len > NAME_MAX_LEN || memchr(name.p, '\0', name.len))
        return SB_NOTFOUND;
    e = entry_of(r, name);
    if (e->known == UNKNOWN && !e->querying)
        special_name(e);
    if (!e->fixed && !e->querying && now >= e->expires_ms)
        query(e);
    if (e->known == FOUND && (e->fixed || now < e->stale_until_ms)) {
        *out = (struct sb_resolved){e->addrs, e->n, &e->turn, e->generation};
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
        if (e->known == FOUND &&
            (e->addrs[0].sa.sa_family == AF_INET || addr.sa.sa_family == AF_INET6))
            continue;
        set_addresses(e, &addr, 1);
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

static void add_servers(struct sb_resolver *r, const struct sb_settings *s)
{
    size_t n;
    const struct sb_str *servers = sb_settings_list(s, "dns_resolver", &n);

    r->dns = evdns_base_new(r->w->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    sb_assert(r->dns);
    (void)evdns_base_resolv_conf_parse(r->dns,
                                       n ? DNS_OPTION_SEARCH | DNS_OPTION_MISC
                                         : DNS_OPTION_SEARCH | DNS_OPTION_MISC |
                                               DNS_OPTION_NAMESERVERS,
                                       "/etc/resolv.conf");
    for (size_t i = 0; i < n; i++) {
        char text[128];

        if (servers[i].len < sizeof text) {
            memcpy(text, servers[i].p, servers[i].len);
            text[servers[i].len] = '\0';
            if (evdns_base_nameserver_ip_add(r->dns, text))
                sb_warn("dns_resolver: cannot use %s", text);
        }
    }
    (void)evdns_base_set_option(r->dns, "randomize-case:", "0"); /* some servers don't keep it */
}

struct sb_resolver *sb_resolver_new(struct sb_worker *w)
{
    const struct sb_settings *s = w->o->settings;
    struct sb_resolver *r = sb_xcalloc(1, sizeof *r);
    const char *hosts = sb_settings_str(s, "dns_hostsfile");

    r->w = w;
    r->max = (size_t)sb_settings_int(s, "dns_cache_size", 10000);
    r->valid_ttl_ms = -1;
    if (sb_settings_num(s, "dns_valid_ttl", -1) >= 0)
        r->valid_ttl_ms = (int64_t)(sb_settings_num(s, "dns_valid_ttl", 0) * 1000);
    r->stale_ms = (int64_t)(sb_settings_num(s, "dns_stale_ttl", 3600) * 1000);
    r->not_found_ms = (int64_t)(sb_settings_num(s, "dns_not_found_ttl", 30) * 1000);
    r->error_ms = (int64_t)(sb_settings_num(s, "dns_error_ttl", 1) * 1000);
    if (r->max < 16)
        r->max = 16;
    add_servers(r, s);
    read_hosts(r, hosts ? hosts : "/etc/hosts");
    return r;
}

void sb_resolver_free(struct sb_resolver *r)
{
    struct entry *next;

    if (!r)
        return;
    for (struct entry *e = r->newest; e; e = next) {
        next = e->older;
        free_entry(e);
    }
    evdns_base_free(r->dns, 0);
    sb_map_release(&r->entries);
    free(r);
}
