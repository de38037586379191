/* balancer.c - wheels, counters, averages and hash rings, one set an upstream and worker.
 *
 *   entity (snapshot)  targets: a:80 w=100, b.test:80 w=50
 *   addresses          10.0.0.1:80 w=100 | 10.0.0.2:80 w=50 | 10.0.0.3:80 w=50    names resolved
 *   peers              active, average | health           the same ones from ring to ring
 *   wheel              [ 0 0 1 2 ] shuffled        round-robin: one step a pick
 *   continuum          [ . 0 . . 2 1 . 0 ... ]     consistent hashing: slots
 *
 * A ring is built when it is first picked from after the entity's generation or a name's answer
 * changed: many changes between two picks cost one build. Tries under way keep the ring they picked
 * from (users). What the health of addresses does to a ring is one bit an address, looked at anew
 * when the node's generation of it moved.
 *
 * (I1) A pick looks at each entry at most once: none usable is SB_NOTFOUND, never a spin.
 * (I2) Equal targets give equal continua on every node: hashing does not depend on the worker.
 */
#include "dataplane/upstream/balancer.h"

#include <math.h>
#include <stdlib.h>

#include "dataplane/upstream/balancer_hash.h"
#include "dataplane/upstream/health.h"
#include "dataplane/upstream/targets.h"
#include "dataplane/upstream/xxhash32.h"
#include "shared/map.h"
#include "shared/vec.h"

enum {
    NAMES_CHECK_MS = 1000, /* how often names are asked for anew */
    WHEEL_MAX = 1 << 20,
    SLOTS_MIN = 1000,
    POINTS_PER_TARGET = 160,
    EWMA_SECONDS = 10,
};

/* What a worker remembers of an address, longer than a ring lives. */
struct peer {
    unsigned users; /* rings */
    unsigned active;
    double ewma;
    int64_t ewma_ms;
    struct sb_health_address *health; /* NULL: no checks */
    struct sb_str key;                /* target and address */
    char text[];
};

struct sb_address {
    const struct sb_target_address *at;
    struct peer *peer;
    unsigned weight;
    bool down;
};

struct sb_ring {
    struct sb_balancer *b;
    struct sb_arena *arena;
    struct sb_str upstream; /* id */
    uint64_t generation;
    enum sb_algorithm algorithm;
    unsigned users; /* tries, and 1 for being current */
    int64_t checked_ms;
    struct sb_targets targets;
    struct sb_address *addresses;
    size_t naddresses;
    uint64_t total_weight, down_weight;
    uint32_t *wheel;
    size_t wheel_len, at;
    uint32_t *continuum; /* address + 1; 0: free */
    size_t slots;
    struct sb_hash_inputs hash;
    struct sb_health_checks checks;
    struct sb_health_upstream *health; /* NULL: no checks */
    uint64_t health_generation;
};

struct sb_balancer {
    struct sb_worker *w;
    uint64_t builds;
    SB_VEC(struct sb_ring *) rings; /* by slot of the upstream; NULL: none yet */
};

/* -- building -- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t t = a % b;

        a = b;
        b = t;
    }
    return a;
}

static void build_wheel(struct sb_ring *r)
{
    uint64_t divisor = 0;
    size_t n = 0;

    for (size_t i = 0; i < r->naddresses; i++)
        divisor = gcd(r->addresses[i].weight, divisor);
    if (divisor == 0)
        return;
    while (r->total_weight / divisor > WHEEL_MAX)
        divisor *= 2;
    r->wheel = SB_NEW_N(r->arena, uint32_t, r->total_weight / divisor + r->naddresses);
    for (size_t i = 0; i < r->naddresses; i++) {
        uint64_t share = r->addresses[i].weight / divisor;

        if (r->addresses[i].weight && share == 0)
            share = 1;
        while (share--)
            r->wheel[n++] = (uint32_t)i;
    }
    r->wheel_len = n;
    for (size_t i = n; i > 1; i--) { /* Fisher and Yates */
        size_t k = sb_worker_random(r->b->w) % i;
        uint32_t t = r->wheel[i - 1];

        r->wheel[i - 1] = r->wheel[k];
        r->wheel[k] = t;
    }
}

static int by_text(const void *a, const void *b)
{
    const struct sb_target_address *x = (*(const struct sb_address *const *)a)->at;
    const struct sb_target_address *y = (*(const struct sb_address *const *)b)->at;
    int c = sb_str_cmp(x->target->host, y->target->host);

    if (!c)
        c = x->target->port - y->target->port;
    if (!c)
        c = sb_str_cmp(x->text, y->text);
    return c ? c : x->port - y->port;
}

static void place(struct sb_ring *r, const struct sb_address *a)
{
    uint64_t points =
        a->weight * (uint64_t)r->targets.ntargets * POINTS_PER_TARGET / r->total_weight;
    char key[SB_DNS_NAME_MAX + 64];
    uint64_t limit;

    if (a->weight == 0)
        return;
    if (points == 0)
        points = 1;
    limit = points + r->slots;
    for (uint64_t i = 1; i <= points && i <= limit; i++) {
        int n = snprintf(key, sizeof key, "%.*s::%u %llu", SB_ARG(a->at->text), a->at->port,
                         (unsigned long long)i);
        uint32_t *slot = &r->continuum[sb_xxhash32(sb_str_n(key, (size_t)n)) % r->slots];

        if (*slot)
            points++; /* taken: one more point is tried */
        else
            *slot = (uint32_t)(a - r->addresses) + 1;
    }
}

static void build_continuum(struct sb_ring *r, int slots)
{
    struct sb_address **sorted = SB_NEW_N(r->arena, struct sb_address *, r->naddresses + 1);

    r->slots = slots < SLOTS_MIN ? SLOTS_MIN : (size_t)slots;
    r->continuum = SB_NEW_N(r->arena, uint32_t, r->slots);
    for (size_t i = 0; i < r->naddresses; i++)
        sorted[i] = &r->addresses[i];
    qsort(sorted, r->naddresses, sizeof *sorted, by_text);
    for (size_t i = 0; i < r->naddresses && r->total_weight; i++)
        place(r, sorted[i]);
}

/* -- peers -- */

static void leave_peer(struct peer *p)
{
    if (--p->users)
        return;
    sb_health_leave(p->health);
    free(p);
}

static struct peer *new_peer(struct sb_str key)
{
    struct peer *p = sb_xcalloc(1, sizeof *p + key.len);

    memcpy(p->text, key.p, key.len);
    p->key = sb_str_n(p->text, key.len);
    return p;
}

/* The peer of an address: the one that the ring before had, if any. */
static void set_peer(struct sb_ring *r, const struct sb_map *before, struct sb_address *a)
{
    struct sb_str target = sb_str_first(a->at->target->target, SB_DNS_NAME_MAX + 8);
    char text[SB_DNS_NAME_MAX + 8 + sizeof a->at->addr];
    struct sb_str key = {text, target.len + sizeof a->at->addr};
    struct sb_health_address *health;

    memcpy(text, target.p, target.len);
    memcpy(text + target.len, &a->at->addr, sizeof a->at->addr);
    a->peer = sb_map_get(before, key);
    if (!a->peer)
        a->peer = new_peer(key);
    a->peer->users++;
    health = a->peer->health; /* entered anew: the target may have been gone meanwhile */
    a->peer->health = NULL;
    if (r->health && a->weight)
        a->peer->health = sb_health_enter(r->health, a->at->target->target, &a->at->addr);
    sb_health_leave(health);
}

static void set_peers(struct sb_ring *r, const struct sb_ring *old)
{
    struct sb_map before = {0};

    for (size_t i = 0; old && i < old->naddresses; i++)
        (void)sb_map_set(&before, old->addresses[i].peer->key, old->addresses[i].peer);
    for (size_t i = 0; i < r->naddresses; i++)
        set_peer(r, &before, &r->addresses[i]);
    sb_map_release(&before);
}

static void build_addresses(struct sb_ring *r)
{
    r->naddresses = r->targets.naddresses;
    r->total_weight = r->targets.total_weight;
    r->addresses = SB_NEW_N(r->arena, struct sb_address, r->naddresses + 1);
    for (size_t i = 0; i < r->naddresses; i++) {
        r->addresses[i].at = &r->targets.addresses[i];
        r->addresses[i].weight = r->targets.addresses[i].weight;
    }
}

/* -- rings -- */

/* Which addresses are fit, as of the node's generation. */
static void look_at_health(struct sb_ring *r)
{
    r->down_weight = 0;
    r->health_generation = sb_health_generation(r->health);
    for (size_t i = 0; i < r->naddresses; i++) {
        struct sb_address *a = &r->addresses[i];

        a->down = a->peer->health && sb_health_is_down(a->peer->health);
        r->down_weight += a->down ? a->weight : 0;
    }
}

static struct sb_ring *new_ring(struct sb_balancer *b, const struct sb_upstream *up,
                                const struct sb_ring *old)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_ring *r = SB_NEW(a, struct sb_ring);

    r->b = b;
    r->arena = a;
    r->upstream = sb_arena_str(a, up->id);
    r->generation = up->generation;
    r->algorithm = up->algorithm;
    r->users = 1;
    r->checked_ms = sb_now_ms(b->w);
    sb_health_checks_read(a, up->entity, &r->checks);
    if (r->checks.on)
        r->health = sb_health_open(b->w->health, up->name);
    sb_targets_build(&r->targets, a, b->w->resolver, up);
    build_addresses(r);
    set_peers(r, old);
    if (r->health)
        look_at_health(r);
    if (r->algorithm == SB_ALGO_CONSISTENT_HASHING) {
        sb_hash_inputs_read(a, up->entity, &r->hash);
        build_continuum(r, up->slots);
    } else if (r->algorithm == SB_ALGO_ROUND_ROBIN) {
        build_wheel(r);
    }
    b->builds++;
    return r;
}

static void leave_ring(struct sb_ring *r)
{
    if (--r->users)
        return;
    for (size_t i = 0; i < r->naddresses; i++)
        leave_peer(r->addresses[i].peer);
    sb_health_close(r->health);
    sb_arena_free(r->arena);
}

struct sb_balancer *sb_balancer_new(struct sb_worker *w)
{
    struct sb_balancer *b = sb_xcalloc(1, sizeof *b);

    b->w = w;
    return b;
}

void sb_balancer_free(struct sb_balancer *b)
{
    struct sb_ring **r;

    if (!b)
        return;
    sb_vec_each (r, &b->rings)
        if (*r)
            leave_ring(*r);
    sb_vec_release(&b->rings);
    free(b);
}

uint64_t sb_balancer_builds(const struct sb_balancer *b)
{
    return b->builds;
}

static bool names_changed(struct sb_ring *r)
{
    int64_t now = sb_now_ms(r->b->w);

    if (!r->targets.has_names || (now - r->checked_ms < NAMES_CHECK_MS && r->naddresses))
        return false;
    r->checked_ms = now;
    return sb_targets_changed(&r->targets, r->b->w->resolver);
}

/* An exchange of an older snapshot goes on with what newer ones built. */
static bool is_current(const struct sb_ring *r, const struct sb_upstream *up)
{
    return r->generation == up->generation ||
           (r->generation > up->generation && sb_str_eq(r->upstream, up->id));
}

static struct sb_ring *ring_for(struct sb_balancer *b, const struct sb_upstream *up)
{
    struct sb_ring *r, *fresh;
    bool same;

    while (b->rings.len <= up->slot)
        sb_vec_push(&b->rings, NULL);
    r = b->rings.p[up->slot];
    if (r && is_current(r, up) && !(r->generation == up->generation && names_changed(r)))
        return r;
    same = r && sb_str_eq(r->upstream, up->id);
    fresh = new_ring(b, up, same ? r : NULL);
    b->rings.p[up->slot] = fresh;
    if (r)
        leave_ring(r);
    return fresh;
}

/* -- picking -- */

static bool usable(const struct sb_pick *p, const struct sb_address *a, bool again)
{
    if (a->weight == 0 || a->down)
        return false;
    if (again || p->ntried == 0)
        return true;
    for (size_t k = 0; k < p->ntried; k++)
        if (memcmp(&p->tried[k], &a->at->addr, sizeof a->at->addr) == 0)
            return false;
    return true;
}

static struct sb_address *pick_wheel(struct sb_pick *p, struct sb_ring *r, bool again)
{
    for (size_t n = 0; n < r->wheel_len; n++) {
        struct sb_address *a = &r->addresses[r->wheel[r->at++ % r->wheel_len]];

        if (usable(p, a, again))
            return a;
    }
    return NULL;
}

static struct sb_address *pick_least(struct sb_pick *p, struct sb_ring *r, bool again)
{
    struct sb_address *best = NULL;
    double best_load = 0;

    for (size_t n = 0; n < r->naddresses; n++) {
        struct sb_address *a = &r->addresses[(n + r->at) % r->naddresses];
        double load;

        if (!usable(p, a, again))
            continue;
        load = (a->peer->active + 1.0) / a->weight;
        if (!best || load < best_load) {
            best = a;
            best_load = load;
        }
    }
    r->at++; /* equals take turns */
    return best;
}

static double decayed(const struct peer *p, int64_t now_ms)
{
    return p->ewma * exp(-(double)(now_ms - p->ewma_ms) / 1000 / EWMA_SECONDS);
}

static struct sb_address *pick_latency(struct sb_pick *p, struct sb_ring *r, bool again)
{
    int64_t now_ms = sb_now_ms(r->b->w);
    struct sb_address *best = NULL;
    double best_score = 0;

    for (size_t n = 0; n < r->naddresses; n++) {
        struct sb_address *a = &r->addresses[(n + r->at) % r->naddresses];
        double score;

        if (!usable(p, a, again))
            continue;
        score = decayed(a->peer, now_ms) / a->weight;
        if (!best || score < best_score) {
            best = a;
            best_score = score;
        }
    }
    r->at++;
    return best;
}

static struct sb_address *pick_hash(struct sb_pick *p, struct sb_ring *r, bool again)
{
    for (size_t n = 0, slot = p->hash % r->slots; n < r->slots; n++) {
        uint32_t i = r->continuum[slot];

        if (i && usable(p, &r->addresses[i - 1], again))
            return &r->addresses[i - 1];
        slot = slot ? slot - 1 : r->slots - 1;
    }
    return NULL;
}

/* Enough of the weight must be available. */
static bool is_fit(struct sb_ring *r)
{
    if (r->total_weight == 0)
        return false;
    if (!r->health)
        return true;
    if (r->health_generation != sb_health_generation(r->health))
        look_at_health(r);
    return sb_health_enough(&r->checks, r->total_weight, r->down_weight);
}

static struct sb_address *pick_address(struct sb_pick *p, struct sb_ring *r)
{
    static struct sb_address *(*const algorithms[])(struct sb_pick *, struct sb_ring *, bool) = {
        [SB_ALGO_ROUND_ROBIN] = pick_wheel,
        [SB_ALGO_CONSISTENT_HASHING] = pick_hash,
        [SB_ALGO_LEAST_CONNECTIONS] = pick_least,
        [SB_ALGO_LATENCY] = pick_latency,
    };
    struct sb_address *a;

    if (!is_fit(r))
        return NULL;
    a = algorithms[r->algorithm](p, r, false);
    return a ? a : algorithms[r->algorithm](p, r, true); /* all were tried: start over */
}

enum sb_rc sb_balancer_pick(struct sb_balancer *b, const struct sb_upstream *up, struct sb_pick *p,
                            sb_hash_fn hash, void *request)
{
    struct sb_ring *r = ring_for(b, up);
    struct sb_address *a;

    if (r->algorithm == SB_ALGO_CONSISTENT_HASHING && !p->hashed) {
        p->hash = hash(request, &r->hash);
        p->hashed = true;
    }
    a = pick_address(p, r);
    if (!a) /* a target's name may still be on its way */
        return r->total_weight ? SB_NOTFOUND
                               : sb_targets_wait(&r->targets, b->w->resolver, &p->waiter);
    r->users++;
    a->peer->active++;
    p->ring = r;
    p->address = a;
    p->addr = a->at->addr;
    p->port = a->at->port;
    p->is_ip = a->at->is_ip;
    p->name = a->at->name;
    p->picked_ms = sb_now_ms(b->w);
    if (p->ntried < SB_PICK_TRIED_MAX)
        p->tried[p->ntried++] = a->at->addr;
    return SB_OK;
}

/* -- afterwards -- */

void sb_balancer_report(struct sb_pick *p, enum sb_try_end end)
{
    if (p->address && p->address->peer->health)
        sb_health_report(p->address->peer->health, &p->ring->checks.passive,
                         end == SB_TRY_TIMEOUT ? SB_HEALTH_TIMEOUT : SB_HEALTH_TCP_FAILURE);
}

void sb_balancer_report_status(struct sb_pick *p, int status)
{
    if (p->address && p->address->peer->health)
        sb_health_report_status(p->address->peer->health, &p->ring->checks.passive, status);
}

/* The average moves with requests that needed one try. */
static void note_latency(struct sb_pick *p, struct peer *peer)
{
    int64_t now_ms = sb_now_ms(p->ring->b->w);
    double decay = exp(-(double)(now_ms - peer->ewma_ms) / 1000 / EWMA_SECONDS);
    double rtt = p->ntried == 1 ? (double)(now_ms - p->picked_ms) / 1000 : 0;

    peer->ewma = peer->ewma * decay + rtt * (1 - decay);
    peer->ewma_ms = now_ms;
}

void sb_balancer_done(struct sb_pick *p)
{
    p->address->peer->active--;
    if (p->ring->algorithm == SB_ALGO_LATENCY)
        note_latency(p, p->address->peer);
    leave_ring(p->ring);
    p->ring = NULL;
    p->address = NULL;
}
