/* head.c - HEAD: the request's head comes in, is parsed in place and judged. */
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/downstream.h"
#include "dataplane/http/h2_session.h"
#include "dataplane/http/steps.h"
#include "dataplane/listen/tls.h"

/* More room for a head that does not fit; what was parsed moves along. */
static void grow_in(struct sb_exchange *x)
{
    size_t cap = x->req.head_max + x->req.line_max; /* more than the parser takes */
    char *bigger = sb_xmalloc(cap);

    memcpy(bigger, x->in, x->in_len);
    sb_http_rebase(&x->req, x->in, bigger);
    if (x->in != x->inline_in)
        free(x->in);
    x->in = bigger;
    x->in_cap = cap;
}

/* Room for more headers than nearly anyone sends: the parser starts anew with it. */
static bool grow_headers(struct sb_exchange *x)
{
    struct sb_arena *a = sb_exchange_arena(x);

    if (x->req.headers_max == SB_X_HEADERS_MAX)
        return false;
    x->req.headers_max = SB_X_HEADERS_MAX;
    x->req.headers = SB_NEW_N(a, struct sb_router_header, SB_X_HEADERS_MAX);
    x->req.ids = SB_NEW_N(a, uint8_t, SB_X_HEADERS_MAX);
    sb_http_head_reset(&x->req);
    return true;
}

static enum sb_http_result parse_head(struct sb_exchange *x)
{
    enum sb_http_result r = sb_http_parse_request(&x->req, x->in, x->in_len);

    if (r == SB_HTTP_HEADER_TOO_LARGE && x->req.nheaders == x->req.headers_max && grow_headers(x))
        r = sb_http_parse_request(&x->req, x->in, x->in_len);
    return r;
}

/* What a TLS listener has against this request; NULL: nothing. */
static const char *tls_refusal(const struct sb_exchange *x)
{
    if (!sb_down_tls(x))
        return "The plain HTTP request was sent to HTTPS port";
    return sb_tls_refusal(x->w->tls, x->c->io.ssl);
}

static enum sb_xstate head_done(struct sb_exchange *x)
{
    const char *why;

    sb_down_head_done(x);
    x->rest = sb_str_n(x->in + x->req.len, x->in_len - x->req.len);
    sb_request_prepare(x);
    sb_body_init(x);
    if (x->c->listener->listen->ssl && (why = tls_refusal(x))) {
        sb_step_refuse(x, 400);
        x->answer =
            (struct sb_answer){.status = 400, .kind = SB_ANSWER_PAGE, .message = sb_str_c(why)};
        return SB_X_ANSWER;
    }
    if (x->w->o->body_max && x->req.content_length > x->w->o->body_max)
        return sb_step_refuse(x, 413);
    return x->hold->snap->hooks ? SB_X_REWRITE : SB_X_ROUTE;
}

static enum sb_xstate head_refused(struct sb_exchange *x, int status)
{
    sb_request_prepare(x);
    sb_body_init(x);
    return sb_step_refuse(x, status);
}

/* A head that came in fields. */
static enum sb_xstate stream_head(struct sb_exchange *x)
{
    int r = sb_stream_head(x->stream);

    if (r == SB_HTTP_MORE)
        return SB_X_WAIT; /* the connection's timer runs */
    return r ? head_refused(x, r) : head_done(x);
}

/* The first line of HTTP/2's preface: a client that knows what we speak. */
static bool is_preface(const struct sb_exchange *x)
{
    struct sb_str line = SB_STR("PRI * HTTP/2.0\r\n");

    return x->w->o->http2 && x->c->requests == 0 && !x->c->listener->listen->ssl &&
           sb_str_starts(sb_str_n(x->in, x->in_len), line);
}

static enum sb_xstate switch_to_h2(struct sb_exchange *x)
{
    x->c->preface = true;
    x->empty = true;
    x->rest = sb_str_n(x->in, x->in_len);
    return SB_X_DONE;
}

enum sb_xstate sb_step_head(struct sb_exchange *x)
{
    struct sb_client *c = x->c;

    if (x->stream)
        return stream_head(x);
    for (;;) {
        enum sb_http_result r = x->in_len ? parse_head(x) : SB_HTTP_MORE;
        enum sb_rc rc;
        size_t n;

        if (r == SB_HTTP_DONE)
            return head_done(x);
        if (r != SB_HTTP_MORE && is_preface(x))
            return switch_to_h2(x);
        if (r != SB_HTTP_MORE) {
            sb_timer_off(&c->timer);
            return head_refused(x, (int)r);
        }
        if (x->in_len == x->in_cap)
            grow_in(x);
        rc = sb_down_read(x, x->in + x->in_len, x->in_cap - x->in_len, &n);
        if (rc == SB_AGAIN && x->in_len) {
            if (sb_down_broken(x))
                return sb_step_abandon(x);
            if (!x->timed_out)
                return SB_X_WAIT; /* the client's timer runs */
            return head_refused(x, 408);
        }
        x->empty = x->in_len == 0 && rc != SB_OK;
        if (rc == SB_AGAIN)
            return SB_X_DONE;
        if (rc)
            return sb_step_abandon(x);
        if (x->in_len == 0 && c->requests)
            sb_timer_set(&x->w->wheel, &c->timer, sb_now_ms(x->w) + x->w->o->header_timeout_ms);
        x->in_len += n;
    }
}
