/* finish.c - ANSWER, DRAIN: a response of our own, and what the client still has to say. */
#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"

/* -- ANSWER, DRAIN, DONE -- */

static bool send_answer(struct sb_exchange *x)
{
    struct sb_gather g;

    x->head_sent = true;
    if (!x->body.complete && !x->refused && !x->body.continued && !x->rest.len)
        sb_body_continue(x); /* what the client sends next must be the body */
    sb_gather_init(&g, x->w);
    return sb_answer_gather(x, &g) && !sb_down_send(x, &g, true);
}

/* Our own answers pass the filters, too. One that breaks is logged, and the answer goes out. */
enum sb_xstate sb_step_answer(struct sb_exchange *x)
{
    if (!x->head_sent) {
        if (!x->hooks_begun)
            x->status = x->answer.status == 494 ? 400 : x->answer.status;
        if (!x->filtered &&
            sb_hooks_run(x, sb_exchange_hooks(x), SB_PHASE_HEADER_FILTER) == SB_AGAIN)
            return sb_step_wait_for_hook(x);
        if (x->cut || !send_answer(x))
            return sb_step_abandon(x);
    }
    if (x->timed_out || sb_down_failed(x))
        return sb_step_abandon(x);
    if (sb_down_pending(x))
        return sb_step_wait(x, x->w->o->send_timeout_ms);
    if (x->refused)
        return SB_X_DRAIN;
    return sb_step_response_done(x);
}

/* The connection ends, but not before the client had a chance to read the answer. */
static enum sb_xstate linger(struct sb_exchange *x)
{
    return sb_down_linger(x) ? SB_X_DONE : SB_X_WAIT;
}

enum sb_xstate sb_step_drain(struct sb_exchange *x)
{
    struct iovec iov[64];
    enum sb_rc rc;
    int n;

    if (x->stream)
        return SB_X_DONE; /* the stream is reset, the connection goes on */
    if (!x->keep_alive || x->drained > SB_DRAIN_MAX)
        return linger(x);
    while (!x->body.complete) {
        rc = sb_body_read(x, iov, 64, &n);
        for (int i = 0; !rc && i < n; i++)
            x->drained += iov[i].iov_len;
        if (rc == SB_AGAIN && !x->timed_out)
            return sb_step_wait(x, x->w->o->body_timeout_ms);
        if (rc || x->drained > SB_DRAIN_MAX) {
            x->keep_alive = false;
            return linger(x);
        }
    }
    return SB_X_DONE;
}
