/* forward.c - FILTER, FORWARD, TUNNEL: the upstream's response goes to the client. */
#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"

/* -- FILTER, FORWARD -- */

enum sb_xstate sb_step_filter(struct sb_exchange *x)
{
    switch (sb_hooks_run(x, x->hooks, SB_PHASE_HEADER_FILTER)) {
    case SB_OK:
        sb_response_frame(x);
        return SB_X_FORWARD;
    case SB_AGAIN:
        return sb_step_wait_for_hook(x);
    default:
        x->filtered = true; /* all of them, whatever became of the response */
        sb_try_end(x, false);
        return x->cut ? sb_step_abandon(x) : SB_X_ANSWER;
    }
}

/* To the client, or behind what already waits for it. */
static enum sb_rc emit(struct sb_exchange *x, struct sb_gather *g)
{
    if (x->spool || (x->spooling && g->n && sb_down_pending(x)))
        return sb_spool_add(x, g);
    return sb_down_send(x, g, x->ended);
}

/* Sends the head, once, and what of the body is in resp_rest. False: something broke. */
static bool send_response(struct sb_exchange *x)
{
    struct sb_gather g;

    do {
        sb_gather_init(&g, x->w);
        if (!x->head_sent) {
            x->resp_reusable = sb_try_reusable(x);
            sb_response_head(x, &g);
            x->head_sent = true;
        }
        if (!sb_response_body(x, &x->resp_rest, &g) || g.full)
            return false;
        if (emit(x, &g))
            return false;
    } while (x->resp_rest.len && !x->ended);
    return true;
}

static bool send_collected(struct sb_exchange *x)
{
    struct sb_gather g;

    sb_gather_init(&g, x->w);
    x->head_sent = true;
    return sb_response_collected(x, &g) && emit(x, &g) == SB_OK;
}

/* The response is with the client (or in its socket's memory). */
enum sb_xstate sb_step_response_done(struct sb_exchange *x)
{
    if (!x->body.complete)
        return SB_X_DRAIN;
    sb_down_finish(x);
    return SB_X_DONE;
}

/* Cut off in the middle: the client must see that, so its connection ends, too. */
static enum sb_xstate truncated(struct sb_exchange *x)
{
    sb_try_end(x, false);
    return sb_step_abandon(x);
}

static enum sb_xstate upstream_ended(struct sb_exchange *x)
{
    struct sb_gather g;

    sb_gather_init(&g, x->w);
    sb_response_eof(x, &g);
    if (!x->ended || emit(x, &g))
        return truncated(x);
    return SB_X_FORWARD;
}

/* Reads and passes on while the client takes it, or there is room elsewhere. WAIT: no more for now.
 */
static enum sb_xstate forward(struct sb_exchange *x)
{
    struct sb_upconn *u = x->u;
    size_t n;

    while (!x->ended && (!sb_down_pending(x) || sb_spool_room(x))) {
        enum sb_rc rc = SB_AGAIN;

        if (sb_io_can_read(&u->io) || u->io.eof || u->io.failed)
            rc = sb_io_read(&u->io, x->w->big, sb_down_read_len(x), &n);
        if (rc == SB_AGAIN)
            return SB_X_WAIT;
        if (rc == SB_NOTFOUND)
            return upstream_ended(x);
        if (rc)
            return truncated(x);
        x->resp_rest = sb_str_n(x->w->big, n);
        if (!send_response(x))
            return truncated(x);
        if (x->spool)
            x->read_len = SB_BIG_LEN / 4;
        else if (n == x->read_len && x->read_len < SB_BIG_LEN)
            x->read_len *= 2; /* it comes fast and the client takes it */
    }
    return x->ended ? SB_X_FORWARD : SB_X_WAIT;
}

/* For the client, as long as it takes nothing of what waits for it; else for the upstream. */
static enum sb_xstate wait_for_progress(struct sb_exchange *x)
{
    size_t len = sb_down_pending(x);
    int64_t now = sb_now_ms(x->w);

    if (len == 0)
        return sb_step_wait(x, x->service->read_timeout_ms);
    if (len != x->stalled_len)
        x->stalled_ms = now;
    x->stalled_len = len;
    return sb_step_wait(x, x->stalled_ms + x->w->o->send_timeout_ms - now);
}

enum sb_xstate sb_step_forward(struct sb_exchange *x)
{
    enum sb_xstate next;

    if (x->call)
        return sb_grpc_forward(x);
    if (x->timed_out || sb_down_failed(x) || (x->spool && sb_spool_drain(x) == SB_IO))
        return truncated(x);
    if (!x->head_sent) {
        x->read_len = SB_BIG_LEN / 4;
        if (x->collected ? !send_collected(x) : !send_response(x))
            return truncated(x);
        if (x->status == 101)
            return SB_X_TUNNEL;
    }
    if (!x->ended) {
        if (!x->body.complete || sb_io_pending(&x->u->io)) {
            if (sb_io_flush(&x->u->io)) /* it has answered: what it did not read is its affair */
                x->resp_reusable = false;
            next = sb_try_pump(x, SB_X_FORWARD);
            if (next != SB_X_FORWARD)
                return next;
        }
        next = forward(x);
        if (next == SB_X_WAIT)
            return wait_for_progress(x);
        if (next != SB_X_FORWARD)
            return next;
    }
    if (x->u)
        sb_try_end(x, x->resp_reusable && x->resp_rest.len == 0);
    return sb_down_pending(x) ? wait_for_progress(x) : sb_step_response_done(x);
}

/* -- TUNNEL -- */

/* One direction. False: it is over. */
static bool pass(struct sb_worker *w, struct sb_io *from, struct sb_io *to)
{
    while (!sb_io_pending(to) && sb_io_can_read(from)) {
        struct iovec iov = {.iov_base = w->big};
        enum sb_rc rc = sb_io_read(from, w->big, SB_BIG_LEN / 4, &iov.iov_len);

        if (rc == SB_AGAIN)
            return true;
        if (rc || sb_io_send(to, &iov, 1))
            return false;
    }
    return !from->failed && !(from->eof && !sb_io_pending(to));
}

enum sb_xstate sb_step_tunnel(struct sb_exchange *x)
{
    struct sb_io *client = sb_down_socket(x), *upstream = &x->u->io;

    if (x->rest.len) { /* sent before it knew that we agree */
        union {
            const char *in;
            void *out;
        } p = {.in = x->rest.p};
        struct iovec iov = {p.out, x->rest.len};

        x->rest.len = 0;
        if (sb_io_send(upstream, &iov, 1))
            x->timed_out = true;
    }
    if (x->timed_out || sb_io_flush(client) || sb_io_flush(upstream) ||
        !pass(x->w, client, upstream) || !pass(x->w, upstream, client)) {
        sb_try_end(x, false);
        sb_down_abort(x);
        return SB_X_DONE;
    }
    return sb_step_wait(x, x->service->read_timeout_ms);
}
