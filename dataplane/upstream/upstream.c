/* upstream.c - picking a target's address, and pools of connections.
 *
 * A pool exists while it has connections. Its key is everything that a connection's making depended
 * on: address and port, and for TLS the name sent, what was verified how, and who we said we were.
 */
#include "dataplane/upstream/upstream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/http/downstream.h"
#include "dataplane/upstream/balancer.h"
#include "dataplane/upstream/balancer_hash.h"
#include "dataplane/upstream/h2_upstream.h"
#include "dataplane/upstream/tls_client.h"
#include "shared/log.h"
#include "shared/map.h"

enum { UPCONN_KEEP_MAX = 1024 };

struct sb_pool {
    struct sb_str key; /* behind the struct */
    struct sb_upstreams *ups;
    struct sb_upconn *newest, *oldest; /* idle ones */
    size_t idle, total;
    char text[];
};

struct sb_upstreams {
    struct sb_worker *w;
    struct sb_map pools;
    struct sb_balancer *balancer;
    struct sb_tls_clients *tls;
    struct sb_h2_pools *h2;
};

struct sb_upstreams *sb_upstreams_new(struct sb_worker *w)
{
    struct sb_upstreams *ups = sb_xcalloc(1, sizeof *ups);

    ups->w = w;
    ups->balancer = sb_balancer_new(w);
    ups->tls = sb_tls_clients_new(w->o->settings);
    ups->h2 = sb_h2_pools_new(w);
    return ups;
}

struct sb_h2_pools *sb_upstreams_h2(struct sb_upstreams *ups)
{
    return ups->h2;
}

/* -- picking -- */

bool sb_upstream_is_tls(const struct sb_service *s)
{
    return s->protocol == SB_PROTO_HTTPS || s->protocol == SB_PROTO_GRPCS;
}

static void on_resolved(struct sb_waiter *waiter)
{
    struct sb_pick *pick = (struct sb_pick *)((char *)waiter - offsetof(struct sb_pick, waiter));
    struct sb_exchange *x =
        (struct sb_exchange *)((char *)pick - offsetof(struct sb_exchange, pick));

    sb_down_wake(x);
}

static enum sb_rc pick_name(struct sb_exchange *x, struct sb_resolver *r)
{
    const struct sb_resolved_record *record;
    struct sb_resolved found;
    enum sb_rc rc = sb_resolver_get(r, x->service->host, &x->pick.waiter, &found);

    if (rc == SB_NOTFOUND)
        return SB_INVALID;
    if (rc)
        return rc;
    record = sb_resolved_turn(&found);
    x->pick.addr = record->addr;
    if (record->port) /* an SRV record knows better */
        x->pick.port = record->port;
    sb_address_set_port(&x->pick.addr, x->pick.port);
    return SB_OK;
}

static uint32_t hash_of(void *request, const struct sb_hash_inputs *inputs)
{
    return sb_hash_of(request, inputs);
}

enum sb_rc sb_upstream_pick(struct sb_exchange *x)
{
    struct sb_upstreams *ups = x->w->upstreams;
    const struct sb_service *s = x->service;
    struct sb_pick *p = &x->pick;

    p->waiter.ready = on_resolved;
    if (x->upstream)
        return sb_balancer_pick(ups->balancer, x->upstream, p, hash_of, x);
    p->name = s->host;
    p->port = s->port;
    p->is_ip = sb_address_parse(s->host, s->port, &p->addr);
    return p->is_ip ? SB_OK : pick_name(x, x->w->resolver);
}

void sb_upstream_done(struct sb_exchange *x)
{
    if (x->pick.address)
        sb_balancer_done(&x->pick);
}

void sb_upstream_report(struct sb_exchange *x, enum sb_try_end end)
{
    sb_balancer_report(&x->pick, end);
}

/* A 504 is a timeout, whoever said it. */
void sb_upstream_report_status(struct sb_exchange *x, int status)
{
    if (status == 504)
        sb_balancer_report(&x->pick, SB_TRY_TIMEOUT);
    else
        sb_balancer_report_status(&x->pick, status);
}

/* -- Host -- */

static size_t put(char *out, size_t at, struct sb_str s)
{
    if (at + s.len > SB_UPSTREAM_HOST_MAX)
        return SB_UPSTREAM_HOST_MAX + 1;
    memcpy(out + at, s.p, s.len);
    return at + s.len;
}

/* The name that Host and SNI speak of, without port. */
static struct sb_str host_name(const struct sb_exchange *x, bool *is_ip)
{
    const struct sb_upstream *up = x->upstream;

    *is_ip = x->pick.is_ip;
    if (up && up->host_header.len) {
        union sb_sockaddr addr;

        *is_ip = sb_address_parse(up->host_header, 0, &addr);
        return up->host_header;
    }
    return x->pick.name;
}

size_t sb_upstream_host(const struct sb_exchange *x, char out[SB_UPSTREAM_HOST_MAX])
{
    bool is_ip, bare6;
    struct sb_str name;
    size_t len = 0;

    if (x->up.host.len) /* a plugin's */
        len = put(out, 0, x->up.host);
    else if (x->route->preserve_host && x->req.host.len)
        len = put(out, 0, x->req.host);
    if (len)
        return len > SB_UPSTREAM_HOST_MAX ? 0 : len;
    name = host_name(x, &is_ip);
    bare6 = is_ip && name.p[0] != '[' && memchr(name.p, ':', name.len);
    if (bare6)
        len = put(out, len, SB_STR("["));
    len = put(out, len, name);
    if (bare6)
        len = put(out, len, SB_STR("]"));
    if (x->pick.port != (sb_upstream_is_tls(x->service) ? 443 : 80)) {
        char port[sizeof ":65535" - 1];
        size_t at = sizeof port;

        for (unsigned n = x->pick.port; n || at == sizeof port; n /= 10)
            port[--at] = (char)('0' + n % 10);
        port[--at] = ':';
        len = put(out, len, sb_str_n(port + at, sizeof port - at));
    }
    return len > SB_UPSTREAM_HOST_MAX ? 0 : len;
}

struct sb_str sb_upstream_sni(const struct sb_exchange *x)
{
    struct sb_str name;
    bool is_ip;

    if (x->up.host.len)
        return sb_http_host_valid(x->up.host, &name) ? name : SB_STR("");
    if (x->route->preserve_host && x->req.host.len)
        return sb_http_host_valid(x->req.host, &name) ? name : SB_STR("");
    return host_name(x, &is_ip);
}

/* -- pools -- */

static void key_add(struct sb_upstream_key *k, const void *p, size_t len)
{
    if (len > sizeof k->text - k->len) {
        k->full = true;
        return;
    }
    memcpy(k->text + k->len, p, len);
    k->len += len;
}

static void key_str(struct sb_upstream_key *k, struct sb_str s)
{
    uint16_t len = (uint16_t)s.len;

    key_add(k, &len, sizeof len);
    key_add(k, s.p, s.len);
}

bool sb_upstream_key(const struct sb_exchange *x, struct sb_upstream_key *k)
{
    const union sb_sockaddr *a = &x->pick.addr;
    char protocol = (char)x->service->protocol;

    k->tls = NULL;
    k->len = 0;
    k->full = false;
    if (sb_upstream_is_tls(x->service)) {
        k->tls = sb_tls_client_for(x->w->upstreams->tls, x->service, x->upstream);
        if (!k->tls)
            return false;
    }
    key_add(k, &protocol, 1);
    if (a->sa.sa_family == AF_INET) {
        key_add(k, &a->in.sin_port, sizeof a->in.sin_port);
        key_add(k, &a->in.sin_addr, sizeof a->in.sin_addr);
    } else {
        key_add(k, &a->in6.sin6_port, sizeof a->in6.sin6_port);
        key_add(k, &a->in6.sin6_addr, sizeof a->in6.sin6_addr);
    }
    if (k->tls) {
        key_str(k, sb_upstream_sni(x));
        key_str(k, sb_tls_client_key(k->tls));
    }
    return !k->full;
}

static struct sb_pool *pool_for(struct sb_upstreams *ups, const struct sb_upstream_key *k)
{
    struct sb_str key = sb_str_n(k->text, k->len);
    struct sb_pool *p = sb_map_get(&ups->pools, key);

    if (p)
        return p;
    p = sb_xcalloc(1, sizeof *p + k->len);
    p->ups = ups;
    memcpy(p->text, k->text, k->len);
    p->key = sb_str_n(p->text, k->len);
    sb_map_set(&ups->pools, p->key, p);
    return p;
}

static void unlink_idle(struct sb_upconn *u)
{
    struct sb_pool *p = u->pool;

    *u->link = u->next;
    if (u->next)
        u->next->link = u->link;
    if (p->oldest == u)
        p->oldest = u->link == &p->newest
                        ? NULL
                        : (struct sb_upconn *)((char *)u->link - offsetof(struct sb_upconn, next));
    u->next = NULL;
    u->link = NULL;
    p->idle--;
}

static void close_connection(struct sb_upconn *u)
{
    struct sb_pool *p = u->pool;
    struct sb_worker *w = u->w;

    if (u->link)
        unlink_idle(u);
    sb_timer_remove(&u->timer, &w->wheel);
    sb_io_close(&u->io);
    sb_pool_give(&w->upconns, u, UPCONN_KEEP_MAX);
    if (--p->total)
        return;
    sb_map_remove(&p->ups->pools, p->key);
    free(p);
}

static struct sb_upconn *upconn_of(struct sb_timer *t)
{
    return (struct sb_upconn *)((char *)t - offsetof(struct sb_upconn, timer));
}

static void on_idle_timer(struct sb_timer *t)
{
    struct sb_upconn *u = upconn_of(t);

    if (!u->x)
        close_connection(u);
}

/* An idle connection has nothing to say but what TLS says for itself (session tickets). */
static bool still_good(struct sb_upconn *u)
{
    char byte;
    size_t n;

    if (u->io.hup || u->io.failed)
        return false;
    if (!u->io.readable)
        return true;
    return u->io.ssl && sb_io_read(&u->io, &byte, 1, &n) == SB_AGAIN;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct sb_upconn *u = arg;

    (void)fd;
    sb_io_note(&u->io, what);
    if (u->x)
        sb_down_wake(u->x);
    else if (!still_good(u))
        close_connection(u);
}

int sb_upstream_dial(const union sb_sockaddr *a)
{
    socklen_t len = a->sa.sa_family == AF_INET ? sizeof a->in : sizeof a->in6;
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, &a->sa, len) && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static struct sb_upconn *connect_new(struct sb_exchange *x, struct sb_pool *p,
                                     struct sb_tls_client *tls)
{
    int fd = sb_upstream_dial(&x->pick.addr);
    struct sb_upconn *u;

    if (fd < 0)
        return NULL;
    u = sb_pool_take(&x->w->upconns, sizeof *u);
    *u = (struct sb_upconn){.w = x->w, .pool = p, .connecting = true, .handshaking = tls != NULL};
    if (sb_io_open(&u->io, x->w, fd, on_event, u)) {
        sb_pool_give(&x->w->upconns, u, UPCONN_KEEP_MAX);
        return NULL;
    }
    u->io.writable = false;
    sb_timer_init(&u->timer, on_idle_timer);
    p->total++;
    if (tls)
        sb_io_set_ssl(&u->io, sb_tls_client_session(tls, sb_upstream_sni(x), &x->pick.addr));
    sb_count(&x->w->stats.upstream_connects, 1);
    return u;
}

struct sb_upconn *sb_upstream_take(struct sb_exchange *x)
{
    struct sb_upstreams *ups = x->w->upstreams;
    struct sb_upconn *u;
    struct sb_pool *p;
    struct sb_upstream_key k;

    if (!sb_upstream_key(x, &k))
        return NULL;
    p = pool_for(ups, &k);
    while ((u = p->newest) && !still_good(u)) {
        if (p->total == 1) { /* the pool goes with it */
            close_connection(u);
            p = pool_for(ups, &k);
            continue;
        }
        close_connection(u);
    }
    if (u) {
        unlink_idle(u);
        sb_timer_off(&u->timer);
        u->reused = true;
        sb_count(&x->w->stats.upstream_reuses, 1);
    } else {
        u = connect_new(x, p, k.tls);
    }
    if (u)
        u->x = x;
    else if (p->total == 0) {
        sb_map_remove(&ups->pools, p->key);
        free(p);
    }
    return u;
}

enum sb_rc sb_upstream_connect(struct sb_upconn *u)
{
    int e = 0;
    socklen_t len = sizeof e;
    const char *why;
    enum sb_rc rc;

    if (u->io.hup || u->io.failed)
        return SB_IO;
    if (!u->io.writable)
        return SB_AGAIN;
    if (u->connecting && !u->io.ssl) {
        if (getsockopt(u->io.fd, SOL_SOCKET, SO_ERROR, &e, &len) || e)
            return SB_IO;
        u->connecting = false;
        return SB_OK;
    }
    rc = sb_io_handshake(&u->io);
    if (rc == SB_OK)
        u->connecting = u->handshaking = false;
    else if (rc != SB_AGAIN && (why = sb_tls_client_trouble(u->io.ssl)))
        sb_error("TLS to %.*s: the certificate is refused: %s", SB_ARG(u->x->pick.name), why);
    return rc;
}

void sb_upstream_give(struct sb_upconn *u, bool reusable)
{
    struct sb_pool *p = u->pool;
    const struct sb_proxy_options *o = u->w->o;

    u->x = NULL;
    if (!reusable || !still_good(u) || sb_io_pending(&u->io) || o->pool_size == 0 ||
        (o->pool_requests && u->requests >= o->pool_requests)) {
        close_connection(u);
        return;
    }
    u->link = &p->newest;
    u->next = p->newest;
    if (u->next)
        u->next->link = &u->next;
    else
        p->oldest = u;
    p->newest = u;
    p->idle++;
    if (o->pool_idle_ms)
        sb_timer_set(&u->w->wheel, &u->timer, sb_now_ms(u->w) + o->pool_idle_ms);
    if (p->idle > o->pool_size)
        close_connection(p->oldest);
}

void sb_upstreams_free(struct sb_upstreams *ups)
{
    struct sb_map_slot *slot;

    if (!ups)
        return;
    for (bool any = true; any;) { /* closing the last connection of a pool changes the map */
        any = false;
        sb_map_each (slot, &ups->pools) {
            struct sb_pool *p = slot->value;

            if (!p->newest)
                continue;
            close_connection(p->newest);
            any = true;
            break;
        }
    }
    sb_map_release(&ups->pools);
    sb_h2_pools_free(ups->h2);
    sb_balancer_free(ups->balancer);
    sb_tls_clients_free(ups->tls);
    free(ups);
}
