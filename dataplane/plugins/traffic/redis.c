/* redis.c - see redis.h.
 *
 * (I1) A task is in exactly one of waiting, sent, or its owner's hands; the bytes of those that
 * wait are in `out`, in the same order. (I2) Answers come in the order of what was sent.
 */
#include "dataplane/plugins/traffic/redis.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "dataplane/upstream/resolver.h"
#include "shared/arena.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/map.h"

enum {
    WORDS_MAX = SB_REDIS_VALUES_MAX + 8,
    KEPT_MS = 10000,
    PAUSE_FIRST_MS = 100, /* after a failure; doubled at every further one, up to: */
    PAUSE_MAX_MS = 2000,
};

struct queue {
    struct sb_redis_task *first, **last;
};

struct connection {
    struct sb_redis *r;
    struct sb_arena *arena; /* of this and of server */
    struct sb_redis_server server;
    enum { OFF, RESOLVING, CONNECTING, GREETING, UP } state;
    struct sb_waiter name; /* first for nobody: found by offset */
    struct bufferevent *bev;
    struct sb_redis_replies *replies;
    struct event *round, *timer;
    struct evbuffer *out;
    struct queue waiting, sent;
    int greetings;              /* answers to AUTH and SELECT that are still to come */
    int64_t deadline_ms;        /* of connecting */
    int64_t used_ms;            /* when it was used last */
    int64_t pause_ms, until_ms; /* left alone until then */
    bool down;                  /* it was said so */
};

struct sb_redis {
    struct event_base *base;
    struct sb_resolver *resolver;
    struct sb_map by_key;
};

/* -- queues -- */

static void queue_init(struct queue *q)
{
    q->first = NULL;
    q->last = &q->first;
}

static void queue_add(struct queue *q, struct sb_redis_task *task)
{
    task->next = NULL;
    *q->last = task;
    q->last = &task->next;
}

static struct sb_redis_task *queue_take(struct queue *q)
{
    struct sb_redis_task *task = q->first;

    if (task) {
        q->first = task->next;
        if (!q->first)
            q->last = &q->first;
    }
    return task;
}

static void queue_move(struct queue *from, struct queue *to)
{
    *to = *from;
    if (!to->first)
        to->last = &to->first;
    queue_init(from);
}

static void fail_all(struct queue *q, const struct sb_err *err)
{
    struct sb_redis_task *task;

    while ((task = queue_take(q)))
        task->done(task, SB_UNAVAILABLE, NULL, err);
}

/* -- ending -- */

static void disconnect(struct connection *c)
{
    sb_waiter_cancel(&c->name);
    if (c->bev)
        bufferevent_free(c->bev);
    c->bev = NULL;
    sb_redis_replies_free(c->replies);
    c->replies = NULL;
    c->greetings = 0;
    c->state = OFF;
}

static void failed(struct connection *c, const char *why)
{
    struct queue sent, waiting;
    struct sb_err err;

    sb_err_set(&err, SB_UNAVAILABLE, "Redis at %.*s:%u: %s", SB_ARG(c->server.host), c->server.port,
               why);
    if (!c->down)
        sb_error("%s", err.text);
    c->down = true;
    disconnect(c);
    c->until_ms = sb_clock_ms() + c->pause_ms;
    c->pause_ms = c->pause_ms * 2 < PAUSE_MAX_MS ? c->pause_ms * 2 : PAUSE_MAX_MS;
    evbuffer_drain(c->out, evbuffer_get_length(c->out));
    queue_move(&c->sent, &sent);
    queue_move(&c->waiting, &waiting);
    fail_all(&sent, &err);
    fail_all(&waiting, &err);
}

/* The server hung up: in peace when nobody waits for it. */
static void hung_up(struct connection *c)
{
    if (c->sent.first || c->state != UP)
        failed(c, "the connection was closed");
    else
        disconnect(c);
}

/* -- time -- */

static void watch_until(struct connection *c, int64_t when_ms)
{
    int64_t ms = when_ms - sb_clock_ms();
    struct timeval tv;

    ms = ms > 0 ? ms : 1;
    tv = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    event_add(c->timer, &tv);
}

static int64_t next_due(const struct connection *c)
{
    if (c->state == OFF || (c->state == UP && !c->sent.first))
        return c->used_ms + KEPT_MS;
    return c->state == UP ? c->sent.first->deadline_ms : c->deadline_ms;
}

static void free_connection(struct connection *c)
{
    disconnect(c);
    event_free(c->round);
    event_free(c->timer);
    evbuffer_free(c->out);
    SSL_CTX_free(c->server.tls);
    sb_arena_free(c->arena);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct connection *c = arg;

    (void)fd;
    (void)what;
    if (next_due(c) > sb_clock_ms()) {
        watch_until(c, next_due(c));
    } else if (c->state != OFF && (c->state != UP || c->sent.first)) {
        failed(c, c->state == UP ? "no answer in time" : "timeout of connecting");
        watch_until(c, next_due(c));
    } else if (!c->waiting.first) {
        sb_map_remove(&c->r->by_key, c->server.key);
        free_connection(c);
    } else {
        watch_until(c, sb_clock_ms() + KEPT_MS);
    }
}

/* -- sending -- */

static bool add_command(struct evbuffer *out, const struct sb_str *words, size_t n)
{
    const char *argv[WORDS_MAX];
    size_t lens[WORDS_MAX];
    char *text = NULL;
    int len;

    for (size_t i = 0; i < n; i++) {
        argv[i] = words[i].p;
        lens[i] = words[i].len;
    }
    len = redisFormatCommandArgv(&text, (int)n, argv, lens);
    if (len > 0)
        evbuffer_add(out, text, (size_t)len);
    redisFreeCommand(text);
    return len > 0;
}

static void send_waiting(struct connection *c)
{
    struct sb_redis_task *task;

    if (!c->waiting.first)
        return;
    while ((task = queue_take(&c->waiting)))
        queue_add(&c->sent, task);
    bufferevent_write_buffer(c->bev, c->out);
    watch_until(c, next_due(c));
}

/* -- connecting -- */

static void is_up(struct connection *c)
{
    if (c->down)
        sb_notice("Redis at %.*s:%u answers again", SB_ARG(c->server.host), c->server.port);
    c->down = false;
    c->pause_ms = PAUSE_FIRST_MS;
    c->state = UP;
    send_waiting(c);
}

static void greet(struct connection *c)
{
    struct evbuffer *out = bufferevent_get_output(c->bev);
    struct sb_str words[3] = {SB_STR("AUTH")};
    char number[24];
    size_t n = 1;

    c->state = GREETING;
    if (c->server.password.len) {
        if (c->server.username.len)
            words[n++] = c->server.username;
        words[n++] = c->server.password;
        c->greetings += add_command(out, words, n);
    }
    if (c->server.database) {
        snprintf(number, sizeof number, "%lld", (long long)c->server.database);
        words[0] = SB_STR("SELECT");
        words[1] = sb_str_c(number);
        c->greetings += add_command(out, words, 2);
    }
    if (!c->greetings)
        is_up(c);
}

static const char *tls_trouble(struct connection *c)
{
    SSL *ssl = bufferevent_openssl_get_ssl(c->bev);
    long verdict = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
    unsigned long e = bufferevent_get_openssl_error(c->bev);

    if (ssl && c->server.verify && verdict != X509_V_OK)
        return X509_verify_cert_error_string(verdict);
    return ssl && e ? ERR_reason_error_string(e) : NULL;
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct connection *c = arg;
    int yes = 1, e = EVUTIL_SOCKET_ERROR();
    const char *why;

    if (what & BEV_EVENT_CONNECTED) {
        setsockopt(bufferevent_getfd(bev), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        greet(c);
        return;
    }
    if (c->state == UP || c->state == GREETING) {
        hung_up(c);
        return;
    }
    why = tls_trouble(c);
    failed(c, why ? why : what & BEV_EVENT_EOF ? "the connection was closed" : strerror(e));
}

static void on_read(struct bufferevent *bev, void *arg);

static SSL *new_session(const struct connection *c)
{
    struct sb_str name = c->server.name.len ? c->server.name : c->server.host;
    char text[256];
    union sb_sockaddr ip;
    SSL *ssl;

    if (name.len >= sizeof text || !(ssl = SSL_new(c->server.tls)))
        return NULL;
    snprintf(text, sizeof text, "%.*s", SB_ARG(name));
    if (sb_address_parse(name, 0, &ip)) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text);
    } else {
        SSL_set_tlsext_host_name(ssl, text);
        SSL_set1_host(ssl, text);
    }
    return ssl;
}

static void connect_to(struct connection *c, const union sb_sockaddr *addr)
{
    const int options = BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS;
    SSL *ssl = c->server.tls ? new_session(c) : NULL;

    c->state = CONNECTING;
    if (ssl)
        c->bev = bufferevent_openssl_socket_new(c->r->base, -1, ssl, BUFFEREVENT_SSL_CONNECTING,
                                                options);
    else if (!c->server.tls)
        c->bev = bufferevent_socket_new(c->r->base, -1, options);
    if (!c->bev) {
        failed(c, "no connection can be made");
        return;
    }
    if (ssl)
        bufferevent_openssl_set_allow_dirty_shutdown(c->bev, 1);
    c->replies = sb_redis_replies_new();
    bufferevent_setcb(c->bev, on_read, NULL, on_event, c);
    bufferevent_enable(c->bev, EV_READ | EV_WRITE);
    if (bufferevent_socket_connect(c->bev, &addr->sa, (int)sb_address_len(addr)))
        failed(c, strerror(errno));
}

static void resolve(struct connection *c);

static void on_name(struct sb_waiter *waiter)
{
    resolve((struct connection *)((char *)waiter - offsetof(struct connection, name)));
}

static void resolve(struct connection *c)
{
    union sb_sockaddr addr;
    struct sb_resolved found;
    const struct sb_resolved_record *record;
    enum sb_rc rc;

    c->state = RESOLVING;
    if (sb_address_parse(c->server.host, c->server.port, &addr)) {
        connect_to(c, &addr);
        return;
    }
    c->name.ready = on_name;
    rc = sb_resolver_get(c->r->resolver, c->server.host, &c->name, &found);
    if (rc == SB_AGAIN)
        return;
    if (rc) {
        failed(c, rc == SB_NOTFOUND ? "there is no such name" : "the name can't be resolved");
        return;
    }
    record = sb_resolved_turn(&found);
    addr = record->addr;
    sb_address_set_port(&addr, record->port ? record->port : c->server.port);
    connect_to(c, &addr);
}

static void on_round(evutil_socket_t fd, short what, void *arg)
{
    struct connection *c = arg;

    (void)fd;
    (void)what;
    if (c->state == UP) {
        send_waiting(c);
    } else if (c->state == OFF && c->waiting.first) {
        c->deadline_ms = sb_clock_ms() + c->server.timeout_ms;
        watch_until(c, c->deadline_ms);
        resolve(c);
    }
}

/* -- answers -- */

/* What is no fault of the command's: another connection may do better. */
static bool is_useless(const struct sb_redis_reply *reply)
{
    static const char *const words[] = {"READONLY", "LOADING", "MASTERDOWN", "NOAUTH"};

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (sb_str_starts(sb_str_c(reply->text), sb_str_c(words[i])))
            return true;
    return false;
}

static void take_reply(struct connection *c, const struct sb_redis_reply *reply)
{
    struct sb_redis_task *task;
    struct sb_err err;

    if (c->greetings) {
        if (reply->error)
            failed(c, reply->text);
        else if (--c->greetings == 0)
            is_up(c);
        return;
    }
    task = queue_take(&c->sent);
    if (!task) {
        failed(c, "an answer that nobody asked for");
        return;
    }
    if (!reply->error) {
        task->done(task, SB_OK, reply, NULL);
        return;
    }
    sb_err_set(&err, SB_UNAVAILABLE, "Redis at %.*s:%u: %s", SB_ARG(c->server.host), c->server.port,
               reply->text);
    if (is_useless(reply)) {
        failed(c, reply->text);
    }
    task->done(task, SB_UNAVAILABLE, NULL, &err);
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct connection *c = arg;
    struct evbuffer *in = bufferevent_get_input(bev);
    const struct sb_redis_reply *reply;
    char piece[4096];
    int n;

    while (c->bev == bev && (n = evbuffer_remove(in, piece, sizeof piece)) > 0) {
        enum sb_rc rc = sb_redis_replies_feed(c->replies, piece, (size_t)n);

        while (!rc && c->bev == bev && !(rc = sb_redis_replies_next(c->replies, &reply)))
            take_reply(c, reply);
        if (rc != SB_OK && rc != SB_AGAIN)
            failed(c, "an answer that is none");
    }
    c->used_ms = sb_clock_ms();
    watch_until(c, next_due(c));
}

/* -- life -- */

struct sb_redis *sb_redis_new(struct event_base *base, struct sb_resolver *resolver)
{
    struct sb_redis *r = sb_xcalloc(1, sizeof *r);

    r->base = base;
    r->resolver = resolver;
    return r;
}

void sb_redis_free(struct sb_redis *r)
{
    struct sb_map_slot *s;

    if (!r)
        return;
    sb_map_each (s, &r->by_key)
        free_connection(s->value);
    sb_map_release(&r->by_key);
    free(r);
}

static struct connection *new_connection(struct sb_redis *r, const struct sb_redis_server *server)
{
    struct sb_arena *a = sb_arena_new(0);
    struct connection *c = SB_NEW(a, struct connection);

    c->r = r;
    c->arena = a;
    sb_redis_server_copy(a, server, &c->server);
    queue_init(&c->waiting);
    queue_init(&c->sent);
    c->pause_ms = PAUSE_FIRST_MS;
    c->out = evbuffer_new();
    c->round = evtimer_new(r->base, on_round, c);
    c->timer = evtimer_new(r->base, on_timer, c);
    sb_map_set(&r->by_key, c->server.key, c);
    return c;
}

enum sb_rc sb_redis_send(struct sb_redis *r, const struct sb_redis_server *server,
                         const struct sb_str *words, size_t nwords, struct sb_redis_task *task)
{
    struct connection *c = sb_map_get(&r->by_key, server->key);
    int64_t now_ms = sb_clock_ms();

    sb_assert(nwords <= WORDS_MAX);
    if (!c)
        c = new_connection(r, server);
    if ((c->state == OFF && now_ms < c->until_ms) || !add_command(c->out, words, nwords))
        return SB_UNAVAILABLE;
    c->used_ms = now_ms;
    task->deadline_ms = now_ms + server->timeout_ms;
    if (!c->waiting.first)
        event_active(c->round, EV_TIMEOUT, 0);
    queue_add(&c->waiting, task);
    return SB_OK;
}
