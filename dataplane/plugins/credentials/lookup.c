/* lookup.c - see lookup.h.
 *
 *     QUEUED --its turn--> FLYING in the pipeline ---------------> end
 *        ^  \-------------> BEHIND the flight of another worker --^
 *        '--- that one failed, and there is time left ---'
 *
 * (I1) Who waits for his turn waits in the queue of his own source, behind nobody else's: queued
 * flights are joined within a source only. Others are joined while their answer may still be
 * stored: who asks after an invalidation was read gets an answer from after it. (I2) A flight
 * outlives its askers, who may leave at any time, and they never outlive it. One that is queued
 * goes with its last asker: queues hold no more than open exchanges ask for. (I3) Who asks is never
 * answered before sb_lookups_ask() returns: what ends in its turn already lands in the next round
 * of the loop.
 */
#include "dataplane/plugins/credentials/lookup.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <stdlib.h>

#include "dataplane/plugins/credentials/lookup_rows.h"
#include "dataplane/plugins/parts.h"
#include "dataplane/plugins/credentials/write.h"
#include "schema/row.h"
#include "shared/clock.h"
#include "shared/digest.h"
#include "shared/log.h"

enum { SOURCES = 256, TABLE = 1024, SWEEP_MS = 500, TELL_MS = 10000, STATEMENT_MS = 5000 };

struct source {
    struct sb_flight *first, **last; /* that are queued, oldest first */
    unsigned waiting, flying;
    struct source *next; /* in the ring of those whose turn will come */
    bool in_ring;
};

enum where { QUEUED, FLYING, BEHIND };

struct sb_flight {
    struct sb_pg_task task; /* first */
    struct sb_claim claim;
    struct sb_lookups *l;
    enum where where;
    struct sb_flight *chain;              /* of the table */
    struct sb_flight *after, **in_source; /* in the queue of its source */
    struct sb_flight *next, **link;       /* all of the worker */
    struct sb_flight *lands;              /* among those that end in the next round */
    struct source *source;
    struct sb_cache_ticket consumer_ticket;
    int64_t until_ms;    /* while it is queued */
    int64_t deadline_ms; /* from its first turn on */
    struct sb_asker *askers;
    char value[];
};

struct sb_lookups {
    const struct sb_credentials *shared;
    struct event_base *base;
    struct sb_pg_async *reader, *writer;
    struct sb_claim_box *box;
    struct sb_arena *scratch;
    struct event *sweep, *landing;
    struct sb_flight *lands; /* with what their claims say */
    struct sb_flight *table[TABLE];
    struct sb_flight *all;
    struct sb_writing *writings;
    struct source sources[SOURCES];
    struct source *ring; /* the last in turn; next is the first */
    unsigned flying;
    uint64_t seed; /* which addresses share a queue */
    int64_t told_ms;
    struct sb_lookup_stats stats;
};

static int64_t statement_ms(const struct sb_pg_config *c)
{
    return c->timeout_ms > 0 ? c->timeout_ms : STATEMENT_MS;
}

/* One writer, any reader. */
static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* -- sources -- */

/* Of an IPv6 address the network that one customer has. */
static struct source *source_of(struct sb_lookups *l, struct sb_str ip)
{
    char text[INET6_ADDRSTRLEN + 1] = "";
    struct in6_addr six;

    if (ip.len < sizeof text)
        memcpy(text, ip.p, ip.len);
    if (inet_pton(AF_INET6, text, &six) == 1 && !IN6_IS_ADDR_V4MAPPED(&six))
        ip = sb_str_n((const char *)&six, 8);
    return &l->sources[sb_str_hash(ip, l->seed) % SOURCES];
}

static unsigned share(const struct sb_lookups *l)
{
    unsigned n = (unsigned)l->shared->depth / SB_LOOKUP_SOURCE_SHARE;

    return n ? n : 1;
}

static void enter_ring(struct sb_lookups *l, struct source *s)
{
    if (s->in_ring || !s->waiting || s->flying >= share(l))
        return;
    s->in_ring = true;
    if (l->ring) {
        s->next = l->ring->next;
        l->ring->next = s;
    } else {
        s->next = s;
    }
    l->ring = s;
}

/* The source whose turn it is leaves the ring. */
static struct source *next_source(struct sb_lookups *l)
{
    struct source *s = l->ring->next;

    if (s == l->ring)
        l->ring = NULL;
    else
        l->ring->next = s->next;
    s->in_ring = false;
    return s;
}

static void enter_queue(struct sb_flight *f, struct sb_flight **at)
{
    struct source *s = f->source;

    f->where = QUEUED;
    f->after = *at;
    f->in_source = at;
    if (f->after)
        f->after->in_source = &f->after;
    else
        s->last = &f->after;
    *at = f;
    s->waiting++;
    enter_ring(f->l, s);
}

static void leave_queue(struct sb_flight *f)
{
    struct source *s = f->source;

    *f->in_source = f->after;
    if (f->after)
        f->after->in_source = f->in_source;
    else
        s->last = f->in_source;
    f->in_source = NULL;
    s->waiting--;
}

static struct sb_flight *take_waiting(struct source *s)
{
    struct sb_flight *f = s->first;

    leave_queue(f);
    return f;
}

/* -- flights -- */

static struct sb_flight **bucket_of(struct sb_lookups *l, const struct sb_lookup_key *key)
{
    return &l->table[key->hash[0] >> 8 & (TABLE - 1)];
}

/* One whose answer will do, and that waits for no one else's turn. */
static struct sb_flight *find(struct sb_lookups *l, const struct sb_lookup_key *key,
                              const struct source *s)
{
    for (struct sb_flight *f = *bucket_of(l, key); f; f = f->chain) {
        if (!sb_lookup_key_eq(&f->claim.key, key))
            continue;
        if (f->where == QUEUED ? f->source == s
                               : sb_cache_valid(l->shared->cache, key, &f->claim.ticket))
            return f;
    }
    return NULL;
}

/* Nobody can join it any more. */
static void leave_table(struct sb_flight *f)
{
    struct sb_flight **at = bucket_of(f->l, &f->claim.key);

    while (*at && *at != f)
        at = &(*at)->chain;
    if (*at)
        *at = f->chain;
}

static void join(struct sb_flight *f, struct sb_asker *a)
{
    a->flight = f;
    a->next = f->askers;
    a->link = &f->askers;
    if (a->next)
        a->next->link = &a->next;
    f->askers = a;
}

static void unlink_asker(struct sb_asker *a)
{
    *a->link = a->next;
    if (a->next)
        a->next->link = a->link;
    a->flight = NULL;
}

static void free_flight(struct sb_flight *f)
{
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    free(f);
}

void sb_asker_leave(struct sb_asker *a)
{
    struct sb_flight *f = a->flight;

    if (!f)
        return;
    unlink_asker(a);
    if (f->askers || f->where != QUEUED || !f->in_source)
        return;
    leave_queue(f);
    leave_table(f);
    free_flight(f);
}

/* Tells all, and frees it. An asker who is told may make others leave. */
static void end_flight(struct sb_flight *f, enum sb_rc rc, struct sb_rows *rows,
                       struct sb_rows *consumer)
{
    leave_table(f);
    count(&f->l->stats.answered);
    while (f->askers) {
        struct sb_asker *a = f->askers;

        unlink_asker(a);
        a->answered(a, rc, rows, consumer);
    }
    sb_rows_drop(rows);
    sb_rows_drop(consumer);
    free_flight(f);
}

static void fly(struct sb_lookups *l);

static void landed(struct sb_flight *f)
{
    f->l->flying--;
    f->source->flying--;
    enter_ring(f->l, f->source);
}

/* -- answers -- */

static enum sb_rc read_rows(struct sb_flight *f, const struct sb_pg_rows *result,
                            struct sb_rows **out, struct sb_rows **consumer, struct sb_err *err)
{
    struct sb_lookups *l = f->l;
    const struct sb_entity *entity = sb_lookup_entity(f->claim.key.by);
    const struct sb_lookup_kind *kind = sb_lookup_kind(f->claim.key.by);
    struct sb_row_values values = {.by = f->claim.key.by};
    struct sb_pg_rows rows = *result;

    values.values = SB_NEW_N(l->scratch, const struct sb_value *, rows.count);
    while (sb_pg_next(&rows)) {
        struct sb_value *v;
        enum sb_rc rc = sb_row_decode(l->scratch, entity, &rows, &v, err);

        if (!rc && kind->brings_consumer)
            rc = sb_lookup_read_consumer(l->shared->cache, l->scratch, f->claim.key.by, &rows,
                                         &f->consumer_ticket, consumer, err);
        if (rc)
            return rc;
        values.values[values.n++] = v;
        if (!kind->list)
            break; /* unique columns have one at most */
    }
    if (values.n || kind->list)
        *out = sb_rows_build(&values, sb_clock_ms());
    return SB_OK;
}

static void tell(struct sb_lookups *l, const struct sb_err *err)
{
    int64_t now_ms = sb_clock_ms();

    if (l->told_ms && now_ms < l->told_ms + TELL_MS)
        return;
    l->told_ms = now_ms;
    sb_error("credentials: a look-up failed: %s", err->text);
}

static void on_done(struct sb_pg_task *task, enum sb_rc rc, const struct sb_pg_rows *result,
                    const struct sb_err *why)
{
    struct sb_flight *f = (struct sb_flight *)task;
    struct sb_rows *rows = NULL, *consumer = NULL;
    struct sb_lookups *l = f->l;
    struct sb_err err;

    landed(f);
    if (!rc && (rc = read_rows(f, result, &rows, &consumer, &err)))
        why = &err;
    sb_arena_clear(l->scratch);
    if (rc)
        tell(l, why);
    else
        sb_cache_put(l->shared->cache, &f->claim.key, &f->claim.ticket, rows, sb_clock_ms());
    fly(l);
    rc = rc ? SB_UNAVAILABLE : SB_OK;
    sb_claim_settle(&f->claim, rc, rows, consumer); /* first the other workers */
    end_flight(f, rc, rows, consumer);
}

/* -- asking -- */

static bool send_off(struct sb_flight *f)
{
    struct sb_lookups *l = f->l;
    enum sb_lookup by = f->claim.key.by;

    f->task = (struct sb_pg_task){
        .sql = l->shared->sql[by],
        .statement = (int)by,
        .params = {f->value},
        .nparams = 1,
        .may_repeat = true,
        .deadline_ms = f->deadline_ms,
        .done = on_done,
    };
    if (sb_lookup_kind(by)->brings_consumer)
        f->consumer_ticket = sb_cache_ask_any(l->shared->cache, SB_CONSUMER_BY_ID);
    if (sb_pg_async_send(l->reader, &f->task))
        return false;
    l->flying++;
    f->source->flying++;
    return true;
}

/* The other workers are told now, those who ask here in the next round. */
static void settle_soon(struct sb_flight *f, enum sb_rc rc, struct sb_rows *rows)
{
    struct sb_lookups *l = f->l;

    sb_claim_settle(&f->claim, rc, rows, NULL);
    f->claim.rc = rc;
    f->claim.rows = rows;
    f->lands = l->lands;
    l->lands = f;
    event_active(l->landing, EV_TIMEOUT, 0);
}

static void on_landing(evutil_socket_t fd, short what, void *arg)
{
    struct sb_lookups *l = arg;
    struct sb_flight *f;

    (void)fd;
    (void)what;
    while ((f = l->lands)) {
        l->lands = f->lands;
        end_flight(f, f->claim.rc, f->claim.rows, NULL);
    }
}

/* Its turn. Another worker may be asking, or has brought the answer while it was queued. */
static void take_off(struct sb_flight *f)
{
    struct sb_lookups *l = f->l;
    struct sb_rows *rows = NULL;

    if (!f->deadline_ms)
        f->deadline_ms = sb_clock_ms() + statement_ms(&l->shared->reader);
    if (!sb_claim_take(&f->claim, l->box)) {
        f->where = BEHIND;
        count(&l->stats.joined);
        return;
    }
    f->where = FLYING;
    if (sb_cache_brought(l->shared->cache, &f->claim.key, sb_clock_ms(), &rows))
        settle_soon(f, SB_OK, rows);
    else if (!send_off(f))
        settle_soon(f, SB_UNAVAILABLE, NULL);
}

/* The worker that asked says. Without an answer it is tried from here, if there is enough time
 * left: what it lacked may be its own connection. */
static void on_told(struct sb_claim *claim)
{
    struct sb_flight *f = (struct sb_flight *)((char *)claim - offsetof(struct sb_flight, claim));
    struct sb_lookups *l = f->l;
    int64_t left_ms = f->deadline_ms - sb_clock_ms();

    if (claim->rc && f->askers && left_ms > statement_ms(&l->shared->reader) / 2 &&
        !sb_pg_async_down(l->reader)) {
        enter_queue(f, &f->source->first);
        fly(l);
        return;
    }
    end_flight(f, claim->rc ? SB_UNAVAILABLE : SB_OK, claim->rows, claim->consumer);
}

/* Lets flights go while there is room, each source in its turn. */
static void fly(struct sb_lookups *l)
{
    while (l->ring && l->flying < (unsigned)l->shared->depth) {
        struct source *s = next_source(l);
        struct sb_flight *f = s->waiting ? take_waiting(s) : NULL;

        enter_ring(l, s);
        if (f)
            take_off(f);
    }
    if (l->ring && !event_pending(l->sweep, EV_TIMEOUT, NULL)) {
        const struct timeval tv = {.tv_usec = SWEEP_MS * 1000};

        event_add(l->sweep, &tv);
    }
}

/* Whoever waits for longer than pg_semaphore_timeout need not wait any more. */
static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    struct sb_lookups *l = arg;
    int64_t now_ms = sb_clock_ms();

    (void)fd;
    (void)what;
    for (int i = 0; i < SOURCES; i++) {
        struct source *s = &l->sources[i];

        while (s->first && s->first->until_ms <= now_ms)
            end_flight(take_waiting(s), SB_UNAVAILABLE, NULL, NULL);
    }
    fly(l);
}

static struct sb_flight *new_flight(struct sb_lookups *l, const struct sb_lookup_key *key,
                                    struct sb_str value, struct source *s)
{
    struct sb_flight *f = sb_xcalloc(1, sizeof *f + value.len + 1);
    struct sb_flight **bucket = bucket_of(l, key);

    f->l = l;
    f->claim.key = *key;
    f->source = s;
    f->until_ms = sb_clock_ms() + l->shared->queue_ms;
    memcpy(f->value, value.p, value.len);
    f->chain = *bucket;
    *bucket = f;
    f->next = l->all;
    f->link = &l->all;
    if (f->next)
        f->next->link = &f->next;
    l->all = f;
    count(&l->stats.asked);
    return f;
}

enum sb_rc sb_lookups_ask(struct sb_lookups *l, const struct sb_lookup_key *key,
                          struct sb_str value, struct sb_str client_ip, struct sb_asker *a)
{
    struct source *s = source_of(l, client_ip);
    struct sb_flight *f = find(l, key, s);

    if (f) {
        count(&l->stats.joined);
        join(f, a);
        return SB_AGAIN;
    }
    if (sb_pg_async_down(l->reader) || s->waiting >= SB_LOOKUP_SOURCE_QUEUE) {
        count(&l->stats.refused);
        return SB_UNAVAILABLE;
    }
    f = new_flight(l, key, value, s);
    join(f, a);
    enter_queue(f, s->last);
    fly(l);
    return SB_AGAIN;
}

/* -- life -- */

struct sb_lookups *sb_lookups_new(struct event_base *base, const struct sb_credentials *shared)
{
    struct sb_lookups *l = sb_xcalloc(1, sizeof *l);

    l->shared = shared;
    l->base = base;
    if (!shared->cache)
        return l;
    sb_random(&l->seed, sizeof l->seed);
    l->scratch = sb_arena_new(0);
    l->reader = sb_pg_async_new(base, &shared->reader);
    l->writer = sb_pg_async_new(base, &shared->writer);
    l->box = sb_claim_box_new(shared->pending, base, on_told);
    l->sweep = evtimer_new(base, on_sweep, l);
    l->landing = event_new(base, -1, 0, on_landing, l);
    for (int i = 0; i < SOURCES; i++)
        l->sources[i].last = &l->sources[i].first;
    return l;
}

void sb_lookups_free(struct sb_lookups *l)
{
    if (!l)
        return;
    if (l->shared->cache) {
        sb_pg_async_free(l->reader);
        sb_pg_async_free(l->writer);
        sb_writings_forget(&l->writings);
        for (struct sb_flight *f = l->all, *next; f; f = next) {
            next = f->next;
            sb_claim_leave(&f->claim);
            sb_rows_drop(f->claim.rows);
            free(f);
        }
        sb_claim_box_free(l->box);
        sb_arena_free(l->scratch);
        event_free(l->sweep);
        event_free(l->landing);
    }
    free(l);
}

struct sb_pg_async *sb_lookups_writer(struct sb_lookups *l)
{
    return l->writer;
}

struct sb_writing **sb_lookups_writings(struct sb_lookups *l)
{
    return &l->writings;
}

const struct sb_credentials *sb_lookups_shared(const struct sb_lookups *l)
{
    return l->shared;
}

bool sb_lookups_down(const struct sb_lookups *l)
{
    return sb_pg_async_down(l->reader);
}

static void add(uint64_t *sum, const uint64_t *counters, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum[i] += __atomic_load_n(&counters[i], __ATOMIC_RELAXED);
}

#define ADD(sum, from) add((uint64_t *)(sum), (const uint64_t *)(from), sizeof *(sum) / 8)

void sb_lookups_add_stats(const struct sb_lookups *l, struct sb_lookup_stats *sum)
{
    add(&sum->asked, &l->stats.asked, 4);
    if (!l->shared->cache)
        return;
    ADD(&sum->reads, sb_pg_async_stats(l->reader));
    ADD(&sum->writes, sb_pg_async_stats(l->writer));
}
