/* exchange.c - the life of a request, as a state machine.
 *
 * Two sockets set flags and call sb_client_run(), which calls sb_exchange_run(): it runs the step
 * of the state the exchange is in until one says WAIT. Steps look at flags and never at events, so
 * it does not matter in which order things happen, or that a step is called once too often.
 *
 *     client  --recv-->  in (parsed in place)  --sendmsg: new head + body-->  upstream
 *     client  <--sendmsg: new head + body--  the worker's big buffer  <--recv--  upstream
 *
 * (I1) A step that returns WAIT has set a time-out for what it waits for.
 * (I2) x->u is set only from CONNECT to the end of the try; whoever clears it gives it back.
 * (I3) Bytes in the worker's buffer are used up, or copied, before a step returns.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dataplane/http/access_log.h"
#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"
#include "shared/log.h"

enum { KEEP_MAX = 1024 }; /* exchanges kept for reuse by a worker */

/* -- time-outs -- */

static struct sb_exchange *exchange_of(struct sb_timer *t)
{
    return (struct sb_exchange *)((char *)t - offsetof(struct sb_exchange, timer));
}

static void on_timer(struct sb_timer *t)
{
    struct sb_exchange *x = exchange_of(t);

    x->timed_out = true;
    sb_down_wake(x);
}

enum sb_xstate sb_step_wait(struct sb_exchange *x, int64_t ms)
{
    sb_timer_set(&x->w->wheel, &x->timer, sb_now_ms(x->w) + ms);
    return sb_step_wait_on(x);
}

enum sb_xstate sb_step_wait_on(struct sb_exchange *x)
{
    if (x->gone_ms && !x->head_sent && x->gone_ms < x->timer.deadline_ms)
        sb_timer_set(&x->w->wheel, &x->timer, x->gone_ms);
    return SB_X_WAIT;
}

/* -- answers -- */

enum sb_xstate sb_step_refuse(struct sb_exchange *x, int status)
{
    x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_REFUSED};
    if (status == 501 || status == 505)
        x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_PAGE};
    x->keep_alive = false;
    x->refused = true;
    return SB_X_ANSWER;
}

enum sb_xstate sb_step_error(struct sb_exchange *x, int status, const char *message)
{
    x->answer =
        (struct sb_answer){.status = status, .kind = SB_ANSWER_ERROR, .message = sb_str_c(message)};
    return SB_X_ANSWER;
}

/* The client left, or can't be told anything any more. */
enum sb_xstate sb_step_abandon(struct sb_exchange *x)
{
    sb_down_abort(x);
    x->keep_alive = false;
    if (!x->head_sent && !x->empty)
        x->status = 499;
    return SB_X_DONE;
}

/* -- the machine -- */

static const struct {
    const char *name;
    enum sb_xstate (*step)(struct sb_exchange *x);
} states[SB_X_STATES] = {
    [SB_X_HEAD] = {"head", sb_step_head},
    [SB_X_REWRITE] = {"rewrite", sb_step_rewrite},
    [SB_X_ROUTE] = {"route", sb_step_route},
    [SB_X_ACCESS] = {"access", sb_step_access},
    [SB_X_PICK] = {"pick", sb_step_pick},
    [SB_X_BODY] = {"body", sb_step_body},
    [SB_X_CONNECT] = {"connect", sb_step_connect},
    [SB_X_REPLY] = {"reply", sb_step_reply},
    [SB_X_COLLECT] = {"collect", sb_step_collect},
    [SB_X_FILTER] = {"filter", sb_step_filter},
    [SB_X_FORWARD] = {"forward", sb_step_forward},
    [SB_X_TUNNEL] = {"tunnel", sb_step_tunnel},
    [SB_X_ANSWER] = {"answer", sb_step_answer},
    [SB_X_DRAIN] = {"drain", sb_step_drain},
    [SB_X_DONE] = {"done", NULL},
};

bool sb_exchange_run(struct sb_exchange *x)
{
    while (x->state != SB_X_DONE) {
        enum sb_xstate next = states[x->state].step(x);

        if (next == SB_X_WAIT)
            return false;
        if (next != x->state) {
            sb_timer_off(&x->timer);
            x->timed_out = false;
        }
        x->state = next;
    }
    return true;
}

struct sb_exchange *sb_exchange_begin(struct sb_client *c, struct sb_str received)
{
    struct sb_worker *w = c->w;
    struct sb_exchange *x = sb_pool_take(&w->exchanges, sizeof *x);

    memset(x, 0, offsetof(struct sb_exchange, cleared));
    if (!x->timer.fire)
        sb_timer_init(&x->timer, on_timer);
    x->c = c;
    x->w = w;
    x->hold = sb_worker_hold(w);
    x->req.headers = x->headers_room;
    x->req.ids = x->ids_room;
    x->req.headers_max = SB_X_HEADERS;
    x->req.line_max = w->o->line_max;
    x->req.head_max = w->o->head_max;
    x->body.fd = -1;
    x->in = x->inline_in;
    x->in_cap = sizeof x->inline_in;
    if (received.len > x->in_cap) {
        x->in_cap = received.len + x->req.line_max;
        x->in = sb_xmalloc(x->in_cap);
    }
    memcpy(x->in, received.p ? received.p : "", received.len);
    x->in_len = received.len;
    (void)sb_now_ms(w);
    x->start_us = w->now_us;
    return x;
}

static void count(struct sb_exchange *x)
{
    struct sb_proxy_stats *s = &x->w->stats;

    sb_count(&s->requests, 1);
    sb_count(&s->status[x->status >= 100 && x->status < 600 ? x->status / 100 : 0], 1);
}

static void run_log_hooks(struct sb_exchange *x)
{
    const struct sb_hooks *hooks = sb_exchange_hooks(x);
    const struct sb_hook *h = hooks ? hooks->phase[SB_PHASE_LOG] : NULL;

    const void *config;

    for (; h && h->run; h++)
        if (sb_hook_config(x, h, &config) && h->run(x, config))
            sb_error("a plugin broke in phase log, request_id: %.32s", x->id);
}

size_t sb_exchange_end(struct sb_exchange *x, char *received)
{
    struct sb_worker *w = x->w;
    size_t n = 0;

    if (x->u || x->call)
        sb_try_end(x, false);
    sb_waiter_cancel(&x->pick.waiter);
    if (!x->empty) {
        count(x);
        run_log_hooks(x);
        if (w->access_log)
            sb_access_log_add(w->access_log, x);
    }
    if (!x->c->close && x->rest.len) {
        n = x->rest.len;
        memmove(received, x->rest.p, n);
    }
    sb_body_release(x);
    free(x->over);
    free(x->resp_buf);
    free(x->whole);
    sb_spool_release(x);
    if (x->in != x->inline_in)
        free(x->in);
    if (x->asking.used)
        sb_asking_release(&x->asking, x->kept);
    if (x->arena)
        sb_arena_clear(x->arena);
    sb_worker_unhold(w, x->hold);
    sb_timer_off(&x->timer);
    if (w->exchanges.count >= KEEP_MAX) {
        sb_timer_remove(&x->timer, &w->wheel);
        sb_arena_free(x->arena);
    }
    sb_pool_give(&w->exchanges, x, KEEP_MAX);
    return n;
}

void sb_exchanges_release(struct sb_worker *w)
{
    while (w->exchanges.first) {
        struct sb_exchange *x = sb_pool_take(&w->exchanges, sizeof *x);

        sb_arena_free(x->arena);
        free(x);
    }
}
