/* balancer.c - wheels, counters, averages and hash rings, one set an upstream and worker.
 *
 *   entity (snapshot)  targets: a:80 w=100, b.test:80 w=50
 *   addresses          10.0.0.1:80 w=100 | 10.0.0.2:80 w=50 | 10.0.0.3:80 w=50    names resolved
 *   wheel              [ 0 0 1 2 ] shuffled        round-robin: one step a pick
 *   continuum          [ . 0 . . 2 1 . 0 ... ]     consistent hashing: slots
 *
 * A ring is rebuilt when the entity's generation or a name's answer changed. Tries under way keep
 * the ring they picked from (users), so that counters are given back where they were taken.
 *
 * (I1) A pick looks at each entry at most once: none usable is SB_NOTFOUND, never a spin.
 * (I2) Equal targets give equal continua on every node: hashing does not depend on the worker.
 */
#include "dataplane/upstream/balancer.h"

#include <arpa/inet.h>
#include <math.h>
#include <stdlib.h>

#include "dataplane/http/exchange.h"
#include "dataplane/upstream/xxhash32.h"
#include "shared/uuid.h"
#include "shared/value.h"
#include "shared/vec.h"

enum {
    NAMES_CHECK_MS = 1000, /* how often names are asked for anew */
    WHEEL_MAX = 1 << 20,
    SLOTS_MIN = 1000,
    POINTS_PER_TARGET = 160,
    EWMA_SECONDS = 10,
};

struct sb_address {
    union sb_sockaddr addr;
    const struct sb_target *target; /* of the ring's copy */
    bool is_ip;                     /* the target is given as an address */
    char text[INET6_ADDRSTRLEN + 2];
    uint16_t port;
    unsigned weight;
    unsigned active;
    double ewma;
    int64_t ewma_ms;
};

/* Where a request's hash comes from. */
enum hash_source {
    HASH_NONE,
    HASH_CONSUMER,
    HASH_IP,
    HASH_HEADER,
    HASH_COOKIE,
    HASH_PATH,
    HASH_ARG,
    HASH_CAPTURE
};

struct hash_input {
    enum hash_source source;
    struct sb_str name, path; /* path: of the cookie */
};

struct sb_ring {
    struct sb_balancer *b;
    struct sb_arena *arena;
    uint64_t generation;
    enum sb_algorithm algorithm;
    unsigned users; /* tries, and 1 for being current */
    struct sb_target *targets;
    uint64_t *name_generations; /* per target; 0: address, or nothing known yet */
    size_t ntargets;
    bool has_names;
    int64_t checked_ms;
    struct sb_address *addresses;
    size_t naddresses;
    uint64_t total_weight;
    uint32_t *wheel;
    size_t wheel_len, at;
    uint32_t *continuum; /* address + 1; 0: free */
    size_t slots;
    struct hash_input hash_on, hash_fallback;
};

struct sb_balancer {
    struct sb_worker *w;
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
    const struct sb_address *const *x = a, *const *y = b;
    int c = sb_str_cmp((*x)->target->host, (*y)->target->host);

    if (!c)
        c = (*x)->target->port - (*y)->target->port;
    if (!c)
        c = strcmp((*x)->text, (*y)->text);
    return c ? c : (*x)->port - (*y)->port;
}

static void place(struct sb_ring *r, const struct sb_address *a)
{
    uint64_t points = a->weight * (uint64_t)r->ntargets * POINTS_PER_TARGET / r->total_weight;
    uint64_t limit;
    char key[sizeof a->text + 32];

    if (a->weight == 0)
        return;
    if (points == 0)
        points = 1;
    limit = points + r->slots;
    for (uint64_t i = 1; i <= points && i <= limit; i++) {
        int n = snprintf(key, sizeof key, "%s::%u %llu", a->text, a->port, (unsigned long long)i);
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

static void add_address(struct sb_ring *r, const struct sb_target *t, const union sb_sockaddr *addr,
                        bool is_ip)
{
    struct sb_address *a = &r->addresses[r->naddresses++];
    bool v6 = addr->sa.sa_family == AF_INET6;
    char addr_text[INET6_ADDRSTRLEN];

    *a = (struct sb_address){.addr = *addr, .target = t, .is_ip = is_ip, .port = t->port};
    a->weight = t->weight > 0 ? (unsigned)t->weight : 0;
    sb_sockaddr_set_port(&a->addr, t->port);
    inet_ntop(addr->sa.sa_family,
              v6 ? (const void *)&addr->in6.sin6_addr : (const void *)&addr->in.sin_addr, addr_text,
              sizeof addr_text);
    snprintf(a->text, sizeof a->text, v6 ? "[%s]" : "%s", addr_text);
    r->total_weight += a->weight;
}

/* The addresses of one target, as far as they are known. */
static size_t resolve(struct sb_ring *r, size_t i, union sb_sockaddr *one, struct sb_resolved *out)
{
    const struct sb_target *t = &r->targets[i];

    if (sb_address_parse(t->host, t->port, one)) {
        *out = (struct sb_resolved){.addrs = one, .n = 1};
        return 1;
    }
    r->has_names = true;
    if (sb_resolver_get(r->b->w->resolver, t->host, NULL, out))
        return 0;
    r->name_generations[i] = out->generation;
    return out->n;
}

static void build_addresses(struct sb_ring *r)
{
    struct sb_resolved found;
    union sb_sockaddr one;
    size_t n = 0;

    for (size_t i = 0; i < r->ntargets; i++)
        n += resolve(r, i, &one, &found);
    r->addresses = SB_NEW_N(r->arena, struct sb_address, n + 1);
    for (size_t i = 0; i < r->ntargets; i++) {
        size_t k = resolve(r, i, &one, &found);

        for (size_t j = 0; j < k && r->naddresses < n; j++)
            add_address(r, &r->targets[i], &found.addrs[j], found.addrs == &one);
    }
}

static const struct {
    const char *name;
    enum hash_source source;
    const char *parameter;
} sources[] = {
    {"consumer", HASH_CONSUMER, NULL},
    {"ip", HASH_IP, NULL},
    {"header", HASH_HEADER, "header"},
    {"cookie", HASH_COOKIE, "cookie"},
    {"path", HASH_PATH, NULL},
    {"query_arg", HASH_ARG, "query_arg"},
    {"uri_capture", HASH_CAPTURE, "uri_capture"},
};

static struct hash_input read_hash(struct sb_arena *a, const struct sb_value *entity,
                                   const char *field)
{
    struct sb_str mode = sb_value_str_at(entity, field);
    struct hash_input in = {0};
    char name[64];

    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (!sb_str_is(mode, sources[i].name))
            continue;
        in.source = sources[i].source;
        if (in.source == HASH_COOKIE) { /* one cookie for both */
            in.name = sb_arena_str(a, sb_value_str_at(entity, "hash_on_cookie"));
            in.path = sb_arena_str(a, sb_value_str_at(entity, "hash_on_cookie_path"));
        } else if (sources[i].parameter) {
            snprintf(name, sizeof name, "%s_%s", field, sources[i].parameter);
            in.name = sb_arena_str(a, sb_value_str_at(entity, name));
        }
    }
    return in;
}

static struct sb_ring *new_ring(struct sb_balancer *b, const struct sb_upstream *up)
{
    struct sb_arena *a = sb_arena_new(0);
    struct sb_ring *r = SB_NEW(a, struct sb_ring);

    r->b = b;
    r->arena = a;
    r->generation = up->generation;
    r->algorithm = up->algorithm;
    r->users = 1;
    r->ntargets = up->ntargets;
    r->checked_ms = sb_now_ms(b->w);
    r->targets = SB_NEW_N(a, struct sb_target, up->ntargets + 1);
    r->name_generations = SB_NEW_N(a, uint64_t, up->ntargets + 1);
    for (size_t i = 0; i < up->ntargets; i++) { /* copied: tries may outlive the snapshot's use */
        r->targets[i] = up->targets[i];
        r->targets[i].host = sb_arena_str(a, up->targets[i].host);
        r->targets[i].target = sb_arena_str(a, up->targets[i].target);
    }
    build_addresses(r);
    if (r->algorithm == SB_ALGO_CONSISTENT_HASHING) {
        r->hash_on = read_hash(a, up->entity, "hash_on");
        r->hash_fallback = read_hash(a, up->entity, "hash_fallback");
        build_continuum(r, up->slots);
    }
    build_wheel(r);
    return r;
}

static void leave_ring(struct sb_ring *r)
{
    if (--r->users == 0)
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

/* Whether some name's answer is another one now. Asking also renews answers that expired. */
static bool names_changed(struct sb_ring *r, int64_t now)
{
    struct sb_resolved found;
    bool changed = false;

    if (!r->has_names || (now - r->checked_ms < NAMES_CHECK_MS && r->naddresses))
        return false;
    r->checked_ms = now;
    for (size_t i = 0; i < r->ntargets; i++) {
        union sb_sockaddr one;

        if (sb_address_parse(r->targets[i].host, 0, &one))
            continue;
        if (sb_resolver_get(r->b->w->resolver, r->targets[i].host, NULL, &found))
            found.generation = 0;
        changed |= found.generation != r->name_generations[i];
    }
    return changed;
}

/* Running averages and counters of addresses that are still there go on. */
static void inherit(struct sb_ring *r, const struct sb_ring *old)
{
    for (size_t i = 0; i < r->naddresses; i++)
        for (size_t k = 0; k < old->naddresses; k++)
            if (memcmp(&r->addresses[i].addr, &old->addresses[k].addr,
                       sizeof r->addresses[i].addr) == 0) {
                r->addresses[i].ewma = old->addresses[k].ewma;
                r->addresses[i].ewma_ms = old->addresses[k].ewma_ms;
            }
}

static struct sb_ring *ring_for(struct sb_balancer *b, const struct sb_upstream *up)
{
    struct sb_ring *r, *fresh;

    while (b->rings.len <= up->slot)
        sb_vec_push(&b->rings, NULL);
    r = b->rings.p[up->slot];
    if (r && r->generation == up->generation && !names_changed(r, sb_now_ms(b->w)))
        return r;
    fresh = new_ring(b, up);
    b->rings.p[up->slot] = fresh;
    if (r) { /* perhaps of another upstream: what is inherited is bound to addresses */
        inherit(fresh, r);
        leave_ring(r);
    }
    return fresh;
}

/* -- what to hash -- */

static struct sb_str cookie_value(const struct sb_exchange *x, struct sb_str name)
{
    for (size_t i = 0; i < x->req.nheaders; i++) {
        struct sb_str rest = x->req.headers[i].value, pair;

        if (x->req.ids[i] != SB_H_COOKIE)
            continue;
        while (sb_str_split(&rest, ';', &pair)) {
            pair = sb_str_trim(pair);
            if (pair.len > name.len && pair.p[name.len] == '=' &&
                sb_str_eq(sb_str_first(pair, name.len), name))
                return sb_str_from(pair, name.len + 1);
        }
    }
    return (struct sb_str){0};
}

/* A client without the cookie gets one. */
static struct sb_str new_cookie(struct sb_exchange *x, const struct hash_input *in)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_uuid uuid = sb_uuid_v4();
    char text[SB_UUID_TEXT_LEN + 1];
    struct sb_str value, path = in->path.len ? in->path : SB_STR("/");

    sb_uuid_format(&uuid, text);
    value = sb_arena_str(a, sb_str_c(text));
    sb_exchange_add_header(x, SB_STR("Set-Cookie"),
                           sb_arena_printf(a, "%.*s=%s; Path=%.*s; SameSite=Lax; HttpOnly",
                                           SB_ARG(in->name), text, SB_ARG(path)));
    return value;
}

static struct sb_str header_values(struct sb_exchange *x, struct sb_str name)
{
    struct sb_str all = {0};

    for (size_t i = 0; i < x->req.nheaders; i++) {
        if (!sb_str_ieq(x->req.headers[i].name, name))
            continue;
        all = all.p ? sb_arena_printf(sb_exchange_arena(x), "%.*s, %.*s", SB_ARG(all),
                                      SB_ARG(x->req.headers[i].value))
                    : x->req.headers[i].value;
    }
    return all;
}

static int by_str(const void *a, const void *b)
{
    const struct sb_str *x = a, *y = b;

    return sb_str_cmp(*x, *y);
}

static struct sb_str decoded(struct sb_arena *a, struct sb_str s)
{
    char *out = sb_arena_alloc(a, s.len);
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        unsigned byte;

        if (s.p[i] == '%' && i + 2 < s.len && sscanf(s.p + i + 1, "%2x", &byte) == 1) {
            out[n++] = (char)byte;
            i += 2;
        } else {
            out[n++] = s.p[i] == '+' ? ' ' : s.p[i];
        }
    }
    return sb_str_n(out, n);
}

/* Sorted and joined; an argument without '=' is "true". */
static struct sb_str query_values(struct sb_exchange *x, struct sb_str name)
{
    struct sb_arena *a = sb_exchange_arena(x);
    struct sb_str rest = x->req.has_query ? x->req.query : (struct sb_str){0}, piece;
    struct sb_str found[100], all = {0};
    size_t n = 0, looked = 0;

    while (n < 100 && looked++ < 100 && sb_str_split(&rest, '&', &piece)) {
        ptrdiff_t eq = sb_str_chr(piece, '=', 0);
        struct sb_str key = eq < 0 ? piece : sb_str_first(piece, (size_t)eq);

        if (sb_str_eq(decoded(a, key), name))
            found[n++] = eq < 0 ? SB_STR("true") : decoded(a, sb_str_from(piece, (size_t)eq + 1));
    }
    qsort(found, n, sizeof *found, by_str);
    for (size_t i = 0; i < n; i++)
        all = i ? sb_arena_printf(a, "%.*s,%.*s", SB_ARG(all), SB_ARG(found[i])) : found[i];
    return all;
}

static struct sb_str hash_value(struct sb_exchange *x, const struct hash_input *in)
{
    switch (in->source) {
    case HASH_IP:
        return x->client_ip;
    case HASH_HEADER:
        return header_values(x, in->name);
    case HASH_COOKIE: {
        struct sb_str value = cookie_value(x, in->name);

        return value.p ? value : new_cookie(x, in);
    }
    case HASH_PATH:
        return x->path;
    case HASH_ARG:
        return query_values(x, in->name);
    default: /* consumers and captures are not known to the engine yet */
        return (struct sb_str){0};
    }
}

/* -- picking -- */

static bool usable(const struct sb_exchange *x, const struct sb_ring *r, uint32_t i, bool again)
{
    const struct sb_address *a = &r->addresses[i];

    if (a->weight == 0)
        return false;
    if (again || x->pick.ntried == 0)
        return true;
    for (size_t k = 0; k < x->pick.ntried; k++)
        if (memcmp(&x->pick.tried[k], &a->addr, sizeof a->addr) == 0)
            return false;
    return true;
}

static struct sb_address *pick_wheel(struct sb_exchange *x, struct sb_ring *r, bool again)
{
    for (size_t n = 0; n < r->wheel_len; n++) {
        uint32_t i = r->wheel[r->at++ % r->wheel_len];

        if (usable(x, r, i, again))
            return &r->addresses[i];
    }
    return NULL;
}

static struct sb_address *pick_least(struct sb_exchange *x, struct sb_ring *r, bool again)
{
    struct sb_address *best = NULL;

    for (size_t n = 0; n < r->naddresses; n++) {
        struct sb_address *a = &r->addresses[(n + r->at) % r->naddresses];

        if (!usable(x, r, (uint32_t)(a - r->addresses), again))
            continue;
        if (!best || (a->active + 1.0) / a->weight < (best->active + 1.0) / best->weight)
            best = a;
    }
    r->at++; /* equals take turns */
    return best;
}

static double decayed(const struct sb_address *a, int64_t now_ms)
{
    return a->ewma * exp(-(double)(now_ms - a->ewma_ms) / 1000 / EWMA_SECONDS);
}

static struct sb_address *pick_latency(struct sb_exchange *x, struct sb_ring *r, bool again)
{
    int64_t now_ms = sb_now_ms(x->w);
    struct sb_address *best = NULL;
    double best_score = 0;

    for (size_t n = 0; n < r->naddresses; n++) {
        struct sb_address *a = &r->addresses[(n + r->at) % r->naddresses];
        double score;

        if (!usable(x, r, (uint32_t)(a - r->addresses), again))
            continue;
        score = decayed(a, now_ms) / a->weight;
        if (!best || score < best_score) {
            best = a;
            best_score = score;
        }
    }
    r->at++;
    return best;
}

static struct sb_address *pick_hash(struct sb_exchange *x, struct sb_ring *r, bool again)
{
    struct sb_pick *p = &x->pick;

    if (!p->hashed) {
        struct sb_str value = hash_value(x, &r->hash_on);

        if (!value.p)
            value = hash_value(x, &r->hash_fallback);
        p->hashed = true;
        p->has_hash = value.p != NULL;
        p->hash = p->has_hash ? sb_xxhash32(value) : 0;
    }
    if (!p->has_hash) /* nothing to hash: better spread than all to one */
        return pick_wheel(x, r, again);
    for (size_t n = 0, slot = p->hash % r->slots; n < r->slots; n++) {
        uint32_t i = r->continuum[slot];

        if (i && usable(x, r, i - 1, again))
            return &r->addresses[i - 1];
        slot = slot ? slot - 1 : r->slots - 1;
    }
    return NULL;
}

static struct sb_address *pick_address(struct sb_exchange *x, struct sb_ring *r, bool again)
{
    static struct sb_address *(*const algorithms[])(struct sb_exchange *, struct sb_ring *,
                                                    bool) = {
        [SB_ALGO_ROUND_ROBIN] = pick_wheel,
        [SB_ALGO_CONSISTENT_HASHING] = pick_hash,
        [SB_ALGO_LEAST_CONNECTIONS] = pick_least,
        [SB_ALGO_LATENCY] = pick_latency,
    };

    return r->wheel_len ? algorithms[r->algorithm](x, r, again) : NULL;
}

/* No address yet: a target's name may still be on its way. */
static enum sb_rc wait_for_names(struct sb_exchange *x, struct sb_ring *r)
{
    struct sb_resolved found;
    union sb_sockaddr one;

    for (size_t i = 0; i < r->ntargets; i++) {
        const struct sb_target *t = &r->targets[i];

        if (t->weight > 0 && !sb_address_parse(t->host, 0, &one) &&
            sb_resolver_get(x->w->resolver, t->host, &x->pick.waiter, &found) == SB_AGAIN)
            return SB_AGAIN;
    }
    return SB_NOTFOUND;
}

enum sb_rc sb_balancer_pick(struct sb_balancer *b, struct sb_exchange *x)
{
    struct sb_ring *r = ring_for(b, x->upstream);
    struct sb_pick *p = &x->pick;
    struct sb_address *a = pick_address(x, r, false);

    if (!a)
        a = pick_address(x, r, true); /* all were tried: start over */
    if (!a)
        return wait_for_names(x, r);
    r->users++;
    a->active++;
    p->ring = r;
    p->address = a;
    p->addr = a->addr;
    p->port = a->port;
    p->is_ip = a->is_ip;
    p->name = a->target->host;
    p->picked_ms = sb_now_ms(x->w);
    if (p->ntried < SB_PICK_TRIED_MAX)
        p->tried[p->ntried++] = a->addr;
    return SB_OK;
}

/* The average moves with requests that needed one try. */
static void note_latency(struct sb_exchange *x, struct sb_address *a)
{
    int64_t now_ms = sb_now_ms(x->w);
    double decay = exp(-(double)(now_ms - a->ewma_ms) / 1000 / EWMA_SECONDS);
    double rtt = x->pick.ntried == 1 ? (double)(now_ms - x->pick.picked_ms) / 1000 : 0;

    a->ewma = a->ewma * decay + rtt * (1 - decay);
    a->ewma_ms = now_ms;
}

void sb_balancer_done(struct sb_exchange *x)
{
    struct sb_pick *p = &x->pick;

    p->address->active--;
    if (p->ring->algorithm == SB_ALGO_LATENCY)
        note_latency(x, p->address);
    leave_ring(p->ring);
    p->ring = NULL;
    p->address = NULL;
}
