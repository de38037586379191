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
#include "dataplane/http/exchange.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "dataplane/http/access_log.h"
#include "shared/log.h"

enum {
    KEEP_MAX = 1024, /* exchanges kept for reuse by a worker */
    RESP_HEADERS = 1000,
    RESP_HEAD_MAX = 64 * 1024,
    REUSED_TRIES_MAX = 8, /* dead kept connections that don't count as tries */
    LINGER_MS = 5000,
    DRAIN_MAX = 4 << 20, /* bytes of an unwanted body that we read to keep a connection */
};

/* -- time-outs -- */

static struct sb_exchange *exchange_of(struct sb_timer *t)
{
    return (struct sb_exchange *)((char *)t - offsetof(struct sb_exchange, timer));
}

static void on_timer(struct sb_timer *t)
{
    struct sb_exchange *x = exchange_of(t);

    x->timed_out = true;
    sb_client_run(x->c);
}

static enum sb_xstate wait_for(struct sb_exchange *x, int64_t ms)
{
    sb_timer_set(&x->w->wheel, &x->timer, sb_now_ms(x->w) + ms);
    return SB_X_WAIT;
}

/* -- answers -- */

static enum sb_xstate refuse(struct sb_exchange *x, int status)
{
    x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_REFUSED};
    if (status == 501 || status == 505)
        x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_PAGE};
    x->keep_alive = false;
    x->refused = true;
    return SB_X_ANSWER;
}

static enum sb_xstate answer_error(struct sb_exchange *x, int status, const char *message)
{
    x->answer =
        (struct sb_answer){.status = status, .kind = SB_ANSWER_ERROR, .message = sb_str_c(message)};
    return SB_X_ANSWER;
}

/* The client left, or can't be told anything any more. */
static enum sb_xstate abandon(struct sb_exchange *x)
{
    x->c->close = true;
    x->keep_alive = false;
    if (!x->head_sent && !x->empty)
        x->status = 499;
    return SB_X_DONE;
}

/* -- HEAD -- */

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

static enum sb_xstate head_done(struct sb_exchange *x)
{
    sb_timer_off(&x->c->timer);
    if (x->c->waiting) {
        x->c->waiting = false;
        sb_count(&x->w->stats.connections_waiting, (uint64_t)-1);
    }
    x->rest = sb_str_n(x->in + x->req.len, x->in_len - x->req.len);
    sb_request_prepare(x);
    sb_body_init(x);
    if (x->c->listener->listen->ssl && !x->c->io.ssl) {
        refuse(x, 400);
        x->answer =
            (struct sb_answer){.status = 400,
                               .kind = SB_ANSWER_PAGE,
                               .message = SB_STR("The plain HTTP request was sent to HTTPS port")};
        return SB_X_ANSWER;
    }
    if (x->w->o->body_max && x->req.content_length > x->w->o->body_max)
        return refuse(x, 413);
    return x->hold->snap->hooks ? SB_X_REWRITE : SB_X_ROUTE;
}

static enum sb_xstate step_head(struct sb_exchange *x)
{
    struct sb_client *c = x->c;

    for (;;) {
        enum sb_http_result r = x->in_len ? parse_head(x) : SB_HTTP_MORE;
        enum sb_rc rc;
        size_t n;

        if (r == SB_HTTP_DONE)
            return head_done(x);
        if (r != SB_HTTP_MORE) {
            sb_timer_off(&c->timer);
            sb_request_prepare(x);
            sb_body_init(x);
            return refuse(x, (int)r);
        }
        if (x->in_len == x->in_cap)
            grow_in(x);
        if (!sb_io_can_read(&c->io) && !c->io.failed && !c->io.eof)
            rc = SB_AGAIN;
        else
            rc = sb_io_read(&c->io, x->in + x->in_len, x->in_cap - x->in_len, &n);
        if (rc == SB_AGAIN && x->in_len) {
            if (!x->timed_out)
                return SB_X_WAIT; /* the client's timer runs */
            sb_request_prepare(x);
            sb_body_init(x);
            return refuse(x, 408);
        }
        x->empty = x->in_len == 0 && rc != SB_OK;
        if (rc == SB_AGAIN)
            return SB_X_DONE;
        if (rc)
            return abandon(x);
        if (x->in_len == 0 && c->requests)
            sb_timer_set(&x->w->wheel, &c->timer, sb_now_ms(x->w) + x->w->o->header_timeout_ms);
        x->in_len += n;
    }
}

/* -- hooks -- */

/* The route's, or what is for everything where no route was found. */
const struct sb_hooks *sb_exchange_hooks(const struct sb_exchange *x)
{
    return x->hooks ? x->hooks : x->hold->snap->hooks;
}

/* Runs a phase's hooks from where it stopped: SB_OK, SB_AGAIN, or SB_INVALID when one answered or
 * broke and x->answer says what the client gets. */
static enum sb_rc run_hooks(struct sb_exchange *x, const struct sb_hooks *hooks,
                            enum sb_phase phase)
{
    enum sb_rc rc = SB_OK;

    if (!hooks || !hooks->phase[phase])
        return SB_OK;
    if (x->suspended)
        return SB_AGAIN;
    if (!x->hooks_begun) {
        x->hooks_begun = true;
        x->hook = hooks->phase[phase];
    }
    while (x->hook->run) {
        const struct sb_hook *h = x->hook++;

        rc = h->run(x, h->config);
        if (rc == SB_AGAIN) {
            x->suspended = true;
            return SB_AGAIN;
        }
        if (rc) {
            sb_error("a plugin broke in phase %d, request_id: %.32s", (int)phase, x->id);
            x->answer = (struct sb_answer){.status = 500, .kind = SB_ANSWER_ERROR};
        }
        if (rc || (x->answer.status && phase != SB_PHASE_HEADER_FILTER))
            break;
    }
    x->hooks_begun = false;
    return rc || (x->answer.status && phase != SB_PHASE_HEADER_FILTER) ? SB_INVALID : SB_OK;
}

void sb_exchange_resume(struct sb_exchange *x)
{
    x->suspended = false;
    sb_client_run(x->c);
}

void sb_exchange_resume_again(struct sb_exchange *x)
{
    x->hook--;
    sb_exchange_resume(x);
}

/* A suspended exchange ends when its client leaves. */
static enum sb_xstate wait_for_hook(struct sb_exchange *x)
{
    sb_timer_off(&x->timer);
    return x->c->io.failed || (x->c->io.hup && x->body.complete) ? abandon(x) : SB_X_WAIT;
}

static enum sb_xstate step_rewrite(struct sb_exchange *x)
{
    switch (run_hooks(x, x->hold->snap->hooks, SB_PHASE_REWRITE)) {
    case SB_OK:
        return SB_X_ROUTE;
    case SB_AGAIN:
        return wait_for_hook(x);
    default:
        return SB_X_ANSWER;
    }
}

/* -- ROUTE -- */

static void normalise(struct sb_exchange *x)
{
    struct sb_str raw = x->req.path;
    char *out = x->path_room;
    size_t len;

    x->path = raw;
    if (raw.len + 1 > sizeof x->path_room)
        out = sb_arena_alloc(sb_exchange_arena(x), raw.len + 1);
    if (sb_path_normalise(raw, out, &len))
        x->path = sb_str_n(out, len);
}

static bool match(struct sb_exchange *x)
{
    const struct sb_router *router = x->hold->snap->router;
    const struct sb_router_request q = {
        .method = x->req.method,
        .scheme = x->https ? SB_PROTO_HTTPS : SB_PROTO_HTTP,
        .host = x->req.host.p ? x->req.host : SB_STR(""),
        .path = x->path,
        .query = x->req.has_query ? x->req.query : SB_STR(""),
        .sni = x->c->sni.p ? x->c->sni : SB_STR(""),
        .headers = x->req.headers,
        .nheaders = x->req.nheaders,
        .source_ip = x->client_ip,
        .source_port = x->c->port,
        .destination_ip = sb_str_c(x->c->local_ip),
        .destination_port = x->c->listener->listen->forwarded_port,
    };

    if (!router || !sb_router_match(router, &q, &x->match))
        return false;
    x->route = x->match.route;
    x->service = x->route->service;
    if (x->service)
        x->upstream = sb_service_upstream(x->hold->snap, x->service);
    x->hooks = x->route->hooks;
    return true;
}

static enum sb_xstate redirect(struct sb_exchange *x)
{
    int status = x->route->https_redirect_status_code;
    struct sb_str host = sb_request_forwarded_host(x), target = x->req.target;

    if (status == 0 || status == 426) {
        answer_error(x, 426, "Please use HTTPS protocol");
        sb_exchange_add_change(x, &x->answer.headers, SB_STR("Connection"), SB_STR("Upgrade"));
        sb_exchange_add_change(x, &x->answer.headers, SB_STR("Upgrade"),
                               SB_STR("TLS/1.2, HTTP/1.1"));
        return SB_X_ANSWER;
    }
    if (x->req.authority.p) /* absolute form: what is behind the authority */
        target =
            sb_str_from(target, (size_t)(x->req.authority.p + x->req.authority.len - target.p));
    x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_PAGE};
    sb_exchange_add_change(x, &x->answer.headers, SB_STR("Location"),
                           sb_arena_printf(sb_exchange_arena(x), "https://%.*s%s%.*s", SB_ARG(host),
                                           target.len && target.p[0] == '/' ? "" : "/",
                                           SB_ARG(target)));
    return SB_X_ANSWER;
}

/* proxy-router.md 8. SB_X_ACCESS: nothing against it. */
static enum sb_xstate protocol_rules(struct sb_exchange *x)
{
    unsigned protocols = x->route->protocols;
    bool grpc;

    if ((protocols & SB_PROTO_HTTPS) && !(protocols & SB_PROTO_HTTP) &&
        !sb_str_is(sb_request_forwarded_proto(x), "https"))
        return redirect(x);
    if (!(protocols & (SB_PROTO_GRPC | SB_PROTO_GRPCS)) ||
        (protocols & (SB_PROTO_HTTP | SB_PROTO_HTTPS)))
        return SB_X_ACCESS;
    grpc = sb_str_starts(sb_http_get(&x->req, SB_H_CONTENT_TYPE), SB_STR("application/grpc"));
    if (!grpc)
        return answer_error(x, 415, "Non-gRPC request matched gRPC route");
    answer_error(x, 426, "Please use HTTP2 protocol");
    sb_exchange_add_change(x, &x->answer.headers, SB_STR("Connection"), SB_STR("Upgrade"));
    sb_exchange_add_change(x, &x->answer.headers, SB_STR("Upgrade"), SB_STR("HTTP/2"));
    return SB_X_ANSWER;
}

static enum sb_xstate step_route(struct sb_exchange *x)
{
    normalise(x);
    if (!match(x)) {
        x->hooks = x->hold->snap->hooks;
        return answer_error(x, 404, "no Route matched with those values");
    }
    return protocol_rules(x);
}

/* -- ACCESS, PICK, BODY -- */

static enum sb_xstate step_access(struct sb_exchange *x)
{
    switch (run_hooks(x, x->hooks, SB_PHASE_ACCESS)) {
    case SB_OK:
        break;
    case SB_AGAIN:
        return wait_for_hook(x);
    default:
        return SB_X_ANSWER;
    }
    if (!x->service)
        return answer_error(x, 503, "no Service found with those values");
    return SB_X_PICK;
}

static enum sb_xstate pick_failed(struct sb_exchange *x, enum sb_rc rc)
{
    if (x->try_us) { /* a later pick: as nginx answers */
        x->answer = (struct sb_answer){.status = rc == SB_UNAVAILABLE ? 500 : 503,
                                       .kind = SB_ANSWER_REFUSED};
        return SB_X_ANSWER;
    }
    if (rc == SB_NOTFOUND)
        return answer_error(x, 503, "failure to get a peer from the ring-balancer");
    if (rc == SB_INVALID)
        return answer_error(x, 503, "name resolution failed");
    x->answer = (struct sb_answer){
        .status = 500,
        .kind = SB_ANSWER_ERROR,
        .message = sb_arena_printf(sb_exchange_arena(x),
                                   "failed the initial dns/balancer resolve for '%.*s' with: dns "
                                   "server error",
                                   SB_ARG(x->service->host))};
    return SB_X_ANSWER;
}

static enum sb_xstate step_pick(struct sb_exchange *x)
{
    enum sb_rc rc = sb_upstream_pick(x);

    if (rc == SB_AGAIN)
        return wait_for_hook(x);
    if (rc)
        return pick_failed(x, rc);
    (void)sb_now_ms(x->w);
    x->try_us = x->first_byte_us = x->w->now_us;
    return x->body.complete && !x->body.stream ? SB_X_CONNECT : SB_X_BODY;
}

static enum sb_xstate body_failed(struct sb_exchange *x, enum sb_rc rc)
{
    switch (rc) {
    case SB_INVALID:
        return refuse(x, 400);
    case SB_TOOLARGE:
        return refuse(x, 413);
    case SB_UNAVAILABLE:
        return refuse(x, 500);
    default:
        return abandon(x);
    }
}

/* A body that came whole with the head is as good as stored. */
static bool wants_stream(struct sb_exchange *x)
{
    if (x->body.stream || x->body.received || x->body.complete)
        return x->body.stream;
    if (x->route->request_buffering && !x->websocket)
        return false;
    if (x->req.framing == SB_BODY_LENGTH)
        return x->rest.len < x->body.left;
    return !(x->rest.len >= 5 && sb_str_ends(x->rest, SB_STR("0\r\n\r\n")) &&
             x->rest.len < SB_X_IN_LEN);
}

static enum sb_xstate step_body(struct sb_exchange *x)
{
    enum sb_rc rc;

    x->body.stream = wants_stream(x);
    if (x->body.stream)
        return SB_X_CONNECT;
    rc = sb_body_store(x);
    if (rc == SB_OK)
        return SB_X_CONNECT;
    if (rc != SB_AGAIN)
        return body_failed(x, rc);
    return x->timed_out ? refuse(x, 408) : wait_for(x, x->w->o->body_timeout_ms);
}

/* -- CONNECT -- */

static void drop_upstream(struct sb_exchange *x, bool reusable)
{
    if (x->u)
        sb_upstream_give(x->u, reusable);
    x->u = NULL;
    sb_upstream_done(x);
}

static bool repeatable(const struct sb_exchange *x)
{
    if (!x->sent_any)
        return true;
    if (sb_str_is(x->req.method, "POST") || sb_str_is(x->req.method, "PATCH") ||
        sb_str_is(x->req.method, "LOCK"))
        return false;
    return !x->body.stream || !x->body.received;
}

/* The try failed before a byte of its response went to the client. */
static enum sb_xstate upstream_failed(struct sb_exchange *x, int status)
{
    bool stale = x->u && x->u->reused && status == 502 && !x->timed_out;

    x->upstream_status = status;
    drop_upstream(x, false);
    x->resp_len = 0;
    x->resp_rest = (struct sb_str){0};
    x->timed_out = false;
    if (stale && x->reused_tries < REUSED_TRIES_MAX)
        x->reused_tries++;
    else
        x->tries++;
    if (repeatable(x) && x->tries <= (unsigned)x->service->retries) {
        x->body.sent = 0;
        x->sent_any = false;
        return SB_X_PICK;
    }
    (void)sb_now_ms(x->w);
    x->first_byte_us = x->w->now_us;
    x->answer = (struct sb_answer){.status = status, .kind = SB_ANSWER_REFUSED};
    return SB_X_ANSWER;
}

static enum sb_xstate send_request(struct sb_exchange *x)
{
    struct sb_gather g;

    sb_gather_init(&g, x->w);
    if (!sb_request_build(x, &g)) {
        drop_upstream(x, false);
        return refuse(x, 414);
    }
    sb_body_gather(x, &g);
    x->u->requests++;
    if (sb_io_send(&x->u->io, g.iov, g.n)) {
        x->sent_any = x->u->io.ssl != NULL; /* a plain socket took nothing of it */
        return upstream_failed(x, 502);
    }
    x->sent_any = true;
    return SB_X_REPLY;
}

static enum sb_xstate step_connect(struct sb_exchange *x)
{
    enum sb_rc rc;

    if (x->timed_out)
        return upstream_failed(x, 504);
    if (!x->u) {
        x->u = sb_upstream_take(x);
        if (!x->u)
            return upstream_failed(x, 502);
        if (!x->u->connecting)
            return send_request(x);
        (void)wait_for(x, x->service->connect_timeout_ms);
    }
    rc = sb_upstream_connect(x->u);
    if (rc == SB_OK)
        return send_request(x);
    if (rc != SB_AGAIN)
        return upstream_failed(x, 502);
    if (x->c->io.failed || (x->c->io.hup && x->body.complete))
        return abandon(x);
    return SB_X_WAIT;
}

/* -- REPLY -- */

static bool has_response_hooks(const struct sb_exchange *x)
{
    return x->hooks &&
           (x->hooks->phase[SB_PHASE_HEADER_FILTER] || x->hooks->phase[SB_PHASE_BODY_FILTER]);
}

static enum sb_http_result parse_reply(struct sb_exchange *x, const char *p, size_t len)
{
    static _Thread_local struct sb_router_header headers[RESP_HEADERS];
    static _Thread_local uint8_t ids[RESP_HEADERS];

    if (!x->resp.headers) {
        bool own = has_response_hooks(x); /* they may suspend, and others parse meanwhile */

        x->resp.headers =
            own ? SB_NEW_N(sb_exchange_arena(x), struct sb_router_header, RESP_HEADERS) : headers;
        x->resp.ids = own ? SB_NEW_N(sb_exchange_arena(x), uint8_t, RESP_HEADERS) : ids;
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

/* Bytes arrived: a whole head? WAIT: not yet. */
static enum sb_xstate take_reply(struct sb_exchange *x, const char *p, size_t len)
{
    enum sb_http_result r;

    if (x->resp_len || has_response_hooks(x)) {
        if (!keep_reply(x, p, len))
            return upstream_failed(x, 502);
        p = x->resp_buf;
        len = x->resp_len;
    }
    for (;;) {
        r = parse_reply(x, p, len);
        if (r != SB_HTTP_DONE || x->resp.status >= 200 || x->resp.status == 101)
            break;
        p += x->resp.len; /* 100 and its like are between the upstream and us */
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
            return upstream_failed(x, 502);
        }
        return SB_X_WAIT;
    }
    if (r != SB_HTTP_DONE || (x->resp.status == 101 && !x->websocket)) {
        x->tries = (unsigned)x->service->retries; /* not tried again: it did answer */
        x->reused_tries = REUSED_TRIES_MAX;
        return upstream_failed(x, 502);
    }
    x->resp_rest = sb_str_n(p + x->resp.len, len - x->resp.len);
    (void)sb_now_ms(x->w);
    x->first_byte_us = x->w->now_us;
    x->upstream_status = x->resp.status;
    sb_response_begin(x);
    return SB_X_FILTER;
}

static bool client_gone(const struct sb_exchange *x)
{
    return x->c->io.failed || (x->c->io.hup && x->body.complete);
}

/* More of the request's body, as far as it goes. SB_X_REPLY: all well. */
static enum sb_xstate pump_body(struct sb_exchange *x, enum sb_xstate state)
{
    enum sb_rc rc = sb_body_pump(x);

    if (rc == SB_OK || rc == SB_AGAIN)
        return state;
    if (rc == SB_UNAVAILABLE)
        return state == SB_X_REPLY && !x->u->io.readable ? upstream_failed(x, 502) : state;
    drop_upstream(x, false);
    return x->head_sent ? abandon(x) : body_failed(x, rc);
}

/* Whether we wait for the client's bytes, for the upstream to take ours, or for its answer. */
static enum sb_xstate wait_for_reply(struct sb_exchange *x)
{
    bool sending = x->body.stream ? !x->body.last_sent : x->body.sent < x->body.received;

    if (sb_io_pending(&x->u->io))
        return wait_for(x, x->service->write_timeout_ms);
    if (sending)
        return wait_for(x, x->w->o->body_timeout_ms);
    return wait_for(x, x->service->read_timeout_ms);
}

static enum sb_xstate step_reply(struct sb_exchange *x)
{
    struct sb_upconn *u = x->u;
    enum sb_xstate next;
    enum sb_rc rc;
    size_t n;

    if (x->timed_out)
        return upstream_failed(x, 504);
    if (sb_io_flush(&u->io) && !u->io.readable)
        return upstream_failed(x, 502);
    next = pump_body(x, SB_X_REPLY);
    if (next != SB_X_REPLY)
        return next;
    while (sb_io_can_read(&u->io)) {
        rc = sb_io_read(&u->io, x->w->big, SB_BIG_LEN / 4, &n);
        if (rc == SB_AGAIN)
            break;
        if (rc)
            return upstream_failed(x, 502);
        next = take_reply(x, x->w->big, n);
        if (next != SB_X_WAIT)
            return next;
    }
    if (u->io.failed)
        return upstream_failed(x, 502);
    if (client_gone(x))
        return abandon(x);
    return wait_for_reply(x);
}

/* -- FILTER, FORWARD -- */

static enum sb_xstate step_filter(struct sb_exchange *x)
{
    switch (run_hooks(x, x->hooks, SB_PHASE_HEADER_FILTER)) {
    case SB_OK:
        return SB_X_FORWARD;
    case SB_AGAIN:
        return wait_for_hook(x);
    default:
        drop_upstream(x, false);
        return SB_X_ANSWER;
    }
}

static bool upstream_reusable(const struct sb_exchange *x)
{
    struct sb_str connection = sb_http_get(&x->resp, SB_H_CONNECTION);
    bool kept = x->resp.version >= 11 ? !sb_http_list_has(connection, SB_STR("close"))
                                      : sb_http_list_has(connection, SB_STR("keep-alive"));

    return kept && x->resp.framing != SB_BODY_EOF && !x->u->io.hup && !sb_io_pending(&x->u->io) &&
           (x->body.stream ? x->body.last_sent : x->body.sent == x->body.received);
}

/* Sends the head, once, and what of the body is in resp_rest. False: something broke. */
static bool send_response(struct sb_exchange *x)
{
    struct sb_gather g;

    do {
        sb_gather_init(&g, x->w);
        if (!x->head_sent) {
            x->resp_reusable = upstream_reusable(x);
            sb_response_head(x, &g);
            x->head_sent = true;
        }
        if (!sb_response_body(x, &x->resp_rest, &g) || g.full)
            return false;
        if (g.n && sb_io_send(&x->c->io, g.iov, g.n))
            return false;
    } while (x->resp_rest.len && !x->ended);
    return true;
}

/* The response is with the client (or in its socket's memory). */
static enum sb_xstate response_done(struct sb_exchange *x)
{
    if (!x->body.complete)
        return SB_X_DRAIN;
    if (!x->keep_alive)
        x->c->close = true;
    return SB_X_DONE;
}

/* Cut off in the middle: the client must see that, so its connection ends, too. */
static enum sb_xstate truncated(struct sb_exchange *x)
{
    drop_upstream(x, false);
    return abandon(x);
}

static enum sb_xstate upstream_ended(struct sb_exchange *x)
{
    struct sb_gather g;

    sb_gather_init(&g, x->w);
    sb_response_eof(x, &g);
    if (!x->ended || (g.n && sb_io_send(&x->c->io, g.iov, g.n)))
        return truncated(x);
    return SB_X_FORWARD;
}

/* Reads and passes on while the client takes it. WAIT: no more for now. */
static enum sb_xstate forward(struct sb_exchange *x)
{
    struct sb_upconn *u = x->u;
    size_t n;

    while (!x->ended && !sb_io_pending(&x->c->io)) {
        enum sb_rc rc = SB_AGAIN;

        if (sb_io_can_read(&u->io) || u->io.eof || u->io.failed)
            rc = sb_io_read(&u->io, x->w->big, x->read_len, &n);
        if (rc == SB_AGAIN)
            return SB_X_WAIT;
        if (rc == SB_NOTFOUND)
            return upstream_ended(x);
        if (rc)
            return truncated(x);
        x->resp_rest = sb_str_n(x->w->big, n);
        if (!send_response(x))
            return truncated(x);
        if (n == x->read_len && x->read_len < SB_BIG_LEN)
            x->read_len *= 2; /* it comes fast and the client takes it */
    }
    return x->ended ? SB_X_FORWARD : SB_X_WAIT;
}

static enum sb_xstate step_forward(struct sb_exchange *x)
{
    struct sb_client *c = x->c;
    enum sb_xstate next;

    if (x->timed_out || c->io.failed)
        return truncated(x);
    if (!x->head_sent) {
        x->read_len = SB_BIG_LEN / 4;
        if (!send_response(x))
            return truncated(x);
        if (x->status == 101)
            return SB_X_TUNNEL;
        if (c->io.hup && x->body.complete && !x->ended)
            return truncated(x);
    }
    if (!x->ended) {
        if (!x->body.complete || sb_io_pending(&x->u->io)) {
            if (sb_io_flush(&x->u->io)) /* it has answered: what it did not read is its affair */
                x->resp_reusable = false;
            next = pump_body(x, SB_X_FORWARD);
            if (next != SB_X_FORWARD)
                return next;
        }
        next = forward(x);
        if (next == SB_X_WAIT)
            return sb_io_pending(&c->io) ? wait_for(x, x->w->o->send_timeout_ms)
                                         : wait_for(x, x->service->read_timeout_ms);
        if (next != SB_X_FORWARD)
            return next;
    }
    if (x->u)
        drop_upstream(x, x->resp_reusable && x->resp_rest.len == 0);
    return sb_io_pending(&c->io) ? wait_for(x, x->w->o->send_timeout_ms) : response_done(x);
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

static enum sb_xstate step_tunnel(struct sb_exchange *x)
{
    struct sb_io *client = &x->c->io, *upstream = &x->u->io;

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
        drop_upstream(x, false);
        x->c->close = true;
        return SB_X_DONE;
    }
    return wait_for(x, x->service->read_timeout_ms);
}

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
static enum sb_xstate step_answer(struct sb_exchange *x)
{
    if (!x->head_sent) {
        if (!x->hooks_begun)
            x->status = x->answer.status == 494 ? 400 : x->answer.status;
        if (run_hooks(x, sb_exchange_hooks(x), SB_PHASE_HEADER_FILTER) == SB_AGAIN)
            return wait_for_hook(x);
        if (!send_answer(x))
            return abandon(x);
    }
    if (x->timed_out || x->c->io.failed)
        return abandon(x);
    if (sb_io_pending(&x->c->io))
        return wait_for(x, x->w->o->send_timeout_ms);
    if (x->refused)
        return SB_X_DRAIN;
    return response_done(x);
}

/* The connection ends, but not before the client had a chance to read the answer. */
static enum sb_xstate linger(struct sb_exchange *x)
{
    struct sb_io *io = &x->c->io;
    size_t n;

    x->c->close = true;
    if (!io->closing) {
        sb_io_shutdown(io);
        (void)wait_for(x, LINGER_MS);
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

static enum sb_xstate step_drain(struct sb_exchange *x)
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
            return wait_for(x, x->w->o->body_timeout_ms);
        if (rc || x->drained > DRAIN_MAX) {
            x->keep_alive = false;
            return linger(x);
        }
    }
    return SB_X_DONE;
}

/* -- the machine -- */

static const struct {
    const char *name;
    enum sb_xstate (*step)(struct sb_exchange *x);
} states[SB_X_STATES] = {
    [SB_X_HEAD] = {"head", step_head},          [SB_X_REWRITE] = {"rewrite", step_rewrite},
    [SB_X_ROUTE] = {"route", step_route},       [SB_X_ACCESS] = {"access", step_access},
    [SB_X_PICK] = {"pick", step_pick},          [SB_X_BODY] = {"body", step_body},
    [SB_X_CONNECT] = {"connect", step_connect}, [SB_X_REPLY] = {"reply", step_reply},
    [SB_X_FILTER] = {"filter", step_filter},    [SB_X_FORWARD] = {"forward", step_forward},
    [SB_X_TUNNEL] = {"tunnel", step_tunnel},    [SB_X_ANSWER] = {"answer", step_answer},
    [SB_X_DRAIN] = {"drain", step_drain},       [SB_X_DONE] = {"done", NULL},
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

    for (; h && h->run; h++)
        if (h->run(x, h->config))
            sb_error("a plugin broke in phase log, request_id: %.32s", x->id);
}

size_t sb_exchange_end(struct sb_exchange *x, char *received)
{
    struct sb_worker *w = x->w;
    size_t n = 0;

    if (x->u)
        drop_upstream(x, false);
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
    if (x->in != x->inline_in)
        free(x->in);
    sb_arena_free(x->arena);
    sb_worker_unhold(w, x->hold);
    sb_timer_off(&x->timer);
    if (w->exchanges.count >= KEEP_MAX)
        sb_timer_remove(&x->timer, &w->wheel);
    sb_pool_give(&w->exchanges, x, KEEP_MAX);
    return n;
}

void sb_exchanges_release(struct sb_worker *w)
{
    sb_pool_release(&w->exchanges);
}
