/* health_watch.c - which upstreams are checked, and where their targets are.
 *
 *   watched["a.up"]  targets, records in health.h | rounds of probes
 *
 * The cost of a snapshot does not grow with the upstreams that it left alone: snapshots share the
 * chunks of their table of upstreams, and equal chunks are passed over.
 */
#include "dataplane/upstream/health_watch.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dataplane/listen/worker.h"
#include "dataplane/upstream/health.h"
#include "dataplane/upstream/health_rounds.h"
#include "dataplane/upstream/health_trust.h"
#include "dataplane/upstream/targets.h"
#include "shared/clock.h"
#include "shared/map.h"
#include "shared/vec.h"

enum { NAMES_CHECK_MS = 1000, KEEP_GONE_MS = 300 * 1000 };

/* An upstream that is checked, or was until lately. */
struct watched {
    struct sb_health_watch *c;
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

struct sb_health_watch {
    struct event *names_timer, *gone_timer;
    struct sb_resolver *resolver;
    struct sb_health *health;
    struct sb_prober *prober;
    struct sb_publication *publication;
    struct sb_map watched;
    struct sb_http_tls trust; /* of the settings */
};

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

static struct watched *watched_of(struct sb_health_watch *c, struct sb_str name)
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

static void watch(struct sb_health_watch *c, const struct sb_upstream *up)
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
void sb_health_watch_follow(struct sb_health_watch *c, struct sb_publication *p)
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
    struct sb_health_watch *c = arg;
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
    struct sb_health_watch *c = arg;
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

const struct sb_snapshot *sb_health_watch_snapshot(const struct sb_health_watch *c)
{
    return c->publication ? c->publication->snap : NULL;
}

/* -- what people say -- */

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

bool sb_health_watch_set(struct sb_health_watch *c, struct sb_str upstream, struct sb_str target,
                         struct sb_str address, bool fit)
{
    struct watched *w = sb_map_get(&c->watched, upstream);

    if (!w || !w->upstream)
        return false;
    set_target(w, target, address, fit);
    return true;
}

void sb_health_watch_hear(struct sb_health_watch *c, struct sb_str word)
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

/* -- starting -- */

struct sb_health_watch *sb_health_watch_new(struct event_base *base, struct sb_resolver *resolver,
                                            struct sb_health *health,
                                            const struct sb_http_tls *trust)
{
    struct sb_health_watch *c = sb_xcalloc(1, sizeof *c);

    c->names_timer = event_new(base, -1, 0, on_names_timer, c);
    c->gone_timer = event_new(base, -1, 0, on_gone_timer, c);
    c->prober = sb_prober_new(base);
    c->resolver = resolver;
    c->health = health;
    c->trust = *trust;
    return c;
}

void sb_health_watch_free(struct sb_health_watch *c)
{
    bool any = true;

    while (any) { /* forgetting one changes the map */
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
    event_free(c->names_timer);
    event_free(c->gone_timer);
    free(c);
}
