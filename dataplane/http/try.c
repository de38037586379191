/* try.c - PICK, BODY, CONNECT, REPLY: a request is sent to an upstream, and to the next one when
 * that fails before the client saw a byte of an answer.
 */
#include <string.h>

#include "dataplane/http/downstream.h"
#include "dataplane/http/steps.h"
#include "dataplane/upstream/h2_upstream.h"
#include "shared/log.h"

enum {
    RESP_HEADERS = 1000,
    RESP_HEAD_MAX = 64 * 1024,
    REPLY_READ = 128 * 1024, /* a body of 64 KiB comes with its head, in one call */
    REUSED_TRIES_MAX = 8,    /* dead kept connections that don't count as tries */
    INTERIMS_MAX = 32,       /* answers before the answer */
};

/* -- PICK, BODY -- */

static enum sb_xstate pick_failed(struct sb_exchange *x, enum sb_rc rc)
{
    if (x->try_us) { /* a later pick: as nginx answers */
        x->answer = (struct sb_answer){.status = rc == SB_UNAVAILABLE ? 500 : 503,
                                       .kind = SB_ANSWER_REFUSED};
        return SB_X_ANSWER;
    }
    if (rc == SB_NOTFOUND)
        return sb_step_error(x, 503, "failure to get a peer from the ring-balancer");
    if (rc == SB_INVALID)
        return sb_step_error(x, 503, "name resolution failed");
    x->answer = (struct sb_answer){
        .status = 500,
        .kind = SB_ANSWER_ERROR,
        .message = sb_arena_printf(sb_exchange_arena(x),
                                   "failed the initial dns/balancer resolve for '%.*s' with: dns "
                                   "server error",
                                   SB_ARG(x->service->host))};
    return SB_X_ANSWER;
}

enum sb_xstate sb_step_pick(struct sb_exchange *x)
{
    enum sb_rc rc = sb_upstream_pick(x);

    if (rc == SB_AGAIN)
        return sb_step_wait_for_hook(x);
    if (rc)
        return pick_failed(x, rc);
    (void)sb_now_ms(x->w);
    if (!x->try_us)
        x->first_try_us = x->w->now_us;
    x->try_us = x->first_byte_us = x->w->now_us;
    return x->body.complete && !x->body.stream && !x->up.replaces_body ? SB_X_CONNECT : SB_X_BODY;
}

enum sb_xstate sb_step_body_failed(struct sb_exchange *x, enum sb_rc rc)
{
    switch (rc) {
    case SB_INVALID:
        return sb_step_refuse(x, 400);
    case SB_TOOLARGE:
        return sb_step_refuse(x, 413);
    case SB_UNAVAILABLE:
        return sb_step_refuse(x, 500);
    case SB_TIMEOUT:
        return sb_step_refuse(x, 408);
    default:
        return sb_step_abandon(x);
    }
}

/* A body that came whole with the head is as good as stored. */
static bool wants_stream(struct sb_exchange *x)
{
    if (x->body.stream || x->body.received || x->body.complete || x->up.replaces_body)
        return x->body.stream;
    if (sb_grpc_service(x))
        return true;
    if (x->route->request_buffering && !x->websocket)
        return false;
    if (x->req.framing == SB_BODY_LENGTH)
        return x->rest.len < x->body.left;
    return !(x->rest.len >= 5 && sb_str_ends(x->rest, SB_STR("0\r\n\r\n")) &&
             x->rest.len < SB_X_IN_LEN);
}

enum sb_xstate sb_step_body(struct sb_exchange *x)
{
    enum sb_rc rc;

    x->body.stream = wants_stream(x);
    if (x->body.stream)
        return SB_X_CONNECT;
    rc = sb_body_store(x);
    if (rc == SB_OK && x->up.replaces_body)
        sb_body_replace(x);
    if (rc == SB_OK)
        return SB_X_CONNECT;
    if (rc != SB_AGAIN)
        return sb_step_body_failed(x, rc);
    if (sb_down_broken(x))
        return sb_step_abandon(x);
    return x->timed_out ? sb_step_refuse(x, 408) : sb_step_wait(x, x->w->o->body_timeout_ms);
}

/* -- CONNECT -- */

bool sb_try_reusable(const struct sb_exchange *x)
{
    bool kept = x->resp.version >= 11
                    ? !sb_http_has_token(&x->resp, SB_H_CONNECTION, SB_STR("close"))
                    : sb_http_has_token(&x->resp, SB_H_CONNECTION, SB_STR("keep-alive"));

    return kept && !x->resp.suspect && x->resp.framing != SB_BODY_EOF && !x->u->io.hup &&
           !sb_io_pending(&x->u->io) &&
           (x->body.stream ? x->body.last_sent : x->body.sent == x->body.received);
}

void sb_try_end(struct sb_exchange *x, bool reusable)
{
    if (x->u)
        sb_upstream_give(x->u, reusable);
    if (x->call)
        sb_call_end(x->call);
    x->u = NULL;
    x->call = NULL;
    sb_upstream_done(x);
}

static bool repeatable(const struct sb_exchange *x)
{
    if (!x->sent_any)
        return true;
    if (x->w->o->next & SB_NEXT_ANY_METHOD)
        return !x->body.stream || !x->body.received;
    if (sb_str_is(x->req.method, "POST") || sb_str_is(x->req.method, "PATCH") ||
        sb_str_is(x->req.method, "LOCK"))
        return false;
    return !x->body.stream || !x->body.received;
}

/* Whether a try that ended for that reason, one of SB_NEXT_*, may be followed by another; tries:
 * with the one that ended. */
static bool may_go_on(const struct sb_exchange *x, unsigned why, unsigned tries)
{
    const struct sb_proxy_options *o = x->w->o;

    return (o->next & why) && tries <= (unsigned)x->service->retries && repeatable(x) &&
           (!o->next_tries || tries < o->next_tries) &&
           (!o->next_timeout_ms || x->w->now_us - x->first_try_us < o->next_timeout_ms * 1000);
}

static enum sb_xstate try_ended(struct sb_exchange *x, int status, unsigned why)
{
    bool stale = x->u && x->u->reused && why == SB_NEXT_ERROR && !x->timed_out, again;

    x->upstream_status = status;
    if (stale && x->reused_tries < REUSED_TRIES_MAX)
        x->reused_tries++;
    else
        x->tries++;
    if (x->w->o->next_timeout_ms)
        (void)sb_now_ms(x->w);
    again = may_go_on(x, why, x->tries);
    if (!again || why > SB_NEXT_ANY_METHOD)
        sb_upstream_report_status(x, status);
    else if (!stale) /* a kept connection that was closed meanwhile tells nothing */
        sb_upstream_report(x, status == 504 ? SB_TRY_TIMEOUT : SB_TRY_BROKEN);
    sb_try_end(x, false);
    sb_http_head_reset(&x->resp); /* filters see the answer that we make */
    x->resp_len = 0;
    x->resp_rest = (struct sb_str){0};
    x->timed_out = false;
    if (again) {
        x->body.sent = 0;
        x->sent_any = false;
        return SB_X_PICK;
    }
    (void)sb_now_ms(x->w);
    x->first_byte_us = x->w->now_us;
    x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_REFUSED};
    return SB_X_ANSWER;
}

enum sb_xstate sb_try_failed(struct sb_exchange *x, int status)
{
    return try_ended(x, status, status == 504 ? SB_NEXT_TIMEOUT : SB_NEXT_ERROR);
}

enum sb_xstate sb_try_broke(struct sb_exchange *x, int status)
{
    return try_ended(x, status, SB_NEXT_INVALID);
}

/* Which of SB_NEXT_* an answer's status is; 0: none. */
static unsigned next_of_status(int status)
{
    static const struct {
        int status;
        unsigned next;
    } all[] = {{403, SB_NEXT_403}, {404, SB_NEXT_404}, {429, SB_NEXT_429}, {500, SB_NEXT_500},
               {502, SB_NEXT_502}, {503, SB_NEXT_503}, {504, SB_NEXT_504}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].status == status)
            return all[i].next;
    return 0;
}

/* proxy_next_upstream http_503: an answer that counts as a failure, as long as tries are left. */
static bool passed_over(const struct sb_exchange *x)
{
    return x->w->o->next > SB_NEXT_ANY_METHOD * 2 - 1 &&
           may_go_on(x, next_of_status(x->resp.status), x->tries + 1);
}

static enum sb_xstate send_request(struct sb_exchange *x)
{
    struct sb_gather g;

    sb_gather_init(&g, x->w);
    if (!sb_request_build(x, &g)) {
        sb_try_end(x, false);
        return sb_step_refuse(x, 414);
    }
    sb_body_gather(x, &g);
    x->u->requests++;
    if (sb_io_send(&x->u->io, g.iov, g.n)) {
        x->sent_any = x->u->io.ssl != NULL; /* a plain socket took nothing of it */
        return sb_try_failed(x, 502);
    }
    x->sent_any = true;
    return SB_X_REPLY;
}

enum sb_xstate sb_step_connect(struct sb_exchange *x)
{
    enum sb_rc rc;

    if (sb_grpc_service(x))
        return sb_grpc_connect(x);
    if (x->timed_out)
        return sb_down_gone(x) ? sb_step_abandon(x) : sb_try_failed(x, 504);
    if (!x->u) {
        x->u = sb_upstream_take(x);
        if (!x->u)
            return sb_try_failed(x, 502);
        if (!x->u->connecting)
            return send_request(x);
        (void)sb_step_wait(x, x->service->connect_timeout_ms);
    }
    rc = sb_upstream_connect(x->u);
    if (rc == SB_OK)
        return send_request(x);
    if (rc != SB_AGAIN)
        return sb_try_failed(x, 502);
    return sb_down_gone(x) ? sb_step_abandon(x) : sb_step_wait_on(x);
}

/* -- REPLY -- */

/* Whether the response's head is looked at later than when it is sent on. */
static bool keeps_head(const struct sb_exchange *x)
{
    return x->w->o->log_wants_response || sb_hooks_any(x, SB_PHASE_HEADER_FILTER) ||
           sb_hooks_any(x, SB_PHASE_BODY_FILTER);
}

struct reply_headers {
    struct sb_router_header headers[RESP_HEADERS];
    uint8_t ids[RESP_HEADERS];
};

static enum sb_http_result parse_reply(struct sb_exchange *x, const char *p, size_t len)
{
    static _Thread_local void *shared;

    if (!x->resp.headers) {
        bool own = keeps_head(x); /* hooks may suspend, and others parse meanwhile */
        struct reply_headers *r = own ? SB_NEW(sb_exchange_arena(x), struct reply_headers)
                                      : sb_thread_memory(&shared, sizeof *r);

        x->resp.headers = r->headers;
        x->resp.ids = r->ids;
        x->resp.headers_max = RESP_HEADERS;
        x->resp.line_max = x->resp.head_max = RESP_HEAD_MAX;
    }
    sb_http_head_reset(&x->resp); /* the arrays are shared: a head is parsed in one go */
    return sb_http_parse_response(&x->resp, p, len, x->head_method);
}

/* Keeps an incomplete head, or one that hooks will look at, in memory of the exchange's own. */
static bool keep_reply(struct sb_exchange *x, const char *p, size_t len)
{
    if (x->resp_len + len > x->resp_cap) {
        if (x->resp_len + len > RESP_HEAD_MAX + SB_BIG_LEN)
            return false;
        x->resp_cap = x->resp_len + len + SB_X_IN_LEN;
        x->resp_buf = sb_xrealloc(x->resp_buf, x->resp_cap);
    }
    memcpy(x->resp_buf + x->resp_len, p, len);
    x->resp_len += len;
    return true;
}

/* 100 is between the upstream and us; others, 103 Early Hints say, are the client's. */
static void pass_interim(struct sb_exchange *x)
{
    struct sb_gather g;

    if (x->resp.status == 100)
        return;
    sb_gather_init(&g, x->w);
    sb_response_interim(x, &g);
    if (!g.full)
        sb_down_interim(x, &g);
}

/* A switch of protocols must have been asked for, and the request be over: what comes behind it
 * from the client is no message any more. */
static bool may_switch(const struct sb_exchange *x)
{
    return x->websocket && x->body.complete && (!x->body.stream || x->body.last_sent);
}

/* Bytes arrived: a whole head? WAIT: not yet. */
static enum sb_xstate take_reply(struct sb_exchange *x, const char *p, size_t len)
{
    enum sb_http_result r;

    if (x->resp_len || keeps_head(x)) {
        if (!keep_reply(x, p, len))
            return sb_try_failed(x, 502);
        p = x->resp_buf;
        len = x->resp_len;
    }
    for (;;) {
        r = parse_reply(x, p, len);
        if (r != SB_HTTP_DONE || x->resp.status >= 200 || x->resp.status == 101)
            break;
        if (++x->interims > INTERIMS_MAX) {
            r = SB_HTTP_BAD;
            break;
        }
        pass_interim(x);
        p += x->resp.len;
        len -= x->resp.len;
        if (len == 0) {
            x->resp_len = 0;
            return SB_X_WAIT;
        }
    }
    if (r == SB_HTTP_MORE) {
        if (p != x->resp_buf && x->resp_len) {
            memmove(x->resp_buf, p, len);
            x->resp_len = len;
        } else if (x->resp_len == 0 && !keep_reply(x, p, len)) {
            return sb_try_failed(x, 502);
        }
        return SB_X_WAIT;
    }
    if (r != SB_HTTP_DONE || (x->resp.status == 101 && !may_switch(x)))
        return sb_try_broke(x, 502);
    if (passed_over(x))
        return try_ended(x, x->resp.status, next_of_status(x->resp.status));
    x->resp_rest = sb_str_n(p + x->resp.len, len - x->resp.len);
    (void)sb_now_ms(x->w);
    x->first_byte_us = x->w->now_us;
    x->upstream_status = x->resp.status;
    sb_upstream_report_status(x, x->resp.status);
    sb_response_begin(x);
    return !x->ended && x->status != 101 && sb_hooks_whole_response(x) ? SB_X_COLLECT : SB_X_FILTER;
}

/* More of the request's body, as far as it goes. SB_X_REPLY: all well. */
enum sb_xstate sb_try_pump(struct sb_exchange *x, enum sb_xstate state)
{
    enum sb_rc rc = sb_body_pump(x);

    if (rc == SB_OK || rc == SB_AGAIN)
        return state;
    if (rc == SB_UNAVAILABLE)
        return state == SB_X_REPLY && !x->u->io.readable ? sb_try_failed(x, 502) : state;
    sb_try_end(x, false);
    return x->head_sent ? sb_step_abandon(x) : sb_step_body_failed(x, rc);
}

/* Whether we wait for the client's bytes, for the upstream to take ours, or for its answer. */
static enum sb_xstate wait_for_reply(struct sb_exchange *x)
{
    bool sending = x->body.stream ? !x->body.last_sent : x->body.sent < x->body.received;

    if (sb_io_pending(&x->u->io))
        return sb_step_wait(x, x->service->write_timeout_ms);
    if (sending)
        return sb_down_broken(x) ? sb_step_abandon(x) : sb_step_wait(x, x->w->o->body_timeout_ms);
    return sb_step_wait(x, x->service->read_timeout_ms);
}

enum sb_xstate sb_step_reply(struct sb_exchange *x)
{
    struct sb_upconn *u = x->u;
    enum sb_xstate next;
    enum sb_rc rc;
    size_t n;

    if (x->call)
        return sb_grpc_reply(x);
    if (x->timed_out)
        return sb_down_gone(x) ? sb_step_abandon(x) : sb_try_failed(x, 504);
    if (sb_io_flush(&u->io) && !u->io.readable)
        return sb_try_failed(x, 502);
    next = sb_try_pump(x, SB_X_REPLY);
    if (next != SB_X_REPLY)
        return next;
    while (sb_io_can_read(&u->io)) {
        rc = sb_io_read(&u->io, x->w->big, REPLY_READ, &n);
        if (rc == SB_AGAIN)
            break;
        if (rc)
            return sb_try_failed(x, 502);
        next = take_reply(x, x->w->big, n);
        if (next != SB_X_WAIT)
            return next;
    }
    if (u->io.failed)
        return sb_try_failed(x, 502);
    if (sb_down_gone(x))
        return sb_step_abandon(x);
    return wait_for_reply(x);
}
