/* health.c - states and counters of addresses, and the registry that names them.
 *
 * A state is one word, so that a report is one compare-and-swap:
 *
 *     63 ........ 40 | 39..32   31..24  23..16  15..8    | 1..0
 *     (nothing)      | timeouts tcp     http    successes| level
 *
 *     UP  <->  UP_BUT (failures were counted)  ->  DOWN  <->  DOWN_BUT (successes were)  ->  UP
 *
 * (I1) A success that finds UP and a failure that finds DOWN change nothing: the common case of a
 *      healthy target is a load. (I2) The generation moves after the state, so who reads it first
 *      never remembers an old state under a new generation.
 *
 * Lock: registry.lock guards the maps and all counts of users; rank: leaf, nothing is taken or
 * called under it.
 */
#include "dataplane/upstream/health.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "shared/err.h"
#include "shared/log.h"
#include "shared/map.h"

enum level { UP, UP_BUT, DOWN, DOWN_BUT, LEVEL_BITS = 3 };

enum { TARGET_MAX = 300, KEY_MAX = TARGET_MAX + 32 }; /* a name has 253 at most */

struct sb_health_address {
    _Atomic uint64_t state;
    struct sb_health_upstream *of;
    union sb_sockaddr addr;
    unsigned users;
    bool listed; /* in the upstream's map */
    struct sb_str target, key;
    char text[]; /* the key: target, then address */
};

struct sb_health_upstream {
    _Atomic uint64_t generation;
    struct sb_health *h;
    unsigned users; /* openers, and records */
    struct sb_map addresses;
    struct sb_str name;
    char text[];
};

struct sb_health {
    struct {
        pthread_mutex_t lock;
        struct sb_map upstreams;
    } registry;
};

/* -- the state of an address -- */

static unsigned count_of(uint64_t state, enum sb_health_report what)
{
    return (unsigned)(state >> (8 + 8 * (unsigned)what)) & 0xFF;
}

static uint64_t with_count(uint64_t state, enum sb_health_report what, unsigned count)
{
    unsigned shift = 8 + 8 * (unsigned)what;

    return (state & ~(UINT64_C(0xFF) << shift)) | (uint64_t)count << shift;
}

static bool is_down(uint64_t state)
{
    return (state & LEVEL_BITS) >= DOWN;
}

/* What a report makes of a state. A success forgets all failures, a failure the successes. */
static uint64_t after(uint64_t state, enum sb_health_report what, unsigned limit)
{
    static const uint64_t successes = UINT64_C(0xFF) << 8;
    enum level level = (enum level)(state & LEVEL_BITS);
    enum level full = what == SB_HEALTH_SUCCESS ? UP : DOWN;
    unsigned count = count_of(state, what);
    uint64_t counts;

    if (limit == 0 || level == full)
        return state;
    if (count < 0xFF)
        count++;
    counts = with_count(state & ~(uint64_t)LEVEL_BITS, what, count);
    counts &= what == SB_HEALTH_SUCCESS ? successes : ~successes;
    if (count >= limit)
        level = full;
    else if (level == UP)
        level = UP_BUT;
    else if (level == DOWN)
        level = DOWN_BUT;
    return counts | level;
}

/* The event of a change: everyone who serves the upstream looks anew, and the log has a line. */
static void changed(struct sb_health_address *a, bool down, const char *why)
{
    char ip[SB_ADDRESS_TEXT];

    atomic_fetch_add_explicit(&a->of->generation, 1, memory_order_release);
    sb_log(down ? SB_LOG_WARN : SB_LOG_NOTICE, "upstream %.*s: target %.*s at %s:%u is %s: %s",
           SB_ARG(a->of->name), SB_ARG(a->target), sb_address_text(&a->addr, ip),
           ntohs(a->addr.in.sin_port), down ? "unhealthy" : "healthy", why);
}

bool sb_health_is_down(const struct sb_health_address *a)
{
    return is_down(atomic_load_explicit(&a->state, memory_order_acquire));
}

void sb_health_report(struct sb_health_address *a, const struct sb_health_limits *l,
                      enum sb_health_report what)
{
    static const char *const words[SB_HEALTH_REPORTS] = {
        "enough successes", "too many HTTP failures", "too many TCP failures", "too many timeouts"};
    uint64_t was = atomic_load_explicit(&a->state, memory_order_relaxed), is;

    do {
        is = after(was, what, l->limit[what]);
        if (is == was)
            return;
    } while (!atomic_compare_exchange_weak_explicit(&a->state, &was, is, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (is_down(was) != is_down(is))
        changed(a, is_down(is), words[what]);
}

static bool has_status(const uint64_t bits[16], int status)
{
    return status >= 0 && status < 1024 && (bits[status / 64] >> (status % 64) & 1);
}

void sb_health_report_status(struct sb_health_address *a, const struct sb_health_limits *l,
                             int status)
{
    if (has_status(l->good, status))
        sb_health_report(a, l, SB_HEALTH_SUCCESS);
    else if (has_status(l->bad, status))
        sb_health_report(a, l, SB_HEALTH_HTTP_FAILURE);
}

static void force(struct sb_health_address *a, bool fit)
{
    uint64_t is = fit ? UP : DOWN;
    uint64_t was = atomic_exchange_explicit(&a->state, is, memory_order_acq_rel);

    if (is_down(was) != is_down(is))
        changed(a, !fit, "the Admin API was told so");
}

bool sb_health_enough(const struct sb_health_checks *c, uint64_t total, uint64_t unavailable)
{
    return total && (double)(total - unavailable) / (double)total * 100 > c->threshold;
}

/* -- the registry -- */

struct sb_health *sb_health_new(void)
{
    struct sb_health *h = sb_xcalloc(1, sizeof *h);

    pthread_mutex_init(&h->registry.lock, NULL);
    return h;
}

void sb_health_free(struct sb_health *h)
{
    if (!h)
        return;
    sb_assert(h->registry.upstreams.count == 0);
    sb_map_release(&h->registry.upstreams);
    pthread_mutex_destroy(&h->registry.lock);
    free(h);
}

struct sb_health_upstream *sb_health_open(struct sb_health *h, struct sb_str name)
{
    struct sb_health_upstream *u;

    pthread_mutex_lock(&h->registry.lock);
    u = sb_map_get(&h->registry.upstreams, name);
    if (!u) {
        u = sb_xcalloc(1, sizeof *u + name.len + 1);
        memcpy(u->text, name.p, name.len);
        u->h = h;
        u->name = sb_str_n(u->text, name.len);
        sb_map_set(&h->registry.upstreams, u->name, u);
    }
    u->users++;
    pthread_mutex_unlock(&h->registry.lock);
    return u;
}

static void close_locked(struct sb_health_upstream *u)
{
    if (--u->users)
        return;
    sb_map_remove(&u->h->registry.upstreams, u->name);
    sb_map_release(&u->addresses);
    free(u);
}

void sb_health_close(struct sb_health_upstream *u)
{
    struct sb_health *h;

    if (!u)
        return;
    h = u->h;
    pthread_mutex_lock(&h->registry.lock);
    close_locked(u);
    pthread_mutex_unlock(&h->registry.lock);
}

uint64_t sb_health_generation(const struct sb_health_upstream *u)
{
    return atomic_load_explicit(&u->generation, memory_order_acquire);
}

/* The target, a NUL, and the port and the bytes of the address. */
static struct sb_str make_key(struct sb_str target, const union sb_sockaddr *addr,
                              char out[KEY_MAX])
{
    size_t n = target.len;

    memcpy(out, target.p, n);
    out[n++] = '\0';
    memcpy(out + n, &addr->in.sin_port, sizeof addr->in.sin_port);
    n += sizeof addr->in.sin_port;
    if (addr->sa.sa_family == AF_INET) {
        memcpy(out + n, &addr->in.sin_addr, sizeof addr->in.sin_addr);
        n += sizeof addr->in.sin_addr;
    } else {
        memcpy(out + n, &addr->in6.sin6_addr, sizeof addr->in6.sin6_addr);
        n += sizeof addr->in6.sin6_addr;
    }
    return sb_str_n(out, n);
}

static struct sb_health_address *new_address(struct sb_health_upstream *u, struct sb_str target,
                                             struct sb_str key, const union sb_sockaddr *addr)
{
    struct sb_health_address *a = sb_xcalloc(1, sizeof *a + key.len);

    memcpy(a->text, key.p, key.len);
    a->key = sb_str_n(a->text, key.len);
    a->target = sb_str_n(a->text, target.len);
    a->addr = *addr;
    a->of = u;
    a->listed = true;
    u->users++;
    sb_map_set(&u->addresses, a->key, a);
    return a;
}

struct sb_health_address *sb_health_enter(struct sb_health_upstream *u, struct sb_str target,
                                          const union sb_sockaddr *addr)
{
    struct sb_health_address *a;
    char text[KEY_MAX];
    struct sb_str key;

    target = sb_str_first(target, TARGET_MAX);
    key = make_key(target, addr, text);
    pthread_mutex_lock(&u->h->registry.lock);
    a = sb_map_get(&u->addresses, key);
    if (!a)
        a = new_address(u, target, key, addr);
    a->users++;
    pthread_mutex_unlock(&u->h->registry.lock);
    return a;
}

static void unlist_locked(struct sb_health_address *a)
{
    if (a->listed)
        sb_map_remove(&a->of->addresses, a->key);
    a->listed = false;
}

static void leave(struct sb_health_address *a, bool unlist)
{
    struct sb_health *h;

    if (!a)
        return;
    h = a->of->h;
    pthread_mutex_lock(&h->registry.lock);
    if (unlist || a->users == 1)
        unlist_locked(a);
    if (--a->users == 0) {
        close_locked(a->of);
        free(a);
    }
    pthread_mutex_unlock(&h->registry.lock);
}

void sb_health_leave(struct sb_health_address *a)
{
    leave(a, false);
}

void sb_health_retire(struct sb_health_address *a)
{
    leave(a, true);
}

const union sb_sockaddr *sb_health_sockaddr(const struct sb_health_address *a)
{
    return &a->addr;
}

struct sb_str sb_health_target(const struct sb_health_address *a)
{
    return a->target;
}

size_t sb_health_all(struct sb_health_upstream *u, struct sb_health_address ***out)
{
    struct sb_map_slot *slot;
    size_t n = 0;

    pthread_mutex_lock(&u->h->registry.lock);
    *out = sb_xcalloc(u->addresses.count + 1, sizeof **out);
    sb_map_each (slot, &u->addresses) {
        struct sb_health_address *a = slot->value;

        a->users++;
        (*out)[n++] = a;
    }
    pthread_mutex_unlock(&u->h->registry.lock);
    return n;
}

static bool same_place(const union sb_sockaddr *a, const union sb_sockaddr *b)
{
    if (a->sa.sa_family != b->sa.sa_family || a->in.sin_port != b->in.sin_port)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
    return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof a->in6.sin6_addr) == 0;
}

size_t sb_health_force(struct sb_health_upstream *u, struct sb_str target,
                       const union sb_sockaddr *addr, bool fit)
{
    struct sb_health_address **all;
    size_t n = sb_health_all(u, &all), found = 0;

    for (size_t i = 0; i < n; i++) {
        if (sb_str_eq(all[i]->target, target) && (!addr || same_place(addr, &all[i]->addr))) {
            force(all[i], fit);
            found++;
        }
        sb_health_leave(all[i]);
    }
    free(all);
    return found;
}
