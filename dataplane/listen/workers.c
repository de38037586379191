/* workers.c - threads, listeners, messages and the swap of snapshots.
 *
 * A thread's life: open listeners (in sb_workers_start, so that errors have someone to tell), loop,
 * drain, free. Loop rounds are ours (EVLOOP_ONCE) because each round reads the clock once.
 *
 * A snapshot travels so:
 *
 *   publish()   publication{snap, holders = n}  --message-->  each worker: hold{users = 1}
 *   exchange    hold.users++ ... hold.users--      the worker's own counts, no atomics
 *   users == 0  holders-- ; the worker that makes it 0 calls retired() and frees the publication
 */
#include "dataplane/listen/workers.h"

#include <errno.h>
#include <event2/thread.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dataplane/http/access_log.h"
#include "dataplane/http/client.h"
#include "dataplane/http/exchange.h"
#include "dataplane/http/h2_session.h"
#include "dataplane/listen/limits.h"
#include "dataplane/listen/sockets.h"
#include "dataplane/listen/tls.h"
#include "dataplane/listen/worker.h"
#include "dataplane/plugins/registry.h"
#include "dataplane/upstream/h2_upstream.h"
#include "dataplane/upstream/health.h"
#include "dataplane/upstream/health_checker.h"
#include "dataplane/plugins/credentials/lookup.h"
#include "dataplane/plugins/parts.h"
#include "dataplane/upstream/resolver.h"
#include "dataplane/upstream/upstream.h"
#include "shared/clock.h"
#include "shared/crypto_memory.h"
#include "shared/digest.h"
#include "shared/log.h"

enum { ACCEPT_BATCH = 64, ACCEPT_PAUSE_MS = 500, DRAIN_BATCHES = 1024 };

struct sb_workers {
    struct sb_proxy_options *o;
    struct sb_tls *tls;
    struct sb_log_writer *access; /* NULL: off */
    struct sb_health *health;
    struct sb_health_checker *checker;
    struct sb_credentials *credentials;
    unsigned n, started;
    struct sb_worker *w;
    atomic_uint running;
    int ended_fd;
};

/* -- small things a worker has -- */

void sb_worker_read_clock(struct sb_worker *w)
{
    w->now_us = sb_clock_us();
    w->now_ms = w->now_us / 1000;
    w->now_valid = true;
}

static void make_dates(struct sb_worker *w)
{
    time_t now = time(NULL);
    struct tm tm;

    if (now == w->date_s)
        return;
    w->date_s = now;
    gmtime_r(&now, &tm);
    strftime(w->date, sizeof w->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    localtime_r(&now, &tm);
    strftime(w->local_date, sizeof w->local_date, "%d/%b/%Y:%H:%M:%S %z", &tm);
}

struct sb_str sb_worker_date(struct sb_worker *w)
{
    make_dates(w);
    return sb_str_c(w->date);
}

struct sb_str sb_worker_local_date(struct sb_worker *w)
{
    make_dates(w);
    return sb_str_c(w->local_date);
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t sb_worker_random(struct sb_worker *w) /* xoshiro256** */
{
    uint64_t *s = w->random, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

void *sb_pool_take(struct sb_free_list *list, size_t len)
{
    void *block = list->first;

    if (!block)
        return sb_xcalloc(1, len);
    memcpy(&list->first, block, sizeof list->first);
    list->count--;
    return block;
}

void sb_pool_give(struct sb_free_list *list, void *block, unsigned keep_max)
{
    if (list->count >= keep_max) {
        free(block);
        return;
    }
    memcpy(block, &list->first, sizeof list->first);
    list->first = block;
    list->count++;
}

void sb_pool_release(struct sb_free_list *list)
{
    while (list->first)
        free(sb_pool_take(list, 0));
}

/* -- snapshots -- */

struct sb_hold *sb_worker_hold(struct sb_worker *w)
{
    w->hold->users++;
    return w->hold;
}

void sb_publication_leave(struct sb_publication *p)
{
    if (atomic_fetch_sub_explicit(&p->holders, 1, memory_order_acq_rel) != 1)
        return;
    if (p->retired)
        p->retired(p->arg, p->snap);
    free(p);
}

void sb_worker_unhold(struct sb_worker *w, struct sb_hold *hold)
{
    struct sb_publication *p = hold->publication;

    (void)w;
    sb_assert(hold->users > 0);
    if (--hold->users)
        return;
    free(hold);
    if (p)
        sb_publication_leave(p);
}

static struct sb_hold *new_hold(struct sb_publication *p)
{
    static const struct sb_snapshot empty;
    struct sb_hold *hold = sb_xcalloc(1, sizeof *hold);

    *hold = (struct sb_hold){.publication = p, .snap = p ? p->snap : &empty, .users = 1};
    return hold;
}

static void swap_snapshot(struct sb_worker *w, struct sb_publication *p)
{
    struct sb_hold *old = w->hold;

    w->hold = new_hold(p);
    if (old)
        sb_worker_unhold(w, old);
}

/* -- messages -- */

static void send_message(struct sb_worker *w, struct sb_message what)
{
    struct sb_message *m = sb_xmalloc(sizeof *m);
    const uint64_t one = 1;
    bool was_empty;

    *m = what;
    pthread_mutex_lock(&w->shared.lock);
    was_empty = !w->shared.first;
    *w->shared.last = m;
    w->shared.last = &m->next;
    pthread_mutex_unlock(&w->shared.lock);
    while (was_empty && write(w->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static struct sb_message *take_messages(struct sb_worker *w)
{
    struct sb_message *first;

    pthread_mutex_lock(&w->shared.lock);
    first = w->shared.first;
    w->shared.first = NULL;
    w->shared.last = &w->shared.first;
    pthread_mutex_unlock(&w->shared.lock);
    return first;
}

static void close_listeners(struct sb_worker *w)
{
    for (struct sb_listener *l = w->listeners; l; l = l->next) {
        event_del(&l->event);
        sb_timer_remove(&l->pause, &w->wheel);
        close(l->fd);
    }
    w->listeners = NULL;
}

void sb_worker_client_gone(struct sb_worker *w)
{
    if (w->draining && w->nclients == 0)
        w->stopping = true;
}

/* Nobody is let in before there is something to serve: until then the kernel keeps them waiting. */
static void open_doors(struct sb_worker *w)
{
    for (struct sb_listener *l = w->listeners; !w->open && l; l = l->next)
        event_add(&l->event, NULL);
    w->open = true;
}

static bool accept_batch(struct sb_listener *l);

/* Whose handshake with the kernel is done counts as served already: they are let in first. */
static void drain(struct sb_worker *w, int64_t idle_ms)
{
    for (struct sb_listener *l = w->listeners; w->open && l; l = l->next)
        for (int batch = 0; batch < DRAIN_BATCHES && accept_batch(l); batch++)
            ;
    w->draining = w->open = true;
    w->drain_idle_ms = idle_ms;
    close_listeners(w);
    sb_clients_drain(w, false);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct sb_worker *w = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);

    (void)n;
    (void)what;
    for (struct sb_message *m = take_messages(w), *next; m; m = next) {
        next = m->next;
        switch (m->kind) {
        case SB_MSG_SNAPSHOT:
            swap_snapshot(w, m->publication);
            open_doors(w);
            break;
        case SB_MSG_DRAIN:
            drain(w, m->idle_ms);
            sb_worker_client_gone(w);
            break;
        case SB_MSG_STOP:
            w->stopping = true;
            break;
        }
        free(m);
    }
}

void sb_workers_hand_out(struct sb_workers *ws, struct sb_publication *p)
{
    atomic_init(&p->holders, ws->n + 1);
    sb_health_checker_publish(ws->checker, p);
    for (unsigned i = 0; i < ws->n; i++)
        send_message(&ws->w[i], (struct sb_message){.kind = SB_MSG_SNAPSHOT, .publication = p});
}

/* -- listeners -- */

static void on_pause_over(struct sb_timer *t)
{
    struct sb_listener *l = (struct sb_listener *)((char *)t - offsetof(struct sb_listener, pause));

    event_add(&l->event, NULL);
}

/* Out of descriptors or memory: asking again at once would only burn the core. */
static void pause_listener(struct sb_listener *l, const char *why)
{
    sb_error("accept on %.*s: %s; not accepting for %d ms", SB_ARG(l->listen->text), why,
             ACCEPT_PAUSE_MS);
    event_del(&l->event);
    sb_timer_set(&l->w->wheel, &l->pause, sb_now_ms(l->w) + ACCEPT_PAUSE_MS);
}

/* True: there may be more. */
static bool accept_batch(struct sb_listener *l)
{
    struct sockaddr_storage peer;

    for (int i = 0; i < ACCEPT_BATCH; i++) {
        socklen_t len = sizeof peer;
        int s;

        if (l->w->o->connections_max && l->w->nclients >= l->w->o->connections_max) {
            pause_listener(l, "worker_connections are not enough");
            return false;
        }
        s = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (s < 0) {
            if (errno == ECONNABORTED || errno == EINTR)
                continue;
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                pause_listener(l, strerror(errno));
            return false;
        }
        sb_client_open(l->w, l, s, (const struct sockaddr *)&peer);
    }
    return true;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)accept_batch(arg);
}

static enum sb_rc open_listener(struct sb_worker *w, const struct sb_listen *listen,
                                struct sb_err *err)
{
    struct sb_listener *l = SB_NEW(w->o->arena, struct sb_listener);

    *l = (struct sb_listener){.next = w->listeners, .listen = listen, .w = w};
    if (sb_sockets_open(listen, SOCK_STREAM, &l->fd))
        return sb_err_set(err, SB_IO, "proxy_listen: cannot listen on %.*s: %s",
                          SB_ARG(listen->text), strerror(errno));
    w->listeners = l;
    event_assign(&l->event, w->base, l->fd, EV_READ | EV_PERSIST, on_accept, l);
    sb_timer_init(&l->pause, on_pause_over);
    return SB_OK;
}

/* A listener of its own for each worker. Where the process before us had more workers, their
 * sockets are shared out: each may hold connections that nobody has accepted. */
static enum sb_rc open_listeners(struct sb_workers *ws, struct sb_err *err)
{
    enum sb_rc rc = SB_OK;

    for (size_t i = 0; i < ws->o->nlistens; i++) {
        const struct sb_listen *listen = &ws->o->listens[i];

        for (unsigned k = 0; !rc && (k < ws->n || sb_sockets_waiting(listen, SOCK_STREAM)); k++)
            rc = open_listener(&ws->w[k % ws->n], listen, err);
    }
    return rc;
}

/* -- threads -- */

static int64_t worker_clock(void *arg)
{
    return sb_now_ms(arg);
}

static enum sb_rc init_worker(struct sb_workers *ws, struct sb_worker *w, struct sb_err *err)
{
    struct event_config *config = event_config_new();

    w->all = ws;
    w->index = (unsigned)(w - ws->w);
    w->o = ws->o;
    w->tls = ws->tls;
    w->shared.last = &w->shared.first;
    w->half_open.last = &w->half_open.first;
    pthread_mutex_init(&w->shared.lock, NULL);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK); /* others only write to wake_fd */
    w->base = event_base_new_with_config(config);
    event_config_free(config);
    w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!w->base || w->wake_fd < 0)
        return sb_err_set(err, SB_IO, "cannot make an event loop: %s", strerror(errno));
    event_assign(&w->wake, w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w);
    event_add(&w->wake, NULL);
    w->big = sb_xmalloc(SB_BIG_LEN);
    w->scratch = sb_xmalloc(SB_SCRATCH_LEN);
    sb_random(w->random, sizeof w->random);
    sb_worker_read_clock(w);
    sb_wheel_init(&w->wheel, w->base, w->now_ms);
    swap_snapshot(w, NULL);
    w->health = ws->health;
    w->resolver = sb_resolver_new(w->base, w->o->settings, worker_clock, w);
    w->lookups = sb_lookups_new(w->base, ws->credentials);
    w->upstreams = sb_upstreams_new(w);
    w->access_log = ws->access ? sb_access_log_new(w, ws->o->access.format, ws->access) : NULL;
    w->plugins = sb_plugin_states_new(w->base, ws->o->settings);
    return SB_OK;
}

static void release_worker(struct sb_worker *w)
{
    if (!w->base)
        return;
    close_listeners(w);
    sb_clients_drain(w, true);
    sb_plugin_states_free(w->plugins);
    sb_upstreams_free(w->upstreams);
    sb_resolver_free(w->resolver);
    sb_lookups_free(w->lookups);
    sb_access_log_free(w->access_log);
    for (struct sb_message *m = take_messages(w), *next; m; m = next) {
        next = m->next;
        if (m->kind == SB_MSG_SNAPSHOT)
            swap_snapshot(w, m->publication);
        free(m);
    }
    if (w->hold)
        sb_worker_unhold(w, w->hold);
    sb_exchanges_release(w);
    sb_pool_release(&w->clients);
    sb_streams_release(w);
    sb_pool_release(&w->upconns);
    sb_wheel_release(&w->wheel);
    event_del(&w->wake);
    close(w->wake_fd);
    event_base_free(w->base);
    free(w->big);
    free(w->scratch);
    pthread_mutex_destroy(&w->shared.lock);
}

/* What was collected in this round, until neither side's sending gives the other more to do. */
static void flush_h2(struct sb_worker *w)
{
    do
        sb_h2_flush_marked(w);
    while (sb_h2_pools_flush(w));
}

static void *run_worker(void *arg)
{
    struct sb_worker *w = arg;
    const uint64_t one = 1;
    sigset_t all;

    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    sb_crypto_memory_pool();
    while (!w->stopping) {
        w->now_valid = false;
        if (event_base_loop(w->base, EVLOOP_ONCE) < 0) {
            sb_error("worker %u: event loop: %s", w->index, strerror(errno));
            break;
        }
        flush_h2(w);
    }
    sb_crypto_memory_release();
    if (atomic_fetch_sub(&w->all->running, 1) == 1)
        (void)!write(w->all->ended_fd, &one, sizeof one);
    return NULL;
}

/* The threads have ended: what they owned is freed by who joined them. */
static void free_workers(struct sb_workers *ws)
{
    sb_health_checker_stop(ws->checker);
    for (unsigned i = 0; i < ws->n; i++)
        release_worker(&ws->w[i]);
    sb_health_free(ws->health);
    sb_sockets_release();
    sb_log_writer_free(ws->access);
    sb_tls_free(ws->tls);
    sb_credentials_free(ws->credentials);
    sb_proxy_options_free(ws->o);
    close(ws->ended_fd);
    free(ws->w);
    free(ws);
}

static enum sb_rc start_threads(struct sb_workers *ws, struct sb_err *err)
{
    for (; ws->started < ws->n; ws->started++) {
        int e;

        atomic_fetch_add(&ws->running, 1);
        e = pthread_create(&ws->w[ws->started].thread, NULL, run_worker, &ws->w[ws->started]);
        if (e)
            return sb_err_set(err, SB_IO, "cannot start a worker: %s", strerror(e));
    }
    return SB_OK;
}

static bool any_ssl(const struct sb_proxy_options *o)
{
    for (size_t i = 0; i < o->nlistens; i++)
        if (o->listens[i].ssl)
            return true;
    return false;
}

enum sb_rc sb_workers_start(const struct sb_settings *settings, struct sb_workers **out,
                            struct sb_err *err)
{
    struct sb_workers *ws = sb_xcalloc(1, sizeof *ws);
    enum sb_rc rc;

    ws->ended_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    signal(SIGPIPE, SIG_IGN);
    evthread_use_pthreads();
    sb_io_init();
    ws->credentials = sb_credentials_new(settings);
    rc = sb_proxy_options_load(settings, &ws->o, err);
    if (!rc)
        sb_limits_apply(settings, ws->o);
    if (!rc && any_ssl(ws->o))
        rc = sb_tls_new(settings, ws->o->http2, &ws->tls, err);
    if (!rc && ws->o->access.target && sb_log_writer_new(ws->o->access.target, &ws->access, err)) {
        rc = SB_IO;
        sb_err_at(err, "proxy_access_log");
    }
    if (!rc) {
        ws->n = ws->o->workers;
        ws->w = sb_xcalloc(ws->n, sizeof *ws->w);
    }
    ws->health = sb_health_new();
    for (unsigned i = 0; !rc && i < ws->n; i++)
        rc = init_worker(ws, &ws->w[i], err);
    if (!rc)
        rc = open_listeners(ws, err);
    if (!rc)
        rc = sb_health_checker_start(settings, ws->health, &ws->checker, err);
    if (!rc)
        rc = start_threads(ws, err);
    if (rc) {
        for (unsigned i = 0; i < ws->started; i++) {
            send_message(&ws->w[i], (struct sb_message){.kind = SB_MSG_STOP});
            pthread_join(ws->w[i].thread, NULL);
        }
        free_workers(ws);
        return rc;
    }
    ws->o->settings = NULL;
    *out = ws;
    return SB_OK;
}

void sb_workers_drain(struct sb_workers *ws, int64_t idle_ms)
{
    for (unsigned i = 0; i < ws->n; i++)
        send_message(&ws->w[i], (struct sb_message){.kind = SB_MSG_DRAIN, .idle_ms = idle_ms});
}

int sb_workers_ended_fd(const struct sb_workers *ws)
{
    return ws->ended_fd;
}

void sb_workers_stop(struct sb_workers *ws, int64_t drain_ms)
{
    struct pollfd ended = {.fd = ws->ended_fd, .events = POLLIN};

    if (drain_ms > 0) {
        sb_workers_drain(ws, 0);
        (void)poll(&ended, 1, drain_ms < INT_MAX ? (int)drain_ms : INT_MAX);
    }
    for (unsigned i = 0; i < ws->n; i++) {
        send_message(&ws->w[i], (struct sb_message){.kind = SB_MSG_STOP});
        pthread_join(ws->w[i].thread, NULL);
    }
    free_workers(ws);
}

void sb_workers_hear_health(struct sb_workers *ws, struct sb_str word)
{
    sb_health_checker_hear(ws->checker, word);
}

struct sb_health_checker *sb_workers_health(const struct sb_workers *ws)
{
    return ws->checker;
}

const struct sb_worker *sb_workers_at(const struct sb_workers *ws, unsigned i)
{
    return &ws->w[i];
}

unsigned sb_workers_count(const struct sb_workers *ws)
{
    return ws->n;
}

void sb_workers_stats(const struct sb_workers *ws, struct sb_proxy_stats *out)
{
    enum { FIELDS = sizeof *out / sizeof(uint64_t) };
    uint64_t sum[FIELDS] = {0};

    for (unsigned i = 0; i < ws->n; i++) {
        const uint64_t *counters = (const uint64_t *)&ws->w[i].stats;

        for (size_t k = 0; k < FIELDS; k++)
            sum[k] += __atomic_load_n(&counters[k], __ATOMIC_RELAXED);
    }
    memcpy(out, sum, sizeof *out);
}

void sb_workers_reopen_logs(struct sb_workers *ws)
{
    if (ws->access)
        sb_log_writer_reopen(ws->access);
}
