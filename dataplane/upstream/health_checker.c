/* health_checker.c - follows snapshots, keeps the intervals, answers questions.
 *
 *   publish(), view(), set() --queue--> thread: event loop
 *                                         watched["a.up"]  targets, records | two rounds
 *                                           round healthy     every healthy_ms    \  probes, at
 * most round unhealthy   every unhealthy_ms  /  `concurrency`
 *
 * The cost of a snapshot does not grow with the upstreams that it left alone: snapshots share the
 * chunks of their table of upstreams, and equal chunks are passed over.
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
#include "dataplane/upstream/health_rounds.h"
#include "dataplane/upstream/health_trust.h"
#include "dataplane/upstream/health_view.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/vec.h"

enum { NAMES_CHECK_MS = 1000, NAMES_WAIT_MS = 500, KEEP_GONE_MS = 300 * 1000 };

/* An upstream that is checked, or was until lately. */
struct watched {
    struct sb_health_checker *c;
    const struct sb_upstream *upstream; /* of the snapshot that is held; NULL: gone */
    int64_t gone_ms;
    struct sb_arena *arena; /* of what follows, made anew with each change */
    struct sb_health_checks checks;
    struct sb_targets targets;
    struct sb_http_tls tls;
    struct sb_health_address **records; /* sorted; heap */
    size_t nrecords;
    struct sb_health_upstream *health;
    struct sb_rounds *rounds;
    struct sb_str name;
    char text[];
};

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
    struct event *wake, *names_timer, *gone_timer;
    struct sb_http *http;
    struct sb_resolver *resolver;
    struct sb_health *health;
    struct sb_prober *prober;
    struct sb_publication *publication;
    struct sb_map watched;
    struct sb_arena *arena;
    struct sb_http_tls trust; /* of the settings */
    bool stopping;
};

/* -- watched upstreams -- */

static int by_pointer(const void *a, const void *b)
{
    const uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;

    return (x > y) - (x < y);
}

static bool among(struct sb_health_address *const *sorted, size_t n,
                  const struct sb_health_address *a)
{
    return n && bsearch(&a, sorted, n, sizeof *sorted, by_pointer);
}

/* Enters the addresses that there are now, and retires those that are no more. */
static void set_records(struct watched *w)
{
    struct sb_health_address **old = w->records;
    size_t nold = w->nrecords;

    w->records = sb_xcalloc(w->targets.naddresses + 1, sizeof *w->records);
    w->nrecords = 0;
    for (size_t i = 0; i < w->targets.naddresses; i++) {
        const struct sb_target_address *a = &w->targets.addresses[i];

        if (a->weight)
            w->records[w->nrecords++] = sb_health_enter(w->health, a->target->target, &a->addr);
    }
    qsort(w->records, w->nrecords, sizeof *w->records, by_pointer);
    for (size_t i = 0; i < nold; i++) {
        if (among(w->records, w->nrecords, old[i]))
            sb_health_leave(old[i]);
        else
            sb_health_retire(old[i]);
    }
    free(old);
}

static void every(struct event *timer, int64_t ms)
{
    struct timeval t = {ms / 1000, ms % 1000 * 1000};

    if (!event_pending(timer, EV_TIMEOUT, NULL))
        event_add(timer, &t);
}

/* The upstream, its targets or what their names stand for changed. Intervals that stay the same go
 * on as they run: an upstream whose Pods come and go is checked, too. */
static void update(struct watched *w, struct sb_arena *a, const struct sb_health_checks *checks)
{
    struct sb_arena *old = w->arena;

    w->arena = a;
    w->checks = *checks;
    w->gone_ms = 0;
    sb_targets_build(&w->targets, a, w->c->resolver, w->upstream);
    set_records(w);
    w->tls = w->c->trust;
    w->tls.skip_verify = !w->checks.https_verify;
    sb_health_trust_show(a, w->upstream->client_certificate, &w->tls);
    sb_rounds_set(w->rounds, &(struct sb_rounds_order){
                                 .checks = &w->checks,
                                 .tls = &w->tls,
                                 .host_header = sb_arena_str(a, w->upstream->host_header)});
    sb_arena_free(old);
    if (w->targets.has_names)
        every(w->c->names_timer, NAMES_CHECK_MS);
}

static struct watched *watched_of(struct sb_health_checker *c, struct sb_str name)
{
    struct watched *w = sb_map_get(&c->watched, name);

    if (w)
        return w;
    w = sb_xcalloc(1, sizeof *w + name.len + 1);
    memcpy(w->text, name.p, name.len);
    w->name = sb_str_n(w->text, name.len);
    w->c = c;
    w->health = sb_health_open(c->health, name);
    w->rounds = sb_rounds_new(c->prober, w->health);
    sb_map_set(&c->watched, w->name, w);
    return w;
}

static void forget(struct watched *w)
{
    sb_map_remove(&w->c->watched, w->name);
    sb_rounds_free(w->rounds);
    for (size_t i = 0; i < w->nrecords; i++)
        sb_health_retire(w->records[i]);
    free(w->records);
    sb_health_close(w->health);
    sb_arena_free(w->arena);
    free(w);
}

static void watch(struct sb_health_checker *c, const struct sb_upstream *up)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_health_checks checks;
    struct watched *w;

    sb_health_checks_read(a, up->entity, &checks);
    if (!checks.on) {
        sb_arena_free(a);
        return;
    }
    w = watched_of(c, up->name);
    w->upstream = up;
    update(w, a, &checks);
}

/* Its states wait a while for an upstream of that name. */
static void unwatch(struct watched *w)
{
    w->gone_ms = sb_clock_ms();
    sb_rounds_stop(w->rounds);
    every(w->c->gone_timer, KEEP_GONE_MS / 10);
}

/* -- snapshots -- */

struct change {
    const struct sb_upstream *before, *after;
};

static const void *const *chunk_of(const struct sb_slots *s, uint32_t slot)
{
    return s && slot < s->count ? s->chunks[slot >> SB_SLOT_BITS] : NULL;
}

static const struct sb_upstream *at_slot(const struct sb_slots *s, uint32_t slot)
{
    const void *const *chunk = chunk_of(s, slot);

    return chunk ? chunk[slot & ((1u << SB_SLOT_BITS) - 1)] : NULL;
}

static struct change *changes(const struct sb_slots *before, const struct sb_slots *after,
                              size_t *n)
{
    uint32_t count = before && before->count > after->count ? before->count : after->count;
    SB_VEC(struct change) found = {0};

    for (uint32_t slot = 0; slot < count; slot++) {
        struct change change = {at_slot(before, slot), at_slot(after, slot)};
        uint32_t last = slot | ((1u << SB_SLOT_BITS) - 1);

        if (slot < last && last < count && chunk_of(before, slot) == chunk_of(after, slot)) {
            slot = last; /* shared: nothing in it changed */
            continue;
        }
        if (change.before != change.after)
            sb_vec_push(&found, change);
    }
    *n = found.len;
    return found.p;
}

/* An upstream may have got another slot, so all that left are marked before any arrives. */
static void follow(struct sb_health_checker *c, struct sb_publication *p)
{
    const struct sb_slots *before = c->publication ? &c->publication->snap->upstreams : NULL;
    struct sb_publication *old = c->publication;
    struct change *list;
    size_t n;

    list = changes(before, &p->snap->upstreams, &n);
    c->publication = p;
    for (size_t i = 0; i < n; i++) {
        struct watched *w = list[i].before ? sb_map_get(&c->watched, list[i].before->name) : NULL;

        if (w && w->upstream == list[i].before)
            w->upstream = NULL;
    }
    for (size_t i = 0; i < n; i++)
        if (list[i].after)
            watch(c, list[i].after);
    for (size_t i = 0; i < n; i++) {
        struct watched *w = list[i].before ? sb_map_get(&c->watched, list[i].before->name) : NULL;

        if (w && !w->upstream && !w->gone_ms)
            unwatch(w);
    }
    free(list);
    if (old)
        sb_publication_leave(old);
}

static void on_names_timer(evutil_socket_t fd, short what, void *arg)
{
    struct sb_health_checker *c = arg;
    struct sb_map_slot *slot;
    bool any = false;

    (void)fd, (void)what;
    sb_map_each (slot, &c->watched) {
        struct watched *w = slot->value;
        struct sb_health_checks checks;
        struct sb_arena *a;

        any |= w->upstream && w->targets.has_names;
        if (!w->upstream || !sb_targets_changed(&w->targets, c->resolver))
            continue;
        a = sb_arena_new(0);
        sb_health_checks_read(a, w->upstream->entity, &checks);
        update(w, a, &checks);
    }
    if (any)
        every(c->names_timer, NAMES_CHECK_MS);
}

static void on_gone_timer(evutil_socket_t fd, short what, void *arg)
{
    struct sb_health_checker *c = arg;
    int64_t now = sb_clock_ms();
    SB_VEC(struct watched *) over = {0};
    struct sb_map_slot *slot;
    struct watched **w;
    bool more = false;

    (void)fd, (void)what;
    sb_map_each (slot, &c->watched) {
        struct watched *gone = slot->value;

        if (gone->gone_ms && now - gone->gone_ms >= KEEP_GONE_MS)
            sb_vec_push(&over, gone);
        else
            more |= gone->gone_ms != 0;
    }
    sb_vec_each (w, &over)
        forget(*w);
    sb_vec_release(&over);
    if (more)
        every(c->gone_timer, KEEP_GONE_MS / 10);
}

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
    if (call->impatient || sb_targets_wait(t, call->c->resolver, &call->waiter) != SB_AGAIN)
        return false;
    if (!call->patience) {
        call->patience = event_new(call->c->base, -1, 0, on_patience_over, call);
        every(call->patience, NAMES_WAIT_MS);
    }
    return true;
}

static const struct sb_upstream *served(const struct sb_health_checker *c, struct sb_str name)
{
    return c->publication ? sb_snapshot_upstream(c->publication->snap, name) : NULL;
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

/* "ip", "ip:port", "[ip]:port"; false: a name, which means all addresses. */
static bool split_address(struct sb_str text, union sb_sockaddr *out)
{
    enum { PORT = 8000 };
    ptrdiff_t colon = sb_str_rchr(text, ':');
    int64_t port;

    if (sb_address_parse(text, PORT, out))
        return true;
    return colon > 0 && sb_str_int(sb_str_from(text, (size_t)colon + 1), &port) && port > 0 &&
           port <= UINT16_MAX &&
           sb_address_parse(sb_str_first(text, (size_t)colon), (uint16_t)port, out);
}

static void set_target(struct watched *w, struct sb_str target, struct sb_str address, bool fit)
{
    union sb_sockaddr addr;
    bool one = address.len && split_address(address, &addr);

    (void)sb_health_force(w->health, target, one ? &addr : NULL, fit);
}

static void run_set(struct sb_health_checker *c, struct call *call)
{
    struct watched *w = sb_map_get(&c->watched, call->upstream);

    if (!w || !w->upstream) {
        answer(call, SB_NOTFOUND);
        return;
    }
    set_target(w, call->target, call->address, call->fit);
    answer(call, SB_OK);
}

/* upstream|target|address|fit */
static void hear(struct sb_health_checker *c, struct sb_str word)
{
    struct sb_str parts[4] = {{0}};
    struct sb_map_slot *slot;

    for (size_t i = 0; i < 4; i++)
        if (!sb_str_split(&word, '|', &parts[i]))
            return;
    sb_map_each (slot, &c->watched) {
        struct watched *w = slot->value;

        if (!w->upstream || !sb_str_eq(w->upstream->id, parts[0]))
            continue;
        for (size_t i = 0; i < w->upstream->ntargets; i++)
            if (sb_str_eq(w->upstream->targets[i].id, parts[1]))
                set_target(w, w->upstream->targets[i].target, parts[2], sb_str_is(parts[3], "1"));
    }
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
            follow(c, m->publication);
        else if (m->call)
            m->call->run(c, m->call);
        else if (m->word_len)
            hear(c, sb_str_n(m->word, m->word_len));
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
    bool any = true;

    for (struct message *m = take_messages(c), *next; m; m = next) {
        next = m->next;
        if (m->publication)
            sb_publication_leave(m->publication);
        free(m);
    }
    while (any) {
        struct sb_map_slot *slot;

        any = false;
        sb_map_each (slot, &c->watched) {
            forget(slot->value);
            any = true;
            break;
        }
    }
    sb_map_release(&c->watched);
    if (c->publication)
        sb_publication_leave(c->publication);
    sb_prober_free(c->prober);
    sb_http_free(c->http);
    sb_resolver_free(c->resolver);
    event_free(c->wake);
    event_free(c->names_timer);
    event_free(c->gone_timer);
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
    c->names_timer = event_new(c->base, -1, 0, on_names_timer, c);
    c->gone_timer = event_new(c->base, -1, 0, on_gone_timer, c);
    event_add(c->wake, NULL);
    c->http = sb_http_new(c->base);
    c->resolver = sb_resolver_new(c->base, s, clock_ms, NULL);
    c->prober = sb_prober_new(c->base, c->http);
    sb_health_trust_read(c->arena, s, &c->trust);
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
