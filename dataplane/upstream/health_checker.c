/* health_checker.c - the thread, its queue, and what others ask it.
 *
 *   publish(), view(), set(), hear() --queue--> event loop: watch (health_watch.h), probes, names
 *
 * Lock: queue.lock guards the queue and the calls' `done`; rank: leaf.
 */
#include "dataplane/upstream/health_checker.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dataplane/listen/worker.h"
#include "dataplane/upstream/health.h"
#include "dataplane/upstream/health_trust.h"
#include "dataplane/upstream/health_view.h"
#include "dataplane/upstream/health_watch.h"
#include "shared/clock.h"
#include "shared/log.h"

enum { NAMES_WAIT_MS = 500 };

struct message {
    struct message *next;
    struct sb_publication *publication;
    struct call *call;
    size_t word_len; /* none of these: stop */
    char word[];
};

/* A question from another thread, which waits. */
struct call {
    void (*run)(struct sb_health_checker *c, struct call *call);
    struct sb_waiter waiter;
    struct event *patience; /* while it waits for names; NULL: not yet */
    bool impatient;
    struct sb_health_checker *c;
    bool done;
    enum sb_rc rc;
    struct sb_str upstream, target, address;
    bool fit;
    struct sb_arena *arena;
    struct sb_health_view *view;
};

struct sb_health_checker {
    pthread_t thread;
    struct event_base *base;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t answered;
        struct message *first, **last;
    } queue;
    int wake_fd;
    struct event *wake;
    struct sb_resolver *resolver;
    struct sb_health *health;
    struct sb_health_watch *watch;
    struct sb_arena *arena; /* of trust */
    bool stopping;
};

/* -- questions -- */

static void answer(struct call *call, enum sb_rc rc)
{
    sb_waiter_cancel(&call->waiter);
    if (call->patience)
        event_free(call->patience);
    pthread_mutex_lock(&call->c->queue.lock);
    call->rc = rc;
    call->done = true;
    pthread_cond_broadcast(&call->c->queue.answered);
    pthread_mutex_unlock(&call->c->queue.lock);
}

static void on_name_known(struct sb_waiter *waiter)
{
    struct call *call = (struct call *)((char *)waiter - offsetof(struct call, waiter));

    call->run(call->c, call);
}

static void on_patience_over(evutil_socket_t fd, short what, void *arg)
{
    struct call *call = arg;

    (void)fd, (void)what;
    call->impatient = true;
    call->run(call->c, call);
}

/* Whether the call comes back when a name is known, or soon at any rate. */
static bool wait_for_names(struct call *call, const struct sb_targets *t)
{
    static const struct timeval patience = {.tv_usec = NAMES_WAIT_MS * 1000};

    if (call->impatient || sb_targets_wait(t, call->c->resolver, &call->waiter) != SB_AGAIN)
        return false;
    if (!call->patience) {
        call->patience = event_new(call->c->base, -1, 0, on_patience_over, call);
        event_add(call->patience, &patience);
    }
    return true;
}

static const struct sb_upstream *served(const struct sb_health_checker *c, struct sb_str name)
{
    const struct sb_snapshot *snap = sb_health_watch_snapshot(c->watch);

    return snap ? sb_snapshot_upstream(snap, name) : NULL;
}

static void run_view(struct sb_health_checker *c, struct call *call)
{
    const struct sb_upstream *up = served(c, call->upstream);
    struct sb_health_upstream *health = NULL;
    struct sb_health_checks checks;
    struct sb_targets targets;

    if (!up) {
        answer(call, SB_NOTFOUND);
        return;
    }
    sb_targets_build(&targets, call->arena, c->resolver, up);
    if (wait_for_names(call, &targets))
        return;
    sb_health_checks_read(call->arena, up->entity, &checks);
    if (checks.on)
        health = sb_health_open(c->health, up->name);
    sb_health_view_fill(call->arena, &targets, &checks, health, call->view);
    sb_health_close(health);
    answer(call, SB_OK);
}

static void run_set(struct sb_health_checker *c, struct call *call)
{
    bool watched =
        sb_health_watch_set(c->watch, call->upstream, call->target, call->address, call->fit);

    answer(call, watched ? SB_OK : SB_NOTFOUND);
}

static void send_message(struct sb_health_checker *c, struct sb_publication *publication,
                         struct call *call, struct sb_str word)
{
    struct message *m = sb_xcalloc(1, sizeof *m + word.len);
    const uint64_t one = 1;

    m->publication = publication;
    m->call = call;
    m->word_len = word.len;
    memcpy(m->word, word.p, word.len);
    pthread_mutex_lock(&c->queue.lock);
    *c->queue.last = m;
    c->queue.last = &m->next;
    pthread_mutex_unlock(&c->queue.lock);
    while (write(c->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static enum sb_rc ask(struct sb_health_checker *c, struct call *call)
{
    call->c = c;
    call->waiter.ready = on_name_known;
    send_message(c, NULL, call, SB_STR(""));
    pthread_mutex_lock(&c->queue.lock);
    while (!call->done)
        pthread_cond_wait(&c->queue.answered, &c->queue.lock);
    pthread_mutex_unlock(&c->queue.lock);
    return call->rc;
}

enum sb_rc sb_health_checker_view(struct sb_health_checker *c, struct sb_str upstream,
                                  struct sb_arena *a, struct sb_health_view *out)
{
    return ask(c, &(struct call){.run = run_view, .upstream = upstream, .arena = a, .view = out});
}

enum sb_rc sb_health_checker_set(struct sb_health_checker *c, struct sb_str upstream,
                                 struct sb_str target, struct sb_str address, bool fit)
{
    return ask(c, &(struct call){.run = run_set,
                                 .upstream = upstream,
                                 .target = target,
                                 .address = address,
                                 .fit = fit});
}

void sb_health_checker_publish(struct sb_health_checker *c, struct sb_publication *p)
{
    send_message(c, p, NULL, SB_STR(""));
}

void sb_health_checker_hear(struct sb_health_checker *c, struct sb_str word)
{
    send_message(c, NULL, NULL, word);
}

/* -- the thread -- */

static struct message *take_messages(struct sb_health_checker *c)
{
    struct message *first;

    pthread_mutex_lock(&c->queue.lock);
    first = c->queue.first;
    c->queue.first = NULL;
    c->queue.last = &c->queue.first;
    pthread_mutex_unlock(&c->queue.lock);
    return first;
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct sb_health_checker *c = arg;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof count);

    (void)n, (void)what;
    for (struct message *m = take_messages(c), *next; m; m = next) {
        next = m->next;
        if (m->publication)
            sb_health_watch_follow(c->watch, m->publication);
        else if (m->call)
            m->call->run(c, m->call);
        else if (m->word_len)
            sb_health_watch_hear(c->watch, sb_str_n(m->word, m->word_len));
        else
            c->stopping = true;
        free(m);
    }
    if (c->stopping)
        event_base_loopbreak(c->base);
}

static void *run_checker(void *arg)
{
    struct sb_health_checker *c = arg;
    sigset_t all;

    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (event_base_dispatch(c->base) < 0)
        sb_error("health checks: event loop: %s", strerror(errno));
    return NULL;
}

static int64_t clock_ms(void *arg)
{
    (void)arg;
    return sb_clock_ms();
}

static void free_checker(struct sb_health_checker *c)
{
    for (struct message *m = take_messages(c), *next; m; m = next) {
        next = m->next;
        if (m->publication)
            sb_publication_leave(m->publication);
        free(m);
    }
    sb_health_watch_free(c->watch);
    sb_resolver_free(c->resolver);
    event_free(c->wake);
    event_base_free(c->base);
    close(c->wake_fd);
    pthread_cond_destroy(&c->queue.answered);
    pthread_mutex_destroy(&c->queue.lock);
    sb_arena_free(c->arena);
    free(c);
}

enum sb_rc sb_health_checker_start(const struct sb_settings *s, struct sb_health *health,
                                   struct sb_health_checker **out, struct sb_err *err)
{
    struct sb_health_checker *c = sb_xcalloc(1, sizeof *c);
    struct sb_http_tls trust;
    int e;

    c->health = health;
    c->arena = sb_arena_new(0);
    c->queue.last = &c->queue.first;
    pthread_mutex_init(&c->queue.lock, NULL);
    pthread_cond_init(&c->queue.answered, NULL);
    c->base = event_base_new();
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sb_assert(c->base && c->wake_fd >= 0);
    c->wake = event_new(c->base, c->wake_fd, EV_READ | EV_PERSIST, on_wake, c);
    event_add(c->wake, NULL);
    c->resolver = sb_resolver_new(c->base, s, clock_ms, NULL);
    sb_health_trust_read(c->arena, s, &trust);
    c->watch = sb_health_watch_new(c->base, c->resolver, health, &trust);
    e = pthread_create(&c->thread, NULL, run_checker, c);
    if (e) {
        free_checker(c);
        return sb_err_set(err, SB_IO, "cannot start the health checker: %s", strerror(e));
    }
    *out = c;
    return SB_OK;
}

void sb_health_checker_stop(struct sb_health_checker *c)
{
    if (!c)
        return;
    send_message(c, NULL, NULL, SB_STR(""));
    pthread_join(c->thread, NULL);
    free_checker(c);
}
