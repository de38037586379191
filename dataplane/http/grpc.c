/* grpc.c - CONNECT, REPLY and FORWARD where the upstream speaks HTTP/2: services with protocol grpc
 * or grpcs. Picking, retrying, hooks, answers and the client's side are those of HTTP.
 *
 * Nothing is buffered: both bodies pass as they come, each way held back by the other side's
 * windows. A response may begin, and end, before the request does.
 */
#include <unistd.h>

#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"
#include "dataplane/upstream/h2_upstream.h"

enum { PIECES_MAX = 64, REFUSED_MAX = 3, FILE_PIECE = 64 * 1024 };

static enum sb_xstate wait_for_upstream(struct sb_exchange *x)
{
    return sb_step_wait(x, sb_call_pending(x->call) ? x->service->write_timeout_ms
                                                    : x->service->read_timeout_ms);
}

/* -- the request -- */

/* A body that a plugin wanted to see first: memory, then file. */
static enum sb_rc next_stored(struct sb_exchange *x, struct iovec *iov, int *n)
{
    struct sb_request_body *b = &x->body;
    ssize_t k;

    *n = 1;
    if (b->sent < b->mem_len) {
        iov[0] = (struct iovec){b->mem + b->sent, b->mem_len - b->sent};
        return SB_OK;
    }
    k = pread(b->fd, x->w->big, FILE_PIECE, (off_t)(b->sent - b->mem_len));
    if (k <= 0)
        return SB_UNAVAILABLE;
    iov[0] = (struct iovec){x->w->big, (size_t)k};
    return SB_OK;
}

static enum sb_rc pump(struct sb_exchange *x)
{
    struct sb_request_body *b = &x->body;
    struct iovec iov[PIECES_MAX];
    enum sb_rc rc;
    int n;

    while (!b->last_sent) {
        if (sb_call_pending(x->call))
            return SB_AGAIN;
        rc = b->stream ? sb_body_read(x, iov, PIECES_MAX, &n) : next_stored(x, iov, &n);
        if (rc)
            return rc;
        for (int i = 0; i < n; i++)
            b->sent += iov[i].iov_len;
        b->last_sent = b->complete && b->sent == b->received;
        sb_call_send(x->call, iov, n, b->last_sent);
    }
    return SB_OK;
}

static enum sb_xstate send_request(struct sb_exchange *x)
{
    bool whole = x->body.complete && x->body.received == 0;
    struct sb_gather g;

    sb_gather_init(&g, x->w);
    if (!sb_request_build(x, &g)) {
        sb_try_end(x, false);
        return sb_step_refuse(x, 414);
    }
    if (sb_call_submit(x->call, &g, whole))
        return sb_try_failed(x, 502);
    x->sent_any = true;
    x->body.last_sent |= whole;
    return SB_X_REPLY;
}

enum sb_xstate sb_grpc_connect(struct sb_exchange *x)
{
    if (x->timed_out)
        return sb_down_gone(x) ? sb_step_abandon(x) : sb_try_failed(x, 504);
    if (!x->call) {
        x->call = sb_call_begin(x);
        if (!x->call)
            return sb_try_failed(x, 502);
        x->body.last_sent = false;
        (void)sb_step_wait(x, x->service->connect_timeout_ms);
    }
    if (sb_call_connected(x->call))
        return send_request(x);
    if (x->call->closed)
        return sb_try_failed(x, 502);
    return sb_down_gone(x) ? sb_step_abandon(x) : sb_step_wait_on(x);
}

/* -- the response's head -- */

/* The stream was closed before a response. One that the peer did not process goes elsewhere. */
static enum sb_xstate closed_early(struct sb_exchange *x)
{
    if (!x->call->refused || x->refusals++ >= REFUSED_MAX || !x->call->kept)
        return sb_try_failed(x, 502);
    if (sb_call_again(x->call))
        return SB_X_CONNECT;
    return sb_try_failed(x, 502);
}

static enum sb_xstate take_head(struct sb_exchange *x)
{
    (void)sb_now_ms(x->w);
    x->first_byte_us = x->w->now_us;
    x->upstream_status = x->resp.status;
    sb_upstream_report_status(x, x->resp.status);
    x->resp.framing =
        x->call->in_ended && !sb_h2_bytes_left(&x->call->in) ? SB_BODY_NONE : SB_BODY_EOF;
    sb_response_begin(x);
    return SB_X_FILTER;
}

static enum sb_xstate body_failed(struct sb_exchange *x, enum sb_rc rc)
{
    sb_try_end(x, false);
    return x->head_sent ? sb_step_abandon(x) : sb_step_body_failed(x, rc);
}

enum sb_xstate sb_grpc_reply(struct sb_exchange *x)
{
    enum sb_rc rc;

    if (x->timed_out)
        return sb_down_gone(x) ? sb_step_abandon(x) : sb_try_failed(x, 504);
    if (x->call->head_done)
        return take_head(x);
    if (x->call->closed)
        return closed_early(x);
    rc = pump(x);
    if (rc && rc != SB_AGAIN)
        return body_failed(x, rc);
    return sb_down_gone(x) ? sb_step_abandon(x) : wait_for_upstream(x);
}

/* -- the response's body -- */

/* Cut off: the client's stream ends as the upstream's did. */
static enum sb_xstate truncated(struct sb_exchange *x)
{
    sb_down_abort_as(x, x->call->error);
    sb_try_end(x, false);
    return sb_step_abandon(x);
}

/* The head, once; what came of the body; its end. */
static bool send_piece(struct sb_exchange *x, bool last)
{
    struct sb_gather g;

    do {
        sb_gather_init(&g, x->w);
        if (!x->head_sent) {
            sb_response_head(x, &g);
            x->head_sent = true;
        }
        if (!sb_response_body(x, &x->resp_rest, &g))
            return false;
        if (last && x->resp_rest.len == 0 && !x->ended)
            sb_response_eof(x, &g);
        if (g.full || sb_down_send(x, &g, x->ended))
            return false;
    } while (x->resp_rest.len && !x->ended);
    return true;
}

/* WAIT: no more for now. */
static enum sb_xstate forward(struct sb_exchange *x)
{
    struct sb_call *c = x->call;

    while (!x->ended && !sb_down_pending(x)) {
        if (!sb_call_read(c, &x->resp_rest)) {
            if (c->closed && !c->in_ended)
                return truncated(x);
            if (!c->in_ended && x->head_sent)
                return SB_X_WAIT;
        }
        if (!send_piece(x, c->in_ended && sb_h2_bytes_left(&c->in) == 0))
            return truncated(x);
    }
    return x->ended ? SB_X_FORWARD : SB_X_WAIT;
}

static enum sb_xstate pass_request(struct sb_exchange *x)
{
    enum sb_rc rc = x->call->closed ? SB_AGAIN : pump(x);

    return rc && rc != SB_AGAIN ? body_failed(x, rc) : SB_X_FORWARD;
}

enum sb_xstate sb_grpc_forward(struct sb_exchange *x)
{
    enum sb_xstate next;

    if (x->timed_out || sb_down_failed(x))
        return truncated(x);
    if (!x->ended) {
        next = pass_request(x);
        if (next == SB_X_FORWARD)
            next = forward(x);
        if (next == SB_X_WAIT)
            return sb_down_pending(x) ? sb_step_wait(x, x->w->o->send_timeout_ms)
                                      : wait_for_upstream(x);
        if (next != SB_X_FORWARD)
            return next;
    } else if (!x->head_sent && !send_piece(x, true)) {
        return truncated(x);
    }
    sb_try_end(x, true);
    return sb_down_pending(x) ? sb_step_wait(x, x->w->o->send_timeout_ms)
                              : sb_step_response_done(x);
}
