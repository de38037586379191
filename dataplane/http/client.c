#include "dataplane/http/client.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>

#include "dataplane/http/exchange.h"
#include "dataplane/http/h2_session.h"
#include "dataplane/listen/proxy_protocol.h"
#include "dataplane/listen/tls.h"

enum { POOL_KEEP_MAX = 1024, HALF_OPEN_MAX = 2048 };

static struct sb_client *client_of(struct sb_timer *t)
{
    return (struct sb_client *)((char *)t - offsetof(struct sb_client, timer));
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct sb_client *c = arg;

    (void)fd;
    sb_io_note(&c->io, what);
    sb_client_run(c);
}

/* No request, no handshake in time: closed without a word, as nginx does. */
static void on_timer(struct sb_timer *t)
{
    struct sb_client *c = client_of(t);

    if (c->x)
        c->x->timed_out = true;
    else if (c->h2)
        sb_h2_on_timer(c->h2);
    else
        c->close = true;
    sb_client_run(c);
}

void sb_client_set_waiting(struct sb_client *c, bool waiting)
{
    if (c->waiting == waiting)
        return;
    c->waiting = waiting;
    sb_count(&c->w->stats.connections_waiting, waiting ? 1 : (uint64_t)-1);
}

/* IPv4 as text, also where it came over an IPv6 socket. The port is returned. */
static uint16_t address_text(const struct sockaddr *sa, char out[INET6_ADDRSTRLEN])
{
    const struct sockaddr_in6 *in6 = (const void *)sa;
    const struct sockaddr_in *in = (const void *)sa;

    if (sa->sa_family == AF_INET) {
        inet_ntop(AF_INET, &in->sin_addr, out, INET6_ADDRSTRLEN);
        return ntohs(in->sin_port);
    }
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
        inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, &in6->sin6_addr, out, INET6_ADDRSTRLEN);
    return ntohs(in6->sin6_port);
}

uint16_t sb_client_local(const struct sb_client *c, char out[INET6_ADDRSTRLEN])
{
    struct sockaddr_storage local;
    socklen_t len = sizeof local;

    out[0] = '\0';
    if (getsockname(c->io.fd, (struct sockaddr *)&local, &len))
        return 0;
    return address_text((struct sockaddr *)&local, out);
}

static void note_address(struct sb_client *c, const struct sockaddr *peer)
{
    c->port = address_text(peer, c->ip);
    if (c->w->o->wants_local_ip)
        (void)sb_client_local(c, c->local_ip);
    c->ip_len = (uint8_t)strlen(c->ip);
    c->trusted = c->w->o->ntrusted && sb_cidr_has(c->w->o->trusted, c->w->o->ntrusted, peer);
    c->relays = c->w->o->nreal && sb_cidr_has(c->w->o->trusted, c->w->o->nreal, peer);
}

void sb_client_open(struct sb_worker *w, const struct sb_listener *listener, int fd,
                    const struct sockaddr *peer)
{
    static atomic_uint_fast64_t serial;
    struct sb_client *c = sb_pool_take(&w->clients, sizeof *c);

    sb_count(&w->stats.connections_accepted, 1);
    *c = (struct sb_client){.w = w, .listener = listener, .state = SB_CLIENT_OPEN};
    c->serial = atomic_fetch_add_explicit(&serial, 1, memory_order_relaxed) + 1;
    if (sb_io_open(&c->io, w, fd, on_event, c)) {
        sb_pool_give(&w->clients, c, POOL_KEEP_MAX);
        return;
    }
    sb_count(&w->stats.connections_handled, 1);
    sb_count(&w->stats.connections_active, 1);
    note_address(c, peer);
    sb_timer_init(&c->timer, on_timer);
    c->link = &w->first_client;
    c->next = w->first_client;
    if (c->next)
        c->next->link = &c->next;
    w->first_client = c;
    w->nclients++;
    if (listener->listen->proxy_protocol)
        c->state = SB_CLIENT_PROXY_HEADER;
    else if (listener->listen->ssl)
        c->state = SB_CLIENT_HANDSHAKE;
    sb_client_set_waiting(c, true);
    sb_timer_set(&w->wheel, &c->timer, sb_now_ms(w) + w->o->header_timeout_ms);
}

static void handshake_ends(struct sb_client *c)
{
    struct sb_worker *w = c->w;

    *c->half_open.link = c->half_open.next;
    if (c->half_open.next)
        c->half_open.next->half_open.link = c->half_open.link;
    else
        w->half_open.last = c->half_open.link;
    w->half_open.count--;
    c->sni = (struct sb_str){0};
}

static void free_client(struct sb_client *c)
{
    struct sb_worker *w = c->w;

    if (c->h2)
        sb_h2_free(c->h2);
    sb_client_set_waiting(c, false);
    sb_timer_remove(&c->timer, &w->wheel);
    if (c->state == SB_CLIENT_HANDSHAKE && c->io.ssl)
        handshake_ends(c);
    sb_io_close(&c->io);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    w->nclients--;
    sb_count(&w->stats.connections_active, (uint64_t)-1);
    sb_pool_give(&w->clients, c, POOL_KEEP_MAX);
    sb_worker_client_gone(w);
}

/* The PROXY header, looked at without taking more than it. False: closed or not yet. */
static bool proxy_header(struct sb_client *c)
{
    char buf[SB_PROXY_HEADER_MAX];
    ssize_t n = recv(c->io.fd, buf, sizeof buf, MSG_PEEK);
    struct sb_proxy_header h;
    int used;

    if (n <= 0) {
        c->close = n == 0 || errno != EAGAIN;
        return false;
    }
    used = sb_proxy_header_parse(sb_str_n(buf, (size_t)n), &h);
    if (used < 0 || (used == 0 && (c->io.hup || (size_t)n == sizeof buf))) {
        c->close = true;
        n = recv(c->io.fd, buf, sizeof buf, 0); /* read, so that closing is no reset */
    }
    if (used <= 0)
        return false;
    if (recv(c->io.fd, buf, (size_t)used, 0) != used) {
        c->close = true;
        return false;
    }
    memcpy(c->proxy_ip, h.source, sizeof c->proxy_ip);
    c->proxy_ip_len = (uint8_t)strlen(h.source);
    c->proxy_port = h.source_port;
    c->state = c->listener->listen->ssl ? SB_CLIENT_HANDSHAKE : SB_CLIENT_OPEN;
    return true;
}

/* Someone who speaks HTTP to a TLS listener is told so, as far as the first byte shows it. */
static bool speaks_plain(struct sb_client *c)
{
    unsigned char first;

    return recv(c->io.fd, &first, 1, MSG_PEEK) == 1 && first >= 'A' && first <= 'Z';
}

/* A flood of handshakes that never end pushes out its own oldest ones; those that mean it are done
 * long before. */
static void handshake_begins(struct sb_client *c)
{
    struct sb_worker *w = c->w;
    struct sb_client *oldest = w->half_open.first;

    c->half_open.next = NULL;
    c->half_open.link = w->half_open.last;
    *w->half_open.last = c;
    w->half_open.last = &c->half_open.next;
    if (++w->half_open.count <= HALF_OPEN_MAX)
        return;
    oldest->close = true;
    sb_client_run(oldest);
}

static bool handshake(struct sb_client *c)
{
    enum sb_rc rc;

    if (!c->io.ssl) {
        SSL *ssl;

        if (!c->io.readable)
            return false;
        if (speaks_plain(c)) {
            c->state = SB_CLIENT_OPEN; /* the exchange refuses it: no TLS session */
            return true;
        }
        ssl = sb_tls_accept(c->w->tls, c);
        if (!ssl) {
            c->close = true;
            return false;
        }
        sb_io_set_ssl(&c->io, ssl);
        handshake_begins(c);
    }
    rc = sb_io_handshake(&c->io);
    if (rc == SB_AGAIN && !c->io.eof && !(c->io.hup && !c->io.readable))
        return false;
    if (rc) {
        c->close = true;
        return false;
    }
    handshake_ends(c);
    c->sni = sb_str_c(SSL_get_servername(c->io.ssl, TLSEXT_NAMETYPE_host_name));
    c->state = SB_CLIENT_OPEN;
    if (sb_tls_chose_h2(c->io.ssl))
        sb_h2_begin(c, (struct sb_str){0});
    return true;
}

/* How long a connection may wait for its next request. */
static int64_t idle_ms(const struct sb_worker *w)
{
    int64_t ms = w->o->keepalive_timeout_ms;

    return w->draining && w->drain_idle_ms < ms ? w->drain_idle_ms : ms;
}

/* After a request: what came behind it starts the next one. False: nothing to do now. */
static bool next_exchange(struct sb_client *c)
{
    size_t received = sb_exchange_end(c->x, c->w->big);

    c->x = NULL;
    if (c->close)
        return false;
    if (c->preface) {
        sb_h2_begin(c, sb_str_n(c->w->big, received));
        return true;
    }
    sb_client_set_waiting(c, received == 0);
    sb_timer_set(&c->w->wheel, &c->timer,
                 sb_now_ms(c->w) + (received ? c->w->o->header_timeout_ms : idle_ms(c->w)));
    if (received)
        c->x = sb_exchange_begin(c, sb_str_n(c->w->big, received));
    return received > 0;
}

static bool step(struct sb_client *c)
{
    if (c->state == SB_CLIENT_PROXY_HEADER)
        return proxy_header(c);
    if (c->state == SB_CLIENT_HANDSHAKE)
        return handshake(c);
    if (c->h2) {
        sb_h2_run(c->h2);
        return false;
    }
    if (!c->x) {
        if (c->io.failed || c->io.eof)
            c->close = true;
        if (c->close || !sb_io_can_read(&c->io))
            return false;
        c->x = sb_exchange_begin(c, (struct sb_str){0});
    }
    if (!sb_exchange_run(c->x))
        return false;
    return next_exchange(c) || sb_io_can_read(&c->io);
}

void sb_client_run(struct sb_client *c)
{
    if (c->running) /* a step made something happen: the loop below will see it */
        return;
    c->running = true;
    if (sb_io_pending(&c->io) && sb_io_flush(&c->io) && !c->x)
        c->close = true;
    while (!c->close && step(c))
        ;
    c->running = false;
    if (!c->close && !c->x && c->io.held && sb_io_flush(&c->io))
        c->close = true;
    if (!c->close)
        return;
    if (c->x) {
        (void)sb_exchange_end(c->x, c->w->big);
        c->x = NULL;
    }
    free_client(c);
}

/* Who was told that the connection stays may be sending its next request right now, so idle
 * connections are not closed on the spot: that request is answered, with Connection: close. */
void sb_clients_drain(struct sb_worker *w, bool all)
{
    int64_t until = sb_now_ms(w) + idle_ms(w);

    for (struct sb_client *c = w->first_client, *next; c; c = next) {
        next = c->next;
        if (all) {
            c->close = true;
            sb_client_run(c);
        } else if (c->h2) {
            sb_h2_drain(c->h2);
        } else if (!c->x && c->state == SB_CLIENT_OPEN) {
            sb_timer_set(&w->wheel, &c->timer, until);
        }
    }
}
