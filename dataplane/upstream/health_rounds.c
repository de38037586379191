#include "dataplane/upstream/health_rounds.h"

#include <event2/event.h>
#include <stdlib.h>

#include "dataplane/upstream/health_probe.h"
#include "shared/digest.h"

enum { PROBES_MAX = 256, JITTER_PERCENT = 10 };

struct running {
    struct running *next, **link;
    struct round *round;
    struct sb_health_address *address;
    struct sb_probe *probe;
};

struct round {
    struct sb_rounds *of;
    bool down; /* of the addresses that are so */
    struct event *timer;
    int64_t interval_ms;
    struct sb_health_address **todo; /* entered; NULL: no round runs */
    size_t n, at;
    int nrunning;
    struct running *running;
    struct round *next_hungry, **hungry; /* waits for others to end their probes */
};

struct sb_rounds {
    struct sb_prober *prober;
    struct sb_health_upstream *upstream;
    struct sb_rounds_order order;
    struct round healthy, unhealthy;
};

struct sb_prober {
    struct event_base *base;
    struct sb_http *http; /* NULL until the first probe: most nodes never send one */
    unsigned nrunning;
    struct round *hungry;
};

static void pump(struct round *r);

struct sb_prober *sb_prober_new(struct event_base *base)
{
    struct sb_prober *p = sb_xcalloc(1, sizeof *p);

    p->base = base;
    return p;
}

void sb_prober_free(struct sb_prober *p)
{
    sb_http_free(p->http);
    free(p);
}

/* -- waiting for a place -- */

static void leave_queue(struct round *r)
{
    if (!r->hungry)
        return;
    *r->hungry = r->next_hungry;
    if (r->next_hungry)
        r->next_hungry->hungry = r->hungry;
    r->next_hungry = NULL;
    r->hungry = NULL;
}

static void join_queue(struct round *r)
{
    struct round **end = &r->of->prober->hungry;

    if (r->hungry)
        return;
    while (*end)
        end = &(*end)->next_hungry;
    *end = r;
    r->hungry = end;
}

/* -- a round -- */

static void drop_running(struct running *run)
{
    run->round->nrunning--;
    run->round->of->prober->nrunning--;
    *run->link = run->next;
    if (run->next)
        run->next->link = run->link;
    sb_health_leave(run->address);
    free(run);
}

static void end_round(struct round *r)
{
    while (r->at < r->n)
        sb_health_leave(r->todo[r->at++]);
    free(r->todo);
    r->todo = NULL;
    r->n = r->at = 0;
}

static void on_probed(void *arg, const struct sb_probe_result *result)
{
    struct running *run = arg;
    struct round *r = run->round;
    struct sb_prober *p = r->of->prober;
    const struct sb_health_limits *limits = &r->of->order.checks->active;

    if (result->status)
        sb_health_report_status(run->address, limits, result->status);
    else
        sb_health_report(run->address, limits, result->report);
    drop_running(run);
    pump(r);
    if (p->hungry && p->nrunning < PROBES_MAX) {
        struct round *first = p->hungry;

        leave_queue(first);
        pump(first);
    }
}

static struct sb_str host_of(struct sb_health_address *a)
{
    struct sb_str target = sb_health_target(a);
    ptrdiff_t colon = sb_str_rchr(target, ':');

    return colon > 0 ? sb_str_first(target, (size_t)colon) : target;
}

static void start_probe(struct round *r, struct sb_health_address *address)
{
    struct sb_prober *p = r->of->prober;
    struct running *run = sb_xcalloc(1, sizeof *run);
    struct sb_probe_order order = {.checks = r->of->order.checks,
                                   .tls = r->of->order.tls,
                                   .host_header = r->of->order.host_header,
                                   .host = host_of(address),
                                   .addr = sb_health_sockaddr(address)};

    run->round = r;
    run->address = address;
    run->next = r->running;
    run->link = &r->running;
    if (run->next)
        run->next->link = &run->next;
    r->running = run;
    r->nrunning++;
    p->nrunning++;
    if (!p->http)
        p->http = sb_http_new(p->base);
    run->probe = sb_probe_start(p->http, &order, on_probed, run);
}

/* As many more as may run. */
static void pump(struct round *r)
{
    while (r->at < r->n && r->nrunning < r->of->order.checks->concurrency) {
        if (r->of->prober->nrunning >= PROBES_MAX) {
            join_queue(r);
            return;
        }
        start_probe(r, r->todo[r->at++]);
    }
    if (r->todo && r->at == r->n && r->nrunning == 0)
        end_round(r);
}

static void begin_round(struct round *r)
{
    struct sb_health_address **all;
    size_t n = sb_health_all(r->of->upstream, &all), kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (sb_health_is_down(all[i]) == r->down)
            all[kept++] = all[i];
        else
            sb_health_leave(all[i]);
    }
    r->todo = all;
    r->n = kept;
    r->at = 0;
    pump(r);
}

/* Upstreams that came together shall not be probed together for ever. */
static void set_timer(struct round *r)
{
    uint32_t random;
    int64_t us = r->interval_ms * 1000;
    struct timeval t;

    sb_random(&random, sizeof random);
    us -= us * JITTER_PERCENT / 100 * (random % 1000) / 1000;
    t = (struct timeval){us / 1000000, us % 1000000};
    event_add(r->timer, &t);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct round *r = arg;

    (void)fd, (void)what;
    set_timer(r);
    if (!r->todo)
        begin_round(r);
}

static void set_interval(struct round *r, int64_t interval_ms)
{
    if (r->interval_ms == interval_ms)
        return;
    event_del(r->timer);
    r->interval_ms = interval_ms;
    if (interval_ms)
        set_timer(r);
}

/* -- rounds -- */

static void init_round(struct sb_rounds *of, struct round *r, bool down)
{
    r->of = of;
    r->down = down;
    r->timer = event_new(of->prober->base, -1, 0, on_timer, r);
}

struct sb_rounds *sb_rounds_new(struct sb_prober *p, struct sb_health_upstream *upstream)
{
    struct sb_rounds *r = sb_xcalloc(1, sizeof *r);

    r->prober = p;
    r->upstream = upstream;
    init_round(r, &r->healthy, false);
    init_round(r, &r->unhealthy, true);
    return r;
}

void sb_rounds_set(struct sb_rounds *r, const struct sb_rounds_order *order)
{
    r->order = *order;
    set_interval(&r->healthy, order->checks->healthy_ms);
    set_interval(&r->unhealthy, order->checks->unhealthy_ms);
}

static void stop(struct round *r)
{
    set_interval(r, 0);
    leave_queue(r);
    while (r->running) {
        sb_probe_cancel(r->running->probe);
        drop_running(r->running);
    }
    end_round(r);
}

void sb_rounds_stop(struct sb_rounds *r)
{
    stop(&r->healthy);
    stop(&r->unhealthy);
}

void sb_rounds_free(struct sb_rounds *r)
{
    sb_rounds_stop(r);
    event_free(r->healthy.timer);
    event_free(r->unhealthy.timer);
    free(r);
}
