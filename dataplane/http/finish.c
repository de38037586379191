/* finish.c - ANSWER, DRAIN: a response of our own, and what the client still has to say. */
#include "dataplane/http/steps.h"

enum {
    LINGER_MS = 5000,
    DRAIN_MAX = 4 << 20, /* bytes of an unwanted body that we read to keep a connection */
};

/* -- ANSWER, DRAIN, DONE -- */

static bool send_answer(struct sb_exchange *x)
{
    struct sb_gather g;

    x->head_sent = true;
    if (!x->body.complete && !x->refused && !x->body.continued && !x->rest.len)
        sb_body_continue(x); /* what the client sends next must be the body */
    sb_gather_init(&g, x->w);
    return sb_answer_gather(x, &g) && !sb_io_send(&x->c->io, g.iov, g.n);
}

/* Our own answers pass the filters, too. One that breaks is logged, and the answer goes out. */
enum sb_xstate sb_step_answer(struct sb_exchange *x)
{
    if (!x->head_sent) {
        if (!x->hooks_begun)
            x->status = x->answer.status == 494 ? 400 : x->answer.status;
        if (sb_hooks_run(x, sb_exchange_hooks(x), SB_PHASE_HEADER_FILTER) == SB_AGAIN)
            return sb_step_wait_for_hook(x);
        if (!send_answer(x))
            return sb_step_abandon(x);
    }
    if (x->timed_out || x->c->io.failed)
        return sb_step_abandon(x);
    if (sb_io_pending(&x->c->io))
        return sb_step_wait(x, x->w->o->send_timeout_ms);
    if (x->refused)
        return SB_X_DRAIN;
    return sb_step_response_done(x);
}

/* The connection ends, but not before the client had a chance to read the answer. */
static enum sb_xstate linger(struct sb_exchange *x)
{
    struct sb_io *io = &x->c->io;
    size_t n;

    x->c->close = true;
    if (!io->closing) {
        sb_io_shutdown(io);
        (void)sb_step_wait(x, LINGER_MS);
    }
    while (sb_io_can_read(io)) {
        if (sb_io_read(io, x->w->big, SB_BIG_LEN, &n))
            break;
        x->drained += n;
    }
    if (io->eof || io->failed || x->timed_out || x->drained > DRAIN_MAX)
        return SB_X_DONE;
    x->c->close = false;
    return SB_X_WAIT;
}

enum sb_xstate sb_step_drain(struct sb_exchange *x)
{
    struct iovec iov[64];
    enum sb_rc rc;
    int n;

    if (!x->keep_alive || x->drained > DRAIN_MAX)
        return linger(x);
    while (!x->body.complete) {
        rc = sb_body_read(x, iov, 64, &n);
        for (int i = 0; !rc && i < n; i++)
            x->drained += iov[i].iov_len;
        if (rc == SB_AGAIN && !x->timed_out)
            return sb_step_wait(x, x->w->o->body_timeout_ms);
        if (rc || x->drained > DRAIN_MAX) {
            x->keep_alive = false;
            return linger(x);
        }
    }
    return SB_X_DONE;
}
